"""The leaderboard as text: a table for the terminal, Markdown, CSV, JSON, and BibTeX of the sources behind it.

`render` gives any format as a string; `print_table` writes the table to a console that knows its own width and colours.
Table and Markdown show the default view, CSV and JSON every row.
"""

import io
import sys
from collections.abc import Mapping
from typing import Any

import pandas as pd
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from benchmarks.bibliography import bibliography
from benchmarks.datasets import get_dataset
from benchmarks.errors import unknown
from benchmarks.leaderboard import make_board, make_claims, make_equivalences, read
from benchmarks.papers import Paper
from benchmarks.suites import get_suite
from benchmarks.wording import (
    LEGEND,
    MARKS,
    as_csv,
    as_json,
    as_of_line,
    clean,
    commit_of,
    concerning,
    gap_of,
    marks_of,
    own_line,
    ranks,
    repeats_line,
    trained_text,
    verdict_words,
)
from runner.jobs.paths import results_folder, root, runs_folder

SUBMIT = "runner submit --suite"
FORMATS = ("table", "markdown", "csv", "json", "bibtex")
COLOURS = {  # beside symbol and word, which say it without
    "reproduced": "green",
    "better": "green",
    "worse": "red",
    "inconclusive": "yellow",
    "more seeds": "yellow",
    "not comparable": "yellow",
    "not run": "dim",
    "no paper figure": "dim",
    "holds": "green",
    "fails": "red",
    "equivalent": "green",
    "different": "red",
    "not yet known": "yellow",
}


def show(suite: str | None, fmt: str, measured: bool = False) -> None:
    """Print the report of a suite, or of everything, from this checkout's results and runs; `measured`: rows with runs."""
    problems, board, claims, papers, own = _read(suite)
    if measured:
        board = board[board["runs"] > 0]
        claims = claims[claims["verdict"] != "not run"]
    if problems:
        print(
            f"{len(problems)} problems in records or cards that can't be read; the first: {problems[0]}",
            file=sys.stderr,
        )
    as_of = " ".join(filter(None, [own, as_of_line(board, commit_of(root()))]))
    if measured and fmt == "markdown":
        print(measured_table(board))
    elif fmt == "table":
        print_table(Console(), suite, board, claims, as_of)
    else:
        sys.stdout.write(render(suite, board, claims, papers, fmt, as_of=as_of))


def _read(suite: str | None) -> tuple[tuple[str, ...], pd.DataFrame, pd.DataFrame, Mapping[str, Paper], str]:
    """Problems, board, claims and sources of a suite's data sets and models (None: all), and what of them is one's own."""
    datasets, models = None, None
    if suite is not None:
        from runner.submit.plan import models_of
        from zoo import load_models

        found = get_suite(suite)
        datasets, models = found.datasets, models_of(found, load_models())
    evidence = read(results_folder(), runs_folder())
    board = make_board(evidence, datasets, models)
    runs = evidence.runs
    if datasets is not None and models is not None:
        runs = runs[runs["dataset"].isin(datasets) & runs["model"].isin(models)]
    return evidence.problems, board, make_claims(board, evidence.papers), evidence.papers, own_line(runs)


def render(
    suite: str | None,
    board: pd.DataFrame,
    claims: pd.DataFrame,
    papers: Mapping[str, Paper],
    fmt: str,
    width: int = 80,
    as_of: str = "",
) -> str:
    """The report of a suite (None: of everything), ending with a newline; raises UserError for an unknown format."""
    if fmt == "json":
        return as_json(board)
    if fmt == "csv":
        return as_csv(board)
    if fmt == "bibtex":
        return bibliography(board["dataset"].unique(), board["paper"].dropna(), papers, as_of)
    if fmt == "markdown":
        return _markdown(suite, board, claims, as_of)
    if fmt == "table":
        console = Console(file=io.StringIO(), width=width, color_system=None)
        print_table(console, suite, board, claims, as_of)
        lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]  # the StringIO above
        return "".join(f"{line.rstrip()}\n" for line in lines)
    raise unknown("format", fmt, FORMATS)


# --- cells, the same in table and Markdown --------------------------------------------------------------------------


def _error(row: Any) -> str:
    spread = "" if pd.isna(row.half_width) else f" ± {row.half_width:.2f}"
    return "" if pd.isna(row.mean) else f"{row.mean:.2f}{spread}"


def _reported(row: Any) -> str:
    return "" if pd.isna(row.reported) else row.printed


def _ranked(rows: pd.DataFrame) -> list[tuple[str, Any]]:
    """The rows of one data set with their ranks."""
    pairs = zip(ranks(rows), rows.itertuples(index=False), strict=True)
    return [("" if rank is None else str(rank), row) for rank, row in pairs]


def _about(row: Any) -> str:
    """Which row a reason is about."""
    return clean(row.model) + (f" ({row.profile})" if row.profile != "reference" else "")


def _with_reasons(view: pd.DataFrame) -> list[Any]:
    """The rows whose verdict needs a sentence."""
    return [row for row in view.itertuples(index=False) if row.runs and not pd.isna(row.reported)]


def _notes(suite: str | None, board: pd.DataFrame, view: pd.DataFrame) -> list[str]:
    """What a reader has to know beside the numbers, and what to type next."""
    notes = []
    for row in board[board["data"] == "unverified"].drop_duplicates(["dataset", "provenance"]).itertuples(index=False):
        if row.runs:
            sentence = "its files don't have the official md5." if pd.isna(row.provenance) else clean(row.provenance)
            notes.append(f"Unverified data ({row.dataset}): {sentence}")
    if repeats := repeats_line(view):
        notes.append(repeats)
    if outdated := int(board["outdated"].sum()):
        notes.append(f"Not counted: {outdated} of another revision or recipe.")
    chosen = f" --suite {suite}" if suite else ""
    if more := len(board) - len(view):
        notes.append(f"{more} more of other profiles, data or sources: runner report{chosen} --format csv")
    models = view[view["model"].notna()]
    waiting = list(dict.fromkeys(models.loc[models["runs"] == 0, "model"]))
    if not models["runs"].any():
        what = f"No run of '{suite}' has ended yet" if suite else "No run has ended yet"
        notes.append(f"{what}. Start with: {SUBMIT} {suite or 'quickstart'}")
        return notes
    if waiting and suite:
        notes.append(f"Not run yet: {SUBMIT} {suite} {' '.join(f'--model {clean(name)}' for name in waiting)}")
    open_ = models[(models["runs"] > 0) & models["seeds_to_go"].gt(0)]
    for profile, rows in open_.groupby("profile", sort=False):
        counts = ", ".join(f"{clean(row.model)} {int(row.seeds_to_go)}" for row in rows.itertuples(index=False))
        names = " ".join(f"--model {clean(name)}" for name in dict.fromkeys(rows["model"]))
        chosen = f"{suite} {names}" if suite else f"SUITE {names}"
        flag = "" if profile == "reference" else f" --profile {profile}"
        notes.append(f"Seeds to go: {counts}. Run them: {SUBMIT} {chosen}{flag} --until-decided")
    if view["reported"].isna().all():
        notes.append(f"No source reports an error here. For measured beside reported errors: {SUBMIT} mnist")
    return notes


# --- the terminal ---------------------------------------------------------------------------------------------------


def print_table(
    console: Console, suite: str | None, board: pd.DataFrame, claims: pd.DataFrame, as_of: str = ""
) -> None:
    """The default view with its reasons, the claims, and what to type next."""
    view = concerning(board)
    for dataset, rows in view.groupby("dataset", sort=False):
        facts = get_dataset(str(dataset))
        console.print(Text(f"{facts.title} ({facts.test_size:,} test images)", style="bold"))
        console.print(_table(rows))
        console.print()
    if len(view):
        used = sorted(
            {letter for row in view.itertuples(index=False) for letter in marks_of(row)}, key="".join(MARKS).index
        )
        legend = LEGEND + "".join(f" {letter}: {MARKS[letter]}." for letter in used)
        console.print(Text(legend, style="dim"))
        console.print()
    _print_reasons(console, view)
    _print_claims(console, claims)
    _print_equivalences(console, make_equivalences(board))
    for note in _notes(suite, board, view):
        console.print(Text(note), soft_wrap=True)  # a command has to stay whole to be copied
    if as_of:
        console.print(Text(as_of, style="dim"), soft_wrap=True)


def _table(rows: pd.DataFrame) -> Table:
    marked = any(marks_of(row) for row in rows.itertuples(index=False))
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    table.add_column("#", justify="right")
    table.add_column("Model", overflow="fold")
    table.add_column("Error", justify="right", no_wrap=True)
    if marked:
        table.add_column("", no_wrap=True)
    for heading in ("Trained", "Paper", "Gap"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("Verdict", no_wrap=True)
    for rank, row in _ranked(rows):
        published = pd.isna(row.model)
        cells = [rank, clean(row.label), _error(row), trained_text(row), _reported(row), gap_of(row)]
        if marked:
            cells.insert(3, marks_of(row))
        style = "dim" if published else COLOURS[row.verdict]
        verdict = Text(verdict_words(row.verdict), style=style)
        table.add_row(*(Text(cell) for cell in cells), verdict, style="dim" if published else None)
    return table


def _print_reasons(console: Console, view: pd.DataFrame) -> None:
    rows = _with_reasons(view)
    if not rows:
        return
    console.print(Text("Why", style="bold"))
    for row in rows:
        line = Text.assemble((_about(row), "bold"), f": {clean(row.reason)}.")
        console.print(Padding(line, (0, 0, 0, 2)))
    console.print()


def _print_claims(console: Console, claims: pd.DataFrame) -> None:
    if not len(claims):
        return
    console.print(Text("Claims", style="bold"))
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column()
    for claim in claims.itertuples(index=False):
        said = f"{clean(claim.text)} ({clean(claim.paper)}, {clean(claim.where)})"
        table.add_row(Text(verdict_words(claim.verdict), style=COLOURS[claim.verdict]), Text(said))
        if claim.verdict != "not run":
            table.add_row("", Text(f"{clean(claim.reason)}{_measured_with(claim)}.", style="dim"))
    console.print(table)
    console.print()


def _print_equivalences(console: Console, found: pd.DataFrame) -> None:
    if not len(found):
        return
    console.print(Text("Profiles", style="bold"))
    for row in found.itertuples(index=False):
        line = Text.assemble(
            (verdict_words(row.verdict), COLOURS[row.verdict]), f" {_profiles(row)}: {clean(row.reason)}."
        )
        console.print(Padding(line, (0, 0, 0, 2)))
    console.print()


def _profiles(row: Any) -> str:
    """Which two profiles of what an equivalence is about."""
    unverified = " on unverified data" if row.data == "unverified" else ""
    return f"{clean(row.model)} on {row.dataset}{unverified}, {row.profile} beside reference"


def _measured_with(claim: Any) -> str:
    """On which rows a claim was judged, where they aren't the plain ones."""
    parts = ["profile fast"] * (claim.profile == "fast") + ["unverified data"] * (claim.data == "unverified")
    return f" ({', '.join(parts)})" if parts else ""


# --- Markdown -------------------------------------------------------------------------------------------------------


def _markdown(suite: str | None, board: pd.DataFrame, claims: pd.DataFrame, as_of: str) -> str:
    view = concerning(board)
    lines = [f"# {suite or 'Everything'}", ""]
    for dataset, rows in view.groupby("dataset", sort=False):
        facts = get_dataset(str(dataset))
        lines += [f"## {facts.title} ({facts.test_size:,} test images)", ""]
        lines += ["| # | Model | Error | Trained | Paper | Gap | Verdict |", "|--:|---|--:|--:|--:|--:|---|"]
        for rank, row in _ranked(rows):
            lines.append("| " + " | ".join([rank, *_markdown_cells(row)]) + " |")
        lines.append("")
    if len(view):
        lines += [LEGEND, ""]
    reasons = [f"- {_escape(_about(row))}: {_escape(row.reason)}." for row in _with_reasons(view)]
    if reasons:
        lines += ["## Why", "", *reasons, ""]
    if len(claims):
        lines += ["## Claims", "", "| Claim | Place | Verdict | Why |", "|---|---|---|---|"]
        for claim in claims.itertuples(index=False):
            place = f"{_escape(claim.paper)}, {_escape(claim.where)}"
            why = _escape(claim.reason) + _measured_with(claim)
            lines.append(f"| {_escape(claim.text)} | {place} | {verdict_words(claim.verdict)} | {why} |")
        lines.append("")
    profiles = [
        f"- {verdict_words(row.verdict)}: {_escape(_profiles(row))}: {_escape(row.reason)}."
        for row in make_equivalences(board).itertuples(index=False)
    ]
    if profiles:
        lines += ["## Profiles", "", *profiles, ""]
    notes = [f"- {_escape(note)}" for note in [*_notes(suite, board, view), *([as_of] * bool(as_of))]]
    return "\n".join(lines + notes).rstrip("\n") + "\n"


def _markdown_cells(row: Any) -> list[str]:
    """Model, error, trained, paper, gap, verdict."""
    marks = ", ".join(MARKS[letter].partition(":")[0] for letter in marks_of(row))
    error = _error(row) + (f" ({marks})" if marks else "")
    source = "" if pd.isna(row.reported) else f"{_reported(row)} ({_escape(row.paper)}, {_escape(row.where)})"
    return [_escape(row.label), error, trained_text(row), source, gap_of(row), verdict_words(row.verdict)]


def measured_table(board: pd.DataFrame) -> str:
    """One Markdown table of all data sets' rows that have runs: what a README shows."""
    lines = ["| Data set | Model | Error | Trained | Paper | Gap | Verdict |", "|---|---|--:|--:|--:|--:|---|"]
    for row in concerning(board[board["runs"] > 0]).itertuples(index=False):
        lines.append("| " + " | ".join([get_dataset(row.dataset).title, *_markdown_cells(row)]) + " |")
    return "\n".join(lines)


def _escape(value: Any) -> str:
    """Text that Markdown shows as it is: no table cell, link, emphasis or HTML of its own."""
    return "".join(f"\\{c}" if c in r"\`*_[]<>|#" else c for c in clean(value))
