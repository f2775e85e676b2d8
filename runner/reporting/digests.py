"""Digests of what a model computes: initial weights and first losses, tied to the model's revision.

`tests/digests/NAME.json` has one digest for each data set of a model. Each model has its own file, so that two pull
requests never change the same one. The contract tests compare digests; `runner check NAME` writes missing ones.
"""

import functools
import json
import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.checkout import root
from benchmarks.datasets import get_dataset
from benchmarks.files import write_atomically
from runner.training.optimizers import optimizer_for
from runner.training.step import training_loss
from zoo import load_models
from zoo.anatomy import layers_of
from zoo.spec import ModelSpec, initialise

LOSSES = 3  # in a digest
AFFORDABLE_MACS = 500_000_000  # of one forward pass in a test


def digest_file(model: str) -> Path:
    """Return the file of a model's digests in this checkout."""
    return root() / "tests" / "digests" / f"{model}.json"


def initialised_model(spec: ModelSpec, dataset: str) -> nn.Module:
    """Return the model as a training with seed 0 would start it."""
    torch.manual_seed(0)
    model = spec.variants[dataset].build()
    initialise(model, spec.variants[dataset].recipe)
    return model


def batch(dataset: str, n: int, seed: int = 1) -> tuple[Tensor, Tensor]:
    """Return n random images, float (n, C, H, W), and labels (n,) of a data set's shape."""
    facts = get_dataset(dataset)
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(n, *facts.shape, generator=generator)
    return images, torch.randint(facts.classes, (n,), generator=generator)


@functools.cache
def images_for(model: str, dataset: str) -> int:
    """Return how many images a test uses for a network: 2 to 16, by its multiply-accumulates."""
    with torch.device("meta"):
        network = load_models()[model].variants[dataset].build()
    macs = sum(layer.macs for layer in layers_of(network, get_dataset(dataset).shape))
    return max(2, min(16, AFFORDABLE_MACS // macs))


def few_steps(spec: ModelSpec, dataset: str, losses: int = LOSSES) -> tuple[dict[str, float], list[float]]:
    """Return the mean magnitude of each initial weight tensor, and `losses` losses with an update on one batch between them.

    In float64, because a few steps at a high learning rate amplify rounding, which differs between processors, threads and
    layouts.
    """
    recipe = spec.variants[dataset].recipe
    model = initialised_model(spec, dataset).train().double()
    start = {name: p.detach().abs().mean().item() for name, p in model.named_parameters()}
    optimizer: Any = optimizer_for(model, recipe)
    x, y = batch(dataset, images_for(spec.name, dataset))
    x = x.double()
    if spec.curvature is not None:
        optimizer.set_curvature(spec.curvature(model, x, y))
    values, loss_of = [], training_loss(spec, recipe)
    while True:
        optimizer.zero_grad()
        loss = loss_of(model(x), y)
        values.append(loss.item())
        if len(values) == losses:
            return start, values
        loss.backward()
        optimizer.step()


def read_digests(model: str) -> dict[str, Any]:
    """Return a model's digests by data set; empty if it has no file."""
    file = digest_file(model)
    return json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}


def digest_of(spec: ModelSpec, dataset: str) -> dict[str, Any]:
    """Return the digest of a model on a data set, rounded to six digits."""
    start, losses = few_steps(spec, dataset)
    return {
        "revision": spec.variants[dataset].revision,
        "mean_magnitude": {name: float(f"{value:.6g}") for name, value in start.items()},
        "losses": [float(f"{value:.6g}") for value in losses],
    }


def agrees(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Return whether two digests are of the same function: equal revisions, and numbers within a relative 1e-4."""
    start, other_start = one["mean_magnitude"], other["mean_magnitude"]
    if one["revision"] != other["revision"] or start.keys() != other_start.keys():
        return False
    pairs = [(start[name], other_start[name]) for name in start]
    return len(one["losses"]) == len(other["losses"]) and all(
        math.isclose(a, b, rel_tol=1e-4, abs_tol=1e-9)
        for a, b in [*pairs, *zip(one["losses"], other["losses"], strict=True)]
    )


def refresh(spec: ModelSpec, results: Path) -> tuple[dict[str, Any], list[str]]:
    """Return a model's digests as its file should have them, and the data sets whose digests are new in it.

    A digest of the model's revision is kept if records of the data set are published: a change to the function then
    requires a new revision. Without published records the digest follows the model.
    """
    current = read_digests(spec.name)
    digests: dict[str, Any] = {}
    fresh = []
    for dataset, variant in spec.variants.items():
        old = current.get(dataset)
        published = any((results / dataset / spec.name).glob("*.json"))
        if old is not None and published and old["revision"] == variant.revision:
            digests[dataset] = old
            continue
        new = digest_of(spec, dataset)
        digests[dataset] = old if old is not None and agrees(old, new) else new
        if digests[dataset] is new:
            fresh.append(dataset)
    return digests, fresh


def write_digests(model: str, digests: dict[str, Any]) -> None:
    """Write a model's digests by data set."""
    write_atomically(digest_file(model), json.dumps(digests, indent=1, sort_keys=True) + "\n")
