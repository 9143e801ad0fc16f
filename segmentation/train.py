"""Trains a segmentation model: `python -m segmentation.train --config FILE.toml --flag value`.

Under `torchrun --nproc-per-node N -m segmentation.train ...` every process computes its share of
each batch. A training that was killed goes on with `--resume`, on a CPU bit for bit the same.
"""

import math
import sys
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from upmap.console import Parser, describe_command, run
from upmap.errors import InputError, InputWarning
from upmap.files import check_folder, make_folder
from upmap.metrics.semantic import SemanticScores, semantic_scores
from upmap.options import add_flags, parse_options
from upmap.progress import track_progress
from upmap.segmentation.batches import load_parts, shuffle_batches
from upmap.segmentation.checkpoint import (
    BEST,
    LAST,
    PROGRAM,
    load_checkpoint,
    load_weights,
    save_checkpoint,
)
from upmap.segmentation.datasets import SegmentationDataset, open_dataset
from upmap.segmentation.device import configure_gpu, limit_threads, select_device
from upmap.segmentation.evaluation import evaluate_model
from upmap.segmentation.fine_tuning import InitialModel, adopt_model, read_initial
from upmap.segmentation.history import (
    COLUMNS,
    Row,
    create_epoch_logger,
    has_stalled,
    is_best_epoch,
    write_history,
)
from upmap.segmentation.losses import compute_value, resolve_class_weights
from upmap.segmentation.models import build_model
from upmap.segmentation.optimization import learning_rate, resolve_precision
from upmap.segmentation.processes import (
    broadcast_buffers,
    broadcast_value,
    join_processes,
    leave_processes,
    rank,
    sum_over_processes,
    wait_for_processes,
    world_size,
)
from upmap.segmentation.resuming import require_same_data, resume_state
from upmap.segmentation.survey import Survey, format_surveys, survey_dataset, validate_surveys
from upmap.segmentation.training_checks import (
    refuse_unused_options,
    validate_class_count,
    validate_training,
)
from upmap.segmentation.training_options import TrainOptions
from upmap.segmentation.training_state import TrainingState, collect_checkpoint, create_state
from upmap.segmentation.training_step import take_step
from upmap.text_tables import align_columns

__all__ = ["Row", "TrainOptions", "TrainingResult", "main", "train_model"]

EXAMPLES = """\
examples:
  drawn shapes, a few minutes
    %(prog)s
  the options of a file, and others
    %(prog)s --config camvid.toml --root CamVid --optimization.precision bf16
    %(prog)s --model.upsampling pixelshuffle --epochs 40 --out runs/shuffle
  on with a training that was stopped
    %(prog)s --config camvid.toml --root CamVid --resume
  fine-tuning: from the model of another training, until it gets no better for 10 epochs
    %(prog)s --dataset folder --root MY_DATA --init runs/camvid/best.pt --patience 10
  several processes
    torchrun --nproc-per-node 2 -m upmap.segmentation.train --batch-size 16

writes to --out: last.pt and best.pt (by mIoU on the validation images), history.csv;
with --tensorboard the same for `tensorboard --logdir OUT`.
exit status: 0 good; 1 the training diverged; 2 misused or unreadable input."""


class Diverged(RuntimeError):
    """Gradients were not finite in too many steps in a row."""


@dataclass(frozen=True, slots=True, eq=False)
class TrainingResult:
    """The result of a training.

    Attributes:
        model: The model of the best epoch, in evaluation mode.
        epoch: The number of the best epoch, from 1.
        dataset: The test images, or the validation images if there are none.
        scores: The scores of the model on `dataset`.
        history: A row for every epoch.
    """

    model: nn.Module
    epoch: int
    dataset: SegmentationDataset
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
    refuse_unused_options(options)
    check_folder(Path(options.out))
    if options.resume and not (last := Path(options.out) / LAST).exists():
        message = f"{last}: no such file: the training starts from its beginning"
        warnings.warn(InputWarning(message, kind="nothing-to-resume"), stacklevel=2)
    join_processes()
    result = train_model(options, after_epoch=create_epoch_logger(options), show_progress=True)
    if rank() == 0:
        if len(result.history) < options.epochs:
            epochs = f"{options.patience} epochs (--patience)"
            print(f"ended: no higher mIoU on {options.val} for {epochs}", file=sys.stderr)
        _print_scores(result, options)
    leave_processes()
    return 0


def train_model(
    options: TrainOptions,
    *,
    after_epoch: Callable[[Row], None] | None = None,
    score: Callable[[nn.Module, SegmentationDataset], SemanticScores] | None = None,
    surveys: Mapping[str, Survey] | None = None,
    show_progress: bool = False,
) -> TrainingResult:
    """Trains, writes checkpoints and the history, and scores the best epoch.

    Args:
        options: The options.
        after_epoch: Called with each row of the history, after its checkpoint is written.
        score: Scores the best epoch's model on the test images; None counts confusions alone.
        surveys: What the splits contain, by name, where `survey_dataset` has read them already, as
            for several trainings on the same data; None reads them.
        show_progress: Whether to draw progress bars on a terminal.

    Raises:
        InputError: If the options, the data or a checkpoint cannot be used.
        Diverged: If the loss or gradients are not finite in too many steps in a row, or in all.
    """
    device = select_device(options.device)
    configure_gpu(device)
    splits = _open_splits(options)
    dataset, val = splits[options.train], splits[options.val]
    initial = None if options.init is None else read_initial(Path(options.init))
    options = _complete_options(options, dataset, device, initial)
    state = resume_state(options, device, dataset) if options.resume else None
    if state is None:
        _validate_new(options)
        state = create_state(options, device, initial=initial, classes=dataset.classes)
    if surveys is None:
        surveys = _survey_splits(splits, options, show_progress=show_progress)
    if state.epoch:
        require_same_data(state.surveys, surveys, Path(options.out) / LAST)
    state.surveys = dict(surveys)
    # Checkpoints have the options as they were set, steps the numbers of automatic weights.
    stepping = _resolve_weights(options, dataset, surveys, show_progress=show_progress)
    forward = _wrap_model(state.model, options)
    # A resumed training continues after the last finished epoch.
    while state.epoch < options.epochs and not has_stalled(state.history, options.patience):
        began = time.perf_counter()
        loss = _train_epoch(state, forward, dataset, stepping, show_progress=show_progress)
        # Each process has running statistics of its own: all must score the same model.
        broadcast_buffers(filter(None, (state.model, state.averaged)))
        scores = _evaluate(state.model_to_evaluate, val, options, show_progress=show_progress)
        state.epoch += 1
        state.history.append(_history_row(state, loss, scores, time.perf_counter() - began))
        if rank() == 0:
            _save_epoch(state, options, dataset)
            if after_epoch is not None:
                after_epoch(state.history[-1])
    if state.skipped == state.step:
        raise Diverged(
            f"loss or gradient not finite in all {state.step} steps: nothing was learned"
        )
    return _score_best_epoch(options, device, score, show_progress=show_progress)


def _open_splits(options: TrainOptions) -> dict[str, SegmentationDataset]:
    """Opens every split, the test split too: reads lists, but no images."""
    names = dict.fromkeys([options.train, options.val, *filter(None, [options.test])])
    return {
        name: open_dataset(options.dataset, options.root, name, max_pixels=options.max_pixels)
        for name in names
    }


def _complete_options(
    options: TrainOptions,
    dataset: SegmentationDataset,
    device: torch.device,
    initial: InitialModel | None,
) -> TrainOptions:
    """The options with what data, device and --init determine; refuses those that cannot work."""
    validate_class_count(options, dataset)
    precision = resolve_precision(options.optimization.precision, device)
    model = replace(options.model, classes=len(dataset.classes))
    options = replace(
        options,
        model=model if initial is None else adopt_model(model, initial),
        optimization=replace(options.optimization, precision=precision),
    )
    validate_training(options, dataset)
    return options


def _validate_new(options: TrainOptions) -> None:
    """Refuses to overwrite another training."""
    path = Path(options.out) / LAST
    if path.exists():
        raise InputError("exists already: --resume, or name a new --out", path)


def _survey_splits(
    splits: Mapping[str, SegmentationDataset],
    options: TrainOptions,
    *,
    show_progress: bool,
) -> dict[str, Survey]:
    """Reads every image and label; warns of classes that cannot be learned."""
    surveys: dict[str, Survey] = {}
    if rank() == 0:
        # By process 0 alone: all processes read the same files.
        for name, dataset in splits.items():
            surveys[name] = survey_dataset(dataset, show_progress=show_progress)
        classes, weights = splits[options.train].classes, options.loss.class_weights
        if show_progress:
            print(format_surveys(surveys, classes), file=sys.stderr)
        validate_surveys(
            surveys,
            classes,
            train=options.train,
            val=options.val,
            class_weights=() if weights == "auto" else weights,
        )
    return broadcast_value(surveys)


def _resolve_weights(
    options: TrainOptions,
    dataset: SegmentationDataset,
    surveys: Mapping[str, Survey],
    *,
    show_progress: bool,
) -> TrainOptions:
    """The options that steps are taken with: with numbers for automatic class weights."""
    loss = resolve_class_weights(options.loss, surveys[options.train].pixels)
    if loss is not options.loss and show_progress and rank() == 0:
        pairs = zip(dataset.classes, map(float, loss.class_weights), strict=True)
        weights = ", ".join(f"{name} {weight:.2f}" for name, weight in pairs)
        print(f"class weights: {weights}", file=sys.stderr)
    return replace(options, loss=loss)


def _wrap_model(model: nn.Module, options: TrainOptions) -> nn.Module:
    """The module that is called in training: compiled if asked for, distributed if needed."""
    if options.compile:
        model = torch.compile(model)  # type: ignore[assignment]
    return DistributedDataParallel(model) if world_size() > 1 else model


def _train_epoch(
    state: TrainingState,
    forward: nn.Module,
    dataset: SegmentationDataset,
    options: TrainOptions,
    *,
    show_progress: bool,
) -> float:
    """Takes every step of an epoch; returns the loss over the pixels of all that it trained on."""
    forward.train()
    batches = shuffle_batches(len(dataset), options, state.epoch)
    steps = len(batches) * options.epochs
    parts = load_parts(dataset, batches, options, state.epoch)
    state.epoch_sums.clear()
    show = show_progress and rank() == 0
    for batch in track_progress(batches, f"epoch {state.epoch + 1}", total=len(batches), show=show):
        # The rate depends on the number of the step alone, so that resuming does not change it.
        rate = learning_rate(state.step, steps, options.optimization)
        for group in state.optimizer.param_groups:
            group["lr"] = rate
        take_step(state, forward, parts, options)
        state.step += 1
        if state.skipped_in_a_row > options.max_skipped:
            raise Diverged(_describe_divergence(state, [dataset.names[i] for i in batch]))
    if not state.epoch_sums:
        return math.nan
    # In float64: an epoch may have more pixels than float32 can count.
    sums = torch.stack(state.epoch_sums).cpu().double()
    return float(compute_value(sums.sum(0), options.loss))


def _describe_divergence(state: TrainingState, names: Sequence[str]) -> str:
    return (
        f"loss or gradient not finite in {state.skipped_in_a_row} steps in a row, up to step "
        f"{state.step}, scale {state.scaler.get_scale():g}; last batch: {', '.join(names)}; "
        "try a lower --optimization.learning-rate"
    )


def _evaluate(
    model: nn.Module, dataset: SegmentationDataset, options: TrainOptions, *, show_progress: bool
) -> SemanticScores:
    """Scores over all processes, each of which evaluates its share of the images."""
    device = next(model.parameters()).device
    items = range(rank(), len(dataset), world_size())
    show = show_progress and rank() == 0
    counts = evaluate_model(
        model,
        (dataset[i] for i in track_progress(items, "evaluation", total=len(items), show=show)),
        len(dataset.classes),
        device=device,
        batch_size=options.batch_size,
        factor=options.factor,
        precision=options.optimization.precision,
        show_progress=show,
    )
    # Counts add up over processes, scores do not.
    total = sum_over_processes(torch.from_numpy(counts).to(device))
    return semantic_scores(total.cpu().numpy())


def _history_row(state: TrainingState, loss: float, scores: SemanticScores, seconds: float) -> Row:
    rate = state.optimizer.param_groups[0]["lr"]
    values = (
        *(state.epoch, state.step, rate, loss),
        *(scores.mIoU, scores.pixel_accuracy, state.skipped, seconds),
    )
    return dict(zip(COLUMNS, values, strict=True))


def _save_epoch(state: TrainingState, options: TrainOptions, dataset: SegmentationDataset) -> None:
    """Writes last.pt, best.pt if this is the best epoch, and history.csv."""
    folder = Path(options.out)
    make_folder(folder)
    checkpoint = collect_checkpoint(state, options, dataset)
    if is_best_epoch(state.history):
        save_checkpoint(folder / BEST, checkpoint)
    write_history(folder / "history.csv", state.history)
    # Written last, so that what it refers to exists.
    save_checkpoint(folder / LAST, checkpoint)


def _score_best_epoch(
    options: TrainOptions,
    device: torch.device,
    score: Callable[[nn.Module, SegmentationDataset], SemanticScores] | None,
    *,
    show_progress: bool,
) -> TrainingResult:
    """Scores the best epoch on the test split, or on the validation split if there is none."""
    wait_for_processes()  # until process 0 has written the files
    folder = Path(options.out)
    # Read from the file, so that the scores are those of the model that others will load.
    checkpoint = load_checkpoint(folder / BEST)
    model = build_model(options.model)
    load_weights(model, checkpoint["model"], folder / BEST, "model")
    model = model.to(device)
    split = options.test or options.val
    dataset = open_dataset(options.dataset, options.root, split, max_pixels=options.max_pixels)
    if score is None:
        scores = _evaluate(model, dataset, options, show_progress=show_progress)
    else:
        scores = score(model.eval(), dataset)
    history = load_checkpoint(folder / LAST)["history"]
    return TrainingResult(model, checkpoint["epoch"], dataset, scores, history)


def _print_scores(result: TrainingResult, options: TrainOptions) -> None:
    """Prints the IoU of each class, mIoU and pixel accuracy; n/a where undefined."""
    dataset, scores = result.dataset, result.scores
    count = len(result.history)
    title = f"best epoch {result.epoch} of {count}, chosen on {options.val}"
    print(f"{title}; {dataset.split}: {len(dataset)} images\n")
    values = [*zip(dataset.classes, scores.iou.tolist(), strict=True), ("mIoU", scores.mIoU)]
    values.append(("pixel accuracy", scores.pixel_accuracy))
    rows = [(name, "n/a" if math.isnan(value) else f"{value:.4f}") for name, value in values]
    print(align_columns(rows, has_header=False), end="")


if __name__ == "__main__":
    sys.exit(main())
