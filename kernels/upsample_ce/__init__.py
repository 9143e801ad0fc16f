"""Bilinear upsampling and cross-entropy in one operation, without the upsampled logits.

Training against labels of full resolution otherwise holds the logits of every class at that
resolution several times: 12 to 16 bytes for each. Here the logits of a pixel are interpolated where
they are needed, and again in the backward pass; one number is kept for each pixel. The formulas are
in docs/kernels.md.
"""

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from upmap.kernels import (
    IMPL_VARIABLE,
    import_native,
    refuse_unloadable,
    select_implementation,
)
from upmap.kernels.upsample_ce import chunked, reference
from upmap.kernels.upsample_ce.contract import (
    HALF_AND_SINGLE,
    LABEL_DTYPES,
    MAX_SIDE,
    Implementation,
    Reduction,
    Settings,
    Size,
)
from upmap.kernels.upsample_ce.operators import fuse_passes

if TYPE_CHECKING or import_native("upsample_ce") is not None:
    from upmap.kernels.upsample_ce import fused_native
else:
    fused_native = None

try:
    from upmap.kernels.upsample_ce import fused_triton
except ImportError as error:
    fused_triton = None  # type: ignore[assignment]
    WITHOUT_TRITON = (
        "triton is not installed"
        if isinstance(error, ModuleNotFoundError)
        else f"triton cannot be loaded: {error}"
    )

__all__ = [
    "IMPLEMENTATIONS",
    "Implementation",
    "explain_unavailable",
    "upsample_argmax",
    "upsample_confusion",
    "upsample_cross_entropy",
]

FEW_CLASSES = 3  # up to so many, torch's own kernels are as fast on a CPU


def upsample_cross_entropy(
    logits: Tensor,
    target: Tensor,
    *,
    size: Size | None = None,
    align_corners: bool = False,
    ignore_index: int = 255,
    weight: Tensor | None = None,
    label_smoothing: float = 0.0,
    reduction: Reduction = "mean",
    impl: str | None = None,
) -> Tensor:
    """Cross-entropy of logits that are upsampled bilinearly to the size of the labels.

    Computes what torch.nn.functional's interpolate and cross_entropy compute one after the other.
    Positions are in float64, so that results in float32 are more exact than theirs.

    Args:
        logits: float16, bfloat16, float32 or float64 [N, C, h, w], contiguous or channels_last.
        target: uint8, int32 or int64 [N, H, W], 0 .. C - 1 or ignore_index.
        size: H and W, which are checked; None for those of the labels.
        align_corners: Whether the outermost centers, instead of edges, coincide.
        ignore_index: The label of pixels that do not count.
        weight: float [C], of each class; takes no gradient. None for 1.
        label_smoothing: In [0, 1].
        reduction: "mean" over the weights of the pixels that count (NaN where none does), "sum", or
            "none" for float32 [N, H, W], 0 where ignored.
        impl: A key of IMPLEMENTATIONS; None selects the fastest for these logits.

    Returns:
        float32, float64 for logits of float64.

    Raises:
        ValueError: If shapes, dtypes or settings do not go together, or `impl` cannot be used.
        IndexError, RuntimeError: If a label is out of range; on a GPU as torch says so.

    >>> logits, target = torch.zeros(1, 4, 2, 2), torch.zeros(1, 8, 8, dtype=torch.uint8)
    >>> float(upsample_cross_entropy(logits, target))
    1.3862943649291992
    """
    _validate_pair(logits, target, size, ignore_index)
    _validate_settings(logits, weight, label_smoothing, reduction)
    implementation = _select_for(logits, impl)
    settings = Settings(weight, align_corners, ignore_index, label_smoothing)
    losses = implementation.losses(logits, target, settings)
    if reduction == "none":
        return losses
    total = losses.sum(dtype=torch.float64)
    if reduction == "mean":
        is_counted = target != ignore_index
        weights = is_counted
        if weight is not None:
            weights = weight[target.long().where(is_counted, 0)] * is_counted
        total = total / weights.sum(dtype=torch.float64)
    return total.to(losses.dtype)


def upsample_argmax(
    logits: Tensor, size: Size, *, align_corners: bool = False, impl: str | None = None
) -> Tensor:
    """The class with the largest logit at each pixel, int64 [N, H, W]; the first of equals.

    Args:
        logits: See `upsample_cross_entropy`.
        size: H and W.
        align_corners: See `upsample_cross_entropy`.
        impl: See `upsample_cross_entropy`.

    Raises:
        ValueError: If `size` is not positive or too large, or `impl` cannot be used.

    >>> upsample_argmax(torch.tensor([[[[0.0, 1.0]], [[1.0, 0.0]]]]), (1, 4)).tolist()
    [[[1, 1, 0, 0]]]
    """
    _validate_logits(logits)
    if min(size) < 1 or max(size) > MAX_SIDE:
        sides = f"{size[0]} x {size[1]}"
        raise ValueError(f"size must be 1 x 1 to {MAX_SIDE} x {MAX_SIDE}, not {sides}")
    return _select_for(logits, impl).argmax(logits.detach(), size, align_corners)


def upsample_confusion(
    logits: Tensor,
    target: Tensor,
    *,
    align_corners: bool = False,
    ignore_index: int = 255,
    impl: str | None = None,
) -> Tensor:
    """The number of pixels of each class with each prediction, int64 [C, C], exactly.

    Args:
        logits: See `upsample_cross_entropy`.
        target: See `upsample_cross_entropy`.
        align_corners: See `upsample_cross_entropy`.
        ignore_index: See `upsample_cross_entropy`.
        impl: See `upsample_cross_entropy`.

    Raises:
        ValueError, IndexError, RuntimeError: As `upsample_cross_entropy`.

    >>> logits = torch.tensor([[[[0.0, 1.0]], [[1.0, 0.0]]]])
    >>> upsample_confusion(logits, torch.tensor([[[1, 1, 1, 0]]], dtype=torch.uint8)).tolist()
    [[1, 0], [1, 2]]
    """
    _validate_pair(logits, target, None, ignore_index)
    implementation = _select_for(logits, impl)
    return implementation.confusion(logits.detach(), target, align_corners, ignore_index)


def explain_unavailable() -> dict[str, str]:
    """What this machine cannot run, though no build is missing, and why."""
    if fused_triton is None:
        return {"triton": WITHOUT_TRITON}
    if fused_triton.is_interpreted():
        return {}
    if not torch.cuda.is_available():
        return {"triton": "no NVIDIA GPU"}
    if not fused_triton.is_supported(torch.device("cuda", torch.cuda.current_device())):
        return {"triton": "the GPU is older than those that it is compiled for"}
    return {}


def _validate_logits(logits: Tensor) -> None:
    if logits.ndim != 4 or not logits.is_floating_point() or 0 in logits.shape:
        raise ValueError(f"logits must be float [N, C, h, w], not {_describe(logits)}")


def _validate_pair(logits: Tensor, target: Tensor, size: Size | None, ignore_index: int) -> None:
    _validate_logits(logits)
    if not -(2**63) <= ignore_index < 2**63:
        raise ValueError("ignore_index must fit into int64")
    is_wrong = target.ndim != 3 or len(target) != len(logits) or 0 in target.shape
    if is_wrong or target.dtype not in LABEL_DTYPES:
        expected = f"uint8, int32 or int64 [{len(logits)}, H, W]"
        raise ValueError(f"target must be {expected}, not {_describe(target)}")
    if size is not None and tuple(target.shape[1:]) != tuple(size):
        raise ValueError(f"target is {_describe(target)}, but size is {tuple(size)}")
    if target.device != logits.device:
        raise ValueError(f"target is on {target.device}, logits are on {logits.device}")


def _validate_settings(
    logits: Tensor, weight: Tensor | None, label_smoothing: float, reduction: str
) -> None:
    if weight is not None and list(weight.shape) != [logits.shape[1]]:
        raise ValueError(f"weight must be [{logits.shape[1]}], not {_describe(weight)}")
    if not 0 <= label_smoothing <= 1:
        raise ValueError(f"label_smoothing must lie in [0, 1], not {label_smoothing}")
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(f"reduction must be mean, sum or none, not {reduction!r}")


def _describe(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}"


def _select_for(logits: Tensor, impl: str | None) -> Implementation:
    """The implementation named by `impl` or the environment; else the fastest for `logits`."""
    name = impl or os.environ.get(IMPL_VARIABLE)
    if not name:
        return _fastest_for(logits)
    implementation = select_implementation(IMPLEMENTATIONS, name, "upsample_ce")
    if not implementation.takes(logits):
        dtype = str(logits.dtype).removeprefix("torch.")
        source = "impl" if impl else IMPL_VARIABLE
        raise ValueError(f"{source}={name!r} takes no {dtype} on {logits.device.type}")
    return implementation


def _fastest_for(logits: Tensor) -> Implementation:
    refuse_unloadable("upsample_ce")
    if logits.device.type != "cpu" or logits.shape[1] > FEW_CLASSES:
        for name in FASTER_THAN_TORCH:
            implementation = IMPLEMENTATIONS[name]
            if implementation is None or not implementation.takes(logits):
                continue
            if name != "triton" or fused_triton.is_supported(logits.device):
                return implementation
    return select_implementation(IMPLEMENTATIONS, "reference")


IMPLEMENTATIONS: Mapping[str, Implementation | None] = {
    "native": fuse_passes("native", fused_native, ("cpu",), HALF_AND_SINGLE)
    if fused_native
    else None,
    # Whether there is a GPU is not asked here: that would start CUDA in every process that imports.
    "triton": fuse_passes("triton", fused_triton, (fused_triton.device_type(),), HALF_AND_SINGLE)
    if fused_triton
    else None,
    "chunked": fuse_passes("chunked", chunked, ("cpu", "cuda"), (*HALF_AND_SINGLE, torch.float64)),
    "reference": Implementation(
        losses=reference.losses,
        argmax=reference.argmax,
        confusion=reference.confusion,
        devices=("cpu", "cuda"),
        dtypes=(*HALF_AND_SINGLE, torch.float64),
    ),
}
FASTER_THAN_TORCH = ("native", "triton")
