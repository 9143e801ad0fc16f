"""Checkpoints: written whole or not at all, read without running what is in them.

A checkpoint that is read may come from anyone: nothing in it is used before it was seen to be of
the kind and size that it should be.
"""

import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import torch
from torch import Tensor, nn

from detection.errors import InputError
from detection.formats.files import existing, new_file
from segmentation.options import shortened

__all__ = [
    "PROGRAM",
    "SCHEMA",
    "as_kind",
    "load_weights",
    "loaded",
    "save",
    "validate_tensor",
    "validate_weights",
]

PROGRAM = "segmentation.train"  # whose checkpoints these are
SCHEMA = 1  # a change that breaks readers adds one
KEYS = ("schema", "program", "options", "classes", "palette", "model")
PLAIN = (str, int, float, bool, type(None))

Kind = TypeVar("Kind")


def save(path: Path, checkpoint: dict[str, Any]) -> None:
    """Writes a checkpoint beside `path`, then takes its place, so that a kill leaves the old one.

    Args:
        path: The file.
        checkpoint: Tensors, numbers, strings, and dicts and lists of these; KEYS among them.

    Raises:
        InputError: If it cannot be written.
    """
    with new_file(path) as beside, beside.open("wb") as file:
        torch.save(checkpoint, file)
        file.flush()
        os.fsync(file.fileno())


def loaded(path: Path) -> dict[str, Any]:
    """The checkpoint in a file, on the CPU.

    Raises:
        InputError: If it is no checkpoint of this program's, is truncated, or holds code.
    """
    existing(path)
    try:
        with warnings.catch_warnings():  # of odd tensors, which are refused below
            warnings.simplefilter("ignore")
            found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # pickle, zip and torch raise whatever they like at a foreign file
        reason = next(iter(str(error).splitlines()), "") or type(error).__name__
        raise InputError(f"not a checkpoint: {reason}", path) from None
    missing = [key for key in KEYS if not isinstance(found, dict) or key not in found]
    if missing:
        raise InputError(f"not a checkpoint of upmap: it has no {', '.join(missing)}", path)
    if type(found["schema"]) is not int or found["schema"] != SCHEMA:
        message = f"a checkpoint of schema {shortened(found['schema'])}, expected {SCHEMA}"
        raise InputError(message, path, "schema")
    if not isinstance(found["program"], str):
        raise InputError("expected the name of a program", path, "program")
    return dict(found)


def as_kind(value: object, kind: type[Kind], path: str | Path, key: str) -> Kind:
    """What a checkpoint has for `key`, as a dataclass, list and so on of numbers and strings.

    Args:
        value: What was loaded.
        kind: What `msgspec.convert` makes of it.
        path: The file, for errors.
        key: Likewise; empty where `value` has the names of keys.

    Raises:
        InputError: If it is of another kind; names the file and the key.
    """
    for name, part in value.items() if isinstance(value, dict) and not key else [(key, value)]:
        _refuse_foreign(part, path, name)
    try:
        return msgspec.convert(value, kind)
    except (ValueError, RecursionError) as error:
        message, _, place = str(error).partition(" - at ")
        below = place.strip("`$.")
        raise InputError(message, path, ".".join(filter(None, [key, below])) or None) from None


def load_weights(module: nn.Module, state: object, path: str | Path, key: str = "") -> None:
    """Loads the values of a module, once each is seen to fit it and to be finite.

    Args:
        module: What takes the values.
        state: What was loaded as its state_dict.
        path: The file, for errors.
        key: What the file calls the state_dict, for errors.

    Raises:
        InputError: See `validate_weights`.
    """
    validate_weights(module, state, path, key)
    module.load_state_dict(state)  # type: ignore[arg-type]  # a mapping, as was just seen


def validate_weights(module: nn.Module, state: object, path: str | Path, key: str = "") -> None:
    """Refuses a state_dict whose tensors are not those of the module, or hold NaN or infinity.

    Args:
        module: What takes the values; may be without values, on the device "meta".
        state: What was loaded as its state_dict.
        path: The file, for errors.
        key: What the file calls the state_dict, for errors.

    Raises:
        InputError: If a tensor is missing, left over, of another shape or dtype, or not finite;
            names it. If together they have more bytes than the file.
    """
    if not isinstance(state, Mapping):
        raise InputError(f"expected tensors by name, got {shortened(state)}", path, key or None)
    # Strides of 0 make much of few bytes, which a model would then be made for.
    size, tensors = Path(path).stat().st_size, [v for v in state.values() if isinstance(v, Tensor)]
    if (total := sum(one.numel() * one.element_size() for one in tensors)) > size:
        message = f"{total:,} bytes of tensors in a file of {size:,}"
        raise InputError(message, path, key or None)
    expected = module.state_dict()
    place = f"{key}." if key else ""
    for name in state:
        if name not in expected:
            raise InputError(f"the model has no {shortened(name)}", path, key or None)
    for name, tensor in expected.items():
        if name not in state:
            raise InputError("missing", path, place + name)
        validate_tensor(state[name], tensor, path, place + name)
        if name.endswith("running_var") and bool((state[name] < 0).any()):
            raise InputError("a variance below 0", path, place + name)  # its root would be NaN


def validate_tensor(value: object, expected: Tensor, path: str | Path, key: str) -> None:
    """Refuses what is no dense, finite tensor of the shape and dtype of `expected`.

    Raises:
        InputError: Names the file and the key.
    """
    if not isinstance(value, Tensor):
        raise InputError(f"expected a tensor, got {shortened(value)}", path, key)
    if value.layout != torch.strided or value.device.type != "cpu":
        raise InputError(f"expected a dense tensor with values, got {value.layout}", path, key)
    for name in ("dtype", "shape"):
        have, want = getattr(value, name), getattr(expected, name)
        if have != want:
            shown = [str(list(one) if name == "shape" else one) for one in (have, want)]
            raise InputError(f"{name} {shown[0]}, expected {shown[1]}", path, key)
    if value.is_floating_point() and not bool(torch.isfinite(value).all()):
        raise InputError("not finite: it holds NaN or infinity", path, key)


def _refuse_foreign(value: object, path: str | Path, key: str) -> None:
    """Refuses all but numbers, strings, None, and dicts, lists and tuples of these."""
    waiting, seen = [value], set()
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict | list | tuple):
            if id(one) not in seen:  # what holds itself would never end
                seen.add(id(one))
                waiting.extend([*one, *one.values()] if isinstance(one, dict) else one)
        elif not isinstance(one, PLAIN):
            kind = type(one).__name__
            raise InputError(f"expected numbers and strings, got a {kind}", path, key or None)
