"""What was planned is what trains, wherever the command is typed, and what a record will hold is known before it trains."""

import json
import os
import queue
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.checkout import commit_of, git
from benchmarks.errors import UserError
from benchmarks.records import load, record_json
from runner.files import read_json
from runner.jobs.find import all_jobs
from runner.jobs.state import state_of
from runner.site import _environment
from runner.sources import child_variables, python, source

pytest.importorskip("sklearn", reason="the digits ship inside scikit-learn")

ONE = ["submit", "--suite", "quickstart", "--model", "lenet", "--seed", "0", "--epochs", "1", "--set", "batch_size=480"]


@pytest.fixture
def elsewhere(checkout, tmp_path):
    """A folder with another zoo and a module named as one of the standard library's."""
    folder = tmp_path / "elsewhere"
    shutil.copytree(checkout / "zoo", folder / "zoo")
    lenet = folder / "zoo" / "lenet.py"
    lenet.write_text("raise SystemExit('the zoo of the current folder ran')\n" + lenet.read_text())
    (folder / "queue.py").write_text("raise SystemExit('the queue.py of the current folder ran')\n")
    return folder


def places(names, variables, folder):
    """Where a process that the runner starts in a folder finds modules."""
    look = f"from importlib.util import find_spec; print(*(find_spec(name).origin for name in {names}), sep='\\n')"
    done = subprocess.run(python("-c", look), env=variables, cwd=folder, capture_output=True, text=True, check=True)
    return dict(zip(names, done.stdout.split(), strict=True))


def test_workers_find_nothing_in_the_current_folder(elsewhere, checkout):
    origins = places(("zoo", "runner", "benchmarks", "queue"), os.environ | child_variables(), elsewhere)
    own = {name: str(checkout / name / "__init__.py") for name in ("zoo", "runner", "benchmarks")}
    assert origins == own | {"queue": queue.__file__}


def test_the_command_imports_nothing_from_the_current_folder(elsewhere):
    """Neither its `queue.py` in place of the standard library's, nor its zoo."""
    command = [str(Path(sys.executable).with_name("runner")), "suites"]
    done = subprocess.run(command, cwd=elsewhere, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "current folder ran" not in done.stdout + done.stderr


@pytest.mark.slow
def test_workers_import_nothing_from_the_current_folder(elsewhere, own_root, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    command = [str(Path(sys.executable).with_name("runner")), *ONE]
    done = subprocess.run(command, cwd=elsewhere, capture_output=True, text=True, check=False)
    assert "current folder ran" not in done.stdout + done.stderr
    [paths] = all_jobs()
    record = load(paths.record)
    assert record.source.sha256 == source().sha256
    [stretch] = record.trail
    assert stretch.sources_sha256 == source().sha256
    assert stretch.data_sha256 == record.data.sha256
    assert stretch.hardware == record.environment.hardware


def test_the_site_imports_nothing_from_the_current_folder(elsewhere, checkout):
    """`site/` is no package: its process finds its modules by the variables that `runner site` gives it."""
    for name in ("benchmarks", "render", "source"):
        (elsewhere / f"{name}.py").write_text("")
    found = places(("benchmarks", "render", "source", "zoo", "queue"), _environment(), elsewhere)
    assert found["benchmarks"] == str(checkout / "benchmarks" / "__init__.py")
    assert (found["render"], found["source"]) == (
        str(checkout / "site" / "render.py"),
        str(checkout / "site" / "source.py"),
    )
    assert not [path for path in found.values() if path.startswith(str(elsewhere))]


def test_a_zoo_from_another_place_is_one_line(elsewhere):
    (elsewhere / "queue.py").unlink()
    own = os.environ | {"PYTHONPATH": str(elsewhere)}
    command = [str(Path(sys.executable).with_name("runner")), "suites"]
    done = subprocess.run(command, env=own, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert f"zoo is imported from {elsewhere}" in done.stderr


def test_the_commit_of_an_enclosing_repository_is_not_ours(tmp_path, monkeypatch):
    def run(*words):
        subprocess.run(["git", "-C", str(tmp_path), *words], check=True, capture_output=True)

    inner = tmp_path / "vendor" / "reprozoo"
    inner.mkdir(parents=True)
    run("init", "-q")
    run("-c", "user.name=t", "-c", "user.email=t@t", "commit", "-q", "--allow-empty", "-m", "theirs")
    assert git(tmp_path, "rev-parse", "HEAD")
    assert git(inner, "rev-parse", "HEAD") is None
    assert commit_of(inner) is None
    monkeypatch.setenv("GIT_DIR", str(tmp_path / ".git"))
    assert git(inner, "rev-parse", "HEAD") is None


@pytest.mark.parametrize("name", ["x" * 201, os.fsdecode(b"J\xfcrgen")])
def test_a_name_that_no_record_can_hold_is_refused_before_anything_starts(runner, own_root, monkeypatch, name):
    monkeypatch.setenv("REPROZOO_SUBMITTED_BY", name)
    code, _, err = runner(*ONE, "--engine", "inline")
    assert code == 2
    assert err.count("\n") == 1
    assert "REPROZOO_SUBMITTED_BY is" in err
    assert not (own_root / ".runs").exists()


def test_a_commit_that_no_record_can_hold_is_refused(monkeypatch):
    monkeypatch.setattr("runner.sources.git", lambda *words: None)
    monkeypatch.setenv("REPROZOO_COMMIT", os.fsdecode(b"\xfc"))
    with pytest.raises(UserError, match="REPROZOO_COMMIT is not valid"):
        source.__wrapped__()


def test_a_name_that_begins_with_a_dash_is_a_name_and_a_fault_of_the_record_keeps_the_checkpoint(runner, monkeypatch):
    """The fault is infrastructure's: the same command goes on from the last checkpoint, without a step."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("REPROZOO_SUBMITTED_BY", "--me")

    def fault(*_):
        raise ValueError("a fault of the record")

    with monkeypatch.context() as patch:
        patch.setattr("runner.worker.attempt.save", fault)
        code, _, _ = runner(*ONE, "--engine", "inline")
    [paths] = all_jobs()
    assert code == 1
    assert paths.checkpoint.exists()
    failure = read_json(paths.failure)
    assert failure["kind"] == "infrastructure"
    assert "the last checkpoint is kept" in failure["what"]
    steps = paths.metrics.read_text()
    assert runner(*ONE, "--engine", "inline")[0] == 0
    record = load(paths.record)
    assert state_of(paths) == "done"
    assert record.submitted_by == "--me"
    assert record.source.sha256 == source().sha256
    [stretch] = record.trail
    assert stretch.sources_sha256 == source().sha256
    assert stretch.data_sha256 == record.data.sha256
    assert stretch.hardware == record.environment.hardware
    assert paths.metrics.read_text() == steps
    assert not any(paths.old.glob("*/checkpoint.pt"))


def test_what_no_record_could_hold_ends_an_attempt_before_its_first_step(runner, monkeypatch, own_store):
    monkeypatch.setattr("runner.training.profiles.device_name", lambda device: "x" * 2000)
    code, _, err = runner(*ONE, "--engine", "inline")
    [paths] = all_jobs()
    assert code == 1
    assert "a fact of this run does not fit into a record: hardware" in read_json(paths.failure)["what"]
    assert not paths.metrics.exists()


def test_a_record_from_before_the_trail_keeps_its_bytes():
    from helpers import make_record

    text = record_json(make_record())
    assert "trail" not in json.loads(text)
