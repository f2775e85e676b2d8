"""One file on its way from a mirror: what has arrived of it, and for how long a mirror is waited for."""

import json
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.datasets import Dataset, File
from benchmarks.records import write_atomically
from runner.data.folder import os_errors_in_words
from runner.files import read_json
from runner.text import amount


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


@dataclass
class Transfer:
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
    reasons: list[str] = field(default_factory=list)  # why each mirror was left: 'https://...: answers 404'

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


class Left(Exception):
    """A mirror is given up; the message says why."""


class Crawls(Left):
    """A mirror is given up for now because it is slow."""

    def __init__(self, rate: float) -> None:
        super().__init__(f"only {amount(rate)}/s")
        self.rate = rate


class Interrupted(BaseException):
    """Ctrl-C: the thread ends, the part stays."""
