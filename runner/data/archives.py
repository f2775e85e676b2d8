"""Unpack gzip and tar archives, within bounds: a small archive may unpack into anything.

File names come from our own facts, never from an archive.
"""

import gzip
import math
import shutil
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, cast

from benchmarks.datasets import Dataset
from benchmarks.errors import UserError
from runner.data.folder import FileOnDisk
from runner.text import one_line


@dataclass(frozen=True)
class Member:
    """One file to parse: where it lies, unpacked, and what to call it in an error."""

    path: Path
    shown: str


def most_bytes(dataset: Dataset) -> int:
    """No unpacked file of a data set is larger: twice its larger split's pixels, and 1 MiB."""
    return 2 * max(dataset.train_size, dataset.test_size) * math.prod(dataset.shape) + 2**20


@contextmanager
def unpacked(dataset: Dataset, folder: Path, found: list[FileOnDisk], scratch: Path) -> Iterator[dict[str, Member]]:
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
