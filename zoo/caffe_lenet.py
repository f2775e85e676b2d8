"""The LeNet of Caffe's MNIST example: 1.03 % in the log in its README.

    runner submit --suite classics --model caffe_lenet         about five minutes a seed on one CPU core

The layers are conv 20 @ 5x5, max pool 2, conv 50 @ 5x5, max pool 2, dense 500, ReLU, dense 10, without a ReLU after the
convolutions: 431,080 parameters. Pixels are divided by 256. Training takes 10,000 updates with batches of 64 in the order of
the files and Caffe's `inv` learning rate. An epoch here is 500 updates, the test interval of Caffe's log.

No departure is known: network, initialisation, solver and order are those of caffe/examples/mnist.
"""

from collections import OrderedDict

from torch import nn

from zoo.recipe import SGD, Fixed, Inverse, Recipe
from zoo.spec import ModelSpec, Variant


def caffe_lenet() -> nn.Sequential:
    """Return the network: float (N, 1, 28, 28) -> logits (N, 10)."""
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(1, 20, 5),
            pool1=nn.MaxPool2d(2),
            conv2=nn.Conv2d(20, 50, 5),
            pool2=nn.MaxPool2d(2),
            flatten=nn.Flatten(),
            ip1=nn.Linear(50 * 4 * 4, 500),
            relu1=nn.ReLU(inplace=True),
            ip2=nn.Linear(500, 10),
        )
    )


RECIPE = Recipe(
    epochs=20,
    batch_size=64,
    preprocessing="over_256",
    optimizer=SGD(learning_rate=0.01, momentum=0.9, convention="caffe"),
    schedule=Inverse(gamma=1e-4, power=0.75),
    init=(("*.weight", "uniform_fan_in", 3**0.5), ("*.bias", "constant", 0.0)),  # Caffe's xavier: +-sqrt(3 / inputs)
    lr_multipliers=(("*.bias", 2.0),),
    weight_decay=(("*", 5e-4),),
    order=Fixed(updates=500),
)

MODELS = (
    ModelSpec(
        name="caffe_lenet",
        title="Caffe's LeNet",
        family="LeNet",
        paper="caffe",
        suites=("classics", "mnist", "quickstart-mnist"),
        variants={
            "mnist": Variant(build=caffe_lenet, recipe=RECIPE, parameters=431_080, to_the_letter="caffe/examples/mnist")
        },
    ),
)
