"""The conventional network of NiN's section 4.6, with its three heads (Lin, Chen, Yan, arXiv 1312.4400v3).

    runner submit --suite cifar10-full --model conv_fc --model conv_fc_dropout --model conv_gap

The paper sets global average pooling against a dense layer on a network without micro networks, "as in Hinton et al. 2012",
whose locally connected layer it cuts from 16 to 10 maps: 17.56 % with a dense layer, 15.99 % with dropout before it, 16.46 %
with global average pooling. It says no more about the network, and nothing of its training.

Departures (also data below): kernels, widths and poolings are those of Krizhevsky's published example for CIFAR-10
(cuda-convnet, example-layers/layers-conv-local-13pct.cfg: 5x5-64, 3x3/2 max pooling, a 3x3 locally connected layer), in three
convolutions; the recipe is ours.
"""

from collections import OrderedDict
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.nin import GlobalAveragePool
from zoo.spec import Departure, ModelSpec, Recipe, Variant


class LocallyConnected(nn.Linear):
    """A 3x3 convolution whose weights are not shared: (N, channels, side, side) -> (N, maps, side, side), zero-padded.

    Each place is a dense layer of its own from the values under it, so this is one whose weights are held place by place.
    """

    def __init__(self, channels: int, maps: int, side: int) -> None:
        super().__init__(channels * 9, side * side * maps)
        self.maps, self.side = maps, side

    def forward(self, images: Tensor) -> Tensor:
        under = F.unfold(images, 3, padding=1)  # (N, channels * 9, places)
        weights = self.weight.view(self.side**2, self.maps, -1)
        outputs = torch.einsum("ncp,pmc->nmp", under, weights) + self.bias.view(self.side**2, self.maps).T
        return cast(Tensor, outputs.reshape(-1, self.maps, self.side, self.side))


def conventional(head: str, classes: int = 10) -> nn.Sequential:
    """The network: float (N, 3, 32, 32) -> logits (N, classes). `head` is 'fc', 'fc_dropout' or 'gap'."""
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    channels = 3
    for i in (1, 2, 3):
        layers[f"conv{i}"] = nn.Conv2d(channels, 64, 5, padding=2)
        layers[f"relu{i}"] = nn.ReLU(inplace=True)
        layers[f"pool{i}"] = nn.MaxPool2d(3, stride=2, ceil_mode=True)
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
    epochs=260,
    batch_size=128,
    learning_rate=0.01,
    momentum=0.9,
    weight_decay=1e-4,
    preprocessing="gcn_zca",
    init=(("*.weight", "he_normal", 1.0), ("*.bias", "constant", 0.0)),
    milestones=(200, 230),
    decay_factor=0.1,
    rates=(("*.bias", 2.0),),
)

NETWORK = Departure(
    "network",
    "The paper names the network of Hinton et al. 2012 with a locally connected layer of 10 maps instead of 16, and gives no "
    "more. Ours: three 5x5 convolutions of 64, each with 3x3/2 max pooling, and a 3x3 locally connected layer on the 4x4 maps, "
    "with the sizes of Krizhevsky's published example for CIFAR-10; without response normalisation.",
)
RECIPE = Departure(
    "recipe",
    "Nothing is published of this network's training. Ours: preprocessing, batch, momentum, decay and schedule of NiN's "
    "released run, a rate of 0.01 (biases 0.02) and He's normal weights; not tuned.",
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
