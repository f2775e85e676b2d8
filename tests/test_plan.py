"""The plan is a pure function: its length, its order, and what it refuses."""

import dataclasses
import json

import pytest
from helpers import make_record, run_locally

from benchmarks.errors import UserError
from benchmarks.records import RunRecord
from benchmarks.suites import SUITES, Suite, get_suite
from runner.engines.slots import Slot
from runner.jobs.paths import JobPaths, runs_folder
from runner.submit.estimate import epoch_images, expected_seconds
from runner.submit.plan import make_jobs, models_of, parse_override, parse_overrides, parse_sweep, suites_table
from runner.submit.preview import Settings, plan_line, same_as_reference_lines, states_of
from zoo import load_models
from zoo.recipe import Augmentation, Linear, recipe_from

MODELS = load_models()


def plan(name, **options):
    return make_jobs(get_suite(name), MODELS, **options)


def test_a_suite_is_every_model_times_every_seed():
    jobs = plan("nin_ablation")
    assert len(jobs) == 5 * 5
    assert [job.key for job in jobs[:6]] == [f"cifar10/nin/reference-seed{s}" for s in range(5)] + [
        "cifar10/nin_dropout/reference-seed0"
    ]
    assert len({job.fingerprint for job in jobs}) == len(jobs)


def test_quickstart_has_three_models_and_two_seeds():
    jobs = plan("quickstart")
    assert len({job.model for job in jobs}) >= 3
    assert {job.seed for job in jobs} == {0, 1}
    assert {job.dataset for job in jobs} == {"digits"}


def test_models_and_seeds_narrow_the_plan():
    assert [job.seed for job in plan("mnist", only=["lenet"], seeds=[7, 3, 7])] == [7, 3]


def test_an_override_is_part_of_the_identity_and_one_equal_to_the_recipe_is_dropped():
    plain, same, other = (
        plan("mnist", only=["lenet"], seeds=[0], overrides=changes)[0]
        for changes in ({}, {"epochs": MODELS["lenet"].variants["mnist"].recipe.epochs}, {"epochs": 1})
    )
    assert same.fingerprint == plain.fingerprint
    assert other.fingerprint != plain.fingerprint
    assert other.overrides == {"epochs": 1}
    assert other.effective_recipe["epochs"] == 1
    assert other.recipe_sha256 == plain.recipe_sha256


def test_a_suites_own_overrides_are_laid_under_the_users():
    suite = Suite("mnist", "", ("mnist",), overrides={"epochs": 2, "batch_size": 32})
    job = make_jobs(suite, MODELS, only=["lenet"], seeds=[0], overrides={"epochs": 3})[0]
    assert job.overrides == {"batch_size": 32, "epochs": 3}


def test_a_sweep_is_every_job_once_for_each_setting():
    jobs = plan("allconv_rates", only=["allcnn_c", "base_a"])
    tried = [(job.model, job.seed, job.effective_recipe["optimizer"]["learning_rate"]) for job in jobs]
    assert tried == [(model, 0, rate) for model in ("base_a", "allcnn_c") for rate in (0.25, 0.1, 0.05, 0.01)]
    assert {job.effective_recipe["holdout"] for job in jobs} == {10_000}
    assert len({job.fingerprint for job in jobs}) == len(jobs)
    # the recipe's own rate is no override: its job is the recipe's own on the hold-out
    assert [job.overrides for job in jobs if job.model == "base_a"][2] == {"holdout": 10_000}


def test_settings_of_a_sweep_that_the_user_makes_equal_are_one_job():
    jobs = plan("allconv_rates", only=["allcnn_c"], overrides={"learning_rate": 0.02})
    assert [job.overrides for job in jobs] == [{"holdout": 10_000, "optimizer.learning_rate": 0.02}]


def test_the_profile_is_part_of_the_identity():
    one, other = (plan("mnist", only=["lenet"], seeds=[0], profile=p)[0] for p in ("reference", "fast"))
    assert one.fingerprint != other.fingerprint


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("learning_rate=1", {"optimizer.learning_rate": 1.0}),
        ("optimizer.learning_rate=0.2", {"optimizer.learning_rate": 0.2}),
        ("optimizer.learning_rate=0.1", {}),  # the recipe's own
        ("epochs=3", {"epochs": 3}),
        ("flip=true", {"augmentation.flip": True}),
        ("preprocessing=unit", {"preprocessing": "unit"}),
        ("after=[1,2]", {"schedule.after": [1, 2]}),
        ('lr_multipliers=[["*.bias",2]]', {"lr_multipliers": [["*.bias", 2.0]]}),
        ('schedule={"rule":"Plateau","patience":3}', {"schedule": {"rule": "Plateau", "patience": 3}}),
        (
            'momentum={"rule":"Ramp","start":0.5,"end":0.9,"epochs":4}',
            {"optimizer.momentum": {"rule": "Ramp", "start": 0.5, "end": 0.9, "epochs": 4}},
        ),
        ("drop_last=true", {"order.drop_last": True}),
    ],
)
def test_overrides_are_read_as_the_fields_type_and_written_by_their_whole_name(text, expected):
    [job] = plan("mnist", only=["lenet"], seeds=[0], overrides=dict([parse_override(text)]))
    assert job.overrides == expected
    assert json.dumps(job.overrides) == json.dumps(expected)


def test_the_effective_recipe_of_a_job_is_the_one_that_the_overrides_were_checked_on():
    changes = {"schedule": {"rule": "Linear", "to": 0.1, "epochs": 5}, "epochs": 5, "schedule.to": 0.2, "flip": True}
    [job] = plan("mnist", only=["lenet"], seeds=[0], overrides=changes)
    own = MODELS["lenet"].variants["mnist"].recipe
    by_hand = dataclasses.replace(
        own, epochs=5, schedule=Linear(to=0.2, epochs=5), augmentation=Augmentation(flip=True)
    )
    assert recipe_from(json.loads(json.dumps(job.effective_recipe))) == by_hand
    assert recipe_from(job.recipe) == own
    assert "schedule.to" not in job.overrides  # it is in the whole part


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("epochs", "FIELD=VALUE"),
        ("epoch=3", "did you mean 'epochs'"),
        ("lr=0.1", "unknown recipe field 'lr': did you mean 'learning_rate'?"),
        ("epochs=three", "epochs is 'three', expected a whole number"),
        ("epochs=1.5", "epochs is 1.5, expected a whole number"),
        ("learning_rate=NaN", "optimizer.learning_rate is 'NaN', expected a number"),
        ("learning_rate=1e999", "optimizer.learning_rate is inf, expected a number"),
        ("learning_rate=0", "optimizer.learning_rate is 0.0, expected more than 0"),
        ("momentum=1", "optimizer.momentum is 1.0, expected 0 to less than 1"),
        ("after=5", "schedule.after is 5, expected a list of whole numbers"),
        ("schedule.after=[5,3]", r"schedule.after is \[5, 3\], expected rising"),
        ("flip=maybe", "augmentation.flip is 'maybe', expected true or false"),
        ("patience=3", "unknown recipe field 'patience'"),
        ('schedule={"rule":"Step"}', "schedule has the rule 'Step', expected one of: Constant"),
        ('schedule={"rule":"Plateau"}', "schedule.patience is missing, expected a whole number"),
        ('schedule={"rule":"Plateau","patience":3,"drop":1}', "schedule has no field 'drop'"),
        ("optimizer.learning=1", "unknown recipe field 'optimizer.learning'"),
        ("init=[1]", "init is 1"),
    ],
)
def test_wrong_overrides_are_one_line(text, says):
    with pytest.raises(UserError, match=says) as caught:
        plan("mnist", overrides=dict([parse_override(text)]))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"only": ["lenett"]}, "did you mean 'lenet'"),
        ({"only": ["nin_fc"]}, "is not in the suite 'mnist'"),
        ({"seeds": [-1]}, "seed -1"),
        ({"overrides": {"epochs": 0}}, "epochs is 0"),
        ({"overrides": {"holdout": 60_000}}, "expected less than its 60000"),
        ({"overrides": {"subset": 60_001}}, "subset is 60001, expected at most the 60000 training images"),
        ({"overrides": {"subset": 50_001, "holdout": 10_000}}, "subset is 50001, expected at most the 50000"),
        ({"overrides": {"subset": 64, "batch_size": 65, "drop_last": True}}, "expected at most the 64 training images"),
        ({"overrides": {"subset": -1}}, "subset is -1"),
        ({"overrides": {"preprocessing": "zca"}}, "preprocessing is 'zca': did you mean 'gcn_zca'"),
        (
            {"overrides": {"drop_last": True, "batch_size": 70_000}},
            "expected at most the 60000 training images with drop_last",
        ),
    ],
)
def test_wrong_plans_are_one_line(options, says):
    with pytest.raises(UserError, match=says) as caught:
        plan("mnist", **options)
    assert "\n" not in str(caught.value)


# --- how long it takes -------------------------------------------------------------------------------------------------


def ended(seconds: float, device: str = "cpu", **changes) -> RunRecord:
    """A run of lenet on digits, of 20 epochs."""
    record = make_record(dataset="digits", model="lenet", recipe={"epochs": 20}, train_seconds=seconds, **changes)
    return record.model_copy(update={"environment": record.environment.model_copy(update={"device": device})})


def test_a_plan_is_estimated_by_runs_of_its_device_and_overrides_that_trained_to_the_end():
    records = [ended(6_000), ended(60, "cuda", seed=1), ended(2_400, overrides={"batch_size": 16})]
    records += [ended(60, outcome="diverged", seed=seed) for seed in range(2, 6)]
    run_locally(runs_folder(), *records)
    plain, other = records[0].job, records[2].job
    assert expected_seconds([plain], "cpu") == 6_000
    assert expected_seconds([plain], "cuda") == 60
    assert expected_seconds([other], "cpu") == 2_400
    assert expected_seconds([plain.model_copy(update={"overrides": {"epochs": 5}})], "cpu") == 1_500
    assert expected_seconds([plain.model_copy(update={"overrides": {"batch_size": 32}})], "cpu") is None


@pytest.mark.parametrize(
    ("model", "overrides", "images"),
    [
        ("caffe_lenet", {}, 500 * 64),  # its epoch is 500 iterations
        ("lenet", {}, 60_000),
        ("lenet", {"holdout": 10_000}, 50_000),
        ("lenet", {"drop_last": True}, 59_904),
        ("lenet5_15000", {}, 15_000),
    ],
)
def test_an_epochs_images_are_those_that_it_reads(model, overrides, images):
    suite = "mnist" if model == "lenet" else "classics"
    [job] = plan(suite, only=[model], seeds=[0], overrides=overrides)
    assert epoch_images(job) == images


def test_failed_jobs_that_are_not_tried_again_take_no_time():
    run_locally(runs_folder(), ended(600, seed=9))
    jobs = [ended(600, seed=seed).job for seed in range(5)]
    for job in jobs[:4]:
        paths = JobPaths.of(job)
        paths.write_job(job)
        paths.failure.write_text('{"kind": "model"}')
    line = plan_line(jobs, states_of(jobs), Settings(), [Slot("cpu0", "cpu")])
    assert line == "5 jobs: 0 done, 1 to run, 4 failed (runner retry --failed), about 10 min on 1 CPU slot"


def test_the_plan_says_where_fast_trains_as_reference_does():
    """Hand-written passes train one image per update on a CPU, in both profiles."""
    cpu, names = [Slot("cpu0", "cpu")], ["lenet5", "caffe_lenet"]
    jobs = plan("mnist", only=names, profile="fast", seeds=[0])
    assert [line.split(":")[0] for line in same_as_reference_lines(jobs, cpu)] == ["lenet5"]
    assert not same_as_reference_lines(jobs, [Slot("gpu0", "cuda")])
    assert not same_as_reference_lines(plan("mnist", only=names, seeds=[0]), cpu)
    older = [job.model_copy(update={"recipe": {"of an older version": 1}}) for job in jobs]
    assert not same_as_reference_lines(older, cpu)


def test_an_unknown_suite_names_the_nearest():
    with pytest.raises(UserError, match="did you mean 'cifar10'"):
        get_suite("cifar-10")


def test_every_suite_has_jobs_and_the_table_counts_them():
    for row in suites_table(MODELS):
        assert row["jobs"] == len(plan(row["name"]))
        assert models_of(SUITES[row["name"]], MODELS)


def test_a_field_that_is_set_twice_is_refused_whichever_name_it_goes_by():
    with pytest.raises(
        UserError, match=r"--set learning_rate is given twice; to train with several values, use --sweep"
    ):
        parse_overrides(["learning_rate=0.01", "learning_rate=0.05"])
    assert parse_overrides(["learning_rate=0.01", "epochs=3"]) == {"learning_rate": 0.01, "epochs": 3}
    with pytest.raises(UserError, match="is set twice"):
        make_jobs(
            get_suite("quickstart"),
            load_models(),
            overrides={"learning_rate": 0.01, "optimizer.learning_rate": 0.02},
        )


@pytest.mark.parametrize(
    ("texts", "settings"),
    [
        ([], [{}]),
        (["learning_rate=0.01,0.05"], [{"learning_rate": 0.01}, {"learning_rate": 0.05}]),
        (["init=[[1,2]],[]"], [{"init": [[1, 2]]}, {"init": []}]),
        (["preprocessing=unit,standardise"], [{"preprocessing": "unit"}, {"preprocessing": "standardise"}]),
        (
            ["epochs=1,2", "batch_size=64,128"],
            [{"epochs": e, "batch_size": b} for e in (1, 2) for b in (64, 128)],
        ),
    ],
)
def test_a_sweep_is_every_combination_of_its_values(texts, settings):
    assert parse_sweep(texts) == settings


@pytest.mark.parametrize(
    ("texts", "says"),
    [
        (["epochs=1", "epochs=2"], "--sweep epochs is given twice"),
        (["epochs="], "expected FIELD=A,B,C"),
        (["epochs"], "expected FIELD=VALUE"),
        (["epoch=1,2"], "did you mean 'epochs'"),
    ],
)
def test_a_wrong_sweep_is_one_line(texts, says):
    with pytest.raises(UserError, match=says):
        parse_sweep(texts)


def test_a_sweep_multiplies_the_plan():
    models, suite = load_models(), get_suite("quickstart")
    plain = make_jobs(suite, models, only=["lenet"], seeds=[0, 1])
    swept = make_jobs(
        suite, models, only=["lenet"], seeds=[0, 1], sweep=parse_sweep(["learning_rate=0.011,0.012,0.013"])
    )
    assert len(swept) == 3 * len(plain)
    assert {tuple(job.overrides.values()) for job in swept} == {(0.011,), (0.012,), (0.013,)}
