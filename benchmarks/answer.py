"""Summarise in a sentence how many printed numbers were checked, and with which verdicts."""

from collections import Counter
from dataclasses import dataclass, field

import pandas as pd

from benchmarks.board import default_view
from benchmarks.labels import verdict_words
from benchmarks.plural import number

CHECKED = ("reproduced", "better", "worse", "inconclusive")  # verdicts that need enough comparable seeds


@dataclass(frozen=True)
class Answer:
    """Counts of printed numbers with a network in the zoo, each counted once. `checked` counts verified data only."""

    printed: int
    checked: Counter[str] = field(default_factory=Counter)
    begun: int = 0  # has runs, but too few seeds
    different: int = 0  # has runs, but its protocol differs from the source's
    unverified: Counter[str] = field(default_factory=Counter)  # checked on unverified data only
    sequential: int = 0  # of the checked: seeds were added after an interim analysis
    forced: int = 0  # of the checked: a run was resumed with another build, device, code or data


def answer_of(board: pd.DataFrame) -> Answer:
    """Count the printed numbers of a board, which has the rows of one data set or of all."""
    ours = board[board["model"].notna() & board["reported"].notna()]
    official = default_view(ours[ours["data"] != "unverified"])
    checked = official[official["verdict"].isin(CHECKED)]
    checked_pairs = set(zip(checked["dataset"], checked["model"], strict=True))
    unofficial = default_view(ours[ours["data"] == "unverified"])
    unofficial = unofficial[unofficial["verdict"].isin(CHECKED)]
    pairs = zip(unofficial["dataset"], unofficial["model"], strict=True)
    is_new = pd.Series([pair not in checked_pairs for pair in pairs], index=unofficial.index, dtype=bool)
    return Answer(
        printed=len(ours.drop_duplicates(["dataset", "model"])),
        checked=Counter(checked["verdict"]),
        begun=int(((official["verdict"] == "more seeds") & (official["runs"] > 0)).sum()),
        different=int((official["verdict"] == "not comparable").sum()),
        unverified=Counter(unofficial.loc[is_new, "verdict"]),
        sequential=int(checked["sequential"].astype(bool).sum()),
        forced=int(checked["forced"].astype(bool).sum()),
    )


def answer_sentence(answer: Answer) -> str:
    """Return the counts as a sentence.

    Example: `Of 41 printed numbers with a network in this zoo, 11 have a verdict: 8 ✓ reproduced, 3 ▲ worse.`
    """
    if not answer.printed:
        return "No printed number has a network in this zoo."
    total = answer.checked.total()
    start = f"Of {number(answer.printed, 'printed number')} with a network in this zoo, "
    if not total:
        return start + "none has a verdict yet."
    return start + f"{total} {'have' if total > 1 else 'has'} a verdict: {_counts(answer.checked)}."


def answer_details(answer: Answer) -> list[str]:
    """Return the caveats to the sentence, one sentence each."""
    lines = []
    if answer.begun:
        lines.append(f"{answer.begun} more {_have(answer.begun)} runs, but too few seeds for a verdict.")
    if answer.different:
        lines.append(f"{answer.different} {_have(answer.different)} runs under another protocol than the source's.")
    if answer.unverified:
        lines.append(f"Counted separately, on unverified data: {_counts(answer.unverified)}.")
    if answer.sequential:
        lines.append(f"In {answer.sequential} of them, seeds were added after looking at results.")
    if answer.forced:
        lines.append(f"In {answer.forced} of them, a run was resumed with another build, device, code or data.")
    return lines


def _have(count: int) -> str:
    return "have" if count > 1 else "has"


def _counts(counts: Counter[str]) -> str:
    return ", ".join(f"{counts[word]} {verdict_words(word)}" for word in CHECKED if counts[word])
