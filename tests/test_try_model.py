"""`runner try`: its figures against the loop's own curve, its verdicts on starts that can and can't learn."""

import dataclasses
import json
import re

import pytest
import torch
from rich.console import Console

from runner.bench.try_model import FirstSteps, TrialOptions, Window, left_chance, prepare, train_first_steps
from runner.commands.models import try_
from runner.submit.plan import override, parse_override
from zoo import load_models
from zoo.recipe import SGD
from zoo.spec import initialise

MODELS = load_models()
DEAD = 'init=[["*","constant",0.0]]'


@pytest.fixture(autouse=True)
def one_thread(monkeypatch):
    """And torch as it was: `try` trains in the process that it's called in."""
    monkeypatch.setenv("REPROZOO_THREADS", "1")
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(False)


def test_a_window_of_an_epoch_is_the_curves_row(runner, own_root, own_store):
    """The digits have 1,437 training images: 23 batches of 64 an epoch, the last of 29."""
    code, out, _ = runner("try", "lenet", "--dataset", "digits", "--steps", "46", "--every", "23", "--json")
    assert code == 0
    tried = json.loads(out)
    assert [window["images"] for window in tried["windows"]] == [1437, 1437]

    words = ["--suite", "quickstart", "--model", "lenet", "--seed", "0", "--epochs", "2", "--engine", "inline"]
    assert runner("submit", *words)[0] == 0
    [curve] = (own_root / ".runs" / "digits").rglob("curve.csv")
    header, *rows = [line.split(",") for line in curve.read_text().splitlines()]
    for window, row in zip(tried["windows"], rows, strict=True):
        values = dict(zip(header, row, strict=True))
        assert window["loss"] == pytest.approx(float(values["train_loss"]), abs=1e-6)
        assert window["error"] == pytest.approx(float(values["train_error"]), abs=1e-4)


def test_windows_run_over_the_end_of_an_epoch(runner):
    _, out, _ = runner("try", "lenet", "--dataset", "digits", "--steps", "34", "--every", "10", "--json")
    windows = json.loads(out)["windows"]
    assert [(window["steps"], window["images"]) for window in windows] == [(10, 640), (20, 640), (34, 605 + 256)]


def test_what_learns_says_since_when_and_writes_nothing(runner, own_root):
    before = sorted(own_root.rglob("*"))
    code, out, _ = runner("try", "lenet", "--dataset", "digits", "--steps", "40")
    assert code == 0
    assert "a constant answer has a loss of 2.3025 and an error of 89.84 %" in out
    assert "Better than chance since step" in out
    assert [path for path in sorted(own_root.rglob("*")) if path not in before and "cache" not in str(path)] == []


def test_what_cannot_learn_is_no_better_than_chance(runner):
    code, out, _ = runner("try", "lenet", "--dataset", "digits", "--steps", "20", "--set", DEAD)
    assert code == 1
    assert "No better than chance after 20 steps" in out


def test_a_diverging_training_ends_immediately(runner):
    words = ("try", "lenet", "--dataset", "digits", "--steps", "40", "--set", "learning_rate=1e30")
    code, out, _ = runner(*words)
    assert code == 1
    assert "the loss is not finite after 10 steps" in out
    assert "     20" not in out
    assert json.loads(runner(*words, "--json")[1])["windows"][-1]["loss"] is None


def test_the_test_set_is_not_looked_at(own_root):
    trial = prepare(TrialOptions("lenet", "digits", steps=30), Console(stderr=True))
    whole = trial.setup.data.train
    assert trial.setup.data.test.stored.data_ptr() == whole.stored.data_ptr()
    shown: list[Window] = []
    train_first_steps(trial, FirstSteps(trial.steps, 10, shown.append))
    assert [window.steps for window in shown] == [10, 20, 30]


def test_no_more_steps_than_the_recipe_has(own_root):
    attempt = TrialOptions("lenet", "digits", steps=1000, overrides={"epochs": 1})
    assert prepare(attempt, Console(stderr=True)).steps == 23


@pytest.mark.parametrize(("every", "last"), [(20, 20), (50, 23), (10, 10)])
def test_a_divergence_is_seen_wherever_it_falls(runner, every, last):
    """An epoch of the digits has 23 steps, and `train()` ends with the one whose loss isn't finite."""
    words = ("--steps", "60", "--every", str(every), "--set", "learning_rate=1e30", "--json")
    code, out, _ = runner("try", "lenet", "--dataset", "digits", *words)
    tried = json.loads(out)
    assert (code, tried["diverged"], tried["left_chance"]) == (1, True, None)
    assert [(window["steps"], window["loss"]) for window in tried["windows"]] == [(last, None)]


def test_weights_that_the_last_update_of_an_epoch_spoils_are_a_divergence(own_root):
    """The evaluation alone sees it: no window's loss is anything but finite."""
    trial = prepare(
        TrialOptions("lenet", "digits", steps=40, overrides={"batch_size": 1437, "epochs": 40}), Console(stderr=True)
    )
    shown: list[Window] = []
    recipe = dataclasses.replace(trial.setup.recipe, optimizer=SGD(learning_rate=1e30))
    trial = dataclasses.replace(trial, setup=dataclasses.replace(trial.setup, recipe=recipe))
    assert train_first_steps(trial, FirstSteps(40, 1, shown.append))
    assert shown
    assert all(window.loss is not None for window in shown)


def test_a_start_that_leaves_parameters_out_is_one_line(runner):
    code, out, err = runner("try", "lenet", "--dataset", "digits", "--set", 'init=[["*.weight","he_normal",1.0]]')
    assert (code, out) == (2, "")
    assert "runner: digits/lenet: no rule of the recipe's init matches the parameter 'conv1.bias'" in err


def test_the_examples_of_the_help_can_be_tried():
    changes = re.findall(r"--set '?([^\s']+)", try_.__doc__)
    assert len(changes) == 2
    models = re.findall(r"runner try (\w+)", try_.__doc__)
    changed = dict(parse_override(text) for text in changes)
    recipe, _ = override(MODELS[models[-1]].variants["cifar10"].recipe, changed)
    for model in models:
        initialise(MODELS[model].variants["cifar10"].build(), recipe)


@pytest.mark.parametrize(
    ("errors", "since"),
    [((90, 70, 60), 20), ((70, 60, 50), 10), ((70, 90, 60), 30), ((70, 60, 90), None), ((90, 87.5, 87.5), None)],
)
def test_better_than_chance_means_until_the_end_and_by_more_than_luck(errors, since):
    """Of 1,280 images 87.5 % wrong are three standard deviations below 90 %: not enough."""
    windows = [Window(10 * k, 1280, 2.3, error, 1.0) for k, error in enumerate(errors, 1)]
    assert left_chance(windows, 90.0) == since
