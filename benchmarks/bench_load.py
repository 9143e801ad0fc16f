"""Reading a results file, side by side with the peers whose reading is a step of its own.

Run as `python -m benchmarks.bench_load`. An arm is a process that imports, reads the instances
file, and then counts the seconds of one call: ours (`upmap.read_detections`) makes a table of
columns that is checked against the ground truth, a peer's makes what its evaluation takes
(`loadRes`). Vernier hands the file's bytes to its evaluation, which cannot be told apart from its
reading: it is no arm. Before, whole evaluations of the same files are found equal.
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.bench_evaluate import compared
from benchmarks.coco_like import Size, write
from benchmarks.harness import (
    RESULTS,
    BenchmarkError,
    append_rows,
    interleaved_runs,
    log,
    names,
    provenance,
    row,
    timing,
    timing_table,
    whole_numbers,
)
from benchmarks.peers import OURS, PEERS, loading_arm

__all__ = ["main", "measured"]

READERS = (OURS, *(peer.name for peer in PEERS.values() if peer.loads))


def measured(arms: Sequence[str], detections: int, *, repeats: int) -> list[dict[str, str]]:
    """Makes a data set, finds the arms equal, times their reading; returns the rows.

    Args:
        arms: The arms' names.
        detections: How many the file has.
        repeats: How often each arm is run.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        log(f"load {detections}: making the data set")
        files = write(folder, Size(detections=detections))
        compared(arms, *files)
        each = [loading_arm(arm, *files, folder / arm) for arm in arms]
        runs = interleaved_runs(each, repeats=repeats, progress=log)
    timings = {arm: timing(of_arm) for arm, of_arm in runs.items()}
    title = f"{detections:,} detections read; peak memory is the whole process's"
    print(timing_table(title, timings), end="\n\n", flush=True)
    return [
        row("load", arm, detections, one, provenance(arm if arm in PEERS else None))
        for arm, one in timings.items()
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the benchmark; returns 1 if the arms disagree or one fails, else 0."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bench_load")
    add = parser.add_argument
    add("--sizes", type=whole_numbers, default=(500_000,), metavar="N,N", help="[500000]")
    add("--arms", type=names, default=READERS, metavar="A,A", help=f"[{','.join(READERS)}]")
    add("--repeats", type=int, default=9, metavar="R", help="[9]")
    add("--out", type=Path, default=RESULTS, metavar="CSV", help="rows are added to it")
    options = parser.parse_args(arguments)
    if unknown := {*options.arms} - {*READERS}:
        parser.error(f"no arm {min(unknown)!r}; there are {', '.join(READERS)}")
    try:
        for size in options.sizes:
            rows = measured(options.arms, size, repeats=options.repeats)
            append_rows(rows, options.out)
    except BenchmarkError as error:
        log(f"error: {error}")
        return 1
    return 0


if __name__ == "__main__":
    from upmap.console import run

    sys.exit(run(main))
