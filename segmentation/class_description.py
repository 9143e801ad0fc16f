"""What classes.json says: classes, their colors, and how label files hold them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from upmap.conversion import decode_json
from upmap.errors import InputError
from upmap.files import read_text

__all__ = ["MAX_DATASET_CLASSES", "ClassDescription", "create_palette", "read_description"]

MAX_DATASET_CLASSES = 254  # 255 is void, 254 stands for ids that are neither

Byte = Annotated[int, msgspec.Meta(ge=0, le=255)]
Word = Annotated[int, msgspec.Meta(ge=0, le=65535)]
ClassName = Annotated[str, msgspec.Meta(min_length=1)]
FileName = Annotated[str, msgspec.Meta(min_length=1, max_length=255, pattern=r"^[^/\\\x00]+$")]
LabelValues = Literal["ids", "ids_from_1", "ids_in_files", "binary", "colors"]


@dataclass(frozen=True, slots=True)
class ClassDescription:
    """The content of classes.json.

    Attributes:
        classes: The names of the K classes.
        ignore_index_in_files: The id of void in label files; None if there is none.
        palette_rgb: The color of each class and, if there is one more, of void.
        ids_in_files: The id of each class in label files; None if those are 0 .. K - 1.
        label_values: How label files hold classes; None finds out by looking at them.
        label_folder: The name of the folder of labels, where several could be it.
        label_suffix: The end of the names of label files, where several could be it.
        split_seed: The seed of the automatic split of a folder without lists.
    """

    classes: Annotated[tuple[ClassName, ...], msgspec.Meta(min_length=1, max_length=254)]
    ignore_index_in_files: Byte | None = None
    palette_rgb: tuple[tuple[Byte, Byte, Byte], ...] | None = None
    ids_in_files: tuple[Word, ...] | None = None
    label_values: LabelValues | None = None
    label_folder: FileName | None = None
    label_suffix: FileName | None = None
    split_seed: Annotated[int, msgspec.Meta(ge=0, le=2**32 - 1)] = 0


def read_description(path: Path) -> ClassDescription:
    """Reads classes.json.

    Raises:
        InputError: If it is missing, malformed, or contradicts itself; names the key.
    """
    description = decode_json(read_text(path), ClassDescription, path)
    _validate_classes(description, path)
    _validate_ids(description, path)
    return description


def create_palette(count: int) -> NDArray[np.uint8]:
    """Distinct colors, uint8 [count, 3], RGB, as VOClabelcolormap.m makes them."""
    bits = np.arange(count)[:, None] >> np.arange(24) & 1  # bit 3 j + c sets bit 7 - j of color c
    return np.packbits(bits.reshape(count, 8, 3).astype(np.uint8), axis=1)[:, 0]


def _validate_classes(description: ClassDescription, path: Path) -> None:
    """Refuses a class that occurs twice or is void, too, and colors that are not one per class."""
    classes, void = description.classes, description.ignore_index_in_files
    count, palette = len(classes), description.palette_rgb
    if repeated := [name for name in classes if classes.count(name) > 1]:
        raise InputError(f"duplicate class {repeated[0]}", path, "classes")
    counts_from_0 = description.ids_in_files is None and description.label_values in (None, "ids")
    if void is not None and void < count and counts_from_0:
        message = f"{void} is the class {classes[void]}, so it cannot be void"
        raise InputError(message, path, "ignore_index_in_files")
    if palette is not None and len(palette) not in (count, count + 1):
        message = f"{len(palette)} colors for {count} classes"
        raise InputError(f"{message}; void may have one more", path, "palette_rgb")
    if description.label_values == "colors" and palette and len({*palette}) < len(palette):
        raise InputError("two classes have one color", path, "palette_rgb")


def _validate_ids(description: ClassDescription, path: Path) -> None:
    """Refuses ids that are not one per class, or contradict the other keys."""
    classes, ids = description.classes, description.ids_in_files
    if ids is None:
        if description.label_values == "ids_in_files":
            raise InputError("expected the id of each class", path, "ids_in_files")
        return
    if len(ids) != len(classes):
        raise InputError(f"{len(ids)} ids for {len(classes)} classes", path, "ids_in_files")
    if repeated := [i for i in ids if ids.count(i) > 1]:
        raise InputError(f"{repeated[0]} is the id of two classes", path, "ids_in_files")
    if description.ignore_index_in_files in ids:
        message = f"{description.ignore_index_in_files} is void, so it cannot be a class"
        raise InputError(message, path, "ids_in_files")
    if description.label_values not in (None, "ids_in_files"):
        message = f"label_values is {description.label_values}: remove one of the two"
        raise InputError(message, path, "ids_in_files")
