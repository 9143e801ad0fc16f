"""Precision, recall and average precision of a match table.

Sources: VOCevaldet.m and VOCap.m of the development kits; COCOeval.accumulate of pycocotools.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from upmap.kernels import Implementation, accumulation
from upmap.kernels.accumulation import Accumulated, TieOrder
from upmap.kernels.matching import FALSE_POSITIVE, MAX_DETECTIONS, TRUE_POSITIVE, Matches
from upmap.metrics.match_table import MatchTable
from upmap.metrics.protocols import Protocol

__all__ = ["Curve", "accumulate", "precision_recall_curve", "precision_samples"]


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
    is_counted = (table.rank[rows] < _caps(table.protocol)[cap]) & (
        (status == TRUE_POSITIVE) | (status == FALSE_POSITIVE)
    )
    true = np.cumsum(status[is_counted] == TRUE_POSITIVE)
    positives = int(table.positives[label, area])
    return Curve(
        score=table.score[rows][is_counted],
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
    ties: TieOrder = "kept",
    threads: int = 0,
    impl: Implementation | None = None,
) -> Accumulated:
    """Precision, recall and area under the curve of every class, threshold, area range and cap.

    Args:
        table: The match table.
        caps: The places in max_dets of the C caps under which precision, area and scores are
            computed, ascending; None for all M. Recall is computed under all.
        classes: The places of the K classes that are computed, ascending; None for all.
        with_scores: Whether to return the scores at which recalls are reached.
        ties: How detections of one class and equal score stand, see `kernels.accumulation`.
        threads: Maximum number of threads; 0 uses all cores.
        impl: "native" or "reference"; None selects the fastest available.
    """
    protocol = table.protocol
    return accumulation.accumulate(
        table if classes is None else _select_classes(table, classes),
        recall_points=np.array(protocol.recall_points or (), np.float64),
        max_dets=_caps(protocol),
        curve_caps=None if caps is None else np.array(caps, np.int64),
        epsilon=protocol.epsilon,
        with_areas=protocol.recall_points is None,
        with_scores=with_scores,
        ties=ties,
        threads=threads,
        impl=impl,
    )


def precision_samples(accumulated: Accumulated) -> NDArray[np.float64]:
    """The values whose mean is average precision, float64 [T, R, K, A, C]; R is 1 for an area."""
    if accumulated.all_points is None:
        return accumulated.precision
    return accumulated.all_points[:, np.newaxis]


def _select_classes(matches: Matches, classes: NDArray[np.int64]) -> Matches:
    """The matches of some classes for accumulation, without a copy of the status, the largest part.

    The rows of the other classes stay in the range of a class beside them, with a rank that no cap
    includes. Labels, which accumulation does not read, stay as they are.
    """
    K = len(matches.positives)
    if len(classes) == K:
        return matches
    counts = np.diff(matches.start)
    is_left_out = np.ones(K, bool)
    is_left_out[classes] = False
    rank = matches.rank
    if counts[is_left_out].any():
        rank = np.where(np.repeat(is_left_out, counts), np.int32(MAX_DETECTIONS), rank)
    start = np.concatenate([[0], matches.start[classes[1:]], [len(matches)]])
    return replace(matches, rank=rank, start=start, positives=matches.positives[classes])


def _caps(protocol: Protocol) -> NDArray[np.int64]:
    """The caps as integers; for math.inf one that no rank reaches."""
    return np.minimum(protocol.max_dets, MAX_DETECTIONS).astype(np.int64)
