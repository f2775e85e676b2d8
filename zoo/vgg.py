"""VGG (Simonyan and Zisserman, arXiv 1409.1556) as in its Table 1, and the two 32x32 versions in use.

    runner models vgg_d --dataset imagenet                 layer by layer; the paper's Table 2: 133, 133, 134, 138, 144 million
    runner submit --suite cifar10 --model vgg16            Zagoruyko's batch normalisation + dropout: 7.55 % with flips alone
    runner submit --suite cifar10-full --model vgg16_plain hysts's batch normalisation alone: 7.29 %, the median of 3 runs

The paper has no result on CIFAR, SVHN or MNIST: the figures of the small networks belong to the sources whose recipes they
follow (szagoruyko/cifar.torch, hysts/pytorch_image_classification), each with its own file in benchmarks/papers. The nets A
to E at 224x224 are here to be taken apart, not trained: convolutions of 3x3 (in C some of 1x1), 2x2/2 max pooling after
each of the five blocks, then dense layers of 4096, 4096 and the classes.

Both small networks have the thirteen convolutions of D, for images of 32x32, each followed by batch normalisation.
Departures (also data below): Zagoruyko's flips of exactly half a batch, his rate's slow decay within a stage, and both recipes
on the data sets for which their sources have none. A training batch of one image fails in `vgg16`, whose dense layer is
batch-normalised too: its recipe drops the last, short batch, as its author's did.
"""

from collections import OrderedDict
from dataclasses import replace

from torch import nn

from zoo.recipe import SGD, Augmentation, Recipe, Shuffled, Steps
from zoo.spec import Anatomy, Departure, ModelSpec, Printed, Variant

# Table 1: per block the kernels of its convolutions; the widths are the same for all.
WIDTHS = (64, 128, 256, 512, 512)
A = ((3,), (3,), (3, 3), (3, 3), (3, 3))
B = ((3, 3), (3, 3), (3, 3), (3, 3), (3, 3))
C = ((3, 3), (3, 3), (3, 3, 1), (3, 3, 1), (3, 3, 1))
D = ((3, 3), (3, 3), (3, 3, 3), (3, 3, 3), (3, 3, 3))
E = ((3, 3), (3, 3), (3, 3, 3, 3), (3, 3, 3, 3), (3, 3, 3, 3))
Blocks = tuple[tuple[int, ...], ...]


def vgg(blocks: Blocks, classes: int = 1000) -> nn.Sequential:
    """The paper's network: float (N, 3, 224, 224) -> logits (N, classes)."""
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    channels = 3
    for block, (kernels, width) in enumerate(zip(blocks, WIDTHS, strict=True), 1):
        for i, kernel in enumerate(kernels, 1):
            layers[f"conv{block}_{i}"] = nn.Conv2d(channels, width, kernel, padding=kernel // 2)
            layers[f"relu{block}_{i}"] = nn.ReLU(inplace=True)
            channels = width
        layers[f"pool{block}"] = nn.MaxPool2d(2)
    layers["flatten"] = nn.Flatten()
    inputs = channels * 7 * 7
    for i, outputs in ((6, 4096), (7, 4096)):
        layers[f"fc{i}"] = nn.Linear(inputs, outputs)
        layers[f"relu{i}"] = nn.ReLU(inplace=True)
        layers[f"dropout{i}"] = nn.Dropout(0.5)
        inputs = outputs
    layers["fc8"] = nn.Linear(inputs, classes)
    return nn.Sequential(layers)


def small_vgg(channels: int, classes: int, dropout: bool) -> nn.Sequential:
    """Thirteen 3x3 convolutions with batch normalisation: float (N, channels, side, side), side 28 or 32, -> (N, classes).

    With `dropout` as in vgg_bn_drop.lua (also between convolutions, and a hidden dense layer), else one dense layer alone.
    """
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    eps = 1e-3 if dropout else 1e-5
    for block, (kernels, width) in enumerate(zip(D, WIDTHS, strict=True), 1):
        for i, kernel in enumerate(kernels, 1):
            layers[f"conv{block}_{i}"] = nn.Conv2d(channels, width, kernel, padding=1)
            layers[f"bn{block}_{i}"] = nn.BatchNorm2d(width, eps=eps)
            layers[f"relu{block}_{i}"] = nn.ReLU(inplace=True)
            if dropout and i < len(kernels):
                layers[f"dropout{block}_{i}"] = nn.Dropout(0.3 if block == 1 else 0.4)
            channels = width
        layers[f"pool{block}"] = nn.MaxPool2d(2, ceil_mode=True)
    layers["flatten"] = nn.Flatten()
    if dropout:
        layers["dropout6"] = nn.Dropout(0.5)
        layers["fc6"] = nn.Linear(channels, 512)
        layers["bn6"] = nn.BatchNorm1d(512)
        layers["relu6"] = nn.ReLU(inplace=True)
        layers["dropout7"] = nn.Dropout(0.5)
        channels = 512
    layers["fc7"] = nn.Linear(channels, classes)
    return nn.Sequential(layers)


ZAGORUYKO = Recipe(
    epochs=300,
    batch_size=128,
    preprocessing="yuv_lcn",
    optimizer=SGD(learning_rate=1.0, momentum=0.9, convention="torch7"),
    schedule=Steps(after=tuple(range(24, 300, 25)), factor=0.5),
    init=(
        ("conv*.weight", "he_normal_fan_out", 1.0),
        ("bn*.weight", "uniform_from_0", 1.0),  # as Torch7's nn.BatchNormalization and nn.Linear start
        ("*.bias", "constant", 0.0),
        ("fc*.weight", "uniform_fan_in", 1.0),
        ("fc*.bias", "uniform", 512**-0.5),  # one over the root of the inputs
    ),
    weight_decay=(("*", 5e-4),),
    augmentation=Augmentation(flip=True),
    order=Shuffled(drop_last=True),
)
HYSTS = Recipe(
    epochs=160,
    batch_size=128,
    preprocessing="standardise",
    optimizer=SGD(learning_rate=0.1, momentum=0.9, nesterov=True),
    schedule=Steps(after=(80, 120)),
    # The source's convolutions have torch's own biases; the normalisation after each takes any bias away.
    init=(("*.weight", "he_normal_fan_out", 1.0), ("bn*.weight", "constant", 1.0), ("*.bias", "constant", 0.0)),
    weight_decay=(("*", 1e-4),),
    augmentation=Augmentation(flip=True, translate=4, border="black"),
    order=Shuffled(drop_last=True),
)

FLIPS = Departure(
    "flips",
    "Zagoruyko's code mirrors exactly half of each batch; ours mirrors each image with probability 1/2.",
)
RATE = Departure(
    "rate",
    "Torch7's SGD divides the rate by 1 + 1e-7 times the number of updates in his script, 1 % after his 300 epochs; ours is "
    "only halved every 25 epochs, as his is too.",
)
YUV = Departure(
    "preprocessing",
    "As in Zagoruyko's code: YUV, Y by its local contrast, U and V by mean and standard deviation. His blog says "
    "mean-std normalised, no more.",
)
EPOCH = Departure(
    "epoch of the figure",
    "The source evaluates the test set after each epoch and doesn't say which epoch it quotes; ours is the last.",
)
HYSTS_DATA = Departure(
    "preprocessing",
    "Mean and standard deviation are those of the training images in use; the source has them as constants.",
)
CIFAR100_OURS = Departure(
    "CIFAR-100", "The source has no figure with this recipe on CIFAR-100. Ours: the CIFAR-10 recipe."
)
SVHN_OURS = Departure(
    "SVHN",
    "The source has no figure with this recipe on SVHN. Ours: the CIFAR-10 recipe over a tenth of its epochs (an epoch has 12 "
    "times the images), without shifts and mirror images.",
)
MNIST_OURS = Departure(
    "MNIST",
    "The source has no figure with this recipe on MNIST. Ours: the CIFAR-10 recipe without shifts and mirror images; the grey "
    "values shifted and scaled to mean 0 and standard deviation 1 over the training set.",
)
PLAIN_MNIST = replace(HYSTS, augmentation=Augmentation())
PLAIN_SVHN = PLAIN_MNIST.shortened(10)
DROPOUT_SVHN = replace(ZAGORUYKO, augmentation=Augmentation()).shortened(10)
DROPOUT_MNIST = replace(ZAGORUYKO, augmentation=Augmentation(), preprocessing="standardise")


def _large(name: str, blocks: Blocks, parameters: int, printed: str) -> ModelSpec:
    return ModelSpec(
        name=f"vgg_{name.lower()}",
        title=f"VGG {name}",
        family="VGG",
        paper="simonyan2014",
        suites=(),
        anatomy={
            "imagenet": Anatomy(
                build=lambda: vgg(blocks),
                shape=(3, 224, 224),
                parameters=parameters,
                printed={"total": Printed(parameters=printed, depth=sum(map(len, blocks)) + 3)},
            )
        },
    )


def _small(name: str, title: str, paper: str, suites: tuple[str, ...], variants: dict[str, Variant]) -> ModelSpec:
    return ModelSpec(
        name=name,
        title=title,
        family="VGG",
        paper=paper,
        suites=suites,
        variants=variants,
        channels_last_on_cpu=False,
    )


def _on(
    channels: int, dropout: bool, recipe: Recipe, parameters: int, *departures: Departure, classes: int = 10
) -> Variant:
    return Variant(
        build=lambda: small_vgg(channels, classes, dropout), recipe=recipe, parameters=parameters, departures=departures
    )


MODELS = (
    _small(
        "vgg16",
        "VGG-16 + batch normalisation + dropout",
        "zagoruyko2015",
        ("mnist", "cifar10", "cifar100", "svhn"),
        {
            "cifar10": _on(3, True, ZAGORUYKO, 14_991_946, FLIPS, RATE, YUV, EPOCH),
            "cifar100": _on(3, True, ZAGORUYKO, 15_038_116, FLIPS, RATE, YUV, CIFAR100_OURS, classes=100),
            "svhn": _on(3, True, DROPOUT_SVHN, 14_991_946, RATE, YUV, SVHN_OURS),
            "mnist": _on(1, True, DROPOUT_MNIST, 14_990_794, RATE, MNIST_OURS),
        },
    ),
    _small(
        "vgg16_plain",
        "VGG-16 + batch normalisation",
        "hysts2018",
        (),
        {
            "cifar10": _on(3, False, HYSTS, 14_728_266, HYSTS_DATA),
            "cifar100": _on(3, False, HYSTS, 14_774_436, HYSTS_DATA, CIFAR100_OURS, classes=100),
            "svhn": _on(3, False, PLAIN_SVHN, 14_728_266, HYSTS_DATA, SVHN_OURS),
            "mnist": _on(1, False, PLAIN_MNIST, 14_727_114, HYSTS_DATA, MNIST_OURS),
        },
    ),
    _large("A", A, 132_863_336, "133M"),
    _large("B", B, 133_047_848, "133M"),
    _large("C", C, 133_638_952, "134M"),
    _large("D", D, 138_357_544, "138M"),
    _large("E", E, 143_667_240, "144M"),
)
