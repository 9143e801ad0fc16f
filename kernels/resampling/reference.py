"""The reference implementation of resampling: every replicate's detections are written out.

Sources: COCOeval.accumulate of pycocotools 2.0.11 and VOCap.m of the VOC2012 development kit, on
the resampled data; B. Efron, "Nonparametric estimates of standard error: the jackknife, the
bootstrap and other methods" (1981), for the infinitesimal jackknife.
"""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from upmap.kernels.matching.contract import TRUE_POSITIVE

if TYPE_CHECKING:
    from upmap.kernels.resampling.contract import (
        Floats,
        InfluenceArrays,
        InfluenceSumArrays,
        Outcomes,
        Quantities,
        Weights,
    )

__all__ = ["influence", "resample", "sum_influence"]


def resample(
    outcomes: Outcomes,
    weights: Weights,
    quantities: Quantities,
    recall_points: Floats | None,
    threads: int = 0,
) -> Floats:
    """See `upmap.kernels.resampling.resample`; `threads` is not used."""
    Q, K, B = len(quantities.area), len(outcomes.start) - 1, len(weights)
    result = np.full((Q, K, B), np.nan)
    for q, k, b in product(range(Q), range(K), range(B)):
        area = int(quantities.area[q])
        copies = weights[b].astype(np.int64)
        positives = int(copies[_positive_images(outcomes, k, area)].sum())
        if positives == 0:
            continue
        numbers = []
        for t in _thresholds(quantities, q, outcomes.status.shape[1]):
            rows = _rows_below_cap(outcomes, quantities, q, k)
            status = outcomes.status[area, t, np.repeat(rows, copies[outcomes.image[rows]])]
            if quantities.is_recall[q]:
                numbers.append(np.sum(status == TRUE_POSITIVE) / positives)
            else:
                numbers.append(_average_precision(status, positives, recall_points))
        result[q, k, b] = np.mean(numbers)
    return result


def influence(outcomes: Outcomes, quantities: Quantities, threads: int = 0) -> InfluenceArrays:
    """See `upmap.kernels.resampling.influence`; `threads` is not used."""
    Q, K = len(quantities.area), len(outcomes.start) - 1
    images = [_images_of_class(outcomes, k) for k in range(K)]
    start = np.cumsum([0, *map(len, images)]).astype(np.int64)
    value = np.full((Q, int(start[-1])), np.nan)
    for q, k in product(range(Q), range(K)):
        by_image = np.zeros(outcomes.images)
        thresholds = _thresholds(quantities, q, outcomes.status.shape[1])
        for t in thresholds:
            by_image += _curve_influence(outcomes, quantities, q, k, t) / len(thresholds)
        value[q, start[k] : start[k + 1]] = by_image[images[k]]
    image = np.concatenate([np.zeros(0, np.int64), *images]).astype(np.int32)
    ones = np.ones((1, outcomes.images), np.uint8)
    return start, image, value, resample(outcomes, ones, quantities, None)[:, :, 0]


def sum_influence(
    outcomes: Outcomes, quantities: Quantities, threads: int = 0
) -> InfluenceSumArrays:
    """See `upmap.kernels.resampling.sum_influence`; `threads` is not used."""
    start, image, value, number = influence(outcomes, quantities)
    Q, K = number.shape
    of_classes, positive_images = np.zeros((Q, K)), np.zeros((Q, K), np.int64)
    by_image = np.zeros((Q, outcomes.images))
    for q, k in product(range(Q), range(K)):
        area = int(quantities.area[q])
        positive_images[q, k] = len(np.unique(_positive_images(outcomes, k, area)))
        if positive_images[q, k]:
            own = slice(start[k], start[k + 1])
            of_classes[q, k] = np.square(value[q, own]).sum()
            by_image[q, image[own]] += value[q, own]
    return np.square(by_image).sum(axis=1), of_classes, number, positive_images


def _positive_images(outcomes: Outcomes, k: int, area: int) -> NDArray[np.int32]:
    """The image of each positive of a class in an area range."""
    counts = (outcomes.positive_areas >> np.uint64(area)) & np.uint64(1)
    images: NDArray[np.int32] = outcomes.positive_image[
        (outcomes.positive_label == k) & (counts == 1)
    ]
    return images


def _images_of_class(outcomes: Outcomes, k: int) -> NDArray[np.int32]:
    detected = outcomes.image[outcomes.start[k] : outcomes.start[k + 1]]
    annotated = outcomes.positive_image[outcomes.positive_label == k]
    return np.unique(np.concatenate([detected, annotated]))


def _rows_below_cap(outcomes: Outcomes, quantities: Quantities, q: int, k: int) -> NDArray[np.intp]:
    rows = np.arange(outcomes.start[k], outcomes.start[k + 1])
    below: NDArray[np.intp] = rows[outcomes.rank[rows] < quantities.max_dets[q]]
    return below


def _thresholds(quantities: Quantities, q: int, T: int) -> list[int]:
    return [t for t in range(T) if int(quantities.thresholds[q]) >> t & 1]


def _average_precision(
    status: NDArray[np.uint8], positives: int, recall_points: Floats | None
) -> float:
    true = np.cumsum(status == TRUE_POSITIVE)
    counted = np.cumsum(status <= TRUE_POSITIVE)
    recall = true / positives
    precision = true / np.maximum(counted, 1)
    highest = np.maximum.accumulate(precision[::-1])[::-1]  # at this recall or beyond
    if recall_points is None:
        return float(np.sum(np.diff(recall, prepend=0) * highest))
    at = np.searchsorted(recall, recall_points, side="left")
    return float(np.mean(np.append(highest, 0.0)[at]))


def _curve_influence(
    outcomes: Outcomes, quantities: Quantities, q: int, k: int, t: int
) -> NDArray[np.float64]:
    """The influence of every image on one curve, [I], with the symbols N, S and P of the formula.

    AP = sum over true rows j of max over i >= j of N_i / S_i, over P; N_i true and S_i counted rows
    up to row i. Its derivative holds the row m(j) that attains each maximum: with c_m the part of
    the true rows, of P, whose row is m, a row r adds, with the sums over m >= r,

        [r is true] (N_m(r) / S_m(r) / P + sum of c_m / S_m) - sum of c_m N_m / S_m^2
    """
    area = int(quantities.area[q])
    images = _positive_images(outcomes, k, area)
    P = len(images)
    if P == 0:
        return np.full(outcomes.images, np.nan)
    rows = _rows_below_cap(outcomes, quantities, q, k)
    rows = rows[outcomes.status[area, t, rows] <= TRUE_POSITIVE]
    is_true = outcomes.status[area, t, rows] == TRUE_POSITIVE
    if quantities.is_recall[q]:
        number, by_row = float(is_true.sum()) / P, is_true / P
    else:
        number, by_row = _row_influence(is_true, P)
    by_image = np.zeros(outcomes.images)
    np.add.at(by_image, outcomes.image[rows], by_row)
    np.subtract.at(by_image, images, number / P)
    return by_image


def _row_influence(is_true: NDArray[np.bool_], P: int) -> tuple[float, NDArray[np.float64]]:
    """The area under all points, and its derivative with respect to the weight of each row."""
    N, S = np.cumsum(is_true), np.arange(1, len(is_true) + 1)
    precision = np.where(is_true, N / S, 0.0)
    # At a true row, the row from there on of which the precision is largest: of equal ones the
    # first. It is the next one that no later row exceeds.
    highest = np.maximum.accumulate(precision[::-1])[::-1]
    peaks = np.flatnonzero(is_true & (precision == highest))
    true = np.flatnonzero(is_true)
    peak = peaks[np.searchsorted(peaks, true)]
    parts = np.bincount(peak, minlength=len(is_true)) / P
    A = np.cumsum((parts / S)[::-1])[::-1]
    B = np.cumsum((parts * N / S**2)[::-1])[::-1]
    by_row = np.where(is_true, highest / P + A, 0.0) - B
    return float((parts * precision).sum()), by_row
