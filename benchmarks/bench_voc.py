"""VOC2007 test with a real detector's files, side by side with an evaluator in plain Python.

Run as `python -m benchmarks.bench_voc --data FOLDER`. All arms are whole processes that read the
4,952 XML files and the detector's text files and print each class's 11-point AP: ours; ours with
the slow reference of every kernel; and `benchmarks.plain_voc`, written from the devkit's rules,
which reads the annotations for each class as the kit does, or once. Before, its APs are found to be
equal to ours.
"""

import argparse
import math
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.harness import (
    RESULTS,
    ROOT,
    Arm,
    BenchmarkError,
    append_rows,
    interleaved_runs,
    log,
    provenance,
    row,
    timing,
    timing_table,
)
from benchmarks.peers import OURS
from upmap.kernels import IMPL_VARIABLE
from upmap.metrics import VOC2007, mean_average_precision

__all__ = ["arms", "largest_difference", "main", "measured", "printed_aps"]

PLAIN = "plain Python"
TOLERANCE = 1e-12  # of an AP: the plain one prints twelve decimals
DATA = ROOT.parent / "shared" / "data"
DEVKIT, DETECTIONS = "voc2007_test", "voc2007_dets_yolov3_darknet"


def arms(devkit: Path, detections: Path) -> tuple[Arm, ...]:
    """Ours, our reference, and the plain one in two ways, from files to a table."""
    files = (str(devkit), str(detections))
    settings = ("--protocol", VOC2007.name, "--no-uncertainty")  # the plain evaluator has none
    ours = (sys.executable, "-m", "metrics.evaluate", *files, *settings)
    plain = (sys.executable, "-m", "benchmarks.plain_voc", *files)
    return (
        Arm(OURS, ours),
        Arm("upmap's reference", ours, variables={IMPL_VARIABLE: "reference"}),
        Arm(f"{PLAIN}, as the kit", plain),
        Arm(f"{PLAIN}, reading once", (*plain, "--read-once")),
    )


def printed_aps(text: str) -> dict[str, float]:
    """The APs that lines of `name value` give, the mean's included; NaN for `n/a`."""
    lines = [line.rsplit(maxsplit=1) for line in text.splitlines() if line.strip()]
    return {name: math.nan if value == "n/a" else float(value) for name, value in lines}


def largest_difference(ours: Mapping[str, float], theirs: Mapping[str, float]) -> float:
    """By how much any AP differs.

    Raises:
        BenchmarkError: If it is by more than rounding, or they are not of the same classes.
    """
    if ours.keys() != theirs.keys():
        raise BenchmarkError(f"of one side only: {', '.join(sorted(ours.keys() ^ theirs.keys()))}")
    worst = 0.0
    for name, value in ours.items():
        both_undefined = math.isnan(value) and math.isnan(theirs[name])
        apart = 0.0 if both_undefined else abs(value - theirs[name])
        if not apart <= TOLERANCE:
            raise BenchmarkError(f"{name}: AP {value!r} is not {PLAIN}'s {theirs[name]!r}")
        worst = max(worst, apart)
    return worst


def measured(devkit: Path, detections: Path, *, repeats: int) -> list[dict[str, str]]:
    """Finds both arms equal, times them, prints a table; returns the rows.

    Args:
        devkit: A VOC devkit folder.
        detections: A folder of `comp4_det_<set>_<class>.txt`.
        repeats: How often each arm is run.
    """
    every = arms(devkit, detections)
    result = mean_average_precision(devkit, detections, protocol=VOC2007)
    ours = {name: scores.AP for name, scores in result.per_class.items()} | {"mAP": result.mAP}
    worst = max(
        largest_difference(ours, printed_aps(_output(arm))) for arm in every if PLAIN in arm.name
    )
    size = len(result.match_table)
    runs = interleaved_runs(every, repeats=repeats, progress=log)
    timings = {name: timing(of_arm) for name, of_arm in runs.items()}
    title = f"{size:,} detections; APs differ by at most {worst}"
    print(timing_table(title, timings), end="\n\n", flush=True)
    return [row("voc2007", name, size, one, provenance()) for name, one in timings.items()]


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the benchmark; returns 1 if the arms disagree or one fails, else 0."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bench_voc")
    add = parser.add_argument
    text = f"folder of {DEVKIT}/ and {DETECTIONS}/ [../shared/data]"
    add("--data", type=Path, default=DATA, metavar="FOLDER", help=text)
    add("--repeats", type=int, default=9, metavar="R", help="[9]")
    add("--out", type=Path, default=RESULTS, metavar="CSV", help="rows are added to it")
    options = parser.parse_args(arguments)
    folders = options.data / DEVKIT, options.data / DETECTIONS
    if missing := [str(folder) for folder in folders if not folder.is_dir()]:
        log(f"skipped: there is no {' and no '.join(missing)}; --data says where they are")
        return 0
    try:
        append_rows(measured(*folders, repeats=options.repeats), options.out)
    except BenchmarkError as error:
        log(f"error: {error}")
        return 1
    return 0


def _output(arm: Arm) -> str:
    done = subprocess.run(arm.command, capture_output=True, text=True, cwd=ROOT, check=False)
    if done.returncode:
        raise BenchmarkError(f"{arm.name} exited with {done.returncode}: {done.stderr[-1000:]}")
    return done.stdout


if __name__ == "__main__":
    from upmap.console import run

    sys.exit(run(main))
