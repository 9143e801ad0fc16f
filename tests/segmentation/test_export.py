"""Tests of the export to ONNX, with onnxruntime."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from upmap.errors import InputError
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
    return TrainedModel(build_model(options).eval(), ("a", "b", "c"), PALETTE, 1.0, "fp32", options)


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
        return TrainedModel(Constant(value), ("a",), PALETTE[:1], 1.0, "fp32", ModelOptions())

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
    wrong = TrainedModel(Counting(), ("a",), PALETTE[:1], 1.0, "fp32", ModelOptions())
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


def test_pixels_of_8_bits_give_the_same_logits_and_argmax_gives_their_labels(
    varied_checkpoint: Path, tmp_path: Path
) -> None:
    import onnxruntime

    trained = load_model(varied_checkpoint)
    plain, compact = tmp_path / "plain.onnx", tmp_path / "compact.onnx"
    assert export_onnx(trained, plain) < 1e-5
    assert main([str(varied_checkpoint), str(compact), "--uint8-input", "--argmax"]) == 0
    session = onnxruntime.InferenceSession(str(compact), providers=["CPUExecutionProvider"])
    assert [value.type for value in session.get_inputs()] == ["tensor(uint8)"]
    assert [(value.name, value.type) for value in session.get_outputs()] == [
        ("labels", "tensor(uint8)")
    ]
    for shape in ((1, 3, 50, 33), (4, 3, 64, 96)):
        images = torch.randint(0, 256, shape, dtype=torch.uint8)
        (labels,) = session.run(None, {"images": images.numpy()})
        assert labels.shape == (shape[0], *shape[2:])
        expected = logits_of_file(plain, images.float()).argmax(1)
        assert (labels != expected).mean() < 1e-3  # but where two logits are equal to rounding
        assert len(np.unique(labels)) > 2


def test_a_file_of_8_bit_pixels_labels_images_and_labels_alone_are_refused(
    varied_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from upmap.data.shapes import scenes
    from upmap.segmentation.predictor import load_predictor

    path = tmp_path / "model.onnx"
    assert main([str(varied_checkpoint), str(path), "--uint8-input"]) == 0
    image = scenes(1, 3, colored=True)[0].image
    expected = load_predictor(varied_checkpoint).labels(image)
    # Scaled images are rounded to 8 bits.
    assert (load_predictor(path).labels(image) != expected).mean() < 0.02
    labels_only = tmp_path / "labels.onnx"
    assert main([str(varied_checkpoint), str(labels_only), "--argmax"]) == 0
    with pytest.raises(InputError, match="from images to logits, without --argmax"):
        load_predictor(labels_only)


class WrongLabels(nn.Module):
    """A model whose exported file has the class after that of its largest logit."""

    def forward(self, images: Tensor) -> Tensor:
        planes = [images[:, 0] + 2, images[:, 1] + 1, images[:, 2] - 9]
        return torch.stack(
            planes[-1:] + planes[:-1] if torch.compiler.is_exporting() else planes, 1
        )


def test_labels_that_are_not_those_of_the_largest_logit_are_refused(tmp_path: Path) -> None:
    wrong = TrainedModel(WrongLabels(), ("a", "b", "c"), PALETTE, 1.0, "fp32", ModelOptions())
    with pytest.raises(ExportMismatchError, match="differ by"):
        export_onnx(wrong, tmp_path / "model.onnx", argmax=True)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("flags", [[], ["--uint8-input", "--argmax", "--size", "45,62"]])
def test_a_folder_for_triton_describes_the_file_in_it(
    flags: list[str], checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import onnxruntime

    folder = tmp_path / "models" / 'the "best"'
    assert main([str(checkpoint), "--triton", str(folder), *flags]) == 0
    files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert files == {"config.pbtxt", "1/model.onnx"}
    config = (folder / "config.pbtxt").read_text()
    assert config.startswith('name: "the \\"best\\""\nbackend: "onnxruntime"\n')
    assert "dynamic_batching {" in config
    path = str(folder / "1" / "model.onnx")
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    types = {"tensor(uint8)": "TYPE_UINT8", "tensor(float)": "TYPE_FP32"}
    for value in (*session.get_inputs(), *session.get_outputs()):
        dims = ", ".join(str(side) if isinstance(side, int) else "-1" for side in value.shape[1:])
        expected = f'name: "{value.name}" data_type: {types[value.type]} dims: [ {dims} ]'
        assert expected in config
    classes = json.dumps(json.dumps(load_model(checkpoint).classes))
    assert f'key: "classes" value {{ string_value: {classes} }}' in config
    assert main([str(checkpoint), "--triton", str(folder)]) == 2
    assert "exists already" in capsys.readouterr().err


@pytest.mark.parametrize("both", [True, False])
def test_either_a_file_or_a_folder_is_exported(
    both: bool, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    outputs = [str(tmp_path / "a.onnx"), "--triton", str(tmp_path / "b")] if both else []
    assert main([str(checkpoint), *outputs]) == 2
    assert "expected FILE, or --triton DIR in its place" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
