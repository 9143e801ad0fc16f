"""Tests of comparisons of operators: results, budgets, pictures and the program."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from upmap.segmentation.augmentation import AugmentationOptions
from upmap.segmentation.compare import (
    CompareOptions,
    Comparison,
    compare_operators,
    main,
    paired_difference,
)
from upmap.segmentation.comparison.pictures import (
    Sample,
    _window,
    draw_curves,
    draw_predictions,
    draw_scores,
    most_informative,
)
from upmap.segmentation.comparison.report import format_report, format_table
from upmap.segmentation.models import ModelOptions
from upmap.segmentation.training_options import TrainOptions

TINY = TrainOptions(
    epochs=1,
    batch_size=50,
    factor=0.25,
    model=ModelOptions(width=4, depth=2),
    augmentation=AugmentationOptions(crop=(64, 96)),
)
FLAGS = [
    *("--training.epochs", "1", "--training.batch-size", "100", "--training.factor", "0.25"),
    *("--seeds", "1"),
]


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    out = tmp_path_factory.mktemp("compared")
    options = CompareOptions(
        operators=("bilinear", "transposed"), seeds=2, out=str(out), training=TINY, budget="params"
    )
    return compare_operators(options)


def test_the_paired_difference_is_that_of_the_paired_t_test() -> None:
    from scipy import stats

    generator = np.random.default_rng(0)
    scores, baseline = generator.random((2, 5))
    difference = paired_difference(scores.tolist(), baseline.tolist())
    expected = stats.ttest_rel(scores, baseline).confidence_interval(0.95)
    assert [difference["low"], difference["high"]] == pytest.approx([expected.low, expected.high])


def test_results_hold_every_seed_of_every_operator(two: Comparison) -> None:
    assert list(two.results["operators"]) == ["bilinear", "transposed"]
    for operator in two.results["operators"].values():
        assert all(0 < miou < 1 for miou in operator["miou"])
        for key in ("miou", "boundary_iou", "checkerboard_initial", "best_epoch", "history"):
            assert len(operator[key]) == 2
        assert min(operator[key] for key in ("parameters", "macs", "forward", "memory")) > 0
    assert two.results["operators"]["bilinear"]["miou_difference"]["high"] == 0
    json.dumps(two.results, allow_nan=False)


def test_a_budget_matches_parameters(two: Comparison) -> None:
    base, other = (operator["parameters"] for operator in two.results["operators"].values())
    assert abs(other / base - 1) < 0.05


def test_seeds_are_paired_and_repeat(two: Comparison, tmp_path: Path) -> None:
    options = CompareOptions(operators=("bilinear",), seeds=1, out=str(tmp_path), training=TINY)
    again = compare_operators(options).results["operators"]["bilinear"]
    assert again["miou"] == two.results["operators"]["bilinear"]["miou"][:1]


def test_a_picture_shows_every_operator(two: Comparison) -> None:
    figure = draw_predictions(most_informative(two.samples, 2), two.palette)
    titles = [axes.get_title() for axes in figure.axes[:4]]
    assert titles == ["image", "truth", "bilinear", "transposed"]
    assert len(figure.axes) == 2 * 2 * 4
    assert len(draw_scores(two.results).axes) == 6
    assert [len(axes.lines) for axes in draw_curves(two.results).axes] == [2, 2]


def test_the_report_has_a_row_for_every_operator(two: Comparison) -> None:
    lines = format_table(two.results).splitlines()
    assert [line.split()[1] for line in lines[2:]] == ["bilinear", "transposed"]
    assert len({len(line) for line in lines}) == 1
    assert "![scores](scores.png)" in format_report(two.results, ["scores.png"])


def sample(predicted: Mapping[str, Any], label: Any) -> Sample:
    return Sample("one", np.zeros((*label.shape, 3), np.uint8), label, predicted)


def test_the_window_is_on_the_edge_where_predictions_differ() -> None:
    label = np.zeros((40, 40), np.uint8)
    label[:, 20:] = 1
    other = label.copy()
    other[30:34, 18:20] = 1
    other[:5, :5] = 1  # far from all edges: of no interest
    top, left, height, width = _window(sample({"one": label, "other": other}, label))
    assert top <= 30 < 34 <= top + height
    assert left <= 18 < 20 <= left + width


def test_without_differences_the_window_is_on_an_edge() -> None:
    label = np.zeros((40, 40), np.uint8)
    label[20:, 20:] = 1
    top, left, height, width = _window(sample({"one": label}, label))
    assert len(np.unique(label[top : top + height, left : left + width])) == 2


def test_the_program_writes_a_folder_to_look_at_and_goes_on_with_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = [*FLAGS, "--operators", "bilinear,nearest", "--out", str(tmp_path / "out")]
    assert main(flags) == 0
    shown = capsys.readouterr()
    assert "| nearest" in shown.out
    assert "nearest, seed 0: mIoU" in shown.err
    names = {path.name for path in (tmp_path / "out").iterdir()}
    pictures = {"scores.png", "curves.png", "predictions.png"}
    assert names == pictures | {"results.json", "report.md", "bilinear-0", "nearest-0"}
    assert main(flags) == 2
    assert "exists already" in capsys.readouterr().err
    (tmp_path / "out" / "results.json").rename(tmp_path / "before.json")
    assert main([*flags, "--resume"]) == 0
    before, after = (
        json.loads(path.read_text())["operators"]["nearest"]
        for path in (tmp_path / "before.json", tmp_path / "out" / "results.json")
    )
    assert after["history"] == before["history"]
    assert after["miou"] == before["miou"]


@pytest.mark.parametrize(
    ("flag", "value", "named"),
    [
        ("--operators", "bilinear,magic", "magic"),
        ("--operators", "nearest", "bilinear"),
        ("--operators", "bilinear,bilinear", "different"),
        ("--seeds", "0", "seeds"),
        ("--budget", "money", "money"),
        ("--training.out", "elsewhere", "training.out"),
        ("--training.model.upsampling", "nearest", "training.model.upsampling"),
        ("--training.dataset", "magic", "magic"),
    ],
)
def test_wrong_options_are_one_line_and_exit_2(
    flag: str, value: str, named: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([flag, value, "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert named in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_budget_that_cannot_be_met_is_an_input_error() -> None:
    from upmap.errors import InputError

    model = replace(TINY.model, architecture="fcn8s")  # depth 2 has no features at stride 8
    options = CompareOptions(training=replace(TINY, model=model), operators=("bilinear",))
    with pytest.raises(InputError, match="stride 8"):
        compare_operators(options)
