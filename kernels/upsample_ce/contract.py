"""What every implementation of upsampling with cross-entropy takes and returns."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor

__all__ = [
    "HALF_AND_SINGLE",
    "LABEL_DTYPES",
    "MAX_SIDE",
    "Implementation",
    "Passes",
    "Reduction",
    "Settings",
    "Size",
]

Size = tuple[int, int]
Reduction = Literal["mean", "sum", "none"]
LABEL_DTYPES = (torch.uint8, torch.int32, torch.int64)
HALF_AND_SINGLE = (torch.float16, torch.bfloat16, torch.float32)
MAX_SIDE = 2**31 - 1  # px: places are int32


@dataclass(frozen=True, slots=True, eq=False)
class Settings:
    """The arguments of `upmap.kernels.upsample_ce.upsample_cross_entropy` that all passes need.

    Attributes:
        class_weights: float [C]; None for 1.
        align_corners: Whether the outermost centers, instead of edges, coincide.
        ignore_index: The label of pixels that do not count.
        label_smoothing: In [0, 1].
    """

    class_weights: Tensor | None
    align_corners: bool
    ignore_index: int
    label_smoothing: float


class Passes(Protocol):
    """A module with the passes of an implementation; chunked.py describes each."""

    def forward(self, logits: Tensor, target: Tensor, settings: Settings) -> tuple[Tensor, Tensor]:
        """Losses and logsumexps."""

    def backward(
        self,
        gradient: Tensor,
        logsumexps: Tensor,
        logits: Tensor,
        target: Tensor,
        settings: Settings,
    ) -> Tensor:
        """The gradient of the logits."""

    def argmax(self, logits: Tensor, size: Size, align_corners: bool) -> Tensor:
        """The best class of each pixel."""

    def confusion(
        self, logits: Tensor, target: Tensor, align_corners: bool, ignore_index: int
    ) -> Tensor:
        """The number of pixels of each class with each prediction."""


@dataclass(frozen=True, slots=True)
class Implementation:
    """One way to compute the operation.

    Attributes:
        losses: (logits, target, settings) to the loss of each pixel, with a gradient.
        argmax: (logits, size, align_corners) to the best class of each pixel.
        confusion: (logits, target, align_corners, ignore_index) to counts.
        devices: The types of device that it runs on.
        dtypes: The dtypes of logits that it takes.
    """

    losses: Callable[[Tensor, Tensor, Settings], Tensor]
    argmax: Callable[[Tensor, Size, bool], Tensor]
    confusion: Callable[[Tensor, Tensor, bool, int], Tensor]
    devices: tuple[str, ...]
    dtypes: tuple[torch.dtype, ...]

    def takes(self, logits: Tensor) -> bool:
        """Whether it computes logits of this device and dtype."""
        return logits.device.type in self.devices and logits.dtype in self.dtypes
