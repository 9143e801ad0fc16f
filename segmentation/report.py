"""A comparison in Markdown: the table, what its columns mean, the pictures beside it."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

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
mIoU and boundary IoU: mean ± standard deviation over {seeds} of the best epoch, chosen on
{options[training][val]}, scored on {split}. Difference: of mIoU to {baseline}'s of the same seed, with its interval by
Student's t; one that holds 0 tells no operators apart, and seeds say nothing of other data.
Checkerboard: the share of energy at the stride's frequencies that constant features come out with,
before -> after training. Multiply-adds of one image; times and memory of a batch of {options[training][batch_size]}, {size[0]} x {size[1]} px,
on {device}; memory is {memory}.
"""
MEMORY = {"cpu": "what the forward pass keeps for the backward pass", "cuda": "the peak allocated"}


def page(results: Mapping[str, Any], pictures: Sequence[str]) -> str:
    """The whole report; `pictures` are file names."""
    training = results["options"]["training"]
    seeds = f"{len(results['seeds'])} seed{'s' * (len(results['seeds']) > 1)}"
    notes = NOTES.format(**results | {"seeds": seeds, "memory": MEMORY[results["device"]]})
    title = f"# Upsampling operators on {training['dataset']}"
    shown = [f"![{name.partition('.')[0]}]({name})\n" for name in pictures]
    return "\n".join([f"{title}\n", table(results), notes, *shown])


def table(results: Mapping[str, Any]) -> str:
    """A Markdown table whose columns are aligned, a row for each operator."""
    baseline = results["baseline"]
    rows = [HEADINGS, *(_cells(*item, baseline) for item in results["operators"].items())]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["| " + " | ".join(map(str.ljust, row, widths)) + " |" for row in rows]
    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return "\n".join([lines[0], rule, *lines[1:]]) + "\n"


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
