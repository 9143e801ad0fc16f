"""YOLO text: layouts of data sets, labels, detections, sizes of images, names of classes."""

import json
import random
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from upmap.detection import Detections, GroundTruth, read, write
from upmap.detection.formats.reading import read_ground_truth, recognize_format
from upmap.detection.formats.yolo_names import read_class_numbers, read_yaml
from upmap.detection.inputs import Input
from upmap.errors import InputError, InputWarning
from upmap.metrics import COCO, VOC2007, mean_average_precision
from upmap.metrics.evaluate import main as evaluate

LABELS = "0 0.5 0.5 0.5 0.25\n1 0.25 0.25 0.5 0.5\n"
RESULTS = "0 0.5 0.5 0.5 0.25 0.9\n1 0.25 0.25 0.5 0.5 0.75\n"
ULTRALYTICS = {
    "data.yaml": "path: .\nval: images/val\nnames:\n  0: cat\n  1: dog\n",
    "labels/val/a.txt": LABELS,
    "labels/val/b.txt": "",
}
DETECTED = {"predict/labels/a.txt": RESULTS}


def files_of(folder: Path, files: Mapping[str, str | bytes]) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


def image_file(path: Path, size: tuple[int, int], orientation: int = 1) -> None:
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.new("L", size)
    exif = image.getexif()
    exif[0x0112] = orientation
    image.save(path, exif=exif)


def truth(folder: Path, image_set: str | None = None, **options: Any) -> GroundTruth:
    return read_ground_truth(folder, image_set=image_set, **options)


def both(
    folder: Path, results: str = "predict/labels", **options: Any
) -> tuple[GroundTruth, Detections]:
    return read(
        folder,
        folder / results,
        ground_truth_format="yolo",
        detections_format="yolo",
        **options,
    )


def kinds(records: list[warnings.WarningMessage]) -> list[str]:
    return [record.message.kind for record in records if isinstance(record.message, InputWarning)]


def test_labels_are_centers_and_sides_in_units_of_the_image(tmp_path: Path) -> None:
    table = truth(files_of(tmp_path, ULTRALYTICS), image_size=(200, 100))
    assert table.catalog.images == ("a", "b")
    assert table.catalog.classes == ("cat", "dog")
    assert table.box.tolist() == [[50, 37.5, 150, 62.5], [0, 0, 100, 50]]
    assert table.size.tolist() == [[100, 25], [100, 50]]
    assert table.area.tolist() == [2500, 5000]


def test_without_sizes_precision_is_exact_and_scores_of_area_ranges_are_undefined(
    tmp_path: Path,
) -> None:
    folder = files_of(tmp_path, ULTRALYTICS | DETECTED)
    unknown = mean_average_precision(*both(folder), protocol=COCO).metrics
    known = mean_average_precision(*both(folder, image_size=(640, 480)), protocol=COCO).metrics
    for name, value in unknown.items():
        is_by_area = name[-1] in "sml"
        assert np.isnan(value) if is_by_area else value == known[name], name
    assert known["APl"] == pytest.approx(1)


def test_boxes_without_sizes_are_refused_where_pixels_count(tmp_path: Path) -> None:
    tables = both(files_of(tmp_path, ULTRALYTICS | DETECTED))
    with pytest.raises(InputError, match=r"sizes of the images are needed.*--images"):
        mean_average_precision(*tables, protocol=VOC2007)
    with pytest.raises(InputError, match="--sizes"):
        write(*tables, tmp_path / "out", format="coco")


def test_a_curve_of_an_area_range_without_sizes_is_refused(tmp_path: Path) -> None:
    evaluation = mean_average_precision(
        *both(files_of(tmp_path, ULTRALYTICS | DETECTED)), protocol=COCO
    )
    assert evaluation.curve("cat").recall[-1] == 1
    with pytest.raises(ValueError, match="sizes of the images are not known"):
        evaluation.curve("cat", area="small")


def test_sizes_come_from_headers_of_the_images_as_they_are_shown(tmp_path: Path) -> None:
    folder = files_of(tmp_path, ULTRALYTICS)
    image_file(folder / "images/val/a.jpg", (200, 100), orientation=6)
    image_file(folder / "images/val/b.png", (40, 30))
    table = truth(folder)
    assert table.catalog.sizes.tolist() == [[100, 200], [40, 30]]
    assert table.catalog.file_names == ("a.jpg", "b.png")
    assert table.size[0].tolist() == [50, 50]


def test_sizes_come_from_a_folder_of_images_elsewhere(tmp_path: Path) -> None:
    folder = files_of(tmp_path / "set", ULTRALYTICS)
    for name in "ab":
        image_file(tmp_path / "elsewhere" / "deep" / f"{name}.png", (200, 100))
    table = truth(folder, images=tmp_path / "elsewhere")
    assert table.size[0].tolist() == [100, 25]


@pytest.mark.parametrize(
    "text",
    [
        "a 200 100\nb 40 30\n",
        "name,width,height\nx/a.jpg,200,100\nb.png,40,30",
        "a.jpg\t200 100\r\nb 1 1",
    ],
)
def test_sizes_come_from_a_file(text: str, tmp_path: Path) -> None:
    sizes = files_of(tmp_path, {"sizes.txt": text}) / "sizes.txt"
    table = truth(files_of(tmp_path / "set", ULTRALYTICS), sizes=sizes)
    assert table.size[0].tolist() == [100, 25]


@pytest.mark.parametrize("text", ["a 200\n", "a 0 5\n", "a 1e3 5\n", "a 1 2\na 3 4\n", "a -1 5"])
def test_a_malformed_file_of_sizes_is_refused_by_line(text: str, tmp_path: Path) -> None:
    sizes = files_of(tmp_path, {"sizes.txt": text}) / "sizes.txt"
    with pytest.raises(InputError, match=r"sizes\.txt:[12]: "):
        truth(files_of(tmp_path / "set", ULTRALYTICS), sizes=sizes)


def test_the_table_says_why_numbers_of_sizes_are_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = files_of(tmp_path, ULTRALYTICS | DETECTED)
    arguments = [str(folder / "data.yaml"), str(folder / "predict")]
    assert evaluate(arguments) == 0
    assert "the sizes of the images are not known" in capsys.readouterr().out
    assert evaluate([*arguments, "--image-size", "64,48"]) == 0
    assert "not known" not in capsys.readouterr().out


def test_where_one_size_is_missing_all_boxes_stay_in_units_of_the_image(tmp_path: Path) -> None:
    sizes = files_of(tmp_path, {"sizes.txt": "a 200 100"}) / "sizes.txt"
    with pytest.warns(InputWarning, match="sizes of 1 images are not known") as records:
        table = truth(files_of(tmp_path / "set", ULTRALYTICS), sizes=sizes)
    assert kinds(list(records)) == ["unknown-size"]
    assert table.pixels == "relative"


def test_an_image_that_is_none_is_refused_by_name(tmp_path: Path) -> None:
    images = dict.fromkeys(("images/val/a.jpg", "images/val/b.jpg"), b"GIF89a nonsense")
    folder = files_of(tmp_path, ULTRALYTICS | images)
    with pytest.raises(InputError, match=r"a\.jpg: the size of this image cannot be read"):
        truth(folder)


def test_images_without_a_label_file_are_background(tmp_path: Path) -> None:
    folder = files_of(tmp_path, ULTRALYTICS)
    for name in "abc":
        image_file(folder / f"images/val/{name}.png", (20, 10))
    assert truth(folder).catalog.images == ("a", "b", "c")


def test_labels_without_an_image_are_left_out_and_counted(tmp_path: Path) -> None:
    folder = files_of(tmp_path, ULTRALYTICS)
    image_file(folder / "images/val/a.png", (20, 10))
    with pytest.warns(InputWarning, match="1 label files are left out") as records:
        assert truth(folder).catalog.images == ("a",)
    assert kinds(list(records)) == ["label-without-image"]


def test_the_last_images_in_a_path_becomes_labels(tmp_path: Path) -> None:
    files = {
        "data.yaml": "val: images/x/images\nnames: [cat, dog]\n",
        "images/x/labels/a.txt": LABELS,
    }
    assert len(truth(files_of(tmp_path, files))) == 2


def test_roboflow_s_wrong_folder_of_images_is_looked_for_beside_the_file(tmp_path: Path) -> None:
    files = {
        "data.yaml": "train: ../train/images\nval: ../valid/images\nnc: 2\nnames: ['cat', 'dog']\n",
        "train/labels/t.txt": LABELS,
        "valid/labels/a.txt": LABELS,
        "README.roboflow.txt": "exported",
    }
    folder = files_of(tmp_path, files)
    assert truth(folder).catalog.images == ("a",)
    assert truth(folder, "train").catalog.images == ("t",)
    with pytest.raises(InputError, match=r"no image set called 'test'; there are val, train"):
        truth(folder, "test")


@pytest.mark.parametrize(
    ("value", "more"),
    [
        ("images/val", {}),
        ("[images/val, images/other]", {"labels/other/c.txt": LABELS}),
        ("val.txt", {"val.txt": "./images/val/a.jpg\n./images/val/b.jpg\n"}),
        ("val.txt", {"val.txt": "data/images/val/a.jpg\r\ndata/images/val/b.jpg"}),
        ("[images/val/a.jpg, images/val/b.jpg]", {}),
    ],
)
def test_a_split_is_a_folder_or_some_or_a_list_or_images(
    value: str, more: dict[str, str], tmp_path: Path
) -> None:
    files = ULTRALYTICS | {"data.yaml": f"val: {value}\nnames: [cat, dog]\n"} | more
    table = truth(files_of(tmp_path, files))
    assert table.catalog.images == ("a", "b", "c")[: 2 + ("labels/other/c.txt" in more)]
    assert len(table) == 2 * (1 + ("labels/other/c.txt" in more))


def test_darknet_s_lists_name_images_that_need_not_exist(tmp_path: Path) -> None:
    files = {
        "obj.data": "classes = 2\ntrain = data/train.txt\nnames = data/obj.names\n",
        "obj.names": "cat\ndog\n",
        "train.txt": "data/obj_train_data/a.jpg\ndata/obj_train_data/b.jpg\n",
        "obj_train_data/a.txt": LABELS,
    }
    folder = files_of(tmp_path, files)
    for named in (folder, folder / "obj.data"):
        table = truth(named)
        assert (table.catalog.images, table.catalog.classes) == (("a", "b"), ("cat", "dog"))
        assert len(table) == 2
    (folder / "obj.data").unlink()
    assert len(truth(folder)) == 2


def test_a_list_whose_folder_is_not_there_is_refused_and_not_all_background(
    tmp_path: Path,
) -> None:
    files = {"data.yaml": "val: val.txt\nnames: [cat]", "val.txt": "/nowhere/images/a.jpg\n"}
    with pytest.raises(InputError, match=r"neither images nor labels for /nowhere/images/a\.jpg"):
        truth(files_of(tmp_path, files))


def test_a_list_may_not_have_anything_but_regular_files_opened(tmp_path: Path) -> None:
    import os

    folder = files_of(tmp_path, {"data.yaml": "val: val.txt\nnames: [cat]", "val.txt": "x/a.jpg\n"})
    (folder / "x").mkdir()
    os.mkfifo(folder / "x" / "a.txt")
    with pytest.raises(InputError, match="not a regular file"):
        truth(folder)


def test_a_plain_folder_of_labels_has_names_in_a_folder_above(tmp_path: Path) -> None:
    folder = files_of(
        tmp_path,
        {"classes.txt": "cat\ndog\n", "labels/train/1.txt": LABELS, "labels/val/1.txt": LABELS},
    )
    assert truth(folder).catalog.images == ("train/1", "val/1")
    assert truth(folder, "val").catalog.images == ("1",)
    assert truth(folder / "labels" / "val").catalog.classes == ("cat", "dog")


def test_an_image_set_may_be_a_list_of_image_ids(tmp_path: Path) -> None:
    folder = files_of(tmp_path, ULTRALYTICS | {"some.txt": "b\n"})
    assert truth(folder, str(folder / "some.txt")).catalog.images == ("b",)


def test_names_may_have_gaps(tmp_path: Path) -> None:
    files = ULTRALYTICS | {"data.yaml": "val: images/val\nnames: {0: cat, 1: dog, 7: yes}\n"}
    assert truth(files_of(tmp_path, files)).catalog.classes == ("cat", "dog", "yes")


@pytest.mark.parametrize(
    "text",
    [
        "a: &a [x]\nnames: *a\nval: x\n",
        "a: &a [x, x]\nb: &b [*a, *a]\nnames: [*b, *b]\nval: x",
        "[" * 5000,
        "names: [a, a]\nval: x",
        "names: {x: a}\nval: x",
        "names: [a, [b]]\nval: x",
        "names: 7\nval: x",
        "val: {a: b}\nnames: [a]",
        "names: [a]\n",
        "- a\n",
        "names: [a\n",
        "\x00",
        "? [a, b]\n: c\nnames: [x]\n",
        "!!python/object/apply:os.system ['true']\n",
        "names: [cat, dog]\nval: images/val\nkpt_shape: [x, 3]\n",
    ],
)
def test_a_malformed_description_is_refused_in_one_line(text: str, tmp_path: Path) -> None:
    folder = files_of(tmp_path, ULTRALYTICS | {"data.yaml": text})
    with pytest.raises(InputError, match=r"data\.yaml") as error:
        read_ground_truth(folder, format="yolo")
    assert "\n" not in str(error.value)


def test_yaml_makes_nothing_but_text(tmp_path: Path) -> None:
    file = files_of(tmp_path, {"a.yaml": "names: [no, 1e3, 2020-01-01, ~]\n"}) / "a.yaml"
    assert read_yaml(Input(file)) == {"names": ["no", "1e3", "2020-01-01", "~"]}


@pytest.mark.parametrize(
    ("row", "task", "box"),
    [
        ("0 0.1 0.1 0.4 0.1 0.4 0.5", "segment", [0.1, 0.1, 0.4, 0.5]),
        ("0 0.2 0.1 0.4 0.3 0.2 0.5 0.1 0.3", "obb", [0.1, 0.1, 0.4, 0.5]),
        ("0 0.2 0.1 0.4 0.3 0.2 0.5 0.1 0.3", "segment", [0.1, 0.1, 0.4, 0.5]),
        ("0 0.25 0.25 0.5 0.5 0.1 0.2 2 0.3 0.4 2", "detect", [0, 0, 0.5, 0.5]),
    ],
)
def test_rows_of_more_numbers_are_read_on_request_only(
    row: str, task: Any, box: list[float], tmp_path: Path
) -> None:
    folder = files_of(tmp_path, ULTRALYTICS | {"labels/val/a.txt": f"{row}\n"})
    with pytest.raises(InputError, match=r"a\.txt:1: expected 5 numbers.*--task segment"):
        truth(folder)
    np.testing.assert_allclose(truth(folder, task=task).box, [box], atol=1e-15)


def test_boxes_among_polygons_are_boxes_and_noted(tmp_path: Path) -> None:
    rows = "0 0.5 0.5 0.5 0.25\n1 0.1 0.1 0.4 0.1 0.4 0.5\n"
    folder = files_of(tmp_path, ULTRALYTICS | {"labels/val/a.txt": rows})
    with pytest.warns(InputWarning, match="1 rows are boxes among polygons"):
        table = truth(folder, task="segment")
    np.testing.assert_allclose(table.box, [[0.25, 0.375, 0.75, 0.625], [0.1, 0.1, 0.4, 0.5]])


def test_keypoints_that_the_description_announces_stand_behind_a_box(tmp_path: Path) -> None:
    files = ULTRALYTICS | {
        "data.yaml": "val: images/val\nkpt_shape: [2, 3]\nnames: [cat]\n",
        "labels/val/a.txt": "0 0.5 0.5 0.5 0.5 0.1 0.2 2 0.3 0.4 2\n",
    }
    assert truth(files_of(tmp_path, files)).box.tolist() == [[0.25, 0.25, 0.75, 0.75]]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("0 0.5 0.5 0.5", "expected 5 numbers"),
        ("0 0.5 0.5 0.5 0.5 0.9", "is this a folder of detections"),
        ("0.5 0.5 0.5 0.5 0.5", "0.5 is not a class number"),
        ("-1 0.5 0.5 0.5 0.5", "-1 is not a class number"),
        ("cat 0.5 0.5 0.5 0.5", "not a number: 'cat'"),
        ("0 0.5 nan 0.5 0.5", "not finite"),
        ("0 0.5 0.5 1e999 0.5", "not finite"),
        ("0 320 240 100 50", "these are pixels"),
    ],
)
def test_a_malformed_row_is_refused_by_line(row: str, message: str, tmp_path: Path) -> None:
    folder = files_of(tmp_path, ULTRALYTICS | {"labels/val/a.txt": f"{row}\n"})
    with pytest.raises(InputError, match=rf"a\.txt:1: .*{message}"):
        read_ground_truth(folder, format="yolo")


def test_what_reaches_outside_the_image_is_noted_and_kept(tmp_path: Path) -> None:
    rows = "0 0.5 0.5 0.5 0.25\n1 0.95 0.5 0.5 0.25\n"
    folder = files_of(tmp_path, ULTRALYTICS | {"labels/val/a.txt": rows})
    with pytest.warns(InputWarning, match="outside their image") as records:
        assert len(truth(folder)) == 2
    assert kinds(list(records)) == ["ground-truth-outside-image"]


def test_classes_without_a_name_are_left_out_and_counted(tmp_path: Path) -> None:
    rows = "0 0.5 0.5 0.5 0.25\n7 0.5 0.5 0.5 0.25\n"
    folder = files_of(tmp_path, ULTRALYTICS | {"labels/val/a.txt": rows})
    with pytest.warns(InputWarning, match="1 boxes without a class name are left out: 7"):
        assert len(truth(folder)) == 1


def test_numbers_that_count_from_one_are_loud(tmp_path: Path) -> None:
    rows = "1 0.5 0.5 0.5 0.25\n2 0.5 0.5 0.5 0.25\n"
    folder = files_of(tmp_path, ULTRALYTICS | {"labels/val/a.txt": rows})
    with pytest.warns(InputWarning, match="the numbers seem to count from 1"):
        truth(folder)


@pytest.mark.parametrize(("duplicates", "count"), [("keep", 4), ("drop", 2)])
def test_repeated_rows_are_noted_and_dropped_on_request(
    duplicates: Any, count: int, tmp_path: Path
) -> None:
    files = ULTRALYTICS | {
        "labels/val/a.txt": LABELS * 2,
        "predict/labels/a.txt": RESULTS * 2,
    }
    with pytest.warns(InputWarning, match="2 rows repeat an earlier one") as records:
        tables = both(files_of(tmp_path, files), duplicates=duplicates)
    assert kinds(list(records)) == ["duplicate-row", "duplicate-row"]
    assert [len(table) for table in tables] == [count, count]


def test_the_confidence_stands_last_and_a_track_may_follow(tmp_path: Path) -> None:
    tracked = "".join(f"{line} {i}\n" for i, line in enumerate(RESULTS.splitlines(), 3))
    for rows in (RESULTS, tracked):
        table = both(files_of(tmp_path, ULTRALYTICS | {"predict/labels/a.txt": rows}))[1]
        assert table.score.tolist() == [0.9, 0.75]
        assert table.box.tolist() == [[0.25, 0.375, 0.75, 0.625], [0, 0, 0.5, 0.5]]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("0 0.5 0.5 0.5 0.25", "save_conf=True"),
        ("0 0.5 0.5 0.5 0.25 17", "is it a track's number"),
        ("0 0.5 0.5 0.5 0.25 nan", "confidence"),
        ("0 0.1 0.1 0.4 0.1 0.4 0.5 0.9", "--task segment"),
    ],
)
def test_detections_without_a_confidence_are_refused_with_the_hint(
    row: str, message: str, tmp_path: Path
) -> None:
    folder = files_of(tmp_path, ULTRALYTICS | {"predict/labels/a.txt": f"{row}\n"})
    with pytest.raises(InputError, match=rf"a\.txt:1: .*{message}"):
        both(folder)


@pytest.mark.parametrize(
    ("row", "task"),
    [
        ("0 0.1 0.1 0.4 0.1 0.4 0.5 0.9", "segment"),
        ("0 0.2 0.1 0.4 0.3 0.2 0.5 0.1 0.3 0.9", "obb"),
    ],
)
def test_shapes_with_a_confidence_are_hulls_on_request(row: str, task: Any, tmp_path: Path) -> None:
    files = ULTRALYTICS | {"labels/val/a.txt": row[:-4], "predict/labels/a.txt": row}
    truth_table, table = both(files_of(tmp_path, files), task=task)
    np.testing.assert_allclose(table.box, [[0.1, 0.1, 0.4, 0.5]], atol=1e-15)
    assert table.score.tolist() == [0.9]
    assert np.array_equal(table.box, truth_table.box)


def test_the_place_of_the_confidence_is_taken_where_one_reading_fits_all_rows(
    tmp_path: Path,
) -> None:
    second = "0 0.9 0.5 0.5 0.5 0.25\n1 0.75 0.25 0.25 0.5 0.5\n"
    files = ULTRALYTICS | {"dets/a.txt": second, "last/a.txt": "0 0.5 0.75 0.75 0.5 0.125\n"}
    folder = files_of(tmp_path, files)
    table = both(folder, "dets")[1]
    assert table.score.tolist() == [0.9, 0.75]
    assert table.box.tolist() == [[0.25, 0.375, 0.75, 0.625], [0, 0, 0.5, 0.5]]


def test_where_both_places_of_the_confidence_fit_the_columns_are_asked_for(
    tmp_path: Path,
) -> None:
    folder = files_of(tmp_path, ULTRALYTICS | {"dets/a.txt": "0 0.5 0.5 0.5 0.5 0.5\n"})
    with pytest.raises(InputError, match="--columns class,x,y,w,h,conf or --columns class,conf"):
        both(folder, "dets")
    for columns in (("class", "x", "y", "w", "h", "conf"), ("class", "conf", "x", "y", "w", "h")):
        assert both(folder, "dets", columns=columns)[1].score.tolist() == [0.5]


@pytest.mark.parametrize(
    "columns", [("class", "x", "y"), ("class", "x", "x", "y", "w", "h", "conf")]
)
def test_columns_that_lack_some_or_are_named_twice_are_refused(
    columns: tuple[str, ...], tmp_path: Path
) -> None:
    folder = files_of(tmp_path, ULTRALYTICS | {"dets/a.txt": RESULTS})
    with pytest.raises(InputError, match="--columns"):
        both(folder, "dets", columns=columns)


def test_images_without_detections_need_no_file(tmp_path: Path) -> None:
    table = both(files_of(tmp_path, ULTRALYTICS | DETECTED))[1]
    assert table.catalog.images == ("a", "b")
    assert table.image.tolist() == [0, 0]


def test_files_of_unknown_images_are_left_out_and_counted(tmp_path: Path) -> None:
    files = ULTRALYTICS | DETECTED | {"predict/labels/z.txt": RESULTS}
    with pytest.warns(
        InputWarning, match="2 detections on 1 unknown images: 'z'; they are left out"
    ) as records:
        assert len(both(files_of(tmp_path, files))[1]) == 2
    assert kinds(list(records)) == ["detection-on-unlisted-image"]


def test_detections_of_none_of_the_images_are_refused(tmp_path: Path) -> None:
    folder = files_of(tmp_path, ULTRALYTICS | {"predict/labels/z.txt": RESULTS})
    with pytest.raises(InputError, match=r"unknown images: 'z'"):
        both(folder)


def test_classes_are_matched_by_the_names_of_both_sides_never_by_number(tmp_path: Path) -> None:
    files = ULTRALYTICS | DETECTED | {"model.yaml": "names: [dog, cat]\n"}
    folder = files_of(tmp_path, files)
    names = folder / "model.yaml"
    truth_table, table = read(
        folder / "data.yaml",
        folder / "predict" / "labels",
        class_names=names,
        detections_format="yolo",
    )
    assert [table.catalog.classes[k] for k in table.label.tolist()] == ["dog", "cat"]
    assert [truth_table.catalog.classes[k] for k in truth_table.label.tolist()] == ["cat", "dog"]
    # A file of names beside the detections says the same.
    files_of(folder, {"predict/labels/classes.txt": "dog\ncat\n"})
    table = read(folder / "data.yaml", folder / "predict", detections_format="yolo")[1]
    assert [table.catalog.classes[k] for k in table.label.tolist()] == ["dog", "cat"]


def test_a_number_that_the_ground_truth_does_not_name_asks_for_the_names(tmp_path: Path) -> None:
    row = "14 0.5 0.5 0.5 0.25 0.9\n"
    folder = files_of(tmp_path / "set", ULTRALYTICS)
    results = files_of(tmp_path, {"out/x/y/labels/a.txt": row}) / "out/x/y/labels"
    with pytest.raises(InputError, match=r"the ground truth names no class 14.*--class-names"):
        read(folder, results)


def test_numbers_beside_ground_truth_of_another_format_ask_for_the_names(tmp_path: Path) -> None:
    instances = {
        "images": [{"id": 7, "file_name": "a.jpg", "width": 200, "height": 100}],
        "annotations": [
            {"id": 1, "image_id": 7, "category_id": 3, "bbox": [50, 37.5, 100, 25], "area": 2500}
        ],
        "categories": [{"id": 3, "name": "cat"}, {"id": 9, "name": "dog"}],
    }
    folder = files_of(tmp_path, {"i.json": json.dumps(instances)} | DETECTED)
    with pytest.raises(InputError, match=r"these files number the classes.*--class-names"):
        read(folder / "i.json", folder / "predict")
    tables = read(folder / "i.json", folder / "predict", class_names={0: "cat", 1: "dog"})
    assert tables[1].box[0].tolist() == [50, 37.5, 150, 62.5]
    assert mean_average_precision(*tables, protocol=COCO).metrics["AP"] == pytest.approx(1)


def test_numbers_on_both_sides_need_no_names(tmp_path: Path) -> None:
    folder = files_of(tmp_path, {"x/y/z/labels/a.txt": LABELS, "x/y/w/labels/a.txt": RESULTS})
    tables = read(folder / "x/y/z/labels", folder / "x/y/w/labels")
    assert tables[0].catalog.classes == ("0", "1")
    assert mean_average_precision(*tables, protocol=COCO).metrics["AP"] == pytest.approx(1)


def test_detections_match_ids_with_leading_zeros_or_names_of_files(tmp_path: Path) -> None:
    images = [
        {"id": i, "file_name": f"{i:012d}.jpg", "width": 10, "height": 10} for i in (139, 285)
    ]
    instances = {"images": images, "annotations": [], "categories": [{"id": 1, "name": "cat"}]}
    files = {
        "i.json": json.dumps(instances),
        "stems/labels/000000000139.txt": "0 0.5 0.5 0.5 0.25 0.9\n",
        "ids/labels/285.txt": "0 0.5 0.5 0.5 0.25 0.9\n",
    }
    folder = files_of(tmp_path, files)
    for name, image in (("stems", 0), ("ids", 1)):
        table = read(folder / "i.json", folder / name, class_names={0: "cat"})[1]
        assert table.image.tolist() == [image]


def test_ids_and_names_of_files_that_fit_and_differ_are_refused(tmp_path: Path) -> None:
    images = [{"id": i, "file_name": f"{3 - i}.jpg", "width": 10, "height": 10} for i in (1, 2)]
    instances = {"images": images, "annotations": [], "categories": [{"id": 1, "name": "cat"}]}
    files = {"i.json": json.dumps(instances), "d/labels/1.txt": "0 0.5 0.5 0.5 0.25 0.9\n"}
    folder = files_of(tmp_path, files)
    with pytest.raises(InputError, match=r"--image-key .*id\|stem"):
        read(folder / "i.json", folder / "d", class_names={0: "cat"})
    for key, place in (("id", 0), ("stem", 1)):
        table = read(folder / "i.json", folder / "d", class_names={0: "cat"}, image_key=key)[1]
        assert table.image.tolist() == [place]


def test_pixels_and_other_corners_are_read_on_request(tmp_path: Path) -> None:
    files = ULTRALYTICS | {"dets/a.txt": "0 0.9 50 37.5 100 25\n"}
    columns = ("class", "conf", "x", "y", "w", "h")
    table = both(
        files_of(tmp_path, files), "dets", columns=columns, box="xywh", image_size=(200, 100)
    )[1]
    assert table.box.tolist() == [[50, 37.5, 150, 62.5]]
    with pytest.raises(InputError, match="no kind of box 'x'; there are xyxy, xywh, cxcywh"):
        both(tmp_path, "dets", columns=columns, box="x")


def test_boxes_in_px_are_said_of_the_ground_truth_where_all_numbers_are_units(
    tmp_path: Path,
) -> None:
    table = both(files_of(tmp_path, ULTRALYTICS | DETECTED), "predict", box="xyxy")[1]
    expected = both(tmp_path, "predict")[1]
    assert table.box.tolist() == expected.box.tolist()


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("cat\ndog\n\n", {0: "cat", 1: "dog"}),
        ("0 cat\n2 dog\n", {0: "cat", 2: "dog"}),
        ("\ufeff0: cat\r\n1: hot dog\r\n", {0: "cat", 1: "hot dog"}),
        ("3 apples\ncat\n", {0: "3 apples", 1: "cat"}),
    ],
)
def test_class_names_are_lines_that_may_be_numbered(
    text: str, names: dict[int, str], tmp_path: Path
) -> None:
    assert read_class_numbers(files_of(tmp_path, {"c.txt": text}) / "c.txt") == names


def test_what_is_yolo_is_recognized_and_what_is_not_is_not(tmp_path: Path) -> None:
    folder = files_of(tmp_path, ULTRALYTICS | DETECTED | {"dets/01.txt": "0 0.9 50 37 100 90\n"})
    assert recognize_format(folder, "ground truth") == "yolo"
    assert recognize_format(folder / "data.yaml", "ground truth") == "yolo"
    assert recognize_format(folder / "labels" / "val", "ground truth") == "yolo"
    assert recognize_format(folder / "predict", "detections") == "yolo"
    assert recognize_format(folder / "dets", "detections") == "cartucho"


def test_written_tables_read_back_to_their_rounding(tmp_path: Path) -> None:
    folder = files_of(tmp_path / "a", ULTRALYTICS | DETECTED)
    truth_table, table = both(folder, image_size=(640, 427))
    write(truth_table, table, tmp_path / "out", format="yolo", image_set="val")
    tables = read(
        tmp_path / "out",
        tmp_path / "out" / "predictions",
        sizes=tmp_path / "out" / "sizes.txt",
    )
    assert tables[0].catalog.classes == truth_table.catalog.classes
    assert tables[0].catalog.images == truth_table.catalog.images
    np.testing.assert_allclose(tables[0].box, truth_table.box, rtol=1e-15, atol=1e-12)
    np.testing.assert_allclose(tables[1].box, table.box, rtol=1e-15, atol=1e-12)
    assert tables[1].score.tolist() == table.score.tolist()


def test_mutated_files_are_read_or_refused(tmp_path: Path) -> None:
    generator = random.Random(0)
    names = [*ULTRALYTICS, *DETECTED]
    for seed in range(150):
        files = {name: text.encode() for name, text in (ULTRALYTICS | DETECTED).items()}
        name = generator.choice([name for name in names if files[name]])
        data = bytearray(files[name])
        for _ in range(generator.choice((1, 2, 6))):
            data[generator.randrange(len(data))] = generator.choice(b"\x00\n 019.-:{[&*eE\xff")
        files[name] = bytes(data)
        folder = files_of(tmp_path / str(seed), files)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", InputWarning)
            try:
                both(folder)
            except InputError as error:
                assert "\n" not in str(error)  # noqa: PT017


LAYOUTS = ("detection", "detection_with_list_of_imgs", "detection_with_list_of_names")


@pytest.mark.parametrize("name", [*LAYOUTS, "detection_with_subset_txt", "pose"])
def test_the_layouts_of_cvat_and_datumaro_are_read(name: str, real_data: Path) -> None:
    folder = real_data / "formats" / "cvat_ai_datumaro" / "yolo_dataset" / f"yolov8_{name}"
    table = truth(folder)
    assert table.catalog.images == ("1",)
    assert table.box[0].tolist() == pytest.approx([0, 0.2, 0.266667, 0.4], abs=1e-6)


@pytest.mark.parametrize(("name", "task"), [("oriented_boxes", "obb"), ("segmentation", "segment")])
def test_the_shapes_of_cvat_and_datumaro_are_read_on_request(
    name: str, task: Any, real_data: Path
) -> None:
    folder = real_data / "formats" / "cvat_ai_datumaro" / "yolo_dataset" / f"yolov8_{name}"
    with pytest.raises(InputError, match="--task"):
        truth(folder)
    assert len(truth(folder, task=task)) == 2


def test_one_set_gives_coco_s_numbers_as_yolo_to_its_rounding(real_data: Path) -> None:
    sets = real_data / "formats" / "one_set_many_formats"
    names = dict(enumerate(sorted(VOC_CLASSES)))
    options: Any = dict(images=sets / "blank_images", columns=("class", "conf", "x", "y", "w", "h"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", InputWarning)
        tables = [
            read(file, sets / "dets_rel_xywh", class_names=names, **options)
            for file in (sets / "yolo", sets / "coco_v2" / "instances_v2.json")
        ]
    yolo, coco = (mean_average_precision(*pair, protocol=COCO).metrics for pair in tables)
    # Six decimals: corners are off by up to 1e-6 of a side, 2.5e-4 px here.
    order = [np.lexsort(truth.box.T.round()) for truth, _ in tables]
    boxes = [truth.box[rows] for (truth, _), rows in zip(tables, order, strict=True)]
    assert np.abs(boxes[0] - boxes[1]).max() < 5e-4
    assert max(abs(yolo[name] - coco[name]) for name in yolo) < 1e-3


VOC_CLASSES = [
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa"),
    *("train", "tvmonitor"),
]
