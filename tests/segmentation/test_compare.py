"""Tests of comparisons of operators: results, budgets, pictures and the program."""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from upmap.errors import InputError
from upmap.segmentation import compare, train
from upmap.segmentation.augmentation import AugmentationOptions
from upmap.segmentation.compare import CompareOptions, Comparison, compare_operators, main
from upmap.segmentation.comparison.pictures import (
    Sample,
    _window,
    draw_all,
    draw_predictions,
    most_informative,
)
from upmap.segmentation.comparison.report import format_costs, format_report, format_scores
from upmap.segmentation.comparison.runs import Run, execute_runs
from upmap.segmentation.comparison.variants import parse_variant
from upmap.segmentation.evaluation import evaluate_model
from upmap.segmentation.models import ModelOptions
from upmap.segmentation.survey import survey_dataset
from upmap.segmentation.train import Diverged
from upmap.segmentation.training_options import TrainOptions

TINY = TrainOptions(
    dataset="edges",
    epochs=1,
    batch_size=100,
    factor=0.5,
    model=ModelOptions(width=2, depth=3),
    augmentation=AugmentationOptions(crop=(64, 64)),
)
FLAGS = [
    *("--training.epochs", "1", "--training.batch-size", "200", "--training.factor", "0.5"),
    *("--seeds", "1", "--processes", "1", "--architectures", "fcn8s"),
]
BILINEAR = "transposed{bilinear_init=true}"
TIMES = ("forward", "forward_backward", "images_per_second")


def without_times(results: dict[str, Any]) -> dict[str, Any]:
    """The panels of results.json without what a clock has measured."""
    panels: dict[str, Any] = json.loads(json.dumps(results["panels"]))
    for panel in panels.values():
        for operator in panel["operators"].values():
            for key in TIMES:
                del operator[key]
            for history in operator["history"]:
                for row in history:
                    del row["seconds"]
    return panels


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    out = tmp_path_factory.mktemp("compared")
    options = CompareOptions(
        operators=("bilinear", BILINEAR),
        architectures=("fcn8s", "unet{width=3}"),
        seeds=2,
        out=str(out),
        training=TINY,
        processes=1,
    )
    return compare_operators(options)


def test_results_hold_every_seed_of_every_operator(two: Comparison) -> None:
    assert list(two.results["panels"]) == ["fcn8s", "unet{width=3}"]
    for panel in two.results["panels"].values():
        assert list(panel["operators"]) == ["bilinear", BILINEAR]
        for operator in panel["operators"].values():
            assert operator["seeds"] == [0, 1]
            assert all(0 < miou < 1 for miou in operator["miou"])
            for key in ("boundary_iou", "checkerboard_initial", "best_epoch", "history"):
                assert len(operator[key]) == 2
            assert min(operator[key] for key in ("parameters", "macs", "forward", "memory")) > 0
        assert panel["operators"]["bilinear"]["miou_difference"]["high"] == 0
    json.dumps(two.results, allow_nan=False)


def test_options_of_an_operator_reach_its_models(two: Comparison) -> None:
    for panel in two.results["panels"].values():
        gains = [score["gain"] for score in panel["operators"][BILINEAR]["checkerboard_initial"]]
        assert gains == pytest.approx([1, 1], abs=1e-6)  # a random kernel has less


def test_options_of_an_architecture_reach_its_models(two: Comparison) -> None:
    wide = replace(TINY.model, architecture="unet", classes=2, width=3)
    from upmap.segmentation.comparison.cost import parameters
    from upmap.segmentation.models import build_model

    operators = two.results["panels"]["unet{width=3}"]["operators"]
    assert operators["bilinear"]["parameters"] == parameters(build_model(wide))


def test_errors_by_place_are_those_of_the_operators_cell(two: Comparison) -> None:
    # At half the size, a cell of stride 8 has 16 px of the image.
    assert [panel["cell"] for panel in two.results["panels"].values()] == [16, 4]
    for panel in two.results["panels"].values():
        for operator in panel["operators"].values():
            rates = np.array(operator["error_by_place"])
            assert rates.shape == (panel["cell"],) * 2
            assert rates.mean() == pytest.approx(1 - np.mean(operator["pixel_accuracy"]))


def test_the_environment_is_recorded(two: Comparison) -> None:
    import torch

    environment = two.results["environment"]
    assert environment["torch"] == torch.__version__
    assert environment["threads"] == 1
    assert environment["cores"] >= 1
    assert environment["cpu"]


def test_a_budget_matches_parameters(tmp_path: Path) -> None:
    options = CompareOptions(
        operators=("bilinear", "transposed"),
        architectures=("unet",),
        seeds=1,
        out=str(tmp_path),
        training=replace(TINY, model=ModelOptions(width=4, depth=2)),
        processes=1,
        budget="params",
    )
    operators = compare_operators(options).results["panels"]["unet"]["operators"]
    base, other = (operator["parameters"] for operator in operators.values())
    assert abs(other / base - 1) < 0.05


def test_seeds_are_paired_and_repeat(two: Comparison, tmp_path: Path) -> None:
    options = CompareOptions(
        operators=("bilinear",),
        architectures=("fcn8s",),
        seeds=1,
        out=str(tmp_path),
        training=TINY,
        processes=1,
    )
    again = compare_operators(options).results["panels"]["fcn8s"]["operators"]["bilinear"]
    before = two.results["panels"]["fcn8s"]["operators"]["bilinear"]
    assert again["miou"] == before["miou"][:1]


def test_data_is_validated_once_and_test_images_are_scored_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    validated, evaluated = [], []

    def survey(dataset: Any, **options: Any) -> Any:
        validated.append(dataset.split)
        return survey_dataset(dataset, **options)

    def evaluate(model: Any, items: Any, *arguments: Any, **options: Any) -> Any:
        items = list(items)
        evaluated.append(len(items))
        return evaluate_model(model, items, *arguments, **options)

    monkeypatch.setattr(compare, "survey_dataset", survey)
    monkeypatch.setattr(train, "survey_dataset", survey)
    monkeypatch.setattr(train, "evaluate_model", evaluate)
    options = CompareOptions(
        operators=("bilinear", "nearest"),
        architectures=("fcn8s",),
        seeds=1,
        out=str(tmp_path),
        training=TINY,
        processes=1,
    )
    compare_operators(options)
    assert validated == ["train", "val", "test"]
    assert evaluated == [40, 40]  # the validation images after the epoch of each training


def test_pictures_show_every_operator_of_every_architecture(two: Comparison) -> None:
    figure = draw_predictions(most_informative(two.samples["fcn8s"], 2), two.palette)
    titles = [axes.get_title() for axes in figure.axes[:4]]
    assert titles == ["image", "truth", "bilinear", "transposed\nbilinear_init=true"]
    assert len(figure.axes) == 2 * 2 * 4
    figures = draw_all(two.results)
    assert list(figures) == ["scores.png", "curves.png", "places.png"]
    assert len(figures["scores.png"].axes) == 2 * 4
    assert [len(axes.lines) for axes in figures["curves.png"].axes] == [2] * 4
    assert len(figures["places.png"].axes) == 2 * 2 + 2  # maps, and a scale for each row


def test_the_report_has_a_row_for_every_operator(two: Comparison) -> None:
    for format_table in (format_scores, format_costs):
        lines = format_table(two.results, "fcn8s").splitlines()
        assert [line.split()[1] for line in lines[2:]] == ["bilinear", BILINEAR]
        assert len({len(line) for line in lines}) == 1
    report = format_report(two.results, ["scores.png"])
    assert "![scores](scores.png)" in report
    assert "- unet{width=3}: no operator's mIoU differs significantly" in report


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
    flags = [*FLAGS, "--operators", f"bilinear,{BILINEAR}", "--out", str(tmp_path / "out")]
    assert main(flags) == 0
    shown = capsys.readouterr()
    assert f"| {BILINEAR}" in shown.out
    assert f"fcn8s, {BILINEAR}, seed 0: mIoU" in shown.err
    names = {path.name for path in (tmp_path / "out").iterdir()}
    pictures = {"scores.png", "curves.png", "places.png", "predictions-fcn8s.png"}
    folders = {"fcn8s-bilinear-0", "fcn8s-transposed-bilinear_init-true-0"}
    assert names == pictures | folders | {"results.json", "report.md"}
    assert main(flags) == 2
    assert "exists already" in capsys.readouterr().err
    (tmp_path / "out" / "results.json").rename(tmp_path / "before.json")
    assert main([*flags, "--resume"]) == 0
    before, after = (
        without_times(json.loads(path.read_text()))
        for path in (tmp_path / "before.json", tmp_path / "out" / "results.json")
    )
    assert after == before


def test_a_training_that_fails_leaves_the_others_and_can_be_repeated(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = [*FLAGS, "--operators", "bilinear,nearest,transposed", "--out", str(tmp_path)]
    (tmp_path / "fcn8s-nearest-0").write_text("a file where a folder is to be")
    assert main(flags) == 1
    assert "failed: fcn8s, nearest, seed 0: " in capsys.readouterr().err
    results = json.loads((tmp_path / "results.json").read_text())
    assert list(results["panels"]["fcn8s"]["operators"]) == ["bilinear", "transposed"]
    assert [failure["name"] for failure in results["failures"]] == ["fcn8s, nearest, seed 0"]
    (tmp_path / "fcn8s-nearest-0").unlink()
    assert main([*flags, "--resume"]) == 0
    results = json.loads((tmp_path / "results.json").read_text())
    assert list(results["panels"]["fcn8s"]["operators"]) == ["bilinear", "nearest", "transposed"]


def test_a_comparison_whose_baseline_diverges_says_which(tmp_path: Path) -> None:
    optimization = replace(TINY.optimization, learning_rate=1000, clip=0)
    training = replace(TINY, batch_size=4, max_skipped=1, optimization=optimization)
    options = CompareOptions(
        operators=("bilinear",), architectures=("fcn8s",), out=str(tmp_path), training=training
    )
    options = replace(options, seeds=1, processes=1)
    training = replace(training, optimization=replace(optimization, learning_rate=1e3))
    with pytest.raises(Diverged, match="fcn8s, bilinear, seed 0: loss or gradient not finite"):
        compare_operators(replace(options, training=training))


def list_runs(out: Path, names: tuple[str, ...]) -> list[Run]:
    model = replace(TINY.model, architecture="fcn8s", classes=2)
    return [
        Run(
            "fcn8s",
            name,
            replace(TINY, model=replace(model, upsampling=name), out=str(out / name), epochs=2),
        )
        for name in names
    ]


@pytest.mark.slow
def test_trainings_side_by_side_equal_those_in_turn_and_one_that_dies_leaves_the_others(
    tmp_path: Path,
) -> None:
    names = ("bilinear", "nearest", "bicubic")
    alone = execute_runs(
        list_runs(tmp_path / "alone", names),
        processes=1,
        threads=1,
        finish=lambda result: None,
        advance=lambda: None,
    )
    killed: list[int] = []

    def kill_first() -> None:
        if not killed:
            killed.append(1)
            multiprocessing.active_children()[0].kill()

    beside = execute_runs(
        list_runs(tmp_path / "beside", names),
        processes=2,
        threads=1,
        finish=lambda result: None,
        advance=kill_first,
    )
    failed = [result for result in beside if result.error]
    assert [result.error for result in failed] == ["its process died; was there enough memory?"]
    for expected, result in zip(alone, beside, strict=True):
        if not result.error:
            assert result.scores is not None
            assert expected.scores is not None
            assert np.array_equal(result.scores.regions, expected.scores.regions)
            assert [row["loss"] for row in result.history] == [
                row["loss"] for row in expected.history
            ]


@pytest.mark.slow
def test_a_killed_comparison_leaves_no_process_and_goes_on_to_the_same_results(
    tmp_path: Path,
) -> None:
    flags = [
        *("--operators", "bilinear,nearest", "--architectures", "fcn8s", "--seeds", "1"),
        *("--training.epochs", "4", "--training.batch-size", "20", "--training.factor", "0.5"),
    ]
    out = tmp_path / "killed"
    command = [sys.executable, "-m", "upmap.segmentation.compare", *flags, "--out", str(out)]
    process = subprocess.Popen([*command, "--processes", "2"], stderr=subprocess.DEVNULL)
    while not list(out.glob("*/last.pt")):
        assert process.poll() is None
        time.sleep(0.05)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    process.send_signal(signal.SIGKILL)
    process.wait()
    deadline = time.monotonic() + 60
    while any(is_running(int(child)) for child in children):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert main([*flags, "--out", str(out), "--processes", "1", "--resume"]) == 0
    assert main([*flags, "--out", str(tmp_path / "whole"), "--processes", "1"]) == 0
    killed, whole = (
        without_times(json.loads((folder / "results.json").read_text()))
        for folder in (out, tmp_path / "whole")
    )
    assert killed == whole


def is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False


@pytest.mark.parametrize(
    ("text", "name", "options", "slug"),
    [
        ("bilinear", "bilinear", {}, "bilinear"),
        ("carafe{kernel=3, compressed=8}", "carafe", {"kernel": 3, "compressed": 8}, None),
        (BILINEAR, "transposed", {"bilinear_init": True}, "transposed-bilinear_init-true"),
    ],
)
def test_an_operator_is_written_with_its_options(
    text: str, name: str, options: dict[str, Any], slug: str | None
) -> None:
    variant = parse_variant(text, ["bilinear", "carafe", "transposed"])
    assert (variant.name, variant.options) == (name, options)
    assert slug in (variant.slug, None)


def test_commas_in_braces_do_not_part_operators(tmp_path: Path) -> None:
    from upmap.console import Parser
    from upmap.options import add_flags, parse_options

    parser = Parser(prog="compare")
    add_flags(parser, CompareOptions)
    text = "bilinear,carafe{kernel=3,compressed=8},nearest"
    expected = ("bilinear", "carafe{kernel=3,compressed=8}", "nearest")
    assert parse_options(CompareOptions, parser, ["--operators", text]).operators == expected
    config = tmp_path / "compare.toml"
    config.write_text('operators = ["bilinear", "carafe{kernel=3,compressed=8}", "nearest"]')
    assert parse_options(CompareOptions, parser, ["--config", str(config)]).operators == expected


@pytest.mark.parametrize(
    ("flag", "value", "named"),
    [
        ("--operators", "bilinear,magic", "magic"),
        ("--operators", "nearest", "bilinear"),
        ("--operators", "bilinear,bilinear", "different"),
        ("--operators", "bilinear,nearest{", "nearest{"),
        ("--operators", "bilinear,nearest{=}", "TOML"),
        ("--operators", "bilinear,nearest{magic=1}", "magic"),
        ("--operators", "bilinear,carafe{kernel=2}", "kernel must be odd"),
        ("--architectures", "lenet", "lenet"),
        ("--architectures", "unet,unet", "different"),
        ("--architectures", "unet{magic=1}", "magic"),
        ("--architectures", "unet{width=0}", "width"),
        ("--architectures", 'unet{upsampling="nearest"}', "upsampling"),
        ("--architectures", "fcn8s{depth=2}", "stride 8"),
        ("--seeds", "0", "seeds"),
        ("--budget", "money", "money"),
        ("--training.out", "elsewhere", "training.out"),
        ("--training.model.upsampling", "nearest", "training.model.upsampling"),
        ("--training.model.architecture", "fcn8s", "training.model.architecture"),
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
    model = replace(TINY.model, depth=2)  # no features at stride 8
    options = CompareOptions(training=replace(TINY, model=model), operators=("bilinear",))
    with pytest.raises(InputError, match="stride 8"):
        compare_operators(options)
