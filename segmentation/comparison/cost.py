"""Counts parameters and multiply-adds of models, and matches models in one of them."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from upmap.segmentation.models import (
    MAX_DECODER_WIDTH,
    ModelOptions,
    SelfAttention,
    build_meta_model,
)
from upmap.segmentation.upsampling import Size, Upsampler

__all__ = ["BUDGETS", "Budget", "macs", "match_budget", "parameters"]

Budget = Literal["free", "params", "macs"]
TOLERANCE = 0.01  # relative difference below which two models cost the same
MAX_RELATIVE_EXCESS = 0.05  # of a matched model over its target
STEPS = 12  # of bisection: 0.001 of the width, finer than whole channels
MAX_WIDENING = 4.0  # factor on the decoder's width


def parameters(module: nn.Module) -> int:
    """The number of learned values of a module.

    >>> parameters(nn.Conv2d(3, 4, 1))
    16
    """
    return sum(parameter.numel() for parameter in module.parameters())


def macs(module: nn.Module, size: Size) -> int:
    """Multiply-adds for one image: convolutions, attention and upsampling operators.

    Normalization, activations and biases are left out, as is usual. A module on the device "meta"
    is enough.

    Args:
        module: Takes float [B, 3, H, W]; on any device.
        size: H and W, px.
    """
    counter = _MacCounter()
    hooks = counter.add_hooks(module)
    is_training = module.training
    images = next(module.parameters()).new_zeros(1, 3, *size)
    try:
        with torch.no_grad():
            module.eval()(images)
    finally:
        module.train(is_training)
        for hook in hooks:
            hook.remove()
    return counter.total


class _MacCounter:
    """Forward hooks that add up multiply-adds.

    An operator counts its own, so that layers within one are skipped.
    """

    def __init__(self) -> None:
        self.total = 0
        self.running: list[Upsampler] = []

    def add_hooks(self, module: nn.Module) -> list[RemovableHandle]:
        hooks: list[RemovableHandle] = []
        for layer in module.modules():
            if isinstance(layer, Upsampler):
                hooks.append(layer.register_forward_pre_hook(self.enter_operator))
                hooks.append(layer.register_forward_hook(self.leave_operator))
            elif isinstance(layer, nn.Conv2d | SelfAttention):
                hooks.append(layer.register_forward_hook(self.count_layer))
        return hooks

    def enter_operator(self, operator: Upsampler, inputs: tuple[Any, ...]) -> None:
        self.running.append(operator)

    def leave_operator(self, operator: Upsampler, inputs: tuple[Any, ...], output: Tensor) -> None:
        self.running.pop()
        self.total += operator.macs(*inputs[0].shape[2:])

    def count_layer(self, layer: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
        if not self.running:
            self.total += _layer_macs(layer, output)


def _layer_macs(layer: nn.Module, output: Tensor) -> int:
    """Multiply-adds of one layer: a convolution, or the two products of attention."""
    positions = output.shape[2] * output.shape[3]
    if isinstance(layer, nn.Conv2d):
        return layer.weight.numel() * positions
    return 2 * output.shape[1] * positions**2  # query x key, then weights x value


def match_budget(options: ModelOptions, budget: Budget, size: Size) -> ModelOptions:
    """Sets the width of a decoder so that it costs as much as one with bilinear upsampling.

    Operators have parameters and multiply-adds of their own, so that a comparison of equal widths
    is one of unequal budgets. Models within 1 % stay as they are; widths are whole channels, so a
    match is not exact.

    Args:
        options: The model; its decoder_width is that of the bilinear model.
        budget: "free" matches nothing, "params" parameters, "macs" multiply-adds.
        size: Height and width of the image that multiply-adds are counted for, px.

    Raises:
        ValueError: If there is no such budget, or no width of the decoder meets it.
    """
    if budget not in BUDGETS:
        raise ValueError(f"budget must be one of {', '.join(BUDGETS)}, not {budget!r}")
    cost = BUDGETS[budget]
    if cost is None:
        return options
    target = cost(replace(options, upsampling="bilinear", upsampling_options={}), size)

    def excess(width: float) -> int:
        return cost(replace(options, decoder_width=width), size) - target

    if abs(excess(options.decoder_width)) <= TOLERANCE * target:
        return options
    low, high = 0.0, min(MAX_WIDENING * options.decoder_width, MAX_DECODER_WIDTH)
    for _ in range(STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if excess(middle) < 0 else (low, middle)
    width = min((low, high), key=lambda width: abs(excess(width)) if width > 0 else math.inf)
    if abs(excess(width)) > MAX_RELATIVE_EXCESS * target:
        raise ValueError(
            f"no decoder with {options.upsampling} costs the {target:,} {budget} of bilinear; "
            f"the nearest costs {excess(width):+,}"
        )
    return replace(options, decoder_width=width)


def _parameter_cost(options: ModelOptions, size: Size) -> int:
    return parameters(build_meta_model(options))


def _mac_cost(options: ModelOptions, size: Size) -> int:
    return macs(build_meta_model(options), size)


BUDGETS: dict[Budget, Callable[[ModelOptions, Size], int] | None] = {
    "free": None,
    "params": _parameter_cost,
    "macs": _mac_cost,
}
