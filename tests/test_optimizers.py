"""The update rules of the recipes against a few lines that follow each source."""

import copy
import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from runner.training.optimizers import DiagonalLM, optimizer_for, set_rate
from zoo.recipe import SGD, Inverse, Moment, Ramp, Recipe, Steps
from zoo.recipe import DiagonalLM as DiagonalRule

BASE = Recipe(
    epochs=4,
    batch_size=1,
    preprocessing="unit",
    optimizer=SGD(learning_rate=0.1, momentum=0.9),
    init=(("*", "constant", 0.1),),
    weight_decay=(("*", 0.01),),
    lr_multipliers=(("*.bias", 2.0),),
)
STEPS = 5  # updates an epoch


def trained(recipe, epochs=4):
    """Return the weights after each update of a linear layer with fixed random gradients, by our optimizer."""
    model = nn.Sequential(nn.Linear(3, 2)).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(0.1)
    optimizer, history = optimizer_for(model, recipe), []
    for update, gradients in enumerate(gradients_of(epochs * STEPS)):
        moment = Moment(*divmod(update, STEPS), STEPS)
        set_rate(optimizer, recipe.rate(moment), recipe.optimizer.momentum_at(moment.epoch))
        for parameter, gradient in zip(model.parameters(), gradients, strict=True):
            parameter.grad = torch.tensor(gradient).view_as(parameter)
        optimizer.step()
        history.append(np.concatenate([p.detach().numpy().ravel() for p in model.parameters()]))
    return np.array(history)


def gradients_of(updates):
    generator = np.random.default_rng(0)
    return [(generator.normal(size=6), generator.normal(size=2)) for _ in range(updates)]


def by_hand(rule, rates, decay=0.01, momentum=lambda epoch: 0.9):
    """Return the same by `rule`, which returns the new velocity and the change of the weights."""
    weights, velocity, history = np.full(8, 0.1), np.zeros(8), []
    multipliers = np.array([1.0] * 6 + [2.0] * 2)
    for update, gradients in enumerate(gradients_of(len(rates))):
        gradient = np.concatenate(gradients) + decay * weights
        velocity, change = rule(velocity, gradient, rates[update] * multipliers, momentum(update // STEPS), update == 0)
        weights = weights + change
        history.append(weights)
    return np.array(history)


def caffe(velocity, gradient, rate, momentum, first):
    velocity = momentum * velocity + rate * gradient
    return velocity, -velocity


def torch7(velocity, gradient, rate, momentum, first):
    velocity = gradient if first else momentum * velocity + (1 - momentum) * gradient
    return velocity, -rate * velocity


def outside(velocity, gradient, rate, momentum, first):
    velocity = momentum * velocity + gradient
    return velocity, -rate * velocity


DROP = [0.1] * 10 + [0.01] * 10


@pytest.mark.parametrize(("convention", "rule"), [("torch", outside), ("caffe", caffe), ("torch7", torch7)])
def test_each_convention_follows_its_sources_rule_across_a_rate_drop(convention, rule):
    optimizer = SGD(learning_rate=0.1, momentum=0.9, convention=convention)
    recipe = dataclasses.replace(BASE, optimizer=optimizer, schedule=Steps(after=(2,), factor=0.1))
    np.testing.assert_allclose(trained(recipe), by_hand(rule, DROP), rtol=1e-9, atol=1e-9)


def test_after_a_rate_drop_the_conventions_differ_by_more_than_rounding():
    assert np.abs(by_hand(caffe, DROP) - by_hand(outside, DROP)).max() > 0.05


def test_a_rate_that_changes_with_each_update_is_inside_caffes_velocity():
    recipe = dataclasses.replace(
        BASE,
        optimizer=SGD(learning_rate=0.1, momentum=0.9, convention="caffe"),
        schedule=Inverse(gamma=0.1, power=0.75),
    )
    rates = [0.1 * (1 + 0.1 * update) ** -0.75 for update in range(20)]
    np.testing.assert_allclose(trained(recipe), by_hand(caffe, rates), rtol=1e-9, atol=1e-9)


def test_a_rising_momentum_is_set_in_each_epoch():
    optimizer = SGD(learning_rate=0.1, momentum=Ramp(0.5, 0.8, epochs=4), convention="caffe")
    expected = by_hand(caffe, [0.1] * 20, momentum=lambda epoch: 0.5 + 0.1 * epoch)
    np.testing.assert_allclose(trained(dataclasses.replace(BASE, optimizer=optimizer)), expected, rtol=1e-9, atol=1e-9)


def test_weight_decay_applies_to_weights_only_or_by_its_rules():
    for decay, expected in (
        (0.5, {"conv.weight": 0.5, "conv.bias": 0.0, "norm.weight": 0.0}),
        ((("*", 0.5),), {"conv.weight": 0.5, "conv.bias": 0.5, "norm.weight": 0.5}),
        ((("*.weight", 0.5), ("norm*", 0.1)), {"conv.weight": 0.5, "conv.bias": 0.0, "norm.weight": 0.1}),
    ):
        recipe = dataclasses.replace(BASE, weight_decay=decay)
        dimensions = {"conv.weight": 4, "conv.bias": 1, "norm.weight": 1}
        assert {name: recipe.decay_of(name, n) for name, n in dimensions.items()} == expected


def test_the_velocity_continues_from_a_checkpoint_just_before_a_drop():
    recipe = dataclasses.replace(BASE, optimizer=SGD(learning_rate=0.1, momentum=0.9, convention="caffe"))
    model = nn.Sequential(nn.Linear(3, 2))
    one = optimizer_for(model, recipe)
    model[0].weight.grad, model[0].bias.grad = torch.ones(2, 3), torch.ones(2)
    one.step()
    other = optimizer_for(model, recipe)
    other.load_state_dict(copy.deepcopy(one.state_dict()))
    for optimizer in (one, other):
        set_rate(optimizer, 0.01, 0.9)
    velocities = [o.state[model[0].weight]["momentum_buffer"] for o in (one, other)]
    assert torch.equal(*velocities)
    assert velocities[0][0, 0] == pytest.approx(10 * (1 + 0.01 * model[0].weight[0, 0].item()), rel=1e-2)


def test_diagonal_steps_are_the_rate_over_mu_plus_a_curvature_with_a_floor():
    rule = DiagonalRule(learning_rate=0.1, mu=0.02, floor=0.5)
    model = nn.Linear(2, 1, bias=False)
    optimizer = optimizer_for(model, dataclasses.replace(BASE, optimizer=rule, weight_decay=0.0))
    assert isinstance(optimizer, DiagonalLM)
    with torch.no_grad():
        model.weight.fill_(1.0)
    expected = np.ones(2)
    for curvature, bounded in (([0.08, 0.0], [0.08, 0.0]), ([0.02, 0.5], [0.04, 0.5]), ([0.0, 0.1], [0.02, 0.25])):
        optimizer.set_curvature({"weight": torch.tensor([curvature])})
        model.weight.grad = torch.tensor([[2.0, -1.0]])
        optimizer.step()
        expected -= 0.1 / (0.02 + np.array(bounded)) * np.array([2.0, -1.0])
        np.testing.assert_allclose(model.weight.detach().numpy()[0], expected, rtol=1e-5)
