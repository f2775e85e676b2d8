"""Write the README's finding and its table of measured results from the published records (`make results`)."""

import textwrap
from pathlib import Path

import pandas as pd

from benchmarks.answer import CHECKED, answer_details, answer_of, answer_sentence
from benchmarks.board import default_view
from benchmarks.datasets import get_dataset
from benchmarks.labels import MARKS, conditions_of, in_brackets, reported_text, verdict_words, with_caveats
from benchmarks.leaderboard import make_board, make_claims, read
from benchmarks.plural import number
from runner.reporting.markdown import escape, measured_table

ROOT = Path(__file__).resolve().parent.parent


def finding(board: pd.DataFrame, claims: pd.DataFrame) -> str:
    """Return a line for each printed number and claim with a verdict, and how many numbers have which, with the caveats."""
    answer = answer_of(board)
    sentences = [answer_sentence(answer), *answer_details(answer)]
    counts = "\n".join(textwrap.wrap(" ".join(sentences), 120, break_on_hyphens=False))
    items = [*judged_numbers(board), *judged_claims(claims)]
    return "\n".join([*items, "", counts]) if items else counts


def judged_numbers(board: pd.DataFrame) -> list[str]:
    """Return a list item for each printed number that has a verdict."""
    view = default_view(board)
    judged = view[view["verdict"].isin(CHECKED) & view["reported"].notna()]
    return [
        f"- **{escape(row.label)}**, {get_dataset(row.dataset).title}: printed {reported_text(row)}, measured "
        f"{with_caveats(row)} over {number(row.n, 'seed')}: {verdict_words(row.verdict)}"
        for row in judged.itertuples(index=False)
    ]


def judged_claims(claims: pd.DataFrame) -> list[str]:
    """Return a list item for each claim that holds or fails."""
    items = []
    for row in claims[claims["verdict"].isin(["holds", "fails"])].itertuples(index=False):
        caveats = conditions_of(row)
        if row.sequential:
            caveats.append(MARKS["S"])
        printed = "" if pd.isna(row.reported_difference) else f"printed difference {row.reported_difference:.2f}, "
        measured = f"measured {row.difference:.2f}{in_brackets(', '.join(caveats))}"
        source = f"{escape(row.paper)}, {escape(row.where)}"
        items.append(
            f"- **{escape(row.text.rstrip('.'))}** ({source}): {printed}{measured}: {verdict_words(row.verdict)}"
        )
    return items


def readme() -> str:
    """Return the README with the content of each marked place up to date."""
    evidence = read(ROOT / "results")
    board = make_board(evidence)
    claims = make_claims(board, evidence.papers)
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for name, content in (("make results: finding", finding(board, claims)), ("make results", measured_table(board))):
        start, after = f"<!-- {name} -->\n", "<!-- end -->"
        head, _, rest = text.partition(start)
        text = f"{head}{start}{content}\n{after}{rest.partition(after)[2]}"
    return text


if __name__ == "__main__":
    (ROOT / "README.md").write_text(readme(), encoding="utf-8")
