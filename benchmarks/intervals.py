"""Means, spreads and intervals of test errors: pure functions over numbers, all in percentage points.

scipy is loaded on first use, and only its special functions: `stdtrit` is the quantile of Student's t, and loads in a third
of the time of scipy.stats.
"""

import math
import statistics
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from typing import Literal

PREDICTION_LEVEL = 0.95
SEQUENTIAL_LEVEL = 0.99  # of a row that is looked at again and again: all looks together then err in about 1 of 20
CLAIM_LEVEL = 0.90  # two-sided: 1 in 20 on each side

Outcome = Literal["finished", "collapsed", "diverged"]
_BY_SEVERITY: tuple[Outcome, ...] = ("diverged", "collapsed", "finished")


@lru_cache(maxsize=4_096)
def t_quantile(level: float, degrees: float) -> float:
    """Return the half-width, in standard errors, of a two-sided t-interval."""
    from scipy.special import stdtrit

    return float(stdtrit(degrees, (1 + level) / 2))


# --- our runs -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Sample:
    """What the runs of one row measured, every seed counted once: the seed's mean error where it trained."""

    errors: tuple[float, ...] = ()  # of the seeds that trained, one each
    seeds: int = 0  # distinct seeds with an ended run, trained or not
    runs: int = 0  # ended runs
    averaged: int = 0  # the finished runs behind `errors`
    repeats: float = 0.0  # variance of one run that averaging a seed's runs removed; 0 where every seed ran once

    @property
    def n(self) -> int:
        """The number of seeds that trained."""
        return len(self.errors)

    @property
    def mean(self) -> float:
        """Over seeds; raises where none trained."""
        return statistics.fmean(self.errors)

    @property
    def sd(self) -> float:
        """Of the seeds' means, n - 1 in the denominator; raises below 2 seeds. Exactly 0 for equal errors."""
        return statistics.stdev(self.errors)

    @property
    def run_sd(self) -> float:
        """Of single runs: that of the seeds' means, and what averaging took from it."""
        return math.sqrt(self.sd**2 + self.repeats)


def sample_of_seeds(errors: Sequence[float], seeds: int | None = None) -> Sample:
    """Return the sample of seeds that ran once each; `seeds` counts those that ended, where not all of them trained."""
    ended = len(errors) if seeds is None else seeds
    return Sample(tuple(errors), ended, ended, len(errors))


def outcome_of_seed(outcomes: Sequence[Outcome]) -> Outcome:
    """Return the outcome of most runs of a seed; where two are equally frequent, the worse one."""
    counts = Counter(outcomes)
    return max(_BY_SEVERITY, key=lambda outcome: counts[outcome])  # of equal counts max takes the first


def sample_of_runs(runs: Iterable[tuple[int, Outcome, float]]) -> Sample:
    """Return the sample of (seed, outcome, test error) runs.

    A seed has one outcome (`outcome_of_seed`) and, where that is `finished`, one error: the mean of its finished runs.
    """
    by_seed: dict[int, list[tuple[Outcome, float]]] = {}
    for seed, outcome, error in runs:
        by_seed.setdefault(seed, []).append((outcome, error))
    trained = [
        [error for outcome, error in ended if outcome == "finished"]
        for ended in by_seed.values()
        if outcome_of_seed([outcome for outcome, _ in ended]) == "finished"
    ]
    errors = tuple(statistics.fmean(errors) for errors in trained)
    averaged = sum(map(len, trained))
    return Sample(errors, len(by_seed), sum(map(len, by_seed.values())), averaged, _averaged_away(trained))


def _averaged_away(trained: Sequence[Sequence[float]]) -> float:
    """Return by how much the variance of the seeds' means falls short of that of single runs.

    With variances b between and w within seeds, and k runs of a seed, its mean has the variance b + w / k, a run b + w.
    """
    degrees = sum(len(errors) - 1 for errors in trained)
    if not degrees:
        return 0.0
    within = sum(statistics.variance(errors) * (len(errors) - 1) for errors in trained if len(errors) > 1) / degrees
    return within * (1 - statistics.fmean(1 / len(errors) for errors in trained))


# --- the source's figure -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Statistic:
    """What a source's figure is of the source's own runs: a single run where it doesn't say."""

    kind: Literal["single", "mean", "median", "best"] = "single"
    runs: int = 1
    spread: float | None = None  # as printed after ±, of the runs behind a mean
    standard_error: bool = False  # the spread is that of the mean, not of one run

    @property
    def has_spread(self) -> bool:
        """Whether the source's own spread can be used: that of a mean of several runs."""
        return self.kind == "mean" and self.runs > 1 and self.spread is not None

    @property
    def share(self) -> float:
        """The variance of the figure as a share of one run's: 1 for a run, 1/k for a mean of k, 0.449 for a median of 3.

        1 for the best of several too: what choosing does to a figure isn't a matter of variance.
        """
        if self.kind == "mean":
            return 1 / self.runs
        return median_variance(self.runs) if self.kind == "median" else 1.0

    def half_width(self, level: float, sample_sd: float, n: int, repeats: float = 0.0) -> float:
        """Return by how much the figure may differ from our mean of n >= 2 seeds where both come from one truth.

        Half-width of the prediction interval for the figure; of Welch's interval of the two means where the source prints
        its own spread. `repeats` as in Sample.
        """
        ours = sample_sd**2 / n
        if not self.has_spread:
            return t_quantile(level, n - 1) * math.sqrt(ours + self.share * (sample_sd**2 + repeats))
        assert self.spread is not None
        theirs = self.spread**2 / (1 if self.standard_error else self.runs)
        return _welch_half(level, ours, n, theirs, self.runs)

    def words(self) -> str:
        """Return `a mean of 10 runs`; '' for a single run."""
        if self.kind == "single":
            return ""
        article = "the" if self.kind == "best" else "a"
        return f"{article} {self.kind} of {self.runs} runs"


ONE_RUN = Statistic()


@lru_cache(maxsize=64)
def median_variance(k: int) -> float:
    """Return the variance of the median of k standard normal values, for an even k that of k - 1 (a little too wide).

    The middle one of k = 2m + 1 values has the density k! / (m! m!) F^m (1 - F)^m f, integrated here by the trapezoid rule.
    """
    from scipy.special import ndtr

    m = (k - 1) // 2
    step = 0.01
    total = moment = 0.0
    for i in range(-800, 801):
        x = i * step
        below = float(ndtr(x))
        density = (below * (1 - below)) ** m * math.exp(-x * x / 2)
        total += density
        moment += density * x * x
    return moment / total


# --- intervals ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Summary:
    """Mean, spread and intervals of the test errors of n seeds; None where n is too small to define it."""

    n: int
    mean: float | None
    sd: float | None  # of the sample, n - 1 in the denominator
    half_width: float | None  # of the 95 % t-interval of the mean
    prediction: float | None  # half-width of the 95 % prediction interval for the source's figure


def summarise(sample: Sample, statistic: Statistic = ONE_RUN) -> Summary:
    """Return mean and spread. `statistics` works exactly, so that equal errors have a spread of exactly 0."""
    n = sample.n
    if n < 2:
        return Summary(n, sample.mean if n else None, None, None, None)
    sd = sample.sd
    half_width = t_quantile(PREDICTION_LEVEL, n - 1) * sd / math.sqrt(n)
    return Summary(n, sample.mean, sd, half_width, statistic.half_width(PREDICTION_LEVEL, sd, n, sample.repeats))


def differ_by(sd: float, n: int) -> float:
    """By how much two runs of one truth differ at most in 19 of 20 cases, where n other runs gave this standard deviation."""
    return t_quantile(PREDICTION_LEVEL, n - 1) * sd * math.sqrt(2)


def tolerance(reported: float, test_images: int, last_digit: float) -> float:
    """Return how near is near enough: one binomial standard deviation of the reported error on that many test images, at
    least half of its last printed digit. 0.31 for 10.41 on 10,000 images.
    """
    p = reported / 100
    return max(100 * math.sqrt(p * (1 - p) / test_images), last_digit / 2)


@dataclass(frozen=True)
class Difference:
    """A difference of two means, or their ratio, with its interval."""

    value: float
    low: float
    high: float


def welch(lower: Sequence[float], higher: Sequence[float], level: float = CLAIM_LEVEL) -> Difference:
    """Return mean(higher) - mean(lower) with its Welch interval; a point where neither side varies. n >= 2 each."""
    value = round(statistics.fmean(higher) - statistics.fmean(lower), 9)
    va, vb = statistics.variance(lower) / len(lower), statistics.variance(higher) / len(higher)
    half = _welch_half(level, va, len(lower), vb, len(higher))
    return Difference(value, value - half, value + half)


def welch_ratio(lower: Sequence[float], higher: Sequence[float], level: float = CLAIM_LEVEL) -> Difference | None:
    """Return mean(lower) / mean(higher) with its interval by the delta method; None where the higher mean is 0. n >= 2 each.

    A ratio r = a / b varies by (va + r^2 vb) / b^2, the means' variances being va and vb; degrees of freedom as Welch's.
    """
    a, b = statistics.fmean(lower), statistics.fmean(higher)
    if not b:
        return None
    ratio = a / b
    va = statistics.variance(lower) / len(lower) / b**2
    vb = statistics.variance(higher) / len(higher) * (ratio / b) ** 2
    half = _welch_half(level, va, len(lower), vb, len(higher))
    return Difference(ratio, ratio - half, ratio + half)


def _welch_half(level: float, va: float, na: int, vb: float, nb: int) -> float:
    """Half-width of a Welch interval of a difference, from the two means' variances and numbers of values."""
    if va + vb == 0:
        return 0.0
    # The terms are shares of va + vb, so that tiny variances can't underflow when squared.
    share = va / (va + vb)
    degrees = 1 / (share**2 / (na - 1) + (1 - share) ** 2 / (nb - 1))
    return t_quantile(level, degrees) * math.sqrt(va + vb)


# --- numbers in sentences ---------------------------------------------------------------------------------------------


def spell(*values: float) -> list[str]:
    """Return two decimals, or as many more (up to four) as keep different numbers from looking equal, or like 0."""
    for decimals in (2, 3, 4):
        texts = [f"{value:.{decimals}f}" for value in (*values, 0.0)]
        if len(set(texts)) == len({*values, 0.0}):
            break
    return texts[:-1]


def gap_text(mean: float, printed: str) -> str:
    """Return the gap as the two numbers beside it have it: `+0.29` for 1.885, shown as 1.89, against 1.6."""
    return f"{Decimal(f'{mean:.2f}') - Decimal(printed):+.2f}"
