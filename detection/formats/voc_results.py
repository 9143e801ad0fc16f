"""Pascal VOC detections: one text file per class, comp4_det_test_car.txt.

Source: the results format of the VOC2007 and VOC2012 development kits: on each line
`image_id score xmin ymin xmax ymax`, 1-based inclusive pixels.
"""

import re
import reprlib
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from detection.boxes import in_convention, inclusive_size
from detection.errors import InputError, listed
from detection.formats.files import text
from detection.formats.voc_xml import shortest, writable, written_image_names
from detection.tables import Catalog, Detections, bounded, images_by_name

__all__ = ["image_set_hints", "is_detections", "read_detections", "write_detections"]

COLUMNS = ("image_id", "score", "xmin", "ymin", "xmax", "ymax")
NAME = re.compile(r"(comp\d+)_det_([^_]+)_(.+)\.txt")


def is_detections(path: Path) -> bool:
    """Whether `path` is a folder of results files, or one of them."""
    return bool(_files(path))


def image_set_hints(path: Path) -> list[str]:
    """The image sets that the files' names may speak of, the longest first.

    `test` in comp4_det_test_car.txt; in comp4_det_my_val_car.txt both `my_val` and `my`.
    """
    words = [file.stem.split("_")[2:-1] for file in _files(path)]
    hints = [{"_".join(some[:n]) for n in range(1, len(some) + 1)} for some in words]
    return sorted(set.intersection(*hints), key=len, reverse=True) if hints else []


def read_detections(path: Path, catalog: Catalog, image_set: str | None) -> Detections:
    """Detections of a folder of results files; a class without a file has no detections.

    Args:
        path: The folder, or one file.
        catalog: The ground truth's images and classes.
        image_set: The image set in the files' names; None if they all have the same.

    Raises:
        InputError: If there are no such files, two challenges are mixed, a line is malformed, or
            an image is not in `catalog`; names the file and the line.
    """
    files = _class_files(path, image_set)
    classes = tuple(sorted({*catalog.classes, *files}))
    place = images_by_name(catalog)
    columns = [_columns(file, place) for file in files.values()]
    numbers = np.concatenate([column for _, column in columns])
    counts = [len(column) for _, column in columns]
    box = numbers[:, 1:]
    return Detections(
        image=np.concatenate([column for column, _ in columns]),
        label=np.repeat([classes.index(name) for name in files], counts),
        box=box,
        size=inclusive_size(box),
        score=numbers[:, 0],
        row=np.arange(len(numbers)),
        catalog=_with_classes(catalog, classes),
        pixels="inclusive",
    )


def write_detections(table: Detections, folder: Path, image_set: str) -> None:
    """Writes comp4_det_<image_set>_<class>.txt for every class into `folder`, which exists."""
    table = in_convention(table, "inclusive")
    names = written_image_names(table.catalog)
    order = np.argsort(table.row, kind="stable")
    image, label = table.image[order].tolist(), table.label[order].tolist()
    numbers = np.column_stack([table.score, table.box])[order].tolist()
    lines: list[list[str]] = [[] for _ in table.catalog.classes]
    for i, k, row in zip(image, label, numbers, strict=True):
        lines[k].append(f"{names[i]} {' '.join(map(shortest, row))}\n")
    for name, mine in zip(table.catalog.classes, lines, strict=True):
        if "/" in writable(name) or "\\" in name:
            raise InputError(f"the class name {name!r} cannot be part of a file name")
        file = folder / f"comp4_det_{image_set}_{name}.txt"
        file.write_text("".join(mine), encoding="utf-8")


def _files(path: Path) -> list[Path]:
    found = [path] if path.is_file() else path.glob("comp*_det_*.txt") if path.is_dir() else []
    return sorted(file for file in found if NAME.fullmatch(file.name))


def _class_files(path: Path, image_set: str | None) -> dict[str, Path]:
    """Class name to file; of several image sets, those files that name `image_set`."""
    files = _files(path)
    if not files:
        raise InputError("no files called comp*_det_*_<class>.txt", path)
    named = [file for file in files if file.name.split("_", 2)[2].startswith(f"{image_set}_")]
    kinds, classes = set(), {}
    for file in named or files:
        challenge, _, rest = file.stem.split("_", 2)
        known = image_set if named else rest.split("_")[0]
        kinds.add(f"{challenge}_det_{known}")
        classes[rest.removeprefix(f"{known}_")] = file
    if len(kinds) > 1:
        raise InputError(f"results of several kinds are mixed here: {listed(sorted(kinds))}", path)
    return classes


def _columns(path: Path, place: dict[str, int]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """One file: the image of each line, and its score and corners, float64 [n, 5]."""
    lines = text(path).split("\n")
    rows = [line.split() for line in lines]
    if set(map(len, rows)) - {0, len(COLUMNS)}:
        number, row = next((i, r) for i, r in enumerate(rows, 1) if len(r) not in (0, 6))
        expected = f"expected {len(COLUMNS)} columns ({' '.join(COLUMNS)}), got {len(row)}"
        raise InputError(expected, path, str(number))
    columns = list(zip(*filter(None, rows), strict=True))
    if not columns:
        return np.zeros(0, np.int64), np.zeros((0, 5))
    image = np.array([place.get(name, -1) for name in columns[0]], np.int64)
    if image.min() < 0:
        raise _unknown_images(path, rows, place)
    numbers = _numbers(columns[1:])
    if numbers is None:
        raise _bad_number(path, rows)
    return image, numbers


def _numbers(columns: list[tuple[str, ...]]) -> NDArray[np.float64] | None:
    """The score and corners; None if one is no number, or not finite, or out of range."""
    try:
        numbers = np.array([list(map(float, column)) for column in columns], np.float64).T
    except ValueError:
        return None
    if any("_" in " ".join(column) for column in columns):  # Python reads 1_0 as 10
        return None
    return numbers if bounded(numbers).all() else None


def _unknown_images(path: Path, rows: list[list[str]], place: dict[str, int]) -> InputError:
    unknown = [(i, row[0]) for i, row in enumerate(rows, 1) if row and row[0] not in place]
    names = sorted({name for _, name in unknown})
    return InputError(
        f"{len(unknown)} detections on {len(names)} images that are not in the image set: "
        f"{listed(names)}",
        path,
        str(unknown[0][0]),
    )


def _bad_number(path: Path, rows: list[list[str]]) -> InputError:
    """What is wrong with the first line that holds something other than a finite number."""
    for number, row in enumerate(rows, start=1):
        for name, word in zip(COLUMNS[1:], row[1:], strict=False):
            if _numbers([(word,)]) is None:
                shown = reprlib.repr(word)
                return InputError(f"{name} is not a finite number: {shown}", path, str(number))
    raise AssertionError("called for a file without a bad number")


def _with_classes(catalog: Catalog, classes: tuple[str, ...]) -> Catalog:
    if classes == catalog.classes:
        return catalog
    return replace(catalog, classes=classes, class_ids=())
