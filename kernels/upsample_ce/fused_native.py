"""The fused operation in C++, on the CPU, in float32: native.cpp called with torch's tensors.

It computes with as many threads as torch does, so that one setting limits both.
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from upmap.kernels.upsample_ce import native
from upmap.kernels.upsample_ce.contract import Settings, Size
from upmap.kernels.upsample_ce.taps import Taps, interpolation_taps

__all__ = ["argmax", "backward", "confusion", "forward"]

TapArrays = tuple[Any, Any, Any]  # first, second and weight of one axis

INSTRUCTION_SET = ""  # the best of the processor


def forward(logits: Tensor, target: Tensor, settings: Settings) -> tuple[Tensor, Tensor]:
    """See `upmap.kernels.upsample_ce.chunked.forward`."""
    losses, logsumexps = torch.empty(target.shape), torch.empty(target.shape)
    native.forward(
        _float_array(logits),
        _array(target),
        _class_weights(logits, settings.class_weights),
        *_tap_arrays(logits, target.shape, settings.align_corners),
        settings.ignore_index,
        settings.label_smoothing,
        losses.numpy(),
        logsumexps.numpy(),
        torch.get_num_threads(),
        INSTRUCTION_SET,
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
    result = torch.empty(logits.shape)
    native.backward(
        _float_array(gradient),
        _array(logsumexps),
        _float_array(logits),
        _array(target),
        _class_weights(logits, settings.class_weights),
        *_tap_arrays(logits, target.shape, settings.align_corners),
        settings.ignore_index,
        settings.label_smoothing,
        result.numpy(),
        torch.get_num_threads(),
        INSTRUCTION_SET,
    )
    return result.to(logits.dtype)


def argmax(logits: Tensor, size: Size, align_corners: bool) -> Tensor:
    """See `upmap.kernels.upsample_ce.chunked.argmax`."""
    best = torch.empty((len(logits), *size), dtype=torch.int32)
    native.argmax(
        _float_array(logits),
        _class_weights(logits, None),
        *_tap_arrays(logits, best.shape, align_corners),
        best.numpy(),
        torch.get_num_threads(),
        INSTRUCTION_SET,
    )
    return best.long()


def confusion(logits: Tensor, target: Tensor, align_corners: bool, ignore_index: int) -> Tensor:
    """See `upmap.kernels.upsample_ce.chunked.confusion`."""
    counts = torch.zeros(logits.shape[1], logits.shape[1], dtype=torch.int64)
    native.confusion(
        _float_array(logits),
        _array(target),
        _class_weights(logits, None),
        *_tap_arrays(logits, target.shape, align_corners),
        ignore_index,
        counts.numpy(),
        torch.get_num_threads(),
        INSTRUCTION_SET,
    )
    return counts


def _float_array(tensor: Tensor) -> NDArray[np.float32]:
    return _array(tensor.detach().float())


def _array(tensor: Tensor) -> NDArray[Any]:
    """The values in C order and aligned: a tensor may begin between two words of memory."""
    return np.require(tensor.contiguous().numpy(), requirements=["C", "A"])


def _class_weights(logits: Tensor, class_weights: Tensor | None) -> NDArray[np.float32]:
    return _float_array(torch.ones(logits.shape[1]) if class_weights is None else class_weights)


def _tap_arrays(
    logits: Tensor, shape: torch.Size, align_corners: bool
) -> tuple[TapArrays, TapArrays]:
    """The taps of rows and of columns, weights in float32."""
    return (
        _axis_arrays(interpolation_taps(logits.shape[2], shape[1], align_corners)),
        _axis_arrays(interpolation_taps(logits.shape[3], shape[2], align_corners)),
    )


def _axis_arrays(axis: Taps) -> TapArrays:
    return axis.first.numpy(), axis.second.numpy(), axis.weight.float().numpy()
