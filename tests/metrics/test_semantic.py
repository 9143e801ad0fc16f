"""Scores of semantic segmentation against scikit-learn and OpenCV, and by hand."""

import dataclasses
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.metrics.random_coco import ALIKE_EVERY_TIME
from upmap.metrics.semantic import (
    IGNORED,
    SemanticScores,
    boundary,
    boundary_counts,
    boundary_distance,
    boundary_iou,
    confusion_matrix,
    semantic_scores,
)

cv2 = pytest.importorskip("cv2", reason="needs OpenCV")
sklearn = pytest.importorskip("sklearn.metrics", reason="needs scikit-learn")

ROOT = Path(__file__).resolve().parents[2]
SEEDS = st.integers(0, 2**32 - 1)
SHAPES = st.sampled_from([(1, 1), (1, 9), (12, 7), (30, 40)])


def labels(seed: int, classes: int = 4, shape: tuple[int, ...] = (2, 9, 11)) -> list[np.ndarray]:
    """A target with ignored pixels, and a prediction that is often right."""
    rng = np.random.default_rng(seed)
    target = rng.integers(0, classes, shape).astype(np.uint8)
    wrong = rng.integers(0, classes, shape).astype(np.uint8)
    prediction = np.where(rng.random(shape) < 0.6, target, wrong)
    target[rng.random(shape) < 0.1] = IGNORED
    return [target, prediction]


def patches(seed: int, classes: int, shape: tuple[int, int]) -> list[np.ndarray]:
    """As `labels`, in patches with an inside: two maps, the first with ignored patches."""
    rng = np.random.default_rng(seed)
    height, width = shape
    maps = []
    for _ in range(3):
        side = int(rng.integers(1, 9))
        coarse = rng.integers(0, classes, (height // side + 1, width // side + 1))
        maps.append(coarse.repeat(side, 0).repeat(side, 1)[:height, :width])
    ignored, target, prediction = maps
    return [np.where(ignored == 0, IGNORED, target).astype(np.uint8), prediction.astype(np.uint8)]


def values(scores: SemanticScores) -> dict[str, float]:
    """The scores that are one number."""
    fields = {field.name: getattr(scores, field.name) for field in dataclasses.fields(scores)}
    return {name: value for name, value in fields.items() if isinstance(value, float)}


@settings(ALIKE_EVERY_TIME)
@given(SEEDS, st.sampled_from([(2, 9, 11), (5,), (1, 2)]))
def test_everything_equals_scikit_learns(seed: int, shape: tuple[int, ...]) -> None:
    target, prediction = labels(seed, shape=shape)
    counts = target != IGNORED
    if not counts.any():  # which scikit-learn refuses
        return
    peer = {"y_true": target[counts], "y_pred": prediction[counts], "labels": range(4)}
    confusion = confusion_matrix(target, prediction, 4)
    scores = semantic_scores(confusion)
    np.testing.assert_array_equal(confusion, sklearn.confusion_matrix(**peer))
    assert confusion.dtype == np.int64
    # The same two integers are divided, so the quotients are equal to the last bit.
    somewhere = confusion.sum(axis=0) + confusion.sum(axis=1) > 0
    iou = sklearn.jaccard_score(**peer, average=None, zero_division=0)
    np.testing.assert_array_equal(scores.iou, np.where(somewhere, iou, np.nan))
    dice = sklearn.f1_score(**peer, average=None, zero_division=np.nan)
    np.testing.assert_array_equal(scores.dice, dice)
    recall = sklearn.recall_score(**peer, average=None, zero_division=np.nan)
    np.testing.assert_array_equal(scores.accuracy, recall)
    assert scores.pixel_accuracy == sklearn.accuracy_score(peer["y_true"], peer["y_pred"])
    weighted = sklearn.jaccard_score(**peer, average="weighted", zero_division=0)
    # Sums of at most 4 products, in another order: a few roundings of 1.1e-16 each.
    assert scores.frequency_weighted_iou == pytest.approx(weighted, rel=1e-15)


@settings(ALIKE_EVERY_TIME)
@given(SEEDS)
def test_means_are_of_what_is_defined(seed: int) -> None:
    scores = semantic_scores(confusion_matrix(*labels(seed, shape=(3,)), 4))
    for mean, each in (
        (scores.mIoU, scores.iou),
        (scores.mean_dice, scores.dice),
        (scores.mean_accuracy, scores.accuracy),
    ):
        defined = [value for value in each.tolist() if not math.isnan(value)]
        expected = sum(defined) / len(defined) if defined else math.nan
        # Sums of at most 4 numbers, in another order.
        assert mean == pytest.approx(expected, rel=1e-15, nan_ok=True)


@settings(ALIKE_EVERY_TIME)
@given(SEEDS)
def test_images_add_up(seed: int) -> None:
    target, prediction = labels(seed)
    parts = [confusion_matrix(*pair, 4) for pair in zip(target, prediction, strict=True)]
    np.testing.assert_array_equal(sum(parts), confusion_matrix(target, prediction, 4))


@settings(ALIKE_EVERY_TIME)
@given(SEEDS, st.integers(0, 198))
def test_any_split_of_the_pixels_adds_up(seed: int, cut: int) -> None:
    target, prediction = (array.ravel() for array in labels(seed))
    parts = confusion_matrix(target[:cut], prediction[:cut], 4) + confusion_matrix(
        target[cut:], prediction[cut:], 4
    )
    np.testing.assert_array_equal(parts, confusion_matrix(target, prediction, 4))


@settings(ALIKE_EVERY_TIME)
@given(SEEDS)
def test_classes_may_be_renamed(seed: int) -> None:
    target, prediction = labels(seed)
    order = np.random.default_rng(seed).permutation(4)
    renamed = np.append(order, np.full(252, IGNORED)).astype(np.uint8)
    scores = semantic_scores(confusion_matrix(target, prediction, 4))
    again = semantic_scores(confusion_matrix(renamed[target], renamed[prediction], 4))
    for name in ("iou", "dice", "accuracy", "pixels"):
        np.testing.assert_array_equal(getattr(again, name)[order], getattr(scores, name))
    # Means are sums of 4 numbers in another order.
    assert values(again) == pytest.approx(values(scores), rel=1e-15)


def test_an_example_by_hand() -> None:
    target = np.array([[0, 0, 0, 1], [1, 1, 255, 1]])
    prediction = np.array([[0, 0, 1, 1], [1, 0, 0, 1]])
    scores = semantic_scores(confusion_matrix(target, prediction, 2))
    assert scores.iou.tolist() == [2 / 4, 3 / 5]
    assert scores.dice.tolist() == [4 / 6, 6 / 8]
    assert scores.accuracy.tolist() == [2 / 3, 3 / 4]
    assert scores.pixel_accuracy == 5 / 7
    assert scores.frequency_weighted_iou == (3 * (2 / 4) + 4 * (3 / 5)) / 7
    assert scores.pixels.tolist() == [3, 4]


def test_rows_are_targets_and_columns_predictions() -> None:
    confusion = confusion_matrix(np.array([0, 0, 0]), np.array([2, 2, 1]), 3)
    assert confusion.tolist() == [[0, 1, 2], [0, 0, 0], [0, 0, 0]]


def test_a_class_that_is_nowhere_is_undefined_and_one_only_predicted_is_0() -> None:
    scores = semantic_scores(confusion_matrix(np.array([0, 0, 0]), np.array([0, 0, 1]), 3))
    np.testing.assert_array_equal(scores.iou, [2 / 3, 0, np.nan])
    np.testing.assert_array_equal(scores.dice, [4 / 5, 0, np.nan])
    np.testing.assert_array_equal(scores.accuracy, [2 / 3, np.nan, np.nan])
    assert scores.mIoU == 1 / 3
    assert scores.mean_dice == 2 / 5
    assert scores.mean_accuracy == 2 / 3
    assert scores.frequency_weighted_iou == 2 / 3


def test_nothing_at_all_is_undefined() -> None:
    scores = semantic_scores(confusion_matrix(np.full(5, IGNORED), np.zeros(5, int), 2))
    numbers = values(scores)
    assert len(numbers) == 5
    assert all(math.isnan(value) for value in numbers.values())
    assert np.isnan([scores.iou, scores.dice, scores.accuracy]).all()
    assert scores.pixels.tolist() == [0, 0]


@pytest.mark.parametrize("shape", [(0,), (0, 4), (4, 0)])
def test_no_pixels_count_as_nothing(shape: tuple[int, ...]) -> None:
    none = np.zeros(shape, np.uint8)
    assert confusion_matrix(none, none, 2).tolist() == [[0, 0], [0, 0]]
    if none.ndim == 2:
        assert boundary(none, 3).shape == shape
        assert boundary_counts(none, none, 2).tolist() == [[0, 0], [0, 0]]


def test_another_label_may_be_the_ignored_one() -> None:
    target, prediction = np.array([-1, 0, 1, 7]), np.array([9, 0, 0, 7])
    assert confusion_matrix(target, prediction, 8, ignore_index=-1).sum() == 3
    assert confusion_matrix(target[1:], prediction[1:], 2, ignore_index=7).sum() == 2
    assert confusion_matrix(target[1:], prediction[1:], 8, ignore_index=0).diagonal()[0] == 0


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.uint16, np.int32, np.int64, np.uint64])
def test_narrow_integers_do_not_overflow(dtype: type) -> None:
    classes = 120
    target = np.arange(classes).astype(dtype)
    confusion = confusion_matrix(target, target[::-1], classes, ignore_index=-1)
    assert confusion[119, 0] == 1
    assert confusion.sum() == classes


def test_255_classes_fit_into_bytes_beside_the_ignored_label() -> None:
    target = np.arange(256, dtype=np.uint8).reshape(16, 16)
    prediction = np.where(target == 0, 254, target - 1).astype(np.uint8)
    expected = np.roll(np.eye(255), -1, axis=1)
    np.testing.assert_array_equal(confusion_matrix(target, prediction, 255), expected)
    # Patches of one pixel are all boundary.
    counts = boundary_counts(target, prediction, 255)
    np.testing.assert_array_equal(counts, np.tile([0, 2], (255, 1)))


def test_256_classes_fit_into_bytes_without_an_ignored_label() -> None:
    target = np.arange(256, dtype=np.uint8).reshape(16, 16)
    confusion = confusion_matrix(target, target, 256, ignore_index=-1)
    np.testing.assert_array_equal(confusion, np.eye(256))
    counts = boundary_counts(target, target, 256, ignore_index=-1)
    np.testing.assert_array_equal(counts, np.ones((256, 2)))


def test_many_pixels_and_narrow_matrices_do_not_overflow() -> None:
    few = np.array([[200, 0], [200, 200]], np.uint8)
    many = few.astype(np.int64) << 40
    for confusion in (few, many):
        assert semantic_scores(confusion).iou.tolist() == [1 / 2, 1 / 2]
    assert semantic_scores(few).dice.tolist() == [2 / 3, 2 / 3]


@pytest.mark.parametrize(
    ("target", "prediction", "message"),
    [
        ([0, 3], [0, 0], "target must lie in 0 .. 2, not 3"),
        ([0, -1], [0, 0], "target must lie in 0 .. 2, not -1"),
        ([0, 1], [0, 9], "prediction must lie in 0 .. 2, not 9"),
        ([0, 1], [0, 255], "prediction must lie in 0 .. 2, not 255"),
        ([0, 1, 2], [0, 1], r"of one shape, not \[3\] and \[2\]"),
    ],
)
def test_what_does_not_fit_is_refused(target: list, prediction: list, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        confusion_matrix(np.array(target), np.array(prediction), 3)
    if len(target) == len(prediction):
        with pytest.raises(ValueError, match=message):
            boundary_counts(np.array([target]), np.array([prediction]), 3)


def test_what_is_predicted_on_ignored_pixels_may_be_anything() -> None:
    target, prediction = np.array([[0, 255, 255]]), np.array([[0, 255, -7]])
    assert confusion_matrix(target, prediction, 1).tolist() == [[1]]
    assert boundary_counts(target, prediction, 1).tolist() == [[1, 1]]


@pytest.mark.parametrize("function", [confusion_matrix, boundary_counts])
def test_fractions_are_refused(function: object) -> None:
    whole = np.zeros((2, 2), int)
    assert callable(function)
    with pytest.raises(TypeError, match="target must be an array of integers, not of float64"):
        function(whole / 1, whole, 2)
    with pytest.raises(TypeError, match="prediction must be an array of integers, not of float32"):
        function(whole, whole.astype(np.float32), 2)


def test_what_is_not_a_confusion_matrix_is_refused() -> None:
    with pytest.raises(ValueError, match=r"confusion must be \[K, K\], not \[2, 3\]"):
        semantic_scores(np.zeros((2, 3), int))
    with pytest.raises(TypeError, match="confusion must be an array of integers, not of float64"):
        semantic_scores(np.eye(2))


def opencv_boundary(mask: np.ndarray, distance: int) -> np.ndarray:
    """As boundary-iou-api's mask_to_boundary has it."""
    padded = cv2.copyMakeBorder(mask.astype(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    eroded = cv2.erode(padded, np.ones((3, 3), np.uint8), iterations=distance)
    return mask & ~eroded[1:-1, 1:-1].astype(bool)


@settings(ALIKE_EVERY_TIME)
@given(SEEDS, st.integers(1, 20), SHAPES)
def test_boundaries_equal_opencvs(seed: int, distance: int, shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(seed)
    # Blurred noise: from specks to masks with a deep inside.
    mask = cv2.blur(rng.random(shape), (5, 5)) > rng.uniform(0.2, 0.6)
    np.testing.assert_array_equal(boundary(mask, distance), opencv_boundary(mask, distance))


@pytest.mark.parametrize("distance", [1, 2, 3, 4, 7, 8, 15, 16, 17, 31])
def test_the_inside_of_a_full_image_begins_at_the_distance(distance: int) -> None:
    edge = boundary(np.ones((64, 70), bool), distance)
    assert not edge[distance:-distance, distance:-distance].any()
    assert edge.sum() == 64 * 70 - (64 - 2 * distance) * (70 - 2 * distance)


@pytest.mark.parametrize("distance", [4, 5, 9, 10**12])
def test_a_mask_nowhere_deeper_than_the_distance_is_all_boundary(distance: int) -> None:
    assert boundary(np.ones((8, 30), bool), distance).all()


def test_a_mask_may_be_of_bytes() -> None:
    mask = np.zeros((9, 9), np.uint8)
    mask[2:7, 2:7] = 255
    edge = boundary(mask, 1)
    assert edge.dtype == bool
    np.testing.assert_array_equal(edge, opencv_boundary(mask > 0, 1))


@settings(ALIKE_EVERY_TIME)
@given(SEEDS, st.integers(1, 9), SHAPES, st.sampled_from([2, 5, 21]))
def test_boundary_counts_are_those_of_each_classs_masks(
    seed: int, distance: int, shape: tuple[int, int], classes: int
) -> None:
    target, prediction = patches(seed, classes, shape)
    counts = target != IGNORED
    pixels = boundary_counts(target, prediction, classes, distance=distance)
    assert pixels.dtype == np.int64
    for k in range(classes):
        annotated, predicted = (
            opencv_boundary((m == k) & counts, distance) for m in (target, prediction)
        )
        assert pixels[k].tolist() == [(annotated & predicted).sum(), (annotated | predicted).sum()]


@settings(ALIKE_EVERY_TIME)
@given(SEEDS)
def test_boundaries_do_not_depend_on_the_names_of_classes(seed: int) -> None:
    target, prediction = patches(seed, 5, (12, 17))
    order = np.random.default_rng(seed).permutation(5)
    renamed = np.append(order, np.full(251, IGNORED)).astype(np.uint8)
    again = boundary_counts(renamed[target], renamed[prediction], 5, distance=2)
    np.testing.assert_array_equal(again[order], boundary_counts(target, prediction, 5, distance=2))


@settings(ALIKE_EVERY_TIME)
@given(SEEDS)
def test_boundaries_do_not_depend_on_how_the_image_is_turned(seed: int) -> None:
    pair = patches(seed, 5, (12, 17))
    expected = boundary_counts(*pair, 5, distance=2)
    for turned in ([m.T for m in pair], [m[::-1] for m in pair], [m[:, ::-1] for m in pair]):
        np.testing.assert_array_equal(boundary_counts(*turned, 5, distance=2), expected)


@settings(ALIKE_EVERY_TIME)
@given(SEEDS)
def test_at_a_large_distance_boundary_iou_is_iou(seed: int) -> None:
    pair = patches(seed, 5, (12, 17))
    iou = boundary_iou(boundary_counts(*pair, 5, distance=12))
    np.testing.assert_array_equal(iou, semantic_scores(confusion_matrix(*pair, 5)).iou)


def test_boundary_iou_counts_only_what_is_near_an_edge() -> None:
    target = np.zeros((20, 20), int)
    target[4:16, 4:16] = 1
    moved = np.roll(target, 1, axis=1)
    counts = boundary_counts(target, moved, 2, distance=1)
    # A ring of 44 px against itself moved by one: the two rows of 12 meet in 11 each, the columns
    # in their corners alone, which are in those rows.
    assert counts[1].tolist() == [22, 66]
    assert boundary_iou(counts)[1] == 22 / 66


def test_boundary_counts_of_images_add_before_they_are_divided() -> None:
    counts = np.array([[1, 4], [0, 0], [3, 3]]) + np.array([[2, 2], [0, 0], [0, 1]])
    np.testing.assert_array_equal(boundary_iou(counts), [3 / 6, np.nan, 3 / 4])


def test_a_perfect_prediction_has_a_boundary_iou_of_1_and_a_missing_class_none() -> None:
    target = labels(0, shape=(9, 11))[0]
    prediction = np.where(target == IGNORED, 0, target)
    iou = boundary_iou(boundary_counts(target, prediction, 5))
    np.testing.assert_array_equal(iou, [1, 1, 1, 1, np.nan])


def test_the_edge_of_ignored_pixels_is_a_boundary() -> None:
    target = np.zeros((9, 9), int)
    target[4, 4] = IGNORED
    counts = boundary_counts(target, np.zeros((9, 9), int), 1, distance=1)
    assert counts.tolist() == [[32 + 8, 32 + 8]]  # the image's rim, and the pixel's neighbors


def test_what_is_predicted_on_ignored_pixels_changes_nothing() -> None:
    target, prediction = labels(3, shape=(9, 11))
    other = np.where(target == IGNORED, (prediction + 1) % 4, prediction)
    first, second = (boundary_counts(target, labels, 4) for labels in (prediction, other))
    np.testing.assert_array_equal(first, second)


def test_boundaries_are_two_hundredths_of_the_diagonal_wide() -> None:
    assert boundary_distance(300, 400) == 10
    assert boundary_distance(3, 4) == 1
    assert boundary_distance(300, 400, 0.005) == 2
    target, prediction = patches(1, 3, (90, 120))
    np.testing.assert_array_equal(
        boundary_counts(target, prediction, 3), boundary_counts(target, prediction, 3, distance=3)
    )


def test_the_distance_is_the_official_one_at_every_size() -> None:
    sides = np.arange(1, 2100, 13)
    for height in sides.tolist():
        official = np.maximum(np.round(0.02 * np.sqrt(height**2 + sides**2)), 1)
        assert [boundary_distance(height, width) for width in sides.tolist()] == official.tolist()


def test_a_boundary_without_width_or_of_a_stack_is_refused() -> None:
    with pytest.raises(ValueError, match="distance must be at least 1, not 0"):
        boundary(np.ones((2, 2), bool), 0)
    with pytest.raises(ValueError, match="distance must be at least 1, not -3"):
        boundary_counts(*labels(0, shape=(9, 11)), 4, distance=-3)
    with pytest.raises(ValueError, match=r"expected \[H, W\], got \[2, 9, 11\]"):
        boundary_counts(*labels(0), 4)
    with pytest.raises(ValueError, match=r"expected \[H, W\], got \[4\]"):
        boundary(np.ones(4, bool), 1)


def test_the_inputs_are_left_as_they_were() -> None:
    target, prediction = patches(5, 4, (12, 17))
    before = target.copy(), prediction.copy()
    for array in (target, prediction):
        array.flags.writeable = False
    confusion_matrix(target, prediction, 4)
    boundary_counts(target, prediction, 4)
    np.testing.assert_array_equal([target, prediction], before)


def test_scoring_needs_numpy_alone() -> None:
    code = (
        "import sys; import numpy as np; from upmap.metrics.semantic import *\n"
        "m = np.zeros((4, 4), int); semantic_scores(confusion_matrix(m, m, 1))\n"
        "boundary_iou(boundary_counts(m, m, 1))\n"
        "print(*{'torch', 'cv2', 'scipy', 'matplotlib', 'pycocotools', 'sklearn'} & {*sys.modules})"
    )
    result = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout == "\n"
