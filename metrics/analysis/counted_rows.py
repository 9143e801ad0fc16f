"""The detections that count at a threshold: the rows of the precision-recall curves."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from upmap.kernels.matching import IGNORED, TRUE_POSITIVE
from upmap.metrics.match_table import MatchTable

__all__ = ["CountedRows", "select_rows"]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class CountedRows:
    """The n rows of a match table that are not ignored, in curve order.

    Attributes:
        row: int64 [n], in the match table.
        label: int32 [n], ascending.
        score: float64 [n], descending within a class.
        is_true: bool [n], the true positives.
        start: int64 [K + 1], where each class begins.
        is_last_of_ties: bool [n], the last row of a class and score.
        positives: int64 [K], counted ground truths.
    """

    row: NDArray[np.int64]
    label: NDArray[np.int32]
    score: NDArray[np.float64]
    is_true: NDArray[np.bool_]
    start: NDArray[np.int64]
    is_last_of_ties: NDArray[np.bool_]
    positives: NDArray[np.int64]

    def of_class(self, k: int) -> slice:
        """The rows of a class."""
        return slice(int(self.start[k]), int(self.start[k + 1]))


def select_rows(table: MatchTable, *, iou: int = 0, area: int = 0) -> CountedRows:
    """The rows of a match table that are not ignored.

    Args:
        table: The match table.
        iou: The place of the IoU threshold.
        area: The place of the area range.
    """
    status = table.status[area, iou]
    row = np.flatnonzero(status != IGNORED)
    label, score = table.label[row], table.score[row]
    is_last = np.ones(len(row), bool)
    is_last[:-1] = (np.diff(label) != 0) | (np.diff(score) != 0)
    return CountedRows(
        row=row,
        label=label,
        score=score,
        is_true=status[row] == TRUE_POSITIVE,
        start=np.searchsorted(label, np.arange(len(table.classes) + 1)).astype(np.int64),
        is_last_of_ties=is_last,
        positives=table.positives[:, area],
    )
