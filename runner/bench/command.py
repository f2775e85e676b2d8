"""`runner bench`: how near the loop is to what this machine can do, and whether `fast` gives the errors of `reference`.

Each model is measured in a process of its own (throughput.py says what and how), so that start-up time and peak memory
are one model's and one slot's. Here is the rest: which models, the tables, what a suite would take.
"""

import dataclasses
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
from runner.engines.local import enter, make_slots, threads_per_slot
from runner.submit import plan
from runner.submit.progress import columns, duration

FAST_HEADINGS = ("reference step", "fast/reference")  # where `fast` is measured
HEADINGS = (
    "model",
    "batch",
    "bare step",
    "loop",
    "usual loop",
    "loop/bare",
    "own",
    "loop/usual",
    "GFLOP/s",
    "arithmetic",
    "bytes",
    "memory",
    "start",
    "one seed",
)
EXPLANATION = (
    "Images/s of the bare step (forward, backward, optimiser, on one batch that never changes), of our whole loop, and of "
    "the loop that people write (PIL images, transforms, DataLoader workers, `.item()` after each step): medians of turns, and "
    "of their ratios. Reference step: that profile's bare step, where `fast` is measured; on one thread of a CPU "
    "fast/reference is of processor time. Own, on a CPU: what our loop itself costs, checkpoints too, as a share of the bare "
    "step; measured around a network that does next to nothing, where it isn't lost in the differences between turns. "
    "Arithmetic and bytes: what a step has to compute and to move at least, as shares of what a large matrix product and a "
    "large copy reach here. Start: from the process's start to the end of its first step. One seed: all epochs of the recipe "
    "on one slot, with their evaluations."
)
DISTURBED = 0.9  # a process that got less than this share of its cores was disturbed by others


@dataclass(frozen=True)
class Question:
    """What to measure of one model, and how long: about so many seconds once it has started up."""

    model: str
    dataset: str
    profile: str = "reference"
    device: str = "cpu"
    threads: int = 1
    seconds: float = 20.0
    repeats: int = 9
    data_dir: Path | None = None
    allow_unverified_data: bool = False

    def argv(self) -> list[str]:
        """The command line that asks a child: the fields by their names."""
        fields = {name: value for name, value in dataclasses.asdict(self).items() if value not in (None, False)}
        words = [
            [f"--{name.replace('_', '-')}", *([] if value is True else [str(value)])] for name, value in fields.items()
        ]
        return [word for pair in words for word in pair]


def choose(dataset: str, names: Sequence[str], models: Mapping[str, Any]) -> list[str]:
    """The models to measure on a data set: those named, else its headline models.

    Raises UserError for a model that the zoo doesn't have, or that has no recipe for the data set.
    """
    get_dataset(dataset)
    for name in names:
        if name not in models:
            raise unknown("model", name, models)
        if dataset not in models[name].variants:
            known = ", ".join(models[name].variants) or "taking apart only"
            raise UserError(f"model '{name}' has no recipe for '{dataset}': it is for {known}")
    headline = plan.models_of(get_suite(dataset), models) if dataset in SUITES else {}
    trainable = [name for name, spec in models.items() if dataset in spec.variants]
    return list(dict.fromkeys(names)) or [name for name in trainable if name in headline] or trainable


def measure_one(question: Question, messages: Console) -> dict[str, Any] | None:
    """The row of one model, as `--json` prints it; None, with what its process said, where it can't be measured."""
    command = [sys.executable, "-m", "runner.bench.throughput", *question.argv()]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    said = done.stderr.strip().splitlines()
    if done.returncode:
        why = said[-1] if said else f"exit code {done.returncode}"
        messages.print(f"runner: {question.dataset}/{question.model} can't be measured: {why}", soft_wrap=True)
        return None
    for line in said:
        messages.print(f"  {line}", soft_wrap=True)
    row: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    if row["cpu_share"] is not None and row["cpu_share"] < DISTURBED:
        messages.print(f"  {disturbed(row)}", soft_wrap=True)
    messages.print(f"  {in_short(row)}", soft_wrap=True)
    return row


def add_at_once(row: dict[str, Any], question: Question, counts: Sequence[int], messages: Console) -> bool:
    """Measure so many jobs of the model at once, into `at_once` of its row: their images/s together, times one alone.

    False, and a line, where they can't be: there may be no memory for so many.
    """
    from runner.bench.concurrency import measure_at_once

    try:
        alone, *several = measure_at_once(question, counts)
    except UserError as error:
        messages.print(f"runner: {max(counts)} at once can't be measured: {error}", soft_wrap=True)
        return False
    row["at_once"] = [
        {"jobs": found.jobs, "images_per_second": round(found.rate, 3), "gain": round(found.gain(alone), 4)}
        for found in (alone, *several)
    ]
    for found in row["at_once"][1:]:
        messages.print(
            f"  {found['jobs']} at once: {_rate(found['images_per_second'])} images/s, {found['gain']:.2f} times one alone",
            soft_wrap=True,
        )
    return True


def in_short(row: Mapping[str, Any]) -> str:
    """What came out, in a line: said at once, so that a long run that is stopped has not been for nothing."""
    own = "" if row["own_share"] is None else f" (the loop itself costs {100 * row['own_share']:.2f} %)"
    return (
        f"{_rate(row['loop'])} images/s: {row['loop_ratio']:.3f} of the bare step's rate{own}, "
        f"{row['speedup']:.2f} of the usual loop's"
    )


def disturbed(row: Mapping[str, Any]) -> str:
    """That others used the machine."""
    return f"disturbed by others: it got {100 * row['cpu_share']:.0f} % of its cores"


# --- what it would take --------------------------------------------------------------------------------------------------


def seed_seconds(row: Mapping[str, Any], job: Job) -> float:
    """Seconds for one job at the measured rates (images/s): its epochs' training and their evaluations."""
    facts, recipe = get_dataset(job.dataset), job.effective_recipe
    holdout = recipe.get("holdout", 0)
    trained = facts.training_images(holdout)
    if recipe.get("drop_last", False):
        trained -= trained % recipe["batch_size"]
    return float(recipe["epochs"] * (trained / row["loop"] + (holdout or facts.test_size) / row["evaluation"]))


def suite_hours(rows: Sequence[Mapping[str, Any]], models: Mapping[str, Any], slots: int) -> dict[str, float]:
    """For each suite whose every model was measured on each of its data sets: hours for all its jobs on so many slots."""
    known = {(row["dataset"], row["model"]): row for row in rows}
    hours = {}
    for suite in SUITES.values():
        wanted = plan.make_jobs(suite, models) if plan.models_of(suite, models) else []
        if wanted and all((job.dataset, job.model) in known for job in wanted):
            hours[suite.name] = sum(seed_seconds(known[job.dataset, job.model], job) for job in wanted) / slots / 3600
    return hours


# --- tables --------------------------------------------------------------------------------------------------------------


def headings(row: Mapping[str, Any]) -> list[str]:
    """The headings of a table with this row."""
    fast = () if row["fast_ratio"] is None else FAST_HEADINGS
    return [*HEADINGS[:3], *fast, *HEADINGS[3:]]


def cells(row: Mapping[str, Any], job: Job) -> list[str]:
    """A row of the table: one text for each of HEADINGS, and of FAST_HEADINGS after the bare step's in a row of `fast`."""
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
        "-" if row["own_share"] is None else f"{100 * row['own_share']:.2f} %",
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
    """On what it was measured: hardware, threads, versions, profile with what it switches on, images; what disturbed it."""
    row = rows[0]
    where = row["hardware"] if row["device"] == "cuda" else f"{row['hardware']}, {row['threads']} thread(s)"
    versions = [f"torch {row['torch']}", f"CUDA {row['cuda']}" if row["cuda"] else "", f"Python {row['python']}"]
    common = [(name, on) for name, on in row["switches"].items() if on and all(r["switches"][name] == on for r in rows)]
    switches = [name if on is True else f"{name} {on}" for name, on in common]  # the memory layout is a model's own
    text = (
        f"{row['dataset']} ({row['images']} images) on {where}; {', '.join(filter(None, versions))}; profile {row['profile']}: "
        f"{', '.join(switches)}; matrix rate up to {_rate(max(r['matrix_gflops'] for r in rows))} GFLOP/s, memory rate up to "
        f"{_rate(max(r['memory_gbytes'] for r in rows))} GB/s; {row['repeats']} turns"
    )
    shares = [r for r in rows if r["cpu_share"] is not None]
    worst = min(shares, key=lambda r: r["cpu_share"], default=None)
    return f"{text}; {disturbed(worst)}" if worst is not None and worst["cpu_share"] < DISTURBED else text


def hours_lines(hours: Mapping[str, float], slots: int) -> list[str]:
    """What a whole suite would take."""
    return [
        f"Suite {name}: about {value:,.1f} h on {slots} slot(s), if they don't slow each other."
        for name, value in hours.items()
    ]


def markdown(tables: Sequence[Sequence[Sequence[str]]], captions: str, notes: Sequence[str]) -> str:
    """The README's section: caption, tables, notes."""
    blocks = [f"{captions}.", *map(_markdown_table, tables), "\n".join(notes)]
    return "\n\n".join(blocks)


def _markdown_table(table: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(line) + " |" for line in table]
    lines.insert(1, "|" + "|".join(["---", *["---:"] * (len(table[0]) - 1)]) + "|")
    return "\n".join(lines)


def plain(tables: Sequence[Sequence[Sequence[str]]], captions: str, notes: Sequence[str]) -> str:
    """The same for a terminal: columns as wide as they need to be, so that nothing is cut off where it's piped."""
    blocks = ["\n".join(columns(table, left=1)) for table in tables]
    return "\n\n".join([*blocks, "\n".join([f"{captions}.", *notes])])


def at_once_table(rows: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """A line for each number of jobs of each model: what they get done together."""
    lines = [["model", "jobs at once", "images/s together", "times one alone"]]
    for row in rows:
        for found in row.get("at_once", ()):
            rate, gain = _rate(found["images_per_second"]), f"{found['gain']:.2f}"
            lines.append([row["model"], str(found["jobs"]), rate, gain])
    return lines


def show(asked: Question, names: Sequence[str], format_: str, messages: Console, at_once: Sequence[int] = ()) -> int:
    """Measure the models `names` as `asked` says (its model and device aside), print as 'table', 'markdown' or 'json'.

    `at_once`: also with so many jobs of each model side by side on one GPU, or each on its own share of the processor. The
    exit code: 1 where a model couldn't be measured. Raises UserError for what can't be asked.
    """
    from zoo import load_models

    if asked.seconds <= 0:
        raise UserError(f"--seconds is {asked.seconds:g}, expected more than 0")
    if asked.repeats < 1:
        raise UserError(f"--repeats is {asked.repeats}, expected 1 or more")
    if at_once and min(at_once) < 2:
        raise UserError(f"--at-once is {min(at_once)}, expected 2 or more")
    models, threads = load_models(), threads_per_slot()
    chosen = choose(asked.dataset, names, models)
    slots = make_slots(1, threads)
    enter(slots[0], threads)
    rows, complete = [], True
    for number, name in enumerate(chosen, 1):
        messages.print(f"{number}/{len(chosen)} {asked.dataset}/{name}", soft_wrap=True)
        question = dataclasses.replace(asked, model=name, device=slots[0].device, threads=threads)
        row = measure_one(question, messages)
        complete &= row is not None
        if row is not None:
            rows.append(row)
            complete &= not at_once or add_at_once(row, question, at_once, messages)
    if format_ == "json":
        print(json.dumps(rows, indent=2))
    elif rows:
        tables = [[headings(rows[0]), *(cells(row, _job(row, models)) for row in rows)]]
        tables += [at_once_table(rows)] * bool(at_once)
        notes = [EXPLANATION, *hours_lines(suite_hours(rows, models, len(slots)), len(slots))]
        print((markdown if format_ == "markdown" else plain)(tables, caption(rows), notes))
    return int(not complete)


def _job(row: Mapping[str, Any], models: Mapping[str, Any]) -> Job:
    variant = models[row["model"]].variants[row["dataset"]]
    recipe = variant.recipe.to_dict()
    return Job(dataset=row["dataset"], model=row["model"], revision=variant.revision, recipe=recipe, seed=0)


# --- fast against reference ------------------------------------------------------------------------------------------------


def suite_of(dataset: str, model: str, models: Mapping[str, Any]) -> Suite:
    """A suite that trains the model's whole recipe on the data set; raises UserError where there is none."""
    choose(dataset, [model], models)
    for suite in SUITES.values():
        whole = suite.datasets == (dataset,) and not suite.overrides and suite.sweep == ({},)
        if whole and model in plan.models_of(suite, models):
            return suite
    raise UserError(f"no suite trains '{model}' on '{dataset}'")


def equivalence_study(
    dataset: str, model: str, seeds: int, settings: Any, console: Console, *, dry_run: bool = False
) -> int:
    """Train `seeds` seeds in each profile, those still missing, and print what two one-sided tests say. The exit code."""
    from benchmarks import leaderboard
    from runner.jobs.paths import results_folder, runs_folder
    from runner.submit import run as submit
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
