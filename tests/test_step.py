"""One update: the rate from a tensor, the sums, the captured graph beside the eager step."""

import dataclasses
import math

import pytest
import torch
from torch import nn

from benchmarks.datasets import get_dataset
from benchmarks.records import Job
from runner.training import profiles
from runner.training.batches import DeviceSet, Prepared
from runner.training.checkpoint import Checkpoint
from runner.training.loop import Hooks, Stopped, train
from runner.training.optimizers import optimizer_for, set_rate
from runner.training.setup import Setup
from runner.training.step import GraphedStep, Step, add_up
from zoo import load_models
from zoo.maxout import InputDropout
from zoo.recipe import Steps
from zoo.spec import cross_entropy

MODELS = load_models()


def make(recipe, device="cpu"):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 4)).to(device)
    optimizer = optimizer_for(model, recipe)
    return Step(model, optimizer, cross_entropy, torch.zeros(3, dtype=torch.float64, device=device))


def batch(size, seed=0, device="cpu"):
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(size, 3, 2, 2, generator=generator)
    return images.to(device), torch.randint(4, (size,), generator=generator).to(device)


RECIPE = dataclasses.replace(MODELS["lenet"].variants["digits"].recipe, weight_decay=0.01)


def test_a_rate_in_a_tensor_trains_as_a_number_does():
    """A captured graph reads its rate from a tensor: torch's fused update must do the same with either."""
    plain, tensors = make(RECIPE), make(RECIPE)
    for group in tensors.optimizer.param_groups:
        group["lr"] = torch.tensor(float(group["lr"]))
    for number, rate in enumerate((0.1, 0.1, 0.03)):
        for step in (plain, tensors):
            set_rate(step.optimizer, rate, 0.9)
            step(*batch(6, number))
    for one, other in zip(plain.model.parameters(), tensors.model.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-7)


def test_the_sums_are_of_losses_wrong_answers_and_images():
    sums = torch.zeros(3, dtype=torch.float64)
    logits = torch.tensor([[2.0, 1.0], [0.0, 5.0], [3.0, 1.0]])
    add_up(sums.unbind(), torch.tensor(0.5), logits, torch.tensor([0, 0, 1]))
    assert sums.tolist() == [3 * 0.5, 2, 3]


def test_auxiliary_heads_train_but_don_t_count():
    """Neither their losses nor their answers: the first head's alone, so that training and test loss can be compared."""
    sums = torch.zeros(3, dtype=torch.float64)
    logits = torch.tensor([[2.0, 1.0], [0.0, 5.0]])
    add_up(sums.unbind(), torch.tensor(7.5), (logits, -logits, -logits), torch.tensor([0, 1]))
    expected = math.log(1 + math.exp(-1)) + math.log(1 + math.exp(-5))
    assert sums.tolist() == [pytest.approx(expected), 0, 2]


# --- on a GPU --------------------------------------------------------------------------------------------------------------

CUDA = torch.device("cuda")
GRAPHED = ["lenet", "nin", "vgg16_plain", "googlenet", "maxout"]  # maxout: bounded norms, momentum that rises


@pytest.fixture
def ieee_on_the_gpu():
    switches = profiles.resolve("reference", CUDA)
    profiles.apply({**switches, "deterministic": False})
    yield switches
    torch.use_deterministic_algorithms(False)


@pytest.mark.gpu
def test_a_graph_trains_as_the_eager_step_does(ieee_on_the_gpu):
    """Rates and momentum that change, a partial last batch; a graph starts from where the weights are, and counts once."""
    eager, step = make(RECIPE, CUDA), make(RECIPE, CUDA)
    graphed = GraphedStep(step, give_up=lambda error: pytest.fail(str(error)))
    for number, (size, rate, momentum) in enumerate(
        [(16, 0.1, 0.9), (16, 0.1, 0.9), (5, 0.1, 0.9), (16, 0.01, 0.9), (5, 0.01, 0.5), (16, 0.01, 0.5)]
    ):
        images, labels = batch(size, number, CUDA)
        set_rate(eager.optimizer, rate, momentum)
        set_rate(step.optimizer, rate, momentum)
        eager(images, labels)
        graphed(images, labels)
        torch.testing.assert_close(step.sums, eager.sums)
        for name, value in eager.model.state_dict().items():
            torch.testing.assert_close(
                step.model.state_dict()[name], value, rtol=1e-4, atol=1e-5, msg=f"{number} {name}"
            )
    assert step.model[2].num_batches_tracked == 6


@pytest.mark.gpu
def test_dropout_in_a_graph_draws_again_at_each_replay_and_capturing_draws_nothing():
    torch.cuda.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 4), nn.Dropout(0.5)).to(CUDA)
    step = Step(model, optimizer_for(model, RECIPE), cross_entropy, torch.zeros(3, dtype=torch.float64, device=CUDA))
    set_rate(step.optimizer, 0.0, 0.9)  # the weights stay: only the masks differ
    graphed, losses = GraphedStep(step, give_up=lambda error: pytest.fail(str(error))), []
    before = torch.cuda.get_rng_state()
    images, labels = batch(64, 0, CUDA)
    for _ in range(4):
        step.sums.zero_()
        graphed(images, labels)
        losses.append(step.sums[0].item())
    assert len(set(losses)) == 4

    torch.cuda.set_rng_state(before)
    step.sums.zero_()
    step(images, labels)  # the eager step after the same draws as the first replay
    assert math.isclose(step.sums[0].item(), losses[0], rel_tol=1e-5)


def without_dropout(spec, dataset):
    def build():
        model = spec.variants[dataset].build()
        for module in model.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
            for name, child in module.named_children():
                if isinstance(child, InputDropout):
                    setattr(module, name, nn.Identity())
        return model

    variants = {dataset: dataclasses.replace(spec.variants[dataset], build=build)}
    return dataclasses.replace(spec, variants=variants)


def train_on_gpu(spec, dataset, switches, path, after=None, resume=None, **changes):
    facts, generator = get_dataset(dataset), torch.Generator().manual_seed(5)
    images = torch.randn(20, *facts.shape, generator=generator).to(CUDA)
    labels = torch.randint(facts.classes, (20,), generator=generator).to(CUDA)
    black = torch.full((facts.shape[0], 1, 1), -2.0, device=CUDA)
    data = Prepared(DeviceSet(images, labels, None, black), DeviceSet(images[:6], labels[:6], None))
    changes = {"schedule": Steps(after=(1,), factor=0.1), **changes}
    recipe = dataclasses.replace(spec.variants[dataset].recipe, epochs=2, batch_size=8, **changes)
    job = Job(dataset=dataset, model=spec.name, revision=1, recipe=recipe.to_dict(), profile="fast", seed=0)
    asked = 0

    def stop():
        nonlocal asked
        asked += 1
        return asked == after

    hooks = Hooks(stop, lambda state: state.save(path), lambda facts: None, lambda line: None)
    return train(Setup(job, spec, recipe, data, CUDA, switches), "0" * 32, hooks, resume=resume)


@pytest.mark.gpu
@pytest.mark.parametrize("name", GRAPHED)
def test_a_graphed_training_is_the_eager_one_also_resumed(name, tmp_path, ieee_on_the_gpu):
    """Six steps, two of them on a partial batch, with bounded norms in maxout; stopped inside the first epoch and resumed."""
    dataset = min(MODELS[name].variants, key=lambda d: math.prod(get_dataset(d).shape))
    spec, path = without_dropout(MODELS[name], dataset), tmp_path / "checkpoint.pt"
    eager = train_on_gpu(spec, dataset, ieee_on_the_gpu, path)
    graphs = {**ieee_on_the_gpu, "graphs": True}
    through = train_on_gpu(spec, dataset, graphs, path)
    with pytest.raises(Stopped):
        train_on_gpu(spec, dataset, graphs, path, after=3)
    resumed = train_on_gpu(spec, dataset, graphs, path, resume=Checkpoint.load(path))
    for other in (through, resumed):
        assert other.switches["graphs"] is True  # no capture failed
        for mine, theirs in zip(other.curve, eager.curve, strict=True):
            assert mine["train_loss"] == pytest.approx(theirs["train_loss"], rel=1e-3)
        for key, value in eager.weights.items():
            torch.testing.assert_close(other.weights[key].float(), value.float(), rtol=1e-2, atol=1e-3)
