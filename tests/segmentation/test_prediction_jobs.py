"""Tests of predictions of many images: nested folders, parts, interruptions, scores, JSON lines."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco

from upmap.data.shapes import scenes
from upmap.segmentation.datasets import read_image
from upmap.segmentation.predict import main
from upmap.segmentation.prediction_files import MANIFEST
from upmap.segmentation.predictor import SCORE_STEPS, PredictorOptions, load_predictor

ROOT = Path(__file__).resolve().parents[2]
COUNT = 12


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images in nested folders, two of them with the same name."""
    folder = tmp_path_factory.mktemp("photos")
    for i, scene in enumerate(scenes(COUNT, 5, colored=True)):
        path = folder / ("left", "right/far")[i % 2] / f"{i // 2:04d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), scene.image[: 90 + i, :, ::-1])
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    """The bytes of each file, but for hidden ones, which only `kill -9` leaves."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.startswith(".")
    }


def predict(*arguments: object) -> int:
    return main([str(argument) for argument in arguments])


def test_nested_folders_keep_their_paths(
    varied_checkpoint: Path, photos: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    assert predict(varied_checkpoint, photos, "--out", out, "--no-overlay") == 0
    images = {str(path.relative_to(photos)) for path in photos.rglob("*.png")}
    assert {*contents(out)} == images | {MANIFEST}
    predictor = load_predictor(varied_checkpoint)
    for name in images:
        labels = np.array(Image.open(out / name))
        np.testing.assert_array_equal(labels, predictor.labels(read_image(photos / name)))


def test_an_output_folder_within_the_images_is_not_read(
    varied_checkpoint: Path, photos: Path, tmp_path: Path
) -> None:
    (tmp_path / "all").mkdir()
    (tmp_path / "all" / "photos").symlink_to(photos)  # not followed
    (tmp_path / "all" / "one.png").write_bytes((photos / "left" / "0000.png").read_bytes())
    out = tmp_path / "all" / "out"
    for flags in ([], ["--resume"]):
        assert predict(varied_checkpoint, tmp_path / "all", "--out", out, *flags) == 0
        assert {*contents(out)} == {"one.png", "one_overlay.jpg", MANIFEST}


def test_files_of_other_formats_are_named_as_left_out(
    varied_checkpoint: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "mixed"
    folder.mkdir()
    (folder / "a.png").write_bytes((photos / "left" / "0000.png").read_bytes())
    (folder / "b.avif").write_bytes(b"")
    assert predict(varied_checkpoint, folder, "--out", tmp_path / "out") == 0
    error = capsys.readouterr().err
    assert error.startswith("warning: left out")
    assert "b.avif" in error
    (folder / "a.png").unlink()
    assert predict(varied_checkpoint, folder, "--out", tmp_path / "out") == 2
    assert ".avif" in capsys.readouterr().err


def test_parts_together_are_the_whole(
    varied_checkpoint: Path, photos: Path, tmp_path: Path
) -> None:
    assert predict(varied_checkpoint, photos, "--out", tmp_path / "whole") == 0
    for part in (2, 5, 1, 3, 4):
        assert (
            predict(varied_checkpoint, photos, "--out", tmp_path / "parts", "--part", f"{part}/5")
            == 0
        )
    assert contents(tmp_path / "parts") == contents(tmp_path / "whole")


@pytest.mark.parametrize("part", ["0/3", "4/3", "3", "1/0", "-1/3", "1/3/5", "one/two"])
def test_a_part_that_is_none_is_refused(
    part: str,
    varied_checkpoint: Path,
    photos: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert predict(varied_checkpoint, photos, "--out", tmp_path / "out", f"--part={part}") == 2
    assert "part must be I/N" in capsys.readouterr().err


def start(varied_checkpoint: Path, photos: Path, out: Path, *flags: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "upmap.segmentation.predict", varied_checkpoint, photos]
    return subprocess.Popen(
        [*map(str, command), "--out", str(out), "--json", f"{out}.jsonl", *flags],
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
    )


def test_what_was_killed_goes_on_to_the_same_bytes(
    varied_checkpoint: Path, photos: Path, tmp_path: Path
) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    flags = ("--scores", "npz", "--window", "64")
    assert (
        predict(varied_checkpoint, photos, "--out", whole, "--json", f"{whole}.jsonl", *flags) == 0
    )
    generator = random.Random(0)
    for _ in range(3):
        process = start(varied_checkpoint, photos, killed, "--resume", *flags)
        written = len(contents(killed)) if killed.exists() else 0
        while process.poll() is None:  # until it has written something, and a moment more
            if killed.exists() and len(contents(killed)) > written + 1:
                time.sleep(generator.random() * 0.03)
                process.send_signal(signal.SIGKILL)
                process.wait()
            time.sleep(0.002)
        assert len(contents(killed)) > written
    assert not Path(f"{killed}.jsonl").exists() or process.returncode == 0
    arguments = [varied_checkpoint, photos, "--out", killed, "--json", f"{killed}.jsonl", *flags]
    assert predict(*arguments, "--resume") == 0
    assert contents(killed) == contents(whole)
    assert Path(f"{killed}.jsonl").read_bytes() == Path(f"{whole}.jsonl").read_bytes()


def test_resuming_labels_again_what_is_broken_or_missing_and_nothing_else(
    varied_checkpoint: Path, photos: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    assert predict(varied_checkpoint, photos, "--out", out) == 0
    before = contents(out)
    kept = out / "left" / "0000.png"
    written = kept.stat().st_mtime_ns
    (out / "left" / "0001.png").write_bytes(before["left/0001.png"][:-20])
    (out / "left" / "0002_overlay.jpg").unlink()
    assert predict(varied_checkpoint, photos, "--out", out, "--resume") == 0
    assert contents(out) == before
    assert kept.stat().st_mtime_ns == written


@pytest.mark.parametrize(("flags", "key"), [(["--flip"], "flip"), (["--window", "50"], "window")])
def test_labels_made_otherwise_are_not_mixed(
    flags: list[str],
    key: str,
    varied_checkpoint: Path,
    photos: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "out"
    assert predict(varied_checkpoint, photos, "--out", out, "--part", "1/3") == 0
    before = contents(out)
    assert predict(varied_checkpoint, photos, "--out", out, "--resume", *flags) == 2
    error = capsys.readouterr().err
    assert f"{MANIFEST}:{key}: labels there were made with" in error
    assert error.count("\n") == 1
    assert contents(out) == before


def test_bad_images_are_left_out_and_listed(
    varied_checkpoint: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "some"
    folder.mkdir()
    (folder / "good.png").write_bytes((photos / "left" / "0000.png").read_bytes())
    (folder / "cut.png").write_bytes((photos / "left" / "0000.png").read_bytes()[:-500])
    (folder / "text.jpg").write_text("no image")
    out = tmp_path / "out"
    assert predict(varied_checkpoint, folder, "--out", out, "--skip-bad", "--no-overlay") == 0
    lines = (out / "skipped.txt").read_text().splitlines()
    assert [line.partition("\t")[0] for line in lines] == [
        str(folder / "cut.png"),
        str(folder / "text.jpg"),
    ]
    assert all("\t" in line and len(line.partition("\t")[2]) > 10 for line in lines)
    captured = capsys.readouterr()
    assert "2 images left out" in captured.err
    assert "labels of 1 images" in captured.out
    assert {*contents(out)} == {"good.png", "skipped.txt", MANIFEST}
    (folder / "good.png").unlink()
    assert predict(varied_checkpoint, folder, "--out", tmp_path / "none", "--skip-bad") == 2


def test_a_line_of_json_for_each_image_has_its_masks(
    varied_checkpoint: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert predict(varied_checkpoint, photos, "--out", out, "--json", "-") == 0
    records = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(records) == COUNT
    for record in records:
        labels = np.array(Image.open(out / record["labels"]))
        assert labels.shape == (record["height"], record["width"])
        assert Path(record["image"]).is_file()
        for row in record["classes"]:
            np.testing.assert_array_equal(coco.decode(row["rle"]), labels == row["id"])
            assert row["share"] == row["pixels"] / labels.size


def test_scores_are_the_softmax_of_the_logits(
    varied_checkpoint: Path, photos: Path, tmp_path: Path
) -> None:
    image = photos / "left" / "0001.png"
    for kind in ("png", "npz"):
        assert predict(varied_checkpoint, image, "--out", tmp_path / kind, "--scores", kind) == 0
    scores = np.array(Image.open(tmp_path / "png" / "0001_scores.png"))
    all_scores = np.load(tmp_path / "npz" / "0001_scores.npz")["probabilities"]
    labels = np.array(Image.open(tmp_path / "png" / "0001.png"))
    assert all_scores.dtype == np.uint16
    np.testing.assert_array_equal(scores, np.take_along_axis(all_scores, labels[None], 0)[0])
    np.testing.assert_array_equal(scores, all_scores.max(0))
    # Each of K numbers is rounded by at most half a step.
    assert np.abs(all_scores.astype(int).sum(0) - SCORE_STEPS).max() <= len(all_scores) / 2
    expected = softmax(varied_checkpoint, read_image(image)) * SCORE_STEPS
    assert np.abs(all_scores - expected).max() <= 0.51  # half a step, and rounding of float32


def softmax(varied_checkpoint: Path, image: np.ndarray) -> Any:
    import torch

    from upmap.segmentation.evaluation import as_input, resize
    from upmap.segmentation.inference import load_model

    trained = load_model(varied_checkpoint)
    pixels = torch.from_numpy(image.transpose(2, 0, 1).copy())[None]
    with torch.no_grad():
        logits = trained.model(resize(as_input(pixels), trained.factor))
    size = list(image.shape[:2])
    logits = torch.nn.functional.interpolate(logits, size=size, mode="bilinear")
    return logits.double().softmax(1)[0].numpy()


def test_a_batch_of_images_is_labeled_as_each_of_them(
    varied_checkpoint: Path, photos: Path
) -> None:
    predictor = load_predictor(varied_checkpoint, PredictorOptions(batch_size=4))
    images = [read_image(path)[:90] for path in sorted(photos.rglob("*.png"))]
    for level in ("labels", "scores", "probabilities"):
        for image, prediction in zip(images, predictor.predict_batch(images, level), strict=True):
            single = predictor.predict(image, level)
            np.testing.assert_array_equal(prediction.labels, single.labels)
            assert (prediction.scores is None) == (level == "labels")
            if prediction.scores is not None and single.scores is not None:
                np.testing.assert_array_equal(prediction.scores, single.scores)


def test_an_exported_file_labels_as_its_checkpoint(
    varied_checkpoint: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from upmap.segmentation.export import main as export

    path = tmp_path / "model.onnx"
    assert export([str(varied_checkpoint), str(path)]) == 0
    trained, exported = load_predictor(varied_checkpoint), load_predictor(path)
    assert exported.classes == trained.classes
    np.testing.assert_array_equal(exported.palette, trained.palette)
    image = read_image(photos / "left" / "0000.png")
    # But for pixels where two logits are equal to 1e-6.
    assert (exported.labels(image) != trained.labels(image)).mean() < 1e-3
    assert predict(path, photos, "--out", tmp_path / "out", "--part", "1/6") == 0
    for flags in (["--precision", "bf16"], ["--device", "mps"]):
        assert predict(path, photos, "--out", tmp_path / "other", *flags) == 2
        assert f"{flags[0]}" in capsys.readouterr().err


def test_an_overlay_that_no_jpeg_can_hold_is_refused_before_the_work(
    varied_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = tmp_path / "long.png"
    Image.fromarray(np.zeros((1, 65501, 3), np.uint8)).save(image)
    assert predict(varied_checkpoint, image, "--out", tmp_path / "out") == 2
    assert "long.png: an overlay has at most 65500 px a side" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert predict(varied_checkpoint, image, "--out", tmp_path / "out", "--no-overlay") == 0
    assert np.array(Image.open(tmp_path / "out" / "long.png")).shape == (1, 65501)


@pytest.mark.parametrize("content", [b"", b"no graph", b"\x08" * 100])
def test_a_file_that_is_no_onnx_is_one_line(
    content: bytes, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    assert predict(path, photos, "--out", tmp_path / "out") == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "model.onnx: onnxruntime cannot load it" in error
