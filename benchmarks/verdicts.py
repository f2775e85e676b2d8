"""What the numbers say about a reported error or a claim: pure functions over numbers (the rules: results/README.md).

Errors, gaps, spreads and tolerances are in percentage points throughout. scipy is loaded on first use, and only its
special functions: `stdtrit` is the quantile of Student's t, and comes in a third of the time of scipy.stats.
"""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

MIN_SEEDS = 5  # fewer finished runs are not judged
MIN_TRAINED = 0.8  # below this share of runs that finished, every sentence begins "when it trains"
PREDICTION_LEVEL = 0.95
CLAIM_LEVEL = 0.90  # two-sided: 1 in 20 on each side

Word = Literal[
    "no paper figure", "not run", "not comparable", "more seeds", "better", "worse", "inconclusive", "reproduced"
]
ClaimWord = Literal["not run", "more seeds", "holds", "fails", "inconclusive"]


@dataclass(frozen=True)
class Summary:
    """Mean, spread and intervals of the test errors of n runs; None where n is too small to define it."""

    n: int
    mean: float | None
    sd: float | None  # of the sample, n - 1 in the denominator
    half_width: float | None  # of the 95 % t-interval of the mean
    prediction: float | None  # half-width of the 95 % prediction interval for one new run


@dataclass(frozen=True)
class Verdict:
    """The word, and why, in a sentence without a full stop."""

    word: Word
    reason: str


@dataclass(frozen=True)
class Difference:
    """The difference of two means with its Welch interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class ClaimVerdict:
    """The word, why, and the measured difference (worse - better; None below 2 runs a side)."""

    word: ClaimWord
    reason: str
    difference: Difference | None = None


def _t(level: float, degrees: float) -> float:
    """Half-width, in standard errors, of a two-sided t-interval."""
    from scipy.special import stdtrit

    return float(stdtrit(degrees, (1 + level) / 2))


def summarise(errors: Sequence[float]) -> Summary:
    """Mean and spread. `statistics` works exactly, so that equal errors have a spread of exactly 0."""
    n = len(errors)
    if n < 2:
        return Summary(n, float(errors[0]) if n else None, None, None, None)
    sd = statistics.stdev(errors)
    t = _t(PREDICTION_LEVEL, n - 1)
    return Summary(n, statistics.fmean(errors), sd, t * sd / math.sqrt(n), t * sd * math.sqrt(1 + 1 / n))


def tolerance(reported: float, test_images: int, last_digit: float) -> float:
    """How near is near enough: one binomial standard deviation of the reported error on that many test images, at least
    half of its last printed digit. 0.31 for 10.41 on 10,000 images.
    """
    p = reported / 100
    return max(100 * math.sqrt(p * (1 - p) / test_images), last_digit / 2)


def verdict(
    errors: Sequence[float],
    *,
    runs: int,
    reported: float | None,
    last_digit: float = 0.01,
    test_images: int = 10_000,
    differences: Sequence[str] = (),
    unstated: Sequence[str] = (),
) -> Verdict:
    """The verdict over a reported error; the first rule that matches wins.

    `errors` are those of the runs that finished, `runs` counts those that ended (finished, collapsed, diverged).
    `differences` are clauses that say in what the protocols differ, `unstated` what the source doesn't say of its own.
    """
    if reported is None:
        return Verdict("no paper figure", "no source reports an error of this model on this data set")
    printed = f"{reported:.{max(0, round(-math.log10(last_digit)))}f}"
    if not runs:
        return Verdict("not run", f"no run has ended; the paper's error is {printed}")
    n = len(errors)
    if differences:
        ours = f"mean {statistics.fmean(errors):.2f} of {n} seeds" if n else f"what {runs} seeds gave"
        why = f"{ours} can't be set against the paper's {printed}: {'; '.join(differences)}"
        return Verdict("not comparable", _when(n, runs) + why)
    if n < MIN_SEEDS:
        return Verdict("more seeds", _more_seeds(errors, runs, reported, printed))

    row = summarise(errors)
    assert row.mean is not None
    assert row.prediction is not None
    gap = round(row.mean - reported, 9)  # 10.51 - 10.41 is 0.09999999999999964
    h, tol = row.prediction, tolerance(reported, test_images, last_digit)
    mean, size, spread, near = _spell(row.mean, abs(gap), h, tol)
    side = "above" if gap > 0 else "below"
    found = f"mean {mean} of {n} seeds is {size} {side} the paper's {printed}"
    found = found if gap else f"mean {mean} of {n} seeds is the paper's own figure"
    word: Word
    if abs(gap) > h and abs(gap) > tol:
        word = "worse" if gap > 0 else "better"
        why = f"{found}, more than the spread of one run (±{spread}) and the tolerance ({near}) explain"
    elif h > 2 * tol:
        word = "inconclusive"
        why = f"{found}, but the spread of one run (±{spread}) is over twice the tolerance ({near}): too wide to tell"
    else:
        word = "reproduced"
        why = f"{found}; {_cover(abs(gap), h, tol, spread, near)}"
    if unstated:
        why += f" (the source does not say {' or '.join(unstated)})"
    return Verdict(word, _when(n, runs) + why)


def welch(lower: Sequence[float], higher: Sequence[float], level: float = CLAIM_LEVEL) -> Difference:
    """mean(higher) - mean(lower) with its two-sided Welch interval; a point where neither side varies. n >= 2 each."""
    va, vb = statistics.variance(lower) / len(lower), statistics.variance(higher) / len(higher)
    value = round(statistics.fmean(higher) - statistics.fmean(lower), 9)
    if va + vb == 0:
        return Difference(value, value, value)
    # The terms are shares of va + vb, so that tiny variances can't underflow when squared.
    share = va / (va + vb)
    degrees = 1 / (share**2 / (len(lower) - 1) + (1 - share) ** 2 / (len(higher) - 1))
    half = _t(level, degrees) * math.sqrt(va + vb)
    return Difference(value, value - half, value + half)


def claim_verdict(
    better: Sequence[float],
    worse: Sequence[float],
    *,
    runs: tuple[int, int] | None = None,
    names: tuple[str, str] = ("the one", "the other"),
    reported: tuple[float, float] | None = None,
) -> ClaimVerdict:
    """The verdict over "better has a lower error than worse".

    The errors are those of the runs that finished; `runs` are the numbers that ended on each side, `reported` the
    source's own two errors.
    """
    counts = (len(better), len(worse))
    runs = counts if runs is None else runs
    missing = [name for name, ended in zip(names, runs, strict=True) if not ended]
    if missing:
        return ClaimVerdict("not run", f"no run of {' and of '.join(missing)} has ended")
    difference = welch(better, worse) if min(counts) >= 2 else None
    if min(counts) < MIN_SEEDS:
        had = " and ".join(f"{n} of {name}" for n, name in zip(counts, names, strict=True))
        return ClaimVerdict("more seeds", f"{had} finished, {MIN_SEEDS} of each are needed", difference)

    assert difference is not None
    word: ClaimWord = "holds" if difference.low > 0 else "fails" if difference.high < 0 else "inconclusive"
    size, low, high = _spell(abs(difference.value), difference.low, difference.high)
    relation = "below" if difference.value > 0 else "above"
    found = f"{names[0]} is {size} {relation} {names[1]}" if difference.value else f"{' and '.join(names)} are equal"
    why = f"{found} (90 % interval {low} to {high}, {counts[0]} and {counts[1]} seeds)"
    if reported is not None:
        why += f"; the paper's own difference is {reported[1] - reported[0]:.2f}"
    short = [
        f"{name}: {n} of {ended}" for name, n, ended in zip(names, counts, runs, strict=True) if n / ended < MIN_TRAINED
    ]
    return ClaimVerdict(word, (f"when it trains ({', '.join(short)}), " if short else "") + why, difference)


# --- sentences --------------------------------------------------------------------------------------------------------


def _when(n: int, runs: int) -> str:
    return f"when it trains ({n} of {runs} seeds did), " if n and n / runs < MIN_TRAINED else ""


def _more_seeds(errors: Sequence[float], runs: int, reported: float, printed: str) -> str:
    n = len(errors)
    if not n:
        return f"none of {runs} seeds trained" if runs >= MIN_SEEDS else f"none of {runs} trained so far"
    mean = statistics.fmean(errors)
    gap = round(mean - reported, 9)
    so_far = f"mean {mean:.2f}, {abs(gap):.2f} {'above' if gap > 0 else 'below'} the paper's {printed}"
    return _when(n, runs) + f"{n} of the {MIN_SEEDS} finished seeds that a verdict needs; so far {so_far}"


def _cover(gap: float, h: float, tol: float, spread: str, near: str) -> str:
    if gap <= h and gap <= tol:
        return f"the spread of one run (±{spread}) and the tolerance ({near}) cover it"
    if gap <= h:
        return f"the spread of one run (±{spread}) covers it, the tolerance alone ({near}) would not"
    return f"the tolerance ({near}) covers it, the spread of one run alone (±{spread}) would not"


def _spell(*values: float) -> list[str]:
    """Two decimals, or as many more (up to four) as keep different numbers from looking equal, or like 0."""
    for decimals in (2, 3, 4):
        texts = [f"{value:.{decimals}f}" for value in (*values, 0.0)]
        if len(set(texts)) == len({*values, 0.0}):
            break
    return texts[:-1]
