"""Pairs: the ground truths, of any class, that each detection overlaps.

Matching says what became of a detection; these pairs say why: the nearest object, whose it is, and
by how much it was missed. `reference.py` defines them; `native.cpp` finds the same to the last bit.
"""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, SupportsIndex

from upmap.kernels import Implementation, import_native, select_implementation
from upmap.kernels.columns import validate_columns, validate_within
from upmap.kernels.counts import validate_threads
from upmap.kernels.matching import DETECTION_COLUMNS, TRUTH_COLUMNS
from upmap.kernels.matching.contract import CLAIMABLE, CROWD, DetectionBoxes, TruthBoxes
from upmap.kernels.pairs.contract import PairArrays, PairFinder, PairList

if TYPE_CHECKING:
    from upmap.kernels.pairs import native
else:
    native = import_native("pairs")

__all__ = ["IMPLEMENTATIONS", "PairList", "find_pairs"]


def find_pairs(
    detections: DetectionBoxes,
    ground_truth: TruthBoxes,
    *,
    side_offset: float,
    min_iou: float,
    threads: SupportsIndex = 0,
    impl: Implementation | None = None,
) -> PairList:
    """Finds the pairs of a detection and a ground truth on one image that overlap.

    Args:
        detections: N boxes; label, score and row are not read.
        ground_truth: M boxes; label and area are not read. Over a crowd the IoU is that part of
            the detection that lies in it.
        side_offset: Added to an intersection's sides, px: 1 for inclusive pixels, else 0.
        min_iou: Pairs of a smaller IoU, or of none, are left out.
        threads: Maximum number of threads; 0 uses all cores. The result does not depend on it.
        impl: A key of IMPLEMENTATIONS; None selects the fastest available.

    Raises:
        TypeError: If a column does not hold numbers.
        ValueError: If shapes disagree, a value is out of range, or `impl` is unknown or not built.
    """
    finder = select_implementation(IMPLEMENTATIONS, impl, "pairs")
    boxes = DetectionBoxes(**validate_columns("detections", detections, DETECTION_COLUMNS))
    truths = TruthBoxes(**validate_columns("ground_truth", ground_truth, TRUTH_COLUMNS))
    validate_within("detections.image", boxes.image, 0)
    validate_within("ground_truth.image", truths.image, 0)
    validate_within("ground_truth.kind", truths.kind, CLAIMABLE, CROWD)
    if not math.isfinite(side_offset) or math.isnan(min_iou):
        raise ValueError("side_offset must be finite, and min_iou not NaN")
    count = validate_threads(threads)
    start, truth, iou = finder(boxes, truths, float(side_offset), float(min_iou), count)
    return PairList(start=start, truth=truth, iou=iou)


def _find_by_reference(
    detections: DetectionBoxes,
    ground_truth: TruthBoxes,
    side_offset: float,
    min_iou: float,
    threads: int,
) -> PairArrays:
    from upmap.kernels.pairs import reference

    return reference.find_pairs(detections, ground_truth, side_offset, min_iou)


IMPLEMENTATIONS: Mapping[str, PairFinder | None] = {
    "native": None if native is None else native.find_pairs,
    "reference": _find_by_reference,
}
