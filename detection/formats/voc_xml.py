"""Pascal VOC ground truth: one XML file per image, image sets as text lists.

Source: the VOC2007 and VOC2012 development kits (PASreadrecord.m, VOCinit.m).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from itertools import repeat
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from upmap.detection.boxes import box_area, convert_pixels, inclusive_size
from upmap.detection.formats.image_sets import read_image_list
from upmap.detection.formats.read_options import ReadOptions
from upmap.detection.inputs import Input, files_in, is_listing, translate_errors
from upmap.detection.tables import Catalog, GroundTruth, image_names
from upmap.errors import InputError, abbreviate_list
from upmap.progress import track_progress

if TYPE_CHECKING:
    from upmap.kernels.voc_files import Annotations

__all__ = [
    "format_number",
    "image_sets",
    "is_ground_truth",
    "output_image_names",
    "read_ground_truth",
    "validate_name",
    "write_ground_truth",
]

SIDES = ("xmin", "ymin", "xmax", "ymax")
CONTROL = re.compile("[\x00-\x1f\x7f\ud800-\udfff\ufffe\uffff]")  # what XML 1.0 cannot hold


def is_ground_truth(named: Input) -> bool:
    """Whether `named` is a devkit folder or a folder of XML files."""
    return named.is_folder() and _layout(named.path) is not None


def read_ground_truth(named: Input, options: ReadOptions) -> GroundTruth:
    """Ground truth of a devkit folder, or of a folder of XML files.

    Args:
        named: VOCdevkit/VOC2007, or VOCdevkit if it holds one year, or Annotations itself.
        options: `image_set` is a name (ImageSets/Main/<name>.txt, or <name>.txt beside
            Annotations), or a file with an image id first on each line; None for every XML file
            there is. The progress bar is for files that Python reads.

    Raises:
        InputError: If a file is missing or malformed; names the file and the line.
    """
    layout = _layout(named.path) if named.is_folder() else None
    if layout is None:
        raise InputError("neither a VOC devkit folder nor a folder of XML files", named.path)
    root, annotations = layout
    names = sorted(_image_names(root, annotations, options.image_set))
    return _table(names, _read_annotations(annotations, names, options))


def image_sets(named: Input) -> dict[str, Path]:
    """The image sets of a devkit folder: name to list file; empty where there is none."""
    layout = _layout(named.path) if named.is_folder() else None
    return {} if layout is None else _list_image_sets(layout[0])


def write_ground_truth(table: GroundTruth, root: Path, image_set: str) -> None:
    """Writes Annotations/*.xml and ImageSets/Main/<image_set>.txt under `root`, which exists.

    VOC has no crowds: a crowd is written as difficult, which VOC tools ignore alike. Boxes are
    written as they are, also with fractions.
    """
    table = convert_pixels(table, "inclusive")
    names = output_image_names(table.catalog)
    for name in table.catalog.classes:
        validate_name(name)
    (root / "Annotations").mkdir()
    (root / "ImageSets" / "Main").mkdir(parents=True)
    rows: list[list[int]] = [[] for _ in names]
    for row, image in enumerate(table.image.tolist()):
        rows[image].append(row)
    sizes = table.catalog.sizes.tolist() or repeat([0, 0])
    for name, size, image_rows in zip(names, sizes, rows, strict=False):
        xml = _xml(name, size, "".join(_object_xml(table, row) for row in image_rows))
        (root / "Annotations" / f"{name}.xml").write_text(xml, encoding="utf-8")
    main = root / "ImageSets" / "Main" / f"{image_set}.txt"
    main.write_text("".join(f"{name}\n" for name in names), encoding="utf-8")


def output_image_names(catalog: Catalog) -> list[str]:
    """VOC's ids of the images: the file names without folder and ending, else the ids themselves.

    Raises:
        InputError: If two images come to the same name, or a name cannot be a file's.
    """
    names = image_names(catalog)
    if repeated := sorted(name for name, times in Counter(names).items() if times > 1):
        raise InputError(f"images that share a file name: {abbreviate_list(repeated)}")
    for name in names:
        if name.split() != [name] or name[0] == "." or re.search(r"[/\\]", name):
            raise InputError(f"the image name {name!r} cannot be a VOC image id")
        validate_name(name)
    return names


def validate_name(name: str) -> str:
    """`name`, if it can stand in an XML file and read back the same.

    Raises:
        InputError: If it is empty, begins or ends with white space, or holds control characters.
    """
    if not name or name != name.strip() or CONTROL.search(name):
        raise InputError(f"the name {name!r} cannot be written in VOC's format")
    return name


def _layout(path: Path) -> tuple[Path, Path] | None:
    """The folder of the devkit's year, and its folder of XML files."""
    if (path / "Annotations").is_dir():
        return path, path / "Annotations"
    years = [year for year in files_in(path, "VOC*") if (year / "Annotations").is_dir()]
    if len(years) > 1:
        raise InputError(f"name one of {', '.join(year.name for year in years)}", path)
    if years:
        return years[0], years[0] / "Annotations"
    return (path.parent, path) if files_in(path, "*.xml") else None


def _image_names(root: Path, annotations: Path, image_set: str | None) -> list[str]:
    if image_set is None:
        names = [file.stem for file in files_in(annotations, "*.xml") if file.name[0] != "."]
        if not names:
            raise InputError("no XML files", annotations)
        return names
    sets = _list_image_sets(root)
    file = sets.get(image_set, Path(image_set))
    if not is_listing(file):
        known = f"there are {abbreviate_list(sorted(sets), 20)}" if sets else "there are none"
        raise InputError(f"no image set called {image_set!r}; {known}", root)
    return read_image_list(file)


def _list_image_sets(root: Path) -> dict[str, Path]:
    folders = (root, root / "ImageSets" / "Main")
    return {file.stem: file for folder in folders for file in files_in(folder, "*.txt")}


def _read_annotations(folder: Path, names: list[str], options: ReadOptions) -> Annotations:
    from upmap.kernels import voc_files

    def track(names: list[str]) -> Iterable[str]:
        show = options.show_progress
        return track_progress(names, "annotations", total=len(names), show=show)

    with translate_errors(folder):
        return voc_files.annotations(folder, names, threads=options.threads, watched=track)


def _table(names: list[str], annotations: Annotations) -> GroundTruth:
    size = inclusive_size(annotations.box)
    catalog = Catalog(tuple(names), tuple(annotations.class_name), sizes=annotations.image_size)
    return GroundTruth(
        image=annotations.image,
        label=annotations.label,
        box=annotations.box,
        size=size,
        area=box_area(size),
        difficult=annotations.difficult,
        crowd=np.zeros(len(size), bool),
        annotation_id=np.arange(1, len(size) + 1),
        catalog=catalog,
        pixels="inclusive",
    )


def _xml(name: str, size: Iterable[int], objects: str) -> str:
    from html import escape

    width, height = size
    return (
        f"<annotation>\n\t<filename>{escape(name)}.jpg</filename>\n"
        f"\t<size>\n\t\t<width>{width}</width>\n\t\t<height>{height}</height>\n"
        f"\t\t<depth>3</depth>\n\t</size>\n{objects}</annotation>\n"
    )


def _object_xml(table: GroundTruth, row: int) -> str:
    from html import escape

    name = escape(table.catalog.classes[table.label[row]])
    difficult = int(table.difficult[row] or table.crowd[row])
    sides = "".join(
        f"\t\t\t<{side}>{format_number(value)}</{side}>\n"
        for side, value in zip(SIDES, table.box[row].tolist(), strict=True)
    )
    return (
        f"\t<object>\n\t\t<name>{name}</name>\n\t\t<difficult>{difficult}</difficult>\n"
        f"\t\t<bndbox>\n{sides}\t\t</bndbox>\n\t</object>\n"
    )


def format_number(value: float) -> str:
    """The shortest text that reads back as `value`; whole numbers without a point.

    >>> format_number(48.0), format_number(0.1)
    ('48', '0.1')
    """
    return repr(int(value)) if value.is_integer() else repr(value)
