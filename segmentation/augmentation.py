"""Random augmentation of a data set, by torchvision's transforms v2.

A view depends only on the seed, the epoch and the item, not on the number of workers or processes,
nor on earlier views. So a resumed training sees the same views.
"""

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

__all__ = ["AugmentationOptions", "Views", "build_transform"]

Pair = tuple[Tensor, Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class AugmentationOptions:
    """Options of augmentation.

    Attributes:
        crop: Height and width of crops, px; smaller images are padded.
        flip: Probability of a left-right flip.
        smallest: Lower limit of the scaling factor.
        largest: Upper limit of the scaling factor.
        color: Strength of changes of brightness, contrast and saturation; 0 makes none.
    """

    crop: Annotated[tuple[int, int], Range(1, 16384)] = (96, 128)
    flip: Annotated[float, Range(0, 1)] = 0.5
    smallest: Annotated[float, Range(0.01, 16)] = 0.75
    largest: Annotated[float, Range(0.01, 16)] = 1.5
    color: Annotated[float, Range(0, 1)] = 0.25

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
    steps: list[v2.Transform] = [
        v2.RandomHorizontalFlip(options.flip),
        _RandomScale(options.smallest, options.largest),
        v2.RandomCrop(
            options.crop,
            pad_if_needed=True,
            fill={tv_tensors.Image: 0, tv_tensors.Mask: IGNORED},
        ),
    ]
    if options.color:
        steps.append(ColorJitter(options.color))
    return v2.Compose(steps)


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
