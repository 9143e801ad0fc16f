"""Scales labels so that each class stays above the pixels of the image that show it.

A label takes the class at the center of its pixel, by the same centers as bilinear interpolation of
the image (`align_corners=False`). Where the center lies between pixels, as for every pixel at half
the size, it takes the class of most of the pixels around it: to take always the right and lower of
them, as torch's "nearest-exact" does, would move labels by half a pixel of the image.
"""

import torch
from torch import Tensor

__all__ = ["resize_labels"]


def resize_labels(labels: Tensor, size: tuple[int, int]) -> Tensor:
    """Labels at another size.

    Args:
        labels: integer [..., H, W].
        size: Height and width, px.

    Returns:
        [..., h, w], of the same dtype.

    >>> resize_labels(torch.tensor([[1, 1, 2, 2], [1, 1, 2, 0]]), (1, 2)).tolist()
    [[1, 2]]
    """
    rows = _nearest(labels.shape[-2], size[0], labels.device)
    columns = _nearest(labels.shape[-1], size[1], labels.device)
    if len(rows) == len(columns) == 1:
        return labels[..., rows[0][:, None], columns[0]]
    # A single candidate in one direction counts twice.
    corners = [labels[..., y[:, None], x] for y in _pair(rows) for x in _pair(columns)]
    return _vote(torch.stack(corners))


def _nearest(side: int, scaled: int, device: torch.device) -> list[Tensor]:
    """The pixels next to each center, int64 [scaled]: one, or two if any center is between two."""
    # In units of 1 / (2 scaled) px, in which all positions are integers.
    centers = (2 * torch.arange(scaled, device=device) + 1) * side
    after, before = centers // (2 * scaled), (centers - 1) // (2 * scaled)
    # By numbers alone, so that a GPU need not be waited for: an odd multiple of side meets a
    # multiple of 2 scaled only if side has more factors of two than scaled.
    has_ties = side & -side > scaled & -scaled
    return [before, after] if has_ties else [after]


def _pair(candidates: list[Tensor]) -> list[Tensor]:
    return [candidates[0], candidates[-1]]


def _vote(corners: Tensor) -> Tensor:
    """The most frequent of four labels, [4, ..., h, w]."""
    a, b, c, d = corners.sort(dim=0).values
    winner = torch.where(a == b, a, torch.where(b == c, b, c))
    # Two against two: one or the other like the fields of a chessboard, so that neither of two
    # classes grows, and neither moves.
    height, width = corners.shape[-2:]
    y, x = (torch.arange(side, device=corners.device) for side in (height, width))
    is_first = (y[:, None] + x) % 2 == 0
    return torch.where((a == b) & (c == d), torch.where(is_first, a, d), winner)
