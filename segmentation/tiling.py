"""Windows that slide over an image, and the mean of what a model says in them, seam by seam.

A pixel's logits are the weighted mean over the windows that it lies in. The weight, a raised cosine
of the pixel's place in the window, is highest in the middle, where a model sees most around it, and
above 0 everywhere: every pixel lies in a window, so no sum of weights vanishes.
"""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

__all__ = ["MOST_OVERLAP", "blend_windows", "starts", "weights"]

MOST_OVERLAP = 0.9  # beyond it the number of windows explodes

Size = tuple[int, int]


def blend_windows(
    logits: Callable[[Tensor], Tensor],
    image: Tensor,
    *,
    window: Size | None = None,
    overlap: float = 0.25,
    batch_size: int = 1,
) -> Iterator[Tensor]:
    """Logits of an image, in bands from top to bottom that together have its height.

    A band is given as soon as no other window reaches it, so that what is held at a time is the
    logits of a window's height of the image, not of all of it.

    Args:
        logits: Maps uint8 [B, 3, h, w] to float32 [B, K, h, w].
        image: uint8 [3, H, W].
        window: Height and width, px, at most; None for the whole image.
        overlap: The share of a window that its neighbor covers too, at least; up to MOST_OVERLAP.
        batch_size: At most so many windows at once.

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
    _refuse_out_of_range(window, overlap, batch_size)
    height, width = image.shape[1:]
    size = (height, width) if window is None else (min(height, window[0]), min(width, window[1]))
    tops, lefts = starts(height, size[0], overlap), starts(width, size[1], overlap)
    weight = weights(size).to(image.device)
    summed, covered = torch.zeros(0), torch.zeros(0)
    for top, following in zip(tops, [*tops[1:], height], strict=True):
        row = image[:, top : top + size[0]]
        below, below_covered = _row(logits, row, lefts, weight, batch_size)
        if top:
            below[:, : summed.shape[1]] += summed
            below_covered[: len(covered)] += covered
        done = following - top
        yield below[:, :done] / below_covered[:done]
        summed, covered = below[:, done:], below_covered[done:]


def starts(length: int, window: int, overlap: float) -> list[int]:
    """Where windows begin along a side, px: evenly spread, the first at 0, the last at the end.

    Args:
        length: Of the side, px.
        window: Of a window, px, at most `length`.
        overlap: The share of a window that the next covers too, at least.

    >>> starts(100, 40, 0.25)
    [0, 30, 60]
    """
    span = length - window
    gaps = -(-span // max(1, int(window * (1 - overlap))))
    return [i * span // max(1, gaps) for i in range(gaps + 1)]


def weights(size: Size) -> Tensor:
    """The weight of each pixel of a window, float32 [h, w], above 0.

    >>> weights((1, 4))
    tensor([[0.1464, 0.8536, 0.8536, 0.1464]])
    """
    rows, columns = (
        torch.sin(torch.pi * (torch.arange(side) + 0.5) / side) ** 2 for side in size
    )  # at pixels' centers, so that none is 0
    return torch.outer(rows, columns)


def _row(
    logits: Callable[[Tensor], Tensor],
    row: Tensor,
    lefts: list[int],
    weight: Tensor,
    batch_size: int,
) -> tuple[Tensor, Tensor]:
    """The weighted sum of logits, [K, h, W], of windows side by side, and of weights, [h, W]."""
    width = weight.shape[1]
    covered = torch.zeros(row.shape[1:], device=row.device)
    summed = torch.zeros(0)
    for first in range(0, len(lefts), batch_size):
        places = [slice(left, left + width) for left in lefts[first : first + batch_size]]
        found = logits(torch.stack([row[:, :, place] for place in places]))
        if not first:
            summed = torch.zeros(found.shape[1], *row.shape[1:], device=row.device)
        for place, one in zip(places, found, strict=True):
            summed[:, :, place] += one * weight
            covered[:, place] += weight
    return summed, covered


def _refuse_out_of_range(window: Size | None, overlap: float, batch_size: int) -> None:
    if window is not None and min(window) < 1:
        raise ValueError(f"window must be at least 1 x 1, not {window[0]} x {window[1]}")
    if not 0 <= overlap <= MOST_OVERLAP:
        raise ValueError(f"overlap must lie in [0, {MOST_OVERLAP}], not {overlap}")
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, not {batch_size}")
