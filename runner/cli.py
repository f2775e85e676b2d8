"""The commands. Each imports what it needs when it's called: `--help` and `status` load neither torch nor mlflow nor pandas.

A user's mistake is one line on stderr and exit code 2; a job that failed is exit code 1; Ctrl-C is 130.
"""

import dataclasses
import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.errors import UserError


class _Commands(typer.core.TyperGroup):
    """Lists each command with the whole first line of its help, which click would cut off."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        commands = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        with formatter.section("Commands"):
            formatter.write_dl(
                [(name, (command.help or "").partition("\n")[0]) for name, command in commands if command]
            )


app = typer.Typer(
    cls=_Commands,
    help="Train models from their papers' recipes, and set the measured errors beside the reported ones.\n\n"
    "Start with: runner submit --suite quickstart",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
data_app = typer.Typer(
    cls=_Commands, help="The data sets: what is here, and how to get it.", no_args_is_help=True, rich_markup_mode=None
)
app.add_typer(data_app, name="data")


class Profile(StrEnum):
    """How the arithmetic is done."""

    reference = "reference"
    fast = "fast"


class Format(StrEnum):
    """How a report is written."""

    table = "table"
    markdown = "markdown"
    csv = "csv"
    json = "json"
    latex = "latex"
    bibtex = "bibtex"


class BenchFormat(StrEnum):
    """How a benchmark is written."""

    table = "table"
    markdown = "markdown"
    json = "json"


SuiteOption = Annotated[str, typer.Option("--suite", help="A suite; `runner suites` lists them.")]
AnySuite = Annotated[str | None, typer.Option("--suite", help="Only this suite; `runner suites` lists them.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Machine-readable, with stable keys.")]
EngineOption = Annotated[
    str,
    typer.Option(
        "--engine", help="local: a process per slot; inline: this process (debugging); slurm; or one of engines.toml."
    ),
]
SlotsOption = Annotated[
    int | None, typer.Option("--slots-per-gpu", help="Jobs at once on each GPU. Default: the engine's, 1.")
]
DataDir = Annotated[
    Path | None,
    typer.Option("--data-dir", help="Where the data sets lie. Default: REPROZOO_DATA, else ~/.cache/reprozoo."),
]
Unverified = Annotated[
    bool,
    typer.Option(
        "--allow-unverified-data", help="Accept data files whose md5 isn't the official one; records and site say so."
    ),
]
ForceResume = Annotated[
    bool,
    typer.Option(
        "--force-resume", help="Go on from a checkpoint of another torch build or device; the record says so."
    ),
]


def _console(stderr: bool = False) -> Any:
    from rich.console import Console

    return Console(stderr=stderr, highlight=False)


def _run_options(flags: Mapping[str, Any]) -> Any:
    """Return the options of a run among a command's flags (its `locals()`)."""
    from runner.worker.options import RunOptions

    return RunOptions(**{name: value for name, value in flags.items() if name in RunOptions.model_fields})


def _settings(flags: Mapping[str, Any]) -> Any:
    """Return how to run jobs, by a command's flags (its `locals()`); raise UserError for an engine that is not there."""
    from runner.submit.run import Settings

    engine = flags["engine"] or "local"
    settings = Settings(_run_options(flags), engine, flags["slots_per_gpu"], flags.get("json_", False))
    settings.table()  # its mistakes first
    return settings


# --- running -------------------------------------------------------------------------------------------------------------


@app.command()
def submit(
    suite: SuiteOption,
    model: Annotated[list[str], typer.Option("--model", help="Only this model; may be repeated.")] = [],  # noqa: B006
    seeds: Annotated[int | None, typer.Option("--seeds", help="Seeds 0 to N-1 instead of the suite's.")] = None,
    seed: Annotated[list[int], typer.Option("--seed", help="Only this seed; may be repeated.")] = [],  # noqa: B006
    profile: Annotated[
        Profile, typer.Option(help="reference: IEEE float32, deterministic; fast: what the device has.")
    ] = (Profile.reference),
    changes: Annotated[
        list[str], typer.Option("--set", metavar="FIELD=VALUE", help="Override a field of the recipe; may be repeated.")
    ] = [],  # noqa: B006
    sweep: Annotated[
        list[str],
        typer.Option("--sweep", metavar="FIELD=A,B,C", help="Train with each of these values; may be repeated."),
    ] = [],  # noqa: B006
    epochs: Annotated[int | None, typer.Option("--epochs", help="Short for --set epochs=E.")] = None,
    engine: EngineOption = "local",
    slots_per_gpu: SlotsOption = None,
    data_dir: DataDir = None,
    allow_unverified_data: Unverified = False,
    detach: Annotated[bool, typer.Option("--detach", help="Return at once; the work goes on.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the plan and stop.")] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Train again what is done; the old files move to old/.")
    ] = False,
    force_resume: ForceResume = False,
    until_decided: Annotated[
        bool,
        typer.Option("--until-decided", help="Add seeds until each verdict is decided: a look at 5, 10, 15 and 20."),
    ] = False,
    max_seeds: Annotated[
        int | None,
        typer.Option("--max-seeds", help="With --until-decided: at most so many seeds a model. Default: 20."),
    ] = None,
    json_: JsonOption = False,
) -> None:
    """Train what a suite still lacks here. The same command again goes on where it stopped.

    runner submit --suite quickstart

    runner submit --suite cifar10 --model nin_dropout --seed 0 --set learning_rate=0.05
    """
    from benchmarks.suites import get_suite
    from runner.jobs.paths import JobPaths
    from runner.submit import plan
    from runner.submit import run as submitting
    from zoo import load_models

    if seeds is not None and seed:
        raise UserError("--seeds and --seed exclude each other: give N for the seeds 0 to N-1, or each seed by itself")
    if seeds is not None and seeds < 1:
        raise UserError(f"--seeds is {seeds}, expected 1 or more")
    if max_seeds is not None and not until_decided:
        raise UserError("--max-seeds goes with --until-decided; for a fixed number of seeds: --seeds N")
    settings = _settings(locals())
    if until_decided:
        if seeds is not None or seed or changes or sweep or epochs is not None or force:
            raise UserError(
                "--until-decided chooses the seeds of whole recipes itself: leave out --seeds, --seed, --set, --sweep, "
                "--epochs and --force"
            )
        _until_decided(suite, model, profile.value, max_seeds, settings, dry_run, detach)
        return
    overrides = plan.parse_overrides([*changes, *([] if epochs is None else [f"epochs={epochs}"])])
    settings_swept = plan.parse_sweep(sweep)
    if twice := sorted(overrides.keys() & settings_swept[0].keys()):
        raise UserError(f"{twice[0]} is set by --sweep and by --set or --epochs: leave one out")
    planned = plan.make_jobs(
        get_suite(suite),
        load_models(),
        only=model,
        seeds=range(seeds) if seeds is not None else seed,
        profile=profile.value,
        overrides=overrides,
        sweep=settings_swept,
    )
    states = submitting.states_of(planned)
    if force and "running" in states:
        raise UserError("--force: some of these jobs are running; `runner stop` them first")
    if dry_run:
        _show_plan(planned, ["pending" if force else state for state in states], settings)
        return
    if detach and settings.table().kind == "slurm":  # its queue is the one that lasts: nothing needs to go on here
        settings = dataclasses.replace(settings, follow=False)
    elif detach:
        for job in planned:  # so that `status` knows them at once
            JobPaths.of(job).write_job(job)
        _detach()
        return
    raise typer.Exit(submitting.run(planned, suite, settings, _console(stderr=json_), afresh=force))


@app.command()
def quickstart(data_dir: DataDir = None) -> None:
    """Train three networks on digits and, where MNIST is to be had, a paper's whole recipe; print the board with verdicts."""
    from runner import quickstart as product
    from runner.submit.run import Settings
    from runner.worker.options import RunOptions

    raise typer.Exit(product.run(Settings(RunOptions(data_dir=data_dir)), _console()))


def _until_decided(
    suite: str, only: list[str], profile: str, max_seeds: int | None, settings: Any, dry_run: bool, detach: bool
) -> None:
    from benchmarks.suites import get_suite
    from runner.submit import run as submitting
    from runner.submit import sequential
    from zoo import load_models

    chosen, models = get_suite(suite), load_models()
    max_seeds = sequential.LOOKS[-1] if max_seeds is None else max_seeds
    sequential.check_max_seeds(max_seeds)
    if detach and not dry_run:
        _detach()
        return
    console = _console(stderr=settings.json)
    code, planned = sequential.run(chosen, models, only, profile, max_seeds, settings, console, dry_run)
    if dry_run:
        _show_plan(planned, submitting.states_of(planned), settings)
    elif settings.json:
        sequential.print_json(planned)
    elif not planned:
        console.print(f"Nothing to run. Next: runner report --suite {suite}")
    raise typer.Exit(code)


def _show_plan(planned: Any, states: Any, settings: Any) -> None:
    from runner.submit import run as submitting

    if settings.json:
        print(json.dumps(submitting.plan_object(planned, states, settings), indent=2))
        return
    for job, state in zip(planned, states, strict=True):
        print(f"{state:<12} {job.key}")
    for line in submitting.missing_data_lines(planned, settings):
        print(line)
    print(submitting.plan_line(planned, states, settings, settings.slots()))


def _detach() -> None:
    """The same command without --detach, in a session of its own, its output in a file.

    Returns once it is at work; if it ends before that, with what it said and its exit code.
    """
    from runner.jobs.find import read_submissions
    from runner.jobs.paths import host, now_ms, runs_folder
    from runner.sources import child_variables, python

    output = runs_folder() / f"submit-{now_ms()}.txt"
    output.parent.mkdir(parents=True, exist_ok=True)
    words = [word for word in sys.argv[1:] if word != "--detach"]
    with output.open("ab") as target:
        child = subprocess.Popen(
            python("-m", "runner", *words),
            env=os.environ | child_variables(),
            stdin=subprocess.DEVNULL,
            stdout=target,
            stderr=target,
            start_new_session=True,
        )
    while child.poll() is None:
        if any((line.get("host"), line.get("pid")) == (host(), child.pid) for line in read_submissions()):
            print(f"submitted as process {child.pid}; what it says: {output}\nNext: runner status --watch")
            return
        time.sleep(0.1)
    said = output.read_text(encoding="utf-8", errors="replace")
    print(said, end="", file=sys.stderr if child.returncode else sys.stdout)
    raise typer.Exit(child.returncode)


@app.command()
def status(
    suite: AnySuite = None,
    watch: Annotated[bool, typer.Option("--watch", help="Refresh until nothing runs or waits in a queue.")] = False,
    json_: JsonOption = False,
) -> None:
    """What was submitted here, and how far it is."""
    from runner.jobs.state import state_of, status_json
    from runner.submit.watch import QueueView

    queue = QueueView()

    def look() -> list[tuple[Any, Any]]:
        found = [(paths, state_of(paths)) for paths in _submitted(suite)]
        if not json_:
            queue.refresh(found)
        return found

    if json_:
        sys.stdout.write(status_json((paths.read_job(), paths, state) for paths, state in look()))
        return
    if not watch:
        print(_status_text(look(), queue))
        return
    from rich.live import Live
    from rich.text import Text

    with Live(console=_console(), refresh_per_second=2) as live:
        while True:
            found = look()
            live.update(Text(_status_text(found, queue), no_wrap=True, overflow="ellipsis"))
            if not any(queue.will_run(paths, state) for paths, state in found):
                return
            time.sleep(1)


def _status_text(found: list[tuple[Any, Any]], queue: Any) -> str:
    """The jobs as a table, a line each; there may be 10,000."""
    from runner.jobs.state import TO_RUN, progress_of
    from runner.submit.progress import SYMBOLS
    from runner.text import columns, percent

    if not found:
        return "Nothing was submitted here yet. Start with: runner submit --suite quickstart"
    table = [("", "job", "state", "epoch", "error", "tries")]
    for paths, state in found:
        row, note = progress_of(paths.read_job(), paths, state), queue.annotate(paths, state)
        unusual = row["outcome"] if row["outcome"] not in (None, "finished") else None
        table.append(
            (
                SYMBOLS[state],
                row["key"],
                (unusual or state) + (f" ({note})" if note else ""),
                f"{row['epoch'] or 0}/{row['epochs']}",
                percent(row["test_error"]),
                str(row["attempts"]),
            )
        )
    counts = {state: sum(one == state for _, one in found) for state in SYMBOLS}
    last = f"{len(found)} jobs: " + ", ".join(f"{n} {state}" for state, n in counts.items() if n)
    left = [paths for paths, state in found if state in TO_RUN and not queue.will_run(paths, state)]
    if queue.trouble:
        last += f"; {queue.trouble}"
    elif left:
        last += f"; {len(left)} wait for the next `runner submit`"
    return "\n".join([*columns(table), last])


def _submitted(suite: str | None) -> list[Any]:
    """The folders of the jobs submitted here, of one suite or all."""
    from benchmarks.suites import get_suite
    from runner.jobs.find import all_jobs, suites_of_jobs

    found = all_jobs()
    if suite is None:
        return found
    get_suite(suite)
    of_suite = {fingerprint[:8] for fingerprint, suites in suites_of_jobs().items() if suite in suites}
    return [paths for paths in found if paths.folder.name[-8:] in of_suite]


@app.command()
def logs(
    key: Annotated[str, typer.Argument(help="A job's key, or its beginning; `runner status` lists them.")],
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on until the job has ended, or nothing will run it.")
    ] = False,
) -> None:
    """A job's log."""
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


@app.command()
def stop(
    key: Annotated[str | None, typer.Argument(help="A job's key, or its beginning.")] = None,
    suite: AnySuite = None,
    all_: Annotated[bool, typer.Option("--all", help="Every job that was submitted here.")] = False,
) -> None:
    """Stop jobs after a checkpoint, and keep waiting ones from starting. The next submit goes on with them."""
    from runner.jobs.find import find_job
    from runner.jobs.state import state_of

    if (key is not None) + (suite is not None) + all_ != 1:
        raise UserError("say what to stop: a KEY, or --suite S, or --all")
    found = [find_job(key)] if key is not None else _submitted(suite)
    asked = [paths for paths in found if state_of(paths) not in ("done", "failed")]
    for paths in asked:
        paths.stop.touch()
    running = sum(state_of(paths) == "running" for paths in asked)
    _stop_in_slurm()
    print(f"{len(asked)} stopped, {running} of them running: they end after a checkpoint")


def _stop_in_slurm() -> None:
    """Take the waiting tasks of stopped jobs out of SLURM's queue; a SLURM that is away changes nothing that matters."""
    from runner.engines import slurm

    try:
        slurm.scancel_stopped()
    except slurm.SlurmAway as error:
        print(f"runner: SLURM doesn't answer ({error}): its waiting tasks will end as they start", file=sys.stderr)


@app.command()
def retry(
    failed: Annotated[bool, typer.Option("--failed", help="Every failed job, or those of --suite.")] = False,
    key: Annotated[str | None, typer.Argument(help="One failed job's key, or its beginning.")] = None,
    suite: AnySuite = None,
    engine: EngineOption = "local",
    slots_per_gpu: SlotsOption = None,
    data_dir: DataDir = None,
    allow_unverified_data: Unverified = False,
    json_: JsonOption = False,
) -> None:
    """Run failed jobs afresh; what they left moves to old/."""
    from runner.jobs.find import find_job, suites_of_jobs
    from runner.jobs.state import state_of
    from runner.submit import run as submitting

    if failed == (key is not None):
        raise UserError("say what to retry: a KEY, or --failed (of one --suite, if you like)")
    settings = _settings(locals())
    found = [find_job(key)] if key is not None else _submitted(suite)
    again = [paths for paths in found if state_of(paths) == "failed"]
    if not again:
        raise UserError("nothing to retry: no failed job" + (f" in the suite '{suite}'" if suite else ""))
    suites = suites_of_jobs()
    planned = [paths.read_job() for paths in again]
    named = suite or min(suites.get(planned[0].fingerprint, {"retry"}))
    raise typer.Exit(submitting.run(planned, named, settings, _console(stderr=json_), afresh=True))


@app.command()
def sync(suite: AnySuite = None) -> None:
    """Bring MLflow up to date from the files; harmless to repeat."""
    from runner import tracking

    problems: list[str] = []
    done = tracking.sync(_submitted(suite), warn=problems.append)
    print(f"{done}\n{tracking.ui_command()}")
    if problems:
        print(f"runner: {problems[0]}", file=sys.stderr)
        raise typer.Exit(1)


@app.command()
def doctor(
    engine: Annotated[
        str | None, typer.Option("--engine", help="Also start a worker through this engine, and look at it from here.")
    ] = None,
    data_dir: DataDir = None,
    json_: JsonOption = False,
) -> None:
    """Look at everything a training needs here: what is wrong, and how to mend it. Exit code 1 if something is."""
    from runner import doctor as examining

    raise typer.Exit(examining.run(engine, data_dir, json_, _console()))


# --- results -------------------------------------------------------------------------------------------------------------


@app.command()
def report(
    suite: AnySuite = None,
    format_: Annotated[Format, typer.Option("--format", help="How to write it.")] = Format.table,
    measured: Annotated[
        bool, typer.Option("--measured", help="Only what has run; in Markdown as one table, for a README.")
    ] = False,
    paper: Annotated[
        str | None, typer.Option("--paper", metavar="KEY", help="A source's own tables, our numbers beside its.")
    ] = None,
    table: Annotated[
        str | None, typer.Option("--table", metavar="PLACE", help="With --paper: only this one, such as 'Table 1'.")
    ] = None,
    holdout: Annotated[
        bool, typer.Option("--holdout", help="What was tried on held-out images: settings and their errors.")
    ] = False,
) -> None:
    """The board: measured errors beside the reported ones, with verdicts and their reasons; yours and the published."""
    from runner.reporting import report as reporting

    reporting.show(reporting.Asked(suite, measured, paper, table, holdout), format_.value)


@app.command()
def show(
    key: Annotated[str, typer.Argument(help="A job's key, its beginning, or the name of a published file.")],
    json_: JsonOption = False,
) -> None:
    """One record, yours or published: its error, recipe, protocol, machine, code and data."""
    from runner.reporting import showing

    showing.show(key, json_, _console())


@app.command()
def site(
    port: Annotated[int, typer.Option("--port", help="Where it listens.")] = 8501,
    address: Annotated[str, typer.Option("--address", help="0.0.0.0 lets other machines in.")] = "127.0.0.1",
    base_path: Annotated[
        str, typer.Option("--base-path", metavar="PATH", help="Serve it below this path, for a proxy: bench.")
    ] = "",
    repository: Annotated[
        str, typer.Option("--repository", metavar="URL", help="Where readers find records, code and sources.")
    ] = "",
    export: Annotated[
        Path | None, typer.Option("--export", metavar="DIR", help="Write it as plain HTML pages, and stop.")
    ] = None,
    title: Annotated[str, typer.Option("--title", help="With --export: the site's name.")] = "",
    base_url: Annotated[
        str, typer.Option("--base-url", metavar="URL", help="With --export: where it will be published.")
    ] = "",
) -> None:
    """The leaderboard in the browser: boards, models, runs, claims, costs. With --export, as files for any web server."""
    from runner import site as showing

    if export is not None:
        raise typer.Exit(showing.export(export, title, base_url, repository, base_path))
    showing.serve(port, address, base_path, repository, title, base_url)


@app.command()
def publish(
    key: Annotated[str | None, typer.Argument(help="One job's key, or its beginning. Default: every job.")] = None,
    suite: AnySuite = None,
    model: Annotated[list[str], typer.Option("--model", help="Only this model; may be repeated.")] = [],  # noqa: B006
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be published, and copy nothing.")] = False,
) -> None:
    """Copy this checkout's records of whole recipes, and hold-out records, into results/."""
    from runner.jobs.find import find_job
    from runner.reporting import publish as publishing

    if key is not None and (suite or model):
        raise UserError("KEY names one job: leave out --suite and --model")
    publishing.show([find_job(key)] if key is not None else publishing.of_models(_submitted(suite), model), dry_run)


@app.command()
def verify(
    path: Annotated[
        Path | None, typer.Argument(help="A folder of records. Default: results/ of this checkout.")
    ] = None,
) -> None:
    """Check records: schema, fingerprints, curves, digests, names; every problem in one go."""
    from runner.reporting import verify as verifying

    raise typer.Exit(verifying.show(path))


@app.command()
def reproduce(
    key: Annotated[str, typer.Argument(help="A published record: KEY, its beginning, or KEY-RUN8.")],
    engine: EngineOption = "local",
    slots_per_gpu: SlotsOption = None,
    data_dir: DataDir = None,
    allow_unverified_data: Unverified = False,
    force: Annotated[
        bool, typer.Option("--force", help="Train again what is done here; the old files move to old/.")
    ] = False,
    json_: JsonOption = False,
) -> None:
    """Train a published record's job here, and say how the two results differ.

    runner reproduce mnist/caffe_lenet/reference-seed0
    """
    from runner.reporting import reproduce as reproducing

    settings = dataclasses.replace(_settings(locals()), json=False)  # it prints an object of its own
    raise typer.Exit(reproducing.run(key, settings, _console(stderr=json_), force=force, as_json=json_))


# --- what there is -------------------------------------------------------------------------------------------------------


@app.command()
def suites(json_: JsonOption = False) -> None:
    """The suites: data sets, models, seeds, number of jobs."""
    from runner.submit.plan import suites_table
    from zoo import load_models

    rows = suites_table(load_models())
    if json_:
        print(json.dumps(rows, indent=2))
        return
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for name in ("suite", "jobs", "models", "what"):
        table.add_column(name, no_wrap=name == "suite")
    for row in rows:
        names = ", ".join(row["models"]) if len(row["models"]) <= 10 else f"{len(row['models'])} models"
        table.add_row(row["name"], str(row["jobs"]), names, row["description"])
    _console().print(table)


@app.command()
def models(
    name: Annotated[str | None, typer.Argument(help="One model: its layers, recipe and departures.")] = None,
    dataset: Annotated[str | None, typer.Option("--dataset", help="On this data set.")] = None,
    write_cards: Annotated[bool, typer.Option("--write-cards", help="Write results/cards/*.json.")] = False,
    json_: JsonOption = False,
) -> None:
    """The zoo: parameters and multiply-accumulates of each model, or one model's layers."""
    from runner.reporting import cards

    cards.show(name, dataset, write_cards=write_cards, as_json=json_, console=_console())


@app.command()
def bench(
    model: Annotated[list[str], typer.Option("--model", help="Only this model; may be repeated.")] = [],  # noqa: B006
    dataset: Annotated[str, typer.Option("--dataset", help="On this data set.")] = "cifar10",
    profile: Annotated[Profile, typer.Option(help="Measure this profile.")] = Profile.reference,
    seconds: Annotated[float, typer.Option("--seconds", help="How long to measure each model.")] = 20.0,
    repeats: Annotated[int, typer.Option("--repeats", help="Turns of each kind; their median counts.")] = 9,
    concurrent: Annotated[
        list[int],
        typer.Option("--concurrent", metavar="K", help="Also K jobs of a model side by side; may be repeated."),
    ] = [],  # noqa: B006
    format_: Annotated[BenchFormat, typer.Option("--format", help="How to write it.")] = BenchFormat.table,
    json_: JsonOption = False,
    equivalence: Annotated[
        bool,
        typer.Option("--equivalence", help="Train one --model with both profiles and test whether errors are equal."),
    ] = False,
    seeds: Annotated[
        int | None, typer.Option("--seeds", help="With --equivalence: so many of each profile. Default: 10.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="With --equivalence: show its jobs and stop.")] = False,
    engine: Annotated[
        str | None, typer.Option("--engine", help="With --equivalence: as for submit. Default: local.")
    ] = None,
    slots_per_gpu: Annotated[
        int | None, typer.Option("--slots-per-gpu", help="With --equivalence: as for submit.")
    ] = None,
    data_dir: DataDir = None,
    allow_unverified_data: Unverified = False,
) -> None:
    """How fast training is here: the bare step, our loop, the loop people write; what a suite would take.

    runner bench --model nin --model allcnn_c

    runner bench --dataset mnist --repeats 30 --seconds 60 --format markdown

    runner bench --model nin --profile fast --concurrent 2 --concurrent 4

    runner bench --equivalence --model nin_dropout --slots-per-gpu 4
    """
    from runner.bench import command as benching
    from runner.bench.equivalence import equivalence_study
    from runner.bench.question import Question

    if not equivalence:
        given = {"dry-run": dry_run, "seeds": seeds is not None, "slots-per-gpu": slots_per_gpu is not None}
        for option in [name for name, value in (given | {"engine": engine is not None}).items() if value]:
            raise UserError(f"--{option} goes with --equivalence")
        asked = Question(
            model="",
            dataset=dataset,
            profile=profile.value,
            seconds=seconds,
            repeats=repeats,
            options=_run_options(locals()),
        )
        shape = "json" if json_ else format_.value
        raise typer.Exit(benching.show(asked, model, shape, _console(stderr=True), concurrent))
    for option in (
        ["concurrent"] * bool(concurrent) + ["json"] * json_ + ["format"] * (format_ is not BenchFormat.table)
    ):
        raise UserError(f"--{option} doesn't go with --equivalence")
    if len(model) != 1:
        raise UserError("--equivalence is for one model: give one --model")
    settings = _settings(locals())
    count = 10 if seeds is None else seeds
    raise typer.Exit(equivalence_study(dataset, model[0], count, settings, _console(), dry_run=dry_run))


@app.command("try")
def try_(
    model: Annotated[str, typer.Argument(help="A model; `runner models` lists them.")],
    dataset: Annotated[
        str | None, typer.Option("--dataset", help="On this data set. Default: the model's first.")
    ] = None,
    steps: Annotated[int, typer.Option("--steps", help="So many batches.")] = 200,
    every: Annotated[int, typer.Option("--every", help="A line for so many of them: their mean.")] = 10,
    seed: Annotated[int, typer.Option("--seed", help="Initial weights, order, augmentation, dropout.")] = 0,
    profile: Annotated[Profile, typer.Option(help="As for submit.")] = Profile.reference,
    changes: Annotated[
        list[str], typer.Option("--set", metavar="FIELD=VALUE", help="Override a field of the recipe; may be repeated.")
    ] = [],  # noqa: B006
    data_dir: DataDir = None,
    allow_unverified_data: Unverified = False,
    json_: JsonOption = False,
) -> None:
    """Train a recipe's first steps: does it learn at all? Keeps nothing; exit code 1 where it's still at chance.

    runner try nin --dataset cifar10 --steps 300

    runner try conv_gap --set learning_rate=0.05 --set 'init=[["*.weight","he_normal",1.0],["*.bias","constant",0.0]]'
    """
    from runner.bench import try_model
    from runner.submit import plan

    overrides = plan.parse_overrides(changes)
    asked = try_model.TrialRun(model, dataset, steps, every, seed, profile.value, overrides, _run_options(locals()))
    raise typer.Exit(try_model.show(asked, _console(), as_json=json_))


@app.command("new-model")
def new_model(
    name: Annotated[str, typer.Argument(help="Small letters, digits and _: also the name of its files.")],
) -> None:
    """Write the two files of a new model from templates: zoo/NAME.py and benchmarks/papers/NAME.toml."""
    from runner import new_model as creating

    creating.create(name, print)


@data_app.command("prepare")
def data_prepare(
    suite: Annotated[list[str], typer.Option("--suite", help="What this suite needs; may be repeated.")] = [],  # noqa: B006
    dataset: Annotated[list[str], typer.Option("--dataset", help="This data set; may be repeated.")] = [],  # noqa: B006
    data_dir: DataDir = None,
    allow_unverified_data: Unverified = False,
) -> None:
    """Download and check data sets ahead of time: compute nodes often have no network.

    The same command again goes on where it stopped. Behind a proxy: http_proxy, https_proxy and no_proxy count.
    """
    from benchmarks.datasets import get_dataset
    from benchmarks.suites import get_suite
    from runner.data import download
    from runner.data.folder import data_folder

    names = [name for each in suite for name in get_suite(each).datasets] + [get_dataset(each).name for each in dataset]
    if not names:
        raise UserError("say what to prepare: --suite S or --dataset D; both may be repeated")
    download.prepare(dict.fromkeys(names), data_folder(data_dir), allow_unverified_data)


@data_app.command("import")
def data_import(
    paths: Annotated[
        list[Path], typer.Argument(metavar="PATH...", help="Folders, files or archives.", show_default=False)
    ],
    link: Annotated[bool, typer.Option("--link", help="Hard links instead of copies, where that is possible.")] = False,
    data_dir: DataDir = None,
) -> None:
    """Take the official files out of what you have: torchvision's or keras's folder, archives, renamed files.

    runner data import ~/.keras/datasets ~/Downloads/cifar-10-python.tar.gz
    """
    from runner.data import importing
    from runner.data.folder import data_folder

    importing.import_files(paths, data_folder(data_dir), link)


@data_app.command("status")
def data_status(data_dir: DataDir = None, json_: JsonOption = False) -> None:
    """Which data sets are here, whole or in part, and whether their files are the official ones."""
    from runner.data import status
    from runner.data.folder import data_folder

    found = status.status(data_folder(data_dir))
    if json_:
        print(json.dumps(found, indent=2))
        return
    status.show_status(found, _console())


def main() -> None:
    """Entry point of `runner`."""
    from runner.sources import check_modules

    for stream in (sys.stdout, sys.stderr):  # a terminal that has no ✓ shows ?
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    try:
        check_modules()
        code = app(standalone_mode=False)
    except UserError as error:
        code = _fail(str(error))
    except (KeyboardInterrupt, typer.Abort):
        code = 130
    except BrokenPipeError:  # `runner ... | head`: nobody reads on
        sys.stderr.close()
        code = 141
    except OSError as error:  # a root that is a file, a folder that can't be written, a full disk
        code = _fail(f"{error.filename or 'a file'}: {error.strerror or error}")
    except Exception as error:
        message = getattr(error, "format_message", None)  # a mistyped option or command, as typer words it
        if message is None:
            raise
        if message().startswith("Usage:"):  # no command was given
            print(message())
            sys.exit(2)
        code = _fail(f"{message()} Try: runner --help")
    sys.exit(code if isinstance(code, int) else 0)


def _fail(message: str) -> int:
    print(f"runner: {message}", file=sys.stderr)
    return 2
