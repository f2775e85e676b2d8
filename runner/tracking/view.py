"""What a job's files say to MLflow: its parameters, tags, points and artifacts. Knows nothing of the store."""

import hashlib
import math
import re
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from benchmarks import records
from benchmarks.records import Job, RunRecord, canonical_json
from runner.files import read_json, read_lines
from runner.jobs.paths import JobPaths, now_ms
from runner.jobs.state import State, is_locked, last_run, leased_elsewhere, state_of

RUN_TAG = "reprozoo.run"  # our random run id, by which the MLflow run is found again

# MLflow's own names where the sample is what MLflow means by them; processor and memory are the worker's, not the
# machine's. The prefix `system/` puts a curve on the page of system metrics.
SYSTEM_NAMES = {
    "cpu_percent": "process_cpu_utilization_percentage",
    "memory_mb": "process_memory_usage_megabytes",
    "gpu_percent": "gpu_0_utilization_percentage",
    "gpu_memory_mb": "gpu_0_memory_usage_megabytes",
    "gpu_power_w": "gpu_0_power_usage_watts",
}
VALUE_LENGTH = 5000  # characters of a parameter or tag: MLflow admits 6,000 and 8,000


@dataclass(frozen=True)
class View:
    """One job as its files showed it at one moment."""

    paths: JobPaths
    job: Job
    state: State
    run: str
    starts: list[dict[str, Any]]  # the attempts' start lines
    record: RunRecord | None
    record_sha256: str | None
    settled: bool  # the worker has let go of the job: the log is whole
    suite: str  # the suites it was submitted under: sorted, comma-separated
    signature: tuple[Any, ...]  # changes whenever there may be something new to send

    @property
    def start_ms(self) -> int:
        """When the first attempt began."""
        if self.starts:
            return self.starts[0]["time"]
        return now_ms() if self.record is None else _ms(self.record.started)

    @property
    def end_ms(self) -> int:
        """When it ended; for a killed process, its last sign of life."""
        lines = read_lines(self.paths.attempts)
        if self.record is not None:
            return max(_ms(self.record.finished), lines[-1].get("time", 0) if lines else 0)
        if lines and lines[-1].get("event") == "end":
            return lines[-1]["time"]
        signs = [*lines[-1:], *read_lines(self.paths.metrics)[-1:], *read_lines(self.paths.system)[-1:]]
        signs.append(read_json(self.paths.lease) or {})
        return max((sign["time"] for sign in signs if is_number(sign.get("time"))), default=now_ms())

    def params(self) -> dict[str, str]:
        """What was trained, and on what: every field of the effective recipe, then the job's own facts."""
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
        """What to search and filter runs by."""
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
            tags["failure"] = (read_json(self.paths.failure) or {}).get("what")
        return {name: _text(value) for name, value in tags.items() if value is not None}

    def artifacts(self) -> list[Path]:
        """The files to keep with the run: of a finished one all but the samples, of a failed one its log."""
        paths = self.paths
        if self.state == "done":
            wanted = [paths.job, paths.log, paths.record, paths.curve, paths.weights] if self.settled else []
        else:
            wanted = [paths.job, paths.log, paths.failure] if self.state == "failed" else []
        return [path for path in wanted if path.exists()]


def read_view(paths: JobPaths, suites: dict[str, set[str]], known: Job | None) -> View | None:
    """Read a job's files; None where no attempt was made. Raises UserError or RecordError for a broken file."""
    state = state_of(paths)
    # Before the reading: what is written meanwhile changes the next signature.
    files = tuple(_stamp(path) for path in (paths.record, paths.attempts, paths.metrics, paths.system))
    job = known or paths.read_job()
    attempts = read_lines(paths.attempts)
    record, record_sha256 = None, None
    if state == "done":
        record = records.load(paths.record)
        record_sha256 = hashlib.sha256(paths.record.read_bytes()).hexdigest()
    run = record.run if record is not None else last_run(attempts)
    if run is None or not re.fullmatch(r"[0-9a-f]{32}", run):
        return None
    settled = not (is_locked(paths) or leased_elsewhere(paths))
    suite = ",".join(sorted(suites.get(job.fingerprint, ())))
    starts = [line for line in attempts if line.get("event") == "start" and line.get("run") == run]
    signature = (state, settled, suite, *files)
    return View(paths, job, state, run, starts, record, record_sha256, settled, suite, signature)


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size


def _text(value: Any) -> str:
    return (value if isinstance(value, str) else canonical_json(value))[:VALUE_LENGTH]


def _ms(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)


def is_number(value: Any) -> bool:
    """Tell whether a value from a file is a finite number."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


@dataclass(frozen=True)
class Points:
    """The points of some lines of a file."""

    lines: int  # of the file
    points: list[tuple[str, float, int, int]]  # (key, value, time in ms, step), as mlflow.entities.Metric takes them


def curve_points(number: int, line: dict[str, Any]) -> list[tuple[str, float, int, int]]:
    """An epoch's line: a point for each number in it, at the step of its epoch. A diverged loss is null: no point."""
    if not (is_number(line.get("epoch")) and is_number(line.get("time"))):
        return []
    names = [name for name in line if name not in ("epoch", "time") and is_number(line[name])]
    return [(name, float(line[name]), int(line["time"]), int(line["epoch"])) for name in names]


def system_points(number: int, line: dict[str, Any]) -> list[tuple[str, float, int, int]]:
    """A sample's line: a point for each number in it, at the step of its place in the file."""
    if not is_number(line.get("time")):
        return []
    names = [name for name in line if name != "time" and is_number(line[name])]
    return [(f"system/{SYSTEM_NAMES.get(name, name)}", float(line[name]), int(line["time"]), number) for name in names]
