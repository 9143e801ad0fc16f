"""DOTA text: four corners in pixels from 0, a class, a mark; results in a file for each class.

Source: DOTA's development kit. Labels are `x1 y1 x2 y2 x3 y3 x4 y4 class difficult`, below lines
`imagesource:` and `gsd:`. Results are Task1_<class>.txt, `image score x1 y1 .. x4 y4`, and
Task2_<class>.txt, `image score xmin ymin xmax ymax`. Oriented boxes are evaluated by their hulls,
and only where that is asked for.
"""

import re
from pathlib import Path

import numpy as np

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
from upmap.detection.inputs import Input, files_in
from upmap.detection.tables import Catalog, Detections, GroundTruth
from upmap.errors import InputError
from upmap.kernels.text_rows.contract import RowLayout, TextRows

__all__ = ["is_detections", "is_ground_truth", "read_detections", "read_ground_truth"]

HEADERS = ("imagesource", "gsd")
LABELS = RowLayout(name_column=8, skipped_prefixes=HEADERS)
RESULTS = RowLayout(name_column=0)
RESULT_NAME = re.compile(r"Task([12])_(.+)\.txt")
ORIENTED = "the box is oriented; --task obb evaluates its hull, which is not DOTA's metric"


def is_ground_truth(named: Input) -> bool:
    """Whether `named` is a folder of files with rows of eight numbers, a class and a mark."""
    rows = [
        row for row in peek_rows(named) if not row[0].lower().startswith((b"imagesource", b"gsd"))
    ]
    return bool(rows) and all(
        len(row) in (9, 10) and _are_numbers(row[:8]) and not _are_numbers(row[8:9]) for row in rows
    )


def is_detections(named: Input) -> bool:
    """Whether `named` is a folder of Task1_<class>.txt or Task2_<class>.txt."""
    return named.is_folder() and bool(_result_files(named.path))


def read_ground_truth(named: Input, options: ReadOptions) -> GroundTruth:
    """Ground truth of labelTxt files; each is an image.

    Args:
        named: The folder.
        options: `task` "obb" for the hulls of oriented boxes.

    Raises:
        InputError: If a row is malformed, or a box is oriented and its hull not asked for.
    """
    files, images = name_images(find_row_files(named.path), named.path)
    rows = read_row_files(files, options, named.path, LABELS)
    select_columns(rows, files, [8, 9], "expected 8 numbers, a class and perhaps a mark")
    boxes = _hull_boxes(rows, files, 0, options)
    validate_box_rows(boxes, rows, files)
    marks = np.where(rows.width == 9, rows.value[rows.start[1:] - 1], 0)
    keep = drop_duplicates(boxes, [rows.file, rows.name], options, named.path)
    catalog = Catalog(images=images, classes=tuple(rows.names))
    return make_ground_truth(
        boxes, rows.file, rows.name, keep, catalog, path=named.path, difficult=marks != 0
    )


def read_detections(named: Input, catalog: Catalog, options: ReadOptions) -> Detections:
    """Detections of Task1 or Task2 files; a class without a file has no detections.

    Args:
        named: The folder.
        catalog: The ground truth's images and classes.
        options: `task` "obb" for the hulls of oriented boxes, in Task1.

    Raises:
        InputError: If a row is malformed, or a box is oriented and its hull not asked for.
    """
    path = named.path
    results = _result_files(path)
    tasks = {task for task, _, _ in results}
    if len(tasks) != 1:
        raise InputError("expected files of one task, Task1_<class>.txt or Task2_<class>.txt", path)
    files = RowFiles([name for _, name, _ in results], [str(file) for _, _, file in results])
    rows = read_row_files(files, options, path, RESULTS)
    if tasks == {"2"}:
        table = select_columns(rows, files, [5], "expected an image and 5 numbers")
        boxes = place_boxes(table[:, 1:], "xyxy")
    else:
        select_columns(rows, files, [9], "expected an image and 9 numbers")
        boxes = _hull_boxes(rows, files, 1, options)
    validate_box_rows(boxes, rows, files)
    score = rows.value[rows.start[:-1]]
    refuse_rows(files, rows, ~np.isfinite(score), lambda row: "the score is not finite")
    images = match_rows(rows.names, rows.name, catalog, options, path)
    catalog, places = place_detected_classes(files.names, catalog, options, path)
    keep = drop_duplicates(boxes, [rows.file, rows.name, score], options, path)
    image = np.where(keep, images, -1).astype(np.int32)
    return make_detections(boxes, image, places[rows.file], score, catalog)


def _result_files(folder: Path) -> list[tuple[str, str, Path]]:
    """The task, the class and the file of each file of results."""
    files = files_in(folder, "Task*.txt")
    matches = [(RESULT_NAME.fullmatch(file.name), file) for file in files]
    return [(match[1], match[2], file) for match, file in matches if match]


def _are_numbers(words: list[bytes]) -> bool:
    try:
        return all(abs(float(word)) >= 0 for word in words)
    except ValueError:
        return False


def _hull_boxes(rows: TextRows, files: RowFiles, first: int, options: ReadOptions) -> BoxRows:
    """The hulls of four corners behind `first` numbers; oriented boxes only on request."""
    at = rows.start[:-1, np.newaxis] + first + np.arange(8)
    corners = rows.value[at].reshape(-1, 4, 2) if len(rows) else np.zeros((0, 4, 2))
    low, high = corners.min(axis=1), corners.max(axis=1)
    if options.task != "obb":
        is_low, is_high = corners == low[:, np.newaxis], corners == high[:, np.newaxis]
        # Of a box along the axes each corner is at an end of both, and opposite ones differ.
        is_plain = (is_low | is_high).all(axis=(1, 2))
        is_plain &= (corners[:, 0] + corners[:, 2] == low + high).all(axis=1)
        is_plain &= (corners[:, 1] + corners[:, 3] == low + high).all(axis=1)
        is_finite = np.isfinite(corners).all(axis=(1, 2))
        refuse_rows(files, rows, is_finite & ~is_plain, lambda row: ORIENTED)
    return place_boxes(np.concatenate([low, high], axis=1), "xyxy")
