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
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

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


def choose_group(open_now: Sequence[JobView], busy: Sequence[Group]) -> list[JobView]:
    """Return the jobs for a free slot: those of the group with the most remaining epochs per worker, including this one."""
    groups: dict[Group, list[JobView]] = {}
    for view in open_now:
        if view.waits:
            groups.setdefault(Group.of(view.job), []).append(view)

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
    enter(slot, work.options.threads)
    worker = Worker(work.options, work.stopping, echo, own_process=False)
    while not work.stopping.is_set():
        group = choose_group(list(work.open_jobs()), [])
        if not group:
            break
        run_bundle([view.paths.folder for view in group], worker)
        tick()
    lock.release()


@dataclass
class _Child:
    slot: Slot
    group: Group
    process: subprocess.Popen[bytes]
    output: Path


def run_local(work: Work, slots: list[Slot], tick: Callable[[], None], warn: Callable[[str], None]) -> None:
    """Run one child per slot until every job has ended or `work.stopping` is set; then each child saves a checkpoint.

    Raise UserError if MAX_FAILURES workers in a row end before they start a job.
    """
    children: list[_Child] = []
    failed_starts = 0  # consecutive workers that ended before they started a job
    free = [SlotLock(slot) for slot in slots]
    locks_by_pid: dict[int, SlotLock] = {}
    busy_slots: set[Slot] = set()  # slots reported as held by another submit
    last_tick = 0.0
    try:
        while True:
            for child in [c for c in children if c.process.poll() is not None]:
                children.remove(child)
                lock = locks_by_pid.pop(child.process.pid)
                lock.release()
                free.append(lock)
                failed_starts = failed_starts + 1 if _crashed_between_jobs(child, work, warn) else 0
                if failed_starts >= MAX_FAILURES:
                    raise UserError(
                        f"{failed_starts} workers in a row ended before they started a job; see {child.output}"
                    )
            if work.stopping.is_set():
                break
            open_now = list(work.open_jobs())
            if not children and not work.has_work(open_now):
                return
            for lock in list(free):
                group = _claimable(work.preferred(open_now), children) or _claimable(open_now, children)
                if not group:
                    continue
                if not lock.acquire():
                    if lock.slot not in busy_slots:
                        warn(f"slot {lock.slot.name} is in use by another submit: waiting for it")
                        busy_slots.add(lock.slot)
                    continue
                child = _start(lock, group, work)
                free.remove(lock)
                locks_by_pid[child.process.pid] = lock
                children.append(child)
            if time.monotonic() - last_tick > 5 * POLL_SECONDS:
                tick()
                last_tick = time.monotonic()
            time.sleep(POLL_SECONDS)
    finally:
        _stop(children, tick)
        for child in children:
            locks_by_pid.pop(child.process.pid).release()


def _claimable(open_now: list[JobView], children: list[_Child]) -> list[JobView]:
    """Return the group for one more worker. Each child that has not started a job yet counts as one waiting job less."""
    starting_groups = [c.group for c in children if not _has_begun(c, open_now)]
    waiting = list(open_now)
    for group in starting_groups:
        taken = next((view for view in waiting if view.waits and Group.of(view.job) == group), None)
        if taken is not None:
            waiting.remove(taken)
    return choose_group(waiting, [c.group for c in children])


def _has_begun(child: _Child, open_now: list[JobView]) -> bool:
    """Return whether the lease of a running job names this child."""
    running = [view for view in open_now if view.state == "running"]
    return any(_is_of(read_json(view.paths.lease) or {}, child) for view in running)


def _is_of(line: dict[str, Any], child: _Child) -> bool:
    """Return whether this child wrote a lease or a start line. The host is compared too, because another host reuses pids."""
    return (line.get("host"), line.get("pid")) == (host(), child.process.pid)


def _start(lock: SlotLock, group: list[JobView], work: Work) -> _Child:
    """Start a worker on a bundle in its own session, so that Ctrl-C and a closed terminal reach only the submit."""
    slot = lock.slot
    bundle = Bundle(
        options=work.options.model_copy(update={"device": slot.device, "shares": slot.shares}),
        folders=tuple(view.paths.folder for view in group),
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
    return _Child(slot, Group.of(group[0].job), process, output)


def _crashed_between_jobs(child: _Child, work: Work, warn: Callable[[str], None]) -> bool:
    """Record how a worker ended, as a failure of the job it was running; return True if it was running none."""
    code = child.process.returncode
    if code == 0:
        return False
    how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
    how += " (killed, perhaps because the system ran out of memory: see `dmesg`)" * (code == -signal.SIGKILL)
    for job, paths in work.jobs:
        attempts = Attempts.read(paths)
        if not (attempts.unfinished and _is_of(attempts.last, child)):
            continue
        record_crash(paths, f"the worker ended with {how}", child.slot.name)
        warn(f"{job.key}: the worker on {child.slot.name} ended with {how}; log: {paths.log}")
        return False
    tail = child.output.read_text(errors="replace").splitlines()[-3:]
    warn(f"the worker on {child.slot.name} ended with {how} before it started a job: {' | '.join(tail)}")
    return True


def record_crash(paths: JobPaths, what: str, where: str) -> bool:
    """Record an infrastructure failure for an attempt that started and never ended; return False if there is none."""
    if not Attempts.read(paths).unfinished:
        return False
    Failure.now(paths, "infrastructure", what, where).write(paths)
    return True


def _stop(children: list[_Child], tick: Callable[[], None]) -> None:
    """Ask every child to save a checkpoint and wait for at most STOP_PATIENCE; kill those still running."""
    for child in children:
        with contextlib.suppress(ProcessLookupError):
            child.process.send_signal(signal.SIGTERM)
    deadline = time.monotonic() + STOP_PATIENCE
    while any(child.process.poll() is None for child in children) and time.monotonic() < deadline:
        tick()
        time.sleep(POLL_SECONDS)
    for child in children:
        if child.process.poll() is None:
            child.process.kill()
        child.process.wait()
