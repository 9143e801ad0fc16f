"""Which object each detection claims, and which others it overlaps: the match table's reasons.

The match table says what became of a detection and is enough for every number. What costs points
(errors by kind, confused classes, wrong labels) needs the objects too, so `Pairs` is made on demand
from the tables that were matched.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from upmap.detection.tables import Catalog, Detections, GroundTruth
from upmap.kernels import Implementation
from upmap.kernels.matching import CLAIMABLE, TRUE_POSITIVE, DetectionBoxes
from upmap.kernels.pairs import PairList, find_pairs
from upmap.metrics.analysis.assignment import assign_in_order, best_of_each
from upmap.metrics.match_table import MatchTable
from upmap.metrics.matching import MatchInputs, prepare_inputs

__all__ = ["NEAR", "Pairs", "pair_detections"]

NEAR = 0.1  # IoU below which two boxes have nothing to do with each other (TIDE)

Floats = NDArray[np.float64]
Places = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Pairs:
    """For each row of a match table the objects that it claims and overlaps.

    Objects are rows of `ground_truth`; -1 is none, and its IoU 0. A claim is that at the protocol's
    first IoU threshold and area range; "counted" objects are those that count there.

    Attributes:
        truth: int64 [N], the object that a true positive claims.
        iou: float64 [N], with that object.
        same: int64 [N], the counted object of the detection's class with the largest IoU.
        same_iou: float64 [N].
        other: int64 [N], the counted object of another class with the largest IoU.
        other_iou: float64 [N].
        any_iou: float64 [N], the largest IoU with any object, of any class, ignored or not.
        detection: int64 [N], the row of each in `detections`.
        overlap: All pairs of an IoU of at least `min_iou`, by row of the match table.
        min_iou: Smaller overlaps are taken for none.
        is_counted: bool [M], the objects that count.
        claimed_by: int64 [M], the row of the match table that claims each object; -1 for none.
        ground_truth: M objects, those without that the protocol drops.
        detections: N detections.
    """

    truth: Places
    iou: Floats
    same: Places
    same_iou: Floats
    other: Places
    other_iou: Floats
    any_iou: Floats
    detection: Places
    overlap: PairList
    min_iou: float
    is_counted: NDArray[np.bool_]
    claimed_by: Places
    ground_truth: GroundTruth
    detections: Detections

    @property
    def catalog(self) -> Catalog:
        """The images and classes of both tables."""
        return self.ground_truth.catalog


def pair_detections(
    ground_truth: GroundTruth,
    detections: Detections,
    table: MatchTable,
    *,
    min_iou: float = NEAR,
    threads: int = 0,
    impl: Implementation | None = None,
) -> Pairs:
    """Pairs the rows of a match table with the objects that they claim and overlap.

    Args:
        ground_truth: The objects that were matched.
        detections: The detections that were matched.
        table: Their match table.
        min_iou: Smaller overlaps are taken for none; lowered to the table's first threshold.
        threads: Maximum number of threads; 0 uses all cores.
        impl: "native" or "reference"; None selects the fastest available.

    Raises:
        InputError: If detections lie on images that the ground truth does not have.
        ValueError: If the match table is not that of these tables.
    """
    inputs = prepare_inputs(ground_truth, detections, table.protocol)
    order = _find_rows(inputs, table)
    min_iou = min(min_iou, *inputs.rules.iou_thresholds.tolist())
    overlap = find_pairs(
        _reorder(inputs.detection_boxes, order),
        inputs.truth_boxes,
        side_offset=inputs.rules.side_offset,
        min_iou=min_iou,
        threads=threads,
        impl=impl,
    )
    is_counted = _is_counted(inputs)
    row = np.repeat(np.arange(len(table)), np.diff(overlap.start))
    is_same = inputs.truth_boxes.label[overlap.truth] == table.label[row]
    counts = is_counted[overlap.truth]
    truth, iou = _claims(table, inputs, overlap, row, is_same & counts)
    same, same_iou = _best(overlap, row, is_same & counts, len(table))
    other, other_iou = _best(overlap, row, ~is_same & counts, len(table))
    claimed_by = np.full(len(is_counted), -1, np.int64)
    claimed_by[truth[truth >= 0]] = np.flatnonzero(truth >= 0)
    return Pairs(
        truth=truth,
        iou=iou,
        same=same,
        same_iou=same_iou,
        other=other,
        other_iou=other_iou,
        any_iou=_best(overlap, row, np.ones(len(row), bool), len(table))[1],
        detection=order,
        overlap=overlap,
        min_iou=min_iou,
        is_counted=is_counted,
        claimed_by=claimed_by,
        ground_truth=inputs.ground_truth,
        detections=inputs.detections,
    )


def _find_rows(inputs: MatchInputs, table: MatchTable) -> Places:
    """The row among the detections of each row of the match table.

    Raises:
        ValueError: If they are not the same detections, or the objects are not those of the table.
    """
    boxes = inputs.detection_boxes
    order = table.row
    if not np.array_equal(boxes.row, np.arange(len(boxes.row))):
        ties = (boxes.row, boxes.image) if inputs.rules.ties_by_image else (boxes.row,)
        order = np.lexsort((*ties, -boxes.score, boxes.label)).astype(np.int64)
    catalog = inputs.ground_truth.catalog
    is_same = (
        (table.images, table.classes) == (catalog.images, catalog.classes)
        and len(order) == len(boxes.row) == len(table)
        and all(
            np.array_equal(getattr(boxes, name)[order], getattr(table, name))
            for name in ("image", "label", "score", "row")
        )
        and np.array_equal(_count_objects(inputs), table.positives[:, 0])
    )
    if not is_same:
        raise ValueError("the match table is not that of this ground truth and these detections")
    return order


def _count_objects(inputs: MatchInputs) -> Places:
    label = inputs.truth_boxes.label[_is_counted(inputs)]
    return np.bincount(label, minlength=len(inputs.ground_truth.catalog.classes))


def _is_counted(inputs: MatchInputs) -> NDArray[np.bool_]:
    """Which objects count in the first area range."""
    low, high = inputs.rules.area_ranges[0].tolist()
    truths = inputs.truth_boxes
    is_counted: NDArray[np.bool_] = (
        (truths.kind == CLAIMABLE) & (truths.area >= low) & (truths.area <= high)
    )
    return is_counted


def _reorder(boxes: DetectionBoxes, order: Places) -> DetectionBoxes:
    columns = ("image", "label", "box", "box_area", "score", "row")
    return DetectionBoxes(**{name: getattr(boxes, name)[order] for name in columns})


def _claims(
    table: MatchTable,
    inputs: MatchInputs,
    overlap: PairList,
    row: Places,
    is_candidate: NDArray[np.bool_],
) -> tuple[Places, Floats]:
    """The object that each true positive claims, int64 [N], and their IoU, float64 [N].

    Only true positives claim counted objects, each the best that those before it left: under VOC's
    rule, too, by which a detection is judged by its best object, for that is still free then.
    """
    is_candidate = is_candidate & (table.status[0, 0, row] == TRUE_POSITIVE)
    candidates = np.flatnonzero(is_candidate)
    is_assigned = assign_in_order(
        row[candidates],
        overlap.truth[candidates],
        overlap.iou[candidates],
        is_last_preferred=inputs.rules.last_of_equals,
    )
    claims = candidates[is_assigned]
    truth, iou = np.full(len(table), -1, np.int64), np.zeros(len(table))
    truth[row[claims]], iou[row[claims]] = overlap.truth[claims], overlap.iou[claims]
    return truth, iou


def _best(
    overlap: PairList, row: Places, is_candidate: NDArray[np.bool_], N: int
) -> tuple[Places, Floats]:
    """The object of largest IoU of each row among the candidates, the first of equal ones."""
    candidates = np.flatnonzero(is_candidate)
    best = best_of_each(row[candidates], N, overlap.iou[candidates])
    is_any = best >= 0
    truth, iou = np.full(N, -1, np.int64), np.zeros(N)
    places = candidates[best[is_any]]
    truth[is_any], iou[is_any] = overlap.truth[places], overlap.iou[places]
    return truth, iou
