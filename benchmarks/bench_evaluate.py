"""COCO evaluation of files on disk, side by side with pycocotools: `python -m metrics.evaluate`.

Run as `python -m benchmarks.bench_evaluate`. Both arms are whole processes that read the same two
files and print the twelve numbers of COCOeval.summarize; before, all of their numbers and arrays
are found to be equal bit for bit.
"""

import argparse
import contextlib
import io
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.coco_like import Size, write
from benchmarks.harness import (
    RESULTS,
    Arm,
    BenchmarkError,
    Provenance,
    Run,
    Timing,
    append_rows,
    interleaved_runs,
    provenance,
    row,
    timing,
)
from detection.formats import read_detections, read_ground_truth
from metrics import COCO, evaluation, match, mean_average_precision
from metrics.curves import accumulated

__all__ = ["arms", "differences", "main", "phases"]

PEER = "pycocotools"
PHASE_REPEATS = 5
PEER_PROGRAM = """\
import sys
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

truth = COCO(sys.argv[1])
peer = COCOeval(truth, truth.loadRes(sys.argv[2]), "bbox")
peer.evaluate()
peer.accumulate()
peer.summarize()
"""


def arms(instances: Path, detections: Path) -> tuple[Arm, Arm]:
    """Ours and pycocotools', each from two files to twelve printed numbers."""
    files = (str(instances), str(detections))
    return (
        Arm("upmap", (sys.executable, "-m", "metrics.evaluate", *files, "--protocol", "coco")),
        Arm(PEER, (sys.executable, "-c", PEER_PROGRAM, *files)),
    )


def differences(instances: Path, detections: Path) -> list[str]:
    """What of ours is not bit for bit what pycocotools has; empty if all is equal.

    Args:
        instances: Ground truth as an instances file.
        detections: A results file.
    """
    ours = mean_average_precision(instances, detections, protocol=COCO)
    found = accumulated(ours.match_table, with_scores=True)
    peer = _peer_evaluation(instances, detections)
    pairs: list[tuple[str, Any, Any]] = [
        (name, value, peer.stats[i]) for i, (name, value) in enumerate(ours.metrics.items())
    ]
    if len(pairs) != len(peer.stats):
        return [f"{len(pairs)} numbers instead of {len(peer.stats)}"]
    for name in ("precision", "recall", "scores"):
        pairs.append((name, getattr(found, name), peer.eval[name]))
    messages = [_difference(name, our_values, its) for name, our_values, its in pairs]
    return [message for message in messages if message]


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
        "accumulate and summarise": lambda: evaluation(table),
    }
    runs: dict[str, list[Run]] = {name: [] for name in steps}
    for _ in range(repeats):
        for name, step in steps.items():
            runs[name].append(_step_run(step))
    return runs


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the benchmark; returns 1 if the arms disagree or one fails, else 0."""
    parser = _parser()
    options = parser.parse_args(arguments)
    sizes, repeats = options.detections, options.repeats
    if len(repeats) not in (1, len(sizes)):
        parser.error(f"--repeats takes one number or {len(sizes)}, one for each size")
    repeats = repeats * len(sizes) if len(repeats) == 1 else repeats
    try:
        made_with = provenance(PEER)
        for detections, times in zip(sizes, repeats, strict=True):
            rows = _rows_of_size(Size(detections=detections), times, made_with)
            append_rows(rows, options.out)
    except BenchmarkError as error:
        _log(f"error: {error}")
        return 1
    return 0


def _rows_of_size(size: Size, repeats: int, made_with: Provenance) -> list[dict[str, str]]:
    """Makes a data set, finds the arms equal, times them and prints a table."""
    count = size.detections
    with tempfile.TemporaryDirectory() as folder:
        _log(f"{count:,} detections: making the data set")
        files = write(Path(folder), size)
        _log(f"{count:,} detections: comparing with {PEER}")
        if unequal := differences(*files):
            raise BenchmarkError(f"not equal to {PEER}: {'; '.join(unequal)}")
        both = interleaved_runs(arms(*files), repeats=repeats, progress=_log)
        steps = phases(*files)
    timings = {name: timing(runs) for name, runs in both.items()}
    print(_comparison_table(size, timings), _phase_table(steps), sep="\n\n", end="\n\n", flush=True)
    return [row("evaluate", name, count, one, made_with) for name, one in timings.items()] + [
        row("evaluate phases", name, count, timing(runs), made_with) for name, runs in steps.items()
    ]


def _peer_evaluation(instances: Path, detections: Path) -> Any:
    from pycocotools.coco import COCO as PeerFile
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        truth = PeerFile(str(instances))
        peer = COCOeval(truth, truth.loadRes(str(detections)), "bbox")
        peer.evaluate()
        peer.accumulate()
        peer.summarize()
    return peer


def _difference(name: str, ours: Any, peer: Any) -> str:
    """What differs, in words; empty if nothing does. Where ours is NaN the peer has -1."""
    left = np.asarray(ours, np.float64)
    left = np.where(np.isnan(left), -1.0, left)
    right = np.asarray(peer, np.float64)
    if left.shape != right.shape:
        return f"{name} has the shape {left.shape} instead of {right.shape}"
    differ = np.count_nonzero(_bits(left) != _bits(right))
    return f"{name}: {differ} of {left.size} values differ" if differ else ""


def _bits(values: NDArray[np.float64]) -> NDArray[np.uint64]:
    return np.ascontiguousarray(values).view(np.uint64)


def _step_run(step: Callable[[], object]) -> Run:
    wall, cpu = time.perf_counter(), time.process_time()
    result = step()
    run = Run(time.perf_counter() - wall, time.process_time() - cpu, float("nan"))
    del result  # kept until here, so that freeing it is not measured
    return run


def _comparison_table(size: Size, timings: Mapping[str, Timing]) -> str:
    lines = [
        f"{size.images:,} images, {size.ground_truths:,} ground truths, "
        f"{size.detections:,} detections",
        f"{'arm':<26}{'median s':>10}{'p20 s':>9}{'p80 s':>9}{'CPU s':>9}{'peak MB':>9}"
        f"{'ratio':>8}",
    ]
    fastest = min(one.wall_median_s for one in timings.values())
    for name, one in timings.items():
        lines.append(
            f"{name:<26}{one.wall_median_s:>10.3f}{one.wall_p20_s:>9.3f}{one.wall_p80_s:>9.3f}"
            f"{one.cpu_median_s:>9.3f}{one.peak_rss_mb:>9.0f}{one.wall_median_s / fastest:>7.1f}x"
        )
    return "\n".join(lines)


def _phase_table(steps: Mapping[str, Sequence[Run]]) -> str:
    lines = [f"{'phase, in a warm process':<26}{'best s':>10}{'median s':>18}{'CPU s':>9}"]
    for name, runs in steps.items():
        one = timing(runs)
        best = min(run.wall_s for run in runs)
        lines.append(f"{name:<26}{best:>10.4f}{one.wall_median_s:>18.4f}{one.cpu_median_s:>9.4f}")
    return "\n".join(lines)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bench_evaluate")
    add = parser.add_argument
    add("--detections", type=_counts, default=(43_000, 500_000), metavar="N,N")
    add("--repeats", type=_counts, default=(7,), metavar="R,R", help="one, or one for each size")
    add("--out", type=Path, default=RESULTS, metavar="CSV", help="rows are added to it")
    return parser


def _counts(text: str) -> tuple[int, ...]:
    words = text.split(",")
    if not all(word.strip().isdecimal() and int(word) > 0 for word in words):
        raise argparse.ArgumentTypeError(f"expected whole numbers from 1, got {text!r}")
    return tuple(int(word) for word in words)


def _log(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
