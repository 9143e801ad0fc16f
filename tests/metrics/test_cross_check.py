"""The walk from a VOC number to pycocotools', and COCO's comparison number by number."""

import math
from dataclasses import replace
from pathlib import Path

import pytest

from detection import InputError, InputWarning, read
from metrics import (
    COCO,
    VOC2007,
    VOC2010,
    AreaRange,
    Protocol,
    cross_check,
    mean_average_precision,
)
from metrics.comparison import TOLERANCE, largest_difference
from metrics.cross_check import comparisons
from metrics.report import comparison_text

SAMPLE = Path(__file__).resolve().parents[2] / "data" / "sample"


@pytest.mark.parametrize("protocol", [VOC2007, VOC2010], ids=lambda p: p.name)
def test_the_walk_on_the_real_set_ends_where_both_agree(
    protocol: Protocol, real_data: Path
) -> None:
    with pytest.warns(InputWarning):
        tables = read(real_data / "voc2007_test", real_data / "voc2007_dets_yolov3_darknet")
    rows = comparisons(*tables, protocol, show_progress=False)
    assert rows[0].ours == mean_average_precision(*tables, protocol=protocol).mAP
    compared = [row for row in rows if not math.isnan(row.difference)]
    assert len(compared) == 4
    assert rows[-1].difference <= TOLERANCE
    assert largest_difference(rows) <= TOLERANCE
    coco = mean_average_precision(*tables, protocol=COCO)
    assert rows[-1].ours == pytest.approx(coco.metrics["AP50"], abs=TOLERANCE)


def test_each_step_of_the_walk_is_one_choice_and_says_how_far_it_moved() -> None:
    rows = comparisons(*read(SAMPLE / "voc", SAMPLE / "voc/results"), VOC2007, show_progress=False)
    assert len(rows) == 1 + len(cross_check.WALK)
    steps = [row for row in rows[1:] if not row.name.startswith("  (or")]
    assert rows[0].ours + sum(row.change for row in steps) == pytest.approx(rows[-1].ours)
    assert largest_difference(rows) <= TOLERANCE


def test_coco_is_compared_number_by_number_and_entry_by_entry() -> None:
    paths = SAMPLE / "coco/instances_test.json", SAMPLE / "coco/detections_test.json"
    rows = comparisons(*read(*paths), COCO, show_progress=False)
    assert [row.name for row in rows[:12]] == list(
        mean_average_precision(*paths, protocol=COCO).metrics
    )
    assert len(rows) == 15
    assert largest_difference(rows) == 0
    assert comparison_text(rows).endswith("the two agree\n")


@pytest.mark.parametrize(
    "protocol",
    [
        replace(COCO, iou_thresholds=(0.6,)),
        COCO.with_max_dets(5),
        replace(COCO, difficult="drop"),
        replace(COCO, recall_points=None),
        replace(COCO, strict=True),
        replace(COCO, epsilon=0.1),
        replace(COCO, iou_ceiling=0.9),
        replace(COCO, area_ranges=(AreaRange("all", 0, 1e10), AreaRange("tiny", 0, 200))),
        VOC2007.with_max_dets(2),
        replace(VOC2010, iou_thresholds=(0.5, 1.0)),
    ],
    ids=lambda protocol: protocol.name,
)
def test_a_protocol_with_a_field_overridden_still_agrees(protocol: Protocol) -> None:
    tables = read(SAMPLE / "voc", SAMPLE / "voc/results")
    rows = comparisons(*tables, protocol, show_progress=False)
    assert not math.isnan(rows[-1].difference)
    assert largest_difference(rows) <= TOLERANCE


def test_a_difference_is_shown_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    tables = read(SAMPLE / "voc", SAMPLE / "voc/results")
    monkeypatch.setattr(cross_check, "_class_precision", lambda *_: 0.5)
    rows = comparisons(*tables, VOC2007, show_progress=False)
    assert largest_difference(rows) > 0.01
    assert "DISAGREE" in comparison_text(rows)


def test_a_missing_pycocotools_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pycocotools", None)
    with pytest.raises(InputError, match="pip install pycocotools"):
        comparisons(*read(SAMPLE / "voc", SAMPLE / "voc/results"), COCO, show_progress=False)
