"""Run `runner bench`: measure how close the loop is to the machine's limit, and print the results.

Each model is measured in a process of its own (see throughput.py), so that start-up time and peak memory belong to one
model and one slot. This module chooses the models, formats the tables and estimates the time of whole suites.
"""

import json
import os
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.datasets import get_dataset
from benchmarks.errors import UserError
from benchmarks.records import Job
from benchmarks.suites import SUITES
from runner.bench.concurrency import measure_concurrency
from runner.bench.request import BenchRequest, choose
from runner.engines.slots import make_slots, take_one, threads_per_slot
from runner.sources import child_variables, python
from runner.submit import plan
from runner.submit.estimate import epoch_images
from runner.text import columns, duration, markdown_table

FAST_HEADINGS = ("reference step", "fast/reference")  # only if `fast` is measured
HEADINGS = (
    "model",
    "batch",
    "bare step",
    "loop",
    "usual loop",
    "loop/bare",
    "overhead",
    "loop/usual",
    "GFLOP/s",
    "arithmetic",
    "bytes",
    "memory",
    "start",
    "one seed",
)
EXPLANATION = (
    "Rates are images/s, medians of the repetitions; ratios are medians of the ratios within a repetition. Bare step: forward, "
    "backward and optimiser on one constant batch. Loop: our whole training loop. Usual loop: a common DataLoader loop (PIL "
    "images, transforms, worker processes, `.item()` after each step). Reference step: the bare step of `reference`, if `fast` "
    "is measured. On one CPU thread the ratios are of processor times (workers included). Overhead, on a CPU: the time of our "
    "loop without the network, including checkpoints, as a share of the bare step; measured with a network of almost no cost, "
    "because the repetitions differ by more than it. Arithmetic and bytes: the least that a step must compute and move, as "
    "shares of the rates of a large matrix product and a large copy on this machine. Start: from the start of the process to "
    "the end of its first step. One seed: all epochs of the recipe on one slot, with the evaluations."
)
DISTURBED = 0.9  # below this share of its cores a process counts as disturbed by others


def measure_one(request: BenchRequest, messages: Console) -> dict[str, Any] | None:
    """Return one model's row, as `--json` prints it; None if the measurement fails.

    The messages of the measuring process are printed.
    """
    with tempfile.TemporaryDirectory() as folder:
        request.write(Path(folder) / "request.json")
        command = python("-m", "runner.bench.throughput", str(Path(folder) / "request.json"))
        process = subprocess.run(
            command, env=os.environ | child_variables(), capture_output=True, text=True, check=False
        )
    output = process.stderr.strip().splitlines()
    if process.returncode:
        why = output[-1] if output else f"exit code {process.returncode}"
        messages.print(f"runner: {request.dataset}/{request.model} can't be measured: {why}", soft_wrap=True)
        return None
    for line in output:
        messages.print(f"  {line}", soft_wrap=True)
    row: dict[str, Any] = json.loads(process.stdout.splitlines()[-1])
    if row["cpu_share"] is not None and row["cpu_share"] < DISTURBED:
        messages.print(f"  {disturbed(row)}", soft_wrap=True)
    messages.print(f"  {in_short(row)}", soft_wrap=True)
    return row


def add_concurrent(row: dict[str, Any], request: BenchRequest, counts: Sequence[int], messages: Console) -> bool:
    """Measure `counts` jobs of the model side by side, and add their total images/s and gain to the row as `concurrent`.

    Return False, after printing a line, if the measurement fails, for example for lack of memory.
    """
    try:
        alone, *several = measure_concurrency(request, counts)
    except UserError as error:
        messages.print(f"runner: {max(counts)} concurrent jobs can't be measured: {error}", soft_wrap=True)
        return False
    row["concurrent"] = [
        {"jobs": result.jobs, "images_per_second": round(result.rate, 3), "gain": round(result.gain(alone), 4)}
        for result in (alone, *several)
    ]
    for result in row["concurrent"][1:]:
        messages.print(
            f"  {result['jobs']} concurrent jobs: {_rate(result['images_per_second'])} images/s, "
            f"{result['gain']:.2f} times the rate of one job",
            soft_wrap=True,
        )
    return True


def in_short(row: Mapping[str, Any]) -> str:
    """Return the result in one line.

    It is printed immediately, so that a long run that is stopped has already shown its results.
    """
    overhead = "" if row["overhead_share"] is None else f" (the loop itself adds {100 * row['overhead_share']:.2f} %)"
    fast = (
        "" if row["fast_ratio"] is None else f"; the bare step is {row['fast_ratio']:.2f} times as fast as in reference"
    )
    return (
        f"{_rate(row['loop'])} images/s: {row['loop_ratio']:.3f} times the bare step's rate{overhead}, "
        f"{row['speedup']:.2f} times the usual loop's rate{fast}"
    )


def disturbed(row: Mapping[str, Any]) -> str:
    """Return the note that other processes used the machine."""
    return f"disturbed by other processes: it had {100 * row['cpu_share']:.0f} % of its cores"


# --- estimated time --------------------------------------------------------------------------------------------------------


def seed_seconds(row: Mapping[str, Any], job: Job) -> float:
    """Return the seconds for one job at the measured rates (images/s): training and evaluation of all epochs."""
    tested = job.effective_recipe.get("holdout") or get_dataset(job.dataset).test_size
    return float((job.most_epochs or 1) * (epoch_images(job) / row["loop"] + tested / row["evaluation"]))


def suite_hours(rows: Sequence[Mapping[str, Any]], models: Mapping[str, Any], slots: int) -> dict[str, float]:
    """Return the hours for all jobs of a suite on `slots` slots, by suite name.

    Only suites whose every model was measured on each of its data sets are included.
    """
    known = {(row["dataset"], row["model"]): row for row in rows}
    hours = {}
    for suite in SUITES.values():
        jobs = plan.make_jobs(suite, models) if plan.models_of(suite, models) else []
        if jobs and all((job.dataset, job.model) in known for job in jobs):
            hours[suite.name] = sum(seed_seconds(known[job.dataset, job.model], job) for job in jobs) / slots / 3600
    return hours


# --- tables --------------------------------------------------------------------------------------------------------------


def headings(row: Mapping[str, Any]) -> list[str]:
    """Return the headings of a table that contains this row."""
    fast = () if row["fast_ratio"] is None else FAST_HEADINGS
    return [*HEADINGS[:3], *fast, *HEADINGS[3:]]


def cells(row: Mapping[str, Any], job: Job) -> list[str]:
    """Return a row of the table: one text per heading of `headings(row)`."""
    batch = str(row["batch_size"])
    if row["batch_size"] != row["recipe_batch_size"]:
        batch += f" of {row['recipe_batch_size']}"
    return [
        row["model"],
        batch,
        _rate(row["bare_step"]),
        *([] if row["fast_ratio"] is None else [_rate(row["reference_step"]), f"{row['fast_ratio']:.2f}"]),
        *(_rate(row[name]) for name in ("loop", "dataloader")),
        f"{row['loop_ratio']:.3f}",
        "-" if row["overhead_share"] is None else f"{100 * row['overhead_share']:.2f} %",
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


def caption(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return what was measured where: images, hardware, threads, versions, profile with its switches, disturbance."""
    row = rows[0]
    where = row["hardware"] if row["device"] == "cuda" else f"{row['hardware']}, {row['threads']} thread(s)"
    versions = [f"torch {row['torch']}", f"CUDA {row['cuda']}" if row["cuda"] else "", f"Python {row['python']}"]
    common = [(name, on) for name, on in row["switches"].items() if on and all(r["switches"][name] == on for r in rows)]
    # Only the switches that all rows share: the memory layout differs by model.
    switches = [name if on is True else f"{name} {on}" for name, on in common]
    text = (
        f"{row['dataset']} ({row['images']} images) on {where}; {', '.join(filter(None, versions))}; profile {row['profile']}: "
        f"{', '.join(switches)}; matrix rate up to {_rate(max(r['matrix_gflops'] for r in rows))} GFLOP/s, memory rate up to "
        f"{_rate(max(r['memory_gbytes'] for r in rows))} GB/s; {row['repeats']} repetitions"
    )
    shares = [r for r in rows if r["cpu_share"] is not None]
    worst = min(shares, key=lambda r: r["cpu_share"], default=None)
    return f"{text}; {disturbed(worst)}" if worst is not None and worst["cpu_share"] < DISTURBED else text


def hours_lines(hours: Mapping[str, float], slots: int) -> list[str]:
    """Return one line per suite with its estimated hours."""
    return [
        f"Suite {name}: about {value:,.1f} h on {slots} slot(s), if slots do not slow each other."
        for name, value in hours.items()
    ]


def markdown(tables: Sequence[Sequence[Sequence[str]]], captions: str, notes: Sequence[str]) -> str:
    """Return the README's section: caption, tables, notes."""
    blocks = [f"{captions}.", *map(markdown_table, tables), "\n".join(notes)]
    return "\n\n".join(blocks)


def plain(tables: Sequence[Sequence[Sequence[str]]], captions: str, notes: Sequence[str]) -> str:
    """Return the section as plain text. Columns are as wide as needed, so piped output is not truncated."""
    blocks = ["\n".join(columns(table, left=1)) for table in tables]
    return "\n\n".join([*blocks, "\n".join([f"{captions}.", *notes])])


def concurrency_table(rows: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """Return the table of total images/s, with one row per model and number of jobs."""
    lines = [["model", "concurrent jobs", "total images/s", "gain over one job"]]
    for row in rows:
        for result in row.get("concurrent", ()):
            rate, gain = _rate(result["images_per_second"]), f"{result['gain']:.2f}"
            lines.append([row["model"], str(result["jobs"]), rate, gain])
    return lines


def show(
    request: BenchRequest, names: Sequence[str], format_: str, messages: Console, concurrent: Sequence[int] = ()
) -> int:
    """Measure the models `names` as `request` says (except its model and device); print as 'table', 'markdown' or 'json'.

    `concurrent`: also measure these numbers of jobs side by side, on one GPU or each on its own share of the processor.
    Return the exit code: 1 if a model could not be measured. Raise UserError for invalid options.
    """
    from zoo import load_models

    if request.seconds <= 0:
        raise UserError(f"--seconds is {request.seconds:g}, expected more than 0")
    if request.repeats < 1:
        raise UserError(f"--repeats is {request.repeats}, expected 1 or more")
    if concurrent and min(concurrent) < 2:
        raise UserError(f"--concurrent is {min(concurrent)}, expected 2 or more")
    models, threads = load_models(), threads_per_slot()
    model_names = choose(request.dataset, names, models)
    slots = make_slots(1, threads, request.options.device, messages.print)
    lock = take_one(slots, threads)
    rows, complete = [], True
    for number, name in enumerate(model_names, 1):
        messages.print(f"{number}/{len(model_names)} {request.dataset}/{name}", soft_wrap=True)
        here = {"device": lock.slot.device, "threads": threads}
        request = request.model_copy(update={"model": name, "options": request.options.model_copy(update=here)})
        row = measure_one(request, messages)
        complete &= row is not None
        if row is not None:
            rows.append(row)
            complete &= not concurrent or add_concurrent(row, request, concurrent, messages)
    if format_ == "json":
        print(json.dumps(rows, indent=2))
    elif rows:
        tables = [[headings(rows[0]), *(cells(row, _job(row, models)) for row in rows)]]
        if concurrent:
            tables.append(concurrency_table(rows))
        notes = [EXPLANATION, *hours_lines(suite_hours(rows, models, len(slots)), len(slots))]
        print((markdown if format_ == "markdown" else plain)(tables, caption(rows), notes))
    return int(not complete)


def _job(row: Mapping[str, Any], models: Mapping[str, Any]) -> Job:
    variant = models[row["model"]].variants[row["dataset"]]
    recipe = variant.recipe.to_dict()
    return Job(dataset=row["dataset"], model=row["model"], revision=variant.revision, recipe=recipe, seed=0)
