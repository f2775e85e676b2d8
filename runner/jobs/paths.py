"""A job on disk: every file it has, and its state, which is never stored but always read from the files.

So `kill -9`, a power cut or a full disk can't leave a lie behind. Light: no torch, mlflow or pandas.
"""

import fcntl
import json
import os
import shutil
import socket
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError
from pydantic_core import from_json

from benchmarks.errors import UserError, unknown
from benchmarks.records import Job, problems_of, write_atomically

State = Literal["done", "running", "failed", "interrupted", "killed", "pending"]
STATES: tuple[State, ...] = ("done", "running", "failed", "interrupted", "killed", "pending")
TO_RUN: frozenset[State] = frozenset({"pending", "interrupted", "killed"})

LEASE_SECONDS = 30  # how often a quiet worker renews its lease
LEASE_TRUSTED = 180  # seconds for which another host's lease is believed
LOCK_PATIENCE = 2.0  # seconds: a probe holds the lock for an instant, so a refused worker tries again for so long
LINE_BYTES = 4096  # more than a line of metrics.jsonl and one torn after it take
LOG_TAIL = 20  # lines of the log that a failure quotes
MAX_FAILURES = 3  # infrastructure failures in a row, without a new checkpoint, within one submit


def root() -> Path:
    """The checkout whose .runs and results are meant: variable REPROZOO_ROOT, else the one that holds this package."""
    given = os.environ.get("REPROZOO_ROOT")
    return Path(given).expanduser().resolve() if given else Path(__file__).resolve().parent.parent.parent


def runs_folder() -> Path:
    """This checkout's own runs."""
    return root() / ".runs"


def results_folder() -> Path:
    """The published records."""
    return root() / "results"


@cache
def boot_id() -> str:
    """Names this boot of this machine: a pid means nothing across reboots."""
    with suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return "unknown"


def host() -> str:
    """This machine's name in leases and attempts."""
    return socket.gethostname()


def now_ms() -> int:
    """Wall clock, milliseconds since 1970."""
    return time.time_ns() // 1_000_000


@dataclass(frozen=True)
class JobPaths:
    """The folder of one job and every file in it."""

    folder: Path

    @classmethod
    def of(cls, job: Job, runs: Path | None = None) -> "JobPaths":
        """Where a job lies: .runs/<key>-<fingerprint8>/."""
        return cls((runs or runs_folder()) / f"{job.key}-{job.fingerprint[:8]}")

    @property
    def job(self) -> Path:
        return self.folder / "job.json"

    @property
    def attempts(self) -> Path:
        return self.folder / "attempts.jsonl"

    @property
    def log(self) -> Path:
        return self.folder / "log.txt"

    @property
    def metrics(self) -> Path:
        return self.folder / "metrics.jsonl"

    @property
    def system(self) -> Path:
        return self.folder / "system.jsonl"

    @property
    def checkpoint(self) -> Path:
        return self.folder / "checkpoint.pt"

    @property
    def lock(self) -> Path:
        return self.folder / "lock"

    @property
    def lease(self) -> Path:
        return self.folder / "lease.json"

    @property
    def cancel(self) -> Path:
        return self.folder / "cancel"

    @property
    def failure(self) -> Path:
        return self.folder / "failure.json"

    @property
    def weights(self) -> Path:
        return self.folder / "weights.pt"

    @property
    def record(self) -> Path:
        return self.folder / "record.json"

    @property
    def curve(self) -> Path:
        return self.folder / "curve.csv"

    @property
    def old(self) -> Path:
        return self.folder / "old"

    def read_job(self) -> Job:
        """The job of this folder; raises UserError where job.json is missing or torn."""
        try:
            return Job.model_validate_json(self.job.read_bytes())
        except OSError as error:
            raise UserError(f"{self.job}: can't be read ({error.strerror}); submit the suite again") from error
        except ValidationError as error:
            raise UserError(f"{self.job}: {problems_of(error)[0]}; remove the folder and submit again") from error

    def write_job(self, job: Job) -> None:
        """Lay the job down, once: its text is the fingerprint's own.

        Under the job's lock, which the caller must not hold: a worker that another submit has started meanwhile tidies
        what is half-written.
        """
        if self.job.exists():
            return
        with job_lock(self):
            if not self.job.exists():
                write_atomically(self.job, job.canonical())

    def set_aside(self, only: Path | None = None, keep: tuple[Path, ...] = ()) -> None:
        """Move one file, or everything but the job (and `keep`), into old/<utc>/: it starts afresh and nothing is lost.

        To be called under the job's lock. A cancellation stays: it may have come a moment ago.
        """
        kept = {self.job, self.lock, self.cancel, self.old, *keep}
        moved = [path for path in self.folder.iterdir() if path == only or (only is None and path not in kept)]
        # A kill in between: without attempts the next one is another run, and sets aside what is left.
        moved.sort(key=lambda path: (path != self.attempts, path != self.record))
        if moved:
            target = self.old / datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
            target.mkdir(parents=True)
            for path in moved:
                shutil.move(path, target / path.name)

    def tidy(self) -> None:
        """Remove what a killed process left behind and nobody reads; to be called under the job's lock."""
        left = list(self.folder.glob(".*.tmp"))
        if self.record.exists():
            left += [self.checkpoint, self.failure, self.lease]
        for path in left:
            path.unlink(missing_ok=True)


def append_line(path: Path, value: dict[str, Any]) -> None:
    """Append one JSON line in a single write, so that a reader never sees half of one from a living writer."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        if file.tell() and not _ends_with_newline(path):
            file.write(b"\n")  # a line torn by a crash stays alone
        file.write(json.dumps(value, sort_keys=True).encode() + b"\n")


def _ends_with_newline(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Every whole JSON object of a .jsonl file; a torn line is passed over, a missing file is empty."""
    try:
        content = path.read_bytes()
    except OSError:
        return []
    return [value for line in content.split(b"\n") if (value := _parse(line)) is not None]


def read_last_line(path: Path) -> dict[str, Any]:
    """The last whole JSON object of a .jsonl file, {} where there is none; reads no more than the file's end."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - LINE_BYTES))
            lines = file.read().split(b"\n")
    except OSError:
        return {}
    return next((value for line in reversed(lines) if (value := _parse(line)) is not None), {})


def read_json(path: Path) -> dict[str, Any] | None:
    """A small JSON object, or None where it is missing or torn."""
    try:
        return _parse(path.read_bytes())
    except OSError:
        return None


def _parse(text: bytes) -> dict[str, Any] | None:
    """A JSON object, or None where it's torn; pydantic's parser, since a status may read tens of thousands.

    An integer beyond 64 bits was never written here, and can't be made a float: such an object counts as torn.
    """
    try:
        value = from_json(text)
    except ValueError:
        return None
    if not isinstance(value, dict) or any(isinstance(item, int) and item.bit_length() > 63 for item in value.values()):
        return None
    return value


# --- who runs it -----------------------------------------------------------------------------------------------------


def is_locked(paths: JobPaths) -> bool:
    """Whether a living process of this host holds the job: a shared, non-blocking probe that keeps nothing."""
    return _is_taken(paths.lock, fcntl.LOCK_SH)


def _is_taken(path: Path, kind: int) -> bool:
    """Whether a lock of that kind can't be had on a file, which need not be there."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def leased_elsewhere(paths: JobPaths) -> bool:
    """Whether another host says, recently enough, that it runs the job (locks may not be seen across file systems).

    A time that is as far ahead is as little believed: one of the two clocks jumped.
    """
    lease = read_json(paths.lease)
    if lease is None or lease.get("host") == host():
        return False
    age = time.time() - lease["time"] / 1000 if isinstance(lease.get("time"), (int, float)) else float("inf")
    return abs(age) < LEASE_TRUSTED


@contextmanager
def locked_within(path: Path, patience: float) -> Iterator[bool]:
    """Hold a file's exclusive lock; yields False where another has it for longer than `patience` seconds.

    The kernel frees it with the process, and no child inherits it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        deadline = time.monotonic() + patience
        held = False
        while not held:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                held = True
            except BlockingIOError:
                if time.monotonic() > deadline:
                    break
                time.sleep(0.05)
        yield held
    finally:
        os.close(descriptor)


def job_lock(paths: JobPaths) -> AbstractContextManager[bool]:
    """The job's exclusive lock, with the patience that outlasts a probe; False where another process has it."""
    return locked_within(paths.lock, LOCK_PATIENCE)


def _submits() -> Path:
    return runs_folder() / "submits.lock"


@contextmanager
def submitting() -> Iterator[None]:
    """Be known as a submit at work: a shared lock, held by as many as there are and gone with the process."""
    _submits().parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(_submits(), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        yield
    finally:
        os.close(descriptor)


def someone_submits() -> bool:
    """Whether a submit of this checkout is at work, so that waiting jobs may start by themselves."""
    return _is_taken(_submits(), fcntl.LOCK_EX)


# --- the state ---------------------------------------------------------------------------------------------------------


def last_run(attempts: list[dict[str, Any]]) -> str | None:
    """The random id of the run that the attempts belong to: a resumed job is the same run."""
    return next((line["run"] for line in reversed(attempts) if line.get("event") == "start" and line.get("run")), None)


def failures_in_a_row(attempts: list[dict[str, Any]]) -> int:
    """How often infrastructure failed since the last submit and the last new checkpoint; an attempt without an end was killed.

    Each start names its submission and the checkpoint it went on from, so progress between two failures starts the count
    anew.
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


def given_up(paths: JobPaths, submission: str) -> bool:
    """Whether this submit has tried often enough, also where a full disk had no room for failure.json."""
    attempts = read_lines(paths.attempts)
    last = next((line.get("submission") for line in reversed(attempts) if line.get("event") == "start"), None)
    return bool(submission) and last == submission and failures_in_a_row(attempts) >= MAX_FAILURES


def state_of(paths: JobPaths, *, holding_lock: bool = False) -> State:
    """The state, read from the files: record, lock or lease, failure, checkpoint, unfinished attempt, else pending.

    A worker that holds the job's lock passes `holding_lock`, since a probe would only meet its own lock.
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


def plan_row(job: Job, state: State) -> dict[str, Any]:
    """What --json says of a job whether it has run or not: stable keys."""
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
    """How far a job is; None where there is nothing yet. `epoch` counts whole epochs, `test_error` is in percent.

    Without what costs time among 10,000 jobs and is only seldom wanted: their fingerprints.
    """
    epochs = job.most_epochs
    attempts = [line for line in read_lines(paths.attempts) if line.get("event") == "start"]
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
        "attempts": len(attempts),
    }


def status_json(found: Iterable[tuple[Job, JobPaths, State]]) -> str:
    """The text of `status --json`: a line for each job with stable keys, and how many are in each state."""
    rows = [plan_row(job, state) | progress_of(job, paths, state) for job, paths, state in found]
    lines = ",\n".join("    " + json.dumps(row) for row in rows)
    counts = json.dumps(count_states([row["state"] for row in rows]))
    return f'{{\n  "jobs": [\n{lines}\n  ],\n  "counts": {counts}\n}}\n'


def count_states(states: Sequence[State]) -> dict[str, int]:
    """The object `counts` of --json: how many jobs in all, to run, and in each state."""
    counts = {"total": len(states), "to_run": sum(state in TO_RUN for state in states)}
    return counts | {state: states.count(state) for state in STATES}


def log_tail(paths: JobPaths, lines: int = LOG_TAIL) -> list[str]:
    """The log's last lines; empty where there is none."""
    try:
        return paths.log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:]
    except OSError:
        return []


# --- finding jobs ------------------------------------------------------------------------------------------------------


def all_jobs(runs: Path | None = None) -> list[JobPaths]:
    """Every job that was submitted here, sorted by folder."""
    return [JobPaths(path.parent) for path in sorted((runs or runs_folder()).glob("*/*/*/job.json"))]


def record_submission(line: dict[str, Any]) -> None:
    """Note one submit: time, suite, the jobs' fingerprints."""
    append_line(runs_folder() / "submissions.jsonl", line)


def read_submissions() -> list[dict[str, Any]]:
    """Every submit of this checkout, oldest first."""
    return read_lines(runs_folder() / "submissions.jsonl")


def suites_of_jobs() -> dict[str, set[str]]:
    """The suites under which each fingerprint was submitted."""
    suites: dict[str, set[str]] = {}
    for line in read_submissions():
        for fingerprint in line.get("fingerprints", []):
            suites.setdefault(fingerprint, set()).add(str(line.get("suite")))
    return suites


def sequential_jobs() -> set[str]:
    """The fingerprints that were submitted because the seeds before them didn't decide the verdict."""
    return {fingerprint for line in read_submissions() for fingerprint in line.get("sequential", [])}


def find_job(text: str, candidates: list[JobPaths] | None = None) -> JobPaths:
    """The one job that a key, `KEY-FINGERPRINT8` or an unambiguous prefix means.

    An exact key wins, its newest revision first. Raises UserError naming the candidates, or the nearest key.
    """
    candidates = all_jobs() if candidates is None else candidates
    named = {str(paths.folder.relative_to(paths.folder.parents[2])): paths for paths in candidates}  # KEY-FINGERPRINT8
    if text in named:
        return named[text]
    exact = [paths for name, paths in named.items() if name[:-9] == text]
    if exact:
        return max(exact, key=lambda paths: (paths.read_job().revision, paths.job.stat().st_mtime_ns))
    starting = {name: paths for name, paths in named.items() if name.startswith(text)}
    if len(starting) == 1:
        return next(iter(starting.values()))
    if starting:
        listed = ", ".join(list(starting)[:8]) + (", ..." if len(starting) > 8 else "")
        raise UserError(f"'{text}' means {len(starting)} jobs: {listed}; give more of the key")
    if not named:
        raise UserError(
            f"no job '{text}': nothing was submitted here yet; start with: runner submit --suite quickstart"
        )
    raise unknown("job", text, {name[:-9] for name in named})
