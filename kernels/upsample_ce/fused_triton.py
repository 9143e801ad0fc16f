"""The fused operation on NVIDIA GPUs; on a CPU in Triton's interpreter, if TRITON_INTERPRET=1.

Launches the kernels of triton_kernels.py.
"""

import os
from functools import lru_cache
from typing import Any

import torch
import triton
from torch import Tensor

from upmap.kernels.upsample_ce import triton_kernels
from upmap.kernels.upsample_ce.contract import Settings, Size
from upmap.kernels.upsample_ce.taps import interpolation_taps

__all__ = ["argmax", "backward", "confusion", "forward", "is_interpreted"]

FORWARD_TILE = (8, 128)  # classes, pixels
BACKWARD_TILE = (4, 128)  # classes, source pixels
INTERPRETED_VALUES = 1 << 18  # of a tile: the interpreter is slow for each program, not each value


def is_interpreted() -> bool:
    """Whether kernels run on the CPU, by Triton's interpreter."""
    return os.environ.get("TRITON_INTERPRET") == "1"


def forward(logits: Tensor, target: Tensor, settings: Settings) -> tuple[Tensor, Tensor]:
    """See `upmap.kernels.upsample_ce.chunked.forward`."""
    _check_labels(target, logits.shape[1], settings.ignore_index)
    losses = torch.empty(target.shape, device=logits.device)
    logsumexps = torch.empty_like(losses)
    class_weights = _class_weights(logits, settings.class_weights)
    block_classes, block = _tile(logits.shape[1], target.numel(), FORWARD_TILE)
    triton_kernels.forward_kernel[(triton.cdiv(target.numel(), block),)](
        logits.contiguous(),
        target.contiguous(),
        class_weights,
        *_tap_tensors(logits, target.shape, settings.align_corners),
        losses,
        logsumexps,
        *logits.shape[1:],
        *target.shape[1:],
        target.numel(),
        settings.ignore_index,
        settings.label_smoothing,
        class_weights.sum(),
        BC=block_classes,
        BP=block,
        enable_fp_fusion=True,  # no official tool defines these last bits
    )
    return losses, logsumexps


def backward(
    gradient: Tensor,
    logsumexps: Tensor,
    logits: Tensor,
    target: Tensor,
    settings: Settings,
) -> Tensor:
    """See `upmap.kernels.upsample_ce.chunked.backward`."""
    result = torch.empty(logits.shape, dtype=logits.dtype, device=logits.device)
    class_weights = _class_weights(logits, settings.class_weights)
    classes = logits.shape[1]
    sources = result.numel() // classes
    block_classes, block = _tile(classes, sources, BACKWARD_TILE)
    rows, columns = (
        _readers(logits.shape[axis + 1], target.shape[axis], settings.align_corners, logits.device)
        for axis in (1, 2)
    )
    grid = (triton.cdiv(sources, block), triton.cdiv(classes, block_classes))
    triton_kernels.backward_kernel[grid](
        gradient.contiguous(),
        logsumexps,
        logits.contiguous(),
        target.contiguous(),
        class_weights,
        *_tap_tensors(logits, target.shape, settings.align_corners),
        *rows[:2],
        *columns[:2],
        result,
        *logits.shape[1:],
        *target.shape[1:],
        sources,
        rows[2],
        columns[2],
        settings.ignore_index,
        settings.label_smoothing,
        class_weights.sum(),
        BC=block_classes,
        BP=block,
        enable_fp_fusion=True,
    )
    return result


def argmax(logits: Tensor, size: Size, align_corners: bool) -> Tensor:
    """See `upmap.kernels.upsample_ce.chunked.argmax`."""
    best = torch.empty((len(logits), *size), dtype=torch.int64, device=logits.device)
    block_classes, block = _tile(logits.shape[1], best.numel(), FORWARD_TILE)
    triton_kernels.argmax_kernel[(triton.cdiv(best.numel(), block),)](
        logits.contiguous(),
        *_tap_tensors(logits, best.shape, align_corners),
        best,
        *logits.shape[1:],
        *size,
        best.numel(),
        BC=block_classes,
        BP=block,
        enable_fp_fusion=True,
    )
    return best


def confusion(logits: Tensor, target: Tensor, align_corners: bool, ignore_index: int) -> Tensor:
    """See `upmap.kernels.upsample_ce.chunked.confusion`."""
    classes = logits.shape[1]
    _check_labels(target, classes, ignore_index)
    counts = torch.zeros(classes, classes, dtype=torch.int64, device=logits.device)
    block_classes, block = _tile(classes, target.numel(), FORWARD_TILE)
    triton_kernels.confusion_kernel[(triton.cdiv(target.numel(), block),)](
        logits.contiguous(),
        target.contiguous(),
        *_tap_tensors(logits, target.shape, align_corners),
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


def _check_labels(target: Tensor, classes: int, ignore_index: int) -> None:
    """Asserts that labels are in range; on a GPU asynchronously, as torch does."""
    is_known = (target == ignore_index) | ((target >= 0) & (target < classes))
    torch._assert_async(is_known.all(), f"a label is not in 0 .. {classes - 1}")


def _class_weights(logits: Tensor, class_weights: Tensor | None) -> Tensor:
    if class_weights is None:
        return torch.ones(logits.shape[1], device=logits.device)
    return class_weights.detach().float().contiguous()


def _tile(classes: int, pixels: int, default: tuple[int, int]) -> tuple[int, int]:
    """The classes, and the pixels or source pixels, of a program."""
    if not is_interpreted():
        return default
    block_classes = triton.next_power_of_2(classes)
    largest = max(1, INTERPRETED_VALUES // block_classes)
    return block_classes, min(triton.next_power_of_2(pixels), largest)


def _tap_tensors(logits: Tensor, shape: torch.Size, align_corners: bool) -> tuple[Tensor, ...]:
    """First, second and weight of the taps of rows, then of columns."""
    rows, columns = zip(logits.shape[2:], shape[1:], strict=True)
    device = logits.device
    return _axis_tensors(*rows, align_corners, device) + _axis_tensors(
        *columns, align_corners, device
    )


@lru_cache(maxsize=64)
def _axis_tensors(
    source_pixels: int, pixels: int, align_corners: bool, device: torch.device
) -> tuple[Tensor, ...]:
    axis = interpolation_taps(source_pixels, pixels, align_corners)
    return axis.first.to(device), axis.second.to(device), axis.weight.float().to(device)


@lru_cache(maxsize=64)
def _readers(
    source_pixels: int, pixels: int, align_corners: bool, device: torch.device
) -> tuple[Any, ...]:
    """Of each source pixel the first pixel that reads it, and the one after the last; the maximum.

    Taps ascend, so the readers of a source pixel are neighbors.
    """
    axis = interpolation_taps(source_pixels, pixels, align_corners)
    every = torch.arange(source_pixels, dtype=torch.int32)
    begin = torch.searchsorted(axis.second.contiguous(), every, side="left", out_int32=True)
    end = torch.searchsorted(axis.first.contiguous(), every, side="right", out_int32=True)
    return begin.to(device), end.to(device), int((end - begin).clamp(min=0).max())
