"""Rows of numbers to boxes: `class x y w h`, polygons, scores, in whatever order and units."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from upmap.detection.boxes import box_area, box_from_corner
from upmap.detection.formats.checks import check_sides, is_outside_unit, note
from upmap.detection.formats.read_options import ReadOptions
from upmap.detection.formats.row_files import RowFiles, find_duplicates, refuse_rows
from upmap.detection.formats.yolo_names import read_class_numbers
from upmap.detection.tables import Catalog, Detections, GroundTruth, is_bounded
from upmap.errors import InputError, abbreviate_list
from upmap.kernels.columns import LARGEST
from upmap.kernels.text_rows.contract import TextRows

__all__ = [
    "BOX_KINDS",
    "LARGEST_SIDE",
    "BoxRows",
    "column_places",
    "drop_duplicates",
    "hulls",
    "integer_labels",
    "is_number",
    "make_detections",
    "make_ground_truth",
    "note_unnamed_classes",
    "place_boxes",
    "place_detected_classes",
    "place_detected_names",
    "select_columns",
    "validate_box_rows",
]

Floats = NDArray[np.float64]
LARGEST_SIDE = 2.0  # of a side; larger values are pixels
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
        with np.errstate(invalid="ignore"):  # of infinite numbers, which the caller refuses
            boxes = first, second - first
    elif name == "xywh":
        boxes = first, second
    else:
        boxes = first - second / 2, second
    return BoxRows(*boxes, name != kind)


def column_places(columns: tuple[str, ...]) -> dict[str, int]:
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
    boxes: BoxRows, others: Sequence[NDArray[np.generic]], options: ReadOptions, path: Path
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
        note("duplicate-row", count, path, f"{count} rows repeat an earlier one: {treatment}")
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
        box=box_from_corner(corner, size),
        size=size,
        score=score[keep],
        row=np.arange(int(keep.sum())),
        catalog=catalog,
        pixels="relative" if boxes.is_relative else "continuous",
    )


def make_ground_truth(
    boxes: BoxRows,
    image: NDArray[np.int32],
    label: NDArray[np.int32],
    keep: NDArray[np.bool_],
    catalog: Catalog,
    *,
    path: Path,
    difficult: NDArray[np.bool_] | None = None,
    crowd: NDArray[np.bool_] | None = None,
) -> GroundTruth:
    """The table of the rows that are kept; inverted boxes and those outside the image are noted.

    Args:
        boxes: N boxes.
        image: int32 [N], index into catalog.images.
        label: int32 [N], index into catalog.classes.
        keep: bool [N].
        catalog: The images and classes.
        path: The file or folder, for messages.
        difficult: bool [N]; None if no box is.
        crowd: bool [N]; None if no box is.
    """
    corner, size = boxes.corner[keep], boxes.size[keep]
    box, count = box_from_corner(corner, size), len(size)
    check_sides(size, path)
    if boxes.is_relative and (outside := int(is_outside_unit(box).sum())):
        message = f"{outside} ground truths reach outside their image; they are kept as they are"
        note("ground-truth-outside-image", outside, path, message)
    return GroundTruth(
        image=image[keep],
        label=label[keep],
        box=box,
        size=size,
        area=box_area(size),
        difficult=np.zeros(count, bool) if difficult is None else difficult[keep],
        crowd=np.zeros(count, bool) if crowd is None else crowd[keep],
        annotation_id=np.arange(1, count + 1),
        catalog=catalog,
        pixels="relative" if boxes.is_relative else "continuous",
    )


def validate_box_rows(boxes: BoxRows, rows: TextRows, files: RowFiles) -> None:
    """Refuses what is not finite, or in pixels where parts of the image are expected.

    Raises:
        InputError: Names the file and the line.
    """
    with np.errstate(invalid="ignore"):  # of infinite numbers, which are refused
        reach = np.maximum(np.abs(boxes.corner), np.abs(boxes.corner + boxes.size))
        largest = reach.max(axis=1, initial=0.0)
    message = "the box's numbers are not finite or too large"
    refuse_rows(files, rows, ~(largest < LARGEST), lambda row: message)
    is_large = largest > LARGEST_SIDE
    if boxes.is_relative and is_large.sum() * 2 > len(rows):
        hint = "expected units of the image's sides, 0 to 1; these are pixels (--box says so)"
        refuse_rows(files, rows, is_large, lambda row: hint)


def place_detected_classes(
    names: Sequence[str], catalog: Catalog, options: ReadOptions, path: Path
) -> tuple[Catalog, NDArray[np.int32]]:
    """The catalog with the classes that detections name, and the place of each name in them.

    Names that are all numbers are looked up in `class_names`, or as the ground truth numbers its
    classes.

    Raises:
        InputError: If they are numbers and the ground truth has names and nothing says which.
    """
    if options.class_names is not None and all(map(is_number, names)):
        known = read_class_numbers(options.class_names)
        texts = [known.get(int(name), "") for name in names]
        if unknown := [name for name, text in zip(names, texts, strict=True) if not text]:
            note_unnamed_classes(unknown, f"{len(unknown)} classes", path)
    elif names and all(map(is_number, names)) and not catalog.has_numbers:
        message = "these files number the classes, and the ground truth names them"
        hint = "--class-names FILE says which class a number is, counted from 0"
        raise InputError(f"{message}; {hint}", path)
    else:
        texts = list(names)
    return place_detected_names(texts, catalog, path)


def place_detected_names(
    names: Sequence[str], catalog: Catalog, path: Path
) -> tuple[Catalog, NDArray[np.int32]]:
    """The catalog with the classes that detections name, and the place of each name in them.

    Args:
        names: The names; empty ones have the place -1.
        catalog: The ground truth's classes.
        path: The file or folder, for messages.

    Raises:
        InputError: If the ground truth numbers its classes and nothing names them.
    """
    if catalog.has_numbers and names and not all(map(is_number, filter(None, names))):
        message = "these files name the classes, and the ground truth numbers them"
        raise InputError(f"{message}; give the ground truth names, too", path)
    classes = (*catalog.classes, *sorted({*names} - {*catalog.classes, ""}))
    place = {text: k for k, text in enumerate(classes)}
    if classes != catalog.classes:
        catalog = replace(catalog, classes=classes, class_ids=())
    return catalog, np.array([place.get(text, -1) for text in names], np.int32)


def note_unnamed_classes(names: Sequence[str], what: str, path: Path, hint: str = "") -> None:
    """Notes classes, given by number, that have no name.

    Args:
        names: The numbers, ascending.
        what: What is left out for it, such as "3 boxes".
        path: The folder.
        hint: What may be the cause.
    """
    message = f"{what} without a class name are left out: {abbreviate_list([*names])}{hint}"
    note("class-without-name", len(names), path, message, [*names[:5]])


def is_number(name: str) -> bool:
    """Whether a class is named by a number."""
    return name.isascii() and name.isdecimal() and len(name) < 10
