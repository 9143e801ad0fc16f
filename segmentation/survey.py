"""What the splits of a data set contain: read once before a training, recorded in its checkpoints.

A result depends on every image and label. Their digests let a training be resumed on the same data
only, and their counts show classes that cannot be learned before hours are spent on it.
"""

import hashlib
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

import msgspec
import numpy as np
from torch import Tensor

from upmap.errors import InputError, InputWarning, abbreviate_list
from upmap.segmentation.datasets import SegmentationDataset, validate_dataset
from upmap.text_tables import align_columns

__all__ = ["Survey", "format_surveys", "survey_dataset", "validate_surveys"]

DIGEST = 16  # hexadecimal digits; two data sets are not alike by chance

Digest = Annotated[str, msgspec.Meta(pattern=f"^[0-9a-f]{{{DIGEST}}}$")]
Count = Annotated[int, msgspec.Meta(ge=0, le=2**53)]


@dataclass(frozen=True, slots=True)
class Survey:
    """What a split contains.

    Attributes:
        images: The number of images.
        names: A digest of their names, in order.
        pixels: The number of pixels of each class.
        content: A digest of the pixels of images and labels, in order, as they are trained on.
    """

    images: Count
    names: Digest
    pixels: tuple[Count, ...]
    content: Digest


def survey_dataset(dataset: SegmentationDataset, *, show_progress: bool = False) -> Survey:
    """Reads and validates every image and label of a split.

    Args:
        dataset: The split.
        show_progress: Whether to draw a progress bar on a terminal.

    Raises:
        InputError: See `validate_dataset`.
    """
    content = hashlib.sha256()

    def add(image: Tensor, label: Tensor) -> None:
        content.update(repr((*image.shape, *label.shape)).encode())
        for pixels in (image, label):
            content.update(np.ascontiguousarray(pixels.numpy()).data)

    counts = validate_dataset(dataset, show_progress=show_progress, visit=add)
    names = hashlib.sha256("\n".join(dataset.names).encode())
    return Survey(
        images=len(dataset),
        names=names.hexdigest()[:DIGEST],
        pixels=tuple(counts.tolist()),
        content=content.hexdigest()[:DIGEST],
    )


def validate_surveys(
    surveys: Mapping[str, Survey],
    classes: Sequence[str],
    *,
    train: str,
    val: str,
    class_weights: Sequence[float] = (),
) -> None:
    """Refuses data that nothing can be learned from, and warns of what is probably a mistake.

    Args:
        surveys: The splits by name.
        classes: The names of the K classes.
        train: The split for training.
        val: The split that selects the best epoch.
        class_weights: A weight for each class; empty weighs all alike.

    Raises:
        InputError: If the weights of all pixels for training are 0.
    """
    pixels = surveys[train].pixels
    if class_weights and not np.dot(class_weights, np.sign(pixels)):
        message = f"all are 0 but for classes that have no pixel in {train}"
        raise InputError(f"--loss.class-weights: {message}: nothing would be learned")
    if absent := tuple(name for name, n in zip(classes, pixels, strict=True) if not n):
        message = f"no pixel of {train} has the class {abbreviate_list(list(absent))}"
        _warn(f"{message}: it cannot be learned", "class-not-trained", absent)
    if train != val and surveys[train].content == surveys[val].content:
        message = f"{train} and {val} have the same images and labels"
        _warn(f"{message}: scores of {val} will be those of images seen", "same-splits", ())


def _warn(message: str, kind: str, examples: tuple[str, ...]) -> None:
    warnings.warn(
        InputWarning(message, kind=kind, count=max(1, len(examples)), examples=examples),
        stacklevel=3,
    )


def format_surveys(surveys: Mapping[str, Survey], classes: Sequence[str]) -> str:
    """A table of the pixels of each class in each split, and their shares.

    Args:
        surveys: The splits by name.
        classes: The names of the K classes.
    """
    header = ("pixels", *(f"{name} ({survey.images})" for name, survey in surveys.items()))
    rows = []
    for i, name in enumerate(classes):
        cells = [f"{s.pixels[i]:,} ({s.pixels[i] / sum(s.pixels):.2%})" for s in surveys.values()]
        rows.append((name, *cells))
    return align_columns([header, *rows])
