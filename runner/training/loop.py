"""Train a model: the one loop for all models, from top to bottom.

All randomness comes from the seed. Initial weights and permutations use CPU generators, so they are the same on every
device. Augmentation uses a generator on the device, dropout torch's own. The reported error is the last epoch's error
on the test set. The test set is evaluated once per epoch and no choice depends on it. The loop never waits for the
device within an epoch: the totals stay there and are fetched once per epoch.
"""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.datasets import get_dataset
from benchmarks.records import Job
from runner.jobs.paths import now_ms
from runner.text import first_line
from runner.training import arithmetic, memory
from runner.training.batches import Batches, DeviceSet, Prepared, image_order
from runner.training.checkpoint import Checkpoint
from runner.training.evaluation import evaluate
from runner.training.optimizers import DiagonalLM, averaged, optimizer_for, set_rate
from runner.training.profiles import device_name
from runner.training.step import autocast_of, step_for, uses_explicit_passes
from zoo.recipe import Moment, Recipe, Stage
from zoo.spec import ModelSpec, initialise

AHEAD = 64  # batches made at once if steps are captured graphs: 100 MB at batch 128 and 32x32
CHECKPOINT_SECONDS = 30.0  # interval between checkpoints: bounds the work lost to a kill and the time spent on the disk
CHANCE_SHARE = 0.98  # from this share of the constant answer's loss on, a final training loss counts as chance


class Stopped(Exception):
    """Raised when the training was asked to stop. A checkpoint holds its whole state."""


@dataclass(frozen=True)
class Hooks:
    """The loop's calls into the process around it, all in the loop's thread. An exception ends the training."""

    stop: Callable[[], bool]  # called before the first step, after each step, and between an evaluation's batches
    save: Callable[[Checkpoint], None]  # the checkpoint is durable when it returns
    progress: Callable[[dict[str, Any]], None]  # cheap; called after each step
    log: Callable[[str], None]
    watch: Callable[[int, Tensor], None] | None = None  # called after each step: steps left in the epoch, its totals


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


class Session:
    """A running training: saves its state, checks for stop requests, and measures pure training time."""

    def __init__(
        self,
        state: Checkpoint,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        sums: Tensor,
        batches: Batches,
        order: torch.Generator,
        hooks: Hooks,
    ) -> None:
        self.state, self.model, self.optimizer, self.sums = state, model, optimizer, sums
        self.batches, self.order, self.hooks = batches, order, hooks
        self._saved_at = time.monotonic()
        self._clock: float | None = None  # start of the time that is not yet in `train_seconds`

    def start_clock(self) -> None:
        """Start counting time as training."""
        self._clock = time.perf_counter()

    def stop_clock(self) -> None:
        """Stop counting time as training."""
        self._settle()
        self._clock = None

    def save(self) -> None:
        """Save everything that the rest of the training depends on. Call it between two steps."""
        self._settle()
        state, device = self.state, self.sums.device
        state.model, state.optimizer, state.sums = self.model.state_dict(), self.optimizer.state_dict(), self.sums.cpu()
        drawn_from = self.batches.generator_state(state.step)
        state.generators = {"order": self.order.get_state(), "shifts": drawn_from, "cpu": torch.get_rng_state()}
        if device.type == "cuda":
            state.generators["cuda"] = torch.cuda.get_rng_state(device)
        self.hooks.save(state)
        self._saved_at = time.monotonic()

    def checkpoint_if_due(self) -> None:
        """Save if the last save is more than CHECKPOINT_SECONDS ago."""
        if time.monotonic() - self._saved_at > CHECKPOINT_SECONDS:
            self.save()

    def stop_if_requested(self) -> None:
        """Save a checkpoint and raise Stopped, if a stop was requested."""
        if self.hooks.stop():
            self.save()
            raise Stopped

    def between_batches(self) -> None:
        """Check for a stop and save if due, between the batches of an evaluation.

        An evaluation takes minutes on a CPU. A resume repeats it from its start.
        """
        self.stop_if_requested()
        self.checkpoint_if_due()

    def _settle(self) -> None:
        if self._clock is not None:
            now = time.perf_counter()
            self.state.train_seconds += now - self._clock
            self._clock = now


def train(
    job: Job,
    run: str,
    spec: ModelSpec,
    recipe: Recipe,
    data: Prepared,
    device: torch.device,
    switches: dict[str, bool | str],
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
    if device.type == "cpu":
        memory.keep_freed()

    ahead = AHEAD if switches["graphs"] else 1
    switches = dict(switches)
    if switches["graphs"] and resume is not None and resume.precision.get("graphs") is False:
        switches["graphs"] = False  # a capture failed before

    # --- model, optimizer, generators: all from the seed ---
    layout = torch.channels_last if switches["channels_last"] else torch.contiguous_format
    torch.manual_seed(job.seed)
    model = spec.variants[job.dataset].build()
    initialise(model, recipe)
    model = model.to(device).to(memory_format=layout)
    if uses_explicit_passes(spec, recipe, device):
        switches["arithmetic"] = arithmetic.TORCH  # the hand-written passes do not use these layers
    few = data.train.first(min(recipe.batch_size, arithmetic.TRIAL_IMAGES))
    switches["arithmetic"] = arithmetic.install_choice(
        model, few.images, layout, str(switches["arithmetic"]), hooks.log, resume.precision if resume else None
    )
    order_seed = 2 * job.seed + 1_000_003
    order = torch.Generator().manual_seed(order_seed)
    shifts = torch.Generator(device=device).manual_seed(2 * job.seed + 1_000_004)

    classes = get_dataset(job.dataset).classes

    def begin(stage: Stage) -> tuple[torch.optim.Optimizer, Batches]:
        """Return the optimizer and the batches of a stage of the training."""
        images = data.train.first(len(data.train) - stage.left_out)
        return optimizer_for(model, stage.recipe), Batches(images, stage.recipe, shifts, layout, ahead, classes)

    # --- the state to start from ---
    state = Checkpoint.at_start(job.fingerprint, run, torch.get_num_threads(), device_name(device), switches, facts)
    stage = recipe.stage_of(resume.epoch if resume else 0)
    optimizer, batches = begin(stage)
    if resume is not None:
        anywhere = job.profile == "fast" or on_other_device == "resume"
        differences = resume.allowed_differences(state, device.type == "cuda", anywhere, force_resume)
        if differences:
            hooks.log(f"resuming in spite of these differences, which the record states: {differences}")
        resume.restore(model, optimizer, order, shifts)
        state = resume.moved_to(state, forced=bool(differences))
    sums = state.sums.to(device, copy=True)

    def give_up_graphs(error: Exception) -> None:
        switches["graphs"] = False
        state.precision = dict(switches)
        hooks.log(f"the step can't be captured as a CUDA graph and runs eagerly: {first_line(error)}")

    step = step_for(model, optimizer, spec, stage.recipe, sums, switches, give_up_graphs)
    session = Session(state, model, optimizer, sums, batches, order, hooks)

    # --- the epochs ---
    diverged = has_diverged(state.curve)
    session.stop_if_requested()
    while not diverged and not is_over(recipe, state.curve):
        began, images_before, seconds_before = time.perf_counter(), state.trained_images, state.train_seconds
        session.start_clock()
        if state.permutation is None and state.epoch and state.epoch == recipe.stage_of(state.epoch).first_epoch:
            stage = recipe.stage_of(state.epoch)
            session.optimizer, session.batches = optimizer, batches = begin(stage)
            step = step_for(model, optimizer, spec, stage.recipe, sums, switches, give_up_graphs)
        steps, epoch_of_stage = len(batches.bounds), state.epoch - stage.first_epoch
        momentum = stage.recipe.optimizer.momentum_at(epoch_of_stage)
        errors = train_errors(state.curve[stage.first_epoch :])
        set_rate(optimizer, stage.recipe.rate(Moment(epoch_of_stage, state.step, steps, errors)), momentum)
        if state.permutation is None:
            if isinstance(optimizer, DiagonalLM):
                set_curvature(optimizer, model, spec, batches.data, stage.recipe, order)
            state.permutation = image_order(len(batches.data), stage.recipe, epoch_of_stage, order, order_seed)
            sums.zero_()
        batches.begin(state.permutation)

        model.train()
        while state.step < steps:
            if stage.recipe.schedule.within_epochs:
                moment = Moment(epoch_of_stage, state.step, steps, errors)
                set_rate(optimizer, stage.recipe.rate(moment), momentum)
            updates = min(step.updates, steps - state.step)
            images, labels = batches.several(state.step, updates)
            step(images, labels)

            state.step += updates
            state.trained_images += len(labels)
            rate = (state.trained_images - images_before) / (time.perf_counter() - began)
            hooks.progress(
                {"epoch": state.epoch, "step": state.step, "steps": steps, "images_per_second": round(rate, 1)}
            )
            if hooks.watch is not None:
                hooks.watch(steps - state.step, sums)
            if state.step < steps:
                session.stop_if_requested()
                session.checkpoint_if_due()

        # --- once per epoch: fetch the totals, evaluate, add a row to the curve, save if due ---
        batches.end()
        train_loss, train_error = _means(sums)
        session.stop_clock()
        epoch_seconds, epoch_images = state.train_seconds - seconds_before, state.trained_images - images_before
        kept = averaged(model, optimizer) if recipe.average else model
        test_sums = evaluate(kept, data.test, spec, autocast_of(switches, device), layout, session.between_batches)
        test_loss, test_error = _means(test_sums)
        epoch = state.epoch + 1
        diverged = train_loss is None or test_loss is None  # the last update may spoil the weights after a finite loss
        row = {
            "epoch": epoch,
            "learning_rate": stage.recipe.rate(Moment(epoch_of_stage, steps - 1, steps, errors)),
            "train_loss": train_loss,
            "train_error": train_error,
            "test_loss": test_loss,
            "test_error": None if diverged else test_error,
            "wrong": int(test_sums[1]),
            "time": now_ms(),
            "seconds": round(time.perf_counter() - began, 3),
            # An attempt that only evaluates has no rate of its own, so it reports the whole run's.
            "images_per_second": round(
                epoch_images / epoch_seconds if epoch_images else state.trained_images / state.train_seconds, 3
            ),
        }
        watched = watched_images(recipe, epoch, data.train)
        if watched is not None:  # no checkpoint here: dropout draws from the generator
            loss, _ = _means(evaluate(model, watched, spec, autocast_of(switches, device), layout, training=True))
            row["objective"] = loss if loss is not None else math.inf
        state.curve = [*state.curve, row]
        state.epoch, state.step, state.permutation = epoch, 0, None
        hooks.log(
            f"epoch {epoch}/{recipe.most_epochs}  loss {_shown(train_loss, 4)}  training error {_shown(train_error, 2)} %  "
            f"test error {_shown(row['test_error'], 2)} %  {row['images_per_second']:.1f} images/s"
        )
        hooks.progress(
            {"epoch": epoch, "step": 0, "steps": steps, **{k: row[k] for k in ("test_error", "images_per_second")}}
        )
        if diverged or is_over(recipe, state.curve):
            session.save()  # a kill while the results are written costs nothing
        else:
            session.checkpoint_if_due()
            session.stop_if_requested()

    kept = averaged(model, optimizer) if recipe.average else model
    final, chance_loss = state.curve[-1], spec.constant_loss(data.train.labels)
    return Trained(
        outcome=outcome_of(state.curve, chance_loss),
        curve=state.curve,
        wrong=None if diverged else final["wrong"],
        test_images=None if diverged else len(data.test),
        weights={name: value.detach().cpu().contiguous() for name, value in kept.state_dict().items()},
        chance_loss=chance_loss,
        parameters=sum(p.numel() for p in model.parameters()),
        train_seconds=state.train_seconds,
        trained_images=state.trained_images,
        forced_resume=state.forced_resume,
        trail=state.trail,
        switches=switches,
    )


def has_diverged(curve: list[dict[str, Any]]) -> bool:
    """Return whether the last epoch's loss was not finite."""
    return bool(curve) and curve[-1]["test_error"] is None


def outcome_of(curve: list[dict[str, Any]], chance_loss: float) -> str:
    """Return "diverged", "collapsed" (the network ended at the loss of a constant answer) or "finished"."""
    if has_diverged(curve):
        return "diverged"
    return "collapsed" if curve[-1]["train_loss"] >= CHANCE_SHARE * chance_loss else "finished"


def is_over(recipe: Recipe, curve: list[dict[str, Any]]) -> bool:
    """Return whether the training has all its epochs, or its schedule or second stage has ended it early."""
    if recipe.second_stage is None:
        return len(curve) >= recipe.epochs or recipe.schedule.over(train_errors(curve))
    matched = len(curve) > recipe.epochs and curve[-1]["objective"] <= curve[recipe.epochs - 1]["objective"]
    return matched or len(curve) >= recipe.most_epochs


def watched_images(recipe: Recipe, epoch: int, train: DeviceSet) -> DeviceSet | None:
    """Return the images on which the second stage needs the loss after `epoch` epochs (with dropout active), or None.

    After the last epoch of the first stage these are the images that it trained on; after that, the images that it left
    out.
    """
    if recipe.second_stage is None or epoch < recipe.epochs:
        return None
    left_out = len(train) - recipe.second_stage.images
    return train.first(left_out) if epoch == recipe.epochs else train.from_(left_out)


def train_errors(curve: list[dict[str, Any]]) -> list[float]:
    """Return each epoch's training error in percent, for schedules that depend on it."""
    return [row["train_error"] for row in curve]


def set_curvature(
    optimizer: DiagonalLM,
    model: nn.Module,
    spec: ModelSpec,
    data: DeviceSet,
    recipe: Recipe,
    generator: torch.Generator,
) -> None:
    """Measure the curvature on random training images and pass it to the optimizer.

    Raise ValueError if the model's spec has no `curvature`.
    """
    if spec.curvature is None:
        raise ValueError(f"{spec.name}: the optimizer DiagonalLM needs a `curvature` in the model's spec")
    count = min(len(data), recipe.optimizer.images)  # type: ignore[union-attr]
    indices = torch.randperm(len(data), generator=generator)[:count].to(data.labels.device)
    optimizer.set_curvature(spec.curvature(model, data.images(indices), data.labels[indices]))


def _means(sums: Tensor) -> tuple[float | None, float]:
    """Return mean loss (None if not finite) and error in percent, from (summed loss, wrong answers, images)."""
    loss, wrong, images = sums.tolist()
    mean = loss / images if images else math.nan
    return (mean if math.isfinite(mean) else None), 100 * wrong / max(images, 1)


def _shown(value: float | None, digits: int) -> str:
    return "not finite" if value is None else f"{value:.{digits}f}"
