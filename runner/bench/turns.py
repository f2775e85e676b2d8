"""Define the turns of `runner bench`: bare step, usual loop, evaluation, and the machine's own rates."""

import dataclasses
import os
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import psutil
import torch
from torch import Tensor, nn

from runner.bench.subject import Subject, plain_recipe, run_loop
from runner.training import profiles
from runner.training.batches import Batches
from runner.training.evaluation import evaluate
from runner.training.optimizers import DiagonalLM, optimizer_for, set_curvature
from runner.training.step import Step, autocast_of, handwritten_step, make_step, training_loss, updates_a_call
from zoo.recipe import SGD, Adam, AdamW, Recipe
from zoo.spec import cross_entropy

WORKERS = 4  # most DataLoader workers; at most one per core
OVERHEAD_STEPS, OVERHEAD_TURNS = 200, 5  # for the loop around the trivial network
MATRIX = {"cpu": 1024, "cuda": 8192}  # side of the square matrices for the matrix rate
COPIED = {"cpu": 2**28, "cuda": 2**30}  # bytes copied for the memory rate, more than most caches hold


class BareStep(Step):
    """The update alone, without the totals."""

    def __call__(self, images: Tensor, labels: Tensor) -> None:
        self.update(images, labels)


def bare_turn(subject: Subject, recipe: Recipe, steps: int) -> Callable[[], float]:
    """Return a function that runs the bare step for about `steps` updates and returns the number of images.

    All updates use the same batch, or the same images of one call if a call makes many updates.
    """
    shifts = torch.Generator(device=subject.device).manual_seed(0)
    updates = min(steps, updates_a_call(subject.spec, recipe, subject.device))
    data = subject.prepared.train.first(updates * recipe.batch_size)
    batches = Batches(data, recipe, shifts, subject.layout)
    batches.begin(torch.arange(len(data)))
    images, labels = batches.several(0, updates)
    model = subject.swapped_network()
    sums = torch.zeros(3, dtype=torch.float64, device=subject.device)
    optimizer = optimizer_for(model, recipe)
    if isinstance(optimizer, DiagonalLM):
        set_curvature(optimizer, model, subject.spec, data, recipe, torch.Generator().manual_seed(0))
    step = handwritten_step(model, optimizer, subject.spec, recipe, sums) or make_step(
        model, optimizer, training_loss(subject.spec, recipe), sums, subject.switches, BareStep
    )
    calls = max(1, round(steps / updates))

    def turn() -> float:
        for _ in range(calls):
            step(images, labels)
        subject.synchronise()
        return calls * len(labels)

    return turn


def with_trivial_network(subject: Subject) -> Subject:
    """Return the subject with a trivial network: it averages each channel's pixels and has one dense layer."""
    channels, classes = subject.facts.shape[0], subject.facts.classes

    def build() -> nn.Module:
        return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes))

    recipe = dataclasses.replace(subject.variant.recipe, init=(("*", "constant", 0.0),))
    variant = dataclasses.replace(subject.variant, build=build, recipe=recipe)
    spec = dataclasses.replace(subject.spec, variants={subject.facts.name: variant}, loss=cross_entropy)
    switches = {**subject.switches, "arithmetic": profiles.TORCH}
    return dataclasses.replace(subject, spec=spec, variant=variant, switches=switches)


def overhead_seconds(subject: Subject) -> float:
    """Return what the loop costs besides the network, in seconds per image, measured with a trivial network.

    It is the median over epochs of the epoch's time minus the time of its steps, at least 0.
    """
    trivial = with_trivial_network(subject)
    recipe = plain_recipe(trivial, epochs=OVERHEAD_TURNS + 1)
    steps = min(OVERHEAD_STEPS, len(subject.prepared.train) // recipe.batch_size)
    turn = bare_turn(trivial, recipe, steps)
    bare: list[float] = []

    def between(facts: dict[str, Any]) -> None:
        if not facts["step"]:
            subject.synchronise()
            began = time.perf_counter()
            images = turn()
            bare.append((time.perf_counter() - began) / images)

    trained, _ = run_loop(trivial, recipe, steps * recipe.batch_size, between)
    overheads = [1 / row["images_per_second"] - step for row, step in zip(trained.curve, bare, strict=True)]
    return max(0.0, statistics.median(overheads[1:]))  # the first turns warm up


def evaluation_turn(subject: Subject, images: int) -> Callable[[], float]:
    """Return a function that evaluates `images` test images, as after each epoch, and returns their number."""
    model = subject.swapped_network()
    test = subject.prepared.test.first(images)
    autocast = autocast_of(subject.switches, subject.device)

    def turn() -> float:
        evaluate(model, test, subject.spec, autocast, subject.layout)
        subject.synchronise()
        return len(test)

    return turn


def usual_optimizer(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """Return torch's optimizer with its usual settings: one rate, one weight decay, torch's choice of kernels."""
    rule, decay = recipe.optimizer, recipe.decay_of("weight", dimensions=2)
    if isinstance(rule, Adam):
        kind = torch.optim.AdamW if isinstance(rule, AdamW) else torch.optim.Adam
        return kind(model.parameters(), lr=1e-4, weight_decay=decay)
    nesterov = isinstance(rule, SGD) and rule.nesterov
    momentum = rule.momentum_at(0)
    return torch.optim.SGD(model.parameters(), lr=1e-4, momentum=momentum, weight_decay=decay, nesterov=nesterov)


class UsualLoop:
    """A common training loop around a DataLoader, with one set of DataLoader workers for all turns."""

    def __init__(self, subject: Subject, recipe: Recipe) -> None:
        self.subject, self.batch = subject, recipe.batch_size
        self.model = subject.network()
        self.optimizer = usual_optimizer(self.model, recipe)
        workers = min(WORKERS, os.cpu_count() or 1)
        self.ahead = 2 * workers  # batches that DataLoader's workers prefetch
        self.drawn = 0  # batches
        images = UsualImages(subject.raw, subject.labels, recipe)
        endless = torch.utils.data.RandomSampler(images, replacement=True, num_samples=2**40)
        self.batches: Iterator[Any] = iter(
            torch.utils.data.DataLoader(
                images, self.batch, sampler=endless, num_workers=workers, pin_memory=subject.device.type == "cuda"
            )
        )

    def seconds(self, steps: int) -> tuple[float, float]:
        """Return the seconds for `steps` steps by the clock, and of processor time.

        It first uses up the batches that the workers made during other turns.
        """
        for _ in range(min(self.ahead, steps)):
            self._step()
        began, processor_began = time.perf_counter(), time.process_time()
        for _ in range(steps):
            self._step()
        spent, processor = time.perf_counter() - began, time.process_time() - processor_began
        return spent, processor + steps * self._worker_seconds()

    def _worker_seconds(self) -> float:
        """Return the workers' processor time per batch, over all batches so far."""
        times = [worker.cpu_times() for worker in psutil.Process().children()]
        return sum(t.user + t.system for t in times) / (self.drawn + self.ahead)

    def _step(self) -> tuple[float, float]:
        images, labels = (part.to(self.subject.device) for part in next(self.batches))
        self.drawn += 1
        self.optimizer.zero_grad()
        output = self.model(images)
        loss = self.subject.spec.loss(output, labels)
        loss.backward()
        self.optimizer.step()
        logits = output[0] if isinstance(output, tuple) else output
        return loss.item(), (logits.argmax(1) == labels).sum().item()


class UsualImages(torch.utils.data.Dataset[tuple[Tensor, int]]):
    """PIL images through torchvision's transforms, one by one, as in torchvision's CIFAR10 and MNIST."""

    def __init__(self, raw: np.ndarray, labels: np.ndarray, recipe: Recipe) -> None:
        from torchvision import transforms

        self.raw, self.labels = raw, labels
        augmentation = recipe.augmentation
        steps = [transforms.ToTensor(), transforms.Normalize(0.5, 0.25)]
        if augmentation.flip:
            steps = [transforms.RandomHorizontalFlip(), *steps]
        if augmentation.translate:
            steps = [transforms.RandomCrop(raw.shape[-1], padding=augmentation.translate), *steps]
        self.transform = transforms.Compose(steps)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        from PIL import Image

        pixels = self.raw[index].transpose(1, 2, 0)
        image = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
        return self.transform(image), int(self.labels[index])


def matrix_turn(device: torch.device, dtype: torch.dtype) -> Callable[[], float]:
    """Return a function that multiplies a few large matrices and returns the floating-point operations."""
    side, times = MATRIX[device.type], 4
    left, right = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))

    def turn() -> float:
        for _ in range(times):
            torch.mm(left, right)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return 2.0 * side**3 * times

    return turn


def memory_turn(device: torch.device) -> Callable[[], float]:
    """Return a function that copies a large array and returns the bytes read and written."""
    source = torch.zeros(COPIED[device.type] // 4, device=device)
    target = torch.zeros_like(source)

    def turn() -> float:
        target.copy_(source)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return 2.0 * COPIED[device.type]

    return turn
