"""Draws the pictures of a comparison: scores, errors by place, training curves, and predictions.

All numbers come from the content of results.json, so that pictures can be drawn again from it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from upmap.metrics.semantic import IGNORED

__all__ = [
    "Sample",
    "draw_all",
    "draw_curves",
    "draw_places",
    "draw_predictions",
    "draw_scores",
    "most_informative",
]

MAX_SHOWN = 3  # images in predictions.png
ZOOM = 4  # image side by window side
EDGE_WIDTH = 7  # px: at most 3 px on either side
EDGE_WEIGHT = 1e-3  # of an edge without differences; decides where no predictions differ
VOID_COLOR = (128, 128, 128)

Pixels = NDArray[np.uint8]
Results = Mapping[str, Any]
Operators = Mapping[str, Mapping[str, Any]]  # of an architecture, in results.json


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """An image with its label and the predictions of several models.

    Attributes:
        name: The name of the image.
        image: uint8 [H, W, 3], RGB.
        label: uint8 [H, W], a class or IGNORED.
        predictions: Operator to uint8 [H, W], a class.
    """

    name: str
    image: Pixels
    label: Pixels
    predictions: Mapping[str, Pixels]


def draw_all(results: Results) -> dict[str, Figure]:
    """The pictures of numbers: a file name for each.

    Args:
        results: The content of results.json.
    """
    figures = {"scores.png": draw_scores(results), "curves.png": draw_curves(results)}
    if any(panel["cell"] > 1 for panel in results["panels"].values()):
        figures["places.png"] = draw_places(results)
    return figures


def draw_scores(results: Results) -> Figure:
    """For each architecture every seed's mIoU, the paired differences, and score against time.

    Args:
        results: The content of results.json.
    """
    panels = results["panels"]
    figure = Figure(figsize=(14, 4.2 * len(panels)), layout="constrained")
    for row, (name, panel) in zip(
        figure.subplots(len(panels), 4, squeeze=False), panels.items(), strict=True
    ):
        operators = panel["operators"]
        _draw_seeds(row[0], operators, name)
        for axes, key, score in (
            (row[1], "miou_difference", "mIoU"),
            (row[2], "boundary_iou_difference", "boundary IoU"),
        ):
            _draw_differences(axes, operators, key, score, results["baseline"])
        _draw_costs(row[3], operators)
    return figure


def draw_places(results: Results) -> Figure:
    """The error rate at each place in the upsampling cell, a map for each operator.

    Maps of an architecture share a scale, from 0 to the highest rate of any operator.

    Args:
        results: The content of results.json.
    """
    panels = {name: panel for name, panel in results["panels"].items() if panel["cell"] > 1}
    columns = max(len(panel["operators"]) for panel in panels.values())
    figure = Figure(figsize=(2.4 * columns + 0.8, 2.9 * len(panels)), layout="constrained")
    grid = figure.subplots(len(panels), columns, squeeze=False)
    for row, (name, panel) in zip(grid, panels.items(), strict=True):
        rates = {key: np.array(o["error_by_place"]) for key, o in panel["operators"].items()}
        highest = max(rate.max() for rate in rates.values())
        for axes in row:
            axes.set_axis_off()
        for axes, (operator, rate) in zip(row, rates.items(), strict=False):
            image = axes.imshow(rate, vmin=0, vmax=highest, cmap="viridis")
            axes.set_title(_label(operator), fontsize=9)
        cell = f"{panel['cell']} x {panel['cell']} px"
        figure.colorbar(image, ax=list(row), label=f"{name}\nerror rate by place in {cell}")
    return figure


def draw_curves(results: Results) -> Figure:
    """Training loss and validation mIoU after each epoch: mean and range over seeds.

    Args:
        results: The content of results.json.
    """
    panels = results["panels"]
    figure = Figure(figsize=(11, 4 * len(panels)), layout="constrained")
    grid = figure.subplots(len(panels), 2, squeeze=False)
    for row, (name, panel) in zip(grid, panels.items(), strict=True):
        _draw_history(row[0], panel["operators"], "loss", f"{name}: training loss")
        _draw_history(row[1], panel["operators"], "val_mIoU", f"{name}: validation mIoU")
    return figure


def _draw_history(axes: Axes, operators: Operators, key: str, name: str) -> None:
    for i, (operator, result) in enumerate(operators.items()):
        values = np.array([[row[key] for row in history] for history in result["history"]])
        epochs = np.arange(1, values.shape[1] + 1)
        axes.plot(epochs, values.mean(axis=0), color=f"C{i}", label=operator)
        axes.fill_between(
            epochs, values.min(axis=0), values.max(axis=0), color=f"C{i}", alpha=0.15, lw=0
        )
    axes.set(xlabel="epoch", ylabel=name)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)


def draw_predictions(samples: Sequence[Sample], palette: Pixels) -> Figure:
    """Two rows for each image, whole and its most informative window; a column per operator.

    Args:
        samples: At least one; all with predictions of the same operators.
        palette: uint8 [K, 3], RGB.
    """
    operators = list(samples[0].predictions)
    columns = 2 + len(operators)
    heights = [sample.label.shape[0] / sample.label.shape[1] for sample in samples for _ in "az"]
    figure = Figure(figsize=(2 * columns, 2 * sum(heights) + 0.3), layout="constrained")
    grid = figure.subplots(len(heights), columns, squeeze=False, height_ratios=heights)
    for axes, title in zip(grid[0], ["image", "truth", *operators], strict=True):
        axes.set_title(_label(title), fontsize=9)
    for i, sample in enumerate(samples):
        _draw_sample(grid[2 * i], grid[2 * i + 1], sample, palette)
    return figure


def most_informative(samples: Sequence[Sample], count: int = MAX_SHOWN) -> list[Sample]:
    """At most `count` samples, those whose predictions differ most near edges of the label."""
    return sorted(samples, key=lambda sample: -float(_differences(sample).mean()))[:count]


def _draw_seeds(axes: Axes, operators: Operators, title: str) -> None:
    """A dot for each seed, and the mean with the standard deviation."""
    for i, result in enumerate(operators.values()):
        values = np.array(result["miou"])
        # Side by side, so that seeds with the same score are visible.
        places = i + np.linspace(-0.15, 0.15, len(values)) if len(values) > 1 else np.array([i])
        axes.plot(places, values, "o", color=f"C{i}", alpha=0.5, markersize=4)
        spread = values.std(ddof=1) if len(values) > 1 else 0.0
        axes.errorbar(i, values.mean(), spread, fmt="_", color="black", markersize=14, capsize=4)
    _name_operators(axes, operators)
    axes.set(ylabel="mIoU", title=f"{title}\nmIoU of each seed")


def _draw_differences(
    axes: Axes, operators: Operators, key: str, score: str, baseline: str
) -> None:
    """The paired difference of each operator, with its intervals over seeds and over images."""
    axes.axhline(0, color="black", lw=0.8)
    for i, (operator, result) in enumerate(operators.items()):
        difference = result[key]
        if operator == baseline:
            continue
        axes.plot(i, difference["mean"], "o", color=f"C{i}")
        if difference["low"] is not None:
            axes.vlines(i, difference["low"], difference["high"], color=f"C{i}")
        limits = (difference["image_low"], difference["image_high"])
        axes.vlines(i + 0.15, *limits, color=f"C{i}", linestyles="dotted")
    _name_operators(axes, operators)
    axes.set(title=f"{score} less {baseline}'s, 95 %\nover seeds, dotted over images")


def _draw_costs(axes: Axes, operators: Operators) -> None:
    """MIoU against time, a point for each operator."""
    for i, (operator, result) in enumerate(operators.items()):
        point = (1e3 * result["forward_backward"], float(np.mean(result["miou"])))
        axes.plot(*point, "o", color=f"C{i}")
        axes.annotate(
            _label(operator), point, (0, 6), textcoords="offset points", ha="center", fontsize=7
        )
    axes.margins(x=0.35, y=0.2)
    axes.set(xlabel="forward + backward, ms per batch", ylabel="mIoU", title="score against time")
    axes.grid(alpha=0.3)


def _name_operators(axes: Axes, operators: Operators) -> None:
    axes.set_xticks(range(len(operators)), map(_label, operators), rotation=35, ha="right")
    axes.tick_params(axis="x", labelsize=8)
    axes.set_xlim(-0.5, len(operators) - 0.5)
    axes.grid(axis="y", alpha=0.3)


def _label(operator: str) -> str:
    """An operator with its options on a line of their own."""
    name, _, options = operator.partition("{")
    return f"{name}\n{options.rstrip('}')}" if options else name


def _draw_sample(
    whole: Sequence[Axes], enlarged: Sequence[Axes], sample: Sample, palette: Pixels
) -> None:
    top, left, height, width = _window(sample)
    label_maps = (sample.label, *sample.predictions.values())
    colored = [_colorize(labels, palette) for labels in label_maps]
    for above, below, pixels in zip(whole, enlarged, [sample.image, *colored], strict=True):
        above.imshow(pixels, interpolation="nearest")
        frame = Rectangle((left - 0.5, top - 0.5), width, height, fill=False, edgecolor="white")
        above.add_patch(frame)
        below.imshow(pixels[top : top + height, left : left + width], interpolation="nearest")
        for axes in (above, below):
            axes.set_axis_off()


def _colorize(labels: Pixels, palette: Pixels) -> Pixels:
    table = np.full((256, 3), VOID_COLOR, np.uint8)
    table[: len(palette)] = palette
    return table[labels]


def _window(sample: Sample) -> tuple[int, int, int, int]:
    """Top, left, height and width, px, of the window with the largest sum of `_differences`."""
    height, width = (max(1, side // ZOOM) for side in sample.label.shape)
    counts = np.pad(_differences(sample) + EDGE_WEIGHT * _edges(sample.label), ((1, 0), (1, 0)))
    # The sums over all windows, from a summed-area table.
    table = counts.cumsum(axis=0).cumsum(axis=1)
    sums = table[height:, width:] - table[:-height, width:]
    sums = sums - table[height:, :-width] + table[:-height, :-width]
    top, left = np.unravel_index(int(sums.argmax()), sums.shape)
    return int(top), int(left), height, width


def _differences(sample: Sample) -> NDArray[np.float64]:
    """1 where predictions differ near an edge of the label, 0 elsewhere, [H, W]."""
    predictions = np.stack(list(sample.predictions.values()))
    # Far from edges, differences are errors of the classifier, not of the upsampling.
    near = cv2.dilate(_edges(sample.label).astype(np.uint8), np.ones((EDGE_WIDTH, EDGE_WIDTH))) > 0
    differ = (predictions != predictions[0]).any(axis=0)
    return np.asarray(differ & (sample.label != IGNORED) & near, np.float64)


def _edges(label: Pixels) -> NDArray[np.bool_]:
    """Where the pixel above, below, to the left or to the right has another label, [H, W]."""
    edges = np.zeros(label.shape, np.bool_)
    between_rows, between_columns = label[1:] != label[:-1], label[:, 1:] != label[:, :-1]
    edges[1:] |= between_rows
    edges[:-1] |= between_rows
    edges[:, 1:] |= between_columns
    edges[:, :-1] |= between_columns
    return edges
