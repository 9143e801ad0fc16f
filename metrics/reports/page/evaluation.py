"""The page of an evaluation: its numbers, what costs the points, and the images behind them.

The page reads two things: `report`, which is the JSON report with every analysis, and `view`, what
is only drawn. Each part of `view` is a row of VIEWS. The panels follow docs/report.md.
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from upmap.errors import InputWarning
from upmap.metrics.analyses import ANALYSES, Subject
from upmap.metrics.analysis.operating_points import find_operating_points
from upmap.metrics.analysis.pairs import pair_detections
from upmap.metrics.analysis.tide import ERRORS
from upmap.metrics.analysis.uncertainty import Uncertainty, estimate_uncertainty
from upmap.metrics.reports.page.boxes import describe_boxes, describe_candidates
from upmap.metrics.reports.page.curves import describe_curves
from upmap.metrics.reports.page.document import Data, fit_document, round_numbers
from upmap.metrics.reports.page.provenance import describe_command_line, describe_provenance
from upmap.metrics.reports.page.remarks import list_remarks
from upmap.metrics.reports.page.thumbnails import make_thumbnails
from upmap.metrics.reports.records import as_json
from upmap.metrics.scores import Evaluation

if TYPE_CHECKING:
    from upmap.detection.tables import Detections, GroundTruth
    from upmap.metrics.evaluate import Options

__all__ = ["Evaluated", "make_evaluation_page"]

# What a page says whatever the flags ask for, by the keys of ANALYSES; of tidecv it has no panel.
OF_THE_PAGE = "worst_images"  # as many as the page has, not as many as --worst says
PANELS = frozenset(("explanation", "slices", "tie_range", "worst_images", "label_candidates"))
WORST = 100  # images that have boxes
WITH_THUMBNAILS = 24
WITH_CURVES = 200  # classes, where all are too many


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Evaluated:
    """What a page is about.

    Attributes:
        options: What the command line asks for.
        ground_truth: The objects that were matched.
        detections: The detections that were matched.
        evaluations: Of these under different protocols; the first is the page's.
        uncertainties: Of the evaluations; empty if they are not known yet.
        records: What analyses of the first evaluation said already, by the keys of ANALYSES.
        inputs: Paths and counts, as in the JSON report.
        notes: The warnings about the input.
        command: The command line that gives the page.
    """

    options: "Options"
    ground_truth: "GroundTruth"
    detections: "Detections"
    evaluations: Sequence[Evaluation]
    uncertainties: Sequence[Uncertainty]
    inputs: Mapping[str, Any]
    records: Mapping[str, Any] = field(default_factory=dict)
    notes: Sequence[InputWarning] = ()
    command: str = ""

    @property
    def evaluation(self) -> Evaluation:
        """The page's."""
        return self.evaluations[0]


def make_evaluation_page(evaluated: Evaluated) -> bytes:
    """The page of an evaluation as one HTML file.

    Raises:
        InputError: If it is larger than --html-size allows.
    """
    evaluated = _complete(evaluated)
    options = evaluated.options
    data: Data = {"omitted": [], **_collect(evaluated)}
    return fit_document(data, "evaluation", limit=options.html_bytes, reductions=REDUCTIONS)


def _complete(evaluated: Evaluated) -> Evaluated:
    """With uncertainties, the command line, and as many of the worst images as a page has."""
    options = evaluated.options
    command = evaluated.command or describe_command_line("upmap evaluate", options)
    options = replace(options, worst=WORST)
    uncertainties = evaluated.uncertainties or [
        estimate_uncertainty(
            evaluation.match_table,
            evaluation=evaluation,
            threads=options.threads,
            impl=options.impl,
        )
        for evaluation in evaluated.evaluations
    ]
    return replace(evaluated, options=options, uncertainties=uncertainties, command=command)


def _collect(evaluated: Evaluated) -> Data:
    options, table = evaluated.options, evaluated.evaluation.match_table
    tables = evaluated.ground_truth, evaluated.detections
    pairs = pair_detections(*tables, table, threads=options.threads, impl=options.impl)
    subject = Subject(options, evaluated.evaluation, pairs, *tables)
    known = {key: record for key, record in evaluated.records.items() if key != OF_THE_PAGE}
    records = {
        row.key: round_numbers(known[row.key] if row.key in known else row.run(subject).record)
        for row in ANALYSES
        if row.key in PANELS or row.is_wanted(options)
    }
    report = as_json(
        evaluated.evaluations,
        evaluated.inputs,
        notes=evaluated.notes,
        uncertainties=evaluated.uncertainties,
        sections=[records],
    )
    source = _Source(evaluated, subject, json.loads(report))
    view = {key: round_numbers(describe(source)) for key, describe in VIEWS.items()}
    return {"report": source.report, "view": view}


@dataclass(frozen=True, slots=True, eq=False)
class _Source:
    """What the parts of the view are made from.

    Attributes:
        evaluated: What the page is about.
        subject: The first evaluation with its pairs.
        report: The JSON report.
    """

    evaluated: Evaluated
    subject: Subject
    report: Data

    @property
    def result(self) -> Data:
        """The first evaluation in the report."""
        result: Data = self.report["results"][0]
        return result


def _describe_numbers(source: _Source) -> list[Data]:
    """Every number of every protocol, with what it is taken at."""
    return [
        {
            "protocol": evaluation.protocol.name,
            "name": name,
            "iou": metric.iou,
            "area": metric.area,
        }
        for evaluation in source.evaluated.evaluations
        for name, metric in evaluation.protocol.summary.items()
    ]


def _describe_curves(source: _Source) -> Data:
    table = source.subject.evaluation.match_table
    return describe_curves(table, find_operating_points(table))


def _describe_images(source: _Source) -> list[Data]:
    """The boxes of the images that cost most, in the order of the report."""
    pairs, table = source.subject.pairs, source.subject.evaluation.match_table
    images = [row["image"] for row in source.result["worst_images"]["images"]]
    threshold = source.result["explanation"]["operating_points"]["threshold"]
    records = describe_boxes(
        pairs, table, images, threshold=math.nan if threshold is None else threshold
    )
    folder = source.evaluated.options.images
    if folder is not None:
        thumbnails = make_thumbnails(folder, pairs.catalog, images[:WITH_THUMBNAILS])
        for record, thumbnail in zip(records, thumbnails, strict=False):
            record["thumbnail"] = thumbnail
    return records


def _describe_origin(source: _Source) -> Data:
    evaluated = source.evaluated
    options = evaluated.options
    inputs = {
        "ground truth": (options.ground_truth, evaluated.ground_truth),
        "detections": (options.detections, evaluated.detections),
    }
    return describe_provenance(evaluated.command, inputs)


def _describe_candidates(source: _Source) -> Data:
    """The boxes of labels to check, by list."""
    lists = source.result["label_candidates"]
    return {
        name: describe_candidates(source.subject.pairs, rows)
        for name, rows in lists.items()
        if isinstance(rows, list)
    }


# What is drawn and stands in no report. A part of the view is a row here and its function.
VIEWS: Mapping[str, Callable[[_Source], Any]] = {
    "numbers": _describe_numbers,
    "remarks": lambda source: list_remarks(source.evaluated, source.result),
    "errors": lambda _: [{"key": key, "text": text} for key, text in ERRORS.items()],
    "curves": _describe_curves,
    "images": _describe_images,
    "candidates": _describe_candidates,
    "provenance": _describe_origin,
}


def _without_thumbnails(data: Data) -> Data:
    images = [
        {key: value for key, value in image.items() if key != "thumbnail"}
        for image in data["view"]["images"]
    ]
    return _with_view(data, images=images)


def _with_fewer_images(data: Data) -> Data:
    return _with_view(data, images=data["view"]["images"][:WITH_THUMBNAILS])


def _with_fewer_curves(data: Data) -> Data:
    """The curves of the classes with most objects; the others keep their numbers."""
    curves = data["view"]["curves"]
    order = sorted(range(len(curves["classes"])), key=lambda k: -curves["classes"][k]["positives"])
    kept = set(order[:WITH_CURVES])
    classes = [curve if k in kept else None for k, curve in enumerate(curves["classes"])]
    return _with_view(data, curves=curves | {"classes": classes})


def _without_boxes(data: Data) -> Data:
    return _with_view(data, images=[])


def _without_candidate_boxes(data: Data) -> Data:
    return _with_view(data, candidates={})


def _without_curves(data: Data) -> Data:
    curves = data["view"]["curves"]
    return _with_view(data, curves=curves | {"classes": [None] * len(curves["classes"])})


def _without_candidates(data: Data) -> Data:
    """The lists of labels to check, cut to ten each."""
    result = dict(data["report"]["results"][0])
    lists = result["label_candidates"]
    result["label_candidates"] = {
        name: rows[:10] if isinstance(rows, list) else rows for name, rows in lists.items()
    }
    return data | {"report": data["report"] | {"results": [result, *data["report"]["results"][1:]]}}


def _with_view(data: Data, **parts: Any) -> Data:
    return data | {"view": data["view"] | parts}


# What is left out, in this order, of a page that would be too large.
REDUCTIONS = (
    ("the thumbnails of images", _without_thumbnails),
    (f"the boxes of all but {WITH_THUMBNAILS} images", _with_fewer_images),
    (f"the curves of all but the {WITH_CURVES} classes with most objects", _with_fewer_curves),
    ("the boxes of images", _without_boxes),
    ("the boxes of labels to check", _without_candidate_boxes),
    ("all but ten of each list of labels to check", _without_candidates),
    ("the curves of classes", _without_curves),
)
