"""The folders of this checkout and the files of a job. Light: no torch, mlflow or pandas."""

import shutil
import socket
import time
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

from pydantic import ValidationError

from benchmarks.checkout import root
from benchmarks.errors import UserError
from benchmarks.records import Job, problems_of, write_atomically
from runner.locks import locked_within

LOCK_PATIENCE = 2.0  # seconds: a probe holds the lock for an instant, so a refused worker tries again for so long


def runs_folder() -> Path:
    """This checkout's own runs."""
    return root() / ".runs"


def results_folder() -> Path:
    """The published records."""
    return root() / "results"


def output_file() -> Path:
    """A file of .runs for what a submit says where nobody sees it, named by the time."""
    return runs_folder() / f"submit-{now_ms()}.txt"


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
        """The job of this folder; raises UserError where job.json is missing or torn."""
        try:
            return Job.model_validate_json(self.job.read_bytes())
        except OSError as error:
            raise UserError(f"{self.job}: can't be read ({error.strerror}); the same submit writes it anew") from error
        except ValidationError as error:
            raise UserError(f"{self.job}: {problems_of(error)[0]}; the same submit writes it anew") from error

    def write_job(self, job: Job) -> None:
        """Lay the job down, once, and again where what lies there can't be read: its text is the fingerprint's own.

        Under the job's lock, which the caller must not hold: a worker that another submit has started meanwhile tidies
        what is half-written.
        """
        if self._holds(job):
            return
        with job_lock(self):
            if not self._holds(job):
                write_atomically(self.job, job.canonical())

    def _holds(self, job: Job) -> bool:
        """Whether job.json is there and can be read; most often it has just this job's text."""
        try:
            return self.job.read_text(encoding="utf-8") == job.canonical() or bool(self.read_job())
        except (OSError, ValueError, UserError):
            return False

    def set_aside(self, only: Path | None = None, keep: tuple[Path, ...] = ()) -> None:
        """Move one file, or everything but the job (and `keep`), into old/<utc>/: it starts afresh and nothing is lost.

        To be called under the job's lock. A request to stop stays: it may have come a moment ago.
        """
        kept = {self.job, self.lock, self.stop, self.old, *keep}
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


def job_lock(paths: JobPaths) -> AbstractContextManager[bool]:
    """The job's exclusive lock, with the patience that outlasts a probe; False where another process has it."""
    return locked_within(paths.lock, LOCK_PATIENCE)
