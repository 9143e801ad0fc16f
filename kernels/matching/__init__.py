"""Matching: the status of every detection, at every IoU threshold and area range.

The rules are data (`Rules`). `reference.py` defines their meaning; `native.cpp` computes the same
to the last bit.
"""

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, SupportsIndex

import numpy as np
from numpy.typing import NDArray

from upmap.kernels import Implementation, import_native, select_implementation
from upmap.kernels.columns import (
    Column,
    validate_columns,
    validate_within,
)
from upmap.kernels.counts import validate_count, validate_threads
from upmap.kernels.matching.contract import (
    CLAIMABLE,
    CROWD,
    FALSE_POSITIVE,
    IGNORED,
    MAX_CLASSES,
    MAX_DETECTIONS,
    MAX_THRESHOLDS,
    NEVER_CLAIMED,
    TRUE_POSITIVE,
    Columns,
    DetectionBoxes,
    Matches,
    Rules,
    TruthBoxes,
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
    "DetectionBoxes",
    "Matches",
    "Rules",
    "TruthBoxes",
    "match",
]

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
RULE_COLUMNS = {
    "iou_thresholds": Column(np.float64, ("T",)),
    "area_ranges": Column(np.float64, ("A", 2)),
}

Matcher = Callable[[DetectionBoxes, TruthBoxes, Rules, int, int], Columns]


def match(
    detections: DetectionBoxes,
    ground_truth: TruthBoxes,
    rules: Rules,
    classes: SupportsIndex,
    *,
    threads: SupportsIndex = 0,
    impl: Implementation | None = None,
) -> Matches:
    """Matches detections to ground truth, class by class and image by image.

    Args:
        detections: N boxes.
        ground_truth: M boxes.
        rules: The protocol's choices.
        classes: K, the number of classes.
        threads: Maximum number of threads; 0 uses all cores.
        impl: A key of IMPLEMENTATIONS; None selects the fastest available.

    Raises:
        TypeError: If a column does not hold numbers, or a count is not a whole number.
        ValueError: If a column has another shape or values than it may have, a label is not in
            0 .. classes - 1, there are more than MAX_CLASSES classes or MAX_THRESHOLDS thresholds,
            or `impl` is unknown or not built.
    """
    matcher = select_implementation(IMPLEMENTATIONS, impl, "matching")
    K = validate_count("classes", classes, MAX_CLASSES)
    detections = _validate_detections(detections, K)
    ground_truth = _validate_truths(ground_truth, K)
    columns = matcher(
        detections, ground_truth, _validate_rules(rules), K, validate_threads(threads)
    )
    image, label, score, row, rank, status, positives = columns
    return Matches(
        image=image,
        label=label,
        score=score,
        row=row,
        rank=rank,
        status=status,
        start=np.searchsorted(label, np.arange(K + 1)).astype(np.int64),
        positives=positives,
    )


def _validate_detections(detections: DetectionBoxes, classes: int) -> DetectionBoxes:
    expected = DETECTION_COLUMNS
    if detections.area is not None:
        expected = expected | {"area": Column(np.float64, ("N",))}
    columns = validate_columns("detections", detections, expected)
    _validate_places("detections", columns, classes)
    # The minimum is NaN if any score is, and needs no array of flags.
    if np.isnan(columns["score"].min(initial=np.inf)):
        raise ValueError("detections.score must not be NaN")
    return DetectionBoxes(**columns)


def _validate_truths(ground_truth: TruthBoxes, classes: int) -> TruthBoxes:
    columns = validate_columns("ground_truth", ground_truth, TRUTH_COLUMNS)
    _validate_places("ground_truth", columns, classes)
    validate_within("ground_truth.kind", columns["kind"], CLAIMABLE, CROWD)
    return TruthBoxes(**columns)


def _validate_places(name: str, columns: Mapping[str, NDArray[Any]], classes: int) -> None:
    validate_within(f"{name}.image", columns["image"], 0)
    validate_within(f"{name}.label", columns["label"], 0, classes - 1)


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


def _match_by_reference(
    detections: DetectionBoxes, ground_truth: TruthBoxes, rules: Rules, classes: int, threads: int
) -> Columns:
    from upmap.kernels.matching import reference

    return reference.match(detections, ground_truth, rules, classes)


IMPLEMENTATIONS: Mapping[str, Matcher | None] = {
    "native": None if native is None else native.match,
    "reference": _match_by_reference,
}
