"""Scores of semantic segmentation against scikit-learn and OpenCV, and by hand."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import confusion_matrix as sklearn_confusion
from sklearn.metrics import f1_score, jaccard_score

from metrics.semantic import (
    IGNORED,
    boundary,
    boundary_counts,
    boundary_distance,
    boundary_iou,
    confusion_matrix,
    semantic_scores,
)

cv2 = pytest.importorskip("cv2", reason="needs OpenCV")
SEEDS = st.integers(0, 2**32 - 1)


def labels(seed: int, classes: int = 4, shape: tuple[int, ...] = (2, 9, 11)) -> list[np.ndarray]:
    """A target with ignored pixels, and a prediction that is often right."""
    rng = np.random.default_rng(seed)
    target = rng.integers(0, classes, shape).astype(np.uint8)
    wrong = rng.integers(0, classes, shape).astype(np.uint8)
    prediction = np.where(rng.random(shape) < 0.6, target, wrong)
    target[rng.random(shape) < 0.1] = IGNORED
    return [target, prediction]


@given(SEEDS)
def test_everything_equals_scikit_learns(seed: int) -> None:
    target, prediction = labels(seed)
    counts = target != IGNORED
    peer = {"y_true": target[counts], "y_pred": prediction[counts], "labels": range(4)}
    confusion = confusion_matrix(target, prediction, 4)
    scores = semantic_scores(confusion)
    np.testing.assert_array_equal(confusion, sklearn_confusion(**peer))
    # The same two integers are divided, so the quotients are equal to the last bit.
    np.testing.assert_array_equal(scores.iou, jaccard_score(**peer, average=None))
    np.testing.assert_allclose(scores.dice, f1_score(**peer, average=None), rtol=1e-15)
    assert scores.mIoU == scores.iou.mean()
    assert scores.pixel_accuracy == (target == prediction)[counts].mean()


@given(SEEDS)
def test_images_add_up(seed: int) -> None:
    target, prediction = labels(seed)
    parts = [confusion_matrix(*pair, 4) for pair in zip(target, prediction, strict=True)]
    np.testing.assert_array_equal(sum(parts), confusion_matrix(target, prediction, 4))


@given(SEEDS)
def test_classes_may_be_renamed(seed: int) -> None:
    target, prediction = labels(seed)
    order = np.random.default_rng(seed).permutation(4)
    renamed = np.append(order, np.full(252, IGNORED)).astype(np.uint8)
    scores = semantic_scores(confusion_matrix(target, prediction, 4))
    again = semantic_scores(confusion_matrix(renamed[target], renamed[prediction], 4))
    np.testing.assert_array_equal(again.iou[order], scores.iou)
    np.testing.assert_array_equal(again.pixels[order], scores.pixels)


def test_an_example_by_hand() -> None:
    target = np.array([[0, 0, 0, 1], [1, 1, 255, 1]])
    prediction = np.array([[0, 0, 1, 1], [1, 0, 0, 1]])
    scores = semantic_scores(confusion_matrix(target, prediction, 2))
    assert scores.iou.tolist() == [2 / 4, 3 / 5]
    assert scores.dice.tolist() == [4 / 6, 6 / 8]
    assert scores.accuracy.tolist() == [2 / 3, 3 / 4]
    assert scores.pixel_accuracy == 5 / 7
    assert scores.pixels.tolist() == [3, 4]


def test_a_class_that_is_nowhere_is_undefined_and_one_only_predicted_is_0() -> None:
    scores = semantic_scores(confusion_matrix(np.array([0, 0, 0]), np.array([0, 0, 1]), 3))
    np.testing.assert_array_equal(scores.iou, [2 / 3, 0, np.nan])
    np.testing.assert_array_equal(scores.accuracy, [2 / 3, np.nan, np.nan])
    assert scores.mIoU == 1 / 3
    assert scores.mean_accuracy == 2 / 3


def test_nothing_at_all_is_undefined() -> None:
    scores = semantic_scores(confusion_matrix(np.full(5, IGNORED), np.zeros(5, int), 2))
    assert math.isnan(scores.mIoU)
    assert math.isnan(scores.pixel_accuracy)


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.uint16, np.int32, np.int64])
def test_narrow_integers_do_not_overflow(dtype: type) -> None:
    classes = 120
    target = np.arange(classes).astype(dtype)
    confusion = confusion_matrix(target, target[::-1], classes, ignore_index=-1)
    assert confusion[119, 0] == 1
    assert confusion.sum() == classes


@pytest.mark.parametrize(
    ("target", "prediction", "message"),
    [
        ([0, 3], [0, 0], "target must lie in 0 .. 2, not 3"),
        ([0, -1], [0, 0], "target must lie in 0 .. 2, not -1"),
        ([0, 1], [0, 9], "prediction must lie in 0 .. 2, not 9"),
        ([0, 1, 2], [0, 1], r"of one shape, not \[3\] and \[2\]"),
    ],
)
def test_what_does_not_fit_is_refused(target: list, prediction: list, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        confusion_matrix(np.array(target), np.array(prediction), 3)


def opencv_boundary(mask: np.ndarray, distance: int) -> np.ndarray:
    """As boundary-iou-api's mask_to_boundary has it."""
    padded = cv2.copyMakeBorder(mask.astype(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    eroded = cv2.erode(padded, np.ones((3, 3), np.uint8), iterations=distance)
    return mask & ~eroded[1:-1, 1:-1].astype(bool)


@given(SEEDS, st.integers(1, 9), st.sampled_from([(1, 1), (1, 9), (12, 7), (30, 40)]))
def test_boundaries_equal_opencvs(seed: int, distance: int, shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(seed)
    mask = cv2.blur(rng.random(shape), (5, 5)) > 0.45
    np.testing.assert_array_equal(boundary(mask, distance), opencv_boundary(mask, distance))


def test_boundary_iou_counts_only_what_is_near_an_edge() -> None:
    target = np.zeros((20, 20), int)
    target[4:16, 4:16] = 1
    moved = np.roll(target, 1, axis=1)
    counts = boundary_counts(target, moved, 2, distance=1)
    # A ring of 44 px against itself moved by one: the two rows of 12 meet in 11 each, the columns
    # in their corners alone, which are in those rows.
    assert counts[1].tolist() == [22, 66]
    assert boundary_iou(counts)[1] == 22 / 66


def test_a_perfect_prediction_has_a_boundary_iou_of_1_and_a_missing_class_none() -> None:
    target = labels(0, shape=(9, 11))[0]
    found = boundary_iou(boundary_counts(target, target, 5))
    np.testing.assert_array_equal(found, [1, 1, 1, 1, np.nan])


def test_what_is_predicted_on_ignored_pixels_changes_nothing() -> None:
    target, prediction = labels(3, shape=(9, 11))
    other = np.where(target == IGNORED, (prediction + 1) % 4, prediction)
    first, second = (boundary_counts(target, one, 4) for one in (prediction, other))
    np.testing.assert_array_equal(first, second)


def test_boundaries_are_two_hundredths_of_the_diagonal_wide() -> None:
    assert boundary_distance(300, 400) == 10
    assert boundary_distance(3, 4) == 1


def test_a_boundary_without_width_or_of_a_stack_is_refused() -> None:
    with pytest.raises(ValueError, match="distance must be at least 1"):
        boundary(np.ones((2, 2), bool), 0)
    with pytest.raises(ValueError, match=r"expected \[H, W\], got \[2, 9, 11\]"):
        boundary_counts(*labels(0), 4)
