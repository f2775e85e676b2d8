"""Preprocess uint8 images into the float32 images that a network sees.

`fit` reads the training images once (without the held-out ones, if there are any) and returns a `Transform`, which
applies to any images. Fits that are expensive are cached with the data.
"""

import hashlib
import io
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.errors import UserError, unknown
from benchmarks.files import write_atomically
from runner.locks import locked
from runner.training.profiles import ieee

VERSION = 2  # increased whenever the same images give another fit; part of the cached files' names
FIT_BLOCK = 5_000  # images per block while fitting: 120 MB as float64
FIT_THREADS = 4  # constant, because the thread count changes the last bits of a fit

GCN_SCALE = 55.0
GCN_MIN_DIVISOR = 1e-8
ZCA_FILTER_BIAS = 0.1
LCN_THRESHOLD = 1e-4  # pylearn2's and Torch7's alike
LCN_SIZE = 7


class Transform:
    """A fitted preprocessing. `per_channel`: each output pixel depends only on the same input pixel and its channel.

    `block` is the number of images processed at a time. It is constant, so that the result does not depend on the batch
    size.
    """

    name: str
    per_channel = True
    block = 128

    def __init__(self, state: Mapping[str, Tensor]) -> None:
        self._state = dict(state)

    @staticmethod
    def fit(images: np.ndarray) -> dict[str, np.ndarray]:
        """Return the fitted arrays by name; nothing for a transform without parameters."""
        return {}

    def apply(self, images: Tensor) -> Tensor:
        """Return preprocessed images, float32 (N, C, H, W), of uint8 images (N, C, H, W) on the transform's device.

        Always in IEEE float32: TF32 and autocast do not apply.
        """
        raise NotImplementedError

    def state(self) -> dict[str, Tensor]:
        """Return the fitted tensors by name."""
        return dict(self._state)

    @property
    def digest(self) -> str:
        """sha256 of the name and the fitted tensors: equal digests preprocess alike."""
        digest = hashlib.sha256(self.name.encode())
        for key, tensor in sorted(self._state.items()):
            array = np.ascontiguousarray(tensor.cpu().numpy())
            digest.update(f"{key} {array.dtype.str} {array.shape}\n".encode())
            digest.update(array.data)
        return digest.hexdigest()

    def to(self, device: torch.device | str) -> "Transform":
        """Return the transform on another device."""
        return type(self)({key: tensor.to(device) for key, tensor in self._state.items()})


class Unit(Transform):
    """Pixels divided by 255: 0 to 1."""

    name = "unit"

    def apply(self, images: Tensor) -> Tensor:
        return images.float().div_(255)


class Over256(Transform):
    """Pixels multiplied by 1/256, as in Caffe's LeNet: `scale: 0.00390625`."""

    name = "over_256"

    def apply(self, images: Tensor) -> Tensor:
        return images.float().div_(256)


class LeCun1998(Transform):
    """Background -0.1, ink 1.175, so that the mean is about 0 and the variance about 1 (LeCun et al. 1998, II.B)."""

    name = "lecun"

    def apply(self, images: Tensor) -> Tensor:
        return images.float().mul_(1.275 / 255).sub_(0.1)


class MinusMeanImage(Transform):
    """Pixels 0..255 minus the training images' mean image, as in cuda-convnet and Caffe."""

    name = "minus_mean_image"
    per_channel = False
    scale = 1.0

    def __init__(self, state: Mapping[str, Tensor]) -> None:
        super().__init__(state)
        self._mean = self._state["mean"]

    @staticmethod
    def fit(images: np.ndarray) -> dict[str, np.ndarray]:
        """Return the mean image (C, H, W) of the pixels 0 to 255, summed as integers."""
        total = sum(block.sum(axis=0, dtype=np.int64) for block in _blocks(images))
        return {"mean": (total / len(images)).astype(np.float32)}

    def apply(self, images: Tensor) -> Tensor:
        return torch.sub(images, self._mean).mul_(self.scale)


class UnitMinusMeanImage(MinusMeanImage):
    """MinusMeanImage on pixels divided by 255, as NiN's provider read pylearn2's MNIST."""

    name = "unit_minus_mean_image"
    scale = 1 / 255


class Standardise(Transform):
    """(pixel - mean) / standard deviation, per channel; the population deviation (divided by n)."""

    name = "standardise"

    def __init__(self, state: Mapping[str, Tensor]) -> None:
        super().__init__(state)
        self._mean, self._deviation = (self._state[key][:, None, None] for key in ("mean", "deviation"))

    @staticmethod
    def fit(images: np.ndarray) -> dict[str, np.ndarray]:
        """Return mean and standard deviation (C,) of the pixels 0 to 255, from counts; 1 for a constant channel."""
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
    """Global contrast normalisation and ZCA whitening, as in pylearn2's make_cifar10_gcn_whitened.py.

    Source: pylearn2/expr/preprocessing.py (scale 55, use_std False, sqrt_bias 0) and ZCA of datasets/preprocessing.py
    at commit af81e5c; references/papers.md B.5. The covariance gets 0.1 on its diagonal before it is decomposed.
    """

    name = "gcn_zca"
    per_channel = False
    block = 1_024  # each block reads the matrix (38 MB): 0.18 ms per image on one core, 0.40 ms in blocks of 128

    @staticmethod
    def fit(images: np.ndarray) -> dict[str, np.ndarray]:
        """Return the mean (D,) of the contrast-normalised images and the whitening matrix (D, D), D = C*H*W.

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
        with ieee(images.device):
            return _by_blocks(images, lambda block: _gcn(block).sub_(mean) @ matrix, self.block)


class GcnLcn(Transform):
    """Global, then local contrast normalisation, as in pylearn2's scripts/papers/maxout/svhn_preprocessing.py of 2013.

    GlobalContrastNormalization with its defaults (norm 1), then LeCunLCN on each channel. Each pixel minus its local
    blur is divided by the root of the blurred squares, or by the image's mean of that root if this is larger. The
    squares are of the pixels before the mean is subtracted. This is the code of March 2013 (558efcc), which produced
    maxout's and NiN's numbers. Since January 2014 (c71be4b) it normalises the red channel alone. Nothing is fitted.
    """

    name = "gcn_lcn"
    per_channel = False

    def apply(self, images: Tensor) -> Tensor:
        height, width = images.shape[2:]
        down, across = (_blur(size, 2.0, images.device, torch.float32) for size in (height, width))

        def normalise(block: Tensor) -> Tensor:
            x = _gcn(block, scale=1.0).view(block.shape)
            deviation = (down @ x.square() @ across.T).sqrt_()
            divisor = torch.maximum(deviation, deviation.mean(dim=(2, 3), keepdim=True)).clamp_(min=LCN_THRESHOLD)
            return (x - down @ x @ across.T).div_(divisor)

        with ieee(images.device):
            return _by_blocks(images, normalise, self.block)


class YuvLcn(Transform):
    """YUV with local contrast normalisation of Y, as in szagoruyko/cifar.torch's provider.lua (papers.md B.3).

    Y goes through Torch7's SpatialContrastiveNormalization(1, image.gaussian1D(7)): minus the local blur, then divided
    by the root of the blurred squares. Each blur is divided by the blur of ones, so that zeros beyond the edge do not
    count. A root below 1e-4 counts as 1e-4. U and V are standardised with the training images' mean and standard
    deviation. Y is computed in float64, because in flat images rounding errors would be divided by 1e-4.
    """

    name = "yuv_lcn"
    per_channel = False

    @staticmethod
    def fit(images: np.ndarray) -> dict[str, np.ndarray]:
        """Return mean and standard deviation (2,) of U and V over the pixels of the training images, uint8 (N, 3, H, W).

        Raise UserError for images without three channels.
        """
        if images.shape[1] != 3:
            raise UserError(
                f"preprocessing is yuv_lcn, which needs 3 channels, but these images have {images.shape[1]}: choose another"
            )
        sums, squares = np.zeros(2), np.zeros(2)
        for block in _blocks(images):
            chroma = _yuv(torch.tensor(block).double())[:, 1:].flatten(2)
            sums += chroma.sum(dim=(0, 2)).numpy()
            squares += chroma.square().sum(dim=(0, 2)).numpy()
        count = images.shape[0] * math.prod(images.shape[2:])
        mean = sums / count
        deviation = np.sqrt(np.maximum(squares / count - mean**2, 0))
        deviation[deviation < 1e-6] = 1.0  # grey images
        return {"mean": mean.astype(np.float32), "deviation": deviation.astype(np.float32)}

    def apply(self, images: Tensor) -> Tensor:
        height, width = images.shape[2:]
        down, across = (_blur(size, 0.25 * LCN_SIZE, images.device, torch.float64) for size in (height, width))
        inside = torch.outer(down.sum(1), across.sum(1))  # the blur of ones
        mean, deviation = (self._state[key][:, None, None].double() for key in ("mean", "deviation"))

        def normalise(block: Tensor) -> Tensor:
            yuv = _yuv(block.double())
            y = yuv[:, 0]
            y = y - (down @ y @ across.T).div_(inside)
            root = (down @ y.square() @ across.T).sqrt_().div_(inside)
            y = y / root.clamp_(min=LCN_THRESHOLD)
            return torch.cat([y[:, None], (yuv[:, 1:] - mean) / deviation], dim=1)

        return _by_blocks(images, normalise, self.block)


_ALL = (Unit, Over256, LeCun1998, MinusMeanImage, UnitMinusMeanImage, Standardise, GcnZca, GcnLcn, YuvLcn)
TRANSFORMS: dict[str, type[Transform]] = {cls.name: cls for cls in _ALL}


def fit(
    name: str, train_images: np.ndarray, cache_folder: Path | None, data_sha256: str, log: Callable[[str], Any] = print
) -> Transform:
    """Return a preprocessing fitted on the training images, uint8 (N, C, H, W).

    The fit runs on the CPU, always in FIT_THREADS threads, so the same torch gives the same bits on the same kind of
    processor. It is cached in `cache_folder` by torch version, name, N and the data's sha256; the images must be the
    data set's first N. If several processes ask at once, one fits and the others wait.

    Raise UserError for an unknown name.
    """
    if name not in TRANSFORMS:
        raise unknown("preprocessing", name, TRANSFORMS)
    kind = TRANSFORMS[name]
    if cache_folder is None or kind.fit is Transform.fit:
        return _to_transform(kind, _fitted(kind, train_images))
    path = cache_folder / f"{name}-v{VERSION}-{len(train_images)}-{data_sha256[:16]}-torch{torch.__version__}.npz"
    state = _read(path)
    if state is None:
        cache_folder.mkdir(parents=True, exist_ok=True)
        with locked(path.with_suffix(".lock"), lambda: log(f"{name}: another process is fitting it, waiting")):
            state = _read(path)
            if state is None:
                log(f"{name}: fitting on {len(train_images):,} images (only once)")
                state = _fitted(kind, train_images)
                buffer = io.BytesIO()
                np.savez(buffer, allow_pickle=False, **state)
                with suppress(OSError):  # with a full disk the next job fits again; this one continues
                    write_atomically(path, buffer.getvalue())
    return _to_transform(kind, state)


def _to_transform(kind: type[Transform], state: dict[str, np.ndarray]) -> Transform:
    return kind({key: torch.from_numpy(array) for key, array in state.items()})


def _read(path: Path) -> dict[str, np.ndarray] | None:
    """Return a cached fit; None if it is missing or damaged (the zip inside has checksums)."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            return dict(arrays)
    except Exception:  # whatever fails, it is computed again
        return None


def _blocks(images: np.ndarray) -> Iterator[np.ndarray]:
    for start in range(0, len(images), FIT_BLOCK):
        yield images[start : start + FIT_BLOCK]


def _by_blocks(images: Tensor, function: Callable[[Tensor], Tensor], size: int) -> Tensor:
    """Return `function` of uint8 images (N, C, H, W), applied to `size` at a time: float32 (N, C, H, W).

    The last block is padded with black images, because products of another shape may round differently.
    """
    out = torch.empty(images.shape, dtype=torch.float32, device=images.device)
    for start in range(0, len(images), size):
        block = images[start : start + size]
        full = block.new_zeros(size, *block.shape[1:])
        full[: len(block)] = block
        out[start : start + size] = function(full)[: len(block)].view(block.shape)
    return out


def _gcn(images: Tensor, scale: float = GCN_SCALE) -> Tensor:
    """Return rows, float32 (N, D): each image minus its mean, divided by its L2 norm / scale (by 1 if that is 0)."""
    rows = images.flatten(1).float()
    # sum / D rather than mean(): the sum of whole numbers is exact, so that a constant image gives exactly 0.
    rows.sub_(rows.sum(1, keepdim=True).div_(rows.shape[1]))
    norms = rows.square().sum(1, keepdim=True).sqrt_().div_(scale)
    return rows.div_(norms.masked_fill_(norms < GCN_MIN_DIVISOR, 1.0))


@lru_cache(maxsize=16)  # cached: on a GPU each call would be a synchronous copy per batch
def _blur(size: int, sigma: float, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Return a matrix (size, size) that blurs a column of pixels with a Gaussian of LCN_SIZE, with zeros beyond both ends.

    A 2-d Gaussian is separable, so `down @ image @ across.T` blurs an image.
    """
    offsets = torch.arange(size, dtype=torch.float64)
    distances = (offsets[:, None] - offsets).abs()
    reach = LCN_SIZE // 2
    one = torch.arange(-reach, reach + 1, dtype=torch.float64)
    weights = torch.exp(-(distances**2) / (2 * sigma**2)) / torch.exp(-(one**2) / (2 * sigma**2)).sum()
    return weights.masked_fill(distances > reach, 0.0).to(device, dtype)


def _yuv(images: Tensor) -> Tensor:
    """Return RGB images (N, 3, H, W) as YUV, as Torch7's image.rgb2yuv does; same dtype."""
    return torch.einsum("dc,nchw->ndhw", _yuv_matrix(images.dtype, images.device), images)


@lru_cache(maxsize=8)
def _yuv_matrix(dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return the matrix (3, 3) from RGB to YUV."""
    matrix = [[0.299, 0.587, 0.114], [-0.14713, -0.28886, 0.436], [0.615, -0.51499, -0.10001]]
    return torch.tensor(matrix, dtype=dtype, device=device)


def _fitted(kind: type[Transform], images: np.ndarray) -> dict[str, np.ndarray]:
    """Return the arrays of `kind`, fitted in FIT_THREADS threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(FIT_THREADS)
    try:
        return kind.fit(images)
    finally:
        torch.set_num_threads(before)
