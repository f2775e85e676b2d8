"""`runner data prepare`: the files of the data sets from their mirrors, ahead of time.

Mirrors are tried in order, several files at once. What has arrived lies in NAME.part beside its place, and NAME.part.json
says where it came from; the next connection, mirror or `prepare` goes on from there. Only size and md5 make a file: it is
renamed into place once both are official, whatever a server said of it.
"""

import math
import queue
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.datasets import Dataset, File, get_dataset
from benchmarks.errors import UserError
from runner.data.cache import lacking, load
from runner.data.folder import make_sure_of_room, os_errors_in_words, sole_writer
from runner.data.mirror import from_mirror
from runner.data.transfer import PATIENCE, Crawls, Left, Patience, Transfer
from runner.text import amount, duration

Log = Callable[[str], Any]

AT_ONCE = 4  # files on their way at once
PLAIN_SECONDS = 10.0  # between two lines on how far it is, where there is no terminal


def prepare(
    datasets: Iterable[str | Dataset],
    folder: Path,
    allow_unverified: bool = False,
    log: Log = print,
    patience: Patience = PATIENCE,
) -> None:
    """Make data sets ready ahead of time: download what is missing or not official, check it, build the cache.

    Files that aren't the official ones stay where they are; a download under the same name moves them aside. With
    `allow_unverified` they are taken as they are. One call at a time downloads into a folder; another waits. Raises
    UserError where no mirror gives a file (then the other data sets are ready all the same), or the disk hasn't room.
    """
    chosen = [get_dataset(given) if isinstance(given, str) else given for given in datasets]

    stop = threading.Event()

    def wanted() -> list[Transfer]:
        found: dict[str, tuple[Dataset, File]] = {}  # by path: two data sets may share a file
        for dataset in chosen:
            with os_errors_in_words(dataset, folder):
                found |= {file.path: (dataset, file) for file in lacking(dataset, folder, allow_unverified)}
        return [Transfer(dataset, file, folder, patience, stop) for dataset, file in found.values()]

    failed: list[Transfer] = []
    if wanted():
        with sole_writer(chosen[0], folder, lambda: log(f"another process downloads into {folder}; waiting")):
            transfers = wanted()  # what the other one has left
            _make_sure_of_room(chosen, transfers, folder)
            failed = _download(transfers, stop, log)
    lost = {transfer.file.path for transfer in failed}
    for dataset in chosen:
        if not lost.intersection(file.path for file in dataset.files):
            data = load(dataset, folder, allow_unverified, log)
            log(f"{dataset.name}: ready in {folder} ({'verified' if data.facts.verified else data.facts.provenance})")
    if failed:
        raise _failure_of(failed, log)


def _failure_of(failed: Sequence[Transfer], log: Log) -> UserError:
    """Return what to say of the files that no mirror gave: the mirrors once, and before it, in the log, a line a file."""
    if len(failed) == 1:
        return UserError(failed[0].failure)
    for transfer in failed:
        log(f"{transfer.dataset.name}: missing: {transfer.target} (md5 {transfer.file.md5})")
    names = ", ".join(dict.fromkeys(transfer.dataset.name for transfer in failed))
    reasons = dict.fromkeys(reason for transfer in failed for reason in transfer.reasons)
    return UserError(
        f"{names}: {len(failed)} files could not be downloaded ({'; '.join(reasons) or 'no mirror is known'}): "
        "the same command tries again and goes on where it stopped; or put them there yourself, or name what has them to "
        "`runner data import`"
    )


def _make_sure_of_room(datasets: Sequence[Dataset], transfers: Sequence["Transfer"], folder: Path) -> None:
    """Raises UserError where the disk can't hold what is to come: the rest of the files, and the arrays made of them."""
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
    make_sure_of_room(folder, rest + sum(arrays.values()), what)


@dataclass(frozen=True)
class MirrorLeft:
    """A mirror that did not give a file, and why."""

    file: str
    reason: str

    def __str__(self) -> str:
        return f"{self.file} not from {self.reason}"


def _download(transfers: Sequence[Transfer], stop: threading.Event, log: Log) -> list[Transfer]:
    """Fetch files, `AT_ONCE` at a time, and show how far they are; gives those that weren't to be had.

    The threads are daemons: at Ctrl-C nobody waits for a silent server. Every byte is in its part file already.
    """
    todo: queue.SimpleQueue[Transfer] = queue.SimpleQueue()
    said: queue.SimpleQueue[str | MirrorLeft | Transfer | BaseException] = queue.SimpleQueue()
    left_for: set[str] = set()  # mirrors and why: said once, however many files it concerns
    for transfer in transfers:
        todo.put(transfer)

    def work() -> None:
        with suppress(queue.Empty):
            while not stop.is_set():
                transfer = todo.get_nowait()
                try:
                    _fetch(transfer, said.put)
                    said.put(transfer)
                except BaseException as error:
                    said.put(error)
                    return

    failed, left = [], len(transfers)
    show = _Show(transfers, log)
    with show.progress:
        try:
            for _ in range(min(AT_ONCE, left)):
                threading.Thread(target=work, daemon=True).start()
            while left:
                show.tick()
                with suppress(queue.Empty):
                    event = said.get(timeout=0.2)
                    if isinstance(event, BaseException):
                        raise event  # the disk's fault: no other file would fare better
                    if isinstance(event, Transfer):
                        left -= 1
                        failed += [event] if event.failure else []
                    elif isinstance(event, MirrorLeft):
                        if event.reason not in left_for:
                            log(str(event))
                        left_for.add(event.reason)
                    else:
                        log(event)
            show.tick()
        except KeyboardInterrupt:
            log("stopped; what has arrived stays, and the same command goes on from there")
            raise
        finally:
            stop.set()
    return failed


def _fetch(transfer: Transfer, say: Callable[[str | MirrorLeft], Any]) -> None:
    """Get one file from the first mirror that has the right one, or say in `failure` why there is none.

    Slow mirrors come again, the fastest first, once the others have failed: slow is better than nothing.
    """
    dataset, file = transfer.dataset, transfer.file
    with transfer.disk():
        transfer.target.parent.mkdir(parents=True, exist_ok=True)
    slow: list[tuple[float, str]] = []

    def fetched_from(mirror: str, floor: float) -> bool:
        try:
            from_mirror(mirror + file.name, transfer, floor)
            return True
        except Left as error:
            if isinstance(error, Crawls):
                slow.append((error.rate, mirror))
            transfer.reasons.append(f"{mirror}: {error}")
            say(MirrorLeft(f"{dataset.name}: {file.name}", transfer.reasons[-1]))
            return False

    for number, mirror in enumerate(dataset.mirrors, 1):
        last = number == len(dataset.mirrors) and not slow
        if fetched_from(mirror, 0.0 if last else transfer.patience.floor):
            return
    for _, mirror in sorted(slow, reverse=True):
        say(f"{dataset.name}: {file.name} from {mirror} after all, slow as it is")
        if fetched_from(mirror, 0.0):
            return
    kept = f"the same command goes on after {amount(transfer.here())}; or " if transfer.here() else ""
    transfer.failure = (
        f"{dataset.name}: {file.name} could not be downloaded ({'; '.join(transfer.reasons) or 'no mirror is known'}): {kept}"
        f"put it at {transfer.target} yourself (md5 {file.md5}), or name what has it to `runner data import`"
    )


# --- what is shown ---------------------------------------------------------------------------------------------------


class _Show:
    """How far the files are: bars on a terminal, a line now and then anywhere else."""

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
        self.spoke = time.monotonic()
        if self.plain:
            for transfer in transfers:
                got = f", {amount(transfer.arrived)} of it here already" if transfer.arrived else ""
                log(f"{transfer.dataset.name}: downloading {transfer.file.name} ({amount(transfer.total or 0)}{got})")

    def _total(self) -> float | None:
        totals = [transfer.total for transfer in self.transfers]
        return None if None in totals else sum(total or 0 for total in totals)

    def tick(self) -> None:
        """Show what has changed."""
        for task, transfer in zip(self.tasks, self.transfers, strict=True):
            self._move(task, transfer.arrived, transfer.total)
        if self.sum is not None:
            self._move(self.sum, sum(transfer.arrived for transfer in self.transfers), self._total())
        if self.plain and time.monotonic() - self.spoke > PLAIN_SECONDS:
            self.spoke = time.monotonic()
            for row in self.progress.tasks:
                if not row.finished:
                    self.log(_line(row))

    def _move(self, task: Any, arrived: int, total: float | None) -> None:
        if arrived < self.shown.get(task, 0):  # from its first byte again: the rate so far says nothing
            self.progress.reset(task, completed=arrived, total=total)
        else:
            self.progress.update(task, completed=arrived, total=total)
        self.shown[task] = arrived


def _line(task: Any) -> str:
    of = f" of {amount(task.total)}" if task.total else ""
    rate = f", {amount(task.speed)}/s" if task.speed else ""
    left = f", about {duration(task.time_remaining)} left" if task.time_remaining is not None else ""
    return f"  {task.description}: {amount(task.completed)}{of}{rate}{left}"
