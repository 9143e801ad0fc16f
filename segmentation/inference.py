"""Loads a trained model from a checkpoint, for prediction or export."""

import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import msgspec
import numpy as np
from numpy.typing import NDArray
from torch import nn

from upmap.errors import InputError
from upmap.options import Range, validate_fields
from upmap.segmentation.checkpoint import (
    PROGRAM,
    load_checkpoint,
    load_weights,
    parse_value,
    validate_weights,
)
from upmap.segmentation.models import MAX_CLASSES, ModelOptions, build_meta_model, build_model
from upmap.segmentation.optimization import OptimizationOptions

__all__ = ["TrainedModel", "load_model"]

Pixels = NDArray[np.uint8]
Byte = Annotated[int, msgspec.Meta(ge=0, le=255)]


@dataclass(frozen=True, slots=True)
class TrainedModel:
    """A trained model and the properties of it that predictions need.

    Attributes:
        model: The model, on the CPU, in evaluation mode.
        classes: The names of the K classes.
        palette: uint8 [K, 3], RGB, the color of each class in pictures.
        factor: Scale of images at the model's input.
        precision: The precision of the training, a key of PRECISIONS.
        options: The options of the model.
    """

    model: nn.Module
    classes: tuple[str, ...]
    palette: Pixels
    factor: float
    precision: str
    options: ModelOptions

    @property
    def upsampling(self) -> str:
        """The name of the upsampling operator."""
        return self.options.upsampling


def load_model(path: Path) -> TrainedModel:
    """Loads the model in a checkpoint.

    Raises:
        InputError: If the file is not the checkpoint of a training, or its model cannot be built.
    """
    checkpoint = load_checkpoint(path)
    if checkpoint["program"] != PROGRAM:
        raise InputError(f"not of {PROGRAM}", path, "program")
    saved = parse_value({key: checkpoint[key] for key in _Saved.__slots__}, _Saved, path, "")
    options = replace(saved.options.model, weights=None)  # the checkpoint has all weights
    try:
        # First on the device "meta", so that a wrong file is refused before memory is allocated.
        validate_weights(build_meta_model(options), checkpoint["model"], path, "model")
        with warnings.catch_warnings():  # training has warned of the operator
            warnings.filterwarnings("ignore", message="a transposed convolution's kernel of")
            model = build_model(options)
        load_weights(model, checkpoint["model"], path, "model")
    except InputError:
        raise
    except (ValueError, RuntimeError, TypeError, AttributeError) as error:
        message = f"not a model that can be made: {_describe_mismatch(error)}"
        raise InputError(message, path, "options.model") from None
    return TrainedModel(
        model=model.eval(),
        classes=saved.classes,
        palette=np.array(saved.palette, np.uint8),
        factor=saved.options.factor,
        precision=saved.options.optimization.precision,
        options=options,
    )


@dataclass(frozen=True, slots=True)
class _Training:
    """The options of a training that predictions need."""

    factor: Annotated[float, Range(0, 4, above=True)]
    model: ModelOptions
    optimization: OptimizationOptions

    def __post_init__(self) -> None:
        validate_fields(self)


@dataclass(frozen=True, slots=True)
class _Saved:
    """The keys of a checkpoint that predictions need, but for the weights."""

    classes: Annotated[tuple[str, ...], msgspec.Meta(min_length=1, max_length=MAX_CLASSES)]
    palette: tuple[tuple[Byte, Byte, Byte], ...]
    options: _Training

    def __post_init__(self) -> None:
        counts = [len(self.classes), len(self.palette), self.options.model.classes]
        if len(set(counts)) > 1:
            message = "classes has {}, palette {}, options.model.classes is {}"
            raise ValueError(message.format(*counts))


def _describe_mismatch(error: Exception) -> str:
    """The first two lines of an error as one: torch lists every weight that does not fit."""
    return " ".join(line.strip() for line in str(error).splitlines()[:2])
