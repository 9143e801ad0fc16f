"""Pascal VOC detections: one text file per class, comp4_det_test_car.txt.

Source: the results format of the VOC2007 and VOC2012 development kits: on each line
`image_id score xmin ymin xmax ymax`, 1-based inclusive pixels.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from upmap.detection.boxes import convert_pixels, inclusive_size
from upmap.detection.formats import voc_xml
from upmap.detection.formats.read_options import ReadOptions
from upmap.detection.formats.voc_xml import format_number, output_image_names, validate_name
from upmap.detection.inputs import Input, files_in, open_input, translate_errors
from upmap.detection.tables import Catalog, Detections, GroundTruth, images_by_name
from upmap.errors import InputError, abbreviate_list

if TYPE_CHECKING:
    from upmap.kernels.voc_files import Results

__all__ = [
    "image_set_hints",
    "is_detections",
    "read_detections",
    "write_detections",
    "write_tables",
]

NAME = re.compile(r"(comp\d+)_det_([^_]+)_(.+)\.txt(\.gz)?")


def is_detections(named: Input) -> bool:
    """Whether `named` is a folder of results files, or one of them."""
    return bool(_files(named))


def image_set_hints(named: Input) -> list[str]:
    """The image sets that the files' names may speak of, the longest first.

    `test` in comp4_det_test_car.txt; in comp4_det_my_val_car.txt both `my_val` and `my`.
    """
    names = [_stem(file).split("_")[2:-1] for file in _files(named)]
    hints = [{"_".join(words[:n]) for n in range(1, len(words) + 1)} for words in names]
    return sorted(set.intersection(*hints), key=len, reverse=True) if hints else []


def read_detections(named: Input, catalog: Catalog, options: ReadOptions) -> Detections:
    """Detections of a folder of results files; a class without a file has no detections.

    Args:
        named: The folder, or one file.
        catalog: The ground truth's images and classes.
        options: `image_set` is the one in the files' names; None if they all have the same.

    Raises:
        InputError: If there are no such files, two challenges are mixed, a line is malformed, or
            an image is not in `catalog`; names the file and the line.
    """
    files = _class_files(named, options.image_set)
    classes = tuple(sorted({*catalog.classes, *files}))
    inputs = [open_input(file) for file in files.values()]
    rows = _read_rows(inputs, images_by_name(catalog), options.threads)
    label = np.array([classes.index(name) for name in files], np.int32)
    return Detections(
        image=rows.image,
        label=label[rows.file],
        box=rows.box,
        size=inclusive_size(rows.box),
        score=rows.score,
        row=np.arange(len(rows.score)),
        catalog=_with_classes(catalog, classes),
        pixels="inclusive",
    )


def write_tables(
    ground_truth: GroundTruth, detections: Detections | None, folder: Path, image_set: str
) -> None:
    """Writes a devkit folder and, with detections, a folder `results` in it."""
    voc_xml.write_ground_truth(ground_truth, folder, image_set)
    if detections is not None:
        (folder / "results").mkdir()
        write_detections(detections, folder / "results", image_set)


def write_detections(table: Detections, folder: Path, image_set: str) -> None:
    """Writes comp4_det_<image_set>_<class>.txt for every class into `folder`, which exists."""
    table = convert_pixels(table, "inclusive")
    names = output_image_names(table.catalog)
    order = np.argsort(table.row, kind="stable")
    image, label = table.image[order].tolist(), table.label[order].tolist()
    numbers = np.column_stack([table.score, table.box])[order].tolist()
    lines: list[list[str]] = [[] for _ in table.catalog.classes]
    for i, k, row in zip(image, label, numbers, strict=True):
        lines[k].append(f"{names[i]} {' '.join(map(format_number, row))}\n")
    for name, class_lines in zip(table.catalog.classes, lines, strict=True):
        if "/" in validate_name(name) or "\\" in name:
            raise InputError(f"the class name {name!r} cannot be part of a file name")
        file = folder / f"comp4_det_{image_set}_{name}.txt"
        file.write_text("".join(class_lines), encoding="utf-8")


def _files(named: Input) -> list[Input | Path]:
    """One results file, or those of a folder, which are not opened."""
    if named.is_file():
        return [named] if NAME.fullmatch(named.path.name) else []
    if not named.is_folder():
        return []
    files = files_in(named.path, "comp*_det_*.txt", "comp*_det_*.txt.gz")
    return [file for file in files if NAME.fullmatch(file.name)]


def _stem(file: Input | Path) -> str:
    """The file's name without its ending."""
    return Path(str(file)).name.removesuffix(".gz").removesuffix(".txt")


def _class_files(named: Input, image_set: str | None) -> dict[str, Input | Path]:
    """Class name to file; of several image sets, those files that name `image_set`."""
    path, files = named.path, _files(named)
    if not files:
        raise InputError("no files called comp*_det_*_<class>.txt", path)
    of_set = [file for file in files if _stem(file).split("_", 2)[2].startswith(f"{image_set}_")]
    kinds: set[str] = set()
    classes: dict[str, Input | Path] = {}
    for file in of_set or files:
        challenge, _, tail = _stem(file).split("_", 2)
        known = image_set if of_set else tail.split("_")[0]
        kinds.add(f"{challenge}_det_{known}")
        classes[tail.removeprefix(f"{known}_")] = file
    if len(kinds) > 1:
        raise InputError(
            f"results of several kinds are mixed here: {abbreviate_list(sorted(kinds))}", path
        )
    if len(classes) < len(of_set or files):
        raise InputError("a class has two files of results, one of them compressed", path)
    return dict(sorted(classes.items()))  # files of "a" and "a b" sort otherwise: " " < "."


def _read_rows(files: list[Input], images: dict[str, int], threads: int) -> Results:
    from upmap.kernels import voc_files

    paths = [file.path for file in files]
    data = {i: file.data for i, file in enumerate(files) if file.data is not None}
    with translate_errors(paths[0]):
        return voc_files.results(paths, images, data=data, threads=threads)


def _with_classes(catalog: Catalog, classes: tuple[str, ...]) -> Catalog:
    if classes == catalog.classes:
        return catalog
    return replace(catalog, classes=classes, class_ids=())
