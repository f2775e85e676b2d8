"""Convolutions in `fast` on a CPU: beside float64, the choice of each layer, a whole training."""

import copy
import dataclasses
import itertools
import math
import os
import statistics
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from benchmarks.datasets import get_dataset
from benchmarks.records import Job
from runner.data import cache
from runner.training import (
    arithmetic,
    convolution,
    profiles,
    response_norm,
    winograd,
    winograd_columns,
    within_map_norm,
)
from runner.training.batches import DeviceSet, Prepared, prepare
from runner.training.checkpoint import Checkpoint
from runner.training.convolution import Shape
from runner.training.loop import Hooks, Stopped, train
from runner.training.setup import Setup
from runner.worker.record import environment as environment_of
from zoo import load_models
from zoo.cudaconvnet import WithinMapNorm

MODELS = load_models()
CPU, LAST = torch.device("cpu"), torch.channels_last
# Relative errors (norms) of a layer's output and gradients against float64. Torch's own stay below 1e-6; Winograd's lose
# two to three bits more, since its tiles are sums of terms that are larger than the tile's outputs.
BOUND = 2e-5
PRODUCT_BOUND = 2e-6  # of a matrix product
COLUMNS_BOUND = 1e-5  # of Winograd along columns: a tile is longer, but only one transform follows another
SHARE_OF_LARGEST = 1e-4  # the largest error of a single value, as a share of the largest value


def shapes_of_the_zoo() -> list[Shape]:
    """Every shape for which there is another way than torch's, once; with a bias and a gradient by the input."""
    shapes = set()
    for spec in MODELS.values():
        for dataset, variant in spec.variants.items():
            with torch.device("meta"):
                model = variant.build()
                images = torch.zeros(2, *get_dataset(dataset).shape)
            layout = torch.channels_last if spec.channels_last_on_cpu else torch.contiguous_format
            shapes.update(arithmetic.shapes_of(model, images, layout).values())
    whole = {dataclasses.replace(shape, bias=True, input_gradient=True) for shape in shapes if isinstance(shape, Shape)}
    return sorted(whole, key=str)


def layout_of(shape: Shape) -> torch.memory_format:
    return torch.channels_last if shape.channels_last else torch.contiguous_format


def tensors_of(shape: Shape, batch: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None, torch.Tensor]:
    """Images, weights, bias and the output's gradient of a shape, float32."""
    generator = torch.Generator().manual_seed(0)
    layout = layout_of(shape)
    c, height, width = shape.images
    x = torch.randn(batch, c, height, width, generator=generator).contiguous(memory_format=layout)
    weight = torch.randn(shape.maps, c, shape.kernel, shape.kernel, generator=generator)
    weight = weight.div_(math.sqrt(weight[0].numel())).contiguous(memory_format=layout)
    bias = torch.randn(shape.maps, generator=generator) if shape.bias else None
    gradient = torch.randn(batch, shape.maps, *shape.output, generator=generator).contiguous(memory_format=layout)
    return x, weight, bias, gradient


def errors(shape: Shape, ways: str, batch: int = 2) -> dict[str, tuple[float, float]]:
    """The relative error in norm, and the largest as a share of the largest value, of output and gradients."""
    x, weight, bias, gradient = tensors_of(shape, batch)

    def run(double: bool) -> dict[str, torch.Tensor]:
        inputs = [part.double() if double else part.clone() for part in (x, weight, bias) if part is not None]
        inputs = [part.requires_grad_() for part in inputs]
        if double:
            output = F.conv2d(*inputs, stride=shape.stride, padding=shape.padding)
        else:
            own = (*inputs, None)[:3]
            output = convolution.Convolution.apply(*own, (shape.stride, shape.padding, ways, layout_of(shape)))
        gradients = torch.autograd.grad(output, inputs, gradient.double() if double else gradient)
        return dict(zip(("output", "input", "weights", "bias"), (output, *gradients), strict=False))

    truth, ours = run(double=True), run(double=False)
    return {
        name: (
            ((ours[name] - exact).norm() / exact.norm()).item(),
            ((ours[name] - exact).abs().max() / exact.abs().max()).item(),
        )
        for name, exact in truth.items()
    }


def too_far(shape: Shape) -> list[str]:
    """What of a shape lies further from float64 than the bounds, in each way that isn't torch's."""
    wrong = []
    for letter, bound in (("w", BOUND), ("c", COLUMNS_BOUND), ("m", PRODUCT_BOUND)):
        ways = "".join(letter if letter in shape.ways(operation) else "t" for operation in range(3))
        if ways != "ttt":
            for name, (norm, largest) in errors(shape, ways).items():
                LARGEST[letter] = max(LARGEST.get(letter, (0.0, "")), (norm, f"{shape}, {name}"))
                if norm > bound or largest > SHARE_OF_LARGEST:
                    wrong.append(f"{shape} {ways}, {name}: {norm:.1e}, {largest:.1e}")
    return wrong


LARGEST: dict[
    str, tuple[float, str]
] = {}  # the largest relative error in norm by the letter of the way, and whose it is
COMMON = [  # NiN's, ALL-CNN-C's, cuda-convnet's, VGG-16's smallest, LeNet's, a first layer and a stride
    Shape((96, 16, 16), 192, 5, 1, 2, True, True, True),
    Shape((192, 8, 8), 192, 3, 1, 1, True, True, True),
    Shape((96, 32, 32), 96, 3, 1, 1, True, True, True),
    Shape((192, 8, 8), 192, 3, 1, 0, True, True, True),
    Shape((32, 16, 16), 32, 5, 1, 2, True, True, True),
    Shape((512, 2, 2), 512, 3, 1, 1, False, False, True),
    Shape((6, 14, 14), 16, 5, 1, 0, True, True, True),
    Shape((3, 32, 32), 192, 5, 1, 2, True, True, False),
    Shape((96, 32, 32), 96, 3, 2, 1, True, True, True),
    Shape((192, 8, 8), 10, 1, 1, 0, True, True, True),
]


OFFERED = [  # the ways of COMMON's shapes: forward, gradient by the input, gradient by the weights
    *["twm tw twm"] * 4,
    "twcm twc twcm",
    "twm tw twm",
    "twcm twc twcm",
    "twm t twm",
    "tm t tm",
    "tm tm tm",
]


@pytest.mark.parametrize(("shape", "offered"), list(zip(COMMON, OFFERED, strict=True)), ids=str)
def test_every_way_is_near_float64(shape, offered):
    assert " ".join(shape.ways(operation) for operation in range(3)) == offered
    assert not too_far(shape)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_every_way_is_near_float64_for_every_shape_of_the_zoo():
    shapes = shapes_of_the_zoo()
    assert {shape.kernel for shape in shapes if "w" in shape.ways(0)} == {3, 5}
    assert len([shape for shape in shapes if "w" in shape.ways(0)]) > 40
    wrong = [line for shape in shapes for line in too_far(shape)]
    print(len(shapes), "shapes; the largest relative errors:", LARGEST)
    assert not wrong


@pytest.mark.parametrize(("kernel", "m"), [(r, m) for r, sides in winograd.TILES.items() for m in sides])
def test_the_matrices_give_the_exact_convolution(kernel, m):
    """Of whole numbers, in float64: A^T ((G w) * (B^T x)) is the correlation of x with w."""
    matrices = winograd.transforms(m, kernel)
    x, w = torch.arange(1.0, matrices.n + 1).double() ** 2, torch.arange(1.0, kernel + 1).double()
    data, kernels, output = (part.double() for part in (matrices.data, matrices.kernel, matrices.output))
    expected = F.conv1d(x.view(1, 1, -1), w.view(1, 1, -1)).flatten()
    torch.testing.assert_close(output @ ((kernels @ w) * (data @ x)), expected, rtol=1e-6, atol=1e-5)


@pytest.mark.parametrize("channels_last", [True, False])
@pytest.mark.parametrize(("side", "padding", "kernel"), [(9, 0, 3), (11, 1, 5), (7, 2, 5), (6, 1, 3), (5, 0, 5)])
def test_sides_that_no_tile_divides_and_batches_of_several_chunks(side, padding, kernel, channels_last, monkeypatch):
    monkeypatch.setattr(winograd, "CHUNK_BYTES", 2**15)
    monkeypatch.setattr(winograd_columns, "CHUNK_BYTES", 2**15)
    monkeypatch.setattr(convolution, "PATCH_BYTES", 2**14)
    shape = Shape((3, side, side + 3), 4, kernel, 1, padding, True, channels_last, True)
    for ways in ("www", "ccc", "mtm", "mwc"):
        for name, (norm, _) in errors(shape, ways, batch=7).items():
            assert norm < BOUND, (ways, name)


def test_threads_share_the_images_and_change_no_bit():
    from runner.training import tiles  # not above: `peak_megabytes` measures `reference` without numba

    generator = torch.Generator().manual_seed(0)
    images, bias = torch.randn(5, 7, 9, 3, generator=generator), torch.randn(3, generator=generator)
    tiling = winograd.tiling_of(3, 7, 9)
    matrices, outcomes, threads = tiling.matrices, [], torch.get_num_threads()
    try:
        for number in (1, 3):
            torch.set_num_threads(number)
            cut, whole, strips = tiling.empty(5, 3), torch.empty(5, 7, 9, 3), torch.empty(matrices.n, 5, 2, 11, 3)
            tiles.split(images, matrices.data, matrices.m, 1, cut)
            tiles.join(cut, matrices.output, bias, whole)
            tiles.split_columns(images, matrices.data, matrices.m, 1, strips)
            outcomes.append((cut, whole, strips))
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(one, several) for one, several in zip(*outcomes, strict=True))


def test_a_tile_is_chosen_by_its_products():
    """6x6 outputs of a 3x3 kernel are four tiles of 3x3, 100 products, not four of 4x4, 144."""
    sides = {(3, 32): 4, (3, 8): 4, (3, 6): 3, (3, 2): 2, (5, 16): 4, (5, 8): 4, (3, 7): 4}
    assert {key: winograd.tile_side(key[0], key[1], key[1]) for key in sides} == sides


# --- the choice -------------------------------------------------------------------------------------------------------------


def test_torch_s_own_stays_where_no_other_gains_enough():
    enough = [{"t": [1.0, 1.0], "w": [0.95, 0.95]}, {"t": [1.0, 1.0], "w": [0.5, 0.5], "m": [0.4, 0.4]}, {"t": []}]
    assert arithmetic.quickest(enough) == "tmt"


def test_a_way_that_loses_one_turn_is_not_chosen():
    """The machine was slow while torch had its first turn: that says nothing for the other way."""
    assert arithmetic.quickest([{"t": [3.0, 1.5], "w": [1.0, 1.6]}]) == "t"
    assert arithmetic.quickest([{"t": [3.0, 1.5], "w": [1.0, 1.3]}]) == "w"


@pytest.mark.parametrize("text", ["conv1", "conv1=", "conv1=wwx", "=www", "conv1=www  conv2=www", ""])
def test_a_text_that_is_no_choice_is_refused(text):
    with pytest.raises(ValueError, match="not a choice"):
        arithmetic.parsed(text)


def test_a_choice_is_read_back():
    assert arithmetic.parsed("a.conv=wtm b=ttw") == {"a.conv": "wtm", "b": "ttw"}
    assert arithmetic.parsed(profiles.TORCH) == {}


def test_a_choice_for_every_layer_of_any_network_fits_into_a_record():
    """GoogLeNet has 57 convolutions. A text that no record can hold would end a training after its last epoch."""
    for name, spec in MODELS.items():
        for variant in list(spec.variants.values())[:1]:
            with torch.device("meta"):
                modules = variant.build().named_modules()
            longest = " ".join(f"{layer}=www" for layer, module in modules if type(module) in arithmetic.KINDS)
            environment = environment_of(CPU, profiles.resolve("fast", CPU) | {"arithmetic": longest})
            assert environment.precision["arithmetic"] == longest, name


@pytest.mark.parametrize("choice", ["3=www", "0=w", "nowhere=www", "1=m"])
def test_a_choice_of_another_network_is_refused(choice):
    with pytest.raises(ValueError, match="does not fit this network"):
        arithmetic.install(network(), choice, LAST)


@pytest.mark.parametrize("rule", [(9, 0.009, 0.75, 1.0), (5, 1e-4, 0.75, 1.0), (4, 0.5, 0.5, 2.0), (3, 1.0, 0.6, 1.0)])
def test_response_normalisation_is_near_float64_in_both_passes(rule, monkeypatch):
    monkeypatch.setattr(response_norm, "PIXELS", 50)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(3, 16, 9, 7, generator=generator).contiguous(memory_format=LAST)
    gradient = torch.randn(3, 16, 9, 7, generator=generator)
    exact, ours = x.double().requires_grad_(), x.clone().requires_grad_()
    truth = F.local_response_norm(exact, *rule)
    output = response_norm.ResponseNorm.apply(ours, *rule)
    assert output.is_contiguous(memory_format=LAST)
    truths = (truth, *torch.autograd.grad(truth, exact, gradient.double()))
    for near, true in zip((output, *torch.autograd.grad(output, ours, gradient)), truths, strict=True):
        assert ((near - true).norm() / true.norm()).item() < 2e-6


@pytest.mark.parametrize("rule", [(5e-5, 0.75, 3), (0.5, 0.75, 5), (0.1, 0.6, 3)])
def test_normalisation_within_maps_is_near_float64_in_both_passes(rule, monkeypatch):
    monkeypatch.setattr(within_map_norm, "CHUNK_VALUES", 150)
    generator = torch.Generator().manual_seed(0)
    x = 30 * torch.randn(5, 4, 9, 2, generator=generator).contiguous(memory_format=LAST)
    assert len(within_map_norm.chunks(x)) == 3
    gradient = torch.randn(5, 4, 9, 2, generator=generator)
    exact, ours = x.double().requires_grad_(), x.clone().requires_grad_()
    truth = WithinMapNorm(*rule)(exact)
    output = within_map_norm.WithinMapNormalisation.apply(ours, *rule)
    truths = (truth, *torch.autograd.grad(truth, exact, gradient.double()))
    for near, true in zip((output, *torch.autograd.grad(output, ours, gradient)), truths, strict=True):
        assert ((near - true).norm() / true.norm()).item() < PRODUCT_BOUND


@pytest.mark.parametrize(
    ("layer", "letter", "function"),
    [
        (WithinMapNorm(scale=0.1), "s", "WithinMapNormalisation"),
        (nn.LocalResponseNorm(5, alpha=0.1), "m", "ResponseNorm"),
    ],
)
def test_a_swapped_normalisation_is_the_module_s(layer, letter, function):
    model = nn.Sequential(nn.Conv2d(3, 8, 1), copy.deepcopy(layer)).to(memory_format=LAST)
    x = torch.randn(2, 3, 4, 4).contiguous(memory_format=LAST)
    theirs = model(x)
    arithmetic.install(model, f"1={letter}", LAST)
    ours = model(x)
    assert type(ours.grad_fn).__name__ == f"{function}Backward"
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 8, 5, padding=2), nn.ReLU(inplace=True), nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8),
        nn.Conv2d(8, 8, 3, groups=2), nn.Dropout(0.5), nn.Conv2d(8, 4, (1, 3)), nn.Flatten(), nn.LazyLinear(10),
    )  # fmt: skip


def test_layers_of_one_shape_are_measured_once(monkeypatch):
    model, shapes = nn.Sequential(*(nn.Conv2d(maps, 8, 3, padding=1) for maps in (1, 8, 8))), []
    measured = [{"t": [1.0], "m": [0.5]}] * 3
    monkeypatch.setattr(arithmetic, "measure", lambda shape, batch: shapes.append(shape) or measured)
    monkeypatch.setattr(arithmetic, "whole_gain", lambda *_: 2.0)
    choice = arithmetic.choose(model, torch.randn(2, 1, 8, 8), LAST, [].append)
    assert len(shapes) == len(set(shapes)) == 2
    assert arithmetic.parsed(choice).keys() == {"0", "1", "2"}


def test_a_choice_draws_nothing_and_changes_no_module():
    model, lines = network(), []
    images = torch.randn(4, 1, 8, 8)
    model(images)
    kinds = [type(module) for module in model]
    before = {name: value.clone() for name, value in model.state_dict().items()}
    generator = torch.get_rng_state()
    chosen = arithmetic.choose(model, images, LAST, lines.append)
    assert torch.equal(torch.get_rng_state(), generator)
    assert model.training
    assert len([line for line in lines if "whole network" not in line]) == 2  # neither groups nor oblong kernels
    assert set(arithmetic.parsed(chosen)) <= {"0", "2"}
    arithmetic.install(model, "0=mtm 2=www", LAST)
    after = model.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert [type(module) for module in model] == kinds


@pytest.mark.parametrize(("gain", "choice"), [(0.99, profiles.TORCH), (1.2, "0=ttm 2=ttm")])
def test_layers_that_gain_alone_but_lose_together_stay_torch_s(gain, choice, monkeypatch):
    model, lines, images = network(), [], torch.randn(2, 1, 8, 8)
    model(images)
    monkeypatch.setattr(
        arithmetic, "measure", lambda shape, batch: [{"t": [1.0]}, {"t": [1.0]}, {"t": [1.0], "m": [0.5]}]
    )
    monkeypatch.setattr(arithmetic, "whole_gain", lambda *_: gain)
    assert arithmetic.choose(model, images, LAST, lines.append) == choice
    assert lines[-1].endswith("torch is kept") == (gain < 1)


def test_the_gain_of_the_whole_network_is_measured_on_copies():
    model, images = network(), torch.randn(2, 1, 8, 8)
    model(images)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert 0 < arithmetic.whole_gain(model, images, LAST, "0=mtm 2=www") < 100
    assert all(torch.equal(model.state_dict()[name], value) for name, value in before.items())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_the_layer_that_sees_the_image_needs_no_gradient_by_it():
    shapes = arithmetic.shapes_of(network(), torch.zeros(2, 1, 8, 8), LAST)
    assert [shape.input_gradient for shape in shapes.values()] == [False, True]


def test_a_swapped_network_is_the_network():
    """Output, gradients of every parameter, and the output in evaluation, beside torch's own."""
    images, labels = torch.randn(6, 1, 8, 8), torch.randint(10, (6,))
    outcomes = []
    for choice in (profiles.TORCH, "0=mtm 2=www"):
        model = network().eval()
        model(images)
        torch.manual_seed(1)
        nn.init.normal_(model[-1].weight, 0, 0.1)
        arithmetic.install(model, choice, LAST)
        loss = F.cross_entropy(model(images), labels)
        loss.backward()
        outcomes.append([loss.detach(), *(parameter.grad for parameter in model.parameters())])
    for theirs, ours in zip(*outcomes, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
    assert not torch.equal(outcomes[0][1], outcomes[1][1])  # or nothing was swapped


def test_a_copy_of_a_swapped_network_has_its_own_weights():
    """Averaged weights are evaluated in a copy."""
    model = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.LocalResponseNorm(3)).to(memory_format=LAST)
    arithmetic.install(model, "0=www 1=m", LAST)
    twin = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.zero_()
        images = torch.randn(2, 3, 8, 8).contiguous(memory_format=LAST)
        assert not twin(images).any()
        assert model(images).any()


# --- a training --------------------------------------------------------------------------------------------------------------

CHOICE = "conv1=wtw conv2=www conv3=www cccp1=mmm"


def noise(dataset, images):
    """Random images and labels of a data set's shape, for training and test alike."""
    generator, facts = torch.Generator().manual_seed(3), get_dataset(dataset)
    pixels = torch.rand(images, *facts.shape, generator=generator)
    labels = torch.randint(facts.classes, (images,), generator=generator)
    part = DeviceSet(pixels, labels, None, torch.zeros(facts.shape[0], 1, 1))
    return Prepared(part, part)


def run(choice, model="nin", dataset="digits", data=None, profile="fast", resume=None, stop_after=None, **changes):
    """Train on few images (noise where `data` is None).

    Return the result, the last checkpoint, the log, and after each update the epoch's totals: loss, wrong, images.
    """
    spec = MODELS[model]
    recipe = dataclasses.replace(spec.variants[dataset].recipe, **({"epochs": 2, "batch_size": 8} | changes))
    job = Job(dataset=dataset, model=model, revision=1, recipe=recipe.to_dict(), profile=profile, seed=0)
    switches = {**profiles.resolve(profile, CPU, spec.channels_last_on_cpu), "arithmetic": choice}
    saved, lines, totals = [], [], []
    hooks = Hooks(
        stop=lambda: stop_after is not None and len(totals) >= stop_after,
        save=lambda state: saved.append(dataclasses.replace(state, model=dict(state.model))),
        progress=lambda facts: None,
        log=lines.append,
        watch=lambda _left, sums: totals.append(sums.tolist()),
    )
    data = data or noise(dataset, 24)
    try:
        trained = train(Setup(job, spec, recipe, data, CPU, switches), "0" * 32, hooks, resume=resume)
    except Stopped:
        trained = None
    return trained, saved[-1], lines, totals


def never_torch(model, dataset):
    """The choice that replaces every operation for which there is another way, by the first one offered, whatever it costs.

    What is measured depends on the machine and the minute. It may be torch everywhere, and torch would be compared with itself.
    """
    spec = MODELS[model]
    layout = LAST if spec.channels_last_on_cpu else torch.contiguous_format
    with torch.device("meta"):
        shapes = arithmetic.shapes_of(
            spec.variants[dataset].build(), torch.zeros(2, *get_dataset(dataset).shape), layout
        )
    ways = {name: [shape.ways(i) for i in range(len(shape.operations))] for name, shape in shapes.items()}
    letters = {name: "".join(offered[:2][-1] for offered in each) for name, each in ways.items()}
    return " ".join(f"{name}={each}" for name, each in letters.items() if set(each) != {"t"})


def test_a_training_measures_once_logs_and_tells_its_choice():
    trained, checkpoint, lines, _ = run(profiles.MEASURED)
    assert trained.switches["arithmetic"] == checkpoint.precision["arithmetic"] != profiles.MEASURED
    arithmetic.parsed(trained.switches["arithmetic"])
    assert sum(line.startswith("arithmetic of ") for line in lines) >= 3


def test_a_resumed_training_keeps_its_choice_and_its_bits(tmp_path, monkeypatch):
    whole, *_ = run(CHOICE)
    _, checkpoint, *_ = run(CHOICE, stop_after=2)
    checkpoint.save(tmp_path / "checkpoint.pt")
    monkeypatch.setattr(arithmetic, "choose", lambda *_: pytest.fail("measured again"))
    resumed, *_ = run(profiles.MEASURED, resume=Checkpoint.load(tmp_path / "checkpoint.pt"))
    assert resumed.switches["arithmetic"] == CHOICE
    for name, value in whole.weights.items():
        assert torch.equal(value, resumed.weights[name]), name


def test_reference_never_swaps(monkeypatch):
    for function in (convolution.Convolution, response_norm.ResponseNorm):
        monkeypatch.setattr(function, "apply", lambda *_: pytest.fail("not torch's own arithmetic"))
    monkeypatch.setattr(arithmetic, "choose", lambda *_: pytest.fail("measured"))
    assert profiles.resolve("reference", CPU)["arithmetic"] == profiles.TORCH
    assert profiles.resolve("reference", torch.device("cuda"))["arithmetic"] == profiles.TORCH
    assert profiles.resolve("fast", torch.device("cuda"))["arithmetic"] == profiles.TORCH
    trained, _, lines, _ = run(profiles.TORCH, profile="reference")
    assert trained.switches["arithmetic"] == profiles.TORCH
    assert not [line for line in lines if line.startswith("arithmetic of ")]


def test_hand_written_passes_give_the_same_bits_in_both_profiles():
    same = {"model": "lenet5", "dataset": "mnist", "epochs": 1, "batch_size": 1, "data": noise("mnist", 12)}
    assert MODELS["lenet5"].has_handwritten_passes(MODELS["lenet5"].variants["mnist"].recipe)
    theirs, *_ = run(profiles.TORCH, profile="reference", **same)
    ours, *_ = run(profiles.MEASURED, **same)
    assert all(torch.equal(value, ours.weights[name]) for name, value in theirs.weights.items())


def losses(totals):
    """The mean loss of each update of an epoch."""
    sums = [[0.0, 0.0, 0.0], *totals]
    return [(after[0] - before[0]) / (after[2] - before[2]) for before, after in itertools.pairwise(sums)]


def test_the_first_losses_of_both_profiles_stay_side_by_side():
    """Six updates of the network that learns: rounding alone tells them apart, and in so small a network only the weights."""
    same = {"data": noise("digits", 48), "epochs": 1}
    theirs, *_, their_totals = run(profiles.TORCH, profile="reference", **same)
    ours, *_, our_totals = run(CHOICE, **same)
    assert any(not torch.equal(value, ours.weights[name]) for name, value in theirs.weights.items())
    assert len(losses(our_totals)) == 6
    assert losses(our_totals) == pytest.approx(losses(their_totals), rel=1e-4)


@pytest.mark.slow
@pytest.mark.realdata
def test_the_first_losses_of_nin_agree_and_in_300_updates_it_learns_in_both_profiles(realdata):
    """On MNIST by the recipe. `-s` prints the table of docs/speed.md.

    Rounding errors grow from update to update, so later losses differ. The third column is `reference` again, from initial
    weights larger by a millionth.
    """
    recipe = MODELS["nin_dropout"].variants["mnist"].recipe
    whole = prepare(cache.load("mnist", realdata), recipe.preprocessing, 0, CPU)
    few = Prepared(whole.train.first(300 * recipe.batch_size), whole.test.first(16))
    same = {"model": "nin_dropout", "dataset": "mnist", "data": few, "batch_size": recipe.batch_size, "epochs": 1}

    def first_losses(choice, **arguments):
        *_, totals = run(choice, **same, **arguments)
        return losses(totals)[:300]

    theirs = first_losses(profiles.TORCH, profile="reference")
    start = tuple((name, kind, value * (1 + 1e-6)) for name, kind, value in recipe.init)
    other = first_losses(profiles.TORCH, profile="reference", init=start)
    ours = first_losses(never_torch("nin_dropout", "mnist"))
    for update in (1, *range(10, 100, 10), *range(100, 301, 50)):
        of = slice(max(0, update - 10), update)  # the mean of ten updates
        means = [statistics.fmean(values[of]) for values in (theirs, ours, other)]
        print(f"| {update} | {means[0]:.4f} | {means[1]:.4f} | {means[2]:.4f} |")
    assert ours != theirs
    assert ours[:20] == pytest.approx(theirs[:20], rel=1e-3)
    for values in (theirs, ours):
        assert statistics.fmean(values[-50:]) < values[0] * 0.7, "the network learns"


def peak_megabytes(model, choice, profile):
    """The peak memory of a process that makes two updates of 64 images."""
    code = (
        "import test_arithmetic as t; from runner.training.memory import peak_resident_bytes; "
        f"t.run({choice!r}, {model!r}, 'cifar10', t.noise('cifar10', 128), {profile!r}, epochs=1, batch_size=64); "
        "print(peak_resident_bytes() / 1e6)"
    )
    here = Path(__file__).parent
    environment = os.environ | {"PYTHONPATH": f"{here.parent}{os.pathsep}{here}"}
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    return float(child.stdout.split()[-1])


@pytest.mark.slow
@pytest.mark.parametrize("model", ["cudaconvnet_26", "nin", "allcnn_c", "googlenet", "vgg16"])
def test_fast_needs_at_most_a_third_more_memory(model):
    """`-s` prints the table of docs/speed.md."""
    theirs = peak_megabytes(model, profiles.TORCH, "reference")
    ours = peak_megabytes(model, never_torch(model, "cifar10"), "fast")
    print(f"| {model} | 64 | {theirs / 1e3:.2f} GB | {ours / 1e3:.2f} GB | {ours / theirs:.2f} |")
    assert ours < theirs * 4 / 3
