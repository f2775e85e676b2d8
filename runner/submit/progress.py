"""Show the progress of a submit: a live table on a terminal, plain lines elsewhere."""

import contextlib
import functools
import time
from collections.abc import Iterable
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from benchmarks.records import Job
from runner.files import read_json
from runner.jobs.attempts import Failure
from runner.jobs.paths import JobPaths, PlannedJob
from runner.jobs.state import JobView, State, progress_of, state_of
from runner.submit.estimate import Kind, epoch_images, epoch_operations, kind_of, seconds_left
from runner.text import duration, percent

PLAIN_SECONDS = 30.0  # between two summaries without a terminal
SYMBOLS: dict[str, str] = {
    "done": "✓", "running": "▶", "failed": "✗", "interrupted": "‖", "killed": "†", "pending": "·",
}  # fmt: skip


class Progress:
    """Follow the jobs of one submit through their files; `tick` may be called at any rate."""

    def __init__(self, jobs: Iterable[PlannedJob], console: Console) -> None:
        self.jobs = list(jobs)
        self.console = console
        self.states: dict[JobPaths, State] = {paths: state_of(paths) for _, paths in self.jobs}
        self._parts: dict[JobPaths, float] = {}  # the completed fraction of a running job's current epoch
        self._seconds: dict[Kind, float] = {}  # of an epoch, at the newest rate of a running job
        self._slots = 1  # the largest number of jobs that ran concurrently so far
        self._ended = {paths for paths, state in self.states.items() if state == "done"}
        self._last_summary = time.monotonic()
        self._live = Live(console=console, refresh_per_second=4, transient=True) if console.is_terminal else None

    def __enter__(self) -> "Progress":
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.tick()
        if self._live is not None:
            self._live.stop()

    def detach(self) -> None:
        """Switch to plain lines after the terminal has gone."""
        live, self._live = self._live, None
        if live is not None:
            with contextlib.suppress(OSError):
                live.stop()

    def say(self, line: str) -> None:
        """Print a line above the live table. A terminal that disappears between two writes does not end the work."""
        with contextlib.suppress(OSError):
            self.console.print(line, markup=False, highlight=False, soft_wrap=True)

    def tick(self) -> None:
        """Read the files and show what changed."""
        running = []
        for job, paths in self.jobs:
            if paths in self._ended:
                continue
            before, state = self.states[paths], state_of(paths)
            self.states[paths] = state
            facts = progress_of(JobView(job, paths, state))
            self._parts.pop(paths, None)
            if state == "running":
                lease = read_json(paths.lease) or {}
                running.append((facts, lease))
                self._parts[paths] = (lease.get("step") or 0) / (lease.get("steps") or 1)
                if lease.get("images_per_second"):
                    self._seconds[kind_of(job)] = epoch_images(job) / lease["images_per_second"]
            if state == before:
                continue
            if state == "running" and self._live is None:
                self.say(f"{SYMBOLS[state]} {job.key}  started")
            elif state == "done":
                self._ended.add(paths)
                extra = "" if facts["outcome"] == "finished" else f"  {facts['outcome']}"
                self.say(f"{SYMBOLS[state]} {job.key}  {percent(facts['test_error'])}{extra}")
            elif state != "running" and before == "running":
                failure = Failure.read(paths)
                why = failure.what.split("\n")[0] if failure else ""
                where = f"{state} after epoch {facts['epoch']} of {facts['epochs']}"
                self.say(f"{SYMBOLS[state]} {job.key}  {f'{where}: {why}' if why else where}")
        self._slots = max(self._slots, len(running))
        if self._live is not None:
            self._live.update(self._table(running))
        elif running and time.monotonic() - self._last_summary > PLAIN_SECONDS:
            self._last_summary = time.monotonic()
            for facts, lease in running:
                self.say(
                    f"  {facts['key']}  {self._where(facts, lease)}  {percent(facts['test_error'])}  {self._rate(lease)}"
                )
            self.say(f"  {len(self._ended)} of {len(self.jobs)} done, {self._time_left()}")

    # --- parts ---

    def _left(self, job: Job, paths: JobPaths) -> float:
        """Return a job's remaining epochs."""
        state = self.states[paths]
        if state in ("done", "failed"):
            return 0.0
        facts = progress_of(JobView(job, paths, state))
        return max(0.0, (facts["epochs"] or 1) - (facts["epoch"] or 0) - self._parts.get(paths, 0.0))

    @functools.cached_property
    def _operations(self) -> dict[Kind, float]:
        """The operations of an epoch by kind. Reading the cards takes time, and is needed only for unmeasured kinds."""
        return epoch_operations(job for job, _ in self.jobs)

    def _time_left(self) -> str:
        """Return the time left at the speed of the steps so far, so that an estimate is ready within seconds."""
        left = [(job, self._left(job, paths)) for job, paths in self.jobs]
        unknown = {kind_of(job) for job, epochs in left if epochs} - self._seconds.keys()
        seconds = seconds_left(left, self._seconds, self._operations if unknown else {}, self._slots)
        return "time left: unknown" if seconds is None else f"about {duration(seconds)} left"

    @staticmethod
    def _where(facts: dict[str, Any], lease: dict[str, Any]) -> str:
        steps = lease.get("steps")
        part = f" + {100 * lease['step'] // steps} %" if steps and lease.get("step") else ""
        return f"epoch {facts['epoch']}/{facts['epochs']}{part}"

    @staticmethod
    def _rate(lease: dict[str, Any]) -> str:
        rate = lease.get("images_per_second")
        return f"{rate:,.0f} images/s" if rate else ""

    def _table(self, running: list[tuple[dict[str, Any], dict[str, Any]]]) -> Group:
        table = Table.grid(padding=(0, 2))
        for facts, lease in running:
            total, done = facts["epochs"] or 1, facts["epoch"] or 0
            done += (lease.get("step") or 0) / (lease.get("steps") or 1)
            table.add_row(
                Text(facts["key"], overflow="ellipsis", no_wrap=True),
                ProgressBar(total=total, completed=done, width=20),
                f"{facts['epoch']}/{total}",
                percent(facts["test_error"]),
                self._rate(lease),
            )
        waiting = sum(self.states[paths] not in ("done", "failed", "running") for _, paths in self.jobs)
        line = f"{len(self._ended)} of {len(self.jobs)} done, {len(running)} running, {waiting} waiting; {self._time_left()}"
        return Group(table, Text(line, style="dim"))
