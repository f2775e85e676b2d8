"""Compare two models, or two ways of training: the claims of papers, and the equivalence of the profiles.

Differences, intervals and margins are in percentage points, shares in percent of an error.
"""

from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

from benchmarks.intervals import Difference, Sample, distinct_texts, welch, welch_ratio
from benchmarks.verdicts import MIN_SEEDS, MIN_TRAINED, SEEDS_ADDED

EQUIVALENCE_LEVEL = 0.90  # two one-sided tests at 5 % each
EQUIVALENCE_SEEDS = 10  # of each profile

ClaimWord = Literal["not run", "more seeds", "holds", "fails", "inconclusive"]
EquivalenceWord = Literal["equivalent", "different", "not yet known"]


@dataclass(frozen=True)
class Assertion:
    """What a source says about two errors."""

    share: float = 0.0  # the better error is lower by at least this percentage of the worse one
    margin: float | None = None  # for a claim of equality: errors that differ by less count as equal
    difference: float | None = None  # between the source's own errors, worse - better


@dataclass(frozen=True)
class ClaimVerdict:
    """The word, its reason, and the measured difference (None if either side has fewer than 2 seeds)."""

    word: ClaimWord
    reason: str
    difference: Difference | None = None  # worse - better
    reduction: Difference | None = None  # by what percentage of the worse error the better one is lower


@dataclass(frozen=True)
class Equivalence:
    """The word, its reason, and the measured difference (second - first; None if either side has fewer than 2 seeds)."""

    word: EquivalenceWord
    reason: str
    difference: Difference | None = None


def claim_verdict(
    better: Sample,
    worse: Sample,
    names: tuple[str, str] = ("the one", "the other"),
    assertion: Assertion = Assertion(),
    sequential: bool = False,
) -> ClaimVerdict:
    """Return the verdict on a claim: `better` has a lower error than `worse`, lower by more than a share, or an equal one.

    The interval is Welch's two-sided 90 % interval of the difference, or of the ratio if a share is claimed. The claim holds
    if the whole interval is on the claimed side, fails if the whole interval is on the other side, and is inconclusive
    otherwise. Equality holds if the whole interval is within the margin and fails if it is wholly outside: two one-sided tests.
    `sequential` says that seeds were added to either side after looking at results, which the reason then mentions.
    """
    sides = (better, worse)
    missing = [name for name, side in zip(names, sides, strict=True) if not side.runs]
    if missing:
        return ClaimVerdict("not run", f"no run of {' or '.join(missing)} has ended")
    counts = (better.n, worse.n)
    enough = min(counts) >= 2
    difference = welch(better.errors, worse.errors) if enough else None
    ratio = welch_ratio(better.errors, worse.errors) if enough else None
    reduction = Difference(*(100 * (1 - r) for r in (ratio.value, ratio.high, ratio.low))) if ratio else None
    if min(counts) < MIN_SEEDS or difference is None:
        return ClaimVerdict("more seeds", _too_few(counts, names, MIN_SEEDS), difference, reduction)

    seeds = f"{counts[0]} and {counts[1]} seeds"
    if assertion.margin is not None:
        word, why = _equal(difference, assertion.margin, names, seeds)
    elif assertion.share:
        word, why = _lower_by_share(reduction, assertion.share, names, seeds)
    else:
        word, why = _lower(sides, difference, names, seeds)
    if assertion.difference is not None:
        why += f"; the paper's difference is {assertion.difference:.2f}"
    rare = [
        f"{name}: {side.n} of {side.seeds}"
        for name, side in zip(names, sides, strict=True)
        if side.n / side.seeds < MIN_TRAINED
    ]
    why = (f"when it trains ({', '.join(rare)}), " if rare else "") + why + _remark(sequential)
    return ClaimVerdict(word, why, difference, reduction)


def _remark(sequential: bool) -> str:
    return f" ({SEEDS_ADDED})" if sequential else ""


def _too_few(counts: tuple[int, int], names: tuple[str, str], needed: int) -> str:
    finished = " and ".join(f"{n} of {name}" for n, name in zip(counts, names, strict=True))
    return f"{finished} finished; {needed} of each are needed"


def _lower(
    sides: tuple[Sample, Sample], difference: Difference, names: tuple[str, str], seeds: str
) -> tuple[ClaimWord, str]:
    size, low, high, *means = distinct_texts(
        abs(difference.value), difference.low, difference.high, *(s.mean for s in sides)
    )
    if len(size.rpartition(".")[2]) == 2:  # with more than two decimals `size` agrees with the means already
        size = str(abs(Decimal(means[0]) - Decimal(means[1])))
    relation = "below" if difference.value > 0 else "above"
    comparison = f"{names[0]} ({means[0]}) is {size} {relation} {names[1]} ({means[1]})"
    if not difference.value:
        comparison = f"{' and '.join(names)} are equal ({means[0]})"
    word: ClaimWord = "holds" if difference.low > 0 else "fails" if difference.high < 0 else "inconclusive"
    return word, f"{comparison} (90 % Welch interval {low} to {high}, {seeds})"


def _lower_by_share(
    reduction: Difference | None, share: float, names: tuple[str, str], seeds: str
) -> tuple[ClaimWord, str]:
    if reduction is None:
        return "inconclusive", f"every seed of {names[1]} has an error of 0, so a percentage of it is undefined"
    word: ClaimWord = "holds" if reduction.low > share else "fails" if reduction.high < share else "inconclusive"
    relation = f"{abs(reduction.value):.1f} % {'below' if reduction.value >= 0 else 'above'}"
    interval = f"90 % interval {reduction.low:.1f} to {reduction.high:.1f} %, {seeds}"
    return word, f"{names[0]}'s error is {relation} {names[1]}'s ({interval}); the claim is more than {share:g} %"


def _equal(difference: Difference, margin: float, names: tuple[str, str], seeds: str) -> tuple[ClaimWord, str]:
    word: ClaimWord = "inconclusive"
    if -margin < difference.low and difference.high < margin:
        word = "holds"
    elif difference.low > margin or difference.high < -margin:
        word = "fails"
    where = {"holds": "within", "fails": "outside", "inconclusive": "partly within"}[word]
    size, low, high, near = distinct_texts(difference.value, difference.low, difference.high, margin)
    comparison = f"{names[1]} - {names[0]} is {size} (90 % Welch interval {low} to {high}, {seeds})"
    return word, f"{comparison}, {where} the margin of ±{near}"


def equivalence(
    first: Sample,
    second: Sample,
    *,
    margin: float,
    names: tuple[str, str] = ("the one", "the other"),
    sequential: bool = False,
) -> Equivalence:
    """Return whether the mean errors of two ways of training differ by less than `margin`: two one-sided tests (TOST).

    They are equivalent if the whole 90 % interval of the difference is within the margin, and different if it is wholly
    outside. `sequential` is that of `claim_verdict`.
    """
    counts = (first.n, second.n)
    difference = welch(first.errors, second.errors, EQUIVALENCE_LEVEL) if min(counts) >= 2 else None
    if difference is None or min(counts) < EQUIVALENCE_SEEDS:
        return Equivalence("not yet known", _too_few(counts, names, EQUIVALENCE_SEEDS), difference)
    word, why = _equal(difference, margin, names, f"{counts[0]} and {counts[1]} seeds")
    words: dict[ClaimWord, EquivalenceWord] = {"holds": "equivalent", "fails": "different"}
    return Equivalence(words.get(word, "not yet known"), why + _remark(sequential), difference)
