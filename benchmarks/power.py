"""Error rates and power of the verdict rules under a known truth: the two tables of results/README.md.

python -m benchmarks.power       computes both tables and writes them into results/README.md

The first table simulates how often `decide` returns each verdict, with a fixed random seed. The second computes with
`detection_power` how many seeds detect a gap; the tests check that function by simulation.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

import numpy as np

from benchmarks.intervals import ONE_RUN, PREDICTION_LEVEL, SEQUENTIAL_LEVEL, tolerance
from benchmarks.verdicts import INTERIM_SIZES, MIN_SEEDS, decide, detection_power

PAGE = Path(__file__).parent.parent / "results" / "README.md"

# --- how often each verdict is given -------------------------------------------------------------------------------------

SPREADS = (0.25, 0.5, 0.75, 1.0)  # standard deviations of one seed, in tolerances
SIZES: tuple[int | None, ...] = (5, 10, 20, None)  # numbers of seeds; None: seeds are added until the row is decided
# From the printed figure to our true mean, in tolerances; None: see `verdict_shares`.
TRUE_GAPS: tuple[float | None, ...] = (None, 0.0, 1.0, 2.0)
EXPERIMENTS = 10_000
Shares = dict[Literal["different", "reproduced", "inconclusive"], float]


@cache
def verdict_shares(sd: float, n: int | None, gap: float | None, experiments: int = EXPERIMENTS) -> Shares:
    """Return the share of simulated rows with each verdict; `different` is better or worse.

    All values are in tolerances, so that one table serves all data sets. The errors of the seeds are normal with standard
    deviation `sd`. Our true mean is `gap` above the printed figure. If `gap` is None, the figure is one run from the same
    distribution as ours.
    """
    random = np.random.default_rng(2026)
    errors = random.normal(0.0, sd, size=(experiments, INTERIM_SIZES[-1])) + (gap or 0.0)
    figures = random.normal(0.0, sd, size=experiments) if gap is None else np.zeros(experiments)
    sizes = INTERIM_SIZES if n is None else (n,)
    means = {size: (errors[:, :size].mean(axis=1) - figures).tolist() for size in sizes}
    halves = {size: _half_widths(PREDICTION_LEVEL, errors[:, :size]) for size in sizes}
    needed = {
        size: _half_widths(SEQUENTIAL_LEVEL, errors[:, :size])
        if n is None and size > INTERIM_SIZES[0]
        else halves[size]
        for size in sizes
    }
    words = []
    for i in range(experiments):
        for size in sizes:
            word = decide(means[size][i], 1.0, halves[size][i], needed[size][i])
            if word != "inconclusive":
                break
        words.append("different" if word in ("better", "worse") else word)
    return {word: words.count(word) / experiments for word in ("different", "reproduced", "inconclusive")}


def _half_widths(level: float, errors: np.ndarray) -> list[float]:
    """Return the half-width of the prediction interval of each row of errors: it is proportional to their spread."""
    return (ONE_RUN.half_width(level, 1.0, errors.shape[1]) * errors.std(axis=1, ddof=1)).tolist()


def verdict_table() -> str:
    """Return a Markdown table with a row per spread and number of seeds; a cell has the percentages of three verdicts."""
    gaps = [f"gap {gap:g}" for gap in TRUE_GAPS if gap is not None]
    heads = ["sd of one seed", "seeds", "same distribution", *gaps]
    rows = [heads, ["--:", "--:", *["---"] * len(TRUE_GAPS)]]
    for sd in SPREADS:
        for n in SIZES:
            rows.append(
                [f"{sd:g}", str(n or "until decided"), *(_cell(verdict_shares(sd, n, gap)) for gap in TRUE_GAPS)]
            )
    return _markdown(rows)


def _cell(shares: Shares) -> str:
    return " / ".join(f"{100 * share:.0f}" for share in shares.values())


# --- how many seeds detect a gap -----------------------------------------------------------------------------------------

GAPS = (0.1, 0.3, 0.5, 1.0)  # percentage points
POWER = 0.8  # share of equal experiments that must detect the gap
MAX_SEEDS = 50


@dataclass(frozen=True)
class Assumption:
    """The assumptions of one table row: round numbers, neither printed nor measured."""

    title: str
    test_images: int
    error: float  # percent, close to the reported errors; determines the tolerance
    sd: float  # of one seed's error, percentage points


ASSUMPTIONS = (
    Assumption("MNIST", 10_000, 0.5, 0.03),
    Assumption("MNIST", 10_000, 0.5, 0.05),
    Assumption("MNIST", 10_000, 1.0, 0.05),
    Assumption("SVHN", 26_032, 2.0, 0.05),
    Assumption("SVHN", 26_032, 2.0, 0.1),
    Assumption("CIFAR-10", 10_000, 10.0, 0.1),
    Assumption("CIFAR-10", 10_000, 10.0, 0.2),
    Assumption("CIFAR-10", 10_000, 10.0, 0.3),
    Assumption("CIFAR-100", 10_000, 35.0, 0.2),
    Assumption("CIFAR-100", 10_000, 35.0, 0.4),
)


def seeds_needed(gap: float, sd: float, tol: float) -> int | None:
    """Return the smallest number of seeds, MIN_SEEDS to MAX_SEEDS, that detects a true gap with the power POWER; else None."""
    return next((n for n in range(MIN_SEEDS, MAX_SEEDS + 1) if detection_power(gap, sd, n, tol) >= POWER), None)


def power_table() -> str:
    """Return a Markdown table with a row per assumption and a column per gap; a cell has the number of seeds needed."""
    heads = ["data set", "error", "tolerance", "sd of one seed", *(f"gap {gap:g}" for gap in GAPS)]
    rows = [heads, ["---", *["--:"] * (len(heads) - 1)]]
    for row in ASSUMPTIONS:
        tol = tolerance(row.error, row.test_images, 0.01)
        cells = [row.title, f"{row.error:g}", f"{tol:.2f}", f"{row.sd:g}"]
        rows.append(cells + [str(seeds_needed(gap, row.sd, tol) or "–") for gap in GAPS])
    return _markdown(rows)


# --- figures that are the best of several runs ---------------------------------------------------------------------------


@cache
def false_worse_rate(k: int, sd: float, n: int = MIN_SEEDS, experiments: int = EXPERIMENTS) -> float:
    """Return how often n seeds are called worse than the best of k runs of the same distribution; `sd` is in tolerances."""
    random = np.random.default_rng(2027)
    errors = random.normal(0.0, sd, size=(experiments, n))
    figures = random.normal(0.0, sd, size=(experiments, k)).min(axis=1)
    gaps, halves = (errors.mean(axis=1) - figures).tolist(), _half_widths(PREDICTION_LEVEL, errors)
    return sum(decide(gap, 1.0, h, h) == "worse" for gap, h in zip(gaps, halves, strict=True)) / experiments


# --- the page ------------------------------------------------------------------------------------------------------------


def _markdown(rows: Iterable[Iterable[str]]) -> str:
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def with_tables(page: str, tables: Iterable[str]) -> str:
    """Return the page with each table replaced by the new one with the same first row; raise ValueError if there is none."""
    lines = page.splitlines(keepends=True)
    for table in tables:
        first = table.splitlines(keepends=True)[0]
        if first not in lines:
            raise ValueError(f"no table begins with {first.strip()}")
        start = end = lines.index(first)
        while end < len(lines) and lines[end].startswith("|"):
            end += 1
        lines[start:end] = table.splitlines(keepends=True)
    return "".join(lines)


if __name__ == "__main__":
    PAGE.write_text(with_tables(PAGE.read_text(encoding="utf-8"), [verdict_table(), power_table()]), encoding="utf-8")
