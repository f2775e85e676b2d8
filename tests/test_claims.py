"""Claims and equivalences on hand-made cases, against scipy's tests, and their error rates."""

from statistics import fmean, stdev

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from benchmarks.claims import Assertion, ClaimVerdict, Equivalence, claim_verdict, equivalence
from benchmarks.intervals import ONE_RUN, PREDICTION_LEVEL, SEQUENTIAL_LEVEL, sample_of_seeds
from benchmarks.verdicts import INTERIM_SIZES, decide

FIVE = [10.3, 10.5, 10.6, 10.55, 10.65]
error_lists = st.lists(st.integers(0, 10_000).map(lambda wrong: wrong / 100), min_size=2, max_size=12)
NAMES = ("the one", "the other")
PLAIN = Assertion()


def claim(
    better: list[float], worse: list[float], names: tuple[str, str] = NAMES, assertion: Assertion = PLAIN
) -> ClaimVerdict:
    return claim_verdict(sample_of_seeds(better), sample_of_seeds(worse), names, assertion)


def same(first: list[float], second: list[float], *, margin: float, names: tuple[str, str] = NAMES) -> Equivalence:
    return equivalence(sample_of_seeds(first), sample_of_seeds(second), margin=margin, names=names)


# --- claims ------------------------------------------------------------------------------------------------------------


def test_a_claim_holds_fails_or_is_inconclusive() -> None:
    low, high = FIVE, [14.0, 14.1, 14.2, 14.3, 14.0]
    outcome = claim(low, high, ("a", "b"), Assertion(difference=4.1))
    assert outcome.word == "holds"
    assert outcome.reason.startswith(
        "a (10.52) is 3.60 below b (14.12) (90 % Welch interval 3.44 to 3.76, 5 and 5 seeds)"
    )
    assert outcome.reason.endswith("the paper's difference is 4.10")
    assert claim(high, low).word == "fails"
    assert claim(FIVE, [error + 0.05 for error in FIVE]).word == "inconclusive"


def test_a_claim_without_spread_is_decided_by_its_sign() -> None:
    assert claim([10.0] * 5, [10.1] * 5).word == "holds"
    assert claim([10.1] * 5, [10.0] * 5).word == "fails"
    assert claim([10.0] * 5, [10.0] * 5).word == "inconclusive"
    assert claim([10.0] * 5, FIVE).word == "holds"


def test_a_claim_needs_five_seeds_on_both_sides() -> None:
    assert claim(FIVE, FIVE[:4]).word == "more seeds"
    assert claim_verdict(sample_of_seeds([], 5), sample_of_seeds([], 5)).word == "more seeds"
    missing = claim(FIVE, [], ("a", "b"))
    assert (missing.word, missing.reason) == ("not run", "no run of b has ended")


def test_a_claim_about_a_model_that_often_fails_says_so() -> None:
    outcome = claim_verdict(sample_of_seeds(FIVE, 9), sample_of_seeds([14.0, 14.1, 14.2, 14.3, 14.0]), ("a", "b"))
    assert outcome.reason.startswith("when it trains (a: 5 of 9)")


@given(error_lists, error_lists)
def test_a_reversed_claim_gets_the_opposite_word(a: list[float], b: list[float]) -> None:
    opposite = {"holds": "fails", "fails": "holds"}
    word = claim(a, b).word
    assert claim(b, a).word == opposite.get(word, word)


def test_claims_about_unequal_spreads_have_the_stated_error_rate() -> None:
    random = np.random.default_rng(7)
    for spreads in ([0.2, 0.2], [0.05, 0.5]):
        pairs = random.normal(10.0, np.array(spreads)[:, None], size=(800, 2, 5)).tolist()
        words = [claim(a, b).word for a, b in pairs]
        assert words.count("holds") / len(words) == pytest.approx(0.05, abs=0.02)
        assert words.count("fails") / len(words) == pytest.approx(0.05, abs=0.02)
    gap = random.normal([[10.0], [10.5]], 0.2, size=(250, 2, 5)).tolist()
    assert sum(claim(a, b).word == "holds" for a, b in gap) > 225


def test_claims_about_rows_with_added_seeds_err_as_often_as_the_page_says() -> None:
    """The page says up to 10 % on each side, not 5 %: a row stops early where its spread happens to look small."""
    random = np.random.default_rng(11)

    def until_decided(errors: list[float]) -> list[float]:
        for size in INTERIM_SIZES:
            seeds = errors[:size]
            h, wide = (ONE_RUN.half_width(level, stdev(seeds), size) for level in (PREDICTION_LEVEL, SEQUENTIAL_LEVEL))
            if decide(fmean(seeds) - 10.0, 1.0, h, h if size == INTERIM_SIZES[0] else wide) != "inconclusive":
                break
        return seeds

    pairs = random.normal(10.0, 1.0, size=(1500, 2, INTERIM_SIZES[-1])).tolist()
    words = [claim(until_decided(a), until_decided(b)).word for a, b in pairs]
    assert words.count("holds") / len(words) == pytest.approx(0.085, abs=0.02)
    assert words.count("fails") / len(words) == pytest.approx(0.085, abs=0.02)


def test_seeds_added_until_a_claim_is_decided_err_as_often_as_the_page_says() -> None:
    random = np.random.default_rng(12)

    def first_decision(a: list[float], b: list[float]) -> str:
        words = (claim(a[:size], b[:size]).word for size in INTERIM_SIZES)
        return next((word for word in words if word != "inconclusive"), "inconclusive")

    words = [first_decision(*pair) for pair in random.normal(10.0, 1.0, size=(800, 2, INTERIM_SIZES[-1])).tolist()]
    assert words.count("holds") / len(words) == pytest.approx(0.12, abs=0.03)
    assert words.count("fails") / len(words) == pytest.approx(0.12, abs=0.03)


def test_added_seeds_are_mentioned_in_the_reason() -> None:
    remark = "(seeds were added after looking at the results)"
    ten = sample_of_seeds(FIVE * 2)
    assert claim_verdict(ten, ten, sequential=True).reason.endswith(remark)
    assert equivalence(ten, ten, margin=1.0, sequential=True).reason.endswith(remark)
    assert remark not in claim_verdict(ten, ten).reason + equivalence(ten, ten, margin=1.0).reason


# --- claims of a share, and of equality ------------------------------------------------------------------------------------


def test_a_claim_of_a_share_needs_more_than_that_share() -> None:
    """14.31 is 1.4 % lower than 14.51: lower, but not "by more than 20 %"."""
    low, high = [14.29, 14.3, 14.31, 14.32, 14.33], [14.49, 14.5, 14.51, 14.52, 14.53]
    assert claim(low, high).word == "holds"
    outcome = claim(low, high, ("a", "b"), Assertion(share=20))
    assert outcome.word == "fails"
    assert outcome.reason.startswith("a's error is 1.4 % below b's (90 % interval 1.3 to 1.5 %, 5 and 5 seeds)")
    assert outcome.reason.endswith("the claim is more than 20 %")
    assert claim(FIVE, high, assertion=Assertion(share=20)).word == "holds"  # 27.5 %
    near = [11.3, 11.5, 11.6, 11.7, 11.9]
    assert claim(near, high, assertion=Assertion(share=20)).word == "inconclusive"
    assert claim(high, low, assertion=Assertion(share=20)).reason.startswith("the one's error is 1.4 % above")


def test_a_share_of_an_error_of_0_is_inconclusive() -> None:
    assert claim([0.0] * 5, [0.0] * 5, assertion=Assertion(share=20)).word == "inconclusive"
    assert claim([0.0] * 5, [1.0] * 5, assertion=Assertion(share=20)).word == "holds"


def test_a_claim_exactly_at_its_share_seldom_holds_and_seldom_fails() -> None:
    random = np.random.default_rng(12)
    for spreads in ([0.2, 0.2], [0.05, 0.4]):
        pairs = random.normal([[8.0], [10.0]], np.array(spreads)[:, None], size=(800, 2, 5)).tolist()
        words = [claim(a, b, assertion=Assertion(share=20)).word for a, b in pairs]
        assert words.count("holds") / len(words) == pytest.approx(0.05, abs=0.02)
        assert words.count("fails") / len(words) == pytest.approx(0.05, abs=0.02)


def test_a_claim_of_equality_is_two_one_sided_tests() -> None:
    # scipy's one-sided Welch tests against each end of the margin, both below 0.05.
    random = np.random.default_rng(13)
    words = set()
    for shift in (0.0, 0.2, -0.9):
        for _ in range(25):
            a, b = random.normal(10.0, 0.15, 5), random.normal(10.0 + shift, 0.2, 6)
            above = stats.ttest_ind(b, a - 0.3, equal_var=False, alternative="greater").pvalue < 0.05
            below = stats.ttest_ind(b, a + 0.3, equal_var=False, alternative="less").pvalue < 0.05
            beyond = stats.ttest_ind(b, a + 0.3, equal_var=False, alternative="greater").pvalue < 0.05
            short = stats.ttest_ind(b, a - 0.3, equal_var=False, alternative="less").pvalue < 0.05
            expected = "holds" if above and below else "fails" if beyond or short else "inconclusive"
            word = claim(a.tolist(), b.tolist(), assertion=Assertion(margin=0.3)).word
            assert word == expected
            words.add(word)
    assert words == {"holds", "fails", "inconclusive"}


def test_models_that_differ_by_the_margin_are_seldom_called_equal() -> None:
    random = np.random.default_rng(14)
    pairs = random.normal([[10.0], [10.3]], 0.1, size=(800, 2, 5)).tolist()
    words = [claim(a, b, assertion=Assertion(margin=0.3)).word for a, b in pairs]
    assert words.count("holds") / len(words) < 0.05 + 0.02
    equal = random.normal(10.0, 0.1, size=(200, 2, 5)).tolist()
    assert sum(claim(a, b, assertion=Assertion(margin=0.3)).word == "holds" for a, b in equal) > 175


def test_a_claims_difference_is_that_of_the_two_means_shown() -> None:
    outcome = claim([1.785, 1.885, 1.985, 1.835, 1.935], [2.6] * 5, ("a", "b"))
    assert outcome.reason.startswith("a (1.89) is 0.71 below b (2.60)")


# --- equivalence -----------------------------------------------------------------------------------------------------------


def test_equivalence_agrees_with_two_one_sided_tests_of_scipy() -> None:
    # scipy's one-sided Welch tests against each end of the margin, both below 0.05.
    random = np.random.default_rng(10)
    words = set()
    for shift in (0.0, 0.1, 0.3, 0.5, 0.8):
        for _ in range(25):
            a, b = random.normal(10.0, 0.2, 10), random.normal(10.0 + shift, 0.3, 12)
            above = stats.ttest_ind(b, a - 0.3, equal_var=False, alternative="greater").pvalue < 0.05
            below = stats.ttest_ind(b, a + 0.3, equal_var=False, alternative="less").pvalue < 0.05
            beyond = stats.ttest_ind(b, a + 0.3, equal_var=False, alternative="greater").pvalue < 0.05
            expected = "equivalent" if above and below else "different" if beyond else "not yet known"
            word = same(a.tolist(), b.tolist(), margin=0.3).word
            assert word == expected
            words.add(word)
    assert words == {"equivalent", "different", "not yet known"}


def test_equivalence_needs_ten_seeds_of_each_and_the_reason_has_the_numbers() -> None:
    ten = [10.0 + i / 100 for i in range(10)]
    few = same(ten, ten[:9], margin=0.3, names=("reference", "fast"))
    assert (few.word, few.reason) == ("not yet known", "10 of reference and 9 of fast finished; 10 of each are needed")
    assert same([], [], margin=0.3).word == "not yet known"
    outcome = same([10.0] * 10, [10.1] * 10, margin=0.3, names=("reference", "fast"))
    assert outcome.word == "equivalent"
    assert (
        outcome.reason
        == "fast - reference is 0.10 (90 % Welch interval 0.10 to 0.10, 10 and 10 seeds), within the margin of ±0.30"
    )


def test_different_profiles_are_seldom_called_equivalent() -> None:
    random = np.random.default_rng(11)
    pairs = random.normal([[10.0], [10.3]], 0.2, size=(800, 2, 10)).tolist()
    words = [same(a, b, margin=0.3).word for a, b in pairs]
    assert words.count("equivalent") / len(words) < 0.05 + 0.02
    assert words.count("different") / len(words) < 0.05 + 0.02
