"""Reference matching: the rules of the VOC kits and of pycocotools, one box at a time.

Sources: VOCevaldet.m of the VOC2007 and VOC2012 development kits; COCOeval of pycocotools 2.0.11.
"""

from collections import defaultdict

import numpy as np
from numpy.typing import NDArray

from upmap.kernels.matching.contract import (
    CLAIMABLE,
    CROWD,
    FALSE_POSITIVE,
    IGNORED,
    TRUE_POSITIVE,
    Columns,
    DetectionBoxes,
    Rules,
    TruthBoxes,
)

__all__ = ["match"]

Groups = dict[tuple[int, int], list[int]]


def match(
    detections: DetectionBoxes, ground_truth: TruthBoxes, rules: Rules, classes: int
) -> Columns:
    """See `upmap.kernels.matching.match`."""
    range_area = detections.box_area if detections.area is None else detections.area
    order = _curve_order(detections, rules)
    position = {row: place for place, row in enumerate(order)}
    truths = _groups(ground_truth, range(len(ground_truth.label)))
    rank = np.zeros(len(order), np.int32)
    shape = (len(rules.area_ranges), len(rules.iou_thresholds), len(order))
    status = np.full(shape, IGNORED, np.uint8)
    for key, rows in _groups(detections, order).items():
        places = [position[row] for row in rows]
        rank[places] = np.arange(len(rows))
        considered = rows[: rules.max_dets]
        overlaps = _overlaps(detections, ground_truth, considered, truths[key], rules.side_offset)
        for a, limits in enumerate(rules.area_ranges):
            ignored = [not _counts(ground_truth, g, limits) for g in truths[key]]
            kinds = [int(ground_truth.kind[g]) for g in truths[key]]
            inside = [_inside(range_area[row], limits) for row in considered]
            for t, threshold in enumerate(rules.iou_thresholds):
                outcome = _outcomes(overlaps, ignored, kinds, float(threshold), rules)
                # Detections beyond max_dets stay IGNORED: zip ends with the outcomes.
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


def _curve_order(detections: DetectionBoxes, rules: Rules) -> list[int]:
    def key(row: int) -> tuple[int, float, int, int]:
        image = int(detections.image[row]) if rules.ties_by_image else 0
        return int(detections.label[row]), -detections.score[row], image, int(detections.row[row])

    return sorted(range(len(detections.label)), key=key)


def _groups(boxes: DetectionBoxes | TruthBoxes, rows: list[int] | range) -> Groups:
    """Rows by image and label, in the order of `rows`."""
    groups: Groups = defaultdict(list)
    for row in rows:
        groups[int(boxes.image[row]), int(boxes.label[row])].append(row)
    return groups


def _overlaps(
    detections: DetectionBoxes,
    ground_truth: TruthBoxes,
    rows: list[int],
    truths: list[int],
    offset: float,
) -> NDArray[np.float64]:
    """IoU, float64 [detections, ground truths]; 0 where it is not above 0, or undefined."""
    overlaps = np.zeros((len(rows), len(truths)))
    for i, d in enumerate(rows):
        for j, g in enumerate(truths):
            a, b = detections.box[d], ground_truth.box[g]
            width = min(a[2], b[2]) - max(a[0], b[0]) + offset
            height = min(a[3], b[3]) - max(a[1], b[1]) + offset
            if width > 0 and height > 0:
                # 0 / 0 where the product of the sides underflows. The order of operations is that
                # of the official tools, which the last bit depends on.
                with np.errstate(all="ignore"):
                    common, area = width * height, detections.box_area[d]
                    if ground_truth.kind[g] != CROWD:
                        area = area + ground_truth.box_area[g] - common
                    iou = common / area
                overlaps[i, j] = iou if iou > 0 else 0.0
    return overlaps


def _inside(area: float, limits: NDArray[np.float64]) -> bool:
    return bool(limits[0] <= area <= limits[1])


def _counts(ground_truth: TruthBoxes, g: int, limits: NDArray[np.float64]) -> bool:
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
            truth = _best(row, list(range(len(row))), threshold, rules)
        else:
            free = [j for j in range(len(row)) if kinds[j] != CLAIMABLE or not claimed[j]]
            truth = _best(row, [j for j in free if not ignored[j]], threshold, rules)
            if truth is None:
                truth = _best(row, [j for j in free if ignored[j]], threshold, rules)
        if truth is None:
            outcomes.append(FALSE_POSITIVE)
            continue
        if ignored[truth]:
            outcomes.append(IGNORED)
        else:
            outcomes.append(FALSE_POSITIVE if claimed[truth] else TRUE_POSITIVE)
        claimed[truth] = True
    return outcomes


def _best(
    overlaps: NDArray[np.float64], candidates: list[int], threshold: float, rules: Rules
) -> int | None:
    """The candidate of largest IoU, if that IoU passes the threshold."""
    best = None
    for j in candidates:
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


def _positives(ground_truth: TruthBoxes, rules: Rules, classes: int) -> NDArray[np.int64]:
    positives = np.zeros((classes, len(rules.area_ranges)), np.int64)
    for a, limits in enumerate(rules.area_ranges):
        for g, label in enumerate(ground_truth.label):
            positives[label, a] += _counts(ground_truth, g, limits)
    return positives
