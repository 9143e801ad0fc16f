"""The page of a comparison: whether detectors differ, in what, and on which images.

The page reads two things: `report`, which is the JSON report, and `view`, what is only drawn.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from upmap.metrics.analysis.comparison import DetectorComparison
from upmap.metrics.analysis.pairs import pair_detections
from upmap.metrics.analysis.tide import ERRORS, explain_errors
from upmap.metrics.reports.comparison import as_json, shorten_names
from upmap.metrics.reports.page.document import Data, fit_document, round_numbers
from upmap.metrics.reports.page.provenance import describe_command_line, describe_provenance
from upmap.progress import track_progress

if TYPE_CHECKING:
    from upmap.detection.tables import Detections, GroundTruth
    from upmap.metrics.compare import Options
    from upmap.metrics.compare_steps import Contest
    from upmap.metrics.match_table import MatchTable

__all__ = ["Bound", "Compared", "make_comparison_page"]

BINS = 64  # of the histogram of replicates
FEWER_IMAGES = 10


@dataclass(frozen=True, slots=True)
class Bound:
    """A bound on the last detector, and whether it holds.

    Attributes:
        text: What is bounded.
        outcome: Whether it holds, in a word.
    """

    text: str
    outcome: str


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Compared:
    """What a page is about.

    Attributes:
        options: What the command line asks for.
        contest: The comparisons.
        tables: Of each detector the ground truth, the detections and their match table.
        bounds: Those of --fail-under and --not-worse.
    """

    options: "Options"
    contest: "Contest"
    tables: Sequence[tuple["GroundTruth", "Detections", "MatchTable"]]
    bounds: Sequence[Bound] = ()


def make_comparison_page(compared: Compared) -> bytes:
    """The page of a comparison as one HTML file.

    Raises:
        InputError: If it is larger than --html-size allows.
    """
    contest = compared.contest
    data: Data = {
        "omitted": [],
        "report": json.loads(as_json(contest)),
        "view": {
            "labels": shorten_names(contest.names),
            "metrics": list(contest.protocol.summary),
            "remarks": list(_list_remarks(contest)),
            "bounds": [{"text": bound.text, "outcome": bound.outcome} for bound in compared.bounds],
            "errors": [{"key": key, "text": text} for key, text in ERRORS.items()],
            "costs": _describe_costs(compared),
            "replicates": [round_numbers(_bin_replicates(each)) for each in contest.pairs.values()],
            "provenance": _describe_origin(compared),
        },
    }
    limit = compared.options.html_bytes
    return fit_document(data, "comparison", limit=limit, reductions=REDUCTIONS)


def _list_remarks(contest: "Contest") -> list[str]:
    first = next(iter(contest.pairs.values()))
    remarks = [
        f"The {100 * first.level:g} % interval is that of the mean difference over test sets of "
        "this size from the same source. Another training of the same detector differs too, which "
        "no test on one run covers."
    ]
    if first.groups is None:
        remarks.append(
            "Images are taken as independent; frames of one video are not, and differences then "
            "seem surer than they are (--groups)."
        )
    if first.left_out:
        remarks.append(f"{first.left_out:,} images that only one detector has are left out.")
    return remarks + [f"Of the input: {note}" for note in contest.notes]


def _describe_costs(compared: Compared) -> list[Data]:
    """What each kind of error costs each detector."""
    threads = compared.options.threads
    costs: list[Data] = []
    tables = track_progress(
        compared.tables, "costs of errors", total=len(compared.tables), show=True
    )
    for ground_truth, detections, table in tables:
        pairs = pair_detections(ground_truth, detections, table, threads=threads)
        errors = explain_errors(pairs, table, threads=threads)
        costs.append(round_numbers({"shares": errors.shares, "counts": errors.counts}))
    return costs


def _bin_replicates(pair: DetectorComparison) -> Data | None:
    """A histogram of the differences of the first number; None by influence, which draws none."""
    if not pair.replicates.size:
        return None
    values = pair.replicates[:, 0]
    values = values[np.isfinite(values)]
    if not len(values):
        return None
    counts, edges = np.histogram(values, bins=BINS)
    return {"low": float(edges[0]), "high": float(edges[-1]), "counts": counts.tolist()}


def _describe_origin(compared: Compared) -> Data:
    options, tables = compared.options, compared.tables
    inputs: dict[str, tuple[Any, Any]] = {"ground truth": (options.ground_truth, tables[0][0])}
    for i, (path, (_, detections, _)) in enumerate(zip(options.detections, tables, strict=True)):
        inputs[f"detector {i + 1}"] = (path, detections)
    return describe_provenance(describe_command_line("upmap compare-detectors", options), inputs)


def _with_fewer_images(data: Data) -> Data:
    pairs = [
        pair | {"image_delta": pair["image_delta"][:FEWER_IMAGES]}
        for pair in data["report"]["pairs"]
    ]
    return data | {"report": data["report"] | {"pairs": pairs}}


def _without_classes(data: Data) -> Data:
    pairs = [pair | {"per_class": {}} for pair in data["report"]["pairs"]]
    return data | {"report": data["report"] | {"pairs": pairs}}


# What is left out, in this order, of a page that would be too large.
REDUCTIONS = (
    (f"all but {FEWER_IMAGES} of the images that changed", _with_fewer_images),
    ("the classes", _without_classes),
)
