"""The captured step without a GPU: whole trainings over a simulated graph are the eager ones, bit for bit."""

import dataclasses
import math

import pytest
import torch
from graph_simulator import simulate
from torch import nn

from benchmarks.datasets import get_dataset
from benchmarks.records import Job
from runner.training import profiles, step
from runner.training.batches import Batches, DeviceSet, Prepared
from runner.training.checkpoint import Checkpoint
from runner.training.loop import Hooks, Stopped, train
from runner.training.setup import Setup
from runner.worker.record import curve_csv, weights_sha256
from zoo import load_models
from zoo.recipe import EMA, SGD, AdamW, Augmentation, Fixed, Mixup, Ramp, Shuffled, Steps
from zoo.spec import Variant

CPU = torch.device("cpu")
MODELS = load_models()


@pytest.fixture
def simulator(monkeypatch):
    profiles.apply(profiles.resolve("reference", CPU))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    monkeypatch.setattr("runner.training.loop.AHEAD", 1)  # as the eager step has it
    monkeypatch.setattr(
        "runner.training.augment.QUANTILES", 64
    )  # a table of them takes seconds; no other test has this alpha
    monkeypatch.setattr(step, "WARM_UP", 1)  # each is an update of its own: more would only take longer
    yield simulate(monkeypatch)
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(False)


class Everything(nn.Module):
    """What larger networks have, in small: normalisation, dropout, auxiliary heads."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.drop = nn.Dropout(0.5)
        self.fc, self.aux1, self.aux2 = (nn.Linear(4 * 16, 10) for _ in range(3))

    def forward(self, images):
        x = self.drop(nn.functional.max_pool2d(self.norm(self.conv(images)).relu(), 2).flatten(1))
        return (self.fc(x), self.aux1(x), self.aux2(x)) if self.training else self.fc(x)


VGG, TORCH7 = MODELS["vgg16"].variants["mnist"].recipe, SGD(learning_rate=0.05, momentum=0.9, convention="torch7")
SMALL = dataclasses.replace(
    MODELS["googlenet"],
    name="everything",
    variants={
        "digits": Variant(
            build=Everything,
            recipe=dataclasses.replace(VGG, init=(("*", "normal", 0.1),), optimizer=TORCH7, order=Shuffled()),
            parameters=0,
        )
    },
)
# One model of each kind, on its smallest images: what a captured step may get wrong is in the kind.
KINDS = [
    pytest.param(MODELS["lenet"], {}, id="plain"),
    pytest.param(MODELS["nin_dropout"], {}, id="dropout"),
    pytest.param(SMALL, {}, id="normalisation, auxiliary heads, Torch7's momentum"),
    pytest.param(
        MODELS["caffe_lenet"], {"order": Shuffled()}, id="the rate inside the velocity, and another at each step"
    ),
    pytest.param(MODELS["maxout_mlp"], {}, id="bounded norms, momentum that rises, a second stage"),
    pytest.param(MODELS["lenet5"], {}, id="steps by curvature, its own loss"),
    pytest.param(
        MODELS["lenet"],
        {
            "optimizer": AdamW(learning_rate=0.01),
            "average": EMA(decay=0.9),
            "augmentation": Augmentation(mixup=Mixup(alpha=0.71)),
        },
        id="AdamW, averaged weights, mixed images",
    ),
    pytest.param(MODELS["stochastic_pooling"], {}, id="pooling that draws"),
    pytest.param(MODELS["cudaconvnet_18"], {"order": Shuffled()}, id="response normalisation"),
    pytest.param(
        MODELS["lenet"],
        {
            "augmentation": Augmentation(flip=True, translate=1),
            "optimizer": SGD(learning_rate=0.1, momentum=Ramp(0.5, 0.9, 3)),
        },
        id="augmentation",
    ),
]


def data_for(dataset, count=5):
    facts, generator = get_dataset(dataset), torch.Generator().manual_seed(5)
    images = torch.rand(count, *facts.shape, generator=generator)
    labels = torch.randint(facts.classes, (count,), generator=generator)
    black = torch.zeros(facts.shape[0], 1, 1)
    return Prepared(DeviceSet(images, labels, None, black), DeviceSet(images[:2], labels[:2], None))


class Run:
    """Trains a model, with graphs or without; keeps what was logged and how often a stop was asked for."""

    def __init__(self, spec, path, **changes):
        self.spec, self.path, self.lines = spec, path, []
        self.dataset = min(spec.variants, key=lambda name: math.prod(get_dataset(name).shape))
        recipe = spec.variants[self.dataset].recipe
        if recipe.second_stage is not None:
            changes |= {"second_stage": dataclasses.replace(recipe.second_stage, images=2, epochs=1), "epochs": 1}
        if isinstance(recipe.schedule, Steps):
            changes.setdefault("schedule", Steps(after=(1,), factor=0.1))
        changes = {"epochs": 2, "batch_size": 2} | changes
        if isinstance(recipe.order, Fixed):
            changes.setdefault("order", Fixed())
        self.recipe = dataclasses.replace(recipe, **changes)
        self.data = data_for(self.dataset)

    def __call__(self, graphs, after=None, resume=None):
        asked = 0

        def stop():
            nonlocal asked
            asked += 1
            return asked == after

        switches = {**profiles.resolve("reference", CPU, self.spec.channels_last_on_cpu), "graphs": graphs}
        job = Job(
            dataset=self.dataset, model=self.spec.name, revision=1, recipe=self.recipe.to_dict(), profile="fast", seed=0
        )
        hooks = Hooks(stop, lambda state: state.save(self.path), lambda facts: None, self.lines.append)
        return train(Setup(job, self.spec, self.recipe, self.data, CPU, switches), "0" * 32, hooks, resume=resume)

    def stopped(self, *places):
        """Train with graphs, stopped once after so many questions of each attempt; returns what came out in the end."""
        resume = None
        for after in places:
            with pytest.raises(Stopped):
                self(graphs=True, after=after, resume=resume)
            resume = Checkpoint.load(self.path)
        return self(graphs=True, resume=resume)


def bits(trained):
    return weights_sha256(trained.weights), curve_csv(trained.curve)


@pytest.mark.parametrize(("spec", "changes"), KINDS)
def test_a_captured_training_has_the_bits_of_the_eager_one_also_resumed(simulator, tmp_path, spec, changes):
    """Two epochs of three steps, the last on a partial batch; the rate falls between them; stopped inside either."""
    run = Run(spec, tmp_path / "c.pt", **changes)
    eager = bits(run(graphs=False))
    assert not simulator.pools
    captured = run(graphs=True)
    assert simulator.pools
    assert bits(captured) == eager
    assert captured.switches["graphs"] is True
    assert bits(run.stopped(3, 3)) == eager


def test_many_batches_made_at_once_are_made_again_wherever_a_training_was_stopped(simulator, tmp_path, monkeypatch):
    """Augmentation, four batches ahead of five in an epoch, dropout: stopped at eight places, through is resumed."""
    monkeypatch.setattr("runner.training.loop.AHEAD", 4)
    made, make = [], Batches._make
    monkeypatch.setattr(Batches, "_make", lambda self, members: made.append(members) or make(self, members))
    run = Run(MODELS["nin_dropout"], tmp_path / "c.pt", batch_size=1, augmentation=Augmentation(flip=True, translate=1))
    through = bits(run(graphs=True))
    assert [[start for start, _ in members] for members in made] == [[0, 1, 2, 3], [4]] * 2
    assert bits(run.stopped(2, 2, 2, 1, 2, 2, 2, 2)) == through


# --- what the simulator has to catch -----------------------------------------------------------------------------------------


class RateAsANumber(step.GraphedStep):
    def __init__(self, *arguments):
        super().__init__(*arguments)
        for group in self.step.optimizer.param_groups:
            group["lr"] = float(group["lr"])


class NothingPutBack(step.GraphedStep):
    def _values(self):
        return []


class MomentumBakedIn(step.GraphedStep):
    def __call__(self, images, labels):
        if self._captured:  # as if nothing had changed since
            self._baked = [(g.get("momentum"), g["weight_decay"]) for g in self.step.optimizer.param_groups]
        super().__call__(images, labels)


def waiting_loss(output, target):
    loss = nn.functional.cross_entropy(output, target)
    loss.item()
    return loss


MUTATIONS = {
    "the rate is a number": lambda patch: patch.setattr(step, "GraphedStep", RateAsANumber),
    "nothing is put back": lambda patch: patch.setattr(step, "GraphedStep", NothingPutBack),
    "momentum is baked in": lambda patch: patch.setattr(step, "GraphedStep", MomentumBakedIn),
    "the generator is not put back": lambda patch: patch.setattr(torch.cuda, "set_rng_state", lambda *_: None),
    "the loss waits for the device": None,
}


@pytest.mark.parametrize("name", [None, *MUTATIONS])
def test_five_faults_are_each_seen(simulator, tmp_path, monkeypatch, name):
    """In a training whose rate falls and whose momentum rises, with dropout; without a fault its bits are the eager ones."""
    spec = MODELS["nin_dropout"]
    optimizer = SGD(learning_rate=0.1, momentum=Ramp(0.5, 0.9, 2))  # another in the second epoch
    run = Run(spec, tmp_path / "c.pt", optimizer=optimizer, epochs=3, schedule=Steps(after=(2,), factor=0.1))
    eager = bits(run(graphs=False))
    if name and MUTATIONS[name] is None:
        run.spec = dataclasses.replace(spec, loss=waiting_loss)
    elif name:
        MUTATIONS[name](monkeypatch)
    trained = run(graphs=True)
    assert (bits(trained) == eager and trained.switches["graphs"] is True) == (name is None)


# --- a capture that fails ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("fails", "good"), [("begin", 0), ("end", 0), ("begin", 1)])  # the partial batch's alone
def test_after_a_failed_capture_the_training_continues_eagerly_to_the_same_bits(simulator, tmp_path, fails, good):
    run = Run(MODELS["nin_dropout"], tmp_path / "c.pt")
    eager = bits(run(graphs=False))
    simulator.fails, simulator.good = fails, good
    trained = run(graphs=True)
    assert bits(trained) == eager
    assert trained.switches["graphs"] is False
    assert len(simulator.pools) == good + 1  # once
    told = [line for line in run.lines if "can't be captured" in line]
    assert len(told) == 1
    assert "CUDA error" in told[0]
    assert "and more" not in told[0]


def test_a_training_whose_capture_failed_is_resumed_without_another_try(simulator, tmp_path):
    run = Run(MODELS["nin_dropout"], tmp_path / "c.pt")
    eager = bits(run(graphs=False))
    simulator.fails = "begin"
    assert bits(run.stopped(4)) == eager
    assert len(simulator.pools) == 1
    assert Checkpoint.load(run.path).precision["graphs"] is False


def test_graphs_share_a_pool_for_as_long_as_one_of_them_lives(simulator, tmp_path):
    """Whole and partial batch share one. Where momentum changes all graphs go, and their pool ends with them."""
    optimizer = SGD(learning_rate=0.1, momentum=Ramp(0.5, 0.9, 1))
    Run(MODELS["lenet"], tmp_path / "c.pt", optimizer=optimizer)(graphs=True)
    first, second, third, fourth = simulator.pools
    assert first is second
    assert third is fourth
    assert first is not None
    assert first is not third


def test_graphs_can_be_switched_off(monkeypatch):
    cuda = torch.device("cuda")
    assert profiles.resolve("fast", cuda)["graphs"] is True
    monkeypatch.setenv("REPROZOO_GRAPHS", "0")
    assert profiles.resolve("fast", cuda)["graphs"] is False


def test_each_size_of_batch_is_compiled_by_itself(monkeypatch):
    asked = []
    monkeypatch.setattr(torch, "compile", lambda model, **options: asked.append(options) or model)
    model = nn.Linear(2, 2)
    step.Step(model, torch.optim.SGD(model.parameters()), nn.functional.cross_entropy, torch.zeros(3), compiled=True)
    assert asked == [{"dynamic": False}]
