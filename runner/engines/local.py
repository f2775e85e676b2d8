"""Starts workers and keeps the slots busy until every job of a submit has ended.

A slot is a share of a GPU, or some cores. Whenever one is free it gets a worker on the group of jobs, those of one
(dataset, model), with the most work left per worker already on it; the jobs' locks decide who runs which. So nothing
idles while work is left, and no state is kept here that a crash could lose: states are read from the files.
"""

import contextlib
import fcntl
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import psutil

from benchmarks.errors import UserError
from benchmarks.records import Job, canonical_json, write_atomically
from runner.jobs import paths as jobs
from runner.jobs.paths import JobPaths, State, log_tail, now_ms, read_json, read_lines, state_of
from runner.worker.attempt import Options, prepare_environment, run_bundle, signals_held_back

POLL_SECONDS = 0.2
MEMORY_PER_SLOT = 3 * 2**30  # bytes: a whitened CIFAR-10 in float32, torch and one network
STOP_PATIENCE = 120.0  # seconds for which a worker may go on to its checkpoint before it's killed


@dataclass(frozen=True)
class Slot:
    """Where one worker runs. `visible` is the GPU's UUID or index for CUDA_VISIBLE_DEVICES; None on a CPU.

    `locked`: whether the GPU's share is taken by a lock while it's used.
    """

    name: str
    device: str
    visible: str | None = None
    locked: bool = True


def visible_gpus() -> list[str]:
    """The GPUs that this process may use, as NVML names them (their UUIDs); empty where there is none."""
    try:
        import pynvml

        pynvml.nvmlInit()
        handles = [pynvml.nvmlDeviceGetHandleByIndex(i) for i in range(pynvml.nvmlDeviceGetCount())]
        uuids = [pynvml.nvmlDeviceGetUUID(handle) for handle in handles]
    except Exception:  # no library, no driver or no device: NVML has an exception for each
        return []
    uuids = [uuid.decode() if isinstance(uuid, bytes) else uuid for uuid in uuids]
    allowed = os.environ.get("CUDA_VISIBLE_DEVICES")
    if allowed is None:
        return uuids
    wanted = [word.strip() for word in allowed.split(",") if word.strip()]
    return [uuids[int(word)] if word.isdigit() and int(word) < len(uuids) else word for word in wanted if word != "-1"]


def threads_per_slot(default: int = 1) -> int:
    """Threads of one worker on a CPU: variable REPROZOO_THREADS, else 1, which gives the most per core on small networks."""
    text = os.environ.get("REPROZOO_THREADS", str(default))
    if not text.isdigit() or int(text) < 1:
        raise UserError(f"REPROZOO_THREADS is '{text}', expected a whole number from 1")
    return int(text)


def make_slots(slots_per_gpu: int, threads: int) -> list[Slot]:
    """One slot a GPU share; without a GPU one for every `threads` cores, as far as the memory goes, at least one."""
    gpus = visible_gpus()
    if gpus:
        return [Slot(f"gpu{i}.{k}", "cuda", uuid) for k in range(slots_per_gpu) for i, uuid in enumerate(gpus)]
    by_memory = psutil.virtual_memory().available // MEMORY_PER_SLOT
    return [Slot(f"cpu{i}", "cpu") for i in range(max(1, min(usable_cores() // threads, by_memory)))]


def enter(slot: Slot, threads: int) -> None:
    """What torch finds in the environment, here and in children: this slot's GPU, or no GPU and so many threads."""
    if slot.visible is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = slot.visible
    prepare_environment(slot.device, threads)


def usable_cores() -> int:
    """How many cores this process may use; inside SLURM's allocation no more than its, whether it binds processes or not."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    given = os.environ.get("SLURM_CPUS_ON_NODE", "")
    return min(cores, int(given)) if given.isdigit() else cores


# --- one submit ----------------------------------------------------------------------------------------------------------


@dataclass
class Work:
    """The jobs of one submit, and what is known of them while they run."""

    jobs: list[tuple[Job, JobPaths]]
    options: Options
    ended: set[Path] = field(default_factory=set)  # jobs of which nothing more is expected here

    def open_jobs(self) -> Iterator[tuple[Job, JobPaths, State]]:
        """The jobs that still have to end, with their states."""
        for job, paths in self.jobs:
            if paths.folder in self.ended:
                continue
            state = state_of(paths)
            tired = state in jobs.TO_RUN and jobs.given_up(paths, self.options.submission)
            if state in ("done", "failed") or tired or (state != "running" and paths.cancel.exists()):
                self.ended.add(paths.folder)
                continue
            yield job, paths, state

    def preferred(self, open_now: list[tuple[Job, JobPaths, State]]) -> list[tuple[Job, JobPaths, State]]:
        """Those of the open jobs to begin with."""
        return open_now

    def worth_waiting(self, open_now: list[tuple[Job, JobPaths, State]]) -> bool:
        """Whether to stay while no worker runs: also for a job that runs elsewhere, which may be killed there."""
        return bool(open_now)


def epochs_left(job: Job, paths: JobPaths) -> float:
    """How much of a job is still to do, in epochs times batches: longest first needs no more than an order."""
    done = (read_json(paths.lease) or {}).get("epoch", 0)
    return max((job.most_epochs or 1) - done, 0.1)


def choose_group(
    open_jobs: Sequence[tuple[Job, JobPaths, State]], busy: Sequence[tuple[str, str]]
) -> list[tuple[Job, JobPaths]]:
    """The jobs for a free slot: the group with the most left to do for each worker that it has or would have."""
    groups: dict[tuple[str, str], list[tuple[Job, JobPaths]]] = {}
    for job, paths, state in open_jobs:
        if state in jobs.TO_RUN:
            groups.setdefault((job.dataset, job.model), []).append((job, paths))

    def left(group: tuple[str, str]) -> float:
        return sum(epochs_left(job, paths) for job, paths in groups[group]) / (1 + busy.count(group))

    return groups[max(groups, key=left)] if groups else []


def run_inline(work: Work, slot: Slot, tick: Callable[[], None]) -> None:
    """Every job in this process, one after another: for debugging. Jobs that run elsewhere are left to where they run."""
    lock = _SlotLock(slot)
    if not lock.acquire():
        raise UserError(f"the slot {slot.name} is taken by another submit: wait for it, or use --slots-per-gpu 2")
    enter(slot, work.options.threads)
    while not work.options.stopping.is_set():
        group = choose_group(list(work.open_jobs()), [])
        if not group:
            break
        run_bundle([paths.folder for _, paths in group], work.options, own_process=False)
        tick()
    lock.release()


@dataclass
class _Child:
    slot: Slot
    group: tuple[str, str]
    process: subprocess.Popen[bytes]
    output: Path


def run_local(work: Work, slots: list[Slot], tick: Callable[[], None], warn: Callable[[str], None]) -> None:
    """A child per slot, until every job has ended or the submit is asked to stop (then each child saves a checkpoint)."""
    children: list[_Child] = []
    stillborn = 0  # workers in a row that died before they began a job
    free = [_SlotLock(slot) for slot in slots]
    taken: dict[int, _SlotLock] = {}
    told: set[Slot] = set()  # slots that others were said to have
    last_tick = 0.0
    try:
        while True:
            for child in [c for c in children if c.process.poll() is not None]:
                children.remove(child)
                free.append(taken.pop(child.process.pid).release())
                stillborn = stillborn + 1 if _died_between_jobs(child, work, warn) else 0
                if stillborn >= jobs.MAX_FAILURES:
                    raise UserError(f"{stillborn} workers in a row ended before they began a job; see {child.output}")
            if work.options.stopping.is_set():
                break
            open_now = list(work.open_jobs())
            if not children and not work.worth_waiting(open_now):
                return
            for lock in list(free):
                group = _claimable(work.preferred(open_now), children) or _claimable(open_now, children)
                if not group:
                    continue
                if not lock.acquire():
                    if lock.slot not in told:
                        warn(f"slot {lock.slot.name} is taken by another submit: waiting for it")
                        told.add(lock.slot)
                    continue
                child = _start(lock, group, work)
                free.remove(lock)
                taken[child.process.pid] = lock
                children.append(child)
            if time.monotonic() - last_tick > 5 * POLL_SECONDS:
                tick()
                last_tick = time.monotonic()
            time.sleep(POLL_SECONDS)
    finally:
        _stop(children, tick)
        for child in children:
            taken.pop(child.process.pid).release()


def _claimable(open_now: list[tuple[Job, JobPaths, State]], children: list[_Child]) -> list[tuple[Job, JobPaths]]:
    """The group for one more worker: jobs that wait, less one for each child that is still on its way to its first lock."""
    starting = [c.group for c in children if not _has_begun(c, open_now)]
    waiting = list(open_now)
    for group in starting:
        mine = next(
            (item for item in waiting if (item[0].dataset, item[0].model) == group and item[2] in jobs.TO_RUN), None
        )
        if mine is not None:
            waiting.remove(mine)
    return choose_group(waiting, [c.group for c in children])


def _has_begun(child: _Child, open_now: list[tuple[Job, JobPaths, State]]) -> bool:
    """Whether some running job says that this child runs it."""
    return any(state == "running" and _is_of((read_json(paths.lease) or {}), child) for _, paths, state in open_now)


def _is_of(line: dict[str, Any], child: _Child) -> bool:
    """Whether a lease or an attempt's start was written by this child: another host has the same pids."""
    return (line.get("host"), line.get("pid")) == (jobs.host(), child.process.pid)


def _start(lock: "_SlotLock", group: list[tuple[Job, JobPaths]], work: Work) -> _Child:
    """A worker on a bundle, in a session of its own: Ctrl-C and a closed terminal reach the submit alone."""
    slot, options = lock.slot, replace(work.options, device=lock.slot.device)
    environment = dict(os.environ)
    if slot.visible is not None:
        environment["CUDA_VISIBLE_DEVICES"] = slot.visible
    folders = [str(paths.folder) for _, paths in group]
    output = jobs.runs_folder() / "workers" / f"{options.submission[:8]}-{slot.name}.txt"
    output.parent.mkdir(parents=True, exist_ok=True)
    with output.open("ab") as target, signals_held_back():
        process = subprocess.Popen(
            [sys.executable, "-m", "runner.worker", *options.argv(), *folders],
            stdin=subprocess.DEVNULL,
            stdout=target,
            stderr=target,
            env=environment,
            start_new_session=True,
            pass_fds=lock.descriptors(),  # the slot stays taken for as long as the worker lives
        )
    return _Child(slot, (group[0][0].dataset, group[0][0].model), process, output)


def _died_between_jobs(child: _Child, work: Work, warn: Callable[[str], None]) -> bool:
    """Look at how a worker ended: leaves a failure for the job that it was running; True where it was running none."""
    code = child.process.returncode
    if code == 0:
        return False
    how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
    how += " (killed, perhaps by the system because memory was short: see `dmesg`)" * (code == -signal.SIGKILL)
    for job, paths in work.jobs:
        attempts = read_lines(paths.attempts)
        if not attempts or attempts[-1].get("event") != "start" or not _is_of(attempts[-1], child):
            continue
        note_death(paths, f"the worker ended by {how}", child.slot.name)
        warn(f"{job.key}: the worker on {child.slot.name} ended by {how}; log: {paths.log}")
        return False
    tail = child.output.read_text(errors="replace").splitlines()[-3:]
    warn(f"the worker on {child.slot.name} ended by {how} before it began a job: {' | '.join(tail)}")
    return True


def note_death(paths: JobPaths, what: str, where: str) -> bool:
    """Leave a failure of infrastructure for an attempt that began and never ended; False where there is none."""
    attempts = read_lines(paths.attempts)
    if not attempts or attempts[-1].get("event") != "start":
        return False
    note = {"kind": "infrastructure", "what": what, "where": where, "time": now_ms(), "log_tail": log_tail(paths)}
    with contextlib.suppress(OSError):
        write_atomically(paths.failure, canonical_json(note))
    return True


def _stop(children: list[_Child], tick: Callable[[], None]) -> None:
    """Ask every child for a checkpoint and wait for it; kill only what doesn't answer."""
    for child in children:
        with contextlib.suppress(ProcessLookupError):
            child.process.send_signal(signal.SIGTERM)
    deadline = time.monotonic() + STOP_PATIENCE
    while any(child.process.poll() is None for child in children) and time.monotonic() < deadline:
        tick()
        time.sleep(POLL_SECONDS)
    for child in children:
        if child.process.poll() is None:
            child.process.kill()
        child.process.wait()


class _SlotLock:
    """The lock of a GPU slot, per host and user, outside .runs: two clones share a GPU without collisions.

    Slots on a CPU have none: the system shares cores well.
    """

    def __init__(self, slot: Slot) -> None:
        self.slot = slot
        self._descriptor: int | None = None

    def acquire(self) -> bool:
        """Take the slot; False where another submit has it."""
        if self.slot.visible is None or not self.slot.locked:
            return True
        folder = Path(os.environ.get("REPROZOO_LOCKS") or Path(tempfile.gettempdir()) / f"reprozoo-{os.getuid()}")
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        share = self.slot.name.rpartition(".")[2]
        descriptor = os.open(folder / f"{self.slot.visible}.{share}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return False
        self._descriptor = descriptor
        return True

    def descriptors(self) -> tuple[int, ...]:
        """What a worker inherits, so that the slot is taken while either lives."""
        return () if self._descriptor is None else (self._descriptor,)

    def release(self) -> "_SlotLock":
        """Let the slot go."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
        return self
