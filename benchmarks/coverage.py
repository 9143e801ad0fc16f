"""How often 95 % intervals cover, and comparisons of equal detectors find a difference.

Run as `python -m benchmarks.coverage`. Test sets are drawn from populations without end; an
interval is right where it covers the mean of the number over all test sets of its size. Writes
benchmarks/coverage.csv; each rate has its Monte-Carlo error. Seeds are fixed: the same table comes
out on any number of cores.
"""

import argparse
import csv
import math
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from benchmarks.harness import ROOT
from benchmarks.populations import POPULATIONS, draw_tables
from upmap.files import write_bytes
from upmap.metrics import MatchTable
from upmap.metrics.analysis import Uncertainty, compare, estimate_uncertainty
from upmap.progress import track_progress

__all__ = ["COLUMNS", "PARTS", "Part", "main", "simulate"]

RESULTS = ROOT / "benchmarks" / "coverage.csv"
COLUMNS = (
    "part",
    "protocol",
    "what",
    "method",
    "simulations",
    "rate",
    "error",
    "expected_from",
    "expected_to",
    "is_met",
)
LEVEL, ALARM = 0.95, 0.05
Method = Literal["influence", "bootstrap"]
METHODS: tuple[Method, ...] = ("influence", "bootstrap")
LIMITS = {"number": (0.93, 0.97), "class": (0.93, 1.0), "alarm": (0.0, 0.06)}
BINS = (0, 10, 30, 100, math.inf)  # of the objects that a class has on average

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Part:
    """Test sets of one size.

    Attributes:
        population: The name of what they are drawn from.
        images: Of each.
        intervals: How many are drawn for intervals.
        comparisons: How many are drawn to compare two detectors on each.
        replicates: Of the bootstrap.
    """

    population: str
    images: int
    intervals: int
    comparisons: int
    replicates: int = 300


PARTS = {
    "voc200": Part("voc", 200, 6000, 2000),
    "voc1000": Part("voc", 1000, 4000, 2000),
    "coco1000": Part("coco", 1000, 1000, 600),
    "coco5000": Part("coco", 5000, 200, 400),
}


@dataclass(frozen=True, slots=True, eq=False)
class Intervals:
    """Numbers of one test set under one protocol, each with its interval.

    Attributes:
        value: float64 [n].
        low: float64 [n].
        high: float64 [n].
    """

    value: Floats
    low: Floats
    high: Floats


Draw = dict[tuple[str, str, str], Intervals]  # protocol, "number" or "class", method
Alarms = dict[tuple[str, str], float]  # protocol and what: 1 for a false alarm


def draw_intervals(name: str, part: Part, number: int) -> Draw:
    """The intervals of one test set by all methods."""
    generator = np.random.default_rng([0, [*PARTS].index(name), number])
    (table,) = draw_tables(POPULATIONS[part.population], part.images, generator)
    draw: Draw = {}
    for each in _under_protocols(table, part):
        for method in METHODS:
            uncertainty = estimate_uncertainty(
                each,
                method=method,
                replicates=part.replicates,
                seed=number,
                level=LEVEL,
                threads=1,
            )
            for scope, intervals in _take_intervals(uncertainty).items():
                draw[each.protocol.name, scope, method] = intervals
    return draw


def draw_alarms(name: str, part: Part, number: int) -> Alarms:
    """Whether two detectors, alike in quality, differ on one test set."""
    generator = np.random.default_rng([1, [*PARTS].index(name), number])
    tables = draw_tables(POPULATIONS[part.population], part.images, generator, detectors=2)
    alarms = {}
    for a, b in zip(*(_under_protocols(table, part) for table in tables), strict=True):
        result = compare(a, b, seed=number, threads=1)
        for metric, difference in result.metrics.items():
            alarms[a.protocol.name, metric] = float(difference.p < ALARM)
        p_values = [row.p_holm for row in result.per_class.values()]
        alarms[a.protocol.name, "any class, Holm"] = float(np.nanmin(p_values) < ALARM)
    return alarms


def simulate(name: str, part: Part, *, workers: int) -> list[dict[str, str]]:
    """The rows of the results of one part.

    Args:
        name: Of the part.
        part: What is drawn.
        workers: Processes that share the work; the rows do not depend on it.
    """
    rows: list[dict[str, str]] = []
    with ProcessPoolExecutor(workers) as pool:
        draws = pool.map(partial(draw_intervals, name, part), range(part.intervals), chunksize=4)
        bar = track_progress(draws, f"{name}: intervals", total=part.intervals, show=True)
        rows += _coverage_rows(name, part, list(bar))
        alarms = pool.map(partial(draw_alarms, name, part), range(part.comparisons), chunksize=4)
        second = track_progress(alarms, f"{name}: comparisons", total=part.comparisons, show=True)
        rows += _alarm_rows(name, list(second))
    return rows


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the simulation; returns its exit status."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--part", nargs="+", default=[*PARTS], choices=[*PARTS], help="[all]")
    parser.add_argument("--scale", type=float, default=1.0, help="share of the simulations [1]")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="[cores]")
    parser.add_argument("--out", type=Path, default=RESULTS, help="[benchmarks/coverage.csv]")
    options = parser.parse_args(arguments)
    rows = _read_rows(options.out)
    for name in options.part:
        part = _scale(PARTS[name], options.scale)
        rows[name] = simulate(name, part, workers=options.workers)
        for row in rows[name]:
            print("  ".join(row.values()), flush=True)
        _write_rows(options.out, rows)  # after each part: a run may be cut short
    return 0


def _under_protocols(table: MatchTable, part: Part) -> list[MatchTable]:
    protocols = POPULATIONS[part.population].protocols
    return [replace(table, protocol=protocol) for protocol in protocols]


def _take_intervals(uncertainty: Uncertainty) -> dict[str, Intervals]:
    scopes = {"number": uncertainty.metrics, "class": uncertainty.per_class}
    return {
        scope: Intervals(
            *(
                np.array([getattr(estimate, field) for estimate in estimates.values()])
                for field in ("value", "low", "high")
            )
        )
        for scope, estimates in scopes.items()
    }


def _coverage_rows(name: str, part: Part, draws: Sequence[Draw]) -> Iterator[dict[str, str]]:
    """A row for each number, and for each range of class sizes, by each method."""
    population = POPULATIONS[part.population]
    metrics = {p.name: [*p.summary] for p in population.protocols}
    for protocol, scope, method in draws[0]:
        columns = [draw[protocol, scope, method] for draw in draws]
        value, low, high = (
            np.stack([getattr(column, field) for column in columns])
            for field in ("value", "low", "high")
        )
        is_covered = _covers(value, low, high)
        for what, place in _columns_of(scope, metrics[protocol], population.rate * part.images):
            rates = [_mean(row) for row in is_covered[:, place]]
            yield _row((name, protocol, what, method), rates, LIMITS[scope])


def _covers(value: Floats, low: Floats, high: Floats) -> Floats:
    """1 where an interval covers the mean of its number, [simulations, n]; NaN without interval."""
    is_defined = ~np.isnan(value)
    sums = np.where(is_defined, value, 0).sum(axis=0)
    mean = sums / np.maximum(is_defined.sum(axis=0), 1)
    is_covered = (low <= mean) & (mean <= high)
    return np.where(np.isnan(low), np.nan, is_covered).astype(np.float64)


def _columns_of(
    scope: str, metrics: Sequence[str], objects: Floats
) -> Iterator[tuple[str, NDArray[np.int64]]]:
    """What rows speak of, and its columns: a number each, or the classes of a range of sizes."""
    if scope == "number":
        yield from ((name, np.array([i])) for i, name in enumerate(metrics))
        return
    for low, high in pairwise(BINS):
        places = np.flatnonzero((objects >= low) & (objects < high))
        if len(places):
            upper = "" if high == math.inf else f" to {high:g}"
            beyond = " or more" if high == math.inf else ""
            yield f"class of {low:g}{upper}{beyond} objects", places


def _alarm_rows(name: str, alarms: Sequence[Alarms]) -> Iterator[dict[str, str]]:
    for protocol, what in alarms[0]:
        rates = [alarm[protocol, what] for alarm in alarms]
        key = (name, protocol, f"false alarm: {what}", "influence")
        yield _row(key, rates, LIMITS["alarm"])


def _row(
    key: tuple[str, str, str, str], rates: Sequence[float], limits: tuple[float, float]
) -> dict[str, str]:
    """A row; the error is that of a mean over simulations."""
    defined = np.array([rate for rate in rates if not math.isnan(rate)])
    rate = float(defined.mean())
    error = float(defined.std() / math.sqrt(len(defined)))
    cells = (
        *key,
        str(len(defined)),
        f"{rate:.4f}",
        f"{error:.4f}",
        *(f"{limit:g}" for limit in limits),
        "yes" if limits[0] <= rate <= limits[1] else "no",
    )
    return dict(zip(COLUMNS, cells, strict=True))


def _mean(values: Floats) -> float:
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if len(defined) else math.nan


def _scale(part: Part, share: float) -> Part:
    return replace(
        part,
        intervals=max(2, round(part.intervals * share)),
        comparisons=max(2, round(part.comparisons * share)),
    )


def _read_rows(path: Path) -> dict[str, list[dict[str, str]]]:
    """The rows of an earlier run, by part; those of parts that run again are replaced."""
    rows: dict[str, list[dict[str, str]]] = {}
    if path.exists():
        with path.open(newline="") as file:
            for row in csv.DictReader(file):
                rows.setdefault(row["part"], []).append(row)
    return rows


def _write_rows(path: Path, rows: Mapping[str, Sequence[Mapping[str, str]]]) -> None:
    ordered = [row for name in PARTS for row in rows.get(name, [])]
    lines = [COLUMNS, *(tuple(row[column] for column in COLUMNS) for row in ordered)]
    # No cell has a quote; those of class sizes have no comma.
    write_bytes(path, "".join(f"{','.join(_quote(c) for c in line)}\n" for line in lines).encode())


def _quote(cell: str) -> str:
    return f'"{cell}"' if "," in cell else cell


if __name__ == "__main__":
    from upmap.console import run

    sys.exit(run(main))
