"""The report of a comparison in Markdown: what it found, tables, notes on columns, and pictures."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from upmap.text_tables import markdown_table

__all__ = [
    "describe_environment",
    "format_costs",
    "format_findings",
    "format_report",
    "format_results",
    "format_scores",
]

NOTES = """\
mIoU and boundary IoU: mean ± standard deviation over seeds of the best epoch, chosen on {val},
scored on {split}. Difference: to {baseline}'s of the same seed. The first interval is Student's t
over seeds, the second a bootstrap over test images within the same seeds; both are simultaneous for
all operators of a table (95 %, Bonferroni). A difference is significant if both leave out 0. Seeds
needed: the number with which the first interval would leave out 0, if mean and spread stayed.
Error by place: how unequal the error rate is over the places in the upsampling cell, standard
deviation by mean. Checkerboard: the share of the energy at the stride's frequencies in the output
for constant features, before -> after training. Gain: of an operator before training.
Multiply-adds of one image of {height} x {width} px, times and memory of a batch of {batch}, on
{device}; memory is {memory}.
"""
MEMORY = {"cpu": "what the forward pass stores for the backward pass", "cuda": "the peak allocated"}

Results = Mapping[str, Any]
Row = Mapping[str, Any]
Column = tuple[str, Callable[[str, Row, str], str]]  # heading; name, row, baseline to a cell


def format_report(results: Results, pictures: Sequence[str]) -> str:
    """The report.

    Args:
        results: The content of results.json.
        pictures: File names beside the report.
    """
    title = f"# Upsampling operators on {results['options']['training']['dataset']}"
    images = [f"![{name.partition('.')[0]}]({name})\n" for name in pictures]
    parts = [title, format_results(results), _notes(results), describe_environment(results)]
    return "\n\n".join([*parts, "\n".join(images)])


def format_results(results: Results) -> str:
    """The findings, and for each architecture the table of scores and that of costs."""
    tables = [
        f"**{panel}**\n\n{format_scores(results, panel)}\n{format_costs(results, panel)}"
        for panel in results["panels"]
    ]
    return "\n".join([format_findings(results), *tables])


def format_findings(results: Results) -> str:
    """Which statements are significant, a list in Markdown with an item for each architecture."""
    return "".join(f"- {panel}: {_finding(results, panel)}\n" for panel in results["panels"])


def _finding(results: Results, panel: str) -> str:
    differences = {
        name: row["miou_difference"]
        for name, row in results["panels"][panel]["operators"].items()
        if name != results["baseline"]
    }
    sentences = list(_significant(differences, results["baseline"]))
    undecided = {name: d for name, d in differences.items() if not d["is_significant"]}
    if undecided:
        sentences.append(f"not told apart from it: {', '.join(undecided)}{_limit(undecided)}")
    return "; ".join(sentences) + "." if sentences else "nothing to compare."


def _significant(differences: Mapping[str, Any], baseline: str) -> Iterator[str]:
    words = ((1, "better"), (-1, "worse"))
    is_any = any(difference["is_significant"] for difference in differences.values())
    if not is_any:
        yield f"no operator's mIoU differs significantly from {baseline}'s"
    for sign, word in words:
        names = [
            f"{name} ({difference['mean']:+.3f})"
            for name, difference in differences.items()
            if difference["is_significant"] and sign * difference["mean"] > 0
        ]
        if names:
            yield f"significantly {word} mIoU than {baseline}: {', '.join(names)}"


def _limit(differences: Mapping[str, Any]) -> str:
    """How large differences that were not significant may be."""
    limits = [
        abs(difference[key])
        for difference in differences.values()
        for key in ("low", "high", "image_low", "image_high")
        if difference[key] is not None
    ]
    return f", all intervals within ±{max(limits):.3f}" if limits else ""


def format_scores(results: Results, panel: str) -> str:
    """A Markdown table of an architecture's scores; `results` is the content of results.json."""
    return _format_table(results, panel, SCORE_COLUMNS)


def format_costs(results: Results, panel: str) -> str:
    """A Markdown table of operators and costs; `results` is the content of results.json."""
    return _format_table(results, panel, COST_COLUMNS)


def _format_table(results: Results, panel: str, columns: Sequence[Column]) -> str:
    operators, baseline = results["panels"][panel]["operators"], results["baseline"]
    rows = [
        tuple(cell(name, row, baseline) for _, cell in columns) for name, row in operators.items()
    ]
    return markdown_table([tuple(heading for heading, _ in columns), *rows])


def describe_environment(results: Results) -> str:
    """A sentence that says what the comparison ran on."""
    environment = results["environment"]
    threads = environment["threads"] or "torch's number of"
    return (
        f"Made with torch {environment['torch']}, Python {environment['python']}, numpy "
        f"{environment['numpy']}, on {environment['cpu']} ({environment['capability']}), "
        f"{threads} thread{'' if threads == 1 else 's'} a training.\n"
    )


def _notes(results: Results) -> str:
    height, width = results["size"]
    return NOTES.format(
        val=results["options"]["training"]["val"],
        split=results["split"],
        baseline=results["baseline"],
        height=height,
        width=width,
        batch=results["batch"],
        device=results["device"],
        memory=MEMORY.get(results["device"], "not measured"),
    )


def _difference(key: str) -> Callable[[str, Row, str], str]:
    """The mean difference and its interval over seeds, n/a with a single seed."""

    def cell(name: str, row: Row, baseline: str) -> str:
        difference = row[f"{key}_difference"]
        limits = _limits(difference["low"], difference["high"])
        return "" if name == baseline else f"{difference['mean']:+.3f} {limits}"

    return cell


def _over_images(name: str, row: Row, baseline: str) -> str:
    difference = row["miou_difference"]
    limits = _limits(difference["image_low"], difference["image_high"])
    return "" if name == baseline else limits


def _limits(low: float | None, high: float | None) -> str:
    return "[n/a]" if low is None or high is None else f"[{low:+.3f}, {high:+.3f}]"


def _seed_count(name: str, row: Row, baseline: str) -> str:
    difference = row["miou_difference"]
    if name == baseline or difference["low"] is None:
        return ""
    return f"{difference['seeds_needed'] or '> 10,000'}"


def _spread(values: Sequence[float]) -> str:
    """The mean, and the standard deviation where there are several."""
    spread = f" ± {np.std(values, ddof=1):.3f}" if len(values) > 1 else ""
    return f"{np.mean(values):.3f}{spread}"


def _error_spread(name: str, row: Row, baseline: str) -> str:
    values = [value for value in row["error_spread"] if value is not None]
    return f"{np.mean(values):.2f}" if values else "n/a"


def _mean(measures: Sequence[Mapping[str, float]], key: str) -> str:
    return f"{np.mean([measure[key] for measure in measures]):.3f}"


def _checkerboard(name: str, row: Row, baseline: str) -> str:
    before, after = (row[f"checkerboard_{state}"] for state in ("initial", "trained"))
    return f"{_mean(before, 'pattern')} -> {_mean(after, 'pattern')}"


SCORE_COLUMNS: tuple[Column, ...] = (
    ("operator", lambda name, row, baseline: name),
    ("mIoU", lambda name, row, baseline: _spread(row["miou"])),
    ("difference [over seeds]", _difference("miou")),
    ("[over images]", _over_images),
    ("seeds needed", _seed_count),
    ("boundary IoU", lambda name, row, baseline: _spread(row["boundary_iou"])),
    ("difference [over seeds]", _difference("boundary_iou")),
    ("error by place", _error_spread),
)
COST_COLUMNS: tuple[Column, ...] = (
    ("operator", lambda name, row, baseline: name),
    ("checkerboard", _checkerboard),
    ("gain", lambda name, row, baseline: _mean(row["checkerboard_initial"], "gain")),
    ("parameters", lambda name, row, baseline: f"{row['parameters']:,}"),
    ("multiply-adds", lambda name, row, baseline: f"{row['macs'] / 1e6:.1f} M"),
    ("forward", lambda name, row, baseline: f"{1e3 * row['forward']:.1f} ms"),
    ("with backward", lambda name, row, baseline: f"{1e3 * row['forward_backward']:.1f} ms"),
    ("memory", lambda name, row, baseline: f"{row['memory'] / 2**20:.1f} MiB"),
    ("images/s", lambda name, row, baseline: f"{row['images_per_second']:.0f}"),
)
