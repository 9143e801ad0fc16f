"""Reference accumulation: one class, area range, cap and IoU threshold at a time.

Sources: COCOeval.accumulate of pycocotools 2.0.11; VOCap.m of the VOC2012 development kit.
"""

from itertools import product

import numpy as np
from numpy.typing import NDArray

from upmap.kernels.accumulation.contract import Accumulated, Floats, Settings, TieOrder
from upmap.kernels.matching.contract import FALSE_POSITIVE, TRUE_POSITIVE, Matches

__all__ = ["accumulate"]


def accumulate(matches: Matches, settings: Settings) -> Accumulated:
    """See `upmap.kernels.accumulation.accumulate`."""
    points, caps = settings.recall_points, settings.max_dets
    A, T, _ = matches.status.shape
    K, R, M = len(matches.positives), len(points), len(caps)
    precision, scores = np.full((T, R, K, A, M), np.nan), np.full((T, R, K, A, M), np.nan)
    recall, all_points = np.full((T, K, A, M), np.nan), np.full((T, K, A, M), np.nan)
    for k, a, m in product(range(K), range(A), range(M)):
        positives = int(matches.positives[k, a])
        if positives == 0:
            continue
        rows = np.arange(matches.start[k], matches.start[k + 1])
        rows = rows[matches.rank[rows] < caps[m]]
        for t in range(T):
            status = _arrange(matches.status[a, t, rows], matches.score[rows], settings.ties)
            recalls, precisions = _curve(status, positives, settings.epsilon)
            recall[t, k, a, m] = recalls[-1] if len(rows) else 0
            all_points[t, k, a, m] = _area(recalls, precisions)
            at = np.searchsorted(recalls, points, side="left")
            reached = at < len(rows)
            precision[t, :, k, a, m] = scores[t, :, k, a, m] = 0
            precision[t, reached, k, a, m] = precisions[at[reached]]
            scores[t, reached, k, a, m] = matches.score[rows[at[reached]]]
    return Accumulated(
        precision=precision[..., settings.curve_caps],
        recall=recall,
        all_points=all_points[..., settings.curve_caps] if settings.with_areas else None,
        scores=scores[..., settings.curve_caps] if settings.with_scores else None,
    )


def _arrange(status: NDArray[np.uint8], score: Floats, ties: TieOrder) -> NDArray[np.uint8]:
    """The statuses with those in front that are to stand before others of equal score."""
    if ties == "kept":
        return status
    first = TRUE_POSITIVE if ties == "true_first" else FALSE_POSITIVE
    return status[np.lexsort((status != first, -score))]


def _curve(status: NDArray[np.uint8], positives: int, epsilon: float) -> tuple[Floats, Floats]:
    """Recall after each detection, and the largest precision from there on."""
    recalls, precisions = np.zeros(len(status)), np.zeros(len(status))
    true = false = 0
    for i, state in enumerate(status):
        true += int(state == TRUE_POSITIVE)
        false += int(state == FALSE_POSITIVE)
        recalls[i] = true / positives
        if true + false:
            # In pycocotools' order of operations, which the last bit depends on.
            precisions[i] = true / (false + true + epsilon)
    for i in range(len(status) - 1, 0, -1):
        precisions[i - 1] = max(precisions[i - 1], precisions[i])
    return recalls, precisions


def _area(recalls: Floats, precisions: Floats) -> float:
    area, before = 0.0, 0.0
    for recall, precision in zip(recalls, precisions, strict=True):
        if recall != before:
            area += float((recall - before) * precision)
        before = recall
    return area
