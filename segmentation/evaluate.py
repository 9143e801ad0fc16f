"""Scores segmentation: `python -m segmentation.evaluate MODEL|LABELS [TRUTH]`.

Labels are those that a model predicts, or those in a folder, such as of `segmentation.predict`. The
truth is a split of a data set, or another folder of labels.
"""

import json
import math
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

import upmap
from upmap.console import Parser, describe_command, run
from upmap.errors import InputError, InputWarning, abbreviate_list
from upmap.files import check_outputs, is_stdout, list_folder, require_path, write_bytes
from upmap.metrics.semantic import (
    IGNORED,
    SemanticScores,
    boundary_counts,
    boundary_iou,
    confusion_matrix,
    semantic_scores,
)
from upmap.options import Choices, Flag, Positional, add_flags, parse_options
from upmap.progress import open_bar, track_progress
from upmap.segmentation.datasets import DATASETS, open_dataset, read_label_ids
from upmap.segmentation.device import limit_threads
from upmap.segmentation.predictor import Predictor, PredictorOptions, load_predictor
from upmap.text_tables import align_columns

__all__ = ["EvaluateOptions", "SegmentationResult", "main", "score_labels"]

PROGRAM = "segmentation.evaluate"
SCHEMA = 1
HEADINGS = ("class", "IoU", "boundary IoU", "Dice", "recall", "pixels")
BY_CLASS = ("iou", "boundary_iou", "dice", "accuracy", "pixels")
EXAMPLES = """\
examples:
  a model on a split of a data set
    %(prog)s runs/train/best.pt --dataset shapes --split test
    %(prog)s best.pt --dataset camvid --root CamVid --split test --flip
  a folder of labels on a split, and on a folder of labels
    %(prog)s runs/predict --dataset folder --root MY_DATA --split val
    %(prog)s runs/predict MY_DATA/labels --classes sky,road,car --json scores.json

labels are PNG files of class ids, 255 for void in TRUTH; files of both folders have the same paths.
prints the scores of each class and their means; undefined ones are n/a, and in no mean.
exit status: 0 good; 2 misused or unreadable input."""

Pixels = NDArray[np.uint8]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluateOptions(PredictorOptions):
    """What is scored, and against what.

    Attributes:
        predicted: A checkpoint of segmentation.train, an ONNX file, or a folder of labels.
        truth: A folder of labels; without it, the truth is a split of a data set.
        dataset: The data set.
        root: The folder of the data set; shapes needs none.
        split: The split.
        classes: The names of the classes of two folders, from id 0 on; default: their numbers.
        json: Write the scores as JSON; - is stdout, in place of the table.
    """

    predicted: Annotated[Path, Positional("MODEL|LABELS")]
    truth: Annotated[Path | None, Positional("TRUTH")] = None
    dataset: Annotated[str, Choices(DATASETS)] = "folder"
    root: Annotated[str | None, Flag(metavar="DIR")] = None
    split: str = "test"
    classes: Annotated[tuple[str, ...], Flag(metavar="A,B")] = ()
    json: Annotated[Path | None, Flag(metavar="FILE")] = None

    def __post_init__(self) -> None:
        PredictorOptions.__post_init__(self)
        if self.classes and self.truth is None:
            raise ValueError("classes: a data set has its own; only for two folders of labels")
        if len({*self.classes}) < len(self.classes):
            raise ValueError("classes must be different")


class Item(NamedTuple):
    """An image of the truth.

    Attributes:
        name: Its path in a folder of labels, without .png.
        label: Reads its label, uint8 [H, W], 0 .. K - 1 or IGNORED.
        image: Reads it, uint8 [H, W, 3], RGB; None where there are labels only.
    """

    name: str
    label: Callable[[], Pixels]
    image: Callable[[], Pixels] | None = None


class _Truth(NamedTuple):
    """What is scored against.

    Attributes:
        title: What it is, for people.
        classes: The names of the K classes.
        items: The images.
    """

    title: str
    classes: tuple[str, ...]
    items: list[Item]


@dataclass(frozen=True, slots=True, eq=False)
class SegmentationResult:
    """The scores of labels.

    Attributes:
        scores: The scores of the confusion matrix.
        boundary_iou: float64 [K].
        confusion: int64 [K, K], truth by prediction.
    """

    scores: SemanticScores
    boundary_iou: Floats
    confusion: NDArray[np.int64]


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the program; returns its exit status."""
    parser = Parser(
        prog=describe_command(f"upmap.{PROGRAM}", subcommand="evaluate-segmentation"),
        description="Scores a segmentation model, or label maps: IoU, boundary IoU, Dice.",
        epilog=EXAMPLES,
    )
    add_flags(parser, EvaluateOptions)
    return run(lambda: _program(parse_options(EvaluateOptions, parser, arguments)))


def _program(options: EvaluateOptions) -> int:
    """Scores, and prints or writes the scores; returns 0."""
    limit_threads(options.threads)
    predicted, truth_folder = require_path(options.predicted), options.truth
    if options.json is not None:
        inputs = [predicted, *filter(None, [truth_folder])]
        check_outputs({"--json": options.json}, inputs)
    truth = _open_dataset(options) if truth_folder is None else _open_folder(truth_folder, options)
    read = _open_predictions(predicted, truth, options)
    result = score_labels(truth.items, read, len(truth.classes), show_progress=True)
    if options.json is None or not is_stdout(options.json):
        _print_scores(result, truth)
    if options.json is not None:
        report = _describe_result(result, truth, options)
        write_bytes(options.json, json.dumps(report, indent=1, allow_nan=False).encode() + b"\n")
    return 0


def score_labels(
    items: Sequence[Item],
    read: Callable[[Item], Pixels],
    classes: int,
    *,
    show_progress: bool = False,
) -> SegmentationResult:
    """Scores labels, image by image.

    Args:
        items: The images of the truth.
        read: The predicted labels of an item, uint8 [H, W].
        classes: K.
        show_progress: Whether to draw a progress bar on a terminal.

    Raises:
        InputError: If a file cannot be used, or labels differ in size from the truth's, or are no
            class where it is not void.
    """
    confusion = np.zeros((classes, classes), np.int64)
    boundaries = np.zeros((classes, 2), np.int64)
    for item in track_progress(items, "scoring", total=len(items), show=show_progress):
        label, prediction = item.label(), read(item)
        try:
            confusion += confusion_matrix(label, prediction, classes)
            boundaries += boundary_counts(label, prediction, classes)
        except ValueError as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"target is the truth: {error}", item.name) from None
    if not confusion.any():
        raise InputError("no pixel of the truth has a class: all labels are void")
    return SegmentationResult(semantic_scores(confusion), boundary_iou(boundaries), confusion)


def _open_dataset(options: EvaluateOptions) -> _Truth:
    dataset = open_dataset(
        options.dataset, options.root, options.split, max_pixels=options.max_pixels
    )

    def item(place: int) -> Item:
        return Item(
            dataset.names[place],
            lambda: dataset[place][1].numpy(),
            lambda: dataset[place][0].permute(1, 2, 0).numpy(),
        )

    items = [item(place) for place in range(len(dataset))]
    title = f"{len(items)} images of {dataset.split}"
    return _Truth(title, dataset.classes, items)


def _open_folder(folder: Path, options: EvaluateOptions) -> _Truth:
    """The labels in a folder; without names of classes, as many as the largest id says."""
    if options.root is not None:
        raise InputError("--root: the truth is a folder of labels, not a data set", folder)
    names = _list_labels(folder)
    read = partial(read_label_ids, max_pixels=options.max_pixels)
    items = [Item(name, partial(read, folder / f"{name}.png")) for name in names]
    classes = options.classes
    if not classes:
        ids: set[int] = set()
        for item in track_progress(items, "reading", total=len(items), show=True):
            ids |= {*np.unique(item.label()).tolist()} - {IGNORED}
        classes = tuple(map(str, range(max(ids, default=0) + 1)))
    return _Truth(f"{len(items)} label maps in {folder}", classes, items)


def _list_labels(folder: Path) -> list[str]:
    """The paths of PNG files in a folder and those in it, without their ending."""
    if not folder.is_dir():
        raise InputError("expected a folder of labels", folder)
    names: list[str] = []
    pending = [folder]
    while pending:
        for path in list_folder(pending.pop()):
            if path.name.startswith("."):
                continue
            if path.is_dir() and not path.is_symlink():
                pending.append(path)
            elif path.suffix == ".png":
                names.append(path.relative_to(folder).with_suffix("").as_posix())
    if not names:
        raise InputError("no labels (.png) in it", folder)
    return sorted(names)


def _open_predictions(
    path: Path, truth: _Truth, options: EvaluateOptions
) -> Callable[[Item], Pixels]:
    """What reads or computes the predicted labels of an item."""
    if not path.is_dir():
        predictor = load_predictor(path, options)
        _validate_classes(predictor, truth, path)
        if truth.items[0].image is None:
            message = "a model needs images: score it on a data set, --dataset and --root"
            raise InputError(message, options.truth)
        return partial(_predict, predictor)
    missing = [item.name for item in truth.items if not (path / f"{item.name}.png").is_file()]
    if missing:
        message = f"no labels {abbreviate_list([f'{name}.png' for name in missing])}"
        raise InputError(f"{message} ({len(missing)} of {len(truth.items)} missing)", path)
    expected = {item.name for item in truth.items}
    # The scores that segmentation.predict writes beside labels are no labels.
    others = [
        name
        for name in _list_labels(path)
        if name not in expected and name.removesuffix("_scores") not in expected
    ]
    if others:
        message = f"{path}: labels of no image of the truth: {abbreviate_list(others)}"
        warnings.warn(InputWarning(message, kind="left-out", count=len(others)), stacklevel=2)
    return lambda item: read_label_ids(path / f"{item.name}.png", options.max_pixels)


def _predict(predictor: Predictor, item: Item) -> Pixels:
    assert item.image is not None
    image = item.image()
    windows = predictor.count_windows(image.shape[:2])
    with open_bar("windows", total=windows, show=windows > 1) as update:
        return predictor.predict(image, after_window=update).labels


def _validate_classes(predictor: Predictor, truth: _Truth, path: Path) -> None:
    """Requires the classes of a model to be those of the truth, in their order."""
    if len(predictor.classes) != len(truth.classes):
        counts = f"{len(predictor.classes)} classes, the truth {len(truth.classes)}"
        raise InputError(f"the model has {counts}", path)
    for label, (name, expected) in enumerate(zip(predictor.classes, truth.classes, strict=True)):
        if name != expected:
            message = f"class {label} is {name!r} for the model, {expected!r} in the truth"
            raise InputError(message, path)


def _print_scores(result: SegmentationResult, truth: _Truth) -> None:
    """Prints the scores of each class, their means, and the pixel accuracy."""
    columns = [_column(result, name) for name in BY_CLASS[:-1]]
    counts = result.scores.pixels.tolist()
    rows = [
        (name, *map(_show, values), f"{count:,}")
        for name, *values, count in zip(truth.classes, *columns, counts, strict=True)
    ]
    means = (_show(_mean(values)) for values in columns)
    rows.append(("mean", *means, f"{sum(counts):,}"))
    print(f"{truth.title}\n")
    print(align_columns([HEADINGS, *rows]), end="")
    print(f"\npixel accuracy  {_show(result.scores.pixel_accuracy)}")


def _describe_result(
    result: SegmentationResult, truth: _Truth, options: EvaluateOptions
) -> dict[str, Any]:
    """The content of the JSON file; undefined scores are null."""
    scores = {name: _column(result, name) for name in BY_CLASS}
    return {
        "schema": SCHEMA,
        "program": PROGRAM,
        "upmap": upmap.__version__,
        "options": msgspec.to_builtins(options, enc_hook=str),  # paths as text
        "split": truth.title,
        "classes": list(truth.classes),
        "miou": _or_null(result.scores.mIoU),
        "mean_boundary_iou": _or_null(_mean(scores["boundary_iou"])),
        "mean_dice": _or_null(result.scores.mean_dice),
        "mean_accuracy": _or_null(result.scores.mean_accuracy),
        "pixel_accuracy": _or_null(result.scores.pixel_accuracy),
        "frequency_weighted_iou": _or_null(result.scores.frequency_weighted_iou),
        **{name: [_or_null(value) for value in values] for name, values in scores.items()},
        "confusion": result.confusion.tolist(),
    }


def _column(result: SegmentationResult, name: str) -> list[float]:
    values: NDArray[Any] = (
        result.boundary_iou if name == "boundary_iou" else getattr(result.scores, name)
    )
    column: list[float] = values.tolist()
    return column


def _mean(values: Sequence[float]) -> float:
    defined = [value for value in values if not math.isnan(value)]
    return sum(defined) / len(defined) if defined else math.nan


def _show(value: float) -> str:
    return "n/a" if math.isnan(value) else f"{value:.4f}"


def _or_null(value: float) -> float | None:
    return None if math.isnan(value) else value


if __name__ == "__main__":
    sys.exit(main())
