"""The folders of this checkout and the files of a job. Does not import torch, mlflow or pandas."""

import shutil
import socket
import time
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import NamedTuple

from pydantic import ValidationError

from benchmarks.checkout import root
from benchmarks.errors import UserError
from benchmarks.files import write_atomically
from benchmarks.records import Job, problems_of
from runner.locks import locked_within

LOCK_PATIENCE = 2.0  # seconds a refused worker retries, because a probe holds the lock for an instant


def runs_folder() -> Path:
    """Return the folder of this checkout's own runs."""
    return root() / ".runs"


def results_folder() -> Path:
    """Return the folder of the published records."""
    return root() / "results"


def output_file() -> Path:
    """Return a path in .runs, named by the time, for the output of a submit without a terminal."""
    return runs_folder() / f"submit-{now_ms()}.txt"


@cache
def boot_id() -> str:
    """Return the id of this boot of the machine, because a pid is not unique across reboots."""
    with suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return "unknown"


def host() -> str:
    """Return this machine's name for leases and attempts."""
    return socket.gethostname()


def now_ms() -> int:
    """Return the wall-clock time in milliseconds since 1970."""
    return time.time_ns() // 1_000_000


@dataclass(frozen=True)
class JobPaths:
    """The folder of one job and every file in it."""

    folder: Path

    @classmethod
    def of(cls, job: Job, runs: Path | None = None) -> "JobPaths":
        """Return the paths of a job: .runs/<key>-<fingerprint8>/."""
        return cls((runs or runs_folder()) / f"{job.key}-{job.fingerprint[:8]}")

    @property
    def name(self) -> str:
        """The job's full name, `<key>-<fingerprint8>`: the last parts of the folder's path."""
        return "/".join(self.folder.parts[-3:])

    @property
    def dataset(self) -> str:
        """The data set, by the folder's path, so that job.json need not be read."""
        return self.folder.parts[-3]

    @property
    def model(self) -> str:
        """The model, by the folder's path, so that job.json need not be read."""
        return self.folder.parts[-2]

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
    def stop(self) -> Path:
        return self.folder / "stop"

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
        """Return the job of this folder; raise UserError if job.json is missing or damaged."""
        try:
            return Job.model_validate_json(self.job.read_bytes())
        except OSError as error:
            raise UserError(
                f"{self.job}: can't be read ({error.strerror}); the same submit command writes it again"
            ) from error
        except ValidationError as error:
            raise UserError(f"{self.job}: {problems_of(error)[0]}; the same submit command writes it again") from error

    def write_job(self, job: Job) -> None:
        """Write job.json if it is missing or unreadable. Its text is the one that the fingerprint is computed from.

        Takes the job's lock, which the caller must not hold, because a worker of another submit may be removing
        half-written files.
        """
        if self._holds(job):
            return
        with job_lock(self):
            if not self._holds(job):
                write_atomically(self.job, job.canonical())

    def _holds(self, job: Job) -> bool:
        """Return whether job.json exists and can be read. The common case, identical text, is tested first."""
        try:
            return self.job.read_text(encoding="utf-8") == job.canonical() or bool(self.read_job())
        except (OSError, ValueError, UserError):
            return False

    def archive(self, only: Path | None = None, keep: tuple[Path, ...] = ()) -> None:
        """Move one file, or every file but job.json and `keep`, to old/<utc>/, so that the job restarts.

        Call it under the job's lock. A stop request is kept, because it may have just been made.
        """
        kept = {self.job, self.lock, self.stop, self.old, *keep}
        to_move = [path for path in self.folder.iterdir() if path == only or (only is None and path not in kept)]
        # Attempts first: if a kill interrupts this, the next attempt is a new run and moves the rest.
        to_move.sort(key=lambda path: (path != self.attempts, path != self.record))
        if to_move:
            target = self.old / datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
            target.mkdir(parents=True)
            for path in to_move:
                shutil.move(path, target / path.name)

    def tidy(self) -> None:
        """Remove leftovers of a killed process; call it under the job's lock."""
        leftovers = list(self.folder.glob(".*.tmp"))
        if self.record.exists():
            leftovers += [self.checkpoint, self.failure, self.lease]
        for path in leftovers:
            path.unlink(missing_ok=True)


class PlannedJob(NamedTuple):
    """A job and its files, which need not exist yet."""

    job: Job
    paths: JobPaths

    @classmethod
    def of(cls, job: Job) -> "PlannedJob":
        """Return a job with its files in this checkout's .runs."""
        return cls(job, JobPaths.of(job))


class Group(NamedTuple):
    """What jobs have in common that one worker can run with the same data set in memory."""

    dataset: str
    model: str

    @classmethod
    def of(cls, job: Job) -> "Group":
        """Return the group that a job belongs to."""
        return cls(job.dataset, job.model)


def job_lock(paths: JobPaths) -> AbstractContextManager[bool]:
    """Return a context manager that takes the job's exclusive lock, waiting LOCK_PATIENCE; it yields False if that fails."""
    return locked_within(paths.lock, LOCK_PATIENCE)
