"""`python -m detection.convert`: what it prints, writes, and refuses."""

import json
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

from tests.detection.small_files import COCO, VOC, an_object, annotation, put
from upmap.console import run
from upmap.detection import InputError, InputWarning, read
from upmap.detection.boxes import xywh
from upmap.detection.convert import main
from upmap.detection.formats import WRITERS

ROOT = Path(__file__).resolve().parents[2]
CAT = "results/comp4_det_test_cat.txt"


def converted(*arguments: str | Path) -> int:
    return main([str(argument) for argument in arguments])


def test_voc_becomes_coco_under_the_name_of_its_image_set(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    voc, out = put(tmp_path / "voc", VOC), tmp_path / "out"
    assert converted(voc, voc / "results", "--to", "coco", "--out", out) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    assert printed.out.splitlines() == [
        "wrote 2 images, 3 boxes, 2 classes, 3 detections",
        f"{out}/detections_test.json",
        f"{out}/instances_test.json",
    ]
    before = read(voc, voc / "results")
    after = read(out / "instances_test.json", out / "detections_test.json")
    for old, new in zip(before, after, strict=True):
        np.testing.assert_array_equal(xywh(old), xywh(new))


def test_coco_becomes_voc_under_the_name_all(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    coco, out = put(tmp_path / "coco", COCO), tmp_path / "out"
    truth, detections = coco / "truth.json", coco / "found.json"
    assert converted(truth, detections, "--to", "voc", "--out", out, "--from", "coco") == 0
    assert capsys.readouterr().out.splitlines()[1:] == [
        f"{out}/Annotations/a.xml",
        f"{out}/Annotations/b.xml",
        f"{out}/ImageSets/Main/all.txt",
        f"{out}/results/comp4_det_all_cat.txt",
        f"{out}/results/comp4_det_all_dog.txt",
    ]
    again = (out / "results" / "comp4_det_all_cat.txt").read_text()
    assert again == VOC[CAT]


def test_many_files_of_a_folder_are_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = {f"Annotations/{name}.xml": annotation() for name in "cde"}
    voc, out = put(tmp_path / "voc", VOC, more), tmp_path / "out"
    assert converted(voc, "--to", "voc", "--out", out) == 0
    assert capsys.readouterr().out.splitlines() == [
        "wrote 5 images, 3 boxes, 2 classes",
        f"{out}/Annotations (5 files *.xml)",
        f"{out}/ImageSets/Main/all.txt",
    ]


@pytest.mark.parametrize(
    ("image_set", "expected", "images"),
    [("mini", "mini", 1), ("{}/lists/some.txt", "some", 1), ("test", "test", 2)],
)
def test_the_image_set_that_was_asked_for_gives_the_name(
    tmp_path: Path, image_set: str, expected: str, images: int
) -> None:
    put(tmp_path, VOC, {"ImageSets/Main/mini.txt": "b\n", "lists/some.txt": "b\n"})
    arguments = ("--image-set", image_set.format(tmp_path))
    assert converted(tmp_path, "--to", "coco", "--out", tmp_path / "out", *arguments) == 0
    (file,) = (tmp_path / "out").iterdir()
    assert file.name == f"instances_{expected}.json"
    assert len(json.loads(file.read_text())["images"]) == images


def test_a_source_without_lists_is_converted_as_all(tmp_path: Path) -> None:
    voc = put(tmp_path / "voc", VOC, {"ImageSets/Main/test.txt": None})
    out = tmp_path / "out"
    assert converted(voc, voc / "results", "--to", "coco", "--out", out) == 0
    assert sorted(file.name for file in out.iterdir()) == [
        "detections_all.json",
        "instances_all.json",
    ]


def test_difficult_objects_are_counted_and_marked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    marked = annotation(an_object(more="<difficult>1</difficult>"))
    voc = put(tmp_path / "voc", VOC, {"Annotations/a.xml": marked})
    assert converted(voc, "--to", "coco", "--out", tmp_path / "out") == 0
    assert "2 boxes (1 difficult), 1 classes" in capsys.readouterr().out
    text = (tmp_path / "out" / "instances_all.json").read_text()
    assert [row.get("difficult") for row in json.loads(text)["annotations"]] == [1, None]


def test_a_warning_is_one_line_on_stderr(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    voc = put(tmp_path / "voc", VOC, {CAT: "a 1 10 2 1 20\n"})
    assert converted(voc, voc / "results", "--to", "coco", "--out", tmp_path / "out") == 0
    expected = f"{voc / 'results'}: 1 detections have an inverted box; they overlap nothing"
    assert capsys.readouterr().err == f"warning: {expected}\n"


def test_a_folder_that_exists_is_left_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    voc = put(tmp_path, VOC)
    assert converted(voc, "--to", "coco", "--out", voc) == 2
    assert capsys.readouterr().err == f"error: {voc}: exists already; name a new folder\n"


@pytest.mark.parametrize(
    "arguments",
    [[], ["x"], ["x", "--to", "coco"], ["--nonsense"]],
)
def test_a_wrong_command_ends_with_2_and_the_usage(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert "usage: upmap convert" in capsys.readouterr().err


def test_an_unknown_format_is_named_beside_those_that_there_are(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["x", "--to", "kitti", "--out", "y"]) == 2
    known = ", ".join(WRITERS)
    assert capsys.readouterr().err == f"error: --to: must be one of {known}, not 'kitti'\n"


def test_the_help_teaches(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--help"])
    assert caught.value.code == 0
    text = capsys.readouterr().out
    for expected in ("--to coco", "--to voc", "1-based, inclusive", '"difficult": 1', "iscrowd"):
        assert expected in text


def test_it_runs_as_a_process_with_a_reader_that_goes_away(tmp_path: Path) -> None:
    voc = put(tmp_path / "voc", VOC)
    command = [sys.executable, "-m", "detection.convert", str(voc), "--to", "coco"]
    process = subprocess.Popen(
        [*command, "--out", str(tmp_path / "out")],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    with process.stderr:
        assert process.stderr.read() == b""
    assert process.wait(timeout=60) == 0
    assert (tmp_path / "out" / "instances_all.json").is_file()


def ends(error: BaseException) -> int:
    def program() -> None:
        raise error

    return run(program)


def test_bad_input_is_2_and_ctrl_c_is_130(capsys: pytest.CaptureFixture[str]) -> None:
    assert ends(InputError("three legs", "cat.txt", "7")) == 2
    assert capsys.readouterr().err == "error: cat.txt:7: three legs\n"
    assert ends(KeyboardInterrupt()) == 130
    assert capsys.readouterr().err == ""


def test_every_input_warning_is_printed_and_others_are_left(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def program() -> None:
        for _ in range(2):
            warnings.warn("odd", InputWarning, stacklevel=1)
        with pytest.warns(DeprecationWarning, match="old"):
            warnings.warn("old", DeprecationWarning, stacklevel=1)

    assert run(program) == 0
    assert capsys.readouterr().err == "warning: odd\n" * 2


@pytest.mark.parametrize(
    ("pixels", "boxes"),
    [
        (None, [[0, 1, 10, 19], [29, 29, 21, 31], [4, 4, 5, 5]]),
        ("shift", [[0, 1, 10, 19], [29, 29, 21, 31], [4, 4, 5, 5]]),
        ("keep", [[1, 2, 9, 18], [30, 30, 20, 30], [5, 5, 4, 4]]),
    ],
)
def test_pixels_are_shifted_or_kept_from_voc_to_coco(
    tmp_path: Path, pixels: str | None, boxes: list[list[int]]
) -> None:
    voc, out = put(tmp_path / "voc", VOC), tmp_path / "out"
    options = [] if pixels is None else ["--pixels", pixels]
    assert converted(voc, voc / "results", "--to", "coco", "--out", out, *options) == 0
    rows = json.loads((out / "instances_test.json").read_text())["annotations"]
    assert [row["bbox"] for row in rows] == boxes
    assert [row["area"] for row in rows] == [box[2] * box[3] for box in boxes]
    found = json.loads((out / "detections_test.json").read_text())
    assert sorted(row["bbox"] for row in found) == sorted(boxes)


def test_kept_pixels_are_the_same_corners_there_and_back(tmp_path: Path) -> None:
    voc, out, again = put(tmp_path / "voc", VOC), tmp_path / "out", tmp_path / "again"
    options = ["--pixels", "keep"]
    assert converted(voc, voc / "results", "--to", "coco", "--out", out, *options) == 0
    files = out / "instances_test.json", out / "detections_test.json"
    assert converted(*files, "--to", "voc", "--out", again, *options) == 0
    before, after = read(voc, voc / "results"), read(again, again / "results")
    for old, new in zip(before, after, strict=True):
        np.testing.assert_array_equal(old.box, new.box)


def test_convert_is_strict_where_it_is_asked_to_be(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    voc, out = put(tmp_path / "voc", VOC, {CAT: "a 1 1 2 900 20\n"}), tmp_path / "out"
    arguments = (voc, voc / "results", "--to", "coco", "--out", out)
    assert converted(*arguments, "--strict") == 2
    assert "reach outside their image" in capsys.readouterr().err
    assert not out.exists()
    assert converted(*arguments) == 0
