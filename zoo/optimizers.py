"""The recipe language's optimizers, and how their momentum moves. Each is named as its source names it."""

from dataclasses import dataclass

from zoo.plain import require_positive


def _require_momentum(name: str, value: float) -> None:
    if not 0 <= value < 1:
        raise ValueError(f"{name} is {value}, expected 0 to less than 1")


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
        require_positive("epochs", self.epochs)

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
        require_positive("learning_rate", self.learning_rate)
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
            require_positive(name, getattr(self, name))
        if not 0 <= self.floor <= 1:
            raise ValueError(f"floor is {self.floor}, expected 0 to 1")

    def momentum_at(self, epoch: int) -> float:
        """Return 0: the rule has no momentum."""
        return 0.0


@dataclass(frozen=True, kw_only=True)
class Adam:
    """Adam (Kingma and Ba 2015), as torch.optim.Adam: the recipe's weight decay is added to the gradient."""

    learning_rate: float
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8

    def __post_init__(self) -> None:
        require_positive("learning_rate", self.learning_rate)
        require_positive("epsilon", self.epsilon)
        for name in ("beta1", "beta2"):
            _require_momentum(name, getattr(self, name))

    def momentum_at(self, epoch: int) -> float:
        """Return 0: the rule has no momentum that an epoch changes."""
        return 0.0


@dataclass(frozen=True, kw_only=True)
class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019), as torch.optim.AdamW.

    Each update also takes rate * weight decay * weight from the weight, so that the decay follows the schedule.
    """


Optimizer = SGD | DiagonalLM | Adam | AdamW
