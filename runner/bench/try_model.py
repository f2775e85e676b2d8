"""Train a recipe's first steps, to see whether it learns at all before hours are spent on it: `runner try MODEL`.

The loop is `train()` itself on the data set's own images, at the recipe's batch size and learning rate. It leaves no
job, no record and no checkpoint, and never uses the test set. Many recipes of these papers stay at chance for some
hundred steps, some forever. A wrong initialisation, a rate that kills the last ReLU and images that are scaled twice
look the same on the board; here they show within minutes.
"""

import dataclasses
import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from rich.console import Console
from torch import Tensor

from benchmarks.errors import UserError, unknown
from runner.bench.request import suite_of
from runner.data import cache
from runner.data.folder import data_folder
from runner.engines.slots import make_slots, take_one, threads_per_slot, usable_cores
from runner.submit import plan
from runner.training import batches, loop, memory, profiles
from runner.training.setup import Setup
from runner.worker.attempt import recipe_of
from runner.worker.options import RunOptions
from zoo import load_models
from zoo.spec import initialise

DEVIATIONS = 4.0  # standard deviations by which an error must be below a constant answer's to count
HEADINGS = ("steps", "loss", "error", "images/s")


@dataclass(frozen=True)
class TrialOptions:
    """What to try. Mean loss and error are shown for each window of `every` steps."""

    model: str
    dataset: str | None = None  # None: the model's first
    steps: int = 200
    every: int = 10
    seed: int = 0
    profile: str = "reference"
    overrides: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    options: RunOptions = dataclasses.field(default_factory=RunOptions)


@dataclass(frozen=True)
class Window:
    """A window of steps: number of its last step, images, mean loss, error in percent, images/s."""

    steps: int
    images: int
    loss: float | None  # None: not finite
    error: float
    images_per_second: float

    def cells(self) -> tuple[str, ...]:
        """Return one text per heading of HEADINGS."""
        return (
            str(self.steps),
            "not finite" if self.loss is None else f"{self.loss:.4f}",
            f"{self.error:.2f} %",
            f"{self.images_per_second:,.1f}",
        )

    def learned(self, chance_error: float) -> bool:
        """Return whether the error is significantly below chance.

        `chance_error` is the error of a constant answer in percent. The error has to be DEVIATIONS standard deviations
        below it.
        """
        share = chance_error / 100
        deviation = 100 * math.sqrt(share * (1 - share) / self.images)
        return self.loss is not None and self.error < chance_error - DEVIATIONS * deviation


class AllStepsDone(Exception):
    """Raised when all requested steps are done."""


class FirstSteps:
    """The loop's hook: divides the steps into windows, also across epochs, and ends the training after the last one.

    Left-over steps make the last window longer, because a short window says little.
    """

    def __init__(self, last: int, every: int, show: Callable[[Window], None]) -> None:
        self.last, self.every, self.show = last, every, show
        self.steps, self.window, self.counted = 0, [0.0] * 3, [0.0] * 3
        self.diverged = False
        self.began = time.perf_counter()

    def __call__(self, left: int, sums: Tensor) -> None:
        """Count a step, and show the window if it ends here.

        `left` is the number of steps left in the epoch, `sums` the epoch's loss, wrong answers and images. Raise
        AllStepsDone after the last step.
        """
        self.steps += 1
        ends = self.steps == self.last or (self.steps % self.every == 0 and self.last - self.steps >= self.every)
        if not ends and left:
            return  # without fetching anything from the device
        now = sums.tolist()
        self.window = [had + new - old for had, new, old in zip(self.window, now, self.counted, strict=True)]
        self.counted = now if left else [0.0] * 3
        ends |= not math.isfinite(now[0])  # the training ends with the epoch
        if not ends:
            return
        loss, wrong, images = self.window
        spent = time.perf_counter() - self.began
        mean = loss / images if math.isfinite(loss) else None
        window = Window(self.steps, round(images), mean, 100 * wrong / images, images / spent)
        self.show(window)
        self.diverged = mean is None
        if self.steps == self.last or self.diverged:
            raise AllStepsDone
        self.window, self.began = [0.0] * 3, time.perf_counter()


def show(requested: TrialOptions, console: Console, *, as_json: bool = False) -> int:
    """Train the first steps; print one line per window, or everything as JSON. Return the exit code: 1 if nothing was learned.

    Raise UserError for invalid options or a missing data set.
    """
    messages = Console(stderr=True, highlight=False)
    trial = prepare(requested, messages)
    loss, error = trial.chance
    (messages if as_json else console).print(
        f"{trial.setup.job.key}: {trial.steps} steps of {trial.setup.recipe.batch_size} images on {trial.setup.device}; "
        f"a constant answer has a loss of {loss:.4f} and an error of {error:.2f} %",
        soft_wrap=True,
    )
    if not as_json:
        console.print(_line(HEADINGS))
    windows: list[Window] = []

    def note(window: Window) -> None:
        windows.append(window)
        if not as_json:
            console.print(_line(window.cells()))

    watch = FirstSteps(trial.steps, requested.every, note)
    with (messages if as_json else console).status("the first step ...") as status:  # visible only on a terminal

        def tick(progress: dict[str, Any]) -> None:
            status.update(f"step {watch.steps + 1} of {trial.steps}, {progress['images_per_second']:,.1f} images/s")

        diverged = train_first_steps(trial, watch, tick)
    since = None if diverged else left_chance(windows, error)
    if as_json:
        rows = [dataclasses.asdict(window) for window in windows]
        facts = {
            "job": trial.setup.job.model_dump(mode="json"),
            "chance_loss": loss,
            "chance_error": error,
            "left_chance": since,
            "diverged": diverged,
        }
        print(json.dumps(facts | {"windows": rows}, indent=2))
    else:
        console.print(verdict(windows, since, diverged), soft_wrap=True)
    return int(since is None)


def left_chance(windows: Sequence[Window], chance_error: float) -> int | None:
    """Return the last step of the first window from which on every window was better than a constant answer.

    Return None if the last window was not.
    """
    since = None
    for window in reversed(windows):
        if not window.learned(chance_error):
            break
        since = window.steps
    return since


def verdict(windows: Sequence[Window], since: int | None, diverged: bool) -> str:
    """Return the result in one line."""
    if diverged:
        return f"The training diverged: the loss is not finite after {windows[-1].steps} steps."
    if since is None:
        return f"No better than chance after {windows[-1].steps} steps: try more with --steps, or look for a mistake."
    return f"Better than chance since step {since}."


def _line(cells: Sequence[str]) -> str:
    return "  ".join(cell.rjust(width) for cell, width in zip(cells, (7, 10, 8, 9), strict=True))


# --- the training --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Trial:
    """A training to try: its setup, the number of its steps, and the loss and error of a constant answer."""

    setup: Setup
    steps: int
    chance: tuple[float, float]  # nats, percent


def prepare(requested: TrialOptions, messages: Console) -> Trial:
    """Return job and data on the first GPU, or on the processor with all cores.

    Raise UserError for what cannot be tried.
    """
    for name in ("steps", "every"):
        if getattr(requested, name) < 1:
            raise UserError(f"--{name} is {getattr(requested, name)}, expected 1 or more")
    models = load_models()
    if requested.model not in models:
        raise unknown("model", requested.model, models)
    spec = models[requested.model]
    dataset = requested.dataset or next(iter(spec.variants), None)
    if dataset is None:
        raise UserError(f"model '{requested.model}' has no recipe: it is for analysis only")
    [job] = plan.make_jobs(
        suite_of(dataset, requested.model, models),
        models,
        only=[requested.model],
        seeds=[requested.seed],
        profile=requested.profile,
        overrides=requested.overrides,
    )

    threads = threads_per_slot(default=usable_cores())
    slot = take_one(make_slots(1, threads, requested.options.device, messages.print), threads).slot
    torch.set_num_threads(threads)
    device, recipe = torch.device(slot.device), recipe_of(job)
    profiles.check_device(device)
    try:
        initialise(spec.variants[dataset].build(), recipe)
    except ValueError as error:
        raise UserError(f"{dataset}/{requested.model}: {error}") from error
    switches = profiles.resolve(requested.profile, device, spec.channels_last_on_cpu, spec.bitwise)
    profiles.apply(switches)
    log = messages.print
    loaded = cache.load(dataset, data_folder(requested.options.data_dir), requested.options.allow_unverified_data, log)
    prepared = batches.prepare(
        loaded, recipe.preprocessing, recipe.holdout, device, log, drawn=batches.draw_of(recipe, job.seed)
    )
    # The end of an epoch evaluates on training images, so that no choice depends on the test set.
    trial_data = dataclasses.replace(prepared, test=prepared.train.first(recipe.batch_size))
    whole = recipe.epochs * len(batches.batch_bounds(len(prepared.train), recipe))
    labels = prepared.train.labels
    chance = spec.constant_loss(labels), 100 * (1 - labels.bincount().max().item() / len(labels))
    return Trial(Setup(job, spec, recipe, trial_data, device, switches), min(requested.steps, whole), chance)


def train_first_steps(
    trial: Trial, watch: FirstSteps, tick: Callable[[dict[str, Any]], None] = lambda progress: None
) -> bool:
    """Run `train()` until the watch has all its steps. Nothing is saved. Return whether the training diverged.

    `tick` is called after each step with the progress that a worker would write to its lease.

    Raise UserError if memory is short, and whatever the model raises.
    """
    hooks = loop.Hooks(
        stop=lambda: False,
        save=lambda state: None,
        progress=tick,
        log=lambda line: None,
        watch=watch,
    )
    try:
        trained = loop.train(trial.setup, "0" * 32, hooks)
    except AllStepsDone:
        return watch.diverged
    except Exception as error:
        if memory.ran_short(error):
            job, batch, gpu = trial.setup.job, trial.setup.recipe.batch_size, trial.setup.device.type == "cuda"
            raise UserError(memory.out_of_memory(job.key, batch, str(error), gpu)) from error
        raise
    return trained.outcome == "diverged"
