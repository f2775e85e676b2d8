"""Which runs count, how they become board rows, and the content of the rows."""

import json
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
from helpers import RECIPE, STARTED, digest, make_record, make_seeds, publish_records, run_locally

from benchmarks.canonical import sha256_of
from benchmarks.datasets import DATASETS
from benchmarks.labels import measured_with, ranks
from benchmarks.leaderboard import (
    curves,
    default_view,
    frame_of,
    make_board,
    make_claims,
    models_of_suite,
    read,
    runs_of,
)
from benchmarks.records import RunRecord, Source
from runner.reporting.cards import card_of
from zoo import load_models

FIVE = [10.3, 10.5, 10.6, 10.55, 10.65]


@pytest.fixture
def results(tmp_path: Path) -> Path:
    return tmp_path / "results"


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    return tmp_path / ".runs"


def board_of(results: Path, runs: Path | None = None, **narrowed) -> pd.DataFrame:
    return make_board(read(results, runs), **narrowed)


def rows_of(board: pd.DataFrame, model: str, dataset: str = "cifar10") -> list[dict]:
    return board[(board["model"] == model) & (board["dataset"] == dataset)].to_dict("records")


def row_of(board: pd.DataFrame, model: str, dataset: str = "cifar10") -> dict:
    [row] = rows_of(board, model, dataset)
    return row


def write_card(results: Path, name: str = "nin_dropout", revision: int = 1, recipe: dict | None = None) -> None:
    recipe = RECIPE if recipe is None else recipe
    facts = {"revision": revision, "recipe": recipe, "recipe_sha256": sha256_of(recipe), "parameters": 966_986}
    card = {"name": name, "title": "NiN, as titled", "family": "NiN", "paper": "lin2013", "suites": ["cifar10"]}
    folder = results / "cards"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps(card | {"datasets": {"cifar10": facts}, "later": "field"}))


# --- a row -------------------------------------------------------------------------------------------------------------


def test_five_seeds_become_one_row_with_its_verdict(results: Path) -> None:
    publish_records(results, *make_seeds(FIVE))
    row = row_of(board_of(results), "nin_dropout")
    assert (row["n"], row["seeds"], row["runs"], row["trained"]) == (5, 5, 5, 1.0)
    assert row["mean"] == pytest.approx(10.52)
    assert row["sd"] == pytest.approx(0.135093, abs=1e-6)
    assert (row["reported"], row["paper"], row["where"]) == (10.41, "lin2013", "Table 1")
    assert row["gap"] == pytest.approx(0.11)
    assert row["tolerance"] == pytest.approx(0.3054, abs=1e-4)
    assert row["verdict"] == "reproduced"
    assert row["train_minutes"] == 10.0
    assert row["hardware"] == ("NVIDIA H200",)
    assert row["parameters"] == 966_986


def test_runs_that_collapsed_or_diverged_are_counted_but_not_averaged(results: Path) -> None:
    failed = [make_record(90.0, seed=5, outcome="collapsed")]
    failed += [make_record(seed=seed, outcome="diverged") for seed in (6, 7)]  # all-NaN weights: equal, yet two runs
    publish_records(results, *make_seeds(FIVE), *failed)
    row = row_of(board_of(results), "nin_dropout")
    assert (row["n"], row["seeds"], row["runs"]) == (5, 8, 8)
    assert row["mean"] == pytest.approx(10.52)
    assert row["reason"].startswith("when it trains (5 of 8 seeds did)")


def test_the_tolerance_depends_on_the_size_of_the_test_set(results: Path) -> None:
    publish_records(results, *make_seeds([0.5, 0.5], dataset="mnist", training_images=60_000))
    assert row_of(board_of(results), "nin_dropout", "mnist")["tolerance"] == pytest.approx(0.0684, abs=1e-4)


def test_a_seed_that_ran_on_several_machines_counts_once(results: Path) -> None:
    """Five runs of one seed with different weights, from different processors, are not five seeds."""
    copies = [make_record(10.4 + i / 100, run=f"{i:08x}" + 24 * "0", weights_sha256=f"{i:064x}") for i in range(5)]
    publish_records(results, *copies)
    row = row_of(board_of(results), "nin_dropout")
    assert (row["n"], row["seeds"], row["runs"], row["verdict"]) == (1, 1, 5, "more seeds")
    assert row["mean"] == pytest.approx(10.42)
    assert pd.isna(row["half_width"])
    publish_records(results, *make_seeds([0.0, *FIVE[1:]])[1:])
    row = row_of(board_of(results), "nin_dropout")
    assert (row["n"], row["seeds"], row["runs"]) == (5, 5, 9)
    assert row["mean"] == pytest.approx((10.42 + sum(FIVE[1:])) / 5)
    assert row["errors"] == pytest.approx((10.42, *FIVE[1:]))
    assert row["reason"].startswith("mean 10.54 of 9 runs of 5 seeds")


def test_a_seed_that_fails_in_most_of_its_runs_failed(results: Path) -> None:
    publish_records(results, *make_seeds(FIVE))
    for i in range(2):
        publish_records(
            results,
            make_record(90.0, seed=0, outcome="collapsed", run=f"{i:08x}" + 24 * "0", weights_sha256=f"{i:064x}"),
        )
    row = row_of(board_of(results), "nin_dropout")
    assert (row["n"], row["seeds"], row["runs"]) == (4, 5, 7)


# --- what counts ---------------------------------------------------------------------------------------------------------


def test_overrides_and_held_out_images_never_count(results: Path) -> None:
    publish_records(results, *make_seeds([5.0], overrides={"learning_rate": 0.2}))
    publish_records(results, *make_seeds([6.0], overrides={"holdout": 10_000}, test_images=10_000))
    evidence = read(results)
    assert row_of(make_board(evidence), "nin_dropout")["verdict"] == "not run"
    assert set(runs_of(evidence, "cifar10", "nin_dropout")["standing"]) == {"overridden", "validation"}


def test_local_and_published_runs_count_together_and_each_once(results: Path, runs: Path) -> None:
    mine, theirs = make_seeds(FIVE[:3]), make_seeds([*FIVE[:3], 10.9])
    publish_records(results, *theirs)
    run_locally(runs, *mine, make_record(10.2, seed=9))
    row = row_of(board_of(results, runs), "nin_dropout")
    assert row["n"] == 5
    assert row["local"]
    assert not row_of(board_of(results), "nin_dropout")["local"]


def test_equal_weights_of_another_run_count_once(results: Path) -> None:
    first = make_record(10.4, weights_sha256="b" * 64)
    publish_records(results, first, make_record(10.4, run="c" * 32, weights_sha256="b" * 64))
    evidence = read(results)
    assert row_of(make_board(evidence), "nin_dropout")["n"] == 1
    assert sorted(evidence.runs["standing"]) == ["counted", "duplicate"]


def test_of_equal_weights_the_first_published_run_counts() -> None:
    """Of 40 records with published runs at odd seeds, because sorts of few rows are always stable."""
    records = [make_record(seed=seed, weights_sha256="b" * 64) for seed in range(40)]
    runs = frame_of([(record, Path("a"), record.job.seed % 2 == 0) for record in records], {})
    assert list(runs.loc[runs["standing"] == "counted", "seed"]) == [1]


def test_the_time_of_a_row_is_that_of_whole_trainings(results: Path) -> None:
    publish_records(results, make_record(train_seconds=6_000.0))
    for seed in range(1, 5):
        publish_records(results, make_record(seed=seed, outcome="diverged", train_seconds=60.0))
    assert row_of(board_of(results), "nin_dropout")["train_minutes"] == 100
    publish_records(results, make_record(90.0, seed=5, outcome="collapsed", train_seconds=3_000.0))
    assert row_of(board_of(results), "nin_dropout")["train_minutes"] == 75  # a collapsed run trains to its end
    publish_records(results, make_record(seed=6, train_seconds=60_000.0))
    assert row_of(board_of(results), "nin_dropout")["train_minutes"] == 100  # the median: that run waited for others


def test_equal_weights_under_two_profiles_count_in_both_rows(results: Path) -> None:
    for profile in ("reference", "fast"):
        publish_records(results, make_record(10.4, profile=profile, weights_sha256="b" * 64))
    assert [row["n"] for row in rows_of(board_of(results), "nin_dropout")] == [1, 1]


def test_the_card_decides_which_revision_and_recipe_count(results: Path) -> None:
    other = RECIPE | {"learning_rate": 0.05}
    publish_records(results, *make_seeds([10.0, 10.1]), *make_seeds([11.0], revision=2))
    publish_records(results, *make_seeds([12.0], recipe=other))
    without = row_of(board_of(results), "nin_dropout")
    assert (without["mean"], without["outdated"]) == (11.0, 3)  # the newest revision among the records
    write_card(results, revision=1)
    row = row_of(board_of(results), "nin_dropout")
    assert (row["mean"], row["n"], row["outdated"]) == (pytest.approx(10.05), 2, 2)
    assert (row["label"], row["family"]) == ("NiN, as titled", "NiN")
    write_card(results, revision=3)
    row = row_of(board_of(results), "nin_dropout")
    assert (row["verdict"], row["outdated"]) == ("not run", 4)
    assert row["reason"].startswith("the 4 runs that ended are not counted, because of another revision or recipe; ")


def test_a_records_recipe_digest_is_computed_and_not_trusted(results: Path) -> None:
    write_card(results)
    forged = make_record(1.0, recipe=RECIPE | {"epochs": 2}, recipe_sha256=sha256_of(RECIPE))
    publish_records(results, forged)
    assert row_of(board_of(results), "nin_dropout")["verdict"] == "not run"


def test_profiles_and_data_status_are_never_pooled(results: Path) -> None:
    publish_records(results, *make_seeds(FIVE), *make_seeds([10.0, 10.1], verified=False))
    publish_records(results, *make_seeds([*FIVE, 10.5, 10.6], profile="fast"))
    board = board_of(results)
    counts = {(row["profile"], row["data"]): row["n"] for row in rows_of(board, "nin_dropout")}
    assert counts == {("reference", "verified"): 5, ("reference", "unverified"): 2, ("fast", "verified"): 7}
    unverified = next(row for row in rows_of(board, "nin_dropout") if row["data"] == "unverified")
    assert unverified["provenance"] == "92 images differ from the official ones."
    assert row_of(default_view(board), "nin_dropout")["profile"] == "fast"


def test_in_a_tie_the_default_view_prefers_reference_and_verified_data(results: Path) -> None:
    for profile in ("fast", "reference"):
        publish_records(results, *make_seeds(FIVE, profile=profile), *make_seeds(FIVE, profile=profile, verified=False))
    row = row_of(default_view(board_of(results)), "nin_dropout")
    assert (row["profile"], row["data"]) == ("reference", "verified")


def test_protocols_that_differ_are_not_comparable(results: Path) -> None:
    publish_records(results, *make_seeds(FIVE, augmentation="flip"))
    row = row_of(board_of(results), "nin_dropout")
    assert row["verdict"] == "not comparable"
    assert "we augmented our training images (flip), the paper did not" in row["reason"]


def test_a_row_with_seeds_added_after_looking_is_marked(results: Path) -> None:
    publish_records(results, *make_seeds(FIVE))
    assert not row_of(board_of(results), "nin_dropout")["sequential"]
    publish_records(results, make_record(10.4, seed=5, sequential=True))
    row = row_of(board_of(results), "nin_dropout")
    assert row["sequential"]
    assert row["reason"].endswith("(seeds were added after looking at the results)")


@pytest.mark.parametrize(
    ("starts", "marked"),
    [
        ([0, 0, 30, 30, 60, 60, 90], False),  # two at a time, 30 minutes each
        ([0, 30, 60, 90, 120, 150, 181], False),  # one at a time, with a pause of a minute
        ([0, 0, 30, 30, 60, 151], True),  # five had ended, and an hour later one more started
        ([0, 0, 30, 151, 151, 151, 151], False),  # when only three had ended, there was no verdict to look at
        ([0, 0, 30, 30, 60, 60, 181], True),
        ([0, 0, 0, 0, 0, 0, 0, 600], True),
    ],
)
def test_a_row_that_rested_and_then_grew_is_marked_too(results: Path, starts: list[int], marked: bool) -> None:
    """Nobody has to say that seeds were added: the times of the runs do."""
    moments = [STARTED + timedelta(minutes=minutes) for minutes in starts]
    for seed, moment in enumerate(moments):
        publish_records(results, make_record(10.4, seed=seed, started=moment, finished=moment + timedelta(minutes=30)))
    assert row_of(board_of(results), "nin_dropout")["sequential"] == marked


def test_a_second_run_of_a_seed_adds_no_seed(results: Path) -> None:
    later = STARTED + timedelta(days=1)
    publish_records(results, *make_seeds(FIVE))
    publish_records(results, make_record(10.5, seed=0, started=later, finished=later, weights_sha256=digest("again")))
    row = row_of(board_of(results), "nin_dropout")
    assert (row["runs"], row["sequential"]) == (6, False)


@pytest.mark.parametrize(("commit", "dirty", "marked"), [("a", False, False), ("a", True, True), (None, None, True)])
def test_a_row_of_code_that_is_no_commit_is_marked(
    results: Path, commit: str | None, dirty: bool | None, marked: bool
) -> None:
    code = Source(commit=commit, dirty=dirty, sha256="c" * 64)
    publish_records(results, *make_seeds(FIVE[:4]), make_record(10.4, seed=4, source=code))
    assert row_of(board_of(results), "nin_dropout")["dirty"] is marked


# --- rows without runs -----------------------------------------------------------------------------------------------------


def test_without_records_targets_are_not_run_and_other_figures_are_published_only(tmp_path: Path) -> None:
    board = board_of(tmp_path / "nowhere", tmp_path / "nothing")
    assert row_of(board, "nin_fc")["verdict"] == "not run"
    rivals = board[board["model"].isna()]
    assert "9.50" in set(rivals["printed"])
    assert "DropConnect + 12 networks + Data Augmentation" in set(rivals["label"])
    assert rivals["verdict"].isna().all()
    assert set(board["dataset"]) <= DATASETS.keys()  # rows of data sets that nothing else knows of are left out


def test_a_model_with_a_card_but_no_figure_or_run_has_a_row(results: Path) -> None:
    write_card(results, "lenet")
    assert row_of(board_of(results), "lenet")["verdict"] == "not judged"
    assert models_of_suite(read(results).cards, "cifar10") == {"lenet"}


def test_the_cards_that_the_runner_writes_are_read(results: Path) -> None:
    spec = load_models()["nin_dropout"]
    (results / "cards").mkdir(parents=True)
    (results / "cards" / "nin_dropout.json").write_text(json.dumps(card_of(spec)))
    evidence = read(results)
    assert evidence.problems == ()
    assert evidence.cards["nin_dropout"].datasets["cifar10"].parameters == 966_986
    assert row_of(make_board(evidence), "nin_dropout")["label"] == spec.title


def test_a_suites_board_holds_its_models_and_all_rivals(results: Path) -> None:
    publish_records(results, *make_seeds(FIVE), *make_seeds([14.0], model="nin"))
    board = board_of(results, datasets=["cifar10"], models=["nin_dropout", "nin_fc"])
    assert set(board["model"].dropna()) == {"nin_dropout", "nin_fc"}
    rivals = board[board["model"].isna()]
    assert (rivals["paper"] == "lin2013").sum() == 3  # of its table; the others became models
    assert {"weiaicunzai", "lin2013"} & set(rivals["paper"]) == {"lin2013"}  # the other reports CIFAR-100 alone
    assert set(board["dataset"]) == {"cifar10"}


def test_measured_and_published_rows_are_sorted_by_error_together(results: Path) -> None:
    publish_records(results, *make_seeds(FIVE))
    board = board_of(results, datasets=["cifar10"], models=["nin_dropout"])
    assert board["error"].is_monotonic_increasing
    labels = list(board["label"])
    assert labels.index("CNN + Spearmint + Data Augmentation") < labels.index("nin_dropout")
    assert labels.index("nin_dropout") < labels.index("CNN + Spearmint")


def test_measured_rows_are_ranked_by_error_and_printed_figures_are_not() -> None:
    rows = pd.DataFrame(
        [
            ("printed only", None, None, 8.8),
            ("a", "a", 9.1, None),
            ("b", "b", 9.4, 9.0),
            ("not run", "not run", None, 9.2),
            ("c", "c", 9.4, None),
            ("d", "d", 12.0, 8.0),
            ("no seed trained", "no seed trained", None, 7.0),
        ],
        columns=["label", "model", "mean", "reported"],
    )
    assert ranks(rows) == [None, 1, 2, None, 2, 4, None]
    assert ranks(rows[rows["model"].notna()]) == [1, 2, None, 2, 4, None]
    assert ranks(rows.iloc[:1]) == [None]


@pytest.mark.parametrize(
    ("profile", "data", "text"),
    [
        ("reference", "verified", "beta"),
        (None, None, "beta"),
        ("fast", "verified", "beta (profile fast)"),
        ("reference", "unverified", "beta (unverified data)"),
        ("fast", "unverified", "beta (profile fast, unverified data)"),
    ],
)
def test_a_name_is_followed_by_what_is_unusual_about_its_measurement(
    profile: str | None, data: str | None, text: str
) -> None:
    assert "beta" + measured_with(SimpleNamespace(profile=profile, data=data)) == text


def test_one_broken_file_does_not_hide_the_others(results: Path) -> None:
    publish_records(results, *make_seeds(FIVE))
    (results / "cifar10" / "nin_dropout" / "broken.json").write_text("{")
    (results / "cards").mkdir()
    (results / "cards" / "x.json").write_text("[]")
    evidence = read(results)
    assert row_of(make_board(evidence), "nin_dropout")["n"] == 5
    assert {Path(line.split(":")[0]).name for line in evidence.problems} == {"broken.json", "x.json"}


# --- claims, runs, curves --------------------------------------------------------------------------------------------------


def claim_of(board: pd.DataFrame, results: Path, name: str = "dropout-helps") -> dict:
    claims = make_claims(board, read(results).papers)
    [claim] = claims[claims["id"] == name].to_dict("records")
    return claim


def test_a_claims_row_has_the_papers_own_difference(results: Path) -> None:
    publish_records(results, *make_seeds(FIVE), *make_seeds([14.0, 14.1, 14.2, 14.3, 14.1], model="nin"))
    claim = claim_of(board_of(results), results)
    assert claim["verdict"] == "holds"
    assert claim["difference"] == pytest.approx(14.14 - 10.52)
    assert claim["low"] < claim["difference"] < claim["high"]
    assert claim["reported_difference"] == pytest.approx(4.10)
    assert (claim["profile"], claim["data"]) == ("reference", "verified")


def test_a_claim_never_mixes_profiles(results: Path) -> None:
    publish_records(
        results, *make_seeds(FIVE), *make_seeds([14.0, 14.1, 14.2, 14.3, 14.1], model="nin", profile="fast")
    )
    assert claim_of(board_of(results), results)["verdict"] == "not run"
    publish_records(results, *make_seeds([10.0, 10.1, 10.2, 10.1, 10.0], profile="fast"))
    claim = claim_of(board_of(results), results)
    assert (claim["verdict"], claim["profile"]) == ("holds", "fast")


def test_a_claim_with_added_seeds_says_so(results: Path) -> None:
    publish_records(results, *make_seeds([14.0, 14.1, 14.2, 14.3, 14.1], model="nin"), *make_seeds(FIVE))
    assert "seeds were added" not in claim_of(board_of(results), results)["reason"]
    publish_records(results, *(make_record(10.4, seed=seed, sequential=True) for seed in range(5, 10)))
    assert claim_of(board_of(results), results)["reason"].endswith("(seeds were added after looking at the results)")


def test_a_suites_claims_are_those_about_its_models(results: Path) -> None:
    board = board_of(results, datasets=["cifar10"], models=["nin", "nin_dropout"])
    assert list(make_claims(board, read(results).papers)["id"]) == ["dropout-helps"]
    assert make_claims(board_of(results, datasets=["digits"]), read(results).papers).empty


def test_curves_have_the_columns_of_their_runs(results: Path, runs: Path) -> None:
    published: list[RunRecord] = make_seeds([10.0, 11.0])
    local = make_record(12.0, seed=5)
    publish_records(results, *published)
    run_locally(runs, local)
    evidence = read(results, runs)
    (results / "cifar10" / "nin_dropout" / f"{published[1].file_stem}.curve.csv").write_text("no,curve\n1,2\n")
    frame = curves(runs_of(evidence, "cifar10", "nin_dropout"))
    assert sorted(frame["seed"].unique()) == [0, 5]
    last = frame[frame["epoch"] == 3].set_index("seed")["test_error"]
    assert dict(last) == {0: 10.0, 5: 12.0}
    assert curves(runs_of(evidence, "mnist", "nin")).empty
