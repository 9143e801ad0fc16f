"""The report of a comparison in Markdown: a table, notes on its columns, and pictures."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from upmap.text_tables import markdown_table

__all__ = ["format_report", "format_table"]

HEADINGS = (
    "operator",
    "mIoU",
    "difference [95 % CI]",
    "boundary IoU",
    "checkerboard",
    "parameters",
    "multiply-adds",
    "forward",
    "with backward",
    "memory",
    "images/s",
)
NOTES = """\
mIoU and boundary IoU: mean ± standard deviation over {seeds} of the best epoch, chosen on {val},
scored on {split}. Difference: of mIoU to {baseline}'s of the same seed, with its interval by
Student's t; if it holds 0, the operators cannot be told apart, and seeds say nothing of other data.
Checkerboard: the share of the energy at the stride's frequencies in the output for constant
features, before -> after training. Multiply-adds of one image of {height} x {width} px, times and
memory of a batch of {batch}, on {device}; memory is {memory}.
"""
MEMORY = {"cpu": "what the forward pass stores for the backward pass", "cuda": "the peak allocated"}


def format_report(results: Mapping[str, Any], pictures: Sequence[str]) -> str:
    """The report.

    Args:
        results: The content of results.json.
        pictures: File names beside the report.
    """
    title = f"# Upsampling operators on {results['options']['training']['dataset']}"
    images = [f"![{name.partition('.')[0]}]({name})\n" for name in pictures]
    return "\n".join([f"{title}\n", format_table(results), _notes(results), *images])


def format_table(results: Mapping[str, Any]) -> str:
    """A Markdown table with a row for each operator; `results` is the content of results.json."""
    operators, baseline = results["operators"].items(), results["baseline"]
    return markdown_table([HEADINGS, *(_cells(name, row, baseline) for name, row in operators)])


def _notes(results: Mapping[str, Any]) -> str:
    count, (height, width) = len(results["seeds"]), results["size"]
    return NOTES.format(
        seeds=f"{count} seed" if count == 1 else f"{count} seeds",
        val=results["options"]["training"]["val"],
        split=results["split"],
        baseline=results["baseline"],
        height=height,
        width=width,
        batch=results["batch"],
        device=results["device"],
        memory=MEMORY[results["device"]],
    )


def _cells(name: str, row: Mapping[str, Any], baseline: str) -> tuple[str, ...]:
    return (
        name,
        _spread(row["miou"]),
        "" if name == baseline else _difference(row["miou_difference"]),
        _spread(row["boundary_iou"]),
        f"{_pattern(row['checkerboard_initial'])} -> {_pattern(row['checkerboard_trained'])}",
        f"{row['parameters']:,}",
        f"{row['macs'] / 1e6:.1f} M",
        f"{1e3 * row['forward']:.1f} ms",
        f"{1e3 * row['forward_backward']:.1f} ms",
        f"{row['memory'] / 2**20:.1f} MiB",
        f"{row['images_per_second']:.0f}",
    )


def _spread(values: Sequence[float]) -> str:
    """The mean, and the standard deviation where there are several."""
    spread = f" ± {np.std(values, ddof=1):.3f}" if len(values) > 1 else ""
    return f"{np.mean(values):.3f}{spread}"


def _difference(difference: Mapping[str, float | None]) -> str:
    """The mean difference and its interval, n/a with a single seed."""
    low, high = difference["low"], difference["high"]
    limits = "n/a" if low is None else f"{low:+.3f}, {high:+.3f}"
    return f"{difference['mean']:+.3f} [{limits}]"


def _pattern(scores: Sequence[Mapping[str, float]]) -> str:
    return f"{np.mean([score['pattern'] for score in scores]):.3f}"
