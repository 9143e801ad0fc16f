"""Tests of encoders of timm; skipped where it is not installed, but for what that says."""

import builtins
import importlib.util
from pathlib import Path
from typing import Any

import pytest
import torch

from upmap.errors import InputError
from upmap.segmentation.augmentation import AugmentationOptions
from upmap.segmentation.inference import load_model
from upmap.segmentation.models import ModelOptions, build_meta_model, build_model
from upmap.segmentation.train import train_model
from upmap.segmentation.training_options import TrainOptions

needs_timm = pytest.mark.skipif(
    importlib.util.find_spec("timm") is None, reason='timm is not installed: "upmap[timm]"'
)
SMALL = "timm:mobilenetv3_small_050"  # 0.6 M parameters, strides 2 .. 32
NAMES = (SMALL, "timm:convnext_atto", "timm:vgg11")  # strides from 2, from 4, from 1


def options(encoder: str = SMALL, **more: Any) -> ModelOptions:
    return ModelOptions(classes=3, encoder=encoder, **more)


@needs_timm
@pytest.mark.parametrize("architecture", ["unet", "fcn8s", "fcn32s"])
@pytest.mark.parametrize("encoder", NAMES)
def test_a_model_of_timm_encodes_images_of_any_size(encoder: str, architecture: str) -> None:
    model = build_model(options(encoder, architecture=architecture)).eval()
    for size in ((1, 1), (45, 61), (64, 96)):
        with torch.no_grad():
            assert model(torch.randn(1, 3, *size)).shape == (1, 3, *size)


@needs_timm
def test_features_are_those_of_timm_where_sides_need_no_padding() -> None:
    import timm

    encoder = build_model(options()).encoder.eval()
    other = timm.create_model("mobilenetv3_small_050", features_only=True).eval()
    other.load_state_dict(encoder.model.state_dict())
    images = torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        for ours, expected in zip(encoder(images)[0], other(images), strict=True):
            assert torch.equal(ours, expected)
    assert encoder.strides == [2, 4, 8, 16, 32]


@needs_timm
@pytest.mark.parametrize("ending", [".pth", ".safetensors"])
def test_weights_come_from_a_file_of_the_whole_model(ending: str, tmp_path: Path) -> None:
    import timm
    from safetensors.torch import save_file

    whole = timm.create_model("convnext_atto")
    path = tmp_path / f"weights{ending}"
    (torch.save if ending == ".pth" else save_file)(whole.state_dict(), path)
    encoder = build_model(options("timm:convnext_atto", weights=str(path))).encoder
    expected = whole.state_dict()["stages.2.blocks.0.mlp.fc1.weight"]
    assert torch.equal(encoder.model.state_dict()["stages_2.blocks.0.mlp.fc1.weight"], expected)


@needs_timm
def test_weights_of_another_model_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    torch.save(build_model(options()).state_dict(), path)
    with pytest.raises(InputError, match=r"weights.pth: the model has no 'encoder\."):
        build_model(options(weights=str(path)))


@needs_timm
@pytest.mark.parametrize(
    ("encoder", "message"),
    [
        ("timm:no_such_net", "timm has no model 'no_such_net'; timm.list_models"),
        ("timm:mobilenetv3", "has no model 'mobilenetv3'; .*, such as .*mobilenetv3"),
        ("timm:hf-hub:someone/net", "timm has no model 'hf-hub:someone/net'"),
        ("timm:../net", "timm has no model"),
        ("timm:", "timm has no model ''"),
        ("timm:vit_tiny_patch16_224", "has features at strides 16, 16, 16; each must be twice"),
    ],
)
def test_what_is_no_encoder_of_timm_is_refused(encoder: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_meta_model(options(encoder))


@needs_timm
def test_a_model_for_images_of_one_size_says_so() -> None:
    model = build_meta_model(options("timm:swin_tiny_patch4_window7_224"))
    with pytest.raises(ValueError, match="timm:swin_tiny_patch4_window7_224: Input height"):
        model(torch.empty(1, 3, 64, 64, device="meta"))


@needs_timm
def test_a_training_with_an_encoder_of_timm_is_predicted_from_its_checkpoint(
    tmp_path: Path,
) -> None:
    model = ModelOptions(encoder=SMALL, decoder_width=0.5)
    views = AugmentationOptions(crop=(48, 48))
    train_model(
        TrainOptions(
            dataset="edges", epochs=1, batch_size=100, model=model, augmentation=views,
            out=str(tmp_path),
        )
    )  # fmt: skip
    trained = load_model(tmp_path / "best.pt")
    assert trained.options.encoder == SMALL
    assert trained.model(torch.randn(1, 3, 40, 33)).shape == (1, 2, 40, 33)


def test_where_timm_is_not_installed_a_line_says_how(monkeypatch: pytest.MonkeyPatch) -> None:
    untouched = builtins.__import__

    def fail(name: str, *arguments: Any, **more: Any) -> Any:
        if name == "timm":
            raise ImportError(name)
        return untouched(name, *arguments, **more)

    monkeypatch.setattr(builtins, "__import__", fail)
    with pytest.raises(InputError, match=r'not installed; `pip install "upmap\[timm\]"` brings it'):
        build_model(options())
