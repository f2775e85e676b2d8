"""List the files of a results folder. Boards, `runner verify` and the check of pull requests all use this list.

A record is <dataset>/<model>/<name>.json, with its curve in the same folder. A card is cards/<model>.json. README.md is at
the top. Only plain files in plain folders count: links and hidden names are not followed. Every other file is a stray: no
board reads it, and `runner verify` reports it as an error.
"""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.datasets import DATASETS
from benchmarks.records import NAME, RecordError, RunRecord, load

CARDS = "cards"
CURVE = ".curve.csv"
_FOLDER = re.compile(NAME)  # of data sets and models


@dataclass
class Listing:
    """The files below a results folder, each kind sorted."""

    records: list[Path] = field(default_factory=list)
    curves: list[Path] = field(default_factory=list)
    cards: list[Path] = field(default_factory=list)
    strays: list[Path] = field(default_factory=list)  # files and links of no known kind


def listing(folder: Path) -> Listing:
    """Return the files of a results folder, or of the folder of one data set or one model in it."""
    files = Listing()
    for path, names, plain in sorted(_walk(folder, _place_of(folder)), key=lambda item: item[0].parts):
        kind = _kind(names) if plain else "stray"
        if kind == "record":
            files.records.append(path)
        elif kind == "curve":
            files.curves.append(path)
        elif kind == "card":
            files.cards.append(path)
        elif kind == "stray":
            files.strays.append(path)
    return files


def record_files(folder: Path) -> list[Path]:
    """Return the paths of the records below a results folder, sorted. They are not validated."""
    return listing(folder).records


def load_published(path: Path) -> RunRecord:
    """Return a published record. Raise RecordError if it is invalid, or if its path does not match its own names."""
    record = load(path)
    place = "/".join(path.absolute().parts[-3:])
    if place != record.place:
        raise RecordError(f"{path}: file: is at {place}, expected {record.place} from the record's names")
    return record


def load_all(folder: Path) -> tuple[list[RunRecord], list[str]]:
    """Return all valid records below `folder`, and one line for each problem of the others."""
    records, problems = [], []
    for path in record_files(folder):
        try:
            records.append(load_published(path))
        except RecordError as error:
            problems.extend(str(error).splitlines())
    return records, problems


def _place_of(folder: Path) -> tuple[str, ...]:
    """Return a folder's path relative to its results folder: (), (dataset,) or (dataset, model)."""
    parts = folder.absolute().parts
    if parts[-1] in DATASETS:
        return parts[-1:]
    return parts[-2:] if len(parts) > 1 and parts[-2] in DATASETS else ()


def _walk(folder: Path, names: tuple[str, ...]) -> Iterator[tuple[Path, tuple[str, ...], bool]]:
    """Yield (path, path relative to the results folder as names, whether it is a plain file) for every file below a folder."""
    try:
        scan = os.scandir(folder)
    except FileNotFoundError:
        return
    with scan as entries:
        for entry in entries:
            inner = (*names, entry.name)
            if entry.is_dir(follow_symlinks=False):
                yield from _walk(Path(entry.path), inner)
            else:
                yield Path(entry.path), inner, entry.is_file(follow_symlinks=False)


def _kind(names: tuple[str, ...]) -> str:
    *folders, name = names
    if any(_FOLDER.fullmatch(folder) is None for folder in folders) or name.startswith("."):
        return "stray"
    if len(folders) == 2 and folders[0] != CARDS:
        return "curve" if name.endswith(CURVE) else "record" if name.endswith(".json") else "stray"
    if folders == [CARDS]:
        return "card" if name.endswith(".json") else "stray"
    return "documentation" if names == ("README.md",) else "stray"
