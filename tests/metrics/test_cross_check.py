"""The walk from a VOC number to pycocotools', and COCO's comparison number by number."""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.detection.small_files import instances as instances_file
from tests.detection.small_files import put
from tests.detection.small_files import results as results_file
from upmap.detection import InputError, InputWarning, read
from upmap.kernels import coco_json
from upmap.kernels.coco_json import Instances, instances, results
from upmap.metrics import (
    COCO,
    VOC2007,
    VOC2010,
    AreaRange,
    Protocol,
    cross_check,
    mean_average_precision,
)
from upmap.metrics.cross_check import TOLERANCE, compare_with_pycocotools, largest_difference
from upmap.metrics.evaluate import main
from upmap.metrics.reports.text import comparison_text

SAMPLE = Path(__file__).resolve().parents[2] / "data" / "sample"


@pytest.mark.parametrize("protocol", [VOC2007, VOC2010], ids=lambda p: p.name)
def test_the_walk_on_the_real_set_ends_where_both_agree(
    protocol: Protocol, real_data: Path
) -> None:
    with pytest.warns(InputWarning):
        tables = read(real_data / "voc2007_test", real_data / "voc2007_dets_yolov3_darknet")
    rows = compare_with_pycocotools(*tables, protocol, show_progress=False)
    assert rows[0].ours == mean_average_precision(*tables, protocol=protocol).mAP
    compared = [row for row in rows if not math.isnan(row.difference)]
    assert len(compared) == 4
    assert rows[-1].difference <= TOLERANCE
    assert largest_difference(rows) <= TOLERANCE
    coco = mean_average_precision(*tables, protocol=COCO)
    assert rows[-1].ours == pytest.approx(coco.metrics["AP50"], abs=TOLERANCE)


def test_each_step_of_the_walk_is_one_choice_and_says_how_far_it_moved() -> None:
    rows = compare_with_pycocotools(
        *read(SAMPLE / "voc", SAMPLE / "voc/results"), VOC2007, show_progress=False
    )
    assert len(rows) == 1 + len(cross_check.WALK)
    steps = [row for row in rows[1:] if not row.name.startswith("  (or")]
    assert rows[0].ours + sum(row.change for row in steps) == pytest.approx(rows[-1].ours)
    assert largest_difference(rows) <= TOLERANCE


def test_coco_is_compared_number_by_number_and_entry_by_entry() -> None:
    paths = SAMPLE / "coco/instances_test.json", SAMPLE / "coco/detections_test.json"
    rows = compare_with_pycocotools(*read(*paths), COCO, show_progress=False)
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
    rows = compare_with_pycocotools(*tables, protocol, show_progress=False)
    assert not math.isnan(rows[-1].difference)
    assert largest_difference(rows) <= TOLERANCE


def test_a_difference_is_shown_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    tables = read(SAMPLE / "voc", SAMPLE / "voc/results")
    monkeypatch.setattr(cross_check, "_class_precision", lambda *_: 0.5)
    rows = compare_with_pycocotools(*tables, VOC2007, show_progress=False)
    assert largest_difference(rows) > 0.01
    assert "DISAGREE" in comparison_text(rows)


COCO_FILES = SAMPLE / "coco/instances_test.json", SAMPLE / "coco/detections_test.json"


def misread(name: str, change: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """A reader whose column `name` comes out changed."""

    def reader(path: Any, **options: Any) -> Any:
        function = instances if name in Instances.__dataclass_fields__ else results
        columns = function(path, **options)
        return replace(columns, **{name: change(getattr(columns, name))})

    return reader


MISREADINGS = [
    ("instances", "crowd", np.zeros_like),
    ("instances", "crowd", np.ones_like),
    ("instances", "box", lambda box: box + 7),
    ("instances", "annotation_category_id", lambda ids: ids.max() + 1 - ids),
    ("instances", "annotation_image_id", lambda ids: ids.max() + 1 - ids),
    ("results", "score", lambda score: score.round(1)),
]
AREA_MISREADINGS = [  # VOC has no area ranges
    ("instances", "area", lambda area: area * 4),
    ("instances", "area", np.zeros_like),
]


@pytest.mark.parametrize(
    ("protocol", "reader", "name", "change"),
    [("coco", *case) for case in MISREADINGS + AREA_MISREADINGS]
    + [("voc2007", *case) for case in MISREADINGS],
)
def test_a_column_that_is_read_wrongly_makes_the_two_disagree(
    protocol: str,
    reader: str,
    name: str,
    change: Callable[[Any], Any],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments = [*map(str, COCO_FILES), "--protocol", protocol, "--cross-check"]
    assert main(arguments) == 0
    monkeypatch.setattr(coco_json, reader, misread(name, change))
    assert main(arguments) == 1
    assert "DISAGREE" in capsys.readouterr().out


def put_coco(folder: Path, truth: Any, detections: Any) -> tuple[Path, Path]:
    put(folder, {"truth.json": json.dumps(truth), "detections.json": json.dumps(detections)})
    return folder / "truth.json", folder / "detections.json"


def run_cross_check(
    files: tuple[Path, Path], capsys: pytest.CaptureFixture[str], *options: str
) -> tuple[int, str, str]:
    """Exit status, stdout and stderr of a cross-check under COCO."""
    status = main([*map(str, files), "--cross-check", *options])
    return status, *capsys.readouterr()


@pytest.mark.parametrize("difficult", [1, 0, True, None, "0", "1", [1]])
def test_difficult_without_iscrowd_counts_as_in_pycocotools(
    difficult: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    truth = instances_file(categories=[{"id": 1, "name": "cat"}])
    first, second = truth["annotations"][0], truth["annotations"][1] | {"category_id": 1}
    truth["annotations"] = [first | {"difficult": 0}, second | {"difficult": difficult}]
    status, out, _ = run_cross_check(put_coco(tmp_path, truth, results_file()[:1]), capsys)
    assert status == 0
    assert "AP                                     0.504950     0.504950     0.0e+00" in out
    assert "the two agree" in out


def test_an_annotation_with_id_0_makes_the_two_disagree(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    truth = instances_file()
    truth["annotations"][0]["id"] = 0
    status, out, err = run_cross_check(put_coco(tmp_path, truth, results_file()), capsys)
    assert status == 1
    assert "DISAGREE" in out
    assert "an annotation has id 0" in err


@pytest.mark.parametrize("ids", [(1, 2), (70, 3), ("a", "b"), ("10", "9")])
def test_only_the_images_and_classes_asked_for_are_compared(
    ids: tuple[Any, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def with_ids(rows: list[dict[str, Any]], key: str) -> list[dict[str, Any]]:
        return [row | {key: ids[row[key] - 1]} for row in rows]

    truth = instances_file()
    truth["images"] = with_ids(truth["images"], "id")
    truth["annotations"] = with_ids(truth["annotations"], "image_id")
    detections = with_ids([row for row in results_file() if row["image_id"] == 1], "image_id")
    files = put_coco(tmp_path, truth, detections)
    (tmp_path / "list.txt").write_text(f"{ids[0]}\n")
    listed = ("--image-set", str(tmp_path / "list.txt"))
    for options in ((), listed, ("--classes", "dog"), (*listed, "--classes", "cat")):
        status, out, err = run_cross_check(files, capsys, *options)
        assert (status, err) == (0, "")
        assert "the two agree" in out


@pytest.mark.parametrize(
    ("lacking", "detections", "reason"),
    [
        ("iscrowd", ..., "KeyError('iscrowd')"),
        ("area", ..., "KeyError('area')"),
        (None, [], "IndexError"),
    ],
)
@pytest.mark.parametrize("protocol", ["coco", "voc2010"])
def test_files_that_pycocotools_cannot_evaluate_are_said_so_in_one_line(
    lacking: str | None,
    detections: Any,
    reason: str,
    protocol: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    truth = instances_file()
    for row in truth["annotations"]:
        row.pop(lacking, None)
    files = put_coco(tmp_path, truth, results_file() if detections is ... else detections)
    status, out, err = run_cross_check(files, capsys, "--protocol", protocol)
    lines = [line for line in err.splitlines() if "pycocotools cannot evaluate" in line]
    assert (status, len(lines)) == (0, 1)
    assert reason in lines[0]
    assert "the two agree" in out


def test_a_byte_order_mark_which_only_upmap_reads_is_said_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = put_coco(tmp_path, instances_file(), results_file())
    files[0].write_bytes(b"\xef\xbb\xbf" + files[0].read_bytes())
    status, out, err = run_cross_check(files, capsys)
    assert status == 0
    assert err.count("warning: ") == 1
    assert "pycocotools cannot evaluate these files, JSONDecodeError" in err
    assert "the two agree" in out


@pytest.mark.parametrize("setting", ["difficult=drop", "crowd=count", "crowd=drop"])
def test_another_treatment_of_crowds_than_pycocotools_has_is_compared_on_the_tables(
    setting: str, capsys: pytest.CaptureFixture[str]
) -> None:
    status, out, err = run_cross_check(COCO_FILES, capsys, "--set", setting)
    assert (status, err) == (0, "")
    assert "the two agree" in out


def test_a_missing_pycocotools_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pycocotools", None)
    with pytest.raises(InputError, match="pip install pycocotools"):
        compare_with_pycocotools(
            *read(SAMPLE / "voc", SAMPLE / "voc/results"), COCO, show_progress=False
        )


def test_a_results_file_of_more_images_is_compared_on_the_listed_ones(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [*results_file(), results_file()[0] | {"image_id": 99}]
    status, out, err = run_cross_check(put_coco(tmp_path, instances_file(), rows), capsys)
    assert status == 0
    assert "the two agree" in out
    assert err.count("\n") == err.count("detections on 1 unknown images: 99") == 1


@pytest.mark.parametrize("key", ["image_id", "category_id"])
def test_ids_that_pycocotools_would_not_match_are_compared_on_the_tables(
    key: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [row | {key: str(row[key])} for row in results_file()]
    status, out, err = run_cross_check(put_coco(tmp_path, instances_file(), rows), capsys)
    assert status == 0
    assert "the two agree" in out
    assert "pycocotools cannot evaluate these files" in err
