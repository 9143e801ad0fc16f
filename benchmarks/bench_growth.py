"""How evaluation's cost grows: from 10,000 to 3,000,000 detections, all else in proportion.

Run as `python -m benchmarks.bench_growth`. For N detections there are N / 20 images and N / 2
ground truths, of 80 classes at every size, without polygons. Arms are whole processes, as in
`bench_evaluate`, whose check of equality goes before.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.bench_evaluate import measured
from benchmarks.coco_like import Size
from benchmarks.harness import RESULTS, BenchmarkError, append_rows, log, names, whole_numbers
from benchmarks.peers import OURS, PEERS

__all__ = ["main", "proportional"]

SIZES = (10_000, 100_000, 1_000_000, 3_000_000)
PER_IMAGE = 20  # detections
PER_GROUND_TRUTH = 2  # detections
FASTEST_PEERS = ("hotcoco", "ultrafast-pycocotools")


def proportional(detections: int) -> Size:
    """The data set of so many detections.

    >>> proportional(10_000).images, proportional(10_000).ground_truths
    (500, 5000)
    """
    images = max(1, detections // PER_IMAGE)
    ground_truths = max(1, detections // PER_GROUND_TRUTH)
    return Size(images=images, ground_truths=ground_truths, detections=detections, polygons=False)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the benchmark; returns 1 if the arms disagree or one fails, else 0."""
    default = (OURS, *FASTEST_PEERS)
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bench_growth")
    add = parser.add_argument
    add("--sizes", type=whole_numbers, default=SIZES, metavar="N,N")
    add("--arms", type=names, default=default, metavar="A,A", help=f"[{','.join(default)}]")
    add("--repeats", type=int, default=7, metavar="R", help="[7]")
    add("--out", type=Path, default=RESULTS, metavar="CSV", help="rows are added to it")
    options = parser.parse_args(arguments)
    if unknown := {*options.arms} - {OURS, *PEERS}:
        parser.error(f"no arm {min(unknown)!r}; there are {OURS}, {', '.join(PEERS)}")
    try:
        for count in options.sizes:
            settings = {"name": str(count), "repeats": options.repeats, "with_phases": False}
            rows = measured("growth", options.arms, proportional(count), **settings)
            append_rows(rows, options.out)
    except BenchmarkError as error:
        log(f"error: {error}")
        return 1
    return 0


if __name__ == "__main__":
    from upmap.console import run

    sys.exit(run(main))
