"""The statistics against closed formulas and scipy.stats, the rules on hand-made cases, and their error rates."""

import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from benchmarks.power import power_table, seeds_needed
from benchmarks.verdicts import (
    LOOKS,
    chance_of_telling,
    claim_verdict,
    decide,
    equivalence,
    summarise,
    tolerance,
    verdict,
    welch,
)

FIVE = [10.3, 10.5, 10.6, 10.55, 10.65]  # mean 10.52, sd 0.135093, both by hand
error_lists = st.lists(st.integers(0, 10_000).map(lambda wrong: wrong / 100), min_size=2, max_size=12)


# --- the numbers -------------------------------------------------------------------------------------------------------


def test_summary_of_five_is_that_of_the_tables() -> None:
    # t(0.975, 4) = 2.776445 from a printed table.
    found = summarise(FIVE)
    assert found.n == 5
    assert found.mean == pytest.approx(10.52)
    assert found.sd == pytest.approx(0.135093, abs=1e-6)
    assert found.half_width == pytest.approx(2.776445 * 0.1350926 / math.sqrt(5), rel=1e-5)
    assert found.prediction == pytest.approx(2.776445 * 0.1350926 * math.sqrt(1.2), rel=1e-5)


def test_summary_of_too_few_leaves_undefined_what_is() -> None:
    none, one = summarise([]), summarise([10.0])
    assert (none.n, none.mean, none.sd, none.prediction) == (0, None, None, None)
    assert (one.n, one.mean, one.sd, one.half_width) == (1, 10.0, None, None)


@given(error_lists)
def test_summary_agrees_with_numpy_and_scipy(errors: list[float]) -> None:
    found = summarise(errors)
    assert found.mean == pytest.approx(np.mean(errors))
    assert found.sd == pytest.approx(np.std(errors, ddof=1), abs=1e-9)
    scale = np.std(errors, ddof=1) / math.sqrt(len(errors))
    half = stats.t.interval(0.95, len(errors) - 1, scale=scale)[1] if scale > 0 else 0.0
    assert found.half_width == pytest.approx(half, abs=1e-9)


@given(st.integers(0, 10_000), st.integers(2, 12))
def test_equal_errors_have_exactly_no_spread(wrong: int, n: int) -> None:
    found = summarise([wrong / 100] * n)
    assert (found.sd, found.half_width, found.prediction) == (0.0, 0.0, 0.0)


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
    found = welch(a, b)
    assert found.value == pytest.approx(np.mean(b) - np.mean(a), abs=1e-8)
    va, vb = np.var(a, ddof=1) / len(a), np.var(b, ddof=1) / len(b)
    if va + vb < 1e-18:  # numpy leaves dust where the errors are equal
        assert found.low == found.high == found.value
    else:
        degrees = (va + vb) ** 2 / (va**2 / (len(a) - 1) + vb**2 / (len(b) - 1))
        half = stats.t.ppf(0.95, degrees) * math.sqrt(va + vb)
        assert (found.low, found.high) == pytest.approx((found.value - half, found.value + half), abs=1e-6)


def test_welch_agrees_with_scipys_own() -> None:
    other = [14.0, 14.1, 14.2, 14.3, 14.0, 15.0]
    interval = stats.ttest_ind(other, FIVE, equal_var=False).confidence_interval(0.90)
    found = welch(FIVE, other)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))


# --- the rules, in their order -----------------------------------------------------------------------------------------


def judge(errors: list[float], **changes) -> tuple[str, str]:
    found = verdict(errors, **({"runs": len(errors), "reported": 10.41} | changes))
    return found.word, found.reason


def test_without_a_figure_nothing_is_judged_whatever_else_holds() -> None:
    assert judge([], reported=None)[0] == "no paper figure"
    assert judge(FIVE, reported=None, differences=["x"])[0] == "no paper figure"


def test_without_an_ended_run_it_is_not_run() -> None:
    assert judge([], differences=["x"])[0] == "not run"


def test_differing_protocols_are_not_compared_and_the_reason_says_in_what() -> None:
    word, reason = judge(FIVE, differences=["the paper augmented (flip), ours did not"])
    assert word == "not comparable"
    assert "the paper augmented (flip), ours did not" in reason
    assert judge([10.4], differences=["x"])[0] == "not comparable"


def test_fewer_than_five_finished_seeds_need_more() -> None:
    assert judge(FIVE[:4])[0] == "more seeds"
    word, reason = judge([10.4])
    assert word == "more seeds"
    assert "0.01 below the paper's 10.41" in reason


def test_where_none_of_five_trained_the_reason_says_so() -> None:
    assert judge([], runs=5) == ("more seeds", "none of 5 seeds trained")
    assert judge([], runs=2) == ("more seeds", "none of 2 trained so far")


def test_a_gap_beyond_spread_and_tolerance_is_better_or_worse() -> None:
    assert judge(FIVE, reported=9.50)[0] == "worse"
    word, reason = judge(FIVE, reported=11.50)
    assert word == "better"
    assert "mean 10.52 of 5 seeds is 0.98 below the paper's 11.50" in reason


def test_a_gap_must_exceed_both_spread_and_tolerance() -> None:
    # sd 0 and a gap of 0.30 below the tolerance of 0.305: only the tolerance covers it.
    word, reason = judge([10.71] * 5)
    assert word == "reproduced"
    assert "the tolerance (0.31) covers it, the spread of one run alone (±0.00) would not" in reason
    assert judge([10.72] * 5)[0] == "worse"
    # h = 2.776 sd sqrt(1.2): sd 0.15 gives 0.456, below 2 tol = 0.611; a gap of 0.4 lies between tolerance and h.
    spread = [10.81 + 0.15 * z for z in (-1.264911, -0.632456, 0, 0.632456, 1.264911)]
    assert judge(spread)[0] == "reproduced"


def test_too_wide_a_spread_is_inconclusive_but_not_where_the_gap_is_wider() -> None:
    wide = [9.0, 10.0, 11.0, 10.5, 12.0]
    assert judge(wide)[0] == "inconclusive"
    assert judge([error + 30 for error in wide])[0] == "worse"


def test_reproduced_states_its_numbers() -> None:
    word, reason = judge(FIVE)
    assert word == "reproduced"
    assert reason == (
        "mean 10.52 of 5 seeds is 0.11 above the paper's 10.41; "
        "the spread of one run (±0.41) and the tolerance (0.31) cover it"
    )
    assert "is the paper's own figure" in judge([10.41] * 5)[1]


def test_what_the_source_does_not_say_is_said() -> None:
    assert judge(FIVE, unstated=["whether it augmented"])[1].endswith("(the source does not say whether it augmented)")


@pytest.mark.parametrize(("runs", "prefixed"), [(5, False), (6, False), (7, True), (20, True)])
def test_below_four_fifths_trained_the_sentence_begins_with_it(runs: int, prefixed: bool) -> None:
    assert judge(FIVE, runs=runs)[1].startswith("when it trains") is prefixed
    assert judge(FIVE, runs=runs, differences=["x"])[1].startswith("when it trains") is prefixed
    assert judge(FIVE, runs=runs, reported=3.0)[1].startswith("when it trains") is prefixed


def test_numbers_that_differ_never_look_equal_in_a_reason() -> None:
    # A gap of 0.072 against a tolerance of 0.0684 would read "0.07 more than 0.07".
    word, reason = judge([0.54, 0.54, 0.54, 0.54, 0.55], reported=0.47)
    assert word == "worse"
    assert "0.072 above" in reason
    assert "(0.068)" in reason


@given(error_lists, st.floats(0, 100), st.integers(0, 8))
def test_any_numbers_get_one_word_and_a_sentence(errors: list[float], reported: float, failed: int) -> None:
    found = verdict(errors, runs=len(errors) + failed, reported=reported)
    expected = {"more seeds"} if len(errors) < 5 else {"better", "worse", "inconclusive", "reproduced"}
    assert found.word in expected
    assert found.reason
    if found.word in ("better", "worse"):
        assert (np.mean(errors) > reported) == (found.word == "worse")


# --- claims ------------------------------------------------------------------------------------------------------------


def test_a_claim_holds_fails_or_stays_open() -> None:
    low, high = FIVE, [14.0, 14.1, 14.2, 14.3, 14.0]
    held = claim_verdict(low, high, names=("a", "b"), reported=(10.41, 14.51))
    assert held.word == "holds"
    assert held.reason.startswith("a is 3.60 below b (90 % interval 3.44 to 3.76, 5 and 5 seeds)")
    assert held.reason.endswith("the paper's own difference is 4.10")
    assert claim_verdict(high, low).word == "fails"
    assert claim_verdict(FIVE, [error + 0.05 for error in FIVE]).word == "inconclusive"


def test_a_claim_without_spread_is_decided_by_its_sign() -> None:
    assert claim_verdict([10.0] * 5, [10.1] * 5).word == "holds"
    assert claim_verdict([10.1] * 5, [10.0] * 5).word == "fails"
    assert claim_verdict([10.0] * 5, [10.0] * 5).word == "inconclusive"
    assert claim_verdict([10.0] * 5, FIVE).word == "holds"


def test_a_claim_needs_five_seeds_on_both_sides() -> None:
    assert claim_verdict(FIVE, FIVE[:4]).word == "more seeds"
    assert claim_verdict([], [], runs=(5, 5)).word == "more seeds"
    missing = claim_verdict(FIVE, [], names=("a", "b"))
    assert (missing.word, missing.reason) == ("not run", "no run of b has ended")


def test_a_claim_about_a_model_that_often_fails_says_so() -> None:
    found = claim_verdict(FIVE, [14.0, 14.1, 14.2, 14.3, 14.0], runs=(9, 5), names=("a", "b"))
    assert found.reason.startswith("when it trains (a: 5 of 9)")


@given(error_lists, error_lists)
def test_a_claim_turned_round_gets_the_opposite_word(a: list[float], b: list[float]) -> None:
    opposite = {"holds": "fails", "fails": "holds"}
    word = claim_verdict(a, b).word
    assert claim_verdict(b, a).word == opposite.get(word, word)


# --- how often they err, by simulation under known truth -----------------------------------------------------------------


def test_prediction_interval_covers_the_papers_one_run_as_often_as_it_says() -> None:
    random = np.random.default_rng(0)
    runs = random.normal(10.0, 0.3, size=(4_000, 6))
    covered = 0
    for *ours, theirs in runs.tolist():
        row = summarise(ours)
        covered += abs(row.mean - theirs) <= row.prediction
    assert covered / len(runs) == pytest.approx(0.95, abs=0.012)  # three standard errors


def test_truly_equal_models_look_better_or_worse_in_at_most_one_of_twenty() -> None:
    random = np.random.default_rng(1)
    for spread in (0.1, 0.3, 1.0):
        runs = random.normal(10.0, spread, size=(1_000, 6)).tolist()
        words = [verdict(ours, runs=5, reported=round(theirs, 2)).word for *ours, theirs in runs]
        assert sum(word in ("better", "worse") for word in words) / len(words) < 0.05 + 0.02


def test_a_gap_of_a_point_is_seen_and_a_claim_without_truth_is_seldom_held() -> None:
    random = np.random.default_rng(2)
    shifted = random.normal(11.4, 0.15, size=(300, 5)).tolist()
    assert sum(verdict(runs, runs=5, reported=10.4).word == "worse" for runs in shifted) > 290
    pairs = random.normal(10.0, [[[0.1], [0.4]]], size=(2_000, 2, 5)).tolist()
    held = sum(claim_verdict(a, b).word == "holds" for a, b in pairs)
    assert held / len(pairs) == pytest.approx(0.05, abs=0.015)


def prediction_error_rate(errors: np.ndarray, tol: float = 0.3, sequential: bool = False) -> tuple[float, float]:
    """How often rows are called (better, worse) where the last column is the paper's one run, from the same spread."""
    words = []
    for *ours, theirs in np.round(errors, 2).tolist():
        row = summarise(ours)
        words.append(decide(round(row.mean - theirs, 9), row.sd, row.n, tol, sequential)[0])
    return words.count("better") / len(words), words.count("worse") / len(words)


@pytest.mark.parametrize("n", [5, 10])
def test_skewed_spreads_err_on_one_side_and_in_less_than_one_of_ten(n: int) -> None:
    # A long tail of bad runs: the paper's one run lies in the tail, and ours look better.
    random = np.random.default_rng(3)
    tail = 10 + 0.4 * (random.exponential(size=(1_500, n + 1)) - 1)
    better, worse = prediction_error_rate(tail)
    assert 0.05 < better < 0.10
    assert worse < 0.01
    better, worse = prediction_error_rate(20 - tail)
    assert worse < 0.10
    assert better < 0.01


@pytest.mark.parametrize(("sd", "most"), [(0.02, 0.01), (0.04, 0.06)])
def test_ties_on_mnist_do_no_harm(sd: float, most: float) -> None:
    # Errors of 0.47 % move in steps of 0.01, so seeds tie and the spread may be nothing: the tolerance then holds the rule.
    random = np.random.default_rng(4)
    runs = random.normal(0.47, sd, size=(1_500, 6))
    assert sum(prediction_error_rate(runs, tol=0.0684)) < most


def follow_looks(random: np.random.Generator, sd: float, guarded: bool, rows: int = 1_200) -> float:
    """How often truly equal rows end as better or worse when seeds are added at each look until they are decided."""
    wrong = 0
    for *ours, theirs in random.normal(10.0, sd, size=(rows, LOOKS[-1] + 1)).tolist():
        for look in LOOKS:
            row = summarise(ours[:look])
            word, _ = decide(row.mean - theirs, row.sd, look, 0.3, guarded and look > LOOKS[0])
            if word != "inconclusive":
                break
        wrong += word in ("better", "worse")
    return wrong / rows


def test_looking_again_and_again_errs_no_more_often_than_looking_once() -> None:
    random = np.random.default_rng(5)
    assert follow_looks(random, 0.6, guarded=False) > 0.075  # why the guard is there
    for sd in (0.2, 0.4, 0.6):
        assert follow_looks(random, sd, guarded=True) < 0.05 + 0.02


@pytest.mark.slow
def test_error_rates_of_the_protocols_page() -> None:
    """The rates that results/README.md states, with 20,000 rows each."""
    random = np.random.default_rng(6)
    normal = random.normal(10.0, 0.4, size=(20_000, 6))
    assert sum(prediction_error_rate(normal)) == pytest.approx(0.05, abs=0.005)
    assert follow_looks(random, 0.6, guarded=False, rows=20_000) == pytest.approx(0.095, abs=0.01)
    assert follow_looks(random, 0.6, guarded=True, rows=20_000) == pytest.approx(0.055, abs=0.01)
    tail = 10 + 0.4 * (random.exponential(size=(20_000, 6)) - 1)
    assert sum(prediction_error_rate(tail)) == pytest.approx(0.075, abs=0.01)


def test_claims_of_unequal_spreads_err_as_often_as_they_say() -> None:
    random = np.random.default_rng(7)
    for spreads in ([0.2, 0.2], [0.05, 0.5]):
        pairs = random.normal(10.0, np.array(spreads)[:, None], size=(1_500, 2, 5)).tolist()
        words = [claim_verdict(a, b).word for a, b in pairs]
        assert words.count("holds") / len(words) == pytest.approx(0.05, abs=0.02)
        assert words.count("fails") / len(words) == pytest.approx(0.05, abs=0.02)
    gap = random.normal([[10.0], [10.5]], 0.2, size=(500, 2, 5)).tolist()
    assert sum(claim_verdict(a, b).word == "holds" for a, b in gap) > 450


# --- seeds to go, power --------------------------------------------------------------------------------------------------


def to_go(errors: list[float], runs: int | None = None, **changes) -> int | None:
    return verdict(errors, **({"runs": runs or len(errors), "reported": 10.41} | changes)).to_go


def test_a_decided_row_has_no_seeds_to_go() -> None:
    assert to_go(FIVE) == 0
    assert to_go(FIVE, reported=None) == 0
    assert to_go(FIVE, differences=["x"]) == 0


def test_too_few_seeds_go_to_five_and_those_that_fail_are_allowed_for() -> None:
    assert verdict([], runs=0, reported=10.41).to_go == 5
    assert to_go([10.4]) == 4
    assert to_go([10.4, 10.5], runs=4) == 6
    assert verdict([], runs=5, reported=10.41).to_go is None


def test_an_inconclusive_row_goes_to_the_first_look_that_would_decide_it() -> None:
    # tol 0.3054; mean 10.41; h = t sd sqrt(1 + 1/n) with t(0.975, 9) = 2.262, t(0.975, 14) = 2.145 from a printed table.
    def of(sd: float) -> list[float]:
        return [10.41 + sd * z for z in (-1.264911, -0.632456, 0, 0.632456, 1.264911)]

    assert 2.776 * 0.24 * math.sqrt(1.2) > 2 * 0.3054 > 2.262 * 0.24 * math.sqrt(1.1)
    assert to_go(of(0.24)) == 5
    assert 2.262 * 0.27 * math.sqrt(1.1) > 2 * 0.3054 > 2.145 * 0.27 * math.sqrt(1 + 1 / 15)
    assert to_go(of(0.27)) == 10
    assert to_go(of(0.27), runs=10) == 20  # every other seed trains
    word, reason = judge(of(0.27))
    assert word == "inconclusive"
    assert reason.endswith("too wide to tell; about 10 more seeds would probably decide it")
    assert to_go(of(1.0)) is None
    assert judge(of(1.0))[1].endswith("20 seeds would probably not decide it either")


def test_seeds_to_go_are_right_more_often_than_not() -> None:
    random = np.random.default_rng(8)
    right = asked = 0
    for runs in random.normal(10.5, 0.24, size=(600, 20)).tolist():
        more = to_go(runs[:5])
        if more:
            asked += 1
            right += verdict(runs[: 5 + more], runs=5 + more, reported=10.41, sequential=True).word != "inconclusive"
    assert asked > 150
    assert right / asked > 0.6


def test_a_row_decided_by_looking_needs_a_wider_gap_and_says_so() -> None:
    # sd 0.2 of ten seeds: h = 2.262 * 0.2 * sqrt(1.1) = 0.474 at 95 %, 3.250 * ... = 0.682 at 99 %, by a printed table.
    assert decide(0.6, 0.2, 10, 0.31)[0] == "worse"
    assert decide(0.6, 0.2, 10, 0.31, sequential=True) == ("reproduced", pytest.approx(0.6817, abs=1e-3))
    assert decide(-0.7, 0.2, 10, 0.31, sequential=True)[0] == "better"
    found = verdict(FIVE, runs=5, reported=9.5, sequential=True)
    assert found.reason.endswith("(how many seeds there are was decided by looking at them)")


@pytest.mark.parametrize(
    ("gap", "sd", "n", "tol"), [(0.5, 0.2, 5, 0.3), (0.5, 0.2, 19, 0.3), (0.3, 0.1, 9, 0.09), (0.0, 0.3, 5, 0.3)]
)
def test_the_chance_of_telling_a_gap_is_that_of_a_simulation(gap: float, sd: float, n: int, tol: float) -> None:
    runs = np.random.default_rng(9).normal(10.0 + gap, sd, size=(3_000, n)).tolist()
    rows = [summarise(errors) for errors in runs]
    told = sum(decide(row.mean - 10.0, row.sd, n, tol)[0] == "worse" for row in rows) / len(rows)
    assert chance_of_telling(gap, sd, n, tol) == pytest.approx(told, abs=0.03)


def test_the_power_table_of_the_protocol_is_what_the_function_gives(checkout) -> None:
    assert seeds_needed(0.5, 0.2, 0.3) == 19
    assert seeds_needed(0.3, 0.2, 0.3) is None  # within the spread of one run: no number of seeds can tell
    assert power_table() in (checkout / "results" / "README.md").read_text(), "print it: python -m benchmarks.power"


# --- equivalence -----------------------------------------------------------------------------------------------------------


def test_equivalence_is_that_of_two_one_sided_tests() -> None:
    # scipy's one-sided Welch tests against each end of the margin, both below 0.05.
    random = np.random.default_rng(10)
    words = set()
    for shift in (0.0, 0.1, 0.3, 0.5, 0.8):
        for _ in range(40):
            a, b = random.normal(10.0, 0.2, 10), random.normal(10.0 + shift, 0.3, 12)
            above = stats.ttest_ind(b, a - 0.3, equal_var=False, alternative="greater").pvalue < 0.05
            below = stats.ttest_ind(b, a + 0.3, equal_var=False, alternative="less").pvalue < 0.05
            beyond = stats.ttest_ind(b, a + 0.3, equal_var=False, alternative="greater").pvalue < 0.05
            expected = "equivalent" if above and below else "different" if beyond else "not yet known"
            found = equivalence(a.tolist(), b.tolist(), margin=0.3)
            assert found.word == expected
            words.add(found.word)
    assert words == {"equivalent", "different", "not yet known"}


def test_equivalence_needs_ten_of_each_and_says_its_numbers() -> None:
    ten = [10.0 + i / 100 for i in range(10)]
    few = equivalence(ten, ten[:9], margin=0.3, names=("reference", "fast"))
    assert (few.word, few.reason) == ("not yet known", "10 of reference and 9 of fast finished, 10 of each are needed")
    assert equivalence([], [], margin=0.3).word == "not yet known"
    same = equivalence([10.0] * 10, [10.1] * 10, margin=0.3, names=("reference", "fast"))
    assert same.word == "equivalent"
    assert (
        same.reason
        == "fast - reference is 0.10 (90 % interval 0.10 to 0.10, 10 and 10 seeds), within a margin of ±0.30"
    )


def test_truly_different_ways_are_seldom_called_equivalent() -> None:
    random = np.random.default_rng(11)
    pairs = random.normal([[10.0], [10.3]], 0.2, size=(1_500, 2, 10)).tolist()
    words = [equivalence(a, b, margin=0.3).word for a, b in pairs]
    assert words.count("equivalent") / len(words) < 0.05 + 0.02
    assert words.count("different") / len(words) < 0.05 + 0.02


def test_importing_it_loads_no_scipy() -> None:
    code = "import sys, benchmarks.verdicts, benchmarks.papers; sys.exit('scipy' in sys.modules or 'pandas' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
