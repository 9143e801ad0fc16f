"""KITTI object labels: a file for each image, with a row of 15 words for each object.

Source: the readme of KITTI's object development kit: `type truncated occluded alpha left top right
bottom height width length x y z rotation_y`, and a score behind in results; pixels from 0. The
official evaluation (40 recall points, least heights) is another protocol.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from upmap.detection.formats.box_rows import (
    BoxRows,
    drop_duplicates,
    make_detections,
    make_ground_truth,
    place_boxes,
    place_detected_classes,
    select_columns,
    validate_box_rows,
)
from upmap.detection.formats.read_options import ReadOptions
from upmap.detection.formats.row_files import (
    RowFiles,
    find_row_files,
    match_rows,
    name_images,
    peek_rows,
    read_row_files,
    refuse_rows,
)
from upmap.detection.inputs import Input
from upmap.detection.tables import Catalog, Detections, GroundTruth, concatenate_truths
from upmap.errors import InputError
from upmap.kernels.text_rows.contract import RowLayout, TextRows

__all__ = ["is_detections", "is_ground_truth", "read_detections", "read_ground_truth"]

LAYOUT = RowLayout(name_column=0)
BOX = slice(3, 7)  # left, top, right, bottom among the numbers behind the type
NUMBERS = 14  # behind the type; one more, the score, in results
IGNORED = "DontCare"  # regions in which nothing is annotated


def is_ground_truth(named: Input) -> bool:
    """Whether `named` is a folder of files whose rows have a type and 14 numbers."""
    return _has_rows(named, NUMBERS)


def is_detections(named: Input) -> bool:
    """Whether `named` is a folder of files whose rows have a type and 15 numbers."""
    return _has_rows(named, NUMBERS + 1)


def read_ground_truth(named: Input, options: ReadOptions) -> GroundTruth:
    """Ground truth of label files; each is an image.

    A DontCare region is a crowd of every class: detections within it are not counted.

    Args:
        named: The folder.
        options: `threads`, `duplicates`.

    Raises:
        InputError: If a row is malformed; names the file and the line.
    """
    files, images = name_images(find_row_files(named.path), named.path)
    rows = read_row_files(files, options, named.path, LAYOUT)
    boxes = _boxes(rows, files, NUMBERS, named)
    classes = tuple(name for name in rows.names if name != IGNORED)
    catalog = Catalog(images=images, classes=classes)
    place = {name: k for k, name in enumerate(classes)}
    label = np.array([place.get(name, -1) for name in rows.names], np.int32)[rows.name]
    keep = drop_duplicates(boxes, [rows.file, rows.name], options, named.path)
    objects = make_ground_truth(
        boxes, rows.file, label, keep & (label >= 0), catalog, path=named.path
    )
    regions = np.flatnonzero(keep & (label < 0))
    return concatenate_truths(
        objects, _regions_as_crowds(boxes, rows.file, regions, catalog, named.path)
    )


def read_detections(named: Input, catalog: Catalog, options: ReadOptions) -> Detections:
    """Detections of result files; an image without one has no detections.

    Args:
        named: The folder.
        catalog: The ground truth's images and classes.
        options: `image_key`, `duplicates`, `threads`.

    Raises:
        InputError: If a row is malformed; names the file and the line.
    """
    files = find_row_files(named.path)
    rows = read_row_files(files, options, named.path, LAYOUT)
    boxes = _boxes(rows, files, NUMBERS + 1, named)
    score = rows.value[rows.start[1:] - 1]
    refuse_rows(files, rows, ~np.isfinite(score), lambda row: "the score is not finite")
    images = match_rows(files.names, rows.file, catalog, options, named.path)
    catalog, places = place_detected_classes(rows.names, catalog, options, named.path)
    keep = drop_duplicates(boxes, [rows.file, rows.name, score], options, named.path)
    image = np.where(keep, images, -1).astype(np.int32)
    return make_detections(boxes, image, places[rows.name], score, catalog)


def _has_rows(named: Input, count: int) -> bool:
    rows = peek_rows(named)
    return bool(rows) and all(len(row) == count + 1 and row[0][:1].isalpha() for row in rows)


def _boxes(rows: TextRows, files: RowFiles, count: int, named: Input) -> BoxRows:
    if not files.paths:
        raise InputError("there are no .txt files in this folder", named.path)
    expected = f"expected a type and {count} numbers"
    if count > NUMBERS:
        expected += ", the score last"
    table = select_columns(rows, files, [count], expected)
    boxes = place_boxes(table[:, BOX], "xyxy")
    validate_box_rows(boxes, rows, files)
    return boxes


def _regions_as_crowds(
    boxes: BoxRows,
    image: NDArray[np.int32],
    regions: NDArray[np.int64],
    catalog: Catalog,
    path: Path,
) -> GroundTruth:
    """The regions, rows of `boxes`, as crowds of every class."""
    count = len(catalog.classes)
    row = np.repeat(regions, count)
    repeated = replace(boxes, corner=boxes.corner[row], size=boxes.size[row])
    label = np.tile(np.arange(count, dtype=np.int32), len(regions))
    every = np.ones(len(row), bool)
    return make_ground_truth(repeated, image[row], label, every, catalog, path=path, crowd=every)
