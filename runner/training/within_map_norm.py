"""Implement response normalisation within each map, forward and backward, for `fast` on a CPU.

Torch's operations pass over whole batches in main memory ten times, and its power is slow. Here a few images at a time
stay in the cache, a window's sum is the sum of its rows' sums, and powers of 1/2 and 3/4 are computed with square roots.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from runner.training.response_norm import inverse_power
from zoo.cudaconvnet import WithinMapNorm

CHUNK_VALUES = 2**16  # of a chunk of images, so that it stays in the cache

Rule = tuple[float, float, int]  # scale, power, size


def window_sums(images: Tensor, size: int) -> Tensor:
    """Return the sums over size x size windows (an odd size) around each pixel of images (N, H, W, C), zeros beyond."""
    for axis in (1, 2):
        sums, length = images.clone(), images.shape[axis]
        for offset in range(1, min(size // 2, length - 1) + 1):
            inner = length - offset
            sums.narrow(axis, offset, inner).add_(images.narrow(axis, 0, inner))
            sums.narrow(axis, 0, inner).add_(images.narrow(axis, offset, inner))
        images = sums
    return images


class WithinMapNormalisation(torch.autograd.Function):
    """WithinMapNorm of images (N, C, H, W) in channels_last: x / (1 + scale / size^2 * sum of squares) ** power."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: float, power: float, size: int) -> Tensor:
        """Return the normalised images (N, C, H, W), channels_last."""
        ctx.save_for_backward(x)
        ctx.rule = (scale, power, size)
        out = torch.empty_like(x, memory_format=torch.channels_last)
        for part, target in zip(*map(chunks, (x, out)), strict=True):
            torch.mul(part, inverse_power(bases_of(part, scale, size), power), out=target)
        return out

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Return the input gradient. The sums are recomputed, which is cheaper than keeping them."""
        (x,) = ctx.saved_tensors
        scale, power, size = ctx.rule
        out = torch.empty_like(x, memory_format=torch.channels_last)
        for part, part_gradient, target in zip(*map(chunks, (x, gradient, out)), strict=True):
            bases = bases_of(part, scale, size)
            direct = inverse_power(bases, power).mul_(part_gradient)
            around = window_sums((direct * part).div_(bases), size).mul_(part)
            torch.add(direct, around, alpha=-2 * power * scale / size**2, out=target)
        return out, None, None, None


def bases_of(images: Tensor, scale: float, size: int) -> Tensor:
    """Return 1 + scale * mean of the squares in the window around each pixel of images (N, H, W, C)."""
    return window_sums(images * images, size).mul_(scale / size**2).add_(1)


def chunks(x: Tensor) -> tuple[Tensor, ...]:
    """Return images (N, C, H, W) as (n, H, W, C), a few at a time: views."""
    return x.permute(0, 2, 3, 1).split(max(1, CHUNK_VALUES // x[0].numel()))


@dataclass(frozen=True)
class WithinNormShape:
    """The properties of a normalisation that determine its time."""

    images: tuple[int, int, int]  # maps, height, width
    rule: Rule

    operations = ("forward and backward",)

    @classmethod
    def of(cls, module: WithinMapNorm, x: Tensor, layout: torch.memory_format) -> "WithinNormShape | None":
        """Return the shape of a layer whose input is x (N, C, H, W); None for a layout or window that is not supported."""
        if layout != torch.channels_last or not module.size % 2:
            return None
        return cls((x.shape[1], x.shape[2], x.shape[3]), rule_of(module))

    def __str__(self) -> str:
        c, h, w = self.images
        return f"response normalisation within maps of {c}x{h}x{w}"

    def ways(self, operation: int) -> str:
        """Return the letters of the implementations."""
        return "ts"

    def trial(self, batch: int) -> Callable[[int, str], None]:
        """Return a function that normalises noise with one implementation, forward and backward."""
        x = torch.randn(batch, *self.images).contiguous(memory_format=torch.channels_last).requires_grad_()
        gradient, module = torch.randn_like(x), WithinMapNorm(*self.rule)

        def run(_operation: int, letter: str) -> None:
            with torch.enable_grad():
                y = WithinMapNormalisation.apply(x, *self.rule) if letter == "s" else module(x)
            torch.autograd.grad(y, x, gradient)

        return run


def rule_of(module: WithinMapNorm) -> Rule:
    """Return scale, power and size of a layer."""
    return module.scale, module.power, module.size
