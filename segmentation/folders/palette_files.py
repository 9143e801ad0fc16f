"""Files in which annotation tools name classes and their colors, as rows of PALETTE_FILES.

labelmap.txt: CVAT ("name:r,g,b:parts:actions"); class_dict.csv: a table with the columns name, r, g
and b; label_colors.txt: CamVid ("r g b name").
"""

import csv
from collections.abc import Callable
from pathlib import Path

from upmap.errors import InputError
from upmap.files import is_file, read_text
from upmap.segmentation.class_description import MAX_DATASET_CLASSES, ClassDescription

__all__ = ["PALETTE_FILES", "read_palette_file"]

Color = tuple[int, int, int]


def read_palette_file(root: Path) -> ClassDescription | None:
    """The classes and colors that a file of an annotation tool names; None without one.

    Args:
        root: The folder of the data set.

    Raises:
        InputError: If it is malformed; names the line.
    """
    for name, parse in PALETTE_FILES.items():
        if is_file(root / name):
            return _describe(root / name, parse)
    return None


def _describe(path: Path, parse: Callable[[str], tuple[str, list[str]] | None]) -> ClassDescription:
    colors: dict[str, Color] = {}
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        row = parse(line)
        if row is None:
            continue
        name, values = row
        if name in colors or not name:
            raise InputError(f"class {name!r} is named twice or not at all", path, str(number))
        colors[name] = _parse_color(values, path, number)
    if not 0 < len(colors) <= MAX_DATASET_CLASSES:
        raise InputError(f"{len(colors)} classes; there may be 1 to {MAX_DATASET_CLASSES}", path)
    if len({*colors.values()}) < len(colors):
        raise InputError("two classes have one color", path)
    return ClassDescription((*colors,), palette_rgb=(*colors.values(),))


def _parse_color(values: list[str], path: Path, number: int) -> Color:
    try:
        red, green, blue = (int(value) for value in values)
    except ValueError:
        message = f"expected three numbers from 0 to 255, got {','.join(values)!r}"
        raise InputError(message, path, str(number)) from None
    if not all(0 <= value <= 255 for value in (red, green, blue)):
        raise InputError("a color's numbers go from 0 to 255", path, str(number))
    return red, green, blue


def _parse_cvat(line: str) -> tuple[str, list[str]] | None:
    if not line.strip() or line.startswith("#"):
        return None
    name, _, others = line.partition(":")
    return name.strip(), others.partition(":")[0].split(",")


def _parse_csv(line: str) -> tuple[str, list[str]] | None:
    cells = [cell.strip() for cell in next(csv.reader([line]), [])]
    if not any(cells) or cells[0].lower() in ("name", "class", "label"):
        return None
    return cells[0], cells[1:4]


def _parse_camvid(line: str) -> tuple[str, list[str]] | None:
    words = line.split()
    return (" ".join(words[3:]), words[:3]) if words else None


PALETTE_FILES: dict[str, Callable[[str], tuple[str, list[str]] | None]] = {
    "labelmap.txt": _parse_cvat,
    "class_dict.csv": _parse_csv,
    "label_colors.txt": _parse_camvid,
}
