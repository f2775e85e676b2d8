"""Sync MLflow from a thread while jobs run."""

import threading
import time
from collections.abc import Callable, Sequence

from runner.jobs.find import all_jobs
from runner.jobs.paths import JobPaths
from runner.jobs.state import is_locked
from runner.tracking.store import behind_file, mark_behind
from runner.tracking.tracker import SyncReport, Tracker
from runner.training.memory import start_thread


class BackgroundSync:
    """Syncs MLflow from a thread while the `with` block runs, so that training never waits for it.

    It syncs every `every` seconds and once more on leaving the block, which waits at most `exit_seconds` for that.
    `warn` gets one line when something goes wrong. It is called from the thread.
    """

    def __init__(
        self, jobs: Sequence[JobPaths], warn: Callable[[str], None], *, every: float = 5.0, exit_seconds: float = 30.0
    ) -> None:
        self._jobs, self._warn, self._every, self._exit_seconds = jobs, warn, every, exit_seconds
        self._tracker = Tracker(warn=warn)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="mlflow-sync", daemon=True)
        self.report: SyncReport | None = None  # of the last sync, after the block

    def __enter__(self) -> "BackgroundSync":
        mark_behind()
        start_thread(self._thread)
        return self

    def __exit__(self, *exc: object) -> None:
        self._stopping.set()
        self._thread.join(self._exit_seconds)
        if self.report is None or (self.report.left and not self.report.warning):
            self._warn("MLflow lacks some runs; write them with: runner sync")
        elif not (self.report.left or self.report.held or any(is_locked(paths) for paths in all_jobs())):
            behind_file().unlink(missing_ok=True)

    def _run(self) -> None:
        while not self._stopping.wait(self._every):
            self._tracker.sync(self._jobs, stop=self._stopping.is_set)
        deadline = time.monotonic() + 0.9 * self._exit_seconds
        self.report = self._tracker.sync(
            self._jobs, patience=self._exit_seconds / 2, stop=lambda: time.monotonic() > deadline
        )
