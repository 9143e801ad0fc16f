"""Losses of semantic segmentation over logits [B, K, h, w] and labels [B, H, W].

Where h x w is not H x W, the logits are first upsampled to H x W by bilinear interpolation.

Sources: torch.nn.functional.cross_entropy; Milletari et al., "V-Net", 3DV 2016 (Dice).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor
from torch.nn import functional

from upmap.kernels.upsample_ce import IMPLEMENTATIONS, upsample_cross_entropy
from upmap.metrics.semantic import IGNORED
from upmap.options import Choices, Range, validate_fields

__all__ = ["LOSSES", "LossOptions", "compute_loss", "cross_entropy", "dice"]

AVAILABLE_KERNELS = [name for name, kernel in IMPLEMENTATIONS.items() if kernel is not None]
MAX_WEIGHT = 1e6  # of a class or a loss
SMOOTH = 1.0  # px; Laplace smoothing: a class absent from target and prediction adds 0


@dataclass(frozen=True, slots=True, kw_only=True)
class LossOptions:
    """Loss options.

    Attributes:
        loss: The loss.
        label_smoothing: Label smoothing of cross-entropy.
        class_weights: A weight for each class in cross-entropy; empty weighs all alike.
        dice_weight: Weight of Dice in the sum of both.
        impl: Kernel of cross-entropy over upsampled logits; None selects the fastest available.
    """

    loss: Annotated[str, Choices(lambda: LOSSES)] = "cross_entropy"
    label_smoothing: Annotated[float, Range(0, 1)] = 0.0
    class_weights: Annotated[tuple[float, ...], Range(0, MAX_WEIGHT)] = ()
    dice_weight: Annotated[float, Range(0, MAX_WEIGHT)] = 1.0
    impl: Annotated[str | None, Choices(AVAILABLE_KERNELS)] = None

    def __post_init__(self) -> None:
        validate_fields(self)


def compute_loss(logits: Tensor, labels: Tensor, options: LossOptions) -> Tensor:
    """The loss that `options` describe, a scalar, float32 at least whatever the logits are.

    Args:
        logits: float [B, K, h, w].
        labels: integer [B, H, W], 0 .. K - 1, or IGNORED.
        options: The options.

    Raises:
        ValueError: If labels are not integers of B images, or class_weights are not K.
        IndexError, RuntimeError: If a label is out of range, as torch raises them.
    """
    return LOSSES[options.loss](logits, labels, options)


def cross_entropy(logits: Tensor, labels: Tensor, options: LossOptions) -> Tensor:
    """The mean over pixels that are not ignored, weighted by class; 0 if the weights sum to 0.

    Args:
        logits: float [B, K, H, W].
        labels: integer [B, H, W].
        options: The options.

    >>> labels = torch.zeros(1, 2, 2, dtype=torch.uint8)
    >>> float(cross_entropy(torch.zeros(1, 4, 2, 2), labels, LossOptions()))
    1.3862943649291992
    """
    _validate_shapes(logits, labels)
    classes = logits.shape[1]
    if len(options.class_weights) not in (0, classes):
        raise ValueError(f"expected {classes} class_weights, got {len(options.class_weights)}")
    dtype = torch.promote_types(logits.dtype, torch.float32)
    weights = None
    if options.class_weights:
        weights = torch.tensor(options.class_weights, dtype=dtype, device=logits.device)
    losses = _pixel_losses(logits, labels, weights, options)
    labels = labels.long()
    counts = labels != IGNORED
    total = (counts if weights is None else weights[labels.where(counts, 0)] * counts).sum()
    # If all pixels are ignored torch's mean is NaN. `where` does not wait for the GPU, `if` would.
    return (losses.sum() / total.where(total > 0, 1)).where(total > 0, 0)


def _pixel_losses(
    logits: Tensor, labels: Tensor, weights: Tensor | None, options: LossOptions
) -> Tensor:
    """Cross-entropy of each pixel; torch's own mean is not deterministic on a GPU."""
    if logits.shape[2:] != labels.shape[1:]:
        return upsample_cross_entropy(
            logits,
            labels,
            weight=weights,
            ignore_index=IGNORED,
            label_smoothing=options.label_smoothing,
            reduction="none",
            impl=options.impl,
        )
    return functional.cross_entropy(
        logits.to(torch.promote_types(logits.dtype, torch.float32)),
        labels.long(),
        weight=weights,
        ignore_index=IGNORED,
        label_smoothing=options.label_smoothing,
        reduction="none",
    )


def dice(logits: Tensor, labels: Tensor, options: LossOptions) -> Tensor:
    """1 minus the mean over classes of the soft Dice coefficient of the batch.

    The coefficient is (2 sum(p t) + 1) / (sum(p) + sum(t) + 1), p the softmax, t the one-hot
    labels, summed over the pixels that are not ignored.

    Args:
        logits: float [B, K, H, W].
        labels: integer [B, H, W].
        options: Not used; all losses have the same signature.

    >>> labels = torch.zeros(1, 2, 2, dtype=torch.uint8)
    >>> float(dice(torch.full((1, 1, 2, 2), 5.0), labels, LossOptions()))
    0.0
    """
    logits, labels = _align(logits, labels)
    counts = labels != IGNORED
    probability = logits.softmax(1) * counts.unsqueeze(1)
    target = functional.one_hot(labels.where(counts, 0), logits.shape[1])
    target = target.permute(0, 3, 1, 2).to(probability.dtype) * counts.unsqueeze(1)
    intersection = (probability * target).sum(dim=(0, 2, 3))
    sizes = (probability + target).sum(dim=(0, 2, 3))
    return 1 - ((2 * intersection + SMOOTH) / (sizes + SMOOTH)).mean()


def _align(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Logits in float32 or float64, at the size of the labels, and labels in int64."""
    _validate_shapes(logits, labels)
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    if logits.shape[2:] != labels.shape[1:]:
        logits = functional.interpolate(logits, size=[*labels.shape[1:]], mode="bilinear")
    return logits, labels.long()


def _validate_shapes(logits: Tensor, labels: Tensor) -> None:
    if labels.ndim != 3 or len(labels) != len(logits) or labels.is_floating_point():
        dtype = str(labels.dtype).removeprefix("torch.")
        shape = f"{dtype} {list(labels.shape)}"
        raise ValueError(f"labels must be integer [{len(logits)}, H, W], not {shape}")


def _cross_entropy_and_dice(logits: Tensor, labels: Tensor, options: LossOptions) -> Tensor:
    logits, labels = _align(logits, labels)  # once, so that gradients add in float32
    entropy = cross_entropy(logits, labels, options)
    return entropy + options.dice_weight * dice(logits, labels, options)


LOSSES: dict[str, Callable[[Tensor, Tensor, LossOptions], Tensor]] = {
    "cross_entropy": cross_entropy,
    "dice": dice,
    "cross_entropy+dice": _cross_entropy_and_dice,
}
