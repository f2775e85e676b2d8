"""The networks of LeCun et al. 1998: printed sizes, and hand-written passes compared with autograd."""

import copy
import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks.records import Job
from runner.training import profiles
from runner.training.batches import DeviceSet, Prepared
from runner.training.checkpoint import Checkpoint
from runner.training.loop import Hooks, Stopped, train
from runner.training.setup import Setup
from zoo import handwritten, lecun
from zoo import lecun_networks as networks
from zoo.anatomy import layers_of
from zoo.recipe import Moment
from zoo.spec import initialise

IMAGES = 6


def digits_like(count=IMAGES, seed=0):
    """Return preprocessed images, background with a spot of ink, and labels."""
    generator = torch.Generator().manual_seed(seed)
    ink = torch.rand(count, 1, 28, 28, generator=generator) * (torch.rand(count, 1, 28, 28, generator=generator) < 0.3)
    ink[..., :4, :] = 0
    ink[..., -4:, :] = 0
    return ink * 1.275 - 0.1, torch.randint(10, (count,), generator=generator)


def start(model, seed=1):
    """Set weights uniform in +-1/sqrt(fan-in) and all other parameters away from 0, so that no term vanishes."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            bound = parameter[0].numel() ** -0.5 if parameter.ndim > 1 else 0.6
            parameter.copy_((2 * torch.rand(parameter.shape, generator=generator) - 1) * bound)
    return model


NETWORKS = {
    "lenet5": (networks.LeNet5, networks.handwritten_lenet5, networks.distance_loss),
    "lenet5_eq9": (networks.LeNet5, lambda: networks.handwritten_lenet5(0.1), networks.rejecting_loss),
    "lenet1": (networks.LeNet1, networks.handwritten_lenet1, networks.squared_loss),
    "linear": (
        lambda: networks.Perceptron(784, 10),
        lambda: networks.handwritten_perceptron(784, 10),
        networks.squared_loss,
    ),
    "mlp": (
        lambda: networks.Perceptron(784, 30, 20, 10),
        lambda: networks.handwritten_perceptron(784, 30, 20, 10),
        networks.squared_loss,
    ),
}


def steps_for(model, seed=2):
    generator = torch.Generator().manual_seed(seed)
    return {name: 1e-3 * torch.rand(p.shape, generator=generator) for name, p in model.named_parameters()}


@pytest.mark.parametrize("name", NETWORKS)
def test_a_handwritten_update_equals_that_of_autograd(name):
    """Compare with autograd in float64, image by image, up to rounding of float32."""
    build, handwritten_network, loss_of = NETWORKS[name]
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
    handwritten_network().train(model, images, labels, steps, sums)
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
        if not isinstance(layer, networks.RadialBasis):
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
        if isinstance(layer, networks.ScaledTanh):
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
            networks.ScaledTanh(),
            networks.Subsampling(3),
            networks.ScaledTanh(),
        )
        self.c3, self.t3 = networks.TableConvolution(3, self.TABLE, 2), networks.ScaledTanh()
        self.s4, self.t4, self.c5 = networks.Subsampling(5), networks.ScaledTanh(), nn.Linear(20, 4)

    @classmethod
    def handwritten_network(cls):
        layers = (
            handwritten.Convolution("c1", 1, 12, 3, [(0,)] * 3, first=True),
            handwritten.Tanh((4, 3, 25)),
            handwritten.Subsampling("s2", 3, 25),
            handwritten.Tanh((3, 25)),
            handwritten.Convolution("c3", 3, 5, 2, cls.TABLE),
            handwritten.Tanh((4, 5, 4)),
            handwritten.Subsampling("s4", 5, 4),
            handwritten.Tanh((5, 4)),
            handwritten.Dense("c5", 20, 4),
        )
        return handwritten.Network(layers, handwritten.squared_error)


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:FutureWarning")  # torch's own forward mode
@pytest.mark.parametrize("name", ["tiny", "lenet5", "lenet1", "mlp", "linear"])
def test_curvatures_match_the_jacobians_of_the_layers(name):
    build, handwritten_network = (Tiny, Tiny.handwritten_network) if name == "tiny" else NETWORKS[name][:2]
    model = start(build())
    images = torch.rand(2, 1, 12, 12) if name == "tiny" else digits_like(2)[0]
    curvature = handwritten_network().curvature(model, images)
    expected = [layerwise_curvature(copy.deepcopy(model), image) for image in images]
    assert set(curvature) == {name for name, _ in model.named_parameters()}
    for parameter, terms in curvature.items():
        mean = (expected[0][parameter] + expected[1][parameter]) / 2
        assert terms.shape == mean.shape
        assert (mean > 0).any()
        assert torch.allclose(terms.double(), mean, rtol=1e-4, atol=1e-6 * mean.max().item()), parameter


def test_lenet5_has_the_printed_parameters_and_connections():
    """The paper's counts of each layer; Fig. 2's caption and text add up to 60,000 and 340,908."""
    model = networks.LeNet5()
    counts = {name: sum(p.numel() for p in layer.parameters()) for name, layer in model.named_children()}
    printed = {"c1": 156, "s2": 12, "c3": 1516, "s4": 32, "c5": 48_120, "f6": 10_164}
    assert {name: count for name, count in counts.items() if count} == printed
    assert sum(counts.values()) == 60_000
    network = networks.handwritten_lenet5()
    connections = {layer.name: layer.connections for layer in network.layers if layer.size}
    assert connections == {"c1": 122_304, "s2": 5_880, "c3": 151_600, "s4": 2_000, "c5": 48_120, "f6": 10_164}
    assert network.connections + networks.output_vectors().numel() == 340_908


def test_lenet5s_multiply_accumulates_match_its_connections():
    """Connections without the biases', by hand: 28x28 and 10x10 places, 25 weights for each of 6 and 60 pairs of maps."""
    macs = {layer.name: layer.macs for layer in layers_of(networks.LeNet5(), (1, 28, 28)) if layer.macs}
    assert macs == {"c1": 784 * 6 * 25, "c3": 100 * 60 * 25, "c5": 48_000, "f6": 10_080}


def test_lenet1_has_the_parameters_and_connections_of_1989():
    """LeCun et al. 1989 print 98,442 connections and 2,578 parameters; 1998 has 'about 2,600' and '100,000'."""
    model, network = networks.LeNet1(), networks.handwritten_lenet1()
    assert sum(p.numel() for p in model.parameters()) == 2_578
    assert network.connections == 98_442


def test_a_map_of_c3_depends_on_the_maps_of_table_one_only():
    """Table I's columns, as the paper prints them: a cross where a map of C3 (the column) sees a map of S2 (the row)."""
    rows = [
        "X...XXX..XXXX.XX",
        "XX...XXX..XXXX.X",
        "XXX...XXX..X.XXX",
        ".XXX..XXXX..X.XX",
        "..XXX..XXXX.XX.X",
        "...XXX..XXXX.XXX",
    ]
    c3 = start(networks.LeNet5()).c3
    base = c3(torch.zeros(1, 6, 14, 14))
    for seen, row in enumerate(rows):
        images = torch.zeros(1, 6, 14, 14)
        images[0, seen] = 1.0
        changed = (c3(images) - base).abs().sum(dim=(0, 2, 3)) > 0
        assert "".join("X" if change else "." for change in changed.tolist()) == row


def test_the_missing_connections_stay_at_zero_in_training():
    model, network = start(networks.LeNet5()), networks.handwritten_lenet5()
    network.train(model, *digits_like(), steps_for(model), torch.zeros(3, dtype=torch.float64))
    held = sum(part.size for _, _, part in network.parts(network.values))
    assert held == 60_000
    assert len(network.values) == held + (6 * 16 - 60) * 25
    assert np.count_nonzero(network.values) <= held


def test_a_pass_split_anywhere_gives_the_same_bits():
    images, labels = digits_like(9)
    whole, cut = start(networks.LeNet5()), start(networks.LeNet5())
    steps, sums, parts = steps_for(whole), torch.zeros(3, dtype=torch.float64), torch.zeros(3, dtype=torch.float64)
    networks.handwritten_lenet5().train(whole, images, labels, steps, sums)
    for part in (slice(0, 2), slice(2, 3), slice(3, 9)):
        networks.handwritten_lenet5().train(cut, images[part], labels[part], steps, parts)
    assert torch.equal(sums, parts)
    assert all(torch.equal(p, q) for p, q in zip(whole.parameters(), cut.parameters(), strict=True))


def test_the_bitmaps_are_those_of_the_paper():
    vectors = networks.output_vectors()
    assert vectors.shape == (10, 84)
    assert set(vectors.unique().tolist()) == {-1.0, 1.0}
    differing = (vectors[:, None] != vectors[None]).sum(dim=2) + 84 * torch.eye(10, dtype=torch.int64)
    assert differing.min() == 12
    assert (differing == 12).nonzero().tolist() == [[6, 8], [8, 6]]
    one = ["".join("#" if v > 0 else "." for v in row) for row in vectors[1].view(12, 7).tolist()]
    assert one[:4] == ["...##..", "..###..", ".####..", "...##.."]


def test_the_squashing_function_gives_one_at_one():
    assert networks.ScaledTanh()(torch.tensor([1.0, -1.0])).tolist() == pytest.approx([1.0, -1.0], abs=1e-5)


# --- in the training loop ------------------------------------------------------------------------------------------------

SPECS = {spec.name: spec for spec in lecun.MODELS}


@pytest.fixture
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def trained(spec, path, stop_at=None, resume=None, profile="reference", images=20, epochs=2, watch=None):
    """Train on a few images; the `stop_at`-th call of the stop function returns True."""
    recipe = dataclasses.replace(spec.variants["mnist"].recipe, epochs=epochs)
    data = Prepared(*(DeviceSet(*digits_like(count, seed=count), None) for count in (images, 8)))
    job = Job(dataset="mnist", model=spec.name, revision=1, recipe=recipe.to_dict(), seed=3)
    calls = []

    def stop():
        calls.append(1)
        return len(calls) == stop_at

    hooks = Hooks(stop, lambda state: state.save(path), lambda facts: None, lambda line: None, watch)
    cpu = torch.device("cpu")
    switches = profiles.resolve(profile, cpu, spec.channels_last_on_cpu)
    return train(Setup(job, spec, recipe, data, cpu, switches), "0" * 32, hooks, resume=resume)


def curve(result):
    names = ("epoch", "learning_rate", "train_loss", "train_error", "test_loss", "wrong")
    return [tuple(row[name] for name in names) for row in result.curve]


def same_bits(one, other):
    assert curve(one) == curve(other)
    assert all(torch.equal(one.weights[name], other.weights[name]) for name in one.weights)


@pytest.mark.parametrize("name", ["lenet5", "lenet1", "mlp300", "linear"])
def test_the_same_bits_whether_stopped_inside_a_pass_or_not(name, tmp_path, monkeypatch, one_thread):
    """Stop after 7 and 14 of 20 updates, between the passes and inside the second, and resume each time."""
    path = tmp_path / "checkpoint.pt"
    through = trained(SPECS[name], path)
    monkeypatch.setattr("runner.training.step.UPDATES_A_CALL", 7)
    resume, places = None, []
    for stop_at in (2, 2, 2, 2):
        with pytest.raises(Stopped):
            trained(SPECS[name], path, stop_at, resume)
        resume = Checkpoint.load(path)
        places.append((resume.epoch, resume.step))
    assert places == [(0, 7), (0, 14), (1, 0), (1, 7)]
    same_bits(through, trained(SPECS[name], path, resume=resume))


def test_the_same_bits_after_a_kill_inside_a_pass(tmp_path, monkeypatch, one_thread):
    """A kill leaves an older checkpoint; here a checkpoint is saved after each call of updates."""
    path, kept = tmp_path / "checkpoint.pt", tmp_path / "kept.pt"
    through = trained(SPECS["lenet5"], path)
    monkeypatch.setattr("runner.training.step.UPDATES_A_CALL", 6)
    monkeypatch.setattr("runner.training.loop.CHECKPOINT_SECONDS", 0.0)
    save = Checkpoint.save

    def save_and_keep(state, where):
        save(state, where)
        if (state.epoch, state.step) == (1, 12):
            save(state, kept)

    monkeypatch.setattr(Checkpoint, "save", save_and_keep)
    same_bits(through, trained(SPECS["lenet5"], path))
    same_bits(through, trained(SPECS["lenet5"], path, resume=Checkpoint.load(kept)))


def test_a_watched_training_makes_one_update_at_a_time(tmp_path, one_thread):
    """`runner try` counts its steps by the watch; one call of the hand-written passes makes up to 256 updates."""
    left = []
    watched = trained(
        SPECS["lenet5"], tmp_path / "checkpoint.pt", watch=lambda steps_left, sums: left.append(steps_left)
    )
    assert left == [*range(19, -1, -1)] * 2
    same_bits(watched, trained(SPECS["lenet5"], tmp_path / "checkpoint.pt"))


@pytest.mark.parametrize("name", ["lenet5", "mlp300"])
def test_the_loop_gives_the_curve_of_autograd(name, tmp_path, one_thread):
    """Without the hand-written passes, the curve is equal up to rounding of float32. `fast` equals `reference`."""
    spec = SPECS[name]
    handwritten_run = trained(spec, tmp_path / "checkpoint.pt", images=12)
    by_autograd = trained(dataclasses.replace(spec, handwritten_network=None), tmp_path / "checkpoint.pt", images=12)
    for row, expected in zip(curve(handwritten_run), curve(by_autograd), strict=True):
        assert row == pytest.approx(expected, rel=2e-3)
    same_bits(handwritten_run, trained(spec, tmp_path / "checkpoint.pt", images=12, profile="fast"))


def test_larger_batches_are_trained_by_autograd(tmp_path, one_thread):
    """A larger batch size is trained with one update per batch."""
    spec = SPECS["linear"]
    variant = spec.variants["mnist"]
    larger = dataclasses.replace(variant, recipe=dataclasses.replace(variant.recipe, batch_size=5))
    spec = dataclasses.replace(spec, variants={"mnist": larger})
    result = trained(spec, tmp_path / "checkpoint.pt")
    assert result.trained_images == 40
    assert result.curve[1]["train_loss"] < result.curve[0]["train_loss"]
    without = dataclasses.replace(spec, handwritten_network=None)
    same_bits(result, trained(without, tmp_path / "other.pt"))


def test_the_schedule_and_the_start_are_the_printed_ones():
    """Rates and passes of Section III.C.5; +-2.4 / inputs is the printed start."""
    recipe = SPECS["lenet5"].variants["mnist"].recipe
    rates = [recipe.rate(Moment(epoch, 0, 60_000)) for epoch in range(recipe.epochs)]
    printed = [0.0005] * 2 + [0.0002] * 3 + [0.0001] * 3 + [0.00005] * 4 + [0.00001] * 8
    assert rates == pytest.approx(printed)
    assert (recipe.batch_size, recipe.optimizer.mu, recipe.optimizer.images) == (1, 0.02, 500)
    start = SPECS["lenet5_printed_start"].variants["mnist"]
    inputs = {
        "c1.weight": 25,
        "c3.weight3": 75,
        "c3.weight4": 100,
        "c3.weight6": 150,
        "c5.weight": 400,
        "f6.weight": 120,
    }
    torch.manual_seed(0)
    model = start.build()
    initialise(model, start.recipe)
    for name, count in inputs.items():
        weights = dict(model.named_parameters())[name].detach()
        assert 0.95 * 2.4 / count < weights.abs().max().item() <= 2.4 / count, name


def test_the_loss_of_the_best_constant_answer_is_the_spread_of_the_targets():
    """The best constant answer is the mean of the targets; every step away from it has a larger loss."""
    labels = torch.tensor([0, 0, 1, 7, 7, 7, 8])
    targets = networks.output_vectors()[labels]
    best = networks.RadialBasis(networks.output_vectors())(targets.mean(dim=0).expand(7, 84))
    assert networks.distance_of_constant(labels) == pytest.approx(networks.distance_loss(best, labels).item(), rel=1e-5)
    shares = (2.0 * nn.functional.one_hot(labels, 10) - 1).mean(dim=0)
    assert networks.squares_of_constant(labels) == pytest.approx(
        networks.squared_loss(shares.expand(7, 10), labels).item()
    )
    assert networks.squares_of_constant(labels) < networks.squared_loss(shares.expand(7, 10) + 0.01, labels).item()
