"""The verdict rules on hand-made cases, and their error rates by simulation."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.intervals import ONE_RUN, Statistic, sample_of_runs, sample_of_seeds, summarise
from benchmarks.verdicts import INTERIM_SIZES, Figure, Verdict, Word, decide, detection_power, runs_text, verdict

FIVE = [10.3, 10.5, 10.6, 10.55, 10.65]  # mean 10.52, sd 0.135093, both by hand
error_lists = st.lists(st.integers(0, 10_000).map(lambda wrong: wrong / 100), min_size=2, max_size=12)


# --- the rules, in their order -----------------------------------------------------------------------------------------


def verdict_of(
    errors: list[float], seeds: int | None = None, reported: float | None = 10.41, sequential: bool = False, **about
) -> Verdict:
    """Return the verdict on seeds that ran once each; `about` are fields of the figure."""
    figure = None if reported is None else Figure(reported, **about)
    return verdict(sample_of_seeds(errors, seeds), figure, sequential)


def judge(errors: list[float], seeds: int | None = None, **changes) -> tuple[str, str]:
    outcome = verdict_of(errors, seeds, **changes)
    return outcome.word, outcome.reason


def decide_at(gap: float, sd: float, n: int, tol: float, sequential: bool = False) -> Word:
    """Return the word for a gap to one run of a source."""
    h = ONE_RUN.half_width(0.95, sd, n)
    return decide(gap, tol, h, ONE_RUN.half_width(0.99, sd, n) if sequential else h)


def test_without_a_figure_nothing_is_judged() -> None:
    assert judge([], reported=None)[0] == "not judged"
    assert judge(FIVE, reported=None, differences=["x"])[0] == "not judged"


@pytest.mark.parametrize(("n", "to_go"), [(6, 4), (9, 1), (12, 3), (19, 1)])
def test_a_sequential_row_is_not_judged_between_two_interim_analyses(n, to_go) -> None:
    outcome = verdict_of([10.4, 10.5] * (n // 2) + [10.45] * (n % 2), sequential=True)
    assert (outcome.word, outcome.to_go) == ("more seeds", to_go)
    assert f"{n} of the {n + to_go} finished seeds that a verdict needs" in outcome.reason
    assert outcome.reason.endswith("(seeds were added after looking at the results)")
    assert verdict_of([10.4, 10.5] * 10 + [10.45] * (n % 2), sequential=True).word == "reproduced"  # 20 or 21 seeds
    assert verdict_of([10.4, 10.5] * (n // 2)).word == "reproduced"  # no seed was added


def test_a_figure_that_is_context_only_is_named_and_not_judged() -> None:
    found = verdict(sample_of_seeds(FIVE), None, context=["15.99 (Lin et al. 2013, Section 4.6)"])
    assert found.word == "not judged"
    assert "the printed 15.99 (Lin et al. 2013, Section 4.6) is shown for comparison and not judged" in found.reason
    both = verdict(sample_of_seeds([]), None, context=["1.6 (A)", "1.7 (B)"]).reason
    assert "the printed 1.6 (A) and 1.7 (B) are shown for comparison and not judged" in both


def test_without_an_ended_run_the_verdict_is_not_run() -> None:
    assert judge([], differences=["x"])[0] == "not run"
    assert judge([])[1] == "no run has ended; the paper's error is 10.41"
    one = verdict(sample_of_seeds([]), Figure(10.41), outdated=1).reason
    assert one.startswith("the run that ended is not counted, because of another revision or recipe; ")


def test_different_protocols_are_not_compared_and_the_reason_names_the_difference() -> None:
    word, reason = judge(FIVE, differences=["the paper augmented (flip), ours did not"])
    assert word == "not comparable"
    assert "the paper augmented (flip), ours did not" in reason
    assert judge([10.4], differences=["x"])[0] == "not comparable"


def test_fewer_than_five_finished_seeds_need_more() -> None:
    assert judge(FIVE[:4])[0] == "more seeds"
    word, reason = judge([10.4])
    assert word == "more seeds"
    assert "0.01 below the paper's 10.41" in reason


def test_the_reason_says_that_no_seed_trained() -> None:
    assert judge([], 5) == ("more seeds", "none of 5 seeds trained")
    assert judge([], 2) == ("more seeds", "none of 2 trained so far")


def test_a_gap_beyond_spread_and_tolerance_is_better_or_worse() -> None:
    assert judge(FIVE, reported=9.50)[0] == "worse"
    word, reason = judge(FIVE, reported=11.50)
    assert word == "better"
    assert "mean 10.52 of 5 seeds is 0.98 below the paper's 11.50" in reason


def test_a_gap_must_exceed_both_spread_and_tolerance() -> None:
    # sd 0 and a gap of 0.30 below the tolerance of 0.305: only the tolerance covers it.
    word, reason = judge([10.71] * 5)
    assert word == "reproduced"
    assert reason.endswith(
        ", outside the 95 % prediction interval (±0.00) but within the tolerance (±0.31), so it is too small to count"
    )
    assert judge([10.72] * 5)[0] == "worse"
    # h = 2.776 sd sqrt(1.2): sd 0.15 gives 0.456, below 2 tol = 0.611; a gap of 0.4 is between the tolerance and h.
    spread = [10.81 + 0.15 * z for z in (-1.264911, -0.632456, 0, 0.632456, 1.264911)]
    word, reason = judge(spread)
    assert word == "reproduced"
    assert reason.endswith(
        "more than the tolerance (±0.31) but within the 95 % prediction interval (±0.46), so it may be chance"
    )


def test_a_wide_spread_is_inconclusive_unless_the_gap_is_wider() -> None:
    wide = [9.0, 10.0, 11.0, 10.5, 12.0]
    assert judge(wide)[0] == "inconclusive"
    assert judge([error + 30 for error in wide])[0] == "worse"


def test_the_reason_for_reproduced_has_its_numbers() -> None:
    word, reason = judge(FIVE)
    assert word == "reproduced"
    assert reason == (
        "mean 10.52 of 5 seeds is 0.11 above the paper's 10.41, "
        "within the 95 % prediction interval (±0.41) and the tolerance (±0.31)"
    )
    assert "equals the paper's figure" in judge([10.41] * 5)[1]


@pytest.mark.parametrize(("runs", "prefixed"), [(5, False), (6, False), (7, True), (20, True)])
def test_the_reason_begins_with_when_it_trains_if_fewer_than_four_fifths_did(runs: int, prefixed: bool) -> None:
    assert judge(FIVE, runs)[1].startswith("when it trains") is prefixed
    assert judge(FIVE, runs, differences=["x"])[1].startswith("when it trains") is prefixed
    assert judge(FIVE, runs, reported=3.0)[1].startswith("when it trains") is prefixed


def test_different_numbers_never_look_equal_in_a_reason() -> None:
    # A gap of 0.072 against a tolerance of 0.0684 would read "0.07 more than 0.07".
    word, reason = judge([0.54, 0.54, 0.54, 0.54, 0.55], reported=0.47)
    assert word == "worse"
    assert "0.072 above" in reason
    assert "(±0.068)" in reason


@given(error_lists, st.floats(0, 100), st.integers(0, 8))
def test_any_errors_get_one_word_and_a_reason(errors: list[float], reported: float, failed: int) -> None:
    outcome = verdict_of(errors, len(errors) + failed, reported)
    expected = {"more seeds"} if len(errors) < 5 else {"better", "worse", "inconclusive", "reproduced"}
    assert outcome.word in expected
    assert outcome.reason
    if outcome.word in ("better", "worse"):
        assert (np.mean(errors) > reported) == (outcome.word == "worse")


# --- error rates, by simulation under a known truth -----------------------------------------------------------------


def test_the_prediction_interval_covers_one_run_of_the_paper_in_95_percent() -> None:
    random = np.random.default_rng(0)
    runs = random.normal(10.0, 0.3, size=(4_000, 6))
    covered = 0
    for *ours, theirs in runs.tolist():
        row = summarise(sample_of_seeds(ours))
        covered += abs(row.mean - theirs) <= row.prediction
    assert covered / len(runs) == pytest.approx(0.95, abs=0.012)  # three standard errors


def test_equal_models_are_called_better_or_worse_in_at_most_one_of_twenty_rows() -> None:
    random = np.random.default_rng(1)
    for spread in (0.1, 0.3, 1.0):
        runs = random.normal(10.0, spread, size=(1_000, 6)).tolist()
        words = [verdict_of(ours, reported=round(theirs, 2)).word for *ours, theirs in runs]
        assert sum(word in ("better", "worse") for word in words) / len(words) < 0.05 + 0.02


def test_a_gap_of_one_point_is_detected() -> None:
    random = np.random.default_rng(2)
    shifted = random.normal(11.4, 0.15, size=(300, 5)).tolist()
    assert sum(verdict_of(runs, reported=10.4).word == "worse" for runs in shifted) > 290


def prediction_error_rate(errors: np.ndarray, tol: float = 0.3, sequential: bool = False) -> tuple[float, float]:
    """Return the shares of rows called (better, worse); the last column is the paper's run, of the same distribution."""
    words = []
    for *ours, theirs in np.round(errors, 2).tolist():
        row = summarise(sample_of_seeds(ours))
        words.append(decide_at(round(row.mean - theirs, 9), row.sd, row.n, tol, sequential))
    return words.count("better") / len(words), words.count("worse") / len(words)


@pytest.mark.parametrize("n", [5, 10])
def test_skewed_errors_give_wrong_verdicts_on_one_side_in_less_than_one_of_ten_rows(n: int) -> None:
    # A long tail of bad runs: if the paper's one run is in the tail, ours look better.
    random = np.random.default_rng(3)
    tail = 10 + 0.4 * (random.exponential(size=(1_500, n + 1)) - 1)
    better, worse = prediction_error_rate(tail)
    assert 0.05 < better < 0.10
    assert worse < 0.01
    better, worse = prediction_error_rate(20 - tail)
    assert worse < 0.10
    assert better < 0.01


@pytest.mark.parametrize(("sd", "most"), [(0.02, 0.01), (0.04, 0.06)])
def test_ties_on_mnist_cause_no_wrong_verdicts(sd: float, most: float) -> None:
    # Errors of 0.47 % are multiples of 0.01, so seeds tie and the spread may be 0. Then only the tolerance decides.
    random = np.random.default_rng(4)
    runs = random.normal(0.47, sd, size=(1_500, 6))
    assert sum(prediction_error_rate(runs, tol=0.0684)) < most


def sequential_error_rate(random: np.random.Generator, sd: float, guarded: bool, rows: int = 1_200) -> float:
    """Return how often equal rows end as better or worse when seeds are added until the row is decided."""
    wrong = 0
    for *ours, theirs in random.normal(10.0, sd, size=(rows, INTERIM_SIZES[-1] + 1)).tolist():
        for size in INTERIM_SIZES:
            row = summarise(sample_of_seeds(ours[:size]))
            word = decide_at(row.mean - theirs, row.sd, size, 0.3, guarded and size > INTERIM_SIZES[0])
            if word != "inconclusive":
                break
        wrong += word in ("better", "worse")
    return wrong / rows


def test_a_sequential_row_is_wrong_no_more_often_than_a_fixed_one() -> None:
    random = np.random.default_rng(5)
    assert sequential_error_rate(random, 0.6, guarded=False) > 0.075  # why sequential rows need the 99 % interval
    for sd in (0.2, 0.4, 0.6):
        assert sequential_error_rate(random, sd, guarded=True) < 0.05 + 0.02


@pytest.mark.slow
def test_error_rates_of_the_protocols_page() -> None:
    """Check the rates that results/README.md states, with 20,000 rows each."""
    random = np.random.default_rng(6)
    normal = random.normal(10.0, 0.4, size=(20_000, 6))
    assert sum(prediction_error_rate(normal)) == pytest.approx(0.05, abs=0.005)
    assert sequential_error_rate(random, 0.6, guarded=False, rows=20_000) == pytest.approx(0.095, abs=0.01)
    assert sequential_error_rate(random, 0.6, guarded=True, rows=20_000) == pytest.approx(0.055, abs=0.01)
    tail = 10 + 0.4 * (random.exponential(size=(20_000, 6)) - 1)
    assert sum(prediction_error_rate(tail)) == pytest.approx(0.075, abs=0.01)


# --- seeds to go, power --------------------------------------------------------------------------------------------------


def to_go(errors: list[float], seeds: int | None = None, **changes) -> int | None:
    return verdict_of(errors, seeds, **changes).to_go


def test_a_decided_row_has_no_seeds_to_go() -> None:
    assert to_go(FIVE) == 0
    assert to_go(FIVE, reported=None) == 0
    assert to_go(FIVE, differences=["x"]) == 0


def test_too_few_seeds_need_five_and_more_if_some_fail() -> None:
    assert to_go([]) == 5
    assert to_go([10.4]) == 4
    assert to_go([10.4, 10.5], 4) == 6
    assert to_go([], 5) is None


def test_an_inconclusive_row_needs_the_first_interim_size_that_would_decide_it() -> None:
    # tol 0.3054; mean 10.41; h = t sd sqrt(1 + 1/n) with t(0.975, 9) = 2.262, t(0.975, 14) = 2.145 from a printed table.
    def of(sd: float) -> list[float]:
        return [10.41 + sd * z for z in (-1.264911, -0.632456, 0, 0.632456, 1.264911)]

    assert 2.776 * 0.24 * math.sqrt(1.2) > 2 * 0.3054 > 2.262 * 0.24 * math.sqrt(1.1)
    assert to_go(of(0.24)) == 5
    assert 2.262 * 0.27 * math.sqrt(1.1) > 2 * 0.3054 > 2.145 * 0.27 * math.sqrt(1 + 1 / 15)
    assert to_go(of(0.27)) == 10
    assert to_go(of(0.27), 10) == 20  # every other seed trains
    word, reason = judge(of(0.27))
    assert word == "inconclusive"
    assert reason.endswith("wider than twice the tolerance (±0.31); about 10 more seeds would probably decide it")
    assert to_go(of(1.0)) is None
    assert judge(of(1.0))[1].endswith("; even 20 seeds would probably not decide it")
    assert judge(of(1.0) * 5)[1].endswith("; 25 seeds did not decide it")


def test_seeds_to_go_are_right_more_often_than_not() -> None:
    random = np.random.default_rng(8)
    right = total = 0
    for runs in random.normal(10.5, 0.24, size=(600, 20)).tolist():
        more = to_go(runs[:5])
        if more:
            total += 1
            right += verdict_of(runs[: 5 + more], sequential=True).word != "inconclusive"
    assert total > 150
    assert right / total > 0.6


def of_mean(mean: float, sd: float) -> list[float]:
    """Return ten errors with exactly this mean and standard deviation."""
    z = np.array([-1.5, -1.1, -0.7, -0.4, -0.1, 0.1, 0.4, 0.7, 1.1, 1.5])
    return (mean + sd * z / z.std(ddof=1)).tolist()


def test_a_sequential_row_between_the_two_intervals_is_inconclusive() -> None:
    # sd 0.2 of ten seeds: h = 2.262 * 0.2 * sqrt(1.1) = 0.474 at 95 %, 3.250 * ... = 0.682 at 99 %, by a printed table.
    ten = of_mean(11.01, 0.2)  # 0.60 above, the tolerance is 0.31
    assert judge(ten)[0] == "worse"
    word, reason = judge(ten, sequential=True)
    assert word == "inconclusive"
    assert reason.startswith(
        "mean 11.01 of 10 seeds is 0.60 above the paper's 10.41, outside the 95 % prediction interval (±0.47) and the "
        "tolerance (±0.31), but inside the 99 % one (±0.68)"
    )
    assert "about 10 more seeds would probably decide it" in reason
    assert reason.endswith("(seeds were added after looking at the results)")
    assert judge(of_mean(9.71, 0.2), sequential=True)[0] == "better"
    assert "outside the 99 % prediction interval (±0.68)" in judge(of_mean(11.41, 0.2), sequential=True)[1]


def test_a_sequential_row_is_reproduced_under_the_same_conditions_as_a_fixed_one() -> None:
    for mean in (10.41, 10.6, 10.8):  # within the 95 % interval, or the tolerance
        assert judge(of_mean(mean, 0.2), sequential=True)[0] == judge(of_mean(mean, 0.2))[0] == "reproduced"
    within_the_tolerance = of_mean(10.7, 0.1)  # 0.29 above: more than h = 0.24
    assert judge(within_the_tolerance, sequential=True)[0] == "reproduced"


def test_no_gap_that_a_fixed_row_detects_is_reproduced_in_a_sequential_one() -> None:
    for gap in np.arange(0, 1.5, 0.01):
        for sd in (0.05, 0.15, 0.25, 0.4):
            once, again = (decide_at(gap, sd, 10, 0.31, sequential) for sequential in (False, True))
            assert (once, again) in {(once, once), ("worse", "inconclusive")}


# --- the source's own statistic, and runs of one seed ------------------------------------------------------------------


def test_a_median_of_three_has_a_narrower_interval_that_the_reason_names() -> None:
    # sd 0.2 of ten: 2.262 * 0.2 * sqrt(0.1 + 0.4487) = 0.335 instead of 0.474.
    ten = of_mean(10.81, 0.2)
    assert judge(ten)[0] == "reproduced"
    word, reason = judge(ten, statistic=Statistic("median", 3))
    assert word == "worse"
    assert (
        "the paper's 10.41 (a median of 3 runs), outside the 95 % prediction interval for a median of 3 runs (±0.34)"
        in reason
    )


def test_a_source_with_its_own_spread_is_compared_by_welchs_interval() -> None:
    ten = [1.08 + 0.05 * z / 10 for z in range(-6, 4)]
    word, reason = judge(ten, reported=1.08, statistic=Statistic("mean", 10, spread=0.04))
    assert word == "reproduced"
    assert "the 95 % interval of the difference between the two means (±0.03)" in reason
    assert judge([e + 0.2 for e in ten], reported=1.08, statistic=Statistic("mean", 10, spread=0.04))[0] == "worse"


def test_the_reason_counts_runs_and_seeds_if_a_seed_ran_again() -> None:
    runs = [(seed, "finished", error) for seed, error in enumerate(FIVE)]
    sample = sample_of_runs([*runs, (0, "finished", 10.31), (3, "finished", 10.56)])
    outcome = verdict(sample, Figure(10.41))
    assert outcome.reason.startswith("mean 10.52 of 7 runs of 5 seeds is 0.11 above the paper's 10.41")
    five_copies = sample_of_runs((0, "finished", 10.4 + i / 1_000) for i in range(5))
    assert verdict(five_copies, Figure(10.41)).word == "more seeds"
    assert runs_text(five_copies) == "5 runs of 1 seed"
    assert runs_text(sample_of_seeds([10.4])) == "1 seed"


def test_only_a_source_that_was_read_is_said_to_omit_something() -> None:
    unstated = ["whether it augmented"]
    assert judge(FIVE, unstated=unstated)[1].endswith("(the source does not say whether it augmented)")
    assert judge(FIVE, unstated=unstated, read=False)[1].endswith("(not known here: whether it augmented)")


def test_the_gap_in_a_reason_is_the_difference_of_the_two_numbers_shown() -> None:
    reason = judge([1.785, 1.885, 1.985, 1.835, 1.935], reported=1.6, last_digit=0.1)[1]
    assert reason.startswith("mean 1.89 of 5 seeds is 0.29 above the paper's 1.6")


# --- how many seeds detect a gap -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("gap", "sd", "n", "tol"), [(0.5, 0.2, 5, 0.3), (0.5, 0.2, 19, 0.3), (0.3, 0.1, 9, 0.09), (0.0, 0.3, 5, 0.3)]
)
def test_the_detection_power_matches_a_simulation(gap: float, sd: float, n: int, tol: float) -> None:
    runs = np.random.default_rng(9).normal(10.0 + gap, sd, size=(3_000, n)).tolist()
    rows = [summarise(sample_of_seeds(errors)) for errors in runs]
    detected = sum(decide_at(row.mean - 10.0, row.sd, n, tol) == "worse" for row in rows) / len(rows)
    assert detection_power(gap, sd, n, tol) == pytest.approx(detected, abs=0.03)
