"""Choose, per layer, the fastest implementation of each operation in `fast` on a CPU. Each shape is timed once.

Convolutions (runner/training/convolution.py) and response normalisation (response_norm.py, within_map_norm.py) have several
implementations. They differ only in rounding. `choose` times them on this machine, once for each shape. `install` puts
them into the modules; names, parameters and state_dict do not change.

A choice is a string, because it is saved in the checkpoint and in the record: 'conv1=mtm conv2=www norm1=m'. Each layer
that does not use torch throughout gets one letter of WAYS per operation. A convolution has three operations: forward,
input gradient, weight gradient.
"""

import copy
import time
from collections.abc import Callable, Mapping
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn

from runner.training.convolution import Convolution, Layer, Shape
from runner.training.profiles import MEASURED, TORCH
from runner.training.response_norm import NormShape, ResponseNorm, rule_of
from runner.training.within_map_norm import WithinMapNormalisation, WithinNormShape
from runner.training.within_map_norm import rule_of as within_rule_of
from zoo.cudaconvnet import WithinMapNorm

WAYS = {"t": "torch", "w": "Winograd", "c": "Winograd along columns", "m": "matrix product", "s": "sums in the cache"}
KINDS: Mapping[type, Any] = {nn.Conv2d: Shape, nn.LocalResponseNorm: NormShape, WithinMapNorm: WithinNormShape}
GAIN = 1.1  # required speed-up over torch in the best turn: guards against choosing by noise
TRIAL_IMAGES = 32
REPEATS = 3
HOPELESS = 1.5  # times torch's seconds in the first turn: such an implementation is not measured again

Shapes = Shape | NormShape | WithinNormShape
Seconds = list[dict[str, list[float]]]  # for each operation: the turns' seconds by the letter of the way


def shapes_of(model: nn.Module, images: Tensor, layout: torch.memory_format) -> dict[str, Shapes]:
    """Return the shape of each swappable layer by module name, recorded in one forward pass in evaluation mode."""
    shapes: dict[str, Shapes] = {}

    def watch(name: str) -> Callable[[Any, tuple[Tensor, ...]], None]:
        def note(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            shape = KINDS[type(module)].of(module, inputs[0], layout)
            if shape is not None:
                shapes[name] = shape

        return note

    layers = [(name, module) for name, module in model.named_modules() if type(module) in KINDS]
    hooks = [module.register_forward_pre_hook(watch(name)) for name, module in layers]
    training = model.training
    try:
        with torch.enable_grad():
            model.eval()(images.contiguous(memory_format=layout))
    finally:
        model.train(training)
        for hook in hooks:
            hook.remove()
    return shapes


def choose(model: nn.Module, images: Tensor, layout: torch.memory_format, log: Callable[[str], None]) -> str:
    """Return the fastest implementation of each layer's operations, measured on at most TRIAL_IMAGES images.

    The choice does not draw from torch's generators. A training that measures gives the same bits as one that starts
    with the measured choice.
    """
    with torch.random.fork_rng(devices=[]):
        shapes = shapes_of(model, images[:2], layout)
        fastest: dict[Shapes, str] = {}
        for shape in shapes.values():
            if shape not in fastest:
                seconds = measure(shape, min(len(images), TRIAL_IMAGES))
                fastest[shape] = quickest(seconds)
                log(described(shape, fastest[shape], seconds))
        ways = {name: fastest[shape] for name, shape in shapes.items() if set(fastest[shape]) != {"t"}}
        choice = " ".join(f"{name}={letters}" for name, letters in ways.items()) or TORCH
        if choice != TORCH:
            gain = whole_gain(model, images[:TRIAL_IMAGES], layout, choice)
            log(
                f"arithmetic of the whole network: {gain:.2f} times torch's rate{'; torch is kept' if gain < 1 else ''}"
            )
            choice = choice if gain >= 1 else TORCH
    return choice


def whole_gain(model: nn.Module, images: Tensor, layout: torch.memory_format, choice: str) -> float:
    """Return how many times as fast a choice makes forward and backward passes of the whole network: of the best turns.

    Layers that gain alone may lose together, for example where a layer has to copy what its neighbour computed.
    """
    clock, seconds = _clock(), {}
    twins = {arithmetic: copy.deepcopy(model).train() for arithmetic in (TORCH, choice)}
    images = images.contiguous(memory_format=layout)
    for arithmetic, twin in twins.items():
        install(twin, arithmetic, layout)
        seconds[arithmetic] = [0.0] * (REPEATS + 1)
    for turn in range(REPEATS + 1):
        for arithmetic, twin in twins.items():
            began = clock()
            with torch.enable_grad():
                output = twin(images)
                sum(part.sum() for part in (output if isinstance(output, tuple) else (output,))).backward()
            seconds[arithmetic][turn] = clock() - began
    return min(seconds[TORCH][1:]) / min(seconds[choice][1:])  # the first turn warms up


def measure(shape: Shapes, batch: int) -> Seconds:
    """Return the seconds that each implementation takes on `batch` images, for each operation, measured in turns.

    On one thread the clock is processor time, which other processes do not affect.
    """
    clock, run = _clock(), shape.trial(batch)
    seconds: Seconds = []

    def spent(operation: int, letter: str) -> float:
        began = clock()
        run(operation, letter)
        return clock() - began

    with torch.no_grad():
        for operation in range(len(shape.operations)):
            letters = shape.ways(operation)

            if len(letters) > 1:
                first = {letter: spent(operation, letter) for letter in letters}  # warms up
                letters = "".join(letter for letter in letters if first[letter] <= HOPELESS * first["t"])
            turns: dict[str, list[float]] = {letter: [] for letter in letters}
            for _ in range(REPEATS if len(letters) > 1 else 0):
                for letter, times in turns.items():
                    times.append(spent(operation, letter))
            seconds.append(turns)
    return seconds


def _clock() -> Callable[[], float]:
    return time.process_time if torch.get_num_threads() == 1 else time.perf_counter


def quickest(seconds: Seconds) -> str:
    """Return the letters of the fastest implementations, one per operation.

    Another implementation replaces torch's only if its best turn is GAIN times as fast and it is faster in every turn.
    """
    letters = ""
    for turns in seconds:
        ways = [
            letter
            for letter, spent in turns.items()
            if letter != "t"
            and min(spent) * GAIN < min(turns["t"])
            and all(other < own for other, own in zip(spent, turns["t"], strict=True))
        ]
        letters += min(ways, key=lambda letter: min(turns[letter]), default="t")
    return letters


def described(shape: Shapes, letters: str, seconds: Seconds) -> str:
    """Return a log line: what was chosen for a shape, and the gain over torch."""
    gains = [
        f"{operation} by {WAYS[letter]}, {min(turns['t']) / min(turns[letter]):.2f} times torch's rate"
        for operation, letter, turns in zip(shape.operations, letters, seconds, strict=True)
        if letter != "t"
    ]
    return f"arithmetic of {shape}: {'; '.join(gains) or 'torch'}"


def parsed(choice: str) -> dict[str, str]:
    """Return the letters of each layer that a choice names. Raise ValueError for a malformed choice."""
    if choice == TORCH:
        return {}
    ways = {}
    for word in choice.split(" "):
        name, _, letters = word.rpartition("=")
        if not name or not letters or not set(letters) <= set(WAYS):
            raise ValueError(
                f"'{word}' is not a choice for a layer: expected NAME=LETTERS with letters of {''.join(WAYS)}"
            )
        ways[name] = letters
    return ways


def install(model: nn.Module, choice: str, layout: torch.memory_format) -> None:
    """Replace the implementations of the layers that a choice names. Parameters, names and state_dict do not change.

    Raise ValueError for a choice that belongs to another network.
    """
    modules: Mapping[str, Any] = dict(model.named_modules())
    for name, letters in parsed(choice).items():
        module: Any = modules.get(name)
        if type(module) not in KINDS or len(KINDS[type(module)].operations) != len(letters):
            raise ValueError(f"the choice {name}={letters} does not fit this network")
        if isinstance(module, nn.Conv2d):
            module._conv_forward = MethodType(_convolve(module, letters, layout), module)  # type: ignore[method-assign]
        elif letters != "t":
            within = isinstance(module, WithinMapNorm)
            module.forward = MethodType(_normalise_within if within else _normalise, module)


def install_choice(
    model: nn.Module,
    trial_images: Callable[[], Tensor],
    layout: torch.memory_format,
    choice: str,
    log: Callable[[str], None],
    precision: Mapping[str, bool | str] | None,
) -> str:
    """Install each layer's implementations and return the choice: the given one, or where it is MEASURED, the fastest.

    A new training measures on `trial_images`. A resumed training keeps the choice in the `precision` of its
    checkpoint, because another choice would change the bits.
    """
    if choice == MEASURED:
        kept = None if precision is None else str(precision.get("arithmetic", TORCH))
        choice = kept or choose(model, trial_images(), layout, log)
    install(model, choice, layout)
    return choice


def _convolve(module: nn.Conv2d, letters: str, layout: torch.memory_format) -> Callable[..., Tensor]:
    layer: Layer = (module.stride[0], int(module.padding[0]), letters, layout)

    def convolve(_module: nn.Module, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        output: Tensor = Convolution.apply(x, weight, bias, layer)
        return output

    return convolve


def _normalise(module: nn.LocalResponseNorm, x: Tensor) -> Tensor:
    output: Tensor = ResponseNorm.apply(x, *rule_of(module))
    return output


def _normalise_within(module: WithinMapNorm, x: Tensor) -> Tensor:
    output: Tensor = WithinMapNormalisation.apply(x, *within_rule_of(module))
    return output
