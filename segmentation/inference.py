"""The model in a checkpoint, for those who do not train it: predictions, exports."""

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
    as_kind,
    load_checkpoint,
    load_weights,
    validate_weights,
)
from upmap.segmentation.models import MAX_CLASSES, ModelOptions, build_model, shapes
from upmap.segmentation.optimization import OptimizationOptions

__all__ = ["TrainedModel", "load_model"]

Pixels = NDArray[np.uint8]
Byte = Annotated[int, msgspec.Meta(ge=0, le=255)]


@dataclass(frozen=True, slots=True)
class TrainedModel:
    """What a training came to, as far as predictions need it.

    Attributes:
        model: On the CPU, in evaluation mode.
        classes: The names of the K classes.
        palette: uint8 [K, 3], RGB, the color that each is drawn in.
        factor: Of the size that the model sees images at.
        precision: That it was trained in.
        upsampling: The name of its operator.
    """

    model: nn.Module
    classes: tuple[str, ...]
    palette: Pixels
    factor: float
    precision: str
    upsampling: str


def load_model(path: Path) -> TrainedModel:
    """The model in a checkpoint, and what belongs to it.

    Raises:
        InputError: If it is no checkpoint of a training, or holds a model that there is not.
    """
    checkpoint = load_checkpoint(path)
    if checkpoint["program"] != PROGRAM:
        raise InputError(f"not of {PROGRAM}", path, "program")
    saved = as_kind({key: checkpoint[key] for key in _Saved.__slots__}, _Saved, path, "")
    options = replace(saved.options.model, weights=None)  # the encoder's are in the checkpoint
    try:
        # Shapes cost nothing: what the file does not hold is refused before memory is asked for.
        validate_weights(shapes(options), checkpoint["model"], path, "model")
        with warnings.catch_warnings():  # what an operator is known for is said when it is trained
            warnings.filterwarnings("ignore", message="a transposed convolution's kernel of")
            made = build_model(options)
        load_weights(made, checkpoint["model"], path, "model")
    except InputError:
        raise
    except (ValueError, RuntimeError, TypeError, AttributeError) as error:
        message = f"not a model that can be made: {_describe_mismatch(error)}"
        raise InputError(message, path, "options.model") from None
    return TrainedModel(
        model=made.eval(),
        classes=saved.classes,
        palette=np.array(saved.palette, np.uint8),
        factor=saved.options.factor,
        precision=saved.options.optimization.precision,
        upsampling=options.upsampling,
    )


@dataclass(frozen=True, slots=True)
class _Training:
    """The options of a training that say what its model sees and is."""

    factor: Annotated[float, Range(0, 4, above=True)]
    model: ModelOptions
    optimization: OptimizationOptions

    def __post_init__(self) -> None:
        validate_fields(self)


@dataclass(frozen=True, slots=True)
class _Saved:
    """What predictions need of a checkpoint, but for the weights."""

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
