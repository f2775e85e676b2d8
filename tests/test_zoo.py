"""Contract tests over every declared model: a new model is tested without a new test."""

import copy
import functools
import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from helpers import models_of_every_kind
from torch import nn

from benchmarks.datasets import get_dataset
from benchmarks.suites import SUITES
from runner.reporting.cards import card_json, card_of
from runner.reporting.digests import batch, few_steps, images_for, initialised_model
from runner.submit.plan import make_jobs
from runner.training.optimizers import optimizer_for
from runner.worker.record import weights_sha256
from zoo import load_models
from zoo.alexnet import alexnet
from zoo.anatomy import Unfilled, agrees, count_parameters, layers_of, take_apart
from zoo.conv import LocallyConnected
from zoo.googlenet import small
from zoo.nin import CIFAR10, MNIST, RELEASED, MaskingDropout, nin
from zoo.recipe import SGD, Moment, recipe_from
from zoo.spec import initialise

MODELS = load_models()
KINDS = models_of_every_kind()
LARGE = {"googlenet", "maxout_augmentation", "vgg16"}  # an update of their many millions of weights takes a second
VARIANTS = [pytest.param(s, d, id=f"{d}/{s.name}") for s in MODELS.values() for d in s.variants]


def smallest(spec):
    """The data set with the smallest images of those that a model is trained on; None where there is none."""
    return min(spec.variants, key=lambda name: math.prod(get_dataset(name).shape), default=None)


@functools.cache
def card(name):
    """A model's card, computed once for the tests that read it."""
    return card_of(MODELS[name])


# Each model once: for what a data set can't change.
SMALLEST = [
    pytest.param(s, smallest(s), id=f"{smallest(s)}/{s.name}", marks=[pytest.mark.slow] * (s.name not in KINDS))
    for s in MODELS.values()
    if s.variants
]
ANATOMIES = [pytest.param(s, d, id=f"{d}/{s.name}") for s in MODELS.values() for d in s.anatomy]
DIGESTS = Path(__file__).with_name("digests")


@pytest.mark.parametrize(("spec", "dataset"), VARIANTS)
def test_networks_have_the_declared_parameters_and_output_shape(spec, dataset):
    facts, declared = get_dataset(dataset), spec.variants[dataset].parameters
    with torch.device("meta"):  # shapes and types alone
        model, images = spec.variants[dataset].build().eval(), torch.zeros(2, *facts.shape)
    counted = count_parameters(model)
    assert counted == declared, f"zoo/: {spec.name} on {dataset} declares parameters={declared:,}, it has {counted:,}"
    output = model(images)
    assert output.shape == (2, facts.classes), (
        "logits for each class of the data set are expected, in evaluation one tensor"
    )
    assert output.dtype == torch.float32


@pytest.mark.parametrize(("spec", "dataset"), SMALLEST)
def test_every_parameter_gets_a_gradient_and_the_loss_falls_along_it(spec, dataset):
    """With small steps and the same dropout mask, the loss on one batch falls, whatever the recipe."""
    model = initialised_model(spec, dataset).train()
    x, y = batch(dataset, max(2, images_for(spec.name, dataset) // 2))
    losses = []
    for step in range(3):
        torch.manual_seed(1)
        loss = spec.loss(model(x), y)
        losses.append(loss.item())
        if step < 2:
            model.zero_grad()
            loss.backward()
            without = [name for name, p in model.named_parameters() if p.grad is None]
            assert not without, f"{spec.name}: no gradient reaches {', '.join(without)}: is it used in forward?"
            with torch.no_grad():
                gradients = [p.grad for p in model.parameters()]
                length = sum(g.square().sum() for g in gradients)
                for p, g in zip(model.parameters(), gradients, strict=True):
                    p -= 0.005 * loss / length * g  # to first order, half a percent of the loss
    assert losses[0] > losses[1] > losses[2], f"{spec.name}: the loss doesn't fall along its gradient: {losses}"


@pytest.mark.parametrize(("spec", "dataset"), SMALLEST)
def test_evaluation_is_deterministic_and_independent_of_the_batch(spec, dataset):
    """With weights that tell images apart: some recipes start so small that every output is nearly 0."""
    model = initialised_model(spec, dataset).eval()
    torch.manual_seed(1)
    for parameter in model.parameters():
        if parameter.ndim > 1:
            nn.init.normal_(parameter, 0, (2 / parameter[0].numel()) ** 0.5)
    x, _ = batch(dataset, 2)
    with torch.no_grad():
        whole = model(x)
        assert torch.equal(whole, model(x))
        difference = (whole[0] - whole[1]).abs().max()
        assert difference > 1e-5 * whole.abs().max()
        assert (whole[:1] - model(x[:1])).abs().max() < 1e-3 * difference


@pytest.mark.parametrize(("spec", "dataset"), SMALLEST)
def test_state_dict_round_trip(spec, dataset):
    model = initialised_model(spec, dataset)
    with torch.device("meta"):
        other = spec.variants[dataset].build()
    other.to_empty(device="cpu")
    other.load_state_dict(model.state_dict())
    assert weights_sha256(dict(other.state_dict())) == weights_sha256(dict(model.state_dict()))


def updates_alike(recipe, other):
    """Whether two recipes give the same first updates: what differs shapes the images or comes later."""
    later = ("epochs", "batch_size", "schedule", "preprocessing", "augmentation")
    return replace(recipe, **{name: getattr(other, name) for name in later}) == other


def matches_the_digest(spec, dataset, count):
    """Compare the initial weights and the first `count` losses with those of the digest."""
    file = DIGESTS / f"{spec.name}.json"
    held = json.loads(file.read_text()).get(dataset) if file.exists() else None
    command = f"run: runner check {spec.name}"
    assert held is not None, f"no digest for {dataset}/{spec.name}: {command}"
    assert held["revision"] == spec.variants[dataset].revision, f"revision changed: {command}"
    start, losses = few_steps(spec, dataset, losses=count)
    assert start == pytest.approx(held["mean_magnitude"], rel=1e-4), "initial weights changed: raise the revision"
    assert losses[0] == pytest.approx(held["losses"][0], rel=1e-4), "the network changed: raise the revision"
    assert losses == pytest.approx(held["losses"][:count], rel=1e-3), "training changed: raise the revision"


def trains_like_the_smallest(spec, dataset):
    """Whether a data set changes nothing of the first updates, and is not the model's smallest one."""
    first = smallest(spec)
    return dataset != first and updates_alike(spec.variants[dataset].recipe, spec.variants[first].recipe)


# The others are compared by the slow test of the whole digests.
DIGESTED = [
    pytest.param(s, d, id=f"{d}/{s.name}")
    for s in MODELS.values()
    for d in s.variants
    if not trains_like_the_smallest(s, d)
]


@pytest.mark.parametrize(("spec", "dataset"), DIGESTED)
def test_the_trained_function_matches_the_digest_of_its_revision(spec, dataset):
    """Raise the variant's revision if you change the trained function; `runner check` then writes the new digest.

    The network is in the first loss, the first update in the second, momentum in the third. Updates are seen in one small
    model of each kind; those of the others are made by the same rules from the recipe, which the card of a model holds.
    """
    updated = spec.name in KINDS - LARGE and dataset == smallest(spec)
    matches_the_digest(spec, dataset, 3 if updated else 1)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, spec in MODELS.items() if spec.variants], ids="{} whole".format)
def test_the_whole_digest_is_matched(name):
    for dataset in MODELS[name].variants:
        matches_the_digest(MODELS[name], dataset, 3)


@pytest.mark.parametrize("spec", MODELS.values(), ids=MODELS)
def test_suites_exist_and_have_a_recipe_for_the_model(spec):
    for name in spec.suites:
        assert name in SUITES, f"{spec.name} declares the suite '{name}', which benchmarks/suites.py doesn't have"
        assert set(SUITES[name].datasets) & set(spec.variants), f"{spec.name} is in '{name}' without a recipe for it"


@pytest.mark.contract
def test_every_module_of_the_zoo_declares_models():
    modules = {p.stem for p in Path(__file__).parent.parent.joinpath("zoo").glob("*.py")} - {
        "__init__",
        "spec",
        "recipe",
        "optimizers",
        "schedules",
        "plain",
        "anatomy",
        "handwritten",
        "initialisers",
    }
    networks = [v for s in MODELS.values() for v in (*s.variants.values(), *s.anatomy.values())]
    assert modules == {network.build.__module__.split(".")[-1] for network in networks}


def test_full_suites_contain_every_model():
    full = set()
    for name, suite in SUITES.items():
        if name.endswith("-full") or name == "all":
            expected = {(d, s.name) for d in suite.datasets for s in MODELS.values() if d in s.variants}
            assert {(job.dataset, job.model) for job in make_jobs(suite, MODELS)} == expected
            full.add(name)
    assert full <= set(card("nin_dropout")["suites"])
    assert {job.dataset for job in make_jobs(SUITES["all"], MODELS)} == {"mnist", "cifar10", "cifar100", "svhn"}


def rate_at(recipe, epoch):
    return recipe.rate(Moment(epoch, 0, 1))


def test_maxout_has_pylearn2s_schedule():
    """LinearDecayOverEpoch, MomentumAdjustor and the bounds of the norms, reimplemented from pylearn2's classes."""
    recipe = MODELS["maxout"].variants["cifar10"].recipe
    step = (0.17 - 0.17 * 0.01) / (500 - 1 + 1)
    for epoch in (0, 1, 100, 249, 250, 498, 499, 600, 784):
        count = epoch + 1
        rate = 0.17 - step * (count - 1 + 1) if count < 500 else 0.17 * 0.01
        assert rate_at(recipe, epoch) == pytest.approx(rate)
        share = min(1.0, max(0.0, (count - 1) / (250 - 1)))
        assert recipe.optimizer.momentum_at(epoch) == pytest.approx(0.5 * (1 - share) + 0.6 * share)
    bounds = {"conv1": 0.9, "conv2": 1.9365, "conv3": 1.9365, "fc4": 1.9, "fc5": 1.9365}
    assert {name: recipe.norm_bound(f"{name}.weight") for name in bounds} == bounds
    assert recipe.norm_bound("conv1.bias") is None
    rates = {name: recipe.optimizer.learning_rate * recipe.lr_multiplier(f"{name}.weight") for name in bounds}
    assert rates == pytest.approx({"conv1": 0.0085, "conv2": 0.0085, "conv3": 0.0085, "fc4": 0.17, "fc5": 0.17})


def test_the_norms_of_weights_are_bounded_after_each_step():
    recipe = replace(MODELS["maxout"].variants["cifar10"].recipe, optimizer=SGD(learning_rate=5.0), lr_multipliers=())
    model = MODELS["maxout"].variants["cifar10"].build()
    torch.manual_seed(0)
    initialise(model, recipe)
    optimizer = optimizer_for(model, recipe)
    free = copy.deepcopy(model)
    for p, q in zip(model.parameters(), free.parameters(), strict=True):
        p.grad = torch.randn_like(p)
        with torch.no_grad():
            q -= 5.0 * p.grad
    optimizer.step()
    for (name, p), q in zip(model.named_parameters(), free.parameters(), strict=True):
        if name.endswith("bias"):
            assert torch.equal(p, q)
        else:
            bound, rows = recipe.norm_bound(name), q.detach().flatten(1)
            assert torch.allclose(p.flatten(1), torch.renorm(rows, 2, 0, bound), atol=1e-5)
            assert (rows.norm(dim=1) > bound).all()


def test_maxout_takes_the_largest_of_its_pieces():
    network = MODELS["maxout"].variants["cifar10"].build()
    x = torch.randn(2, 192, 4, 4)
    assert torch.equal(network.maxout1(x), torch.maximum(x[:, ::2], x[:, 1::2]))
    assert torch.equal(network.maxout4(x[:, :10, 0, 0]), x[:, :10, 0, 0].view(2, 2, 5).max(dim=2).values)
    images = torch.ones(4, 3, 200, 200)
    masked = network.dropout0.train()(images)
    assert set(masked.unique().tolist()) == {0.0, 1.0}
    assert masked.mean().item() == pytest.approx(0.8, abs=0.01)
    assert torch.equal(network.dropout0.eval()(images), images)


def test_a_shortened_schedule_keeps_its_proportions():
    recipe = MODELS["allcnn_c"].variants["svhn"].recipe
    assert (recipe.epochs, recipe.schedule.after) == (35, (20, 25, 30))
    halvings = MODELS["vgg16"].variants["svhn"].recipe
    assert (halvings.epochs, len(halvings.schedule.after), halvings.schedule.after[-1]) == (30, 12, 29)
    warmed = MODELS["googlenet"].variants["svhn"].recipe
    assert (warmed.epochs, warmed.schedule.then.after, warmed.schedule.epochs) == (20, (5, 11, 15), 1)
    linear = MODELS["maxout"].variants["cifar10"].recipe.shortened(10)
    assert (linear.epochs, linear.schedule.epochs, linear.optimizer.momentum.epochs) == (78, 50, 25)


@pytest.mark.parametrize(
    "name",
    ["nin_dropout", pytest.param("googlenet", marks=pytest.mark.slow), "lenet5", "stochastic_pooling", "maxout"],
)
def test_a_network_built_without_values_has_the_same_card(name):
    assert card_of(MODELS[name], place=Unfilled) == card(name)


def test_cards_match_the_code(checkout):
    """`runner models --write-cards` writes them; a stale card would let the board count outdated records."""
    folder = checkout / "results" / "cards"
    written = {path.stem: path.read_text() for path in folder.glob("*.json")}
    known = {name: card_json(card(name)) for name in MODELS}
    stale = sorted(name for name in written.keys() | known.keys() if written.get(name) != known.get(name))
    assert not stale, f"run: runner models --write-cards (stale, missing or of no model: {', '.join(stale)})"


@pytest.mark.contract
def test_no_todo_of_the_template_is_left(checkout):
    """`runner new-model` writes a TODO for each part that a contributor has to complete."""
    files = [*(checkout / "zoo").glob("*.py"), *(checkout / "benchmarks" / "papers").glob("*.toml")]
    left = [
        f"{path.relative_to(checkout)}:{number}: still to write: {line.strip()}"
        for path in sorted(files)
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if "TODO" in line
    ]
    assert not left, "\n".join(left)


@pytest.mark.parametrize(("spec", "dataset"), ANATOMIES)
def test_networks_that_are_only_inspected_have_their_declared_parameters(spec, dataset):
    anatomy = spec.anatomy[dataset]
    assert dataset not in spec.variants
    with torch.device("meta"):
        model = anatomy.build()
    counted = count_parameters(model)
    assert counted == anatomy.parameters, f"{spec.name} declares parameters={anatomy.parameters:,}, it has {counted:,}"


# --- recipes -------------------------------------------------------------------------------------------------------------


def test_a_recipe_survives_json_and_leaves_out_what_it_does_not_use():
    for spec in MODELS.values():
        for variant in spec.variants.values():
            text = json.dumps(variant.recipe.to_dict())
            read = recipe_from(json.loads(text))
            assert read == variant.recipe
            assert json.dumps(read.to_dict()) == text, (
                f"{spec.name}: write 1.0, not 1, where a number may have a fraction"
            )
    assert "nesterov" not in RELEASED.to_dict()["optimizer"]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("epochs", 0),
        ("batch_size", -1),
        ("holdout", -1),
    ],
)
def test_a_recipe_refuses_what_cannot_be_trained_with(field, value):
    with pytest.raises(ValueError, match=field):
        replace(RELEASED, **{field: value})


def test_a_parameter_without_a_matching_rule_is_refused():
    import dataclasses

    with pytest.raises(ValueError, match=r"conv1\.bias"):
        initialise(nin(MNIST, dropout=False), dataclasses.replace(RELEASED, init=(("*.weight", "normal", 0.05),)))


@pytest.mark.parametrize(
    "kind", ["he_normal", "he_normal_fan_out", "uniform_fan_in", "xavier_uniform", "xavier_normal"]
)
def test_a_rule_that_counts_inputs_is_refused_for_a_scale(kind):
    recipe = replace(RELEASED, init=(("*.weight", kind, 1.0), ("*.bias", "constant", 0.0)))
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8))
    with pytest.raises(ValueError, match=r"does not apply to '1\.weight', whose shape is \(8,\): add a later rule"):
        initialise(network, recipe)
    initialise(network, replace(recipe, init=(*recipe.init, ("1.weight", "constant", 0.5))))
    assert (network[1].weight == 0.5).all()
    assert network[0].weight.std() > 0


# --- NiN, against references/papers: the author's configuration -------------------------------------------------------------


def test_nin_layers_are_the_released_ones():
    """Widths, output sizes and parameters of NIN/*_def, counted by hand from the published widths."""
    layers = {layer.name: layer for layer in layers_of(nin(CIFAR10, dropout=True), (3, 32, 32))}
    widths = {"conv1": 192, "cccp1": 160, "cccp2": 96, "conv2": 192, "cccp3": 192, "cccp4": 192}
    widths |= {"conv3": 192, "cccp5": 192, "cccp6": 10}
    sides = {"conv1": 32, "pool1": 16, "conv2": 16, "pool2": 8, "conv3": 8, "cccp6": 8}
    assert {name: layers[name].output[0] for name in widths} == widths
    assert {name: layers[name].output[1] for name in sides} == sides
    assert layers["conv1"].parameters == 5 * 5 * 3 * 192 + 192
    assert layers["conv2"].parameters == 5 * 5 * 96 * 192 + 192
    assert layers["conv3"].parameters == 3 * 3 * 192 * 192 + 192
    assert layers["poolg"].output == (10,)
    on_mnist = {layer.name: layer.output for layer in layers_of(nin(MNIST, dropout=True), (1, 28, 28))}
    assert (on_mnist["pool1"][1], on_mnist["pool2"][1]) == (14, 7)  # ceil mode: the released average pool is 7x7


def test_every_nin_layer_is_followed_by_a_relu_also_the_last():
    names = [name for name, _ in nin(CIFAR10, dropout=True).named_children()]
    for name in names:
        if name.startswith(("conv", "cccp")):
            assert names[names.index(name) + 1] == f"relu_{name}"


def test_nin_accepts_any_input_size_with_the_same_parameters():
    network = nin(CIFAR10, dropout=True).eval()
    assert network(torch.zeros(1, 3, 48, 40)).shape == (1, 10)


def test_masking_dropout_masks_in_training_and_halves_at_test_time():
    torch.manual_seed(0)
    x = torch.randn(2000, 50)
    layer = MaskingDropout(0.5)
    out = layer.train()(x)
    kept = out != 0
    assert torch.equal(out[kept], x[kept])  # not scaled up
    assert abs(kept.float().mean().item() - 0.5) < 0.01
    assert torch.equal(layer.eval()(x), 0.5 * x)


def test_the_optimiser_follows_cuda_convnets_rule():
    """By the published rule: inc = mom*inc + eps*coeff*grad - wc*eps*W, W += inc (grad: of the log-probability)."""
    torch.manual_seed(0)
    model = nn.Sequential()
    model.add_module("conv1", nn.Conv2d(1, 3, 3))
    model.add_module("cccp6", nn.Conv2d(3, 2, 1))
    x = torch.randn(4, 1, 5, 5)
    # epsW = 1, epsB = 2, a tenth in the last layer, wc = 1e-5, and the cost's coefficient of 0.1
    eps = {"conv1.weight": 1.0, "conv1.bias": 2.0, "cccp6.weight": 0.1, "cccp6.bias": 0.2}
    by_hand = {name: p.detach().clone().double() for name, p in model.named_parameters()}
    velocity = {name: torch.zeros_like(value) for name, value in by_hand.items()}
    optimizer = optimizer_for(model, RELEASED)
    for _ in range(5):
        optimizer.zero_grad()
        model(x).square().mean().backward()
        for name, p in model.named_parameters():
            assert p.grad is not None
            decay = 1e-5 if name.endswith("weight") else 0.0
            step = -eps[name] * 0.1 * p.grad.double() - decay * eps[name] * by_hand[name]
            velocity[name] = 0.9 * velocity[name] + step
            by_hand[name] = by_hand[name] + velocity[name]
        optimizer.step()
    for name, p in model.named_parameters():
        assert torch.allclose(p.detach().double(), by_hand[name], atol=1e-6)


def test_nins_schedule_has_three_rates():
    rates = [rate_at(RELEASED, epoch) for epoch in (0, 199, 200, 229, 230, 259)]
    assert rates == pytest.approx([0.1, 0.1, 0.01, 0.01, 0.001, 0.001])
    assert RELEASED.lr_multiplier("conv2.bias") == 2.0
    assert RELEASED.lr_multiplier("cccp6.weight") == pytest.approx(0.1)
    assert RELEASED.lr_multiplier("cccp6.bias") == pytest.approx(0.2)


# --- the identities of the lectures, and first dense layers ------------------------------------------------------------------


def first_dense(model):
    with torch.device("meta"):
        return next(module for module in model().modules() if isinstance(module, nn.Linear))


def test_first_dense_layers_are_those_that_the_lectures_quote():
    """LeNet 16x5x5x120 = 48k, AlexNet 256x5x5x4096 = 26M, VGG 512x7x7x4096 = 102M (references/papers.md A.5)."""
    networks = {
        "lenet": MODELS["lenet"].variants["mnist"].build,
        "alexnet": MODELS["alexnet"].anatomy["imagenet"].build,
        "vgg_d": MODELS["vgg_d"].anatomy["imagenet"].build,
    }
    weights = {name: first_dense(build).weight.numel() for name, build in networks.items()}
    assert weights == {"lenet": 16 * 5 * 5 * 120, "alexnet": 256 * 5 * 5 * 4096, "vgg_d": 512 * 7 * 7 * 4096}
    assert [round(n / 1e3) for n in (weights["lenet"],)] == [48]
    assert [int(weights[name] / 1e6) for name in ("alexnet", "vgg_d")] == [26, 102]


def test_the_lectures_alexnet_has_its_parameters():
    with torch.device("meta"):
        assert count_parameters(alexnet(channels=1, classes=10)) == 46_764_746


# --- All-CNN, VGG, GoogLeNet and the conventional network, against references/papers -----------------------------------


def sizes(model, shape, kinds=(nn.Conv2d, nn.MaxPool2d)):
    """Return kernel, stride, width and output side of each convolution and pooling, in order."""
    modules = dict(model.named_modules())
    return [
        (
            layer.kind[0] + str(_one(modules[layer.name].kernel_size)),
            _one(modules[layer.name].stride),
            *layer.output[:2],
        )
        for layer in layers_of(model, shape)
        if isinstance(modules[layer.name], kinds)
    ]


def _one(value):
    return value[0] if isinstance(value, tuple) else value


# references/papers.md B.2, layer by layer: convolution (C) or pooling (M) and its kernel, stride, width, output side.
ALLCONV_ENDS = [("C3", 1, 192, 6), ("C1", 1, 192, 6), ("C1", 1, 10, 6)]
ALLCONV = {
    "base_a": [("C5", 1, 96, 32), ("M3", 2, 96, 16), ("C5", 1, 192, 16), ("M3", 2, 192, 8)],
    "strided_a": [("C5", 2, 96, 16), ("C5", 2, 192, 8)],
    "convpool_a": [
        ("C5", 1, 96, 32),
        ("C3", 1, 96, 32),
        ("M3", 2, 96, 16),
        ("C5", 1, 192, 16),
        ("C3", 1, 192, 16),
        ("M3", 2, 192, 8),
    ],
    "allcnn_a": [("C5", 1, 96, 32), ("C3", 2, 96, 16), ("C5", 1, 192, 16), ("C3", 2, 192, 8)],
    "base_b": [
        ("C5", 1, 96, 32),
        ("C1", 1, 96, 32),
        ("M3", 2, 96, 16),
        ("C5", 1, 192, 16),
        ("C1", 1, 192, 16),
        ("M3", 2, 192, 8),
    ],
    "strided_b": [("C5", 1, 96, 32), ("C1", 2, 96, 16), ("C5", 1, 192, 16), ("C1", 2, 192, 8)],
    "strided_c": [("C3", 1, 96, 32), ("C3", 2, 96, 16), ("C3", 1, 192, 16), ("C3", 2, 192, 8)],
    "allcnn_c": [
        ("C3", 1, 96, 32),
        ("C3", 1, 96, 32),
        ("C3", 2, 96, 16),
        ("C3", 1, 192, 16),
        ("C3", 1, 192, 16),
        ("C3", 2, 192, 8),
    ],
}


@pytest.mark.parametrize("name", ALLCONV)
def test_all_cnn_layers_are_those_of_the_paper(name):
    with torch.device("meta"):
        model = MODELS[name].variants["cifar10"].build()
    assert sizes(model, (3, 32, 32)) == ALLCONV[name] + ALLCONV_ENDS
    names = [child for child, _ in model.named_children()]
    for child in names:
        if isinstance(model.get_submodule(child), nn.Conv2d):
            assert names[names.index(child) + 1] == f"relu_{child}"  # a ReLU after every convolution, also the last
    assert [layer.p for layer in model.modules() if isinstance(layer, nn.Dropout)] == [0.2, 0.5, 0.5]
    assert isinstance(model[0], nn.Dropout)


def test_all_cnn_has_the_papers_schedule():
    recipe = MODELS["allcnn_c"].variants["cifar10"].recipe
    shares = [rate_at(recipe, epoch) / recipe.optimizer.learning_rate for epoch in (199, 200, 250, 300, 349)]
    assert shares == pytest.approx([1, 0.1, 0.01, 0.001, 0.001])
    assert (recipe.epochs, recipe.optimizer.momentum, recipe.weight_decay) == (350, 0.9, 0.001)


def test_vggs_weight_layers_and_sizes_are_those_of_table_1():
    """Compare the weight layers of each network and the input of its dense layers."""
    weight_layers = {"vgg_a": 11, "vgg_b": 13, "vgg_c": 16, "vgg_d": 16, "vgg_e": 19}
    for name, depth in weight_layers.items():
        with torch.device("meta"):
            model = MODELS[name].anatomy["imagenet"].build()
        stages = {stage.name: stage for stage in take_apart(model, (3, 224, 224))[1]}
        assert sum(stage.depth for stage in stages.values()) == depth
        assert [stages[f"pool{i}"].output for i in range(1, 6)] == [
            (64, 112, 112),
            (128, 56, 56),
            (256, 28, 28),
            (512, 14, 14),
            (512, 7, 7),
        ]
        ones = [kernel for kernel, *_ in sizes(model, (3, 224, 224)) if kernel == "C1"]
        assert len(ones) == (3 if name == "vgg_c" else 0)


def test_zagoruykos_network_has_dropout_where_his_has_it():
    model = MODELS["vgg16"].variants["cifar10"].build()
    rates = [layer.p for layer in model.modules() if isinstance(layer, nn.Dropout)]
    assert rates == [0.3, 0.4, 0.4, 0.4, 0.4, 0.4, 0.4, 0.4, 0.5, 0.5]
    assert {m.eps for m in model.modules() if isinstance(m, nn.BatchNorm2d)} == {1e-3}
    assert model.bn6.eps == 1e-5  # his dense layer's has the default
    recipe = MODELS["vgg16"].variants["cifar10"].recipe
    assert [rate_at(recipe, epoch) for epoch in (23, 24, 48, 49, 299)] == pytest.approx([1, 0.5, 0.5, 0.25, 1 / 2**12])


def test_zagoruykos_network_is_initialised_as_in_torch7():
    """Convolutions by MSRinit of models/vgg_bn_drop.lua; the rest by torch/nn: BatchNormalization.lua and Linear.lua."""
    model, names = initialised_model(MODELS["vgg16"], "cifar10"), set()
    for name, layer in model.named_modules():
        if isinstance(layer, nn.Conv2d):
            assert layer.weight.std().item() == pytest.approx((2 / (9 * layer.out_channels)) ** 0.5, rel=0.05)
            assert (layer.bias == 0).all()
        elif isinstance(layer, (nn.BatchNorm1d, nn.BatchNorm2d)):
            assert 0 <= layer.weight.min() < 0.1 < 0.9 < layer.weight.max() <= 1
            assert layer.weight.mean().item() == pytest.approx(0.5, abs=0.15)
            assert (layer.bias == 0).all()
        elif isinstance(layer, nn.Linear):
            bound = layer.in_features**-0.5
            assert all(0.5 * bound < parameter.abs().max() <= bound for parameter in (layer.weight, layer.bias))
        else:
            continue
        names.add(name)
    assert len(names) == 13 + 13 + 1 + 2


# GoogLeNet's Table 1, typed again from references/papers.md A.4: output side, channels, depth, #1x1, #3x3 reduce, #3x3,
# #5x5 reduce, #5x5, pool projection; then where our count of parameters and of operations isn't the table's.
GOOGLENET = {
    "3a": (28, 256, 64, 96, 128, 16, 32, 32),
    "3b": (28, 480, 128, 128, 192, 32, 96, 64),
    "4a": (14, 512, 192, 96, 208, 16, 48, 64),
    "4b": (14, 512, 160, 112, 224, 24, 64, 64),
    "4c": (14, 512, 128, 128, 256, 24, 64, 64),
    "4d": (14, 528, 112, 144, 288, 32, 64, 64),
    "4e": (14, 832, 256, 160, 320, 32, 128, 128),
    "5a": (7, 832, 256, 160, 320, 32, 128, 128),
    "5b": (7, 1024, 384, 192, 384, 48, 128, 128),
}
BRANCHES = ("one", "three_reduce", "three", "five_reduce", "five", "pool_projection")


def test_googlenet_is_table_1_channel_by_channel():
    with torch.device("meta"):
        model = MODELS["googlenet"].anatomy["imagenet"].build()
    shape = (3, 224, 224)
    stages = {stage.name: stage for stage in take_apart(model, shape)[1]}
    layers = {layer.name: layer for layer in layers_of(model, shape)}
    for name, (side, channels, *widths) in GOOGLENET.items():
        stage = stages[f"inception_{name}"]
        assert (stage.output, stage.depth) == ((channels, side, side), 2)
        assert [layers[f"inception_{name}.{branch}.conv"].output[0] for branch in BRANCHES] == widths
        assert model.get_submodule(f"inception_{name}.five.conv").kernel_size == (5, 5)
    assert {n: s.output for n, s in stages.items() if n.startswith(("conv", "pool"))} == {
        "conv1": (64, 112, 112),
        "pool1": (64, 56, 56),
        "conv2": (192, 56, 56),
        "pool2": (192, 28, 28),
        "pool3": (480, 14, 14),
        "pool4": (832, 7, 7),
    }
    assert (
        sum(stage.depth for stage in stages.values()) == 22
    )  # "22 layers deep when counting only layers with parameters"
    assert sum(stage.parameters for stage in stages.values()) == 6_998_552


def test_the_card_marks_where_table_1_does_not_follow_from_its_channels():
    stages = card("googlenet")["anatomy"]["imagenet"]["stages"]
    differs = {stage["name"].removeprefix("inception_"): stage["differs"] for stage in stages if stage.get("differs")}
    assert differs == {
        "conv1": ["parameters", "macs"],
        **{name: ["parameters"] for name in ("4a", "4b", "4c", "4d", "4e", "5b")},
        "5a": ["parameters", "macs"],
    }
    for name, differing in (("vgg_d", []), ("allcnn_c", []), ("base_c", ["parameters"])):
        facts = list((card(name)["anatomy"] or card(name)["datasets"]).values())[-1]
        assert facts.get("differs", []) == differing


@pytest.mark.parametrize(
    ("printed", "ours", "same"),
    [("159K", 163_696, True), ("364K", 376_176, False), ("1.4M", 1_369_738, True), ("1.28M", 1_254_250, False)],
)
def test_a_printed_count_agrees_to_one_unit_of_its_last_digit(printed, ours, same):
    assert agrees(printed, ours) is same


def test_the_small_googlenet_without_normalisation_has_the_counted_parameters():
    """5,864,762 (references/papers.md A.5) without the heads; a head has 1x1-128, dense 1024 and the classes."""
    with torch.device("meta"):
        model = small(channels=3, norm=False)
    heads = [count_parameters(head) for head in (model.head_4a, model.head_4d)]
    assert count_parameters(model) - sum(heads) == 5_864_762
    assert heads == [c * 128 + 128 + 2048 * 1024 + 1024 + 1024 * 10 + 10 for c in (512, 528)]
    assert (model.dropout.p, model.head_4a.dropout.p, model.head_4d.dropout.p) == (0.4, 0.7, 0.7)


def test_auxiliary_losses_count_three_tenths_in_training_only():
    torch.manual_seed(0)
    spec, target = MODELS["googlenet"], torch.tensor([3, 1])
    outputs = tuple(torch.randn(2, 10) for _ in range(3))
    one, two, three = (nn.functional.cross_entropy(output, target) for output in outputs)
    assert spec.loss(outputs, target).item() == pytest.approx((one + 0.3 * two + 0.3 * three).item())
    assert spec.loss(outputs[0], target).item() == pytest.approx(one.item())


def test_a_locally_connected_layer_with_equal_weights_everywhere_is_a_convolution():
    torch.manual_seed(0)
    local, shared = LocallyConnected(3, 5, side=4), nn.Conv2d(3, 5, 3, padding=1)
    with torch.no_grad():
        local.weight.copy_(shared.weight.flatten(1).repeat(16, 1))
        local.bias.copy_(shared.bias.repeat(16))
    x = torch.randn(2, 3, 4, 4)
    assert torch.allclose(local(x), shared(x), atol=1e-5)
