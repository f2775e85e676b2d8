"""The optimizers of the recipe language, with their momentum. Each has the name that its source uses."""

from dataclasses import dataclass

from zoo.plain import check_types, require_positive


def _require_momentum(name: str, value: float) -> None:
    if not 0 <= value < 1:
        raise ValueError(f"{name} is {value}, expected 0 to less than 1")


@dataclass(frozen=True)
class Ramp:
    """Momentum that rises linearly from `start` in the first epoch to `end` in epoch number `epochs`, and then stays.

    This is pylearn2's MomentumAdjustor(start=1): with `epochs` = 250, the first epoch has `start` and the 250th has `end`.
    """

    start: float
    end: float
    epochs: int

    def __post_init__(self) -> None:
        check_types(self)
        _require_momentum("start", self.start)
        _require_momentum("end", self.end)
        require_positive("epochs", self.epochs)

    def at(self, epoch: int) -> float:
        """Return the momentum of an epoch, counted from 0."""
        share = min(1.0, epoch / max(1, self.epochs - 1))
        return self.start + (self.end - self.start) * share


CONVENTIONS = {
    "torch": "velocity = momentum * velocity + gradient; weight -= rate * velocity",
    "caffe": "velocity = momentum * velocity + rate * gradient; weight -= velocity (Caffe, cuda-convnet, pylearn2)",
    "torch7": "like torch, with each gradient after the first multiplied by 1 - momentum (Torch7's dampening)",
}


@dataclass(frozen=True, kw_only=True)
class SGD:
    """Stochastic gradient descent. `convention` is a key of CONVENTIONS, the update rules.

    Compared with "torch", "caffe" differs after a change of the learning rate, and "torch7" in the size of the steps.
    """

    learning_rate: float
    momentum: float | Ramp = 0.0
    nesterov: bool = False
    convention: str = "torch"

    def __post_init__(self) -> None:
        check_types(self)
        require_positive("learning_rate", self.learning_rate)
        if not isinstance(self.momentum, Ramp):
            _require_momentum("momentum", self.momentum)
        if self.convention not in CONVENTIONS:
            raise ValueError(f"convention is '{self.convention}', expected one of: {', '.join(CONVENTIONS)}")
        if self.nesterov and self.convention != "torch":
            raise ValueError("nesterov is true, which needs the convention torch")
        if isinstance(self.momentum, Ramp) and self.convention == "torch7":
            raise ValueError("momentum is a Ramp, expected a number with the convention torch7")

    def momentum_at(self, epoch: int) -> float:
        """Return the momentum of an epoch, counted from 0."""
        return self.momentum.at(epoch) if isinstance(self.momentum, Ramp) else self.momentum


@dataclass(frozen=True, kw_only=True)
class DiagonalLM:
    """Stochastic diagonal Levenberg-Marquardt (LeCun et al. 1998): each parameter has the step size rate / (mu + h).

    h is the parameter's diagonal Gauss-Newton term, averaged over `images` training images that are drawn before each
    epoch. From the second epoch on, h is at least `floor` times its previous value; with 0 it is the new value.
    """

    learning_rate: float
    mu: float = 0.02
    images: int = 500
    floor: float = 0.0

    def __post_init__(self) -> None:
        check_types(self)
        for name in ("learning_rate", "mu", "images"):
            require_positive(name, getattr(self, name))
        if not 0 <= self.floor <= 1:
            raise ValueError(f"floor is {self.floor}, expected 0 to 1")

    def momentum_at(self, epoch: int) -> float:
        """Return 0, because this rule has no momentum."""
        return 0.0


@dataclass(frozen=True, kw_only=True)
class Adam:
    """Adam (Kingma and Ba 2015), as in torch.optim.Adam. The recipe's weight decay is added to the gradient."""

    learning_rate: float
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8

    def __post_init__(self) -> None:
        check_types(self)
        require_positive("learning_rate", self.learning_rate)
        require_positive("epsilon", self.epsilon)
        for name in ("beta1", "beta2"):
            _require_momentum(name, getattr(self, name))

    def momentum_at(self, epoch: int) -> float:
        """Return 0, because this rule has no momentum that changes with the epoch."""
        return 0.0


@dataclass(frozen=True, kw_only=True)
class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019), as in torch.optim.AdamW.

    Each update also subtracts rate * weight decay * weight, so the decay follows the schedule.
    """


Optimizer = SGD | DiagonalLM | Adam | AdamW
