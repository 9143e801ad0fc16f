"""VOC evaluation against the official development kits' answers, on real detectors' files."""

import json
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from upmap.detection import Detections, GroundTruth, InputWarning, read
from upmap.metrics import COCO, PROTOCOLS, VOC2007, VOC2010, Protocol, mean_average_precision

TOLERANCE = 1e-9  # the kits sum the same terms in another order

TOOLS: Mapping[str, Protocol] = {
    "devkit2007|VOC07_11pt|plus1|>=": VOC2007,
    "devkit2012|VOC10_allpoint|plus1|>=": VOC2010,
    "pfr_stable|VOC07_11pt": PROTOCOLS["voc2007_py_faster_rcnn"],
    "pfr_stable|VOC10_allpoint": PROTOCOLS["voc2010_py_faster_rcnn"],
    "pfr_stable_noplus1|VOC07_11pt": replace(VOC2007, strict=True, pixels="corners"),
    "pfr_stable_noplus1|VOC10_allpoint": replace(VOC2010, strict=True, pixels="corners"),
    "pfr_stable_ge|VOC07_11pt": VOC2007,
}
PYCOCOTOOLS: Mapping[str, Protocol] = {
    "pycocotools|difficult=crowd|plus1=1|default": COCO,
    "pycocotools|difficult=crowd|plus1=0|default": replace(COCO, pixels="corners"),
    "pycocotools|difficult=drop|plus1=1|default": replace(COCO, difficult="drop"),
    "pycocotools|difficult=drop|plus1=0|default": replace(COCO, difficult="drop", pixels="corners"),
    "pycocotools|difficult=normal|plus1=1|default": replace(COCO, difficult="count"),
}
DETECTORS = ["yolov3_darknet", "mobilenet_yolov3_ncnn"]
EDGE_CASES = [
    "difficult_ranked_first",
    "duplicate_second_best_free",
    "equal_iou_two_gts_first_easy",
    "gt_no_dets",
    "image_without_class_gt",
    "iou_exact_half_continuous",
    "iou_exact_half_plus1",
    "max_dets_150",
    "one_pixel_boxes",
    "only_difficult_class",
    "tie_tp_first",
    "two_dets_on_difficult",
]

Tables = tuple[GroundTruth, Detections]


@pytest.fixture(scope="module")
def expected(real_data: Path) -> dict[str, Any]:
    answers: dict[str, Any] = json.loads((real_data / "expected.json").read_text())
    return answers


@pytest.fixture(scope="module", params=DETECTORS)
def detector(request: pytest.FixtureRequest, real_data: Path) -> tuple[str, Tables]:
    folders = real_data / "voc2007_test", real_data / f"voc2007_dets_{request.param}"
    if request.param == "yolov3_darknet":
        with pytest.warns(InputWarning, match="3 detections have an inverted box"):
            return request.param, read(*folders)
    return request.param, read(*folders)


@pytest.mark.parametrize("tool", TOOLS)
def test_map_and_every_class_equal_the_tool(
    tool: str, detector: tuple[str, Tables], expected: dict[str, Any]
) -> None:
    name, tables = detector
    answer = expected[f"voc2007_test/{name}"]["expected"][tool]
    result = mean_average_precision(*tables, protocol=TOOLS[tool])
    assert result.mAP == pytest.approx(answer["mAP"], abs=TOLERANCE)
    ours = {name: scores.AP for name, scores in result.per_class.items()}
    assert len(ours) == 20
    assert ours == pytest.approx(answer["per_class"], abs=TOLERANCE)


@pytest.mark.parametrize("tool", PYCOCOTOOLS)
def test_all_12_numbers_on_voc_data_equal_pycocotools(
    tool: str, detector: tuple[str, Tables], expected: dict[str, Any]
) -> None:
    name, tables = detector
    answer = expected[f"voc2007_test/{name}"]["expected"][tool]["stats"]
    result = mean_average_precision(*tables, protocol=PYCOCOTOOLS[tool])
    assert dict(result.metrics) == pytest.approx(answer, abs=1e-12)


@pytest.mark.parametrize("impl", ["native", "reference"])
@pytest.mark.parametrize("case", EDGE_CASES)
def test_edge_case_equals_the_kits(
    case: str, impl: Any, real_data: Path, expected: dict[str, Any]
) -> None:
    folder = real_data / "voc_edge_cases" / case
    results = {
        "devkit2007_octave|11pt": mean_average_precision(
            folder, folder, protocol=VOC2007, impl=impl
        ),
        "devkit2012_octave|allpt": mean_average_precision(
            folder, folder, protocol=VOC2010, impl=impl
        ),
    }
    for name, answers in expected["voc_edge_cases"][case]["per_class"].items():
        for kit, result in results.items():
            scores = result.per_class[name]
            if scores.positives == 0:  # the kits say 0 (2007) or NaN (2012)
                assert math.isnan(scores.AP)
            else:
                assert pytest.approx(answers[kit], abs=TOLERANCE) == scores.AP


def test_every_edge_case_is_tested(real_data: Path) -> None:
    assert sorted(f.name for f in (real_data / "voc_edge_cases").iterdir()) == EDGE_CASES


def test_the_real_test_set_has_the_published_counts(detector: tuple[str, Tables]) -> None:
    ground_truth, _ = detector[1]
    assert len(ground_truth.catalog.images) == 4952
    assert len(ground_truth) == 14976
    assert ground_truth.difficult.sum() == 2944
