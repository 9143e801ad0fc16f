"""Matching: which detections find which ground truth, at every IoU threshold and area range.

The rules arrive as data (`Rules`); `reference.py` says what they mean, `native.cpp` does it fast.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from kernels import chosen

try:
    from kernels.matching import native
except ImportError:
    native = None  # type: ignore[assignment]

__all__ = [
    "CLAIMABLE",
    "CROWD",
    "FALSE_POSITIVE",
    "IGNORED",
    "IMPLEMENTATIONS",
    "MAX_THRESHOLDS",
    "NEVER_CLAIMED",
    "TRUE_POSITIVE",
    "Boxes",
    "Matches",
    "Rules",
    "match",
]

FALSE_POSITIVE, TRUE_POSITIVE, IGNORED = 0, 1, 2  # status of a detection
CLAIMABLE, NEVER_CLAIMED, CROWD = 0, 1, 2  # kind of a ground truth
MAX_THRESHOLDS = 64  # the native kernel keeps one bit per threshold and ground truth


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Rules:
    """The choices of an evaluation protocol that decide a match.

    Attributes:
        iou_thresholds: float64 [T].
        area_ranges: float64 [A, 2], px^2, both ends inclusive.
        side_offset: Added to every intersection's sides, px: 1 for inclusive pixels, else 0.
        strict: IoU must exceed the threshold; otherwise it may equal it.
        best_only: A detection stands or falls with the ground truth that it overlaps most, claimed
            or not; otherwise it takes the best that is still free, a counted one before an ignored.
        last_of_equals: Of ground truths with equal IoU the last is taken, otherwise the first.
        ties_by_image: Equal scores keep image order, then row; otherwise row alone.
        max_dets: Best detections considered per image and class; the others are ignored.
    """

    iou_thresholds: NDArray[np.float64]
    area_ranges: NDArray[np.float64]
    side_offset: float
    strict: bool
    best_only: bool
    last_of_equals: bool
    ties_by_image: bool
    max_dets: int


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Boxes:
    """Columns of detections or of ground truth, one row a box.

    Attributes:
        image: int32 [N].
        label: int32 [N], 0 to classes - 1.
        box: float64 [N, 4], xyxy px.
        box_area: float64 [N], px^2, what the IoU divides by.
        area: float64 [N], px^2, what the area ranges read; detections: unused, for it is box_area.
        score: float64 [N]; ground truth: unused.
        row: int64 [N], the order in the file, for ties; ground truth: unused.
        kind: uint8 [N], CLAIMABLE, NEVER_CLAIMED (ignored, ordinary IoU, may be found by many) or
            CROWD (the same with IoU = intersection / detection area); detections: unused.
    """

    image: NDArray[np.int32]
    label: NDArray[np.int32]
    box: NDArray[np.float64]
    box_area: NDArray[np.float64]
    area: NDArray[np.float64]
    score: NDArray[np.float64]
    row: NDArray[np.int64]
    kind: NDArray[np.uint8]


@dataclass(frozen=True, slots=True, eq=False)
class Matches:
    """What matching found; detections stand in curve order: by class, then descending score.

    Attributes:
        image: int32 [N].
        label: int32 [N].
        score: float64 [N].
        row: int64 [N].
        rank: int32 [N], its rank by score within its image and class, from 0.
        status: uint8 [A, T, N], FALSE_POSITIVE, TRUE_POSITIVE or IGNORED.
        positives: int64 [K, A], counted ground truths.
    """

    image: NDArray[np.int32]
    label: NDArray[np.int32]
    score: NDArray[np.float64]
    row: NDArray[np.int64]
    rank: NDArray[np.int32]
    status: NDArray[np.uint8]
    positives: NDArray[np.int64]


Arrays = tuple[
    NDArray[np.int32],
    NDArray[np.int32],
    NDArray[np.float64],
    NDArray[np.int64],
    NDArray[np.int32],
    NDArray[np.uint8],
    NDArray[np.int64],
]
Matcher = Callable[[Boxes, Boxes, Rules, int, int], Arrays]


def _native(
    detections: Boxes, ground_truth: Boxes, rules: Rules, classes: int, threads: int
) -> Arrays:
    return native.match(detections, ground_truth, rules, classes, threads)


def _reference(
    detections: Boxes, ground_truth: Boxes, rules: Rules, classes: int, threads: int
) -> Arrays:
    from kernels.matching import reference

    return reference.match(detections, ground_truth, rules, classes, threads)


IMPLEMENTATIONS: Mapping[str, Matcher | None] = {
    "native": None if native is None else _native,
    "reference": _reference,
}


def match(
    detections: Boxes,
    ground_truth: Boxes,
    rules: Rules,
    classes: int,
    *,
    threads: int = 0,
    impl: Literal["native", "reference"] | None = None,
) -> Matches:
    """Matches detections to ground truth, class by class and image by image.

    Args:
        detections: N boxes.
        ground_truth: M boxes.
        rules: The protocol's choices.
        classes: K, the number of classes.
        threads: At most so many; 0 for as many as the machine has.
        impl: A key of IMPLEMENTATIONS; None for the best that is built.

    Raises:
        ValueError: If a label is not in 0 .. classes - 1, there are more than MAX_THRESHOLDS
            thresholds, or `impl` is unknown or not built.
    """
    for name, boxes in (("detections", detections), ("ground_truth", ground_truth)):
        if boxes.label.size and not 0 <= boxes.label.min() <= boxes.label.max() < classes:
            raise ValueError(f"{name}.label must lie in 0 .. {classes - 1}")
    if not 0 < len(rules.iou_thresholds) <= MAX_THRESHOLDS:
        raise ValueError(f"expected 1 to {MAX_THRESHOLDS} IoU thresholds")
    function = chosen(IMPLEMENTATIONS, impl)
    return Matches(*function(detections, ground_truth, rules, classes, threads))
