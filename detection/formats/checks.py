"""Warnings about input that is valid but suspicious, and the checks that many formats share."""

import sys
import warnings
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from upmap.detection.boxes import convert_pixels
from upmap.detection.tables import Catalog, Detections, GroundTruth
from upmap.errors import InputError, InputWarning, abbreviate_list

__all__ = [
    "TOLERANCE",
    "check_boxes",
    "check_classes",
    "check_images",
    "check_scales",
    "check_shift",
    "check_sides",
    "is_outside_unit",
    "note",
]

MAX_PAIRS = 2**26  # of classes and images, up to which `check_shift` makes a table of them
MIN_BOXES = 10  # of both tables, for their scales to be compared
TOLERANCE = 0.01  # of a side, by which Ultralytics lets a value lie outside the image
ROUNDING = 0.01  # px, of boxes that were written in units of the image with six decimals


def note(
    kind: str, count: int, path: Path, message: str, examples: tuple[str, ...] | list[str] = ()
) -> None:
    """Issues an `InputWarning`, at the line that called this package.

    Args:
        kind: What is suspicious, in kebab-case, such as "outside-image"; programs go by it.
        count: How often it occurs.
        path: The file or folder.
        message: What is suspicious and what is done about it, for people.
        examples: Some of the values or places, such as class names.
    """
    warning = InputWarning(f"{path}: {message}", kind=kind, count=count, examples=tuple(examples))
    warnings.warn(warning, stacklevel=_caller_level())


def check_classes(ground_truth: GroundTruth, detections: Detections, path: Path) -> None:
    """Warns about detected classes that the ground truth does not have.

    Args:
        ground_truth: As it was read.
        detections: As they were read, under a catalog of their own or the ground truth's.
        path: The file or folder of the detections.
    """
    counts = np.bincount(detections.label, minlength=len(detections.catalog.classes))
    used = {detections.catalog.classes[k] for k in np.flatnonzero(counts).tolist()}
    if unknown := sorted(used - set(ground_truth.catalog.classes)):
        message = f"no ground truth for the detected classes {abbreviate_list(unknown)}"
        note("class-without-ground-truth", len(unknown), path, message, unknown[:5])


def check_shift(ground_truth: GroundTruth, detections: Detections, path: Path) -> None:
    """Warns about detections whose classes would match much better if they were shifted by one.

    Only detections of several classes, of which some have no ground truth, are looked at.

    Args:
        ground_truth: As it was read.
        detections: As they were read.
        path: The file or folder of the detections.
    """
    catalog = ground_truth.catalog
    if detections.catalog.classes != catalog.classes:  # which the detections name
        return
    ids, shape = catalog.class_ids, (len(catalog.classes), len(catalog.images))
    is_used = np.bincount(detections.label, minlength=len(ids)) > 0
    has_truth = np.bincount(ground_truth.label, minlength=len(ids)) > 0
    if is_used.sum() < 2 or has_truth[is_used].all() or shape[0] * shape[1] > MAX_PAIRS:
        return
    present = np.zeros(shape, bool)
    present[ground_truth.label, ground_truth.image] = True
    place = {number: k for k, number in enumerate(ids)}
    counts = {0: int(present[detections.label, detections.image].sum())}
    for step in (1, -1):
        shifted = np.array([place.get(number + step, -1) for number in ids])[detections.label]
        is_known = shifted >= 0
        counts[step] = int(present[shifted[is_known], detections.image[is_known]].sum())
    best = max((1, -1), key=lambda step: counts[step])
    if counts[best] > 2 * counts[0] and counts[best] > len(detections) // 2:
        message = (
            f"the classes of the detections seem to be counted from another number: {counts[best]} "
            f"of {len(detections)} are of a class of their image if {best:+d} is added to the "
            f"category_id, {counts[0]} as they are"
        )
        note("classes-off-by-one", counts[best], path, message)


def check_sides(size: NDArray[np.float64], path: Path) -> None:
    """Warns about ground truth with a negative side; it overlaps nothing, so it is not found.

    Args:
        size: float64 [M, 2], width and height, px.
        path: The file or folder of the ground truth.
    """
    if len(size) and size.min() < 0:
        inverted = int((size < 0).any(axis=1).sum())
        message = (
            f"{inverted} ground truths have an inverted box or a negative side; nothing overlaps "
            "them, and they count as not found"
        )
        note("inverted-ground-truth", inverted, path, message)


def check_images(
    image: NDArray[np.int32], names: list[str], catalog: Catalog, path: Path, hint: str = ""
) -> None:
    """Warns about detections on images that are not listed, which are left out.

    Args:
        image: int32 [N], the place of each detection's image in `catalog`; -1 where it is not
            listed, at least once.
        names: The images that are not listed.
        catalog: The images.
        path: The file or folder of the detections.
        hint: What to say if no image is listed.

    Raises:
        InputError: If no detection is on a listed image.
    """
    is_listed = image >= 0
    count = len(image) - int(is_listed.sum())
    message = f"{count} detections on {len(names)} unknown images: {abbreviate_list(names)}"
    if not is_listed.any():
        raise InputError(f"{message}; no detection is on an image of the ground truth{hint}", path)
    used = np.bincount(image[is_listed], minlength=len(catalog.images)) > 0
    message += "; they are left out"
    if empty := len(catalog.images) - int(used.sum()):
        message += f", and {empty} of {len(catalog.images)} images have no detections"
    note("detection-on-unlisted-image", count, path, message, names[:5])


def check_boxes(detections: Detections, path: Path) -> None:
    """Warns about inverted boxes and boxes that reach outside their image; both are evaluated.

    Args:
        detections: Under a catalog that may have image sizes.
        path: The file or folder of the detections.
    """
    if len(detections) and detections.size.min() < 0:
        inverted = int((detections.size < 0).any(axis=1).sum())
        message = f"{inverted} detections have an inverted box; they overlap nothing"
        note("inverted-box", inverted, path, message)
    if outside := int(_is_outside(detections).sum()):
        note(
            "outside-image",
            outside,
            path,
            f"{outside} of {len(detections)} detections reach outside their image; "
            "they are evaluated as they are",
        )


def is_outside_unit(box: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which boxes xyxy [N, 4], in units of the image's sides, reach outside of it, bool [N]."""
    outside: NDArray[np.bool_] = np.any((box < -TOLERANCE) | (box > 1 + TOLERANCE), axis=1)
    return outside


def check_scales(ground_truth: GroundTruth, detections: Detections) -> None:
    """Warns if ground truth and detections seem to be in the pixels of images of different sizes.

    That is so where the centers of many boxes of one lie beyond all boxes of the other: targets of
    images that were resized beside predictions in the pixels of the originals, or boxes in units
    of the image beside px.

    Args:
        ground_truth: From memory.
        detections: From memory.
    """
    if min(len(ground_truth), len(detections)) < MIN_BOXES:
        return
    names = ("ground truth", "detections")
    boxes = (ground_truth.box, detections.box)
    for this, other in ((0, 1), (1, 0)):
        center = (boxes[this][:, :2] + boxes[this][:, 2:]) / 2
        beyond = int((center > boxes[other].max(axis=0)[2:]).any(axis=1).sum())
        if 3 * beyond > len(center):
            ends = [f"{box.max(axis=0)[2]:g}, {box.max(axis=0)[3]:g}" for box in boxes]
            message = (
                f"{beyond} of {len(center)} boxes lie beyond all of the {names[other]}; are they "
                "in the pixels of images of another size? The ground truth reaches to "
                f"{ends[0]}, the detections to {ends[1]}"
            )
            note("different-scales", beyond, Path(names[this]), message)
            return


def _is_outside(detections: Detections) -> NDArray[np.bool_]:
    """Which boxes reach outside their image, bool [N]; none where its size is unknown."""
    if detections.pixels == "relative":
        return is_outside_unit(detections.box)
    if not len(detections.catalog.sizes):
        return np.zeros(len(detections), bool)
    sizes = detections.catalog.sizes.astype(np.float64)
    is_known: NDArray[np.bool_] = np.all(sizes > 0, axis=1)
    low = np.where(is_known, -ROUNDING, -np.inf)
    high = np.where(is_known[:, np.newaxis], sizes + ROUNDING, np.inf)
    left, top, right, bottom = convert_pixels(detections, "continuous").box.T
    image = detections.image
    beyond: NDArray[np.bool_] = (right > high[:, 0][image]) | (bottom > high[:, 1][image])
    if len(detections) and min(left.min(), top.min()) < 0:
        beyond |= np.minimum(left, top) < low[image]
    return beyond


def _caller_level() -> int:
    """The `stacklevel` with which `note` warns at the first frame outside this package."""
    level, frame = 1, sys._getframe(1)  # the frame of `note`
    while frame.f_back and str(frame.f_globals.get("__name__")).startswith("upmap."):
        level, frame = level + 1, frame.f_back
    return level
