"""Contract tests over every declared model: a new model is tested without a new test."""

import functools
import json
import math
from pathlib import Path

import pytest
import torch
from torch import nn

from benchmarks.datasets import get_dataset
from benchmarks.suites import SUITES
from runner.cards import card_json, card_of
from runner.train import optimizer_for
from runner.worker import weights_sha256
from zoo import load_models
from zoo.anatomy import count_parameters, layers_of
from zoo.nin import CIFAR10, MNIST, RELEASED, MaskingDropout, nin
from zoo.spec import Recipe, initialise

MODELS = load_models()
VARIANTS = [pytest.param(s, d, id=f"{d}/{s.name}") for s in MODELS.values() for d in s.variants]
ANATOMIES = [pytest.param(s, d, id=f"{d}/{s.name}") for s in MODELS.values() for d in s.anatomy]
DIGESTS = Path(__file__).with_name("digests.json")
STEPS = 3
AFFORDABLE_MACS = 1_000_000_000  # of one forward pass in a test


def built(spec, dataset, seed=0):
    torch.manual_seed(seed)
    model = spec.variants[dataset].build()
    initialise(model, spec.variants[dataset].recipe)
    return model


def batch(dataset, n, seed=1):
    facts = get_dataset(dataset)
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(n, *facts.shape, generator=generator)
    return images, torch.randint(facts.classes, (n,), generator=generator)


@functools.cache
def images_for(spec_name, dataset):
    """How many images a test can afford of a network: 2 to 16, by its multiply-accumulates."""
    with torch.device("meta"):
        model = MODELS[spec_name].variants[dataset].build()
    macs = sum(layer.macs for layer in layers_of(model, get_dataset(dataset).shape))
    return max(2, min(16, AFFORDABLE_MACS // macs))


def few_steps(spec, dataset, steps=STEPS):
    """The losses of a few updates on one batch, and the initial weights' mean magnitude by tensor."""
    recipe = spec.variants[dataset].recipe
    model = built(spec, dataset).train()
    start = {name: p.detach().abs().mean().item() for name, p in model.named_parameters()}
    optimizer = optimizer_for(model, recipe)
    x, y = batch(dataset, images_for(spec.name, dataset))
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = spec.loss(model(x), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return start, losses


@pytest.mark.parametrize(("spec", "dataset"), VARIANTS)
def test_declared_parameters_and_output_shape(spec, dataset):
    model = built(spec, dataset).eval()
    facts, declared = get_dataset(dataset), spec.variants[dataset].parameters
    counted = count_parameters(model)
    assert counted == declared, f"zoo/: {spec.name} on {dataset} declares parameters={declared:,}, it has {counted:,}"
    output = model(batch(dataset, 2)[0])
    assert output.shape == (2, facts.classes), (
        "logits for each class of the data set are expected, in evaluation one tensor"
    )
    assert output.dtype == torch.float32


@pytest.mark.parametrize(("spec", "dataset"), VARIANTS)
def test_every_parameter_gets_a_gradient_and_the_loss_falls_along_it(spec, dataset):
    """Small steps down the gradient, the same dropout each time: whatever the recipe, the loss on one batch must fall."""
    model = built(spec, dataset).train()
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
                    p -= 0.02 * loss / length * g  # to first order, 2 % of the loss
    assert losses[0] > losses[1] > losses[2], f"{spec.name}: the loss doesn't fall along its gradient: {losses}"


@pytest.mark.parametrize(("spec", "dataset"), VARIANTS)
def test_evaluation_is_deterministic_and_independent_of_the_batch(spec, dataset):
    model = built(spec, dataset).eval()
    x, _ = batch(dataset, 3)
    with torch.no_grad():
        whole = model(x)
        assert torch.equal(whole, model(x))
        assert torch.allclose(whole[:1], model(x[:1]), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("spec", "dataset"), VARIANTS)
def test_state_dict_round_trip(spec, dataset):
    model, other = built(spec, dataset), built(spec, dataset, seed=7)
    other.load_state_dict(model.state_dict())
    assert weights_sha256(dict(other.state_dict())) == weights_sha256(dict(model.state_dict()))


@pytest.mark.parametrize(("spec", "dataset"), VARIANTS)
def test_the_trained_function_is_the_one_of_its_revision(spec, dataset):
    """Whoever changes what is trained raises the variant's revision; `python tests/test_zoo.py` rewrites the digests."""
    known = json.loads(DIGESTS.read_text())
    held = known.get(f"{dataset}/{spec.name}")
    assert held is not None, f"no digest for {dataset}/{spec.name}: run python tests/test_zoo.py"
    assert held["revision"] == spec.variants[dataset].revision, "revision changed: run python tests/test_zoo.py"
    start, losses = few_steps(spec, dataset)
    assert start == pytest.approx(held["mean_magnitude"], rel=1e-4), "initial weights changed: raise the revision"
    assert losses == pytest.approx(held["losses"], rel=1e-3), "training changed: raise the revision"


@pytest.mark.parametrize("spec", MODELS.values(), ids=MODELS)
def test_suites_exist_and_have_a_recipe_for_the_model(spec):
    for name in spec.suites:
        assert name in SUITES, f"{spec.name} declares the suite '{name}', which benchmarks/suites.py doesn't have"
        assert set(SUITES[name].datasets) & set(spec.variants), f"{spec.name} is in '{name}' without a recipe for it"


def test_every_module_of_the_zoo_declares_models():
    modules = {p.stem for p in Path(__file__).parent.parent.joinpath("zoo").glob("*.py")} - {
        "__init__",
        "spec",
        "anatomy",
    }
    networks = [v for s in MODELS.values() for v in (*s.variants.values(), *s.anatomy.values())]
    assert modules == {network.build.__module__.split(".")[-1] for network in networks}


def test_full_suites_hold_every_model():
    for name, suite in SUITES.items():
        if name.endswith("-full"):
            missing = [
                s.name for s in MODELS.values() if set(suite.datasets) & set(s.variants) and name not in s.suites
            ]
            assert missing == []


def test_cards_say_what_the_code_says(checkout):
    """`runner models --write-cards` writes them; a stale card would let the board count outdated records."""
    folder = checkout / "results" / "cards"
    written = {path.stem: path.read_text() for path in folder.glob("*.json")}
    assert written == {name: card_json(card_of(spec)) for name, spec in MODELS.items()}


@pytest.mark.parametrize(("spec", "dataset"), ANATOMIES)
def test_networks_that_are_only_taken_apart_have_their_declared_parameters(spec, dataset):
    anatomy = spec.anatomy[dataset]
    assert dataset not in spec.variants
    with torch.device("meta"):
        model = anatomy.build()
    counted = count_parameters(model)
    assert counted == anatomy.parameters, f"{spec.name} declares parameters={anatomy.parameters:,}, it has {counted:,}"


# --- recipes -------------------------------------------------------------------------------------------------------------


def test_a_recipe_survives_json_and_leaves_out_what_it_does_not_use():
    from pydantic import TypeAdapter

    for spec in MODELS.values():
        for variant in spec.variants.values():
            text = json.dumps(variant.recipe.to_dict())
            assert TypeAdapter(Recipe).validate_json(text) == variant.recipe
    assert "nesterov" not in RELEASED.to_dict()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("epochs", 0),
        ("batch_size", -1),
        ("learning_rate", math.nan),
        ("momentum", 1.0),
        ("milestones", (5, 3)),
        ("holdout", -1),
    ],
)
def test_a_recipe_refuses_what_cannot_be_trained_with(field, value):
    import dataclasses

    with pytest.raises(ValueError, match=field):
        dataclasses.replace(RELEASED, **{field: value})


def test_a_parameter_that_no_rule_covers_is_refused():
    import dataclasses

    with pytest.raises(ValueError, match=r"conv1\.bias"):
        initialise(nin(MNIST, dropout=False), dataclasses.replace(RELEASED, init=(("*.weight", "normal", 0.05),)))


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
    rates = [RELEASED.rate_at(epoch) for epoch in (0, 199, 200, 229, 230, 259)]
    assert rates == pytest.approx([0.1, 0.1, 0.01, 0.01, 0.001, 0.001])
    assert RELEASED.rate_multiplier("conv2.bias") == 2.0
    assert RELEASED.rate_multiplier("cccp6.weight") == pytest.approx(0.1)
    assert RELEASED.rate_multiplier("cccp6.bias") == pytest.approx(0.2)


# --- anatomy -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("spec", "dataset"), VARIANTS)
def test_macs_agree_with_torchs_own_counter(spec, dataset):
    from torch.utils.flop_counter import FlopCounterMode

    shape = get_dataset(dataset).shape
    model = built(spec, dataset).eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.zeros(1, *shape))
    assert 2 * sum(layer.macs for layer in layers_of(model, shape)) == counter.get_total_flops()


def test_the_first_dense_layer_of_lenet_is_the_lectures_48k():
    layers = {layer.name: layer for layer in layers_of(MODELS["lenet"].variants["mnist"].build(), (1, 28, 28))}
    assert layers["fc1"].parameters == 16 * 5 * 5 * 120 + 120


if __name__ == "__main__":
    rows = {}
    for spec in MODELS.values():
        for dataset, variant in spec.variants.items():
            start, losses = few_steps(spec, dataset)
            rows[f"{dataset}/{spec.name}"] = {
                "revision": variant.revision,
                "mean_magnitude": {name: float(f"{value:.6g}") for name, value in start.items()},
                "losses": [float(f"{value:.6g}") for value in losses],
            }
    DIGESTS.write_text(json.dumps(rows, indent=1, sort_keys=True) + "\n")
