"""The history of a training: a row of numbers for each epoch, as CSV, text and TensorBoard."""

import csv
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from upmap.errors import InputError
from upmap.files import create_file
from upmap.segmentation.processes import rank
from upmap.segmentation.training_options import TrainOptions

__all__ = [
    "COLUMNS",
    "Row",
    "create_epoch_logger",
    "format_row",
    "has_stalled",
    "is_best_epoch",
    "write_history",
]

COLUMNS = (
    *("epoch", "step", "learning_rate", "loss"),
    *("val_mIoU", "val_pixel_accuracy", "skipped", "seconds"),
)

Row = dict[str, float]  # COLUMNS to numbers


def is_best_epoch(history: Sequence[Row]) -> bool:
    """Whether no epoch before the last one had a higher mIoU; NaN only counts as the first."""
    best = max(row["val_mIoU"] for row in history)
    return history[-1]["val_mIoU"] >= best or len(history) == 1


def has_stalled(history: Sequence[Row], patience: int) -> bool:
    """Whether the last `patience` epochs had no higher mIoU than those before; 0 is never.

    >>> rows = [{"val_mIoU": score} for score in (0.1, 0.3, 0.3, 0.2)]
    >>> has_stalled(rows, 2), has_stalled(rows, 3), has_stalled(rows, 0)
    (True, False, False)
    """
    if not 0 < patience < len(history):
        return False
    # NaN is no score: an epoch that has one is higher.
    scores = [-1.0 if math.isnan(row["val_mIoU"]) else row["val_mIoU"] for row in history]
    return max(scores[-patience:]) <= max(scores[:-patience])


def write_history(path: Path, history: Sequence[Row]) -> None:
    """Writes the history as CSV with a header.

    Raises:
        InputError: If the file cannot be written.
    """
    with create_file(path) as beside, beside.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(history)


def create_epoch_logger(options: TrainOptions) -> Callable[[Row], None]:
    """A callback that logs each epoch: a line on stderr and, if asked for, TensorBoard.

    Raises:
        InputError: If TensorBoard is asked for and not installed.
    """
    writer = _summary_writer(Path(options.out)) if options.tensorboard and rank() == 0 else None

    def log_epoch(row: Row) -> None:
        print(format_row(row, options.epochs), file=sys.stderr)
        if writer is not None:
            for name, value in row.items():
                writer.add_scalar(name, value, int(row["epoch"]))
            # Flushed, so that TensorBoard can show the training while it runs.
            writer.flush()

    return log_epoch


def format_row(row: Row, epochs: int) -> str:
    """The line that is logged for an epoch.

    Args:
        row: The row of the epoch.
        epochs: The number of epochs of the training.
    """
    return (
        f"epoch {row['epoch']:.0f}/{epochs}  loss {row['loss']:.4f}  mIoU {row['val_mIoU']:.4f}  "
        f"accuracy {row['val_pixel_accuracy']:.4f}  {row['seconds']:.1f} s"
    )


def _summary_writer(folder: Path) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        message = '--tensorboard: not installed; `pip install "upmap[segmentation]"` brings it'
        raise InputError(message) from None
    return SummaryWriter(folder)
