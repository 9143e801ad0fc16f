"""What the operation means, in torch: upsampled logits as a whole, then the loss of each pixel."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from upmap.kernels.upsample_ce.settings import Settings

__all__ = ["argmax", "confusion", "losses"]


def losses(logits: Tensor, target: Tensor, settings: Settings) -> Tensor:
    """Cross-entropy of each pixel, [N, H, W], 0 where ignored."""
    scores = _upsample(logits, target.shape[1:], settings.align_corners)
    return functional.cross_entropy(
        scores,
        target.long(),
        weight=None if settings.weight is None else settings.weight.to(scores.dtype),
        ignore_index=settings.ignore_index,
        label_smoothing=settings.label_smoothing,
        reduction="none",
    )


def argmax(logits: Tensor, size: Sequence[int], align_corners: bool) -> Tensor:
    """The class with the largest logit of each pixel, int64 [N, H, W]."""
    return _upsample(logits, size, align_corners).argmax(1)


def confusion(logits: Tensor, target: Tensor, align_corners: bool, ignore_index: int) -> Tensor:
    """How many pixels of each class have each prediction, int64 [C, C]."""
    classes = logits.shape[1]
    labels, counts = target.long(), target != ignore_index
    found = argmax(logits, target.shape[1:], align_corners)
    pairs = classes * labels[counts] + found[counts]
    return torch.bincount(pairs, minlength=classes**2).reshape(classes, classes)


def _upsample(logits: Tensor, size: Sequence[int], align_corners: bool) -> Tensor:
    """Logits at another size, [N, C, H, W], float32 at least."""
    kept = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return functional.interpolate(kept, size=[*size], mode="bilinear", align_corners=align_corners)
