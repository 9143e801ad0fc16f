"""Scores of semantic segmentation: one confusion matrix to IoU, Dice and accuracy; boundary IoU.

Sources: Everingham et al., "The PASCAL VOC Challenge: A Retrospective", IJCV 2015 (IoU); Long et
al., "Fully Convolutional Networks for Semantic Segmentation", CVPR 2015 (pixel and mean accuracy,
mean and frequency weighted IoU); Cheng et al., "Boundary IoU", CVPR 2021, and boundary-iou-api.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

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
Extreme = Callable[[NDArray[Any], NDArray[Any]], NDArray[Any]]

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
        frequency_weighted_iou: Mean of `iou`, weighted by `pixels`.
        pixels: int64 [K], annotated pixels.
    """

    mIoU: float
    iou: Floats
    dice: Floats
    mean_dice: float
    accuracy: Floats
    mean_accuracy: float
    pixel_accuracy: float
    frequency_weighted_iou: float
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
        TypeError: If the arrays are not of integers.
        ValueError: If shapes differ, or a value is out of range.

    >>> confusion_matrix(np.array([0, 1, 1, 255]), np.array([0, 0, 1, 7]), 2).tolist()
    [[1, 0], [1, 1]]
    """
    counts = _counting(target, prediction, ignore_index)
    rows = _in_range("target", target[counts], classes).astype(np.int64)
    columns = _in_range("prediction", prediction[counts], classes)
    flat = np.bincount(classes * rows + columns.astype(np.int64), minlength=classes**2)
    return flat.reshape(classes, classes).astype(np.int64, copy=False)


def semantic_scores(confusion: Counts) -> SemanticScores:
    """The scores of a confusion matrix.

    Args:
        confusion: int64 [K, K], targets by predictions.

    Raises:
        TypeError: If it does not hold integers.
        ValueError: If it is not square.

    >>> scores = semantic_scores(np.array([[3, 1], [0, 4]]))
    >>> scores.mIoU, scores.pixel_accuracy
    (0.775, 0.875)
    """
    _validate_confusion(confusion)
    confusion = confusion.astype(np.int64, copy=False)
    right = np.diag(confusion)
    annotated, predicted = confusion.sum(axis=1), confusion.sum(axis=0)
    iou = _ratio(right, annotated + predicted - right)
    dice = _ratio(2 * right, annotated + predicted)
    accuracy = _ratio(right, annotated)
    total, present = annotated.sum(), annotated > 0
    return SemanticScores(
        mIoU=_mean(iou),
        iou=iou,
        dice=dice,
        mean_dice=_mean(dice),
        accuracy=accuracy,
        mean_accuracy=_mean(accuracy),
        pixel_accuracy=_quotient(right.sum(), total),
        frequency_weighted_iou=_quotient(annotated[present] @ iou[present], total),
        pixels=annotated,
    )


def boundary_distance(height: int, width: int, ratio: float = BOUNDARY_RATIO) -> int:
    """How wide the boundaries of an image are, px: a share of its diagonal, at least 1.

    Args:
        height: px.
        width: px.
        ratio: The share; 2 % in boundary-iou-api.

    >>> boundary_distance(360, 480)
    12
    """
    return max(1, round(ratio * math.hypot(height, width)))


def boundary(mask: NDArray[np.bool_], distance: int) -> NDArray[np.bool_]:
    """The pixels of a mask within `distance` of what is not in it; the image's edge is not.

    Equal to boundary-iou-api's: the mask without its erosion by `distance` 3 x 3 squares. The time
    grows with the logarithm of `distance`.

    Args:
        mask: bool [H, W]; of other dtypes, what is not 0 is in the mask.
        distance: px, in the larger of the horizontal and vertical differences.

    Returns:
        bool [H, W].

    Raises:
        ValueError: If the mask is not [H, W], or `distance` is below 1.

    >>> boundary(np.ones((3, 4), bool), 1).astype(int).tolist()
    [[1, 1, 1, 1], [1, 0, 0, 1], [1, 1, 1, 1]]
    """
    distance = _validate_distance(mask.shape, distance)
    inside = mask.astype(np.bool_, copy=False)
    eroded: NDArray[np.bool_] = _around(inside, np.minimum, distance, outside=0)
    return inside & ~eroded


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
        target: integer [H, W], 0 .. K - 1 or `ignore_index`.
        prediction: integer [H, W], 0 .. K - 1 where the target is not ignored.
        classes: K.
        distance: How wide boundaries are, px; None for `boundary_distance`.
        ignore_index: The target of pixels that do not count.

    Returns:
        int64 [K, 2].

    Raises:
        TypeError: If the arrays are not of integers.
        ValueError: If shapes differ or are not [H, W], a value is out of range, or `distance` is
            below 1.

    >>> boundary_counts(np.array([[0, 0, 1, 1]]), np.array([[0, 1, 1, 1]]), 2).tolist()
    [[1, 2], [2, 3]]
    """
    counts = _counting(target, prediction, ignore_index)
    distance = _validate_distance(target.shape, distance)
    on_boundary = []
    for name, labels in (("target", target), ("prediction", prediction)):
        known = np.full(labels.shape, classes, np.min_scalar_type(classes))
        known[counts] = _in_range(name, labels[counts], classes)
        on_boundary.append(np.where(_near_others(known, distance, classes), known, classes))
    first, second = on_boundary
    both, one, other = (
        np.bincount(labels.ravel(), minlength=classes + 1)[:classes]
        for labels in (first[first == second], first, second)
    )
    return np.stack([both, one + other - both], axis=1).astype(np.int64, copy=False)


def boundary_iou(counts: Counts) -> Floats:
    """Boundary IoU of each class; NaN for one without a boundary, annotated or predicted.

    Args:
        counts: int64 [K, 2], of `boundary_counts`, possibly summed over images.

    Returns:
        float64 [K].

    >>> boundary_iou(np.array([[1, 4], [0, 0]])).tolist()
    [0.25, nan]
    """
    return _ratio(counts[:, 0], counts[:, 1])


def _counting(target: Integers, prediction: Integers, ignore_index: int) -> NDArray[np.bool_]:
    """Where the target is not ignored."""
    for name, labels in (("target", target), ("prediction", prediction)):
        if labels.dtype.kind not in "biu":
            raise TypeError(f"{name} must be an array of integers, not of {labels.dtype}")
    if target.shape != prediction.shape:
        given = f"{list(target.shape)} and {list(prediction.shape)}"
        raise ValueError(f"target and prediction must be of one shape, not {given}")
    counts: NDArray[np.bool_] = target != ignore_index
    return counts


def _in_range(name: str, values: Integers, classes: int) -> Integers:
    if values.size and not 0 <= values.min() <= values.max() < classes:
        bad = values.min() if values.min() < 0 else values.max()
        raise ValueError(f"{name} must lie in 0 .. {classes - 1}, not {bad}")
    return values


def _validate_confusion(confusion: Counts) -> None:
    if confusion.dtype.kind not in "iu":
        raise TypeError(f"confusion must be an array of integers, not of {confusion.dtype}")
    if confusion.ndim != 2 or confusion.shape[0] != confusion.shape[1]:
        raise ValueError(f"confusion must be [K, K], not {list(confusion.shape)}")


def _validate_distance(shape: tuple[int, ...], distance: int | None) -> int:
    if len(shape) != 2:
        raise ValueError(f"expected [H, W], got {list(shape)}")
    if distance is None:
        return boundary_distance(*shape)
    if distance < 1:
        raise ValueError(f"distance must be at least 1, not {distance}")
    return distance


def _near_others(labels: Integers, distance: int, outside: int) -> NDArray[np.bool_]:
    """Where the labels around are not all one: the boundaries of all classes in one pass."""
    low, high = (
        _around(labels, extreme, distance, outside=outside) for extreme in (np.minimum, np.maximum)
    )
    near: NDArray[np.bool_] = low != high
    return near


def _around(values: NDArray[Any], extreme: Extreme, distance: int, *, outside: int) -> NDArray[Any]:
    """The extreme of the (2 `distance` + 1)^2 values around each; `outside` beyond the edges.

    Columns, then rows; windows double until two of them, overlapping, are as wide as asked.
    """
    for _ in range(2):
        reach = min(distance, len(values))  # one that leaves the image sees no more of it farther
        found = np.pad(values, ((reach, reach), (0, 0)), constant_values=outside)
        width = 1
        while width <= reach:
            found = extreme(found[:-width], found[width:])
            width *= 2
        rest = 2 * reach + 1 - width
        values = extreme(found[: len(found) - rest], found[rest:]).T
    return values


def _ratio(part: Counts, whole: Counts) -> Floats:
    ratio: Floats = np.full(whole.shape, np.nan)
    np.divide(part, whole, out=ratio, where=whole != 0)
    return ratio


def _quotient(part: float, whole: float) -> float:
    return float(part / whole) if whole else math.nan


def _mean(values: Floats) -> float:
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if defined.size else math.nan
