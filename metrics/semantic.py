"""Scores of semantic segmentation: one confusion matrix to IoU, Dice and accuracy; boundary IoU.

Sources: Everingham et al., "The PASCAL VOC Challenge: A Retrospective", IJCV 2015 (IoU); Cheng et
al., "Boundary IoU", CVPR 2021, and its boundary-iou-api.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "IGNORED",
    "SemanticScores",
    "boundary",
    "boundary_counts",
    "boundary_distance",
    "boundary_iou",
    "confusion_matrix",
    "semantic_scores",
]

Integers = NDArray[np.integer]
Counts = NDArray[np.int64]
Floats = NDArray[np.float64]

IGNORED = 255  # the label of pixels that do not count
BOUNDARY_RATIO = 0.02  # of the image's diagonal, boundary-iou-api


@dataclass(frozen=True, slots=True, eq=False)
class SemanticScores:
    """Scores of one confusion matrix of K classes; NaN is undefined, and left out of means.

    Attributes:
        mIoU: Mean of `iou`.
        iou: float64 [K], intersection by union; NaN for a class neither annotated nor predicted.
        dice: float64 [K], 2 intersection by the sum of both; NaN likewise.
        mean_dice: Mean of `dice`.
        accuracy: float64 [K], the share of the class's pixels that was found; NaN without any.
        mean_accuracy: Mean of `accuracy`.
        pixel_accuracy: The share of all pixels that is right.
        pixels: int64 [K], annotated pixels.
    """

    mIoU: float
    iou: Floats
    dice: Floats
    mean_dice: float
    accuracy: Floats
    mean_accuracy: float
    pixel_accuracy: float
    pixels: Counts


def confusion_matrix(
    target: Integers, prediction: Integers, classes: int, *, ignore_index: int = IGNORED
) -> Counts:
    """How many pixels of each class were predicted as which; matrices of several images add.

    Args:
        target: integer [...], 0 .. K - 1 or `ignore_index`.
        prediction: integer [...], 0 .. K - 1 where the target is not ignored.
        classes: K.
        ignore_index: The target of pixels that do not count.

    Returns:
        int64 [K, K], targets by predictions.

    Raises:
        ValueError: If shapes differ, or a value is out of range.

    >>> confusion_matrix(np.array([0, 1, 1, 255]), np.array([0, 0, 1, 7]), 2).tolist()
    [[1, 0], [1, 1]]
    """
    _refuse_shapes(target, prediction)
    counts = target != ignore_index
    pairs = []
    for name, values in (("target", target[counts]), ("prediction", prediction[counts])):
        if values.size and not 0 <= values.min() <= values.max() < classes:
            bad = values.min() if values.min() < 0 else values.max()
            raise ValueError(f"{name} must lie in 0 .. {classes - 1}, not {bad}")
        pairs.append(values.astype(np.int64))
    flat = np.bincount(classes * pairs[0] + pairs[1], minlength=classes**2)
    return flat.reshape(classes, classes).astype(np.int64)


def semantic_scores(confusion: Counts) -> SemanticScores:
    """The scores of a confusion matrix.

    Args:
        confusion: int64 [K, K], targets by predictions.

    >>> scores = semantic_scores(np.array([[3, 1], [0, 4]]))
    >>> scores.mIoU, scores.pixel_accuracy
    (0.775, 0.875)
    """
    right = np.diag(confusion)
    annotated, predicted = confusion.sum(axis=1), confusion.sum(axis=0)
    iou = _ratio(right, annotated + predicted - right)
    dice = _ratio(2 * right, annotated + predicted)
    accuracy = _ratio(right, annotated)
    return SemanticScores(
        mIoU=_mean(iou),
        iou=iou,
        dice=dice,
        mean_dice=_mean(dice),
        accuracy=accuracy,
        mean_accuracy=_mean(accuracy),
        pixel_accuracy=float(_ratio(right.sum(keepdims=True), annotated.sum(keepdims=True))[0]),
        pixels=annotated.astype(np.int64),
    )


def boundary_distance(height: int, width: int, *, ratio: float = BOUNDARY_RATIO) -> int:
    """How wide a boundary is, px, at least 1: 2 % of the image's diagonal.

    >>> boundary_distance(360, 480)
    12
    """
    return max(1, round(ratio * math.hypot(height, width)))


def boundary(mask: NDArray[np.bool_], distance: int) -> NDArray[np.bool_]:
    """The pixels of a mask within `distance` of what is not in it; the image's edge is not.

    Args:
        mask: bool [H, W].
        distance: px, in the larger of the horizontal and vertical differences.

    Returns:
        bool [H, W].

    >>> boundary(np.ones((3, 4), bool), 1).astype(int).tolist()
    [[1, 1, 1, 1], [1, 0, 0, 1], [1, 1, 1, 1]]
    """
    if distance < 1:
        raise ValueError(f"distance must be at least 1, not {distance}")
    return mask & ~_eroded(_eroded(mask, distance).T, distance).T


def boundary_counts(
    target: Integers,
    prediction: Integers,
    classes: int,
    *,
    distance: int | None = None,
    ignore_index: int = IGNORED,
) -> Counts:
    """Pixels in the intersection and the union of each class's boundaries; counts of images add.

    Ignored pixels belong to no class, annotated or predicted: their edge is a boundary of both.

    Args:
        target: integer [H, W].
        prediction: integer [H, W].
        classes: K.
        distance: How wide boundaries are, px; None for `boundary_distance`.
        ignore_index: The target of pixels that do not count.

    Returns:
        int64 [K, 2].

    Raises:
        ValueError: If shapes differ or are not [H, W].
    """
    _refuse_shapes(target, prediction)
    if target.ndim != 2:
        raise ValueError(f"expected [H, W], got {list(target.shape)}")
    distance = boundary_distance(*target.shape) if distance is None else distance
    counts = target != ignore_index
    found = np.zeros((classes, 2), np.int64)
    for k in range(classes):
        first, second = (boundary((one == k) & counts, distance) for one in (target, prediction))
        found[k] = np.count_nonzero(first & second), np.count_nonzero(first | second)
    return found


def boundary_iou(counts: Counts) -> Floats:
    """Boundary IoU of each class, float64 [K], of `boundary_counts`; NaN without a boundary.

    >>> boundary_iou(np.array([[1, 4], [0, 0]])).tolist()
    [0.25, nan]
    """
    return _ratio(counts[:, 0], counts[:, 1])


def _eroded(mask: NDArray[np.bool_], distance: int) -> NDArray[np.bool_]:
    """Where all of the 2 `distance` + 1 pixels around, in each column, are in the mask."""
    padded = np.pad(mask, ((distance + 1, distance), (0, 0)))
    sums = np.cumsum(padded, axis=0, dtype=np.int64)
    around: NDArray[np.bool_] = sums[2 * distance + 1 :] - sums[: -2 * distance - 1] == (
        2 * distance + 1
    )
    return around


def _refuse_shapes(target: Integers, prediction: Integers) -> None:
    if target.shape != prediction.shape:
        given = f"{list(target.shape)} and {list(prediction.shape)}"
        raise ValueError(f"target and prediction must be of one shape, not {given}")


def _ratio(part: Counts, whole: Counts) -> Floats:
    ratio: Floats = np.full(whole.shape, np.nan)
    np.divide(part, whole, out=ratio, where=whole != 0)
    return ratio


def _mean(values: Floats) -> float:
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if defined.size else math.nan
