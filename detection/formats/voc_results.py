"""Pascal VOC detections: one text file per class, comp4_det_test_car.txt.

Source: the results format of the VOC2007 and VOC2012 development kits: on each line
`image_id score xmin ymin xmax ymax`, 1-based inclusive pixels.
"""

import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from detection.boxes import in_convention, inclusive_size
from detection.errors import InputError, listed
from detection.formats.files import text
from detection.formats.voc_xml import shortest, written_image_names
from detection.tables import Catalog, Detections, ImageId

__all__ = ["image_set_hint", "is_detections", "read_detections", "write_detections"]

COLUMNS = ("image_id", "score", "xmin", "ymin", "xmax", "ymax")
NAME = re.compile(r"(comp\d+)_det_([^_]+)_(.+)\.txt")


def is_detections(path: Path) -> bool:
    """Whether `path` is a folder of results files, or one of them."""
    return bool(_files(path))


def image_set_hint(path: Path) -> str | None:
    """The image set that the files' names speak of: `test` in comp4_det_test_car.txt."""
    sets = {match[2] for file in _files(path) if (match := NAME.fullmatch(file.name))}
    return sets.pop() if len(sets) == 1 else None


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
    place: dict[str, int] = _image_places(catalog)
    tables = [_columns(file, place) for file in files.values()]
    image = np.concatenate([column for column, _ in tables]).astype(np.int32)
    numbers = np.concatenate([column for _, column in tables])
    label = np.repeat([classes.index(name) for name in files], [len(n) for _, n in tables])
    box = numbers[:, 1:]
    return Detections(
        image=image,
        label=label,
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
    for k, name in enumerate(table.catalog.classes):
        if "/" in name or "\\" in name or "\0" in name:
            raise InputError(f"the class name {name!r} cannot be part of a file name")
        lines = [
            " ".join([names[table.image[i]], *map(shortest, _row(table, i))]) + "\n"
            for i in order[table.label[order] == k]
        ]
        file = folder / f"comp4_det_{image_set}_{name}.txt"
        file.write_text("".join(lines), encoding="utf-8")


def _row(table: Detections, i: int) -> Iterable[float]:
    return [float(table.score[i]), *table.box[i].tolist()]


def _files(path: Path) -> list[Path]:
    found = [path] if path.is_file() else path.glob("comp*_det_*.txt") if path.is_dir() else []
    return sorted(file for file in found if NAME.fullmatch(file.name))


def _class_files(path: Path, image_set: str | None) -> dict[str, Path]:
    """Class name to file."""
    matches = [(file, match) for file in _files(path) if (match := NAME.fullmatch(file.name))]
    if not matches:
        raise InputError("no files called comp*_det_*_<class>.txt", path)
    named = [
        (file, match[1], file.name.removeprefix(f"{match[1]}_det_{image_set}_"))
        for file, match in matches
        if image_set is not None and file.name.startswith(f"{match[1]}_det_{image_set}_")
    ]
    found = [(f, c, rest.removesuffix(".txt")) for f, c, rest in named] or [
        (file, f"{match[1]}_det_{match[2]}", match[3]) for file, match in matches
    ]
    if len(kinds := sorted({kind for _, kind, _ in found})) > 1:
        raise InputError(f"results of several kinds are mixed here: {listed(kinds)}", path)
    return {name: file for file, _, name in found}


def _image_places(catalog: Catalog) -> dict[str, int]:
    """Image id to index; for COCO's images also the file name without its ending."""
    names = {Path(name).stem: i for i, name in enumerate(catalog.file_names)}
    return names | {str(image): i for i, image in enumerate(catalog.images)}


def _columns(
    path: Path, place: dict[str, int]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """One file: the image of each line, and its score and corners, float64 [n, 5]."""
    lines = text(path).split("\n")
    rows = [line.split() for line in lines]
    if set(map(len, rows)) - {0, len(COLUMNS)}:
        number, row = next((i, r) for i, r in enumerate(rows, 1) if len(r) not in (0, 6))
        expected = f"expected {len(COLUMNS)} columns ({' '.join(COLUMNS)}), got {len(row)}"
        raise InputError(expected, path, str(number))
    rows = [row for row in rows if row]
    if not rows:
        return np.zeros(0, np.int64), np.zeros((0, 5))
    names, *words = zip(*rows, strict=True)
    image = np.array([place.get(name, -1) for name in names], np.int64)
    if image.min() < 0:
        unknown = sorted({str(name) for name in names if name not in place})
        outside = int((image < 0).sum())
        raise InputError(
            f"{outside} detections on {len(unknown)} images that are not in the image set: "
            f"{listed(unknown)}",
            path,
            str(_line(lines, unknown[0])),
        )
    try:
        numbers = np.array([list(map(float, column)) for column in words], np.float64).T
    except ValueError:
        numbers = np.full((1, 5), np.nan)
    if not np.isfinite(numbers).all() or any("_" in word for column in words for word in column):
        raise _bad_number(path, lines)
    return image, numbers


def _line(lines: list[str], first_word: str) -> int:
    return next(i for i, line in enumerate(lines, 1) if line.split()[:1] == [first_word])


def _bad_number(path: Path, lines: list[str]) -> InputError:
    """What is wrong with the first line that holds something other than a finite number."""
    for number, line in enumerate(lines, start=1):
        for name, word in zip(COLUMNS[1:], line.split()[1:], strict=False):
            try:
                good = np.isfinite(float(word)) and "_" not in word
            except ValueError:
                good = False
            if not good:
                return InputError(f"{name} is not a finite number: {word!r}", path, str(number))
    raise AssertionError("called for a file without a bad number")


def _with_classes(catalog: Catalog, classes: tuple[str, ...]) -> Catalog:
    if classes == catalog.classes:
        return catalog
    images: tuple[ImageId, ...] = catalog.images
    return Catalog(images, classes, file_names=catalog.file_names, sizes=catalog.sizes)
