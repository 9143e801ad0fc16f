"""Options, checkpoints and images that nobody means well with end in one line and status 2."""

import argparse
import copy
import dataclasses
import math
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
import torch

from detection import InputError
from segmentation import compare, export, predict, train
from segmentation.checkpoint import loaded, save
from segmentation.compare import CompareOptions
from segmentation.export import ExportOptions
from segmentation.models import MAX_PARAMETERS, ModelOptions, model
from segmentation.options import add_flags, parsed
from segmentation.predict import PredictOptions
from segmentation.train import TrainOptions

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = {
    train: TrainOptions, compare: CompareOptions, predict: PredictOptions, export: ExportOptions,
}  # fmt: skip
SHORT = ("--epochs", "1", "--batch_size", "50", "--factor", "0.5")
SMALL = ("--model.width", "4", "--model.depth", "2", "--device", "cpu")


def parser_of(kind: type) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser()
    add_flags(parser, kind)
    return parser


def numbers(kind: type, prefix: str = "") -> Iterator[tuple[str, type]]:
    """The flags of a program that take numbers, or pairs of them, and the dataclass of each."""
    for name, hint in get_type_hints(kind).items():
        if dataclasses.is_dataclass(hint):
            yield from numbers(hint, f"{prefix}{name}.")  # type: ignore[arg-type]
        elif {int, float} & {hint, *get_args(hint), *sum(map(get_args, get_args(hint)), ())}:
            yield prefix + name, kind


NUMBERS = [
    pytest.param(kind, flag, id=f"{kind.__name__}-{flag}")
    for kind in PROGRAMS.values()
    for flag, _ in numbers(kind)
]


@pytest.mark.parametrize(("kind", "flag"), NUMBERS)
def test_every_number_that_a_program_takes_has_a_lower_and_an_upper_bound(
    kind: type, flag: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in ("-1", "-1e300", "1e300", "nan", "inf", "-inf", str(2**62), "9" * 5000):
        for word in (number, f"[{number}]", f"[{number}, {number}]"):
            with pytest.raises(InputError, match=rf"^--{flag}") as caught:
                parsed(kind, parser_of(kind), [f"--{flag}={word}"])
            assert len(str(caught.value)) < 300
            assert "\n" not in str(caught.value)


def test_the_walk_over_the_numbers_sees_those_of_every_section() -> None:
    flags = {flag for kind in PROGRAMS.values() for flag, _ in numbers(kind)}
    assert {"model.width", "training.model.depth", "loss.class_weights", "window"} <= flags
    assert {"augmentation.crop", "optimisation.clip", "size", "seed", "workers"} <= flags


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width": 4096, "depth": 10}, "parameters; there may be"),
        ({"decoder_width": 64.0, "width": 4096, "depth": 10}, "parameters; there may be|no such"),
        ({"upsampling": "dysample", "upsampling_options": {"groups": 10**9}}, "groups must be"),
        ({"upsampling": "carafe", "upsampling_options": {"kernel": 10**9 + 1}}, "kernel must be"),
        ({"upsampling": "carafe", "upsampling_options": {"kernel": -1}}, "kernel must be"),
        ({"upsampling": "carafe", "upsampling_options": {"compressed": 10**9}}, "compressed must"),
        ({"upsampling": "transposed", "upsampling_options": {"kernel": 2.5}}, "kernel must be"),
        ({"upsampling": "pixelshuffle", "upsampling_options": {"icnr": "no"}}, "icnr must be true"),
        ({"upsampling_options": {"align_corners": 1}}, "align_corners must be true or false"),
        ({"upsampling_options": {"mode": "cubic"}}, "mode must be one of"),
        ({"upsampling_options": {"scale": 3}}, "upsampling_options: .*scale"),
    ],
)
def test_a_model_that_is_too_large_or_senseless_is_refused_before_it_is_made(
    options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        model(ModelOptions(classes=3, **options))
    assert MAX_PARAMETERS < 2**32


def test_a_count_of_parameters_leaves_the_random_numbers_of_a_model_as_they_were() -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    with pytest.raises(ValueError, match="there may be"):
        model(ModelOptions(classes=3, width=4096, depth=10, upsampling="dysample"))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    "text", ["x = " + "[" * 5000, "x = " + "{a=" * 3000, "seed = " + "9" * 5000, 'out = "a\\u0000"']
)
def test_a_configuration_that_is_odd_is_one_line(tmp_path: Path, text: str) -> None:
    config = tmp_path / "odd.toml"
    config.write_text(text)
    with pytest.raises(InputError, match=r"odd\.toml") as caught:
        parsed(TrainOptions, parser_of(TrainOptions), ["--config", str(config)])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "words",
    [
        ("--seed", str(2**33)),
        ("--workers", "-1"),
        ("--device", "meta"),
        ("--device", "xpu"),
        ("--device", "\x1b[2J"),
        ("--model.width", "1e8"),
        ("--model.width", str(10**8)),
        ("--model.width", "4096", "--model.depth", "10"),
        ("--model.upsampling_options", "{scale = 3}"),
        ("--loss.class_weights", "[1, 2]"),
        ("--epochs", "[" * 5000),
    ],
)
def test_training_refuses_in_one_line_and_leaves_nothing(
    words: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert train.main([*SHORT, "--device", "cpu", "--out", str(out), *words]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert "\x1b" not in error
    assert not out.exists()


def test_programs_start_without_docstrings_and_have_their_help_with_them() -> None:
    code = """if True:
        import contextlib, io, importlib
        for name in ("train", "compare", "predict", "export"):
            with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()) as out:
                importlib.import_module("segmentation." + name).main(["--help"])
            assert_ = "--config" in out.getvalue()
            print(name, assert_)"""
    command = [sys.executable, "-OO", "-c", code]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == [
        *("train", "True", "compare", "True", "predict", "True", "export", "True"),
    ]
    for kind in PROGRAMS.values():
        shown = parser_of(kind).format_help()
        assert "In [" in shown


# What a checkpoint may have in place of each kind of value.
def spoilt(value: Any) -> Iterator[tuple[str, Any]]:
    yield "another type", {"odd": [3]} if not isinstance(value, dict) else "text"
    yield "a number", 10**30
    yield "none", None if value is not None else 3
    if isinstance(value, torch.Tensor):
        yield "another shape", torch.zeros(3, 5, dtype=value.dtype)
        yield "no size", value.new_zeros(0)
        yield "complex", value.to(torch.complex64)
        yield "another dtype", value.to(torch.float64)
        yield "without values", value.to("meta")
        yield "sparse", value[None].to_sparse()
        if value.is_floating_point():
            yield "NaN", torch.full_like(value, math.nan)
            yield "infinite", torch.full_like(value, -math.inf)


def places(tree: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every key of a checkpoint; of many that are alike, the first two."""
    if isinstance(tree, dict):
        for i, key in enumerate(tree):
            if i < 2 or not isinstance(tree[key], torch.Tensor):
                yield (*path, key)
                yield from places(tree[key], (*path, key))


def changed(checkpoint: dict[str, Any], path: tuple[Any, ...], value: Any) -> dict[str, Any]:
    tree = copy.deepcopy(checkpoint)
    place = tree
    for key in path[:-1]:
        place = place[key]
    if value is MISSING:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    return tree


MISSING = object()
FREE = {*train.FREE_TO_CHANGE}
# Keys whose values predictions do not look at.
RESUMED = {"weights", "averaged", "optimiser", "scaler", "epoch", "step", "skipped", "history"}
UNSEEN = RESUMED | {"random"}


def refuses(
    run: Callable[[], int], capsys: pytest.CaptureFixture[str], name: str, key: str
) -> None:
    assert run() == 2, key
    error = capsys.readouterr().err
    assert error.startswith("error: "), error
    assert error.count("\n") == 1, error
    assert name in error
    assert key in error, (key, error)
    assert len(error) < 2000


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A checkpoint in the middle of a training, with averaged weights."""
    out = tmp_path_factory.mktemp("hostile")
    words = [*SHORT, *SMALL, "--ema", "0.5", "--out", str(out)]
    assert train.main(words) == 0
    return loaded(out / "last.pt")


def test_a_resumed_training_names_each_key_that_is_spoilt(
    trained: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "last.pt"
    words = [*SHORT, *SMALL, "--ema", "0.5", "--out", str(tmp_path), "--resume", "true"]
    for place in places(trained):
        if place[0] == "options" and (len(place) == 1 or place[1] in FREE):
            continue
        value = trained
        for key in place:
            value = value[key]
        for what, odd in [("missing", MISSING), *spoilt(value)]:
            if what == "missing" and place[-1] in ("num_batches_tracked",):
                continue
            save(path, changed(trained, place, odd))
            refuses(lambda: train.main(words), capsys, "last.pt", str(place[0]))
