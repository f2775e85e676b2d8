"""Getting the files of the data sets from their mirrors, ahead of time: `runner data prepare`."""

import errno
import hashlib
import http.client
import os
import urllib.request
import uuid
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from benchmarks.datasets import Dataset, File, get_dataset
from benchmarks.errors import UserError
from runner.data import lacking, load, os_errors_in_words

Log = Callable[[str], Any]

TIMEOUT = 30  # seconds without a byte after which a mirror is given up


def prepare(datasets: Iterable[str | Dataset], folder: Path, allow_unverified: bool = False, log: Log = print) -> None:
    """Make data sets ready ahead of time: download what is missing or not official, check it, build the cache.

    Files that aren't the official ones stay where they are; a download under the same name moves them aside. With
    `allow_unverified` they are taken as they are. Raises UserError where no mirror gives a file.
    """
    for given in datasets:
        dataset = get_dataset(given) if isinstance(given, str) else given
        with os_errors_in_words(dataset, folder):
            for file in lacking(dataset, folder, allow_unverified):
                _download(dataset, file, folder, log)
        data = load(dataset, folder, allow_unverified, log)
        log(f"{dataset.name}: ready in {folder} ({'verified' if data.facts.verified else data.facts.provenance})")


def _download(dataset: Dataset, file: File, folder: Path, log: Log) -> None:
    """Fetch one file from the first mirror that has the right one, into a temporary file, then rename it."""
    target = folder / file.path
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{file.name}.{uuid.uuid4().hex}.part")
    reasons = []
    for mirror in dataset.mirrors:
        try:
            _fetch(mirror + file.name, partial, file, log)
        except (OSError, http.client.HTTPException, ValueError) as error:
            if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES):
                raise  # the disk's fault, not the mirror's
            reasons.append(f"{mirror}: {_words(error)}")
            log(f"{dataset.name}: {file.name} not from {reasons[-1]}")
        else:
            if target.exists():
                target.replace(target.with_name(f"{file.name}.unofficial"))
            partial.replace(target)
            return
        finally:
            partial.unlink(missing_ok=True)
    raise UserError(
        f"{dataset.name}: {file.name} could not be downloaded ({'; '.join(reasons) or 'no mirror is known'}): "
        f"put it at {target} yourself (md5 {file.md5}), or name a folder that has it with --data-dir"
    )


def _fetch(url: str, partial: Path, file: File, log: Log) -> None:
    """Download one URL; raises OSError, HTTPException or ValueError where it isn't to be had, or isn't official."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    request = urllib.request.Request(url, headers={"User-Agent": "reprozoo"})
    md5, size = hashlib.md5(usedforsecurity=False), 0
    with urllib.request.urlopen(request, timeout=TIMEOUT) as response, partial.open("wb") as out:
        if file.size is not None and response.length not in (None, file.size):
            raise ValueError(f"offers {response.length:,} bytes, the official file has {file.size:,}")
        console = Console(stderr=True)
        columns = TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn()
        with Progress(*columns, TimeRemainingColumn(), console=console, disable=not console.is_terminal) as progress:
            if not console.is_terminal:
                log(f"downloading {url}")
            task = progress.add_task(file.name, total=file.size or response.length)
            while chunk := response.read(2**18):
                out.write(chunk)
                md5.update(chunk)
                size += len(chunk)
                if file.size is not None and size > file.size:
                    break
                progress.update(task, advance=len(chunk))
        out.flush()
        os.fsync(out.fileno())
    if file.size not in (None, size):
        raise ValueError(f"broke off after {size:,} of {file.size:,} bytes" if size < file.size else "too many bytes")
    if md5.hexdigest() != file.md5:
        raise ValueError(f"gave a file with md5 {md5.hexdigest()}, official {file.md5}")


def _words(error: BaseException) -> str:
    """An exception in some words, on one line."""
    return (" ".join(str(error).split()) or type(error).__name__)[:160]
