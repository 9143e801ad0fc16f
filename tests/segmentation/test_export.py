"""Tests of the export to ONNX, with onnxruntime."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from upmap.segmentation.evaluation import as_input
from upmap.segmentation.export import ExportMismatchError, export_onnx, main
from upmap.segmentation.inference import TrainedModel, load_model
from upmap.segmentation.models import ModelOptions, build_model
from upmap.segmentation.tiling import Size
from upmap.segmentation.upsampling import UPSAMPLERS

EXPORT = torch.onnx.export
PALETTE = np.zeros((3, 3), np.uint8)


def untrained_model(upsampling: str, architecture: str = "unet") -> TrainedModel:
    torch.manual_seed(0)
    options = ModelOptions(
        classes=3, width=8, depth=3, upsampling=upsampling, architecture=architecture
    )
    return TrainedModel(
        build_model(options).eval(), ("a", "b", "c"), PALETTE, 1.0, "fp32", upsampling=upsampling
    )


def logits_of_file(path: Path, images: Tensor) -> np.ndarray:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(["logits"], {"images": images.numpy()})[0]


@pytest.mark.filterwarnings("ignore:a transposed convolution's kernel")
@pytest.mark.parametrize("upsampling", UPSAMPLERS)
def test_every_operator_can_be_exported(upsampling: str, tmp_path: Path) -> None:
    path, network = tmp_path / "model.onnx", untrained_model(upsampling)
    difference, sizes = export_for_any_size_or_one(network, path)
    assert difference < 1e-5
    for size in sizes:
        images = torch.rand(2, 3, *size) * 255
        with torch.no_grad():
            expected = network.model(as_input(images)).numpy()
        atol = 1e-5 * np.abs(expected).max()
        np.testing.assert_allclose(logits_of_file(path, images), expected, rtol=0, atol=atol)


def export_for_any_size_or_one(network: TrainedModel, path: Path) -> tuple[float, list[Size]]:
    """Exports for any size if the installed torch can: releases differ.

    Returns:
        The difference that was seen, and sizes of images that the file must be right for.
    """
    try:
        return export_onnx(network, path), [(50, 33), (64, 97)]
    except ExportMismatchError:
        assert not list(path.parent.iterdir())
        return export_onnx(network, path, size=(45, 62)), [(45, 62)]


def refuse(*_: Any, **__: Any) -> None:
    raise NotImplementedError("an operator")


def export_one_size(*arguments: Any, dynamic_shapes: Any, **options: Any) -> Any:
    return EXPORT(*arguments, **options)


def export_garbage(*arguments: Any, **options: Any) -> Any:
    program = EXPORT(*arguments, **options)
    program.save = lambda path: Path(path).write_bytes(b"no graph")
    return program


@pytest.mark.parametrize(
    ("exporter", "message"),
    [
        (refuse, r"torch cannot export it \(NotImplementedError\)"),
        (export_one_size, "onnxruntime cannot run it for images of "),
        (export_garbage, "onnxruntime cannot run it for images of "),
    ],
)
def test_what_cannot_be_exported_for_any_size_says_so_and_leaves_nothing(
    exporter: Any, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.onnx, "export", exporter)
    with pytest.raises(ExportMismatchError, match=message + ".*; try one size, --size"):
        export_onnx(untrained_model("bilinear"), tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


class Constant(nn.Module):
    """A model whose logits are all one value."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = value

    def forward(self, images: Tensor) -> Tensor:
        return images * 0 + self.value


def test_logits_that_are_not_finite_are_refused_and_zeros_are_not(tmp_path: Path) -> None:
    def constant(value: float) -> TrainedModel:
        return TrainedModel(Constant(value), ("a",), PALETTE[:1], 1.0, "fp32", "none")

    for value in (np.nan, np.inf):
        with pytest.raises(ExportMismatchError, match="differ by nan"):
            export_onnx(constant(value), tmp_path / "model.onnx")
        assert not list(tmp_path.iterdir())
    assert export_onnx(constant(0.0), tmp_path / "model.onnx") == 0


def test_an_exported_checkpoint_takes_pixels_of_any_size_and_knows_its_classes(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import onnxruntime

    path = tmp_path / "model.onnx"
    assert main([str(checkpoint), str(path)]) == 0
    assert "differ by at most" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == [path]
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    trained = load_model(checkpoint)
    for shape in ((1, 3, 50, 33), (4, 3, 128, 192)):
        images = torch.randint(0, 256, shape, dtype=torch.uint8)
        logits = session.run(["logits"], {"images": images.float().numpy()})[0]
        with torch.no_grad():
            expected = trained.model(as_input(images)).numpy()
        np.testing.assert_allclose(logits, expected, atol=1e-4 * np.abs(expected).max())
    said = session.get_modelmeta().custom_metadata_map
    assert json.loads(said["classes"]) == list(trained.classes)
    assert json.loads(said["palette"]) == trained.palette.tolist()
    assert json.loads(said["factor"]) == 0.5
    assert said["upsampling"] == "bilinear"


class Counting(nn.Module):
    """A model whose logits change with every call."""

    calls = 0

    def forward(self, images: Tensor) -> Tensor:
        self.calls += 1
        return images * self.calls


def test_a_model_that_is_another_once_exported_is_refused(tmp_path: Path) -> None:
    wrong = TrainedModel(Counting(), ("a",), PALETTE[:1], 1.0, "fp32", "none")
    with pytest.raises(ExportMismatchError, match="more than"):
        export_onnx(wrong, tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


def test_the_program_says_1_for_what_it_cannot_export(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "model.onnx"
    assert main([str(checkpoint), str(out), "--tolerance", "1e-12"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: onnxruntime's logits differ")
    assert error.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_misuse_is_one_line_and_exit_2(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    there = tmp_path / "model.onnx"
    there.write_text("mine")
    (tmp_path / "bad.pt").write_text("no checkpoint")
    for words, named in (
        ([checkpoint, there], "exists already"),
        ([tmp_path / "bad.pt", tmp_path / "new.onnx"], "not a checkpoint"),
        ([checkpoint, tmp_path / "no" / "new.onnx"], "cannot be written"),
        ([checkpoint, tmp_path / "new.onnx", "--size", "0,3"], "size"),
    ):
        assert main([str(word) for word in words]) == 2
        error = capsys.readouterr().err
        assert named in error
        assert error.count("\n") == 1
    assert there.read_text() == "mine"
