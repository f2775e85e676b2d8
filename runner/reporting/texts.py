"""Sentences and cells of a report, shared by terminal, Markdown and LaTeX."""

from typing import Any

import pandas as pd

from benchmarks.labels import clean, measured_with, ranks, repeats_line, short_name
from benchmarks.plural import number

SUBMIT = "runner submit --suite"


def ranked(rows: pd.DataFrame) -> list[tuple[str, Any]]:
    """Return the rows of one data set with their ranks as text, '' for a row without one."""
    pairs = zip(ranks(rows), rows.itertuples(index=False), strict=True)
    return [("" if rank is None else str(rank), row) for rank, row in pairs]


def reasons_of(view: pd.DataFrame) -> list[tuple[str, str]]:
    """Return name and reason of each row whose verdict needs one."""
    rows = [row for row in view.itertuples(index=False) if row.runs and not pd.isna(row.reported)]
    return [(short_name(row, view) + measured_with(row), f"{clean(row.reason)}.") for row in rows]


def notes_of(suite: str | None, board: pd.DataFrame, view: pd.DataFrame) -> list[str]:
    """Return the notes below the tables: caveats, and the commands to run next."""
    notes = []
    for row in board[board["data"] == "unverified"].drop_duplicates(["dataset", "provenance"]).itertuples(index=False):
        if row.runs:
            sentence = "its files do not have the official md5." if pd.isna(row.provenance) else clean(row.provenance)
            notes.append(f"Unverified data ({row.dataset}): {sentence}")
    if repeats := repeats_line(view):
        notes.append(repeats)
    if outdated := int(board["outdated"].sum()):
        notes.append(f"Not counted: {number(outdated, 'run')} of another revision or recipe.")
    flags = f" --suite {suite}" if suite else ""
    if more := len(board) - len(view):
        notes.append(f"{number(more, 'more row')} (other profiles, data or sources): runner report{flags} --format csv")
    models = view[view["model"].notna()]
    waiting = list(dict.fromkeys(models.loc[models["runs"] == 0, "model"]))
    if not models["runs"].any():
        what = f"No run of '{suite}' has ended yet" if suite else "No run has ended yet"
        notes.append(f"{what}. Start with: {SUBMIT} {suite or 'quickstart'}")
        return notes
    if waiting and suite:
        notes.append(
            f"Some models have not run: {SUBMIT} {suite} {' '.join(f'--model {clean(name)}' for name in waiting)}"
        )
    open_ = models[(models["runs"] > 0) & models["seeds_to_go"].gt(0)]
    for (profile, data), rows in open_.groupby(["profile", "data"], sort=False):
        counts = ", ".join(f"{short_name(row, view)} {int(row.seeds_to_go)}" for row in rows.itertuples(index=False))
        names = " ".join(f"--model {clean(name)}" for name in dict.fromkeys(rows["model"]))
        flags = f"{suite} {names}" if suite else f"SUITE {names}"
        flag = "" if profile == "reference" else f" --profile {profile}"
        flag += " --allow-unverified-data" * (data == "unverified")
        notes.append(f"Seeds needed for a verdict: {counts}. Run them: {SUBMIT} {flags}{flag} --until-decided")
    if not suite and (models["runs"] == 0).sum() > 20:
        notes.append("To show only models that have run: runner report --measured")
    if view["reported"].isna().all():
        none = "No source reports an error for these rows"
        if view["context"].notna().any():
            none = "No printed error judges these rows. Those in brackets are shown for comparison"
        notes.append(f"{none}. For rows with judged errors: {SUBMIT} mnist")
    return notes
