"""From the match table to precision, recall and average precision.

Sources: VOCevaldet.m and VOCap.m of the development kits; COCOeval.accumulate of pycocotools.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kernels import accumulation
from kernels.accumulation import Accumulated, Ranked
from kernels.matching import FALSE_POSITIVE, TRUE_POSITIVE
from metrics.matching import ALL_DETECTIONS, Implementation, MatchTable
from metrics.protocol import Protocol

__all__ = ["ALL_CAPS", "Curve", "accumulated", "average_precision", "curve"]

ALL_CAPS = slice(None)


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


def curve(table: MatchTable, label: int, *, iou: int = 0, area: int = 0, cap: int = -1) -> Curve:
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


def accumulated(
    table: MatchTable,
    *,
    caps: slice = ALL_CAPS,
    with_curves: bool = True,
    with_scores: bool = False,
    impl: Implementation | None = None,
) -> Accumulated:
    """Precision, recall and area under the curve of every class, threshold, area range and cap.

    Args:
        table: The match table.
        caps: Which of max_dets.
        with_curves: Whether to sample precision; otherwise R is 0.
        with_scores: Whether to return the scores at which recalls are reached.
        impl: "native" or "reference"; None for the best that is built.
    """
    protocol = table.protocol
    return accumulation.accumulate(
        Ranked(
            status=table.status,
            rank=table.rank,
            score=table.score,
            start=table.start,
            positives=table.positives,
        ),
        recall_points=np.array((with_curves and protocol.recall_points) or (), np.float64),
        max_dets=_caps(protocol)[caps],
        epsilon=protocol.epsilon,
        with_scores=with_scores,
        impl=impl,
    )


def average_precision(found: Accumulated, protocol: Protocol) -> NDArray[np.float64]:
    """Average precision, float64 [T, K, A, M]; NaN where a class has no positives."""
    if protocol.recall_points is None:
        return found.all_points
    return np.asarray(found.precision.mean(axis=1))


def _caps(protocol: Protocol) -> NDArray[np.int64]:
    return np.minimum(protocol.max_dets, ALL_DETECTIONS).astype(np.int64)
