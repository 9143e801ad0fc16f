"""The reference implementation of accumulation: one class, area range, cap and threshold at a time.

Sources: COCOeval.accumulate of pycocotools 2.0.11; VOCap.m of the VOC2012 development kit.
"""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from upmap.kernels.accumulation import Floats, Ranked

__all__ = ["accumulate"]

FALSE_POSITIVE, TRUE_POSITIVE = 0, 1


def accumulate(
    ranked: Ranked,
    recall_points: Floats,
    max_dets: NDArray[np.int64],
    epsilon: float,
) -> tuple[Floats, Floats, Floats, Floats]:
    """Precision, recall, all_points and scores; see `upmap.kernels.accumulation.Accumulated`."""
    areas, thresholds, _ = ranked.status.shape
    classes = len(ranked.positives)
    last = (thresholds, classes, areas, len(max_dets))
    precision = np.full((thresholds, len(recall_points), classes, areas, len(max_dets)), np.nan)
    recall, all_points = np.full(last, np.nan), np.full(last, np.nan)
    scores = np.full_like(precision, np.nan)
    for k, a, m in product(range(classes), range(areas), range(len(max_dets))):
        positives = int(ranked.positives[k, a])
        if positives == 0:
            continue
        rows = np.arange(ranked.start[k], ranked.start[k + 1])
        rows = rows[ranked.rank[rows] < max_dets[m]]
        for t in range(thresholds):
            recalls, precisions = _curve(ranked.status[a, t, rows], positives, epsilon)
            recall[t, k, a, m] = recalls[-1] if len(rows) else 0
            all_points[t, k, a, m] = _area(recalls, precisions)
            at = np.searchsorted(recalls, recall_points, side="left")
            reached = at < len(rows)
            precision[t, :, k, a, m] = scores[t, :, k, a, m] = 0
            precision[t, reached, k, a, m] = precisions[at[reached]]
            scores[t, reached, k, a, m] = ranked.score[rows[at[reached]]]
    return precision, recall, all_points, scores


def _curve(status: NDArray[np.uint8], positives: int, epsilon: float) -> tuple[Floats, Floats]:
    """Recall after each detection, and the largest precision from there on."""
    recalls, precisions = np.zeros(len(status)), np.zeros(len(status))
    found = false = 0
    for i, state in enumerate(status):
        found += int(state == TRUE_POSITIVE)
        false += int(state == FALSE_POSITIVE)
        recalls[i] = found / positives
        if found + false:
            precisions[i] = found / (false + found + epsilon)
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
