"""Checkpoints: written whole or not at all, read without running what is in them."""

import os
from pathlib import Path
from typing import Any

import torch

from detection.errors import InputError
from detection.formats.files import existing, new_file

__all__ = ["SCHEMA", "loaded", "save"]

SCHEMA = 1  # a change that breaks readers adds one
KEYS = ("schema", "program", "options", "classes", "palette", "model")


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
        found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # pickle, zip and torch raise whatever they like at a foreign file
        reason = next(iter(str(error).splitlines()), "") or type(error).__name__
        raise InputError(f"not a checkpoint: {reason}", path) from None
    missing = [key for key in KEYS if not isinstance(found, dict) or key not in found]
    if missing:
        raise InputError(f"not a checkpoint of upmap: it has no {', '.join(missing)}", path)
    if found["schema"] != SCHEMA:
        raise InputError(f"a checkpoint of schema {found['schema']}, expected {SCHEMA}", path)
    return dict(found)
