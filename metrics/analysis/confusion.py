"""Which classes are taken for which: a confusion matrix that agrees with the evaluation.

The diagonal is what the protocol itself calls true, ignored detections are in no cell, and every
counted object and every counted detection is in exactly one: rows sum to the objects of a class,
columns to its detections.
"""

from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from upmap.metrics.analysis.assignment import assign_in_order
from upmap.metrics.analysis.counted_rows import select_rows
from upmap.metrics.analysis.pairs import Pairs
from upmap.metrics.match_table import MatchTable

__all__ = ["ConfusedPair", "Confusion", "count_confusions"]


@dataclass(frozen=True, slots=True)
class ConfusedPair:
    """Objects of one class that were taken for another.

    Attributes:
        true: The class of the objects.
        predicted: The class of the detections.
        count: How many.
        share: Of the objects of the class.
    """

    true: str
    predicted: str
    count: int
    share: float


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Confusion:
    """A confusion matrix of detection.

    Attributes:
        classes: The class names.
        counts: int64 [K + 1, K + 1]: rows are the true classes, columns the predicted ones, the
            last of each is background: objects not found, and detections of nothing.
        threshold: Detections of a smaller score are left out.
        iou: The IoU threshold.
    """

    classes: tuple[str, ...]
    counts: NDArray[np.int64]
    threshold: float
    iou: float

    def normalize(self, by: Literal["true", "predicted"] = "true") -> NDArray[np.float64]:
        """The matrix as shares, float64 [K + 1, K + 1]; NaN in empty rows or columns.

        Args:
            by: "true": each row adds up to 1, so the diagonal is recall. "predicted": each column
                does, so it is precision.

        Raises:
            ValueError: If it is neither.
        """
        if by not in ("true", "predicted"):
            raise ValueError(f"by must be 'true' or 'predicted', not {by!r}")
        sums = self.counts.sum(axis=1 if by == "true" else 0, keepdims=True)
        if by == "true":
            sums = sums.reshape(-1, 1)
        return np.where(sums > 0, self.counts / np.maximum(sums, 1), np.nan)

    def top_pairs(self, limit: int = 10) -> list[ConfusedPair]:
        """The most frequent confusions of two classes, at most `limit`; background is none."""
        K = len(self.classes)
        off = self.counts[:K, :K].copy()
        np.fill_diagonal(off, 0)
        order = np.argsort(-off, axis=None, kind="stable")[:limit]
        objects = self.counts[:K].sum(axis=1)
        return [
            ConfusedPair(
                self.classes[true],
                self.classes[predicted],
                int(off[true, predicted]),
                float(off[true, predicted] / objects[true]),
            )
            for true, predicted in (divmod(place, K) for place in order.tolist())
            if off[true, predicted]
        ]

    def to_record(self) -> dict[str, Any]:
        """The result as plain data, for JSON: the cells that are not 0."""
        true, predicted = np.nonzero(self.counts)
        cells = np.stack([true, predicted, self.counts[true, predicted]], axis=1)
        return {
            "threshold": self.threshold,
            "iou": self.iou,
            "classes": list(self.classes),
            "layout": "[true, predicted, count]; one index beyond the classes is background",
            "cells": cells.tolist(),
            "top_pairs": [asdict(pair) for pair in self.top_pairs()],
        }


def count_confusions(pairs: Pairs, table: MatchTable, *, threshold: float) -> Confusion:
    """Counts which objects are detected as which class, at the protocol's first IoU threshold.

    True positives are the protocol's. Each other counted detection, the best scored first, takes
    of the objects of other classes that are still free the one of largest IoU, if that passes.

    Args:
        pairs: The pairs of the match table.
        table: The match table.
        threshold: Detections of a smaller score are left out; NaN leaves out all.
    """
    K, iou = len(table.classes), table.protocol.iou_thresholds[0]
    rows = select_rows(table)
    reported = rows.row[rows.score >= threshold]
    is_true = pairs.truth[reported] >= 0
    right, false = reported[is_true], reported[~is_true]
    is_free = pairs.is_counted.copy()
    is_free[pairs.truth[right]] = False
    row, truth = _confuse(
        pairs, table, false[np.lexsort((table.row[false], -table.score[false]))], is_free
    )
    counts = np.zeros((K + 1, K + 1), np.int64)
    truth_label = pairs.ground_truth.label
    np.add.at(counts, (table.label[right], table.label[right]), 1)
    np.add.at(counts, (truth_label[truth], table.label[row]), 1)
    is_free[truth] = False
    counts[:K, K] = np.bincount(truth_label[is_free], minlength=K)
    counts[K, :K] = np.bincount(table.label[np.setdiff1d(false, row)], minlength=K)
    return Confusion(classes=table.classes, counts=counts, threshold=threshold, iou=iou)


def _confuse(
    pairs: Pairs, table: MatchTable, false: NDArray[np.int64], is_free: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The rows that take an object of another class, and those objects; `false` is in order."""
    overlap, protocol = pairs.overlap, table.protocol
    row = np.repeat(np.arange(len(table)), np.diff(overlap.start))
    place = np.full(len(table), -1, np.int64)
    place[false] = np.arange(len(false))
    iou = min(protocol.iou_thresholds[0], protocol.iou_ceiling)
    passes = overlap.iou > iou if protocol.strict else overlap.iou >= iou
    is_other = pairs.ground_truth.label[overlap.truth] != table.label[row]
    candidates = np.flatnonzero(passes & is_other & is_free[overlap.truth] & (place[row] >= 0))
    is_taken = assign_in_order(
        place[row[candidates]], overlap.truth[candidates], overlap.iou[candidates]
    )
    chosen = candidates[is_taken]
    return row[chosen], overlap.truth[chosen].astype(np.int64)
