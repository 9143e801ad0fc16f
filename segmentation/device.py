"""Selects the device that models run on."""

import os
import re

import torch

from upmap.errors import InputError
from upmap.options import describe_value

__all__ = ["limit_threads", "select_device"]

KNOWN = ("cpu", "cuda", "mps")
NAME = re.compile(r"[\w:]{1,20}", re.ASCII)  # names that errors repeat without quotes


def select_device(name: str) -> torch.device:
    """The device that `--device` names; under torchrun, cuda is the process's own GPU.

    Args:
        name: cpu, cuda, cuda:1 and so on, or auto, which is cuda where there is one.

    Raises:
        InputError: If there is no such device.

    >>> select_device("cpu")
    device(type='cpu')
    """
    shown = name if NAME.fullmatch(name) else describe_value(name)
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise InputError(f"--device {shown}: there is no GPU that torch can use")
    if name == "cuda":
        name = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
    if name.partition(":")[0] not in KNOWN:
        raise InputError(f"--device {shown}: no such device; there are {', '.join(KNOWN)}, auto")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()  # fails if there is no GPU of that number
        if device.type == "cuda":
            torch.cuda.set_device(device)
    except Exception as error:  # backends raise many types
        reason = next(iter(str(error).splitlines()), "") or type(error).__name__
        raise InputError(f"--device {shown}: {reason}") from None
    return device


def limit_threads(threads: int) -> None:
    """Sets the number of threads that torch computes with on a CPU, upmap's kernels included.

    Args:
        threads: The maximum number of threads; 0 leaves it as it is.
    """
    if threads:
        torch.set_num_threads(threads)
