"""The library as its users write it."""

import math
from dataclasses import replace
from pathlib import Path
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
from upmap.detection.tables import row_subset
from upmap.metrics import COCO, VOC2007, VOC2010, AreaRange, mean_average_precision

Tables = tuple[GroundTruth, Detections]


def as_dicts(tables: Tables) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    truth, found = tables
    images = range(len(truth.catalog.images))
    names = np.array(truth.catalog.classes)
    return [
        {
            "boxes": truth.box[truth.image == i],
            "labels": names[truth.label[truth.image == i]],
            "difficult": truth.difficult[truth.image == i],
        }
        for i in images
    ], [
        {
            "boxes": found.box[found.image == i],
            "labels": names[found.label[found.image == i]],
            "scores": found.score[found.image == i],
        }
        for i in images
    ]


def test_paths_tables_and_dicts_give_the_same_number(sample: Path, sample_tables: Tables) -> None:
    by_paths = mean_average_precision(sample / "voc", sample / "voc/results", protocol=VOC2010)
    by_tables = mean_average_precision(*sample_tables, protocol=VOC2010)
    by_dicts = mean_average_precision(*as_dicts(sample_tables), protocol=VOC2010)
    assert by_paths.mAP == by_tables.mAP
    assert by_dicts.mAP == pytest.approx(by_tables.mAP, abs=1e-6)  # ties: per image, not per class
    assert 0.3 < by_paths.mAP < 1


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
    found = [
        {"boxes": [[1, 1, 9, 9], [2, 2, 5, 5]], "labels": ["cat", "dog"], "scores": [0.5, 0.9]}
    ]
    for protocol in (VOC2007, VOC2010, COCO):
        result = mean_average_precision(truth, found, protocol=protocol)
        assert result.mAP == pytest.approx(1)
        assert math.isnan(result.per_class["dog"].AP)
        assert result.undefined_classes == ("dog",)


def test_without_any_ground_truth_everything_is_undefined() -> None:
    result = mean_average_precision([], [], protocol=COCO)
    assert all(math.isnan(value) for value in result.metrics.values())


def test_no_detections_score_zero() -> None:
    truth = [{"boxes": [[1, 1, 9, 9]], "labels": [1]}]
    found = [{"boxes": np.zeros((0, 4)), "labels": [], "scores": []}]
    assert mean_average_precision(truth, found, protocol=VOC2007).mAP == 0


def test_arrays_are_read_in_the_protocols_own_pixel_convention() -> None:
    # 10 x 20 inclusive pixels in 10 x 10: IoU is 0.5 with the + 1 and 81 / 171 without.
    truth = [{"boxes": [[1, 1, 10, 10]], "labels": [0]}]
    found = [{"boxes": [[1, 1, 10, 20]], "labels": [0], "scores": [1]}]
    assert mean_average_precision(truth, found, protocol=VOC2007).mAP == pytest.approx(1)
    corners = replace(VOC2007, pixels="corners")
    assert mean_average_precision(truth, found, protocol=corners).mAP == 0


def test_both_conventions_measure_the_same_regions(sample_tables: Tables) -> None:
    inclusive = mean_average_precision(*sample_tables, protocol=VOC2007)
    continuous = mean_average_precision(
        *sample_tables, protocol=replace(VOC2007, pixels="continuous")
    )
    assert inclusive.metrics == continuous.metrics


@settings(max_examples=20, deadline=None, derandomize=True)
@given(seed=st.integers(0, 1000))
def test_the_order_of_ground_truth_rows_of_different_images_does_not_matter(seed: int) -> None:
    rng = np.random.default_rng(seed)
    low = rng.integers(0, 20, (15, 2)) * 1.0
    boxes = np.concatenate([low, low + rng.integers(1, 10, (15, 2))], axis=1)
    truth = ground_truth_from_arrays([{"boxes": b[None], "labels": [1]} for b in boxes])
    found = detections_from_arrays(
        [
            {"boxes": b[None] + 1, "labels": [1], "scores": [s]}
            for b, s in zip(boxes, rng.random(15), strict=True)
        ]
    )
    order = rng.permutation(15)
    shuffled = replace(truth, **{name: getattr(truth, name)[order] for name in truth.COLUMNS})
    results = [mean_average_precision(t, found, protocol=COCO).metrics for t in (truth, shuffled)]
    np.testing.assert_equal(*map(dict, results))


def test_a_duplicate_of_every_detection_with_a_lower_score_never_helps(
    sample_tables: Tables,
) -> None:
    truth, found = sample_tables
    double = replace(
        found,
        **{n: np.concatenate([getattr(found, n)] * 2) for n in found.COLUMNS if n != "score"},
        score=np.concatenate([found.score, found.score - 2]),
    )
    for protocol in (VOC2007, VOC2010):
        once = mean_average_precision(truth, found, protocol=protocol).mAP
        assert mean_average_precision(truth, double, protocol=protocol).mAP == once


def test_difficult_objects_can_be_counted_ignored_or_dropped(sample_tables: Tables) -> None:
    counts = {
        treatment: mean_average_precision(
            *sample_tables, protocol=replace(VOC2007, difficult=treatment)
        ).match_table.positives.sum()
        for treatment in ("count", "ignore", "drop", "crowd")
    }
    difficult = sample_tables[0].difficult.sum()
    assert difficult > 0
    assert counts["count"] == len(sample_tables[0])
    assert counts["ignore"] == counts["drop"] == counts["crowd"] == counts["count"] - difficult


def test_dropping_is_evaluating_without_them(sample_tables: Tables) -> None:
    truth, found = sample_tables
    without = mean_average_precision(row_subset(truth, ~truth.difficult), found, protocol=VOC2007)
    dropped = mean_average_precision(truth, found, protocol=replace(VOC2007, difficult="drop"))
    assert without.metrics == dropped.metrics


def test_mixed_kinds_of_input_are_refused(sample: Path, sample_tables: Tables) -> None:
    with pytest.raises(TypeError, match="two paths, two tables or two lists"):
        mean_average_precision(sample / "voc", sample_tables[1], protocol=VOC2007)


def test_lists_of_different_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="detections of 1 images, got 0"):
        mean_average_precision([{"boxes": [], "labels": []}], [], protocol=VOC2007)


def test_an_area_range_of_ones_own_is_evaluated(sample_tables: Tables) -> None:
    everything = AreaRange("all", 0, 1e10)
    protocol = replace(COCO, area_ranges=(*COCO.area_ranges, AreaRange("again", *everything[1:])))
    found = mean_average_precision(*sample_tables, protocol=protocol).accumulate()
    np.testing.assert_array_equal(found.precision[..., 0, :], found.precision[..., -1, :])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"iou_thresholds": (0.0,)}, r"iou_thresholds must lie in \(0, 1\]"),
        ({"iou_thresholds": ()}, "iou_thresholds"),
        ({"iou_thresholds": tuple(np.linspace(0.1, 1, 65))}, "iou_thresholds must be 64 or fewer"),
        ({"iou_ceiling": 0.0}, r"iou_ceiling must lie in \(0, 1\]"),
        ({"iou_ceiling": -1.0}, "iou_ceiling must lie in"),
        ({"iou_ceiling": 1.5}, "iou_ceiling must lie in"),
        ({"iou_ceiling": math.nan}, "iou_ceiling must lie in"),
        ({"max_dets": (1, 2**31)}, "whole numbers from 1 to 2147483647, or inf"),
        ({"max_dets": (1e20,)}, "whole numbers"),
        ({"max_dets": (10, 1)}, "max_dets must ascend"),
        ({"max_dets": (1.5,)}, "whole numbers"),
        ({"pixels": "voc"}, "pixels must be one of inclusive, continuous, corners"),
        ({"assignment": "hungarian"}, "assignment must be one of"),
        ({"difficult": "maybe"}, "difficult must be one of count, ignore, crowd, drop"),
        ({"recall_points": (1.0, 0.0)}, "recall_points must ascend"),
        ({"recall_points": ()}, "recall_points must ascend"),
        ({"recall_points": (math.nan,)}, r"recall_points must lie in \[0, 1\]"),
        ({"max_dets": (10, 10)}, "max_dets must ascend"),
        ({"max_dets": (math.nan,)}, "whole numbers"),
        ({"epsilon": math.inf}, "epsilon must be finite"),
        ({"area_ranges": (AreaRange("all", 5, 1),)}, "low <= high"),
        ({"area_ranges": ()}, "low <= high"),
    ],
)
def test_a_protocol_that_makes_no_sense_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(COCO, **changes)
