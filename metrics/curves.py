"""From the match table to precision, recall and average precision.

Sources: VOCevaldet.m and VOCap.m of the development kits; COCOeval.accumulate of pycocotools.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from upmap.kernels import accumulation
from upmap.kernels.accumulation import Accumulated, Ranked
from upmap.kernels.matching import FALSE_POSITIVE, TRUE_POSITIVE
from upmap.metrics.matching import ALL_DETECTIONS, Implementation, MatchTable
from upmap.metrics.protocol import Protocol

__all__ = ["Curve", "accumulate", "final_recall", "precision_recall_curve", "precision_samples"]


@dataclass(frozen=True, slots=True, eq=False)
class Curve:
    """Precision against recall of one class, one point per detection that is not ignored.

    Attributes:
        score: float64 [n], descending.
        precision: float64 [n], of the detections down to this score.
        recall: float64 [n]; NaN where there are no positives.
        positives: The number of counted ground truths.
    """

    score: NDArray[np.float64]
    precision: NDArray[np.float64]
    recall: NDArray[np.float64]
    positives: int


def precision_recall_curve(
    table: MatchTable, label: int, *, iou: int = 0, area: int = 0, cap: int = -1
) -> Curve:
    """The precision-recall curve of a class.

    Args:
        table: The match table.
        label: The place of the class.
        iou: The place of the IoU threshold.
        area: The place of the area range.
        cap: The place in max_dets.
    """
    rows = slice(*table.start[label : label + 2])
    status = table.status[area, iou, rows]
    seen = (table.rank[rows] < _caps(table.protocol)[cap]) & (
        (status == TRUE_POSITIVE) | (status == FALSE_POSITIVE)
    )
    true = np.cumsum(status[seen] == TRUE_POSITIVE)
    positives = int(table.positives[label, area])
    return Curve(
        score=table.score[rows][seen],
        precision=true / np.arange(1, len(true) + 1),
        recall=true / positives if positives else np.full(len(true), np.nan),
        positives=positives,
    )


def accumulate(
    table: MatchTable,
    *,
    caps: Sequence[int] | None = None,
    classes: NDArray[np.int64] | None = None,
    with_scores: bool = False,
    impl: Implementation | None = None,
    threads: int = 0,
) -> Accumulated:
    """Precision, recall and area under the curve of every class, threshold, area range and cap.

    Args:
        table: The match table.
        caps: The places in max_dets of those wanted; None for all.
        classes: The places of those wanted, ascending, of which K are counted; None for all.
        with_scores: Whether to return the scores at which recalls are reached.
        impl: "native" or "reference"; None for the best that is built.
        threads: Maximum number of threads; 0 uses all cores.
    """
    protocol = table.protocol
    max_dets = _caps(protocol)
    return accumulation.accumulate(
        _rank_detections(table, classes),
        recall_points=np.array(protocol.recall_points or (), np.float64),
        max_dets=max_dets if caps is None else max_dets[list(caps)],
        epsilon=protocol.epsilon,
        with_areas=protocol.recall_points is None,
        with_scores=with_scores,
        threads=threads,
        impl=impl,
    )


def final_recall(
    table: MatchTable,
    *,
    classes: NDArray[np.int64] | None = None,
    impl: Implementation | None = None,
    threads: int = 0,
) -> NDArray[np.float64]:
    """The recall that each class reaches, float64 [T, K, A, M]; NaN where it has no positives.

    Args:
        table: The match table.
        classes: See `accumulate`.
        impl: "native" or "reference"; None for the best that is built.
        threads: Maximum number of threads; 0 uses all cores.
    """
    ranked = _rank_detections(table, classes)
    caps = _caps(table.protocol)
    return accumulation.recalls(ranked, max_dets=caps, threads=threads, impl=impl)


def precision_samples(found: Accumulated) -> NDArray[np.float64]:
    """What average precision is the mean of, float64 [T, R, K, A, M]; R is 1 for an area."""
    if found.all_points is None:
        return found.precision
    return found.all_points[:, np.newaxis]


def _rank_detections(table: MatchTable, classes: NDArray[np.int64] | None) -> Ranked:
    """The table's columns, or those of some classes: without a copy of the status, the largest."""
    start, rank, positives = table.start, table.rank, table.positives
    if classes is not None and len(classes) < len(positives):
        counts = np.diff(start)
        is_left_out = np.ones(len(positives), bool)
        is_left_out[classes] = False
        # The rows of the other classes stay where they are, with a rank that no cap lets through.
        if counts[is_left_out].any():
            rank = np.where(np.repeat(is_left_out, counts), np.int32(ALL_DETECTIONS), rank)
        start = np.concatenate([[0], start[classes[1:]], [len(table)]])
        positives = positives[classes]
    return Ranked(
        status=table.status, rank=rank, score=table.score, start=start, positives=positives
    )


def _caps(protocol: Protocol) -> NDArray[np.int64]:
    return np.minimum(protocol.max_dets, ALL_DETECTIONS).astype(np.int64)
