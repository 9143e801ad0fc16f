"""The analyses that the command line may ask for, each a row of ANALYSES.

An analysis takes an evaluation with the tables that were matched, and gives a section of the JSON
report, text, and columns of the CSV report.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from upmap.detection.tables import Detections, GroundTruth
from upmap.metrics.analysis.pairs import Pairs, pair_detections
from upmap.metrics.scores import Evaluation

if TYPE_CHECKING:
    from upmap.metrics.evaluate import Options

__all__ = ["ANALYSES", "Findings", "Section", "Subject", "analyze"]


@dataclass(frozen=True, slots=True, eq=False)
class Subject:
    """What an analysis looks at.

    Attributes:
        options: What the command line asks for.
        evaluation: The numbers and the match table.
        pairs: The pairs of the match table.
        ground_truth: The objects that were matched.
        detections: The detections that were matched.
    """

    options: "Options"
    evaluation: Evaluation
    pairs: Pairs
    ground_truth: GroundTruth
    detections: Detections


@dataclass(frozen=True, slots=True)
class Section:
    """What one analysis says.

    Attributes:
        record: For JSON.
        text: For a terminal.
        columns: For CSV: class name to column to value; empty if it says nothing of classes.
    """

    record: Any
    text: str
    columns: Mapping[str, Mapping[str, float]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Findings:
    """What all analyses say of one evaluation.

    Attributes:
        records: Key in JSON to section.
        text: For a terminal.
        columns: For CSV: class name to column to value.
    """

    records: Mapping[str, Any]
    text: str
    columns: Mapping[str, Mapping[str, float]]


def explain(subject: Subject) -> Section:
    """What costs the points: errors by kind, thresholds, confusions, oLRP, calibration."""
    from upmap.metrics.analysis.explanation import explain_evaluation
    from upmap.metrics.reports.explanation import explanation_columns, explanation_text

    options, table = subject.options, subject.evaluation.match_table
    result = explain_evaluation(subject.pairs, table, threads=options.threads, impl=options.impl)
    text = explanation_text(table.protocol.name, result)
    return Section(result.to_record(), text, explanation_columns(result))


def rank_images(subject: Subject) -> Section:
    """The images that cost most."""
    from upmap.metrics.analysis.worst import find_worst_images
    from upmap.metrics.reports.review import worst_text

    options, table = subject.options, subject.evaluation.match_table
    limit = options.worst or 0
    worst = find_worst_images(table, limit, threads=options.threads, impl=options.impl)
    return Section(worst.to_record(), worst_text(table.protocol.name, worst))


def review_labels(subject: Subject) -> Section:
    """Annotations that may be wrong."""
    from upmap.metrics.analysis.label_candidates import find_label_candidates
    from upmap.metrics.analysis.operating_points import find_operating_points
    from upmap.metrics.reports.review import labels_text

    table = subject.evaluation.match_table
    candidates = find_label_candidates(subject.pairs, table, find_operating_points(table))
    return Section(candidates.to_record(), labels_text(table.protocol.name, candidates))


def explain_as_tidecv(subject: Subject) -> Section:
    """TIDE's numbers by tidecv's own rules, at the protocol's first IoU threshold."""
    from upmap.metrics.analysis.tide import explain_errors_as_tidecv
    from upmap.metrics.reports.explanation import tidecv_text

    options, protocol = subject.options, subject.evaluation.protocol
    costs = explain_errors_as_tidecv(
        subject.ground_truth,
        subject.detections,
        iou=protocol.iou_thresholds[0],
        threads=options.threads,
        impl=options.impl,
    )
    return Section(costs.to_record(), tidecv_text(costs))


def compare_slices(subject: Subject) -> Section:
    """The headline number on parts of the data."""
    from upmap.metrics.analysis.attributes import read_attributes
    from upmap.metrics.analysis.slices import evaluate_slices
    from upmap.metrics.reports.slices import slices_text

    options, table = subject.options, subject.evaluation.match_table
    attributes = {}
    if options.attributes is not None:
        attributes = read_attributes(options.attributes, subject.pairs.catalog)
    slices = evaluate_slices(
        subject.ground_truth,
        subject.detections,
        table,
        subject.pairs,
        attributes=attributes,
        show_progress=True,
        threads=options.threads,
        impl=options.impl,
    )
    return Section(slices.to_record(), slices_text(table.protocol.name, slices))


def range_over_ties(subject: Subject) -> Section:
    """Each number over all orders of equal scores."""
    from upmap.metrics.analysis.ties import find_tie_ranges
    from upmap.metrics.reports.ties import tie_columns, ties_text

    options, evaluation = subject.options, subject.evaluation
    ranges = find_tie_ranges(
        evaluation.match_table,
        subject.pairs,
        evaluation=evaluation,
        show_progress=True,
        threads=options.threads,
        impl=options.impl,
    )
    return Section(ranges.to_record(), ties_text(evaluation, ranges), tie_columns(ranges))


@dataclass(frozen=True, slots=True)
class Analysis:
    """A row of ANALYSES.

    Attributes:
        key: Of its section in JSON.
        is_wanted: Whether the options ask for it.
        run: Makes its section.
    """

    key: str
    is_wanted: Callable[["Options"], bool]
    run: Callable[[Subject], Section]


ANALYSES = (
    Analysis("explanation", lambda options: options.explain, explain),
    Analysis("tidecv", lambda options: options.tidecv, explain_as_tidecv),
    Analysis("slices", lambda options: options.slices, compare_slices),
    Analysis("tie_range", lambda options: options.ties, range_over_ties),
    Analysis("worst_images", lambda options: options.worst is not None, rank_images),
    Analysis("label_candidates", lambda options: options.labels, review_labels),
)


def analyze(
    options: "Options",
    ground_truth: GroundTruth,
    detections: Detections,
    evaluations: Sequence[Evaluation],
) -> list[Findings]:
    """What the analyses that the options ask for say of each evaluation.

    Args:
        options: What the command line asks for.
        ground_truth: The objects that were matched.
        detections: The detections that were matched.
        evaluations: Of these under different protocols.
    """
    return [_analyze_one(options, ground_truth, detections, each) for each in evaluations]


def _analyze_one(
    options: "Options", ground_truth: GroundTruth, detections: Detections, evaluation: Evaluation
) -> Findings:
    pairs = pair_detections(
        ground_truth,
        detections,
        evaluation.match_table,
        threads=options.threads,
        impl=options.impl,
    )
    subject = Subject(options, evaluation, pairs, ground_truth, detections)
    sections = {row.key: row.run(subject) for row in ANALYSES if row.is_wanted(options)}
    columns: dict[str, dict[str, float]] = {name: {} for name in evaluation.per_class}
    for section in sections.values():
        for name, values in section.columns.items():
            columns[name] |= values
    return Findings(
        records={key: section.record for key, section in sections.items()},
        text="\n".join(section.text for section in sections.values()),
        columns=columns,
    )
