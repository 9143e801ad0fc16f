"""Tests of training from the command line: learning, bit-exact resuming, and errors."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from upmap.segmentation import train as program
from upmap.segmentation import training_step
from upmap.segmentation.checkpoint import load_checkpoint
from upmap.segmentation.datasets import open_dataset
from upmap.segmentation.evaluation import evaluate_model
from upmap.segmentation.losses import LossOptions
from upmap.segmentation.models import ModelOptions, build_model
from upmap.segmentation.train import main, train_model
from upmap.segmentation.training_options import TrainOptions

ROOT = Path(__file__).resolve().parents[2]
LEARNS = ("--epochs", "16", "--optimization.learning-rate", "0.02")
SPLITS = {"train": 16, "val": 5, "test": 4}


@pytest.fixture(scope="module")
def squares(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set of bright squares on dark noise: learned within a few steps."""
    root = tmp_path_factory.mktemp("squares")
    rng = np.random.default_rng(0)
    for name in ("images", "labels"):
        (root / name).mkdir()
    for split, count in SPLITS.items():
        names = [f"{split}{i}" for i in range(count)]
        (root / f"{split}.txt").write_text("\n".join(names))
        for name in names:
            label = np.zeros((24, 32), np.uint8)
            y, x = rng.integers(0, 12, 2)
            label[y : y + 12, x : x + 12] = 1
            image = rng.integers(0, 60, (24, 32, 3)) + 150 * label[:, :, None]
            cv2.imwrite(str(root / "images" / f"{name}.png"), image.astype(np.uint8))
            cv2.imwrite(str(root / "labels" / f"{name}.png"), label)
    (root / "classes.json").write_text(json.dumps({"classes": ["ground", "square"]}))
    return root


def words(root: Path, out: Path, *more: str) -> list[str]:
    return [
        *("--dataset", "folder", "--root", str(root), "--out", str(out)),
        *("--epochs", "3", "--batch-size", "4", "--augmentation.crop", "[24, 32]"),
        *("--model.width", "4", "--model.depth", "2", "--device", "cpu", "--threads", "1", *more),
    ]


def history(out: Path) -> list[dict[str, str]]:
    with (out / "history.csv").open(newline="") as file:
        return [
            {key: value for key, value in row.items() if key != "seconds"}
            for row in csv.DictReader(file)
        ]


def assert_same(first: Any, second: Any) -> None:
    """Equality to the last bit of tensors and containers of them."""
    assert type(first) is type(second)
    if isinstance(first, dict):
        assert first.keys() == second.keys()
        for key in first:
            if key != "seconds":
                assert_same(first[key], second[key])
    elif isinstance(first, list | tuple):
        for a, b in zip(first, second, strict=True):
            assert_same(a, b)
    elif isinstance(first, torch.Tensor):
        assert torch.equal(first, second)
    else:
        assert first == second


def assert_same_training(first_out: Path, second_out: Path) -> None:
    first, second = (load_checkpoint(out / "last.pt") for out in (first_out, second_out))
    for checkpoint in (first, second):
        for key in ("out", "resume"):
            del checkpoint["options"][key]
    assert_same(first, second)
    assert history(first_out) == history(second_out)


@pytest.fixture(scope="module")
def whole(squares: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training that was not interrupted."""
    out = tmp_path_factory.mktemp("whole")
    assert main(words(squares, out, "--ema", "0.9")) == 0
    return out


def test_it_learns_and_reports_the_best_epoch_on_the_test_images(
    squares: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words(squares, tmp_path, *LEARNS)) == 0
    captured = capsys.readouterr()
    assert "chosen on val; test: 4 images" in captured.out
    scores = dict(line.rsplit(None, 1) for line in captured.out.splitlines()[2:])
    assert list(scores) == ["ground", "square", "mIoU", "pixel accuracy"]
    assert float(scores["mIoU"]) > 0.9
    assert captured.err.count("epoch ") == 16


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_it_learns_in_half_precision(squares: Path, tmp_path: Path, precision: str) -> None:
    assert main(words(squares, tmp_path, *LEARNS, "--optimization.precision", precision)) == 0
    assert float(history(tmp_path)[-1]["val_mIoU"]) > 0.9


@pytest.mark.parametrize(
    "more",
    [
        ("--accumulate", "2"),
        ("--factor", "0.5"),
        ("--loss.loss", "cross_entropy+dice", "--optimization.optimizer", "sgd"),
        ("--model.upsampling", "max_unpooling", "--no-channels-last"),
        ("--model.attention", "--model.activation", "gelu", "--workers", "1"),
    ],
    ids=lambda more: more[0].strip("-"),
)
def test_options_take_part(squares: Path, tmp_path: Path, more: tuple[str, ...]) -> None:
    assert main(words(squares, tmp_path, "--epochs", "1", *more)) == 0
    (row,) = history(tmp_path)
    assert np.isfinite(float(row["loss"]))


def test_tensorboard_gets_the_history(squares: Path, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    assert main(words(squares, tmp_path / "out", "--tensorboard")) == 0
    events = EventAccumulator(str(tmp_path / "out")).Reload()
    values = [event.value for event in events.Scalars("val_mIoU")]
    expected = [float(row["val_mIoU"]) for row in history(tmp_path / "out")]
    assert values == pytest.approx(expected, abs=1e-6)  # float32


def test_the_same_seed_gives_the_same_training(squares: Path, whole: Path, tmp_path: Path) -> None:
    assert main(words(squares, tmp_path, "--ema", "0.9")) == 0
    assert_same_training(whole, tmp_path)


def test_another_seed_gives_another(squares: Path, whole: Path, tmp_path: Path) -> None:
    assert main(words(squares, tmp_path, "--ema", "0.9", "--seed", "1")) == 0
    assert history(tmp_path) != history(whole)


def test_after_kill_9_it_resumes_bit_for_bit(squares: Path, whole: Path, tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "segmentation.train",
        *words(squares, tmp_path, "--ema", "0.9"),
    ]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
    until = time.monotonic() + 120
    while not (tmp_path / "last.pt").exists() and time.monotonic() < until:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert load_checkpoint(tmp_path / "last.pt")["epoch"] >= 1
    assert main(words(squares, tmp_path, "--ema", "0.9", "--resume")) == 0
    assert_same_training(whole, tmp_path)


class Killed(BaseException):
    """Stands for a kill at a chosen place."""


def kill_at(time: int, untouched: Any) -> Any:
    """A function that is killed when it is called for the `time`-th time."""
    calls = [0]

    def deadly(*arguments: Any, **keywords: Any) -> Any:
        calls[0] += 1
        if calls[0] == time:
            raise Killed
        return untouched(*arguments, **keywords)

    return deadly


@pytest.mark.parametrize(
    ("place", "time"),
    [
        ("take_step", 6),
        ("_evaluate", 2),
        ("_save_epoch", 1),
        ("save_checkpoint", 1),
        ("save_checkpoint", 2),
        ("save_checkpoint", 3),
    ],
)
def test_killed_at_any_place_it_resumes_bit_for_bit(
    squares: Path,
    whole: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    place: str,
    time: int,
) -> None:
    monkeypatch.setattr(program, place, kill_at(time, getattr(program, place)))
    with pytest.raises(Killed):
        main(words(squares, tmp_path, "--ema", "0.9"))
    monkeypatch.undo()
    assert main(words(squares, tmp_path, "--ema", "0.9", "--resume")) == 0
    assert_same_training(whole, tmp_path)


FUSED = ("--factor", "0.5", "--full-labels", "--loss.impl", "chunked")


@pytest.mark.parametrize(("extra", "factor"), [((), 1.0), (FUSED, 0.5)], ids=["plain", "fused"])
def test_two_processes_train_alike_and_score_exactly_alike(
    extra: tuple[str, ...], factor: float, squares: Path, tmp_path: Path
) -> None:
    single_out, double_out = tmp_path / "one", tmp_path / "two"
    more = (*LEARNS, "--test", "", *extra)
    assert main(words(squares, single_out, *more)) == 0
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += [
        "--nproc-per-node",
        "2",
        "-m",
        "segmentation.train",
        *words(squares, double_out, *more),
    ]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    result = subprocess.run(
        command, env=environment, capture_output=True, text=True, check=False, timeout=200
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("mIoU") == 1
    scores = [float(history(out)[-1]["val_mIoU"]) for out in (single_out, double_out)]
    # Each process normalizes its own half of a batch of four, so weights differ a little.
    assert abs(scores[0] - scores[1]) < 0.05
    checkpoint = load_checkpoint(double_out / "last.pt")
    net = build_model(ModelOptions(classes=2, width=4, depth=2))
    net.load_state_dict(checkpoint["model"])
    val = open_dataset("folder", squares, "val")
    items = (val[i] for i in range(len(val)))
    single = evaluate_model(net, items, 2, device=torch.device("cpu"), factor=factor)
    assert program.semantic_scores(single).mIoU == checkpoint["history"][-1]["val_mIoU"]


def test_gradients_that_stay_infinite_stop_it_with_what_was_in_the_batch(
    squares: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(
        training_step, "compute_sums", lambda logits, *_: logits.sum() * torch.ones(2) * torch.inf
    )
    assert main(words(squares, tmp_path, "--max-skipped", "2")) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: loss or gradient not finite in 3 steps in a row, up to step 3")
    assert "last batch: train" in error
    assert "scale 1" in error


def test_under_fp16_a_step_that_overflows_is_skipped_and_counted(
    squares: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    untouched, calls = training_step.compute_sums, [0]

    def once_infinite(logits: torch.Tensor, *arguments: Any) -> torch.Tensor:
        calls[0] += 1
        return untouched(logits, *arguments) * (torch.inf if calls[0] == 3 else 1.0)

    monkeypatch.setattr(training_step, "compute_sums", once_infinite)
    assert main(words(squares, tmp_path, "--optimization.precision", "fp16")) == 0
    assert [row["skipped"] for row in history(tmp_path)] == ["1", "1", "1"]
    assert np.isfinite(float(history(tmp_path)[0]["loss"]))


@pytest.mark.parametrize(("batch_size", "epochs", "ending"), [
    ("16", "12", "in 6 steps in a row, up to step 7"),  # one step an epoch
    ("8", "12", "in 6 steps in a row, up to step 7"),
    ("4", "1", "in all 4 steps: nothing was learned"),
])  # fmt: skip
def test_steps_that_are_never_finite_end_it_however_short_its_epochs(
    squares: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch, batch_size: str, epochs: str, ending: str,
) -> None:  # fmt: skip
    untouched, calls = training_step.compute_sums, [0]
    good = epochs != "1"  # the first step of the longer trainings is finite

    def infinite(logits: torch.Tensor, *arguments: Any) -> torch.Tensor:
        calls[0] += 1
        return untouched(logits, *arguments) * (1.0 if good and calls[0] == 1 else torch.inf)

    monkeypatch.setattr(training_step, "compute_sums", infinite)
    more = ("--batch-size", batch_size, "--epochs", epochs)
    assert main(words(squares, tmp_path, *more)) == 1
    assert ending in capsys.readouterr().err.splitlines()[-1]


def test_a_resumed_training_goes_on_counting_skipped_steps(
    squares: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(
        training_step, "compute_sums", lambda logits, *_: logits.sum() * torch.ones(2) * torch.inf
    )
    more = ("--batch-size", "8", "--epochs", "5")
    with monkeypatch.context() as patch:
        patch.setattr(program, "_evaluate", kill_at(2, program._evaluate))
        with pytest.raises(Killed):
            main(words(squares, tmp_path, *more))
    assert load_checkpoint(tmp_path / "last.pt")["skipped_in_a_row"] == 2
    assert main(words(squares, tmp_path, *more, "--resume")) == 1
    assert "in 6 steps in a row, up to step 6" in capsys.readouterr().err.splitlines()[-1]


def test_the_printed_loss_is_that_of_all_pixels_of_an_epoch(
    squares: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    untouched, sums = training_step.compute_sums, []

    def kept(*arguments: Any) -> torch.Tensor:
        sums.append(untouched(*arguments))
        return sums[-1]

    monkeypatch.setattr(training_step, "compute_sums", kept)
    # The views are padded: batches differ in void pixels.
    more = ("--epochs", "1", "--augmentation.smallest", "0.3", "--augmentation.largest", "1")
    assert main(words(squares, tmp_path, *more)) == 0
    totals = torch.stack(sums).detach().double().sum(0)
    assert len({float(part.detach()[1]) for part in sums}) > 1
    assert float(history(tmp_path)[0]["loss"]) == float(totals[0] / totals[1])


def error_line(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> str:
    """The last line on stderr of a run that ends with status 2."""
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err
    return captured.err.splitlines()[-1]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--model.upsampling", "magic"), "--model.upsampling: must be one of bilinear, "),
        (("--model.architecture", "fcn32s"), "model: fcn32s needs features at stride 32"),
        (("--dataset", "imagenet"), "--dataset: must be one of shapes, edges, camvid, "),
        (("--train", "learn"), "no split called 'learn'; there are test, train, val"),
        (("--epochs", "many"), "--epochs: expected a whole number, got 'many'"),
        (("--batch-size", "17"), "--batch-size 17: there are only 16 images"),
        (("--batch-size", "4", "--accumulate", "3"), "is no multiple of 1 processes x 3 parts"),
        (("--root", "/no/such/folder"), "/no/such/folder: no such file or folder"),
        (("--device", "abacus"), "--device abacus"),
        (("--config", "nowhere.toml"), "nowhere.toml: no such file or folder"),
    ],
)
def test_misuse_is_one_clear_line_and_status_2(
    squares: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    more: tuple[str, ...], message: str,
) -> None:  # fmt: skip
    out = tmp_path / "out"
    assert message in error_line(capsys, words(squares, out, *more))
    assert not out.exists()


def test_a_training_is_not_overwritten(
    squares: Path, whole: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = error_line(capsys, words(squares, whole))
    assert "last.pt: exists already: --resume, or name a new --out" in line


def test_it_resumes_nothing_but_the_same_training(
    squares: Path, whole: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = error_line(capsys, words(squares, whole, "--resume", "--seed", "5"))
    assert "last.pt: was trained with ema = 0.9, not 0.0" in line


def test_a_spoilt_checkpoint_is_named(
    squares: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "last.pt").write_bytes(b"PK\x03\x04 but no more")
    line = error_line(capsys, words(squares, tmp_path, "--resume"))
    assert "last.pt: not a checkpoint" in line


def test_a_wrong_label_id_is_found_before_training(
    squares: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "spoilt"
    root.mkdir()
    for name in ("images", "train.txt", "val.txt", "test.txt", "classes.json"):
        (root / name).symlink_to(squares / name)
    (root / "labels").mkdir()
    for file in (squares / "labels").iterdir():
        (root / "labels" / file.name).write_bytes(file.read_bytes())
    cv2.imwrite(str(root / "labels" / "train7.png"), np.full((24, 32), 9, np.uint8))
    line = error_line(capsys, words(root, tmp_path / "out"))
    assert "train7.png: label 9 is not one of 2 classes (0 .. 1)" in line


def test_a_fused_loss_draws_the_same_curve(tmp_path: Path) -> None:
    histories = []
    for impl in ("reference", "chunked", None):
        options = TrainOptions(
            epochs=2,
            batch_size=25,
            factor=0.5,
            full_labels=True,
            out=str(tmp_path / (impl or "best")),
            model=ModelOptions(width=4, depth=2),
            loss=LossOptions(impl=impl),
        )
        histories.append([row["loss"] for row in train_model(options).history])
    assert histories[1] == pytest.approx(histories[0], rel=1e-3)  # sixteen steps of float32 apart
    assert histories[2] == pytest.approx(histories[0], rel=1e-3)
