"""What a training refuses before it reads an image: options that contradict each other or the data.

Each check is a line that names the options, so that nothing is found out by a traceback of torch
after all images were read.
"""

from collections.abc import Callable, Iterator
from operator import attrgetter
from pathlib import Path
from typing import NamedTuple

import torch

from upmap.errors import InputError, abbreviate_list
from upmap.files import require_path
from upmap.segmentation.datasets import SegmentationDataset
from upmap.segmentation.models import build_meta_model
from upmap.segmentation.processes import world_size
from upmap.segmentation.training_options import TrainOptions

__all__ = [
    "UNUSED",
    "Unused",
    "refuse_unused_options",
    "validate_class_count",
    "validate_training",
]


class Unused(NamedTuple):
    """A row of UNUSED: an option that other options may leave without effect.

    Attributes:
        name: The option, with dots.
        is_used: Whether the option has an effect beside the others.
        reason: Why it has none.
    """

    name: str
    is_used: Callable[[TrainOptions], bool]
    reason: str


UNUSED = (
    Unused("root", lambda o: o.dataset != "shapes", "shapes are drawn, from no folder"),
    Unused("full_labels", lambda o: o.factor != 1, "at --factor 1 the loss is at the labels' size"),
    Unused("model.weights", lambda o: o.model.encoder != "plain", "the plain encoder has no file"),
    Unused("model.width", lambda o: o.model.encoder == "plain", "only the plain encoder has it"),
    Unused("model.depth", lambda o: o.model.encoder == "plain", "only the plain encoder has it"),
    Unused(
        "model.activation",
        lambda o: o.model.encoder == "plain" or o.model.architecture == "unet",
        "the model has that of its encoder",
    ),
    Unused("model.decoder_width", lambda o: o.model.architecture == "unet", "only a U-Net has it"),
    Unused("model.placement", lambda o: o.model.architecture == "unet", "only a U-Net has it"),
    Unused(
        "loss.label_smoothing",
        lambda o: "cross_entropy" in o.loss.loss,
        "it is that of cross-entropy",
    ),
    Unused(
        "loss.class_weights",
        lambda o: o.loss.loss not in ("dice", "lovasz"),
        "the loss is a mean over classes",
    ),
    Unused("loss.focal_gamma", lambda o: "focal" in o.loss.loss, "the loss is not focal"),
    Unused("loss.dice_weight", lambda o: o.loss.loss.endswith("+dice"), "the loss is no such sum"),
    Unused(
        "loss.lovasz_weight",
        lambda o: o.loss.loss.endswith("+lovasz"),
        "the loss is no such sum",
    ),
    Unused("loss.impl", lambda o: o.loss.loss == "cross_entropy", "only cross_entropy has kernels"),
)


def refuse_unused_options(options: TrainOptions) -> None:
    """Refuses options that were set and have no effect.

    Raises:
        InputError: Names the flag, and why it has no effect.
    """
    for name in _find_unused(options):
        row = next(row for row in UNUSED if row.name == name)
        flag = f"--{name.replace('_', '-')}"
        raise InputError(f"{flag} has no effect: {row.reason}; leave it out")


def _find_unused(options: TrainOptions) -> Iterator[str]:
    defaults = TrainOptions()
    for row in UNUSED:
        value = attrgetter(row.name)
        if value(options) != value(defaults) and not row.is_used(options):
            yield row.name


def validate_class_count(options: TrainOptions, dataset: SegmentationDataset) -> None:
    """Refuses numbers of classes, and of weights for them, that are not the data set's.

    Args:
        options: The options, as they were set.
        dataset: The training split.

    Raises:
        InputError: Names the option.
    """
    weights, classes = options.loss.class_weights, len(dataset.classes)
    if weights != "auto" and weights and len(weights) != classes:
        names = abbreviate_list(list(dataset.classes))
        message = f"{len(weights)} for {classes} classes; expected one for each of {names}"
        raise InputError(f"--loss.class-weights: {message}")
    if options.model.classes not in (0, classes):
        message = f"{options.model.classes}, but the data set has {classes}; leave it out"
        raise InputError(f"--model.classes: {message}")


def validate_training(options: TrainOptions, dataset: SegmentationDataset) -> None:
    """Refuses a training that cannot run, before an image is read.

    Args:
        options: The options, with the number of classes.
        dataset: The training split.

    Raises:
        InputError: Names the options.
    """
    _validate_batches(options, dataset)
    _validate_model(options)


def _validate_batches(options: TrainOptions, dataset: SegmentationDataset) -> None:
    """Requires batches that there are images for, and that can be divided among processes."""
    size = options.batch_size
    if len(dataset) < size:
        count = f"there are only {len(dataset)} images in {dataset.split}"
        raise InputError(f"--batch-size {size}: {count}; lower it")
    if size % (world_size() * options.accumulate):
        parts = f"{world_size()} processes x {options.accumulate} parts"
        raise InputError(f"--batch-size {size} is no multiple of {parts}")


def _validate_model(options: TrainOptions) -> None:
    """Calls the model without values, for what only its layers know of their options."""
    if options.model.weights is not None and options.model.encoder != "plain":
        require_path(Path(options.model.weights))
    parts = world_size() * options.accumulate
    sides = [max(1, round(options.factor * side)) for side in options.augmentation.crop]
    try:
        model = build_meta_model(options.model).train()
    except ValueError as error:
        raise InputError(f"model: {error}") from None
    try:
        model(torch.empty(options.batch_size // parts, 3, *sides, device="meta"))
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise InputError(f"model: {error}") from None
        crop = ",".join(map(str, options.augmentation.crop))
        raise InputError(
            f"--batch-size {options.batch_size} in {parts} parts, --augmentation.crop {crop}, "
            f"--factor {options.factor:g}: batch normalization would see a single value; take more "
            "images a part, a larger crop, or a lower --model.depth"
        ) from None
