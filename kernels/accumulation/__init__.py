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

__all__ = ["IMPLEMENTATIONS", "Accumulated", "Ranked", "accumulate", "recalls"]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
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


@dataclass(frozen=True, slots=True, eq=False)
class Accumulated:
    """Precision and recall of every class; NaN where a class has no positives.

    Attributes:
        precision: float64 [T, R, K, A, M], the largest at this recall or beyond; 0 if not reached.
        recall: float64 [T, K, A, M], the last.
        all_points: float64 [T, K, A, M], the area under precision so interpolated; or None.
        scores: float64 [T, R, K, A, M], the score at which a recall is reached; None unless asked.
    """

    precision: NDArray[np.float64]
    recall: NDArray[np.float64]
    all_points: NDArray[np.float64] | None
    scores: NDArray[np.float64] | None


Floats = NDArray[np.float64]
Caps = NDArray[np.int64]
Arrays = tuple[Floats, Floats, Floats | None, Floats | None]
Accumulator = Callable[[Ranked, Floats, Caps, float, bool, bool, int], Arrays]
Recalls = Callable[[Ranked, Caps, int], Floats]


def _by_detection(ranked: Ranked) -> NDArray[np.uint8]:
    """The status as [N, A, T], as matching makes it: no copy."""
    return np.ascontiguousarray(np.moveaxis(ranked.status, 2, 0))


def _native(
    ranked: Ranked,
    recall_points: Floats,
    max_dets: Caps,
    epsilon: float,
    with_areas: bool,
    with_scores: bool,
    threads: int,
) -> Arrays:
    status = _by_detection(ranked)
    return native.accumulate(
        ranked, status, recall_points, max_dets, epsilon, with_areas, with_scores, threads
    )


def _native_recalls(ranked: Ranked, max_dets: Caps, threads: int) -> Floats:
    return native.recalls(ranked, _by_detection(ranked), max_dets, threads)


def _reference(
    ranked: Ranked,
    recall_points: Floats,
    max_dets: Caps,
    epsilon: float,
    with_areas: bool,
    with_scores: bool,
    threads: int,
) -> Arrays:
    from kernels.accumulation import reference

    precision, recall, all_points, scores = reference.accumulate(
        ranked, recall_points, max_dets, epsilon
    )
    return precision, recall, all_points if with_areas else None, scores if with_scores else None


def _reference_recalls(ranked: Ranked, max_dets: Caps, threads: int) -> Floats:
    from kernels.accumulation import reference

    return reference.accumulate(ranked, np.zeros(0), max_dets, 0.0)[1]


# For each implementation, how it finds whole curves, and where they end.
IMPLEMENTATIONS: Mapping[str, tuple[Accumulator, Recalls] | None] = {
    "native": None if native is None else (_native, _native_recalls),
    "reference": (_reference, _reference_recalls),
}
Implementation = Literal["native", "reference"]


def accumulate(
    ranked: Ranked,
    *,
    recall_points: Floats,
    max_dets: Caps,
    epsilon: float,
    with_areas: bool = True,
    with_scores: bool = False,
    threads: int = 0,
    impl: Implementation | None = None,
) -> Accumulated:
    """Accumulates ranked detections into precision and recall.

    Args:
        ranked: The detections.
        recall_points: float64 [R], ascending; R may be 0 where only all_points is wanted.
        max_dets: int64 [M]; detections of this rank or beyond are left out.
        epsilon: Added to the denominator of the precision, as pycocotools does; 0 otherwise.
        with_areas: Whether to return all_points too.
        with_scores: Whether to return the scores too.
        threads: At most so many; 0 for as many as the machine has.
        impl: A key of IMPLEMENTATIONS; None for the best that is built.

    Raises:
        ValueError: If the shapes disagree, or `impl` is unknown or not built.
    """
    _check(ranked)
    function = chosen(IMPLEMENTATIONS, impl)[0]
    points = np.ascontiguousarray(recall_points, np.float64)
    caps = np.ascontiguousarray(max_dets, np.int64)
    return Accumulated(*function(ranked, points, caps, epsilon, with_areas, with_scores, threads))


def recalls(
    ranked: Ranked,
    *,
    max_dets: Caps,
    threads: int = 0,
    impl: Implementation | None = None,
) -> Floats:
    """The recall in which each curve ends: `Accumulated.recall` for less work, [T, K, A, M].

    Args:
        ranked: The detections.
        max_dets: int64 [M]; detections of this rank or beyond are left out.
        threads: At most so many; 0 for as many as the machine has.
        impl: A key of IMPLEMENTATIONS; None for the best that is built.

    Raises:
        ValueError: If the shapes disagree, or `impl` is unknown or not built.
    """
    _check(ranked)
    function = chosen(IMPLEMENTATIONS, impl)[1]
    return function(ranked, np.ascontiguousarray(max_dets, np.int64), threads)


def _check(ranked: Ranked) -> None:
    rows = ranked.status.shape[2]
    if not rows == ranked.rank.size == ranked.score.size == ranked.start[-1]:
        raise ValueError("status, rank, score and start must speak of the same detections")
    if ranked.positives.shape != (ranked.start.size - 1, ranked.status.shape[0]):
        raise ValueError("positives must be [K, A]")
