"""The conventional network of NiN's section 4.6, with its three heads (Lin, Chen, Yan, arXiv 1312.4400v3).

    runner submit --suite cifar10-full --model conv_fc --model conv_fc_dropout --model conv_gap

The paper compares global average pooling with a dense layer on a network without micro networks, "as in Hinton et al. 2012",
whose locally connected layer it reduces from 16 to 10 maps. It reports 17.56 % with a dense layer, 15.99 % with dropout
before that layer, and 16.46 % with global average pooling.

Hinton et al. (arXiv 1207.0580, appendices F and G) describe the network: three 5x5 convolutions of 64 maps, each followed by
3x3/2 pooling (the first max, the others average), response normalisation across maps after the first two poolings (9 maps,
0.001, 0.75), and a 3x3 locally connected layer. They train it in batches of 128 with momentum 0.9.

Departures (also data below): neither paper states the padding of the convolutions, the initialisation, the learning rates and
the weight decay.
"""

from collections import OrderedDict
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.cudaconvnet import average_pool
from zoo.nin import GlobalAveragePool
from zoo.recipe import SGD, Fixed, Plateau, Recipe
from zoo.spec import Departure, ModelSpec, Variant


def response_norm() -> nn.LocalResponseNorm:
    """Return x / (1 + 0.001 * sum of the squares of 9 neighbouring maps) ^ 0.75. Torch divides its alpha by 9."""
    return nn.LocalResponseNorm(9, alpha=9 * 0.001, beta=0.75, k=1.0)


class LocallyConnected(nn.Linear):
    """A 3x3 convolution with its own weights at each place: (N, channels, side, side) -> (N, maps, side, side), zero-padded.

    As a subclass of nn.Linear it has one row of weights for each place and map, over the values of the 3x3 window.
    """

    def __init__(self, channels: int, maps: int, side: int) -> None:
        super().__init__(channels * 9, side * side * maps)
        self.maps, self.side = maps, side

    def forward(self, images: Tensor) -> Tensor:
        windows = F.unfold(images, 3, padding=1)  # (N, channels * 9, places)
        weights = self.weight.view(self.side**2, self.maps, -1)
        outputs = torch.einsum("ncp,pmc->nmp", windows, weights) + self.bias.view(self.side**2, self.maps).T
        return cast(Tensor, outputs.reshape(-1, self.maps, self.side, self.side))


def conventional(head: str, classes: int = 10) -> nn.Sequential:
    """Return the network: float (N, 3, 32, 32) -> logits (N, classes). `head` is 'fc', 'fc_dropout' or 'gap'."""
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    channels = 3
    for i in (1, 2, 3):
        layers[f"conv{i}"] = nn.Conv2d(channels, 64, 5, padding=2)
        layers[f"relu{i}"] = nn.ReLU(inplace=True)
        layers[f"pool{i}"] = nn.MaxPool2d(3, stride=2, ceil_mode=True) if i == 1 else average_pool()
        if i < 3:
            layers[f"norm{i}"] = response_norm()
        channels = 64
    layers["local4"] = LocallyConnected(channels, classes, side=4)
    layers["relu4"] = nn.ReLU(inplace=True)
    if head == "gap":
        layers["average"] = GlobalAveragePool()
        return nn.Sequential(layers)
    layers["flatten"] = nn.Flatten()
    if head == "fc_dropout":
        layers["dropout"] = nn.Dropout(0.5)
    layers["fc"] = nn.Linear(classes * 4 * 4, classes)
    return nn.Sequential(layers)


OURS = Recipe(
    epochs=150,
    batch_size=128,
    preprocessing="gcn_zca",
    optimizer=SGD(learning_rate=0.01, momentum=0.9, convention="caffe"),
    schedule=Plateau(patience=5),
    init=(("*.weight", "he_normal", 1.0), ("*.bias", "constant", 0.0)),
    lr_multipliers=(("*.bias", 2.0),),
    weight_decay=1e-4,
    order=Fixed(file_images=10_000),
)

NETWORK = Departure(
    "network",
    "Hinton et al. 2012 do not state the padding of their convolutions and poolings. Our convolutions keep the size. Our "
    "poolings round up and average the values inside the map, as in cuda-convnet, the code of that paper's authors.",
)
RECIPE = Departure(
    "recipe",
    "The paper states only what holds for all its networks: batches of 128, and a learning rate that is divided by ten when "
    "the training accuracy stops improving, twice. We follow that rule with a patience of 5 epochs and at most 150 epochs. "
    "We use NiN's preprocessing, momentum, weight decay and order, a learning rate of 0.01 (0.02 for biases) and He's normal "
    "weights, without tuning. Hinton et al. chose their initialisation by trial, with biases of 1 in hidden layers, and "
    "state no number of epochs.",
)
PARAMETERS = {"conv_fc": 303_722, "conv_fc_dropout": 303_722, "conv_gap": 302_112}


def _spec(name: str, title: str, head: str) -> ModelSpec:
    return ModelSpec(
        name=name,
        title=title,
        family="Conventional CNN",
        paper="lin2013",
        suites=(),
        variants={
            "cifar10": Variant(
                build=lambda: conventional(head),
                recipe=OURS,
                parameters=PARAMETERS[name],
                departures=(NETWORK, RECIPE),
            )
        },
    )


MODELS = (
    _spec("conv_fc", "Conventional CNN + fully connected", "fc"),
    _spec("conv_fc_dropout", "Conventional CNN + fully connected + dropout", "fc_dropout"),
    _spec("conv_gap", "Conventional CNN + global average pooling", "gap"),
)
