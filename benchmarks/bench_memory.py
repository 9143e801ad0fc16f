"""Evaluation of tensors in memory, side by side with torchmetrics' MeanAveragePrecision.

Run as `python -m benchmarks.bench_memory`. All arms are calls within one process on the same
tensors, one dict per image as torchvision's detectors return them: ours is
`upmap.metrics.mean_average_precision`, torchmetrics' are `update` and `compute` with two backends.
Before, all of their twelve numbers are found equal to the last bit of the float32 that torchmetrics
returns. For that it is given pycocotools' thresholds in double precision (its own are rounded to
float32), and corners lie on multiples of 1/64 px, where its float32 arithmetic of boxes is exact.
"""

import argparse
import sys
import tempfile
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.coco_like import Size, write
from benchmarks.harness import (
    RESULTS,
    BenchmarkError,
    append_rows,
    interleaved_steps,
    log,
    provenance,
    row,
    timing,
    timing_table,
)
from benchmarks.peers import OURS
from upmap.detection import Detections, GroundTruth, read
from upmap.metrics import COCO, mean_average_precision

__all__ = ["main", "measured", "refuse_unequal", "tensors"]

PEER = "torchmetrics"
Backend = Literal["pycocotools", "faster_coco_eval"]  # the default, and the fastest
GRID = 64  # corners are multiples of 1/64 px
THEIR_NAMES = {
    "AP": "map",
    "AP50": "map_50",
    "AP75": "map_75",
    "APs": "map_small",
    "APm": "map_medium",
    "APl": "map_large",
    "AR1": "mar_1",
    "AR10": "mar_10",
    "AR100": "mar_100",
    "ARs": "mar_small",
    "ARm": "mar_medium",
    "ARl": "mar_large",
}
Images = list[dict[str, torch.Tensor]]


def tensors(instances: Path, detections: Path) -> tuple[Images, Images]:
    """Targets and predictions of each image, float32 but for labels and crowds.

    Args:
        instances: Ground truth as an instances file.
        detections: A results file.
    """
    truth, found = read(instances, detections)
    crowd, area = truth.crowd.astype(np.int64), truth.area.astype(np.float32)
    targets = _split(truth, {"iscrowd": crowd, "area": area})
    return targets, _split(found, {"scores": found.score.astype(np.float32)})


def refuse_unequal(ours: Mapping[str, float], theirs: Mapping[str, Any]) -> None:
    """Ours must be what torchmetrics has, in float32.

    Raises:
        BenchmarkError: If a number is not.
    """
    for name, their_name in THEIR_NAMES.items():
        value, peer = np.float32(ours[name]), np.float32(theirs[their_name])
        if value != peer:
            raise BenchmarkError(f"{name} is {value!r}, torchmetrics' {their_name} {peer!r}")


def measured(size: Size, *, repeats: int) -> list[dict[str, str]]:
    """Makes tensors, finds the arms equal, times them, prints a table; returns the rows.

    Args:
        size: How large the data set is.
        repeats: How often each arm is called.
    """
    with tempfile.TemporaryDirectory() as folder:
        log(f"memory {size.detections}: making the data set")
        targets, predictions = tensors(*write(Path(folder), size))
    steps = _steps(targets, predictions)
    ours = mean_average_precision(targets, predictions, protocol=COCO)
    for backend in get_args(Backend):  # warms them up as well
        refuse_unequal(ours.metrics, steps[f"{PEER}, {backend}"]())
    runs = interleaved_steps(steps, repeats=repeats, progress=log)
    timings = {name: timing(of_arm) for name, of_arm in runs.items()}
    title = f"{size.images:,} images, {size.detections:,} detections, tensors in memory"
    print(timing_table(title, timings), end="\n\n", flush=True)
    return [
        row("memory", name, size.detections, one, provenance(None if name == OURS else PEER))
        for name, one in timings.items()
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the benchmark; returns 1 if the arms disagree, else 0."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bench_memory")
    add = parser.add_argument
    add("--detections", type=int, default=43_000, metavar="N", help="[43000]")
    add("--repeats", type=int, default=7, metavar="R", help="[7]")
    add("--out", type=Path, default=RESULTS, metavar="CSV", help="rows are added to it")
    options = parser.parse_args(arguments)
    try:
        rows = measured(Size(detections=options.detections), repeats=options.repeats)
        append_rows(rows, options.out)
    except BenchmarkError as error:
        log(f"error: {error}")
        return 1
    return 0


def _steps(targets: Images, predictions: Images) -> dict[str, Callable[[], Any]]:
    """Name of the arm to its call."""

    def theirs(backend: Backend) -> Callable[[], Any]:
        return lambda: _torchmetrics(targets, predictions, backend)

    ours = {OURS: lambda: mean_average_precision(targets, predictions, protocol=COCO)}
    return ours | {f"{PEER}, {backend}": theirs(backend) for backend in get_args(Backend)}


def _torchmetrics(targets: Images, predictions: Images, backend: Backend) -> Any:
    from torchmetrics.detection import MeanAveragePrecision

    metric = MeanAveragePrecision(
        backend=backend,
        iou_thresholds=np.linspace(0.5, 0.95, 10).tolist(),
        rec_thresholds=np.linspace(0, 1, 101).tolist(),
    )
    metric.warn_on_many_detections = False
    metric.update(predictions, targets)
    return metric.compute()


def _split(
    table: GroundTruth | Detections, columns: dict[str, NDArray[Any]]
) -> list[dict[str, torch.Tensor]]:
    """One dict of tensors for each image."""
    order = np.argsort(table.image, kind="stable")
    ends = np.searchsorted(table.image[order], np.arange(len(table.catalog.images)), "right")
    box = (np.round(table.box * GRID) / GRID).astype(np.float32)
    columns |= {"boxes": box, "labels": table.label.astype(np.int64)}
    parts = {name: np.split(values[order], ends[:-1]) for name, values in columns.items()}
    return [
        {name: torch.from_numpy(part[i].copy()) for name, part in parts.items()}
        for i in range(len(ends))
    ]


if __name__ == "__main__":
    from upmap.console import run

    warnings.simplefilter("ignore")  # of torchmetrics' imports
    sys.exit(run(main))
