"""What models take, measured side by side: time, memory, throughput."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from upmap.segmentation.optimization import autocast

__all__ = ["Measured", "measure_models"]


@dataclass(frozen=True, slots=True)
class Measured:
    """What one model takes for one batch.

    Attributes:
        forward: Median, s.
        forward_backward: Median, s.
        images_per_second: Of forward and backward.
        memory: Bytes: on a GPU the most that was allocated beyond what was before; on a CPU what
            the forward pass keeps for the backward pass.
    """

    forward: float
    forward_backward: float
    images_per_second: float
    memory: int


def measure_models(
    models: Mapping[str, nn.Module],
    images: Tensor,
    *,
    rounds: int = 9,
    precision: str | Mapping[str, str] = "fp32",
) -> dict[str, Measured]:
    """Measures models in turn, so that a busy machine is busy for all of them.

    Args:
        models: Name to model, in evaluation mode, on the images' device.
        images: float [B, 3, H, W].
        rounds: How often each is timed, after one that does not count.
        precision: A key of PRECISIONS, for all or for each model.
    """
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in models}
    each = dict.fromkeys(models, precision) if isinstance(precision, str) else precision
    calls = {name: partial(_both, model, images, each[name]) for name, model in models.items()}
    for _ in range(rounds + 1):
        for name, call in calls.items():
            with torch.no_grad():
                alone = _seconds(partial(_forward, *call.args), images.device)
            times[name].append((alone, _seconds(call, images.device)))
    found = {}
    for name, model in models.items():
        alone, together = np.median(times[name][1:], axis=0).tolist()
        memory = _memory(calls[name], model, images.device)
        found[name] = Measured(alone, together, len(images) / together, memory)
    return found


def _forward(model: nn.Module, images: Tensor, precision: str) -> Tensor:
    with autocast(images.device, precision):
        result: Tensor = model(images)
    return result


def _both(model: nn.Module, images: Tensor, precision: str) -> None:
    """Forward and backward."""
    _forward(model, images, precision).float().mean().backward()  # type: ignore[no-untyped-call]
    model.zero_grad(set_to_none=True)


def _seconds(call: Callable[[], object], device: torch.device) -> float:
    _wait(device)
    began = time.perf_counter()
    call()
    _wait(device)
    return time.perf_counter() - began


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _memory(call: Callable[[], object], model: nn.Module, device: torch.device) -> int:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        call()
        return torch.cuda.max_memory_allocated(device) - before
    weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        call()
    return sum(kept.values())
