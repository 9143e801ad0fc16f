"""Optimizers, learning rate schedules and precisions of training.

Sources: Loshchilov and Hutter, "Decoupled Weight Decay Regularization", ICLR 2019; Micikevicius et
al., "Mixed Precision Training", ICLR 2018; Chen et al., "DeepLab", PAMI 2018 (poly).
"""

import contextlib
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from torch import nn
from torch.optim import Optimizer

from upmap.options import Choices, Range, validate_fields

__all__ = [
    "OPTIMIZERS",
    "PRECISIONS",
    "SCHEDULES",
    "OptimizationOptions",
    "autocast",
    "build_optimizer",
    "grad_scaler",
    "learning_rate",
    "resolve_precision",
]

POLY_POWER = 0.9  # DeepLab's
MOMENTUM = 0.9


@dataclass(frozen=True, slots=True, kw_only=True)
class OptimizationOptions:
    """Options of the optimizer.

    Attributes:
        optimizer: The optimizer.
        learning_rate: The learning rate at its peak, after the warm-up.
        weight_decay: Weight decay, decoupled under adamw; norms and biases have none.
        schedule: Schedule of the learning rate; poly and cosine fall to 0 at the last step.
        warmup: Share of all steps in which the learning rate rises from 0.
        clip: Maximum norm of the gradient; 0 does not clip.
        precision: Precision of the forward pass; fp16 scales gradients, auto is bf16 on GPUs that
            have it and fp32 elsewhere.
    """

    optimizer: Annotated[str, Choices(lambda: OPTIMIZERS)] = "adamw"
    learning_rate: Annotated[float, Range(0, 1000)] = 2e-3
    weight_decay: Annotated[float, Range(0, 1000)] = 0.01
    schedule: Annotated[str, Choices(lambda: SCHEDULES)] = "poly"
    warmup: Annotated[float, Range(0, 1, below=True)] = 0.05
    clip: Annotated[float, Range(0, 1e9)] = 1.0
    precision: Annotated[str, Choices(lambda: ("auto", *PRECISIONS))] = "auto"

    def __post_init__(self) -> None:
        validate_fields(self)


def build_optimizer(model: nn.Module, options: OptimizationOptions) -> Optimizer:
    """The optimizer of a model's parameters; norms and biases have no weight decay."""
    # Norms and biases are the parameters of one dimension.
    weights = [p for p in model.parameters() if p.requires_grad and p.ndim > 1]
    others = [p for p in model.parameters() if p.requires_grad and p.ndim <= 1]
    groups = [
        {"params": weights, "weight_decay": options.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    return OPTIMIZERS[options.optimizer](groups, options.learning_rate)


def learning_rate(step: int, steps: int, options: OptimizationOptions) -> float:
    """The learning rate of one step.

    Args:
        step: The number of the step, from 0.
        steps: The number of steps of the training.
        options: The options.

    >>> [learning_rate(i, 4, OptimizationOptions(schedule="cosine", warmup=0.5)) for i in range(4)]
    [0.001, 0.002, 0.002, 0.001]
    """
    warmup = round(options.warmup * steps)
    if step < warmup:
        return options.learning_rate * (step + 1) / warmup
    share = (step - warmup) / max(1, steps - warmup)
    return options.learning_rate * SCHEDULES[options.schedule](share)


def resolve_precision(precision: str, device: torch.device) -> str:
    """The key of PRECISIONS that `auto` stands for on a device; other names stay.

    A CPU computes in fp32: whether it has bf16 differs from machine to machine, and results must
    not.

    >>> resolve_precision("auto", torch.device("cpu"))
    'fp32'
    """
    if precision != "auto":
        return precision
    # Without emulation, which GPUs before Ampere have and which is slower than fp32.
    has_bf16 = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return "bf16" if has_bf16 else "fp32"


def autocast(device: torch.device, precision: str) -> contextlib.AbstractContextManager[Any]:
    """The context in which a model is called; `precision` is a key of PRECISIONS, or auto."""
    dtype = PRECISIONS[resolve_precision(precision, device)]
    if dtype is None:
        return contextlib.nullcontext()
    return torch.autocast(device.type, dtype=dtype)


def grad_scaler(device: torch.device, precision: str) -> torch.amp.GradScaler:
    """Scales the loss so that small gradients do not vanish in float16; else does nothing."""
    return torch.amp.GradScaler(device.type, enabled=precision == "fp16")


OPTIMIZERS: dict[str, Callable[[Iterable[dict[str, Any]], float], Optimizer]] = {
    "adamw": lambda groups, rate: torch.optim.AdamW(groups, lr=rate),
    "adam": lambda groups, rate: torch.optim.Adam(groups, lr=rate),
    "sgd": lambda groups, rate: torch.optim.SGD(groups, lr=rate, momentum=MOMENTUM),
}
SCHEDULES: dict[str, Callable[[float], float]] = {  # share of steps taken to share of the rate
    "poly": lambda share: (1 - share) ** POLY_POWER,
    "cosine": lambda share: (1 + math.cos(math.pi * share)) / 2,
    "constant": lambda share: 1.0,
}
PRECISIONS: dict[str, torch.dtype | None] = {
    "fp32": None,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
}
