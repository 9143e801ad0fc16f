"""Measures time, memory and throughput of models, in turn."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from upmap.segmentation.optimization import autocast

__all__ = ["Measurement", "measure_models"]


@dataclass(frozen=True, slots=True)
class Measurement:
    """Time and memory of one model for one batch.

    Attributes:
        forward: Median time of the forward pass, s.
        forward_backward: Median time of the forward and backward pass, s.
        images_per_second: Throughput of forward and backward pass.
        memory: Bytes; on a GPU the peak that both passes allocate, on a CPU what the forward pass
            stores for the backward pass.
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
) -> dict[str, Measurement]:
    """Measures models in turn, so that other load on the machine affects all of them.

    Args:
        models: Name to model, on the images' device.
        images: float [B, 3, H, W].
        rounds: Number of timings of each model, after one that is discarded.
        precision: A key of PRECISIONS, for all or for each model.
    """
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in models}
    each = dict.fromkeys(models, precision) if isinstance(precision, str) else precision
    calls = {
        name: partial(_forward_backward, model, images, each[name])
        for name, model in models.items()
    }
    # In turn, not one model after the other: load on the machine then affects all of them.
    for _ in range(rounds + 1):
        for name, call in calls.items():
            with torch.no_grad():
                forward = _seconds(partial(_forward, *call.args), images.device)
            times[name].append((forward, _seconds(call, images.device)))
    measurements = {}
    for name, model in models.items():
        # The first round is discarded: it includes compilation and allocation.
        forward, both = np.median(times[name][1:], axis=0).tolist()
        memory = _memory(calls[name], model, images.device)
        measurements[name] = Measurement(forward, both, len(images) / both, memory)
    return measurements


def _forward(model: nn.Module, images: Tensor, precision: str) -> Tensor:
    with autocast(images.device, precision):
        result: Tensor = model(images)
    return result


def _forward_backward(model: nn.Module, images: Tensor, precision: str) -> None:
    _forward(model, images, precision).float().mean().backward()  # type: ignore[no-untyped-call]
    model.zero_grad(set_to_none=True)


def _seconds(call: Callable[[], object], device: torch.device) -> float:
    # A GPU runs asynchronously: without waiting, only the launch would be timed.
    _synchronize(device)
    began = time.perf_counter()
    call()
    _synchronize(device)
    return time.perf_counter() - began


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _memory(call: Callable[[], object], model: nn.Module, device: torch.device) -> int:
    """Bytes that a call needs beside the weights, see `Measurement.memory`."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        call()
        return torch.cuda.max_memory_allocated(device) - before
    # Views share storage: each storage counts once, and those of weights not at all.
    weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    stored: dict[int, int] = {}  # bytes of each storage that autograd keeps, once

    def record(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            stored[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(record, lambda tensor: tensor):
        call()
    return sum(stored.values())
