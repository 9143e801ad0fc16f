"""What every reader of COCO JSON takes and returns.

Source: the data and results formats of cocodataset.org.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = [
    "LARGEST_SIDE",
    "NO_ID",
    "Columns",
    "File",
    "Ids",
    "Instances",
    "Kind",
    "Reader",
    "Reading",
    "Results",
    "Source",
]

NO_ID = -(2**63)  # of an annotation without a usable id, and in place of null
LARGEST_SIDE = 2**31  # px; an image of a larger or negative side has an unknown one

# Integers; or all texts; or where a file mixes them, a list of int, str and None.
Ids: TypeAlias = "NDArray[np.int64] | list[Any]"
File: TypeAlias = str | os.PathLike[str] | bytes  # a path, or the bytes of a file
Source: TypeAlias = "File | Reading"
Kind = Literal["instances", "results"]
Columns = dict[str, Any]  # by name, those of Instances or Results


class Reading(NamedTuple):
    """A file that is being read in the background; `instances` and `results` wait for it.

    Attributes:
        path: The file's path.
        kind: What is read.
        native: The native module's `InstancesReading` or `ResultsReading`.
    """

    path: str | os.PathLike[str]
    kind: Kind
    native: Any


@dataclass(frozen=True, slots=True)
class Reader:
    """An implementation: functions of the file and the maximum number of threads.

    Attributes:
        instances: Reads the columns of `Instances`.
        results: Reads the columns of `Results`.
    """

    instances: Callable[[Source, int], Columns]
    results: Callable[[Source, int], Columns]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Instances:
    """The columns of an instances file: I images, K categories, M annotations, in file order.

    What no number depends on is unknown where it is no value of its kind, and never an error.

    Attributes:
        image_id: int64 [I], or a list: see `Ids`.
        file_name: I names; empty where there is none, the digits of an integer.
        image_size: float64 [I, 2], width and height, px; 0 where there is none.
        category_id: int64 [K], or a list.
        category_name: K names; empty where there is none, the digits of an integer.
        annotation_id: int64 [M]; NO_ID where it is no integer.
        annotation_image_id: int64 [M], NO_ID for null; or a list.
        annotation_category_id: int64 [M], NO_ID for null; or a list.
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
    category_id: Ids
    category_name: list[str]
    annotation_id: NDArray[np.int64]
    annotation_image_id: Ids
    annotation_category_id: Ids
    box: NDArray[np.float64]
    size: NDArray[np.float64]
    area: NDArray[np.float64]
    crowd: NDArray[np.bool_]
    difficult: NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Results:
    """The columns of a results file of N detections, in file order.

    Attributes:
        image_id: int64 [N], NO_ID for null; or a list: see `Ids`.
        category_id: int64 [N], NO_ID for null; or a list.
        box: float64 [N, 4], x, y, x + width, y + height, px; that of the mask where there is no
            bbox.
        size: float64 [N, 2], width and height, px.
        score: float64 [N].
        mask_area: float64 [N], px^2, the area of the mask where the box is that of a mask, else
            NaN; None if there is no such box.
        file_names: The file name of each image id, where the results are a whole COCO object.
        category_names: The name of each category id, likewise.
    """

    image_id: Ids
    category_id: Ids
    box: NDArray[np.float64]
    size: NDArray[np.float64]
    score: NDArray[np.float64]
    mask_area: NDArray[np.float64] | None = None
    file_names: Mapping[int | str, str] = field(default_factory=dict)
    category_names: Mapping[int | str, str] = field(default_factory=dict)
