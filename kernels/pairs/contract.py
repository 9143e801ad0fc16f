"""Types of pairs: what its implementations take and return."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from upmap.kernels.matching.contract import DetectionBoxes, TruthBoxes

__all__ = ["PairArrays", "PairFinder", "PairList"]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class PairList:
    """The ground truths that each detection overlaps, of all classes.

    Attributes:
        start: int64 [N + 1], where the pairs of each detection begin; start[N] = E.
        truth: int32 [E], a ground truth of the detection's image, ascending for each detection.
        iou: float64 [E], of the two, as the matching kernel computes it.
    """

    start: NDArray[np.int64]
    truth: NDArray[np.int32]
    iou: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.truth)


PairArrays = tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.float64]]
# (detections, ground truths, side offset, least IoU, threads) -> the columns of PairList
PairFinder = Callable[[DetectionBoxes, TruthBoxes, float, float, int], PairArrays]
