"""What the operation means, in torch: upsampled logits as a whole, then the loss of each pixel."""

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["losses", "upsampled"]


def upsampled(logits: Tensor, size: tuple[int, int], align_corners: bool) -> Tensor:
    """Logits at another size, [N, C, H, W], float32 at least."""
    kept = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return functional.interpolate(kept, size=size, mode="bilinear", align_corners=align_corners)


def losses(
    logits: Tensor,
    target: Tensor,
    weight: Tensor | None,
    size: tuple[int, int],
    align_corners: bool,
    ignore_index: int,
    label_smoothing: float,
) -> Tensor:
    """Cross-entropy of each pixel, [N, H, W]; see `kernels.upsample_ce.upsample_cross_entropy`."""
    scores = upsampled(logits, size, align_corners)
    return functional.cross_entropy(
        scores,
        target.long(),
        weight=None if weight is None else weight.to(scores.dtype),
        ignore_index=ignore_index,
        label_smoothing=label_smoothing,
        reduction="none",
    )
