"""Data sets of semantic segmentation: images, and the class of each of their pixels.

Labels are PNG files of class ids, as in the VOC2012 development kit. Its colors
(VOClabelcolormap.m) are used for data sets that come without colors.
"""

import re
import warnings
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import lru_cache, partial
from glob import escape
from io import BytesIO
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageFile
from PIL.BmpImagePlugin import BmpImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile
from torch import Tensor
from torch.utils.data import Dataset

from upmap.data import edges
from upmap.data.shapes import CLASSES, Scene, scenes
from upmap.detection.formats.image_sets import read_image_list
from upmap.errors import InputError
from upmap.files import is_file, list_folder, read_bytes, read_text, require_path
from upmap.metrics.semantic import IGNORED
from upmap.progress import track_progress
from upmap.segmentation.class_description import ClassDescription, create_palette, read_description
from upmap.segmentation.data_notes import DataNotes
from upmap.segmentation.image_kinds import refuse_kinds
from upmap.segmentation.image_values import (
    find_bits,
    look_up,
    orient_pixels,
    read_orientation,
    refuse_lossy,
    scale_to_bytes,
)

__all__ = [
    "DATASETS",
    "IMAGES",
    "LARGEST_IMAGE",
    "MAX_PIXELS",
    "DatasetFormat",
    "ImageTooLargeError",
    "SegmentationDataset",
    "decode_image",
    "decode_label",
    "decode_picture",
    "open_dataset",
    "read_image",
    "read_label_ids",
    "validate_dataset",
]

IMAGES = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp", ".webp")  # endings, in either case
LABELS = (".png",)
MAX_PIXELS = 89_478_485  # of an image by default; 256 MB of RGB, where Pillow warns
LARGEST_IMAGE = 2**30  # pixels; the most that OpenCV decodes
DESCRIPTION = "classes.json"
BLANKS = "rename files so that their names have no blanks"
UNKNOWN = 254  # stands for ids that are neither a class nor void
BIT_DEPTH = 24  # place of a PNG file's bits per sample; specification: after width and height
GRAY_STEPS = {2: 85, 4: 17}  # bits of a gray pixel to the factor by which Pillow scales it
SHAPES = {"train": (0, 200), "val": (1, 40), "test": (2, 40)}  # seed, number of scenes
EDGES = {"train": (0, 400), "val": (1, 40), "test": (2, 200)}
VOC_CLASSES = (  # VOC2012 development kit, VOCinit.m, after the background
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa"),
    *("train", "tvmonitor"),
)

FORMATS: dict[bytes, Callable[[BytesIO], ImageFile.ImageFile]] = {  # by the first bytes of a file
    b"\x89PNG\r\n\x1a\n": PngImageFile,
    b"\xff\xd8\xff": JpegImageFile,
    b"II*\0": TiffImageFile,
    b"MM\0*": TiffImageFile,
    b"RIFF": WebPImageFile,
    b"BM": BmpImageFile,
}
FOREIGN = (  # the first bytes of other formats, so that an error can name them
    (rb"II\+\0|MM\0\+", "BigTIFF"),
    (rb"\0\0\0\x0cjP  |\xff\x4f\xff\x51", "JPEG 2000"),
    (rb"%!|\xc5\xd0\xd3\xc6", "PostScript"),
    (rb"%PDF", "PDF"),
    (rb"GIF8", "GIF"),
    (rb"P[1-7fF]\s", "PNM"),
    (rb"....ftyp", "HEIF or AVIF"),
    (rb"\xff\x0a|\0\0\0\x0cJXL ", "JPEG XL"),
    (rb"v/1\x01", "OpenEXR"),
    (rb"#\?", "Radiance HDR"),
    (rb"8BPS", "Photoshop"),
    (rb"\0\0[\1\2]\0", "an icon"),
    (rb"\s*<", "SVG or another XML"),
    (rb"\x1f\x8b|PK\x03\x04", "an archive"),
)

Pixels = NDArray[np.uint8]
Pair = tuple[Tensor, Tensor]


class ImageTooLargeError(InputError):
    """An image with more pixels than there may be; it was not decoded."""


@dataclass(frozen=True, eq=False)
class SegmentationDataset(Dataset[Pair]):
    """Item i is an image, uint8 [3, H, W], RGB, and its label, uint8 [H, W].

    A label is a class, 0 .. K - 1, or IGNORED for void. Indexing raises an InputError that names
    the file if a file cannot be used.

    Attributes:
        split: The name of the split, such as train.
        classes: The names of the K classes.
        palette: uint8 [K, 3], RGB, the color of each class in pictures.
        names: The names of the items: file names without folder and suffix.
        read_item: Maps an item to its image, uint8 [H, W, 3], RGB, and its label, uint8 [H, W].
        images: The files of the images; empty if images are drawn.
        labels: The files of the labels; empty if there is none for each image.
        size: Height and width, px, of a crop of the center, void beyond the image; None for the
            whole image.
        max_pixels: Files with more pixels are refused.
    """

    split: str
    classes: tuple[str, ...]
    palette: Pixels
    names: tuple[str, ...]
    read_item: Callable[[int], tuple[Pixels, Pixels]]
    images: tuple[Path, ...] = ()
    labels: tuple[Path, ...] = ()
    size: tuple[int, int] | None = None
    max_pixels: int = MAX_PIXELS

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, item: int) -> Pair:
        image, label = self.read_item(item)
        if self.size is not None:
            image = _crop_center(image, self.size, fill=0)
            label = _crop_center(label, self.size, fill=IGNORED)
        # A view, whose channels of a pixel stay together: fastest to scale.
        return torch.from_numpy(_copy_rgb(image)).permute(2, 0, 1), torch.from_numpy(label)


@dataclass(frozen=True, slots=True)
class DatasetFormat:
    """A row of DATASETS.

    Attributes:
        description: One line for --help.
        open: Maps folder, split, maximum number of items (None for all) and `max_pixels` to a
            data set.
    """

    description: str
    open: Callable[[str | Path | None, str, int | None, int], SegmentationDataset]


def open_dataset(
    name: str,
    root: str | Path | None,
    split: str,
    *,
    count: int | None = None,
    size: tuple[int, int] | None = None,
    max_pixels: int = MAX_PIXELS,
) -> SegmentationDataset:
    """Opens a split of a data set: reads its lists of files, but not the images and labels.

    Args:
        name: A key of DATASETS.
        root: The folder of the data set; None if the images are drawn.
        split: The name of the split, such as train.
        count: Maximum number of items, from the first; None for all, or of scenes for the usual
            number.
        size: See SegmentationDataset.
        max_pixels: Images and labels with more pixels are refused when they are read.

    Raises:
        InputError: If there is no such data set, folder, split or file, or a list or the
            description of the classes is malformed; names the file and the line or key.

    >>> dataset = open_dataset("shapes", None, "val", count=2, size=(96, 128))
    >>> [tuple(tensor.shape) for tensor in dataset[1]]
    [(3, 96, 128), (96, 128)]
    """
    if name not in DATASETS:
        raise InputError(f"no data set called {name!r}; there are {', '.join(DATASETS)}")
    if count is not None and count < 1:
        raise InputError(f"the number of items must be at least 1, not {count}")
    if size is not None and min(size) < 1:
        raise InputError(f"the size must be at least 1 x 1, not {size[0]} x {size[1]}")
    return replace(DATASETS[name].open(root, split, count, max_pixels), size=size)


def validate_dataset(
    dataset: SegmentationDataset,
    *,
    show_progress: bool = False,
    visit: Callable[[Tensor, Tensor], None] | None = None,
) -> NDArray[np.int64]:
    """Reads every image and label, and counts the pixels of each class.

    Args:
        dataset: The data set.
        show_progress: Whether to draw a progress bar on a terminal.
        visit: Called with the image and the label of each item.

    Returns:
        int64 [K], the number of pixels of each class.

    Raises:
        InputError: If a file is missing, broken or not opaque, an image and its label differ in
            size, a label is no class, palettes of labels contradict each other, or no pixel has a
            class; names the first such file.
    """
    counts = np.zeros(256, np.int64)
    is_default = np.array_equal(dataset.palette, create_palette(len(dataset.classes)))
    notes = DataNotes(dataset.classes, None if is_default else dataset.palette)
    items = range(len(dataset))
    for item in track_progress(
        items, f"checking {dataset.split}", total=len(dataset), show=show_progress
    ):
        if dataset.images:
            _note_image(notes, dataset.images[item], dataset.max_pixels)
        if dataset.labels:
            path = dataset.labels[item]
            notes.add_label(_decode_whole(read_bytes(path), path, dataset.max_pixels), path)
        image, label = dataset[item]
        counts += np.bincount(label.numpy().ravel(), minlength=len(counts))
        if visit is not None:
            visit(image, label)
    notes.warn(dataset.split)
    class_counts = counts[: len(dataset.classes)]
    if not class_counts.any():
        raise InputError(f"no pixel of {dataset.split} has a class: all labels are void")
    return class_counts


def _note_image(notes: DataNotes, path: Path, max_pixels: int) -> None:
    data = read_bytes(path)
    # Pillow, too: some versions of OpenCV accept truncated files.
    picture = decode_picture(data, path, max_pixels)
    bits = None
    if picture.format == "TIFF" or (picture.format == "PNG" and data[BIT_DEPTH] == 16):
        raw = _decode_raw(data, path)
        bits = find_bits(raw) if raw.dtype == np.uint16 else None
    notes.add_image(picture, read_orientation(picture, data), bits, path)


def _copy_rgb(image: Pixels) -> Pixels:
    """An image [H, W, 3] without gaps in memory."""
    if image.strides[2] > 0:
        return np.ascontiguousarray(image)
    import cv2

    # OpenCV decodes blue first: `_decode_raw` has turned the view round.
    blue_first = np.ascontiguousarray(image[:, :, ::-1])
    return np.asarray(cv2.cvtColor(blue_first, cv2.COLOR_BGR2RGB), np.uint8)


def _crop_center(pixels: Pixels, size: tuple[int, int], *, fill: int) -> Pixels:
    """The center of [H, W, ...] at `size`, filled with `fill` beyond the image."""
    result = np.full((*size, *pixels.shape[2:]), fill, np.uint8)
    inner = [min(sides) for sides in zip(size, pixels.shape, strict=False)]
    result[_center_slices(result, inner)] = pixels[_center_slices(pixels, inner)]
    return result


def _center_slices(pixels: Pixels, size: list[int]) -> tuple[slice, ...]:
    starts = [(side - part) // 2 for side, part in zip(pixels.shape, size, strict=False)]
    return tuple(slice(start, start + part) for start, part in zip(starts, size, strict=True))


def _open_shapes(
    root: str | Path | None, split: str, count: int | None, max_pixels: int
) -> SegmentationDataset:
    """Draws the scenes of data.shapes; needs neither `root` nor `max_pixels`."""
    if split not in SHAPES:
        raise _split_error(split, list(SHAPES))
    seed, usual_count = SHAPES[split]
    drawings = _draw_scenes(count or usual_count, seed)
    classes = ("background", *CLASSES)
    names = tuple(f"shape_{i:06d}" for i in range(1, len(drawings) + 1))
    palette = create_palette(len(classes))
    return SegmentationDataset(split, classes, palette, names, partial(_scene_pixels, drawings))


@lru_cache(maxsize=8)  # a comparison opens the same scenes for each of its trainings
def _draw_scenes(count: int, seed: int) -> list[Scene]:
    return scenes(count, seed, colored=True)


def _scene_pixels(drawings: list[Scene], item: int) -> tuple[Pixels, Pixels]:
    return drawings[item].image, drawings[item].mask


def _open_edges(
    root: str | Path | None, split: str, count: int | None, max_pixels: int
) -> SegmentationDataset:
    """Draws the scenes of data.edges; needs neither `root` nor `max_pixels`."""
    if split not in EDGES:
        raise _split_error(split, list(EDGES))
    seed, usual_count = EDGES[split]
    images, labels = _draw_edges(count or usual_count, seed)
    names = tuple(f"edges_{i:06d}" for i in range(1, len(images) + 1))
    palette = create_palette(len(edges.CLASSES))
    read_item = partial(_edges_pixels, images, labels)
    return SegmentationDataset(split, edges.CLASSES, palette, names, read_item)


_draw_edges = lru_cache(maxsize=8)(edges.draw_edges)  # as for shapes


def _edges_pixels(images: Pixels, labels: Pixels, item: int) -> tuple[Pixels, Pixels]:
    return images[item], labels[item]


@dataclass(frozen=True, slots=True)
class _Layout:
    """The places of a data set's files, below the first of `roots` that has the lists."""

    lists: str = "{split}.txt"
    images: str = "images"
    labels: str = "labels"
    roots: tuple[str, ...] = ("",)
    description: ClassDescription | None = None  # None: DESCRIPTION beside the lists


def _open_files(
    layout: _Layout, root: str | Path | None, split: str, count: int | None, max_pixels: int
) -> SegmentationDataset:
    if root is None:
        raise InputError(
            "root: expected the folder of the data set; only shapes and edges need none"
        )
    folder = _find_root(layout, require_path(Path(root)))
    description = layout.description or read_description(folder / DESCRIPTION)
    names = tuple(_read_list(layout, folder, split)[:count])
    images = _find_files(folder / layout.images.format(split=split), names, IMAGES)
    labels = _find_files(folder / layout.labels.format(split=split), names, LABELS)
    palette = description.palette_rgb or create_palette(len(description.classes))
    return SegmentationDataset(
        split=split,
        classes=description.classes,
        palette=np.array(palette[: len(description.classes)], np.uint8),
        names=names,
        read_item=partial(_read_item, images, labels, description, max_pixels),
        images=images,
        labels=labels,
        max_pixels=max_pixels,
    )


def _open_folder(
    root: str | Path | None, split: str, count: int | None, max_pixels: int
) -> SegmentationDataset:
    """Opens a folder as annotation tools write it, or of the documented layout."""
    from upmap.segmentation.folders.folder_dataset import open_folder  # it imports this module

    dataset = None
    if root is not None and Path(root).is_dir():
        dataset = open_folder(Path(root), split, count, max_pixels)
    return dataset or _open_files(_Layout(), root, split, count, max_pixels)


def _find_root(layout: _Layout, root: Path) -> Path:
    if not root.is_dir():
        raise InputError("not a folder", root)
    lists = PurePath(layout.lists).parent
    for part in layout.roots:
        if (root / part / lists).is_dir():
            return root / part
    raise InputError(f"no folder {lists} in it", root)


def _read_list(layout: _Layout, folder: Path, split: str) -> list[str]:
    path = folder / layout.lists.format(split=split)
    if not is_file(path):
        candidates = sorted(folder.glob(layout.lists.format(split="*")))
        splits = [file.stem for file in candidates if _is_list(layout, folder, file)]
        raise _split_error(split, splits, folder)
    try:
        return read_image_list(path)
    except InputError as error:
        lines = read_text(path).splitlines()
        if all(len(line.split()) < 2 for line in lines) or "duplicate" not in str(error):
            raise
        raise InputError(f"{error}; only the first word of a line is read: {BLANKS}") from None


def _is_list(layout: _Layout, folder: Path, path: Path) -> bool:
    """Whether a text file lists images; others, such as notes, may lie beside it."""
    try:
        first = read_image_list(path)[0]
    except InputError:
        return False
    images = folder / layout.images.format(split=path.stem)
    return any(images.glob(f"{escape(first)}.*"))


def _split_error(split: str, splits: list[str], folder: Path | None = None) -> InputError:
    there_are = f"there are {', '.join(splits)}" if splits else "there are none"
    return InputError(f"no split called {split!r}; {there_are}", folder)


def _find_files(
    folder: Path, names: tuple[str, ...], suffixes: tuple[str, ...]
) -> tuple[Path, ...]:
    """The file of each name, with any of `suffixes`."""
    files: defaultdict[str, list[Path]] = defaultdict(list)
    unread: dict[str, Path] = {}
    for path in list_folder(folder):
        if path.suffix.lower() in suffixes:
            files[path.stem].append(path)
        else:
            unread[path.stem] = path
    for name in names:
        if not files[name]:
            others = "".join(f", nor {suffix}" for suffix in suffixes[1:])
            reason = _explain_missing(name, files, unread, suffixes)
            path = folder / f"{name}{suffixes[0]}"
            raise InputError(f"no such file{others}, but it is listed{reason}", path)
        if len(files[name]) > 1:
            both = " and ".join(path.name for path in files[name][:2])
            raise InputError(f"{both} have the same name; keep one", folder)
    return tuple(files[name][0] for name in names)


def _explain_missing(
    name: str,
    files: Mapping[str, list[Path]],
    unread: Mapping[str, Path],
    suffixes: tuple[str, ...],
) -> str:
    """Why there is no file of a listed name, if that can be seen: the end of a message."""
    stem, ending = PurePath(name).stem, PurePath(name).suffix
    if ending.lower() in IMAGES and (files.get(stem) or stem in unread):
        return f": lists have names without endings, {stem} instead of {name}"
    if with_blank := [stem for stem in (*files, *unread) if stem.startswith(f"{name} ")]:
        return f"; there is {with_blank[0]!r}: {BLANKS}"
    if name in unread:
        readable = " or ".join(suffixes)
        return f"; there is {unread[name].name}, which is not read: convert it to {readable}"
    near = get_close_matches(name, [stem for stem, paths in files.items() if paths], n=1)
    return f"; there is {files[near[0]][0].name}" if near else ""


def _read_item(
    images: tuple[Path, ...],
    labels: tuple[Path, ...],
    description: ClassDescription,
    max_pixels: int,
    item: int,
) -> tuple[Pixels, Pixels]:
    image, ids = read_image(images[item], max_pixels), read_label_ids(labels[item], max_pixels)
    if image.shape[:2] != ids.shape:
        sizes = [f"{pixels.shape[1]} x {pixels.shape[0]} px" for pixels in (ids, image)]
        message = f"the label has {sizes[0]}, its image {images[item].name} has {sizes[1]}"
        if image.shape[1::-1] == ids.shape:
            message += _describe_turn(images[item], max_pixels)
        raise InputError(message, labels[item])
    label = look_up(ids, _label_table(description))
    if (unknown := label == UNKNOWN).any():
        count, void = len(description.classes), description.ignore_index_in_files
        or_void = f" or void ({void})" if void is not None else ", and there is no void"
        message = f"label {ids[unknown].min()} is not one of {count} classes (0 .. {count - 1})"
        remedy = "convert the labels to class ids"
        if ids[unknown].max() == ids[unknown].min() == 255 and void is None:
            remedy = (
                "if 255 is void, name it as ignore_index_in_files in classes.json; in masks of 0 "
                "and 255, convert 255 to 1"
            )
        raise InputError(f"{message}{or_void}; {remedy}", labels[item])
    return image, label


def read_image(path: Path, max_pixels: int = MAX_PIXELS) -> Pixels:
    """The pixels of an image file, uint8 [H, W, 3], RGB, turned as its EXIF data says.

    Values of 16 bits are scaled by the bits that they use, see `scale_to_bytes`.

    Args:
        path: The file.
        max_pixels: An image with more pixels is refused; at most LARGEST_IMAGE.

    Raises:
        InputError: If it cannot be read, is of another format, too large, or not opaque.
    """
    return decode_image(read_bytes(path), path, max_pixels)


def decode_image(data: bytes, path: Path, max_pixels: int = MAX_PIXELS) -> Pixels:
    """The pixels of the bytes of an image file; see `read_image`.

    Args:
        data: The bytes of the file.
        path: The file, for errors.
        max_pixels: An image with more pixels is refused; at most LARGEST_IMAGE.

    Raises:
        InputError: See `read_image`.
    """
    picture = _read_header(data, path, max_pixels)  # OpenCV would decode other formats, too
    try:
        refuse_lossy(picture, path)
    except InputError:
        raise
    except Exception as error:  # a broken file; decoders raise almost anything
        raise InputError(f"cannot be decoded: {_one_line(error)}", path) from None
    pixels = scale_to_bytes(_decode_raw(data, path))
    return np.asarray(orient_pixels(pixels, read_orientation(picture, data)), np.uint8)


def _decode_raw(data: bytes, path: Path) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """The pixels of an image as they are stored, uint8 or uint16 [H, W, 3], RGB."""
    import cv2

    # The orientation is applied later, by one rule for all formats and versions of OpenCV.
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH | cv2.IMREAD_IGNORE_ORIENTATION
    decoded: Any  # OpenCV's type has all of numpy's numbers
    try:
        decoded = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error:
        decoded = None
    if decoded is None:
        raise InputError("cannot be decoded as an image", path)
    rgb: NDArray[np.uint8] | NDArray[np.uint16] = decoded[:, :, ::-1]
    return rgb


def _describe_turn(path: Path, max_pixels: int) -> str:
    """Says that an image is turned by its EXIF data, if it is: then its label may not be."""
    data = read_bytes(path)
    orientation = read_orientation(decode_picture(data, path, max_pixels), data)
    if orientation == 1:
        return "; turn one of them"
    return (
        f" once it is turned by {orientation=} of its EXIF data; draw labels on the turned image, "
        "or save the image without that, as by `exiftool -Orientation= FILE`"
    )


def read_label_ids(path: Path, max_pixels: int = MAX_PIXELS) -> Pixels:
    """The class ids of a label file, uint8 [H, W].

    Not by OpenCV, which converts the indices of a palette to colors.

    Args:
        path: A PNG file of a palette's indices, or of 8-bit gray.
        max_pixels: A file with more pixels is refused.

    Raises:
        InputError: If it cannot be read, or is of another kind.
    """
    data = read_bytes(path)
    picture = decode_label(data, path, max_pixels)
    if picture.format != "PNG":
        raise InputError(f"expected a PNG file of class ids, got {picture.format}", path)
    if picture.mode not in ("1", "L", "P"):
        kind = "16-bit" if picture.mode.startswith("I") else picture.mode
        message = f"expected class ids (a palette or 8-bit gray), got {kind} pixels; convert it"
        raise InputError(message, path)
    ids = orient_pixels(np.asarray(picture).astype(np.uint8), read_orientation(picture, data))
    step = GRAY_STEPS.get(data[BIT_DEPTH], 1) if picture.mode == "L" else 1
    return np.asarray(ids if step == 1 else ids // step, np.uint8)


def decode_label(data: bytes, path: Path, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Decodes the bytes of a label with Pillow, to the last of them; it is not turned.

    Transparency is not refused: it says nothing of class ids.

    Args:
        data: The bytes of the file.
        path: The file, for errors.
        max_pixels: A label with more pixels is refused before it is decoded.

    Raises:
        InputError: If it is broken, truncated, of another format than images, too large, or has
            several frames; names `path`.
    """
    picture = _decode_whole(data, path, max_pixels)
    if getattr(picture, "n_frames", 1) > 1:
        raise InputError("several frames; save the one with the class ids alone", path)
    return picture


def decode_picture(data: bytes, path: Path, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Decodes the bytes of an image with Pillow, to the last of them.

    Args:
        data: The bytes of the file.
        path: The file, for errors.
        max_pixels: A picture with more pixels is refused before it is decoded.

    Raises:
        InputError: If it is broken, truncated, of another format, too large, not opaque, or has
            several frames; names `path`.
    """
    picture = _decode_whole(data, path, max_pixels)
    refuse_lossy(picture, path)
    return picture


def _decode_whole(data: bytes, path: Path, max_pixels: int) -> Image.Image:
    """The picture in a file, which may be a label's: transparency says nothing of class ids."""
    try:
        _read_header(data, path, max_pixels).verify()  # checksums, to the end of the file
        picture = _read_header(data, path, max_pixels)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            picture.load()
    except InputError:
        raise
    except Exception as error:  # decoders raise almost anything at broken bytes
        raise InputError(f"cannot be decoded: {_one_line(error)}", path) from None
    return picture


def _read_header(data: bytes, path: Path, max_pixels: int) -> ImageFile.ImageFile:
    """A picture of which only the header is read.

    The reader of the format is called directly: Image.open tries all of Pillow's readers, and the
    one for PostScript starts Ghostscript.
    """
    reader = next((reader for start, reader in FORMATS.items() if data.startswith(start)), None)
    if reader is None:
        kinds = "PNG, JPEG, TIFF, BMP or WebP"
        raise InputError(f"not a {kinds} image: {_guess_format(data)}", path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            picture = reader(BytesIO(data))
            refuse_kinds(picture, path)
    except InputError:
        raise
    except Exception as error:  # as above
        raise InputError(f"cannot be decoded: {_one_line(error)}", path) from None
    width, height = picture.size
    if width * height > max_pixels:
        message = f"{width} x {height} px are more than {max_pixels} pixels (--max-pixels)"
        raise ImageTooLargeError(message, path)
    return picture


def _guess_format(data: bytes) -> str:
    """Says which format a file has, by its first bytes."""
    if not data:
        return "it is empty"
    for start, name in FOREIGN:
        if re.match(start, data, re.DOTALL):
            return f"it looks like {name}"
    return "it is of no format that is known"


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _label_table(description: ClassDescription) -> Pixels:
    """The label for each id in a file, uint8 [256]: a class, IGNORED or UNKNOWN."""
    table = np.full(256, UNKNOWN, np.uint8)
    table[: len(description.classes)] = np.arange(len(description.classes))
    if description.ignore_index_in_files is not None:
        table[description.ignore_index_in_files] = IGNORED
    return table


DATASETS = {
    "shapes": DatasetFormat("drawn scenes of colored shapes, which need no files", _open_shapes),
    "edges": DatasetFormat("drawn polygons and strokes, which need no files", _open_edges),
    "camvid": DatasetFormat(
        "CamVid in SegNet's split: <split>.txt, <split>/images, <split>/labels, classes.json",
        partial(_open_files, _Layout(images="{split}/images", labels="{split}/labels")),
    ),
    "voc2012": DatasetFormat(
        "VOCdevkit/VOC2012: ImageSets/Segmentation, JPEGImages, SegmentationClass",
        partial(
            _open_files,
            _Layout(
                lists="ImageSets/Segmentation/{split}.txt",
                images="JPEGImages",
                labels="SegmentationClass",
                roots=("", "VOC2012", "VOCdevkit/VOC2012"),
                description=ClassDescription(("background", *VOC_CLASSES), IGNORED),
            ),
        ),
    ),
    "folder": DatasetFormat(
        "your own: images, labels, classes.json, <split>.txt, or as annotation tools write it",
        _open_folder,
    ),
}
