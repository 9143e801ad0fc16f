"""The command line that compares detectors on the same images: `python -m metrics.compare`."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from upmap.console import Parser, describe_command, run, run_process
from upmap.detection.input_flags import InputFlags
from upmap.detection.inputs import Named
from upmap.files import check_outputs, is_file
from upmap.metrics.reports.comparison import BEGINNINGS
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

DESCRIPTION = """\
Compares object detectors on the same images: the difference of each number, its confidence
interval and whether it may be chance. All others are compared with the first detector."""
EXAMPLES = """\
examples:
  %(prog)s VOCdevkit/VOC2007 before/ after/
  %(prog)s instances_val2017.json a.json b.json c.json --json report.json
  %(prog)s instances_val2017.json old.json new.json --not-worse 0.005
  %(prog)s annotations.csv a.csv b.csv --bootstrap 2000
  %(prog)s VOCdevkit/VOC2007 before/ after/ --html comparison.html

The interval is that of the mean over test sets of this size. Classes are tested together: their p
is adjusted, so that a detector that is no better in any class is called better in one with 5 %%.
exit status: 0 good, or the bound holds; 1 shown to be worse than --fail-under or --not-worse
allows; 3 undecided; 2 misused or unreadable input."""
PROTOCOL, TEST, OUTPUT = "how it is evaluated", "how it is tested", "what is written"


def _list_protocols() -> Sequence[str]:
    from upmap.metrics.protocols import PROTOCOLS

    return list(PROTOCOLS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Options(InputFlags):
    """What is compared, and how.

    Attributes:
        ground_truth: A file or a folder.
        detections: Two detectors or more, a file or folder each.
        protocol: The protocol; default: voc2010 for VOC ground truth, else coco.
        bootstrap: Resample the images of all detectors alike, N times, in place of standard errors
            by influence, which need no random numbers; N is 1000 where no number follows.
        seed: Of the bootstrap, and of permutations, which test classes with few objects.
        groups: Images come in groups (videos, scenes, patients) that are alike: a CSV file of
            columns `image` and `group`, or a regular expression whose match in a file name is its
            group, such as '^[^_]*'.
        level: The probability that an interval covers.
        correction: How the p of classes are adjusted: holm bounds any false alarm, bh the share of
            false ones among those shown.
        fail_under: Fail unless the last detector's first number is at least this, a fraction.
        not_worse: Fail unless the last detector is worse than the first by less than this.
        json: Write the report as JSON (-: to stdout, in place of the table).
        csv: Write the differences as CSV (-: to stdout, in place of the table).
        html: Write the comparison as one HTML file, which needs no network (-: to stdout).
        html_size: The largest size of that page, such as 900kB or 5MB.
    """

    ground_truth: Annotated[Named, Positional("GROUND_TRUTH")]
    detections: Annotated[tuple[Path, ...], Positional("DETECTIONS")]
    protocol: Annotated[
        str | None, Choices(_list_protocols), Flag(metavar="NAME", group=PROTOCOL)
    ] = None
    bootstrap: Annotated[
        int | None, Range(2, 100_000), Flag(metavar="N", group=TEST, implied="1000")
    ] = None
    seed: Annotated[int, Range(0, 2**32 - 1), Flag(group=TEST)] = 0
    groups: Annotated[str | None, Flag(metavar="FILE|REGEX", group=TEST)] = None
    level: Annotated[float, Range(0, 1, above=True, below=True), Flag(group=TEST)] = 0.95
    correction: Annotated[Literal["holm", "bh"], Flag(group=TEST)] = "holm"
    fail_under: Annotated[float | None, Range(0, 1), Flag(group=TEST)] = None
    not_worse: Annotated[float | None, Range(0, 1), Flag(group=TEST)] = None
    json: Annotated[Path | None, Flag(metavar="FILE|-", group=OUTPUT)] = None
    csv: Annotated[Path | None, Flag(metavar="FILE|-", group=OUTPUT)] = None

    html: Annotated[Path | None, Flag(metavar="FILE|-", group=OUTPUT)] = None
    html_size: Annotated[str, Flag(metavar="SIZE", group=OUTPUT)] = "5MB"

    def __post_init__(self) -> None:
        validate_fields(self)
        self.validate_input_flags()
        if len(self.detections) < 2:
            raise ValueError("name at least two detectors behind GROUND_TRUTH")
        parse_size("html_size", self.html_size)

    @property
    def html_bytes(self) -> int:
        """The largest size of the page."""
        return parse_size("html_size", self.html_size)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the program; returns its exit status."""
    parser = Parser(
        prog=describe_command("upmap.metrics.compare", subcommand="compare-detectors"),
        description=DESCRIPTION,
        epilog=EXAMPLES,
    )
    add_flags(parser, Options)
    return run(lambda: program(parse_options(Options, parser, arguments)))


def program(options: Options) -> int:
    """Compares and prints; returns 0, 1 or 3 as the bounds hold, do not, or are undecided."""
    reports = {"--json": options.json, "--csv": options.csv, "--html": options.html}
    outputs = {name: path for name, path in reports.items() if path is not None}
    inputs = [Path(str(options.ground_truth)), *options.detections]
    if options.groups is not None and is_file(Path(options.groups)):
        inputs.append(Path(options.groups))
    check_outputs(outputs, inputs, BEGINNINGS)
    from upmap.metrics.compare_steps import compare_detectors

    return compare_detectors(options)


if __name__ == "__main__":
    sys.exit(run_process(main))
