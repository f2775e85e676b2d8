"""The recipe language: everything that shapes a training run, as frozen data.

A recipe has parts. Each part is a small frozen dataclass with the name of a published rule, so that a recipe reads like its
source. Recipes are compared by value, hashed, and written into jobs as JSON (zoo/plain.py). Fields with their default value
are left out of the JSON, so a new field does not change the hash of existing recipes.
"""

import dataclasses
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from zoo.initialisers import INITIALISERS
from zoo.optimizers import CONVENTIONS, SGD, Adam, AdamW, DiagonalLM, Optimizer, Ramp
from zoo.plain import check_types, from_plain, require_known, require_not_negative, require_positive, to_plain
from zoo.schedules import Constant, Cosine, Exponential, Inverse, Linear, Moment, Plateau, Schedule, Steps, Warmup

# The whole language, so that model files and the examples in docs/ import from this module only.
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
    """Train on mixtures of two images and their labels, with weights lambda and 1 - lambda (Zhang et al. 2018).

    lambda is drawn from Beta(alpha, alpha) for each batch. Each image of a batch is mixed with the one before it, as in
    torchvision's MixUp.
    """

    alpha: float

    def __post_init__(self) -> None:
        check_types(self)
        require_positive("alpha", self.alpha)


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """The random changes to each training image, in the order of these fields.

    - `flip`: mirror it left to right with probability 1/2.
    - `translate`: shift it by up to that many pixels in each dimension.
    - `border`: the value of the gap: "zero" is 0 in the preprocessed image, "black" is a black pixel after preprocessing.
    - `cutout`: set a square with that side, an even number, to 0 in the preprocessed image. Its centre is a random pixel, so
      that part of it may be outside (DeVries and Taylor 2017).
    - `mixup`: mix it with another image.
    """

    flip: bool = False
    translate: int = 0
    border: str = "zero"
    cutout: int = 0
    mixup: Mixup | None = None

    def __post_init__(self) -> None:
        check_types(self)
        require_not_negative("translate", self.translate)
        if self.border not in ("zero", "black"):
            raise ValueError(f"border is '{self.border}', expected one of: zero, black")
        if self.cutout < 0 or self.cutout % 2:
            raise ValueError(f"cutout is {self.cutout}, expected an even number of pixels")

    def __str__(self) -> str:
        """Return a description: 'none', 'flip' or such as 'flip + translate 4 + cutout 16'."""
        parts = []
        if self.flip:
            parts.append("flip")
        if self.translate:
            parts.append(f"translate {self.translate}")
        if self.cutout:
            parts.append(f"cutout {self.cutout}")
        if self.mixup:
            parts.append(f"mixup {self.mixup.alpha:g}")
        return " + ".join(parts) or "none"


@dataclass(frozen=True, kw_only=True)
class Shuffled:
    """Draw a new permutation of the images in each epoch, or with `once` one permutation for all epochs.

    `drop_last` leaves out the partial batch at the end of an epoch.
    """

    once: bool = False
    drop_last: bool = False


@dataclass(frozen=True, kw_only=True)
class Fixed:
    """Use the images in the order of the files, the same in every epoch.

    `file_images` is the number of images per file. No batch spans two files, as in cuda-convnet, which reads CIFAR-10 from
    five files of 10,000 and ends each with a partial batch. `updates` is the number of updates per epoch, all with whole
    batches. The next epoch continues where the last one stopped and wraps around, because Caffe counts iterations, not passes.
    """

    file_images: int = 0
    updates: int = 0

    def __post_init__(self) -> None:
        check_types(self)
        require_not_negative("file_images", self.file_images)
        require_not_negative("updates", self.updates)
        if self.file_images and self.updates:
            raise ValueError(f"updates is {self.updates}, expected 0 together with file_images")


Order = Shuffled | Fixed

# --- a second stage ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class SecondStage:
    """A second stage that trains on all images until the loss on the held-out ones falls to the first training loss.

    This is the rule of Goodfellow et al. 2013. The first stage leaves out the last `images` training images. The second starts
    from its weights, with its own optimizer, whose velocity starts at 0, and trains on all images. It ends after the epoch
    whose loss on those images is at most the final training loss of the first stage, or after `epochs`. Both losses are
    measured at the end of an epoch, with dropout.
    """

    images: int
    epochs: int
    optimizer: Optimizer
    schedule: Schedule = Constant()  # noqa: RUF009 - it is frozen

    def __post_init__(self) -> None:
        check_types(self)
        require_positive("images", self.images)
        require_positive("epochs", self.epochs)


@dataclass(frozen=True)
class Stage:
    """A part of a training run: its recipe, its first epoch (from 0), and how many of the last images it leaves out."""

    recipe: "Recipe"
    first_epoch: int
    left_out: int


# --- labels and weights --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class LabelSmoothing:
    """Replace each label by 1 - `share` of it and `share` spread evenly over all classes (Szegedy et al. 2016).

    This is torch's cross_entropy(label_smoothing=share). The training loss in the curve is computed without smoothing.
    """

    share: float

    def __post_init__(self) -> None:
        check_types(self)
        if not 0 < self.share < 1:
            raise ValueError(f"share is {self.share}, expected more than 0 and less than 1")


@dataclass(frozen=True, kw_only=True)
class EMA:
    """Evaluate and save the exponential moving average of the weights over the updates.

    After each update, average = decay * average + (1 - decay) * weight, starting from the weight after the first update.
    Buffers, such as the statistics of batch normalisation, are those of the trained network. This is torch's AveragedModel
    with get_ema_multi_avg_fn.
    """

    decay: float

    def __post_init__(self) -> None:
        check_types(self)
        if not 0 < self.decay < 1:
            raise ValueError(f"decay is {self.decay}, expected more than 0 and less than 1")


# --- the recipe ----------------------------------------------------------------------------------------------------------

Rules = tuple[tuple[str, float], ...]  # (pattern of parameter names, value)

# What a recipe may ask for, and what it means; runner/training/preprocess.py does it.
PREPROCESSINGS = {
    "unit": "pixels divided by 255",
    "over_256": "pixels divided by 256",
    "lecun": "pixels mapped from 0..255 to -0.1..1.175",
    "minus_mean_image": "the training images' mean image subtracted from pixels 0..255, as cuda-convnet and Caffe do it",
    "unit_minus_mean_image": "pixels divided by 255, less the training images' mean image",
    "standardise": "per channel: the training images' mean subtracted, divided by their standard deviation",
    "gcn_zca": "global contrast normalisation to norm 55, then ZCA whitening (covariance + 0.1) as in pylearn2",
    "gcn_lcn": "global contrast normalisation to norm 1, then LeCun's local one (Gaussian of 7) as in pylearn2",
    "yuv_lcn": "YUV; Y by its local contrast (Gaussian of 7), U and V by mean and standard deviation, as in cifar.torch",
}


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything that shapes a training run.

    - `epochs`: the maximum; a Plateau may end the run earlier.
    - `preprocessing`: one of PREPROCESSINGS.
    - `init`: rules (pattern of parameter names, kind, value), of which the last match applies.
    - `lr_multipliers`: rules whose matches all multiply the learning rate of a parameter.
    - `weight_decay`: lambda in gradient + lambda * weight. A number applies to weights (tensors of two or more dimensions)
      only. Rules apply to any parameter; the last match counts.
    - `max_norm`: rules that bound the norm of each unit's weights after each update.
    - `holdout`: this many of the last training images are not trained on, and the error is measured on them instead of the
      test set.
    - `subset`: only this many of the training images are trained on, drawn anew for each seed; 0 means all.
    - `labels`: smoothing of the targets.
    - `average`: a moving average of the weights.
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
    subset: int = 0
    second_stage: SecondStage | None = None
    labels: LabelSmoothing | None = None
    average: EMA | None = None

    def __post_init__(self) -> None:
        """Raise ValueError with the field's name for a value that cannot be trained with."""
        check_types(self)
        require_known("preprocessing", self.preprocessing, PREPROCESSINGS)
        for _, kind, _ in self.init:
            require_known("init's kind", kind, INITIALISERS)
        require_positive("epochs", self.epochs)
        require_positive("batch_size", self.batch_size)
        require_not_negative("holdout", self.holdout)
        require_not_negative("subset", self.subset)
        decays = self.weight_decay if isinstance(self.weight_decay, tuple) else (("*", self.weight_decay),)
        for _, decay in decays:
            require_not_negative("weight_decay", decay)
        for pattern, bound in self.max_norm:
            require_positive(f"max_norm of {pattern}", bound)
        if isinstance(self.schedule, Warmup | Cosine) and getattr(self.optimizer, "convention", "") == "caffe":
            raise ValueError(
                f"schedule is a {type(self.schedule).__name__}, which has a rate of 0, expected another convention than "
                "caffe, which divides by the rate"
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
        """Return the weight decay of a parameter with this name and number of dimensions."""
        if not isinstance(self.weight_decay, tuple):
            return self.weight_decay if dimensions > 1 else 0.0
        return last_match(self.weight_decay, parameter) or 0.0

    def norm_bound(self, parameter: str) -> float | None:
        """Return the maximum norm of each unit's weights in this parameter; None without a bound."""
        return last_match(self.max_norm, parameter)

    @property
    def most_epochs(self) -> int:
        """The maximum number of epochs, including a second stage."""
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

    def images_per_epoch(self, images: int) -> int:
        """Return how many images an epoch reads when there are that many training images."""
        if isinstance(self.order, Fixed) and self.order.updates:
            return self.order.updates * self.batch_size
        drops = isinstance(self.order, Shuffled) and self.order.drop_last
        return images - images % self.batch_size if drops else images

    def shortened(self, factor: int) -> "Recipe":
        """Return the recipe with its epochs divided by `factor`, for a data set with `factor` times the images."""
        optimizer = self.optimizer
        if isinstance(optimizer, SGD) and isinstance(optimizer.momentum, Ramp):
            ramp = dataclasses.replace(optimizer.momentum, epochs=optimizer.momentum.epochs // factor)
            optimizer = dataclasses.replace(optimizer, momentum=ramp)
        return dataclasses.replace(
            self, epochs=self.epochs // factor, schedule=self.schedule.shortened(factor), optimizer=optimizer
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the recipe as JSON data, which is stored in the job and hashed."""
        return to_plain(self)


def last_match(rules: Rules, parameter: str) -> float | None:
    """Return the value of the last rule whose pattern matches the parameter's name; None if none matches."""
    values = [value for pattern, value in rules if fnmatchcase(parameter, pattern)]
    return values[-1] if values else None


def recipe_from(data: Any) -> Recipe:
    """Return the recipe that JSON data describe. Raise ValueError with the wrong field and what was expected."""
    recipe: Recipe = from_plain(Recipe, data, "")
    return recipe
