"""The one training loop of every model, top to bottom.

Everything random comes from the seed: initial weights and permutations from generators on the CPU (the same on every
device), augmentation from one on the device, dropout from torch's own. The error that counts is the last epoch's, on the
test set, evaluated once an epoch and used for no choice. Nothing in the loop waits for the device: sums stay there and
are fetched once an epoch.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.records import Job
from runner.jobs.paths import now_ms
from runner.training import convolution, memory
from runner.training.batches import Batches, DeviceSet, Prepared
from runner.training.checkpoint import Checkpoint
from runner.training.profiles import device_name
from runner.training.step import add_up, autocast_of, make_step, set_rate
from zoo.spec import ModelSpec, Recipe, initialise

EVALUATION_BATCH = 500
AHEAD = 64  # batches made at once where steps are captured graphs: 100 MB at batch 128 and 32x32
CHECKPOINT_SECONDS = 30.0  # at most so much work is lost to a kill, and so rarely is the disk waited for
CHANCE_SHARE = 0.98  # a final training loss of this share of a constant answer's, or more, is no better than chance


class Stopped(Exception):
    """The training was asked to stop; a checkpoint holds everything that was done."""


class ResumeRefused(Exception):
    """A checkpoint from another torch build, device or thread count: going on would not give the same bits."""


@dataclass(frozen=True)
class Hooks:
    """How the loop speaks to the process around it."""

    stop: Callable[[], bool]  # asked before the first step, after each, and between an evaluation's batches
    save: Callable[[Checkpoint], None]  # durable when it returns
    progress: Callable[[dict[str, Any]], None]  # cheap; called after each step
    log: Callable[[str], None]
    watch: Callable[[int, Tensor], None] | None = None  # told after each step: how many the epoch still has, its sums


@dataclass(frozen=True)
class Trained:
    """What came out: the outcome, the curve (a row an epoch), the final weights and how long the training itself took."""

    outcome: str
    curve: list[dict[str, Any]]
    wrong: int | None
    test_images: int | None
    weights: dict[str, Tensor]
    chance_loss: float  # what a network that gives every image the same answer can reach
    parameters: int
    train_seconds: float
    trained_images: int
    forced_resume: bool
    convolutions: str  # runner/training/convolution.py's choice for each layer


def optimizer_for(model: nn.Module, recipe: Recipe) -> torch.optim.SGD:
    """SGD whose parameter groups carry the recipe's rate multipliers and spare biases and normalisation the decay.

    After each step the weights that a recipe bounds are scaled back to their bound.
    """
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        decay = recipe.weight_decay if parameter.ndim > 1 or recipe.decay_all else 0.0
        groups.setdefault((recipe.rate_multiplier(name), decay), []).append(parameter)
    optimizer = torch.optim.SGD(
        [
            {
                "params": parameters,
                "lr": recipe.learning_rate * multiplier,
                "multiplier": multiplier,
                "weight_decay": decay,
            }
            for (multiplier, decay), parameters in groups.items()
        ],
        lr=recipe.learning_rate,
        momentum=recipe.momentum,
        nesterov=recipe.nesterov,
        fused=True,
    )
    bounded = [(p, bound) for name, p in model.named_parameters() if (bound := recipe.norm_bound(name))]
    if bounded:
        optimizer.register_step_post_hook(lambda *_: bound_norms(bounded))
    return optimizer


@torch.no_grad()
def bound_norms(bounded: list[tuple[nn.Parameter, float]]) -> None:
    """Scale the weights of each unit (a row, or a filter) down to the bound of their norm, as pylearn2 does."""
    for parameter, bound in bounded:
        norms = parameter.flatten(1).norm(dim=1).view(-1, *[1] * (parameter.ndim - 1))
        parameter.mul_(norms.clamp(max=bound) / (norms + 1e-7))


def constant_answer(labels: Tensor) -> tuple[float, float]:
    """Mean loss (nats) and error (percent) of the best answer that doesn't look at the image, on labels of shape (N,).

    The loss is the entropy of the labels: ln C where every class is as frequent, less where they aren't, as in SVHN.
    """
    shares = labels.cpu().bincount().double() / len(labels)
    return -torch.xlogy(shares, shares).sum().item(), 100 * (1 - shares.max().item())


def steps_per_epoch(images: int, recipe: Recipe) -> int:
    """How many updates an epoch has; the partial last batch counts unless the recipe drops it."""
    return images // recipe.batch_size if recipe.drop_last else math.ceil(images / recipe.batch_size)


def convolutions_of(
    model: nn.Module,
    recipe: Recipe,
    data: DeviceSet,
    layout: torch.memory_format,
    switches: dict[str, bool | str],
    log: Callable[[str], None],
    resume: Checkpoint | None,
) -> str:
    """Swap the convolutions' arithmetic as the switches want it, and return the choice.

    A training that goes on keeps the choice that it began with: another would give other bits.
    """
    chosen = str(switches["convolutions"])
    if chosen != convolution.TORCH and resume is not None:
        chosen = resume.convolutions
    if chosen == convolution.MEASURED:
        images = data.images(slice(0, min(recipe.batch_size, convolution.TRIAL_IMAGES)))
        chosen = convolution.choose(model, images.contiguous(memory_format=layout), log)
    convolution.install(model, chosen)
    return chosen


def evaluate(
    model: nn.Module,
    data: DeviceSet,
    spec: ModelSpec,
    autocast: Any,
    layout: torch.memory_format,
    between: Callable[[], None] = lambda: None,
) -> Tensor:
    """Summed loss, wrong and images over a set: float64 (3,), still on the device. `between` is called between batches."""
    model.eval()
    sums = torch.zeros(3, dtype=torch.float64, device=data.labels.device)
    parts = sums.unbind()
    with torch.no_grad():
        for start in range(0, len(data), EVALUATION_BATCH):
            if start:
                between()
            part = slice(start, start + EVALUATION_BATCH)
            labels = data.labels[part]
            with autocast():
                logits = model(data.images(part).contiguous(memory_format=layout))
            logits = logits.float()
            add_up(parts, spec.loss(logits, labels), logits, labels)
    return sums


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
) -> Trained:
    """Train one job to its end, from its start or from a checkpoint.

    Raises Stopped when asked to stop (after saving a checkpoint), ResumeRefused for a checkpoint that can't be gone on
    from, and whatever the model raises.
    """
    if device.type == "cpu":
        memory.keep_freed()

    # --- model, optimiser, generators: all from the seed ---
    layout = torch.channels_last if switches["channels_last"] else torch.contiguous_format
    torch.manual_seed(job.seed)
    model = spec.variants[job.dataset].build()
    initialise(model, recipe)
    model = model.to(device).to(memory_format=layout)
    chosen = convolutions_of(model, recipe, data.train, layout, switches, hooks.log, resume)
    optimizer = optimizer_for(model, recipe)
    order = torch.Generator().manual_seed(2 * job.seed + 1_000_003)
    shifts = torch.Generator(device=device).manual_seed(2 * job.seed + 1_000_004)
    batches = Batches(data.train, recipe, shifts, layout, ahead=AHEAD if switches["graphs"] else 1)
    forced = False

    # --- where it goes on ---
    state = Checkpoint(
        fingerprint=job.fingerprint,
        run=run,
        model={},
        optimizer={},
        epoch=0,
        step=0,
        permutation=None,
        sums=torch.zeros(3, dtype=torch.float64),
        curve=[],
        train_seconds=0.0,
        trained_images=0,
        generators={},
        threads=torch.get_num_threads(),
        device=device_name(device),
        convolutions=chosen,
    )
    if resume is not None:
        forced = resume.forced_resume
        differs = [
            f"{what} {there} there, {here} here"
            for what, there, here in (
                ("torch", resume.torch, state.torch),
                ("device", resume.device, state.device),
                ("threads", resume.threads, state.threads),
            )
            if there != here
        ]
        if differs and not force_resume:
            raise ResumeRefused("; ".join(differs))
        forced = forced or bool(differs)
        model.load_state_dict(resume.model)
        optimizer.load_state_dict(resume.optimizer)
        order.set_state(resume.generators["order"])
        torch.set_rng_state(resume.generators["cpu"])
        if device.type == "cuda" and "cuda" in resume.generators:
            torch.cuda.set_rng_state(resume.generators["cuda"], device)
        if resume.device == state.device:
            shifts.set_state(resume.generators["shifts"])
        state.epoch, state.step, state.curve = resume.epoch, resume.step, resume.curve
        state.permutation, state.sums = resume.permutation, resume.sums
        state.train_seconds, state.trained_images = resume.train_seconds, resume.trained_images
    state.forced_resume = forced
    sums = state.sums.to(device, copy=True)
    step = make_step(model, optimizer, spec.loss, sums, switches)

    def save() -> None:
        """Everything that the rest depends on, as it is between two steps."""
        state.model, state.optimizer, state.sums = model.state_dict(), optimizer.state_dict(), sums.cpu()
        drawn_from = batches.generator_state(state.step)
        state.generators = {"order": order.get_state(), "shifts": drawn_from, "cpu": torch.get_rng_state()}
        if device.type == "cuda":
            state.generators["cuda"] = torch.cuda.get_rng_state(device)
        hooks.save(state)

    saved_at = time.monotonic()

    def stop_if_asked(since: float) -> None:
        """Stops after a checkpoint; `since` is the training time's start that `train_seconds` hasn't in it yet."""
        if hooks.stop():
            state.train_seconds += time.perf_counter() - since
            save()
            raise Stopped

    def while_evaluating() -> None:
        """Minutes on a CPU: the epoch's steps are saved and a stop is heard. Going on from there, all of it is evaluated."""
        nonlocal saved_at
        stop_if_asked(time.perf_counter())
        if time.monotonic() - saved_at > CHECKPOINT_SECONDS:
            save()
            saved_at = time.monotonic()

    # --- the epochs ---
    steps = steps_per_epoch(len(data.train), recipe)
    diverged_epoch = state.curve[-1]["epoch"] if state.curve and state.curve[-1]["test_error"] is None else None
    stop_if_asked(time.perf_counter())
    while state.epoch < recipe.epochs and diverged_epoch is None:
        began = time.perf_counter()
        momentum, rising = recipe.momentum_at(state.epoch), state.epoch < recipe.warmup_epochs
        set_rate(optimizer, recipe.rate_at(state.epoch), momentum)
        if state.permutation is None:
            state.permutation = torch.randperm(len(data.train), generator=order)
            sums.zero_()
        batches.begin(state.permutation)
        images_before = state.trained_images

        model.train()
        while state.step < steps:
            if rising:
                set_rate(optimizer, recipe.rate_at(state.epoch, state.step / steps), momentum)
            images, labels = batches[state.step]
            step(images, labels)

            state.step += 1
            state.trained_images += len(labels)
            rate = (state.trained_images - images_before) / (time.perf_counter() - began)
            hooks.progress(
                {"epoch": state.epoch, "step": state.step, "steps": steps, "images_per_second": round(rate, 1)}
            )
            if hooks.watch is not None:
                hooks.watch(steps - state.step, sums)
            if state.step < steps:
                stop_if_asked(began)
                if time.monotonic() - saved_at > CHECKPOINT_SECONDS:
                    spent = time.perf_counter() - began
                    state.train_seconds += spent
                    save()
                    state.train_seconds -= spent  # counted at the end of the epoch
                    saved_at = time.monotonic()

        # --- once an epoch: fetch the sums, evaluate, note a row of the curve, perhaps save ---
        batches.end()
        train_loss, train_error = _means(sums)
        spent, trained = time.perf_counter() - began, state.trained_images - images_before
        state.train_seconds += spent
        test_sums = evaluate(model, data.test, spec, autocast_of(switches, device), layout, while_evaluating)
        test_loss, test_error = _means(test_sums)
        epoch = state.epoch + 1
        if train_loss is None or test_loss is None:  # the last update may spoil the weights after a finite loss
            diverged_epoch = epoch
        row = {
            "epoch": epoch,
            "learning_rate": recipe.rate_at(state.epoch),
            "train_loss": train_loss,
            "train_error": train_error,
            "test_loss": test_loss,
            "test_error": None if diverged_epoch is not None else test_error,
            "wrong": int(test_sums[1]),
            "time": now_ms(),
            "seconds": round(time.perf_counter() - began, 3),
            # An attempt that only evaluates has no rate of its own: that of the whole run so far.
            "images_per_second": round(trained / spent if trained else state.trained_images / state.train_seconds, 3),
        }
        state.curve = [*state.curve, row]
        state.epoch, state.step, state.permutation = epoch, 0, None
        hooks.log(
            f"epoch {epoch}/{recipe.epochs}  loss {_shown(train_loss, 4)}  training error {_shown(train_error, 2)} %  "
            f"test error {_shown(row['test_error'], 2)} %  {row['images_per_second']:.1f} images/s"
        )
        hooks.progress(
            {"epoch": epoch, "step": 0, "steps": steps, **{k: row[k] for k in ("test_error", "images_per_second")}}
        )
        last = epoch == recipe.epochs or diverged_epoch is not None
        if last or time.monotonic() - saved_at > CHECKPOINT_SECONDS:
            save()  # also at the very end: a kill while the results are written costs nothing
            saved_at = time.monotonic()
        if not last:
            stop_if_asked(time.perf_counter())

    final, (chance_loss, _) = state.curve[-1], constant_answer(data.train.labels)
    if diverged_epoch is not None:
        outcome = "diverged"
    else:
        outcome = "collapsed" if final["train_loss"] >= CHANCE_SHARE * chance_loss else "finished"
    return Trained(
        outcome=outcome,
        curve=state.curve,
        wrong=None if diverged_epoch is not None else final["wrong"],
        test_images=None if diverged_epoch is not None else len(data.test),
        weights={name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()},
        chance_loss=chance_loss,
        parameters=sum(p.numel() for p in model.parameters()),
        train_seconds=state.train_seconds,
        trained_images=state.trained_images,
        forced_resume=forced,
        convolutions=chosen,
    )


def _means(sums: Tensor) -> tuple[float | None, float]:
    """Mean loss (None where it isn't finite) and error in percent, from (summed loss, wrong, images)."""
    loss, wrong, images = sums.tolist()
    mean = loss / images if images else math.nan
    return (mean if math.isfinite(mean) else None), 100 * wrong / max(images, 1)


def _shown(value: float | None, digits: int) -> str:
    return "not finite" if value is None else f"{value:.{digits}f}"
