"""The command line of detection evaluation: `python -m metrics.evaluate`."""

import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Annotated

import upmap
from upmap.console import Parser, describe_command, run
from upmap.detection.formats import FORMATS, coco_files, infer_image_set, read, recognize_format
from upmap.detection.inputs import Named, open_arguments
from upmap.detection.tables import Detections, GroundTruth, with_classes
from upmap.errors import InputError, abbreviate_list, printable
from upmap.files import check_outputs, is_stdout, write_bytes
from upmap.kernels import matching, select_implementation
from upmap.metrics.comparison import Comparison, agrees
from upmap.metrics.matching import Implementation
from upmap.metrics.protocol import CHOICES, COCO, PROTOCOLS, Protocol
from upmap.metrics.report import as_csv, as_json, as_text, comparison_text
from upmap.metrics.scores import Evaluation, mean_average_precision
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

SAMPLE = (Path(upmap.__file__).parent / "data" / "sample" / "voc").resolve()
DEFAULT_PROTOCOLS = {"voc": ("voc2007", "voc2010"), "coco": ("coco",)}
OWN_REPORTS = (b'{\n "schema"', b"protocol,name,")  # how as_json's and as_csv's begin
ALL = {"recall_points": None, "max_dets": [math.inf]}  # what --set FIELD=all means
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
    """Evaluates and prints; returns 1 if a cross-check found a difference, else 0."""
    select_implementation(matching.IMPLEMENTATIONS, options.impl)  # refuses what is not there
    is_sample = not options.ground_truth
    if is_sample:
        options = replace(options, ground_truth=SAMPLE, detections=SAMPLE / "results")
    check_reports(options)
    truth, found = open_arguments(options.ground_truth, options.detections)
    options = replace(options, ground_truth=truth, detections=found or options.detections)
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
    checks = cross_checks(options, ground_truth, detections, protocols)
    counts = describe_inputs(options, ground_truth, detections)
    write_reports(options, counts, evaluations, checks, is_sample=is_sample)
    return int(not all(agrees(rows) for rows in checks))


def check_reports(options: Options) -> None:
    """Refuses reports that would overwrite an input or one another, or cannot be written."""
    reports = {"--json": options.json, "--csv": options.csv}
    outputs = {name: path for name, path in reports.items() if path is not None}
    named = (options.ground_truth, options.detections, options.image_set, options.class_names)
    inputs = [Path(str(name)) for name in named if name is not None]
    check_outputs(outputs, inputs, OWN_REPORTS)


def cross_checks(
    options: Options,
    ground_truth: GroundTruth,
    detections: Detections,
    protocols: Sequence[Protocol],
) -> list[list[Comparison]]:
    """What pycocotools makes of the same data, under each protocol; empty if it is not asked."""
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
    """The protocols asked for, or the ground truth's own, with the options' changes."""
    names = options.protocols
    if not names:
        names = DEFAULT_PROTOCOLS[
            options.format or recognize_format(options.ground_truth, "ground truth")
        ]
    protocols = [PROTOCOLS[name] for name in names]
    if options.iou:
        protocols = [replace(protocol, iou_thresholds=options.iou) for protocol in protocols]
    if options.max_dets is not None:
        protocols = [protocol.with_max_dets(options.max_dets) for protocol in protocols]
    for setting in options.settings:
        protocols = [override_setting(protocol, setting) for protocol in protocols]
    return protocols


def read_tables(options: Options) -> tuple[GroundTruth, Detections]:
    """What is evaluated, restricted to the classes asked for."""
    ground_truth, detections = read(
        options.ground_truth,
        options.detections,
        format=options.format,
        image_set=options.image_set,
        class_names=options.class_names,
        threads=options.threads,
        show_progress=True,
    )
    known = ground_truth.catalog.classes
    if unknown := [name for name in options.classes if name not in known]:
        raise InputError(
            f"--classes: no class {unknown[0]!r}; there are {abbreviate_list([*known], 20)}"
        )
    classes = tuple(name for name in known if not options.classes or name in options.classes)
    return with_classes(ground_truth, classes), with_classes(detections, classes)


def describe_inputs(
    options: Options, ground_truth: GroundTruth, detections: Detections
) -> dict[str, str | int | None]:
    """What was evaluated: paths and counts."""
    return {
        "ground_truth": str(options.ground_truth),
        "detections": str(options.detections),
        "image_set": options.image_set
        or infer_image_set(options.ground_truth, options.detections, format=options.format),
        "images": len(ground_truth.catalog.images),
        "classes": len(ground_truth.catalog.classes),
        "ground_truth_boxes": len(ground_truth),
        "difficult": int(ground_truth.difficult.sum()),
        "crowd": int(ground_truth.crowd.sum()),
        "detection_boxes": len(detections),
    }


def write_reports(
    options: Options,
    counts: Mapping[str, str | int | None],
    evaluations: Sequence[Evaluation],
    checks: Sequence[Sequence[Comparison]],
    *,
    is_sample: bool = False,
) -> None:
    """Prints the table, unless a report goes to stdout, and writes the reports."""
    reports = []
    if options.json is not None:
        reports.append((options.json, as_json(evaluations, counts, checks)))
    if options.csv is not None:
        reports.append((options.csv, as_csv(evaluations)))
    if not any(is_stdout(path) for path, _ in reports):
        _print_table(is_sample, counts, evaluations, checks)
    for path, text in reports:
        write_bytes(path, text.encode("utf-8", "backslashreplace"))


def _print_table(
    is_sample: bool,
    counts: Mapping[str, str | int | None],
    evaluations: Sequence[Evaluation],
    checks: Sequence[Sequence[Comparison]],
) -> None:
    if is_sample:
        print("No arguments: this is the bundled sample. --help says how to evaluate your own.\n")
    print(_inputs_text(counts))
    print(as_text(evaluations), end="")
    for rows in checks:
        print(f"\n{comparison_text(rows)}", end="")
    sys.stdout.flush()  # it is there also if a report fails


def _inputs_text(counts: Mapping[str, str | int | None]) -> str:
    marks = [f"{counts[mark]:,} {mark}" for mark in ("difficult", "crowd") if counts[mark]]
    image_set = f", image set {printable(str(counts['image_set']))}" if counts["image_set"] else ""
    return (
        f"ground truth  {_short(counts['ground_truth'])}{image_set}: {counts['images']:,} images, "
        f"{counts['ground_truth_boxes']:,} boxes{''.join(f', {mark}' for mark in marks)}\n"
        f"detections    {_short(counts['detections'])}: {counts['detection_boxes']:,} boxes\n"
    )


def _short(path: str | int | None) -> str:
    """A path from here where it lies below, else as it was given."""
    whole, here = Path(str(path)), Path.cwd()
    return printable(str(whole.relative_to(here) if whole.is_relative_to(here) else whole))


def override_setting(protocol: Protocol, setting: str) -> Protocol:
    """The protocol with one field set by `name=value`, the value written as in TOML."""
    import msgspec

    name, sign, text = setting.partition("=")
    known = [field.name for field in fields(Protocol) if field.name not in ("name", "metrics")]
    if name not in known or not sign:
        raise InputError(f"--set takes FIELD=VALUE with a field of {', '.join(known)}")
    value = _setting_value(name, text)
    try:
        if name in CHOICES and value not in CHOICES[name]:
            raise ValueError(f"expected one of {', '.join(CHOICES[name])}, got {text}")
        return msgspec.convert({**msgspec.to_builtins(protocol), name: value}, Protocol)
    except (ValueError, OverflowError, msgspec.ValidationError) as error:
        raise InputError(f"--set {name}: {error}") from None


def _setting_value(name: str, text: str) -> object:
    """The value written as in TOML or as a bare word; one alone makes a list of one."""
    import tomllib

    if text == "all" and name in ALL:
        return ALL[name]
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except ValueError:
        value = text
    except RecursionError:
        raise InputError(f"--set {name}: nested too deeply") from None
    wants_list = isinstance(getattr(COCO, name), tuple)
    return [value] if wants_list and not isinstance(value, list) else value


if __name__ == "__main__":
    sys.exit(main())
