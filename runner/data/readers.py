"""Parse data set files into arrays: idx, CIFAR batches, SVHN's .mat files, scikit-learn's digits.

A bad file raises UserError of one line. No code in a file is executed.
"""

import io
import math
import pickle
import pickletools
from collections.abc import Callable
from pathlib import PurePosixPath
from typing import Any, cast

import numpy as np

from benchmarks.datasets import Dataset
from benchmarks.errors import UserError
from runner.data.archives import Member, detail

Arrays = dict[str, np.ndarray]
ARRAYS = ("train_images", "train_labels", "test_images", "test_labels")
COARSE = ("train_coarse", "test_coarse")  # only for data sets with superclasses


def arrays_of(dataset: Dataset) -> tuple[str, ...]:
    """Return the names of a data set's arrays, in their order."""
    return ARRAYS + COARSE if dataset.coarse_labels else ARRAYS


def _read_sklearn(dataset: Dataset, members: dict[str, Member]) -> Arrays:
    """Return scikit-learn's digits. Grey values 0 to 16 are multiplied by 15 (0 to 240), so none is rounded."""
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise UserError(
            f"{dataset.name}: these images are part of scikit-learn, which is not installed: pip install scikit-learn"
        ) from error
    digits = load_digits()
    images = (digits.images * 15).astype(np.uint8)[:, None]
    labels = digits.target.astype(np.int64)
    train, test = slice(dataset.train_size), slice(-dataset.test_size, None)
    return dict(zip(ARRAYS, (images[train], labels[train], images[test], labels[test]), strict=True))


def _read_idx(dataset: Dataset, members: dict[str, Member]) -> Arrays:
    """Return the arrays of MNIST's four idx files."""
    arrays: Arrays = {}
    for path, member in members.items():
        name = PurePosixPath(path).name
        split, count = ("train", dataset.train_size) if name.startswith("train") else ("test", dataset.test_size)
        if "images" in name:
            arrays[f"{split}_images"] = read_idx(member, (count, *dataset.shape[1:]))[:, None]
        else:
            arrays[f"{split}_labels"] = read_idx(member, (count,)).astype(np.int64)
    return {name: arrays[name] for name in ARRAYS}


def read_idx(member: Member, shape: tuple[int, ...]) -> np.ndarray:
    """Return an idx file of unsigned bytes with torchvision's reader; raise UserError if it does not have this shape."""
    from torchvision.datasets.mnist import read_sn3_pascalvincent_tensor

    try:
        array = read_sn3_pascalvincent_tensor(str(member.path)).numpy()
    except Exception as error:  # the reader asserts, indexes and views: any failure means that it isn't an idx file
        reason = f"not a complete idx file ({detail(error)})"
        raise UserError(f"{member.shown}: {reason}: the file is truncated or not the expected one") from error
    if array.dtype != np.uint8 or array.shape != shape:
        raise UserError(f"{member.shown}: holds {array.dtype} {array.shape}, expected uint8 {shape}")
    return array


def _read_cifar(dataset: Dataset, members: dict[str, Member]) -> Arrays:
    """Return the arrays of CIFAR's pickled batches, in the order of the definition. Files named 'test...' are the test set."""
    arrays: Arrays = {}
    for split in ("train", "test"):
        batches = [
            read_cifar_batch(member, dataset)
            for path, member in members.items()
            if PurePosixPath(path).name.startswith("test") == (split == "test")
        ]
        names = (f"{split}_images", f"{split}_labels", f"{split}_coarse")
        # CIFAR-10's batches have no superclasses: two arrays a batch instead of three.
        for name, parts in zip(names, zip(*batches, strict=True), strict=False):
            arrays[name] = np.concatenate(parts)
    return {name: arrays[name] for name in arrays_of(dataset)}


def read_cifar_batch(member: Member, dataset: Dataset) -> tuple[np.ndarray, ...]:
    """Return one batch: images uint8 (n, C, H, W) and labels int64 (n,).

    The file stores channel planes in row-major order. If the data set has superclasses, their labels int64 (n,) follow.
    Raise UserError if the file is not a batch or asks for anything but numpy arrays.
    """
    try:
        batch = unpickle_arrays(member.path.read_bytes())
        array = batch.get("data") if isinstance(batch, dict) else None
        if not isinstance(array, _Array):
            raise ValueError("no array 'data'")
        images = array.value()
        pixels = math.prod(dataset.shape)
        if images.ndim != 2 or images.shape[1] != pixels:
            raise ValueError(f"'data' has the shape {images.shape}, expected (n, {pixels})")
        label_keys = [(dataset.labels, dataset.classes)]
        if dataset.coarse_labels:
            label_keys.append((dataset.coarse_labels, dataset.coarse_classes))
        labels = [_cifar_labels(batch, key, classes, len(images)) for key, classes in label_keys]
        return images.reshape(-1, *dataset.shape), *labels
    except Exception as error:  # arbitrary bytes: any failure means that the file isn't a batch
        raise UserError(f"{member.shown}: not a complete CIFAR batch ({detail(error)})") from error


def _cifar_labels(batch: dict[str, Any], key: str, classes: int, count: int) -> np.ndarray:
    labels, one = batch.get(key), key.replace("_", " ").removesuffix("s")
    if not isinstance(labels, list):
        raise ValueError(f"it lacks a list '{key}'")
    if len(labels) != count:
        raise ValueError(f"{count:,} images, but {len(labels):,} {one}s")
    for label in labels:
        if type(label) is not int or not 0 <= label < classes:
            shown = label if type(label) is int else type(label).__name__
            raise ValueError(f"a {one} is {shown}, expected 0 to {classes - 1}")
    return np.array(labels, dtype=np.int64)


def _read_mat(dataset: Dataset, members: dict[str, Member]) -> Arrays:
    """Return the arrays of SVHN's .mat files. The held-out validation images are the last training images.

    They are drawn as pylearn2's `splitted_train` does (datasets/svhn.py): seed 322, the digits 1 to 9 and then 0, file by
    file, as in maxout's code. Which images NiN held out is not published. Takes 4.3 GB at its peak for the 630,420 images
    (measured), most of it the images themselves.
    """
    random = np.random.RandomState(322)
    validation_counts = dict(dataset.validation)
    arrays: Arrays = {}
    parts = []
    for path, member in members.items():
        images, labels = read_mat(member, dataset)
        if PurePosixPath(path).name.startswith("test"):
            arrays |= {"test_images": np.ascontiguousarray(images), "test_labels": labels}
            continue
        is_held_out = np.zeros(len(labels), dtype=bool)
        for digit in (*range(1, dataset.classes), 0):
            indices = np.flatnonzero(labels == digit)
            random.shuffle(indices)
            is_held_out[indices[: validation_counts.get(path, 0)]] = True
        parts.append((images, labels, is_held_out))
    count = sum(len(labels) for _, labels, _ in parts)
    arrays["train_images"] = np.empty((count, *dataset.shape), dtype=np.uint8)
    arrays["train_labels"] = np.empty(count, dtype=np.int64)
    start = 0
    for held_out in (False, True):
        for images, labels, is_held_out in parts:
            for block in np.array_split(np.flatnonzero(is_held_out == held_out), 1 + len(labels) // 20_000):
                stop = start + len(block)
                arrays["train_images"][start:stop] = images[block]
                arrays["train_labels"][start:stop] = labels[block]
                start = stop
    return {name: arrays[name] for name in ARRAYS}


def read_mat(member: Member, dataset: Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Return one .mat file of SVHN: images uint8 (n, C, H, W), a view, and labels int64 (n,). The file's label 10 becomes 0.

    The shapes of its variables are checked before their content is read. Raise UserError if it is not a file of SVHN.
    """
    import scipy.io

    channels, height, width = dataset.shape
    try:
        declared = {name: shape for name, shape, _ in scipy.io.whosmat(str(member.path))}
        most = dataset.train_size + dataset.validation_size + dataset.test_size
        shape = declared.get("X", ())
        if len(shape) != 4 or shape[:3] != (height, width, channels) or shape[3] > most:
            raise ValueError(f"'X' has the shape {shape or '()'}, expected {(height, width, channels, 'n')}")
        if declared.get("y") not in ((shape[3], 1), (1, shape[3])):
            raise ValueError(f"{shape[3]:,} images, but labels of the shape {declared.get('y')}")
        content = scipy.io.loadmat(str(member.path), variable_names=("X", "y"))
        images, labels = content["X"], content["y"].reshape(-1)
        if images.dtype != np.uint8 or images.shape != shape:
            raise ValueError(f"'X' holds {images.dtype}, expected uint8")
        if labels.dtype.kind not in "ui" or not np.isin(labels, np.arange(1, dataset.classes + 1)).all():
            raise ValueError(f"a label is not in 1 to {dataset.classes}, where {dataset.classes} means 0")
        return images.transpose(3, 2, 0, 1), labels.astype(np.int64) % dataset.classes
    except MemoryError:
        raise
    except Exception as error:  # arbitrary bytes: any failure means that the file isn't one of SVHN's
        raise UserError(f"{member.shown}: not a complete .mat file of SVHN ({detail(error)})") from error


# --- a restricted unpickler ------------------------------------------------------------------------------------------


class _Array:
    """Replace numpy.ndarray while unpickling: keep the pickled state, and run no code of numpy."""

    def __init__(self, *arguments: Any) -> None:
        self.state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def value(self) -> np.ndarray:
        """Return the array; raise ValueError or TypeError if the state is not an array of unsigned bytes."""
        *_, shape, dtype, fortran, raw = self.state
        if not isinstance(dtype, _Dtype) or dtype.code not in ("u1", "|u1", "uint8", "B"):
            raise ValueError("an array is not of unsigned bytes")
        raw = raw.encode("latin1") if isinstance(raw, str) else raw  # Python 2 wrote its bytes as a str
        return np.frombuffer(raw, dtype=np.uint8).reshape(shape, order="F" if fortran else "C")


class _Dtype:
    """Replace numpy.dtype while unpickling; only the first argument is used."""

    def __init__(self, code: Any, *arguments: Any) -> None:
        self.code = code

    def __setstate__(self, state: Any) -> None:
        pass


def _from_buffer(raw: Any, dtype: Any, shape: Any, order: Any) -> _Array:
    """Replace numpy's `_frombuffer` of pickle protocol 5."""
    array = _Array()
    array.state = (shape, dtype, order == "F", raw)
    return array


_ALLOWED = {
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Dtype,
    **{(f"numpy.{core}.multiarray", "_reconstruct"): _Array for core in ("core", "_core")},
    **{(f"numpy.{core}.numeric", "_frombuffer"): _from_buffer for core in ("core", "_core")},
}


class _ArrayUnpickler(pickle.Unpickler):
    """Accept numpy arrays under their old and new module names, and nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise ValueError(f"it refers to {module}.{name}"[:100] + ", which no data file contains")
        return _ALLOWED[module, name]


def unpickle_arrays(content: bytes) -> Any:
    """Unpickle plain values and uint8 arrays (as `_Array`); raise an exception for any other content."""
    for opcode, argument, _ in pickletools.genops(content):  # also checks each declared length against the content
        if "PUT" in opcode.name and cast(int, argument) > len(content):
            raise ValueError("a memo index is too large")  # the C unpickler would allocate memory for it
    return _ArrayUnpickler(io.BytesIO(content), encoding="latin1").load()


READERS: dict[str, Callable[[Dataset, dict[str, Member]], Arrays]] = {
    "sklearn": _read_sklearn,
    "idx": _read_idx,
    "cifar": _read_cifar,
    "mat": _read_mat,
}
