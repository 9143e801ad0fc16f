"""Muscle: arrays in, arrays out. One folder per operation, oracle and fast path side by side."""

import os
from collections.abc import Mapping
from typing import TypeVar

__all__ = ["OPERATIONS", "PREFERENCE", "chosen"]

OPERATIONS = ("accumulation", "coco_json", "matching", "upsample_ce", "voc_files")

PREFERENCE = "UPMAP_IMPL"  # the environment variable that names what is used where it exists

Implementation = TypeVar("Implementation")


def chosen(
    implementations: Mapping[str, Implementation | None], impl: str | None
) -> Implementation:
    """The implementation called `impl`, or the best that is built.

    Args:
        implementations: Name to function, the best first; None for one that is not built here.
        impl: A name, or None for what the environment prefers, else the first that is built.

    Raises:
        ValueError: If the name is unknown, or names one that is not built.
    """
    if impl is None:
        preferred = implementations.get(os.environ.get(PREFERENCE, ""))
        if preferred is not None:
            return preferred
        return next(function for function in implementations.values() if function is not None)
    if impl not in implementations:
        raise ValueError(f"impl={impl!r} is unknown; there are {', '.join(implementations)}")
    function = implementations[impl]
    if function is None:
        raise ValueError(f"impl={impl!r} is not built here; `python -m kernels` says why")
    return function
