"""A published record is trained again from the zoo's own recipe, and the two results are set beside each other."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from helpers import make_record, make_seeds, publish_records, run_locally
from rich.console import Console

from benchmarks.errors import UserError
from benchmarks.records import RunRecord
from runner.jobs.find import all_jobs
from runner.reporting.reproduce import compare, environment_differences, find_record, rebuild, show
from zoo import load_models

MODELS = load_models()
RECIPE = MODELS["nin_dropout"].variants["cifar10"].recipe.to_dict()
SPREAD = [10.3, 10.5, 10.6, 10.55, 10.65]  # sd 0.1351


def own(error: float = 10.4, **changes: Any) -> RunRecord:
    return make_record(error, **({"recipe": RECIPE} | changes))


# --- which record ----------------------------------------------------------------------------------------------------------


def test_a_record_is_named_by_key_prefix_or_run() -> None:
    one, two = own(), own(seed=1)
    other = own(run="c" * 32, weights_sha256="d" * 64)
    assert find_record(two.key, [one, two]) is two
    assert find_record("cifar10/nin_dropout/reference-seed1", [one, two]) is two
    assert find_record("cifar10/nin_d", [one]) is one
    assert find_record(f"{one.key}-{one.run8}", [one, other]) is one
    newer = own(revision=2, run="e" * 32)
    assert find_record(one.key, [one, newer]) is newer
    with pytest.raises(UserError, match=rf"2 published records: .*{other.run8}"):
        find_record(one.key, [one, other])
    with pytest.raises(UserError, match="did you mean 'cifar10/nin_dropout/reference-seed0'"):
        find_record("cifar10/nin_dropuot/reference-seed0", [one])


# --- nothing is believed ---------------------------------------------------------------------------------------------------


def test_the_job_is_the_zoos_own() -> None:
    for record in (
        own(),
        own(seed=7, profile="fast"),
        own(overrides={"holdout": 10_000, "schedule.after": [100, 150]}),
    ):
        assert rebuild(record, MODELS) == record.job


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"revision": 2}, "has revision 2, but the zoo's nin_dropout on cifar10 has 1: check out commit aaaaaaaaaaaa"),
        ({"recipe": RECIPE | {"epochs": 9}}, r"and the zoo have different recipes \(epochs\)"),
        ({"recipe": RECIPE | {"shell": "rm -rf /"}}, r"and the zoo have different recipes \(shell\)"),
        ({"model": "vgg99"}, "unknown model 'vgg99'"),
        ({"dataset": "svhm"}, "unknown data set of nin_dropout 'svhm'"),
        ({"overrides": {"epochs": "__import__('os')"}}, "expected a whole number"),
        ({"overrides": {"epochs": -1}}, "epochs is -1"),
        ({"overrides": {"optimizer.learning_rate": 0.1}}, "gives another job"),
    ],
)
def test_what_the_zoo_does_not_hold_is_refused_in_one_line(changes: dict[str, Any], says: str) -> None:
    if "overrides" in changes:
        record = own()
        record = record.model_copy(update={"job": record.job.model_copy(update=changes)})
    else:
        record = own(**changes)
    with pytest.raises(UserError, match=says) as caught:
        rebuild(record, MODELS)
    assert len(str(caught.value).splitlines()) == 1


def test_a_false_recipe_digest_changes_nothing() -> None:
    lying = own(recipe=RECIPE | {"epochs": 1}, recipe_sha256=own().recipe_sha256)
    with pytest.raises(UserError, match="different recipes"):
        rebuild(lying, MODELS)


# --- the comparison --------------------------------------------------------------------------------------------------------


def test_identical_weights_and_equal_errors_are_distinguished() -> None:
    theirs = own()
    same = own(run="c" * 32, weights_sha256=theirs.weights_sha256)
    assert compare(theirs, same, [theirs]).word == "identical weights"
    found = compare(theirs, own(run="c" * 32, weights_sha256="d" * 64), [theirs])
    assert (found.word, found.difference) == ("same error", 0.0)


def test_a_difference_is_measured_in_deviations_of_the_published_seeds() -> None:
    published = make_seeds(SPREAD, recipe=RECIPE)
    theirs = published[0]
    # t(0.975, 4) = 2.776 from a printed table: two runs differ by up to 2.776 * 0.1351 * sqrt(2) = 0.53.
    near = compare(theirs, own(10.8), published)
    assert (near.word, near.difference) == ("within the spread", 0.5)
    assert near.deviations == pytest.approx(0.5 / 0.135093, rel=1e-4)
    assert "3.7 standard deviations of the 5 published seeds (0.14)" in near.reason
    assert "by at most 0.53" in near.reason
    assert compare(theirs, own(9.7), published).word == "beyond the spread"


def test_only_seeds_of_the_same_training_give_the_spread() -> None:
    published = make_seeds(SPREAD, recipe=RECIPE)
    others = [own(seed=5, profile="fast"), own(seed=6, verified=False), own(90.0, seed=7, outcome="collapsed")]
    others += [own(20.0, seed=8, recipe=RECIPE | {"epochs": 1}), published[1].model_copy(update={"run": "f" * 32})]
    theirs = published[0]
    assert compare(theirs, own(10.8), [*published, *others]) == compare(theirs, own(10.8), published)
    few = compare(theirs, own(10.8), [*published[:4], *others])
    assert (few.word, few.deviations) == ("different error", None)
    assert "4 published seeds are too few" in few.reason


def test_a_spread_of_other_runs_judges_nothing() -> None:
    """Finished seeds of verified data say nothing of a collapsed run, or of a run on other data."""
    published = make_seeds(SPREAD, recipe=RECIPE)
    collapsed = [own(90.0, seed=7, outcome="collapsed"), own(88.0, seed=7, outcome="collapsed")]
    comparison = compare(*collapsed, published)
    assert (comparison.word, comparison.difference, comparison.deviations) == ("different error", -2.0, None)
    assert comparison.reason.startswith("ours is 2.00 points below theirs; both collapsed, and the spread of")
    comparison = compare(published[0], own(10.8, verified=False), published)
    assert (comparison.word, comparison.difference, comparison.deviations) == ("different error", 0.5, None)
    assert comparison.reason.endswith("theirs is of verified data and ours of unverified data, so it is not judged")


def test_a_single_published_seed_is_singular() -> None:
    published = make_seeds(SPREAD[:1], recipe=RECIPE)
    assert "; 1 published seed is too few to judge" in compare(published[0], own(10.8), published).reason


def test_the_error_on_held_out_images_is_not_called_a_test_error(capsys: pytest.CaptureFixture[str]) -> None:
    for kind, overrides in (("held-out", {"holdout": 10_000}), ("test", {})):
        record = own(overrides=overrides)
        show(record, record, compare(record, record, []), Path("record.json"), Console(width=120))
        assert f"\n{kind} error" in capsys.readouterr().out


def test_another_outcome_is_reported() -> None:
    found = compare(own(), own(90.0, outcome="collapsed"), [])
    assert (found.word, found.reason) == ("other outcome", "theirs finished, ours collapsed")
    diverged = own(outcome="diverged")
    assert compare(diverged, diverged, []).word == "identical weights"


def test_differences_of_environment_code_and_data_are_listed() -> None:
    theirs = own()
    here = theirs.environment.model_copy(update={"torch": "2.15.0", "precision": {"tf32": True, "bf16": False}})
    ours = own(environment=here, verified=False)
    found = {what: (one, other) for what, one, other in environment_differences(theirs, ours)}
    assert found["torch"] == ("2.11.0", "2.15.0")
    assert found["precision tf32"] == (False, True)
    assert found["precision bf16"] == (None, False)
    assert found["data verified"] == (True, False)
    assert "threads" not in found
    assert environment_differences(theirs, theirs) == ()


# --- the command -----------------------------------------------------------------------------------------------------------


def test_ones_own_published_run_is_not_compared_with_itself(runner, own_root) -> None:
    record = own()
    publish_records(own_root / "results", record)
    run_locally(own_root / ".runs", record)
    code, out, err = runner("reproduce", record.key)
    assert (code, out) == (2, "")
    assert "was trained in this checkout; to train it again, add --force" in err


@pytest.mark.slow
def test_a_published_record_is_trained_again_to_the_same_weights(runner, own_root, monkeypatch) -> None:
    """A real, short training on digits: published, lost, reproduced to the same bits."""
    pytest.importorskip("sklearn")
    spec = MODELS["lenet"]
    short = replace(spec.variants["digits"], recipe=replace(spec.variants["digits"].recipe, epochs=2))
    monkeypatch.setattr("zoo.load_models", lambda: {"lenet": replace(spec, variants={"digits": short})})
    words = ("--engine", "inline")
    assert runner("submit", "--suite", "quickstart", "--seed", "0", *words)[0] == 0
    assert runner("publish")[0] == 0
    [before] = all_jobs()
    code, out, err = runner("reproduce", "digits/lenet", "--force", "--json", *words)
    assert code == 0, err
    found = json.loads(out)
    assert found["comparison"] == "identical weights"
    assert found["theirs"]["run"] != found["ours"]["run"]
    assert found["environment"] == []
    assert len(list(before.old.iterdir())) == 1
    text = runner("reproduce", "digits/lenet", *words)[1]
    assert "identical weights: the final weights are identical, bit for bit." in text
    assert "--suite reproduce" not in text  # no such suite: nothing to type next
    assert "environment, code and data are the same" in text
