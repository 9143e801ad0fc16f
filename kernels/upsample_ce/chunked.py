"""The fused operation in torch, on any device: a band of rows at a time, recomputed backward.

Full-resolution logits exist of one band only. Of the formulas in docs/kernels.md, `z` are the
upsampled logits, `logsumexp` is T and `class_weights` are w.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from upmap.kernels.upsample_ce.contract import Settings, Size
from upmap.kernels.upsample_ce.taps import Taps, interpolation_matrix, interpolation_taps

__all__ = ["argmax", "backward", "confusion", "forward"]

BAND_VALUES = 1 << 20  # maximum number of logits in a band, unless one row has more


def forward(logits: Tensor, target: Tensor, settings: Settings) -> tuple[Tensor, Tensor]:
    """Losses and logsumexps of each pixel, both [N, H, W]; 0 and +inf where ignored."""
    dtype = torch.promote_types(logits.dtype, torch.float32)
    losses = torch.empty(target.shape, dtype=dtype, device=logits.device)
    logsumexps = torch.empty_like(losses)
    class_weights = _class_weights(logits, settings.class_weights, dtype)
    smoothing = settings.label_smoothing / logits.shape[1]
    for image, rows, z in _bands(logits, target.shape, settings.align_corners):
        labels, is_counted = _labels(target[image, rows], settings.ignore_index)
        logsumexp = z.logsumexp(0)
        target_weight = (1 - settings.label_smoothing) * class_weights[labels]
        loss = target_weight * (logsumexp - z.gather(0, labels[None])[0])
        if smoothing:
            weighted = torch.tensordot(class_weights, z, dims=1)
            loss = loss + smoothing * (class_weights.sum() * logsumexp - weighted)
        losses[image, rows] = loss.where(is_counted, 0)
        logsumexps[image, rows] = logsumexp.where(is_counted, torch.inf)
    return losses, logsumexps


def backward(
    gradient: Tensor,
    logsumexps: Tensor,
    logits: Tensor,
    target: Tensor,
    settings: Settings,
) -> Tensor:
    """The gradient of the logits, [N, C, h, w], from that of the losses, [N, H, W]."""
    dtype, height, width = logsumexps.dtype, *logsumexps.shape[1:]
    class_weights = _class_weights(logits, settings.class_weights, dtype)
    smoothing = settings.label_smoothing / logits.shape[1]
    row_matrix, column_matrix = (
        interpolation_matrix(interpolation_taps(source_pixels, pixels, settings.align_corners)).to(
            logits.device, dtype
        )
        for source_pixels, pixels in ((logits.shape[2], height), (logits.shape[3], width))
    )
    result = torch.zeros(logits.shape, dtype=dtype, device=logits.device)
    for image, rows, z in _bands(logits, logsumexps.shape, settings.align_corners):
        labels, is_counted = _labels(target[image, rows], settings.ignore_index)
        target_weight = (1 - settings.label_smoothing) * class_weights[labels]
        # In place, a band of z becomes the gradient of z: softmax, times the sum of the weights of
        # all labels, minus the weight of each label.
        dz = z.sub_(logsumexps[image, rows]).exp_()
        dz.mul_(target_weight + smoothing * class_weights.sum())
        dz.scatter_add_(0, labels[None], -target_weight[None])
        if smoothing:
            dz -= smoothing * class_weights[:, None, None]
        dz.mul_((gradient[image, rows].to(dtype)).where(is_counted, 0))
        result[image] += torch.matmul(row_matrix[rows].T, torch.matmul(dz, column_matrix))
    return result.to(logits.dtype)


def argmax(logits: Tensor, size: Size, align_corners: bool) -> Tensor:
    """The class with the largest logit of each pixel, int64 [N, H, W]."""
    shape = torch.Size((len(logits), *size))
    best = torch.empty(shape, dtype=torch.int64, device=logits.device)
    for image, rows, z in _bands(logits, shape, align_corners):
        best[image, rows] = z.argmax(0)
    return best


def confusion(logits: Tensor, target: Tensor, align_corners: bool, ignore_index: int) -> Tensor:
    """The number of pixels of each class with each prediction, int64 [C, C]."""
    classes = logits.shape[1]
    counts = torch.zeros(classes**2, dtype=torch.int64, device=logits.device)
    for image, rows, z in _bands(logits, target.shape, align_corners):
        labels, is_counted = _labels(target[image, rows], ignore_index)
        pairs = classes * labels[is_counted] + z.argmax(0)[is_counted]
        counts += torch.bincount(pairs, minlength=classes**2)
    return counts.reshape(classes, classes)


def _class_weights(logits: Tensor, class_weights: Tensor | None, dtype: torch.dtype) -> Tensor:
    if class_weights is not None:
        return class_weights.to(dtype)
    return torch.ones(logits.shape[1], dtype=dtype, device=logits.device)


def _labels(target: Tensor, ignore_index: int) -> tuple[Tensor, Tensor]:
    """Labels as int64, 0 where ignored, and whether each is counted."""
    labels = target.long()
    is_counted = labels != ignore_index
    return labels.where(is_counted, 0), is_counted


def _bands(
    logits: Tensor, shape: torch.Size, align_corners: bool
) -> Iterator[tuple[int, slice, Tensor]]:
    """Image, rows, and their upsampled logits, [C, rows, W], for every band of every image."""
    dtype = torch.promote_types(logits.dtype, torch.float32)
    count, height, width = shape
    row_taps = interpolation_taps(logits.shape[2], height, align_corners)
    column_taps = interpolation_taps(logits.shape[3], width, align_corners)
    step = max(1, BAND_VALUES // (logits.shape[1] * width))
    for image in range(count):
        for begin in range(0, height, step):
            rows = slice(begin, min(begin + step, height))
            z = _interpolate(logits[image].to(dtype), row_taps, rows, 1)
            yield image, rows, _interpolate(z, column_taps, slice(0, width), 2)


def _interpolate(values: Tensor, axis_taps: Taps, pixels: slice, axis: int) -> Tensor:
    """Interpolates one axis of [C, h, w] at some of its target pixels."""
    shape = [1, -1, 1] if axis == 1 else [1, 1, -1]
    first, second = (
        values.index_select(axis, index[pixels].to(values.device))
        for index in (axis_taps.first, axis_taps.second)
    )
    weight = axis_taps.weight[pixels].to(values.device, values.dtype).reshape(shape)
    return first.mul_(1 - weight).add_(second.mul_(weight))
