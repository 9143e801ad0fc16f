"""What every implementation of matching takes and returns.

Sources of the rules: VOCevaldet.m of the VOC development kits; COCOeval of pycocotools 2.0.11.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from upmap.kernels.counts import MAX_CLASSES, MAX_DETECTIONS, MAX_THRESHOLDS

__all__ = [
    "CLAIMABLE",
    "CROWD",
    "FALSE_POSITIVE",
    "IGNORED",
    "MAX_CLASSES",
    "MAX_DETECTIONS",
    "MAX_THRESHOLDS",
    "NEVER_CLAIMED",
    "TRUE_POSITIVE",
    "Columns",
    "DetectionBoxes",
    "Matches",
    "Rules",
    "TruthBoxes",
]

FALSE_POSITIVE, TRUE_POSITIVE, IGNORED = 0, 1, 2  # status of a detection
CLAIMABLE, NEVER_CLAIMED, CROWD = 0, 1, 2  # kind of a ground truth


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Rules:
    """The choices of an evaluation protocol that decide a match.

    Attributes:
        iou_thresholds: float64 [T].
        area_ranges: float64 [A, 2], px^2, both ends inclusive.
        side_offset: Added to every intersection's sides, px: 1 for inclusive pixels, else 0.
        strict: IoU must exceed the threshold; otherwise it may equal it.
        best_only: A detection is judged by the ground truth that it overlaps most, claimed or not;
            otherwise by the best that is still free, a counted one before an ignored one.
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
class DetectionBoxes:
    """Columns of N detections.

    Attributes:
        image: int32 [N], from 0.
        label: int32 [N], 0 to classes - 1.
        box: float64 [N, 4], xyxy px.
        box_area: float64 [N], px^2, for the IoU, and for the area ranges if there is no `area`.
        score: float64 [N], not NaN.
        row: int64 [N], the place in the file, which orders equal scores.
        area: float64 [N], px^2, for the area ranges: of the mask, where results have one; or None.
    """

    image: NDArray[np.int32]
    label: NDArray[np.int32]
    box: NDArray[np.float64]
    box_area: NDArray[np.float64]
    score: NDArray[np.float64]
    row: NDArray[np.int64]
    area: NDArray[np.float64] | None = None


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class TruthBoxes:
    """Columns of M ground truths.

    Attributes:
        image: int32 [M], from 0.
        label: int32 [M], 0 to classes - 1.
        box: float64 [M, 4], xyxy px.
        box_area: float64 [M], px^2, for the IoU.
        area: float64 [M], px^2, for the area ranges: of the mask, where COCO files have one.
        kind: uint8 [M], CLAIMABLE, NEVER_CLAIMED (ignored, ordinary IoU, may match many detections)
            or CROWD (the same with IoU = intersection / detection area).
    """

    image: NDArray[np.int32]
    label: NDArray[np.int32]
    box: NDArray[np.float64]
    box_area: NDArray[np.float64]
    area: NDArray[np.float64]
    kind: NDArray[np.uint8]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Matches:
    """The status of every detection, in curve order: by class, then descending score.

    Attributes:
        image: int32 [N].
        label: int32 [N], ascending.
        score: float64 [N], descending within a class.
        row: int64 [N].
        rank: int32 [N], the place by score within image and class, from 0.
        status: uint8 [A, T, N], FALSE_POSITIVE, TRUE_POSITIVE or IGNORED; a view of [N, A, T] if
            the native kernel made it.
        start: int64 [K + 1], the first detection of each class; start[0] = 0, start[K] = N.
        positives: int64 [K, A], counted ground truths.
    """

    image: NDArray[np.int32]
    label: NDArray[np.int32]
    score: NDArray[np.float64]
    row: NDArray[np.int64]
    rank: NDArray[np.int32]
    status: NDArray[np.uint8]
    start: NDArray[np.int64]
    positives: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.label)


# What an implementation returns: the columns of Matches but `start`, in their order.
Columns = tuple[
    NDArray[np.int32],
    NDArray[np.int32],
    NDArray[np.float64],
    NDArray[np.int64],
    NDArray[np.int32],
    NDArray[np.uint8],
    NDArray[np.int64],
]
