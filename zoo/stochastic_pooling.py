"""Stochastic pooling, and the same network with average and max pooling (Zeiler and Fergus, arXiv 1301.3557v1).

    runner submit --suite classics --model stochastic_pooling --model max_pooling_zf ...     a day a seed on one core

The network has three 5x5 convolutions of 64 maps with ReLU, each followed by 3x3/2 pooling and response normalisation across
maps, and a dense layer: 220,042 parameters on CIFAR-10. In training, stochastic pooling draws one value of each window with a
probability proportional to the value. In evaluation, it returns the mean weighted by these probabilities. NiN's Tables 1 and
4 quote its 15.13 % on CIFAR-10 and 0.47 % on MNIST.

Training takes 280 epochs with momentum 0.9. The learning rates are 0.01 for the convolutions and 1 for the dense layer, and
fall linearly to a hundredth. Weight decay is 0.001 on all layers. Pixels are divided by 255, on CIFAR-10 minus the mean image.
The authors chose these settings on 5,000 held-out images of CIFAR-10.

Departures (also data below): batch size, initialisation and padding are not published.
"""

from collections import OrderedDict
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.conv import response_norm
from zoo.cudaconvnet import average_pool
from zoo.recipe import SGD, Linear, Recipe
from zoo.spec import Departure, ModelSpec, Variant


class StochasticPool(nn.Module):
    """3x3/2 stochastic pooling of values >= 0: (N, C, H, W) -> (N, C, H // 2, W // 2).

    For even sizes the last window is padded with zeros, which are drawn only if all values are 0.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Return a random value of each window in training, and the mean weighted by the probabilities in evaluation."""
        if self.training:
            return self._draw(x)
        padded = self._pad(x)
        total, squares = (9 * F.avg_pool2d(values, 3, stride=2) for values in (padded, padded.square()))
        return squares / total.clamp(min=1e-12)

    def _draw(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            padded = self._pad(x)
            width = padded.shape[3]
            total = 9 * F.avg_pool2d(padded, 3, stride=2)
            height_out, width_out = total.shape[2:]
            threshold = torch.rand_like(total).mul_(total)
            cumulative, place = torch.zeros_like(total), torch.zeros_like(total, dtype=torch.int64)
            for position in range(8):  # the ninth is drawn if no threshold is reached before
                row, column = divmod(position, 3)
                cumulative += padded[:, :, row : row + 2 * height_out - 1 : 2, column : column + 2 * width_out - 1 : 2]
                place += cumulative < threshold
            rows = 2 * torch.arange(height_out, device=x.device)[:, None] + place // 3
            columns = 2 * torch.arange(width_out, device=x.device) + place % 3
            source = (rows * width + columns).flatten(2)
        return self._pad(x).flatten(2).gather(2, source).view_as(total)

    @staticmethod
    def _pad(x: Tensor) -> Tensor:
        return F.pad(x, (0, 1 - x.shape[3] % 2, 0, 1 - x.shape[2] % 2))


POOLS: dict[str, Callable[[], nn.Module]] = {
    "stochastic": StochasticPool,
    "max": lambda: nn.MaxPool2d(3, stride=2, ceil_mode=True),
    "average": average_pool,
}


def pooled(pool: str, channels: int, side: int) -> nn.Sequential:
    """Return the network: float (N, channels, side, side) -> logits (N, 10). `pool` is a key of POOLS."""
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for i in (1, 2, 3):
        layers[f"conv{i}"] = nn.Conv2d(channels, 64, 5, padding=2)
        layers[f"relu{i}"] = nn.ReLU(inplace=True)
        layers[f"pool{i}"] = POOLS[pool]()
        layers[f"norm{i}"] = response_norm()
        channels = 64
    layers["flatten"] = nn.Flatten()
    layers["fc"] = nn.Linear(64 * (side // 8) ** 2, 10)
    return nn.Sequential(layers)


def _recipe(preprocessing: str) -> Recipe:
    return Recipe(
        epochs=280,
        batch_size=128,
        preprocessing=preprocessing,
        optimizer=SGD(learning_rate=0.01, momentum=0.9, convention="caffe"),
        schedule=Linear(to=0.01, epochs=280),
        init=(("*.weight", "normal", 0.01), ("*.bias", "constant", 0.0)),
        lr_multipliers=(("fc.*", 100.0),),
        weight_decay=1e-3,
    )


UNPUBLISHED = (
    Departure(
        "batch size",
        "The paper states no size. We use 128, as Hinton et al. 2012 do for this network.",
    ),
    Departure(
        "initialisation",
        "Not published. We use normal weights with standard deviation 0.01 and zero biases. We have not compared them with "
        "others on held-out images.",
    ),
    Departure(
        "padding",
        "Not published. Our convolutions keep the size. Our poolings round up and use the values inside the map, as in "
        "cuda-convnet.",
    ),
    Departure(
        "weight decay",
        "The paper says 0.001 on all layers. We apply it to the weights of all layers, and not to the biases.",
    ),
    Departure(
        "order of the images",
        "Not published. We draw a new permutation in each epoch and keep the partial last batch.",
    ),
)
TITLES = {
    "stochastic": "Stochastic pooling",
    "max": "Max pooling (stochastic pooling's baseline)",
    "average": "Average pooling (stochastic pooling's baseline)",
}
NAMES = {"stochastic": "stochastic_pooling", "max": "max_pooling_zf", "average": "average_pooling_zf"}


def _spec(pool: str) -> ModelSpec:
    return ModelSpec(
        name=NAMES[pool],
        title=TITLES[pool],
        family="Stochastic pooling",
        paper="zeiler2013",
        suites=("classics",),
        variants={
            "cifar10": Variant(
                build=lambda: pooled(pool, 3, 32),
                recipe=_recipe("unit_minus_mean_image"),
                parameters=220_042,
                departures=UNPUBLISHED,
            ),
            "mnist": Variant(
                build=lambda: pooled(pool, 1, 28), recipe=_recipe("unit"), parameters=212_362, departures=UNPUBLISHED
            ),
        },
    )


MODELS = tuple(_spec(pool) for pool in POOLS)
