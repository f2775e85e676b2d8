"""Brings MLflow up to date from the files of the jobs. This folder alone knows MLflow.

Workers never talk to MLflow: they write files. `Tracker.sync` reads the files and sends what MLflow lacks. The process
that submits calls it every few seconds (`BackgroundSync`), `runner sync` calls it later: one write path, so a server
that is away costs one warning and loses nothing. Everything that is sent may be sent again without harm: a run is found
by its tag `reprozoo.run`, and MLflow ignores a point that it has already (same key, step, time and value).

A finished run carries `reprozoo.synced`, the sha256 of its record.json, once all of it has arrived: the next process
finds that in its search and sends nothing.
"""

import json
import os
import re
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.datasets import DATASETS
from benchmarks.records import Job, RunRecord
from runner.files import read_lines
from runner.jobs.find import suites_of_jobs
from runner.jobs.paths import JobPaths, runs_folder
from runner.jobs.state import State
from runner.tracking.store import (
    LOGIN,
    QUIET,
    MlflowMissingError,
    artifacts_beside,
    create_store,
    database_of,
    is_about_the_store,
    line_of,
    mend_artifact_addresses,
    mlflow_client,
    store_uri,
    unfit_folder,
    without_password,
    writing,
)
from runner.tracking.view import RUN_TAG, Points, View, curve_points, read_view, system_points

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

BATCH = 800  # points in one request: MLflow admits 1,000 points, parameters and tags together
DIGEST_LENGTH = 36  # characters of a dataset's digest that MLflow admits
FEW = 20  # so many runs of a model are looked up one by one (10 ms each), more by reading all of them (2 ms each)


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
            if news and (problem := unfit_folder()):
                report.left += len(news)
                problems.append(problem)
            elif news:
                self._send(news, suites, report, problems, patience, stop)
        except MlflowMissingError:
            problems.append("mlflow isn't installed here: where it is, `runner sync` brings the runs into it later")
        except Exception as error:  # whatever it is, it must not end a training or the command around it
            self._forget()
            place = without_password(self.uri)
            login = f". {LOGIN}" if re.search(r"\b(401|403)\b", str(error)) else ""
            problems.append(
                f"MLflow at {place} can't be written ({line_of(error)}); `runner sync` does it later{login}"
            )
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
    ) -> list[View]:
        """The jobs that have something to send, from their files alone."""
        news = []
        for paths in jobs:
            try:
                view = read_view(paths, suites, self._jobs.get(paths.folder))
            except Exception as error:  # one broken folder hides no good one
                report.left += 1
                problems.append(f"MLflow lacks {paths.folder.name}: {line_of(error)}")
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
        news: list[View],
        suites: dict[str, set[str]],
        report: SyncReport,
        problems: list[str],
        patience: float,
        stop: Callable[[], bool],
    ) -> None:
        """Send them one after another, as the only process that does; notes in the report how it went."""
        report.left += len(news)
        client_class = mlflow_client()  # takes seconds, so before the lock
        with writing(patience) as alone:
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
                    now = read_view(view.paths, suites, view.job)
                    if now is None or now.run != view.run:  # started afresh meanwhile: left for the next sync
                        continue
                    sent = self._bring(now)
                except Exception as error:
                    if is_about_the_store(error):
                        raise
                    self._runs.pop(view.run, None)
                    self._experiments.pop(view.job.dataset, None)
                    problems.append(f"MLflow lacks {view.job.key}: {line_of(error)}")
                    continue
                self._seen[view.paths.folder] = now.signature
                report.left -= 1
                report.written += sent
                report.unchanged += not sent

    def _open(self, client_class: Any) -> None:
        """Connect, once. A fresh database is created and migrated here, under the lock: two at once would fail."""
        if self._client is not None:
            return
        if path := database_of(self.uri):
            path.parent.mkdir(parents=True, exist_ok=True)
            if not path.exists():
                create_store(client_class, path)
            with closing(sqlite3.connect(path, timeout=5)) as database:  # MLflow tries a broken file for 100 s
                database.execute("PRAGMA schema_version").fetchall()
                if path.parent == runs_folder():
                    mend_artifact_addresses(database, artifacts_beside(path))
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
        path = database_of(self.uri)
        return (artifacts_beside(path) / dataset).as_uri() if path else None

    def _find(self, news: list[View]) -> None:
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

    def _bring(self, view: View) -> bool:
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
        metrics = self._points(run, view.paths.metrics, curve_points)
        system = self._points(run, view.paths.system, system_points)
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

    def _create(self, view: View) -> _RemoteRun:
        tags = {RUN_TAG: view.run, "model": view.job.model}  # by which a search finds it from the first moment on
        experiment = self._experiment(view.job.dataset)
        made = self._client.create_run(experiment, start_time=view.start_ms, tags=tags, run_name=view.job.key)
        self._runs[view.run] = _RemoteRun(made.info.run_id, tags, set())
        return self._runs[view.run]

    def _points(
        self, run: _RemoteRun, path: Path, of: Callable[[int, dict[str, Any]], list[tuple[str, float, int, int]]]
    ) -> "Points":
        """The points of a file's lines that this process hasn't sent yet; all of them where the file became shorter."""
        lines = read_lines(path)
        sent = run.sent.get(path.name, 0)
        sent = sent if sent <= len(lines) else 0
        return Points(len(lines), [point for number in range(sent, len(lines)) for point in of(number, lines[number])])

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

    def _set_status(self, run: _RemoteRun, view: View) -> bool:
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
