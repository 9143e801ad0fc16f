"""KITTI, Cartucho and DOTA text: what is read and refused, which images and classes are meant."""

import random
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from upmap.detection import Detections, GroundTruth, read
from upmap.detection.formats.reading import read_ground_truth, recognize_format
from upmap.errors import InputError, InputWarning
from upmap.metrics import COCO, mean_average_precision

KITTI = {
    "label_2/000000.txt": "Car 0.00 0 1.85 10 20 30 40 1.67 1.87 3.69 -16.53 2.39 58.49 1.57\n"
    "DontCare -1 -1 -10 50 50 90 90 -1 -1 -1 -1000 -1000 -1000 -10\n",
    "label_2/000001.txt": "",
    "results/data/000000.txt": "Car -1 -1 -10 10 20 30 40 -1 -1 -1 -1000 -1000 -1000 -10 0.9\n"
    "Car -1 -1 -10 55 55 65 65 -1 -1 -1 -1000 -1000 -1000 -10 0.95\n",
}
CARTUCHO = {
    "ground-truth/1.txt": "cat 10 20 30 40\ndog 1 2 3 4 difficult\n",
    "ground-truth/2.txt": "",
    "detection-results/1.txt": "cat 0.9 10 20 30 40\ndog 0.75 1 2 3 4\n",
}
DOTA = {
    "labelTxt/P1.txt": "imagesource:GoogleEarth\ngsd:0.146\n"
    "10 20 30 20 30 40 10 40 plane 0\n1 2 3 2 3 4 1 4 large-vehicle 1\n",
    "labelTxt/P2.txt": "imagesource:GoogleEarth\ngsd:null\n",
    "task2/Task2_plane.txt": "P1 0.9 10 20 30 40\n",
    "task2/Task2_large-vehicle.txt": "",
    "task1/Task1_plane.txt": "P1 0.9 10 20 30 20 30 40 10 40\n",
}
INPUTS = {
    "kitti": (KITTI, "label_2", "results"),
    "cartucho": (CARTUCHO, "ground-truth", "detection-results"),
    "dota": (DOTA, "labelTxt", "task2"),
}


def files_of(folder: Path, files: Mapping[str, str | bytes]) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


def tables(
    folder: Path, name: str, results: str = "", **options: Any
) -> tuple[GroundTruth, Detections]:
    _, truth, detections = INPUTS[name]
    return read(
        folder / truth,
        folder / (results or detections),
        format=name,
        **options,
    )


@pytest.mark.parametrize("name", INPUTS)
def test_files_are_recognized_read_and_evaluated(name: str, tmp_path: Path) -> None:
    files, truth, detections = INPUTS[name]
    folder = files_of(tmp_path, files)
    assert recognize_format(folder / truth, "ground truth") == name
    assert recognize_format(folder / detections, "detections") == name
    truth_table, table = read(folder / truth, folder / detections)
    assert truth_table.box[0].tolist() == table.box[0].tolist() == [10, 20, 30, 40]
    assert truth_table.size[0].tolist() == [20, 20]
    assert len(truth_table.catalog.images) == 2
    assert table.score[0] == 0.9
    metrics = mean_average_precision(truth_table, table, protocol=COCO).metrics
    assert metrics["AR@100"] > 0.4 if "AR@100" in metrics else metrics["AP"] > 0.4


def test_what_lies_in_kitti_s_dontcare_regions_is_not_counted(tmp_path: Path) -> None:
    folder = files_of(tmp_path, KITTI)
    truth_table, table = tables(folder, "kitti")
    assert truth_table.catalog.classes == ("Car",)
    assert truth_table.crowd.tolist() == [False, True]
    metrics = mean_average_precision(truth_table, table, protocol=COCO).metrics
    assert metrics["AP"] == pytest.approx(1)


def test_kitti_s_other_numbers_may_be_anything(tmp_path: Path) -> None:
    row = "Car nan inf -10 10 20 30 40 -1 -1 -1 -1000 -1000 -1000 nan\n"
    folder = files_of(tmp_path, KITTI | {"label_2/000000.txt": row})
    assert tables(folder, "kitti")[0].box.tolist() == [[10, 20, 30, 40]]


def test_cartucho_s_mark_is_voc_s_difficult(tmp_path: Path) -> None:
    truth_table, _ = tables(files_of(tmp_path, CARTUCHO), "cartucho")
    assert truth_table.difficult.tolist() == [False, True]


def test_cartucho_s_confidence_is_second_and_other_orders_are_told(tmp_path: Path) -> None:
    folder = files_of(tmp_path, CARTUCHO | {"x/1.txt": "10 20 20 20 0.9 cat\n"})
    columns = ("x", "y", "w", "h", "conf", "class")
    table = tables(folder, "cartucho", "x", columns=columns, box="xywh")[1]
    assert table.box.tolist() == [[10, 20, 30, 40]]
    assert table.score.tolist() == [0.9]


def test_widths_and_heights_are_not_taken_for_corners(tmp_path: Path) -> None:
    folder = files_of(tmp_path, CARTUCHO | {"detection-results/1.txt": "cat 0.9 100 200 30 40\n"})
    with pytest.raises(InputError, match=r"1\.txt:1: right and bottom lie before.*--box xywh"):
        tables(folder, "cartucho")
    table = tables(folder, "cartucho", box="xywh")[1]
    assert table.box.tolist() == [[100, 200, 130, 240]]


def test_numbers_as_classes_ask_for_names(tmp_path: Path) -> None:
    folder = files_of(tmp_path, CARTUCHO | {"detection-results/1.txt": "1 0.9 10 20 30 40\n"})
    with pytest.raises(InputError, match=r"number the classes.*--class-names"):
        tables(folder, "cartucho")
    table = tables(folder, "cartucho", class_names={0: "dog", 1: "cat"})[1]
    assert table.catalog.classes[table.label[0]] == "cat"


def test_numbers_as_classes_on_both_sides_need_no_names(tmp_path: Path) -> None:
    files = {"ground-truth/1.txt": "10 1 2 30 40\n9 5 6 70 80\n"}
    files |= {"detection-results/1.txt": "9 0.9 5 6 70 80\n"}
    truth_table, table = tables(files_of(tmp_path, files), "cartucho")
    assert truth_table.catalog.classes == ("9", "10")
    assert table.label.tolist() == [0]


def test_oriented_boxes_of_dota_are_hulls_only_on_request(tmp_path: Path) -> None:
    row = "20 10 30 20 20 30 10 20"
    files = DOTA | {
        "labelTxt/P1.txt": f"{row} plane 0\n",
        "task1/Task1_plane.txt": f"P1 0.9 {row}\n",
    }
    folder = files_of(tmp_path, files)
    with pytest.raises(InputError, match=r"P1\.txt:1: the box is oriented; --task obb"):
        tables(folder, "dota", "task1")
    for table in tables(folder, "dota", "task1", task="obb"):
        assert table.box.tolist() == [[10, 10, 30, 30]]


def test_boxes_of_dota_along_the_axes_need_no_request(tmp_path: Path) -> None:
    truth_table, table = tables(files_of(tmp_path, DOTA), "dota", "task1")
    assert truth_table.difficult.tolist() == [False, True]
    assert truth_table.box[0].tolist() == table.box[0].tolist() == [10, 20, 30, 40]


def test_files_of_two_of_dota_s_tasks_are_refused(tmp_path: Path) -> None:
    folder = files_of(tmp_path, DOTA | {"task2/Task1_plane.txt": ""})
    with pytest.raises(InputError, match="expected files of one task"):
        tables(folder, "dota")


@pytest.mark.parametrize(
    ("name", "file", "row", "message"),
    [
        ("kitti", "label_2/000000.txt", "Car 1 2 3", "expected a type and 14 numbers, got 3"),
        ("kitti", "results/data/000000.txt", "Car" + " 1" * 14, "the score last, got 14"),
        ("kitti", "label_2/000000.txt", "Car 0 0 0 nan" + " 1" * 10, "not finite"),
        ("kitti", "results/data/000000.txt", "Car" + " 1" * 14 + " nan", "score is not finite"),
        ("cartucho", "ground-truth/1.txt", "cat 0.9 1 2 3 4", "is this a folder of detections"),
        ("cartucho", "ground-truth/1.txt", "cat 1 2 3", "expected a class and 4 numbers, got 3"),
        ("cartucho", "detection-results/1.txt", "hot dog 0.9 1 2 3 4", "not a number: 'dog'"),
        ("cartucho", "detection-results/1.txt", "cat 1 2 3 4", "expected a class and 5 numbers"),
        ("dota", "labelTxt/P1.txt", "1 2 3 4 plane 0", "expected at least 9 columns, got 6"),
        ("dota", "task2/Task2_plane.txt", "P1 0.9 1 2 3", "expected an image and 5 numbers, got 4"),
    ],
)
def test_a_malformed_row_is_refused_by_line(
    name: str, file: str, row: str, message: str, tmp_path: Path
) -> None:
    folder = files_of(tmp_path, INPUTS[name][0] | {file: f"{row}\n"})
    with pytest.raises(InputError, match=rf"{Path(file).stem}\.txt:1: .*{message}"):
        tables(folder, name)


@pytest.mark.parametrize("name", INPUTS)
def test_a_folder_without_files_is_refused(name: str, tmp_path: Path) -> None:
    files, truth, _ = INPUTS[name]
    folder = files_of(tmp_path, {key: text for key, text in files.items() if truth not in key})
    (folder / truth).mkdir()
    with pytest.raises(InputError, match=r"no \.txt files"):
        tables(folder, name)


@pytest.mark.parametrize("name", INPUTS)
def test_mutated_files_are_read_or_refused(name: str, tmp_path: Path) -> None:
    generator = random.Random(0)
    files = {key: text.encode() for key, text in INPUTS[name][0].items()}
    for seed in range(80):
        key = generator.choice([key for key in files if files[key]])
        data = bytearray(files[key])
        for _ in range(generator.choice((1, 2, 6))):
            data[generator.randrange(len(data))] = generator.choice(b"\x00\n 019.-:eE\xff")
        folder = files_of(tmp_path / str(seed), files | {key: bytes(data)})
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", InputWarning)
            try:
                tables(folder, name)
            except InputError as error:
                assert "\n" not in str(error)  # noqa: PT017


def test_the_sample_of_cartucho_is_evaluated(real_data: Path) -> None:
    folder = real_data / "formats" / "cartucho"
    with pytest.warns(InputWarning, match="no ground truth for the detected classes"):
        pair = read(folder / "ground-truth", folder / "detection-results")
    assert mean_average_precision(*pair, protocol=COCO).metrics["AP"] == pytest.approx(
        0.171809134, abs=1e-9
    )


def test_the_samples_of_kitti_and_dota_are_read(real_data: Path) -> None:
    formats = real_data / "formats"
    kitti = read_ground_truth(formats / "kitti" / "label_2")
    assert kitti.catalog.classes == ("Car", "Cyclist", "Misc", "Pedestrian", "Truck")
    assert int(kitti.crowd.sum()) == 4 * 5
    dota = read_ground_truth(formats / "datumaro" / "dota_dataset")
    assert dota.box[0].tolist() == [0, 0, 2, 2]


def test_corners_of_one_set_give_the_same_numbers_as_widths(real_data: Path) -> None:
    sets = real_data / "formats" / "one_set_many_formats"
    file, names = sets / "coco_v2" / "instances_v2.json", dict(enumerate(VOC_CLASSES))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", InputWarning)
        corners = read(file, sets / "dets_abs_xyx2y2", class_names=names)
        widths = read(file, sets / "dets_abs_xywh", class_names=names, box="xywh")
    assert np.array_equal(corners[1].box, widths[1].box)
    metrics = [mean_average_precision(*pair, protocol=COCO).metrics for pair in (corners, widths)]
    assert metrics[0] == metrics[1]


VOC_CLASSES = [
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa"),
    *("train", "tvmonitor"),
]
