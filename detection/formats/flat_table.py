"""Flat tables: CSV, TSV, JSON lines, Parquet, Arrow; a row a box, or a row an image with lists.

A row without a box is an image without objects. The order of the rows decides between equal scores
where a protocol goes by the order of the file.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from upmap.detection.boxes import box_area, box_from_corner, scale_to_pixels
from upmap.detection.formats.box_rows import (
    BoxRows,
    note_unnamed_classes,
    place_boxes,
    place_detected_names,
)
from upmap.detection.formats.box_table import BoxTable, class_names_of, read_box_table
from upmap.detection.formats.checks import check_images, check_sides
from upmap.detection.formats.coco_json import NO_CLASS_IDS
from upmap.detection.formats.image_sets import select_images
from upmap.detection.formats.image_sizes import read_image_sizes, scale_detections
from upmap.detection.formats.read_options import ReadOptions
from upmap.detection.formats.table_files import TableFile, open_table, peek_table
from upmap.detection.formats.table_roles import Roles, find_roles
from upmap.detection.ids import ImageKey, find_classes, find_images, strip_name
from upmap.detection.inputs import Input
from upmap.detection.tables import (
    Catalog,
    Detections,
    GroundTruth,
    ImageId,
    are_bounded,
    class_order,
    is_bounded,
    sort_ids,
    with_images,
)
from upmap.errors import InputError, abbreviate_list
from upmap.kernels.delimited.contract import Texts

__all__ = ["is_detections", "is_ground_truth", "read_detections", "read_ground_truth"]

ID_NAMES = ("image_id", "imageid")  # columns that hold the ids of images
PEEKED_ROWS = 1024  # of a table, that mostly tell its boxes to be in px
LARGEST_UNIT = 1.01  # of boxes in units of their image's sides, with Ultralytics' tolerance
MAX_OUTSIDE = 0.02  # of all boxes, from which they are likely others than xywh
NO_LAYOUT = "the column {} does not say what its four numbers are; --box xyxy, xywh or cxcywh says"
PERHAPS_UNITS = (
    "all numbers of the boxes lie in 0 .. 1: are they units of the images' sides or px? --box "
    "{0}-normalized or --box {0} says which"
)
COUNT_FROM_ZERO = (
    "these rows number the classes, and the ground truth (YOLO) counts them from 0; --class-names "
    "FILE says which class a number is"
)


def is_ground_truth(source: Input) -> bool:
    """Whether an input is a table without a column of scores."""
    table = peek_table(source)
    roles = None if table is None else find_roles(table.names, None)
    return table is not None and (roles is None or "score" not in roles)


def is_detections(source: Input) -> bool:
    """Whether an input is a table."""
    return peek_table(source) is not None


def read_ground_truth(source: Input, options: ReadOptions) -> GroundTruth:
    """Ground truth of a table.

    Images without objects are rows without a box, or are not known. Classes are names, or numbers
    that stand for themselves.

    Args:
        source: The file, or a folder of parts.
        options: `columns` and `box` say what the columns are; `sizes` and the like where boxes are
            in units of the images' sides; `image_set` may be a file of images.

    Raises:
        InputError: If a column is missing or a value is wrong; names the line or row.
    """
    table, roles = _open(source, options)
    rows = read_box_table(table, roles, options, source.path)
    catalog, image = _catalog_of_images(rows, options, source.path)
    catalog, label = _catalog_of_classes(rows, catalog, class_names_of(table), source.path)
    keep = rows.has_box
    boxes = _boxes(rows, roles, options, source.path)
    corner, size = boxes.corner[keep], np.ascontiguousarray(boxes.size[keep])
    check_sides(size, source.path)
    area = box_area(size)
    if "area" in rows.numbers:
        areas = rows.numbers["area"][keep]
        area = np.where(np.isnan(areas), area, areas)
    order = np.argsort(image[keep], kind="stable")
    truth = GroundTruth(
        image=image[keep][order],
        label=label[keep][order],
        box=box_from_corner(corner, size)[order],
        size=size[order],
        area=area[order],
        difficult=rows.is_marked("difficult")[keep][order],
        crowd=rows.is_marked("crowd")[keep][order],
        annotation_id=np.arange(1, len(order) + 1),
        catalog=catalog,
        pixels="relative" if boxes.is_relative else "continuous",
    )
    truth = scale_to_pixels(truth)
    if options.box is None and roles.is_dataset:
        _validate_layout(truth, source.path)
    if options.image_set is None:
        return truth
    return with_images(truth, select_images(Path(options.image_set), catalog, options.image_key))


def read_detections(source: Input, catalog: Catalog, options: ReadOptions) -> Detections:
    """Detections of a table.

    Args:
        source: The file, or a folder of parts.
        catalog: The ground truth's images and classes.
        options: `columns`, `box`, `image_key`; `sizes` and the like where boxes are in units of the
            images' sides and the ground truth does not know them.

    Raises:
        InputError: If a column is missing or a value is wrong, or no image is one of the ground
            truth; names the line or row.
    """
    table, roles = _open(source, options, "score")
    rows = read_box_table(table, roles, options, source.path)
    score = rows.numbers["score"]
    if not are_bounded(score):
        is_wrong = rows.has_box & ~np.isfinite(score)
        _refuse(is_wrong, "the score is missing or not finite", source.path)
    image = _places_of_images(rows, catalog, roles, options, source.path)
    catalog, label = _places_of_classes(rows, catalog, options, source.path)
    boxes = _boxes(rows, roles, options, source.path)
    keep = _select(rows.has_box & (image >= 0) & (label >= 0))
    corner, size = boxes.corner[keep], np.ascontiguousarray(boxes.size[keep])
    detections = Detections(
        image=image[keep],
        label=label[keep],
        # The numbers that were read are not needed any more, and large.
        box=box_from_corner(corner, size, rows.box if isinstance(keep, slice) else None),
        size=size,
        score=score[keep],
        row=np.arange(len(rows.box))[keep],
        catalog=catalog,
        pixels="relative" if boxes.is_relative else "continuous",
    )
    return scale_detections(detections, options)


def _open(source: Input, options: ReadOptions, *needed: str) -> tuple[TableFile, Roles]:
    table = open_table(source)
    roles = find_roles(table.names, options.columns)
    missing = [role for role in ("class", *needed) if roles is None or role not in roles]
    if roles is None or missing:
        what = "an image and a box" if roles is None else f"the {missing[0]}"
        columns = abbreviate_list([*table.names], 20)
        message = f"no column for {what} among {columns}; --columns NAME=COLUMN says which"
        raise InputError(message, source.path)
    return table, roles


def _catalog_of_images(
    rows: BoxTable, options: ReadOptions, path: Path
) -> tuple[Catalog, NDArray[np.int32]]:
    """The images, and the place of each row's among them."""
    _refuse(rows.is_missing("image"), "the image is missing", path)
    index: NDArray[Any]
    if isinstance(rows.image, Texts):
        names, index = _image_names(rows.image.names), rows.image.index
        files = rows.image.names if names != rows.image.names else []
    else:
        numbers, index = np.unique(rows.image, return_inverse=True)
        names, files = numbers.tolist(), []
    order = sorted(range(len(names)), key=names.__getitem__)
    places = np.empty(len(order), np.int32)
    places[order] = np.arange(len(order), dtype=np.int32)
    image = places[index] if len(places) else np.zeros(0, np.int32)
    images: tuple[ImageId, ...] = tuple(sort_ids(names))
    sizes = rows.image_sizes(image, len(images))
    if not len(sizes) and (options.sizes or options.image_size or options.images):
        sizes = read_image_sizes([str(name) for name in images], options)
    catalog = Catalog(
        images=images,
        classes=(),
        file_names=tuple(files[i] for i in order) if files else (),
        sizes=sizes if sizes.all() else np.zeros((0, 2), np.int64),
    )
    return catalog, image


def _image_names(keys: list[str]) -> list[str]:
    """The names of images: without folders and endings, if these differ then."""
    names = [strip_name(key) for key in keys]
    return names if len(set(names)) == len(names) else keys


def _catalog_of_classes(
    rows: BoxTable, catalog: Catalog, names: Mapping[int, str] | None, path: Path
) -> tuple[Catalog, NDArray[np.int32]]:
    """The catalog with the classes of the rows, and the place of each row's among them."""
    is_missing = rows.is_missing("class_key") & rows.has_box
    _refuse(is_missing, "the class is missing", path)
    if isinstance(rows.class_key, Texts):
        classes = class_order(rows.class_key.names)
        place = {name: k for k, name in enumerate(classes)}
        places = np.array([*(place[name] for name in rows.class_key.names), -1], np.int32)
        return replace(catalog, classes=classes, class_ids=()), places[rows.class_key.index]
    numbers = np.unique(rows.class_key[rows.has_box])
    if names is None:
        names = {number: str(number) for number in numbers.tolist()}
        changes: dict[str, Any] = {"class_ids": tuple(names), "has_numbers": True}
    else:  # counted from 0, as those of YOLO
        changes = {"class_ids": tuple(number + 1 for number in names), "has_indices": True}
    known = np.array(list(names), np.int64)
    _refuse(~np.isin(rows.class_key, known) & rows.has_box, "the class has no name", path)
    label = np.searchsorted(known, rows.class_key).clip(max=max(len(known) - 1, 0))
    changes |= {"classes": tuple(names.values()), "has_class_ids": True}
    return replace(catalog, **changes), label.astype(np.int32)


def _places_of_images(
    rows: BoxTable, catalog: Catalog, roles: Roles, options: ReadOptions, path: Path
) -> NDArray[np.int32]:
    """The place of each row's image in the catalog, -1 where it is not listed, which is noted."""
    usual: ImageKey | None = "id" if roles.columns.get("image", "").lower() in ID_NAMES else None
    settings: dict[str, Any] = {"image_key": options.image_key, "usual": usual, "path": path}
    if isinstance(rows.image, Texts):
        names: list[Any] = rows.image.names
        places = np.append(find_images(list(names), catalog, **settings), np.int32(-1))
        image = places[rows.image.index]
    else:
        image = find_images(rows.image, catalog, **settings)
    listed = image[rows.has_box]
    if len(listed) and listed.min() < 0:
        lost = rows.has_box & (image < 0)
        keys = rows.image.index[lost] if isinstance(rows.image, Texts) else rows.image[lost]
        unknown = np.unique(keys).tolist()
        if isinstance(rows.image, Texts):
            unknown = [rows.image.names[k] if k >= 0 else None for k in unknown]
        check_images(listed, [repr(name) for name in unknown], catalog, path)
    return image


def _places_of_classes(
    rows: BoxTable, catalog: Catalog, options: ReadOptions, path: Path
) -> tuple[Catalog, NDArray[np.int32]]:
    """The catalog with the rows' classes, and the place of each row's; -1 for unknown numbers."""
    if isinstance(rows.class_key, Texts):
        catalog, places = place_detected_names(rows.class_key.names, catalog, path)
        return catalog, np.append(places, np.int32(-1))[rows.class_key.index]
    if catalog.has_indices and len(rows.class_key):
        raise InputError(COUNT_FROM_ZERO, path)
    if not catalog.has_class_ids and len(rows.class_key):
        raise InputError(NO_CLASS_IDS, path)
    label = find_classes(rows.class_key, catalog)
    is_unknown = (label < 0) & rows.has_box
    if is_unknown.any():
        numbers = [str(number) for number in np.unique(rows.class_key[is_unknown]).tolist()]
        note_unnamed_classes(numbers, f"{int(is_unknown.sum())} boxes", path)
    return catalog, label


def _boxes(rows: BoxTable, roles: Roles, options: ReadOptions, path: Path) -> BoxRows:
    """The boxes of all rows; of those without one they are not finite."""
    says_nothing = roles.layout is None or roles.is_dataset
    stated = options.box if says_nothing or _fits_names(options.box, roles.layout) else None
    layout = stated or roles.layout
    if layout is None:
        raise InputError(NO_LAYOUT.format(repr(roles.box[0])), path)
    if not rows.is_whole:
        is_wrong = rows.has_box & ~is_bounded(rows.box).all(axis=1)
        _refuse(is_wrong, "the box is not finite or too large, or lacks a number", path)
    if stated is None and _are_units(rows.box[_select(rows.has_box)]):
        raise InputError(PERHAPS_UNITS.format(layout), path)
    return place_boxes(rows.box, layout)


def _are_units(numbers: NDArray[np.float64]) -> bool:
    """Whether all lie in 0 .. 1; the first ones mostly tell that they do not."""
    head = numbers[:PEEKED_ROWS]
    if not len(head) or head.max() > LARGEST_UNIT:
        return False
    return bool(0 <= numbers.min() <= numbers.max() <= LARGEST_UNIT)


def _select(is_kept: NDArray[np.bool_]) -> NDArray[np.bool_] | slice:
    """An index of the rows to keep, without copies where it is all."""
    return slice(None) if is_kept.all() else is_kept


def _fits_names(box: str | None, layout: str | None) -> bool:
    """Whether columns that are called like `layout` can be `box`, or it is said of the other input.

    >>> _fits_names("xyxy-normalized", "xyxy"), _fits_names("cxcywh", "xywh")
    (True, True)
    >>> _fits_names("xywh", "xyxy")
    False
    """
    form = (box or "").removesuffix("-normalized")
    return form == layout or (form, layout) == ("cxcywh", "xywh")


def _validate_layout(truth: GroundTruth, path: Path) -> None:
    """Refuses boxes xywh, which nothing says, if many reach outside their images.

    Raises:
        InputError: Names the option that says what they are.
    """
    if not len(truth) or not len(truth.catalog.sizes):
        return
    outside = (truth.box[:, 2:] > truth.catalog.sizes[truth.image] + 1).any(axis=1)
    if outside.mean() > MAX_OUTSIDE:
        count = int(outside.sum())
        message = f"read as xywh, {count} of {len(truth)} boxes reach outside their image"
        raise InputError(f"{message}; --box xyxy or --box xywh says what the numbers are", path)


def _refuse(is_wrong: NDArray[np.bool_], message: str, path: Path) -> None:
    """Refuses the first row that is wrong, counted from 1 behind the names of the columns."""
    if is_wrong.any():
        raise InputError(message, path, f"row {int(np.argmax(is_wrong)) + 1}")
