"""Commands about the jobs of this checkout: status, logs, stop, retry, sync; and doctor, which checks the machine."""

import sys
import time
from typing import TYPE_CHECKING, Annotated

import typer

from benchmarks.errors import UserError
from runner.commands.shared import (
    AnySuite,
    DataDir,
    Device,
    DeviceOption,
    EngineOption,
    JsonOption,
    ModelsOption,
    SlotsOption,
    Unverified,
    make_console,
    settings_from,
    submitted,
)

if TYPE_CHECKING:
    from runner.jobs.state import JobView


def status(
    suite: AnySuite = None,
    watch: Annotated[bool, typer.Option("--watch", help="Refresh until no job runs or waits in a queue.")] = False,
    json_: JsonOption = False,
) -> None:
    """Show the jobs submitted in this checkout, with their states and progress."""
    from runner.jobs.state import status_json
    from runner.submit.status import status_text
    from runner.submit.watch import QueueView

    if json_:
        sys.stdout.write(status_json(_read_views(suite)))
    elif watch:
        _watch(suite)
    else:
        views, queue = _read_views(suite), QueueView()
        queue.refresh([(view.paths, view.state) for view in views])
        print(status_text(views, queue))


def _watch(suite: str | None) -> None:
    """Show the jobs and refresh them every second, until none will run by itself."""
    from rich.live import Live
    from rich.text import Text

    from runner.submit.status import status_text
    from runner.submit.watch import QueueView

    queue = QueueView()
    with Live(console=make_console(), refresh_per_second=2) as live:
        while True:
            views = _read_views(suite, warn=False)
            queue.refresh([(view.paths, view.state) for view in views])
            live.update(Text(status_text(views, queue), no_wrap=True, overflow="ellipsis"))
            if not any(queue.will_run(view.paths, view.state) for view in views):
                return
            time.sleep(1)


def _read_views(suite: str | None, *, warn: bool = True) -> "list[JobView]":
    """Return the jobs submitted here, of one suite or all, with their states. With `warn`, name those that are left out."""
    from runner.jobs.find import read_jobs
    from runner.jobs.state import JobView

    jobs, problems = read_jobs(submitted(suite))
    if warn:
        _warn_unreadable(problems)
    return [JobView.of(planned) for planned in jobs]


def _warn_unreadable(problems: list[str]) -> None:
    """Print to stderr which jobs are left out."""
    for line in problems[:3]:
        print(f"runner: {line}", file=sys.stderr)
    if len(problems) > 3:
        print(f"runner: {len(problems) - 3} more job.json files can't be read", file=sys.stderr)


def logs(
    key: Annotated[str, typer.Argument(help="A job's key or its first characters; `runner status` lists them.")],
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Continue until the job ends, or until nothing is left to run it.")
    ] = False,
) -> None:
    """Print a job's log."""
    from runner.jobs.find import find_job
    from runner.jobs.state import state_of
    from runner.submit.watch import QueueView

    paths = find_job(key)
    position = 0
    queue = QueueView()
    while True:
        state = state_of(paths)
        queue.refresh([(paths, state)])
        ended = not queue.will_run(paths, state)
        if paths.log.exists():
            with paths.log.open(encoding="utf-8", errors="replace") as file:
                file.seek(position)
                sys.stdout.write(file.read())
                sys.stdout.flush()
                position = file.tell()
        elif not follow or ended:
            raise UserError(f"{paths.read_job().key} has no log yet: it is {state}")
        if not follow or ended:
            return
        time.sleep(0.5)


def stop(
    keys: Annotated[
        list[str], typer.Argument(metavar="KEY...", help="Keys of jobs or their first characters.", show_default=False)
    ] = [],  # noqa: B006
    suite: AnySuite = None,
    model: ModelsOption = [],  # noqa: B006
    all_: Annotated[bool, typer.Option("--all", help="All jobs submitted in this checkout.")] = False,
) -> None:
    """Stop running jobs after a checkpoint, and keep waiting jobs from starting. The next submit continues them.

    runner stop mnist/lenet/reference-seed0 mnist/lenet/reference-seed1

    runner stop --suite mnist --model lenet
    """
    from runner.jobs.find import find_job
    from runner.jobs.state import state_of

    if bool(keys) + bool(suite or model) + all_ != 1:
        raise UserError("nothing to stop: expected KEYs, or --suite S or --model M or both, or --all")
    chosen = [find_job(key) for key in dict.fromkeys(keys)] if keys else submitted(suite, model)
    to_stop = [paths for paths in dict.fromkeys(chosen) if state_of(paths) not in ("done", "failed")]
    for paths in to_stop:
        paths.stop.touch()
    running = sum(state_of(paths) == "running" for paths in to_stop)
    _stop_in_slurm()
    print(f"{len(to_stop)} stopped; {running} of them still running until their next checkpoint")


def _stop_in_slurm() -> None:
    """Cancel the waiting SLURM tasks of stopped jobs. If SLURM does not answer, the tasks end when they start."""
    from runner.engines import slurm_queue

    try:
        slurm_queue.scancel_stopped()
    except slurm_queue.SlurmUnavailable as error:
        print(
            f"runner: SLURM does not answer ({error}), so its waiting tasks will end when they start", file=sys.stderr
        )


def retry(
    keys: Annotated[
        list[str],
        typer.Argument(metavar="KEY...", help="Keys of failed jobs or their first characters.", show_default=False),
    ] = [],  # noqa: B006
    failed: Annotated[bool, typer.Option("--failed", help="All failed jobs, or those of --suite.")] = False,
    suite: AnySuite = None,
    engine: EngineOption = "local",
    slots_per_gpu: SlotsOption = None,
    device: DeviceOption = Device.auto,
    data_dir: DataDir = None,
    allow_unverified_data: Unverified = False,
    json_: JsonOption = False,
) -> None:
    """Run failed jobs again from the start. Their old files move to old/."""
    from runner.jobs.find import find_job, read_jobs, suites_of_jobs
    from runner.jobs.state import state_of
    from runner.submit.run import run as run_jobs

    if failed == bool(keys):
        raise UserError("nothing to retry: expected either KEYs or --failed, which --suite S may narrow")
    settings = settings_from(locals())
    candidates = [find_job(key) for key in dict.fromkeys(keys)] if keys else submitted(suite)
    states = {paths: state_of(paths) for paths in candidates}
    failed_paths = [paths for paths, state in states.items() if state == "failed"]
    if keys and (other := [f"{paths.name} is {state}" for paths, state in states.items() if state != "failed"]):
        raise UserError(f"{other[0]}: expected keys of failed jobs, see `runner status`")
    if not failed_paths:
        raise UserError("nothing to retry: no job has failed" + (f" in the suite '{suite}'" if suite else ""))
    suites = suites_of_jobs()
    jobs, problems = read_jobs(failed_paths)
    if not jobs:
        raise UserError(problems[0])
    _warn_unreadable(problems)
    planned = [job for job, _ in jobs]
    suite_name = suite or min(suites.get(planned[0].fingerprint, {"retry"}))
    raise typer.Exit(run_jobs(planned, suite_name, settings, make_console(stderr=json_, submits=True), restart=True))


def sync(suite: AnySuite = None) -> None:
    """Write the runs of all jobs to MLflow. Repeating it changes nothing."""
    from runner.tracking import tracker
    from runner.tracking.store import how_to_see

    problems: list[str] = []
    jobs = submitted(suite)
    done = tracker.sync(jobs, warn=problems.append)
    print(f"{done}\n{how_to_see(paths.dataset for paths in jobs)}")
    if problems:
        print(f"runner: {problems[0]}", file=sys.stderr)
        raise typer.Exit(1)


def doctor(
    engine: Annotated[
        str | None,
        typer.Option(
            "--engine", help="Also start a worker with this engine, and check that files and locks are shared with it."
        ),
    ] = None,
    data_dir: DataDir = None,
    json_: JsonOption = False,
) -> None:
    """Check everything that training needs on this machine, and say how to fix each problem. Exit code 1 if there is one."""
    from runner.doctor import examine

    raise typer.Exit(examine.run(engine, data_dir, json_, make_console()))
