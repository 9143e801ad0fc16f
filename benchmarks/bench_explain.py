"""What costs the points: TIDE's errors and their shares, beside an evaluation and tidecv.

Run as `python -m benchmarks.bench_explain`. All arms are calls within one process on the same
tables: matching and accumulating COCO's twelve numbers; the errors with the additive share of each
kind, which is what `--explain` adds; the errors as tidecv computes them; and tidecv. Before, its
numbers and ours are compared, and the shares added up.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

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
    whole_numbers,
)
from upmap.detection import Detections, GroundTruth, read
from upmap.metrics import COCO, match
from upmap.metrics.analysis.pairs import pair_detections
from upmap.metrics.analysis.tide import ErrorCosts, explain_errors, explain_errors_as_tidecv
from upmap.metrics.scores import evaluate_matches

__all__ = ["ARMS", "compare_numbers", "main", "make_steps", "measure"]

EVALUATE, SHARES, AS_TIDECV, PEER = "match and evaluate", "shares", "as tidecv", "tidecv"
ARMS = (EVALUATE, SHARES, AS_TIDECV, PEER)
TOLERANCE = 1e-9  # of tidecv's numbers, fractions; it adds up in another order
PEER_LIMIT = 100_000  # detections up to which tidecv takes less than some minutes


def share_errors(truth: GroundTruth, detections: Detections) -> ErrorCosts:
    """The errors and their shares, from tables."""
    table = match(truth, detections, COCO)
    return explain_errors(pair_detections(truth, detections, table), table)


def run_tidecv(truth: GroundTruth, detections: Detections) -> dict[str, float]:
    """What each kind of error costs by tidecv, from tables; fractions."""
    from tidecv import TIDE, Data

    objects, found = Data("objects"), Data("found")
    for image, key in enumerate(truth.catalog.images):  # whose order is that of equal scores
        objects.add_image(image, str(key))
    for image, label, is_crowd, box in _rows(truth, truth.crowd.tolist()):
        add = objects.add_ignore_region if is_crowd else objects.add_ground_truth
        add(image, label, box)
    for detection in _rows(detections, detections.score.tolist()):
        found.add_detection(*detection)
    run = TIDE().evaluate(objects, found, mode=TIDE.BOX)
    return {error.short_name: value / 100 for error, value in run.fix_main_errors().items()}


def make_steps(
    truth: GroundTruth, detections: Detections
) -> Mapping[str, Callable[[], Mapping[str, float]]]:
    """The arms: each returns its numbers by name."""
    return {
        EVALUATE: lambda: evaluate_matches(match(truth, detections, COCO)).metrics,
        SHARES: lambda: share_errors(truth, detections).shares,
        AS_TIDECV: lambda: explain_errors_as_tidecv(truth, detections).gains,
        PEER: lambda: run_tidecv(truth, detections),
    }


def compare_numbers(
    truth: GroundTruth, detections: Detections, numbers: Mapping[str, Mapping[str, float]]
) -> None:
    """Refuses shares that do not add up, and other numbers than tidecv's where it is an arm.

    Raises:
        BenchmarkError: If there are some.
    """
    missing = 1 - share_errors(truth, detections).mAP
    total = sum(numbers[SHARES].values())
    log(f"shares add up to {total:.6f}, and 1 - mAP is {missing:.6f}")
    if abs(total - missing) > TOLERANCE:
        raise BenchmarkError(f"the shares add up to {total}, not {missing}")
    for name, value in numbers.get(PEER, {}).items():
        if abs(numbers[AS_TIDECV][name] - value) > TOLERANCE:
            raise BenchmarkError(f"{name} costs {numbers[AS_TIDECV][name]}, by tidecv {value}")


def measure(detections: int, *, repeats: int, peer_limit: int) -> list[dict[str, str]]:
    """Makes a data set, compares the numbers, times the arms; returns the rows.

    Args:
        detections: How many the set has.
        repeats: How often each arm is run; tidecv runs once.
        peer_limit: Detections up to which tidecv is an arm.
    """
    with tempfile.TemporaryDirectory() as name:
        log(f"explain {detections}: making the data set")
        tables = read(*write(Path(name), Size(detections=detections, polygons=False)))
    steps = {**make_steps(*tables)}
    peer = steps.pop(PEER)
    numbers = {name: step() for name, step in steps.items()}
    runs = interleaved_steps(steps, repeats=repeats, progress=log)
    if detections <= peer_limit:
        runs |= interleaved_steps(
            {PEER: lambda: numbers.update({PEER: peer()})}, repeats=1, progress=log
        )
    compare_numbers(*tables, numbers)
    timings = {name: timing(of_arm) for name, of_arm in runs.items()}
    print(timing_table(f"what costs the points, {detections:,} detections", timings), flush=True)
    return [
        row("explain", name, detections, value, provenance(PEER if name == PEER else None))
        for name, value in timings.items()
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the benchmark; returns 1 if numbers disagree, else 0."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bench_explain")
    add = parser.add_argument
    add("--sizes", type=whole_numbers, default=(43_000, 500_000), metavar="N,N", help="[43000,...]")
    add("--repeats", type=int, default=9, metavar="R", help="[9]")
    add("--peer-limit", type=int, default=PEER_LIMIT, metavar="N", help="[100000]")
    add("--out", type=Path, default=RESULTS, metavar="CSV", help="rows are added to it")
    options = parser.parse_args(arguments)
    try:
        for size in options.sizes:
            rows = measure(size, repeats=options.repeats, peer_limit=options.peer_limit)
            append_rows(rows, options.out)
    except BenchmarkError as error:
        log(f"error: {error}")
        return 1
    return 0


def _rows(table: GroundTruth | Detections, values: Sequence[Any]) -> Any:
    """Image, class, a value and the box xywh of each row."""
    boxes = np.concatenate([table.box[:, :2], table.size], axis=1).tolist()
    return zip(table.image.tolist(), table.label.tolist(), values, boxes, strict=True)


if __name__ == "__main__":
    from upmap.console import run

    sys.exit(run(main))
