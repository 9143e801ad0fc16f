"""The fused operation in plain torch, on any device: a band of rows at a time, recomputed backward.

A band's logits are the only full-resolution ones that there ever are.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from upmap.kernels.upsample_ce.settings import Settings
from upmap.kernels.upsample_ce.taps import Taps, matrix, taps

__all__ = ["argmax", "backward", "confusion", "forward"]

BAND_VALUES = 1 << 20  # logits of a band, at most, unless one row has more


def forward(logits: Tensor, target: Tensor, settings: Settings) -> tuple[Tensor, Tensor]:
    """Losses and log-sum-exps of each pixel, both [N, H, W]; 0 and +inf where ignored."""
    kind = torch.promote_types(logits.dtype, torch.float32)
    losses, totals = (torch.empty(target.shape, dtype=kind, device=logits.device) for _ in "ab")
    shares = _shares(logits, settings.weight, kind)
    smoothing = settings.label_smoothing / logits.shape[1]
    for image, rows, scores in _bands(logits, target.shape, settings.align_corners):
        labels = target[image, rows].long()
        counts = labels != settings.ignore_index
        labels = labels.where(counts, 0)
        total = scores.logsumexp(0)
        own = (1 - settings.label_smoothing) * shares[labels]
        found = own * (total - scores.gather(0, labels[None])[0])
        if smoothing:
            smooth = shares.sum() * total - torch.tensordot(shares, scores, dims=1)
            found = found + smoothing * smooth
        losses[image, rows] = found.where(counts, 0)
        totals[image, rows] = total.where(counts, torch.inf)
    return losses, totals


def backward(
    gradient: Tensor,
    totals: Tensor,
    logits: Tensor,
    target: Tensor,
    settings: Settings,
) -> Tensor:
    """The gradient of the logits, [N, C, h, w], from that of the losses, [N, H, W]."""
    kind, height, width = totals.dtype, *totals.shape[1:]
    shares = _shares(logits, settings.weight, kind)
    smoothing = settings.label_smoothing / logits.shape[1]
    upright, level = (
        matrix(taps(features, pixels, settings.align_corners)).to(logits.device, kind)
        for features, pixels in ((logits.shape[2], height), (logits.shape[3], width))
    )
    found = torch.zeros(logits.shape, dtype=kind, device=logits.device)
    for image, rows, scores in _bands(logits, totals.shape, settings.align_corners):
        labels = target[image, rows].long()
        counts = labels != settings.ignore_index
        labels = labels.where(counts, 0)
        own = (1 - settings.label_smoothing) * shares[labels]
        one = scores.sub_(totals[image, rows]).exp_().mul_(own + smoothing * shares.sum())
        one.scatter_add_(0, labels[None], -own[None])
        if smoothing:
            one -= smoothing * shares[:, None, None]
        one.mul_((gradient[image, rows].to(kind)).where(counts, 0))
        found[image] += torch.matmul(upright[rows].T, torch.matmul(one, level))
    return found.to(logits.dtype)


def argmax(logits: Tensor, size: tuple[int, int], align_corners: bool) -> Tensor:
    """The class with the largest logit of each pixel, int64 [N, H, W]."""
    shape = torch.Size((len(logits), *size))
    found = torch.empty(shape, dtype=torch.int64, device=logits.device)
    for image, rows, scores in _bands(logits, shape, align_corners):
        found[image, rows] = scores.argmax(0)
    return found


def confusion(logits: Tensor, target: Tensor, align_corners: bool, ignore_index: int) -> Tensor:
    """How many pixels of each class have each prediction, int64 [C, C]."""
    classes = logits.shape[1]
    found = torch.zeros(classes**2, dtype=torch.int64, device=logits.device)
    for image, rows, scores in _bands(logits, target.shape, align_corners):
        labels = target[image, rows].long()
        counts = labels != ignore_index
        pairs = classes * labels[counts] + scores.argmax(0)[counts]
        found += torch.bincount(pairs, minlength=classes**2)
    return found.reshape(classes, classes)


def _shares(logits: Tensor, weight: Tensor | None, kind: torch.dtype) -> Tensor:
    """The weight of each class, [C]."""
    if weight is not None:
        return weight.to(kind)
    return torch.ones(logits.shape[1], dtype=kind, device=logits.device)


def _bands(
    logits: Tensor, shape: torch.Size, align_corners: bool
) -> Iterator[tuple[int, slice, Tensor]]:
    """Image, rows, and their logits, [C, rows, W], for every band of every image."""
    kind = torch.promote_types(logits.dtype, torch.float32)
    count, height, width = shape
    upright = taps(logits.shape[2], height, align_corners)
    level = taps(logits.shape[3], width, align_corners)
    step = max(1, BAND_VALUES // (logits.shape[1] * width))
    for image in range(count):
        for begin in range(0, height, step):
            rows = slice(begin, min(begin + step, height))
            scores = _between(logits[image].to(kind), upright, rows, 1)
            yield image, rows, _between(scores, level, slice(0, width), 2)


def _between(scores: Tensor, side: Taps, part: slice, axis: int) -> Tensor:
    """Interpolates one axis of [C, h, w]."""
    shape = [1, -1, 1] if axis == 1 else [1, 1, -1]
    first, second = (
        scores.index_select(axis, index[part].to(scores.device))
        for index in (side.first, side.second)
    )
    share = side.share[part].to(scores.device, scores.dtype).reshape(shape)
    return first.mul_(1 - share).add_(second.mul_(share))
