"""What is to be read before a number is quoted: one sentence for each thing that limits it."""

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from upmap.errors import abbreviate_list
from upmap.metrics.analysis.uncertainty import RARE
from upmap.metrics.protocols import PROTOCOLS

if TYPE_CHECKING:
    from upmap.metrics.reports.page.evaluation import Evaluated

__all__ = ["describe_ties", "list_remarks"]

MAX_NAMES = 8


def list_remarks(evaluated: "Evaluated", result: Mapping[str, Any]) -> list[str]:
    """The sentences: those of REMARKS, in order, and what the order of equal scores does.

    Args:
        evaluated: What the page is about, with its uncertainties.
        result: The evaluation in the JSON report.
    """
    sentences = [sentence for remark in REMARKS for sentence in remark(evaluated)]
    return sentences + list(describe_ties(result))


def describe_ties(result: Mapping[str, Any]) -> Iterator[str]:
    """How far the order of equal scores moves the first number, where that was computed.

    Args:
        result: An evaluation in the JSON report; its section "tie_range" is looked at.
    """
    ranges: Mapping[str, Any] = result.get("tie_range", {}).get("metrics", {})
    name = next(iter(ranges), None)
    ends: Mapping[str, Any] = {} if name is None else ranges[name]
    low, high = ends.get("low"), ends.get("high")
    if low is None or high is None:
        return
    if low == high:
        yield f"The order of equal scores does not change the first six digits of {name}."
        return
    sureness = "" if ends.get("exact") else ", as far as orders were tried or bounded"
    yield f"The order of equal scores alone moves {name} from {low:.6f} to {high:.6f}{sureness}."


def _explain_interval(evaluated: "Evaluated") -> Iterator[str]:
    uncertainty = evaluated.uncertainties[0]
    number = next(iter(uncertainty.metrics.values()), None)
    if number is None or number.standard_error != number.standard_error:
        yield "There is no interval: the number is undefined, or there are too few images."
        return
    yield (
        f"The {100 * uncertainty.level:g} % interval is that of the mean over test sets of this "
        "size from the same source. Another training of the detector differs too, which it does "
        "not cover."
    )
    if uncertainty.all_perfect:
        yield "Every class is perfect, so the standard error of 0 says nothing."
    if uncertainty.groups is None:
        yield (
            "Images are taken as independent. Frames of one video are not: the interval is then "
            "too narrow (--groups)."
        )


def _name_changes(evaluated: "Evaluated") -> Iterator[str]:
    protocol = evaluated.evaluation.protocol
    if protocol != PROTOCOLS.get(protocol.name):
        yield f"This is not the standard protocol {protocol.name}: its settings were changed."


def _name_rare_classes(evaluated: "Evaluated") -> Iterator[str]:
    if rare := evaluated.uncertainties[0].rare_classes:
        names = abbreviate_list(list(rare), MAX_NAMES)
        yield f"Classes with objects on fewer than {RARE} images, whose numbers say little: {names}"


def _name_undefined_classes(evaluated: "Evaluated") -> Iterator[str]:
    if undefined := evaluated.evaluation.undefined_classes:
        names = abbreviate_list(sorted(undefined), MAX_NAMES)
        yield f"Classes without counted objects, left out of the means: {names}"


def _name_missing_areas(evaluated: "Evaluated") -> Iterator[str]:
    if not evaluated.evaluation.match_table.has_areas:
        yield "Numbers of area ranges are not known, since the sizes of the images are not."


def _repeat_warnings(evaluated: "Evaluated") -> Iterator[str]:
    for note in evaluated.notes:
        yield f"Of the input: {note}"


REMARKS: tuple[Callable[["Evaluated"], Iterator[str]], ...] = (
    _explain_interval,
    _name_changes,
    _name_rare_classes,
    _name_undefined_classes,
    _name_missing_areas,
    _repeat_warnings,
)
