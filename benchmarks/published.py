"""The one walk over a results folder: boards, `runner verify` and the check of pull requests all list its files here.

A record lies at <dataset>/<model>/<own name>.json with its curve beside it, a card at cards/<model>.json, and README.md at
the top. Only plain files in plain folders count: no link is followed and no hidden name is entered. Every other file is a
stray: no board reads it, and `runner verify` calls it an error.
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
    strays: list[Path] = field(default_factory=list)  # files and links that have no business there


def listing(folder: Path) -> Listing:
    """List a results folder, or the part of one that is named: one data set's folder, or one model's."""
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
    """Return the files below a results folder that may hold a record, sorted."""
    return listing(folder).records


def load_published(path: Path) -> RunRecord:
    """Read a published record; raises RecordError also where the file lies elsewhere than the record's own names say."""
    record = load(path)
    place = "/".join(path.absolute().parts[-3:])
    if place != record.place:
        raise RecordError(f"{path}: file: lies at {place}, the record's own names give {record.place}")
    return record


def load_all(folder: Path) -> tuple[list[RunRecord], list[str]]:
    """Every published record below `folder`, and a line for each problem: one bad file hides no good one."""
    records, problems = [], []
    for path in record_files(folder):
        try:
            records.append(load_published(path))
        except RecordError as error:
            problems.extend(str(error).splitlines())
    return records, problems


def _place_of(folder: Path) -> tuple[str, ...]:
    """Return where a folder lies below its results folder: (), (dataset,) or (dataset, model)."""
    parts = folder.absolute().parts
    if parts[-1] in DATASETS:
        return parts[-1:]
    return parts[-2:] if len(parts) > 1 and parts[-2] in DATASETS else ()


def _walk(folder: Path, names: tuple[str, ...]) -> Iterator[tuple[Path, tuple[str, ...], bool]]:
    """Yield every file below a folder: path, names below the results folder, and whether it is a plain file."""
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
