"""Keep the data set on the device and make its batches there, without worker processes or file access.

A set is preprocessed once to float32 if it is small, or if its preprocessing mixes pixels and the result fits into
memory. Otherwise it stays uint8, a quarter of the memory, and each batch is preprocessed. Per-channel preprocessing
costs little compared with a large network.
"""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import psutil
import torch
from torch import Tensor
from torch.nn.functional import one_hot

from benchmarks.errors import UserError
from runner.data.cache import Data
from runner.training import preprocess
from runner.training.augment import augment, beta_quantiles, cutout, mixup
from zoo.recipe import Fixed, Recipe, Shuffled

FIT_SHARE = 0.4  # largest part of the free memory for a preprocessed data set
SMALL = 2**28  # bytes in float32; covers MNIST, where preprocessing each batch would cost LeNet 1 % of its time


@dataclass(frozen=True)
class DeviceSet:
    """Images on a device: `stored` (N, C, H, W) is uint8 with a transform to apply, or preprocessed float32."""

    stored: Tensor
    labels: Tensor  # int64 (N,)
    transform: preprocess.Transform | None  # None: already applied
    black: Tensor | None = (
        None  # (C, 1, 1): a black pixel, preprocessed; None if a pixel's value depends on its neighbours
    )

    def __len__(self) -> int:
        return len(self.labels)

    def first(self, count: int) -> "DeviceSet":
        """Return the first `count` images."""
        return dataclasses.replace(self, stored=self.stored[:count], labels=self.labels[:count])

    def from_(self, start: int) -> "DeviceSet":
        """Return the images from number `start` on."""
        return dataclasses.replace(self, stored=self.stored[start:], labels=self.labels[start:])

    def images(self, indices: Tensor | slice) -> Tensor:
        """Return preprocessed images, float32 (n, C, H, W)."""
        # index_select copies whole images. Indexing by a tensor handles each pixel: ten times as slow on a CPU.
        batch = self.stored[indices] if isinstance(indices, slice) else self.stored.index_select(0, indices)
        return batch if self.transform is None else self.transform.apply(batch)


@dataclass(frozen=True)
class Prepared:
    """The training images and the images on which the error is measured."""

    train: DeviceSet
    test: DeviceSet


class Batches:
    """The training batches of each epoch: gathered, preprocessed, augmented, in the network's memory layout.

    `ahead` batches are made at a time. On a CPU one at a time stays in the cache. On a GPU many are made at once,
    because each of the ten small kernels would cost a twentieth of a captured step. `ahead` changes which draw each
    image gets, but not the distribution.

    Raise UserError if the recipe pads with black pixels and the preprocessing has no single black pixel.
    """

    def __init__(
        self,
        data: DeviceSet,
        recipe: Recipe,
        shifts: torch.Generator,
        layout: torch.memory_format,
        ahead: int = 1,
        classes: int | None = None,
    ) -> None:
        black = recipe.augmentation.border == "black"
        if black and data.black is None:
            raise UserError(
                f"augmentation.border is 'black', but {recipe.preprocessing} does not map black to one value: use 'zero'"
            )
        self.data, self.augmentation, self.shifts, self.layout, self.ahead = (
            data, recipe.augmentation, shifts, layout, ahead
        )  # fmt: skip
        self.bounds = batch_bounds(len(data), recipe)
        self._border = data.black if black else None
        self._classes = classes  # number of classes, for mixup's targets
        self._permutation = torch.empty(0, dtype=torch.int64)
        self._group: int | None = None  # index of the group of batches that is held
        self._drawn_from: Tensor | None = None  # the generator's state before that group's draws

    def begin(self, permutation: Tensor) -> None:
        """Start an epoch that reads the images in the order of `permutation` (N,)."""
        self._permutation = permutation.to(self.data.labels.device)
        self._group = None

    def end(self) -> None:
        """End the epoch: discard the batches made ahead."""
        self._group = None

    def __getitem__(self, step: int) -> tuple[Tensor, Tensor]:
        """Return images (n, C, H, W) and labels (n,) of a step; the last batch of an epoch may be smaller.

        With mixup the labels are class shares: float (n, classes).
        """
        start, stop = self.bounds[step]
        if self.ahead == 1:
            return self._make([(start, stop)])
        group = step // self.ahead
        members = self.bounds[group * self.ahead : (group + 1) * self.ahead]
        first = members[0][0]
        if group != self._group:
            self._drawn_from = self.shifts.get_state()
            self._images, self._labels = self._make(members)
            self._group = group
        part = slice(start - first, stop - first)
        return self._images[part], self._labels[part]

    def several(self, step: int, count: int) -> tuple[Tensor, Tensor]:
        """Return images and labels of `count` consecutive steps, concatenated."""
        if count == 1:
            return self[step]
        return self._make(self.bounds[step : step + count])

    def generator_state(self, step: int) -> Tensor:
        """Return the RNG state to save so that a resume at `step` draws the same augmentations."""
        if self._group is not None and self._drawn_from is not None and step // self.ahead == self._group:
            return self._drawn_from
        return self.shifts.get_state()

    def _make(self, members: list[tuple[int, int]]) -> tuple[Tensor, Tensor]:
        """Return images and labels of consecutive batches, concatenated."""
        indices = self._permutation[members[0][0] : members[-1][1]]
        images, labels = self.data.images(indices), self.data.labels.index_select(0, indices)
        images = augment(images, self.augmentation.flip, self.augmentation.translate, self.shifts, self._border)
        if self.augmentation.cutout:
            images = cutout(images, self.augmentation.cutout, self.shifts)
        if self.augmentation.mixup:
            images, labels = self._mixed(images, labels, members, self.augmentation.mixup.alpha)
        return images.contiguous(memory_format=self.layout), labels

    def _mixed(
        self, images: Tensor, labels: Tensor, members: list[tuple[int, int]], alpha: float
    ) -> tuple[Tensor, Tensor]:
        """Return images and class shares, mixed within each batch."""
        assert self._classes is not None
        quantiles = beta_quantiles(alpha, images.device)
        positions = torch.randint(len(quantiles), (len(members),), generator=self.shifts, device=self.shifts.device)
        shares = quantiles[positions.to(images.device, non_blocking=True)]
        targets, first = one_hot(labels, self._classes).float(), members[0][0]
        pairs = [
            mixup(images[start - first : stop - first], targets[start - first : stop - first], share)
            for (start, stop), share in zip(members, shares, strict=True)
        ]
        return torch.cat([pair[0] for pair in pairs]), torch.cat([pair[1] for pair in pairs])


def batch_bounds(images: int, recipe: Recipe) -> list[tuple[int, int]]:
    """Return the start and stop of each batch of an epoch over `images` images.

    The last batch may be smaller, or is dropped if the recipe says so. If the recipe's order has files, this holds for
    the last batch of each file.
    """
    size, order = recipe.batch_size, recipe.order
    if isinstance(order, Fixed) and order.updates:
        return [(update * size, (update + 1) * size) for update in range(order.updates)]
    file_images = (isinstance(order, Fixed) and order.file_images) or images
    bounds = [
        (start, min(start + size, file + file_images, images))
        for file in range(0, images, file_images)
        for start in range(file, min(file + file_images, images), size)
    ]
    if isinstance(order, Shuffled) and order.drop_last:
        bounds = [(start, stop) for start, stop in bounds if stop - start == size]
    return bounds


def image_order(images: int, recipe: Recipe, epoch: int, generator: torch.Generator, seed: int) -> Tensor:
    """Return the indices of the images, int64, in the order in which an epoch (counted from 0) reads them.

    A fresh permutation is drawn from `generator`. A permutation that all epochs share is drawn from `seed`.
    """
    order = recipe.order
    if isinstance(order, Shuffled):
        return torch.randperm(images, generator=torch.Generator().manual_seed(seed) if order.once else generator)
    if order.updates:
        read = order.updates * recipe.batch_size
        return torch.arange(epoch * read, (epoch + 1) * read) % images
    return torch.arange(images)


@dataclass(frozen=True)
class Draw:
    """A draw of `count` training images without replacement, a different one for each seed."""

    count: int
    seed: int

    def of(self, images: int) -> np.ndarray:
        """Return the indices of the drawn images, int64 and ascending, from that many images."""
        generator = torch.Generator().manual_seed(3_000_003 + self.seed)  # not a seed of the loop's generators
        return torch.randperm(images, generator=generator)[: self.count].sort().values.numpy()


def draw_of(recipe: Recipe, seed: int) -> Draw | None:
    """Return the draw of the recipe's training images; None if it trains on all."""
    return Draw(recipe.subset, seed) if recipe.subset else None


def prepare(
    data: Data,
    preprocessing: str,
    holdout: int,
    device: torch.device,
    log: Callable[[str], Any] = print,
    shares: int = 1,
    drawn: Draw | None = None,
) -> Prepared:
    """Put a data set on the device, preprocessed as the recipe says.

    With a hold-out the last `holdout` training images replace the test set. A data set's own validation images are its
    last ones and are never trained on. With `drawn` only those of the other images are trained on. The preprocessing is
    fitted on the images that are trained on. `shares` is the number of slots that share the device's free memory; each
    uses at most its share.
    """
    count = len(data.train_labels)
    kept = count - max(holdout, data.validation_size)
    train_images, train_labels, cache = data.train_images[:kept], data.train_labels[:kept], data.cache_folder
    if drawn is not None:
        indices = drawn.of(kept)
        train_images, train_labels, cache = (
            train_images[indices],
            train_labels[indices],
            None,
        )  # a fit of these images only
    if holdout:
        test_images, test_labels = data.train_images[count - holdout :], data.train_labels[count - holdout :]
    else:
        test_images, test_labels = data.test_images, data.test_labels
    transform = preprocess.fit(preprocessing, train_images, cache, data.facts.sha256, log).to(device)
    return Prepared(
        train=_on_device(train_images, train_labels, transform, device, shares),
        test=_on_device(test_images, test_labels, transform, device, shares),
    )


def _on_device(
    images: np.ndarray, labels: np.ndarray, transform: preprocess.Transform, device: torch.device, shares: int
) -> DeviceSet:
    stored = torch.from_numpy(np.array(images)).to(device)
    target = torch.from_numpy(np.asarray(labels).astype(np.int64)).to(device)
    black = transform.apply(torch.zeros_like(stored[:1, :, :1, :1]))[0] if transform.per_channel else None
    size = 4 * stored.numel()
    if size < SMALL or (not transform.per_channel and size < FIT_SHARE * free_memory(device) / shares):
        return DeviceSet(transform.apply(stored), target, None, black)
    return DeviceSet(stored, target, transform, black)


def free_memory(device: torch.device) -> int:
    """Return the free memory of the device in bytes."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return psutil.virtual_memory().available
