"""Encoders of the package timm, by name: `timm:convnext_tiny`; an optional extra.

Source: timm, "Feature Extraction", features_only.
"""

import re
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from upmap.errors import InputError
from upmap.segmentation.checkpoint import load_weights, read_weights

__all__ = ["PREFIX", "TimmEncoder"]

PREFIX = "timm:"
NAME = re.compile(r"[A-Za-z0-9_]{1,100}(\.[A-Za-z0-9_]{1,100})?")  # no address: nothing is fetched


class TimmEncoder(nn.Module):
    """The feature maps of one of timm's models.

    Attributes:
        widths: The channels of each stage.
        strides: The stride of each stage, each twice the one before, such as 4, 8, 16, 32.
    """

    def __init__(self, name: str, weights: str | None) -> None:
        """Builds the model, without its classifier.

        Args:
            name: The name that timm gives it.
            weights: A file with the state_dict of the whole model; None for random weights.

        Raises:
            ValueError: If there is no such model, or it has no feature maps of such strides.
            InputError: If timm is not installed, or the file does not fit.
        """
        super().__init__()
        self.name = name
        self.model = _create(name, weights)
        self.widths: list[int] = list(self.model.feature_info.channels())
        self.strides: list[int] = list(self.model.feature_info.reduction())
        if any(2 * a != b for a, b in zip(self.strides, self.strides[1:], strict=False)):
            strides = ", ".join(map(str, self.strides))
            message = f"has features at strides {strides}; each must be twice the one before"
            raise ValueError(f"{PREFIX}{name} {message}")

    def forward(self, images: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """The features of each stage, and what stands for the indices of pooling, as for ResNets.

        Sides are padded to a multiple of the last stride, and features cut to the sides of the
        images, rounded up: models differ in how they round odd sides.
        """
        height, width = images.shape[2:]
        last = self.strides[-1]
        padding = (0, -width % last, 0, -height % last)
        try:
            features = self.model(functional.pad(images, padding, mode="constant"))
        except AssertionError as error:  # a model for images of one size
            raise ValueError(f"{PREFIX}{self.name}: {error}") from None
        cut = [
            stage[:, :, : -(-height // stride), : -(-width // stride)]
            for stage, stride in zip(features, self.strides, strict=True)
        ]
        return cut, cut[:-1]


def _create(name: str, weights: str | None) -> Any:
    """The model with feature maps as outputs."""
    timm = _import_timm()
    if not NAME.fullmatch(name) or not timm.is_model(name):
        near = timm.list_models(f"*{name}*" if NAME.fullmatch(name) else "resnet*")[:3]
        examples = f", such as {', '.join(near)}" if near else ""
        raise ValueError(f"timm has no model {name[:60]!r}; timm.list_models() has all{examples}")
    overlay = {}
    if weights is not None:
        # The whole model first, which must fit the file; timm would leave out what does not.
        whole = timm.create_model(name, pretrained=False)
        load_weights(whole, read_weights(weights), weights)
        overlay = {"state_dict": whole.state_dict()}
    try:
        return timm.create_model(
            name, features_only=True, pretrained=weights is not None, pretrained_cfg_overlay=overlay
        )
    except (RuntimeError, AttributeError, TypeError) as error:
        if isinstance(error, RuntimeError) and torch.get_default_device().type == "meta":
            raise
        reason = " ".join(str(error).split())
        raise ValueError(f"{PREFIX}{name} has no feature maps: {reason}") from None


def _import_timm() -> Any:
    try:
        import timm
    except ImportError:
        message = f'{PREFIX}NAME: not installed; `pip install "upmap[timm]"` brings it'
        raise InputError(message) from None
    return timm
