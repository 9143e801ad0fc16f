"""The curves of the page: of each class, and of all together, counts at some hundred scores.

Every point is one of the data, with its exact counts; only how many there are is limited.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from upmap.metrics.analysis.counted_rows import CountedRows, select_rows
from upmap.metrics.analysis.operating_points import CountCurve, OperatingPoints
from upmap.metrics.match_table import MatchTable

__all__ = ["describe_curves"]

POINTS = 120  # of a curve at most, but for named thresholds
BY_SCORE = 30  # of these, evenly over all detections; the others evenly over true positives
BINS = 25  # of the histogram of scores

Places = NDArray[np.int64]


def describe_curves(table: MatchTable, points: OperatingPoints) -> dict[str, Any]:
    """The curves and histograms of all classes at the first IoU threshold, as plain data.

    Args:
        table: The match table.
        points: Its operating points, whose thresholds are points of the curves.
    """
    rows = select_rows(table)
    curves = [CountCurve.of(rows, k) for k in range(len(table.classes))]
    edges = _bin_edges(rows)
    return {
        "iou": table.protocol.iou_thresholds[0],
        "threshold": points.threshold,
        "edges": edges.tolist(),
        "all": _describe_all(rows, curves, edges, points.threshold),
        "classes": [
            _thin(curve, _places_of_buttons(curve, name, points)) | _histogram(rows, edges, k)
            for k, (name, curve) in enumerate(zip(table.classes, curves, strict=True))
        ],
    }


def _bin_edges(rows: CountedRows) -> NDArray[np.float64]:
    """Of the histogram: over [0, 1], or over the scores where those lie beyond."""
    low, high = 0.0, 1.0
    if len(rows.score):
        low, high = min(low, float(rows.score.min())), max(high, float(rows.score.max()))
    return np.linspace(low, high, BINS + 1)


def _describe_all(
    rows: CountedRows,
    curves: Sequence[CountCurve],
    edges: NDArray[np.float64],
    threshold: float,
) -> dict[str, Any]:
    """All classes together, with the mean F1 over classes with objects."""
    order = np.argsort(-rows.score, kind="stable")
    score = rows.score[order]
    ends = np.flatnonzero(np.append(np.diff(score) != 0, True)) if len(score) else order
    true = np.cumsum(rows.is_true[order], dtype=np.int64)[ends]
    pooled = CountCurve(score[ends], true, ends + 1, int(rows.positives.sum()))
    record = _thin(pooled, [pooled.end_of(threshold)])
    mean_F1 = _mean_F1(curves, np.array(record["score"]))
    return record | {"mean_F1": mean_F1} | _histogram(rows, edges)


def _mean_F1(curves: Sequence[CountCurve], thresholds: NDArray[np.float64]) -> list[float]:
    """The mean F1 over classes with objects at each threshold; empty without such classes."""
    defined = [curve for curve in curves if curve.positives]
    if not defined:
        return []
    total = np.zeros(len(thresholds))
    for curve in defined:
        F1 = np.append(curve.F1, 0.0)  # place -1: nothing is reported
        total += F1[np.searchsorted(-curve.score, -thresholds, side="right") - 1]
    means: list[float] = (total / len(defined)).tolist()
    return means


def _places_of_buttons(curve: CountCurve, name: str, points: OperatingPoints) -> list[int]:
    """The places on the curve of a class that the page's buttons lead to."""
    kinds = (points.common, points.best_F1, points.precision_90, points.recall_90)
    return [curve.end_of(kind[name].threshold) for kind in kinds]


def _thin(curve: CountCurve, places: Sequence[int]) -> dict[str, Any]:
    """The counts at `places`, where they are on the curve, and at up to POINTS others."""
    chosen = np.unique(np.append(_spread(curve), np.array(places, np.int64)))
    chosen = chosen[(chosen >= 0) & (chosen < len(curve.score))]
    return {
        "score": curve.score[chosen].tolist(),
        "true": curve.true[chosen].tolist(),
        "reported": curve.reported[chosen].tolist(),
        "positives": curve.positives,
    }


def _spread(curve: CountCurve) -> Places:
    """Places evenly over true positives, and some evenly over all detections."""
    n = len(curve.score)
    if n <= POINTS:
        return np.arange(n)
    by_true = np.linspace(1, max(1, curve.true[-1]), POINTS - BY_SCORE)
    places = np.searchsorted(curve.true, by_true.astype(np.int64))
    evenly = np.linspace(0, n - 1, BY_SCORE).astype(np.int64)
    return np.concatenate([places, evenly]).astype(np.int64)


def _histogram(
    rows: CountedRows, edges: NDArray[np.float64], k: int | None = None
) -> dict[str, Any]:
    """How many true and false detections of class `k`, or of all, have a score in each bin."""
    part = slice(None) if k is None else rows.of_class(k)
    score, is_true = rows.score[part], rows.is_true[part]
    place = np.searchsorted(edges, score, side="right") - 1
    place = np.minimum(place, BINS - 1)
    return {
        "bins_true": np.bincount(place[is_true], minlength=BINS).tolist(),
        "bins_false": np.bincount(place[~is_true], minlength=BINS).tolist(),
    }
