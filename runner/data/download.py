"""`runner data prepare`: the files of the data sets from their mirrors, ahead of time.

Mirrors are tried in order, several files at once. What has arrived lies in NAME.part beside its place, and NAME.part.json
says where it came from; the next connection, mirror or `prepare` goes on from there. Only size and md5 make a file: it is
renamed into place once both are official, whatever a server said of it.
"""

import http.client
import json
import math
import os
import queue
import re
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

from benchmarks.datasets import Dataset, File, get_dataset
from benchmarks.errors import UserError
from benchmarks.records import write_atomically
from runner.data.cache import lacking, load
from runner.data.folder import make_sure_of_room, md5_of, os_errors_in_words, put_in_place, sole_writer
from runner.files import read_json
from runner.text import amount, duration, one_line

Log = Callable[[str], Any]

AT_ONCE = 4  # files on their way at once
PLAIN_SECONDS = 10.0  # between two lines on how far it is, where there is no terminal
LATER = (429, 500, 502, 503, 504)  # "not now": worth asking again


@dataclass(frozen=True)
class Patience:
    """How long a mirror is borne with."""

    silence: float = 30.0  # seconds without a byte, or without an answer
    floor: float = 100_000.0  # bytes/s: a mirror slower than that is left while another one hasn't been tried
    window: float = 20.0  # seconds over which the rate is taken
    tries: int = 4  # times in a row that a mirror may say "later", or break off with less than `worth` gained
    worth: int = 2**20  # bytes
    pause: float = 1.0  # seconds before the second try, then twice as many each time
    longest_pause: float = 60.0  # a mirror that asks for more (Retry-After) is left


PATIENCE = Patience()


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

    def wanted() -> list[_Transfer]:
        found: dict[str, tuple[Dataset, File]] = {}  # by path: two data sets may share a file
        for dataset in chosen:
            with os_errors_in_words(dataset, folder):
                found |= {file.path: (dataset, file) for file in lacking(dataset, folder, allow_unverified)}
        return [_Transfer(dataset, file, folder, patience, stop) for dataset, file in found.values()]

    failed: list[_Transfer] = []
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
        raise UserError("; ".join(transfer.failure for transfer in failed))


def _make_sure_of_room(datasets: Sequence[Dataset], transfers: Sequence["_Transfer"], folder: Path) -> None:
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


# --- a file on its way -----------------------------------------------------------------------------------------------


@dataclass
class _Transfer:
    """One file to fetch. Its thread alone writes here; the main one looks at it to show how far it is."""

    dataset: Dataset
    file: File
    folder: Path
    patience: Patience
    stop: threading.Event
    arrived: int = 0
    total: int | None = None
    gained: int = 0  # bytes of the present connection
    failure: str = ""  # why it isn't to be had; empty while it may be

    def __post_init__(self) -> None:
        self.target = self.folder / self.file.path
        self.part = self.target.with_name(f"{self.target.name}.part")
        self.note = self.target.with_name(f"{self.target.name}.part.json")
        self.arrived, self.total = self.here(), self.file.size

    def here(self) -> int:
        """Bytes in the part file."""
        return self.part.stat().st_size if self.part.exists() else 0

    def disk(self) -> AbstractContextManager[None]:
        """Within: an OSError is the disk's, no mirror's; it becomes a UserError."""
        return os_errors_in_words(self.dataset, self.folder)

    def validator(self, url: str) -> str | None:
        """By what this very address tells whether it still has the file that the part is of (RFC 9110, If-Range)."""
        note = read_json(self.note) or {}
        known = note.get("validator") if note.get("url") == url else None
        return known if isinstance(known, str) else None

    @contextmanager
    def writer(self, at: int, note: dict[str, Any]) -> Iterator[Callable[[bytes], None]]:
        """Gives a function that adds bytes to the part; `at` is 0 where the file comes from its first byte again."""

        def write(chunk: bytes) -> None:
            with self.disk():
                out.write(chunk)
                out.flush()  # whatever ends us, the bytes stay

        with self.disk():
            out = self.part.open("ab" if at else "wb")
            write_atomically(self.note, json.dumps(note, indent=2) + "\n")
        try:
            yield write
            with self.disk():
                os.fsync(out.fileno())
        finally:
            out.close()

    def drop(self) -> None:
        """Away with the part."""
        with self.disk():
            self.part.unlink(missing_ok=True)
            self.note.unlink(missing_ok=True)


class _Left(Exception):
    """A mirror is given up; the message says why."""


class _Crawls(_Left):
    """A mirror is given up for now because it is slow."""

    def __init__(self, rate: float) -> None:
        super().__init__(f"only {amount(rate)}/s")
        self.rate = rate


class _Interrupted(BaseException):
    """Ctrl-C: the thread ends, the part stays."""


def _download(transfers: Sequence[_Transfer], stop: threading.Event, log: Log) -> list[_Transfer]:
    """Fetch files, `AT_ONCE` at a time, and show how far they are; gives those that weren't to be had.

    The threads are daemons: at Ctrl-C nobody waits for a silent server. Every byte is in its part file already.
    """
    todo: queue.SimpleQueue[_Transfer] = queue.SimpleQueue()
    said: queue.SimpleQueue[str | _Transfer | BaseException] = queue.SimpleQueue()
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
                    if isinstance(event, _Transfer):
                        left -= 1
                        failed += [event] if event.failure else []
                    else:
                        log(event)
            show.tick()
        except KeyboardInterrupt:
            log("stopped; what has arrived stays, and the same command goes on from there")
            raise
        finally:
            stop.set()
    return failed


def _fetch(transfer: _Transfer, say: Callable[[str], Any]) -> None:
    """Get one file from the first mirror that has the right one, or say in `failure` why there is none.

    Slow mirrors come again, the fastest first, once the others have failed: slow is better than nothing.
    """
    dataset, file = transfer.dataset, transfer.file
    with transfer.disk():
        transfer.target.parent.mkdir(parents=True, exist_ok=True)
    reasons: list[str] = []
    slow: list[tuple[float, str]] = []

    def from_mirror(mirror: str, floor: float) -> bool:
        try:
            _from_mirror(mirror + file.name, transfer, floor)
            return True
        except _Left as error:
            if isinstance(error, _Crawls):
                slow.append((error.rate, mirror))
            reasons.append(f"{mirror}: {error}")
            say(f"{dataset.name}: {file.name} not from {reasons[-1]}")
            return False

    for number, mirror in enumerate(dataset.mirrors, 1):
        last = number == len(dataset.mirrors) and not slow
        if from_mirror(mirror, 0.0 if last else transfer.patience.floor):
            return
    for _, mirror in sorted(slow, reverse=True):
        say(f"{dataset.name}: {file.name} from {mirror} after all, slow as it is")
        if from_mirror(mirror, 0.0):
            return
    kept = f"the same command goes on after {amount(transfer.here())}; or " if transfer.here() else ""
    transfer.failure = (
        f"{dataset.name}: {file.name} could not be downloaded ({'; '.join(reasons) or 'no mirror is known'}): {kept}"
        f"put it at {transfer.target} yourself (md5 {file.md5}), or name what has it to `runner data import`"
    )


def _from_mirror(url: str, transfer: _Transfer, floor: float) -> None:
    """Get the file from one address, over several connections if need be; raises _Left where that has no sense."""
    size, patience = transfer.file.size, transfer.patience
    vain, reached = 0, transfer.here()
    gave = False  # this mirror works, so that it is worth waiting for the end of a breakdown
    afresh = False  # the file comes from its first byte again, because what we had wasn't right
    while True:
        begun = transfer.here()
        if size is not None and begun > size:
            transfer.drop()
            begun = 0
        pause, transfer.gained = None, 0
        try:
            resumed = begun == size or _connect(url, transfer, floor)
        except _Later as error:
            if error.pause is not None and error.pause > patience.longest_pause:
                raise _Left(f"{error}, and asks to wait {error.pause:,.0f} s") from error
            reason, pause = _words(error), error.pause
        except (OSError, http.client.HTTPException) as error:
            reason = _words(error)
            gave = gave or transfer.gained > 0
            if not gave:
                raise _Left(reason) from error
        else:
            with transfer.disk():
                found = md5_of(transfer.part)
                if found == transfer.file.md5:
                    put_in_place(transfer.part, transfer.target)
            transfer.drop()
            if found == transfer.file.md5:
                return
            if afresh or not resumed:
                raise _Left(f"gave a file with md5 {found}, official {transfer.file.md5}")
            afresh = True
            continue
        if transfer.here() - reached >= patience.worth:
            vain, reached = 0, transfer.here()
        else:
            vain += 1
        if vain >= patience.tries:
            raise _Left(reason)
        if pause is None:
            pause = min(patience.pause * 2 ** max(0, vain - 1), patience.longest_pause)
        if transfer.stop.wait(pause):
            raise _Interrupted


class _Later(Exception):
    """The server says "not now"; `pause`: for how many seconds, if it says so."""

    def __init__(self, message: str, pause: float | None) -> None:
        super().__init__(message)
        self.pause = pause


class _BrokeOff(OSError):
    """The connection ended before the file did."""


def _connect(url: str, transfer: _Transfer, floor: float) -> bool:
    """One connection: add to the part until the file ends; gives whether it went on from an older part.

    Raises _Left, _Later, or whatever a network may raise (OSError, HTTPException); the part keeps what has arrived.
    """
    size, start = transfer.file.size, transfer.here()
    # The bytes as they lie there: a server may call a .gz "encoded", and a client that knows better would unpack it.
    headers = {"User-Agent": "reprozoo", "Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
        validator = transfer.validator(url)
        if validator is not None:
            headers["If-Range"] = validator
    try:
        response = _opener().open(urllib.request.Request(url, headers=headers), timeout=transfer.patience.silence)
    except urllib.error.HTTPError as error:
        with error:
            if error.code == 416 and start:  # no such range: the part isn't of this file
                transfer.drop()
                return _connect(url, transfer, floor)
            if error.code in LATER:
                raise _Later(_words(error), _retry_after(error.headers)) from error
            raise _Left(_words(error)) from error
    except ValueError as error:  # an address that isn't one
        raise _Left(_words(error)) from error
    with response:
        at, total = _offered(response)
        if at != start and response.status == 206:  # another range than the one asked for: do without
            if not start:
                raise _Left("answers with a part of the file, unasked")
            transfer.drop()
            return _connect(url, transfer, floor)
        if size is not None and total not in (None, size):
            raise _Left(f"offers {total:,} bytes, the official file has {size:,}")
        transfer.total, transfer.arrived = size or total, at
        note = {"url": url, "validator": _validator(response), "bytes": transfer.total}
        with transfer.writer(at, note) as write:
            _copy(response, write, transfer, floor)
    if transfer.total is not None and transfer.arrived < transfer.total:
        raise _BrokeOff(f"broke off after {transfer.arrived:,} of {transfer.total:,} bytes")
    return at > 0


def _copy(response: Any, write: Callable[[bytes], None], transfer: _Transfer, floor: float) -> None:
    """The body into the part; raises _Crawls, _Left where it is too long, _Interrupted, and what the network raises."""
    size = transfer.file.size
    since, counted = time.monotonic(), transfer.arrived
    while chunk := response.read1(2**18):  # what is there, without waiting for more: a rate can be told
        if transfer.stop.is_set():
            raise _Interrupted
        write(chunk)
        transfer.arrived += len(chunk)
        transfer.gained += len(chunk)
        if size is not None and transfer.arrived > size:
            transfer.drop()
            raise _Left(f"sends more than the {size:,} bytes of the official file")
        passed = time.monotonic() - since
        if passed >= transfer.patience.window:
            rate = (transfer.arrived - counted) / passed
            if rate < floor:
                raise _Crawls(rate)
            since, counted = time.monotonic(), transfer.arrived


def _opener() -> urllib.request.OpenerDirector:
    """urllib's, proxies from the environment and redirects included, but for http and https only."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.UnknownHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPRedirectHandler(),
        urllib.request.HTTPErrorProcessor(),
    ):
        opener.add_handler(handler)
    return opener


def _offered(response: Any) -> tuple[int, int | None]:
    """From which byte on a response is (-1: no telling), and how many the whole file has (None: not said)."""
    if response.status != 206:
        return 0, response.length
    found = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", (response.headers.get("Content-Range") or "").strip())
    if found is None:
        return -1, None
    return int(found[1]), None if found[2] == "*" else int(found[2])


def _validator(response: Any) -> str | None:
    """What to recognise this file by at this address: its strong ETag, else its date."""
    etag = response.headers.get("ETag")
    if etag and not etag.startswith("W/"):
        return str(etag)
    return response.headers.get("Last-Modified")


def _retry_after(headers: Any) -> float | None:
    """Seconds that a server asks to wait: it says so in seconds or as a date; None where it doesn't, or not in order."""
    said = headers.get("Retry-After") or ""
    if said.strip().isdecimal():
        return float(said)
    with suppress(ValueError, TypeError):
        return max(0.0, (parsedate_to_datetime(said) - datetime.now(UTC)).total_seconds())
    return None


def _words(error: BaseException) -> str:
    """An exception in some words, on one line, whatever a server put into it."""
    if isinstance(error, urllib.error.HTTPError):
        text = f"answers {error.code} ({error.reason})"
    elif isinstance(error, urllib.error.URLError):
        return _words(error.reason) if isinstance(error.reason, BaseException) else str(error.reason)
    elif isinstance(error, TimeoutError):
        text = "no answer"
    elif isinstance(error, http.client.BadStatusLine) and not isinstance(error, http.client.RemoteDisconnected):
        text = f"answers in something else than HTTP ({error})"
    else:
        text = getattr(error, "strerror", None) or str(error) or type(error).__name__
        text = text[:1].lower() + text[1:]
    return one_line(text)[:160]


# --- what is shown ---------------------------------------------------------------------------------------------------


class _Show:
    """How far the files are: bars on a terminal, a line now and then anywhere else."""

    def __init__(self, transfers: Sequence[_Transfer], log: Log) -> None:
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
