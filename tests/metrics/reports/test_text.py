"""What is printed: inputs, tables of scores, and cross-checks."""

import math
from dataclasses import replace
from pathlib import Path

import pytest

from upmap.detection import Detections, GroundTruth
from upmap.metrics import COCO, VOC2007, mean_average_precision
from upmap.metrics.cross_check import TOLERANCE, Comparison
from upmap.metrics.reports.text import as_text, comparison_text, inputs_text

Tables = tuple[GroundTruth, Detections]
INPUTS = {
    "ground_truth": "truth.json",
    "detections": "detections.json",
    "image_set": None,
    "images": 5000,
    "ground_truth_boxes": 36781,
    "difficult": 0,
    "crowd": 446,
    "detection_boxes": 1234567,
}


def test_the_inputs_are_two_lines_with_counts_and_without_marks_that_nothing_has() -> None:
    assert inputs_text(INPUTS) == (
        "ground truth  truth.json: 5,000 images, 36,781 boxes, 446 crowd\n"
        "detections    detections.json: 1,234,567 boxes\n"
    )


def test_paths_below_the_current_folder_are_relative_and_escaped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    paths = {"ground_truth": str(tmp_path / "a/b"), "detections": str(tmp_path.parent / "x\x1b")}
    text = inputs_text(INPUTS | paths | {"image_set": "test\nset"})
    assert text.splitlines()[0].startswith("ground truth  a/b, image set test\\nset: 5,000")
    assert text.splitlines()[1].startswith(f"detections    {tmp_path.parent}/x\\x1b: ")


def test_positives_have_a_column_each_only_where_protocols_count_differently(
    sample_tables: Tables,
) -> None:
    evaluation = mean_average_precision(*sample_tables, protocol=VOC2007)
    strict = replace(VOC2007, name="strict", strict=True)
    lenient = replace(VOC2007, name="lenient", difficult="count")
    same = as_text([evaluation, mean_average_precision(*sample_tables, protocol=strict)])
    other = as_text([evaluation, mean_average_precision(*sample_tables, protocol=lenient)])
    assert same.splitlines()[0].split("  ")[-3:] == ["positives", "voc2007 AP", "strict AP"]
    assert "voc2007 positives  lenient positives" in other.splitlines()[0]


def test_the_summary_says_which_iou_area_and_cap_a_number_is_of(sample_tables: Tables) -> None:
    protocol = replace(COCO, name="mine", strict=True).with_max_dets(300)
    text = as_text([mean_average_precision(*sample_tables, protocol=protocol)])
    rows = [line.split()[:-1] for line in text.splitlines() if line.startswith("mine ")]
    assert rows[0] == ["mine", "AP", ">", "0.50:0.95", "all", "300"]
    assert rows[2] == ["mine", "AP75", ">", "0.75", "all", "300"]
    assert rows[3] == ["mine", "APs", ">", "0.50:0.95", "small", "300"]
    assert rows[6] == ["mine", "AR1", ">", "0.50:0.95", "all", "1"]


def test_a_threshold_that_the_protocol_does_not_have_is_not_available(
    sample_tables: Tables,
) -> None:
    protocol = replace(COCO, iou_thresholds=(0.6000000000000001,))
    evaluation = mean_average_precision(*sample_tables, protocol=protocol)
    scores = next(iter(evaluation.per_class.values()))
    assert math.isnan(evaluation.metrics["AP50"])
    assert math.isnan(scores.average_precision(0.5))
    assert scores.average_precision(0.6) == scores.AP_at[0.6000000000000001]
    assert scores.average_precision() == scores.AP
    assert "coco AP50" in as_text([evaluation]).splitlines()[0]


@pytest.mark.parametrize(
    ("difference", "verdict"), [(0.0, "agree"), (TOLERANCE, "agree"), (2e-12, "DISAGREE")]
)
def test_a_cross_check_ends_with_its_verdict(difference: float, verdict: str) -> None:
    rows = [
        Comparison("voc2007", 0.5, math.nan, math.nan),
        Comparison("+ step", 0.75, 0.75 + difference, difference, 0.25),
    ]
    lines = comparison_text(rows).splitlines()
    assert lines[0].split() == ["cross-check", "upmap", "change", "pycocotools", "difference"]
    assert lines[2].split() == ["voc2007", "0.500000"]
    assert lines[3].split()[2:] == ["0.750000", "+0.250000", "0.750000", f"{difference:.1e}"]
    assert lines[-1] == f"largest difference {difference:.1e}: the two {verdict}"
    assert "change" not in comparison_text(rows[:1])
