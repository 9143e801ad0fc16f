"""Native kernels and their reference implementations, one package per operation."""

import importlib
import os
from collections.abc import Mapping
from typing import Any, Literal, TypeVar

from upmap.errors import ImplementationError

__all__ = [
    "IMPL_VARIABLE",
    "LOAD_ERRORS",
    "OPERATIONS",
    "FormatError",
    "Implementation",
    "import_native",
    "refuse_unloadable",
    "select_implementation",
]

OPERATIONS = (
    "accumulation",
    "coco_json",
    "delimited",
    "matching",
    "pairs",
    "resampling",
    "text_rows",
    "upsample_ce",
    "voc_files",
)

# `impl` of every operation but upsample_ce, which has others besides.
Implementation = Literal["native", "reference"]

# The environment variable that is read where `impl` is None.
IMPL_VARIABLE = "UPMAP_IMPL"

LOAD_ERRORS: dict[str, str] = {}  # operation to why its native module, though built, is not loaded

ImplementationT = TypeVar("ImplementationT")


class FormatError(ValueError):
    """A file or its content is not of the format that a reader expects.

    Attributes:
        message: What was read and what was expected.
        path: The file; empty where it is not known, as for bytes.
        where: The number of the line, or the key.
    """

    def __init__(self, message: str, path: str, where: str):
        self.message, self.path, self.where = message, path, where
        super().__init__(f"{path}:{where}: {message}" if path else f"{where}: {message}")


def select_implementation(
    implementations: Mapping[str, ImplementationT | None],
    impl: str | None,
    operation: str = "",
) -> ImplementationT:
    """Selects the implementation called `impl`; None selects the fastest available.

    Args:
        implementations: Name to implementation, the fastest first; None for one that is not built.
        impl: A name; None for that in the environment variable UPMAP_IMPL, if it is set.
        operation: One of OPERATIONS, whose native module may have failed to load.

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
    implementation = implementations[name]
    if implementation is None:
        state = "is not built here; `python -m upmap.kernels` says why"
        raise ImplementationError(f"{source}={name!r} {state}")
    return implementation


def import_native(operation: str) -> Any:
    """Imports the native module of an operation; None if it is not built or cannot be loaded.

    A module that is built but cannot be loaded (another compiler's library, no memory) leaves its
    reason in LOAD_ERRORS, so that the two cases are told apart.
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
    """Refuses a silent fall-back to a slow implementation where the native module fails to load.

    Raises:
        OSError: If it failed; has the reason.
    """
    if operation in LOAD_ERRORS:
        raise OSError(
            f"upmap.kernels.{operation}.native is built but cannot be loaded: "
            f"{LOAD_ERRORS[operation]}; "
            f"{IMPL_VARIABLE}=reference goes without native kernels"
        )
