"""Mixed precision: scores, time and memory of training in fp32, bf16 and fp16, side by side.

Run as `python -m benchmarks.bench_precision`. Every precision trains the drawn shapes with the same
seeds and schedule; their mean scores must lie within the seeds' spread of each other.
"""

import argparse
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from benchmarks.harness import ROOT, BenchmarkError, append_rows, provenance
from upmap.segmentation.compare import CompareOptions
from upmap.segmentation.comparison.measurement import Measurement, measure_models
from upmap.segmentation.device import select_device
from upmap.segmentation.models import ModelOptions, build_model
from upmap.segmentation.optimization import PRECISIONS
from upmap.segmentation.train import train_model
from upmap.segmentation.training_options import TrainOptions

__all__ = ["COLUMNS", "main", "refuse_apart", "scored"]

RESULTS = ROOT / "benchmarks" / "precision.csv"
SPREADS = 2  # that means of the same distribution rarely lie apart
COLUMNS = (
    "commit",
    "precision",
    "seeds",
    "mIoU_mean",
    "mIoU_sd",
    "forward_ms",
    "forward_backward_ms",
    "memory_mib",
    "torch",
    "device",
    "cores",
)


def scored(
    precisions: Sequence[str], seeds: int, training: TrainOptions, folder: Path
) -> dict[str, list[float]]:
    """The mIoU of trainings, for each precision one for each seed."""
    found: dict[str, list[float]] = {name: [] for name in precisions}
    for seed in range(seeds):
        for name in precisions:
            step = replace(training.optimization, precision=name)
            out = str(folder / f"{name}-{seed}")
            seeded = replace(training, optimization=step, seed=seed, out=out)
            found[name].append(train_model(seeded).scores.mIoU)
            print(f"{name}, seed {seed}: mIoU {found[name][-1]:.4f}", file=sys.stderr)
    return found


def refuse_apart(scores: Mapping[str, Sequence[float]]) -> None:
    """Refuses mean scores further from fp32's than SPREADS pooled standard deviations.

    Raises:
        BenchmarkError: Names the precision.
    """
    base = scores["fp32"]
    for name, values in scores.items():
        spread = float(np.sqrt((np.var(values, ddof=1) + np.var(base, ddof=1)) / 2))
        difference = float(np.mean(values) - np.mean(base))
        if abs(difference) > SPREADS * spread:
            raise BenchmarkError(f"{name}: mIoU differs by {difference:+.4f}, spread {spread:.4f}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the benchmark; returns its exit status."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--seeds", type=int, default=3, help="trainings of each [3], at least 2")
    parser.add_argument("--precisions", nargs="+", default=[*PRECISIONS], choices=[*PRECISIONS])
    parser.add_argument("--device", default="auto", help="cuda, cpu or auto [auto]")
    options = parser.parse_args(arguments)
    if options.seeds < 2:
        parser.error("--seeds: one seed has no spread")
    precisions = list(dict.fromkeys(["fp32", *options.precisions]))
    training = replace(CompareOptions().training, device=options.device)
    with tempfile.TemporaryDirectory() as folder:
        scores = scored(precisions, options.seeds, training, Path(folder))
    refuse_apart(scores)
    device = select_device(options.device)
    rows = _rows(scores, _costs(precisions, device), device)
    append_rows(rows, RESULTS, COLUMNS)
    for row in rows:
        print("  ".join(f"{key} {row[key]}" for key in COLUMNS[1:8]))
    return 0


def _costs(precisions: Sequence[str], device: torch.device) -> dict[str, Measurement]:
    """Of the default U-Net, for a batch of 8, 192 x 256 px, channels last."""
    models = {
        name: build_model(ModelOptions(classes=6)).to(device).to(memory_format=torch.channels_last)
        for name in precisions
    }
    images = torch.zeros(8, 3, 192, 256, device=device)
    images = images.contiguous(memory_format=torch.channels_last)
    return measure_models(models, images, precision={name: name for name in precisions})


def _rows(
    scores: Mapping[str, Sequence[float]], costs: Mapping[str, Measurement], device: torch.device
) -> list[dict[str, str]]:
    made_with = provenance()
    is_gpu = device.type == "cuda"
    return [
        {
            "commit": made_with.commit,
            "precision": name,
            "seeds": str(len(values)),
            "mIoU_mean": f"{np.mean(values):.4f}",
            "mIoU_sd": f"{np.std(values, ddof=1):.4f}",
            "forward_ms": f"{1e3 * costs[name].forward:.2f}",
            "forward_backward_ms": f"{1e3 * costs[name].forward_backward:.2f}",
            "memory_mib": f"{costs[name].memory / 2**20:.1f}",
            "torch": torch.__version__,
            "device": torch.cuda.get_device_name(device) if is_gpu else made_with.cpu,
            "cores": str(made_with.cores),
        }
        for name, values in scores.items()
    ]


if __name__ == "__main__":
    from upmap.console import run

    sys.exit(run(main))
