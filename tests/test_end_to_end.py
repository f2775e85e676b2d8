"""The whole line on real digits: submit, kill, submit again, fail, retry; one with a real worker, the slow ones all real."""

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
from contextlib import contextmanager

import pytest
from helpers import wait_for

from benchmarks.records import load
from runner.files import read_json, read_lines
from runner.jobs.find import all_jobs
from runner.jobs.paths import runs_folder
from runner.jobs.state import state_of
from runner.worker.attempt import JobAttempt

pytest.importorskip("sklearn", reason="the digits ship inside scikit-learn")

SMALL = ["--suite", "quickstart", "--model", "lenet", "--set", "batch_size=200"]


def records():
    return {load(paths.record).key: load(paths.record) for paths in all_jobs() if paths.record.exists()}


def test_a_suite_becomes_records_mlflow_runs_and_a_report(runner, own_store, monkeypatch):
    """By the local engine: on one core there is one slot, whose worker, a process of its own, runs both jobs."""
    monkeypatch.setenv("SLURM_CPUS_ON_NODE", "1")
    code, out, err = runner("submit", *SMALL, "--epochs", "3")
    assert code == 0, out + err
    assert "2 jobs: 0 done, 2 to run" in out
    assert "Next: runner report --suite quickstart" in out
    found = records()
    assert sorted(found) == [f"digits/lenet/reference+batch_size=200+epochs=3-seed{s}" for s in (0, 1)]
    for record in found.values():
        assert record.outcome == "finished"
        assert record.test_images == 360
        assert record.attempts == 1
    hosts = [read_lines(paths.attempts)[0] for paths in all_jobs()]
    assert len({line["pid"] for line in hosts} | {os.getpid()}) == 2
    assert all(not paths.checkpoint.exists() and not paths.lease.exists() for paths in all_jobs())

    # the same command again has nothing to do, and what was written stays as it is
    code, out, _ = runner("submit", *SMALL, "--epochs", "3", "--json")
    assert code == 0
    assert json.loads(out)["counts"]["done"] == 2
    assert records() == found

    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{runs_folder()}/mlflow.db")
    experiment = client.get_experiment_by_name("digits")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    assert {run.info.run_name for run in runs} == set(found)
    assert {run.info.status for run in runs} == {"FINISHED"}

    # an overridden recipe is on no board, and isn't published
    assert [
        row for row in json.loads(runner("report", "--suite", "quickstart", "--format", "json")[1]) if row["n"]
    ] == []
    assert "the recipe was changed" in runner("publish")[1]


LONG = ["--suite", "quickstart", "--model", "nin", "--set", "batch_size=100", "--seed", "0"]


def running_epoch():
    found = all_jobs()
    lease = read_json(found[0].lease) if found and state_of(found[0]) == "running" else None
    return (lease or {}).get("epoch", 0)


@contextmanager
def submitted(words):
    """A submit in a process of its own, which doesn't outlive the block."""
    command = [sys.executable, "-m", "runner", "submit", *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as child:
        try:
            yield child
        finally:
            child.kill()


def same_bits_as_uninterrupted(runner, words, record):
    """Whether the same job ends with these weights and this curve in a root where nothing disturbs it."""
    assert runner("submit", *words, "--engine", "inline")[0] == 0
    through = load(all_jobs()[0].record)
    assert through.run != record.run
    return (through.weights_sha256, through.curve_sha256) == (record.weights_sha256, record.curve_sha256)


@pytest.fixture
def elsewhere(migrated, tmp_path):
    """Another root, with a store of its own."""
    root = tmp_path / "elsewhere"
    (root / ".runs").mkdir(parents=True)
    shutil.copy(migrated, root / ".runs" / "mlflow.db")
    return root


def test_a_stopped_submit_says_how_to_resume_and_the_next_one_gives_the_same_weights(
    runner, monkeypatch, own_store, elsewhere
):
    """SIGTERM in the middle of the second epoch. tests/test_engines.py sees that a submit passes it on to its workers."""
    words = [*LONG, "--epochs", "3", "--engine", "inline"]
    hooks = JobAttempt.hooks

    def stopping(attempt):
        usual = hooks(attempt)

        def progress(facts):
            usual.progress(facts)
            if (facts["epoch"], facts["step"]) == (1, 5):
                os.kill(os.getpid(), signal.SIGTERM)

        return dataclasses.replace(usual, progress=progress)

    with monkeypatch.context() as patch:
        patch.setattr(JobAttempt, "hooks", stopping)
        code, out, err = runner("submit", *words)
    assert code == 128 + signal.SIGTERM, out + err
    assert "continues from the checkpoints" in out + err
    paths = all_jobs()[0]
    assert state_of(paths) == "interrupted"
    code, out, err = runner("submit", *words)
    assert code == 0, out + err
    resumed = load(paths.record)
    assert resumed.attempts == 2
    assert [line["epoch"] for line in read_lines(paths.metrics)] == [1, 2, 3]
    assert "resuming after epoch" in paths.log.read_text()
    monkeypatch.setenv("REPROZOO_ROOT", str(elsewhere))
    assert same_bits_as_uninterrupted(runner, words, resumed)


@pytest.mark.slow
def test_a_submit_with_a_worker_that_is_asked_to_stop_says_how_to_go_on_and_the_next_one_gives_the_same_weights(
    runner, monkeypatch, own_store, elsewhere
):
    """SIGTERM to a submit with a worker; the next one trains the rest in its own process."""
    words = [*LONG, "--epochs", "40"]  # so many that it is not over before the lease, written once a second, shows one
    with submitted(words) as first:
        wait_for(lambda: running_epoch() >= 1)
        first.send_signal(signal.SIGTERM)
        said, _ = first.communicate(timeout=120)
    assert first.returncode == 128 + signal.SIGTERM, said
    assert "continues from the checkpoints" in said
    paths = all_jobs()[0]
    assert state_of(paths) == "interrupted"
    code, out, err = runner("submit", *words, "--engine", "inline")
    assert code == 0, out + err
    resumed = load(paths.record)
    assert resumed.attempts == 2
    assert [line["epoch"] for line in read_lines(paths.metrics)] == list(range(1, 41))
    assert "resuming after epoch" in paths.log.read_text()
    monkeypatch.setenv("REPROZOO_ROOT", str(elsewhere))
    assert same_bits_as_uninterrupted(runner, words, resumed)


@pytest.mark.slow
def test_a_killed_worker_and_a_killed_submit_give_the_same_weights(runner, monkeypatch, own_store, elsewhere):
    """kill -9 to a worker, whose submit starts another; then to the submit, whose worker goes on alone."""
    words = [*LONG, "--epochs", "40"]
    with submitted(words):
        wait_for(lambda: running_epoch() > 2)
        paths = all_jobs()[0]
        os.kill(read_json(paths.lease)["pid"], signal.SIGKILL)
        wait_for(lambda: len([x for x in read_lines(paths.attempts) if x["event"] == "start"]) == 2)
    code, out, err = runner("submit", *words)
    assert code == 0, out + err
    resumed = load(paths.record)
    assert resumed.attempts >= 2
    assert [line["epoch"] for line in read_lines(paths.metrics)] == list(range(1, 41))
    monkeypatch.setenv("REPROZOO_ROOT", str(elsewhere))
    assert same_bits_as_uninterrupted(runner, words, resumed)


def test_a_models_own_failure_is_explained_and_waits_for_retry(runner, own_store):
    """An initialisation that covers no bias is refused by the model's own code: exit code 1, log's tail, retry."""
    broken = [*SMALL, "--seed", "0", "--set", 'init=[["*.weight","normal",0.1]]']
    code, out, err = runner("submit", *broken, "--engine", "inline")
    assert code == 1
    assert "the model's own failure" in out
    assert "conv1.bias" in out
    paths = all_jobs()[0]
    assert str(paths.log) in out
    assert state_of(paths) == "failed"

    code, out, _ = runner("submit", *broken, "--engine", "inline")  # not run again by itself
    assert code == 1
    assert "1 failed (runner retry --failed)" in out
    assert len(read_lines(paths.attempts)) == 2

    code, *_ = runner("retry", "--failed", "--engine", "inline")
    assert code == 1
    assert [p.name for p in paths.old.glob("*/failure.json")] == ["failure.json"]

    runner("submit", *SMALL, "--seed", "1", "--engine", "inline")
    done = next(other for other in all_jobs() if state_of(other) == "done")
    code, _, err = runner("retry", paths.name, done.name, "--engine", "inline")
    assert code == 2
    assert f"{done.name} is done: expected keys of failed jobs" in err
    code, *_ = runner("retry", paths.name, paths.name, "--engine", "inline")
    assert code == 1
    assert len(list(paths.old.glob("*/failure.json"))) == 2


@pytest.mark.slow
def test_a_closed_terminal_does_not_stop_the_work(tmp_path):
    """A real terminal that goes away: SIGHUP comes, and what is written to it from then on fails."""
    import pty

    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "runner", "submit", *SMALL, "--seed", "0", "--epochs", "8"]
    submit = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True)
    os.close(theirs)
    wait_for(lambda: all_jobs() and state_of(all_jobs()[0]) == "running")
    os.close(ours)
    submit.send_signal(signal.SIGHUP)
    assert submit.wait(timeout=200) == 0
    assert len(records()) == 1
    (said,) = runs_folder().glob("submit-*.txt")
    assert "1 of 1 done" in said.read_text()


def test_force_changes_nothing_where_the_data_are_missing_and_else_keeps_the_old_record(runner, own_store, tmp_path):
    words = [*SMALL, "--seed", "0", "--epochs", "1", "--engine", "inline"]
    assert runner("submit", *words)[0] == 0
    paths = all_jobs()[0]
    first = load(paths.record)
    (tmp_path / "file").write_text("")
    assert runner("submit", *words, "--force", "--data-dir", str(tmp_path / "file"))[0] == 2
    assert load(paths.record) == first
    assert runner("submit", *words, "--force")[0] == 0
    assert load(paths.record).run != first.run
    assert load(next(paths.old.glob("*/record.json"))) == first


@pytest.mark.slow
def test_two_concurrent_submits_share_the_jobs(runner):
    command = [sys.executable, "-m", "runner", "submit", *SMALL, "--epochs", "8"]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) for _ in range(2)]
    said = [child.communicate(timeout=200)[0] for child in both]
    assert [child.returncode for child in both] == [0, 0], said
    found = records()
    assert len(found) == 2
    assert {record.attempts for record in found.values()} == {1}


def test_a_torn_checkpoint_is_archived_and_the_job_restarts_as_another_run(runner, own_store):
    words = [*SMALL, "--seed", "0", "--epochs", "1", "--engine", "inline"]
    runner("submit", *words)
    paths = all_jobs()[0]
    first = load(paths.record)
    paths.record.unlink()  # as if it had been killed before the end, with a checkpoint cut short
    paths.checkpoint.write_bytes(b"PK\x03\x04 torn")
    assert state_of(paths) == "interrupted"
    code, out, err = runner("submit", *words)
    assert code == 0, out + err
    again = load(paths.record)
    assert again.weights_sha256 == first.weights_sha256
    assert again.run != first.run
    assert [p.name for p in paths.old.glob("*/checkpoint.pt")] == ["checkpoint.pt"]
