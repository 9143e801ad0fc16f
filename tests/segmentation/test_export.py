import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from segmentation.evaluation import as_input
from segmentation.export import ExportOptions, Unfaithful, exported, main
from segmentation.models import ModelOptions, model
from segmentation.trained import TrainedModel, trained_model
from segmentation.upsampling import UPSAMPLERS

PALETTE = np.zeros((3, 3), np.uint8)


def untrained(upsampling: str, architecture: str = "unet") -> TrainedModel:
    torch.manual_seed(0)
    options = ModelOptions(
        classes=3, width=8, depth=3, upsampling=upsampling, architecture=architecture
    )
    return TrainedModel(
        model(options).eval(), ("a", "b", "c"), PALETTE, 1.0, "fp32", upsampling=upsampling
    )


@pytest.mark.filterwarnings("ignore:a transposed convolution's kernel")
@pytest.mark.parametrize("upsampling", UPSAMPLERS)
def test_every_operator_can_be_exported(upsampling: str, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    size = (45, 62) if upsampling == "bicubic" else None  # torch has no bicubic for any size
    assert exported(untrained(upsampling), path, ExportOptions(size=size)) < 1e-5


def test_what_cannot_be_exported_for_any_size_says_so_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(Unfaithful, match="--size"):
        exported(untrained("bicubic"), tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


def test_an_exported_checkpoint_takes_pixels_of_any_size_and_knows_its_classes(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import onnxruntime

    path = tmp_path / "model.onnx"
    assert main([str(checkpoint), str(path)]) == 0
    assert "differ by at most" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == [path]
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    found = trained_model(checkpoint)
    for shape in ((1, 3, 50, 33), (4, 3, 128, 192)):
        images = torch.randint(0, 256, shape, dtype=torch.uint8)
        given = session.run(["logits"], {"images": images.float().numpy()})[0]
        with torch.no_grad():
            wanted = found.model(as_input(images)).numpy()
        np.testing.assert_allclose(given, wanted, atol=1e-4 * np.abs(wanted).max())
    said = session.get_modelmeta().custom_metadata_map
    assert json.loads(said["classes"]) == list(found.classes)
    assert json.loads(said["palette"]) == found.palette.tolist()
    assert json.loads(said["factor"]) == 0.5
    assert said["upsampling"] == "bilinear"


class Counting(nn.Module):
    """Says something else each time that it is called."""

    calls = 0

    def forward(self, images: Tensor) -> Tensor:
        self.calls += 1
        return images * self.calls


def test_a_model_that_is_another_once_exported_is_refused(tmp_path: Path) -> None:
    wrong = TrainedModel(Counting(), ("a",), PALETTE[:1], 1.0, "fp32", "none")
    with pytest.raises(Unfaithful, match="more than"):
        exported(wrong, tmp_path / "model.onnx")
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
        ([checkpoint, tmp_path / "new.onnx", "--size", "[0, 3]"], "size"),
    ):
        assert main([str(word) for word in words]) == 2
        error = capsys.readouterr().err
        assert named in error
        assert error.count("\n") == 1
    assert there.read_text() == "mine"
