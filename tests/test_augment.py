"""Augmentation: every output is a crop of the padded image, and how often which one comes is what torchvision does."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor

from benchmarks.errors import UserError
from runner.training.augment import augment
from runner.training.batches import Batches, DeviceSet, prepare
from runner.training.preprocess import fit
from zoo.nin import RELEASED
from zoo.recipe import Augmentation

CASES = [(True, 2), (True, 0), (False, 3)]


def generator(seed: int = 0, device: str = "cpu") -> torch.Generator:
    return torch.Generator(device).manual_seed(seed)


def numbered(count: int, c: int = 2, h: int = 6, w: int = 7) -> Tensor:
    """Images in which no two pixels are equal, and none is 0."""
    return torch.arange(1, count * c * h * w + 1, dtype=torch.float32).view(count, c, h, w)


def crops(image: Tensor, flip: bool, translate: int) -> list[Tensor]:
    """Every image that may come of one (C, H, W), by slicing; those of the right shift and side in order."""
    _, h, w = image.shape
    padded = F.pad(image, (translate,) * 4)
    places = range(2 * translate + 1)
    windows = [padded[:, down : down + h, right : right + w] for down in places for right in places]
    return [crop for window in windows for crop in ([window, window.flip(2)] if flip else [window])]


def which(images: Tensor, out: Tensor, flip: bool, translate: int) -> list[int]:
    """For each output the number of the one crop (of any image) that it is; fails where it is none."""
    numbers: dict[bytes, int] = {}
    for image in images.unique(dim=0):  # no two pixels are equal, so no two crops are
        numbers |= {crop.numpy().tobytes(): number for number, crop in enumerate(crops(image, flip, translate))}
    assert len(numbers) == len(images.unique(dim=0)) * (1 + flip) * (2 * translate + 1) ** 2
    return [numbers[made.cpu().contiguous().numpy().tobytes()] for made in out]


@settings(deadline=None, max_examples=40)
@given(
    count=st.integers(0, 5),
    shape=st.tuples(st.integers(1, 4), st.integers(2, 9), st.integers(2, 9)),
    case=st.tuples(st.booleans(), st.integers(0, 3)),
    seed=st.integers(0, 2**31),
    channels_last=st.booleans(),
    dtype=st.sampled_from([torch.float32, torch.bfloat16, torch.int16]),
)
def test_every_output_is_one_crop_of_the_padded_input(count, shape, case, seed, channels_last, dtype):
    flip, translate = case[0], min(case[1], min(shape[1:]) - 1)
    images = numbered(count, *shape).remainder(251).add(1).to(dtype)
    if channels_last:
        images = images.contiguous(memory_format=torch.channels_last)
    before = images.clone()
    out = augment(images, flip, translate, generator(seed))
    assert torch.equal(images, before)
    assert (out.shape, out.dtype) == (images.shape, images.dtype)
    for image, made in zip(images, out, strict=True):
        assert any(torch.equal(crop, made) for crop in crops(image, flip, translate))


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("name", ["standardise", "unit"])
def test_with_a_black_border_it_is_as_if_the_picture_had_been_shifted_before_it_was_normalised(name, layout):
    """Against torchvision's order of things: pad the uint8 picture with black, crop it, flip it, then normalise."""
    from torchvision.transforms.v2.functional import pad

    pixels = np.random.default_rng(0).integers(1, 256, (20, 3, 6, 7), dtype=np.uint8)
    facts = SimpleNamespace(
        train_images=pixels, train_labels=np.zeros(20), test_images=pixels, test_labels=np.zeros(20)
    )
    facts.validation_size, facts.cache_folder, facts.facts = 0, None, SimpleNamespace(sha256="")
    prepared = prepare(facts, name, 0, torch.device("cpu"), lambda line: None)
    augmentation = Augmentation(flip=True, translate=2, border="black")
    recipe = replace(RELEASED, batch_size=20, preprocessing=name, augmentation=augmentation)
    batches = Batches(prepared.train, recipe, generator(), layout)
    batches.begin(torch.arange(20))
    normalise = fit(name, pixels, None, "").apply
    for raw, made in zip(torch.from_numpy(pixels), batches[0][0], strict=True):
        wide = pad(raw, [2, 2, 2, 2])
        windows = [wide[:, down : down + 6, right : right + 7] for down in range(5) for right in range(5)]
        expected = normalise(torch.stack([side for window in windows for side in (window, window.flip(2))]))
        assert any(torch.equal(made, one) for one in expected)


def test_a_black_border_needs_a_preprocessing_that_has_one():
    images = DeviceSet(numbered(3), torch.zeros(3, dtype=torch.int64), None)
    recipe = replace(RELEASED, augmentation=Augmentation(flip=True, translate=2, border="black"))
    with pytest.raises(UserError, match="border is 'black', but gcn_zca does not map black to one value"):
        Batches(images, recipe, generator(), torch.contiguous_format)


@pytest.mark.parametrize(("flip", "translate"), CASES)
def test_every_crop_comes_equally_often_and_images_are_independent(flip, translate):
    images = numbered(1).expand(4000, -1, -1, -1)
    found = np.array(which(images, augment(images, flip, translate, generator()), flip, translate))
    possible = (1 + flip) * (2 * translate + 1) ** 2
    assert stats.chisquare(np.bincount(found, minlength=possible)).pvalue > 0.001
    neighbours = np.histogram2d(found[:-1] % 3, found[1:] % 3, bins=3)[0] if possible > 2 else np.ones((2, 2))
    assert stats.chi2_contingency(neighbours).pvalue > 0.001


@pytest.mark.parametrize(("flip", "translate"), CASES)
def test_the_statistics_are_torchvisions(flip, translate):
    from torchvision import transforms

    image = numbered(1)[0]
    parts = [transforms.RandomCrop(image.shape[1:], padding=translate)] * bool(translate)
    theirs = transforms.Compose([*parts, *[transforms.RandomHorizontalFlip()] * flip])
    with torch.random.fork_rng():
        torch.manual_seed(0)
        expected = torch.stack([theirs(image) for _ in range(3000)])
    images = image.expand(3000, -1, -1, -1)
    counts = [
        np.bincount(which(images, out, flip, translate), minlength=(1 + flip) * (2 * translate + 1) ** 2)
        for out in (expected, augment(images, flip, translate, generator(1)))
    ]
    assert stats.chi2_contingency(np.stack(counts)).pvalue > 0.001
    if flip:
        sides = np.stack([[count[0::2].sum(), count[1::2].sum()] for count in counts])
        assert abs(sides[1, 0] / sides[1].sum() - 0.5) < 0.03
        assert stats.chi2_contingency(sides).pvalue > 0.001


def test_nothing_asked_for_is_nothing_done():
    images, source = numbered(3), generator()
    before = source.get_state()
    assert augment(images, False, 0, source) is images
    assert torch.equal(source.get_state(), before)


def test_the_generator_determines_it():
    images = numbered(64)
    first, again, other = (augment(images, True, 3, generator(seed)) for seed in (5, 5, 6))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    source = generator(5)
    augment(images, True, 3, source)
    assert not torch.equal(augment(images, True, 3, source), first)


def test_the_memory_format_is_kept_and_changes_no_value():
    images = numbered(8)
    dense = augment(images, True, 2, generator())
    last = augment(images.contiguous(memory_format=torch.channels_last), True, 2, generator())
    assert torch.equal(dense, last)
    assert dense.is_contiguous()
    assert last.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.gpu
@pytest.mark.parametrize(("flip", "translate"), CASES)
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_it_runs_on_a_gpu_with_a_generator_of_either_side(flip, translate, device):
    images = numbered(50).cuda()
    out = augment(images, flip, translate, generator(0, device))
    assert out.device == images.device
    assert len(which(images.cpu(), out, flip, translate)) == 50
