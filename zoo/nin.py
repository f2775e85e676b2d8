"""Network In Network (Lin, Chen, Yan, arXiv 1312.4400v3), from the author's released configuration.

    runner submit --suite cifar10 --model nin_dropout          the paper: 10.41 % on CIFAR-10 (its Table 1)
    runner submit --suite nin_ablation                         14.51, 10.41, 8.81 and the heads of Table 5: 11.59, 10.88

The network has three mlpconv blocks (a convolution followed by two 1x1 convolutions, "cccp"), a ReLU after every layer
including the last, 3x3/2 max pooling (ceil mode) and dropout after the first two blocks, and global average pooling as the
classifier: 966,986 parameters on CIFAR-10. The configuration is the author's for cuda-convnet (mavenlin/cuda-convnet,
NIN/*_def, NIN/*_params, README). Later Caffe versions use average pooling in pool2; the original uses max.

We follow these published settings: Gaussian weights with std 0.05 and zero biases; momentum 0.9 with the learning rate inside
the velocity; learning rates of 0.1 for weights and 0.2 for biases, and a tenth of both in the last layer; weight decay 1e-4
on weights only; batches of 128 in the order of the files; 200 epochs, then 30 epochs at a tenth of the learning rate and 30 at
a hundredth; dropout that masks in training and halves at test time. The released wc is 1e-5. cuda-convnet multiplies it by
the rate of 1 in its files, without the coefficient of 0.1, so it is 1e-4 in the usual convention.

Where the number of epochs is not published (MNIST, SVHN), we follow the paper's rule: divide the learning rate by ten when the
training accuracy stops improving, twice.

Departures (also data below, so that the site shows them): we follow the released files where they differ from the paper's
text (poolings, dropout, epochs, CIFAR-100). Not published are the drop of the biases' learning rate, the schedule and
augmentation of the augmented run, the number of epochs on SVHN and MNIST, and the heads of Table 5.
"""

from collections import OrderedDict
from dataclasses import dataclass, replace
from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from zoo.recipe import SGD, Augmentation, Fixed, Plateau, Recipe, Shuffled, Steps
from zoo.spec import Departure, ModelSpec, Variant


@dataclass(frozen=True)
class Shape:
    """The dimensions of the network, which differ between the data sets: input, widths of the nine layers, kernel sizes."""

    channels: int
    side: int
    block1: tuple[int, int, int]
    block2: tuple[int, int, int]
    block3: tuple[int, int, int]  # the last one is the number of classes
    kernels: tuple[int, int, int]


CIFAR10 = Shape(3, 32, (192, 160, 96), (192, 192, 192), (192, 192, 10), kernels=(5, 5, 3))
CIFAR100 = replace(CIFAR10, block3=(192, 192, 100))
SVHN = Shape(3, 32, (128, 96, 64), (320, 256, 128), (384, 256, 10), kernels=(5, 5, 5))
MNIST = Shape(1, 28, (96, 64, 48), (128, 96, 48), (128, 96, 10), kernels=(5, 5, 5))
DIGITS = Shape(1, 8, (24, 16, 16), (32, 24, 24), (32, 24, 10), kernels=(3, 3, 3))  # our own: small enough for two cores


class MaskingDropout(nn.Module):
    """cuda-convnet's dropout: it masks in training and multiplies by 1 - p at test time. Any shape; the output has the same.

    It differs from nn.Dropout, which divides by 1 - p in training. The published initialisation and learning rates need
    cuda-convnet's scale: for p = 0.5 the next layer gets half the values.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.p, self.training) * (1 - self.p)

    def extra_repr(self) -> str:
        """Return the text that print shows in the brackets."""
        return f"p={self.p}"


class GlobalAveragePool(nn.Module):
    """The mean of each feature map: (N, C, H, W) -> (N, C), for any H and W (paper, section 3.2)."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean(dim=(2, 3))


def nin(shape: Shape, dropout: bool, head: str = "gap") -> nn.Sequential:
    """Return the network: float (N, channels, side, side) -> logits (N, classes).

    `head` is one of the paper's Table 5: 'gap' (global average pooling), 'fc' (a dense layer on the last maps) or
    'fc_dropout'.
    """
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    channels, cccp = shape.channels, 0
    for block, (widths, kernel) in enumerate(
        zip((shape.block1, shape.block2, shape.block3), shape.kernels, strict=True), 1
    ):
        layers[f"conv{block}"] = nn.Conv2d(channels, widths[0], kernel, padding=kernel // 2)
        layers[f"relu_conv{block}"] = nn.ReLU(inplace=True)
        for before, after in pairwise(widths):
            cccp += 1
            layers[f"cccp{cccp}"] = nn.Conv2d(before, after, 1)
            layers[f"relu_cccp{cccp}"] = nn.ReLU(inplace=True)
        if block < 3:
            layers[f"pool{block}"] = nn.MaxPool2d(3, stride=2, ceil_mode=True)
            if dropout:
                layers[f"dropout{block}"] = MaskingDropout(0.5)
        channels = widths[-1]
    if head == "gap":
        layers["poolg"] = GlobalAveragePool()
    else:
        side = -(-shape.side // 4)  # two poolings, rounded up
        layers["flatten"] = nn.Flatten()
        if head == "fc_dropout":
            layers["dropout_fc"] = MaskingDropout(0.5)
        layers["fc"] = nn.Linear(channels * side * side, channels)
    return nn.Sequential(layers)


RELEASED = Recipe(
    epochs=260,
    batch_size=128,
    preprocessing="gcn_zca",
    optimizer=SGD(learning_rate=0.1, momentum=0.9, convention="caffe"),
    schedule=Steps(after=(200, 230)),
    init=(("*.weight", "normal", 0.05), ("*.bias", "constant", 0.0)),
    lr_multipliers=(("*.bias", 2.0), ("cccp6.*", 0.1)),
    weight_decay=1e-4,
    order=Fixed(file_images=10_000),
)

AUGMENTED = replace(RELEASED, augmentation=Augmentation(flip=True, translate=4))
DENSE_HEAD = replace(RELEASED, lr_multipliers=(*RELEASED.lr_multipliers, ("fc.*", 0.1)))
# The author's CIFAR-100 files: epsW 0.01 and epsB 0.02 in every layer, an objective with coefficient 2, and wc 1e-3.
CIFAR100_RECIPE = replace(
    RELEASED,
    optimizer=replace(RELEASED.optimizer, learning_rate=0.02),
    weight_decay=5e-4,
    init=(
        *RELEASED.init,
        ("conv1.weight", "normal", 0.001),
        ("cccp1.weight", "normal", 0.01),
        ("cccp2.weight", "normal", 0.01),
    ),
    lr_multipliers=(("*.bias", 2.0),),
)
SVHN_RECIPE = replace(RELEASED, epochs=60, preprocessing="gcn_lcn", schedule=Plateau(patience=3), order=Shuffled())
MNIST_RECIPE = replace(
    RELEASED,
    epochs=80,
    preprocessing="unit_minus_mean_image",
    schedule=Plateau(patience=5),
    init=(("*.weight", "he_normal", 1.0), ("*.bias", "constant", 0.0)),
)
DIGITS_RECIPE = Recipe(
    epochs=40,
    batch_size=64,
    preprocessing="standardise",
    optimizer=SGD(learning_rate=0.01, momentum=0.9),
    schedule=Steps(after=(20, 30)),
    init=(("*.weight", "he_normal", 1.0), ("*.bias", "constant", 0.0)),
    lr_multipliers=(("*.bias", 2.0),),
    weight_decay=1e-4,
)
# The mask halves the signal without scaling it up, so the loss stays at chance three times as long.
DIGITS_DROPOUT_RECIPE = replace(
    DIGITS_RECIPE, epochs=80, optimizer=SGD(learning_rate=0.05, momentum=0.9), schedule=Steps(after=(60, 70))
)

FILE_SIZES = Departure(
    "order of the images",
    "The author's code reads its files in order, the same in every epoch. The number of images per file is not published for "
    "this data set. We use 10,000 as on CIFAR-10, and keep the partial last batch of each file.",
)
SVHN_ORDER = Departure(
    "order of the images",
    "We draw a new permutation of all images in each epoch and keep the partial last batch. The author's code reads its "
    "files in order, but it is not published which images are in which file. SVHN's own files have all of train before "
    "extra.",
)
FILES = Departure(
    "text and files",
    "We follow the author's released files where the paper's text differs. The files have two poolings, after the first and "
    "the second block, each followed by dropout if the model has it, and none after the third. The text has a pooling after "
    "every mlpconv layer, and dropout on the outputs of all but the last.",
)
EPOCHS = Departure(
    "epochs",
    "We follow the author's README, with 200, 30 and 30 epochs at the three learning rates. The paper's text lowers the rate "
    "when the training accuracy stops improving.",
)
BIAS_RATE = Departure(
    "learning rate of the biases",
    "We divide the learning rates of weights and biases by ten, twice. The author's README lowers epsW and does not mention "
    "epsB.",
)
AUGMENTATION = Departure(
    "augmentation",
    "The paper states translation and horizontal flipping without numbers. We pad the whitened image with 4 zeros, take a "
    "random 32x32 crop and flip it with probability 1/2, as the author's cropped data provider and maxout's code do.",
)
AUGMENTED_SCHEDULE = Departure(
    "schedule",
    "The schedule of the augmented run is not published. We use the one released for the run without augmentation.",
)
STAGE = Departure(
    "stage of 14.51 %",
    "The paper quotes 14.51 % next to a plot of the first 200 epochs, so it may be the error before the learning rate drops. "
    "Ours is the error after all 260 epochs.",
)
HEAD = Departure(
    "dense head",
    "The paper replaces global average pooling by a fully connected layer and keeps the rest. We use one dense layer from "
    "the 10 maps of 8x8 (640 values) to the classes, with the initialisation and weight decay of the other layers and the "
    "learning rate of the last. cccp6 keeps its own. Dropout, if the row has it, is 0.5 on those 640 values.",
)
MNIST_UNPUBLISHED = Departure(
    "MNIST",
    "The author released the network and learning rates for MNIST, but not the number of epochs. We follow the paper's text: "
    "the learning rate is divided by ten when the training error has not fallen for 5 epochs, twice, within 80 epochs. The "
    "training error is measured during the epoch's updates, with dropout. Images are as in the author's files: pixels "
    "divided by 255, minus the mean image.",
)
MNIST_START = Departure(
    "initialisation",
    "The released initialisation, normal weights with standard deviation 0.05, does not train at the released learning rate "
    "of 0.1. In a run with held-out training images and seed 0, the last ReLU is dead within an epoch and the loss stays "
    "that of chance. We use He's normal initialisation with the released learning rates. With rates of 0.02 and 0.05 the "
    "loss was still that of chance after 273 updates.",
)
CIFAR100_RELEASED = Departure(
    "CIFAR-100",
    "The paper says that its CIFAR-100 network has the settings of CIFAR-10, but the configuration that its author released "
    "has others. We use the released one: learning rates of 0.02 for weights and 0.04 for biases in every layer, weight "
    "decay 5e-4, and initial weights with standard deviation 0.001 in conv1 and 0.01 in cccp1 and cccp2.",
)
SVHN_UNPUBLISHED = Departure(
    "SVHN",
    "The author released the network and learning rates for SVHN, but not the number of epochs. We follow the paper's text: "
    "the learning rate is divided by ten when the training error has not fallen for 3 epochs, twice, within 60 epochs. The "
    "author's README says that images are prepared as for maxout, with global and then local contrast normalisation.",
)
SVHN_SPLIT = Departure(
    "validation images",
    "400 images per class of train and 200 of extra are never trained on. It is not published which ones. We use those that "
    "maxout's code draws.",
)
SMALL = Departure(
    "digits",
    "This small network and its recipe are ours and have no source. We chose the learning rate on the last 300 training "
    "images with seed 0. Their records were withdrawn and will be published again.",
)

CIFAR10_PARAMETERS = 966_986
CIFAR100_PARAMETERS = 984_356
SVHN_PARAMETERS = 1_986_026
MNIST_PARAMETERS = 349_674
DIGITS_PARAMETERS = 14_930


def _released(
    shape: Shape, recipe: Recipe, parameters: int, *departures: Departure, dropout: bool, head: str = "gap"
) -> Variant:
    """Return a variant of the author's configurations, with the departures that all of them share."""
    return Variant(
        build=lambda: nin(shape, dropout, head),
        recipe=recipe,
        parameters=parameters,
        departures=(FILES, BIAS_RATE, *departures),
    )


def _on_cifar10(recipe: Recipe, *departures: Departure, dropout: bool = True, head: str = "gap") -> Variant:
    parameters = CIFAR10_PARAMETERS if head == "gap" else CIFAR10_PARAMETERS + 640 * 10 + 10
    return _released(CIFAR10, recipe, parameters, EPOCHS, *departures, dropout=dropout, head=head)


def _on_cifar100(dropout: bool) -> Variant:
    return _released(
        CIFAR100, CIFAR100_RECIPE, CIFAR100_PARAMETERS, FILE_SIZES, EPOCHS, CIFAR100_RELEASED, dropout=dropout
    )


def _on_svhn(dropout: bool) -> Variant:
    return _released(SVHN, SVHN_RECIPE, SVHN_PARAMETERS, SVHN_ORDER, SVHN_UNPUBLISHED, SVHN_SPLIT, dropout=dropout)


def _on_mnist(dropout: bool) -> Variant:
    return _released(MNIST, MNIST_RECIPE, MNIST_PARAMETERS, FILE_SIZES, MNIST_UNPUBLISHED, MNIST_START, dropout=dropout)


def _on_digits(dropout: bool) -> Variant:
    return Variant(
        build=lambda: nin(DIGITS, dropout),
        recipe=DIGITS_DROPOUT_RECIPE if dropout else DIGITS_RECIPE,
        revision=2,
        parameters=DIGITS_PARAMETERS,
        departures=(SMALL,),
    )


def _spec(name: str, title: str, suites: tuple[str, ...], variants: dict[str, Variant]) -> ModelSpec:
    return ModelSpec(name=name, title=title, family="NiN", paper="lin2013", suites=suites, variants=variants)


_EVERYWHERE = ("mnist", "cifar10", "cifar100", "svhn", "nin_ablation")

MODELS = (
    _spec(
        "nin",
        "NiN",
        ("quickstart", *_EVERYWHERE),
        {
            "cifar10": _on_cifar10(RELEASED, STAGE, dropout=False),
            "cifar100": _on_cifar100(False),
            "svhn": _on_svhn(False),
            "mnist": _on_mnist(False),
            "digits": _on_digits(False),
        },
    ),
    _spec(
        "nin_dropout",
        "NiN + dropout",
        ("quickstart", *_EVERYWHERE),
        {
            "cifar10": _on_cifar10(RELEASED),
            "cifar100": _on_cifar100(True),
            "svhn": _on_svhn(True),
            "mnist": _on_mnist(True),
            "digits": _on_digits(True),
        },
    ),
    _spec(
        "nin_augmentation",
        "NiN + dropout + augmentation",
        ("cifar10", "nin_ablation"),
        {"cifar10": _on_cifar10(AUGMENTED, AUGMENTATION, AUGMENTED_SCHEDULE)},
    ),
    _spec(
        "nin_fc",
        "mlpconv + fully connected",
        ("nin_ablation",),
        {"cifar10": _on_cifar10(DENSE_HEAD, HEAD, head="fc")},
    ),
    _spec(
        "nin_fc_dropout",
        "mlpconv + fully connected + dropout",
        ("nin_ablation",),
        {"cifar10": _on_cifar10(DENSE_HEAD, HEAD, head="fc_dropout")},
    ),
)
