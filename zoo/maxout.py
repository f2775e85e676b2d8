"""Convolutional maxout with dropout (Goodfellow et al., arXiv 1302.4389), from the authors' released configuration.

    runner submit --suite cifar10-full --model maxout --model maxout_augmentation     the paper: 11.68 % and 9.38 %

NiN's closest rival. Three convolutions whose units take the largest of two filters, each with max pooling, a dense layer whose
units take the largest of five, then the classes; dropout before every layer. 16,247,830 parameters. The configuration is
pylearn2's (scripts/papers/maxout, cifar10_no_aug.yaml and cifar10.yaml): uniform weights of at most 0.005, rate 0.17 falling
along a line to a hundredth over 500 epochs, convolutions at a twentieth of it, momentum from 0.5 to 0.6 (with augmentation
0.65) over 250 epochs, batch 128, no weight decay, the norm of each filter's weights bounded; 785 epochs, with augmentation 474.

From weights this small it learns nothing for an epoch and a half: on CIFAR-10 (seed 0) the loss stays that of chance, 2.30, for
600 updates; it is 2.25 at the 800th, 2.20 with 82 % wrong at the 860th, and 2.20 with 83 % wrong at the 880th in the augmented
run. `runner try maxout --steps 1000` shows it.

No departure is known. Batches are as in the release of 2013 whose figures the paper prints: a fresh permutation each epoch, the
partial last batch kept. The augmented run pads by 4 on each side: the revision that says 8 counts both sides together.

For CIFAR-100 the authors announced a configuration and never released it; on SVHN theirs goes on from the best epoch on
validation images in a second stage: those figures are shown as published.
"""

from collections import OrderedDict
from dataclasses import replace
from typing import cast

import torch
from torch import Tensor, nn

from zoo.recipe import SGD, Augmentation, Linear, Ramp, Recipe
from zoo.spec import Departure, ModelSpec, Variant


class Maxout(nn.Module):
    """The largest of `pieces` neighbouring channels or features: (N, units * pieces, ...) -> (N, units, ...)."""

    def __init__(self, pieces: int) -> None:
        super().__init__()
        self.pieces = pieces

    def forward(self, x: Tensor) -> Tensor:
        return x.unflatten(1, (-1, self.pieces)).amax(dim=2)


class InputDropout(nn.Module):
    """Masks a fifth of the values in training and scales nothing, neither then nor at test time (input_scales: 1)."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        return cast(Tensor, x * torch.empty_like(x).bernoulli_(0.8))


def maxout(channels: int = 3, classes: int = 10) -> nn.Sequential:
    """The network: float (N, channels, 32, 32) -> logits (N, classes)."""
    layers: OrderedDict[str, nn.Module] = OrderedDict(dropout0=InputDropout())
    for i, (units, kernel, padding, pool) in enumerate(((96, 8, 4, 4), (192, 8, 3, 4), (192, 5, 3, 2)), 1):
        if i > 1:
            layers[f"dropout{i - 1}"] = nn.Dropout(0.5)
        layers[f"conv{i}"] = nn.Conv2d(channels, 2 * units, kernel, padding=padding)
        layers[f"maxout{i}"] = Maxout(2)
        layers[f"pool{i}"] = nn.MaxPool2d(pool, stride=2, ceil_mode=True)  # 33 -> 16, 15 -> 7, 9 -> 5
        channels = units
    layers["flatten"] = nn.Flatten()
    layers["dropout3"] = nn.Dropout(0.5)
    layers["fc4"] = nn.Linear(channels * 5 * 5, 500 * 5)
    layers["maxout4"] = Maxout(5)
    layers["dropout4"] = nn.Dropout(0.5)
    layers["fc5"] = nn.Linear(500, classes)
    return nn.Sequential(layers)


RELEASED = Recipe(
    epochs=785,
    batch_size=128,
    preprocessing="gcn_zca",
    optimizer=SGD(learning_rate=0.17, momentum=Ramp(0.5, 0.6, epochs=250), convention="caffe"),
    schedule=Linear(to=0.01, epochs=500),
    init=(("*.weight", "uniform", 0.005), ("*.bias", "constant", 0.0)),
    lr_multipliers=(("conv*", 0.05),),
    max_norm=(("*.weight", 1.9365), ("conv1.weight", 0.9), ("fc4.weight", 1.9)),
)
AUGMENTED = replace(
    RELEASED,
    epochs=474,
    optimizer=SGD(learning_rate=0.17, momentum=Ramp(0.5, 0.65, epochs=250), convention="caffe"),
    augmentation=Augmentation(flip=True, translate=4),
)

PARAMETERS = 16_247_830


def _spec(name: str, title: str, recipe: Recipe, *departures: Departure) -> ModelSpec:
    variant = Variant(build=maxout, recipe=recipe, parameters=PARAMETERS, departures=departures)
    return ModelSpec(
        name=name,
        title=title,
        family="Maxout",
        paper="goodfellow2013",
        suites=(),
        variants={"cifar10": variant},
        channels_last_on_cpu=False,
    )


MODELS = (
    _spec("maxout", "Conv. maxout + dropout", RELEASED),
    _spec("maxout_augmentation", "Conv. maxout + dropout + augmentation", AUGMENTED),
)
