"""Unpack gzip and tar archives with size limits, because a small archive can unpack into any number of bytes.

File names come from the data set's definition, never from an archive.
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
    """One unpacked file to parse: its path, and its name in error messages."""

    path: Path
    shown: str


def most_bytes(dataset: Dataset) -> int:
    """Return the size limit of any unpacked file of a data set, in bytes.

    The limit is twice the pixels of the larger split, plus 1 MiB.
    """
    return 2 * max(dataset.train_size, dataset.test_size) * math.prod(dataset.shape) + 2**20


@contextmanager
def unpacked(dataset: Dataset, folder: Path, forms: list[FileOnDisk], scratch: Path) -> Iterator[dict[str, Member]]:
    """Yield every file to parse, by its path below the data folder.

    Packed files are unpacked into `scratch`, which is removed afterwards. File names come from the data set's definition,
    never from an archive. Raise UserError for a file that cannot be unpacked or is too large.
    """
    members: dict[str, Member] = {}
    for form in forms:
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
                raise UserError(f"{source}: {reason}: the file is truncated or not the expected one") from error
            members |= {path: Member(target, f"{source} ({path})") for path, target in targets.items()}
    for member in members.values():
        size = member.path.stat().st_size
        if size > most_bytes(dataset):
            raise UserError(
                f"{member.shown}: {size:,} bytes, more than {dataset.title} can have: not the expected file"
            )
    yield members
    shutil.rmtree(scratch, ignore_errors=True)


class Bounded:
    """A readable file that raises ValueError after `limit` bytes."""

    def __init__(self, file: BinaryIO, limit: int) -> None:
        self.file, self.left = file, limit

    def read(self, size: int = -1) -> bytes:
        """Read up to `size` bytes; raise ValueError past the limit."""
        data = self.file.read(self.left + 1 if size < 0 else min(size, self.left + 1))
        self.left -= len(data)
        if self.left < 0:
            raise ValueError("it unpacks to more bytes than the data set has")
        return data


def _gunzip(source: Path, targets: dict[str, Path], most_bytes: int) -> None:
    (target,) = targets.values()
    with gzip.open(source) as file, target.open("wb") as out:
        shutil.copyfileobj(cast(BinaryIO, Bounded(cast(BinaryIO, file), most_bytes)), out)


def _untar(source: Path, targets: dict[str, Path], most_bytes: int) -> None:
    """Unpack the files in `targets`; raise ValueError if one is missing or a name leaves the archive's folder."""
    with gzip.open(source) as file:
        left = dict(targets)
        for name, content in tar_members(cast(BinaryIO, file), (len(targets) + 1) * most_bytes):
            if name in left:
                with left.pop(name).open("wb") as out:
                    shutil.copyfileobj(content, out)
    if left:
        raise ValueError(f"it lacks {', '.join(left)}")


def name_inside(name: str) -> PurePosixPath:
    """Return a name from an archive as a path; raise ValueError if it leaves the archive's own folder."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts:
        raise ValueError(f"it holds {name[:100]!r}, outside of its own folder")
    return path


def tar_members(file: BinaryIO, most_bytes: int) -> Iterator[tuple[str, BinaryIO]]:
    """Yield the name and content of each plain file of an archive, in order, without extracting anything.

    Read each content before asking for the next. Links and devices are skipped. Raise ValueError if a name leaves the
    archive's own folder or the archive holds more than `most_bytes` in all.
    """
    bounded = cast(Any, Bounded(file, most_bytes))
    with tarfile.open(fileobj=bounded, mode="r|", tarinfo=_TarInfo) as archive:
        for member in archive:
            name = name_inside(member.name)
            content = archive.extractfile(member) if member.isfile() else None
            if content is not None:
                yield str(name), cast(BinaryIO, content)
        while bounded.read(2**18):  # to the end, where a .gz has its checksum
            pass


class _TarInfo(tarfile.TarInfo):
    """Refuse oversized headers: tarfile reads long names and PAX headers into memory at their declared size."""

    def _proc_member(self, archive: tarfile.TarFile) -> Any:
        if not self.isreg() and self.size > 2**20:
            raise ValueError(f"it has a header of {self.size:,} bytes")
        return super()._proc_member(archive)  # type: ignore[misc]


def detail(error: BaseException) -> str:
    """Return an exception's message on one line, at most 160 characters."""
    return (one_line(str(error)) or type(error).__name__)[:160]
