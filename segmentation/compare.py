"""Compares upsampling operators: `python -m segmentation.compare` trains each with several seeds.

All operators see the same images, views, order and schedule for a seed, so differences are paired.
"""

import argparse
import json
import math
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from torch import nn

from detection.console import run
from detection.errors import InputError
from detection.formats.files import new_file, progress
from metrics.semantic import boundary_counts, boundary_iou
from segmentation.augmentation import AugmentationOptions
from segmentation.checkerboard import Checkerboard, checkerboard
from segmentation.cost import BUDGETS, Budget, macs, matched, parameters
from segmentation.datasets import opened
from segmentation.evaluation import logits_at
from segmentation.measurement import measured
from segmentation.models import ModelOptions, model
from segmentation.optimisation import OptimisationOptions
from segmentation.options import add_flags, parsed
from segmentation.train import Diverged, Trained, TrainOptions, train
from segmentation.upsampling import UPSAMPLERS, Upsampler

__all__ = ["CompareOptions", "compared", "main", "paired_difference", "table"]

PROGRAM = "segmentation.compare"
BASELINE = "bilinear"
CONFIDENCE = 0.95
EXAMPLES = """\
examples:
  python -m segmentation.compare                              drawn shapes, four operators
  python -m segmentation.compare --operators bilinear,carafe,dysample --seeds 5
  python -m segmentation.compare --budget params --out runs/equal-parameters
  python -m segmentation.compare --training.dataset folder --training.root MY_DATA

writes to --out: results.json, table.md, and a folder of checkpoints for every training.
exit status: 0 good; 1 a training diverged; 2 misused or unreadable input."""


def _small() -> TrainOptions:
    """A training of seconds on two CPU cores."""
    return TrainOptions(
        epochs=10,
        model=ModelOptions(width=8, depth=2),
        augmentation=AugmentationOptions(crop=(64, 96), smallest=1, largest=1, colour=0),
        optimisation=OptimisationOptions(learning_rate=1e-2),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class CompareOptions:
    """What is compared.

    Attributes:
        operators: Names of UPSAMPLERS, separated by commas; bilinear is what others differ from.
        seeds: How many trainings of each, from training.seed on.
        budget: What decoders are matched in to bilinear's: free (nothing), params or macs.
        out: A new folder for what is written.
        resume: Whether to go on with what is in `out`.
        training: The training; its out, resume and model.upsampling are the comparison's to set.
    """

    operators: str = "bilinear,nearest,transposed,pixelshuffle"
    seeds: int = 3
    budget: str = "free"
    out: str = "runs/compare"
    resume: bool = False
    training: TrainOptions = field(default_factory=_small)

    def __post_init__(self) -> None:
        for name in self.names:
            if name not in UPSAMPLERS:
                raise ValueError(f"operators: no {name!r}; there are {', '.join(UPSAMPLERS)}")
        if BASELINE not in self.names or len(set(self.names)) < len(self.names):
            raise ValueError(f"operators must be different, {BASELINE} among them")
        if self.seeds < 1:
            raise ValueError(f"seeds must be at least 1, not {self.seeds}")
        if self.budget not in BUDGETS:
            raise ValueError(f"budget must be one of {', '.join(BUDGETS)}, not {self.budget!r}")

    @property
    def names(self) -> list[str]:
        """The operators."""
        return [name.strip() for name in self.operators.split(",")]


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the program; returns its exit status."""
    parser = argparse.ArgumentParser(
        prog=f"python -m {PROGRAM}",
        description="Trains a model with each of several upsampling operators, and compares them.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add_flags(parser, CompareOptions)
    try:
        return run(lambda: _program(parsed(CompareOptions, parser, arguments)))
    except Diverged as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def _program(options: CompareOptions) -> None:
    folder = Path(options.out)
    if (folder / "results.json").exists() and not options.resume:
        raise InputError("exists already: name a new --out", folder / "results.json")
    results = compared(options, show_progress=True)
    with new_file(folder / "results.json") as beside:
        beside.write_text(json.dumps(results, indent=1, allow_nan=False) + "\n", "utf-8")
    with new_file(folder / "table.md") as beside:
        beside.write_text(table(results), "utf-8")
    print(table(results), end="")


def compared(options: CompareOptions, *, show_progress: bool = False) -> dict[str, Any]:
    """Trains every operator with every seed, and says what came of it.

    Args:
        options: The options.
        show_progress: Whether to draw a progress bar on a terminal.

    Returns:
        What results.json holds: "operators" has, for each name, lists with an entry for each seed.

    Raises:
        InputError: If the options or the data cannot be used.
        Diverged: If a training diverged.
    """
    training = options.training
    data = opened(training.dataset, training.root, training.train)
    models = {name: _model(options, name, len(data.classes)) for name in options.names}
    seeds = range(training.seed, training.seed + options.seeds)
    runs = [(name, seed) for seed in seeds for name in options.names]
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in options.names}
    for name, seed in progress(runs, "trainings", len(runs), show_progress):
        found[name].append(_trained(options, models[name], name, seed))
    operators = {name: _columns(found[name]) for name in options.names}
    for name, cost in _costs(models, training).items():
        operators[name] |= cost
        base = operators[BASELINE]["miou"]
        operators[name]["difference"] = paired_difference(operators[name]["miou"], base)
    return {
        "schema": 1,
        "program": PROGRAM,
        "options": msgspec.to_builtins(options),
        "torch": torch.__version__,
        "seeds": list(seeds),
        "baseline": BASELINE,
        "operators": operators,
    }


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


def table(results: dict[str, Any]) -> str:
    """The results as a Markdown table."""
    lines = [
        "| operator | mIoU | difference [95 % CI] | boundary IoU | checkerboard | parameters "
        "| multiply-adds | forward | with backward | memory | images/s |",
        "|---" * 11 + "|",
    ]
    return "\n".join([*lines, *(_line(*item) for item in results["operators"].items())]) + "\n"


def _model(options: CompareOptions, name: str, classes: int) -> ModelOptions:
    given = replace(options.training.model, classes=classes, upsampling=name)
    budget: Budget = options.budget  # type: ignore[assignment]  # __post_init__ has looked
    try:
        return matched(given, budget, options.training.augmentation.crop)
    except ValueError as error:
        raise InputError(f"{name}: {error}") from None


def _trained(options: CompareOptions, made: ModelOptions, name: str, seed: int) -> dict[str, Any]:
    """What one training came to."""
    out = str(Path(options.out) / f"{name}-{seed}")
    one = replace(options.training, model=made, seed=seed, out=out, resume=options.resume)
    found = train(one)
    torch.manual_seed(seed)
    return {
        "miou": found.scores.mIoU,
        "pixel_accuracy": found.scores.pixel_accuracy,
        "boundary_iou": _boundary_iou(found, one),
        "checkerboard_initial": asdict(_checkerboard(model(made), seed)),
        "checkerboard_trained": asdict(_checkerboard(found.model, seed)),
        "best_epoch": found.epoch,
        "history": found.history,
    }


def _boundary_iou(found: Trained, options: TrainOptions) -> float:
    """Boundary IoU on the test images, mean over classes."""
    device = next(found.model.parameters()).device
    classes = len(found.data.classes)
    total = np.zeros((classes, 2), np.int64)
    precision = options.optimisation.precision
    for i in range(len(found.data)):
        image, label = found.data[i]
        with torch.no_grad():
            logits = logits_at(
                found.model, image[None].to(device), factor=options.factor, precision=precision
            )
        total += boundary_counts(label.numpy(), logits[0].argmax(0).cpu().numpy(), classes)
    return float(np.nanmean(boundary_iou(total)))


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


def _costs(models: dict[str, ModelOptions], training: TrainOptions) -> dict[str, dict[str, Any]]:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    made: dict[str, nn.Module] = {name: model(one).to(device) for name, one in models.items()}
    if training.channels_last:
        made = {name: one.to(memory_format=torch.channels_last) for name, one in made.items()}
    size = training.augmentation.crop
    images = torch.zeros(training.batch_size, 3, *size, device=device)
    taken = measured(made, images, precision=training.optimisation.precision)
    return {
        name: {"parameters": parameters(one), "macs": macs(one, size), **asdict(taken[name])}
        for name, one in made.items()
    }


def _columns(rows: list[dict[str, Any]]) -> dict[str, Any]:
    return {key: [row[key] for row in rows] for key in rows[0]}


def _line(name: str, one: dict[str, Any]) -> str:
    difference = one["difference"]
    limits = "n/a"
    if difference["low"] is not None:
        limits = f"{difference['low']:+.3f}, {difference['high']:+.3f}"
    before, after = (
        np.mean([score["pattern"] for score in one[f"checkerboard_{when}"]])
        for when in ("initial", "trained")
    )
    cells = [
        name,
        _spread(one["miou"]),
        "" if name == BASELINE else f"{difference['mean']:+.3f} [{limits}]",
        _spread(one["boundary_iou"]),
        f"{before:.3f} -> {after:.3f}",
        f"{one['parameters']:,}",
        f"{one['macs'] / 1e6:.1f} M",
        f"{1e3 * one['forward']:.1f} ms",
        f"{1e3 * one['forward_backward']:.1f} ms",
        f"{one['memory'] / 2**20:.1f} MiB",
        f"{one['images_per_second']:.0f}",
    ]
    return "| " + " | ".join(cells) + " |"


def _spread(values: list[float]) -> str:
    """The mean, and the standard deviation where there are several."""
    spread = f" +- {np.std(values, ddof=1):.3f}" if len(values) > 1 else ""
    return f"{np.mean(values):.3f}{spread}"


if __name__ == "__main__":
    sys.exit(main())
