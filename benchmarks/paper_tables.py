"""A source's own tables with our numbers beside its, and the choices that were made on held-out images."""

import json
from typing import Any

import pandas as pd

from benchmarks.board import default_view
from benchmarks.columns import CHOICE_COLUMNS, PAPER_TABLE_COLUMNS
from benchmarks.errors import unknown
from benchmarks.intervals import sample_of_runs, summarise
from benchmarks.papers import Paper


def tables_of(paper: Paper) -> list[str]:
    """Return the places in which a source prints errors, in its order: `Table 1`, `Section 4.2`."""
    return list(dict.fromkeys(row.where for row in paper.reported))


def make_paper_table(board: pd.DataFrame, paper: Paper, table: str | None = None) -> pd.DataFrame:
    """Return PAPER_TABLE_COLUMNS, one row a printed error, in the source's order and with its labels.

    Ours is the model's row with the most seeds. Only a row that the model is judged by has a verdict. Raises UserError for
    a table that the source doesn't have.
    """
    places = {place.casefold(): place for place in tables_of(paper)}
    if table is not None and table.casefold() not in places:
        raise unknown(f"table of {paper.key}", table, places.values())
    place = None if table is None else places[table.casefold()]
    view = default_view(board)
    ours = {(row.dataset, row.model): row for row in view[view["model"].notna()].itertuples(index=False)}
    rows = []
    for printed in paper.reported:
        if place not in (None, printed.where):
            continue
        row: Any = ours.get((printed.dataset, printed.model))
        judged = row is not None and printed.kind == "target"
        measured = row is not None and not pd.isna(row.mean)
        rows.append(
            {
                "where": printed.where,
                "dataset": printed.dataset,
                "label": printed.label,
                "reported": printed.error,
                "printed": str(printed.printed),
                "kind": printed.kind,
                "model": printed.model,
                "mean": row.mean if measured else None,
                "half_width": row.half_width if measured else None,
                "n": row.n if row is not None else 0,
                "seeds": row.seeds if row is not None else 0,
                "runs": row.runs if row is not None else 0,
                "gap": round(row.mean - printed.error, 9) if measured else None,
                "verdict": row.verdict if judged else None,
                "reason": row.reason if judged else None,
                "note": printed.note,
            }
        )
    frame = pd.DataFrame(rows, columns=PAPER_TABLE_COLUMNS)
    for column in ("reported", "mean", "half_width", "gap"):
        frame[column] = frame[column].astype(float)
    return frame


def make_choices(runs: pd.DataFrame) -> pd.DataFrame:
    """Return CHOICE_COLUMNS from `Evidence.runs`: one row a setting that was tried on held-out images, the best first.

    Settings are compared within a data set, model, revision, profile, data status and number of held-out images.
    """
    held_out = runs[runs["standing"] == "validation"]
    keys = ["dataset", "model", "revision", "recipe_sha256", "profile", "data", "holdout", "overrides"]
    rows = []
    for values, group in held_out.groupby(keys, sort=False):
        place = dict(zip(keys, values, strict=True))
        changes = {name: value for name, value in json.loads(place.pop("overrides")).items() if name != "holdout"}
        sample = sample_of_runs(zip(group["seed"], group["outcome"], group["test_error"], strict=True))
        summary = summarise(sample)
        text = ", ".join(f"{name}={json.dumps(value)}" for name, value in changes.items())
        rows.append(
            place
            | {"setting": text, "n": sample.n, "seeds": sample.seeds, "runs": sample.runs, "mean": summary.mean}
            | {"sd": summary.sd, "half_width": summary.half_width, "errors": sample.errors}
        )
    frame = pd.DataFrame(rows, columns=CHOICE_COLUMNS)
    for column in ("mean", "sd", "half_width"):
        frame[column] = frame[column].astype(float)
    return frame.sort_values([*CHOICE_COLUMNS[:7], "mean"], na_position="last", ignore_index=True, kind="stable")
