"""Train a model: the one loop for all models, from top to bottom.

All randomness comes from the seed. Initial weights and permutations use CPU generators, so they are the same on every
device. Augmentation uses a generator on the device, dropout torch's own. The reported error is the last epoch's error
on the test set. The test set is evaluated once per epoch and no choice depends on it. The loop never waits for the
device within an epoch: the totals stay there and are fetched once per epoch.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.datasets import get_dataset
from runner.jobs.paths import now_ms
from runner.text import first_line
from runner.training import arithmetic, memory, profiles
from runner.training.batches import Batches, DeviceSet, image_order
from runner.training.checkpoint import Checkpoint
from runner.training.ending import has_diverged, is_over, outcome_of, train_errors, watched_images
from runner.training.evaluation import evaluate, means
from runner.training.optimizers import DiagonalLM, averaged, optimizer_for, set_curvature, set_rate
from runner.training.setup import Setup
from runner.training.step import autocast_of, step_for, uses_handwritten_passes
from zoo.recipe import Moment, Stage
from zoo.spec import initialise

AHEAD = 64  # batches made at once if steps are captured graphs: 100 MB at batch 128 and 32x32
CHECKPOINT_SECONDS = 30.0  # interval between checkpoints: bounds the work lost to a kill and the time spent on the disk


class Stopped(Exception):
    """Raised when the training was asked to stop. A checkpoint holds its whole state."""


@dataclass(frozen=True)
class Hooks:
    """The loop's calls into the process around it, all in the loop's thread. An exception ends the training."""

    stop: Callable[[], bool]  # called before the first step, after each call of the step, and between batches of a test
    save: Callable[[Checkpoint], None]  # the checkpoint is durable when it returns
    # called after each call of the step, which hand-written passes use for many steps, and with step 0 after each epoch
    progress: Callable[[dict[str, Any]], None]
    log: Callable[[str], None]
    watch: Callable[[int, Tensor], None] | None = (
        None  # called after every single step: steps left in the epoch, its totals
    )


@dataclass(frozen=True)
class Trained:
    """The result of a training: outcome, curve (one row per epoch), final weights, training time in seconds."""

    outcome: str
    curve: list[dict[str, Any]]
    wrong: int | None
    test_images: int | None
    weights: dict[str, Tensor]
    chance_loss: float  # loss of the best constant answer
    parameters: int
    train_seconds: float
    trained_images: int
    forced_resume: bool
    trail: list[dict[str, Any]] = field(default_factory=list)  # as the checkpoint's
    switches: dict[str, bool | str] = field(default_factory=dict)  # in force at the end


@dataclass(frozen=True)
class EpochStart:
    """What an epoch, or its rest after a resume, began with: the clock, the counts, and the errors before it."""

    clock: float
    trained_images: int
    train_seconds: float
    # of the stage's earlier epochs, in percent, for schedules that depend on them
    training_errors: Sequence[float]


class Training:
    """A training that runs: its network, its generators, its state, and the epochs that change them."""

    stage: Stage
    optimizer: torch.optim.Optimizer
    batches: Batches
    start: EpochStart

    def __init__(
        self, setup: Setup, run: str, hooks: Hooks, resume: Checkpoint | None, facts: Mapping[str, Any]
    ) -> None:
        """Make the network and the generators from the seed, and the state of a training that has not begun.

        `resume` is the checkpoint that will be resumed. It chooses the arithmetic and the stage, but is not restored here.
        """
        job, device = setup.job, setup.device
        self.spec, self.recipe, self.data, self.device, self.hooks = setup.spec, setup.recipe, setup.data, device, hooks
        self.switches = dict(setup.switches)
        self._ahead = AHEAD if setup.switches["graphs"] else 1
        if resume is not None and resume.precision.get("graphs") is False:
            self.switches["graphs"] = False  # a capture failed before
        self.layout = torch.channels_last if setup.switches["channels_last"] else torch.contiguous_format
        self.classes = get_dataset(job.dataset).classes

        torch.manual_seed(job.seed)
        self.model = self.spec.variants[job.dataset].build()
        initialise(self.model, self.recipe)
        self.model = self.model.to(device).to(memory_format=self.layout)
        self._choose_arithmetic(resume)
        self.order_seed = 2 * job.seed + 1_000_003
        self.order = torch.Generator().manual_seed(self.order_seed)
        self.shifts = torch.Generator(device=device).manual_seed(2 * job.seed + 1_000_004)

        threads, name = torch.get_num_threads(), profiles.device_name(device)
        self.state = Checkpoint.at_start(job.fingerprint, run, threads, name, self.switches, facts)
        self.sums = self.state.sums.to(device, copy=True)
        self._begin_stage(resume.epoch if resume else 0)
        self._saved_at = time.monotonic()
        self._clock: float | None = None  # start of the time that is not yet in `train_seconds`

    def _choose_arithmetic(self, resume: Checkpoint | None) -> None:
        choice = str(self.switches["arithmetic"])
        if uses_handwritten_passes(self.spec, self.recipe, self.device):
            choice = profiles.TORCH  # the hand-written passes do not use these layers
        few = self.data.train.first(min(self.recipe.batch_size, arithmetic.TRIAL_IMAGES))
        earlier, log = resume.precision if resume else None, self.hooks.log
        self.switches["arithmetic"] = arithmetic.install_choice(
            self.model, lambda: few.images(slice(None)), self.layout, choice, log, earlier
        )

    def resume(self, checkpoint: Checkpoint, on_other_model: bool, force: bool) -> None:
        """Continue from a checkpoint. Raise ResumeRefused if it cannot be resumed here."""
        differences = checkpoint.allowed_differences(self.state, self.device.type == "cuda", on_other_model, force)
        if differences:
            self.hooks.log(f"resuming in spite of these differences, which the record states: {differences}")
        checkpoint.restore(self.model, self.optimizer, self.order, self.shifts)
        self.state = checkpoint.moved_to(self.state, forced=bool(differences))
        self.sums.copy_(self.state.sums)

    # --- the epochs ---

    def run(self) -> Trained:
        """Train to the end. Raise Stopped after a requested stop."""
        self._make_step()
        self._stop_if_requested()
        while not has_diverged(self.state.curve) and not is_over(self.recipe, self.state.curve):
            self._begin_epoch()
            self._update_weights()
            self._end_epoch()
        return self._result()

    def _begin_stage(self, epoch: int) -> None:
        """Make the optimizer and the batches of the stage that an epoch, counted from 0, belongs to."""
        self.stage = self.recipe.stage_of(epoch)
        images = self.data.train.first(len(self.data.train) - self.stage.left_out)
        self.optimizer = optimizer_for(self.model, self.stage.recipe)
        self.batches = Batches(images, self.stage.recipe, self.shifts, self.layout, self._ahead, self.classes)

    def _make_step(self) -> None:
        """Make the update of the stage. Call it when the optimizer has its state."""
        self.step = step_for(
            self.model, self.optimizer, self.spec, self.stage.recipe, self.sums, self.switches, self._give_up_graphs
        )

    def _give_up_graphs(self, error: Exception) -> None:
        self.switches["graphs"] = False
        self.state.precision = dict(self.switches)
        self.hooks.log(f"the step can't be captured as a CUDA graph and runs eagerly: {first_line(error)}")

    def _begin_epoch(self) -> None:
        """Begin the next epoch, or continue the one that was interrupted."""
        state = self.state
        began = time.perf_counter()
        self._start_clock()
        if state.permutation is None and state.epoch and state.epoch == self.recipe.stage_of(state.epoch).first_epoch:
            self._begin_stage(state.epoch)
            self._make_step()
        errors = train_errors(state.curve[self.stage.first_epoch :])
        self.start = EpochStart(began, state.trained_images, state.train_seconds, errors)
        self._set_rate()
        if state.permutation is None:
            recipe, images = self.stage.recipe, self.batches.data
            if isinstance(self.optimizer, DiagonalLM):
                set_curvature(self.optimizer, self.model, self.spec, images, recipe, self.order)
            state.permutation = image_order(len(images), recipe, self._epoch_of_stage, self.order, self.order_seed)
            self.sums.zero_()
        self.batches.begin(state.permutation)

    def _update_weights(self) -> None:
        """Make the remaining updates of the epoch. Between two of them a stop is obeyed and a checkpoint saved."""
        state, hooks, steps = self.state, self.hooks, len(self.batches.bounds)
        self.model.train()
        while state.step < steps:
            if self.stage.recipe.schedule.within_epochs:
                self._set_rate()
            updates = min(self.step.updates, steps - state.step) if hooks.watch is None else 1
            images, labels = self.batches.several(state.step, updates)
            self.step(images, labels)

            state.step += updates
            state.trained_images += len(labels)
            rate = (state.trained_images - self.start.trained_images) / (time.perf_counter() - self.start.clock)
            hooks.progress(
                {"epoch": state.epoch, "step": state.step, "steps": steps, "images_per_second": round(rate, 1)}
            )
            if hooks.watch is not None:
                hooks.watch(steps - state.step, self.sums)
            if state.step < steps:
                self._stop_if_requested()
                self._checkpoint_if_due()
        self.batches.end()

    def _end_epoch(self) -> None:
        """Fetch the totals, evaluate, add a row to the curve, and save if due."""
        state = self.state
        train_loss, train_error = means(self.sums)
        self._stop_clock()
        test_sums = self._evaluate(self._evaluated_model(), self.data.test, between=self._between_batches)
        row = self._curve_row(train_loss, train_error, test_sums)
        watched = watched_images(self.recipe, row["epoch"], self.data.train)
        if watched is not None:  # no checkpoint here: dropout draws from the generator
            loss, _ = means(self._evaluate(self.model, watched, training=True))
            row["objective"] = loss if loss is not None else math.inf
        steps = len(self.batches.bounds)
        state.curve = [*state.curve, row]
        state.epoch, state.step, state.permutation = row["epoch"], 0, None
        self._report(row, steps)
        if has_diverged(state.curve) or is_over(self.recipe, state.curve):
            self.save()  # a kill while the results are written costs nothing
        else:
            self._checkpoint_if_due()
            self._stop_if_requested()

    def _evaluate(self, model: nn.Module, images: DeviceSet, **options: Any) -> Tensor:
        """Return summed loss, wrong answers and images of a network on a set."""
        return evaluate(model, images, self.spec, autocast_of(self.switches, self.device), self.layout, **options)

    def _curve_row(self, train_loss: float | None, train_error: float, test_sums: Tensor) -> dict[str, Any]:
        """Return the curve's row of the epoch that ends. `test_error` is None if the training has diverged."""
        state, start = self.state, self.start
        seconds, images = state.train_seconds - start.train_seconds, state.trained_images - start.trained_images
        test_loss, test_error = means(test_sums)
        diverged = train_loss is None or test_loss is None  # the last update may spoil the weights after a finite loss
        # An attempt that only evaluates has no rate of its own, so it reports the whole run's.
        rate = images / seconds if images else state.trained_images / state.train_seconds
        return {
            "epoch": state.epoch + 1,
            "learning_rate": self._rate(len(self.batches.bounds) - 1),
            "train_loss": train_loss,
            "train_error": train_error,
            "test_loss": test_loss,
            "test_error": None if diverged else test_error,
            "wrong": int(test_sums[1]),
            "time": now_ms(),
            "seconds": round(time.perf_counter() - start.clock, 3),
            "images_per_second": round(rate, 3),
        }

    def _report(self, row: dict[str, Any], steps: int) -> None:
        """Send the end of an epoch to the log and to the progress hook."""
        epoch = row["epoch"]
        self.hooks.log(
            f"epoch {epoch}/{self.recipe.most_epochs}  loss {_shown(row['train_loss'], 4)}  "
            f"training error {_shown(row['train_error'], 2)} %  test error {_shown(row['test_error'], 2)} %  "
            f"{row['images_per_second']:.1f} images/s"
        )
        measured = {name: row[name] for name in ("test_error", "images_per_second")}
        self.hooks.progress({"epoch": epoch, "step": 0, "steps": steps, **measured})

    def _result(self) -> Trained:
        state, diverged = self.state, has_diverged(self.state.curve)
        chance_loss = self.spec.constant_loss(self.data.train.labels)
        weights = self._evaluated_model().state_dict()
        return Trained(
            outcome=outcome_of(state.curve, chance_loss),
            curve=state.curve,
            wrong=None if diverged else state.curve[-1]["wrong"],
            test_images=None if diverged else len(self.data.test),
            weights={name: value.detach().cpu().contiguous() for name, value in weights.items()},
            chance_loss=chance_loss,
            parameters=sum(p.numel() for p in self.model.parameters()),
            train_seconds=state.train_seconds,
            trained_images=state.trained_images,
            forced_resume=state.forced_resume,
            trail=state.trail,
            switches=self.switches,
        )

    def _evaluated_model(self) -> nn.Module:
        """Return the network whose error counts: with the averaged weights if the recipe has an average."""
        return averaged(self.model, self.optimizer) if self.recipe.average else self.model

    @property
    def _epoch_of_stage(self) -> int:
        return self.state.epoch - self.stage.first_epoch

    def _rate(self, step: int) -> float:
        """Return the learning rate of a step of the current epoch."""
        moment = Moment(self._epoch_of_stage, step, len(self.batches.bounds), self.start.training_errors)
        return self.stage.recipe.rate(moment)

    def _set_rate(self) -> None:
        """Set the learning rate and the momentum of the next update."""
        momentum = self.stage.recipe.optimizer.momentum_at(self._epoch_of_stage)
        set_rate(self.optimizer, self._rate(self.state.step), momentum)

    # --- checkpoints, stops, the clock ---

    def save(self) -> None:
        """Save everything that the rest of the training depends on. Call it between two steps."""
        self._settle()
        state = self.state
        state.model, state.optimizer, state.sums = self.model.state_dict(), self.optimizer.state_dict(), self.sums.cpu()
        drawn_from = self.batches.generator_state(state.step)
        state.generators = {"order": self.order.get_state(), "shifts": drawn_from, "cpu": torch.get_rng_state()}
        if self.device.type == "cuda":
            state.generators["cuda"] = torch.cuda.get_rng_state(self.device)
        self.hooks.save(state)
        self._saved_at = time.monotonic()

    def _checkpoint_if_due(self) -> None:
        """Save if the last save is more than CHECKPOINT_SECONDS ago."""
        if time.monotonic() - self._saved_at > CHECKPOINT_SECONDS:
            self.save()

    def _stop_if_requested(self) -> None:
        """Save a checkpoint and raise Stopped, if a stop was requested."""
        if self.hooks.stop():
            self.save()
            raise Stopped

    def _between_batches(self) -> None:
        """Check for a stop and save if due. An evaluation takes minutes on a CPU; a resume repeats it from its start."""
        self._stop_if_requested()
        self._checkpoint_if_due()

    def _start_clock(self) -> None:
        """Start counting time as training."""
        self._clock = time.perf_counter()

    def _stop_clock(self) -> None:
        """Stop counting time as training."""
        self._settle()
        self._clock = None

    def _settle(self) -> None:
        """Add the time since the clock was last read to `train_seconds`."""
        if self._clock is not None:
            now = time.perf_counter()
            self.state.train_seconds += now - self._clock
            self._clock = now


def train(
    setup: Setup,
    run: str,
    hooks: Hooks,
    resume: Checkpoint | None = None,
    force_resume: bool = False,
    on_other_device: str = "refuse",
    facts: Mapping[str, Any] = MappingProxyType({}),
) -> Trained:
    """Train one job to its end, from its start or from a checkpoint; `facts` go into this attempt's entry in the trail.

    On another model of GPU or processor, `fast` resumes and is recorded as a forced resume. `reference`, which promises
    bitwise equality, resumes there only if `on_other_device` is "resume".

    Raise Stopped after a requested stop (a checkpoint is saved first), ResumeRefused for a checkpoint that cannot be
    resumed here, and whatever the model raises.
    """
    if setup.device.type == "cpu":
        memory.keep_freed()
    training = Training(setup, run, hooks, resume, facts)
    if resume is not None:
        training.resume(resume, setup.job.profile == "fast" or on_other_device == "resume", force_resume)
    return training.run()


def _shown(value: float | None, digits: int) -> str:
    return "not finite" if value is None else f"{value:.{digits}f}"
