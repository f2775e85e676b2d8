"""Write the report in LaTeX: one booktabs table per data set, with citations by the keys of `--format bibtex`."""

import pandas as pd

from benchmarks.datasets import get_dataset
from benchmarks.labels import Row, clean, gap_of, reported_text, trained_text, with_caveats, with_cited_rows
from benchmarks.latex import Raw, escape, table

HEAD = "% needs \\usepackage{array,booktabs}; the entries: runner report --format bibtex\n"
COLUMNS = (r">{\raggedright\arraybackslash}p{0.24\linewidth}", "r", "r", "r", "r", "l")  # long labels take two lines


def latex(suite: str | None, board: pd.DataFrame, as_of: str) -> str:
    """Return the default view of a board, ending with a newline."""
    view = with_cited_rows(board)
    tables = []
    for dataset, rows in view.groupby("dataset", sort=False):
        facts = get_dataset(str(dataset))
        cells = [_cells(row) for row in rows.itertuples(index=False)]
        caption = f"Test errors on {facts.title} in percent: mean and 95 % interval over seeds, and as printed. {as_of}"
        heads = ["Model", "Measured", "Seeds", "Reported", "Gap", "Verdict"]
        tables.append(table(heads, cells, COLUMNS, caption.strip(), f"tab:{suite or 'reprozoo'}-{dataset}"))
    return HEAD + "\n".join(tables) if tables else f"{HEAD}% no row\n"


def _cells(row: Row) -> list[str]:
    cited = Raw(f"{escape(reported_text(row))}~\\cite{{{row.paper}}}") if reported_text(row) else ""
    verdict = "published only" if pd.isna(row.model) else row.verdict
    return [clean(row.label), with_caveats(row), trained_text(row), cited, gap_of(row).replace("-", "−"), verdict]
