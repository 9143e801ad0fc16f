"""Hostile options, checkpoints and images end in one line and status 2."""

import argparse
import copy
import dataclasses
import math
import os
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any, get_args, get_type_hints

import numpy as np
import pytest
import torch
from PIL import Image

from upmap.console import Parser
from upmap.detection import InputError
from upmap.options import add_flags, parse_options
from upmap.segmentation import compare, convert, evaluate, export, predict, serve, train
from upmap.segmentation.checkpoint import load_checkpoint
from upmap.segmentation.compare import CompareOptions
from upmap.segmentation.convert import ConvertOptions
from upmap.segmentation.datasets import decode_picture, open_dataset, read_image
from upmap.segmentation.evaluate import EvaluateOptions
from upmap.segmentation.export import ExportOptions
from upmap.segmentation.inference import load_model
from upmap.segmentation.models import MAX_PARAMETERS, ModelOptions, build_meta_model, build_model
from upmap.segmentation.predict import PredictOptions
from upmap.segmentation.resuming import CHANGEABLE_OPTIONS, resume_state
from upmap.segmentation.serve import ServeOptions
from upmap.segmentation.training_options import TrainOptions

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = {
    train: TrainOptions, compare: CompareOptions, predict: PredictOptions, export: ExportOptions,
    evaluate: EvaluateOptions, serve: ServeOptions, convert: ConvertOptions,
}  # fmt: skip
SHORT = ("--epochs", "1", "--batch-size", "50", "--factor", "0.5")
SMALL = ("--model.width", "4", "--model.depth", "2", "--device", "cpu")


def parser_of(kind: type) -> argparse.ArgumentParser:
    parser = Parser()
    add_flags(parser, kind)
    return parser


def numbers(kind: type, prefix: str = "") -> Iterator[tuple[str, type]]:
    """The flags of a program that take numbers, or pairs of them, and the dataclass of each."""
    for name, hint in get_type_hints(kind).items():
        if dataclasses.is_dataclass(hint):
            yield from numbers(hint, f"{prefix}{name}.")  # type: ignore[arg-type]
        elif {int, float} & {hint, *get_args(hint), *sum(map(get_args, get_args(hint)), ())}:
            yield (prefix + name).replace("_", "-"), kind


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
                parse_options(kind, parser_of(kind), [f"--{flag}={word}"])
            assert len(str(caught.value)) < 300
            assert "\n" not in str(caught.value)


def test_the_walk_over_the_numbers_sees_those_of_every_section() -> None:
    flags = {flag for kind in PROGRAMS.values() for flag, _ in numbers(kind)}
    assert {"model.width", "training.model.depth", "loss.class-weights", "window"} <= flags
    assert {"augmentation.crop", "optimization.clip", "size", "seed", "workers"} <= flags


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
        build_model(ModelOptions(classes=3, **options))
    assert MAX_PARAMETERS < 2**32


def test_a_count_of_parameters_leaves_the_random_numbers_of_a_model_as_they_were() -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    with pytest.raises(ValueError, match="there may be"):
        build_model(ModelOptions(classes=3, width=4096, depth=10, upsampling="dysample"))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    "text", ["x = " + "[" * 5000, "x = " + "{a=" * 3000, "seed = " + "9" * 5000, 'out = "a\\u0000"']
)
def test_a_configuration_that_is_odd_is_one_line(tmp_path: Path, text: str) -> None:
    config = tmp_path / "odd.toml"
    config.write_text(text)
    with pytest.raises(InputError, match=r"odd\.toml") as caught:
        parse_options(TrainOptions, parser_of(TrainOptions), ["--config", str(config)])
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
        ("--model.upsampling-options", "{scale = 3}"),
        ("--loss.class-weights", "[1, 2]"),
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
                importlib.import_module("upmap.segmentation." + name).main(["--help"])
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


MISSING = object()


def spoil(value: Any) -> Iterator[Any]:
    """Wrong values in place of a value of a checkpoint."""
    yield MISSING
    yield "text" if isinstance(value, dict) else {"odd": [3]}
    yield 10**30
    yield 3 if value is None else None
    if isinstance(value, torch.Tensor):
        yield torch.zeros(3, 5, dtype=value.dtype)
        yield value.to(torch.complex64)
        yield value.to(torch.float64)
        yield value.to("meta")
        yield value[None].to_sparse()
        if value.is_floating_point():
            yield torch.full_like(value, math.nan)
            yield torch.full_like(value, -math.inf)


def places(tree: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of every key of a checkpoint; of similar ones (weights, rows) only the first."""
    keys = list(tree) if isinstance(tree, dict) else range(len(tree))[:1]
    alike: set[str] = set()
    for key in keys:
        kind = "parameter" if isinstance(key, int) else key.rpartition(".")[2]
        if kind not in alike:
            alike.add(kind)
            yield (*path, key)
            if isinstance(tree[key], dict | list):
                yield from places(tree[key], (*path, key))


def value_at(tree: Any, place: tuple[Any, ...]) -> Any:
    for key in place:
        tree = tree[key]
    return tree


def write_changed(
    checkpoint: dict[str, Any], place: tuple[Any, ...], value: Any, path: Path
) -> None:
    tree = copy.deepcopy(checkpoint)
    parent = value_at(tree, place[:-1])
    if value is MISSING:
        del parent[place[-1]]
    else:
        parent[place[-1]] = value
    torch.save(tree, path)


def assert_refused(run: Callable[[], object], name: str, place: tuple[Any, ...]) -> None:
    with pytest.raises(InputError) as caught:
        run()
    line = str(caught.value)
    assert name in line
    assert "\n" not in line
    assert any(str(key) in line for key in place), (place, line)
    assert len(line) < 500


@pytest.fixture(scope="module")
def options(tmp_path_factory: pytest.TempPathFactory) -> TrainOptions:
    out = tmp_path_factory.mktemp("hostile")
    words = [*SHORT, *SMALL, "--ema", "0.5", "--out", str(out), "--resume"]
    words += ["--optimization.precision", "fp16", "--factor", "0.2"]
    words += ["--augmentation.crop", "[32, 32]"]
    return parse_options(TrainOptions, parser_of(TrainOptions), words)


@pytest.fixture(scope="module")
def saved(options: TrainOptions) -> dict[str, Any]:
    """A checkpoint with averaged weights and a gradient scaler."""
    train.train_model(options)
    return load_checkpoint(Path(options.out) / "last.pt")


def is_free(place: tuple[Any, ...], value: Any) -> bool:
    """Whether a training may be resumed with another value in that place."""
    if place[0] == "options":
        return len(place) > 1 and place[1] in CHANGEABLE_OPTIONS
    if place[0] == "history" and len(place) == 3:
        return value == 10**30  # a number like others
    # Settings of an optimizer that another version of torch does not know.
    return "param_groups" in place and value is MISSING and place[-1] not in ("params", "lr", 0)


def test_a_training_does_not_go_on_from_a_checkpoint_with_any_key_spoilt(
    options: TrainOptions, saved: dict[str, Any], tmp_path: Path
) -> None:
    options = dataclasses.replace(options, out=str(tmp_path))
    path, device = tmp_path / "last.pt", torch.device("cpu")
    data = open_dataset("shapes", None, "train")
    options = dataclasses.replace(options, model=dataclasses.replace(options.model, classes=6))
    torch.save(saved, path)
    state = resume_state(options, device, data)
    assert state is not None
    assert state.epoch == 1
    count = 0
    for place in places(saved):
        for value in spoil(value_at(saved, place)):
            if not is_free(place, value):
                write_changed(saved, place, value, path)
                assert_refused(lambda: resume_state(options, device, data), "last.pt", place)
                count += 1
    assert count > 300


def test_predictions_and_exports_take_no_checkpoint_with_a_key_spoilt_that_they_need(
    saved: dict[str, Any], tmp_path: Path
) -> None:
    path = tmp_path / "bad.pt"
    needed = {"schema", "program", "classes", "palette", "model", "options"}
    count = 0
    for place in places(saved):
        is_option = place[0] == "options" and len(place) > 1
        if place[0] not in needed:
            continue
        if is_option and place[1] not in ("model", "optimization", "factor"):
            continue
        for value in spoil(value_at(saved, place)):
            if value is MISSING and is_option and len(place) > 2:
                continue  # has its default
            write_changed(saved, place, value, path)
            assert_refused(lambda: load_model(path), "bad.pt", place)
            count += 1
    assert count > 100


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("model", "head.weight"), math.nan),
        (("model", "stages.0.convolutions.1.running_var"), -1.0),
        (("options", "model", "depth"), 10**6),
        (("options", "model", "width"), 4096),
        (("options", "model", "upsampling_options"), {"groups": 10**9}),
    ],
)
def test_the_programs_refuse_a_spoilt_checkpoint_in_one_line(
    place: tuple[Any, ...],
    value: Any,
    saved: dict[str, Any],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    image, path = tmp_path / "image.png", tmp_path / "bad.pt"
    Image.new("RGB", (40, 30)).save(image)
    if isinstance(value, float):
        value = torch.full_like(value_at(saved, place), value)
    write_changed(saved, place, value, path)
    out = tmp_path / "out"
    for run in (
        lambda: predict.main([str(path), str(image), "--out", str(out)]),
        lambda: export.main([str(path), str(out)]),
    ):
        assert run() == 2
        error = capsys.readouterr().err
        assert error.startswith("error: ")
        assert error.count("\n") == 1
        assert "bad.pt" in error
        assert not out.exists()


def test_weights_that_the_file_has_no_bytes_for_are_refused(
    saved: dict[str, Any], tmp_path: Path
) -> None:
    options = dict(saved["options"]["model"], width=512, depth=4)
    tree = dict(saved, options=dict(saved["options"], model=options))
    shape = build_meta_model(ModelOptions(**options)).state_dict()
    tree["model"] = {  # strides of 0: a byte stands for a gigabyte
        key: torch.zeros((), dtype=tensor.dtype).expand(tensor.shape)
        for key, tensor in shape.items()
    }
    torch.save(tree, tmp_path / "bad.pt")
    with pytest.raises(InputError, match=r"bad\.pt:model: .* bytes of tensors in a file of"):
        load_model(tmp_path / "bad.pt")


def test_a_checkpoint_that_holds_itself_is_refused(saved: dict[str, Any], tmp_path: Path) -> None:
    loop: list[Any] = []
    loop.append(loop)
    for key in ("palette", "classes"):
        torch.save({**saved, key: loop}, tmp_path / "bad.pt")
        with pytest.raises(InputError, match=rf"bad\.pt:{key}"):
            load_model(tmp_path / "bad.pt")


POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n%%EOF\n"


def encode(kind: str) -> bytes:
    file = BytesIO()
    Image.fromarray(np.full((6, 8, 3), 90, np.uint8)).save(file, kind)
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (lambda: encode("GIF"), "GIF"),
        (lambda: encode("PPM"), "PNM"),
        (lambda: encode("ICO"), "an icon"),
        (lambda: b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000"),
        (lambda: b"%PDF-1.7\n", "PDF"),
        (lambda: POSTSCRIPT, "PostScript"),
        (lambda: b"", "empty"),
        (lambda: b"\x1b[2J", "no format that is known"),
    ],
)
def test_an_image_of_another_format_is_refused_whatever_its_name(
    content: Callable[[], bytes], named: str, tmp_path: Path
) -> None:
    path = tmp_path / "photo.jpg"
    path.write_bytes(content())
    for read in (read_image, lambda path: decode_picture(path.read_bytes(), path)):
        with pytest.raises(InputError, match=rf"photo\.jpg: not a .* image: .*{named}"):
            read(path)


def test_postscript_starts_no_ghostscript(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, saved: dict[str, Any]
) -> None:
    mark, folder = tmp_path / "mark", tmp_path / "bin"
    folder.mkdir()
    (folder / "gs").write_text(f"#!/bin/sh\ntouch {mark}\n")
    (folder / "gs").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    subprocess.run(["gs"], check=True)
    assert mark.exists()  # it would leave its mark
    mark.unlink()
    image, path = tmp_path / "photo.jpg", tmp_path / "best.pt"
    image.write_bytes(POSTSCRIPT)
    torch.save(saved, path)
    assert predict.main([str(path), str(image), "--out", str(tmp_path / "out")]) == 2
    assert not mark.exists()


def png_header(width: int, height: int) -> bytes:
    """A PNG with a large size in its header, and hardly any data."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = b"IDAT" + zlib.compress(b"\0" * 100)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
        for chunk in (header, data, b"IEND")
    )


def test_an_image_of_too_many_pixels_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    path = tmp_path / "bomb.png"
    path.write_bytes(png_header(60_000, 60_000))
    for read in (read_image, lambda path: decode_picture(path.read_bytes(), path)):
        with pytest.raises(InputError, match=r"60000 x 60000 px are more than .*--max-pixels"):
            read(path)


def test_the_bound_on_pixels_can_be_moved(tmp_path: Path) -> None:
    path = tmp_path / "image.png"
    Image.new("L", (40, 30)).save(path)
    assert read_image(path, 1200).shape == (30, 40, 3)
    with pytest.raises(InputError, match="40 x 30 px are more than 1199 pixels"):
        read_image(path, 1199)
    with pytest.raises(InputError, match="40 x 30 px are more than 1199 pixels"):
        decode_picture(path.read_bytes(), path, 1199)


@pytest.mark.filterwarnings("error")
def test_more_pixels_than_pillow_warns_of_may_be_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    path = tmp_path / "image.png"
    Image.new("L", (40, 30)).save(path)
    assert decode_picture(path.read_bytes(), path, 1200).size == (40, 30)
