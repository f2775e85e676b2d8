"""The networks and losses of LeCun et al. 1998, each also with the hand-written passes of zoo/handwritten.py."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo import handwritten
from zoo.handwritten import AMPLITUDE, SLOPE, table_rows

REJECTION = 0.1  # j of equation 9; the paper only says that it is positive
SIDE, BORDER, BACKGROUND = 28, 2, -0.1  # MNIST's images, and the padding of LeNet-5
CLASSES = 10

# Table I: the maps of S2 that each map of C3 is connected to.
C3_TABLE = (
    *((0, 1, 2), (1, 2, 3), (2, 3, 4), (3, 4, 5), (0, 4, 5), (0, 1, 5)),
    *((0, 1, 2, 3), (1, 2, 3, 4), (2, 3, 4, 5), (0, 3, 4, 5), (0, 1, 4, 5), (0, 1, 2, 5), (0, 1, 3, 4)),
    *((1, 2, 4, 5), (0, 2, 3, 5), (0, 1, 2, 3, 4, 5)),
)

# LeNet-1's second convolution: Table 1 of LeCun et al., "Handwritten digit recognition with a back-propagation network", 1989.
LENET1_TABLE = (
    *((0,), (0, 1), (0, 1), (1,), (0, 1), (0, 1)),
    *((2,), (2, 3), (2, 3), (3,), (2, 3), (2, 3)),
)

# Fig. 3: a bitmap of 7 x 12 for each digit. Each row is two hexadecimal digits, 1 for ink, with the left pixel first.
BITMAPS = (
    "3e 00 1c 36 63 63 63 63 36 1c 00 00",
    "0c 1c 3c 0c 0c 0c 0c 0c 0c 3f 00 00",
    "3e 00 3e 63 43 06 1c 30 60 7f 00 00",
    "7f 03 06 0c 1e 03 03 03 63 3e 00 00",
    "3e 00 00 33 33 73 63 63 67 3f 03 03",
    "3e 00 7f 60 60 3c 1e 03 63 3e 00 00",
    "1e 30 60 60 7e 73 63 63 73 3e 00 00",
    "7f 03 03 06 0c 0c 18 18 18 18 00 00",
    "3e 63 63 63 3e 63 63 63 63 3e 00 00",
    "3e 67 63 63 67 3f 03 03 06 3c 00 00",
)


def output_vectors() -> Tensor:
    """Return the vectors of the ten output units, (10, 84): the rows of each bitmap, +1 for ink and -1 for paper."""
    rows = [[int(row, 16) for row in bitmap.split()] for bitmap in BITMAPS]
    return torch.tensor(
        [[1.0 if row >> bit & 1 else -1.0 for row in digit for bit in range(6, -1, -1)] for digit in rows]
    )


class ScaledTanh(nn.Module):
    """The activation 1.7159 tanh(2a/3)."""

    def forward(self, inputs: Tensor) -> Tensor:
        return AMPLITUDE * torch.tanh(SLOPE * inputs)


class TableConvolution(nn.Module):
    """A convolution whose output maps are connected to some of the input maps only, as a table says.

    Only existing connections are parameters. Output maps with equally many inputs share one parameter: `weight3` is
    (outputs, 3, kernel, kernel).
    """

    pairs: Tensor

    def __init__(self, maps: int, table: Sequence[Sequence[int]], kernel: int) -> None:
        super().__init__()
        self.maps, self.outputs, self.kernel = maps, len(table), kernel
        rows = table_rows(table, maps)
        for name, outputs in rows.items():
            self.register_parameter(
                name, nn.Parameter(torch.empty(len(outputs), len(table[outputs[0]]), kernel, kernel))
            )
        self.bias = nn.Parameter(torch.empty(len(table)))
        self.names = tuple(rows)
        self.weights_at_a_place = sum(getattr(self, name).numel() for name in rows)
        pairs = [output * maps + i for outputs in rows.values() for output in outputs for i in table[output]]
        self.register_buffer("pairs", torch.tensor(pairs), persistent=False)

    def forward(self, inputs: Tensor) -> Tensor:
        kernels = torch.cat([getattr(self, name).flatten(0, 1) for name in self.names])
        full = kernels.new_zeros(self.outputs * self.maps, self.kernel, self.kernel).index_copy(0, self.pairs, kernels)
        return F.conv2d(inputs, full.view(self.outputs, self.maps, self.kernel, self.kernel), self.bias)


class Subsampling(nn.Module):
    """2x2 subsampling: the sum of the units times a trained coefficient, plus a bias, one pair per map."""

    def __init__(self, maps: int) -> None:
        super().__init__()
        self.coefficient = nn.Parameter(torch.empty(maps))
        self.bias = nn.Parameter(torch.empty(maps))

    def forward(self, inputs: Tensor) -> Tensor:
        return 4 * F.avg_pool2d(inputs, 2) * self.coefficient[:, None, None] + self.bias[:, None, None]


class RadialBasis(nn.Module):
    """Negated squared distances to fixed vectors: (N, 84) -> (N, 10). The largest output is the predicted class."""

    vectors: Tensor

    def __init__(self, vectors: Tensor) -> None:
        super().__init__()
        self.register_buffer("vectors", vectors)

    def forward(self, inputs: Tensor) -> Tensor:
        return -(inputs[:, None, :] - self.vectors).square().sum(dim=2)


class LeNet5(nn.Module):
    """LeNet-5: float (N, 1, 28, 28) with background -0.1 -> (N, 10), the negated outputs of the radial basis functions."""

    def __init__(self) -> None:
        super().__init__()
        self.border = nn.ConstantPad2d(BORDER, BACKGROUND)
        self.c1, self.tanh1 = nn.Conv2d(1, 6, 5), ScaledTanh()
        self.s2, self.tanh2 = Subsampling(6), ScaledTanh()
        self.c3, self.tanh3 = TableConvolution(6, C3_TABLE, 5), ScaledTanh()
        self.s4, self.tanh4 = Subsampling(16), ScaledTanh()
        self.c5, self.tanh5 = nn.Linear(400, 120), ScaledTanh()
        self.f6, self.tanh6 = nn.Linear(120, 84), ScaledTanh()
        self.output = RadialBasis(output_vectors())

    def forward(self, images: Tensor) -> Tensor:
        x = self.tanh2(self.s2(self.tanh1(self.c1(self.border(images)))))
        x = self.tanh4(self.s4(self.tanh3(self.c3(x))))
        x = self.tanh5(self.c5(x.flatten(1)))
        return self.output(self.tanh6(self.f6(x)))


def distance_loss(output: Tensor, target: Tensor) -> Tensor:
    """Return equation 8, the mean squared distance to the vector of the right class.

    `output` is (N, 10), `target` has the labels (N,).
    """
    return -output.gather(1, target[:, None]).mean()


def rejecting_loss(output: Tensor, target: Tensor, rejection: float = REJECTION) -> Tensor:
    """Return equation 9: equation 8 plus log(exp(-j) + sum over classes of exp(-distance)), j the `rejection`."""
    others = torch.cat([output, output.new_full((len(output), 1), -rejection)], dim=1)
    return distance_loss(output, target) + others.logsumexp(dim=1).mean()


def squared_loss(output: Tensor, target: Tensor) -> Tensor:
    """Return the squared error with targets +1 for the class and -1 for the others, summed over outputs, mean over images."""
    goal = 2 * F.one_hot(target, output.shape[1]).to(output.dtype) - 1
    return (output - goal).square().sum(dim=1).mean()


def handwritten_lenet5(rejection: float | None = None) -> handwritten.Network:
    """Return LeNet-5 with hand-written passes, and equation 8 as its loss, or equation 9 with a rejection."""
    inner = SIDE + 2 * BORDER
    return handwritten.Network(
        (
            handwritten.Border(SIDE, BORDER, BACKGROUND),
            handwritten.Convolution("c1", 1, inner, 5, [(0,)] * 6, first=True),
            handwritten.Tanh((4, 6, 196)),
            handwritten.Subsampling("s2", 6, 196),
            handwritten.Tanh((6, 196)),
            handwritten.Convolution("c3", 6, 14, 5, C3_TABLE),
            handwritten.Tanh((4, 16, 25)),
            handwritten.Subsampling("s4", 16, 25),
            handwritten.Tanh((16, 25)),
            handwritten.Dense("c5", 400, 120),
            handwritten.Tanh((120,)),
            handwritten.Dense("f6", 120, 84),
            handwritten.Tanh((84,)),
        ),
        handwritten.RadialBasis(output_vectors().numpy(), rejection),
    )


class Perceptron(nn.Module):
    """Dense layers of these widths: float (N, 1, 28, 28) -> (N, 10).

    Each layer is followed by the scaled tanh, except in a linear classifier.
    """

    def __init__(self, *widths: int) -> None:
        super().__init__()
        self.squashed = len(widths) > 2
        self.widths = widths
        for index in range(1, len(widths)):
            self.add_module(f"fc{index}", nn.Linear(widths[index - 1], widths[index]))
            if self.squashed:
                self.add_module(f"tanh{index}", ScaledTanh())

    def forward(self, images: Tensor) -> Tensor:
        x = images.flatten(1)
        for layer in self.children():
            x = layer(x)
        return x


def handwritten_perceptron(*widths: int) -> handwritten.Network:
    """Return a Perceptron of these widths with hand-written passes."""
    layers: list[handwritten.Layer] = []
    for index in range(1, len(widths)):
        layers.append(handwritten.Dense(f"fc{index}", widths[index - 1], widths[index]))
        if len(widths) > 2:
            layers.append(handwritten.Tanh((widths[index],)))
    return handwritten.Network(layers, handwritten.squared_error)


class LeNet1(nn.Module):
    """LeNet-1: float (N, 1, 28, 28) -> (N, 10), scaled tanh outputs with targets +1 and -1."""

    def __init__(self) -> None:
        super().__init__()
        self.c1, self.tanh1 = nn.Conv2d(1, 4, 5), ScaledTanh()
        self.s2, self.tanh2 = Subsampling(4), ScaledTanh()
        self.c3, self.tanh3 = TableConvolution(4, LENET1_TABLE, 5), ScaledTanh()
        self.s4, self.tanh4 = Subsampling(12), ScaledTanh()
        self.output, self.tanh5 = nn.Linear(192, CLASSES), ScaledTanh()

    def forward(self, images: Tensor) -> Tensor:
        x = self.tanh2(self.s2(self.tanh1(self.c1(images))))
        x = self.tanh4(self.s4(self.tanh3(self.c3(x))))
        return self.tanh5(self.output(x.flatten(1)))


def handwritten_lenet1() -> handwritten.Network:
    """Return LeNet-1 with hand-written passes."""
    return handwritten.Network(
        (
            handwritten.Convolution("c1", 1, SIDE, 5, [(0,)] * 4, first=True),
            handwritten.Tanh((4, 4, 144)),
            handwritten.Subsampling("s2", 4, 144),
            handwritten.Tanh((4, 144)),
            handwritten.Convolution("c3", 4, 12, 5, LENET1_TABLE),
            handwritten.Tanh((4, 12, 16)),
            handwritten.Subsampling("s4", 12, 16),
            handwritten.Tanh((12, 16)),
            handwritten.Dense("output", 192, CLASSES),
            handwritten.Tanh((CLASSES,)),
        ),
        handwritten.squared_error,
    )


# --- the losses of constant answers ---------------------------------------------------------------------------------------


def spread(targets: Tensor) -> float:
    """Return the mean squared distance of target vectors (N, n) to their mean, the loss of the best constant answer."""
    return targets.double().var(dim=0, correction=0).sum().item()


def distance_of_constant(labels: Tensor) -> float:
    """Return the loss of the best constant answer to labels (N,) whose targets are the output vectors."""
    return spread(output_vectors()[labels.cpu()])


def squares_of_constant(labels: Tensor) -> float:
    """Return the loss of the best constant answer to labels (N,) whose targets are +1 for the class and -1 for others."""
    return spread(2.0 * F.one_hot(labels.cpu(), CLASSES) - 1)
