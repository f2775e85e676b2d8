"""The attempts at a job: the lines of attempts.jsonl, and failure.json. Does not import torch, mlflow or pandas."""

import contextlib
import os
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any, Literal, get_args

from benchmarks.canonical import canonical_json
from benchmarks.files import write_atomically
from runner.files import append_line, read_json, read_lines
from runner.jobs.paths import JobPaths, boot_id, host, now_ms

LOG_TAIL = 20  # lines of the log that a failure quotes
MAX_FAILURES = 3  # infrastructure failures in a row, without a new checkpoint, within one submit

FailureKind = Literal[
    "model",  # the model's own code failed
    "refused",  # the checkpoint can't be resumed with the same bits, unless --force-resume accepts it
    "outdated",  # the zoo no longer has the job's model, revision or kind of recipe
    "infrastructure",  # the machine, its files or its memory; a submit tries it again
    "unknown",  # another version's: read from its failure.json, never written
]
FAILURE_KINDS: tuple[FailureKind, ...] = get_args(FailureKind)
Outcome = Literal["finished", "interrupted"] | FailureKind


# --- a failure -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Failure:
    """The content of failure.json: why the last attempt failed."""

    kind: FailureKind
    what: str = ""  # empty if the file does not say it
    where: str = "?"  # file and line, or the slot
    time: int = 0  # ms since 1970
    log_tail: tuple[str, ...] = ()

    @classmethod
    def now(cls, paths: JobPaths, kind: FailureKind, what: str, where: str) -> "Failure":
        """Return a failure with the current time and the end of the job's log."""
        return cls(kind, what, where, now_ms(), log_tail(paths))

    @classmethod
    def read(cls, paths: JobPaths) -> "Failure | None":
        """Return the failure of a job; None if failure.json is missing or torn. Other content is read as far as possible."""
        content = read_json(paths.failure)
        if content is None:
            return None
        time, tail = content.get("time"), content.get("log_tail")
        return cls(
            kind=next((kind for kind in FAILURE_KINDS if kind == content.get("kind")), "unknown"),
            what=str(content.get("what") or ""),
            where=str(content.get("where") or "?"),
            time=time if isinstance(time, int) else 0,
            log_tail=tuple(map(str, tail)) if isinstance(tail, list) else (),
        )

    def write(self, paths: JobPaths) -> None:
        """Write failure.json. A full disk is no error, because the attempt's end line may still fit."""
        with contextlib.suppress(OSError):
            write_atomically(paths.failure, canonical_json(asdict(self)))

    def is_retried(self, *, force_resume: bool) -> bool:
        """Return whether the next submit runs the job again. A model's own failure is retried only by `runner retry`."""
        return self.kind == "infrastructure" or (self.kind == "refused" and force_resume)


def log_tail(paths: JobPaths) -> tuple[str, ...]:
    """Return the last LOG_TAIL lines of the log; none if there is no log."""
    try:
        return tuple(paths.log.read_text(encoding="utf-8", errors="replace").splitlines()[-LOG_TAIL:])
    except OSError:
        return ()


# --- attempts ------------------------------------------------------------------------------------------------------------


def append_start(paths: JobPaths, *, run: str, submission: str, device: str, threads: int) -> None:
    """Append the start of an attempt, made by this process, to attempts.jsonl: its first trace.

    `checkpoint`, the checkpoint's modification time in ns, shows whether the previous attempt got further than the one
    before it.
    """
    line = {
        "event": "start",
        "time": now_ms(),
        "host": host(),
        "boot": boot_id(),
        "pid": os.getpid(),
        "run": run,
        "submission": submission,
        "checkpoint": paths.checkpoint.stat().st_mtime_ns if paths.checkpoint.exists() else 0,
        "device": device,
        "threads": threads,
    }
    append_line(paths.attempts, line)


def append_end(paths: JobPaths, outcome: Outcome, error: str | None = None) -> None:
    """Append the end of an attempt. On a full disk the line is left out, and the attempt counts as killed."""
    line = {"event": "end", "time": now_ms(), "outcome": outcome}
    with contextlib.suppress(OSError):
        append_line(paths.attempts, line if error is None else line | {"error": error})


@dataclass(frozen=True)
class Attempts:
    """The lines of attempts.jsonl, oldest first: a start of each attempt, and an end of each that was not killed."""

    lines: list[dict[str, Any]]

    @classmethod
    def read(cls, paths: JobPaths) -> "Attempts":
        """Return the attempts at a job; none if it was never started."""
        return cls(read_lines(paths.attempts))

    @property
    def last(self) -> dict[str, Any]:
        """The last line; empty if there is none."""
        return self.lines[-1] if self.lines else {}

    @cached_property
    def starts(self) -> list[dict[str, Any]]:
        """The start lines."""
        return [line for line in self.lines if _is_start(line)]

    @property
    def last_run(self) -> str | None:
        """The random id of the run that the last attempts belong to. A resumed job keeps its run id."""
        return next((line["run"] for line in reversed(self.starts) if line.get("run")), None)

    @property
    def unfinished(self) -> bool:
        """Whether the last attempt has no end: it still runs, or it was killed."""
        return _is_start(self.last)

    @property
    def ended(self) -> bool:
        """Whether the last attempt has an end."""
        return _is_end(self.last)

    @property
    def failures_in_a_row(self) -> int:
        """The number of infrastructure failures since the last submit and the last new checkpoint.

        An attempt without an end was killed and counts. Each start names its submission and the checkpoint it resumed
        from, so that progress between two failures resets the count.
        """
        count = 0
        for line, end in reversed(self._with_ends()):
            if line.get("checkpoint") != self.starts[-1].get("checkpoint"):
                break
            failed = end is None or end.get("outcome") == "infrastructure"
            count += failed and line.get("submission") == self.starts[-1].get("submission")
        return count

    @property
    def given_up(self) -> bool:
        """Whether the last submit has used up its attempts."""
        return self.failures_in_a_row >= MAX_FAILURES

    def given_up_by(self, submission: str) -> bool:
        """Return whether this submit has used up its attempts, even if a full disk prevented failure.json."""
        last = self.starts[-1].get("submission") if self.starts else None
        return bool(submission) and last == submission and self.given_up

    def _with_ends(self) -> list[tuple[dict[str, Any], dict[str, Any] | None]]:
        """Return each start line with its end line; None for an attempt without an end."""
        return [
            (line, follower if _is_end(follower) else None)
            for line, follower in pairwise([*self.lines, {}])
            if _is_start(line)
        ]


def _is_start(line: dict[str, Any]) -> bool:
    return line.get("event") == "start"


def _is_end(line: dict[str, Any]) -> bool:
    return line.get("event") == "end"
