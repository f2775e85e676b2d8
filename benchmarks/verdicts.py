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
SEQUENTIAL_LEVEL = 0.99  # of a gap that is looked at again and again: all looks together then err in about 1 of 20
LOOKS = (5, 10, 15, 20)  # the only numbers of finished seeds at which `submit --until-decided` looks
CLAIM_LEVEL = 0.90  # two-sided: 1 in 20 on each side
EQUIVALENCE_LEVEL = 0.90  # two one-sided tests at 1 in 20 each
EQUIVALENCE_SEEDS = 10  # of each side

Word = Literal[
    "no paper figure", "not run", "not comparable", "more seeds", "better", "worse", "inconclusive", "reproduced"
]
ClaimWord = Literal["not run", "more seeds", "holds", "fails", "inconclusive"]
EquivalenceWord = Literal["equivalent", "different", "not yet known"]


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
    """The word, and why, in a sentence without a full stop.

    `to_go` is how many more seeds would probably decide it, those that won't train included: 0 where it is decided or no
    number of seeds can help, None where not even the last look would probably do.
    """

    word: Word
    reason: str
    to_go: int | None = 0


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


@dataclass(frozen=True)
class Equivalence:
    """The word, why, and the measured difference (second - first; None below 2 runs a side)."""

    word: EquivalenceWord
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
    half_width = _t(PREDICTION_LEVEL, n - 1) * sd / math.sqrt(n)
    return Summary(n, statistics.fmean(errors), sd, half_width, _prediction(sd, n, PREDICTION_LEVEL))


def _prediction(sd: float, n: int, level: float) -> float:
    """Half-width of the prediction interval for one new run, after n runs with this standard deviation."""
    return _t(level, n - 1) * sd * math.sqrt(1 + 1 / n)


def differ_by(sd: float, n: int) -> float:
    """By how much two runs of one truth differ at most in 19 of 20 cases, where n other runs gave this standard deviation."""
    return _t(PREDICTION_LEVEL, n - 1) * sd * math.sqrt(2)


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
    sequential: bool = False,
) -> Verdict:
    """The verdict over a reported error; the first rule that matches wins.

    `errors` are those of the runs that finished, `runs` counts those that ended (finished, collapsed, diverged).
    `differences` are clauses that say in what the protocols differ, `unstated` what the source doesn't say of its own.
    `sequential`: seeds were added because those before them didn't decide it.
    """
    if reported is None:
        return Verdict("no paper figure", "no source reports an error of this model on this data set")
    printed = f"{reported:.{max(0, round(-math.log10(last_digit)))}f}"
    if not runs:
        return Verdict("not run", f"no run has ended; the paper's error is {printed}", MIN_SEEDS)
    n = len(errors)
    if differences:
        ours = f"mean {statistics.fmean(errors):.2f} of {n} seeds" if n else f"what {runs} seeds gave"
        why = f"{ours} can't be set against the paper's {printed}: {'; '.join(differences)}"
        return Verdict("not comparable", _when(n, runs) + why)
    if n < MIN_SEEDS:
        never_trained = n == 0 and runs >= MIN_SEEDS
        missing = None if never_trained else _with_failures(MIN_SEEDS - n, n, runs)
        return Verdict("more seeds", _more_seeds(errors, runs, reported, printed), missing)

    row = summarise(errors)
    assert row.mean is not None
    assert row.sd is not None
    gap = round(row.mean - reported, 9)  # 10.51 - 10.41 is 0.09999999999999964
    tol = tolerance(reported, test_images, last_digit)
    word, h = decide(gap, row.sd, n, tol, sequential)
    mean, size, spread, near = _spell(row.mean, abs(gap), h, tol)
    side = "above" if gap > 0 else "below"
    found = f"mean {mean} of {n} seeds is {size} {side} the paper's {printed}"
    found = found if gap else f"mean {mean} of {n} seeds is the paper's own figure"
    to_go: int | None = 0
    if word in ("better", "worse"):
        why = f"{found}, more than the spread of one run (±{spread}) and the tolerance ({near}) explain"
    elif word == "inconclusive":
        to_go = _to_decide(gap, row.sd, n, runs, tol)
        more = f"about {to_go} more seeds would probably decide it"
        more = more if to_go else f"{LOOKS[-1]} seeds would probably not decide it either"
        why = f"{found}, but the spread of one run (±{spread}) is over twice the tolerance ({near}): too wide to tell; {more}"
    else:
        why = f"{found}; {_cover(abs(gap), h, tol, spread, near)}"
    if unstated:
        why += f" (the source does not say {' or '.join(unstated)})"
    if sequential:
        why += " (how many seeds there are was decided by looking at them)"
    return Verdict(word, _when(n, runs) + why, to_go)


def decide(gap: float, sd: float, n: int, tol: float, sequential: bool = False) -> tuple[Word, float]:
    """Rules 5 to 7 over n >= 2 finished runs: the word, and the half-width that the gap was held against."""
    h = _prediction(sd, n, PREDICTION_LEVEL)
    needed = _prediction(sd, n, SEQUENTIAL_LEVEL) if sequential else h
    if abs(gap) > needed and abs(gap) > tol:
        return ("worse" if gap > 0 else "better"), needed
    return ("inconclusive", h) if h > 2 * tol else ("reproduced", needed)


def next_look(n: int) -> int | None:
    """The first number of finished seeds above n at which a row may be looked at; None past the last."""
    return next((look for look in LOOKS if look > n), None)


def _to_decide(gap: float, sd: float, n: int, runs: int, tol: float) -> int | None:
    """How many more seeds until the first look that decides it, if mean and spread stay what they are."""
    deciding = (look for look in LOOKS if look > n and decide(gap, sd, look, tol, sequential=True)[0] != "inconclusive")
    look = next(deciding, None)
    return None if look is None else _with_failures(look - n, n, runs)


def _with_failures(needed: int, n: int, runs: int) -> int:
    """How many seeds to run for so many that train, as n of `runs` did."""
    return math.ceil(needed * runs / n) if n else needed


def chance_of_telling(gap: float, sd: float, n: int, tol: float) -> float:
    """The probability that n >= 2 seeds show a true gap as what it is, better or worse, for normal errors of that sd.

    The mean is exact normal, the variance a scaled chi-square independent of it: averaged over 200 equally likely values
    of the sample's sd.
    """
    from scipy.special import chdtri, ndtr

    shares = [(i + 0.5) / 200 for i in range(200)]
    spreads = (sd * math.sqrt(float(chdtri(n - 1, share)) / (n - 1)) for share in shares)
    needed = (max(_prediction(spread, n, PREDICTION_LEVEL), tol) for spread in spreads)
    return statistics.fmean(float(ndtr((abs(gap) - least) * math.sqrt(n) / sd)) for least in needed)


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


def equivalence(
    first: Sequence[float],
    second: Sequence[float],
    *,
    margin: float,
    names: tuple[str, str] = ("the one", "the other"),
) -> Equivalence:
    """Whether two ways of training have the same mean error but for `margin`: two one-sided tests (TOST), Welch's degrees.

    Equivalent where the 90 % interval of the difference lies wholly within the margin, different where it lies wholly
    beyond it; more seeds turn neither into the other. The errors are those of the runs that finished.
    """
    counts = (len(first), len(second))
    difference = welch(first, second, EQUIVALENCE_LEVEL) if min(counts) >= 2 else None
    if difference is None or min(counts) < EQUIVALENCE_SEEDS:
        had = " and ".join(f"{n} of {name}" for n, name in zip(counts, names, strict=True))
        return Equivalence("not yet known", f"{had} finished, {EQUIVALENCE_SEEDS} of each are needed", difference)
    word: EquivalenceWord = "not yet known"
    if -margin < difference.low and difference.high < margin:
        word = "equivalent"
    elif difference.low > margin or difference.high < -margin:
        word = "different"
    where = {"equivalent": "within", "different": "beyond", "not yet known": "partly within"}[word]
    size, low, high, near = _spell(difference.value, difference.low, difference.high, margin)
    found = f"{names[1]} - {names[0]} is {size} (90 % interval {low} to {high}, {counts[0]} and {counts[1]} seeds)"
    return Equivalence(word, f"{found}, {where} a margin of ±{near}", difference)


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
