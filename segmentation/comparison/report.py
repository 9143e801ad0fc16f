"""A comparison in Markdown: the table, what its columns mean, the pictures beside it."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from upmap.text_tables import markdown_table

__all__ = ["page", "table"]

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
Student's t; one that holds 0 tells no operators apart, and seeds say nothing of other data.
Checkerboard: the share of energy at the stride's frequencies that constant features come out
with, before -> after training. Multiply-adds of one image of {height} x {width} px, times and
memory of a batch of {batch}, on {device}; memory is {memory}.
"""
MEMORY = {"cpu": "what the forward pass keeps for the backward pass", "cuda": "the peak allocated"}


def page(results: Mapping[str, Any], pictures: Sequence[str]) -> str:
    """The whole report; `pictures` are file names."""
    title = f"# Upsampling operators on {results['options']['training']['dataset']}"
    shown = [f"![{name.partition('.')[0]}]({name})\n" for name in pictures]
    return "\n".join([f"{title}\n", table(results), _notes(results), *shown])


def table(results: Mapping[str, Any]) -> str:
    """A Markdown table whose columns are aligned, a row for each operator."""
    found = results["operators"].items()
    rows = [HEADINGS, *(_cells(name, one, results["baseline"]) for name, one in found)]
    return markdown_table(rows)


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


def _cells(name: str, one: Mapping[str, Any], baseline: str) -> tuple[str, ...]:
    return (
        name,
        _spread(one["miou"]),
        "" if name == baseline else _difference(one["miou_difference"]),
        _spread(one["boundary_iou"]),
        f"{_pattern(one['checkerboard_initial'])} -> {_pattern(one['checkerboard_trained'])}",
        f"{one['parameters']:,}",
        f"{one['macs'] / 1e6:.1f} M",
        f"{1e3 * one['forward']:.1f} ms",
        f"{1e3 * one['forward_backward']:.1f} ms",
        f"{one['memory'] / 2**20:.1f} MiB",
        f"{one['images_per_second']:.0f}",
    )


def _spread(values: Sequence[float]) -> str:
    """The mean, and the standard deviation where there are several."""
    spread = f" ± {np.std(values, ddof=1):.3f}" if len(values) > 1 else ""
    return f"{np.mean(values):.3f}{spread}"


def _difference(found: Mapping[str, float | None]) -> str:
    low, high = found["low"], found["high"]
    limits = "n/a" if low is None else f"{low:+.3f}, {high:+.3f}"
    return f"{found['mean']:+.3f} [{limits}]"


def _pattern(scores: Sequence[Mapping[str, float]]) -> str:
    return f"{np.mean([score['pattern'] for score in scores]):.3f}"
