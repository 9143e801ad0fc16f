"""The steps of `metrics.compare` from its options to its reports."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

from upmap.console import collect_notes
from upmap.detection.formats import open_source, read
from upmap.detection.tables import Catalog, Detections, GroundTruth
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
OUTCOMES = {PASS: "holds", WORSE: "does not hold", UNDECIDED: "undecided"}

Source = tuple[GroundTruth, Detections, MatchTable]


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
        sources = [_match(options, path, protocol) for path in options.detections]
        settings = _settings(options, sources[0][0].catalog)
    tables = [table for _, _, table in sources]
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
    statuses = _judge_bounds(options, contest)
    _write(options, contest, _draw_page(options, contest, sources, statuses))
    worst_first = (WORSE, UNDECIDED, PASS)
    return next(status for status in worst_first if status in {PASS, *statuses.values()})


def _select_protocol(options: "Options") -> Protocol:
    if options.protocol is not None:
        return PROTOCOLS[options.protocol]
    source = open_source(
        options.ground_truth, "ground truth", format=options.gt_format or options.format
    )
    return PROTOCOLS["voc2010" if source.format == "voc" else "coco"]


def _match(options: "Options", detections: Any, protocol: Protocol) -> Source:
    ground_truth, detected = read(
        options.ground_truth,
        detections,
        ground_truth_format=options.gt_format or options.format,
        detections_format=options.dt_format or options.format,
        **options.read_arguments(),
    )
    table = match(ground_truth, detected, protocol, threads=options.threads)
    return ground_truth, detected, table


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


def _draw_page(
    options: "Options", contest: Contest, sources: Sequence[Source], statuses: Mapping[str, int]
) -> bytes | None:
    """The page of --html; None without it."""
    if options.html is None:
        return None
    from upmap.metrics.reports.page.comparison import Bound, Compared, make_comparison_page

    bounds = [Bound(text, OUTCOMES[status]) for text, status in statuses.items()]
    compared = Compared(options=options, contest=contest, tables=sources, bounds=bounds)
    return make_comparison_page(compared)


def _write(options: "Options", contest: Contest, page: bytes | None) -> None:
    """Prints the tables, unless a report goes to stdout, and writes the reports."""
    reports: list[tuple[Path, bytes]] = []
    if options.json is not None:
        reports.append((options.json, as_json(contest).encode("utf-8", "backslashreplace")))
    if options.csv is not None:
        reports.append((options.csv, as_csv(contest).encode("utf-8", "backslashreplace")))
    if options.html is not None and page is not None:
        reports.append((options.html, page))
    if not any(is_stdout(path) for path, _ in reports):
        print(as_text(contest), end="")
        sys.stdout.flush()  # it is there also if a report fails
    for path, report in reports:
        write_bytes(path, report)


def _judge_bounds(options: "Options", contest: Contest) -> dict[str, int]:
    """What is bounded, in words, and the status of each bound."""
    statuses: dict[str, int] = {}
    name = next(iter(contest.protocol.summary))
    last = len(contest.names) - 1
    if options.fail_under is not None:
        estimate = contest.uncertainties[last].metrics[name]
        text = f"{name} of the last detector is at least {options.fail_under:g}"
        statuses[text] = _judge(estimate.low, estimate.high, options.fail_under)
    if options.not_worse is not None:
        difference = contest.pairs[0, last].metrics[name]
        text = f"the last detector is not worse than the first by {options.not_worse:g} or more"
        statuses[text] = _judge(difference.low, difference.high, -options.not_worse)
    return statuses


def _judge(low: float, high: float, bound: float) -> int:
    """Whether an interval lies above a bound; an undefined one decides nothing."""
    if low >= bound:
        return PASS
    return WORSE if high < bound else UNDECIDED
