"""Run one submit from its plan to its last line, for `runner submit` and `runner retry`."""

import contextlib
import os
import secrets
import signal
import sys
from collections.abc import Callable, Collection, Sequence
from datetime import UTC, datetime
from types import FrameType
from typing import TYPE_CHECKING, Any

from rich.console import Console

from benchmarks.errors import UserError
from benchmarks.records import Job, utc
from benchmarks.suites import SUITES
from runner.console import redirect
from runner.engines.config import EngineSettings, Slurm
from runner.engines.local import Work, run_inline, run_local
from runner.engines.slots import Slot, threads_per_slot
from runner.jobs.attempts import Attempts, Failure, FailureKind
from runner.jobs.find import record_submission
from runner.jobs.paths import JobPaths, PlannedJob, host, job_lock, output_file
from runner.jobs.state import JobView, State, state_of, status_json, submit_lock
from runner.locks import locked_within
from runner.sources import source
from runner.submit.preview import Settings, is_retried, plan_line, same_as_reference_lines
from runner.submit.progress import Progress
from runner.tracking.background import BackgroundSync
from runner.tracking.store import how_to_see, is_behind, mark_behind
from runner.worker.options import submitter

if TYPE_CHECKING:
    from runner.engines.slurm import SlurmJobs

KIND_TEXTS: dict[FailureKind, str] = {
    "model": "the model's own failure",
    "refused": "a resume that needs your decision",
    "outdated": "a job from an older version",
    "infrastructure": "an infrastructure failure",
    "unknown": "an infrastructure failure",
}


def check_data(planned: Sequence[Job], settings: Settings, say: Callable[[str], object]) -> None:
    """Load every data set once before anything starts, so that a missing or unofficial file raises UserError here."""
    from runner.data import cache
    from runner.data.folder import data_folder

    folder = data_folder(settings.options.data_dir)
    for name in dict.fromkeys(job.dataset for job in planned):
        cache.load(name, folder, settings.options.allow_unverified_data, say)


def run(
    planned: Sequence[Job],
    suite: str,
    settings: Settings,
    console: Console,
    *,
    restart: bool = False,
    sequential: Collection[str] = (),
) -> int:
    """Run jobs to their end and print the result. Return the exit code: 0, 1 (a job failed), 130 or 143 (stopped).

    With `restart`, old files of the jobs move to old/ first, after all checks have passed. `sequential` are the fingerprints
    of jobs that are run because the earlier seeds did not decide the verdict.
    """
    engine, submitted_by = settings.engine_settings(), submitter()
    source()  # raises for modules of another checkout, or a commit that a record cannot store
    jobs = [PlannedJob.of(job) for job in planned]
    states: list[State] = ["pending" if restart else state_of(paths) for _, paths in jobs]
    threads = threads_per_slot()
    slots = settings.slots()
    for line in (*same_as_reference_lines(planned, slots), plan_line(planned, states, settings, slots)):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    waiting = [job for job, state in zip(planned, states, strict=True) if state != "done"]
    if waiting:
        if engine.kind == "slurm":
            _check_slurm()
        check_data(waiting, settings, lambda line: console.print(line, style="dim", highlight=False, soft_wrap=True))
        datasets = [job.dataset for job in planned]
        console.print(f"MLflow: {how_to_see(datasets)}", style="dim", highlight=False, soft_wrap=True)

    submission = secrets.token_hex(8)
    with submit_lock():
        _write_jobs(jobs, states, suite, settings, submission, restart, sequential)
        if not waiting:
            if is_behind():  # an earlier submit was killed, or left its jobs to SLURM
                done = [paths for _, paths in jobs]
                with BackgroundSync(done, warn=lambda line: console.print(line, markup=False)):
                    pass
            return _print_end(jobs, suite, settings, console, [])
        here = {
            "device": slots[0].device if slots else settings.options.device,
            "threads": threads,
            "submission": submission,
            "submitted_by": submitted_by,
            "on_other_device": engine.on_other_device,
        }
        work = Work(jobs, settings.options.model_copy(update=here))
        in_slurm = _queue_in_slurm(work, engine, console) if isinstance(engine, Slurm) else None
        if in_slurm is not None and not settings.follow:
            mark_behind()
            if settings.json:
                sys.stdout.write(status_json(map(JobView.of, jobs)))
            console.print("Next: runner status --watch; runner sync updates MLflow", soft_wrap=True)
            return 0
        received = _run_to_end(work, in_slurm, engine, slots, console)
        return _print_end(jobs, suite, settings, console, received)


def _run_to_end(
    work: Work, in_slurm: "SlurmJobs | None", engine: EngineSettings, slots: list[Slot], console: Console
) -> list[int]:
    """Run the jobs, or follow them in SLURM, and show progress; return the stop signals that were received."""
    on_stop = "stopped following the jobs ..." if in_slurm else "stopping: each worker saves a checkpoint first ..."
    with (
        Progress(work.jobs, console) as progress,
        _signals(work, progress, on_stop) as received,
        BackgroundSync([paths for _, paths in work.jobs], warn=progress.say),
    ):
        if in_slurm is not None:
            in_slurm.follow(work, progress.tick, progress.say)
        elif engine.kind == "inline":
            run_inline(work, slots[0], progress.tick, progress.say)
        else:
            run_local(work, slots, progress.tick, progress.say)
    return received


def _write_jobs(
    jobs: Sequence[PlannedJob],
    states: Sequence[State],
    suite: str,
    settings: Settings,
    submission: str,
    restart: bool,
    sequential: Collection[str],
) -> None:
    """Write the jobs and this submission to .runs; raise UserError for a running job that should restart."""
    for (job, paths), state in zip(jobs, states, strict=True):
        paths.write_job(job)
        if state == "done":
            with locked_within(paths.lock, 0) as held:
                if held:
                    paths.tidy()
            continue
        paths.stop.unlink(missing_ok=True)
        if restart:
            with job_lock(paths) as held:
                if not held:
                    raise UserError(f"{job.key} is running: stop it first with `runner stop`")
                paths.archive()
        elif is_retried(paths, state, settings):
            with job_lock(paths) as held:
                if held:  # otherwise another submit is running it
                    paths.archive(only=paths.failure)
    record_submission(
        {
            "time": utc(datetime.now(UTC)),
            "submission": submission,
            "suite": suite,
            "fingerprints": [job.fingerprint for job, _ in jobs],
            "host": host(),
            "pid": os.getpid(),
        }
        | ({"sequential": sorted(sequential)} if sequential else {})
    )


def _check_slurm() -> None:
    """Raise UserError if SLURM does not answer, before anything is written."""
    from runner.engines import slurm_queue

    try:
        slurm_queue.ask("squeue", "--noheader", "--me", "--states=running", "--format=%i")
    except slurm_queue.SlurmUnavailable as error:
        raise UserError(f"SLURM does not answer: {error}; to find the cause: runner doctor --engine slurm") from error


def _queue_in_slurm(work: Work, engine: Slurm, console: Console) -> "SlurmJobs":
    """Queue what no task has yet; raise UserError if SLURM refuses it or does not answer."""
    from runner.engines import slurm, slurm_queue

    in_slurm = slurm.SlurmJobs(engine, work.options)
    try:
        summary = in_slurm.queue_waiting(list(work.open_jobs()))
    except slurm_queue.SlurmUnavailable as error:
        raise UserError(f"SLURM does not answer: {error}; the same command queues the remaining jobs") from error
    console.print(summary, highlight=False, soft_wrap=True)
    return in_slurm


@contextlib.contextmanager
def _signals(work: Work, progress: Progress, on_stop: str) -> Any:
    """Handle signals: Ctrl-C and SIGTERM print `on_stop` and stop the work; SIGHUP only detaches the terminal.

    Yield the list of the stop signals received so far.
    """
    received: list[int] = []

    def stop(number: int, _frame: FrameType | None) -> None:
        received.append(number)
        work.stopping.set()
        if len(received) == 1:
            progress.say(on_stop)

    def leave_terminal(_number: int, _frame: FrameType | None) -> None:
        """Redirect the streams before anything is printed, because a write to a closed terminal raises."""
        redirect((1, 2), output_file())
        progress.detach()

    handlers = {signal.SIGINT: stop, signal.SIGTERM: stop, signal.SIGHUP: leave_terminal}
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _print_end(
    jobs: Sequence[PlannedJob], suite: str, settings: Settings, console: Console, received: list[int]
) -> int:
    """Print the end of a submit: failures with their logs, and the next command. Return the exit code."""
    views = [JobView.of(planned) for planned in jobs]
    states = [view.state for view in views]
    if settings.json:
        sys.stdout.write(status_json(views))
    # Includes jobs that were given up when the disk had no room for failure.json.
    failed = [view for view in views if view.state == "failed" or (view.waits and Attempts.read(view.paths).given_up)]
    for view in failed:
        explain_failure(view.job, view.paths, console)
    done = states.count("done")
    line = f"{done} of {len(views)} done"
    if received:
        end = "stopped. The same command continues from the checkpoints."
        if settings.engine_settings().kind == "slurm":
            which = f"--suite {suite}" if suite in SUITES else " ".join(view.job.key for view in views)
            end = f"SLURM continues with the other jobs. The same command follows them; runner stop {which} stops them."
        console.print(f"{line}; {end}", highlight=False, soft_wrap=True)
        return 128 + received[0]
    if failed:
        again = "runner retry --failed" if "failed" in states else "the same command"
        console.print(f"{line}, {len(failed)} failed; after fixing the cause: {again}", highlight=False, soft_wrap=True)
        return 1
    if done < len(views):
        running = states.count("running")
        others = f"{running} running elsewhere (runner status)" if running else "the other jobs were stopped"
        console.print(f"{line}, {others}; the same command continues with the rest", highlight=False, soft_wrap=True)
        return 0
    next_step = f" Next: runner report --suite {suite}" if suite in SUITES else ""
    console.print(f"{line}.{next_step}", highlight=False, soft_wrap=True)
    return 0


def explain_failure(job: Job, paths: JobPaths, console: Console) -> None:
    """Print a failed job: key, what failed and where, the log's path and its last lines."""
    failure = Failure.read(paths) or Failure("infrastructure")
    what = failure.what or "ended several times without an error message; is the disk full?"
    lines = [
        f"✗ {job.key}: {what}",
        f"  {KIND_TEXTS[failure.kind]}, at {failure.where}; log: {paths.log}",
        *(f"  | {line}" for line in failure.log_tail[-8:]),
    ]
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)
