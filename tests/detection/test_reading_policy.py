"""What docs/formats.md calls the policy: unknown values, references that lead nowhere, readings."""

import json
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.detection.small_files import (
    COCO,
    VOC,
    Text,
    an_object,
    annotation,
    changed,
    instances,
    put,
    results,
)
from upmap.detection import InputError, InputWarning, read, read_ground_truth
from upmap.detection.formats import recognize_format
from upmap.detection.ids import find_images, strip_name
from upmap.detection.tables import Catalog, Detections, GroundTruth
from upmap.kernels.coco_json.masks import measure_mask
from upmap.metrics import COCO as COCO_PROTOCOL
from upmap.metrics import mean_average_precision
from upmap.metrics.evaluate import main

CAT, DOG = "results/comp4_det_test_cat.txt", "results/comp4_det_test_dog.txt"


def read_coco(
    folder: Path, layer: Mapping[str, Text | None], **options: Any
) -> tuple[GroundTruth, Detections, list[InputWarning]]:
    """The tables of the small COCO files with some replaced, and what was noted."""
    put(folder, COCO, layer)
    return read_noted(folder / "truth.json", folder / "found.json", **options)


def read_noted(
    truth: Path, found: Path, **options: Any
) -> tuple[GroundTruth, Detections, list[InputWarning]]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        tables = read(truth, found, **options)
    notes = [entry.message for entry in caught if isinstance(entry.message, InputWarning)]
    return *tables, notes


def kinds(notes: list[InputWarning]) -> list[tuple[str, int]]:
    return [(note.kind, note.count) for note in notes]


def contents(table: GroundTruth | Detections) -> list[Any]:
    columns = [table.image, table.label, table.box, table.size]
    columns.append(table.score if isinstance(table, Detections) else table.area)
    return [column.tolist() for column in columns]


def expected_tables(folder: Path) -> list[list[Any]]:
    put(folder / "clean", COCO)
    truth, found = read(folder / "clean/truth.json", folder / "clean/found.json")
    return [contents(truth), contents(found)]


UNKNOWN: dict[str, tuple[str, tuple[Any, ...]]] = {
    "a width": ("images/0/width", (None, -1, 0, "100", "", True, 1e30, 2**70, [], {}, ...)),
    "a height": ("images/1/height", (None, -1, "80px", float("nan"), float("inf"), ...)),
    "a file name": ("images/0/file_name", (None, 1, 1.5, True, [], "", "\ud800", ...)),
    "an annotation id": ("annotations/1/id", (None, "x", "2", 1.5, True, 2**64, [], ...)),
    "an attribute": ("annotations/0/attributes", (None, float("nan"), {"a": float("-inf")}, "x")),
    "a segmentation": ("annotations/0/segmentation", (None, [], {}, [float("inf")], "x")),
    "a mark": ("annotations/0/difficult", (None, "0", "1", "Unspecified", [])),
    "a crowd": ("annotations/0/iscrowd", (None, False, 0, 0.0, ...)),
    "information": ("info", (None, float("nan"), [], "x")),
}


@pytest.mark.parametrize(
    ("place", "value"),
    [
        pytest.param(place, value, id=f"{name}: {value!r}")
        for name, (place, values) in UNKNOWN.items()
        for value in values
    ],
)
def test_what_no_number_depends_on_is_read_as_unknown(
    tmp_path: Path, place: str, value: Any
) -> None:
    truth, found, notes = read_coco(tmp_path, {"truth.json": changed(instances(), place, value)})
    assert [contents(truth), contents(found)] == expected_tables(tmp_path)
    assert notes == []


@pytest.mark.parametrize(("value", "name"), [(1, "1"), (None, "1"), (True, "1"), ("", "1")])
def test_a_category_may_have_a_number_or_nothing_for_a_name(
    tmp_path: Path, value: Any, name: str
) -> None:
    layer = {"truth.json": changed(instances(), "categories/0/name", value)}
    truth, found, notes = read_coco(tmp_path, layer)
    assert truth.catalog.classes == (name, "dog")
    assert [contents(truth), contents(found)] == expected_tables(tmp_path)
    assert notes == []


def texts(rows: Any, *keys: str) -> Any:
    return [row | {key: str(row[key]) for key in keys} for row in rows]


def as_texts(images: bool, annotations: bool, found: bool) -> dict[str, Text | None]:
    """The small files with image ids as texts in some places."""
    truth = instances()
    truth["images"] = texts(truth["images"], "id") if images else truth["images"]
    if annotations:
        truth["annotations"] = texts(truth["annotations"], "image_id")
    rows = texts(results(), "image_id") if found else results()
    return {"truth.json": json.dumps(truth), "found.json": json.dumps(rows)}


@pytest.mark.parametrize("images", [False, True])
@pytest.mark.parametrize("annotations", [False, True])
@pytest.mark.parametrize("found", [False, True])
def test_image_ids_are_texts_or_numbers_in_each_place(
    tmp_path: Path, images: bool, annotations: bool, found: bool
) -> None:
    truth, detections, notes = read_coco(tmp_path, as_texts(images, annotations, found))
    assert [contents(truth), contents(detections)] == expected_tables(tmp_path)
    assert notes == []


@pytest.mark.parametrize("places", [("categories",), ("annotations",), ("found",)])
@pytest.mark.parametrize("is_all", [False, True])
def test_category_ids_are_texts_or_numbers_in_each_place(
    tmp_path: Path, places: tuple[str, ...], is_all: bool
) -> None:
    places = ("categories", "annotations", "found") if is_all else places
    truth = instances()
    if "categories" in places:
        truth["categories"] = texts(truth["categories"], "id")
    if "annotations" in places:
        truth["annotations"] = texts(truth["annotations"], "category_id")
    rows = texts(results(), "category_id") if "found" in places else results()
    layer = {"truth.json": json.dumps(truth), "found.json": json.dumps(rows)}
    table, detections, notes = read_coco(tmp_path, layer)
    assert [contents(table), contents(detections)] == expected_tables(tmp_path)
    assert notes == []


def test_category_ids_may_be_words(tmp_path: Path) -> None:
    words = {1: "c1", 2: "d2"}
    truth = instances()
    for row in truth["categories"]:
        row["id"] = words[row["id"]]
    rows = [*truth["annotations"], *(found := results())]
    for row in rows:
        row["category_id"] = words[row["category_id"]]
    layer = {"truth.json": json.dumps(truth), "found.json": json.dumps(found)}
    table, detections, _ = read_coco(tmp_path, layer)
    assert [contents(table), contents(detections)] == expected_tables(tmp_path)


def test_one_image_id_may_be_a_text_among_numbers(tmp_path: Path) -> None:
    layer = {
        "truth.json": changed(instances(), "images/1/id", "2"),
        "found.json": changed(results(), "0/image_id", "1"),
    }
    truth, found, _ = read_coco(tmp_path, layer)
    assert truth.catalog.images == (1, 2)
    assert [contents(truth), contents(found)] == expected_tables(tmp_path)


@pytest.mark.parametrize("name", ["bbox/0", "bbox/3"])
@pytest.mark.parametrize("spelling", ["0", "0.0", " 0 ", "+0", ".0", "0e5"])
def test_numbers_of_boxes_may_be_texts(tmp_path: Path, name: str, spelling: str) -> None:
    layer = {"truth.json": changed(instances(), f"annotations/0/{name}", spelling)}
    truth, _, _ = read_coco(tmp_path, layer)
    assert (truth.box[0, 0], truth.size[0, 1]) == (0, 0 if name == "bbox/3" else 19)


def test_scores_and_areas_may_be_texts(tmp_path: Path) -> None:
    truth = instances()
    truth["annotations"] = texts(truth["annotations"], "area")
    results_as_text = texts(results(), "score")
    layer = {"truth.json": json.dumps(truth), "found.json": json.dumps(results_as_text)}
    table, detections, _ = read_coco(tmp_path, layer)
    assert [contents(table), contents(detections)] == expected_tables(tmp_path)


@pytest.mark.parametrize("spelling", ["", "x", "nan", "inf", "1_0", "1e999", "0x1", "1 2", "٣"])
def test_texts_that_are_no_numbers_are_refused_in_boxes(tmp_path: Path, spelling: str) -> None:
    layer = {"truth.json": changed(instances(), "annotations/0/bbox/0", spelling)}
    with pytest.raises(InputError, match=r"truth\.json:annotations\[0\]\.bbox\[0\]: "):
        read_coco(tmp_path, layer)


@pytest.mark.parametrize("value", [float("inf"), float("-inf"), float("nan")])
@pytest.mark.parametrize("place", ["annotations/1/bbox/2", "annotations/0/area"])
def test_an_infinite_box_is_refused_by_name(tmp_path: Path, place: str, value: float) -> None:
    section, row, key = place.split("/")[:3]
    message = rf"truth\.json:{section}\[{row}\]\.{key}.*: Number out of range"
    with pytest.raises(InputError, match=message):
        read_coco(tmp_path, {"truth.json": changed(instances(), place, value)})


LEFT_OUT = {
    "an annotation of an unlisted image": ("truth.json", "annotations/1/image_id", (7, "z", None)),
    "an annotation of an unlisted class": ("truth.json", "annotations/1/category_id", (7, None)),
    "a detection on an unlisted image": ("found.json", "1/image_id", (7, None, "z", -1)),
    "a detection of an unlisted class": ("found.json", "1/category_id", (77, None, -5)),
}


@pytest.mark.parametrize(
    ("file", "place", "value"),
    [
        pytest.param(file, place, value, id=f"{name}: {value!r}")
        for name, (file, place, values) in LEFT_OUT.items()
        for value in values
    ],
)
def test_references_that_lead_nowhere_are_left_out_and_counted(
    tmp_path: Path, file: str, place: str, value: Any
) -> None:
    whole = instances() if file == "truth.json" else results()
    truth, found, notes = read_coco(tmp_path, {file: changed(whole, place, value)})
    before = expected_tables(tmp_path)
    is_truth = file == "truth.json"
    shortened = [[row for i, row in enumerate(c) if i != 1] for c in before[not is_truth]]
    assert contents(truth if is_truth else found) == shortened
    assert contents(found if is_truth else truth) == before[is_truth]
    left_out = [note for note in notes if "left out" in str(note)]
    assert [note.count for note in left_out] == [1]
    assert left_out[0].examples == ("null" if value is None else repr(value),)


def test_all_annotations_may_lead_nowhere_if_there_are_no_categories(tmp_path: Path) -> None:
    put(tmp_path, {"truth.json": json.dumps(instances(categories=[]))})
    with pytest.warns(InputWarning, match="3 annotations of 2 unknown classes: 1, 2; they are"):
        assert len(read_ground_truth(tmp_path / "truth.json")) == 0


def test_no_detection_on_an_image_of_the_ground_truth_is_an_error(tmp_path: Path) -> None:
    rows = [row | {"image_id": 90 + i} for i, row in enumerate(results())]
    with pytest.raises(InputError, match=r"found\.json: 3 detections on 3 unknown images: 90, 91"):
        read_coco(tmp_path, {"found.json": json.dumps(rows)})


def test_a_results_file_of_more_images_serves_a_subset(tmp_path: Path) -> None:
    put(tmp_path, COCO, {"list.txt": "2\n"})
    paths = tmp_path / "truth.json", tmp_path / "found.json"
    truth, found, notes = read_noted(*paths, image_set=str(tmp_path / "list.txt"))
    assert (len(truth), found.score.tolist(), found.row.tolist()) == (1, [0.75], [1])
    assert kinds(notes) == [("detection-on-unlisted-image", 2)]


@pytest.mark.parametrize("step", [-1, 1])
def test_classes_that_are_off_by_one_are_loud(tmp_path: Path, step: int) -> None:
    rows = [row | {"category_id": row["category_id"] + step} for row in results()]
    _, _, notes = read_coco(tmp_path, {"found.json": json.dumps(rows)})
    (note,) = [note for note in notes if note.kind == "detection-of-unlisted-class"]
    unknown = 0 if step < 0 else 3
    assert f"unknown classes: {unknown}; " in str(note)
    assert f"counted from {0 if step < 0 else 1}" in str(note)


@pytest.mark.parametrize("step", [0, 1])
def test_classes_that_are_off_by_one_within_the_listed_ones_are_loud(
    tmp_path: Path, step: int
) -> None:
    names = [{"id": i, "name": f"class {i}"} for i in range(5)]
    rows = [row | {"category_id": row["category_id"] + step} for row in results()]
    layer = {"truth.json": json.dumps(instances(categories=names)), "found.json": json.dumps(rows)}
    _, _, notes = read_coco(tmp_path, layer)
    loud = [str(note) for note in notes if note.kind == "classes-off-by-one"]
    assert len(loud) == step
    assert all("3 of 3 are of a class of their image if -1 is added" in text for text in loud)


def test_rows_that_stand_there_again_count_once(tmp_path: Path) -> None:
    truth = instances()
    truth["categories"] *= 3
    truth["images"] = [truth["images"][1], *truth["images"]]
    table, found, notes = read_coco(tmp_path, {"truth.json": json.dumps(truth)})
    assert [contents(table), contents(found)] == expected_tables(tmp_path)
    assert kinds(notes) == [("repeated-row", 1), ("repeated-row", 4)]


@pytest.mark.parametrize("section", ["images", "categories"])
def test_rows_that_contradict_each_other_are_refused(tmp_path: Path, section: str) -> None:
    truth = instances()
    truth[section].append(truth[section][0] | {"name": "x", "file_name": "x"})
    with pytest.raises(InputError, match=rf"{section}\[2\]: the id 1 stands in {section}\[0\]"):
        read_coco(tmp_path, {"truth.json": json.dumps(truth)})


@pytest.mark.parametrize("ids", [(1, 1, 2), (5, 5, 5), (1, "x", 1)])
def test_repeated_annotation_ids_all_count(tmp_path: Path, ids: tuple[Any, ...]) -> None:
    truth = instances()
    for row, number in zip(truth["annotations"], ids, strict=True):
        row["id"] = number
    table, found, notes = read_coco(tmp_path, {"truth.json": json.dumps(truth)})
    assert [contents(table), contents(found)] == expected_tables(tmp_path)
    assert table.annotation_id.tolist() == [1, 2, 3]
    assert [note.kind for note in notes] == ["repeated-annotation-id"]


@pytest.mark.parametrize("bbox", [[29, 29, -5, 31], [29, 29, 5, -1], [29, 29, -2, -2]])
def test_inverted_ground_truth_of_coco_counts_as_not_found(tmp_path: Path, bbox: list[int]) -> None:
    layer = {"truth.json": changed(instances(), "annotations/1/bbox", bbox)}
    truth, found, notes = read_coco(tmp_path, layer)
    assert kinds(notes) == [("inverted-ground-truth", 1)]
    scores = mean_average_precision(truth, found, protocol=COCO_PROTOCOL).per_class["dog"]
    assert (scores.AP, scores.positives) == (0, 1)


@pytest.mark.parametrize("corners", [(50, 30, 30, 60), (30, 60, 50, 30), (50, 60, 30, 30)])
def test_inverted_ground_truth_of_voc_counts_as_not_found(
    tmp_path: Path, corners: tuple[int, ...]
) -> None:
    put(tmp_path, VOC, {"Annotations/a.xml": annotation(an_object(), an_object("dog", corners))})
    truth, _, notes = read_noted(tmp_path, tmp_path / "results")
    assert kinds(notes) == [("inverted-ground-truth", 1)]
    assert truth.box[1].tolist() == list(corners)


NAMES = {1: "a", 2: "b"}


def renamed(names: Mapping[int, Any]) -> str:
    return json.dumps([row | {"image_id": names[row["image_id"]]} for row in results()])


@pytest.mark.parametrize("form", ["{}", "{}.jpg", "x/y/{}.jpg", "x\\{}.png", "{}.JPG"])
def test_results_may_name_images_by_their_files(tmp_path: Path, form: str) -> None:
    layer = {"found.json": renamed({i: form.format(name) for i, name in NAMES.items()})}
    truth, found, notes = read_coco(tmp_path, layer)
    assert [contents(truth), contents(found)] == expected_tables(tmp_path)
    assert notes == []


@pytest.mark.parametrize("stems", [{1: 139, 2: 285}, {1: "000000000139", 2: "000000000285"}])
def test_a_stem_of_digits_may_be_written_as_a_number(
    tmp_path: Path, stems: Mapping[int, Any]
) -> None:
    truth = instances()
    for row, number in zip(truth["images"], (139, 285), strict=True):
        row["file_name"] = f"{number:012d}.jpg"
    layer = {"truth.json": json.dumps(truth), "found.json": renamed(stems)}
    table, found, _ = read_coco(tmp_path, layer)
    assert [contents(table), contents(found)] == expected_tables(tmp_path)


SWAPPED = [{"id": 1, "file_name": "2.jpg"}, {"id": 2, "file_name": "1.jpg"}]


@pytest.mark.parametrize(
    ("image_key", "images"), [(None, [0, 1, 0]), ("id", [0, 1, 0]), ("stem", [1, 0, 1])]
)
def test_the_ids_of_results_are_ids_unless_the_option_says_otherwise(
    tmp_path: Path, image_key: str | None, images: list[int]
) -> None:
    layer = {"truth.json": json.dumps(instances(images=SWAPPED))}
    _, found, _ = read_coco(tmp_path, layer, image_key=image_key)
    assert found.image.tolist() == images


@pytest.mark.parametrize(
    ("image_key", "images"), [(None, [1, 0, 1]), ("stem", [1, 0, 1]), ("id", [0, 1, 0])]
)
def test_the_names_of_voc_results_are_stems_unless_the_option_says_otherwise(
    tmp_path: Path, image_key: str | None, images: list[int]
) -> None:
    put(
        tmp_path,
        {"truth.json": json.dumps(instances(images=SWAPPED))},
        {CAT: "1 0.9 1 2 10 20\n2 0.75 5 5 9 9\n", DOG: "1 0.5 30 30 50 60\n"},
    )
    _, found, _ = read_noted(tmp_path / "truth.json", tmp_path / "results", image_key=image_key)
    assert found.image.tolist() == images


def test_two_readings_that_fit_alike_are_refused_with_both_names_and_the_option() -> None:
    catalog = Catalog((1, 2, 3), (), file_names=("4.jpg", "5.jpg", "6"))
    keys = ["4", "5", "1", "2"]
    with pytest.raises(InputError, match=r"as ids and as .*, which .* --image-key .* id\|"):
        find_images(keys, catalog, usual="file_name")
    assert find_images(keys, catalog, image_key="id").tolist() == [-1, -1, 0, 1]


@pytest.mark.parametrize(
    ("keys", "usual", "expected"),
    [
        (["1", "2", "9"], "id", [0, 1, -1]),  # the usual reading, of which one is not listed
        (["3", "2", "9"], "id", [1, 0, -1]),  # fits one key; the other reading two: refused
        (["3", "2"], "id", [1, 0]),  # stems fit all, ids one
        (["3", "9"], "id", [1, -1]),  # stems alone fit any
        (["1", "2"], "stem", [0, 1]),  # ids fit all
        (["1", "9"], "stem", [0, -1]),
        ([None, "1", "2"], "id", [-1, 0, 1]),
        ([None, "3", "2"], "id", [-1, 1, 0]),
        (["8", "9"], "id", [-1, -1]),
    ],
)
def test_the_reading_is_the_usual_one_or_the_only_one(
    keys: list[Any], usual: Any, expected: list[int]
) -> None:
    catalog = Catalog((1, 2), (), file_names=("2.jpg", "3.jpg"))
    if keys == ["3", "2", "9"]:
        with pytest.raises(InputError, match=r"as ids and as stems of file names, .*id\|stem"):
            find_images(keys, catalog, usual=usual)
        return
    assert find_images(keys, catalog, usual=usual).tolist() == expected


@pytest.mark.parametrize("seed", range(20))
def test_readings_do_not_depend_on_the_order_or_number_of_rows(seed: int) -> None:
    generator = np.random.default_rng(seed)
    ids = tuple(sorted(generator.choice(50, 12, replace=False).tolist()))
    names = tuple(f"f/{i}.jpg" for i in generator.permutation(60)[:12].tolist())
    catalog = Catalog(ids, (), file_names=names)
    keys = generator.choice([strip_name(name) for name in names], 40).tolist()
    places = find_images(keys, catalog, usual="stem")
    order = generator.permutation(40)
    again = find_images([keys[i] for i in order], catalog, usual="stem")
    assert again.tolist() == places[order].tolist()
    assert [strip_name(names[place]) for place in places] == keys


def test_results_may_be_a_whole_coco_object(tmp_path: Path) -> None:
    whole = instances(annotations=results())
    truth, found, notes = read_coco(tmp_path, {"found.json": json.dumps(whole)})
    assert [contents(truth), contents(found)] == expected_tables(tmp_path)
    assert notes == []


def test_a_whole_object_that_names_a_class_otherwise_is_refused(tmp_path: Path) -> None:
    categories = [{"id": 1, "name": "dog"}, {"id": 2, "name": "cat"}]
    whole = instances(annotations=results(), categories=categories)
    layer = {"found.json": json.dumps(whole)}
    with pytest.raises(InputError, match="the category 1 is 'dog' here and 'cat' in the ground"):
        read_coco(tmp_path, layer)
    _, found, _ = read_coco(tmp_path, layer, class_names=tmp_path / "found.json")
    assert found.label.tolist() == [1, 1, 0]
    _, found, _ = read_coco(tmp_path, layer, class_names=tmp_path / "truth.json")
    assert found.label.tolist() == [0, 0, 1]


def test_a_whole_object_that_names_an_image_otherwise_is_refused(tmp_path: Path) -> None:
    images = [{"id": 1, "file_name": "b.jpg"}, {"id": 2, "file_name": "a.jpg"}]
    layer = {"found.json": json.dumps(instances(annotations=results(), images=images))}
    with pytest.raises(InputError, match=r"the image 1 is 'b\.jpg' here and 'a\.jpg' in the"):
        read_coco(tmp_path, layer)
    assert read_coco(tmp_path, layer, image_key="id")[1].image.tolist() == [0, 1, 0]
    assert read_coco(tmp_path, layer, image_key="stem")[1].image.tolist() == [1, 0, 1]


@pytest.mark.parametrize("bbox", [..., [], None])
def test_results_with_masks_only_have_the_boxes_of_the_masks(tmp_path: Path, bbox: Any) -> None:
    masks = [row | {"segmentation": {"size": [8, 9], "counts": [9, 3, 60]}} for row in results()]
    for row in masks:
        row["bbox"] = bbox
        if bbox is ...:
            del row["bbox"]
    _, found, notes = read_coco(tmp_path, {"found.json": json.dumps(masks)})
    assert found.box.tolist() == [[1, 1, 2, 4]] * 3
    assert found.area is not None
    assert found.area.tolist() == [3] * 3
    assert kinds(notes) == [("box-of-mask", 3)]


def test_boxes_and_areas_of_masks_are_those_of_pycocotools() -> None:
    mask = pytest.importorskip("pycocotools.mask", reason="compares with pycocotools")
    generator = np.random.default_rng(1)
    for _ in range(300):
        height, width = generator.integers(1, 12, 2).tolist()
        pixels = generator.random((height, width)) < generator.choice([0, 0.1, 0.5, 0.9, 1])
        encoded = mask.encode(np.asfortranarray(pixels.astype(np.uint8)))
        spelled = {"size": [height, width], "counts": encoded["counts"].decode()}
        assert measure_mask(spelled) == (mask.toBbox(encoded).tolist(), mask.area(encoded))


@pytest.mark.parametrize(
    "value",
    [
        None,
        [[1, 2, 3, 4, 5, 6]],
        {"size": [0, 0], "counts": "0"},
        {"size": [3, 3], "counts": "ooooooooo"},
        {"size": [3, 3], "counts": "\u00e9"},
        {"size": [3, 3], "counts": [1, -1]},
        {"size": [3, 3], "counts": [10]},
        {"size": [3, True], "counts": [1]},
        {"size": [2**31, 2**31], "counts": [1, 1]},
        {"counts": "11"},
    ],
)
def test_what_is_no_mask_is_refused(tmp_path: Path, value: Any) -> None:
    assert measure_mask(value) is None
    rows = [{k: v for k, v in row.items() if k != "bbox"} for row in results()]
    rows[0]["segmentation"] = value
    with pytest.raises(InputError, match=r"found\.json:\[0\]\.segmentation: not a mask"):
        read_coco(tmp_path, {"found.json": json.dumps(rows)})


PREFIXES = (
    "comp4_det_test_",
    "comp3_det_val_",
    "comp4_det_my_val_set_",
    "comp4_a1b2-c3_det_test_",
    "det_test_",
    "det_",
    "results_",
    "yolo-v3 ",
    "",
)


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("ending", ["txt", "txt.gz"])
def test_results_files_may_have_any_prefix_before_a_known_class(
    tmp_path: Path, prefix: str, ending: str
) -> None:
    import gzip

    files = {
        f"results/{prefix}{name}.{ending}": text
        for name, text in (("cat", VOC[CAT]), ("dog", VOC[DOG]))
    }
    packed = {
        name: gzip.compress(str(text).encode()) if ending == "txt.gz" else text
        for name, text in files.items()
    }
    put(tmp_path, VOC, {CAT: None, DOG: None}, packed)
    _, found, notes = read_noted(tmp_path, tmp_path / "results", image_set="test")
    assert [found.catalog.classes[k] for k in found.label.tolist()] == ["cat", "cat", "dog"]
    assert notes == []


def test_a_class_name_with_underscores_is_known_by_the_ground_truth(tmp_path: Path) -> None:
    truth = annotation(an_object("big_cat"), an_object("cat"))
    files = {f"results/det_v1_{name}.txt": VOC[CAT] for name in ("big_cat", "cat")}
    put(tmp_path, VOC, {CAT: None, DOG: None, "Annotations/a.xml": truth}, files)
    _, found, _ = read_noted(tmp_path, tmp_path / "results")
    assert found.catalog.classes == ("big_cat", "cat")


def test_rows_of_yolo_are_not_taken_for_results_of_voc(tmp_path: Path) -> None:
    put(tmp_path, VOC, {CAT: None, DOG: None, "results/cat.txt": "0 0.5 0.5 0.2 0.2 0.9\n"})
    assert recognize_format(tmp_path / "results", "detections") == "yolo"


def test_voc_detections_outside_the_image_set_are_left_out(tmp_path: Path) -> None:
    put(tmp_path, VOC, {CAT: f"{VOC[CAT]}z 0.5 1 1 2 2\ny.jpg 0.4 1 1 2 2\n"})
    _, found, notes = read_noted(tmp_path, tmp_path / "results")
    assert found.row.tolist() == [0, 1, 4]
    assert kinds(notes) == [("detection-on-unlisted-image", 2)]


@pytest.mark.parametrize("form", ["{}", "{}.jpg", "JPEGImages/{}.jpg", "/data/x/{}.png", "{}.xml"])
@pytest.mark.parametrize("folder", ["Annotations", "xmls"])
def test_a_list_beside_a_folder_of_xml_may_name_files(
    tmp_path: Path, form: str, folder: str
) -> None:
    lines = f"{form.format('a')} x/y.xml\n"
    files = {name.replace("Annotations", folder): text for name, text in VOC.items()}
    put(tmp_path, files, {"ImageSets/Main/test.txt": None, "test.txt": lines})
    truth, _, _ = read_noted(tmp_path / folder, tmp_path / "results")
    assert truth.catalog.images == ("a",)


@pytest.mark.parametrize(
    "encoding", ["utf8", "UTF-8", "utf_8", "gbk", "shift_jis", "euc-kr", "big5"]
)
@pytest.mark.parametrize("quote", ["'", '"'])
def test_xml_may_be_in_any_encoding_that_python_knows(
    tmp_path: Path, encoding: str, quote: str
) -> None:
    name = "고양이" if encoding == "euc-kr" else "中"
    text = f"<?xml version='1.0' encoding={quote}{encoding}{quote}?>\n{annotation(an_object(name))}"
    put(tmp_path, VOC, {"Annotations/b.xml": text.encode(encoding)})
    assert name in read_ground_truth(tmp_path).catalog.classes


@pytest.mark.parametrize(
    "encoding", ["zlib", "base64", "rot13", "idna", "utf-7", "undefined", "hex"]
)
def test_codecs_that_are_no_encodings_of_xml_are_no_way_in(tmp_path: Path, encoding: str) -> None:
    text = f"<?xml version='1.0' encoding='{encoding}'?>\n{annotation(an_object())}"
    put(tmp_path, VOC, {"Annotations/b.xml": text})
    message = ""
    try:
        assert len(read_ground_truth(tmp_path)) == 3
    except InputError as error:
        message = str(error)
    assert re.fullmatch(r"|.*b\.xml:\d+: .*", message)


@pytest.mark.parametrize("value", ["Unspecified", "", "true", "2", "-1", "x"])
def test_only_1_marks_a_difficult_object(tmp_path: Path, value: str) -> None:
    marked = annotation(an_object(more=f"<difficult>{value}</difficult>"))
    put(tmp_path, VOC, {"Annotations/b.xml": marked})
    assert not read_ground_truth(tmp_path).difficult.any()


@pytest.mark.parametrize("value", ["0", "-1", "", "x", "nan", "inf", "1e30", "1_0"])
def test_sizes_that_are_none_are_unknown(tmp_path: Path, value: str) -> None:
    size = f"<width>{value}</width><height>80</height>"
    put(tmp_path, VOC, {"Annotations/a.xml": annotation(an_object(), size=size)})
    assert read_ground_truth(tmp_path).catalog.sizes.tolist() == [[0, 80], [100, 80]]


def test_notes_are_data_in_the_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put(tmp_path, COCO, {"found.json": changed(results(), "1/image_id", 7)})
    paths = [str(tmp_path / name) for name in ("truth.json", "found.json")]
    assert main([*paths, "--json", "-"]) == 0
    printed = capsys.readouterr()
    (note,) = json.loads(printed.out)["notes"]
    assert (note["kind"], note["count"], note["examples"]) == (
        "detection-on-unlisted-image",
        1,
        ["7"],
    )
    assert note["message"] in printed.err


def test_strict_makes_the_first_note_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    put(tmp_path, COCO, {"found.json": changed(results(), "1/image_id", 7)})
    paths = [str(tmp_path / name) for name in ("truth.json", "found.json")]
    assert main([*paths, "--strict"]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert re.fullmatch(r"error: .*found\.json: 1 detections on 1 unknown .*\n", printed.err)
    put(tmp_path, COCO)
    assert main([*paths, "--strict"]) == 0


def test_each_input_may_have_its_format_and_its_key_of_images(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    put(tmp_path, COCO, VOC)
    paths = [str(tmp_path / "truth.json"), str(tmp_path / "results")]
    assert main([*paths, "--gt-format", "coco", "--dt-format", "voc", "--image-key", "stem"]) == 0
    assert "1.000" in capsys.readouterr().out
    assert main([*paths, "--gt-format", "coco", "--dt-format", "coco"]) == 2
