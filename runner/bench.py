"""`runner bench`: how near the loop is to what this machine can do, and whether `fast` gives the errors of `reference`.

Each model is measured in a process of its own (runner/measure.py says what and how), so that start-up time and peak memory
are one model's and one slot's. Here is the rest: which models, the tables, what a suite would take. Light: no torch.
"""

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.datasets import get_dataset
from benchmarks.errors import UserError, unknown
from benchmarks.records import Job
from benchmarks.suites import SUITES, Suite, get_suite
from runner import plan
from runner.progress import duration

HEADINGS = (
    "model",
    "batch",
    "bare step",
    "loop",
    "usual loop",
    "loop / bare",
    "loop / usual",
    "GFLOP/s",
    "of the matrix rate",
    "of the memory rate",
    "memory",
    "start",
    "one seed",
)
EXPLANATION = (
    "Images/s of the bare step (forward, backward, optimiser on one batch that never changes), of our whole loop, and of the "
    "loop that people write (PIL images, DataLoader workers, `.item()` each step); medians, by turns. Arithmetic and bytes "
    "that a training must do at least, as shares of what a large matrix product and a large copy reach on the same machine. "
    "One seed: all epochs of the recipe on one slot, evaluations included."
)


@dataclass(frozen=True)
class Request:
    """What to measure, and how long: seconds for each model, once it has started up."""

    dataset: str
    models: tuple[str, ...] = ()  # none: the headline models of the data set
    profile: str = "reference"
    seconds: float = 20.0
    repeats: int = 5
    data_dir: Path | None = None
    allow_unverified: bool = False


def choose(request: Request, models: Mapping[str, Any]) -> list[str]:
    """The models to measure; raises UserError for one that the zoo or its recipes don't have."""
    get_dataset(request.dataset)
    trainable = [name for name, spec in models.items() if request.dataset in spec.variants]
    for name in request.models:
        if name not in models:
            raise unknown("model", name, models)
        if name not in trainable:
            raise UserError(
                f"model '{name}' has no recipe for '{request.dataset}': it is for {_datasets(models[name])}"
            )
    if not trainable:
        raise UserError(f"no model has a recipe for '{request.dataset}'")
    headline = [name for name in trainable if request.dataset in models[name].suites]
    return list(request.models) or headline or trainable


def _datasets(spec: Any) -> str:
    return ", ".join(spec.variants) or "taking apart only"


def measure_all(
    request: Request, names: Sequence[str], device: str, threads: int, console: Console
) -> list[dict[str, Any]]:
    """One row a model, as `--json` prints them. Raises UserError, with the child's last line, where one can't be measured."""
    if request.seconds <= 0:
        raise UserError(f"--seconds is {request.seconds:g}, expected more than 0")
    if request.repeats < 1:
        raise UserError(f"--repeats is {request.repeats}, expected 1 or more")
    rows = []
    for name in names:
        console.print(f"{request.dataset}/{name} ...", style="dim", soft_wrap=True)
        words = ["--model", name, "--dataset", request.dataset, "--profile", request.profile, "--device", device]
        words += ["--threads", str(threads), "--seconds", str(request.seconds), "--repeats", str(request.repeats)]
        words += ["--data-dir", str(request.data_dir)] if request.data_dir else []
        words += ["--allow-unverified-data"] * request.allow_unverified
        done = subprocess.run(
            [sys.executable, "-m", "runner.measure", *words], capture_output=True, text=True, check=False
        )
        if done.returncode:
            last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
            raise UserError(f"{request.dataset}/{name} can't be measured: {last.removeprefix('runner: ')}")
        rows.append(json.loads(done.stdout.splitlines()[-1]))
    return rows


# --- what it would take --------------------------------------------------------------------------------------------------


def seed_seconds(row: Mapping[str, Any], job: Job) -> float:
    """Seconds for one job at the measured rates (images/s): its epochs' training and their evaluations."""
    facts, recipe = get_dataset(job.dataset), job.effective_recipe
    holdout = recipe.get("holdout", 0)
    trained = facts.train_size - holdout
    if recipe.get("drop_last", False):
        trained -= trained % recipe["batch_size"]
    return float(recipe["epochs"] * (trained / row["loop"] + (holdout or facts.test_size) / row["evaluation"]))


def suite_hours(rows: Sequence[Mapping[str, Any]], suite: Suite, models: Mapping[str, Any], slots: int) -> float | None:
    """Hours for all jobs of a suite on so many slots; None where one of its models wasn't measured on its data set."""
    known = {(row["dataset"], row["model"]): row for row in rows}
    try:
        wanted = plan.make_jobs(suite, models)
    except UserError:  # a suite without models
        return None
    if not all((job.dataset, job.model) in known for job in wanted):
        return None
    return sum(seed_seconds(known[job.dataset, job.model], job) for job in wanted) / slots / 3600


# --- tables --------------------------------------------------------------------------------------------------------------


def cells(row: Mapping[str, Any], job: Job) -> list[str]:
    """A row of the table, one text for each of HEADINGS."""
    batch = str(row["batch_size"])
    if row["batch_size"] != row["recipe_batch_size"]:
        batch += f" of {row['recipe_batch_size']}"
    return [
        row["model"],
        batch,
        *(_rate(row[name]) for name in ("bare_step", "loop", "dataloader")),
        f"{row['loop_ratio']:.3f}",
        f"{row['speedup']:.2f}",
        _rate(row["gflops"]),
        f"{100 * row['arithmetic_share']:.0f} %",
        f"{100 * row['memory_share']:.0f} %",
        f"{row['peak_memory_mb'] / 1000:.1f} GB",
        f"{row['startup_seconds']:.0f} s",
        duration(seed_seconds(row, job)),
    ]


def _rate(value: float) -> str:
    return f"{value:,.1f}" if value < 100 else f"{value:,.0f}"


def caption(row: Mapping[str, Any]) -> str:
    """On what it was measured: hardware, threads, versions, profile with its switches, images."""
    where = row["hardware"] if row["device"] == "cuda" else f"{row['hardware']}, {row['threads']} thread(s)"
    versions = [f"torch {row['torch']}", f"CUDA {row['cuda']}" if row["cuda"] else "", f"Python {row['python']}"]
    switches = ", ".join(f"{name} {str(value).lower()}" for name, value in row["switches"].items())
    return (
        f"{row['dataset']} on {where}; {', '.join(filter(None, versions))}; profile {row['profile']} ({switches}); matrix rate "
        f"{row['matrix_gflops']:,.0f} GFLOP/s, memory rate {row['memory_gbytes']:,.1f} GB/s; {row['images']} images"
    ).replace("random images images", "random images")


def markdown(
    rows: Sequence[Mapping[str, Any]], planned: Mapping[str, Job], hours: Mapping[str, float], slots: int
) -> str:
    """The README's section: caption, table, hours."""
    lines = [f"`runner bench --dataset {rows[0]['dataset']}`: {caption(rows[0])}.", ""]
    lines += ["| " + " | ".join(HEADINGS) + " |", "|" + "|".join(["---", *["---:"] * (len(HEADINGS) - 1)]) + "|"]
    lines += ["| " + " | ".join(cells(row, planned[row["model"]])) + " |" for row in rows]
    lines += ["", EXPLANATION, *_hours_lines(hours, slots)]
    return "\n".join(lines)


def _hours_lines(hours: Mapping[str, float], slots: int) -> list[str]:
    return [
        f"Suite {name}: about {value:,.1f} h on {slots} slot(s), if they don't slow each other."
        for name, value in hours.items()
    ]


def show(request: Request, format_: str, console: Console, messages: Console) -> None:
    """Measure, and print as 'table', 'markdown' or 'json'."""
    from runner.engine import make_slots, threads_per_slot
    from zoo import load_models

    models = load_models()
    names = choose(request, models)
    threads = threads_per_slot()
    slots = make_slots(1, threads)
    rows = measure_all(request, names, slots[0].device, threads, messages)
    if format_ == "json":
        print(json.dumps(rows, indent=2))
        return
    planned = {name: _job(request, models[name]) for name in names}
    hours = {
        suite.name: found
        for suite in SUITES.values()
        if (found := suite_hours(rows, suite, models, len(slots))) is not None
    }
    if format_ == "markdown":
        print(markdown(rows, planned, hours, len(slots)))
        return
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for heading in HEADINGS:
        table.add_column(heading, justify="left" if heading == "model" else "right")
    for row in rows:
        table.add_row(*cells(row, planned[row["model"]]))
    console.print(table)
    for line in (caption(rows[0]), EXPLANATION, *_hours_lines(hours, len(slots))):
        console.print(line, style="dim")


def _job(request: Request, spec: Any) -> Job:
    variant = spec.variants[request.dataset]
    return Job(
        dataset=request.dataset, model=spec.name, revision=variant.revision, recipe=variant.recipe.to_dict(), seed=0
    )


# --- fast against reference ------------------------------------------------------------------------------------------------


def suite_of(dataset: str, model: str, models: Mapping[str, Any]) -> Suite:
    """A suite that trains the model's whole recipe on the data set; raises UserError where there is none."""
    if model not in models:
        raise unknown("model", model, models)
    fitting = [
        suite
        for suite in SUITES.values()
        if suite.datasets == (dataset,) and not suite.overrides and suite.sweep == ({},)
        and model in plan.models_of(suite, models)
    ]  # fmt: skip
    if not fitting or dataset not in models[model].variants:
        raise UserError(f"no suite trains '{model}' on '{dataset}': it is for {_datasets(models[model])}")
    return get_suite(fitting[0].name)


def equivalence_study(
    dataset: str, model: str, seeds: int, settings: Any, console: Console, *, dry_run: bool = False
) -> int:
    """Train `seeds` seeds in each profile, those still missing, and print what two one-sided tests say. The exit code."""
    from benchmarks import leaderboard
    from runner import submit
    from runner.jobs import results_folder, runs_folder
    from zoo import load_models

    if seeds < 2:
        raise UserError(f"--seeds is {seeds}, expected 2 or more")
    models = load_models()
    suite = suite_of(dataset, model, models)
    planned = [
        job
        for profile in leaderboard.PROFILES
        for job in plan.make_jobs(suite, models, only=[model], seeds=range(seeds), profile=profile)
    ]
    if dry_run:
        states = submit.states_of(planned)
        for job, state in zip(planned, states, strict=True):
            console.print(f"{state:<12} {job.key}", soft_wrap=True)
        return 0
    code = submit.run(planned, suite.name, settings, console)
    if code:
        return code
    board = leaderboard.make_board(leaderboard.read(results_folder(), runs_folder()), {dataset}, {model})
    found = leaderboard.make_equivalences(board)
    for row in found.to_dict("records"):
        interval = "" if row["low"] is None else f", 90 % interval {row['low']:+.2f} to {row['high']:+.2f}"
        console.print(
            f"{dataset}/{model}, {row['data']} data: {row['profile']} is {row['verdict']} beside reference "
            f"(margin {row['margin']:.2f}{interval}). {row['reason']}",
            soft_wrap=True,
        )
    if found.empty:
        console.print(f"{dataset}/{model}: too few finished runs to set fast beside reference", soft_wrap=True)
    return 0
