"""The twelve networks of "Striving for Simplicity: The All Convolutional Net" (Springenberg et al., arXiv 1412.6806).

    runner submit --suite cifar10 --model allcnn_c             the paper: 9.08 % on CIFAR-10 (its Table 3)
    runner submit --suite cifar10-full --model strided_c --model convpool_c ...      the other eleven, and 7.25 % augmented
    runner submit --suite allconv_rates                        which of the paper's four rates suits which network

Three bases: A has one 5x5 convolution before each pooling, B follows it with a 1x1, C has two 3x3 instead. Each base in
four versions: as it is, `strided` (the poolings left out, the layer before each with stride 2), `convpool` (one more 3x3
before each pooling) and `allcnn` (each pooling replaced by a 3x3 convolution with stride 2). All end with 3x3-192, 1x1-192,
1x1-classes, a ReLU after every convolution also the last, and the average over what remains.

The paper's text gives the training: momentum 0.9; 350 epochs, the rate divided by ten after 200, 250 and 300; decay 0.001;
dropout of 20 % on the input and 50 % after each pooling or what stands in its place; whitening and contrast normalisation as
in maxout's scripts; flips and translations of up to 5 pixels. The cells of its tables could not be read: layers and widths
come from replications that quote them (asnadyvt/all_conv_net, NervanaSystems/neon, mateuszbuda/ALL-CNN, DeepOBS).

Departures (also data below): what the paper doesn't state, rate per network, batch size, initialisation and padding. Every
published attempt at 9.08 falls short (9.75 to 14.81). The counts of parameters are those of the published layers; the paper
prints about 1.3 million for base C, of which these layers give 0.95.
"""

from collections import OrderedDict
from dataclasses import replace

from torch import nn

from zoo.nin import GlobalAveragePool
from zoo.recipe import SGD, Augmentation, Recipe, Steps
from zoo.spec import Departure, ModelSpec, Printed, Variant

BASES = {"a": (5,), "b": (5, 1), "c": (3, 3)}  # kernels of the convolutions before a pooling
WIDTHS = (96, 192)  # before the first pooling, before the second


def allconv(base: str, version: str, channels: int, classes: int) -> nn.Sequential:
    """One of the twelve: float (N, channels, side, side) -> logits (N, classes); `side` is 32, or anything from 12 on.

    `version` is 'base', 'strided', 'convpool' or 'allcnn'.
    """
    layers: OrderedDict[str, nn.Module] = OrderedDict(dropout0=nn.Dropout(0.2))

    def convolve(name: str, into: int, kernel: int, stride: int = 1, pad: bool = True) -> None:
        nonlocal channels
        layers[name] = nn.Conv2d(channels, into, kernel, stride, kernel // 2 if pad else 0)
        layers[f"relu_{name}"] = nn.ReLU(inplace=True)
        channels = into

    for block, width in enumerate(WIDTHS, 1):
        kernels = BASES[base]
        for i, kernel in enumerate(kernels, 1):
            last = i == len(kernels)
            convolve(f"conv{block}_{i}", width, kernel, stride=2 if version == "strided" and last else 1)
        if version == "convpool":
            convolve(f"conv{block}_{len(kernels) + 1}", width, 3)
        if version in ("base", "convpool"):
            layers[f"pool{block}"] = nn.MaxPool2d(3, stride=2, padding=1)
        elif version == "allcnn":
            convolve(f"down{block}", width, 3, stride=2)
        layers[f"dropout{block}"] = nn.Dropout(0.5)
    convolve("conv3", 192, 3, pad=False)  # 8x8 -> 6x6
    convolve("conv4", 192, 1)
    convolve("conv5", classes, 1)
    layers["average"] = GlobalAveragePool()
    return nn.Sequential(layers)


PUBLISHED = Recipe(
    epochs=350,
    batch_size=256,
    preprocessing="gcn_zca",
    optimizer=SGD(learning_rate=0.05, momentum=0.9, convention="caffe"),
    schedule=Steps(after=(200, 250, 300)),
    init=(("*.weight", "xavier_uniform", 1.0), ("*.bias", "constant", 0.0)),
    weight_decay=1e-3,
)
AUGMENTED = replace(PUBLISHED, augmentation=Augmentation(flip=True, translate=5))
SVHN_RECIPE = replace(PUBLISHED, preprocessing="gcn_lcn").shortened(10)
MNIST_RECIPE = replace(PUBLISHED, preprocessing="standardise")

UNPUBLISHED = (
    Departure(
        "rate",
        "The paper tried 0.25, 0.1, 0.05 and 0.01, reports the best for each network, and doesn't say which that was "
        "or on which images it was chosen. Ours is 0.05 for all, as in three published replications; not compared with "
        "others here.",
    ),
    Departure(
        "batch size",
        "The paper states none for CIFAR. Ours is 256: with 32 images a replication trained at the rate 0.01 alone, "
        "and the closest published attempt (9.75 %) used 256.",
    ),
    Departure(
        "initialisation",
        "The paper states none; from some starts a replication stayed at 90 %. Ours: Xavier's uniform weights, over "
        "inputs and outputs, and zero biases. The closest published attempt (9.75 %) starts with Caffe's xavier, over "
        "the inputs alone. Looked at by the training loss of the first 130 updates, without records: with that one "
        "ALL-CNN-C leaves the loss of chance some 50 updates sooner, but the last ReLU died in two of three seeds of "
        "base A and in the one of base C.",
    ),
    Departure(
        "padding",
        "The paper's text states none. Ours: every convolution keeps its input's size, except the last 3x3, which has "
        "no padding: 8x8 becomes 6x6, the size over which its Table 1 averages in the replications that quote it. A "
        "pooling, and what replaces it, has a border of 1: it halves 32 to 16 and 8.",
    ),
    Departure(
        "dropout",
        "20 % on the input and 50 % after each pooling or what replaces it, each value by itself and scaled up in "
        "training; whether the paper dropped pixels or values isn't known. For the Strided networks, which have no "
        "pooling and nothing in its place, a replication doubts that there is any dropout but on the input; ours have "
        "it after the strided layers.",
    ),
    Departure(
        "weight decay",
        "0.001 times the weight is added to its gradient, biases spared. The paper gives the number alone.",
    ),
    Departure(
        "order of the images",
        "A fresh permutation of all images each epoch, the partial last batch kept; the paper doesn't say.",
    ),
    Departure(
        "tables",
        "The paper's running text was read; the cells of its tables were not. Layers, widths and figures are those that "
        "replications quote.",
    ),
)
AUGMENTATION = Departure(
    "augmentation",
    "Each image is mirrored with probability 1/2 and shifted by up to 5 pixels each time it is seen, zeros moving into the "
    "whitened image. The paper says flipped copies of all images and translations of at most 5 pixels in each dimension.",
)
CIFAR100_OURS = Departure(
    "CIFAR-100",
    "The paper keeps the CIFAR-10 model and all its settings. Whether its figure was reached with augmentation isn't known "
    "here: the running text doesn't say. Ours is without.",
)
SVHN_OURS = Departure(
    "SVHN",
    "The paper has no result on SVHN. Ours: the CIFAR-10 recipe over a tenth of its epochs (an epoch has 12 times "
    "the images), and maxout's global and local contrast normalisation.",
)
MNIST_OURS = Departure(
    "MNIST",
    "The paper has no result on MNIST. Ours: the CIFAR-10 recipe, and images shifted and scaled to mean 0 and standard "
    "deviation 1 over the training set.",
)

# What the layers above amount to with ten classes and three channels, and what the paper's Table 3 prints (in millions).
COUNTS = {
    ("base", "a"): (839_242, "0.9M"),
    ("strided", "a"): (839_242, "0.9M"),
    ("convpool", "a"): (1_254_250, "1.28M"),
    ("allcnn", "a"): (1_254_250, "1.28M"),
    ("base", "b"): (885_610, "1M"),
    ("strided", "b"): (885_610, "1M"),
    ("convpool", "b"): (1_300_618, "1.35M"),
    ("allcnn", "b"): (1_300_618, "1.35M"),
    ("base", "c"): (954_730, "1.3M"),
    ("strided", "c"): (954_730, "1.3M"),
    ("convpool", "c"): (1_369_738, "1.4M"),
    ("allcnn", "c"): (1_369_738, "1.4M"),
}
TITLES = {"base": "Model {}", "strided": "Strided-CNN-{}", "convpool": "ConvPool-CNN-{}", "allcnn": "ALL-CNN-{}"}
RATES_SUITE = "allconv_rates"


def _on_cifar10(version: str, base: str, recipe: Recipe, *departures: Departure) -> Variant:
    parameters, printed = COUNTS[version, base]
    return Variant(
        build=lambda: allconv(base, version, channels=3, classes=10),
        recipe=recipe,
        parameters=parameters,
        departures=(*UNPUBLISHED, *departures),
        printed={"total": Printed(parameters=printed)},
    )


def _elsewhere(version: str, base: str, channels: int, classes: int, recipe: Recipe, ours: Departure) -> Variant:
    parameters, _ = COUNTS[version, base]
    per_channel = BASES[base][0] ** 2 * WIDTHS[0]  # weights of the first layer
    per_class = WIDTHS[1] + 1  # weights and the bias of the last
    return Variant(
        build=lambda: allconv(base, version, channels, classes),
        recipe=recipe,
        parameters=parameters + (channels - 3) * per_channel + (classes - 10) * per_class,
        departures=(*UNPUBLISHED, ours),
    )


def _spec(version: str, base: str) -> ModelSpec:
    variants = {"cifar10": _on_cifar10(version, base, PUBLISHED)}
    suites = [RATES_SUITE]
    if (version, base) == ("allcnn", "c"):  # the headline: also where NiN, VGG and GoogLeNet are
        variants["cifar100"] = _elsewhere(version, base, 3, 100, PUBLISHED, CIFAR100_OURS)
        variants["svhn"] = _elsewhere(version, base, 3, 10, SVHN_RECIPE, SVHN_OURS)
        variants["mnist"] = _elsewhere(version, base, 1, 10, MNIST_RECIPE, MNIST_OURS)
        suites += variants
    return ModelSpec(
        name=f"{version}_{base}",
        title=TITLES[version].format(base.upper()),
        family="All-CNN",
        paper="springenberg2014",
        suites=tuple(suites),
        variants=variants,
    )


MODELS = (
    *(_spec(version, base) for version, base in COUNTS),
    ModelSpec(
        name="allcnn_c_augmentation",
        title="ALL-CNN-C + augmentation",
        family="All-CNN",
        paper="springenberg2014",
        suites=("cifar10",),
        variants={"cifar10": _on_cifar10("allcnn", "c", AUGMENTED, AUGMENTATION)},
    ),
)
