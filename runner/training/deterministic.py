"""Replace layers whose backward pass has no deterministic algorithm on a GPU."""

from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn


def use_deterministic_forms(model: nn.Module) -> None:
    """Make the backward pass of a network's LocalResponseNorm layers deterministic on a GPU.

    torch sums the squares of neighbouring maps by 3-d pooling, whose gradient adds atomically; `reference` refuses it.
    For an image whose pixels are flattened to one row torch uses 2-d pooling, which is deterministic.
    """
    for module in model.modules():
        if isinstance(module, nn.LocalResponseNorm):
            module.forward = partial(_normalise_rows, module)  # type: ignore[method-assign]


def _normalise_rows(norm: nn.LocalResponseNorm, images: Tensor) -> Tensor:
    """Return images (N, C, H, W) normalised across their maps."""
    rows = F.local_response_norm(images.flatten(2), norm.size, norm.alpha, norm.beta, norm.k)
    return rows.unflatten(2, images.shape[2:])
