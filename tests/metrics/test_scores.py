"""The library as its users write it."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from upmap.detection import (
    Detections,
    GroundTruth,
    detections_from_arrays,
    ground_truth_from_arrays,
)
from upmap.metrics import COCO, VOC2007, VOC2010, mean_average_precision

Tables = tuple[GroundTruth, Detections]


def test_the_result_has_what_users_ask_for(sample_tables: Tables) -> None:
    result = mean_average_precision(*sample_tables, protocol=VOC2007)
    name = sample_tables[0].catalog.classes[0]
    assert result.mAP == result.metrics["mAP"]
    assert result.mAP == pytest.approx(np.mean([s.AP for s in result.per_class.values()]))
    curve = result.curve(name)
    assert curve.positives == result.per_class[name].positives
    assert curve.recall[-1] == pytest.approx(result.per_class[name].recall)
    assert (np.diff(curve.score) <= 0).all()
    assert (np.diff(curve.recall) >= 0).all()


def test_ap_follows_from_the_curve(sample_tables: Tables) -> None:
    eleven = mean_average_precision(*sample_tables, protocol=VOC2007)
    every = mean_average_precision(*sample_tables, protocol=VOC2010)
    for name in eleven.per_class:
        curve = eleven.curve(name)
        points = [curve.precision[curve.recall >= i * 0.1].max(initial=0) for i in range(11)]
        assert pytest.approx(sum(points) / 11) == eleven.per_class[name].AP
        envelope = np.maximum.accumulate(curve.precision[::-1])[::-1]
        area = float(np.sum(np.diff(curve.recall, prepend=0) * envelope))
        assert pytest.approx(area) == every.per_class[name].AP


def test_a_curve_at_another_threshold_area_and_cap_ends_in_its_recall(
    sample_tables: Tables,
) -> None:
    result = mean_average_precision(*sample_tables, protocol=COCO)
    name = sample_tables[0].catalog.classes[1]
    curve = result.curve(name, iou=0.75, area="small", max_dets=10)
    expected = result.accumulate().recall[5, 1, 1, 1]
    assert (curve.recall[-1] if len(curve.recall) else 0) == expected


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "unicorn"}, "class must be one of"),
        ({"iou": 0.51}, "iou must be one of"),
        ({"area": "huge"}, "area must be one of all, small"),
        ({"max_dets": 7}, "max_dets must be one of 1, 10, 100"),
    ],
)
def test_an_unknown_curve_names_what_exists(
    options: dict[str, Any], message: str, sample_tables: Tables
) -> None:
    result = mean_average_precision(*sample_tables, protocol=COCO)
    with pytest.raises(ValueError, match=message):
        result.curve(**{"name": sample_tables[0].catalog.classes[0]} | options)


def test_a_class_without_positives_is_undefined_and_left_out_of_the_mean() -> None:
    truth = [{"boxes": [[1, 1, 9, 9]], "labels": ["cat"]}]
    detections = [
        {"boxes": [[1, 1, 9, 9], [2, 2, 5, 5]], "labels": ["cat", "dog"], "scores": [0.5, 0.9]}
    ]
    for protocol in (VOC2007, VOC2010, COCO):
        result = mean_average_precision(truth, detections, protocol=protocol)
        assert result.mAP == pytest.approx(1)
        assert math.isnan(result.per_class["dog"].AP)
        assert result.undefined_classes == ("dog",)


def test_without_any_ground_truth_everything_is_undefined() -> None:
    result = mean_average_precision([], [], protocol=COCO)
    assert all(math.isnan(value) for value in result.metrics.values())


def test_no_detections_score_zero() -> None:
    truth = [{"boxes": [[1, 1, 9, 9]], "labels": [1]}]
    detections = [{"boxes": np.zeros((0, 4)), "labels": [], "scores": []}]
    assert mean_average_precision(truth, detections, protocol=VOC2007).mAP == 0


@settings(max_examples=20, deadline=None, derandomize=True)
@given(seed=st.integers(0, 1000))
def test_the_order_of_ground_truth_rows_of_different_images_does_not_matter(seed: int) -> None:
    rng = np.random.default_rng(seed)
    low = rng.integers(0, 20, (15, 2)) * 1.0
    boxes = np.concatenate([low, low + rng.integers(1, 10, (15, 2))], axis=1)
    truth = ground_truth_from_arrays([{"boxes": b[None], "labels": [1]} for b in boxes])
    detections = detections_from_arrays(
        [
            {"boxes": b[None] + 1, "labels": [1], "scores": [s]}
            for b, s in zip(boxes, rng.random(15), strict=True)
        ]
    )
    order = rng.permutation(15)
    shuffled = replace(truth, **{name: getattr(truth, name)[order] for name in truth.COLUMNS})
    results = [
        mean_average_precision(t, detections, protocol=COCO).metrics for t in (truth, shuffled)
    ]
    np.testing.assert_equal(*map(dict, results))


def test_a_duplicate_of_every_detection_with_a_lower_score_never_helps(
    sample_tables: Tables,
) -> None:
    truth, detections = sample_tables
    double = replace(
        detections,
        **{
            n: np.concatenate([getattr(detections, n)] * 2)
            for n in detections.COLUMNS
            if n != "score"
        },
        score=np.concatenate([detections.score, detections.score - 2]),
    )
    for protocol in (VOC2007, VOC2010):
        once = mean_average_precision(truth, detections, protocol=protocol).mAP
        assert mean_average_precision(truth, double, protocol=protocol).mAP == once
