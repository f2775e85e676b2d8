"""How a board is said, the same on the terminal, in a file and on the site: words, symbols, marks, ranks, rows.

Nothing here knows of a console or a page: whoever shows it escapes it for the place where it stands.
"""

import csv
import io
import json
import math
from typing import Any

import pandas as pd

from benchmarks.board import default_view
from benchmarks.intervals import gap_text
from benchmarks.records import utc

SYMBOLS = {  # a word never stands by its colour alone, nor by its symbol alone
    "reproduced": "✓",
    "better": "▼",
    "worse": "▲",
    "inconclusive": "?",
    "more seeds": "…",
    "not comparable": "≠",
    "not run": "·",
    "no paper figure": "○",
    "holds": "✓",
    "fails": "✗",
    "equivalent": "✓",
    "different": "✗",
    "not yet known": "…",
}
SEED = ["dataset", "model", "profile", "data", "seed"]  # what makes two runs runs of one seed
PUBLISHED_ONLY = "published only"
MARKS = {  # what isn't plain about a row's numbers: the letter of narrow tables, and the words
    "L": "local: not published",
    "U": "unverified data",
    "F": "profile fast",
    "S": "number of seeds was sequential",
    "C": "code with uncommitted changes",
    "R": "went on under another build or device",
    "O": "runs of another revision or recipe not counted",
}
LEGEND = "Test error in percent after the last epoch: the mean of the seeds that trained, ± its 95 % interval."


def clean(value: Any) -> str:
    """Text from a file, safe to print: a record may hold anything, also a terminal's control sequences."""
    return "".join(c if c.isprintable() else " " for c in str(value))


def verdict_words(word: Any) -> str:
    """Symbol and word: `✓ reproduced`. A row without a verdict is published only."""
    return f"{SYMBOLS[word]} {word}" if isinstance(word, str) else PUBLISHED_ONLY


def marks_of(row: Any) -> str:
    """Letters of MARKS for what isn't plain about a board row's numbers; empty where nothing has run."""
    given = {
        "L": row.local,
        "U": row.data == "unverified",
        "F": row.profile == "fast",
        "S": row.sequential,
        "C": row.dirty,
        "R": row.forced,
        "O": row.outdated > 0,
    }
    return "".join(letter for letter, holds in given.items() if holds) if row.runs or row.outdated else ""


def ranks(rows: pd.DataFrame) -> list[int | None]:
    """The ranks by error of one data set's rows, measured and published ones in one ranking; None without an error."""
    found: list[int | None] = []
    rank = 0
    for row in rows.itertuples(index=False):
        has_error = pd.isna(row.model) or not pd.isna(row.mean)
        rank += has_error
        found.append(rank if has_error else None)
    return found


def concerning(board: pd.DataFrame) -> pd.DataFrame:
    """The default view, of the figures that are published only those of the sources behind its models.

    What another source reports of another network stands in the CSV and JSON.
    """
    view = default_view(board)
    behind = set(view.loc[view["model"].notna(), "paper"].dropna())
    return view[view["model"].notna() | view["paper"].isin(behind)].reset_index(drop=True)


def as_of_line(board: pd.DataFrame, commit: str | None) -> str:
    """What a board has to be cited with: the commit of the checkout and the day of its newest record."""
    where = f"As of commit {commit}" if commit else "Outside a git checkout"
    newest = board["newest"].max()
    return f"{where}, " + ("no record yet." if pd.isna(newest) else f"newest record {newest:%Y-%m-%d}.")


def own_line(runs: pd.DataFrame) -> str:
    """What of a board is this checkout's own, not published yet: '' where nothing is. `runs` as `frame_of` gives them."""
    own = runs[runs["local"] & runs["standing"].isin(["counted", "duplicate"])]
    if own.empty:
        return ""
    published = runs[~runs["local"] & (runs["standing"] == "counted")]
    same_weights = (own["standing"] == "duplicate") & own["weights_sha256"].isin(published["weights_sha256"])
    same_weights &= own["outcome"] != "diverged"
    seeds = set(zip(*(published[name] for name in SEED), strict=True))
    same_seed = pd.Series([seed in seeds for seed in zip(*(own[name] for name in SEED), strict=True)], index=own.index)
    clauses = [f"Of this checkout, not published: {len(own)} run{'s' * (len(own) > 1)}"]
    if same_weights.any():
        clauses.append(f"{same_weights.sum()} with the very weights, bit for bit, of published ones: counted once")
    if averaged := int((same_seed & (own["standing"] == "counted")).sum()):
        clauses.append(f"{averaged} of seeds that are published too: averaged with those")
    return ", ".join(clauses) + "."


def repeats_line(view: pd.DataFrame) -> str:
    """Which rows have more runs than seeds: '' where none has."""
    repeated = view[view["runs"] > view["seeds"]]
    if repeated.empty:
        return ""
    counts = ", ".join(f"{clean(row.model)} {runs_of_seeds(row)}" for row in repeated.itertuples(index=False))
    return f"A seed counts once, as the mean of its runs: {counts}."


# --- cells that are alike everywhere ---------------------------------------------------------------------------------


def runs_of_seeds(row: Any) -> str:
    """`12 runs of 10 seeds`; `10 seeds` where each ran once."""
    return f"{row.runs} runs of {row.seeds} seeds" if row.runs > row.seeds else f"{row.seeds} seeds"


def title_of(row: Any) -> str:
    """`NiN + dropout (nin_dropout)`: the title and the name for `--model`; its source's key where only published."""
    name = row.paper if pd.isna(row.model) else row.model
    return clean(row.label) if pd.isna(name) or name == row.label else f"{clean(row.label)} ({clean(name)})"


def error_text(row: Any) -> str:
    """`10.52 ± 0.17`: the mean and its 95 % interval; '' where nothing trained."""
    spread = "" if pd.isna(row.half_width) else f" ± {row.half_width:.2f}"
    return "" if pd.isna(row.mean) else f"{row.mean:.2f}{spread}"


def trained_text(row: Any) -> str:
    """`9 of 10`, the seeds that trained; `9 of 10 (12 runs)` where a seed ran more than once; '' where none has run."""
    repeated = f" ({row.runs} runs)" if row.runs > row.seeds else ""
    return f"{row.n} of {row.seeds}{repeated}" if row.runs else ""


def gap_of(row: Any) -> str:
    """The gap with its sign, rounded as the two numbers beside it; '' where there is none."""
    return "" if pd.isna(row.gap) else gap_text(row.mean, row.printed)


# --- files -----------------------------------------------------------------------------------------------------------


def rows_of(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Every row of a frame, None where undefined, floats without binary fractions' dust; a board's with `marks` in words."""
    rows = [{str(name): _plain(value) for name, value in row.items()} for row in frame.to_dict("records")]
    if "keys" not in frame:
        return rows
    marks = [[MARKS[letter] for letter in marks_of(row)] for row in frame.itertuples(index=False)]
    return [row | {"marks": mine} for row, mine in zip(rows, marks, strict=True)]


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if isinstance(value, pd.Timestamp):
        return utc(value)
    if isinstance(value, float):
        return None if math.isnan(value) else round(value, 9)
    return None if pd.isna(value) else value


def as_json(frame: pd.DataFrame) -> str:
    """The text of `report --format json`."""
    return json.dumps(rows_of(frame), indent=2, ensure_ascii=False) + "\n"


def as_csv(frame: pd.DataFrame) -> str:
    """The text of `report --format csv`: lists as their items with `; ` between them."""
    out = io.StringIO()
    writer = csv.DictWriter(out, [*frame.columns, *["marks"] * ("keys" in frame)], lineterminator="\n")
    writer.writeheader()
    for row in rows_of(frame):
        writer.writerow({name: "; ".join(map(str, v)) if isinstance(v, list) else v for name, v in row.items()})
    return out.getvalue()
