"""Reference matching: the rules of the VOC kits and of pycocotools, one box at a time.

Sources: VOCevaldet.m of the VOC2007 and VOC2012 development kits; COCOeval of pycocotools 2.0.11.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from upmap.kernels.matching import Arrays, Boxes, Rules

__all__ = ["match"]

FALSE_POSITIVE, TRUE_POSITIVE, IGNORED = 0, 1, 2
CLAIMABLE, NEVER_CLAIMED, CROWD = 0, 1, 2

Groups = dict[tuple[int, int], list[int]]


def match(
    detections: Boxes, ground_truth: Boxes, rules: Rules, classes: int, threads: int = 0
) -> Arrays:
    """See `upmap.kernels.matching.match`; `threads` is not used."""
    order = _curve_order(detections, rules)
    position = {row: place for place, row in enumerate(order)}
    truths = _groups(ground_truth, range(len(ground_truth.label)))
    rank = np.zeros(len(order), np.int32)
    shape = (len(rules.area_ranges), len(rules.iou_thresholds), len(order))
    status = np.full(shape, IGNORED, np.uint8)
    for key, rows in _groups(detections, order).items():
        places = [position[row] for row in rows]
        rank[places] = np.arange(len(rows))
        kept = rows[: rules.max_dets]
        overlaps = _overlaps(detections, ground_truth, kept, truths[key], rules.side_offset)
        for a, limits in enumerate(rules.area_ranges):
            ignored = [not _counts(ground_truth, g, limits) for g in truths[key]]
            kinds = [int(ground_truth.kind[g]) for g in truths[key]]
            inside = [_inside(detections.box_area[row], limits) for row in kept]
            for t, threshold in enumerate(rules.iou_thresholds):
                outcome = _outcomes(overlaps, ignored, kinds, float(threshold), rules)
                for place, state, is_inside in zip(places, outcome, inside, strict=False):
                    unmatched_outside = state == FALSE_POSITIVE and not is_inside
                    status[a, t, place] = IGNORED if unmatched_outside else state
    return (
        detections.image[order],
        detections.label[order],
        detections.score[order],
        detections.row[order],
        rank,
        status,
        _positives(ground_truth, rules, classes),
    )


def _curve_order(detections: Boxes, rules: Rules) -> list[int]:
    def key(row: int) -> tuple[int, float, int, int]:
        image = int(detections.image[row]) if rules.ties_by_image else 0
        return int(detections.label[row]), -detections.score[row], image, int(detections.row[row])

    return sorted(range(len(detections.label)), key=key)


def _groups(boxes: Boxes, rows: list[int] | range) -> Groups:
    groups: Groups = defaultdict(list)
    for row in rows:
        groups[int(boxes.image[row]), int(boxes.label[row])].append(row)
    return groups


def _overlaps(
    detections: Boxes, ground_truth: Boxes, rows: list[int], truths: list[int], offset: float
) -> NDArray[np.float64]:
    """IoU, float64 [detections, ground truths]; 0 where it is not above 0, or undefined."""
    overlaps = np.zeros((len(rows), len(truths)))
    for i, d in enumerate(rows):
        for j, g in enumerate(truths):
            a, b = detections.box[d], ground_truth.box[g]
            width = min(a[2], b[2]) - max(a[0], b[0]) + offset
            height = min(a[3], b[3]) - max(a[1], b[1]) + offset
            if width > 0 and height > 0:
                with np.errstate(all="ignore"):  # 0 / 0 where the product of the sides underflows
                    common, area = width * height, detections.box_area[d]
                    if ground_truth.kind[g] != CROWD:
                        area = area + ground_truth.box_area[g] - common
                    iou = common / area
                overlaps[i, j] = iou if iou > 0 else 0.0
    return overlaps


def _inside(area: float, limits: NDArray[np.float64]) -> bool:
    return bool(limits[0] <= area <= limits[1])


def _counts(ground_truth: Boxes, g: int, limits: NDArray[np.float64]) -> bool:
    return ground_truth.kind[g] == CLAIMABLE and _inside(ground_truth.area[g], limits)


def _outcomes(
    overlaps: NDArray[np.float64],
    ignored: list[bool],
    kinds: list[int],
    threshold: float,
    rules: Rules,
) -> list[int]:
    """The status of each detection of one image and class, best score first."""
    claimed = [False] * len(ignored)
    outcomes = []
    for row in overlaps:
        if rules.best_only:
            found = _best(row, list(range(len(row))), threshold, rules)
        else:
            free = [j for j in range(len(row)) if kinds[j] != CLAIMABLE or not claimed[j]]
            found = _best(row, [j for j in free if not ignored[j]], threshold, rules)
            if found is None:
                found = _best(row, [j for j in free if ignored[j]], threshold, rules)
        if found is None:
            outcomes.append(FALSE_POSITIVE)
        elif ignored[found]:
            outcomes.append(IGNORED)
            claimed[found] = True
        else:
            outcomes.append(FALSE_POSITIVE if claimed[found] else TRUE_POSITIVE)
            claimed[found] = True
    return outcomes


def _best(
    overlaps: NDArray[np.float64], among: list[int], threshold: float, rules: Rules
) -> int | None:
    """The ground truth of largest IoU, if that IoU passes the threshold."""
    best = None
    for j in among:
        if (
            best is None
            or overlaps[j] > overlaps[best]
            or (rules.last_of_equals and overlaps[j] == overlaps[best])
        ):
            best = j
    if best is None or overlaps[best] <= 0:
        return None
    passes = overlaps[best] > threshold if rules.strict else overlaps[best] >= threshold
    return best if passes else None


def _positives(ground_truth: Boxes, rules: Rules, classes: int) -> NDArray[np.int64]:
    positives = np.zeros((classes, len(rules.area_ranges)), np.int64)
    for a, limits in enumerate(rules.area_ranges):
        for g, label in enumerate(ground_truth.label):
            positives[label, a] += _counts(ground_truth, g, limits)
    return positives
