"""Native kernels and their reference implementations, one package per operation."""

import importlib
import os
from collections.abc import Mapping
from typing import Any, TypeVar

from upmap.errors import ImplementationError

__all__ = [
    "IMPL_VARIABLE",
    "LOAD_ERRORS",
    "OPERATIONS",
    "import_native",
    "refuse_unloadable",
    "select_implementation",
]

OPERATIONS = ("accumulation", "coco_json", "matching", "text_rows", "upsample_ce", "voc_files")

# The environment variable that stands in for `impl` where none is named.
IMPL_VARIABLE = "UPMAP_IMPL"

LOAD_ERRORS: dict[str, str] = {}  # operation to why its native module, though built, is not loaded

Implementation = TypeVar("Implementation")


def select_implementation(
    implementations: Mapping[str, Implementation | None],
    impl: str | None,
    operation: str = "",
) -> Implementation:
    """The implementation called `impl`, or what the environment names, or the best that is built.

    Args:
        implementations: Name to function, the best first; None for one that is not built here.
        impl: A name or None.
        operation: Of OPERATIONS, whose native module may have failed to load.

    Raises:
        OSError: If a native module is built but cannot be loaded, and no other one is named.
        ImplementationError: If the name is unknown, or names one that is not built.
    """
    source = IMPL_VARIABLE if impl is None else "impl"
    name = impl or os.environ.get(IMPL_VARIABLE)
    if not name or name == "native":
        refuse_unloadable(operation)
    if not name:
        return next(function for function in implementations.values() if function is not None)
    if name not in implementations:
        known = ", ".join(implementations)
        raise ImplementationError(f"{source}={name!r} is unknown; there are {known}")
    function = implementations[name]
    if function is None:
        state = "is not built here; `python -m upmap.kernels` says why"
        raise ImplementationError(f"{source}={name!r} {state}")
    return function


def import_native(operation: str) -> Any:
    """The native module of an operation, or None.

    None where it is not built, and where it is built but cannot be loaded (another compiler's
    library, no memory): then LOAD_ERRORS says why, so that nobody takes the one for the other.
    """
    name = f"upmap.kernels.{operation}.native"
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
    except ImportError as error:
        LOAD_ERRORS[operation] = str(error)
    return None


def refuse_unloadable(operation: str) -> None:
    """Refuses to go on slowly, without a word, where the native module cannot be loaded.

    Raises:
        OSError: If it cannot; says why.
    """
    if operation in LOAD_ERRORS:
        raise OSError(
            f"upmap.kernels.{operation}.native is built but cannot be loaded: "
            f"{LOAD_ERRORS[operation]}; "
            f"{IMPL_VARIABLE}=reference goes without native kernels"
        )
