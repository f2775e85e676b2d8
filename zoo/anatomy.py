"""What a network is made of: per layer and per stage its output shape, depth, parameters and multiply-accumulates.

A stage is a direct child of the network: one layer, or a block of several such as an inception module. That is the grain
of the papers' tables. On the device 'meta' all this costs neither memory nor arithmetic, so 138 million parameters are
taken apart as fast as ten thousand; `Unfilled` spares a short command what loading that device costs.
"""

import re
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

WEIGHTED = (nn.Conv2d, nn.Linear)
WEIGHTED_STEPS = ("ConvolutionBackward", "AddmmBackward", "BmmBackward")  # what autograd calls what they do
FILLS = {"uniform_", "normal_", "trunc_normal_", "fill_", "zero_"}  # methods that give a tensor its values
UNITS = {"": 1, "K": 1024, "M": 1_000_000}  # GoogLeNet's table counts K as 1024 and M as a million


@dataclass(frozen=True)
class Layer:
    """A layer or a stage. Shapes are without the batch: (channels, height, width) or (features,)."""

    name: str
    kind: str
    output: tuple[int, ...]
    depth: int  # layers with weights on the longest way through it
    parameters: int
    macs: int  # multiply-accumulates for one image; bias additions, activations and pooling aren't counted

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON data for the model's card."""
        return {
            "name": self.name,
            "kind": self.kind,
            "output": list(self.output),
            "depth": self.depth,
            "parameters": self.parameters,
            "macs": self.macs,
        }


class Unfilled(TorchFunctionMode):
    """A context that builds networks without giving their weights values: shapes are all that counts here.

    The device "meta" would do as much, but loads symbolic shapes, dynamo and sympy with its first operation: as long
    again as loading torch takes.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Do everything but what fills a tensor."""
        kwargs = kwargs or {}
        if getattr(func, "__name__", "") in FILLS:
            return args[0] if args else kwargs["tensor"]  # torch.nn.init's functions name it
        return func(*args, **kwargs)


def count_parameters(model: nn.Module) -> int:
    """All trained values, each tensor once."""
    return sum(parameter.numel() for parameter in model.parameters())


def take_apart(model: nn.Module, shape: tuple[int, int, int]) -> tuple[list[Layer], list[Layer]]:
    """Layers and stages, in the order of the forward pass of one image of `shape` (C, H, W).

    Layers are the modules with none inside, stages the network's direct children, each with all that is inside it. In
    evaluation mode: what only training uses, such as auxiliary heads, isn't among the layers.
    """
    leaves = {name: module for name, module in model.named_modules() if not list(module.children())}
    children = dict(model.named_children())
    layers: list[Layer] = []
    stages: list[Layer] = []
    before = 0
    for name, output, depth in _seen(model, leaves | children, shape):
        if name in leaves:
            module = leaves[name]
            weighted = isinstance(module, WEIGHTED) or hasattr(module, "weights_at_a_place")
            counts = int(weighted), count_parameters(module), _macs(module, output)
            layers.append(Layer(name, type(module).__name__, tuple(output.shape[1:]), *counts))
        if name in children:
            inside = [layer for layer in layers if layer.name == name or layer.name.startswith(f"{name}.")]
            counts = depth - before, sum(one.parameters for one in inside), sum(one.macs for one in inside)
            stages.append(Layer(name, type(children[name]).__name__, tuple(output.shape[1:]), *counts))
            before = depth
    return layers, stages


def layers_of(model: nn.Module, shape: tuple[int, int, int]) -> list[Layer]:
    """The layers alone, as `take_apart` gives them."""
    return take_apart(model, shape)[0]


def agrees(printed: str, ours: int) -> bool:
    """Whether a count printed as '159K' or '1.4M' is ours, to within one unit of its last digit."""
    match = re.fullmatch(r"(\d+)(?:\.(\d+))?([KM]?)", printed)
    if match is None:
        raise ValueError(f"'{printed}' isn't a count such as 159K or 1.4M")
    whole, fraction, unit = match.groups(default="")
    step = UNITS[unit] / 10 ** len(fraction)
    return abs(ours - int(whole + fraction) * step) < step


def _seen(
    model: nn.Module, modules: dict[str, nn.Module], shape: tuple[int, int, int]
) -> list[tuple[str, Tensor, int]]:
    """For each of the modules that one forward pass runs through: name, output, and the network's depth up to there."""
    found: list[tuple[str, Tensor, int]] = []
    known: dict[Any, int] = {}

    def watch(name: str, module: nn.Module) -> Any:
        def seen(_module: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> None:
            found.append((name, output.detach(), _depth(output.grad_fn, known)))

        return module.register_forward_hook(seen)

    hooks = [watch(name, module) for name, module in modules.items()]
    training = model.training
    try:
        with torch.enable_grad():
            model.eval()(torch.zeros(1, *shape, device=next(model.parameters()).device))
    finally:
        model.train(training)
        for hook in hooks:
            hook.remove()
    return found


def _depth(step: Any, known: dict[Any, int]) -> int:
    """Layers with weights on the longest way from the image to this step of the graph that autograd wrote."""
    if step is None:
        return 0
    if step not in known:
        before = max((_depth(previous, known) for previous, _ in step.next_functions), default=0)
        known[step] = before + step.name().startswith(WEIGHTED_STEPS)
    return known[step]


def _macs(layer: nn.Module, output: Tensor) -> int:
    if isinstance(layer, nn.Conv2d):
        return output[0].numel() * layer.weight[0].numel()
    if isinstance(layer, nn.Linear):
        return layer.weight.numel()
    weights = getattr(layer, "weights_at_a_place", 0)  # of a convolution of our own: over all its maps
    return output[0, 0].numel() * weights if weights else 0
