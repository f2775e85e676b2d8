"""VGG (Simonyan and Zisserman, arXiv 1409.1556) as in its Table 1, and two common versions for 32x32 images.

    runner models vgg_d --dataset imagenet                 layer by layer; the paper's Table 2: 133, 133, 134, 138, 144 million
    runner submit --suite cifar10 --model vgg16            Zagoruyko's batch normalisation + dropout: 7.55 % with flips only
    runner submit --suite cifar10-full --model vgg16_plain hysts's batch normalisation only

The paper has no result on CIFAR, SVHN or MNIST. The figures of the small networks come from the sources of their recipes
(szagoruyko/cifar.torch, hysts/pytorch_image_classification), each with its own file in benchmarks/papers. The networks A to E
at 224x224 are inspected here, not trained. They have 3x3 convolutions (some 1x1 in C), 2x2/2 max pooling after each of the
five blocks, and dense layers of 4096, 4096 and the classes.

Both small networks have the thirteen convolutions of D, for images of 32x32, each followed by batch normalisation.
Departures (also data below): Zagoruyko flips exactly half of each batch and lowers his learning rate slowly within a stage, and
neither source has a recipe for the other data sets. The dense layer of `vgg16` is batch-normalised, so a training batch of one
image fails. Its recipe drops the partial last batch, as its author's does.
"""

from collections import OrderedDict
from dataclasses import replace

from torch import nn

from zoo.recipe import SGD, Augmentation, Recipe, Shuffled, Steps
from zoo.spec import Anatomy, Departure, ModelSpec, Printed, Variant

# Table 1: the kernel sizes of the convolutions of each block. All networks have the same widths.
WIDTHS = (64, 128, 256, 512, 512)
A = ((3,), (3,), (3, 3), (3, 3), (3, 3))
B = ((3, 3), (3, 3), (3, 3), (3, 3), (3, 3))
C = ((3, 3), (3, 3), (3, 3, 1), (3, 3, 1), (3, 3, 1))
D = ((3, 3), (3, 3), (3, 3, 3), (3, 3, 3), (3, 3, 3))
E = ((3, 3), (3, 3), (3, 3, 3, 3), (3, 3, 3, 3), (3, 3, 3, 3))
Blocks = tuple[tuple[int, ...], ...]


def vgg(blocks: Blocks, classes: int = 1000) -> nn.Sequential:
    """Return one of the paper's networks: float (N, 3, 224, 224) -> logits (N, classes)."""
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
    """Return thirteen 3x3 convolutions with batch normalisation: float (N, channels, side, side) -> logits (N, classes).

    The side is 28 or 32. With `dropout` the network is that of vgg_bn_drop.lua, with dropout between the convolutions and a
    hidden dense layer. Without it, there is only one dense layer.
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
        ("bn*.weight", "uniform_from_0", 1.0),  # as in Torch7's nn.BatchNormalization and nn.Linear
        ("*.bias", "constant", 0.0),
        ("fc*.weight", "uniform_fan_in", 1.0),
        ("fc*.bias", "uniform", 512**-0.5),  # 1 / sqrt(inputs)
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
    # The source's convolutions have torch's own biases. The normalisation after each removes any bias.
    init=(("*.weight", "he_normal_fan_out", 1.0), ("bn*.weight", "constant", 1.0), ("*.bias", "constant", 0.0)),
    weight_decay=(("*", 1e-4),),
    augmentation=Augmentation(flip=True, translate=4, border="black"),
    order=Shuffled(drop_last=True),
)

FLIPS = Departure(
    "flips",
    "Zagoruyko's code flips exactly half of each batch. We flip each image with probability 1/2.",
)
RATE = Departure(
    "learning rate",
    "We halve the learning rate every 25 epochs, as Zagoruyko's script does. His Torch7 SGD also divides it by 1 + 1e-7 times "
    "the number of updates, which is 1 % after 300 epochs.",
)
YUV = Departure(
    "preprocessing",
    "We follow Zagoruyko's code: YUV, with local contrast normalisation of Y, and U and V scaled by mean and standard "
    "deviation. His blog only says mean-std normalised.",
)
EPOCH = Departure(
    "epoch of the figure",
    "The source evaluates the test set after each epoch and does not say which epoch it quotes. We report the last.",
)
HYSTS_DATA = Departure(
    "preprocessing",
    "We compute mean and standard deviation from the training images in use. The source has them as constants.",
)
CIFAR100_OURS = Departure(
    "CIFAR-100", "The source has no figure with this recipe on CIFAR-100. We use the CIFAR-10 recipe."
)
SVHN_OURS = Departure(
    "SVHN",
    "The source has no figure with this recipe on SVHN. We use the CIFAR-10 recipe without shifts and flips, and with a tenth "
    "of its epochs, because an epoch has 12 times the images.",
)
MNIST_OURS = Departure(
    "MNIST",
    "The source has no figure with this recipe on MNIST. We use the CIFAR-10 recipe without shifts and flips, with images "
    "scaled to mean 0 and standard deviation 1 over the training set.",
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
