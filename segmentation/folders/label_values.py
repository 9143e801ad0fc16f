"""How label files hold classes: as ids, as ids of another numbering, as 0 and 255, or as colors.

A reading is a row of READINGS. One reading holds for a whole data set. It is found by looking at
some of the labels; a label that it does not fit is refused when it is read, so that none is
misread in silence.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from upmap.errors import InputError, abbreviate_list
from upmap.files import read_bytes
from upmap.metrics.semantic import IGNORED
from upmap.segmentation.class_description import ClassDescription
from upmap.segmentation.datasets import decode_label
from upmap.segmentation.image_values import orient_pixels, read_orientation

__all__ = ["READINGS", "Look", "Reading", "find_reading", "look_at_labels", "read_classes"]

LOOKS = 24  # labels that are looked at, evenly spread
MAX_CODES = 4096  # different values or colors of a label; a photo has more
FORMATS = ("PNG", "TIFF", "BMP")  # those without loss
GRAY_STEPS = {2: 85, 4: 17}  # bits of a gray PNG file to the factor by which Pillow scales it
BIT_DEPTH = 24  # place of a PNG file's bits per sample
WHITE = (255, 65535)  # the object in masks of 8 and of 16 bits
UNKNOWN = 254

Codes = NDArray[np.int64]  # gray values, or colors as 2^16 R + 2^8 G + B


@dataclass(frozen=True, slots=True)
class Look:
    """What some labels of a data set contain.

    Attributes:
        values: The gray values or indices; empty if a label has colors.
        colors: The colors, as codes; empty if labels are gray.
    """

    values: frozenset[int]
    colors: frozenset[int]


class Reading(NamedTuple):
    """A row of READINGS.

    Attributes:
        description: What labels hold, for messages.
        codes: Maps classes.json to the class of each value, or color if `is_color`.
        fits: Whether a look at the labels speaks for this reading.
        is_color: Whether colors are read instead of gray values and indices.
    """

    description: str
    codes: Callable[[ClassDescription], dict[int, int]]
    fits: Callable[[ClassDescription, Look], bool]
    is_color: bool = False


def look_at_labels(labels: Sequence[Path], max_pixels: int) -> Look:
    """Looks at some labels, evenly spread over all.

    Args:
        labels: Their files.
        max_pixels: A file with more pixels is refused.

    Raises:
        InputError: If one cannot be read, or is a photo.
    """
    values: set[int] = set()
    colors: set[int] = set()
    count = min(LOOKS, len(labels))
    for i in range(count):
        path = labels[i * len(labels) // count]
        picture, data = _decode(path, max_pixels)
        codes = _find_grays(picture, data)
        if codes is not None:
            values.update(np.unique(codes).tolist())
        if codes is None or picture.mode in ("P", "RGB", "RGBA"):
            colors.update(np.unique(_find_colors(picture)).tolist())
        if max(len(values), len(colors)) > MAX_CODES:
            raise InputError("has the colors of a photo, not those of classes", path)
        if codes is None:
            values.clear()
            return Look(frozenset(), frozenset(colors | _look_at_colors(labels, max_pixels)))
    return Look(frozenset(values), frozenset(colors))


def find_reading(description: ClassDescription, look: Look, place: Path) -> str:
    """The one reading that fits what labels contain, or that classes.json names.

    Args:
        description: What classes.json says.
        look: What some labels contain.
        place: The data set, for errors.

    Raises:
        InputError: If none fits, or several that would give different classes.
    """
    if description.label_values is not None:
        return description.label_values
    fitting = [name for name, reading in READINGS.items() if reading.fits(description, look)]
    if not fitting:
        raise InputError(_describe_misfit(description, look), place)
    first = fitting[0]
    if any(_tell(name, description, look) != _tell(first, description, look) for name in fitting):
        options = ", ".join(f'"{name}" ({READINGS[name].description})' for name in fitting)
        message = "labels can be read in several ways; choose by label_values in classes.json"
        raise InputError(f"{message}: {options}", place)
    return first


def read_classes(
    path: Path, reading: str, description: ClassDescription, max_pixels: int
) -> NDArray[np.uint8]:
    """The class of each pixel of a label file, uint8 [H, W]; IGNORED for void.

    Args:
        path: The file.
        reading: A key of READINGS.
        description: What classes.json says.
        max_pixels: A file with more pixels is refused.

    Raises:
        InputError: If the file cannot be read, or has a value that is no class.
    """
    picture, data = _decode(path, max_pixels)
    is_color = READINGS[reading].is_color
    codes = _find_colors(picture) if is_color else _find_grays(picture, data)
    if codes is None:
        message = f"has colors, but labels are read as {READINGS[reading].description}"
        raise InputError(f'{message}; "label_values": "colors" in classes.json reads colors', path)
    classes = _add_void(reading, description)
    values, places = np.unique(codes, return_inverse=True)
    table = np.array([classes.get(value, UNKNOWN) for value in values.tolist()], np.uint8)
    if (unknown := table == UNKNOWN).any():
        row, column = np.argwhere((table == UNKNOWN)[places.reshape(codes.shape)])[0].tolist()
        value = _name_code(int(values[unknown][0]), is_color=is_color)
        where = f"row {row}, column {column}"
        kind = READINGS[reading].description
        raise InputError(f"{value} ({where}) is no class: labels are read as {kind}", path)
    pixels = table[places.reshape(codes.shape)]
    return np.asarray(orient_pixels(pixels, read_orientation(picture, data)), np.uint8)


def _look_at_colors(labels: Sequence[Path], max_pixels: int) -> set[int]:
    """The colors of all labels that are looked at, of gray ones, too."""
    colors: set[int] = set()
    count = min(LOOKS, len(labels))
    for i in range(count):
        path = labels[i * len(labels) // count]
        colors.update(np.unique(_find_colors(_decode(path, max_pixels)[0])).tolist())
        if len(colors) > MAX_CODES:
            raise InputError("has the colors of a photo, not those of classes", path)
    return colors


def _decode(path: Path, max_pixels: int) -> tuple[Image.Image, bytes]:
    data = read_bytes(path)
    picture = decode_label(data, path, max_pixels)
    if picture.format not in FORMATS:
        message = f"{picture.format} changes the values of pixels, which are the classes"
        raise InputError(f"{message}; save labels as PNG", path)
    if picture.mode in ("LA", "PA", "RGBA") and picture.getchannel("A").getextrema()[0] != 255:
        raise InputError("transparent pixels have no class; save labels without alpha", path)
    return picture, data


def _find_grays(picture: Image.Image, data: bytes) -> Codes | None:
    """Gray values or indices, [H, W]; None if there are colors."""
    if picture.mode in ("1", "L", "P", "I;16", "I;16B", "I"):
        grays = np.asarray(picture).astype(np.int64)
        is_png_gray = picture.format == "PNG" and picture.mode == "L"
        return grays // GRAY_STEPS.get(data[BIT_DEPTH], 1) if is_png_gray else grays
    if picture.mode in ("LA", "PA"):
        return np.asarray(picture)[..., 0].astype(np.int64)
    rgb = np.asarray(picture.convert("RGB"))
    is_gray = (rgb[..., 0] == rgb[..., 1]).all() and (rgb[..., 0] == rgb[..., 2]).all()
    return rgb[..., 0].astype(np.int64) if is_gray else None


def _find_colors(picture: Image.Image) -> Codes:
    rgb = np.asarray(picture.convert("RGB")).astype(np.int64)
    codes: Codes = rgb[..., 0] << 16 | rgb[..., 1] << 8 | rgb[..., 2]
    return codes


def _encode_color(color: Sequence[int]) -> int:
    return color[0] << 16 | color[1] << 8 | color[2]


def _name_code(code: int, *, is_color: bool) -> str:
    return f"color #{code:06x}" if is_color else f"value {code}"


def _add_void(reading: str, description: ClassDescription) -> dict[int, int]:
    """The class of each value or color, IGNORED for void."""
    classes = READINGS[reading].codes(description)
    void = description.ignore_index_in_files
    if not READINGS[reading].is_color and void is not None:
        return classes | {void: IGNORED}
    return classes


def _tell(reading: str, description: ClassDescription, look: Look) -> list[tuple[int, int]]:
    """What a reading makes of the looks: readings that agree on them are one."""
    row, classes = READINGS[reading], _add_void(reading, description)
    if row.is_color:
        grays = {_encode_color((value,) * 3): value for value in look.values}
        return sorted((grays.get(code, code), classes.get(code, -1)) for code in look.colors)
    return sorted((value, classes.get(value, -1)) for value in look.values)


def _describe_misfit(description: ClassDescription, look: Look) -> str:
    count, is_color = len(description.classes), not look.values
    codes = sorted(look.colors if is_color else look.values)
    names = abbreviate_list([_name_code(code, is_color=is_color) for code in codes], 8)
    classes = f"{count} classes (0 .. {count - 1})"
    if is_color:
        remedy = "palette_rgb in classes.json must have the color of each class, and of void last"
        return f"labels have {names}, which are not all colors of {classes}; {remedy}"
    remedy = "ids_in_files in classes.json maps them: the id of each class, in order"
    return f"labels have {names}, which do not fit {classes}; {remedy}"


def _ids(description: ClassDescription) -> dict[int, int]:
    return {i: i for i in range(len(description.classes))}


def _fits_ids(description: ClassDescription, look: Look) -> bool:
    return _covers("ids", description, look) and description.ids_in_files is None


def _ids_from_1(description: ClassDescription) -> dict[int, int]:
    return {i + 1: i for i in range(len(description.classes))}


def _fits_ids_from_1(description: ClassDescription, look: Look) -> bool:
    """No 0, and the last id, which would be no class if ids began with 0."""
    last = len(description.classes)
    is_last = last in look.values and description.ignore_index_in_files != last
    is_free = description.ids_in_files is None and 0 not in look.values
    return is_free and is_last and _covers("ids_from_1", description, look)


def _ids_in_files(description: ClassDescription) -> dict[int, int]:
    return {value: i for i, value in enumerate(description.ids_in_files or ())}


def _fits_ids_in_files(description: ClassDescription, look: Look) -> bool:
    return description.ids_in_files is not None


def _binary(description: ClassDescription) -> dict[int, int]:
    return {0: 0, **dict.fromkeys(WHITE, 1)}


def _fits_binary(description: ClassDescription, look: Look) -> bool:
    has_white = any(look.values == {0, white} or look.values == {white} for white in WHITE)
    is_free = description.ids_in_files is None and description.ignore_index_in_files not in WHITE
    return len(description.classes) == 2 and has_white and is_free


def _colors(description: ClassDescription) -> dict[int, int]:
    palette = [_encode_color(color) for color in description.palette_rgb or ()]
    classes = [*range(len(description.classes)), IGNORED]
    return dict(zip(palette, classes, strict=False))


def _fits_colors(description: ClassDescription, look: Look) -> bool:
    """Only where there are colors of classes, and no ids of a palette that are classes, too."""
    are_ids = bool(look.values) and _covers("ids", description, look)
    is_free = description.ids_in_files is None and not are_ids
    return bool(look.colors) and is_free and look.colors <= _colors(description).keys()


def _covers(reading: str, description: ClassDescription, look: Look) -> bool:
    return bool(look.values) and look.values <= _add_void(reading, description).keys()


READINGS: dict[str, Reading] = {
    "ids": Reading("class ids from 0", _ids, _fits_ids),
    "ids_from_1": Reading("class ids from 1", _ids_from_1, _fits_ids_from_1),
    "ids_in_files": Reading("the ids of ids_in_files", _ids_in_files, _fits_ids_in_files),
    "binary": Reading("masks of 0 and 255", _binary, _fits_binary),
    "colors": Reading("the colors of palette_rgb", _colors, _fits_colors, is_color=True),
}
