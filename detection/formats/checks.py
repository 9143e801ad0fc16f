"""Warnings about input that is valid but suspicious, and the checks that many formats share."""

import sys
import warnings
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from upmap.detection.boxes import convert_pixels
from upmap.detection.tables import Detections, GroundTruth
from upmap.errors import InputWarning, abbreviate_list

__all__ = ["check_boxes", "check_classes", "note"]


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
    if not len(detections.catalog.sizes) or detections.pixels == "relative":
        return
    if outside := int(_is_outside(detections).sum()):
        note(
            "outside-image",
            outside,
            path,
            f"{outside} of {len(detections)} detections reach outside their image; "
            "they are evaluated as they are",
        )


def _is_outside(detections: Detections) -> NDArray[np.bool_]:
    """Which boxes reach outside their image, bool [N]; none where its size is unknown."""
    sizes = detections.catalog.sizes.astype(np.float64)
    is_known: NDArray[np.bool_] = np.all(sizes > 0, axis=1)
    low, high = np.where(is_known, 0.0, -np.inf), np.where(is_known[:, np.newaxis], sizes, np.inf)
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
