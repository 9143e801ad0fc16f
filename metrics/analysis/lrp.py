"""Localization Recall Precision: one error for loose boxes, false detections and missed objects.

Source: K. Oksuz, B. C. Cam, E. Akbas and S. Kalkan, "Localization Recall Precision (LRP): A New
Performance Metric for Object Detection" (ECCV 2018; TPAMI 2021); the authors' LRP-Error.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from upmap.metrics.analysis.counted_rows import CountedRows, select_rows
from upmap.metrics.analysis.pairs import Pairs
from upmap.metrics.match_table import MatchTable
from upmap.metrics.means import mean_without_nan

__all__ = ["LRP", "ClassLRP", "measure_lrp"]


@dataclass(frozen=True, slots=True)
class ClassLRP:
    """The optimal LRP error of a class and its parts; NaN is undefined.

    Attributes:
        oLRP: The smallest LRP error over all score thresholds, 0 (perfect) to 1.
        localization: The mean of 1 - IoU of the true positives there.
        false_positives: The false part of the detections there.
        false_negatives: The part of the objects that is not found there.
        threshold: The score there.
    """

    oLRP: float
    localization: float
    false_positives: float
    false_negatives: float
    threshold: float


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class LRP:
    """The optimal LRP error of classes, and the means over those with objects.

    Attributes:
        iou: The IoU threshold.
        official: Whether thresholds may divide detections of equal score.
        oLRP: The mean over classes; so are the next three.
        localization: Of the classes where it is defined; so are the others.
        false_positives: See `ClassLRP`.
        false_negatives: See `ClassLRP`.
        per_class: Class name to its error.
    """

    iou: float
    official: bool
    oLRP: float
    localization: float
    false_positives: float
    false_negatives: float
    per_class: Mapping[str, ClassLRP]

    def to_record(self) -> dict[str, Any]:
        """The result as plain data, for JSON."""
        means = ("iou", "official", "oLRP", "localization", "false_positives", "false_negatives")
        per_class = [{"name": name, **asdict(part)} for name, part in self.per_class.items()]
        return {name: getattr(self, name) for name in means} | {"per_class": per_class}


def measure_lrp(pairs: Pairs, table: MatchTable, *, official: bool = False) -> LRP:
    """Measures the optimal LRP error at the protocol's first IoU threshold and area range.

    Args:
        pairs: The pairs of the match table.
        table: The match table.
        official: Also take thresholds that divide detections of equal score, as the authors' code
            does; no threshold can do that, so by default only ends of equal scores count.
    """
    rows = select_rows(table)
    iou = table.protocol.iou_thresholds[0]
    parts = [
        _measure_class(rows, k, pairs.iou[rows.row[rows.of_class(k)]], iou, official=official)
        for k in range(len(table.classes))
    ]
    names = ("oLRP", "localization", "false_positives", "false_negatives")
    means = {
        name: mean_without_nan(np.array([getattr(part, name) for part in parts])) for name in names
    }
    per_class = dict(zip(table.classes, parts, strict=True))
    return LRP(iou=iou, official=official, per_class=per_class, **means)


def _measure_class(
    rows: CountedRows, k: int, overlap: np.ndarray[Any, Any], iou: float, *, official: bool
) -> ClassLRP:
    """The error of class k, from the IoU of its true rows."""
    part, positives = rows.of_class(k), int(rows.positives[k])
    is_true = rows.is_true[part]
    if not positives or not is_true.any():
        undefined = math.nan if not positives else 1.0
        return ClassLRP(undefined, math.nan, math.nan, undefined, math.nan)
    true, reported = np.cumsum(is_true), np.arange(1, len(is_true) + 1)
    loose = np.cumsum(np.where(is_true, 1 - overlap, 0.0))
    # At an IoU threshold of 1 every true box is exact: 0 / 0 is no error.
    weighted = loose / (1 - iou) if iou < 1 else np.zeros(len(loose))
    errors = (weighted + (reported - true) + (positives - true)) / (reported + positives - true)
    places = np.arange(len(errors)) if official else np.flatnonzero(rows.is_last_of_ties[part])
    s = int(places[np.argmin(errors[places])])
    return ClassLRP(
        oLRP=float(errors[s]),
        localization=float(loose[s] / true[s]) if true[s] else math.nan,
        false_positives=float((reported[s] - true[s]) / reported[s]),
        false_negatives=float((positives - true[s]) / positives),
        threshold=float(rows.score[part][s]),
    )
