"""Write the tables of `runner report --paper` and `--holdout` in any format: a source's own tables, and hold-out choices."""

from collections.abc import Sequence

import pandas as pd
from rich.console import Console

from benchmarks import latex
from benchmarks.datasets import get_dataset
from benchmarks.errors import UserError
from benchmarks.labels import SYMBOLS, as_csv, as_json, conditions_of, error_text, gap_of, trained_text, verdict_words
from benchmarks.papers import Paper
from runner.reporting import markdown, terminal

Cells = tuple[str, Sequence[str], list[list[str]], int]  # title, headings, rows, how many columns of text come first


def paper_cells(frame: pd.DataFrame, paper: Paper) -> list[Cells]:
    """Return one table for each place of the source, with a data set column if it has several."""
    tables: list[Cells] = []
    for where, rows in frame.groupby("where", sort=False):
        several = rows["dataset"].nunique() > 1
        title = f"{paper.title}, {where}" + ("" if several else f": {get_dataset(rows['dataset'].iloc[0]).title}")
        heads = ["As printed", *["Data set"] * several, "Model here", "Printed", "Measured", "Seeds", "Gap", "Verdict"]
        cells = []
        for row in rows.itertuples(index=False):
            verdict = "" if pd.isna(row.model) else "not judged"
            verdict = verdict if pd.isna(row.verdict) else verdict_words(row.verdict)
            name = "" if pd.isna(row.model) else row.model
            first = [row.label, *[get_dataset(row.dataset).title] * several, name]
            measured = error_text(row) + (f" ({row.caveats})" if row.caveats else "")
            cells.append([*first, row.printed, measured, trained_text(row), gap_of(row), verdict])
        tables.append((title, heads, cells, 2 + several))
    return tables


def choice_cells(frame: pd.DataFrame) -> list[Cells]:
    """Return one table for each model and data set: settings with their errors on held-out images, the best first."""
    tables: list[Cells] = []
    for (dataset, model), rows in frame.groupby(["dataset", "model"], sort=False):
        title = f"{model} on {get_dataset(dataset).title}: errors on held-out training images"
        heads = ["Setting", "Images", "Error", "Seeds", "Of"]
        cells = []
        for row in rows.itertuples(index=False):
            of = [f"revision {row.revision}", *conditions_of(row)]
            cells.append(
                [row.setting or "the recipe", f"{row.holdout:,}", error_text(row), trained_text(row), ", ".join(of)]
            )
        tables.append((title, heads, cells, 1))
    return tables


def write(frame: pd.DataFrame, tables: list[Cells], fmt: str, name: str, as_of: str) -> str:
    """Return the text of a frame in a format. Raise UserError for BibTeX."""
    if fmt == "json":
        return as_json(frame)
    if fmt == "csv":
        return as_csv(frame)
    if fmt == "bibtex":
        raise UserError(
            "--format is bibtex, which --holdout does not support: expected table, markdown, csv, json or latex"
        )
    if fmt == "markdown":
        return "\n".join([*(markdown.cells_table(*table) for table in tables), f"{markdown.escape(as_of)}\n"])
    if fmt == "latex":
        head = "% needs \\usepackage{booktabs}\n"
        return head + "\n".join(_latex(table, f"tab:{name}-{i}", as_of) for i, table in enumerate(tables, start=1))

    def draw(console: Console) -> None:
        for table in tables:
            terminal.print_cells(console, *table)
        console.print(as_of, style="dim", soft_wrap=True, highlight=False, markup=False)

    return terminal.printed(draw)


def _latex(table: Cells, label: str, as_of: str) -> str:
    title, heads, rows, left = table
    columns = "".join("l" if i < left or i == len(heads) - 1 else "r" for i in range(len(heads)))
    symbols = "".join(SYMBOLS.values())  # LaTeX's fonts lack most of them
    plain = [[*row[:-1], row[-1].lstrip(f"{symbols} ")] for row in rows]
    return latex.table(heads, plain, columns, f"{title}. {as_of}", label)
