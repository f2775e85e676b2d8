"""How many seeds tell a gap from none: the table of results/README.md, a pure function of what is supposed here.

python -m benchmarks.power       prints it
"""

from collections.abc import Iterable
from dataclasses import dataclass

from benchmarks.verdicts import MIN_SEEDS, chance_of_telling, tolerance

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
    Supposed("SVHN", 26_032, 2.0, 0.05),
    Supposed("SVHN", 26_032, 2.0, 0.1),
    Supposed("CIFAR-10", 10_000, 10.0, 0.1),
    Supposed("CIFAR-10", 10_000, 10.0, 0.2),
    Supposed("CIFAR-10", 10_000, 10.0, 0.3),
    Supposed("CIFAR-100", 10_000, 35.0, 0.2),
    Supposed("CIFAR-100", 10_000, 35.0, 0.4),
)


def seeds_needed(gap: float, sd: float, tol: float, power: float = POWER, most: int = MOST) -> int | None:
    """The fewest seeds, at least those that a verdict needs, that tell a true gap with that probability; None up to `most`."""
    return next((n for n in range(MIN_SEEDS, most + 1) if chance_of_telling(gap, sd, n, tol) >= power), None)


def power_table(lines: Iterable[Supposed] = SUPPOSED) -> str:
    """Markdown: a row a supposition, a column a gap, the seeds it takes in the cells."""
    head = ["data set", "error", "tolerance", "one seed's sd", *(f"gap {gap:g}" for gap in GAPS)]
    rows = [head, ["---", *["--:"] * (len(head) - 1)]]
    for line in lines:
        tol = tolerance(line.error, line.test_images, 0.01)
        cells = [line.title, f"{line.error:g}", f"{tol:.2f}", f"{line.sd:g}"]
        rows.append(cells + [str(seeds_needed(gap, line.sd, tol) or "–") for gap in GAPS])
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


if __name__ == "__main__":
    print(power_table(), end="")
