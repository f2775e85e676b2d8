"""Commands about suites and models: suites, models, bench, try, new-model, check."""

import json
from enum import StrEnum
from typing import Annotated

import typer

from benchmarks.errors import UserError
from runner.commands.shared import (
    DataDir,
    Device,
    DeviceOption,
    JsonOption,
    ModelsOption,
    Profile,
    Unverified,
    make_console,
    options_from,
    settings_from,
)


class BenchFormat(StrEnum):
    """The output format of a benchmark."""

    table = "table"
    markdown = "markdown"
    json = "json"


def suites(json_: JsonOption = False) -> None:
    """List the suites: data sets, models, seeds, number of jobs."""
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
    make_console().print(table)


def models(
    name: Annotated[str | None, typer.Argument(help="Show this model: its layers, recipe and departures.")] = None,
    dataset: Annotated[str | None, typer.Option("--dataset", help="The data set.")] = None,
    write_cards: Annotated[bool, typer.Option("--write-cards", help="Write results/cards/*.json.")] = False,
    json_: JsonOption = False,
) -> None:
    """Show the zoo: parameters and multiply-accumulates of each model, or one model's layers."""
    from runner.reporting import cards

    cards.show(name, dataset, write_cards=write_cards, as_json=json_, console=make_console())


def bench(
    model: ModelsOption = [],  # noqa: B006
    dataset: Annotated[str, typer.Option("--dataset", help="The data set.")] = "cifar10",
    profile: Annotated[Profile, typer.Option(help="Measure this profile.")] = Profile.reference,
    seconds: Annotated[float, typer.Option("--seconds", help="How long to measure each model.")] = 20.0,
    repeats: Annotated[
        int, typer.Option("--repeats", help="Repetitions of each measurement; the median is reported.")
    ] = 9,
    concurrent: Annotated[
        list[int],
        typer.Option("--concurrent", metavar="K", help="Also measure K concurrent jobs of a model; may be repeated."),
    ] = [],  # noqa: B006
    format_: Annotated[BenchFormat, typer.Option("--format", help="The output format.")] = BenchFormat.table,
    json_: JsonOption = False,
    equivalence: Annotated[
        bool,
        typer.Option(
            "--equivalence", help="Train one --model with both profiles and test whether their errors are equal."
        ),
    ] = False,
    seeds: Annotated[
        int | None,
        typer.Option("--seeds", help="With --equivalence: the number of seeds of each profile. Default: 10."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="With --equivalence: show the jobs and stop.")] = False,
    engine: Annotated[
        str | None, typer.Option("--engine", help="With --equivalence: as for submit. Default: local.")
    ] = None,
    slots_per_gpu: Annotated[
        int | None, typer.Option("--slots-per-gpu", help="With --equivalence: as for submit.")
    ] = None,
    device: DeviceOption = Device.auto,
    data_dir: DataDir = None,
    allow_unverified_data: Unverified = False,
) -> None:
    """Measure training speed on this machine: the bare step, our loop, a common DataLoader loop, and the time of a suite.

    runner bench --model nin --model allcnn_c

    runner bench --dataset mnist --repeats 30 --seconds 60 --format markdown

    runner bench --model nin --profile fast --concurrent 2 --concurrent 4

    runner bench --equivalence --model nin_dropout --slots-per-gpu 4
    """
    from runner.bench import command as benching
    from runner.bench.equivalence import equivalence_study
    from runner.bench.request import BenchRequest

    options = options_from(device, data_dir, allow_unverified_data)
    if not equivalence:
        flags = {"dry-run": dry_run or None, "seeds": seeds, "slots-per-gpu": slots_per_gpu, "engine": engine}
        if misplaced := [name for name, value in flags.items() if value is not None]:
            raise UserError(f"--{misplaced[0]} needs --equivalence")
        request = BenchRequest(
            model="",
            dataset=dataset,
            profile=profile.value,
            seconds=seconds,
            repeats=repeats,
            options=options,
        )
        shape = "json" if json_ else format_.value
        raise typer.Exit(benching.show(request, model, shape, make_console(stderr=True), concurrent))
    excluded = {"concurrent": concurrent, "json": json_, "format": format_ is not BenchFormat.table}
    if misplaced := [name for name, value in excluded.items() if value]:
        raise UserError(f"--{misplaced[0]} can't be combined with --equivalence: leave one out")
    if len(model) != 1:
        raise UserError(f"--equivalence tests one model: --model was given {len(model)} times, expected once")
    settings = settings_from(options, engine, slots_per_gpu)
    count = 10 if seeds is None else seeds
    raise typer.Exit(
        equivalence_study(dataset, model[0], count, settings, make_console(submits=not dry_run), dry_run=dry_run)
    )


def try_(
    model: Annotated[str, typer.Argument(help="A model; `runner models` lists them.")],
    dataset: Annotated[str | None, typer.Option("--dataset", help="The data set. Default: the model's first.")] = None,
    steps: Annotated[int, typer.Option("--steps", help="The number of steps (batches).")] = 200,
    every: Annotated[int, typer.Option("--every", help="Print the mean loss and error of every N steps.")] = 10,
    seed: Annotated[int, typer.Option("--seed", help="Seed of initial weights, order, augmentation and dropout.")] = 0,
    profile: Annotated[Profile, typer.Option(help="As for submit.")] = Profile.reference,
    changes: Annotated[
        list[str], typer.Option("--set", metavar="FIELD=VALUE", help="Override a field of the recipe; may be repeated.")
    ] = [],  # noqa: B006
    device: DeviceOption = Device.auto,
    data_dir: DataDir = None,
    allow_unverified_data: Unverified = False,
    json_: JsonOption = False,
) -> None:
    """Train the first steps of a recipe, to see whether it learns. Keeps no files. Exit code 1 if the error stays at chance.

    runner try nin --dataset cifar10 --steps 300

    runner try conv_gap --set learning_rate=0.05 --set 'init=[["*.weight","xavier_normal",1.0],["*.bias","constant",0.0]]'
    """
    from runner.bench import try_model
    from runner.submit import plan

    overrides = plan.parse_overrides(changes)
    options = options_from(device, data_dir, allow_unverified_data)
    trial = try_model.TrialOptions(model, dataset, steps, every, seed, profile.value, overrides, options)
    raise typer.Exit(try_model.show(trial, make_console(), as_json=json_))


def new_model(
    name: Annotated[str, typer.Argument(help="Lower-case letters, digits and _; also the name of its file.")],
    paper: Annotated[
        str | None,
        typer.Option(
            "--paper",
            metavar="KEY",
            help="The key of its source, such as lin2013. An existing source file is kept. Default: NAME.",
        ),
    ] = None,
) -> None:
    """Write the two files of a new model from templates: zoo/NAME.py and benchmarks/papers/NAME.toml."""
    from runner import new_model as creating

    creating.create(name, print, paper)


def check(
    name: Annotated[list[str], typer.Argument(metavar="NAME...", help="Models.", show_default=False)] = [],  # noqa: B006
    all_: Annotated[bool, typer.Option("--all", help="All models of the zoo.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Write nothing, and report files that would be written as missing.")
    ] = False,
) -> None:
    """Write a model's card and digest, run its contract tests, verify its records, and say what is missing.

    runner check lenet
    """
    from runner.reporting import check as checking

    if bool(name) == all_:
        raise UserError("nothing to check: expected NAME or --all")
    raise typer.Exit(checking.run(name, dry_run))
