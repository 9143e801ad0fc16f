"""COCO JSON to columns: the records of an instances file, and of a results file.

`reference.py` says with Python's own json what is read and what is refused; `native.cpp` does it
without making an object for a record.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from upmap.kernels import import_native, select_implementation
from upmap.kernels.columns import validate_threads

if TYPE_CHECKING:
    from upmap.kernels.coco_json import native
else:
    native = import_native("coco_json")

__all__ = ["IMPLEMENTATIONS", "Ids", "Instances", "JsonError", "Results", "instances", "results"]

Ids = NDArray[np.int64] | list[str]


class JsonError(ValueError):
    """A file that is not the JSON that it should be.

    Attributes:
        message: What was found and what was expected.
        where: The number of the line, or the key.
    """

    def __init__(self, message: str, where: str):
        self.message, self.where = message, where
        super().__init__(f"{where}: {message}")


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Instances:
    """The columns of an instances file: I images, K categories, M annotations, in file order.

    Attributes:
        image_id: int64 [I], or I strings.
        file_name: I names; empty where there is none.
        image_size: float64 [I, 2], width and height, px; 0 where there is none.
        category_id: int64 [K].
        category_name: K names; empty where there is none.
        annotation_id: int64 [M].
        annotation_image_id: int64 [M], or M strings.
        annotation_category_id: int64 [M].
        box: float64 [M, 4], x, y, x + width, y + height, px.
        size: float64 [M, 2], width and height, px.
        area: float64 [M], px^2; NaN where there is none.
        crowd: bool [M].
        difficult: bool [M], the mark that upmap writes beside `iscrowd`; COCO has none, so a value
            that is no true bool or number counts as no mark.
    """

    image_id: Ids
    file_name: list[str]
    image_size: NDArray[np.float64]
    category_id: NDArray[np.int64]
    category_name: list[str]
    annotation_id: NDArray[np.int64]
    annotation_image_id: Ids
    annotation_category_id: NDArray[np.int64]
    box: NDArray[np.float64]
    size: NDArray[np.float64]
    area: NDArray[np.float64]
    crowd: NDArray[np.bool_]
    difficult: NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Results:
    """The columns of a results file of N detections, in file order.

    Attributes:
        image_id: int64 [N], or N strings.
        category_id: int64 [N].
        box: float64 [N, 4], x, y, x + width, y + height, px.
        size: float64 [N, 2], width and height, px.
        score: float64 [N].
    """

    image_id: Ids
    category_id: NDArray[np.int64]
    box: NDArray[np.float64]
    size: NDArray[np.float64]
    score: NDArray[np.float64]


Path = str | os.PathLike[str]
Implementation = Literal["native", "reference"]
Reader = Callable[[Path | bytes, int], dict[str, Any]]


def _native_instances(source: Path | bytes, threads: int) -> dict[str, Any]:
    return _explain(native.instances(*_of_native(source, threads)), "instances", source)


def _native_results(source: Path | bytes, threads: int) -> dict[str, Any]:
    return _explain(native.results(*_of_native(source, threads)), "results", source)


def _of_native(source: Path | bytes, threads: int) -> tuple[bytes, int, bytes | None]:
    if isinstance(source, bytes):
        return b"", threads, source
    return os.fsencode(source), threads, None


def _explain(
    columns: Any, kind: Literal["instances", "results"], source: Path | bytes
) -> dict[str, Any]:
    """The columns that the native reader found; else raises what is wrong with the file."""
    if isinstance(columns, dict):
        return columns
    from upmap.kernels.coco_json import explanation, reference

    if columns is not None:
        explanation.explain(source, kind, columns)
    read = reference.instances if kind == "instances" else reference.results
    return read(source)


def _reference_instances(source: Path | bytes, threads: int) -> dict[str, Any]:
    from upmap.kernels.coco_json import reference

    return reference.instances(source)


def _reference_results(source: Path | bytes, threads: int) -> dict[str, Any]:
    from upmap.kernels.coco_json import reference

    return reference.results(source)


# For each implementation, how it reads instances and results: the columns by name.
IMPLEMENTATIONS: Mapping[str, tuple[Reader, Reader] | None] = {
    "native": None if native is None else (_native_instances, _native_results),
    "reference": (_reference_instances, _reference_results),
}


def instances(
    source: Path | bytes, *, threads: int = 0, impl: Implementation | None = None
) -> Instances:
    """Reads an instances file.

    Args:
        source: The file's path, or its bytes.
        threads: At most so many; 0 for as many as the machine has.
        impl: A key of IMPLEMENTATIONS; None for the best that is built.

    Raises:
        JsonError: If it is not JSON, or not of this shape; has the line or the key.
        OSError: If the file cannot be read, or changes while it is read.
        ValueError: If `threads` is negative, or `impl` is unknown or not built.
    """
    columns = select_implementation(IMPLEMENTATIONS, impl, "coco_json")[0](
        source, validate_threads(threads)
    )
    flags = {name: columns[name].view(np.bool_) for name in ("crowd", "difficult")}
    return Instances(**columns | flags)


def results(
    source: Path | bytes, *, threads: int = 0, impl: Implementation | None = None
) -> Results:
    """Reads a results file; see `instances`.

    Args:
        source: The file's path, or its bytes.
        threads: At most so many; 0 for as many as the machine has.
        impl: A key of IMPLEMENTATIONS; None for the best that is built.

    Raises:
        JsonError: If it is not JSON, or not of this shape; has the line or the key.
        OSError: If the file cannot be read, or changes while it is read.
        ValueError: If `threads` is negative, or `impl` is unknown or not built.
    """
    return Results(
        **select_implementation(IMPLEMENTATIONS, impl, "coco_json")[1](
            source, validate_threads(threads)
        )
    )
