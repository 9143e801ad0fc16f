"""What a loss depends on besides logits and labels."""

from dataclasses import dataclass

from torch import Tensor

__all__ = ["Settings"]


@dataclass(frozen=True, slots=True, eq=False)
class Settings:
    """The arguments of `upmap.kernels.upsample_ce.upsample_cross_entropy` that all passes need.

    Attributes:
        weight: float [C], of each class; None for 1.
        align_corners: Whether the outermost centers, instead of edges, coincide.
        ignore_index: The label of pixels that do not count.
        label_smoothing: In [0, 1].
    """

    weight: Tensor | None
    align_corners: bool
    ignore_index: int
    label_smoothing: float
