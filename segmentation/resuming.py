"""Resuming a training from last.pt.

A checkpoint may come from anyone, and a wrong value in it would show as a wrong result hours later.
So a training goes on only if everything in the checkpoint is what this training would have written.
"""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NoReturn

import msgspec
import torch
from torch import Tensor

from upmap.errors import InputError, InputWarning
from upmap.options import Range, describe_value, validate_fields
from upmap.segmentation.checkpoint import (
    LAST,
    PROGRAM,
    load_checkpoint,
    load_weights,
    parse_value,
    validate_tensor,
    validate_weights,
)
from upmap.segmentation.datasets import SegmentationDataset
from upmap.segmentation.history import COLUMNS
from upmap.segmentation.optimization import learning_rate
from upmap.segmentation.processes import world_size
from upmap.segmentation.survey import Survey
from upmap.segmentation.training_options import TrainOptions
from upmap.segmentation.training_state import (
    TrainingState,
    create_state,
    describe_environment,
)

__all__ = ["CHANGEABLE_OPTIONS", "refuse_change", "require_same_data", "resume_state"]

# Options that may differ from those in the checkpoint: the result does not depend on them.
# `epochs` may differ where the learning rate does not depend on it; the number of threads that
# result from `threads` is compared by itself.
CHANGEABLE_OPTIONS = frozenset(
    (
        *("out", "root", "resume", "workers", "device", "tensorboard", "threads"),
        *("max_pixels", "patience", "max_skipped", "init"),  # the content of --init is compared
    )
)
MOMENTS = {  # the names of what torch's optimizers store for each parameter
    "adamw": ("step", "exp_avg", "exp_avg_sq"),
    "adam": ("step", "exp_avg", "exp_avg_sq"),
    "sgd": ("momentum_buffer",),
}
STATE_KEYS = (
    *(
        "files",
        "data",
        "threads",
        "processes",
        "environment",
        "weights",
        "averaged",
        "optimizer",
        "scaler",
    ),
    *("epoch", "step", "skipped", "skipped_in_a_row", "history", "random"),
)
RATES = Range(0, 1000)  # of learning


@dataclass(frozen=True, slots=True)
class _Environment:
    """See `describe_environment`."""

    torch: str
    torchvision: str
    device: str
    instructions: str


_Count = Annotated[int, msgspec.Meta(ge=1, le=65536)]
_Epochs = Annotated[int, msgspec.Meta(ge=1, le=1_000_000)]


@dataclass(frozen=True, slots=True)
class _Progress:
    """The numbers in a checkpoint that say how far the training came."""

    epoch: Annotated[int, Range(1, 1_000_000)]
    step: Annotated[int, Range(1, 2**53)]
    skipped: Annotated[int, Range(0, 2**53)]
    skipped_in_a_row: Annotated[int, Range(0, 2**53)]
    history: list[dict[str, float]]

    def __post_init__(self) -> None:
        validate_fields(self)
        if len(self.history) != self.epoch:
            raise ValueError(f"history has {len(self.history)} rows for epoch {self.epoch}")
        if self.skipped > self.step:
            raise ValueError(f"skipped is {self.skipped}, more than step, {self.step}")
        if self.skipped_in_a_row > self.skipped:
            raise ValueError(f"skipped_in_a_row is {self.skipped_in_a_row}, more than skipped")
        if any(tuple(row) != COLUMNS for row in self.history):
            raise ValueError(f"history: expected rows of {', '.join(COLUMNS)}")


@dataclass(frozen=True, slots=True)
class _ScalerState:
    """The state_dict of an enabled torch.amp.GradScaler."""

    scale: Annotated[float, Range(0, 2.0**64, above=True)]
    growth_factor: float
    backoff_factor: float
    growth_interval: int
    _growth_tracker: Annotated[int, Range(0, 2**31 - 1)]

    def __post_init__(self) -> None:
        validate_fields(self)


def resume_state(
    options: TrainOptions, device: torch.device, dataset: SegmentationDataset
) -> TrainingState | None:
    """The state in last.pt; sets torch's random state to the one stored there.

    Args:
        options: The options, the number of classes included.
        device: The device of the model.
        dataset: The training split.

    Returns:
        None if there is no last.pt: the training was stopped within its first epoch.

    Raises:
        InputError: If the checkpoint is of another training, lacks a key, or holds a value that
            this training cannot have written; names the file and the key.
    """
    path = Path(options.out) / LAST
    if not path.exists():
        return None
    checkpoint = load_checkpoint(path)
    _validate_options(checkpoint, options, path)
    _validate_classes(checkpoint, dataset, path)
    for key in STATE_KEYS:
        if key not in checkpoint:
            raise InputError("missing", path, key)
    _validate_counts(checkpoint, device, path)
    _compare_environment(checkpoint, device, path)
    surveys = _parse_surveys(checkpoint, options, path)
    before, images = surveys[options.train].images, len(dataset)
    if before != images:  # sooner than after all have been read
        refuse_change(f"data.{options.train}.images", before, images, path)
    steps = images // options.batch_size
    _validate_progress(checkpoint, options, path, steps=steps)
    _validate_epochs(checkpoint, options, path, steps=steps)
    state = create_state(options, device)
    if (files := parse_value(checkpoint["files"], dict[str, str], path, "files")) != state.files:
        refuse_change("files", files, state.files, path)
    _restore_state(state, checkpoint, path, MOMENTS[options.optimization.optimizer])
    state.surveys = surveys
    return state


def require_same_data(before: Mapping[str, Survey], now: Mapping[str, Survey], path: Path) -> None:
    """Requires the images and labels that a training began with.

    Args:
        before: What the splits contained, by name; from the checkpoint.
        now: What they contain.
        path: The checkpoint, for errors.

    Raises:
        InputError: Names what differs.
    """
    if before != now:
        refuse_change("data", msgspec.to_builtins(before), msgspec.to_builtins(now), path)


def _validate_options(checkpoint: Mapping[str, Any], options: TrainOptions, path: Path) -> None:
    """Requires the options of the checkpoint, but for those that may change."""
    if checkpoint["program"] != PROGRAM:
        raise InputError(f"not of {PROGRAM}", path, "program")
    before = parse_value(checkpoint["options"], dict[str, Any], path, "options")
    now = msgspec.to_builtins(options)
    for key in now:
        if key not in (*CHANGEABLE_OPTIONS, "epochs") and before.get(key) != now[key]:
            refuse_change(key, before.get(key), now[key], path)


def refuse_change(key: str, before: Any, now: Any, path: Path, *, remedy: str = "") -> NoReturn:
    """Refuses to go on, as what a result depends on has changed.

    Args:
        key: The name of the value that differs.
        before: The value of the training, plain types.
        now: The value that it would go on with.
        path: The checkpoint.
        remedy: What to do, instead of the usual.

    Raises:
        InputError: Names the first key, nested ones with dots and indices, and its two values.
    """
    name, *values = _first_difference(key, before, now)
    stored, current = map(describe_value, values)
    remedy = remedy or "resume with what it was trained with, or name a new --out"
    raise InputError(f"was trained with {name} = {stored}, not {current}; {remedy}", path)


def _first_difference(key: str, before: Any, now: Any) -> tuple[str, Any, Any]:
    """The name of the first value that differs, and the two values."""
    if isinstance(before, dict) and isinstance(now, dict):
        for name in now | before:
            if before.get(name) != now.get(name):
                return _first_difference(f"{key}.{name}", before.get(name), now.get(name))
    if isinstance(before, list | tuple) and isinstance(now, list | tuple):
        if len(before) != len(now):
            return f"len({key})", len(before), len(now)
        for i, (first, second) in enumerate(zip(before, now, strict=True)):
            if first != second:
                return _first_difference(f"{key}[{i}]", first, second)
    return key, before, now


def _validate_classes(
    checkpoint: Mapping[str, Any], dataset: SegmentationDataset, path: Path
) -> None:
    classes = parse_value(checkpoint["classes"], list[str], path, "classes")
    palette = parse_value(checkpoint["palette"], list[list[int]], path, "palette")
    for key, stored, expected in (
        ("classes", classes, list(dataset.classes)),
        ("palette", palette, dataset.palette.tolist()),
    ):
        if stored != expected:
            refuse_change(key, stored, expected, path)


def _parse_surveys(
    checkpoint: Mapping[str, Any], options: TrainOptions, path: Path
) -> dict[str, Survey]:
    surveys = parse_value(checkpoint["data"], dict[str, Survey], path, "data")
    for split in filter(None, (options.train, options.val, options.test)):
        if split not in surveys:
            raise InputError("missing", path, f"data.{split}")
    return surveys


def _validate_counts(checkpoint: Mapping[str, Any], device: torch.device, path: Path) -> None:
    """Requires the numbers of processes and, on a CPU, of threads that a result depends on."""
    processes = parse_value(checkpoint["processes"], _Count, path, "processes")
    if processes != world_size():
        remedy = f"start it by torchrun --nproc-per-node {processes}, or name a new --out"
        refuse_change("processes", processes, world_size(), path, remedy=remedy)
    threads = parse_value(checkpoint["threads"], _Count, path, "threads")
    if device.type == "cpu" and threads != (now := torch.get_num_threads()):
        refuse_change("threads", threads, now, path, remedy=f"add --threads {threads}")


def _compare_environment(checkpoint: Mapping[str, Any], device: torch.device, path: Path) -> None:
    """Warns of another version of torch or kind of device: results will differ a little."""
    before = parse_value(checkpoint["environment"], _Environment, path, "environment")
    for key, now in describe_environment(device).items():
        if getattr(before, key) != now:
            message = f"was trained with {key} {describe_value(getattr(before, key))}, not {now!r}"
            ending = "the result will not be bit for bit that of an uninterrupted training"
            note = InputWarning(f"{path}: {message}: {ending}", kind="other-environment")
            warnings.warn(note, stacklevel=3)


def _validate_epochs(
    checkpoint: Mapping[str, Any], options: TrainOptions, path: Path, *, steps: int
) -> None:
    """Requires another number of epochs to leave the rates of the steps taken as they were."""
    before = parse_value(checkpoint["options"].get("epochs"), _Epochs, path, "options.epochs")
    if before == options.epochs:
        return
    taken, schedule = checkpoint["step"], options.optimization
    counts = (before * steps, options.epochs * steps)
    rates = [[learning_rate(i, count, schedule) for i in range(taken)] for count in counts]
    if rates[0] != rates[1]:
        remedy = (
            f"the rates of {schedule.schedule} depend on it: only with --optimization.schedule "
            "constant and --optimization.warmup 0 can a training be lengthened"
        )
        refuse_change("epochs", before, options.epochs, path, remedy=remedy)


def _validate_progress(
    checkpoint: Mapping[str, Any], options: TrainOptions, path: Path, *, steps: int
) -> None:
    """Requires numbers that fit the options; `steps` is the number of steps of an epoch."""
    stored = {key: checkpoint[key] for key in _Progress.__slots__}
    progress = parse_value(stored, _Progress, path, "")
    if progress.epoch > options.epochs:
        raise InputError(f"{progress.epoch}, but there are {options.epochs}", path, "epoch")
    if progress.step != progress.epoch * steps:
        message = f"{progress.step}, but {progress.epoch} epochs of {steps} steps make another"
        raise InputError(message, path, "step")


def _restore_state(
    state: TrainingState, checkpoint: Mapping[str, Any], path: Path, moments: tuple[str, ...]
) -> None:
    """Sets a new training's state to that in a checkpoint with validated progress."""
    validate_weights(state.model_to_evaluate, checkpoint["model"], path, "model")
    load_weights(state.model, checkpoint["weights"], path, "weights")
    if state.averaged is not None:
        load_weights(state.averaged, checkpoint["averaged"], path, "averaged")
    elif checkpoint["averaged"] is not None:
        raise InputError("expected none: ema is 0", path, "averaged")
    # A step that was not skipped has given every parameter its moments.
    is_complete = checkpoint["step"] > checkpoint["skipped"]
    optimizer = checkpoint["optimizer"]
    _restore_optimizer(state, optimizer, path, moments, is_complete=is_complete)
    _restore_scaler(state.scaler, checkpoint["scaler"], path)
    _restore_random_state(checkpoint["random"], path)
    for key in _Progress.__slots__:
        setattr(state, key, checkpoint[key])


def _restore_optimizer(
    state: TrainingState, stored: object, path: Path, names: tuple[str, ...], *, is_complete: bool
) -> None:
    """Restores the moments called `names`; the settings stay those of the options."""
    place = "optimizer"
    if not isinstance(stored, Mapping) or not {"state", "param_groups"} <= stored.keys():
        raise InputError("expected state and param_groups", path, place)
    groups = state.optimizer.state_dict()["param_groups"]
    _validate_groups(stored["param_groups"], groups, path, f"{place}.param_groups")
    parameters = [p for group in state.optimizer.param_groups for p in group["params"]]
    moments, place = stored["state"], f"{place}.state"
    if not isinstance(moments, Mapping):
        raise InputError(f"expected a mapping, got {describe_value(moments)}", path, place)
    if unknown := [key for key in moments if key not in range(len(parameters))]:
        raise InputError(f"there is no parameter {describe_value(unknown[0])}", path, place)
    for i, parameter in enumerate(parameters):
        if i in moments:
            _validate_moments(moments[i], parameter, path, f"{place}.{i}", names)
        elif is_complete:
            raise InputError("missing", path, f"{place}.{i}")
    state.optimizer.load_state_dict({"state": moments, "param_groups": groups})


def _validate_groups(stored: object, expected: list[Any], path: Path, place: str) -> None:
    if not isinstance(stored, list) or len(stored) != len(expected):
        raise InputError(f"expected a list of {len(expected)}", path, place)
    for i, (group, current) in enumerate(zip(stored, expected, strict=True)):
        if not isinstance(group, Mapping) or not {"params", "lr"} <= group.keys():
            raise InputError("expected params, lr and more", path, f"{place}.{i}")
        # Another version of torch may know other settings, and the rate is set at every step.
        for key in current.keys() & group.keys() - {"lr"}:
            if type(group[key]) is not type(current[key]) or group[key] != current[key]:
                message = f"expected {current[key] if key != 'params' else 'those of the model'}"
                raise InputError(message, path, f"{place}.{i}.{key}")
        rate = parse_value(group["lr"], float, path, f"{place}.{i}.lr")
        if rate not in RATES:
            raise InputError(f"must lie in {RATES}, not {rate}", path, f"{place}.{i}.lr")


def _validate_moments(
    stored: object, parameter: Tensor, path: Path, place: str, names: tuple[str, ...]
) -> None:
    if not isinstance(stored, Mapping) or {*stored} != {*names}:
        raise InputError(f"expected {', '.join(names)}", path, place)
    for name in names:
        is_count = name == "step"
        expected = torch.zeros(()) if is_count else parameter.detach()
        validate_tensor(stored[name], expected, path, f"{place}.{name}")
        # A count starts at 1; the mean of squares has a root.
        if name in ("step", "exp_avg_sq") and bool((stored[name] < is_count).any()):
            raise InputError(f"must be at least {is_count:d}", path, f"{place}.{name}")


def _restore_scaler(scaler: torch.amp.GradScaler, stored: object, path: Path) -> None:
    expected = scaler.state_dict()  # empty unless the precision is fp16
    if not isinstance(stored, Mapping) or {*stored} != {*expected}:
        names = ", ".join(expected) or "nothing: the precision is not fp16"
        raise InputError(f"expected {names}", path, "scaler")
    if expected:
        parse_value(dict(stored), _ScalerState, path, "scaler")
        for name in ("growth_factor", "backoff_factor", "growth_interval"):
            if stored[name] != expected[name]:
                raise InputError(f"expected {expected[name]}", path, f"scaler.{name}")
        scaler.load_state_dict(dict(stored))


def _restore_random_state(stored: object, path: Path) -> None:
    validate_tensor(stored, torch.get_rng_state(), path, "random")
    try:
        torch.set_rng_state(stored)  # type: ignore[arg-type]  # validate_tensor requires a tensor
    except (RuntimeError, TypeError) as error:
        raise InputError(str(error).splitlines()[0], path, "random") from None
