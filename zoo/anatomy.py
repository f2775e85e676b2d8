"""What a network is made of: per layer its output shape, parameters and multiply-accumulates."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Layer:
    """One layer that has no layers inside. Shapes are without the batch: (channels, height, width) or (features,)."""

    name: str
    kind: str
    output: tuple[int, ...]
    parameters: int
    macs: int  # multiply-accumulates for one image; bias additions, activations and pooling aren't counted

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON data for the model's card."""
        return {
            "name": self.name,
            "kind": self.kind,
            "output": list(self.output),
            "parameters": self.parameters,
            "macs": self.macs,
        }


def count_parameters(model: nn.Module) -> int:
    """All trained values, each tensor once."""
    return sum(parameter.numel() for parameter in model.parameters())


def layers_of(model: nn.Module, shape: tuple[int, int, int]) -> list[Layer]:
    """The layers in the order of the forward pass of one zero image of `shape` (C, H, W), in evaluation mode."""
    found: list[Layer] = []

    def watch(name: str, module: nn.Module) -> Any:
        def seen(layer: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> None:
            found.append(
                Layer(
                    name, type(layer).__name__, tuple(output.shape[1:]), count_parameters(layer), _macs(layer, output)
                )
            )

        return module.register_forward_hook(seen)

    leaves = [(name, module) for name, module in model.named_modules() if not list(module.children())]
    hooks = [watch(name, module) for name, module in leaves]
    training = model.training
    try:
        with torch.no_grad():
            model.eval()(torch.zeros(1, *shape))
    finally:
        model.train(training)
        for hook in hooks:
            hook.remove()
    return found


def _macs(layer: nn.Module, output: Tensor) -> int:
    if isinstance(layer, nn.Conv2d):
        return output[0].numel() * layer.weight[0].numel()
    if isinstance(layer, nn.Linear):
        return layer.weight.numel()
    return 0
