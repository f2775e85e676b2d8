"""Measure the throughput of several jobs side by side: `runner bench --concurrent`.

    python -m runner.bench.concurrency REQUEST.json

One small network does not fill a large GPU, and one thread does not fill a processor. Seeds that run at once may
therefore be faster than one after another, or compete for memory. Each job is a process with the whole loop, as in a
slot, and all train during the same seconds. Smaller numbers of jobs are measured in turns with the same processes.

Parent and children talk in lines. A child prints `ready` after a few warm-up updates. For each empty line on its input it
trains for `seconds` and prints its images/s. It ends when its input ends.
"""

import contextlib
import dataclasses
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any

from benchmarks.errors import UserError
from runner.bench.request import BenchRequest
from runner.sources import child_variables, python

WARM_UP = 3  # updates before the first turn, for choice of kernels, graph capture and allocation


@dataclasses.dataclass(frozen=True)
class ConcurrentRuns:
    """The throughput of `jobs` jobs side by side: `rates` has their total images/s for each turn."""

    jobs: int
    rates: tuple[float, ...]

    @property
    def rate(self) -> float:
        """The median of the turns' total images/s."""
        return statistics.median(self.rates)

    def gain(self, alone: "ConcurrentRuns") -> float:
        """Return the throughput relative to one job alone: the median of the turns' own ratios."""
        return statistics.median(many / one for many, one in zip(self.rates, alone.rates, strict=True))


def measure_concurrency(request: BenchRequest, counts: Sequence[int]) -> list[ConcurrentRuns]:
    """Return the throughput of one job, then of each of `counts` jobs at once.

    Raise UserError with the last line of stderr if a child ends early.
    """
    counts = sorted({1, *counts})
    seconds = request.seconds / len(counts) / request.repeats
    with tempfile.TemporaryFile("w+") as stderr, tempfile.TemporaryDirectory() as folder:
        request.model_copy(update={"seconds": seconds}).write(Path(folder) / "request.json")
        command = python("-m", "runner.bench.concurrency", str(Path(folder) / "request.json"))
        environment = os.environ | child_variables()
        children = [
            subprocess.Popen(
                command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr, text=True
            )
            for _ in range(counts[-1])
        ]
        try:
            for child in children:
                _answer(child, stderr)
            rates: dict[int, list[float]] = {count: [] for count in counts}
            for _ in range(request.repeats):
                for count in counts:
                    for child in children[:count]:
                        _write(child)
                    rates[count].append(sum(float(_answer(child, stderr)) for child in children[:count]))
        finally:
            for child in children:
                child.kill()
                child.communicate()
    return [ConcurrentRuns(count, tuple(values)) for count, values in rates.items()]


def _write(child: "subprocess.Popen[str]") -> None:
    assert child.stdin is not None
    with contextlib.suppress(BrokenPipeError):  # the child has ended; `_answer` reports it
        child.stdin.write("\n")
        child.stdin.flush()


def _answer(child: "subprocess.Popen[str]", errors: IO[str]) -> str:
    """Return a child's next line. Raise UserError with the last line of the children's stderr if there is none."""
    assert child.stdout is not None
    line = child.stdout.readline()
    if not line:
        errors.seek(0)
        raise UserError((errors.read().strip().splitlines() or [f"exit code {child.wait()}"])[-1])
    return line.strip()


# --- the child -----------------------------------------------------------------------------------------------------------


class _Turns:
    """The loop's progress hook. It counts updates; at the end of a turn it prints the rate and waits for the next turn."""

    def __init__(self, batch: int, seconds: float, synchronise: Callable[[], None]) -> None:
        self.batch, self.seconds, self.synchronise = batch, seconds, synchronise
        self.updates = 0  # in this turn
        self._step = 0  # of the epoch
        self._began: float | None = None  # None in the warm-up

    def __call__(self, progress: dict[str, Any]) -> None:
        self.updates += max(0, progress["step"] - self._step)
        self._step = progress["step"]  # 0 at the end of an epoch
        if not self._step:
            return
        if self._began is None:
            if self.updates < WARM_UP:
                return
        elif time.perf_counter() - self._began < self.seconds:
            return
        self.synchronise()
        rate = None if self._began is None else self.updates * self.batch / (time.perf_counter() - self._began)
        print("ready" if rate is None else rate, flush=True)
        if not sys.stdin.readline():
            raise EOFError
        self.updates, self._began = 0, time.perf_counter()


def main(path: str) -> int:
    """Train until the input ends. Return the exit code."""
    import torch

    from runner.bench import subject as subjects

    request = BenchRequest.read(Path(path))
    torch.set_num_threads(request.options.threads)
    subject = subjects.subject_of(request)
    recipe = subjects.plain_recipe(subject, epochs=10**6)
    whole = len(subject.prepared.train) // recipe.batch_size * recipe.batch_size
    try:
        subjects.run_loop(subject, recipe, whole, _Turns(recipe.batch_size, request.seconds, subject.synchronise))
    except EOFError:
        return 0
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
