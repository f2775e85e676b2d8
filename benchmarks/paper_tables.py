"""A source's tables with our numbers, and the settings that were compared on held-out images."""

import json
from typing import Any

import pandas as pd

from benchmarks.board import default_view
from benchmarks.columns import CHOICE_COLUMNS, PAPER_TABLE_COLUMNS
from benchmarks.errors import unknown
from benchmarks.intervals import sample_of_runs, summarise
from benchmarks.labels import caveats_of
from benchmarks.papers import Paper


def tables_of(paper: Paper) -> list[str]:
    """Return the places where a source prints errors, such as `Table 1` or `Section 4.2`, in its order."""
    return list(dict.fromkeys(row.where for row in paper.reported))


def make_paper_table(board: pd.DataFrame, paper: Paper, table: str | None = None) -> pd.DataFrame:
    """Return a frame with PAPER_TABLE_COLUMNS, one row per printed error, in the source's order and with its labels.

    Our numbers come from the model's row with the most seeds. Only the figure that a model is judged by has a verdict.
    Raise UserError if the source has no such table.
    """
    places = {place.casefold(): place for place in tables_of(paper)}
    if table is not None and table.casefold() not in places:
        raise unknown(f"table of {paper.key}", table, places.values())
    place = None if table is None else places[table.casefold()]
    view = default_view(board)
    ours = {(row.dataset, row.model): row for row in view[view["model"].notna()].itertuples(index=False)}
    rows = []
    for figure in paper.reported:
        if place not in (None, figure.where):
            continue
        row: Any = ours.get((figure.dataset, figure.model))  # a named tuple of pandas
        is_target = row is not None and figure.kind == "target"
        has_run = row is not None and row.runs > 0
        measured = row is not None and not pd.isna(row.mean)
        rows.append(
            {
                "where": figure.where,
                "dataset": figure.dataset,
                "label": figure.label,
                "reported": figure.error,
                "printed": str(figure.printed),
                "kind": figure.kind,
                "model": figure.model,
                "profile": row.profile if has_run else None,
                "data": row.data if has_run else None,
                "caveats": caveats_of(row) if has_run else "",
                "mean": row.mean if measured else None,
                "half_width": row.half_width if measured else None,
                "n": row.n if row is not None else 0,
                "seeds": row.seeds if row is not None else 0,
                "runs": row.runs if row is not None else 0,
                "gap": round(row.mean - figure.error, 9) if measured else None,
                "verdict": row.verdict if is_target else None,
                "reason": row.reason if is_target else None,
                "note": figure.note,
            }
        )
    frame = pd.DataFrame(rows, columns=PAPER_TABLE_COLUMNS)
    for column in ("reported", "mean", "half_width", "gap"):
        frame[column] = frame[column].astype(float)
    return frame


def make_choices(runs: pd.DataFrame) -> pd.DataFrame:
    """Return a frame with CHOICE_COLUMNS, one row per setting that was measured on held-out images, the best first.

    `runs` is `Evidence.runs`. Settings are compared within a data set, model, revision, recipe, profile, data status and
    number of held-out images.
    """
    held_out = runs[runs["standing"] == "validation"]
    keys = ["dataset", "model", "revision", "recipe_sha256", "profile", "data", "holdout", "overrides"]
    rows = []
    for values, group in held_out.groupby(keys, sort=False):
        setting = dict(zip(keys, values, strict=True))
        changes = {name: value for name, value in json.loads(setting.pop("overrides")).items() if name != "holdout"}
        sample = sample_of_runs(zip(group["seed"], group["outcome"], group["test_error"], strict=True))
        summary = summarise(sample)
        text = ", ".join(f"{name}={json.dumps(value)}" for name, value in changes.items())
        rows.append(
            setting
            | {"setting": text, "n": sample.n, "seeds": sample.seeds, "runs": sample.runs, "mean": summary.mean}
            | {"sd": summary.sd, "half_width": summary.half_width, "errors": sample.errors}
        )
    frame = pd.DataFrame(rows, columns=CHOICE_COLUMNS)
    for column in ("mean", "sd", "half_width"):
        frame[column] = frame[column].astype(float)
    return frame.sort_values([*CHOICE_COLUMNS[:7], "mean"], na_position="last", ignore_index=True, kind="stable")
