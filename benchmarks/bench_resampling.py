"""What uncertainty costs beside the evaluation itself: influence, the bootstrap, comparisons.

Run as `python -m benchmarks.bench_resampling`. All arms are steps within one process, on the data
of `bench_evaluate`. Before, these are found equal: our numbers and hotcoco's; the standard errors
from the kernel's sums and from the influence of each image; those of one thread and of several, in
every bit; and the evaluation and a replicate in which every image stands once. hotcoco's `compare`
resamples two detectors, as ours does, here one with itself, and is given fewer replicates.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.coco_like import Size, write
from benchmarks.harness import (
    RESULTS,
    BenchmarkError,
    Run,
    append_rows,
    interleaved_steps,
    log,
    provenance,
    row,
    timing,
    timing_table,
    whole_numbers,
)
from upmap.detection.formats import read_detections, read_ground_truth
from upmap.metrics import COCO, Evaluation, MatchTable, evaluate_matches, match
from upmap.metrics.analysis import compare, estimate_uncertainty
from upmap.metrics.analysis.uncertainty import (
    bootstrap_numbers,
    collect_outcomes,
    compute_influence,
    mean_standard_error,
    plan_quantities,
)

__all__ = ["check_equality", "main", "measure"]

PEER = "hotcoco"
SINGLE, ROUNDING = 1e-6, 1e-12  # of replicates, which are sums in float32; of sums in double


def check_equality(evaluation: Evaluation, threads: Sequence[int]) -> None:
    """Finds equal what must be.

    Args:
        evaluation: The numbers.
        threads: Numbers of threads.

    Raises:
        BenchmarkError: If something is not.
    """
    table = evaluation.match_table
    results = [estimate_uncertainty(table, evaluation=evaluation, threads=n) for n in threads]
    if len({str(result.metrics) + str(result.per_class) for result in results}) > 1:
        raise BenchmarkError("the number of threads changes a standard error")
    outcomes = collect_outcomes(table)
    places, quantities = plan_quantities(table.protocol)
    by_quantity = compute_influence(outcomes, quantities)
    ones = np.ones((1, len(table.images)), np.uint8)
    plain = bootstrap_numbers(table.protocol, outcomes, [ones])[0][0]
    numbers = zip(places.items(), plain, evaluation.metrics.values(), strict=True)
    for (name, q), replicate, value in numbers:
        if q is None or np.isnan(value):
            continue
        error = results[0].metrics[name].standard_error
        if abs(error - mean_standard_error(by_quantity[q])) > ROUNDING:
            raise BenchmarkError(f"the standard errors of {name} differ")
        if abs(replicate - value) > SINGLE:
            raise BenchmarkError(f"{name} is {value}, in a replicate of all images {replicate}")


def measure(
    size: Size, *, repeats: int, replicates: int, peer_replicates: int, threads: Sequence[int]
) -> dict[str, list[Run]]:
    """Makes a data set, finds equal what must be, and times the arms.

    Args:
        size: The data set's.
        repeats: How often each arm is run.
        replicates: Of our bootstrap.
        peer_replicates: Of hotcoco's; 0 leaves it out.
        threads: Numbers of threads of our arms.
    """
    with tempfile.TemporaryDirectory() as folder:
        instances, detections = write(Path(folder), size)
        truth = read_ground_truth(instances)
        tables = truth, read_detections(detections, truth.catalog)
        table = match(*tables, COCO)
        evaluation = evaluate_matches(table)
        check_equality(evaluation, threads)
        steps: dict[str, Callable[[], object]] = {}
        for n in threads:
            steps |= _our_steps(tables, table, evaluation, n, replicates)
        if peer_replicates:
            steps |= _peer_step(instances, detections, evaluation, peer_replicates)
        return interleaved_steps(steps, repeats=repeats, progress=log)


def _our_steps(
    tables: Any, table: MatchTable, evaluation: Evaluation, threads: int, replicates: int
) -> dict[str, Callable[[], object]]:
    truth, detections = tables
    count = f"{threads} thread{'s' if threads > 1 else ''}"
    bootstrap: Any = {"method": "bootstrap", "replicates": replicates, "threads": threads}
    return {
        f"match and evaluate, {count}": lambda: evaluate_matches(
            match(truth, detections, COCO, threads=threads), threads=threads
        ),
        f"influence, {count}": lambda: estimate_uncertainty(
            table, evaluation=evaluation, threads=threads
        ),
        f"{replicates} replicates, {count}": lambda: estimate_uncertainty(
            table, evaluation=evaluation, **bootstrap
        ),
        f"compare, {replicates} replicates, {count}": lambda: compare(table, table, **bootstrap),
    }


def _peer_step(
    instances: Path, detections: Path, evaluation: Evaluation, replicates: int
) -> dict[str, Callable[[], object]]:
    from hotcoco import COCO as Data
    from hotcoco import COCOeval
    from hotcoco import compare as compare_by_hotcoco

    data = Data(str(instances))
    first, second = (COCOeval(data, data.load_res(str(detections)), "bbox") for _ in range(2))
    first.evaluate()
    second.evaluate()
    numbers = compare_by_hotcoco(first, second)["metrics_a"]
    for name, value in evaluation.metrics.items():
        if name in numbers and abs(numbers[name] - value) > ROUNDING:
            raise BenchmarkError(f"{name} is {value}, by {PEER} {numbers[name]}")
    name = f"{PEER} compare, {replicates} replicates"
    return {name: lambda: compare_by_hotcoco(first, second, n_bootstrap=replicates)}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the benchmark; returns 1 if something is not equal, else 0."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bench_resampling")
    add = parser.add_argument
    add("--sizes", type=whole_numbers, default=(43_000, 500_000), metavar="N,N")
    add("--threads", type=whole_numbers, default=(1, 2), metavar="N,N", help="[1,2]")
    add("--repeats", type=int, default=5, metavar="R", help="[5]")
    add("--replicates", type=int, default=1000, metavar="B", help="[1000]")
    text = f"of {PEER}, 0 leaves it out [10]"
    add("--peer-replicates", type=int, default=10, metavar="B", help=text)
    add("--out", type=Path, default=RESULTS, metavar="CSV", help="rows are added to it")
    options = parser.parse_args(arguments)
    for count in options.sizes:
        try:
            runs = measure(
                Size(detections=count),
                repeats=options.repeats,
                replicates=options.replicates,
                peer_replicates=options.peer_replicates,
                threads=options.threads,
            )
        except BenchmarkError as error:
            log(f"error: {error}")
            return 1
        timings = {name: timing(of_arm) for name, of_arm in runs.items()}
        print(timing_table(f"{count:,} detections", timings), end="\n\n", flush=True)
        rows = [
            row("resampling", name, count, numbers, provenance(PEER if PEER in name else None))
            for name, numbers in timings.items()
        ]
        append_rows(rows, options.out)
    return 0


if __name__ == "__main__":
    from upmap.console import run

    sys.exit(run(main))
