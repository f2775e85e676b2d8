"""What the numbers say about two models, or two ways of training: claims of papers, and the profiles' equivalence.

Differences, intervals and margins are in percentage points, shares in percent of an error.
"""

from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

from benchmarks.intervals import Difference, Sample, spell, welch, welch_ratio
from benchmarks.verdicts import MIN_SEEDS, MIN_TRAINED

EQUIVALENCE_LEVEL = 0.90  # two one-sided tests at 1 in 20 each
EQUIVALENCE_SEEDS = 10  # of each profile

ClaimWord = Literal["not run", "more seeds", "holds", "fails", "inconclusive"]
EquivalenceWord = Literal["equivalent", "different", "not yet known"]


@dataclass(frozen=True)
class Asserted:
    """What a source says of two errors."""

    share: float = 0.0  # percent of the worse error by which the better one is lower, at least
    margin: float | None = None  # where it says that they are equal: by how much they may differ and count as equal
    difference: float | None = None  # the source's own, worse - better


@dataclass(frozen=True)
class ClaimVerdict:
    """The word, why, and what was measured (None below 2 seeds a side)."""

    word: ClaimWord
    reason: str
    difference: Difference | None = None  # worse - better
    reduction: Difference | None = None  # by which share of the worse error the better one is lower, percent


@dataclass(frozen=True)
class Equivalence:
    """The word, why, and the measured difference (second - first; None below 2 seeds a side)."""

    word: EquivalenceWord
    reason: str
    difference: Difference | None = None


def claim_verdict(
    better: Sample, worse: Sample, names: tuple[str, str] = ("the one", "the other"), asserted: Asserted = Asserted()
) -> ClaimVerdict:
    """Return the verdict over "better has a lower error than worse", "by more than a share of it", or "they are equal".

    The interval is two-sided at 90 % and of Welch's kind: of the difference, of the ratio where a share is asserted. It
    has to lie wholly on the claimed side (`holds`) or wholly on the other (`fails`). Equality holds where the interval lies
    wholly within the margin, and fails where it lies wholly beyond it: two one-sided tests.
    """
    sides = (better, worse)
    missing = [name for name, side in zip(names, sides, strict=True) if not side.runs]
    if missing:
        return ClaimVerdict("not run", f"no run of {' and of '.join(missing)} has ended")
    counts = (better.n, worse.n)
    enough = min(counts) >= 2
    difference = welch(better.errors, worse.errors) if enough else None
    ratio = welch_ratio(better.errors, worse.errors) if enough else None
    reduction = Difference(*(100 * (1 - r) for r in (ratio.value, ratio.high, ratio.low))) if ratio else None
    if min(counts) < MIN_SEEDS or difference is None:
        had = " and ".join(f"{n} of {name}" for n, name in zip(counts, names, strict=True))
        why = f"{had} finished, {MIN_SEEDS} of each are needed"
        return ClaimVerdict("more seeds", why, difference, reduction)

    seeds = f"{counts[0]} and {counts[1]} seeds"
    if asserted.margin is not None:
        word, why = _equal(difference, asserted.margin, names, seeds)
    elif asserted.share:
        word, why = _lower_by_share(reduction, asserted.share, names, seeds)
    else:
        word, why = _lower(sides, difference, names, seeds)
    if asserted.difference is not None:
        why += f"; the paper's own difference is {asserted.difference:.2f}"
    rare = [
        f"{name}: {side.n} of {side.seeds}"
        for name, side in zip(names, sides, strict=True)
        if side.n / side.seeds < MIN_TRAINED
    ]
    return ClaimVerdict(word, (f"when it trains ({', '.join(rare)}), " if rare else "") + why, difference, reduction)


def _lower(
    sides: tuple[Sample, Sample], difference: Difference, names: tuple[str, str], seeds: str
) -> tuple[ClaimWord, str]:
    size, low, high, *means = spell(abs(difference.value), difference.low, difference.high, *(s.mean for s in sides))
    if len(size.rpartition(".")[2]) == 2:  # else there are digits enough to be exact
        size = str(abs(Decimal(means[0]) - Decimal(means[1])))
    relation = "below" if difference.value > 0 else "above"
    found = f"{names[0]} ({means[0]}) is {size} {relation} {names[1]} ({means[1]})"
    found = found if difference.value else f"{' and '.join(names)} are equal ({means[0]})"
    word: ClaimWord = "holds" if difference.low > 0 else "fails" if difference.high < 0 else "inconclusive"
    return word, f"{found} (90 % Welch interval {low} to {high}, {seeds})"


def _lower_by_share(
    reduction: Difference | None, share: float, names: tuple[str, str], seeds: str
) -> tuple[ClaimWord, str]:
    if reduction is None:
        return "inconclusive", f"every seed of {names[1]} has an error of 0: there is no share of it"
    word: ClaimWord = "holds" if reduction.low > share else "fails" if reduction.high < share else "inconclusive"
    relation = f"{abs(reduction.value):.1f} % {'below' if reduction.value >= 0 else 'above'}"
    interval = f"90 % interval {reduction.low:.1f} to {reduction.high:.1f} %, {seeds}"
    return word, f"{names[0]}'s error is {relation} {names[1]}'s ({interval}); claimed is more than {share:g} %"


def _equal(difference: Difference, margin: float, names: tuple[str, str], seeds: str) -> tuple[ClaimWord, str]:
    word: ClaimWord = "inconclusive"
    if -margin < difference.low and difference.high < margin:
        word = "holds"
    elif difference.low > margin or difference.high < -margin:
        word = "fails"
    where = {"holds": "within", "fails": "beyond", "inconclusive": "partly within"}[word]
    size, low, high, near = spell(difference.value, difference.low, difference.high, margin)
    found = f"{names[1]} - {names[0]} is {size} (90 % Welch interval {low} to {high}, {seeds})"
    return word, f"{found}, {where} a margin of ±{near}"


def equivalence(
    first: Sample, second: Sample, *, margin: float, names: tuple[str, str] = ("the one", "the other")
) -> Equivalence:
    """Return whether two ways of training have the same mean error but for `margin`: two one-sided tests (TOST).

    Equivalent where the 90 % interval of the difference lies wholly within the margin, different where it lies wholly
    beyond it; more seeds turn neither into the other.
    """
    counts = (first.n, second.n)
    difference = welch(first.errors, second.errors, EQUIVALENCE_LEVEL) if min(counts) >= 2 else None
    if difference is None or min(counts) < EQUIVALENCE_SEEDS:
        had = " and ".join(f"{n} of {name}" for n, name in zip(counts, names, strict=True))
        return Equivalence("not yet known", f"{had} finished, {EQUIVALENCE_SEEDS} of each are needed", difference)
    found, why = _equal(difference, margin, names, f"{counts[0]} and {counts[1]} seeds")
    words: dict[ClaimWord, EquivalenceWord] = {"holds": "equivalent", "fails": "different"}
    return Equivalence(words.get(found, "not yet known"), why, difference)
