"""Tabulate error against cost, and compare models side by side."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import escape
import pandas as pd

from benchmarks.labels import error_text, gap_of, verdict_words
from benchmarks.leaderboard import Evidence, default_view
from tables.common import LIVE, Link, Links, marks, printed_text, trained
from tables.model import value_text

COSTS = {  # the name in the address -> the board's column, and the title of the axis
    "parameters": ("parameters", "Parameters"),
    "MACs": ("macs", "Multiply-accumulates per image"),
    "minutes": ("train_minutes", "Minutes per run"),
}


def cost_view(board: pd.DataFrame, dataset: str, cost: str) -> pd.DataFrame:
    """Return the models with an error and a cost, cheapest first.

    The column `frontier` marks models such that no cheaper one has a smaller error. It compares measured errors only, so
    a model without runs is never on the frontier. Such a model has its reported error. A model of which no seed trained is
    left out: it has no error of its own, and the reported one was not reached.
    """
    rows = default_view(board[board["dataset"] == dataset])
    costs = rows[cost].astype(float)
    has_error = rows["mean"].notna() | (rows["error"].notna() & (rows["runs"] == 0))
    rows = rows[rows["model"].notna() & has_error & (costs > 0) & (costs < math.inf)]
    rows = rows.assign(**{cost: rows[cost].astype(float)}).sort_values([cost, "error"], ignore_index=True)
    best, frontier = float("inf"), []
    for row in rows.itertuples(index=False):
        has_mean = not pd.isna(row.mean)
        frontier.append(has_mean and row.mean < best)
        best = min(best, row.mean) if has_mean else best
    return rows.assign(frontier=pd.Series(frontier, dtype=bool))


COST_FORMATS = {name: escape.compact for _, name in COSTS.values()} | {"Minutes per run": lambda value: f"{value:.1f}"}


def cost_table(rows: pd.DataFrame, cost: str, title: str, links: Links = LIVE) -> pd.DataFrame:
    """Return the rows of `cost_view` as a table of models with their errors and costs."""
    return pd.DataFrame(
        {
            "Model": [Link(escape.short(r.label, 80), links.model(r.model, r.dataset)) for r in rows.itertuples()],
            "On the Pareto frontier": ["yes" if front else "" for front in rows["frontier"]],
            "Measured %": rows["mean"],
            "Printed %": rows["reported"],
            title: rows[cost],
            "Hardware": [", ".join(escape.short(name, 60) for name in names) for names in rows["hardware"]],
            "Caveats": [marks(row) for row in rows.itertuples()],
        }
    )


def compare_table(evidence: Evidence, board: pd.DataFrame, dataset: str, models: Sequence[str]) -> pd.DataFrame:
    """Return results and recipes side by side, with one column for each model. `≠` marks the fields that differ."""
    view = default_view(board[board["dataset"] == dataset])
    rows = {row.model: row for row in view.itertuples(index=False) if not pd.isna(row.model)}
    results: dict[str, dict[str, str]] = {}
    recipes: dict[str, Mapping[str, Any]] = {}
    for name in models:
        row, card = rows[name], evidence.cards.get(name)
        variant = card.datasets.get(dataset) if card else None
        recipes[name] = variant.recipe if variant else {}
        results[name] = {
            "Verdict": verdict_words(row.verdict),
            "Measured %": error_text(row) or escape.NONE,
            "Trained": trained(row),
            "Printed %": printed_text(row),
            "Gap": gap_of(row) or escape.NONE,
            "Caveats": ", ".join(marks(row)) or escape.NONE,
            "Family": escape.NONE if escape.missing(row.family) else escape.short(row.family),
            "Augmentation": escape.NONE if escape.missing(row.augmentation) else escape.short(row.augmentation),
            "Parameters": escape.count(row.parameters),
            "MACs": escape.compact(row.macs),
            "Minutes per run": escape.NONE if escape.missing(row.train_minutes) else f"{row.train_minutes:.1f}",
        }
    fields = list(dict.fromkeys(name for recipe in recipes.values() for name in sorted(recipe)))
    lines = [
        {"Differs": "", "What": name, **{m: results[m][name] for m in models}}
        for name in next(iter(results.values()), {})
    ]
    for name in fields:
        values = {m: value_text(recipes[m][name]) if name in recipes[m] else escape.NONE for m in models}
        differ = len(set(values.values())) > 1
        lines.append({"Differs": "≠" if differ else "", "What": f"recipe: {name}", **values})
    return pd.DataFrame(lines, columns=["Differs", "What", *models])
