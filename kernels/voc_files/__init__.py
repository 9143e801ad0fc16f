"""Reads VOC files to columns: objects of many annotations, detections of many results files.

`reference.py` defines, with expat and Python's float, what is read and what is refused.
`native.cpp` reads files of the usual form without an object for each element, and leaves the
others to the reference, one by one.
"""

import os
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, SupportsIndex

import numpy as np
from numpy.typing import NDArray

from upmap.kernels import FormatError, Implementation, import_native, select_implementation
from upmap.kernels.columns import exact_array, validate_within
from upmap.kernels.counts import validate_threads
from upmap.kernels.voc_files.contract import (
    Annotations,
    Columns,
    Data,
    Path,
    Reader,
    Results,
    Track,
)

if TYPE_CHECKING:
    from upmap.kernels.voc_files import native
else:
    native = import_native("voc_files")

__all__ = [
    "IMPLEMENTATIONS",
    "Annotations",
    "FormatError",
    "Results",
    "annotations",
    "results",
]


def annotations(
    folder: Path,
    names: Sequence[str],
    *,
    threads: SupportsIndex = 0,
    impl: Implementation | None = None,
    watched: Track = iter,
) -> Annotations:
    """Reads the annotations of some images.

    The parts of an object (heads, hands) are not read; they have a name and a box of their own.

    Args:
        folder: The folder of the XML files.
        names: The files' names without their ending.
        threads: Maximum number of threads; 0 uses all cores.
        impl: A key of IMPLEMENTATIONS; None selects the fastest available.
        watched: Iterates over the names of the files that Python reads, such as tqdm.

    Raises:
        FormatError: If a file is not XML, or an object lacks a field or has a wrong one.
        OSError: If a file cannot be read.
        TypeError: If a name is not a string, or a number not a number.
        ValueError: If a number is out of range, or `impl` is unknown or not built.
    """
    reader = select_implementation(IMPLEMENTATIONS, impl, "voc_files")
    names = [_validate_text("names", name) for name in names]
    columns = reader.annotations(folder, names, validate_threads(threads), watched)
    class_name = sorted(set(columns["class_name"]))
    place = {name: k for k, name in enumerate(class_name)}
    new_label = np.array([place[name] for name in columns["class_name"]], np.int32)
    return Annotations(
        class_name=class_name,
        image=columns["image"],
        label=new_label[columns["label"]],
        box=columns["box"],
        difficult=columns["difficult"].view(np.bool_),
        image_size=columns["image_size"],
    )


def results(
    paths: Sequence[Path],
    images: Mapping[str, int],
    *,
    data: Data = MappingProxyType({}),
    threads: SupportsIndex = 0,
    impl: Implementation | None = None,
) -> Results:
    """Reads results files: on each line `image_id score xmin ymin xmax ymax`.

    Args:
        paths: The files.
        images: The number of each image id in the column `image`, at least 0.
        data: The bytes of some files, by their places in `paths`; these are not opened.
        threads: Maximum number of threads; 0 uses all cores.
        impl: A key of IMPLEMENTATIONS; None selects the fastest available.

    Raises:
        FormatError: If a file is not UTF-8, or a line has other columns, a number that is not
            finite or larger than columns.LARGEST, or an image that is not in `images`.
        OSError: If a file cannot be read.
        TypeError: If a name is not a string, or a number not a number.
        ValueError: If a number is out of range, or `impl` is unknown or not built.
    """
    reader = select_implementation(IMPLEMENTATIONS, impl, "voc_files")
    numbers = exact_array("images", list(images.values()), np.int32)
    validate_within("images", numbers, 0)
    names = [_validate_text("images", name) for name in images]
    by_name = dict(zip(names, numbers.tolist(), strict=True))
    return Results(**reader.results(list(paths), by_name, validate_threads(threads), data))


def _validate_text(what: str, value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{what} must be strings, not {type(value).__name__}")
    return value


def _read_annotations_natively(
    folder: Path, names: list[str], threads: int, track: Track
) -> Columns:
    columns = native.annotations(os.fsencode(folder), names, threads)
    unread = columns.pop("unread")
    if not len(unread):
        return columns
    others = _read_annotations_by_reference(folder, [names[i] for i in unread], threads, track)
    # Sizes have a row for each file, all other columns one for each object.
    image_size = columns.pop("image_size")
    image_size[unread] = others.pop("image_size")
    class_names = columns.pop("class_name")
    others["label"] += len(class_names)
    class_names += others.pop("class_name")
    return _interleave(columns, others, "image", unread) | {
        "class_name": class_names,
        "image_size": image_size,
    }


def _read_annotations_by_reference(
    folder: Path, names: list[str], threads: int, track: Track
) -> Columns:
    from upmap.kernels.voc_files import reference

    return reference.annotations(folder, track(names))


def _read_results_natively(
    paths: Sequence[Path], images: dict[str, int], threads: int, data: Data
) -> Columns:
    columns = native.results([os.fsencode(path) for path in paths], images, threads, dict(data))
    unread = columns.pop("unread")
    if not len(unread):
        return columns
    known = {place: data[i] for place, i in enumerate(unread.tolist()) if i in data}
    others = _read_results_by_reference([paths[i] for i in unread], images, threads, known)
    return _interleave(columns, others, "file", unread)


def _read_results_by_reference(
    paths: Sequence[Path], images: dict[str, int], threads: int, data: Data
) -> Columns:
    from upmap.kernels.voc_files import reference

    return reference.results(paths, images, data)


def _interleave(columns: Columns, others: Columns, key: str, unread: NDArray[np.int32]) -> Columns:
    """The rows of both in order of `key`, the file; in `others` it counts those at `unread`."""
    others[key] = unread[others[key]]
    order = np.argsort(np.concatenate([columns[key], others[key]]), kind="stable")
    return {name: np.concatenate([columns[name], others[name]])[order] for name in columns}


IMPLEMENTATIONS: Mapping[str, Reader | None] = {
    "native": None
    if native is None
    else Reader(annotations=_read_annotations_natively, results=_read_results_natively),
    "reference": Reader(
        annotations=_read_annotations_by_reference, results=_read_results_by_reference
    ),
}
