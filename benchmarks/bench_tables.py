"""Detections from a CSV file, JSON lines and Parquet, beside COCO JSON, pandas and polars.

Run as `python -m benchmarks.bench_tables`. All files have the detections of `coco_like`. What is
timed is the reading alone, in a process of its own; its peak memory is the whole process's. Ours
gives a table of detections, images and classes looked up; pandas and polars give their frames.
Before, the columns are compared with those of the COCO JSON file.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.coco_like import Size, write
from benchmarks.harness import (
    ROOT,
    Arm,
    BenchmarkError,
    interleaved_runs,
    log,
    provenance,
    row,
    run_arms,
    timing,
    timing_table,
)

__all__ = ["ARMS", "compare_sums", "main", "make_arm", "make_files", "measure"]

JSON, CSV, LINES, PARQUET = "upmap, COCO JSON", "upmap, CSV", "upmap, JSON lines", "upmap, Parquet"
PANDAS, POLARS = "pandas, CSV", "polars, CSV"
ARMS = (JSON, CSV, LINES, PARQUET, PANDAS, POLARS)
ENDINGS = {JSON: "json", CSV: "csv", LINES: "jsonl", PARQUET: "parquet", PANDAS: "csv"}
ENDINGS[POLARS] = "csv"
# What each program prints: how many rows there are, and sums by which the columns are compared.
OURS = """\
import sys, time
from pathlib import Path
from upmap.detection import read_detections, read_ground_truth
truth, path, report = map(Path, sys.argv[1:4])
catalog = read_ground_truth(truth).catalog
began, cpu = time.perf_counter(), time.process_time()
table = read_detections(path, catalog, **({"box": "xywh"} if path.suffix == ".jsonl" else {}))
times = time.perf_counter() - began, time.process_time() - cpu
report.write_text("{} {}".format(*times))
image = sum(catalog.images[i] for i in table.image[:1000].tolist())
print(len(table), table.box[:, 0].sum(), table.size.sum(), table.score.sum(), image)"""
FRAME = """\
import sys, time
from pathlib import Path
import {module} as frames
path, report = sys.argv[2], Path(sys.argv[3])
began, cpu = time.perf_counter(), time.process_time()
table = frames.read_csv(path)
times = time.perf_counter() - began, time.process_time() - cpu
report.write_text("{{}} {{}}".format(*times))
print(len(table), table["x"].sum(), table["w"].sum() + table["h"].sum(), table["score"].sum(),
      int(table["image_id"][:1000].sum()))"""
PROGRAMS = {PANDAS: FRAME.format(module="pandas"), POLARS: FRAME.format(module="polars")}
TOLERANCE = 1e-9  # relative, of sums whose terms are added in another order


def make_files(folder: Path, size: Size) -> None:
    """Writes ground truth and the same detections as JSON, CSV, JSON lines and Parquet.

    Args:
        folder: Where to.
        size: How large.
    """
    import pyarrow
    from pyarrow import parquet

    truth, detections = write(folder / "coco", size)
    (folder / "truth.json").symlink_to(truth.resolve())
    (folder / "detections.json").symlink_to(detections.resolve())
    records = json.loads(detections.read_bytes())
    columns = {name: [record[name] for record in records] for name in ("image_id", "category_id")}
    sides = zip(*(record["bbox"] for record in records), strict=True)
    columns |= dict(zip("xywh", map(list, sides), strict=True))
    columns["score"] = [record["score"] for record in records]
    with (folder / "detections.csv").open("w") as file:
        file.write(",".join(columns) + "\n")
        for cells in zip(*columns.values(), strict=True):
            file.write(",".join(map(repr, cells)) + "\n")
    with (folder / "detections.jsonl").open("w") as file:
        file.writelines(json.dumps(record) + "\n" for record in records)
    parquet.write_table(pyarrow.table(columns), folder / "detections.parquet")


def make_arm(name: str, folder: Path) -> Arm:
    """The reading of detections, in a process of its own.

    Args:
        name: One of ARMS.
        folder: The files.
    """
    report = folder / f"{ARMS.index(name)}.times"
    program = PROGRAMS.get(name, OURS)
    files = (str(folder / "truth.json"), str(folder / f"detections.{ENDINGS[name]}"), str(report))
    return Arm(name, (sys.executable, "-c", program, *files), report)


def compare_sums(arms: Sequence[Arm]) -> None:
    """Refuses arms whose columns have other sums than those of the first.

    Raises:
        BenchmarkError: If one has.
    """
    expected: list[float] = []
    for arm in arms:
        done = subprocess.run(arm.command, capture_output=True, text=True, cwd=ROOT, check=False)
        if done.returncode:
            raise BenchmarkError(f"{arm.name} exited with {done.returncode}: {done.stderr[-800:]}")
        sums = [float(word) for word in done.stdout.split()]
        expected = expected or sums
        if any(abs(a - b) > TOLERANCE * abs(b) for a, b in zip(sums, expected, strict=True)):
            raise BenchmarkError(f"{arm.name} read {sums}, not {expected}")


def measure(arm_names: Sequence[str], detections: int, *, repeats: int) -> list[dict[str, str]]:
    """Makes the files, finds the arms equal, times them; returns the rows.

    Args:
        arm_names: Some of ARMS.
        detections: How many there are.
        repeats: How often each arm is run.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        log(f"tables {detections}: making the files")
        make_files(folder, Size(detections=detections, polygons=False))
        arms = [make_arm(name, folder) for name in arm_names]
        compare_sums(arms)
        runs = interleaved_runs(arms, repeats=repeats, progress=log)
    timings = {name: timing(of_arm) for name, of_arm in runs.items()}
    print(timing_table(f"tables of {detections:,} detections", timings), end="\n\n", flush=True)
    packages = {PANDAS: "pandas", POLARS: "polars"}
    return [
        row("tables", name, detections, value, provenance(packages.get(name)))
        for name, value in timings.items()
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the benchmark; returns 1 if the arms disagree or one fails, else 0."""
    return run_arms(
        measure,
        benchmark="bench_tables",
        arms=ARMS,
        size=3_000_000,
        repeats=7,
        arguments=arguments,
    )


if __name__ == "__main__":
    from upmap.console import run

    sys.exit(run(main))
