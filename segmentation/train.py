"""Trains a segmentation model: `python -m segmentation.train --config FILE.toml --flag value`.

Under `torchrun --nproc-per-node N -m segmentation.train ...` every process takes its share of each
batch. A training that was killed goes on with `--resume`, bit for bit the same on a CPU.
"""

import copy
import csv
import math
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import torch
from torch import Tensor, nn
from torch import distributed as processes
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader

from upmap.console import Parser, describe_command, run
from upmap.errors import InputError, printable
from upmap.files import (
    check_folder,
    create_file,
)
from upmap.metrics.semantic import SemanticScores, semantic_scores
from upmap.options import add_flags, describe_value, parse_options
from upmap.progress import track_progress
from upmap.segmentation.augmentation import Views
from upmap.segmentation.checkpoint import (
    PROGRAM,
    SCHEMA,
    as_kind,
    load_checkpoint,
    load_weights,
    save_checkpoint,
)
from upmap.segmentation.datasets import Segmentation, open_dataset, validate_dataset
from upmap.segmentation.device import limit_threads, select_device
from upmap.segmentation.evaluation import as_input, confusion, resize
from upmap.segmentation.losses import compute_loss
from upmap.segmentation.models import build_model
from upmap.segmentation.optimization import (
    autocast,
    build_optimizer,
    grad_scaler,
    learning_rate,
)
from upmap.segmentation.training_options import TrainOptions
from upmap.segmentation.training_state import COLUMNS, Row, State, restore

__all__ = ["Row", "TrainOptions", "TrainingResult", "main", "train"]

EPOCH_SEEDS = 1_000_003  # keeps the epochs of one seed apart from those of another
FREE_TO_CHANGE = (
    "out",
    "root",
    "resume",
    "workers",
    "device",
    "tensorboard",
    "threads",
    "max_pixels",
)  # between a kill and --resume
EXAMPLES = """\
examples:
  drawn shapes, a few minutes
    %(prog)s
  the options of a file, and others
    %(prog)s --config camvid.toml --root CamVid --optimization.precision bf16
    %(prog)s --model.upsampling pixelshuffle --epochs 40 --out runs/shuffle
  on with a training that was stopped
    %(prog)s --config camvid.toml --root CamVid --resume
  several processes
    torchrun --nproc-per-node 2 -m upmap.segmentation.train --batch-size 16

writes to --out: last.pt and best.pt (by mIoU on the validation images), history.csv;
with --tensorboard the same for `tensorboard --logdir OUT`.
exit status: 0 good; 1 the training diverged; 2 misused or unreadable input."""


class Diverged(RuntimeError):
    """Gradients were not finite too often in a row."""


@dataclass(frozen=True, slots=True, eq=False)
class TrainingResult:
    """What came of a training.

    Attributes:
        model: The model of the best epoch, in evaluation mode.
        epoch: Which that was, from 1.
        data: The test images, or the validation images where there are none.
        scores: Those of the model on `data`.
        history: A row for every epoch.
    """

    model: nn.Module
    epoch: int
    data: Segmentation
    scores: SemanticScores
    history: list[Row]


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the program; returns its exit status."""
    parser = Parser(
        prog=describe_command(f"upmap.{PROGRAM}"),
        description="Trains an FCN or U-Net with the upsampling operator of your choice.",
        epilog=EXAMPLES,
    )
    add_flags(parser, TrainOptions)
    return run(lambda: _program(parse_options(TrainOptions, parser, arguments)), Diverged)


def _program(options: TrainOptions) -> int:
    """Trains, and prints the scores of the best epoch; returns 0."""
    limit_threads(options.threads)
    check_folder(Path(options.out))
    _join_processes()
    found = train(options, after_epoch=_epoch_logger(options), show_progress=True)
    if _rank() == 0:
        _print_scores(found, options)
    if _world() > 1:
        processes.destroy_process_group()
    return 0


def train(
    options: TrainOptions,
    *,
    after_epoch: Callable[[Row], None] | None = None,
    show_progress: bool = False,
) -> TrainingResult:
    """Trains, writes checkpoints and the history, and scores the best epoch.

    Args:
        options: The options.
        after_epoch: Called with each row of the history once its checkpoint is written.
        show_progress: Whether to draw progress bars on a terminal.

    Raises:
        InputError: If the options, the data or a checkpoint cannot be used.
        Diverged: If gradients are not finite too often in a row.
    """
    device = select_device(options.device)
    data, val = _datasets(options, show_progress)
    options = replace(options, model=replace(options.model, classes=len(data.classes)))
    if (weights := options.loss.class_weights) and len(weights) != len(data.classes):
        raise InputError(f"--loss.class-weights: {len(weights)} for {len(data.classes)} classes")
    _validate_batches(options, len(data))
    state = _resume(options, device, data) if options.resume else None
    if state is None:
        _refuse_overwriting(options)
        state = _fresh(options, device)
    forward = _forward(state.model, options)
    for _ in range(state.epoch, options.epochs):
        began = time.perf_counter()
        mean_loss = _one_epoch(state, forward, data, options, show_progress=show_progress)
        _share_buffers(state)
        scores = _scores(_model_to_evaluate(state), val, options, show_progress=show_progress)
        state.epoch += 1
        state.history.append(_row(state, mean_loss, scores, time.perf_counter() - began))
        if _rank() == 0:
            _write(state, options, data)
            if after_epoch is not None:
                after_epoch(state.history[-1])
    return _score_best_epoch(options, device, show_progress)


def _row(state: State, mean_loss: float, scores: SemanticScores, seconds: float) -> Row:
    rate = state.optimizer.param_groups[0]["lr"]
    values = (
        *(state.epoch, state.step, rate, mean_loss),
        *(scores.mIoU, scores.pixel_accuracy, state.skipped, seconds),
    )
    return dict(zip(COLUMNS, values, strict=True))


def _epoch_logger(options: TrainOptions) -> Callable[[Row], None]:
    """What tells of an epoch: a line on stderr and, if asked for, TensorBoard."""
    writer = _tensorboard(Path(options.out)) if options.tensorboard and _rank() == 0 else None

    def tell(row: Row) -> None:
        print(_line(row, options.epochs), file=sys.stderr)
        if writer is not None:
            for name, value in row.items():
                writer.add_scalar(name, value, int(row["epoch"]))
            writer.flush()

    return tell


def _tensorboard(folder: Path) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        message = '--tensorboard: not installed; `pip install "upmap[segmentation]"` brings it'
        raise InputError(message) from None
    return SummaryWriter(folder)


def _join_processes() -> None:
    """Joins the other processes, if torchrun started this one among several."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        processes.init_process_group("nccl" if torch.cuda.is_available() else "gloo")


def _rank() -> int:
    return processes.get_rank() if processes.is_initialized() else 0


def _world() -> int:
    return processes.get_world_size() if processes.is_initialized() else 1


def _datasets(options: TrainOptions, show_progress: bool) -> tuple[Segmentation, Segmentation]:
    """What is learned from and chosen on, looked through; what is reported on is, too."""
    splits = dict.fromkeys([options.train, options.val, *filter(None, [options.test])])
    found = {
        split: open_dataset(options.dataset, options.root, split, max_pixels=options.max_pixels)
        for split in splits
    }
    if _rank() == 0:
        for one in found.values():
            validate_dataset(one, show_progress=show_progress)
    return found[options.train], found[options.val]


def _validate_batches(options: TrainOptions, count: int) -> None:
    """Refuses batches that `count` images, the processes or the parts cannot make."""
    if count < options.batch_size:
        raise InputError(f"--batch-size {options.batch_size}: there are only {count} images")
    if options.batch_size % (_world() * options.accumulate):
        raise InputError(
            f"--batch-size {options.batch_size} is no multiple of {_world()} processes x "
            f"{options.accumulate} parts"
        )


def _fresh(options: TrainOptions, device: torch.device) -> State:
    torch.manual_seed(options.seed)
    try:
        made: nn.Module = build_model(options.model).to(device)
    except InputError:
        raise
    except ValueError as error:
        raise InputError(f"model: {error}") from None
    if options.channels_last:
        made = made.to(memory_format=torch.channels_last)
    averaged = None
    if options.ema:
        averaged = AveragedModel(
            made,
            multi_avg_fn=get_ema_multi_avg_fn(options.ema),  # type: ignore[no-untyped-call]
            use_buffers=True,
        )
    scaler = grad_scaler(device, options.optimization.precision)
    return State(made, averaged, build_optimizer(made, options.optimization), scaler)


def _refuse_overwriting(options: TrainOptions) -> None:
    last = Path(options.out) / "last.pt"
    if last.exists():
        raise InputError("exists already: --resume, or name a new --out", last)


def _resume(options: TrainOptions, device: torch.device, data: Segmentation) -> State | None:
    """The state in last.pt; None if the training was killed before there was one."""
    path = Path(options.out) / "last.pt"
    if not path.exists():
        return None
    checkpoint = load_checkpoint(path)
    _refuse_another_training(checkpoint, options, data, path)
    state = _fresh(options, device)
    restore(
        state,
        checkpoint,
        path,
        name=options.optimization.optimizer,
        steps=len(data) // options.batch_size,
        epochs=options.epochs,
    )
    return state


def _refuse_another_training(
    checkpoint: dict[str, Any], options: TrainOptions, data: Segmentation, path: Path
) -> None:
    """Refuses a checkpoint of other options or other classes."""
    if checkpoint["program"] != PROGRAM:
        raise InputError(f"not of {PROGRAM}", path, "program")
    before = as_kind(checkpoint["options"], dict[str, Any], path, "options")
    now = msgspec.to_builtins(options)
    for key in now:
        if key not in FREE_TO_CHANGE and before.get(key) != now[key]:
            name, have, want = _difference(key, before.get(key), now[key])
            message = (
                f"was trained with {name} = {describe_value(have)}, not {describe_value(want)}"
            )
            raise InputError(message, path)
    classes = as_kind(checkpoint["classes"], list[str], path, "classes")
    palette = as_kind(checkpoint["palette"], list[list[int]], path, "palette")
    for key, have, want in (
        ("classes", classes, list(data.classes)),
        ("palette", palette, data.palette.tolist()),
    ):
        if have != want:
            raise InputError("not those of the data set", path, key)


def _difference(key: str, before: Any, now: Any) -> tuple[str, Any, Any]:
    """The name of the first option that differs, and its two values."""
    if isinstance(before, dict) and isinstance(now, dict):
        for name in now | before:
            if name not in now:
                return f"{key}.{name}", before[name], None
            if before.get(name) != now[name]:
                return _difference(f"{key}.{name}", before.get(name), now[name])
    return key, before, now


def _forward(made: nn.Module, options: TrainOptions) -> nn.Module:
    """What is called in training: the model itself, compiled, or over all processes."""
    if options.compile:
        made = torch.compile(made)  # type: ignore[assignment]
    return DistributedDataParallel(made) if _world() > 1 else made


def _one_epoch(
    state: State,
    forward: nn.Module,
    data: Segmentation,
    options: TrainOptions,
    *,
    show_progress: bool,
) -> float:
    """Takes every step of an epoch; returns the mean loss of those that were not skipped."""
    forward.train()
    batches = _batches(len(data), options, state.epoch)
    steps = len(batches) * options.epochs
    parts = _load_parts(data, batches, options, state.epoch)
    losses: list[float] = []
    in_a_row = 0
    shown = show_progress and _rank() == 0
    for batch in track_progress(
        batches, f"epoch {state.epoch + 1}", total=len(batches), show=shown
    ):
        rate = learning_rate(state.step, steps, options.optimization)
        for group in state.optimizer.param_groups:
            group["lr"] = rate
        value = _one_step(state, forward, parts, options)
        state.step += 1
        in_a_row = 0 if math.isfinite(value) else in_a_row + 1
        if math.isfinite(value):
            losses.append(value)
        if in_a_row > options.patience:
            names = ", ".join(data.names[i] for i in batch)
            raise Diverged(
                f"loss or gradient not finite in {in_a_row} steps in a row, up to step "
                f"{state.step}, scale {state.scaler.get_scale():g}; last batch: {names}"
            )
    return sum(losses) / len(losses) if losses else math.nan


def _share_buffers(state: State) -> None:
    """Gives all processes the first one's running statistics, so that they score alike."""
    if _world() > 1:
        for one in filter(None, (state.model, state.averaged)):
            for buffer in one.buffers():
                processes.broadcast(buffer, 0)


def _one_step(
    state: State,
    forward: nn.Module,
    parts: Iterator[tuple[Tensor, Tensor]],
    options: TrainOptions,
) -> float:
    """One step over all parts of a batch; its loss, or NaN if it had to be skipped."""
    device = next(state.model.parameters()).device
    state.optimizer.zero_grad(set_to_none=True)
    total = torch.zeros((), device=device)
    for _ in range(options.accumulate):
        images, labels = next(parts)
        images, labels = _at_factor(images.to(device), labels.to(device), options)
        with autocast(device, options.optimization.precision):
            logits = forward(images, full_size=_is_full_size(images, labels))
            part = compute_loss(logits, labels, options.loss) / options.accumulate
        state.scaler.scale(part).backward()  # type: ignore[no-untyped-call]
        total += part.detach()
    state.scaler.unscale_(state.optimizer)
    limit = options.optimization.clip or math.inf
    norm = nn.utils.clip_grad_norm_(state.model.parameters(), limit)
    is_finite = bool(torch.isfinite(norm)) and bool(torch.isfinite(_mean(total)))
    if is_finite or state.scaler.is_enabled():
        state.scaler.step(state.optimizer)  # under fp16 it looks for itself, and is told to
    state.scaler.update()
    if not is_finite:
        state.skipped += 1
        return math.nan
    if state.averaged is not None:
        state.averaged.update_parameters(state.model)
    return float(_mean(total))


def _is_full_size(images: Tensor, labels: Tensor) -> bool:
    """Whether the loss wants logits at the images' size: it interpolates only once."""
    return images.shape[2:] != labels.shape[1:]


def _at_factor(images: Tensor, labels: Tensor, options: TrainOptions) -> tuple[Tensor, Tensor]:
    """What the model takes, and labels at its size, or their own."""
    inputs = resize(as_input(images), options.factor)
    if options.channels_last:
        inputs = inputs.contiguous(memory_format=torch.channels_last)
    if options.full_labels or inputs.shape[2:] == labels.shape[1:]:
        return inputs, labels
    size = [inputs.shape[2], inputs.shape[3]]
    return inputs, functional.interpolate(labels[:, None], size=size, mode="nearest-exact")[:, 0]


def _batches(count: int, options: TrainOptions, epoch: int) -> list[list[int]]:
    """The items of each step of an epoch; those that make no whole batch wait for another."""
    generator = torch.Generator().manual_seed(options.seed * EPOCH_SEEDS + epoch)
    order = torch.randperm(count, generator=generator).tolist()
    size = options.batch_size
    return [order[begin : begin + size] for begin in range(0, count - size + 1, size)]


def _load_parts(
    data: Segmentation, batches: list[list[int]], options: TrainOptions, epoch: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """This process's share of every batch, in `accumulate` parts each."""
    shares = _world() * options.accumulate
    mine = [batch[part::shares] for batch in batches for part in range(_rank(), shares, _world())]
    views = Views(data, options.augmentation, seed=options.seed, epoch=epoch)
    return iter(DataLoader(views, batch_sampler=mine, num_workers=options.workers))


def _mean(value: Tensor) -> Tensor:
    """The mean over all processes."""
    return _sum(value) / _world()


def _sum(value: Tensor) -> Tensor:
    """The sum over all processes."""
    if _world() > 1:
        value = value.clone()
        processes.all_reduce(value)
    return value


def _model_to_evaluate(state: State) -> nn.Module:
    return state.model if state.averaged is None else state.averaged.module


def _scores(
    made: nn.Module, data: Segmentation, options: TrainOptions, *, show_progress: bool
) -> SemanticScores:
    """Scores over all processes, each of which takes its share of the images."""
    device = next(made.parameters()).device
    mine = range(_rank(), len(data), _world())
    shown = show_progress and _rank() == 0
    found = confusion(
        made,
        (data[i] for i in track_progress(mine, "evaluation", total=len(mine), show=shown)),
        len(data.classes),
        device=device,
        batch_size=options.batch_size,
        factor=options.factor,
        precision=options.optimization.precision,
    )
    return semantic_scores(_sum(torch.from_numpy(found).to(device)).cpu().numpy())


def _write(state: State, options: TrainOptions, data: Segmentation) -> None:
    """Writes last.pt, best.pt if this is the best epoch, and history.csv."""
    folder = Path(options.out)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot be made: {error.strerror}", folder) from None
    checkpoint = _checkpoint(state, options, data)
    best = max(row["val_mIoU"] for row in state.history)
    if state.history[-1]["val_mIoU"] >= best or len(state.history) == 1:
        save_checkpoint(folder / "best.pt", checkpoint)
    with create_file(folder / "history.csv") as beside, beside.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(state.history[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(state.history)
    save_checkpoint(folder / "last.pt", checkpoint)  # last: what it says is there is there


def _checkpoint(state: State, options: TrainOptions, data: Segmentation) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "program": PROGRAM,
        "options": msgspec.to_builtins(options),
        "classes": list(data.classes),
        "palette": data.palette.tolist(),
        "model": _model_to_evaluate(state).state_dict(),
        "weights": state.model.state_dict(),
        "averaged": None if state.averaged is None else state.averaged.state_dict(),
        "optimizer": state.optimizer.state_dict(),
        "scaler": state.scaler.state_dict(),
        "epoch": state.epoch,
        "step": state.step,
        "skipped": state.skipped,
        "history": copy.deepcopy(state.history),
        "random": torch.get_rng_state(),
    }


def _line(row: Row, epochs: int) -> str:
    return (
        f"epoch {row['epoch']:.0f}/{epochs}  loss {row['loss']:.4f}  mIoU {row['val_mIoU']:.4f}  "
        f"accuracy {row['val_pixel_accuracy']:.4f}  {row['seconds']:.1f} s"
    )


def _score_best_epoch(
    options: TrainOptions, device: torch.device, show_progress: bool
) -> TrainingResult:
    """The best epoch, scored on the test images if there are any."""
    if _world() > 1:
        processes.barrier()  # until the file is there
    folder = Path(options.out)
    found = load_checkpoint(folder / "best.pt")
    best = build_model(options.model)
    load_weights(best, found["model"], folder / "best.pt", "model")
    best = best.to(device)
    split = options.test or options.val
    data = open_dataset(options.dataset, options.root, split, max_pixels=options.max_pixels)
    scores = _scores(best, data, options, show_progress=show_progress)
    return TrainingResult(
        best, found["epoch"], data, scores, load_checkpoint(folder / "last.pt")["history"]
    )


def _print_scores(found: TrainingResult, options: TrainOptions) -> None:
    data, scores = found.data, found.scores
    print(f"best epoch {found.epoch}, chosen on {options.val}; {data.split}: {len(data)} images\n")
    width = max(len(printable(name)) for name in [*data.classes, "pixel accuracy"])
    rows = [*zip(data.classes, scores.iou.tolist(), strict=True), ("mIoU", scores.mIoU)]
    for name, value in [*rows, ("pixel accuracy", scores.pixel_accuracy)]:
        print(f"{printable(name):<{width}}  {'n/a' if math.isnan(value) else f'{value:.4f}'}")


if __name__ == "__main__":
    sys.exit(main())
