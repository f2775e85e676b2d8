"""The state of one download: its part file, its progress, and the timeouts and retry limits."""

import json
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.datasets import Dataset, File
from benchmarks.files import write_atomically
from runner.data.folder import os_errors_as_user_errors
from runner.files import read_json
from runner.text import amount


@dataclass(frozen=True)
class MirrorLimits:
    """Timeouts and retry limits of a mirror."""

    timeout: float = 30.0  # seconds without a byte or an answer
    min_rate: float = 100_000.0  # bytes/s: a slower mirror is given up while others are untried
    rate_window: float = 20.0  # seconds over which the rate is measured
    max_vain_tries: int = 4  # consecutive tries with fewer than `min_new_bytes`
    min_new_bytes: int = 2**20
    first_pause: float = 1.0  # seconds before the second try, then twice as many each time
    max_pause: float = 60.0  # seconds; a mirror that asks for more (Retry-After) is given up


DEFAULT_LIMITS = MirrorLimits()


@dataclass
class Transfer:
    """One file to download. Only its own thread changes it; the main thread reads it to show progress."""

    dataset: Dataset
    file: File
    folder: Path
    limits: MirrorLimits
    stop: threading.Event
    arrived: int = 0
    total: int | None = None
    gained: int = 0  # bytes of the current connection
    failure: str = ""  # why the download failed; empty otherwise
    reasons: list[str] = field(default_factory=list)  # why each mirror was given up: 'https://...: answers 404'

    def __post_init__(self) -> None:
        self.target = self.folder / self.file.path
        self.part = self.target.with_name(f"{self.target.name}.part")
        self.note = self.target.with_name(f"{self.target.name}.part.json")
        self.arrived, self.total = self.here(), self.file.size

    def here(self) -> int:
        """Return the size of the part file in bytes, 0 if there is none."""
        return self.part.stat().st_size if self.part.exists() else 0

    def disk(self) -> AbstractContextManager[None]:
        """Convert an OSError of the disk into a UserError, so that it is not mistaken for a network error."""
        return os_errors_as_user_errors(self.dataset, self.folder)

    def validator(self, url: str) -> str | None:
        """Return the If-Range value (RFC 9110) under which this address served the part file, or None."""
        note = read_json(self.note) or {}
        known = note.get("validator") if note.get("url") == url else None
        return known if isinstance(known, str) else None

    @contextmanager
    def writer(self, at: int, note: dict[str, Any]) -> Iterator[Callable[[bytes], None]]:
        """Yield a function that appends bytes to the part file. With `at` 0 the file is emptied first."""

        def write(chunk: bytes) -> None:
            with self.disk():
                out.write(chunk)
                out.flush()  # the bytes survive a crash of this process

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
        """Delete the part file and its note."""
        with self.disk():
            self.part.unlink(missing_ok=True)
            self.note.unlink(missing_ok=True)


class MirrorFailed(Exception):
    """A mirror is given up; the message says why."""


class TooSlow(MirrorFailed):
    """A mirror is given up for now because it is slow; `rate` is in bytes/s."""

    def __init__(self, rate: float) -> None:
        super().__init__(f"only {amount(rate)}/s")
        self.rate = rate


class Interrupted(BaseException):
    """Stop the thread after Ctrl-C; the part file is kept."""
