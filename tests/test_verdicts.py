"""The statistics against closed formulas and scipy.stats, the rules on hand-made cases, and their error rates."""

import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from benchmarks.verdicts import claim_verdict, summarise, tolerance, verdict, welch

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


def test_importing_it_loads_no_scipy() -> None:
    code = "import sys, benchmarks.verdicts, benchmarks.papers; sys.exit('scipy' in sys.modules or 'pandas' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
