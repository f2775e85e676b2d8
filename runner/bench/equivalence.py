"""Test whether `fast` gives the errors of `reference`, by training both: `runner bench --equivalence`."""

from rich.console import Console

from benchmarks import leaderboard
from benchmarks.errors import UserError
from benchmarks.labels import equivalence_sentence
from runner.bench.request import suite_of
from runner.jobs.paths import results_folder, runs_folder
from runner.submit import plan, preview
from runner.submit.run import run as run_jobs
from zoo import load_models


def equivalence_study(
    dataset: str, model: str, seeds: int, settings: preview.Settings, console: Console, *, dry_run: bool = False
) -> int:
    """Train the missing ones of `seeds` seeds in each profile, and print the result of two one-sided tests (TOST).

    With `dry_run` print the jobs only. Return the exit code. Raise UserError for fewer than two seeds.
    """
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
        states = preview.states_of(planned)
        for job, state in zip(planned, states, strict=True):
            console.print(f"{state:<12} {job.key}", soft_wrap=True)
        return 0
    code = run_jobs(planned, suite.name, settings, console)
    if code:
        return code
    board = leaderboard.make_board(leaderboard.read(results_folder(), runs_folder()), {dataset}, {model})
    equivalences = leaderboard.make_equivalences(board)
    for row in equivalences.itertuples(index=False):
        console.print(equivalence_sentence(row), soft_wrap=True)
    if equivalences.empty:
        console.print(f"{dataset}/{model}: too few finished runs to compare fast with reference", soft_wrap=True)
    return 0
