"""What a model declares: the network, for each data set the recipe that trains it, and where it departs from its source."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.explicit import Network
from zoo.recipe import Recipe


@dataclass(frozen=True)
class Departure:
    """One point where our training isn't, or can't be known to be, the paper's: what the source says, what we do, why."""

    topic: str
    text: str


@dataclass(frozen=True, kw_only=True)
class Printed:
    """What a paper's own table says of one stage of its network, as printed; None where it says nothing."""

    output: tuple[int, ...] | None = None  # (channels, height, width), or (features,)
    depth: int | None = None  # layers with weights, one after another
    parameters: str | None = None  # '159K': zoo/anatomy.py says when our count agrees
    macs: str | None = None  # what the paper calls operations


@dataclass(frozen=True, kw_only=True)
class Variant:
    """A model on one data set. `revision` is raised with each change of the recipe or of the trained function.

    Where no records of it are published yet, there is nothing to tell apart, and it may stay.
    """

    build: Callable[
        [], nn.Module
    ]  # float (N, C, H, W) -> logits (N, classes); in training mode auxiliary logits may follow
    recipe: Recipe
    parameters: int  # as declared, from the paper or its arithmetic: a test holds the network to it
    revision: int = 1
    departures: tuple[Departure, ...] = ()
    printed: Mapping[str, Printed] = field(default_factory=dict)  # by stage (a direct child of the network), or 'total'


@dataclass(frozen=True, kw_only=True)
class Anatomy:
    """A network that is taken apart and never trained here: its layers beside those of its paper's tables."""

    build: Callable[[], nn.Module]
    shape: tuple[int, int, int]
    parameters: int
    departures: tuple[Departure, ...] = ()
    printed: Mapping[str, Printed] = field(default_factory=dict)  # as a variant's


def cross_entropy(output: Tensor | tuple[Tensor, ...], target: Tensor) -> Tensor:
    """Mean softmax cross-entropy of logits (N, classes) against labels (N,)."""
    logits = output[0] if isinstance(output, tuple) else output
    return F.cross_entropy(logits, target)


def label_entropy(labels: Tensor) -> float:
    """Return the cross-entropy (nats) of the best constant answer on labels (N,): ln C where all classes are as frequent."""
    shares = labels.cpu().bincount().double() / len(labels)
    return -torch.xlogy(shares, shares).sum().item()


@dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """One named entry of the zoo.

    `channels_last_on_cpu`: in which memory layout a CPU trains it. Processor time of a step, contiguous over channels_last, by
    turns on one core of a Xeon (AVX-512, torch 2.15): LeNet 1.15, All-CNN 1.17 to 1.24, NiN 1.34, NiN's conventional
    networks 1.39, GoogLeNet 1.63; but VGG-16 0.88, most of whose weights meet maps of 4x4 and 2x2, and maxout 0.79, whose
    filters are 8x8.
    """

    name: str
    title: str  # as a reader of the paper would call it
    family: str
    paper: str | None  # the key of benchmarks/papers/<key>.toml; None where no source reports a figure
    suites: tuple[str, ...]
    variants: Mapping[str, Variant] = field(default_factory=dict)  # by data set: what can be trained
    anatomy: Mapping[str, Anatomy] = field(default_factory=dict)  # by data set: what is only taken apart ('imagenet')
    loss: Callable[[Any, Tensor], Tensor] = cross_entropy
    constant_loss: Callable[[Tensor], float] = label_entropy  # of the best answer that never looks at the image
    curvature: Callable[[nn.Module, Tensor, Tensor], dict[str, Tensor]] | None = None  # what DiagonalLM asks for
    written_out: Callable[[], Network] | None = None  # the network's own passes, for one image per update on a CPU
    channels_last_on_cpu: bool = True  # see above
    bitwise: bool = True  # same machine, build and threads: the same bits, resumed or not


def _uniform_fan_in(weight: Tensor, gain: float) -> None:
    if weight.dim() < 2:
        raise ValueError("a vector has no inputs to count")
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


@torch.no_grad()
def initialise(model: nn.Module, recipe: Recipe) -> None:
    """Set every parameter as the recipe says, normalisation layers' too, in the order of the layers.

    Draws from torch's default generator. Raises ValueError for a parameter that no rule covers, since a start that nobody
    chose would be a silent departure, and for one that the last rule to match it can't start.
    """
    for name, parameter in model.named_parameters():
        rules = [rule for rule in recipe.init if fnmatchcase(name, rule[0])]
        if not rules:
            raise ValueError(f"no rule of the recipe's init covers the parameter '{name}'")
        pattern, kind, value = rules[-1]
        try:
            INITIALISERS[kind](parameter, value)
        except ValueError as error:  # a scale has no fan-in
            raise ValueError(
                f"the recipe's init rule ('{pattern}', '{kind}', {value:g}) can't start '{name}', whose shape is "
                f"{tuple(parameter.shape)}: add a later rule for it, such as ('{name}', 'constant', 1.0)"
            ) from error
