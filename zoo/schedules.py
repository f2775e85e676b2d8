"""The recipe language's learning rate schedules. Each is named as its source names it."""

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from zoo.plain import require_not_negative, require_positive


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
            require_positive("factor", factor)

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
        require_positive("to", self.to)
        require_positive("epochs", self.epochs)

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
        require_positive("gamma", self.gamma)
        require_positive("power", self.power)

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
        require_not_negative("floor", self.floor)

    def rate(self, base: float, moment: Moment) -> float:
        return max(base * self.divisor**-moment.update, self.floor)


@dataclass(frozen=True, kw_only=True)
class Cosine(_Schedule):
    """The rate falls along half a cosine to `floor` over `epochs`, and stays there: SGDR without restarts.

    Loshchilov and Hutter 2017, equation 5, with the update as its time. With `unit` "epochs" the rate moves once an epoch,
    as torch's CosineAnnealingLR does when it is stepped once an epoch.
    """

    epochs: int
    floor: float = 0.0
    unit: str = "updates"

    def __post_init__(self) -> None:
        require_positive("epochs", self.epochs)
        require_not_negative("floor", self.floor)
        if self.unit not in ("epochs", "updates"):
            raise ValueError(f"unit is '{self.unit}', expected one of: epochs, updates")

    @property
    def within_epochs(self) -> bool:  # type: ignore[override]
        """Tell whether the rate moves inside an epoch."""
        return self.unit == "updates"

    def rate(self, base: float, moment: Moment) -> float:
        now = moment.epoch + (moment.step / moment.steps if self.unit == "updates" else 0.0)
        return self.floor + (base - self.floor) * (1 + math.cos(math.pi * min(1.0, now / self.epochs))) / 2

    def shortened(self, factor: int) -> "Cosine":
        return dataclasses.replace(self, epochs=max(1, self.epochs // factor))


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
            require_positive(name, getattr(self, name))

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
        require_positive("epochs", self.epochs)
        if isinstance(self.then, Warmup):
            raise ValueError("then is a Warmup, expected another schedule")

    def rate(self, base: float, moment: Moment) -> float:
        share = (moment.epoch + moment.step / moment.steps) / self.epochs
        return self.then.rate(base, moment) * min(1.0, share)

    def over(self, train_errors: Sequence[float]) -> bool:
        return self.then.over(train_errors)

    def shortened(self, factor: int) -> "Warmup":
        return Warmup(epochs=-(-self.epochs // factor), then=self.then.shortened(factor))  # at least one epoch


Schedule = Constant | Steps | Linear | Inverse | Exponential | Cosine | Plateau | Warmup
