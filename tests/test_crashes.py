"""Kills (-9) at every stage of a job, over and over; the same command again ends every job once, to the same bits.

pytest tests/test_crashes.py -m slow -s                          20 kills at random moments, and one at every file operation
REPROZOO_KILLS=200 pytest tests/test_crashes.py -m slow -s       the long version
REPROZOO_KILL_SEED=7 ...                                         other moments
"""

import hashlib
import json
import os
import random
import shutil
import signal
import sqlite3
import time
from collections import Counter
from contextlib import closing, suppress
from pathlib import Path

import psutil
import pytest
from forked import Forks

from benchmarks.records import load
from runner.files import read_lines
from runner.jobs.find import all_jobs
from runner.jobs.paths import JobPaths, runs_folder
from runner.jobs.state import state_of
from runner.tracking.store import mark_behind

pytest.importorskip("sklearn", reason="the digits ship inside scikit-learn")
pytestmark = pytest.mark.slow

KILLS = int(os.environ.get("REPROZOO_KILLS", "20"))
SEED = int(os.environ.get("REPROZOO_KILL_SEED", "1"))
EPOCHS = 5
MODELS = ["--model", "lenet", "--model", "nin_dropout", "--seeds", "3"]
SUBMIT = ["submit", "--suite", "quickstart", *MODELS, "--epochs", str(EPOCHS), "--set", "batch_size=480"]
INLINE = [*SUBMIT, "--engine", "inline"]
ONE = ["submit", "--suite", "quickstart", "--model", "lenet", "--seed", "0", "--epochs", "2", "--set", "batch_size=480"]
OFTEN = 0.02  # seconds between two checkpoints, so that these short trainings are resumed inside an epoch too
ROUND = 14  # tries to kill before a suite is left to its end


@pytest.fixture(scope="module")
def undisturbed(forks, tmp_path_factory):
    """A root where the suite ran without a kill; its MLflow store is there, too."""
    return forks.run_in(tmp_path_factory.mktemp("undisturbed"), [INLINE, [*ONE, "--engine", "inline"]])


def records_of(root: Path):
    return {record.key: record for record in (load(path) for path in root.glob(".runs/*/*/*/record.json"))}


def start_over(root: Path, undisturbed: Path) -> None:
    """An empty root with an empty store of MLflow's, as after its first creation (which takes seconds)."""
    shutil.rmtree(root)
    (root / ".runs").mkdir(parents=True)
    shutil.copy(undisturbed / ".runs" / "mlflow.db", root / ".runs" / "mlflow.db")
    with closing(sqlite3.connect(root / ".runs" / "mlflow.db")) as store:
        for table in ("metrics", "latest_metrics", "params", "tags", "inputs", "input_tags", "datasets", "runs"):
            store.execute(f"DELETE FROM {table}")
        store.execute("DELETE FROM experiments WHERE name = 'digits'")
        store.commit()


def end_it(forks, words, output: Path, seconds: float = 240) -> None:
    """The same command again, until it says that all is done; what is running elsewhere may take a while."""
    deadline = time.monotonic() + seconds
    while True:
        code = forks.run("runner", *words, output=output, checkpoint_seconds=OFTEN)
        assert code in (0, 1), output.read_text()
        found = all_jobs()
        if found and all(state_of(paths) == "done" for paths in found):
            break
        assert time.monotonic() < deadline, output.read_text()
        time.sleep(0.2)
    assert forks.run("runner", *words, output=output) == 0  # has nothing to do but to tidy up and tell MLflow
    assert not (runs_folder() / "mlflow.behind").exists(), output.read_text()


def check(expected: dict, first_seen: dict[Path, bytes], output: Path, *, mlflow: bool = True) -> None:
    """Every job is done exactly once, to the same bits, and nothing is torn, doubled or left lying about."""
    import torch

    from runner.worker.record import weights_sha256

    found = all_jobs()
    assert {paths.read_job().key for paths in found} == set(expected)
    for paths in found:
        record, one = load(paths.record), expected[paths.read_job().key]
        assert first_seen.get(paths.record, paths.record.read_bytes()) == paths.record.read_bytes()
        assert (record.weights_sha256, record.curve_sha256) == (one.weights_sha256, one.curve_sha256)
        assert weights_sha256(torch.load(paths.weights, weights_only=True)) == one.weights_sha256
        assert hashlib.sha256(paths.curve.read_bytes()).hexdigest() == one.curve_sha256
        epochs = record.job.effective_recipe["epochs"]
        assert [line["epoch"] for line in read_lines(paths.metrics)] == list(range(1, epochs + 1))
        attempts = [json.loads(line) for line in paths.attempts.read_text().splitlines()]  # none is torn
        assert record.attempts == sum(line["event"] == "start" for line in attempts)
        assert {line["run"] for line in attempts if line["event"] == "start"} == {record.run}
        assert sum(line.get("outcome") == "finished" for line in attempts) <= 1
        names = {path.name for path in paths.folder.iterdir()} - {"system.jsonl"}
        assert names == {
            "job.json", "attempts.jsonl", "log.txt", "metrics.jsonl", "lock", "weights.pt", "curve.csv", "record.json",
        }  # fmt: skip
    if not mlflow:
        return
    with closing(sqlite3.connect(runs_folder() / "mlflow.db")) as store:
        runs = store.execute("SELECT name, status FROM runs").fetchall()
        assert sorted(runs) == sorted((key, "FINISHED") for key in expected), output.read_text()[-4000:]
        points = store.execute("SELECT run_uuid, step FROM metrics WHERE key = 'test_error'").fetchall()
        assert len(points) == len(set(points)) == sum(r.job.effective_recipe["epochs"] for r in expected.values())


def stage() -> str:
    """Where the job that was touched last stands, after a kill."""
    found = [paths for paths in all_jobs() if paths.attempts.exists()]
    if not found:
        return "before the first attempt"
    last = max(found, key=lambda paths: paths.attempts.stat().st_mtime_ns)
    if last.record.exists():
        return "after the record"
    if last.curve.exists():
        return "between curve.csv and record.json"
    if last.weights.exists():
        return "between weights.pt and curve.csv"
    if last.checkpoint.exists():
        return "in the epochs, with a checkpoint"
    return "start-up or first epoch"


def test_a_kill_at_every_file_operation_of_a_worker(forks, undisturbed, own_root, tmp_path, monkeypatch):
    """One job; the n-th operation for every n: locks, lines, checkpoints, weights, curve, record, and what comes after."""
    monkeypatch.setenv("REPROZOO_DATA", str(undisturbed / "data"))
    key = "digits/lenet/reference+batch_size=480+epochs=2-seed0"
    expected = {key: records_of(undisturbed)[key]}
    job = expected[key].job
    trace, said = tmp_path / "trace.txt", tmp_path / "said.txt"
    JobPaths.of(job).write_job(job)
    folder = str(JobPaths.of(job).folder)
    assert forks.run("worker", folder, output=said, checkpoint_seconds=0.0, trace=trace) == 0
    operations = trace.read_text().splitlines()
    assert any("record.json" in line for line in operations)

    stages: Counter[str] = Counter()
    number = 0
    while True:
        number += 1
        shutil.rmtree(own_root)
        JobPaths.of(job).write_job(job)
        code = forks.run("worker", folder, output=said, checkpoint_seconds=0.0, kill_at=number)
        if code == 0:  # it has no such operation any more
            break
        assert code == -signal.SIGKILL, said.read_text()
        stages[stage()] += 1
        seen = {p.record: p.record.read_bytes() for p in all_jobs() if p.record.exists()}
        # MLflow takes a second each time: the kills at random moments look at it.
        assert forks.run("worker", folder, output=said, checkpoint_seconds=0.0) == 0, said.read_text()
        assert forks.run("runner", *ONE, output=said) == 0, said.read_text()  # has nothing to do but to tidy up
        check(expected, seen, said, mlflow=False)
    print(f"\n{number - 1} kills, one at each file operation: {dict(stages)}")
    timed = sum("lease" in line for line in operations)  # as many as there was time for
    assert number - 1 >= len(operations) - timed
    assert len(stages) == 6


class Disturber:
    """Starts the suite in one of several ways and kills some of it at a moment drawn from `rng`."""

    def __init__(self, forks: Forks, rng: random.Random, said: Path) -> None:
        self.forks, self.rng, self.said, self.seconds = forks, rng, said, 3.0
        self.ways: Counter[str] = Counter()

    def _kill_after(self, pid: int, seconds: float) -> bool:
        """Wait, kill; whether it was still there to be killed."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if self.forks.ended(pid) is not None:
                return False
            time.sleep(0.002)
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        return self.forks.wait(pid) == -signal.SIGKILL

    def submit(self) -> bool:
        """Submit and worker in one process, at a moment."""
        pid = self.forks.start("runner", *INLINE, output=self.said, checkpoint_seconds=OFTEN)
        return self._kill_after(pid, self.rng.uniform(0, self.seconds))

    def operation(self) -> bool:
        """The same at one of its file operations."""
        number = self.rng.randint(1, 250)
        pid = self.forks.start("runner", *INLINE, output=self.said, checkpoint_seconds=OFTEN, kill_at=number)
        return self.forks.wait(pid) == -signal.SIGKILL

    def worker(self) -> bool:
        """One of two workers on the same bundle; the other goes on."""
        folders = [str(paths.folder) for paths in all_jobs() if not paths.record.exists()]
        if not folders:
            return False
        one, other = (
            self.forks.start("worker", *folders, output=self.said, checkpoint_seconds=OFTEN) for _ in range(2)
        )
        killed = self._kill_after(one, self.rng.uniform(0, self.seconds / 2))
        self.forks.wait(other)
        return killed

    def local(self) -> bool:
        """A submit with real children in its slots: the submit, a worker, or everything at once."""
        pid = self.forks.start("runner", *SUBMIT, output=self.said)
        submit, what = psutil.Process(pid), self.rng.choice(["submit", "worker", "everything"])
        deadline = time.monotonic() + self.rng.uniform(0, 9)
        while time.monotonic() < deadline and self.forks.ended(pid) is None:
            time.sleep(0.01)
        workers = []
        with suppress(psutil.NoSuchProcess):
            workers = submit.children()
        targets = {"submit": [submit], "worker": workers[:1], "everything": [submit, *workers]}[what]
        for target in targets:
            with suppress(psutil.NoSuchProcess):  # it has just ended
                target.kill()
        self.forks.wait(pid)  # after the kill of a worker it starts another one, and ends when all is done
        return bool(targets)


@pytest.mark.timeout(3600)
def test_kills_at_random_moments(forks, undisturbed, own_root, tmp_path, monkeypatch):
    """Kills until KILLS have hit; after each `ROUND` of them the suite is left to its end, and everything is looked at."""
    monkeypatch.setenv("REPROZOO_DATA", str(undisturbed / "data"))
    expected = {key: r for key, r in records_of(undisturbed).items() if f"epochs={EPOCHS}" in key}
    rng, said = random.Random(SEED), tmp_path / "said.txt"
    disturber = Disturber(forks, rng, said)
    injected, rounds, stages = 0, 0, Counter()
    while injected < KILLS:
        start_over(own_root, undisturbed)
        for record in expected.values():
            JobPaths.of(record.job).write_job(record.job)
        mark_behind()  # as a submit does before it starts the first worker: `worker` may end all jobs alone
        rounds += 1
        seen: dict[Path, bytes] = {}
        for _ in range(ROUND):
            way = rng.choices(["submit", "operation", "worker", "local"], [40, 35, 15, 10])[0]
            if getattr(disturber, way)():
                injected += 1
                disturber.ways[way] += 1
                stages[stage()] += 1
            for paths in all_jobs():
                if paths.record.exists():
                    load(paths.record)  # whole, whenever one looks
                    seen.setdefault(paths.record, paths.record.read_bytes())
        end_it(forks, INLINE, said)
        check(expected, seen, said)
        ways = dict(disturber.ways)
        print(f"\n{injected} kills in {rounds} rounds, seed {SEED}: {ways}; {dict(stages)}", flush=True)
