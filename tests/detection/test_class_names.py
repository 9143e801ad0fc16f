"""COCO results beside ground truth that has no category ids."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.detection.small_files import COCO, VOC, instances, put, results
from upmap.detection import InputError, InputWarning, read, read_detections, read_ground_truth
from upmap.detection.convert import main as convert
from upmap.detection.formats.class_names import read_class_names
from upmap.metrics import VOC2007, mean_average_precision
from upmap.metrics.evaluate import main

NAMES = {1: "cat", 2: "dog"}


def results_by_name(categories: dict[int, int] | None = None) -> str:
    """The results file with VOC's image ids, and other category ids."""
    moved = categories or {1: 1, 2: 2}
    return json.dumps(
        [
            row | {"image_id": "ab"[row["image_id"] - 1], "category_id": moved[row["category_id"]]}
            for row in results()
        ]
    )


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    """VOC ground truth, and COCO results whose categories are 1: dog, 2: cat."""
    put(tmp_path, VOC, {"found.json": results_by_name({1: 2, 2: 1})})
    return tmp_path, tmp_path / "found.json"


def test_category_ids_that_the_ground_truth_does_not_have_are_refused(
    files: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(
        InputError, match=r"found\.json: COCO results name .* \(VOC files, or arrays\)"
    ):
        read(*files)
    with pytest.raises(InputError, match="class_names="):
        mean_average_precision(*files, protocol=VOC2007)
    assert main([*map(str, files)]) == 2
    assert "--class-names FILE" in capsys.readouterr().err
    assert convert([*map(str, files), "--to", "coco", "--out", str(files[0] / "out")]) == 2
    assert not (files[0] / "out").exists()


def test_results_without_detections_need_no_class_names(files: tuple[Path, Path]) -> None:
    files[1].write_text("[]")
    assert len(read(*files)[1]) == 0


@pytest.mark.parametrize(
    "content",
    [
        "dog\ncat\n",
        "dog\r\ncat\n\n",
        "1 dog\n2 cat",
        "2\tcat\n1 dog\n7 traffic light\n",
        json.dumps(instances(categories=[{"id": 2, "name": "cat"}, {"id": 1, "name": "dog"}])),
    ],
)
def test_a_file_of_class_names_says_which_class_each_id_is(
    content: str, files: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    names = files[0] / "names.txt"
    names.write_text(content)
    truth, detections = read(*files, class_names=names)
    assert [detections.catalog.classes[k] for k in detections.label] == ["cat", "cat", "dog"]
    assert truth.catalog.classes[:2] == ("cat", "dog")
    expected = mean_average_precision(files[0], files[0] / "results", protocol=VOC2007)
    for source in (names, str(names), {2: "cat", 1: "dog"}):
        result = mean_average_precision(*files, protocol=VOC2007, class_names=source)
        assert result.metrics == expected.metrics
    assert main([*map(str, files), "--class-names", str(names), "--cross-check"]) == 0
    assert "the two agree" in capsys.readouterr().out


def test_conversion_takes_class_names(files: tuple[Path, Path]) -> None:
    (files[0] / "names.txt").write_text("dog\ncat\n")
    out = files[0] / "out"
    names = ["--class-names", str(files[0] / "names.txt")]
    assert convert([*map(str, files), "--to", "voc", "--out", str(out), *names]) == 0
    lines = (out / "results" / "comp4_det_all_cat.txt").read_text().splitlines()
    assert [line.split()[0] for line in lines] == ["a", "b"]


def test_class_names_replace_the_ids_of_coco_ground_truth(tmp_path: Path) -> None:
    rows = [row | {"category_id": row["category_id"] + 89} for row in results()]
    put(tmp_path, COCO, {"found.json": json.dumps(rows)})
    paths = tmp_path / "truth.json", tmp_path / "found.json"
    truth, detections = read(*paths, class_names={90: "cat", 91: "dog"})
    assert [truth.catalog.classes[k] for k in detections.label] == ["cat", "cat", "dog"]


def test_a_class_that_the_ground_truth_does_not_have_is_warned_about(
    files: tuple[Path, Path],
) -> None:
    with pytest.warns(InputWarning, match="no ground truth for the detected classes Cat"):
        read(*files, class_names={1: "dog", 2: "Cat"})


def test_detections_of_an_id_without_a_name_are_left_out_and_noted(
    files: tuple[Path, Path],
) -> None:
    with pytest.warns(InputWarning, match="of 1 unknown classes: 2; they are left out"):
        _, detections = read(*files, class_names={1: "dog"})
    assert 0 < len(detections) < 3


def test_integer_image_ids_are_not_places_of_vocs_images(tmp_path: Path) -> None:
    put(tmp_path, VOC, {"found.json": json.dumps(results())})
    expected = "3 detections on 2 unknown images: 1, 2; .*image_ids of the ground truth are str"
    with pytest.raises(InputError, match=expected):
        read(tmp_path, tmp_path / "found.json", class_names=NAMES)


def test_string_image_ids_are_cocos_integers_where_they_are_their_digits(tmp_path: Path) -> None:
    rows = [row | {"image_id": str(row["image_id"])} for row in results()]
    put(tmp_path, COCO, {"found.json": json.dumps(rows)})
    _, detections = read(tmp_path / "truth.json", tmp_path / "found.json")
    assert [detections.catalog.images[i] for i in detections.image] == [
        row["image_id"] for row in results()
    ]


def test_class_names_for_files_that_name_their_classes_are_refused(tmp_path: Path) -> None:
    put(tmp_path, VOC)
    with pytest.raises(InputError, match="class names are for category ids"):
        read(tmp_path, tmp_path / "results", class_names=NAMES)


@pytest.mark.parametrize("names", [{1: ""}, {1: None}, {}, {1: "cat", 2: "cat"}])
def test_a_mapping_without_a_name_for_each_id_is_refused(names: dict[int, Any]) -> None:
    with pytest.raises(InputError, match="name"):
        read_class_names(names)


def test_class_names_for_arrays_are_refused() -> None:
    with pytest.raises(TypeError, match="class_names is for paths"):
        mean_average_precision([], [], protocol=VOC2007, class_names=NAMES)


def test_the_ground_truths_own_catalog_decides_also_when_detections_are_read_alone(
    files: tuple[Path, Path],
) -> None:
    catalog = read_ground_truth(files[0]).catalog
    with pytest.raises(InputError, match="class names without ids"):
        read_detections(files[1], catalog)
    assert len(read_detections(files[1], catalog, class_names=NAMES)) == 3


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "no class names"),
        ("cat\n\ndog\n", "2: expected a class name, got ''"),
        ("1 cat\ndog\n", "2: expected an id and a class name, as before, got 'dog'"),
        ("1 cat\n1 dog\n", "2: duplicate category id 1"),
        ("cat\ncat\n", "2: duplicate class name 'cat'"),
        (b"caf\xe9\n", "1: byte 0xe9 is not UTF-8 text"),
        ('{"images": []}', "annotations: missing"),
    ],
)
def test_a_wrong_file_of_class_names_is_refused_with_its_line(
    content: Any, message: str, tmp_path: Path
) -> None:
    put(tmp_path, {"names.txt": content})
    with pytest.raises(InputError) as caught:
        read_class_names(tmp_path / "names.txt")
    assert str(caught.value).endswith(f"names.txt:{message}" if ": " in message else message)
    assert str(tmp_path / "names.txt") in str(caught.value)


def test_a_file_of_class_names_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere\.txt: no such file"):
        read_class_names(tmp_path / "nowhere.txt")
