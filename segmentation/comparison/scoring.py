"""Scores a trained model on test images, in one pass: each image is predicted once.

What each image adds to the scores is kept, so that images can be drawn with replacement later.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from upmap.metrics.semantic import IGNORED, boundary_counts, confusion_matrix
from upmap.segmentation.datasets import SegmentationDataset
from upmap.segmentation.evaluation import batch_items, logits_at
from upmap.segmentation.predictor import predict_labels
from upmap.segmentation.tiling import DEFAULT_WINDOW, count_windows
from upmap.segmentation.training_options import TrainOptions
from upmap.segmentation.upsampling import Upsampler

__all__ = [
    "SCORES",
    "TestScores",
    "cell_side",
    "count_errors",
    "error_spread",
    "mean_iou",
    "score_model",
]

MAX_CELL = 64  # px
WINDOW = (DEFAULT_WINDOW, DEFAULT_WINDOW)  # px

Counts = NDArray[np.int64]
Floats = NDArray[np.float64]
Pixels = NDArray[np.uint8]


@dataclass(frozen=True, slots=True, eq=False)
class TestScores:
    """What I test images add to the scores of a model, for K classes and cells of s x s px.

    Attributes:
        confusion: int64 [K, K], target by prediction, of all images.
        regions: int64 [I, K, 2], intersection and union of each class.
        boundaries: int64 [I, K, 2], intersection and union of each class's boundary.
        errors: int64 [s, s, 2], wrong pixels and all pixels at each place in the cell.
        predictions: The classes of the pixels, uint8 [H, W], of the first images.
    """

    __test__ = False  # no test, though pytest would take it for one

    confusion: Counts
    regions: Counts
    boundaries: Counts
    errors: Counts
    predictions: list[Pixels]


def score_model(
    model: nn.Module, dataset: SegmentationDataset, training: TrainOptions, *, kept: int = 0
) -> TestScores:
    """Scores a model on every image of a data set.

    Args:
        model: The model, in evaluation mode.
        dataset: The test images.
        training: The options that it was trained with; factor, precision and batch size count.
        kept: Number of images whose predictions are kept, from the first.
    """
    classes, side = len(dataset.classes), cell_side(model, training.factor)
    total = np.zeros((classes, classes), np.int64)
    errors = np.zeros((side, side, 2), np.int64)
    regions: list[Counts] = []
    boundaries: list[Counts] = []
    predictions: list[Pixels] = []
    for target, prediction in _predict_dataset(model, dataset, training):
        confusion = confusion_matrix(target, prediction, classes)
        total += confusion
        regions.append(_intersection_and_union(confusion))
        boundaries.append(boundary_counts(target, prediction, classes))
        count_errors(errors, target, prediction)
        if len(predictions) < kept:
            predictions.append(prediction)
    return TestScores(total, np.stack(regions), np.stack(boundaries), errors, predictions)


@torch.no_grad()
def _predict_dataset(
    model: nn.Module, dataset: SegmentationDataset, training: TrainOptions
) -> Iterator[tuple[Pixels, Pixels]]:
    """The label and the predicted classes, uint8 [H, W], of each image, at full size."""
    device = next(model.parameters()).device
    settings: dict[str, Any] = {
        "factor": training.factor,
        "precision": training.optimization.precision,
    }
    items = (dataset[i] for i in range(len(dataset)))
    for images, labels in batch_items(items, training.batch_size, training.factor):
        if count_windows((images.shape[2], images.shape[3]), WINDOW) == 1:
            logits = logits_at(model, images.to(device), **settings)
            predictions = logits.argmax(1).cpu().numpy().astype(np.uint8)
        else:
            maps = [predict_labels(model, x.to(device), window=WINDOW, **settings) for x in images]
            predictions = torch.stack(maps).cpu().numpy()
        yield from zip(labels.numpy(), predictions, strict=True)


def cell_side(model: nn.Module, factor: float) -> int:
    """The side, px of the test images, of the cell that a model's coarsest operator repeats in.

    Args:
        model: The model.
        factor: Scale of images at the model's input.

    Returns:
        The largest scale of its operators, divided by `factor`; 1, a cell without places, where
        this is no whole number of at most MAX_CELL.
    """
    scales = [module.scale for module in model.modules() if isinstance(module, Upsampler)]
    side = max(scales, default=1) / factor
    return int(side) if side.is_integer() and side <= MAX_CELL else 1


def mean_iou(counts: Counts) -> Floats:
    """The mean over classes of intersection / union, float64 [...], of int64 [..., K, 2].

    Classes without union are left out, as in `semantic_scores`. The same for boundaries.

    >>> mean_iou(np.array([[1, 2], [0, 0]]))
    array(0.5)
    """
    intersection, union = counts[..., 0], counts[..., 1]
    is_defined = union > 0
    iou = np.divide(intersection, union, out=np.zeros(union.shape), where=is_defined)
    return np.asarray(iou.sum(-1) / np.maximum(is_defined.sum(-1), 1))


def error_spread(errors: Counts) -> float | None:
    """How unequal error rates are over the places of a cell: standard deviation by mean.

    Args:
        errors: int64 [s, s, 2], wrong pixels and all pixels.

    Returns:
        None for a cell of one place, places without pixels, or a model without errors.

    >>> error_spread(np.array([[[1, 4], [3, 4]], [[1, 4], [3, 4]]]))
    0.5
    """
    wrong, pixels = errors[..., 0], errors[..., 1]
    if errors.shape[0] < 2 or not pixels.all() or not wrong.any():
        return None
    rates = wrong / pixels
    return float(rates.std() / rates.mean())


def _intersection_and_union(confusion: Counts) -> Counts:
    correct = np.diag(confusion)
    return np.stack([correct, confusion.sum(0) + confusion.sum(1) - correct], axis=1)


def count_errors(errors: Counts, target: Pixels, prediction: Pixels) -> None:
    """Adds the pixels of an image to those of each place in the cell.

    Args:
        errors: int64 [s, s, 2], wrong pixels and all pixels; changed in place.
        target: uint8 [H, W], 0 .. K - 1 or IGNORED.
        prediction: uint8 [H, W].
    """
    is_counted = target != IGNORED
    is_wrong = is_counted & (target != prediction)
    for sums, pixels in ((errors[..., 0], is_wrong), (errors[..., 1], is_counted)):
        sums += _sum_cells(pixels, len(errors))


def _sum_cells(pixels: NDArray[np.bool_], side: int) -> Counts:
    """The number of pixels at each place in the cell, int64 [side, side]."""
    height, width = (-(-length // side) * side for length in pixels.shape)
    whole = np.zeros((height, width), np.bool_)  # in whole cells
    whole[: pixels.shape[0], : pixels.shape[1]] = pixels
    columns = whole.reshape(-1, side, width).sum(0)  # rows first: each sum adds whole rows
    return np.asarray(columns.reshape(side, -1, side).sum(1), np.int64)


SCORES: dict[str, Callable[[TestScores], Counts]] = {
    # The key in results.json, and what each image adds to it.
    "miou": lambda scores: scores.regions,
    "boundary_iou": lambda scores: scores.boundaries,
}
