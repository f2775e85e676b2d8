"""Implement response normalisation across maps as matrix products, forward and backward, for `fast` on a CPU.

torch sums the squares of neighbouring maps by 3-d pooling and then takes a power; both are slow on a CPU. Here images
are rows of maps, (pixels, C), so the sums are one product with a band matrix, and so are the sums of the gradient.
Powers of 1/2 and 3/4 are computed with square roots.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

PIXELS = 4096  # per chunk, so that it stays in the cache


@cache
def band(maps: int, size: int, alpha: float) -> Tensor:
    """Return the (maps, maps) matrix whose column c sums the `size` maps around map c, each times alpha / size.

    The window is torch's: size // 2 maps before, (size - 1) // 2 after.
    """
    before = torch.arange(maps)[:, None] - torch.arange(maps)[None, :]
    inside = (before >= -(size // 2)) & (before <= (size - 1) // 2)
    return inside.float() * (alpha / size)


def inverse_power(base: Tensor, beta: float) -> Tensor:
    """Return base ** -beta of positive values."""
    if beta == 0.5:
        return base.rsqrt()
    if beta == 0.75:
        root = base.rsqrt()
        return root.sqrt().mul_(root)
    return base.pow(-beta)


class ResponseNorm(torch.autograd.Function):
    """F.local_response_norm of images (N, C, H, W) in channels_last: x / (k + alpha / size * sum of squares) ** beta."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, size: int, alpha: float, beta: float, k: float) -> Tensor:
        """Return the normalised images (N, C, H, W), channels_last."""
        ctx.save_for_backward(x)
        ctx.rule = (size, alpha, beta, k)
        out = torch.empty_like(x, memory_format=torch.channels_last)  # no view: a ReLU may work in place
        rows = as_rows(x)
        sums = band(rows.shape[1], size, alpha)
        for part, target in zip(rows.split(PIXELS), as_rows(out).split(PIXELS), strict=True):
            torch.mul(part, inverse_power((part * part).mm(sums).add_(k), beta), out=target)
        return out

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Return the input gradient. The sums are recomputed, which is cheaper than keeping them."""
        (x,) = ctx.saved_tensors
        size, alpha, beta, k = ctx.rule
        rows, out = as_rows(x), torch.empty_like(x, memory_format=torch.channels_last)
        sums = band(rows.shape[1], size, alpha)
        chunks = (tensor.split(PIXELS) for tensor in (rows, as_rows(gradient), as_rows(out)))
        for part, part_gradient, target in zip(*chunks, strict=True):
            bases = (part * part).mm(sums).add_(k)
            direct = inverse_power(bases, beta).mul_(part_gradient)
            across = (direct * part).div_(bases).mm(sums.T).mul_(part)
            torch.add(direct, across, alpha=-2 * beta, out=target)
        return out, None, None, None, None


def as_rows(x: Tensor) -> Tensor:
    """Return images (N, C, H, W) as (N * H * W, C): a view if they are channels_last."""
    return x.permute(0, 2, 3, 1).reshape(-1, x.shape[1])


@dataclass(frozen=True)
class NormShape:
    """The properties of a normalisation that determine its time."""

    images: tuple[int, int, int]  # maps, height, width
    rule: tuple[int, float, float, float]  # size, alpha, beta, k

    operations = ("forward and backward",)

    @classmethod
    def of(cls, module: nn.LocalResponseNorm, x: Tensor, layout: torch.memory_format) -> "NormShape | None":
        """Return the shape of a layer whose input is x (N, C, H, W); None if its rows are not a view."""
        if layout != torch.channels_last:
            return None
        return cls((x.shape[1], x.shape[2], x.shape[3]), rule_of(module))

    def __str__(self) -> str:
        c, h, w = self.images
        return f"response normalisation of {c}x{h}x{w}"

    def ways(self, operation: int) -> str:
        """Return the letters of the implementations."""
        return "tm"

    def trial(self, batch: int) -> Callable[[int, str], None]:
        """Return a function that normalises noise with one implementation, forward and backward."""
        x = torch.randn(batch, *self.images).contiguous(memory_format=torch.channels_last).requires_grad_()
        gradient = torch.randn_like(x)

        def run(_operation: int, letter: str) -> None:
            with torch.enable_grad():
                y = ResponseNorm.apply(x, *self.rule) if letter == "m" else F.local_response_norm(x, *self.rule)
            torch.autograd.grad(y, x, gradient)

        return run


def rule_of(module: nn.LocalResponseNorm) -> tuple[int, float, float, float]:
    """Return size, alpha, beta and k of a layer."""
    return module.size, module.alpha, module.beta, module.k
