"""One model's speed on this machine, in a process of its own: the child of `runner bench`.

    python -m runner.bench.throughput QUESTION.json

Three rates in images a second, by turns, so that a busy machine falls on all alike:
(a) the bare step: forward, backward and optimiser on one batch that never changes. The limit of this loop here.
(b) the loop: `train()` itself, with permutation, gathering, preprocessing, augmentation, the sums of loss and errors, and a
    worker's own hooks: the look for a stop file and the lease after each step, and a checkpoint, whose cost is counted as
    often as it comes, every 30 s.
(c) the loop that people write: a torchvision-style data set of PIL images, transforms, a DataLoader with workers, torch's
    own SGD, and `.item()` on loss and errors after each step; in float32, in torch's own memory layout.
Where the profile is `fast`, there is a fourth: the bare step of `reference`.

`train()` runs once for two steps, which gives the start-up time, the peak memory and how long a step takes. Then it runs with
an epoch for each turn, of as many steps as fit; the others take their turns between its epochs, where its clock stands still.
The ratios are medians of the turns' own ratios: what slows the machine for a while slows both sides of one.

Where a step takes seconds, (b) and (a) differ by less than two turns of either. So what the loop itself costs is measured
once more by itself: both with a network that does next to nothing, at the recipe's batch, the difference in seconds an image.
"""

import dataclasses
import json
import math
import os
import platform
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from torch import Tensor, nn

from benchmarks.datasets import Dataset, get_dataset
from benchmarks.errors import UserError
from benchmarks.records import Job
from runner.bench.question import Question
from runner.data import cache
from runner.data.folder import data_folder
from runner.jobs.paths import JobPaths
from runner.training import arithmetic, profiles
from runner.training import loop as train
from runner.training.batches import Batches, DeviceSet, Prepared, prepare
from runner.training.optimizers import DiagonalLM, optimizer_for
from runner.training.step import Step, autocast_of, make_step, updates_a_call, written_out, written_out_step
from runner.worker.attempt import JobAttempt, Worker
from runner.worker.lease import Log
from runner.worker.record import environment as environment_of
from zoo import load_models
from zoo.anatomy import Layer, layers_of
from zoo.recipe import SGD, Constant, Recipe, Shuffled
from zoo.recipe import DiagonalLM as DiagonalRule
from zoo.spec import ModelSpec, Variant, cross_entropy, initialise

WORKERS = 4  # of the DataLoader, at most: one a core
SETTLE_SECONDS = 0.3  # in which DataLoader's workers fill their queues again: not while something else is timed
SMALLEST_BATCH = 32  # below, a step of VGG-16 is weights more than images, and another memory layout is the faster one
RANDOM_IMAGES = 5_000  # where the data set isn't here
OWN_STEPS, OWN_TURNS = 200, 5  # of the loop around a network that does nothing
MATRIX = {"cpu": 1024, "cuda": 8192}  # rows of the square matrices whose product gives the matrix rate
COPIED = {"cpu": 2**28, "cuda": 2**30}  # bytes of the copy that gives the memory rate: more than most caches hold


# --- the two floors ------------------------------------------------------------------------------------------------------


def flops_per_image(layers: Sequence[Layer]) -> int:
    """Floating-point operations of one training step per image: 2 a multiply-accumulate, forward and twice backward.

    The first layer's input needs no gradient. Only convolutions and dense layers count; auxiliary heads don't.
    """
    macs = [layer.macs for layer in layers if layer.macs]
    return 2 * (3 * sum(macs) - macs[0])


def bytes_per_image(layers: Sequence[Layer], batch: int, value_bytes: int = 4) -> float:
    """Bytes that a training step has to move per image at least.

    What a convolution or dense layer gives is written, read forward and read backward, and its gradient is written and
    read; activations, normalisation and pooling ride along. Weights (float32) are read forward and backward and their
    gradient is written; the optimiser reads weight, gradient and momentum and writes weight and momentum.
    """
    outputs = sum(math.prod(layer.output) for layer in layers if layer.macs)
    parameters = sum(layer.parameters for layer in layers)
    return 5 * value_bytes * outputs + 8 * 4 * parameters / batch


def fitting_batch(batch: int, step_seconds: float, available: float) -> int:
    """The recipe's batch, halved until a step fits into `available` seconds, or it's at SMALLEST_BATCH."""
    while step_seconds > available and batch > SMALLEST_BATCH:
        batch, step_seconds = batch // 2, step_seconds / 2
    return batch


# --- what is measured ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Subject:
    """A model on a data set on a device."""

    question: Question
    facts: Dataset
    spec: ModelSpec
    variant: Variant
    device: torch.device
    switches: dict[str, bool | str]
    raw: np.ndarray  # uint8 (N, C, H, W): what (c) makes its PIL images of
    labels: np.ndarray
    prepared: Prepared
    real: bool  # whether these are the data set's images, or random ones

    @property
    def layout(self) -> torch.memory_format:
        """In which `train()` keeps network and images."""
        return torch.channels_last if self.switches["channels_last"] else torch.contiguous_format

    def swapped_network(self) -> nn.Module:
        """The network in its layout, with the arithmetic that the switches name."""
        model = self.network().to(memory_format=self.layout)
        arithmetic.install(model, str(self.switches["arithmetic"]), self.layout)
        return model

    def network(self) -> nn.Module:
        """The network as the recipe begins with it, in training mode and torch's own layout."""
        torch.manual_seed(0)
        model = self.variant.build()
        initialise(model, self.variant.recipe)
        return model.to(self.device).train()

    def synchronise(self) -> None:
        """Wait until the device has done what it was told."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def subject_of(question: Question) -> Subject:
    """Load the images and put them on the device; random ones, with a line on stderr, where the data set can't be had."""
    device = torch.device(question.options.device)
    facts, spec = get_dataset(question.dataset), load_models()[question.model]
    switches = profiles.resolve(question.profile, device, spec.channels_last_on_cpu)
    profiles.apply(switches)
    variant = spec.variants[question.dataset]
    recipe = variant.recipe
    try:
        options = question.options
        loaded = cache.load(facts.name, data_folder(options.data_dir), options.allow_unverified_data, _to_stderr)
        prepared = prepare(loaded, recipe.preprocessing, 0, device, _to_stderr)
        raw, labels, real = loaded.train_images, loaded.train_labels, True
    except UserError as error:
        _to_stderr(f"measuring on random images: {error}")
        generator = np.random.default_rng(0)
        raw = generator.integers(256, size=(RANDOM_IMAGES, *facts.shape), dtype=np.uint8)
        labels = generator.integers(facts.classes, size=RANDOM_IMAGES)
        pixels, black = torch.from_numpy(raw).to(device).float().div_(255), torch.zeros(raw.shape[1], 1, 1)
        images = DeviceSet(pixels, torch.from_numpy(labels).to(device), None, black.to(device))
        prepared, real = Prepared(images, images), False
    return Subject(question, facts, spec, variant, device, switches, raw, labels, prepared, real)


def plain_recipe(subject: Subject, epochs: int = 1) -> Recipe:
    """The recipe without what only a whole training has: milestones, a hold-out, a batch that is left out."""
    batch = min(subject.variant.recipe.batch_size, len(subject.prepared.train) // 2)
    return dataclasses.replace(
        subject.variant.recipe, epochs=epochs, schedule=Constant(), holdout=0, order=Shuffled(), batch_size=batch
    )


def run_loop(
    subject: Subject, recipe: Recipe, images: int, on_step: Callable[[dict[str, Any]], None]
) -> tuple[train.Trained, list[float]]:
    """`train()` with a worker's hooks on the first `images` images: what it gives, and seconds for each checkpoint.

    `on_step` gets what the hook for progress gets, after it. The test set is one batch: evaluation is timed apart.
    """
    prepared = Prepared(subject.prepared.train.first(images), subject.prepared.test.first(recipe.batch_size))
    job = Job(
        dataset=subject.facts.name,
        model=subject.spec.name,
        revision=subject.variant.revision,
        recipe=recipe.to_dict(),
        profile=subject.question.profile,
        seed=0,
    )
    saves: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        paths = JobPaths(Path(folder))
        worker = Worker(subject.question.options)
        hooks = JobAttempt(paths, job, "0" * 32, worker, Log(paths.log, None)).hooks()

        def progress(told: dict[str, Any]) -> None:
            hooks.progress(told)
            on_step(told)

        def save(state: Any) -> None:
            began = time.perf_counter()
            hooks.save(state)
            saves.append(time.perf_counter() - began)

        trained = train.train(
            job, "0" * 32, subject.spec, recipe, prepared, subject.device, subject.switches,
            dataclasses.replace(hooks, progress=progress, save=save),
        )  # fmt: skip
    return trained, saves


class BareStep(Step):
    """The update alone, without the sums."""

    def __call__(self, images: Tensor, labels: Tensor) -> None:
        self.update(images, labels)


def bare_turn(subject: Subject, recipe: Recipe, steps: int) -> Callable[[], float]:
    """A turn of (a): so many updates on one batch, or on the images of one call of a step that makes many; their images."""
    shifts = torch.Generator(device=subject.device).manual_seed(0)
    updates = min(steps, updates_a_call(subject.spec, recipe, subject.device))
    data = subject.prepared.train.first(updates * recipe.batch_size)
    batches = Batches(data, recipe, shifts, subject.layout)
    batches.begin(torch.arange(len(data)))
    images, labels = batches.several(0, updates)
    model = subject.swapped_network()
    sums = torch.zeros(3, dtype=torch.float64, device=subject.device)
    optimizer = optimizer_for(model, recipe)
    if isinstance(optimizer, DiagonalLM):
        train.set_curvature(optimizer, model, subject.spec, data, recipe, torch.Generator().manual_seed(0))
    step = written_out_step(model, optimizer, subject.spec, recipe, sums) or make_step(
        model, optimizer, subject.spec.loss, sums, subject.switches, BareStep
    )
    calls = max(1, round(steps / updates))

    def turn() -> float:
        for _ in range(calls):
            step(images, labels)
        subject.synchronise()
        return calls * len(labels)

    return turn


def averaging(subject: Subject) -> Subject:
    """The subject with a network that does next to nothing: it averages each channel's pixels and has one dense layer."""
    channels, classes = subject.facts.shape[0], subject.facts.classes

    def build() -> nn.Module:
        return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes))

    recipe = dataclasses.replace(subject.variant.recipe, init=(("*", "constant", 0.0),))
    variant = dataclasses.replace(subject.variant, build=build, recipe=recipe)
    spec = dataclasses.replace(subject.spec, variants={subject.facts.name: variant}, loss=cross_entropy)
    switches = {**subject.switches, "arithmetic": arithmetic.TORCH}
    return dataclasses.replace(subject, spec=spec, variant=variant, switches=switches)


def own_seconds(subject: Subject) -> float:
    """What the loop itself costs, in seconds an image: an epoch's, less its steps', with a network that does nothing."""
    nothing = averaging(subject)
    recipe = plain_recipe(nothing, epochs=OWN_TURNS + 1)
    steps = min(OWN_STEPS, len(subject.prepared.train) // recipe.batch_size)
    turn = bare_turn(nothing, recipe, steps)
    bare: list[float] = []

    def between(told: dict[str, Any]) -> None:
        if not told["step"]:
            subject.synchronise()
            began = time.perf_counter()
            images = turn()
            bare.append((time.perf_counter() - began) / images)

    trained, _ = run_loop(nothing, recipe, steps * recipe.batch_size, between)
    spent = [1 / row["images_per_second"] - step for row, step in zip(trained.curve, bare, strict=True)]
    return max(0.0, statistics.median(spent[1:]))  # the first turns warm up


def evaluation_turn(subject: Subject, images: int) -> Callable[[], float]:
    """Evaluate that many images of the test set, as after each epoch; gives their number."""
    model = subject.swapped_network()
    test = subject.prepared.test.first(images)
    autocast = autocast_of(subject.switches, subject.device)

    def turn() -> float:
        train.evaluate(model, test, subject.spec, autocast, subject.layout)
        subject.synchronise()
        return len(test)

    return turn


class UsualLoop:
    """(c): what people write, with one set of DataLoader workers for all turns."""

    def __init__(self, subject: Subject, recipe: Recipe) -> None:
        self.subject, self.batch = subject, recipe.batch_size
        self.model = subject.network()
        self.optimizer = torch.optim.SGD(
            self.model.parameters(),
            lr=1e-4,
            momentum=recipe.optimizer.momentum_at(0),
            weight_decay=recipe.decay_of("weight", dimensions=2),
            nesterov=isinstance(recipe.optimizer, SGD) and recipe.optimizer.nesterov,
        )
        workers = min(WORKERS, os.cpu_count() or 1)
        self.ahead = 2 * workers  # batches that DataLoader's workers make before anyone asks for them
        images = UsualImages(subject.raw, subject.labels, recipe)
        endless = torch.utils.data.RandomSampler(images, replacement=True, num_samples=2**40)
        self.batches: Iterator[Any] = iter(
            torch.utils.data.DataLoader(
                images, self.batch, sampler=endless, num_workers=workers, pin_memory=subject.device.type == "cuda"
            )
        )

    def seconds(self, steps: int) -> float:
        """Seconds for so many steps, after as many as use up what the workers made while others had their turns."""
        for _ in range(min(self.ahead, steps)):
            self._step()
        began = time.perf_counter()
        for _ in range(steps):
            self._step()
        return time.perf_counter() - began

    def _step(self) -> tuple[float, float]:
        images, labels = (part.to(self.subject.device) for part in next(self.batches))
        self.optimizer.zero_grad()
        output = self.model(images)
        loss = self.subject.spec.loss(output, labels)
        loss.backward()
        self.optimizer.step()
        logits = output[0] if isinstance(output, tuple) else output
        return loss.item(), (logits.argmax(1) == labels).sum().item()


class UsualImages(torch.utils.data.Dataset[tuple[Tensor, int]]):
    """PIL images through torchvision's transforms, one by one, as torchvision's CIFAR10 and MNIST do it."""

    def __init__(self, raw: np.ndarray, labels: np.ndarray, recipe: Recipe) -> None:
        from torchvision import transforms

        self.raw, self.labels = raw, labels
        augmentation = recipe.augmentation
        shifts = [transforms.RandomCrop(raw.shape[-1], padding=augmentation.translate)] * bool(augmentation.translate)
        chosen = shifts + [transforms.RandomHorizontalFlip()] * augmentation.flip
        self.transform = transforms.Compose([*chosen, transforms.ToTensor(), transforms.Normalize(0.5, 0.25)])

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        from PIL import Image

        pixels = self.raw[index].transpose(1, 2, 0)
        image = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
        return self.transform(image), int(self.labels[index])


def matrix_turn(device: torch.device, dtype: torch.dtype) -> Callable[[], float]:
    """A few large matrix products; gives their operations."""
    side, times = MATRIX[device.type], 4
    left, right = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))

    def turn() -> float:
        for _ in range(times):
            torch.mm(left, right)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return 2.0 * side**3 * times

    return turn


def memory_turn(device: torch.device) -> Callable[[], float]:
    """A large copy; gives the bytes that it reads and writes."""
    source = torch.zeros(COPIED[device.type] // 4, device=device)
    target = torch.zeros_like(source)

    def turn() -> float:
        target.copy_(source)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return 2.0 * COPIED[device.type]

    return turn


# --- all of it -----------------------------------------------------------------------------------------------------------


def measure(question: Question) -> dict[str, Any]:
    """Everything that `runner bench --json` says of one model."""
    torch.set_num_threads(question.options.threads)
    subject = subject_of(question)
    device, recipe = subject.device, subject.variant.recipe

    # --- `train()` for two steps ---
    ends: list[float] = []

    def note(told: dict[str, Any]) -> None:
        subject.synchronise()
        ends.append(time.time())

    plain = plain_recipe(subject)
    batch = plain.batch_size
    a_call = updates_a_call(subject.spec, plain, device) * batch
    trained, _ = run_loop(subject, plain, 2 * a_call, note)
    switches = {**subject.switches, "arithmetic": trained.switches["arithmetic"]}  # measured once, for all that follows
    subject = dataclasses.replace(subject, switches=switches)
    startup = ends[0] - psutil.Process().create_time()
    step_seconds = (ends[1] - ends[0]) * batch / a_call
    peak = torch.cuda.max_memory_reserved() if device.type == "cuda" else _peak_resident_bytes()

    # A GPU's work hides the host's, and adds its own. Passes that are written out are a network's own.
    apart = device.type == "cpu" and not written_out(subject.spec, plain, device)
    own = own_seconds(subject) if apart else None

    # --- how long a turn is ---
    fast = question.profile == "fast"
    available = question.seconds / ((4 + fast) * (question.repeats + 1))
    fitting = fitting_batch(batch, step_seconds, available)
    step_seconds *= fitting / batch
    steps = max(1, min(round(available / step_seconds), len(subject.prepared.train) // fitting))
    images = steps * fitting
    timed = dataclasses.replace(plain, epochs=question.repeats + 1, batch_size=fitting)
    if isinstance(timed.optimizer, DiagonalRule):  # a short epoch measures curvature on its share of the images
        curved = max(1, timed.optimizer.images * images // len(subject.prepared.train))
        timed = dataclasses.replace(timed, optimizer=dataclasses.replace(timed.optimizer, images=curved))

    # --- by turns ---
    matrix_type = torch.bfloat16 if switches["autocast"] != "off" else torch.float32
    turns = {
        "bare_step": bare_turn(subject, timed, steps),
        "evaluation": evaluation_turn(subject, min(images, len(subject.prepared.test))),
        "matrix": matrix_turn(device, matrix_type),
        "memory": memory_turn(device),
    }
    reference = dataclasses.replace(
        subject, switches=profiles.resolve("reference", device, subject.spec.channels_last_on_cpu)
    )
    if fast:
        turns["reference_step"] = bare_turn(reference, timed, steps)  # last: it leaves its profile's switches behind
    usual = UsualLoop(subject, timed)
    rates: dict[str, list[float]] = {name: [] for name in (*turns, "dataloader")}
    worked_rates: dict[str, list[float]] = {name: [] for name in turns}  # images/s of processor time
    shares: list[float] = []  # of its cores that this process got

    def between(told: dict[str, Any]) -> None:
        if told["step"]:
            return  # within an epoch
        subject.synchronise()
        for name, turn in turns.items():
            if name == "reference_step":
                profiles.apply(reference.switches)
            began, worked = time.perf_counter(), time.process_time()
            done = turn()
            spent = time.perf_counter() - began
            processor = time.process_time() - worked
            rates[name].append(done / spent)
            worked_rates[name].append(done / processor)
            if name == "bare_step":
                shares.append(processor / (spent * question.options.threads))
        profiles.apply({**switches, "deterministic": False, "cudnn_benchmark": False})  # as people leave them
        rates["dataloader"].append(images / usual.seconds(steps))
        profiles.apply(switches)
        time.sleep(SETTLE_SECONDS)

    trained, saves = run_loop(subject, timed, images, between)
    checkpoint = statistics.median(saves)
    checkpoint_share = checkpoint / train.CHECKPOINT_SECONDS
    rates["loop"] = [row["images_per_second"] / (1 + checkpoint_share) for row in trained.curve]
    rates = {name: found[1:] for name, found in rates.items()}  # the first turns warm up
    worked_rates = {name: found[1:] for name, found in worked_rates.items()}
    median = {name: statistics.median(found) for name, found in rates.items()}
    clocked = (
        worked_rates if device.type == "cpu" and question.options.threads == 1 else rates
    )  # others' work falls on neither
    fast_ratio = round(_ratio(clocked["bare_step"], clocked["reference_step"]), 4) if fast else None
    own_share = None if own is None else round(own * median["bare_step"] + checkpoint_share, 6)

    with torch.device("meta"):
        layers = layers_of(subject.variant.build(), subject.facts.shape)
    flops = flops_per_image(layers)
    moved = bytes_per_image(layers, fitting, 2 if switches["autocast"] != "off" else 4)
    environment = environment_of(device, switches)
    return {
        "model": question.model,
        "dataset": question.dataset,
        "profile": question.profile,
        "device": device.type,
        "bare_step": round(median["bare_step"], 3),
        "loop": round(median["loop"], 3),
        "dataloader": round(median["dataloader"], 3),
        "loop_ratio": round(_ratio(rates["loop"], rates["bare_step"]), 4),
        "speedup": round(_ratio(rates["loop"], rates["dataloader"]), 4),
        "reference_step": round(median["reference_step"], 3) if fast else None,
        "fast_ratio": fast_ratio,  # on one thread of a CPU, of processor time
        "evaluation": round(median["evaluation"], 3),
        "own_microseconds": None if own is None else round(1e6 * own, 4),  # an image
        "own_share": own_share,  # of the bare step's time
        "spread": {
            name: [round(min(rates[name]), 3), round(max(rates[name]), 3)]
            for name in ("bare_step", "loop", "dataloader")
        },
        "batch_size": fitting,
        "recipe_batch_size": recipe.batch_size,
        "steps": steps,
        "repeats": question.repeats,
        "images": "real" if subject.real else "random",
        "checkpoint_seconds": round(checkpoint, 4),
        "flops_per_image": flops,
        "bytes_per_image": round(moved),
        "gflops": round(median["loop"] * flops / 1e9, 3),
        "matrix_gflops": round(median["matrix"] / 1e9, 3),
        "arithmetic_share": round(median["loop"] * flops / median["matrix"], 4),
        "memory_gbytes": round(median["memory"] / 1e9, 3),
        "memory_share": round(median["loop"] * moved / median["memory"], 4),
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
    """The median of the turns' ratios."""
    return statistics.median(a / b for a, b in zip(above, below, strict=True))


def _peak_resident_bytes() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _to_stderr(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def main(path: str) -> int:
    """Measure one model and print its row as JSON."""
    print(json.dumps(measure(Question.read(Path(path)))))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
