"""The readers, the cache, the downloads: on small files in the official formats, and (realdata) on the real ones."""

import dataclasses
import fcntl
import gzip
import io
import json
import os
import pickle
import pickletools
import struct
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import datafiles
import numpy as np
import pytest
import rich.console
import scipy.io
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.datasets import CIFAR10, CIFAR100, DATASETS, DIGITS, MNIST, SVHN, Dataset
from benchmarks.errors import UserError
from runner.data import cache, folder, readers, status
from runner.data.archives import Member
from runner.data.folder import data_folder


@pytest.fixture(autouse=True)
def _own_home(tmp_path_factory, monkeypatch):
    """Nothing is written into the real home; no variable of the real user counts."""
    monkeypatch.setenv("HOME", str(tmp_path_factory.mktemp("home")))


def quiet(message: str) -> None:
    """A log that nobody reads."""


def load(dataset, folder, allow_unverified=False, log=quiet):
    return cache.load(dataset, folder, allow_unverified, log)


def the_line(call, *arguments) -> str:
    """The one line that a call ends in."""
    with pytest.raises(UserError) as caught:
        call(*arguments)
    line = str(caught.value)
    assert "\n" not in line
    assert "Traceback" not in line
    return line


def entries(folder: Path, dataset: Dataset) -> list[Path]:
    return [path for path in (folder / ".reprozoo" / dataset.name).iterdir() if path.is_dir()]


# --- facts -----------------------------------------------------------------------------------------------------------


def test_md5s_are_torchvisions():
    from torchvision.datasets import CIFAR10 as TV_CIFAR10
    from torchvision.datasets import CIFAR100 as TV_CIFAR100
    from torchvision.datasets import MNIST as TV_MNIST
    from torchvision.datasets import SVHN as TV_SVHN

    assert [(file.name, file.md5) for file in MNIST.files] == TV_MNIST.resources
    assert set(TV_MNIST.mirrors) <= set(MNIST.mirrors)
    (archive,) = CIFAR10.files
    assert (archive.name, archive.md5) == (TV_CIFAR10.filename, TV_CIFAR10.tgz_md5)
    expected = [(f"{TV_CIFAR10.base_folder}/{name}", md5) for name, md5 in TV_CIFAR10.train_list + TV_CIFAR10.test_list]
    assert list(archive.unpacked) == expected
    assert CIFAR10.mirrors[0] + archive.name == TV_CIFAR10.url
    (archive,) = CIFAR100.files
    assert (archive.name, archive.md5) == (TV_CIFAR100.filename, TV_CIFAR100.tgz_md5)
    expected = [
        (f"{TV_CIFAR100.base_folder}/{name}", md5) for name, md5 in TV_CIFAR100.train_list + TV_CIFAR100.test_list
    ]
    assert list(archive.unpacked) == expected
    urls = [[SVHN.mirrors[0] + file.name, file.path, file.md5] for file in SVHN.files]
    assert sorted(urls) == sorted(TV_SVHN.split_list.values())


def test_every_data_set_has_its_reader_and_its_files_a_place():
    for dataset in DATASETS.values():
        assert dataset.format in readers.READERS
        assert bool(dataset.files) != bool(dataset.sha256)
        for file in dataset.files:
            assert all(not Path(path).is_absolute() for path in (file.path, *dict(file.unpacked)))


def test_the_data_folder_is_the_flag_then_the_variable_then_the_cache(tmp_path, monkeypatch):
    monkeypatch.delenv("REPROZOO_DATA", raising=False)
    assert data_folder() == Path.home() / ".cache" / "reprozoo"
    monkeypatch.setenv("REPROZOO_DATA", str(tmp_path / "variable"))
    assert data_folder() == tmp_path / "variable"
    assert data_folder(tmp_path / "flag") == tmp_path / "flag"
    (tmp_path / "file").touch()
    assert "is a file" in the_line(data_folder, tmp_path / "file")
    assert "nobody-here" in the_line(data_folder, Path("~nobody-here/x"))


# --- loading ---------------------------------------------------------------------------------------------------------


def test_digits_are_exact_and_those_expected(tmp_path):
    from sklearn.datasets import load_digits

    found = load("digits", tmp_path)
    original = load_digits()
    assert found.facts.verified
    assert found.facts.sha256 == DIGITS.sha256
    images = np.concatenate([found.train_images, found.test_images])
    assert np.array_equal(images[:, 0] / 15, original.images)
    assert np.array_equal(np.concatenate([found.train_labels, found.test_labels]), original.target)
    assert (found.train_images.shape, found.test_images.shape) == ((1437, 1, 8, 8), (360, 1, 8, 8))


def test_digits_without_scikit_learn(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    assert "scikit-learn, which is not installed" in the_line(load, "digits", tmp_path)


def test_other_digits_than_expected_are_refused(tmp_path):
    other = dataclasses.replace(DIGITS, sha256="0" * 64)
    assert "scikit-learn's images are not the expected ones" in the_line(load, other, tmp_path)
    assert not load(other, tmp_path, allow_unverified=True).facts.verified


@pytest.mark.parametrize("packed", [False, True])
def test_mnist_files_are_read_as_they_were_written(tmp_path, packed):
    dataset = datafiles.tiny_mnist(tmp_path, packed)
    found = load(dataset, tmp_path)
    images, labels = datafiles.images_and_labels(30, (1, 6, 5), seed=1)
    assert np.array_equal(found.train_images, images)
    assert np.array_equal(found.train_labels, labels)
    assert (found.test_images.shape, found.test_labels.dtype) == ((10, 1, 6, 5), np.int64)
    assert found.facts.verified
    assert found.facts.provenance is None


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("python2", [False, True])
def test_cifar_files_are_read_as_they_were_written(tmp_path, packed, python2):
    dataset = datafiles.tiny_cifar(tmp_path, packed, python2)
    found = load(dataset, tmp_path)
    for i in range(5):
        images, labels = datafiles.images_and_labels(8, (3, 4, 4), seed=i)
        assert np.array_equal(found.train_images[8 * i : 8 * i + 8], images)
        assert np.array_equal(found.train_labels[8 * i : 8 * i + 8], labels)
    assert np.array_equal(found.test_images, datafiles.images_and_labels(8, (3, 4, 4), seed=5)[0])
    assert found.facts.verified


def test_the_digest_is_of_the_images_not_of_the_files(tmp_path):
    old, new = tmp_path / "old", tmp_path / "new"
    first = load(datafiles.tiny_cifar(old, python2=True), old)
    second = load(datafiles.tiny_cifar(new, packed=True, python2=False), new)
    assert first.facts.sha256 == second.facts.sha256


def test_arrays_are_maps_that_torch_takes_and_that_change_no_file(tmp_path):
    import torch

    dataset = datafiles.tiny_cifar(tmp_path)
    found = load(dataset, tmp_path)
    tensor = torch.from_numpy(found.train_images)  # a warning would be an error here
    before = int(tensor[0, 0, 0, 0])
    tensor[0, 0, 0, 0] = 255 - before
    assert load(dataset, tmp_path).train_images[0, 0, 0, 0] == before


def test_the_official_form_wins_where_both_lie_there(tmp_path):
    dataset = datafiles.tiny_cifar(tmp_path, packed=True)
    other = tmp_path / "cifar-10-batches-py"
    other.mkdir()
    for path, _ in dataset.files[0].unpacked:
        (tmp_path / path).write_bytes(b"not the official one")
    assert load(dataset, tmp_path).facts.verified


def test_an_unknown_name_and_a_missing_folder(tmp_path):
    assert "did you mean 'cifar10'" in the_line(load, "cifar-10", tmp_path)
    for name in ("mnist", "cifar10"):
        line = the_line(load, name, tmp_path / "nowhere")
        assert "runner data prepare" in line
        assert str(tmp_path / "nowhere" / DATASETS[name].files[0].path) in line
    assert not (tmp_path / "nowhere").exists()
    (tmp_path / "file").touch()
    assert "is a file" in the_line(load, "mnist", tmp_path / "file")
    assert "missing" in the_line(load, "mnist", tmp_path / "file" / "below")


def test_one_missing_file_is_named(tmp_path):
    dataset = datafiles.tiny_mnist(tmp_path)
    (tmp_path / "MNIST/raw/t10k-labels-idx1-ubyte").unlink()
    line = the_line(load, dataset, tmp_path)
    assert "1 of 4 files missing" in line
    assert "t10k-labels-idx1-ubyte" in line


# --- not the official files ------------------------------------------------------------------------------------------


def another_batch(folder: Path, name: str = "data_batch_2", content: bytes | None = None) -> None:
    images, labels = datafiles.images_and_labels(8, (3, 4, 4), seed=77)
    path = folder / "cifar-10-batches-py" / name
    path.write_bytes(datafiles.cifar_batch(images, labels) if content is None else content)


def test_unofficial_files_are_refused_and_on_request_marked(tmp_path):
    dataset = datafiles.tiny_cifar(tmp_path)
    another_batch(tmp_path)
    another_batch(tmp_path, "test_batch")
    found = datafiles.md5((tmp_path / "cifar-10-batches-py/data_batch_2").read_bytes())
    line = the_line(load, dataset, tmp_path)
    for part in ("data_batch_2", found, dict(dataset.files[0].unpacked)["cifar-10-batches-py/data_batch_2"]):
        assert part in line
    for part in ("test_batch", "runner data prepare", "--allow-unverified-data"):
        assert part in line
    assert not (tmp_path / ".reprozoo").exists()
    facts = load(dataset, tmp_path, allow_unverified=True).facts
    assert not facts.verified
    assert facts.provenance == "Not the official files: data_batch_2, test_batch (another md5, origin unknown)."
    assert the_line(load, dataset, tmp_path) == line  # from the cache now, with the same words


def test_provenance_is_one_harmless_sentence(tmp_path):
    dataset = datafiles.tiny_cifar(tmp_path)
    place = tmp_path / "cifar-10-batches-py" / "PROVENANCE.txt"
    place.write_bytes("Re-encoded\n\x1b[31m by\ta \u202eproxy \xff".encode("latin1", "replace") + b"x" * 5000)
    assert load(dataset, tmp_path).facts.provenance is None  # the files are the official ones
    another_batch(tmp_path)
    sentence = load(dataset, tmp_path, allow_unverified=True).facts.provenance
    assert sentence is not None
    assert sentence.startswith("Re-encoded [31m by a ?proxy")
    assert sentence.isprintable()
    assert len(sentence) == 300
    place.write_text("Another sentence.\n")
    assert load(dataset, tmp_path, allow_unverified=True).facts.provenance == "Another sentence."


# --- bad files -------------------------------------------------------------------------------------------------------


def refused(dataset: Dataset, folder: Path) -> str:
    """The line for files that are accepted as unofficial, and then aren't good; nothing is left behind."""
    line = the_line(load, dataset, folder, True)
    assert not entries(folder, dataset)
    return line


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "not a complete idx file"),
        (b"\0\0\x08", "not a complete idx file"),
        (b"<html>404</html>", "not a complete idx file"),
        (datafiles.idx_bytes(np.zeros((30, 6, 5)))[:-1], "not a complete idx file"),
        (datafiles.idx_bytes(np.zeros((30, 6, 5))) + b"x", "not a complete idx file"),
        (datafiles.idx_bytes(np.zeros((29, 6, 5))), "holds uint8 (29, 6, 5), expected uint8 (30, 6, 5)"),
        (datafiles.idx_bytes(np.zeros(30)), "holds uint8 (30,), expected uint8 (30, 6, 5)"),
        (struct.pack(">HBB3I", 0, 13, 3, 30, 6, 5) + bytes(4 * 30 * 6 * 5), "holds float32"),
        (struct.pack(">HBB3I", 0, 8, 3, 2**32 - 1, 2**32 - 1, 2**32 - 1) + bytes(9), "not a complete idx file"),
        (bytes(2**21), "more than Tiny can have"),
    ],
)
def test_bad_idx_files_are_one_line(tmp_path, content, says):
    dataset = datafiles.tiny_mnist(tmp_path)
    (tmp_path / "MNIST/raw/train-images-idx3-ubyte").write_bytes(content)
    line = refused(dataset, tmp_path)
    assert says in line
    assert "train-images-idx3-ubyte" in line


def test_labels_out_of_range_are_one_line(tmp_path):
    dataset = datafiles.tiny_mnist(tmp_path)
    labels = np.zeros(10, np.uint8)
    labels[3] = 10
    (tmp_path / "MNIST/raw/t10k-labels-idx1-ubyte").write_bytes(datafiles.idx_bytes(labels))
    assert "a test label is 10, expected 0 to 9" in refused(dataset, tmp_path)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "not a complete idx file"),
        (b"<html>404</html>", "can't be unpacked (Not a gzipped file"),
        (gzip.compress(bytes(10_000), mtime=0)[:-12], "can't be unpacked"),
        (gzip.compress(bytes(2**22), mtime=0), "unpacks to more bytes"),
    ],
)
def test_bad_gz_files_are_one_line(tmp_path, content, says):
    dataset = datafiles.tiny_mnist(tmp_path, packed=True)
    (tmp_path / "MNIST/raw/train-images-idx3-ubyte.gz").write_bytes(content)
    assert says in refused(dataset, tmp_path)


def reduce_to(module: str, name: str, argument: str) -> bytes:
    return f"c{module}\n{name}\n(S'{argument}'\ntR.".encode()


class Evil:
    def __reduce__(self):
        return os.system, ("touch reprozoo-was-here",)


X, Y = datafiles.images_and_labels(8, (3, 4, 4), seed=1)


def batch(**changes) -> bytes:
    return pickle.dumps({"data": X.reshape(8, -1), "labels": Y.tolist()} | changes, protocol=4)


def laughs() -> list:
    value: list = []
    for _ in range(60):
        value = [value, value]
    return value


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "pickle exhausted"),
        (b"<html>404</html>", "not a complete CIFAR batch"),
        (batch()[:-20], "not a complete CIFAR batch"),
        (batch()[:200], "not a complete CIFAR batch"),
        (pickle.dumps([1, 2, 3]), "no array 'data'"),
        (pickle.dumps({"data": [1], "labels": [1]}), "no array 'data'"),
        (batch(labels=Y), "it lacks a list 'labels'"),
        (batch(labels=Y.tolist()[:-1]), "8 images, but 7 labels"),
        (batch(labels=[10] * 8), "a label is 10, expected 0 to 9"),
        (batch(labels=[-1] * 8), "a label is -1"),
        (batch(labels=["1"] * 8), "a label is str"),
        (batch(labels=[True] * 8), "a label is bool"),
        (batch(labels=[laughs()] * 8), "a label is list"),
        (batch(data=X.reshape(8, -1)[:, :-1].copy()), "'data' has the shape (8, 47), expected (n, 48)"),
        (batch(data=X), "'data' has the shape (8, 3, 4, 4)"),
        (batch(data=X.reshape(8, -1).astype(np.float32)), "is not of unsigned bytes"),
        (batch(data=np.array([[Evil()]], dtype=object)), "which no data file contains"),
        (pickle.dumps(Evil()), "refers to posix.system"),
        (pickle.dumps(Evil(), protocol=0), "refers to posix.system"),
        (reduce_to("builtins", "eval", "1/0"), "refers to builtins.eval"),
        (reduce_to("numpy", "load", "x"), "refers to numpy.load"),
        (reduce_to("numpy.core.multiarray", "fromfile", "x"), "refers to numpy.core.multiarray.fromfile"),
        (b"\x80\x02N" + b"r\xff\xff\xff\xff" + b".", "memo index"),
        (b"\x80\x04\x8e" + struct.pack("<Q", 2**50) + b"x.", "not a complete CIFAR batch"),
        (bytes(2**21), "more than Tiny can have"),
    ],
)
def test_bad_batches_are_one_line_and_run_nothing(tmp_path, monkeypatch, content, says):
    monkeypatch.chdir(tmp_path)
    dataset = datafiles.tiny_cifar(tmp_path)
    another_batch(tmp_path, content=content)
    line = refused(dataset, tmp_path)
    assert says in line
    assert "data_batch_2" in line
    assert not Path("reprozoo-was-here").exists()


def test_a_batch_with_a_wrong_count_is_detected(tmp_path):
    dataset = datafiles.tiny_cifar(tmp_path)
    another_batch(tmp_path, content=datafiles.cifar_batch(X[:7], Y[:7]))
    assert "train images are uint8 (39, 3, 4, 4), expected uint8 (40, 3, 4, 4)" in refused(dataset, tmp_path)


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
def test_arrays_are_read_in_every_spelling_that_files_have(protocol):
    dataset = Dataset("tiny", "Tiny", 10, (3, 4, 4), 8, 8, "cifar")
    content = datafiles.cifar_batch(X, Y, protocol)
    if protocol < 3:
        with pytest.raises(ValueError, match="refers to _codecs"):  # Python 3 pickles bytes so; no data file does
            readers.unpickle_arrays(content)
        return
    spellings = [content]
    if protocol == 3:
        spellings.append(content.replace(b"numpy._core", b"numpy.core"))
    with tempfile.TemporaryDirectory() as folder:
        for number, spelling in enumerate(spellings):
            path = Path(folder) / str(number)
            path.write_bytes(spelling)
            images, labels = readers.read_cifar_batch(Member(path, "x"), dataset)
            assert np.array_equal(images, X)
            assert np.array_equal(labels, Y)


def test_fortran_order_is_read_right():
    array = np.asfortranarray(X.reshape(8, -1))
    assert np.array_equal(readers.unpickle_arrays(pickle.dumps(array, protocol=4)).value(), array)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda files: datafiles.tar_gz(files | {"../../evil": b"x"}), "outside of its own folder"),
        (lambda files: datafiles.tar_gz({"/evil": b"x"} | files), "outside of its own folder"),
        (lambda files: datafiles.tar_gz({"other": b"x"}), "it lacks cifar-10-batches-py/data_batch_1"),
        (lambda files: datafiles.tar_gz(files)[:-300], "can't be unpacked"),
        (lambda files: datafiles.tar_gz({"big": bytes(2**25)} | files), "more bytes than the data set has"),
        (lambda files: gzip.compress(b"no archive", mtime=0), "can't be unpacked"),
        (lambda files: b"no gzip either", "can't be unpacked"),
    ],
)
def test_bad_archives_are_one_line_and_leave_nothing(tmp_path, make, says):
    folder = tmp_path / "a" / "b" / "data"
    folder.mkdir(parents=True)
    dataset = datafiles.tiny_cifar(folder)
    files = {path: (folder / path).read_bytes() for path, _ in dataset.files[0].unpacked}
    for path in files:
        (folder / path).unlink()
    (folder / "cifar-10-python.tar.gz").write_bytes(make(files))
    assert says in refused(dataset, folder)
    assert not list(tmp_path.rglob("evil"))


# --- CIFAR-100 and SVHN ----------------------------------------------------------------------------------------------


def test_cifar100_has_fine_labels_and_coarse_ones(tmp_path):
    dataset = datafiles.tiny_cifar100(tmp_path)
    found = load(dataset, tmp_path)
    for split, count, seed in (("train", 40, 0), ("test", 20, 1)):
        images, fine = datafiles.images_and_labels(count, (3, 4, 4), classes=6, seed=seed)
        assert np.array_equal(getattr(found, f"{split}_images"), images)
        assert np.array_equal(getattr(found, f"{split}_labels"), fine)
        assert np.array_equal(getattr(found, f"{split}_coarse"), fine % 2)
    assert load(datafiles.tiny_cifar(tmp_path / "10"), tmp_path / "10").train_coarse is None


def hundred(**changes) -> bytes:
    return pickle.dumps(
        {"data": X.reshape(8, -1), "fine_labels": [5] * 8, "coarse_labels": [1] * 8} | changes, protocol=4
    )


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (batch(), "it lacks a list 'fine_labels'"),
        (hundred(fine_labels=[6] * 8), "a fine label is 6, expected 0 to 5"),
        (hundred(coarse_labels=[2] * 8), "a coarse label is 2, expected 0 to 1"),
        (hundred(coarse_labels=[1] * 7), "8 images, but 7 coarse labels"),
        (hundred(fine_labels=[5] * 8, coarse_labels=[0] * 8), "expected one superclass per class"),
    ],
)
def test_bad_files_of_cifar100_are_one_line(tmp_path, content, says):
    dataset = datafiles.tiny_cifar100(tmp_path, test=8)
    (tmp_path / "cifar-100-python" / "test").write_bytes(content)
    assert says in refused(dataset, tmp_path)


def test_svhn_is_train_and_extra_without_the_images_set_aside(tmp_path):
    dataset = datafiles.tiny_svhn(tmp_path)
    assert (dataset.validation_size, dataset.train_size) == (30, 120)
    found = load(dataset, tmp_path)
    sources = {}
    for seed, (name, count) in enumerate((("train", 60), ("extra", 90), ("test", 20))):
        images, _ = datafiles.images_and_labels(count, (3, 5, 4), seed=seed)
        labels = np.arange(count) * 7 % 10
        sources |= {image.tobytes(): (name, label) for image, label in zip(images, labels, strict=True)}

    def origin(images: np.ndarray, labels: np.ndarray) -> list[tuple[str, int]]:
        found = [sources[image.tobytes()] for image in images]
        assert [label for _, label in found] == labels.tolist()  # among them 10, which is the digit 0
        return found

    trained = origin(found.train_images[:-30], found.train_labels[:-30])
    aside = origin(found.train_images[-30:], found.train_labels[-30:])
    assert sorted(aside) == sorted([("train", d) for d in range(10)] * 2 + [("extra", d) for d in range(10)])
    assert len(trained) == 120
    assert {name for name, _ in origin(found.test_images, found.test_labels)} == {"test"}
    assert len({image.tobytes() for image in found.train_images}) == 150


def test_the_images_set_aside_are_pylearn2s(tmp_path):
    """Its split_train_valid (datasets/svhn.py): one stream of seed 322; the labels 1 to 10, first of train, then of extra."""
    dataset = datafiles.tiny_svhn(tmp_path)
    random = np.random.RandomState(322)
    expected = set()
    for seed, (count, per_class) in enumerate(((60, 2), (90, 1))):
        images, _ = datafiles.images_and_labels(count, (3, 5, 4), seed=seed)
        y = np.where(np.arange(count) * 7 % 10 == 0, 10, np.arange(count) * 7 % 10)[:, None]
        for i in range(1, 11):
            index = np.nonzero(y == i)[0]
            random.shuffle(index)
            expected |= {images[k].tobytes() for k in index[:per_class]}
    found = load(dataset, tmp_path)
    assert {image.tobytes() for image in found.train_images[-30:]} == expected


def test_held_out_are_first_the_images_set_aside():
    assert [SVHN.training_images(n) for n in (0, 3_000, 6_000, 10_000)] == [598_388] * 3 + [594_388]
    assert [CIFAR10.training_images(n) for n in (0, 10_000)] == [50_000, 40_000]
    assert SVHN.train_size + SVHN.validation_size == 73_257 + 531_131  # torchvision's and the authors' counts


@pytest.mark.parametrize("holdout", [0, 10, 30, 40])
def test_images_set_aside_are_never_trained_on(tmp_path, holdout):
    """The error of held-out images is counted on those set aside first, and nothing is both trained and counted on."""
    import torch

    from runner.training.batches import prepare

    dataset = datafiles.tiny_svhn(tmp_path)
    found = load(dataset, tmp_path)
    prepared = prepare(found, "unit", holdout, torch.device("cpu"), print)

    def of(images) -> set[bytes]:
        return {image.tobytes() for image in images}

    trained, counted = (
        of((255 * part.images(slice(None))).round().to(torch.uint8).numpy()) for part in (prepared.train, prepared.test)
    )
    aside = of(found.train_images[-30:])
    assert len(trained) == dataset.training_images(holdout)
    assert not trained & aside
    assert not trained & counted
    if holdout == 0:
        assert counted == of(found.test_images)
    else:
        assert len(counted) == holdout
        assert counted <= aside if holdout <= 30 else aside < counted


def test_a_subset_is_drawn_anew_for_each_seed_and_alone_fits_the_preprocessing(tmp_path):
    """The images set aside are never drawn, none is drawn twice, and the cache keeps no fit of a subset."""
    import torch

    from runner.training.batches import Draw, prepare

    dataset = datafiles.tiny_svhn(tmp_path)
    found = load(dataset, tmp_path)

    def drawn(seed: int, name: str = "unit"):
        return prepare(found, name, 40, torch.device("cpu"), print, drawn=Draw(50, seed)).train

    def of(images) -> list[bytes]:
        return [image.tobytes() for image in images]

    first, second = ((255 * drawn(seed).images(slice(None))).round().to(torch.uint8).numpy() for seed in (0, 1))
    allowed = of(found.train_images[:110])
    assert len(set(of(first))) == 50
    assert set(of(first)) < set(allowed)
    assert [image for image in allowed if image in set(of(first))] == of(first)  # in the order of the files
    assert not np.array_equal(first, second)
    assert np.array_equal(first, (255 * drawn(0).images(slice(None))).round().to(torch.uint8).numpy())

    fitted = drawn(0, "standardise").images(slice(None))
    mean, deviation = first.mean(axis=(0, 2, 3)), first.std(axis=(0, 2, 3))
    expected = (first - mean[:, None, None]) / deviation[:, None, None]
    assert fitted.numpy() == pytest.approx(expected, abs=1e-5)
    whole = prepare(found, "standardise", 40, torch.device("cpu"), print).train
    assert len(whole) == 110
    assert whole.images(slice(None)).mean(dim=(0, 2, 3)).numpy() == pytest.approx(0, abs=1e-5)  # its own fit


def mat(**changes) -> bytes:
    buffer = io.BytesIO()
    images, _ = datafiles.images_and_labels(20, (3, 5, 4))
    content = {"X": images.transpose(2, 3, 1, 0), "y": np.arange(1, 21)[:, None] % 10 + 1} | changes
    scipy.io.savemat(buffer, {name: value for name, value in content.items() if value is not None})
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "not a complete .mat file"),
        (b"<html>404</html>" * 100, "not a complete .mat file"),
        (mat()[:-100], "not a complete .mat file"),
        (mat(X=None), "'X' has the shape ()"),
        (mat(X=np.zeros((4, 4, 3, 20), np.uint8)), "'X' has the shape (4, 4, 3, 20), expected (5, 4, 3, 'n')"),
        (mat(X=np.zeros((5, 4, 3, 400), np.uint8), y=np.ones((400, 1))), "'X' has the shape (5, 4, 3, 400)"),
        (mat(X=np.zeros((5, 4, 3, 20))), "'X' holds float64"),
        (mat(y=None), "20 images, but labels of the shape None"),
        (mat(y=np.ones((19, 1), np.uint8)), "20 images, but labels of the shape (19, 1)"),
        (mat(y=np.zeros((20, 1), np.uint8)), "a label is not in 1 to 10"),
        (mat(y=np.full((20, 1), 1.5)), "a label is not in 1 to 10"),
        (mat(X=np.zeros((5, 4, 3, 19), np.uint8), y=np.ones((19, 1), np.uint8)), "test images are uint8 (19, 3, 5, 4)"),
    ],
)
def test_bad_mat_files_are_one_line(tmp_path, content, says):
    dataset = datafiles.tiny_svhn(tmp_path)
    (tmp_path / "test_32x32.mat").write_bytes(content)
    line = refused(dataset, tmp_path)
    assert says in line


def test_swapped_mat_files_are_detected(tmp_path):
    dataset = datafiles.tiny_svhn(tmp_path)
    train, test = tmp_path / "train_32x32.mat", tmp_path / "test_32x32.mat"
    swapped = train.read_bytes(), test.read_bytes()
    test.write_bytes(swapped[0])
    train.write_bytes(swapped[1])
    assert "is not the official file" in the_line(load, dataset, tmp_path)
    assert "train images are uint8 (110, 3, 5, 4), expected uint8 (150, 3, 5, 4)" in refused(dataset, tmp_path)


# --- properties ------------------------------------------------------------------------------------------------------

BATCH = datafiles.python2_cifar_batch(X, Y)
IDX = datafiles.idx_bytes(X[:, 0])


def try_both_readers(content: bytes) -> None:
    """Either a reader refuses, or what it gives is within the facts."""
    dataset = Dataset("tiny", "Tiny", 10, (3, 4, 4), 8, 8, "cifar")
    with tempfile.NamedTemporaryFile() as file:
        file.write(content)
        file.flush()
        member = Member(Path(file.name), "a file")
        with suppress(UserError):
            images, labels = readers.read_cifar_batch(member, dataset)
            assert images.shape == (len(labels), 3, 4, 4)
            assert images.dtype == np.uint8
            assert set(labels.tolist()) <= set(range(10))
        with suppress(UserError):
            assert readers.read_idx(member, (8, 4, 4)).shape == (8, 4, 4)


@settings(deadline=None, max_examples=100)
@given(st.binary(max_size=200))
def test_arbitrary_bytes_give_nothing_but_a_line(content):
    try_both_readers(content)


@settings(deadline=None, max_examples=150)
@given(
    st.sampled_from([BATCH, batch(), IDX]),
    st.lists(st.tuples(st.integers(0, 2**16), st.binary(max_size=3)), min_size=1, max_size=4),
)
def test_damaged_files_give_nothing_but_a_line(content, changes):
    damaged = bytearray(content)
    for position, new in changes:
        at = position % len(damaged)
        damaged[at : at + max(1, len(new))] = new
    try_both_readers(bytes(damaged))


@settings(deadline=None, max_examples=100)
@given(st.lists(st.sampled_from([opcode.code.encode("latin1") for opcode in pickletools.opcodes]), max_size=12))
def test_any_row_of_opcodes_gives_nothing_but_a_line(opcodes):
    try_both_readers(b"".join(opcodes) + b".")


# --- the cache -------------------------------------------------------------------------------------------------------


def test_the_second_time_nothing_is_parsed(tmp_path, monkeypatch):
    dataset = datafiles.tiny_cifar(tmp_path)
    lines: list[str] = []
    first = load(dataset, tmp_path, log=lines.append)
    assert len(lines) == 1
    monkeypatch.setattr(cache, "READERS", {})
    monkeypatch.setattr(folder, "md5_of", None)
    second = load(dataset, tmp_path, log=lines.append)
    assert len(lines) == 1
    assert second.facts == first.facts
    assert np.array_equal(first.train_images, second.train_images)
    assert isinstance(second.train_images, np.memmap)


def test_a_changed_file_drops_the_cache(tmp_path):
    dataset = datafiles.tiny_cifar(tmp_path)
    first = load(dataset, tmp_path)
    before = entries(tmp_path, dataset)
    another_batch(tmp_path)
    second = load(dataset, tmp_path, allow_unverified=True)
    assert second.facts.sha256 != first.facts.sha256
    after = entries(tmp_path, dataset)
    assert len(after) == 1
    assert after != before
    assert first.cache_folder in before
    assert second.cache_folder in after
    assert int(first.train_images.sum()) > 0  # whoever has the old arrays open keeps them


def test_a_torn_cache_is_built_again(tmp_path):
    dataset = datafiles.tiny_cifar(tmp_path)
    first = load(dataset, tmp_path)
    images = np.array(first.train_images)  # a copy: a map of a file that is cut off ends the process
    (entry,) = entries(tmp_path, dataset)
    (entry / "train_images.npy").write_bytes(b"")
    assert np.array_equal(load(dataset, tmp_path).train_images, images)
    (entry / "manifest.json").write_text("{")
    assert load(dataset, tmp_path).facts == first.facts
    left_by_a_kill = entry.parent / ".building-x"
    left_by_a_kill.mkdir()
    os.utime(left_by_a_kill, (0, 0))
    (entry / "test_labels.npy").unlink()
    assert load(dataset, tmp_path).facts == first.facts
    assert entries(tmp_path, dataset) == [entry]


def test_files_that_change_while_they_are_read(tmp_path, monkeypatch):
    dataset = datafiles.tiny_cifar(tmp_path)

    def reader(*arguments):
        another_batch(tmp_path, "test_batch")
        return readers._read_cifar(*arguments)

    monkeypatch.setitem(readers.READERS, "cifar", reader)
    assert "changed while they were read" in refused(dataset, tmp_path)


def test_a_folder_that_cannot_be_written_is_cached_in_the_users_own(tmp_path):
    dataset = datafiles.tiny_cifar(tmp_path / "data")
    (tmp_path / "data" / ".reprozoo").touch()  # tests may run as root, whom no permission stops
    found = load(dataset, tmp_path / "data")
    assert found.cache_folder is not None
    assert found.cache_folder.is_relative_to(Path.home() / ".cache" / "reprozoo" / ".reprozoo")
    (Path.home() / ".cache").rename(Path.home() / "elsewhere")
    (Path.home() / ".cache").touch()
    assert "choose a writable folder" in the_line(load, dataset, tmp_path / "data")


CHILD = """
import sys, importlib
from pathlib import Path
sys.path.insert(0, sys.argv[2])
import datafiles, tempfile
from runner.data import cache
dataset = datafiles.tiny_cifar(Path(tempfile.mkdtemp(dir=sys.argv[3])))
found = cache.load(dataset, Path(sys.argv[1]), log=lambda line: print(line, flush=True))
print(found.facts.sha256, int(found.train_images.sum()), "torch" in sys.modules, flush=True)
"""


def test_several_processes_build_it_once_and_without_torch(tmp_path):
    folder = tmp_path / "data"
    dataset = datafiles.tiny_cifar(folder)
    place = folder / ".reprozoo" / dataset.name
    place.mkdir(parents=True)
    arguments = [sys.executable, "-c", CHILD, str(folder), str(Path(__file__).parent), str(tmp_path)]
    with (place / "lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        children = [subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) for _ in range(2)]
        for child in children:
            assert child.stdout is not None
            assert "another process is reading it, waiting" in child.stdout.readline()
    outputs = [child.communicate(timeout=240)[0] for child in children]
    assert sum("reading 48 images" in output for output in outputs) == 1
    ends = {output.splitlines()[-1] for output in outputs}
    assert len(ends) == 1
    assert ends.pop().endswith("False")
    assert len(entries(folder, dataset)) == 1


# --- status -----------------------------------------------------------------------------------------------------------


def shown_status(folder: Path) -> str:
    console = rich.console.Console(width=140, record=True, file=io.StringIO())
    status.show_status(status.status(folder), console)
    return console.export_text()


def test_status_tells_what_is_there(tmp_path, monkeypatch):
    dataset = datafiles.tiny_cifar(tmp_path)
    monkeypatch.setattr(status, "DATASETS", {"digits": DIGITS, "mnist": MNIST, "tiny": dataset})
    digits, mnist, tiny = status.status(tmp_path)["datasets"]
    assert (digits["present"], digits["verified"], digits["cached"]) == (True, None, False)
    assert (mnist["present"], mnist["verified"], len(mnist["missing"])) == (False, None, 4)
    assert (tiny["present"], tiny["verified"], tiny["cached"], tiny["cache_bytes"]) == (True, True, False, 0)
    assert [file["official"] for file in tiny["files"]] == [True] * 6
    another_batch(tmp_path)
    loaded = load(dataset, tmp_path, allow_unverified=True)
    tiny = status.status(tmp_path)["datasets"][-1]
    assert (tiny["present"], tiny["verified"], tiny["cached"]) == (True, False, True)
    assert [Path(file["path"]).name for file in tiny["files"] if not file["official"]] == ["data_batch_2"]
    assert tiny["provenance"].startswith("Not the official files")
    assert tiny["cache_bytes"] > 48 * 48
    json.dumps(status.status(tmp_path))
    shown = shown_status(tmp_path)
    for part in ("part of scikit-learn", "4 missing", "6 present", "tiny: Not the official files: data_batch_2"):
        assert part in shown
    assert f"sha256 {loaded.facts.sha256[:12]}" in shown


def test_status_tells_parts_fragments_and_strays(tmp_path, monkeypatch):
    dataset = datafiles.tiny_cifar(tmp_path)
    monkeypatch.setattr(status, "DATASETS", {"mnist": MNIST, "tiny": dataset})
    for number in (1, 3):
        (tmp_path / f"cifar-10-batches-py/data_batch_{number}").unlink()
    another_batch(tmp_path)
    size = dataset.files[0].size
    assert size is not None
    datafiles.write(
        tmp_path,
        {
            "cifar-10-python.tar.gz.part": bytes(size // 2),
            "cifar-10-python.tar.gz.part.json": b"{}",
            "cifar-10-batches-py/batches.meta": b"names",
            "cifar-10-batches-py/PROVENANCE.txt": b"From somewhere.",
            "holiday [bold].jpg": b"",
            "elsewhere/deep": b"",
        },
    )
    os.utime(tmp_path / "cifar-10-python.tar.gz.part", (time.time() - 3 * 86400 - 60,) * 2)
    found = status.status(tmp_path)
    (tiny,) = found["datasets"][1:]
    assert (tiny["present"], tiny["verified"], tiny["missing"]) == (False, None, ["cifar-10-python.tar.gz"])
    assert [file["official"] for file in tiny["files"]] == [False, True, True, True]
    (part,) = tiny["parts"]
    assert (part["path"], part["bytes"], part["of"]) == ("cifar-10-python.tar.gz.part", size // 2, size)
    assert found["others"] == ["cifar-10-batches-py/batches.meta", "holiday [bold].jpg"]
    shown = shown_status(tmp_path)
    for expected in (
        "tiny: 4 present, 1 missing",
        "50 % downloaded",
        "3 days ago",
        "not official",
        datafiles.md5((tmp_path / "cifar-10-batches-py/data_batch_2").read_bytes())[:12],
        "2 other files, which no data set uses: cifar-10-batches-py/batches.meta, holiday [bold].jpg",
        " free",
    ):
        assert expected in shown


def test_status_of_a_folder_that_is_not_there(tmp_path):
    found = status.status(tmp_path / "nowhere")
    assert not any(row["files"] for row in found["datasets"])
    assert found["others"] == []
    assert not (tmp_path / "nowhere").exists()


def test_status_needs_no_torch(tmp_path):
    code = "import sys; from pathlib import Path; from runner.data import status; status.status(Path(sys.argv[1]))"
    heavy = "; sys.exit(bool({'torch', 'mlflow', 'pandas', 'scipy', 'sklearn'} & set(sys.modules)))"
    subprocess.run([sys.executable, "-c", code + heavy, str(tmp_path)], check=True)


# --- the real ones ---------------------------------------------------------------------------------------------------


@pytest.fixture
def real(realdata, tmp_path) -> Path:
    """A folder of links to the real files, so that the cache of a test lies elsewhere."""
    for name in ("MNIST", "cifar-10-batches-py", "cifar-10-python.tar.gz"):
        if (realdata / name).exists():
            (tmp_path / name).symlink_to(realdata / name)
    return tmp_path


@pytest.mark.realdata
def test_real_mnist_is_the_official_one(real):
    if not (real / "MNIST").exists():
        pytest.skip("no MNIST in REPROZOO_DATA")
    found = load("mnist", real)
    assert found.facts.verified
    assert found.facts.sha256 == "f03f67b1b8911ec41cbced5619d373025b283872e9aca9f1a33b78c4e4a82345"
    assert found.train_labels[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]


@pytest.mark.realdata
def test_the_packed_cifar10_is_refused_and_on_request_marked(real):
    if not (real / "cifar-10-batches-py" / "PROVENANCE.txt").exists():
        pytest.skip("no packed CIFAR-10 in REPROZOO_DATA")
    assert "is not the official file" in the_line(load, "cifar10", real)
    found = load("cifar10", real, allow_unverified=True)
    assert not found.facts.verified
    assert "59,908 of 60,000" in (found.facts.provenance or "")
    assert np.bincount(found.train_labels).tolist() == [5000] * 10
    assert np.bincount(found.test_labels).tolist() == [1000] * 10
    again = load("cifar10", real, allow_unverified=True)
    assert isinstance(again.train_images, np.memmap) or isinstance(again.train_images.base, np.memmap)
