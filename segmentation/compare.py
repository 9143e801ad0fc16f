"""Compares upsampling operators: `python -m segmentation.compare` trains each with several seeds.

All operators see the same images, views, order and schedule for a seed, so differences are paired.
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
from upmap.segmentation import pictures
from upmap.segmentation.augmentation import AugmentationOptions
from upmap.segmentation.checkerboard import Checkerboard, checkerboard
from upmap.segmentation.cost import Budget, macs, match_budget, parameters
from upmap.segmentation.datasets import Segmentation, open_dataset
from upmap.segmentation.device import limit_threads, select_device
from upmap.segmentation.evaluation import logits_at, resize
from upmap.segmentation.measurement import measure_models
from upmap.segmentation.models import ModelOptions, build_model
from upmap.segmentation.optimization import OptimizationOptions
from upmap.segmentation.report import page, table
from upmap.segmentation.train import Diverged, Row, TrainingResult, train
from upmap.segmentation.training_options import MAX_SEED, TrainOptions
from upmap.segmentation.upsampling import UPSAMPLERS, Upsampler

__all__ = ["CompareOptions", "Comparison", "compare_operators", "main", "paired_difference"]

PROGRAM = "segmentation.compare"
BASELINE = "bilinear"
CONFIDENCE = 0.95
SAMPLE_POOL_SIZE = 40  # images that those to be shown are chosen from
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
    """What came of a comparison.

    Attributes:
        results: What results.json holds: "operators" has, for each name, the costs, and lists with
            an entry for each seed.
        samples: What each operator's model of the first seed made of the first images.
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
    found = compare_operators(options, show_progress=True)
    _write(found, folder)
    print(f"{table(found.results)}\nthe report and its pictures: {folder / 'report.md'}")
    return 0


def _write(found: Comparison, folder: Path) -> None:
    """Writes the pictures, the report that shows them, and last, when all is there, the results."""
    drawn = {
        "scores.png": pictures.scores(found.results),
        "curves.png": pictures.curves(found.results),
        "predictions.png": pictures.predictions(
            pictures.most_informative(found.samples), found.palette
        ),
    }
    for name, figure in drawn.items():
        with create_file(folder / name) as beside:
            figure.savefig(beside, format="png", dpi=100)
    with create_file(folder / "report.md") as beside:
        beside.write_text(page(found.results, list(drawn)), "utf-8")
    with create_file(folder / RESULTS) as beside:
        beside.write_text(json.dumps(found.results, indent=1, allow_nan=False) + "\n", "utf-8")


def compare_operators(options: CompareOptions, *, show_progress: bool = False) -> Comparison:
    """Trains every operator with every seed, and says what came of it.

    Args:
        options: The options.
        show_progress: Whether to tell of each training on stderr, with a bar on a terminal.

    Raises:
        InputError: If the options or the data cannot be used.
        Diverged: If a training diverged.
    """
    training = options.training
    data = open_dataset(training.dataset, training.root, training.train)
    models = {name: _model(options, name, len(data.classes)) for name in options.operators}
    seeds = range(training.seed, training.seed + options.seeds)
    found: dict[str, list[TrainingResult]] = {name: [] for name in options.operators}
    with _Told(len(seeds) * len(models) * training.epochs, show_progress) as told:
        for seed in seeds:
            for name, one in models.items():
                found[name].append(_train_operator(options, one, seed, told))
    test, images = found[BASELINE][0].data, _batch(training)
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
        "operators": _operators(models, found, images, training),
    }
    firsts = {name: trained[0].model for name, trained in found.items()}
    return Comparison(results, _samples(firsts, test, training), test.palette)


def paired_difference(values: Sequence[float], base: Sequence[float]) -> dict[str, float | None]:
    """The mean difference of pairs and its confidence interval by Student's t.

    Args:
        values: One for each seed.
        base: Likewise.

    Returns:
        "mean", "low" and "high", of 95 % confidence; None for limits that one pair cannot give.

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


def _model(options: CompareOptions, name: str, classes: int) -> ModelOptions:
    given = replace(options.training.model, classes=classes, upsampling=name)
    try:
        return match_budget(given, options.budget, options.training.augmentation.crop)
    except ValueError as error:
        raise InputError(f"{name}: {error}") from None


def _train_operator(
    options: CompareOptions, made: ModelOptions, seed: int, told: "_Told"
) -> TrainingResult:
    out = str(Path(options.out) / f"{made.upsampling}-{seed}")
    one = replace(options.training, model=made, seed=seed, out=out, resume=options.resume)
    told.begins(f"{made.upsampling}, seed {seed}")
    found = train(one, after_epoch=told.after_epoch)
    told.ends(found)
    return found


class _Told:
    """Tells on stderr of trainings: a bar over all epochs, a line for what each came to."""

    def __init__(self, epochs: int, show: bool) -> None:
        from tqdm import tqdm

        self.show = show
        self.bar = tqdm(total=epochs, unit="epoch", disable=None if show else True, leave=False)
        self.name = ""

    def __enter__(self) -> "_Told":
        return self

    def __exit__(self, *error: object) -> None:
        self.bar.close()

    def begins(self, name: str) -> None:
        self.name = name
        self.bar.set_description(name)

    def after_epoch(self, row: Row) -> None:
        self.bar.update()

    def ends(self, found: TrainingResult) -> None:
        seconds = sum(row["seconds"] for row in found.history)
        line = f"{self.name}: mIoU {found.scores.mIoU:.4f}, {seconds:.0f} s"
        if self.show:
            self.bar.write(line, file=sys.stderr)


def _operators(
    models: dict[str, ModelOptions],
    found: dict[str, list[TrainingResult]],
    images: Tensor,
    training: TrainOptions,
) -> dict[str, Any]:
    """For each operator, lists with an entry for each seed, differences to the baseline, costs."""
    costs = _costs(models, images, training)
    operators: dict[str, Any] = {}
    for name, trained in found.items():
        rows = [
            _row(one, models[name], training, training.seed + i) for i, one in enumerate(trained)
        ]
        operators[name] = {key: [row[key] for row in rows] for key in rows[0]} | costs[name]
    for one in operators.values():
        for score in ("miou", "boundary_iou"):
            base = operators[BASELINE][score]
            one[f"{score}_difference"] = paired_difference(one[score], base)
    return operators


def _row(
    found: TrainingResult, made: ModelOptions, training: TrainOptions, seed: int
) -> dict[str, Any]:
    """What one training came to."""
    torch.manual_seed(seed)
    return {
        "miou": found.scores.mIoU,
        "iou": _or_none(found.scores.iou.tolist()),
        "pixel_accuracy": found.scores.pixel_accuracy,
        "boundary_iou": _boundary_iou(found, training),
        "checkerboard_initial": asdict(_checkerboard(build_model(made), seed)),
        "checkerboard_trained": asdict(_checkerboard(found.model, seed)),
        "best_epoch": found.epoch,
        "history": found.history,
    }


def _or_none(values: list[float]) -> list[float | None]:
    return [None if math.isnan(value) else value for value in values]


def _boundary_iou(found: TrainingResult, training: TrainOptions) -> float:
    """Boundary IoU on the test images, mean over classes."""
    classes = len(found.data.classes)
    total = np.zeros((classes, 2), np.int64)
    for image, label in (found.data[i] for i in range(len(found.data))):
        total += boundary_counts(label.numpy(), _labels(found.model, image, training), classes)
    return float(np.nanmean(boundary_iou(total)))


@torch.no_grad()
def _labels(made: nn.Module, image: Tensor, training: TrainOptions) -> NDArray[np.uint8]:
    """The class of each pixel, uint8 [H, W], of an image, uint8 [3, H, W]."""
    images = image[None].to(next(made.parameters()).device)
    precision = training.optimization.precision
    logits = logits_at(made, images, factor=training.factor, precision=precision)
    return logits[0].argmax(0).cpu().numpy().astype(np.uint8)


def _samples(
    models: dict[str, nn.Module], data: Segmentation, training: TrainOptions
) -> list[pictures.Sample]:
    """What each model makes of the first images."""
    samples = []
    for i in range(min(len(data), SAMPLE_POOL_SIZE)):
        image, label = data[i]
        found = {name: _labels(one, image, training) for name, one in models.items()}
        seen = image.permute(1, 2, 0).numpy()
        samples.append(pictures.Sample(data.names[i], seen, label.numpy(), found))
    return samples


def _checkerboard(made: nn.Module, seed: int) -> Checkerboard:
    """The mean over a model's operators."""
    generator = torch.Generator().manual_seed(seed)
    scores = [
        checkerboard(operator, generator)
        for operator in made.modules()
        if isinstance(operator, Upsampler)
    ]
    return Checkerboard(
        pattern=sum(score.pattern for score in scores) / len(scores),
        overlap=sum(score.overlap for score in scores) / len(scores),
    )


def _batch(training: TrainOptions) -> Tensor:
    """What a model is given at once in training: images of the size that it sees."""
    count = training.batch_size // training.accumulate
    images = torch.zeros(
        count, 3, *training.augmentation.crop, device=select_device(training.device)
    )
    return resize(images, training.factor)


def _costs(
    models: dict[str, ModelOptions], images: Tensor, training: TrainOptions
) -> dict[str, dict[str, Any]]:
    """Parameters, multiply-adds, times and memory of models, in training's form and precision."""
    layout = torch.channels_last if training.channels_last else torch.contiguous_format
    made: dict[str, nn.Module] = {
        name: build_model(one).to(images.device).to(memory_format=layout)
        for name, one in models.items()
    }
    taken = measure_models(
        made, images.contiguous(memory_format=layout), precision=training.optimization.precision
    )
    size = (images.shape[2], images.shape[3])
    return {
        name: {"parameters": parameters(one), "macs": macs(one, size), **asdict(taken[name])}
        for name, one in made.items()
    }


if __name__ == "__main__":
    sys.exit(main())
