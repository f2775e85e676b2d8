"""Evaluate a network on a set of images."""

import math
from collections.abc import Callable
from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn

from runner.training.batches import DeviceSet
from runner.training.step import add_up
from zoo.spec import ModelSpec

EVALUATION_BATCH = 500


def evaluate(
    model: nn.Module,
    data: DeviceSet,
    spec: ModelSpec,
    autocast: Callable[[], AbstractContextManager[object]],
    layout: torch.memory_format,
    between: Callable[[], None] = lambda: None,
    training: bool = False,
) -> Tensor:
    """Return summed loss, wrong answers and images over a set: float64 (3,), on the device.

    `between` is called between batches. With `training` the network is in training mode, so dropout is active.
    """
    model.train(training)
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


def means(sums: Tensor) -> tuple[float | None, float]:
    """Return mean loss (None if not finite) and error in percent, from (summed loss, wrong answers, images)."""
    loss, wrong, images = sums.tolist()
    mean = loss / images if images else math.nan
    return (mean if math.isfinite(mean) else None), 100 * wrong / max(images, 1)
