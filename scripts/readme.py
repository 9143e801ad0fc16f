"""Fills README.md's generated parts: outputs of its commands, the table of benchmark results.

`python scripts/readme.py` rewrites the file; `--check` only says whether it is up to date.
"""

import csv
import re
import shlex
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
RESULTS = ROOT / "benchmarks" / "results.csv"
OUTPUT = re.compile(r"(<!-- output: (.+?) -->\n```text\n).*?(```\n)", re.DOTALL)
RESIDUE = re.compile(r"0\.0e\+00|\d\.\de-1\d")  # last bits, which may depend on the processor
BENCHMARK = re.compile(r"(<!-- benchmark -->\n).*?(<!-- end -->)", re.DOTALL)


def filled(text: str) -> str:
    """`text` with every generated part made anew."""
    for pattern, fill in (
        (OUTPUT, lambda found: found[1] + output(found[2]) + found[3]),
        (BENCHMARK, lambda found: found[1] + benchmark_table() + found[2]),
    ):
        text, count = pattern.subn(fill, text)
        assert count, f"README.md has no part like {pattern.pattern}"
    return text


def output(command: str) -> str:
    """What a `python ...` command prints to stdout."""
    arguments = [sys.executable, *shlex.split(command)[1:]]
    return subprocess.run(
        arguments, cwd=ROOT, capture_output=True, text=True, encoding="utf-8", check=True
    ).stdout


def benchmark_table() -> str:
    """The newest rows of bench_evaluate as Markdown."""
    with RESULTS.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["benchmark"] == "evaluate"]
    newest = {(row["size"], row["arm"]): row for row in rows}
    sizes = sorted({size for size, _ in newest}, key=int)
    lines = [
        "| detections | upmap | pycocotools | ratio | peak memory |",
        "|---|---|---|---|---|",
    ]
    for size in sizes:
        ours, theirs = newest[size, "upmap"], newest[size, "pycocotools"]
        seconds = [float(row["wall_median_s"]) for row in (ours, theirs)]
        memory = [float(row["peak_rss_mb"]) for row in (ours, theirs)]
        lines.append(
            f"| {int(size):,} | {seconds[0]:.2f} s | {seconds[1]:.1f} s "
            f"| {seconds[1] / seconds[0]:.0f}x | {memory[0]:.0f} MB, {memory[1]:.0f} MB |"
        )
    last = newest[sizes[-1], "upmap"]
    return (
        "COCO-val2017-like data (5,000 images, 80 classes, ground truth with polygons), whole "
        "process from files to the 12 numbers, median, "
        f"on {last['cores']} cores ({last['cpu']}):\n\n" + "\n".join(lines) + "\n"
    )


def main() -> int:
    """Rewrites or checks README.md; returns the exit status."""
    text = README.read_text(encoding="utf-8")
    made = filled(text)
    if "--check" in sys.argv:
        is_stale = RESIDUE.sub("", made) != RESIDUE.sub("", text)
        if is_stale:
            print("README.md is out of date: python scripts/readme.py", file=sys.stderr)
        return int(is_stale)
    README.write_text(made, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
