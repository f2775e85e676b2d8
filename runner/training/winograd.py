"""Implement Winograd's minimal filtering, forward and both gradients, as batched matrix products.

A tile of m x m outputs of an r x r kernel needs (m + r - 1)^2 products for each pair of maps; the direct sum needs m^2
r^2. F(4x4, 3x3) needs a quarter, F(4x4, 5x5) less than a sixth (Lavin & Gray, arXiv 1509.09308). The transforms are
matrices. With n = m + r - 1, an input tile becomes B^T x B and a kernel G w G^T. The products Y of the two, summed over
the maps, give the outputs A^T Y A. The products are n^2 independent matrix products.

A batch is processed in chunks of images, so that the intermediate results stay in the cache. For the backward pass only
the layer's input and weights are kept, as in torch's own convolution. Images here are (N, H, W, C).
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from torch import Tensor

# Evaluation points, besides infinity. Small numbers keep rounding errors small.
POINTS = (0.0, 1.0, -1.0, 2.0, -2.0, 0.5, -0.5)
# For more than seven points: of the sets with numerators and denominators up to 4, the one with the smallest errors.
WIDE_POINTS = (0.0, 1 / 3, -1 / 3, 0.75, -0.75, 1.5, -1.5, 3.0, -3.0, 1.0, -1.0)
TILES = {3: (2, 3, 4), 5: (2, 3, 4)}  # sides of a tile's outputs, by kernel; larger tiles round worse
CHUNK_BYTES = 8 * 2**20  # size of a chunk's transformed tiles


@dataclass(frozen=True)
class Transforms:
    """The matrices of F(m, r), float32: `data` B^T (n, n), `kernel` G (n, r), `output` A^T (m, n)."""

    m: int
    r: int
    data: Tensor
    kernel: Tensor
    output: Tensor

    @property
    def n(self) -> int:
        """The side of a transformed tile."""
        return self.m + self.r - 1


@cache
def transforms(m: int, r: int) -> Transforms:
    """Return the matrices of F(m, r) from m + r - 2 points and infinity.

    Correlation is the transpose of polynomial multiplication: evaluate both factors, multiply, interpolate. The rows of
    B^T are scaled to a largest entry of 1, which keeps the transformed data near the size of the data. G takes the
    inverse factors.
    """
    n = m + r - 1
    points = np.array((POINTS if n - 1 <= len(POINTS) else WIDE_POINTS)[: n - 1])

    def evaluate(coefficients: int) -> np.ndarray:
        at_infinity = np.eye(coefficients)[-1:]
        return np.vstack([np.vander(points, coefficients, increasing=True), at_infinity])

    data = np.linalg.inv(evaluate(n)).T
    scale = np.abs(data).max(axis=1, keepdims=True)
    matrices = (data / scale, evaluate(r) * scale, evaluate(m).T)
    return Transforms(m, r, *(torch.tensor(matrix, dtype=torch.float32) for matrix in matrices))


def tile_side(r: int, height: int, width: int) -> int:
    """Return the m whose tiles cover height x width outputs with the fewest products; of equal ones, the largest."""
    return min(sorted(TILES[r], reverse=True), key=lambda m: (m + r - 1) ** 2 * -(-height // m) * -(-width // m))


@dataclass(frozen=True)
class Tiling:
    """The tiles of F(m, r) that cover outputs of height x width, for a convolution of stride 1."""

    matrices: Transforms
    height: int
    width: int

    @property
    def down(self) -> int:
        """Tiles in a column."""
        return -(-self.height // self.matrices.m)

    @property
    def across(self) -> int:
        """Tiles in a row."""
        return -(-self.width // self.matrices.m)

    def images_per_chunk(self, maps: int) -> int:
        """Return how many images' transformed tiles, of `maps` maps in all, fit into CHUNK_BYTES (at least 1)."""
        return max(1, CHUNK_BYTES // (4 * self.matrices.n**2 * self.down * self.across * maps))

    def empty(self, images: int, maps: int) -> Tensor:
        """Return memory for the transformed tiles of images: (n * n, images, down, across, maps)."""
        return torch.empty(self.matrices.n**2, images, self.down, self.across, maps)


def tiling_of(r: int, height: int, width: int) -> Tiling:
    """Return the cheapest tiling of height x width outputs of an r x r kernel."""
    return Tiling(transforms(tile_side(r, height, width), r), height, width)


def transform_kernels(weight: Tensor, matrices: Transforms) -> Tensor:
    """Return G w G^T of weights (K, C, r, r) as (n * n, C, K)."""
    k, c, r, _ = weight.shape
    g = matrices.kernel
    flat = weight.permute(2, 3, 1, 0).reshape(r, -1)
    rows = (g @ flat).view(matrices.n, r, c * k)
    return torch.matmul(g, rows).view(-1, c, k)


@contextlib.contextmanager
def contiguous(out: Tensor) -> Iterator[Tensor]:
    """Yield memory to write a tensor's values into: the tensor itself if it is contiguous, else a copy."""
    memory = out if out.is_contiguous() else torch.empty_like(out, memory_format=torch.contiguous_format)
    yield memory
    if memory is not out:
        out.copy_(memory)


def convolve(x: Tensor, weight: Tensor, bias: Tensor | None, padding: int, out: Tensor) -> None:
    """Write the convolution of images (N, H, W, C) with weights (K, C, r, r), stride 1, into out (N, H', W', K)."""
    from runner.training.tiles import join, split  # compiles when it is first used

    batch, height, width, k = out.shape
    c = x.shape[3]
    tiling = tiling_of(weight.shape[2], height, width)
    kernels = transform_kernels(weight, tiling.matrices)
    size = tiling.images_per_chunk(c + k)
    for start in range(0, batch, size):
        part, target = x[start : start + size].contiguous(), out[start : start + size]
        data, products = tiling.empty(len(part), c), tiling.empty(len(part), k)
        split(part, tiling.matrices.data, tiling.matrices.m, padding, data)
        torch.bmm(data.flatten(1, 3), kernels, out=products.flatten(1, 3))
        with contiguous(target) as images:
            join(products, tiling.matrices.output, bias, images)


def weight_gradient(x: Tensor, gradient: Tensor, r: int, padding: int) -> Tensor:
    """Return the weight gradient (K, C, r, r) from input (N, H, W, C) and output gradient (N, H', W', K)."""
    from runner.training.tiles import split

    batch, height, width, k = gradient.shape
    c = x.shape[3]
    tiling = tiling_of(r, height, width)
    m, n, g = tiling.matrices.m, tiling.matrices.n, tiling.matrices.kernel
    size = tiling.images_per_chunk(c + k)
    total = x.new_zeros(n * n, k, c)
    for start in range(0, batch, size):
        images, outputs = x[start : start + size].contiguous(), gradient[start : start + size].contiguous()
        data, spread = tiling.empty(len(images), c), tiling.empty(len(images), k)
        split(images, tiling.matrices.data, m, padding, data)
        split(outputs, tiling.matrices.output.T, m, 0, spread)
        total.baddbmm_(spread.flatten(1, 3).transpose(1, 2), data.flatten(1, 3))
    kernels = torch.matmul(g.T, torch.mm(g.T, total.view(n, -1)).view(r, n, -1))
    return kernels.view(r, r, k, c).permute(2, 3, 0, 1)
