"""Prepare what `runner bench` measures: a model with its images on a device. Run `train()` on them."""

import dataclasses
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks.datasets import Dataset, get_dataset
from benchmarks.errors import UserError
from benchmarks.records import Job
from runner.bench.request import BenchRequest
from runner.console import to_stderr
from runner.data import cache
from runner.data.folder import data_folder
from runner.jobs.paths import JobPaths
from runner.training import arithmetic, loop, profiles
from runner.training.batches import DeviceSet, Prepared, prepare
from runner.training.checkpoint import Checkpoint
from runner.worker.attempt import JobAttempt, Worker
from runner.worker.log import Log
from zoo import load_models
from zoo.recipe import Constant, Recipe, Shuffled
from zoo.spec import ModelSpec, Variant, initialise

RANDOM_IMAGES = 5_000  # used if the data set is missing


@dataclass(frozen=True)
class Subject:
    """A model, a data set and a device."""

    request: BenchRequest
    facts: Dataset
    spec: ModelSpec
    variant: Variant
    device: torch.device
    switches: dict[str, bool | str]
    raw: np.ndarray  # uint8 (N, C, H, W), from which the usual loop makes its PIL images
    labels: np.ndarray
    prepared: Prepared
    real: bool  # whether these are the data set's images, or random ones

    @property
    def layout(self) -> torch.memory_format:
        """The memory layout in which `train()` keeps network and images."""
        return torch.channels_last if self.switches["channels_last"] else torch.contiguous_format

    def swapped_network(self) -> nn.Module:
        """Return the network in `layout`, with the arithmetic of the switches."""
        model = self.network().to(memory_format=self.layout)
        arithmetic.install(model, str(self.switches["arithmetic"]), self.layout)
        return model

    def network(self) -> nn.Module:
        """Return the network as the recipe initialises it, in training mode and torch's default layout."""
        torch.manual_seed(0)
        model = self.variant.build()
        initialise(model, self.variant.recipe)
        return model.to(self.device).train()

    def synchronise(self) -> None:
        """Wait until the device has finished its work."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def subject_of(request: BenchRequest) -> Subject:
    """Return the model with its images on the device: random images, with a line on stderr, if the data set is missing."""
    device = torch.device(request.options.device)
    facts, spec = get_dataset(request.dataset), load_models()[request.model]
    switches = profiles.resolve(request.profile, device, spec.channels_last_on_cpu, spec.bitwise)
    profiles.apply(switches)
    variant = spec.variants[request.dataset]
    recipe = variant.recipe
    try:
        options = request.options
        loaded = cache.load(facts.name, data_folder(options.data_dir), options.allow_unverified_data, to_stderr)
        prepared = prepare(loaded, recipe.preprocessing, 0, device, to_stderr)
        raw, labels, real = loaded.train_images, loaded.train_labels, True
    except UserError as error:
        to_stderr(f"measuring with random images, because {error}")
        generator = np.random.default_rng(0)
        raw = generator.integers(256, size=(RANDOM_IMAGES, *facts.shape), dtype=np.uint8)
        labels = generator.integers(facts.classes, size=RANDOM_IMAGES)
        pixels, black = torch.from_numpy(raw).to(device).float().div_(255), torch.zeros(raw.shape[1], 1, 1)
        images = DeviceSet(pixels, torch.from_numpy(labels).to(device), None, black.to(device))
        prepared, real = Prepared(images, images), False
    return Subject(request, facts, spec, variant, device, switches, raw, labels, prepared, real)


def plain_recipe(subject: Subject, epochs: int = 1) -> Recipe:
    """Return the recipe for a short training: constant rate, no hold-out, shuffled, at most half the images per batch."""
    batch = min(subject.variant.recipe.batch_size, len(subject.prepared.train) // 2)
    return dataclasses.replace(
        subject.variant.recipe, epochs=epochs, schedule=Constant(), holdout=0, order=Shuffled(), batch_size=batch
    )


def run_loop(
    subject: Subject, recipe: Recipe, images: int, on_step: Callable[[dict[str, Any]], None]
) -> tuple[loop.Trained, list[float]]:
    """Run `train()` with a worker's hooks on the first `images` images; return its result and the seconds of each checkpoint.

    `on_step` is called with the progress hook's argument, after that hook. The test set is one batch, because
    evaluation is timed separately.
    """
    prepared = Prepared(subject.prepared.train.first(images), subject.prepared.test.first(recipe.batch_size))
    job = Job(
        dataset=subject.facts.name,
        model=subject.spec.name,
        revision=subject.variant.revision,
        recipe=recipe.to_dict(),
        profile=subject.request.profile,
        seed=0,
    )
    saves: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        paths = JobPaths(Path(folder))
        worker = Worker(subject.request.options)
        hooks = JobAttempt(paths, job, "0" * 32, worker, Log(paths.log, None)).hooks()

        def progress(facts: dict[str, Any]) -> None:
            hooks.progress(facts)
            on_step(facts)

        def save(state: Checkpoint) -> None:
            began = time.perf_counter()
            hooks.save(state)
            saves.append(time.perf_counter() - began)

        trained = loop.train(
            job, "0" * 32, subject.spec, recipe, prepared, subject.device, subject.switches,
            dataclasses.replace(hooks, progress=progress, save=save),
        )  # fmt: skip
    return trained, saves
