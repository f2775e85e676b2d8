"""Commands that start trainings: submit, quickstart."""

import dataclasses
import json
import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Annotated

import typer

from benchmarks.errors import UserError
from runner.commands.shared import (
    DataDir,
    Device,
    DeviceOption,
    EngineOption,
    ForceResume,
    JsonOption,
    ModelsOption,
    Profile,
    SlotsOption,
    SuiteOption,
    Unverified,
    make_console,
    options_from,
    settings_from,
)

if TYPE_CHECKING:
    from benchmarks.records import Job
    from runner.jobs.state import State
    from runner.submit.preview import Settings
    from runner.submit.sequential import Study


def submit(
    suite: SuiteOption,
    model: ModelsOption = [],  # noqa: B006
    seeds: Annotated[
        int | None, typer.Option("--seeds", help="Train the seeds 0 to N-1 instead of the suite's.")
    ] = None,
    seed: Annotated[list[int], typer.Option("--seed", help="Only this seed; may be repeated.")] = [],  # noqa: B006
    profile: Annotated[
        Profile,
        typer.Option(help="reference: IEEE float32, deterministic; fast: the fastest arithmetic of the device."),
    ] = Profile.reference,
    changes: Annotated[
        list[str], typer.Option("--set", metavar="FIELD=VALUE", help="Override a field of the recipe; may be repeated.")
    ] = [],  # noqa: B006
    sweep: Annotated[
        list[str],
        typer.Option("--sweep", metavar="FIELD=A,B,C", help="Train with each of these values; may be repeated."),
    ] = [],  # noqa: B006
    epochs: Annotated[int | None, typer.Option("--epochs", help="Short for --set epochs=N.")] = None,
    engine: EngineOption = "local",
    slots_per_gpu: SlotsOption = None,
    device: DeviceOption = Device.auto,
    data_dir: DataDir = None,
    allow_unverified_data: Unverified = False,
    detach: Annotated[
        bool, typer.Option("--detach", help="Return immediately; the jobs run in the background.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the plan and stop.")] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Train finished jobs again; their old files move to old/.")
    ] = False,
    force_resume: ForceResume = False,
    until_decided: Annotated[
        bool,
        typer.Option(
            "--until-decided",
            help="Add seeds until each verdict is decided; a verdict is judged at 5, 10, 15 and 20 seeds.",
        ),
    ] = False,
    max_seeds: Annotated[
        int | None,
        typer.Option("--max-seeds", help="With --until-decided: the largest number of seeds per model. Default: 20."),
    ] = None,
    json_: JsonOption = False,
) -> None:
    """Train the jobs of a suite that are not done in this checkout. The same command resumes after a stop.

    runner submit --suite quickstart

    runner submit --suite cifar10 --model nin_dropout --seed 0 --set learning_rate=0.05
    """
    from benchmarks.suites import get_suite
    from runner.jobs.paths import JobPaths
    from runner.submit import plan, preview
    from runner.submit.run import run as run_jobs
    from runner.submit.sequential import Study
    from zoo import load_models

    if seeds is not None and seed:
        raise UserError(
            "--seeds and --seed can't be combined: give --seeds N for the seeds 0 to N-1, or --seed for each seed"
        )
    if seeds is not None and seeds < 1:
        raise UserError(f"--seeds is {seeds}, expected 1 or more")
    if max_seeds is not None and not until_decided:
        raise UserError("--max-seeds needs --until-decided; for a fixed number of seeds use --seeds N")
    options = options_from(device, data_dir, allow_unverified_data, force_resume=force_resume)
    settings = settings_from(options, engine, slots_per_gpu, as_json=json_)
    if until_decided:
        if seeds is not None or seed or changes or sweep or epochs is not None or force:
            raise UserError(
                "--until-decided chooses the seeds and trains unchanged recipes: leave out --seeds, --seed, --set, --sweep, "
                "--epochs and --force"
            )
        templates = plan.make_jobs(get_suite(suite), load_models(), only=model, seeds=[0], profile=profile.value)
        limit = {} if max_seeds is None else {"max_seeds": max_seeds}
        study = Study(get_suite(suite), templates, settings, **limit)
        _until_decided(study, dry_run, detach)
        return
    overrides = plan.parse_overrides([*changes, *([] if epochs is None else [f"epochs={epochs}"])])
    sweep_settings = plan.parse_sweep(sweep)
    if twice := sorted(overrides.keys() & sweep_settings[0].keys()):
        raise UserError(f"{twice[0]} is set by --sweep and by --set or --epochs: leave one out")
    planned = plan.make_jobs(
        get_suite(suite),
        load_models(),
        only=model,
        seeds=range(seeds) if seeds is not None else seed,
        profile=profile.value,
        overrides=overrides,
        sweep=sweep_settings,
    )
    states = preview.states_of(planned)
    if force and "running" in states:
        raise UserError("--force: some of these jobs are running: stop them first with `runner stop`")
    if dry_run:
        _show_plan(planned, ["pending" if force else state for state in states], settings)
        return
    if detach and settings.engine_settings().kind == "slurm":  # its queue outlives this process
        settings = dataclasses.replace(settings, follow=False)
    elif detach:
        for job in planned:  # so that `status` lists them immediately
            JobPaths.of(job).write_job(job)
        _detach()
        return
    raise typer.Exit(run_jobs(planned, suite, settings, make_console(stderr=json_, submits=True), restart=force))


def quickstart(data_dir: DataDir = None) -> None:
    """Train three networks on digits and, if MNIST can be downloaded, a paper's whole recipe. Print errors and verdicts."""
    from runner import quickstart as product
    from runner.submit.preview import Settings
    from runner.worker.options import RunOptions

    settings = Settings(RunOptions(device="auto", data_dir=data_dir))
    raise typer.Exit(product.run(settings, make_console(submits=True)))


def _until_decided(study: "Study", dry_run: bool, detach: bool) -> None:
    from runner.submit import preview, sequential

    settings = study.settings
    console = make_console(stderr=settings.json, submits=not dry_run)
    if dry_run:
        planned = sequential.jobs_of(study.analyse(console))
        _show_plan(planned, preview.states_of(planned), settings)
        return
    if detach:
        _detach()
        return
    code, planned = sequential.run(study, console)
    if settings.json:
        sequential.print_json(planned)
    elif not planned:
        console.print(f"Nothing to run. Next: runner report --suite {study.suite.name}")
    raise typer.Exit(code)


def _show_plan(planned: "list[Job]", states: "list[State]", settings: "Settings") -> None:
    from runner.submit import preview

    if settings.json:
        print(json.dumps(preview.plan_object(planned, states, settings), indent=2))
        return
    for job, state in zip(planned, states, strict=True):
        print(f"{state:<12} {job.key}")
    slots = settings.slots()
    for line in (*preview.missing_data_lines(planned, settings), *preview.same_as_reference_lines(planned, slots)):
        print(line)
    print(preview.plan_line(planned, states, settings, slots))


def _detach() -> None:
    """Start the same command without --detach in a new session, with its output in a file.

    Return once it has registered its submission. If it ends earlier, print its output and exit with its code.
    """
    from runner.jobs.find import read_submissions
    from runner.jobs.paths import host, output_file
    from runner.sources import child_variables, python

    output = output_file()
    output.parent.mkdir(parents=True, exist_ok=True)
    arguments = [argument for argument in sys.argv[1:] if argument != "--detach"]
    with output.open("ab") as target:
        child = subprocess.Popen(
            python("-m", "runner", *arguments),
            env=os.environ | child_variables(),
            stdin=subprocess.DEVNULL,
            stdout=target,
            stderr=target,
            start_new_session=True,
        )
    while child.poll() is None:
        if any((line.get("host"), line.get("pid")) == (host(), child.pid) for line in read_submissions()):
            print(f"submitted as process {child.pid}; its output: {output}\nNext: runner status --watch")
            return
        time.sleep(0.1)
    text = output.read_text(encoding="utf-8", errors="replace")
    print(text, end="", file=sys.stderr if child.returncode else sys.stdout)
    raise typer.Exit(child.returncode)
