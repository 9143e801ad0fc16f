"""Rows of numbers to boxes: `class x y w h`, polygons, scores, in whatever order and units."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from upmap.detection.formats.checks import note
from upmap.detection.formats.read_options import ReadOptions
from upmap.detection.formats.row_files import RowFiles, find_duplicates, refuse_rows
from upmap.detection.tables import Catalog, Detections, is_bounded
from upmap.errors import InputError
from upmap.kernels.text_rows.contract import TextRows

__all__ = [
    "BOX_KINDS",
    "BoxRows",
    "column_places",
    "drop_duplicates",
    "hulls",
    "integer_labels",
    "make_detections",
    "place_boxes",
    "select_columns",
]

Floats = NDArray[np.float64]
BOX_KINDS = ("xyxy", "xywh", "cxcywh")
NORMALIZED = "-normalized"  # behind a kind: in units of the image's sides
# What columns may be called in `--columns`; the others are left out.
COLUMN_NAMES = {
    "class": "label label_id class_id cls category name",
    "score": "conf confidence probability",
    "0": "x cx xc x_center xmin x1 left",
    "1": "y cy yc y_center ymin y1 top",
    "2": "w width xmax x2 right",
    "3": "h height ymax y2 bottom",
}


@dataclass(frozen=True, slots=True)
class BoxRows:
    """The numbers of N rows that say what a box is.

    Attributes:
        corner: float64 [N, 2], left and top.
        size: float64 [N, 2], width and height.
        is_relative: Whether both are in units of the image's sides; else px.
    """

    corner: Floats
    size: Floats
    is_relative: bool


def select_columns(rows: TextRows, files: RowFiles, widths: Sequence[int], message: str) -> Floats:
    """The numbers of all rows as a table, float64 [N, widths[0]]; further columns are left out.

    Args:
        rows: The rows.
        files: Their files.
        widths: How many numbers a row may have, the least first.
        message: What was expected, for rows that have another number of them.

    Raises:
        InputError: If a row has another number of them; names the file and the line.
    """
    width = rows.width
    refuse_rows(
        files, rows, ~np.isin(width, widths), lambda row: f"{message}, got {width[row]} numbers"
    )
    if len(rows) and (width == width[0]).all():
        return rows.value.reshape(len(rows), -1)[:, : widths[0]]
    at = rows.start[:-1, np.newaxis] + np.arange(widths[0])
    values: Floats = rows.value[at] if len(rows) else np.zeros((0, widths[0]))
    return values


def hulls(rows: TextRows, first: int, behind: int) -> Floats:
    """The hulls xyxy, float64 [N, 4], of the points of rows: `first` numbers, x y x y ..., others.

    Args:
        rows: Rows, each with at least one point.
        first: How many numbers stand before the points.
        behind: How many numbers stand behind them.
    """
    if not len(rows):
        return np.zeros((0, 4))
    width = rows.width
    place = np.arange(len(rows.value)) - np.repeat(rows.start[:-1], width)
    is_point = (place >= first) & (place < np.repeat(width, width) - behind)
    points = rows.value[is_point].reshape(-1, 2)
    count = (width - first - behind) // 2
    start = np.cumsum(count) - count
    return np.concatenate(
        [np.minimum.reduceat(points, start), np.maximum.reduceat(points, start)], axis=1
    )


def place_boxes(numbers: Floats, kind: str) -> BoxRows:
    """Boxes of four numbers, float64 [N, 4].

    Args:
        numbers: As the file has them.
        kind: One of BOX_KINDS, with "-normalized" behind for units of the image's sides.

    Raises:
        InputError: If there is no such kind.
    """
    name = kind.removesuffix(NORMALIZED).removesuffix("_normalized")
    if name not in BOX_KINDS:
        kinds = ", ".join(BOX_KINDS)
        raise InputError(f"no kind of box {kind!r}; there are {kinds}, also with {NORMALIZED}")
    first, second = numbers[:, :2], numbers[:, 2:]
    if name == "xyxy":
        boxes = first, second - first
    elif name == "xywh":
        boxes = first, second
    else:
        boxes = first - second / 2, second
    return BoxRows(*boxes, name != kind)


def column_places(columns: Mapping[str, str] | tuple[str, ...]) -> dict[str, int]:
    """The places of "class", "score" and the box's numbers "0" .. "3" in a row.

    Args:
        columns: What the columns are called, in order: class, conf, x, y, w, h.

    Raises:
        InputError: If one of them is not named, or twice.
    """
    meaning = {word: key for key, words in COLUMN_NAMES.items() for word in (key, *words.split())}
    places: dict[str, int] = {}
    for place, name in enumerate(columns):
        key = meaning.get(name.strip().lower())
        if key in places:
            raise InputError(f"--columns names {name!r} twice")
        if key is not None:
            places[key] = place
    if missing := {"class", "0", "1", "2", "3"} - set(places):
        shown = ",".join(columns)
        message = "--columns takes the names of a row's columns, such as class,conf,x,y,w,h"
        raise InputError(f"{message}; {shown[:60]!r} lacks {len(missing)} of them")
    return places


def integer_labels(values: Floats, rows: TextRows, files: RowFiles) -> NDArray[np.int64]:
    """Class numbers, int64 [N].

    Raises:
        InputError: If one is not a whole number from 0; names the file and the line.
    """
    with np.errstate(invalid="ignore"):
        labels = np.where(is_bounded(values), values, -1).astype(np.int64)
    is_wrong = (labels != values) | (labels < 0) | (values > 1e9)
    refuse_rows(files, rows, is_wrong, lambda row: f"{values[row]:g} is not a class number")
    return labels


def drop_duplicates(
    boxes: BoxRows, others: Sequence[NDArray[np.generic]], options: ReadOptions, path: str
) -> NDArray[np.bool_]:
    """Which rows are kept, bool [N]; rows that repeat an earlier one of their image are noted.

    Args:
        boxes: The boxes.
        others: The further columns by which rows differ: file, class, score.
        options: `duplicates` says whether they are kept.
        path: The folder, for messages.
    """
    columns = [*others, *boxes.corner.T, *boxes.size.T]
    is_repeated = find_duplicates(columns)
    count = int(is_repeated.sum())
    is_dropped = options.duplicates == "drop"
    if count:
        treatment = "dropped" if is_dropped else "kept; --duplicates drop leaves them out"
        from pathlib import Path

        note("duplicate-row", count, Path(path), f"{count} rows repeat an earlier one: {treatment}")
    return ~is_repeated if is_dropped else np.ones(len(is_repeated), bool)


def make_detections(
    boxes: BoxRows,
    image: NDArray[np.int32],
    label: NDArray[np.int32],
    score: Floats,
    catalog: Catalog,
) -> Detections:
    """The table of the rows whose image and label are not negative, in the order of the rows.

    Args:
        boxes: N boxes.
        image: int32 [N], index into catalog.images; negative ones are left out.
        label: int32 [N], index into catalog.classes; negative ones are left out.
        score: float64 [N].
        catalog: The images and classes.
    """
    keep = (image >= 0) & (label >= 0)
    corner, size = boxes.corner[keep], boxes.size[keep]
    return Detections(
        image=image[keep],
        label=label[keep],
        box=np.concatenate([corner, corner + size], axis=1),
        size=size,
        score=score[keep],
        row=np.arange(int(keep.sum())),
        catalog=catalog,
        pixels="relative" if boxes.is_relative else "continuous",
    )
