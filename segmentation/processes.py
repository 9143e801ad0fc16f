"""The processes of a distributed training, by torch.distributed.

torchrun starts them. A program that was started without it is a single process of rank 0.
"""

import os
from collections.abc import Iterable
from typing import TypeVar

import torch
from torch import Tensor, distributed, nn

__all__ = [
    "broadcast_buffers",
    "broadcast_value",
    "join_processes",
    "leave_processes",
    "rank",
    "sum_over_processes",
    "wait_for_processes",
    "world_size",
]

T = TypeVar("T")


def join_processes() -> None:
    """Joins the other processes, if torchrun started this one among several."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        # NCCL communicates between GPUs, Gloo between CPUs.
        distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo")


def leave_processes() -> None:
    """Ends what `join_processes` began."""
    if distributed.is_initialized():
        distributed.destroy_process_group()


def rank() -> int:
    """The number of this process, from 0."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def world_size() -> int:
    """The number of processes."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def wait_for_processes() -> None:
    """Returns once every process has called it."""
    if world_size() > 1:
        distributed.barrier()


def sum_over_processes(value: Tensor) -> Tensor:
    """The sum of the tensors that all processes pass; `value` itself is not changed."""
    if world_size() > 1:
        value = value.clone()
        distributed.all_reduce(value)
    return value


def broadcast_value(value: T) -> T:
    """What process 0 passes, in every process."""
    values = [value]
    if world_size() > 1:
        distributed.broadcast_object_list(values, 0)
    return values[0]


def broadcast_buffers(modules: Iterable[nn.Module]) -> None:
    """Copies the buffers of process 0, such as running statistics, to all other processes."""
    if world_size() > 1:
        for module in modules:
            for buffer in module.buffers():
                distributed.broadcast(buffer, 0)
