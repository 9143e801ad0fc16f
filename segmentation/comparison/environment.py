"""Describes what a comparison ran on: results may depend on it in their last digits, and beyond."""

import os
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

__all__ = ["count_cores", "describe_environment"]

PACKAGES = ("upmap", "torchvision", "numpy")
CPU_INFO = Path("/proc/cpuinfo")


def describe_environment(device: torch.device) -> dict[str, Any]:
    """The versions, the system, the CPU and the device."""
    is_cuda = device.type == "cuda"
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        **{name: version(name) for name in PACKAGES},
        "system": f"{platform.system()} {platform.machine()}",
        "cpu": _cpu_name(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "cores": count_cores(),
        "device": torch.cuda.get_device_name(device) if is_cuda else device.type,
    }


def count_cores() -> int:
    """The number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _cpu_name() -> str:
    """The name of the processor, from Linux's list or as Python knows it."""
    try:
        lines = CPU_INFO.read_text("utf-8", "replace").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, "") or platform.processor() or "unknown"
