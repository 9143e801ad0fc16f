"""The uncertainty of the best F1: replicates against the data written out, and limits."""

import math
from dataclasses import astuple, replace

import numpy as np
import pytest

from tests.metrics.analysis.problems import random_tables
from upmap.detection import detections_from_arrays, ground_truth_from_arrays
from upmap.metrics import COCO, VOC2010, MatchTable, match
from upmap.metrics.analysis.best_thresholds import estimate_best_F1, resample_best_F1
from upmap.metrics.analysis.operating_points import find_operating_points
from upmap.metrics.analysis.uncertainty import collect_outcomes, group_outcomes


def repeat_images(table: MatchTable, weights: np.ndarray) -> MatchTable:
    """The match table in which each row and positive stands as often as its image weighs."""
    copies, objects = weights[table.image], weights[table.positive_image]
    label = np.repeat(table.label, copies)
    positives = np.zeros_like(table.positives)
    for a in range(positives.shape[1]):
        inside = (table.positive_areas >> np.uint64(a)) & np.uint64(1) == 1
        np.add.at(positives[:, a], table.positive_label[inside], objects[inside])
    return replace(
        table,
        label=label,
        image=np.repeat(table.image, copies),
        score=np.repeat(table.score, copies),
        row=np.repeat(table.row, copies),
        rank=np.repeat(table.rank, copies),
        status=np.repeat(table.status, copies, axis=2),
        start=np.searchsorted(label, np.arange(len(table.classes) + 1)),
        positives=positives,
    )


@pytest.mark.parametrize("seed", range(6))
def test_a_replicate_has_the_best_threshold_of_the_data_written_out(seed: int) -> None:
    table = match(*random_tables(seed, levels=[3, 30][seed % 2]), COCO)
    weights = np.random.default_rng(seed).integers(0, 3, (5, len(table.images))).astype(np.uint8)
    weights[0], weights[1] = 1, 0
    result = resample_best_F1(table, collect_outcomes(table), weights)
    for row, numbers in zip(weights, result, strict=True):
        points = find_operating_points(repeat_images(table, row.astype(np.int64)))
        expected = [points.mean_F1, *(point.F1 for point in points.best_F1.values())]
        np.testing.assert_allclose(numbers, expected, rtol=0, atol=1e-12)


def test_the_interval_is_wider_than_that_of_a_threshold_held_and_has_a_seed() -> None:
    table = match(*random_tables(1, images=40), VOC2010)
    points = find_operating_points(table)
    first, again, other = (
        estimate_best_F1(table, points, replicates=200, seed=seed) for seed in (0, 0, 1)
    )
    assert first.to_record() == again.to_record() != other.to_record()
    assert first.mean.value == points.mean_F1
    assert 0 <= first.mean.low < points.mean_F1 < first.mean.high <= 1
    for name, point in points.best_F1.items():
        estimate = first.per_class[name]
        assert estimate.value == point.F1
        assert estimate.low < estimate.value < estimate.high
    together = estimate_best_F1(
        table, points, replicates=50, groups={image: i % 3 for i, image in enumerate(table.images)}
    )
    half = together.mean.high - together.mean.value
    assert half > 4 * together.mean.standard_error  # Student's t of three groups


def test_numbers_that_are_not_defined_have_no_interval() -> None:
    boxes = [{"boxes": [[1, 1, 9, 9]], "labels": ["a"]} for _ in range(4)]
    detected = [{"boxes": [[1, 1, 9, 9]], "labels": ["b"], "scores": [0.5]} for _ in range(4)]
    for images in (4, 0):
        tables = ground_truth_from_arrays(boxes[:images]), detections_from_arrays(detected[:images])
        table = match(*tables, VOC2010)
        result = estimate_best_F1(table, find_operating_points(table), replicates=10)
        if images:
            assert np.isnan(astuple(result.per_class["b"])).all()
            assert result.per_class["a"].value == 0
        else:
            assert math.isnan(result.mean.value)


def test_a_class_on_one_image_has_no_interval() -> None:
    boxes = [{"boxes": [[1, 1, 9, 9]], "labels": [name], "scores": [0.5]} for name in "aab"]
    table = match(ground_truth_from_arrays(boxes), detections_from_arrays(boxes), VOC2010)
    result = estimate_best_F1(table, find_operating_points(table), replicates=20)
    assert result.per_class["b"].value == result.per_class["a"].value == 1
    assert np.isnan(astuple(result.per_class["b"])[1:]).all()
    assert not np.isnan(astuple(result.per_class["a"])).any()


def test_groups_are_images_of_equal_weight() -> None:
    table = match(*random_tables(2), COCO)
    groups = {image: i % 4 for i, image in enumerate(table.images)}
    names, outcomes = group_outcomes(table, groups)
    weights = np.random.default_rng(0).integers(0, 3, (6, len(names))).astype(np.uint8)
    by_image = weights[:, [names.index(groups[image]) for image in table.images]]
    np.testing.assert_array_equal(
        resample_best_F1(table, outcomes, weights),
        resample_best_F1(table, collect_outcomes(table), by_image),
    )
