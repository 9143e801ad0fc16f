"""Where to set the score threshold of a detector, and what it then finds and reports wrongly.

Thresholds are scores of the data, so every number is a count: no curve is smoothed or interpolated.
The best F1 on a set is a little too good for the next one, as every maximum over data is.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from upmap.metrics.analysis.counted_rows import CountedRows, select_rows
from upmap.metrics.match_table import MatchTable
from upmap.metrics.means import mean_without_nan

__all__ = ["CountCurve", "OperatingPoint", "OperatingPoints", "find_operating_points"]

TARGET = 0.9  # precision, and recall, of the other two thresholds of a class
SAME = 1e-12  # sums of F1 that differ by less are equal but for rounding

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """The detections of a score of at least the threshold, counted.

    Attributes:
        threshold: A score; NaN where there is none, and then nothing is reported.
        true_positives: Of them.
        false_positives: Of them.
        positives: All objects.
    """

    threshold: float
    true_positives: int
    false_positives: int
    positives: int

    @property
    def precision(self) -> float:
        """The true part of what is reported; 0 if nothing is."""
        return self.true_positives / max(1, self.true_positives + self.false_positives)

    @property
    def recall(self) -> float:
        """The part of the objects that is found; NaN without objects."""
        return self.true_positives / self.positives if self.positives else math.nan

    @property
    def F1(self) -> float:
        """Twice the true positives over what is reported and what is there; NaN without objects."""
        if not self.positives:
            return math.nan
        reported = self.true_positives + self.false_positives
        return 2 * self.true_positives / (reported + self.positives)

    def to_record(self) -> dict[str, Any]:
        """The point as plain data, for JSON."""
        numbers = {"precision": self.precision, "recall": self.recall, "F1": self.F1}
        return asdict(self) | numbers


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class OperatingPoints:
    """Thresholds by class, and one for all; at one IoU threshold.

    Attributes:
        iou: The IoU threshold.
        threshold: The score that gives the largest mean F1 over classes with objects; of equal
            ones the highest. NaN without any.
        mean_F1: That mean.
        common: Class name to its point at that score.
        best_F1: Class name to the point of its largest F1; of equal ones the highest threshold.
        precision_90: Class name to its lowest threshold with a precision of 90 %.
        recall_90: Class name to its highest threshold with a recall of 90 %.
    """

    iou: float
    threshold: float
    mean_F1: float
    common: Mapping[str, OperatingPoint]
    best_F1: Mapping[str, OperatingPoint]
    precision_90: Mapping[str, OperatingPoint]
    recall_90: Mapping[str, OperatingPoint]

    def to_record(self) -> dict[str, Any]:
        """The result as plain data, for JSON."""
        kinds = ("common", "best_F1", "precision_90", "recall_90")
        return {
            "iou": self.iou,
            "threshold": self.threshold,
            "mean_F1": self.mean_F1,
            "per_class": [
                {"name": name} | {kind: getattr(self, kind)[name].to_record() for kind in kinds}
                for name in self.best_F1
            ],
        }


def find_operating_points(table: MatchTable, *, iou: int = 0) -> OperatingPoints:
    """Finds score thresholds: for each class by F1, precision and recall, and one for all by F1.

    Args:
        table: The match table.
        iou: The place of the IoU threshold.
    """
    rows = select_rows(table, iou=iou)
    curves = [CountCurve.of(rows, k) for k in range(len(table.classes))]
    threshold = _best_common_threshold(curves)
    common = [curve.point(curve.end_of(threshold)) for curve in curves]
    by_kind = {
        "best_F1": [curve.point(curve.best_F1()) for curve in curves],
        "precision_90": [curve.point(curve.last_with_precision(TARGET)) for curve in curves],
        "recall_90": [curve.point(curve.first_with_recall(TARGET)) for curve in curves],
    }
    names = table.classes
    return OperatingPoints(
        iou=table.protocol.iou_thresholds[iou],
        threshold=threshold,
        mean_F1=mean_without_nan(np.array([point.F1 for point in common])),
        common=dict(zip(names, common, strict=True)),
        **{kind: dict(zip(names, points, strict=True)) for kind, points in by_kind.items()},
    )


@dataclass(frozen=True, slots=True, eq=False)
class CountCurve:
    """Counts of a class down to each of its scores, at the ends of equal ones.

    Attributes:
        score: float64 [n], descending, each once.
        true: int64 [n], true positives of at least that score.
        reported: int64 [n], counted detections of at least that score.
        positives: Counted objects.
    """

    score: Floats
    true: NDArray[np.int64]
    reported: NDArray[np.int64]
    positives: int

    @classmethod
    def of(cls, rows: CountedRows, k: int) -> "CountCurve":
        """The curve of class `k`."""
        part = rows.of_class(k)
        ends = np.flatnonzero(rows.is_last_of_ties[part])
        true = np.cumsum(rows.is_true[part], dtype=np.int64)
        return cls(rows.score[part][ends], true[ends], ends + 1, int(rows.positives[k]))

    @property
    def F1(self) -> Floats:
        """F1 at each score, float64 [n]."""
        return 2 * self.true / (self.reported + self.positives)

    def point(self, place: int) -> OperatingPoint:
        """The point of a place; -1 reports nothing."""
        if place < 0:
            return OperatingPoint(math.nan, 0, 0, self.positives)
        true = int(self.true[place])
        reported = int(self.reported[place])
        return OperatingPoint(float(self.score[place]), true, reported - true, self.positives)

    def end_of(self, threshold: float) -> int:
        """The place of the last score of at least the threshold."""
        return int(np.searchsorted(-self.score, -threshold, side="right")) - 1

    def best_F1(self) -> int:
        """The first place of the largest F1; -1 if nothing true is reported."""
        if not self.positives or not self.true.any():
            return -1
        return int(np.argmax(self.F1))

    def last_with_precision(self, target: float) -> int:
        """The last place with at least that precision; -1 for none."""
        places = np.flatnonzero(self.true >= target * self.reported)
        return int(places[-1]) if self.positives and len(places) else -1

    def first_with_recall(self, target: float) -> int:
        """The first place with at least that recall; -1 for none."""
        places = np.flatnonzero(self.true >= target * self.positives)
        return int(places[0]) if self.positives and len(places) else -1


def _best_common_threshold(curves: list[CountCurve]) -> float:
    """The score of the largest sum of F1 over classes with objects, of equal ones the highest.

    F1 of a class changes at its own scores alone, so the sum is one walk over all scores.
    """
    defined = [curve for curve in curves if curve.positives and len(curve.score)]
    if not defined:
        return math.nan
    score = np.concatenate([curve.score for curve in defined])
    change = np.concatenate([np.diff(curve.F1, prepend=0.0) for curve in defined])
    order = np.argsort(-score, kind="stable")
    score, total = score[order], np.cumsum(change[order])
    is_end = np.append(np.diff(score) != 0, True)
    score, total = score[is_end], total[is_end]
    return float(score[np.argmax(total >= total.max() - SAME)])
