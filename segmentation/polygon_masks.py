"""Masks of polygons and of run-length codes, pixel for pixel those of COCO's official tool.

Source: pycocotools, common/maskApi.c: rleFrPoly, rleFrString.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["decode_runs", "draw_polygon"]

STEPS = 5  # points of a boundary for each pixel; pycocotools' scale
FARTHEST = 2**20  # px, of a point from the origin
LONGEST = 2**26  # steps of a boundary, 1.5 GB
DIGIT_BITS = 5

Mask = NDArray[np.bool_]
Floats = NDArray[np.float64]


def draw_polygon(points: Sequence[float] | Floats, size: tuple[int, int]) -> Mask:
    """The pixels in a polygon, bool [H, W]; parts outside the image are left out.

    Args:
        points: x, y, x, y ... in px; pixel (0, 0) covers 0 to 1.
        size: H and W.

    Raises:
        ValueError: If there are fewer than three points, or one is not finite or far outside.

    >>> draw_polygon([0, 0, 2, 0, 2, 2, 0, 2], (3, 3)).astype(int).tolist()
    [[1, 1, 0], [1, 1, 0], [0, 0, 0]]
    """
    corners = np.asarray(points, np.float64)
    if corners.ndim != 1 or len(corners) % 2 or len(corners) < 6:
        raise ValueError("a polygon needs the x and y of three points or more")
    if not (np.abs(corners) <= FARTHEST).all():
        raise ValueError("a point of a polygon is far outside the image")
    height, width = size
    columns, rows = _trace_boundary((STEPS * corners.reshape(-1, 2) + 0.5).astype(np.int64))
    # Where the boundary passes from a column to the next, that column changes side below.
    steps = np.flatnonzero(columns[1:] != columns[:-1]) + 1
    x = np.minimum(columns[steps], columns[steps - 1])
    y = np.minimum(rows[steps], rows[steps - 1])
    x_pixels = (x + 0.5) / STEPS - 0.5
    is_center = (np.floor(x_pixels) == x_pixels) & (x_pixels >= 0) & (x_pixels <= width - 1)
    starts = np.ceil(np.clip((y[is_center] + 0.5) / STEPS - 0.5, 0, height)).astype(np.int64)
    places = x_pixels[is_center].astype(np.int64) * height + starts
    changes = np.bincount(places, minlength=height * width + 1)[: height * width]
    mask: Mask = (np.cumsum(changes) % 2 == 1).reshape(width, height).T
    return mask


def _trace_boundary(corners: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The points of the closed line through corners, [N, 2] of x and y; both ends of each side.

    Each side has a point for each step of its longer direction; sides that run backwards are
    rounded as if they ran forwards.
    """
    begin, end = corners, np.roll(corners, -1, axis=0)
    lengths = np.abs(end - begin)
    is_flat = lengths[:, 0] >= lengths[:, 1]
    long = np.where(is_flat, 0, 1)
    sides = np.arange(len(corners))
    is_backward = begin[sides, long] > end[sides, long]
    low = np.where(is_backward[:, None], end, begin)
    high = np.where(is_backward[:, None], begin, end)
    counts = lengths[sides, long]
    if counts.sum() > LONGEST:
        raise ValueError("the boundary of a polygon is too long")
    slopes = (high - low)[sides, 1 - long] / np.maximum(counts, 1)
    side = np.repeat(sides, counts + 1)
    step = np.arange(len(side)) - np.repeat(np.cumsum(counts + 1) - counts - 1, counts + 1)
    step = np.where(is_backward[side], counts[side] - step, step)
    along = low[side, long[side]] + step
    across = (low[side, 1 - long[side]] + slopes[side] * step + 0.5).astype(np.int64)
    return np.where(is_flat[side], along, across), np.where(is_flat[side], across, along)


def decode_runs(counts: str | Sequence[int], size: tuple[int, int]) -> Mask:
    """The mask of a run-length code, bool [H, W].

    Args:
        counts: Lengths of runs of 0 and 1 by turns, by columns; or pycocotools' text of them.
        size: H and W.

    Raises:
        ValueError: If runs are malformed or do not make H W pixels.

    >>> decode_runs("22", (2, 2)).astype(int).tolist()
    [[0, 1], [0, 1]]
    """
    runs = _parse_runs(counts) if isinstance(counts, str) else list(counts)
    if any(run < 0 for run in runs) or sum(runs) != size[0] * size[1]:
        raise ValueError(f"runs do not make {size[0]} x {size[1]} pixels")
    values = np.arange(len(runs)) % 2 == 1
    return np.repeat(values, runs).reshape(size[1], size[0]).T


def _parse_runs(text: str) -> list[int]:
    """Digits of 5 bits, the lowest first; from the third run on differences to the one before last.

    Raises:
        ValueError: If the text is malformed.
    """
    runs: list[int] = []
    value = shift = 0
    for character in text:
        digit = ord(character) - 48
        if not 0 <= digit < 64 or shift > 60:
            raise ValueError("malformed run-length code")
        value |= (digit & 31) << shift
        shift += DIGIT_BITS
        if digit & 32:  # more digits follow
            continue
        if digit & 16:
            value -= 1 << shift
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
        value = shift = 0
    if shift:
        raise ValueError("malformed run-length code")
    return runs
