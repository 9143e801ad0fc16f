"""Accumulation: from the status of ranked detections to precision, recall and average precision.

Sources: COCOeval.accumulate of pycocotools 2.0.11; VOCap.m of the VOC2012 development kit.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import DTypeLike, NDArray

from upmap.kernels import import_native, select_implementation
from upmap.kernels.columns import (
    Column,
    exact_array,
    validate_columns,
    validate_threads,
    validate_within,
)

if TYPE_CHECKING:
    from upmap.kernels.accumulation import native
else:
    native = import_native("accumulation")

__all__ = ["IMPLEMENTATIONS", "Accumulated", "Ranked", "accumulate", "recalls"]

MAX_ENTRIES = 2**44  # of an array, 128 TB: what no machine has, and no size overflows


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Ranked:
    """Matched detections in curve order (by class, then descending score).

    Attributes:
        status: uint8 [A, T, N], 0 false positive, 1 true positive, 2 (and beyond) ignored.
        rank: int32 [N], by score within image and class, from 0.
        score: float64 [N].
        start: int64 [K + 1], where each class begins, ascending; start[0] = 0, start[K] = N.
        positives: int64 [K, A], from 0.
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
    from upmap.kernels.accumulation import reference

    precision, recall, all_points, scores = reference.accumulate(
        ranked, recall_points, max_dets, epsilon
    )
    return precision, recall, all_points if with_areas else None, scores if with_scores else None


def _reference_recalls(ranked: Ranked, max_dets: Caps, threads: int) -> Floats:
    from upmap.kernels.accumulation import reference

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
            Finite and not negative.
        with_areas: Whether to return all_points too.
        with_scores: Whether to return the scores too.
        threads: At most so many; 0 for as many as the machine has.
        impl: A key of IMPLEMENTATIONS; None for the best that is built.

    Raises:
        TypeError: If a column does not hold numbers.
        ValueError: If shapes disagree, values are not what they may be, or `impl` is unknown or
            not built.
    """
    function = select_implementation(IMPLEMENTATIONS, impl, "accumulation")[0]
    ranked = _validate_ranked(ranked)
    points = _validate_list("recall_points", recall_points, np.float64)
    if np.isnan(points).any() or (np.diff(points) < 0).any():
        raise ValueError("recall_points must ascend")
    if not 0 <= epsilon < math.inf:
        raise ValueError(f"epsilon must be finite and at least 0, not {epsilon}")
    caps = _validate_caps(ranked, max_dets, len(points))
    flags, threads = (bool(with_areas), bool(with_scores)), validate_threads(threads)
    return Accumulated(*function(ranked, points, caps, float(epsilon), *flags, threads))


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
        TypeError: If a column does not hold numbers.
        ValueError: If shapes disagree, values are not what they may be, or `impl` is unknown or
            not built.
    """
    function = select_implementation(IMPLEMENTATIONS, impl, "accumulation")[1]
    ranked = _validate_ranked(ranked)
    return function(ranked, _validate_caps(ranked, max_dets), validate_threads(threads))


RANKED_COLUMNS = {
    "rank": Column(np.int32, ("N",)),
    "score": Column(np.float64, ("N",)),
    "positives": Column(np.int64, ("K", "A")),
    "start": Column(np.int64, ("K + 1",)),
}


def _validate_ranked(ranked: Ranked) -> Ranked:
    columns = validate_columns("ranked", ranked, RANKED_COLUMNS)
    status = np.asarray(ranked.status)
    N, (K, A) = len(columns["rank"]), columns["positives"].shape
    if status.ndim != 3 or status.shape[0] != A or status.shape[2] != N:
        raise ValueError(f"ranked.status must be [{A}, T, {N}], not {list(status.shape)}")
    by_detection = exact_array(
        "ranked.status", np.moveaxis(status, 2, 0), np.uint8
    )  # as it is made
    validate_within("ranked.rank", columns["rank"], 0)
    validate_within("ranked.positives", columns["positives"], 0)
    start = columns["start"]
    if len(start) != K + 1 or (start[0], start[-1]) != (0, N) or (np.diff(start) < 0).any():
        raise ValueError(f"ranked.start must be [{K + 1}] and ascend from 0 to {N}")
    return Ranked(status=np.moveaxis(by_detection, 0, 2), **columns)


def _validate_list(name: str, values: NDArray[Any], dtype: DTypeLike) -> NDArray[Any]:
    array = exact_array(name, values, dtype)
    if array.ndim != 1:
        raise ValueError(f"{name} must be a list of numbers, not {list(array.shape)}")
    return array


def _validate_caps(ranked: Ranked, max_dets: Caps, points: int = 0) -> Caps:
    """The caps, if the arrays that they ask for can exist."""
    caps = _validate_list("max_dets", max_dets, np.int64)
    entries = math.prod((ranked.status.shape[1], ranked.positives.size, len(caps), points + 1))
    if entries > MAX_ENTRIES:
        raise ValueError(f"{entries} points of curves are too many")
    return caps
