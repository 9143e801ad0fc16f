"""Writes tables as CSV and as Parquet: a row a box, and a row without a box for other images."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from upmap.detection.boxes import convert_pixels
from upmap.detection.tables import Catalog, Detections, GroundTruth
from upmap.errors import InputError

__all__ = ["write_csv", "write_parquet"]

MISSING = 'Parquet files need pyarrow: pip install "upmap[arrow]"'
Column = NDArray[Any] | Sequence[Any]


def write_csv(
    ground_truth: GroundTruth, detections: Detections | None, folder: Path, image_set: str
) -> None:
    """Writes ground_truth_<image_set>.csv and, with detections, detections_<image_set>.csv."""
    for name, columns in _files(ground_truth, detections, image_set):
        with (folder / f"{name}.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(columns)
            writer.writerows(zip(*map(_cells, columns.values()), strict=True))


def write_parquet(
    ground_truth: GroundTruth, detections: Detections | None, folder: Path, image_set: str
) -> None:
    """Writes ground_truth_<image_set>.parquet and, with detections, detections_<image_set>.parquet.

    Raises:
        InputError: If pyarrow is not installed.
    """
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise InputError(MISSING, folder) from None
    for name, columns in _files(ground_truth, detections, image_set):
        arrays = {key: pyarrow.array(values, from_pandas=True) for key, values in columns.items()}
        parquet.write_table(pyarrow.table(arrays), folder / f"{name}.parquet")


def _files(
    ground_truth: GroundTruth, detections: Detections | None, image_set: str
) -> list[tuple[str, Mapping[str, Column]]]:
    """The name without ending, and the columns, of each file."""
    files: list[tuple[str, Mapping[str, Column]]] = []
    files.append((f"ground_truth_{image_set}", _columns_of_truth(ground_truth)))
    if detections is not None:
        files.append((f"detections_{image_set}", _columns_of_detections(detections)))
    return files


def _columns_of_truth(table: GroundTruth) -> dict[str, Column]:
    """The columns of the boxes, and of a row without one for each other image."""
    table = convert_pixels(table, "continuous")
    count = np.bincount(table.image, minlength=len(table.catalog.images))
    empty = np.flatnonzero(count == 0)
    image = np.concatenate([table.image, empty])
    columns = _columns_of_boxes(table, image)
    marks = {"area": table.area, "iscrowd": table.crowd, "difficult": table.difficult}
    for name, values in marks.items():
        columns[name] = _with_nulls(values, len(empty))
    if len(table.catalog.sizes):
        columns["image_width"], columns["image_height"] = table.catalog.sizes[image].T
    return columns


def _columns_of_detections(table: Detections) -> dict[str, Column]:
    table = convert_pixels(table, "continuous")
    order = np.argsort(table.row, kind="stable")
    columns = _columns_of_boxes(table, table.image)
    columns["score"] = table.score
    return {
        name: values[order] if isinstance(values, np.ndarray) else [values[i] for i in order]
        for name, values in columns.items()
    }


def _columns_of_boxes(
    table: GroundTruth | Detections, image: NDArray[np.integer[Any]]
) -> dict[str, Column]:
    """The columns of image, class and box; `image` may have more rows than the table."""
    names, classes = _image_names(table.catalog), table.catalog.classes
    more = len(image) - len(table)
    box = np.concatenate([table.box[:, :2], table.size], axis=1)
    numbers: dict[str, Column] = {
        name: _with_nulls(box[:, i], more) for i, name in enumerate(("x", "y", "width", "height"))
    }
    return {
        "image": [names[i] for i in image.tolist()],
        "class": [classes[k] for k in table.label.tolist()] + [None] * more,
    } | numbers


def _image_names(catalog: Catalog) -> Sequence[Any]:
    """What images are called: their files, or ids where no files are known."""
    return catalog.file_names or catalog.images


def _with_nulls(values: NDArray[Any], count: int) -> NDArray[np.float64]:
    return np.concatenate([values.astype(np.float64), np.full(count, np.nan)])


def _cells(column: Column) -> list[Any]:
    """The cells of a column; numbers that are whole without a point, and nothing for NaN."""
    if not isinstance(column, np.ndarray):
        return ["" if value is None else value for value in column]
    return [_number(value) for value in column.tolist()]


def _number(value: float) -> Any:
    if value != value:
        return ""
    return int(value) if value == int(value) else value
