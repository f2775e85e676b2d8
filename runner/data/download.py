"""Download the files of the data sets from their mirrors for `runner data prepare`.

Mirrors are tried in order, several files in parallel. Received bytes are in NAME.part next to the target, and
NAME.part.json records their source; the next connection, mirror or `prepare` resumes from there. A file is renamed into
place only when its size and md5 are the official ones, whatever the server reported.
"""

import math
import queue
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.datasets import Dataset, File, get_dataset
from benchmarks.errors import UserError
from runner.data.cache import load, missing_files
from runner.data.folder import check_free_space, os_errors_as_user_errors, sole_writer
from runner.data.mirror import from_mirror
from runner.data.transfer import DEFAULT_LIMITS, MirrorFailed, MirrorLimits, TooSlow, Transfer
from runner.text import amount, duration

if TYPE_CHECKING:
    from rich.progress import Task, TaskID

Log = Callable[[str], Any]

PARALLEL = 4  # files downloaded in parallel
PLAIN_SECONDS = 10.0  # between two progress lines without a terminal


def prepare(
    datasets: Iterable[str | Dataset],
    folder: Path,
    allow_unverified: bool = False,
    log: Log = print,
    limits: MirrorLimits = DEFAULT_LIMITS,
) -> None:
    """Download missing and unofficial files, check them, and build the cache.

    Unofficial files stay in place unless a download of the same name replaces them; then they are renamed. With
    `allow_unverified` they are used. Only one call at a time downloads into a folder; others wait. Raise UserError if no
    mirror provides a file (the other data sets are still prepared) or if the disk has too little space.
    """
    sets = [get_dataset(name) if isinstance(name, str) else name for name in datasets]

    stop = threading.Event()

    def transfers_to_do() -> list[Transfer]:
        files: dict[str, tuple[Dataset, File]] = {}  # by path, because two data sets may share a file
        for dataset in sets:
            with os_errors_as_user_errors(dataset, folder):
                files |= {file.path: (dataset, file) for file in missing_files(dataset, folder, allow_unverified)}
        return [Transfer(dataset, file, folder, limits, stop) for dataset, file in files.values()]

    failed: list[Transfer] = []
    if transfers_to_do():
        with sole_writer(sets[0], folder, lambda: log(f"another process downloads into {folder}, waiting")):
            transfers = transfers_to_do()  # what the other process has not downloaded
            _check_free_space(sets, transfers, folder)
            failed = _download(transfers, stop, log)
    failed_paths = {transfer.file.path for transfer in failed}
    for dataset in sets:
        if not failed_paths.intersection(file.path for file in dataset.files):
            data = load(dataset, folder, allow_unverified, log)
            log(f"{dataset.name}: ready in {folder} ({'verified' if data.facts.verified else data.facts.provenance})")
    if failed:
        raise _failure_of(failed, log)


def _failure_of(failed: Sequence[Transfer], log: Log) -> UserError:
    """Return the error for files that no mirror provided. With several files, log one line for each first."""
    if len(failed) == 1:
        return UserError(failed[0].failure)
    for transfer in failed:
        log(f"{transfer.dataset.name}: missing: {transfer.target} (md5 {transfer.file.md5})")
    names = ", ".join(dict.fromkeys(transfer.dataset.name for transfer in failed))
    reasons = dict.fromkeys(reason for transfer in failed for reason in transfer.reasons)
    return UserError(
        f"{names}: {len(failed)} files could not be downloaded ({'; '.join(reasons) or 'no mirror is known'}): "
        "run the same command again to continue, put the files there yourself, or pass files that you have to "
        "`runner data import`"
    )


def _check_free_space(datasets: Sequence[Dataset], transfers: Sequence["Transfer"], folder: Path) -> None:
    """Raise UserError if the disk cannot hold the remaining downloads and the parsed arrays."""
    rest = sum(max(0, (transfer.file.size or 0) - transfer.arrived) for transfer in transfers)
    # Packed files are unpacked for as long as they are parsed: their arrays' size twice.
    arrays = {
        dataset.name: (dataset.train_size + dataset.test_size)
        * math.prod(dataset.shape)
        * (1 + any(file.unpacked for file in dataset.files))
        for dataset in datasets
        if any(transfer.file in dataset.files for transfer in transfers)
    }
    what = f"{', '.join(arrays)} ({amount(rest)} to download, the rest for the arrays)"
    check_free_space(folder, rest + sum(arrays.values()), what)


@dataclass(frozen=True)
class MirrorFailure:
    """A mirror that did not provide a file, and why."""

    file: str
    reason: str

    def __str__(self) -> str:
        return f"{self.file}: not from {self.reason}"


def _download(transfers: Sequence[Transfer], stop: threading.Event, log: Log) -> list[Transfer]:
    """Fetch files, `PARALLEL` at a time, and show progress; return the failed transfers.

    The threads are daemons, so that Ctrl-C does not wait for a silent server. Every received byte is already in its part
    file.
    """
    todo: queue.SimpleQueue[Transfer] = queue.SimpleQueue()
    events: queue.SimpleQueue[str | MirrorFailure | Transfer | BaseException] = queue.SimpleQueue()
    logged_reasons: set[str] = set()  # reasons already logged: each once, however many files it concerns
    for transfer in transfers:
        todo.put(transfer)

    def work() -> None:
        with suppress(queue.Empty):
            while not stop.is_set():
                transfer = todo.get_nowait()
                try:
                    _fetch(transfer, events.put)
                    events.put(transfer)
                except BaseException as error:
                    events.put(error)
                    return

    failed, remaining = [], len(transfers)
    display = _Display(transfers, log)
    with display.progress:
        try:
            for _ in range(min(PARALLEL, remaining)):
                threading.Thread(target=work, daemon=True).start()
            while remaining:
                display.tick()
                with suppress(queue.Empty):
                    event = events.get(timeout=0.2)
                    if isinstance(event, BaseException):
                        raise event  # a disk error would stop every other file too
                    if isinstance(event, Transfer):
                        remaining -= 1
                        failed += [event] if event.failure else []
                    elif isinstance(event, MirrorFailure):
                        if event.reason not in logged_reasons:
                            log(str(event))
                        logged_reasons.add(event.reason)
                    else:
                        log(event)
            display.tick()
        except KeyboardInterrupt:
            log("stopped; the same command continues the download")
            raise
        finally:
            stop.set()
    return failed


def _fetch(transfer: Transfer, say: Callable[[str | MirrorFailure], Any]) -> None:
    """Download one file from the first mirror that has it, or set `failure` to the reason.

    Slow mirrors are tried again, the fastest first, after all others have failed.
    """
    dataset, file = transfer.dataset, transfer.file
    with transfer.disk():
        transfer.target.parent.mkdir(parents=True, exist_ok=True)
    slow: list[tuple[float, str]] = []

    def fetched_from(mirror: str, min_rate: float) -> bool:
        try:
            from_mirror(mirror + file.name, transfer, min_rate)
            return True
        except MirrorFailed as error:
            if isinstance(error, TooSlow):
                slow.append((error.rate, mirror))
            transfer.reasons.append(f"{mirror}: {error}")
            say(MirrorFailure(f"{dataset.name}: {file.name}", transfer.reasons[-1]))
            return False

    for number, mirror in enumerate(dataset.mirrors, 1):
        last = number == len(dataset.mirrors) and not slow
        if fetched_from(mirror, 0.0 if last else transfer.limits.min_rate):
            return
    for _, mirror in sorted(slow, reverse=True):
        say(f"{dataset.name}: {file.name}: using the slow mirror {mirror}, because the others failed")
        if fetched_from(mirror, 0.0):
            return
    resume = f"run the same command again to continue after {amount(transfer.here())}, or " if transfer.here() else ""
    transfer.failure = (
        f"{dataset.name}: {file.name} could not be downloaded ({'; '.join(transfer.reasons) or 'no mirror is known'}): {resume}"
        f"put it at {transfer.target} yourself (md5 {file.md5}), or pass a copy to `runner data import`"
    )


# --- progress display ------------------------------------------------------------------------------------------------


class _Display:
    """Show download progress: bars on a terminal, otherwise a line every `PLAIN_SECONDS`."""

    def __init__(self, transfers: Sequence[Transfer], log: Log) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            DownloadColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
            TransferSpeedColumn,
        )

        console = Console(stderr=True)
        self.transfers, self.log = transfers, log
        self.plain = not console.is_terminal
        columns = TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn()
        self.progress = Progress(*columns, TimeRemainingColumn(), console=console, disable=self.plain)
        self.tasks = [self.progress.add_task(t.file.name, total=t.total, completed=t.arrived) for t in transfers]
        self.sum = None
        if len(transfers) > 1:
            arrived = sum(transfer.arrived for transfer in transfers)
            self.sum = self.progress.add_task("together", total=self._total(), completed=arrived)
        self.shown: dict[Any, int] = {}
        self.last_lines = time.monotonic()  # when progress was last printed without a terminal
        if self.plain:
            for transfer in transfers:
                present = f", {amount(transfer.arrived)} of it already here" if transfer.arrived else ""
                log(
                    f"{transfer.dataset.name}: downloading {transfer.file.name} ({amount(transfer.total or 0)}{present})"
                )

    def _total(self) -> float | None:
        totals = [transfer.total for transfer in self.transfers]
        return None if None in totals else sum(total or 0 for total in totals)

    def tick(self) -> None:
        """Update the display."""
        for task, transfer in zip(self.tasks, self.transfers, strict=True):
            self._move(task, transfer.arrived, transfer.total)
        if self.sum is not None:
            self._move(self.sum, sum(transfer.arrived for transfer in self.transfers), self._total())
        if self.plain and time.monotonic() - self.last_lines > PLAIN_SECONDS:
            self.last_lines = time.monotonic()
            for row in self.progress.tasks:
                if not row.finished:
                    self.log(_line(row))

    def _move(self, task: "TaskID", arrived: int, total: float | None) -> None:
        if arrived < self.shown.get(task, 0):  # restarted from the first byte, so the rate so far is meaningless
            self.progress.reset(task, completed=arrived, total=total)
        else:
            self.progress.update(task, completed=arrived, total=total)
        self.shown[task] = arrived


def _line(task: "Task") -> str:
    of = f" of {amount(task.total)}" if task.total else ""
    rate = f", {amount(task.speed)}/s" if task.speed else ""
    left = f", about {duration(task.time_remaining)} left" if task.time_remaining is not None else ""
    return f"  {task.description}: {amount(task.completed)}{of}{rate}{left}"
