"""Bilinear upsampling and cross-entropy in one, without the upsampled logits.

Training against labels of full resolution otherwise holds their logits, of every class, several
times: 12 to 16 bytes for each. Here a pixel's logits are interpolated where they are needed, and
again in the backward pass; what is kept is one number for each pixel. docs/kernels.md has more.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from upmap.kernels import (
    IMPL_VARIABLE,
    import_native,
    refuse_unloadable,
    select_implementation,
)
from upmap.kernels.upsample_ce import chunked, reference
from upmap.kernels.upsample_ce.settings import Settings

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
    "upsample_argmax",
    "upsample_confusion",
    "upsample_cross_entropy",
]

Size = tuple[int, int]
Reduction = Literal["mean", "sum", "none"]
LABELS = (torch.uint8, torch.int32, torch.int64)
LARGEST_SIDE = 2**31 - 1  # px: places are int32
FEW_CLASSES = 3  # up to so many, torch's own kernels are as fast on a CPU
HALF_AND_SINGLE = (torch.float16, torch.bfloat16, torch.float32)


@dataclass(frozen=True, slots=True)
class Implementation:
    """One way to compute the operation.

    Attributes:
        losses: (logits, target, settings) to the loss of each pixel, with a gradient.
        argmax: (logits, size, align_corners) to the best class of each pixel.
        confusion: (logits, target, align_corners, ignore_index) to counts.
        devices: The types of device that it runs on.
        kinds: The dtypes of logits that it takes.
    """

    losses: Callable[[Tensor, Tensor, Settings], Tensor]
    argmax: Callable[[Tensor, Size, bool], Tensor]
    confusion: Callable[[Tensor, Tensor, bool, int], Tensor]
    devices: tuple[str, ...]
    kinds: tuple[torch.dtype, ...]


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

    What torch.nn.functional's interpolate and cross_entropy compute one after the other. Positions
    are taken in float64, so that float32 is closer to the truth than theirs.

    Args:
        logits: float16, bfloat16, float32 or float64 [N, C, h, w], contiguous or channels_last.
        target: uint8, int32 or int64 [N, H, W], 0 .. C - 1 or ignore_index.
        size: H and W, if they are to be checked.
        align_corners: Whether the outermost centers, instead of edges, coincide.
        ignore_index: The label of pixels that do not count.
        weight: float [C], of each class; takes no gradient. None for 1.
        label_smoothing: In [0, 1].
        reduction: "mean" over the weights of the pixels that count (NaN where none does), "sum", or
            "none" for float32 [N, H, W], 0 where ignored.
        impl: A key of IMPLEMENTATIONS; None for the best for these logits.

    Returns:
        float32, float64 for logits of float64.

    Raises:
        ValueError: If shapes, dtypes or settings do not go together, or `impl` cannot be used.
        IndexError, RuntimeError: If a label is out of range; on a GPU as torch says so.

    >>> logits, target = torch.zeros(1, 4, 2, 2), torch.zeros(1, 8, 8, dtype=torch.uint8)
    >>> float(upsample_cross_entropy(logits, target))
    1.3862943649291992
    """
    _check(logits, target, size, ignore_index)
    _check_settings(logits, weight, label_smoothing, reduction)
    found = _select_passes(impl, logits)
    settings = Settings(weight, align_corners, ignore_index, label_smoothing)
    losses = found.losses(logits, target, settings)
    if reduction == "none":
        return losses
    total = losses.sum(dtype=torch.float64)
    if reduction == "mean":
        counts = target != ignore_index
        shares = counts if weight is None else weight[target.long().where(counts, 0)] * counts
        total = total / shares.sum(dtype=torch.float64)
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
    _check_logits(logits)
    if min(size) < 1 or max(size) > LARGEST_SIDE:
        sides = f"{size[0]} x {size[1]}"
        raise ValueError(f"size must be 1 x 1 to {LARGEST_SIDE} x {LARGEST_SIDE}, not {sides}")
    return _select_passes(impl, logits).argmax(logits.detach(), size, align_corners)


def upsample_confusion(
    logits: Tensor,
    target: Tensor,
    *,
    align_corners: bool = False,
    ignore_index: int = 255,
    impl: str | None = None,
) -> Tensor:
    """How many pixels of each class have each prediction, int64 [C, C], exactly.

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
    _check(logits, target, None, ignore_index)
    found = _select_passes(impl, logits)
    return found.confusion(logits.detach(), target, align_corners, ignore_index)


def _check_logits(logits: Tensor) -> None:
    if logits.ndim != 4 or not logits.is_floating_point() or 0 in logits.shape:
        raise ValueError(f"logits must be float [N, C, h, w], not {_describe(logits)}")


def _check(logits: Tensor, target: Tensor, size: Size | None, ignore_index: int) -> None:
    _check_logits(logits)
    if not -(2**63) <= ignore_index < 2**63:
        raise ValueError("ignore_index must fit into int64")
    is_wrong = target.ndim != 3 or len(target) != len(logits) or 0 in target.shape
    if is_wrong or target.dtype not in LABELS:
        wanted = f"uint8, int32 or int64 [{len(logits)}, H, W]"
        raise ValueError(f"target must be {wanted}, not {_describe(target)}")
    if size is not None and tuple(target.shape[1:]) != tuple(size):
        raise ValueError(f"target is {_describe(target)}, but size is {tuple(size)}")
    if target.device != logits.device:
        raise ValueError(f"target is on {target.device}, logits are on {logits.device}")


def _check_settings(
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


def _select_passes(impl: str | None, logits: Tensor) -> Implementation:
    """The implementation that is asked for, or the fastest for these logits."""
    name = impl or os.environ.get(IMPL_VARIABLE)
    if not name:
        return _fastest(logits)
    implementation = select_implementation(IMPLEMENTATIONS, name, "upsample_ce")
    if not _takes(implementation, logits):
        kind = str(logits.dtype).removeprefix("torch.")
        source = "impl" if impl else IMPL_VARIABLE
        raise ValueError(f"{source}={name!r} takes no {kind} on {logits.device.type}")
    return implementation


def _fastest(logits: Tensor) -> Implementation:
    refuse_unloadable("upsample_ce")
    if logits.device.type != "cpu" or logits.shape[1] > FEW_CLASSES:
        for name in FASTER_THAN_TORCH:
            implementation = IMPLEMENTATIONS[name]
            if implementation is not None and _takes(implementation, logits):
                return implementation
    return select_implementation(IMPLEMENTATIONS, "reference")


def _takes(found: Implementation, logits: Tensor) -> bool:
    return logits.device.type in found.devices and logits.dtype in found.kinds


@torch.library.custom_op("upmap::upsample_ce_forward", mutates_args=())
def _forward(
    logits: Tensor,
    target: Tensor,
    weight: Tensor | None,
    align_corners: bool,
    ignore_index: int,
    label_smoothing: float,
    impl: str,
) -> tuple[Tensor, Tensor]:
    """Losses and log-sum-exps of pixels, both [N, H, W]."""
    return PASSES[impl].forward(  # type: ignore[no-any-return]
        logits, target, Settings(weight, align_corners, ignore_index, label_smoothing)
    )


@torch.library.custom_op("upmap::upsample_ce_backward", mutates_args=())
def _backward(
    gradient: Tensor,
    totals: Tensor,
    logits: Tensor,
    target: Tensor,
    weight: Tensor | None,
    align_corners: bool,
    ignore_index: int,
    label_smoothing: float,
    impl: str,
) -> Tensor:
    """The gradient of the logits, [N, C, h, w]."""
    return PASSES[impl].backward(  # type: ignore[no-any-return]
        gradient,
        totals,
        logits,
        target,
        Settings(weight, align_corners, ignore_index, label_smoothing),
    )


def _forward_shapes(logits: Tensor, target: Tensor, *settings: Any) -> tuple[Tensor, Tensor]:
    kind = torch.promote_types(logits.dtype, torch.float32)
    losses, totals = (logits.new_empty(target.shape, dtype=kind) for _ in "ab")
    return losses, totals


def _backward_shapes(gradient: Tensor, totals: Tensor, logits: Tensor, *others: Any) -> Tensor:
    return logits.new_empty(logits.shape)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    logits, target, weight, *ctx.settings = inputs
    ctx.save_for_backward(output[1], logits, target, weight)


def _gradients(ctx: Any, gradient: Tensor, of_totals: Tensor) -> tuple[Tensor | None, ...]:
    found = _backward(gradient, *ctx.saved_tensors, *ctx.settings)
    return found, None, None, None, None, None, None


_forward.register_fake(_forward_shapes)
_backward.register_fake(_backward_shapes)
_forward.register_autograd(_gradients, setup_context=_keep)


def _fuse_passes(
    impl: str, devices: tuple[str, ...], kinds: tuple[torch.dtype, ...]
) -> Implementation:
    def losses(logits: Tensor, target: Tensor, settings: Settings) -> Tensor:
        found: Tensor = _forward(
            logits,
            target,
            settings.weight,
            settings.align_corners,
            settings.ignore_index,
            settings.label_smoothing,
            impl,
        )[0]
        return found

    passes = PASSES[impl]
    return Implementation(losses, passes.argmax, passes.confusion, devices, kinds)


def _triton_device() -> str:
    """Where Triton's kernels run, or nothing if they cannot."""
    if fused_triton is None:
        return ""
    if fused_triton.is_interpreted():
        return "cpu"
    return "cuda" if torch.cuda.is_available() else ""


PASSES: dict[str, Any] = {"native": fused_native, "triton": fused_triton, "chunked": chunked}
IMPLEMENTATIONS: Mapping[str, Implementation | None] = {
    "native": _fuse_passes("native", ("cpu",), HALF_AND_SINGLE) if fused_native else None,
    "triton": _fuse_passes("triton", (device,), HALF_AND_SINGLE)
    if (device := _triton_device())
    else None,
    "chunked": _fuse_passes("chunked", ("cpu", "cuda"), (*HALF_AND_SINGLE, torch.float64)),
    "reference": Implementation(
        losses=reference.losses,
        argmax=reference.argmax,
        confusion=reference.confusion,
        devices=("cpu", "cuda"),
        kinds=(*HALF_AND_SINGLE, torch.float64),
    ),
}
REASONS = {"triton": "no NVIDIA GPU" if fused_triton else WITHOUT_TRITON}
FASTER_THAN_TORCH = ("native", "triton")
