"""Brings MLflow up to date from the files of the jobs; the only module that knows MLflow (imported when needed).

Workers never talk to MLflow: they write files. `Tracker.sync` reads the files and sends what MLflow lacks. The process
that submits calls it every few seconds (`BackgroundSync`), `runner sync` calls it later: one write path, so a server
that is away costs one warning and loses nothing. Everything that is sent may be sent again without harm: a run is found
by its tag `reprozoo.run`, and MLflow ignores a point that it has already (same key, step, time and value).

A finished run carries `reprozoo.synced`, the sha256 of its record.json, once all of it has arrived: the next process
finds that in its search and sends nothing.
"""

import hashlib
import json
import logging
import math
import os
import re
import secrets
import shlex
import shutil
import sqlite3
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from benchmarks import records
from benchmarks.datasets import DATASETS
from benchmarks.records import Job, RunRecord, canonical_json
from runner.files import read_json, read_lines
from runner.jobs.find import all_jobs, suites_of_jobs
from runner.jobs.paths import JobPaths, now_ms, runs_folder
from runner.jobs.state import State, is_locked, last_run, leased_elsewhere, state_of
from runner.locks import locked_within
from runner.training.memory import start_thread

RUN_TAG = "reprozoo.run"  # our random run id, by which the MLflow run is found again
SYNCED_TAG = "reprozoo.synced"  # sha256 of the record.json that has arrived whole

# `interrupted` and `killed` jobs may go on: their run then returns to RUNNING. `diverged` is a result, not a failure.
STATUS: dict[State, str] = {
    "running": "RUNNING",
    "done": "FINISHED",
    "failed": "FAILED",
    "interrupted": "KILLED",
    "killed": "KILLED",
    "pending": "KILLED",  # pending after an attempt that came to nothing
}

# MLflow's own names where the sample is what MLflow means by them; processor and memory are the worker's, not the
# machine's. The prefix `system/` puts a curve on the page of system metrics.
SYSTEM_NAMES = {
    "cpu_percent": "process_cpu_utilization_percentage",
    "memory_mb": "process_memory_usage_megabytes",
    "gpu_percent": "gpu_0_utilization_percentage",
    "gpu_memory_mb": "gpu_0_memory_usage_megabytes",
    "gpu_power_w": "gpu_0_power_usage_watts",
}

BATCH = 800  # points in one request: MLflow admits 1,000 points, parameters and tags together
VALUE_LENGTH = 5000  # characters of a parameter or tag: MLflow admits 6,000 and 8,000
DIGEST_LENGTH = 36  # characters of a dataset's digest that MLflow admits
FEW = 20  # so many runs of a model are looked up one by one (10 ms each), more by reading all of them (2 ms each)

QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_DISABLE_AGENT_HINT": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",  # by default a server that is away is waited for over four minutes
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",  # seconds
}


def store_uri() -> str:
    """Where the runs go: variable MLFLOW_TRACKING_URI, else this checkout's own SQLite file, by its absolute path."""
    given = os.environ.get("MLFLOW_TRACKING_URI", "").strip()
    if given.startswith("sqlite:///"):
        return f"sqlite:///{Path(given.removeprefix('sqlite:///')).absolute()}"
    return given or f"sqlite:///{runs_folder() / 'mlflow.db'}"


def ui_command() -> str:
    """What to type to see the runs: `mlflow ui` on the database; for a server, its address."""
    uri = store_uri()
    if _is_server(uri):
        return without_password(uri)
    return f"{_mlflow_program()} ui --backend-store-uri {shlex.quote(without_password(uri))}"


def _mlflow_program() -> str:
    """The shortest name by which a shell in this folder finds the mlflow of this environment."""
    ours = Path(sys.executable).with_name("mlflow")
    if not ours.exists() or shutil.which("mlflow") == str(ours):
        return "mlflow"
    near = ours.relative_to(Path.cwd()) if ours.is_relative_to(Path.cwd()) else ours
    return shlex.quote(str(near))


def _is_server(uri: str) -> bool:
    return uri.startswith(("http:", "https:", "databricks"))


def without_password(uri: str) -> str:
    """The store's address as it may be shown."""
    return re.sub(r"//[^/@]*@", "//", uri)


# --- what the files say ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _View:
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
        return max((sign["time"] for sign in signs if _is_number(sign.get("time"))), default=now_ms())

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


def _read_view(paths: JobPaths, suites: dict[str, set[str]], known: Job | None) -> _View | None:
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
    return _View(paths, job, state, run, starts, record, record_sha256, settled, suite, signature)


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


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


# --- what MLflow has -------------------------------------------------------------------------------------------------


@dataclass
class _RemoteRun:
    """What MLflow holds of one run, as far as this process knows."""

    id: str
    tags: dict[str, str]
    params: set[str]
    deleted: bool = False  # by its owner, in MLflow: left alone
    status: tuple[str, int] | None = None  # as this process last wrote it: MLflow's status, and after how many attempts
    sent: dict[str, int] = field(default_factory=dict)  # file name -> lines that have arrived


@dataclass
class SyncReport:
    """What one sync did. Counts are of jobs."""

    written: int = 0  # something was sent
    unchanged: int = 0  # MLflow had everything
    not_started: int = 0  # no attempt yet, so no run
    left: int = 0  # not brought up to date: the next sync does it
    busy: bool = False  # another process of this checkout was writing
    warning: str | None = None  # one line: why some were left

    def __str__(self) -> str:
        parts = [f"{self.written} sent", f"{self.unchanged} up to date"]
        parts += [f"{self.not_started} not started"] * bool(self.not_started)
        parts += [f"{self.left} left for the next sync"] * bool(self.left)
        parts += ["another process is writing"] * self.busy
        return "MLflow: " + ", ".join(parts)


def sync(jobs: Iterable[JobPaths], warn: Callable[[str], None] | None = None, *, patience: float = 30.0) -> SyncReport:
    """Bring MLflow up to date with these jobs, once: what `runner sync` does. See Tracker.sync."""
    return Tracker(warn=warn).sync(jobs, patience=patience)


class Tracker:
    """Sends to one store, and remembers what it sent. For one thread at a time.

    `warn` gets one line when something goes wrong, and no further one until a sync has gone well again.
    """

    def __init__(self, uri: str | None = None, warn: Callable[[str], None] | None = None) -> None:
        for name, value in QUIET.items():
            os.environ.setdefault(name, value)
        self.uri = uri or store_uri()
        self._warn = warn
        self._warned = False
        self._client: Any = None
        self._jobs: dict[Path, Job] = {}  # by folder
        self._forget()

    def _forget(self) -> None:
        """Believe nothing of the store: after a failure it may be another one."""
        self._experiments: dict[str, str] = {}  # data set -> MLflow's id
        self._runs: dict[str, _RemoteRun] = {}  # by our run id
        self._seen: dict[Path, tuple[Any, ...]] = {}  # folder -> the signature that has arrived

    def sync(
        self, jobs: Iterable[JobPaths], *, patience: float = 1.0, stop: Callable[[], bool] = lambda: False
    ) -> SyncReport:
        """Bring MLflow up to date with these jobs' files. Never raises for a store that is away, full or broken.

        Waits up to `patience` seconds for another process that is writing. `stop` is asked between jobs; when it says
        True the rest is left.
        """
        report = SyncReport()
        problems: list[str] = []
        try:
            suites = suites_of_jobs()
            news = self._news(jobs, suites, report, problems)
            if news:
                self._send(news, suites, report, problems, patience, stop)
        except _MlflowMissingError:
            problems.append("mlflow isn't installed here: where it is, `runner sync` brings the runs into it later")
        except Exception as error:  # whatever it is, it must not end a training or the command around it
            self._forget()
            place = without_password(self.uri)
            problems.append(f"MLflow at {place} can't be written ({_one_line(error)}); `runner sync` does it later")
        if problems:
            more = f" (and {len(problems) - 1} more like it)" if len(problems) > 1 else ""
            report.warning = problems[0] + more
            if self._warn is not None and not self._warned:
                self._warn(report.warning)
        if not report.busy:
            self._warned = bool(problems)
        return report

    # --- the steps of it ---

    def _news(
        self, jobs: Iterable[JobPaths], suites: dict[str, set[str]], report: SyncReport, problems: list[str]
    ) -> list[_View]:
        """The jobs that have something to send, from their files alone."""
        news = []
        for paths in jobs:
            try:
                view = _read_view(paths, suites, self._jobs.get(paths.folder))
            except Exception as error:  # one broken folder hides no good one
                report.left += 1
                problems.append(f"MLflow lacks {paths.folder.name}: {_one_line(error)}")
                continue
            if view is None:
                report.not_started += 1
                continue
            self._jobs[paths.folder] = view.job
            if self._seen.get(paths.folder) == view.signature:
                report.unchanged += 1
            else:
                news.append(view)
        return news

    def _send(
        self,
        news: list[_View],
        suites: dict[str, set[str]],
        report: SyncReport,
        problems: list[str],
        patience: float,
        stop: Callable[[], bool],
    ) -> None:
        """Send them one after another, as the only process that does; notes in the report how it went."""
        report.left += len(news)
        client_class = _mlflow_client()  # takes seconds, so before the lock
        with _writing(patience) as alone:
            if not alone:
                report.busy = True
                return
            self._open(client_class)
            self._find(news)
            for view in news:
                if stop():
                    return
                try:
                    # Looked at again: import, lock and the jobs before took time, in which another process may have
                    # sent what is newer than our first look.
                    now = _read_view(view.paths, suites, view.job)
                    if now is None or now.run != view.run:  # started afresh meanwhile: left for the next sync
                        continue
                    sent = self._bring(now)
                except Exception as error:
                    if _of_the_store(error):
                        raise
                    self._runs.pop(view.run, None)
                    self._experiments.pop(view.job.dataset, None)
                    problems.append(f"MLflow lacks {view.job.key}: {_one_line(error)}")
                    continue
                self._seen[view.paths.folder] = now.signature
                report.left -= 1
                report.written += sent
                report.unchanged += not sent

    def _open(self, client_class: Any) -> None:
        """Connect, once. A fresh database is created and migrated here, under the lock: two at once would fail."""
        if self._client is not None:
            return
        if self.uri.startswith("sqlite:///"):
            path = Path(self.uri.removeprefix("sqlite:///"))
            path.parent.mkdir(parents=True, exist_ok=True)
            if not path.exists():
                _create_store(client_class, path)
            with closing(sqlite3.connect(path, timeout=5)) as database:  # MLflow tries a broken file for 100 s
                database.execute("PRAGMA schema_version").fetchall()
        self._client = client_class(tracking_uri=self.uri)

    def _experiment(self, dataset: str) -> str:
        """MLflow's id of the data set's experiment, made where there is none; ValueError where its owner deleted it."""
        if dataset not in self._experiments:
            found = self._client.get_experiment_by_name(dataset)
            if found is None:
                self._experiments[dataset] = self._client.create_experiment(dataset, self._artifacts(dataset))
            elif found.lifecycle_stage == "deleted":
                raise ValueError(
                    f"its experiment was deleted in MLflow; `mlflow experiments restore -x {found.experiment_id}`"
                )
            else:
                self._experiments[dataset] = found.experiment_id
        return self._experiments[dataset]

    def _artifacts(self, dataset: str) -> str | None:
        """Beside the SQLite file (MLflow's default is the current directory); any other store has its own place.

        A folder for each data set: without it, the artifact job.json would lie where .runs holds the job.json of jobs.
        """
        if not self.uri.startswith("sqlite:///"):
            return None
        return (Path(self.uri.removeprefix("sqlite:///")).with_name("mlflow-artifacts") / dataset).as_uri()

    def _find(self, news: list[_View]) -> None:
        """Learn which of these runs MLflow has: a search for each run, or for a model's runs where they are many."""
        missing: dict[tuple[str, str], list[str]] = {}
        for view in news:
            if view.run not in self._runs:
                missing.setdefault((view.job.dataset, view.job.model), []).append(view.run)
        for (dataset, model), runs in missing.items():
            try:
                experiment = self._experiment(dataset)
            except ValueError:
                continue  # said for each of its jobs
            one_by_one = [f"tags.\"{RUN_TAG}\" = '{run}'" for run in runs]
            for filter_string in one_by_one if len(runs) <= FEW else [f"tags.model = '{model}'"]:
                for found in self._search(experiment, filter_string):
                    if (run := found.data.tags.get(RUN_TAG)) is not None:
                        deleted = found.info.lifecycle_stage == "deleted"
                        self._runs[run] = _RemoteRun(
                            found.info.run_id, found.data.tags, set(found.data.params), deleted
                        )

    def _search(self, experiment: str, filter_string: str) -> Iterator[Any]:
        from mlflow.entities import ViewType

        token = None
        while True:
            page = self._client.search_runs([experiment], filter_string, ViewType.ALL, 1000, page_token=token)
            yield from page
            token = page.token
            if not token:
                return

    def _bring(self, view: _View) -> bool:
        """Send what MLflow lacks of one run; returns whether there was anything. May be repeated after a failure."""
        run = self._runs.get(view.run)
        created = run is None
        if run is None:
            run = self._create(view)
        if run.deleted:
            return False

        tags = view.tags()
        changed = {name: value for name, value in tags.items() if run.tags.get(name) != value}
        whole = view.record_sha256 is not None and run.tags.get(SYNCED_TAG) == view.record_sha256
        if whole:
            self._log(run, [], {}, changed)
            return bool(changed)

        params = {name: value for name, value in view.params().items() if name not in run.params}
        metrics = self._points(run, view.paths.metrics, _curve_points)
        system = self._points(run, view.paths.system, _system_points)
        self._log(run, [*metrics.points, *system.points], params, changed)
        run.sent |= {view.paths.metrics.name: metrics.lines, view.paths.system.name: system.lines}
        if "failure" in run.tags and "failure" not in tags:  # it was tried again
            self._client.delete_tag(run.id, "failure")
            del run.tags["failure"]
        restated = self._set_status(run, view)
        artifacts = view.artifacts() if restated or view.state == "done" else []
        for path in artifacts:
            self._client.log_artifact(run.id, str(path))
        if view.record is not None and view.settled:
            self._log_dataset(run, view.record)
            self._log(run, [], {}, {SYNCED_TAG: view.record_sha256 or ""})
        return created or restated or bool(changed or params or metrics.points or system.points or artifacts)

    def _create(self, view: _View) -> _RemoteRun:
        tags = {RUN_TAG: view.run, "model": view.job.model}  # by which a search finds it from the first moment on
        experiment = self._experiment(view.job.dataset)
        made = self._client.create_run(experiment, start_time=view.start_ms, tags=tags, run_name=view.job.key)
        self._runs[view.run] = _RemoteRun(made.info.run_id, tags, set())
        return self._runs[view.run]

    def _points(
        self, run: _RemoteRun, path: Path, of: Callable[[int, dict[str, Any]], list[tuple[str, float, int, int]]]
    ) -> "_Points":
        """The points of a file's lines that this process hasn't sent yet; all of them where the file became shorter."""
        lines = read_lines(path)
        sent = run.sent.get(path.name, 0)
        sent = sent if sent <= len(lines) else 0
        return _Points(len(lines), [point for number in range(sent, len(lines)) for point in of(number, lines[number])])

    def _log(
        self, run: _RemoteRun, points: list[tuple[str, float, int, int]], params: dict[str, str], tags: dict[str, str]
    ) -> None:
        from mlflow.entities import Metric, Param, RunTag

        metrics = [Metric(*point) for point in points]
        first = [Param(name, value) for name, value in params.items()], [RunTag(*item) for item in tags.items()]
        for start in range(0, len(metrics), BATCH) or ([0] if params or tags else []):
            self._client.log_batch(run.id, metrics[start : start + BATCH], *first, synchronous=True)
            first = [], []
        run.params |= params.keys()
        run.tags |= tags

    def _set_status(self, run: _RemoteRun, view: _View) -> bool:
        """Set the status where it, or the number of attempts, isn't what this process last wrote."""
        wanted = STATUS[view.state], len(view.starts)
        if run.status == wanted:
            return False
        if wanted[0] == "RUNNING":
            self._client.update_run(run.id, status="RUNNING")
        else:
            self._client.set_terminated(run.id, wanted[0], view.end_ms)
        run.status = wanted
        return True

    def _log_dataset(self, run: _RemoteRun, record: RunRecord) -> None:
        """The one dataset input: name, digest of the parsed images and labels, official source of the files."""
        from mlflow.entities import Dataset, DatasetInput, InputTag

        facts = DATASETS.get(record.job.dataset)
        url = facts.mirrors[0] if facts and facts.mirrors else None
        dataset = Dataset(
            name=record.job.dataset,
            digest=record.data.sha256[:DIGEST_LENGTH],
            source_type="http" if url else "local",
            source=json.dumps({"url": url} if url else {"uri": record.job.dataset}),
            profile=record.data.model_dump_json(),
        )
        training = DatasetInput(dataset, [InputTag("mlflow.data.context", "training")])
        self._client.log_inputs(run.id, [training])


@dataclass(frozen=True)
class _Points:
    lines: int  # of the file
    points: list[tuple[str, float, int, int]]  # (key, value, time in ms, step), as mlflow.entities.Metric takes them


def _curve_points(number: int, line: dict[str, Any]) -> list[tuple[str, float, int, int]]:
    """An epoch's line: a point for each number in it, at the step of its epoch. A diverged loss is null: no point."""
    if not (_is_number(line.get("epoch")) and _is_number(line.get("time"))):
        return []
    names = [name for name in line if name not in ("epoch", "time") and _is_number(line[name])]
    return [(name, float(line[name]), int(line["time"]), int(line["epoch"])) for name in names]


def _system_points(number: int, line: dict[str, Any]) -> list[tuple[str, float, int, int]]:
    """A sample's line: a point for each number in it, at the step of its place in the file."""
    if not _is_number(line.get("time")):
        return []
    names = [name for name in line if name != "time" and _is_number(line[name])]
    return [(f"system/{SYSTEM_NAMES.get(name, name)}", float(line[name]), int(line["time"]), number) for name in names]


# --- the lock, the errors --------------------------------------------------------------------------------------------


def _writing(patience: float) -> AbstractContextManager[bool]:
    """Be the one process of this checkout that writes to MLflow; False where another is, after `patience` seconds."""
    return locked_within(runs_folder() / "mlflow.lock", patience)


def _create_store(client_class: Any, path: Path) -> None:
    """Create and migrate a fresh SQLite store under another name first.

    A kill in the middle of its migrations (seconds) leaves one that MLflow can neither open nor mend.
    """
    if path.parent == runs_folder():  # where the lock makes us the only one
        for left in path.parent.glob(f".{path.name}.*.tmp*"):
            left.unlink(missing_ok=True)
    fresh = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    client_class(tracking_uri=f"sqlite:///{fresh}").search_experiments(max_results=1)
    if not path.exists():
        fresh.rename(path)


class _MlflowMissingError(Exception):
    """mlflow isn't installed."""


def _mlflow_client() -> Any:
    """MLflow's client class; raises _MlflowMissingError. The first import takes seconds."""
    try:
        from mlflow.tracking import MlflowClient
    except ModuleNotFoundError as error:
        raise _MlflowMissingError from error
    for name in ("mlflow", "alembic", "urllib3.connectionpool"):  # they log to stderr; our warning says it
        logging.getLogger(name).setLevel(logging.CRITICAL)
    return MlflowClient


def _of_the_store(error: Exception) -> bool:
    """Whether the store as a whole fails, or has lost what it had; else it's about this one job."""
    if isinstance(error, (FileNotFoundError, PermissionError)):
        return False  # a file of the job, moved aside meanwhile
    response = getattr(error, "response", None)  # requests.HTTPError, when an artifact is sent to a server
    if response is not None:
        return response.status_code >= 500
    if hasattr(error, "get_http_status_code"):  # MlflowException
        return error.get_http_status_code() >= 500 or error.get_http_status_code() == 404
    return isinstance(error, (OSError, sqlite3.Error))


def _one_line(error: BaseException) -> str:
    """The error's first line; of a long one, as for a failed connection, the system's words that stand at its end."""
    text = without_password(" ".join(str(error).split("\n")[0].split())) or type(error).__name__
    if len(text) <= 200:
        return text
    system = re.search(r"\[Errno -?\d+\] ([\w ]+)|timed out", text)
    return (system[1] or system[0]) if system else text[:197] + "..."


def _behind() -> Path:
    """Lies there while a submit runs: after a kill, MLflow may lack what the files say."""
    return runs_folder() / "mlflow.behind"


def is_behind() -> bool:
    """Whether a submit was killed, or a server away, before MLflow had everything. Needs no mlflow."""
    return _behind().exists()


# --- while jobs run --------------------------------------------------------------------------------------------------


class BackgroundSync:
    """Keeps MLflow up to date while the `with` block runs, from a thread, so that training never waits for it.

    Every `every` seconds and, finally, on leaving the block, which waits for that at most `exit_seconds`. `warn` gets
    one line when something goes wrong; it is called from the thread.
    """

    def __init__(
        self, jobs: Sequence[JobPaths], warn: Callable[[str], None], *, every: float = 5.0, exit_seconds: float = 30.0
    ) -> None:
        self._jobs, self._warn, self._every, self._exit_seconds = jobs, warn, every, exit_seconds
        self._tracker = Tracker(warn=warn)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="mlflow-sync", daemon=True)
        self.report: SyncReport | None = None  # of the last sync, once the block was left

    def __enter__(self) -> "BackgroundSync":
        _behind().parent.mkdir(parents=True, exist_ok=True)
        _behind().touch()
        start_thread(self._thread)
        return self

    def __exit__(self, *exc: object) -> None:
        self._stopping.set()
        self._thread.join(self._exit_seconds)
        if self.report is None or (self.report.left and not self.report.warning):
            self._warn("MLflow isn't up to date yet: `runner sync` brings the rest")
        elif not self.report.left and not any(is_locked(paths) for paths in all_jobs()):
            _behind().unlink(missing_ok=True)

    def _run(self) -> None:
        while not self._stopping.wait(self._every):
            self._tracker.sync(self._jobs, stop=self._stopping.is_set)
        deadline = time.monotonic() + 0.9 * self._exit_seconds
        self.report = self._tracker.sync(
            self._jobs, patience=self._exit_seconds / 2, stop=lambda: time.monotonic() > deadline
        )
