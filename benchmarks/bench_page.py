"""The page of an evaluation: what `--html` adds to evaluating, and how large the file is.

Run as `python -m benchmarks.bench_page`. Data are those of `coco_like`: 5,000 images, 80 classes.
Arms are whole processes. Before, the headline number in the page is compared with that of the JSON
report.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.coco_like import Size, write
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
    whole_numbers,
)

__all__ = ["main", "measure"]

PLAIN, PAGE = "upmap", "upmap, --html"
DATA = re.compile(rb'id="data">(.*?)</script>', re.DOTALL)


def measure(detections: int, *, repeats: int) -> list[dict[str, str]]:
    """Makes the files, compares the numbers, times both arms; returns the rows.

    Args:
        detections: How many there are.
        repeats: How often each arm is run.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        log(f"page {detections}: making the files")
        files = map(str, write(folder, Size(detections=detections, polygons=False)))
        report, page = folder / "report.json", folder / "page.html"
        command = (sys.executable, "-m", "upmap", "evaluate", *files)
        compare_numbers((*command, "--json", str(report), "--html", str(page)), report, page)
        log(f"page {detections}: {page.stat().st_size / 1e3:.0f} kB")
        arms = [Arm(PLAIN, command), Arm(PAGE, (*command, "--html", str(page)))]
        runs = interleaved_runs(arms, repeats=repeats, progress=log)
    timings = {name: timing(of_arm) for name, of_arm in runs.items()}
    print(timing_table(f"page, {detections:,} detections", timings), end="\n\n", flush=True)
    return [row("page", name, detections, value, provenance()) for name, value in timings.items()]


def compare_numbers(command: Sequence[str], report: Path, page: Path) -> None:
    """Refuses a page whose numbers are not those of the JSON report.

    Args:
        command: What writes both.
        report: The JSON report.
        page: The page.

    Raises:
        BenchmarkError: If it fails, or a number differs.
    """
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    if done.returncode:
        raise BenchmarkError(f"exited with {done.returncode}: {done.stderr[-800:]}")
    data = DATA.search(page.read_bytes())
    shown = json.loads(data[1])["report"] if data else None
    expected = json.loads(report.read_bytes())
    if shown is None or shown["results"][0]["metrics"] != expected["results"][0]["metrics"]:
        raise BenchmarkError("the page has other numbers than the JSON report")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the benchmark; returns 1 if it fails, else 0."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bench_page")
    add = parser.add_argument
    add("--sizes", type=whole_numbers, default=(43_000,), metavar="N,N", help="[43000]")
    add("--repeats", type=int, default=7, metavar="R", help="[7]")
    add("--out", type=Path, default=RESULTS, metavar="CSV", help="rows are added to it")
    options = parser.parse_args(arguments)
    try:
        for size in options.sizes:
            append_rows(measure(size, repeats=options.repeats), options.out)
    except BenchmarkError as error:
        log(f"error: {error}")
        return 1
    return 0


if __name__ == "__main__":
    from upmap.console import run

    sys.exit(run(main))
