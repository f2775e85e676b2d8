"""The recipe language: everything that shapes a training, as plain frozen data.

A recipe is composed of parts. Each part is a small frozen dataclass whose name is the published rule's, so that a recipe
reads as its source does. Recipes are compared by value, written into jobs as JSON, hashed, and read back (zoo/plain.py).
A field that has its default value is left out of that JSON: a new feature changes the identity of no recipe without it.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, ClassVar

from zoo.plain import from_plain, to_plain


def _require_positive(name: str, value: float) -> None:
    if not value > 0:
        raise ValueError(f"{name} is {value}, expected more than 0")


def _require_not_negative(name: str, value: float) -> None:
    if not value >= 0:
        raise ValueError(f"{name} is {value}, expected 0 or more")


def _require_momentum(name: str, value: float) -> None:
    if not 0 <= value < 1:
        raise ValueError(f"{name} is {value}, expected 0 to less than 1")


# --- momentum and optimizers ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Ramp:
    """Momentum that rises along a line from `start` in the first epoch to `end` in epoch number `epochs`, and stays there.

    As pylearn2's MomentumAdjustor(start=1): of `epochs` = 250 the first has `start`, the 250th has `end`.
    """

    start: float
    end: float
    epochs: int

    def __post_init__(self) -> None:
        _require_momentum("start", self.start)
        _require_momentum("end", self.end)
        _require_positive("epochs", self.epochs)

    def at(self, epoch: int) -> float:
        """Return the momentum of an epoch, counted from 0."""
        share = min(1.0, epoch / max(1, self.epochs - 1))
        return self.start + (self.end - self.start) * share


CONVENTIONS = {
    "torch": "velocity = momentum * velocity + gradient; weight -= rate * velocity",
    "caffe": "velocity = momentum * velocity + rate * gradient; weight -= velocity (Caffe, cuda-convnet, pylearn2)",
    "torch7": "as torch, but each gradient after the first is multiplied by 1 - momentum (Torch7's dampening)",
}


@dataclass(frozen=True, kw_only=True)
class SGD:
    """Stochastic gradient descent. `convention` (see CONVENTIONS) says where the learning rate enters the velocity.

    The conventions differ where the rate changes ("caffe") or in the size of the steps ("torch7").
    """

    learning_rate: float
    momentum: float | Ramp = 0.0
    nesterov: bool = False
    convention: str = "torch"

    def __post_init__(self) -> None:
        _require_positive("learning_rate", self.learning_rate)
        if not isinstance(self.momentum, Ramp):
            _require_momentum("momentum", self.momentum)
        if self.convention not in CONVENTIONS:
            raise ValueError(f"convention is '{self.convention}', expected one of: {', '.join(CONVENTIONS)}")
        if self.nesterov and self.convention != "torch":
            raise ValueError("nesterov is true, expected false unless the convention is torch")
        if isinstance(self.momentum, Ramp) and self.convention == "torch7":
            raise ValueError("momentum is a Ramp, expected a number where the convention is torch7")

    def momentum_at(self, epoch: int) -> float:
        """Return the momentum of an epoch, counted from 0."""
        return self.momentum.at(epoch) if isinstance(self.momentum, Ramp) else self.momentum


@dataclass(frozen=True, kw_only=True)
class DiagonalLM:
    """Stochastic diagonal Levenberg-Marquardt (LeCun et al. 1998): each parameter has the step rate / (mu + h).

    h is the parameter's diagonal Gauss-Newton term, the mean over `images` training images that are drawn before each
    epoch. After the first epoch h is at least `floor` times the value before it; 0 takes the fresh value alone.
    """

    learning_rate: float
    mu: float = 0.02
    images: int = 500
    floor: float = 0.0

    def __post_init__(self) -> None:
        for name in ("learning_rate", "mu", "images"):
            _require_positive(name, getattr(self, name))
        if not 0 <= self.floor <= 1:
            raise ValueError(f"floor is {self.floor}, expected 0 to 1")

    def momentum_at(self, epoch: int) -> float:
        """Return 0: the rule has no momentum."""
        return 0.0


Optimizer = SGD | DiagonalLM

# --- learning rate schedules ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Moment:
    """A point of a training: `step` of the `steps` in `epoch`, both from 0, and the training errors of the epochs before."""

    epoch: int
    step: int
    steps: int
    train_errors: Sequence[float] = ()

    @property
    def update(self) -> int:
        """The number of updates before this one."""
        return self.epoch * self.steps + self.step


class _Schedule:
    """How the learning rate moves. `within_epochs`: it can change from one update to the next."""

    within_epochs: ClassVar[bool] = False

    def rate(self, base: float, moment: Moment) -> float:
        """Return the learning rate of the update at `moment`, for a recipe whose learning rate is `base`."""
        raise NotImplementedError

    def over(self, train_errors: Sequence[float]) -> bool:
        """Tell whether the training ends here, before the recipe's number of epochs. Percent, one error an epoch."""
        return False

    def shortened(self, factor: int) -> "Schedule":
        """Return the same schedule over one `factor`-th of its epochs."""
        return self  # type: ignore[return-value]


@dataclass(frozen=True)
class Constant(_Schedule):
    """The learning rate never changes."""

    def rate(self, base: float, moment: Moment) -> float:
        return base


@dataclass(frozen=True, kw_only=True)
class Steps(_Schedule):
    """The rate is multiplied by `factor` after each number in `after`; with a tuple of factors, by each in turn.

    `after` counts epochs, or updates where `unit` is "updates".
    """

    after: tuple[int, ...]
    factor: float | tuple[float, ...] = 0.1
    unit: str = "epochs"

    def __post_init__(self) -> None:
        if self.unit not in ("epochs", "updates"):
            raise ValueError(f"unit is '{self.unit}', expected one of: epochs, updates")
        if list(self.after) != sorted(set(self.after)) or any(number < 1 for number in self.after):
            raise ValueError(f"after is {list(self.after)}, expected rising numbers of {self.unit} from 1")
        factors = self.factor if isinstance(self.factor, tuple) else (self.factor,)
        if isinstance(self.factor, tuple) and len(factors) != len(self.after):
            raise ValueError(f"factor has {len(factors)} values, expected {len(self.after)}, as many as after")
        for factor in factors:
            _require_positive("factor", factor)

    @property
    def within_epochs(self) -> bool:  # type: ignore[override]
        """Updates can fall inside an epoch."""
        return self.unit == "updates"

    def rate(self, base: float, moment: Moment) -> float:
        now = moment.update if self.unit == "updates" else moment.epoch
        passed = sum(now >= number for number in self.after)
        if not isinstance(self.factor, tuple):
            return base * self.factor**passed
        for factor in self.factor[:passed]:
            base *= factor
        return base

    def shortened(self, factor: int) -> "Steps":
        return dataclasses.replace(self, after=tuple(number // factor for number in self.after))


@dataclass(frozen=True, kw_only=True)
class Linear(_Schedule):
    """The rate falls along a line, epoch by epoch, to `to` of itself in epoch number `epochs`, and stays there.

    As pylearn2's LinearDecayOverEpoch(start=1), which counts epochs from 1: the first epoch is one step down already.
    """

    to: float
    epochs: int

    def __post_init__(self) -> None:
        _require_positive("to", self.to)
        _require_positive("epochs", self.epochs)

    def rate(self, base: float, moment: Moment) -> float:
        return base * (1 - (1 - self.to) * min(1.0, (moment.epoch + 1) / self.epochs))

    def shortened(self, factor: int) -> "Linear":
        return dataclasses.replace(self, epochs=self.epochs // factor)


@dataclass(frozen=True, kw_only=True)
class Inverse(_Schedule):
    """rate * (1 + gamma * updates) ^ -power: Caffe's `inv`."""

    gamma: float
    power: float
    within_epochs: ClassVar[bool] = True

    def __post_init__(self) -> None:
        _require_positive("gamma", self.gamma)
        _require_positive("power", self.power)

    def rate(self, base: float, moment: Moment) -> float:
        return base * (1 + self.gamma * moment.update) ** -self.power


@dataclass(frozen=True, kw_only=True)
class Exponential(_Schedule):
    """The rate is divided by `divisor` after each update, down to the rate `floor`: pylearn2's ExponentialDecay."""

    divisor: float
    floor: float = 0.0
    within_epochs: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not self.divisor >= 1:
            raise ValueError(f"divisor is {self.divisor}, expected 1 or more")
        _require_not_negative("floor", self.floor)

    def rate(self, base: float, moment: Moment) -> float:
        return max(base * self.divisor**-moment.update, self.floor)


@dataclass(frozen=True, kw_only=True)
class Plateau(_Schedule):
    """Divide the rate when the training error stops falling, `drops` times; end when it stops falling once more.

    NiN's published rule: "until the accuracy on the training set stops improving", then a tenth, "repeated once". The error
    has stopped falling when `patience` epochs brought no new lowest value. It is read from the curve, so that a resumed
    training decides as an uninterrupted one does.
    """

    patience: int
    factor: float = 0.1
    drops: int = 2

    def __post_init__(self) -> None:
        for name in ("patience", "factor", "drops"):
            _require_positive(name, getattr(self, name))

    def stops(self, train_errors: Sequence[float]) -> int:
        """Return how often the training error (percent, one an epoch) has stopped falling so far."""
        lowest, waited, stops = float("inf"), 0, 0
        for error in train_errors:
            lowest, waited = (error, 0) if error < lowest else (lowest, waited + 1)
            if waited == self.patience:
                stops, waited = stops + 1, 0
        return stops

    def rate(self, base: float, moment: Moment) -> float:
        return base * self.factor ** min(self.drops, self.stops(moment.train_errors))

    def over(self, train_errors: Sequence[float]) -> bool:
        return self.stops(train_errors) > self.drops


@dataclass(frozen=True, kw_only=True)
class Warmup(_Schedule):
    """The rate rises along a line from 0, update by update, over `epochs`, while `then` runs underneath.

    As weiaicunzai/pytorch-cifar100's WarmUpLR: the first update has the rate 0.
    """

    epochs: int
    then: "Schedule" = field(default_factory=Constant)
    within_epochs: ClassVar[bool] = True

    def __post_init__(self) -> None:
        _require_positive("epochs", self.epochs)
        if isinstance(self.then, Warmup):
            raise ValueError("then is a Warmup, expected another schedule")

    def rate(self, base: float, moment: Moment) -> float:
        share = (moment.epoch + moment.step / moment.steps) / self.epochs
        return self.then.rate(base, moment) * min(1.0, share)

    def over(self, train_errors: Sequence[float]) -> bool:
        return self.then.over(train_errors)

    def shortened(self, factor: int) -> "Warmup":
        return Warmup(epochs=-(-self.epochs // factor), then=self.then.shortened(factor))  # at least one epoch


Schedule = Constant | Steps | Linear | Inverse | Exponential | Plateau | Warmup

# --- images --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """What is done at random to each training image.

    `flip`: it is mirrored, left to right, with probability 1/2. `translate`: it is shifted by up to so many pixels. What
    moves in is `border`: "zero" of the preprocessed image, or "black", a black pixel as the preprocessing maps it.
    """

    flip: bool = False
    translate: int = 0
    border: str = "zero"

    def __post_init__(self) -> None:
        _require_not_negative("translate", self.translate)
        if self.border not in ("zero", "black"):
            raise ValueError(f"border is '{self.border}', expected one of: zero, black")

    def __str__(self) -> str:
        """Return it in words: 'none', 'flip', 'flip + translate 4'."""
        parts = ["flip"] * self.flip + [f"translate {self.translate}"] * bool(self.translate)
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
        _require_not_negative("file_images", self.file_images)
        _require_not_negative("updates", self.updates)
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
    schedule: Schedule = Constant()

    def __post_init__(self) -> None:
        _require_positive("images", self.images)
        _require_positive("epochs", self.epochs)


@dataclass(frozen=True)
class Stage:
    """A part of a training: its own recipe, the epoch with which it begins, and how many of the last images it leaves out."""

    recipe: "Recipe"
    first_epoch: int
    left_out: int


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
    """

    epochs: int
    batch_size: int
    preprocessing: str
    optimizer: Optimizer
    init: tuple[tuple[str, str, float], ...]
    schedule: Schedule = Constant()  # frozen
    lr_multipliers: Rules = ()
    weight_decay: float | Rules = 0.0
    max_norm: Rules = ()
    augmentation: Augmentation = Augmentation()
    order: Order = Shuffled()
    holdout: int = 0
    second_stage: SecondStage | None = None

    def __post_init__(self) -> None:
        """Raise ValueError, naming the field, for a value with which nothing can be trained."""
        _require_positive("epochs", self.epochs)
        _require_positive("batch_size", self.batch_size)
        _require_not_negative("holdout", self.holdout)
        decays = self.weight_decay if isinstance(self.weight_decay, tuple) else (("*", self.weight_decay),)
        for _, decay in decays:
            _require_not_negative("weight_decay", decay)
        for pattern, bound in self.max_norm:
            _require_positive(f"max_norm of {pattern}", bound)
        if isinstance(self.schedule, Warmup) and getattr(self.optimizer, "convention", "") == "caffe":
            raise ValueError(
                "schedule is a Warmup, whose first rate is 0: expected no caffe convention, which divides by it"
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
