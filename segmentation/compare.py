"""Compares upsampling operators: `python -m segmentation.compare` trains each with several seeds.

With the same seed, all operators are trained on the same views in the same order under the same
schedule, so that differences are paired. Trainings run side by side, each with one thread.
"""

import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import product
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
from upmap.options import Flag, Range, Threads, add_flags, parse_options, validate_fields
from upmap.segmentation.augmentation import AugmentationOptions
from upmap.segmentation.comparison import pictures
from upmap.segmentation.comparison.cost import Budget, macs, match_budget, parameters
from upmap.segmentation.comparison.environment import count_cores, describe_environment
from upmap.segmentation.comparison.measurement import measure_models
from upmap.segmentation.comparison.report import format_report, format_results
from upmap.segmentation.comparison.runs import Run, RunResult, execute_runs, use_threads
from upmap.segmentation.comparison.tables import tabulate_panel
from upmap.segmentation.comparison.variants import Variant, parse_variant, parse_variants
from upmap.segmentation.datasets import SegmentationDataset, open_dataset
from upmap.segmentation.device import select_device
from upmap.segmentation.evaluation import resize
from upmap.segmentation.models import (
    ARCHITECTURES,
    ModelOptions,
    build_meta_model,
    build_model,
)
from upmap.segmentation.optimization import OptimizationOptions, resolve_precision
from upmap.segmentation.seeds import MAX_SEED
from upmap.segmentation.survey import Survey, survey_dataset
from upmap.segmentation.train import Diverged
from upmap.segmentation.training_options import TrainOptions
from upmap.segmentation.upsampling import UPSAMPLERS

__all__ = ["CompareOptions", "Comparison", "compare_operators", "main"]

Models = dict[str, dict[str, ModelOptions]]  # by architecture and operator

PROGRAM = "segmentation.compare"
SCHEMA = 2
BASELINE = "bilinear"
SAMPLE_POOL_SIZE = 40  # test images that the most informative ones are chosen from
MAX_PROCESSES = 16  # by default; each holds torch and the data set
OWN_MODEL_OPTIONS = {  # options of the model that the comparison sets, and from which of its own
    "architecture": "architectures",
    "upsampling": "operators",
    "upsampling_options": "operators",
}
RESULTS = "results.json"
EXAMPLES = """\
examples:
  drawn polygons and strokes, five operators, with skips and without, about three minutes
    %(prog)s
  other operators and options of them, more seeds, one architecture
    %(prog)s --operators "bilinear,dysample,carafe{kernel=3}" --seeds 8 --architectures unet
  equal costs, other data
    %(prog)s --budget params --out runs/equal-parameters
    %(prog)s --training.dataset folder --training.root MY_DATA
  on with a comparison that was stopped
    %(prog)s --resume

writes to --out: report.md with its pictures, results.json, and a folder of checkpoints for every
training. Trainings run side by side; one that fails leaves the others, and --resume repeats it.
exit status: 0 good; 1 a training failed; 2 misused or unreadable input."""


def _small() -> TrainOptions:
    """A training of seconds on one CPU core."""
    return TrainOptions(
        dataset="edges",
        epochs=6,
        batch_size=8,
        model=ModelOptions(width=8, depth=3),
        augmentation=AugmentationOptions(crop=(48, 48), smallest=1, largest=1, color=0),
        optimization=OptimizationOptions(learning_rate=4e-3),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class CompareOptions:
    """What is compared.

    Attributes:
        operators: The operators, with options as in transposed{bilinear_init=true}; bilinear is the
            one that the others are compared with.
        architectures: The architectures, with options of the model as in unet{depth=2}; operators
            are compared with each by itself.
        seeds: Number of trainings of each operator, with seeds from training.seed on.
        budget: What the models have in common: nothing (free), the number of parameters, or of
            multiply-adds (macs).
        out: A new folder for the report and the checkpoints.
        resume: Continue a comparison in the folder of --out.
        processes: Number of trainings at a time; 0 takes one for each core, on a GPU one.
        threads: Number of threads of each training; 0 leaves it to torch.
        training: The training; the comparison sets its out, resume, threads, model.architecture and
            model.upsampling.
    """

    operators: Annotated[tuple[str, ...], Flag(metavar="A,B{KEY=VALUE}")] = (
        BASELINE,
        "nearest",
        "transposed",
        "transposed{bilinear_init=true}",
        "pixelshuffle",
    )
    architectures: Annotated[tuple[str, ...], Flag(metavar="A,B{KEY=VALUE}")] = (
        "fcn8s",
        "unet{depth=2}",
    )
    seeds: Annotated[int, Range(1, 10_000)] = 5
    budget: Budget = "free"
    out: Annotated[str, Flag(metavar="DIR")] = "runs/compare"
    resume: bool = False
    processes: Annotated[int, Range(0, 1024)] = 0
    threads: Threads = 1
    training: TrainOptions = field(default_factory=_small)

    def __post_init__(self) -> None:
        validate_fields(self)
        arms = _parse("operators", self.operators, UPSAMPLERS)
        if BASELINE not in [arm.text for arm in arms]:
            raise ValueError(f"operators must have {BASELINE} among them")
        for panel in _parse("architectures", self.architectures, ARCHITECTURES):
            if wrong := panel.options.keys() & {"classes", *OWN_MODEL_OPTIONS}:
                raise ValueError(f"architectures: {panel.text} cannot set {min(wrong)}")
        if self.training.seed + self.seeds - 1 > MAX_SEED:
            raise ValueError(f"seeds: training.seed + seeds - 1 must be at most {MAX_SEED}")
        self._refuse_own_options()

    def _refuse_own_options(self) -> None:
        """Refuses options of the training that the comparison sets."""
        for name in ("out", "resume", "threads"):
            if getattr(self.training, name) != getattr(TrainOptions(), name):
                raise ValueError(f"training.{name}: the comparison sets it, from its own {name}")
        if self.training.init is not None:
            raise ValueError("training.init: each operator has a model of its own; leave it out")
        for name, own in OWN_MODEL_OPTIONS.items():
            if getattr(self.training.model, name) != getattr(ModelOptions(), name):
                raise ValueError(f"training.model.{name}: the comparison sets it, from {own}")

    @property
    def arms(self) -> tuple[Variant, ...]:
        """The operators with their options."""
        return parse_variants(self.operators, UPSAMPLERS)

    @property
    def panels(self) -> tuple[Variant, ...]:
        """The architectures with options of the model."""
        return parse_variants(self.architectures, ARCHITECTURES)


def _parse(field_name: str, texts: tuple[str, ...], known: Iterable[str]) -> tuple[Variant, ...]:
    try:
        return parse_variants(texts, known)
    except ValueError as error:
        raise ValueError(f"{field_name} {error}") from None


@dataclass(frozen=True, slots=True, eq=False)
class Comparison:
    """The result of a comparison.

    Attributes:
        results: The content of results.json, see docs/comparison.md.
        samples: For each architecture, the first test images with the predictions of each
            operator's first model.
        palette: uint8 [K, 3], RGB.
    """

    results: dict[str, Any]
    samples: dict[str, list[pictures.Sample]]
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
    folder = Path(options.out)
    if (folder / RESULTS).exists() and not options.resume:
        raise InputError("exists already: --resume, or name a new --out", folder / RESULTS)
    check_folder(folder)
    comparison = compare_operators(options, show_progress=True)
    _write_files(comparison, folder)
    results = comparison.results
    print(f"{format_results(results)}\nthe report and its pictures: {folder / 'report.md'}")
    for failure in results["failures"]:
        print(f"failed: {failure['name']}: {failure['error']}", file=sys.stderr)
    return 1 if results["failures"] else 0


def _write_files(comparison: Comparison, folder: Path) -> None:
    """Writes the pictures, the report that shows them, and last, when all is there, the results."""
    results, figures = comparison.results, pictures.draw_all(comparison.results)
    for panel, samples in comparison.samples.items():
        if samples:
            figure = pictures.draw_predictions(
                pictures.most_informative(samples), comparison.palette
            )
            slug = parse_variant(panel, ARCHITECTURES).slug
            figures[f"predictions-{slug}.png"] = figure
    for name, figure in figures.items():
        with create_file(folder / name) as beside:
            figure.savefig(beside, format="png", dpi=100)
    with create_file(folder / "report.md") as beside:
        beside.write_text(format_report(results, list(figures)), "utf-8")
    with create_file(folder / RESULTS) as beside:
        beside.write_text(json.dumps(results, indent=1, allow_nan=False) + "\n", "utf-8")


def compare_operators(options: CompareOptions, *, show_progress: bool = False) -> Comparison:
    """Trains a model with each operator and each seed, and compares scores and costs.

    Processes are spawned where trainings run side by side: a script that calls this needs
    `if __name__ == "__main__":` around it.

    Args:
        options: The options.
        show_progress: Whether to print the score of each training on stderr, with a progress bar
            on a terminal.

    Raises:
        InputError: If the options or the data cannot be used.
        Diverged: If no training of the baseline, or of no other operator, came to an end.
    """
    training = options.training
    device = select_device(training.device)
    precision = resolve_precision(training.optimization.precision, device)
    training = replace(training, optimization=replace(training.optimization, precision=precision))
    options = replace(options, training=training)
    test, surveys = _open_splits(training, show_progress=show_progress)
    classes = len(test.classes)
    models = {panel.text: _match_models(options, panel, classes) for panel in options.panels}
    runs = list(_list_runs(options, models, surveys))
    with _ProgressReporter(len(runs) * training.epochs, show=show_progress) as reporter:
        finished = execute_runs(
            runs,
            processes=options.processes or _choose_processes(options.threads, device),
            threads=options.threads,
            finish=reporter.finish,
            advance=reporter.advance,
        )
    _require_results(finished)
    results = {
        "schema": SCHEMA,
        "program": PROGRAM,
        "options": msgspec.to_builtins(options),
        "environment": describe_environment(device) | {"threads": options.threads},
        "device": device.type,
        "split": f"{len(test)} images of {test.split}",
        "baseline": BASELINE,
        **_tabulate(options, models, finished, device),
        "failures": [{"name": r.run.name, "error": r.error} for r in finished if r.error],
    }
    samples = {panel: _collect_samples(finished, panel, test) for panel in models}
    return Comparison(results, samples, test.palette)


def _tabulate(
    options: CompareOptions,
    models: Models,
    finished: Sequence[RunResult],
    device: torch.device,
) -> dict[str, Any]:
    """The results of each architecture, and the size of the batch that its costs are for."""
    images = _example_batch(options.training, device)
    panels = {}
    with use_threads(options.threads):
        for panel in models:
            own = [result for result in finished if result.run.panel == panel and not result.error]
            costs = _measure_costs(models[panel], images, options.training)
            panels[panel] = tabulate_panel(own, costs, baseline=BASELINE)
    return {"batch": len(images), "size": list(images.shape[2:]), "panels": panels}


def _open_splits(
    training: TrainOptions, *, show_progress: bool
) -> tuple[SegmentationDataset, dict[str, Survey]]:
    """The test images, and what each split contains, which is read once for all trainings."""
    test = training.test or training.val
    datasets = {
        split: open_dataset(training.dataset, training.root, split, max_pixels=training.max_pixels)
        for split in dict.fromkeys([training.train, training.val, test])
    }
    surveys = {
        split: survey_dataset(dataset, show_progress=show_progress)
        for split, dataset in datasets.items()
    }
    return datasets[test], surveys


def _match_models(options: CompareOptions, panel: Variant, classes: int) -> dict[str, ModelOptions]:
    """The model of each arm, its decoder as wide as the budget says."""
    models = {}
    for arm in options.arms:
        own = {"architecture": panel.name, "classes": classes, **panel.options}
        own |= {"upsampling": arm.name, "upsampling_options": arm.options}
        try:
            model = replace(options.training.model, **own)
            build_meta_model(model)
            crop = options.training.augmentation.crop
            models[arm.text] = match_budget(model, options.budget, crop)
        except (TypeError, ValueError) as error:
            raise InputError(f"{panel.text}, {arm.text}: {error}") from None
    return models


def _list_runs(
    options: CompareOptions, models: Models, surveys: Mapping[str, Survey]
) -> Iterator[Run]:
    """All trainings; seeds in the outer loop, so that results of all operators exist early."""
    first = options.training.seed
    for seed in range(first, first + options.seeds):
        for panel, arm in product(options.panels, options.arms):
            training = replace(
                options.training,
                model=models[panel.text][arm.text],
                seed=seed,
                out=str(Path(options.out) / f"{panel.slug}-{arm.slug}-{seed}"),
                resume=options.resume,
            )
            kept = SAMPLE_POOL_SIZE if seed == first else 0
            yield Run(panel.text, arm.text, training, kept, surveys)


def _choose_processes(threads: int, device: torch.device) -> int:
    """One for each core, or as many as the threads of each leave; on a GPU one."""
    if device.type != "cpu":
        return 1
    threads = threads or torch.get_num_threads()
    return max(1, min(count_cores() // threads, MAX_PROCESSES))


def _require_results(finished: Sequence[RunResult]) -> None:
    """Requires a training of the baseline for each architecture.

    Raises:
        InputError: If one failed because of its input.
        Diverged: If it failed for another reason.
    """
    for panel in dict.fromkeys(result.run.panel for result in finished):
        baseline = [r for r in finished if (r.run.panel, r.run.arm) == (panel, BASELINE)]
        if all(result.error for result in baseline):
            failure = baseline[0]
            if failure.is_input_error:
                raise InputError(failure.error)
            raise Diverged(f"{failure.run.name}: {failure.error}")


class _ProgressReporter:
    """Shows the progress of trainings on stderr: a bar over epochs, a line for each training."""

    def __init__(self, epochs: int, *, show: bool) -> None:
        from tqdm import tqdm

        self.show = show
        self.bar = tqdm(total=epochs, unit="epoch", disable=None if show else True, leave=False)

    def __enter__(self) -> "_ProgressReporter":
        return self

    def __exit__(self, *error: object) -> None:
        self.bar.close()

    def advance(self) -> None:
        self.bar.update()

    def finish(self, result: RunResult) -> None:
        if not self.show:
            return
        if result.error:
            line = f"failed: {result.error}"
        else:
            seconds = sum(row["seconds"] for row in result.history)
            line = f"mIoU {result.semantic.mIoU:.4f}, {seconds:.0f} s"
        self.bar.write(f"{result.run.name}: {line}", file=sys.stderr)


def _collect_samples(
    finished: Sequence[RunResult], panel: str, test: SegmentationDataset
) -> list[pictures.Sample]:
    """The first test images with the predictions of each operator's first model."""
    predictions = {
        result.run.arm: result.scores.predictions
        for result in finished
        if result.run.panel == panel and result.run.kept and result.scores is not None
    }
    count = min(map(len, predictions.values()), default=0)
    samples = []
    for i in range(count):
        image, label = test[i]
        labels = {name: images[i] for name, images in predictions.items()}
        pixels = image.permute(1, 2, 0).numpy()
        samples.append(pictures.Sample(test.names[i], pixels, label.numpy(), labels))
    return samples


def _example_batch(training: TrainOptions, device: torch.device) -> Tensor:
    """A batch of the size and shape that a model is trained with, float32 [B, 3, H, W]."""
    count = training.batch_size // training.accumulate
    # Times do not depend on the values.
    images = torch.zeros(count, 3, *training.augmentation.crop, device=device)
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
