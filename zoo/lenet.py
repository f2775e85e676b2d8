"""LeNet-5 as it is taught in lectures: a small baseline.

    runner submit --suite mnist --model lenet          three to six minutes a seed on one CPU core

The layers are conv 6 @ 5x5 (padding 2), average pool, conv 16 @ 5x5, average pool, dense 120, 84 and the classes. There are
61,706 parameters on MNIST. The 16 x 5 x 5 x 120 weights of the first dense layer are the "48k" that lectures quote. No source
in benchmarks/papers reports a figure for this network and recipe, so its error gets no verdict.

Departures from LeCun et al. 1998: every map of the second convolution is connected to all maps of the first, pooling has no
trained coefficients, and the output is a softmax instead of radial basis functions. Optimiser and schedule are ours.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.recipe import SGD, Recipe, Steps
from zoo.spec import Departure, ModelSpec, Variant


class LeNet(nn.Module):
    """LeNet-5 for one-channel square images of `size` pixels: float (N, 1, size, size) -> logits (N, classes).

    For images smaller than 16 pixels the second convolution is padded, because they are too small without.
    """

    def __init__(self, size: int, classes: int = 10) -> None:
        super().__init__()
        small = size < 16
        self.conv1 = nn.Conv2d(1, 6, 5, padding=2)
        self.conv2 = nn.Conv2d(6, 16, 5, padding=2 if small else 0)
        side = size // 4 if small else (size // 2 - 4) // 2
        self.fc1 = nn.Linear(16 * side * side, 120)
        self.fc2 = nn.Linear(120, 84)
        self.fc3 = nn.Linear(84, classes)

    def forward(self, images: Tensor) -> Tensor:
        x = F.avg_pool2d(torch.tanh(self.conv1(images)), 2)
        x = F.avg_pool2d(torch.tanh(self.conv2(x)), 2)
        x = torch.tanh(self.fc1(x.flatten(1)))
        return self.fc3(torch.tanh(self.fc2(x)))


MNIST_RECIPE = Recipe(
    epochs=20,
    batch_size=128,
    preprocessing="standardise",
    optimizer=SGD(learning_rate=0.1, momentum=0.9),
    init=(("*.weight", "xavier_uniform", 1.0), ("*.bias", "constant", 0.0)),
    schedule=Steps(after=(10, 15)),
    weight_decay=1e-4,
)

DIGITS_RECIPE = Recipe(
    epochs=40,
    batch_size=64,
    preprocessing="standardise",
    optimizer=SGD(learning_rate=0.1, momentum=0.9),
    init=MNIST_RECIPE.init,
    schedule=Steps(after=(20, 30)),
    weight_decay=1e-4,
)

OURS = (
    Departure(
        "architecture",
        "The network is that of lectures: all maps of the two convolutions are connected, pooling is plain averaging, and "
        "the output is a softmax. The network of 1998 has a connection table, trained pooling coefficients and radial basis "
        "functions.",
    ),
    Departure(
        "recipe",
        "Optimiser, schedule and initialisation are ours. We chose the learning rate on held-out training images with seed "
        "0. Their records were withdrawn and will be published again.",
    ),
)

MODELS = (
    ModelSpec(
        name="lenet",
        title="LeNet-5",
        family="LeNet",
        paper=None,
        suites=("quickstart", "mnist"),
        variants={
            "mnist": Variant(
                build=lambda: LeNet(28), recipe=MNIST_RECIPE, revision=2, parameters=61_706, departures=OURS
            ),
            "digits": Variant(
                build=lambda: LeNet(8), recipe=DIGITS_RECIPE, revision=2, parameters=21_386, departures=OURS
            ),
        },
    ),
)
