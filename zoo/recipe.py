"""The recipe language: everything that shapes a training, as plain frozen data.

A recipe is composed of parts. Each part is a small frozen dataclass whose name is the published rule's, so that a recipe
reads as its source does. Recipes are compared by value, written into jobs as JSON, hashed, and read back (zoo/plain.py).
A field that has its default value is left out of that JSON: a new feature changes the identity of no recipe without it.
"""

import dataclasses
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from zoo.optimizers import CONVENTIONS, SGD, Adam, AdamW, DiagonalLM, Optimizer, Ramp
from zoo.plain import from_plain, require_not_negative, require_positive, to_plain
from zoo.schedules import Constant, Cosine, Exponential, Inverse, Linear, Moment, Plateau, Schedule, Steps, Warmup

# The whole language: a model's file and a recipe on a page of the documents need this module alone.
__all__ = [
    "CONVENTIONS",
    "EMA",
    "SGD",
    "Adam",
    "AdamW",
    "Augmentation",
    "Constant",
    "Cosine",
    "DiagonalLM",
    "Exponential",
    "Fixed",
    "Inverse",
    "LabelSmoothing",
    "Linear",
    "Mixup",
    "Moment",
    "Optimizer",
    "Order",
    "Plateau",
    "Ramp",
    "Recipe",
    "Rules",
    "Schedule",
    "SecondStage",
    "Shuffled",
    "Stage",
    "Steps",
    "Warmup",
    "last_match",
    "recipe_from",
]

# --- images --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Mixup:
    """Train on mixtures of two images and of their labels, in the share lambda, drawn from Beta(alpha, alpha) for each batch.

    Zhang et al. 2018. As torchvision's MixUp, each image of a batch is mixed with the one before it.
    """

    alpha: float

    def __post_init__(self) -> None:
        require_positive("alpha", self.alpha)


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """What is done at random to each training image, in the order of these fields.

    `flip`: it is mirrored, left to right, with probability 1/2. `translate`: it is shifted by up to so many pixels. What
    moves in is `border`: "zero" of the preprocessed image, or "black", a black pixel as the preprocessing maps it. `cutout`:
    a square of so many pixels, an even number, around a pixel drawn at random is set to zero of the preprocessed image, as far
    as it lies inside (DeVries and Taylor 2017). `mixup`: images are mixed.
    """

    flip: bool = False
    translate: int = 0
    border: str = "zero"
    cutout: int = 0
    mixup: Mixup | None = None

    def __post_init__(self) -> None:
        require_not_negative("translate", self.translate)
        if self.border not in ("zero", "black"):
            raise ValueError(f"border is '{self.border}', expected one of: zero, black")
        if self.cutout < 0 or self.cutout % 2:
            raise ValueError(f"cutout is {self.cutout}, expected an even number of pixels")

    def __str__(self) -> str:
        """Return it in words: 'none', 'flip', 'flip + translate 4 + cutout 16'."""
        parts = ["flip"] * self.flip + [f"translate {self.translate}"] * bool(self.translate)
        parts += [f"cutout {self.cutout}"] * bool(self.cutout)
        parts += [f"mixup {self.mixup.alpha:g}"] if self.mixup else []
        return " + ".join(parts) or "none"


@dataclass(frozen=True, kw_only=True)
class Shuffled:
    """Images come in a fresh random order each epoch, or with `once` in one random order that all epochs share.

    `drop_last` leaves out an epoch's last, partial batch.
    """

    once: bool = False
    drop_last: bool = False


@dataclass(frozen=True, kw_only=True)
class Fixed:
    """Images come in the files' order, every epoch the same.

    With `file_images` no batch spans two files of that many: cuda-convnet reads CIFAR-10 from five files of 10,000, and each
    ends with a partial batch. With `updates` an epoch is so many updates of whole batches, and the next goes on reading where
    it stopped, from the first image again after the last: Caffe counts iterations, not passes.
    """

    file_images: int = 0
    updates: int = 0

    def __post_init__(self) -> None:
        require_not_negative("file_images", self.file_images)
        require_not_negative("updates", self.updates)
        if self.file_images and self.updates:
            raise ValueError(f"updates is {self.updates}, expected 0 where there are files")


Order = Shuffled | Fixed

# --- a second stage ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class SecondStage:
    """Train on with images that the first stage left out, until their loss has fallen to the first stage's training loss.

    Goodfellow et al. 2013: the first stage leaves out the last `images` training images. The second goes on from its weights on
    all of them, with an optimizer of its own, whose velocity starts at 0. It ends after the epoch whose loss on those images is
    at most the training loss that the first stage had. Both are measured at an end of an epoch, dropout in force. `epochs` is
    the most that the second stage can have.
    """

    images: int
    epochs: int
    optimizer: Optimizer
    schedule: Schedule = Constant()  # noqa: RUF009 - it is frozen

    def __post_init__(self) -> None:
        require_positive("images", self.images)
        require_positive("epochs", self.epochs)


@dataclass(frozen=True)
class Stage:
    """A part of a training: its own recipe, the epoch with which it begins, and how many of the last images it leaves out."""

    recipe: "Recipe"
    first_epoch: int
    left_out: int


# --- labels and weights --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class LabelSmoothing:
    """The label's share of the target is 1 - `share`; the rest is spread evenly over all classes (Szegedy et al. 2016).

    As torch's cross_entropy(label_smoothing=share). The training loss of the curve is that without smoothing.
    """

    share: float

    def __post_init__(self) -> None:
        if not 0 < self.share < 1:
            raise ValueError(f"share is {self.share}, expected more than 0 and less than 1")


@dataclass(frozen=True, kw_only=True)
class EMA:
    """The network that is evaluated and kept has each weight's exponential moving average over the updates.

    average = decay * average + (1 - decay) * weight after each update, from the weight after the first one on. Buffers, such as
    batch normalisation's statistics, are the trained network's. As torch's AveragedModel with get_ema_multi_avg_fn.
    """

    decay: float

    def __post_init__(self) -> None:
        if not 0 < self.decay < 1:
            raise ValueError(f"decay is {self.decay}, expected more than 0 and less than 1")


# --- the recipe ----------------------------------------------------------------------------------------------------------

Rules = tuple[tuple[str, float], ...]  # (pattern of parameter names, value)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything that shapes a training.

    `epochs` is the most there can be: a Plateau may end the training before. `init` has rules (pattern of parameter names,
    kind, value), the last match wins. `lr_multipliers` multiply the rate of each parameter whose name matches, all of them.
    `weight_decay` is lambda in gradient + lambda * weight: a number for weights (tensors of two or more dimensions) alone, or
    rules for any parameter, the last match wins. `max_norm` bounds the norm of each unit's weights after each update.
    `preprocessing` is a name of runner's table. `holdout`: so many training images, the last ones, are left out of the
    training, and the error is measured on them instead of the test set.
    `labels` may smooth the targets, `average` the weights.
    """

    epochs: int
    batch_size: int
    preprocessing: str
    optimizer: Optimizer
    init: tuple[tuple[str, str, float], ...]
    schedule: Schedule = Constant()  # noqa: RUF009 - it is frozen
    lr_multipliers: Rules = ()
    weight_decay: float | Rules = 0.0
    max_norm: Rules = ()
    augmentation: Augmentation = Augmentation()
    order: Order = Shuffled()
    holdout: int = 0
    second_stage: SecondStage | None = None
    labels: LabelSmoothing | None = None
    average: EMA | None = None

    def __post_init__(self) -> None:
        """Raise ValueError, naming the field, for a value with which nothing can be trained."""
        require_positive("epochs", self.epochs)
        require_positive("batch_size", self.batch_size)
        require_not_negative("holdout", self.holdout)
        decays = self.weight_decay if isinstance(self.weight_decay, tuple) else (("*", self.weight_decay),)
        for _, decay in decays:
            require_not_negative("weight_decay", decay)
        for pattern, bound in self.max_norm:
            require_positive(f"max_norm of {pattern}", bound)
        if isinstance(self.schedule, Warmup | Cosine) and getattr(self.optimizer, "convention", "") == "caffe":
            raise ValueError(
                f"schedule is a {type(self.schedule).__name__}, which has a rate of 0: expected no caffe convention, "
                "which divides by it"
            )
        fixed = isinstance(self.order, Fixed) or self.order.once
        if self.augmentation.mixup and fixed:
            raise ValueError(
                "order is the same in each epoch, expected a fresh one where images are mixed with neighbours"
            )
        if self.average and self.second_stage:
            raise ValueError(
                "average is set, expected none where there is a second stage, whose loss is the weights' own"
            )

    def lr_multiplier(self, parameter: str) -> float:
        """Return the product of the multipliers of all patterns that match this parameter's name."""
        product = 1.0
        for pattern, multiplier in self.lr_multipliers:
            if fnmatchcase(parameter, pattern):
                product *= multiplier
        return product

    def decay_of(self, parameter: str, dimensions: int) -> float:
        """Return the weight decay of a parameter of so many dimensions."""
        if not isinstance(self.weight_decay, tuple):
            return self.weight_decay if dimensions > 1 else 0.0
        return last_match(self.weight_decay, parameter) or 0.0

    def norm_bound(self, parameter: str) -> float | None:
        """Return what the norm of each unit's weights may be in this parameter; None where it isn't bounded."""
        return last_match(self.max_norm, parameter)

    @property
    def most_epochs(self) -> int:
        """Return how many epochs there can be, those of a second stage too."""
        return self.epochs + (self.second_stage.epochs if self.second_stage else 0)

    def stage_of(self, epoch: int) -> Stage:
        """Return the stage that an epoch, counted from 0, belongs to."""
        second = self.second_stage
        if second is None:
            return Stage(self, 0, 0)
        if epoch < self.epochs:
            return Stage(dataclasses.replace(self, second_stage=None), 0, second.images)
        recipe = dataclasses.replace(
            self, epochs=second.epochs, optimizer=second.optimizer, schedule=second.schedule, second_stage=None
        )
        return Stage(recipe, self.epochs, 0)

    def rate(self, moment: Moment) -> float:
        """Return the learning rate of the update at `moment`, before multipliers."""
        return self.schedule.rate(self.optimizer.learning_rate, moment)

    def shortened(self, factor: int) -> "Recipe":
        """Return the same recipe over one `factor`-th of its epochs: for a data set with so many times the images."""
        optimizer = self.optimizer
        if isinstance(optimizer, SGD) and isinstance(optimizer.momentum, Ramp):
            ramp = dataclasses.replace(optimizer.momentum, epochs=optimizer.momentum.epochs // factor)
            optimizer = dataclasses.replace(optimizer, momentum=ramp)
        return dataclasses.replace(
            self, epochs=self.epochs // factor, schedule=self.schedule.shortened(factor), optimizer=optimizer
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the recipe as plain JSON data: what a job holds and what is hashed."""
        return to_plain(self)


def last_match(rules: Rules, parameter: str) -> float | None:
    """Return the value of the last rule whose pattern matches the parameter's name; None where none does."""
    values = [value for pattern, value in rules if fnmatchcase(parameter, pattern)]
    return values[-1] if values else None


def recipe_from(data: Any) -> Recipe:
    """Return the recipe that JSON data describe; raises ValueError, naming the field and what was expected there."""
    recipe: Recipe = from_plain(Recipe, data, "")
    return recipe
