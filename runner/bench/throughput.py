"""Measure one model's speed on this machine, in a process of its own: the child of `runner bench`.

    python -m runner.bench.throughput QUESTION.json

Three rates in images/s are measured in turns, so that a busy machine affects all of them alike:

(a) The bare step: forward, backward and optimizer on one batch that never changes. It is the limit of this loop here.
(b) The loop: `train()` itself, with permutation, gathering, preprocessing, augmentation, the totals of loss and errors, and a
    worker's own hooks: the check for a stop file and the lease after each step, and checkpoints. The cost of a checkpoint is
    counted once per CHECKPOINT_SECONDS.
(c) The usual loop: a torchvision-style data set of PIL images, transforms, a DataLoader with workers, torch's own SGD, and
    `.item()` on loss and errors after each step, in float32 and torch's default memory layout.

For the profile `fast` there is a fourth rate: the bare step of `reference`.

`train()` first runs for two steps, which gives the start-up time, the peak memory and the time of a step. It then runs
one epoch per turn, of as many steps as fit; the other measurements run between epochs, outside its timer. The ratios
are medians of the turns' own ratios, because a temporary slowdown affects both sides of a turn's ratio.

If a step takes seconds, (b) and (a) differ by less than two turns of either. The loop's overhead is therefore also
measured separately: (b) minus (a) with a network that does next to nothing, at the recipe's batch size, in seconds per
image.
"""

import dataclasses
import json
import math
import platform
import resource
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil
import torch

from runner.bench.question import Question
from runner.bench.subject import plain_recipe, run_loop, subject_of
from runner.bench.turns import UsualLoop, bare_turn, evaluation_turn, matrix_turn, memory_turn, overhead_seconds
from runner.training import loop as train
from runner.training import profiles
from runner.training.step import updates_a_call, uses_explicit_passes
from runner.worker.record import environment as environment_of
from zoo.anatomy import Layer, layers_of
from zoo.optimizers import DiagonalLM

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


def measure(question: Question) -> dict[str, Any]:
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
    torch.set_num_threads(question.options.threads)
    subject = subject_of(question)
    device, recipe = subject.device, subject.variant.recipe

    # --- `train()` for two steps ---
    ends: list[float] = []

    def note(facts: dict[str, Any]) -> None:
        subject.synchronise()
        ends.append(time.time())

    plain = plain_recipe(subject)
    batch = plain.batch_size
    updates = updates_a_call(subject.spec, plain, device)
    a_call = updates * batch
    trained, _ = run_loop(subject, plain, 2 * a_call, note)
    switches = {**subject.switches, "arithmetic": trained.switches["arithmetic"]}  # measured once, for all turns
    subject = dataclasses.replace(subject, switches=switches)
    startup = ends[0] - psutil.Process().create_time()
    step_seconds = (ends[1] - ends[0]) * batch / a_call
    peak = torch.cuda.max_memory_reserved() if device.type == "cuda" else _peak_resident_bytes()

    # Not on a GPU, where the host's work overlaps the device's. Not with hand-written passes, which only one network has.
    measurable = device.type == "cpu" and not uses_explicit_passes(subject.spec, plain, device)
    overhead = overhead_seconds(subject) if measurable else None

    # --- how long a turn is ---
    fast = question.profile == "fast"
    available = question.seconds / ((4 + fast) * (question.repeats + 1))
    fitting = fitting_batch(batch, step_seconds, available)
    step_seconds *= fitting / batch
    # At least one call of the step.
    steps = max(updates, min(round(available / step_seconds), len(subject.prepared.train) // fitting))
    images = steps * fitting
    turn_recipe = dataclasses.replace(plain, epochs=question.repeats + 1, batch_size=fitting)
    if isinstance(turn_recipe.optimizer, DiagonalLM):  # a short epoch measures curvature on proportionally fewer images
        curvature_images = max(1, turn_recipe.optimizer.images * images // len(subject.prepared.train))
        turn_recipe = dataclasses.replace(
            turn_recipe, optimizer=dataclasses.replace(turn_recipe.optimizer, images=curvature_images)
        )

    # --- by turns ---
    matrix_type = torch.bfloat16 if switches["autocast"] != "off" else torch.float32
    reference = dataclasses.replace(
        subject,
        switches=profiles.resolve("reference", device, subject.spec.channels_last_on_cpu, subject.spec.bitwise),
    )
    turns = {"bare_step": bare_turn(subject, turn_recipe, steps)}
    if fast:  # next to the turn that it is compared with
        turns["reference_step"] = bare_turn(reference, turn_recipe, steps)
    turns |= {
        "evaluation": evaluation_turn(subject, min(images, len(subject.prepared.test))),
        "matrix": matrix_turn(device, matrix_type),
        "memory": memory_turn(device),
    }
    usual = UsualLoop(subject, turn_recipe)
    rates: dict[str, list[float]] = {name: [] for name in (*turns, "dataloader")}
    cpu_rates: dict[str, list[float]] = {name: [] for name in (*rates, "loop")}  # images/s of processor time
    loop_began = [time.process_time()]
    shares: list[float] = []  # the share of its cores that this process had

    def between(facts: dict[str, Any]) -> None:
        if facts["step"]:  # within an epoch
            if facts["step"] == facts["steps"]:
                cpu_rates["loop"].append(images / (time.process_time() - loop_began[0]))
            return
        subject.synchronise()
        for name, turn in turns.items():
            profiles.apply(reference.switches if name == "reference_step" else switches)
            began, processor_began = time.perf_counter(), time.process_time()
            done = turn()
            spent, processor = time.perf_counter() - began, time.process_time() - processor_began
            rates[name].append(done / spent)
            cpu_rates[name].append(done / processor)
            if name == "bare_step":
                shares.append(processor / (spent * question.options.threads))
        # torch's defaults, float32 whatever the profile.
        profiles.apply({**switches, "deterministic": False, "cudnn_benchmark": False, "float32": "ieee"})
        spent, processor = usual.seconds(steps)
        rates["dataloader"].append(images / spent)
        cpu_rates["dataloader"].append(images / processor)
        profiles.apply(switches)
        time.sleep(SETTLE_SECONDS)
        loop_began[0] = time.process_time()

    trained, saves = run_loop(subject, turn_recipe, images, between)
    checkpoint = statistics.median(saves)
    checkpoint_share = checkpoint / train.CHECKPOINT_SECONDS
    rates["loop"] = [row["images_per_second"] / (1 + checkpoint_share) for row in trained.curve]
    cpu_rates["loop"] = [rate / (1 + checkpoint_share) for rate in cpu_rates["loop"]]
    rates = {name: values[1:] for name, values in rates.items()}  # the first turns warm up
    cpu_rates = {name: values[1:] for name, values in cpu_rates.items()}
    median = {name: statistics.median(values) for name, values in rates.items()}
    # Other processes do not affect a ratio of processor times.
    ratio_rates = cpu_rates if device.type == "cpu" and question.options.threads == 1 else rates
    loop_ratios = [loop / bare for loop, bare in zip(ratio_rates["loop"], ratio_rates["bare_step"], strict=True)]
    fast_ratio = round(_ratio(ratio_rates["bare_step"], ratio_rates["reference_step"]), 4) if fast else None
    overhead_share = None if overhead is None else round(overhead * median["bare_step"] + checkpoint_share, 6)

    with torch.device("meta"):
        layers = layers_of(subject.variant.build(), subject.facts.shape)
    flops = flops_per_image(layers)
    step_bytes = bytes_per_image(layers, fitting, 2 if switches["autocast"] != "off" else 4)
    environment = environment_of(device, switches)
    return {
        "model": question.model,
        "dataset": question.dataset,
        "profile": question.profile,
        "device": device.type,
        "bare_step": round(median["bare_step"], 3),
        "loop": round(median["loop"], 3),
        "dataloader": round(median["dataloader"], 3),
        "loop_ratio": round(statistics.median(loop_ratios), 4),  # of processor time where fast_ratio is
        "speedup": round(_ratio(ratio_rates["loop"], ratio_rates["dataloader"]), 4),
        "reference_step": round(median["reference_step"], 3) if fast else None,
        "fast_ratio": fast_ratio,  # of processor time on one CPU thread
        "evaluation": round(median["evaluation"], 3),
        "overhead_microseconds": None if overhead is None else round(1e6 * overhead, 4),  # per image
        "overhead_share": overhead_share,  # of the bare step's time
        "spread": {
            name: [round(min(rates[name]), 3), round(max(rates[name]), 3)]
            for name in ("bare_step", "loop", "dataloader")
        }
        | {"loop_ratio": [round(bound, 4) for bound in (min(loop_ratios), max(loop_ratios))]},
        "batch_size": fitting,
        "recipe_batch_size": recipe.batch_size,
        "steps": steps,
        "repeats": question.repeats,
        "images": "real" if subject.real else "random",
        "checkpoint_seconds": round(checkpoint, 4),
        "flops_per_image": flops,
        "bytes_per_image": round(step_bytes),
        "gflops": round(median["loop"] * flops / 1e9, 3),
        "matrix_gflops": round(median["matrix"] / 1e9, 3),
        "arithmetic_share": round(median["loop"] * flops / median["matrix"], 4),
        "memory_gbytes": round(median["memory"] / 1e9, 3),
        "memory_share": round(median["loop"] * step_bytes / median["memory"], 4),
        "peak_memory_mb": round(peak / 1e6),
        "startup_seconds": round(startup, 2),
        "cpu_share": round(statistics.median(shares[1:]), 3) if device.type == "cpu" else None,
        "hardware": environment.hardware,
        "threads": question.options.threads,
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


def _peak_resident_bytes() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def main(path: str) -> int:
    """Measure one model and print its row as JSON. Return the exit code."""
    print(json.dumps(measure(Question.read(Path(path)))))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
