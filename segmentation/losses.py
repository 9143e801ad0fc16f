"""Losses of semantic segmentation over logits [B, K, h, w] and labels [B, H, W].

Where h x w is not H x W, the logits are first upsampled to H x W by bilinear interpolation.

Each loss is a function of sums over pixels. The sums of a batch are those of its parts, so a batch
that is computed in parts, or by several processes, has the loss and the gradient of the whole,
however ignored pixels and classes are spread over the parts.

Sources: torch.nn.functional.cross_entropy; Milletari et al., "V-Net", 3DV 2016 (Dice).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from upmap.kernels.upsample_ce import IMPLEMENTATIONS, upsample_cross_entropy
from upmap.metrics.semantic import IGNORED
from upmap.options import Choices, Range, validate_fields

__all__ = [
    "LOSSES",
    "Loss",
    "LossOptions",
    "compute_loss",
    "compute_slope",
    "compute_sums",
    "compute_value",
    "cross_entropy",
    "dice",
    "sum_labels",
]

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
        if self.class_weights and not any(self.class_weights):
            raise ValueError("class_weights are 0 for all classes: nothing would be learned")


class Loss(NamedTuple):
    """A row of LOSSES: a loss as a function of sums over pixels.

    Attributes:
        sums: Maps logits, labels and options to S sums over the pixels, float [S].
        value: Maps the sums of a whole batch and options to the loss, a scalar.
        label_sums: Maps labels, a dtype and options to those sums that labels alone determine,
            float [S] with 0 elsewhere, if the gradient of `value` depends on no others; else None.
    """

    sums: Callable[[Tensor, Tensor, LossOptions], Tensor]
    value: Callable[[Tensor, LossOptions], Tensor]
    label_sums: Callable[[Tensor, torch.dtype, LossOptions], Tensor] | None = None


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
    return compute_value(compute_sums(logits, labels, options), options)


def compute_sums(logits: Tensor, labels: Tensor, options: LossOptions) -> Tensor:
    """The sums, float [S], that the loss is a function of; those of parts of a batch add up.

    Args:
        logits: See `compute_loss`.
        labels: See `compute_loss`.
        options: The options.

    Raises:
        ValueError, IndexError, RuntimeError: As `compute_loss`.
    """
    return LOSSES[options.loss].sums(logits, labels, options)


def compute_value(sums: Tensor, options: LossOptions) -> Tensor:
    """The loss, a scalar, of the sums of a whole batch, float [S]; see `compute_sums`."""
    return LOSSES[options.loss].value(sums, options)


def compute_slope(sums: Tensor, options: LossOptions) -> Tensor:
    """The gradient, float [S], of the loss with respect to the sums of a whole batch.

    The gradient of the loss is that of the inner product of slope and sums: of a whole batch's or,
    one after the other, of its parts'.
    """
    with torch.enable_grad():
        leaf = sums.detach().requires_grad_()
        (slope,) = torch.autograd.grad(compute_value(leaf, options), leaf)
    return slope


def sum_labels(labels: Tensor, dtype: torch.dtype, options: LossOptions) -> Tensor | None:
    """The sums that `compute_slope` needs, float [S], from labels alone.

    Args:
        labels: See `compute_loss`.
        dtype: That of the sums.
        options: The options.

    Returns:
        None for a loss whose slope depends on the logits, too.
    """
    label_sums = LOSSES[options.loss].label_sums
    return None if label_sums is None else label_sums(labels, dtype, options)


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
    return _divide_by_weights(_entropy_sums(logits, labels, options), options)


def _entropy_sums(logits: Tensor, labels: Tensor, options: LossOptions) -> Tensor:
    """The sum of the weighted losses of pixels, and that of their weights, float [2]."""
    _validate_shapes(logits, labels)
    classes = logits.shape[1]
    if len(options.class_weights) not in (0, classes):
        raise ValueError(f"expected {classes} class_weights, got {len(options.class_weights)}")
    dtype = torch.promote_types(logits.dtype, torch.float32)
    total = _pixel_losses(logits, labels, _class_weights(labels, dtype, options), options).sum()
    return torch.stack([total, _sum_weights(labels, dtype, options)])


def _class_weights(labels: Tensor, dtype: torch.dtype, options: LossOptions) -> Tensor | None:
    if not options.class_weights:
        return None
    return torch.tensor(options.class_weights, dtype=dtype, device=labels.device)


def _sum_weights(labels: Tensor, dtype: torch.dtype, options: LossOptions) -> Tensor:
    """The sum of the weights of pixels, a scalar."""
    counts = labels != IGNORED
    weights = _class_weights(labels, dtype, options)
    if weights is None:
        return counts.sum().to(dtype)  # counted in int64
    return (weights[labels.int().where(counts, 0)] * counts).sum()


def _entropy_label_sums(labels: Tensor, dtype: torch.dtype, options: LossOptions) -> Tensor:
    weights = _sum_weights(labels, dtype, options)
    return torch.stack([torch.zeros_like(weights), weights])


def _divide_by_weights(sums: Tensor, options: LossOptions) -> Tensor:
    """The first sum divided by the second, the sum of weights; 0 if that is 0."""
    total, weights = sums.unbind()
    # If all pixels are ignored torch's mean is NaN. `where` does not wait for the GPU, `if` would.
    return (total / weights.where(weights > 0, 1)).where(weights > 0, 0)


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
    if logits.device.type == "cpu":
        # log_softmax would copy logits whose channels lie together, after they were widened.
        logits = logits.contiguous()
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
    return _dice_value(_dice_sums(logits, labels, options), options)


def _dice_sums(logits: Tensor, labels: Tensor, options: LossOptions) -> Tensor:
    """For each class the sum of p t, then for each class the sum of p + t, float [2 K]."""
    logits, labels = _align(logits, labels)
    counts = labels != IGNORED
    probability = logits.softmax(1) * counts.unsqueeze(1)
    target = functional.one_hot(labels.where(counts, 0), logits.shape[1])
    target = target.permute(0, 3, 1, 2).to(probability.dtype) * counts.unsqueeze(1)
    intersection = (probability * target).sum(dim=(0, 2, 3))
    sizes = (probability + target).sum(dim=(0, 2, 3))
    return torch.cat([intersection, sizes])


def _dice_value(sums: Tensor, options: LossOptions) -> Tensor:
    intersection, sizes = sums.chunk(2)
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


def _entropy_and_dice_sums(logits: Tensor, labels: Tensor, options: LossOptions) -> Tensor:
    logits, labels = _align(logits, labels)  # once, so that gradients add in float32
    return torch.cat([_entropy_sums(logits, labels, options), _dice_sums(logits, labels, options)])


def _entropy_and_dice_value(sums: Tensor, options: LossOptions) -> Tensor:
    return _divide_by_weights(sums[:2], options) + options.dice_weight * _dice_value(
        sums[2:], options
    )


LOSSES: dict[str, Loss] = {
    "cross_entropy": Loss(_entropy_sums, _divide_by_weights, _entropy_label_sums),
    "dice": Loss(_dice_sums, _dice_value),
    "cross_entropy+dice": Loss(_entropy_and_dice_sums, _entropy_and_dice_value),
}
