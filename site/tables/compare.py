"""Claims, costs, models side by side, and jobs in progress."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import escape
import pandas as pd

from benchmarks.datasets import get_dataset
from benchmarks.leaderboard import PROFILES, Evidence, default_view
from benchmarks.papers import Paper
from benchmarks.wording import verdict_words
from tables.common import marks, trained
from tables.model import value_text


def claims_table(claims: pd.DataFrame, papers: Mapping[str, Paper]) -> pd.DataFrame:
    """Each ordering that a source asserts, its difference beside ours."""
    rows = []
    for row in claims.itertuples(index=False):
        ours = escape.NONE
        if not escape.missing(row.difference):
            ours = f"{row.difference:+.2f}" + ("" if escape.missing(row.low) else f" [{row.low:+.2f}, {row.high:+.2f}]")
        measured_on = (
            [] if row.profile in (None, PROFILES[0]) or escape.missing(row.profile) else [f"profile {row.profile}"]
        )
        measured_on += ["unverified data"] if row.data == "unverified" else []
        rows.append(
            {
                "Verdict": verdict_words(row.verdict),
                "Claim": escape.short(row.text),
                "Data set": get_dataset(row.dataset).title,
                "Better": row.better,
                "Worse": row.worse,
                "Paper's difference": escape.percent(row.reported_difference, signed=True),
                "Ours, 90 % interval": ours,
                "Seeds": f"{row.n_better} and {row.n_worse}",
                "Marks": ", ".join(measured_on),
                "Place": f"{papers[row.paper].title}, {row.where}" if row.paper in papers else row.where,
                "Why": escape.short(row.reason),
            }
        )
    columns = ["Verdict", "Claim", "Data set", "Better", "Worse", "Paper's difference", "Ours, 90 % interval"]
    return pd.DataFrame(rows, columns=[*columns, "Seeds", "Marks", "Place", "Why"])


COSTS = {  # what can stand on the axis, as the address says it: the board's column, and its name
    "parameters": ("parameters", "Parameters"),
    "MACs": ("macs", "Multiply-accumulates an image"),
    "minutes": ("train_minutes", "Minutes a run"),
}


def cost_view(board: pd.DataFrame, dataset: str, cost: str) -> pd.DataFrame:
    """The models with an error and a cost, cheapest first, with `frontier`: nothing cheaper has a smaller error.

    A model without runs stands with its reported error and is never on the frontier, which is of measured errors alone.
    """
    rows = default_view(board[board["dataset"] == dataset])
    rows = rows[rows["model"].notna() & rows["error"].notna() & rows[cost].notna() & (rows[cost].astype(float) > 0)]
    rows = rows.assign(**{cost: rows[cost].astype(float)}).sort_values([cost, "error"], ignore_index=True)
    best, frontier = float("inf"), []
    for row in rows.itertuples(index=False):
        measured = not pd.isna(row.mean)
        frontier.append(measured and row.mean < best)
        best = min(best, row.mean) if measured else best
    return rows.assign(frontier=pd.Series(frontier, dtype=bool))


def compare_table(evidence: Evidence, board: pd.DataFrame, dataset: str, models: Sequence[str]) -> pd.DataFrame:
    """Facts and recipes side by side, one column a model; `≠` marks the fields in which they differ."""
    view = default_view(board[board["dataset"] == dataset])
    rows = {row.model: row for row in view.itertuples(index=False) if not pd.isna(row.model)}
    facts: dict[str, dict[str, str]] = {}
    recipes: dict[str, Mapping[str, Any]] = {}
    for name in models:
        row, card = rows[name], evidence.cards.get(name)
        variant = card.datasets.get(dataset) if card else None
        recipes[name] = variant.recipe if variant else {}
        facts[name] = {
            "Verdict": verdict_words(row.verdict),
            "Measured %": escape.percent(row.mean)
            + ("" if escape.missing(row.half_width) else f" ± {row.half_width:.2f}"),
            "Trained": trained(row),
            "Reported %": escape.percent(row.reported),
            "Gap": escape.percent(row.gap, signed=True),
            "Marks": ", ".join(marks(row)) or escape.NONE,
            "Family": escape.NONE if escape.missing(row.family) else escape.short(row.family),
            "Augmentation": escape.NONE if escape.missing(row.augmentation) else escape.short(row.augmentation),
            "Parameters": escape.count(row.parameters),
            "MACs": escape.compact(row.macs),
            "Minutes a run": escape.NONE if escape.missing(row.train_minutes) else f"{row.train_minutes:.1f}",
        }
    fields = list(dict.fromkeys(name for recipe in recipes.values() for name in sorted(recipe)))
    lines = [{"": "", "What": name, **{m: facts[m][name] for m in models}} for name in next(iter(facts.values()), {})]
    for name in fields:
        values = {m: value_text(recipes[m][name]) if name in recipes[m] else escape.NONE for m in models}
        differ = len(set(values.values())) > 1
        lines.append({"": "≠" if differ else "", "What": f"recipe: {name}", **values})
    return pd.DataFrame(lines, columns=["", "What", *models])


def progress_table(jobs: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """The jobs of `runner status --json`, those that run first."""
    order = ("running", "failed", "killed", "interrupted", "pending", "done")
    rows = []
    for job in jobs:
        epoch, epochs = job.get("epoch"), job.get("epochs")
        known = isinstance(epoch, (int, float)) and isinstance(epochs, (int, float)) and epochs > 0
        rows.append(
            {
                "State": str(job.get("state", "")),
                "Job": escape.short(job.get("key", ""), 200),
                "Progress": min(100.0, 100 * float(epoch) / float(epochs)) if known else 0.0,  # type: ignore[arg-type]
                "Epoch": f"{epoch} of {epochs}" if known else "",
                "Error %": job.get("test_error"),
                "Outcome": job.get("outcome") or "",
                "Attempts": job.get("attempts"),
            }
        )
    rows.sort(key=lambda row: (order.index(row["State"]) if row["State"] in order else len(order), row["Job"]))
    columns = ["State", "Progress", "Job", "Epoch", "Error %", "Outcome", "Attempts"]
    table = pd.DataFrame(rows, columns=columns)
    table["Error %"] = table["Error %"].astype(float)
    return table
