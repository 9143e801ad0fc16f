"""Where the pixels of an upsampled map come from: two neighbors a side, and how much of each.

As torch.nn.functional.interpolate(mode="bilinear", size=...) has it, in double precision: in single
precision, a position among 500 features is off by 3e-5 of a feature.
"""

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

__all__ = ["Taps", "matrix", "taps"]


@dataclass(frozen=True, slots=True, eq=False)
class Taps:
    """The features that each pixel of one side is made of.

    Attributes:
        features: How many there are.
        first: int32 [pixels], the first feature.
        second: int32 [pixels], the next, or the first again at the end.
        share: float64 [pixels], in [0, 1], of the second; the first has the rest.
    """

    features: int
    first: Tensor
    second: Tensor
    share: Tensor


@lru_cache(maxsize=64)
def taps(features: int, pixels: int, align_corners: bool) -> Taps:
    """The taps of one side, on the CPU; not to be written to.

    Args:
        features: At least 1.
        pixels: At least 1.
        align_corners: Whether the outermost centers, instead of the outermost edges, coincide.

    >>> found = taps(2, 4, align_corners=False)
    >>> found.first.tolist(), found.second.tolist(), found.share.tolist()
    ([0, 0, 0, 1], [1, 1, 1, 1], [0.0, 0.25, 0.75, 0.25])
    """
    at = torch.arange(pixels, dtype=torch.float64)
    if align_corners:
        source = at * ((features - 1) / (pixels - 1) if pixels > 1 else 0.0)
    else:
        source = ((at + 0.5) * (features / pixels) - 0.5).clamp(min=0)
    first = source.long().clamp(max=features - 1)
    second = (first + 1).clamp(max=features - 1)
    share = (source - first).clamp(0, 1)
    return Taps(features, first.int(), second.int(), share)


def matrix(one: Taps) -> Tensor:
    """The interpolation as a matrix, float64 [pixels, features], whose rows add up to 1.

    >>> matrix(taps(2, 4, align_corners=True))[1]
    tensor([0.6667, 0.3333], dtype=torch.float64)
    """
    found = torch.zeros(len(one.first), one.features, dtype=torch.float64)
    found.scatter_add_(1, one.first.long()[:, None], 1 - one.share[:, None])
    return found.scatter_add_(1, one.second.long()[:, None], one.share[:, None])
