"""What the numbers say about a reported error: the rules of results/README.md, as pure functions over numbers.

Errors, gaps, spreads and tolerances are in percentage points throughout.
"""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

from benchmarks.intervals import (
    ONE_RUN,
    PREDICTION_LEVEL,
    SEQUENTIAL_LEVEL,
    Sample,
    Statistic,
    spell,
    tolerance,
)

MIN_SEEDS = 5  # a row with fewer finished seeds is not judged
MIN_TRAINED = 0.8  # below this share of seeds that trained, every sentence begins "when it trains"
LOOKS = (5, 10, 15, 20)  # the only numbers of finished seeds at which `submit --until-decided` looks

Word = Literal[
    "no paper figure", "not run", "not comparable", "more seeds", "better", "worse", "inconclusive", "reproduced"
]


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
class Figure:
    """A reported error, percent, and what its source says of it."""

    error: float
    last_digit: float = 0.01  # what one step of the last printed digit is worth
    test_images: int = 10_000
    statistic: Statistic = ONE_RUN
    differences: Sequence[str] = ()  # clauses that say in what the source's protocol differs from ours
    unstated: Sequence[str] = ()  # what of its protocol isn't known: "whether it augmented"
    read: bool = True  # whether the source itself was read: what a source says can't be known otherwise

    @property
    def printed(self) -> str:
        """The error with its digits."""
        return f"{self.error:.{max(0, round(-math.log10(self.last_digit)))}f}"

    @property
    def tolerance(self) -> float:
        """How near is near enough."""
        return tolerance(self.error, self.test_images, self.last_digit)


def verdict(sample: Sample, figure: Figure | None, sequential: bool = False) -> Verdict:
    """Return the verdict over a reported error; the first rule that matches wins.

    `sequential`: seeds were added because those before them didn't decide it.
    """
    if figure is None:
        return Verdict("no paper figure", "no source reports an error of this model on this data set")
    if not sample.runs:
        return Verdict("not run", f"no run has ended; the paper's error is {figure.printed}", MIN_SEEDS)
    n = sample.n
    if figure.differences:
        ours = f"mean {sample.mean:.2f} of {runs_text(sample)}" if n else f"what {runs_text(sample)} gave"
        why = f"{ours} can't be set against the paper's {figure.printed}: {'; '.join(figure.differences)}"
        return Verdict("not comparable", _when(sample) + why)
    if n < MIN_SEEDS:
        never_trained = n == 0 and sample.seeds >= MIN_SEEDS
        missing = None if never_trained else _with_failures(MIN_SEEDS - n, sample)
        return Verdict("more seeds", _more_seeds(sample, figure), missing)
    return _judge(sample, figure, sequential)


def _judge(sample: Sample, figure: Figure, sequential: bool) -> Verdict:
    gap, tol = round(sample.mean - figure.error, 9), figure.tolerance  # 10.51 - 10.41 is 0.09999999999999964
    h = figure.statistic.half_width(PREDICTION_LEVEL, sample.sd, sample.n, sample.repeats)
    level = SEQUENTIAL_LEVEL if sequential else PREDICTION_LEVEL
    needed = figure.statistic.half_width(level, sample.sd, sample.n, sample.repeats)
    word = decide(gap, tol, h, needed)
    mean, size, spread, wider, near = spell(sample.mean, abs(gap), h, needed, tol)
    found = _found(sample, figure, gap, mean, size)
    interval = f"the {_interval(figure.statistic, PREDICTION_LEVEL)} (±{spread})"
    to_go: int | None = 0
    if word in ("better", "worse"):
        why = f"{found}, outside the {_interval(figure.statistic, level)} (±{wider}) and the tolerance ({near})"
    elif word == "inconclusive":
        to_go = _to_decide(gap, sample, figure)
        more = f"about {to_go} more seeds would probably decide it"
        more = more if to_go else f"{LOOKS[-1]} seeds would probably not decide it either"
        if abs(gap) > h and abs(gap) > tol:
            why = (
                f"{found}, outside {interval} and the tolerance ({near}), but inside the {_percent(SEQUENTIAL_LEVEL)} one "
                f"(±{wider}) that holds for rows whose seeds were added after a look: {more}"
            )
        else:
            why = f"{found}, but {interval} is over twice the tolerance ({near}), too wide to tell: {more}"
    else:
        why = f"{found}; {_cover(abs(gap), h, tol, interval, near)}"
    return Verdict(word, _when(sample) + why + _remarks(figure, sequential), to_go)


def decide(gap: float, tol: float, h: float, needed: float) -> Word:
    """Return the word by the last three rules: `h` is the 95 % half-width, `needed` what the gap has to exceed to be told."""
    if abs(gap) > tol and abs(gap) > needed:
        return "worse" if gap > 0 else "better"
    between = abs(gap) > tol and abs(gap) > h  # a row looked at again, its gap between the 95 % and the 99 % interval
    return "inconclusive" if between or h > 2 * tol else "reproduced"


# --- how many seeds ------------------------------------------------------------------------------------------------------


def next_look(n: int) -> int | None:
    """Return the first number of finished seeds above n at which a row may be looked at; None past the last."""
    return next((look for look in LOOKS if look > n), None)


def _to_decide(gap: float, sample: Sample, figure: Figure) -> int | None:
    """Return how many more seeds until the first look that decides it, if mean and spread stay what they are."""

    def word_at(look: int) -> Word:
        levels = (PREDICTION_LEVEL, SEQUENTIAL_LEVEL)
        h, guard = (figure.statistic.half_width(level, sample.sd, look, sample.repeats) for level in levels)
        return decide(gap, figure.tolerance, h, guard)

    look = next((look for look in LOOKS if look > sample.n and word_at(look) != "inconclusive"), None)
    return None if look is None else _with_failures(look - sample.n, sample)


def _with_failures(needed: int, sample: Sample) -> int:
    """Return how many seeds to run for so many that train, as n of `seeds` did."""
    return math.ceil(needed * sample.seeds / sample.n) if sample.n else needed


def chance_of_telling(gap: float, sd: float, n: int, tol: float) -> float:
    """Return the probability that n >= 2 seeds show a true gap as what it is, better or worse, for normal errors of that sd.

    The gap is that of our true mean from a printed figure of one run. The mean is exactly normal, the variance a scaled
    chi-square independent of it: averaged over 200 equally likely values of the sample's sd.
    """
    from scipy.special import chdtri, ndtr

    shares = [(i + 0.5) / 200 for i in range(200)]
    spreads = (sd * math.sqrt(float(chdtri(n - 1, share)) / (n - 1)) for share in shares)
    needed = (max(ONE_RUN.half_width(PREDICTION_LEVEL, spread, n), tol) for spread in spreads)
    return statistics.fmean(float(ndtr((abs(gap) - least) * math.sqrt(n) / sd)) for least in needed)


# --- sentences --------------------------------------------------------------------------------------------------------


def runs_text(sample: Sample) -> str:
    """Return what is behind a mean: `10 seeds`, or `12 runs of 10 seeds` where a seed ran more than once."""
    if not sample.n or sample.averaged == sample.n:
        return f"{sample.n or sample.seeds} seeds"
    return f"{sample.averaged} runs of {sample.n} seeds"


def _found(sample: Sample, figure: Figure, gap: float, mean: str, size: str) -> str:
    ours, words = f"mean {mean} of {runs_text(sample)}", figure.statistic.words()
    if not gap:
        return f"{ours} is the paper's own figure"
    if len(mean.rpartition(".")[2]) == 2:  # rounded as the two numbers beside it; with more digits it is exact
        size = str(abs(Decimal(mean) - Decimal(figure.printed)))
    theirs = f"the paper's {figure.printed}" + (f" ({words})" if words else "")
    return f"{ours} is {size} {'above' if gap > 0 else 'below'} {theirs}"


def _percent(level: float) -> str:
    return f"{100 * level:.0f} %"


def _interval(statistic: Statistic, level: float) -> str:
    """The name of the interval that a gap is held against."""
    if statistic.has_spread:
        return f"{_percent(level)} interval of the two means' difference"
    words = statistic.words() if statistic.kind in ("mean", "median") else ""
    return f"{_percent(level)} prediction interval" + (f" for {words}" if words else "")


def _remarks(figure: Figure, sequential: bool) -> str:
    """What a reader of a judged row has to know beside the numbers."""
    remarks = []
    if figure.unstated:
        unstated = " or ".join(figure.unstated)
        remarks.append(f"the source does not say {unstated}" if figure.read else f"not known here: {unstated}")
    if figure.statistic.spread is not None and not figure.statistic.has_spread:
        remarks.append("the source's own spread can't be used: it is not that of a mean")
    if sequential:
        remarks.append("how many seeds there are was decided by looking at them")
    return "".join(f" ({remark})" for remark in remarks)


def _when(sample: Sample) -> str:
    rare = sample.n and sample.n / sample.seeds < MIN_TRAINED
    return f"when it trains ({sample.n} of {sample.seeds} seeds did), " if rare else ""


def _more_seeds(sample: Sample, figure: Figure) -> str:
    n = sample.n
    if not n:
        return (
            f"none of {sample.seeds} seeds trained"
            if sample.seeds >= MIN_SEEDS
            else f"none of {sample.seeds} trained so far"
        )
    mean = f"{sample.mean:.2f}"
    gap = Decimal(mean) - Decimal(figure.printed)
    so_far = f"mean {mean}, {abs(gap)} {'above' if gap > 0 else 'below'} the paper's {figure.printed}"
    so_far = so_far if gap else f"mean {mean}, the paper's own figure"
    return _when(sample) + f"{n} of the {MIN_SEEDS} finished seeds that a verdict needs; so far {so_far}"


def _cover(gap: float, h: float, tol: float, interval: str, near: str) -> str:
    if gap <= h and gap <= tol:
        return f"{interval} and the tolerance ({near}) cover it"
    if gap <= h:
        return f"{interval} covers it, the tolerance alone ({near}) would not"
    return f"the tolerance ({near}) covers it, {interval} alone would not"
