"""Open Images' CSV and VoTT's exports."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from upmap.detection import InputError, read, read_ground_truth
from upmap.detection.formats import recognize_format
from upmap.metrics import COCO, mean_average_precision

COLUMNS = "ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsOccluded,IsTruncated,IsGroupOf"
TRUTH = f"{COLUMNS}\nab12,x,/m/01,1,0.1,0.5,0.2,0.6,0,0,0\ncd34,x,/m/02,1,0,1,0,1,0,0,1\n"
RESULTS = "ImageId,PredictionString\nab12,/m/01 0.9 0.1 0.2 0.5 0.6 /m/02 0.5 0 0 1 1\ncd34,\n"


def put(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (folder / name).write_text(text)
    return folder


def test_corners_of_open_images_are_units_of_the_image(tmp_path: Path) -> None:
    truth = read_ground_truth(put(tmp_path, {"t.csv": TRUTH}) / "t.csv")
    assert recognize_format(tmp_path / "t.csv", "ground truth") == "open-images"
    assert (truth.pixels, truth.catalog.images) == ("relative", ("ab12", "cd34"))
    assert truth.box.tolist() == [[0.1, 0.2, 0.5, 0.6], [0, 0, 1, 1]]
    assert not truth.crowd.any()  # a group is not COCO's crowd
    truth = read_ground_truth(tmp_path / "t.csv", image_size=(100, 50))
    assert truth.box.round(9).tolist() == [[10, 10, 50, 30], [0, 0, 100, 50]]


@pytest.mark.parametrize("box", ["xywh", "xyxy", "cxcywh-normalized"])
def test_what_the_boxes_of_the_detections_are_changes_nothing_in_open_images(
    box: str, tmp_path: Path
) -> None:
    truth = read_ground_truth(put(tmp_path, {"t.csv": TRUTH}) / "t.csv", box=box)
    assert (truth.pixels, truth.box.tolist()[0]) == ("relative", [0.1, 0.2, 0.5, 0.6])


def test_codes_of_classes_have_their_names_in_a_file_beside(tmp_path: Path) -> None:
    names = {"class-descriptions-boxable.csv": '/m/02,Zebra\n/m/01,"Ant, red"\n'}
    truth, found = read(
        put(tmp_path, {"t.csv": TRUTH, "d.csv": RESULTS} | names) / "t.csv", tmp_path / "d.csv"
    )
    assert truth.catalog.classes == ("Ant, red", "Zebra")
    assert truth.label.tolist() == [0, 1]
    assert [found.catalog.classes[k] for k in found.label.tolist()] == ["Ant, red", "Zebra"]


def test_results_of_the_challenge_are_read_in_their_order(tmp_path: Path) -> None:
    put(tmp_path, {"t.csv": TRUTH, "d.csv": RESULTS})
    assert recognize_format(tmp_path / "d.csv", "detections") == "open-images"
    truth, found = read(tmp_path / "t.csv", tmp_path / "d.csv")
    assert (found.score.tolist(), found.image.tolist()) == ([0.9, 0.5], [0, 0])
    assert found.box.tolist() == [[0.1, 0.2, 0.5, 0.6], [0, 0, 1, 1]]
    numbers = mean_average_precision(truth, found, protocol=COCO).metrics
    assert numbers["AP50"] == pytest.approx(0.5)
    assert np.isnan(numbers["APs"])


@pytest.mark.parametrize(
    ("cell", "message"),
    [("/m/01 0.9 0 0 1", "row 1: expected groups of 6"), ("a 0.9 0 0 x 1", "row 1: not numbers")],
)
def test_a_malformed_prediction_is_refused(cell: str, message: str, tmp_path: Path) -> None:
    put(tmp_path, {"t.csv": TRUTH, "d.csv": f"ImageId,PredictionString\nab12,{cell}\n"})
    with pytest.raises(InputError, match=message):
        read(tmp_path / "t.csv", tmp_path / "d.csv")


def test_open_images_with_decimal_commas_gives_coco_s_numbers_to_its_rounding(
    real_data: Path,
) -> None:
    sets = real_data / "formats" / "one_set_many_formats"
    paths = (sets / "openimages" / "all_bounding_boxes.csv", sets / "coco_v2" / "instances_v2.json")
    tables = [read_ground_truth(path, images=sets / "blank_images") for path in paths]
    assert tables[0].pixels == "continuous"
    boxes = [table.box[np.lexsort(table.box.T.round(3))] for table in tables]
    np.testing.assert_allclose(*boxes, rtol=0, atol=1e-6)  # ten decimals of a side


def vott(**changes: Any) -> str:
    region = {"type": "RECTANGLE", "tags": ["cat"]}
    region |= {"boundingBox": {"left": 1, "top": 2, "width": 29, "height": 38}}
    asset = {"name": "a.jpg", "size": {"width": 100, "height": 80}}
    content = {
        "name": "x",
        "videoSettings": {"frameExtractionRate": 15},
        "tags": [{"name": "cat"}, {"name": "dog"}],
        "securityToken": "t",
        "assets": {"1": {"asset": asset, "regions": [region | changes]}},
    }
    return json.dumps(content)


def test_vott_json_is_read(tmp_path: Path) -> None:
    truth = read_ground_truth(put(tmp_path, {"t.json": vott()}) / "t.json")
    assert recognize_format(tmp_path / "t.json", "ground truth") == "vott"
    assert truth.catalog.classes == ("cat", "dog")
    assert (truth.catalog.images, truth.catalog.sizes.tolist()) == (("a",), [[100, 80]])
    assert (truth.box.tolist(), truth.size.tolist()) == ([[1, 2, 30, 40]], [[29, 38]])


def test_a_region_with_two_tags_is_an_object_of_each(tmp_path: Path) -> None:
    truth = read_ground_truth(put(tmp_path, {"t.json": vott(tags=["cat", "dog"])}) / "t.json")
    assert truth.label.tolist() == [0, 1]


def test_polygons_of_vott_are_hulls_on_request(tmp_path: Path) -> None:
    put(tmp_path, {"t.json": vott(type="POLYGON")})
    with pytest.raises(InputError, match=r"there are no boxes, but shapes .*--task segment"):
        read_ground_truth(tmp_path / "t.json")
    assert len(read_ground_truth(tmp_path / "t.json", task="segment")) == 1


def test_malformed_vott_is_refused_by_its_key(tmp_path: Path) -> None:
    put(tmp_path, {"t.json": vott(boundingBox=None)})
    with pytest.raises(InputError, match=r"assets\.1\.regions\[0\]: a region without a bound"):
        read_ground_truth(tmp_path / "t.json")


def test_vott_s_csv_is_a_table(real_data: Path) -> None:
    folder = real_data / "formats" / "datumaro" / "vott_csv_dataset" / "dataset"
    truth = read_ground_truth(folder / "train-export.csv")
    assert (truth.catalog.images, len(truth)) == (("img0003", "img0004"), 3)
    assert truth.catalog.classes == ("helmet", "person")


def test_the_sample_of_vott_json_is_read(real_data: Path) -> None:
    folder = real_data / "formats" / "datumaro" / "vott_json_dataset" / "dataset"
    truth = read_ground_truth(folder / "train-export.json")
    assert (len(truth.catalog.images), len(truth)) == (3, 4)
