"""The lease: the file that says which process runs a job, and how far it is."""

import contextlib
import os
import threading
import time
from pathlib import Path
from typing import Any

from benchmarks.canonical import canonical_json
from runner.jobs.paths import boot_id, host, now_ms
from runner.jobs.state import LEASE_SECONDS
from runner.training import memory

PROGRESS_SECONDS = 1.0  # shortest time between two renewals with progress


class Lease:
    """lease.json: who runs the job. A thread renews it every 30 s; progress renews it at most once per second."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._facts: dict[str, Any] = {"host": host(), "boot": boot_id(), "pid": os.getpid()}
        self._written = 0.0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._renew, daemon=True)
        self._guard = threading.Lock()

    def __enter__(self) -> "Lease":
        self._write()
        memory.start_thread(self._thread)
        return self

    def __exit__(self, *exc: object) -> None:
        self._done.set()
        self._thread.join(timeout=5)

    def progress(self, facts: dict[str, Any]) -> None:
        """Record progress. It is written if the last write was more than PROGRESS_SECONDS ago."""
        self._facts.update(facts)
        if time.monotonic() - self._written > PROGRESS_SECONDS:
            self._write()

    def _renew(self) -> None:
        while not self._done.wait(LEASE_SECONDS):
            self._write()

    def _write(self) -> None:
        """Write the lease without fsync, because it is worthless after a crash.

        Errors are ignored: a full disk must not end a training.
        """
        with self._guard, contextlib.suppress(OSError):
            self._written = time.monotonic()
            temporary = self.path.with_name(".lease.tmp")
            temporary.write_text(canonical_json({**self._facts, "time": now_ms()}))
            temporary.replace(self.path)
