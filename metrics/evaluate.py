"""The command line of detection evaluation: `python -m metrics.evaluate`."""

import argparse
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

from detection.console import run
from detection.errors import InputError, listed
from detection.formats import FORMATS, inferred_image_set, read, sniffed
from detection.formats.files import new_file
from detection.formats.inputs import Named, opened_arguments
from detection.tables import Detections, GroundTruth, with_classes
from kernels import chosen, matching
from metrics.comparison import Comparison, agrees
from metrics.evaluation import Evaluation, mean_average_precision
from metrics.matching import Implementation
from metrics.protocol import CHOICES, COCO, PROTOCOLS, Protocol
from metrics.report import as_csv, as_json, as_text, comparison_text

SAMPLE = Path(__file__).resolve().parents[1] / "data" / "sample" / "voc"
DEFAULT_PROTOCOLS = {"voc": ("voc2007", "voc2010"), "coco": ("coco",)}
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
    iou: tuple[float, ...] = ()
    max_dets: int | None = None
    classes: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()
    json: str | None = None
    csv: Path | None = None
    cross_check: bool = False
    impl: Implementation | None = None


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the program; returns its exit status."""
    options = parsed(arguments)
    outcome = [0]
    return run(lambda: outcome.append(program(options))) or outcome[-1]


def program(options: Options) -> int:
    """Evaluates and prints; returns 1 if a cross-check found a difference, else 0."""
    truth, found = opened_arguments(options.ground_truth, options.detections)
    options = replace(options, ground_truth=truth, detections=found or options.detections)
    protocols = chosen_protocols(options)
    check_kernels(options)
    ground_truth, detections = tables(options)
    if options.impl is None and matching.native is None:
        print("note: without the native kernels this is slow: python -m kernels", file=sys.stderr)
    evaluations = [
        mean_average_precision(ground_truth, detections, protocol=protocol, impl=options.impl)
        for protocol in protocols
    ]
    checks = cross_checks(ground_truth, detections, protocols) if options.cross_check else []
    write_reports(options, inputs(options, ground_truth, detections), evaluations, checks)
    return int(not all(agrees(rows) for rows in checks))


def check_kernels(options: Options) -> None:
    """Refuses kernels that are asked for, by an option or the environment, and not there."""
    try:
        chosen(matching.IMPLEMENTATIONS, options.impl)
    except ValueError as error:
        raise InputError(str(error)) from None


def cross_checks(
    ground_truth: GroundTruth, detections: Detections, protocols: Sequence[Protocol]
) -> list[list[Comparison]]:
    """What pycocotools makes of the same data, under each protocol."""
    from metrics.cross_check import comparisons

    return [
        comparisons(ground_truth, detections, protocol, show_progress=True)
        for protocol in protocols
    ]


def parsed(arguments: Sequence[str] | None) -> Options:
    """The options; the process ends with status 2 and a usage line if they make no sense."""
    parser = _parser()
    found = vars(parser.parse_args(arguments))
    sample = found["ground_truth"] is None
    if not sample and found["detections"] is None:
        parser.error("name both GROUND_TRUTH and DETECTIONS, or neither for the sample")
    if sample:
        found |= {"ground_truth": SAMPLE, "detections": SAMPLE / "results"}
    return Options(**found, is_sample=sample)


def chosen_protocols(options: Options) -> list[Protocol]:
    """The protocols asked for, or the ground truth's own, with the options' changes."""
    names = options.protocols
    if not names:
        names = DEFAULT_PROTOCOLS[options.format or sniffed(options.ground_truth, "ground truth")]
    protocols = [PROTOCOLS[name] for name in names]
    if options.iou:
        protocols = [replace(protocol, iou_thresholds=options.iou) for protocol in protocols]
    if options.max_dets is not None:
        protocols = [protocol.with_max_dets(options.max_dets) for protocol in protocols]
    for setting in options.settings:
        protocols = [_overridden(protocol, setting) for protocol in protocols]
    return protocols


def tables(options: Options) -> tuple[GroundTruth, Detections]:
    """What is evaluated, restricted to the classes asked for."""
    ground_truth, detections = read(
        options.ground_truth,
        options.detections,
        format=options.format,
        image_set=options.image_set,
        show_progress=True,
    )
    known = ground_truth.catalog.classes
    if unknown := [name for name in options.classes if name not in known]:
        raise InputError(f"--classes: no class {unknown[0]!r}; there are {listed([*known], 20)}")
    classes = tuple(name for name in known if not options.classes or name in options.classes)
    return with_classes(ground_truth, classes), with_classes(detections, classes)


def inputs(
    options: Options, ground_truth: GroundTruth, detections: Detections
) -> dict[str, str | int | None]:
    """What was evaluated: paths and counts."""
    return {
        "ground_truth": str(options.ground_truth),
        "detections": str(options.detections),
        "image_set": options.image_set
        or inferred_image_set(options.ground_truth, options.detections, format=options.format),
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
    """Writes the files asked for, and the table (or, for `--json -`, the JSON) to stdout."""
    if options.json is not None:
        text = as_json(evaluations, counts, checks)
        if options.json == "-":
            print(text, end="")
        else:
            _write(Path(options.json), text)
    if options.csv is not None:
        _write(options.csv, as_csv(evaluations))
    if options.json == "-":
        return
    if options.is_sample:
        print("No arguments: this is the bundled sample. --help says how to evaluate your own.\n")
    print(_inputs_text(counts))
    print(as_text(evaluations), end="")
    for rows in checks:
        print(f"\n{comparison_text(rows)}", end="")


def _write(path: Path, text: str) -> None:
    with new_file(path) as beside:
        beside.write_text(text, encoding="utf-8")


def _inputs_text(counts: Mapping[str, str | int | None]) -> str:
    marks = [f"{counts[mark]:,} {mark}" for mark in ("difficult", "crowd") if counts[mark]]
    image_set = f", image set {counts['image_set']}" if counts["image_set"] else ""
    return (
        f"ground truth  {_short(counts['ground_truth'])}{image_set}: {counts['images']:,} images, "
        f"{counts['ground_truth_boxes']:,} boxes{''.join(f', {mark}' for mark in marks)}\n"
        f"detections    {_short(counts['detections'])}: {counts['detection_boxes']:,} boxes\n"
    )


def _short(path: str | int | None) -> str:
    """A path from here where it lies below, else as it was given."""
    whole, here = Path(str(path)), Path.cwd()
    return str(whole.relative_to(here)) if whole.is_relative_to(here) else str(whole)


def _overridden(protocol: Protocol, setting: str) -> Protocol:
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
    except ValueError as error:
        raise InputError(f"--set {name}: {error}") from None


def _setting_value(name: str, text: str) -> object:
    """The value written as in TOML or as a bare word; one alone makes a list of one."""
    import tomllib

    if text == "all" and name in ALL:
        return ALL[name]
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text
    wants_list = isinstance(getattr(COCO, name), tuple)
    return [value] if wants_list and not isinstance(value, list) else value


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m metrics.evaluate",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
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
    add("--json", metavar="FILE|-", help="write the report as JSON (-: to stdout, not the table)")
    add("--csv", type=Path, metavar="FILE", help="write the per-class scores as CSV")
    add("--cross-check", action="store_true", help="compare with pycocotools, for VOC step by step")


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(",") if word.strip())


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
    except ValueError:
        found = ()
    if not found or not all(0 < threshold <= 1 for threshold in found):
        raise argparse.ArgumentTypeError(f"expected numbers above 0 and up to 1, got {text!r}")
    return found


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1, got {text!r}")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
