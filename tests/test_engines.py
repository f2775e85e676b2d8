"""engines.toml, the split into bundles, slots with pretended GPUs, and signals to a worker."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import psutil
import pytest

from benchmarks.checkout import root
from benchmarks.errors import UserError
from benchmarks.records import load
from runner.engines import local, slots, slurm, slurm_task
from runner.engines.config import Local, Slurm, engine_named, read_engines, walltime_seconds
from runner.engines.local import Work, run_local
from runner.engines.slots import Slot
from runner.files import read_json, read_lines
from runner.jobs.find import all_jobs
from runner.jobs.paths import PlannedJob, runs_folder
from runner.jobs.state import someone_submits, state_of, submit_lock
from runner.submit.plan import make_jobs
from runner.submit.watch import QueueView
from runner.training.checkpoint import Checkpoint
from runner.worker.options import Bundle, RunOptions
from runner.worker.process import signals_blocked

# --- the file ----------------------------------------------------------------------------------------------------------


def write(text):
    (root() / "engines.toml").write_text(text)


def test_without_a_file_there_are_three_engines():
    assert sorted(read_engines()) == ["inline", "local", "slurm"]
    assert slurm.sbatch_options(engine_named("slurm")) == {"requeue": True}  # SLURM's own defaults decide the rest


def test_the_example_is_read_and_becomes_options_of_sbatch(checkout, monkeypatch):
    monkeypatch.setenv("REPROZOO_ENGINES", str(checkout / "engines.example.toml"))
    table = engine_named("gpu")
    assert isinstance(table, Slurm)
    assert slurm.sbatch_options(table) == {
        "partition": "gpu", "account": "vision", "gpus-per-node": 1, "cpus-per-task": 4, "mem": "16G", "time": "12:00:00",
        "requeue": True, "constraint": "a100",
    }  # fmt: skip
    assert table.setup == ("module load cuda",)
    assert engine_named("box") == Local(slots_per_gpu=3)


BAD = [
    ("[engine.gpu", "not valid TOML"),
    ("x = " + "[" * 5000, "not valid TOML"),
    ("x = 1", "'x': expected tables [engine.NAME] only"),
    ("engine = 3", "'engine': expected tables"),
    ("[engine]\ngpu = 3", "[engine.gpu]: expected a table"),
    ("[engine.gpu]\npartition = 'x'", "[engine.gpu]: the field 'kind' is missing"),
    ("[engine.gpu]\nkind = 'pbs'", "kind is 'pbs', expected one of local, slurm"),
    ("[engine.local]\nkind = 'slurm'", "kind is 'slurm', expected 'local'"),
    ("[engine.inline]\nkind = 'local'", "has no settings"),
    ("[engine.gpu]\nkind = 'slurm'\npartitions = 'x'", "did you mean 'partition'"),
    ("[engine.gpu]\nkind = 'local'\npartition = 'x'", "unknown field of an engine of kind 'local' 'partition'"),
    ("[engine.gpu]\nkind = 'slurm'\ngpus = 'two'", "gpus is 'two'"),
    ("[engine.gpu]\nkind = 'slurm'\ngpus = -1", "gpus is -1"),
    ("[engine.gpu]\nkind = 'slurm'\ncpus = true", "cpus is True"),
    ("[engine.gpu]\nkind = 'slurm'\nmemory = '16 gigs'", "memory is '16 gigs'"),
    ("[engine.gpu]\nkind = 'slurm'\nwalltime = 'a day'", "expected hours:minutes:seconds"),
    ("[engine.gpu]\nkind = 'slurm'\nwalltime = '0:30'", "a minute or more"),
    ("[engine.gpu]\nkind = 'slurm'\nsetup = 'module load'", "setup is 'module load'"),
    ("[engine.gpu]\nkind = 'slurm'\nextra = { '--qos' = 'x' }", "without dashes"),
    ("[engine.gpu]\nkind = 'slurm'\nextra = { array = '1-9' }", "'array' can't be set"),
    ("[engine.gpu]\nkind = 'slurm'\ntasks = 0", "tasks is 0"),
    ("[engine.gpu]\nkind = 'local'\nslots_per_gpu = 0", "slots_per_gpu is 0"),
]


@pytest.mark.parametrize(("text", "says"), BAD, ids=[text.replace("\n", "; ")[:60] for text, _ in BAD])
def test_a_mistake_in_the_file_is_one_line(runner, text, says):
    write(text)
    code, out, err = runner("submit", "--suite", "quickstart", "--engine", "gpu", "--dry-run")
    assert code == 2
    assert out == ""
    assert says in err
    assert str(root() / "engines.toml") in err
    assert len(err.strip().splitlines()) == 1
    assert not runs_folder().exists()


def test_an_unknown_engine_names_the_nearest_and_a_missing_file_is_reported(monkeypatch):
    write("[engine.gpu]\nkind = 'slurm'")
    with pytest.raises(UserError, match="did you mean 'gpu'"):
        engine_named("gpus")
    monkeypatch.setenv("REPROZOO_ENGINES", "/nowhere/engines.toml")
    with pytest.raises(UserError, match="REPROZOO_ENGINES names /nowhere"):
        engine_named("local")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 5400), ("1:30", 90), ("12:00:00", 43_200), ("2-0", 172_800), ("1-12:30", 131_400), ("1-00:00:30", 86_430)],
)
def test_walltimes_are_read_as_slurm_reads_them(text, seconds):
    assert walltime_seconds(text) == seconds
    assert slurm.signal_seconds(Slurm(walltime=text)) <= seconds / 4


def test_slurm_is_missed_before_anything_is_written(runner, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    code, _, err = runner("submit", "--suite", "quickstart", "--engine", "slurm")
    assert code == 2
    assert "squeue is not installed" in err
    assert not runs_folder().exists()


# --- bundles, shares ---------------------------------------------------------------------------------------------------


def planned(**changes):
    """The jobs of the quickstart suite, with their folders."""
    from benchmarks.suites import get_suite
    from zoo import load_models

    made = make_jobs(get_suite("quickstart"), load_models(), **changes)
    return [PlannedJob.of(job) for job in made]


@pytest.mark.parametrize("most", [1, 2, 3, 5, 6, 7, 64])
def test_bundles_hold_every_job_once_and_one_model_each(most):
    pairs = planned(seeds=range(5))
    of = {paths: (job.dataset, job.model) for job, paths in pairs}
    bundles = slurm.make_bundles(pairs, most)
    assert sorted(p.folder for bundle in bundles for p in bundle) == sorted(p.folder for _, p in pairs)
    assert all(len({of[paths] for paths in bundle}) == 1 for bundle in bundles)
    groups = len(set(of.values()))
    assert max(groups, min(most, len(pairs))) <= len(bundles) + groups
    assert len(bundles) <= most + groups
    epochs = {paths: job.effective_recipe["epochs"] for job, paths in pairs}
    work = [sum(epochs[paths] for paths in bundle) for bundle in bundles]
    assert work == sorted(work, reverse=True)


def test_a_task_begins_with_its_own_bundle_and_waits_only_for_what_a_lost_node_left():
    pairs = planned(seeds=[0, 1])
    own = frozenset({pairs[3][1].folder})
    share = slurm_task.TaskWork(pairs, RunOptions(), own=own)
    assert [paths.folder for _, paths, _ in share.preferred(list(share.open_jobs()))] == list(own)

    for _, paths in pairs:  # another host says that it runs them
        paths.folder.mkdir(parents=True)
        lease(paths)
    assert share.has_work(list(share.open_jobs()))  # so far it may be dead
    time.sleep(0.01)
    lease(pairs[3][1])  # it lives: its own task will end the job
    assert not share.has_work(list(share.open_jobs()))


def lease(paths):
    paths.lease.write_text(f'{{"host": "elsewhere", "time": {time.time() * 1000}}}')


# --- slots -------------------------------------------------------------------------------------------------------------

SMALL = {"only": ["lenet"], "overrides": {"batch_size": 200, "epochs": 2}}


def laid_down(**changes):
    pairs = planned(**(SMALL | changes))
    for job, paths in pairs:
        paths.write_job(job)
    return pairs


@pytest.fixture
def own_locks(tmp_path, monkeypatch):
    monkeypatch.setenv("REPROZOO_LOCKS", str(tmp_path / "locks"))


# In place of a worker: what an engine can see of one, without training. It takes the first job of its bundle that nobody
# has; the job is done after as many starts as its seed says, and each start before the last ends by SIGKILL.
QUICK_WORKER = """
import json, os, signal, sys, time
from pathlib import Path
from runner.files import append_line, read_lines
from runner.jobs.paths import JobPaths, host, job_lock, now_ms
from runner.worker.options import Bundle
bundle = Bundle.read(Path(sys.argv[1]))
for folder in bundle.folders:
    paths = JobPaths(folder)
    with job_lock(paths) as held:
        if not held or paths.record.exists():
            continue
        start = {"event": "start", "host": host(), "pid": os.getpid(), "time": now_ms(), "run": "0" * 32,
                 "submission": bundle.options.submission, "checkpoint": 0, "sees": os.environ.get("CUDA_VISIBLE_DEVICES")}
        paths.lease.write_text(json.dumps(start))
        append_line(paths.attempts, start)
        if len(read_lines(paths.attempts)) <= paths.read_job().seed:
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(0.5)
        append_line(paths.attempts, {"event": "end", "outcome": "done", "time": now_ms()})
        paths.record.write_text("{}")
"""


@pytest.fixture
def quick_workers(monkeypatch):
    monkeypatch.setattr("runner.engines.local.python", lambda *words: [sys.executable, "-c", QUICK_WORKER, words[-1]])


def test_each_slot_gets_a_worker_that_sees_its_own_gpu(own_locks, quick_workers):
    pairs, slots = laid_down(seeds=range(1)), [Slot("gpu0.0", "cpu", "GPU-aaaa"), Slot("gpu1.0", "cpu", "GPU-bbbb")]
    pairs += planned(only=["nin"], seeds=range(1), overrides={"epochs": 1})
    for job, paths in pairs:
        paths.write_job(job)
    run_local(Work(pairs, RunOptions(submission="s")), slots, lambda: None, print)
    starts = [line for _, paths in pairs for line in read_lines(paths.attempts) if line["event"] == "start"]
    assert sorted(line["sees"] for line in starts) == ["GPU-aaaa", "GPU-bbbb"]
    assert len({line["pid"] for line in starts}) == 2


def test_a_killed_worker_is_replaced_and_three_in_a_row_are_given_up(own_locks, quick_workers):
    pairs, warnings = laid_down(seeds=[1, 5]), []
    run_local(Work(pairs, RunOptions(submission="s")), [Slot("gpu0.0", "cpu", None)], lambda: None, warnings.append)
    once, often = (paths for _, paths in pairs)
    assert [line["event"] for line in read_lines(once.attempts)] == ["start", "start", "end"]
    assert state_of(once) == "done"
    assert [line["event"] for line in read_lines(often.attempts)] == ["start"] * 3
    assert state_of(often) == "failed"
    assert "ended with signal SIGKILL" in read_json(often.failure)["what"]
    assert len(warnings) == 4
    assert all("because the system ran out of memory" in line for line in warnings)


def test_a_stop_reaches_the_workers_and_is_waited_for(own_locks, monkeypatch):
    """In place of a worker one that runs its job until it is asked to stop, and then ends as a checkpoint would let it."""
    until_stopped = QUICK_WORKER.replace("time.sleep(0.5)", "signal.sigwait([signal.SIGTERM])")
    until_stopped = until_stopped.replace('"done"', '"interrupted"').replace('paths.record.write_text("{}")', "")
    monkeypatch.setattr("runner.engines.local.python", lambda *words: [sys.executable, "-c", until_stopped, words[-1]])
    ((job, paths),) = pairs = laid_down(seeds=[0])
    work, warnings = Work(pairs, RunOptions(submission="s")), []

    def tick():
        if read_lines(paths.attempts):
            work.stopping.set()

    run_local(work, [Slot("gpu0.0", "cpu", None)], tick, warnings.append)
    assert [line.get("outcome") for line in read_lines(paths.attempts)] == [None, "interrupted"]
    assert not warnings


def test_an_inline_submit_that_is_interrupted_frees_its_slot(own_locks, monkeypatch):
    slot, work = Slot("gpu0.0", "cpu", "GPU-aaaa"), Work(laid_down(seeds=[0]), RunOptions(submission="s"))
    monkeypatch.setattr(local, "enter", lambda slot, threads: None)  # it would change this process

    def interrupted(folders, worker):
        assert not slots.SlotLock(slot).acquire()
        raise KeyboardInterrupt

    monkeypatch.setattr(local, "run_bundle", interrupted)
    with pytest.raises(KeyboardInterrupt):
        local.run_inline(work, slot, lambda: None)
    lock = slots.SlotLock(slot)
    assert lock.acquire()
    lock.release()


@pytest.mark.slow
def test_two_slots_with_pretended_gpus_each_get_their_own(own_locks):
    pytest.importorskip("sklearn")
    pairs = laid_down(seeds=range(4), overrides={"batch_size": 100, "epochs": 4})
    slots = [Slot("gpu0.0", "cpu", "GPU-aaaa"), Slot("gpu1.0", "cpu", "GPU-bbbb")]
    seen: dict[int, str] = {}

    def look():
        for _, paths in pairs:
            pid = (read_json(paths.lease) or {}).get("pid")
            if pid is not None and pid not in seen:
                with contextlib.suppress(psutil.Error):  # it has ended
                    seen[pid] = psutil.Process(pid).environ()["CUDA_VISIBLE_DEVICES"]

    warnings = []
    run_local(Work(pairs, RunOptions(submission="s")), slots, look, warnings.append)
    assert all(state_of(paths) == "done" for _, paths in pairs), warnings
    assert sorted(seen.values()) == ["GPU-aaaa", "GPU-bbbb"]


CLONE = """
import sys
sys.path[:0] = {path}
from test_engines import laid_down
from runner.engines.local import Work, run_local
from runner.engines.slots import Slot
from runner.worker.options import RunOptions
run_local(Work(laid_down(seeds=[0, 1]), RunOptions(submission="s")), [Slot("gpu0.0", "cpu", "GPU-aaaa")], lambda: None, print)
"""


@pytest.mark.slow
def test_two_clones_share_a_gpu_without_meeting_on_it(own_locks, tmp_path, monkeypatch):
    pytest.importorskip("sklearn")
    clones = []
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        clones.append(
            subprocess.Popen(
                [sys.executable, "-c", CLONE.format(path=sys.path)],
                env={**os.environ, "REPROZOO_ROOT": str(tmp_path / name)},
                stdout=subprocess.PIPE,
                text=True,
            )
        )
    said = [clone.communicate(timeout=250)[0] for clone in clones]
    assert [clone.returncode for clone in clones] == [0, 0]
    assert sum("in use by another submit" in text for text in said) == 1
    spans = []
    for name in ("one", "other"):
        lines = [line["time"] for p in all_jobs(tmp_path / name / ".runs") for line in read_lines(p.attempts)]
        assert len(lines) == 4
        spans.append((min(lines), max(lines)))
    first, second = sorted(spans)
    assert first[1] <= second[0]


def test_inside_an_allocation_there_are_no_more_slots_than_cores_were_given(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    roomy = SimpleNamespace(available=64 * slots.MEMORY_PER_SLOT)
    monkeypatch.setattr(slots.psutil, "virtual_memory", lambda: roomy)
    monkeypatch.setattr(slots.os, "sched_getaffinity", lambda pid: set(range(8)))
    assert len(slots.make_slots(1, 1)) == 8
    monkeypatch.setenv("SLURM_CPUS_ON_NODE", "1")
    assert len(slots.make_slots(1, 1)) == 1


def bundle_of(paths, folder):
    """A file that starts a worker on one job."""
    Bundle(options=RunOptions(submission="s"), folders=(paths.folder,)).write(folder / "bundle.json")
    return str(folder / "bundle.json")


# --- signals -----------------------------------------------------------------------------------------------------------


# A worker that signals itself in its second epoch, after five updates: so early and late machines are signalled alike.
SIGNALLED = """
import os, sys
from runner.worker import __main__, lease
usual = lease.Lease.progress
def progress(self, facts):
    usual(self, facts)
    if (facts["epoch"], facts["step"]) == (1, 5):
        os.kill(os.getpid(), int(sys.argv[2]))
lease.Lease.progress = progress
sys.exit(__main__.main(sys.argv[1:2]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR2], ids=lambda n: n.name)
def test_a_signal_in_the_middle_of_an_epoch_leads_to_a_checkpoint_and_the_same_bits(number, monkeypatch, tmp_path):
    pytest.importorskip("sklearn")
    overrides = {"batch_size": 100, "epochs": 4}
    ((_, paths),) = laid_down(seeds=[0], overrides=overrides)
    command = [sys.executable, "-m", "runner.worker", bundle_of(paths, tmp_path)]
    subprocess.run([sys.executable, "-c", SIGNALLED, command[-1], str(int(number))], check=True)
    assert state_of(paths) == "interrupted"
    assert read_lines(paths.attempts)[-1]["outcome"] == "interrupted"
    saved = Checkpoint.load(paths.checkpoint)
    assert (saved.epoch, saved.step) == (1, 5)
    assert subprocess.run(command, check=True).returncode == 0
    resumed = load(paths.record)
    assert resumed.attempts == 2

    monkeypatch.setenv("REPROZOO_ROOT", str(tmp_path / "elsewhere"))
    ((_, other),) = laid_down(seeds=[0], overrides=overrides)
    subprocess.run([*command[:-1], bundle_of(other, tmp_path)], check=True)
    through = load(other.record)
    assert (resumed.weights_sha256, resumed.curve_sha256) == (through.weights_sha256, through.curve_sha256)


def test_a_signal_before_the_worker_is_ready_waits_for_it(own_root, tmp_path):
    """Sent at once after the start, when Python would still die of it: it's held back, and nothing is trained."""
    ((_, paths),) = laid_down(seeds=[0])
    with signals_blocked():
        worker = subprocess.Popen([sys.executable, "-m", "runner.worker", bundle_of(paths, tmp_path)])
    worker.send_signal(signal.SIGUSR2)
    assert worker.wait(timeout=100) == 0
    assert state_of(paths) == "pending"


# --- what will run by itself -------------------------------------------------------------------------------------------


def test_waiting_jobs_come_by_themselves_only_while_a_submit_is_at_work():
    ((_, paths),) = laid_down(seeds=[0])
    queue = QueueView()
    queue.refresh([(paths, "pending")])
    assert not queue.will_run(paths, "pending")
    with submit_lock(), submit_lock():
        queue.refresh([(paths, "pending")])
        assert queue.will_run(paths, "pending")
        paths.stop.touch()
        assert not queue.will_run(paths, "pending")
        assert queue.annotate(paths, "pending") == "stopped"
    queue.refresh([(paths, "pending")])
    assert not someone_submits()
    assert queue.will_run(paths, "running")


def test_a_detached_submit_whose_process_ends_at_once_shows_what_it_said(runner, monkeypatch):
    ending = [sys.executable, "-c", "import sys; sys.exit('runner: no data: runner data prepare')"]
    monkeypatch.setattr("runner.sources.python", lambda *words: ending)
    code, out, err = runner("submit", "--suite", "quickstart", "--seed", "0", "--detach")
    assert (code, out, err) == (1, "", "runner: no data: runner data prepare\n")


@pytest.mark.slow
def test_a_detached_submit_that_cannot_start_says_so_immediately(runner, tmp_path):
    code, _, err = runner("submit", "--suite", "mnist", "--detach", "--data-dir", str(tmp_path / "empty"))
    assert code == 2
    assert "runner data prepare" in err


def test_status_watch_and_logs_follow_end_where_nobody_will_run_a_job(runner):
    laid_down(seeds=[0])
    code, out, _ = runner("status", "--watch")
    assert code == 0
    assert "1 will start with the next `runner submit`" in out
    code, _, err = runner("logs", "digits/lenet", "--follow")
    assert code == 2
    assert "has no log yet: it is pending" in err
