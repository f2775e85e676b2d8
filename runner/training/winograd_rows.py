"""Implement Winograd's minimal filtering along rows only: forward and weight gradient, as batched matrix products.

The kernel's rows are filtered by F(m, r) of winograd.py; its columns are summed directly, as part of the matrix
products. An output needs r (m + r - 1) / m products for each pair of maps: 7.5 instead of 25 for F(8, 5). That is more than
tiles of F(4x4, 5x5) need (4), but the transforms move less than half of the data and the sums of the products are r times as
long. It is therefore the faster one for few maps. Its long tiles round worse: the error grows with the number of maps.

The transformed images are stored as (n, tiles * N, rows, C). The r rows that one output needs are then next to each
other, so a matrix product reads them as one row of r * C values, without a copy.

Images here are (N, H, W, C). A batch is processed in chunks of images.
"""

import torch
from torch import Tensor

from runner.training.winograd import Transforms, transforms, write

SIDES = (8, 6, 4, 3, 2)  # outputs of a tile; larger ones round worse
CHUNK_BYTES = 6 * 2**20  # size of a chunk's transformed images


def matrices_of(r: int, width: int) -> Transforms:
    """Return the F(m, r) whose tiles cover a row of `width` outputs with the fewest products."""
    return transforms(min(SIDES, key=lambda m: (m + r - 1) * -(-width // m)), r)


def images_per_chunk(matrices: Transforms, tiles: int, rows: int, maps: int) -> int:
    """Return how many images' transformed rows, of `maps` maps in all, fit into CHUNK_BYTES (at least 1)."""
    return max(1, CHUNK_BYTES // (4 * matrices.n * tiles * rows * maps))


def transform_kernels(weight: Tensor, matrices: Transforms) -> Tensor:
    """Return the kernels (K, C, r, r) as (n, r * C, K), each row transformed by G."""
    k, c, r, _ = weight.shape
    return torch.mm(matrices.kernel, weight.permute(3, 2, 1, 0).reshape(r, -1)).view(matrices.n, r * c, k)


def transform_data(x: Tensor, padding: int, matrices: Transforms, tiles: int, rows: int) -> Tensor:
    """Return the tiles of zero-padded images (N, H, W, C), transformed along their rows: (n, tiles * N, rows, C)."""
    batch, height, width, c = x.shape
    m, n = matrices.m, matrices.n
    padded = x.new_zeros(tiles * m + n - m, batch, rows, c)
    padded[padding : padding + width, :, padding : padding + height] = x.permute(2, 0, 1, 3)
    column = batch * rows * c
    data = x.new_empty(n, tiles, column)
    strips = padded.as_strided((tiles, n, column), (m * column, column, 1))
    torch.bmm(matrices.data.expand(tiles, n, n), strips, out=data.transpose(0, 1))
    return data.view(n, tiles * batch, rows, c)


def windows(data: Tensor, height: int, r: int) -> Tensor:
    """Return a view of transformed images (n, L, rows, C) as (n, height, L, r * C): the rows that each output row needs."""
    n, lines, rows, c = data.shape
    return data.as_strided((n, height, lines, r * c), (lines * rows * c, c, rows * c, 1))


def convolve(x: Tensor, weight: Tensor, bias: Tensor | None, padding: int, out: Tensor) -> None:
    """Write the convolution of images (N, H, W, C) with weights (K, C, r, r), stride 1, into out (N, H', W', K)."""
    batch, height, width, k = out.shape
    r = weight.shape[2]
    matrices = matrices_of(r, width)
    m, n = matrices.m, matrices.n
    tiles = -(-width // m)
    kernels = transform_kernels(weight, matrices)
    size = images_per_chunk(matrices, tiles, height + r - 1, x.shape[3] + k)
    for start in range(0, batch, size):
        part = slice(start, start + size)
        target = out[part]
        lines = windows(transform_data(x[part], padding, matrices, tiles, height + r - 1), height, r)
        products = x.new_empty(n, height, lines.shape[2], k)
        for line, kernel, product in zip(lines, kernels, products, strict=True):
            torch.bmm(line, kernel.expand(height, *kernel.shape), out=product)
        images = torch.mm(matrices.output, products.view(n, -1)).view(m, height, tiles, len(target), k)
        images = images.permute(3, 1, 2, 0, 4)
        if tiles * m == width:
            target = target.view(len(target), height, tiles, m, k)
        else:
            images = images.reshape(len(target), height, tiles * m, k)[:, :, :width]
        write(images, bias, target)


def weight_gradient(x: Tensor, gradient: Tensor, r: int, padding: int) -> Tensor:
    """Return the weight gradient (K, C, r, r) from input (N, H, W, C) and output gradient (N, H', W', K)."""
    batch, height, width, k = gradient.shape
    c = x.shape[3]
    matrices = matrices_of(r, width)
    m, n, a = matrices.m, matrices.n, matrices.output.T.contiguous()
    tiles = -(-width // m)
    total = x.new_zeros(n, k, r * c)
    size = images_per_chunk(matrices, tiles, height + r - 1, c + k)
    for start in range(0, batch, size):
        part = gradient[start : start + size]
        images = len(part)
        if tiles * m > width:
            padded = part.new_zeros(images, height, tiles * m, k)
            padded[:, :, :width] = part
            part = padded
        columns = part.reshape(images, height, tiles, m, k).permute(3, 1, 2, 0, 4).reshape(m, -1)
        spread = torch.mm(a, columns).view(n, height, -1, k)
        data = transform_data(x[start : start + size], padding, matrices, tiles, height + r - 1)
        lines = windows(data, height, r)
        for row in range(height):
            total.baddbmm_(spread[:, row].transpose(1, 2), lines[:, row])
    return torch.mm(matrices.kernel.T, total.view(n, -1)).view(r, k, r, c).permute(1, 3, 2, 0)
