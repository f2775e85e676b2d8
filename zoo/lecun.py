"""The networks of LeCun, Bottou, Bengio and Haffner, "Gradient-based learning applied to document recognition", 1998.

LeNet-5 to the letter: a table of connections, trained subsampling, scaled tanh, radial basis functions at the output, one
image per update, a step of its own for each parameter. Around it the paper's linear classifier, its multi-layer
perceptrons and LeNet-1, trained by the same rule.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo import explicit
from zoo.explicit import AMPLITUDE, SLOPE, table_rows
from zoo.spec import ModelSpec

SIDE, BORDER, BACKGROUND = 28, 2, -0.1  # MNIST's images; LeNet-5 reads them with a border of background
CLASSES = 10

# Table I: the maps of S2 that each map of C3 sees.
C3_TABLE = (
    *((0, 1, 2), (1, 2, 3), (2, 3, 4), (3, 4, 5), (0, 4, 5), (0, 1, 5)),
    *((0, 1, 2, 3), (1, 2, 3, 4), (2, 3, 4, 5), (0, 3, 4, 5), (0, 1, 4, 5), (0, 1, 2, 5), (0, 1, 3, 4)),
    *((1, 2, 4, 5), (0, 2, 3, 5), (0, 1, 2, 3, 4, 5)),
)

# Fig. 3: a bitmap of 7 x 12 for each digit, a row in two hexadecimal digits, 1 for ink. The highest bit is the left.
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
    """Return the vectors of the ten output units, (10, 84): +1 for ink and -1 for paper, row by row of the bitmap."""
    rows = [[int(row, 16) for row in bitmap.split()] for bitmap in BITMAPS]
    return torch.tensor(
        [[1.0 if row >> bit & 1 else -1.0 for row in digit for bit in range(6, -1, -1)] for digit in rows]
    )


class ScaledTanh(nn.Module):
    """1.7159 tanh(2a/3)."""

    def forward(self, inputs: Tensor) -> Tensor:
        return AMPLITUDE * torch.tanh(SLOPE * inputs)


class TableConvolution(nn.Module):
    """A convolution in which each output map sees the input maps that a table names, and no others.

    Only the connections that exist are parameters. Output maps that see as many inputs share one: `weight3` is (maps, 3,
    kernel, kernel).
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
        pairs = [output * maps + seen for outputs in rows.values() for output in outputs for seen in table[output]]
        self.register_buffer("pairs", torch.tensor(pairs), persistent=False)

    def forward(self, inputs: Tensor) -> Tensor:
        kernels = torch.cat([getattr(self, name).flatten(0, 1) for name in self.names])
        full = kernels.new_zeros(self.outputs * self.maps, self.kernel, self.kernel).index_copy(0, self.pairs, kernels)
        return F.conv2d(inputs, full.view(self.outputs, self.maps, self.kernel, self.kernel), self.bias)


class Subsampling(nn.Module):
    """The sum of each 2x2 units, times a map's trained coefficient, plus its bias."""

    def __init__(self, maps: int) -> None:
        super().__init__()
        self.coefficient = nn.Parameter(torch.empty(maps))
        self.bias = nn.Parameter(torch.empty(maps))

    def forward(self, inputs: Tensor) -> Tensor:
        return 4 * F.avg_pool2d(inputs, 2) * self.coefficient[:, None, None] + self.bias[:, None, None]


class RadialBasis(nn.Module):
    """Squared distances to fixed vectors, negated: (N, 84) -> (N, 10), so that the largest is the answer."""

    vectors: Tensor

    def __init__(self, vectors: Tensor) -> None:
        super().__init__()
        self.register_buffer("vectors", vectors)

    def forward(self, inputs: Tensor) -> Tensor:
        return -(inputs[:, None, :] - self.vectors).square().sum(dim=2)


class LeNet5(nn.Module):
    """Float (N, 1, 28, 28), background -0.1 -> (N, 10): the negated outputs of the paper's radial basis functions."""

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
    """Equation 8: the mean squared distance to the right class's vector."""
    return -output.gather(1, target[:, None]).mean()


def rejecting_loss(output: Tensor, target: Tensor, rejection: float = 0.1) -> Tensor:
    """Equation 9: equation 8 plus log(exp(-j) + sum over classes of exp(-distance)), j the `rejection`."""
    others = torch.cat([output, output.new_full((len(output), 1), -rejection)], dim=1)
    return distance_loss(output, target) + others.logsumexp(dim=1).mean()


def squared_loss(output: Tensor, target: Tensor) -> Tensor:
    """Sum over the outputs of the squared difference to +1 for the right class and -1 for the others, mean over images."""
    wanted = 2 * F.one_hot(target, output.shape[1]).to(output.dtype) - 1
    return (output - wanted).square().sum(dim=1).mean()


def explicit_lenet5(rejection: float | None = None) -> explicit.Network:
    """Return LeNet-5's passes written out, with equation 8, or 9 where a rejection is given."""
    inner = SIDE + 2 * BORDER
    return explicit.Network(
        (
            explicit.Border(SIDE, BORDER, BACKGROUND),
            explicit.Convolution("c1", 1, inner, 5, [(0,)] * 6, first=True),
            explicit.Tanh((4, 6, 196)),
            explicit.Subsampling("s2", 6, 196),
            explicit.Tanh((6, 196)),
            explicit.Convolution("c3", 6, 14, 5, C3_TABLE),
            explicit.Tanh((4, 16, 25)),
            explicit.Subsampling("s4", 16, 25),
            explicit.Tanh((16, 25)),
            explicit.Dense("c5", 400, 120),
            explicit.Tanh((120,)),
            explicit.Dense("f6", 120, 84),
            explicit.Tanh((84,)),
        ),
        explicit.RadialBasis(output_vectors().numpy(), rejection),
    )


class Perceptron(nn.Module):
    """Dense layers of these widths, each but a lone output layer squashed: float (N, 1, 28, 28) -> (N, 10)."""

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


def explicit_perceptron(*widths: int) -> explicit.Network:
    """Return the passes of a Perceptron of these widths, written out."""
    layers: list[explicit.Layer] = []
    for index in range(1, len(widths)):
        layers.append(explicit.Dense(f"fc{index}", widths[index - 1], widths[index]))
        if len(widths) > 2:
            layers.append(explicit.Tanh((widths[index],)))
    return explicit.Network(layers, explicit.squared_error)


MODELS: tuple[ModelSpec, ...] = ()
