"""What slots on one GPU know of each other, and what a worker asks of files while it trains."""

import dataclasses
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from benchmarks.suites import get_suite
from runner.engines import local
from runner.engines.local import Work, run_local
from runner.engines.slots import Slot
from runner.files import read_json, read_lines
from runner.jobs.paths import JobPaths, PlannedJob
from runner.jobs.state import state_of
from runner.submit.plan import make_jobs
from runner.training import batches
from runner.training.checkpoint import Checkpoint
from runner.worker import attempt, samples
from runner.worker.attempt import JobAttempt, Worker, run_bundle
from runner.worker.options import RunOptions
from zoo import load_models

CPU = torch.device("cpu")


def one_job(**overrides):
    pytest.importorskip("sklearn")
    [job] = make_jobs(get_suite("quickstart"), load_models(), only=["lenet"], seeds=[0], overrides=overrides)
    planned = PlannedJob.of(job)
    planned.paths.write_job(job)
    return planned


@pytest.mark.parametrize(("shares", "ahead"), [(1, True), (4, False)])
def test_slots_that_share_a_device_each_take_their_part_of_its_memory(monkeypatch, shares, ahead):
    """A set of 4.9 kB in float32, 40 % of 16 kB free: it fits for one, not for one of four. The images are the same."""
    pixels = np.random.default_rng(0).integers(0, 256, (100, 1, 3, 4), dtype=np.uint8)
    data = SimpleNamespace(
        train_images=pixels, train_labels=np.zeros(100), test_images=pixels[:4], test_labels=np.zeros(4),
        validation_size=0, cache_folder=None, facts=SimpleNamespace(sha256=""),
    )  # fmt: skip
    monkeypatch.setattr(batches, "SMALL", 0)
    monkeypatch.setattr(batches, "free_memory", lambda device: 16_000)
    train = batches.prepare(data, "unit_minus_mean_image", 0, CPU, lambda line: None, shares).train
    assert (train.transform is None) == ahead
    whole = batches.prepare(data, "unit_minus_mean_image", 0, CPU, lambda line: None).train
    assert torch.equal(train.images(slice(None)), whole.images(slice(None)))


def test_a_worker_knows_how_many_share_its_gpu(monkeypatch):
    class Started(Exception):
        pass

    def start(command, **options):
        raise Started(command[-1])

    monkeypatch.setattr(local.subprocess, "Popen", start)
    work = Work([one_job()], RunOptions(submission="s"))
    with pytest.raises(Started) as started:
        run_local(work, [Slot("gpu0.1", "cuda", "GPU-aaaa", locked=False, shares=3)], lambda: None, print)
    options = read_json(Path(str(started.value)))["options"]
    assert (options["device"], options["shares"]) == ("cuda", 3)


# --- files ------------------------------------------------------------------------------------------------------------------


class Clock:
    """A clock that a test moves."""

    def __init__(self, monkeypatch):
        self.now = 1000.0
        monkeypatch.setattr(
            attempt, "time", SimpleNamespace(monotonic=lambda: self.now, perf_counter=time.perf_counter)
        )


def asked_for(monkeypatch):
    """The paths that os.path.exists is asked for by an attempt, in order."""
    asked = []
    monkeypatch.setattr(attempt.os.path, "exists", lambda path: asked.append(path) or False)
    return asked


def test_the_stop_file_is_looked_for_twice_a_second_however_fast_the_steps_are(monkeypatch, tmp_path):
    clock, worker = Clock(monkeypatch), Worker(RunOptions())
    asked = asked_for(monkeypatch)
    hooks = JobAttempt(JobPaths(tmp_path), None, "0" * 32, worker, print).hooks()
    for _ in range(10_000):  # steps of 0.1 ms: a second
        clock.now += 1e-4
        assert not hooks.stop()
    assert len(asked) in (2, 3)
    assert set(asked) == {str(JobPaths(tmp_path).stop)}
    worker.stopping.set()  # a signal is heard at once
    assert hooks.stop()
    assert len(asked) in (2, 3)


def test_a_stop_file_that_is_there_already_is_seen_before_the_first_step(tmp_path):
    paths = JobPaths(tmp_path)
    paths.stop.touch()
    assert JobAttempt(paths, None, "0" * 32, Worker(RunOptions()), print).hooks().stop()


def test_on_a_slow_file_system_a_thousand_steps_check_the_stop_file_less_than_three_times(monkeypatch, tmp_path):
    """Each look takes 20 ms of the clock, each step 0.1 ms: the looks take 4 % of a training, not 99.5 %."""
    clock, waited = Clock(monkeypatch), []

    def slow(path):
        clock.now += 0.02
        waited.append(0.02)
        return False

    monkeypatch.setattr(attempt.os.path, "exists", slow)
    hooks = JobAttempt(JobPaths(tmp_path), None, "0" * 32, Worker(RunOptions()), print).hooks()
    began = clock.now
    for _ in range(50_000):
        clock.now += 1e-4
        hooks.stop()
    assert sum(waited) / (clock.now - began) < 0.05


# --- another GPU ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("on_other_device", "state"), [("restart", "done"), ("refuse", "failed"), ("resume", "done")])
def test_a_reference_job_on_another_device_does_what_the_engine_says(monkeypatch, on_other_device, state):
    job, paths = one_job(epochs=1, batch_size=500)
    worker = Worker(RunOptions(submission="s"), own_process=False)
    with monkeypatch.context() as patch:
        asked = iter((False, False, False, True))
        patch.setattr(JobAttempt, "_stop", lambda self: next(asked))
        run_bundle([paths.folder], worker)
    assert state_of(paths) == "interrupted"
    saved = Checkpoint.load(paths.checkpoint)
    dataclasses.replace(saved, device="Another").save(paths.checkpoint)
    worker.options = worker.options.model_copy(update={"on_other_device": on_other_device})
    run_bundle([paths.folder], worker)
    assert state_of(paths) == state
    last = [line["run"] for line in read_lines(paths.attempts) if line["event"] == "start"][-1]
    assert (last == saved.run) == (on_other_device != "restart")
    if state == "done":
        record = read_json(paths.record)
        assert record["run"] == last
        assert record["forced_resume"] == (on_other_device == "resume")
        assert record["environment"]["precision"]["graphs"] is False


# --- samples ----------------------------------------------------------------------------------------------------------------


def test_the_memory_of_a_job_and_of_its_card_are_both_recorded(monkeypatch):
    assert samples.own_gpu_memory() == {}
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda: 1_234_000_000)
    assert samples.own_gpu_memory() == {"gpu_own_memory_mb": 1234.0}
