"""Networks of 1998 with their forward and backward passes written out, for a training that sees one image per update.

Autograd costs ten times what the arithmetic of such a network costs. Here each layer is a few numpy calls into buffers
that are made once. The same passes give the diagonal Gauss-Newton terms of LeCun et al. 1998, appendix C: backward with
the weights, the inputs and the slopes squared (their equations 23 to 27).

A network's values lie in one flat vector, in an order of its own: `parts` says where each parameter of the PyTorch
module lies in it. A place that no parameter has, such as a connection that a table leaves out, holds 0 for ever.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray
from torch import Tensor, nn

Floats = NDArray[np.float32]
Part = tuple[
    str, Any, NDArray[Any]
]  # a parameter's name, an index into it, and its entries there, as a view of a flat vector
Criterion = Callable[[Floats, int], tuple[float, Floats, int]]  # output, label -> loss, gradient of the output, answer

AMPLITUDE, SLOPE = 1.7159, 2 / 3  # f(a) = 1.7159 tanh(2a/3), so that f(1) = 1 and f(-1) = -1
_AMPLITUDE, _SLOPE, _CURVE, _STEEPEST = (  # arrays: numpy takes longer to look at a number than to multiply by it
    np.array(number, np.float32) for number in (AMPLITUDE, SLOPE, -SLOPE / AMPLITUDE, SLOPE * AMPLITUDE)
)
WINDOW_STEP = 2  # subsampling takes 2x2 units


class Layer:
    """One layer for one image. `forward` keeps what `backward` needs.

    `size` values lie in the network's flat vector; `connections` counts as the paper does: a bias is one, and each unit
    of a map has its own.
    """

    size = 0
    connections = 0

    def bind(self, values: Floats, gradient: Floats, steps: Floats) -> None:
        """Take this layer's part of the network's values, of their gradient and of their steps: views of shape (size,)."""
        self.values, self.gradient, self.steps = values, gradient, steps

    def parts(self, flat: NDArray[Any]) -> Iterator[Part]:
        """Yield where the entries of the module's parameters lie in a vector of this layer's values, (size,)."""
        yield from ()

    def forward(self, inputs: Floats) -> Floats:
        """Return the layer's output: a buffer that the next layer may change and the next image overwrites."""
        raise NotImplementedError

    def backward(self, above: Floats, squared: bool = False) -> Floats:
        """Write the gradient and return the derivative with respect to the inputs, in their shape.

        `above` is the derivative with respect to the output. With `squared` it is the second derivative, and so is all
        that comes out.
        """
        raise NotImplementedError

    def update(self) -> None:
        """Take a step down the gradient: value -= step * gradient, each value with its own step."""
        gradient = self.gradient
        np.multiply(gradient, self.steps, gradient)
        np.subtract(self.values, gradient, self.values)


class Border(Layer):
    """A border of `width` pixels of one value around an image (1, side, side)."""

    def __init__(self, side: int, width: int, value: float) -> None:
        outer = side + 2 * width
        self._image = np.full((outer, outer), value, np.float32)
        self._inside = self._image[width : width + side, width : width + side]

    def forward(self, inputs: Floats) -> Floats:
        np.copyto(self._inside, inputs.reshape(self._inside.shape))
        return self._image

    def backward(self, above: Floats, squared: bool = False) -> Floats:
        return above


class Dense(Layer):
    """Each of `outputs` units sees all inputs and a bias. Values: a row for each unit, its bias last."""

    BLOCK = 65_536  # entries that are updated at a time: what a core's own cache holds

    def __init__(self, name: str, inputs: int, outputs: int) -> None:
        self.name, self.shape = name, (outputs, inputs + 1)
        self.size = self.connections = outputs * (inputs + 1)
        self._inputs = np.ones(inputs + 1, np.float32)  # the last is the bias's
        self._output = np.empty(outputs, np.float32)
        self._above = np.empty((outputs, 1), np.float32)
        self._below = np.empty(inputs, np.float32)

    def bind(self, values: Floats, gradient: Floats, steps: Floats) -> None:
        super().bind(values, gradient, steps)
        self._rows, self._gradient = values.reshape(self.shape), gradient.reshape(self.shape)
        rows = max(1, self.BLOCK // self.shape[1])
        tensors = [torch.from_numpy(flat.reshape(self.shape)) for flat in (values, gradient, steps)]
        tensors.append(torch.from_numpy(self._above))
        self._blocks = list(zip(*(tensor.split(rows) for tensor in tensors), strict=True))
        self._inputs_tensor = torch.from_numpy(self._inputs)

    def parts(self, flat: NDArray[Any]) -> Iterator[Part]:
        rows = flat.reshape(self.shape)
        yield f"{self.name}.weight", ..., rows[:, :-1]
        yield f"{self.name}.bias", ..., rows[:, -1]

    def forward(self, inputs: Floats) -> Floats:
        self._shape = inputs.shape
        self._inputs[:-1] = inputs.reshape(-1)
        return np.dot(self._rows, self._inputs, self._output)

    def backward(self, above: Floats, squared: bool = False) -> Floats:
        """Leave the gradient itself, a product of `above` and the inputs, to `update`, unless it is `squared`."""
        weights = self._rows[:, :-1]
        if squared:
            weights = weights**2
            np.multiply(above[:, None], self._inputs**2, self._gradient)
        self._above[:, 0] = above
        return np.dot(above, weights, self._below).reshape(self._shape)

    def update(self) -> None:
        """Take the step in two passes over the weights instead of three: (step * input), then value -= that * above."""
        for values, products, steps, above in self._blocks:
            torch.mul(steps, self._inputs_tensor, out=products)
            values.addcmul_(products, above, value=-1)


class Tanh(Layer):
    """f(a) = 1.7159 tanh(2a/3), in place."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self._slope = np.empty(shape, np.float32)

    def forward(self, inputs: Floats) -> Floats:
        np.multiply(inputs, _SLOPE, inputs)
        np.tanh(inputs, inputs)
        np.multiply(inputs, _AMPLITUDE, inputs)
        self._output = inputs
        return inputs

    def backward(self, above: Floats, squared: bool = False) -> Floats:
        """The slope, from the output y, is 2/3 (1.7159 - y^2 / 1.7159)."""
        slope = np.multiply(self._output, self._output, self._slope)
        np.multiply(slope, _CURVE, slope)
        np.add(slope, _STEEPEST, slope)
        if squared:
            np.multiply(slope, slope, slope)
        return np.multiply(slope, above, slope)


class Convolution(Layer):
    """A convolution whose outputs are then subsampled 2x2, with a table of which inputs each output sees.

    Input: (maps, side * side). Output: (4, outputs, cells): the four units that a cell of
    the subsampling adds lie in four planes, so that the addition is over whole planes.

    A cell sees a window of (kernel + 1)^2 units of each map. Its four units are four placements of the kernel in that window.
    One matrix product gives all: the placements (4 * outputs, window) times the windows (window, cells). So each window is
    copied once instead of four times. Values: for each output (kernel, kernel, maps), then its bias.
    """

    def __init__(
        self, name: str, maps: int, side: int, kernel: int, table: Sequence[Sequence[int]], first: bool = False
    ) -> None:
        self.name, self.maps, self.table, self.kernel, self.first = name, maps, table, kernel, first
        outputs, cells_a_side, window = len(table), (side - kernel + 1) // WINDOW_STEP, kernel + 1
        self.cells, row = cells_a_side**2, kernel * kernel * maps
        self.shape = (outputs, row + 1)
        self.size = outputs * (row + 1)
        pairs = sum(len(seen) for seen in table)
        self.connections = 4 * self.cells * (pairs * kernel * kernel + outputs)

        # --- where the windows' entries lie in the input: (window, window, maps, cells) ---
        corner = WINDOW_STEP * np.arange(cells_a_side)
        y = np.arange(window)[:, None, None, None, None] + corner[:, None]
        x = np.arange(window)[:, None, None, None] + corner
        place = np.arange(maps)[:, None, None] * side**2 + y * side + x
        self._gather = np.ascontiguousarray(place.reshape(-1, self.cells))
        inputs = len(self._gather)
        self._windows = np.ones((inputs + 1, self.cells), np.float32)  # the last row is the bias's
        self._seen = self._windows[:-1]

        # --- the four placements of the kernels in a window, zeros around them, and the bias ---
        self._placed = np.zeros((4, outputs, inputs + 1), np.float32)
        self._placed_gradient = np.empty_like(self._placed)
        self._placed_bias, self._placed_bias_gradient = self._placed[:, :, -1], self._placed_gradient[:, :, -1]
        self._placed_rows, self._placed_gradient_rows = (
            placed.reshape(4 * outputs, -1) for placed in (self._placed, self._placed_gradient)
        )
        self._output = np.empty((4, outputs, self.cells), np.float32)
        self._output_rows = self._output.reshape(4 * outputs, self.cells)
        self._placements, self._placement_gradients = self._views(self._placed), self._views(self._placed_gradient)

        # --- which entries of the windows are the same input: added up on the way back ---
        if not first:
            self._below = np.zeros(inputs * self.cells + 1, np.float32)  # the last is 0, for inputs in fewer windows
            order = np.argsort(self._gather, axis=None, kind="stable")
            counts = np.bincount(self._gather.reshape(-1), minlength=maps * side**2)
            same = np.full((counts.max(), maps * side**2), len(order))
            starts = np.cumsum(counts) - counts
            for rank in range(counts.max()):
                has = counts > rank
                same[rank, has] = order[starts[has] + rank]
            self._same = same
            self._below_rows = self._below[:-1].reshape(inputs, self.cells)
            self._ones = np.ones(len(same), np.float32)
            self._addends = np.empty(same.shape, np.float32)
            self._sum = np.empty(maps * side**2, np.float32)

    def _views(self, placed: Floats) -> Floats:
        """Return the kernels' own part of the placements: (down, right, outputs, kernel rows, a row of all maps)."""
        outputs, (plane, unit, entry) = placed.shape[1], placed.strides
        kernel, down, right = self.kernel, (self.kernel + 1) * self.maps * entry, self.maps * entry
        shape = (2, 2, outputs, kernel, kernel * self.maps)
        return as_strided(placed, shape, (2 * plane + down, plane + right, unit, down, entry))

    def bind(self, values: Floats, gradient: Floats, steps: Floats) -> None:
        super().bind(values, gradient, steps)
        rows, gradient_rows = values.reshape(self.shape), gradient.reshape(self.shape)
        shape = (self.shape[0], self.kernel, self.kernel * self.maps)
        self._kernels, self._bias = rows[:, :-1].reshape(shape), rows[:, -1]
        self._kernel_gradient, self._bias_gradient = gradient_rows[:, :-1].reshape(shape), gradient_rows[:, -1]

    def parts(self, flat: NDArray[Any]) -> Iterator[Part]:
        rows = flat.reshape(self.shape)
        kernels = rows[:, :-1].reshape(-1, self.kernel, self.kernel, self.maps)
        for name, outputs in table_rows(self.table, self.maps).items():
            for index, output in enumerate(outputs):
                for place, seen in enumerate(self.table[output]):
                    yield f"{self.name}.{name}", (index, place), kernels[output, :, :, seen]
        yield f"{self.name}.bias", ..., rows[:, -1]

    def forward(self, inputs: Floats) -> Floats:
        self._shape = inputs.shape
        inputs.reshape(-1).take(self._gather, None, self._seen, "clip")
        np.copyto(self._placements, self._kernels)
        np.copyto(self._placed_bias, self._bias)
        np.dot(self._placed_rows, self._windows, self._output_rows)
        return self._output

    def backward(self, above: Floats, squared: bool = False) -> Floats:
        above = above.reshape(-1, self.cells)
        placed, windows = self._placed_rows, self._windows
        if squared:
            placed, windows = placed**2, windows**2
        np.dot(above, windows.T, self._placed_gradient_rows)
        np.add.reduce(self._placement_gradients, axis=(0, 1), out=self._kernel_gradient)
        np.add.reduce(self._placed_bias_gradient, axis=0, out=self._bias_gradient)
        if self.first:
            return above
        np.dot(placed[:, :-1].T, above, self._below_rows)
        self._below.take(self._same, None, self._addends, "clip")
        return np.dot(self._ones, self._addends, self._sum).reshape(self._shape)


class Subsampling(Layer):
    """Each cell is coefficient * (sum of 2x2 units) + bias, one pair for each map.

    Input (4, maps, cells) as a convolution leaves it. Output (maps, cells). Values: coefficients, then biases.
    """

    def __init__(self, name: str, maps: int, cells: int) -> None:
        self.name, self.maps = name, maps
        self.size, self.connections = 2 * maps, 5 * maps * cells
        self._sum = np.empty((maps, cells), np.float32)
        self._output = np.empty((maps, cells), np.float32)
        self._below = np.empty((maps, cells), np.float32)
        self._ones = np.ones(cells, np.float32)

    def bind(self, values: Floats, gradient: Floats, steps: Floats) -> None:
        super().bind(values, gradient, steps)
        self._coefficient, self._bias = values[: self.maps, None], values[self.maps :, None]
        self._coefficient_gradient, self._bias_gradient = gradient[: self.maps], gradient[self.maps :]

    def parts(self, flat: NDArray[Any]) -> Iterator[Part]:
        yield f"{self.name}.coefficient", ..., flat[: self.maps]
        yield f"{self.name}.bias", ..., flat[self.maps :]

    def forward(self, inputs: Floats) -> Floats:
        np.add.reduce(inputs, axis=0, out=self._sum)
        np.multiply(self._sum, self._coefficient, self._output)
        return np.add(self._output, self._bias, self._output)

    def backward(self, above: Floats, squared: bool = False) -> Floats:
        """Return (maps, cells): each of a cell's four units has the same derivative."""
        total, coefficient = self._sum, self._coefficient
        if squared:
            total, coefficient = total**2, coefficient**2
        np.vecdot(above, total, self._coefficient_gradient)
        np.dot(above, self._ones, self._bias_gradient)
        return np.multiply(above, coefficient, self._below)


def table_rows(table: Sequence[Sequence[int]], maps: int) -> dict[str, list[int]]:
    """Return which outputs share a parameter: those that see as many inputs, as 'weight3', (outputs, 3, kernel, kernel).

    Where every output sees all `maps` it is the 'weight' of an nn.Conv2d.
    """
    counts = sorted({len(seen) for seen in table})
    names = {count: "weight" if counts == [maps] else f"weight{count}" for count in counts}
    return {name: [row for row, seen in enumerate(table) if len(seen) == count] for count, name in names.items()}


def squared_error(output: Floats, label: int) -> tuple[float, Floats, int]:
    """Sum of squared differences to +1 for the right class and -1 for the others."""
    difference = output + np.float32(1)
    difference[label] -= np.float32(2)
    return float(np.dot(difference, difference)), difference + difference, int(output.argmax())


class RadialBasis:
    """The output units of LeNet-5: the squared distances of its last layer to each class's vector of +1 and -1.

    The loss is their equation 8, the right class's distance; with `rejection` their equation 9, which adds
    log(exp(-rejection) + sum over classes of exp(-distance)).
    """

    def __init__(self, vectors: Floats, rejection: float | None = None) -> None:
        self.vectors, self.rejection = vectors.astype(np.float32), rejection
        self._differences = np.empty_like(self.vectors)

    def __call__(self, output: Floats, label: int) -> tuple[float, Floats, int]:
        differences = np.subtract(output, self.vectors, out=self._differences)
        distances = np.vecdot(differences, differences)
        answer, loss = int(distances.argmin()), float(distances[label])
        gradient = differences[label] + differences[label]
        if self.rejection is not None:
            energies = np.append(-distances, np.float32(-self.rejection))
            top = energies.max()
            shares = np.exp(energies - top)
            total = shares.sum()
            loss += float(top + np.log(total))
            gradient -= np.dot(shares[:-1] * (2 / total), differences)
        return loss, gradient, answer


class Network:
    """Layers from the image to the output, and a criterion, for training on one image per update and for curvatures.

    `output_curvature` is the second derivative of the loss with respect to each output, 2 for a squared distance. For
    equation 9 the logarithm's share is left out of it.
    """

    def __init__(self, layers: Sequence[Layer], criterion: Criterion, output_curvature: float = 2.0) -> None:
        self.layers, self.criterion, self.output_curvature = tuple(layers), criterion, output_curvature
        size = sum(layer.size for layer in self.layers)
        self.values, self.gradient, self.steps = (np.zeros(size, np.float32) for _ in range(3))
        for layer, values, gradient, steps in zip(
            self.layers, *(self._split(flat) for flat in (self.values, self.gradient, self.steps)), strict=True
        ):
            layer.bind(values, gradient, steps)
        self._value_parts, self._step_parts = self.parts(self.values), self.parts(self.steps)

    @property
    def connections(self) -> int:
        """Connections from the input to the last layer's units, biases included."""
        return sum(layer.connections for layer in self.layers)

    def parts(self, flat: NDArray[Any]) -> list[Part]:
        """Return where the entries of the module's parameters lie in a vector of the network's values."""
        return [part for layer, own in zip(self.layers, self._split(flat), strict=True) for part in layer.parts(own)]

    def train(
        self, model: nn.Module, images: Tensor, labels: Tensor, steps: Mapping[str, Tensor], sums: Tensor
    ) -> None:
        """Update the module's parameters once for each image: value -= step * gradient, with a step for each entry.

        `images` is float32 (n, 1, side, side), `labels` int64 (n,); `steps` is by parameter, in its shape. Adds to `sums`,
        float64 (3,), image by image: summed loss, wrong answers, images. All are on the CPU. The same bits come out however a
        pass is cut.
        """
        parameters = {name: parameter.detach() for name, parameter in model.named_parameters()}
        read(self._value_parts, parameters)
        read(self._step_parts, steps)
        layers, backwards, criterion = self.layers, self.layers[::-1], self.criterion
        trained = [layer for layer in layers if layer.size]
        total, wrong, count = sums.tolist()
        for image, label in zip(images.numpy(), labels.tolist(), strict=True):
            signal = image
            for layer in layers:
                signal = layer.forward(signal)
            loss, signal, answer = criterion(signal, label)
            for layer in backwards:
                signal = layer.backward(signal)
            for layer in trained:
                layer.update()
            total += loss
            wrong += answer != label
            count += 1
        sums.copy_(torch.tensor([total, wrong, count], dtype=torch.float64))
        write(self._value_parts, parameters)

    def curvature(self, model: nn.Module, images: Tensor) -> dict[str, Tensor]:
        """Return the diagonal Gauss-Newton terms of each parameter, means over images (n, 1, side, side), on the CPU.

        They don't depend on the labels, since an output's second derivative doesn't.
        """
        read(self._value_parts, {name: parameter.detach().cpu() for name, parameter in model.named_parameters()})
        total = np.zeros(len(self.values))
        for image in images.cpu().numpy():
            signal = image
            for layer in self.layers:
                signal = layer.forward(signal)
            signal = np.full(signal.shape, self.output_curvature, np.float32)
            for layer in reversed(self.layers):
                signal = layer.backward(signal, squared=True)
            total += self.gradient
        terms = {name: torch.empty(parameter.shape) for name, parameter in model.named_parameters()}
        write(self.parts(total / len(images)), terms)
        return terms

    def _split(self, flat: NDArray[Any]) -> list[NDArray[Any]]:
        """Return each layer's share of a vector of the network's values."""
        return np.split(flat, np.cumsum([layer.size for layer in self.layers])[:-1])


def read(parts: Sequence[Part], tensors: Mapping[str, Tensor]) -> None:
    """Fill the parts of a flat vector from the parameters' tensors."""
    arrays = {name: tensor.numpy() for name, tensor in tensors.items()}
    for name, index, part in parts:
        np.copyto(part, arrays[name][index])


def write(parts: Sequence[Part], tensors: Mapping[str, Tensor]) -> None:
    """Fill the parameters' tensors, in place, from the parts of a flat vector; float32, whatever the vector is."""
    arrays = {name: tensor.numpy() for name, tensor in tensors.items()}
    for name, index, part in parts:
        arrays[name][index] = part
