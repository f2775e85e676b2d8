"""Print the leaderboard for `runner report`: terminal table, Markdown, LaTeX, CSV, JSON, and BibTeX of its sources.

Table, Markdown and LaTeX show the default view; CSV and JSON have every row and column.
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import pandas as pd

from benchmarks.bibliography import bibliography
from benchmarks.checkout import commit_of, root
from benchmarks.errors import UserError, unknown
from benchmarks.labels import as_csv, as_json, as_of_line, unpublished_line
from benchmarks.leaderboard import Evidence, make_board, make_choices, make_claims, make_paper_table, read
from benchmarks.papers import Paper
from benchmarks.suites import get_suite
from runner.jobs.paths import results_folder, runs_folder
from runner.reporting import tables
from runner.reporting.formats import Format
from runner.reporting.latex import latex
from runner.reporting.markdown import markdown, measured_table
from runner.reporting.terminal import print_table, printed


@dataclass(frozen=True)
class Selection:
    """The part of the results to report."""

    suite: str | None = None
    measured: bool = False  # only rows with runs
    paper: str | None = None  # a source's own tables instead of the board
    table: str | None = None  # only this one
    holdout: bool = False  # the choices made on held-out images instead of the board
    models: Sequence[str] = ()  # only these; empty: all

    def check(self) -> None:
        """Raise UserError for options that exclude each other."""
        if self.table is not None and self.paper is None:
            raise UserError(f"--table '{self.table}' needs the option --paper KEY, the source of the table")
        if self.paper is not None and (self.holdout or self.measured or self.suite or self.models):
            raise UserError("--paper can't be combined with --suite, --model, --measured or --holdout: leave them out")
        if self.holdout and self.measured:
            raise UserError("--holdout can't be combined with --measured: leave one out")


def show(selection: Selection, fmt: str) -> None:
    """Print a report from this checkout's results and runs."""
    selection.check()
    if selection.suite is not None and get_suite(selection.suite).overrides.get("holdout"):
        selection = replace(selection, holdout=True)  # such a suite compares settings; its runs are on no board
    evidence = read(results_folder(), runs_folder())
    if evidence.problems:
        count, first = len(evidence.problems), evidence.problems[0]
        several = f"1 of {count} problems (runner verify lists all): " if count > 1 else ""
        print(f"runner: {several}{first}", file=sys.stderr)
    special = selection.paper or selection.holdout
    sys.stdout.write(_special(selection, evidence, fmt) if special else _board(selection, evidence, fmt))


def _special(selection: Selection, evidence: Evidence, fmt: str) -> str:
    """Return a source's own tables, or the choices on held-out images."""
    commit = commit_of(root())
    if selection.paper is not None:
        board = make_board(evidence)
        as_of = as_of_line(board["newest"].max(), commit)
        if selection.paper not in evidence.papers:
            raise unknown("source", selection.paper, evidence.papers)
        paper = evidence.papers[selection.paper]
        frame = make_paper_table(board, paper, selection.table)
        if fmt == "bibtex":
            return bibliography(frame["dataset"].unique(), [paper.key], evidence.papers, as_of)
        return tables.write(frame, tables.paper_cells(frame, paper), fmt, paper.key, as_of)
    runs = _of(selection, evidence.runs)[0]
    frame = make_choices(runs)
    if frame.empty and fmt == "table":
        return "No run with held-out images has ended. Start with: runner submit --suite SUITE --model MODEL --set holdout=N\n"
    newest = runs.loc[runs["standing"] == "validation", "finished"].max()
    return tables.write(frame, tables.choice_cells(frame), fmt, "holdout", as_of_line(newest, commit))


def _board(selection: Selection, evidence: Evidence, fmt: str) -> str:
    """Return the board of a suite, or of everything."""
    runs, datasets, models = _of(selection, evidence.runs)
    board = make_board(evidence, datasets, models)
    claims = make_claims(board, evidence.papers)
    if selection.models:
        board = board[board["model"].isin(selection.models)]
        claims = claims[claims["better"].isin(selection.models) | claims["worse"].isin(selection.models)]
    if selection.measured:
        board = board[board["runs"] > 0]
        claims = claims[claims["verdict"] != "not run"]
    as_of = as_of_line(board["newest"].max(), commit_of(root()))
    unpublished = unpublished_line(runs)
    if selection.measured and fmt == "markdown":
        return measured_table(board) + "\n"
    if fmt in ("table", "markdown"):
        as_of = f"{unpublished} {as_of}".strip()
    return render(selection.suite, board, claims, evidence.papers, fmt, as_of=as_of)


def _of(selection: Selection, runs: pd.DataFrame) -> tuple[pd.DataFrame, tuple[str, ...] | None, set[str] | None]:
    """Return the selected runs, and the suite's data sets and models; None for these without a suite.

    Raise UserError for a selected model that is not in the suite, or without a suite not in the zoo.
    """
    if selection.suite is None and not selection.models:
        return runs, None, None
    from runner.submit.plan import check_members, models_of
    from zoo import load_models

    zoo = load_models()
    if selection.suite is None:
        for name in selection.models:
            if name not in zoo:
                raise unknown("model", name, zoo)
        return runs[runs["model"].isin(selection.models)], None, None
    suite = get_suite(selection.suite)
    check_members(selection.models, suite, zoo)
    models = set(models_of(suite, zoo))
    of_suite = runs["dataset"].isin(suite.datasets) & runs["model"].isin(selection.models or models)
    return runs[of_suite], suite.datasets, models


def render(
    suite: str | None,
    board: pd.DataFrame,
    claims: pd.DataFrame,
    papers: Mapping[str, Paper],
    fmt: str,
    width: int | None = None,
    as_of: str = "",
) -> str:
    """Return the report of a suite (None: everything), ending with a newline; raise UserError for an unknown format."""
    if fmt == "json":
        return as_json(board)
    if fmt == "csv":
        return as_csv(board)
    if fmt == "bibtex":
        return bibliography(board["dataset"].unique(), board["paper"].dropna(), papers, as_of)
    if fmt == "latex":
        return latex(suite, board, as_of)
    if fmt == "markdown":
        return markdown(suite, board, claims, as_of)
    if fmt == "table":
        return printed(lambda console: print_table(console, suite, board, claims, as_of), width)
    raise unknown("format", fmt, Format)
