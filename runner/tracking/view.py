"""Turn a job's files into MLflow's parameters, tags, points and artifacts. Does not access the store."""

import hashlib
import math
import re
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from benchmarks import records
from benchmarks.canonical import canonical_json
from benchmarks.records import Job, RunRecord
from runner.files import read_json, read_lines
from runner.jobs.attempts import Attempts, Failure
from runner.jobs.paths import JobPaths, now_ms
from runner.jobs.state import State, is_locked, leased_elsewhere, state_of

RUN_TAG = "reprozoo.run"  # our random run id, which identifies the MLflow run

# MLflow's own names where the sample is what MLflow means by them; processor and memory are the worker's, not the
# machine's. The prefix `system/` puts a curve on the page of system metrics.
SYSTEM_NAMES = {
    "cpu_percent": "process_cpu_utilization_percentage",
    "memory_mb": "process_memory_usage_megabytes",
    "gpu_percent": "gpu_0_utilization_percentage",
    "gpu_memory_mb": "gpu_0_memory_usage_megabytes",
    "gpu_power_w": "gpu_0_power_usage_watts",
}
VALUE_LENGTH = 5000  # longest parameter or tag; MLflow accepts 6,000 and 8,000 characters


@dataclass(frozen=True)
class View:
    """One job's files at one moment."""

    paths: JobPaths
    job: Job
    state: State
    run: str
    starts: list[dict[str, Any]]  # the attempts' start lines
    record: RunRecord | None
    record_sha256: str | None
    settled: bool  # the worker has released the job, so the log is complete
    suite: str  # the suites it was submitted under: sorted, comma-separated
    signature: tuple[Any, ...]  # changes whenever there may be something new to send

    @property
    def start_ms(self) -> int:
        """Start of the first attempt, in ms since the epoch."""
        if self.starts:
            return self.starts[0]["time"]
        return now_ms() if self.record is None else _ms(self.record.started)

    @property
    def end_ms(self) -> int:
        """End of the run in ms since the epoch; for a killed process, its last sign of life."""
        attempts = Attempts.read(self.paths)
        if self.record is not None:
            return max(_ms(self.record.finished), attempts.last.get("time", 0))
        if attempts.ended:
            return attempts.last["time"]
        signs = [attempts.last, *read_lines(self.paths.metrics)[-1:], *read_lines(self.paths.system)[-1:]]
        signs.append(read_json(self.paths.lease) or {})
        return max((sign["time"] for sign in signs if is_number(sign.get("time"))), default=now_ms())

    def params(self) -> dict[str, str]:
        """Return the run's parameters: every field of the effective recipe, then the job's own facts."""
        job = self.job
        facts = job.effective_recipe | {
            "dataset": job.dataset,
            "model": job.model,
            "revision": job.revision,
            "seed": job.seed,
            "profile": job.profile,
            "overrides": job.overrides,
        }
        first = self.starts[0] if self.starts else {}  # the first attempt's: a parameter of MLflow never changes
        facts |= {name: first[name] for name in ("threads", "device") if name in first}
        return {name: _text(value) for name, value in facts.items()}

    def tags(self) -> dict[str, str]:
        """Return the tags by which to search and filter runs."""
        tags: dict[str, Any] = {
            RUN_TAG: self.run,
            "fingerprint": self.job.fingerprint,
            "dataset": self.job.dataset,
            "model": self.job.model,
            "seed": self.job.seed,
            "profile": self.job.profile,
            "suite": self.suite or None,
            "attempts": len(self.starts),
        }
        if self.record is not None:
            tags |= {
                "outcome": self.record.outcome,
                "attempts": self.record.attempts,
                "commit": self.record.source.commit,
                "dirty": self.record.source.dirty,
                "data_sha256": self.record.data.sha256,
                "data_verified": self.record.data.verified,
            }
        if self.state == "failed":
            failure = Failure.read(self.paths)
            tags["failure"] = (failure and failure.what) or None
        return {name: _text(value) for name, value in tags.items() if value is not None}

    def artifacts(self) -> list[Path]:
        """Return the existing files to keep with the run.

        For a finished run: all but the samples. For a failed one: job, log and failure.
        """
        paths = self.paths
        if self.state == "done":
            files = [paths.job, paths.log, paths.record, paths.curve, paths.weights] if self.settled else []
        else:
            files = [paths.job, paths.log, paths.failure] if self.state == "failed" else []
        return [path for path in files if path.exists()]


def read_view(paths: JobPaths, suites: dict[str, set[str]], known: Job | None) -> View | None:
    """Return a job's files as a View; None if there was no attempt.

    `known` is the job if it was read before. Raise UserError or RecordError for a broken file.
    """
    state = state_of(paths)
    # Stamped before reading, so that a later write changes the next signature.
    files = tuple(_stamp(path) for path in (paths.record, paths.attempts, paths.metrics, paths.system))
    job = known or paths.read_job()
    attempts = Attempts.read(paths)
    record, record_sha256 = None, None
    if state == "done":
        record = records.load(paths.record)
        record_sha256 = hashlib.sha256(paths.record.read_bytes()).hexdigest()
    run = record.run if record is not None else attempts.last_run
    if run is None or not re.fullmatch(r"[0-9a-f]{32}", run):
        return None
    settled = not (is_locked(paths) or leased_elsewhere(paths))
    suite = ",".join(sorted(suites.get(job.fingerprint, ())))
    starts = [line for line in attempts.starts if line.get("run") == run]
    signature = (state, settled, suite, *files)
    return View(paths, job, state, run, starts, record, record_sha256, settled, suite, signature)


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size


def _text(value: object) -> str:
    return (value if isinstance(value, str) else canonical_json(value))[:VALUE_LENGTH]


def _ms(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)


def is_number(value: object) -> bool:
    """Return whether a value from a file is a finite number."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


@dataclass(frozen=True)
class Points:
    """The points of some lines of a file."""

    lines: int  # number of lines in the file
    points: list[tuple[str, float, int, int]]  # (key, value, time in ms, step), as mlflow.entities.Metric takes them


def curve_points(number: int, line: dict[str, Any]) -> list[tuple[str, float, int, int]]:
    """Return a point for each number in an epoch's line; the step is the epoch.

    A diverged loss is null in the line and gives no point.
    """
    if not (is_number(line.get("epoch")) and is_number(line.get("time"))):
        return []
    names = [name for name in line if name not in ("epoch", "time") and is_number(line[name])]
    return [(name, float(line[name]), int(line["time"]), int(line["epoch"])) for name in names]


def system_points(number: int, line: dict[str, Any]) -> list[tuple[str, float, int, int]]:
    """Return a point for each number in a sample's line; the step is the line's number."""
    if not is_number(line.get("time")):
        return []
    names = [name for name in line if name != "time" and is_number(line[name])]
    return [(f"system/{SYSTEM_NAMES.get(name, name)}", float(line[name]), int(line["time"]), number) for name in names]
