"""The engine `slurm`: queue an array of tasks through submitit, one task per bundle, and follow it.

Job states come from the jobs' files. The queue only tells whether a task that will run a job is still in it. bundles.json is
written before sbatch, so a submit killed between the two leaves nothing inconsistent.
"""

import contextlib
import io
import secrets
import shlex
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.checkout import root
from benchmarks.errors import UserError
from benchmarks.plural import number
from runner.data.folder import data_folder
from runner.engines.config import Slurm, walltime_seconds
from runner.engines.local import Work, by_group, epochs_left, record_crash
from runner.engines.slurm_array import NAME, TaskArray, arrays_folder, bundles_file
from runner.engines.slurm_queue import QUERY_SECONDS, SlurmUnavailable, Task, tasks_of_jobs
from runner.engines.slurm_task import run_task
from runner.jobs.attempts import MAX_FAILURES, Attempts
from runner.jobs.paths import JobPaths, PlannedJob, runs_folder
from runner.jobs.state import JobView
from runner.locks import locked_within
from runner.sources import child_variables, python
from runner.worker.options import RunOptions

if TYPE_CHECKING:
    from submitit import SlurmExecutor

LOST_SECONDS = 45.0  # a job missing from the queue for so long is queued again; shared files appear late
SIGNAL_SECONDS = 120  # before the walltime ends; SLURM may give the signal up to a minute earlier


def make_bundles(waiting: Iterable[PlannedJob], most: int) -> list[list[JobPaths]]:
    """Return the bundles of an array, longest first: each of one (dataset, model), of nearly equal size, about `most` in all.

    If there are at most `most` jobs, each bundle is one job. Then each task has work, however many SLURM runs in parallel.
    """
    groups = by_group(waiting)
    size = -(-sum(map(len, groups.values())) // most)
    bundles: list[list[PlannedJob]] = []
    for _, members in sorted(groups.items()):
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
class SlurmJobs:
    """The jobs of one submit in SLURM's queue."""

    engine: Slurm
    options: RunOptions
    _missing: dict[Path, float] = field(default_factory=dict)  # when a job was first missing from the queue
    _rounds: Counter[Path] = field(default_factory=Counter)  # how often it was queued without a new attempt
    _attempts: dict[Path, int] = field(default_factory=dict)  # how many it had when it was last queued
    _away: bool = False  # it was reported that SLURM doesn't answer

    def queue_waiting(self, open_now: Sequence[JobView]) -> str:
        """Queue the waiting jobs that no live task has, and say what was done. Raise SlurmUnavailable or sbatch's UserError."""
        with locked_within(runs_folder() / "slurm.lock", 60.0) as held:  # two submits in parallel queue no job twice
            if not held:
                raise SlurmUnavailable("another submit of this checkout has held the queue's lock for a minute")
            tasks = tasks_of_jobs()
            queued_before = {folder for folder, task in tasks.items() if task.alive}
            waiting = [view for view in open_now if view.waits]
            to_queue = [PlannedJob(view.job, view.paths) for view in waiting if view.paths.folder not in queued_before]
            already = len(waiting) - len(to_queue)
            parts = []
            if to_queue:
                bundles = make_bundles(to_queue, self.engine.tasks)
                id_, log = self._sbatch(bundles)
                tasks_text = number(len(bundles), "task")
                parts.append(f"{len(to_queue)} queued as SLURM job {id_} ({tasks_text}; output in {log})")
            if already:
                parts.append(f"{already} already in SLURM's queue")
        return ", ".join(parts)

    def _sbatch(self, bundles: list[list[JobPaths]]) -> tuple[str, Path]:
        for bundle in bundles:
            for paths in bundle:
                self._count_round(paths)
        name = f"{NAME}{self.options.submission}-{secrets.token_hex(2)}"
        executor = executor_for(self.engine, name, bundles_file(name).parent)
        keys = [[str(paths.folder.relative_to(runs_folder())) for paths in bundle] for bundle in bundles]
        # A node may not inherit our environment; each task finds its device itself.
        changes = {"data_dir": data_folder(self.options.data_dir)}
        array = TaskArray(
            options=self.options.model_copy(update=changes),
            bundles=tuple(tuple(bundle) for bundle in keys),
            slots_per_gpu=self.engine.slots_per_gpu,
            gpus=self.engine.gpus,
        )
        array.write(bundles_file(name))
        calls = [(run_task, str(root()), name, index) for index in range(len(keys))]
        return queue_with(executor, calls)[0].split("_")[0], executor.folder

    def _count_round(self, paths: JobPaths) -> None:
        """Count that a job is queued once more; raise UserError after MAX_FAILURES rounds in which it did not start."""
        attempts = len(Attempts.read(paths).starts)
        before = self._rounds[paths.folder] if self._attempts.get(paths.folder) == attempts else 0
        self._rounds[paths.folder], self._attempts[paths.folder] = before + 1, attempts
        if before >= MAX_FAILURES:
            raise UserError(
                f"SLURM tasks ended {before} times in a row before they started {paths.name}; "
                f"see the newest *_log.out in {arrays_folder()}"
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
            lost = [view for view in open_now if view.waits and self._is_lost(view.paths, tasks, work, warn)]
            if lost:
                for job, paths, _ in lost:
                    if record_crash(
                        paths,
                        "its SLURM task ended without an error message: node lost, killed, or out of memory",
                        "SLURM",
                    ):
                        warn(f"{job.key}: its SLURM task ended without an error message; log: {paths.log}")
                summary = self.queue_waiting([JobView.of(PlannedJob(job, paths)) for job, paths, _ in lost])
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
