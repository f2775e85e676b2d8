"""GoogLeNet (Szegedy et al., "Going Deeper with Convolutions", CVPR 2015), and the same blocks at 32x32.

    runner models googlenet --dataset imagenet             the paper's Table 1 and our counts, row by row
    runner submit --suite cifar10 --model googlenet        no paper reports a figure; those of variants are context

The network has nine inception modules, each with four parallel branches (1x1; 1x1 then 3x3; 1x1 then 5x5; 3x3 max pooling
then 1x1) that are concatenated along the channels, and 40 % dropout before the classifier. In training, two auxiliary heads
after modules 4a and 4d (average pooling 5x5/3, 1x1-128, dense 1024, 70 % dropout, classes) add 0.3 of their losses each. The
network returns three logits in training mode and one in evaluation mode.

The paper has no result on CIFAR, SVHN or MNIST. The small version keeps Table 1's modules with true 5x5 branches and both
heads. It replaces the stem by one 3x3 convolution of 192, as published small variants do. These variants use 3x3 convolutions
instead of 5x5 and have no heads, so their figures are context.

Departures (also data below): batch normalisation instead of response normalisation, and another source's recipe, because the
paper says that it cannot describe its training fully. Not all parameters and operations in Table 1 follow from its channels;
`runner models googlenet` marks those that do not.
"""

from collections import OrderedDict
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.nin import GlobalAveragePool
from zoo.recipe import SGD, Augmentation, Recipe, Steps, Warmup
from zoo.spec import Anatomy, Departure, ModelSpec, Printed, Variant, cross_entropy

AUXILIARY_WEIGHT = 0.3


@dataclass(frozen=True)
class Widths:
    """One row of Table 1: 1x1, 3x3 reduce, 3x3, 5x5 reduce, 5x5, pool projection."""

    one: int
    three_reduce: int
    three: int
    five_reduce: int
    five: int
    pool: int

    @property
    def total(self) -> int:
        """The number of output channels: the sum of the four branches."""
        return self.one + self.three + self.five + self.pool


TABLE1 = {
    "3a": Widths(64, 96, 128, 16, 32, 32),
    "3b": Widths(128, 128, 192, 32, 96, 64),
    "4a": Widths(192, 96, 208, 16, 48, 64),
    "4b": Widths(160, 112, 224, 24, 64, 64),
    "4c": Widths(128, 128, 256, 24, 64, 64),
    "4d": Widths(112, 144, 288, 32, 64, 64),
    "4e": Widths(256, 160, 320, 32, 128, 128),
    "5a": Widths(256, 160, 320, 32, 128, 128),
    "5b": Widths(384, 192, 384, 48, 128, 128),
}


def conv(channels: int, into: int, kernel: int, norm: bool, stride: int = 1) -> nn.Sequential:
    """Return a padded convolution (output size: input size / stride), batch normalisation if `norm`, and a ReLU."""
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    layers["conv"] = nn.Conv2d(channels, into, kernel, stride, kernel // 2, bias=not norm)
    if norm:
        layers["norm"] = nn.BatchNorm2d(into)
    layers["relu"] = nn.ReLU(inplace=True)
    return nn.Sequential(layers)


class Inception(nn.Module):
    """Four parallel branches, concatenated along the channels: (N, channels, H, W) -> (N, widths.total, H, W)."""

    def __init__(self, channels: int, widths: Widths, norm: bool) -> None:
        super().__init__()
        self.one = conv(channels, widths.one, 1, norm)
        self.three_reduce = conv(channels, widths.three_reduce, 1, norm)
        self.three = conv(widths.three_reduce, widths.three, 3, norm)
        self.five_reduce = conv(channels, widths.five_reduce, 1, norm)
        self.five = conv(widths.five_reduce, widths.five, 5, norm)
        self.pool = nn.MaxPool2d(3, stride=1, padding=1)
        self.pool_projection = conv(channels, widths.pool, 1, norm)

    def forward(self, x: Tensor) -> Tensor:
        branches = (
            self.one(x),
            self.three(self.three_reduce(x)),
            self.five(self.five_reduce(x)),
            self.pool_projection(self.pool(x)),
        )
        return torch.cat(branches, dim=1)


def head(channels: int, classes: int, norm: bool) -> nn.Sequential:
    """Return an auxiliary classifier: (N, channels, side, side) -> logits (N, classes), for sides from 14 to 16."""
    return nn.Sequential(
        OrderedDict(
            average=nn.AvgPool2d(5, stride=3),  # 4x4
            reduce=conv(channels, 128, 1, norm),
            flatten=nn.Flatten(),
            fc=nn.Linear(128 * 4 * 4, 1024),
            relu=nn.ReLU(inplace=True),
            dropout=nn.Dropout(0.7),
            classifier=nn.Linear(1024, classes),
        )
    )


class GoogLeNet(nn.Module):
    """A stem, nine inception modules and a classifier: float images -> logits (N, classes).

    In training mode it returns a tuple: the logits of the classifier, of the head after 4a and of the head after 4d.
    """

    def __init__(self, stem: dict[str, nn.Module], classes: int, norm: bool) -> None:
        super().__init__()
        for name, layer in stem.items():
            self.add_module(name, layer)
        channels = 192
        for name, widths in TABLE1.items():
            self.add_module(f"inception_{name}", Inception(channels, widths, norm))
            channels = widths.total
            if name in ("3b", "4e"):
                self.add_module(f"pool{name[0]}", nn.MaxPool2d(3, stride=2, padding=1))
        self.average = GlobalAveragePool()
        self.dropout = nn.Dropout(0.4)
        self.linear = nn.Linear(channels, classes)
        self._path = [name for name, _ in self.named_children()]
        self.head_4a = head(TABLE1["4a"].total, classes, norm)
        self.head_4d = head(TABLE1["4d"].total, classes, norm)

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor, Tensor]:
        auxiliary = []
        for name in self._path:
            x = self.get_submodule(name)(x)
            if self.training and name in ("inception_4a", "inception_4d"):
                auxiliary.append(self.get_submodule(name.replace("inception", "head"))(x))
        return (x, auxiliary[0], auxiliary[1]) if self.training else x


def papers(classes: int = 1000) -> GoogLeNet:
    """Return the paper's network, for images of 3x224x224."""
    stem = OrderedDict(
        conv1=conv(3, 64, 7, norm=False, stride=2),
        pool1=nn.MaxPool2d(3, stride=2, padding=1),
        norm1=nn.LocalResponseNorm(5, alpha=1e-4, beta=0.75),
        conv2=nn.Sequential(OrderedDict(reduce=conv(64, 64, 1, norm=False), full=conv(64, 192, 3, norm=False))),
        norm2=nn.LocalResponseNorm(5, alpha=1e-4, beta=0.75),
        pool2=nn.MaxPool2d(3, stride=2, padding=1),
    )
    return GoogLeNet(stem, classes, norm=False)


def small(channels: int, classes: int = 10, norm: bool = True) -> GoogLeNet:
    """Return the small version, for images of 28x28 or 32x32."""
    return GoogLeNet(OrderedDict(conv2=conv(channels, 192, 3, norm)), classes, norm)


def loss(output: Tensor | tuple[Tensor, ...], target: Tensor) -> Tensor:
    """Return the cross-entropy of the classifier, plus 0.3 of that of each auxiliary head in training mode."""
    total = cross_entropy(output, target)
    if isinstance(output, tuple):
        for logits in output[1:]:
            total = total + AUXILIARY_WEIGHT * F.cross_entropy(logits, target)
    return total


SMALL = Recipe(
    epochs=200,
    batch_size=128,
    preprocessing="standardise",
    optimizer=SGD(learning_rate=0.1, momentum=0.9),
    schedule=Warmup(epochs=1, then=Steps(after=(59, 119, 159), factor=0.2)),
    init=(("*.weight", "uniform_fan_in", 1.0), ("*.norm.weight", "constant", 1.0), ("*.bias", "constant", 0.0)),
    weight_decay=(("*", 5e-4),),
    augmentation=Augmentation(flip=True, translate=4, border="black"),
)
MNIST_RECIPE = replace(SMALL, augmentation=Augmentation())
SVHN_RECIPE = MNIST_RECIPE.shortened(10)

NORM = Departure(
    "normalisation",
    "We use batch normalisation after each convolution, which then has no bias. The paper uses response normalisation in the "
    "stem.",
)
STEM = Departure(
    "stem",
    "One 3x3 convolution of 192 replaces the paper's 7x7/2, 1x1, 3x3 and two poolings, as in published small variants. The "
    "modules have maps of 32x32, 16x16 and 8x8 (28, 14 and 7 on MNIST), and the heads average 16x16 (14x14) to 4x4.",
)
RECIPE = Departure(
    "recipe",
    "The paper trained asynchronously on ImageNet and gives no definitive recipe. We use the schedule of the small GoogLeNet "
    "in weiaicunzai/pytorch-cifar100: learning rate 0.1 after a warm-up from 0 over the first epoch, divided by five after "
    "59, 119 and 159 of 200 epochs (its code counts from 1 and lowers the rate before an epoch), batches of 128, weight "
    "decay 5e-4 on all parameters. We leave out its rotation, and use flips and shifts of up to 4 pixels with black padding. "
    "Weights are initialised like torch's, uniform within 1 / sqrt(inputs), and biases are 0. With He's initialisation the "
    "training loss rose over a few steps with 8 images. The two have not been compared on held-out images.",
)
FIGURES = Departure(
    "figures",
    "No paper reports an error of GoogLeNet on this data set. Others report errors of variants with 3x3 instead of 5x5 "
    "convolutions, without auxiliary heads, and with other schedules.",
)
CIFAR100_OURS = Departure("CIFAR-100", "We use the CIFAR-10 recipe.")
SVHN_OURS = Departure(
    "SVHN",
    "We use the CIFAR-10 recipe without shifts and flips, and with a tenth of its epochs, because an epoch has 12 times the "
    "images.",
)
MNIST_OURS = Departure("MNIST", "We use the CIFAR-10 recipe without shifts and flips.")
POOLING = Departure(
    "pooling",
    "Our poolings have a padding of 1, as in published small variants. Caffe's bvlc_googlenet has no padding and rounds up. "
    "The sizes are the same, but the windows are shifted by one pixel. We do not train at this size.",
)
COLUMNS = Departure(
    "Table 1's last two columns",
    "Not all of their values follow from the channels in the table. The parameters (K is 1024) of modules 4a to 5b and of "
    "the first convolution do not. The first convolution's 2.7K and 34M would fit a separable 7x7 convolution, and 5a's 54M "
    "operations a 5x5 reduction of 48. All channels, output sizes and depths agree.",
)


def _row(side: int, channels: int, depth: int, parameters: str | None = None, operations: str | None = None) -> Printed:
    return Printed(output=(channels, side, side), depth=depth, parameters=parameters, macs=operations)


PRINTED = {
    "conv1": _row(112, 64, 1, "2.7K", "34M"),
    "pool1": _row(56, 64, 0),
    "conv2": _row(56, 192, 2, "112K", "360M"),
    "pool2": _row(28, 192, 0),
    "inception_3a": _row(28, 256, 2, "159K", "128M"),
    "inception_3b": _row(28, 480, 2, "380K", "304M"),
    "pool3": _row(14, 480, 0),
    "inception_4a": _row(14, 512, 2, "364K", "73M"),
    "inception_4b": _row(14, 512, 2, "437K", "88M"),
    "inception_4c": _row(14, 512, 2, "463K", "100M"),
    "inception_4d": _row(14, 528, 2, "580K", "119M"),
    "inception_4e": _row(14, 832, 2, "840K", "170M"),
    "pool4": _row(7, 832, 0),
    "inception_5a": _row(7, 832, 2, "1072K", "54M"),
    "inception_5b": _row(7, 1024, 2, "1388K", "71M"),
    "average": Printed(output=(1024,), depth=0),
    "dropout": Printed(output=(1024,), depth=0),
    "linear": Printed(output=(1000,), depth=1, parameters="1000K", macs="1M"),
}

MODELS = (
    ModelSpec(
        name="googlenet",
        title="GoogLeNet",
        family="GoogLeNet",
        paper="szegedy2014",
        suites=("mnist", "cifar10", "cifar100", "svhn"),
        loss=loss,
        variants={
            "cifar10": Variant(
                build=lambda: small(3), recipe=SMALL, parameters=10_222_398, departures=(NORM, STEM, RECIPE, FIGURES)
            ),
            "cifar100": Variant(
                build=lambda: small(3, 100),
                recipe=SMALL,
                parameters=10_222_398 + 3 * 90 * 1_025,  # three classifiers with 1024 inputs
                departures=(NORM, STEM, RECIPE, FIGURES, CIFAR100_OURS),
            ),
            "svhn": Variant(
                build=lambda: small(3),
                recipe=SVHN_RECIPE,
                parameters=10_222_398,
                departures=(NORM, STEM, RECIPE, FIGURES, SVHN_OURS),
            ),
            "mnist": Variant(
                build=lambda: small(1),
                recipe=MNIST_RECIPE,
                parameters=10_218_942,
                departures=(NORM, STEM, RECIPE, FIGURES, MNIST_OURS),
            ),
        },
        anatomy={
            "imagenet": Anatomy(
                build=papers, shape=(3, 224, 224), parameters=13_378_280, departures=(COLUMNS, POOLING), printed=PRINTED
            )
        },
    ),
)
