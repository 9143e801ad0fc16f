"""Arms timed side by side, and the CSV of results with their provenance.

Arms are interleaved (A B A B ...) so that what else the machine does falls on all of them alike. An
arm is a whole process, or a step within this one.
"""

import argparse
import csv
import json
import math
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from importlib import metadata
from pathlib import Path

import numpy as np

__all__ = [
    "COLUMNS",
    "RESULTS",
    "ROOT",
    "Arm",
    "BenchmarkError",
    "Provenance",
    "Run",
    "Timing",
    "append_rows",
    "interleaved_runs",
    "interleaved_steps",
    "log",
    "names",
    "one_run",
    "provenance",
    "row",
    "run_arms",
    "timing",
    "timing_table",
    "whole_numbers",
]

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results.csv"
LAUNCHER = Path(__file__).with_name("launch.py")
BYTES_PER_MB = 10**6
SLOW_S = 40.0  # an arm that takes longer than this is run less often
SLOW_REPEATS = 2


class BenchmarkError(RuntimeError):
    """An arm failed, or two arms that must agree do not."""


@dataclass(frozen=True, slots=True)
class Arm:
    """One side of a comparison.

    Attributes:
        name: How the results call it.
        command: The program, by its full path, and its arguments; run in the repository root.
        report: Where the command writes wall and CPU seconds of the part of it that counts, as two
            numbers; None where the whole process counts. Its peak memory is always the whole's.
        variables: Environment variables that it is run with, besides this process's.
    """

    name: str
    command: tuple[str, ...]
    report: Path | None = None
    variables: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Run:
    """One run of an arm.

    Attributes:
        wall_s: Elapsed time, s.
        cpu_s: User and system time of the process and the children it waited for, s.
        peak_rss_mb: The largest resident memory, MB (10^6 bytes); NaN if it was not measured.
    """

    wall_s: float
    cpu_s: float
    peak_rss_mb: float


@dataclass(frozen=True, slots=True)
class Timing:
    """The runs of one arm in a few numbers; see `Run` for the units.

    Attributes:
        repeats: The number of runs, without the warm-up.
        wall_median_s: The median.
        wall_p20_s: The 20th percentile.
        wall_p80_s: The 80th percentile.
        cpu_median_s: The median.
        peak_rss_mb: The largest of all runs.
    """

    repeats: int
    wall_median_s: float
    wall_p20_s: float
    wall_p80_s: float
    cpu_median_s: float
    peak_rss_mb: float


@dataclass(frozen=True, slots=True)
class Provenance:
    """What a number was measured with.

    Attributes:
        commit: The commit's short name, with "+" if files differ from it.
        python: Its version.
        numpy: Its version.
        peer: The compared package and its version; empty if there is none.
        cpu: The processor's model.
        cores: The number of processors.
    """

    commit: str
    python: str
    numpy: str
    peer: str
    cpu: str
    cores: int


COLUMNS = (
    "commit",
    "benchmark",
    "arm",
    "size",
    *(column.name for column in fields(Timing)),
    *(column.name for column in fields(Provenance) if column.name != "commit"),
)


def interleaved_runs(
    arms: Sequence[Arm],
    *,
    repeats: int,
    slow_repeats: int = SLOW_REPEATS,
    slow_s: float = SLOW_S,
    progress: Callable[[str], object] = lambda message: None,
) -> dict[str, list[Run]]:
    """Runs each arm once to warm up, then all of them in turn, `repeats` times.

    Args:
        arms: At least one, of different names.
        repeats: How often.
        slow_repeats: In how many of the turns an arm takes part whose warm-up took long.
        slow_s: What is long, s.
        progress: Told of every run.

    Returns:
        Name of the arm to its runs, the warm-up left out.

    Raises:
        BenchmarkError: If a command fails.
    """
    if repeats < 1:
        raise ValueError(f"repeats must be at least 1, not {repeats}")
    runs: dict[str, list[Run]] = {arm.name: [] for arm in arms}
    if len(runs) != len(arms):
        raise ValueError("arms must have different names")
    turns = dict.fromkeys(runs, repeats)
    for turn in range(repeats + 1):
        for arm in [arm for arm in arms if turn <= turns[arm.name]]:
            run = one_run(arm)
            progress(f"{arm.name} {turn or 'warm-up'}/{repeats}: {run.wall_s:.2f} s")
            if turn:
                runs[arm.name].append(run)
            elif run.wall_s > slow_s:
                turns[arm.name] = min(repeats, slow_repeats)
    return runs


def interleaved_steps(
    steps: Mapping[str, Callable[[], object]],
    *,
    repeats: int,
    progress: Callable[[str], object] = lambda message: None,
) -> dict[str, list[Run]]:
    """Calls each step in turn, `repeats` times, within this process.

    Args:
        steps: Name to what is timed; the caller warms them up.
        repeats: How often.
        progress: Told of every call.

    Returns:
        Name to its runs; their peak memory is not measured.
    """
    runs: dict[str, list[Run]] = {name: [] for name in steps}
    for turn in range(repeats):
        for name, step in steps.items():
            runs[name].append(_step_run(step))
            progress(f"{name} {turn + 1}/{repeats}: {runs[name][-1].wall_s:.3f} s")
    return runs


def timing(runs: Sequence[Run]) -> Timing:
    """The runs of one arm in a few numbers.

    >>> timing([Run(1, 2, 30), Run(3, 2, 40), Run(2, 1, 20)])
    Timing(repeats=3, wall_median_s=2.0, wall_p20_s=1.4, wall_p80_s=2.6, cpu_median_s=2.0, \
peak_rss_mb=40.0)
    """
    wall = [run.wall_s for run in runs]
    p20, median, p80 = np.percentile(wall, (20, 50, 80)).tolist()
    return Timing(
        repeats=len(runs),
        wall_median_s=median,
        wall_p20_s=p20,
        wall_p80_s=p80,
        cpu_median_s=float(np.median([run.cpu_s for run in runs])),
        peak_rss_mb=float(max(run.peak_rss_mb for run in runs)),
    )


def provenance(peer: str | None = None) -> Provenance:
    """What this process would measure with.

    Args:
        peer: The name of the compared package, if there is one.

    Raises:
        PackageNotFoundError: If it is not installed.
    """
    return Provenance(
        commit=_commit(),
        python=platform.python_version(),
        numpy=np.__version__,
        peer=f"{peer} {metadata.version(peer)}" if peer else "",
        cpu=_cpu_model(),
        cores=os.cpu_count() or 1,
    )


def row(
    benchmark: str, arm: str, size: int | str, measured: Timing, made_with: Provenance
) -> dict[str, str]:
    """One row of the results, column to value.

    Args:
        benchmark: The benchmark's name.
        arm: The arm's name.
        size: How large its input was.
        measured: Its numbers; times are written in 0.1 ms, an unmeasured one as nothing.
        made_with: Its provenance.
    """
    numbers = {one.name: _text(getattr(measured, one.name)) for one in fields(Timing)}
    origin = {one.name: str(getattr(made_with, one.name)) for one in fields(Provenance)}
    values = {"benchmark": benchmark, "arm": arm, "size": str(size)} | numbers | origin
    return {column: values[column] for column in COLUMNS}


def append_rows(
    rows: Sequence[Mapping[str, str]], path: Path = RESULTS, columns: Sequence[str] = COLUMNS
) -> None:
    """Adds rows to a results file, which is begun if it is not there.

    Args:
        rows: Column to value.
        path: The file.
        columns: All of them, in their order.

    Raises:
        ValueError: If the file has other columns.
    """
    is_new = not path.exists()
    if not is_new:
        with path.open(newline="") as file:
            header = tuple(next(csv.reader(file), ()))
        if header != tuple(columns):
            raise ValueError(f"{path} must have the columns {columns}, not {header}")
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        if is_new:
            writer.writeheader()
        writer.writerows(rows)


def one_run(arm: Arm) -> Run:
    """Runs an arm once.

    Raises:
        BenchmarkError: If its command fails.
    """
    # -I and -S keep the launcher small: see there.
    launcher = [sys.executable, "-I", "-S", str(LAUNCHER), *arm.command]
    # Every arm may keep its bytecode, or its modules are compiled anew in each run.
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    environment.update(arm.variables)
    done = subprocess.run(
        launcher, capture_output=True, text=True, cwd=ROOT, env=environment, check=False
    )
    if done.returncode:
        tail = "\n".join(done.stderr.splitlines()[-10:])
        raise BenchmarkError(f"{arm.name} exited with {done.returncode}: {tail}")
    measured = json.loads(done.stdout)
    peak = measured["peak_rss"] / BYTES_PER_MB
    wall, cpu = measured["wall_s"], measured["cpu_s"]
    if arm.report is not None:
        wall, cpu = map(float, arm.report.read_text().split())
    return Run(wall_s=wall, cpu_s=cpu, peak_rss_mb=peak)


def timing_table(title: str, timings: Mapping[str, Timing]) -> str:
    """Timings as text, each beside the fastest.

    Args:
        title: The first line.
        timings: Name of the arm to its numbers.
    """
    lines = [
        title,
        f"{'arm':<32}{'repeats':>8}{'median s':>10}{'p20 s':>9}{'p80 s':>9}{'CPU s':>9}"
        f"{'peak MB':>9}{'ratio':>9}",
    ]
    fastest = min(one.wall_median_s for one in timings.values())
    for name, one in timings.items():
        peak = "" if math.isnan(one.peak_rss_mb) else f"{one.peak_rss_mb:.0f}"
        lines.append(
            f"{name:<32}{one.repeats:>8}{one.wall_median_s:>10.4f}{one.wall_p20_s:>9.4f}"
            f"{one.wall_p80_s:>9.4f}{one.cpu_median_s:>9.4f}{peak:>9}"
            f"{one.wall_median_s / fastest:>8.2f}x"
        )
    return "\n".join(lines)


def run_arms(
    measure: Callable[..., list[dict[str, str]]],
    *,
    benchmark: str,
    arms: Sequence[str],
    size: int,
    repeats: int,
    arguments: Sequence[str] | None,
) -> int:
    """A program that measures arms at some sizes; returns 1 if they disagree or one fails, else 0.

    Args:
        measure: Called with names of arms, a size and `repeats`; returns rows.
        benchmark: The module.
        arms: All there are.
        size: The size that is measured by default.
        repeats: How often each arm is run by default.
        arguments: Of the command line; None takes the program's own.
    """
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.{benchmark}")
    add = parser.add_argument
    add("--sizes", type=whole_numbers, default=(size,), metavar="N,N", help=f"[{size}]")
    choices = f"one of {'; '.join(arms)}; may be repeated; all by default"
    add("--arm", action="append", choices=arms, metavar="ARM", help=choices)
    add("--repeats", type=int, default=repeats, metavar="R", help=f"[{repeats}]")
    add("--out", type=Path, default=RESULTS, metavar="CSV", help="rows are added to it")
    options = parser.parse_args(arguments)
    try:
        for value in options.sizes:
            rows = measure(options.arm or arms, value, repeats=options.repeats)
            append_rows(rows, options.out)
    except BenchmarkError as error:
        log(f"error: {error}")
        return 1
    return 0


def whole_numbers(text: str) -> tuple[int, ...]:
    """Numbers from 1 with commas between, as a command line gives them.

    Raises:
        ArgumentTypeError: If there is anything else.

    >>> whole_numbers("7,3")
    (7, 3)
    """
    words = names(text)
    if not all(word.isdecimal() and int(word) > 0 for word in words):
        raise argparse.ArgumentTypeError(f"expected whole numbers from 1, got {text!r}")
    return tuple(int(word) for word in words)


def names(text: str) -> tuple[str, ...]:
    """Words with commas between, as a command line gives them.

    >>> names("one, two")
    ('one', 'two')
    """
    return tuple(word.strip() for word in text.split(","))


def log(message: str) -> None:
    """Says to stderr how far the benchmark is."""
    print(message, file=sys.stderr, flush=True)


def _step_run(step: Callable[[], object]) -> Run:
    wall, cpu = time.perf_counter(), time.process_time()
    result = step()
    run = Run(time.perf_counter() - wall, time.process_time() - cpu, math.nan)
    del result  # kept until here, so that freeing it is not measured
    return run


def _commit() -> str:
    """The commit's short name, with "+" if the tree differs; results may be appended meanwhile."""
    changes = _git("status", "--porcelain", "--", ".", ":(exclude)benchmarks/*.csv")
    return _git("rev-parse", "--short", "HEAD") + ("+" if changes else "")


def _git(*arguments: str) -> str:
    command = ["git", "--no-optional-locks", *arguments]  # a benchmark must not stop a commit
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    if done.returncode:
        raise BenchmarkError(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout.strip()


def _cpu_model() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()


def _text(value: float) -> str:
    if isinstance(value, int):
        return str(value)
    return "" if np.isnan(value) else f"{value:.4f}"
