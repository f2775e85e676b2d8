"""The learning rate schedules of the recipe language. Each has the name that its source uses."""

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from zoo.plain import check_types, require_not_negative, require_positive


@dataclass(frozen=True)
class Moment:
    """A moment of a training run: `step` of the `steps` in `epoch`, both from 0.

    `train_errors` are the training errors (percent) of the epochs before.
    """

    epoch: int
    step: int
    steps: int
    train_errors: Sequence[float] = ()

    @property
    def update(self) -> int:
        """The number of updates before this one."""
        return self.epoch * self.steps + self.step


class _Schedule:
    """A learning rate schedule. `within_epochs` says whether the rate can change between updates of an epoch."""

    within_epochs: ClassVar[bool] = False

    def rate(self, base: float, moment: Moment) -> float:
        """Return the learning rate of the update at `moment`, for a recipe whose learning rate is `base`."""
        raise NotImplementedError

    def over(self, train_errors: Sequence[float]) -> bool:
        """Return whether the run ends now, before the recipe's number of epochs. `train_errors` has one (percent) per epoch."""
        return False

    def shortened(self, factor: int) -> "Schedule":
        """Return the schedule with its epochs divided by `factor`."""
        return self  # type: ignore[return-value]


@dataclass(frozen=True)
class Constant(_Schedule):
    """Keep the learning rate constant."""

    def rate(self, base: float, moment: Moment) -> float:
        return base


@dataclass(frozen=True, kw_only=True)
class Steps(_Schedule):
    """Multiply the learning rate by `factor` after each number in `after`. A tuple has one factor for each.

    `unit` says what `after` counts: "epochs" or "updates".
    """

    after: tuple[int, ...]
    factor: float | tuple[float, ...] = 0.1
    unit: str = "epochs"

    def __post_init__(self) -> None:
        check_types(self)
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
        """Whether the steps are counted in updates, so that they can be inside an epoch."""
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
    """Lower the learning rate linearly, once per epoch, to the fraction `to` in epoch number `epochs`; then keep it.

    This is pylearn2's LinearDecayOverEpoch(start=1). It counts epochs from 1, so the first epoch is already one step lower.
    """

    to: float
    epochs: int

    def __post_init__(self) -> None:
        check_types(self)
        require_positive("to", self.to)
        require_positive("epochs", self.epochs)

    def rate(self, base: float, moment: Moment) -> float:
        return base * (1 - (1 - self.to) * min(1.0, (moment.epoch + 1) / self.epochs))

    def shortened(self, factor: int) -> "Linear":
        return dataclasses.replace(self, epochs=self.epochs // factor)


@dataclass(frozen=True, kw_only=True)
class Inverse(_Schedule):
    """Use rate * (1 + gamma * updates) ^ -power, Caffe's `inv`."""

    gamma: float
    power: float
    within_epochs: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_types(self)
        require_positive("gamma", self.gamma)
        require_positive("power", self.power)

    def rate(self, base: float, moment: Moment) -> float:
        return base * (1 + self.gamma * moment.update) ** -self.power


@dataclass(frozen=True, kw_only=True)
class Exponential(_Schedule):
    """Divide the learning rate by `divisor` after each update, down to `floor`: pylearn2's ExponentialDecay."""

    divisor: float
    floor: float = 0.0
    within_epochs: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_types(self)
        if not self.divisor >= 1:
            raise ValueError(f"divisor is {self.divisor}, expected 1 or more")
        require_not_negative("floor", self.floor)

    def rate(self, base: float, moment: Moment) -> float:
        return max(base * self.divisor**-moment.update, self.floor)


@dataclass(frozen=True, kw_only=True)
class Cosine(_Schedule):
    """Lower the learning rate along half a cosine to `floor` over `epochs`, then keep it: SGDR without restarts.

    This is equation 5 of Loshchilov and Hutter 2017, with the update as its time. If `unit` is "epochs", the rate changes once
    per epoch, as torch's CosineAnnealingLR does if it is stepped once per epoch.
    """

    epochs: int
    floor: float = 0.0
    unit: str = "updates"

    def __post_init__(self) -> None:
        check_types(self)
        require_positive("epochs", self.epochs)
        require_not_negative("floor", self.floor)
        if self.unit not in ("epochs", "updates"):
            raise ValueError(f"unit is '{self.unit}', expected one of: epochs, updates")

    @property
    def within_epochs(self) -> bool:  # type: ignore[override]
        """Whether the rate changes inside an epoch."""
        return self.unit == "updates"

    def rate(self, base: float, moment: Moment) -> float:
        now = moment.epoch + (moment.step / moment.steps if self.unit == "updates" else 0.0)
        return self.floor + (base - self.floor) * (1 + math.cos(math.pi * min(1.0, now / self.epochs))) / 2

    def shortened(self, factor: int) -> "Cosine":
        return dataclasses.replace(self, epochs=max(1, self.epochs // factor))


@dataclass(frozen=True, kw_only=True)
class Plateau(_Schedule):
    """Multiply the learning rate by `factor` when the training error stops falling, `drops` times; then end the run.

    This is NiN's published rule: "until the accuracy on the training set stops improving", then a tenth, "repeated once". The
    error has stopped falling if it reached no new minimum for `patience` epochs. The decision depends on the curve only, so a
    resumed run decides like an uninterrupted one.
    """

    patience: int
    factor: float = 0.1
    drops: int = 2

    def __post_init__(self) -> None:
        check_types(self)
        for name in ("patience", "factor", "drops"):
            require_positive(name, getattr(self, name))

    def stops(self, train_errors: Sequence[float]) -> int:
        """Return how often the training error (percent, one per epoch) has stopped falling so far."""
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
    """Multiply the rate of `then` by a factor that rises linearly from 0 to 1 over `epochs`, update by update.

    This is WarmUpLR of weiaicunzai/pytorch-cifar100: the first update has the rate 0.
    """

    epochs: int
    then: "Schedule" = field(default_factory=Constant)
    within_epochs: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_types(self)
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
