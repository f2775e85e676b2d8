"""Cut images into overlapping tiles and transform them, and turn transformed tiles back into images, on a CPU.

Winograd's convolutions (winograd.py) spend most of their time here if they move data with torch's operations: each of these
reads and writes all tiles. Here numba compiles loops that keep one row of tiles in the cache. Compiling takes a few
seconds of each process that uses it, so other modules import this one when they need it.

The tiles of one row are next to each other in memory. Their transforms are therefore sums of few long vectors.

`split` and `join` transform tiles in two dimensions. `split_columns` and `join_columns` transform whole strips of an image
along its columns only (winograd_columns.py).
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import numpy as np
import torch
from numba import njit
from numpy.typing import NDArray
from torch import Tensor

compiled: Any = njit(nogil=True, fastmath={"contract"})  # contract: a product and a sum may be rounded once


@cache
def compile_loops() -> None:
    """Compile all loops, by calling them for one pixel, so that the next call is as fast as any later one."""
    one, matrix = torch.zeros(1, 1, 1, 1), torch.ones(1, 1)
    plane = one.unsqueeze(0)
    split(one, matrix, 1, 0, plane)
    join(plane, matrix, None, one)
    split_columns(one, matrix, 1, 0, plane)
    join_columns(plane, matrix, None, one)


def split(images: Tensor, matrix: Tensor, step: int, padding: int, tiles: Tensor) -> None:
    """Write M x M^T of every tile x of zero-padded images (N, H, W, C) into tiles (n * n, N, down, across, C).

    `matrix` M is (n, s): a tile has s x s pixels, and begins `step` pixels after its neighbour. Both tensors are
    contiguous.
    """
    source, weights, target = images.numpy(), in_fours(matrix), tiles.numpy()
    on_threads(
        len(images), lambda first, end: _split(source, weights, matrix.shape[1], step, padding, target, first, end)
    )


def join(tiles: Tensor, matrix: Tensor, bias: Tensor | None, images: Tensor) -> None:
    """Write M Y M^T of every tile Y of tiles (n * n, N, down, across, K), plus the bias (K,), into images (N, H, W, K).

    `matrix` M is (m, n): a tile becomes m x m pixels. Pixels beyond the image are dropped. Both tensors are contiguous.
    """
    shift = np.zeros(images.shape[3], np.float32) if bias is None else bias.detach().numpy()
    source, weights, target = tiles.numpy(), in_fours(matrix), images.numpy()
    on_threads(len(images), lambda first, end: _join(source, weights, matrix.shape[1], shift, target, first, end))


def split_columns(images: Tensor, matrix: Tensor, step: int, padding: int, strips: Tensor) -> None:
    """Write M x of every strip x of zero-padded images (N, H, W, C) into strips (n, N, down, W + 2 padding, C).

    `matrix` M is (n, s): a strip has s rows, and begins `step` rows below the one above it. Both tensors are contiguous.
    """
    source, weights, target = images.numpy(), in_fours(matrix), strips.numpy()
    on_threads(
        len(images),
        lambda first, end: _split_columns(source, weights, matrix.shape[1], step, padding, target, first, end),
    )


def join_columns(strips: Tensor, matrix: Tensor, bias: Tensor | None, images: Tensor) -> None:
    """Write M Y of every strip Y of strips (n, N, down, W, K), plus the bias (K,), into images (N, H, W, K).

    `matrix` M is (m, n): a strip becomes m rows. Rows below the image are dropped. Both tensors are contiguous.
    """
    shift = np.zeros(images.shape[3], np.float32) if bias is None else bias.detach().numpy()
    source, weights, target = strips.numpy(), in_fours(matrix), images.numpy()
    on_threads(
        len(images), lambda first, end: _join_columns(source, weights, matrix.shape[1], shift, target, first, end)
    )


def in_fours(matrix: Tensor) -> NDArray[np.float32]:
    """Return a matrix with columns of zeros, so that their number is a multiple of four (see `_combine`)."""
    rows, columns = matrix.shape
    whole = np.zeros((rows, -(-columns // 4) * 4), np.float32)
    whole[:, :columns] = matrix.numpy()
    return whole


def on_threads(images: int, work: Callable[[int, int], None]) -> None:
    """Call work(first, end) for parts of the images, on as many threads as torch uses; `work` releases the GIL."""
    threads = min(torch.get_num_threads(), images)
    bounds = [images * part // threads for part in range(threads + 1)]
    if threads == 1:
        work(0, images)
    else:
        list(_pool(threads).map(work, bounds[:-1], bounds[1:]))


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads)


@compiled
def _combine(weights: Any, source: Any, starts: Any, out: Any) -> None:
    """Write the sum over k of weights[k] * source[starts[k] : starts[k] + len(out)] into out, four terms at a time."""
    length = len(out)
    for k in range(0, len(weights), 4):
        w0, w1, w2, w3 = weights[k], weights[k + 1], weights[k + 2], weights[k + 3]
        x0 = source[starts[k] : starts[k] + length]
        x1 = source[starts[k + 1] : starts[k + 1] + length]
        x2 = source[starts[k + 2] : starts[k + 2] + length]
        x3 = source[starts[k + 3] : starts[k + 3] + length]
        if k == 0:
            for c in range(length):
                out[c] = w0 * x0[c] + w1 * x1[c] + w2 * x2[c] + w3 * x3[c]
        else:
            for c in range(length):
                out[c] += w0 * x0[c] + w1 * x1[c] + w2 * x2[c] + w3 * x3[c]


@compiled
def _load(images: Any, image: int, top: int, padding: int, strip: Any) -> None:
    """Copy rows of a zero-padded image, beginning at `top`, into strip (s, step, wide, C).

    Column x is stored at (x % step, x // step), so that column k of all tiles of a row is one stretch of memory.
    """
    _, height, width, maps = images.shape
    s, step, wide, _ = strip.shape
    for k in range(s):
        y = top + k - padding
        if 0 <= y < height:
            for x in range(min(width, step * wide - padding)):
                p, q = (x + padding) % step, (x + padding) // step
                for c in range(maps):
                    strip[k, p, q, c] = images[image, y, x, c]
        else:
            strip[k] = 0


@compiled
def _split(images: Any, weights: Any, s: int, step: int, padding: int, tiles: Any, first: int, end: int) -> None:
    """Split the images from `first` to `end`."""
    maps = images.shape[3]
    n, terms = weights.shape
    down, across = tiles.shape[2], tiles.shape[3]
    wide = across + (s - 1) // step
    strip = np.zeros((s, step, wide, maps), np.float32)  # the pixels of a row of tiles
    columns = np.empty((n, step * wide * maps), np.float32)  # the same, transformed along its columns
    below, beside = np.zeros(terms, np.int64), np.zeros(terms, np.int64)  # where row and column k of the tiles begin
    for k in range(s):
        below[k] = k * step * wide * maps
        beside[k] = ((k % step) * wide + k // step) * maps
    for image in range(first, end):
        for i in range(down):
            _load(images, image, i * step, padding, strip)
            for a in range(n):
                _combine(weights[a], strip.reshape(-1), below, columns[a])
            for a in range(n):
                for b in range(n):
                    _combine(weights[b], columns[a], beside, tiles[a * n + b, image, i].reshape(-1))


@compiled
def _join(tiles: Any, weights: Any, n: int, bias: Any, images: Any, first: int, end: int) -> None:
    """Join the images from `first` to `end`."""
    batch, height, width, maps = images.shape
    m, terms = weights.shape
    down, across = tiles.shape[2], tiles.shape[3]
    length = across * maps
    columns = np.empty((m, n * length), np.float32)  # a row of tiles, transformed along its columns
    pixels = np.empty((across, maps), np.float32)  # one pixel of each tile of a row
    below, beside = np.zeros(terms, np.int64), np.zeros(terms, np.int64)
    for k in range(n):
        beside[k] = k * length
    for image in range(first, end):
        for i in range(down):
            for b in range(n):
                for k in range(n):
                    below[k] = (((k * n + b) * batch + image) * down + i) * length
                for a in range(m):
                    _combine(weights[a], tiles.reshape(-1), below, columns[a, b * length : (b + 1) * length])
            for a in range(min(m, height - i * m)):
                for b in range(m):
                    _combine(weights[b], columns[a], beside, pixels.reshape(-1))
                    for j in range((width - b + m - 1) // m):
                        for c in range(maps):
                            images[image, i * m + a, j * m + b, c] = pixels[j, c] + bias[c]


@compiled
def _split_columns(
    images: Any, weights: Any, s: int, step: int, padding: int, strips: Any, first: int, end: int
) -> None:
    """Split the images from `first` to `end`."""
    n, terms = weights.shape
    down, wide, maps = strips.shape[2:]
    strip = np.zeros((s, 1, wide, maps), np.float32)
    below = np.zeros(terms, np.int64)
    for k in range(s):
        below[k] = k * wide * maps
    for image in range(first, end):
        for i in range(down):
            _load(images, image, i * step, padding, strip)
            for a in range(n):
                _combine(weights[a], strip.reshape(-1), below, strips[a, image, i].reshape(-1))


@compiled
def _join_columns(strips: Any, weights: Any, n: int, bias: Any, images: Any, first: int, end: int) -> None:
    """Join the images from `first` to `end`."""
    batch, height, width, maps = images.shape
    m, terms = weights.shape
    down = strips.shape[2]
    below = np.zeros(terms, np.int64)
    for image in range(first, end):
        for i in range(down):
            for k in range(n):
                below[k] = ((k * batch + image) * down + i) * width * maps
            for a in range(min(m, height - i * m)):
                row = images[image, i * m + a]
                _combine(weights[a], strips.reshape(-1), below, row.reshape(-1))
                for x in range(width):
                    for c in range(maps):
                        row[x, c] += bias[c]
