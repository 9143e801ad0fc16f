"""Where models run."""

import os

import torch

from detection.errors import InputError

__all__ = ["device_called"]


def device_called(name: str) -> torch.device:
    """The device that `--device` names; under torchrun, cuda is the process's own GPU.

    Args:
        name: cpu, cuda, cuda:1 and so on, or auto, which is cuda where there is one.

    Raises:
        InputError: If there is no such device.

    >>> device_called("cpu")
    device(type='cpu')
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise InputError(f"--device {name}: there is no GPU that torch can use")
    if name == "cuda":
        name = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
    try:
        found = torch.device(name)
    except RuntimeError as error:
        raise InputError(f"--device {name}: {str(error).splitlines()[0]}") from None
    if found.type == "cuda":
        torch.cuda.set_device(found)
    return found
