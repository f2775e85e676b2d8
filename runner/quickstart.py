"""Run `runner quickstart`: train a paper's whole recipe on a laptop, and compare it with the published seeds."""

import pandas as pd
from rich.console import Console

from benchmarks.datasets import get_dataset
from benchmarks.errors import UserError
from benchmarks.intervals import sample_of_runs, summarise
from benchmarks.labels import measured_with
from benchmarks.leaderboard import make_board, read, runs_of
from benchmarks.plural import number
from benchmarks.records import Job
from benchmarks.suites import get_suite
from runner.data.cache import missing_files
from runner.data.download import prepare
from runner.data.folder import data_folder
from runner.data.transfer import MirrorLimits
from runner.jobs.paths import results_folder, runs_folder
from runner.reporting.report import Selection, show
from runner.submit.plan import make_jobs
from runner.submit.preview import Settings
from runner.submit.run import run as run_jobs
from zoo import load_models

CLASSIC = "quickstart-mnist"  # the fastest suite of a whole published recipe
ONE_TRY = MirrorLimits(timeout=8.0, max_vain_tries=1, first_pause=0.5, max_pause=1.0)  # fail quickly without a network


def run(settings: Settings, console: Console) -> int:
    """Train the digits and, if MNIST is available, a classic; print both boards. Return the training's exit code."""
    with_mnist = _fetch_mnist(settings, console)
    jobs = make_jobs(get_suite("quickstart"), load_models())
    if with_mnist:
        jobs += make_jobs(get_suite(CLASSIC), load_models())
    minutes = "five to ten" if with_mnist else "two to four"
    console.print(
        f"Training {len(jobs)} runs: {minutes} minutes on two cores, less than 150 MB of disk.", soft_wrap=True
    )
    code = run_jobs(jobs, "quickstart", settings, console)
    if code in (0, 1):
        show(Selection(suite="quickstart"), "table")
        show(Selection(suite="classics", measured=True), "table")
        for line in result_lines(jobs):
            console.print(line, soft_wrap=True)
    return code


def _fetch_mnist(settings: Settings, console: Console) -> bool:
    """Return whether MNIST is here, after one attempt to download it. Print a line if it is not."""
    folder = data_folder(settings.options.data_dir)
    if not missing_files(get_dataset("mnist"), folder):
        return True
    console.print(f"Downloading MNIST (12 MB) into {folder}", soft_wrap=True)
    try:
        prepare(["mnist"], folder, log=lambda line: None, limits=ONE_TRY)
    except UserError:
        console.print(
            f"MNIST can't be downloaded now, so only the digits are trained. Later: runner submit --suite {CLASSIC}",
            soft_wrap=True,
        )
        return False
    return True


def result_lines(jobs: list[Job]) -> list[str]:
    """Return one line per board row that has runs here: yours, the published seeds, the printed figure, the verdict."""
    evidence = read(results_folder(), runs_folder())
    trained = {(job.dataset, job.model, job.profile) for job in jobs}
    lines = []
    for row in make_board(evidence).itertuples(index=False):
        if (row.dataset, row.model, row.profile) not in trained:
            continue
        runs = runs_of(evidence, row.dataset, row.model)
        runs = runs[(runs["profile"] == row.profile) & (runs["data"] == row.data)]
        # A run whose weights are bit-identical to a published one is a duplicate of it, but it is the visitor's own.
        own = _mean_text(runs[runs["local"] & runs["standing"].isin(["counted", "duplicate"])])
        if not own:
            continue
        published = _mean_text(runs[~runs["local"] & (runs["standing"] == "counted")])
        line = f"{row.dataset}/{row.model}{measured_with(row)}: yours {own}, published {published or 'none yet'}"
        if pd.notna(row.reported):
            line += f", printed {row.reported:g}: {row.verdict}"
        lines.append(line)
    return lines


def _mean_text(runs: pd.DataFrame) -> str:
    """Return '0.91 ± 0.04 of 5 seeds', '0.91 ± 0.04 of 4 seeds, 1 did not train', or '' if there are no runs."""
    sample = sample_of_runs(zip(runs["seed"], runs["outcome"], runs["test_error"], strict=True))
    if not sample.n:
        return f"nothing: {number(sample.seeds, 'seed')} did not train" if sample.seeds else ""
    summary = summarise(sample)
    spread = "" if summary.half_width is None else f" ± {summary.half_width:.2f}"
    rest = f", {sample.seeds - sample.n} did not train" if sample.seeds > sample.n else ""
    return f"{summary.mean:.2f}{spread} of {number(sample.n, 'seed')}{rest}"
