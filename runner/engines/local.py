"""Start workers and keep the slots busy until every job of a submit has ended.

A slot is a share of a GPU, or some cores. A free slot gets a worker for one group of jobs, those of one (dataset, model):
the group with the most remaining work per worker. The jobs' locks decide which worker runs which job. So no slot idles
while work is left. No state is kept in memory that a crash could lose, because states are read from the files.
"""

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from benchmarks.errors import UserError
from benchmarks.records import Job
from runner.engines.slots import Slot, SlotLock, enter
from runner.files import read_json
from runner.jobs.attempts import MAX_FAILURES, Attempts, Failure
from runner.jobs.paths import Group, JobPaths, PlannedJob, host, runs_folder
from runner.jobs.state import JobView
from runner.sources import child_variables, python
from runner.worker.attempt import Worker, run_bundle
from runner.worker.options import Bundle, RunOptions
from runner.worker.process import signals_blocked

POLL_SECONDS = 0.2
STOP_PATIENCE = 120.0  # seconds a worker may take to save its checkpoint before it is killed

Item = TypeVar("Item", PlannedJob, JobView)


# --- one submit ----------------------------------------------------------------------------------------------------------


@dataclass
class Work:
    """The jobs of one submit, and their progress."""

    jobs: list[PlannedJob]
    options: RunOptions
    stopping: threading.Event = field(default_factory=threading.Event)
    ended: set[Path] = field(default_factory=set)  # jobs that need no more work here

    def open_jobs(self) -> Iterator[JobView]:
        """Yield the jobs that have not ended, with their states."""
        for planned in self.jobs:
            if planned.paths.folder in self.ended:
                continue
            view = JobView.of(planned)
            if self._has_ended(view):
                self.ended.add(view.paths.folder)
            else:
                yield view

    def _has_ended(self, view: JobView) -> bool:
        """Return whether a job is done, has failed, was given up, or was stopped."""
        if view.waits:
            return view.paths.stop.exists() or Attempts.read(view.paths).given_up_by(self.options.submission)
        return view.state != "running"

    def preferred(self, open_now: list[JobView]) -> list[JobView]:
        """Return the open jobs to start first."""
        return open_now

    def has_work(self, open_now: list[JobView]) -> bool:
        """Return whether to keep waiting although no worker runs here. A job that runs elsewhere may be killed there."""
        return bool(open_now)


def epochs_left(job: Job, paths: JobPaths) -> float:
    """Return the remaining epochs of a job, at least 0.1. Used only to start the longest jobs first."""
    done = (read_json(paths.lease) or {}).get("epoch", 0)
    return max((job.most_epochs or 1) - done, 0.1)


def by_group(jobs: Iterable[Item]) -> dict[Group, list[Item]]:
    """Return the jobs of each group, in their order."""
    groups: dict[Group, list[Item]] = {}
    for item in jobs:
        groups.setdefault(Group.of(item.job), []).append(item)
    return groups


def choose_group(open_now: Sequence[JobView], busy: Sequence[Group]) -> list[JobView]:
    """Return the jobs for a free slot: those of the group with the most remaining epochs per worker, including this one."""
    groups = by_group(view for view in open_now if view.waits)

    def left(group: Group) -> float:
        return sum(epochs_left(view.job, view.paths) for view in groups[group]) / (1 + busy.count(group))

    return groups[max(groups, key=left)] if groups else []


def run_inline(work: Work, slot: Slot, tick: Callable[[], None], echo: Callable[[str], None] | None = None) -> None:
    """Run every job in this process, one after another, for debugging. Jobs that run elsewhere are left alone.

    Raise UserError if another submit holds the slot.
    """
    lock = SlotLock(slot)
    if not lock.acquire():
        raise UserError(f"the slot {slot.name} is in use by another submit: wait, or use --slots-per-gpu 2")
    try:
        enter(slot, work.options.threads)
        worker = Worker(work.options, work.stopping, echo, own_process=False)
        while not work.stopping.is_set() and (group := choose_group(list(work.open_jobs()), [])):
            run_bundle([view.paths.folder for view in group], worker)
            tick()
    finally:
        lock.release()


def run_local(work: Work, slots: list[Slot], tick: Callable[[], None], warn: Callable[[str], None]) -> None:
    """Run one child per slot until every job has ended or `work.stopping` is set; then each child saves a checkpoint.

    Raise UserError if MAX_FAILURES workers in a row end before they start a job.
    """
    workers = _Workers(work, slots, warn)
    last_tick = 0.0
    try:
        while True:
            workers.reap()
            if work.stopping.is_set():
                return
            open_now = list(work.open_jobs())
            if not workers.children and not work.has_work(open_now):
                return
            workers.fill_slots(open_now)
            if time.monotonic() - last_tick > 5 * POLL_SECONDS:
                tick()
                last_tick = time.monotonic()
            time.sleep(POLL_SECONDS)
    finally:
        workers.stop(tick)


def record_crash(paths: JobPaths, what: str, where: str) -> bool:
    """Record an infrastructure failure for an attempt that started and never ended; return False if there is none."""
    if not Attempts.read(paths).unfinished:
        return False
    Failure.now(paths, "infrastructure", what, where).write(paths)
    return True


# --- the workers on this machine -----------------------------------------------------------------------------------------


@dataclass(eq=False)
class _Child:
    """A worker process, its slot, and the group of jobs that it was started for."""

    process: subprocess.Popen[bytes]
    lock: SlotLock
    group: Group
    output: Path

    @property
    def slot(self) -> str:
        return self.lock.slot.name

    @property
    def has_ended(self) -> bool:
        return self.process.poll() is not None

    def wrote(self, line: dict[str, Any]) -> bool:
        """Return whether this child wrote a lease or a start line. Another host may use the same pid."""
        return (line.get("host"), line.get("pid")) == (host(), self.process.pid)

    def has_begun(self, open_now: Sequence[JobView]) -> bool:
        """Return whether the lease of a running job names this child."""
        running = [view for view in open_now if view.state == "running"]
        return any(self.wrote(read_json(view.paths.lease) or {}) for view in running)

    def crash(self) -> str:
        """Return how the process ended: its signal or its exit code. Empty if it ended as it should."""
        code = self.process.returncode
        if code >= 0:
            return f"exit code {code}" if code else ""
        killed = " (killed, perhaps because the system ran out of memory: see `dmesg`)" * (code == -signal.SIGKILL)
        return f"signal {signal.Signals(-code).name}{killed}"


class _Workers:
    """The children of one submit, at most one for each slot."""

    def __init__(self, work: Work, slots: Sequence[Slot], warn: Callable[[str], None]) -> None:
        self.children: list[_Child] = []
        self._work, self._warn = work, warn
        self._free = [SlotLock(slot) for slot in slots]
        self._held_elsewhere: set[Slot] = set()  # slots that were reported as in use by another submit
        self._failed_starts = 0  # consecutive workers that ended before they started a job

    def reap(self) -> None:
        """Record how workers ended, and free their slots. Raise UserError after MAX_FAILURES failed starts in a row."""
        for child in [child for child in self.children if child.has_ended]:
            self.children.remove(child)
            child.lock.release()
            self._free.append(child.lock)
            self._failed_starts = self._failed_starts + 1 if self._crashed_between_jobs(child) else 0
            if self._failed_starts >= MAX_FAILURES:
                raise UserError(
                    f"{self._failed_starts} workers in a row ended before they started a job; see {child.output}"
                )

    def fill_slots(self, open_now: list[JobView]) -> None:
        """Start a worker on each free slot, while jobs wait for one."""
        for lock in list(self._free):
            jobs = self._claimable(self._work.preferred(open_now)) or self._claimable(open_now)
            if not jobs:
                return
            if self._acquire(lock):
                self.children.append(_start(lock, jobs, self._work))
                self._free.remove(lock)

    def stop(self, tick: Callable[[], None]) -> None:
        """Ask every child to save a checkpoint and wait for at most STOP_PATIENCE; kill those still running."""
        for child in self.children:
            with contextlib.suppress(ProcessLookupError):
                child.process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + STOP_PATIENCE
        while not all(child.has_ended for child in self.children) and time.monotonic() < deadline:
            tick()
            time.sleep(POLL_SECONDS)
        for child in self.children:
            if not child.has_ended:
                child.process.kill()
            child.process.wait()
        for lock in [*self._free, *(child.lock for child in self.children)]:
            lock.release()

    def _claimable(self, open_now: Sequence[JobView]) -> list[JobView]:
        """Return the jobs for one more worker. Each child that has not started a job yet counts as one waiting job less."""
        waiting = [view for view in open_now if view.waits]
        for child in self.children:
            if not child.has_begun(open_now):
                taken = next((view for view in waiting if Group.of(view.job) == child.group), None)
                if taken is not None:
                    waiting.remove(taken)
        return choose_group(waiting, [child.group for child in self.children])

    def _acquire(self, lock: SlotLock) -> bool:
        """Take a slot. Return False if another submit holds it, and say so once."""
        acquired = lock.acquire()
        if not acquired and lock.slot not in self._held_elsewhere:
            self._held_elsewhere.add(lock.slot)
            self._warn(f"slot {lock.slot.name} is in use by another submit: waiting for it")
        return acquired

    def _crashed_between_jobs(self, child: _Child) -> bool:
        """Record a crash as a failure of the job that the worker was running; return True if it was running none."""
        crash = child.crash()
        if not crash:
            return False
        for job, paths in self._work.jobs:
            attempts = Attempts.read(paths)
            if attempts.unfinished and child.wrote(attempts.last):
                record_crash(paths, f"the worker ended with {crash}", child.slot)
                self._warn(f"{job.key}: the worker on {child.slot} ended with {crash}; log: {paths.log}")
                return False
        tail = child.output.read_text(errors="replace").splitlines()[-3:]
        self._warn(f"the worker on {child.slot} ended with {crash} before it started a job: {' | '.join(tail)}")
        return True


def _start(lock: SlotLock, jobs: Sequence[JobView], work: Work) -> _Child:
    """Start a worker on a bundle in its own session, so that Ctrl-C and a closed terminal reach only the submit."""
    slot = lock.slot
    bundle = Bundle(
        options=work.options.model_copy(update={"device": slot.device, "shares": slot.shares}),
        folders=tuple(view.paths.folder for view in jobs),
    )
    environment = os.environ | child_variables()
    if slot.visible is not None:
        environment["CUDA_VISIBLE_DEVICES"] = slot.visible
    output = runs_folder() / "workers" / f"{work.options.submission[:8]}-{slot.name}.txt"
    bundle.write(output.with_suffix(".json"))
    with output.open("ab") as target, signals_blocked():
        process = subprocess.Popen(
            python("-m", "runner.worker", str(output.with_suffix(".json"))),
            stdin=subprocess.DEVNULL,
            stdout=target,
            stderr=target,
            env=environment,
            start_new_session=True,
            pass_fds=lock.descriptors(),  # the slot stays locked while the worker lives
        )
    return _Child(process, lock, Group.of(jobs[0].job), output)
