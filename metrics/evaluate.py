"""The command line of detection evaluation: `python -m metrics.evaluate`."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import upmap
from upmap.console import Parser, describe_command, run
from upmap.detection.formats import FORMATS, coco_files, open_sources, read, recognize_format
from upmap.detection.inputs import Named, open_arguments
from upmap.detection.tables import Detections, GroundTruth, with_classes
from upmap.errors import InputError, abbreviate_list
from upmap.files import check_outputs, is_stdout, write_bytes
from upmap.kernels import Implementation, matching, select_implementation
from upmap.metrics.api import mean_average_precision
from upmap.metrics.protocols import PROTOCOLS, Protocol
from upmap.metrics.protocols.overrides import override_protocol
from upmap.metrics.reports.records import BEGINNINGS, as_csv, as_json
from upmap.metrics.reports.text import as_text, comparison_text, inputs_text
from upmap.metrics.scores import Evaluation
from upmap.options import (
    Choices,
    Flag,
    Positional,
    Range,
    Threads,
    add_flags,
    parse_options,
    validate_fields,
)

if TYPE_CHECKING:
    from upmap.metrics.cross_check import Comparison

SAMPLE = (Path(upmap.__file__).parent / "data" / "sample" / "voc").resolve()
DEFAULT_PROTOCOLS = {"voc": ("voc2007", "voc2010"), "coco": ("coco",)}
DESCRIPTION = """\
Evaluates object detections: VOC07 11-point mAP, VOC2010+ all-point mAP and COCO AP,
each equal to its official tool. Without arguments it evaluates the bundled sample."""
EXAMPLES = """\
examples:
  %(prog)s
  %(prog)s VOCdevkit/VOC2007 results/ --image-set test
  %(prog)s instances_val2017.json detections.json --json report.json
  %(prog)s VOCdevkit/VOC2007 results/ --protocol voc2007,coco --iou 0.7
  %(prog)s VOCdevkit/VOC2007 results/ --cross-check
  %(prog)s VOCdevkit/VOC2007 results/ --set strict=true --set difficult=drop

ground truth: a VOC devkit folder (VOCdevkit/VOC2007), a folder of XML files, or a COCO
instances file. detections: a folder of comp4_det_<set>_<class>.txt, or a COCO results file.
Files may be pipes or compressed by gzip; one of both inputs may be -, standard input.
exit status: 0 good; 1 --cross-check found a difference; 2 misused or unreadable input."""


DATA, CHOICE, OUTPUT = "what is evaluated", "how", "what is written"  # headings of the help


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What is evaluated, and how.

    Attributes:
        ground_truth: A file, a folder or -; neither this nor detections evaluates the sample.
        detections: A file, a folder or -.
        format: Format of both inputs; default: recognized by looking at the files.
        image_set: An image set of the devkit, or a file with an image id on each line; default: the
            one that the detections' file names speak of, else all images.
        class_names: Which class each category id of COCO results is, where the ground truth has no
            such ids: a name on each line for 1, 2, ..., or lines `id name`, or an instances file.
        classes: Evaluate only these classes.
        protocols: The protocols; default: both of VOC for VOC ground truth, coco for COCO ground
            truth.
        iou: IoU thresholds in place of the protocols' own.
        max_dets: Maximum number of detections per image and class, the best first.
        settings: Override a field of the protocols, as in --set strict=true, see docs/metrics.md.
        impl: Implementation of the kernels; default: the fastest available.
        threads: Maximum number of threads; 0 uses all cores.
        json: Write the report as JSON (-: to stdout, in place of the table).
        csv: Write the per-class scores as CSV (-: to stdout, in place of the table).
        cross_check: Compare with pycocotools, for VOC step by step.
    """

    ground_truth: Annotated[Named, Positional("GROUND_TRUTH"), Flag(group=DATA)] = ""
    detections: Annotated[Named, Positional("DETECTIONS"), Flag(group=DATA)] = ""
    format: Annotated[str | None, Choices(FORMATS), Flag(group=DATA)] = None
    image_set: Annotated[str | None, Flag(metavar="NAME|FILE", group=DATA)] = None
    class_names: Annotated[Path | None, Flag(metavar="FILE", group=DATA)] = None
    classes: Annotated[tuple[str, ...], Flag(metavar="A,B", group=DATA)] = ()
    protocols: Annotated[
        tuple[str, ...], Choices(PROTOCOLS), Flag(name="protocol", metavar="A,B", group=CHOICE)
    ] = ()
    iou: Annotated[
        tuple[float, ...], Range(0, 1, above=True), Flag(metavar="T,T", group=CHOICE)
    ] = ()
    max_dets: Annotated[int | None, Range(1, matching.MAX_DETECTIONS), Flag(group=CHOICE)] = None
    settings: Annotated[
        tuple[str, ...],
        Flag(name="set", metavar="FIELD=VALUE", group=CHOICE, is_repeatable=True),
    ] = ()
    impl: Annotated[Implementation | None, Flag(group=CHOICE)] = None
    threads: Annotated[Threads, Flag(group=CHOICE)] = 0
    json: Annotated[Path | None, Flag(metavar="FILE|-", group=OUTPUT)] = None
    csv: Annotated[Path | None, Flag(metavar="FILE|-", group=OUTPUT)] = None
    cross_check: Annotated[bool, Flag(group=OUTPUT)] = False

    def __post_init__(self) -> None:
        validate_fields(self)
        if bool(self.ground_truth) != bool(self.detections):
            raise ValueError("name both GROUND_TRUTH and DETECTIONS, or neither for the sample")
        if len(self.iou) > matching.MAX_THRESHOLDS:
            expected = f"at most {matching.MAX_THRESHOLDS} thresholds"
            raise ValueError(f"iou: expected {expected}, got {len(self.iou)}")
        object.__setattr__(self, "iou", tuple(sorted({*self.iou})))


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the program; returns its exit status."""
    parser = Parser(
        prog=describe_command("upmap.metrics.evaluate"), description=DESCRIPTION, epilog=EXAMPLES
    )
    add_flags(parser, Options)
    return run(lambda: program(parse_options(Options, parser, arguments)))


def program(options: Options) -> int:
    """Evaluates and prints; returns 1 if a cross-check shows a difference, else 0."""
    select_implementation(matching.IMPLEMENTATIONS, options.impl)  # raises if it is not built
    is_sample = not options.ground_truth
    if is_sample:
        options = replace(options, ground_truth=SAMPLE, detections=SAMPLE / "results")
    check_reports(options)
    options = open_inputs(options)
    protocols = select_protocols(options)
    ground_truth, detections = read_tables(options)
    if options.impl is None and matching.native is None:
        print(
            "note: without the native kernels this is slow: python -m upmap.kernels",
            file=sys.stderr,
        )
    evaluations = [
        mean_average_precision(
            ground_truth,
            detections,
            protocol=protocol,
            impl=options.impl,
            threads=options.threads,
        )
        for protocol in protocols
    ]
    checks = compare_all(options, ground_truth, detections, protocols)
    inputs = describe_inputs(options, ground_truth, detections)
    write_reports(options, inputs, evaluations, checks, is_sample=is_sample)
    return int(not all(row.agrees for rows in checks for row in rows))


def check_reports(options: Options) -> None:
    """Refuses reports that would overwrite an input or one another, or cannot be written."""
    reports = {"--json": options.json, "--csv": options.csv}
    outputs = {name: path for name, path in reports.items() if path is not None}
    named = (options.ground_truth, options.detections, options.image_set, options.class_names)
    inputs = [Path(str(name)) for name in named if name is not None]
    check_outputs(outputs, inputs, BEGINNINGS)


def open_inputs(options: Options) -> Options:
    """The options with both inputs opened, and the image set that their names settle.

    Pipes and standard input can be read only once.
    """
    truth, detections = open_arguments(options.ground_truth, options.detections)
    truth, detections = open_sources(
        truth,
        detections or options.detections,
        format=options.format,
        image_set=options.image_set,
    )
    return replace(options, ground_truth=truth, detections=detections, image_set=truth.image_set)


def compare_all(
    options: Options,
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
        files = coco_files(
            options.ground_truth,
            options.detections,
            format=options.format,
            image_set=options.image_set,
        )
    return [
        compare_with_pycocotools(
            ground_truth, detections, protocol, files=files, show_progress=True
        )
        for protocol in protocols
    ]


def select_protocols(options: Options) -> list[Protocol]:
    """The protocols of --protocol, or those of the ground truth's format, with all changes."""
    names = options.protocols
    if not names:
        names = DEFAULT_PROTOCOLS[
            options.format or recognize_format(options.ground_truth, "ground truth")
        ]
    return [
        override_protocol(
            PROTOCOLS[name],
            iou=options.iou,
            max_dets=options.max_dets,
            settings=options.settings,
        )
        for name in names
    ]


def read_tables(options: Options) -> tuple[GroundTruth, Detections]:
    """Reads both inputs, restricted to the classes of --classes."""
    ground_truth, detections = read(
        options.ground_truth,
        options.detections,
        format=options.format,
        image_set=options.image_set,
        class_names=options.class_names,
        threads=options.threads,
        show_progress=True,
    )
    names = ground_truth.catalog.classes
    if unknown := [name for name in options.classes if name not in names]:
        raise InputError(
            f"--classes: no class {unknown[0]!r}; there are {abbreviate_list([*names], 20)}"
        )
    classes = tuple(name for name in names if not options.classes or name in options.classes)
    return with_classes(ground_truth, classes), with_classes(detections, classes)


def describe_inputs(
    options: Options, ground_truth: GroundTruth, detections: Detections
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
    options: Options,
    inputs: Mapping[str, str | int | None],
    evaluations: Sequence[Evaluation],
    checks: Sequence[Sequence["Comparison"]],
    *,
    is_sample: bool = False,
) -> None:
    """Prints the tables, unless a report goes to stdout, and writes the reports."""
    reports = []
    if options.json is not None:
        reports.append((options.json, as_json(evaluations, inputs, checks)))
    if options.csv is not None:
        reports.append((options.csv, as_csv(evaluations)))
    if not any(is_stdout(path) for path, _ in reports):
        if is_sample:
            print(
                "No arguments: this is the bundled sample. --help says how to evaluate your own.\n"
            )
        tables = [as_text(evaluations), *map(comparison_text, checks)]
        # Flushed, so that it is printed even if writing a report fails.
        print(inputs_text(inputs), "\n".join(tables), sep="\n", end="", flush=True)
    for path, text in reports:
        write_bytes(path, text.encode("utf-8", "backslashreplace"))


if __name__ == "__main__":
    sys.exit(main())
