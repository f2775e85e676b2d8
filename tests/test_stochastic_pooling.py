"""Stochastic pooling against a loop over single windows."""

import pytest
import torch
from torch import nn

from zoo.stochastic_pooling import StochasticPool


def windows(x):
    """Return the values of each window, (N, C, h, w, 9 or fewer), cut off at the border, as lists."""
    n, c, height, width = x.shape
    sides = [range(0, side - 1, 2) for side in (height, width)]
    return {
        (i, j, a // 2, b // 2): x[i, j, a : a + 3, b : b + 3].flatten()
        for i in range(n)
        for j in range(c)
        for a in sides[0]
        for b in sides[1]
    }


@pytest.mark.parametrize("side", [6, 7])
def test_in_evaluation_each_window_gives_the_mean_weighted_by_its_values(side):
    x = torch.rand(2, 3, side, side).relu()
    x[0, 0] = 0
    out = StochasticPool().eval()(x)
    assert out.shape == (2, 3, 3, 3)
    assert out.shape == nn.MaxPool2d(3, stride=2, ceil_mode=True)(x).shape
    for place, values in windows(x).items():
        expected = (values * values).sum() / values.sum() if values.sum() > 0 else torch.tensor(0.0)
        assert out[place] == pytest.approx(expected.item(), abs=1e-6)


@pytest.mark.parametrize("side", [4, 5])
def test_in_training_values_are_drawn_with_probabilities_proportional_to_them(side):
    torch.manual_seed(0)
    x = torch.rand(1, 1, side, side)
    x[0, 0, 0, 0] = 0.0
    many = StochasticPool().train()(x.expand(20_000, -1, -1, -1))
    for (_, _, a, b), values in windows(x).items():
        drawn = many[:, 0, a, b]
        for value in values:
            share = (drawn == value).float().mean().item()
            assert share == pytest.approx((value / values.sum()).item(), abs=0.012)


def test_windows_draw_independently_and_the_gradient_goes_to_the_drawn_value():
    torch.manual_seed(1)
    x = torch.rand(4, 2, 8, 8, requires_grad=True)
    out = StochasticPool().train()(x)
    out.sum().backward()
    chosen = torch.zeros_like(x)
    for (i, j, a, b), values in windows(x.detach()).items():
        position = int((values == out[i, j, a, b]).nonzero()[0, 0])
        width = min(3, 8 - 2 * b)
        chosen[i, j, 2 * a + position // width, 2 * b + position % width] += 1
    assert torch.equal(x.grad, chosen)
    again = StochasticPool().train()(x)
    assert 0.3 < (again != out).float().mean().item() < 1


def test_a_window_of_zeros_gives_zero():
    x = torch.zeros(1, 1, 4, 4)
    assert not StochasticPool().train()(x).any()
    assert not StochasticPool().eval()(x).any()
