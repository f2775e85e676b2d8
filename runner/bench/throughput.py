"""Measure one model's speed on this machine, in a process of its own: the child of `runner bench`.

    python -m runner.bench.throughput REQUEST.json

Three rates in images/s are measured in turns, so that a busy machine affects all of them alike:

- The bare step: forward, backward and optimizer on one batch that never changes. It is the limit of this loop here.
- The loop: `train()` itself, with permutation, gathering, preprocessing, augmentation, the totals of loss and errors, and a
  worker's own hooks: the check for a stop file and the lease after each step, and checkpoints. The cost of a checkpoint is
  counted once per CHECKPOINT_SECONDS.
- The usual loop: a torchvision-style data set of PIL images, transforms, a DataLoader with workers, torch's own SGD, and
  `.item()` on loss and errors after each step, in float32 and torch's default memory layout.

For the profile `fast` there is a fourth rate: the bare step of `reference`.

`train()` first runs for two steps, which gives the start-up time, the peak memory and the time of a step. It then runs
one epoch per turn, of as many steps as fit; the other measurements run between epochs, outside its timer. The ratios
are medians of the turns' own ratios, because a temporary slowdown affects both sides of a turn's ratio.

If a step takes seconds, loop and bare step differ by less than two turns of either. The loop's overhead is therefore also
measured separately: the loop minus the bare step with a network that does next to nothing, at the recipe's batch size, in
seconds per image.
"""

import dataclasses
import json
import math
import platform
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import torch

from runner.bench.request import BenchRequest
from runner.bench.subject import Subject, plain_recipe, run_loop, subject_of
from runner.bench.turns import UsualLoop, bare_turn, evaluation_turn, matrix_turn, memory_turn, overhead_seconds
from runner.training import memory, profiles
from runner.training.loop import CHECKPOINT_SECONDS
from runner.training.step import updates_a_call, uses_handwritten_passes
from runner.worker.record import environment as environment_of
from zoo.anatomy import Layer, layers_of
from zoo.recipe import DiagonalLM, Recipe

SETTLE_SECONDS = 0.3  # time for DataLoader's workers to refill their queues while nothing is timed
SMALLEST_BATCH = 32  # below it VGG-16's weights dominate a step, and another memory layout is faster


def flops_per_image(layers: Sequence[Layer]) -> int:
    """Return the floating-point operations of one training step per image: 2 per multiply-accumulate.

    A layer is counted once forward and twice backward; the first layer's input needs no gradient. Only convolutions and
    dense layers count; auxiliary heads do not.
    """
    macs = [layer.macs for layer in layers if layer.macs]
    return 2 * (3 * sum(macs) - macs[0])


def bytes_per_image(layers: Sequence[Layer], batch: int, value_bytes: int = 4) -> float:
    """Return the least number of bytes that a training step has to move per image.

    The output of a convolution or dense layer is written, read forward and read backward; its gradient is written and
    read. Activations, normalisation and pooling are assumed to be fused. Weights (float32) are read forward and
    backward, and their gradient is written. The optimizer reads weight, gradient and momentum, and writes weight and
    momentum.
    """
    outputs = sum(math.prod(layer.output) for layer in layers if layer.macs)
    parameters = sum(layer.parameters for layer in layers)
    return 5 * value_bytes * outputs + 8 * 4 * parameters / batch


def fitting_batch(batch: int, step_seconds: float, available: float) -> int:
    """Return the recipe's batch size, halved until a step fits into `available` seconds or SMALLEST_BATCH is reached."""
    while step_seconds > available and batch > SMALLEST_BATCH:
        batch, step_seconds = batch // 2, step_seconds / 2
    return batch


@dataclass(frozen=True)
class FirstCalls:
    """What the first two calls of the step show."""

    startup_seconds: float  # from the start of the process to the end of the first call
    step_seconds: float  # of one update
    peak_bytes: int  # the largest memory use
    arithmetic: str  # each layer's implementation, which is measured once for all turns


def first_calls(subject: Subject, recipe: Recipe) -> FirstCalls:
    """Run `train()` for two calls of the step."""
    ends: list[float] = []

    def note(facts: dict[str, Any]) -> None:
        subject.synchronise()
        ends.append(time.time())

    images = updates_a_call(subject.spec, recipe, subject.device) * recipe.batch_size
    trained, _ = run_loop(subject, recipe, 2 * images, note)
    return FirstCalls(
        startup_seconds=ends[0] - psutil.Process().create_time(),
        step_seconds=(ends[1] - ends[0]) * recipe.batch_size / images,
        peak_bytes=torch.cuda.max_memory_reserved() if subject.device.type == "cuda" else memory.peak_resident_bytes(),
        arithmetic=str(trained.switches["arithmetic"]),
    )


def recipe_of_turns(request: BenchRequest, subject: Subject, plain: Recipe, step_seconds: float) -> tuple[Recipe, int]:
    """Return the recipe whose epochs are the turns, and the number of updates in a turn.

    `plain` is the recipe of a short training, and `step_seconds` the time of one of its updates. The turns of all kinds and
    repetitions together take about the seconds of the request.
    """
    available = request.seconds / ((4 + (request.profile == "fast")) * (request.repeats + 1))
    batch = fitting_batch(plain.batch_size, step_seconds, available)
    train_images = len(subject.prepared.train)
    least = updates_a_call(subject.spec, plain, subject.device)  # one call of the step
    steps = max(least, min(round(available / (step_seconds * batch / plain.batch_size)), train_images // batch))
    recipe = dataclasses.replace(plain, epochs=request.repeats + 1, batch_size=batch)
    if isinstance(recipe.optimizer, DiagonalLM):  # a short epoch measures curvature on proportionally fewer images
        curvature_images = max(1, recipe.optimizer.images * steps * batch // train_images)
        recipe = dataclasses.replace(recipe, optimizer=dataclasses.replace(recipe.optimizer, images=curvature_images))
    return recipe, steps


@dataclass(frozen=True)
class Rates:
    """The images/s (or operations or bytes) of each turn, by the name of what was measured."""

    clock: dict[str, list[float]]  # by the clock
    processor: dict[str, list[float]]  # per second of processor time
    core_shares: list[float]  # the share of its cores that this process had
    checkpoint_seconds: float  # median

    def median(self, name: str) -> float:
        """Return the median of the turns by the clock."""
        return statistics.median(self.clock[name])


def rates_by_turns(request: BenchRequest, subject: Subject, recipe: Recipe, steps: int) -> Rates:
    """Train one epoch of `steps` updates per turn, and measure everything else between the epochs."""
    device, switches, images = subject.device, subject.switches, steps * recipe.batch_size
    matrix_type = torch.bfloat16 if switches["autocast"] != "off" else torch.float32
    reference = dataclasses.replace(
        subject,
        switches=profiles.resolve("reference", device, subject.spec.channels_last_on_cpu, subject.spec.bitwise),
    )
    turns = {"bare_step": bare_turn(subject, recipe, steps)}
    if request.profile == "fast":  # next to the turn that it is compared with
        turns["reference_step"] = bare_turn(reference, recipe, steps)
    turns |= {
        "evaluation": evaluation_turn(subject, min(images, len(subject.prepared.test))),
        "matrix": matrix_turn(device, matrix_type),
        "memory": memory_turn(device),
    }
    usual = UsualLoop(subject, recipe)
    clock: dict[str, list[float]] = {name: [] for name in (*turns, "dataloader")}
    processor: dict[str, list[float]] = {name: [] for name in (*clock, "loop")}
    loop_began = [time.process_time()]
    core_shares: list[float] = []

    def between(facts: dict[str, Any]) -> None:
        if facts["step"]:  # within an epoch
            if facts["step"] == facts["steps"]:
                processor["loop"].append(images / (time.process_time() - loop_began[0]))
            return
        subject.synchronise()
        for name, turn in turns.items():
            profiles.apply(reference.switches if name == "reference_step" else switches)
            began, processor_began = time.perf_counter(), time.process_time()
            done = turn()
            spent, processor_spent = time.perf_counter() - began, time.process_time() - processor_began
            clock[name].append(done / spent)
            processor[name].append(done / processor_spent)
            if name == "bare_step":
                core_shares.append(processor_spent / (spent * request.options.threads))
        # torch's defaults, float32 whatever the profile.
        profiles.apply({**switches, "deterministic": False, "cudnn_benchmark": False, "float32": "ieee"})
        spent, processor_spent = usual.seconds(steps)
        clock["dataloader"].append(images / spent)
        processor["dataloader"].append(images / processor_spent)
        profiles.apply(switches)
        time.sleep(SETTLE_SECONDS)
        loop_began[0] = time.process_time()

    trained, saves = run_loop(subject, recipe, images, between)
    checkpoint = statistics.median(saves)
    with_checkpoints = 1 + checkpoint / CHECKPOINT_SECONDS
    clock["loop"] = [row["images_per_second"] / with_checkpoints for row in trained.curve]
    processor["loop"] = [rate / with_checkpoints for rate in processor["loop"]]
    # The first turns warm up.
    clock = {name: rates[1:] for name, rates in clock.items()}
    processor = {name: rates[1:] for name, rates in processor.items()}
    return Rates(clock, processor, core_shares[1:], checkpoint)


def measure(request: BenchRequest) -> dict[str, Any]:
    """Return one model's row, as `runner bench --json` prints it.

    bare_step, loop, dataloader, reference_step, evaluation: median images/s. reference_step is None unless `fast` is
        measured.
    loop_ratio, speedup: the loop's rate over the bare step's, and over the usual loop's.
    fast_ratio: the bare step's rate in `fast` over that in `reference`.
    overhead_microseconds, overhead_share: what the loop costs besides the network, per image, and as a share of the bare
        step's time (with checkpoints). None on a GPU and for hand-written passes.
    spread: lowest and highest of the turns.
    flops_per_image, bytes_per_image: lower bounds of a training step.
    gflops, matrix_gflops: 1e9 operations/s of the loop, and of a large matrix product.
    memory_gbytes: 1e9 bytes/s of a large copy.
    arithmetic_share, memory_share: the loop's share of the machine's two rates.
    startup_seconds: from the start of the process to the end of the first step.
    cpu_share: the share of its cores that the process had. None on a GPU.
    """
    torch.set_num_threads(request.options.threads)
    subject = subject_of(request)
    device, plain = subject.device, plain_recipe(subject)
    first = first_calls(subject, plain)
    switches = {**subject.switches, "arithmetic": first.arithmetic}
    subject = dataclasses.replace(subject, switches=switches)
    # Not on a GPU, where the host's work overlaps the device's. Not with hand-written passes: the trivial network has none.
    measurable = device.type == "cpu" and not uses_handwritten_passes(subject.spec, plain, device)
    overhead = overhead_seconds(subject) if measurable else None
    recipe, steps = recipe_of_turns(request, subject, plain, first.step_seconds)
    rates = rates_by_turns(request, subject, recipe, steps)

    # Other processes do not affect a ratio of processor times.
    of_processor = device.type == "cpu" and request.options.threads == 1
    compared = rates.processor if of_processor else rates.clock
    loop_ratios = [loop / bare for loop, bare in zip(compared["loop"], compared["bare_step"], strict=True)]
    fast = request.profile == "fast"
    fast_ratio = round(_ratio(compared["bare_step"], compared["reference_step"]), 4) if fast else None
    checkpoint_share = rates.checkpoint_seconds / CHECKPOINT_SECONDS
    bare_step, loop = rates.median("bare_step"), rates.median("loop")
    overhead_share = None if overhead is None else round(overhead * bare_step + checkpoint_share, 6)

    with torch.device("meta"):
        layers = layers_of(subject.variant.build(), subject.facts.shape)
    flops = flops_per_image(layers)
    step_bytes = bytes_per_image(layers, recipe.batch_size, 2 if switches["autocast"] != "off" else 4)
    environment = environment_of(device, switches)
    return {
        "model": request.model,
        "dataset": request.dataset,
        "profile": request.profile,
        "device": device.type,
        "bare_step": round(bare_step, 3),
        "loop": round(loop, 3),
        "dataloader": round(rates.median("dataloader"), 3),
        "loop_ratio": round(statistics.median(loop_ratios), 4),  # of processor time where fast_ratio is
        "speedup": round(_ratio(compared["loop"], compared["dataloader"]), 4),
        "reference_step": round(rates.median("reference_step"), 3) if fast else None,
        "fast_ratio": fast_ratio,  # of processor time on one CPU thread
        "evaluation": round(rates.median("evaluation"), 3),
        "overhead_microseconds": None if overhead is None else round(1e6 * overhead, 4),  # per image
        "overhead_share": overhead_share,  # of the bare step's time
        "spread": {
            name: [round(min(rates.clock[name]), 3), round(max(rates.clock[name]), 3)]
            for name in ("bare_step", "loop", "dataloader")
        }
        | {"loop_ratio": [round(bound, 4) for bound in (min(loop_ratios), max(loop_ratios))]},
        "batch_size": recipe.batch_size,
        "recipe_batch_size": subject.variant.recipe.batch_size,
        "steps": steps,
        "repeats": request.repeats,
        "images": "real" if subject.real else "random",
        "checkpoint_seconds": round(rates.checkpoint_seconds, 4),
        "flops_per_image": flops,
        "bytes_per_image": round(step_bytes),
        "gflops": round(loop * flops / 1e9, 3),
        "matrix_gflops": round(rates.median("matrix") / 1e9, 3),
        "arithmetic_share": round(loop * flops / rates.median("matrix"), 4),
        "memory_gbytes": round(rates.median("memory") / 1e9, 3),
        "memory_share": round(loop * step_bytes / rates.median("memory"), 4),
        "peak_memory_mb": round(first.peak_bytes / 1e6),
        "startup_seconds": round(first.startup_seconds, 2),
        "cpu_share": round(statistics.median(rates.core_shares), 3) if device.type == "cpu" else None,
        "hardware": environment.hardware,
        "threads": request.options.threads,
        "switches": switches,
        "torch": environment.torch,
        "cuda": environment.cuda,
        "cudnn": environment.cudnn,
        "driver": environment.driver,
        "python": platform.python_version(),
    }


def _ratio(above: Sequence[float], below: Sequence[float]) -> float:
    """Return the median of the turns' ratios."""
    return statistics.median(a / b for a, b in zip(above, below, strict=True))


def main(path: str) -> int:
    """Measure one model and print its row as JSON. Return the exit code."""
    print(json.dumps(measure(BenchRequest.read(Path(path)))))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
