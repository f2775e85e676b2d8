"""Add seeds until every row of a suite is decided, for `runner submit --until-decided`.

A row has interim analyses at 5, 10, 15 or 20 finished seeds only (benchmarks/verdicts.py: INTERIM_SIZES). Records of seeds
added after an interim analysis are marked.
"""

import dataclasses
import sys
from collections.abc import Mapping, Sequence
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


@dataclass(frozen=True)
class Study:
    """The rows to decide, and how to run their seeds."""

    suite: Suite
    templates: Sequence[Job]  # one job of each row
    settings: Settings
    max_seeds: int = INTERIM_SIZES[-1]  # of a row

    def __post_init__(self) -> None:
        """Raise UserError for a limit outside the interim sizes, and for overrides, which no paper's figure judges."""
        if not INTERIM_SIZES[0] <= self.max_seeds <= INTERIM_SIZES[-1]:
            raise UserError(f"--max-seeds is {self.max_seeds}, expected {INTERIM_SIZES[0]} to {INTERIM_SIZES[-1]}")
        if any(job.overrides for job in self.templates):
            raise UserError(
                f"--until-decided: the suite '{self.suite.name}' changes recipes, which no verdict covers: choose another "
                "suite"
            )

    def analyse(self, console: Console) -> dict[Group, Decision]:
        """Print and return what to run next for each row, from the results so far."""
        rows = self._rows()
        decisions = {}
        for template in self.templates:
            unavailable, failed = _unavailable(template, self.settings)
            group = Group.of(template)
            decisions[group] = decide(template, rows[group], unavailable, failed, self.max_seeds)
            console.print(f"{template.dataset}/{template.model}: {decisions[group].why}", soft_wrap=True)
        return decisions

    def _rows(self) -> dict[Group, Row]:
        """Return what the results say of each row so far."""
        evidence = read(results_folder(), runs_folder())
        board = make_board(evidence, self.suite.datasets, {job.model for job in self.templates})
        board_rows: dict[Any, Any] = {(r.dataset, r.model, r.profile, r.data): r for r in board.itertuples(index=False)}
        has_figure = {(r.dataset, r.model): pd.notna(r.reported) for r in board.itertuples(index=False)}
        counted = evidence.runs[evidence.runs["standing"] == "counted"]
        data = {dataset: _data_status(dataset, self.settings) for dataset in {job.dataset for job in self.templates}}
        rows = {}
        for job in self.templates:
            place = (job.dataset, job.model, job.profile, data[job.dataset])
            if place not in board_rows:  # no run under this profile yet
                row = Row("not run" if has_figure.get(place[:2]) else "not judged")
            else:
                here = counted
                for column, value in zip(ROW_KEY, place, strict=True):
                    here = here[here[column] == value]
                shown = board_rows[place]
                row = Row(shown.verdict, shown.n, shown.seeds, frozenset(here["seed"].tolist()))
            rows[Group.of(job)] = row
        return rows


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


def jobs_of(decisions: Mapping[Group, Decision]) -> list[Job]:
    """Return the jobs that the decisions plan."""
    return [job for decision in decisions.values() for job in decision.jobs]


def run(study: Study, console: Console) -> tuple[int, list[Job]]:
    """Analyse and run the required seeds until nothing is left to run; return (exit code, every job planned)."""
    quiet = dataclasses.replace(study.settings, json=False)
    planned: list[Job] = []
    while True:
        decisions = study.analyse(console)
        jobs = jobs_of(decisions)
        if not jobs:
            return 0, planned
        planned += [job for job in jobs if job not in planned]
        added = {job.fingerprint for each in decisions.values() for job in each.jobs if each.row.n >= MIN_SEEDS}
        code = run_jobs(jobs, study.suite.name, quiet, console, sequential=added)
        if code or any(state_of(JobPaths.of(job)) != "done" for job in jobs):
            return code, planned


def print_json(planned: list[Job]) -> None:
    """Print the object of `status --json` for these jobs."""
    sys.stdout.write(status_json(JobView.of(PlannedJob.of(job)) for job in planned))
