"""What each format says is what the tables hold, and what is written reads back the same."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

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
from upmap.detection import (
    Catalog,
    Detections,
    GroundTruth,
    InputError,
    InputWarning,
    read,
    read_detections,
    read_ground_truth,
    write,
)
from upmap.detection.boxes import box_area, convert_pixels, inclusive_size, xywh
from upmap.detection.formats import WRITERS, recognize_format
from upmap.kernels import IMPL_VARIABLE, coco_json

A, LIST, CAT = "Annotations/a.xml", "ImageSets/Main/test.txt", "results/comp4_det_test_cat.txt"


@pytest.fixture(params=["native", "reference"])
def json_reader(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every reader of COCO JSON in turn."""
    if coco_json.IMPLEMENTATIONS[request.param] is None:
        pytest.skip("the native kernels are not built")
    monkeypatch.setenv(IMPL_VARIABLE, request.param)


def read_xml(folder: Path, content: Text) -> GroundTruth:
    return read_ground_truth(put(folder, {A: content}))


def test_both_formats_of_the_same_scene_make_the_same_tables(tmp_path: Path) -> None:
    voc, voc_detections = read(put(tmp_path, VOC), tmp_path / "results")
    coco, coco_detections = read(put(tmp_path, COCO) / "truth.json", tmp_path / "found.json")
    np.testing.assert_array_equal(xywh(voc), xywh(coco))
    np.testing.assert_array_equal(voc.area, coco.area)
    np.testing.assert_array_equal(voc.label, coco.label)
    np.testing.assert_array_equal(xywh(voc_detections), xywh(coco_detections))
    np.testing.assert_array_equal(voc_detections.score, coco_detections.score)
    assert voc.catalog.images == ("a", "b")
    assert coco.catalog.images == (1, 2)
    assert voc.catalog.classes == coco.catalog.classes == ("cat", "dog")


@pytest.mark.parametrize(
    ("mark", "is_difficult"),
    [
        ("", False),
        ("<difficult/>", False),
        ("<difficult>0</difficult>", False),
        ("<difficult>Unspecified</difficult>", False),
        ("<difficult>1</difficult>", True),
        ("<difficult>\n 1 </difficult>", True),
    ],
)
def test_only_a_1_marks_an_object_difficult(tmp_path: Path, mark: str, is_difficult: bool) -> None:
    table = read_xml(tmp_path, annotation(an_object(more=mark)))
    assert table.difficult.tolist() == [is_difficult]


PART = "<part><name>head</name><bndbox><xmin>5</xmin><ymin>5</ymin><xmax>6</xmax></bndbox></part>"


@pytest.mark.parametrize(
    "content",
    [
        annotation(an_object().replace("<bndbox>", PART + "<bndbox>")),
        annotation(an_object(more=PART)),
        annotation(an_object().replace("</object>", PART + "</object>")),
        annotation(an_object(" \n cat ")),
        annotation(an_object()).replace("<object>", '<object id="7">'),
        annotation(an_object()).replace("\n", "\r\n"),
        annotation(an_object()).replace("cat", "<![CDATA[cat]]>"),
        annotation(an_object()).replace("cat", "c<!-- a comment -->at"),
        "<!DOCTYPE annotation>\n" + annotation(an_object()),
        '<!DOCTYPE annotation SYSTEM "voc.dtd">\n' + annotation(an_object()),
        ('<?xml version="1.0" encoding="UTF-16"?>' + annotation(an_object())).encode("utf-16"),
        annotation(an_object()).encode("utf-16"),
    ],
)
def test_xml_of_other_layouts_is_read_alike(tmp_path: Path, content: Text) -> None:
    table = read_xml(tmp_path, content)
    assert table.catalog.classes == ("cat",)
    assert table.box.tolist() == [[1, 2, 10, 20]]
    assert table.catalog.sizes.tolist() == [[100, 80]]


def test_character_references_and_declared_encodings_are_read(tmp_path: Path) -> None:
    head = '<?xml version="1.0" encoding="ISO-8859-1"?>'
    content = (head + annotation(an_object("caf\xe9 &amp; bar &lt;&#233;"))).encode("latin-1")
    assert read_xml(tmp_path, content).catalog.classes == ("caf\xe9 & bar <\xe9",)


def test_an_image_without_a_size_has_size_zero(tmp_path: Path) -> None:
    table = read_xml(tmp_path, "<annotation><size><width/></size></annotation>")
    assert table.catalog.sizes.tolist() == [[0, 0]]


@pytest.mark.parametrize("folder", ["VOC2007", "VOC2007/Annotations", "."])
def test_a_devkit_its_year_and_its_annotations_are_read_alike(tmp_path: Path, folder: str) -> None:
    put(tmp_path / "VOC2007", VOC)
    assert read_ground_truth(tmp_path / folder).catalog.images == ("a", "b")


def test_the_hidden_files_that_macs_leave_behind_are_not_annotations(tmp_path: Path) -> None:
    put(tmp_path, VOC, {"Annotations/._a.xml": b"\0\5\x16\7"})
    assert read_ground_truth(tmp_path).catalog.images == ("a", "b")


def test_windows_line_ends_and_class_list_columns_are_fine(tmp_path: Path) -> None:
    put(tmp_path, VOC, {LIST: "b  1\r\na -1\r\n", CAT: "b 0.5 1 2 3 4\r\n\r\na 1 1 1 2 2\r\n"})
    truth, detections = read(tmp_path, tmp_path / "results")
    assert truth.catalog.images == ("a", "b")
    assert detections.box.tolist() == [[1, 2, 3, 4], [1, 1, 2, 2], [30, 30, 50, 60]]
    assert detections.image.tolist() == [1, 0, 0]


@pytest.mark.parametrize("image_set", ["mini", "{}/ImageSets/Main/mini.txt"])
def test_an_image_set_is_named_or_a_file(tmp_path: Path, image_set: str) -> None:
    put(tmp_path, VOC, {"ImageSets/Main/mini.txt": "b\n"})
    table = read_ground_truth(tmp_path, image_set=image_set.format(tmp_path))
    assert table.catalog.images == ("b",)
    assert table.box.tolist() == [[5, 5, 9, 9]]


def test_the_detections_names_choose_the_image_set(tmp_path: Path) -> None:
    put(tmp_path, VOC, {LIST: "a\n", CAT: "a 0.9 1 2 10 20\n"})
    truth, _ = read(tmp_path, tmp_path / "results")
    assert truth.catalog.images == ("a",)


@pytest.mark.parametrize(
    ("name", "sets", "expected"),
    [
        ("comp4_det_test_traffic_light", ["test"], ("test", "traffic_light")),
        ("comp4_det_my_val_car", ["my_val"], ("my_val", "car")),
        ("comp4_det_my_val_traffic_light", ["my", "my_val"], ("my_val", "traffic_light")),
        ("comp4_det_my_val_car", ["other"], (None, "val_car")),
        ("comp3_det_test_a b", ["test"], ("test", "a b")),
        ("comp4_det_test_v1.5", ["test"], ("test", "v1.5")),
    ],
)
def test_underscores_in_names_are_told_apart_by_the_image_sets(
    tmp_path: Path, name: str, sets: list[str], expected: tuple[str | None, str]
) -> None:
    image_set, label = expected
    lists: dict[str, Text] = {f"ImageSets/Main/{known}.txt": "a\nb\n" for known in sets}
    lists[f"ImageSets/Main/{image_set or 'x'}.txt"] = "a\n"
    objects = annotation(an_object(label))
    put(tmp_path, lists, {A: objects, "Annotations/b.xml": objects})
    put(tmp_path, {f"results/{name}.txt": "a 0.5 1 2 3 4\n"})
    truth, detections = read(tmp_path, tmp_path / "results")
    assert truth.catalog.images == (("a", "b") if image_set is None else ("a",))
    assert detections.catalog.classes == (label,)


def test_of_two_image_sets_of_detections_the_named_one_is_read(tmp_path: Path) -> None:
    put(tmp_path, VOC, {"results/comp4_det_my_val_cat.txt": "b 1 1 1 2 2\n"})
    put(tmp_path, {"ImageSets/Main/my_val.txt": "b\n"})
    _, detections = read(tmp_path, tmp_path / "results", image_set="my_val")
    assert detections.box.tolist() == [[1, 1, 2, 2]]
    assert detections.catalog.classes == ("cat",)


def test_one_results_file_is_detections_of_one_class(tmp_path: Path) -> None:
    put(tmp_path, VOC)
    _, detections = read(tmp_path, tmp_path / CAT)
    assert detections.label.tolist() == [0, 0]


def test_ids_written_as_floats_are_integers(tmp_path: Path) -> None:
    text = str(COCO["truth.json"])
    put(tmp_path, COCO, {"truth.json": text.replace('_id": 1', '_id": 1.0').replace("100", "1e2")})
    put(tmp_path, {"found.json": str(COCO["found.json"]).replace('_id": 2', '_id": 2.0')})
    truth, detections = read(tmp_path / "truth.json", tmp_path / "found.json")
    assert truth.catalog.sizes.tolist() == [[100, 80], [100, 80]]
    assert (truth.image.tolist(), detections.label.tolist()) == ([0, 0, 1], [0, 0, 1])


def test_string_image_ids_are_ids(tmp_path: Path) -> None:
    data = json.loads(
        json.dumps([instances(), results()])
        .replace('"image_id": 1', '"image_id": "x/é"')
        .replace('"image_id": 2', '"image_id": "7"')
        .replace('"id": 1, "file', '"id": "x/é", "file')
        .replace('"id": 2, "file', '"id": "7", "file')
    )
    put(tmp_path, {"truth.json": json.dumps(data[0]), "found.json": json.dumps(data[1])})
    truth, detections = read(tmp_path / "truth.json", tmp_path / "found.json")
    assert truth.catalog.images == ("7", "x/é")
    assert truth.catalog.file_names == ("b.jpg", "a.jpg")
    assert detections.image.tolist() == [1, 0, 1]


@pytest.mark.parametrize(
    ("categories", "names"),
    [
        ([{"id": 2, "name": "dog"}, {"id": 1, "name": "cat"}], ("cat", "dog")),
        ([{"id": 2, "name": "cat"}, {"id": 1, "name": "cat"}], ("cat (1)", "cat (2)")),
        ([{"id": 2}, {"id": 1, "name": "cat"}], ("cat", "2")),
        ([{"id": 2}, {"id": 1}], ("1", "2")),
    ],
)
def test_classes_are_in_the_order_of_their_ids_and_named_apart(
    tmp_path: Path, categories: list[dict[str, Any]], names: tuple[str, ...]
) -> None:
    put(tmp_path, {"truth.json": json.dumps(instances(categories=categories))})
    catalog = read_ground_truth(tmp_path / "truth.json").catalog
    assert (catalog.classes, catalog.class_ids) == (names, (1, 2))


@pytest.mark.parametrize(
    ("iscrowd", "difficult", "expected"),
    [(0, None, (0, 0)), (1, None, (1, 0)), (True, None, (1, 0)), (1, 1, (0, 1)), (1, 0, (1, 0))],
)
def test_a_crowd_that_is_marked_difficult_is_difficult(
    tmp_path: Path, iscrowd: int, difficult: int | None, expected: tuple[int, int]
) -> None:
    marks = {"iscrowd": iscrowd} | ({} if difficult is None else {"difficult": difficult})
    first = instances()["annotations"][0] | marks
    put(tmp_path, {"truth.json": json.dumps(instances(annotations=[first]))})
    table = read_ground_truth(tmp_path / "truth.json")
    assert (table.crowd[0], table.difficult[0]) == expected


@pytest.mark.usefixtures("json_reader")
@pytest.mark.parametrize("iscrowd", [..., 0, False])
@pytest.mark.parametrize("difficult", [1, True, 2.5])
def test_difficult_without_iscrowd_is_ignored_and_warned_about(
    tmp_path: Path, iscrowd: Any, difficult: Any
) -> None:
    data = instances()
    for row in data["annotations"][:2]:
        row |= {"difficult": difficult} | ({} if iscrowd is ... else {"iscrowd": iscrowd})
    put(tmp_path, {"truth.json": json.dumps(data)})
    with pytest.warns(InputWarning, match="2 annotations are marked difficult without iscrowd"):
        table = read_ground_truth(tmp_path / "truth.json")
    assert not table.difficult.any()
    assert not table.crowd.any()


@pytest.mark.usefixtures("json_reader")
@pytest.mark.parametrize("iscrowd", [0, 1])
@pytest.mark.parametrize("value", [None, "0", "1", "", [], [1, 2, 3, 4], {"a": 1}, 0, 0.0, False])
def test_difficult_of_any_other_value_is_no_mark_and_no_error(
    tmp_path: Path, iscrowd: int, value: Any
) -> None:
    data = instances()
    data["annotations"][0] |= {"difficult": value, "iscrowd": iscrowd}
    put(tmp_path, {"truth.json": json.dumps(data)})
    table = read_ground_truth(tmp_path / "truth.json")
    assert table.crowd.tolist() == [bool(iscrowd), False, False]
    assert not table.difficult.any()


def test_the_annotated_area_is_kept(tmp_path: Path) -> None:
    put(tmp_path, {"truth.json": changed(instances(), "annotations/0/area", 12.5)})
    assert read_ground_truth(tmp_path / "truth.json").area[0] == 12.5


@pytest.mark.parametrize("where", ["", "annotations/"])
@pytest.mark.parametrize("image_set", [None, "val", "{}/list.txt"])
def test_a_folder_of_instances_is_read_by_image_set(
    tmp_path: Path, where: str, image_set: str | None
) -> None:
    put(tmp_path, {f"{where}instances_val.json": COCO["truth.json"], "list.txt": "1\n2\n"})
    chosen = image_set and image_set.format(tmp_path)
    assert len(read_ground_truth(tmp_path, image_set=chosen)) == 3


@pytest.mark.parametrize("line", ["2", "b", "b.jpg", "val/b.jpg"])
def test_a_list_of_coco_images_names_ids_or_files(tmp_path: Path, line: str) -> None:
    put(tmp_path, COCO, {"list.txt": f"{line}\r\n"})
    path, chosen = tmp_path / "truth.json", str(tmp_path / "list.txt")
    table = read_ground_truth(path, image_set=chosen)
    assert (table.catalog.images, table.catalog.file_names) == ((2,), ("b.jpg",))
    assert xywh(table).tolist() == [[4, 4, 5, 5]]


def test_voc_detections_meet_coco_ground_truth_by_file_name(tmp_path: Path) -> None:
    truth, detections = read(put(tmp_path, VOC, COCO) / "truth.json", tmp_path / "results")
    assert detections.image.tolist() == [0, 1, 0]
    assert detections.catalog is truth.catalog
    assert detections.catalog.class_ids == (1, 2)


def test_a_file_name_that_two_images_share_names_neither(tmp_path: Path) -> None:
    images = [{"id": i, "file_name": f"{folder}/a.jpg"} for i, folder in ((1, "x"), (2, "y"))]
    put(tmp_path, VOC, {"truth.json": json.dumps(instances(images=images))})
    with pytest.raises(InputError, match=r"3 detections on 2 unknown images: 'a', 'b'; no"):
        read(tmp_path / "truth.json", tmp_path / "results")


@pytest.mark.parametrize(
    ("name", "what", "expected"),
    [
        ("", "ground truth", "voc"),
        ("Annotations", "ground truth", "voc"),
        ("truth.json", "ground truth", "coco"),
        ("truth", "ground truth", "coco"),
        ("results", "detections", "voc"),
        (CAT, "detections", "voc"),
        ("found.json", "detections", "coco"),
        ("found", "detections", "coco"),
    ],
)
def test_the_format_is_recognized(tmp_path: Path, name: str, what: str, expected: str) -> None:
    put(tmp_path, VOC, COCO, {"truth": COCO["truth.json"], "found": b"\xef\xbb\xbf \n[]"})
    assert recognize_format(tmp_path / name, what) == expected


@pytest.mark.parametrize("function", [read_ground_truth, write])
def test_an_unknown_format_lists_those_that_there_are(tmp_path: Path, function: Any) -> None:
    arguments = [small_truth(), None] if function is write else []
    with pytest.raises(
        ValueError, match=r"format 'x' is unknown; there are (.+, )?voc, (.+, )?coco"
    ):
        function(*arguments, put(tmp_path / "x", VOC), format="x")


def small_truth(**changes: Any) -> GroundTruth:
    """Two images, the second without a box, in integers."""
    box = np.array([[1.0, 2.0, 10.0, 20.0]])
    columns: dict[str, Any] = {
        "image": [0],
        "label": [0],
        "box": box,
        "size": inclusive_size(box),
        "area": box_area(inclusive_size(box)),
        "difficult": [False],
        "crowd": [False],
        "annotation_id": [1],
        "catalog": Catalog(("a", "b"), ("cat",)),
        "pixels": "inclusive",
    }
    return GroundTruth(**columns | changes)


def names_in(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


NAMES = st.text(
    st.characters(exclude_categories=("C", "Z"), exclude_characters="/\\") | st.just(" "),
    min_size=1,
    max_size=12,
).filter(lambda name: name == name.strip())
INTEGERS = st.integers(-1000, 4000).map(float)
CENTS = st.integers(-100_000, 400_000).map(lambda cents: cents / 100)
WORDS = st.text("abcXYZ019-_.é", min_size=1, max_size=8).filter(lambda word: word[0] != ".")


@st.composite
def tables(draw: st.DrawFn, numbers: st.SearchStrategy[float]) -> tuple[GroundTruth, Detections]:
    """Both tables, of up to 4 images (some without a box) and 3 classes, inclusive."""
    words = sorted(draw(st.sets(WORDS, min_size=1, max_size=4)))
    classes = sorted(draw(st.sets(NAMES, min_size=1, max_size=3)))
    sides = st.tuples(st.integers(1, 5000), st.integers(1, 5000))
    sizes = draw(st.lists(sides, min_size=len(words), max_size=len(words)))
    catalog = Catalog(tuple(words), tuple(classes), sizes=np.array(sizes, np.int64))

    def columns(rows: int, ordered: bool) -> dict[str, Any]:
        rows_of = lambda strategy: st.lists(strategy, min_size=rows, max_size=rows)  # noqa: E731
        image = draw(rows_of(st.integers(0, len(words) - 1)))
        corners = np.array(draw(rows_of(st.tuples(*[numbers] * 4)))).reshape(-1, 4)
        sizes = np.abs(corners[:, 2:]) + 1
        box = np.concatenate([corners[:, :2], np.round(corners[:, :2] + sizes - 1, 2)], axis=1)
        label = draw(rows_of(st.integers(0, len(classes) - 1)))
        return {
            "image": sorted(image) if ordered else image,
            "label": label if ordered else sorted(label),
            "box": box,
            "size": inclusive_size(box),
            "catalog": catalog,
            "pixels": "inclusive",
        }

    rows = draw(st.integers(len(classes), 6))
    truth = columns(rows, ordered=True)
    truth["label"][: len(classes)] = range(len(classes))  # VOC only knows classes that occur
    detections = columns(detection_rows := draw(st.integers(0, 6)), ordered=False)
    scores = draw(st.lists(st.floats(-1e3, 1e3), min_size=detection_rows, max_size=detection_rows))
    return (
        GroundTruth(
            **truth,
            area=box_area(truth["size"]),
            difficult=draw(st.lists(st.booleans(), min_size=rows, max_size=rows)),
            crowd=np.zeros(rows, bool),
            annotation_id=np.arange(1, rows + 1),
        ),
        Detections(**detections, score=scores, row=np.arange(detection_rows)),
    )


def paths(folder: Path, format_name: str) -> tuple[Path, Path]:
    if format_name == "voc":
        return folder, folder / "results"
    return folder / "instances_my_val.json", folder / "detections_my_val.json"


def through(
    folder: Path, pair: tuple[GroundTruth, Detections], *formats: str
) -> tuple[GroundTruth, Detections]:
    """The tables, written and read in each of the formats in turn."""
    for number, name in enumerate(formats):
        place = folder / f"{number}{name}"
        write(*pair, place, format=name, image_set="my_val")
        truth_path, found_path = paths(place, name)
        truth = read_ground_truth(truth_path)
        pair = truth, read_detections(found_path, truth.catalog, image_set="my_val")
    return pair


def assert_same(
    before: tuple[GroundTruth, Detections], after: tuple[GroundTruth, Detections], tolerance: float
) -> None:
    for old, new in zip(before, after, strict=True):
        assert old.catalog.classes == new.catalog.classes
        assert old.catalog.sizes.tolist() == new.catalog.sizes.tolist()
        for name in set(old.COLUMNS) - {"box", "size", "area"}:
            np.testing.assert_array_equal(getattr(old, name), getattr(new, name), name)
        moved = convert_pixels(new, old.pixels)
        np.testing.assert_allclose(moved.box, old.box, rtol=0, atol=tolerance)
        np.testing.assert_allclose(moved.size, old.size, rtol=0, atol=tolerance)
    area, other_area = before[0].area, after[0].area
    # An area is a product of sides of up to 4001 px: it errs by that times the errors of both.
    np.testing.assert_allclose(other_area, area, rtol=0, atol=tolerance * 1e4)


@pytest.mark.parametrize("formats", [("voc",), ("coco",), ("coco", "voc"), ("voc", "coco", "voc")])
@settings(max_examples=20, deadline=None, derandomize=True)
@given(pair=tables(INTEGERS))
def test_whole_pixels_come_back_exactly_through_any_formats(
    tmp_path_factory: pytest.TempPathFactory,
    formats: tuple[str, ...],
    pair: tuple[GroundTruth, Detections],
) -> None:
    assert_same(pair, through(tmp_path_factory.mktemp("x"), pair, *formats), tolerance=0)


@pytest.mark.parametrize("formats", [("coco", "voc"), ("voc", "coco", "voc")])
@settings(max_examples=20, deadline=None, derandomize=True)
@given(pair=tables(CENTS))
def test_fractions_come_back_through_both_formats_to_a_billionth_of_a_pixel(
    tmp_path_factory: pytest.TempPathFactory,
    formats: tuple[str, ...],
    pair: tuple[GroundTruth, Detections],
) -> None:
    # Adding and taking away 1 moves the last bit, 2**-40 at 8000 px; a few of these stay below.
    assert_same(pair, through(tmp_path_factory.mktemp("x"), pair, *formats), tolerance=1e-9)


@pytest.mark.parametrize("format_name", ["voc", "coco"])
@settings(max_examples=20, deadline=None, derandomize=True)
@given(pair=tables(CENTS))
def test_what_was_read_in_a_format_is_written_in_it_exactly(
    tmp_path_factory: pytest.TempPathFactory,
    format_name: str,
    pair: tuple[GroundTruth, Detections],
) -> None:
    # Tables made above are VOC's; to be as COCO has them they must have been written once.
    once = pair if format_name == "voc" else through(tmp_path_factory.mktemp("x"), pair, "coco")
    again = through(tmp_path_factory.mktemp("y"), once, format_name)
    assert_same(once, again, tolerance=0)


def test_coco_ids_areas_and_crowds_come_back_from_coco(tmp_path: Path) -> None:
    data = instances()
    data["annotations"][0] |= {"id": 77, "area": 3.25, "iscrowd": 1}
    data["annotations"][1] |= {"iscrowd": 1, "difficult": 1}
    data["categories"][1] |= {"id": 90}
    data["annotations"][1] |= {"category_id": 90}
    detections = [row | {"category_id": 90 if row["category_id"] == 2 else 1} for row in results()]
    put(tmp_path, {"truth.json": json.dumps(data), "found.json": json.dumps(detections)})
    pair = read(tmp_path / "truth.json", tmp_path / "found.json")
    again = through(tmp_path, pair, "coco")
    assert_same(pair, again, tolerance=0)
    assert again[0].annotation_id.tolist() == [77, 2, 3]
    assert again[0].area.tolist() == [3.25, 651, 25]
    assert again[0].crowd.tolist() == [True, False, False]
    assert again[0].difficult.tolist() == [False, True, False]
    assert again[0].catalog.class_ids == (1, 90)
    assert again[0].catalog.file_names == ("a.jpg", "b.jpg")


def test_coco_through_voc_keeps_boxes_and_file_names_and_makes_crowds_difficult(
    tmp_path: Path,
) -> None:
    put(tmp_path, COCO, {"truth.json": changed(instances(), "annotations/0/iscrowd", 1)})
    before = read(tmp_path / "truth.json", tmp_path / "found.json")
    truth, detections = through(tmp_path, before, "voc", "coco")
    np.testing.assert_array_equal(xywh(truth), xywh(before[0]))
    np.testing.assert_array_equal(
        xywh(detections)[np.argsort(-detections.score)],
        xywh(before[1])[np.argsort(-before[1].score)],
    )
    assert truth.difficult.tolist() == [True, False, False]
    assert not truth.crowd.any()
    assert truth.catalog.file_names == ("a.jpg", "b.jpg")


def test_a_difficult_box_is_a_crowd_for_coco_tools(tmp_path: Path) -> None:
    write(small_truth(difficult=[True]), None, tmp_path / "x", format="coco")
    (row,) = json.loads((tmp_path / "x" / "instances_all.json").read_text())["annotations"]
    assert (row["iscrowd"], row["difficult"]) == (1, 1)


def test_annotation_id_zero_is_not_written(tmp_path: Path) -> None:
    write(small_truth(annotation_id=[0]), None, tmp_path / "x", format="coco")
    (row,) = json.loads((tmp_path / "x" / "instances_all.json").read_text())["annotations"]
    assert row["id"] == 1


def test_an_image_without_boxes_is_written(tmp_path: Path) -> None:
    write(small_truth(), None, tmp_path / "x", format="voc")
    assert (tmp_path / "x" / "ImageSets" / "Main" / "all.txt").read_text() == "a\nb\n"
    assert read_ground_truth(tmp_path / "x", image_set="all").catalog.images == ("a", "b")


def test_voc_image_names_keep_their_dots(tmp_path: Path) -> None:
    table = small_truth(catalog=Catalog(("2007.01", "2007.02"), ("cat",)))
    write(table, None, tmp_path / "x", format="voc")
    assert read_ground_truth(tmp_path / "x").catalog.images == ("2007.01", "2007.02")


@pytest.mark.parametrize(
    ("image", "file_name", "message"),
    [
        ("../../x", "", "'../../x' cannot be a VOC image id"),
        ("..\\x", "", "cannot be a VOC image id"),
        ("a b", "", "'a b' cannot be a VOC image id"),
        (".", "", "'.' cannot be a VOC image id"),
        ("", "", "'' cannot be a VOC image id"),
        ("a\0", "", r"'a\\x00' cannot be"),
        ("\x1b[2J", "", r"cannot be written in VOC's format"),
        ("x", "../../..", "'..' cannot be a VOC image id"),
        ("x", "z/a.png", "images that share a file name: a"),
        ("n" * 300, "", "too long"),
    ],
)
def test_an_image_name_that_cannot_be_a_file_is_refused_when_written(
    tmp_path: Path, image: str, file_name: str, message: str
) -> None:
    names = (file_name, "y/a.jpg") if file_name else ()
    images = (image, "zz")
    table = small_truth(catalog=Catalog(images, ("cat",), file_names=names))
    with pytest.raises(InputError, match=message):
        write(table, None, tmp_path / "x", format="voc")
    assert not list(tmp_path.iterdir())


def test_folders_in_coco_file_names_are_left_behind(tmp_path: Path) -> None:
    names = ("../../x.jpg", "C:\\photos\\y.jpg")
    table = small_truth(catalog=Catalog((1, 2), ("cat",), file_names=names))
    write(table, None, tmp_path / "out", format="voc")
    assert names_in(tmp_path) == ["out"]
    assert names_in(tmp_path / "out" / "Annotations") == ["x.xml", "y.xml"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("../x", "the class name '../x' cannot be part of a file name"),
        ("a\\b", "cannot be part of a file name"),
        ("a\0b", "cannot be written in VOC's format"),
        ("a\nb", "cannot be written in VOC's format"),
        (" a", "the name ' a' cannot be written in VOC's format"),
        ("", "the name '' cannot be written"),
        ("\ud800", "cannot be written in VOC's format"),
        ("n" * 300, "too long"),
    ],
)
def test_a_class_name_that_cannot_be_part_of_a_file_name_is_refused_when_written(
    tmp_path: Path, name: str, message: str
) -> None:
    truth = small_truth(catalog=Catalog(("a", "b"), (name,)))
    detections = Detections(
        image=[0],
        label=[0],
        box=truth.box,
        size=truth.size,
        score=[1],
        row=[0],
        catalog=truth.catalog,
        pixels="inclusive",
    )  # type: ignore[arg-type]
    with pytest.raises(InputError, match=message):
        write(truth, detections, tmp_path / "x", format="voc")
    assert not list(tmp_path.iterdir())


def test_a_name_that_is_no_text_is_refused_when_written_as_json(tmp_path: Path) -> None:
    table = small_truth(catalog=Catalog(("a", "b"), ("\ud800",)))
    with pytest.raises(InputError, match="a name is not text"):
        write(table, None, tmp_path / "x", format="coco")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("image_set", ["../x", "a/b", "", ".", "a b", "a\0"])
@pytest.mark.parametrize("format_name", WRITERS)
def test_an_image_set_that_cannot_be_part_of_a_file_name_is_refused(
    tmp_path: Path, format_name: str, image_set: str
) -> None:
    with pytest.raises(InputError, match="cannot be part of a file name"):
        write(small_truth(), None, tmp_path / "x", format=format_name, image_set=image_set)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("format_name", WRITERS)
def test_a_folder_that_holds_something_is_not_written_to(tmp_path: Path, format_name: str) -> None:
    put(tmp_path / "x", {"precious.txt": "1"})
    with pytest.raises(InputError, match="x: exists already; name a new folder"):
        write(small_truth(), None, tmp_path / "x", format=format_name)
    assert names_in(tmp_path / "x") == ["precious.txt"]


@pytest.mark.parametrize("place", ["file/x", "m" * 300])
def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path, place: str) -> None:
    put(tmp_path, {"file": ""})
    with pytest.raises(InputError, match="cannot be made: "):
        write(small_truth(), None, tmp_path / place, format="coco")


def test_an_empty_folder_and_missing_parents_are_filled(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for folder in (tmp_path / "empty", tmp_path / "new" / "x"):
        write(small_truth(), None, folder, format="coco")
        assert names_in(folder) == ["instances_all.json"]


def test_detections_of_voc_files_come_in_the_order_of_classes_not_of_file_names(
    tmp_path: Path,
) -> None:
    names = ("a", "a b", "a-b", "a.b", "a0")
    for name in names:
        file = tmp_path / f"comp4_det_val_{name}.txt"
        file.write_text("first 0.5 1 1 9 9\n")
    table = read_detections(tmp_path, Catalog(("first",), names), image_set="val")
    assert table.catalog.classes == names
    assert table.label.tolist() == [0, 1, 2, 3, 4]
