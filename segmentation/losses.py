"""Losses of semantic segmentation over logits [B, K, h, w] and labels [B, H, W].

Where h x w is not H x W, the logits are first upsampled to H x W by bilinear interpolation.

Each loss is a function of sums over pixels. The sums of a batch are those of its parts, so a batch
that is computed in parts, or by several processes, has the loss and the gradient of the whole,
however ignored pixels and classes are spread over the parts.

Sources: torch.nn.functional.cross_entropy; Milletari et al., "V-Net", 3DV 2016 (Dice); Lin et al.,
"Focal Loss for Dense Object Detection", ICCV 2017; Berman et al., "The Lovasz-Softmax Loss", CVPR
2018; Paszke et al., "ENet", 2016 (class weights).
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from upmap.kernels.upsample_ce import IMPLEMENTATIONS, upsample_cross_entropy
from upmap.metrics.semantic import IGNORED
from upmap.options import Choices, Flag, Range, validate_fields
from upmap.segmentation.lovasz import lovasz_softmax

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
    "focal",
    "resolve_class_weights",
    "sum_labels",
]

AVAILABLE_KERNELS = [name for name, kernel in IMPLEMENTATIONS.items() if kernel is not None]
MAX_WEIGHT = 1e6  # of a class or a loss
ENET_OFFSET = 1.02  # ENet's; weights lie between 1.4 and 50.5
SMOOTH = 1.0  # px; Laplace smoothing: a class absent from target and prediction adds 0


@dataclass(frozen=True, slots=True, kw_only=True)
class LossOptions:
    """Loss options.

    Attributes:
        loss: The loss.
        label_smoothing: Label smoothing of cross-entropy.
        class_weights: A weight for each class in cross-entropy and focal loss; empty weighs all
            alike, auto gives rare classes more, by their share of the pixels for training.
        focal_gamma: Exponent of the focal loss; 0 is cross-entropy, and the larger it is the less
            pixels count that are right already.
        dice_weight: Weight of Dice in the sum of both.
        lovasz_weight: Weight of Lovasz-Softmax in the sum of both.
        impl: Kernel of cross-entropy over upsampled logits; None selects the fastest available.
    """

    loss: Annotated[str, Choices(lambda: LOSSES)] = "cross_entropy"
    label_smoothing: Annotated[float, Range(0, 1)] = 0.0
    class_weights: Annotated[
        tuple[float, ...] | Literal["auto"], Range(0, MAX_WEIGHT), Flag(metavar="X,X|auto")
    ] = ()
    focal_gamma: Annotated[float, Range(0, 16)] = 2.0
    dice_weight: Annotated[float, Range(0, MAX_WEIGHT)] = 1.0
    lovasz_weight: Annotated[float, Range(0, MAX_WEIGHT)] = 1.0
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


def resolve_class_weights(options: LossOptions, pixels: Sequence[int]) -> LossOptions:
    """Options with numbers where `class_weights` are "auto": ENet's 1 / ln(1.02 + share of pixels).

    A class without pixels weighs 0, so that label smoothing does not favor it.

    Args:
        options: The options.
        pixels: The number of pixels of each class for training; not all 0.

    >>> weights = resolve_class_weights(LossOptions(class_weights="auto"), [97, 3, 0]).class_weights
    >>> [round(weight, 2) for weight in weights]
    [1.45, 20.5, 0.0]
    """
    if options.class_weights != "auto":
        return options
    shares = [count / sum(pixels) for count in pixels]
    weights = tuple(1 / math.log(ENET_OFFSET + share) if share else 0.0 for share in shares)
    return replace(options, class_weights=weights)


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
    _validate_class_weights(logits, options)
    dtype = torch.promote_types(logits.dtype, torch.float32)
    total = _pixel_losses(logits, labels, _class_weights(labels, dtype, options), options).sum()
    return torch.stack([total, _sum_weights(labels, dtype, options)])


def _validate_class_weights(logits: Tensor, options: LossOptions) -> None:
    classes = logits.shape[1]
    if options.class_weights == "auto":
        raise ValueError("class_weights are auto: resolve_class_weights makes numbers of them")
    if len(options.class_weights) not in (0, classes):
        raise ValueError(f"expected {classes} class_weights, got {len(options.class_weights)}")


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


def focal(logits: Tensor, labels: Tensor, options: LossOptions) -> Tensor:
    """The mean of -w (1 - p)^gamma ln(p) over pixels that are not ignored, weighted by class.

    p is the softmax at the label and w the class's weight; as for cross-entropy the sum is divided
    by that of w, and the loss is 0 if that is 0.

    Args:
        logits: float [B, K, H, W].
        labels: integer [B, H, W].
        options: The options.

    >>> labels = torch.zeros(1, 2, 2, dtype=torch.uint8)
    >>> float(focal(torch.zeros(1, 2, 2, 2), labels, LossOptions()))  # ln(2) / 4
    0.1732867956161499
    """
    return _divide_by_weights(_focal_sums(logits, labels, options), options)


def _focal_sums(logits: Tensor, labels: Tensor, options: LossOptions) -> Tensor:
    """The sum of the weighted losses of pixels, and that of their weights, float [2]."""
    _validate_class_weights(logits, options)
    logits, labels = _align(logits, labels)
    counts = labels != IGNORED
    target = labels.where(counts, 0)
    logs = logits.log_softmax(1).gather(1, target.unsqueeze(1)).squeeze(1)
    # Not below the rounding of 1: the slope of a root is infinite at 0.
    wrong = (-logs.expm1()).clamp(min=torch.finfo(logs.dtype).eps)
    losses = -(wrong**options.focal_gamma) * logs
    weights = _class_weights(labels, logits.dtype, options)
    if weights is not None:
        losses = losses * weights[target]
    total = losses.masked_fill(~counts, 0).sum()
    return torch.stack([total, _sum_weights(labels, logits.dtype, options)])


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


def _lovasz_sums(logits: Tensor, labels: Tensor, options: LossOptions) -> Tensor:
    """The sum of the Lovasz-Softmax losses of images, and the number of images, float [2].

    Images of ignored pixels alone do not count. The loss of a batch would be no sum over its parts.
    """
    logits, labels = _align(logits, labels)
    losses = lovasz_softmax(logits.softmax(1), labels)
    return torch.stack([losses.sum(), _count_images(labels).to(losses.dtype)])


def _lovasz_label_sums(labels: Tensor, dtype: torch.dtype, options: LossOptions) -> Tensor:
    count = _count_images(labels).to(dtype)
    return torch.stack([torch.zeros_like(count), count])


def _count_images(labels: Tensor) -> Tensor:
    """The number of images with a pixel that is not ignored, a scalar."""
    return (labels != IGNORED).flatten(1).any(1).sum()


def _add_losses(first: Loss, second: Loss, weight: str) -> Loss:
    """The first loss, of two sums, plus the second times the option called `weight`."""

    def sums(logits: Tensor, labels: Tensor, options: LossOptions) -> Tensor:
        logits, labels = _align(logits, labels)  # once, so that gradients add in float32
        return torch.cat([loss.sums(logits, labels, options) for loss in (first, second)])

    def value(sums: Tensor, options: LossOptions) -> Tensor:
        factor: float = getattr(options, weight)
        return first.value(sums[:2], options) + factor * second.value(sums[2:], options)

    def label_sums(labels: Tensor, dtype: torch.dtype, options: LossOptions) -> Tensor:
        known = [loss.label_sums for loss in (first, second) if loss.label_sums is not None]
        return torch.cat([function(labels, dtype, options) for function in known])

    return Loss(sums, value, label_sums if first.label_sums and second.label_sums else None)


_ENTROPY = Loss(_entropy_sums, _divide_by_weights, _entropy_label_sums)
_FOCAL = Loss(_focal_sums, _divide_by_weights, _entropy_label_sums)
_DICE = Loss(_dice_sums, _dice_value)
_LOVASZ = Loss(_lovasz_sums, _divide_by_weights, _lovasz_label_sums)

LOSSES: dict[str, Loss] = {
    "cross_entropy": _ENTROPY,
    "dice": _DICE,
    "focal": _FOCAL,
    "lovasz": _LOVASZ,
    "cross_entropy+dice": _add_losses(_ENTROPY, _DICE, "dice_weight"),
    "cross_entropy+lovasz": _add_losses(_ENTROPY, _LOVASZ, "lovasz_weight"),
    "focal+dice": _add_losses(_FOCAL, _DICE, "dice_weight"),
    "focal+lovasz": _add_losses(_FOCAL, _LOVASZ, "lovasz_weight"),
}
