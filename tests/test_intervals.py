"""Means, spreads and intervals against closed formulas, scipy.stats and simulations."""

import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from benchmarks.intervals import (
    Sample,
    Statistic,
    gap_text,
    median_variance,
    outcome_of_seed,
    sample_of_runs,
    sample_of_seeds,
    summarise,
    tolerance,
    welch,
    welch_ratio,
)
from benchmarks.verdicts import Figure, verdict

FIVE = [10.3, 10.5, 10.6, 10.55, 10.65]  # mean 10.52, sd 0.135093, both by hand
error_lists = st.lists(st.integers(0, 10_000).map(lambda wrong: wrong / 100), min_size=2, max_size=12)

# --- the numbers -------------------------------------------------------------------------------------------------------


def test_summary_of_five_matches_the_printed_tables() -> None:
    # t(0.975, 4) = 2.776445 from a printed table.
    summary = summarise(sample_of_seeds(FIVE))
    assert summary.n == 5
    assert summary.mean == pytest.approx(10.52)
    assert summary.sd == pytest.approx(0.135093, abs=1e-6)
    assert summary.half_width == pytest.approx(2.776445 * 0.1350926 / math.sqrt(5), rel=1e-5)
    assert summary.prediction == pytest.approx(2.776445 * 0.1350926 * math.sqrt(1.2), rel=1e-5)


def test_summary_of_too_few_seeds_has_none_for_undefined_values() -> None:
    none, one = summarise(sample_of_seeds([])), summarise(sample_of_seeds([10.0]))
    assert (none.n, none.mean, none.sd, none.prediction) == (0, None, None, None)
    assert (one.n, one.mean, one.sd, one.half_width) == (1, 10.0, None, None)


@given(error_lists)
def test_summary_agrees_with_numpy_and_scipy(errors: list[float]) -> None:
    summary = summarise(sample_of_seeds(errors))
    assert summary.mean == pytest.approx(np.mean(errors))
    assert summary.sd == pytest.approx(np.std(errors, ddof=1), abs=1e-9)
    scale = np.std(errors, ddof=1) / math.sqrt(len(errors))
    half = stats.t.interval(0.95, len(errors) - 1, scale=scale)[1] if scale > 0 else 0.0
    assert summary.half_width == pytest.approx(half, abs=1e-9)


@given(st.integers(0, 10_000), st.integers(2, 12))
def test_equal_errors_have_exactly_no_spread(wrong: int, n: int) -> None:
    summary = summarise(sample_of_seeds([wrong / 100] * n))
    assert (summary.sd, summary.half_width, summary.prediction) == (0.0, 0.0, 0.0)


def test_tolerance_is_one_binomial_deviation_and_at_least_half_the_last_digit() -> None:
    # papers.md D.8: about 0.31 at 10.4 %, 0.29 at 9 %, 0.07 at 0.47 % on 10,000; 0.09 at 2.35 % on SVHN's 26,032.
    assert round(tolerance(10.41, 10_000, 0.01), 2) == 0.31
    assert round(tolerance(9.0, 10_000, 0.01), 2) == 0.29
    assert round(tolerance(0.47, 10_000, 0.01), 2) == 0.07
    assert round(tolerance(2.35, 26_032, 0.01), 2) == 0.09
    assert tolerance(10.0, 10_000, 1.0) == 0.5
    assert tolerance(0.0, 10_000, 0.01) == 0.005


@given(error_lists, error_lists)
def test_welch_agrees_with_the_textbook_formula(a: list[float], b: list[float]) -> None:
    difference = welch(a, b)
    assert difference.value == pytest.approx(np.mean(b) - np.mean(a), abs=1e-8)
    va, vb = np.var(a, ddof=1) / len(a), np.var(b, ddof=1) / len(b)
    if va + vb < 1e-18:  # numpy leaves dust where the errors are equal
        assert difference.low == difference.high == difference.value
    else:
        degrees = (va + vb) ** 2 / (va**2 / (len(a) - 1) + vb**2 / (len(b) - 1))
        half = stats.t.ppf(0.95, degrees) * math.sqrt(va + vb)
        assert (difference.low, difference.high) == pytest.approx(
            (difference.value - half, difference.value + half), abs=1e-6
        )


def test_welch_agrees_with_scipy() -> None:
    other = [14.0, 14.1, 14.2, 14.3, 14.0, 15.0]
    interval = stats.ttest_ind(other, FIVE, equal_var=False).confidence_interval(0.90)
    difference = welch(FIVE, other)
    assert (difference.low, difference.high) == pytest.approx((interval.low, interval.high))


def test_a_ratio_agrees_with_a_bootstrap_of_its_own_kind() -> None:
    # The delta method against 40,000 normal draws of both means: the ratio's middle 90 %.
    random = np.random.default_rng(20)
    a, b = random.normal(10.5, 0.3, 400), random.normal(14.2, 0.4, 400)
    ratio = welch_ratio(a.tolist(), b.tolist())
    means = [random.normal(x.mean(), x.std(ddof=1) / math.sqrt(400), 40_000) for x in (a, b)]
    low, high = np.quantile(means[0] / means[1], [0.05, 0.95])
    assert ratio.value == pytest.approx(a.mean() / b.mean())
    assert (ratio.low, ratio.high) == pytest.approx((low, high), abs=1e-4)
    assert welch_ratio([1.0, 2.0], [0.0, 0.0]) is None


def test_a_ratio_without_spread_has_an_interval_of_one_point() -> None:
    ratio = welch_ratio([8.0] * 5, [10.0] * 5)
    assert (ratio.value, ratio.low, ratio.high) == (0.8, 0.8, 0.8)


# --- a source's own statistic ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("k", [1, 3, 5, 7])
def test_the_variance_of_a_median_matches_a_simulation(k: int) -> None:
    drawn = np.median(np.random.default_rng(21).normal(size=(200_000, k)), axis=1).var()
    assert median_variance(k) == pytest.approx(drawn, rel=0.015)


def test_the_variance_of_a_median_of_three_matches_the_known_value() -> None:
    assert median_variance(3) == pytest.approx(1 - math.sqrt(3) / math.pi, abs=1e-6)  # the closed form: 0.4487
    assert median_variance(4) == median_variance(3)  # an even number: a little too wide


def test_the_interval_is_narrower_for_a_mean_or_a_median_of_several_runs() -> None:
    t = 2.776445  # t(0.975, 4) from a printed table
    for statistic, share in [
        (Statistic(), 1),
        (Statistic("best", 4), 1),
        (Statistic("mean", 5), 1 / 5),
        (Statistic("median", 3), 0.448671),
    ]:
        assert statistic.half_width(0.95, 0.2, 5) == pytest.approx(t * 0.2 * math.sqrt(1 / 5 + share), rel=1e-5)


def test_a_source_with_its_own_spread_gets_welchs_interval() -> None:
    ours, theirs = np.array(FIVE), np.random.default_rng(22).normal(10.4, 0.3, 10)
    printed = Statistic("mean", 10, spread=theirs.std(ddof=1))
    interval = stats.ttest_ind(ours, theirs, equal_var=False).confidence_interval(0.95)
    half = printed.half_width(0.95, ours.std(ddof=1), 5)
    assert half == pytest.approx((interval.high - interval.low) / 2)
    of_the_mean = Statistic("mean", 10, spread=theirs.std(ddof=1) / math.sqrt(10), standard_error=True)
    assert of_the_mean.half_width(0.95, ours.std(ddof=1), 5) == pytest.approx(half)


@pytest.mark.parametrize(
    ("statistic", "draw"),
    [
        (Statistic(), lambda runs: runs[:, 0]),
        (Statistic("median", 3), lambda runs: np.median(runs[:, :3], axis=1)),
        (Statistic("mean", 10), lambda runs: runs.mean(axis=1)),
    ],
)
def test_the_prediction_interval_covers_the_sources_figure_in_95_percent(statistic, draw) -> None:
    random = np.random.default_rng(23)
    ours, theirs = random.normal(10.0, 0.3, size=(4_000, 5)), draw(random.normal(10.0, 0.3, size=(4_000, 10)))
    covered = [
        abs(errors.mean() - figure) <= statistic.half_width(0.95, errors.std(ddof=1), 5)
        for errors, figure in zip(ours, theirs, strict=True)
    ]
    assert np.mean(covered) == pytest.approx(0.95, abs=0.012)  # three standard errors


# --- a seed counts once ----------------------------------------------------------------------------------------------------


def test_several_runs_of_a_seed_are_averaged_first() -> None:
    runs = [(0, "finished", 10.0), (0, "finished", 10.4), (1, "finished", 11.0), (2, "finished", 12.0)]
    sample = sample_of_runs(runs)
    assert sample.errors == (10.2, 11.0, 12.0)
    assert (sample.n, sample.seeds, sample.runs, sample.averaged) == (3, 3, 4, 4)
    # Within a seed the variance is 0.08, from one degree; of it the means lack 1 - (1/2 + 1 + 1) / 3 on average.
    assert sample.repeats == pytest.approx(0.08 * (1 - 2.5 / 3))
    once = sample_of_runs(runs[1:])
    assert once == sample_of_seeds([10.4, 11.0, 12.0])
    assert once.repeats == 0.0


@pytest.mark.parametrize(
    ("outcomes", "seed"),
    [
        (["finished"], "finished"),
        (["finished", "collapsed", "finished"], "finished"),
        (["finished", "collapsed"], "collapsed"),
        (["finished", "diverged"], "diverged"),
        (["collapsed", "diverged"], "diverged"),
        (["finished", "collapsed", "diverged"], "diverged"),
        (["diverged", "collapsed", "collapsed", "finished"], "collapsed"),
    ],
)
def test_a_seeds_outcome_is_the_most_frequent_of_its_runs_and_in_a_tie_the_worst(outcomes: list, seed: str) -> None:
    assert outcome_of_seed(outcomes) == outcome_of_seed(outcomes[::-1]) == seed


def test_a_seed_that_mostly_fails_has_no_error() -> None:
    sample = sample_of_runs(
        [(0, "finished", 10.0), (0, "collapsed", 90.0), (1, "finished", 10.2), (2, "diverged", math.nan)]
    )
    assert (sample.errors, sample.seeds, sample.runs, sample.averaged) == ((10.2,), 3, 4, 1)


@given(
    st.lists(st.tuples(st.integers(0, 4), st.sampled_from(["finished", "collapsed"]), st.floats(0, 100)), max_size=15)
)
def test_no_run_changes_another_seed(runs: list) -> None:
    sample = sample_of_runs(runs)
    assert sample.seeds == len({seed for seed, *_ in runs})
    assert sample.n <= sample.seeds <= sample.runs == len(runs)
    assert sample.repeats >= 0


def rows_called_otherwise(between: float, within: float, copies: int, pooled: bool, rows: int = 700) -> float:
    """Return how often 5 seeds with several runs each are called better or worse than one run of the same distribution."""
    random = np.random.default_rng(24)
    seeds = random.normal(10.0, between, size=(rows, 5, 1)) if between else np.full((rows, 5, 1), 10.0)
    errors = seeds + random.normal(0.0, within, size=(rows, 5, copies))
    theirs = random.normal(10.0, math.hypot(between, within), size=rows)
    wrong_verdicts = 0
    for row, figure in zip(errors, theirs, strict=True):
        if pooled:  # as if every run were a seed of its own
            sample = sample_of_seeds(row.ravel().tolist())
        else:
            sample = sample_of_runs(
                (seed, "finished", error) for seed, runs in enumerate(row.tolist()) for error in runs
            )
        wrong_verdicts += verdict(sample, Figure(figure, last_digit=1e-6)).word in ("better", "worse")
    return wrong_verdicts / rows


@pytest.mark.parametrize(
    ("between", "within"),
    [
        (0.6, 0.0),
        pytest.param(0.6, 0.2, marks=pytest.mark.slow),
        (0.4, 0.4),
        pytest.param(0.2, 0.6, marks=pytest.mark.slow),
        (0.0, 0.6),
    ],
)
def test_copies_of_five_seeds_give_no_more_wrong_verdicts_than_five_seeds(between: float, within: float) -> None:
    assert rows_called_otherwise(between, within, copies=4, pooled=False) < 0.05 + 0.02


def test_copies_counted_as_seeds_would_give_more_wrong_verdicts() -> None:
    assert rows_called_otherwise(0.6, 0.1, copies=4, pooled=True) > 0.10  # why a seed counts once


def test_ignoring_the_variance_removed_by_averaging_would_give_more_wrong_verdicts(monkeypatch) -> None:
    import benchmarks.intervals

    monkeypatch.setattr(benchmarks.intervals, "_averaged_away", lambda trained: 0.0)
    assert rows_called_otherwise(0.0, 0.6, copies=4, pooled=False) > 0.15  # why Sample.repeats is there


# --- numbers in sentences ---------------------------------------------------------------------------------------------------


def test_a_gap_is_the_difference_of_the_two_numbers_shown() -> None:
    assert f"{1.885:.2f}" == "1.89"
    assert round(1.885 - 1.6, 2) == 0.28  # what stood there beside 1.89 and 1.6
    assert gap_text(1.885, "1.6") == "+0.29"
    assert gap_text(10.3, "10.41") == "-0.11"
    assert gap_text(18.374, "18") == "+0.37"


def test_an_empty_sample_has_no_summary() -> None:
    assert summarise(Sample()).mean is None


def test_importing_the_rules_loads_neither_scipy_nor_pandas() -> None:
    modules = "benchmarks.intervals, benchmarks.verdicts, benchmarks.claims, benchmarks.papers"
    code = f"import sys, {modules}; sys.exit('scipy' in sys.modules or 'pandas' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
