"""AlexNet as it is taught in lectures (d2l.ai). It is inspected here, not trained.

    runner models alexnet --dataset imagenet

It has convolutions 11x11/4-96, 5x5-256, 3x3-384, 3x3-384 and 3x3-256, three 3x3/2 max poolings, and dense layers of 4096,
4096 and the classes. The 256 x 5 x 5 x 4096 weights of the first dense layer are the "26M" that lectures quote; LeNet has 48k
there, and VGG 102M. With one channel and ten classes, as in the lecture, the network has 46,764,746 parameters.

Departures from Krizhevsky et al. 2012: one stream instead of two on two GPUs, no response normalisation, and a padding of 1
around the image, so that the last maps are 5x5. No source in benchmarks/papers reports a figure for it, so it has no recipe.
"""

from collections import OrderedDict

from torch import nn

from zoo.spec import Anatomy, Departure, ModelSpec


def alexnet(channels: int = 3, classes: int = 1000) -> nn.Sequential:
    """Return the lecture's network: float (N, channels, 224, 224) -> logits (N, classes)."""
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for i, (width, kernel, stride, padding, pool) in enumerate(
        (
            (96, 11, 4, 1, True),
            (256, 5, 1, 2, True),
            (384, 3, 1, 1, False),
            (384, 3, 1, 1, False),
            (256, 3, 1, 1, True),
        ),
        1,
    ):
        layers[f"conv{i}"] = nn.Conv2d(channels, width, kernel, stride, padding)
        layers[f"relu{i}"] = nn.ReLU(inplace=True)
        if pool:
            layers[f"pool{i}"] = nn.MaxPool2d(3, stride=2)
        channels = width
    layers["flatten"] = nn.Flatten()
    inputs = channels * 5 * 5
    for i in (6, 7):
        layers[f"fc{i}"] = nn.Linear(inputs, 4096)
        layers[f"relu{i}"] = nn.ReLU(inplace=True)
        layers[f"dropout{i}"] = nn.Dropout(0.5)
        inputs = 4096
    layers["fc8"] = nn.Linear(inputs, classes)
    return nn.Sequential(layers)


MODELS = (
    ModelSpec(
        name="alexnet",
        title="AlexNet",
        family="AlexNet",
        paper=None,
        suites=(),
        anatomy={
            "imagenet": Anatomy(
                build=alexnet,
                shape=(3, 224, 224),
                parameters=50_844_008,
                departures=(
                    Departure(
                        "architecture",
                        "The network is that of lectures (d2l.ai) with three channels and 1000 classes. It has one stream, "
                        "no response normalisation, and a padding of 1 around the image, so that the last maps are 5x5. "
                        "The network of 2012 has two streams on two GPUs.",
                    ),
                ),
            )
        },
    ),
)
