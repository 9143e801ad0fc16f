"""Pascal VOC detections: one text file per class, comp4_det_test_car.txt.

Source: the results format of the VOC2007 and VOC2012 development kits: on each line
`image_id score xmin ymin xmax ymax`, 1-based inclusive pixels.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from upmap.detection.boxes import convert_pixels, inclusive_size
from upmap.detection.formats import voc_xml
from upmap.detection.formats.checks import check_images
from upmap.detection.formats.read_options import ReadOptions
from upmap.detection.formats.voc_xml import format_number, output_image_names, validate_name
from upmap.detection.ids import ImageKey, find_images, find_unknown
from upmap.detection.inputs import Input, files_in, open_input, translate_errors
from upmap.detection.tables import Catalog, Detections, GroundTruth, image_names
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

NAME = re.compile(r"comp\d+_det_[^_]+_.+\.txt(\.gz)?")
OTHER_NAME = re.compile(r"(.*_)?det_.+\.txt(\.gz)?")  # as comp4_<uuid>_det_test_car, det_test_car


def is_detections(source: Input) -> bool:
    """Whether `source` is a folder of results files, or one of them."""
    return bool(_files(source))


def image_set_hints(source: Input) -> list[str]:
    """The image sets that the files' names may mention, the longest first.

    `test` in comp4_det_test_car.txt; in comp4_det_my_val_car.txt both `my_val` and `my`.
    """
    names = [_stem(file).partition("det_")[2].split("_")[:-1] for file in _files(source)]
    hints = [{"_".join(words[:n]) for n in range(1, len(words) + 1)} for words in names]
    return sorted(set.intersection(*hints), key=len, reverse=True) if hints else []


def read_detections(source: Input, catalog: Catalog, options: ReadOptions) -> Detections:
    """Detections of a folder of results files; a class without a file has no detections.

    Args:
        source: The folder, or one file.
        catalog: The ground truth's images and classes.
        options: `image_set` is the one in the files' names; None if they all have the same.

    Raises:
        InputError: If there are no such files, two challenges are mixed, a line is malformed, or
            an image is not in `catalog`; names the file and the line.
    """
    files = _class_files(source, options.image_set, catalog.classes)
    classes = tuple(sorted({*catalog.classes, *files}))
    inputs = [open_input(file) for file in files.values()]
    names, rows = _read_rows(inputs, catalog, options.threads)
    image = _image_places(names, rows, catalog, options.image_key, source.path)
    label = np.array([classes.index(name) for name in files], np.int32)[rows.file]
    keep: slice | NDArray[np.bool_] = slice(None)
    if len(image) and image.min() < 0:
        unknown = find_unknown([names[k] for k in rows.image.tolist()], image)
        check_images(image, [] if unknown is None else unknown.names, catalog, source.path)
        keep = image >= 0
    return Detections(
        image=image[keep],
        label=label[keep],
        box=rows.box[keep],
        size=inclusive_size(rows.box[keep]),
        score=rows.score[keep],
        row=np.arange(len(rows.score))[keep],
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


def _files(source: Input) -> list[Input | Path]:
    """One results file, or those of a folder, which are not opened but for unusual names.

    Files with names of the kit, or else names with det_, or else all text files whose first lines
    are those of results, if they are not called like images.
    """
    if source.is_file():
        is_named = OTHER_NAME.fullmatch(source.path.name)
        return [source] if is_named or _has_rows(source) else []
    if not source.is_folder():
        return []
    files = files_in(source.path, "*.txt", "*.txt.gz")
    for pattern in (NAME, OTHER_NAME):
        if named := [file for file in files if pattern.fullmatch(file.name)]:
            return [*named]
    # Files that are called like images have rows of their objects, as Cartucho's.
    if 2 * sum(_stem(file)[-1:].isdigit() for file in files) > len(files):
        return []
    inputs = [open_input(file) for file in files]
    is_voc = all(map(_has_rows, inputs)) and any(map(Input.first_line, inputs))
    return [*files] if is_voc else []


def _has_rows(source: Input) -> bool:
    """Whether the first line that is not blank is one of results, in pixels; true of empty files.

    Rows of YOLO have six columns, too, but their coordinates are parts of 1.
    """
    if source.path.name.removesuffix(".gz")[-4:] != ".txt":
        return False
    words = source.first_line().split()
    try:
        numbers = [float(word) for word in words[1:]]
    except ValueError:
        return False
    return not words or (len(numbers) == 5 and max(map(abs, numbers[1:])) > 1.5)


def _stem(file: Input | Path) -> str:
    """The file's name without its ending."""
    return Path(str(file)).name.removesuffix(".gz").removesuffix(".txt")


def _class_files(
    source: Input, image_set: str | None, known: tuple[str, ...]
) -> dict[str, Input | Path]:
    """Class name to file; of several image sets, those files that name `image_set`."""
    path, files = source.path, _files(source)
    if not files:
        raise InputError("no files called comp*_det_*_<class>.txt", path)
    if image_set is not None:
        of_set = [file for file in files if f"det_{image_set}_" in _stem(file)]
        files = of_set or files
    else:
        of_set = []
    prefix = _common_prefix([_stem(file) for file in files], known)
    classes: dict[str, Input | Path] = {}
    prefixes = set()
    for file in files:
        stem = _stem(file)
        # Without a known image set it is the first word; class names may have underscores, too.
        start = r".*?det_" + (f"{re.escape(image_set)}_" if of_set and image_set else "[^_]+_")
        match = re.match(start, stem)
        if prefix is not None and stem.startswith(prefix) and not (of_set and match):
            start = prefix
        elif match:
            start = match[0]
        else:
            raise InputError("it is not clear which class this file is of", Path(str(file)))
        prefixes.add(start)
        classes[stem.removeprefix(start)] = file
    if len(prefixes) > 1:
        kinds = abbreviate_list(sorted(prefix.removesuffix("_") for prefix in prefixes))
        raise InputError(f"results of several kinds are mixed here: {kinds}", path)
    if len(classes) < len(files):
        raise InputError("a class has two files of results, one of them compressed", path)
    return dict(sorted(classes.items()))  # files of "a" and "a b" sort otherwise: " " < "."


def _common_prefix(stems: list[str], known: tuple[str, ...]) -> str | None:
    """What stands before the class in the files' names, by the classes that are known.

    The prefix behind which most files have a known class; of several the longest that all files
    have, so that the classes are as short as can be. None if no file has a known class.
    """
    counts: Counter[str] = Counter()
    for stem in stems:
        for name in known:
            if stem.endswith(name) and not stem.removesuffix(name)[-1:].isalnum():
                counts[stem.removesuffix(name)] += 1
    if not counts:
        return None
    largest = max(counts.values())
    return max((prefix for prefix, count in counts.items() if count == largest), key=len)


def _read_rows(files: list[Input], catalog: Catalog, threads: int) -> tuple[list[str], Results]:
    """The names of images in the files, and the rows, whose column `image` indexes the names."""
    from upmap.kernels import FormatError, voc_files

    paths = [file.path for file in files]
    data = {i: file.data for i, file in enumerate(files) if file.data is not None}
    names = {str(image): None for image in catalog.images} | dict.fromkeys(image_names(catalog))
    for attempt in range(2):
        images = {name: i for i, name in enumerate(names)}
        try:
            with translate_errors(paths[0]):
                return list(names), voc_files.results(paths, images, data=data, threads=threads)
        except InputError as error:
            if attempt or not isinstance(error.__context__, FormatError):
                raise
        # Other names, as of files or of images that are not listed: all are looked up now.
        names |= dict.fromkeys(
            word for file in files for line in file.text().split("\n") for word in line.split()[:1]
        )
    raise AssertionError("the second attempt returns or raises")


def _image_places(
    names: list[str], rows: Results, catalog: Catalog, image_key: ImageKey | None, path: Path
) -> NDArray[np.int32]:
    """The place of each row's image, int32 [N]; -1 where it is not listed.

    A name is that of the image's file; where not all are, it may be the id.
    """
    used = np.unique(rows.image)
    keys = [names[k] for k in used.tolist()]
    places = find_images(keys, catalog, image_key=image_key, usual="stem", path=path)
    place_of = np.full(len(names), -1, np.int32)
    place_of[used] = places
    return place_of[rows.image]


def _with_classes(catalog: Catalog, classes: tuple[str, ...]) -> Catalog:
    if classes == catalog.classes:
        return catalog
    return replace(catalog, classes=classes, class_ids=())
