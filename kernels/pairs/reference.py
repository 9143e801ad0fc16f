"""Reference of pairs: every detection beside every ground truth of its image, one at a time."""

from collections import defaultdict

import numpy as np

from upmap.kernels.matching.contract import CROWD, DetectionBoxes, TruthBoxes
from upmap.kernels.pairs.contract import PairArrays

__all__ = ["find_pairs"]


def find_pairs(
    detections: DetectionBoxes, ground_truth: TruthBoxes, side_offset: float, min_iou: float
) -> PairArrays:
    """See `upmap.kernels.pairs.find_pairs`."""
    by_image = defaultdict(list)
    for g, image in enumerate(ground_truth.image.tolist()):
        by_image[image].append(g)
    start, truth, overlaps = [0], [], []
    for d, image in enumerate(detections.image.tolist()):
        for g in by_image[image]:
            iou = _iou(detections, ground_truth, d, g, side_offset)
            if iou > 0 and iou >= min_iou:
                truth.append(g)
                overlaps.append(iou)
        start.append(len(truth))
    return np.array(start, np.int64), np.array(truth, np.int32), np.array(overlaps, np.float64)


def _iou(
    detections: DetectionBoxes, ground_truth: TruthBoxes, d: int, g: int, offset: float
) -> float:
    """The IoU in the order of operations of the official tools; over the detection for a crowd."""
    a, b = detections.box[d], ground_truth.box[g]
    width = min(a[2], b[2]) - max(a[0], b[0]) + offset
    height = min(a[3], b[3]) - max(a[1], b[1]) + offset
    if not (width > 0 and height > 0):
        return 0.0
    with np.errstate(all="ignore"):
        common, area = width * height, detections.box_area[d]
        if ground_truth.kind[g] != CROWD:
            area = area + ground_truth.box_area[g] - common
        return float(common / area)
