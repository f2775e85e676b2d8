"""How much several jobs get done side by side: `runner bench --concurrent`.

    python -m runner.bench.concurrency QUESTION.json

One small network doesn't fill a large GPU, and one thread doesn't fill a processor: seeds that run at once may get more
done than one after another, or fight for memory. Here each of them is a process with the whole loop, as slots are, and all
train during the same seconds. Those with fewer neighbours are measured in between, by turns, with the same processes.

Parent and children speak in lines: a child says `ready` once it has trained a few steps, trains for `seconds` at each empty
line that it is sent, says how many images a second that were, and ends with its input.
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
from runner.bench.question import Question
from runner.sources import child_variables, python

WARM_UP = 3  # steps before the first turn: kernels chosen, graphs captured, memory taken


@dataclasses.dataclass(frozen=True)
class ConcurrentRuns:
    """What so many jobs got done together: `rates` are all jobs' images/s, one for each turn."""

    jobs: int
    rates: tuple[float, ...]

    @property
    def rate(self) -> float:
        """The median turn's images/s of all jobs."""
        return statistics.median(self.rates)

    def gain(self, alone: "ConcurrentRuns") -> float:
        """Times the throughput of one job after another: the median of the turns' own ratios."""
        return statistics.median(many / one for many, one in zip(self.rates, alone.rates, strict=True))


def measure_concurrency(question: Question, counts: Sequence[int]) -> list[ConcurrentRuns]:
    """Throughput with one job, then with each of `counts` at once. Raises UserError, with its last line, if a child ends."""
    counts = sorted({1, *counts})
    seconds = question.seconds / len(counts) / question.repeats
    with tempfile.TemporaryFile("w+") as said, tempfile.TemporaryDirectory() as folder:
        question.model_copy(update={"seconds": seconds}).write(Path(folder) / "question.json")
        command = python("-m", "runner.bench.concurrency", str(Path(folder) / "question.json"))
        own = os.environ | child_variables()
        children = [
            subprocess.Popen(command, env=own, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=said, text=True)
            for _ in range(counts[-1])
        ]
        try:
            for child in children:
                _answer(child, said)
            rates: dict[int, list[float]] = {count: [] for count in counts}
            for _ in range(question.repeats):
                for count in counts:
                    for child in children[:count]:
                        _write(child)
                    rates[count].append(sum(float(_answer(child, said)) for child in children[:count]))
        finally:
            for child in children:
                child.kill()
                child.communicate()
    return [ConcurrentRuns(count, tuple(found)) for count, found in rates.items()]


def _write(child: "subprocess.Popen[str]") -> None:
    assert child.stdin is not None
    with contextlib.suppress(BrokenPipeError):  # it has ended: its answer will say so
        child.stdin.write("\n")
        child.stdin.flush()


def _answer(child: "subprocess.Popen[str]", said: IO[str]) -> str:
    """A child's next line; raises UserError with the last that any of them complained of."""
    assert child.stdout is not None
    line = child.stdout.readline()
    if not line:
        said.seek(0)
        raise UserError((said.read().strip().splitlines() or [f"exit code {child.wait()}"])[-1])
    return line.strip()


# --- the child -----------------------------------------------------------------------------------------------------------


class _Turns:
    """The hook of the loop: after each step it counts, or tells and waits."""

    def __init__(self, batch: int, seconds: float, synchronise: Callable[[], None]) -> None:
        self.batch, self.seconds, self.synchronise = batch, seconds, synchronise
        self.steps = -WARM_UP
        self.began = 0.0

    def __call__(self, told: dict[str, Any]) -> None:
        if not told["step"]:
            return  # the end of an epoch, not of a step
        self.steps += 1
        if self.steps < 0 or (self.steps and time.perf_counter() - self.began < self.seconds):
            return
        self.synchronise()
        spent = time.perf_counter() - self.began
        print("ready" if self.steps == 0 else self.steps * self.batch / spent, flush=True)
        if not sys.stdin.readline():
            raise EOFError
        self.steps, self.began = 0, time.perf_counter()


def main(path: str) -> int:
    """Train for as long as there are lines to read."""
    import torch

    from runner.bench import subject as subjects

    question = Question.read(Path(path))
    torch.set_num_threads(question.options.threads)
    subject = subjects.subject_of(question)
    recipe = subjects.plain_recipe(subject, epochs=10**6)
    whole = len(subject.prepared.train) // recipe.batch_size * recipe.batch_size
    try:
        subjects.run_loop(subject, recipe, whole, _Turns(recipe.batch_size, question.seconds, subject.synchronise))
    except EOFError:
        return 0
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
