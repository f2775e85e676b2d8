"""Write the README's finding and its table of measured results from the published records (`make results`)."""

import textwrap
from pathlib import Path

import pandas as pd

from benchmarks.answer import answer_details, answer_of, answer_sentence
from benchmarks.leaderboard import make_board, read
from runner.reporting.markdown import measured_table

ROOT = Path(__file__).resolve().parent.parent


def finding(board: pd.DataFrame) -> str:
    """Return how many printed numbers have which verdict, as the site counts them, with the caveats."""
    answer = answer_of(board)
    sentences = [f"**{answer_sentence(answer)}**", *answer_details(answer)]
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
