"""A training with the fused loss and with torch's: the same curve, time and peak memory of both.

Run as `python -m benchmarks.bench_fused_training`. Both arms are whole trainings on drawn shapes,
in turn; their losses after each epoch must agree.
"""

import argparse
import csv
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.harness import (
    ROOT,
    Arm,
    BenchmarkError,
    Run,
    append_rows,
    one_run,
    provenance,
)

__all__ = ["COLUMNS", "main", "refuse_other_curves"]

RESULTS = ROOT / "benchmarks" / "fused_training.csv"
ALLOWED = 1e-3  # of a loss, after some steps of float32 that round differently
IMAGES = 192  # that whole batches of an epoch have
EPOCHS = 3
COLUMNS = (
    "commit",
    "arm",
    "repeats",
    "epochs",
    "images_per_s",
    "peak_rss_mb",
    "curve",
    "cpu",
    "cores",
)
OPTIONS = {
    "epochs": str(EPOCHS),
    "batch_size": "32",
    "factor": "0.5",
    "full_labels": "true",
    "model.architecture": "fcn8s",
    "model.depth": "3",
    "model.width": "16",
    "augmentation.crop": "[192, 256]",
}


def refuse_other_curves(ours: Sequence[float], theirs: Sequence[float]) -> None:
    """Refuses losses that are further apart than ALLOWED.

    Raises:
        BenchmarkError: Says which.
    """
    for epoch, (one, other) in enumerate(zip(ours, theirs, strict=True), 1):
        if abs(one - other) > ALLOWED * abs(other):
            raise BenchmarkError(f"epoch {epoch}: a loss of {one}, torch has {other}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the benchmark; returns its exit status."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--repeats", type=int, default=3, help="trainings of each arm [3]")
    options = parser.parse_args(arguments)
    runs: dict[str, list[tuple[Run, list[dict[str, str]]]]] = {"torch": [], "fused": []}
    for _ in range(options.repeats):
        for arm, found in runs.items():
            found.append(_trained(arm))
            print(f"{arm}: {found[-1][0].wall_s:.1f} s", file=sys.stderr)
    curves = {arm: _curve(found[0][1]) for arm, found in runs.items()}
    refuse_other_curves(curves["fused"], curves["torch"])
    rows = [_row(arm, found) for arm, found in runs.items()]
    append_rows(rows, RESULTS, COLUMNS)
    for row in rows:
        print("  ".join(f"{key} {row[key]}" for key in COLUMNS[1:7]))
    return 0


def _trained(arm: str) -> tuple[Run, list[dict[str, str]]]:
    """One training, and its history."""
    with tempfile.TemporaryDirectory() as folder:
        chosen = OPTIONS | {"out": f"{folder}/out"}
        if arm == "torch":
            chosen["loss.impl"] = "reference"
        flags = [word for key, value in chosen.items() for word in (f"--{key}", value)]
        run = one_run(Arm(arm, (sys.executable, "-m", "segmentation.train", *flags)))
        with Path(folder, "out", "history.csv").open(newline="") as file:
            return run, list(csv.DictReader(file))


def _curve(history: Sequence[dict[str, str]]) -> list[float]:
    return [float(row["loss"]) for row in history]


def _row(arm: str, found: Sequence[tuple[Run, list[dict[str, str]]]]) -> dict[str, str]:
    made_with = provenance()
    epochs = [float(row["seconds"]) for _, history in found for row in history]
    return {
        "commit": made_with.commit,
        "arm": arm,
        "repeats": str(len(found)),
        "epochs": str(EPOCHS),
        "images_per_s": f"{IMAGES / np.median(epochs):.1f}",
        "peak_rss_mb": f"{max(run.peak_rss_mb for run, _ in found):.0f}",
        "curve": " ".join(f"{value:.5f}" for value in _curve(found[0][1])),
        "cpu": made_with.cpu,
        "cores": str(made_with.cores),
    }


if __name__ == "__main__":
    from upmap.console import run

    sys.exit(run(main))
