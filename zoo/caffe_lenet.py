"""LeNet as Caffe's MNIST example has it: 1.03 % in the log that its README shows.

    runner submit --suite classics --model caffe_lenet         two to four minutes a seed on one CPU core

conv 20 @ 5x5, max pool 2, conv 50 @ 5x5, max pool 2, dense 500, ReLU, dense 10; no ReLU after the convolutions. 431,080
parameters. Pixels divided by 256, batches of 64 in the files' order, 10,000 updates at a rate that falls as Caffe's `inv`. An
epoch here is 500 updates, the interval at which Caffe's log has a test.

No departure is known: network, start, solver and order are those of caffe/examples/mnist.
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
        variants={"mnist": Variant(build=caffe_lenet, recipe=RECIPE, parameters=431_080)},
    ),
)
