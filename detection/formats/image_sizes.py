"""Sizes of images that annotations do not state: from image headers, files or options."""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from upmap.detection.boxes import scale_to_pixels
from upmap.detection.formats.read_options import ReadOptions
from upmap.detection.inputs import open_input
from upmap.detection.tables import Detections, image_names
from upmap.errors import InputError

__all__ = [
    "IMAGE_ENDINGS",
    "find_image_files",
    "read_image_sizes",
    "scale_detections",
    "strip_image_ending",
]

# Those that Ultralytics reads, lower case.
IMAGE_ENDINGS = frozenset(
    ending
    for endings in ("avif bmp dng heic jp2 jpeg jpeg2000", "jpg mpo pfm png tif tiff webp")
    for ending in endings.split()
)
ORIENTATION = 0x0112  # the EXIF tag
TRANSPOSED = frozenset((5, 6, 7, 8))  # orientations whose width is the stored height
LARGEST_SIDE = 2**31  # px


def strip_image_ending(name: str) -> str:
    """The name without the ending of an image file; other dots are part of the name.

    >>> strip_image_ending("a.b.JPG"), strip_image_ending("a.b")
    ('a.b', 'a.b')
    """
    stem, dot, ending = name.rpartition(".")
    return stem if dot and stem and ending.lower() in IMAGE_ENDINGS else name


def find_image_files(folder: Path) -> dict[str, str]:
    """The image files in a folder and those in it: path from there, without ending, to file."""
    files = {}
    for root, folders, names in os.walk(folder):
        folders.sort()
        relative = Path(root).relative_to(folder).as_posix()
        prefix = "" if relative == "." else f"{relative}/"
        for name in sorted(names):
            stem = strip_image_ending(name)
            if stem != name:
                files[prefix + stem] = f"{root}/{name}"
    return files


def read_image_sizes(
    images: Sequence[str], options: ReadOptions, files: Sequence[str | None] = ()
) -> NDArray[np.int64]:
    """Width and height of each image, int64 [I, 2], px; 0 where it is not known.

    Args:
        images: The images' names, without the ending of a file; folders are separated by "/".
        options: `sizes`, `image_size` and `images` are looked at, in this order.
        files: The image files, where they are known; they are read if no option is set.

    Raises:
        InputError: If a file of sizes or an image is malformed, or there is no such folder.
    """
    if options.sizes is not None:
        return _look_up(images, _read_sizes_file(options.sizes))
    if options.image_size is not None:
        return np.tile(np.array(options.image_size, np.int64), (len(images), 1))
    if options.images is not None:
        if not options.images.is_dir():
            raise InputError("no such folder of images", options.images)
        known = find_image_files(options.images)
        known |= {name.rpartition("/")[2]: path for name, path in known.items()}
        files = [known.get(name) or known.get(name.rpartition("/")[2]) for name in images]
    if not any(files):
        return np.zeros((len(images), 2), np.int64)
    sizes = [(0, 0) if file is None else _read_header(file) for file in files]
    return np.array(sizes, np.int64).reshape(-1, 2)


def scale_detections(table: Detections, options: ReadOptions) -> Detections:
    """The table in px, if sizes of its images are known from the ground truth or `options`."""
    catalog = table.catalog
    is_asked = options.sizes or options.image_size or options.images
    if table.pixels == "relative" and is_asked and not (len(catalog.sizes) and catalog.sizes.all()):
        sizes = read_image_sizes(image_names(catalog), options)
        if len(catalog.sizes):
            sizes = np.where(catalog.sizes > 0, catalog.sizes, sizes)
        scaled = scale_to_pixels(replace(table, catalog=replace(catalog, sizes=sizes)))
        return replace(scaled, catalog=catalog)
    return scale_to_pixels(table)


def _look_up(images: Sequence[str], sizes: dict[str, tuple[int, int]]) -> NDArray[np.int64]:
    by_name = {name.rpartition("/")[2]: size for name, size in sizes.items()}
    known = [sizes.get(name) or by_name.get(name.rpartition("/")[2], (0, 0)) for name in images]
    return np.array(known, np.int64).reshape(-1, 2)


def _read_sizes_file(path: Path) -> dict[str, tuple[int, int]]:
    """Name without ending to width and height, from lines `name width height`; commas may separate.

    Raises:
        InputError: If a line is another, or an image has two sizes.
    """
    sizes: dict[str, tuple[int, int]] = {}
    for number, line in enumerate(open_input(path).text().splitlines(), start=1):
        words = (line.rsplit(",", 2) if line.count(",") >= 2 else line.rsplit(None, 2)) or [""]
        if not line.strip() or (number == 1 and words[-1].strip().isalpha()):
            continue  # a blank line, or a header
        name, size = strip_image_ending(words[0].strip().replace("\\", "/")), words[1:]
        if len(size) != 2 or not all(_is_side(word.strip()) for word in size):
            expected = "expected a name, a width and a height"
            raise InputError(f"{expected}, got {line[:60]!r}", path, str(number))
        width, height = (int(word) for word in size)
        if sizes.setdefault(name, (width, height)) != (width, height):
            raise InputError(f"{name!r} has two sizes", path, str(number))
    return sizes


def _is_side(word: str) -> bool:
    return word.isascii() and word.isdecimal() and len(word) < 11 and 0 < int(word) < LARGEST_SIDE


def _read_header(path: str) -> tuple[int, int]:
    """Width and height of an image file as it is shown, by its EXIF orientation; no pixel is read.

    Raises:
        InputError: If it cannot be read, or Pillow is not installed.
    """
    try:
        from PIL import Image
    except ImportError:
        message = "Pillow reads the sizes of images: pip install pillow, or name a file (--sizes)"
        raise InputError(message, path) from None
    try:
        if not os.path.isfile(path):  # noqa: PTH113
            raise InputError("not a regular file", path)
        with Image.open(path) as image:
            width, height = image.size
            # What JPEG, PNG and WebP files have of EXIF is in memory after opening; others differ.
            is_turned = image.getexif().get(ORIENTATION) in TRANSPOSED
    except InputError:
        raise
    except Image.DecompressionBombError:
        raise InputError("this image has too many pixels", path) from None
    except Exception as error:  # Pillow's parsers raise whatever they stumble over
        message = f"the size of this image cannot be read: {type(error).__name__}"
        raise InputError(message, path) from None
    return (height, width) if is_turned else (width, height)
