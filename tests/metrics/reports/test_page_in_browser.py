"""The page of an evaluation in a browser: what is clicked, moved and typed does what it says."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.metrics.reports.browser import find_violations, launch, visit
from tests.metrics.reports.test_page import MARKUP, read_data, write_problem
from upmap.metrics.evaluate import main


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with launch() as browser:
        yield browser


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "page.html"
    assert main(["--html", str(path), "--protocol", "voc2010"]) == 0
    return path


@pytest.fixture(scope="module")
def result(page_file: Path) -> Any:
    return read_data(page_file)["report"]["results"][0]


def test_the_headline_is_the_number_of_the_report(
    browser: Any, page_file: Path, result: Any
) -> None:
    estimate = result["uncertainty"]["metrics"]["mAP"]
    with visit(browser, page_file) as page:
        assert page.inner_text("#headline") == f"{estimate['value']:.3f}"
        assert page.inner_text("#interval") == f"{estimate['low']:.3f} to {estimate['high']:.3f}"
        assert page.title().startswith(f"mAP {estimate['value']:.3f}")


def test_the_table_of_classes_has_the_numbers_of_the_report(
    browser: Any, page_file: Path, result: Any
) -> None:
    with visit(browser, page_file) as page:
        for k, row in enumerate(result["per_class"]):
            cells = page.locator(f'#classes [data-class="{k}"] > *').all_inner_texts()
            assert cells[0] == row["name"]
            assert cells[2] == f"{row['AP']:.3f}"
            assert cells[4:6] == [str(row["positives"]), str(row["detections"])]


def test_a_click_on_a_heading_sorts_the_classes(browser: Any, page_file: Path, result: Any) -> None:
    by_objects = sorted(result["per_class"], key=lambda row: row["positives"])
    with visit(browser, page_file) as page:
        for names in ([row["name"] for row in by_objects[::-1]], [by_objects[0]["name"]]):
            page.click("#classes thead >> text=Objects")
            shown = page.locator("#classes tbody th").all_inner_texts()
            assert shown[0] == names[0]
            counts = page.locator("#classes tbody td:nth-child(5)").all_inner_texts()
        assert counts == sorted(counts, key=int)
        assert page.get_attribute("#classes th:has-text('Objects')", "aria-sort") == "ascending"


def test_a_click_on_a_class_and_a_button_leads_to_its_threshold(
    browser: Any, page_file: Path, result: Any
) -> None:
    points = result["explanation"]["operating_points"]["per_class"]
    with visit(browser, page_file) as page:
        page.click('#classes [data-class="2"] button')
        assert page.inner_text("#threshold-panel h3") == result["per_class"][2]["name"]
        page.click("#threshold-panel >> text='best F1'")
        best = points[2]["best_F1"]
        sentence = f"{best['true_positives']} of {best['positives']} objects found"
        assert sentence in page.inner_text("#counts")
        assert f"{best['threshold']:.4f}" in page.inner_text("#counts")
        cells = page.locator("#threshold-panel tbody tr").all_inner_texts()
        assert cells[0].split()[1] == f"{best['precision']:.3f}"
        assert cells[1].split()[1] == f"{best['recall']:.3f}"


def test_the_slider_moves_over_exact_counts_by_keys(browser: Any, page_file: Path) -> None:
    curve = read_data(page_file)["view"]["curves"]["all"]
    with visit(browser, page_file) as page:
        page.focus("#threshold")
        page.keyboard.press("Home")
        last = f"{curve['true'][-1]} of {curve['positives']} objects found"
        assert last in page.inner_text("#counts")
        page.keyboard.press("ArrowRight")
        assert f"{curve['score'][-2]:.4f}" in page.inner_text("#counts")
        page.keyboard.press("End")
        assert f"0 of {curve['positives']} objects found" in page.inner_text("#counts")


def test_a_kind_of_error_filters_the_images(browser: Any, page_file: Path) -> None:
    data = read_data(page_file)
    keys = [error["key"] for error in data["view"]["errors"]]
    expected = [
        image
        for image in data["view"]["images"]
        if any(box[1] == keys.index("Loc") for box in image["boxes"])
    ]
    with visit(browser, page_file) as page:
        page.click('#costs [data-error="Loc"]')
        assert f"of {len(expected)} image" in page.inner_text("#shown")
        assert page.locator(".images li").count() == min(24, len(expected))
        page.click('#costs [data-error="Loc"]')
        assert f"of {len(data['view']['images'])} image" in page.inner_text("#shown")


def test_images_are_walked_and_enlarged_by_keys(browser: Any, page_file: Path, result: Any) -> None:
    names = [row["image"] for row in result["worst_images"]["images"]]
    with visit(browser, page_file) as page:
        page.focus(".images button")
        page.keyboard.press("ArrowRight")
        page.keyboard.press("Enter")
        assert page.inner_text("dialog h2") == names[1]
        page.keyboard.press("ArrowRight")
        assert page.inner_text("dialog h2") == names[2]
        page.keyboard.press("Escape")
        assert not page.is_visible("dialog")


def test_costs_can_be_shown_alone(browser: Any, page_file: Path, result: Any) -> None:
    errors = result["explanation"]["errors"]
    with visit(browser, page_file) as page:
        for text, kind in (("Each alone", "gains"), ("Shares", "shares")):
            page.click(f"#costs button:has-text('{text}')")
            for key, value in errors[kind].items():
                amount = page.inner_text(f'#costs [data-error="{key}"] .amount')
                assert amount == f"{value:+.3f}".replace("-", "\u2212")


def test_the_download_is_the_report(browser: Any, page_file: Path, tmp_path: Path) -> None:
    with visit(browser, page_file) as page:
        with page.expect_download() as download:
            page.click("#download")
        download.value.save_as(tmp_path / "report.json")
    saved = json.loads((tmp_path / "report.json").read_text())
    assert saved == read_data(page_file)["report"]


def test_chosen_labels_are_saved(
    browser: Any, page_file: Path, result: Any, tmp_path: Path
) -> None:
    first = result["label_candidates"]["missing"][0]
    with visit(browser, page_file) as page:
        page.check("#labels input >> nth=0")
        with page.expect_download() as download:
            page.click("text=Save as CSV")
        download.value.save_as(tmp_path / "labels.csv")
    lines = (tmp_path / "labels.csv").read_text().splitlines()
    assert len(lines) == 2
    assert lines[1].startswith(f"missing,{first['image']},{first['label']},")


@pytest.mark.parametrize(("width", "is_dark"), [(1280, False), (1280, True), (390, False)])
def test_axe_has_nothing_to_say(browser: Any, page_file: Path, width: int, is_dark: bool) -> None:
    with visit(browser, page_file, width=width, is_dark=is_dark, bypass_csp=True) as page:
        page.evaluate("document.querySelectorAll('details').forEach((each) => each.open = true)")
        assert find_violations(page) == []
        page.click(".images button")
        assert find_violations(page) == []


def test_a_phone_need_not_scroll_sideways_and_dark_is_dark(browser: Any, page_file: Path) -> None:
    with visit(browser, page_file, width=360, is_dark=True) as page:
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
        color = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert max(map(int, color[4:-1].split(","))) < 60
        page.click("#theme")
        color = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert min(map(int, color[4:-1].split(","))) > 200


def test_names_made_of_markup_are_shown_as_text(browser: Any, tmp_path: Path) -> None:
    inputs = write_problem(tmp_path, classes=[MARKUP, "<b>bold</b>", "x"])
    assert main([*inputs, "--html", str(tmp_path / "page.html")]) == 0
    with visit(browser, tmp_path / "page.html") as page:
        shown = page.locator("#classes tbody th").all_text_contents()
        assert set(shown) == {MARKUP, "<b>bold</b>", "x"}
        assert page.locator("img, b").count() == 0


@pytest.mark.parametrize("count", [0, 1])
def test_a_page_of_nearly_nothing_is_drawn_whole(browser: Any, tmp_path: Path, count: int) -> None:
    truth, results = write_problem(tmp_path, classes=["a", "b"], images=1)
    Path(results).write_text(json.dumps(json.loads(Path(results).read_text())[:count]))
    assert main([truth, results, "--html", str(tmp_path / "page.html")]) == 0
    with visit(browser, tmp_path / "page.html") as page:
        assert page.locator("section.card").count() == 10
