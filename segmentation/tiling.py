"""Blends the logits of overlapping windows, so that large images need little memory.

The logits of a pixel are the weighted mean over the windows that contain it. The weight is a raised
cosine of the pixel's position in the window: highest in the center, where the model sees most of
the surroundings, and positive everywhere, so that sums of weights are never 0. It is a product of a
weight for the row and one for the column, and so is the sum over windows; both are divided by it
beforehand.
"""

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = [
    "DEFAULT_OVERLAP",
    "DEFAULT_WINDOW",
    "MOST_OVERLAP",
    "Block",
    "Size",
    "blend_windows",
    "count_windows",
    "window_side",
    "window_starts",
    "window_weights",
]

MOST_OVERLAP = 0.9  # the number of windows grows as 1 / (1 - overlap)^2
DEFAULT_WINDOW = 768  # px a side
DEFAULT_OVERLAP = 0.25
SIDE_MULTIPLE = 32  # px; sides of shrunk windows, so that encoders halve them without a remainder

Size = tuple[int, int]


class Block(NamedTuple):
    """The logits of a rectangle of an image.

    Attributes:
        rows: The rows of the image.
        columns: The columns of the image.
        logits: float32 [K, h, w].
    """

    rows: slice
    columns: slice
    logits: Tensor


def blend_windows(
    logits: Callable[[Tensor], Tensor],
    image: Tensor | NDArray[np.uint8],
    *,
    window: Size | None = None,
    overlap: float = DEFAULT_OVERLAP,
    batch_size: int = 1,
) -> Iterator[Block]:
    """Yields the logits of an image, one block for each window.

    A block is complete once all windows that reach it are done. What is kept until then are the
    logits of a window, and of the rows that a row of windows has in common with the next.

    Args:
        logits: Maps uint8 [B, 3, h, w] to float32 [B, K, h, w].
        image: uint8 [3, H, W], a tensor or an array of any strides; of an array only windows are
            copied.
        window: Maximum height and width of a window, px; None for the whole image.
        overlap: Minimum share of a window that its neighbor covers, too; up to MOST_OVERLAP.
        batch_size: Maximum number of windows that are passed to `logits` at once.

    Yields:
        Blocks from left to right and from top to bottom, which cover each pixel once.

    Raises:
        ValueError: If the window, overlap or batch size is out of range.

    >>> image = torch.arange(300, dtype=torch.uint8).reshape(3, 10, 10)
    >>> blocks = list(blend_windows(lambda windows: windows.float(), image, window=(4, 10)))
    >>> [(block.rows.start, block.rows.stop) for block in blocks]
    [(0, 3), (3, 6), (6, 10)]
    >>> bool(torch.allclose(torch.cat([block.logits for block in blocks], 1), image.float()))
    True
    """
    _validate_window(window, overlap, batch_size)
    height, width = image.shape[1:]
    tall, wide = window or (height, width)
    rows, columns = _plan_side(height, tall, overlap), _plan_side(width, wide, overlap)
    below: Tensor | None = None  # the sums of the rows that the next windows reach, too
    for y, top in enumerate(rows.starts[:-1]):
        step = rows.starts[y + 1] - top
        beside = torch.zeros(0)  # likewise of the columns
        for x, sums in enumerate(
            _run_row(logits, image, rows, columns, y=y, batch_size=batch_size)
        ):
            left, right = columns.starts[x : x + 2]
            if x:
                sums[:, :, : beside.shape[2]] += beside
            beside, sums = sums[:, :, right - left :], sums[:, :, : right - left]
            if y and below is not None:
                reach = rows.side - (top - rows.starts[y - 1])
                sums[:, :reach] += below[:, :reach, left:right]
            if rows.side > step:
                if below is None:
                    below = sums.new_zeros(len(sums), rows.longest_overlap, columns.starts[-1])
                below[:, : rows.side - step, left:right] = sums[:, step:]
            yield Block(slice(top, top + step), slice(left, right), sums[:, :step])


def count_windows(size: Size, window: Size | None = None, overlap: float = DEFAULT_OVERLAP) -> int:
    """The number of windows of an image of `size`, height and width, px.

    >>> count_windows((1000, 3000), (1024, 1024))
    4
    """
    counts = [
        len(window_starts(length, min(length, side), overlap))
        for length, side in zip(size, window or size, strict=True)
    ]
    return counts[0] * counts[1]


def window_side(length: int, window: int, overlap: float) -> int:
    """The smallest side, px, of windows that cover a side of an image in as few of them.

    Less is computed twice than with windows of full size, which would overlap more than is asked.

    Args:
        length: Length of the side, px.
        window: Maximum length of a window, px.
        overlap: Minimum share of a window that the next one covers, too.

    >>> window_side(4000, 1024, 0.25), window_side(1200, 1024, 0.25)
    (1024, 704)
    """
    window = min(window, length)
    count = len(window_starts(length, window, overlap))
    side = -(-length // (1 + (count - 1) * (1 - overlap)))
    side = min(window, int(-(-side // SIDE_MULTIPLE)) * SIDE_MULTIPLE)
    return side if len(window_starts(length, side, overlap)) == count else window


def window_starts(length: int, window: int, overlap: float) -> list[int]:
    """The first pixel of each window along a side of an image, evenly spaced from 0 to the end.

    Args:
        length: Length of the side, px.
        window: Length of a window, px, at most `length`.
        overlap: Minimum share of a window that the next one covers, too.

    >>> window_starts(100, 40, 0.25)
    [0, 30, 60]
    """
    span = length - window
    gaps = -(-span // max(1, int(window * (1 - overlap))))
    return [i * span // max(1, gaps) for i in range(gaps + 1)]


def window_weights(side: int) -> Tensor:
    """The weight of each row, or column, of a window, float64 [side], above 0.

    >>> [round(weight, 4) for weight in window_weights(4).tolist()]
    [0.1464, 0.8536, 0.8536, 0.1464]
    """
    places = (torch.arange(side, dtype=torch.float64) + 0.5) / side  # the centers: no weight is 0
    return torch.sin(torch.pi * places) ** 2


class _Side(NamedTuple):
    """The windows along a side of an image.

    Attributes:
        starts: The first pixel of each window, and the length of the side.
        side: The length of a window, px.
        weights: float32 [windows, side]; those of a pixel add up to 1.
    """

    starts: list[int]
    side: int
    weights: Tensor

    @property
    def longest_overlap(self) -> int:
        return self.side - min(later - start for start, later in pairwise(self.starts))


def _plan_side(length: int, window: int, overlap: float) -> _Side:
    side = window_side(length, window, overlap)
    starts = window_starts(length, side, overlap)
    weights, total = window_weights(side), torch.zeros(length, dtype=torch.float64)
    for start in starts:
        total[start : start + side] += weights
    shares = torch.stack([weights / total[start : start + side] for start in starts])
    return _Side([*starts, length], side, shares.float())


def _run_row(
    logits: Callable[[Tensor], Tensor],
    image: Tensor | NDArray[np.uint8],
    rows: _Side,
    columns: _Side,
    *,
    y: int,
    batch_size: int,
) -> Iterator[Tensor]:
    """Yields the weighted logits of the windows of row `y`, float32 [K, h, w] each."""
    top, lefts = rows.starts[y], columns.starts[:-1]
    for first in range(0, len(lefts), batch_size):
        batch = logits(
            torch.stack(
                [
                    _cut(image, slice(top, top + rows.side), slice(left, left + columns.side))
                    for left in lefts[first : first + batch_size]
                ]
            )
        )
        for x, window_logits in enumerate(batch, first):
            weight = torch.outer(rows.weights[y], columns.weights[x])
            yield window_logits * weight.to(window_logits.device)


def _cut(image: Tensor | NDArray[np.uint8], rows: slice, columns: slice) -> Tensor:
    part = image[:, rows, columns]
    return part if isinstance(part, Tensor) else torch.from_numpy(np.ascontiguousarray(part))


def _validate_window(window: Size | None, overlap: float, batch_size: int) -> None:
    if window is not None and min(window) < 1:
        raise ValueError(f"window must be at least 1 x 1, not {window[0]} x {window[1]}")
    if not 0 <= overlap <= MOST_OVERLAP:
        raise ValueError(f"overlap must lie in [0, {MOST_OVERLAP}], not {overlap}")
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, not {batch_size}")
