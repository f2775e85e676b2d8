"""The engine `slurm`: an array of tasks through submitit, one task per bundle, and the state of SLURM's queue.

A task is a small `local` engine on the resources of its allocation. It runs its own bundle, then helps with the rest of the
array, and ends when no job is left to start. Before the walltime ends, or when it is preempted, its workers save
checkpoints and the task is requeued. Job states come from the jobs' files; the queue only tells whether a task that will
run a job is still in it. The jobs of each task are in .runs/slurm/NAME/bundles.json, written before sbatch, and NAME is the
array's name in SLURM. A submit killed between the two leaves nothing inconsistent.
"""

import contextlib
import io
import os
import secrets
import shlex
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.checkout import root
from benchmarks.errors import UserError
from benchmarks.plural import number
from benchmarks.records import Job
from runner.console import to_stderr
from runner.data.folder import data_folder
from runner.engines.config import Slurm, walltime_seconds
from runner.engines.local import Work, epochs_left, record_crash, run_local
from runner.engines.slots import Slot, make_slots
from runner.files import read_json
from runner.jobs.find import read_jobs
from runner.jobs.paths import JobPaths, host, runs_folder
from runner.jobs.state import MAX_FAILURES, TO_RUN, State, is_locked, starts_of, state_of
from runner.locks import locked_within
from runner.sources import child_variables, python
from runner.worker.options import JsonModel, RunOptions

if TYPE_CHECKING:
    from submitit import SlurmExecutor

QUERY_SECONDS = 15.0  # how often a following submit reads the queue
LOST_SECONDS = 45.0  # a job missing from the queue for so long is queued again; shared files appear late
SIGNAL_SECONDS = 120  # before the walltime ends; SLURM may give the signal up to a minute earlier
NAME = "reprozoo-"
# States of a task from which SLURM doesn't bring it back.
ENDED = {
    *("BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED"),
    *("REVOKED", "TIMEOUT"),
}


class SlurmUnavailable(Exception):
    """SLURM's commands are missing or its controller does not answer; the message says which in one line."""


def ask(*command: str) -> str:
    """Return the output of a SLURM command; raise SlurmUnavailable if it fails or takes more than 60 s."""
    try:
        process = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    except FileNotFoundError as error:
        raise SlurmUnavailable(f"{command[0]} is not installed on this machine") from error
    except subprocess.TimeoutExpired as error:
        raise SlurmUnavailable(f"{command[0]} did not answer within a minute") from error
    if process.returncode:
        output_lines = (process.stderr or process.stdout).strip().splitlines() or [f"exit code {process.returncode}"]
        raise SlurmUnavailable(f"{command[0]}: {output_lines[-1]}")
    return process.stdout.strip()


# --- the queue ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Task:
    """One task in the queue: its id ('17_3'), its state and SLURM's reason."""

    id: str
    state: str
    reason: str

    @property
    def alive(self) -> bool:
        """Return whether it runs or will run."""
        return self.state not in ENDED

    def __str__(self) -> str:
        return f"SLURM {self.id} {self.state.lower()}" + (f", {self.reason}" if self.reason != "None" else "")


class TaskArray(JsonModel):
    """The content of bundles.json: what the tasks of an array need, with bundles by task index."""

    options: RunOptions
    bundles: tuple[tuple[str, ...], ...]  # folders below .runs
    slots_per_gpu: int
    gpus: int  # requested by each task


def _bundles(name: str) -> list[list[Path]]:
    """Return the job folders of each task of an array, by task index."""
    content = read_json(runs_folder() / "slurm" / name / "bundles.json") or {}
    return [[runs_folder() / key for key in bundle] for bundle in content.get("bundles", [])]


def tasks_of_jobs() -> dict[Path, Task]:
    """Return the task whose own bundle contains each job, by job folder: a live one, else the last that ended recently.

    Runs no command if no array was ever queued here. Raise SlurmUnavailable.
    """
    if not (runs_folder() / "slurm").is_dir():
        return {}
    tasks: dict[Path, Task] = {}
    bundles: dict[str, list[list[Path]]] = {}
    listing = ask("squeue", "--noheader", "--me", "--array", "--states=all", "--sort=i", "--format=%j|%F|%K|%T|%r")
    for line in listing.splitlines():
        name, array, index, state, reason = line.split("|", 4)
        if not name.startswith(NAME):
            continue
        mine = bundles.setdefault(name, _bundles(name))
        position = int(index) if index.isdigit() else 0
        task = Task(f"{array}_{index}" if index.isdigit() else array, state, reason)
        for folder in mine[position] if position < len(mine) else []:
            if task.alive or folder not in tasks or not tasks[folder].alive:
                tasks[folder] = task
    return tasks


def scancel_stopped() -> None:
    """Cancel the waiting tasks whose own jobs are all done or stopped. Raise SlurmUnavailable.

    Running tasks read the stop request themselves at the next step.
    """
    is_needed: dict[str, bool] = {}
    for folder, task in tasks_of_jobs().items():
        paths = JobPaths(folder)
        if task.state == "PENDING":
            is_needed[task.id] = is_needed.get(task.id, False) or not (paths.stop.exists() or paths.record.exists())
    needless = [id_ for id_, needed in is_needed.items() if not needed]
    if needless:
        ask("scancel", "--state=PENDING", *needless)


# --- queueing ----------------------------------------------------------------------------------------------------------


def make_bundles(waiting: Iterable[tuple[Job, JobPaths]], most: int) -> list[list[JobPaths]]:
    """Return the bundles of an array, longest first: each of one (dataset, model), of nearly equal size, about `most` in all.

    If there are at most `most` jobs, each bundle is one job. Then each task has work, however many SLURM runs in parallel.
    """
    ordered = sorted(waiting, key=lambda pair: (pair[0].dataset, pair[0].model))
    size = -(-len(ordered) // most)
    bundles: list[list[tuple[Job, JobPaths]]] = []
    for _, group in groupby(ordered, key=lambda pair: (pair[0].dataset, pair[0].model)):
        members = list(group)
        bundles += [members[start : start + size] for start in range(0, len(members), size)]
    bundles.sort(key=lambda bundle: -sum(epochs_left(job, paths) for job, paths in bundle))
    return [[paths for _, paths in bundle] for bundle in bundles]


def sbatch_options(engine: Slurm) -> dict[str, Any]:
    """Return the sbatch options of an engine, without dashes."""
    options = {
        "partition": engine.partition,
        "account": engine.account,
        "gpus-per-node": engine.gpus or None,
        "cpus-per-task": engine.cpus,
        "mem": engine.memory,
        "time": engine.walltime,
        "requeue": True,
    }
    return {name: value for name, value in (options | engine.extra).items() if value not in (None, False)}


def signal_seconds(engine: Slurm) -> int:
    """Return how many seconds before the walltime the workers are signalled: 120, or a quarter of a short walltime."""
    return min(SIGNAL_SECONDS, walltime_seconds(engine.walltime) // 4) if engine.walltime else SIGNAL_SECONDS


def executor_for(engine: Slurm, name: str, folder: Path) -> "SlurmExecutor":
    """Return submitit's executor with the engine's options, for an array of this name; its files go to `folder`.

    Raise UserError if SLURM is not installed.
    """
    from submitit import SlurmExecutor

    try:
        executor = SlurmExecutor(folder, python=shlex.join(python()))
    except RuntimeError as error:
        raise UserError(
            "SLURM is not installed on this machine (no srun): submit on a login node, or use --engine local"
        ) from error
    exports = [f"export {name}={shlex.quote(value)}" for name, value in child_variables().items()]
    cores = [f"--cpus-per-task={engine.cpus}"] if engine.cpus else []  # srun does not inherit it from sbatch
    executor.update_parameters(
        job_name=name,
        time=None,  # override submitit's defaults, so that SLURM's apply
        wckey=None,
        signal_delay_s=signal_seconds(engine),
        stderr_to_stdout=True,
        array_parallelism=engine.tasks,
        setup=[*exports, *engine.setup],
        srun_args=cores,
        additional_parameters=sbatch_options(engine),
    )
    return executor


def queue_with(executor: "SlurmExecutor", calls: Sequence[tuple[Any, ...]]) -> list[str]:
    """Queue one array of these calls (function, arguments); return the task ids. Raise UserError if sbatch refuses them."""
    from submitit.core.utils import FailedJobError, FailedSubmissionError

    try:
        with contextlib.redirect_stderr(io.StringIO()), executor.batch():  # submitit also prints the errors it raises
            submitted_jobs = [executor.submit(*call) for call in calls]
    except (FailedJobError, FailedSubmissionError) as error:
        error_lines = [line for line in str(error).splitlines() if line.startswith("sbatch:")] or str(
            error
        ).splitlines()
        raise UserError(f"SLURM rejects the tasks: {error_lines[-1]}") from error
    return [job.job_id for job in submitted_jobs]


@dataclass
class Queue:
    """The jobs of one submit in SLURM's queue."""

    engine: Slurm
    options: RunOptions
    _missing: dict[Path, float] = field(default_factory=dict)  # when a job was first missing from the queue
    _rounds: Counter[Path] = field(default_factory=Counter)  # how often it was queued without a new attempt
    _attempts: dict[Path, int] = field(default_factory=dict)  # how many it had when it was last queued
    _away: bool = False  # it was reported that SLURM doesn't answer

    def queue(self, open_now: Sequence[tuple[Job, JobPaths, State]]) -> str:
        """Queue the waiting jobs that no live task has, and say what was done. Raise SlurmUnavailable or sbatch's UserError."""
        with locked_within(runs_folder() / "slurm.lock", 60.0) as held:  # two submits in parallel queue no job twice
            if not held:
                raise SlurmUnavailable("another submit of this checkout has held the queue's lock for a minute")
            tasks = tasks_of_jobs()
            waiting = [
                (job, paths)
                for job, paths, state in open_now
                if state in TO_RUN and not (paths.folder in tasks and tasks[paths.folder].alive)
            ]
            already = sum(state in TO_RUN for *_, state in open_now) - len(waiting)
            parts = [f"{already} already in SLURM's queue"] * bool(already)
            if waiting:
                bundles = make_bundles(waiting, self.engine.tasks)
                id_, log = self._sbatch(bundles)
                tasks_text = number(len(bundles), "task")
                parts.insert(0, f"{len(waiting)} queued as SLURM job {id_} ({tasks_text}; output in {log})")
        return ", ".join(parts)

    def _sbatch(self, bundles: list[list[JobPaths]]) -> tuple[str, Path]:
        for bundle in bundles:
            for paths in bundle:
                self._count_round(paths)
        name = f"{NAME}{self.options.submission}-{secrets.token_hex(2)}"
        executor = executor_for(self.engine, name, runs_folder() / "slurm" / name)
        keys = [[str(paths.folder.relative_to(runs_folder())) for paths in bundle] for bundle in bundles]
        # A node may not inherit our environment; each task finds its device itself.
        changes = {"data_dir": data_folder(self.options.data_dir)}
        array = TaskArray(
            options=self.options.model_copy(update=changes),
            bundles=tuple(tuple(bundle) for bundle in keys),
            slots_per_gpu=self.engine.slots_per_gpu,
            gpus=self.engine.gpus,
        )
        array.write(executor.folder / "bundles.json")
        calls = [(run_task, str(root()), name, index) for index in range(len(keys))]
        return queue_with(executor, calls)[0].split("_")[0], executor.folder

    def _count_round(self, paths: JobPaths) -> None:
        """Count that a job is queued once more; raise UserError after MAX_FAILURES rounds in which it did not start."""
        attempts = len(starts_of(paths))
        before = self._rounds[paths.folder] if self._attempts.get(paths.folder) == attempts else 0
        self._rounds[paths.folder], self._attempts[paths.folder] = before + 1, attempts
        if before >= MAX_FAILURES:
            raise UserError(
                f"SLURM tasks ended {before} times in a row before they started {paths.name}; "
                f"see the newest *_log.out in {runs_folder() / 'slurm'}"
            )

    def follow(self, work: Work, tick: Callable[[], None], warn: Callable[[str], None]) -> None:
        """Wait until every job has ended or the submit is asked to stop. The tasks run without it."""
        last_query = time.monotonic()
        while not work.stopping.is_set() and any(True for _ in work.open_jobs()):
            if time.monotonic() - last_query > QUERY_SECONDS:
                self.requeue_lost(work, warn)
                last_query = time.monotonic()
            tick()
            work.stopping.wait(1.0)

    def requeue_lost(self, work: Work, warn: Callable[[str], None]) -> None:
        """Queue lost jobs again: waiting jobs whose task has been gone for LOST_SECONDS without being cancelled."""
        open_now = list(work.open_jobs())
        try:
            tasks = tasks_of_jobs()
            lost = [item for item in open_now if item[2] in TO_RUN and self._is_lost(item[1], tasks, work, warn)]
            if lost:
                for job, paths, _ in lost:
                    if record_crash(
                        paths,
                        "its SLURM task ended without an error message: node lost, killed, or out of memory",
                        "SLURM",
                    ):
                        warn(f"{job.key}: its SLURM task ended without an error message; log: {paths.log}")
                summary = self.queue([(job, paths, state_of(paths)) for job, paths, _ in lost])
                if summary:
                    warn(f"SLURM lost {number(len(lost), 'job')}: {summary}")
            self._away = False
        except SlurmUnavailable as error:
            if not self._away:
                warn(f"SLURM does not answer ({error}); its tasks continue, and the query is repeated")
            self._away = True

    def _is_lost(self, paths: JobPaths, tasks: dict[Path, Task], work: Work, warn: Callable[[str], None]) -> bool:
        task = tasks.get(paths.folder)
        if task is not None and task.alive:
            self._missing.pop(paths.folder, None)
            return False
        if task is not None and task.state == "CANCELLED":
            work.ended.add(paths.folder)
            warn(
                f"{paths.read_job().key}: its task {task.id} was cancelled in SLURM, so this submit does not queue it again"
            )
            return False
        since = self._missing.setdefault(paths.folder, time.monotonic())
        return time.monotonic() - since >= LOST_SECONDS


# --- in a task ---------------------------------------------------------------------------------------------------------


@dataclass
class TaskWork(Work):
    """The work of one task: its own bundle first, then any waiting job of the array."""

    own: frozenset[Path] = frozenset()
    _leases: dict[Path, Any] = field(default_factory=dict)

    def preferred(self, open_now: list[tuple[Job, JobPaths, State]]) -> list[tuple[Job, JobPaths, State]]:
        """Return the task's own jobs while one of them waits, else all."""
        own = [item for item in open_now if item[1].folder in self.own]
        return own if any(state in TO_RUN for *_, state in own) else open_now

    def has_work(self, open_now: list[tuple[Job, JobPaths, State]]) -> bool:
        """Return whether a job may still start here: a waiting job, or an own job whose lease is no longer renewed.

        A lost node leaves its lease behind, which is valid for three minutes; its task is requeued immediately. Jobs that
        really run elsewhere are left alone.
        """
        return any(
            state in TO_RUN or (paths.folder in self.own and self._lease_is_stale(paths))
            for _, paths, state in open_now
        )

    def _lease_is_stale(self, paths: JobPaths) -> bool:
        lease = (read_json(paths.lease) or {}).get("time")
        return not is_locked(paths) and self._leases.setdefault(paths.folder, lease) == lease


def run_task(root: str, name: str, index: int) -> None:
    """Run one task of the array, called by submitit: a `local` engine on its allocation. Raise UserError without its GPU."""
    os.environ["REPROZOO_ROOT"] = root
    array = TaskArray.read(runs_folder() / "slurm" / name / "bundles.json")
    options, stopping = array.options, threading.Event()
    # Sent on preemption and close to the walltime. These handlers replace submitit's.
    for signal_number in (signal.SIGTERM, signal.SIGUSR2):
        signal.signal(signal_number, lambda *_: stopping.set())
    bundles = _bundles(name)
    slots = _slots(array.slots_per_gpu, options)
    if array.gpus and slots[0].device == "cpu":
        raise UserError(
            f"{host()}: {number(array.gpus, 'GPU')} requested, but NVML finds none: check the node's driver"
        )
    where = ", ".join(f"{slot.name} on {slot.visible or slot.device}" for slot in slots)
    print(
        f"task {task_id()} on {host()}, start {1 + int(os.environ.get('SLURM_RESTART_COUNT') or 0)}: "
        f"CUDA_VISIBLE_DEVICES={os.environ.get('CUDA_VISIBLE_DEVICES', '')}; {where}",
        flush=True,
    )
    order = bundles[index:] + bundles[:index]
    pairs, problems = read_jobs(JobPaths(folder) for bundle in order for folder in bundle)
    for line in problems:
        to_stderr(line)
    work = TaskWork(pairs, options, stopping, own=frozenset(bundles[index]))
    run_local(work, slots, tick=lambda: None, warn=to_stderr)
    if stopping.is_set() and any(state in TO_RUN for *_, state in work.open_jobs()):
        requeue_if_running()


def _slots(slots_per_gpu: int, options: RunOptions) -> list[Slot]:
    """Return the slots of the allocation. They need no locks, because SLURM decides who shares a GPU."""
    slots = make_slots(slots_per_gpu, options.threads, options.device, lambda line: print(line, flush=True))
    return [replace(slot, locked=False) for slot in slots]


def task_id() -> str:
    """Return this task's id as in SLURM's commands: '17_3', or '17' if it is not in an array."""
    array = os.environ.get("SLURM_ARRAY_JOB_ID")
    return f"{array}_{os.environ['SLURM_ARRAY_TASK_ID']}" if array else os.environ["SLURM_JOB_ID"]


def requeue_if_running() -> None:
    """Requeue this task, unless SLURM has already decided: a cancelled task must not return.

    A task that was preempted without a grace time is already requeued and no longer RUNNING.
    """
    try:
        state = ask("squeue", "--noheader", f"--jobs={task_id()}", "--format=%T")
        if state == "RUNNING":
            ask("scontrol", "requeue", task_id())
        end = "requeued" if state == "RUNNING" else f"not requeued, because its state in SLURM is {state or 'unknown'}"
        print(f"stopped after checkpoints; {end}", flush=True)
    except SlurmUnavailable as error:
        to_stderr(f"stopped after checkpoints; can't be requeued: {error}")
