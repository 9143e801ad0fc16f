"""Weights that a training starts from: those of another training's model, of other classes too."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from hashlib import file_digest
from pathlib import Path

from torch import nn

from upmap.errors import InputError, InputWarning, abbreviate_list
from upmap.files import require_path
from upmap.options import describe_value
from upmap.segmentation.inference import TrainedModel, load_model
from upmap.segmentation.models import ModelOptions, build_meta_model
from upmap.segmentation.processes import rank
from upmap.segmentation.training_options import TrainOptions

__all__ = ["InitialModel", "adopt_model", "digest_files", "load_initial_weights", "read_initial"]

COUNTS = (1, 252)  # of classes, whose groups in any operator differ, too
OWN = ("classes", "weights")  # options of a model that are not taken from the file


@dataclass(frozen=True, slots=True, eq=False)
class InitialModel:
    """The model that a training starts from.

    Attributes:
        path: The checkpoint that it is from.
        trained: The model.
    """

    path: Path
    trained: TrainedModel


def read_initial(path: Path) -> InitialModel:
    """Reads the model that a training starts from.

    Args:
        path: A checkpoint of a training, best.pt or last.pt.

    Raises:
        InputError: If it is no such file, or its model cannot be built.
    """
    return InitialModel(path, load_model(path))


def adopt_model(model: ModelOptions, initial: InitialModel) -> ModelOptions:
    """The options of the initial model, for the number of classes of `model`.

    Args:
        model: The options that were set; those that have their default take the initial model's.
        initial: The initial model.

    Raises:
        InputError: If another option was set to another value; names the flag and both.
    """
    if model.weights is not None:
        message = "--model.weights has no effect: --init has all weights; leave one of them out"
        raise InputError(message)
    default, trained = ModelOptions(), initial.trained.options
    for name in (field.name for field in fields(ModelOptions) if field.name not in OWN):
        now, before = getattr(model, name), getattr(trained, name)
        if now not in (getattr(default, name), before):
            flag = f"--model.{name.replace('_', '-')}"
            values = f"{describe_value(now)}, but the model has {describe_value(before)}"
            raise InputError(f"{flag}: {values}; leave it out", initial.path)
    return replace(trained, classes=model.classes, weights=None)


def load_initial_weights(model: nn.Module, initial: InitialModel, classes: Sequence[str]) -> None:
    """Sets a model's weights to those of the initial model.

    Where the classes are other ones, tensors that depend on their number keep their random values,
    and a warning names them.

    Args:
        model: A model of the options that `adopt_model` returns.
        initial: The initial model.
        classes: The names of the classes that the model will be trained on.
    """
    trained = initial.trained
    state = trained.model.state_dict()
    if tuple(classes) == trained.classes:
        model.load_state_dict(state)
        return
    shared = _list_common(trained.options)
    model.load_state_dict(model.state_dict() | {name: state[name] for name in shared})
    if rank() == 0:
        anew = abbreviate_list([name for name in state if name not in shared], 4)
        before, now = (abbreviate_list(list(names), 3) for names in (trained.classes, classes))
        message = f"{initial.path}: its classes are {before}, not {now}: {anew} start at random"
        warnings.warn(InputWarning(message, kind="classifier-initialized"), stacklevel=2)


def _list_common(options: ModelOptions) -> set[str]:
    """The names of the tensors that do not depend on the number of classes."""
    few, many = (build_meta_model(replace(options, classes=count)).state_dict() for count in COUNTS)
    return {name for name, tensor in few.items() if many[name].shape == tensor.shape}


def digest_files(options: TrainOptions) -> dict[str, str]:
    """The SHA-256 of the files that weights start from, by option.

    Raises:
        InputError: If one is not there.
    """
    paths = {"init": options.init, "model.weights": options.model.weights}
    digests: dict[str, str] = {}
    for name, path in paths.items():
        if path is not None:
            with require_path(Path(path)).open("rb") as file:
                digests[name] = file_digest(file, "sha256").hexdigest()
    return digests
