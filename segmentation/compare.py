"""Compares upsampling operators: `python -m segmentation.compare` trains each with several seeds.

With the same seed, all operators are trained on the same views in the same order under the same
schedule, so that differences are paired.
"""

import json
import math
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from upmap.console import Parser, describe_command, run
from upmap.errors import InputError
from upmap.files import check_folder, create_file
from upmap.metrics.semantic import boundary_counts, boundary_iou
from upmap.options import (
    Choices,
    Flag,
    Range,
    Threads,
    add_flags,
    parse_options,
    validate_fields,
)
from upmap.segmentation.augmentation import AugmentationOptions
from upmap.segmentation.comparison import pictures
from upmap.segmentation.comparison.checkerboard import Checkerboard, measure_checkerboard
from upmap.segmentation.comparison.cost import Budget, macs, match_budget, parameters
from upmap.segmentation.comparison.measurement import measure_models
from upmap.segmentation.comparison.report import format_report, format_table
from upmap.segmentation.datasets import SegmentationDataset, open_dataset
from upmap.segmentation.device import limit_threads, select_device
from upmap.segmentation.evaluation import resize
from upmap.segmentation.history import Row
from upmap.segmentation.models import ModelOptions, build_model
from upmap.segmentation.optimization import OptimizationOptions
from upmap.segmentation.predictor import predict_labels
from upmap.segmentation.seeds import MAX_SEED
from upmap.segmentation.tiling import DEFAULT_WINDOW
from upmap.segmentation.train import Diverged, TrainingResult, train_model
from upmap.segmentation.training_options import TrainOptions
from upmap.segmentation.upsampling import UPSAMPLERS, Upsampler

__all__ = ["CompareOptions", "Comparison", "compare_operators", "main", "paired_difference"]

PROGRAM = "segmentation.compare"
BASELINE = "bilinear"
CONFIDENCE = 0.95  # of intervals
SAMPLE_POOL_SIZE = 40  # test images that the most informative ones are chosen from
RESULTS = "results.json"
EXAMPLES = """\
examples:
  drawn shapes, four operators
    %(prog)s
  other operators, more seeds, equal costs, other data
    %(prog)s --operators bilinear,carafe,dysample --seeds 5
    %(prog)s --budget params --out runs/equal-parameters
    %(prog)s --training.dataset folder --training.root MY_DATA

writes to --out: report.md with scores.png, curves.png and predictions.png, results.json, and a
folder of checkpoints for every training.
exit status: 0 good; 1 a training diverged; 2 misused or unreadable input."""


def _small() -> TrainOptions:
    """A training of seconds on two CPU cores."""
    return TrainOptions(
        epochs=5,
        batch_size=4,
        factor=0.5,
        model=ModelOptions(width=8, depth=2),
        augmentation=AugmentationOptions(crop=(128, 192), smallest=1, largest=1, color=0),
        optimization=OptimizationOptions(learning_rate=1e-2),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class CompareOptions:
    """What is compared.

    Attributes:
        operators: The operators; bilinear is the one that the others are compared with.
        seeds: Number of trainings of each operator, with seeds from training.seed on.
        budget: What the models have in common: nothing (free), the number of parameters, or of
            multiply-adds (macs).
        out: A new folder for the report and the checkpoints.
        resume: Continue a comparison in the folder of --out.
        threads: Maximum number of threads; 0 leaves it to torch.
        training: The training; the comparison sets its out, resume, threads and model.upsampling.
    """

    operators: Annotated[tuple[str, ...], Choices(UPSAMPLERS), Flag(metavar="A,B")] = (
        BASELINE,
        "nearest",
        "transposed",
        "pixelshuffle",
    )
    seeds: Annotated[int, Range(1, 10_000)] = 3
    budget: Budget = "free"
    out: Annotated[str, Flag(metavar="DIR")] = "runs/compare"
    resume: bool = False
    threads: Threads = 0
    training: TrainOptions = field(default_factory=_small)

    def __post_init__(self) -> None:
        validate_fields(self)
        if BASELINE not in self.operators or len({*self.operators}) < len(self.operators):
            raise ValueError(f"operators must be different, {BASELINE} among them")
        if self.training.seed + self.seeds - 1 > MAX_SEED:
            raise ValueError(f"seeds: training.seed + seeds - 1 must be at most {MAX_SEED}")
        for name in ("out", "resume", "threads"):
            if getattr(self.training, name) != getattr(TrainOptions(), name):
                raise ValueError(f"training.{name}: the comparison sets it, from its own {name}")
        if self.training.model.upsampling != BASELINE:
            raise ValueError("training.model.upsampling: the comparison sets it, from operators")


@dataclass(frozen=True, slots=True, eq=False)
class Comparison:
    """The result of a comparison.

    Attributes:
        results: The content of results.json: "operators" has, for each name, the costs, and lists
            with an entry for each seed.
        samples: The first test images with the predictions of each operator's first model.
        palette: uint8 [K, 3], RGB.
    """

    results: dict[str, Any]
    samples: list[pictures.Sample]
    palette: NDArray[np.uint8]


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the program; returns its exit status."""
    parser = Parser(
        prog=describe_command(f"upmap.{PROGRAM}"),
        description="Trains a model with each of several upsampling operators, and compares them.",
        epilog=EXAMPLES,
    )
    add_flags(parser, CompareOptions)
    return run(lambda: _program(parse_options(CompareOptions, parser, arguments)), Diverged)


def _program(options: CompareOptions) -> int:
    limit_threads(options.threads)
    folder = Path(options.out)
    if (folder / RESULTS).exists() and not options.resume:
        raise InputError("exists already: name a new --out", folder / RESULTS)
    check_folder(folder)
    comparison = compare_operators(options, show_progress=True)
    _write_files(comparison, folder)
    table = format_table(comparison.results)
    print(f"{table}\nthe report and its pictures: {folder / 'report.md'}")
    return 0


def _write_files(comparison: Comparison, folder: Path) -> None:
    """Writes the pictures, the report that shows them, and last, when all is there, the results."""
    results = comparison.results
    samples = pictures.most_informative(comparison.samples)
    figures = {
        "scores.png": pictures.draw_scores(results),
        "curves.png": pictures.draw_curves(results),
        "predictions.png": pictures.draw_predictions(samples, comparison.palette),
    }
    for name, figure in figures.items():
        with create_file(folder / name) as beside:
            figure.savefig(beside, format="png", dpi=100)
    with create_file(folder / "report.md") as beside:
        beside.write_text(format_report(results, list(figures)), "utf-8")
    with create_file(folder / RESULTS) as beside:
        beside.write_text(json.dumps(results, indent=1, allow_nan=False) + "\n", "utf-8")


def compare_operators(options: CompareOptions, *, show_progress: bool = False) -> Comparison:
    """Trains a model with each operator and each seed, and compares scores and costs.

    Args:
        options: The options.
        show_progress: Whether to print the score of each training on stderr, with a progress bar
            on a terminal.

    Raises:
        InputError: If the options or the data cannot be used.
        Diverged: If a training diverged.
    """
    training = options.training
    dataset = open_dataset(training.dataset, training.root, training.train)
    operators = options.operators
    models = {name: _match_model(options, name, len(dataset.classes)) for name in operators}
    seeds = range(training.seed, training.seed + options.seeds)
    trained: dict[str, list[TrainingResult]] = {name: [] for name in operators}
    epochs = len(seeds) * len(models) * training.epochs
    with _ProgressReporter(epochs, show=show_progress) as reporter:
        # Seeds in the outer loop: results of all operators exist early.
        for seed in seeds:
            for name, model in models.items():
                trained[name].append(_train_operator(options, model, seed, reporter))
    test, images = trained[BASELINE][0].dataset, _example_batch(training)
    results = {
        "schema": 1,
        "program": PROGRAM,
        "options": msgspec.to_builtins(options),
        "torch": torch.__version__,
        "device": images.device.type,
        "batch": len(images),
        "size": list(images.shape[2:]),
        "split": f"{len(test)} images of {test.split}",
        "seeds": list(seeds),
        "baseline": BASELINE,
        "operators": _compare_results(models, trained, images, training),
    }
    first_models = {name: runs[0].model for name, runs in trained.items()}
    return Comparison(results, _predict_samples(first_models, test, training), test.palette)


def paired_difference(values: Sequence[float], base: Sequence[float]) -> dict[str, float | None]:
    """The mean difference of pairs and its confidence interval by Student's t.

    Args:
        values: The score of each seed.
        base: The score of the baseline for each seed.

    Returns:
        "mean", and the limits "low" and "high" of the 95 % interval; these are None for one pair.

    >>> paired_difference([0.5, 0.75], [0.25, 0.5])
    {'mean': 0.25, 'low': 0.25, 'high': 0.25}
    """
    from scipy.stats import t

    difference = np.subtract(values, base)
    mean, count = float(difference.mean()), len(difference)
    if count < 2:
        return {"mean": mean, "low": None, "high": None}
    quantile = float(t.ppf((1 + CONFIDENCE) / 2, count - 1))
    half = quantile * float(difference.std(ddof=1)) / math.sqrt(count)
    return {"mean": mean, "low": mean - half, "high": mean + half}


def _match_model(options: CompareOptions, name: str, classes: int) -> ModelOptions:
    """The model with an operator, its decoder as wide as the budget says."""
    model = replace(options.training.model, classes=classes, upsampling=name)
    try:
        return match_budget(model, options.budget, options.training.augmentation.crop)
    except ValueError as error:
        raise InputError(f"{name}: {error}") from None


def _train_operator(
    options: CompareOptions, model: ModelOptions, seed: int, reporter: "_ProgressReporter"
) -> TrainingResult:
    out = str(Path(options.out) / f"{model.upsampling}-{seed}")
    training = replace(options.training, model=model, seed=seed, out=out, resume=options.resume)
    reporter.start(f"{model.upsampling}, seed {seed}")
    result = train_model(training, after_epoch=reporter.after_epoch)
    reporter.finish(result)
    return result


class _ProgressReporter:
    """Shows the progress of trainings on stderr: a bar over epochs, a line for each training."""

    def __init__(self, epochs: int, *, show: bool) -> None:
        from tqdm import tqdm

        self.show = show
        self.bar = tqdm(total=epochs, unit="epoch", disable=None if show else True, leave=False)
        self.name = ""

    def __enter__(self) -> "_ProgressReporter":
        return self

    def __exit__(self, *error: object) -> None:
        self.bar.close()

    def start(self, name: str) -> None:
        self.name = name
        self.bar.set_description(name)

    def after_epoch(self, row: Row) -> None:
        self.bar.update()

    def finish(self, result: TrainingResult) -> None:
        seconds = sum(row["seconds"] for row in result.history)
        line = f"{self.name}: mIoU {result.scores.mIoU:.4f}, {seconds:.0f} s"
        if self.show:
            self.bar.write(line, file=sys.stderr)


def _compare_results(
    models: dict[str, ModelOptions],
    trained: dict[str, list[TrainingResult]],
    images: Tensor,
    training: TrainOptions,
) -> dict[str, Any]:
    """For each operator, lists with an entry for each seed, differences to the baseline, costs."""
    costs = _measure_costs(models, images, training)
    operators: dict[str, Any] = {}
    for name, results in trained.items():
        rows = [
            _measure_result(result, models[name], training, training.seed + i)
            for i, result in enumerate(results)
        ]
        operators[name] = {key: [row[key] for row in rows] for key in rows[0]} | costs[name]
    for columns in operators.values():
        for score in ("miou", "boundary_iou"):
            baseline = operators[BASELINE][score]
            columns[f"{score}_difference"] = paired_difference(columns[score], baseline)
    return operators


def _measure_result(
    result: TrainingResult, model: ModelOptions, training: TrainOptions, seed: int
) -> dict[str, Any]:
    """The scores of one training, and the checkerboards of its operators before and after it."""
    # The seed of the training, so that this model has the initial weights of the trained one.
    torch.manual_seed(seed)
    return {
        "miou": result.scores.mIoU,
        "iou": _nan_to_none(result.scores.iou.tolist()),
        "pixel_accuracy": result.scores.pixel_accuracy,
        "boundary_iou": _mean_boundary_iou(result, training),
        "checkerboard_initial": asdict(_mean_checkerboard(build_model(model), seed)),
        "checkerboard_trained": asdict(_mean_checkerboard(result.model, seed)),
        "best_epoch": result.epoch,
        "history": result.history,
    }


def _nan_to_none(values: list[float]) -> list[float | None]:
    return [None if math.isnan(value) else value for value in values]


def _mean_boundary_iou(result: TrainingResult, training: TrainOptions) -> float:
    """Boundary IoU on the test images, mean over classes."""
    dataset, classes = result.dataset, len(result.dataset.classes)
    total = np.zeros((classes, 2), np.int64)
    for image, label in (dataset[i] for i in range(len(dataset))):
        # As in all scores, at the full size of the label.
        labels = _predict_image(result.model, image, training)
        total += boundary_counts(label.numpy(), labels, classes)
    # NaN: a class without a boundary in labels and predictions.
    return float(np.nanmean(boundary_iou(total)))


def _predict_image(model: nn.Module, image: Tensor, training: TrainOptions) -> NDArray[np.uint8]:
    """The class of each pixel, uint8 [H, W], of an image, uint8 [3, H, W]."""
    labels = predict_labels(
        model,
        image.to(next(model.parameters()).device),
        window=(DEFAULT_WINDOW, DEFAULT_WINDOW),
        factor=training.factor,
        precision=training.optimization.precision,
    )
    return labels.cpu().numpy()


def _predict_samples(
    models: dict[str, nn.Module], dataset: SegmentationDataset, training: TrainOptions
) -> list[pictures.Sample]:
    """The first images of a data set with the predictions of each model."""
    samples = []
    for i in range(min(len(dataset), SAMPLE_POOL_SIZE)):
        image, label = dataset[i]
        labels = {name: _predict_image(model, image, training) for name, model in models.items()}
        pixels = image.permute(1, 2, 0).numpy()
        samples.append(pictures.Sample(dataset.names[i], pixels, label.numpy(), labels))
    return samples


def _mean_checkerboard(model: nn.Module, seed: int) -> Checkerboard:
    """The mean over the upsampling operators of a model."""
    generator = torch.Generator().manual_seed(seed)
    scores = [
        measure_checkerboard(module, generator)
        for module in model.modules()
        if isinstance(module, Upsampler)
    ]
    return Checkerboard(
        pattern=sum(score.pattern for score in scores) / len(scores),
        overlap=sum(score.overlap for score in scores) / len(scores),
    )


def _example_batch(training: TrainOptions) -> Tensor:
    """A batch of the size and shape that a model is trained with, float32 [B, 3, H, W]."""
    count = training.batch_size // training.accumulate
    # Times do not depend on the values.
    images = torch.zeros(
        count, 3, *training.augmentation.crop, device=select_device(training.device)
    )
    return resize(images, training.factor)


def _measure_costs(
    models: dict[str, ModelOptions], images: Tensor, training: TrainOptions
) -> dict[str, dict[str, Any]]:
    """Parameters, multiply-adds, times and memory, in the memory format that training uses."""
    layout = torch.channels_last if training.channels_last else torch.contiguous_format
    modules: dict[str, nn.Module] = {
        name: build_model(model).to(images.device).to(memory_format=layout)
        for name, model in models.items()
    }
    images = images.contiguous(memory_format=layout)
    measurements = measure_models(modules, images, precision=training.optimization.precision)
    size = (images.shape[2], images.shape[3])
    return {
        name: {
            "parameters": parameters(module),
            "macs": macs(module, size),
            **asdict(measurements[name]),
        }
        for name, module in modules.items()
    }


if __name__ == "__main__":
    sys.exit(main())
