"""Which files of a folder are images, and which file is the label of each.

A layout is a row of LAYOUTS: a function that finds pairs of an image and its label. A folder has
one layout; where several fit, it is refused with the names of the options.
"""

import os
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath

from upmap.errors import InputError, abbreviate_list
from upmap.segmentation.class_description import ClassDescription
from upmap.segmentation.datasets import IMAGES

__all__ = ["LAYOUTS", "Item", "Layout", "find_layout"]

IMAGE_FOLDERS = frozenset(
    ("images", "image", "imgs", "img", "jpegimages", "inputs", "input", "photos", "leftimg8bit")
)
LABEL_FOLDERS = frozenset((
    *("labels", "label", "masks", "mask", "segmentationclass", "segmentations", "annotations"),
    *("annotation", "gt", "gtfine", "ground_truth", "groundtruth", "targets", "target"),
))  # fmt: skip
IMAGE_SUFFIXES = ("", "_image", "_img", "_rgb", "_sat", "_leftimg8bit")
LABEL_SUFFIXES = (
    *("_mask", "_masks", "_label", "_labels", "_gt", "_seg", "_segmentation", "_annotation"),
    *("_target", "_gtfine_labelids", "_gtfine_labeltrainids", "-mask", "-label", ".mask"),
)
SPLIT_FOLDERS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}

Key = tuple[str, ...]  # the folders of a file, and its name without ending


@dataclass(frozen=True, slots=True)
class Item:
    """An image and its label.

    Attributes:
        name: The path of the image in the folder, without ending and without what tells it from
            its label; folders are separated by slashes.
        image: The file of the image.
        label: The file of its label.
        split: The split that a folder's name says; None if none does.
    """

    name: str
    image: Path
    label: Path
    split: str | None


@dataclass(frozen=True, slots=True)
class Layout:
    """A way to find the label of each image.

    Attributes:
        description: What it is, for messages: "labels in masks/".
        remedy: The keys of classes.json that choose it among others.
        items: The pairs, by name.
        unpaired: Images without a label.
    """

    description: str
    remedy: str
    items: tuple[Item, ...]
    unpaired: tuple[Path, ...]


def find_layout(root: Path, description: ClassDescription | None = None) -> Layout | None:
    """Looks which files of a folder, and of those in it, are images and their labels.

    Args:
        root: The folder.
        description: What classes.json says; its label_folder and label_suffix choose.

    Returns:
        None if no layout fits.

    Raises:
        InputError: If several fit, two images have one name, or folders name the split of some
            images only.
    """
    folder = description.label_folder if description else None
    suffix = description.label_suffix if description else None
    files = _list_files(root)
    layouts = [
        layout
        for find in LAYOUTS.values()
        for layout in find(root, files, folder and folder.lower(), suffix and suffix.lower())
    ]
    if len(layouts) > 1:
        options = "; ".join(f"{layout.description}: {layout.remedy}" for layout in layouts)
        message = f"labels could be any of {len(layouts)}; choose in classes.json: {options}"
        raise InputError(message, root)
    return layouts[0] if layouts else None


def _list_files(root: Path) -> list[PurePath]:
    """The image files below a folder, relative to it, in order; hidden ones left out."""
    files: list[PurePath] = []
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        here = PurePath(folder).relative_to(root)
        files += [
            here / name
            for name in sorted(names)
            if not name.startswith(".") and PurePath(name).suffix.lower() in IMAGES
        ]
    return files


def _find_folders(
    root: Path, files: list[PurePath], folder: str | None, suffix: str | None
) -> Iterator[Layout]:
    """Images in one folder, labels in another, such as images/ and masks/, also in each split."""
    label_folders = LABEL_FOLDERS if folder is None else {folder}
    images: dict[Key, PurePath] = {}
    labels: defaultdict[str, list[PurePath]] = defaultdict(list)
    for file in files:
        parts = [part.lower() for part in file.parts[:-1]]
        if name := next((part for part in parts if part in label_folders), None):
            labels[name].append(file)
        elif any(part in IMAGE_FOLDERS for part in parts):
            _add_image(root, images, _strip_key(file, IMAGE_FOLDERS, IMAGE_SUFFIXES), file)
    for name, group in sorted(labels.items()):
        for ending in ("", *LABEL_SUFFIXES) if suffix is None else (suffix,):
            paired = {
                _strip_key(file, {name}, (ending,) if ending else IMAGE_SUFFIXES): file
                for file in group
                if file.stem.lower().endswith(ending)
            }
            if layout := _pair(root, images, paired):
                yield _describe(layout, root, folder=name, suffix=ending)


def _find_suffixes(
    root: Path, files: list[PurePath], folder: str | None, suffix: str | None
) -> Iterator[Layout]:
    """A label beside each image, whose name ends differently: a.png and a_mask.png."""
    endings = LABEL_SUFFIXES if suffix is None else (suffix,)
    if folder is not None:
        return
    for ending in endings:
        labels: dict[Key, PurePath] = {}
        images: dict[Key, PurePath] = {}
        for file in files:
            if file.stem.lower().endswith(ending):
                labels[_strip_key(file, frozenset(), (ending,))] = file
            elif not file.stem.lower().endswith((*LABEL_SUFFIXES, ending)):
                _add_image(root, images, _strip_key(file, frozenset(), IMAGE_SUFFIXES), file)
        if layout := _pair(root, images, labels):
            yield _describe(layout, root, folder=None, suffix=ending)


LAYOUTS: dict[str, Callable[..., Iterator[Layout]]] = {
    "folders": _find_folders,
    "suffixes": _find_suffixes,
}


def _strip_key(
    file: PurePath, folders: frozenset[str] | set[str], suffixes: tuple[str, ...]
) -> Key:
    """The folders and the name of a file without what tells images from labels."""
    parts = list(file.parts[:-1])
    for i, part in enumerate(parts):
        if part.lower() in folders:
            del parts[i]
            break
    stem = file.stem
    for suffix in suffixes:
        if suffix and stem.lower().endswith(suffix) and len(stem) > len(suffix):
            return (*parts, stem[: -len(suffix)])
    return (*parts, stem)


def _add_image(root: Path, images: dict[Key, PurePath], key: Key, file: PurePath) -> None:
    other = images.setdefault(key, file)
    if other != file:
        raise InputError(f"{other} and {file} have the same name; keep one", root)


def _pair(
    root: Path, images: Mapping[Key, PurePath], labels: Mapping[Key, PurePath]
) -> Layout | None:
    """A layout without description of the images that have labels; None if none has."""
    keys = [key for key in images if key in labels]
    if not keys:
        return None
    items = [
        Item("/".join(key), root / images[key], root / labels[key], _find_split(images[key]))
        for key in sorted(keys)
    ]
    _validate_splits(items, root)
    unpaired = tuple(root / images[key] for key in images if key not in labels)
    return Layout("", "", tuple(items), unpaired)


def _describe(layout: Layout, root: Path, *, folder: str | None, suffix: str) -> Layout:
    count = f"{len(layout.items)} labels"
    words, keys = [count], []
    if folder is not None:
        words.append(f"in {folder}")
        keys.append(f'"label_folder": "{folder}"')
    if suffix or folder is None:
        words.append(f"with names that end in {suffix}")
        keys.append(f'"label_suffix": "{suffix}"')
    return Layout(" ".join(words), ", ".join(keys), layout.items, layout.unpaired)


def _find_split(file: PurePath) -> str | None:
    parts = (part.lower() for part in file.parts[:-1])
    return next((SPLIT_FOLDERS[part] for part in parts if part in SPLIT_FOLDERS), None)


def _validate_splits(items: list[Item], root: Path) -> None:
    """Requires folders to name the split of all images or of none."""
    without = [item.name for item in items if item.split is None]
    if 0 < len(without) < len(items):
        message = f"folders name the split of some images, but not of {abbreviate_list(without, 3)}"
        raise InputError(f"{message}; move them, or write lists: train.txt, val.txt", root)
