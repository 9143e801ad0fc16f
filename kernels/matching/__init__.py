"""Matching: which detections find which ground truth, at every IoU threshold and area range.

The rules arrive as data (`Rules`); `reference.py` says what they mean, `native.cpp` does it fast.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from upmap.kernels import import_native, select_implementation
from upmap.kernels.columns import (
    Column,
    validate_columns,
    validate_count,
    validate_threads,
    validate_within,
)

if TYPE_CHECKING:
    from upmap.kernels.matching import native
else:
    native = import_native("matching")

__all__ = [
    "CLAIMABLE",
    "CROWD",
    "FALSE_POSITIVE",
    "IGNORED",
    "IMPLEMENTATIONS",
    "MAX_CLASSES",
    "MAX_DETECTIONS",
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
MAX_CLASSES = 2**24  # some hundred megabytes, whether boxes use them or not
MAX_DETECTIONS = 2**31 - 1  # ranks are int32


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
        max_dets: Best detections considered per image and class, at most MAX_DETECTIONS; the others
            are ignored.
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
        image: int32 [N], from 0.
        label: int32 [N], 0 to classes - 1.
        box: float64 [N, 4], xyxy px.
        box_area: float64 [N], px^2, what the IoU divides by.
        area: float64 [N], px^2, what the area ranges read; detections: unused, for it is box_area.
        score: float64 [N], not NaN; ground truth: unused.
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
    from upmap.kernels.matching import reference

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
        TypeError: If a column does not hold numbers, or a count is not a whole number.
        ValueError: If a column has another shape or values than it may have, a label is not in
            0 .. classes - 1, there are more than MAX_CLASSES classes or MAX_THRESHOLDS thresholds,
            or `impl` is unknown or not built.
    """
    function = select_implementation(IMPLEMENTATIONS, impl, "matching")
    classes = validate_count("classes", classes, MAX_CLASSES)
    detections = _validate_boxes("detections", detections, DETECTION_COLUMNS, classes)
    ground_truth = _validate_boxes("ground_truth", ground_truth, TRUTH_COLUMNS, classes)
    if np.isnan(detections.score.min(initial=np.inf)):
        raise ValueError("detections.score must not be NaN")
    rules = _validate_rules(rules)
    return Matches(*function(detections, ground_truth, rules, classes, validate_threads(threads)))


BOX_COLUMNS = {
    "image": Column(np.int32, ("N",)),
    "label": Column(np.int32, ("N",)),
    "box": Column(np.float64, ("N", 4)),
    "box_area": Column(np.float64, ("N",)),
}
DETECTION_COLUMNS = BOX_COLUMNS | {
    "score": Column(np.float64, ("N",)),
    "row": Column(np.int64, ("N",)),
}
TRUTH_COLUMNS = BOX_COLUMNS | {
    "area": Column(np.float64, ("N",)),
    "kind": Column(np.uint8, ("N",)),
}
UNUSED: dict[str, NDArray[Any]] = {
    "area": np.zeros(0),
    "score": np.zeros(0),
    "row": np.zeros(0, np.int64),
    "kind": np.zeros(0, np.uint8),
}
RULE_COLUMNS = {
    "iou_thresholds": Column(np.float64, ("T",)),
    "area_ranges": Column(np.float64, ("A", 2)),
}


def _validate_boxes(name: str, boxes: Boxes, columns: Mapping[str, Column], classes: int) -> Boxes:
    """The boxes with the columns that are read, and without the others."""
    valid = Boxes(**UNUSED | validate_columns(name, boxes, columns))
    validate_within(f"{name}.image", valid.image, 0)
    validate_within(f"{name}.label", valid.label, 0, classes - 1)
    validate_within(f"{name}.kind", valid.kind, CLAIMABLE, CROWD)
    return valid


def _validate_rules(rules: Rules) -> Rules:
    columns = validate_columns("rules", rules, RULE_COLUMNS)
    thresholds = columns["iou_thresholds"]
    if not 0 < len(thresholds) <= MAX_THRESHOLDS:
        raise ValueError(f"expected 1 to {MAX_THRESHOLDS} IoU thresholds, not {len(thresholds)}")
    if not np.isfinite(thresholds).all() or np.isnan(columns["area_ranges"]).any():
        raise ValueError("rules.iou_thresholds must be finite, and rules.area_ranges not NaN")
    if not math.isfinite(rules.side_offset):
        raise ValueError(f"rules.side_offset must be finite, not {rules.side_offset}")
    return Rules(
        **columns,
        side_offset=float(rules.side_offset),
        strict=bool(rules.strict),
        best_only=bool(rules.best_only),
        last_of_equals=bool(rules.last_of_equals),
        ties_by_image=bool(rules.ties_by_image),
        max_dets=validate_count("rules.max_dets", rules.max_dets, MAX_DETECTIONS),
    )
