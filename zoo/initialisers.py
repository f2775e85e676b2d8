"""The initialisations that a recipe's `init` can name. Each fills a weight tensor and takes one number."""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn


def _uniform_fan_in(weight: Tensor, gain: float) -> None:
    if weight.dim() < 2:
        raise ValueError("a vector has no fan-in")
    bound = gain / weight[0].numel() ** 0.5
    nn.init.uniform_(weight, -bound, bound)


INITIALISERS: dict[str, Callable[[Tensor, float], Any]] = {
    "normal": lambda w, std: nn.init.normal_(w, 0.0, std),
    "constant": nn.init.constant_,
    "uniform": lambda w, bound: nn.init.uniform_(w, -bound, bound),
    "uniform_from_0": lambda w, bound: nn.init.uniform_(w, 0.0, bound),
    "uniform_fan_in": _uniform_fan_in,
    "xavier_uniform": lambda w, gain: nn.init.xavier_uniform_(w, gain),
    "xavier_normal": lambda w, gain: nn.init.xavier_normal_(w, gain),
    "he_normal": lambda w, gain: nn.init.kaiming_normal_(w).mul_(gain),
    "he_normal_fan_out": lambda w, gain: nn.init.kaiming_normal_(w, mode="fan_out", nonlinearity="relu").mul_(gain),
}
