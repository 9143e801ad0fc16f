"""Checkpoint files: written completely or not at all, read without running code in them.

A file may come from anyone: each value in it is validated before it is used.
"""

import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from upmap.conversion import convert_value
from upmap.errors import InputError
from upmap.files import create_file, require_path
from upmap.options import describe_value

__all__ = [
    "BEST",
    "LAST",
    "PROGRAM",
    "SCHEMA",
    "load_checkpoint",
    "load_weights",
    "parse_value",
    "read_weights",
    "save_checkpoint",
    "validate_tensor",
    "validate_weights",
]

PROGRAM = "segmentation.train"  # the program that writes checkpoints
SCHEMA = 1  # raised by a change that older versions cannot read
LAST, BEST = "last.pt", "best.pt"  # the files of a training: its state, and its best model
KEYS = ("schema", "program", "options", "classes", "palette", "model")
PLAIN_TYPES = (str, int, float, bool, type(None))

T = TypeVar("T")


def save_checkpoint(path: Path, checkpoint: dict[str, Any]) -> None:
    """Writes a checkpoint beside `path` and renames it, so that a kill leaves the old file.

    Args:
        path: The file.
        checkpoint: Tensors, numbers, strings, and dicts and lists of these; KEYS among them.

    Raises:
        InputError: If the file cannot be written.
    """
    with create_file(path) as beside, beside.open("wb") as file:
        torch.save(checkpoint, file)
        file.flush()
        os.fsync(file.fileno())


def load_checkpoint(path: Path) -> dict[str, Any]:
    """The checkpoint in a file, on the CPU.

    Raises:
        InputError: If the file is not a checkpoint of this program, is truncated, or holds code.
    """
    require_path(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about unusual tensors, which are refused later
            checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch, pickle and zipfile raise many types for a foreign file
        reason = next(iter(str(error).splitlines()), "") or type(error).__name__
        raise InputError(f"not a checkpoint: {reason}", path) from None
    missing = [key for key in KEYS if not isinstance(checkpoint, dict) or key not in checkpoint]
    if missing:
        raise InputError(f"not a checkpoint of upmap: it has no {', '.join(missing)}", path)
    schema = checkpoint["schema"]
    if type(schema) is not int or schema != SCHEMA:
        message = f"a checkpoint of schema {describe_value(schema)}, expected {SCHEMA}"
        raise InputError(message, path, "schema")
    if not isinstance(checkpoint["program"], str):
        raise InputError("expected the name of a program", path, "program")
    return dict(checkpoint)


def parse_value(value: object, kind: type[T], path: str | Path, key: str) -> T:
    """A value of a checkpoint as a dataclass, a list and so on of numbers and strings.

    Args:
        value: A value of plain types, or of types that are refused, such as tensors.
        kind: The type that the value must fit.
        path: The file, for errors.
        key: The key of the value, for errors; empty if `value` is a dict of several keys.

    Raises:
        InputError: If the value does not fit, or holds other types; names the file and the key.
    """
    for name, part in value.items() if isinstance(value, dict) and not key else [(key, value)]:
        _validate_plain(part, path, name)
    return convert_value(value, kind, path, key)


def read_weights(path: str | Path) -> object:
    """The content of a file of weights, on the CPU; no code in it is run.

    Args:
        path: A file of torch.save, or one that ends in .safetensors.

    Raises:
        InputError: If it is neither.
    """
    path = require_path(Path(path))
    try:
        if path.suffix.lower() == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except ImportError:
        message = 'safetensors is not installed; `pip install "upmap[timm]"` brings it'
        raise InputError(message, path) from None
    except Exception as error:  # torch, pickle and zipfile raise many types for a foreign file
        reason = next(iter(str(error).splitlines()), "") or type(error).__name__
        raise InputError(f"not a file of weights: {reason}", path) from None


def load_weights(module: nn.Module, state: object, path: str | Path, key: str = "") -> None:
    """Loads the values of a module, after they are validated.

    Args:
        module: The module whose values are set.
        state: A state_dict from a file.
        path: The file, for errors.
        key: The key of the state_dict in the file, for errors.

    Raises:
        InputError: See `validate_weights`.
    """
    validate_weights(module, state, path, key)
    module.load_state_dict(state)  # type: ignore[arg-type]  # validated to be a mapping


def validate_weights(module: nn.Module, state: object, path: str | Path, key: str = "") -> None:
    """Requires the names, shapes and dtypes of a module's tensors, and finite values.

    Args:
        module: The module that the values are for; may be on the device "meta".
        state: A state_dict from a file.
        path: The file, for errors.
        key: The key of the state_dict in the file, for errors.

    Raises:
        InputError: If a tensor is missing, superfluous, of another shape or dtype, or not finite;
            names it. If all tensors together have more bytes than the file.
    """
    if not isinstance(state, Mapping):
        message = f"expected tensors by name, got {describe_value(state)}"
        raise InputError(message, path, key or None)
    _validate_size(state, path, key)
    expected = module.state_dict()
    prefix = f"{key}." if key else ""
    for name in state:
        if name not in expected:
            raise InputError(f"the model has no {describe_value(name)}", path, key or None)
    for name, tensor in expected.items():
        if name not in state:
            raise InputError("missing", path, prefix + name)
        validate_tensor(state[name], tensor, path, prefix + name)
        if name.endswith("running_var") and bool((state[name] < 0).any()):
            raise InputError("a variance below 0", path, prefix + name)  # its root would be NaN


def validate_tensor(value: object, expected: Tensor, path: str | Path, key: str) -> None:
    """Requires a dense, finite tensor of the shape and dtype of `expected`.

    Raises:
        InputError: If the value is anything else; names the file and the key.
    """
    if not isinstance(value, Tensor):
        raise InputError(f"expected a tensor, got {describe_value(value)}", path, key)
    if value.layout != torch.strided or value.device.type != "cpu":
        raise InputError(f"expected a dense tensor with values, got {value.layout}", path, key)
    if value.dtype != expected.dtype:
        raise InputError(f"dtype {value.dtype}, expected {expected.dtype}", path, key)
    if value.shape != expected.shape:
        raise InputError(f"shape {[*value.shape]}, expected {[*expected.shape]}", path, key)
    if value.is_floating_point() and not bool(torch.isfinite(value).all()):
        raise InputError("not finite: it holds NaN or infinity", path, key)


def _validate_size(state: Mapping[Any, object], path: str | Path, key: str) -> None:
    """Refuses tensors that strides of 0 make larger than the file that they come from."""
    size = Path(path).stat().st_size
    tensors = [value for value in state.values() if isinstance(value, Tensor)]
    if (total := sum(tensor.numel() * tensor.element_size() for tensor in tensors)) > size:
        message = f"{total:,} bytes of tensors in a file of {size:,}"
        raise InputError(message, path, key or None)


def _validate_plain(value: object, path: str | Path, key: str) -> None:
    """Requires numbers, strings, None, and dicts, lists and tuples of these."""
    pending, seen = [value], set()
    while pending:
        part = pending.pop()
        if isinstance(part, dict | list | tuple):
            if id(part) not in seen:  # a container that holds itself would never end
                seen.add(id(part))
                pending.extend([*part, *part.values()] if isinstance(part, dict) else part)
        elif not isinstance(part, PLAIN_TYPES):
            kind = type(part).__name__
            raise InputError(f"expected numbers and strings, got a {kind}", path, key or None)
