"""What the message says of an input that no format recognizes."""

import json
from pathlib import Path

import pytest

from upmap.detection import InputError, read_ground_truth
from upmap.detection.formats.reading import recognize_format

YOLO_TRUTH = "0 0.5 0.5 0.2 0.2\n"
YOLO_RESULTS = "0 0.5 0.5 0.2 0.2 0.9\n"
COCO = json.dumps({"images": [{"id": 1}], "annotations": [], "categories": []})


def put(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


@pytest.mark.parametrize(
    ("files", "named", "advice"),
    [
        ({"x.tfrecord": "x"}, "x.tfrecord", "TFRecord files are not read; export COCO"),
        ({"a/x.tfrecord": "x"}, "a", "TFRecord files are not read; export COCO"),
        ({"model.pkl": "x"}, "model.pkl", "pickles, which can run any code, are not read"),
        ({"set.zip": "x"}, "set.zip", "archives are not read; unpack it"),
        (
            {"d/01.txt": YOLO_RESULTS},
            "d",
            r"looks like detections \(yolo\); the ground truth comes",
        ),
        ({"d/01.txt": YOLO_TRUTH}, "d/01.txt", "name its folder, which is yolo"),
        (
            {"d/v/1.xml": "<annotation/>", "d/x/_annotations.coco.json": COCO, "d/n/x": ""},
            "d",
            r"name what is in it: v \(voc\), x \(coco\)$",
        ),
        ({"d/readme.md": "x"}, "d", "expected cvat: .*; or voc: .*; or coco: "),
    ],
)
def test_ground_truth_that_is_not_recognized_is_refused_with_advice(
    files: dict[str, str], named: str, advice: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=f"not recognized as ground truth; .*{advice}"):
        recognize_format(put(tmp_path, files) / named, "ground truth")


def test_ground_truth_in_the_place_of_detections_is_told_the_order(tmp_path: Path) -> None:
    folder = put(tmp_path, {"d/01.txt": YOLO_TRUTH}) / "d"
    with pytest.raises(InputError, match=r"not recognized as detections; .*ground truth \(yolo\)"):
        recognize_format(folder, "detections")


def test_a_folder_that_cannot_be_looked_into_is_refused_like_any_other(tmp_path: Path) -> None:
    put(tmp_path, {"d/x/_annotations.coco.json": "{", "d/y/data.yaml": "names: [", "d/z": ""})
    with pytest.raises(InputError, match="name what is in it"):
        recognize_format(tmp_path / "d", "ground truth")


@pytest.mark.parametrize("folder", ["", "train"])
def test_an_export_of_roboflow_in_coco_s_format_is_read_by_its_folder(
    folder: str, tmp_path: Path
) -> None:
    put(tmp_path, {"train/_annotations.coco.json": COCO})
    assert read_ground_truth(tmp_path / folder).catalog.images == (1,)


def test_splits_of_roboflow_s_export_are_image_sets(tmp_path: Path) -> None:
    put(tmp_path, {f"{name}/_annotations.coco.json": COCO for name in ("train", "valid")})
    assert len(read_ground_truth(tmp_path, image_set="valid").catalog.images) == 1
    with pytest.raises(
        InputError, match=r"name an image set \(--image-set\); there are train, valid"
    ):
        read_ground_truth(tmp_path)
