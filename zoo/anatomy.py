"""List the layers and stages of a network: output shape, depth, parameters and multiply-accumulates.

A stage is a direct child of the network: one layer, or a block such as an inception module. The papers' tables have one row
per stage. On the device 'meta' this takes neither memory nor arithmetic, so 138 million parameters are as fast as ten
thousand. `Unfilled` spares a short command the loading of that device.
"""

import re
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import Node
from torch.overrides import TorchFunctionMode
from torch.utils.hooks import RemovableHandle

WEIGHTED = (nn.Conv2d, nn.Linear)
WEIGHTED_STEPS = ("ConvolutionBackward", "AddmmBackward", "BmmBackward")  # autograd's names for layers with weights
FILLS = {"uniform_", "normal_", "trunc_normal_", "fill_", "zero_"}  # methods that give a tensor its values
UNITS = {"": 1, "K": 1024, "M": 1_000_000}  # GoogLeNet's table counts K as 1024 and M as a million


@dataclass(frozen=True)
class Layer:
    """A layer or a stage. `output` is (channels, height, width) or (features,), without the batch."""

    name: str
    kind: str
    output: tuple[int, ...]
    depth: int  # layers with weights on the longest path through it
    parameters: int
    macs: int  # multiply-accumulates for one image, without bias additions, activations and pooling

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON data for the model's card."""
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
        """Run an operation of torch, unless it gives a tensor its values: then return the tensor as it is."""
        kwargs = kwargs or {}
        if getattr(func, "__name__", "") in FILLS:
            return args[0] if args else kwargs["tensor"]  # torch.nn.init's functions name it
        return func(*args, **kwargs)


def count_parameters(model: nn.Module) -> int:
    """Return the number of trained values, each tensor counted once."""
    return sum(parameter.numel() for parameter in model.parameters())


def take_apart(model: nn.Module, shape: tuple[int, int, int]) -> tuple[list[Layer], list[Layer]]:
    """Return the layers and the stages, in the order of a forward pass of one image of `shape` (C, H, W).

    Layers are modules without children. Stages are the direct children of the network, with everything inside them. The
    pass is in evaluation mode, so modules that only training uses, such as auxiliary heads, are left out.
    """
    leaves = {name: module for name, module in model.named_modules() if not list(module.children())}
    children = dict(model.named_children())
    layers: list[Layer] = []
    stages: list[Layer] = []
    before = 0
    for name, output, depth in _forward_pass(model, leaves | children, shape):
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
    """Return the layers of `take_apart` without the stages."""
    return take_apart(model, shape)[0]


def agrees(printed: str, ours: int) -> bool:
    """Return whether a count printed as '159K' or '1.4M' equals ours to within one unit of its last digit.

    Raise ValueError for text of another form.
    """
    match = re.fullmatch(r"(\d+)(?:\.(\d+))?([KM]?)", printed)
    if match is None:
        raise ValueError(f"'{printed}' isn't a count such as 159K or 1.4M")
    whole, fraction, unit = match.groups(default="")
    step = UNITS[unit] / 10 ** len(fraction)
    return abs(ours - int(whole + fraction) * step) < step


def _forward_pass(
    model: nn.Module, modules: dict[str, nn.Module], shape: tuple[int, int, int]
) -> list[tuple[str, Tensor, int]]:
    """Return (name, output, depth of the network up to there) for each of the modules that a forward pass calls, in order."""
    calls: list[tuple[str, Tensor, int]] = []
    depths: dict[Node, int] = {}

    def add_hook(name: str, module: nn.Module) -> RemovableHandle:
        def record(_module: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> None:
            calls.append((name, output.detach(), _depth(output.grad_fn, depths)))

        return module.register_forward_hook(record)

    hooks = [add_hook(name, module) for name, module in modules.items()]
    training = model.training
    try:
        with torch.enable_grad():
            model.eval()(torch.zeros(1, *shape, device=next(model.parameters()).device))
    finally:
        model.train(training)
        for hook in hooks:
            hook.remove()
    return calls


def _depth(node: Node | None, depths: dict[Node, int]) -> int:
    """Return the number of layers with weights on the longest path from the image to a node of autograd's graph.

    `depths` is filled, so that each node is visited once.
    """
    if node is None:
        return 0
    if node not in depths:
        before = max((_depth(previous, depths) for previous, _ in node.next_functions), default=0)
        depths[node] = before + node.name().startswith(WEIGHTED_STEPS)
    return depths[node]


def _macs(layer: nn.Module, output: Tensor) -> int:
    if isinstance(layer, nn.Conv2d):
        return output[0].numel() * layer.weight[0].numel()
    if isinstance(layer, nn.Linear):
        return layer.weight.numel()
    weights = getattr(layer, "weights_at_a_place", 0)  # of our own convolutions: the weights of all maps at one place
    return output[0, 0].numel() * weights if weights else 0
