"""The passes of an implementation as operators that torch's autograd and torch.compile know."""

from typing import Any

import torch
from torch import Tensor

from upmap.kernels.upsample_ce.contract import Implementation, Passes, Settings

__all__ = ["fuse_passes"]

PASSES: dict[str, Passes] = {}  # by name, because an operator's arguments are tensors and scalars


def fuse_passes(
    impl: str, passes: Passes, devices: tuple[str, ...], dtypes: tuple[torch.dtype, ...]
) -> Implementation:
    """The implementation that consists of `passes`, which the operators call `impl`."""

    def losses(logits: Tensor, target: Tensor, settings: Settings) -> Tensor:
        losses_of_pixels: Tensor = _forward(
            logits,
            target,
            settings.class_weights,
            align_corners=settings.align_corners,
            ignore_index=settings.ignore_index,
            label_smoothing=settings.label_smoothing,
            impl=impl,
        )[0]
        return losses_of_pixels

    PASSES[impl] = passes
    return Implementation(losses, passes.argmax, passes.confusion, devices, dtypes)


@torch.library.custom_op("upmap::upsample_ce_forward", mutates_args=())
def _forward(
    logits: Tensor,
    target: Tensor,
    class_weights: Tensor | None,
    *,
    align_corners: bool,
    ignore_index: int,
    label_smoothing: float,
    impl: str,
) -> tuple[Tensor, Tensor]:
    """Losses and logsumexps of pixels, both [N, H, W]."""
    settings = Settings(class_weights, align_corners, ignore_index, label_smoothing)
    return PASSES[impl].forward(logits, target, settings)


@torch.library.custom_op("upmap::upsample_ce_backward", mutates_args=())
def _backward(
    gradient: Tensor,
    logsumexps: Tensor,
    logits: Tensor,
    target: Tensor,
    class_weights: Tensor | None,
    *,
    align_corners: bool,
    ignore_index: int,
    label_smoothing: float,
    impl: str,
) -> Tensor:
    """The gradient of the logits, [N, C, h, w]."""
    settings = Settings(class_weights, align_corners, ignore_index, label_smoothing)
    return PASSES[impl].backward(gradient, logsumexps, logits, target, settings)


def _forward_shapes(
    logits: Tensor, target: Tensor, class_weights: Tensor | None, **settings: Any
) -> tuple[Tensor, Tensor]:
    dtype = torch.promote_types(logits.dtype, torch.float32)
    losses = logits.new_empty(target.shape, dtype=dtype)
    return losses, torch.empty_like(losses)


def _backward_shapes(
    gradient: Tensor, logsumexps: Tensor, logits: Tensor, *others: Any, **settings: Any
) -> Tensor:
    return logits.new_empty(logits.shape)


def _save_for_backward(
    ctx: Any,
    inputs: tuple[Any, ...],
    keyword_only_inputs: dict[str, Any],
    output: tuple[Tensor, Tensor],
) -> None:
    logits, target, class_weights = inputs
    ctx.save_for_backward(output[1], logits, target, class_weights)
    ctx.settings = keyword_only_inputs


def _gradients(ctx: Any, gradient: Tensor, of_logsumexps: Tensor) -> tuple[Tensor | None, ...]:
    """The gradients of _forward's tensors: of the logits only."""
    return _backward(gradient, *ctx.saved_tensors, **ctx.settings), None, None


_forward.register_fake(_forward_shapes)
_backward.register_fake(_backward_shapes)
_forward.register_autograd(_gradients, setup_context=_save_for_backward)
