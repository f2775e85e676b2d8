"""Derive a job's state from its files on every call; it is never stored.

So `kill -9`, a power cut or a full disk cannot leave it inconsistent. Does not import torch, mlflow or pandas.
"""

import json
import time
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Literal

from benchmarks.records import Job
from runner import locks
from runner.files import read_json, read_last_line, read_lines
from runner.jobs.paths import JobPaths, host, runs_folder

State = Literal["done", "running", "failed", "interrupted", "killed", "pending"]
STATES: tuple[State, ...] = ("done", "running", "failed", "interrupted", "killed", "pending")
TO_RUN: frozenset[State] = frozenset({"pending", "interrupted", "killed"})
LEASE_SECONDS = 30  # seconds between two renewals of a lease
LEASE_TRUSTED = 180  # seconds for which another host's lease is valid
LOG_TAIL = 20  # lines of the log that a failure quotes
MAX_FAILURES = 3  # infrastructure failures in a row, without a new checkpoint, within one submit


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


def starts_of(paths: JobPaths) -> list[dict[str, Any]]:
    """Return the start line of each attempt at a job, oldest first."""
    return [line for line in read_lines(paths.attempts) if line.get("event") == "start"]


def last_run(attempts: list[dict[str, Any]]) -> str | None:
    """Return the random id of the run that the attempts belong to. A resumed job keeps its run id."""
    return next((line["run"] for line in reversed(attempts) if line.get("event") == "start" and line.get("run")), None)


def failures_in_a_row(attempts: list[dict[str, Any]]) -> int:
    """Return the number of infrastructure failures since the last submit and the last new checkpoint.

    An attempt without an end was killed and counts. Each start names its submission and the checkpoint it resumed from, so
    that progress between two failures resets the count.
    """
    starts = [(number, line) for number, line in enumerate(attempts) if line.get("event") == "start"]
    count = 0
    for number, line in reversed(starts):
        if line.get("checkpoint") != starts[-1][1].get("checkpoint"):
            break
        after = attempts[number + 1] if number + 1 < len(attempts) else {}
        failed = after.get("event") != "end" or after.get("outcome") == "infrastructure"
        count += failed and line.get("submission") == starts[-1][1].get("submission")
    return count


def too_many_failures(paths: JobPaths, submission: str) -> bool:
    """Return whether this submit has used up its attempts, even if a full disk prevented failure.json."""
    attempts = read_lines(paths.attempts)
    last = next((line.get("submission") for line in reversed(attempts) if line.get("event") == "start"), None)
    return bool(submission) and last == submission and failures_in_a_row(attempts) >= MAX_FAILURES


def state_of(paths: JobPaths, *, holding_lock: bool = False) -> State:
    """Return the state, read from the files: record, lock or lease, failure, checkpoint, unfinished attempt, else pending.

    A worker that holds the job's lock passes `holding_lock`, because the probe would find its own lock.
    """
    if paths.record.exists():
        return "done"
    if leased_elsewhere(paths) or (not holding_lock and is_locked(paths)):
        return "running"
    attempts = read_lines(paths.attempts)
    failure = read_json(paths.failure)
    if failure is not None and (failure.get("kind") != "infrastructure" or failures_in_a_row(attempts) >= MAX_FAILURES):
        return "failed"
    if paths.checkpoint.exists():
        return "interrupted"
    if attempts and attempts[-1].get("event") == "start":
        return "killed"
    return "pending"


def log_tail(paths: JobPaths) -> list[str]:
    """Return the last LOG_TAIL lines of the log; an empty list if there is none."""
    try:
        return paths.log.read_text(encoding="utf-8", errors="replace").splitlines()[-LOG_TAIL:]
    except OSError:
        return []


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


def progress_of(job: Job, paths: JobPaths, state: State) -> dict[str, Any]:
    """Return a job's progress; None for values not known yet. `epoch` counts whole epochs, `test_error` is in percent.

    Fingerprints are left out, because computing them for 10,000 jobs is slow and they are rarely needed.
    """
    epochs = job.most_epochs
    record = read_json(paths.record) if state == "done" else None
    lease = (read_json(paths.lease) or {}) if state == "running" else {}
    epoch: Any = lease.get("epoch")
    error: Any = lease.get("test_error")
    if record is not None:
        error = record.get("test_error")
        epoch = record.get("diverged_epoch") or epochs
    elif epoch is None or error is None:
        last = read_last_line(paths.metrics)
        epoch = last.get("epoch", 0) if epoch is None else epoch
        error = last.get("test_error") if error is None else error
    return {
        "key": job.key,
        "state": state,
        "epoch": epoch,
        "epochs": epochs,
        "test_error": error,
        "outcome": record.get("outcome") if record else None,
        "attempts": len(starts_of(paths)),
    }


def status_json(jobs: Iterable[tuple[Job, JobPaths, State]]) -> str:
    """Return the text of `status --json`: a line for each job with stable keys, and the number of jobs in each state."""
    rows = [plan_row(job, state) | progress_of(job, paths, state) for job, paths, state in jobs]
    lines = ",\n".join("    " + json.dumps(row) for row in rows)
    counts = json.dumps(count_states([row["state"] for row in rows]))
    return f'{{\n  "jobs": [\n{lines}\n  ],\n  "counts": {counts}\n}}\n'


def count_states(states: Sequence[State]) -> dict[str, int]:
    """Return the object `counts` of --json: how many jobs in all, to run, and in each state."""
    counts = {"total": len(states), "to_run": sum(state in TO_RUN for state in states)}
    return counts | {state: states.count(state) for state in STATES}
