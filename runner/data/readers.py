"""Data sets: files -> uint8 arrays, checked, cached and mapped into memory.

Files lie where torchvision puts them. They are parsed once into a cache of .npy files, which every later call maps into
memory in a blink. Files whose md5 isn't the official one are refused, or marked as unverified on request. Whatever is
wrong with a file is one line (`UserError`), and nothing in a file is ever run. Light: torch is imported only to parse.
"""

import dataclasses
import fcntl
import gzip
import hashlib
import importlib.metadata
import io
import json
import math
import os
import pickle
import pickletools
import shutil
import tarfile
import time
import uuid
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, cast

import numpy as np

from benchmarks.datasets import DATASETS, Dataset, File, get_dataset
from benchmarks.errors import UserError
from benchmarks.records import DataFacts, sha256_of
from runner.jobs.paths import read_json

Log = Callable[[str], Any]
Arrays = dict[str, np.ndarray]

ARRAYS = ("train_images", "train_labels", "test_images", "test_labels")
COARSE = ("train_coarse", "test_coarse")  # where a data set has superclasses
VERSION = 1  # of the cache: raised whenever the same files would be parsed into something else
PROVENANCE = "PROVENANCE.txt"  # beside the files: a sentence on where they come from, shown with every number


@dataclass(frozen=True, eq=False)
class Data:
    """A data set, mapped into memory: images uint8 (N, C, H, W), labels int64 (N,).

    The last `validation_size` training images are set aside by the data set's own protocol and never trained on.
    `train_coarse` and `test_coarse` are the superclasses' labels, where there are any.

    The maps are private to the process (writing to one changes no file), so `torch.from_numpy` takes them as they are.
    `cache_folder` is where what is computed from the data may be kept, dropped with it; None where none is writable.
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


def data_folder(given: Path | None = None) -> Path:
    """Where the data lies: the flag, else variable REPROZOO_DATA, else ~/.cache/reprozoo.

    Raises UserError where that is a file. The folder need not exist.
    """
    chosen = given or os.environ.get("REPROZOO_DATA") or "~/.cache/reprozoo"
    try:
        folder = Path(chosen).expanduser().absolute()
    except RuntimeError as error:  # ~nobody
        raise UserError(f"data folder {chosen}: {error}") from error
    _refuse_file(folder)
    return folder


def load(dataset: str | Dataset, folder: Path, allow_unverified: bool = False, log: Log = print) -> Data:
    """Open a data set; the first call parses its files and caches the arrays, later ones map the cache into memory.

    Raises UserError, one line each, where files are missing, truncated, of wrong counts or shapes, or not the official
    ones; the last is overruled by `allow_unverified`, and then the facts say so.
    """
    dataset = get_dataset(dataset) if isinstance(dataset, str) else dataset
    with os_errors_in_words(dataset, folder):
        _refuse_file(folder)
        stamp = _stamp(dataset, folder)
        cached = _cached(dataset, folder, stamp)
        if cached is None:
            cached = _build(dataset, folder, stamp, allow_unverified, log)
        entry, manifest = cached
        if manifest["unofficial"] and not allow_unverified:
            raise _refusal(dataset, folder, manifest["unofficial"])
        kept = [entry, *(root / dataset.name / entry.name for root in _cache_roots(folder)[1:])]
        return Data(
            **_map_arrays(dataset, entry, manifest),
            validation_size=dataset.validation_size,
            facts=DataFacts(**manifest["facts"]),
            cache_folder=next((place for place in kept if _can_write(place, create=True)), None),
        )


# --- the files -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Found:
    """An official file on disk: itself (packed), or what it holds, unpacked."""

    file: File
    packed: bool
    md5s: dict[str, str]  # by path below the data folder
    unofficial: list[dict[str, str]]  # path, found, expected


def _paths(dataset: Dataset) -> list[str]:
    """Every path below the data folder that may be read for this data set, provenance included."""
    files = [path for file in dataset.files for path in (file.path, *(member for member, _ in file.unpacked))]
    return files + sorted({str(PurePosixPath(path).with_name(PROVENANCE)) for path in files})


def _stamp(dataset: Dataset, folder: Path) -> dict[str, Any]:
    """What the cache is trusted by: every file's size and time of change, or scikit-learn's version; None if absent."""
    if dataset.format == "sklearn":
        with suppress(importlib.metadata.PackageNotFoundError):
            return {"scikit-learn": importlib.metadata.version("scikit-learn")}
        return {"scikit-learn": None}
    stamp: dict[str, Any] = {}
    for path in _paths(dataset):
        stamp[path] = None
        with suppress(FileNotFoundError, NotADirectoryError):
            stat = (folder / path).stat()
            stamp[path] = [stat.st_size, stat.st_mtime_ns]
    return stamp


def _find(dataset: Dataset, file: File, folder: Path) -> _Found | None:
    """The first form of a file that is official, else the first that is there at all, else None."""
    forms = [(False, file.unpacked)] if file.unpacked else []
    present = []
    for packed, members in [*forms, (True, ((file.path, file.md5),))]:
        if all((folder / path).is_file() for path, _ in members):
            md5s = {path: md5_of(folder / path) for path, _ in members}
            wrong = [{"path": path, "found": md5s[path], "expected": md5} for path, md5 in members if md5s[path] != md5]
            present.append(_Found(file, packed, md5s, wrong))
            if not wrong:
                break
    return min(present, key=lambda found: bool(found.unofficial), default=None)


def _find_all(dataset: Dataset, folder: Path) -> list[_Found]:
    found = {file.path: _find(dataset, file, folder) for file in dataset.files}
    missing = [file for file in dataset.files if found[file.path] is None]
    if missing:
        wanted = [str(folder / file.path) for file in missing]
        some = next((path for path, _ in missing[0].unpacked if not (folder / path).is_file()), None)
        raise UserError(
            f"{dataset.name}: {len(missing)} of {len(dataset.files)} files missing: {', '.join(wanted)}"
            + (f" (or, unpacked, {folder / some}{' and others' * (len(missing[0].unpacked) > 1)})" if some else "")
            + f": run `runner data prepare --suite {dataset.name}`, put them there, or name another folder with --data-dir"
        )
    return [form for form in found.values() if form is not None]


def lacking(dataset: Dataset, folder: Path, allow_unverified: bool = False) -> list[File]:
    """The files that still have to be fetched: missing, or (unless those will do) not the official ones."""
    _refuse_file(folder)
    cached = _cached(dataset, folder, _stamp(dataset, folder))
    if cached is not None and (allow_unverified or not cached[1]["unofficial"]):
        return []
    found = {file: _find(dataset, file, folder) for file in dataset.files}
    return [file for file, form in found.items() if form is None or (form.unofficial and not allow_unverified)]


def md5_of(path: Path) -> str:
    """In hexadecimal; raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def amount(count: float) -> str:
    """Bytes in words, '171 MB': decimal, as disks and data sets are given."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= scale:
            return f"{count / scale:.3g} {unit}"
    return f"{count:.0f} bytes"


def one_line(text: str) -> str:
    """Words that someone else wrote, printable and on one line."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def nearest(path: Path) -> Path:
    """The path itself, or the nearest above it that is there."""
    return next(parent for parent in (path, *path.parents) if parent.exists())


def make_sure_of_room(folder: Path, needed: int, what: str) -> None:
    """Raises UserError where the disk of a folder (it need not exist yet) has less free than is needed."""
    free = shutil.disk_usage(nearest(folder)).free
    if needed > free:
        raise UserError(
            f"{what}: about {amount(needed)} needed in {folder}, {amount(free)} free: make room, or name another folder "
            "with --data-dir"
        )


def put_in_place(temporary: Path, target: Path) -> None:
    """Rename a checked file to its place; another one that lies there moves aside, to NAME.unofficial."""
    if target.exists():
        target.replace(target.with_name(f"{target.name}.unofficial"))
    temporary.replace(target)


def _refusal(dataset: Dataset, folder: Path, unofficial: list[dict[str, str]]) -> UserError:
    """Which files aren't the official ones, and what to do."""
    first, *others = unofficial
    if not dataset.files:
        what = f"scikit-learn's images aren't the expected ones (sha256 {first['found']}, expected {first['expected']})"
        mend = "install another version of scikit-learn"
    else:
        also = f"; nor are {', '.join(PurePosixPath(item['path']).name for item in others)}" if others else ""
        md5s = f"md5 {first['found']}, official {first['expected']}"
        what = f"{folder / first['path']} isn't the official file ({md5s}){also}"
        mend = f"run `runner data prepare --suite {dataset.name}` for the official ones"
    return UserError(f"{dataset.name}: {what}: {mend}, or accept them, marked, with --allow-unverified-data")


def _provenance(dataset: Dataset, folder: Path, unofficial: list[dict[str, str]]) -> str | None:
    """The sentence to show beside numbers from unofficial files: PROVENANCE.txt's, else which files they are."""
    if not unofficial:
        return None
    for path in {str(PurePosixPath(item["path"]).with_name(PROVENANCE)): None for item in unofficial}:
        with suppress(OSError), (folder / path).open("rb") as file:
            text = file.read(4096).decode(errors="replace")
            sentence = one_line(text)
            if sentence:
                return sentence[:300]
    names = ", ".join(PurePosixPath(item["path"]).name for item in unofficial)
    return f"Not the official files: {names} (another md5, origin unknown)."[:300]


@contextmanager
def os_errors_in_words(dataset: Dataset, folder: Path) -> Iterator[None]:
    """A full disk, a refused permission, a vanished file: one line naming the file."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise UserError(f"{dataset.name}: {error.filename or folder}: {reason[:1].lower()}{reason[1:]}") from error


def _refuse_file(folder: Path) -> None:
    with suppress(OSError):
        if folder.is_file():
            raise UserError(f"data folder {folder} is a file: --data-dir (or REPROZOO_DATA) names a folder")


# --- the cache -------------------------------------------------------------------------------------------------------
#
# <root>/<data set>/<key>/ holds {train,test}_{images,labels}.npy and manifest.json. The key is a digest of our facts
# and of the files' sizes and times: an entry is renamed into place whole, never changed, and dropped when an entry
# from changed files is built.


def _cache_roots(folder: Path) -> list[Path]:
    """Where cached arrays may lie: beside the data, else (a read-only folder) in the user's own cache."""
    roots = [folder / ".reprozoo"]
    with suppress(RuntimeError):  # a user without a home
        own = Path("~/.cache/reprozoo/.reprozoo").expanduser()
        roots.append(own / hashlib.sha256(os.fsencode(folder.resolve())).hexdigest()[:16])
    return roots


def _key(dataset: Dataset, stamp: dict[str, Any]) -> str:
    facts = {name: fact for name, fact in dataclasses.asdict(dataset).items() if name not in ("title", "mirrors")}
    return sha256_of([VERSION, facts, stamp])[:16]


def _cached(dataset: Dataset, folder: Path, stamp: dict[str, Any]) -> tuple[Path, dict[str, Any]] | None:
    """The cache entry of these very files and its manifest, if there is a whole one."""
    for root in _cache_roots(folder):
        entry = root / dataset.name / _key(dataset, stamp)
        manifest = read_json(entry / "manifest.json")
        if manifest is None:
            continue
        with suppress(
            OSError, ValueError, KeyError, TypeError, EOFError
        ):  # not as we write it, or arrays missing or torn
            DataFacts(**manifest["facts"])
            _map_arrays(dataset, entry, manifest)
            return entry, manifest
    return None


def _arrays_of(dataset: Dataset) -> tuple[str, ...]:
    return ARRAYS + COARSE if dataset.coarse_labels else ARRAYS


def _map_arrays(dataset: Dataset, entry: Path, manifest: dict[str, Any]) -> Arrays:
    """The entry's arrays as memory maps; raises ValueError where one isn't what the manifest says."""
    arrays = {}
    for name in _arrays_of(dataset):
        # 'c': copy-on-write. A read-only map would make torch.from_numpy warn.
        array = np.load(entry / f"{name}.npy", mmap_mode="c", allow_pickle=False)
        if [array.dtype.str, list(array.shape)] != manifest["arrays"][name]:
            raise ValueError(f"{name} is {array.dtype.str} {array.shape}")
        arrays[name] = array
    return arrays


def _build(
    dataset: Dataset, folder: Path, stamp: dict[str, Any], allow_unverified: bool, log: Log
) -> tuple[Path, dict[str, Any]]:
    """Check, parse and cache, once even where several processes ask at once; gives the entry and its manifest."""
    found = _find_all(dataset, folder)
    unofficial = [item for form in found for item in form.unofficial]
    if unofficial and not allow_unverified:
        raise _refusal(dataset, folder, unofficial)
    root = next((root for root in _cache_roots(folder) if _can_write(root, create=True)), None)
    if root is None:
        both = " nor ".join(str(root) for root in _cache_roots(folder))
        raise UserError(f"{dataset.name}: neither {both} can be written: name a writable folder with --data-dir")
    place = root / dataset.name
    place.mkdir(exist_ok=True)
    with locked(place / "lock", lambda: log(f"{dataset.name}: another process is reading it; waiting")):
        cached = _cached(dataset, folder, stamp)
        if cached is not None:
            return cached
        building = place / f".building-{uuid.uuid4().hex}"
        building.mkdir()
        try:
            count = dataset.train_size + dataset.validation_size + dataset.test_size
            log(f"{dataset.name}: reading {count:,} images, once; the arrays are kept in {place}")
            manifest = _parse_into(building, dataset, folder, found)
            if _stamp(dataset, folder) != stamp:
                raise UserError(f"{dataset.name}: files in {folder} changed while they were read: run it again")
            entry = place / _key(dataset, stamp)
            shutil.rmtree(entry, ignore_errors=True)  # a torn one, else it had been taken
            building.rename(entry)
        finally:
            shutil.rmtree(building, ignore_errors=True)
        for other in place.iterdir():  # from files that have changed since, or left half built by a kill
            with suppress(OSError):
                half_built = other.name.startswith(".building-") and time.time() - other.stat().st_mtime < 3600
                if other != entry and other.is_dir() and not half_built:
                    shutil.rmtree(other, ignore_errors=True)
        return entry, manifest


def _parse_into(building: Path, dataset: Dataset, folder: Path, found: list[_Found]) -> dict[str, Any]:
    """Parse the files into .npy files in a folder; gives the manifest, which is written last."""
    with _unpacked(dataset, folder, found, building / "unpacked") as members:
        arrays = READERS[dataset.format](dataset, members)
    _check(dataset, arrays)
    sha256 = _sha256_of_arrays(arrays)
    unofficial = [item for form in found for item in form.unofficial]
    if dataset.sha256 not in (None, sha256):
        unofficial = [{"path": dataset.title, "found": sha256, "expected": str(dataset.sha256)}]
    for name, array in arrays.items():
        with (building / f"{name}.npy").open("wb") as file:
            np.save(file, array, allow_pickle=False)
            file.flush()
            os.fsync(file.fileno())
    facts = DataFacts(sha256=sha256, verified=not unofficial, provenance=_provenance(dataset, folder, unofficial))
    manifest = {
        "facts": facts.model_dump(),
        "unofficial": unofficial,
        "md5s": {path: md5 for form in found for path, md5 in form.md5s.items()},
        "arrays": {name: [array.dtype.str, list(array.shape)] for name, array in arrays.items()},
    }
    with (building / "manifest.json").open("w") as file:
        json.dump(manifest, file, indent=2)
        file.flush()
        os.fsync(file.fileno())
    return manifest


def _check(dataset: Dataset, arrays: Arrays) -> None:
    """Hold parsed arrays to the facts; raises UserError naming the first that is off."""
    for split, count in (("train", dataset.train_size + dataset.validation_size), ("test", dataset.test_size)):
        images, labels = arrays[f"{split}_images"], arrays[f"{split}_labels"]
        if images.shape != (count, *dataset.shape) or images.dtype != np.uint8:
            found = f"{images.dtype} {images.shape}"
            raise UserError(f"{dataset.name}: {split} images are {found}, expected uint8 {(count, *dataset.shape)}")
        if labels.shape != (count,) or labels.dtype != np.int64:
            raise UserError(f"{dataset.name}: {len(labels):,} {split} labels, expected {count:,}")
        if labels.min() < 0 or labels.max() >= dataset.classes:
            worst = int(labels.max() if labels.max() >= dataset.classes else labels.min())
            raise UserError(f"{dataset.name}: a {split} label is {worst}, expected 0 to {dataset.classes - 1}")
    if dataset.coarse_labels:
        _check_coarse(dataset, arrays)


def _check_coarse(dataset: Dataset, arrays: Arrays) -> None:
    """Every class lies in one superclass, the same in both splits."""
    fine = np.concatenate([arrays["train_labels"], arrays["test_labels"]])
    coarse = np.concatenate([arrays[name] for name in COARSE])
    pairs = len(np.unique(fine * dataset.coarse_classes + coarse))
    if pairs != len(np.unique(fine)):
        raise UserError(
            f"{dataset.name}: {pairs} pairs of class and superclass, expected one superclass for each class"
        )


def _sha256_of_arrays(arrays: Arrays) -> str:
    """sha256 over name, dtype, shape and bytes of each array: which data, whatever files it came in."""
    digest = hashlib.sha256()
    for name, array in arrays.items():
        array = np.ascontiguousarray(array)
        digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        digest.update(array.data)
    return digest.hexdigest()


@contextmanager
def locked(path: Path, if_busy: Callable[[], Any] = lambda: None) -> Iterator[None]:
    """Hold a file's exclusive lock (flock), waiting for it; `if_busy` is called once before a wait.

    Where the file system has no locks, go on without: what is built under one is renamed into place whole, so two
    builders only waste time.
    """
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if_busy()
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError:
            pass
        yield


@contextmanager
def sole_writer(dataset: Dataset, folder: Path, if_busy: Callable[[], Any]) -> Iterator[None]:
    """Within: no other process downloads or imports into the data folder. `dataset` is named where the disk refuses."""
    lock = folder / ".reprozoo" / "download.lock"
    with os_errors_in_words(dataset, folder):
        lock.parent.mkdir(parents=True, exist_ok=True)
    with locked(lock, if_busy):
        yield


def _can_write(root: Path, create: bool = False) -> bool:
    with suppress(OSError):
        if create:
            root.mkdir(parents=True, exist_ok=True)
        return root.is_dir() and os.access(root, os.W_OK | os.X_OK)
    return False


# --- unpacking -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Member:
    """One file to parse: where it lies, unpacked, and what to call it in an error."""

    path: Path
    shown: str


def most_bytes(dataset: Dataset) -> int:
    """No unpacked file of a data set is larger: twice its larger split's pixels, and 1 MiB."""
    return 2 * max(dataset.train_size, dataset.test_size) * math.prod(dataset.shape) + 2**20


@contextmanager
def _unpacked(dataset: Dataset, folder: Path, found: list[_Found], scratch: Path) -> Iterator[dict[str, Member]]:
    """Every file to parse by its path below the data folder; packed ones are unpacked into `scratch` for the while.

    File names come from our own facts, never from an archive.
    """
    members: dict[str, Member] = {}
    for form in found:
        file, source = form.file, folder / form.file.path
        if not form.packed:
            members |= {path: Member(folder / path, str(folder / path)) for path, _ in file.unpacked}
        elif not file.unpacked:
            members[file.path] = Member(source, str(source))
        else:
            targets = {path: scratch / path for path, _ in file.unpacked}
            for target in targets.values():
                target.parent.mkdir(parents=True, exist_ok=True)
            unpack = _untar if source.name.endswith(".tar.gz") else _gunzip
            try:
                unpack(source, targets, most_bytes(dataset))
            except (EOFError, ValueError, gzip.BadGzipFile, tarfile.TarError, zlib.error) as error:
                reason = f"can't be unpacked ({detail(error)})"
                raise UserError(f"{source}: {reason}: truncated, or another file") from error
            members |= {path: Member(target, f"{source} ({path})") for path, target in targets.items()}
    for member in members.values():
        size = member.path.stat().st_size
        if size > most_bytes(dataset):
            raise UserError(f"{member.shown}: {size:,} bytes, more than {dataset.title} can have: another file")
    yield members
    shutil.rmtree(scratch, ignore_errors=True)


class Bounded:
    """A file to read that ends in an error after `limit` bytes: a small archive may unpack into anything."""

    def __init__(self, file: BinaryIO, limit: int) -> None:
        self.file, self.left = file, limit

    def read(self, size: int = -1) -> bytes:
        """Like any file's; raises ValueError past the limit."""
        data = self.file.read(self.left + 1 if size < 0 else min(size, self.left + 1))
        self.left -= len(data)
        if self.left < 0:
            raise ValueError("it unpacks into more bytes than the data set has")
        return data


def _gunzip(source: Path, targets: dict[str, Path], most_bytes: int) -> None:
    (target,) = targets.values()
    with gzip.open(source) as file, target.open("wb") as out:
        shutil.copyfileobj(cast(BinaryIO, Bounded(cast(BinaryIO, file), most_bytes)), out)


def _untar(source: Path, targets: dict[str, Path], most_bytes: int) -> None:
    """Take the wanted files out of an archive; raises ValueError where it tries to leave its folder or lacks one."""
    with gzip.open(source) as file:
        left = dict(targets)
        for name, content in tar_members(cast(BinaryIO, file), (len(targets) + 1) * most_bytes):
            if name in left:
                with left.pop(name).open("wb") as out:
                    shutil.copyfileobj(content, out)
    if left:
        raise ValueError(f"it lacks {', '.join(left)}")


def name_inside(name: str) -> PurePosixPath:
    """A name in an archive; raises ValueError where it leaves the archive's own folder."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts:
        raise ValueError(f"it holds {name[:100]!r}, outside of its own folder")
    return path


def tar_members(file: BinaryIO, most_bytes: int) -> Iterator[tuple[str, BinaryIO]]:
    """An archive's plain files by name, in its order, each to be read before the next; nothing is extracted.

    Raises ValueError where a name leaves the archive's own folder, or it holds more than `most_bytes` in all; links and
    devices are passed over.
    """
    bounded = cast(Any, Bounded(file, most_bytes))
    with tarfile.open(fileobj=bounded, mode="r|", tarinfo=_TarInfo) as archive:
        for member in archive:
            name = name_inside(member.name)
            content = archive.extractfile(member) if member.isfile() else None
            if content is not None:
                yield str(name), cast(BinaryIO, content)
        while bounded.read(2**18):  # to the very end, where a .gz has its checksum
            pass


class _TarInfo(tarfile.TarInfo):
    """Refuses headers without measure: tarfile reads a long name, or PAX's words, into memory as long as they say."""

    def _proc_member(self, archive: tarfile.TarFile) -> Any:
        if not self.isreg() and self.size > 2**20:
            raise ValueError(f"it has a header of {self.size:,} bytes")
        return super()._proc_member(archive)  # type: ignore[misc]


def detail(error: BaseException) -> str:
    """An exception in some words, on one line."""
    return (one_line(str(error)) or type(error).__name__)[:160]


# --- readers ---------------------------------------------------------------------------------------------------------


def _read_sklearn(dataset: Dataset, members: dict[str, Member]) -> Arrays:
    """The digits inside scikit-learn. Their grey values 0 to 16 are stored times 15 (0 to 240), so none is rounded."""
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise UserError(
            f"{dataset.name}: these images ship inside scikit-learn, which isn't installed: pip install scikit-learn"
        ) from error
    digits = load_digits()
    images = (digits.images * 15).astype(np.uint8)[:, None]
    labels = digits.target.astype(np.int64)
    train, test = slice(dataset.train_size), slice(-dataset.test_size, None)
    return dict(zip(ARRAYS, (images[train], labels[train], images[test], labels[test]), strict=True))


def _read_idx(dataset: Dataset, members: dict[str, Member]) -> Arrays:
    """MNIST's four idx files."""
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
    """One idx file of unsigned bytes, by torchvision's reader; raises UserError where it isn't one of that shape."""
    from torchvision.datasets.mnist import read_sn3_pascalvincent_tensor

    try:
        array = read_sn3_pascalvincent_tensor(str(member.path)).numpy()
    except Exception as error:  # the reader asserts, indexes and views: whatever fails, it isn't an idx file
        reason = f"not a whole idx file ({detail(error)})"
        raise UserError(f"{member.shown}: {reason}: truncated, or another file") from error
    if array.dtype != np.uint8 or array.shape != shape:
        raise UserError(f"{member.shown}: holds {array.dtype} {array.shape}, expected uint8 {shape}")
    return array


def _read_cifar(dataset: Dataset, members: dict[str, Member]) -> Arrays:
    """CIFAR's pickled batches, in the order of the facts; those whose name starts with 'test' are the test set."""
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
    return {name: arrays[name] for name in _arrays_of(dataset)}


def read_cifar_batch(member: Member, dataset: Dataset) -> tuple[np.ndarray, ...]:
    """One batch: images uint8 (n, C, H, W), stored as channel planes in row-major order, and labels int64 (n,).

    Where the data set has superclasses, their labels int64 (n,) follow. Raises UserError where the file isn't a batch, or
    asks for anything but numpy arrays.
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
        wanted = [(dataset.labels, dataset.classes)]
        if dataset.coarse_labels:
            wanted.append((dataset.coarse_labels, dataset.coarse_classes))
        labels = [_cifar_labels(batch, key, classes, len(images)) for key, classes in wanted]
        return images.reshape(-1, *dataset.shape), *labels
    except Exception as error:  # arbitrary bytes: whatever fails, the file isn't a batch
        raise UserError(f"{member.shown}: not a whole CIFAR batch ({detail(error)})") from error


def _cifar_labels(batch: dict[str, Any], key: str, classes: int, count: int) -> np.ndarray:
    labels, one = batch.get(key), key.replace("_", " ").removesuffix("s")
    if not isinstance(labels, list):
        raise ValueError(f"it lacks a list '{key}'")
    if len(labels) != count:
        raise ValueError(f"{count:,} images, but {len(labels):,} {one}s")
    for label in labels:
        if type(label) is not int or not 0 <= label < classes:
            found = label if type(label) is int else type(label).__name__
            raise ValueError(f"a {one} is {found}, expected 0 to {classes - 1}")
    return np.array(labels, dtype=np.int64)


def _read_mat(dataset: Dataset, members: dict[str, Member]) -> Arrays:
    """SVHN's .mat files: all but the test file's images, and behind them those set aside for validation.

    Which images these are is drawn as pylearn2's `splitted_train` draws them (datasets/svhn.py): seed 322, the digits 1 to
    9 and then 0, file by file, so that they are the ones that maxout's and NiN's figures leave out. Takes 4.3 GB at its peak
    for the 630,420 images (measured), most of it the images themselves.
    """
    random = np.random.RandomState(322)
    set_aside = dict(dataset.validation)
    arrays: Arrays = {}
    read = []
    for path, member in members.items():
        images, labels = read_mat(member, dataset)
        if PurePosixPath(path).name.startswith("test"):
            arrays |= {"test_images": np.ascontiguousarray(images), "test_labels": labels}
            continue
        aside = np.zeros(len(labels), dtype=bool)
        for digit in (*range(1, dataset.classes), 0):
            indices = np.flatnonzero(labels == digit)
            random.shuffle(indices)
            aside[indices[: set_aside.get(path, 0)]] = True
        read.append((images, labels, aside))
    count = sum(len(labels) for _, labels, _ in read)
    arrays["train_images"] = np.empty((count, *dataset.shape), dtype=np.uint8)
    arrays["train_labels"] = np.empty(count, dtype=np.int64)
    start = 0
    for wanted in (False, True):
        for images, labels, aside in read:
            for block in np.array_split(np.flatnonzero(aside == wanted), 1 + len(labels) // 20_000):
                stop = start + len(block)
                arrays["train_images"][start:stop] = images[block]
                arrays["train_labels"][start:stop] = labels[block]
                start = stop
    return {name: arrays[name] for name in ARRAYS}


def read_mat(member: Member, dataset: Dataset) -> tuple[np.ndarray, np.ndarray]:
    """One .mat file of SVHN: images uint8 (n, C, H, W), a view, and labels int64 (n,), where the file's 10 is the digit 0.

    Raises UserError where the file isn't one: its variables' shapes are looked at before their content is read.
    """
    import scipy.io

    channels, height, width = dataset.shape
    try:
        declared = {name: shape for name, shape, _ in scipy.io.whosmat(str(member.path))}
        most = dataset.train_size + dataset.validation_size + dataset.test_size
        shape = declared.get("X", ())
        if len(shape) != 4 or shape[:3] != (height, width, channels) or shape[3] > most:
            raise ValueError(f"'X' has the shape {shape or 'of nothing'}, expected {(height, width, channels, 'n')}")
        if declared.get("y") not in ((shape[3], 1), (1, shape[3])):
            raise ValueError(f"{shape[3]:,} images, but labels of the shape {declared.get('y')}")
        content = scipy.io.loadmat(str(member.path), variable_names=("X", "y"))
        images, labels = content["X"], content["y"].reshape(-1)
        if images.dtype != np.uint8 or images.shape != shape:
            raise ValueError(f"'X' holds {images.dtype}, expected uint8")
        if labels.dtype.kind not in "ui" or not np.isin(labels, np.arange(1, dataset.classes + 1)).all():
            raise ValueError(f"a label isn't one of 1 to {dataset.classes} (which stands for 0)")
        return images.transpose(3, 2, 0, 1), labels.astype(np.int64) % dataset.classes
    except MemoryError:
        raise
    except Exception as error:  # arbitrary bytes: whatever fails, the file isn't one of SVHN's
        raise UserError(f"{member.shown}: not a whole .mat file of SVHN ({detail(error)})") from error


class _Array:
    """Stands in for numpy.ndarray while unpickling: keeps what the file says, runs nothing of numpy's."""

    def __init__(self, *arguments: Any) -> None:
        self.state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def value(self) -> np.ndarray:
        """The array; raises ValueError (or TypeError) where the file's words don't make one of bytes."""
        *_, shape, dtype, fortran, raw = self.state
        if not isinstance(dtype, _Dtype) or dtype.code not in ("u1", "|u1", "uint8", "B"):
            raise ValueError("an array isn't of unsigned bytes")
        raw = raw.encode("latin1") if isinstance(raw, str) else raw  # Python 2 wrote its bytes as a str
        return np.frombuffer(raw, dtype=np.uint8).reshape(shape, order="F" if fortran else "C")


class _Dtype:
    """Stands in for numpy.dtype: only its first argument counts."""

    def __init__(self, code: Any, *arguments: Any) -> None:
        self.code = code

    def __setstate__(self, state: Any) -> None:
        pass


def _from_buffer(raw: Any, dtype: Any, shape: Any, order: Any) -> _Array:
    """Stands in for numpy's function of pickle protocol 5."""
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
    """Knows numpy's arrays under their old and new names, and nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise ValueError(f"it asks for {module}.{name}"[:100] + ", which no data file needs")
        return _ALLOWED[module, name]


def unpickle_arrays(content: bytes) -> Any:
    """Unpickle plain values and arrays of bytes (as `_Array`); raises an exception for whatever else a pickle wants."""
    for opcode, argument, _ in pickletools.genops(content):  # also makes sure that every length is that of real bytes
        if "PUT" in opcode.name and cast(int, argument) > len(content):
            raise ValueError("a memo index out of all proportion")  # the C unpickler would make room for it
    return _ArrayUnpickler(io.BytesIO(content), encoding="latin1").load()


READERS: dict[str, Callable[[Dataset, dict[str, Member]], Arrays]] = {
    "sklearn": _read_sklearn,
    "idx": _read_idx,
    "cifar": _read_cifar,
    "mat": _read_mat,
}


# --- status -----------------------------------------------------------------------------------------------------------


def status(folder: Path) -> dict[str, Any]:
    """What is there, for `runner data status`.

    Keys: folder, free_bytes, datasets, others: [path] (files of the folder that nothing reads). Of each data set: name,
    title, present (everything needed is there), verified (None while unknown), provenance, cached, cache_bytes, sha256
    (of the parsed arrays, once cached), files: [{path, bytes, md5, official, changed}], missing: [path], and parts:
    [{path, bytes, of, changed}], downloads that aren't through. Times are seconds since 1970; `of` is None while unknown.
    md5 sums come from the cache where the files haven't changed, else they are computed.
    """
    _refuse_file(folder)
    return {
        "folder": str(folder),
        "free_bytes": shutil.disk_usage(nearest(folder)).free,
        "datasets": [_status(dataset, folder) for dataset in DATASETS.values()],
        "others": _others(folder),
    }


def _status(dataset: Dataset, folder: Path) -> dict[str, Any]:
    with os_errors_in_words(dataset, folder):
        stamp = _stamp(dataset, folder)
        cached = _cached(dataset, folder, stamp)
        facts = cached[1]["facts"] if cached else {"sha256": None, "verified": None, "provenance": None}
        if cached:
            md5s, missing, unofficial = cached[1]["md5s"], [], cached[1]["unofficial"]
        else:
            found = {file.path: _find(dataset, file, folder) for file in dataset.files}
            forms = [form for form in found.values() if form is not None]
            missing = [path for path, form in found.items() if form is None]
            some = [m for file in dataset.files if file.path in missing for m in file.unpacked if stamp[m[0]]]
            md5s = {path: md5 for form in forms for path, md5 in form.md5s.items()}
            md5s |= {path: md5_of(folder / path) for path, _ in some}
            unofficial = [item for form in forms for item in form.unofficial]
            unofficial += [{"path": path, "found": md5s[path], "expected": m} for path, m in some if md5s[path] != m]
            if dataset.files and not missing:
                facts |= {"verified": not unofficial, "provenance": _provenance(dataset, folder, unofficial)}
        wrong = {item["path"] for item in unofficial}
        places = [root / dataset.name for root in _cache_roots(folder)]
        return {
            "name": dataset.name,
            "title": dataset.title,
            "present": not missing if dataset.files else stamp["scikit-learn"] is not None,
            **facts,
            "cached": cached is not None,
            "cache_bytes": sum(f.stat().st_size for place in places for f in place.rglob("*") if f.is_file()),
            "files": [
                {**_size_and_time(folder, path), "md5": md5, "official": path not in wrong}
                for path, md5 in md5s.items()
            ],
            "missing": missing,
            "parts": [
                {**_size_and_time(folder, f"{file.path}.part"), "of": file.size}
                for file in dataset.files
                if (folder / f"{file.path}.part").is_file()
            ],
        }


def _size_and_time(folder: Path, path: str) -> dict[str, Any]:
    stat = (folder / path).stat()
    return {"path": path, "bytes": stat.st_size, "changed": stat.st_mtime}


def _others(folder: Path) -> list[str]:
    """Files in the folder, or where a data set's files lie, that nothing reads: label names, what moved aside, strays."""
    known = {path for dataset in DATASETS.values() for path in _paths(dataset)}
    known |= {
        f"{file.path}.part{end}" for dataset in DATASETS.values() for file in dataset.files for end in ("", ".json")
    }
    found: set[str] = set()
    for place in {folder, *((folder / path).parent for path in known)}:
        with suppress(OSError):
            found |= {str(path.relative_to(folder)) for path in place.iterdir() if path.is_file()}
    return sorted(found - known)


def show_status(found: dict[str, Any], console: Any) -> None:
    """Print what `status` found as a table, and below it what it can't say."""
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for heading in ("data set", "verified", "size", "digest", "changed"):
        table.add_column(heading, justify="right" if heading == "size" else "left", no_wrap=True)
    for row in found["datasets"]:
        if row["files"] or row["missing"]:
            counts = ((len(row["files"]), "here"), (len(row["missing"]), "missing"))
            what = ", ".join(f"{count} {where}" for count, where in counts if count)
        else:
            what = "inside scikit-learn" if row["present"] else "scikit-learn isn't installed"
        verified = {True: "yes", False: "no", None: "-"}[row["verified"]]
        digest = f"sha256 {row['sha256'][:12]}" if row["sha256"] else ""
        size = sum(file["bytes"] for file in row["files"])
        table.add_row(f"{row['name']}: {what}", verified, amount(size) if size else "-", digest)
        for file in row["files"]:
            verdict = "official" if file["official"] else "another"
            table.add_row(
                f"  {escape(PurePosixPath(file['path']).name)}",
                verdict,
                amount(file["bytes"]),
                f"md5 {file['md5'][:12]}",
                _ago(file["changed"]),
            )
        for part in row["parts"]:
            share = f"{100 * part['bytes'] / part['of']:.0f} % here" if part["of"] else "in part"
            table.add_row(
                f"  {escape(PurePosixPath(part['path']).name)}", share, amount(part["bytes"]), "", _ago(part["changed"])
            )
    console.print(table)
    for row in found["datasets"]:
        if row["provenance"]:
            console.print(f"{row['name']}: {escape(row['provenance'])}", highlight=False)
    if found["others"]:
        some = ", ".join(found["others"][:5]) + (", ..." if len(found["others"]) > 5 else "")
        console.print(f"Nothing reads {len(found['others'])} other: {escape(some)}", highlight=False)
    cached = sum(row["cache_bytes"] for row in found["datasets"])
    room = f"caches {amount(cached)}, {amount(found['free_bytes'])} free"
    console.print(f"{escape(found['folder'])}: {room}", highlight=False)


def _ago(when: float) -> str:
    """'3 days ago'."""
    seconds = max(0.0, time.time() - when)
    for unit, scale in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if seconds >= scale:
            count = int(seconds // scale)
            return f"{count} {unit}{'s' * (count > 1)} ago"
    return "just now"
