"""Real files of each format: one set in eight formats, and samples that are read or refused."""

import os
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from upmap.detection import Detections, GroundTruth, read_ground_truth
from upmap.detection.formats.reading import read
from upmap.errors import InputError
from upmap.metrics import COCO, mean_average_precision
from upmap.metrics.scores import Evaluation

pytestmark = pytest.mark.filterwarnings("ignore::upmap.errors.InputWarning")

VOC_CLASSES = [
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa"),
    *("train", "tvmonitor"),
]
CORNERS: Mapping[str, Any] = {"columns": ("class", "conf", "xmin", "ymin", "xmax", "ymax")}
SIDES: Mapping[str, Any] = {"columns": ("class", "conf", "x", "y", "w", "h"), "box": "xywh"}
RELATIVE: Mapping[str, Any] = {"columns": ("class", "conf", "x", "y", "w", "h")}
DETECTIONS = {"dets_abs_xyx2y2": CORNERS, "dets_abs_xywh": SIDES, "dets_rel_xywh": RELATIVE}
EXACT = ("coco_v1/instances_default.json", "cvat", "labelme", "imagenet")
ROUNDED = ("yolo", "openimages/all_bounding_boxes.csv")
# What the folder of samples has that is no ground truth, or holds several sets: what is said of it.
ADVICE = {
    "": "looks like detections",
    "arrow": "looks like detections",
    "arrow/ultralytics_predictions.json": "expected an object of images, annotations and cat",
    "cartucho/detection-results": "looks like detections",
    "coco_val2014_100": r"name an image set \(--image-set\); there are",
    "cvat_ai_datumaro/yolo_dataset": "name what is in it",
    "cvat_ai_datumaro/yolo_dataset/yolov8_oriented_boxes": "--task obb",
    "cvat_ai_datumaro/yolo_dataset/yolov8_segmentation": "--task segment",
    "datumaro/roboflow_dataset/coco": r"name an image set \(--image-set\); there are train, val",
    "datumaro/roboflow_dataset/createml": r"name what is in it: train \(createml\)",
    "datumaro/roboflow_dataset/tfrecord/train": "export COCO JSON or VOC XML",
    "datumaro/roboflow_dataset/voc/train/train_001.xml": "name its folder, which is voc",
    "datumaro/roboflow_dataset/yolo_obb": "--gt-format dota",
    "datumaro/vott_json_dataset/dataset": r"train-export.json \(vott\)",
    "one_set_many_formats/dets_rel_xywh": "looks like detections",
}


def score(truth: Path, detections: str) -> Evaluation:
    """COCO's numbers of one of the three folders of detections, as files' corners stand."""
    protocol = replace(COCO, pixels="corners") if truth.name == "imagenet" else COCO
    return mean_average_precision(*read_tables(truth, detections), protocol=protocol)


def read_tables(truth: Path, detections: str) -> tuple[GroundTruth, Detections]:
    folder = truth
    while folder.name != "one_set_many_formats":
        folder = folder.parent
    options: dict[str, Any] = {**DETECTIONS[detections], "images": folder / "blank_images"}
    options["class_names"] = dict(enumerate(sorted(VOC_CLASSES)))
    return read(truth, folder / detections, **options)


@pytest.mark.parametrize("detections", DETECTIONS)
@pytest.mark.parametrize("name", EXACT)
def test_one_set_has_the_same_numbers_in_each_format(
    name: str, detections: str, real_data: Path
) -> None:
    folder = real_data / "formats" / "one_set_many_formats"
    expected = score(folder / "coco_v2" / "instances_v2.json", detections)
    assert 0.2 < expected.metrics["AP"] < 0.9
    result = score(folder / name, detections)
    # Each class to the bit; means over classes are sums in the order of category ids, as official.
    assert {**result.per_class} == {**expected.per_class}
    assert {**result.metrics} == pytest.approx({**expected.metrics}, rel=1e-15)


@pytest.mark.parametrize("detections", DETECTIONS)
@pytest.mark.parametrize("name", ROUNDED)
def test_formats_of_rounded_numbers_have_them_to_their_rounding(
    name: str, detections: str, real_data: Path
) -> None:
    folder = real_data / "formats" / "one_set_many_formats"
    expected = score(folder / "coco_v2" / "instances_v2.json", detections)
    result = score(folder / name, detections)
    # Corners that are off by 2.5e-4 px move few detections across a threshold; one small object
    # found at one threshold less is 0.0017 of ARs.
    assert {**result.metrics} == pytest.approx({**expected.metrics}, abs=2e-3)
    for name, values in expected.per_class.items():
        assert (result.per_class[name].positives, result.per_class[name].detections) == (
            values.positives,
            values.detections,
        )


@pytest.mark.parametrize("detections", DETECTIONS)
def test_voc_files_differ_by_their_difficult_objects_alone(
    detections: str, real_data: Path
) -> None:
    folder = real_data / "formats" / "one_set_many_formats"
    expected = score(folder / "coco_v2" / "instances_v2.json", detections)
    tables = read_tables(folder / "voc", detections)
    truth = replace(tables[0], difficult=np.zeros(len(tables[0]), bool))
    assert tables[0].difficult.any()
    result = mean_average_precision(truth, tables[1], protocol=replace(COCO, pixels="corners"))
    assert {**result.per_class} == {**expected.per_class}


def sample_paths(root: Path) -> Iterator[Path]:
    """All folders of samples and what describes them, but not the images and each label file."""
    for folder, _, files in os.walk(root):
        yield Path(folder)
        for name in files:
            if not name.endswith((".jpg", ".png", ".txt", ".xml")) and name != "SOURCE":
                yield Path(folder, name)


def test_each_sample_is_read_or_refused_in_one_line(real_data: Path) -> None:
    root = real_data / "formats"
    refusals = dict.fromkeys(sample_paths(root), "")
    for path in refusals:
        try:
            read_ground_truth(path)
        except InputError as error:
            refusals[path] = str(error)
    assert [*refusals.values()].count("") > 100
    for path, message in refusals.items():
        assert not message or str(path if path.is_dir() else path.parent) in message
        assert "\n" not in message


@pytest.mark.parametrize(("name", "advice"), ADVICE.items())
def test_what_is_no_ground_truth_is_refused_with_advice(
    name: str, advice: str, real_data: Path
) -> None:
    with pytest.raises(InputError, match=advice):
        read_ground_truth(real_data / "formats" / name)
