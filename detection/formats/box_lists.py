"""Boxes of nested files (annotation tools' JSON and XML): lists that are filled, then tables."""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from upmap.detection.boxes import box_area
from upmap.detection.formats.checks import check_images, check_sides, note
from upmap.detection.formats.read_options import ReadOptions
from upmap.detection.ids import find_images
from upmap.detection.inputs import Input
from upmap.detection.tables import (
    Catalog,
    Detections,
    GroundTruth,
    ImageId,
    class_order,
    is_bounded,
    sort_ids,
)
from upmap.errors import InputError, abbreviate_list
from upmap.files import BOM, is_file, read_bytes
from upmap.kernels.columns import LARGEST_IMAGE

__all__ = [
    "BoxLists",
    "Corners",
    "decode_json",
    "hull_of_points",
    "hull_of_rotation",
    "image_names_of_files",
    "make_detections",
    "make_ground_truth",
    "note_shapes",
    "read_beginning",
]

Corners = tuple[float, float, float, float]  # xyxy, px
PEEKED_BYTES = 2**14  # of a file, to recognize its format


@dataclass(slots=True)
class BoxLists:
    """Images and boxes in the order of a file; one element of each list a row.

    Attributes:
        images: Names or numbers of the images.
        file_names: The images' files as the source has them; empty if it has none.
        sizes: Width and height of each image, px; 0 where unknown.
        image: The place of each box's image.
        label: The class name of each box.
        box: Its corners.
        score: Its score, in detections.
        where: Its place in the file, for messages.
        left_out: How many shapes of each kind are no boxes.
    """

    images: list[ImageId] = field(default_factory=list)
    file_names: list[str] = field(default_factory=list)
    sizes: list[tuple[float, float]] = field(default_factory=list)
    image: list[int] = field(default_factory=list)
    label: list[str] = field(default_factory=list)
    box: list[Corners] = field(default_factory=list)
    score: list[float] = field(default_factory=list)
    where: list[str] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)

    def add_box(self, image: int, label: str, box: Corners, where: str) -> None:
        """Adds a box on the image at a place of `images`."""
        self.image.append(image)
        self.label.append(label)
        self.box.append(box)
        self.where.append(where)


def make_ground_truth(lists: BoxLists, path: Path, classes: Iterable[str] = ()) -> GroundTruth:
    """The table of annotated boxes.

    Args:
        lists: The images and boxes.
        path: The file or folder, for messages.
        classes: Classes that the source lists, beside those of the boxes.

    Raises:
        InputError: If an image occurs twice, or numbers are not finite or too large.
    """
    catalog, places = _catalog(lists, path, {*classes, *lists.label})
    box = _boxes(lists, path)
    size = box[:, 2:] - box[:, :2]
    label = _label_places(lists.label, catalog.classes)
    check_sides(size, path)
    image = places[np.array(lists.image, np.int64)]
    # By image, and within it in the order of the file.
    order = np.argsort(image, kind="stable")
    return GroundTruth(
        image=image[order],
        label=label[order],
        box=box[order],
        size=size[order],
        area=box_area(size)[order],
        difficult=np.zeros(len(order), bool),
        crowd=np.zeros(len(order), bool),
        annotation_id=np.arange(1, len(order) + 1),
        catalog=catalog,
        pixels="continuous",
    )


def make_detections(
    lists: BoxLists, catalog: Catalog, options: ReadOptions, path: Path
) -> Detections:
    """The table of detected boxes, on the images of `catalog`.

    Boxes on images that are not in the catalog are left out and noted.

    Raises:
        InputError: If no image is in the catalog, or numbers are not finite.
    """
    box, score = _boxes(lists, path), np.array(lists.score, np.float64)
    if not np.isfinite(score).all():
        where = lists.where[int(np.argmax(~np.isfinite(score)))]
        raise InputError("the score is not finite", path, where)
    names = [str(name) for name in lists.images]
    places = find_images(names, catalog, image_key=options.image_key, usual=None, path=path)
    image = places[np.array(lists.image, np.int64)]
    if unknown := sorted({str(lists.images[lists.image[i]]) for i in np.flatnonzero(image < 0)}):
        check_images(image, [repr(name) for name in unknown], catalog, path)
    classes = (*catalog.classes, *sorted({*lists.label} - {*catalog.classes}))
    if classes != catalog.classes:
        catalog = Catalog(
            catalog.images, classes, file_names=catalog.file_names, sizes=catalog.sizes
        )
    label = _label_places(lists.label, classes)
    keep = image >= 0
    return Detections(
        image=image[keep],
        label=label[keep],
        box=box[keep],
        size=(box[:, 2:] - box[:, :2])[keep],
        score=score[keep],
        row=np.flatnonzero(keep),
        catalog=catalog,
        pixels="continuous",
    )


def note_shapes(lists: BoxLists, path: Path, option: str) -> None:
    """Notes the shapes that are left out as they are no boxes.

    Args:
        lists: With `left_out`.
        path: The file or folder.
        option: What reads them, such as "--task segment reads their hulls".

    Raises:
        InputError: If there are such shapes and no boxes.
    """
    if not lists.left_out:
        return
    kinds = abbreviate_list([f"{n} {kind}" for kind, n in sorted(lists.left_out.items())])
    message = f"shapes that are no boxes: {kinds}; {option}"
    if not lists.box:
        raise InputError(f"there are no boxes, but {message}", path)
    examples = sorted(lists.left_out)[:5]
    note("shape-left-out", lists.left_out.total(), path, f"left out: {message}", examples)


def hull_of_points(points: Sequence[Sequence[float]]) -> Corners:
    """The corners of the box around points x, y; at least one."""
    xs, ys = [point[0] for point in points], [point[1] for point in points]
    return min(xs), min(ys), max(xs), max(ys)


def hull_of_rotation(box: Corners, degrees: float, center: tuple[float, float]) -> Corners:
    """The corners of the box around a box that is rotated, clockwise on the screen.

    >>> [round(x) for x in hull_of_rotation((0, 0, 10, 20), 90, (5, 10))]
    [-5, 5, 15, 15]
    """
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    left, top, right, bottom = box
    offsets = [(x - center[0], y - center[1]) for x in (left, right) for y in (top, bottom)]
    return hull_of_points(
        [(center[0] + x * cos - y * sin, center[1] + x * sin + y * cos) for x, y in offsets]
    )


def image_names_of_files(files: Sequence[str]) -> list[str]:
    """The names of images: their files' without ending, and without folders if these differ.

    >>> image_names_of_files(["a/1.jpg", "b/2.jpg"]), image_names_of_files(["a/1.jpg", "b/1.jpg"])
    (['1', '2'], ['a/1', 'b/1'])
    """
    paths = [PurePosixPath(file.replace("\\", "/")) for file in files]
    names = [path.stem for path in paths]
    if len(set(names)) == len(names):
        return names
    return [str(path.with_suffix("")) if path.name else str(path) for path in paths]


def read_beginning(source: Input, size: int = PEEKED_BYTES) -> bytes:
    """The first bytes of a file, without a byte order mark; none if it cannot be read."""
    if source.data is not None:
        return source.data[:size].removeprefix(BOM)
    if not is_file(source.path):
        return b""
    try:
        with source.path.open("rb") as file:
            return file.read(size).removeprefix(BOM)
    except OSError:
        return b""


def decode_json(source: Input, kind: Any) -> Any:
    """The content of a JSON file as structs of msgspec; what they do not name is skipped.

    Args:
        source: The file.
        kind: The type of the content.

    Raises:
        InputError: If it is not JSON, or of another type; names the key.
    """
    import msgspec

    data = (read_bytes(source.path) if source.data is None else source.data).removeprefix(BOM)
    try:
        return msgspec.json.decode(data, type=kind, strict=False)
    except msgspec.ValidationError as error:
        message, _, where = str(error).partition(" - at `$")
        raise InputError(message, source.path, where.strip(".`") or None) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _decode_leniently(data, kind, source.path)


def _decode_leniently(data: bytes, kind: Any, path: Path) -> Any:
    """As `decode_json`, of what Python's json takes: also NaN where nobody reads it."""
    import json

    import msgspec

    try:
        return msgspec.convert(json.loads(data.decode()), type=kind, strict=False)
    except msgspec.ValidationError as error:
        message, _, where = str(error).partition(" - at `$")
        raise InputError(message, path, where.strip(".`") or None) from None
    except json.JSONDecodeError as error:
        raise InputError(f"malformed JSON: {error.msg}", path, str(error.lineno)) from None
    except UnicodeDecodeError:
        raise InputError("not UTF-8", path) from None
    except RecursionError:
        raise InputError("nested too deeply", path) from None
    except ValueError as error:  # an integer of thousands of digits
        raise InputError(f"malformed JSON: {error}", path) from None


def _catalog(lists: BoxLists, path: Path, classes: set[str]) -> tuple[Catalog, NDArray[np.int32]]:
    """The catalog, and the place in it of each image."""
    if repeated := [str(name) for name, times in Counter(lists.images).items() if times > 1]:
        raise InputError(f"images that occur twice: {abbreviate_list(repeated)}", path)
    order = sorted(range(len(lists.images)), key=partial(_image_at, lists))
    places = np.zeros(len(order), np.int32)
    places[order] = np.arange(len(order))
    sides = np.array(lists.sizes, np.float64).reshape(-1, 2)
    is_known = np.isfinite(sides) & (sides > 0) & (sides <= LARGEST_IMAGE)
    sizes = np.where(is_known.all(axis=1, keepdims=True), np.where(is_known, sides, 0), 0)
    catalog = Catalog(
        images=tuple(sort_ids(lists.images)),
        classes=class_order(classes),
        file_names=tuple(lists.file_names[i] for i in order) if lists.file_names else (),
        sizes=sizes.astype(np.int64)[order],
    )
    return catalog, places


def _image_at(lists: BoxLists, place: int) -> Any:
    return lists.images[place]


def _boxes(lists: BoxLists, path: Path) -> NDArray[np.float64]:
    box = np.array(lists.box, np.float64).reshape(-1, 4)
    is_wrong = ~is_bounded(box).all(axis=1)
    if is_wrong.any():
        row = int(np.argmax(is_wrong))
        message = f"the box is not finite or too large: {box[row].tolist()}"
        raise InputError(message, path, lists.where[row])
    return box


def _label_places(labels: list[str], classes: tuple[str, ...]) -> NDArray[np.int32]:
    place = {name: k for k, name in enumerate(classes)}
    return np.array([place[label] for label in labels], np.int32)
