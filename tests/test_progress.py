"""What a running submit shows: how long the rest takes, from the first steps on."""

import io
import json

import pytest
from rich.console import Console

from benchmarks.records import Job
from runner.jobs.paths import JobPaths, job_lock
from runner.submit import progress
from runner.submit.progress import Progress
from runner.text import number
from zoo import load_models


@pytest.fixture
def clock(monkeypatch):
    """The seconds that the module's clock shows: a list, whose only item a test changes."""
    now = [1000.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_the_time_left_is_told_from_the_first_steps_and_loading_is_not_counted(clock):
    """20 epochs of 100 steps; a minute of loading, then a step a second: the rest takes 1,970 s of 2,000."""
    recipe = load_models()["lenet"].variants["mnist"].recipe
    job = Job(dataset="mnist", model="lenet", revision=2, recipe=recipe.to_dict(), seed=0)
    paths = JobPaths.of(job)
    paths.write_job(job)
    output = io.StringIO()
    shown = Progress([(job, paths)], Console(file=output, width=200))

    def at(seconds, step):
        clock[0] = 1000.0 + seconds
        paths.lease.write_text(json.dumps({"epoch": 0, "step": step, "steps": 100, "images_per_second": 128.0}))
        output.seek(0)
        output.truncate()
        shown.tick()
        return output.getvalue()

    with job_lock(paths):
        assert "time left: unknown" in at(60, 0)
        at(61, 1)
        assert "about 33 min left" in at(91, 31)
        assert "epoch 0/20 + 31 %" in output.getvalue()


def test_one_of_a_thing_is_not_many():
    assert [number(count, "job") for count in (0, 1, 2, 1200)] == ["0 jobs", "1 job", "2 jobs", "1,200 jobs"]
