"""Options that several commands share, and the objects built from their flags."""

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from runner.console import Console
    from runner.jobs.paths import JobPaths
    from runner.submit.preview import Settings
    from runner.worker.options import RunOptions


class Profile(StrEnum):
    """The arithmetic profile."""

    reference = "reference"
    fast = "fast"


class Device(StrEnum):
    """The device to train on."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"


SuiteOption = Annotated[str, typer.Option("--suite", help="A suite; `runner suites` lists them.")]
AnySuite = Annotated[str | None, typer.Option("--suite", help="Only this suite; `runner suites` lists them.")]
ModelsOption = Annotated[list[str], typer.Option("--model", help="Only this model; may be repeated.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON with stable keys.")]
EngineOption = Annotated[
    str,
    typer.Option(
        "--engine",
        help="local: one process per slot; inline: in this process, to debug; slurm; or the name of an engine in engines.toml.",
    ),
]
SlotsOption = Annotated[
    int | None,
    typer.Option(
        "--slots-per-gpu",
        help="Jobs that run concurrently on each GPU; they take turns unless MPS runs. Default: the engine's setting, else 1.",
    ),
]
DeviceOption = Annotated[
    Device, typer.Option("--device", help="auto: GPUs if there are any, else the CPU; cpu or cuda: only this.")
]
DataDir = Annotated[
    Path | None,
    typer.Option("--data-dir", help="The folder of the data sets. Default: REPROZOO_DATA, else ~/.cache/reprozoo."),
]
Unverified = Annotated[
    bool,
    typer.Option(
        "--allow-unverified-data", help="Accept data files without the official md5; records and site mark them."
    ),
]
ForceResume = Annotated[
    bool,
    typer.Option(
        "--force-resume",
        help="Resume from a checkpoint of other code, data, torch, device or threads; the record says so.",
    ),
]


def make_console(stderr: bool = False, *, submits: bool = False) -> "Console":
    """Return a console. With `submits`, its output goes to a file once the reader closes the pipe."""
    from runner.console import Console
    from runner.jobs.paths import output_file

    return Console(output_file if submits else None, stderr=stderr)


def options_from(
    device: Device, data_dir: Path | None, allow_unverified_data: bool, *, force_resume: bool = False
) -> "RunOptions":
    """Return the run options from a command's flags."""
    from runner.worker.options import RunOptions

    return RunOptions(
        device=device.value,
        data_dir=data_dir,
        allow_unverified_data=allow_unverified_data,
        force_resume=force_resume,
    )


def settings_from(
    options: "RunOptions", engine: str | None, slots_per_gpu: int | None, *, as_json: bool = False
) -> "Settings":
    """Return the submit settings from a command's flags; raise UserError for an unknown engine."""
    from runner.submit.preview import Settings

    settings = Settings(options, engine or "local", slots_per_gpu, as_json)
    settings.engine_settings()  # report mistakes in engines.toml first
    return settings


def submitted(suite: str | None, models: Sequence[str] = ()) -> "list[JobPaths]":
    """Return the jobs submitted here, of one suite or all, and of these models or all.

    Raise UserError for an unknown suite, or a model without jobs here.
    """
    from benchmarks.suites import get_suite
    from runner.jobs.find import all_jobs, of_models, suites_of_jobs

    jobs = all_jobs()
    if suite is not None:
        get_suite(suite)
        of_suite = {fingerprint[:8] for fingerprint, suites in suites_of_jobs().items() if suite in suites}
        jobs = [paths for paths in jobs if paths.name[-8:] in of_suite]
    return of_models(jobs, models)
