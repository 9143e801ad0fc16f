"""The command line of detection evaluation: `python -m metrics.evaluate`."""

import argparse
import math
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

import upmap
from upmap.console import Parser, run
from upmap.detection.formats import FORMATS, coco_files, open_sources, read, recognize_format
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

SAMPLE = (Path(upmap.__file__).parent / "data" / "sample" / "voc").resolve()
DEFAULT_PROTOCOLS = {"voc": ("voc2007", "voc2010"), "coco": ("coco",)}
OWN_REPORTS = (b'{\n "schema"', b"protocol,name,")  # how as_json's and as_csv's begin
ALL = {"recall_points": None, "max_dets": [math.inf]}  # what --set FIELD=all means
DESCRIPTION = """\
Evaluates object detections: VOC07 11-point mAP, VOC2010+ all-point mAP and COCO AP,
each equal to its official tool. Without arguments it evaluates the bundled sample."""
EXAMPLES = """\
examples:
  python -m metrics.evaluate
  python -m metrics.evaluate VOCdevkit/VOC2007 results/ --image-set test
  python -m metrics.evaluate instances_val2017.json detections.json --json report.json
  python -m metrics.evaluate VOCdevkit/VOC2007 results/ --protocol voc2007,coco --iou 0.7
  python -m metrics.evaluate VOCdevkit/VOC2007 results/ --cross-check
  python -m metrics.evaluate VOCdevkit/VOC2007 results/ --set strict=true --set difficult=drop

ground truth: a VOC devkit folder (VOCdevkit/VOC2007), a folder of XML files, or a COCO
instances file. detections: a folder of comp4_det_<set>_<class>.txt, or a COCO results file.
Files may be pipes or compressed by gzip; one of both inputs may be -, standard input.
exit status: 0 good; 1 --cross-check found a difference; 2 misused or unreadable input."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the command line asks for; None is not asked for."""

    ground_truth: Named
    detections: Named
    is_sample: bool = False
    protocols: tuple[str, ...] = ()
    format: str | None = None
    image_set: str | None = None
    class_names: Path | None = None
    iou: tuple[float, ...] = ()
    max_dets: int | None = None
    classes: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()
    json: Path | None = None
    csv: Path | None = None
    cross_check: bool = False
    impl: Implementation | None = None


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the program; returns its exit status."""
    return run(lambda: program(parse_arguments(arguments)))


def program(options: Options) -> int:
    """Evaluates and prints; returns 1 if a cross-check found a difference, else 0."""
    select_implementation(matching.IMPLEMENTATIONS, options.impl)  # refuses what is not there
    check_reports(options)
    truth, found = open_arguments(options.ground_truth, options.detections)
    truth, found = open_sources(
        truth, found or options.detections, format=options.format, image_set=options.image_set
    )
    options = replace(options, ground_truth=truth, detections=found, image_set=truth.image_set)
    protocols = select_protocols(options)
    ground_truth, detections = read_tables(options)
    if options.impl is None and matching.native is None:
        print(
            "note: without the native kernels this is slow: python -m upmap.kernels",
            file=sys.stderr,
        )
    evaluations = [
        mean_average_precision(ground_truth, detections, protocol=protocol, impl=options.impl)
        for protocol in protocols
    ]
    checks = cross_checks(options, ground_truth, detections, protocols)
    write_reports(options, describe_inputs(options, ground_truth, detections), evaluations, checks)
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


def parse_arguments(arguments: Sequence[str] | None) -> Options:
    """The options; the process ends with status 2 and a usage line if they make no sense."""
    parser = _parser()
    found = vars(parser.parse_args(arguments))
    sample = found["ground_truth"] is None
    if not sample and found["detections"] is None:
        parser.error("name both GROUND_TRUTH and DETECTIONS, or neither for the sample")
    if sample:
        found |= {"ground_truth": SAMPLE, "detections": SAMPLE / "results"}
    return Options(**found, is_sample=sample)


def select_protocols(options: Options) -> list[Protocol]:
    """The protocols asked for, or the ground truth's own, with the options' changes."""
    names = options.protocols
    if not names:
        name = options.format or recognize_format(options.ground_truth, "ground truth")
        names = DEFAULT_PROTOCOLS.get(name, ("coco",))
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
    counts: Mapping[str, str | int | None],
    evaluations: Sequence[Evaluation],
    checks: Sequence[Sequence[Comparison]],
) -> None:
    """Prints the table, unless a report goes to stdout, and writes the reports."""
    reports = []
    if options.json is not None:
        reports.append((options.json, as_json(evaluations, counts, checks)))
    if options.csv is not None:
        reports.append((options.csv, as_csv(evaluations)))
    if not any(is_stdout(path) for path, _ in reports):
        _print_table(options.is_sample, counts, evaluations, checks)
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


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="python -m metrics.evaluate", description=DESCRIPTION, epilog=EXAMPLES)
    _add_data(parser.add_argument_group("what is evaluated"))
    _add_choices(parser.add_argument_group("how"))
    _add_reports(parser.add_argument_group("what is written"))
    return parser


def _add_data(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("ground_truth", nargs="?", type=Path, metavar="GROUND_TRUTH", help="file, folder or -")
    add("detections", nargs="?", type=Path, metavar="DETECTIONS", help="file, folder or -")
    add("--format", choices=FORMATS, help="of both inputs; default: look at the files")
    add(
        "--image-set",
        metavar="NAME|FILE",
        help="an image set of the devkit, or a file with an image id on each line; default: the "
        "one that the detections' file names speak of, else all images",
    )
    add(
        "--class-names",
        type=Path,
        metavar="FILE",
        help="which class each category id of COCO results is, where the ground truth has no such "
        "ids: a name on each line for 1, 2, ..., or lines `id name`, or an instances file",
    )
    add("--classes", type=_words, default=(), metavar="A,B", help="evaluate only these classes")


def _add_choices(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add(
        "--protocol",
        dest="protocols",
        type=_names(PROTOCOLS),
        default=(),
        metavar="A,B",
        help=f"of {', '.join(PROTOCOLS)}; default: both VOC protocols for VOC ground truth, "
        "coco for COCO ground truth",
    )
    add("--iou", type=_thresholds, default=(), metavar="T,T", help="IoU thresholds instead")
    add("--max-dets", type=_positive, metavar="N", help="best detections per image and class")
    add(
        "--set",
        dest="settings",
        action="append",
        default=[],
        metavar="FIELD=VALUE",
        help="override a field of the protocols, as in --set strict=true; docs/metrics.md has all",
    )
    add("--impl", choices=matching.IMPLEMENTATIONS, help="kernels; default: the best that is built")


def _add_reports(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    stdout = "(-: to stdout, not the table)"
    add("--json", type=Path, metavar="FILE|-", help=f"write the report as JSON {stdout}")
    add("--csv", type=Path, metavar="FILE|-", help=f"write the per-class scores as CSV {stdout}")
    add("--cross-check", action="store_true", help="compare with pycocotools, for VOC step by step")


def _words(text: str) -> tuple[str, ...]:
    words = tuple(word.strip() for word in text.split(",") if word.strip())
    if not words:
        raise argparse.ArgumentTypeError(f"expected names with commas between them, got {text!r}")
    return words


def _names(known: Mapping[str, object]) -> Callable[[str], tuple[str, ...]]:
    def names(text: str) -> tuple[str, ...]:
        found = _words(text)
        if unknown := [name for name in found if name not in known]:
            raise argparse.ArgumentTypeError(f"{unknown[0]!r} is none of {', '.join(known)}")
        return found

    return names


def _thresholds(text: str) -> tuple[float, ...]:
    try:
        found = tuple(sorted({float(word) for word in _words(text)}))
    except (ValueError, argparse.ArgumentTypeError):
        found = ()
    if not found or not all(0 < threshold <= 1 for threshold in found):
        raise argparse.ArgumentTypeError(f"expected numbers above 0 and up to 1, got {text!r}")
    if len(found) > matching.MAX_THRESHOLDS:
        expected = f"expected at most {matching.MAX_THRESHOLDS} thresholds"
        raise argparse.ArgumentTypeError(f"{expected}, got {len(found)}")
    return found


def _positive(text: str) -> int:
    if not re.fullmatch("0*[1-9][0-9]{0,9}", text) or int(text) > matching.MAX_DETECTIONS:
        expected = f"expected a whole number from 1 to {matching.MAX_DETECTIONS}"
        raise argparse.ArgumentTypeError(f"{expected}, got {text!r}")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
