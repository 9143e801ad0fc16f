"""Bilinear interpolation of one axis: two source pixels of each target pixel, and their weights.

The positions of torch.nn.functional.interpolate(mode="bilinear", size=...), but in float64: in
float32 a position among 500 source pixels is off by 3e-5 of a pixel.
"""

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

__all__ = ["Taps", "interpolation_matrix", "interpolation_taps"]


@dataclass(frozen=True, slots=True, eq=False)
class Taps:
    """The source pixels of each target pixel on one axis.

    Attributes:
        source_pixels: Their number.
        first: int32 [pixels], the first source pixel.
        second: int32 [pixels], the next one, or the first again at the end.
        weight: float64 [pixels], in [0, 1], of the second; that of the first is 1 - weight.
    """

    source_pixels: int
    first: Tensor
    second: Tensor
    weight: Tensor


@lru_cache(maxsize=64)
def interpolation_taps(source_pixels: int, pixels: int, align_corners: bool) -> Taps:
    """The taps of one axis, on the CPU; cached, so not to be written to.

    Args:
        source_pixels: At least 1.
        pixels: At least 1.
        align_corners: Whether the outermost centers, instead of the outermost edges, coincide.

    >>> rows = interpolation_taps(2, 4, align_corners=False)
    >>> rows.first.tolist(), rows.second.tolist(), rows.weight.tolist()
    ([0, 0, 0, 1], [1, 1, 1, 1], [0.0, 0.25, 0.75, 0.25])
    """
    at = torch.arange(pixels, dtype=torch.float64)
    if align_corners:
        position = at * ((source_pixels - 1) / (pixels - 1) if pixels > 1 else 0.0)
    else:
        position = ((at + 0.5) * (source_pixels / pixels) - 0.5).clamp(min=0)
    first = position.long().clamp(max=source_pixels - 1)
    second = (first + 1).clamp(max=source_pixels - 1)
    weight = (position - first).clamp(0, 1)
    return Taps(source_pixels, first.int(), second.int(), weight)


def interpolation_matrix(axis: Taps) -> Tensor:
    """The interpolation as a matrix, float64 [pixels, source pixels], whose rows add up to 1.

    >>> interpolation_matrix(interpolation_taps(2, 4, align_corners=True))[1]
    tensor([0.6667, 0.3333], dtype=torch.float64)
    """
    matrix = torch.zeros(len(axis.first), axis.source_pixels, dtype=torch.float64)
    matrix.scatter_add_(1, axis.first.long()[:, None], 1 - axis.weight[:, None])
    return matrix.scatter_add_(1, axis.second.long()[:, None], axis.weight[:, None])
