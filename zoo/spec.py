"""The declaration of a model: its network, its recipe for each data set, and its departures from the source."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.handwritten import Network
from zoo.initialisers import INITIALISERS
from zoo.plain import check_types
from zoo.recipe import DiagonalLM, Recipe

NAME = r"[a-z0-9][a-z0-9_-]{0,63}"  # of a model: safe as the name of a file and in an address


@dataclass(frozen=True)
class Departure:
    """One point in which our training differs, or may differ, from the source: what it says, what we do, and why."""

    topic: str
    text: str

    def __post_init__(self) -> None:
        """Raise ValueError, naming the field, for a value of another type."""
        check_types(self)


@dataclass(frozen=True, kw_only=True)
class Printed:
    """The numbers that a paper's table prints for one stage of its network; None for what it does not print."""

    output: tuple[int, ...] | None = None  # (channels, height, width), or (features,)
    depth: int | None = None  # layers with weights on the longest path
    parameters: str | None = None  # such as '159K'; `zoo.anatomy.agrees` compares it with our count
    macs: str | None = None  # the paper's count of operations


@dataclass(frozen=True, kw_only=True)
class Variant:
    """A model on one data set. Raise `revision` with each change of the recipe or of the trained function.

    It may stay as long as no record of the model on this data set is published. The network maps float images
    (N, C, H, W) to logits (N, classes); in training mode it may return a tuple of these and auxiliary logits.
    `to_the_letter` is for a model that a source's figure judges and that has no departures: it names the place in
    the source that states the whole recipe.
    """

    build: Callable[[], nn.Module]
    recipe: Recipe
    parameters: int  # from the paper or computed by hand: a test compares the network with it
    revision: int = 1
    departures: tuple[Departure, ...] = ()
    printed: Mapping[str, Printed] = field(default_factory=dict)  # by stage, a direct child of the network, or 'total'
    to_the_letter: str = ""

    def __post_init__(self) -> None:
        """Raise ValueError, naming the field, for a value of another type."""
        check_types(self)


@dataclass(frozen=True, kw_only=True)
class Anatomy:
    """A network that is inspected but never trained here. `shape` is (channels, height, width) of its input."""

    build: Callable[[], nn.Module]
    shape: tuple[int, int, int]
    parameters: int
    departures: tuple[Departure, ...] = ()
    printed: Mapping[str, Printed] = field(default_factory=dict)  # as in Variant


def cross_entropy(output: Tensor | tuple[Tensor, ...], target: Tensor) -> Tensor:
    """Return the mean softmax cross-entropy of logits (N, classes) and labels (N,). Auxiliary logits are ignored."""
    logits = output[0] if isinstance(output, tuple) else output
    return F.cross_entropy(logits, target)


def label_entropy(labels: Tensor) -> float:
    """Return the cross-entropy (nats) of the best constant answer on labels (N,): ln C for C equally frequent classes."""
    shares = labels.cpu().bincount().double() / len(labels)
    return -torch.xlogy(shares, shares).sum().item()


@dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """One named entry of the zoo.

    `channels_last_on_cpu` selects the memory layout on a CPU. Processor time of a contiguous step divided by that of a
    channels_last step, on one core of a Xeon (AVX-512, torch 2.15): LeNet 1.15, All-CNN 1.17 to 1.24, NiN 1.34, NiN's
    conventional networks 1.39, GoogLeNet 1.63. Two are slower with channels_last: VGG-16 (0.88), whose larger layers have
    maps of 4x4 and 2x2, and maxout (0.79), with its 8x8 filters.
    """

    name: str
    title: str  # the name that a reader of the paper would use
    family: str
    paper: str | None  # the key of benchmarks/papers/<key>.toml; None if no source reports a figure
    suites: tuple[str, ...]
    variants: Mapping[str, Variant] = field(default_factory=dict)  # by data set: the networks that are trained
    # By data set, such as 'imagenet': networks that are inspected only.
    anatomy: Mapping[str, Anatomy] = field(default_factory=dict)
    loss: Callable[[Any, Tensor], Tensor] = cross_entropy
    constant_loss: Callable[[Tensor], float] = label_entropy  # of labels (N,): the loss of the best constant answer
    # (model, images, labels) -> second derivatives by parameter, for DiagonalLM.
    curvature: Callable[[nn.Module, Tensor, Tensor], dict[str, Tensor]] | None = None
    handwritten_network: Callable[[], Network] | None = None  # for training on one image per update on a CPU
    channels_last_on_cpu: bool = True
    bitwise: bool = True  # the same bits, resumed or not, on the same machine, build and number of threads

    def __post_init__(self) -> None:
        """Raise ValueError, naming the field, for a value of another type, or a name that can't be a file's."""
        check_types(self)
        if not re.fullmatch(NAME, self.name):
            raise ValueError(f"name is '{self.name}', expected small letters, digits, _ and -")
        for dataset, variant in self.variants.items():
            if not isinstance(variant, Variant):
                raise ValueError(f"variants has {variant!r:.60} for {dataset}, expected a Variant")

    def has_handwritten_passes(self, recipe: Recipe) -> bool:
        """Return whether hand-written passes train this recipe on a CPU, in every profile: one image per update."""
        plain = not (recipe.max_norm or recipe.average or recipe.labels or recipe.augmentation.mixup)
        one_image = recipe.batch_size == 1 and isinstance(recipe.optimizer, DiagonalLM)
        return self.handwritten_network is not None and one_image and plain


@torch.no_grad()
def initialise(model: nn.Module, recipe: Recipe) -> None:
    """Initialise all parameters of the model by the recipe's rules, in the order of the layers.

    The random numbers come from torch's default generator. Raise ValueError for a parameter that no rule matches, because
    a default initialisation would be a silent departure, and for one whose last matching rule does not apply to its shape.
    """
    for name, parameter in model.named_parameters():
        rules = [rule for rule in recipe.init if fnmatchcase(name, rule[0])]
        if not rules:
            raise ValueError(f"no rule of the recipe's init matches the parameter '{name}'")
        pattern, kind, value = rules[-1]
        try:
            INITIALISERS[kind](parameter, value)
        except ValueError as error:  # the scale of a normalisation layer has no fan-in
            raise ValueError(
                f"the recipe's init rule ('{pattern}', '{kind}', {value:g}) does not apply to '{name}', whose shape is "
                f"{tuple(parameter.shape)}: add a later rule for it, such as ('{name}', 'constant', 1.0)"
            ) from error
