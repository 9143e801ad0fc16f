"""Text with corners in pixels: `class left top right bottom`, a score behind the class in results.

Source: the input folders of Cartucho/mAP, one file for each image; its ground truth may have
`difficult` behind. Its own average precision counts pixels inclusively (+ 1).
"""

import numpy as np
from numpy.typing import NDArray

from upmap.detection.formats.box_rows import (
    LARGEST_SIDE,
    BoxRows,
    column_places,
    drop_duplicates,
    is_number,
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
from upmap.detection.formats.yolo_names import read_class_numbers
from upmap.detection.inputs import Input
from upmap.detection.tables import Catalog, Detections, GroundTruth
from upmap.errors import InputError
from upmap.kernels.text_rows.contract import RowLayout, TextRows

__all__ = ["is_detections", "is_ground_truth", "read_detections", "read_ground_truth"]

MARK = "difficult"
LAYOUT = RowLayout(name_column=0, keywords={MARK: 1.0})
COLUMNS = ("class", "conf", "left", "top", "right", "bottom")
BOX = "xyxy"


def is_ground_truth(named: Input) -> bool:
    """Whether `named` is a folder of files with rows of a class and four numbers in pixels."""
    rows = peek_rows(named)
    plain = [row[:-1] if row[-1:] == [MARK.encode()] else row for row in rows]
    return bool(rows) and all(len(row) == 5 for row in plain) and _are_pixels(plain)


def is_detections(named: Input) -> bool:
    """Whether `named` is a folder of files with rows of a class, a score and four numbers."""
    rows = peek_rows(named)
    return bool(rows) and all(len(row) == 6 for row in rows) and _are_pixels(rows)


def read_ground_truth(named: Input, options: ReadOptions) -> GroundTruth:
    """Ground truth of text files; each is an image.

    Args:
        named: The folder.
        options: `class_names` for classes that are numbers; `box` for other corners.

    Raises:
        InputError: If a row is malformed; names the file and the line.
    """
    files, images = name_images(find_row_files(named.path), named.path)
    rows = read_row_files(files, options, named.path, LAYOUT)
    table = select_columns(rows, files, [4, 5], "expected a class and 4 numbers")
    is_marked = rows.width == 5
    marks = rows.value[rows.start[1:] - 1]
    message = f"expected a class, 4 numbers and perhaps {MARK!r}; is this a folder of detections?"
    refuse_rows(files, rows, is_marked & (marks != 1), lambda row: message)
    boxes = place_boxes(table, BOX)
    _refuse_inverted(boxes, rows, files)
    validate_box_rows(boxes, rows, files)
    texts = list(rows.names)
    are_numbers = bool(texts) and all(map(is_number, texts))
    if are_numbers and options.class_names is not None:
        known = read_class_numbers(options.class_names)
        texts = [known.get(int(text), text) for text in texts]
        are_numbers = False
    classes = tuple(sorted(set(texts), key=int)) if are_numbers else tuple(sorted(set(texts)))
    catalog = Catalog(images=images, classes=classes, has_numbers=are_numbers)
    label = np.array([classes.index(text) for text in texts], np.int32)[rows.name]
    keep = drop_duplicates(boxes, [rows.file, rows.name], options, named.path)
    return make_ground_truth(
        boxes, rows.file, label, keep, catalog, path=named.path, difficult=is_marked
    )


def read_detections(named: Input, catalog: Catalog, options: ReadOptions) -> Detections:
    """Detections of text files; an image without one has no detections.

    Args:
        named: The folder.
        catalog: The ground truth's images and classes.
        options: `columns` and `box` for other orders; `class_names` for classes that are numbers.

    Raises:
        InputError: If a row is malformed; names the file and the line.
    """
    files = find_row_files(named.path)
    columns = options.columns if isinstance(options.columns, tuple) else COLUMNS
    places = column_places(columns)
    if "score" not in places:
        raise InputError("--columns names no confidence", named.path)
    layout = RowLayout(name_column=places["class"])
    rows = read_row_files(files, options, named.path, layout)
    count = len(columns) - 1
    table = select_columns(rows, files, [count], f"expected a class and {count} numbers")
    # The class is no number of the row.
    behind = {key: place - (place > places["class"]) for key, place in places.items()}
    score = table[:, behind["score"]]
    refuse_rows(files, rows, ~np.isfinite(score), lambda row: "the score is not finite")
    boxes = place_boxes(table[:, [behind[key] for key in "0123"]], options.box or BOX)
    if options.box is None:
        _refuse_inverted(boxes, rows, files)
    validate_box_rows(boxes, rows, files)
    images = match_rows(files.names, rows.file, catalog, options, named.path)
    catalog, labels = place_detected_classes(rows.names, catalog, options, named.path)
    keep = drop_duplicates(boxes, [rows.file, rows.name, score], options, named.path)
    image = np.where(keep, images, -1).astype(np.int32)
    return make_detections(boxes, image, labels[rows.name], score, catalog)


def _are_pixels(rows: list[list[bytes]]) -> bool:
    """Whether the last four words of rows are numbers, some too large for units of a side."""
    try:
        numbers = [[float(word) for word in row[-4:]] for row in rows]
        scores = [float(row[1]) for row in rows if len(row) == 6]
    except ValueError:
        return False
    is_scored = all(0 <= score <= 1 for score in scores)
    return is_scored and any(abs(x) > LARGEST_SIDE for row in numbers for x in row)


def _refuse_inverted(boxes: BoxRows, rows: TextRows, files: RowFiles) -> None:
    """Refuses rows of which many have a right side left of the left one: width and height."""
    is_inverted: NDArray[np.bool_] = np.any(boxes.size < 0, axis=1)
    if is_inverted.sum() * 20 > len(rows):
        message = (
            "right and bottom lie before left and top; are they a width and a height? --box xywh"
        )
        refuse_rows(files, rows, is_inverted, lambda row: message)
