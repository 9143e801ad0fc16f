"""The evaluator in plain Python, with which VOC evaluation is compared, has the same numbers."""

from pathlib import Path

import pytest

from benchmarks.plain_voc import main
from upmap.metrics import VOC2007, mean_average_precision

DETECTORS = ("yolov3_darknet", "mobilenet_yolov3_ncnn")


def printed(
    devkit: Path,
    detections: Path,
    capsys: pytest.CaptureFixture[str],
    *,
    read_once: bool = False,
) -> dict[str, str]:
    main(devkit, detections, read_once=read_once)
    return dict(line.split() for line in capsys.readouterr().out.splitlines())


def ours(devkit: Path, detections: Path) -> dict[str, str]:
    found = mean_average_precision(devkit, detections, protocol=VOC2007, image_set="test")
    scores = {name: scores.AP for name, scores in found.per_class.items()} | {"mAP": found.mAP}
    return {name: f"{score:.12f}" for name, score in scores.items()}


def test_the_sample_has_the_same_scores(sample: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folders = sample / "voc", sample / "voc" / "results"
    assert printed(*folders, capsys) == ours(*folders)
    assert printed(*folders, capsys, read_once=True) == ours(*folders)


@pytest.mark.parametrize("detector", DETECTORS)
@pytest.mark.filterwarnings("ignore:.*inverted box")
def test_real_detectors_have_the_same_scores(
    detector: str, real_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = real_data / "voc2007_test", real_data / f"voc2007_dets_{detector}"
    assert printed(*folders, capsys, read_once=True) == ours(*folders)
