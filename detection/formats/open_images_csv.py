"""Open Images CSV: annotations, and results of its challenge.

Source: the download page of Open Images V7. Corners are in units of the image's sides, classes are
codes such as /m/01g317, whose names class-descriptions.csv has. IsGroupOf is not COCO's crowd, and
the official metric (verified labels, hierarchy, groups) is another: boxes are boxes here.
"""

import csv
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from upmap.detection.formats import flat_table
from upmap.detection.formats.box_lists import BoxLists, make_detections
from upmap.detection.formats.image_sizes import scale_detections
from upmap.detection.formats.read_options import ReadOptions
from upmap.detection.formats.table_files import TextTable, peek_table
from upmap.detection.inputs import Input, files_in, open_input
from upmap.detection.tables import (
    Catalog,
    Detections,
    GroundTruth,
    TableT,
    class_order,
    with_classes,
)
from upmap.errors import InputError

__all__ = ["is_detections", "is_ground_truth", "read_detections", "read_ground_truth"]

BOX = "xyxy-normalized"
TRUTH_COLUMNS = {"imageid", "labelname", "xmin", "xmax", "ymin", "ymax", "isgroupof"}
RESULT_COLUMNS = {"imageid", "predictionstring"}
WORDS = 6  # of a prediction: label, confidence, xmin, ymin, xmax, ymax


def is_ground_truth(source: Input) -> bool:
    """Whether a table has the columns of Open Images' annotations."""
    return _columns(source) >= TRUTH_COLUMNS


def is_detections(source: Input) -> bool:
    """Whether a table has the columns of results of Open Images' challenge."""
    return _columns(source) >= RESULT_COLUMNS


def read_ground_truth(source: Input, options: ReadOptions) -> GroundTruth:
    """Ground truth of annotations.

    Args:
        source: The file.
        options: `sizes` and the like, without which boxes stay in units of the images' sides.

    Raises:
        InputError: If a value is wrong; names the line or row.
    """
    table = flat_table.read_ground_truth(source, replace(options, box=BOX))
    return _name_classes(table, source.path)


def read_detections(source: Input, catalog: Catalog, options: ReadOptions) -> Detections:
    """Detections of a challenge's results: `label conf xmin ymin xmax ymax` again and again.

    Args:
        source: The file.
        catalog: The ground truth's images and classes.
        options: `image_key`, `sizes` and the like.

    Raises:
        InputError: If a prediction is malformed; names the row.
    """
    table = TextTable(source)
    image, predictions = (_find(table.names, name) for name in ("imageid", "predictionstring"))
    columns = table.read({image: "text", predictions: "text"}, options.threads)
    names = _read_descriptions(source.path.parent)
    lists = BoxLists()
    place: dict[str, int] = {}
    rows = zip(*(_texts(columns[name]) for name in (image, predictions)), strict=True)
    for row, (key, text) in enumerate(rows, start=1):
        i = place.setdefault(key, len(place))
        for label, score, corners in _predictions(text, source.path, f"row {row}"):
            lists.add_box(i, names.get(label, label), corners, f"row {row}")
            lists.score.append(score)
    lists.images = [*place]
    detections = replace(make_detections(lists, catalog, options, source.path), pixels="relative")
    return scale_detections(detections, options)


def _columns(source: Input) -> set[str]:
    table = peek_table(source)
    return set() if table is None else {name.lower() for name in table.names}


def _find(names: tuple[str, ...], lower: str) -> str:
    return next(name for name in names if name.lower() == lower)


def _texts(column: object) -> Iterator[str]:
    names = [*column.names, ""]  # type: ignore[attr-defined]
    return (names[k] for k in column.index.tolist())  # type: ignore[attr-defined]


def _predictions(
    text: str, path: Path, where: str
) -> Iterator[tuple[str, float, tuple[float, float, float, float]]]:
    """The label, score and corners of each prediction in a cell."""
    words = text.split()
    if len(words) % WORDS:
        expected = f"expected groups of {WORDS} words, label conf xmin ymin xmax ymax"
        raise InputError(f"{expected}; got {len(words)} words", path, where)
    for first in range(0, len(words), WORDS):
        label, *numbers = words[first : first + WORDS]
        try:
            score, left, top, right, bottom = map(float, numbers)
        except ValueError:
            raise InputError(f"not numbers: {' '.join(numbers)[:80]}", path, where) from None
        yield label, score, (left, top, right, bottom)


def _name_classes(table: TableT, path: Path) -> TableT:
    """The table with the names of its classes, if a file beside it has them."""
    names = _read_descriptions(path.parent)
    classes = tuple(names.get(name, name) for name in table.catalog.classes)
    if len(set(classes)) < len(classes):
        return table
    renamed = replace(table, catalog=replace(table.catalog, classes=classes))
    return with_classes(renamed, class_order(classes))


def _read_descriptions(folder: Path) -> dict[str, str]:
    """Code to name, of class-descriptions*.csv in a folder; empty where there is none."""
    files = files_in(folder, "*class-descriptions*.csv")
    if not files:
        return {}
    rows = csv.reader(open_input(files[0]).text().splitlines())
    return {row[0]: row[1] for row in rows if len(row) >= 2 and row[0].startswith("/")}
