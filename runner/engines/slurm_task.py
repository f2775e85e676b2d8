"""One task of an array: a small `local` engine on the resources of its allocation.

It runs its own bundle, then helps with the rest of the array, and ends when no job is left to start. Before the walltime
ends, or when it is preempted, its workers save checkpoints and the task is requeued.
"""

import os
import signal
import threading
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from benchmarks.errors import UserError
from benchmarks.plural import number
from runner.console import to_stderr
from runner.engines.local import Work, run_local
from runner.engines.slots import Slot, make_slots
from runner.engines.slurm_array import TaskArray, bundles_file, bundles_of
from runner.engines.slurm_queue import SlurmUnavailable, ask
from runner.files import read_json
from runner.jobs.find import read_jobs
from runner.jobs.paths import JobPaths, host
from runner.jobs.state import JobView, is_locked
from runner.worker.options import RunOptions


@dataclass
class TaskWork(Work):
    """The work of one task: its own bundle first, then any waiting job of the array."""

    own: frozenset[Path] = frozenset()
    _leases: dict[Path, Any] = field(default_factory=dict)

    def preferred(self, open_now: list[JobView]) -> list[JobView]:
        """Return the task's own jobs while one of them waits, else all."""
        own = [view for view in open_now if view.paths.folder in self.own]
        return own if any(view.waits for view in own) else open_now

    def has_work(self, open_now: list[JobView]) -> bool:
        """Return whether a job may still start here: a waiting job, or an own job whose lease is no longer renewed.

        A lost node leaves its lease behind, which is valid for three minutes; its task is requeued immediately. Jobs that
        really run elsewhere are left alone.
        """
        return any(
            view.waits or (view.paths.folder in self.own and self._lease_is_stale(view.paths)) for view in open_now
        )

    def _lease_is_stale(self, paths: JobPaths) -> bool:
        lease = (read_json(paths.lease) or {}).get("time")
        return not is_locked(paths) and self._leases.setdefault(paths.folder, lease) == lease


def run_task(root: str, name: str, index: int) -> None:
    """Run one task of the array, called by submitit: a `local` engine on its allocation. Raise UserError without its GPU."""
    os.environ["REPROZOO_ROOT"] = root
    array = TaskArray.read(bundles_file(name))
    options, stopping = array.options, threading.Event()
    # Sent on preemption and close to the walltime. These handlers replace submitit's.
    for signal_number in (signal.SIGTERM, signal.SIGUSR2):
        signal.signal(signal_number, lambda *_: stopping.set())
    bundles = bundles_of(name)
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
    jobs, problems = read_jobs(JobPaths(folder) for bundle in order for folder in bundle)
    for line in problems:
        to_stderr(line)
    work = TaskWork(jobs, options, stopping, own=frozenset(bundles[index]))
    run_local(work, slots, tick=lambda: None, warn=to_stderr)
    if stopping.is_set() and any(view.waits for view in work.open_jobs()):
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
