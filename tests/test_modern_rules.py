"""Rules that recipes of today use, each against torch's or torchvision's own; and that no other recipe pays for them."""

import dataclasses

import pytest
import torch
import torch.nn.functional as F
from scipy import stats
from test_step import ieee_on_the_gpu, train_on_gpu, without_dropout  # noqa: F401
from test_train import CPU, MODELS, bits, random_data, reference_profile, run_on  # noqa: F401
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torchvision.transforms import v2

from benchmarks.errors import UserError
from runner.training import loop
from runner.training.augment import beta_quantiles, cutout, mixup
from runner.training.batches import Batches
from runner.training.checkpoint import Checkpoint
from runner.training.loop import Stopped
from runner.training.optimizers import averaged, optimizer_for, set_rate
from runner.training.step import Step, add_up, training_loss
from zoo.recipe import (
    EMA,
    SGD,
    Adam,
    AdamW,
    Augmentation,
    Cosine,
    Fixed,
    LabelSmoothing,
    Mixup,
    Moment,
    SecondStage,
    Shuffled,
    Warmup,
    recipe_from,
)

LENET = MODELS["lenet"].variants["digits"].recipe


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double()


def gradients(model, number):
    generator = torch.Generator().manual_seed(number)
    for parameter in model.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)


# --- optimizers and schedules --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("rule", "theirs"), [(Adam, torch.optim.Adam), (AdamW, torch.optim.AdamW)])
def test_adam_is_torchs_own_with_rates_and_decays_by_parameter(rule, theirs):
    recipe = dataclasses.replace(
        LENET,
        optimizer=rule(learning_rate=0.01, beta1=0.8, beta2=0.95, epsilon=1e-6),
        weight_decay=(("*.weight", 0.1),),
        lr_multipliers=(("*.bias", 2.0),),
    )
    ours, other = network(), network()
    optimizer = optimizer_for(ours, recipe)
    weights = [p for p in other.parameters() if p.ndim > 1]
    biases = [p for p in other.parameters() if p.ndim == 1]
    groups = [{"params": weights, "weight_decay": 0.1}, {"params": biases, "weight_decay": 0.0}]
    expected = theirs(groups, betas=(0.8, 0.95), eps=1e-6, foreach=False)
    for number, rate in enumerate((0.01, 0.01, 0.002, 0.002)):
        set_rate(optimizer, rate, recipe.optimizer.momentum_at(0))
        expected.param_groups[0]["lr"], expected.param_groups[1]["lr"] = rate, 2 * rate
        for model, one in ((ours, optimizer), (other, expected)):
            gradients(model, number)
            one.step()
    for a, b in zip(ours.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)


def test_the_two_adams_differ_in_their_decay_alone():
    ends = []
    for rule in (Adam, AdamW):
        model = network()
        optimizer = optimizer_for(
            model, dataclasses.replace(LENET, optimizer=rule(learning_rate=0.01), weight_decay=0.5)
        )
        for number in range(3):
            gradients(model, number)
            optimizer.step()
        ends.append(list(model.parameters()))
    assert (ends[0][0] - ends[1][0]).abs().max() > 1e-3
    assert torch.equal(ends[0][1], ends[1][1])  # a bias, which doesn't decay


@pytest.mark.parametrize(("unit", "steps"), [("epochs", 1), ("updates", 5)])
def test_a_cosine_is_torchs_and_stays_at_its_floor(unit, steps):
    schedule = Cosine(epochs=6, floor=0.001, unit=unit)
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=0.1)
    theirs = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=6 * steps, eta_min=0.001)
    for update in range(6 * steps + 1):
        moment = Moment(*divmod(update, steps), steps)
        assert schedule.rate(0.1, moment) == pytest.approx(theirs.get_last_lr()[0], rel=1e-9)
        optimizer.step()
        theirs.step()
    assert schedule.rate(0.1, Moment(9, 0, steps)) == pytest.approx(0.001)
    assert schedule.within_epochs is (unit == "updates")
    assert schedule.shortened(3) == Cosine(epochs=2, floor=0.001, unit=unit)


# --- images and labels ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_a_cutout_is_torchvisions_erase_around_each_pixel_as_often_as_any_other(layout):
    h, w, size = 5, 7, 4
    image = torch.arange(1, 2 * h * w + 1, dtype=torch.float32).view(2, h, w)
    expected = {}
    for y in range(h):
        for x in range(w):
            top, left = max(0, y - 2), max(0, x - 2)
            erased = v2.functional.erase(
                image, top, left, min(h, y + 2) - top, min(w, x + 2) - left, torch.zeros(1), inplace=False
            )
            expected.setdefault(erased.numpy().tobytes(), []).append((y, x))
    images = image.expand(4000, -1, -1, -1).contiguous(memory_format=layout)
    out = cutout(images, size, torch.Generator().manual_seed(0))
    assert out.is_contiguous(memory_format=layout)
    counts = dict.fromkeys(expected, 0)
    for made in out:
        counts[made.contiguous().numpy().tobytes()] += 1
    shares = [4000 * len(expected[key]) / (h * w) for key in counts]
    assert stats.chisquare(list(counts.values()), shares).pvalue > 0.001


def test_a_mixed_batch_is_torchvisions():
    images, labels = torch.randn(6, 3, 4, 4), torch.tensor([3, 1, 0, 2, 2, 1])
    theirs = v2.MixUp(alpha=0.4, num_classes=4)
    expected = [theirs.transform(x, {"lam": 0.3, "labels": labels, "batch_size": 6}) for x in (images, labels)]
    mixed = mixup(images, F.one_hot(labels, 4).float(), torch.tensor(0.3))
    for one, other in zip(mixed, expected, strict=True):
        torch.testing.assert_close(one, other)


def test_the_shares_are_drawn_from_the_beta_distribution_of_torch():
    torch.manual_seed(0)
    drawn = torch.distributions.Beta(torch.tensor(0.3), torch.tensor(0.3)).sample((5000,))
    quantiles = beta_quantiles(0.3, torch.device("cpu"))
    assert ((quantiles >= 0) & (quantiles <= 1)).all()
    assert stats.ks_2samp(drawn.numpy(), quantiles.numpy()).pvalue > 0.001


@pytest.mark.parametrize("ahead", [1, 3])
def test_each_batch_is_mixed_among_its_own_images_with_a_share_of_its_own(ahead):
    """Images that hold their number, so that both partners and their shares can be read from the mixture."""
    data = random_data("digits", 10).train
    data = dataclasses.replace(data, stored=torch.arange(10.0).view(10, 1, 1, 1).expand(10, 1, 8, 8).contiguous())
    recipe = dataclasses.replace(LENET, batch_size=4, augmentation=Augmentation(mixup=Mixup(alpha=1.0)))
    batches = Batches(data, recipe, torch.Generator().manual_seed(1), torch.contiguous_format, ahead, classes=10)
    batches.begin(torch.arange(10))
    found = []
    for step, (start, stop) in enumerate([(0, 4), (4, 8), (8, 10)]):
        images, targets = batches[step]
        own = torch.arange(start, stop).float()
        before = own.roll(1)
        share = ((images[0, 0, 0, 0] - before[0]) / (own[0] - before[0])).item()
        torch.testing.assert_close(images[:, 0, 0, 0], share * own + (1 - share) * before)
        labels = F.one_hot(data.labels[start:stop], 10).float()
        torch.testing.assert_close(targets, share * labels + (1 - share) * labels.roll(1, 0))
        found.append(share)
    assert len(set(found)) == 3


def test_smoothed_labels_are_torchs_and_the_curves_loss_is_without_them():
    logits, labels = torch.randn(5, 10), torch.tensor([1, 2, 3, 4, 9])
    loss = training_loss(MODELS["lenet"], dataclasses.replace(LENET, labels=LabelSmoothing(share=0.2)))
    smooth = 0.8 * F.one_hot(labels, 10) + 0.2 / 10
    torch.testing.assert_close(loss(logits, labels), -(smooth * logits.log_softmax(1)).sum(1).mean())
    torch.testing.assert_close(loss(logits, labels), F.cross_entropy(logits, labels, label_smoothing=0.2))
    model = nn.Linear(4, 10)
    step = Step(model, torch.optim.SGD(model.parameters(), lr=0.0), loss, torch.zeros(3, dtype=torch.float64))
    images = torch.randn(5, 4)
    step(images, labels)
    assert step.sums[0].item() == pytest.approx(5 * F.cross_entropy(model(images), labels).item())


def test_a_mixed_answer_is_wrong_by_what_is_not_its_classs_share():
    sums = torch.zeros(3, dtype=torch.float64)
    targets = torch.tensor([[0.7, 0.3], [0.0, 1.0]])
    add_up(sums.unbind(), torch.tensor(0.5), torch.tensor([[2.0, 1.0], [3.0, 1.0]]), targets)
    assert sums.tolist() == pytest.approx([1.0, 0.3 + 1.0, 2])


# --- averages ------------------------------------------------------------------------------------------------------------


def test_the_averages_are_torchs_ema_and_the_statistics_are_the_networks():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    theirs = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.9))
    recipe = dataclasses.replace(LENET, optimizer=SGD(learning_rate=0.1, momentum=0.9), average=EMA(decay=0.9))
    optimizer = optimizer_for(model, recipe)
    assert averaged(model, optimizer) is model
    for _ in range(4):
        model(torch.randn(8, 3)).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
        theirs.update_parameters(model)
    ours = averaged(model, optimizer)
    for one, other in zip(ours.parameters(), theirs.module.parameters(), strict=True):
        torch.testing.assert_close(one, other)
    assert torch.equal(ours[1].running_mean, model[1].running_mean)
    assert not torch.equal(ours[0].weight, model[0].weight)


MODERN = {
    "optimizer": AdamW(learning_rate=0.01),
    "schedule": Warmup(epochs=1, then=Cosine(epochs=2)),
    "augmentation": Augmentation(translate=1, cutout=4, mixup=Mixup(alpha=0.2)),
    "labels": LabelSmoothing(share=0.1),
    "average": EMA(decay=0.5),
}


def test_a_training_with_all_of_them_is_resumed_to_the_same_bits_and_keeps_its_averages(tmp_path):
    """The error that counts is the averages': the weights that are kept give the last row's."""
    path, spec, data = tmp_path / "c.pt", MODELS["lenet"], random_data("digits", 10, 30)
    whole = run_on(CPU, spec, "digits", path, data=data, **MODERN)
    resume = None
    for after in (3, 3):
        with pytest.raises(Stopped):
            run_on(CPU, spec, "digits", path, after=after, resume=resume, data=data, **MODERN)
        resume = Checkpoint.load(path)
    assert bits(run_on(CPU, spec, "digits", path, resume=resume, data=data, **MODERN)) == bits(whole)
    model = spec.variants["digits"].build().eval()
    model.load_state_dict(whole.weights)
    with torch.no_grad():
        wrong = (model(data.test.images(slice(0, 30))).argmax(1) != data.test.labels).sum().item()
    assert wrong == whole.wrong
    last = Checkpoint.load(path)
    assert any(not torch.equal(last.model[name], whole.weights[name]) for name in last.model)


@pytest.mark.gpu
def test_a_captured_graph_trains_all_of_them_as_the_eager_step_does(tmp_path, ieee_on_the_gpu, monkeypatch):  # noqa: F811
    spec, path = without_dropout(MODELS["lenet"], "digits"), tmp_path / "checkpoint.pt"
    monkeypatch.setattr(loop, "AHEAD", 1)  # an eager step makes its batches one by one: the same draws for each
    eager = train_on_gpu(spec, "digits", ieee_on_the_gpu, path, **MODERN)
    switches = {**ieee_on_the_gpu, "graphs": True}
    with pytest.raises(Stopped):
        train_on_gpu(spec, "digits", switches, path, after=3, **MODERN)
    resumed = train_on_gpu(spec, "digits", switches, path, resume=Checkpoint.load(path), **MODERN)
    assert resumed.switches["graphs"] is True  # no capture failed
    for key, value in eager.weights.items():
        torch.testing.assert_close(resumed.weights[key].float(), value.float(), rtol=1e-2, atol=1e-3)


# --- what they cost others -----------------------------------------------------------------------------------------------


def test_no_recipe_without_them_says_anything_of_them():
    for spec in MODELS.values():
        for variant in spec.variants.values():
            recipe = variant.recipe.to_dict()
            assert not {"labels", "average"} & recipe.keys()
            assert not {"cutout", "mixup"} & recipe.get("augmentation", {}).keys()
            assert training_loss(spec, variant.recipe) is spec.loss
    modern = dataclasses.replace(LENET, **MODERN)
    assert recipe_from(modern.to_dict()) == modern
    assert modern.to_dict()["augmentation"] == {"translate": 1, "cutout": 4, "mixup": {"rule": "Mixup", "alpha": 0.2}}
    assert str(modern.augmentation) == "translate 1 + cutout 4 + mixup 0.2"


def test_a_model_with_a_loss_of_its_own_refuses_other_targets():
    spec = MODELS["lenet5"]
    recipe = spec.variants["mnist"].recipe
    for changes in ({"labels": LabelSmoothing(share=0.1)}, {"augmentation": Augmentation(mixup=Mixup(alpha=0.2))}):
        with pytest.raises(UserError, match=r"lenet5: .* needs the plain cross-entropy"):
            training_loss(spec, dataclasses.replace(recipe, order=Shuffled(), **changes))


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda: Adam(learning_rate=0.1, beta2=1.0), "beta2 is 1.0"),
        (lambda: AdamW(learning_rate=0.0), "learning_rate is 0.0"),
        (lambda: Cosine(epochs=3, unit="steps"), "unit is 'steps', expected one of: epochs, updates"),
        (lambda: Augmentation(cutout=3), "cutout is 3, expected an even number"),
        (lambda: Mixup(alpha=0.0), "alpha is 0.0"),
        (lambda: LabelSmoothing(share=1.0), "share is 1.0"),
        (lambda: EMA(decay=1.0), "decay is 1.0"),
        (
            lambda: dataclasses.replace(
                LENET, schedule=Cosine(epochs=3), optimizer=SGD(learning_rate=0.1, convention="caffe")
            ),
            "schedule is a Cosine",
        ),
        (
            lambda: dataclasses.replace(LENET, order=Fixed(), augmentation=Augmentation(mixup=Mixup(alpha=1.0))),
            "order is the same in each epoch",
        ),
        (
            lambda: dataclasses.replace(
                LENET, average=EMA(decay=0.9), second_stage=SecondStage(images=1, epochs=1, optimizer=LENET.optimizer)
            ),
            "average is set, expected none",
        ),
    ],
)
def test_what_cannot_be_trained_is_refused_by_name(change, problem):
    with pytest.raises(ValueError, match=problem):
        change()
