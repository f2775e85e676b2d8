"""What a training needs besides its state."""

from dataclasses import dataclass

import torch

from benchmarks.records import Job
from runner.training.batches import Prepared
from zoo.recipe import Recipe
from zoo.spec import ModelSpec


@dataclass(frozen=True)
class Setup:
    """A job with its model and recipe, its data on the device, and the switches of its profile."""

    job: Job
    spec: ModelSpec
    recipe: Recipe
    data: Prepared
    device: torch.device
    switches: dict[str, bool | str]
