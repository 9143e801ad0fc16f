"""Pixel conventions of boxes: the one place that knows 1-based inclusive from 0-based continuous.

VOC writes the first and last pixel of a box, counted from 1; COCO writes its left edge, from 0, and
its width. The same region is xmin = x + 1, xmax = x + width.
"""

from dataclasses import replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from upmap.detection.tables import Detections, Pixels, TableT
from upmap.errors import InputError

__all__ = [
    "box_area",
    "box_from_corner",
    "convert_pixels",
    "inclusive_size",
    "relabel_pixels",
    "scale_to_pixels",
    "scale_to_sides",
    "xywh",
    "xyxy_from_xywh",
]

Floats = NDArray[np.float64]
NO_SIZES = (
    "the sizes of the images are needed, and not known: the boxes, or those to be written, are in "
    "units of the images' sides. They come "
    "from a folder of images (--images), from a file of lines `name width height` (--sizes), or "
    "are the same for all (--image-size)"
)


def xyxy_from_xywh(xywh: Floats) -> Floats:
    """Continuous corners xyxy of COCO's x, y, width, height; float64 [N, 4] both.

    >>> xyxy_from_xywh(np.array([[10.0, 20.0, 5.0, 2.0]])).tolist()
    [[10.0, 20.0, 15.0, 22.0]]
    """
    return box_from_corner(xywh[:, :2], xywh[:, 2:])


def box_from_corner(corner: Floats, size: Floats, out: Floats | None = None) -> Floats:
    """Continuous corners xyxy, float64 [N, 4], of upper left corners and sides [N, 2].

    `out` is the memory to write to, in which `corner` may lie, but not `size`.
    """
    box = np.empty((len(corner), 4)) if out is None else out
    box[:, :2] = corner
    np.add(corner, size, out=box[:, 2:])
    return box


def xywh(table: TableT) -> Floats:
    """COCO's x, y, width, height of a table's boxes, float64 [N, 4], whatever its convention."""
    table = convert_pixels(table, "continuous")
    return np.concatenate([table.box[:, :2], table.size], axis=1)


def inclusive_size(box: Floats) -> Floats:
    """Width and height of inclusive corners, float64 [N, 2]: a box of one pixel is 1 x 1.

    >>> inclusive_size(np.array([[7.0, 7.0, 7.0, 9.0]])).tolist()
    [[1.0, 3.0]]
    """
    return box[:, 2:] - box[:, :2] + 1


def box_area(size: Floats) -> Floats:
    """Area in px^2, float64 [N], of width and height [N, 2]."""
    area: Floats = size[:, 0] * size[:, 1]
    return area


def convert_pixels(table: TableT, pixels: Pixels | Literal["corners"]) -> TableT:
    """The table with its boxes in another convention.

    Args:
        table: Ground truth or detections.
        pixels: "inclusive" or "continuous", both of which cover the same region; or "corners": the
            corners as they stand, with nothing added to their difference. On VOC files that makes
            every box a pixel too small, as in the many tools that leave out the + 1.

    Raises:
        InputError: If the boxes are in units of their image's sides, whose lengths are not known.
    """
    if table.pixels == "relative":
        raise InputError(NO_SIZES)
    if pixels == "corners":
        return _as_they_stand(table)
    if pixels == table.pixels:
        return table
    if pixels == "inclusive":
        box = np.concatenate([table.box[:, :2] + 1, table.box[:, 2:]], axis=1)
        return replace(table, pixels="inclusive", box=box)
    box = xyxy_from_xywh(np.concatenate([table.box[:, :2] - 1, table.size], axis=1))
    return replace(table, pixels="continuous", box=box)


def relabel_pixels(table: TableT, pixels: Pixels) -> TableT:
    """The table with the same corners in another convention, which covers other pixels.

    An area that is derived from the sides follows them.
    """
    if pixels == table.pixels:
        return table
    if pixels == "continuous":
        return _as_they_stand(table)
    size = inclusive_size(table.box)
    if isinstance(table, Detections):
        return replace(table, pixels="inclusive", size=size)
    area = np.where(table.area == box_area(table.size), box_area(size), table.area)
    return replace(table, pixels="inclusive", size=size, area=area)


def scale_to_pixels(table: TableT) -> TableT:
    """The table in pixels if it is in units of the sides of images whose sizes are known."""
    sizes = table.catalog.sizes
    if table.pixels != "relative" or not len(sizes) or not (sizes[table.image] > 0).all():
        return table
    sides = sizes[table.image].astype(np.float64)
    size = table.size * sides
    box = xyxy_from_xywh(np.concatenate([table.box[:, :2] * sides, size], axis=1))
    if isinstance(table, Detections):
        return replace(table, pixels="continuous", box=box, size=size)
    return replace(table, pixels="continuous", box=box, size=size, area=box_area(size))


def scale_to_sides(table: TableT) -> TableT:
    """The table in units of its images' sides.

    Raises:
        InputError: If the size of an image that has boxes is not known.
    """
    if table.pixels == "relative":
        return table
    table = convert_pixels(table, "continuous")
    sizes = table.catalog.sizes if len(table.catalog.sizes) else np.zeros((0, 2), np.int64)
    if len(table) and not (len(sizes) and (sizes[table.image] > 0).all()):
        raise InputError(NO_SIZES)
    sides = sizes[table.image].astype(np.float64) if len(table) else np.ones((0, 2))
    box, size = table.box / np.tile(sides, 2), table.size / sides
    if isinstance(table, Detections):
        return replace(table, pixels="relative", box=box, size=size)
    return replace(table, pixels="relative", box=box, size=size, area=box_area(size))


def _as_they_stand(table: TableT) -> TableT:
    """Boxes whose sides are the differences of their corners; an area derived from them follows."""
    if table.pixels == "continuous":
        return table
    size = table.box[:, 2:] - table.box[:, :2]
    if isinstance(table, Detections):
        return replace(table, pixels="continuous", size=size)
    area = np.where(table.area == box_area(table.size), box_area(size), table.area)
    return replace(table, pixels="continuous", size=size, area=area)
