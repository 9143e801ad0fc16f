"""The steps of `metrics.evaluate` from its options to its reports."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from upmap.console import collect_notes
from upmap.detection.formats import coco_files, open_sources, read, recognize_format
from upmap.detection.tables import Catalog, Detections, GroundTruth, with_classes
from upmap.errors import InputError, InputWarning, abbreviate_list
from upmap.files import create_folder, is_stdout, write_bytes
from upmap.kernels import matching, select_implementation
from upmap.metrics.matching import match
from upmap.metrics.protocols import PROTOCOLS, Protocol
from upmap.metrics.protocols.overrides import override_protocol
from upmap.metrics.reports.records import as_csv, as_json
from upmap.metrics.reports.text import as_text, comparison_text, inputs_text
from upmap.metrics.scores import Evaluation, evaluate_matches

if TYPE_CHECKING:
    from upmap.metrics.analyses import Findings
    from upmap.metrics.analysis.uncertainty import Groups, Uncertainty
    from upmap.metrics.cross_check import Comparison
    from upmap.metrics.evaluate import Options

__all__ = ["evaluate"]

DEFAULT_PROTOCOLS = {"voc": ("voc2007", "voc2010"), "coco": ("coco",)}


def evaluate(options: "Options", *, is_sample: bool) -> int:
    """Evaluates and prints; returns 1 if a cross-check shows a difference, else 0.

    Args:
        options: What the command line asks for, with both inputs opened.
        is_sample: Whether the inputs are the bundled sample.
    """
    select_implementation(matching.IMPLEMENTATIONS, options.impl)  # raises if it is not built
    with collect_notes(strict=options.strict) as notes:
        options = settle_inputs(options)
        protocols = select_protocols(options)
        ground_truth, detections = read_tables(options)
        groups = find_groups(options, ground_truth.catalog)
    if options.impl is None and matching.native is None:
        print(
            "note: without the native kernels this is slow: python -m upmap.kernels",
            file=sys.stderr,
        )
    evaluations = [
        evaluate_protocol(ground_truth, detections, protocol, options) for protocol in protocols
    ]
    uncertainties = estimate_all(options, evaluations, groups)
    findings = analyze_all(options, ground_truth, detections, evaluations)
    checks = compare_all(options, ground_truth, detections, protocols)
    inputs = describe_inputs(options, ground_truth, detections)
    subject = (ground_truth, detections, evaluations)
    page = draw_page(
        options,
        *subject,
        inputs=inputs,
        notes=notes,
        uncertainties=uncertainties,
        findings=findings,
    )
    write_reports(
        options,
        inputs,
        evaluations,
        checks,
        page=page,
        uncertainties=uncertainties,
        findings=findings,
        notes=notes,
        is_sample=is_sample,
    )
    return int(not all(row.agrees for rows in checks for row in rows))


def settle_inputs(options: "Options") -> "Options":
    """The options with the formats of both inputs and the image set that their names settle."""
    truth, detections = open_sources(
        options.ground_truth,
        options.detections,
        ground_truth_format=options.gt_format or options.format,
        detections_format=options.dt_format or options.format,
        image_set=options.image_set,
    )
    return replace(options, ground_truth=truth, detections=detections, image_set=truth.image_set)


def evaluate_protocol(
    ground_truth: GroundTruth, detections: Detections, protocol: Protocol, options: "Options"
) -> Evaluation:
    """The scores under a protocol; as `mean_average_precision`, which would import more."""
    threads, impl = options.threads, options.impl
    table = match(ground_truth, detections, protocol, threads=threads, impl=impl)
    return evaluate_matches(table, threads=threads, impl=impl)


def find_groups(options: "Options", catalog: Catalog) -> "Groups | None":
    """The group of each image, if --groups says it; else looks whether the images are frames."""
    if not options.uncertainty:
        return None
    from upmap.metrics.analysis.groups import note_frames, select_groups

    if options.groups is not None:
        return select_groups(options.groups, catalog)
    note_frames(catalog, Path(str(options.ground_truth)))
    return None


def estimate_all(
    options: "Options", evaluations: Sequence[Evaluation], groups: "Groups | None"
) -> list["Uncertainty"]:
    """The uncertainty of each evaluation; empty with --no-uncertainty."""
    if not options.uncertainty:
        return []
    from upmap.metrics.analysis.uncertainty import estimate_uncertainty

    settings: dict[str, Any] = {}
    if options.bootstrap is not None:
        settings = {"method": "bootstrap", "replicates": options.bootstrap, "seed": options.seed}
    return [
        estimate_uncertainty(
            evaluation.match_table,
            evaluation=evaluation,
            groups=groups,
            level=options.level,
            threads=options.threads,
            impl=options.impl,
            **settings,
        )
        for evaluation in evaluations
    ]


def analyze_all(
    options: "Options",
    ground_truth: GroundTruth,
    detections: Detections,
    evaluations: Sequence[Evaluation],
) -> list["Findings"]:
    """What the analyses that the options ask for say of each evaluation; empty without any."""
    if not options.has_analyses:
        return []
    from upmap.metrics.analyses import analyze

    return analyze(options, ground_truth, detections, evaluations)


def draw_page(
    options: "Options",
    ground_truth: GroundTruth,
    detections: Detections,
    evaluations: Sequence[Evaluation],
    *,
    inputs: Mapping[str, str | int | None],
    notes: Sequence[InputWarning],
    uncertainties: Sequence["Uncertainty"],
    findings: Sequence["Findings"],
) -> bytes | None:
    """The page of --html; None without it."""
    if options.html is None:
        return None
    from upmap.metrics.reports.page.evaluation import Evaluated, make_evaluation_page

    return make_evaluation_page(
        Evaluated(
            options=options,
            ground_truth=ground_truth,
            detections=detections,
            evaluations=evaluations,
            uncertainties=uncertainties,
            records=findings[0].records if findings else {},
            inputs=inputs,
            notes=notes,
        )
    )


def compare_all(
    options: "Options",
    ground_truth: GroundTruth,
    detections: Detections,
    protocols: Sequence[Protocol],
) -> list[list["Comparison"]]:
    """Compares with pycocotools under each protocol; empty without --cross-check."""
    if not options.cross_check:
        return []
    from upmap.metrics.cross_check import compare_with_pycocotools

    files = None
    if options.class_names is None:  # otherwise the ids are not those of the ground truth
        files = coco_files(options.ground_truth, options.detections, image_set=options.image_set)
    return [
        compare_with_pycocotools(
            ground_truth, detections, protocol, files=files, show_progress=True
        )
        for protocol in protocols
    ]


def select_protocols(options: "Options") -> list[Protocol]:
    """The protocols of --protocol, or those of the ground truth's format, with all changes."""
    names = options.protocols
    if not names:
        name = recognize_format(options.ground_truth, "ground truth")
        names = DEFAULT_PROTOCOLS.get(name, ("coco",))
    return [
        override_protocol(
            PROTOCOLS[name],
            iou=options.iou,
            max_dets=options.max_dets,
            settings=options.settings,
        )
        for name in names
    ]


def read_tables(options: "Options") -> tuple[GroundTruth, Detections]:
    """Reads both inputs, restricted to the classes of --classes."""
    ground_truth, detections = read(
        options.ground_truth, options.detections, **options.read_arguments()
    )
    names = ground_truth.catalog.classes
    if unknown := [name for name in options.classes if name not in names]:
        raise InputError(
            f"--classes: no class {unknown[0]!r}; there are {abbreviate_list([*names], 20)}"
        )
    classes = tuple(name for name in names if not options.classes or name in options.classes)
    return with_classes(ground_truth, classes), with_classes(detections, classes)


def describe_inputs(
    options: "Options", ground_truth: GroundTruth, detections: Detections
) -> dict[str, str | int | None]:
    """Paths and counts of what is evaluated."""
    return {
        "ground_truth": str(options.ground_truth),
        "detections": str(options.detections),
        "image_set": options.image_set,
        "images": len(ground_truth.catalog.images),
        "classes": len(ground_truth.catalog.classes),
        "ground_truth_boxes": len(ground_truth),
        "difficult": int(ground_truth.difficult.sum()),
        "crowd": int(ground_truth.crowd.sum()),
        "detection_boxes": len(detections),
    }


def write_reports(
    options: "Options",
    inputs: Mapping[str, str | int | None],
    evaluations: Sequence[Evaluation],
    checks: Sequence[Sequence["Comparison"]],
    *,
    uncertainties: Sequence["Uncertainty"] = (),
    findings: Sequence["Findings"] = (),
    notes: Sequence[InputWarning] = (),
    page: bytes | None = None,
    is_sample: bool = False,
) -> None:
    """Prints the tables, unless a report goes to stdout, and writes the reports."""
    reports: list[tuple[Path, bytes]] = []
    if options.json is not None:
        sections = [part.records for part in findings]
        text = as_json(evaluations, inputs, checks, notes, uncertainties, sections=sections)
        reports.append((options.json, _encode(text)))
    if options.csv is not None:
        columns = [part.columns for part in findings]
        reports.append((options.csv, _encode(as_csv(evaluations, columns, uncertainties))))
    if options.html is not None and page is not None:
        reports.append((options.html, page))
    if not any(is_stdout(path) for path, _ in reports):
        if is_sample:
            print(
                "No arguments: this is the bundled sample. --help says how to evaluate your own.\n"
            )
        tables = [as_text(evaluations, uncertainties), *map(comparison_text, checks)]
        tables += [part.text for part in findings]
        # Flushed, so that it is printed even if writing a report fails.
        print(inputs_text(inputs), "\n".join(tables), sep="\n", end="", flush=True)
    for path, report in reports:
        write_bytes(path, report)
    if options.tables is not None:
        write_tables(options.tables, evaluations, findings)


def _encode(text: str) -> bytes:
    return text.encode("utf-8", "backslashreplace")


def write_tables(
    path: Path, evaluations: Sequence[Evaluation], findings: Sequence["Findings"]
) -> None:
    """Writes the tables of analyses to a new folder, as <protocol>_<table>.csv."""
    from upmap.metrics.reports.analysis_tables import as_csv_table, list_tables

    with create_folder(path) as folder:
        for evaluation, part in zip(evaluations, findings, strict=True):
            for name, rows in list_tables(part.records).items():
                text = as_csv_table(rows).encode("utf-8", "backslashreplace")
                (folder / f"{evaluation.protocol.name}_{name}.csv").write_bytes(text)
