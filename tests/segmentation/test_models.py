"""Tests of models with every operator and odd sizes, and of their costs."""

import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from upmap.detection import InputError
from upmap.segmentation.comparison.cost import macs, match_budget, parameters
from upmap.segmentation.models import (
    ACTIVATIONS,
    ModelOptions,
    SelfAttention,
    build_model,
)
from upmap.segmentation.upsampling import UPSAMPLERS

NAMES = sorted(UPSAMPLERS)
SMALL: dict[str, Any] = {"classes": 5, "width": 4, "depth": 3}
ODD = (45, 61)
TAPS = {"bilinear": 4, "bicubic": 16, "bilinear_additive": 1, "dysample": 4}  # torch counts none


def build(**options: Any) -> torch.nn.Module:
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="a transposed convolution's kernel of")
        return build_model(ModelOptions(**{**SMALL, **options})).eval()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("architecture", ["unet", "fcn8s"])
def test_every_operator_fits_every_architecture_at_odd_sizes(architecture: str, name: str) -> None:
    if architecture == "fcn8s" and name == "max_unpooling":
        with pytest.raises(ValueError, match="cannot upsample the scores of an FCN"):
            build(architecture=architecture, upsampling=name)
        return
    logits = build(architecture=architecture, upsampling=name)(torch.rand(2, 3, *ODD))
    assert logits.shape == (2, 5, *ODD)
    assert logits.isfinite().all()


@pytest.mark.parametrize("name", NAMES)
def test_channels_may_be_reduced_after_upsampling(name: str) -> None:
    options = {"upsampling": name, "placement": "after"}
    if name == "max_unpooling":
        with pytest.raises(ValueError, match='needs placement "before"'):
            build(**options)
        return
    assert build(**options)(torch.rand(1, 3, *ODD)).shape == (1, 5, *ODD)


@pytest.mark.parametrize(("architecture", "depth"), [("fcn8s", 5), ("fcn16s", 5), ("fcn32s", 5)])
def test_an_fcn_refines_scores_down_to_its_stride(architecture: str, depth: int) -> None:
    fcn = build(architecture=architecture, depth=depth)
    stride = int(architecture[3:-1])
    assert fcn._scores(torch.rand(1, 3, 64, 96)).shape == (1, 5, 64 // stride, 96 // stride)
    assert fcn(torch.rand(1, 3, *ODD)).shape == (1, 5, *ODD)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_every_activation_trains(activation: str) -> None:
    unet = build(activation=activation).train()
    unet(torch.rand(2, 3, 16, 16)).square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in unet.parameters())


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (7, 5)])
def test_images_may_be_tiny(size: tuple[int, int]) -> None:
    assert build()(torch.rand(1, 3, *size)).shape == (1, 5, *size)


def test_the_default_is_about_two_million_parameters() -> None:
    assert 1.5e6 < parameters(build_model(ModelOptions(classes=11))) < 2.5e6


def test_attention_begins_as_nothing_added_and_attends_to_all() -> None:
    attention = SelfAttention(64)
    features = torch.rand(1, 64, 5, 7)
    bias = attention.output.bias
    torch.testing.assert_close(attention(features), features + bias.reshape(1, -1, 1, 1))
    torch.nn.init.normal_(attention.output.weight)
    changed = features.clone()
    changed[..., 0, 0] += 1
    moved = (attention(changed) - attention(features)).abs().amax(dim=1)[0]
    assert (moved > 0).all()


def test_attention_equals_the_written_out_formula() -> None:
    attention = SelfAttention(64)
    torch.nn.init.normal_(attention.output.weight, std=0.1)
    features = torch.rand(2, 64, 3, 4)
    projected = attention.inputs(attention.norm(features)).flatten(2)
    query, key, value = projected.reshape(2, 3, 2, 32, 12).unbind(1)
    weights = (query.transpose(2, 3) @ key / 32**0.5).softmax(-1)
    attended = (weights @ value.transpose(2, 3)).transpose(2, 3).reshape(2, 64, 3, 4)
    # The same in another order of sums, float32.
    torch.testing.assert_close(
        attention(features), features + attention.output(attended), rtol=0, atol=1e-5
    )


def test_attention_is_part_of_the_model_where_asked_for() -> None:
    plain, attentive = build(), build(attention=True)
    assert parameters(attentive) > parameters(plain)
    assert attentive(torch.rand(1, 3, *ODD)).shape == (1, 5, *ODD)


@pytest.mark.parametrize("encoder", ["resnet18", "resnet50"])
def test_a_resnet_encodes(encoder: str) -> None:
    for architecture in ("unet", "fcn32s"):
        logits = build(encoder=encoder, architecture=architecture)(torch.rand(1, 3, *ODD))
        assert logits.shape == (1, 5, *ODD)


def test_resnet_weights_come_from_a_file(tmp_path: Path) -> None:
    torch.manual_seed(1)
    resnet = torchvision.models.resnet18(weights=None)
    path = tmp_path / "resnet18.pth"
    torch.save(resnet.state_dict(), path)
    unet = build(encoder="resnet18", weights=str(path))
    images = torch.rand(1, 3, 32, 32)
    expected = resnet.eval().layer1(resnet.maxpool(resnet.relu(resnet.bn1(resnet.conv1(images)))))
    assert torch.equal(unet.encoder(images)[0][1], expected)


@pytest.mark.parametrize("wrap", [
    lambda state: {"state_dict": {f"module.{key}": value for key, value in state.items()}},
    lambda state: {"model": state, "epoch": 3},
    lambda state: {f"backbone.{k}": v for k, v in state.items()} | {"aux.0": torch.zeros(2)},
    lambda state: {f"backbone.body.{key}": value for key, value in state.items()},
])  # fmt: skip
def test_resnet_weights_may_be_in_a_checkpoint_or_another_model(
    wrap: Callable[[Any], Any], tmp_path: Path
) -> None:
    resnet = torchvision.models.resnet18(weights=None)
    path = tmp_path / "weights.pth"
    torch.save(wrap(resnet.state_dict()), path)
    encoder = build(encoder="resnet18", weights=str(path)).encoder
    assert torch.equal(encoder.stages[4][1].conv2.weight, resnet.layer4[1].conv2.weight)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "weights.pth: no such file or folder"),
        (b"not weights at all", "weights.pth: not a file of weights"),
        ({"conv1.weight": torch.zeros(1)}, r"conv1\.weight: shape \[1\], expected \[64, 3, 7, 7\]"),
        ({"fc.bias": torch.zeros(1000)}, r"weights\.pth:conv1\.weight: missing"),
        ([1, 2], "expected tensors by name, got a list"),
    ],
)
def test_a_file_that_is_no_weights_is_named(tmp_path: Path, content: Any, message: str) -> None:
    path = tmp_path / "weights.pth"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        torch.save(content, path)
    with pytest.raises(InputError, match=message):
        build(encoder="resnet18", weights=str(path))


def test_a_file_of_weights_runs_no_code(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    torch.save(torch.nn.Linear(1, 1), path)  # a pickled module
    with pytest.raises(InputError, match="not a file of weights"):
        build(encoder="resnet18", weights=str(path))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"architecture": "segnet"}, "architecture must be one of unet, fcn8s"),
        ({"encoder": "vgg16"}, "encoder must be one of plain, resnet18"),
        ({"activation": "tanh"}, "activation must be one of relu"),
        ({"placement": "beside"}, "placement must be one of before, after"),
        ({"classes": 0}, "classes must be at least 1"),
        ({"decoder_width": 0.0}, r"decoder_width must lie in \(0, 64.0\], not 0.0"),
        ({"upsampling": "magic"}, r"upsampling must be one of bilinear, .*, not 'magic'"),
        ({"upsampling_options": {"blur": True}}, "bilinear: .*'blur'"),
        ({"architecture": "fcn32s"}, "fcn32s needs features at stride 32.*1, 2, 4, 8: set depth"),
        ({"encoder": "resnet18", "upsampling": "max_unpooling"}, "needs the plain encoder"),
        ({"upsampling": "max_unpooling", "decoder_width": 0.5}, "decoder_width 1"),
    ],
)
def test_options_that_do_not_go_together_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(**options)


@pytest.mark.parametrize("name", NAMES)
def test_macs_are_those_that_torch_counts_and_the_operators_taps(name: str) -> None:
    unet = build(upsampling=name)
    with FlopCounterMode(display=False) as counter:
        unet(torch.rand(1, 3, *ODD))
    sizes = [(6, 8), (12, 16), (23, 31)]  # that the operators begin at, coarsest first
    taps = sum(
        TAPS.get(name, 0) * stage.upsampling.channels * 4 * height * width
        for stage, (height, width) in zip(unet.stages, sizes, strict=True)
    )
    assert macs(unet, ODD) == counter.get_total_flops() // 2 + taps


def test_macs_of_attention_are_counted() -> None:
    options = ModelOptions(**SMALL, attention=True)
    positions, channels = 6 * 8, 32
    projections = 4 * channels**2 * positions
    expected = macs(build(), ODD) + projections + 2 * channels * positions**2
    assert macs(build_model(options), ODD) == expected


def test_counting_leaves_the_model_as_it_was() -> None:
    unet = build().train()
    before = {name: value.clone() for name, value in unet.state_dict().items()}
    macs(unet, (16, 16))
    assert unet.training
    assert all(torch.equal(value, before[name]) for name, value in unet.state_dict().items())
    assert not unet.head._forward_hooks


@pytest.mark.parametrize("budget", ["params", "macs"])
@pytest.mark.parametrize("name", NAMES)
def test_matched_models_cost_what_the_bilinear_one_costs(name: str, budget: Any) -> None:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="a transposed convolution's kernel of")
        options = ModelOptions(classes=11, width=16, depth=3, upsampling=name)
        matched = build_model(match_budget(options, budget, (64, 64)))
    peer = build_model(replace(options, upsampling="bilinear"))
    cost = parameters if budget == "params" else lambda module: macs(module, (64, 64))
    assert cost(matched) == pytest.approx(cost(peer), rel=0.05)


def test_a_free_budget_changes_nothing() -> None:
    options = ModelOptions(classes=11, upsampling="pixelshuffle")
    assert match_budget(options, "free", (64, 64)) is options


def test_a_budget_that_cannot_be_met_or_is_unknown_is_refused() -> None:
    options = ModelOptions(classes=11, architecture="fcn8s", width=4, upsampling="pixelshuffle")
    with pytest.raises(ValueError, match="no decoder with pixelshuffle costs the"):
        match_budget(options, "params", (64, 64))
    with pytest.raises(ValueError, match="budget must be one of free, params, macs"):
        match_budget(options, "time", (64, 64))  # type: ignore[arg-type]


def test_logits_are_at_the_images_size_and_scores_at_the_encoders() -> None:
    unet = build(encoder="resnet18")
    images = torch.rand(1, 3, *ODD)
    scores = unet._scores(images)
    assert scores.shape == (1, 5, 23, 31)
    expected = functional.interpolate(scores, size=ODD, mode="bilinear")
    assert torch.equal(unet(images), expected)


def test_the_channels_last_layout_gives_the_same() -> None:
    unet, images = build(), torch.rand(1, 3, 32, 32)
    again = build().to(memory_format=torch.channels_last)
    logits = again(images.contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(logits, unet(images), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "options",
    [
        ModelOptions(classes=5, encoder="resnet18"),
        ModelOptions(classes=5, architecture="fcn8s", depth=3, width=4),
        ModelOptions(classes=5, architecture="fcn8s", depth=3, width=4, upsampling="nearest"),
        ModelOptions(classes=5, depth=2, width=4),
    ],
)
def test_what_is_not_at_full_size_is_interpolated_to_what_is(options: ModelOptions) -> None:
    torch.manual_seed(0)
    model = build_model(options).eval()
    is_small = options.encoder == "resnet18" or (
        options.architecture == "fcn8s" and options.upsampling == "bilinear"
    )
    for side in (64, 61):
        images = torch.randn(1, 3, side, 72)
        with torch.no_grad():
            small, whole = model(images, full_size=False), model(images)
        assert whole.shape[2:] == images.shape[2:]
        interpolated = torch.nn.functional.interpolate(small, size=(side, 72), mode="bilinear")
        torch.testing.assert_close(interpolated, whole)
        if side == 64:
            assert (small.shape != whole.shape) == is_small
