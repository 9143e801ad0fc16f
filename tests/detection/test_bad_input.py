"""What is wrong with a file is said in one line that names the file and the line or key."""

import os
import re
import subprocess
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

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
from upmap.detection.convert import main
from upmap.detection.formats import coco_json, voc_results, voc_xml
from upmap.detection.inputs import Input

ROOT = Path(__file__).resolve().parents[2]
CAT = "results/comp4_det_test_cat.txt"
A, B = "Annotations/a.xml", "Annotations/b.xml"
LIST = "ImageSets/Main/test.txt"
Case = tuple[dict[str, Text | None], str]


def of_object(*objects: str, **keywords: Any) -> dict[str, Text | None]:
    return {A: annotation(*objects, **keywords)}


def of_truth(place: str, new: Any) -> dict[str, Text | None]:
    return {"truth.json": changed(instances(), place, new)}


def of_results(place: str, new: Any) -> dict[str, Text | None]:
    return {"found.json": changed(results(), place, new)}


LAUGHS = (
    '<?xml version="1.0"?>\n<!DOCTYPE annotation [\n<!ENTITY a "ha">\n'
    + "".join(
        f'<!ENTITY {b} "{f"&{a};" * 10}">\n' for a, b in zip("abcdefgh", "bcdefghi", strict=True)
    )
    + "]>\n<annotation><folder>&i;</folder></annotation>"
)
EXTERNAL = (
    '<!DOCTYPE annotation [\n<!ENTITY x SYSTEM "file:///etc/hostname">\n]>\n'
    "<annotation><folder>&x;</folder></annotation>"
)
TWO = an_object(), an_object("dog", (30, 30, 50, 60))

BAD_VOC: dict[str, Case] = {
    "malformed XML": ({A: "<annotation>\n<size>\n</annotation>"}, r"a\.xml:3: malformed XML"),
    "truncated XML": ({A: annotation(*TWO)[:100]}, r"a\.xml:3: malformed XML"),
    "an XML file of 0 bytes": ({A: ""}, r"a\.xml:1: malformed XML: no element"),
    "a web page for XML": ({A: "\n<html></html>"}, r"a\.xml:2: expected <annotation>, got <html>"),
    "an entity bomb": ({A: LAUGHS}, r"a\.xml:3: entity declarations are refused"),
    "an external entity": ({A: EXTERNAL}, r"a\.xml:2: entity declarations are refused"),
    "an encoding that does not exist": (
        {A: '<?xml version="1.0" encoding="klingon"?><annotation/>'},
        r"a\.xml:1: unknown encoding: klingon",
    ),
    "XML that is not UTF-8": (
        {A: annotation(*TWO).encode() + b"<!-- \xe9 -->"},
        r"a\.xml:6: malformed XML",
    ),
    "an object without a name": (
        of_object(TWO[0], TWO[1].replace("<name>dog</name>", "")),
        r"a\.xml:4: an object has no <name>",
    ),
    "an empty name": (of_object(an_object(" \n ")), r"a\.xml:3: an object has no <name>"),
    "an object without xmin": (
        of_object(TWO[0].replace("<xmin>1</xmin>", "")),
        r"a\.xml:3: an object has no <xmin>",
    ),
    "a word for a coordinate": (
        of_object(an_object(corners=(1, "two", 10, 20))),
        r"a\.xml:3: <ymin> is not a number: 'two'",
    ),
    "an underscore in a coordinate": (
        of_object(an_object(corners=(1, 2, "1_0", 20))),
        r"a\.xml:3: <xmax> is not a number: '1_0'",
    ),
    "NaN in XML": (
        of_object(an_object(corners=(1, 2, 10, "nan"))),
        r"a\.xml:3: <ymax> is not a number: 'nan'",
    ),
    "infinity in XML": (
        of_object(an_object(corners=(1, 2, "inf", 20))),
        r"a\.xml:3: <xmax> is out of range: 'inf'",
    ),
    "a huge integer in XML": (
        of_object(an_object(corners=(1, 2, "9" * 400, 20))),
        r"a\.xml:3: <xmax> is out of range: '999",
    ),
    "a list that names a missing XML file": (
        {LIST: "a\nb\nc\n"},
        r"c\.xml: no such file or folder",
    ),
    "a list that names an image twice": ({LIST: "a\nb\na\n"}, r"test\.txt:3: duplicate image id a"),
    "a list that leads out of the folder": (
        {LIST: "a\n../../x\n"},
        r"Annotations/x\.xml: no such file",
    ),
    "an empty list": ({LIST: "\n"}, r"test\.txt: the list of images is empty"),
    "a list that is not UTF-8": ({LIST: b"a\n\xff\n"}, r"test\.txt:2: byte 0xff is not UTF-8"),
    "five columns": ({CAT: "a 0.9 1 2 10 20\na 0.9 1 2 10\n"}, r"cat\.txt:2: expected 6 .* got 5"),
    "seven columns": ({CAT: "\na 0.9 1 2 10 20 1\n"}, r"cat\.txt:2: expected 6 columns .* got 7"),
    "a word for a score": (
        {CAT: "a 0.9 1 2 10 20\nb high 1 2 3 4\n"},
        r"cat\.txt:2: score is not a finite number: 'high'",
    ),
    "a NaN score": ({CAT: "a nan 1 2 10 20\n"}, r"cat\.txt:1: score is not .*'nan'"),
    "an infinite score": ({CAT: "a -inf 1 2 10 20\n"}, r"cat\.txt:1: score is not .*'-inf'"),
    "a NaN coordinate": ({CAT: "\na 1 1 NaN 10 20\n"}, r"cat\.txt:2: ymin is not .*'NaN'"),
    "an overflowing coordinate": ({CAT: "a 1 1 2 1e999 20\n"}, r"cat\.txt:1: xmax is not .*1e999"),
    "a huge coordinate": ({CAT: f"a 1 1 2 {'9' * 400} 20\n"}, r"cat\.txt:1: xmax is not .*999"),
    "an underscore in a number": ({CAT: "a 1 1 2 1_0 20\n"}, r"cat\.txt:1: xmax is not .*'1_0'"),
    "results that are not UTF-8": ({CAT: b"a 1 1 2 3 4\n\xe9 1"}, r"cat\.txt:2: byte 0xe9 is not"),
    "two challenges in one folder": (
        {"results/comp3_det_test_cat.txt": ""},
        r"results: results of several kinds .*: comp3_det_test, comp4_det_test",
    ),
    "two image sets in one folder": (
        {"results/comp4_det_val_cat.txt": ""},
        r"results: results of several kinds .*: comp4_det_test, comp4_det_val",
    ),
    "a folder of detections without any": (
        {CAT: None, "results/comp4_det_test_dog.txt": None, "results/readme.txt": ""},
        r"results: not recognized as detections; expected .*voc: .*comp4_det_<set>_<class>\.txt",
    ),
}

BAD_COCO: dict[str, Case] = {
    "0 bytes of ground truth": ({"truth.json": ""}, r"truth\.json:1: the file is empty"),
    "0 bytes of results": ({"found.json": " \n"}, r"found\.json:2: the file is empty"),
    "results for ground truth": (
        {"truth.json": COCO["found.json"]},
        r"truth\.json:1: expected an object of images, .* got a list",
    ),
    "ground truth for results": (
        {"found.json": COCO["truth.json"]},
        r"found\.json:annotations\[0\]\.score: missing",
    ),
    "a NaN coordinate": (
        of_truth("annotations/1/bbox/0", float("nan")),
        r"json:annotations\[1\]\.bbox\[0\]: Number out of range",
    ),
    "a NaN score": (
        of_results("1/score", float("nan")),
        r"found\.json:\[1\]\.score: Number out of",
    ),
    "an infinite score": (
        of_results("1/score", float("-inf")),
        r"found\.json:\[1\]\.score: Number out of range",
    ),
    "an overflowing score": (
        {"found.json": str(COCO["found.json"]).replace("0.75", "1e999")},
        r"found\.json:\[1\]\.score: Number out of range",
    ),
    "an overflowing coordinate": (
        {"truth.json": str(COCO["truth.json"]).replace("31", "1e999", 1)},
        r"truth\.json:annotations\[1\]\.bbox\[3\]: Number out of range",
    ),
    "a huge coordinate": (
        of_truth("annotations/1/bbox/3", 10**300),
        r"truth\.json:annotations\[1\]\.bbox: out of range",
    ),
    "a huge coordinate of a detection": (
        of_results("2/bbox/0", 10**200),
        r"found\.json:\[2\]\.bbox: out of range",
    ),
    "three numbers for a box": (
        of_truth("annotations/2/bbox", [1, 2, 3]),
        r"truth\.json:annotations\[2\]\.bbox: Expected `array` of length 4",
    ),
    "a word for a number": (
        of_results("1/score", "high"),
        r"found\.json:\[1\]\.score: Expected `float`, got `str`",
    ),
    "an annotation without a box": (
        of_truth("annotations/2/bbox", ...),
        r"truth\.json:annotations\[2\]\.bbox: missing",
    ),
    "a result without a score": (of_results("1/score", ...), r"found\.json:\[1\]\.score: missing"),
    "an image without an id": (
        of_truth("images/0/id", ...),
        r"truth\.json:images\[0\]\.id: missing",
    ),
    "no categories": (of_truth("categories", ...), r"truth\.json:categories: missing"),
    "an image id twice": (
        of_truth("images/1/id", 1.0),
        r"truth\.json:images\[1\]: the id 1 stands in images\[0\], too, with other values",
    ),
    "a category id twice": (
        of_truth("categories/1/id", 1),
        r"truth\.json:categories\[1\]: the id 1 stands in categories\[0\], too, with other",
    ),
    "a fraction for an id": (
        of_truth("annotations/1/image_id", 1.5),
        r"truth\.json:annotations\[1\]\.image_id: expected an integer of 64 bits, got 1\.5",
    ),
    "a float id that lost digits": (
        of_results("1/image_id", 1e17),
        r"found\.json:\[1\]\.image_id: expected an integer of 64 bits, got 1e\+17",
    ),
    "JSON nested too deeply": (
        {"truth.json": '{"a":' * 100_000},
        r"truth\.json:1: .*nested too deep",
    ),
    "something after the end": (
        {"truth.json": str(COCO["truth.json"]) + "\n]"},
        r"truth\.json:2: JSON is malformed: trailing characters",
    ),
    "JSON that is not UTF-8": (
        {"truth.json": str(COCO["truth.json"]).replace('"cat"', '"\xe9"').encode("latin-1")},
        r"truth\.json:1: byte 0xe9 is not UTF-8",
    ),
}

CASES = [
    pytest.param(files, spoilt, message, id=f"{kind}: {name}")
    for kind, files, cases in (("voc", VOC, BAD_VOC), ("coco", COCO, BAD_COCO))
    for name, (spoilt, message) in cases.items()
]


def inputs(folder: Path) -> tuple[Path, Path]:
    is_coco = (folder / "truth.json").exists()
    names = ("truth.json", "found.json") if is_coco else ("", "results")
    return folder / names[0], folder / names[1]


@pytest.mark.parametrize(("files", "spoilt", "message"), CASES)
def test_the_message_names_the_file_and_the_place(
    tmp_path: Path, files: Mapping[str, Text], spoilt: Mapping[str, Text | None], message: str
) -> None:
    with pytest.raises(InputError, match=message) as caught:
        read(*inputs(put(tmp_path, files, spoilt)))
    assert str(caught.value).startswith(str(tmp_path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("files", "spoilt", "message"), CASES)
def test_the_program_prints_one_line_and_leaves_nothing(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    files: Mapping[str, Text],
    spoilt: Mapping[str, Text | None],
    message: str,
) -> None:
    truth, detections = inputs(put(tmp_path / "in", files, spoilt))
    target = "coco" if files is VOC else "voc"
    status = main([str(truth), str(detections), "--to", target, "--out", str(tmp_path / "out")])
    printed = capsys.readouterr()
    assert status == 2
    assert printed.out == ""
    assert re.fullmatch(rf"error: .*{message}.*\n", printed.err)
    assert [entry.name for entry in tmp_path.iterdir()] == ["in"]


@pytest.mark.parametrize("files", [VOC, COCO], ids=["voc", "coco"])
def test_the_same_files_unspoilt_are_read(tmp_path: Path, files: Mapping[str, Text]) -> None:
    truth, detections = read(*inputs(put(tmp_path, files)))
    assert (len(truth.catalog.images), len(truth), len(detections)) == (2, 3, 3)


@pytest.mark.parametrize(
    "name",
    ["voc: an entity bomb", "voc: a NaN score", "coco: a result without a score"],
)
def test_a_process_ends_with_2_and_without_a_traceback(tmp_path: Path, name: str) -> None:
    files, spoilt, message = next(case.values for case in CASES if case.id == name)
    truth, detections = inputs(put(tmp_path / "in", files, spoilt))  # type: ignore[arg-type]
    command = [sys.executable, "-m", "detection.convert", str(truth), str(detections)]
    result = subprocess.run(
        [*command, "--to", "coco", "--out", str(tmp_path / "out")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (result.returncode, result.stdout) == (2, "")
    assert re.fullmatch(rf"error: .*{message}.*\n", result.stderr)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("kind", ["ground truth", "detections"])
@pytest.mark.parametrize("name", ["missing", "m" * 300, "a\0b"])
@pytest.mark.parametrize("format_name", [None, "voc", "coco"])
def test_a_path_where_nothing_is_is_named(
    tmp_path: Path, kind: str, name: str, format_name: str | None
) -> None:
    put(tmp_path, VOC)
    paths = [tmp_path, tmp_path / "results"]
    paths[kind == "detections"] = tmp_path / name
    reason = {"missing": "no such file or folder", "a\0b": "null byte"}.get(name, "too long")
    with pytest.raises(InputError, match=f"{re.escape(name)}: .*{reason}"):
        read(*paths, format=format_name)


def test_a_folder_of_something_else_is_not_recognized(tmp_path: Path) -> None:
    put(tmp_path, {"photos/a.jpg": b"\xff\xd8"})
    with pytest.raises(
        InputError, match=r"photos: not recognized as ground truth; expected .*voc: "
    ):
        read_ground_truth(tmp_path / "photos")


@pytest.mark.parametrize(
    ("format_name", "message"),
    [("voc", "neither a VOC devkit folder nor"), ("coco", r"no instances_\*\.json in this folder")],
)
def test_a_folder_of_something_else_is_refused_where_the_format_is_given(
    tmp_path: Path, format_name: str, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        read_ground_truth(tmp_path, format=format_name)


def test_an_empty_folder_of_annotations_is_refused(tmp_path: Path) -> None:
    (tmp_path / "Annotations").mkdir()
    with pytest.raises(InputError, match="Annotations: no XML files"):
        read_ground_truth(tmp_path)


@pytest.mark.parametrize("name", [A, CAT, LIST])
def test_a_folder_where_a_file_is_expected_is_named(tmp_path: Path, name: str) -> None:
    put(tmp_path, VOC, {name: None, f"{name}/x": ""})
    with pytest.raises(InputError, match=f"{name}: (is a directory|no such)|no image set"):
        read(tmp_path, tmp_path / "results", image_set="test")


@pytest.mark.parametrize("name", ["found.json", "truth.json"])
def test_a_folder_where_a_json_file_is_expected_is_named(tmp_path: Path, name: str) -> None:
    put(tmp_path, COCO, {name: None, f"{name}/x": ""})
    with pytest.raises(InputError, match=f"{name}: (not recognized|is a directory)"):
        read(*inputs(tmp_path))


@pytest.mark.parametrize("name", ["found.json", "truth.json", "truth"])
def test_an_unreadable_file_is_named(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = put(tmp_path, {name: "{}"})

    def refuse(self: Path, *arguments: Any, **keywords: Any) -> bytes:
        raise PermissionError(13, os.strerror(13), str(self))

    monkeypatch.setenv("UPMAP_IMPL", "reference")
    monkeypatch.setattr(Path, "read_bytes", refuse)
    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(InputError, match=f"{name}: permission denied"):
        read_ground_truth(files / name)


@pytest.mark.parametrize("length", range(0, len(COCO["truth.json"]), 23))
def test_truncated_ground_truth_json_is_refused(tmp_path: Path, length: int) -> None:
    put(tmp_path, {"truth.json": str(COCO["truth.json"])[:length]})
    with pytest.raises(InputError, match=r"truth\.json:1: (the file is empty|JSON ends too early)"):
        read_ground_truth(tmp_path / "truth.json")


@pytest.mark.parametrize(
    ("folder", "image_set", "message"),
    [
        (VOC, "tset", r"no image set called 'tset'; there are mini, test"),
        (VOC, "x" * 300, r"no image set called 'x+[.]{3}'; there are mini, test"),
        (VOC | {"ImageSets/Main/mini.txt": None, LIST: None}, "test", r"'test'; there are none"),
        ({"instances_val.json": "{}", "instances_mini.json": "{}"}, None, r"name an .* mini, val"),
        ({"instances_val.json": "{}"}, "tset", r"no image set called 'tset'; there are val"),
        (COCO, "tset", r"tset: no such list of images"),
        (COCO | {"mini": "a\n\nc\nd\n"}, "mini", r"mini:3: 2 unknown images: 'c', 'd'"),
        (COCO | {"mini": "a\na.jpg\n"}, "mini", r"mini:2: duplicate image id a.jpg"),
        (COCO | {"mini": "\n \n"}, "mini", r"mini: the list of images is empty"),
        (VOC | {"mini": "a\n\na\n"}, "mini", r"mini:3: duplicate image id a"),
        (VOC | {"mini": "\n \n"}, "mini", r"mini: the list of images is empty"),
    ],
)
def test_an_unknown_image_set_lists_those_that_there_are(
    tmp_path: Path, folder: dict[str, Text | None], image_set: str | None, message: str
) -> None:
    put(tmp_path, {"ImageSets/Main/mini.txt": "a\n"} if A in folder else {}, folder)
    path = tmp_path / "truth.json" if "truth.json" in folder else tmp_path
    if image_set == "mini":
        image_set = str(tmp_path / "mini")
    with pytest.raises(InputError, match=message):
        read_ground_truth(path, image_set=image_set)


def test_a_devkit_of_two_years_asks_for_one(tmp_path: Path) -> None:
    for year in ("VOC2007", "VOC2012"):
        put(tmp_path / year, VOC)
    with pytest.raises(InputError, match="name one of VOC2007, VOC2012"):
        read_ground_truth(tmp_path)


@pytest.mark.parametrize(
    ("detections", "message"),
    [
        (
            "a 1 10 2 1 20\nb 1 5 9 9 5\n",
            r"2 detections have an inverted box; they overlap nothing",
        ),
        ("a 1 0 2 10 20\nb 1 5 9 200 50\nb 1 5 5 9 9\n", r"2 of 4 detections reach outside"),
    ],
)
def test_an_odd_but_legal_detection_is_counted_in_a_warning(
    tmp_path: Path, detections: str, message: str
) -> None:
    put(tmp_path, VOC, {CAT: detections})
    with pytest.warns(InputWarning, match=f"results: {message}"):
        read(tmp_path, tmp_path / "results")


def test_a_detected_class_without_ground_truth_is_warned_about(tmp_path: Path) -> None:
    put(tmp_path, VOC, {"results/comp4_det_test_owl.txt": "a 1 1 1 9 9\n"})
    put(tmp_path, {"results/comp4_det_test_emu.txt": ""})
    with pytest.warns(InputWarning, match="no ground truth for the detected classes owl$"):
        read(tmp_path, tmp_path / "results")


@pytest.mark.parametrize(
    ("place", "new", "message"),
    [
        ("annotations/2/id", 0, "an annotation has id 0, which pycocotools takes for"),
        ("annotations/2/area", ..., "1 annotations have no area; width x height is used"),
        ("annotations/2/area", None, "1 annotations have no area; width x height is used"),
    ],
)
def test_odd_but_legal_coco_ground_truth_is_warned_about(
    tmp_path: Path, place: str, new: Any, message: str
) -> None:
    put(tmp_path, COCO, of_truth(place, new))
    with pytest.warns(InputWarning, match=f"truth.json: {message}"):
        table = read_ground_truth(tmp_path / "truth.json")
    assert table.area[2] == 25


LEGAL: list[tuple[dict[str, Text | None], tuple[int, int, int]]] = [
    ({CAT: ""}, (2, 3, 1)),
    ({CAT: "\n \n"}, (2, 3, 1)),
    ({A: annotation()}, (2, 1, 3)),
    ({A: "<annotation/>"}, (2, 1, 3)),
    ({"found.json": "[]"}, (2, 3, 0)),
    ({"found.json": b"\xef\xbb\xbf\n[]"}, (2, 3, 0)),
    ({"truth.json": b"\xef\xbb\xbf" + str(COCO["truth.json"]).encode()}, (2, 3, 3)),
    ({A: b"\xef\xbb\xbf" + str(VOC[A]).encode()}, (2, 3, 3)),
    ({CAT: b"\xef\xbb\xbf" + str(VOC[CAT]).encode()}, (2, 3, 3)),
    ({LIST: b"\xef\xbb\xbf" + str(VOC[LIST]).encode()}, (2, 3, 3)),
]


@pytest.mark.parametrize(("files", "counts"), LEGAL)
def test_what_is_empty_or_begins_with_a_byte_order_mark_is_legal(
    tmp_path: Path, files: dict[str, Text | None], counts: tuple[int, int, int]
) -> None:
    is_coco = any(name.endswith(".json") for name in files)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*no ground truth for the detected classes dog")
        truth, detections = read(*inputs(put(tmp_path, COCO if is_coco else VOC, files)))
    assert (len(truth.catalog.images), len(truth), len(detections)) == counts


@pytest.mark.parametrize("module", [voc_results, coco_json])
@pytest.mark.parametrize("name", ["nothing", "a\0b", "folder", "/dev/null", ""])
def test_odd_paths_are_no_detections(tmp_path: Path, module: Any, name: str) -> None:
    (tmp_path / "folder").mkdir()
    assert not module.is_detections(Input(tmp_path / name))


@pytest.mark.parametrize("module", [voc_xml, coco_json])
@pytest.mark.parametrize("name", ["nothing", "a\0b", "folder", "/dev/null", ""])
def test_odd_paths_are_no_ground_truth(tmp_path: Path, module: Any, name: str) -> None:
    (tmp_path / "folder").mkdir()
    assert not module.is_ground_truth(Input(tmp_path / name))
