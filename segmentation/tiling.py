"""Blends the logits of overlapping windows, so that large images need little memory.

The logits of a pixel are the weighted mean over the windows that contain it. The weight is a raised
cosine of the pixel's position in the window: highest in the center, where the model sees most of
the surroundings, and positive everywhere, so that sums of weights are never 0.
"""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

__all__ = ["MOST_OVERLAP", "blend_windows", "window_starts", "window_weights"]

MOST_OVERLAP = 0.9  # the number of windows grows as 1 / (1 - overlap)^2

Size = tuple[int, int]


def blend_windows(
    logits: Callable[[Tensor], Tensor],
    image: Tensor,
    *,
    window: Size | None = None,
    overlap: float = 0.25,
    batch_size: int = 1,
) -> Iterator[Tensor]:
    """Yields the logits of an image in bands of rows, from top to bottom.

    A band is complete once all windows that reach it are done, so that the logits in memory are
    those of one row of windows, not of the whole image.

    Args:
        logits: Maps uint8 [B, 3, h, w] to float32 [B, K, h, w].
        image: uint8 [3, H, W].
        window: Maximum height and width of a window, px; None for the whole image.
        overlap: Minimum share of a window that its neighbor covers, too; up to MOST_OVERLAP.
        batch_size: Maximum number of windows that are passed to `logits` at once.

    Yields:
        float32 [K, rows, W].

    Raises:
        ValueError: If the window, overlap or batch size is out of range.

    >>> image = torch.arange(300, dtype=torch.uint8).reshape(3, 10, 10)
    >>> bands = list(blend_windows(lambda windows: windows.float(), image, window=(4, 7)))
    >>> [band.shape[1] for band in bands]
    [3, 3, 4]
    >>> bool(torch.allclose(torch.cat(bands, dim=1), image.float()))
    True
    """
    _validate_window(window, overlap, batch_size)
    height, width = image.shape[1:]
    size = (height, width) if window is None else (min(height, window[0]), min(width, window[1]))
    tops = window_starts(height, size[0], overlap)
    lefts = window_starts(width, size[1], overlap)
    weight = window_weights(size).to(image.device)
    # The sums of the rows that the next windows reach, too.
    pending, pending_weights = torch.zeros(0), torch.zeros(0)
    for top, next_top in zip(tops, [*tops[1:], height], strict=True):
        rows = image[:, top : top + size[0]]
        sums, weights = _sum_row(logits, rows, lefts, weight, batch_size)
        if top:
            sums[:, : pending.shape[1]] += pending
            weights[: len(pending_weights)] += pending_weights
        complete = next_top - top
        yield sums[:, :complete] / weights[:complete]
        pending, pending_weights = sums[:, complete:], weights[complete:]


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


def window_weights(size: Size) -> Tensor:
    """The weight of each pixel of a window, float32 [h, w], above 0.

    >>> window_weights((1, 4))
    tensor([[0.1464, 0.8536, 0.8536, 0.1464]])
    """
    rows, columns = (
        torch.sin(torch.pi * (torch.arange(side) + 0.5) / side) ** 2 for side in size
    )  # at the centers of pixels, so that no weight is 0
    return torch.outer(rows, columns)


def _sum_row(
    logits: Callable[[Tensor], Tensor],
    rows: Tensor,
    lefts: list[int],
    weight: Tensor,
    batch_size: int,
) -> tuple[Tensor, Tensor]:
    """Sums over windows side by side: weighted logits, [K, h, W], and weights, [h, W]."""
    width = weight.shape[1]
    weights = torch.zeros(rows.shape[1:], device=rows.device)
    sums = torch.zeros(0)
    for first in range(0, len(lefts), batch_size):
        places = [slice(left, left + width) for left in lefts[first : first + batch_size]]
        batch = logits(torch.stack([rows[:, :, place] for place in places]))
        if not first:
            sums = torch.zeros(batch.shape[1], *rows.shape[1:], device=rows.device)
        for place, window_logits in zip(places, batch, strict=True):
            sums[:, :, place] += window_logits * weight
            weights[:, place] += weight
    return sums, weights


def _validate_window(window: Size | None, overlap: float, batch_size: int) -> None:
    if window is not None and min(window) < 1:
        raise ValueError(f"window must be at least 1 x 1, not {window[0]} x {window[1]}")
    if not 0 <= overlap <= MOST_OVERLAP:
        raise ValueError(f"overlap must lie in [0, {MOST_OVERLAP}], not {overlap}")
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, not {batch_size}")
