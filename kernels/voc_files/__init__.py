"""VOC files to columns: the objects of many annotations, the detections of many results files.

`reference.py` says with expat, and with Python's own words and numbers, what is read and what is
refused; `native.cpp` reads the files of the usual kind without making an object for an element, and
leaves the others to the reference, one by one.
"""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from upmap.kernels import import_native, select_implementation
from upmap.kernels.columns import exact_array, validate_threads, validate_within

if TYPE_CHECKING:
    from upmap.kernels.voc_files import native
else:
    native = import_native("voc_files")

__all__ = [
    "IMPLEMENTATIONS",
    "LARGEST",
    "LARGEST_IMAGE",
    "Annotations",
    "Results",
    "VocError",
    "annotations",
    "results",
]

LARGEST = 1e150  # px, of a coordinate; and of a score
LARGEST_IMAGE = 2**31  # px, of a side


class VocError(ValueError):
    """A file that is not what it should be.

    Attributes:
        message: What was found and what was expected.
        path: The file.
        where: The number of the line, or "size".
    """

    def __init__(self, message: str, path: str, where: str):
        self.message, self.path, self.where = message, path, where
        super().__init__(f"{path}:{where}: {message}")


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Annotations:
    """The objects of I annotations, M in all, in the order of the files and within them.

    Attributes:
        class_name: The K names that occur, ascending.
        image: int32 [M], index into the files.
        label: int32 [M], index into class_name.
        box: float64 [M, 4], xmin, ymin, xmax, ymax, px.
        difficult: bool [M].
        image_size: int64 [I, 2], width and height, px; 0 where the file does not say.
    """

    class_name: list[str]
    image: NDArray[np.int32]
    label: NDArray[np.int32]
    box: NDArray[np.float64]
    difficult: NDArray[np.bool_]
    image_size: NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Results:
    """The detections of some results files, N in all, in the order of the files and within them.

    Attributes:
        file: int32 [N], index into the files.
        image: int32 [N], what the mapping of images says.
        score: float64 [N].
        box: float64 [N, 4], xmin, ymin, xmax, ymax, px.
    """

    file: NDArray[np.int32]
    image: NDArray[np.int32]
    score: NDArray[np.float64]
    box: NDArray[np.float64]


Path = str | os.PathLike[str]
Implementation = Literal["native", "reference"]
Columns = dict[str, Any]
Watched = Callable[[list[str]], Iterable[str]]
AnnotationsReader = Callable[[Path, list[str], int, Watched], Columns]
Data = Mapping[int, bytes]
ResultsReader = Callable[[Sequence[Path], dict[str, int], int, Data], Columns]


def _native_annotations(folder: Path, names: list[str], threads: int, watched: Watched) -> Columns:
    columns = native.annotations(os.fsencode(folder), names, threads)
    unread = columns.pop("unread")
    if not len(unread):
        return columns
    missing = _reference_annotations(folder, [names[i] for i in unread], threads, watched)
    columns["image_size"][unread] = missing.pop("image_size")
    both = [*columns["class_name"], *missing.pop("class_name")]
    missing["label"] += len(columns.pop("class_name"))
    sizes = columns.pop("image_size")
    return _concatenate(columns, missing, "image", unread) | {
        "class_name": both,
        "image_size": sizes,
    }


def _reference_annotations(
    folder: Path, names: list[str], threads: int, watched: Watched
) -> Columns:
    from upmap.kernels.voc_files import reference

    return reference.annotations(folder, watched(names))


def _native_results(
    paths: Sequence[Path], images: dict[str, int], threads: int, data: Data
) -> Columns:
    columns = native.results([os.fsencode(path) for path in paths], images, threads, dict(data))
    unread = columns.pop("unread")
    if not len(unread):
        return columns
    known = {place: data[i] for place, i in enumerate(unread.tolist()) if i in data}
    missing = _reference_results([paths[i] for i in unread], images, threads, known)
    return _concatenate(columns, missing, "file", unread)


def _reference_results(
    paths: Sequence[Path], images: dict[str, int], threads: int, data: Data
) -> Columns:
    from upmap.kernels.voc_files import reference

    return reference.results(paths, images, data)


def _concatenate(some: Columns, others: Columns, key: str, places: NDArray[np.int32]) -> Columns:
    """The rows of both in order of `key`, which in `others` counts the files at `places`."""
    others[key] = places[others[key]]
    order = np.argsort(np.concatenate([some[key], others[key]]), kind="stable")
    return {name: np.concatenate([some[name], others[name]])[order] for name in some}


# For each implementation, how it reads annotations and results: the columns by name.
IMPLEMENTATIONS: Mapping[str, tuple[AnnotationsReader, ResultsReader] | None] = {
    "native": None if native is None else (_native_annotations, _native_results),
    "reference": (_reference_annotations, _reference_results),
}


def annotations(
    folder: Path,
    names: Sequence[str],
    *,
    threads: int = 0,
    impl: Implementation | None = None,
    watched: Watched = iter,
) -> Annotations:
    """Reads the annotations of some images.

    The parts of an object (heads, hands) are not read; they have a name and a box of their own.

    Args:
        folder: The folder of the XML files.
        names: The files' names without their ending.
        threads: At most so many; 0 for as many as the machine has.
        impl: A key of IMPLEMENTATIONS; None for the best that is built.
        watched: What goes over the names of those files that Python reads, such as tqdm.

    Raises:
        VocError: If a file is not XML, or an object lacks a field or has a wrong one.
        OSError: If a file cannot be read.
        TypeError: If a name is not a string, or a number not a number.
        ValueError: If a number is out of range, or `impl` is unknown or not built.
    """
    read = select_implementation(IMPLEMENTATIONS, impl, "voc_files")[0]
    names = [_validate_text("names", name) for name in names]
    columns = read(folder, names, validate_threads(threads), watched)
    found = columns["class_name"]
    class_name = sorted(set(found))
    place = {name: k for k, name in enumerate(class_name)}
    label = np.array([place[name] for name in found], np.int32)[columns["label"]]
    difficult = columns["difficult"].view(np.bool_)
    return Annotations(
        **columns | {"class_name": class_name, "label": label, "difficult": difficult}
    )


def results(
    paths: Sequence[Path],
    images: Mapping[str, int],
    *,
    data: Data = MappingProxyType({}),
    threads: int = 0,
    impl: Implementation | None = None,
) -> Results:
    """Reads results files: on each line `image_id score xmin ymin xmax ymax`.

    Args:
        paths: The files.
        images: What stands for each image id in the column `image`: a number from 0 up.
        data: The bytes of some files, by their places in `paths`; these are not opened.
        threads: At most so many; 0 for as many as the machine has.
        impl: A key of IMPLEMENTATIONS; None for the best that is built.

    Raises:
        VocError: If a file is not UTF-8, or a line has other columns, a number that is not finite
            or larger than LARGEST, or an image that is not in `images`.
        OSError: If a file cannot be read.
        TypeError: If a name is not a string, or a number not a number.
        ValueError: If a number is out of range, or `impl` is unknown or not built.
    """
    read = select_implementation(IMPLEMENTATIONS, impl, "voc_files")[1]
    places = exact_array("images", list(images.values()), np.int32)
    validate_within("images", places, 0)
    keys = [_validate_text("images", name) for name in images]
    by_name = dict(zip(keys, places.tolist(), strict=True))
    return Results(**read(list(paths), by_name, validate_threads(threads), data))


def _validate_text(what: str, value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{what} must be strings, not {type(value).__name__}")
    return value
