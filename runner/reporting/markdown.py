"""Write the report in Markdown."""

from collections.abc import Sequence

import pandas as pd

from benchmarks.datasets import get_dataset
from benchmarks.labels import (
    LEGEND,
    Row,
    clean,
    equivalence_sentence,
    gap_of,
    measured_with,
    reported_text,
    title_of,
    trained_text,
    verdict_words,
    with_caveats,
    with_cited_rows,
)
from benchmarks.leaderboard import make_equivalences
from runner.reporting.texts import notes_of, ranked, reasons_of


def markdown(suite: str | None, board: pd.DataFrame, claims: pd.DataFrame, as_of: str) -> str:
    """Return the default view with its reasons and claims, ending with a newline."""
    view = with_cited_rows(board)
    lines = [f"# {suite or 'Everything'}", ""]
    for dataset, rows in view.groupby("dataset", sort=False):
        facts = get_dataset(str(dataset))
        lines += [f"## {facts.title} ({facts.test_size:,} test images)", ""]
        lines += ["| # | Model | Error | Trained | Paper | Gap | Verdict |", "|--:|---|--:|--:|--:|--:|---|"]
        for rank, row in ranked(rows):
            lines.append("| " + " | ".join([rank, *_markdown_cells(row)]) + " |")
        lines.append("")
    if len(view):
        lines += [LEGEND, ""]
    reasons = [f"- {escape(name)}: {escape(reason)}" for name, reason in reasons_of(view)]
    if reasons:
        lines += ["## Why", "", *reasons, ""]
    if len(claims):
        lines += ["## Claims", "", "| Claim | Place | Verdict | Why |", "|---|---|---|---|"]
        for claim in claims.itertuples(index=False):
            place = f"{escape(claim.paper)}, {escape(claim.where)}"
            why = escape(claim.reason) + measured_with(claim)
            lines.append(f"| {escape(claim.text)} | {place} | {verdict_words(claim.verdict)} | {why} |")
        lines.append("")
    profiles = [f"- {escape(equivalence_sentence(row))}" for row in make_equivalences(board).itertuples(index=False)]
    if profiles:
        lines += ["## Profiles", "", *profiles, ""]
    notes = notes_of(suite, board, view)
    if as_of:
        notes = [*notes, as_of]
    return "\n".join(lines + [f"- {escape(note)}" for note in notes]).rstrip("\n") + "\n"


def _markdown_cells(row: Row) -> list[str]:
    """Return model, error, trained, paper, gap, verdict."""
    place = "" if pd.isna(row.reported) else f" ({escape(row.paper)}, {escape(row.where)})"
    source = reported_text(row) + place
    return [
        escape(title_of(row)),
        with_caveats(row),
        trained_text(row),
        source,
        gap_of(row),
        verdict_words(row.verdict),
    ]


def measured_table(board: pd.DataFrame) -> str:
    """Return one Markdown table of every row with runs, for a README."""
    lines = ["| Data set | Model | Error | Trained | Paper | Gap | Verdict |", "|---|---|--:|--:|--:|--:|---|"]
    for row in with_cited_rows(board[board["runs"] > 0]).itertuples(index=False):
        lines.append("| " + " | ".join([get_dataset(row.dataset).title, *_markdown_cells(row)]) + " |")
    return "\n".join(lines)


def escape(value: object) -> str:
    """Return text in which Markdown finds no table cell, link, emphasis or HTML."""
    return "".join(f"\\{c}" if c in r"\`*_[]<>|#" else c for c in clean(value))


def cells_table(title: str, heads: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> str:
    """Return a table with a heading: `left` columns of text, then numbers, and text in the last column."""
    rules = ["---" if i < left or i == len(heads) - 1 else "--:" for i in range(len(heads))]
    lines = [f"## {escape(title)}", "", f"| {' | '.join(heads)} |", f"|{'|'.join(rules)}|"]
    lines += [f"| {' | '.join(map(escape, row))} |" for row in rows]
    return "\n".join(lines) + "\n"
