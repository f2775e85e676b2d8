"""Load data sets as uint8 arrays, parsed once into .npy files that later calls map into memory.

Files whose md5 is not the official one are refused, or marked as unverified on request. torch is imported only for parsing.

<root>/<data set>/<key>/ holds {train,test}_{images,labels}.npy and manifest.json. The key is a digest of the data set's
definition and of the files' sizes and times. An entry is renamed into place when complete and never changed. It is removed
when an entry from changed files is built.
"""

import dataclasses
import hashlib
import importlib.metadata
import json
import os
import shutil
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.canonical import sha256_of
from benchmarks.datasets import Dataset, File, get_dataset
from benchmarks.errors import UserError
from benchmarks.records import DataFacts
from runner.data.archives import unpacked
from runner.data.folder import (
    FileOnDisk,
    find_all,
    find_file,
    os_errors_as_user_errors,
    paths_of,
    provenance_of,
    refusal,
    refuse_file,
)
from runner.data.readers import COARSE, READERS, Arrays, arrays_of
from runner.files import read_json
from runner.locks import locked

Log = Callable[[str], Any]
VERSION = 1  # of the cache; increase it when the same files are parsed differently


@dataclass(frozen=True, eq=False)
class Data:
    """A data set, mapped into memory: images uint8 (N, C, H, W), labels int64 (N,).

    The last `validation_size` training images are held out by the data set's own protocol and never trained on.
    `train_coarse` and `test_coarse` are the superclass labels, None if the data set has no superclasses.

    The maps are copy-on-write: writing to one changes no file, so `torch.from_numpy` accepts them without a warning.
    `cache_folder` is for arrays computed from the data and is removed with the entry. It is None if no folder is writable.
    """

    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
    facts: DataFacts
    cache_folder: Path | None
    validation_size: int = 0
    train_coarse: np.ndarray | None = None
    test_coarse: np.ndarray | None = None


def load(dataset: str | Dataset, folder: Path, allow_unverified: bool = False, log: Log = print) -> Data:
    """Open a data set. The first call parses its files and caches the arrays; later calls map the cache into memory.

    `log` receives a line before parsing and while waiting for another process. Raise UserError, one line each, if files
    are missing, truncated, of wrong counts or shapes, or not the official ones. With `allow_unverified`, unofficial files
    are accepted and the facts say so.
    """
    dataset = get_dataset(dataset) if isinstance(dataset, str) else dataset
    with os_errors_as_user_errors(dataset, folder):
        refuse_file(folder)
        stamp = stamp_of(dataset, folder)
        cached = find_entry(dataset, folder, stamp)
        if cached is None:
            cached = _build(dataset, folder, stamp, allow_unverified, log)
        entry, manifest = cached
        if manifest["unofficial"] and not allow_unverified:
            raise refusal(dataset, folder, manifest["unofficial"])
        candidates = [entry, *(root / dataset.name / entry.name for root in cache_roots(folder)[1:])]
        return Data(
            **_map_arrays(dataset, entry, manifest),
            validation_size=dataset.validation_size,
            facts=DataFacts(**manifest["facts"]),
            cache_folder=next((place for place in candidates if _can_write(place)), None),
        )


def missing_files(dataset: Dataset, folder: Path, allow_unverified: bool = False) -> list[File]:
    """Return the files to fetch: missing ones, and unofficial ones unless `allow_unverified`."""
    refuse_file(folder)
    cached = find_entry(dataset, folder, stamp_of(dataset, folder))
    if cached is not None and (allow_unverified or not cached[1]["unofficial"]):
        return []
    forms = {file: find_file(dataset, file, folder) for file in dataset.files}
    return [file for file, form in forms.items() if form is None or (form.unofficial and not allow_unverified)]


def stamp_of(dataset: Dataset, folder: Path) -> dict[str, Any]:
    """Return what identifies the files a cache entry was built from: [size, modification time in ns] by path.

    The value is None for an absent file. For scikit-learn's data it is the installed version.
    """
    if dataset.format == "sklearn":
        with suppress(importlib.metadata.PackageNotFoundError):
            return {"scikit-learn": importlib.metadata.version("scikit-learn")}
        return {"scikit-learn": None}
    stamp: dict[str, Any] = {}
    for path in paths_of(dataset):
        stamp[path] = None
        with suppress(FileNotFoundError, NotADirectoryError):
            stat = (folder / path).stat()
            stamp[path] = [stat.st_size, stat.st_mtime_ns]
    return stamp


def cache_roots(folder: Path) -> list[Path]:
    """Return the folders for cached arrays: next to the data first, then the user's cache for read-only data folders."""
    roots = [folder / ".reprozoo"]
    with suppress(RuntimeError):  # a user without a home
        own = Path("~/.cache/reprozoo/.reprozoo").expanduser()
        roots.append(own / hashlib.sha256(os.fsencode(folder.resolve())).hexdigest()[:16])
    return roots


def _key(dataset: Dataset, stamp: dict[str, Any]) -> str:
    facts = {name: fact for name, fact in dataclasses.asdict(dataset).items() if name not in ("title", "mirrors")}
    return sha256_of([VERSION, facts, stamp])[:16]


def find_entry(dataset: Dataset, folder: Path, stamp: dict[str, Any]) -> tuple[Path, dict[str, Any]] | None:
    """Return the complete cache entry of these files and its manifest, or None."""
    for root in cache_roots(folder):
        entry = root / dataset.name / _key(dataset, stamp)
        manifest = read_json(entry / "manifest.json")
        if manifest is None:
            continue
        # A foreign or damaged manifest, or missing or truncated arrays.
        with suppress(OSError, ValueError, KeyError, TypeError, EOFError):
            DataFacts(**manifest["facts"])
            _map_arrays(dataset, entry, manifest)
            return entry, manifest
    return None


def _map_arrays(dataset: Dataset, entry: Path, manifest: dict[str, Any]) -> Arrays:
    """Return the entry's arrays as memory maps; raise ValueError if one does not match the manifest."""
    arrays = {}
    for name in arrays_of(dataset):
        # 'c': copy-on-write. A read-only map would make torch.from_numpy warn.
        array = np.load(entry / f"{name}.npy", mmap_mode="c", allow_pickle=False)
        if [array.dtype.str, list(array.shape)] != manifest["arrays"][name]:
            raise ValueError(f"{name} is {array.dtype.str} {array.shape}")
        arrays[name] = array
    return arrays


def _build(
    dataset: Dataset, folder: Path, stamp: dict[str, Any], allow_unverified: bool, log: Log
) -> tuple[Path, dict[str, Any]]:
    """Check, parse and cache the files; return the entry and its manifest.

    A lock makes processes that ask at the same time build it once.
    """
    forms = find_all(dataset, folder)
    unofficial = [item for form in forms for item in form.unofficial]
    if unofficial and not allow_unverified:
        raise refusal(dataset, folder, unofficial)
    root = next((root for root in cache_roots(folder) if _can_write(root)), None)
    if root is None:
        both = " and ".join(str(root) for root in cache_roots(folder))
        raise UserError(f"{dataset.name}: can't write to {both}: choose a writable folder with --data-dir")
    place = root / dataset.name
    place.mkdir(exist_ok=True)
    with locked(place / "lock", lambda: log(f"{dataset.name}: another process is reading it, waiting")):
        cached = find_entry(dataset, folder, stamp)
        if cached is not None:
            return cached
        building = place / f".building-{uuid.uuid4().hex}"
        building.mkdir()
        try:
            count = dataset.train_size + dataset.validation_size + dataset.test_size
            log(f"{dataset.name}: reading {count:,} images; later runs use the arrays in {place}")
            manifest = _parse_into(building, dataset, folder, forms)
            if stamp_of(dataset, folder) != stamp:
                raise UserError(
                    f"{dataset.name}: files in {folder} changed while they were read: run the command again"
                )
            entry = place / _key(dataset, stamp)
            shutil.rmtree(entry, ignore_errors=True)  # a truncated entry: a complete one would have been used
            building.rename(entry)
        finally:
            shutil.rmtree(building, ignore_errors=True)
        for other in place.iterdir():  # entries of changed files, and half-built ones of killed processes
            with suppress(OSError):
                half_built = other.name.startswith(".building-") and time.time() - other.stat().st_mtime < 3600
                if other != entry and other.is_dir() and not half_built:
                    shutil.rmtree(other, ignore_errors=True)
        return entry, manifest


def _parse_into(building: Path, dataset: Dataset, folder: Path, forms: list[FileOnDisk]) -> dict[str, Any]:
    """Parse the files into .npy files in a folder; return the manifest, which is written last."""
    with unpacked(dataset, folder, forms, building / "unpacked") as members:
        arrays = READERS[dataset.format](dataset, members)
    _check(dataset, arrays)
    sha256 = _sha256_of_arrays(arrays)
    unofficial = [item for form in forms for item in form.unofficial]
    if dataset.sha256 not in (None, sha256):
        unofficial = [{"path": dataset.title, "found": sha256, "expected": str(dataset.sha256)}]
    for name, array in arrays.items():
        with (building / f"{name}.npy").open("wb") as file:
            np.save(file, array, allow_pickle=False)
            file.flush()
            os.fsync(file.fileno())
    facts = DataFacts(sha256=sha256, verified=not unofficial, provenance=provenance_of(dataset, folder, unofficial))
    manifest = {
        "facts": facts.model_dump(),
        "unofficial": unofficial,
        "md5s": {path: md5 for form in forms for path, md5 in form.md5s.items()},
        "arrays": {name: [array.dtype.str, list(array.shape)] for name, array in arrays.items()},
    }
    with (building / "manifest.json").open("w") as file:
        json.dump(manifest, file, indent=2)
        file.flush()
        os.fsync(file.fileno())
    return manifest


def _check(dataset: Dataset, arrays: Arrays) -> None:
    """Check parsed arrays against the data set's definition; raise UserError for the first mismatch."""
    for split, count in (("train", dataset.train_size + dataset.validation_size), ("test", dataset.test_size)):
        images, labels = arrays[f"{split}_images"], arrays[f"{split}_labels"]
        if images.shape != (count, *dataset.shape) or images.dtype != np.uint8:
            actual = f"{images.dtype} {images.shape}"
            raise UserError(f"{dataset.name}: {split} images are {actual}, expected uint8 {(count, *dataset.shape)}")
        if labels.shape != (count,) or labels.dtype != np.int64:
            raise UserError(f"{dataset.name}: {len(labels):,} {split} labels, expected {count:,}")
        if labels.min() < 0 or labels.max() >= dataset.classes:
            worst = int(labels.max() if labels.max() >= dataset.classes else labels.min())
            raise UserError(f"{dataset.name}: a {split} label is {worst}, expected 0 to {dataset.classes - 1}")
    if dataset.coarse_labels:
        _check_coarse(dataset, arrays)


def _check_coarse(dataset: Dataset, arrays: Arrays) -> None:
    """Check that each class belongs to one superclass, the same in both splits; raise UserError otherwise."""
    fine = np.concatenate([arrays["train_labels"], arrays["test_labels"]])
    coarse = np.concatenate([arrays[name] for name in COARSE])
    pairs = len(np.unique(fine * dataset.coarse_classes + coarse))
    if pairs != len(np.unique(fine)):
        raise UserError(f"{dataset.name}: {pairs} pairs of class and superclass, expected one superclass per class")


def _sha256_of_arrays(arrays: Arrays) -> str:
    """Return the sha256 of name, dtype, shape and bytes of each array, which does not depend on the file format."""
    digest = hashlib.sha256()
    for name, array in arrays.items():
        array = np.ascontiguousarray(array)
        digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        digest.update(array.data)
    return digest.hexdigest()


def _can_write(root: Path) -> bool:
    """Create a folder if there is none; return whether it is writable."""
    with suppress(OSError):
        root.mkdir(parents=True, exist_ok=True)
        return root.is_dir() and os.access(root, os.W_OK | os.X_OK)
    return False
