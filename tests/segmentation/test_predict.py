"""Tests of predictions: windows, flips, files and errors."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from upmap.data.shapes import scenes
from upmap.segmentation.checkpoint import load_checkpoint, save_checkpoint
from upmap.segmentation.datasets import open_dataset
from upmap.segmentation.inference import load_model
from upmap.segmentation.predict import main
from upmap.segmentation.prediction_files import MANIFEST, overlay_labels
from upmap.segmentation.predictor import predict_labels


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    for i, scene in enumerate(scenes(2, 5, colored=True)):
        cv2.imwrite(str(folder / f"scene_{i}.png"), scene.image[:, :, ::-1])
    (folder / "notes.txt").write_text("no image")
    return folder


def labels(path: Path) -> Any:
    return np.array(Image.open(path))


def test_a_folder_is_labeled(
    checkpoint: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main([str(checkpoint), str(images), "--out", str(out)]) == 0
    expected = {f"scene_{i}{end}" for i in range(2) for end in (".png", "_overlay.jpg")}
    assert {path.name for path in out.iterdir()} == expected | {MANIFEST}
    shown = capsys.readouterr().out
    assert "labels of 2 images" in shown
    trained = load_model(checkpoint)
    for scene in ("scene_0", "scene_1"):
        image = cv2.imread(str(images / f"{scene}.png"))
        assert image is not None
        pixels = torch.from_numpy(image[:, :, ::-1].transpose(2, 0, 1).copy())
        wanted_labels = predict_labels(trained.model, pixels, factor=0.5).numpy()
        np.testing.assert_array_equal(labels(out / f"{scene}.png"), wanted_labels)
        palette = np.array(Image.open(out / f"{scene}.png").getpalette()).reshape(-1, 3)
        np.testing.assert_array_equal(palette[: len(trained.palette)], trained.palette)
        covered = cv2.imread(str(out / f"{scene}_overlay.jpg"))
        assert covered is not None
        assert covered.shape == image.shape


def test_predictions_on_a_test_set_have_the_scores_of_the_training(checkpoint: Path) -> None:
    from upmap.metrics.semantic import semantic_scores
    from upmap.segmentation.evaluation import confusion_matrix, evaluate_model

    trained, data = load_model(checkpoint), open_dataset("shapes", None, "test", count=6)
    whole = evaluate_model(trained.model, data, 6, device=torch.device("cpu"), factor=0.5)
    total = torch.zeros(6, 6, dtype=torch.int64)
    for i in range(len(data)):
        image, label = data[i]
        total += confusion_matrix(label, predict_labels(trained.model, image, factor=0.5), 6)
    np.testing.assert_array_equal(total.numpy(), whole)
    assert semantic_scores(whole).mIoU > 0


def test_windows_of_a_model_without_surroundings_see_what_the_whole_does() -> None:
    torch.manual_seed(0)
    model = nn.Conv2d(3, 4, 1)
    image = torch.randint(0, 256, (3, 70, 90), dtype=torch.uint8)
    whole = predict_labels(model, image)
    for window, overlap, batch_size in (((32, 32), 0.25, 1), ((19, 90), 0.6, 4), ((7, 5), 0, 9)):
        labels = predict_labels(model, image, window=window, overlap=overlap, batch_size=batch_size)
        assert (labels == whole).float().mean() > 0.999  # but for ties after blending
    assert len(whole.unique()) > 1


def test_flipping_makes_predictions_that_flip_with_the_image() -> None:
    torch.manual_seed(0)
    model = nn.Conv2d(3, 4, 5, padding=2)
    image = torch.randint(0, 256, (3, 40, 50), dtype=torch.uint8)
    labels, mirrored = (predict_labels(model, seen, flip=True) for seen in (image, image.flip(2)))
    assert (labels == mirrored.flip(1)).float().mean() > 0.999
    assert (predict_labels(model, image) != predict_labels(model, image.flip(2)).flip(1)).any()


def test_an_overlay_is_half_the_image_and_half_the_colors() -> None:
    image = np.full((2, 2, 3), 200, np.uint8)
    palette = np.array([[0, 0, 0], [100, 50, 255]], np.uint8)
    overlay = overlay_labels(image, np.array([[0, 1], [1, 0]], np.uint8), palette)
    assert overlay[0, 0].tolist() == [100, 100, 100]
    assert overlay[0, 1].tolist() == [150, 125, 227]


def test_what_exists_is_not_written_over(
    checkpoint: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (images / "scene_0.png").read_bytes()
    assert main([str(checkpoint), str(images), "--out", str(images)]) == 2
    assert "--out is a folder of images; name another" in capsys.readouterr().err
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "scene_0.png").write_text("mine")
    assert main([str(checkpoint), str(images), "--out", str(tmp_path / "out")]) == 2
    assert "exists already" in capsys.readouterr().err
    assert (images / "scene_0.png").read_bytes() == before
    assert len(list(images.iterdir())) == 3


def _truncate(images: Path) -> str:
    path = images / "scene_1.png"
    path.write_bytes(path.read_bytes()[:-2000])
    return "scene_1.png"


def _text(images: Path) -> str:
    (images / "words.jpg").write_text("no image")
    return "words.jpg"


def _clash(images: Path) -> str:
    (images / "scene_0.jpg").write_bytes((images / "scene_0.png").read_bytes())
    return "scene_0"


@pytest.mark.parametrize("spoil", [_truncate, _text, _clash])
def test_bad_images_are_named_before_anything_is_written(
    spoil: Callable[[Path], str],
    checkpoint: Path,
    images: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    name = spoil(images)
    assert main([str(checkpoint), str(images), "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert name in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:5000])


def _foreign(path: Path) -> None:
    torch.save({"state_dict": {}}, path)


def _operator(path: Path) -> None:
    checkpoint = load_checkpoint(path)
    checkpoint["options"]["model"]["upsampling"] = "magic"
    save_checkpoint(path, checkpoint)


def _weights(path: Path) -> None:
    checkpoint = load_checkpoint(path)
    checkpoint["model"].popitem()
    save_checkpoint(path, checkpoint)


def _palette(path: Path) -> None:
    checkpoint = load_checkpoint(path)
    checkpoint["palette"] = checkpoint["palette"][1:]
    save_checkpoint(path, checkpoint)


def _options(path: Path) -> None:
    checkpoint = load_checkpoint(path)
    checkpoint["options"]["model"] = 3
    save_checkpoint(path, checkpoint)


@pytest.mark.parametrize("spoil", [_cut, _foreign, _operator, _weights, _palette, _options])
def test_bad_checkpoints_are_one_line_and_exit_2(
    spoil: Callable[[Path], None],
    checkpoint: Path,
    images: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    bad = tmp_path / "bad.pt"
    bad.write_bytes(checkpoint.read_bytes())
    spoil(bad)
    assert main([str(bad), str(images), "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert "bad.pt" in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--overlap", "1"], "overlap"),
        (["--window", "-3"], "window"),
        (["--precision", "fp8"], "fp8"),
        (["--batch-size", "0"], "--batch-size: must lie in [1, 65536], not 0"),
        (["--device", "abacus"], "abacus"),
    ],
)
def test_wrong_flags_are_one_line_and_exit_2(
    flags: list[str],
    named: str,
    checkpoint: Path,
    images: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main([str(checkpoint), str(images), "--out", str(tmp_path / "out"), *flags]) == 2
    error = capsys.readouterr().err
    assert named in error
    assert error.count("\n") == 1


def test_a_folder_without_images_is_an_error(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    assert main([str(checkpoint), str(tmp_path / "empty"), "--out", str(tmp_path / "out")]) == 2
    assert "no images" in capsys.readouterr().err
