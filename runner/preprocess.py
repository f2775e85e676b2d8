"""Preprocessing: uint8 images -> the float32 images that a network sees, fitted on the training images in use.

`fit` looks at the training images once (without the held-out ones, where there is a hold-out) and gives a `Transform`
that is applied to any images alike. What is costly to fit is cached beside the data.
"""

import hashlib
import io
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.errors import unknown
from benchmarks.records import write_atomically
from runner.data import locked

PREPROCESSING: dict[str, str] = {
    "unit": "pixels divided by 255",
    "standardise": "per channel: the training images' mean subtracted, divided by their standard deviation",
    "gcn_zca": "global contrast normalisation to norm 55, then ZCA whitening (covariance + 0.1) as in pylearn2",
}

VERSION = 1  # raised whenever the same images would be fitted to something else: names the cached files
BLOCK = 128  # images in one matrix product; always this many, so that a result doesn't depend on how it was asked for
FIT_BLOCK = 5_000  # images at a time while fitting: 120 MB as float64

GCN_SCALE = 55.0
GCN_MIN_DIVISOR = 1e-8
ZCA_FILTER_BIAS = 0.1


class Transform:
    """A fitted preprocessing. `per_channel`: each output pixel comes from its own input pixel, by its channel alone."""

    name: str
    per_channel = True

    def __init__(self, state: Mapping[str, Tensor]) -> None:
        self._state = dict(state)

    @staticmethod
    def fit(images: np.ndarray) -> dict[str, np.ndarray]:
        """What is to be known of the training images, by name; here nothing."""
        return {}

    def apply(self, images: Tensor) -> Tensor:
        """Preprocess uint8 images (N, C, H, W) on the device that the transform is on; gives float32 (N, C, H, W).

        In IEEE float32 whatever the profile: TF32 and autocast don't touch it.
        """
        raise NotImplementedError

    def state(self) -> dict[str, Tensor]:
        """What was fitted, by name."""
        return dict(self._state)

    @property
    def digest(self) -> str:
        """sha256 over the name and what was fitted: two equal digests preprocess alike."""
        digest = hashlib.sha256(self.name.encode())
        for key, tensor in sorted(self._state.items()):
            array = np.ascontiguousarray(tensor.cpu().numpy())
            digest.update(f"{key} {array.dtype.str} {array.shape}\n".encode())
            digest.update(array.data)
        return digest.hexdigest()

    def to(self, device: torch.device | str) -> "Transform":
        """The same transform on another device."""
        return type(self)({key: tensor.to(device) for key, tensor in self._state.items()})


class Unit(Transform):
    """Pixels divided by 255: 0 to 1."""

    name = "unit"

    def apply(self, images: Tensor) -> Tensor:
        return images.float().div_(255)


class Standardise(Transform):
    """(pixel - mean) / standard deviation, per channel; the population's deviation (divided by n)."""

    name = "standardise"

    def __init__(self, state: Mapping[str, Tensor]) -> None:
        super().__init__(state)
        self._mean, self._deviation = (self._state[key][:, None, None] for key in ("mean", "deviation"))

    @staticmethod
    def fit(images: np.ndarray) -> dict[str, np.ndarray]:
        """Mean and standard deviation (C,) of the pixels 0 to 255, from counts; a constant channel is divided by 1."""
        values = np.arange(256, dtype=np.float64)
        means, deviations = [], []
        for channel in range(images.shape[1]):
            counts = np.zeros(256, dtype=np.int64)
            for block in _blocks(images):
                counts += np.bincount(block[:, channel].ravel(), minlength=256)
            mean = (counts * values).sum() / counts.sum()
            means.append(mean)
            deviations.append(math.sqrt((counts * (values - mean) ** 2).sum() / counts.sum()) or 1.0)
        return {"mean": np.array(means, np.float32), "deviation": np.array(deviations, np.float32)}

    def apply(self, images: Tensor) -> Tensor:
        return torch.sub(images, self._mean).div_(self._deviation)


class GcnZca(Transform):
    """Global contrast normalisation and ZCA whitening as pylearn2's make_cifar10_gcn_whitened.py did them.

    pylearn2/expr/preprocessing.py (scale 55, use_std False, sqrt_bias 0) and ZCA of datasets/preprocessing.py at commit
    af81e5c; references/papers.md B.5. The covariance gets 0.1 on its diagonal before it is decomposed.
    """

    name = "gcn_zca"
    per_channel = False

    @staticmethod
    def fit(images: np.ndarray) -> dict[str, np.ndarray]:
        """The mean (D,) of the contrast-normalised images and the whitening matrix (D, D), D = C*H*W.

        The covariance is summed and decomposed in float64.
        """
        n, d = len(images), math.prod(images.shape[1:])
        mean = torch.zeros(d, dtype=torch.float64)
        for block in _blocks(images):
            mean += _gcn(torch.tensor(block)).double().sum(0)
        mean /= n
        covariance = torch.zeros(d, d, dtype=torch.float64)
        for block in _blocks(images):
            centred = _gcn(torch.tensor(block)).double().sub_(mean)
            covariance.addmm_(centred.T, centred)
        covariance /= n
        covariance.diagonal().add_(ZCA_FILTER_BIAS)
        values, vectors = torch.linalg.eigh(covariance)
        matrix = (vectors * values.rsqrt()) @ vectors.T
        return {"mean": mean.float().numpy(), "matrix": matrix.float().numpy()}

    def apply(self, images: Tensor) -> Tensor:
        mean, matrix = self._state["mean"], self._state["matrix"]
        out = torch.empty(images.shape, dtype=torch.float32, device=images.device)
        with _ieee(images.device):
            for start in range(0, len(images), BLOCK):
                block = images[start : start + BLOCK]
                full = block.new_zeros(BLOCK, *block.shape[1:])
                full[: len(block)] = block
                out[start : start + BLOCK] = (_gcn(full).sub_(mean) @ matrix)[: len(block)].view(block.shape)
        return out


TRANSFORMS: dict[str, type[Transform]] = {cls.name: cls for cls in (Unit, Standardise, GcnZca)}


def fit(
    name: str, train_images: np.ndarray, cache_folder: Path | None, data_sha256: str, log: Callable[[str], Any] = print
) -> Transform:
    """Fit a preprocessing on the training images in use, uint8 (N, C, H, W).

    Runs on the CPU: the same bits each time with the same torch and number of threads. Kept in `cache_folder` by these,
    name, N and the data's sha256 (so the images are the data set's first N); fitted once even where several processes ask.
    Raises UserError for an unknown name.
    """
    if name not in TRANSFORMS:
        raise unknown("preprocessing", name, TRANSFORMS)
    kind = TRANSFORMS[name]
    if cache_folder is None or kind is Unit:
        return _to_transform(kind, kind.fit(train_images))
    build = f"torch{torch.__version__}-{torch.get_num_threads()}threads"  # both decide the last bits of a fit
    path = cache_folder / f"{name}-v{VERSION}-{len(train_images)}-{data_sha256[:16]}-{build}.npz"
    state = _read(path)
    if state is None:
        cache_folder.mkdir(parents=True, exist_ok=True)
        with locked(path.with_suffix(".lock"), lambda: log(f"{name}: another process is fitting it; waiting")):
            state = _read(path)
            if state is None:
                log(f"{name}: fitting on {len(train_images):,} images, once")
                state = kind.fit(train_images)
                buffer = io.BytesIO()
                np.savez(buffer, allow_pickle=False, **state)
                with suppress(OSError):  # a full disk costs the next job a fit, not this one its run
                    write_atomically(path, buffer.getvalue())
    return _to_transform(kind, state)


def _to_transform(kind: type[Transform], state: dict[str, np.ndarray]) -> Transform:
    return kind({key: torch.from_numpy(array) for key, array in state.items()})


def _read(path: Path) -> dict[str, np.ndarray] | None:
    """A cached fit, or None where it is missing or torn (the zip inside has checksums)."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            return dict(arrays)
    except Exception:  # whatever fails: it is computed again
        return None


def _blocks(images: np.ndarray) -> Iterator[np.ndarray]:
    for start in range(0, len(images), FIT_BLOCK):
        yield images[start : start + FIT_BLOCK]


def _gcn(images: Tensor) -> Tensor:
    """Images (N, ...) -> float32 (N, D): each minus its own mean, over its L2 norm / 55 (or 1, where that is 0)."""
    rows = images.flatten(1).float()
    # sum / D rather than mean(): the sum of whole numbers is exact, so that a constant image gives exactly 0.
    rows.sub_(rows.sum(1, keepdim=True).div_(rows.shape[1]))
    norms = rows.square().sum(1, keepdim=True).sqrt_().div_(GCN_SCALE)
    return rows.div_(norms.masked_fill_(norms < GCN_MIN_DIVISOR, 1.0))


@contextmanager
def _ieee(device: torch.device) -> Iterator[None]:
    """Matrix products in IEEE float32, and no autocast, for as long as this lasts."""
    backends: Any = torch.backends  # these switches are newer than torch's own types
    switches = (backends.cuda.matmul, backends.mkldnn.matmul)
    before = [switch.fp32_precision for switch in switches]
    try:
        for switch in switches:
            switch.fp32_precision = "ieee"
        with torch.autocast(device.type, enabled=False):
            yield
    finally:
        for switch, precision in zip(switches, before, strict=True):
            switch.fp32_precision = precision
