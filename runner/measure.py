"""One model's speed on this machine, in a process of its own: the child of `runner bench`.

    python -m runner.measure --model nin --dataset cifar10

Three rates in images a second, by turns, so that a busy machine falls on all alike:
(a) the bare step: forward, backward and optimiser on one batch that never changes. The limit of this loop here.
(b) the loop: `train()` itself, with permutation, gathering, preprocessing, augmentation, the sums of loss and errors, and a
    worker's own hooks: the look for a cancel file and the lease after each step, and a checkpoint, whose cost is counted as
    often as it comes, every 30 s. The evaluation is timed apart: every loop has one.
(c) the loop that people write: a torchvision-style data set of PIL images, transforms, a DataLoader with workers, torch's
    own SGD, and `.item()` on loss and errors after each step; in float32, in torch's own memory layout.
`train()` runs once for two steps, which gives the start-up time, the peak memory and how long a step takes; then with
epochs of as many steps as fit, and (a) and (c) take their turns between its epochs, where its clock stands still.
"""

import argparse
import dataclasses
import gc
import json
import os
import platform
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

WORKERS = 4  # of the DataLoader, at most: one a core
EVALUATED = 500  # images in the evaluation: one batch of it
SMALLEST_BATCH = 8
MATRIX = {"cpu": 1024, "cuda": 8192}  # rows of the square matrices whose product gives the matrix rate
COPIED = {"cpu": 2**26, "cuda": 2**30}  # bytes of the copy that gives the memory rate: more than any cache holds
LOADER = "dataloader"


def flops_per_image(layers: Sequence[Any]) -> int:
    """Floating-point operations of one training step per image: 2 a multiply-accumulate, forward and twice backward.

    The first layer's input needs no gradient. Only convolutions and dense layers count; auxiliary heads don't.
    """
    macs = [layer.macs for layer in layers if layer.macs]
    return 2 * (3 * sum(macs) - macs[0])


def bytes_per_image(layers: Sequence[Any], batch: int, value_bytes: int = 4) -> float:
    """Bytes that a training step must move per image, as a floor: what each layer gives is written and read forward, read
    once more backward, and its gradient written and read; weights (float32) are read twice, their gradient written, and the
    optimiser reads weight, gradient and momentum and writes two of them.
    """
    outputs = sum(_size(layer.output) for layer in layers)
    parameters = sum(layer.parameters for layer in layers)
    return 5 * value_bytes * outputs + 8 * 4 * parameters / batch


def _size(shape: Sequence[int]) -> int:
    size = 1
    for side in shape:
        size *= side
    return size


def fitting_batch(batch: int, step_seconds: float, available: float) -> int:
    """The recipe's batch, halved until a step fits into `available` seconds: on a CPU images/s hardly depend on it."""
    while step_seconds > available and batch > SMALLEST_BATCH:
        batch, step_seconds = batch // 2, step_seconds / 2
    return batch


class Rates:
    """What was measured of one kind, in images or operations a second, in the order of the turns."""

    def __init__(self) -> None:
        self.found: list[float] = []

    def median(self) -> float:
        """The middle one."""
        return statistics.median(self.found)

    def spread(self) -> list[float]:
        """The lowest and the highest."""
        return [round(min(self.found), 3), round(max(self.found), 3)]


def measure(
    model: str,
    dataset: str,
    profile: str,
    device_type: str,
    threads: int,
    seconds: float,
    repeats: int,
    data_dir: Path | None,
    allow_unverified: bool,
) -> dict[str, Any]:
    """Everything that `runner bench --json` says of one model; takes about `seconds` once it has started up."""
    import torch

    from benchmarks.datasets import get_dataset
    from benchmarks.errors import UserError
    from benchmarks.records import Job
    from runner import data, profiles, train, worker
    from runner.batches import Batches, DeviceSet, Prepared, prepare
    from runner.jobs import JobPaths
    from runner.step import GraphedStep, Step, autocast_of
    from zoo import load_models
    from zoo.anatomy import layers_of
    from zoo.spec import initialise

    torch.set_num_threads(threads)
    device = torch.device(device_type)
    switches = profiles.resolve(profile, device)
    profiles.apply(switches)
    facts, spec = get_dataset(dataset), load_models()[model]
    variant = spec.variants[dataset]
    recipe = variant.recipe
    generator = torch.Generator().manual_seed(0)

    def synchronise() -> None:
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    # --- images ---
    try:
        loaded = data.load(dataset, data.data_folder(data_dir), allow_unverified, _to_stderr)
        whole = prepare(loaded, recipe.preprocessing, recipe.holdout, device, _to_stderr)
        raw, labels = loaded.train_images, loaded.train_labels
        real: str = "real"
    except UserError as error:
        real = f"random images: {error}"
        count = min(facts.train_size, 5_000)
        raw = torch.randint(256, (count, *facts.shape), generator=generator, dtype=torch.uint8).numpy()
        labels = torch.randint(facts.classes, (count,), generator=generator).numpy()
        pixels = torch.randn(count, *facts.shape, generator=generator).to(device)
        stand_in = DeviceSet(pixels, torch.from_numpy(labels).to(device), None)
        whole = Prepared(stand_in, stand_in)

    def cut(images: DeviceSet, count: int) -> DeviceSet:
        return DeviceSet(images.stored[:count], images.labels[:count], images.transform)

    # --- (b), once for two steps, then as often as asked ---
    first_step: list[float] = []
    saves: list[float] = []

    def loop(recipe: Any, images: int, between: Callable[[], None] = lambda: None) -> Any:
        prepared = Prepared(cut(whole.train, images), cut(whole.test, EVALUATED))
        job = Job(
            dataset=dataset, model=model, revision=variant.revision, recipe=recipe.to_dict(), profile=profile, seed=0
        )
        with tempfile.TemporaryDirectory() as folder:
            paths, options = JobPaths(Path(folder)), worker.Options(device=device.type, threads=threads)
            attempt = worker.Attempt(paths, job, "0" * 32, options, {}, worker.Log(paths.log, None))
            hooks = attempt.hooks()

            def progress(told: dict[str, Any]) -> None:
                hooks.progress(told)
                if len(first_step) < 2:
                    synchronise()
                    first_step.append(time.time())
                if told["step"] == 0:
                    between()

            def save(state: Any) -> None:
                began = time.perf_counter()
                hooks.save(state)
                saves.append(time.perf_counter() - began)

            return train.train(
                job, "0" * 32, spec, recipe, prepared, facts.classes, device, switches,
                dataclasses.replace(hooks, progress=progress, save=save),
            )  # fmt: skip

    batch = min(recipe.batch_size, len(whole.train) // 2)
    once = dataclasses.replace(recipe, epochs=1, milestones=(), holdout=0, drop_last=False, batch_size=batch)
    loop(once, 2 * batch)
    startup = first_step[0] - _process_began()
    step_seconds = first_step[1] - first_step[0]
    peak = torch.cuda.max_memory_allocated() if device.type == "cuda" else _peak_resident_bytes()

    turn = seconds / (3 * (repeats + 1))
    batch = fitting_batch(batch, step_seconds, turn)
    step_seconds *= batch / once.batch_size
    images = min(max(1, round(turn / step_seconds)) * batch, len(whole.train))
    steps = train.steps_per_epoch(images, dataclasses.replace(once, batch_size=batch))
    timed = dataclasses.replace(once, epochs=repeats + 1, batch_size=batch)

    # --- (a) ---
    layout = torch.channels_last if switches["channels_last"] else torch.contiguous_format
    shifts = torch.Generator(device=device).manual_seed(0)
    batches = Batches(cut(whole.train, batch), timed, shifts, layout)
    batches.begin(torch.arange(batch))
    static_images, static_labels = batches[0]

    def network() -> torch.nn.Module:
        torch.manual_seed(0)
        built = variant.build()
        initialise(built, recipe)
        return built.to(device).train()

    class BareStep(Step):
        def __call__(self, images: torch.Tensor, labels: torch.Tensor) -> None:
            self.update(images, labels)

    bare_model = network().to(memory_format=layout)
    optimizer = train.optimizer_for(bare_model, recipe)
    nothing = torch.zeros(3, dtype=torch.float64, device=device)
    bare: Any = BareStep(
        bare_model, optimizer, spec.loss, nothing, autocast_of(switches, device), bool(switches["compiled"])
    )
    bare = GraphedStep(bare) if switches["graphs"] else bare

    def bare_turn() -> float:
        for _ in range(steps):
            bare(static_images, static_labels)
        synchronise()
        return steps * batch

    # --- (c) ---
    usual_turn = _usual_loop(raw, labels, network(), spec.loss, timed, device, steps)

    # --- by turns ---
    rates = {name: Rates() for name in ("bare_step", LOADER, "matrix", "memory")}
    matrix_turn, memory_turn = _machine_turns(
        device, torch.bfloat16 if switches["autocast"] != "off" else torch.float32
    )
    turns = {"bare_step": bare_turn, "matrix": matrix_turn, "memory": memory_turn}
    passed: list[int] = []

    def between() -> None:
        synchronise()
        for name, act in turns.items():
            began = time.perf_counter()
            done = act()
            rates[name].found.append(done / (time.perf_counter() - began))
        profiles.apply({**switches, "deterministic": False, "cudnn_benchmark": False})  # as people leave them
        rates[LOADER].found.append(usual_turn())
        profiles.apply(switches)
        passed.append(1)
        if len(passed) == 1:  # the first turns warm up
            for rate in rates.values():
                rate.found.clear()
        gc.collect()

    saves.clear()
    trained = loop(timed, images, between)
    curve = trained.curve[1:]
    save_share = statistics.median(saves) / train.CHECKPOINT_SECONDS
    found = Rates()
    found.found = [row["images_per_second"] / (1 + save_share) for row in curve]
    evaluation = statistics.median(row["seconds"] - images / row["images_per_second"] for row in curve)

    with torch.device("meta"):
        layers = layers_of(variant.build(), facts.shape)
    flops = flops_per_image(layers)
    moved = bytes_per_image(layers, batch, 2 if switches["autocast"] != "off" else 4)
    a, b, c = rates["bare_step"].median(), found.median(), rates[LOADER].median()
    matrix, memory = rates["matrix"].median(), rates["memory"].median()
    evaluated = min(EVALUATED, len(whole.test)) / max(evaluation, 1e-6)
    environment = worker.environment(device, switches)
    return {
        "model": model,
        "dataset": dataset,
        "profile": profile,
        "device": device.type,
        "bare_step": round(a, 3),
        "loop": round(b, 3),
        "dataloader": round(c, 3),
        "loop_ratio": round(b / a, 4),
        "speedup": round(b / c, 4),
        "spread": {
            "bare_step": rates["bare_step"].spread(),
            "loop": found.spread(),
            "dataloader": rates[LOADER].spread(),
        },
        "batch_size": batch,
        "recipe_batch_size": recipe.batch_size,
        "steps": steps,
        "repeats": repeats,
        "images": real,
        "evaluation": round(evaluated, 1),  # images/s
        "checkpoint_seconds": round(statistics.median(saves), 4),
        "flops_per_image": flops,
        "bytes_per_image": round(moved),
        "gflops": round(b * flops / 1e9, 2),
        "matrix_gflops": round(matrix / 1e9, 2),
        "arithmetic_share": round(b * flops / matrix, 4),
        "memory_gbytes": round(memory / 1e9, 2),
        "memory_share": round(b * moved / memory, 4),
        "peak_memory_mb": round(peak / 1e6),
        "startup_seconds": round(startup, 2),
        "hardware": environment.hardware,
        "threads": threads,
        "switches": switches,
        "torch": environment.torch,
        "cuda": environment.cuda,
        "cudnn": environment.cudnn,
        "driver": environment.driver,
        "python": platform.python_version(),
    }


def _usual_loop(raw: Any, labels: Any, model: Any, loss_of: Any, recipe: Any, device: Any, steps: int) -> Any:
    """A turn of (c): starts the workers, takes a batch to warm up, then times `steps` batches; gives images/s."""
    import torch
    from PIL import Image
    from torchvision import transforms

    side = raw.shape[-1]
    chosen: list[Any] = [transforms.RandomCrop(side, padding=recipe.translate)] * bool(recipe.translate)
    chosen += [transforms.RandomHorizontalFlip()] * recipe.flip
    transform = transforms.Compose([*chosen, transforms.ToTensor(), transforms.Normalize(0.5, 0.25)])

    class Images(torch.utils.data.Dataset):  # type: ignore[type-arg]  # as torchvision's CIFAR10 and MNIST do it
        def __len__(self) -> int:
            return len(labels)

        def __getitem__(self, index: int) -> Any:
            pixels = raw[index].transpose(1, 2, 0)
            image = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
            return transform(image), int(labels[index])

    optimizer = torch.optim.SGD(
        model.parameters(),
        lr=1e-4,
        momentum=recipe.momentum,
        weight_decay=recipe.weight_decay,
        nesterov=recipe.nesterov,
    )
    batch = recipe.batch_size
    loader = torch.utils.data.DataLoader(
        Images(),
        batch_size=batch,
        sampler=torch.utils.data.RandomSampler(range(len(labels)), replacement=True, num_samples=(steps + 1) * batch),
        num_workers=min(WORKERS, os.cpu_count() or 1),
        pin_memory=device.type == "cuda",
    )

    def turn() -> float:
        running, right, began = 0.0, 0, 0.0
        for number, (images, targets) in enumerate(loader):
            images, targets = images.to(device), targets.to(device)
            optimizer.zero_grad()
            output = model(images)
            loss = loss_of(output, targets)
            loss.backward()
            optimizer.step()
            running += loss.item()
            logits = output[0] if isinstance(output, tuple) else output
            right += (logits.argmax(1) == targets).sum().item()
            if number == 0:
                began = time.perf_counter()
        return steps * batch / (time.perf_counter() - began)

    return turn


def _machine_turns(device: Any, dtype: Any) -> tuple[Callable[[], float], Callable[[], float]]:
    """A large matrix product (operations done) and a large copy (bytes read and written): what the machine can do at all."""
    import torch

    side, times = MATRIX[device.type], 4
    left, right = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    source = torch.zeros(COPIED[device.type] // 4, device=device)
    target = torch.empty_like(source)

    def wait() -> None:
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    def product() -> float:
        for _ in range(times):
            torch.mm(left, right)
        wait()
        return 2.0 * side**3 * times

    def copy() -> float:
        for _ in range(times):
            target.copy_(source)
        wait()
        return 2.0 * source.numel() * 4 * times

    return product, copy


def _process_began() -> float:
    import psutil

    return float(psutil.Process().create_time())


def _peak_resident_bytes() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _to_stderr(line: str) -> None:
    print(line, file=sys.stderr)


def main(argv: list[str] | None = None) -> int:
    """Measure one model and print its row as JSON."""
    from benchmarks.errors import UserError
    from runner.worker import prepare_environment

    parser = argparse.ArgumentParser(prog="python -m runner.measure", description="One model's speed.")
    parser.add_argument("--model", required=True)
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--profile", default="reference")
    parser.add_argument("--device", dest="device_type", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--allow-unverified-data", dest="allow_unverified", action="store_true")
    given = vars(parser.parse_args(argv))
    prepare_environment(given["device_type"], given["threads"])
    try:
        row = measure(**given)
    except UserError as error:
        print(f"runner: {error}", file=sys.stderr)
        return 2
    print(json.dumps(row))
    return 0


if __name__ == "__main__":
    sys.exit(main())
