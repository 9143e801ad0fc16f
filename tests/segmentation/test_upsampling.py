"""Tests of upsampling operators: signature, gradients, costs and initial weights."""

import copy
import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from upmap.segmentation.comparison.checkerboard import measure_checkerboard
from upmap.segmentation.upsampling import (
    UPSAMPLERS,
    Upsampler,
    bilinear_kernel,
    build_upsampler,
    fit_to_size,
)

NAMES = sorted(UPSAMPLERS)
# Where a x2 operator may be asked to go from 22 x 15: exact, an odd side, one row too few and many.
SIZES = [(44, 30), (45, 30), (45, 31), (43, 29)]


def build(name: str, channels: int = 8, scale: int = 2, **options: Any) -> Upsampler:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore" if name == "transposed_k3s2" else "error")
        torch.manual_seed(0)
        return build_upsampler(name, channels, scale, **options)


def guide_of(operator: Upsampler, features: Tensor, size: tuple[int, int]) -> Tensor | None:
    """Indices as of an encoder that pools a tensor of `size`."""
    if not operator.needs_indices:
        return None
    high = torch.randn(*features.shape[:2], *size, dtype=features.dtype)
    ceil = features.shape[2] * operator.scale > size[0]
    indices: Tensor
    _, indices = functional.max_pool2d(high, operator.scale, return_indices=True, ceil_mode=ceil)
    return indices


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", NAMES)
def test_features_come_out_at_the_size_asked_for(name: str, size: tuple[int, int]) -> None:
    operator = build(name)
    features = torch.randn(2, 8, 22, 15)
    result = operator(features, size, guide_of(operator, features, size))
    assert result.shape == (2, 8, *size)
    assert result.isfinite().all()


@pytest.mark.parametrize("scale", [2, 3, 4, 8])
@pytest.mark.parametrize("name", NAMES)
def test_every_scale_works(name: str, scale: int) -> None:
    operator = build(name, scale=scale)
    features, size = torch.randn(1, 8, 5, 4), (5 * scale, 4 * scale)
    assert operator(features, size, guide_of(operator, features, size)).shape == (1, 8, *size)


@pytest.mark.parametrize("channels", [1, 11])
@pytest.mark.parametrize("name", NAMES)
def test_any_number_of_channels_works(name: str, channels: int) -> None:
    operator = build(name, channels)
    features = torch.randn(1, channels, 6, 5)
    result = operator(features, (12, 10), guide_of(operator, features, (12, 10)))
    assert result.shape == (1, channels, 12, 10)


@pytest.mark.parametrize("name", NAMES)
def test_the_gradient_is_right_in_float64(name: str) -> None:
    few = {"kernel": 3, "compressed": 3} if name == "carafe" else {}  # a column for each parameter
    operator = build(name, channels=4, **few).double()
    features = torch.randn(1, 4, 3, 4, dtype=torch.float64, requires_grad=True)
    guide = guide_of(operator, features, (7, 8)) if operator.needs_indices else None
    parameters = tuple(operator.parameters())

    def function(features: Tensor, *unused: Tensor) -> Tensor:
        return operator(features, (7, 8), guide)

    assert torch.autograd.gradcheck(function, (features, *parameters))


@pytest.mark.parametrize("name", ["bilinear", "nearest", "bicubic"])
def test_interpolation_equals_torchs(name: str) -> None:
    features = torch.randn(2, 8, 6, 5)
    expected = functional.interpolate(features, size=(12, 10), mode=name)
    assert torch.equal(build(name)(features, (12, 10)), expected)


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("name", ["bilinear", "bicubic"])
def test_aligned_corners_equal_torchs(name: str, align_corners: bool) -> None:
    options = {"align_corners": align_corners}
    features = torch.randn(2, 8, 6, 5)
    expected = functional.interpolate(features, size=(12, 10), mode=name, **options)
    assert torch.equal(build(name, **options)(features, (12, 10)), expected)


@pytest.mark.parametrize("kernel", [("transposed", 4, 1, 0), ("transposed_k2s2", 2, 0, 0),
                                    ("transposed_k3s2", 3, 1, 1)])  # fmt: skip
def test_transposed_convolution_equals_torchs(kernel: tuple[str, int, int, int]) -> None:
    name, side, padding, extra = kernel
    operator = build(name)
    peer = nn.ConvTranspose2d(8, 8, side, 2, padding, extra)
    peer.load_state_dict(operator.get_submodule("convolution").state_dict())
    features = torch.randn(2, 8, 6, 5)
    assert torch.equal(operator(features, (12, 10)), peer(features))


def test_pixelshuffle_equals_torchs() -> None:
    operator = build("pixelshuffle", icnr=False)
    peer = nn.Sequential(operator.get_submodule("convolution"), nn.PixelShuffle(2))
    features = torch.randn(2, 8, 6, 5)
    assert torch.equal(operator(features, (12, 10)), peer(features))


def test_max_unpooling_equals_torchs() -> None:
    high = torch.randn(2, 8, 13, 10)
    features, indices = functional.max_pool2d(high, 2, return_indices=True)
    expected = functional.max_unpool2d(features, indices, 2, output_size=(13, 10))
    assert torch.equal(build("max_unpooling")(features, (13, 10), indices), expected)


def test_icnr_begins_as_a_convolution_and_nearest_upsampling() -> None:
    operator = build("pixelshuffle")
    convolution = operator.get_submodule("convolution")
    first = nn.Conv2d(8, 8, 3, padding=1)
    with torch.no_grad():
        first.weight.copy_(convolution.weight[::4])
        first.bias.copy_(convolution.bias[::4])
    features = torch.randn(2, 8, 6, 5)
    expected = functional.interpolate(first(features), scale_factor=2, mode="nearest")
    # The same sums by convolutions of other widths, which may add in another order.
    torch.testing.assert_close(operator(features, (12, 10)), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_a_bilinear_start_is_bilinear_interpolation_inside(scale: int) -> None:
    operator = build("transposed", scale=scale, bilinear_init=True)
    features = torch.randn(1, 8, 7, 6)
    size = (7 * scale, 6 * scale)
    expected = functional.interpolate(features, size=size, mode="bilinear")
    inside = (..., slice(scale, -scale), slice(scale, -scale))  # at the edges it fades to zero
    result = operator(features, size)
    torch.testing.assert_close(result[inside], expected[inside], rtol=0, atol=1e-5)
    assert bilinear_kernel(scale).sum() == pytest.approx(scale**2)


def test_dysample_begins_close_to_bilinear() -> None:
    features = torch.randn(1, 8, 7, 6)
    expected = functional.interpolate(features, scale_factor=2, mode="bilinear")
    # Offsets begin at about 0.25 x 1e-3 x the features, in px, of a signal that changes by about 1.
    torch.testing.assert_close(build("dysample")(features, (14, 12)), expected, rtol=0, atol=0.02)


def test_carafe_weights_are_a_partition_of_one() -> None:
    inside = build("carafe")(torch.full((1, 8, 9, 9), 3.0), (18, 18))[..., 4:-4, 4:-4]
    torch.testing.assert_close(inside, torch.full_like(inside, 3.0))


def test_bilinear_additive_sums_consecutive_channels_as_the_paper_does() -> None:
    operator = build("bilinear_additive")
    features = torch.randn(2, 8, 6, 5)
    high = functional.interpolate(features, scale_factor=2, mode="bilinear")
    added = torch.stack([high[:, :4].sum(1), high[:, 4:].sum(1)], dim=1)
    expected = operator.get_submodule("expansion")(added)
    torch.testing.assert_close(operator(features, (12, 10)), expected)


def test_what_is_missing_repeats_the_last_row_and_column() -> None:
    features = torch.arange(6.0).reshape(1, 1, 2, 3)
    assert fit_to_size(features, (3, 4))[0, 0].tolist() == [
        [0, 1, 2, 2],
        [3, 4, 5, 5],
        [3, 4, 5, 5],
    ]
    assert fit_to_size(features, (1, 2))[0, 0].tolist() == [[0, 1]]


@pytest.mark.parametrize("name", [name for name in NAMES if name != "max_unpooling"])
def test_an_odd_size_only_adds_or_takes_the_last_row(name: str) -> None:
    operator, features = build(name), torch.randn(1, 8, 5, 5)
    exact = operator(features, (10, 10))
    assert torch.equal(operator(features, (9, 11))[..., :10], exact[:, :, :9])


CONVOLUTIONS = {
    "bilinear_additive": ["expansion"],
    "carafe": ["compression", "encoder"],
    "dysample": ["offset"],
}


@pytest.mark.parametrize("name", NAMES)
def test_macs_are_those_that_torch_counts_and_the_documented_rest(name: str) -> None:
    operator, features = build(name), torch.randn(1, 8, 6, 5)
    guide = guide_of(operator, features, (12, 10))
    with FlopCounterMode(display=False) as counter:
        operator(features, (12, 10), guide)
    outputs = 8 * 12 * 10
    beside = {"bilinear": 4 * outputs, "bicubic": 16 * outputs, "dysample": 4 * outputs}
    beside["bilinear_additive"] = 4 * outputs // 4
    assert operator.macs(6, 5) == counter.get_total_flops() // 2 + beside.get(name, 0)


PARAMETERS = {
    "bilinear_additive": 8 * 2 + 8,
    "transposed": 16 * 64 + 8,
    "transposed_k2s2": 4 * 64 + 8,
    "transposed_k3s2": 9 * 64 + 8,
    "pixelshuffle": 9 * 4 * 64 + 4 * 8,
    "carafe": 64 * 8 + 64 + 9 * 64 * 100 + 100,
    "dysample": 2 * 4 * 4 * 8 + 2 * 4 * 4,
}


@pytest.mark.parametrize("name", NAMES)
def test_parameters_are_as_many_as_documented(name: str) -> None:
    count = sum(parameter.numel() for parameter in build(name).parameters())
    assert count == PARAMETERS.get(name, 0)


def scores(name: str, **options: Any) -> Any:
    operator = build(name, channels=32, **options)
    return measure_checkerboard(operator, torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", ["bilinear", "nearest", "bicubic"])
def test_interpolation_has_a_gain_of_one(name: str) -> None:
    assert scores(name).gain == pytest.approx(1, abs=1e-6)


def test_the_gain_is_that_of_the_kernels_variances() -> None:
    # PyTorch draws weights from +-1 / sqrt(k^2 C), so each of 32 x 4 taps has a third of its
    # square as variance: 4 * 32 / (3 * 16 * 32) = 1 / 12 for k = 4.
    assert scores("transposed").gain == pytest.approx((1 / 12) ** 0.5, rel=0.1)
    assert scores("transposed", bilinear_init=True).gain == pytest.approx(1, abs=1e-6)


def test_k3s2_makes_a_checkerboard_by_its_geometry_and_k4s2_does_not() -> None:
    bad, good = scores("transposed_k3s2").overlap, scores("transposed").overlap
    taps = torch.tensor([1.0, 2.0, 2.0, 4.0])  # that reach each of the four phases
    # Of 32 x 32 random weights, so within a tenth of what their variances say.
    assert bad == pytest.approx(float(taps.std(correction=0) / taps.mean()), rel=0.1)
    assert good < bad / 4


@pytest.mark.parametrize("name", ["bilinear", "nearest", "bicubic", "bilinear_additive",
                                  "pixelshuffle", "carafe", "dysample"])  # fmt: skip
def test_these_begin_without_a_checkerboard(name: str) -> None:
    checkerboard = scores(name)
    assert checkerboard.pattern < 1e-9  # float32 rounding, squared
    assert checkerboard.overlap < 1e-4


def test_random_weights_for_each_phase_are_a_checkerboard_until_icnr_or_blur_takes_it() -> None:
    assert scores("pixelshuffle", icnr=False).pattern == pytest.approx(0.75, abs=0.05)
    assert scores("pixelshuffle", icnr=False, blur=True).pattern < 1e-9
    assert scores("transposed", bilinear_init=True).pattern < 1e-9


@pytest.mark.parametrize("name", NAMES)
def test_bfloat16_under_autocast_stays_close(name: str) -> None:
    operator, features = build(name), torch.rand(1, 8, 6, 5)
    guide = guide_of(operator, features, (12, 10))
    exact = operator(features, (12, 10), guide)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = operator(features, (12, 10), guide)
    # bfloat16 has 8 bits: 2^-8 of values up to about 2, summed over 8 channels.
    torch.testing.assert_close(rough.float(), exact, rtol=0, atol=0.05)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("shape", [(4, 60), (4, 1000), (1000, 4)], ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_half_precision_is_as_close_far_from_the_corner(
    name: str, shape: tuple[int, int], dtype: torch.dtype
) -> None:
    size = (2 * shape[0], 2 * shape[1])
    operator, features = build(name), torch.randn(1, 8, *shape)
    guide = guide_of(operator, features, size)
    exact = operator(features, size, guide)
    with torch.autocast("cpu", dtype=dtype):
        rough = operator(features.to(dtype), size, guide).float()
    # Roundings of features, weights and result, none of positions: independent of the size.
    assert ((rough - exact).norm() / exact.norm()).detach() < 2 * torch.finfo(dtype).eps


@pytest.mark.parametrize("name", NAMES)
def test_a_copy_and_its_state_give_the_same(name: str) -> None:
    operator, features = build(name), torch.rand(1, 8, 6, 5)
    again = copy.deepcopy(operator)
    again.load_state_dict(operator.state_dict())
    guide = guide_of(operator, features, (12, 10))
    assert torch.equal(again(features, (12, 10), guide), operator(features, (12, 10), guide))


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("bilinaer", {}, "no upsampling operator 'bilinaer'; there are bilinear, nearest"),
        ("nearest", {"align_corners": True}, "align_corners has no meaning for nearest"),
        ("nearest", {"kernel": 3}, "nearest: .*unexpected keyword argument 'kernel'"),
        ("transposed", {"kernel": 1}, "kernel must be at least scale, 2, not 1"),
        ("transposed_k2s2", {"bilinear_init": True}, "bilinear_init needs a kernel of 4, not 2"),
        ("carafe", {"kernel": 4}, "kernel must be odd, not 4"),
        ("bilinear", {"scale": 1}, "scale must be at least 2, not 1"),
        ("bilinear", {"channels": 0}, "channels must be at least 1, not 0"),
    ],
)
def test_what_makes_no_sense_is_refused(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_upsampler(name, **{"channels": 8, **options})


def test_a_kernel_that_its_stride_does_not_divide_is_warned_about() -> None:
    with pytest.warns(UserWarning, match="kernel of 3 is not divisible by its stride of 2"):
        build_upsampler("transposed_k3s2", 8)


@pytest.mark.parametrize(
    ("shape", "size", "message"),
    [
        ((1, 7, 4, 4), (8, 8), r"expected 8 channels, got \[1, 7, 4, 4\]"),
        ((1, 8, 4, 4), (10, 8), r"\[4, 4\] cannot be upsampled x2 to \[10, 8\]"),
        ((1, 8, 4, 4), (8, 6), "cannot be upsampled"),
    ],
)
def test_features_that_do_not_fit_are_refused(
    shape: tuple[int, ...], size: tuple[int, int], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        build("bilinear")(torch.zeros(shape), size)


def test_max_unpooling_says_which_indices_it_needs() -> None:
    with pytest.raises(ValueError, match=r"needs indices of \[1, 8, 4, 4\], got none"):
        build("max_unpooling")(torch.zeros(1, 8, 4, 4), (8, 8))
