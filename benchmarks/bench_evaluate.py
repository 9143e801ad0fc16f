"""COCO evaluation of files on disk, side by side with its peers: `python -m metrics.evaluate`.

Run as `python -m benchmarks.bench_evaluate`. Every arm is a whole process that reads the same two
files and prints the twelve numbers of COCOeval.summarize. Before, our twelve numbers are found to
equal every arm's to the last bit (faster-coco-eval's to 1e-15), and all arrays pycocotools'; where
another peer's arrays differ from ours, by how much is said.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.coco_like import Size, write
from benchmarks.harness import (
    RESULTS,
    SLOW_REPEATS,
    BenchmarkError,
    Run,
    append_rows,
    interleaved_runs,
    interleaved_steps,
    log,
    names,
    provenance,
    row,
    timing,
    timing_table,
    whole_numbers,
)
from benchmarks.peers import OURS, PEERS, Answers, Peer, answers, evaluation_arm
from upmap.detection.formats import read_detections, read_ground_truth
from upmap.metrics import COCO, evaluate_matches, match, mean_average_precision
from upmap.metrics.curves import accumulate

__all__ = [
    "OBJECTS365",
    "Difference",
    "compared",
    "differences",
    "main",
    "measured",
    "our_answers",
    "phases",
    "size_named",
]

PHASE_REPEATS = 5
OBJECTS365 = "objects365"
SIZES = {  # of what is like COCO val2017 the number of detections is the name
    OBJECTS365: Size(
        images=80_000, classes=365, ground_truths=1_200_000, detections=3_000_000, polygons=False
    )
}
NEED_MORE_MEMORY = {OBJECTS365: ("pycocotools", "faster-coco-eval")}  # than 14 GB


@dataclass(frozen=True, slots=True)
class Difference:
    """Where a peer's array is not ours.

    Attributes:
        array: Its name.
        count: How many values differ in at least one bit.
        total: Of how many.
        largest: The largest absolute difference.
    """

    array: str
    count: int
    total: int
    largest: float

    def __str__(self) -> str:
        return f"{self.array}: {self.count} of {self.total} values differ, by up to {self.largest}"


def size_named(name: str) -> Size:
    """The data set that a name on the command line stands for.

    Raises:
        ValueError: If there is none.
    """
    if name in SIZES:
        return SIZES[name]
    if not name.isdecimal():
        raise ValueError(f"a size is a number of detections or {', '.join(SIZES)}, not {name!r}")
    return Size(detections=int(name))


def our_answers(instances: Path, detections: Path) -> Answers:
    """What `peers.answers` gives, of ours; where ours is NaN, COCO has -1."""
    ours = mean_average_precision(instances, detections, protocol=COCO)
    found = accumulate(ours.match_table, with_scores=True)
    arrays = {name: getattr(found, name) for name in ("precision", "recall", "scores")}
    arrays["stats"] = np.array(list(ours.metrics.values()))
    return {name: np.where(np.isnan(values), -1.0, values) for name, values in arrays.items()}


def differences(ours: Answers, theirs: Answers) -> list[Difference]:
    """In which of the arrays that a peer has it is not bit for bit ours.

    Args:
        ours: All of our arrays.
        theirs: A peer's.

    Raises:
        BenchmarkError: If an array has another shape.
    """
    found = []
    for name, values in theirs.items():
        if values.shape != ours[name].shape:
            raise BenchmarkError(f"{name} has the shape {ours[name].shape}, not {values.shape}")
        count = int(np.count_nonzero(_bits(values) != _bits(ours[name])))
        largest = float(np.abs(values - ours[name]).max(initial=0))
        found.append(Difference(name, count, values.size, largest))
    return [one for one in found if one.count]


def compared(arms: Sequence[str], instances: Path, detections: Path) -> dict[str, list[Difference]]:
    """In what the peers differ from us, where they may.

    Args:
        arms: Their names; ours may be among them.
        instances: Ground truth as an instances file.
        detections: A results file.

    Raises:
        BenchmarkError: If a peer's twelve numbers are not ours within its tolerance, or one of
            pycocotools' arrays not to the last bit.
    """
    ours = our_answers(instances, detections)
    found = {}
    for peer in (PEERS[name] for name in arms if name != OURS):
        log(f"comparing with {peer.name}")
        unequal = differences(ours, answers(peer, instances, detections))
        if refused := [one for one in unequal if not _may_differ(peer, one)]:
            raise BenchmarkError(f"not equal to {peer.name}: {'; '.join(map(str, refused))}")
        found[peer.name] = unequal
    return found


def phases(
    instances: Path, detections: Path, *, repeats: int = PHASE_REPEATS
) -> dict[str, list[Run]]:
    """How long each step of ours takes within one process that is warm.

    Args:
        instances: Ground truth as an instances file.
        detections: A results file.
        repeats: How often each.

    Returns:
        Name of the phase to its runs; their peak memory is not measured.
    """
    truth = read_ground_truth(instances)
    found = read_detections(detections, truth.catalog)
    table = match(truth, found, COCO)
    steps: dict[str, Callable[[], object]] = {
        "load ground truth": lambda: read_ground_truth(instances),
        "load detections": lambda: read_detections(detections, truth.catalog),
        "match": lambda: match(truth, found, COCO),
        "accumulate and summarize": lambda: evaluate_matches(table),
    }
    return interleaved_steps(steps, repeats=repeats)


def measured(
    benchmark: str,
    arms: Sequence[str],
    size: Size,
    *,
    name: str,
    repeats: int,
    slow_repeats: int = SLOW_REPEATS,
    with_phases: bool = True,
) -> list[dict[str, str]]:
    """Makes a data set, finds the arms equal, times them, prints a table; returns the rows.

    Args:
        benchmark: What the results call it.
        arms: The arms' names.
        size: The data set's.
        name: What the results call the size.
        repeats: How often each arm is run.
        slow_repeats: How often a slow one; see `interleaved_runs`.
        with_phases: Whether our phases are timed as well.
    """
    with tempfile.TemporaryDirectory() as folder:
        log(f"{benchmark} {name}: making the data set")
        files = write(Path(folder), size)
        unequal = compared(arms, *files)
        runs = interleaved_runs(
            [evaluation_arm(arm, *files) for arm in arms],
            repeats=repeats,
            slow_repeats=slow_repeats,
            progress=log,
        )
        steps = phases(*files) if with_phases else {}
    _print_tables(size, unequal, runs, steps)
    return _rows(benchmark, name, runs) + _rows(f"{benchmark} phases", name, steps)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the benchmark; returns 1 if the arms disagree or one fails, else 0."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if len(options.repeats) not in (1, len(options.sizes)):
        parser.error(f"--repeats takes one number or {len(options.sizes)}, one for each size")
    if unknown := {*options.arms} - {OURS, *PEERS}:
        parser.error(f"no arm {min(unknown)!r}; there are {OURS}, {', '.join(PEERS)}")
    repeats = options.repeats * (len(options.sizes) if len(options.repeats) == 1 else 1)
    try:
        sizes = [size_named(name) for name in options.sizes]
    except ValueError as error:
        parser.error(str(error))
    try:
        for name, size, times in zip(options.sizes, sizes, repeats, strict=True):
            arms = options.arms or _arms_at(name)
            settings = {"name": name, "repeats": times, "slow_repeats": options.slow_repeats}
            append_rows(measured("evaluate", arms, size, **settings), options.out)
    except BenchmarkError as error:
        log(f"error: {error}")
        return 1
    return 0


def _may_differ(peer: Peer, difference: Difference) -> bool:
    is_number = difference.array == "stats"
    return difference.largest <= peer.tolerance if is_number else not peer.is_exact


def _arms_at(size: str) -> list[str]:
    """All arms that a size is not too large for."""
    missing = NEED_MORE_MEMORY.get(size, ())
    if missing:
        log(f"{size}: without {' and '.join(missing)}, which need much memory; --arms adds them")
    return [arm for arm in (OURS, *PEERS) if arm not in missing]


def _rows(benchmark: str, size: str, runs: Mapping[str, Sequence[Run]]) -> list[dict[str, str]]:
    """A row for each arm; a peer's with its version."""
    return [
        row(benchmark, arm, size, timing(of_arm), provenance(arm if arm in PEERS else None))
        for arm, of_arm in runs.items()
    ]


def _print_tables(
    size: Size,
    unequal: Mapping[str, Sequence[Difference]],
    runs: Mapping[str, Sequence[Run]],
    steps: Mapping[str, Sequence[Run]],
) -> None:
    title = (
        f"{size.images:,} images, {size.ground_truths:,} ground truths, "
        f"{size.detections:,} detections"
    )
    print(timing_table(title, {name: timing(of_arm) for name, of_arm in runs.items()}), end="\n\n")
    for name, found in unequal.items():
        said = "; ".join(map(str, found)) or "equal to upmap in every bit of every array it gives"
        print(f"{name}: {said}")
    if steps:
        phase_timings = {name: timing(of_phase) for name, of_phase in steps.items()}
        print("\n" + timing_table("our phases, in a warm process", phase_timings))
    print(flush=True)


def _bits(values: NDArray[np.float64]) -> NDArray[np.uint64]:
    return np.ascontiguousarray(values, np.float64).view(np.uint64)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bench_evaluate")
    add = parser.add_argument
    sizes = ("43000", "500000", OBJECTS365)
    add("--sizes", type=names, default=sizes, metavar="N,N", help=f"[{','.join(sizes)}]")
    add("--arms", type=names, default=(), metavar="A,A", help=f"of {OURS} and its peers [all]")
    add("--repeats", type=whole_numbers, default=(7,), metavar="R,R", help="for each size [7]")
    text = f"of an arm whose warm-up takes long [{SLOW_REPEATS}]"
    add("--slow-repeats", type=int, default=SLOW_REPEATS, metavar="R", help=text)
    add("--out", type=Path, default=RESULTS, metavar="CSV", help="rows are added to it")
    return parser


if __name__ == "__main__":
    from upmap.console import run

    sys.exit(run(main))
