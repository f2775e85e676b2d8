"""A job's state is read from its files; keys and prefixes find jobs."""

import hashlib
import json
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from benchmarks.checkout import root
from benchmarks.errors import UserError
from benchmarks.records import Job
from runner.files import append_line, read_last_line, read_lines
from runner.jobs import paths as jobs
from runner.jobs.attempts import FAILURE_KINDS, Attempts, Failure
from runner.jobs.find import all_jobs, find_job
from runner.jobs.paths import JobPaths, PlannedJob, host, job_lock, runs_folder
from runner.jobs.state import JobView, progress_of, state_of


def a_job(**changes) -> Job:
    fields = {"dataset": "digits", "model": "lenet", "revision": 1, "recipe": {"epochs": 3}, "seed": 0}
    return Job(**(fields | changes))


@pytest.fixture
def paths(tmp_path):
    job = a_job()
    found = JobPaths.of(job, tmp_path)
    found.write_job(job)
    return found


def start(paths, submission="s", checkpoint=0):
    append_line(paths.attempts, {"event": "start", "submission": submission, "checkpoint": checkpoint, "run": "r"})


def end(paths, outcome):
    append_line(paths.attempts, {"event": "end", "outcome": outcome})


def test_job_json_is_the_fingerprints_own_text(paths):
    job = a_job()
    assert hashlib.sha256(paths.job.read_bytes()).hexdigest() == job.fingerprint
    assert paths.read_job() == job
    assert paths.folder.name == f"reference-seed0-{job.fingerprint[:8]}"


@pytest.mark.parametrize(
    ("overrides", "key"),
    [
        ({}, "digits/lenet/reference-seed0"),
        ({"optimizer.learning_rate": 0.25}, "digits/lenet/reference+learning_rate=0.25-seed0"),
        ({"schedule.after": [1, 2], "augmentation.flip": True}, "digits/lenet/reference+flip=true+after=1,2-seed0"),
        ({"preprocessing": "../../etc/x"}, "digits/lenet/reference+preprocessing=.._.._etc_x-seed0"),
    ],
)
def test_keys_are_readable_and_safe_as_paths(overrides, key):
    assert a_job(overrides=overrides).key == key


def test_a_key_never_gets_too_long_for_a_file_name():
    assert len(a_job(overrides={"init": [["*.weight", "normal", 0.05]] * 50}).stem) < 200


@pytest.mark.parametrize("field", ["dataset", "model"])
@pytest.mark.parametrize("name", ["../up", "a/b", "", "A", ".hidden", "x" * 65])
def test_names_that_are_no_safe_file_names_are_refused(field, name):
    with pytest.raises(ValueError, match=field):
        a_job(**{field: name})


def test_states_follow_the_files(paths):
    assert state_of(paths) == "pending"
    start(paths)
    assert state_of(paths) == "killed"
    paths.checkpoint.touch()
    assert state_of(paths) == "interrupted"
    end(paths, "interrupted")
    assert state_of(paths) == "interrupted"
    paths.failure.write_text('{"kind":"model"}')
    assert state_of(paths) == "failed"
    paths.record.touch()
    assert state_of(paths) == "done"


def test_an_infrastructure_failure_is_tried_three_times_in_a_submit(paths):
    for number in range(1, 4):
        start(paths)
        end(paths, "infrastructure")
        paths.failure.write_text('{"kind":"infrastructure"}')
        assert state_of(paths) == ("failed" if number == 3 else "pending")
    start(paths, submission="the next submit")
    end(paths, "infrastructure")
    assert state_of(paths) == "pending"


def test_kills_count_as_infrastructure_and_a_new_checkpoint_starts_the_count_again():
    kill = {"event": "start", "submission": "s", "checkpoint": 0}
    assert Attempts([kill, kill]).failures_in_a_row == 2
    assert Attempts([kill, kill, {**kill, "checkpoint": 5}]).failures_in_a_row == 1
    assert Attempts([kill, {"event": "end", "outcome": "interrupted"}]).failures_in_a_row == 0


def test_two_submits_in_turn_do_not_defeat_the_limit():
    kills = [{"event": "start", "submission": name, "checkpoint": 0} for name in "ABABAB"]
    assert Attempts(kills).failures_in_a_row == 3


def test_a_failure_is_read_as_it_was_written(paths):
    paths.log.write_text("".join(f"line {number}\n" for number in range(30)))
    failure = Failure.now(paths, "refused", "what", "where")
    failure.write(paths)
    assert Failure.read(paths) == failure
    content = json.loads(paths.failure.read_text())
    assert content.pop("time") == failure.time > 1.6e12  # ms
    lines = [f"line {number}" for number in range(10, 30)]
    assert content == {"kind": "refused", "what": "what", "where": "where", "log_tail": lines}


def test_a_failure_of_another_version_is_not_tried_again(paths):
    """Its kind has a name of that version, and it may lack what this one writes."""
    paths.failure.write_text('{"kind": ["broken"], "log_tail": 3}')
    failure = Failure.read(paths)
    assert failure == Failure("unknown")
    assert state_of(paths) == "failed"
    assert [kind for kind in FAILURE_KINDS if Failure(kind).is_retried(force_resume=False)] == ["infrastructure"]
    assert [kind for kind in FAILURE_KINDS if Failure(kind).is_retried(force_resume=True)] == [
        "refused",
        "infrastructure",
    ]
    paths.failure.write_text('{"kind": "mod')
    assert Failure.read(paths) is None
    assert state_of(paths) == "pending"


HOLD = """
import sys, time
from pathlib import Path
from runner.jobs.paths import JobPaths, job_lock
with job_lock(JobPaths(Path(sys.argv[1]))) as held:
    print(held, flush=True)
    time.sleep(60)
"""


def test_a_held_lock_means_running_and_a_killed_holder_frees_it(paths):
    start(paths)
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(paths.folder)], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "True\n"
        assert state_of(paths) == "running"
        with job_lock(paths) as held:
            assert not held
    finally:
        holder.kill()
        holder.communicate()
    assert state_of(paths) == "killed"


def test_another_hosts_lease_is_believed_for_three_minutes(paths):
    for age, state in ((10, "running"), (200, "pending")):
        paths.lease.write_text(json.dumps({"host": "elsewhere", "time": (time.time() - age) * 1000}))
        assert state_of(paths) == state
    paths.lease.write_text(json.dumps({"host": host(), "time": time.time() * 1000}))
    assert state_of(paths) == "pending"  # our own: the lock is the truth
    for nothing in ("{torn", '{"host": "elsewhere", "time": 1' + "0" * 400 + "}"):  # a number that no float can hold
        paths.lease.write_text(nothing)
        assert state_of(paths) == "pending"


@pytest.mark.parametrize(
    ("record", "epoch"),
    [
        ({"outcome": "finished", "test_error": 1.5}, 137),
        ({"outcome": "diverged", "diverged_epoch": 138, "test_error": None}, 138),
    ],
)
def test_a_done_job_shows_the_epoch_at_which_its_schedule_ended_it(tmp_path, record, epoch):
    """Of at most 143 + 500 epochs it trained 137."""
    job = a_job(recipe={"epochs": 143, "second_stage": {"epochs": 500}})
    planned = PlannedJob(job, JobPaths.of(job, tmp_path))
    for number in (1, 2, 137):
        append_line(planned.paths.metrics, {"epoch": number, "test_error": 2.0})
    assert progress_of(JobView.of(planned))["epoch"] == 137
    planned.paths.record.write_text(json.dumps(record))
    progress = progress_of(JobView.of(planned))
    assert (progress["state"], progress["epoch"], progress["epochs"]) == ("done", epoch, 643)
    assert progress["test_error"] == record["test_error"]


def test_torn_lines_are_skipped_and_later_ones_are_read(tmp_path):
    path = tmp_path / "x.jsonl"
    append_line(path, {"n": 1})
    with path.open("a") as file:
        file.write('{"n": 2, "torn')
    append_line(path, {"n": 3})
    assert read_lines(path) == [{"n": 1}, {"n": 3}]
    assert read_last_line(path) == {"n": 3}


def test_the_last_line_is_found_at_a_long_files_end(tmp_path):
    path = tmp_path / "metrics.jsonl"
    assert read_last_line(path) == {}
    path.write_text("".join(f'{{"epoch": {n}}}\n' for n in range(1, 2_001)))
    assert read_last_line(path) == read_lines(path)[-1] == {"epoch": 2_000}
    with path.open("a") as file:
        file.write('{"epoch": 2001, "torn')
    assert read_last_line(path) == {"epoch": 2_000}


def test_set_aside_moves_everything_but_the_job(paths):
    start(paths)
    paths.record.write_text("{}")
    paths.archive()
    assert state_of(paths) == "pending"
    assert [p.name for p in sorted(paths.old.glob("*/*"))] == ["attempts.jsonl", "record.json"]


def test_a_request_to_stop_is_never_set_aside(paths):
    start(paths)
    paths.stop.touch()
    paths.archive()
    assert paths.stop.exists()


def test_a_job_is_written_while_a_worker_of_another_submit_tidies(paths):
    """Both submits saw no job.json; the first one's worker has begun while the second one still writes."""
    job, done = a_job(), threading.Event()

    def tidy() -> None:
        while not done.wait(0.0005):
            with job_lock(paths) as held:
                assert held
                paths.tidy()

    worker = threading.Thread(target=tidy)
    worker.start()
    try:
        for _ in range(100):
            paths.job.unlink()
            paths.write_job(job)  # without the lock: FileNotFoundError, its temporary file is gone
    finally:
        done.set()
        worker.join()
    assert paths.read_job() == job


def lay_down(tmp_path, *made):
    for job in made:
        JobPaths.of(job, tmp_path).write_job(job)
    return all_jobs(tmp_path)


def test_find_job_by_key_prefix_and_fingerprint(tmp_path):
    one, other = a_job(), a_job(seed=10)
    newer = a_job(revision=2)
    found = lay_down(tmp_path, one, other, newer)
    assert find_job(one.key, found).read_job() == newer  # exact key: its newest revision
    assert find_job(f"{one.key}-{one.fingerprint[:8]}", found).read_job() == one
    assert find_job("digits/lenet/reference-seed10", found).read_job() == other
    with pytest.raises(UserError, match="matches 3 jobs"):
        find_job("digits/", found)
    with pytest.raises(UserError, match="did you mean 'digits/lenet/reference-seed0'"):
        find_job("digits/lennet/reference-seed0", found)
    with pytest.raises(UserError, match="no job has been submitted"):
        find_job("x", [])


def test_a_torn_job_file_is_one_line(paths):
    paths.job.write_text('{"dataset": "digits"')
    with pytest.raises(UserError, match=r"job\.json") as caught:
        paths.read_job()
    assert "\n" not in str(caught.value)


def test_the_root_is_the_checkout_whatever_the_current_directory(monkeypatch, tmp_path):
    monkeypatch.delenv("REPROZOO_ROOT", raising=False)
    monkeypatch.chdir(tmp_path)
    assert root() == Path(jobs.__file__).resolve().parent.parent.parent
    monkeypatch.setenv("REPROZOO_ROOT", str(tmp_path))
    assert runs_folder() == tmp_path / ".runs"
