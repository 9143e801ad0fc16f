"""Changes of brightness, contrast and saturation, equal to torchvision's ColorJitter to the bit.

Brightness and contrast map every value alone, so that 256 of them are computed, and looked up for
the pixels; saturation reuses one buffer. torchvision computes each in float32 for every pixel,
three times as long.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2

from upmap.segmentation.image_values import look_up

__all__ = ["ColorJitter"]

GRAY = (0.2989, 0.587, 0.114)  # weights of red, green and blue; torchvision, ITU-R BT.601
VALUES = torch.arange(256, dtype=torch.uint8)


class ColorJitter(v2.ColorJitter):  # type: ignore[misc]  # torchvision has no types
    """torchvision's ColorJitter, with its random numbers, for images of bytes in RGB; no hue."""

    def __init__(self, strength: float) -> None:
        """Sets the strength of changes, 0 to 1: factors lie between 1 - strength and 1 + strength.

        Args:
            strength: Of brightness, contrast and saturation alike.
        """
        super().__init__(brightness=strength, contrast=strength, saturation=strength)

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Changes an image, uint8 [3, H, W]; masks stay as they are."""
        if not isinstance(inpt, tv_tensors.Image):
            return inpt
        pixels = inpt.as_subclass(Tensor).contiguous()
        for step in params["fn_idx"].tolist():
            if step < len(ADJUSTMENTS):
                name, adjust = ADJUSTMENTS[step]
                pixels = adjust(pixels, params[name])
        return tv_tensors.wrap(pixels, like=inpt)


def _adjust_brightness(pixels: Tensor, factor: float) -> Tensor:
    return _look_up(pixels, _round_down(VALUES.mul(factor)))


def _adjust_contrast(pixels: Tensor, factor: float) -> Tensor:
    mean = _gray(pixels.float()).mean(dim=(-3, -2, -1))
    return _look_up(pixels, _round_down(VALUES.mul(factor).add_(mean, alpha=1.0 - factor)))


def _adjust_saturation(pixels: Tensor, factor: float) -> Tensor:
    values = pixels.float()
    gray = _gray(values)
    return _round_down(values.mul_(factor).add_(gray, alpha=1.0 - factor))


def _gray(values: Tensor) -> Tensor:
    """The gray of pixels, float32 [1, H, W], whole numbers."""
    red, green, blue = values.unbind(-3)
    gray = red.mul(GRAY[0]).add_(green, alpha=GRAY[1]).add_(blue, alpha=GRAY[2])
    return gray.floor_().unsqueeze(-3)


def _look_up(pixels: Tensor, table: Tensor) -> Tensor:
    """The value in `table`, uint8 [256], of each value of `pixels`, uint8 [3, H, W]."""
    rows = pixels.flatten(0, 1).numpy()  # of all channels, as those of one
    return torch.from_numpy(look_up(rows, table.numpy())).reshape(pixels.shape)


def _round_down(values: Tensor) -> Tensor:
    return values.clamp_(0, 255).to(torch.uint8)


# By the numbers that torchvision's make_params draws an order of; 3 is hue, which stays.
ADJUSTMENTS: tuple[tuple[str, Callable[[Tensor, float], Tensor]], ...] = (
    ("brightness_factor", _adjust_brightness),
    ("contrast_factor", _adjust_contrast),
    ("saturation_factor", _adjust_saturation),
)
