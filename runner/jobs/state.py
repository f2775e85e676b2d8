"""Derive a job's state from its files on every call; it is never stored.

So `kill -9`, a power cut or a full disk cannot leave it inconsistent. Does not import torch, mlflow or pandas.
"""

import json
import time
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Literal, NamedTuple

from benchmarks.records import Job
from runner import locks
from runner.files import read_json, read_last_line
from runner.jobs.attempts import Attempts, Failure
from runner.jobs.paths import JobPaths, PlannedJob, host, runs_folder

State = Literal["done", "running", "failed", "interrupted", "killed", "pending"]
STATES: tuple[State, ...] = ("done", "running", "failed", "interrupted", "killed", "pending")
TO_RUN: frozenset[State] = frozenset({"pending", "interrupted", "killed"})
LEASE_SECONDS = 30  # seconds between two renewals of a lease
LEASE_TRUSTED = 180  # seconds for which another host's lease is valid


# --- who runs it -----------------------------------------------------------------------------------------------------


def is_locked(paths: JobPaths) -> bool:
    """Return whether a live process of this host holds the job's lock, tested by a shared, non-blocking probe."""
    return locks.is_held(paths.lock)


def leased_elsewhere(paths: JobPaths) -> bool:
    """Return whether a recent lease of another host exists, because locks may not be visible across file systems.

    A lease from as far in the future is ignored too: one of the two clocks jumped.
    """
    lease = read_json(paths.lease)
    if lease is None or lease.get("host") == host():
        return False
    age = time.time() - lease["time"] / 1000 if isinstance(lease.get("time"), (int, float)) else float("inf")
    return abs(age) < LEASE_TRUSTED


def _submits() -> Path:
    return runs_folder() / "submits.lock"


def submit_lock() -> AbstractContextManager[None]:
    """Return a context manager that holds the shared lock of submits at work, until the process ends at the latest."""
    return locks.shared(_submits())


def someone_submits() -> bool:
    """Return whether a submit of this checkout is at work, so that waiting jobs may start by themselves."""
    return locks.is_held(_submits(), or_shared=True)


# --- the state ---------------------------------------------------------------------------------------------------------


def state_of(paths: JobPaths, *, holding_lock: bool = False) -> State:
    """Return the state, read from the files: record, lock or lease, failure, checkpoint, unfinished attempt, else pending.

    A worker that holds the job's lock passes `holding_lock`, because the probe would find its own lock.
    """
    if paths.record.exists():
        return "done"
    if leased_elsewhere(paths) or (not holding_lock and is_locked(paths)):
        return "running"
    attempts, failure = Attempts.read(paths), Failure.read(paths)
    if failure is not None and (failure.kind != "infrastructure" or attempts.given_up):
        return "failed"
    if paths.checkpoint.exists():
        return "interrupted"
    return "killed" if attempts.unfinished else "pending"


class JobView(NamedTuple):
    """A job, its files, and the state that they had when they were read."""

    job: Job
    paths: JobPaths
    state: State

    @classmethod
    def of(cls, planned: PlannedJob) -> "JobView":
        """Read the state of a job."""
        return cls(planned.job, planned.paths, state_of(planned.paths))

    @property
    def waits(self) -> bool:
        """Whether the job is still to run, and does not run now."""
        return self.state in TO_RUN


# --- as JSON -----------------------------------------------------------------------------------------------------------


def plan_row(job: Job, state: State) -> dict[str, Any]:
    """Return what --json shows of a job, run or not, with stable keys."""
    return {
        "key": job.key,
        "dataset": job.dataset,
        "model": job.model,
        "seed": job.seed,
        "profile": job.profile,
        "overrides": job.overrides,
        "fingerprint": job.fingerprint,
        "state": state,
    }


def progress_of(view: JobView) -> dict[str, Any]:
    """Return a job's progress; None for values not known yet. `epoch` counts whole epochs, `test_error` is in percent.

    A done job may have fewer epochs than `epochs`, because its schedule ended it. Fingerprints are left out, because
    computing them for 10,000 jobs is slow and they are rarely needed.
    """
    job, paths, state = view
    record = read_json(paths.record) if state == "done" else None
    lease = (read_json(paths.lease) or {}) if state == "running" else {}
    epoch: Any = lease.get("epoch")
    error: Any = lease.get("test_error")
    if epoch is None or error is None:
        last = read_last_line(paths.metrics)
        epoch = last.get("epoch", 0) if epoch is None else epoch
        error = last.get("test_error") if error is None else error
    if record is not None:
        error = record.get("test_error")
        epoch = record.get("diverged_epoch") or epoch
    return {
        "key": job.key,
        "state": state,
        "epoch": epoch,
        "epochs": job.most_epochs,
        "test_error": error,
        "outcome": record.get("outcome") if record else None,
        "attempts": len(Attempts.read(paths).starts),
    }


def status_json(views: Iterable[JobView]) -> str:
    """Return the text of `status --json`: a line for each job with stable keys, and the number of jobs in each state."""
    rows = [plan_row(view.job, view.state) | progress_of(view) for view in views]
    lines = ",\n".join("    " + json.dumps(row) for row in rows)
    counts = json.dumps(count_states([row["state"] for row in rows]))
    return f'{{\n  "jobs": [\n{lines}\n  ],\n  "counts": {counts}\n}}\n'


def count_states(states: Sequence[State]) -> dict[str, int]:
    """Return the object `counts` of --json: how many jobs in all, to run, and in each state."""
    counts = {"total": len(states), "to_run": sum(state in TO_RUN for state in states)}
    return counts | {state: states.count(state) for state in STATES}
