"""The loop: the same bits resumed or not, for every model; the numbers it reports, against a loop written by hand."""

import dataclasses
import functools
import math

import pytest
import torch
import torch.nn.functional as F
from helpers import models_of_every_kind
from scipy import stats

from benchmarks.datasets import get_dataset
from benchmarks.records import Job
from runner.training import profiles
from runner.training.batches import DeviceSet, Prepared, batch_bounds, image_order
from runner.training.checkpoint import Checkpoint, ResumeRefused
from runner.training.ending import CHANCE_SHARE
from runner.training.loop import Hooks, Stopped, train
from runner.training.setup import Setup
from runner.worker.record import curve_csv, weights_sha256
from zoo import load_models
from zoo.recipe import SGD, Augmentation, Constant, Fixed, Moment, Plateau, SecondStage, Shuffled, Steps, Warmup
from zoo.spec import initialise, label_entropy

CPU = torch.device("cpu")
MODELS = load_models()
# The networks of many millions of weights take seconds: their kinds of layers resume in tests/test_zoo.py's state dicts.
KINDS = models_of_every_kind() - {"googlenet", "maxout_augmentation", "vgg16"}
# Each model once, on the data set with the smallest images: what may break a resume is in the kinds of its layers and
# rules, not in the images.
VARIANTS = [
    pytest.param(
        s,
        min(s.variants, key=lambda d: math.prod(get_dataset(d).shape)),
        id=s.name,
        marks=[pytest.mark.slow] * (s.name not in KINDS),
    )
    for s in MODELS.values()
    if s.variants and s.bitwise
]
RUN = "0" * 32


@pytest.fixture(autouse=True)
def reference_profile():
    profiles.apply(profiles.resolve("reference", CPU))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(False)


def random_data(dataset, train_images=10, test_images=6):
    facts = get_dataset(dataset)
    generator = torch.Generator().manual_seed(5)

    def images(n):
        pixels = torch.randn(n, *facts.shape, generator=generator)
        labels = torch.randint(facts.classes, (n,), generator=generator)
        return DeviceSet(pixels, labels, None, black=torch.full((facts.shape[0], 1, 1), -2.0))

    return Prepared(images(train_images), images(test_images))


class Stopping:
    """Asks to stop at the n-th question, and keeps what the loop saves, through the real file."""

    def __init__(self, path, after=None):
        self.path, self.after, self.asked, self.lines = path, after, 0, []

    def stop(self):
        self.asked += 1
        return self.asked == self.after

    def hooks(self):
        return Hooks(self.stop, lambda state: state.save(self.path), lambda facts: None, self.lines.append)


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request):
    return torch.device(request.param)


@pytest.fixture
def run(device):
    """Train on the device: everything in this file that trains is tested on a GPU, too, where `-m gpu` selects it."""
    return functools.partial(run_on, device)


def run_on(
    device, spec, dataset, path, after=None, resume=None, force=False, seed=0, data=None, facts=None,
    profile="reference", on_other_device="refuse", **changes,
):  # fmt: skip
    recipe = spec.variants[dataset].recipe
    if isinstance(recipe.order, Fixed) and recipe.order.updates:
        changes.setdefault("order", Fixed(updates=2))
    if recipe.second_stage is not None and "second_stage" not in changes:  # one image apart, and an epoch of each stage
        changes |= {"second_stage": dataclasses.replace(recipe.second_stage, images=1, epochs=1), "epochs": 1}
    recipe = dataclasses.replace(recipe, **({"epochs": 2, "batch_size": 4} | changes))
    job = Job(dataset=dataset, model=spec.name, revision=1, recipe=recipe.to_dict(), profile=profile, seed=seed)
    switches = profiles.resolve("reference", device, spec.channels_last_on_cpu)
    profiles.apply(switches)
    stopping = Stopping(path, after)
    setup = Setup(job, spec, recipe, on(device, data or random_data(dataset)), device, switches)
    return train(setup, RUN, stopping.hooks(), resume, force, on_other_device, facts or {})


def on(device, data):
    """The data set, moved."""
    moved = [
        dataclasses.replace(
            part, stored=part.stored.to(device), labels=part.labels.to(device), black=part.black.to(device)
        )
        for part in (data.train, data.test)
    ]
    return Prepared(*moved)


def bits(trained):
    return weights_sha256(trained.weights), curve_csv(trained.curve)


@pytest.mark.parametrize(("spec", "dataset"), VARIANTS)
def test_the_same_bits_resumed_or_not(spec, dataset, run, tmp_path):
    """Two steps an epoch, stopped inside the first epoch and between the epochs.

    One model, which has no state but weights, momentum and dropout's, and one with a second stage are also stopped before
    the first step and inside the second epoch.
    """
    path, data = tmp_path / "checkpoint.pt", random_data(dataset, 4, 2)
    through = bits(run(spec, dataset, path, data=data, batch_size=2))
    resume = None
    everywhere = spec.name == "nin_dropout" or spec.variants[dataset].recipe.second_stage is not None
    for after in (1, 2, 2, 2) if everywhere else (2, 2):
        with pytest.raises(Stopped):
            run(spec, dataset, path, after=after, resume=resume, data=data, batch_size=2)
        resume = Checkpoint.load(path)
    assert (resume.epoch, resume.step) == (1, 1 if everywhere else 0)
    assert bits(run(spec, dataset, path, resume=resume, data=data, batch_size=2)) == through


def test_the_same_bits_where_an_epoch_ends_with_a_partial_batch(run, tmp_path):
    path = tmp_path / "checkpoint.pt"
    through = bits(run(MODELS["nin_dropout"], "digits", path))  # ten images in batches of four
    resume = None
    for after in (3, 3):
        with pytest.raises(Stopped):
            run(MODELS["nin_dropout"], "digits", path, after=after, resume=resume)
        resume = Checkpoint.load(path)
    assert bits(run(MODELS["nin_dropout"], "digits", path, resume=resume)) == through


def test_the_rate_rises_from_step_to_step_in_a_warm_up_and_stays(run, tmp_path, monkeypatch):
    """Three steps an epoch; the rates as torch's own LambdaLR gives them, one call of it after each step."""
    used, step = [], torch.optim.SGD.step

    def spy(self, *args, **kwargs):
        used.append(self.param_groups[0]["lr"])
        return step(self, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(torch.optim.SGD, "step", spy)
        run(MODELS["lenet"], "digits", tmp_path / "c.pt", epochs=4, schedule=Warmup(epochs=2, then=Steps(after=(3,))))
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=MODELS["lenet"].variants["digits"].recipe.optimizer.learning_rate)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda n: min(1.0, n / 6) * (0.1 if n >= 9 else 1.0))
    expected = []
    for _ in range(12):
        expected += schedule.get_last_lr()
        optimizer.step()
        schedule.step()
    assert used == pytest.approx(expected)


def test_a_stopped_warm_up_resumes_where_it_was(run, tmp_path):
    path, changes = tmp_path / "c.pt", {"schedule": Warmup(epochs=2), "epochs": 3}
    through = bits(run(MODELS["lenet"], "digits", path, **changes))
    with pytest.raises(Stopped):
        run(MODELS["lenet"], "digits", path, after=3, **changes)
    assert bits(run(MODELS["lenet"], "digits", path, resume=Checkpoint.load(path), **changes)) == through


def test_a_kill_in_the_middle_of_an_epoch_costs_no_more_than_the_last_half_minute(run, device, tmp_path, monkeypatch):
    """The loop saves inside an epoch too; going on from there gives the same bits."""
    monkeypatch.setattr("runner.training.loop.CHECKPOINT_SECONDS", 0.0)
    path, spec = tmp_path / "c.pt", MODELS["nin_dropout"]
    through = bits(run(spec, "digits", path))
    saved = []

    class Killed(Exception):
        pass

    def save(state):
        saved.append((state.epoch, state.step))
        state.save(path)
        if len(saved) == 2:
            raise Killed

    recipe = dataclasses.replace(spec.variants["digits"].recipe, epochs=2, batch_size=4)
    job = Job(dataset="digits", model=spec.name, revision=1, recipe=recipe.to_dict(), seed=0)
    hooks = Hooks(lambda: False, save, lambda facts: None, lambda line: None)
    switches = profiles.resolve("reference", device)
    with pytest.raises(Killed):
        train(Setup(job, spec, recipe, on(device, random_data("digits")), device, switches), RUN, hooks)
    assert saved == [(0, 1), (0, 2)]
    assert bits(run(spec, "digits", path, resume=Checkpoint.load(path))) == through


def test_a_stop_is_heard_while_an_epoch_is_evaluated(run, tmp_path):
    """The steps of the epoch aren't trained again, and the whole test set is evaluated: to the same bits."""
    path, spec = tmp_path / "c.pt", MODELS["nin_dropout"]
    data = random_data("digits", test_images=1_200)  # three batches
    through = bits(run(spec, "digits", path, data=data))
    resume = None
    for after in (5, 3):  # three steps are three questions, the first before the first step; then the evaluation's two
        with pytest.raises(Stopped):
            run(spec, "digits", path, after=after, resume=resume, data=data)
        resume = Checkpoint.load(path)
        assert (resume.epoch, resume.step, resume.curve) == (0, 3, [])
    trained = run(spec, "digits", path, resume=resume, data=data)
    assert bits(trained) == through
    assert all(row["images_per_second"] > 0 for row in trained.curve)


def test_a_kill_in_an_evaluation_costs_no_step(run, tmp_path, monkeypatch):
    monkeypatch.setattr("runner.training.loop.CHECKPOINT_SECONDS", 0.0)
    path, spec, data = tmp_path / "c.pt", MODELS["nin_dropout"], random_data("digits", test_images=1_200)
    saved = []
    monkeypatch.setattr(Checkpoint, "save", lambda state, path: saved.append((state.epoch, state.step)))
    run(spec, "digits", path, data=data, epochs=1)
    assert saved == [(0, 1), (0, 2), (0, 3), (0, 3), (1, 0)]


def test_weights_spoilt_by_the_very_last_update_are_diverged(run, tmp_path):
    """One step: its loss is finite, what it leaves behind is not."""
    trained = run(
        MODELS["lenet"], "digits", tmp_path / "c.pt", optimizer=SGD(learning_rate=1e300), epochs=1, batch_size=10
    )
    assert trained.curve[0]["train_loss"] is not None
    assert trained.outcome == "diverged"
    assert trained.curve[0]["test_error"] is None


def test_another_seed_gives_other_bits(run, tmp_path):
    path = tmp_path / "checkpoint.pt"
    one, other = (run(MODELS["lenet"], "digits", path, seed=seed) for seed in (0, 1))
    assert bits(one)[0] != bits(other)[0]


def test_the_loop_agrees_with_one_written_by_hand(run, tmp_path):
    """torch's own layers, optimiser and cross-entropy, without any of the loop's machinery."""
    spec, data = MODELS["lenet"], random_data("digits", 10, 6)
    trained = run(spec, "digits", tmp_path / "c.pt", data=data, epochs=3, batch_size=4, schedule=Steps(after=(2,)))

    recipe = dataclasses.replace(spec.variants["digits"].recipe, epochs=3, batch_size=4, schedule=Steps(after=(2,)))
    torch.manual_seed(0)
    model = spec.variants["digits"].build()
    initialise(model, recipe)
    weights = [p for n, p in model.named_parameters() if n.endswith("weight")]
    biases = [p for n, p in model.named_parameters() if n.endswith("bias")]
    optimizer = torch.optim.SGD(
        [{"params": weights, "weight_decay": recipe.weight_decay}, {"params": biases}],
        lr=0.1,
        momentum=0.9,
        fused=False,
    )
    order = torch.Generator().manual_seed(1_000_003)
    for epoch in range(3):
        for group in optimizer.param_groups:
            group["lr"] = 0.1 * (0.1 if epoch >= 2 else 1.0)
        losses, wrong = 0.0, 0
        for chosen in torch.randperm(10, generator=order).split(4):
            x, y = data.train.stored[chosen], data.train.labels[chosen]
            optimizer.zero_grad()
            output = model(x)
            loss = F.cross_entropy(output, y)
            loss.backward()
            optimizer.step()
            losses += loss.item() * len(y)
            wrong += int((output.argmax(1) != y).sum())
        with torch.no_grad():
            predicted = model(data.test.stored).argmax(1)
        row = trained.curve[epoch]
        assert row["train_loss"] == pytest.approx(losses / 10, rel=1e-4)
        assert row["train_error"] == pytest.approx(10 * wrong)
        assert row["wrong"] == int((predicted != data.test.labels).sum())
    assert trained.wrong == trained.curve[-1]["wrong"]
    assert trained.test_images == 6
    for name, value in model.state_dict().items():
        assert torch.allclose(trained.weights[name], value, atol=1e-5)


def test_every_image_is_seen_once_an_epoch_and_the_partial_batch_counts():
    recipe = MODELS["nin"].variants["cifar10"].recipe
    for order, sizes in (
        (Shuffled(), [128] * 390 + [80]),
        (Shuffled(drop_last=True), [128] * 390),
        (Fixed(), [128] * 390 + [80]),
        (Fixed(file_images=10_000), ([128] * 78 + [16]) * 5),  # cuda-convnet's five files
        (Fixed(updates=500), [128] * 500),  # Caffe's test_interval
    ):
        bounds = batch_bounds(50_000, dataclasses.replace(recipe, order=order))
        assert [stop - start for start, stop in bounds] == sizes
        assert [start for start, _ in bounds[1:]] == [stop for _, stop in bounds[:-1]]


def test_the_order_of_the_images_is_fresh_or_once_drawn_or_the_files():
    recipe, generator = MODELS["nin"].variants["cifar10"].recipe, torch.Generator().manual_seed(1)

    def orders(order, images=10):
        changed = dataclasses.replace(recipe, order=order, batch_size=3)
        return [image_order(images, changed, epoch, generator, seed=5).tolist() for epoch in range(3)]

    one, two, three = orders(Shuffled())
    assert sorted(one) == sorted(two) == list(range(10))
    assert one != two != three
    one, two, three = orders(Shuffled(once=True))
    assert one == two == three != list(range(10))
    assert orders(Fixed()) == [list(range(10))] * 3
    assert orders(Fixed(updates=4)) == [
        [*range(10), 0, 1],
        [*range(2, 10), 0, 1, 2, 3],
        [*range(4, 10), 0, 1, 2, 3, 4, 5],
    ]


def test_a_plateau_drops_twice_and_then_ends():
    schedule = Plateau(patience=2, factor=0.1, drops=2)
    errors = [50.0, 40.0, 41.0, 40.0, 30.0, 31.0, 29.0, 29.5, 29.0, 29.0, 29.0, 28.0]
    rates = [schedule.rate(1.0, Moment(epoch, 0, 1, errors[:epoch])) for epoch in range(len(errors))]
    assert rates == pytest.approx([1, 1, 1, 1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.01, 0.01, 0.01])
    assert [schedule.over(errors[:n]) for n in (9, 10, 11)] == [False, False, True]


def test_a_plateau_ends_a_training_and_a_resumed_one_as_well(run, tmp_path):
    changes = {"epochs": 50, "schedule": Plateau(patience=1, drops=1), "batch_size": 5}
    path = tmp_path / "c.pt"
    through = run(MODELS["lenet"], "digits", path, **changes)
    errors = [row["train_error"] for row in through.curve]
    assert len(errors) < 50
    assert changes["schedule"].over(errors)
    assert not changes["schedule"].over(errors[:-1])
    rates = [row["learning_rate"] for row in through.curve]
    assert rates[-1] == pytest.approx(rates[0] / 10)
    resume = None
    for _ in range(3):
        with pytest.raises(Stopped):
            run(MODELS["lenet"], "digits", path, after=3, resume=resume, **changes)
        resume = Checkpoint.load(path)
    assert bits(run(MODELS["lenet"], "digits", path, resume=resume, **changes)) == bits(through)


def test_a_loss_that_is_not_finite_ends_the_training_as_diverged(run, tmp_path):
    trained = run(MODELS["lenet"], "digits", tmp_path / "c.pt", optimizer=SGD(learning_rate=1e30), epochs=5)
    assert trained.outcome == "diverged"
    assert trained.wrong is None
    assert trained.curve[-1]["train_loss"] is None
    assert len(trained.curve) < 5


def test_a_network_that_stays_at_chance_collapsed(run, tmp_path):
    trained = run(MODELS["nin"], "digits", tmp_path / "c.pt", init=(("*", "constant", 0.0),))
    assert trained.curve[-1]["train_loss"] == pytest.approx(math.log(10), rel=0.02)
    assert trained.outcome == "collapsed"


def test_a_network_that_only_learns_how_frequent_the_classes_are_collapsed(run, tmp_path):
    data = random_data("digits", train_images=200)
    data.train.labels[:100] = 1
    zeros = (("*", "constant", 0.0),)  # of which the last layer's bias alone can move
    trained = run(
        MODELS["lenet"],
        "digits",
        tmp_path / "c.pt",
        data=data,
        init=zeros,
        epochs=20,
        batch_size=50,
        optimizer=SGD(learning_rate=0.5, momentum=0.9),
        schedule=Constant(),
    )
    assert trained.curve[-1]["train_loss"] < CHANCE_SHARE * math.log(10)
    assert trained.outcome == "collapsed"


def test_a_constant_answer_has_the_entropy_of_the_labels_as_its_loss():
    labels = torch.tensor([0, 1, 1, 1, 3, 3])
    assert label_entropy(labels) == pytest.approx(stats.entropy([1, 3, 2]))
    assert label_entropy(torch.arange(100).repeat(7)) == pytest.approx(math.log(100))


def test_a_checkpoint_of_another_build_is_refused_unless_forced(run, tmp_path):
    path = tmp_path / "c.pt"
    spec = MODELS["lenet"]
    with pytest.raises(Stopped):
        run(spec, "digits", path, after=2)
    foreign = dataclasses.replace(Checkpoint.load(path), torch="1.0")
    with pytest.raises(ResumeRefused, match=r"torch 1\.0 then, "):
        run(spec, "digits", path, resume=foreign)
    trained = run(spec, "digits", path, resume=foreign, force=True)
    assert trained.forced_resume


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (
            {"trail": [{"sources_sha256": "a" * 64, "data_sha256": "d" * 64}]},
            r"code \(sha256\) aaaaaaaa then, bbbbbbbb now",
        ),
        (
            {"trail": [{"sources_sha256": "b" * 64, "data_sha256": "e" * 64}]},
            r"data \(sha256\) eeeeeeee then, dddddddd now",
        ),
        ({"trail": []}, r"code \(sha256\) not recorded then, "),
        ({"precision": {"float32": "tf32"}}, "float32 tf32 then, ieee now"),
    ],
)
def test_a_checkpoint_of_other_code_data_or_precision_is_refused_and_forced_its_trail_says_so(
    run, device, tmp_path, change, told
):
    path, here = tmp_path / "c.pt", {"sources_sha256": "b" * 64, "data_sha256": "d" * 64}
    spec = MODELS["lenet"]
    with pytest.raises(Stopped):
        run(spec, "digits", path, after=2, facts=here)
    saved = Checkpoint.load(path)
    assert [facts["sources_sha256"] for facts in saved.trail] == ["b" * 64]
    assert saved.precision == profiles.resolve("reference", device, spec.channels_last_on_cpu)
    same = run(spec, "digits", path, resume=saved, facts=here)
    assert (same.forced_resume, len(same.trail)) == (False, 1)
    foreign = dataclasses.replace(Checkpoint.load(path), **change)
    with pytest.raises(ResumeRefused, match=told):
        run(spec, "digits", path, resume=foreign, facts=here)
    trained = run(spec, "digits", path, resume=foreign, force=True, facts=here)
    assert trained.forced_resume
    assert trained.trail[-1]["sources_sha256"] == "b" * 64
    assert len(trained.trail) == (1 if "precision" in change else 2)


@pytest.mark.parametrize(
    ("profile", "allowed", "other", "goes_on"),
    [
        ("fast", "refuse", {"device": "NVIDIA of another model"}, True),
        ("reference", "refuse", {"device": "NVIDIA of another model"}, False),
        ("reference", "restart", {"device": "NVIDIA of another model"}, False),  # the worker starts afresh
        ("reference", "resume", {"device": "NVIDIA of another model"}, True),
        ("fast", "resume", {"device": "NVIDIA of another model", "torch": "1.0"}, False),
        ("fast", "resume", {"torch": "1.0"}, False),
    ],
)
def test_on_another_device_model_it_resumes_if_no_bits_are_promised_or_the_engine_allows_it(
    run, tmp_path, profile, allowed, other, goes_on
):
    path, spec, changes = tmp_path / "c.pt", MODELS["nin_dropout"], {"augmentation": Augmentation(flip=True)}
    through = bits(run(spec, "digits", path, profile=profile, **changes))
    with pytest.raises(Stopped):
        run(spec, "digits", path, after=2, profile=profile, **changes)
    foreign = dataclasses.replace(Checkpoint.load(path), **other)

    def resumed():
        return run(spec, "digits", path, resume=foreign, profile=profile, on_other_device=allowed, **changes)

    if goes_on:
        trained = resumed()
        assert trained.forced_resume
        assert bits(trained) == through  # the other device is pretended: every generator was put back
    else:
        with pytest.raises(ResumeRefused, match=" then, ") as refused:
            resumed()
        assert refused.value.other_model == (set(other) == {"device"})


def test_a_checkpoint_of_a_gpu_is_not_one_of_another_model_of_processor(tmp_path):
    path, spec = tmp_path / "c.pt", MODELS["lenet"]
    with pytest.raises(Stopped):
        run_on(CPU, spec, "digits", path, after=2)
    saved = Checkpoint.load(path)
    from_gpu = dataclasses.replace(
        saved, device="NVIDIA H100", generators={**saved.generators, "cuda": torch.zeros(16)}
    )
    with pytest.raises(ResumeRefused, match="device NVIDIA H100 then, ") as refused:
        run_on(CPU, spec, "digits", path, resume=from_gpu, profile="fast", on_other_device="resume")
    assert not refused.value.other_model


def test_weights_sha256_is_over_content_not_over_a_file():
    weights = {"b": torch.arange(6.0).reshape(2, 3), "a": torch.ones(2)}
    same = {"a": torch.ones(2), "b": weights["b"].t().contiguous().t()}  # another order, other strides
    assert weights_sha256(weights) == weights_sha256(same)
    assert weights_sha256(weights) != weights_sha256({**weights, "a": torch.ones(2, 1)})
    assert weights_sha256(weights) != weights_sha256({**weights, "a": torch.ones(2).double()})


def test_the_two_profiles_differ_only_where_a_device_gains():
    cuda = torch.device("cuda")
    reference, fast = profiles.resolve("reference", cuda), profiles.resolve("fast", cuda)
    assert reference["float32"] == "ieee"
    assert reference["autocast"] == "off"
    assert reference["deterministic"] is True
    assert fast["autocast"] == "bfloat16"
    assert set(reference) == set(fast)


# --- a second stage --------------------------------------------------------------------------------------------------------


def two_stages(epochs, rate=0.05, most=4):
    second = SecondStage(images=4, epochs=most, optimizer=SGD(learning_rate=rate), schedule=Constant())
    return {"epochs": epochs, "batch_size": 3, "schedule": Constant(), "second_stage": second}


def test_a_second_stage_trains_on_all_images_with_a_fresh_velocity_until_the_losses_match(run, tmp_path):
    """By hand: torch's SGD on the first 8 of 12 images, another one on all 12, the losses measured at each epoch's end."""
    spec, data = MODELS["lenet"], random_data("digits", 12, 6)
    trained = run(spec, "digits", tmp_path / "c.pt", data=data, **two_stages(2, most=6), weight_decay=0.0)
    torch.manual_seed(0)
    model = spec.variants["digits"].build()
    initialise(model, spec.variants["digits"].recipe)
    order = torch.Generator().manual_seed(1_000_003)
    x, y = data.train.stored, data.train.labels
    losses = []
    for count, epochs, rate, momentum in ((8, 2, 0.1, 0.9), (12, 6, 0.05, 0.0)):
        optimizer = torch.optim.SGD(model.parameters(), lr=rate, momentum=momentum)
        for _ in range(epochs):
            for chosen in torch.randperm(count, generator=order).split(3):
                optimizer.zero_grad()
                F.cross_entropy(model(x[chosen]), y[chosen]).backward()
                optimizer.step()
            part = slice(0, 8) if count == 8 else slice(8, 12)
            losses.append(F.cross_entropy(model(x[part]), y[part]).item())
            if count == 12 and losses[-1] <= losses[1]:
                break
    assert [row.get("objective") for row in trained.curve] == [None, *(pytest.approx(v, rel=1e-4) for v in losses[1:])]
    assert len(trained.curve) == len(losses)
    assert trained.curve[2]["learning_rate"] == 0.05
    for name, value in model.state_dict().items():
        assert torch.allclose(trained.weights[name], value, atol=1e-5)


def test_a_second_stage_is_resumed_to_the_same_bits_with_dropout(run, tmp_path):
    path, spec = tmp_path / "c.pt", MODELS["nin_dropout"]
    data = random_data("digits", 10, 4)
    changes = two_stages(1, rate=1e-6, most=2)
    through = run(spec, "digits", path, data=data, **changes)
    assert len(through.curve) == 3
    resume = None
    for after in [2] * 5:  # inside the first stage, between the stages, inside the second and between its epochs
        with pytest.raises(Stopped):
            run(spec, "digits", path, after=after, resume=resume, data=data, **changes)
        resume = Checkpoint.load(path)
    assert resume.epoch >= 1
    assert bits(run(spec, "digits", path, resume=resume, data=data, **changes)) == bits(through)
