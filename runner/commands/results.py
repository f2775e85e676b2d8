"""Commands about results: report, show, site, publish, verify, reproduce."""

from pathlib import Path
from typing import Annotated

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
    options_from,
    settings_from,
    submitted,
)
from runner.reporting.formats import Format


def report(
    suite: AnySuite = None,
    model: ModelsOption = [],  # noqa: B006
    format_: Annotated[Format, typer.Option("--format", help="The output format.")] = Format.table,
    measured: Annotated[
        bool, typer.Option("--measured", help="Only models that have run; in Markdown as one table, for a README.")
    ] = False,
    paper: Annotated[
        str | None,
        typer.Option("--paper", metavar="KEY", help="The tables of this source, with our numbers next to its own."),
    ] = None,
    table: Annotated[
        str | None, typer.Option("--table", metavar="PLACE", help="With --paper: only this table, such as 'Table 1'.")
    ] = None,
    holdout: Annotated[
        bool, typer.Option("--holdout", help="The settings that were compared on held-out images, with their errors.")
    ] = False,
) -> None:
    """Show measured and reported errors with verdicts and reasons, from the published records and your own."""
    from runner.reporting import report as reporting

    reporting.show(reporting.Selection(suite, measured, paper, table, holdout, model), format_.value)


def show(
    key: Annotated[str, typer.Argument(help="A job's key or its first characters, or the name of a published file.")],
    json_: JsonOption = False,
) -> None:
    """Show one record, your own or a published one: its error, recipe, protocol, machine, code and data."""
    from runner.reporting import showing

    showing.show(key, json_, make_console())


def site(
    port: Annotated[int, typer.Option("--port", help="The port to listen on.")] = 8501,
    address: Annotated[
        str, typer.Option("--address", help="The address to listen on; 0.0.0.0 admits other machines.")
    ] = "127.0.0.1",
    base_path: Annotated[
        str,
        typer.Option(
            "--base-path", metavar="PATH", help="Serve the site below this path, such as bench, behind a proxy."
        ),
    ] = "",
    repository: Annotated[
        str,
        typer.Option(
            "--repository", metavar="URL", help="The address of the repository with records, code and sources."
        ),
    ] = "",
    export: Annotated[
        Path | None,
        typer.Option("--export", metavar="DIR", help="Write the site as plain HTML pages into this folder, and stop."),
    ] = None,
    title: Annotated[str, typer.Option("--title", help="With --export: the name of the site.")] = "",
    base_url: Annotated[
        str, typer.Option("--base-url", metavar="URL", help="With --export: the address where it will be published.")
    ] = "",
) -> None:
    """Serve the leaderboard in the browser: models, runs, claims, costs. With --export, write it as HTML files."""
    from runner import site as showing

    if export is not None:
        raise typer.Exit(showing.export(export, title, base_url, repository, base_path))
    showing.serve(port, address, base_path, repository, title, base_url)


def publish(
    key: Annotated[str | None, typer.Argument(help="A job's key or its first characters. Default: all jobs.")] = None,
    suite: AnySuite = None,
    model: ModelsOption = [],  # noqa: B006
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be published, and copy nothing.")] = False,
) -> None:
    """Copy this checkout's records of whole recipes, and hold-out records, into results/."""
    from runner.jobs.find import find_job
    from runner.reporting import publish as publishing

    if key is not None and (suite or model):
        raise UserError("KEY names one job: leave out --suite and --model")
    publishing.show([find_job(key)] if key is not None else submitted(suite, model), dry_run)


def verify(
    path: Annotated[
        Path | None, typer.Argument(help="A record or a folder of records. Default: results/ of this checkout.")
    ] = None,
) -> None:
    """Check records: schema, fingerprints, curves, digests and names. Lists all problems."""
    from runner.reporting import verify as verifying

    raise typer.Exit(verifying.show(path))


def reproduce(
    key: Annotated[
        str, typer.Argument(help="A published record: its key, the first characters of its key, or KEY-RUN8.")
    ],
    engine: EngineOption = "local",
    slots_per_gpu: SlotsOption = None,
    device: DeviceOption = Device.auto,
    data_dir: DataDir = None,
    allow_unverified_data: Unverified = False,
    force: Annotated[
        bool,
        typer.Option("--force", help="Train again if the job is done in this checkout; the old files move to old/."),
    ] = False,
    json_: JsonOption = False,
) -> None:
    """Train the job of a published record, and compare the two results.

    runner reproduce mnist/caffe_lenet/reference-seed0
    """
    from runner.reporting import reproduce as reproducing

    options = options_from(device, data_dir, allow_unverified_data)
    settings = settings_from(options, engine, slots_per_gpu)
    raise typer.Exit(
        reproducing.run(key, settings, make_console(stderr=json_, submits=True), force=force, as_json=json_)
    )
