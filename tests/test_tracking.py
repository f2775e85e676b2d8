"""runner/tracking/ on MLflow's real SQLite store: what the files say is what MLflow shows, once."""

import errno
import fcntl
import json
import os
import shutil
import socket
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path

import psutil
import pytest
from helpers import wait_for
from urllib3.connection import HTTPConnection

from benchmarks.records import DataFacts, Environment, Job, Protocol, RunRecord, Source, save
from runner import locks
from runner.files import append_line
from runner.jobs.find import all_jobs, record_submission
from runner.jobs.paths import JobPaths, host, job_lock
from runner.jobs.state import state_of
from runner.tracking import store, tracker, view
from runner.tracking.background import BackgroundSync
from runner.tracking.tracker import Tracker, sync

START = 1_790_000_000_000  # ms: when the first attempt of every job here begins
RUN = "0123456789abcdef" * 2
SHA = "ab" * 32


class Written:
    """A job's folder as submit and the worker would have written it."""

    def __init__(self, seed: int = 0, run: str = RUN, **overrides: object) -> None:
        recipe = {"epochs": 3, "learning_rate": 0.1, "preprocessing": "gcn_zca", "init": [["*", "normal", 0.05]]}
        self.job = Job(
            dataset="cifar10", model="nin_dropout", revision=1, recipe=recipe, overrides=overrides, seed=seed
        )
        self.paths, self.run, self.now = JobPaths.of(self.job), run, START
        self.paths.write_job(self.job)

    def start(self, **facts: object) -> "Written":
        line = {"event": "start", "time": self.now, "host": host(), "pid": 1, "boot": "b", "run": self.run}
        append_line(self.paths.attempts, line | {"submission": "s", "step": 0, "threads": 1, "device": "cpu"} | facts)
        self.paths.lock.touch()
        return self

    def epoch(self, number: int, train_loss: float | None = 1.5) -> "Written":
        self.now = START + 10_000 * number
        facts = {"learning_rate": 0.1, "train_loss": train_loss, "test_error": 50 / number, "seconds": 9.5}
        append_line(self.paths.metrics, {"epoch": number, "time": self.now, **facts})
        append_line(self.paths.system, {"time": self.now, "cpu_percent": 90 + number, "gpu_memory_mb": 512.5})
        self.paths.checkpoint.touch()
        return self

    def end(self, outcome: str) -> "Written":
        self.now += 1
        append_line(self.paths.attempts, {"event": "end", "time": self.now, "outcome": outcome})
        return self

    def finish(self, outcome: str = "finished") -> "Written":
        self.paths.log.write_text("trained\n")
        self.paths.weights.write_bytes(b"weights")
        self.paths.curve.write_text("epoch\n1\n")
        diverged = outcome == "diverged"
        record = RunRecord(
            run=self.run,
            key=self.job.key,
            fingerprint=self.job.fingerprint,
            job=self.job,
            outcome=outcome,
            diverged_epoch=2 if diverged else None,
            wrong=None if diverged else 1041,
            test_images=None if diverged else 10_000,
            protocol=Protocol(evaluation="test", augmentation="none", training_images=50_000),
            parameters=966_986,
            recipe_sha256=self.job.recipe_sha256,
            images_per_second=1000.0,
            train_seconds=30.0,
            environment=Environment(
                device="cpu", hardware="h", platform="p", python="3", torch="2", threads=1, precision={}
            ),
            source=Source(commit="c0ffee", dirty=False, sha256=SHA),
            data=DataFacts(sha256=SHA, verified=True),
            started=datetime.fromtimestamp(START / 1000, UTC),
            finished=datetime.fromtimestamp(self.now / 1000, UTC),
            attempts=1,
            curve_sha256=SHA,
            weights_sha256=SHA,
        )
        save(record, self.paths.record)
        self.paths.checkpoint.unlink(missing_ok=True)
        return self.end("finished")

    def archive(self) -> None:
        self.paths.archive()


def trained(seed: int = 0, run: str = RUN) -> Written:
    return Written(seed, run).start().epoch(1).epoch(2).epoch(3).finish()


@contextmanager
def running(written: Written):
    """As if a worker held the job."""
    with job_lock(written.paths) as held:
        assert held
        yield


def opened(uri: str | None = None) -> Tracker:
    """A tracker that is connected already, so that a test can put something in the way of its client."""
    tracker = Tracker(uri)
    tracker._open(store.mlflow_client())
    return tracker


@pytest.fixture
def client(own_store: Path):
    """MLflow's own client on this test's store."""
    from mlflow.tracking import MlflowClient

    return MlflowClient(tracking_uri=f"sqlite:///{own_store}")


def runs_of(client, dataset: str = "cifar10") -> list:
    experiment = client.get_experiment_by_name(dataset)
    return [] if experiment is None else list(client.search_runs([experiment.experiment_id]))


def one_run(client):
    (run,) = runs_of(client)
    return run


def curve(client, run, key: str) -> list[tuple[int, int, float]]:
    """(step, time in ms, value) of every point, by step."""
    points = client.get_metric_history(run.info.run_id, key)
    return sorted((point.step, point.timestamp, point.value) for point in points)


def all_points(client) -> dict[str, list]:
    return {
        f"{run.data.tags[view.RUN_TAG]} {key}": curve(client, run, key)
        for run in runs_of(client)
        for key in run.data.metrics
    }


# --- what arrives ----------------------------------------------------------------------------------------------------


def test_a_finished_job_arrives_whole(client, own_root):
    written = trained()
    record_submission({"suite": "nin_ablation", "fingerprints": [written.job.fingerprint]})
    record_submission({"suite": "cifar10", "fingerprints": [written.job.fingerprint]})

    report = sync([written.paths])

    assert (report.written, report.left, report.warning) == (1, 0, None)
    run = one_run(client)
    assert run.info.run_name == "cifar10/nin_dropout/reference-seed0"
    assert (run.info.status, run.info.start_time, run.info.end_time) == ("FINISHED", START, written.now)
    assert run.data.params == {
        "epochs": "3",
        "learning_rate": "0.1",
        "preprocessing": "gcn_zca",
        "init": '[["*","normal",0.05]]',
        "dataset": "cifar10",
        "model": "nin_dropout",
        "revision": "1",
        "seed": "0",
        "profile": "reference",
        "overrides": "{}",
        "threads": "1",
        "device": "cpu",
    }
    ours = {name: value for name, value in run.data.tags.items() if not name.startswith("mlflow.")}
    assert ours.pop(tracker.SYNCED_TAG)
    assert ours == {
        "reprozoo.run": RUN,
        "fingerprint": written.job.fingerprint,
        "dataset": "cifar10",
        "model": "nin_dropout",
        "seed": "0",
        "profile": "reference",
        "suite": "cifar10,nin_ablation",
        "attempts": "1",
        "outcome": "finished",
        "commit": "c0ffee",
        "dirty": "false",
        "data_sha256": SHA,
        "data_verified": "true",
    }
    times = [START + 10_000, START + 20_000, START + 30_000]
    assert curve(client, run, "test_error") == list(zip([1, 2, 3], times, [50.0, 25.0, 50 / 3], strict=True))
    assert curve(client, run, "train_loss") == list(zip([1, 2, 3], times, [1.5] * 3, strict=True))
    assert curve(client, run, "system/gpu_0_memory_usage_megabytes") == list(
        zip([0, 1, 2], times, [512.5] * 3, strict=True)
    )
    assert curve(client, run, "system/process_cpu_utilization_percentage")[0][2] == 91
    assert set(run.data.metrics) == {
        "learning_rate", "train_loss", "test_error", "seconds",
        "system/gpu_0_memory_usage_megabytes", "system/process_cpu_utilization_percentage",
    }  # fmt: skip
    (dataset,) = run.inputs.dataset_inputs
    assert (dataset.dataset.name, dataset.dataset.digest) == ("cifar10", SHA[:36])
    assert [(tag.key, tag.value) for tag in dataset.tags] == [("mlflow.data.context", "training")]
    assert {file.path for file in client.list_artifacts(run.info.run_id)} == {
        "job.json", "log.txt", "record.json", "curve.csv", "weights.pt",
    }  # fmt: skip
    assert (own_root / ".runs" / "mlflow-artifacts" / "cifar10" / run.info.run_id / "artifacts" / "job.json").exists()
    assert all_jobs() == [written.paths]  # an artifact isn't taken for a job


def test_overrides_are_what_was_trained(client):
    written = Written(learning_rate=0.25).start()
    sync([written.paths])
    params = one_run(client).data.params
    assert (params["learning_rate"], params["overrides"]) == ("0.25", '{"learning_rate":0.25}')


def test_a_diverged_training_is_a_result_and_its_null_loss_no_point(client):
    written = Written().start().epoch(1).epoch(2, train_loss=None).finish("diverged")
    sync([written.paths])
    run = one_run(client)
    assert (run.info.status, run.data.tags["outcome"]) == ("FINISHED", "diverged")
    assert [step for step, _, _ in curve(client, run, "train_loss")] == [1]
    assert [step for step, _, _ in curve(client, run, "test_error")] == [1, 2]


def test_values_longer_than_mlflow_admits_are_cut(client):
    written = Written(preprocessing="x" * 20_000).start()
    assert sync([written.paths]).warning is None
    assert one_run(client).data.params["preprocessing"] == "x" * view.VALUE_LENGTH


def test_more_points_than_one_request_admits(client):
    written = Written().start()
    for number in range(1, 401):
        append_line(written.paths.metrics, {"epoch": number, "time": START + number, "a": number, "b": -number, "c": 0})
    assert sync([written.paths]).warning is None
    points = curve(client, one_run(client), "b")
    assert points == [(number, START + number, -number) for number in range(1, 401)]


def test_a_job_never_started_has_no_run_and_mlflow_is_not_even_opened(own_root):
    report = sync([Written().paths])
    assert (report.not_started, report.written, report.left) == (1, 0, 0)
    assert not (own_root / ".runs" / "mlflow.db").exists()


# --- again -----------------------------------------------------------------------------------------------------------


def test_syncing_again_changes_nothing(client):
    done, going = trained(), Written(seed=1, run="1" * 32).start().epoch(1).epoch(2)
    both = [done.paths, going.paths]
    tracker = Tracker()
    assert tracker.sync(both).written == 2
    before = all_points(client)
    assert tracker.sync(both).unchanged == 2
    assert sync(both).left == 0  # another process, which doesn't know what was sent
    assert all_points(client) == before
    assert len(runs_of(client)) == 2


def test_a_whole_run_is_skipped_by_its_tag(client, monkeypatch):
    done = trained()
    sync([done.paths])
    tracker = opened()
    monkeypatch.setattr(tracker._client, "log_batch", lambda *a, **k: pytest.fail("sent again"))
    monkeypatch.setattr(tracker._client, "log_artifact", lambda *a, **k: pytest.fail("sent again"))
    assert tracker.sync([done.paths]).unchanged == 1


@pytest.mark.parametrize("few", [20, 1], ids=["one by one", "all of a model"])
def test_runs_are_found_again(client, monkeypatch, few):
    monkeypatch.setattr(tracker, "FEW", few)
    folders = [trained(seed, f"{seed:032x}").paths for seed in range(3)]
    sync(folders)
    assert sync(folders).unchanged == 3
    assert len(runs_of(client)) == 3


def test_a_store_that_lost_everything_gets_everything_again(client, migrated, tmp_path):
    first, second = trained(), Written(seed=1, run="1" * 32).start().epoch(1)
    folders = [first.paths, second.paths]
    tracker = opened()
    tracker.sync(folders)
    shutil.copy(migrated, tmp_path / "fresh.db")  # the server was set up anew
    tracker._client = opened(f"sqlite:///{tmp_path}/fresh.db")._client
    second.epoch(2)
    assert tracker.sync(folders).left == 1
    assert tracker.sync(folders).left == 0
    assert len(runs_of(tracker._client)) == 2


def test_points_are_sent_once_while_a_job_runs(client, monkeypatch):
    written = Written().start()
    tracker = Tracker()
    with running(written):
        tracker.sync([written.paths])
        assert one_run(client).info.status == "RUNNING"
        sent = []
        log_batch = tracker._client.log_batch
        monkeypatch.setattr(tracker._client, "log_batch", lambda *a, **k: (sent.extend(a[1]), log_batch(*a, **k)))
        for number in (1, 2, 3):
            written.epoch(number)
            tracker.sync([written.paths])
            assert [step for step, _, _ in curve(client, one_run(client), "test_error")] == list(range(1, number + 1))
    losses = [metric.step for metric in sent if metric.key == "train_loss"]
    assert losses == [1, 2, 3]


def test_submitted_again_under_another_suite(client):
    written = trained()
    record_submission({"suite": "cifar10", "fingerprints": [written.job.fingerprint]})
    tracker = Tracker()
    tracker.sync([written.paths])
    record_submission({"suite": "all", "fingerprints": [written.job.fingerprint]})
    assert tracker.sync([written.paths]).written == 1
    assert one_run(client).data.tags["suite"] == "all,cifar10"


def test_a_run_deleted_in_mlflow_stays_deleted(client):
    written = trained()
    sync([written.paths])
    client.delete_run(one_run(client).info.run_id)
    assert sync([written.paths]).warning is None
    assert runs_of(client) == []


def test_a_deleted_experiment_is_named_and_hides_no_other_job(client):
    written = trained()
    sync([written.paths])
    experiment = client.get_experiment_by_name("cifar10").experiment_id
    client.delete_experiment(experiment)
    report = sync([written.paths])
    assert report.left == 1
    assert f"mlflow experiments restore -x {experiment}" in report.warning
    client.restore_experiment(experiment)
    assert sync([written.paths]).left == 0


# --- the life of a run -----------------------------------------------------------------------------------------------


def test_a_resumed_job_is_the_same_run_and_has_no_point_twice(client):
    written = Written().start().epoch(1).epoch(2)
    tracker = Tracker()
    with running(written):
        tracker.sync([written.paths])
    tracker.sync([written.paths])
    assert one_run(client).info.status == "KILLED"

    written.start(step=100)
    with running(written):
        tracker.sync([written.paths])
        assert one_run(client).info.status == "RUNNING"
        assert one_run(client).data.tags["attempts"] == "2"
        written.epoch(3)
    written.finish()
    sync([written.paths])  # by a process that knows nothing of the first
    run = one_run(client)
    assert (run.info.status, run.info.end_time) == ("FINISHED", written.now)
    assert [step for step, _, _ in curve(client, run, "train_loss")] == [1, 2, 3]


def test_running_again_after_another_process_called_it_dead(client):
    written = Written().start()
    ours = Tracker()
    with running(written):
        ours.sync([written.paths])
    sync([written.paths])
    written.start()
    with running(written):
        ours.sync([written.paths])
        assert one_run(client).info.status == "RUNNING"


def test_what_ends_while_we_wait_for_the_store_is_not_set_back(client, monkeypatch):
    written, tracker = Written().start().epoch(1), Tracker()
    opening = tracker._open
    monkeypatch.setattr(tracker, "_open", lambda client_class: (written.finish(), opening(client_class)))
    assert state_of(written.paths) == "interrupted"
    tracker.sync([written.paths])
    assert one_run(client).info.status == "FINISHED"


def test_a_dead_process_does_not_stay_running(client):
    written = Written().start().epoch(1)
    written.paths.checkpoint.unlink()
    assert state_of(written.paths) == "killed"
    sync([written.paths])
    info = one_run(client).info
    assert (info.status, info.end_time) == ("KILLED", START + 10_000)  # its last sign of life


def test_interrupted_and_given_up_attempts_are_not_running(client):
    interrupted = Written(seed=0).start().epoch(1).end("interrupted")
    no_data = Written(seed=1, run="1" * 32).start().end("infrastructure")
    assert [state_of(written.paths) for written in (interrupted, no_data)] == ["interrupted", "pending"]
    sync([interrupted.paths, no_data.paths])
    assert {run.info.status for run in runs_of(client)} == {"KILLED"}


def test_a_failed_job_says_why_and_a_retry_is_a_new_run(client):
    written = Written().start().epoch(1).end("model")
    written.paths.log.write_text("Traceback\n")
    written.paths.failure.write_text(json.dumps({"kind": "model", "what": "ValueError: bad shape", "time": START}))
    tracker = Tracker()
    tracker.sync([written.paths])
    run = one_run(client)
    assert (run.info.status, run.info.end_time) == ("FAILED", written.now)
    assert run.data.tags["failure"] == "ValueError: bad shape"
    assert {file.path for file in client.list_artifacts(run.info.run_id)} == {"job.json", "log.txt", "failure.json"}

    written.paths.archive()
    written.run = "2" * 32
    written.start().epoch(1).finish()
    tracker.sync([written.paths])
    assert {run.data.tags["reprozoo.run"]: run.info.status for run in runs_of(client)} == {
        RUN: "FAILED", "2" * 32: "FINISHED",
    }  # fmt: skip


def test_a_failure_overcome_leaves_no_tag(client):
    written = Written().start().epoch(1)
    written.paths.failure.write_text(json.dumps({"kind": "refused", "what": "another torch", "time": START}))
    tracker = Tracker()
    tracker.sync([written.paths])
    assert one_run(client).info.status == "FAILED"
    written.paths.failure.unlink()
    written.start().epoch(2).finish()
    tracker.sync([written.paths])
    assert one_run(client).info.status == "FINISHED"
    assert "failure" not in one_run(client).data.tags


# --- when something is wrong -----------------------------------------------------------------------------------------


def closed_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_a_server_away_costs_one_line_and_loses_nothing(client, monkeypatch):
    written = [trained(), Written(seed=1, run="1" * 32).start().epoch(1)]
    folders = [one.paths for one in written]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://someone:secret@127.0.0.1:{closed_port()}")
    warnings: list[str] = []
    tracker, attempts, connect = Tracker(warn=warnings.append), [], HTTPConnection.connect
    monkeypatch.setattr(HTTPConnection, "connect", lambda self: (attempts.append(self.port), connect(self)))
    reports = [tracker.sync(folders) for _ in range(3)]
    assert 3 <= len(attempts) <= 3 * 2  # by itself MLflow tries eight times, for minutes
    assert [report.left for report in reports] == [2, 2, 2]
    (line,) = warnings
    assert "Connection refused" in line
    assert "secret" not in line
    assert "\n" not in line

    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert sync(folders).written == 2
    assert len(all_points(client)) == 12


def test_a_broken_store_costs_one_line_until_it_is_mended(own_root, migrated):
    path = own_root / ".runs" / "mlflow.db"
    path.parent.mkdir()
    path.write_bytes(b"garbage" * 1000)
    written, warnings = trained(), []
    tracker = Tracker(warn=warnings.append)
    assert [tracker.sync([written.paths]).left for _ in range(2)] == [1, 1]
    assert len(warnings) == 1
    assert "not a database" in warnings[0]
    shutil.copy(migrated, path)
    assert tracker.sync([written.paths]).written == 1


def test_a_full_disk_in_the_middle_is_made_up_for(client, monkeypatch):
    written, tracker = trained(), opened()

    def full(*_args: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(tracker._client, "log_artifact", full)
        report = tracker.sync([written.paths])
    assert report.left == 1
    assert "No space left on device" in report.warning
    assert tracker.sync([written.paths]).left == 0
    run = one_run(client)
    assert len(client.list_artifacts(run.info.run_id)) == 5
    assert [step for step, _, _ in curve(client, run, "test_error")] == [1, 2, 3]


def test_one_broken_folder_hides_no_good_one(client):
    torn, bad_record, good = Written(seed=1, run="1" * 32), trained(seed=2, run="2" * 32), trained()
    torn.start().paths.job.write_text('{"dataset":')
    bad_record.paths.record.write_text("{}")
    report = sync([torn.paths, bad_record.paths, good.paths])
    assert (report.written, report.left) == (1, 2)
    assert torn.paths.folder.name in report.warning
    assert "(and 1 more like it)" in report.warning


def test_while_another_process_writes_the_round_is_skipped(client, own_root):
    written, warnings = trained(), []
    tracker = Tracker(warn=warnings.append)
    with (own_root / ".runs" / "mlflow.lock").open("a") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        report = tracker.sync([written.paths], patience=0)
    assert (report.busy, report.left, warnings) == (True, 1, [])
    assert tracker.sync([written.paths]).written == 1


def test_a_fresh_store_is_created_under_the_lock_of_the_one_writer(own_root, migrated, monkeypatch):
    """Two processes that migrate one store at once fail."""

    def create(_, path: Path) -> None:
        assert locks.is_held(own_root / ".runs" / "mlflow.lock")
        shutil.copy(migrated, path)

    monkeypatch.setattr(tracker, "create_store", create)
    report = sync([trained().paths])
    assert (report.written, report.warning) == (1, None)


@pytest.mark.slow
def test_two_processes_on_one_fresh_store(own_root):
    """Also that the other prints nothing but our line: MLflow would tell at length how it migrates a fresh store."""
    written = [trained(), trained(seed=1, run="1" * 32)]
    code = """
import mlflow.tracking
from runner.tracking.tracker import Tracker, sync
from runner.jobs.find import all_jobs
input()
print(sync(all_jobs(), warn=print, patience=240))
"""
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as other:
        store.mlflow_client()
        other.stdin.write("go\n")
        other.stdin.flush()
        report = sync([one.paths for one in written], patience=240)
        out, err = other.communicate(timeout=300)
    assert {str(report), out.strip()} == {
        "MLflow: 0 sent, 2 up to date",
        "MLflow: 2 sent, 0 up to date",
    }
    assert err == ""
    with closing(sqlite3.connect(own_root / ".runs" / "mlflow.db")) as database:
        (runs,) = database.execute("SELECT COUNT(*) FROM runs").fetchone()
        (points,) = database.execute("SELECT COUNT(*) FROM metrics").fetchone()
    assert (runs, points) == (2, 2 * (3 * 4 + 3 * 2))


def test_without_mlflow_one_line_says_so(own_root):
    trained()
    code = """
import sys
sys.modules["mlflow"] = None
from runner.tracking.tracker import Tracker, sync
from runner.jobs.find import all_jobs
tracker = Tracker(warn=print)
for _ in range(2):
    print(tracker.sync(all_jobs()).left)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=240)
    line, *counts = done.stdout.splitlines()
    assert "mlflow is not installed" in line
    assert line.endswith("once it is installed: runner sync")
    assert (counts, done.stderr) == (["1", "1"], "")


# --- in the background -----------------------------------------------------------------------------------------------


def test_background_sync_follows_a_job_and_leaves_nothing_out(client):
    written, warnings = Written().start(), []
    with BackgroundSync([written.paths], warnings.append, every=0.05, exit_seconds=240) as background:
        with running(written):
            written.epoch(1)
            deadline = time.monotonic() + 120
            while not runs_of(client) and time.monotonic() < deadline:
                time.sleep(0.05)
            assert one_run(client).info.status == "RUNNING"
        written.epoch(2).finish()
    assert background.report.left == 0
    assert one_run(client).info.status == "FINISHED"
    assert warnings == []


def test_a_job_that_ends_during_the_last_sync_leaves_the_store_marked_as_behind(client, monkeypatch):
    """Another submit's worker held the job when its files were read, and has ended when the locks are looked at."""
    written, worker = Written().start().epoch(1), ExitStack()
    worker.enter_context(running(written))
    with BackgroundSync([written.paths], print, every=60, exit_seconds=240) as background:
        sync = background._tracker.sync

        def sync_and_end(*arguments, **options):
            report = sync(*arguments, **options)
            written.epoch(2).finish()
            worker.close()
            return report

        monkeypatch.setattr(background._tracker, "sync", sync_and_end)
    assert one_run(client).info.status == "RUNNING"
    assert store.is_behind()
    with BackgroundSync([written.paths], print, every=60, exit_seconds=240):
        pass
    assert one_run(client).info.status == "FINISHED"
    assert not store.is_behind()


def test_leaving_waits_for_a_hanging_store_only_so_long(monkeypatch):
    hanging, answers = threading.Event(), []
    monkeypatch.setattr(Tracker, "sync", lambda *a, **k: answers.append(hanging.wait(120)))
    warnings: list[str] = []
    with BackgroundSync([], warnings.append, every=0.01, exit_seconds=0.2):
        time.sleep(0.05)
    assert answers == []  # left before the store answers
    hanging.set()
    assert warnings == ["MLflow lacks some runs; write them with: runner sync"]


# --- where -----------------------------------------------------------------------------------------------------------


def test_the_store_is_the_checkouts_own_or_the_variables(own_root, monkeypatch, tmp_path):
    ours = f"sqlite:///{own_root}/.runs/mlflow.db"
    assert store.store_uri() == ours
    assert store.ui_command().endswith(f"mlflow ui --backend-store-uri {ours}")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///other.db")
    assert store.store_uri() == f"sqlite:///{tmp_path}/other.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://me:secret@mlflow.example.org")
    assert store.ui_command() == "https://mlflow.example.org"


def test_a_moved_root_takes_its_artifacts_along(client, own_root, tmp_path, monkeypatch):
    """MLflow stores whole addresses; nothing is written to the old place after the move."""
    from mlflow.tracking import MlflowClient

    sync([trained().paths])
    moved = tmp_path / "another place #2, ü"
    own_root.rename(moved)
    monkeypatch.setenv("REPROZOO_ROOT", str(moved))
    sync([trained(seed=1, run="1" * 32).paths])
    assert not own_root.exists()
    assert {path.name for path in tmp_path.iterdir()} == {moved.name}
    here = MlflowClient(tracking_uri=store.store_uri())
    artifacts = moved / ".runs" / "mlflow-artifacts" / "cifar10"
    assert here.get_experiment_by_name("cifar10").artifact_location == artifacts.as_uri()
    runs = runs_of(here)
    assert len(runs) == 2
    for run in runs:
        assert run.info.artifact_uri == (artifacts / run.info.run_id / "artifacts").as_uri()
        assert "record.json" in {file.path for file in here.list_artifacts(run.info.run_id)}


@pytest.mark.parametrize("name", ["a?b", "100%"])
def test_a_root_that_no_address_can_hold_is_one_line_and_nothing_is_written_beside_it(tmp_path, monkeypatch, name):
    monkeypatch.setenv("REPROZOO_ROOT", str(tmp_path / "odd" / name))
    report = sync([trained().paths])
    assert report.left == 1
    assert report.warning is not None
    assert f"{name}/.runs, because the path contains ? or %: set REPROZOO_ROOT to another folder" in report.warning
    assert [path.name for path in (tmp_path / "odd").iterdir()] == [name]
    assert not list((tmp_path / "odd").rglob("mlflow*"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://mlflow.example.org")
    assert store.unfit_folder() is None


def test_addresses_of_other_stores_are_unchanged(tmp_path):
    with closing(sqlite3.connect(":memory:")) as database:
        store.update_artifact_addresses(database, tmp_path / "mlflow-artifacts")  # no table yet
        database.execute("CREATE TABLE experiments (experiment_id, name, artifact_location)")
        database.execute("CREATE TABLE runs (experiment_id, artifact_uri)")
        elsewhere = tmp_path / "copied from" / "mlflow-artifacts" / "mnist"
        elsewhere.mkdir(parents=True)  # the files are still there, and not here
        places = ["s3://bucket/cifar10", "file:///x/mlruns/0", elsewhere.as_uri()]
        rows = list(zip(range(3), ("cifar10", "Default", "mnist"), places, strict=True))
        database.executemany("INSERT INTO experiments VALUES (?, ?, ?)", rows)
        store.update_artifact_addresses(database, tmp_path / "mlflow-artifacts")
        assert database.execute("SELECT * FROM experiments").fetchall() == rows


def test_the_umask_decides_who_may_write_to_the_store(tmp_path):
    """By itself SQLite makes a file that only its owner may write."""

    class Client:
        def __init__(self, tracking_uri: str) -> None:
            self.path = tracking_uri.removeprefix("sqlite:///")

        def search_experiments(self, max_results: int) -> None:
            with closing(sqlite3.connect(self.path)) as database:
                database.execute("CREATE TABLE experiments (name)")

    before = os.umask(0o002)
    try:
        store.create_store(Client, tmp_path / "mlflow.db")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "mlflow.db").stat().st_mode) == 0o664


def test_the_page_that_is_named_is_the_experiments_not_mlflows_start_page(own_root, monkeypatch):
    assert store.how_to_see(["mnist", "mnist"]).endswith(
        f"sqlite:///{own_root}/.runs/mlflow.db, then open http://127.0.0.1:5000/#/experiments?experimentSearchFilter=mnist"
    )
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://me:secret@mlflow.example.org/")
    assert store.how_to_see(["mnist", "cifar10"]) == "https://mlflow.example.org/#/experiments"


@contextmanager
def server(folder: Path, port: int):
    """A real `mlflow server` on loopback, without the ten helpers that it starts for other kinds of work."""
    mlflow = Path(sys.executable).with_name("mlflow")
    where = ["--backend-store-uri", f"sqlite:///{folder}/s.db", "--artifacts-destination", str(folder / "artifacts")]
    with (folder / "server.log").open("a") as log:
        child = subprocess.Popen(
            [mlflow, "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1", *where],
            stdout=log,
            stderr=log,
            cwd=folder,
            env=os.environ | store.QUIET | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
        )
    try:
        deadline = time.monotonic() + 240
        while child.poll() is None and time.monotonic() < deadline:
            with closing(socket.socket()) as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.5)
        yield
    finally:
        child.terminate()
        child.wait(timeout=60)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_real_server_stopped_and_started(tmp_path, monkeypatch):
    from mlflow.tracking import MlflowClient

    port, warnings = closed_port(), []
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{port}")
    written = Written().start().epoch(1)
    tracker = Tracker(warn=warnings.append)
    with server(tmp_path, port):
        tracker.sync([written.paths])
    written.epoch(2)
    assert tracker.sync([written.paths]).left == 1
    written.epoch(3).finish()
    assert tracker.sync([written.paths]).left == 1
    assert len(warnings) == 1
    with server(tmp_path, port):
        assert tracker.sync([written.paths]).written == 1
        client = MlflowClient()
        run = one_run(client)
        assert run.info.status == "FINISHED"
        assert [step for step, _, _ in curve(client, run, "test_error")] == [1, 2, 3]
        assert len(client.list_artifacts(run.info.run_id)) == 5


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_real_server_that_goes_away_in_the_middle_of_a_suite(own_root, tmp_path, monkeypatch, runner):
    """Training goes on, one warning; afterwards `runner sync` completes the store: nothing is lost, nothing is there twice."""
    pytest.importorskip("sklearn", reason="the digits ship inside scikit-learn")
    port = closed_port()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{port}")
    words = ["submit", "--suite", "quickstart", "--model", "lenet", "--epochs", "400", "--set", "batch_size=480"]

    def rows(query: str) -> list:
        with closing(sqlite3.connect(tmp_path / "s.db")) as store:
            return store.execute(query).fetchall()

    with server(tmp_path, port):
        submit = subprocess.Popen(
            [sys.executable, "-m", "runner", *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        wait_for(lambda: any(path.read_text() for path in own_root.rglob("metrics.jsonl")))
        workers = psutil.Process(submit.pid).children(recursive=True)
        for worker in workers:
            worker.suspend()  # so that the suite is not over before the server goes away
        wait_for(lambda: rows("SELECT 1 FROM metrics WHERE key = 'test_error'"))
        assert submit.poll() is None
    for worker in workers:
        worker.resume()
    said, _ = submit.communicate(timeout=400)
    assert submit.returncode == 0, said
    assert said.count("can't be written") == 1, said
    assert [state_of(paths) for paths in all_jobs()] == ["done", "done"]
    assert store.is_behind()
    with server(tmp_path, port):
        code, out, err = runner("sync")
        assert code == 0, out + err
        assert runner("sync")[0] == 0  # harmless to repeat
    assert [status for (status,) in rows("SELECT status FROM runs")] == ["FINISHED"] * 2
    points = rows("SELECT run_uuid, step FROM metrics WHERE key = 'test_error'")
    assert len(points) == len(set(points)) == 800
