"""Report which data sets are present, complete or partial, for `runner data status`."""

import shutil
import time
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from benchmarks.datasets import DATASETS, Dataset
from benchmarks.plural import number
from runner.data.cache import cache_roots, find_entry, stamp_of
from runner.data.folder import (
    find_file,
    md5_of,
    nearest,
    os_errors_as_user_errors,
    paths_of,
    provenance_of,
    refuse_file,
)
from runner.text import ago, amount

if TYPE_CHECKING:
    from rich.console import Console


def status(folder: Path) -> dict[str, Any]:
    """Return the state of the data folder for `runner data status`.

    Keys: folder, free_bytes, datasets, others: [path] (unused files in the folder). Each data set: name, title, present
    (all needed files exist), verified (None if unknown), provenance, cached, cache_bytes, sha256 (of the parsed arrays,
    once cached), files: [{path, bytes, md5, official, changed}], missing: [path], and parts: [{path, bytes, of, changed}],
    unfinished downloads. Times are seconds since 1970; `of` is the full size in bytes, None if unknown. md5 sums come from
    the cache if the files have not changed; otherwise they are computed.
    """
    refuse_file(folder)
    return {
        "folder": str(folder),
        "free_bytes": shutil.disk_usage(nearest(folder)).free,
        "datasets": [_status(dataset, folder) for dataset in DATASETS.values()],
        "others": _others(folder),
    }


def _status(dataset: Dataset, folder: Path) -> dict[str, Any]:
    with os_errors_as_user_errors(dataset, folder):
        stamp = stamp_of(dataset, folder)
        cached = find_entry(dataset, folder, stamp)
        facts = cached[1]["facts"] if cached else {"sha256": None, "verified": None, "provenance": None}
        if cached:
            md5s, missing, unofficial = cached[1]["md5s"], [], cached[1]["unofficial"]
        else:
            forms_by_path = {file.path: find_file(dataset, file, folder) for file in dataset.files}
            forms = [form for form in forms_by_path.values() if form is not None]
            missing = [path for path, form in forms_by_path.items() if form is None]
            some = [m for file in dataset.files if file.path in missing for m in file.unpacked if stamp[m[0]]]
            md5s = {path: md5 for form in forms for path, md5 in form.md5s.items()}
            md5s |= {path: md5_of(folder / path) for path, _ in some}
            unofficial = [item for form in forms for item in form.unofficial]
            unofficial += [{"path": path, "found": md5s[path], "expected": m} for path, m in some if md5s[path] != m]
            if dataset.files and not missing:
                facts |= {"verified": not unofficial, "provenance": provenance_of(dataset, folder, unofficial)}
        wrong = {item["path"] for item in unofficial}
        places = [root / dataset.name for root in cache_roots(folder)]
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
    """Return unused files in the folder and next to data set files: label names, renamed files, unrelated files."""
    known = {path for dataset in DATASETS.values() for path in paths_of(dataset)}
    known |= {
        f"{file.path}.part{end}" for dataset in DATASETS.values() for file in dataset.files for end in ("", ".json")
    }
    files: set[str] = set()
    for place in {folder, *((folder / path).parent for path in known)}:
        with suppress(OSError):
            files |= {str(path.relative_to(folder)) for path in place.iterdir() if path.is_file()}
    return sorted(files - known)


def show_status(report: dict[str, Any], console: "Console") -> None:
    """Print the result of `status` as a table, followed by provenance, unused files and disk space."""
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for heading in ("data set", "verified", "size", "digest", "changed"):
        table.add_column(heading, justify="right" if heading == "size" else "left", no_wrap=True)
    for row in report["datasets"]:
        if row["files"] or row["missing"]:
            counts = ((len(row["files"]), "present"), (len(row["missing"]), "missing"))
            what = ", ".join(f"{count} {where}" for count, where in counts if count)
        else:
            what = "part of scikit-learn" if row["present"] else "scikit-learn is not installed"
        verified = {True: "yes", False: "no", None: "-"}[row["verified"]]
        digest = f"sha256 {row['sha256'][:12]}" if row["sha256"] else ""
        size = sum(file["bytes"] for file in row["files"])
        table.add_row(f"{row['name']}: {what}", verified, amount(size) if size else "-", digest)
        for file in row["files"]:
            verdict = "official" if file["official"] else "not official"
            table.add_row(
                f"  {escape(PurePosixPath(file['path']).name)}",
                verdict,
                amount(file["bytes"]),
                f"md5 {file['md5'][:12]}",
                ago(time.time() - file["changed"]),
            )
        for part in row["parts"]:
            share = f"{100 * part['bytes'] / part['of']:.0f} % downloaded" if part["of"] else "incomplete"
            table.add_row(
                f"  {escape(PurePosixPath(part['path']).name)}",
                share,
                amount(part["bytes"]),
                "",
                ago(time.time() - part["changed"]),
            )
    console.print(table)
    for row in report["datasets"]:
        if row["provenance"]:
            console.print(f"{row['name']}: {escape(row['provenance'])}", highlight=False)
    if report["others"]:
        some = ", ".join(report["others"][:5]) + (", ..." if len(report["others"]) > 5 else "")
        console.print(
            f"{number(len(report['others']), 'other file')}, which no data set uses: {escape(some)}", highlight=False
        )
    cached = sum(row["cache_bytes"] for row in report["datasets"])
    room = f"caches {amount(cached)}, {amount(report['free_bytes'])} free"
    console.print(f"{escape(report['folder'])}: {room}", highlight=False)
