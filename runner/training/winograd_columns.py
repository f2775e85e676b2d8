"""Implement Winograd's minimal filtering along columns only: forward and weight gradient, as batched matrix products.

The kernel's columns are filtered by F(m, r) of winograd.py; its rows are summed directly, as part of the matrix products.
An output needs r (m + r - 1) / m products for each pair of maps: 7.5 instead of 25 for F(8, 5). That is more than tiles of
F(4x4, 5x5) need (4), but the transforms are simpler and the sums of the products are r times as long. It is therefore
the faster one for few maps. Its long tiles round worse: the error grows with the number of maps.

The transformed images are stored as (n, N, strips, W, C). The r pixels that one output needs are then next to each other,
so a matrix product reads them as one row of r * C values, without a copy.

Images here are (N, H, W, C). A batch is processed in chunks of images.
"""

import torch
from torch import Tensor

from runner.training.winograd import Transforms, contiguous, transforms

SIDES = (8, 6, 4, 3, 2)  # rows of outputs of a strip; larger ones round worse
CHUNK_BYTES = 16 * 2**20  # size of a chunk's transformed images: small ones cost more for the number of matrix products


def matrices_of(r: int, height: int) -> Transforms:
    """Return the F(m, r) whose strips cover `height` rows of outputs with the fewest products."""
    return transforms(min(SIDES, key=lambda m: (m + r - 1) * -(-height // m)), r)


def images_per_chunk(matrices: Transforms, strips: int, width: int, maps: int) -> int:
    """Return how many images' transformed strips, of `maps` maps in all, fit into CHUNK_BYTES (at least 1)."""
    return max(1, CHUNK_BYTES // (4 * matrices.n * strips * width * maps))


def transform_kernels(weight: Tensor, matrices: Transforms) -> Tensor:
    """Return the kernels (K, C, r, r) as (n, r * C, K), each column transformed by G."""
    k, c, r, _ = weight.shape
    return torch.mm(matrices.kernel, weight.permute(2, 3, 1, 0).reshape(r, -1)).view(matrices.n, r * c, k)


def windows(strips: Tensor, r: int) -> Tensor:
    """Return a view of strips (n, N, down, W, C) as (n, W - r + 1, N * down, r * C): the pixels that each output needs."""
    n, images, down, width, c = strips.shape
    lines = images * down
    return strips.as_strided((n, width - r + 1, lines, r * c), (lines * width * c, c, width * c, 1))


def convolve(x: Tensor, weight: Tensor, bias: Tensor | None, padding: int, out: Tensor) -> None:
    """Write the convolution of images (N, H, W, C) with weights (K, C, r, r), stride 1, into out (N, H', W', K)."""
    from runner.training.tiles import join_columns, split_columns  # compiles when it is first used

    batch, height, width, k = out.shape
    c, r = x.shape[3], weight.shape[2]
    matrices = matrices_of(r, height)
    down, wide = -(-height // matrices.m), width + r - 1
    kernels = transform_kernels(weight, matrices)
    size = images_per_chunk(matrices, down, wide, c + k)
    for start in range(0, batch, size):
        part, target = x[start : start + size].contiguous(), out[start : start + size]
        strips = torch.empty(matrices.n, len(part), down, wide, c)
        products = torch.empty(matrices.n, len(part), down, width, k)
        split_columns(part, matrices.data, matrices.m, padding, strips)
        for line, kernel, product in zip(windows(strips, r), kernels, products.flatten(1, 2), strict=True):
            torch.bmm(line, kernel.expand(width, *kernel.shape), out=product.transpose(0, 1))
        with contiguous(target) as images:
            join_columns(products, matrices.output, bias, images)


def weight_gradient(x: Tensor, gradient: Tensor, r: int, padding: int) -> Tensor:
    """Return the weight gradient (K, C, r, r) from input (N, H, W, C) and output gradient (N, H', W', K)."""
    from runner.training.tiles import split_columns

    batch, height, width, k = gradient.shape
    c = x.shape[3]
    matrices = matrices_of(r, height)
    m, n = matrices.m, matrices.n
    down, wide = -(-height // m), width + r - 1
    total = x.new_zeros(n, k, r * c)
    size = images_per_chunk(matrices, down, wide, c + k)
    for start in range(0, batch, size):
        images, outputs = x[start : start + size].contiguous(), gradient[start : start + size].contiguous()
        strips = torch.empty(n, len(images), down, wide, c)
        spread = torch.empty(n, len(images), down, width, k)
        split_columns(images, matrices.data, m, padding, strips)
        split_columns(outputs, matrices.output.T, m, 0, spread)
        lines = windows(strips, r)
        for column in range(width):
            total.baddbmm_(spread.flatten(1, 2)[:, :, column].transpose(1, 2), lines[:, column])
    return torch.mm(matrices.kernel.T, total.view(n, -1)).view(r, k, r, c).permute(1, 3, 0, 2)
