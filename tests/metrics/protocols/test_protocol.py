"""The choices of a protocol: each has its effect, and nonsense is refused."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from upmap.detection import Detections, GroundTruth
from upmap.detection.tables import row_subset
from upmap.metrics import COCO, VOC2007, AreaRange, mean_average_precision

Tables = tuple[GroundTruth, Detections]


def test_both_conventions_measure_the_same_regions(sample_tables: Tables) -> None:
    inclusive = mean_average_precision(*sample_tables, protocol=VOC2007)
    continuous = mean_average_precision(
        *sample_tables, protocol=replace(VOC2007, pixels="continuous")
    )
    assert inclusive.metrics == continuous.metrics


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
    truth, detections = sample_tables
    without = mean_average_precision(
        row_subset(truth, ~truth.difficult), detections, protocol=VOC2007
    )
    dropped = mean_average_precision(truth, detections, protocol=replace(VOC2007, difficult="drop"))
    assert without.metrics == dropped.metrics


def test_an_area_range_of_ones_own_is_evaluated(sample_tables: Tables) -> None:
    everything = AreaRange("all", 0, 1e10)
    protocol = replace(COCO, area_ranges=(*COCO.area_ranges, AreaRange("again", *everything[1:])))
    precision = mean_average_precision(*sample_tables, protocol=protocol).accumulate().precision
    np.testing.assert_array_equal(precision[..., 0, :], precision[..., -1, :])


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
