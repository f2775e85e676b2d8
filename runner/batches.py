"""The data set on the device: batches are an index away, without workers, files or a wait.

uint8 where preprocessing is per channel (a quarter of the memory, and cheap to redo per batch); else preprocessed once
to float32 where that fits, else uint8 with the preprocessing done per batch.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import psutil
import torch
from torch import Tensor

from runner import preprocess
from runner.data import Data

FIT_SHARE = 0.4  # of the free memory: what a preprocessed data set may take


@dataclass(frozen=True)
class DeviceSet:
    """Images on a device: `stored` is uint8 (with a transform to apply) or preprocessed float32, (N, C, H, W)."""

    stored: Tensor
    labels: Tensor  # int64 (N,)
    transform: preprocess.Transform | None  # None: already applied

    def __len__(self) -> int:
        return len(self.labels)

    def images(self, indices: Tensor | slice) -> Tensor:
        """Preprocessed float32 images (n, C, H, W)."""
        batch = self.stored[indices]
        return batch if self.transform is None else self.transform.apply(batch)


@dataclass(frozen=True)
class Prepared:
    """What a training reads: its training images and those that its error is counted on."""

    train: DeviceSet
    test: DeviceSet


def prepare(
    data: Data, preprocessing: str, holdout: int, device: torch.device, log: Callable[[str], Any] = print
) -> Prepared:
    """Put a data set on the device, preprocessed as the recipe says.

    With a hold-out the last `holdout` training images take the place of the test set, and the preprocessing is fitted
    without them. Images that the data set sets aside for validation are the last ones, and never trained on.
    """
    count = len(data.train_labels)
    kept = count - max(holdout, data.validation_size)
    train_images, train_labels = data.train_images[:kept], data.train_labels[:kept]
    if holdout:
        test_images, test_labels = data.train_images[count - holdout :], data.train_labels[count - holdout :]
    else:
        test_images, test_labels = data.test_images, data.test_labels
    transform = preprocess.fit(preprocessing, train_images, data.cache_folder, data.facts.sha256, log).to(device)
    return Prepared(
        train=_on_device(train_images, train_labels, transform, device),
        test=_on_device(test_images, test_labels, transform, device),
    )


def _on_device(
    images: np.ndarray, labels: np.ndarray, transform: preprocess.Transform, device: torch.device
) -> DeviceSet:
    stored = torch.from_numpy(np.array(images)).to(device)
    target = torch.from_numpy(np.asarray(labels).astype(np.int64)).to(device)
    if not transform.per_channel and 4 * stored.numel() < FIT_SHARE * free_memory(device):
        return DeviceSet(transform.apply(stored), target, None)
    return DeviceSet(stored, target, transform)


def free_memory(device: torch.device) -> int:
    """Bytes that can still be taken on the device."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return psutil.virtual_memory().available
