"""What changes during a training, and how a checkpoint gives it back.

A training goes on from what the checkpoint holds only after all of it was seen to be what this
training would have written: a value that is wrong would show as a wrong result hours later.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.swa_utils import AveragedModel

from upmap.errors import InputError
from upmap.options import Range, describe_value, validate_fields
from upmap.segmentation.checkpoint import as_kind, load_weights, validate_tensor, validate_weights

__all__ = ["COLUMNS", "Row", "State", "restore"]

Row = dict[str, float]  # of history.csv

COLUMNS = (
    *("epoch", "step", "learning_rate", "loss"),
    *("val_mIoU", "val_pixel_accuracy", "skipped", "seconds"),
)
MOMENTS = {  # what an optimizer keeps for each parameter, and how that is called
    "adamw": ("step", "exp_avg", "exp_avg_sq"),
    "adam": ("step", "exp_avg", "exp_avg_sq"),
    "sgd": ("momentum_buffer",),
}
KEYS = ("weights", "averaged", "optimizer", "scaler", "epoch", "step", "skipped", "history")


@dataclass(slots=True)
class State:
    """What changes during a training, and what a checkpoint holds of it."""

    model: nn.Module
    averaged: AveragedModel | None
    optimizer: Optimizer
    scaler: torch.amp.GradScaler
    epoch: int = 0
    step: int = 0
    skipped: int = 0
    history: list[Row] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Progress:
    """The numbers in a checkpoint that say how far a training came."""

    epoch: Annotated[int, Range(1, 1_000_000)]
    step: Annotated[int, Range(1, 2**53)]
    skipped: Annotated[int, Range(0, 2**53)]
    history: list[dict[str, float]]

    def __post_init__(self) -> None:
        validate_fields(self)
        if len(self.history) != self.epoch:
            raise ValueError(f"history has {len(self.history)} rows for epoch {self.epoch}")
        if self.skipped > self.step:
            raise ValueError(f"skipped is {self.skipped}, more than step, {self.step}")
        if any(tuple(row) != COLUMNS for row in self.history):
            raise ValueError(f"history: expected rows of {', '.join(COLUMNS)}")


@dataclass(frozen=True, slots=True)
class _Scaler:
    """What a gradient scaler's state is made of."""

    scale: Annotated[float, Range(0, 2.0**64, above=True)]
    growth_factor: float
    backoff_factor: float
    growth_interval: int
    _growth_tracker: Annotated[int, Range(0, 2**31 - 1)]

    def __post_init__(self) -> None:
        validate_fields(self)


def restore(
    state: State, checkpoint: Mapping[str, Any], path: Path, *, name: str, steps: int, epochs: int
) -> None:
    """Sets a new training's state, and torch's random state, to that in a checkpoint.

    Args:
        state: As the training began; unchanged where the checkpoint is refused, but for weights.
        checkpoint: What was loaded.
        path: The file, for errors.
        name: Of the optimizer, a key of OPTIMIZERS.
        steps: Of an epoch.
        epochs: Of the training.

    Raises:
        InputError: If a key is missing, or what it has is not what such a training writes.
    """
    for key in (*KEYS, "random"):
        if key not in checkpoint:
            raise InputError("missing", path, key)
    _validate_progress(checkpoint, path, steps, epochs)
    validate_weights(_model_to_evaluate(state), checkpoint["model"], path, "model")
    load_weights(state.model, checkpoint["weights"], path, "weights")
    if state.averaged is not None:
        load_weights(state.averaged, checkpoint["averaged"], path, "averaged")
    elif checkpoint["averaged"] is not None:
        raise InputError("expected none: ema is 0", path, "averaged")
    is_complete = checkpoint["step"] > checkpoint["skipped"]
    _restore_optimizer(state, checkpoint["optimizer"], path, MOMENTS[name], is_complete)
    _restore_scaler(state.scaler, checkpoint["scaler"], path)
    _restore_random(checkpoint["random"], path)
    for key in ("epoch", "step", "skipped", "history"):
        setattr(state, key, checkpoint[key])


def _model_to_evaluate(state: State) -> nn.Module:
    return state.model if state.averaged is None else state.averaged.module


def _validate_progress(checkpoint: Mapping[str, Any], path: Path, steps: int, epochs: int) -> None:
    keys = _Progress.__slots__
    found = as_kind({key: checkpoint[key] for key in keys}, _Progress, path, "")
    if found.epoch > epochs:
        raise InputError(f"{found.epoch}, but there are {epochs}", path, "epoch")
    if found.step != found.epoch * steps:
        message = f"{found.step}, but {found.epoch} epochs of {steps} steps make another"
        raise InputError(message, path, "step")


def _restore_optimizer(
    state: State, saved: object, path: Path, moments: tuple[str, ...], is_complete: bool
) -> None:
    """Takes from `saved` what was learned; what the options say is as they say."""
    place = "optimizer"
    if not isinstance(saved, Mapping) or not {"state", "param_groups"} <= saved.keys():
        raise InputError("expected state and param_groups", path, place)
    groups = state.optimizer.state_dict()["param_groups"]
    _validate_groups(saved["param_groups"], groups, path, f"{place}.param_groups")
    parameters = [one for group in state.optimizer.param_groups for one in group["params"]]
    kept, place = saved["state"], f"{place}.state"
    if not isinstance(kept, Mapping):
        raise InputError(f"expected a mapping, got {describe_value(kept)}", path, place)
    if unknown := [key for key in kept if key not in range(len(parameters))]:
        raise InputError(f"there is no parameter {describe_value(unknown[0])}", path, place)
    for i, parameter in enumerate(parameters):
        if i in kept:
            _validate_moments(kept[i], parameter, path, f"{place}.{i}", moments)
        elif is_complete:
            raise InputError("missing", path, f"{place}.{i}")
    state.optimizer.load_state_dict({"state": kept, "param_groups": groups})


def _validate_groups(saved: object, expected: list[Any], path: Path, place: str) -> None:
    if not isinstance(saved, list) or len(saved) != len(expected):
        raise InputError(f"expected a list of {len(expected)}", path, place)
    for i, (group, want) in enumerate(zip(saved, expected, strict=True)):
        if not isinstance(group, Mapping) or not {"params", "lr"} <= group.keys():
            raise InputError("expected params, lr and more", path, f"{place}.{i}")
        # Another version of torch may know other settings, and the rate is set at every step.
        for key in want.keys() & group.keys() - {"lr"}:
            if type(group[key]) is not type(want[key]) or group[key] != want[key]:
                message = f"expected {want[key] if key != 'params' else 'those of the model'}"
                raise InputError(message, path, f"{place}.{i}.{key}")
        rate = as_kind(group["lr"], float, path, f"{place}.{i}.lr")
        if rate not in Range(0, 1000):
            raise InputError(f"must lie in {Range(0, 1000)}, not {rate}", path, f"{place}.{i}.lr")


def _validate_moments(
    kept: object, parameter: Tensor, path: Path, place: str, moments: tuple[str, ...]
) -> None:
    if not isinstance(kept, Mapping) or {*kept} != {*moments}:
        raise InputError(f"expected {', '.join(moments)}", path, place)
    for name in moments:
        is_count = name == "step"
        expected = torch.zeros(()) if is_count else parameter.detach()
        validate_tensor(kept[name], expected, path, f"{place}.{name}")
        if name in ("step", "exp_avg_sq") and bool((kept[name] < is_count).any()):
            raise InputError(f"must be at least {is_count:d}", path, f"{place}.{name}")


def _restore_scaler(scaler: torch.amp.GradScaler, saved: object, path: Path) -> None:
    expected = scaler.state_dict()
    if not isinstance(saved, Mapping) or {*saved} != {*expected}:
        names = ", ".join(expected) or "nothing: the precision is not fp16"
        raise InputError(f"expected {names}", path, "scaler")
    if expected:
        as_kind(dict(saved), _Scaler, path, "scaler")
        for name in ("growth_factor", "backoff_factor", "growth_interval"):
            if saved[name] != expected[name]:
                raise InputError(f"expected {expected[name]}", path, f"scaler.{name}")
        scaler.load_state_dict(dict(saved))


def _restore_random(saved: object, path: Path) -> None:
    validate_tensor(saved, torch.get_rng_state(), path, "random")
    try:
        torch.set_rng_state(saved)  # type: ignore[arg-type]  # a tensor, as was just seen
    except (RuntimeError, TypeError) as error:
        raise InputError(str(error).splitlines()[0], path, "random") from None
