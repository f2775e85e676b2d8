"""What a running submit shows: how long the rest takes, from the first steps on."""

import io
import json

import pytest
from rich.console import Console

from benchmarks.plural import number
from benchmarks.records import Job
from runner.jobs.paths import PlannedJob, job_lock
from runner.submit.estimate import kind_of, seconds_left
from runner.submit.progress import Progress
from zoo import load_models


def job_of(model: str, dataset: str, seed: int = 0) -> Job:
    variant = load_models()[model].variants[dataset]
    return Job(dataset=dataset, model=model, revision=variant.revision, recipe=variant.recipe.to_dict(), seed=seed)


def test_the_time_left_follows_from_the_first_steps_and_loading_is_not_counted() -> None:
    """20 epochs of 60,000 images at 600 images a second take 2,000 s; 31 % of the first epoch are done."""
    job = job_of("lenet", "mnist")
    planned = PlannedJob.of(job)
    paths = planned.paths
    paths.write_job(job)
    output = io.StringIO()
    shown = Progress([planned], Console(file=output, width=200, force_terminal=True))

    def time_left(**lease: float) -> str:
        paths.lease.write_text(json.dumps({"epoch": 0, "steps": 100, **lease}))
        shown.tick()
        return shown._time_left()

    with job_lock(paths):
        assert time_left(step=0) == "time left: unknown"
        assert time_left(step=1, images_per_second=600.0) == "about 33 min left"  # 1,999 s
        assert time_left(step=31, images_per_second=600.0) == "about 33 min left"  # 1,969 s
        assert time_left(epoch=10, step=0, images_per_second=600.0) == "about 17 min left"  # 1,000 s
        assert time_left(epoch=10, step=0, images_per_second=1200.0) == "about 8 min left"  # 500 s


def test_a_small_job_that_ended_is_no_measure_for_a_large_one() -> None:
    """A digits job needs seconds. The MNIST job beside it has 42 times the images and larger ones."""
    small, large = job_of("lenet", "digits"), job_of("lenet", "mnist")
    seconds = {kind_of(small): 0.1}
    operations = {kind_of(small): 1e8, kind_of(large): 2e10}
    assert seconds_left([(small, 0.0), (large, 20.0)], seconds, operations, 2) == pytest.approx(20 * 0.1 * 200)
    assert seconds_left([(large, 20.0)], seconds | {kind_of(large): 30.0}, operations, 2) == pytest.approx(600)


def test_the_time_left_is_shared_by_the_slots_and_no_less_than_the_longest_jobs() -> None:
    jobs = [(job_of("lenet", "mnist", seed), 2.0) for seed in range(4)]
    seconds = {kind_of(jobs[0][0]): 10.0}
    assert seconds_left(jobs, seconds, {}, 1) == 80
    assert seconds_left(jobs, seconds, {}, 2) == 40
    assert seconds_left(jobs[:1], seconds, {}, 2) == 20
    assert seconds_left(jobs, {}, {}, 2) is None
    unknown = [(job_of("nin", "mnist"), 3.0)]
    assert seconds_left(unknown, seconds, {}, 1) == 30  # no card of either: as long as the others' epochs


def test_one_of_a_thing_is_not_many():
    assert [number(count, "job") for count in (0, 1, 2, 1200)] == ["0 jobs", "1 job", "2 jobs", "1,200 jobs"]
