"""LRP: equal to the authors' code, and by hand."""

import math
from dataclasses import replace
from pathlib import Path

import pytest

from tests.metrics.analysis.problems import pair_real, pair_scene, read_expected, read_real
from upmap.metrics import COCO, match
from upmap.metrics.analysis.lrp import measure_lrp
from upmap.metrics.analysis.pairs import pair_detections

ROUNDING = 1e-12  # sums in another order
PARTS = {
    "oLRP": "olrp",
    "localization": "olrp_loc",
    "false_positives": "olrp_fp",
    "false_negatives": "olrp_fn",
    "threshold": "lrp_opt_thr",
}


def test_the_numbers_of_the_authors_code_are_met(real_data: Path) -> None:
    expected = read_expected(real_data, "lrp_official.json")
    assert len(expected) == 3
    for name, numbers in expected.items():
        data, tau = name.split("|")
        error = measure_lrp(*pair_real(real_data, data, iou=float(tau.split()[1])), official=True)
        for part, key in PARTS.items():
            if part != "threshold":
                mean = getattr(error, part)
                assert mean == pytest.approx(numbers[f"mean_{key}"], abs=ROUNDING)
            for label, value in numbers[key].items():
                ours = getattr(error.per_class[label], part)
                if value is None:
                    assert math.isnan(ours)
                else:
                    assert ours == pytest.approx(value, abs=ROUNDING), (name, part, label)


@pytest.mark.parametrize("area", ["small", "medium", "large"])
def test_the_areas_of_the_authors_code_are_met(area: str, real_data: Path) -> None:
    for name, numbers in read_expected(real_data, "lrp_official.json").items():
        data, tau = name.split("|")
        ranges = tuple(limits for limits in COCO.area_ranges if limits.name == area)
        iou = (float(tau.split()[1]),)
        protocol = replace(COCO, iou_thresholds=iou, area_ranges=ranges)
        tables = read_real(real_data, data.split(" as ")[0])
        table = match(*tables, protocol)
        error = measure_lrp(pair_detections(*tables, table), table, official=True)
        assert error.oLRP == pytest.approx(numbers[f"mean_olrp_{area}"], abs=ROUNDING)


def test_the_error_of_a_loose_box_is_its_part_of_what_the_threshold_allows() -> None:
    objects = [{"boxes": [[0, 0, 10, 10], [50, 50, 60, 60]], "labels": ["a", "a"]}]
    predictions = [{"boxes": [[0, 0, 10, 8]], "labels": ["a"], "scores": [0.7]}]
    error = measure_lrp(*pair_scene(objects, predictions)).per_class["a"]
    assert error.oLRP == pytest.approx((0.2 / 0.5 + 1) / 2)
    assert error.localization == pytest.approx(0.2)
    assert (error.false_positives, error.false_negatives, error.threshold) == (0, 0.5, 0.7)


def test_equal_scores_are_divided_by_the_official_option_alone() -> None:
    boxes = [[0, 0, 10, 10], [50, 50, 60, 60]]
    objects = [{"boxes": boxes[:1], "labels": ["a"]}]
    scene = pair_scene(objects, [{"boxes": boxes, "labels": ["a", "a"], "scores": [0.5, 0.5]}])
    assert measure_lrp(*scene, official=True).oLRP == 0
    assert measure_lrp(*scene).oLRP == 0.5


def test_undefined_parts_are_nan() -> None:
    a_box = {"boxes": [[0, 0, 9, 9]], "labels": ["a"]}
    nothing = {"boxes": [], "labels": [], "scores": []}
    missed = measure_lrp(*pair_scene([a_box], [nothing]))
    assert (missed.oLRP, missed.false_negatives) == (1, 1)
    assert math.isnan(missed.localization)
    no_objects = measure_lrp(*pair_scene([{"boxes": [], "labels": []}], [a_box | {"scores": [1]}]))
    assert math.isnan(no_objects.oLRP)
    assert math.isnan(measure_lrp(*pair_scene([], [])).oLRP)
