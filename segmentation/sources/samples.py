"""What a source of segmentation data holds: splits of images, each with a way to its label."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from upmap.errors import InputError, abbreviate_list
from upmap.segmentation.class_description import MAX_DATASET_CLASSES
from upmap.segmentation.folders.splits import SHARES, draw_split

__all__ = [
    "BACKGROUND",
    "Mask",
    "Pixels",
    "Sample",
    "Settings",
    "Source",
    "add_background",
    "draw_splits",
    "guess_split",
    "paint_masks",
]

BACKGROUND = "background"  # the class of pixels that no object covers
SPLIT_NAMES = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}

Pixels = NDArray[np.uint8]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Settings:
    """How a source is read.

    Attributes:
        images: The folder of the images; None looks for it.
        seed: The seed of splits that are drawn.
        max_pixels: Images and labels with more pixels are refused.
    """

    images: Path | None
    seed: int
    max_pixels: int


@dataclass(frozen=True, slots=True)
class Sample:
    """An image and its label.

    Attributes:
        name: The name of the image, with folders if it has some, without ending.
        image: The file of the image.
        read_label: Maps the image's height and width, px, to its label, uint8 [H, W]: classes, or
            IGNORED.
    """

    name: str
    image: Path
    read_label: Callable[[tuple[int, int]], Pixels]


@dataclass(frozen=True, slots=True)
class Source:
    """A data set as it is read.

    Attributes:
        classes: The names of the K classes.
        splits: The samples of each split.
        palette: uint8 [K, 3], RGB, the colors of the classes; None if the source has none.
    """

    classes: tuple[str, ...]
    splits: Mapping[str, Sequence[Sample]]
    palette: Pixels | None = None


def add_background(names: Sequence[str], place: Path) -> tuple[tuple[str, ...], list[int]]:
    """The classes of objects behind that of the background, and the class of each name.

    A class that is called background already is the background.

    Args:
        names: The names of the classes of objects, in order.
        place: The file that names them, for errors.

    Raises:
        InputError: If there are none, too many, or one twice.
    """
    objects = [name for name in names if name != BACKGROUND]
    classes = (BACKGROUND, *objects)
    if len(set(names)) < len(names) or not objects:
        raise InputError("expected the names of classes, each once", place)
    if len(classes) > MAX_DATASET_CLASSES:
        message = f"{len(objects)} classes; there may be {MAX_DATASET_CLASSES - 1} and a background"
        raise InputError(message, place)
    return classes, [classes.index(name) for name in names]


def paint_masks(size: tuple[int, int], masks: Sequence[tuple[int, Mask]]) -> Pixels:
    """A label, uint8 [H, W], of the masks of objects; 0 where there is none.

    Larger objects are painted first, so that smaller ones that lie on them stay; among equal ones
    the later one is seen.

    Args:
        size: H and W.
        masks: The class of each object, or IGNORED, and its mask, bool [H, W].
    """
    label = np.zeros(size, np.uint8)
    areas = [-int(mask.sum()) for _, mask in masks]
    for i in np.argsort(areas, kind="stable").tolist():
        label[masks[i][1]] = masks[i][0]
    return label


def draw_splits(samples: Sequence[Sample], seed: int, place: Path) -> dict[str, list[Sample]]:
    """The splits train, val and test of a source that has none, see `draw_split`.

    Args:
        samples: All of them.
        seed: The seed.
        place: The source, for errors.

    Raises:
        InputError: If there are too few.
    """
    if len(samples) < len(SHARES):
        message = f"{len(samples)} images are too few to be split into {', '.join(SHARES)}"
        raise InputError(message, place)
    by_name = {sample.name: sample for sample in samples}
    if len(by_name) < len(samples):
        names = [sample.name for sample in samples]
        twice = abbreviate_list(sorted({name for name in names if names.count(name) > 1}), 3)
        raise InputError(f"several images have one name: {twice}", place)
    splits = draw_split(list(by_name), seed)
    return {split: [by_name[name] for name in names] for split, names in splits.items()}


def guess_split(text: str) -> str | None:
    """The split that a word of a name says: instances_val2017 is val; None if none does."""
    words = "".join(c if c.isalpha() else " " for c in text.lower()).split()
    return next((SPLIT_NAMES[word] for word in words if word in SPLIT_NAMES), None)
