"""What every implementation of accumulation takes and returns.

Sources: COCOeval.accumulate of pycocotools 2.0.11; VOCap.m of the VOC2012 development kit.
"""

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

__all__ = ["MAX_ENTRIES", "TIE_ORDERS", "Accumulated", "Caps", "Floats", "Settings", "TieOrder"]

MAX_ENTRIES = 2**44  # of an array, 128 TB: beyond any memory, and no size overflows

# How detections of one class and equal score stand: as the matches have them; or, for each area
# range and threshold on its own, the true ones before or after the others.
TieOrder = Literal["kept", "true_first", "false_first"]
TIE_ORDERS: tuple[TieOrder, ...] = get_args(TieOrder)

Floats = NDArray[np.float64]
Caps = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Settings:
    """What is computed from the matches.

    Attributes:
        recall_points: float64 [R], ascending.
        max_dets: int64 [M]; detections of this rank or beyond are left out.
        curve_caps: int64 [C], places in max_dets, ascending: the caps of the curves.
        epsilon: Added to the denominator of the precision; finite and at least 0.
        with_areas: Whether all_points is computed.
        with_scores: Whether scores are computed.
        ties: How detections of equal score stand.
    """

    recall_points: Floats
    max_dets: Caps
    curve_caps: Caps
    epsilon: float
    with_areas: bool
    with_scores: bool
    ties: TieOrder


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Accumulated:
    """Precision and recall of every class; NaN where a class has no positives.

    Attributes:
        precision: float64 [T, R, K, A, C], the largest at this recall or beyond; 0 if not reached.
        recall: float64 [T, K, A, M], of all detections.
        all_points: float64 [T, K, A, C], the area under the interpolated precision; or None.
        scores: float64 [T, R, K, A, C], the score at which a recall is reached; or None.
    """

    precision: Floats
    recall: Floats
    all_points: Floats | None
    scores: Floats | None
