"""Random augmentation of a data set, by torchvision's transforms v2.

A view depends only on the seed, the epoch and the item, not on the number of workers or processes,
nor on earlier views. So a resumed training sees the same views.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from torch import Tensor
from torch.utils.data import Dataset
from torchvision import tv_tensors
from torchvision.transforms import v2

from upmap.metrics.semantic import IGNORED
from upmap.options import Range, validate_fields
from upmap.segmentation.color import ColorJitter
from upmap.segmentation.label_scaling import resize_labels
from upmap.segmentation.seeds import derive_seed

__all__ = ["STEPS", "AugmentationOptions", "Views", "build_transform"]

BLUR_REACH = 3.0  # standard deviations; what lies beyond weighs 0.3 %
LEAST_BLUR = 0.01  # px; changes no pixel

Pair = tuple[Tensor, Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class AugmentationOptions:
    """Options of augmentation.

    Attributes:
        crop: Height and width of crops, px; smaller images are padded.
        flip: Probability of a left-right flip.
        vertical_flip: Probability of an upside-down flip.
        rotation: Largest angle, degrees, of a rotation either way; corners without image are void.
        smallest: Lower limit of the scaling factor.
        largest: Upper limit of the scaling factor.
        color: Strength of changes of brightness, contrast and saturation; 0 makes none.
        gamma: Largest factor by which the exponent of values grows or falls, less 1: 0.5 draws
            exponents from 1 / 1.5 to 1.5; 0 makes no change.
        blur: Largest standard deviation of a Gaussian blur, px; 0 makes none.
    """

    crop: Annotated[tuple[int, int], Range(1, 16384)] = (96, 128)
    flip: Annotated[float, Range(0, 1)] = 0.5
    vertical_flip: Annotated[float, Range(0, 1)] = 0.0
    rotation: Annotated[float, Range(0, 180)] = 0.0
    smallest: Annotated[float, Range(0.01, 16)] = 0.75
    largest: Annotated[float, Range(0.01, 16)] = 1.5
    color: Annotated[float, Range(0, 1)] = 0.25
    gamma: Annotated[float, Range(0, 4)] = 0.0
    blur: Annotated[float, Range(0, 16)] = 0.0

    def __post_init__(self) -> None:
        validate_fields(self)
        if self.smallest > self.largest:
            raise ValueError(f"smallest must be at most largest, {self.largest}: {self.smallest}")


class Views(Dataset[Pair]):
    """One random view of each item of a data set."""

    def __init__(
        self, dataset: Dataset[Pair], options: AugmentationOptions, *, seed: int, epoch: int
    ) -> None:
        """Sets the data set, and what views depend on.

        Args:
            dataset: Items (image uint8 [3, H, W], label uint8 [H, W]).
            options: The options.
            seed: The seed of the training.
            epoch: The epoch, from 0.
        """
        self.dataset = dataset
        self.transform = build_transform(options)
        self.seed = seed
        self.epoch = epoch

    def __getitem__(self, item: int) -> Pair:
        image, label = self.dataset[item]
        # Forked, so that views leave the random numbers of the training as they are.
        with torch.random.fork_rng(devices=[]):
            # Not torch.manual_seed: without a GPU it records a traceback for each of its kinds.
            torch.default_generator.manual_seed(derive_seed(self.seed, self.epoch, item))
            image, label = self.transform(tv_tensors.Image(image), tv_tensors.Mask(label))
        return image.as_subclass(Tensor), label.as_subclass(Tensor)


def build_transform(options: AugmentationOptions) -> v2.Transform:
    """The transform of an image (tv_tensors.Image) and its labels (tv_tensors.Mask)."""
    steps = (build(options) for build in STEPS.values())
    return v2.Compose([step for step in steps if step is not None])


class _RandomScale(v2.Transform):  # type: ignore[misc]  # torchvision has no types
    """Scales both sides by one factor, drawn uniformly on a logarithmic scale."""

    def __init__(self, smallest: float, largest: float) -> None:
        super().__init__()
        self.limits = torch.tensor([smallest, largest]).log()

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """Draws the factor; returns the size of the scaled image."""
        # Logarithmic, so that halving the size is as likely as doubling it.
        low, high = self.limits.tolist()
        factor = float(torch.empty(()).uniform_(low, high).exp())
        height, width = flat_inputs[0].shape[-2:]
        return {"size": [max(1, round(height * factor)), max(1, round(width * factor))]}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Resizes: images by antialiased bilinear interpolation, masks by the nearest pixel."""
        if not isinstance(inpt, tv_tensors.Mask):
            return self._call_kernel(v2.functional.resize, inpt, **params, antialias=True)
        # torchvision's "nearest" would move labels by half a pixel against their images.
        height, width = params["size"]
        return tv_tensors.wrap(resize_labels(inpt.as_subclass(Tensor), (height, width)), like=inpt)


class _RandomGamma(v2.Transform):  # type: ignore[misc]  # as above
    """Raises the values of images to a power, drawn uniformly on a logarithmic scale."""

    def __init__(self, change: float) -> None:
        super().__init__()
        self.limit = math.log1p(change)

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """Draws the exponent."""
        return {"gamma": float(torch.empty(()).uniform_(-self.limit, self.limit).exp())}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Changes images; labels stay."""
        if isinstance(inpt, tv_tensors.Mask):
            return inpt
        # 8 bits have 256 values: a table of them is exact, and faster than powers of pixels.
        values = (torch.arange(256) / 255) ** params["gamma"] * 255
        table = values.round().to(torch.uint8)
        return tv_tensors.wrap(table[inpt.as_subclass(Tensor).int()], like=inpt)


def _build_rotation(options: AugmentationOptions) -> v2.Transform | None:
    if not options.rotation:
        return None
    # A label is that of the pixel whose center is nearest to where the image is interpolated.
    # No fill is black, too, without torchvision's darkening of edges towards a fill.
    fill = {tv_tensors.Image: None, tv_tensors.Mask: IGNORED}
    return v2.RandomRotation(options.rotation, v2.InterpolationMode.BILINEAR, fill=fill)


def _build_blur(options: AugmentationOptions) -> v2.Transform | None:
    if not options.blur:
        return None
    side = 2 * math.ceil(BLUR_REACH * options.blur) + 1
    return v2.GaussianBlur(side, (min(LEAST_BLUR, options.blur), options.blur))


_FILL = {tv_tensors.Image: 0, tv_tensors.Mask: IGNORED}  # of pixels without an image

# What makes a view, in this order; None where the options ask for no such change. Those that move
# pixels move labels with them by one rule: the class at the center of the pixel.
STEPS: dict[str, Callable[[AugmentationOptions], v2.Transform | None]] = {
    "flip": lambda o: v2.RandomHorizontalFlip(o.flip),
    "vertical_flip": lambda o: v2.RandomVerticalFlip(o.vertical_flip) if o.vertical_flip else None,
    "scale": lambda o: _RandomScale(o.smallest, o.largest),
    "rotation": _build_rotation,
    "crop": lambda o: v2.RandomCrop(o.crop, pad_if_needed=True, fill=_FILL),
    "color": lambda o: ColorJitter(o.color) if o.color else None,
    "gamma": lambda o: _RandomGamma(o.gamma) if o.gamma else None,
    "blur": _build_blur,
}
