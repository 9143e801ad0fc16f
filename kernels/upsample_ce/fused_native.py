"""The fused operation in C++, on the CPU, in float32; see native.cpp."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from upmap.kernels.upsample_ce import native
from upmap.kernels.upsample_ce.settings import Settings
from upmap.kernels.upsample_ce.taps import Taps, taps

__all__ = ["argmax", "backward", "confusion", "forward"]

Side = tuple[Any, Any, Any]

THREADS = 0  # as many as the machine has
INSTRUCTION_SET = ""  # the best that the processor has


def forward(logits: Tensor, target: Tensor, settings: Settings) -> tuple[Tensor, Tensor]:
    """See `upmap.kernels.upsample_ce.chunked.forward`."""
    losses, totals = (torch.empty(target.shape) for _ in "ab")
    native.forward(
        _array(logits),
        _align(target),
        _weights(logits, settings.weight),
        *_sides(logits, target.shape, settings.align_corners),
        settings.ignore_index,
        settings.label_smoothing,
        losses.numpy(),
        totals.numpy(),
        THREADS,
        INSTRUCTION_SET,
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
    found = torch.empty(logits.shape)
    native.backward(
        _array(gradient),
        _align(totals),
        _array(logits),
        _align(target),
        _weights(logits, settings.weight),
        *_sides(logits, target.shape, settings.align_corners),
        settings.ignore_index,
        settings.label_smoothing,
        found.numpy(),
        THREADS,
        INSTRUCTION_SET,
    )
    return found.to(logits.dtype)


def argmax(logits: Tensor, size: tuple[int, int], align_corners: bool) -> Tensor:
    """See `upmap.kernels.upsample_ce.chunked.argmax`."""
    found = torch.empty((len(logits), *size), dtype=torch.int32)
    sides = _sides(logits, found.shape, align_corners)
    weights = _weights(logits, None)
    native.argmax(_array(logits), weights, *sides, found.numpy(), THREADS, INSTRUCTION_SET)
    return found.long()


def confusion(logits: Tensor, target: Tensor, align_corners: bool, ignore_index: int) -> Tensor:
    """See `upmap.kernels.upsample_ce.chunked.confusion`."""
    counts = torch.zeros(logits.shape[1], logits.shape[1], dtype=torch.int64)
    native.confusion(
        _array(logits),
        _align(target),
        _weights(logits, None),
        *_sides(logits, target.shape, align_corners),
        ignore_index,
        counts.numpy(),
        THREADS,
        INSTRUCTION_SET,
    )
    return counts


def _array(tensor: Tensor) -> NDArray[np.float32]:
    return _align(tensor.detach().float())


def _align(tensor: Tensor) -> NDArray[Any]:
    """The values in C order; copied if they begin between two of the machine's words."""
    return np.require(tensor.contiguous().numpy(), requirements=["C", "A"])


def _weights(logits: Tensor, weight: Tensor | None) -> NDArray[np.float32]:
    return _array(torch.ones(logits.shape[1]) if weight is None else weight)


def _sides(logits: Tensor, shape: torch.Size, align_corners: bool) -> tuple[Side, Side]:
    """Of rows and of columns: the first feature, the second, and the second's share."""
    return (
        _side(taps(logits.shape[2], shape[1], align_corners)),
        _side(taps(logits.shape[3], shape[2], align_corners)),
    )


def _side(one: Taps) -> Side:
    return one.first.numpy(), one.second.numpy(), one.share.float().numpy()
