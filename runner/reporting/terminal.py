"""Print the report as tables on a terminal."""

from collections.abc import Callable, Sequence

import pandas as pd
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from benchmarks.datasets import get_dataset
from benchmarks.labels import (
    LEGEND,
    MARKS,
    clean,
    equivalence_sentence,
    error_text,
    gap_of,
    marks_of,
    measured_with,
    reported_text,
    title_of,
    trained_text,
    verdict_words,
    with_cited_rows,
)
from benchmarks.leaderboard import make_equivalences
from runner.reporting.texts import notes_of, ranked, reasons_of

COLOURS = {  # in addition to symbol and word, which suffice without colour
    "reproduced": "green",
    "better": "green",
    "worse": "red",
    "inconclusive": "yellow",
    "more seeds": "yellow",
    "not comparable": "yellow",
    "not run": "dim",
    "not judged": "dim",
    "holds": "green",
    "fails": "red",
    "equivalent": "green",
    "different": "red",
    "not yet known": "yellow",
}


LONGEST_NUMBER = 14  # characters of `24.63 ± 0.24` and the like, which stay on one line


def printed(draw: Callable[[Console], None], width: int | None = None) -> str:
    """Return what `draw` prints on a console with the colours of stdout and its width, or the given one."""
    console = Console(width=width)
    with console.capture() as captured:
        draw(console)
    return "".join(f"{line.rstrip()}\n" for line in captured.get().splitlines())


def print_table(
    console: Console, suite: str | None, board: pd.DataFrame, claims: pd.DataFrame, as_of: str = ""
) -> None:
    """Print the default view with its reasons, the claims, and the next commands."""
    view = with_cited_rows(board)
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
    for note in notes_of(suite, board, view):
        console.print(Text(note), soft_wrap=True)  # soft wrap keeps a command in one piece for copying
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
    for rank, row in ranked(rows):
        published = pd.isna(row.model)
        cells = [rank, title_of(row), error_text(row), trained_text(row), reported_text(row), gap_of(row)]
        if marked:
            cells.insert(3, marks_of(row))
        style = "dim" if published else COLOURS[row.verdict]
        verdict = Text(verdict_words(row.verdict), style=style)
        table.add_row(*(Text(cell) for cell in cells), verdict, style="dim" if published else None)
    return table


def _print_reasons(console: Console, view: pd.DataFrame) -> None:
    reasons = reasons_of(view)
    if not reasons:
        return
    console.print(Text("Why", style="bold"))
    for name, reason in reasons:
        line = Text.assemble((name, "bold"), f": {reason}")
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
        claim_text = f"{clean(claim.text)} ({clean(claim.paper)}, {clean(claim.where)})"
        table.add_row(Text(verdict_words(claim.verdict), style=COLOURS[claim.verdict]), Text(claim_text))
        if claim.verdict != "not run":
            table.add_row("", Text(f"{clean(claim.reason)}{measured_with(claim)}.", style="dim"))
    console.print(table)
    console.print()


def _print_equivalences(console: Console, rows: pd.DataFrame) -> None:
    if not len(rows):
        return
    console.print(Text("Profiles", style="bold"))
    for row in rows.itertuples(index=False):
        line = Text(equivalence_sentence(row))
        line.stylize(COLOURS[row.verdict], 0, len(verdict_words(row.verdict)))
        console.print(Padding(line, (0, 0, 0, 2)))
    console.print()


def print_cells(
    console: Console, title: str, heads: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1
) -> None:
    """Print a plain table: `left` columns of text, then right-aligned numbers, and text in the last column.

    A number with a long caveat is wrapped, so that the other columns keep their room.
    """
    console.print(Text(title, style="bold"))
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for position, head in enumerate(heads):
        text = position < left or position == len(heads) - 1
        whole = not text and all(len(row[position]) <= LONGEST_NUMBER for row in rows)
        table.add_column(head, justify="left" if text else "right", overflow="fold", no_wrap=whole)
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    console.print(table)
    console.print()
