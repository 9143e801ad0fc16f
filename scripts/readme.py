"""Fills the documents' generated parts: outputs of commands, tables of results.

`python scripts/readme.py` rewrites the files; `--check` only says whether they are up to date.
"""

import csv
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from upmap.segmentation.comparison.report import (
    describe_environment,
    format_costs,
    format_findings,
    format_scores,
)

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results.csv"
OUTPUT = re.compile(r"(<!-- output: (.+?) -->\n```text\n).*?(```\n)", re.DOTALL)
OURS = "upmap"
UNMEASURED = "Not measured yet.\n"
Row = dict[str, str]  # of a results file, column to value
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


def latest(benchmark: str) -> dict[str, dict[str, Row]]:
    """Size to arm to row of `results.csv`; of a size only what its last row's commit measured."""
    with RESULTS.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["benchmark"] == benchmark]
    commit = {row["size"]: row["commit"] for row in rows}
    found: dict[str, dict[str, Row]] = {}
    for row in rows:
        if row["commit"] == commit[row["size"]]:
            found.setdefault(row["size"], {})[row["arm"]] = row
    return dict(sorted(found.items(), key=lambda pair: (not pair[0].isdecimal(), pair[0].zfill(9))))


def compared(benchmark: str, base: str = OURS) -> dict[str, dict[str, Row]]:
    """The same, of sizes that we and a peer were measured at."""
    sizes = latest(benchmark).items()
    return {size: arms for size, arms in sizes if base in arms and len(arms) > 1}


def fastest_peer(arms: dict[str, Row]) -> Row:
    """The row of the fastest arm but ours."""
    return min((row for arm, row in arms.items() if arm != OURS), key=seconds)


def seconds(row: Row) -> float:
    """The median wall time of a row."""
    return float(row["wall_median_s"])


def duration(value: float) -> str:
    """A time with three digits, in ms where it is short."""
    if value < 0.1:
        return f"{1000 * value:.3g} ms"
    return f"{value:.2f} s" if value < 10 else f"{value:.1f} s"


def memory(row: Row) -> str:
    """The peak memory of a row; nothing where it was not measured."""
    return f"{float(row['peak_rss_mb']):,.0f} MB" if row["peak_rss_mb"] else ""


def size_title(size: str) -> str:
    """What the results' name of a size means."""
    if size == "objects365":
        return "3,000,000 detections, like Objects365"
    return f"{int(size):,} detections"


def measured_with(rows: Iterable[Row]) -> str:
    """Where the rows come from, a sentence."""
    places = {
        f"commit {row['commit']}, Python {row['python']}, numpy {row['numpy']}, "
        f"{row['cores']} cores ({row['cpu']})"
        for row in rows
    }
    return f"Measured at {'; '.join(sorted(places))}.\n"


def benchmark_table() -> str:
    """The newest rows of bench_evaluate in short: ours, the fastest peer and pycocotools."""
    lines = [
        "| data | upmap | fastest peer | times | pycocotools | times | peak memory, least peer's |",
        "|---" * 7 + "|",
    ]
    rows = []
    for size, arms in compared("evaluate").items():
        ours, best, base = arms[OURS], fastest_peer(arms), arms.get("pycocotools")
        least = min(float(row["peak_rss_mb"]) for arm, row in arms.items() if arm != OURS)
        slow = f"{duration(seconds(base))} | {times(base, ours)}" if base else "| "
        lines.append(
            f"| {size_title(size)} | {duration(seconds(ours))} "
            f"| {duration(seconds(best))}, {best['arm']} | {times(best, ours)} | {slow} "
            f"| {memory(ours)}, {least:,.0f} MB |"
        )
        rows.append(ours)
    return "\n".join(lines) + "\n\n" + measured_with(rows)


def times(row: Row, ours: Row) -> str:
    """How many times ours a row's time is."""
    return f"{seconds(row) / seconds(ours):.3g}x"


def arms_tables(benchmark: str, base: str = OURS) -> str:
    """The newest rows of a benchmark, a table for each size, the fastest arm first."""
    sizes = compared(benchmark, base)
    parts = [f"**{size_title(size)}**\n\n{arms_table(arms, base)}" for size, arms in sizes.items()]
    rows = [row for arms in sizes.values() for row in arms.values()]
    return "\n".join([*parts, measured_with(rows)]) if rows else UNMEASURED


def arms_table(arms: dict[str, Row], base: str = OURS) -> str:
    """One size's arms."""
    lines = [
        f"| arm | median | 20 to 80 % | CPU | peak memory | runs | {base} / it |",
        "|---" * 7 + "|",
    ]
    for arm, row in sorted(arms.items(), key=lambda pair: seconds(pair[1])):
        p20, p80 = (duration(float(row[f"wall_{key}_s"])) for key in ("p20", "p80"))
        ratio = seconds(arms[base]) / seconds(row)
        lines.append(
            f"| {arm_title(arm, row)} | {duration(seconds(row))} | {p20} to {p80} "
            f"| {duration(float(row['cpu_median_s']))} | {memory(row)} | {row['repeats']} "
            f"| {ratio:.3g} |"
        )
    return "\n".join(lines) + "\n"


def arm_title(arm: str, row: Row) -> str:
    """An arm's name, with its version where it is a package."""
    name, _, version = row["peer"].partition(" ")
    return arm.replace(name, f"{name} {version}", 1) if name and arm.startswith(name) else arm


def phases_table() -> str:
    """The newest rows of our phases, a column for each size."""
    sizes = latest("evaluate phases")
    if not sizes:
        return UNMEASURED
    heads = "".join(f" {size_title(size)} |" for size in sizes)
    lines = [f"| phase |{heads}", "|---" * (1 + len(sizes)) + "|"]
    for phase in dict.fromkeys(phase for phases in sizes.values() for phase in phases):
        cells = [
            duration(seconds(phases[phase])) if phase in phases else "" for phases in sizes.values()
        ]
        lines.append(f"| {' | '.join([phase, *cells])} |")
    rows = [row for phases in sizes.values() for row in phases.values()]
    return "\n".join(lines) + "\n\n" + measured_with(rows)


def growth_table() -> str:
    """The newest rows of bench_growth: cost per detection, over what the smallest size costs."""
    sizes = latest("growth")
    if not sizes:
        return UNMEASURED
    peers = sorted({arm for arms in sizes.values() for arm in arms} - {OURS})
    heads = "".join(f" {peer} |" for peer in peers)
    lines = [
        f"| detections | upmap | µs/detection | peak memory | bytes/detection |{heads}",
        "|---" * (5 + len(peers)) + "|",
    ]
    smallest, base = next((size, arms[OURS]) for size, arms in sizes.items())
    for size, arms in sizes.items():
        ours, more = arms[OURS], int(size) - int(smallest)
        theirs = "".join(f" {cost(arms[peer]) if peer in arms else ''} |" for peer in peers)
        lines.append(
            f"| {int(size):,} | {duration(seconds(ours))} "
            f"| {slope(ours, base, 'wall_median_s', more)} | {memory(ours)} "
            f"| {slope(ours, base, 'peak_rss_mb', more)} |{theirs}"
        )
    rows = [row for arms in sizes.values() for row in arms.values()]
    return "\n".join(lines) + "\n\n" + measured_with(rows)


def cost(row: Row) -> str:
    """Time and memory of a row."""
    return f"{duration(seconds(row))}, {memory(row)}"


def slope(row: Row, base: Row, column: str, detections: int) -> str:
    """Of what a column has over the base, in millionths for each detection more."""
    if not detections:
        return ""
    return f"{1e6 * (float(row[column]) - float(base[column])) / detections:.3g}"


def comparison_scores() -> str:
    """The findings and scores of the comparison whose folder is docs/comparison."""
    results = json.loads((ROOT / "docs/comparison/results.json").read_text("utf-8"))
    tables = [f"**{panel}**\n\n{format_scores(results, panel)}" for panel in results["panels"]]
    return "\n".join([format_findings(results), *tables])


def comparison_tables() -> str:
    """The same with costs, and what it ran on."""
    results = json.loads((ROOT / "docs/comparison/results.json").read_text("utf-8"))
    tables = [
        f"**{panel}**\n\n{format_scores(results, panel)}\n{format_costs(results, panel)}"
        for panel in results["panels"]
    ]
    return "\n".join([format_findings(results), *tables, describe_environment(results)])


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
        part("comparison", comparison_scores),
    ),
    "docs/comparison.md": (part("comparison", comparison_tables),),
    "docs/performance.md": (
        part("evaluate", lambda: arms_tables("evaluate")),
        part("phases", phases_table),
        part("load", lambda: arms_tables("load")),
        part("tables", lambda: arms_tables("tables", "upmap, COCO JSON")),
        part("yolo", lambda: arms_tables("yolo")),
        part("explain", lambda: arms_tables("explain", "match and evaluate")),
        part("voc2007", lambda: arms_tables("voc2007")),
        part("memory", lambda: arms_tables("memory")),
        part("growth", growth_table),
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
