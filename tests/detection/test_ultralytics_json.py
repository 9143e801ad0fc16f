"""Ultralytics' predictions.json: stems for images, places for classes."""

import json
from pathlib import Path
from typing import Any

import pytest

from upmap.detection import Catalog, Detections, read, read_detections
from upmap.detection.formats import recognize_format
from upmap.detection.formats.read_options import ReadOptions
from upmap.detection.formats.ultralytics_json import read_detections as read_ultralytics
from upmap.detection.inputs import open_input
from upmap.errors import InputError, InputWarning


def catalog(ids: tuple[int, ...] = (1, 2, 3), files: tuple[str, ...] = ()) -> Catalog:
    names = tuple(f"class {k}" for k in range(len(ids)))
    return Catalog((1, 2), names, ids, file_names=files or ("x/0042.jpg", "x/b.c.jpg"))


def prediction(image: Any, category: int = 1) -> dict[str, Any]:
    box = {"bbox": [1, 2, 3.5, 4], "score": 0.5}
    return {"image_id": image, "file_name": f"{image}.jpg", "category_id": category, **box}


def write(folder: Path, *predictions: dict[str, Any]) -> Path:
    file = folder / "predictions.json"
    file.write_text(json.dumps(predictions))
    return file


def detect(folder: Path, among: Catalog, *predictions: Any, **options: Any) -> Detections:
    source = open_input(write(folder, *predictions))
    return read_ultralytics(source, among, ReadOptions(**options))


def test_the_file_is_told_from_other_results_by_its_keys(tmp_path: Path) -> None:
    assert recognize_format(write(tmp_path, prediction(1)), "detections") == "ultralytics"
    plain = prediction(1)
    del plain["file_name"]
    assert recognize_format(write(tmp_path, plain), "detections") == "coco"


@pytest.mark.parametrize(
    ("images", "files", "places"),
    [
        ([42, 42], (), [0, 0]),
        (["b.c", "b.c"], (), [1, 1]),
        ([2, 1], (), [1, 0]),
        ([2, 1], ("1.jpg", "2.jpg"), [1, 0]),
    ],
)
def test_image_ids_are_stems_or_ids_whichever_fits(
    tmp_path: Path, images: list[Any], files: tuple[str, ...], places: list[int]
) -> None:
    rows = [prediction(image) for image in images]
    assert detect(tmp_path, catalog(files=files), *rows).image.tolist() == places


def test_image_ids_that_are_ids_of_some_images_and_stems_of_others_are_refused(
    tmp_path: Path,
) -> None:
    among = catalog(files=("2.jpg", "1.jpg"))
    with pytest.raises(InputError, match="--image-key id or stem settles it"):
        detect(tmp_path, among, prediction(1))
    assert detect(tmp_path, among, prediction(1), image_key="stem").image.tolist() == [1]
    assert detect(tmp_path, among, prediction(1), image_key="id").image.tolist() == [0]


def test_detections_on_other_images_are_left_out_and_counted(tmp_path: Path) -> None:
    with pytest.warns(InputWarning, match="1 detections on 1 unknown images: 77; they are left"):
        assert len(detect(tmp_path, catalog(), prediction(42), prediction(77))) == 1
    with pytest.raises(InputError, match="no detection is on an image of the ground truth"):
        detect(tmp_path, catalog(), prediction(77))


@pytest.mark.parametrize(
    ("ids", "numbers", "places", "reading"),
    [
        ((1, 2, 3), (1, 3), [0, 2], None),
        ((1, 2, 3), (0, 2), [0, 2], "places from 0"),
        ((1, 2, 4), (1, 3), [0, 2], "places from 1"),
        ((1, 2, 90), (1, 90), [0, 2], None),
        ((7, 8, 9), (1, 3), [0, 2], "places from 1"),
        ((0, 1, 2), (1, 3), [0, 2], "places from 1"),
    ],
)
def test_category_ids_are_ids_or_places_whichever_fits(
    tmp_path: Path, ids: Any, numbers: Any, places: list[int], reading: str | None
) -> None:
    rows = [prediction(42, number) for number in numbers]
    if reading is None:
        assert detect(tmp_path, catalog(ids), *rows).label.tolist() == places
        return
    with pytest.warns(InputWarning, match=f"read as {reading} in its list of classes"):
        assert detect(tmp_path, catalog(ids), *rows).label.tolist() == places


@pytest.mark.parametrize(("ids", "number"), [((0, 1, 2), 1), ((1, 3, 4), 3), ((2, 3, 1), 1)])
def test_category_ids_that_fit_in_two_ways_are_refused_unless_class_names_settle_it(
    tmp_path: Path, ids: Any, number: int
) -> None:
    rows = [prediction(42, number)]
    among = catalog(ids)
    with pytest.raises(InputError, match=r"as the ground truth's ids and as places from 1.*names"):
        detect(tmp_path, among, *rows)
    names = dict(zip(among.class_ids, among.classes, strict=True))
    table = read_detections(write(tmp_path, *rows), among, class_names=names)
    assert table.catalog.classes[table.label[0]] == names[number]


def test_classes_that_are_not_listed_are_left_out_and_counted(tmp_path: Path) -> None:
    rows = [prediction(42, 1), prediction(42, 9)]
    with pytest.warns(InputWarning, match="1 detections of classes that are not listed"):
        assert detect(tmp_path, catalog(), *rows).label.tolist() == [0]


def test_ground_truth_without_ids_needs_class_names(tmp_path: Path) -> None:
    among = Catalog(("42",), ("cat", "dog"))
    with pytest.raises(InputError, match="--class-names FILE"):
        detect(tmp_path, among, prediction(42))
    file = write(tmp_path, prediction(42, 2))
    table = read_detections(file, among, class_names={1: "cat", 2: "dog"})
    assert table.label.tolist() == [1]


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"bbox": [1, 2, 3, 1e300]}, r"json:\[0\]\.bbox: out of range"), ({"score": "x"}, "score")],
)
def test_what_is_malformed_is_refused_with_its_place(
    tmp_path: Path, changes: Any, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        detect(tmp_path, catalog(), prediction(42) | changes)


def test_the_sample_is_read_like_the_results_that_it_was_written_from(real_data: Path) -> None:
    folder = real_data / "formats"
    truth = folder / "coco_val2014_100" / "instances_val2014_100.json"
    results = folder / "coco_val2014_100" / "instances_val2014_fakebbox100_results.json"
    with pytest.warns(InputWarning, match="read as places from 1"):
        _, table = read(truth, folder / "arrow" / "ultralytics_predictions.json")
    _, expected = read(truth, results)
    assert table.image.tolist() == expected.image.tolist()
    assert table.label.tolist() == expected.label.tolist()
