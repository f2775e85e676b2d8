"""The engine `slurm` with a real SLURM of one node that the tests start themselves, as root: see one_node_slurm.py."""

import contextlib
import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest
from one_node_slurm import Slurm, missing, wait_for

from benchmarks.records import load
from runner.engines import slurm, slurm_array
from runner.files import read_json, read_lines
from runner.jobs import paths as jobs
from runner.jobs.find import all_jobs
from runner.jobs.paths import runs_folder
from runner.jobs.state import state_of

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(600)]
pytest.importorskip("sklearn", reason="the digits ship inside scikit-learn")

LENET = ["--suite", "quickstart", "--model", "lenet", "--set", "batch_size=200"]
LONG = ["--suite", "quickstart", "--model", "lenet", "--set", "batch_size=10", "--seed", "0", "--epochs", "60"]


@pytest.fixture(scope="session")
def cluster():
    """The daemons, for all tests of this process."""
    if reason := missing():
        pytest.skip(reason)
    started = Slurm()
    try:
        started.start()
        yield started
    finally:
        started.stop()


@pytest.fixture
def on_slurm(cluster, own_root, monkeypatch):
    """Commands of this test, and their children, speak to the cluster; most engines are named after its partitions."""
    cluster.start()  # whatever the test before killed
    for name, value in cluster.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv(
        "PYTHONPATH", f"{Path(jobs.__file__).parent.parent.parent}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    )
    monkeypatch.setattr(slurm, "QUERY_SECONDS", 1.0)
    monkeypatch.setattr(slurm, "LOST_SECONDS", 4.0)
    (own_root / "engines.toml").write_text(
        '[engine.debug]\nkind = "slurm"\npartition = "debug"\ncpus = 2\n'
        '[engine.grace]\nkind = "slurm"\npartition = "grace"\ncpus = 2\n'
        '[engine.timed]\nkind = "slurm"\nwalltime = "10:00"\n'
        '[engine.gpu]\nkind = "slurm"\ncpus = 1\nextra = { gres = "gpu:1" }\n'  # asked for by `extra`: NVML sees none
        '[engine.broken]\nkind = "slurm"\nsetup = ["exit 3"]\n'
        '[engine.nowhere]\nkind = "slurm"\npartition = "nowhere"\n'
    )
    with cluster.printing_logs():
        yield cluster
    cluster.ask("scancel", "--user=root", "--full")
    wait_for(lambda: not cluster.ask("squeue", "--noheader"), "the queue to empty")


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory):
    """The record of the long job, run in one go in one process."""
    root = tmp_path_factory.mktemp("undisturbed")
    environment = {
        **os.environ,
        "REPROZOO_ROOT": str(root),
        "REPROZOO_DATA": str(root / "data"),
        "OMP_NUM_THREADS": "1",
    }
    done = subprocess.run(
        [sys.executable, "-m", "runner", "submit", *LONG, "--engine", "inline"],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return load(all_jobs(root / ".runs")[0].record)


@pytest.fixture
def submit():
    """Starts a submit in a process of its own."""
    started = []

    def start(*words, **kwargs):
        command = [sys.executable, "-m", "runner", "submit", *words]
        started.append(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **kwargs))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def the_job():
    return all_jobs()[0]


def reached(epoch):
    """Whether the one job runs and has done so many epochs, and is inside one."""
    found = all_jobs()
    lease = (read_json(found[0].lease) or {}) if found and state_of(found[0]) == "running" else {}
    return lease.get("epoch", 0) >= epoch and lease.get("step", 0) > 0


def hold_in_the_middle():
    """Stop the one job's worker inside its second epoch, so that it doesn't matter how fast this machine is; its pid."""
    wait_for(lambda: reached(1), "the second epoch", 200)
    worker = starts(the_job())[-1]["pid"]
    os.kill(worker, signal.SIGSTOP)
    return worker


def let_go_once_signalled(worker, seconds=60):
    """Wait until SLURM's signal has reached a worker that is held, then let it go on.

    SLURM sends SIGCONT right behind some signals: then the worker has ended before anyone could see the signal wait.
    """
    wait_for(lambda: _pending(worker) or outcomes(the_job()), "SLURM's signal", seconds)
    with contextlib.suppress(ProcessLookupError):
        os.kill(worker, signal.SIGCONT)


def starts(paths):
    return [line for line in read_lines(paths.attempts) if line["event"] == "start"]


def outcomes(paths):
    return [line["outcome"] for line in read_lines(paths.attempts) if line["event"] == "end"]


def task_logs():
    return "".join(path.read_text() for path in sorted(runs_folder().glob("slurm/*/*_log.out")))


def same_training(record, other):
    return (record.weights_sha256, record.curve_sha256) == (other.weights_sha256, other.curve_sha256)


def done():
    return all(paths.record.exists() for paths in all_jobs())


def test_each_task_gets_its_gpu_and_nothing_is_queued_twice(on_slurm, runner):
    words = [*LENET, "--epochs", "3", "--engine", "gpu"]
    code, out, err = runner("submit", *words, "--detach")
    assert code == 0, out + err
    assert "2 queued as SLURM job" in out
    code, out, _ = runner("submit", *words, "--detach")
    assert code == 0
    assert "2 already in SLURM's queue" in out
    assert "queued as" not in out
    wait_for(lambda: "SLURM" in runner("status")[1] or done(), "status to tell of the queue")
    code, out, err = runner("submit", *words)  # follows what is there
    assert code == 0, out + err
    assert "2 of 2 done" in out
    assert len(list(runs_folder().glob("slurm/*/bundles.json"))) == 1
    assert sorted(re.findall(r"CUDA_VISIBLE_DEVICES=(\d)", task_logs())) == ["0", "1"]
    assert [load(paths.record).attempts for paths in all_jobs()] == [1, 1]


def test_mlflow_gets_what_ended_while_nobody_followed(on_slurm, runner):
    words = [*LENET, "--epochs", "2", "--engine", "debug"]
    code, out, err = runner("submit", *words, "--detach")
    assert code == 0, out + err
    wait_for(done, "the end of jobs that nobody follows", 300)
    assert not (runs_folder() / "mlflow.db").exists()
    code, out, err = runner("submit", *words)
    assert code == 0, out + err
    with closing(sqlite3.connect(runs_folder() / "mlflow.db")) as store:
        statuses = [status for (status,) in store.execute("SELECT status FROM runs")]
    assert statuses == ["FINISHED"] * len(all_jobs())


@pytest.mark.parametrize("engine", ["debug", "grace"])
def test_preempted_in_the_middle_of_an_epoch_it_resumes_to_the_same_bits(on_slurm, submit, undisturbed, engine):
    """Without a grace time SLURM requeues the task itself; with one the task has to do it before it ends."""
    following = submit(*LONG, "--engine", engine)
    worker = hold_in_the_middle()
    on_slurm.ask("sbatch", "--partition=urgent", "--cpus-per-task=2", "--wrap=sleep 3", "--output=/dev/null")
    let_go_once_signalled(worker)
    said, _ = following.communicate(timeout=300)
    assert following.returncode == 0, said + task_logs()
    record = load(the_job().record)
    assert outcomes(the_job()) == ["interrupted", "finished"]
    assert "resuming after epoch" in the_job().log.read_text()
    assert same_training(record, undisturbed)
    assert record.attempts == 2


def test_at_the_end_of_its_walltime_a_job_continues_in_the_next_allocation(on_slurm, submit, undisturbed):
    """The limit is cut to the next minutes, so that the warning, two minutes before the end, comes soon."""
    following = submit(*LONG, "--engine", "timed")
    worker = hold_in_the_middle()
    (task,) = on_slurm.ask("squeue", "--noheader", "--format=%i %M").splitlines()
    id_, spent = task.split()
    on_slurm.ask("scontrol", "update", f"JobId={id_}", f"TimeLimit={int(spent.split(':')[0]) + 2}")
    let_go_once_signalled(worker, 120)
    said, _ = following.communicate(timeout=400)
    assert following.returncode == 0, said + task_logs()
    assert "stopped after checkpoints; requeued" in task_logs()
    assert set(outcomes(the_job())) == {"interrupted", "finished"}
    assert same_training(load(the_job().record), undisturbed)


def _pending(pid):
    """Whether a signal waits for a process that is held still."""
    try:
        text = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False
    return any(
        int(mask, 16) & (1 << (signal.SIGTERM - 1) | 1 << (signal.SIGUSR2 - 1))
        for mask in re.findall(r"Pnd:\s+(\w+)", text)
    )


def test_a_lost_node_costs_at_most_what_came_after_the_last_checkpoint(on_slurm, submit, undisturbed):
    following = submit(*LONG, "--engine", "debug")
    hold_in_the_middle()
    time.sleep(8)  # the controller saves its state every few seconds
    on_slurm.kill_node()
    assert state_of(the_job()) in ("killed", "interrupted")
    wait_for(lambda: "down" in on_slurm.ask("sinfo", "--noheader", "--format=%T"), "the node to be missed", 200)
    on_slurm.start()
    said, _ = following.communicate(timeout=300)
    assert following.returncode == 0, said + task_logs()
    assert same_training(load(the_job().record), undisturbed)
    # The lost start has no end. There may be further ones, where a busy machine's node answers too late once again.
    assert len(starts(the_job())) > len(outcomes(the_job()))
    assert outcomes(the_job())[-1] == "finished"


def test_the_controller_may_die_while_jobs_run(on_slurm, runner, undisturbed):
    threading.Thread(target=_kill_controller_in_the_middle, args=(on_slurm,), daemon=True).start()
    code, out, err = runner("submit", *LONG, "--engine", "debug")
    assert code == 0, out + err
    assert same_training(load(the_job().record), undisturbed)
    assert outcomes(the_job()) == ["finished"]


def _kill_controller_in_the_middle(cluster):
    worker = hold_in_the_middle()
    time.sleep(8)
    cluster.kill("slurmctld")
    time.sleep(5)
    os.kill(worker, signal.SIGCONT)
    time.sleep(2)
    cluster.start()


def test_what_a_dying_controller_forgets_is_queued_again(on_slurm, runner):
    """Killed before it saved its state, it comes back without the array; the submit that follows queues it once more."""
    busy = on_slurm.ask("sbatch", "--parsable", "--cpus-per-task=2", "--wrap=sleep 600", "--output=/dev/null")
    time.sleep(8)  # known for good

    def forget():
        wait_for(lambda: slurm_array.NAME in on_slurm.ask("squeue", "--noheader", "--format=%j"), "the array", 200)
        on_slurm.kill("slurmctld")
        on_slurm.start()
        on_slurm.ask("scancel", busy)

    threading.Thread(target=forget, daemon=True).start()
    code, out, err = runner("submit", *LENET, "--epochs", "2", "--engine", "debug")
    assert code == 0, out + err
    assert done()
    assert {load(paths.record).attempts for paths in all_jobs()} == {1}
    if "SLURM lost" not in out:  # it had saved its state in time: then nothing may have been queued again
        assert len(list(runs_folder().glob("slurm/*/bundles.json"))) == 1


def test_a_killed_worker_is_replaced_inside_its_task(on_slurm, submit, undisturbed):
    following = submit(*LONG, "--engine", "debug")
    os.kill(hold_in_the_middle(), signal.SIGKILL)
    said, _ = following.communicate(timeout=300)
    assert following.returncode == 0, said + task_logs()
    assert len(starts(the_job())) == 2
    assert "ended with signal SIGKILL" in task_logs()
    assert same_training(load(the_job().record), undisturbed)


def test_ctrl_c_leaves_the_tasks_and_stop_ends_them(on_slurm, submit, runner, monkeypatch):
    monkeypatch.setenv("REPROZOO_THREADS", "2")  # one slot a task
    following = submit(*LENET, "--epochs", "4000", "--engine", "debug", start_new_session=True)
    wait_for(lambda: any(state_of(paths) == "running" for paths in all_jobs()), "a job to run", 200)
    following.send_signal(signal.SIGINT)
    said, _ = following.communicate(timeout=60)
    assert following.returncode == 130, said
    assert "SLURM continues" in said
    # one task has both cores; the other waits
    assert sorted(state_of(paths) for paths in all_jobs()) == ["pending", "running"]
    assert "SLURM" in runner("status")[1]
    assert runner("stop", "--all")[0] == 0
    wait_for(lambda: not on_slurm.ask("squeue", "--noheader"), "the tasks to end")
    assert sorted(state_of(paths) for paths in all_jobs()) == ["interrupted", "pending"]
    assert [outcomes(paths) for paths in all_jobs() if starts(paths)] == [["interrupted"]]


def test_a_task_that_was_cancelled_in_slurm_is_not_queued_again(on_slurm, runner):
    busy = on_slurm.ask("sbatch", "--parsable", "--cpus-per-task=2", "--wrap=sleep 600", "--output=/dev/null")

    def cancel():
        wait_for(lambda: slurm_array.NAME in on_slurm.ask("squeue", "--noheader", "--format=%j"), "the array", 200)
        ours = [
            line.split("|")[0]
            for line in on_slurm.ask("squeue", "--noheader", "--format=%F|%j").splitlines()
            if slurm_array.NAME in line
        ]
        on_slurm.ask("scancel", *ours)

    threading.Thread(target=cancel, daemon=True).start()
    code, out, _ = runner("submit", *LENET, "--epochs", "2", "--engine", "debug")
    assert code == 0
    assert "was cancelled in SLURM" in out
    assert "0 of 2 done" in out
    on_slurm.ask("scancel", busy)
    assert runner("submit", *LENET, "--epochs", "2", "--engine", "debug")[0] == 0
    assert done()


def test_tasks_that_never_begin_a_job_end_the_submit(on_slurm, runner):
    code, _, err = runner("submit", *LENET, "--engine", "broken")
    assert code == 2
    assert "before they started" in err
    assert len(err.strip().splitlines()) == 1
    assert len(list(runs_folder().glob("slurm/*/bundles.json"))) == 3


def test_what_sbatch_refuses_is_one_line(on_slurm, runner):
    code, _, err = runner("submit", *LENET, "--engine", "nowhere")
    assert code == 2
    assert "SLURM rejects the tasks" in err
    assert "partition" in err
    assert len(err.strip().splitlines()) == 1


def test_a_failed_job_is_retried_by_slurm_too(on_slurm, runner):
    broken = [*LENET, "--seed", "0", "--set", 'init=[["*.weight","normal",0.1]]']
    code, out, _ = runner("submit", *broken, "--engine", "debug")
    assert code == 1
    assert "the model's own failure" in out
    assert len(starts(the_job())) == 1  # tried once: it is no failure of infrastructure
    assert runner("retry", "--failed", "--engine", "debug")[0] == 1
    assert len(list(the_job().old.glob("*/failure.json"))) == 1


def test_doctor_proves_the_engine_by_a_task(on_slurm, runner):
    code, out, _ = runner("doctor", "--engine", "debug", "--json")
    found = {check["name"]: check for check in json.loads(out)["checks"]}
    assert found["slurm"]["status"] == "ok"
    assert found["engine"]["status"] == "ok", found["engine"]
    assert "lock" in found["engine"]["message"]
    assert code == 0
    code, out, _ = runner("doctor", "--engine", "nowhere", "--json")
    assert code == 1
