"""What every reader of VOC files takes and returns.

Source: the VOC2007 and VOC2012 development kits (PASreadrecord.m, VOCevaldet.m).
"""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "Annotations",
    "Columns",
    "Data",
    "Path",
    "Reader",
    "Results",
    "Track",
]

Path = str | os.PathLike[str]
Columns = dict[str, Any]  # by name, those of Annotations or Results
Track = Callable[[list[str]], Iterable[str]]  # iterates over names and shows progress
Data = Mapping[int, bytes]  # the bytes of some files, by their places


@dataclass(frozen=True, slots=True)
class Reader:
    """An implementation.

    Attributes:
        annotations: (folder, names, threads, track) to the columns of `Annotations`; labels are
            places in class_name, whose order is that of the files.
        results: (paths, images, threads, data) to the columns of `Results`.
    """

    annotations: Callable[[Path, list[str], int, Track], Columns]
    results: Callable[[Sequence[Path], dict[str, int], int, Data], Columns]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Annotations:
    """The M objects of I annotations, in the order of the files and within them.

    Attributes:
        class_name: The K names that occur, ascending.
        image: int32 [M], index into the files.
        label: int32 [M], index into class_name.
        box: float64 [M, 4], xmin, ymin, xmax, ymax, px; it may be inverted.
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
    """The N detections of some results files, in the order of the files and within them.

    Attributes:
        file: int32 [N], index into the files.
        image: int32 [N], the number of the image id.
        score: float64 [N].
        box: float64 [N, 4], xmin, ymin, xmax, ymax, px.
    """

    file: NDArray[np.int32]
    image: NDArray[np.int32]
    score: NDArray[np.float64]
    box: NDArray[np.float64]
