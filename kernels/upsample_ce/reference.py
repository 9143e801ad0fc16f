"""Reference upsampling with cross-entropy: torch's interpolate, then its cross_entropy."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from upmap.kernels.upsample_ce.contract import Settings

__all__ = ["argmax", "confusion", "losses"]


def losses(logits: Tensor, target: Tensor, settings: Settings) -> Tensor:
    """Cross-entropy of each pixel, [N, H, W], 0 where ignored."""
    z = _upsample(logits, target.shape[1:], settings.align_corners)
    class_weights = settings.class_weights
    return functional.cross_entropy(
        z,
        target.long(),
        weight=None if class_weights is None else class_weights.to(z.dtype),
        ignore_index=settings.ignore_index,
        label_smoothing=settings.label_smoothing,
        reduction="none",
    )


def argmax(logits: Tensor, size: Sequence[int], align_corners: bool) -> Tensor:
    """The class with the largest logit of each pixel, int64 [N, H, W]."""
    return _upsample(logits, size, align_corners).argmax(1)


def confusion(logits: Tensor, target: Tensor, align_corners: bool, ignore_index: int) -> Tensor:
    """The number of pixels of each class with each prediction, int64 [C, C]."""
    classes = logits.shape[1]
    labels, is_counted = target.long(), target != ignore_index
    best = argmax(logits, target.shape[1:], align_corners)
    pairs = classes * labels[is_counted] + best[is_counted]
    return torch.bincount(pairs, minlength=classes**2).reshape(classes, classes)


def _upsample(logits: Tensor, size: Sequence[int], align_corners: bool) -> Tensor:
    """Logits at another size, [N, C, H, W], at least float32."""
    exact = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return functional.interpolate(exact, size=[*size], mode="bilinear", align_corners=align_corners)
