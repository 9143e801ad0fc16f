"""Reads COCO JSON to columns: the records of an instances file, and of a results file.

`reference.py` defines, with Python's json, what is read and what is refused. `native.cpp` reads the
same without an object for each record; `explanation.py` finds the message for what it refuses.
"""

import os
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, SupportsIndex

import numpy as np

from upmap.kernels import FormatError, Implementation, import_native, select_implementation
from upmap.kernels.coco_json.contract import (
    Columns,
    Ids,
    Instances,
    Kind,
    Reader,
    Results,
    Source,
)
from upmap.kernels.columns import validate_threads

if TYPE_CHECKING:
    from upmap.kernels.coco_json import native
else:
    native = import_native("coco_json")

__all__ = ["IMPLEMENTATIONS", "FormatError", "Ids", "Instances", "Results", "instances", "results"]


def instances(
    source: Source, *, threads: SupportsIndex = 0, impl: Implementation | None = None
) -> Instances:
    """Reads an instances file.

    Args:
        source: The file's path, or its bytes.
        threads: Maximum number of threads; 0 uses all cores.
        impl: A key of IMPLEMENTATIONS; None selects the fastest available.

    Raises:
        FormatError: If it is not JSON, or not of this shape; has the line or the key.
        OSError: If the file cannot be read, or changes while it is read.
        ValueError: If `threads` is negative, or `impl` is unknown or not built.
    """
    columns = _read("instances", source, threads, impl)
    flags = {name: columns[name].view(np.bool_) for name in ("crowd", "difficult")}
    return Instances(**columns | flags)


def results(
    source: Source, *, threads: SupportsIndex = 0, impl: Implementation | None = None
) -> Results:
    """Reads a results file.

    Args:
        source: The file's path, or its bytes.
        threads: Maximum number of threads; 0 uses all cores.
        impl: A key of IMPLEMENTATIONS; None selects the fastest available.

    Raises:
        FormatError: If it is not JSON, or not of this shape; has the line or the key.
        OSError: If the file cannot be read, or changes while it is read.
        ValueError: If `threads` is negative, or `impl` is unknown or not built.
    """
    return Results(**_read("results", source, threads, impl))


def _read(
    kind: Kind, source: Source, threads: SupportsIndex, impl: Implementation | None
) -> Columns:
    reader = select_implementation(IMPLEMENTATIONS, impl, "coco_json")
    read = reader.instances if kind == "instances" else reader.results
    try:
        return read(source, validate_threads(threads))
    except FormatError as error:  # the readers know the text, not its path
        path = "" if isinstance(source, bytes) else os.fspath(source)
        raise FormatError(error.message, path, error.where) from None


def _read_natively(kind: Kind, source: Source, threads: int) -> Columns:
    read = native.instances if kind == "instances" else native.results
    if isinstance(source, bytes):
        columns = read(b"", threads, source)
    else:
        columns = read(os.fsencode(source), threads)
    return columns if isinstance(columns, dict) else _explain(kind, source, columns)


def _explain(kind: Kind, source: Source, refusal: Any) -> Columns:
    """Raises the reference's error; what the native reader does not read, the reference may."""
    from upmap.kernels.coco_json import explanation

    if refusal is not None:
        explanation.explain(source, kind, refusal)
    return _read_by_reference(kind, source, 1)


def _read_by_reference(kind: Kind, source: Source, threads: int) -> Columns:
    from upmap.kernels.coco_json import reference

    return reference.instances(source) if kind == "instances" else reference.results(source)


def _reader(read: Any) -> Reader:
    return Reader(instances=partial(read, "instances"), results=partial(read, "results"))


IMPLEMENTATIONS: Mapping[str, Reader | None] = {
    "native": None if native is None else _reader(_read_natively),
    "reference": _reader(_read_by_reference),
}
