"""Which arithmetic each layer is done with in `fast` on a CPU: for each operation the quickest way, measured once.

Convolutions (runner/training/convolution.py) and response normalisation (response_norm.py) can be done in several ways that
differ in rounding alone. `choose` times them on this machine, once for each shape; `install` swaps them under the modules,
whose names, parameters and state_dict stay as they are.

A choice is a text, since it stands in the checkpoint and in the record: 'conv1=mtm conv2=www norm1=m' gives each layer that
is not torch's altogether a letter of WAYS for each of its operations. A convolution has three: forward, gradient by the
input, gradient by the weights.
"""

import time
from collections.abc import Callable, Mapping
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn

from runner.training.convolution import Convolution, Layer, Shape
from runner.training.response_norm import NormShape, ResponseNorm, rule_of

TORCH = "torch"  # the choice that swaps nothing
MEASURED = "measured"  # to be measured when the training begins
WAYS = {"t": "torch", "w": "Winograd", "m": "matrix product"}
OPERATIONS = {nn.Conv2d: 3, nn.LocalResponseNorm: 1}
GAIN = 1.1  # another way must be so many times as fast as torch's, and faster in every turn: a choice by noise gains nothing
TRIAL_IMAGES = 32
REPEATS = 3

Shapes = Shape | NormShape
Seconds = list[dict[str, list[float]]]  # for each operation: the turns' seconds by the letter of the way


def shapes_of(model: nn.Module, images: Tensor, layout: torch.memory_format) -> dict[str, Shapes]:
    """Return the shape of each layer that can be swapped, by the module's name, as seen in one pass in evaluation."""
    shapes: dict[str, Shapes] = {}
    kinds: Mapping[type, Any] = {nn.Conv2d: Shape.of, nn.LocalResponseNorm: NormShape.of}

    def watch(name: str) -> Callable[[Any, tuple[Tensor, ...]], None]:
        def note(module: Any, inputs: tuple[Tensor, ...]) -> None:
            shape = kinds[type(module)](module, inputs[0], layout)
            if shape is not None:
                shapes[name] = shape

        return note

    layers = [(name, module) for name, module in model.named_modules() if type(module) in kinds]
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
    """Return the quickest way of each layer's operations, measured on as many images, up to TRIAL_IMAGES.

    Draws nothing from torch's generators: a training that is measured and one that is told the choice are the same.
    """
    with torch.random.fork_rng(devices=[]):
        shapes = shapes_of(model, images[:2], layout)
        chosen: dict[Shapes, str] = {}
        for shape in shapes.values():
            if shape not in chosen:
                seconds = measure(shape, min(len(images), TRIAL_IMAGES))
                chosen[shape] = quickest(seconds)
                log(described(shape, chosen[shape], seconds))
    ways = {name: chosen[shape] for name, shape in shapes.items() if set(chosen[shape]) != {"t"}}
    return " ".join(f"{name}={letters}" for name, letters in ways.items()) or TORCH


def measure(shape: Shapes, batch: int) -> Seconds:
    """Return, for each operation, the seconds that each way takes for so many images, by turns.

    On one thread it is processor time, on which other processes' work doesn't fall.
    """
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    run = shape.trial(batch)
    seconds: Seconds = []
    with torch.no_grad():
        for operation in range(len(shape.operations)):
            turns: dict[str, list[float]] = {letter: [] for letter in shape.ways(operation)}
            for turn in range(REPEATS + 1 if len(turns) > 1 else 0):
                for letter, spent in turns.items():
                    began = clock()
                    run(operation, letter)
                    if turn:  # the first warms up
                        spent.append(clock() - began)
            seconds.append(turns)
    return seconds


def quickest(seconds: Seconds) -> str:
    """Return the letters of the quickest ways: torch's where no other gains GAIN at its best and something in each turn."""
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
    """Return a line for the log: what was chosen for a shape, and what it gains."""
    gains = [
        f"{operation} by {WAYS[letter]}, {min(turns['t']) / min(turns[letter]):.2f} times torch's rate"
        for operation, letter, turns in zip(shape.operations, letters, seconds, strict=True)
        if letter != "t"
    ]
    return f"arithmetic of {shape}: {'; '.join(gains) or 'torch'}"


def parsed(choice: str) -> dict[str, str]:
    """Return the letters of each layer that a choice names. Raises ValueError for a text that is none."""
    if choice == TORCH:
        return {}
    ways = {}
    for word in choice.split(" "):
        name, _, letters = word.rpartition("=")
        if not name or not letters or not set(letters) <= set(WAYS):
            raise ValueError(
                f"'{word}' is no choice of a layer's ways: expected NAME=LETTERS, letters of {''.join(WAYS)}"
            )
        ways[name] = letters
    return ways


def install(model: nn.Module, choice: str, layout: torch.memory_format) -> None:
    """Swap the arithmetic of the layers that a choice names. Parameters, names and state_dict stay as they are.

    Raises ValueError for a choice that another network's is.
    """
    modules: Mapping[str, Any] = dict(model.named_modules())
    for name, letters in parsed(choice).items():
        module: Any = modules.get(name)
        if OPERATIONS.get(type(module)) != len(letters):
            raise ValueError(f"the choice {name}={letters} is of another network")
        if isinstance(module, nn.Conv2d):
            module._conv_forward = MethodType(_convolve(module, letters, layout), module)  # type: ignore[method-assign]
        elif letters == "m":
            module.forward = MethodType(_normalise, module)


def _convolve(module: Any, letters: str, layout: torch.memory_format) -> Callable[..., Tensor]:
    layer: Layer = (module.stride[0], module.padding[0], letters, layout)

    def convolve(_module: nn.Module, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        output: Tensor = Convolution.apply(x, weight, bias, layer)
        return output

    return convolve


def _normalise(module: nn.LocalResponseNorm, x: Tensor) -> Tensor:
    output: Tensor = ResponseNorm.apply(x, *rule_of(module))
    return output
