"""Tabulate the claims of papers: the printed difference, ours and the verdict."""

import re
from collections.abc import Mapping
from typing import Any

import escape
import pandas as pd

from benchmarks.datasets import get_dataset
from benchmarks.labels import measured_with, verdict_words
from benchmarks.leaderboard import PROFILES
from benchmarks.papers import Paper
from benchmarks.verdicts import MIN_SEEDS
from tables.common import LIVE, Link, Links, cite, sentence


def claims_table(
    claims: pd.DataFrame,
    papers: Mapping[str, Paper],
    board: pd.DataFrame,
    titles: Mapping[str, str],
    links: Links = LIVE,
) -> pd.DataFrame:
    """Return a table of the sources' claims with the printed difference, ours, the verdict and its reason."""
    rows = []
    for row in claims.itertuples(index=False):
        place = f"{cite(papers[row.paper])}, {row.where}" if row.paper in papers else row.where
        rows.append(
            {
                "Claim": escape.short(row.text),
                "Verdict": verdict_words(row.verdict) + measured_with(row),
                "Why": claim_reason(row, board, titles),
                "Paper's difference": escape.percent(row.reported_difference, signed=True),
                "Ours, 90 % interval": measured(row),
                "Seeds": escape.NONE if row.verdict == "not run" else f"{row.n_better} and {row.n_worse}",
                "Data set": get_dataset(row.dataset).title,
                "Better": Link(
                    escape.short(titles.get(row.better, row.better), 60), links.model(row.better, row.dataset)
                ),
                "Worse": Link(escape.short(titles.get(row.worse, row.worse), 60), links.model(row.worse, row.dataset)),
                "Place": place,
            }
        )
    columns = ["Claim", "Verdict", "Why", "Paper's difference", "Ours, 90 % interval", "Seeds", "Data set", "Better"]
    return pd.DataFrame(rows, columns=[*columns, "Worse", "Place"])


def measured(claim: Any) -> str:
    """Return our difference as `+2.92 [+2.75, +3.09]`, with the share of the error if the source claims one."""
    if escape.missing(claim.difference):
        return escape.NONE
    text = f"{claim.difference:+.2f}"
    text += "" if escape.missing(claim.low) else f" [{claim.low:+.2f}, {claim.high:+.2f}]"
    if not (escape.missing(claim.share) or escape.missing(claim.reduction)):
        text += f"; {claim.reduction:.1f} % lower [{claim.reduction_low:.1f}, {claim.reduction_high:.1f}]"
    return text if escape.missing(claim.margin) else f"{text}; equal within ±{claim.margin:.2f}"


def claim_reason(claim: Any, board: pd.DataFrame, titles: Mapping[str, str]) -> str:
    """Return the reason of a claim's verdict.

    If the claim has not been tested, return the runs of each side. Only runs with the same data and profile are compared.
    """
    if claim.verdict != "not run":
        reason = str(claim.reason)
        for name in (claim.better, claim.worse):
            reason = re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", str(titles.get(name, name)).replace("\\", ""), reason)
        return sentence(escape.short(reason))
    measured_rows = board[(board["dataset"] == claim.dataset) & (board["runs"] > 0)]
    sides = [(name, measured_rows[measured_rows["model"] == name]) for name in (claim.better, claim.worse)]
    if not any(len(rows) for _, rows in sides):
        return "Neither model has run."

    def have(name: str, rows: pd.DataFrame) -> str:
        title = escape.short(titles.get(name, name), 60)
        if not len(rows):
            return f"{title} has not run"
        run_counts = [
            f"{row.runs} on {row.data} data" + (f" with profile {row.profile}" if row.profile != PROFILES[0] else "")
            for row in rows.itertuples(index=False)
        ]
        return f"{title} has runs: {', '.join(run_counts)}"

    both = all(len(rows) for _, rows in sides)
    end = ". Runs with different data or profiles are never compared." if both else "."
    return "; ".join(have(name, rows) for name, rows in sides) + end


def none_decided(count: int) -> str:
    """Return why none of the claims that the page shows is decided."""
    subject = (
        "This claim is not decided, because it"
        if count == 1
        else f"None of these {count:,} claims is decided, because each"
    )
    papers = "paper's own difference" if count == 1 else "papers' own differences"
    return f"{subject} needs {MIN_SEEDS} finished seeds of both models. The table shows the {papers}."
