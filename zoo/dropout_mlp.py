"""The dropout MLP of pylearn2's re-run of Hinton et al. 2012 on MNIST: 1.05 % after its last epoch.

    runner submit --suite classics --model dropout_mlp         one to three hours a seed on one CPU core

The network has dense layers of 898 and 1532 ReLU units and a softmax: 2,097,528 parameters. Training drops a fifth of the
inputs and half of each hidden layer, and scales up the rest. Initialisation, learning rate, momentum, norm bounds and the 440
epochs are those of scripts/papers/dropout/mnist.yaml, which its authors chose by random search on held-out training images.
`mlp_plain` is the same network and recipe without dropout. No source reports it; it shows the effect of dropout.

No departure is known.
"""

from collections import OrderedDict

from torch import nn

from zoo.recipe import SGD, Linear, Ramp, Recipe
from zoo.spec import Departure, ModelSpec, Variant


def mlp(dropout: bool) -> nn.Sequential:
    """Return the network: float (N, 1, 28, 28) -> logits (N, 10)."""
    layers: OrderedDict[str, nn.Module] = OrderedDict(flatten=nn.Flatten())
    inputs = 784
    for name, units, share in (("h0", 898, 0.2), ("h1", 1532, 0.5)):
        if dropout:
            layers[f"dropout_{name}"] = nn.Dropout(share)
        layers[name] = nn.Linear(inputs, units)
        layers[f"relu_{name}"] = nn.ReLU(inplace=True)
        inputs = units
    if dropout:
        layers["dropout_y"] = nn.Dropout(0.5)
    layers["y"] = nn.Linear(inputs, 10)
    return nn.Sequential(layers)


RECIPE = Recipe(
    epochs=440,
    batch_size=100,
    preprocessing="unit",
    optimizer=SGD(learning_rate=0.097259, momentum=Ramp(0.5, 0.699217, epochs=698), convention="caffe"),
    schedule=Linear(to=0.022292, epochs=560),
    init=(
        ("h0.weight", "uniform", 0.00891030471479),
        ("h1.weight", "uniform", 0.0575059125935),
        ("y.weight", "constant", 0.0),
        ("*.bias", "constant", 0.0),
    ),
    max_norm=(("h0.weight", 4.378017), ("h1.weight", 2.970242), ("y.weight", 4.626974)),
)
PARAMETERS = 2_097_528


NOT_TUNED = Departure(
    "recipe",
    "The settings were found by random search with dropout. They have not been tuned for the network without it.",
)


def _spec(name: str, title: str, paper: str | None, dropout: bool) -> ModelSpec:
    letter = "pylearn2's scripts/papers/dropout/mnist.yaml" if dropout else ""
    departures = () if dropout else (NOT_TUNED,)
    variant = Variant(
        build=lambda: mlp(dropout), recipe=RECIPE, parameters=PARAMETERS, to_the_letter=letter, departures=departures
    )
    return ModelSpec(
        name=name, title=title, family="MLP", paper=paper, suites=("classics", "mnist"), variants={"mnist": variant}
    )


MODELS = (
    _spec("dropout_mlp", "MLP + dropout", "pylearn2", dropout=True),
    _spec("mlp_plain", "MLP, without dropout", None, dropout=False),
)
