"""Import official files from what a user already has, for `runner data import PATH...`.

Files are recognised by their bytes (md5 and size), not by name: a folder of torchvision or keras, an archive, a renamed
file. Archives are read as streams, each plain file in them at most once and up to a size limit. A name in an archive is
never used as a path. Nothing is written until every path has turned out to hold an official file.
"""

import gzip
import hashlib
import itertools
import os
import secrets
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, cast

import numpy as np

from benchmarks.datasets import DATASETS, Dataset, File
from benchmarks.errors import UserError
from benchmarks.plural import number
from runner.data.archives import Bounded, detail, most_bytes, name_inside
from runner.data.archives import tar_members as members_of_tar
from runner.data.cache import missing_files
from runner.data.folder import check_free_space, install_file, os_errors_as_user_errors, sole_writer

Log = Callable[[str], Any]

AS_THEY_ARE = "To train on such files anyway, marked in every record: --data-dir FOLDER --allow-unverified-data"
MAX_FILES = 10_000  # below the given paths: a folder with more is not a folder of data sets
# What a damaged, encrypted or mislabelled archive may raise when it is read.
DAMAGED = (EOFError, ValueError, OSError, RuntimeError, zlib.error, tarfile.TarError, zipfile.BadZipFile)


@dataclass(frozen=True)
class OfficialFile:
    """One official file, packed or unpacked, and its path below the data folder."""

    dataset: Dataset
    file: File
    path: str
    md5: str

    @property
    def packed(self) -> bool:
        return self.path == self.file.path


@dataclass(frozen=True)
class Content:
    """The bytes of one file of the user, or of one file inside an archive."""

    source: Path
    member: str | None
    number: int  # of the file inside the archive, because a name may occur twice
    bytes: int
    md5: str

    def __str__(self) -> str:
        return str(self.source) + (f" ({self.member})" if self.member else "")


def import_files(
    paths: Sequence[Path],
    folder: Path,
    link: bool = False,
    log: Log = print,
    datasets: Iterable[Dataset] | None = None,
) -> None:
    """Copy the official files found at the paths into the data folder, and log what each one is.

    Official files that are already there are kept; unofficial files of the same names are renamed. With `link`, whole files
    become hard links where the file system allows it. Raise UserError, before anything is written, if a path holds no
    official file.
    """
    datasets = tuple(DATASETS.values() if datasets is None else datasets)
    known = _known(datasets)
    contents: dict[str, Content] = {}  # by official path
    refused: list[Path] = []
    for path in paths:
        for content in _official_below(path, known, log, refused):
            contents.setdefault(known[content.md5].path, content)
    missing_items = _to_import(datasets, folder, [item for item in known.values() if item.path in contents], log)
    needed = sum(contents[item.path].bytes for item in missing_items)
    check_free_space(folder, needed, ", ".join(dict.fromkeys(item.dataset.name for item in missing_items)))
    touched = dict.fromkeys(known[content.md5].dataset.name for content in contents.values())
    if missing_items:
        with sole_writer(
            missing_items[0].dataset, folder, lambda: log(f"another process writes into {folder}, waiting")
        ):
            for item in missing_items:
                with os_errors_as_user_errors(item.dataset, folder):
                    how = _take(contents[item.path], folder / item.path, item.md5, link, _limits(datasets))
                log(f"{item.dataset.name}: {item.path} {how} {contents[item.path]}")
    for dataset in datasets:
        if dataset.name in touched:
            missing = missing_files(dataset, folder)
            rest = f"still missing: {', '.join(file.name for file in missing)}" if missing else "all files are present"
            log(f"{dataset.name}: {rest}" + (" (or some of its unpacked files)" if missing else f", in {folder}"))
    if refused:
        log(AS_THEY_ARE)


def _known(datasets: Iterable[Dataset]) -> dict[str, OfficialFile]:
    """Return every official file by its md5."""
    known: dict[str, OfficialFile] = {}
    for dataset in datasets:
        for file in dataset.files:
            for path, md5 in ((file.path, file.md5), *file.unpacked):
                known.setdefault(md5, OfficialFile(dataset, file, path, md5))
    return known


def _limits(datasets: Iterable[Dataset]) -> tuple[int, int]:
    """Return two limits in bytes: for one official file, and for one archive of them."""
    each = [max(most_bytes(d), *(file.size or 0 for file in d.files), 0) for d in datasets if d.files]
    return max(each), 2 * sum(each)


def _to_import(
    datasets: Iterable[Dataset], folder: Path, items: Sequence[OfficialFile], log: Log
) -> list[OfficialFile]:
    """Return which of the files to import: those missing here, and a package rather than its contents."""
    lack = set()
    for dataset in datasets:
        if any(item.dataset is dataset for item in items):
            with os_errors_as_user_errors(dataset, folder):
                lack |= {file.path for file in missing_files(dataset, folder)}
    whole = {item.file.path for item in items if item.packed}
    to_import = [item for item in items if item.file.path in lack and (item.packed or item.file.path not in whole)]
    here = {item.file.path: item for item in items if item.file.path not in lack}
    for item in here.values():
        log(f"{item.dataset.name}: {item.file.name} is already present")
    return to_import


# --- inspecting ------------------------------------------------------------------------------------------------------


def _official_below(path: Path, known: dict[str, OfficialFile], log: Log, refused: list[Path]) -> list[Content]:
    """Return the official contents at a path; raise UserError, one line, if there are none.

    Files with the name of an official file but other bytes are added to `refused`.
    """
    datasets = {item.dataset.name: item.dataset for item in known.values()}.values()
    titles = _titles(datasets)
    names = {PurePosixPath(item.path).name: item for item in known.values()}
    limits = _limits(datasets)
    sources = _files_below(path)
    if len(sources) > 1:
        log(f"{path}: checking {len(sources):,} files")
    contents: list[Content] = []
    reasons: dict[Path, str] = {}
    for source in sources:
        try:
            official, reason = _inspect(source, known, limits)
        except DAMAGED as error:
            official, reason = [], f"can't be read ({detail(error)})"
        contents += official
        if not official:
            namesake = names.get(source.name)
            what = (
                f"the official {source.name} of {namesake.dataset.title}"
                if namesake
                else f"an official file of {titles}"
            )
            reasons[source] = f"is not {what} ({reason}{f', expected {namesake.md5}' if namesake else ''})"
    if not contents and len(sources) == 1:
        way_out = f". {AS_THEY_ARE}" if sources[0].name in names else ""
        raise UserError(f"{sources[0]} {reasons[sources[0]]}{way_out}")
    if not contents:
        some = next(
            (f": {source} {reason}. {AS_THEY_ARE}" for source, reason in reasons.items() if source.name in names), ""
        )
        raise UserError(f"{path}: none of the {len(sources):,} files is an official file of {titles}{some}")
    for source, reason in reasons.items():
        if source.name in names:
            log(f"not imported: {source} {reason}")
            refused.append(source)
    others = sum(source.name not in names for source in reasons)
    if others:
        log(f"{path}: {number(others, 'other file')} skipped")
    return contents


def _titles(datasets: Iterable[Dataset]) -> str:
    titles = [dataset.title for dataset in datasets]
    return " or ".join([", ".join(titles[:-1]), titles[-1]] if len(titles) > 1 else titles)


def _files_below(path: Path) -> list[Path]:
    """Return the plain files at a path; raise UserError if there are none or more than MAX_FILES."""
    path = path.expanduser()
    if not path.exists():
        raise UserError(f"{path}: no such file or folder")
    if not path.is_dir():
        if not stat.S_ISREG(path.stat().st_mode):
            raise UserError(f"{path}: is neither a regular file nor a folder")
        return [path]
    files: list[Path] = []
    for place, folders, names in os.walk(path):  # follows no links to folders
        folders[:] = sorted(name for name in folders if name != ".reprozoo")
        with_place = (Path(place) / name for name in sorted(names))
        files += [file for file in with_place if file.is_file()]
        if len(files) > MAX_FILES:
            raise UserError(f"{path}: has more than {MAX_FILES:,} files: give the folder of the data sets itself")
    if not files:
        raise UserError(f"{path}: has no files")
    return files


def _inspect(source: Path, known: dict[str, OfficialFile], limits: tuple[int, int]) -> tuple[list[Content], str]:
    """Return the official contents of one file (the file itself, else its members), and the reason if there are none."""
    size = source.stat().st_size
    if size > limits[0]:
        return [], f"{size:,} bytes, more than any official file has"
    with source.open("rb") as file:
        whole = _measure(source, None, 0, _chunks(file))
    item = known.get(whole.md5)
    if item is not None and (not item.packed or item.file.size in (None, size)):
        return [whole], ""
    inside = [_measure(source, name, n, chunks) for n, (name, chunks) in enumerate(_members(source, limits))]
    official = [content for content in inside if content.md5 in known]
    if inside:
        return official, f"it holds {number(len(inside), 'file')}, none of them official"
    return [], f"its md5 is {whole.md5}"


def _measure(source: Path, member: str | None, number: int, chunks: Iterable[bytes]) -> Content:
    md5, size = hashlib.md5(usedforsecurity=False), 0
    for chunk in chunks:
        md5.update(chunk)
        size += len(chunk)
    return Content(source, member, number, size, md5.hexdigest())


def _chunks(file: BinaryIO) -> Iterator[bytes]:
    while chunk := file.read(2**18):
        yield chunk


def _members(source: Path, limits: tuple[int, int]) -> Iterator[tuple[str, Iterator[bytes]]]:
    """Yield the name and bytes of each member of an archive, in order; nothing if the file is not an archive.

    Raise one of DAMAGED. ValueError also means that a name leaves the archive's own folder or that there are too many
    bytes.
    """
    most, most_in_all = limits
    with source.open("rb") as file:
        start = file.read(512)
        file.seek(0)
        if start.startswith(b"PK\3\4"):
            yield from _members_of_zip(file, most, most_in_all)
        elif start.startswith(b"\x1f\x8b"):
            with gzip.open(file) as inner:
                start = inner.read(512)
                inner.seek(0)
                if _is_tar(start):
                    for name, content in members_of_tar(cast(BinaryIO, inner), most_in_all):
                        yield name, _chunks(content)
                else:
                    yield "unpacked", _chunks(cast(BinaryIO, Bounded(cast(BinaryIO, inner), most)))
        elif _is_tar(start):
            for name, content in members_of_tar(file, most_in_all):
                yield name, _chunks(content)


def _is_tar(start: bytes) -> bool:
    return start[257:262] == b"ustar"


def _members_of_zip(file: BinaryIO, most: int, most_in_all: int) -> Iterator[tuple[str, Iterator[bytes]]]:
    with zipfile.ZipFile(file) as archive:
        for member in archive.infolist():
            name = name_inside(member.filename)
            if member.is_dir() or stat.S_ISLNK(member.external_attr >> 16) or member.file_size > most:
                continue
            most_in_all -= member.file_size
            if most_in_all < 0:
                raise ValueError("it unpacks to more bytes than the data sets have")
            with archive.open(member) as content:
                bounded = cast(BinaryIO, Bounded(cast(BinaryIO, content), member.file_size))
                yield str(name), (_idx_of_npy if name.suffix == ".npy" else _chunks)(bounded)


def _idx_of_npy(file: BinaryIO) -> Iterator[bytes]:
    """Yield a saved uint8 array as an idx file, the format of MNIST; keras's mnist.npz holds the same pixels and labels.

    Another array is yielded without the idx header. Raise ValueError if the file is not an array.
    """
    readers = {1: np.lib.format.read_array_header_1_0, 2: np.lib.format.read_array_header_2_0}
    major, _ = np.lib.format.read_magic(file)
    if major not in readers:
        raise ValueError(f"an array in the unknown format version {major}")
    shape, fortran, dtype = readers[major](file)
    if dtype == np.uint8 and not fortran and 1 <= len(shape) <= 3 and max(shape) < 2**32:
        yield struct.pack(f">HBB{len(shape)}I", 0, 8, len(shape), *shape)
    yield from _chunks(file)


# --- copying ---------------------------------------------------------------------------------------------------------


def _take(content: Content, target: Path, md5: str, link: bool, limits: tuple[int, int]) -> str:
    """Write a content to its path; return how, in words. Raise UserError if its md5 has changed."""
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(8)}.tmp")
    try:
        how = "copied from" if content.member is None else "extracted from"
        if link and content.member is None:
            with suppress(OSError):  # another file system, or one without hard links
                temporary.hardlink_to(content.source.resolve())
                how = "linked to"
        if how == "linked to":
            with content.source.open("rb") as file:
                actual_md5 = _measure(content.source, None, 0, _chunks(file)).md5
        else:
            actual_md5 = _write(content, temporary, limits)
        if actual_md5 != md5:
            raise UserError(f"{content}: changed while it was read: run the command again")
        install_file(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)
    return how


def _write(content: Content, temporary: Path, limits: tuple[int, int]) -> str:
    """Copy a content into a file; return its md5."""
    digest = hashlib.md5(usedforsecurity=False)
    with content.source.open("rb") as file, temporary.open("xb") as out:
        members = iter([("", _chunks(file))]) if content.member is None else _members(content.source, limits)
        for _, chunks in itertools.islice(members, content.number, content.number + 1):
            for chunk in chunks:
                digest.update(chunk)
                out.write(chunk)
        out.flush()
        os.fsync(out.fileno())
    return digest.hexdigest()
