"""Implement Winograd's minimal filtering, forward and both gradients, as batched matrix products.

A tile of m x m outputs of an r x r kernel needs (m + r - 1)^2 products for each pair of maps; the direct sum needs m^2
r^2. F(4x4, 3x3) needs a quarter, F(4x4, 5x5) less than a sixth (Lavin & Gray, arXiv 1509.09308). The transforms are
matrices. With n = m + r - 1, an input tile becomes B^T x B and a kernel G w G^T. The products Y of the two, summed over
the maps, give the outputs A^T Y A. The products are n^2 independent matrix products.

A batch is processed in chunks of images, so that the intermediate results stay in the cache. For the backward pass only
the layer's input and weights are kept, as in torch's own convolution. Images here are (N, H, W, C).
"""

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
CHUNK_BYTES = 12 * 2**20  # size of a chunk's transformed tiles


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


def transform_data(x: Tensor, padding: int, tiling: Tiling) -> Tensor:
    """Return B^T x B of all tiles of zero-padded images (N, H, W, C) as (n * n, tiles * N, C).

    The padded copy has the pixel's images and maps next to each other, so that rows and columns of tiles are views.
    """
    batch, height, width, c = x.shape
    m, n, bt = tiling.matrices.m, tiling.matrices.n, tiling.matrices.data
    down, across = tiling.down, tiling.across
    rows, columns, pixel = down * m + n - m, across * m + n - m, batch * c
    padded = x.new_zeros(rows, columns, batch, c)
    padded[padding : padding + height, padding : padding + width] = x.permute(1, 2, 0, 3)
    row = columns * pixel
    strips = torch.bmm(bt.expand(down, n, n), padded.as_strided((down, n, row), (m * row, row, 1)))
    strips = strips.view(down, n, columns, pixel)
    tiles = x.new_empty(n, n, down, across, pixel)
    for i in range(down):
        for j in range(across):
            torch.bmm(bt.expand(n, n, n), strips[i, :, j * m : j * m + n], out=tiles[:, :, i, j])
    return tiles.view(n * n, -1, c)


def transform_output(products: Tensor, batch: int, tiling: Tiling) -> Tensor:
    """Return A^T Y A of products (n * n, tiles * N, K) as a view (N, down, m, across, m, K) of the images."""
    m, n, at = tiling.matrices.m, tiling.matrices.n, tiling.matrices.output
    k = products.shape[2]
    rows = torch.mm(at, products.view(n, -1)).view(m, n, -1)
    images = torch.matmul(at, rows).view(m, m, tiling.down, tiling.across, batch, k)
    return images.permute(4, 2, 0, 3, 1, 5)


def write(images: Tensor, bias: Tensor | None, out: Tensor) -> None:
    """Write images (..., K) plus the bias (K,), if there is one, into out."""
    if bias is None:
        out.copy_(images)
    else:
        torch.add(images, bias, out=out)


def convolve(x: Tensor, weight: Tensor, bias: Tensor | None, padding: int, out: Tensor) -> None:
    """Write the convolution of images (N, H, W, C) with weights (K, C, r, r), stride 1, into out (N, H', W', K)."""
    batch, height, width, k = out.shape
    tiling = tiling_of(weight.shape[2], height, width)
    m, down, across = tiling.matrices.m, tiling.down, tiling.across
    kernels = transform_kernels(weight, tiling.matrices)
    whole = (height, width) == (down * m, across * m)
    size = tiling.images_per_chunk(x.shape[3] + k)
    for start in range(0, batch, size):
        part = slice(start, start + size)
        target = out[part]
        products = torch.bmm(transform_data(x[part], padding, tiling), kernels)
        images = transform_output(products, len(target), tiling)
        if not whole:
            images = images.reshape(len(target), down * m, across * m, k)[:, :height, :width]
        else:
            target = target.view(len(target), down, m, across, m, k)
        write(images, bias, target)


def weight_gradient(x: Tensor, gradient: Tensor, r: int, padding: int) -> Tensor:
    """Return the weight gradient (K, C, r, r) from input (N, H, W, C) and output gradient (N, H', W', K)."""
    batch, height, width, k = gradient.shape
    c = x.shape[3]
    tiling = tiling_of(r, height, width)
    m, n, a, g = tiling.matrices.m, tiling.matrices.n, tiling.matrices.output.T.contiguous(), tiling.matrices.kernel
    down, across = tiling.down, tiling.across
    size = tiling.images_per_chunk(c + k)
    total = x.new_zeros(n * n, k, c)
    for start in range(0, batch, size):
        part = gradient[start : start + size]
        images = len(part)
        if (height, width) != (down * m, across * m):
            padded = part.new_zeros(images, down * m, across * m, k)
            padded[:, :height, :width] = part
            part = padded
        tiles = part.reshape(images, down, m, across, m, k).permute(2, 4, 1, 3, 0, 5).reshape(m, -1)
        spread = torch.matmul(a, torch.mm(a, tiles).view(n, m, -1)).view(n * n, -1, k)
        total.baddbmm_(spread.transpose(1, 2), transform_data(x[start : start + size], padding, tiling))
    kernels = torch.matmul(g.T, torch.mm(g.T, total.view(n, -1)).view(r, n, -1))
    return kernels.view(r, r, k, c).permute(2, 3, 0, 1)
