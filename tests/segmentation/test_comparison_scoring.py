"""Tests of scoring in one pass, against the functions that score one thing each."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from upmap.metrics.semantic import boundary_counts, boundary_iou, semantic_scores
from upmap.segmentation.comparison.scoring import (
    cell_side,
    count_errors,
    error_spread,
    mean_iou,
    score_model,
)
from upmap.segmentation.datasets import SegmentationDataset, open_dataset
from upmap.segmentation.evaluation import evaluate_model, logits_at
from upmap.segmentation.models import ModelOptions, build_model
from upmap.segmentation.training_options import TrainOptions

MODEL = ModelOptions(classes=2, architecture="fcn8s", width=4, depth=3)
TRAINING = TrainOptions(dataset="edges", batch_size=3, model=MODEL)


@pytest.fixture(scope="module")
def model() -> nn.Module:
    torch.manual_seed(0)
    return build_model(MODEL).eval()


@pytest.fixture(scope="module")
def dataset() -> SegmentationDataset:
    return open_dataset("edges", None, "test", count=7)


def predict(model: nn.Module, dataset: SegmentationDataset) -> list[np.ndarray]:
    with torch.no_grad():
        return [
            logits_at(model, dataset[i][0][None])[0].argmax(0).numpy().astype(np.uint8)
            for i in range(len(dataset))
        ]


def test_scores_are_those_of_the_evaluation(model: nn.Module, dataset: SegmentationDataset) -> None:
    scores = score_model(model, dataset, TRAINING)
    items = (dataset[i] for i in range(len(dataset)))
    expected = evaluate_model(model, items, 2, device=torch.device("cpu"))
    assert np.array_equal(scores.confusion, expected)
    assert mean_iou(scores.regions.sum(axis=0)) == semantic_scores(expected).mIoU


def test_boundaries_are_counted_for_each_image(
    model: nn.Module, dataset: SegmentationDataset
) -> None:
    scores = score_model(model, dataset, TRAINING, kept=2)
    predictions = predict(model, dataset)
    for i, prediction in enumerate(predictions):
        expected = boundary_counts(dataset[i][1].numpy(), prediction, 2)
        assert np.array_equal(scores.boundaries[i], expected)
    total = scores.boundaries.sum(axis=0)
    assert mean_iou(total) == pytest.approx(np.nanmean(boundary_iou(total)))
    assert len(scores.predictions) == 2
    assert np.array_equal(scores.predictions, predictions[:2])


def test_errors_are_counted_by_place_and_void_is_not(
    model: nn.Module, dataset: SegmentationDataset
) -> None:
    class WithVoid(SegmentationDataset):
        def __getitem__(self, item: int) -> tuple[torch.Tensor, torch.Tensor]:
            image, label = super().__getitem__(item)
            label = label.clone()
            label[:5, 3:30] = 255
            return image, label

    void = WithVoid(*(getattr(dataset, f) for f in dataset.__dataclass_fields__))
    scores = score_model(model, void, TRAINING)
    expected = np.zeros((8, 8, 2), int)
    for i, prediction in enumerate(predict(model, dataset)):
        label = void[i][1].numpy()
        for row in range(64):
            for column in range(64):
                if label[row, column] != 255:
                    is_wrong = int(label[row, column] != prediction[row, column])
                    expected[row % 8, column % 8] += (is_wrong, 1)
    assert np.array_equal(scores.errors, expected)
    assert scores.errors[..., 1].sum() == scores.confusion.sum()


@pytest.mark.parametrize(
    ("options", "factor", "side"),
    [
        (MODEL, 1.0, 8),
        (MODEL, 0.5, 16),
        (MODEL, 0.75, 1),  # 10.7 px: places would not repeat
        (replace(MODEL, architecture="unet"), 1.0, 2),
    ],
)
def test_the_cell_is_that_of_the_coarsest_operator(
    options: ModelOptions, factor: float, side: int
) -> None:
    assert cell_side(build_model(options), factor) == side


def test_errors_of_an_image_that_ends_within_a_cell_are_counted_at_their_places() -> None:
    rng = np.random.default_rng(0)
    target, prediction = rng.integers(0, 3, (2, 13, 22), np.uint8)
    target[:4, 5:9] = 255
    errors, expected = np.ones((2, 5, 5, 2), np.int64)  # they are added to what is there
    count_errors(errors, target, prediction)
    for row, column in np.ndindex(13, 22):
        if target[row, column] != 255:
            is_wrong = target[row, column] != prediction[row, column]
            expected[row % 5, column % 5] += (is_wrong, 1)
    assert np.array_equal(errors, expected)


def test_errors_at_one_place_of_four_spread_by_the_square_root_of_three() -> None:
    errors = np.full((2, 2, 2), 10)
    errors[..., 0] = [[4, 0], [0, 0]]
    assert error_spread(errors) == pytest.approx(3**0.5)
    assert error_spread(np.zeros((2, 2, 2), int)) is None
    assert error_spread(errors[:1, :1]) is None
