"""Hand-written forward and backward passes in numpy for the networks of 1998, which train on one image per update.

For such small networks autograd takes ten times as long as the arithmetic. Here each layer is a few numpy calls on
preallocated buffers. The same passes compute the diagonal Gauss-Newton terms of LeCun et al. 1998, appendix C: a backward
pass with squared weights, inputs and slopes (their equations 23 to 27).

All values of a network are in one flat vector. `parts` maps the parameters of the PyTorch module to their places in it.
Places without a parameter, such as connections that a table leaves out, always hold 0.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from types import EllipsisType
from typing import Any

import numpy as np
import torch
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray
from torch import Tensor, nn

Floats = NDArray[np.float32]
Index = tuple[int, int] | EllipsisType
Part = tuple[str, Index, NDArray[Any]]  # a parameter's name, an index into it, the view of a vector with its entries
Criterion = Callable[[Floats, int], tuple[float, Floats, int]]  # (output, label) -> (loss, gradient, predicted class)

AMPLITUDE, SLOPE = 1.7159, 2 / 3  # f(a) = 1.7159 tanh(2a/3), so that f(1) = 1 and f(-1) = -1
_AMPLITUDE, _SLOPE, _CURVE, _STEEPEST = (  # as arrays, because numpy converts a Python number in each call
    np.array(number, np.float32) for number in (AMPLITUDE, SLOPE, -SLOPE / AMPLITUDE, SLOPE * AMPLITUDE)
)
WINDOW_STEP = 2  # subsampling uses windows of 2x2 units


class Layer:
    """One layer, applied to one image at a time. `forward` stores what `backward` needs.

    The layer has `size` values in the network's flat vector. `connections` counts as the paper does: every unit has its own
    connections, and its bias is one of them.
    """

    size = 0
    connections = 0

    def bind(self, values: Floats, gradient: Floats, steps: Floats) -> None:
        """Store this layer's views, of shape (size,), of the network's values, gradient and step sizes."""
        self.values, self.gradient, self.steps = values, gradient, steps

    def parts(self, flat: NDArray[Any]) -> Iterator[Part]:
        """Yield the places of the module's parameters in a vector of this layer's values, of shape (size,)."""
        yield from ()

    def forward(self, inputs: Floats) -> Floats:
        """Return the output, a buffer that the next layer may change and the next image overwrites."""
        raise NotImplementedError

    def backward(self, above: Floats, squared: bool = False) -> Floats:
        """Write the layer's gradient and return the derivative of the loss by the inputs, in their shape.

        `above` is the derivative by the output. If `squared` is true, `above` and all results are second derivatives.
        """
        raise NotImplementedError

    def update(self) -> None:
        """Subtract step * gradient from each value. Each value has its own step size."""
        gradient = self.gradient
        np.multiply(gradient, self.steps, gradient)
        np.subtract(self.values, gradient, self.values)


class Border(Layer):
    """Pad an image (1, side, side) with `width` pixels of one value on each side."""

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
    """A dense layer. Its values are one row for each of the `outputs` units, with the bias at the end."""

    BLOCK = 65_536  # entries updated at a time, which fit a core's own cache

    def __init__(self, name: str, inputs: int, outputs: int) -> None:
        self.name, self.shape = name, (outputs, inputs + 1)
        self.size = self.connections = outputs * (inputs + 1)
        self._inputs = np.ones(inputs + 1, np.float32)  # the last 1 is for the bias
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
        """Return the derivative by the inputs. Only with `squared` the gradient is written; else `update` computes it."""
        weights = self._rows[:, :-1]
        if squared:
            weights = weights**2
            np.multiply(above[:, None], self._inputs**2, self._gradient)
        self._above[:, 0] = above
        return np.dot(above, weights, self._below).reshape(self._shape)

    def update(self) -> None:
        """Update the values in two passes over the weights instead of three: step * input, then value -= product * above."""
        for values, products, steps, above in self._blocks:
            torch.mul(steps, self._inputs_tensor, out=products)
            values.addcmul_(products, above, value=-1)


class Tanh(Layer):
    """The activation f(a) = 1.7159 tanh(2a/3), computed in place."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self._slope = np.empty(shape, np.float32)

    def forward(self, inputs: Floats) -> Floats:
        np.multiply(inputs, _SLOPE, inputs)
        np.tanh(inputs, inputs)
        np.multiply(inputs, _AMPLITUDE, inputs)
        self._output = inputs
        return inputs

    def backward(self, above: Floats, squared: bool = False) -> Floats:
        """Multiply by the slope, which is 2/3 (1.7159 - y^2 / 1.7159) for the output y."""
        slope = np.multiply(self._output, self._output, self._slope)
        np.multiply(slope, _CURVE, slope)
        np.add(slope, _STEEPEST, slope)
        if squared:
            np.multiply(slope, slope, slope)
        return np.multiply(slope, above, slope)


class Convolution(Layer):
    """A convolution before 2x2 subsampling. `table` has, for each output map, the input maps that it is connected to.

    Input: (maps, side * side). Output: (4, outputs, cells), where a cell is one 2x2 window of the subsampling. The four
    units of the cells are in four planes, so that the subsampling adds whole planes.

    A cell depends on a window of (kernel + 1)^2 units of each input map. Its four units are four placements of the kernel in
    that window. One matrix product computes all: placements (4 * outputs, window) times windows (window, cells). Each window
    is copied once instead of four times. The values are (kernel, kernel, maps) for each output, followed by its bias.
    """

    def __init__(
        self, name: str, maps: int, side: int, kernel: int, table: Sequence[Sequence[int]], first: bool = False
    ) -> None:
        self.name, self.maps, self.table, self.kernel, self.first = name, maps, table, kernel, first
        outputs, cells_a_side, window = len(table), (side - kernel + 1) // WINDOW_STEP, kernel + 1
        self.cells, row = cells_a_side**2, kernel * kernel * maps
        self.shape = (outputs, row + 1)
        self.size = outputs * (row + 1)
        pairs = sum(len(row) for row in table)
        self.connections = 4 * self.cells * (pairs * kernel * kernel + outputs)

        # --- the index of each window entry in the input: (window, window, maps, cells) ---
        corner = WINDOW_STEP * np.arange(cells_a_side)
        y = np.arange(window)[:, None, None, None, None] + corner[:, None]
        x = np.arange(window)[:, None, None, None] + corner
        place = np.arange(maps)[:, None, None] * side**2 + y * side + x
        self._gather = np.ascontiguousarray(place.reshape(-1, self.cells))
        inputs = len(self._gather)
        self._windows = np.ones((inputs + 1, self.cells), np.float32)  # the last row is for the bias
        self._window_inputs = self._windows[:-1]

        # --- the four placements of the kernels in a window, with zeros around them, and the bias ---
        self._placed = np.zeros((4, outputs, inputs + 1), np.float32)
        self._placed_gradient = np.empty_like(self._placed)
        self._placed_bias, self._placed_bias_gradient = self._placed[:, :, -1], self._placed_gradient[:, :, -1]
        self._placed_rows, self._placed_gradient_rows = (
            placed.reshape(4 * outputs, -1) for placed in (self._placed, self._placed_gradient)
        )
        self._output = np.empty((4, outputs, self.cells), np.float32)
        self._output_rows = self._output.reshape(4 * outputs, self.cells)
        self._placements, self._placement_gradients = self._views(self._placed), self._views(self._placed_gradient)

        # --- the window entries of each input, which `backward` adds up ---
        if not first:
            # The last value is 0, for inputs in fewer windows than others.
            self._below = np.zeros(inputs * self.cells + 1, np.float32)
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
        """Return a view of the kernels inside the placements: (down, right, outputs, kernel rows, entries of a row)."""
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
                for place, input_map in enumerate(self.table[output]):
                    yield f"{self.name}.{name}", (index, place), kernels[output, :, :, input_map]
        yield f"{self.name}.bias", ..., rows[:, -1]

    def forward(self, inputs: Floats) -> Floats:
        self._shape = inputs.shape
        inputs.reshape(-1).take(self._gather, None, self._window_inputs, "clip")
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
    """Compute coefficient * (sum of 2x2 units) + bias for each cell, with one coefficient and bias per map.

    Input: (4, maps, cells), the output of `Convolution`. Output: (maps, cells). The values are coefficients, then biases.
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
        """Return the derivative (maps, cells), which is the same for the four units of a cell."""
        total, coefficient = self._sum, self._coefficient
        if squared:
            total, coefficient = total**2, coefficient**2
        np.vecdot(above, total, self._coefficient_gradient)
        np.dot(above, self._ones, self._bias_gradient)
        return np.multiply(above, coefficient, self._below)


def table_rows(table: Sequence[Sequence[int]], maps: int) -> dict[str, list[int]]:
    """Return the output maps that share each weight parameter, by its name.

    Outputs with equally many inputs share one: those with 3 have 'weight3', of shape (outputs, 3, kernel, kernel). If every
    output is connected to all `maps`, it is the 'weight' of an nn.Conv2d.
    """
    counts = sorted({len(inputs) for inputs in table})
    names = {count: "weight" if counts == [maps] else f"weight{count}" for count in counts}
    return {name: [row for row, inputs in enumerate(table) if len(inputs) == count] for count, name in names.items()}


def squared_error(output: Floats, label: int) -> tuple[float, Floats, int]:
    """Return the squared error with targets +1 for the right class and -1 for the others, its gradient and the prediction."""
    difference = output + np.float32(1)
    difference[label] -= np.float32(2)
    return float(np.dot(difference, difference)), difference + difference, int(output.argmax())


class RadialBasis:
    """The criterion of LeNet-5, on the squared distances of its last layer to each class's vector of +1 and -1.

    The loss is the paper's equation 8, the distance to the right class. With `rejection` it is equation 9, which adds
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
    """Layers from the image to the output, and a criterion. It trains on one image per update and computes curvatures.

    `output_curvature` is the second derivative of the loss by each output: 2 for a squared distance. For equation 9 this
    ignores the logarithm.
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
        """The number of connections from the input to the last layer, biases included."""
        return sum(layer.connections for layer in self.layers)

    def parts(self, flat: NDArray[Any]) -> list[Part]:
        """Return the places of the module's parameters in a vector of the network's values."""
        return [part for layer, own in zip(self.layers, self._split(flat), strict=True) for part in layer.parts(own)]

    def train(
        self, model: nn.Module, images: Tensor, labels: Tensor, steps: Mapping[str, Tensor], sums: Tensor
    ) -> None:
        """Update the module's parameters once for each image: value -= step * gradient.

        `images` is float32 (n, 1, side, side), `labels` int64 (n,). `steps` has a tensor of step sizes for each parameter, in
        its shape. Adds the summed loss, the wrong answers and the number of images to `sums`, float64 (3,). All tensors are
        on the CPU. Splitting a pass into several calls gives the same bits.
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
        """Return the diagonal Gauss-Newton terms of each parameter, averaged over images (n, 1, side, side), on the CPU.

        They do not depend on the labels, because the second derivative of the loss by an output does not.
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
        """Return each layer's view of a vector of the network's values."""
        return np.split(flat, np.cumsum([layer.size for layer in self.layers])[:-1])


def read(parts: Sequence[Part], tensors: Mapping[str, Tensor]) -> None:
    """Copy the parameters' tensors into the parts of a flat vector."""
    arrays = {name: tensor.numpy() for name, tensor in tensors.items()}
    for name, index, part in parts:
        np.copyto(part, arrays[name][index])


def write(parts: Sequence[Part], tensors: Mapping[str, Tensor]) -> None:
    """Copy the parts of a flat vector into the parameters' float32 tensors, in place."""
    arrays = {name: tensor.numpy() for name, tensor in tensors.items()}
    for name, index, part in parts:
        arrays[name][index] = part
