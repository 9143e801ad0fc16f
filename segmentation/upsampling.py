"""Upsampling operators with one signature, so that a decoder can exchange them.

Every operator upsamples features [B, C, h, w] by exactly its scale, so that they stay aligned with
the pixels that they were computed from. Where the size that is asked for, H x W, is not scale times
h x w (an encoder halves 45 to 22 or to 23), all operators follow one rule: the result is cropped at
the bottom and right, or padded there by its last row and column.
"""

import math
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from upmap.options import describe_value

__all__ = [
    "UPSAMPLERS",
    "BilinearAdditive",
    "Carafe",
    "DySample",
    "Interpolation",
    "MaxUnpooling",
    "PixelShuffle",
    "Size",
    "TransposedConvolution",
    "Upsampler",
    "bilinear_kernel",
    "build_upsampler",
    "fit_to_size",
    "icnr_",
]

Size = tuple[int, int]
Mode = Literal["nearest", "bilinear", "bicubic"]
MAX_KERNEL = 128  # px a side
MAX_WIDTH = 4096  # channels, and groups of them
TAPS: dict[Mode, int] = {"nearest": 0, "bilinear": 4, "bicubic": 16}  # multiply-adds per output


class Upsampler(nn.Module):
    """Base class of all operators; a subclass implements `upsample` and `macs`.

    Attributes:
        channels: C.
        scale: s, the factor on height and width.
        needs_indices: Whether `guide` must be the indices of the encoder's max-pooling.
    """

    needs_indices: ClassVar[bool] = False

    def __init__(self, channels: int, scale: int = 2) -> None:
        """Sets the sizes.

        Args:
            channels: C, at least 1.
            scale: s, at least 2.
        """
        super().__init__()
        for name, value, minimum in (("channels", channels, 1), ("scale", scale, 2)):
            if value < minimum:
                raise ValueError(f"{name} must be at least {minimum}, not {value}")
        self.channels = channels
        self.scale = scale

    def forward(self, features: Tensor, size: Size, guide: Tensor | None = None) -> Tensor:
        """Features at `size`.

        Args:
            features: float [B, C, h, w].
            size: H and W, px; each within one scale of s times h and w.
            guide: The indices of the encoder's max-pooling; only max-unpooling needs them.

        Returns:
            float [B, C, H, W].

        Raises:
            ValueError: If the channels or sizes do not fit.
        """
        if features.shape[1] != self.channels:
            raise ValueError(f"expected {self.channels} channels, got {list(features.shape)}")
        for low, high in zip(features.shape[2:], size, strict=True):
            if not self.scale * (low - 1) < high < self.scale * (low + 1):
                shape = list(features.shape[2:])
                raise ValueError(f"{shape} cannot be upsampled x{self.scale} to {list(size)}")
        return fit_to_size(self.upsample(features, guide), size)

    def upsample(self, features: Tensor, guide: Tensor | None) -> Tensor:
        """Upsamples features [B, C, h, w] to exactly s times their size."""
        raise NotImplementedError

    def macs(self, height: int, width: int) -> int:
        """Multiply-adds for features of height x width, without those of softmax and bias."""
        raise NotImplementedError

    def is_bilinear_to(self, features: Tensor, size: Size) -> bool:
        """Whether `forward` equals torch's bilinear interpolation of features to `size`."""
        return False

    def extra_repr(self) -> str:
        """The settings that print() shows."""
        return f"{self.channels}, scale={self.scale}"


def fit_to_size(features: Tensor, size: Size) -> Tensor:
    """Crops features [B, C, h, w] at the bottom and right, or pads them there by their last values.

    >>> fit_to_size(torch.arange(4.0).reshape(1, 1, 2, 2), (3, 1))[0, 0].tolist()
    [[0.0], [2.0], [2.0]]
    """
    height, width = size
    features = features[:, :, :height, :width]
    below, right = height - features.shape[2], width - features.shape[3]
    if below or right:
        features = functional.pad(features, (0, right, 0, below), mode="replicate")
    return features


class Interpolation(Upsampler):
    """Nearest, bilinear or bicubic interpolation, without parameters.

    Macs: 0, 4 or 16 per output value, s^2 C h w of them.
    Source: torch.nn.functional.interpolate.
    """

    def __init__(
        self, channels: int, scale: int = 2, *, mode: Mode, align_corners: bool = False
    ) -> None:
        """Chooses the interpolation.

        Args:
            channels: C.
            scale: s.
            mode: "nearest", "bilinear" or "bicubic".
            align_corners: Whether the centers of corner pixels are aligned, not their corners;
                then features shift against the pixels that they were computed from.
        """
        super().__init__(channels, scale)
        _require_bool("align_corners", align_corners)
        if mode not in TAPS:
            raise ValueError(f"mode must be one of {', '.join(TAPS)}, not {describe_value(mode)}")
        if mode == "nearest" and align_corners:
            raise ValueError("align_corners has no meaning for nearest")
        self.mode = mode
        self.align_corners = align_corners

    def upsample(self, features: Tensor, guide: Tensor | None) -> Tensor:
        """See `Upsampler`."""
        return functional.interpolate(
            features,
            scale_factor=self.scale,
            mode=self.mode,
            align_corners=None if self.mode == "nearest" else self.align_corners,
        )

    def is_bilinear_to(self, features: Tensor, size: Size) -> bool:
        """See `Upsampler`."""
        is_exact = [*size] == [self.scale * side for side in features.shape[2:]]
        return self.mode == "bilinear" and not self.align_corners and is_exact

    def macs(self, height: int, width: int) -> int:
        """See `Upsampler`."""
        return TAPS[self.mode] * self.channels * self.scale**2 * height * width

    def extra_repr(self) -> str:
        """See `Upsampler`."""
        return f"{super().extra_repr()}, mode={self.mode}, align_corners={self.align_corners}"


class BilinearAdditive(Upsampler):
    """Bilinear interpolation, then the sum of every s^2 consecutive channels.

    The sum leaves ceil(C / s^2) channels, as many values as the input has; a 1 x 1 convolution
    expands them to C channels.

    Parameters: C ceil(C / s^2) + C. Macs: (4 + C) ceil(C / s^2) s^2 h w.
    Source: Wojna et al., "The Devil is in the Decoder", IJCV 2019, section 3.2.
    """

    def __init__(self, channels: int, scale: int = 2) -> None:
        """Makes the convolution."""
        super().__init__(channels, scale)
        self.groups = math.ceil(channels / scale**2)
        self.expansion = nn.Conv2d(self.groups, channels, 1)

    def upsample(self, features: Tensor, guide: Tensor | None) -> Tensor:
        """See `Upsampler`."""
        missing = self.groups * self.scale**2 - self.channels
        padded = functional.pad(features, (0, 0, 0, 0, 0, missing))
        # Interpolation is linear in each channel: summing first costs less and gives the same.
        summed = torch.unflatten(padded, 1, (self.groups, -1)).sum(2)
        added = functional.interpolate(summed, scale_factor=self.scale, mode="bilinear")
        expanded: Tensor = self.expansion(added)
        return expanded

    def macs(self, height: int, width: int) -> int:
        """See `Upsampler`."""
        return (4 + self.channels) * self.groups * self.scale**2 * height * width


class TransposedConvolution(Upsampler):
    """A transposed convolution with stride s and a learned kernel.

    If s does not divide the kernel size, outputs are sums over different numbers of inputs, which
    shows as a checkerboard: the constructor warns of it.

    Parameters: k^2 C^2 + C. Macs: k^2 C^2 h w.
    Sources: Zeiler et al., "Deconvolutional Networks", CVPR 2010; Shelhamer et al., "Fully
    Convolutional Networks", PAMI 2017; Odena et al., "Deconvolution and Checkerboard Artifacts",
    Distill 2016.
    """

    def __init__(
        self,
        channels: int,
        scale: int = 2,
        *,
        kernel: int | None = None,
        bilinear_init: bool = False,
    ) -> None:
        """Makes the convolution.

        Args:
            channels: C.
            scale: s, the stride.
            kernel: k, at least s; None for 2 s.
            bilinear_init: Whether its initial weights interpolate each channel bilinearly, as in
                FCN; needs k = 2 s.
        """
        super().__init__(channels, scale)
        _require_bool("bilinear_init", bilinear_init)
        kernel = 2 * scale if kernel is None else kernel
        _require_integer("kernel", kernel, MAX_KERNEL)
        if kernel < scale:
            raise ValueError(f"kernel must be at least scale, {scale}, not {kernel}")
        if kernel % scale:
            warnings.warn(
                f"a transposed convolution's kernel of {kernel} is not divisible by its stride of "
                f"{scale}: expect a checkerboard",
                stacklevel=2,
            )
        # With these paddings the output has exactly s times the size of the input.
        padding = math.ceil((kernel - scale) / 2)
        self.convolution = nn.ConvTranspose2d(
            channels,
            channels,
            kernel,
            stride=scale,
            padding=padding,
            output_padding=2 * padding + scale - kernel,
        )
        if bilinear_init:
            _set_bilinear(self.convolution, scale)

    def upsample(self, features: Tensor, guide: Tensor | None) -> Tensor:
        """See `Upsampler`."""
        result: Tensor = self.convolution(features)
        return result

    def macs(self, height: int, width: int) -> int:
        """See `Upsampler`."""
        return self.convolution.weight.numel() * height * width


def _set_bilinear(convolution: nn.ConvTranspose2d, scale: int) -> None:
    kernel = convolution.kernel_size[0]
    if kernel != 2 * scale:
        raise ValueError(f"bilinear_init needs a kernel of {2 * scale}, not {kernel}")
    with torch.no_grad():
        convolution.weight.zero_()
        diagonal = torch.arange(convolution.in_channels)
        convolution.weight[diagonal, diagonal] = bilinear_kernel(scale)
        if convolution.bias is not None:
            convolution.bias.zero_()


def bilinear_kernel(scale: int) -> Tensor:
    """The kernel, float32 [2 s, 2 s], with which a transposed convolution interpolates bilinearly.

    >>> bilinear_kernel(2)[0].tolist()
    [0.0625, 0.1875, 0.1875, 0.0625]
    """
    center = scale - 0.5 * (scale % 2 == 0)  # if s is odd, the first weight is 0
    distance = (torch.arange(2 * scale, dtype=torch.float32) - center).abs() / scale
    return torch.outer(1 - distance, 1 - distance)


class PixelShuffle(Upsampler):
    """A 3 x 3 convolution to s^2 C channels, rearranged to s x s pixels each.

    Parameters: 9 s^2 C^2 + s^2 C. Macs: 9 s^2 C^2 h w, with `blur` 4 s^2 C h w more.
    Sources: Shi et al., "Real-Time Single Image and Video Super-Resolution", CVPR 2016; Aitken et
    al., "Checkerboard artifact free sub-pixel convolution", 2017 (ICNR); Sugawara et al.,
    "Super-Resolution Using Convolutional Neural Networks Without Any Checkerboard Artifacts", 2018.
    """

    def __init__(
        self, channels: int, scale: int = 2, *, icnr: bool = True, blur: bool = False
    ) -> None:
        """Makes the convolution.

        Args:
            channels: C.
            scale: s.
            icnr: Whether the initial weights equal a convolution before nearest upsampling.
            blur: Whether an average over s x s pixels follows, which removes any checkerboard.
        """
        super().__init__(channels, scale)
        _require_bool("icnr", icnr)
        _require_bool("blur", blur)
        self.convolution = nn.Conv2d(channels, channels * scale**2, 3, padding=1)
        self.blur = blur
        if icnr:
            icnr_(self.convolution, scale)

    def upsample(self, features: Tensor, guide: Tensor | None) -> Tensor:
        """See `Upsampler`."""
        shuffled = functional.pixel_shuffle(self.convolution(features), self.scale)
        if not self.blur:
            return shuffled
        before, after = self.scale // 2, (self.scale - 1) // 2
        padded = functional.pad(shuffled, (before, after, before, after), mode="replicate")
        return functional.avg_pool2d(padded, self.scale, stride=1)

    def macs(self, height: int, width: int) -> int:
        """See `Upsampler`."""
        blur = self.scale**4 * self.channels * self.blur
        return (self.convolution.weight.numel() + blur) * height * width


def icnr_(convolution: nn.Conv2d, scale: int) -> None:
    """Sets the s^2 filters of each output channel of a pixel shuffle to the first (ICNR)."""
    with torch.no_grad():
        for parameter in (convolution.weight, convolution.bias):
            if parameter is not None:
                parameter.copy_(parameter[:: scale**2].repeat_interleave(scale**2, 0))


class MaxUnpooling(Upsampler):
    """Puts each value where the encoder's max-pooling found the maximum, and 0 elsewhere.

    Parameters: none. Macs: none.
    Source: Badrinarayanan et al., "SegNet", PAMI 2017.
    """

    needs_indices = True

    def forward(self, features: Tensor, size: Size, guide: Tensor | None = None) -> Tensor:
        """See `Upsampler`.

        Args:
            features: float [B, C, h, w].
            size: H and W of the tensor that was pooled.
            guide: int64 [B, C, h, w], the indices of max-pooling with kernel and stride s.

        Raises:
            ValueError: If `guide` is missing or of another shape.
        """
        if guide is None or guide.shape != features.shape:
            shape = "none" if guide is None else list(guide.shape)
            raise ValueError(f"max-unpooling needs indices of {list(features.shape)}, got {shape}")
        height, width = size
        # Indices count through the H x W plane of each channel.
        flat = features.new_zeros(*features.shape[:2], height * width)
        placed = flat.scatter(2, guide.flatten(2), features.flatten(2))
        return torch.unflatten(placed, 2, (height, width))

    def macs(self, height: int, width: int) -> int:
        """See `Upsampler`."""
        return 0


class Carafe(Upsampler):
    """Weighted sums of k x k neighborhoods, with weights predicted from the features.

    Parameters, with m = 64 compressed channels: m C + m + 9 m s^2 k^2 + s^2 k^2. Macs: (m C + 9 m
    s^2 k^2 + s^2 k^2 C) h w.
    Source: Wang et al., "CARAFE: Content-Aware ReAssembly of FEatures", ICCV 2019.
    """

    def __init__(
        self, channels: int, scale: int = 2, *, kernel: int = 5, compressed: int = 64
    ) -> None:
        """Makes the two convolutions that predict the weights.

        Args:
            channels: C.
            scale: s.
            kernel: k, odd.
            compressed: m, the number of channels that weights are predicted from.
        """
        super().__init__(channels, scale)
        _require_integer("kernel", kernel, MAX_KERNEL)
        _require_integer("compressed", compressed, MAX_WIDTH)
        if kernel % 2 == 0:
            raise ValueError(f"kernel must be odd, not {kernel}")
        self.kernel = kernel
        self.compression = nn.Conv2d(channels, compressed, 1)
        self.encoder = nn.Conv2d(compressed, (scale * kernel) ** 2, 3, padding=1)

    def upsample(self, features: Tensor, guide: Tensor | None) -> Tensor:
        """See `Upsampler`."""
        height, width = features.shape[2:]
        encoded = self.encoder(self.compression(features))
        weights = torch.unflatten(encoded, 1, (self.kernel**2, self.scale**2)).softmax(1)
        # [B, C k^2, h w]: the k x k neighborhood of each feature, zeros beyond the border.
        around = functional.unfold(features, self.kernel, padding=self.kernel // 2)
        neighbors = around.reshape(-1, self.channels, self.kernel**2, height, width)
        # Each of the s^2 outputs of a feature is a sum over the same neighborhood.
        parts = torch.einsum("bckhw,bkshw->bcshw", neighbors, weights.to(neighbors.dtype))
        return functional.pixel_shuffle(parts.flatten(1, 2), self.scale)

    def macs(self, height: int, width: int) -> int:
        """See `Upsampler`."""
        weights = self.compression.weight.numel() + self.encoder.weight.numel()
        return (weights + (self.scale * self.kernel) ** 2 * self.channels) * height * width


class DySample(Upsampler):
    """Bilinear samples at offsets predicted from the features.

    The initial weights are close to bilinear interpolation.

    Parameters, with g groups: 2 g s^2 C + 2 g s^2. Macs: (2 g s^2 C + 4 s^2 C) h w.
    Source: Liu et al., "Learning to Upsample by Learning to Sample", ICCV 2023 (linear + pixel
    shuffle, static scope of 1/4).
    """

    SCOPE: ClassVar[float] = 0.25  # scales offsets, so that the samples of neighbors stay apart
    INITIAL_STD: ClassVar[float] = 1e-3  # of the weights

    def __init__(self, channels: int, scale: int = 2, *, groups: int = 4) -> None:
        """Makes the convolution that predicts the offsets.

        Args:
            channels: C.
            scale: s.
            groups: g, the number of groups of channels that share offsets; the largest divisor of
                C up to it is used.
        """
        super().__init__(channels, scale)
        _require_integer("groups", groups, MAX_WIDTH)
        self.groups = max(g for g in range(1, groups + 1) if channels % g == 0)
        self.offset = nn.Conv2d(channels, 2 * self.groups * scale**2, 1)
        nn.init.normal_(self.offset.weight, std=self.INITIAL_STD)
        if self.offset.bias is not None:
            nn.init.zeros_(self.offset.bias)

    def upsample(self, features: Tensor, guide: Tensor | None) -> Tensor:
        """See `Upsampler`."""
        batch, _, height, width = features.shape
        offsets = self.SCOPE * self.offset(features)
        # Positions are float32 at least: in bfloat16, those beyond 256 px would be whole pixels.
        offsets = offsets.to(torch.promote_types(offsets.dtype, torch.float32))
        offsets = functional.pixel_shuffle(offsets, self.scale)
        offsets = torch.unflatten(offsets, 1, (self.groups, 2)).flatten(0, 1).permute(0, 2, 3, 1)
        # Offsets are in px of the features, grid_sample takes -1 .. 1 from edge to edge. Each side
        # is scaled by itself: a tensor of both factors would be a constant in an exported model.
        x, y = (self._centers(height, width, offsets) + offsets).unbind(-1)
        grid = torch.stack([x * 2 / width - 1, y * 2 / height - 1], dim=-1)
        grouped = torch.unflatten(features, 1, (self.groups, -1)).flatten(0, 1)
        # grid_sample takes features and positions of one type.
        sampled = functional.grid_sample(
            grouped.to(grid.dtype),
            grid,
            mode="bilinear",
            padding_mode="border",
            align_corners=False,
        )
        return sampled.to(features.dtype).reshape(batch, self.channels, *sampled.shape[2:])

    def macs(self, height: int, width: int) -> int:
        """See `Upsampler`."""
        samples = 4 * self.scale**2 * self.channels
        return (self.offset.weight.numel() + samples) * height * width

    def _centers(self, height: int, width: int, like: Tensor) -> Tensor:
        """The centers of output pixels in px of the features, x and y, [s h, s w, 2]."""
        y, x = (
            (torch.arange(self.scale * side, dtype=like.dtype, device=like.device) + 0.5)
            / self.scale
            for side in (height, width)
        )
        return torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1)


def _require_integer(name: str, value: object, maximum: int) -> None:
    """Requires an integer in [1, maximum]: options may come from a file."""
    if type(value) is not int or not 1 <= value <= maximum:
        expected = f"an integer in [1, {maximum}]"
        raise ValueError(f"{name} must be {expected}, not {describe_value(value)}")


def _require_bool(name: str, value: object) -> None:
    if type(value) is not bool:
        raise ValueError(f"{name} must be true or false, not {describe_value(value)}")


def _transposed_k2s2(channels: int, scale: int = 2, **options: Any) -> Upsampler:
    return TransposedConvolution(channels, scale, kernel=scale, **options)


def _transposed_k3s2(channels: int, scale: int = 2, **options: Any) -> Upsampler:
    return TransposedConvolution(channels, scale, kernel=2 * scale - 1, **options)


UPSAMPLERS: dict[str, Callable[..., Upsampler]] = {
    "bilinear": partial(Interpolation, mode="bilinear"),
    "nearest": partial(Interpolation, mode="nearest"),
    "bicubic": partial(Interpolation, mode="bicubic"),
    "bilinear_additive": BilinearAdditive,
    "transposed": TransposedConvolution,  # k4s2p1
    "transposed_k2s2": _transposed_k2s2,
    "transposed_k3s2": _transposed_k3s2,  # has a checkerboard: a control
    "pixelshuffle": PixelShuffle,
    "max_unpooling": MaxUnpooling,
    "carafe": Carafe,
    "dysample": DySample,
}


def build_upsampler(name: str, channels: int, scale: int = 2, **options: Any) -> Upsampler:
    """Builds the operator called `name`.

    Args:
        name: A key of UPSAMPLERS.
        channels: C.
        scale: s.
        **options: Further arguments of the operator, such as align_corners.

    Raises:
        ValueError: If there is no such operator, or it does not take an option or its value.

    >>> build_upsampler("bilinear", 8)(torch.zeros(1, 8, 22, 30), (45, 60)).shape
    torch.Size([1, 8, 45, 60])
    """
    if name not in UPSAMPLERS:
        known = ", ".join(UPSAMPLERS)
        raise ValueError(f"no upsampling operator {describe_value(name)}; there are {known}")
    try:
        return UPSAMPLERS[name](channels, scale, **options)
    except TypeError as error:
        raise ValueError(f"{name}: {error}") from None
