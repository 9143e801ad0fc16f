"""YOLO text: a file for each image, with a row `class xc yc w h` for each box.

Source: Ultralytics 8.4, data/utils.py (verify_image_label) and engine/results.py (save_txt).
Numbers are in units of the image's sides. Detections have the score last, and perhaps the number of
a track behind it; darknet's tools write it second.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from upmap.detection.boxes import scale_to_pixels, scale_to_sides
from upmap.detection.formats.box_rows import (
    LARGEST_SIDE,
    BoxRows,
    column_places,
    drop_duplicates,
    hulls,
    integer_labels,
    make_detections,
    make_ground_truth,
    note_unnamed_classes,
    place_boxes,
    select_columns,
    validate_box_rows,
)
from upmap.detection.formats.checks import TOLERANCE, note
from upmap.detection.formats.image_sets import select_images
from upmap.detection.formats.image_sizes import read_image_sizes, scale_detections
from upmap.detection.formats.read_options import ReadOptions
from upmap.detection.formats.row_files import (
    PEEKED_BYTES,
    RowFiles,
    find_row_files,
    match_rows,
    peek_rows,
    read_row_files,
    refuse_rows,
)
from upmap.detection.formats.voc_xml import format_number, output_image_names
from upmap.detection.formats.yolo_dataset import (
    SPLITS,
    LabeledImages,
    find_description,
    find_labeled_images,
    list_splits,
)
from upmap.detection.formats.yolo_names import find_class_names, read_class_numbers
from upmap.detection.inputs import Input, files_in, is_listing
from upmap.detection.tables import (
    Catalog,
    Detections,
    GroundTruth,
    TableT,
    base_name,
    row_subset,
    with_images,
)
from upmap.errors import InputError, abbreviate_list
from upmap.kernels.text_rows.contract import TextRows

__all__ = [
    "image_sets",
    "is_detections",
    "is_ground_truth",
    "read_detections",
    "read_ground_truth",
    "write_tables",
]

Floats = NDArray[np.float64]
BOX = "cxcywh-normalized"
IMAGE_PATH = re.compile(rb"\S.*\.(jpe?g|png|bmp|webp|tiff?)", re.IGNORECASE)
TASKS = (
    "polygons (--task segment), four corners (--task obb), or boxes with other numbers behind them "
    "(--task detect)"
)
NO_SCORE = (
    "detections without a confidence cannot be ranked: predict with save_txt=True save_conf=True, "
    "which writes `class xc yc w h conf`"
)
CONFIDENCE_PLACE = (
    "the confidence can be the last of six numbers (Ultralytics) or the second (darknet's tools): "
    "--columns class,x,y,w,h,conf or --columns class,conf,x,y,w,h settles it"
)


def is_ground_truth(named: Input) -> bool:
    """Whether `named` describes YOLO labels: data.yaml, obj.data, a list of images, a folder."""
    description = find_description(named)
    if description is not None:
        return description.suffix == ".data" or b"names" in description.read_bytes()[: 2**16]
    if not named.is_folder():
        return named.path.suffix == ".txt" and named.data is None and _lists_images(named)
    if (named.path / "obj.names").is_file() and files_in(named.path, "train.txt", "valid.txt"):
        return True
    return _are_label_rows(named, lambda count: count == 5 or count >= 7)


def is_detections(named: Input) -> bool:
    """Whether `named` is a folder of rows of a class, a box in units of the image, and a score."""
    return _are_label_rows(named, lambda count: count >= 6)


def image_sets(named: Input) -> Mapping[str, Path]:
    """The splits of data.yaml or obj.data."""
    return list_splits(named)


def read_ground_truth(named: Input, options: ReadOptions) -> GroundTruth:
    """Ground truth of label files; an image without one has no objects.

    Sizes come from `options`, or from the headers of the image files that the labels belong to.
    Where an image has none, all boxes stay in units of the image's sides.

    Args:
        named: See `is_ground_truth`.
        options: `image_set` is a split, or a text file with an image on each line.

    Raises:
        InputError: If a file is malformed, or rows can be read in several ways; names the file and
            the line.
    """
    split, image_list = _split_or_list(named, options.image_set)
    labeled = find_labeled_images(named, split)
    order = sorted(range(len(labeled.names)), key=labeled.names.__getitem__)
    catalog = _catalog(labeled, order, options, named.path)
    places = [place for place, i in enumerate(order) if labeled.labels[i] is not None]
    paths = [path for i in order if (path := labeled.labels[i]) is not None]
    files = RowFiles([labeled.names[order[place]] for place in places], paths)
    rows = read_row_files(files, options, named.path)
    boxes = _truth_boxes(rows, files, labeled, options)
    validate_box_rows(boxes, rows, files)
    labels = integer_labels(rows.value[rows.start[:-1]], rows, files)
    catalog, label = _name_classes(labels, catalog, labeled.class_names, options, named.path)
    keep = drop_duplicates(boxes, [rows.file, labels], options, named.path) & (label >= 0)
    image = np.array(places, np.int32)[rows.file]
    table = scale_to_pixels(make_ground_truth(boxes, image, label, keep, catalog, path=named.path))
    if image_list is None:
        return table
    return with_images(table, select_images(image_list, catalog))


def read_detections(named: Input, catalog: Catalog, options: ReadOptions) -> Detections:
    """Detections of label files with scores; an image without one has no detections.

    Args:
        named: The folder, or one that has them in a folder `labels`.
        catalog: The ground truth's images and classes.
        options: `columns` says where the score stands, `class_names` which class a number is.

    Raises:
        InputError: If a file is malformed, or rows can be read in several ways; names the file and
            the line.
    """
    folder = named.path / "labels" if (named.path / "labels").is_dir() else named.path
    if not folder.is_dir():
        raise InputError("expected a folder of label files", named.path)
    files = find_row_files(folder)
    rows = read_row_files(files, options, folder)
    fields = _detection_fields(rows, files, folder, options)
    refuse_rows(files, rows, ~np.isfinite(fields.score), lambda row: "the confidence is not finite")
    validate_box_rows(fields.boxes, rows, files)
    labels = integer_labels(fields.label, rows, files)
    images = match_rows(files.names, rows.file, catalog, options, folder)
    catalog, label = _place_detected_labels(labels, catalog, folder, options)
    keep = drop_duplicates(fields.boxes, [rows.file, labels, fields.score], options, folder)
    image = np.where(keep, images, -1).astype(np.int32)
    table = make_detections(fields.boxes, image, label, fields.score, catalog)
    return scale_detections(table, options)


def write_tables(
    ground_truth: GroundTruth, detections: Detections | None, folder: Path, image_set: str
) -> None:
    """Writes data.yaml, images.txt, labels/*.txt, sizes.txt; detections in predictions/labels.

    Crowds, which YOLO does not have, are left out and noted; so are marks of difficult objects.

    Raises:
        InputError: If the size of an image with boxes is not known, or an image's name cannot be
            that of a file.
    """
    import json  # whose strings are YAML's, too

    catalog = ground_truth.catalog
    names = output_image_names(catalog)
    if lost := int(ground_truth.crowd.sum()):
        note("crowd", lost, folder, f"{lost} crowds are left out: YOLO has none")
        ground_truth = row_subset(ground_truth, ~ground_truth.crowd)
    if lost := int(ground_truth.difficult.sum()):
        note("difficult", lost, folder, f"{lost} difficult objects are written without their mark")
    files = [name or f"{stem}.jpg" for name, stem in zip(_file_names(catalog), names, strict=True)]
    split = image_set if image_set in SPLITS else SPLITS[0]
    classes = [f"  {k}: {json.dumps(name)}" for k, name in enumerate(catalog.classes)]
    _write_lines(folder / "data.yaml", ["path: .", f"{split}: images.txt", "names:", *classes])
    _write_lines(folder / "images.txt", [f"./images/{name}" for name in files])
    if len(catalog.sizes):
        sizes = zip(files, catalog.sizes.tolist(), strict=True)
        _write_lines(folder / "sizes.txt", [f"{name} {w} {h}" for name, (w, h) in sizes])
    _write_labels(ground_truth, folder / "labels", names)
    if detections is not None:
        _write_labels(detections, folder / "predictions" / "labels", names)


class _Fields(NamedTuple):
    """What rows of detections say: class numbers [N], scores [N] and boxes."""

    label: Floats
    score: Floats
    boxes: BoxRows


def _are_label_rows(named: Input, has_width: Callable[[int], bool]) -> bool:
    """Whether the first rows of a folder's files are a class number and parts of the image."""
    rows = peek_rows(named)
    return bool(rows) and all(has_width(len(row)) and _is_label_row(row) for row in rows)


def _is_label_row(words: list[bytes]) -> bool:
    try:
        label, *numbers = map(float, words)
    except ValueError:
        return False
    return label >= 0 and label == int(label) and all(abs(x) <= LARGEST_SIDE for x in numbers[:5])


def _lists_images(named: Input) -> bool:
    with named.path.open("rb") as file:
        lines = [line.strip() for line in file.read(PEEKED_BYTES).splitlines()]
    whole = [line for line in lines[: -1 if len(lines) > 1 else None] if line]
    return bool(whole) and all(map(IMAGE_PATH.fullmatch, whole))


def _split_or_list(named: Input, image_set: str | None) -> tuple[str | None, Path | None]:
    """The name of a split, and the list of images, of which one is None."""
    is_list = image_set is not None and image_set not in list_splits(named)
    if image_set is None or not (is_list and is_listing(Path(image_set))):
        return image_set, None
    return None, Path(image_set)


def _catalog(labeled: LabeledImages, order: list[int], options: ReadOptions, path: Path) -> Catalog:
    """The images in order, with their sizes if all are known."""
    names = [labeled.names[i] for i in order]
    sizes = read_image_sizes(names, options, [labeled.images[i] for i in order])
    unknown = [name for name, size in zip(names, sizes.tolist(), strict=True) if 0 in size]
    if not names:
        raise InputError("there are no images", path)
    if unknown and len(unknown) < len(names):
        message = f"the sizes of {len(unknown)} images are not known; area metrics are left out"
        note(
            "unknown-size",
            len(unknown),
            path,
            f"{message}: {abbreviate_list(unknown)}",
            unknown[:5],
        )
    return Catalog(
        images=tuple(names),
        classes=(),
        file_names=tuple(labeled.file_names[i] for i in order),
        sizes=np.zeros((0, 2), np.int64) if unknown else sizes,
    )


def _truth_boxes(
    rows: TextRows, files: RowFiles, labeled: LabeledImages, options: ReadOptions
) -> BoxRows:
    task, width = options.task, rows.width
    values = labeled.keypoint_values
    if task in ("segment", "obb"):
        return _shape_boxes(rows, files, task, 0)
    if task is None and values:
        refuse_rows(
            files, rows, ~np.isin(width, (5, 5 + values)), lambda row: _describe_width(width[row])
        )
        task = "detect"
    if task is None:
        refuse_rows(files, rows, width != 5, lambda row: _describe_width(width[row]))
    refuse_rows(files, rows, width < 5, lambda row: _describe_width(width[row]))
    at = rows.start[:-1, np.newaxis] + np.arange(1, 5)
    return place_boxes(rows.value[at] if len(rows) else np.zeros((0, 4)), BOX)


def _describe_width(width: int) -> str:
    if width < 7:
        hint = "; a sixth is a confidence: is this a folder of detections?" if width == 6 else ""
        return f"expected 5 numbers, `class xc yc w h`, got {width}{hint}"
    return f"expected 5 numbers, `class xc yc w h`, got {width}: {TASKS}"


def _shape_boxes(rows: TextRows, files: RowFiles, task: str, behind: int) -> BoxRows:
    """The hulls of polygons or of four corners; among polygons, rows of boxes are boxes."""
    width = rows.width - behind
    is_box = width == 5 if task == "segment" else np.zeros(len(rows), bool)
    is_right = (width == 9) if task == "obb" else (width >= 7) & (width % 2 == 1)
    what = "a class and four corners" if task == "obb" else "a class and the points of a polygon"
    score = ", a confidence" if behind else ""
    refuse_rows(
        files,
        rows,
        ~(is_right | is_box),
        lambda row: f"expected {what}{score}, got {rows.width[row]} numbers",
    )
    hull = hulls(rows, 1, behind)
    boxes = place_boxes(hull, "xyxy-normalized")
    if is_box.any():
        if not is_box.all():
            message = f"{int(is_box.sum())} rows are boxes among polygons"
            note("mixed-rows", int(is_box.sum()), Path(files.paths[0]).parent, message)
        plain = place_boxes(rows.value[rows.start[:-1][is_box, np.newaxis] + np.arange(1, 5)], BOX)
        boxes.corner[is_box], boxes.size[is_box] = plain.corner, plain.size
    return boxes


def _name_classes(
    labels: NDArray[np.int64],
    catalog: Catalog,
    names: dict[int, str] | None,
    options: ReadOptions,
    path: Path,
) -> tuple[Catalog, NDArray[np.int32]]:
    """The catalog with its classes, and the place of each label in them, -1 for unknown numbers."""
    if names is None and options.class_names is not None:
        names = read_class_numbers(options.class_names)
    has_numbers = names is None
    if names is None:
        names = {number: str(number) for number in np.unique(labels).tolist()}
    catalog = replace(
        catalog,
        classes=tuple(names.values()),
        class_ids=tuple(number + 1 for number in names),
        has_numbers=has_numbers,
        has_indices=not has_numbers,
    )
    return catalog, _place_labels(labels, names, path)


def _place_labels(
    labels: NDArray[np.int64], names: Mapping[int, str], path: Path
) -> NDArray[np.int32]:
    """The place of each number among `names`, int32 [N]; numbers without a name are noted, -1."""
    known = np.array(list(names), np.int64)
    if not len(known):
        return np.full(len(labels), -1, np.int32)
    at = np.searchsorted(known, labels).clip(max=len(known) - 1)
    places = np.where(known[at] == labels, at, -1).astype(np.int32)
    if len(places) and places.min() < 0:
        unknown = np.unique(labels[places < 0]).tolist()
        counts_from_one = labels.min() == 1 and unknown == [known[-1] + 1]
        hint = "; the numbers seem to count from 1, but names count from 0"
        note_unnamed_classes(
            list(map(str, unknown)),
            f"{int((places < 0).sum())} boxes",
            path,
            hint if counts_from_one else "",
        )
    return places


def _detection_fields(
    rows: TextRows, files: RowFiles, folder: Path, options: ReadOptions
) -> _Fields:
    if isinstance(options.columns, tuple):
        places = column_places(options.columns)
        if "score" not in places:
            raise InputError(f"--columns names no confidence; {NO_SCORE}", folder)
        count = len(options.columns)
        table = select_columns(rows, files, [count], f"expected {count} numbers, as --columns says")
        numbers = table[:, [places[key] for key in "0123"]]
        boxes = place_boxes(numbers, _box_kind(numbers, options))
        return _Fields(table[:, places["class"]], table[:, places["score"]], boxes)
    if options.task in ("segment", "obb"):
        boxes = _shape_boxes(rows, files, options.task, 1)
        return _Fields(rows.value[rows.start[:-1]], rows.value[rows.start[1:] - 1], boxes)
    refuse_rows(files, rows, rows.width == 5, lambda row: NO_SCORE)
    if (rows.width > 7).any() and options.task is None:
        message = "expected `class xc yc w h conf`"
        refuse_rows(
            files, rows, rows.width > 7, lambda row: f"{message}, got {rows.width[row]}: {TASKS}"
        )
    table = select_columns(rows, files, [6, 7], "expected `class xc yc w h conf`")
    kind = _box_kind(table[:, 1:6], options)
    last = _Fields(table[:, 0], table[:, 5], place_boxes(table[:, 1:5], kind))
    second = _Fields(table[:, 0], table[:, 1], place_boxes(table[:, 2:6], kind))
    return _select_order(last, second, rows, files, folder)


def _box_kind(numbers: Floats, options: ReadOptions) -> str:
    """What the numbers of boxes are; where all are units, px are said of the other input."""
    are_units = bool((np.abs(numbers) <= LARGEST_SIDE).all())
    if options.box is None or (are_units and not options.box.endswith("-normalized")):
        return BOX
    return options.box


def _select_order(
    last: _Fields, second: _Fields, rows: TextRows, files: RowFiles, folder: Path
) -> _Fields:
    """The reading of six numbers that fits: the score in 0 .. 1 and the box within the image."""
    is_score = (last.score >= 0) & (last.score <= 1)
    if folder.name == "labels" or (rows.width == 7).any():  # as Ultralytics writes it
        message = "is no confidence; is it a track's number? save_conf=True writes confidences"
        refuse_rows(files, rows, ~is_score, lambda row: f"{last.score[row]:g} {message}")
        return last
    if not len(rows):
        return last
    fitting = [fields for fields in (last, second) if _fits(fields)]
    if len(fitting) != 1:
        raise InputError(CONFIDENCE_PLACE, folder)
    return fitting[0]


def _fits(fields: _Fields) -> bool:
    low, high = fields.boxes.corner, fields.boxes.corner + fields.boxes.size
    is_inside = low.min() >= -TOLERANCE and high.max() <= 1 + TOLERANCE
    return bool(is_inside and fields.score.min() >= 0 and fields.score.max() <= 1)


def _place_detected_labels(
    labels: NDArray[np.int64], catalog: Catalog, folder: Path, options: ReadOptions
) -> tuple[Catalog, NDArray[np.int32]]:
    """The catalog with the detections' classes, and the place of each label in them."""
    names = _names_of_detections(labels, catalog, folder, options)
    if tuple(names.values()) != catalog.classes:
        catalog = replace(catalog, classes=tuple(names.values()), class_ids=())
    places = _place_labels(labels, names, folder)
    if len(labels) and (places < 0).all():
        raise InputError("no class number has a name; --class-names FILE has them", folder)
    return catalog, places


def _names_of_detections(
    labels: NDArray[np.int64], catalog: Catalog, folder: Path, options: ReadOptions
) -> dict[int, str]:
    """Class number to name: of the option, of a file beside the detections, of the ground truth."""
    if options.class_names is not None:
        return read_class_numbers(options.class_names)
    names = find_class_names(folder)
    if names is not None and not catalog.has_numbers:
        return names
    if catalog.has_numbers:
        return {number: str(number) for number in np.unique(labels).tolist()}
    hint = "--class-names FILE says which class a number is (data.yaml, or a name on each line)"
    if not catalog.has_indices:
        if len(labels):
            message = "these files number the classes, and the ground truth does not"
            raise InputError(f"{message}; {hint}", folder)
        return dict(enumerate(catalog.classes))
    names = dict(zip((number - 1 for number in catalog.class_ids), catalog.classes, strict=True))
    if unknown := sorted(set(np.unique(labels).tolist()) - set(names)):
        message = f"the ground truth names no class {unknown[0]}: another list of classes? {hint}"
        raise InputError(message, folder)
    return names


def _file_names(catalog: Catalog) -> list[str]:
    """The file names of the images without their folders; empty where there are none."""
    if not catalog.file_names:
        return [""] * len(catalog.images)
    return [base_name(name) for name in catalog.file_names]


def _write_labels(table: TableT, folder: Path, names: Sequence[str]) -> None:
    """Writes a file for each image that has boxes; the score last."""
    folder.mkdir(parents=True)
    table = scale_to_sides(table)
    center = table.box[:, :2] + table.size / 2
    numbers = [center, table.size]
    order = np.arange(len(table))
    if isinstance(table, Detections):
        numbers.append(table.score[:, np.newaxis])
        order = np.argsort(table.row, kind="stable")
    columns = np.concatenate(numbers, axis=1)[order].tolist()
    lines: list[list[str]] = [[] for _ in names]
    labels, images = table.label[order].tolist(), table.image[order].tolist()
    for i, label, row in zip(images, labels, columns, strict=True):
        lines[i].append(f"{label} {' '.join(map(format_number, row))}")
    for name, image_lines in zip(names, lines, strict=True):
        if image_lines:
            _write_lines(folder / f"{name}.txt", image_lines)


def _write_lines(path: Path, lines: Sequence[str]) -> None:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
