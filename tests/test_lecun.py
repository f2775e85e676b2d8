"""The networks of LeCun et al. 1998: sizes as printed, and the passes written out held against autograd."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from zoo import explicit, lecun

IMAGES = 6


def digits_like(count=IMAGES, seed=0):
    """Images of background with a blot of ink, as the preprocessing leaves them, and labels."""
    generator = torch.Generator().manual_seed(seed)
    ink = torch.rand(count, 1, 28, 28, generator=generator) * (torch.rand(count, 1, 28, 28, generator=generator) < 0.3)
    ink[..., :4, :] = 0
    ink[..., -4:, :] = 0
    return ink * 1.275 - 0.1, torch.randint(10, (count,), generator=generator)


def start(model, seed=1):
    """Weights uniform in +-1/sqrt(fan-in), everything else away from 0, so that no term vanishes."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            bound = parameter[0].numel() ** -0.5 if parameter.ndim > 1 else 0.6
            parameter.copy_((2 * torch.rand(parameter.shape, generator=generator) - 1) * bound)
    return model


NETWORKS = {
    "lenet5": (lecun.LeNet5, lecun.explicit_lenet5, lecun.distance_loss),
    "lenet5_eq9": (lecun.LeNet5, lambda: lecun.explicit_lenet5(0.1), lecun.rejecting_loss),
    "lenet1": (lecun.LeNet1, lecun.explicit_lenet1, lecun.squared_loss),
    "linear": (lambda: lecun.Perceptron(784, 10), lambda: lecun.explicit_perceptron(784, 10), lecun.squared_loss),
    "mlp": (
        lambda: lecun.Perceptron(784, 30, 20, 10),
        lambda: lecun.explicit_perceptron(784, 30, 20, 10),
        lecun.squared_loss,
    ),
}


def steps_for(model, seed=2):
    generator = torch.Generator().manual_seed(seed)
    return {name: 1e-3 * torch.rand(p.shape, generator=generator) for name, p in model.named_parameters()}


@pytest.mark.parametrize("name", NETWORKS)
def test_an_update_written_out_is_the_update_of_autograd(name):
    """In float64 by autograd, image after image; the differences are of float32's rounding."""
    build, write_out, loss_of = NETWORKS[name]
    model = start(build())
    reference = copy.deepcopy(model).double()
    images, labels = digits_like()
    steps = steps_for(model)
    expected = [0.0, 0.0]
    for image, label in zip(images.double(), labels, strict=True):
        output = reference(image[None])
        loss = loss_of(output, label[None])
        expected[0] += loss.item()
        expected[1] += int(output.argmax() != label)
        gradients = torch.autograd.grad(loss, list(reference.parameters()))
        with torch.no_grad():
            for (parameter_name, parameter), gradient in zip(reference.named_parameters(), gradients, strict=True):
                parameter -= steps[parameter_name] * gradient
    before = copy.deepcopy(model)
    sums = torch.zeros(3, dtype=torch.float64)
    write_out().train(model, images, labels, steps, sums)
    assert sums[0].item() == pytest.approx(expected[0], rel=1e-5)
    assert sums[1:].tolist() == [expected[1], IMAGES]
    for (parameter_name, p), q, old in zip(
        model.named_parameters(), reference.parameters(), before.parameters(), strict=True
    ):
        moved = (q - old).abs().max().item()
        assert moved > 1e-5, f"{parameter_name} hardly moved: nothing is tested"
        assert (p - q).abs().max().item() < 1e-3 * moved + 1e-7, parameter_name


def layerwise_curvature(model, image):
    """The diagonal Gauss-Newton terms of one image, (1, side, side), in float64, by parameter.

    Only the composition is LeCun's: each layer's squared derivatives times the second derivatives above it. Every derivative
    is autograd's, from a layer's whole Jacobian; of a tanh, from its diagonal.
    """
    layers, inputs, x = [], [], image[None].double()
    for name, layer in model.double().named_children():
        if not isinstance(layer, lecun.RadialBasis):
            x = x.flatten(1) if isinstance(layer, nn.Linear) else x
            layers.append((name, layer))
            inputs.append(x)
            x = layer(x).detach()
    above, terms = torch.full_like(x, 2.0), {}
    for (name, layer), x in zip(reversed(layers), reversed(inputs), strict=True):
        for own, value in layer.named_parameters():

            def by_value(value, layer=layer, own=own, x=x):
                return torch.func.functional_call(layer, {own: value}, (x,))

            way = torch.func.jacfwd if value.numel() < above.numel() else torch.func.jacrev
            squares = way(by_value)(value.detach()).square().reshape(above.numel(), -1)
            terms[f"{name}.{own}"] = (above.reshape(-1) @ squares).view_as(value)
        if len(terms) == len(list(model.parameters())):
            break  # nothing below has parameters
        if isinstance(layer, lecun.ScaledTanh):
            x.requires_grad_()
            (slope,) = torch.autograd.grad(layer(x).sum(), x)
            above = above.view_as(x) * slope.square()
        else:
            squares = torch.func.jacrev(layer)(x).square().reshape(above.numel(), -1)
            above = (above.reshape(-1) @ squares).view_as(x)
    return terms


class Tiny(nn.Module):
    """Two stages of convolution and subsampling over images of 12x12, the second with a table, and a dense layer."""

    TABLE = ((0,), (0, 2), (1, 2), (2,), (0, 1, 2))

    def __init__(self):
        super().__init__()
        self.c1, self.t1, self.s2, self.t2 = (
            nn.Conv2d(1, 3, 3),
            lecun.ScaledTanh(),
            lecun.Subsampling(3),
            lecun.ScaledTanh(),
        )
        self.c3, self.t3 = lecun.TableConvolution(3, self.TABLE, 2), lecun.ScaledTanh()
        self.s4, self.t4, self.c5 = lecun.Subsampling(5), lecun.ScaledTanh(), nn.Linear(20, 4)

    @classmethod
    def written_out(cls):
        layers = (
            explicit.Convolution("c1", 1, 12, 3, [(0,)] * 3, first=True),
            explicit.Tanh((4, 3, 25)),
            explicit.Subsampling("s2", 3, 25),
            explicit.Tanh((3, 25)),
            explicit.Convolution("c3", 3, 5, 2, cls.TABLE),
            explicit.Tanh((4, 5, 4)),
            explicit.Subsampling("s4", 5, 4),
            explicit.Tanh((5, 4)),
            explicit.Dense("c5", 20, 4),
        )
        return explicit.Network(layers, explicit.squared_error)


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:FutureWarning")  # torch's own forward mode
@pytest.mark.parametrize("name", ["tiny", "lenet5", "lenet1", "mlp", "linear"])
def test_curvatures_are_those_of_the_layers_jacobians(name):
    build, write_out = (Tiny, Tiny.written_out) if name == "tiny" else NETWORKS[name][:2]
    model = start(build())
    images = torch.rand(2, 1, 12, 12) if name == "tiny" else digits_like(2)[0]
    curvature = write_out().curvature(model, images)
    expected = [layerwise_curvature(copy.deepcopy(model), image) for image in images]
    assert set(curvature) == {name for name, _ in model.named_parameters()}
    for parameter, terms in curvature.items():
        mean = (expected[0][parameter] + expected[1][parameter]) / 2
        assert terms.shape == mean.shape
        assert (mean > 0).any()
        assert torch.allclose(terms.double(), mean, rtol=1e-4, atol=1e-6 * mean.max().item()), parameter


def test_lenet5_has_the_printed_parameters_and_connections():
    """The paper's counts of each layer; Fig. 2's caption and text add up to 60,000 and 340,908."""
    model = lecun.LeNet5()
    counts = {name: sum(p.numel() for p in layer.parameters()) for name, layer in model.named_children()}
    printed = {"c1": 156, "s2": 12, "c3": 1516, "s4": 32, "c5": 48_120, "f6": 10_164}
    assert {name: count for name, count in counts.items() if count} == printed
    assert sum(counts.values()) == 60_000
    network = lecun.explicit_lenet5()
    connections = {layer.name: layer.connections for layer in network.layers if layer.size}
    assert connections == {"c1": 122_304, "s2": 5_880, "c3": 151_600, "s4": 2_000, "c5": 48_120, "f6": 10_164}
    assert network.connections + lecun.output_vectors().numel() == 340_908


def test_lenet1_has_the_parameters_and_connections_of_1989():
    """LeCun et al. 1989 print 98,442 connections and 2,578 parameters; 1998 has 'about 2,600' and '100,000'."""
    model, network = lecun.LeNet1(), lecun.explicit_lenet1()
    assert sum(p.numel() for p in model.parameters()) == 2_578
    assert network.connections == 98_442


def test_a_map_of_c3_sees_the_maps_of_table_one_and_no_others():
    """Table I's columns, as the paper prints them: a cross where a map of C3 (the column) sees a map of S2 (the row)."""
    rows = [
        "X...XXX..XXXX.XX",
        "XX...XXX..XXXX.X",
        "XXX...XXX..X.XXX",
        ".XXX..XXXX..X.XX",
        "..XXX..XXXX.XX.X",
        "...XXX..XXXX.XXX",
    ]
    c3 = start(lecun.LeNet5()).c3
    base = c3(torch.zeros(1, 6, 14, 14))
    for seen, row in enumerate(rows):
        images = torch.zeros(1, 6, 14, 14)
        images[0, seen] = 1.0
        changed = (c3(images) - base).abs().sum(dim=(0, 2, 3)) > 0
        assert "".join("X" if change else "." for change in changed.tolist()) == row


def test_the_missing_connections_stay_at_zero_in_training():
    model, network = start(lecun.LeNet5()), lecun.explicit_lenet5()
    network.train(model, *digits_like(), steps_for(model), torch.zeros(3, dtype=torch.float64))
    held = sum(part.size for _, _, part in network.parts(network.values))
    assert held == 60_000
    assert len(network.values) == held + (6 * 16 - 60) * 25
    assert np.count_nonzero(network.values) <= held


def test_a_pass_cut_anywhere_gives_the_same_bits():
    images, labels = digits_like(9)
    whole, cut = start(lecun.LeNet5()), start(lecun.LeNet5())
    steps, sums, parts = steps_for(whole), torch.zeros(3, dtype=torch.float64), torch.zeros(3, dtype=torch.float64)
    lecun.explicit_lenet5().train(whole, images, labels, steps, sums)
    for part in (slice(0, 2), slice(2, 3), slice(3, 9)):
        lecun.explicit_lenet5().train(cut, images[part], labels[part], steps, parts)
    assert torch.equal(sums, parts)
    assert all(torch.equal(p, q) for p, q in zip(whole.parameters(), cut.parameters(), strict=True))


def test_the_bitmaps_are_the_papers():
    vectors = lecun.output_vectors()
    assert vectors.shape == (10, 84)
    assert set(vectors.unique().tolist()) == {-1.0, 1.0}
    differing = (vectors[:, None] != vectors[None]).sum(dim=2) + 84 * torch.eye(10, dtype=torch.int64)
    assert differing.min() == 12
    assert (differing == 12).nonzero().tolist() == [[6, 8], [8, 6]]
    one = ["".join("#" if v > 0 else "." for v in row) for row in vectors[1].view(12, 7).tolist()]
    assert one[:4] == ["...##..", "..###..", ".####..", "...##.."]


def test_the_squashing_function_gives_one_at_one():
    assert lecun.ScaledTanh()(torch.tensor([1.0, -1.0])).tolist() == pytest.approx([1.0, -1.0], abs=1e-5)
