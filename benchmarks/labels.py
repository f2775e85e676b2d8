"""Labels and text formats of a board, shared by the terminal, the files and the site: symbols, marks, ranks, cells.

The texts are not escaped: each caller escapes them for its own output.
"""

import csv
import io
import json
import math
from typing import Any

import pandas as pd

from benchmarks.board import default_view
from benchmarks.columns import ROW_KEY
from benchmarks.intervals import gap_text
from benchmarks.plural import number
from benchmarks.records import utc

SYMBOLS = {  # always shown with the word, for readers who cannot tell colours or symbols apart
    "reproduced": "✓",
    "better": "▼",
    "worse": "▲",
    "inconclusive": "?",
    "more seeds": "…",
    "not comparable": "≠",
    "not run": "·",
    "not judged": "○",
    "holds": "✓",
    "fails": "✗",
    "equivalent": "✓",
    "different": "✗",
    "not yet known": "…",
}
SEED_KEY = [*ROW_KEY, "seed"]  # runs with equal values are runs of one seed
PUBLISHED_ONLY = "published only"
MARKS = {  # caveats of a row: the letter for narrow tables, and the text
    "L": "local: not published",
    "U": "unverified data",
    "F": "profile fast",
    "S": "seeds added after looking at the results",
    "C": "code of no commit: with uncommitted changes, or unknown",
    "R": "resumed after a change of build, device, code or data",
    "O": "runs of another revision or recipe not counted",
}
SEED_ADDED = "seed added after looking at the results"  # the mark S, on a single run
LEGEND = (
    "Test error in percent after the last epoch: the mean of the seeds that trained, ± its 95 % interval. "
    "Only measured rows are ranked, by error."
)


Row = Any  # a board row: a named tuple of BOARD_COLUMNS from DataFrame.itertuples


def clean(value: object) -> str:
    """Return text from a file without control characters: a record may contain terminal escape sequences."""
    return "".join(c if c.isprintable() else " " for c in str(value))


def verdict_words(word: object) -> str:
    """Return symbol and word, such as `✓ reproduced`; `published only` for a row without a verdict."""
    return f"{SYMBOLS[word]} {word}" if isinstance(word, str) else PUBLISHED_ONLY


def marks_of(row: Row) -> str:
    """Return the letters of the MARKS that apply to a board row; '' for a row without runs."""
    applies = {
        "L": row.local,
        "U": row.data == "unverified",
        "F": row.profile == "fast",
        "S": row.sequential,
        "C": row.dirty,
        "R": row.forced,
        "O": row.outdated > 0,
    }
    return "".join(letter for letter, marked in applies.items() if marked) if row.runs or row.outdated else ""


def caveats_of(row: Row) -> str:
    """Return the marks of a row in a few words each, such as `unverified data, profile fast`; '' without marks."""
    return ", ".join(MARKS[letter].partition(":")[0] for letter in marks_of(row))


def with_caveats(row: Row) -> str:
    """Return the error with the row's caveats: `24.48 ± 0.51 (unverified data)`."""
    return error_text(row) + in_brackets(caveats_of(row))


def conditions_of(row: Row) -> list[str]:
    """Return how a row or a claim was measured, as far as not under `reference` on verified data: `profile fast`, ..."""
    applies = {"F": row.profile == "fast", "U": row.data == "unverified"}
    return [MARKS[letter] for letter, so in applies.items() if so]


def measured_with(row: Row) -> str:
    """Return the conditions of a row or a claim to follow its name: ` (profile fast, unverified data)`; '' without any."""
    return in_brackets(", ".join(conditions_of(row)))


def in_brackets(text: str) -> str:
    """Return ` (text)`, or '' for an empty text."""
    return f" ({text})" if text else ""


def ranks(rows: pd.DataFrame) -> list[int | None]:
    """Return the ranks of one data set's rows by measured error, 1 for the lowest. Equal errors share a rank.

    A row without a measured error has no rank. So a rank compares what was measured here by one protocol, and does not
    depend on which printed figures a table lists.
    """
    return [None if pd.isna(rank) else int(rank) for rank in rows["mean"].rank(method="min")]


def with_cited_rows(board: pd.DataFrame) -> pd.DataFrame:
    """Return the default view with published rows from the sources of its models only.

    Published rows from other sources are in the CSV and JSON.
    """
    view = default_view(board)
    sources = set(view.loc[view["model"].notna(), "paper"].dropna())
    return view[view["model"].notna() | view["paper"].isin(sources)].reset_index(drop=True)


def as_of_line(newest: pd.Timestamp, commit: str | None) -> str:
    """Return the line to cite a report with: the commit of the checkout and the date of the newest record (NaT: none)."""
    where = f"As of commit {commit}" if commit else "Outside a git checkout"
    return f"{where}, " + ("no record yet." if pd.isna(newest) else f"newest record {newest:%Y-%m-%d}.")


def unpublished_line(runs: pd.DataFrame) -> str:
    """Return a sentence on the board's unpublished runs, '' if there are none. `runs` is the frame of `frame_of`."""
    local = runs[runs["local"] & runs["standing"].isin(["counted", "duplicate"])]
    if local.empty:
        return ""
    published = runs[~runs["local"] & (runs["standing"] == "counted")]
    same_weights = (local["standing"] == "duplicate") & local["weights_sha256"].isin(published["weights_sha256"])
    same_weights &= local["outcome"] != "diverged"
    seeds = set(zip(*(published[name] for name in SEED_KEY), strict=True))
    same_seed = pd.Series(
        [seed in seeds for seed in zip(*(local[name] for name in SEED_KEY), strict=True)], index=local.index
    )
    clauses = [f"Unpublished in this checkout: {number(len(local), 'run')}"]
    if same_weights.any():
        clauses.append(f"{same_weights.sum()} with weights bit-identical to a published run, counted once")
    trained = local["outcome"] == "finished"
    if averaged := int((same_seed & (local["standing"] == "counted") & trained).sum()):
        clauses.append(f"{averaged} of seeds that are also published, averaged with those")
    if untrained := int((~trained).sum()):
        clauses.append(f"{untrained} did not train")
    return ", ".join(clauses) + "."


def repeats_line(view: pd.DataFrame) -> str:
    """Return a sentence on the rows with more runs than seeds, '' if there are none."""
    repeated = view[view["runs"] > view["seeds"]]
    if repeated.empty:
        return ""
    counts = ", ".join(f"{short_name(row, view)} {runs_of_seeds(row)}" for row in repeated.itertuples(index=False))
    return f"Several runs of a seed count as one: {counts}."


def short_name(row: Row, view: pd.DataFrame) -> str:
    """Return a row's model, `nin`, or `cifar10/nin` if the view has several data sets."""
    several = view.loc[view["model"].notna(), "dataset"].nunique() > 1
    return f"{row.dataset}/{clean(row.model)}" if several else clean(row.model)


def equivalence_sentence(row: Row) -> str:
    """Return the verdict on the equality of two profiles, what was compared, and the reason."""
    unverified = " on unverified data" if row.data == "unverified" else ""
    compared = f"{clean(row.model)} on {row.dataset}{unverified}, {row.profile} compared with reference"
    return f"{verdict_words(row.verdict)}: {compared}: {clean(row.reason)}."


# --- cells -----------------------------------------------------------------------------------------------------------


def runs_of_seeds(row: Row) -> str:
    """Return `12 runs of 10 seeds`, or `10 seeds` if each ran once."""
    seeds = number(row.seeds, "seed")
    return f"{row.runs} runs of {seeds}" if row.runs > row.seeds else seeds


def title_of(row: Row) -> str:
    """Return title and model name, `NiN + dropout (nin_dropout)`; a published row has its source's key in brackets."""
    name = row.paper if pd.isna(row.model) else row.model
    return clean(row.label) if pd.isna(name) or name == row.label else f"{clean(row.label)} ({clean(name)})"


def error_text(row: Row) -> str:
    """Return the mean and its 95 % interval, `10.52 ± 0.17`; '' if no seed trained."""
    spread = "" if pd.isna(row.half_width) else f" ± {row.half_width:.2f}"
    return "" if pd.isna(row.mean) else f"{row.mean:.2f}{spread}"


def trained_text(row: Row) -> str:
    """Return how many seeds trained: `9 of 10`, `9 of 10 (12 runs)` if a seed ran more than once, '' without a run."""
    repeated = f" ({row.runs} runs)" if row.runs > row.seeds else ""
    return f"{row.n} of {row.seeds}{repeated}" if row.runs else ""


def reported_text(row: Row) -> str:
    """Return the reported error as printed, in brackets if it is only shown and not judged; '' if there is none."""
    if not pd.isna(row.reported):
        return row.printed
    return "" if pd.isna(row.context) else f"({row.context})"


def gap_of(row: Row) -> str:
    """Return the signed difference of the mean and the figure as they are shown; '' if there is none."""
    return "" if pd.isna(row.gap) else gap_text(row.mean, row.printed)


# --- files -----------------------------------------------------------------------------------------------------------


def rows_of(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the rows of a frame as JSON data: None for undefined values, floats rounded to 9 decimals.

    A board's rows have the extra key `marks`, a list of texts.
    """
    rows = [{str(name): _plain(value) for name, value in row.items()} for row in frame.to_dict("records")]
    if "keys" not in frame:
        return rows
    marks = [[MARKS[letter] for letter in marks_of(row)] for row in frame.itertuples(index=False)]
    return [row | {"marks": texts} for row, texts in zip(rows, marks, strict=True)]


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if isinstance(value, pd.Timestamp):
        return utc(value)
    if isinstance(value, float):
        return None if math.isnan(value) else round(value, 9)
    return None if pd.isna(value) else value


def as_json(frame: pd.DataFrame) -> str:
    """Return the output of `report --format json`."""
    return json.dumps(rows_of(frame), indent=2, ensure_ascii=False) + "\n"


def as_csv(frame: pd.DataFrame) -> str:
    """Return the output of `report --format csv`, in which the items of a list are joined by `; `."""
    out = io.StringIO()
    columns = [*frame.columns, "marks"] if "keys" in frame else list(frame.columns)
    writer = csv.DictWriter(out, columns, lineterminator="\n")
    writer.writeheader()
    for row in rows_of(frame):
        writer.writerow({name: "; ".join(map(str, v)) if isinstance(v, list) else v for name, v in row.items()})
    return out.getvalue()
