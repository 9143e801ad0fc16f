"""The steps of `metrics.compare` from its options to its reports."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

from upmap.console import collect_notes
from upmap.detection.formats import open_source, read
from upmap.detection.tables import Catalog
from upmap.errors import InputWarning
from upmap.files import is_stdout, write_bytes
from upmap.metrics.analysis.comparison import DetectorComparison, compare
from upmap.metrics.analysis.groups import note_frames, select_groups
from upmap.metrics.analysis.uncertainty import Groups, Uncertainty, estimate_uncertainty
from upmap.metrics.match_table import MatchTable
from upmap.metrics.matching import match
from upmap.metrics.protocols import PROTOCOLS, Protocol
from upmap.metrics.reports.comparison import as_csv, as_json, as_text

if TYPE_CHECKING:
    from upmap.metrics.compare import Options

__all__ = ["Contest", "compare_detectors"]

PASS, WORSE, UNDECIDED = 0, 1, 3  # exit statuses


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Contest:
    """The comparisons of several detectors.

    Attributes:
        protocol: The protocol.
        names: The detectors' names, the paths of their files.
        uncertainties: The numbers of each detector.
        pairs: The comparison of each pair (i, j) with i < j, j against i.
        correction: "holm" or "bh", of the p of classes.
        notes: What was noted of the input.
    """

    protocol: Protocol
    names: tuple[str, ...]
    uncertainties: tuple[Uncertainty, ...]
    pairs: Mapping[tuple[int, int], DetectorComparison]
    correction: str
    notes: Sequence[InputWarning]


def compare_detectors(options: "Options") -> int:
    """Compares and prints; returns the exit status."""
    with collect_notes(strict=options.strict) as notes:
        protocol = _select_protocol(options)
        matched = [_match(options, path, protocol) for path in options.detections]
        tables = [table for table, _ in matched]
        settings = _settings(options, matched[0][1])
    contest = Contest(
        protocol=protocol,
        names=tuple(map(str, options.detections)),
        uncertainties=tuple(estimate_uncertainty(table, **settings) for table in tables),
        pairs={
            (i, j): compare(tables[i], tables[j], **settings)
            for i, j in combinations(range(len(tables)), 2)
        },
        correction=options.correction,
        notes=notes,
    )
    _write(options, contest)
    return _status(options, contest)


def _select_protocol(options: "Options") -> Protocol:
    if options.protocol is not None:
        return PROTOCOLS[options.protocol]
    source = open_source(
        options.ground_truth, "ground truth", format=options.gt_format or options.format
    )
    return PROTOCOLS["voc2010" if source.format == "voc" else "coco"]


def _match(options: "Options", detections: Any, protocol: Protocol) -> tuple[MatchTable, Catalog]:
    """The match table of a detector, and the images it speaks of."""
    tables = read(
        options.ground_truth,
        detections,
        ground_truth_format=options.gt_format or options.format,
        detections_format=options.dt_format or options.format,
        **options.read_arguments(),
    )
    return match(*tables, protocol, threads=options.threads), tables[0].catalog


def _settings(options: "Options", catalog: Catalog) -> dict[str, Any]:
    """What `compare` and `estimate_uncertainty` take alike."""
    groups: Groups | None = None
    if options.groups is not None:
        groups = select_groups(options.groups, catalog)
    else:
        note_frames(catalog, Path(str(options.ground_truth)))
    settings: dict[str, Any] = {
        "seed": options.seed,
        "groups": groups,
        "level": options.level,
        "threads": options.threads,
    }
    if options.bootstrap is not None:
        settings |= {"method": "bootstrap", "replicates": options.bootstrap}
    return settings


def _write(options: "Options", contest: Contest) -> None:
    """Prints the tables, unless a report goes to stdout, and writes the reports."""
    reports = []
    if options.json is not None:
        reports.append((options.json, as_json(contest)))
    if options.csv is not None:
        reports.append((options.csv, as_csv(contest)))
    if not any(is_stdout(path) for path, _ in reports):
        print(as_text(contest), end="")
        sys.stdout.flush()  # it is there also if a report fails
    for path, text in reports:
        write_bytes(path, text.encode("utf-8", "backslashreplace"))


def _status(options: "Options", contest: Contest) -> int:
    """The worst of the bounds: shown to be worse, undecided, holds."""
    statuses = {PASS}
    name = next(iter(contest.protocol.summary))
    last = len(contest.names) - 1
    if options.fail_under is not None:
        estimate = contest.uncertainties[last].metrics[name]
        statuses.add(_judge(estimate.low, estimate.high, options.fail_under))
    if options.not_worse is not None:
        difference = contest.pairs[0, last].metrics[name]
        statuses.add(_judge(difference.low, difference.high, -options.not_worse))
    return next(status for status in (WORSE, UNDECIDED, PASS) if status in statuses)


def _judge(low: float, high: float, bound: float) -> int:
    """Whether an interval lies above a bound; an undefined one decides nothing."""
    if low >= bound:
        return PASS
    return WORSE if high < bound else UNDECIDED
