"""Preprocessing against an independent reference: float64, one image at a time, singular values instead of eigenvalues."""

import functools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import convolve2d

from benchmarks.errors import UserError
from runner.data import cache
from runner.training import preprocess
from runner.training.preprocess import TRANSFORMS, GcnZca, fit
from zoo.recipe import PREPROCESSINGS


def quiet(message: str) -> None:
    """A log that nobody reads."""


def random_images(count: int, shape: tuple[int, int, int] = (3, 6, 6), seed: int = 0) -> np.ndarray:
    """Smooth random images, as strongly correlated between neighbours as photographs are."""
    random = np.random.default_rng(seed)
    noise = random.normal(size=(count, *shape)).cumsum(-1).cumsum(-2) * 20 + random.normal(size=(count, 1, 1, 1)) * 30
    return np.clip(noise + 128, 0, 255).astype(np.uint8)


def contrast_normalised(image: np.ndarray) -> np.ndarray:
    """pylearn2's global_contrast_normalize(scale=55) of one image, as a float64 vector."""
    vector = image.astype(np.float64).reshape(-1)
    vector = vector - math.fsum(vector) / vector.size
    divisor = math.sqrt(math.fsum(vector * vector)) / 55.0
    return vector if divisor < 1e-8 else vector / divisor


def reference(train: np.ndarray, images: np.ndarray) -> np.ndarray:
    """pylearn2's GCN and ZCA; whitening from the singular values of the training images, not from their covariance."""
    X = np.stack([contrast_normalised(image) for image in train])
    mean = X.mean(0)
    _, singular, right = np.linalg.svd(X - mean, full_matrices=False)
    gain = 1 / np.sqrt(singular**2 / len(X) + 0.1)  # along the right singular vectors; 1/sqrt(0.1) across them
    rows = np.stack([contrast_normalised(image) for image in images]) - mean
    along = rows @ right.T
    return ((along * gain) @ right + (rows - along @ right) / math.sqrt(0.1)).reshape(images.shape)


@pytest.mark.parametrize("count", [400, 60])  # more images than pixels (108), and fewer
def test_gcn_zca_is_pylearn2s(count):
    train, test = random_images(count), random_images(150, seed=1)
    transform = fit("gcn_zca", train, None, "")
    for images in (train, test):
        expected = reference(train, images)
        found = transform.apply(torch.from_numpy(images)).numpy()
        assert found.dtype == np.float32
        assert np.abs(found - expected).max() < 2e-5 * np.abs(expected).max()


def test_gcn_zca_makes_a_white_covariance():
    train = random_images(2000)
    white = fit("gcn_zca", train, None, "").apply(torch.from_numpy(train)).flatten(1).double()
    assert white.mean(0).abs().max() < 1e-5
    raw = np.stack([contrast_normalised(image) for image in train])
    before = np.linalg.eigvalsh(np.cov(raw.T, bias=True))
    after = torch.linalg.eigvalsh(white.T @ white / len(white)).numpy()
    assert np.allclose(np.sort(before / (before + 0.1)), after, atol=1e-5)


def test_images_of_one_colour_become_finite_and_all_the_same():
    train = random_images(200)
    transform = fit("gcn_zca", train, None, "")
    flat = np.stack([np.full((3, 6, 6), value, np.uint8) for value in (0, 1, 100, 255)])
    found = transform.apply(torch.from_numpy(flat))
    assert torch.isfinite(found).all()
    assert (found == found[0]).all()
    assert np.allclose(found.numpy(), reference(train, flat), atol=1e-4)


def test_unit_and_standardise_are_what_they_say():
    train, test = random_images(300), random_images(40, seed=1)
    mean = train.mean((0, 2, 3), dtype=np.float64)[:, None, None]
    deviation = train.astype(np.float64).std((0, 2, 3))[:, None, None]
    standardise, unit = fit("standardise", train, None, ""), fit("unit", train, None, "")
    for images in (train, test):
        tensor = torch.from_numpy(images)
        assert np.allclose(standardise.apply(tensor).numpy(), (images - mean) / deviation, atol=1e-5)
        assert torch.equal(unit.apply(tensor), tensor / 255)


def test_a_channel_of_one_colour_is_not_divided_by_zero():
    images = np.full((5, 1, 2, 2), 7, np.uint8)
    assert (fit("standardise", images, None, "").apply(torch.from_numpy(images)) == 0).all()


def test_names_are_described_and_unknown_ones_refused():
    assert PREPROCESSINGS.keys() == TRANSFORMS.keys()
    with pytest.raises(UserError, match="did you mean 'standardise'"):
        fit("standardize", random_images(2), None, "")


@pytest.mark.parametrize("name", PREPROCESSINGS)
def test_fitting_twice_gives_the_same_bits(name):
    train = random_images(300)
    first, second = (fit(name, train, None, "") for _ in range(2))
    assert first.digest == second.digest
    assert torch.equal(first.apply(torch.from_numpy(train)), second.apply(torch.from_numpy(train)))
    assert first.per_channel == (name in ("unit", "over_256", "lecun", "standardise"))
    assert (fit(name, train[:200], None, "").digest == first.digest) == (
        name in ("unit", "over_256", "lecun", "gcn_lcn")
    )


def test_a_fit_does_not_depend_on_the_caller_s_threads():
    train, before = random_images(3000, (3, 16, 16)), torch.get_num_threads()
    digests = []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            digests.append(fit("gcn_zca", train, None, "").digest)
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert len(set(digests)) == 1


@pytest.mark.parametrize("name", PREPROCESSINGS)
@settings(deadline=None, max_examples=20)
@given(start=st.integers(0, 299), count=st.integers(1, 300))
def test_an_image_becomes_the_same_whoever_its_neighbours_are(name, start, count):
    transform, train, whole = fitted(name), train_images(), transformed(name)
    part = transform.apply(train[start : start + count])
    if start % transform.block == 0 or transform.per_channel:
        assert torch.equal(part, whole[start : start + count])
    else:  # another place in the block may be another kernel of the matrix product
        assert torch.allclose(part, whole[start : start + count], rtol=0, atol=1e-5)


@functools.cache
def train_images() -> torch.Tensor:
    """The training images of all examples."""
    return torch.from_numpy(random_images(300))


@functools.cache
def fitted(name: str) -> preprocess.Transform:
    """A transform fitted once for all examples."""
    return fit(name, random_images(300), None, "")


@functools.cache
def transformed(name: str) -> torch.Tensor:
    """All training images, transformed at once."""
    return fitted(name).apply(train_images())


def test_no_images_become_no_images():
    for name in PREPROCESSINGS:
        found = fitted(name).apply(torch.zeros(0, 3, 6, 6, dtype=torch.uint8))
        assert (found.shape, found.dtype) == ((0, 3, 6, 6), torch.float32)


def test_precision_is_ieee_whatever_is_switched_on():
    images = torch.from_numpy(random_images(300))
    expected = fitted("gcn_zca").apply(images)
    before = torch.backends.cuda.matmul.fp32_precision
    try:
        torch.backends.cuda.matmul.fp32_precision = "tf32"
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert torch.equal(fitted("gcn_zca").apply(images), expected)
        assert torch.backends.cuda.matmul.fp32_precision == "tf32"
    finally:
        torch.backends.cuda.matmul.fp32_precision = before


def blurred(plane: np.ndarray, sigma: float) -> np.ndarray:
    """A plane (H, W) under a Gaussian of 7x7 that sums to 1, zeros beyond the edge; scipy's own convolution."""
    squares = np.arange(-3, 4) ** 2
    kernel = np.exp(-(squares[:, None] + squares) / (2 * sigma**2))
    return convolve2d(plane, kernel / kernel.sum(), mode="same")


def lecun_lcn(image: np.ndarray) -> np.ndarray:
    """pylearn2's GlobalContrastNormalization() and LeCunLCN of one image (C, H, W), in float64."""
    x = contrast_normalised(image).reshape(image.shape) / 55
    planes = []
    for plane in x:
        root = np.sqrt(blurred(plane**2, 2.0))
        planes.append((plane - blurred(plane, 2.0)) / np.maximum(np.maximum(root, root.mean()), 1e-4))
    return np.stack(planes)


def test_gcn_lcn_is_pylearn2s():
    images = random_images(150, (3, 32, 32))
    images[3], images[4, 1] = 200, 0  # one colour; one channel of one colour
    found = fit("gcn_lcn", images, None, "").apply(torch.from_numpy(images)).numpy()
    expected = np.stack([lecun_lcn(image) for image in images])
    assert np.abs(found - expected).max() < 2e-5 * np.abs(expected).max()


def torch7_contrastive(plane: np.ndarray) -> np.ndarray:
    """Torch7's nn.SpatialContrastiveNormalization(1, image.gaussian1D(7)) of one plane, in float64."""
    inside = blurred(np.ones(plane.shape), 0.25 * 7)
    centred = plane - blurred(plane, 0.25 * 7) / inside
    root = np.sqrt(blurred(centred**2, 0.25 * 7)) / inside
    return centred / np.where(root > 1e-4, root, 1e-4)


def test_yuv_lcn_is_cifar_torchs():
    train, test = random_images(200, (3, 32, 32)), random_images(140, (3, 32, 32), seed=1)
    test[5], test[6, :, :20] = 255, 255  # a white image, and one with a white part

    def yuv(images: np.ndarray) -> np.ndarray:
        R, G, B = images.astype(np.float64).transpose(1, 0, 2, 3)
        return np.stack(
            [
                0.299 * R + 0.587 * G + 0.114 * B,
                -0.14713 * R - 0.28886 * G + 0.436 * B,
                0.615 * R - 0.51499 * G - 0.10001 * B,
            ],
            axis=1,
        )

    chroma = yuv(train)[:, 1:]
    mean, deviation = (f(chroma, axis=(0, 2, 3))[:, None, None] for f in (np.mean, np.std))
    transform = fit("yuv_lcn", train, None, "")
    for images in (train, test):
        expected = yuv(images)
        expected[:, 0] = [torch7_contrastive(plane) for plane in expected[:, 0]]
        expected[:, 1:] = (expected[:, 1:] - mean) / deviation
        found = transform.apply(torch.from_numpy(images)).numpy()
        assert np.abs(found - expected).max() < 1e-5 * np.abs(expected).max()


def test_yuv_needs_colours():
    with pytest.raises(UserError, match="needs 3 channels, but these images have 1"):
        fit("yuv_lcn", random_images(3, (1, 8, 8)), None, "")


# --- the cache -------------------------------------------------------------------------------------------------------


def no_fit(images):
    raise RuntimeError("it is fitted")


def test_a_fit_is_kept_and_read_again(tmp_path, monkeypatch):
    train, lines = random_images(300), []
    first = fit("gcn_zca", train, tmp_path / "new", "a" * 64, lines.append)
    assert lines == ["gcn_zca: fitting on 300 images (only once)"]
    monkeypatch.setattr(GcnZca, "fit", no_fit)
    second = fit("gcn_zca", train, tmp_path / "new", "a" * 64, lines.append)
    assert len(lines) == 1
    assert second.digest == first.digest
    for other in (train[:200], "a" * 64), (train, "b" * 64):  # another number of images, other data
        with pytest.raises(RuntimeError, match="it is fitted"):
            fit("gcn_zca", other[0], tmp_path / "new", other[1], quiet)


def test_a_torn_fit_is_made_again(tmp_path):
    train = random_images(300)
    first = fit("gcn_zca", train, tmp_path, "a" * 64, quiet)
    (kept,) = tmp_path.glob("*.npz")
    content = bytearray(kept.read_bytes())
    for damaged in (b"", content[: len(content) // 2], content[:3000] + b"xxxx" + content[3004:]):
        kept.write_bytes(damaged)
        assert fit("gcn_zca", train, tmp_path, "a" * 64, quiet).digest == first.digest
        assert bytes(content) == kept.read_bytes()


# --- elsewhere, and on the real data -----------------------------------------------------------------------------------


@pytest.mark.gpu
@pytest.mark.parametrize("name", PREPROCESSINGS)
def test_a_gpu_gives_the_same_but_for_rounding(name):
    images = torch.from_numpy(random_images(300))
    expected, moved = fitted(name).apply(images), fitted(name).to("cuda")
    found = moved.apply(images.cuda())
    assert torch.allclose(found.cpu(), expected, rtol=0, atol=1e-4)
    assert moved.digest == fitted(name).digest
    before = torch.backends.cuda.matmul.fp32_precision
    try:
        torch.backends.cuda.matmul.fp32_precision = "tf32"
        assert torch.equal(moved.apply(images.cuda()), found)
    finally:
        torch.backends.cuda.matmul.fp32_precision = before


@pytest.mark.realdata
@pytest.mark.timeout(900)  # a minute on 2 cores that have nothing else to do
def test_real_cifar10_is_whitened_as_pylearn2_does(realdata, tmp_path):
    if not (realdata / "cifar-10-batches-py").exists():
        pytest.skip("no cifar-10-batches-py in REPROZOO_DATA")
    (tmp_path / "cifar-10-batches-py").symlink_to(realdata / "cifar-10-batches-py")
    real = cache.load("cifar10", tmp_path, allow_unverified=True, log=quiet)
    transform = fit("gcn_zca", real.train_images, real.cache_folder, real.facts.sha256, quiet)
    # The matrix P is the one symmetric positive root: P (C + 0.1 I) P = I, with C from numpy alone.
    rows = real.train_images.reshape(50_000, -1)
    mean, covariance = np.zeros(3072), np.zeros((3072, 3072))
    blocks = [slice(start, start + 5000) for start in range(0, 50_000, 5000)]

    def normalised(block: slice) -> np.ndarray:
        X = rows[block].astype(np.float64)
        X -= X.mean(1, keepdims=True)
        return X / (np.linalg.norm(X, axis=1, keepdims=True) / 55)

    for block in blocks:
        mean += normalised(block).sum(0) / 50_000
    for block in blocks:
        centred = normalised(block) - mean
        covariance += centred.T @ centred / 50_000
    P = transform.state()["matrix"].double().numpy()
    assert np.abs(P - P.T).max() < 1e-6
    assert np.abs(P @ (covariance + 0.1 * np.eye(3072)) @ P - np.eye(3072)).max() < 1e-4
    images = real.test_images[:500]
    expected = ((np.stack([contrast_normalised(image) for image in images]) - mean) @ P).reshape(images.shape)
    found = transform.apply(torch.from_numpy(images)).numpy()
    assert np.abs(found - expected).max() < 1e-4
    # The covariance that is left is C / (C + 0.1 I): all but white in the directions that pictures vary in.
    after = torch.zeros(3072, 3072, dtype=torch.float64)
    for block in blocks:
        white = transform.apply(torch.from_numpy(real.train_images[block])).flatten(1)
        after += (white.T @ white) / 50_000
    assert np.abs(after.numpy() @ (covariance + 0.1 * np.eye(3072)) - covariance).max() < 1e-3


@pytest.mark.parametrize("name", sorted(name for name, kind in TRANSFORMS.items() if kind.per_channel))
def test_a_set_preprocessed_once_gives_the_bits_of_preprocessing_each_batch(name):
    """Which of the two `prepare` does depends on the size of the set, and no training may."""
    images = random_images(300, (1, 28, 28))
    transform = fit(name, images, None, "", quiet)
    stored, order = torch.from_numpy(images), torch.randperm(300, generator=torch.Generator().manual_seed(0))
    once = transform.apply(stored)
    for start in range(0, 300, 128):
        indices = order[start : start + 128]
        assert torch.equal(once.index_select(0, indices), transform.apply(stored[indices]))
