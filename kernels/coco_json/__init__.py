"""Reads COCO JSON to columns: the records of an instances file, and of a results file.

`reference.py` defines, with Python's json, what is read and what is refused. `native.cpp` reads the
same without an object for each record; `explanation.py` finds the message for what it refuses.
"""

import os
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, SupportsIndex

from upmap.kernels import (
    IMPL_VARIABLE,
    FormatError,
    Implementation,
    import_native,
    select_implementation,
)
from upmap.kernels.coco_json.contract import (
    Columns,
    File,
    Ids,
    Instances,
    Kind,
    Reader,
    Reading,
    Results,
    Source,
)
from upmap.kernels.counts import validate_threads

if TYPE_CHECKING:
    from upmap.kernels.coco_json import native
else:
    native = import_native("coco_json")

__all__ = [
    "IMPLEMENTATIONS",
    "FormatError",
    "Ids",
    "Instances",
    "Reading",
    "Results",
    "instances",
    "results",
    "start_reading",
]


def instances(
    source: Source, *, threads: SupportsIndex = 0, impl: Implementation | None = None
) -> Instances:
    """Reads an instances file.

    Args:
        source: The file's path, its bytes, or what `start_reading` returned.
        threads: Maximum number of threads; 0 uses all cores.
        impl: A key of IMPLEMENTATIONS; None selects the fastest available.

    Raises:
        FormatError: If it is not JSON, or not of this shape; has the line or the key.
        OSError: If the file cannot be read, or changes while it is read.
        ValueError: If `threads` is negative, or `impl` is unknown or not built.
    """
    columns = _read("instances", source, threads, impl)
    flags = {name: columns[name].view(bool) for name in ("crowd", "difficult")}
    return Instances(**columns | flags)


def results(
    source: Source, *, threads: SupportsIndex = 0, impl: Implementation | None = None
) -> Results:
    """Reads a results file.

    Args:
        source: The file's path, its bytes, or what `start_reading` returned.
        threads: Maximum number of threads; 0 uses all cores.
        impl: A key of IMPLEMENTATIONS; None selects the fastest available.

    Raises:
        FormatError: If it is not JSON, or not of this shape; has the line or the key.
        OSError: If the file cannot be read, or changes while it is read.
        ValueError: If `threads` is negative, or `impl` is unknown or not built.
    """
    return Results(**_read("results", source, threads, impl))


def start_reading(kind: Kind, path: str | os.PathLike[str], *, threads: int = 0) -> Reading | None:
    """Starts to read a file in the background, natively; this needs no numpy yet.

    Args:
        kind: What is to be read of it.
        path: The file's path.
        threads: Maximum number of threads; 0 uses all cores.

    Returns:
        What `instances` or `results` takes in place of the path, once; None where the native module
        is not built, or another implementation is asked for.
    """
    if native is None or os.environ.get(IMPL_VARIABLE, "native") != "native":
        return None
    start = native.InstancesReading if kind == "instances" else native.ResultsReading
    return Reading(path, kind, start(os.fsencode(path), validate_threads(threads)))


def _read(
    kind: Kind, source: Source, threads: SupportsIndex, impl: Implementation | None
) -> Columns:
    reader = select_implementation(IMPLEMENTATIONS, impl, "coco_json")
    read = reader.instances if kind == "instances" else reader.results
    try:
        return read(source, validate_threads(threads))
    except FormatError as error:  # the readers know the text, not its path
        file = _file_of(source)
        path = "" if isinstance(file, bytes) else os.fspath(file)
        raise FormatError(error.message, path, error.where) from None


def _read_natively(kind: Kind, source: Source, threads: int) -> Columns:
    read = native.instances if kind == "instances" else native.results
    file = _file_of(source)
    if isinstance(source, Reading) and source.kind == kind:
        columns = source.native.columns()
    elif isinstance(file, bytes):
        columns = read(b"", threads, file)
    else:
        columns = read(os.fsencode(file), threads)
    return columns if isinstance(columns, dict) else _explain(kind, file, columns)


def _explain(kind: Kind, file: File, refusal: Any) -> Columns:
    """Raises the reference's error; what the native reader does not read, the reference may."""
    from upmap.kernels.coco_json import explanation

    if refusal is not None:
        explanation.explain(file, kind, refusal)
    return _read_by_reference(kind, file, 1)


def _read_by_reference(kind: Kind, source: Source, threads: int) -> Columns:
    from upmap.kernels.coco_json import reference

    file = _file_of(source)
    return reference.instances(file) if kind == "instances" else reference.results(file)


def _file_of(source: Source) -> File:
    return source.path if isinstance(source, Reading) else source


def _reader(read: Any) -> Reader:
    return Reader(instances=partial(read, "instances"), results=partial(read, "results"))


IMPLEMENTATIONS: Mapping[str, Reader | None] = {
    "native": None if native is None else _reader(_read_natively),
    "reference": _reader(_read_by_reference),
}
