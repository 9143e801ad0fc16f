"""A warning about input has a message for people, and a kind, a count and examples for programs."""

import ast
import pickle
import re
import warnings
from pathlib import Path
from typing import Any

import pytest

from tests.detection.small_files import COCO, VOC, changed, instances, put
from upmap.detection import InputWarning, read, read_ground_truth
from upmap.detection.formats.checks import note

DETECTION = Path(__file__).resolve().parents[2] / "detection"
FORMATS_PAGE = DETECTION.parent / "docs" / "formats.md"
CAT = "results/comp4_det_test_cat.txt"


def warnings_of_voc(folder: Path, files: dict[str, str | bytes | None]) -> list[InputWarning]:
    put(folder, VOC, files)
    return collect(lambda: read(folder, folder / "results"))


def collect(function: Any) -> list[InputWarning]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        function()
    assert {item.filename for item in caught} <= {__file__}
    return [item.message for item in caught if isinstance(item.message, InputWarning)]


@pytest.mark.parametrize(
    ("files", "kind", "count", "examples"),
    [
        ({CAT: "a 0.9 10 2 1 20\na 0.8 3 3 1 1\n"}, "inverted-box", 2, ()),
        ({CAT: "a 0.9 1 2 101 20\nb 0.8 1 1 9 9\n"}, "outside-image", 1, ()),
        (
            {f"results/comp4_det_test_{name}.txt": "a 1 1 1 9 9\n" for name in ("owl", "emu")},
            "class-without-ground-truth",
            2,
            ("emu", "owl"),
        ),
        (
            {f"results/comp4_det_test_{name}.txt": "a 1 1 1 9 9\n" for name in "qrstuvw"},
            "class-without-ground-truth",
            7,
            ("q", "r", "s", "t", "u"),
        ),
    ],
)
def test_a_warning_about_detections_is_data(
    tmp_path: Path,
    files: dict[str, str | bytes | None],
    kind: str,
    count: int,
    examples: tuple[str, ...],
) -> None:
    (warning,) = warnings_of_voc(tmp_path, files)
    assert (warning.kind, warning.count, warning.examples) == (kind, count, examples)
    assert str(warning).startswith(f"{tmp_path / 'results'}: ")


@pytest.mark.parametrize(
    ("changes", "kind", "count"),
    [
        ({"annotations/0/area": ..., "annotations/2/area": None}, "missing-area", 2),
        ({"annotations/2/id": 0}, "annotation-id-zero", 1),
        ({f"annotations/{i}/difficult": 1 for i in range(3)}, "difficult-without-crowd", 3),
    ],
)
def test_a_warning_about_ground_truth_is_data(
    tmp_path: Path, changes: dict[str, Any], kind: str, count: int
) -> None:
    data: Any = instances()
    for place, value in changes.items():
        section, index, key = place.split("/")
        row = data[section][int(index)]
        if value is ...:
            del row[key]
        else:
            row[key] = value
    put(tmp_path, {"truth.json": changed(data, "info", {})})
    (warning,) = collect(lambda: read_ground_truth(tmp_path / "truth.json"))
    assert (warning.kind, warning.count) == (kind, count)


def test_input_without_oddities_has_no_warnings(tmp_path: Path) -> None:
    put(tmp_path, VOC, COCO)
    assert collect(lambda: read(tmp_path, tmp_path / "results")) == []
    assert collect(lambda: read(tmp_path / "truth.json", tmp_path / "found.json")) == []


def test_a_warning_names_the_line_outside_the_package_that_called() -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        note("a-kind", 2, Path("x"), "text", ["b"])
    assert caught[0].filename == __file__
    assert caught[0].category is InputWarning
    assert str(caught[0].message) == "x: text"


def test_a_warning_keeps_its_data_when_it_is_pickled() -> None:
    warning = InputWarning("text", kind="a-kind", count=3, examples=("x", "y"))
    again = pickle.loads(pickle.dumps(warning))
    assert (str(again), again.kind, again.count) == ("text", "a-kind", 3)
    assert again.examples == ("x", "y")
    plain = InputWarning("text")
    assert (plain.kind, plain.count, plain.examples) == ("", 1, ())


def test_all_warnings_of_detection_go_through_note_and_have_a_kind_in_kebab_case() -> None:
    kinds = []
    for file in DETECTION.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.Call):
                name = ast.unparse(node.func)
                assert name != "warnings.warn" or file.name == "checks.py"
                if name == "note":
                    assert isinstance(node.args[0], ast.Constant)
                    kinds.append(str(node.args[0].value))
    assert len(kinds) == len(set(kinds)) >= 6
    assert all(re.fullmatch(r"[a-z]+(-[a-z]+)*", kind) for kind in kinds)
    documented = re.findall(r"^\| `([a-z-]+)` \| [^|]+ \|$", FORMATS_PAGE.read_text("utf-8"), re.M)
    assert set(documented) == set(kinds)
