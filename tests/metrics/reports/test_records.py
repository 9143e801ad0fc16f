"""The JSON and the CSV report."""

import csv
import json
import math

import pytest

from upmap.detection import Detections, GroundTruth
from upmap.metrics import COCO, VOC2007, Evaluation, mean_average_precision
from upmap.metrics.cross_check import Comparison
from upmap.metrics.reports.records import BEGINNINGS, SCHEMA, as_csv, as_json


@pytest.fixture(scope="module")
def evaluations(sample_tables: tuple[GroundTruth, Detections]) -> list[Evaluation]:
    return [mean_average_precision(*sample_tables, protocol=p) for p in (VOC2007, COCO)]


def test_reports_begin_as_those_that_may_be_overwritten(evaluations: list[Evaluation]) -> None:
    for evaluated in (evaluations, evaluations[:1], []):
        for report in (as_json(evaluated, {}), as_csv(evaluated)):
            assert report.encode().startswith(BEGINNINGS)


def test_json_has_every_number_to_the_last_digit(evaluations: list[Evaluation]) -> None:
    report = json.loads(as_json(evaluations, {"images": 48}))
    assert report["schema"] == SCHEMA
    assert report["inputs"] == {"images": 48}
    for result, evaluation in zip(report["results"], evaluations, strict=True):
        metrics = {n: math.nan if v is None else v for n, v in result["metrics"].items()}
        assert metrics == pytest.approx(dict(evaluation.metrics), abs=0, rel=0, nan_ok=True)
        aps = [row["AP"] for row in result["per_class"]]
        assert aps == [scores.AP for scores in evaluation.per_class.values()]


def test_settings_are_all_choices_of_the_protocol_without_a_limit_as_null(
    evaluations: list[Evaluation],
) -> None:
    voc, coco = (r["settings"] for r in json.loads(as_json(evaluations, {}))["results"])
    assert voc["max_dets"] == [None]
    assert voc["area_ranges"] == {"all": [None, None]}
    assert coco["area_ranges"]["small"] == [0, 1024]
    names = {*COCO.__dataclass_fields__} - {"name", "metrics"}
    assert voc.keys() == coco.keys() == names


def test_a_cross_check_stands_beside_its_result_with_undefined_as_null(
    evaluations: list[Evaluation],
) -> None:
    checks = [[Comparison("a", 0.5, math.nan, math.nan)], [Comparison("b", 0.5, 0.5, 0.0)]]
    results = json.loads(as_json(evaluations, {}, checks))["results"]
    first = {"name": "a", "ours": 0.5, "pycocotools": None, "difference": None, "change": None}
    assert results[0]["cross_check"] == [first]
    assert results[1]["cross_check"][0]["difference"] == 0
    assert "cross_check" not in json.loads(as_json(evaluations, {}))["results"][0]


def test_a_path_that_is_not_utf_8_is_escaped(evaluations: list[Evaluation]) -> None:
    report = as_json(evaluations, {"detections": "caf\udce9", "ground_truth": "café"})
    report.encode("utf-8")
    assert json.loads(report)["inputs"] == {"detections": "caf\udce9", "ground_truth": "café"}


def test_csv_leaves_empty_what_is_undefined(evaluations: list[Evaluation]) -> None:
    rows = list(csv.DictReader(as_csv(evaluations).splitlines()))
    assert [row["protocol"] for row in rows[:1] + rows[-1:]] == ["voc2007", "coco"]
    assert {row["AP75"] for row in rows if row["protocol"] == "voc2007"} == {""}
    assert all(float(row["AP75"]) >= 0 for row in rows if row["protocol"] == "coco")
