"""Write the README's finding and its table of measured results from the published records (`make results`)."""

import textwrap
from pathlib import Path

import pandas as pd

from benchmarks.datasets import get_dataset
from benchmarks.labels import SYMBOLS
from benchmarks.leaderboard import default_view, make_board, read
from runner.reporting.markdown import error_text, escape, measured_table

ROOT = Path(__file__).resolve().parent.parent
JUDGED = ("reproduced", "better", "worse", "inconclusive")  # verdicts that need five seeds and a comparable protocol
NAMED = 3  # up to this many results are described one by one


def finding(board: pd.DataFrame) -> str:
    """Return how many printed numbers have a verdict. If they are few, describe each of them."""
    view = default_view(board)
    rows = list(view[view["verdict"].isin(JUDGED)].itertuples(index=False))
    if not rows:
        return "No printed number has a verdict yet."
    numbers = "1 printed number has" if len(rows) == 1 else f"{len(rows)} printed numbers have"
    counts = {word: sum(row.verdict == word for row in rows) for word in SYMBOLS}
    totals = ", ".join(f"{count} `{word}`" for word, count in counts.items() if count)
    sentences = [f"**{numbers} a verdict so far: {totals}.**"]
    if len(rows) <= NAMED:
        for row in rows:
            where = f"{escape(row.label)} on {get_dataset(row.dataset).title}"
            data = ", on unverified data files" if row.data == "unverified" else ""
            sentences.append(
                f"{where}: printed {row.printed} %, measured {error_text(row)} % over {row.n} seeds{data}: {row.verdict}."
            )
    return "\n".join(textwrap.wrap(" ".join(sentences), 120, break_on_hyphens=False))


def readme() -> str:
    """Return the README with the content of each marked place up to date."""
    board = make_board(read(ROOT / "results"))
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for name, content in (("make results: finding", finding(board)), ("make results", measured_table(board))):
        start, after = f"<!-- {name} -->\n", "<!-- end -->"
        head, _, rest = text.partition(start)
        text = f"{head}{start}{content}\n{after}{rest.partition(after)[2]}"
    return text


if __name__ == "__main__":
    (ROOT / "README.md").write_text(readme(), encoding="utf-8")
