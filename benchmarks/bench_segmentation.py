"""Loading, training steps and scoring of the CamVid configuration, beside an earlier commit's.

Run as `python -m benchmarks.bench_segmentation --before PYTHON`, PYTHON being the interpreter of an
environment in which the earlier commit is installed. Arms take turns, each with one thread; all
that they compute must be equal to the bit: views, weights after every step, counts of the scores.
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from benchmarks.harness import (
    RESULTS,
    Arm,
    BenchmarkError,
    append_rows,
    interleaved_runs,
    log,
    names,
    provenance,
    row,
    timing,
    timing_table,
)
from upmap.data.shapes import CLASSES, scenes

__all__ = ["main", "write_camvid_like"]

WORKER = Path(__file__).with_name("segmentation_parts.py")
PARTS = ("load", "train", "score")
WIDTH, HEIGHT = 480, 360  # px; CamVid's
SPLITS = {"train": 96, "test": 24}  # number of images


def write_camvid_like(folder: Path) -> None:
    """Writes drawn scenes in the layout of CamVid and at its size: JPEG images, labels in PNG.

    Args:
        folder: The folder, which exists.
    """
    classes = ", ".join(f'"{name}"' for name in ("background", *CLASSES, *"abcde"))
    (folder / "classes.json").write_text(f'{{"classes": [{classes}]}}', "utf-8")
    for seed, (split, count) in enumerate(SPLITS.items()):
        stems = [f"{split}_{i:04d}" for i in range(count)]
        (folder / f"{split}.txt").write_text("\n".join(stems) + "\n", "utf-8")
        for kind in ("images", "labels"):
            (folder / split / kind).mkdir(parents=True)
        for stem, scene in zip(stems, scenes(count, seed, colored=True), strict=True):
            image = cv2.resize(scene.image, (WIDTH, HEIGHT))
            label = cv2.resize(scene.mask, (WIDTH, HEIGHT), interpolation=cv2.INTER_NEAREST)
            Image.fromarray(image).save(folder / split / "images" / f"{stem}.jpg", quality=90)
            Image.fromarray(label.astype(np.uint8)).save(folder / split / "labels" / f"{stem}.png")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the benchmark; returns 1 if the arms disagree or one fails, else 0."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bench_segmentation")
    add = parser.add_argument
    add("--before", metavar="PYTHON", help="the interpreter of the earlier commit's environment")
    add("--root", type=Path, metavar="DIR", help="CamVid; else scenes of its size are drawn")
    add("--parts", type=names, default=PARTS, metavar="A,A", help=f"[{','.join(PARTS)}]")
    add("--repeats", type=int, default=5, metavar="R", help="[5]")
    add("--out", type=Path, default=RESULTS, metavar="CSV", help="rows are added to it")
    options = parser.parse_args(arguments)
    if unknown := {*options.parts} - {*PARTS}:
        parser.error(f"no part {min(unknown)!r}; there are {', '.join(PARTS)}")
    interpreters = {"upmap": sys.executable}
    if options.before:
        interpreters["before"] = options.before
    try:
        with tempfile.TemporaryDirectory() as scratch:
            root = options.root or Path(scratch)
            if options.root is None:
                write_camvid_like(root)
            for part in options.parts:
                rows = _measure(part, interpreters, root, Path(scratch), options.repeats)
                append_rows(rows, options.out)
    except BenchmarkError as error:
        log(f"error: {error}")
        return 1
    return 0


def _measure(
    part: str, interpreters: dict[str, str], root: Path, scratch: Path, repeats: int
) -> list[dict[str, str]]:
    """The rows of one part; refuses arms that compute anything else."""
    digests = {name: scratch / f"{name}.digest" for name in interpreters}
    arms = [
        Arm(
            name,
            (python, "-P", str(WORKER), part, str(root), str(scratch / name), str(digests[name])),
            report=scratch / name,
            variables={"OMP_NUM_THREADS": "1"},
        )
        for name, python in interpreters.items()
    ]
    runs = interleaved_runs(arms, repeats=repeats, progress=log)
    if len({path.read_text() for path in digests.values()}) > 1:
        raise BenchmarkError(f"{part}: the arms compute different numbers")
    timings = {name: timing(of_arm) for name, of_arm in runs.items()}
    print(timing_table(part, timings))
    made_with = provenance()
    return [row(f"segmentation {part}", name, "camvid", timings[name], made_with) for name in runs]


if __name__ == "__main__":
    sys.exit(main())
