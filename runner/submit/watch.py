"""Tell which waiting jobs will start by themselves: jobs of a submit at work, and tasks in SLURM's queue."""

import time
from collections.abc import Sequence
from pathlib import Path

from runner.engines.slurm_array import arrays_folder
from runner.engines.slurm_queue import QUERY_SECONDS, SlurmUnavailable, Task, tasks_of_jobs
from runner.jobs.paths import JobPaths
from runner.jobs.state import TO_RUN, State, someone_submits


class QueueView:
    """The submits and SLURM tasks at work. `trouble` is one line if SLURM does not answer, else None."""

    def __init__(self) -> None:
        self._tasks: dict[Path, Task] = {}
        self._last_query = float("-inf")
        self._submitting = False
        self.trouble: str | None = None

    def refresh(self, jobs: Sequence[tuple[JobPaths, State]]) -> None:
        """Read the state again. SLURM is asked only if a job waits and an array was ever queued here."""
        self._submitting = someone_submits()
        waiting = any(state in TO_RUN for _, state in jobs)
        if not waiting or not arrays_folder().is_dir() or time.monotonic() - self._last_query < QUERY_SECONDS:
            return
        self._last_query = time.monotonic()
        try:
            self._tasks, self.trouble = tasks_of_jobs(), None
        except SlurmUnavailable as error:
            self.trouble = f"SLURM does not answer: {error}"

    def will_run(self, paths: JobPaths, state: State) -> bool:
        """Return whether a job is running or will start by itself."""
        if state not in TO_RUN:
            return state == "running"
        return not paths.stop.exists() and (self._submitting or self._is_queued(paths))

    def annotate(self, paths: JobPaths, state: State) -> str:
        """Return a note on a waiting job: 'stopped', or its place in SLURM's queue; '' for other jobs."""
        if state not in TO_RUN:
            return ""
        if paths.stop.exists():
            return "stopped"
        return str(self._tasks[paths.folder]) if self._is_queued(paths) else ""

    def _is_queued(self, paths: JobPaths) -> bool:
        return paths.folder in self._tasks and self._tasks[paths.folder].alive
