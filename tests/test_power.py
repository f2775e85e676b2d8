"""The tables of results/README.md match the rules and independent calculations."""

import re

import pytest

from benchmarks.power import (
    SIZES,
    SPREADS,
    false_worse_rate,
    power_table,
    seeds_needed,
    verdict_shares,
    verdict_table,
    with_tables,
)
from benchmarks.verdicts import detection_power

REWRITE = "rewrite it with: python -m benchmarks.power"


def test_the_tables_on_the_page_match_the_rules(checkout) -> None:
    page = (checkout / "results" / "README.md").read_text(encoding="utf-8")
    assert verdict_table() in page, REWRITE
    assert power_table() in page, REWRITE
    assert with_tables(page, [verdict_table(), power_table()]) == page


def test_a_table_replaces_the_one_with_the_same_first_row() -> None:
    page = "before\n\n| a | b |\n| --- | --- |\n| old | row |\n\nafter\n"
    table = "| a | b |\n| --- | --- |\n| 1 | 2 |\n| 3 | 4 |\n"
    assert with_tables(page, [table]) == f"before\n\n{table}\nafter\n"
    with pytest.raises(ValueError, match="no table begins with"):
        with_tables("nothing\n", [table])


@pytest.mark.parametrize("sd", SPREADS)
@pytest.mark.parametrize("n", [5, 10, 20])
def test_simulated_shares_agree_with_the_computed_power(sd: float, n: int) -> None:
    """Two independent ways: random errors passed to `decide`, and an integral over normal and chi-square distributions."""
    assert verdict_shares(sd, n, 2.0)["different"] == pytest.approx(detection_power(2.0, sd, n, 1.0), abs=0.015)


def test_verdict_shares_sum_to_one_and_equal_models_seldom_differ() -> None:
    for sd in SPREADS:
        for n in SIZES:
            for gap in (None, 2.0):
                assert sum(verdict_shares(sd, n, gap).values()) == pytest.approx(1)
            assert verdict_shares(sd, n, None)["different"] < 0.06


def test_the_pages_sentence_on_a_gap_of_two_tolerances_matches_its_table(checkout) -> None:
    page = " ".join((checkout / "results" / "README.md").read_text(encoding="utf-8").split())
    fixed = [round(100 * verdict_shares(sd, n, 2.0)["reproduced"]) for sd in SPREADS[1:] for n in (5, 10, 20)]
    sequential = [round(100 * verdict_shares(sd, None, 2.0)["reproduced"]) for sd in SPREADS[1:]]
    most, most_sequential = re.search(
        r"`reproduced` in at most (\d+) of 100 rows; .*? in at most (\d+) of 100", page
    ).groups()
    assert int(most) == max(fixed)
    assert int(most_sequential) == max(sequential)


def test_the_pages_sentence_on_the_best_of_several_runs_matches_a_simulation() -> None:
    # "the best of 4 ... in 8 to 9 % of rows, and the best of 10 in 15 to 21 %. If ... a third of ..., 1 % and 2 %"
    for k, low, high, little in [(4, 0.075, 0.095, 0.015), (10, 0.145, 0.215, 0.025)]:
        for sd in (1.0, 2.0):
            for n in (5, 20):
                assert low < false_worse_rate(k, sd, n) < high
        assert false_worse_rate(k, 1 / 3) < little
    assert false_worse_rate(1, 1.0) == pytest.approx(0.025, abs=0.006)


def test_seeds_needed_is_the_smallest_number_that_detects_a_gap() -> None:
    assert seeds_needed(0.5, 0.2, 0.3) == 19
    assert detection_power(0.5, 0.2, 19, 0.3) >= 0.8 > detection_power(0.5, 0.2, 18, 0.3)
    assert seeds_needed(0.3, 0.2, 0.3) is None  # within the spread of one run: no number of seeds detects it
