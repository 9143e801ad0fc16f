"""Tests of what a training refuses before it reads images, and of what it requires to go on."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from upmap.errors import InputError, InputWarning
from upmap.segmentation import train as program
from upmap.segmentation import training_state
from upmap.segmentation.augmentation import AugmentationOptions
from upmap.segmentation.checkpoint import load_checkpoint
from upmap.segmentation.datasets import open_dataset
from upmap.segmentation.models import ModelOptions
from upmap.segmentation.optimization import OptimizationOptions, resolve_precision
from upmap.segmentation.survey import survey_dataset
from upmap.segmentation.train import main, train_model
from upmap.segmentation.training_checks import UNUSED
from upmap.segmentation.training_options import TrainOptions

RNG = np.random.default_rng(0)
SMALL = (
    *("--epochs", "2", "--batch-size", "2", "--device", "cpu"),
    *("--model.width", "2", "--model.depth", "2", "--augmentation.crop", "[16,16]"),
)
PICTURE = RNG.integers(0, 256, (24, 32, 3), np.uint8)


def make_label(kind: int = 0) -> NDArray[np.uint8]:
    label = np.zeros((24, 32), np.uint8)
    label[4 + kind : 12, 6:20] = 1
    return label


def make_folder(root: Path, names: str = "abcd", **description: Any) -> Path:
    """A data set whose three splits are all of its images."""
    for part in ("images", "labels"):
        (root / part).mkdir(parents=True, exist_ok=True)
    for i, name in enumerate(names):
        Image.fromarray(PICTURE + i).save(root / "images" / f"{name}.png")
        Image.fromarray(make_label(i)).save(root / "labels" / f"{name}.png")
    for split in ("train", "val", "test"):
        listed = names if split == "train" else names[:2]
        (root / f"{split}.txt").write_text("\n".join(listed))
    description = {"classes": ["ground", "square"], **description}
    (root / "classes.json").write_text(json.dumps(description))
    return root


def words(root: Path, out: Path, *more: str) -> list[str]:
    return ["--dataset", "folder", "--root", str(root), "--out", str(out), *SMALL, *more]


def refusal(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The only line on stderr of a run that ends with status 2."""
    capsys.readouterr()
    assert main(arguments) == 2
    captured = capsys.readouterr().err
    assert captured.count("\n") == 1
    return captured.removeprefix("error: ").rstrip()


@pytest.fixture
def unread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails if an image is read."""

    def fail(*_: Any, **__: Any) -> None:
        raise AssertionError("an image was read")

    monkeypatch.setattr(program, "survey_dataset", fail)


@pytest.mark.usefixtures("unread")
@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--batch-size", "1", "--model.depth", "4"), "--batch-size 1 in 1 parts, .* single value"),
        (("--accumulate", "2", "--model.depth", "4"), "--batch-size 2 in 2 parts, .* single value"),
        (("--accumulate", "2", "--factor", "0.25"), "--factor 0.25: batch normalization would"),
        (
            ("--batch-size", "1", "--model.encoder", "resnet18", "--model.width", "16",
             "--model.depth", "4", "--augmentation.crop", "32,32"),
            "--augmentation.crop 32,32, .* single value",
        ),
        (("--loss.class-weights", "1,2,3"), "--loss.class-weights: 3 for 2 classes; .* ground, sq"),
        (("--loss.class-weights", "0,0"), "class_weights are 0 for all classes"),
        (("--model.classes", "7"), "--model.classes: 7, but the data set has 2"),
        (("--model.weights", "x.pth"), "--model.weights has no effect: the plain encoder"),
        (("--model.encoder", "resnet18", "--model.weights", "no.pth", "--model.width", "16",
          "--model.depth", "4"), "no.pth: no such file or folder"),
        (("--model.upsampling-options", "scale=3"), "model: upsampling_options: .*scale"),
        (("--model.upsampling-options", "magic=3"), "model: .*magic"),
        (("--model.upsampling", "max_unpooling", "--model.placement", "after"), "model: max_unp"),
        (("--model.architecture", "fcn32s"), "model: fcn32s needs features at stride 32"),
        (("--workers", "-1"), "--workers"),
        (("--seed", "100000000000000000000"), "--seed"),
        (("--device", "mps"), "--device mps"),
        (("--device", "cuda:99"), "--device cuda:99"),
        (("--batch-size", "5"), "--batch-size 5: there are only 4 images in train; lower it"),
        (("--accumulate", "3"), "--batch-size 2 is no multiple of 1 processes x 3 parts"),
        (("--full-labels",), "--full-labels has no effect: at --factor 1"),
        (("--loss.loss", "dice", "--loss.class-weights", "1,2"), "--loss.class-weights has no eff"),
        (("--loss.loss", "dice", "--loss.label-smoothing", "0.1"), "--loss.label-smoothing has no"),
        (("--loss.dice-weight", "2"), "--loss.dice-weight has no effect: the loss is no such sum"),
        (("--loss.focal-gamma", "3"), "--loss.focal-gamma has no effect: the loss is not focal"),
        (("--loss.class-weights", "median"), "--loss.class-weights: expected a list of values or"),
        (("--init", "no.pt"), "no.pt: no such file or folder"),
    ],
    ids=lambda value: "-".join(value).replace("--", "") if isinstance(value, tuple) else "",
)  # fmt: skip
def test_what_cannot_work_is_one_line_before_an_image_is_read(
    more: tuple[str, ...], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import re

    line = refusal(words(make_folder(tmp_path / "data"), tmp_path / "out", *more), capsys)
    assert re.search(message, line), line
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "more",
    [
        ("--batch-size", "1", "--augmentation.crop", "[16,20]"),
        ("--batch-size", "2", "--accumulate", "2", "--model.depth", "3"),
    ],
    ids=str,
)
def test_two_values_are_enough_for_batch_normalization(
    more: tuple[str, ...], tmp_path: Path
) -> None:
    root = make_folder(tmp_path / "data")
    assert main(words(root, tmp_path / "out", "--epochs", "1", *more)) == 0


@pytest.mark.parametrize("row", UNUSED, ids=lambda row: row.name)
def test_every_row_is_of_an_option_that_has_an_effect_with_others(row: Any) -> None:
    options = TrainOptions()
    ways = [
        replace(options, dataset="folder", factor=0.5),
        replace(options, model=ModelOptions(encoder="resnet18", architecture="fcn8s")),
        replace(options, loss=replace(options.loss, loss="cross_entropy+dice")),
        replace(options, loss=replace(options.loss, loss="dice")),
        replace(options, loss=replace(options.loss, loss="focal+lovasz")),
        replace(options, model=ModelOptions(architecture="fcn8s", depth=3)),
        options,
    ]
    assert {row.is_used(way) for way in ways} == {True, False}


def test_a_class_without_pixels_for_training_is_warned_about(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = make_folder(tmp_path / "data", classes=["ground", "square", "moon"])
    assert main(words(root, tmp_path / "out", "--epochs", "1")) == 0
    error = capsys.readouterr().err
    assert "warning: no pixel of train has the class moon: it cannot be learned" in error
    table = [line.split() for line in error.splitlines() if line.startswith("square")]
    counts = [int(np.sum([make_label(i).sum() for i in range(n)])) for n in (4, 2, 2)]
    assert [int(table[0][i].replace(",", "")) for i in (1, 3, 5)] == counts


def test_weights_of_zero_for_all_classes_that_there_are_are_refused(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "data", classes=["ground", "square", "moon"])
    loss = replace(TrainOptions().loss, class_weights=(0.0, 0.0, 1.0))
    options = replace(make_options(root, tmp_path / "out"), loss=loss)
    with pytest.raises(InputError, match="all are 0 but for classes that have no pixel in train"):
        train_model(options)


def test_the_same_images_for_training_and_validation_are_warned_about(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = make_folder(tmp_path / "data")
    (root / "val.txt").write_text((root / "train.txt").read_text())
    assert main(words(root, tmp_path / "out", "--epochs", "1")) == 0
    assert "train and val have the same images and labels" in capsys.readouterr().err


def make_options(root: Path, out: Path, **changes: Any) -> TrainOptions:
    options = TrainOptions(
        dataset="folder", root=str(root), out=str(out), epochs=3, batch_size=2, device="cpu",
        model=ModelOptions(width=2, depth=2), augmentation=AugmentationOptions(crop=(16, 16)),
    )  # fmt: skip
    return replace(options, **changes)


class Stopped(Exception):
    """Stands for a kill after the first epoch."""


def train_an_epoch(options: TrainOptions) -> None:
    def stop(_: Any) -> None:
        raise Stopped

    with pytest.raises(Stopped):
        train_model(options, after_epoch=stop)


def rewrite(root: Path, **changes: Any) -> None:
    description = json.loads((root / "classes.json").read_text())
    (root / "classes.json").write_text(json.dumps(description | changes))


def draw_pixel(path: Path, value: int) -> None:
    pixels = np.array(Image.open(path))
    pixels[0, 0] = value
    Image.fromarray(pixels).save(path)


CHANGES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "classes in another order": (
        lambda root: rewrite(root, classes=["square", "ground"]),
        r"was trained with classes\[0\] = 'ground', not 'square'",
    ),
    "a class more": (
        lambda root: rewrite(root, classes=["ground", "square", "moon"]),
        r"was trained with model.classes = 2, not 3",
    ),
    "another color": (
        lambda root: rewrite(root, palette_rgb=[[0, 0, 0], [1, 2, 3]]),
        r"was trained with palette\[1\]\[0\] = 128, not 1",
    ),
    "more images": (
        lambda root: make_folder(root, "abcdefgh"),
        r"was trained with data\.train\.images = 4, not 8",
    ),
    "another order of the list": (
        lambda root: (root / "train.txt").write_text("b\na\nc\nd\n"),
        r"was trained with data\.train\.names = '\w{16}', not '\w{16}'",
    ),
    "other validation images": (
        lambda root: (root / "val.txt").write_text("c\nd\n"),
        r"was trained with data\.val\.names = ",
    ),
    "fewer test images": (
        lambda root: (root / "test.txt").write_text("a\n"),
        r"was trained with data\.test\.images = 2, not 1",
    ),
    "another pixel of a label": (
        lambda root: draw_pixel(root / "labels" / "d.png", 1),
        r"was trained with data\.train\.pixels\[0\] = \d+, not \d+",
    ),
    "another pixel of an image": (
        lambda root: draw_pixel(root / "images" / "d.png", 77),
        r"was trained with data\.train\.content = '\w{16}', not '\w{16}'",
    ),
    "labels exchanged": (
        lambda root: (root / "labels" / "a.png").write_bytes((root / "labels/b.png").read_bytes()),
        r"was trained with data\.train\.pixels\[0\]",
    ),
}


@pytest.mark.parametrize("kind", CHANGES)
def test_a_training_does_not_go_on_with_changed_data(kind: str, tmp_path: Path) -> None:
    change, message = CHANGES[kind]
    options = make_options(make_folder(tmp_path / "data"), tmp_path / "out")
    train_an_epoch(options)
    change(tmp_path / "data")
    before = (tmp_path / "out" / "last.pt").read_bytes()
    with pytest.raises(InputError, match=message + r".*name a new --out"):
        train_model(replace(options, resume=True))
    assert (tmp_path / "out" / "last.pt").read_bytes() == before


def test_a_training_goes_on_with_the_same_data_in_another_folder(tmp_path: Path) -> None:
    options = make_options(make_folder(tmp_path / "data"), tmp_path / "out")
    train_an_epoch(options)
    (tmp_path / "data").rename(tmp_path / "moved")
    result = train_model(replace(options, resume=True, root=str(tmp_path / "moved")))
    assert len(result.history) == 3


def test_another_number_of_threads_is_refused_with_the_flag_to_add(tmp_path: Path) -> None:
    options = make_options(make_folder(tmp_path / "data"), tmp_path / "out")
    threads = torch.get_num_threads()
    train_an_epoch(options)
    try:
        torch.set_num_threads(threads + 1)
        message = rf"was trained with threads = {threads}, not {threads + 1}; add --threads"
        with pytest.raises(InputError, match=message):
            train_model(replace(options, resume=True))
    finally:
        torch.set_num_threads(threads)


def test_another_number_of_processes_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = make_options(make_folder(tmp_path / "data"), tmp_path / "out")
    with monkeypatch.context() as patch:
        patch.setattr(training_state, "world_size", lambda: 2)
        train_an_epoch(options)
    with pytest.raises(InputError, match=r"processes = 2, not 1; start it by torchrun .* 2, or"):
        train_model(replace(options, resume=True))


def test_another_version_of_torch_is_warned_about(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = make_options(make_folder(tmp_path / "data"), tmp_path / "out")
    with monkeypatch.context() as patch:
        patch.setattr(torch, "__version__", "1.0")
        train_an_epoch(options)
    with pytest.warns(
        InputWarning, match=r"last\.pt: was trained with torch '1\.0', not '.*bit for"
    ):
        train_model(replace(options, resume=True))


def test_data_that_was_surveyed_already_is_not_read_for_it_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = make_options(make_folder(tmp_path / "data"), tmp_path / "out")
    splits = ("train", "val", "test")
    surveys = {name: survey_dataset(open_dataset("folder", options.root, name)) for name in splits}
    train_an_epoch(options)
    monkeypatch.setattr(program, "survey_dataset", None)
    train_model(replace(options, resume=True), surveys=surveys)
    draw_pixel(tmp_path / "data" / "images" / "a.png", 77)
    surveys["train"] = survey_dataset(open_dataset("folder", options.root, "train"))
    with pytest.raises(InputError, match=r"data\.train\.content"):
        train_model(replace(options, resume=True), surveys=surveys)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seed": 5}, "seed = 0, not 5"),
        ({"augmentation": AugmentationOptions(crop=(16, 32))}, r"augmentation.crop\[1\] = 16, not"),
        (
            {"model": ModelOptions(width=2, depth=2, upsampling="nearest")},
            "model.upsampling = 'bilinear', not 'nearest'",
        ),
        (
            {"model": ModelOptions(width=2, depth=2, upsampling_options={"align_corners": True})},
            "model.upsampling_options.align_corners = None, not True",
        ),
        ({"epochs": 5}, "epochs = 3, not 5; the rates of poly depend on it: only with"),
        ({"factor": 0.5}, "factor = 1.0, not 0.5"),
    ],
    ids=str,
)
def test_another_option_is_named_with_both_values(
    changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    options = make_options(make_folder(tmp_path / "data"), tmp_path / "out")
    train_an_epoch(options)
    with pytest.raises(InputError, match=f"was trained with {message}"):
        train_model(replace(options, resume=True, **changes))


def test_a_constant_schedule_can_be_lengthened_and_equals_a_long_training(tmp_path: Path) -> None:
    constant = OptimizationOptions(schedule="constant", warmup=0.0)
    root = make_folder(tmp_path / "data")
    options = make_options(root, tmp_path / "out", optimization=constant, epochs=2)
    train_model(options)
    train_model(replace(options, resume=True, epochs=4))
    train_model(replace(options, epochs=4, out=str(tmp_path / "long")))
    first, second = (load_checkpoint(tmp_path / out / "last.pt") for out in ("out", "long"))
    assert first["epoch"] == 4
    assert all(torch.equal(first["model"][key], second["model"][key]) for key in first["model"])


def test_a_warm_up_that_would_change_is_no_constant_schedule(tmp_path: Path) -> None:
    schedule = OptimizationOptions(schedule="constant", warmup=0.5)
    root = make_folder(tmp_path / "data")
    options = make_options(root, tmp_path / "out", optimization=schedule, epochs=2)
    train_model(options)
    with pytest.raises(InputError, match=r"epochs = 2, not 8; the rates of constant depend on it"):
        train_model(replace(options, resume=True, epochs=8))


def test_patience_may_change(tmp_path: Path) -> None:
    options = make_options(make_folder(tmp_path / "data"), tmp_path / "out")
    train_an_epoch(options)
    assert len(train_model(replace(options, resume=True, patience=9)).history) == 3


def test_resuming_where_there_is_nothing_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = make_folder(tmp_path / "data")
    assert main(words(root, tmp_path / "mistyped", "--epochs", "1", "--resume")) == 0
    assert "last.pt: no such file: the training starts from its beg" in capsys.readouterr().err


def test_checkpoints_record_the_data_and_the_threads(tmp_path: Path) -> None:
    options = make_options(make_folder(tmp_path / "data"), tmp_path / "out", epochs=1)
    train_model(options)
    checkpoint = load_checkpoint(tmp_path / "out" / "best.pt")
    assert checkpoint["threads"] == torch.get_num_threads()
    assert [*checkpoint["data"]] == ["train", "val", "test"]
    assert checkpoint["data"]["train"]["images"] == 4
    assert checkpoint["options"]["optimization"]["precision"] == "fp32"


@pytest.mark.parametrize(("has_bf16", "expected"), [(True, "bf16"), (False, "fp32")])
def test_the_precision_is_that_of_the_device(
    has_bf16: bool, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: has_bf16)
    assert resolve_precision("auto", torch.device("cuda")) == expected
    assert resolve_precision("auto", torch.device("cpu")) == "fp32"
    assert resolve_precision("fp16", torch.device("cuda")) == "fp16"
    assert TrainOptions().optimization.precision == "auto"


def test_a_warning_about_the_data_is_no_error_of_the_library(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "data", classes=["ground", "square", "moon"])
    with pytest.warns(InputWarning, match="no pixel of train has the class moon") as caught:
        train_model(make_options(root, tmp_path / "out", epochs=1))
    assert [warning.message.kind for warning in caught] == ["class-not-trained"]  # type: ignore[union-attr]
