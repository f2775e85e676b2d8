"""What the rules of benchmarks/verdicts.py do under a known truth: the two tables of results/README.md.

python -m benchmarks.power       simulates them and writes them into results/README.md

How often each word falls is simulated with `decide` itself, from a fixed seed. How many seeds tell a gap is computed by
`chance_of_telling`, which the tests check by simulation.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

import numpy as np

from benchmarks.intervals import ONE_RUN, PREDICTION_LEVEL, SEQUENTIAL_LEVEL, tolerance
from benchmarks.verdicts import LOOKS, MIN_SEEDS, chance_of_telling, decide

PAGE = Path(__file__).parent.parent / "results" / "README.md"

# --- how often each word falls -------------------------------------------------------------------------------------------

SPREADS = (0.25, 0.5, 0.75, 1.0)  # of one seed, in tolerances
SIZES: tuple[int | None, ...] = (5, 10, 20, None)  # seeds; None: added until decided, at the looks
TRUE_GAPS: tuple[float | None, ...] = (
    None,
    0.0,
    1.0,
    2.0,
)  # in tolerances, from the printed figure; None: see `simulated`
EXPERIMENTS = 10_000
Shares = dict[Literal["told", "reproduced", "inconclusive"], float]


@cache
def simulated(sd: float, n: int | None, gap: float | None, experiments: int = EXPERIMENTS) -> Shares:
    """Return how often each word falls over normal errors with this standard deviation, `told` being better or worse.

    Everything is in tolerances, so that one table serves all data sets. Our true mean lies by `gap` above the printed
    figure, whatever that one came from; with None the figure is one run from the very truth of ours.
    """
    random = np.random.default_rng(2026)
    errors = random.normal(0.0, sd, size=(experiments, LOOKS[-1])) + (gap or 0.0)
    figures = random.normal(0.0, sd, size=experiments) if gap is None else np.zeros(experiments)
    looks = LOOKS if n is None else (n,)
    means = {look: (errors[:, :look].mean(axis=1) - figures).tolist() for look in looks}
    spreads = {look: errors[:, :look].std(axis=1, ddof=1).tolist() for look in looks}
    words = []
    for i in range(experiments):
        for look in looks:
            h = ONE_RUN.half_width(PREDICTION_LEVEL, spreads[look][i], look)
            again = n is None and look > LOOKS[0]
            needed = ONE_RUN.half_width(SEQUENTIAL_LEVEL, spreads[look][i], look) if again else h
            word = decide(means[look][i], 1.0, h, needed)
            if word != "inconclusive":
                break
        words.append("told" if word in ("better", "worse") else word)
    return {word: words.count(word) / experiments for word in ("told", "reproduced", "inconclusive")}


def words_table() -> str:
    """Markdown: a row a spread and a number of seeds; in the cells the percentages of three words."""
    heads = [
        "one seed's sd",
        "seeds",
        "equal, the figure one run",
        *(f"gap {gap:g}" for gap in TRUE_GAPS if gap is not None),
    ]
    rows = [heads, ["--:", "--:", *["---"] * len(TRUE_GAPS)]]
    for sd in SPREADS:
        for n in SIZES:
            rows.append([f"{sd:g}", str(n or "until decided"), *(_cell(simulated(sd, n, gap)) for gap in TRUE_GAPS)])
    return _markdown(rows)


def _cell(shares: Shares) -> str:
    return " / ".join(f"{100 * share:.0f}" for share in shares.values())


# --- how many seeds tell a gap -------------------------------------------------------------------------------------------

GAPS = (0.1, 0.3, 0.5, 1.0)  # percentage points
POWER = 0.8  # a gap counts as told where so many of equal experiments would tell it
MOST = 50  # seeds: more are not searched


@dataclass(frozen=True)
class Supposed:
    """One line of suppositions: round figures, neither a paper's nor measured."""

    title: str
    test_images: int
    error: float  # percent, about what the sources report there: it sets the tolerance
    sd: float  # of one seed's error, percentage points


SUPPOSED = (
    Supposed("MNIST", 10_000, 0.5, 0.03),
    Supposed("MNIST", 10_000, 0.5, 0.05),
    Supposed("MNIST", 10_000, 1.0, 0.05),
    Supposed("SVHN", 26_032, 2.0, 0.05),
    Supposed("SVHN", 26_032, 2.0, 0.1),
    Supposed("CIFAR-10", 10_000, 10.0, 0.1),
    Supposed("CIFAR-10", 10_000, 10.0, 0.2),
    Supposed("CIFAR-10", 10_000, 10.0, 0.3),
    Supposed("CIFAR-100", 10_000, 35.0, 0.2),
    Supposed("CIFAR-100", 10_000, 35.0, 0.4),
)


def seeds_needed(gap: float, sd: float, tol: float, power: float = POWER, most: int = MOST) -> int | None:
    """Return the fewest seeds, at least those that a verdict needs, that tell a true gap so often; None where not `most` do."""
    return next((n for n in range(MIN_SEEDS, most + 1) if chance_of_telling(gap, sd, n, tol) >= power), None)


def power_table(lines: Iterable[Supposed] = SUPPOSED) -> str:
    """Markdown: a row a supposition, a column a gap, the seeds it takes in the cells."""
    heads = ["data set", "error", "tolerance", "one seed's sd", *(f"gap {gap:g}" for gap in GAPS)]
    rows = [heads, ["---", *["--:"] * (len(heads) - 1)]]
    for line in lines:
        tol = tolerance(line.error, line.test_images, 0.01)
        cells = [line.title, f"{line.error:g}", f"{tol:.2f}", f"{line.sd:g}"]
        rows.append(cells + [str(seeds_needed(gap, line.sd, tol) or "–") for gap in GAPS])
    return _markdown(rows)


# --- figures that were picked --------------------------------------------------------------------------------------------


@cache
def picked(k: int, sd: float, n: int = MIN_SEEDS, experiments: int = EXPERIMENTS) -> float:
    """Return how often n seeds are called worse than the best of k runs from their own truth; `sd` in tolerances."""
    random = np.random.default_rng(2027)
    errors = random.normal(0.0, sd, size=(experiments, n))
    figures = random.normal(0.0, sd, size=(experiments, k)).min(axis=1)
    gaps, spreads = (errors.mean(axis=1) - figures).tolist(), errors.std(axis=1, ddof=1).tolist()
    halves = [ONE_RUN.half_width(PREDICTION_LEVEL, spread, n) for spread in spreads]
    return sum(decide(gap, 1.0, h, h) == "worse" for gap, h in zip(gaps, halves, strict=True)) / experiments


# --- the page ------------------------------------------------------------------------------------------------------------


def _markdown(rows: Iterable[Iterable[str]]) -> str:
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def with_tables(page: str, tables: Iterable[str]) -> str:
    """Return the page with each table in the place of the one that has its first row; raises ValueError where none has."""
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
    PAGE.write_text(with_tables(PAGE.read_text(encoding="utf-8"), [words_table(), power_table()]), encoding="utf-8")
