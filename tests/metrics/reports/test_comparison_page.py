"""The page of a comparison: read without a browser, and in one."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.metrics.reports.browser import find_violations, launch, visit
from tests.metrics.reports.test_page import MARKUP, Elements, read_data, write_problem
from tests.metrics.test_compare import make
from upmap.metrics.compare import main


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("comparison")
    return make(folder) | {"html": str(folder / "page.html"), "json": str(folder / "report.json")}


@pytest.fixture(scope="module")
def page_file(files: dict[str, str]) -> Path:
    """The page of three detectors, the second worse than the first and the third like it."""
    detectors = [files[name] for name in "tadb"]
    bounds = ["--not-worse", "0.01", "--fail-under", "0.2"]
    arguments = [*detectors, "--html", files["html"], "--json", files["json"], *bounds]
    assert main(arguments) == 1
    return Path(files["html"])


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with launch() as browser:
        yield browser


def test_the_report_in_the_page_is_the_json_report(page_file: Path, files: dict[str, str]) -> None:
    data = read_data(page_file)
    assert data["report"] == json.loads(Path(files["json"]).read_text())
    assert data["view"]["labels"] == ["a.csv", "d.csv", "b.csv"]


def test_the_bounds_are_judged_as_the_exit_status_says(page_file: Path) -> None:
    outcomes = [bound["outcome"] for bound in read_data(page_file)["view"]["bounds"]]
    assert outcomes == ["holds", "does not hold"]


def test_costs_of_each_detector_add_up_to_what_misses_to_1(page_file: Path) -> None:
    data = read_data(page_file)
    for costs, detector in zip(data["view"]["costs"], data["report"]["detectors"], strict=True):
        missing = 1 - detector["metrics"]["AP50"]["value"]
        assert sum(costs["shares"].values()) == pytest.approx(missing, abs=6e-6)  # six digits


def test_a_bootstrap_has_a_histogram_of_its_replicates(files: dict[str, str]) -> None:
    arguments = [files["t"], files["a"], files["b"], "--bootstrap", "100"]
    assert main([*arguments, "--html", files["html"] + "b"]) == 0
    (replicates,) = read_data(Path(files["html"] + "b"))["view"]["replicates"]
    assert sum(replicates["counts"]) == 100


def test_the_same_input_gives_the_same_bytes(files: dict[str, str]) -> None:
    path = Path(files["html"]).with_name("again.html")
    arguments = [files["t"], files["a"], files["b"], "--html", str(path)]
    assert main(arguments) == 0
    first = path.read_bytes()
    assert main(arguments) == 0
    assert path.read_bytes() == first


def test_names_made_of_markup_stay_data(tmp_path: Path) -> None:
    truth, results = write_problem(tmp_path, classes=[MARKUP, "x"])
    plain = tmp_path / "plain.html"
    path = tmp_path / "page.html"
    assert main([truth, results, results, "--html", str(path)]) == 0
    truth, results = write_problem(tmp_path, classes=["y", "x"])
    assert main([truth, results, results, "--html", str(plain)]) == 0
    elements = Elements(path.read_text("utf-8"))
    assert elements.names == Elements(plain.read_text("utf-8")).names
    assert MARKUP in json.loads(elements.data)["report"]["pairs"][0]["per_class"]


def test_a_size_that_no_page_fits_is_refused(
    files: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    path = Path(files["html"]).with_name("small.html")
    arguments = [files["t"], files["a"], files["b"], "--html", str(path), "--html-size", "1kB"]
    assert main(arguments) == 2
    assert "--html-size: the page needs at least" in capsys.readouterr().err
    assert not path.exists()


def test_the_verdict_is_that_of_the_report_and_follows_the_detector_that_is_chosen(
    browser: Any, page_file: Path
) -> None:
    data = read_data(page_file)
    pairs = [pair for pair in data["report"]["pairs"] if pair["a"].endswith("a.csv")]
    with visit(browser, page_file) as page:
        for i, pair in enumerate(pairs):
            page.select_option("#pair", str(i))
            row = pair["metrics"]["AP"]
            assert page.inner_text("#delta") == f"{row['delta']:+.3f}".replace("-", "\u2212")
            is_shown = row["p"] < 0.05
            words = "No difference shown" if not is_shown else "B is worse"
            assert page.inner_text("#headline") == words
            cells = page.locator('#classes [data-class="0"] > *').all_inner_texts()
            name, difference = next(iter(pair["per_class"].items()))
            assert cells[0] == name
            assert cells[5] == f"{difference['delta']:+.3f}".replace("-", "\u2212")


@pytest.mark.parametrize(("width", "is_dark"), [(1280, False), (1280, True), (360, False)])
def test_axe_has_nothing_to_say_and_nothing_scrolls_sideways(
    browser: Any, page_file: Path, width: int, is_dark: bool
) -> None:
    with visit(browser, page_file, width=width, is_dark=is_dark, bypass_csp=True) as page:
        page.evaluate("document.querySelectorAll('details').forEach((each) => each.open = true)")
        assert find_violations(page) == []
        assert page.evaluate("document.documentElement.scrollWidth") <= width
