"""Fills the documents' generated parts: outputs of commands, tables of results.

`python scripts/readme.py` rewrites the files; `--check` only says whether they are up to date.
"""

import csv
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from segmentation.report import table

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results.csv"
OUTPUT = re.compile(r"(<!-- output: (.+?) -->\n```text\n).*?(```\n)", re.DOTALL)
RESIDUE = re.compile(r"0\.0e\+00|\d\.\de-1\d")  # last bits, which may depend on the processor


def part(name: str, fill: Callable[[], str]) -> tuple[re.Pattern[str], Callable[..., str]]:
    """What lies between `<!-- name -->` and `<!-- end -->`, and what is to lie there."""
    pattern = re.compile(rf"(<!-- {name} -->\n).*?(<!-- end -->)", re.DOTALL)
    return pattern, lambda found: found[1] + fill() + found[2]


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


def comparison_table() -> str:
    """The comparison whose folder is docs/comparison."""
    return table(json.loads((ROOT / "docs/comparison/results.json").read_text("utf-8")))


def precision_table() -> str:
    """The newest rows of bench_precision as Markdown, one for each device and precision."""
    with (ROOT / "benchmarks/precision.csv").open(newline="") as file:
        newest = {(row["device"], row["precision"]): row for row in csv.DictReader(file)}
    lines = ["| device | precision | mIoU | forward | with backward | memory |", "|---" * 6 + "|"]
    for (device, precision), row in newest.items():
        lines.append(
            f"| {device}, {row['cores']} cores | {precision} "
            f"| {row['mIoU_mean']} ± {row['mIoU_sd']} | {row['forward_ms']} ms "
            f"| {row['forward_backward_ms']} ms | {row['memory_mib']} MiB |"
        )
    return "\n".join(lines) + "\n"


def upsample_table() -> str:
    """The newest rows of bench_upsample_ce as Markdown, beside torch's of the same run."""
    with (ROOT / "benchmarks/upsample_ce.csv").open(newline="") as file:
        keys = ("device", "kind", "N", "C", "features", "pixels")
        newest = {(*(row[key] for key in keys), row["arm"]): row for row in csv.DictReader(file)}
    lines = [
        "| device | logits | classes | features -> pixels | arm | time | torch / it | memory | "
        "share |",
        "|---" * 9 + "|",
    ]
    for (*problem, arm), row in newest.items():
        device, kind, count, classes, features, pixels = problem
        base = newest[(*problem, "torch")]
        ratio = float(base["median_ms"]) / float(row["median_ms"])
        share = float(base["memory_mb"]) / float(row["memory_mb"])
        lines.append(
            f"| {device}, {row['cores']} cores | {count} of {kind} | {classes} "
            f"| {features} -> {pixels} | {arm} | {float(row['median_ms']):.0f} ms | {ratio:.2f} "
            f"| {float(row['memory_mb']):.0f} MB | 1/{share:.1f} |"
        )
    return "\n".join(lines) + "\n"


def fused_training_table() -> str:
    """The newest rows of bench_fused_training as Markdown."""
    with (ROOT / "benchmarks/fused_training.csv").open(newline="") as file:
        newest = {row["arm"]: row for row in csv.DictReader(file)}
    lines = ["| loss | images/s | peak memory | loss after each epoch |", "|---" * 4 + "|"]
    for arm, row in newest.items():
        lines.append(
            f"| {arm} | {row['images_per_s']} | {row['peak_rss_mb']} MB | {row['curve']} |"
        )
    return "\n".join(lines) + "\n"


PARTS = {
    "README.md": (
        (OUTPUT, lambda found: found[1] + output(found[2]) + found[3]),
        part("benchmark", benchmark_table),
        part("comparison", comparison_table),
    ),
    "docs/training.md": (part("precision", precision_table),),
    "docs/kernels.md": (
        part("upsample_ce", upsample_table),
        part("fused_training", fused_training_table),
    ),
}


def filled(name: str) -> str:
    """The text of a document with every generated part made anew."""
    text = (ROOT / name).read_text(encoding="utf-8")
    for pattern, fill in PARTS[name]:
        text, count = pattern.subn(fill, text)
        assert count, f"{name} has no part like {pattern.pattern}"
    return text


def main() -> int:
    """Rewrites or checks the documents; returns the exit status."""
    stale = []
    for name in PARTS:
        made = filled(name)
        if RESIDUE.sub("", made) != RESIDUE.sub("", (ROOT / name).read_text(encoding="utf-8")):
            stale.append(name)
        if "--check" not in sys.argv:
            (ROOT / name).write_text(made, encoding="utf-8")
    if "--check" in sys.argv and stale:
        print(f"{', '.join(stale)} is out of date: python scripts/readme.py", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
