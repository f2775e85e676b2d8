"""Add seeds until every row of a suite is decided, for `runner submit --until-decided`.

A row has interim analyses at 5, 10, 15 or 20 finished seeds only (benchmarks/verdicts.py: INTERIM_SIZES). Records of seeds
added after an interim analysis are marked.
"""

import dataclasses
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd
from rich.console import Console

from benchmarks.errors import UserError
from benchmarks.leaderboard import ROW_KEY, make_board, read
from benchmarks.plural import number
from benchmarks.records import Job
from benchmarks.suites import Suite
from benchmarks.verdicts import INTERIM_SIZES, MIN_SEEDS, next_interim_size
from runner.jobs.find import all_jobs, read_jobs
from runner.jobs.paths import Group, JobPaths, PlannedJob, results_folder, runs_folder
from runner.jobs.state import JobView, state_of, status_json
from runner.submit.plan import make_jobs
from runner.submit.preview import Settings, is_retried
from runner.submit.run import run as run_jobs

UNDECIDED = ("not run", "more seeds", "inconclusive")


@dataclass(frozen=True)
class Row:
    """What an interim analysis needs of a row of the board: its verdict and its seeds."""

    verdict: str
    n: int = 0  # finished seeds
    ended: int = 0  # finished, collapsed and diverged seeds
    seeds: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Decision:
    """The result of one interim analysis for one row."""

    row: Row
    jobs: tuple[Job, ...]
    why: str  # a clause for the plan


def decide(template: Job, row: Row, unavailable: set[int], failed: int, max_seeds: int) -> Decision:
    """Return the seeds that take a row to its next interim analysis, or why there are none: a pure function.

    `template` is any job of the row; `unavailable` are seeds with a record or a failure here, `failed` is the number of
    failures. At most `max_seeds` seeds of a row are ever run, including those that fail to train. None is run if the next
    interim analysis is out of reach: the row would not be judged with them, and would lose the verdict that it has.
    """
    if row.verdict not in UNDECIDED:
        return Decision(row, (), row.verdict)
    if row.n == 0 and row.ended >= MIN_SEEDS:
        return Decision(row, (), f"none of {number(row.ended, 'seed')} trained")
    size = next_interim_size(row.n)
    left = max_seeds - row.ended - failed
    still = f"still {row.verdict} at {number(row.n, 'seed')}"
    if size is None:
        return Decision(row, (), f"{still}, the largest number that is judged")
    if size - row.n > left:
        limit = f"the next number that is judged is {size}, and at most {max_seeds} seeds are run, failed ones included"
        return Decision(row, (), f"{still}: {limit}")
    free = (seed for seed in range(2**31 - 1) if seed not in unavailable and seed not in row.seeds)
    seeds = [next(free) for _ in range(size - row.n)]
    planned = tuple(template.model_copy(update={"seed": seed}) for seed in seeds)
    at = f"{row.verdict} at {number(row.n, 'seed')}"
    return Decision(row, planned, f"{at}, {len(planned)} more planned, to judge it at {size}")


def check_max_seeds(max_seeds: int) -> None:
    """Raise UserError for a limit outside the interim sizes."""
    if not INTERIM_SIZES[0] <= max_seeds <= INTERIM_SIZES[-1]:
        raise UserError(f"--max-seeds is {max_seeds}, expected {INTERIM_SIZES[0]} to {INTERIM_SIZES[-1]}")


def plan_round(templates: list[Job], suite: Suite, settings: Settings, max_seeds: int) -> dict[Group, Decision]:
    """Analyse every row of these jobs' models; return what to run next, by group."""
    evidence = read(results_folder(), runs_folder())
    board = make_board(evidence, suite.datasets, {job.model for job in templates})
    rows = {(r.dataset, r.model, r.profile, r.data): r for r in board.itertuples(index=False)}
    counted = evidence.runs[evidence.runs["standing"] == "counted"]
    has_figure = {(r.dataset, r.model): pd.notna(r.reported) for r in board.itertuples(index=False)}
    steps = {}
    for template in templates:
        place = (template.dataset, template.model, template.profile, _data_status(template.dataset, settings))
        board_row: Any = rows.get(place)
        if board_row is None:  # no run under this profile yet
            row = Row("not run" if has_figure.get(place[:2]) else "not judged")
        else:
            here = counted
            for column, value in zip(ROW_KEY, place, strict=True):
                here = here[here[column] == value]
            row = Row(board_row.verdict, board_row.n, board_row.seeds, frozenset(here["seed"].tolist()))
        unavailable, failed = _unavailable(template, settings)
        steps[Group.of(template)] = decide(template, row, unavailable, failed, max_seeds)
    return steps


def _data_status(dataset: str, settings: Settings) -> str:
    """Return the data status of new runs: 'unverified' only with accepted unofficial files, else 'verified'."""
    if not settings.options.allow_unverified_data:
        return "verified"
    from runner.data import cache
    from runner.data.folder import data_folder

    loaded = cache.load(dataset, data_folder(settings.options.data_dir), True, lambda _: None)
    return "verified" if loaded.facts.verified else "unverified"


def _unavailable(template: Job, settings: Settings) -> tuple[set[int], int]:
    """Return the seeds of this row with a record or a lasting failure in .runs, and the number of failures."""
    finished_seeds, failed_seeds = set(), set()
    here = [paths for paths in all_jobs() if (paths.dataset, paths.model) == (template.dataset, template.model)]
    for job, paths in read_jobs(here)[0]:
        if job.model_copy(update={"seed": template.seed}) != template:
            continue
        state = state_of(paths)
        if state == "done":
            finished_seeds.add(job.seed)
        elif state == "failed" and not is_retried(paths, state, settings):
            failed_seeds.add(job.seed)
    return finished_seeds | failed_seeds, len(failed_seeds)


def run(
    suite: Suite,
    models: Mapping[str, Any],
    only: list[str],
    profile: str,
    max_seeds: int,
    settings: Settings,
    console: Console,
    dry_run: bool = False,
) -> tuple[int, list[Job]]:
    """Analyse and run the required seeds until nothing is left to run; return (exit code, every job planned).

    Raise UserError for a suite with overrides, because no paper's figure judges those.
    """
    check_max_seeds(max_seeds)
    templates = make_jobs(suite, models, only=only, seeds=[0], profile=profile)
    if any(job.overrides for job in templates):
        raise UserError(
            f"--until-decided: the suite '{suite.name}' changes recipes, which no verdict covers: choose another suite"
        )
    quiet = dataclasses.replace(settings, json=False)
    planned: list[Job] = []
    while True:
        steps = plan_round(templates, suite, settings, max_seeds)
        for (dataset, model), step in steps.items():
            console.print(f"{dataset}/{model}: {step.why}", soft_wrap=True)
        round_ = [job for step in steps.values() for job in step.jobs]
        planned += [job for job in round_ if job not in planned]
        if dry_run or not round_:
            break
        added = {job.fingerprint for step in steps.values() for job in step.jobs if step.row.n >= MIN_SEEDS}
        code = run_jobs(round_, suite.name, quiet, console, sequential=added)
        if code or any(state_of(JobPaths.of(job)) != "done" for job in round_):
            return code, planned
    return 0, planned


def print_json(planned: list[Job]) -> None:
    """Print the object of `status --json` for these jobs."""
    sys.stdout.write(status_json(JobView.of(PlannedJob.of(job)) for job in planned))
