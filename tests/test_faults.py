"""Disks, clocks, memory, other hosts and other clones that misbehave: nothing is lost, and one line says what it is."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path

import pytest

from benchmarks.errors import UserError
from benchmarks.records import load
from runner.files import append_line, read_json, read_lines
from runner.jobs.attempts import MAX_FAILURES, Attempts, append_end
from runner.jobs.find import all_jobs
from runner.jobs.paths import JobPaths, now_ms, runs_folder
from runner.jobs.state import state_of
from runner.training import memory

pytest.importorskip("sklearn", reason="the digits ship inside scikit-learn")

WORDS = [
    "submit",
    "--suite",
    "quickstart",
    "--model",
    "lenet",
    "--seed",
    "0",
    "--epochs",
    "2",
    "--set",
    "batch_size=480",
]
INLINE = [*WORDS, "--engine", "inline"]


@pytest.fixture(scope="module")
def undisturbed(forks, tmp_path_factory):
    """What an undisturbed run ends with: its record, and the parsed data."""
    return forks.run_in(tmp_path_factory.mktemp("undisturbed"), [INLINE], MLFLOW_TRACKING_URI="http://127.0.0.1:9")


@pytest.fixture
def calm(undisturbed, monkeypatch):
    """The parsed data of before, and an MLflow server that is away: what is disturbed is the root alone."""
    monkeypatch.setenv("REPROZOO_DATA", str(undisturbed / "data"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    [record] = [load(path) for path in undisturbed.glob(".runs/*/*/*/record.json")]
    return record


def bits(record):
    return record.weights_sha256, record.curve_sha256


def half_trained(forks, record, said: Path) -> JobPaths:
    """The job, killed between its last checkpoint and its record."""
    paths = JobPaths.of(record.job)
    paths.write_job(record.job)
    code = forks.run("worker", str(paths.folder), output=said, kill_at=22)
    assert code == -signal.SIGKILL
    assert state_of(paths) == "interrupted"
    return paths


# --- damaged files -----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_truncated_or_damaged_checkpoint_is_never_resumed(forks, calm, tmp_path):
    """60 damages, of a byte in the middle of a tensor, too: restarted, and to the same bits. The undamaged one is resumed."""
    said, rng = tmp_path / "said.txt", random.Random(4)
    half = half_trained(forks, calm, said)
    whole, [start] = half.checkpoint.read_bytes(), read_lines(half.attempts)
    cuts = [whole[: rng.randrange(len(whole))] for _ in range(15)] + [b"", whole[:-1], whole + b"more"]
    flips = []
    for _ in range(40):
        damaged = bytearray(whole)
        damaged[rng.randrange(len(whole))] ^= 1 << rng.randrange(8)
        flips.append(bytes(damaged))
    restarted = []
    for damaged in [whole, *cuts, *flips, random.Random(5).randbytes(2000), b"PK\x03\x04 torn"]:
        shutil.rmtree(runs_folder())
        paths = JobPaths.of(calm.job)
        paths.write_job(calm.job)
        append_line(paths.attempts, start)
        paths.checkpoint.write_bytes(damaged)
        assert forks.run("worker", str(paths.folder), output=said) == 0
        record = load(paths.record)
        assert bits(record) == bits(calm)
        restarted.append(any(paths.old.glob("*/checkpoint.pt")))
    assert restarted[0] is False
    assert len(restarted) == 61
    assert sum(restarted) >= 55  # a flip between the archive's members does no harm


def test_a_flipped_bit_inside_a_tensor_is_seen(tmp_path):
    """torch.load alone doesn't: it takes the file, with another number in it."""
    import torch

    from runner.training.checkpoint import Checkpoint

    state = Checkpoint(
        "f", "r", {"w": torch.ones(1000)}, {}, 0, 0, None, torch.zeros(3, dtype=torch.float64), [], 0.0, 0, {}, 1
    )
    path = tmp_path / "checkpoint.pt"
    state.save(path)
    assert torch.equal(Checkpoint.load(path).model["w"], torch.ones(1000))
    content = bytearray(path.read_bytes())
    middle = content.index(torch.ones(1000).numpy().tobytes()) + 2000
    content[middle] ^= 1
    path.write_bytes(content)
    assert not torch.equal(torch.load(path, weights_only=True)["model"]["w"], torch.ones(1000))
    with pytest.raises(Exception, match="damaged"):
        Checkpoint.load(path)


@pytest.mark.parametrize("change", ["newer", "newer and other", "torn", "list"])
def test_a_record_of_a_newer_schema_or_a_torn_one_is_kept_and_blocks_nothing(runner, own_root, change):
    """Some later version wrote it, and perhaps other fields: the job counts as done, each command says what it can't read."""
    from helpers import make_record, run_locally

    from benchmarks.records import record_json

    record = make_record(dataset="digits", model="lenet", recipe={"epochs": 3})
    run_locally(own_root / ".runs", record)
    [paths] = all_jobs()
    text = {
        "newer": record_json(record).replace('"schema_version": 1', '"schema_version": 2'),
        "newer and other": '{"schema_version": 2, "training": {"job": 1}}',
        "torn": record_json(record)[:300],
        "list": "[1, 2]",
    }[change]
    paths.record.write_text(text)
    outputs = {}
    for words in (["status"], ["status", "--json"], ["report"], ["publish"], ["stop", "--all"], ["logs", record.key]):
        code, out, err = runner(*words)
        assert code in (0, 2), (words, out, err)
        assert "Traceback" not in out + err
        assert code == 0 or len(err.strip().splitlines()) == 1
        outputs[words[0]] = out
    assert "skipped" in outputs["publish"]
    code, out, err = runner("submit", "--suite", "quickstart", "--dry-run")
    assert code == 0, err
    assert paths.record.read_text() == text
    assert state_of(paths) == "done"


# --- the disk ------------------------------------------------------------------------------------------------------------


@contextmanager
def mounted(folder: Path, *words: str):
    """A real file system, for root alone."""
    folder.mkdir(exist_ok=True)
    done = subprocess.run(["mount", *words, str(folder)], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"only root may mount: {done.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.slow
def test_a_full_disk_at_every_stage_loses_nothing(forks, calm, tmp_path, monkeypatch):
    """A tmpfs of ever more room: it is full at the first line, in a checkpoint, at the weights ...; then it is made larger."""
    monkeypatch.setenv("REPROZOO_ROOT", str(tmp_path / "disk"))
    failed = 0
    for kibibytes in (8, 16, 24, 32, 40, 48, 64, 128, 256, 384, 512, 640, 768, 832, 864, 896, 960, 1024, 1152, 1280):
        said = tmp_path / f"said-{kibibytes}.txt"
        with mounted(tmp_path / "disk", "-t", "tmpfs", "-o", f"size={kibibytes}k", "tmpfs"):
            code = forks.run("runner", *INLINE, output=said, checkpoint_seconds=0.0)
            text = said.read_text()
            assert code in (0, 1, 2), text
            assert "Traceback" not in text or code == 1, text  # in the log's tail of a failed job only
            if code:
                failed += 1
                assert "No space left on device" in text or "is the disk full?" in text, text
            assert all(state_of(paths) != "done" or load(paths.record) for paths in all_jobs())
            subprocess.run(["mount", "-o", "remount,size=40m", str(tmp_path / "disk")], check=True)
            assert forks.run("runner", *INLINE, output=said) == 0, said.read_text()
            [paths] = all_jobs()
            assert bits(load(paths.record)) == bits(calm)
            assert [line["epoch"] for line in read_lines(paths.metrics)] == [1, 2]
    assert failed >= 10


def test_a_full_disk_is_not_tried_for_ever_where_there_is_no_room_to_say_so(tmp_path):
    """Three starts without an end and without failure.json: this submit gives up, the next one tries again."""
    from helpers import make_record

    job = make_record(dataset="digits", model="lenet").job
    paths = JobPaths.of(job)
    paths.write_job(job)
    for number in range(1, 4):
        append_line(paths.attempts, {"event": "start", "submission": "one", "checkpoint": 0, "run": "r"})
        assert Attempts.read(paths).given_up_by("one") == (number == 3)
    assert state_of(paths) == "killed"
    assert not Attempts.read(paths).given_up_by("two")


@pytest.mark.slow
def test_a_read_only_root_is_one_line(forks, calm, tmp_path, own_root):
    said = tmp_path / "said.txt"
    paths = half_trained(forks, calm, said)
    before = {path: path.read_bytes() for path in own_root.rglob("*") if path.is_file()}
    with mounted(own_root, "--bind", str(own_root)):
        subprocess.run(["mount", "-o", "remount,ro,bind", str(own_root)], check=True)
        for words in (INLINE, WORDS, ["stop", "--all"]):
            said.unlink(missing_ok=True)
            assert forks.run("runner", *words, output=said) == 2, said.read_text()
            complaint = [line for line in said.read_text().splitlines() if line.startswith("runner: ")]
            assert len(complaint) == 1
            assert "Read-only file system" in complaint[0]
            assert "Traceback" not in said.read_text()
        said.unlink()
        assert forks.run("runner", "status", output=said) == 0
        assert "interrupted" in said.read_text()
        assert {path: path.read_bytes() for path in own_root.rglob("*") if path.is_file()} == before
    assert forks.run("runner", *INLINE, output=said) == 0
    assert bits(load(paths.record)) == bits(calm)


# --- clocks and other hosts --------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_clock_that_jumps_back_spoils_no_record(forks, calm, tmp_path):
    """The first attempt began "tomorrow": the record is valid all the same, and what the clock says now."""
    said = tmp_path / "said.txt"
    paths = half_trained(forks, calm, said)
    [start] = read_lines(paths.attempts)
    tomorrow = now_ms() + int(timedelta(days=1).total_seconds() * 1000)
    paths.attempts.write_text(json.dumps({**start, "time": tomorrow}) + "\n")
    assert forks.run("runner", *INLINE, output=said) == 0, said.read_text()
    record = load(paths.record)
    assert bits(record) == bits(calm)
    assert record.finished >= record.started


def test_a_lease_from_the_future_is_believed_no_longer_than_one_of_the_past(tmp_path):
    from helpers import make_record

    job = make_record().job
    paths = JobPaths.of(job)
    paths.write_job(job)
    for ahead, state in ((60, "running"), (100_000, "pending")):
        paths.lease.write_text(json.dumps({"host": "elsewhere", "time": (time.time() + ahead) * 1000}))
        assert state_of(paths) == state


@pytest.mark.slow
def test_another_hosts_lease_is_respected_while_fresh_and_taken_over_when_stale(forks, calm, tmp_path):
    said = tmp_path / "said.txt"
    paths = half_trained(forks, calm, said)
    lease = read_json(paths.lease) or {}
    paths.lease.write_text(json.dumps({**lease, "host": "node7", "time": now_ms()}))
    assert forks.run("runner", *INLINE, output=said) == 0
    assert "1 running elsewhere" in said.read_text()
    assert len(read_lines(paths.attempts)) == 1
    paths.lease.write_text(json.dumps({**lease, "host": "node7", "time": now_ms() - 200_000}))
    assert forks.run("runner", *INLINE, output=said) == 0
    assert bits(load(paths.record)) == bits(calm)
    assert not paths.lease.exists()


# --- two at once -------------------------------------------------------------------------------------------------------

CLONE = """
import sys
from pathlib import Path
from runner.jobs.find import all_jobs
from runner.jobs.paths import PlannedJob
from runner.engines.local import Work, run_local
from runner.engines.slots import Slot
from runner.worker.options import RunOptions
[paths] = all_jobs()
work = Work([PlannedJob(paths.read_job(), paths)], RunOptions(submission=sys.argv[1]))
run_local(work, [Slot("gpu0.0", "cpu", "GPU-pretended")], lambda: None, print)
"""


@pytest.mark.slow
def test_two_clones_on_one_pretended_gpu_take_turns(calm, tmp_path, monkeypatch):
    """Two checkouts, one user, one slot: the second waits, says so, and both end."""
    monkeypatch.setenv("REPROZOO_LOCKS", str(tmp_path / "locks"))
    roots, children = [tmp_path / "one", tmp_path / "other"], []
    for root in roots:
        paths = JobPaths.of(calm.job, root / ".runs")
        paths.write_job(calm.job)
        children.append(
            subprocess.Popen(
                [sys.executable, "-c", CLONE, root.name],
                env=os.environ | {"REPROZOO_ROOT": str(root)},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        )
    said = [child.communicate(timeout=250)[0] for child in children]
    assert [child.returncode for child in children] == [0, 0], said
    spans = []
    for root in roots:
        paths = JobPaths.of(calm.job, root / ".runs")
        assert bits(load(paths.record)) == bits(calm)
        start, end = read_lines(paths.attempts)
        spans.append((start["time"], end["time"]))
    (_, first_end), (second_start, _) = sorted(spans)
    assert first_end <= second_start
    assert sum("is in use by another submit" in text for text in said) == 1


@pytest.mark.slow
def test_many_concurrent_submits_of_one_suite_run_each_job_once(forks, calm, tmp_path):
    """Six at once, five times."""
    words = [*(word for word in INLINE if word not in ("--seed", "0")), "--seeds", "2"]
    for number in range(5):
        shutil.rmtree(runs_folder(), ignore_errors=True)
        said = tmp_path / f"said-{number}.txt"
        pids = [forks.start("runner", *words, output=said) for _ in range(6)]
        assert [forks.wait(pid) for pid in pids] == [0] * 6, said.read_text()
        found = all_jobs()
        assert [state_of(paths) for paths in found] == ["done", "done"]
        for paths in found:
            lines = [json.loads(line) for line in paths.attempts.read_text().splitlines()]
            assert [line["event"] for line in lines] == ["start", "end"]
        submissions = (runs_folder() / "submissions.jsonl").read_text().splitlines()
        assert len([json.loads(line) for line in submissions]) == 6


@pytest.mark.slow
def test_concurrent_commands_end_without_traceback_and_with_the_same_bits(forks, calm, tmp_path):
    """Six at a time of a hundred, as several people might type them; some are stopped or killed at some moment."""
    rng, key = random.Random(1), calm.key
    commands = [
        *[INLINE, WORDS] * 4, [*INLINE, "--force"], [*INLINE, "--json"], [*WORDS, "--dry-run"], ["status"],
        ["status", "--json"], ["stop", key], ["stop", "--all"], ["retry", key], ["retry", "--failed"], ["logs", key],
        ["report", "--suite", "quickstart"], ["publish"], ["doctor"], ["sync"],
    ]  # fmt: skip
    living: dict[int, Path] = {}
    for number in range(100):
        said = tmp_path / f"said-{number}.txt"
        living[forks.start("runner", *rng.choice(commands), output=said, checkpoint_seconds=0.02)] = said
        while len(living) == 6 or (number == 99 and living):
            time.sleep(0.02)
            if rng.random() < 0.05:
                with suppress(ProcessLookupError):
                    os.killpg(rng.choice(list(living)), rng.choice([signal.SIGKILL, signal.SIGTERM, signal.SIGINT]))
            for pid in [pid for pid in living if forks.ended(pid) is not None]:
                said = living.pop(pid)
                text = said.read_text() if said.exists() else ""
                assert forks.ended(pid) in (0, 1, 2, 130, 143, -signal.SIGKILL, -signal.SIGTERM, -signal.SIGINT), text
                assert "Traceback" not in text
                assert "No such file" not in text
    [paths] = all_jobs()
    while forks.run("runner", *INLINE, output=tmp_path / "end.txt") or state_of(paths) != "done":
        time.sleep(0.2)  # a worker of a killed submit is still at it
    assert bits(load(paths.record)) == bits(calm)
    assert not [left for left in paths.folder.rglob("*.tmp") if paths.old not in left.parents]


# --- whose failure it is -------------------------------------------------------------------------------------------------


class NvidiaError(RuntimeError):
    pass


FAILURES = [
    (lambda: OSError(28, "No space left on device"), "infrastructure"),
    (lambda: OSError(5, "Input/output error"), "infrastructure"),  # a node's disk
    (lambda: MemoryError("Unable to allocate 1.34 GiB for an array"), "infrastructure"),
    (lambda: RuntimeError("could not create a primitive"), "infrastructure"),
    (lambda: ImportError("libcudnn.so.9: cannot open shared object file"), "infrastructure"),
    (lambda: RuntimeError("CUDA error: uncorrectable ECC error encountered"), "infrastructure"),
    (lambda: RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR"), "infrastructure"),
    (lambda: UserError("digits: /data: no such folder"), "infrastructure"),
    (lambda: ValueError("2 parameters have no initialisation"), "model"),
    (lambda: RuntimeError("mat1 and mat2 shapes cannot be multiplied (4x10 and 20x3)"), "model"),
    (lambda: ZeroDivisionError("division by zero"), "model"),
]


@pytest.mark.parametrize(("make", "kind"), FAILURES, ids=[str(make()) for make, _ in FAILURES])
def test_whose_failure_it_is_decides_whether_it_is_tried_again(make, kind):
    from runner.worker.attempt import _record_failure, kind_of
    from runner.worker.log import Log

    error = make()
    if not isinstance(error, UserError):
        assert kind_of(error) == kind
    from helpers import make_record

    job = make_record(dataset="digits", model="lenet").job
    paths = JobPaths.of(job)
    paths.write_job(job)
    try:
        raise error
    except Exception as caught:
        failure = _record_failure(paths, caught, Log(paths.log, None), "cpu")
    assert failure.kind == kind
    append_line(paths.attempts, {"event": "start", "submission": "s", "checkpoint": 0, "run": "r"})
    append_end(paths, failure.kind, failure.what)
    assert state_of(paths) == ("failed" if kind == "model" else "pending")


@pytest.mark.slow
def test_a_real_lack_of_memory_on_the_host_fails_one_job_and_the_others_go_on(forks, calm, tmp_path):
    """The kernel refuses memory beyond a limit: lenet fits, nin with a batch of everything doesn't."""
    said = tmp_path / "said.txt"
    words = ["submit", "--suite", "quickstart", "--model", "nin", "--model", "lenet", "--seed", "0", "--epochs", "1"]
    words += ["--set", "batch_size=1437", "--engine", "inline"]
    assert forks.run("runner", *words, output=said, memory=60 << 20) == 1
    text = said.read_text()
    states = {paths.read_job().model: state_of(paths) for paths in all_jobs()}
    assert states == {"lenet": "done", "nin": "failed"}, text
    [paths] = [paths for paths in all_jobs() if paths.read_job().model == "nin"]
    assert sum(line["event"] == "start" for line in read_lines(paths.attempts)) == MAX_FAILURES
    said_once = [line for line in text.splitlines() if line.startswith("✗ digits/nin")]
    assert len(said_once) == 1
    assert "the machine is out of memory" in said_once[0]
    assert "The batch size 1437 is part of the recipe" in said_once[0]
    said.unlink()
    assert forks.run("runner", *words, output=said) == 0, said.read_text()  # with room enough the same command goes on


def test_a_thread_without_room_is_an_error_and_no_wait_for_ever():
    """As for a job after one that took all memory: glibc has kept a thread's stack, and nothing else is left."""
    code = """
import resource, threading
from runner.training.memory import start_thread
first = threading.Thread(target=int)
first.start()
first.join()
size = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (size + 2**24,) * 2)
waiting, held = threading.Thread(target=print, daemon=True), []
try:
    while True:
        held.append(bytes(1000))
except MemoryError:
    pass
try:
    start_thread(waiting)
except MemoryError:
    held.clear()
    print("refused")
"""
    if not Path("/proc/self/statm").exists():
        pytest.skip("needs Linux")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=240, check=True)
    assert done.stdout == "refused\n"


@pytest.mark.slow
def test_the_peak_memory_of_a_process_is_its_own_and_not_that_of_its_parent():
    child = "from runner.training.memory import peak_resident_bytes; print(peak_resident_bytes())"
    parent = f"""
import subprocess, sys
held = b"x" * 400_000_000
print(subprocess.run([sys.executable, "-c", {child!r}], capture_output=True, text=True, check=True).stdout)
{child}
"""
    said = subprocess.run([sys.executable, "-c", parent], capture_output=True, text=True, check=True).stdout.split()
    of_child, of_parent = map(int, said)
    assert of_child < 200e6
    assert of_parent > 400e6


def test_a_killed_worker_says_that_memory_may_have_been_short(calm, tmp_path):
    """The kernel ends a process that took the last memory by SIGKILL, like anybody else's kill -9."""
    long = [*WORDS[:-4], "--epochs", "3000", "--set", "batch_size=480"]
    submit = subprocess.Popen(
        [sys.executable, "-m", "runner", *long], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    for number in range(MAX_FAILURES):
        deadline = time.monotonic() + 120
        while True:
            found = all_jobs()
            lease = read_json(found[0].lease) if found else None
            starts = [x for x in read_lines(found[0].attempts) if x["event"] == "start"] if found else []
            if lease and len(starts) == number + 1 and lease["pid"] == starts[-1]["pid"]:
                break
            assert time.monotonic() < deadline
            time.sleep(0.02)
        os.kill(lease["pid"], signal.SIGKILL)
        while not found[0].failure.exists() or read_json(found[0].failure)["time"] < starts[-1]["time"]:
            assert time.monotonic() < deadline
            time.sleep(0.02)
    said, _ = submit.communicate(timeout=120)
    assert submit.returncode == 1, said
    assert "ended with signal SIGKILL (killed, perhaps because the system ran out of memory" in said
    assert state_of(found[0]) == "failed"


GPU = (
    "CUDA out of memory. Tried to allocate 1.95 GiB. GPU 0 has a total capacity of 14.57 GiB of which 1.58 GiB is free. "
    "Process 2493055 has 12.02 GiB memory in use. Including non-PyTorch memory, this process has 966.00 MiB memory in use. "
    "Of the allocated memory 734.07 MiB is allocated by PyTorch, and 33.93 MiB is reserved by PyTorch but unallocated. If "
    "reserved but unallocated memory is large try setting PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True to avoid "
    "fragmentation.  See documentation for Memory Management"
)
CPU = (
    "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate "
    "400000000000 bytes. Error code 12 (Cannot allocate memory)"
)


def test_a_gpu_out_of_memory_says_which_job_how_much_and_what_to_change():
    line = memory.out_of_memory("cifar10/vgg16/reference-seed0", 128, GPU, True)
    assert "\n" not in line
    for words in ("cifar10/vgg16/reference-seed0: the GPU is out of memory", "requested 1.95 GiB",
                  "1.58 GiB of 14.57 GiB free",
                  "other processes use 12.02 GiB",
                  "The batch size 128 is part of the recipe", "fewer --slots-per-gpu"):  # fmt: skip
        assert words in line
    line = memory.out_of_memory("k", 1, GPU.split(" Process")[0].replace("1.58 GiB", "0 bytes"), True)
    assert "0 bytes of 14.57 GiB free" in line
    assert "other processes use" not in line


def test_torchs_own_words_for_too_little_memory_are_known():
    """What torch says here and now, for more than there can be."""
    import torch

    with pytest.raises(RuntimeError) as caught:
        torch.empty(10**14)
    assert memory.is_short(str(caught.value))
    assert "requested 363.80 TiB" in memory.out_of_memory("k", 1, str(caught.value), False)
    assert "requested 372.53 GiB" in memory.out_of_memory("k", 1, CPU, False)
    assert memory.out_of_memory("k", 1, "", False).startswith("k: the machine is out of memory. The batch")
