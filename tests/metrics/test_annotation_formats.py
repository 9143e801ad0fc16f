"""Annotation tools' formats give the numbers of their twins, through the command line too."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from upmap.detection import Detections, GroundTruth, detections_from_arrays, read_ground_truth
from upmap.detection.boxes import convert_pixels
from upmap.metrics import COCO, mean_average_precision
from upmap.metrics.evaluate import main


def detect(truth: GroundTruth) -> Detections:
    """The ground truth's boxes, moved a little, some of them under another class."""
    generator = np.random.default_rng(4)
    images = []
    for i in range(len(truth.catalog.images)):
        box = truth.box[truth.image == i]
        order = np.lexsort(box.T)  # the same in every format
        label = truth.label[truth.image == i][order]
        label = np.where(generator.random(len(label)) < 0.2, (label + 1) % 5, label)
        images.append(
            {
                "boxes": box[order] + generator.normal(0, 4, box.shape),
                "scores": generator.random(len(box)).round(2),
                "labels": [truth.catalog.classes[k] for k in label],
            }
        )
    return detections_from_arrays(images, images=truth.catalog.images)


@pytest.mark.filterwarnings("ignore::upmap.errors.InputWarning")
def test_the_same_set_in_each_format_gives_the_same_numbers_to_the_bit(real_data: Path) -> None:
    folder = real_data / "formats" / "one_set_many_formats"
    voc = convert_pixels(read_ground_truth(folder / "voc"), "corners")
    voc = replace(voc, difficult=np.zeros(len(voc), bool))  # a mark that the others lack
    detections = detect(voc)
    expected = mean_average_precision(voc, detections, protocol=COCO).metrics
    assert 0.1 < expected["AP"] < 0.9
    for name in ("cvat", "labelme"):
        truth = read_ground_truth(folder / name)
        assert mean_average_precision(truth, detections, protocol=COCO).metrics == expected


def test_a_file_of_an_annotation_tool_is_evaluated_under_coco(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    box = '<box label="cat" xtl="1" ytl="2" xbr="11" ybr="12"/>'
    image = f'<image name="7.jpg" width="50" height="50">{box}</image>'
    (tmp_path / "annotations.xml").write_text(f"<annotations>{image}</annotations>")
    names = tmp_path / "names.txt"
    names.write_text("cat\n")
    detection = {"image_id": 7, "file_name": "7.jpg", "category_id": 1, "score": 0.5}
    results = tmp_path / "predictions.json"
    results.write_text(json.dumps([detection | {"bbox": [1, 2, 10, 10]}]))
    arguments = [str(tmp_path), str(results), "--class-names", str(names), "--json", "-"]
    assert main(arguments) == 0
    (result,) = json.loads(capsys.readouterr().out)["results"]
    assert (result["protocol"], result["metrics"]["AP"]) == ("coco", pytest.approx(1))
