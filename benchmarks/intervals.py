"""Means, spreads and intervals of test errors: pure functions over numbers, all in percentage points.

scipy.special is imported on first use. Its `stdtrit` is the quantile of Student's t distribution; scipy.stats takes three
times as long to import.
"""

import math
import statistics
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property, lru_cache
from typing import Literal

PREDICTION_LEVEL = 0.95
SEQUENTIAL_LEVEL = 0.99  # for sequential rows, so that all interim analyses together err in about 1 of 20 rows
CLAIM_LEVEL = 0.90  # two-sided: 5 % on each side

Outcome = Literal["finished", "collapsed", "diverged"]
_BY_SEVERITY: tuple[Outcome, ...] = ("diverged", "collapsed", "finished")


@lru_cache(maxsize=4_096)
def t_quantile(level: float, degrees: float) -> float:
    """Return the half-width of a two-sided t-interval, in standard errors; `degrees` are its degrees of freedom."""
    from scipy.special import stdtrit

    return float(stdtrit(degrees, (1 + level) / 2))


# --- our runs -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Sample:
    """The test errors of one row. Each seed that trained counts once, with the mean error of its finished runs."""

    errors: tuple[float, ...] = ()  # one for each seed that trained
    seeds: int = 0  # distinct seeds with an ended run, trained or not
    runs: int = 0  # ended runs
    averaged: int = 0  # how many finished runs were averaged into `errors`
    repeats: float = 0.0  # by how much averaging lowered the variance of single runs; 0 if every seed ran once

    @property
    def n(self) -> int:
        """The number of seeds that trained."""
        return len(self.errors)

    @cached_property
    def mean(self) -> float:
        """The mean over seeds. Raise StatisticsError if none trained."""
        return statistics.fmean(self.errors)

    @cached_property  # exact arithmetic, which a verdict asks for several times
    def sd(self) -> float:
        """The standard deviation (n - 1) of the seeds' errors, exactly 0 for equal ones. Raise StatisticsError below 2."""
        return statistics.stdev(self.errors)

    @property
    def run_sd(self) -> float:
        """The standard deviation of single runs: that of the seeds' errors, corrected for averaging."""
        return math.sqrt(self.sd**2 + self.repeats)


def sample_of_seeds(errors: Sequence[float], seeds: int | None = None) -> Sample:
    """Return the sample of seeds that ran once each. `seeds` is the number of ended seeds, if some did not train."""
    ended = len(errors) if seeds is None else seeds
    return Sample(tuple(errors), ended, ended, len(errors))


def outcome_of_seed(outcomes: Sequence[Outcome]) -> Outcome:
    """Return the most frequent outcome of a seed's runs; in a tie the worst."""
    counts = Counter(outcomes)
    return max(_BY_SEVERITY, key=lambda outcome: counts[outcome])  # max returns the first of equal counts


def sample_of_runs(runs: Iterable[tuple[int, Outcome, float]]) -> Sample:
    """Return the sample of runs (seed, outcome, test error in percent).

    Each seed has one outcome, that of `outcome_of_seed`. If it is `finished`, the seed's error is the mean of its finished
    runs.
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
    """Return by how much the variance of the seeds' means is smaller than that of single runs.

    With variances b between seeds and w within a seed, a run has the variance b + w, and the mean of k runs of one seed has
    b + w / k.
    """
    degrees = sum(len(errors) - 1 for errors in trained)
    if not degrees:
        return 0.0
    within = sum(statistics.variance(errors) * (len(errors) - 1) for errors in trained if len(errors) > 1) / degrees
    return within * (1 - statistics.fmean(1 / len(errors) for errors in trained))


# --- the source's figure -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Statistic:
    """Which statistic of the source's own runs its figure is; a single run if the source does not say."""

    kind: Literal["single", "mean", "median", "best"] = "single"
    runs: int = 1
    spread: float | None = None  # as printed after ± for a mean of runs
    standard_error: bool = False  # the spread is the standard error of the mean, not the deviation of runs

    @property
    def has_spread(self) -> bool:
        """Whether the source's spread can be used, which takes a mean of several runs."""
        return self.kind == "mean" and self.runs > 1 and self.spread is not None

    @property
    def share(self) -> float:
        """The variance of the figure divided by that of one run: 1 for a run, 1/k for a mean of k, 0.449 for a median of 3.

        It is 1 for the best of several runs too, because selection biases a figure and its variance does not describe that.
        """
        if self.kind == "mean":
            return 1 / self.runs
        return median_variance(self.runs) if self.kind == "median" else 1.0

    def half_width(self, level: float, sample_sd: float, n: int, repeats: float = 0.0) -> float:
        """Return the half-width of the interval for the figure around our mean of n >= 2 seeds, if both have one distribution.

        It is the prediction interval for the figure. If the source prints its own spread, it is Welch's interval of the two
        means. `repeats` is that of Sample.
        """
        ours = sample_sd**2 / n
        if not self.has_spread:
            return t_quantile(level, n - 1) * math.sqrt(ours + self.share * (sample_sd**2 + repeats))
        assert self.spread is not None
        theirs = self.spread**2 / (1 if self.standard_error else self.runs)
        return _welch_half(level, ours, n, theirs, self.runs)

    def description(self) -> str:
        """Return text such as `a mean of 10 runs`; '' for a single run."""
        if self.kind == "single":
            return ""
        article = "the" if self.kind == "best" else "a"
        return f"{article} {self.kind} of {self.runs} runs"


ONE_RUN = Statistic()


@lru_cache(maxsize=64)
def median_variance(k: int) -> float:
    """Return the variance of the median of k standard normal values. For an even k it is that of k - 1, which is larger.

    The median of k = 2m + 1 values has the density k! / (m! m!) F^m (1 - F)^m f, integrated here by the trapezoid rule.
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
    """Mean, spread and intervals of the test errors of n seeds. A field is None if n is too small for it."""

    n: int
    mean: float | None
    sd: float | None  # of the sample, n - 1 in the denominator
    half_width: float | None  # of the 95 % t-interval of the mean
    prediction: float | None  # half-width of the 95 % prediction interval for the source's figure


def summarise(sample: Sample, statistic: Statistic = ONE_RUN) -> Summary:
    """Return the mean, spread and intervals of a sample; `statistic` is that of the source's figure."""
    n = sample.n
    if n < 2:
        return Summary(n, sample.mean if n else None, None, None, None)
    sd = sample.sd
    half_width = t_quantile(PREDICTION_LEVEL, n - 1) * sd / math.sqrt(n)
    return Summary(n, sample.mean, sd, half_width, statistic.half_width(PREDICTION_LEVEL, sd, n, sample.repeats))


def differ_by(sd: float, n: int) -> float:
    """Return by how much two runs of one distribution differ at most in 19 of 20 cases; `sd` is that of n other runs."""
    return t_quantile(PREDICTION_LEVEL, n - 1) * sd * math.sqrt(2)


def tolerance(reported: float, test_images: int, last_digit: float) -> float:
    """Return the tolerance of a reported error: the larger of its binomial standard deviation and half its last printed digit.

    All values are percentages. The tolerance of 10.41 on 10,000 images is 0.31.
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
    """Return mean(higher) - mean(lower) with its Welch interval. Each side needs two values or more.

    If neither side varies, the interval is a point.
    """
    value = round(statistics.fmean(higher) - statistics.fmean(lower), 9)
    va, vb = statistics.variance(lower) / len(lower), statistics.variance(higher) / len(higher)
    half = _welch_half(level, va, len(lower), vb, len(higher))
    return Difference(value, value - half, value + half)


def welch_ratio(lower: Sequence[float], higher: Sequence[float], level: float = CLAIM_LEVEL) -> Difference | None:
    """Return mean(lower) / mean(higher) with its interval by the delta method; None if the higher mean is 0.

    Each side needs two values or more. With va and vb, the variances of the means a and b, the ratio r = a / b has the
    variance (va + r^2 vb) / b^2. The degrees of freedom are Welch's.
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
    """Return the half-width of a Welch interval of two means with the variances va and vb, of na and nb values."""
    if va + vb == 0:
        return 0.0
    # Dividing by va + vb first keeps tiny variances from underflowing when squared.
    share = va / (va + vb)
    degrees = 1 / (share**2 / (na - 1) + (1 - share) ** 2 / (nb - 1))
    return t_quantile(level, degrees) * math.sqrt(va + vb)


# --- numbers in sentences ---------------------------------------------------------------------------------------------


def distinct_texts(*values: float) -> list[str]:
    """Return the values as text with two decimals, or with three or four if different values would look equal, or like 0."""
    for decimals in (2, 3, 4):
        texts = [f"{value:.{decimals}f}" for value in (*values, 0.0)]
        if len(set(texts)) == len({*values, 0.0}):
            break
    return texts[:-1]


def gap_text(mean: float, printed: str) -> str:
    """Return the difference of the two numbers as they are shown: `+0.29` for 1.885, shown as 1.89, and the figure 1.6."""
    return f"{Decimal(f'{mean:.2f}') - Decimal(printed):+.2f}"
