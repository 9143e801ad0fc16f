"""Scores of semantic segmentation: IoU, Dice and accuracy of a confusion matrix; boundary IoU.

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

from upmap.metrics.means import mean_without_nan

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

IGNORED = 255  # the label of pixels that do not count, as in the files of PASCAL VOC
BOUNDARY_RATIO = 0.02  # of the diagonal of the image; boundary-iou-api


@dataclass(frozen=True, slots=True, eq=False)
class SemanticScores:
    """Scores of a confusion matrix of K classes; NaN is undefined, and left out of means.

    Attributes:
        mIoU: Mean of `iou`.
        iou: float64 [K], intersection / union; NaN for a class neither annotated nor predicted.
        dice: float64 [K], 2 intersection / (annotated + predicted); NaN likewise.
        mean_dice: Mean of `dice`.
        accuracy: float64 [K], the recall of the class: correct / annotated; NaN if not annotated.
        mean_accuracy: Mean of `accuracy`.
        pixel_accuracy: Correct pixels / all pixels.
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
    """Counts the pixels of each pair of target and prediction; matrices of several images add.

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
    is_counted = _validate_labels(target, prediction, ignore_index)
    rows = _validate_range("target", target[is_counted], classes).astype(np.int64)
    columns = _validate_range("prediction", prediction[is_counted], classes)
    # Entry (i, j) of the matrix is entry K i + j of a flat one, which bincount can count.
    flat = np.bincount(classes * rows + columns.astype(np.int64), minlength=classes**2)
    return flat.reshape(classes, classes).astype(np.int64, copy=False)


def semantic_scores(confusion: Counts) -> SemanticScores:
    """Computes the scores of a confusion matrix.

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
    correct = np.diag(confusion)
    annotated, predicted = confusion.sum(axis=1), confusion.sum(axis=0)
    iou = _divide(correct, annotated + predicted - correct)
    dice = _divide(2 * correct, annotated + predicted)
    accuracy = _divide(correct, annotated)
    total, is_annotated = annotated.sum(), annotated > 0
    return SemanticScores(
        mIoU=mean_without_nan(iou),
        iou=iou,
        dice=dice,
        mean_dice=mean_without_nan(dice),
        accuracy=accuracy,
        mean_accuracy=mean_without_nan(accuracy),
        pixel_accuracy=_quotient(correct.sum(), total),
        frequency_weighted_iou=_quotient(annotated[is_annotated] @ iou[is_annotated], total),
        pixels=annotated,
    )


def boundary_distance(height: int, width: int, ratio: float = BOUNDARY_RATIO) -> int:
    """The width of boundaries in an image, px: a fraction of its diagonal, at least 1.

    Args:
        height: px.
        width: px.
        ratio: The fraction; 0.02 in boundary-iou-api.

    >>> boundary_distance(360, 480)
    12
    """
    return max(1, round(ratio * math.hypot(height, width)))


def boundary(mask: NDArray[np.bool_], distance: int) -> NDArray[np.bool_]:
    """The pixels of a mask within `distance` of one outside it; beyond the image all is outside.

    Equal to that of boundary-iou-api: the mask without its erosion by `distance` squares of 3 x 3.
    The time grows with the logarithm of `distance`.

    Args:
        mask: bool [H, W]; in other dtypes, values other than 0 are in the mask.
        distance: px, the larger of the horizontal and the vertical distance.

    Returns:
        bool [H, W].

    Raises:
        ValueError: If the mask is not [H, W], or `distance` is below 1.

    >>> boundary(np.ones((3, 4), bool), 1).astype(int).tolist()
    [[1, 1, 1, 1], [1, 0, 0, 1], [1, 1, 1, 1]]
    """
    distance = _validate_distance(mask.shape, distance)
    is_inside = mask.astype(np.bool_, copy=False)
    is_interior: NDArray[np.bool_] = _filter_windows(is_inside, np.minimum, distance, outside=0)
    return is_inside & ~is_interior


def boundary_counts(
    target: Integers,
    prediction: Integers,
    classes: int,
    *,
    distance: int | None = None,
    ignore_index: int = IGNORED,
) -> Counts:
    """Counts the pixels in the intersection and union of each class's boundaries; images add.

    Ignored pixels belong to no class in the target and the prediction: their edge is a boundary
    of both.

    Args:
        target: integer [H, W], 0 .. K - 1 or `ignore_index`.
        prediction: integer [H, W], 0 .. K - 1 where the target is not ignored.
        classes: K.
        distance: The width of boundaries, px; None for `boundary_distance`.
        ignore_index: The target of pixels that do not count.

    Returns:
        int64 [K, 2], intersection and union.

    Raises:
        TypeError: If the arrays are not of integers.
        ValueError: If shapes differ or are not [H, W], a value is out of range, or `distance` is
            below 1.

    >>> boundary_counts(np.array([[0, 0, 1, 1]]), np.array([[0, 1, 1, 1]]), 2).tolist()
    [[1, 2], [2, 3]]
    """
    is_counted = _validate_labels(target, prediction, ignore_index)
    distance = _validate_distance(target.shape, distance)
    boundaries = []
    for name, labels in (("target", target), ("prediction", prediction)):
        # The label `classes` is no class: it marks ignored pixels, then those off the boundaries.
        label = np.full(labels.shape, classes, np.min_scalar_type(classes))
        label[is_counted] = _validate_range(name, labels[is_counted], classes)
        is_boundary = _differs_nearby(label, distance, classes)
        boundaries.append(np.where(is_boundary, label, classes))
    annotated, predicted = boundaries
    intersection, of_target, of_prediction = (
        np.bincount(labels.ravel(), minlength=classes + 1)[:classes]
        for labels in (annotated[annotated == predicted], annotated, predicted)
    )
    union = of_target + of_prediction - intersection
    return np.stack([intersection, union], axis=1).astype(np.int64, copy=False)


def boundary_iou(counts: Counts) -> Floats:
    """Boundary IoU of each class; NaN for a class without boundary, annotated or predicted.

    Args:
        counts: int64 [K, 2], of `boundary_counts`, of an image or the sum over several.

    Returns:
        float64 [K].

    >>> boundary_iou(np.array([[1, 4], [0, 0]])).tolist()
    [0.25, nan]
    """
    return _divide(counts[:, 0], counts[:, 1])


def _validate_labels(
    target: Integers, prediction: Integers, ignore_index: int
) -> NDArray[np.bool_]:
    """Validates dtypes and shapes; returns where the target is not ignored."""
    for name, labels in (("target", target), ("prediction", prediction)):
        if labels.dtype.kind not in "biu":
            raise TypeError(f"{name} must be an array of integers, not of {labels.dtype}")
    if target.shape != prediction.shape:
        shapes = f"{list(target.shape)} and {list(prediction.shape)}"
        raise ValueError(f"target and prediction must be of one shape, not {shapes}")
    is_counted: NDArray[np.bool_] = target != ignore_index
    return is_counted


def _validate_range(name: str, values: Integers, classes: int) -> Integers:
    if values.size and not 0 <= values.min() <= values.max() < classes:
        invalid = values.min() if values.min() < 0 else values.max()
        raise ValueError(f"{name} must lie in 0 .. {classes - 1}, not {invalid}")
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


def _differs_nearby(labels: Integers, distance: int, outside: int) -> NDArray[np.bool_]:
    """Where a label within `distance` is another: the boundaries of all classes in one pass."""
    low, high = (
        _filter_windows(labels, extreme, distance, outside=outside)
        for extreme in (np.minimum, np.maximum)
    )
    differs: NDArray[np.bool_] = low != high
    return differs


def _filter_windows(
    values: NDArray[Any], extreme: Extreme, distance: int, *, outside: int
) -> NDArray[Any]:
    """The minimum or maximum of the window of (2 `distance` + 1)^2 values around each value.

    Beyond the edges lies `outside`. First along columns, then along rows: windows double in width
    until two of them that overlap cover the whole window.
    """
    for _ in range(2):
        # A window that reaches beyond both edges gains nothing from reaching farther.
        reach = min(distance, len(values))
        windows = np.pad(values, ((reach, reach), (0, 0)), constant_values=outside)
        width = 1
        while width <= reach:
            windows = extreme(windows[:-width], windows[width:])
            width *= 2
        shift = 2 * reach + 1 - width
        values = extreme(windows[: len(windows) - shift], windows[shift:]).T
    return values


def _divide(part: Counts, whole: Counts) -> Floats:
    quotients: Floats = np.full(whole.shape, np.nan)
    np.divide(part, whole, out=quotients, where=whole != 0)
    return quotients


def _quotient(part: float, whole: float) -> float:
    return float(part / whole) if whole else math.nan
