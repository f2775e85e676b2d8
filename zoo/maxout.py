"""Convolutional maxout with dropout (Goodfellow et al., arXiv 1302.4389), from the authors' released configuration.

    runner submit --suite cifar10-full --model maxout --model maxout_augmentation     the paper: 11.68 % and 9.38 %

NiN compares itself with this network. It has three convolutions whose units are the maximum of two filters, each followed by
max pooling, a dense layer whose units are the maximum of five, and the classes, with dropout before every layer: 16,247,830
parameters. The configuration is pylearn2's (scripts/papers/maxout, cifar10_no_aug.yaml and cifar10.yaml): uniform weights
within 0.005; a learning rate of 0.17 that falls linearly to a hundredth over 500 epochs, and a twentieth of it for
convolutions; momentum from 0.5 to 0.6 (0.65 with augmentation) over 250 epochs; batches of 128; no weight decay; a bound on
the norm of each filter; 785 epochs (474 with augmentation).

With weights this small the network learns nothing for an epoch and a half. On CIFAR-10 (seed 0) the loss is 2.30, that of
chance, for 600 updates, 2.25 at update 800, and 2.20 with 82 % wrong at update 860. In the augmented run it is 2.20 with 83 %
wrong at update 880. `runner try maxout --steps 1000` shows it.

No departure is known. Batches are those of the release of 2013, whose figures the paper prints: a new permutation in each
epoch, with the partial last batch. The augmented run pads by 4 on each side; the revision that says 8 counts both sides.

The authors announced a configuration for CIFAR-100 and never released it. On SVHN, theirs continues from the best epoch on
validation images in a second stage. The figures for both data sets are shown as published only.
"""

from collections import OrderedDict
from dataclasses import replace
from typing import cast

import torch
from torch import Tensor, nn

from zoo.recipe import SGD, Augmentation, Linear, Ramp, Recipe
from zoo.spec import ModelSpec, Variant


class Maxout(nn.Module):
    """The maximum of `pieces` neighbouring channels or features: (N, units * pieces, ...) -> (N, units, ...)."""

    def __init__(self, pieces: int) -> None:
        super().__init__()
        self.pieces = pieces

    def forward(self, x: Tensor) -> Tensor:
        return x.unflatten(1, (-1, self.pieces)).amax(dim=2)


class InputDropout(nn.Module):
    """Dropout that sets a fifth of the values to 0 in training and never scales the rest (pylearn2's input_scales: 1)."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        return cast(Tensor, x * torch.empty_like(x).bernoulli_(0.8))


def maxout(channels: int = 3, classes: int = 10) -> nn.Sequential:
    """Return the network: float (N, channels, 32, 32) -> logits (N, classes)."""
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


def _spec(name: str, title: str, recipe: Recipe, configuration: str) -> ModelSpec:
    letter = f"pylearn2's scripts/papers/maxout/{configuration}"
    variant = Variant(build=maxout, recipe=recipe, parameters=PARAMETERS, to_the_letter=letter)
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
    _spec("maxout", "Conv. maxout + dropout", RELEASED, "cifar10_no_aug.yaml"),
    _spec("maxout_augmentation", "Conv. maxout + dropout + augmentation", AUGMENTED, "cifar10.yaml"),
)
