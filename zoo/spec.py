"""What a model declares: the network, and for each data set the recipe that trains it.

Frozen dataclasses, compared by value. A recipe is plain data (numbers, strings, booleans, tuples of them), so that it
can be written into a job, hashed and read back.
"""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything that shapes a training.

    A field with a default is a feature whose default means "not used"; such a field is left out of the recipe's
    identity while unused, so a new feature can be added without changing the identity of any recipe before it.
    """

    epochs: int
    batch_size: int
    learning_rate: float
    momentum: float
    weight_decay: float  # lambda in W -= rate * (gradient + lambda * W)
    preprocessing: str  # a name of runner/preprocess.py: 'gcn_zca', 'standardise', 'unit'
    init: tuple[tuple[str, str, float], ...]  # (pattern of parameter names, kind, value): the last match wins
    milestones: tuple[int, ...] = ()  # after this many epochs the rate is multiplied by decay_factor
    decay_factor: float = 1.0
    decay_epochs: int = 0  # the rate falls along a line, to decay_factor of itself, over so many epochs: no milestones
    warmup_epochs: int = 0  # the rate rises along a line from 0, step by step, over so many epochs
    rates: tuple[
        tuple[str, float], ...
    ] = ()  # (pattern of parameter names, multiplier of the rate): all matches multiply
    final_momentum: float = 0.0  # momentum rises along a line, from `momentum` to this, over so many epochs:
    momentum_epochs: int = 0
    max_norm: tuple[
        tuple[str, float], ...
    ] = ()  # (pattern, bound of the norm of a unit's weights), the last match wins
    flip: bool = False  # training images are mirrored with probability 1/2
    translate: int = 0  # training images are shifted by up to so many pixels, zeros moving in,
    black_border: bool = False  # or black pixels, as where they are shifted before they are preprocessed
    nesterov: bool = False
    decay_all: bool = False  # weight decay on biases and normalisation parameters too, not on weights alone
    drop_last: bool = False  # leave out an epoch's last, partial batch
    holdout: int = 0  # the last so many training images are left out, and their error is reported instead

    def __post_init__(self) -> None:
        """Raises ValueError, naming the field, for a value with which nothing can be trained."""
        positive = ("epochs", "batch_size", "learning_rate", "decay_factor")
        for name in positive:
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is {getattr(self, name)}, expected more than 0")
        counts = ("translate", "holdout", "decay_epochs", "momentum_epochs", "warmup_epochs")
        for name in ("weight_decay", "momentum", "final_momentum", *counts):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} is {getattr(self, name)}, expected 0 or more")
        for name in ("momentum", "final_momentum"):
            if not getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, expected less than 1")
        if self.decay_epochs and self.milestones:
            raise ValueError(f"decay_epochs is {self.decay_epochs}, expected 0 where there are milestones")
        for pattern, bound in self.max_norm:
            if not bound > 0:
                raise ValueError(f"max_norm of {pattern} is {bound}, expected more than 0")
        if list(self.milestones) != sorted(set(self.milestones)) or any(m < 1 for m in self.milestones):
            raise ValueError(f"milestones is {self.milestones}, expected rising numbers of epochs from 1")
        for _, kind, _ in self.init:
            if kind not in INITIALISERS:
                raise ValueError(f"init has the kind '{kind}', expected one of: {', '.join(sorted(INITIALISERS))}")

    @property
    def augmentation(self) -> str:
        """What is done to training images, in words: 'none', 'flip', 'flip + translate 4'."""
        parts = ["flip"] * self.flip + [f"translate {self.translate}"] * bool(self.translate)
        return " + ".join(parts) or "none"

    def to_dict(self) -> dict[str, Any]:
        """The recipe as plain JSON data, unused features left out: what a job holds and what is hashed."""
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if getattr(self, f.name) != f.default}
        return {name: plain(value) for name, value in fields.items()}

    def rate_multiplier(self, parameter: str) -> float:
        """The product of the multipliers of all patterns that match this parameter's name."""
        product = 1.0
        for pattern, multiplier in self.rates:
            if fnmatchcase(parameter, pattern):
                product *= multiplier
        return product

    def shortened(self, factor: int) -> "Recipe":
        """The same schedule over one `factor`-th of its epochs: for a data set with so many times the images."""
        return dataclasses.replace(
            self,
            epochs=self.epochs // factor,
            milestones=tuple(epoch // factor for epoch in self.milestones),
            decay_epochs=self.decay_epochs // factor,
            momentum_epochs=self.momentum_epochs // factor,
            warmup_epochs=-(-self.warmup_epochs // factor),  # at least one, where there are any
        )

    def rate_at(self, epoch: int, done: float = 1.0) -> float:
        """The base learning rate of an epoch, counted from 0, once the share `done` of its steps is done.

        Within an epoch it moves in a warm-up only, whose first step has the rate 0, as weiaicunzai/pytorch-cifar100's WarmUpLR.
        """
        if self.decay_epochs:  # as pylearn2's LinearDecayOverEpoch(start=1), which counts epochs from 1
            rate = self.learning_rate * (1 - (1 - self.decay_factor) * min(1.0, (epoch + 1) / self.decay_epochs))
        else:
            rate = self.learning_rate * self.decay_factor ** sum(epoch >= milestone for milestone in self.milestones)
        return rate * min(1.0, (epoch + done) / self.warmup_epochs) if self.warmup_epochs else rate

    def momentum_at(self, epoch: int) -> float:
        """The momentum of an epoch, counted from 0."""
        if not self.momentum_epochs:
            return self.momentum
        share = min(1.0, epoch / max(1, self.momentum_epochs - 1))  # as pylearn2's MomentumAdjustor(start=1)
        return self.momentum + (self.final_momentum - self.momentum) * share

    def norm_bound(self, parameter: str) -> float | None:
        """What the norm of each unit's weights may be in this parameter; None where it isn't bounded."""
        bounds = [bound for pattern, bound in self.max_norm if fnmatchcase(parameter, pattern)]
        return bounds[-1] if bounds else None


def plain(value: Any) -> Any:
    """Tuples, also nested ones, as lists: what JSON gives back."""
    return [plain(item) for item in value] if isinstance(value, tuple) else value


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
