"""Commands about results: report, show, site, publish, verify, reproduce."""

import dataclasses
from enum import StrEnum
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
    SlotsOption,
    Unverified,
    make_console,
    settings_from,
    submitted,
)


class Format(StrEnum):
    """The output format of a report."""

    table = "table"
    markdown = "markdown"
    csv = "csv"
    json = "json"
    latex = "latex"
    bibtex = "bibtex"


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
    """Show the board: measured errors beside the reported ones, with verdicts and reasons. Published records and yours."""
    from runner.reporting import report as reporting

    reporting.show(reporting.Asked(suite, measured, paper, table, holdout), format_.value)


def show(
    key: Annotated[str, typer.Argument(help="A job's key, its beginning, or the name of a published file.")],
    json_: JsonOption = False,
) -> None:
    """Show one record, yours or published: its error, recipe, protocol, machine, code and data."""
    from runner.reporting import showing

    showing.show(key, json_, make_console())


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
    """Serve the leaderboard in the browser: boards, models, runs, claims, costs. With --export, as files for any web server."""
    from runner import site as showing

    if export is not None:
        raise typer.Exit(showing.export(export, title, base_url, repository, base_path))
    showing.serve(port, address, base_path, repository, title, base_url)


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
    publishing.show([find_job(key)] if key is not None else publishing.of_models(submitted(suite), model), dry_run)


def verify(
    path: Annotated[
        Path | None, typer.Argument(help="A folder of records. Default: results/ of this checkout.")
    ] = None,
) -> None:
    """Check records: schema, fingerprints, curves, digests and names. It lists every problem at once."""
    from runner.reporting import verify as verifying

    raise typer.Exit(verifying.show(path))


def reproduce(
    key: Annotated[str, typer.Argument(help="A published record: KEY, its beginning, or KEY-RUN8.")],
    engine: EngineOption = "local",
    slots_per_gpu: SlotsOption = None,
    device: DeviceOption = Device.auto,
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

    settings = dataclasses.replace(settings_from(locals()), json=False)  # reproduce prints its own JSON object
    raise typer.Exit(
        reproducing.run(key, settings, make_console(stderr=json_, submits=True), force=force, as_json=json_)
    )
