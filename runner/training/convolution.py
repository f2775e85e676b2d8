"""The arithmetic of convolutions in `fast` on a CPU: for each layer the quickest of several, measured once.

A layer has three operations: the forward pass, the gradient by its input and the gradient by its weights. Each may be done
by torch's own convolution, by Winograd's (stride 1, kernels of 3x3 and 5x5) or as a matrix product with the patches of the
image. They differ in rounding alone. `choose` times them on this machine, once for each shape; `install` swaps them under
the modules, whose names, parameters and state_dict stay as they are.

A choice is a text, since it stands in the checkpoint and in the record: 'conv1=tmm conv2=www' gives each layer that is not
torch's altogether a letter for each operation, in the order above.
"""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MethodType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from runner.training import winograd

TORCH = "torch"  # the choice of every layer's own convolution
MEASURED = "measured"  # to be measured when the training begins
WAYS = {"t": "torch", "w": "Winograd", "m": "matrix product"}
OPERATIONS = ("forward", "gradient by the input", "gradient by the weights")
GAIN = 1.1  # another way must be so many times as fast as torch's: measurements differ by less
TRIAL_IMAGES = 32
REPEATS = 3
PATCH_BYTES = 2**21  # of the patches of a chunk of images


Layer = tuple[
    int, int, str, torch.memory_format
]  # stride, padding, ways, and the memory layout of output and gradients


@dataclass(frozen=True)
class Shape:
    """What the time of a layer's operations depends on."""

    images: tuple[int, int, int]  # maps, height, width
    maps: int  # of the output
    kernel: int
    stride: int
    padding: int
    bias: bool
    channels_last: bool
    input_gradient: bool  # false for the layer that sees the image

    def __str__(self) -> str:
        c, h, w = self.images
        step = f"/{self.stride}" if self.stride > 1 else ""
        return f"{self.kernel}x{self.kernel}{step} {c}->{self.maps} on {h}x{w}"

    @property
    def output(self) -> tuple[int, int]:
        """Height and width of the output."""
        height, width = ((side + 2 * self.padding - self.kernel) // self.stride + 1 for side in self.images[1:])
        return height, width

    def ways(self, operation: int) -> str:
        """Return the letters of the ways in which an operation can be done."""
        winograds = self.kernel in winograd.TILES and self.stride == 1 and self.padding < self.kernel
        matrix = operation != 1 or (self.kernel == self.stride == 1 and not self.padding)
        return "t" + "w" * winograds + "m" * matrix


# --- one convolution ------------------------------------------------------------------------------------------------------


class Convolution(torch.autograd.Function):
    """F.conv2d of (N, C, H, W) with (K, C, r, r), each of whose operations is done in the way that `ways` names."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, layer: Layer) -> Tensor:
        """Return the output."""
        ctx.save_for_backward(x, weight)
        ctx.layer, ctx.biased = layer, bias is not None
        return forward(x, weight, bias, layer)

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients by input, weights and bias, where they are needed."""
        x, weight = ctx.saved_tensors
        needed = (ctx.needs_input_grad[0], ctx.needs_input_grad[1], ctx.needs_input_grad[2] and ctx.biased)
        return *gradients(gradient, x, weight, needed, ctx.layer), None


def forward(x: Tensor, weight: Tensor, bias: Tensor | None, layer: Layer) -> Tensor:
    """Return the convolution."""
    stride, padding, ways, layout = layer
    if ways[0] == "t":
        return F.conv2d(x, weight, bias, stride, padding)
    height, width = ((side + 2 * padding - weight.shape[2]) // stride + 1 for side in x.shape[2:])
    out = torch.empty((len(x), len(weight), height, width), dtype=x.dtype, memory_format=layout)
    if ways[0] == "w":
        winograd.convolve(last(x), weight, bias, padding, last(out))
    else:
        multiply_patches(last(x), weight, bias, stride, padding, last(out))
    return out


def gradients(
    gradient: Tensor, x: Tensor, weight: Tensor, needed: tuple[bool, bool, bool], layer: Layer
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Return the gradients by input, weights and bias; None where one isn't needed."""
    stride, padding, ways, layout = layer
    by_input, by_weight, by_bias = None, None, None
    own = (needed[0] and ways[1] == "t", needed[1] and ways[2] == "t", needed[2] and ways[2] == "t")
    if any(own):
        by_input, by_weight, by_bias = torch.ops.aten.convolution_backward(
            gradient, x, weight, [len(weight)], [stride] * 2, [padding] * 2, [1, 1], False, [0, 0], 1, list(own)
        )
    outputs = last(gradient)
    if needed[0] and not own[0]:
        by_input = torch.empty_like(x, memory_format=layout)
        if ways[1] == "w":
            winograd.input_gradient(outputs, weight, padding, last(by_input))
        else:
            last(by_input).copy_((outputs.reshape(-1, len(weight)) @ weight.flatten(1)).view(last(x).shape))
    if needed[1] and not own[1]:
        if ways[2] == "w":
            by_weight = winograd.weight_gradient(last(x), outputs, weight.shape[2], padding)
        else:
            by_weight = patches_gradient(last(x), outputs, weight.shape[2], stride, padding)
    if needed[2] and not own[2]:
        by_bias = outputs.reshape(-1, len(weight)).sum(0)
    return by_input, by_weight, by_bias


def last(x: Tensor) -> Tensor:
    """Return a view of (N, C, H, W) as (N, H, W, C)."""
    return x.permute(0, 2, 3, 1)


# --- as a matrix product ----------------------------------------------------------------------------------------------------


def patches(x: Tensor, r: int, stride: int, padding: int, height: int, width: int) -> Tensor:
    """Return the r x r patches of images (N, H, W, C) as rows: (N * height * width, r * r * C)."""
    batch, _, _, c = x.shape
    if r == stride == 1 and not padding:
        return x.reshape(-1, c)
    if padding or not x.is_contiguous():
        x = F.pad(x, (0, 0, padding, padding, padding, padding)).contiguous()
    row, image = x.stride(1), x.stride(0)
    rows = x.as_strided((batch, height, width, r, r * c), (image, stride * row, stride * c, row, 1))
    return rows.reshape(-1, r * r * c)


def images_per_chunk(r: int, c: int, height: int, width: int) -> int:
    """Return how many images' patches fit into PATCH_BYTES."""
    return max(1, PATCH_BYTES // (4 * height * width * r * r * c))


def multiply_patches(x: Tensor, weight: Tensor, bias: Tensor | None, stride: int, padding: int, out: Tensor) -> None:
    """Write the convolution of images (N, H, W, C) with weights (K, C, r, r) into out (N, H', W', K)."""
    (batch, height, width, k), (_, c, r, _) = out.shape, weight.shape
    kernels = weight.permute(2, 3, 1, 0).reshape(-1, k)
    size = images_per_chunk(r, c, height, width)
    for start in range(0, batch, size):
        rows = patches(x[start : start + size], r, stride, padding, height, width)
        target = out[start : start + size]
        if target.is_contiguous():
            products = target.view(-1, k)
            torch.addmm(bias, rows, kernels, out=products) if bias is not None else torch.mm(
                rows, kernels, out=products
            )
        else:
            products = rows @ kernels if bias is None else torch.addmm(bias, rows, kernels)
            target.copy_(products.view(target.shape))


def patches_gradient(x: Tensor, gradient: Tensor, r: int, stride: int, padding: int) -> Tensor:
    """Return the gradient by the weights (K, C, r, r) from input (N, H, W, C) and output's gradient (N, H', W', K)."""
    batch, height, width, k = gradient.shape
    c = x.shape[3]
    total = x.new_zeros(k, r * r * c)
    size = images_per_chunk(r, c, height, width)
    for start in range(0, batch, size):
        part = slice(start, start + size)
        total.addmm_(gradient[part].reshape(-1, k).T, patches(x[part], r, stride, padding, height, width))
    return total.view(k, r, r, c).permute(0, 3, 1, 2)


# --- which way ---------------------------------------------------------------------------------------------------------------


def shapes_of(model: nn.Module, images: Tensor, layout: torch.memory_format) -> dict[str, Shape]:
    """Return the shape of each convolution that can be swapped, by the module's name, as seen in one pass in evaluation."""
    shapes: dict[str, Shape] = {}
    modules = {name: module for name, module in model.named_modules() if swappable(module)}

    def watch(name: str) -> Callable[[Any, tuple[Tensor, ...]], None]:
        def note(module: Any, inputs: tuple[Tensor, ...]) -> None:
            (x,) = inputs
            shapes[name] = Shape(
                images=(x.shape[1], x.shape[2], x.shape[3]),
                maps=module.out_channels,
                kernel=module.kernel_size[0],
                stride=module.stride[0],
                padding=module.padding[0],
                bias=module.bias is not None,
                channels_last=layout == torch.channels_last,
                input_gradient=x.requires_grad,
            )

        return note

    hooks = [module.register_forward_pre_hook(watch(name)) for name, module in modules.items()]
    training = model.training
    try:
        with torch.enable_grad():
            model.eval()(images)
    finally:
        model.train(training)
        for hook in hooks:
            hook.remove()
    return shapes


def swappable(module: nn.Module) -> bool:
    """Whether a module is a plain convolution: square, of one group, with zeros around the image."""
    return (
        type(module) is nn.Conv2d
        and not isinstance(module.padding, str)
        and all(len(set(pair)) == 1 for pair in (module.kernel_size, module.stride, module.padding))
        and module.padding_mode == "zeros"
        and module.groups == 1
        and set(module.dilation) == {1}
    )


def choose(model: nn.Module, images: Tensor, layout: torch.memory_format, log: Callable[[str], None]) -> str:
    """Return the quickest way of each layer's operations, measured on as many images, up to TRIAL_IMAGES.

    Draws nothing from torch's generators: a training that is measured and one that is told the choice are the same.
    """
    with torch.random.fork_rng(devices=[]):
        shapes = shapes_of(model, images[:2].contiguous(memory_format=layout), layout)
        chosen: dict[Shape, str] = {}
        for shape in shapes.values():
            if shape not in chosen:
                ratios = measure(shape, min(len(images), TRIAL_IMAGES))
                chosen[shape] = quickest(ratios)
                log(described(shape, chosen[shape], ratios))
    ways = {name: chosen[shape] for name, shape in shapes.items() if chosen[shape] != "ttt"}
    return " ".join(f"{name}={letters}" for name, letters in ways.items()) or TORCH


def measure(shape: Shape, batch: int) -> list[dict[str, float]]:
    """Return, for each operation, the seconds that each way takes for so many images; by turns, the least of them."""
    layout = torch.channels_last if shape.channels_last else torch.contiguous_format
    c, height, width = shape.images
    x = torch.randn(batch, c, height, width).contiguous(memory_format=layout)
    fan_in = c * shape.kernel**2
    weight = (
        torch.randn(shape.maps, c, shape.kernel, shape.kernel).div_(math.sqrt(fan_in)).contiguous(memory_format=layout)
    )
    bias = torch.zeros(shape.maps) if shape.bias else None
    gradient = torch.randn(batch, shape.maps, *shape.output).contiguous(memory_format=layout)

    def run(operation: int, letter: str) -> None:
        layer = (shape.stride, shape.padding, letter * 3, layout)
        if operation == 0:
            forward(x, weight, bias, layer)
        else:
            needed = (operation == 1, operation == 2, operation == 2 and shape.bias)
            gradients(gradient, x, weight, needed, layer)

    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    seconds: list[dict[str, float]] = []
    with torch.no_grad():
        for operation in range(3):
            ways = shape.ways(operation) if operation != 1 or shape.input_gradient else "t"
            least = dict.fromkeys(ways, math.inf)
            for turn in range(REPEATS + 1 if len(ways) > 1 else 0):
                for letter in ways:
                    began = clock()
                    run(operation, letter)
                    if turn:  # the first warms up
                        least[letter] = min(least[letter], clock() - began)
            seconds.append(least)
    return seconds


def quickest(seconds: list[dict[str, float]]) -> str:
    """Return the letters of the quickest ways; torch's where no other gains enough."""
    letters = ""
    for least in seconds:
        best = min(least, key=lambda letter: least[letter])
        letters += best if least[best] * GAIN < least["t"] else "t"
    return letters


def described(shape: Shape, letters: str, seconds: list[dict[str, float]]) -> str:
    """Return a line for the log: what was chosen for a shape, and what it gains."""
    gains = [
        f"{operation} by {WAYS[letter]}, {least['t'] / least[letter]:.2f} times torch's rate"
        for operation, letter, least in zip(OPERATIONS, letters, seconds, strict=True)
        if letter != "t"
    ]
    return f"convolution {shape}: {'; '.join(gains) or 'torch'}"


def parsed(choice: str) -> dict[str, str]:
    """Return the letters of each layer that a choice names. Raises ValueError for a text that is none."""
    if choice == TORCH:
        return {}
    ways = {}
    for word in choice.split(" "):
        name, _, letters = word.rpartition("=")
        if not name or len(letters) != 3 or not set(letters) <= set(WAYS):
            raise ValueError(f"'{word}' names no layer and its three ways")
        ways[name] = letters
    return ways


def install(model: nn.Module, choice: str, layout: torch.memory_format) -> None:
    """Swap the arithmetic of the layers that a choice names. Parameters, names and state_dict stay as they are."""
    modules: Mapping[str, Any] = dict(model.named_modules())
    for name, letters in parsed(choice).items():
        module = modules[name]
        layer = (module.stride[0], module.padding[0], letters, layout)
        module._conv_forward = MethodType(_swapped(layer), module)


def _swapped(layer: Layer) -> Callable[[nn.Module, Tensor, Tensor, Tensor | None], Tensor]:
    def convolve(_module: nn.Module, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        output: Tensor = Convolution.apply(x, weight, bias, layer)
        return output

    return convolve
