"""Find the files of a data set in the data folder and check whether they are the official ones.

Files are at the paths that torchvision uses. Does not import torch.
"""

import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from benchmarks.datasets import Dataset, File
from benchmarks.errors import UserError
from runner.locks import locked
from runner.text import amount, one_line

PROVENANCE = "PROVENANCE.txt"  # next to the files: a sentence on their origin, shown with every number


def data_folder(path: Path | None = None) -> Path:
    """Return the data folder: the flag, else the variable REPROZOO_DATA, else ~/.cache/reprozoo.

    The folder need not exist. Raise UserError if it is a file.
    """
    location = path or os.environ.get("REPROZOO_DATA") or "~/.cache/reprozoo"
    try:
        folder = Path(location).expanduser().absolute()
    except RuntimeError as error:  # ~nobody
        raise UserError(f"data folder {location}: {error}") from error
    refuse_file(folder)
    return folder


# --- the files -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class FileOnDisk:
    """An official file on disk, either packed or as its unpacked contents."""

    file: File
    packed: bool
    md5s: dict[str, str]  # by path below the data folder
    unofficial: list[dict[str, str]]  # path, found, expected


def paths_of(dataset: Dataset) -> list[str]:
    """Return every path below the data folder that may be read for this data set, including PROVENANCE.txt."""
    files = [path for file in dataset.files for path in (file.path, *(member for member, _ in file.unpacked))]
    return files + sorted({str(PurePosixPath(path).with_name(PROVENANCE)) for path in files})


def find_file(dataset: Dataset, file: File, folder: Path) -> FileOnDisk | None:
    """Return the first official form of a file (unpacked, then packed), else the first form present, else None."""
    forms = [(False, file.unpacked)] if file.unpacked else []
    present = []
    for packed, members in [*forms, (True, ((file.path, file.md5),))]:
        if all((folder / path).is_file() for path, _ in members):
            md5s = {path: md5_of(folder / path) for path, _ in members}
            wrong = [{"path": path, "found": md5s[path], "expected": md5} for path, md5 in members if md5s[path] != md5]
            present.append(FileOnDisk(file, packed, md5s, wrong))
            if not wrong:
                break
    return min(present, key=lambda form: bool(form.unofficial), default=None)


def find_all(dataset: Dataset, folder: Path) -> list[FileOnDisk]:
    """Return every file of a data set; raise UserError that names the missing ones."""
    forms = {file.path: find_file(dataset, file, folder) for file in dataset.files}
    missing = [file for file in dataset.files if forms[file.path] is None]
    if missing:
        paths = [str(folder / file.path) for file in missing]
        some = next((path for path, _ in missing[0].unpacked if not (folder / path).is_file()), None)
        raise UserError(
            f"{dataset.name}: {len(missing)} of {len(dataset.files)} files missing: {', '.join(paths)}"
            + (f" (or, unpacked, {folder / some}{' and others' * (len(missing[0].unpacked) > 1)})" if some else "")
            + f": run `runner data prepare --dataset {dataset.name}`, put them there, or choose another folder with --data-dir"
        )
    return [form for form in forms.values() if form is not None]


def md5_of(path: Path) -> str:
    """Return the md5 of a file in hexadecimal; raise OSError if it cannot be read."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def refusal(dataset: Dataset, folder: Path, unofficial: list[dict[str, str]]) -> UserError:
    """Return the error that names the unofficial files and what to do about them."""
    first, *others = unofficial
    if not dataset.files:
        what = (
            f"scikit-learn's images are not the expected ones (sha256 {first['found']}, expected {first['expected']})"
        )
        fix = "install another version of scikit-learn"
    else:
        also = f"; nor are {', '.join(PurePosixPath(item['path']).name for item in others)}" if others else ""
        md5s = f"md5 {first['found']}, official {first['expected']}"
        what = f"{folder / first['path']} is not the official file ({md5s}){also}"
        fix = f"get the official ones with `runner data prepare --dataset {dataset.name}`"
    return UserError(f"{dataset.name}: {what}: {fix}, or accept and mark them with --allow-unverified-data")


def provenance_of(dataset: Dataset, folder: Path, unofficial: list[dict[str, str]]) -> str | None:
    """Return the sentence to show with numbers from unofficial files, or None if all files are official.

    It is the text of PROVENANCE.txt, else a list of the unofficial files; at most 300 characters.
    """
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


# --- the disk --------------------------------------------------------------------------------------------------------


def nearest(path: Path) -> Path:
    """Return the path itself or its nearest existing parent."""
    return next(parent for parent in (path, *path.parents) if parent.exists())


def check_free_space(folder: Path, needed: int, what: str) -> None:
    """Raise UserError if the disk of a folder has fewer than `needed` bytes free. The folder need not exist."""
    free = shutil.disk_usage(nearest(folder)).free
    if needed > free:
        raise UserError(
            f"{what}: needs about {amount(needed)} in {folder}, which has {amount(free)} free: free space, or choose "
            "another folder with --data-dir"
        )


def install_file(temporary: Path, target: Path) -> None:
    """Rename a checked file to its final path. An existing file there is renamed to NAME.unofficial."""
    if target.exists():
        target.replace(target.with_name(f"{target.name}.unofficial"))
    temporary.replace(target)


@contextmanager
def sole_writer(dataset: Dataset, folder: Path, if_busy: Callable[[], Any]) -> Iterator[None]:
    """Hold the lock that allows one process at a time to download or import into the data folder.

    Calls `if_busy` before waiting. `dataset` is named in disk errors.
    """
    lock = folder / ".reprozoo" / "download.lock"
    with os_errors_as_user_errors(dataset, folder):
        lock.parent.mkdir(parents=True, exist_ok=True)
    with locked(lock, if_busy):
        yield


@contextmanager
def os_errors_as_user_errors(dataset: Dataset, folder: Path) -> Iterator[None]:
    """Convert an OSError into a UserError of one line that names the file."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise UserError(f"{dataset.name}: {error.filename or folder}: {reason[:1].lower()}{reason[1:]}") from error


def refuse_file(folder: Path) -> None:
    """Raise UserError if the data folder is a file."""
    with suppress(OSError):
        if folder.is_file():
            raise UserError(f"data folder {folder} is a file, expected a folder: set --data-dir or REPROZOO_DATA")
