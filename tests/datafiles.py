"""Writers of small data files in the official formats, and small data sets made of them."""

import dataclasses
import gzip
import hashlib
import io
import pickle
import struct
import tarfile
from pathlib import Path

import numpy as np
import scipy.io

from benchmarks.datasets import Dataset, File


def images_and_labels(
    count: int, shape: tuple[int, int, int], classes: int = 10, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Random images uint8 (count, C, H, W) and labels (count,)."""
    random = np.random.default_rng(seed)
    images = random.integers(0, 256, (count, *shape), dtype=np.uint8)
    return images, random.integers(0, classes, count)


def idx_bytes(array: np.ndarray) -> bytes:
    """An idx file of unsigned bytes."""
    header = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
    return header + array.astype(np.uint8).tobytes()


def cifar_batch(images: np.ndarray, labels: np.ndarray, protocol: int = 4) -> bytes:
    """A CIFAR batch as Python 3 and numpy 2 pickle it."""
    batch = {"batch_label": "made by a test", "labels": labels.tolist(), "data": images.reshape(len(images), -1)}
    return pickle.dumps(batch, protocol=protocol)


def python2_cifar_batch(images: np.ndarray, labels: np.ndarray) -> bytes:
    """A CIFAR batch as the official files are: Python 2, protocol 2, strings of bytes, numpy's old module names."""

    def text(value: bytes) -> bytes:
        return b"U" + bytes([len(value)]) + value

    n, pixels = images.reshape(len(images), -1).shape
    numbers = b"".join(b"K" + bytes([int(label)]) for label in labels)
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\nq\x01cnumpy\nndarray\nq\x02K\x00\x85U\x01b\x87Rq\x03"
        + (b"(K\x01" + b"J" + struct.pack("<i", n) + b"J" + struct.pack("<i", pixels) + b"\x86")
        + (b"cnumpy\ndtype\nq\x04U\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb")
        + (b"\x89" + b"T" + struct.pack("<i", images.size) + images.tobytes() + b"tb")
    )
    entries = text(b"data") + array + text(b"labels") + b"](" + numbers + b"e" + text(b"batch_label") + text(b"x")
    return b"\x80\x02}q\x00(" + entries + b"u."


def write(folder: Path, files: dict[str, bytes]) -> None:
    """Write files by their path below a folder."""
    for path, content in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)


def tar_gz(files: dict[str, bytes]) -> bytes:
    """A .tar.gz of these files; the same bytes each time."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for path, content in files.items():
            member = tarfile.TarInfo(path)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return gzip.compress(buffer.getvalue(), mtime=0)


def md5(content: bytes) -> str:
    """In hexadecimal."""
    return hashlib.md5(content).hexdigest()


def tiny_mnist(folder: Path, packed: bool = False, train: int = 30, test: int = 10) -> Dataset:
    """A small data set in MNIST's format, official by its own facts, written into a folder."""
    shape = (1, 6, 5)
    unpacked, files = {}, []
    for name, count, seed in (("train", train, 1), ("t10k", test, 2)):
        images, labels = images_and_labels(count, shape, seed=seed)
        unpacked[f"MNIST/raw/{name}-images-idx3-ubyte"] = idx_bytes(images[:, 0])
        unpacked[f"MNIST/raw/{name}-labels-idx1-ubyte"] = idx_bytes(labels)
    gz = {f"{path}.gz": gzip.compress(content, mtime=0) for path, content in unpacked.items()}
    for path, content in unpacked.items():
        file = gz[f"{path}.gz"]
        files.append(File(f"{path}.gz", md5(file), len(file), ((path, md5(content)),)))
    write(folder, gz if packed else unpacked)
    return Dataset("tiny", "Tiny", 10, shape, train, test, "idx", tuple(files))


def tiny_cifar(folder: Path, packed: bool = False, python2: bool = True, per_batch: int = 8) -> Dataset:
    """A small data set in CIFAR-10's format, official by its own facts, written into a folder."""
    shape = (3, 4, 4)
    names = [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]
    files = {}
    for seed, name in enumerate(names):
        images, labels = images_and_labels(per_batch, shape, seed=seed)
        make = python2_cifar_batch if python2 else cifar_batch
        files[f"cifar-10-batches-py/{name}"] = make(images, labels)
    archive = tar_gz(files)
    write(folder, {"cifar-10-python.tar.gz": archive} if packed else files)
    file = File(
        "cifar-10-python.tar.gz",
        md5(archive),
        len(archive),
        tuple((path, md5(content)) for path, content in files.items()),
    )
    return Dataset("tiny", "Tiny", 10, shape, 5 * per_batch, per_batch, "cifar", (file,))


def tiny_cifar100(folder: Path, train: int = 40, test: int = 20) -> Dataset:
    """A small data set in CIFAR-100's format (6 classes in 2 superclasses), official by its own facts."""
    shape, files = (3, 4, 4), {}
    for seed, (name, count) in enumerate((("train", train), ("test", test))):
        images, fine = images_and_labels(count, shape, classes=6, seed=seed)
        content = {
            "data": images.reshape(count, -1),
            "fine_labels": fine.tolist(),
            "coarse_labels": (fine % 2).tolist(),
        }
        files[f"cifar-100-python/{name}"] = pickle.dumps(content, protocol=4)
    write(folder, files)
    archive = tar_gz(files)
    members = tuple((path, md5(content)) for path, content in files.items())
    return Dataset(
        "tiny100",
        "Tiny-100",
        6,
        shape,
        train,
        test,
        "cifar",
        (File("cifar-100-python.tar.gz", md5(archive), len(archive), members),),
        labels="fine_labels",
        coarse_labels="coarse_labels",
        coarse_classes=2,
    )


def mat_file(images: np.ndarray, labels: np.ndarray) -> bytes:
    """A .mat file as SVHN's are: X (H, W, C, n) of bytes, y (n, 1) with 10 for the digit 0, compressed."""
    buffer = io.BytesIO()
    y = np.where(labels == 0, 10, labels).astype(np.uint8)[:, None]
    scipy.io.savemat(buffer, {"X": images.transpose(2, 3, 1, 0), "y": y}, do_compression=True)
    return buffer.getvalue()


def tiny_svhn(folder: Path, train: int = 60, extra: int = 90, test: int = 20) -> Dataset:
    """A small data set in SVHN's format, 2 of each digit of `train` and 1 of `extra` set aside, official by its own facts."""
    shape, files, facts = (3, 5, 4), {}, []
    for seed, (name, count) in enumerate((("train", train), ("extra", extra), ("test", test))):
        images, _ = images_and_labels(count, shape, seed=seed)
        files[f"{name}_32x32.mat"] = mat_file(images, np.arange(count) * 7 % 10)
    for path, content in files.items():
        facts.append(File(path, md5(content), len(content)))
    write(folder, files)
    validation = (("train_32x32.mat", 2), ("extra_32x32.mat", 1))
    return Dataset(
        "tinysvhn", "Tiny SVHN", 10, shape, train + extra - 30, test, "mat", tuple(facts), validation=validation
    )


def with_mirrors(dataset: Dataset, *mirrors: str) -> Dataset:
    """The same data set, offered elsewhere."""
    return dataclasses.replace(dataset, mirrors=mirrors)
