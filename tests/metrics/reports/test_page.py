"""The page of an evaluation, read without a browser."""

import json
import math
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from upmap.metrics.evaluate import main
from upmap.metrics.reports.page.document import compose_document, round_numbers
from upmap.metrics.reports.page.provenance import describe_command_line
from upmap.metrics.reports.records import BEGINNINGS

MARKUP = '</script><img src=x onerror=alert(1)>&amp;"\u2028'


class Elements(HTMLParser):
    """The elements of a page, and the text of its data."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=False)
        self.names: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.data = ""
        self._is_data = False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        self._is_data = ("id", "data") in attrs

    def handle_data(self, data: str) -> None:
        if self._is_data:
            self.data += data

    def handle_endtag(self, tag: str) -> None:
        self._is_data = False


def read_data(path: Path) -> Any:
    return json.loads(Elements(path.read_text("utf-8")).data)


@pytest.fixture
def page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., Path]:
    """Evaluates the sample, or what is named, to a page."""

    def evaluate(*arguments: str, name: str = "page.html") -> Path:
        assert main([*arguments, "--html", str(tmp_path / name)]) == 0
        capsys.readouterr()
        return tmp_path / name

    return evaluate


def write_problem(folder: Path, *, classes: list[str], images: int = 6) -> tuple[str, str]:
    """COCO files with an object of each class on each image, found with falling scores."""
    rng = np.random.default_rng(0)
    categories = [{"id": k + 1, "name": name} for k, name in enumerate(classes)]
    truth: dict[str, Any] = {"categories": categories, "annotations": []}
    truth["images"] = [
        {"id": i, "file_name": f"{i}.png", "width": 200, "height": 100} for i in range(images)
    ]
    results = []
    for i in range(images):
        for k in range(len(classes)):
            box = [float(v) for v in rng.integers(0, 60, 2)] + [30.0, 20.0]
            key = {"image_id": i, "category_id": k + 1, "bbox": box}
            number = len(truth["annotations"]) + 1
            truth["annotations"].append(key | {"id": number, "area": 600.0, "iscrowd": 0})
            label = k if rng.random() < 0.7 else (k + 1) % len(classes)
            score = float(rng.random())
            results.append(key | {"score": score, "category_id": label + 1})
    paths = folder / "truth.json", folder / "results.json"
    for path, content in zip(paths, (truth, results), strict=True):
        path.write_text(json.dumps(content))
    return str(paths[0]), str(paths[1])


def test_the_same_input_gives_the_same_bytes(page: Callable[..., Path]) -> None:
    first = page().read_bytes()
    assert page().read_bytes() == first


def test_the_report_in_the_page_is_the_json_report(
    page: Callable[..., Path], tmp_path: Path
) -> None:
    report = tmp_path / "report.json"
    flags = ["--explain", "--slices", "--worst", "100", "--labels", "--uncertainty"]
    path = page(*flags, "--json", str(report))
    expected, shown = json.loads(report.read_text()), read_data(path)["report"]
    analyses = ("explanation", "slices", "worst_images", "label_candidates")
    expected["results"] = expected["results"][:1]
    assert len(shown["results"]) == 2
    shown["results"] = shown["results"][:1]
    for key in analyses:  # rounded to six digits, all others are whole
        result = expected["results"][0]
        result[key] = round_numbers(result[key])
    assert shown == expected


def test_every_point_of_a_curve_has_the_counts_of_the_operating_points(
    page: Callable[..., Path],
) -> None:
    data = read_data(page())
    points = data["report"]["results"][0]["explanation"]["operating_points"]["per_class"]
    for curve, point in zip(data["view"]["curves"]["classes"], points, strict=True):
        for kind in ("common", "best_F1", "precision_90", "recall_90"):
            named = point[kind]
            if named["threshold"] is None:
                continue
            place = curve["score"].index(named["threshold"])
            reported = named["true_positives"] + named["false_positives"]
            assert (curve["true"][place], curve["reported"][place]) == (
                named["true_positives"],
                reported,
            )


def test_bars_of_the_histogram_add_up_to_all_detections_that_count(
    page: Callable[..., Path],
) -> None:
    curves = read_data(page())["view"]["curves"]
    for kind in ("bins_true", "bins_false"):
        parts = np.array([curve[kind] for curve in curves["classes"]])
        assert parts.sum(axis=0).tolist() == curves["all"][kind]
    assert sum(curves["all"]["bins_true"]) == curves["all"]["true"][-1]


def test_boxes_of_an_image_are_its_objects_and_its_detections_from_the_threshold(
    page: Callable[..., Path],
) -> None:
    data = read_data(page("--worst", "100"))
    result = data["report"]["results"][0]
    costs = result["worst_images"]["images"]
    threshold = result["explanation"]["operating_points"]["threshold"]
    total = 0
    for image, cost in zip(data["view"]["images"], costs, strict=True):
        kinds = [box[0] for box in image["boxes"]]
        assert kinds.count(0) + kinds.count(2) == cost["objects"]
        assert all(box[3] is None or box[3] >= threshold for box in image["boxes"])
        total += kinds.count(0)
    common = result["explanation"]["operating_points"]["per_class"]
    assert total == sum(point["common"]["true_positives"] for point in common)


def test_names_made_of_markup_stay_data(page: Callable[..., Path], tmp_path: Path) -> None:
    names = [MARKUP, "<!--", "[[script]]", "x"]
    path = page(*write_problem(tmp_path, classes=names))
    plain = Elements(page(name="plain.html").read_text("utf-8"))
    elements = Elements(path.read_text("utf-8"))
    assert elements.names == plain.names
    shown = json.loads(elements.data)["report"]["results"][0]["per_class"]
    assert {row["name"] for row in shown} == set(names)
    assert not re.search("[<>&\u2028]", elements.data)


def test_the_page_names_no_address_and_its_policy_allows_none(page: Callable[..., Path]) -> None:
    text = page().read_text("utf-8")
    elements = Elements(text)
    own = "http://www.w3.org/2000/svg"  # a name, which nothing asks for
    assert set(re.findall(r"https?://[^\s\"'<)]*", text)) == {own}
    assert not {"link", "iframe", "object", "embed", "form", "base"} & set(elements.names)
    assert not [1 for name, _ in elements.attributes if name.startswith("on") or name == "src"]
    policy = next(value for name, value in elements.attributes if "default-src" in value)
    assert "default-src 'none'" in policy
    assert "http" not in policy


def test_scripts_never_turn_text_into_markup() -> None:
    for path in (Path(__file__).parents[3] / "metrics/reports/page").glob("*.js"):
        text = path.read_text("utf-8")
        banned = ("innerHTML", "outerHTML", "insertAdjacent", "document.write", "eval(", "fetch(")
        assert not [word for word in banned if word in text], path.name
        assert "</script" not in text


def test_a_size_that_is_too_small_leaves_out_thumbnails_first_and_says_so(
    page: Callable[..., Path], tmp_path: Path
) -> None:
    inputs = write_problem(tmp_path, classes=["a", "b"])
    folder = tmp_path / "images"
    folder.mkdir()
    rng = np.random.default_rng(1)
    for i in range(6):
        pixels = rng.integers(0, 255, (100, 200, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.png")
    whole = page(*inputs, "--images", str(folder))
    assert all(image["thumbnail"] for image in read_data(whole)["view"]["images"])
    limit = len(whole.read_bytes()) - 1000
    small = page(*inputs, "--images", str(folder), "--html-size", str(limit), name="small.html")
    data = read_data(small)
    assert len(small.read_bytes()) <= limit
    assert data["omitted"] == ["the thumbnails of images"]
    assert not any("thumbnail" in image for image in data["view"]["images"])


def test_an_image_that_cannot_be_read_has_boxes_and_no_thumbnail(
    page: Callable[..., Path], tmp_path: Path
) -> None:
    inputs = write_problem(tmp_path, classes=["a"], images=2)
    folder = tmp_path / "images"
    folder.mkdir()
    (folder / "0.png").write_bytes(b"not an image")
    images = read_data(page(*inputs, "--images", str(folder)))["view"]["images"]
    assert [image["thumbnail"] for image in images] == [None, None]
    assert all(image["boxes"] for image in images)


def test_a_size_that_no_page_fits_is_refused_and_nothing_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "page.html"
    assert main(["--html", str(target), "--html-size", "10kB"]) == 2
    assert "error: --html-size: the page needs at least" in capsys.readouterr().err
    assert not target.exists()


@pytest.mark.parametrize("size", ["", "5 XB", "-1", "nan"])
def test_a_size_that_is_none_is_refused(size: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([f"--html-size={size}"]) == 2
    assert "expected a size such as 900kB or 5MB" in capsys.readouterr().err


def test_an_earlier_page_in_a_folder_of_inputs_may_be_overwritten(
    page: Callable[..., Path],
) -> None:
    assert page().read_bytes().startswith(BEGINNINGS[-1])


def test_a_page_goes_to_stdout_in_place_of_the_tables(
    capfdbinary: pytest.CaptureFixture[bytes],
) -> None:
    assert main(["--html", "-"]) == 0
    assert capfdbinary.readouterr().out.startswith(b"<!doctype html>")


@pytest.mark.parametrize("detections", ["none", "one"])
def test_a_page_of_nearly_nothing_is_drawn(
    page: Callable[..., Path], tmp_path: Path, detections: str
) -> None:
    truth, results = write_problem(tmp_path, classes=["a", "b"], images=1)
    kept = json.loads(Path(results).read_text())[: detections == "one"]
    Path(results).write_text(json.dumps(kept))
    data = read_data(page(truth, results))
    assert len(data["view"]["curves"]["classes"]) == 2
    assert math.isfinite(len(data["view"]["remarks"]))


def test_rounding_keeps_six_digits_and_takes_what_is_undefined_for_none() -> None:
    values = {"a": [1 / 3, math.inf], "b": (12345678, "x", -0.0000012345678)}
    rounded = {"a": [0.333333, None], "b": [12345678, "x", -1.23457e-06]}
    assert round_numbers(values) == rounded


def test_data_that_looks_like_the_template_changes_nothing() -> None:
    data = {"name": "[[script]] [[style]] [[data]]"}
    text = compose_document(data, "evaluation").decode()
    assert json.loads(Elements(text).data) == data
    assert text.count("<script") == 2


def test_the_command_line_of_the_page_gives_the_page_again(
    page: Callable[..., Path], tmp_path: Path
) -> None:
    import shlex

    path = page("--set", "strict=true", "--protocol", "voc2010", name="a page.html")
    command = read_data(path)["view"]["provenance"]["command"]
    words = shlex.split(command)
    assert words[:2] == ["upmap", "evaluate"]
    first = path.read_bytes()
    assert main(words[2:]) == 0
    assert path.read_bytes() == first


def test_a_command_line_leaves_out_defaults() -> None:
    from upmap.metrics.evaluate import Options

    options = Options(ground_truth="a b", detections="c", explain=True, classes=("x", "y"))
    words = "upmap evaluate 'a b' c --classes x,y --explain"
    assert describe_command_line("upmap evaluate", options) == words
