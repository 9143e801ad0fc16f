"""The data sets of semantic segmentation: images, and the class of each of their pixels.

Labels are PNG files of class ids, as in the VOC2012 development kit, whose colors
(VOClabelcolormap.m) also stand for classes that have none of their own.
"""

import re
import warnings
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from glob import escape
from io import BytesIO
from pathlib import Path, PurePath
from typing import Annotated

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from torch import Tensor
from torch.utils.data import Dataset

from upmap.data.shapes import CLASSES, Scene, scenes
from upmap.detection.formats.image_sets import read_image_list
from upmap.errors import InputError
from upmap.files import (
    is_file,
    read_bytes,
    read_text,
    require_path,
)
from upmap.progress import track_progress
from upmap.segmentation.losses import IGNORED

__all__ = [
    "DATASETS",
    "IGNORED",
    "IMAGES",
    "LARGEST_IMAGE",
    "MAX_PIXELS",
    "Segmentation",
    "Source",
    "image_pixels",
    "open_dataset",
    "validate_dataset",
    "whole_picture",
]

IMAGES, LABELS = (".jpg", ".jpeg", ".png"), (".png",)  # endings, in either case
MAX_PIXELS = 89_478_485  # of an image, unless another number is asked for; 256 MB of RGB
LARGEST_IMAGE = 2**30  # pixels; OpenCV decodes no more
DESCRIPTION = "classes.json"
UNKNOWN = 254  # what an id that is neither a class nor void is read as
GRAY_STEPS = {2: 85, 4: 17}  # bits of a gray pixel to the factor that makes 255 of the largest
SHAPES = {"train": (0, 200), "val": (1, 40), "test": (2, 40)}  # the seed, and how many scenes
VOC_CLASSES = (  # VOC2012 development kit, VOCinit.m, after the background
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa"),
    *("train", "tvmonitor"),
)

FORMATS: dict[bytes, Callable[[BytesIO], ImageFile.ImageFile]] = {  # by how a file begins
    b"\x89PNG\r\n\x1a\n": PngImageFile,
    b"\xff\xd8\xff": JpegImageFile,
}
FOREIGN = (  # how files of other formats begin, so that an error can name them
    (rb"II\*\0|MM\0\*|II\+\0|MM\0\+", "TIFF"),
    (rb"\0\0\0\x0cjP  |\xff\x4f\xff\x51", "JPEG 2000"),
    (rb"%!|\xc5\xd0\xd3\xc6", "PostScript"),
    (rb"%PDF", "PDF"),
    (rb"RIFF....WEBP", "WebP"),
    (rb"GIF8", "GIF"),
    (rb"BM", "BMP"),
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
Byte = Annotated[int, msgspec.Meta(ge=0, le=255)]
ClassName = Annotated[str, msgspec.Meta(min_length=1)]


@dataclass(frozen=True, eq=False)
class Segmentation(Dataset[Pair]):
    """Item i is an image, uint8 [3, H, W], RGB, and its label, uint8 [H, W].

    A label is a class, 0 .. K - 1, or IGNORED for void. Reading an item raises InputError where a
    file is bad; names it.

    Attributes:
        split: Which part of the data set.
        classes: The names of the K classes.
        palette: uint8 [K, 3], RGB, the color that each is drawn in.
        names: Of the items; the file names without folder and ending.
        pixels: Of an item: the image, uint8 [H, W, 3], RGB, and the label, uint8 [H, W].
        images: The files of the images; empty for images that are drawn.
        size: Height and width, px, of the middle that is given, void beyond the image; None for
            the whole image.
        max_pixels: Files of more pixels are refused.
    """

    split: str
    classes: tuple[str, ...]
    palette: Pixels
    names: tuple[str, ...]
    pixels: Callable[[int], tuple[Pixels, Pixels]]
    images: tuple[Path, ...] = ()
    size: tuple[int, int] | None = None
    max_pixels: int = MAX_PIXELS

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, item: int) -> Pair:
        image, label = self.pixels(item)
        if self.size is not None:
            image, label = _middle(image, self.size, 0), _middle(label, self.size, IGNORED)
        channels_first = np.ascontiguousarray(image.transpose(2, 0, 1))
        return torch.from_numpy(channels_first), torch.from_numpy(label)


@dataclass(frozen=True, slots=True)
class Source:
    """How one data set is opened.

    Attributes:
        description: One line for --help.
        open: (folder, split, at most so many items, of at most so many pixels) to data set.
    """

    description: str
    open: Callable[[str | Path | None, str, int | None, int], Segmentation]


def open_dataset(
    name: str,
    root: str | Path | None,
    split: str,
    *,
    count: int | None = None,
    size: tuple[int, int] | None = None,
    max_pixels: int = MAX_PIXELS,
) -> Segmentation:
    """A split of a data set; the lists of files are read, the files themselves are not.

    Args:
        name: A key of DATASETS.
        root: The folder of the data set; None where the images are drawn.
        split: Its part, such as train.
        count: At most the first so many items; None for all, or as many scenes as are usual.
        size: See Segmentation.
        max_pixels: Images and labels of more pixels are refused when they are read.

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


def validate_dataset(dataset: Segmentation, *, show_progress: bool = False) -> NDArray[np.int64]:
    """The pixels of each class, int64 [K], after a walk over all items that refuses bad files.

    Args:
        dataset: What to look through.
        show_progress: Whether to draw a progress bar on a terminal.

    Raises:
        InputError: If a file is missing or broken, an image and its label differ in size, a label
            is no class, or no pixel has a class; names the first such file.
    """
    counts = np.zeros(256, np.int64)
    items = range(len(dataset))
    for item in track_progress(
        items, f"checking {dataset.split}", total=len(dataset), show=show_progress
    ):
        if dataset.images:  # some versions of OpenCV pass over what is truncated
            path = dataset.images[item]
            whole_picture(read_bytes(path), path, dataset.max_pixels)
        label = dataset[item][1].numpy()
        counts += np.bincount(label.ravel(), minlength=len(counts))
    found = counts[: len(dataset.classes)]
    if not found.any():
        raise InputError(f"no pixel of {dataset.split} has a class: all labels are void")
    return found


def _middle(pixels: Pixels, size: tuple[int, int], fill: int) -> Pixels:
    """The middle of [H, W, ...], at another size; `fill` where that is the larger."""
    result = np.full((*size, *pixels.shape[2:]), fill, np.uint8)
    inner = [min(sides) for sides in zip(size, pixels.shape, strict=False)]
    result[_central(result, inner)] = pixels[_central(pixels, inner)]
    return result


def _central(pixels: Pixels, size: list[int]) -> tuple[slice, ...]:
    starts = [(have - want) // 2 for have, want in zip(pixels.shape, size, strict=False)]
    return tuple(slice(start, start + want) for start, want in zip(starts, size, strict=True))


def _draw(root: str | Path | None, split: str, count: int | None, max_pixels: int) -> Segmentation:
    """The scenes of data.shapes; `root` and `max_pixels` are of no use."""
    if split not in SHAPES:
        raise _unknown_split(split, list(SHAPES))
    seed, usual = SHAPES[split]
    made = _scenes(count or usual, seed)
    classes = ("background", *CLASSES)
    names = tuple(f"shape_{i:06d}" for i in range(1, len(made) + 1))
    return Segmentation(split, classes, _colors(len(classes)), names, partial(_scene, made))


@lru_cache(maxsize=8)  # a comparison opens the same scenes for each of its trainings
def _scenes(count: int, seed: int) -> list[Scene]:
    return scenes(count, seed, colored=True)


def _scene(made: list[Scene], item: int) -> tuple[Pixels, Pixels]:
    return made[item].image, made[item].mask


@dataclass(frozen=True, slots=True)
class _Description:
    """The classes of a data set: what classes.json holds."""

    classes: Annotated[tuple[ClassName, ...], msgspec.Meta(min_length=1, max_length=UNKNOWN)]
    ignore_index_in_files: Byte | None = None
    palette_rgb: tuple[tuple[Byte, Byte, Byte], ...] | None = None


@dataclass(frozen=True, slots=True)
class _Layout:
    """Where the files of a data set lie, under the first of `roots` that has the lists."""

    lists: str = "{split}.txt"
    images: str = "images"
    labels: str = "labels"
    roots: tuple[str, ...] = ("",)
    description: _Description | None = None  # None: DESCRIPTION beside the lists


def _from_files(
    layout: _Layout, root: str | Path | None, split: str, count: int | None, max_pixels: int
) -> Segmentation:
    if root is None:
        raise InputError("root: expected the folder of the data set; only shapes needs none")
    folder = _base(layout, require_path(Path(root)))
    description = layout.description or _description(folder / DESCRIPTION)
    names = tuple(_read_list(layout, folder, split)[:count])
    images = _paths(folder / layout.images.format(split=split), names, IMAGES)
    labels = _paths(folder / layout.labels.format(split=split), names, LABELS)
    palette = description.palette_rgb or _colors(len(description.classes))
    return Segmentation(
        split=split,
        classes=description.classes,
        palette=np.array(palette[: len(description.classes)], np.uint8),
        names=names,
        pixels=partial(_read, images, labels, description, max_pixels),
        images=images,
        max_pixels=max_pixels,
    )


def _base(layout: _Layout, root: Path) -> Path:
    if not root.is_dir():
        raise InputError("not a folder", root)
    lists = PurePath(layout.lists).parent
    for part in layout.roots:
        if (root / part / lists).is_dir():
            return root / part
    raise InputError(f"no folder {lists} in it", root)


def _description(path: Path) -> _Description:
    try:
        found = msgspec.json.decode(read_text(path), type=_Description)
    except msgspec.ValidationError as error:
        message, _, place = str(error).partition(" - at ")
        raise InputError(message, path, place.strip("`$.") or None) from None
    except (msgspec.DecodeError, RecursionError) as error:
        raise InputError(f"malformed JSON: {error}", path) from None
    _refuse_contradictions(found, path)
    return found


def _refuse_contradictions(found: _Description, path: Path) -> None:
    count, void, palette = len(found.classes), found.ignore_index_in_files, found.palette_rgb
    if repeated := [name for name in found.classes if found.classes.count(name) > 1]:
        raise InputError(f"duplicate class {repeated[0]}", path, "classes")
    if void is not None and void < count:
        message = f"{void} is the class {found.classes[void]}, so it cannot be void"
        raise InputError(message, path, "ignore_index_in_files")
    if palette is not None and len(palette) not in (count, count + 1):
        message = f"{len(palette)} colors for {count} classes"
        raise InputError(f"{message}; void may have one more", path, "palette_rgb")


def _read_list(layout: _Layout, folder: Path, split: str) -> list[str]:
    path = folder / layout.lists.format(split=split)
    if not is_file(path):
        found = sorted(folder.glob(layout.lists.format(split="*")))
        known = [file.stem for file in found if _is_list(layout, folder, file)]
        raise _unknown_split(split, known, folder)
    return read_image_list(path)


def _is_list(layout: _Layout, folder: Path, path: Path) -> bool:
    """Whether a text file lists images; others, such as notes, may lie beside it."""
    try:
        first = read_image_list(path)[0]
    except InputError:
        return False
    images = folder / layout.images.format(split=path.stem)
    return any(images.glob(f"{escape(first)}.*"))


def _unknown_split(split: str, known: list[str], folder: Path | None = None) -> InputError:
    there_are = f"there are {', '.join(known)}" if known else "there are none"
    return InputError(f"no split called {split!r}; {there_are}", folder)


def _paths(folder: Path, names: tuple[str, ...], endings: tuple[str, ...]) -> tuple[Path, ...]:
    """The file of each name, with any of `endings`."""
    found: defaultdict[str, list[Path]] = defaultdict(list)
    try:
        for path in sorted(folder.iterdir()):
            if path.suffix.lower() in endings:
                found[path.stem].append(path)
    except OSError as error:
        raise InputError((error.strerror or str(error)).lower(), folder) from None
    for name in names:
        if not found[name]:
            others = "".join(f", nor {ending}" for ending in endings[1:])
            path = folder / f"{name}{endings[0]}"
            raise InputError(f"no such file{others}, but it is listed", path)
        if len(found[name]) > 1:
            both = " and ".join(path.name for path in found[name][:2])
            raise InputError(f"{both} have the same name; keep one", folder)
    return tuple(found[name][0] for name in names)


def _read(
    images: tuple[Path, ...],
    labels: tuple[Path, ...],
    description: _Description,
    max_pixels: int,
    item: int,
) -> tuple[Pixels, Pixels]:
    image, ids = image_pixels(images[item], max_pixels), _ids(labels[item], max_pixels)
    if image.shape[:2] != ids.shape:
        sizes = [f"{pixels.shape[1]} x {pixels.shape[0]} px" for pixels in (ids, image)]
        message = f"the label has {sizes[0]}, its image {images[item].name} has {sizes[1]}"
        raise InputError(message, labels[item])
    label = _remapping(description)[ids]
    if (unknown := label == UNKNOWN).any():
        count, void = len(description.classes), description.ignore_index_in_files
        or_void = f" or void ({void})" if void is not None else ", and there is no void"
        message = f"label {ids[unknown].min()} is not one of {count} classes (0 .. {count - 1})"
        raise InputError(message + or_void, labels[item])
    return image, label


def image_pixels(path: Path, max_pixels: int = MAX_PIXELS) -> Pixels:
    """The pixels of a PNG or JPEG file, uint8 [H, W, 3], RGB, turned as its EXIF data says.

    Args:
        path: The file.
        max_pixels: An image of more pixels is refused; at most LARGEST_IMAGE.

    Raises:
        InputError: If it cannot be read, is of another format, or is too large.
    """
    import cv2

    data = read_bytes(path)
    _header(data, path, max_pixels)  # OpenCV goes by the content, and knows many formats
    try:
        decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error:  # whatever is wrong with it
        decoded = None
    if decoded is None:
        raise InputError("cannot be decoded as an image", path)
    return np.asarray(decoded, np.uint8)[:, :, ::-1]


def _ids(path: Path, max_pixels: int = MAX_PIXELS) -> Pixels:
    """The class ids of a label file, uint8 [H, W].

    OpenCV is not asked: it makes colors of a palette's indices.
    """
    data = read_bytes(path)
    picture = whole_picture(data, path, max_pixels)
    if picture.format != "PNG":
        raise InputError(f"expected a PNG file of class ids, got {picture.format}", path)
    if picture.mode not in ("1", "L", "P"):
        kind = "16-bit" if picture.mode.startswith("I") else picture.mode
        found = f"expected class ids (a palette or 8-bit gray), got {kind} pixels"
        raise InputError(found, path)
    ids = np.asarray(picture).astype(np.uint8)
    bits = data[24]  # PNG specification: in the header, after width and height
    return ids // GRAY_STEPS.get(bits, 1) if picture.mode == "L" else ids


def whole_picture(data: bytes, path: Path, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """The picture in the bytes of a PNG or JPEG file, all of it decoded.

    Args:
        data: The bytes.
        path: The file, for errors.
        max_pixels: A picture of more pixels is refused before it is decoded.

    Raises:
        InputError: If it is broken, truncated, of another format, or too large; names `path`.
    """
    try:
        _header(data, path, max_pixels).verify()  # checksums, to the end of the file
        picture = _header(data, path, max_pixels)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            picture.load()
    except InputError:
        raise
    except Exception as error:  # decoders raise almost anything at broken bytes
        raise InputError(f"cannot be decoded: {_line(error)}", path) from None
    return picture


def _header(data: bytes, path: Path, max_pixels: int) -> ImageFile.ImageFile:
    """A picture of which only the header was read.

    The format's own reader is called, because Image.open tries all: its one for PostScript starts
    Ghostscript.
    """
    reader = next((one for start, one in FORMATS.items() if data.startswith(start)), None)
    if reader is None:
        raise InputError(f"not a PNG or JPEG image: {_looks_like(data)}", path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            picture = reader(BytesIO(data))
    except Exception as error:  # as above
        raise InputError(f"cannot be decoded: {_line(error)}", path) from None
    width, height = picture.size
    if width * height > max_pixels:
        message = f"{width} x {height} px are more than {max_pixels} pixels (--max_pixels)"
        raise InputError(message, path)
    return picture


def _looks_like(data: bytes) -> str:
    """What a file is by its first bytes, as far as that is known."""
    if not data:
        return "it is empty"
    for start, name in FOREIGN:
        if re.match(start, data, re.DOTALL):
            return f"it looks like {name}"
    return "it is of no format that is known"


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _remapping(description: _Description) -> Pixels:
    """What each id of a file is read as, uint8 [256]."""
    table = np.full(256, UNKNOWN, np.uint8)
    table[: len(description.classes)] = np.arange(len(description.classes))
    if description.ignore_index_in_files is not None:
        table[description.ignore_index_in_files] = IGNORED
    return table


def _colors(count: int) -> Pixels:
    """Distinct colors, uint8 [count, 3], RGB, as VOClabelcolormap.m makes them."""
    bits = np.arange(count)[:, None] >> np.arange(24) & 1  # bit 3 j + c sets bit 7 - j of color c
    return np.packbits(bits.reshape(count, 8, 3).astype(np.uint8), axis=1)[:, 0]


DATASETS = {
    "shapes": Source("drawn scenes of colored shapes, which need no files", _draw),
    "camvid": Source(
        "CamVid in SegNet's split: <split>.txt, <split>/images, <split>/labels, classes.json",
        partial(_from_files, _Layout(images="{split}/images", labels="{split}/labels")),
    ),
    "voc2012": Source(
        "VOCdevkit/VOC2012: ImageSets/Segmentation, JPEGImages, SegmentationClass",
        partial(
            _from_files,
            _Layout(
                lists="ImageSets/Segmentation/{split}.txt",
                images="JPEGImages",
                labels="SegmentationClass",
                roots=("", "VOC2012", "VOCdevkit/VOC2012"),
                description=_Description(("background", *VOC_CLASSES), IGNORED),
            ),
        ),
    ),
    "folder": Source(
        "your own: <split>.txt, images, labels, classes.json", partial(_from_files, _Layout())
    ),
}
