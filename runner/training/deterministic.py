"""Layers of torch whose backward pass has no deterministic algorithm on a GPU, in a form that has one."""

from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn


def use_deterministic_forms(model: nn.Module) -> None:
    """Give the response normalisation across maps of a network on a GPU a backward pass that is deterministic.

    torch sums the squares of neighbouring maps by pooling in three dimensions. The gradient of that adds atomically, and
    `reference` refuses it. Where an image's pixels stand in one row, torch pools in two dimensions, which it does in order.
    """
    for module in model.modules():
        if isinstance(module, nn.LocalResponseNorm):
            module.forward = partial(_normalise_rows, module)  # type: ignore[method-assign]


def _normalise_rows(norm: nn.LocalResponseNorm, images: Tensor) -> Tensor:
    """Return images (N, C, H, W) normalised across their maps."""
    rows = F.local_response_norm(images.flatten(2), norm.size, norm.alpha, norm.beta, norm.k)
    return rows.unflatten(2, images.shape[2:])
