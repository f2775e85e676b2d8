"""Send the jobs' files to MLflow. Only this folder knows MLflow.

Workers never talk to MLflow; they write files. `Tracker.sync` reads the files and sends what MLflow lacks. The
submitting process calls it every few seconds (`BackgroundSync`), `runner sync` calls it later. There is one write path,
so an unreachable server costs one warning and no data. Everything can be sent again without harm: a run is identified
by its tag `reprozoo.run`, and MLflow ignores a point that it already has (same key, step, time and value).

A finished run that has arrived completely carries `reprozoo.synced`, the sha256 of its record.json. The next process
finds the tag in its search and sends nothing.
"""

import json
import os
import re
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
    mlflow_client,
    store_uri,
    unfit_folder,
    update_artifact_addresses,
    without_password,
    writing,
)
from runner.tracking.view import RUN_TAG, Points, View, curve_points, read_view, system_points

if TYPE_CHECKING:
    from mlflow import MlflowClient

SYNCED_TAG = "reprozoo.synced"  # sha256 of the record.json that has arrived completely

# `interrupted` and `killed` jobs may resume: their run then returns to RUNNING. `diverged` is a result, not a failure.
STATUS: dict[State, str] = {
    "running": "RUNNING",
    "done": "FINISHED",
    "failed": "FAILED",
    "interrupted": "KILLED",
    "killed": "KILLED",
    "pending": "KILLED",  # pending after an attempt that left nothing
}

BATCH = 800  # points per request: MLflow accepts 1,000 points, parameters and tags together
DIGEST_LENGTH = 36  # longest dataset digest that MLflow accepts
FEW = 20  # up to this many runs of a model are searched one by one (10 ms each); else all are read (2 ms each)


@dataclass
class _RemoteRun:
    """One run in MLflow, as far as this process knows it."""

    id: str
    tags: dict[str, str]
    params: set[str]
    deleted: bool = False  # by its owner, in MLflow; never touched again
    status: tuple[str, int] | None = None  # last written by this process: MLflow's status, number of attempts
    sent: dict[str, int] = field(default_factory=dict)  # file name -> lines that have arrived


@dataclass
class SyncReport:
    """The result of one sync. Counts are of jobs."""

    written: int = 0  # something was sent
    unchanged: int = 0  # MLflow had everything
    not_started: int = 0  # no attempt yet, so no run
    left: int = 0  # left for the next sync
    held: int = 0  # a worker held the job when its files were read, so that more may follow
    busy: bool = False  # another process of this checkout was writing
    warning: str | None = None  # one line: why some jobs were left

    def __str__(self) -> str:
        parts = [f"{self.written} sent", f"{self.unchanged} up to date"]
        if self.not_started:
            parts.append(f"{self.not_started} not started")
        if self.left:
            parts.append(f"{self.left} left for the next sync")
        if self.busy:
            parts.append("another process is writing to MLflow")
        return "MLflow: " + ", ".join(parts)


def sync(jobs: Iterable[JobPaths], warn: Callable[[str], None] | None = None, *, patience: float = 30.0) -> SyncReport:
    """Bring MLflow up to date with these jobs once, for `runner sync`. See Tracker.sync."""
    return Tracker(warn=warn).sync(jobs, patience=patience)


class Tracker:
    """Sends to one store and remembers what it sent. Not thread-safe.

    `warn` gets one line when something goes wrong, and no other until a sync has succeeded again.
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
        """Discard what is known of the store: after a failure it may be another one."""
        self._experiments: dict[str, str] = {}  # data set -> MLflow's id
        self._runs: dict[str, _RemoteRun] = {}  # by our run id
        self._seen: dict[Path, tuple[Any, ...]] = {}  # folder -> the signature that has arrived

    def sync(
        self, jobs: Iterable[JobPaths], *, patience: float = 1.0, stop: Callable[[], bool] = lambda: False
    ) -> SyncReport:
        """Bring MLflow up to date with these jobs' files. Never raise for a store that is unreachable, full or broken.

        Wait up to `patience` seconds for another process that is writing. `stop` is called between jobs; once it
        returns True, the remaining jobs are left for the next sync.
        """
        report = SyncReport()
        problems: list[str] = []
        try:
            suites = suites_of_jobs()
            changed_jobs = self._changed_jobs(jobs, suites, report, problems)
            if changed_jobs and (problem := unfit_folder()):
                report.left += len(changed_jobs)
                problems.append(problem)
            elif changed_jobs:
                self._send_all(changed_jobs, suites, report, problems, patience, stop)
        except MlflowMissingError:
            problems.append("mlflow is not installed, so no run was written to it; once it is installed: runner sync")
        except Exception as error:  # no error may end a training or the command around it
            self._forget()
            place = without_password(self.uri)
            login = f". {LOGIN}" if re.search(r"\b(401|403)\b", str(error)) else ""
            problems.append(
                f"MLflow at {place} can't be written ({line_of(error)}); try again later with: runner sync{login}"
            )
        if problems:
            more = f" (and {len(problems) - 1} more like it)" if len(problems) > 1 else ""
            report.warning = problems[0] + more
            if self._warn is not None and not self._warned:
                self._warn(report.warning)
        if not report.busy:
            self._warned = bool(problems)
        return report

    # --- steps of a sync ---

    def _changed_jobs(
        self, jobs: Iterable[JobPaths], suites: dict[str, set[str]], report: SyncReport, problems: list[str]
    ) -> list[View]:
        """Return the jobs that have something to send, judged from their files alone."""
        changed_jobs = []
        for paths in jobs:
            try:
                view = read_view(paths, suites, self._jobs.get(paths.folder))
            except Exception as error:  # one broken folder must not affect the others
                report.left += 1
                problems.append(f"MLflow has no run of {paths.name}: {line_of(error)}")
                continue
            if view is None:
                report.not_started += 1
                continue
            self._jobs[paths.folder] = view.job
            report.held += not view.settled
            if self._seen.get(paths.folder) == view.signature:
                report.unchanged += 1
            else:
                changed_jobs.append(view)
        return changed_jobs

    def _send_all(
        self,
        changed_jobs: list[View],
        suites: dict[str, set[str]],
        report: SyncReport,
        problems: list[str],
        patience: float,
        stop: Callable[[], bool],
    ) -> None:
        """Send the jobs one after another under the writer's lock, and count the results in the report."""
        report.left += len(changed_jobs)
        client_class = mlflow_client()  # takes seconds, so before the lock
        with writing(patience) as held:
            if not held:
                report.busy = True
                return
            self._open(client_class)
            self._find(changed_jobs)
            for view in changed_jobs:
                if stop():
                    return
                try:
                    # Read again: import, lock and earlier jobs took time, and another process may have sent newer
                    # data meanwhile.
                    now = read_view(view.paths, suites, view.job)
                    if now is None or now.run != view.run:  # restarted meanwhile: left for the next sync
                        continue
                    sent = self._send_run(now)
                except Exception as error:
                    if is_about_the_store(error):
                        raise
                    self._runs.pop(view.run, None)
                    self._experiments.pop(view.job.dataset, None)
                    problems.append(f"MLflow has no run of {view.job.key}: {line_of(error)}")
                    continue
                self._seen[view.paths.folder] = now.signature
                report.left -= 1
                report.written += sent
                report.unchanged += not sent

    def _open(self, client_class: "type[MlflowClient]") -> None:
        """Connect, once.

        A new database is created and migrated here, under the lock, because two processes at once would fail.
        """
        if self._client is not None:
            return
        if path := database_of(self.uri):
            path.parent.mkdir(parents=True, exist_ok=True)
            if not path.exists():
                create_store(client_class, path)
            with closing(sqlite3.connect(path, timeout=5)) as database:  # MLflow tries a broken file for 100 s
                database.execute("PRAGMA schema_version").fetchall()
                if path.parent == runs_folder():
                    update_artifact_addresses(database, artifacts_beside(path))
        self._client = client_class(tracking_uri=self.uri)

    def _experiment(self, dataset: str) -> str:
        """Return MLflow's id of the data set's experiment; create it if there is none.

        Raise ValueError if its owner deleted it.
        """
        if dataset not in self._experiments:
            experiment = self._client.get_experiment_by_name(dataset)
            if experiment is None:
                self._experiments[dataset] = self._client.create_experiment(dataset, self._artifacts(dataset))
            elif experiment.lifecycle_stage == "deleted":
                raise ValueError(
                    "its experiment was deleted in MLflow; restore it with "
                    f"`mlflow experiments restore -x {experiment.experiment_id}`"
                )
            else:
                self._experiments[dataset] = experiment.experiment_id
        return self._experiments[dataset]

    def _artifacts(self, dataset: str) -> str | None:
        """Return the data set's artifact folder next to the SQLite file; None for another store, which has its own.

        MLflow's default is the current directory. Each data set has a folder of its own. Otherwise the artifact
        job.json would be where .runs has the jobs' job.json.
        """
        path = database_of(self.uri)
        return (artifacts_beside(path) / dataset).as_uri() if path else None

    def _find(self, changed_jobs: list[View]) -> None:
        """Find which of these runs MLflow has: one search per run, or one per model for more than FEW runs."""
        missing: dict[tuple[str, str], list[str]] = {}
        for view in changed_jobs:
            if view.run not in self._runs:
                missing.setdefault((view.job.dataset, view.job.model), []).append(view.run)
        for (dataset, model), runs in missing.items():
            try:
                experiment = self._experiment(dataset)
            except ValueError:
                continue  # reported for each of its jobs
            one_by_one = [f"tags.\"{RUN_TAG}\" = '{run}'" for run in runs]
            for filter_string in one_by_one if len(runs) <= FEW else [f"tags.model = '{model}'"]:
                for remote in self._search(experiment, filter_string):
                    if (run := remote.data.tags.get(RUN_TAG)) is not None:
                        deleted = remote.info.lifecycle_stage == "deleted"
                        self._runs[run] = _RemoteRun(
                            remote.info.run_id, remote.data.tags, set(remote.data.params), deleted
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

    def _send_run(self, view: View) -> bool:
        """Send what MLflow lacks of one run; return whether there was anything. Safe to repeat after a failure."""
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
        if "failure" in run.tags and "failure" not in tags:  # the job was retried
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
        tags = {RUN_TAG: view.run, "model": view.job.model}  # set at creation, so that a search finds the run at once
        experiment = self._experiment(view.job.dataset)
        remote = self._client.create_run(experiment, start_time=view.start_ms, tags=tags, run_name=view.job.key)
        self._runs[view.run] = _RemoteRun(remote.info.run_id, tags, set())
        return self._runs[view.run]

    def _points(
        self, run: _RemoteRun, path: Path, of: Callable[[int, dict[str, Any]], list[tuple[str, float, int, int]]]
    ) -> "Points":
        """Return the points of those lines of a file that this process has not sent yet.

        If the file is shorter than before, return the points of all its lines.
        """
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
        """Update the run's status if it, or the number of attempts, has changed; return whether it has."""
        status = STATUS[view.state], len(view.starts)
        if run.status == status:
            return False
        if status[0] == "RUNNING":
            self._client.update_run(run.id, status="RUNNING")
        else:
            self._client.set_terminated(run.id, status[0], view.end_ms)
        run.status = status
        return True

    def _log_dataset(self, run: _RemoteRun, record: RunRecord) -> None:
        """Log the dataset input: name, digest of the parsed images and labels, official source."""
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
