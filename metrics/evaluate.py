"""The command line of detection evaluation: `python -m metrics.evaluate`.

What the command line says is known before numpy is imported, so that the files are read meanwhile;
`evaluate_steps` has what follows.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import upmap
from upmap.console import Parser, describe_command, run, run_process
from upmap.detection.input_flags import InputFlags
from upmap.detection.inputs import Named, open_arguments, start_reading
from upmap.files import check_new_folder, check_outputs, is_file
from upmap.kernels import Implementation
from upmap.kernels.counts import MAX_DETECTIONS, MAX_THRESHOLDS
from upmap.metrics.reports.records import BEGINNINGS
from upmap.options import (
    Choices,
    Flag,
    Positional,
    Range,
    add_flags,
    parse_options,
    parse_size,
    validate_fields,
)

SAMPLE = (Path(upmap.__file__).parent / "data" / "sample" / "voc").resolve()
DESCRIPTION = """\
Evaluates object detections: VOC07 11-point mAP, VOC2010+ all-point mAP and COCO AP,
each equal to its official tool. Without arguments it evaluates the bundled sample."""
EXAMPLES = """\
examples:
  %(prog)s
  %(prog)s VOCdevkit/VOC2007 results/ --image-set test
  %(prog)s instances_val2017.json detections.json --json report.json
  %(prog)s dataset/data.yaml runs/detect/predict/labels
  %(prog)s annotations.csv detections.parquet --columns image=file
  %(prog)s VOCdevkit/VOC2007 results/ --protocol voc2007,coco --iou 0.7
  %(prog)s VOCdevkit/VOC2007 results/ --cross-check
  %(prog)s VOCdevkit/VOC2007 results/ --explain
  %(prog)s VOCdevkit/VOC2007 results/ --html report.html
  %(prog)s videos.json detections.json --groups '^[^/]*' --bootstrap 2000
  %(prog)s VOCdevkit/VOC2007 results/ --set strict=true --set difficult=drop

ground truth: a VOC devkit folder (VOCdevkit/VOC2007), a COCO instances file, YOLO's
data.yaml, a table, or the export of an annotation tool. detections: a folder of
comp4_det_<set>_<class>.txt, a COCO results file, a folder of YOLO labels, a table.
Files may be pipes or compressed by gzip; one of both inputs may be -, standard input.
exit status: 0 good; 1 --cross-check found a difference; 2 misused or unreadable input."""


DATA, CHOICE = "what is evaluated", "how it is evaluated"  # headings of the help
OUTPUT = "what is written"
SURENESS = "how sure the numbers are"


def _list_protocols() -> Iterable[str]:
    from upmap.metrics.protocols import PROTOCOLS

    return PROTOCOLS


@dataclass(frozen=True, slots=True, kw_only=True)
class Options(InputFlags):
    """What is evaluated, and how.

    Attributes:
        ground_truth: A file, a folder or -; neither this nor detections evaluates the sample.
        detections: A file, a folder or -.
        classes: Evaluate only these classes.
        protocols: The protocols; default: both of VOC for VOC ground truth, coco for COCO ground
            truth.
        iou: IoU thresholds in place of the protocols' own.
        max_dets: Maximum number of detections per image and class, the best first.
        settings: Override a field of the protocols, as in --set strict=true, see docs/metrics.md.
        impl: Implementation of the kernels; default: the fastest available.
        json: Write the report as JSON (-: to stdout, in place of the table).
        csv: Write the per-class scores as CSV (-: to stdout, in place of the table).
        explain: Also say what costs the points: errors by kind (TIDE), score thresholds, confused
            classes, oLRP, calibration.
        tidecv: Also print TIDE's numbers as tidecv 1.0.1 computes them, by rules of its own.
        slices: Also evaluate parts of the data: by area, aspect, objects per image, crowding and
            border.
        attributes: Also slice by image attributes: a CSV of columns `image` and one for each.
        ties: Also print the range of each number over all orders of equal scores.
        worst: Also list the N images that cost most.
        labels: Also list annotations that may be wrong: missing ones, wrong classes, loose boxes.
        html: Write a page with all of these analyses as one HTML file, which needs no network
            (-: to stdout); with --images FOLDER it has small copies of the images that cost most.
        html_size: The largest size of that page, such as 900kB or 5MB: to fit, it leaves out
            thumbnails first, and says so.
        tables: Write the tables of these analyses as CSV files to this new folder.
        uncertainty: Print beside each number how far its interval reaches, from the influence of
            each image; of classes the interval.
        bootstrap: Take it from N random replicates of the images instead; N is 1000 where no number
            follows.
        seed: Of the bootstrap.
        groups: Images come in groups (videos, scenes, patients) that are alike: a CSV file of
            columns `image` and `group`, or a regular expression whose match in a file name is its
            group, such as '^[^_]*'.
        level: The probability that an interval covers.
        cross_check: Compare with pycocotools, for VOC step by step.
    """

    ground_truth: Annotated[Named, Positional("GROUND_TRUTH"), Flag(group=DATA)] = ""
    detections: Annotated[Named, Positional("DETECTIONS"), Flag(group=DATA)] = ""
    classes: Annotated[tuple[str, ...], Flag(metavar="A,B", group=DATA)] = ()
    protocols: Annotated[
        tuple[str, ...],
        Choices(_list_protocols),
        Flag(name="protocol", metavar="A,B", group=CHOICE),
    ] = ()
    iou: Annotated[
        tuple[float, ...], Range(0, 1, above=True), Flag(metavar="T,T", group=CHOICE)
    ] = ()
    max_dets: Annotated[int | None, Range(1, MAX_DETECTIONS), Flag(group=CHOICE)] = None
    settings: Annotated[
        tuple[str, ...],
        Flag(name="set", metavar="FIELD=VALUE", group=CHOICE, is_repeatable=True),
    ] = ()
    impl: Annotated[Implementation | None, Flag(group=CHOICE)] = None
    json: Annotated[Path | None, Flag(metavar="FILE|-", group=OUTPUT)] = None
    csv: Annotated[Path | None, Flag(metavar="FILE|-", group=OUTPUT)] = None
    html: Annotated[Path | None, Flag(metavar="FILE|-", group=OUTPUT)] = None
    html_size: Annotated[str, Flag(metavar="SIZE", group=OUTPUT)] = "5MB"
    explain: Annotated[bool, Flag(group=OUTPUT)] = False
    tidecv: Annotated[bool, Flag(group=OUTPUT)] = False
    slices: Annotated[bool, Flag(group=OUTPUT)] = False
    attributes: Annotated[Path | None, Flag(metavar="FILE", group=OUTPUT)] = None
    ties: Annotated[bool, Flag(group=OUTPUT)] = False
    worst: Annotated[int | None, Range(1, 2**31 - 1), Flag(metavar="N", group=OUTPUT)] = None
    labels: Annotated[bool, Flag(group=OUTPUT)] = False
    tables: Annotated[Path | None, Flag(metavar="FOLDER", group=OUTPUT)] = None
    cross_check: Annotated[bool, Flag(group=OUTPUT)] = False
    uncertainty: Annotated[bool, Flag(group=SURENESS)] = True
    bootstrap: Annotated[
        int | None, Range(2, 100_000), Flag(metavar="N", group=SURENESS, implied="1000")
    ] = None
    seed: Annotated[int, Range(0, 2**32 - 1), Flag(group=SURENESS)] = 0
    groups: Annotated[str | None, Flag(metavar="FILE|REGEX", group=SURENESS)] = None
    level: Annotated[float, Range(0, 1, above=True, below=True), Flag(group=SURENESS)] = 0.95

    def __post_init__(self) -> None:
        validate_fields(self)
        self.validate_input_flags()
        if bool(self.ground_truth) != bool(self.detections):
            raise ValueError("name both GROUND_TRUTH and DETECTIONS, or neither for the sample")
        if len(self.iou) > MAX_THRESHOLDS:
            expected = f"at most {MAX_THRESHOLDS} thresholds"
            raise ValueError(f"iou: expected {expected}, got {len(self.iou)}")
        object.__setattr__(self, "iou", tuple(sorted({*self.iou})))
        if self.attributes is not None:
            object.__setattr__(self, "slices", True)
        if self.tables is not None and not self.has_analyses:
            raise ValueError(
                "tables: name what to write: --explain, --slices, --ties, --worst N ..."
            )
        if not self.uncertainty and (self.bootstrap is not None or self.groups is not None):
            raise ValueError("uncertainty: --bootstrap and --groups need it")
        if self.seed and self.bootstrap is None:
            raise ValueError("seed: only the bootstrap has one: add --bootstrap")
        parse_size("html_size", self.html_size)

    @property
    def html_bytes(self) -> int:
        """The largest size of the page."""
        return parse_size("html_size", self.html_size)

    @property
    def has_analyses(self) -> bool:
        """Whether any analysis beyond the numbers is asked for."""
        flags = (self.explain, self.tidecv, self.slices, self.ties, self.labels)
        return any(flags) or self.worst is not None


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the program; returns its exit status."""
    parser = Parser(
        prog=describe_command("upmap.metrics.evaluate"), description=DESCRIPTION, epilog=EXAMPLES
    )
    add_flags(parser, Options)
    return run(lambda: program(parse_options(Options, parser, arguments)))


def program(options: Options) -> int:
    """Evaluates and prints; returns 1 if a cross-check shows a difference, else 0."""
    is_sample = not options.ground_truth
    if is_sample:
        options = replace(options, ground_truth=SAMPLE, detections=SAMPLE / "results")
    check_reports(options)
    options = open_inputs(options)
    from upmap.metrics.evaluate_steps import evaluate

    return evaluate(options, is_sample=is_sample)


def check_reports(options: Options) -> None:
    """Refuses reports that would overwrite an input or one another, or cannot be written."""
    reports = {"--json": options.json, "--csv": options.csv, "--html": options.html}
    outputs = {name: path for name, path in reports.items() if path is not None}
    named = (options.ground_truth, options.detections, options.image_set, options.class_names)
    groups = options.groups if options.groups and is_file(Path(options.groups)) else None
    others = (options.attributes, groups)
    inputs = [Path(str(name)) for name in (*named, *others) if name is not None]
    if options.tables is not None:
        check_new_folder(options.tables)
        if not options.tables.exists():
            outputs["--tables"] = options.tables
    check_outputs(outputs, inputs, BEGINNINGS)


def open_inputs(options: Options) -> Options:
    """The options with both inputs opened, and read in the background where they are COCO JSON.

    Pipes and standard input can be read only once.
    """
    truth, detections = open_arguments(options.ground_truth, options.detections)
    threads, is_native = options.threads, options.impl != "reference"
    if is_native and (options.gt_format or options.format) in (None, "coco"):
        truth = start_reading(truth, "instances", threads=threads)
    if is_native and (options.dt_format or options.format) in (None, "coco"):
        detections = start_reading(detections, "results", threads=threads)
    return replace(options, ground_truth=truth, detections=detections)


if __name__ == "__main__":
    run_process(main)
