"""Draws the pictures of a comparison: scores, training curves, and predictions.

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

__all__ = ["Sample", "draw_curves", "draw_predictions", "draw_scores", "most_informative"]

MAX_SHOWN = 3  # images in predictions.png
ZOOM = 4  # image side by window side
EDGE_WIDTH = 7  # px: at most 3 px on either side
EDGE_WEIGHT = 1e-3  # of an edge without differences; decides where no predictions differ
VOID_COLOR = (128, 128, 128)

Pixels = NDArray[np.uint8]
Results = Mapping[str, Any]


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


def draw_scores(results: Results) -> Figure:
    """Each seed's scores, the paired differences to the baseline, and score against time.

    Args:
        results: The content of results.json.
    """
    figure = Figure(figsize=(12, 7), layout="constrained")
    upper, lower = figure.subplots(2, 3)
    for row, key, name in (
        (upper, "miou", "mIoU"),
        (lower, "boundary_iou", "boundary IoU"),
    ):
        _draw_seeds(row[0], results, key, name)
        _draw_differences(row[1], results, f"{key}_difference", name)
    _draw_costs(upper[2], results, "forward_backward", "forward + backward, ms per batch", 1e3)
    _draw_costs(lower[2], results, "parameters", "parameters, thousands", 1e-3)
    return figure


def draw_curves(results: Results) -> Figure:
    """Training loss and validation mIoU after each epoch: mean and range over seeds.

    Args:
        results: The content of results.json.
    """
    figure = Figure(figsize=(10, 4), layout="constrained")
    for axes, key, name in zip(
        figure.subplots(1, 2),
        ("loss", "val_mIoU"),
        ("training loss", "validation mIoU"),
        strict=True,
    ):
        for i, (operator, result) in enumerate(results["operators"].items()):
            values = np.array([[row[key] for row in history] for history in result["history"]])
            epochs = np.arange(1, values.shape[1] + 1)
            axes.plot(epochs, values.mean(axis=0), color=f"C{i}", label=operator)
            axes.fill_between(
                epochs, values.min(axis=0), values.max(axis=0), color=f"C{i}", alpha=0.15, lw=0
            )
        axes.set(xlabel="epoch", ylabel=name)
        axes.grid(alpha=0.3)
        axes.legend()
    return figure


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
        axes.set_title(title, fontsize=9)
    for i, sample in enumerate(samples):
        _draw_sample(grid[2 * i], grid[2 * i + 1], sample, palette)
    return figure


def most_informative(samples: Sequence[Sample], count: int = MAX_SHOWN) -> list[Sample]:
    """At most `count` samples, those whose predictions differ most near edges of the label."""
    return sorted(samples, key=lambda sample: -float(_differences(sample).mean()))[:count]


def _draw_seeds(axes: Axes, results: Results, key: str, name: str) -> None:
    """A dot for each seed, and the mean with the standard deviation."""
    for i, result in enumerate(results["operators"].values()):
        values = np.array(result[key])
        # Side by side, so that seeds with the same score are visible.
        places = i + np.linspace(-0.15, 0.15, len(values)) if len(values) > 1 else np.array([i])
        axes.plot(places, values, "o", color=f"C{i}", alpha=0.5, markersize=4)
        spread = values.std(ddof=1) if len(values) > 1 else 0.0
        axes.errorbar(i, values.mean(), spread, fmt="_", color="black", markersize=14, capsize=4)
    _name_operators(axes, results)
    axes.set(ylabel=name, title=f"{name}: seeds, mean ± sd")


def _draw_differences(axes: Axes, results: Results, key: str, name: str) -> None:
    """The mean paired difference of each operator, and its confidence interval if it has one."""
    axes.axhline(0, color="black", lw=0.8)
    for i, (operator, result) in enumerate(results["operators"].items()):
        if operator == results["baseline"]:
            continue
        difference = result[key]
        axes.plot(i, difference["mean"], "o", color=f"C{i}")
        if difference["low"] is not None:
            axes.vlines(i, difference["low"], difference["high"], color=f"C{i}")
    _name_operators(axes, results)
    title = f"paired difference to {results['baseline']}, 95 % CI"
    axes.set(ylabel=f"difference of {name}", title=title)


def _draw_costs(axes: Axes, results: Results, key: str, name: str, factor: float) -> None:
    """MIoU against a cost, a point for each operator."""
    for i, (operator, result) in enumerate(results["operators"].items()):
        point = (factor * result[key], float(np.mean(result["miou"])))
        axes.plot(*point, "o", color=f"C{i}")
        axes.annotate(operator, point, xytext=(4, 4), textcoords="offset points", fontsize=8)
    axes.margins(x=0.3, y=0.15)
    axes.set(xlabel=name, ylabel="mIoU", title="score against cost")
    axes.grid(alpha=0.3)


def _name_operators(axes: Axes, results: Results) -> None:
    names = list(results["operators"])
    axes.set_xticks(range(len(names)), names, rotation=20, ha="right", fontsize=8)
    axes.set_xlim(-0.5, len(names) - 0.5)
    axes.grid(axis="y", alpha=0.3)


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
