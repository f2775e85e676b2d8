"""Implement a convolution whose three operations each use the fastest implementation: `fast` on a CPU.

The operations are the forward pass, the input gradient and the weight gradient. Each can use torch's convolution, Winograd's
in two dimensions or along columns (stride 1, kernels of 3x3 and 5x5), or a matrix product with the patches of the image.
They differ only in rounding.
runner/training/arithmetic.py chooses.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from runner.training import winograd, winograd_columns

WINOGRAD: dict[str, Any] = {"w": winograd, "c": winograd_columns}  # by the letter of the way
FEW_MAPS = 64  # with more maps, columns are slower than tiles of two dimensions, and their rounding errors larger
PATCH_BYTES = 2**21  # size of the patches of a chunk of images

# Stride, padding, letters of the implementations, memory layout of output and gradients.
Layer = tuple[int, int, str, torch.memory_format]


@dataclass(frozen=True)
class Shape:
    """The properties of a layer that determine the time of its operations."""

    images: tuple[int, int, int]  # maps, height, width
    maps: int  # of the output
    kernel: int
    stride: int
    padding: int
    bias: bool
    channels_last: bool
    input_gradient: bool  # False for the first layer

    def __str__(self) -> str:
        c, h, w = self.images
        step = f"/{self.stride}" if self.stride > 1 else ""
        return f"{self.kernel}x{self.kernel}{step} {c}->{self.maps} on {h}x{w}"

    operations = ("forward", "gradient by the input", "gradient by the weights")

    @classmethod
    def of(cls, module: nn.Conv2d, x: Tensor, layout: torch.memory_format) -> "Shape | None":
        """Return the shape of a layer whose input is x (N, C, H, W); None if the layer is not a supported convolution.

        Supported are square kernels, strides and paddings, one group, no dilation, zero padding.
        """
        padding = module.padding
        if (
            isinstance(padding, str)
            or any(len(set(pair)) > 1 for pair in (module.kernel_size, module.stride, padding))
            or module.padding_mode != "zeros"
            or module.groups > 1
            or set(module.dilation) != {1}
        ):
            return None
        return cls(
            images=(x.shape[1], x.shape[2], x.shape[3]),
            maps=module.out_channels,
            kernel=module.kernel_size[0],
            stride=module.stride[0],
            padding=padding[0],
            bias=module.bias is not None,
            channels_last=layout == torch.channels_last,
            input_gradient=x.requires_grad,
        )

    @property
    def output(self) -> tuple[int, int]:
        """Height and width of the output."""
        height, width = ((side + 2 * self.padding - self.kernel) // self.stride + 1 for side in self.images[1:])
        return height, width

    def ways(self, operation: int) -> str:
        """Return the letters of the implementations of an operation."""
        winograds = self.kernel in winograd.TILES and self.stride == 1 and self.padding < self.kernel
        matrix = operation != 1 or (self.kernel == self.stride == 1 and not self.padding)
        has_gradient = operation != 1 or self.input_gradient
        columns = "c" * (max(self.images[0], self.maps) <= FEW_MAPS)
        return "t" + f"w{columns}" * (winograds and has_gradient) + "m" * (matrix and has_gradient)

    def trial(self, batch: int) -> Callable[[int, str], None]:
        """Return a function that runs one operation with one implementation on `batch` images of noise."""
        if "w" in self.ways(0):
            from runner.training.tiles import compile_loops

            compile_loops()
        layout = torch.channels_last if self.channels_last else torch.contiguous_format
        x = torch.randn(batch, *self.images).contiguous(memory_format=layout)
        weight = torch.randn(self.maps, self.images[0], self.kernel, self.kernel)
        weight = weight.div_(math.sqrt(weight[0].numel())).contiguous(memory_format=layout)
        bias = torch.zeros(self.maps) if self.bias else None
        gradient = torch.randn(batch, self.maps, *self.output).contiguous(memory_format=layout)

        def run(operation: int, letter: str) -> None:
            layer = (self.stride, self.padding, letter * 3, layout)
            if operation == 0:
                forward(x, weight, bias, layer)
            else:
                gradients(gradient, x, weight, (operation == 1, operation == 2, operation == 2 and self.bias), layer)

        return run


# --- one convolution ------------------------------------------------------------------------------------------------------


class Convolution(torch.autograd.Function):
    """F.conv2d of (N, C, H, W) with (K, C, r, r), with a separate implementation for each of its operations."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, layer: Layer) -> Tensor:
        """Return the output (N, K, H', W')."""
        ctx.save_for_backward(x, weight)
        ctx.layer, ctx.biased = layer, bias is not None
        return forward(x, weight, bias, layer)

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of input, weights and bias; None where no gradient is needed."""
        x, weight = ctx.saved_tensors
        needed = (ctx.needs_input_grad[0], ctx.needs_input_grad[1], ctx.needs_input_grad[2] and ctx.biased)
        return *gradients(gradient, x, weight, needed, ctx.layer), None


def forward(x: Tensor, weight: Tensor, bias: Tensor | None, layer: Layer) -> Tensor:
    """Return the convolution (N, K, H', W') of x (N, C, H, W)."""
    stride, padding, ways, layout = layer
    if ways[0] == "t":
        return F.conv2d(x, weight, bias, stride, padding)
    height, width = ((side + 2 * padding - weight.shape[2]) // stride + 1 for side in x.shape[2:])
    out = torch.empty((len(x), len(weight), height, width), dtype=x.dtype, memory_format=layout)
    if ways[0] in WINOGRAD:
        WINOGRAD[ways[0]].convolve(last(x), weight, bias, padding, last(out))
    else:
        multiply_patches(last(x), weight, bias, stride, padding, last(out))
    return out


def gradients(
    gradient: Tensor, x: Tensor, weight: Tensor, needed: tuple[bool, bool, bool], layer: Layer
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Return the gradients of input, weights and bias; None where no gradient is needed."""
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
        if ways[1] in WINOGRAD:
            turned = weight.flip(2, 3).transpose(0, 1)  # the input gradient is a convolution of the output gradient
            WINOGRAD[ways[1]].convolve(outputs, turned, None, weight.shape[2] - 1 - padding, last(by_input))
        else:
            last(by_input).copy_((outputs.reshape(-1, len(weight)) @ weight.flatten(1)).view(last(x).shape))
    if needed[1] and not own[1]:
        if ways[2] in WINOGRAD:
            by_weight = WINOGRAD[ways[2]].weight_gradient(last(x), outputs, weight.shape[2], padding)
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
    """Return how many images' patches fit into PATCH_BYTES (at least 1)."""
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
            if bias is None:
                torch.mm(rows, kernels, out=products)
            else:
                torch.addmm(bias, rows, kernels, out=products)
        else:
            products = rows @ kernels if bias is None else torch.addmm(bias, rows, kernels)
            target.copy_(products.view(target.shape))


def patches_gradient(x: Tensor, gradient: Tensor, r: int, stride: int, padding: int) -> Tensor:
    """Return the weight gradient (K, C, r, r) from input (N, H, W, C) and output gradient (N, H', W', K)."""
    batch, height, width, k = gradient.shape
    c = x.shape[3]
    total = x.new_zeros(k, r * r * c)
    size = images_per_chunk(r, c, height, width)
    for start in range(0, batch, size):
        part = slice(start, start + size)
        total.addmm_(gradient[part].reshape(-1, k).T, patches(x[part], r, stride, padding, height, width))
    return total.view(k, r, r, c).permute(0, 3, 1, 2)
