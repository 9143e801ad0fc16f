"""The fused operation on NVIDIA GPUs; on a CPU in Triton's interpreter, if TRITON_INTERPRET=1."""

import os
from functools import lru_cache
from typing import Any

import torch
import triton
from torch import Tensor

from upmap.kernels.upsample_ce import triton_kernels
from upmap.kernels.upsample_ce.settings import Settings
from upmap.kernels.upsample_ce.taps import Taps, taps

__all__ = ["argmax", "backward", "confusion", "forward", "is_interpreted"]

FORWARD_TILE = (8, 128)  # classes, pixels
BACKWARD_TILE = (4, 128)  # classes, features
INTERPRETED_VALUES = 1 << 18  # of a tile: the interpreter takes its time for each program


def is_interpreted() -> bool:
    """Whether kernels run on the CPU, by Triton's interpreter."""
    return os.environ.get("TRITON_INTERPRET") == "1"


def forward(logits: Tensor, target: Tensor, settings: Settings) -> tuple[Tensor, Tensor]:
    """See `upmap.kernels.upsample_ce.chunked.forward`."""
    _refuse_strangers(target, logits.shape[1], settings.ignore_index)
    losses, totals = (torch.empty(target.shape, device=logits.device) for _ in "ab")
    weights = _weights(logits, settings.weight)
    block_classes, block = _tile(logits.shape[1], target.numel(), FORWARD_TILE)
    triton_kernels.forward_kernel[(triton.cdiv(target.numel(), block),)](
        logits.contiguous(),
        target.contiguous(),
        weights,
        *_sides(logits, target.shape, settings.align_corners),
        losses,
        totals,
        *logits.shape[1:],
        *target.shape[1:],
        target.numel(),
        settings.ignore_index,
        settings.label_smoothing,
        weights.sum(),
        BC=block_classes,
        BP=block,
        enable_fp_fusion=True,  # no official tool has these last bits
    )
    return losses, totals


def backward(
    gradient: Tensor,
    totals: Tensor,
    logits: Tensor,
    target: Tensor,
    settings: Settings,
) -> Tensor:
    """See `upmap.kernels.upsample_ce.chunked.backward`."""
    found = torch.empty(logits.shape, dtype=logits.dtype, device=logits.device)
    weights = _weights(logits, settings.weight)
    features, classes = found.numel() // logits.shape[1], logits.shape[1]
    block_classes, block = _tile(classes, features, BACKWARD_TILE)
    upright = _readers(logits.shape[2], target.shape[1], settings.align_corners, logits.device)
    level = _readers(logits.shape[3], target.shape[2], settings.align_corners, logits.device)
    grid = (triton.cdiv(features, block), triton.cdiv(classes, block_classes))
    triton_kernels.backward_kernel[grid](
        gradient.contiguous(),
        totals,
        logits.contiguous(),
        target.contiguous(),
        weights,
        *_sides(logits, target.shape, settings.align_corners),
        *upright[:2],
        *level[:2],
        found,
        *logits.shape[1:],
        *target.shape[1:],
        features,
        upright[2],
        level[2],
        settings.ignore_index,
        settings.label_smoothing,
        weights.sum(),
        BC=block_classes,
        BP=block,
        enable_fp_fusion=True,
    )
    return found


def argmax(logits: Tensor, size: tuple[int, int], align_corners: bool) -> Tensor:
    """See `upmap.kernels.upsample_ce.chunked.argmax`."""
    found = torch.empty((len(logits), *size), dtype=torch.int64, device=logits.device)
    block_classes, block = _tile(logits.shape[1], found.numel(), FORWARD_TILE)
    triton_kernels.argmax_kernel[(triton.cdiv(found.numel(), block),)](
        logits.contiguous(),
        *_sides(logits, found.shape, align_corners),
        found,
        *logits.shape[1:],
        *size,
        found.numel(),
        BC=block_classes,
        BP=block,
        enable_fp_fusion=True,
    )
    return found


def confusion(logits: Tensor, target: Tensor, align_corners: bool, ignore_index: int) -> Tensor:
    """See `upmap.kernels.upsample_ce.chunked.confusion`."""
    classes = logits.shape[1]
    _refuse_strangers(target, classes, ignore_index)
    counts = torch.zeros(classes, classes, dtype=torch.int64, device=logits.device)
    block_classes, block = _tile(classes, target.numel(), FORWARD_TILE)
    triton_kernels.confusion_kernel[(triton.cdiv(target.numel(), block),)](
        logits.contiguous(),
        target.contiguous(),
        *_sides(logits, target.shape, align_corners),
        counts,
        *logits.shape[1:],
        *target.shape[1:],
        target.numel(),
        ignore_index,
        BC=block_classes,
        BP=block,
        enable_fp_fusion=True,
    )
    return counts


def _refuse_strangers(target: Tensor, classes: int, ignore_index: int) -> None:
    """Refuses labels that are no class; on a GPU later, without waiting for it, as torch does."""
    is_known = (target == ignore_index) | ((target >= 0) & (target < classes))
    torch._assert_async(is_known.all(), f"a label is not in 0 .. {classes - 1}")


def _weights(logits: Tensor, weight: Tensor | None) -> Tensor:
    if weight is None:
        return torch.ones(logits.shape[1], device=logits.device)
    return weight.detach().float().contiguous()


def _tile(classes: int, places: int, usual: tuple[int, int]) -> tuple[int, int]:
    """Classes, and pixels or features, of a program."""
    if not is_interpreted():
        return usual
    block_classes = triton.next_power_of_2(classes)
    most = max(1, INTERPRETED_VALUES // block_classes)
    return block_classes, min(triton.next_power_of_2(places), most)


def _sides(logits: Tensor, shape: torch.Size, align_corners: bool) -> tuple[Tensor, ...]:
    """First, second and share of rows, then of columns."""
    sizes = zip(logits.shape[2:], shape[1:], strict=True)
    return tuple(tensor for one in sizes for tensor in _side(*one, align_corners, logits.device))


@lru_cache(maxsize=64)
def _side(
    features: int, pixels: int, align_corners: bool, device: torch.device
) -> tuple[Tensor, ...]:
    one: Taps = taps(features, pixels, align_corners)
    return one.first.to(device), one.second.to(device), one.share.float().to(device)


@lru_cache(maxsize=64)
def _readers(
    features: int, pixels: int, align_corners: bool, device: torch.device
) -> tuple[Any, ...]:
    """The first pixel that reads each feature, the one after the last, and how many at most."""
    one = taps(features, pixels, align_corners)
    every = torch.arange(features, dtype=torch.int32)
    begin = torch.searchsorted(one.second.contiguous(), every, side="left", out_int32=True)
    end = torch.searchsorted(one.first.contiguous(), every, side="right", out_int32=True)
    return begin.to(device), end.to(device), int((end - begin).clamp(min=0).max())
