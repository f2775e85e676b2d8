"""Tables that go with the board: papers' claims, `fast` compared with `reference`, and others' attempts at the same figures."""

from collections.abc import Collection, Iterable, Mapping
from typing import Any

import pandas as pd

from benchmarks.claims import Assertion, claim_verdict, equivalence
from benchmarks.columns import ATTEMPT_COLUMNS, CLAIM_COLUMNS, DATA, EQUIVALENCE_COLUMNS, PROFILES, ROW_KEY
from benchmarks.datasets import get_dataset
from benchmarks.intervals import Difference, Sample, tolerance
from benchmarks.papers import Attempt, Claim, Paper, ReportedError

RowKey = tuple[str, str, str, str]  # the values of ROW_KEY


def make_claims(board: pd.DataFrame, papers: Mapping[str, Paper]) -> pd.DataFrame:
    """Return a frame with CLAIM_COLUMNS, one row for each claim whose two models are both on the board.

    Both models are compared under the same profile and data status: the pair in which the model with fewer seeds has the
    most. Ties go to `reference`, then to verified data.
    """
    present = set(zip(board["dataset"], board["model"], strict=True))
    measured = board[board["profile"].notna()]
    sides = {
        (row.dataset, row.model, row.profile, row.data): Sample(row.errors, row.seeds, row.runs, row.runs)
        for row in measured.itertuples(index=False)
    }
    added = measured[measured["sequential"].astype(bool)]
    sequential = set(zip(*(added[name] for name in ROW_KEY), strict=True))
    claims = [
        (paper, claim)
        for paper in papers.values()
        for claim in paper.claims
        if {(claim.dataset, claim.better), (claim.dataset, claim.worse)} <= present
    ]
    frame = pd.DataFrame([_claim(paper, claim, sides, sequential) for paper, claim in claims], columns=CLAIM_COLUMNS)
    for column in ("share", "margin"):
        frame[column] = frame[column].astype(float)
    return frame


def _claim(
    paper: Paper, claim: Claim, sides: Mapping[RowKey, Sample], sequential: Collection[RowKey]
) -> dict[str, Any]:
    """Return the row of one claim, under the profile and data status with the most seeds of both models.

    `sequential` are the keys of rows to which seeds were added after looking at results.
    """

    def both(profile: str, data: str) -> tuple[Sample, Sample]:
        better, worse = (
            sides.get((claim.dataset, name, profile, data), Sample()) for name in (claim.better, claim.worse)
        )
        return better, worse

    def seeds_of_both(place: tuple[str, str]) -> tuple[int, int, int]:
        pair = both(*place)
        ended = [side.seeds for side in pair]
        return min(side.n for side in pair), min(ended), sum(ended)

    profile, data = max(((profile, data) for profile in PROFILES for data in DATA), key=seeds_of_both)
    better, worse = both(profile, data)
    figures = [paper.figure(claim.dataset, model) for model in (claim.better, claim.worse)]
    reported = round(figures[1].error - figures[0].error, 9) if figures[0] and figures[1] else None
    margin = _margin(figures[1], claim.dataset) if claim.kind == "equal" and figures[1] else None
    assertion = Assertion(claim.share or 0.0, margin, reported)
    added = any((claim.dataset, name, profile, data) in sequential for name in (claim.better, claim.worse))
    outcome = claim_verdict(better, worse, (claim.better, claim.worse), assertion, added)
    has_run = outcome.word != "not run"
    return {
        "paper": paper.key,
        **claim.model_dump(include={"id", "dataset", "text", "where", "kind", "share", "better", "worse"}),
        "margin": margin,
        "profile": profile if has_run else None,
        "data": data if has_run else None,
        "n_better": better.n,
        "n_worse": worse.n,
        **_interval("", outcome.difference),
        **_interval("reduction", outcome.reduction),
        "reported_difference": reported,
        "sequential": added,
        "verdict": outcome.word,
        "reason": outcome.reason,
    }


def _margin(figure: ReportedError, dataset: str) -> float:
    """Return the margin (percentage points) within which two errors count as equal: the tolerance of the printed error."""
    return tolerance(figure.error, get_dataset(dataset).test_size, figure.last_digit)


def _interval(name: str, difference: Difference | None) -> dict[str, float | None]:
    columns = [name or "difference", *(f"{name}_{end}" if name else end for end in ("low", "high"))]
    values = (difference.value, difference.low, difference.high) if difference else (None, None, None)
    return dict(zip(columns, values, strict=True))


def make_equivalences(board: pd.DataFrame) -> pd.DataFrame:
    """Return a frame with EQUIVALENCE_COLUMNS, one row for each model, data set and data status with runs of both profiles.

    The margin is the tolerance of the reported error, or of our own mean if no error is reported.
    """
    measured = board[board["runs"] > 0]
    rows = []
    for (dataset, model, data), profiles in measured.groupby(["dataset", "model", "data"], sort=False):
        by_profile = {row.profile: row for row in profiles.itertuples(index=False)}
        first = by_profile.pop(PROFILES[0], None)
        for profile, second in by_profile.items():
            if first is None or not (first.n and second.n):
                continue
            margin = first.tolerance
            if pd.isna(margin):
                margin = tolerance(first.mean, get_dataset(dataset).test_size, 0)
            sides = [Sample(row.errors, row.seeds, row.runs, row.runs) for row in (first, second)]
            added = first.sequential or second.sequential
            outcome = equivalence(*sides, margin=margin, names=(PROFILES[0], profile), sequential=added)
            rows.append(
                {
                    "dataset": dataset,
                    "model": model,
                    "label": first.label,
                    "profile": profile,
                    "data": data,
                    "margin": margin,
                    **_interval("", outcome.difference),
                    "verdict": outcome.word,
                    "reason": outcome.reason,
                }
            )
    return pd.DataFrame(rows, columns=EQUIVALENCE_COLUMNS)


def make_attempts(papers: Mapping[str, Paper], attempts: Mapping[str, Iterable[Attempt]]) -> pd.DataFrame:
    """Return a frame with ATTEMPT_COLUMNS, one row for each attempt by somebody else at a printed figure."""
    rows = []
    for key, of_paper in attempts.items():
        for attempt in of_paper:
            figures = papers[key].reported if key in papers else ()
            attempted = [row for row in figures if (row.dataset, row.printed) == (attempt.dataset, attempt.reported)]
            figure = min(attempted, key=lambda row: row.kind != "target", default=None)
            rows.append(
                {
                    "paper": key,
                    "dataset": attempt.dataset,
                    "model": figure.model if figure else None,
                    "label": figure.label if figure else None,
                    "reported": float(attempt.reported),
                    "who": attempt.who,
                    "error": attempt.middle,
                    "printed": attempt.printed,
                    "gap": None if attempt.middle is None else round(attempt.middle - float(attempt.reported), 9),
                    "remark": attempt.remark,
                }
            )
    return pd.DataFrame(rows, columns=ATTEMPT_COLUMNS)
