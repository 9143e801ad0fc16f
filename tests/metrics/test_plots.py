"""Figures and notebook tables show the numbers of results; names from files stay text."""

import math
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest

from tests.metrics.analysis.problems import random_tables
from upmap.detection import detections_from_arrays, ground_truth_from_arrays
from upmap.errors import InputError
from upmap.metrics import COCO, VOC2010, Evaluation, evaluate_matches, match
from upmap.metrics.analysis import DetectorComparison, compare, estimate_uncertainty
from upmap.metrics.reports.text import score_text

HOSTILE = ["<script>alert(1)</script>", "$\\frac{$", "_\"quoted\" & 'more'", "line\nbreak"]
BOX = [0, 0, 20, 20]


@pytest.fixture
def plots(monkeypatch: pytest.MonkeyPatch) -> Any:
    pyplot = pytest.importorskip("matplotlib.pyplot")
    pyplot.switch_backend("Agg")
    yield pyplot
    pyplot.close("all")


@pytest.fixture
def evaluation() -> Evaluation:
    return evaluate_matches(match(*random_tables(0), VOC2010))


@pytest.fixture
def comparison() -> DetectorComparison:
    truth, first = random_tables(0)
    return compare(*(match(truth, each, COCO) for each in (first, random_tables(0, levels=5)[1])))


def hostile() -> Evaluation:
    image = {"boxes": [BOX] * len(HOSTILE), "labels": HOSTILE}
    scores = {"scores": [0.5] * len(HOSTILE)}
    truth = ground_truth_from_arrays([image] * 3)
    return evaluate_matches(match(truth, detections_from_arrays([image | scores] * 3), VOC2010))


def test_the_curves_and_intervals_drawn_are_those_of_the_result(
    plots: Any, evaluation: Evaluation
) -> None:
    curves, forest = evaluation.plot()
    assert len(curves.lines) == 3
    name = max(evaluation.per_class, key=lambda name: evaluation.per_class[name].positives)
    drawn, expected = curves.lines[0], evaluation.curve(name)
    assert np.array_equal(drawn.get_xdata()[1:], expected.recall)
    assert np.array_equal(drawn.get_ydata()[1:], expected.precision)
    assert drawn.get_label() == f"{evaluation.per_class[name].AP:.3f} {name}"
    estimates = estimate_uncertainty(evaluation.match_table).per_class
    labels = [text.get_text() for text in forest.get_yticklabels()]
    assert sorted(labels) == sorted(estimates)
    (segments,) = (part.get_segments() for part in forest.collections)
    for label, segment in zip(labels, segments, strict=True):
        assert segment[:, 0].tolist() == [estimates[label].low, estimates[label].high]
    assert [estimates[label].value for label in labels] == sorted(forest.lines[-1].get_xdata())


def test_named_classes_are_in_front_and_unknown_ones_are_refused(
    plots: Any, evaluation: Evaluation
) -> None:
    curves, _ = evaluation.plot(classes=["b"])
    assert [line.get_label()[6:] for line in curves.lines if line.get_color() != "0.8"] == ["b"]
    assert len(curves.lines) == 3
    with pytest.raises(ValueError, match="no class 'x'"):
        evaluation.plot(classes=["x"])
    with pytest.raises(ValueError, match="iou must be one of"):
        evaluation.plot(iou=0.9)


def test_differences_are_drawn_below_the_numbers(
    plots: Any, comparison: DetectorComparison
) -> None:
    axes = comparison.plot()
    labels = [text.get_text() for text in axes.get_yticklabels()]
    numbers = [n for n, row in comparison.metrics.items() if not math.isnan(row.delta)]
    assert labels[-len(numbers) :] == numbers[::-1]
    deltas = {n: row.delta for n, row in (comparison.metrics | comparison.per_class).items()}
    assert axes.lines[-2].get_xdata().tolist() == [deltas[label] for label in labels]


def test_hostile_names_are_drawn_as_they_are(plots: Any) -> None:
    curves, forest = hostile().plot()
    curves.figure.canvas.draw()  # mathematics that does not parse would raise here
    assert len(curves.get_legend().get_texts()) == len(HOSTILE)
    assert len(forest.get_yticklabels()) == len(HOSTILE)


def test_nothing_to_draw_gives_empty_axes(plots: Any) -> None:
    nothing = match(ground_truth_from_arrays([]), detections_from_arrays([]), VOC2010)
    curves, forest = evaluate_matches(nothing).plot()
    curves.figure.canvas.draw()
    assert len(curves.lines) == 0
    assert forest.get_yticklabels() == []


def test_without_matplotlib_one_line_says_what_brings_it(
    evaluation: Evaluation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("upmap.extras.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r'matplotlib; `pip install "upmap\[plots\]"` brings it'):
        evaluation.plot()


class Cells(HTMLParser):
    """The rows of all tables, and every tag."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.tags: set[str] = set()
        self.is_cell = False

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.add(tag)
        self.is_cell = tag in ("td", "th")
        if tag == "tr":
            self.rows.append([])
        if self.is_cell:
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        self.is_cell = False

    def handle_data(self, data: str) -> None:
        if self.is_cell:
            self.rows[-1][-1] += data


def read_cells(html: str) -> Cells:
    cells = Cells()
    cells.feed(html)
    return cells


def test_the_table_of_a_notebook_has_each_number_with_its_interval(
    evaluation: Evaluation, comparison: DetectorComparison
) -> None:
    rows = {row[0]: row[1:] for row in read_cells(evaluation._repr_html_()).rows}
    uncertainty = estimate_uncertainty(evaluation.match_table)
    for name, estimate in uncertainty.metrics.items():
        assert rows[name] == [*map(score_text, (estimate.value, estimate.low, estimate.high))]
    for name, scores in evaluation.per_class.items():
        assert rows[name][:3] == [
            str(scores.positives),
            str(scores.detections),
            score_text(scores.AP),
        ]
    rows = {row[0]: row[1:] for row in read_cells(comparison._repr_html_()).rows}
    for name, row in comparison.metrics.items():
        assert rows[name][0] == score_text(row.a)
        assert rows[name][2] == ("n/a" if math.isnan(row.delta) else f"{row.delta:+.6f}")


def test_names_from_files_never_become_markup_in_notebooks() -> None:
    result = hostile()
    for html in (
        result._repr_html_(),
        compare(result.match_table, result.match_table)._repr_html_(),
    ):
        cells = read_cells(html)
        assert cells.tags == {"div", "p", "table", "tr", "th", "td", "details", "summary"}
        names = {row[0] for row in cells.rows}
        assert {HOSTILE[0], HOSTILE[1], HOSTILE[2]} <= names
