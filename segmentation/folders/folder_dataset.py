"""A data set in a folder as annotation tools write it, recognized by looking.

The documented layout with PNG files of class ids is left to `upmap.segmentation.datasets`.
"""

import json
import warnings
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from upmap.errors import InputError, InputWarning, abbreviate_list
from upmap.files import is_file
from upmap.segmentation.class_description import ClassDescription, create_palette, read_description
from upmap.segmentation.datasets import DESCRIPTION, SegmentationDataset, read_image
from upmap.segmentation.folders.label_values import (
    READINGS,
    Look,
    find_reading,
    look_at_labels,
    read_classes,
)
from upmap.segmentation.folders.layouts import Item, Layout, find_layout
from upmap.segmentation.folders.palette_files import read_palette_file
from upmap.segmentation.folders.splits import name_splits, select_items

__all__ = ["Convention", "find_convention", "list_splits", "open_folder"]

SUGGESTED = 8  # classes in an example of classes.json
BINARY = ClassDescription(("background", "object"))  # of masks of 0 and 255 without classes.json

Pixels = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Convention:
    """How a folder holds a data set.

    Attributes:
        layout: Which files are images and labels.
        reading: How labels hold classes, a key of `label_values.READINGS`.
        description: The classes.
    """

    layout: Layout
    reading: str
    description: ClassDescription


def open_folder(
    root: Path, split: str, count: int | None, max_pixels: int
) -> SegmentationDataset | None:
    """Opens a split of a folder; says by a warning how its files are read.

    Args:
        root: The folder.
        split: The name of the split.
        count: Maximum number of items; None for all.
        max_pixels: Files with more pixels are refused.

    Returns:
        None for the documented layout, and for a folder without images that have labels.

    Raises:
        InputError: If files can be read in several ways or in none, or there is no such split.
    """
    if _is_documented(root, split):
        convention = _find_unusual_reading(root, max_pixels)
    else:
        convention = find_convention(root, max_pixels)
    if convention is None:
        return None
    description, layout = convention.description, convention.layout
    items = select_items(root, layout.items, split, seed=description.split_seed)
    _announce(str(root), _describe(convention))
    palette = description.palette_rgb or create_palette(len(description.classes)).tolist()
    return SegmentationDataset(
        split=split,
        classes=description.classes,
        palette=np.array(palette[: len(description.classes)], np.uint8),
        names=tuple(item.name for item in items[:count]),
        read_item=partial(_read_item, items, convention.reading, description, max_pixels),
        images=tuple(item.image for item in items[:count]),
        max_pixels=max_pixels,
    )


def list_splits(root: Path) -> list[str]:
    """The splits of a folder: of its lists or folders, or those that are drawn.

    Args:
        root: The folder.

    Raises:
        InputError: See `find_layout`.
    """
    path = root / DESCRIPTION
    layout = find_layout(root, read_description(path) if is_file(path) else None)
    return [] if layout is None else name_splits(root, layout.items)


def find_convention(root: Path, max_pixels: int) -> Convention | None:
    """Looks how a folder holds a data set.

    Args:
        root: The folder.
        max_pixels: Labels with more pixels are refused.

    Returns:
        None if no image has a label.

    Raises:
        InputError: If files can be read in several ways or in none, or images lack a label.
    """
    path = root / DESCRIPTION
    description = read_description(path) if is_file(path) else None
    layout = find_layout(root, description)
    if layout is None:
        return None
    _validate_pairs(root, layout)
    look = look_at_labels([item.label for item in layout.items], max_pixels)
    description = _complete_description(root, description, look)
    return Convention(layout, find_reading(description, look, root), description)


def _is_documented(root: Path, split: str) -> bool:
    """Whether the folder has the documented files, and the list of the split."""
    names = (DESCRIPTION, f"{split}.txt")
    return all(is_file(root / name) for name in names) and (root / "labels").is_dir()


def _find_unusual_reading(root: Path, max_pixels: int) -> Convention | None:
    """How the documented files hold classes, if not as ids; None also where that cannot be seen.

    What is wrong with such files is said where they are read.
    """
    description = read_description(root / DESCRIPTION)
    is_asked = description.ids_in_files is not None or description.label_values is not None
    try:
        convention = find_convention(root, max_pixels)
    except InputError:
        if is_asked:
            raise
        return None
    return None if convention is None or convention.reading == "ids" else convention


def _validate_pairs(root: Path, layout: Layout) -> None:
    """Refuses images without a label, unless lists say which count."""
    if layout.unpaired and not any(path.suffix == ".txt" for path in root.iterdir()):
        names = abbreviate_list([path.name for path in layout.unpaired], 3)
        message = f"{len(layout.unpaired)} images have no label: {names}"
        raise InputError(f"{message}; remove them, or write lists of those that count", root)


def _complete_description(
    root: Path, description: ClassDescription | None, look: Look
) -> ClassDescription:
    """The description with colors of a palette file, or one of binary masks where there is none."""
    listing = read_palette_file(root)
    if description is None:
        if listing is not None:
            return listing
        if READINGS["binary"].fits(BINARY, look):
            return BINARY
        message = f"no such file or folder; it names the classes: {_suggest_description(look)}"
        raise InputError(message, root / DESCRIPTION)
    if listing is None or description.palette_rgb is not None:
        return description
    colors = dict(zip(listing.classes, listing.palette_rgb or (), strict=True))
    if missing := [name for name in description.classes if name not in colors]:
        message = f"no color of {abbreviate_list(missing, 3)} in the file of colors beside it"
        raise InputError(f"{message}; add palette_rgb", root / DESCRIPTION, "classes")
    return replace(description, palette_rgb=tuple(colors[name] for name in description.classes))


def _suggest_description(look: Look) -> str:
    """What classes.json may say of labels with these ids or colors: a line to copy and change."""
    if look.values:
        values = abbreviate_list([str(value) for value in sorted(look.values)], 8)
        count = max(look.values) + 1 if max(look.values) < SUGGESTED else 2
        return f'{{"classes": {_suggest_names(count)}}}; labels have the ids {values}'
    colors = sorted(look.colors)[:SUGGESTED]
    palette = [[color >> 16, color >> 8 & 255, color & 255] for color in colors]
    ending = "" if len(look.colors) <= SUGGESTED else f" and {len(look.colors) - SUGGESTED} others"
    example = f'{{"classes": {_suggest_names(len(colors))}, "palette_rgb": {palette}}}'
    return f"{example}; these are the colors of the labels{ending}"


def _suggest_names(count: int) -> str:
    names = ["background", *(f"class{i}" for i in range(1, count))]
    return json.dumps(names)


def _describe(convention: Convention) -> str:
    layout, count = convention.layout, len(convention.description.classes)
    reading = READINGS[convention.reading].description
    names = abbreviate_list(list(convention.description.classes), 3)
    return f"{layout.description}, read as {reading}; {count} classes: {names}"


@lru_cache(maxsize=64)  # once for each folder, though every split of it is opened
def _announce(root: str, words: str) -> None:
    warnings.warn(InputWarning(f"{root}: {words}", kind="folder-convention"), stacklevel=4)


def _read_item(
    items: tuple[Item, ...],
    reading: str,
    description: ClassDescription,
    max_pixels: int,
    item: int,
) -> tuple[Pixels, Pixels]:
    image = read_image(items[item].image, max_pixels)
    label = read_classes(items[item].label, reading, description, max_pixels)
    if image.shape[:2] != label.shape:
        sizes = [f"{pixels.shape[1]} x {pixels.shape[0]} px" for pixels in (label, image)]
        name = items[item].image.name
        message = f"the label has {sizes[0]}, its image {name} has {sizes[1]}"
        raise InputError(message, items[item].label)
    return image, label
