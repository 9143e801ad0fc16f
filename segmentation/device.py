"""Selects the device that models run on."""

import os
import re

import torch

from upmap.errors import InputError
from upmap.options import describe_value

__all__ = ["configure_gpu", "describe_gpu", "limit_threads", "names_gpu", "select_device"]

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


def names_gpu(name: str) -> bool:
    """Whether `--device` names an NVIDIA GPU, or leaves the choice and there is one."""
    return name.startswith("cuda") or (name == "auto" and torch.cuda.is_available())


def configure_gpu(device: torch.device) -> None:
    """Sets how a GPU convolves, for all that follows; does nothing on other devices.

    Of the algorithms for a convolution the fastest is taken, by trying them at every new size.
    Convolutions in float32 round their inputs to TF32, products of matrices do not: torch's own
    settings, stated because users and other libraries change them.
    """
    if device.type == "cuda":
        torch.backends.cudnn.benchmark = True
        torch.backends.cudnn.allow_tf32 = True
        torch.backends.cuda.matmul.allow_tf32 = False


def describe_gpu(device: torch.device) -> dict[str, str]:
    """What results on a GPU depend on in their last bits; empty for other devices."""
    if device.type != "cuda":
        return {}
    return {
        "gpu": torch.cuda.get_device_name(device),
        "cudnn": str(torch.backends.cudnn.version()),  # type: ignore[no-untyped-call]
        "cudnn_benchmark": str(torch.backends.cudnn.benchmark),
        "cudnn_tf32": str(torch.backends.cudnn.allow_tf32),
        "matmul_tf32": str(torch.backends.cuda.matmul.allow_tf32),
    }


def limit_threads(threads: int) -> None:
    """Sets the number of threads that torch computes with on a CPU, upmap's kernels included.

    Args:
        threads: The maximum number of threads; 0 leaves it as it is.
    """
    if threads:
        torch.set_num_threads(threads)
