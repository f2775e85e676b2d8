"""Build a recipe's update rule on torch's optimizers: conventions, rate multipliers, weight decay, norm bounds."""

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from runner.training.batches import DeviceSet
from zoo.recipe import SGD, Adam, AdamW, Recipe
from zoo.recipe import DiagonalLM as DiagonalRule
from zoo.spec import ModelSpec


def optimizer_for(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """Return the recipe's optimizer over the model's parameters, grouped by rate multiplier and weight decay.

    After each step, weights with a norm bound are scaled back to it, and weight averages are updated.
    """
    groups: dict[tuple[float, float], list[tuple[str, nn.Parameter]]] = {}
    for name, parameter in model.named_parameters():
        key = recipe.lr_multiplier(name), recipe.decay_of(name, parameter.ndim)
        groups.setdefault(key, []).append((name, parameter))
    rule = recipe.optimizer
    options = [
        {
            "params": [parameter for _, parameter in members],
            "names": [name for name, _ in members],
            "lr": rule.learning_rate * multiplier,
            # The same as `lr`, but always a float: a captured graph makes `lr` a tensor.
            "rate": rule.learning_rate * multiplier,
            "multiplier": multiplier,
            "weight_decay": decay,
        }
        for (multiplier, decay), members in groups.items()
    ]
    if isinstance(rule, DiagonalRule):
        optimizer: torch.optim.Optimizer = DiagonalLM(options, rule)
    else:
        optimizer = _adam(options, rule) if isinstance(rule, Adam) else _sgd(options, rule)
    bounded = [(p, bound) for name, p in model.named_parameters() if (bound := recipe.norm_bound(name))]
    if bounded:
        optimizer.register_step_post_hook(lambda *_: bound_norms(bounded))
    if recipe.average:
        decay, parameters = recipe.average.decay, list(model.parameters())
        optimizer.register_step_post_hook(lambda *_: average(optimizer, parameters, decay))
    return optimizer


def _adam(groups: list[dict[str, Any]], rule: Adam) -> torch.optim.Adam:
    """Return torch's fused Adam or AdamW, capturable in a CUDA graph on a GPU."""
    kind = torch.optim.AdamW if isinstance(rule, AdamW) else torch.optim.Adam
    on_gpu = any(parameter.is_cuda for group in groups for parameter in group["params"])
    return kind(
        groups,
        lr=rule.learning_rate,
        betas=(rule.beta1, rule.beta2),
        eps=rule.epsilon,
        fused=True,
        capturable=on_gpu,
    )


def _sgd(groups: list[dict[str, Any]], rule: SGD) -> torch.optim.SGD:
    """Return torch's fused SGD. In the "caffe" convention `set_rate` rescales the velocity when the rate changes."""
    momentum = rule.momentum_at(0)
    for group in groups:
        group["rate_in_velocity"] = rule.convention == "caffe"
    return torch.optim.SGD(
        groups,
        lr=rule.learning_rate,
        momentum=momentum,
        dampening=momentum if rule.convention == "torch7" else 0.0,
        nesterov=rule.nesterov,
        fused=True,
    )


class DiagonalLM(torch.optim.Optimizer):
    """Stochastic diagonal Levenberg-Marquardt (LeCun et al. 1998): weight -= rate / (mu + h) * gradient.

    `set_curvature` sets h, the curvature, before each epoch. h is part of each parameter's optimizer state.
    """

    def __init__(self, groups: list[dict[str, Any]], rule: DiagonalRule) -> None:
        super().__init__(groups, {"lr": rule.learning_rate, "mu": rule.mu, "floor": rule.floor})

    @torch.no_grad()
    def set_curvature(self, terms: Mapping[str, Tensor]) -> None:
        """Set new curvature terms by parameter name, each at least `floor` times the previous term."""
        for group in self.param_groups:
            for name, parameter in zip(group["names"], group["params"], strict=True):
                fresh, state = terms[name].to(parameter), self.state[parameter]
                if "curvature" in state:  # in place: a captured graph holds its address
                    torch.maximum(fresh, group["floor"] * state["curvature"], out=state["curvature"])
                else:
                    state["curvature"] = fresh.clone()

    def steps_of(self, group: dict[str, Any]) -> list[Tensor]:
        """Return rate / (mu + h) for each parameter of a group, in the parameter's shape."""
        states = [self.state[parameter] for parameter in group["params"]]
        # A product: torch computes number / tensor as one too, so a tensor rate (in a captured graph) gives the same bits.
        return [(group["mu"] + state["curvature"]).reciprocal() * group["lr"] for state in states]

    def steps(self) -> dict[str, Tensor]:
        """Return rate / (mu + h) for every parameter, by name."""
        groups = self.param_groups
        return {n: step for group in groups for n, step in zip(group["names"], self.steps_of(group), strict=True)}

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Update every parameter that has a gradient."""
        for group in self.param_groups:
            for parameter, size in zip(group["params"], self.steps_of(group), strict=True):
                if parameter.grad is not None:
                    parameter.addcmul_(size, parameter.grad, value=-1)


@torch.no_grad()
def set_rate(optimizer: torch.optim.Optimizer, rate: float, momentum: float) -> None:
    """Set every group's momentum, and its learning rate to `rate` times the group's multiplier.

    Caffe's convention has the rate inside the velocity, torch's has it outside. For Caffe the velocity is therefore
    scaled by old / new rate, so that the next update equals Caffe's.
    """
    for group in optimizer.param_groups:
        new, old = rate * group["multiplier"], group["rate"]
        if "momentum" in group:
            group["momentum"] = momentum
        if new == old:
            continue
        if group.get("rate_in_velocity"):
            states = (optimizer.state.get(parameter, {}) for parameter in group["params"])
            velocities = [state["momentum_buffer"] for state in states if state.get("momentum_buffer") is not None]
            if velocities:
                torch._foreach_mul_(velocities, old / new)
        group["rate"] = new
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(new)
        else:
            group["lr"] = new


@torch.no_grad()
def bound_norms(bounded: list[tuple[nn.Parameter, float]]) -> None:
    """Scale the weights of each unit (a row or a filter) down to its norm bound, as pylearn2 does."""
    for parameter, bound in bounded:
        norms = parameter.flatten(1).norm(dim=1).view(-1, *[1] * (parameter.ndim - 1))
        parameter.mul_(norms.clamp(max=bound) / (norms + 1e-7))


@torch.no_grad()
def average(optimizer: torch.optim.Optimizer, parameters: list[nn.Parameter], decay: float) -> None:
    """Update the exponential moving average of each parameter.

    The averages are optimizer state, as the velocity is. A checkpoint therefore holds them, and a captured graph
    updates them.
    """
    states = [optimizer.state[parameter] for parameter in parameters]
    if "average" in states[0]:
        torch._foreach_lerp_([state["average"] for state in states], [p.detach() for p in parameters], 1 - decay)
    else:
        for state, parameter in zip(states, parameters, strict=True):
            state["average"] = parameter.detach().clone()


@torch.no_grad()
def averaged(model: nn.Module, optimizer: torch.optim.Optimizer) -> nn.Module:
    """Return a copy of the network with the averaged weights; before the first update, the network itself."""
    if "average" not in optimizer.state[next(model.parameters())]:
        return model
    twin = copy.deepcopy(model)
    for own, parameter in zip(twin.parameters(), model.parameters(), strict=True):
        own.copy_(optimizer.state[parameter]["average"])
    return twin


def set_curvature(
    optimizer: DiagonalLM,
    model: nn.Module,
    spec: ModelSpec,
    data: DeviceSet,
    recipe: Recipe,
    generator: torch.Generator,
) -> None:
    """Measure the curvature on random training images and pass it to the optimizer.

    Raise ValueError if the model's spec has no `curvature`.
    """
    if spec.curvature is None:
        raise ValueError(f"{spec.name}: the optimizer DiagonalLM needs a `curvature` in the model's spec")
    count = min(len(data), recipe.optimizer.images)  # type: ignore[union-attr]
    indices = torch.randperm(len(data), generator=generator)[:count].to(data.labels.device)
    optimizer.set_curvature(spec.curvature(model, data.images(indices), data.labels[indices]))
