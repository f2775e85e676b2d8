"""Judge a reported error: the rules of results/README.md as pure functions over numbers.

Errors, gaps, spreads and tolerances are in percentage points throughout.
"""

import math
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
    distinct_texts,
    tolerance,
)
from benchmarks.plural import number

MIN_SEEDS = 5  # a row with fewer finished seeds is not judged
MIN_TRAINED = 0.8  # if a smaller share of the seeds trained, every reason begins with "when it trains"
INTERIM_SIZES = (5, 10, 15, 20)  # `submit --until-decided` judges a row at these numbers of finished seeds only

SEEDS_ADDED = "seeds were added after looking at the results"  # the remark on what sequential rows decide

Word = Literal["not judged", "not run", "not comparable", "more seeds", "better", "worse", "inconclusive", "reproduced"]


@dataclass(frozen=True)
class Verdict:
    """The word, and the reason as a sentence without a full stop.

    `to_go` is the number of further seeds that would probably decide the verdict, including those expected not to train. It
    is 0 if the verdict is decided or seeds do not matter, and None if the largest interim size would probably not decide it.
    """

    word: Word
    reason: str
    to_go: int | None = 0


@dataclass(frozen=True)
class Figure:
    """A reported error in percent, with what its source says about it."""

    error: float
    last_digit: float = 0.01  # one unit of the last printed digit
    test_images: int = 10_000
    statistic: Statistic = ONE_RUN
    differences: Sequence[str] = ()  # clauses on how the source's protocol differs from ours
    unstated: Sequence[str] = ()  # unknown parts of its protocol, such as "whether it augmented"
    read: bool = True  # whether we read the source itself; only then we know what it does not say

    @property
    def printed(self) -> str:
        """The error as text, with its printed digits."""
        return f"{self.error:.{max(0, round(-math.log10(self.last_digit)))}f}"

    @property
    def tolerance(self) -> float:
        """The largest gap (percentage points) that still counts as none."""
        return tolerance(self.error, self.test_images, self.last_digit)


def verdict(
    sample: Sample,
    figure: Figure | None,
    sequential: bool = False,
    context: Sequence[str] = (),
    outdated: int = 0,
) -> Verdict:
    """Return the verdict on a reported error. The first rule that matches decides.

    `sequential` says that seeds were added because the earlier ones did not decide it. A gap then needs a wider interval,
    and the row is judged at INTERIM_SIZES only: an additional look would be one more chance of a wrong verdict.
    `context` has the printed figures, with their places, that are shown for the model and never judged. `outdated` is the
    number of runs that are not counted, because they are of another revision or recipe.
    """
    if figure is None:
        return Verdict("not judged", _no_figure(context))
    if not sample.runs:
        return Verdict("not run", f"{_no_run(outdated)}; the paper's error is {figure.printed}", MIN_SEEDS)
    n = sample.n
    if figure.differences:
        ours = f"mean {sample.mean:.2f} of {runs_text(sample)}" if n else f"the result of {runs_text(sample)}"
        why = f"{ours} can't be compared with the paper's {figure.printed}: {'; '.join(figure.differences)}"
        return Verdict("not comparable", _when(sample) + why)
    if n < MIN_SEEDS:
        never_trained = n == 0 and sample.seeds >= MIN_SEEDS
        missing = None if never_trained else _with_failures(MIN_SEEDS - n, sample)
        return Verdict("more seeds", _more_seeds(sample, figure, MIN_SEEDS), missing)
    if sequential and n not in INTERIM_SIZES and (size := next_interim_size(n)):
        why = _more_seeds(sample, figure, size) + _remarks(figure, sequential)
        return Verdict("more seeds", why, _with_failures(size - n, sample))
    return _judge(sample, figure, sequential)


def _judge(sample: Sample, figure: Figure, sequential: bool) -> Verdict:
    gap, tol = round(sample.mean - figure.error, 9), figure.tolerance  # 10.51 - 10.41 is 0.09999999999999964
    h = figure.statistic.half_width(PREDICTION_LEVEL, sample.sd, sample.n, sample.repeats)
    level = SEQUENTIAL_LEVEL if sequential else PREDICTION_LEVEL
    needed = figure.statistic.half_width(level, sample.sd, sample.n, sample.repeats)
    word = decide(gap, tol, h, needed)
    mean_text, gap_text, h_text, needed_text, tol_text = distinct_texts(sample.mean, abs(gap), h, needed, tol)
    comparison = _comparison(sample, figure, gap, mean_text, gap_text)
    interval = f"the {_interval(figure.statistic, PREDICTION_LEVEL)} (±{h_text})"
    near = f"the tolerance (±{tol_text})"
    to_go: int | None = 0
    if word in ("better", "worse"):
        why = f"{comparison}, outside the {_interval(figure.statistic, level)} (±{needed_text}) and {near}"
    elif word == "inconclusive":
        to_go = _to_decide(gap, sample, figure)
        if abs(gap) > h and abs(gap) > tol:
            why = (
                f"{comparison}, outside {interval} and {near}, but inside the {_percent(SEQUENTIAL_LEVEL)} one "
                f"(±{needed_text}), which applies because seeds were added"
            )
        else:
            why = f"{comparison}, but the seeds differ too much to judge that: {interval} is wider than twice {near}"
        why = f"{why}; {_outlook(sample.n, to_go)}"
    else:
        why = comparison + _within(abs(gap), h, tol, interval, near)
    return Verdict(word, _when(sample) + why + _remarks(figure, sequential), to_go)


def decide(gap: float, tol: float, h: float, needed: float) -> Word:
    """Return the word by the last three rules.

    `h` is the 95 % half-width; `needed` is the half-width that the gap must exceed for `better` or `worse`.
    """
    if abs(gap) > tol and abs(gap) > needed:
        return "worse" if gap > 0 else "better"
    between = abs(gap) > tol and abs(gap) > h  # a sequential row with a gap between the 95 % and the 99 % interval
    return "inconclusive" if between or h > 2 * tol else "reproduced"


# --- how many seeds ------------------------------------------------------------------------------------------------------


def next_interim_size(n: int) -> int | None:
    """Return the first of INTERIM_SIZES above n; None above the last."""
    return next((size for size in INTERIM_SIZES if size > n), None)


def _to_decide(gap: float, sample: Sample, figure: Figure) -> int | None:
    """Return how many more seeds until the first interim analysis that decides, if mean and spread do not change."""

    def word_at(size: int) -> Word:
        levels = (PREDICTION_LEVEL, SEQUENTIAL_LEVEL)
        h, needed = (figure.statistic.half_width(level, sample.sd, size, sample.repeats) for level in levels)
        return decide(gap, figure.tolerance, h, needed)

    size = next((size for size in INTERIM_SIZES if size > sample.n and word_at(size) != "inconclusive"), None)
    return None if size is None else _with_failures(size - sample.n, sample)


def _with_failures(needed: int, sample: Sample) -> int:
    """Return how many seeds to run so that `needed` of them train, at the share that trained so far."""
    return math.ceil(needed * sample.seeds / sample.n) if sample.n else needed


def detection_power(gap: float, sd: float, n: int, tol: float) -> float:
    """Return the probability that n >= 2 seeds with normal errors detect a true gap as `better` or `worse`.

    The gap is the distance of our true mean from a printed figure of one run, and `sd` the standard deviation of one seed.
    The mean of the sample is normal and its variance an independent scaled chi-square variable, so the probability is
    averaged over 200 equally likely values of the sample's standard deviation.
    """
    import numpy as np
    from scipy.special import chdtri, ndtr

    spreads = sd * np.sqrt(chdtri(n - 1, (np.arange(200) + 0.5) / 200) / (n - 1))
    needed = np.maximum(ONE_RUN.half_width(PREDICTION_LEVEL, 1.0, n) * spreads, tol)  # proportional to the spread
    return float(ndtr((abs(gap) - needed) * math.sqrt(n) / sd).mean())


# --- sentences --------------------------------------------------------------------------------------------------------


def runs_text(sample: Sample) -> str:
    """Return what a mean was computed from: `10 seeds`, or `12 runs of 10 seeds` if a seed ran more than once."""
    if not sample.n or sample.averaged == sample.n:
        return number(sample.n or sample.seeds, "seed")
    return f"{number(sample.averaged, 'run')} of {number(sample.n, 'seed')}"


def _no_run(outdated: int) -> str:
    if not outdated:
        return "no run has ended"
    uncounted = "the run that ended is" if outdated == 1 else f"the {outdated:,} runs that ended are"
    return f"{uncounted} not counted, because of another revision or recipe"


def _no_figure(context: Sequence[str]) -> str:
    if not context:
        return "no source reports an error of this model on this data set"
    verb, them = ("is", "it") if len(context) == 1 else ("are", "them")
    why = f"the network or the recipe behind {them} may differ from ours"
    return f"the printed {' and '.join(context)} {verb} shown for comparison and not judged, because {why}"


def _comparison(sample: Sample, figure: Figure, gap: float, mean: str, size: str) -> str:
    ours, statistic = f"mean {mean} of {runs_text(sample)}", figure.statistic.description()
    if not gap:
        return f"{ours} equals the paper's figure"
    if len(mean.rpartition(".")[2]) == 2:  # the difference of the two numbers as they are shown
        size = str(abs(Decimal(mean) - Decimal(figure.printed)))
    theirs = f"the paper's {figure.printed}" + (f" ({statistic})" if statistic else "")
    return f"{ours} is {size} {'above' if gap > 0 else 'below'} {theirs}"


def _percent(level: float) -> str:
    return f"{100 * level:.0f} %"


def _interval(statistic: Statistic, level: float) -> str:
    """Return the name of the interval that a gap is compared with."""
    if statistic.has_spread:
        return f"{_percent(level)} interval of the difference between the two means"
    averaged = statistic.description() if statistic.kind in ("mean", "median") else ""
    return f"{_percent(level)} prediction interval" + (f" for {averaged}" if averaged else "")


def _remarks(figure: Figure, sequential: bool) -> str:
    """Return the caveats of a judged row, each in brackets."""
    remarks = []
    if figure.unstated:
        unstated = " or ".join(figure.unstated)
        remarks.append(f"the source does not say {unstated}" if figure.read else f"not known here: {unstated}")
    if figure.statistic.spread is not None and not figure.statistic.has_spread:
        remarks.append("the source's spread can't be used: it is not that of a mean")
    if sequential:
        remarks.append(SEEDS_ADDED)
    return "".join(f" ({remark})" for remark in remarks)


def _when(sample: Sample) -> str:
    rare = sample.n and sample.n / sample.seeds < MIN_TRAINED
    return f"when it trains ({sample.n} of {sample.seeds} seeds did), " if rare else ""


def _more_seeds(sample: Sample, figure: Figure, size: int) -> str:
    """Return what a row shows that is not judged before it has `size` finished seeds."""
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
    so_far = so_far if gap else f"mean {mean}, equal to the paper's figure"
    return _when(sample) + f"{n} of the {size} finished seeds that a verdict needs; so far {so_far}"


def _within(gap: float, h: float, tol: float, interval: str, near: str) -> str:
    """Return the end of the sentence on a reproduced figure: within which of the two limits the gap is."""
    if gap <= h and gap <= tol:
        return f", within {interval} and {near}"
    if gap <= h:
        return f", more than {near} but within {interval}, so it may be chance"
    return f", outside {interval} but within {near}, so it is too small to count"


def _outlook(n: int, to_go: int | None) -> str:
    """Return a clause on how many seeds would end an inconclusive verdict of `n` seeds; `to_go` is that of Verdict."""
    most = INTERIM_SIZES[-1]
    if to_go:
        return f"about {number(to_go, 'more seed')} would probably decide it"
    return f"even {most} seeds would probably not decide it" if n < most else f"{n} seeds did not decide it"
