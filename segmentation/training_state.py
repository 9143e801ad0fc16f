"""The state of a training: what changes from step to step, and what its checkpoints hold."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import torch
import torchvision
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from upmap.errors import InputError
from upmap.segmentation.checkpoint import PROGRAM, SCHEMA
from upmap.segmentation.datasets import SegmentationDataset
from upmap.segmentation.device import describe_gpu
from upmap.segmentation.fine_tuning import InitialModel, digest_files, load_initial_weights
from upmap.segmentation.history import Row
from upmap.segmentation.models import build_model
from upmap.segmentation.optimization import build_optimizer, grad_scaler
from upmap.segmentation.processes import world_size
from upmap.segmentation.survey import Survey
from upmap.segmentation.training_options import TrainOptions

__all__ = ["TrainingState", "collect_checkpoint", "create_state", "describe_environment"]


@dataclass(slots=True)
class TrainingState:
    """What changes during a training.

    Attributes:
        model: The model whose weights are learned.
        averaged: The moving average of its weights; None without `TrainOptions.ema`.
        optimizer: The optimizer of the model's parameters.
        scaler: The scaler of gradients; does nothing unless the precision is fp16.
        epoch: The number of finished epochs.
        step: The number of steps taken, skipped ones included.
        skipped: The number of steps skipped for a loss or gradient that was not finite.
        skipped_in_a_row: The number of those since the last step that was not, over epochs;
            without those whose gradients overflowed while their scale could still be lowered.
        history: A row for each finished epoch.
        surveys: What the splits contain, by name.
        epoch_sums: The sums of the loss, float [S] on the device, of each step of this epoch that
            was not skipped; not in checkpoints, which are written between epochs.
        files: The SHA-256 of the files that weights started from, by option.
        epoch_sums: The sums of the loss, float64 [S], of each step of this epoch that was not
            skipped; not in checkpoints, which are written between epochs.
    """

    model: nn.Module
    averaged: AveragedModel | None
    optimizer: Optimizer
    scaler: torch.amp.GradScaler
    epoch: int = 0
    step: int = 0
    skipped: int = 0
    skipped_in_a_row: int = 0
    history: list[Row] = field(default_factory=list)
    surveys: dict[str, Survey] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    epoch_sums: list[Tensor] = field(default_factory=list)

    @property
    def model_to_evaluate(self) -> nn.Module:
        """The model with averaged weights if there is one, the model itself otherwise."""
        return self.model if self.averaged is None else self.averaged.module


def create_state(
    options: TrainOptions,
    device: torch.device,
    *,
    initial: InitialModel | None = None,
    classes: Sequence[str] = (),
) -> TrainingState:
    """The state in which a training starts; seeds torch's random generator.

    Args:
        options: The options, the number of classes included.
        device: The device of the model.
        initial: The model that weights start from; None for random ones.
        classes: The names of the classes; only `initial` needs them.

    Raises:
        InputError: If there is no such model, or its file of weights cannot be read.
    """
    torch.manual_seed(options.seed)
    try:
        model: nn.Module = build_model(options.model)
    except InputError:
        raise
    except ValueError as error:
        raise InputError(f"model: {error}") from None
    if initial is not None:
        load_initial_weights(model, initial, classes)
    model = model.to(device)
    if options.channels_last:
        model = model.to(memory_format=torch.channels_last)
    # use_buffers: running statistics are averaged like weights.
    averaged = None
    if options.ema:
        averaged = AveragedModel(
            model,
            multi_avg_fn=get_ema_multi_avg_fn(options.ema),  # type: ignore[no-untyped-call]
            use_buffers=True,
        )
    scaler = grad_scaler(device, options.optimization.precision)
    optimizer = build_optimizer(model, options.optimization)
    return TrainingState(model, averaged, optimizer, scaler, files=digest_files(options))


def describe_environment(device: torch.device) -> dict[str, str]:
    """What results depend on in their last bits, and nobody can always keep."""
    return {
        "torch": str(torch.__version__),
        "torchvision": str(torchvision.__version__),
        "device": device.type,
        "instructions": torch.backends.cpu.get_cpu_capability(),
        **describe_gpu(device),
    }


def collect_checkpoint(
    state: TrainingState, options: TrainOptions, dataset: SegmentationDataset
) -> dict[str, Any]:
    """What a checkpoint holds: the state, and all else that the result depends on.

    That is torch's random state, the options, the classes, digests of the files that weights
    started from, what the splits contain, the number of threads, with which sums on a CPU are
    rounded in another order, that of processes, among which batch normalization divides a batch,
    and the environment.

    Args:
        state: The state after an epoch.
        options: The options of the training.
        dataset: The training split, whose classes and palette are stored.
    """
    return {
        "schema": SCHEMA,
        "program": PROGRAM,
        "options": msgspec.to_builtins(options),
        "classes": list(dataset.classes),
        "palette": dataset.palette.tolist(),
        "files": dict(state.files),
        "data": msgspec.to_builtins(state.surveys),
        "threads": torch.get_num_threads(),
        "processes": world_size(),
        "environment": describe_environment(next(state.model.parameters()).device),
        "model": state.model_to_evaluate.state_dict(),
        "weights": state.model.state_dict(),
        "averaged": None if state.averaged is None else state.averaged.state_dict(),
        "optimizer": state.optimizer.state_dict(),
        "scaler": state.scaler.state_dict(),
        "epoch": state.epoch,
        "step": state.step,
        "skipped": state.skipped,
        "skipped_in_a_row": state.skipped_in_a_row,
        "history": copy.deepcopy(state.history),
        "random": torch.get_rng_state(),
    }
