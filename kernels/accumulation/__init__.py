"""Accumulation: from the status of ranked detections to precision, recall and average precision.

Sources: COCOeval.accumulate of pycocotools 2.0.11; VOCap.m of the VOC2012 development kit.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from kernels import chosen

try:
    from kernels.accumulation import native
except ImportError:
    native = None  # type: ignore[assignment]

__all__ = ["IMPLEMENTATIONS", "Accumulated", "Ranked", "accumulate"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranked:
    """Matched detections in curve order (by class, then descending score).

    Attributes:
        status: uint8 [A, T, N], 0 false positive, 1 true positive, 2 ignored.
        rank: int32 [N], by score within image and class, from 0.
        score: float64 [N].
        start: int64 [K + 1], where each class begins; start[K] = N.
        positives: int64 [K, A].
    """

    status: NDArray[np.uint8]
    rank: NDArray[np.int32]
    score: NDArray[np.float64]
    start: NDArray[np.int64]
    positives: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Accumulated:
    """Precision and recall of every class; NaN where a class has no positives.

    Attributes:
        precision: float64 [T, R, K, A, M], the largest at this recall or beyond; 0 if not reached.
        recall: float64 [T, K, A, M], the last.
        all_points: float64 [T, K, A, M], the area under the interpolated precision.
        scores: float64 [T, R, K, A, M], the score at which a recall is reached; None unless asked.
    """

    precision: NDArray[np.float64]
    recall: NDArray[np.float64]
    all_points: NDArray[np.float64]
    scores: NDArray[np.float64] | None


Floats = NDArray[np.float64]
Arrays = tuple[Floats, Floats, Floats, Floats | None]
Accumulator = Callable[[Ranked, Floats, NDArray[np.int64], float, bool, int], Arrays]


def _native(
    ranked: Ranked,
    recall_points: Floats,
    max_dets: NDArray[np.int64],
    epsilon: float,
    with_scores: bool,
    threads: int,
) -> Arrays:
    status = np.ascontiguousarray(np.moveaxis(ranked.status, 2, 0))
    return native.accumulate(ranked, status, recall_points, max_dets, epsilon, with_scores, threads)


def _reference(
    ranked: Ranked,
    recall_points: Floats,
    max_dets: NDArray[np.int64],
    epsilon: float,
    with_scores: bool,
    threads: int,
) -> Arrays:
    from kernels.accumulation import reference

    return reference.accumulate(ranked, recall_points, max_dets, epsilon, with_scores, threads)


IMPLEMENTATIONS: Mapping[str, Accumulator | None] = {
    "native": None if native is None else _native,
    "reference": _reference,
}


def accumulate(
    ranked: Ranked,
    *,
    recall_points: Floats,
    max_dets: NDArray[np.int64],
    epsilon: float,
    with_scores: bool = False,
    threads: int = 0,
    impl: Literal["native", "reference"] | None = None,
) -> Accumulated:
    """Accumulates ranked detections into precision and recall.

    Args:
        ranked: The detections.
        recall_points: float64 [R], ascending; R may be 0 where only all_points is wanted.
        max_dets: int64 [M]; detections of this rank or beyond are left out.
        epsilon: Added to the denominator of the precision, as pycocotools does; 0 otherwise.
        with_scores: Whether to return the scores too.
        threads: At most so many; 0 for as many as the machine has.
        impl: A key of IMPLEMENTATIONS; None for the best that is built.

    Raises:
        ValueError: If the shapes disagree, or `impl` is unknown or not built.
    """
    rows = ranked.status.shape[2]
    if not rows == ranked.rank.size == ranked.score.size == ranked.start[-1]:
        raise ValueError("status, rank, score and start must speak of the same detections")
    if ranked.positives.shape != (ranked.start.size - 1, ranked.status.shape[0]):
        raise ValueError("positives must be [K, A]")
    function = chosen(IMPLEMENTATIONS, impl)
    points = np.ascontiguousarray(recall_points, np.float64)
    caps = np.ascontiguousarray(max_dets, np.int64)
    return Accumulated(*function(ranked, points, caps, epsilon, with_scores, threads))
