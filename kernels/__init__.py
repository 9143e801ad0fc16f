"""Muscle: arrays in, arrays out. One folder per operation, oracle and fast path side by side."""

import os
from collections.abc import Mapping
from typing import TypeVar

__all__ = ["OPERATIONS", "PREFERENCE", "ImplementationError", "chosen"]

OPERATIONS = ("accumulation", "coco_json", "matching", "upsample_ce", "voc_files")

PREFERENCE = "UPMAP_IMPL"  # the environment variable that stands in for `impl` where none is named

Implementation = TypeVar("Implementation")


class ImplementationError(ValueError):
    """An implementation that is asked for is unknown, or not built here."""


def chosen(
    implementations: Mapping[str, Implementation | None], impl: str | None
) -> Implementation:
    """The implementation called `impl`, or what the environment names, or the best that is built.

    Args:
        implementations: Name to function, the best first; None for one that is not built here.
        impl: A name or None.

    Raises:
        ImplementationError: If the name is unknown, or names one that is not built.
    """
    source = PREFERENCE if impl is None else "impl"
    name = impl or os.environ.get(PREFERENCE)
    if not name:
        return next(function for function in implementations.values() if function is not None)
    if name not in implementations:
        known = ", ".join(implementations)
        raise ImplementationError(f"{source}={name!r} is unknown; there are {known}")
    function = implementations[name]
    if function is None:
        state = "is not built here; `python -m kernels` says why"
        raise ImplementationError(f"{source}={name!r} {state}")
    return function
