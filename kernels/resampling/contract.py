"""Types of resampling: what its implementations take and return."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "MAX_AREAS",
    "MAX_COPIES",
    "Influence",
    "InfluenceSums",
    "Outcomes",
    "Quantities",
]

MAX_AREAS = 64  # a set of area ranges is the bits of a uint64
MAX_COPIES = 255  # of an image in a replicate: weights are uint8


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Outcomes:
    """Matched detections in curve order (by class, then descending score), and the positives.

    Attributes:
        images: I, the number of images; some may have neither detections nor positives.
        status: uint8 [A, T, N], 0 false positive, 1 true positive, 2 (and beyond) ignored.
        rank: int32 [N], by score within image and class, from 0.
        image: int32 [N], 0 to I - 1.
        start: int64 [K + 1], where each class begins, ascending; start[0] = 0, start[K] = N.
        positive_image: int32 [G], 0 to I - 1: the image of each counted ground truth.
        positive_label: int32 [G], 0 to K - 1, ascending.
        positive_areas: uint64 [G], bit a is set where it counts in area range a.
    """

    images: int
    status: NDArray[np.uint8]
    rank: NDArray[np.int32]
    image: NDArray[np.int32]
    start: NDArray[np.int64]
    positive_image: NDArray[np.int32]
    positive_label: NDArray[np.int32]
    positive_areas: NDArray[np.uint64]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Quantities:
    """The Q numbers to compute of each class: means over IoU thresholds of AP, or of recall.

    Attributes:
        is_recall: bool [Q], the final recall; otherwise average precision.
        area: int32 [Q], the area range, 0 to A - 1.
        max_dets: int64 [Q]; detections of this rank or beyond are left out.
        thresholds: uint64 [Q], the set of IoU thresholds to average over: bit t; not empty.
    """

    is_recall: NDArray[np.bool_]
    area: NDArray[np.int32]
    max_dets: NDArray[np.int64]
    thresholds: NDArray[np.uint64]


@dataclass(frozen=True, slots=True, eq=False)
class Influence:
    """How each class's numbers respond to the weights of images: d number / d weight at weight 1.

    It lists the images that have a detection or a positive of the class; the influence of all
    others is 0, and of a class without positives in the area range NaN.

    Attributes:
        start: int64 [K + 1], where the images of each class begin.
        image: int32 [E], ascending within each class.
        value: float64 [Q, E]. Average precision is the area under all points, whatever the recall
            points: sampled precision has no derivative.
        number: float64 [Q, K], the numbers themselves; average precision likewise.
    """

    start: NDArray[np.int64]
    image: NDArray[np.int32]
    value: NDArray[np.float64]
    number: NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class InfluenceSums:
    """What standard errors need of `Influence`: U_ki is the influence of image i on class k.

    Classes without positives in the area range, whose influence is undefined, add 0.

    Attributes:
        of_images: float64 [Q], the sum over images of the square of (sum over classes of U_ki).
        of_classes: float64 [Q, K], the sum over images of the square of U_ki.
        number: float64 [Q, K], as in `Influence`.
        positive_images: int64 [Q, K], the images with a positive in the quantity's area range.
    """

    of_images: NDArray[np.float64]
    of_classes: NDArray[np.float64]
    number: NDArray[np.float64]
    positive_images: NDArray[np.int64]


Floats = NDArray[np.float64]
Weights = NDArray[np.uint8]
InfluenceArrays = tuple[NDArray[np.int64], NDArray[np.int32], Floats, Floats]
InfluenceSumArrays = tuple[Floats, Floats, Floats, NDArray[np.int64]]
# (outcomes, weights, quantities, recall points or none, threads) -> [Q, K, B]
Resampler = Callable[[Outcomes, Weights, Quantities, Floats | None, int], Floats]
InfluenceFunction = Callable[[Outcomes, Quantities, int], InfluenceArrays]
InfluenceSummer = Callable[[Outcomes, Quantities, int], InfluenceSumArrays]
