"""Small scenes of polygons and strokes, whose edges lie at any place and angle in the pixel grid.

A pixel is painted by the share of it that an object covers, so that an edge can be located to a
fraction of a pixel. What tells methods apart on these scenes is how exactly they place edges: the
foreground is easily told from the background.
"""

import math

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from upmap.errors import InputError

__all__ = ["CLASSES", "SIDE", "draw_edges"]

CLASSES = ("background", "object")
SIDE = 64  # px, of a scene
MIN_OBJECTS, MAX_OBJECTS = 2, 4
CORNERS = (3, 6)  # of a polygon
RADII = (5.0, 18.0)  # px, from the center of a polygon to its corners
JOINTS = (2, 4)  # of a stroke
STROKE_WIDTHS = (1.5, 3.5)  # px
MARGIN = 7.0  # px, that the centers of polygons keep from the border
CELLS = 5  # of the grid of random colors that the background interpolates
BACKGROUND = (60.0, 150.0)  # of 255
CONTRAST = (40.0, 70.0)  # of objects, brighter or darker than the background
NOISE = 14.0  # standard deviation

Floats = NDArray[np.float64]
Pixels = NDArray[np.uint8]


def draw_edges(count: int, seed: int) -> tuple[Pixels, Pixels]:
    """Draws scenes and their labels.

    Args:
        count: How many; the first scenes of a larger number are the same.
        seed: Of the random numbers, from 0.

    Returns:
        Images, uint8 [count, SIDE, SIDE, 3], RGB, and labels, uint8 [count, SIDE, SIDE], 1 where
        an object covers the center of the pixel.

    Raises:
        InputError: If `count` is below 1 or `seed` below 0.

    >>> images, labels = draw_edges(2, seed=0)
    >>> images.shape, np.unique(labels).tolist()
    ((2, 64, 64, 3), [0, 1])
    """
    for name, value, minimum in (("number of images", count, 1), ("seed", seed, 0)):
        if value < minimum:
            raise InputError(f"the {name} must be at least {minimum}, not {value}")
    scenes = [_draw_scene(np.random.default_rng([seed, i])) for i in range(count)]
    return np.stack([image for image, _ in scenes]), np.stack([label for _, label in scenes])


def _draw_scene(rng: Generator) -> tuple[Pixels, Pixels]:
    distance = np.full((SIDE, SIDE), math.inf)
    for _ in range(rng.integers(MIN_OBJECTS, MAX_OBJECTS, endpoint=True)):
        draw = _polygon_distance if rng.random() < 0.5 else _stroke_distance
        distance = np.minimum(distance, draw(rng))
    # The share of a pixel that a straight edge at this distance from its center leaves covered.
    cover = np.clip(0.5 - distance, 0, 1)[:, :, None]
    contrast = rng.choice([-1, 1]) * rng.uniform(*CONTRAST)
    canvas = _background(rng) + contrast * cover + rng.normal(0, NOISE, (SIDE, SIDE, 3))
    return np.clip(canvas, 0, 255).astype(np.uint8), (distance < 0).astype(np.uint8)


def _polygon_distance(rng: Generator) -> Floats:
    """The distance of each pixel's center to a random polygon, px, negative within, [H, W]."""
    corners = int(rng.integers(*CORNERS, endpoint=True))
    angles = np.sort(rng.uniform(0, 2 * math.pi, corners))
    rays = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    points = rng.uniform(MARGIN, SIDE - MARGIN, 2) + rng.uniform(*RADII, (corners, 1)) * rays
    starts, ends = points, np.roll(points, -1, axis=0)
    distance = _segment_distance(starts, ends)
    signed: Floats = np.where(_is_inside(starts, ends), -distance, distance)
    return signed


def _stroke_distance(rng: Generator) -> Floats:
    """The distance of each pixel's center to a random stroke, px, negative within, [H, W]."""
    joints = int(rng.integers(*JOINTS, endpoint=True))
    points = rng.uniform(0, SIDE, (joints, 2))
    radius = rng.uniform(*STROKE_WIDTHS) / 2
    distance: Floats = _segment_distance(points[:-1], points[1:]) - radius
    return distance


def _centers() -> tuple[Floats, Floats]:
    """X and y of the centers of pixels, [1, W] and [H, 1]."""
    centers = np.arange(SIDE, dtype=np.float64) + 0.5
    return centers[None, :], centers[:, None]


def _segment_distance(starts: Floats, ends: Floats) -> Floats:
    """The distance of each pixel's center to the nearest of segments, [n, 2] each, [H, W]."""
    x, y = _centers()
    (x0, y0), (x1, y1) = starts.T[:, :, None, None], ends.T[:, :, None, None]
    across, down = x1 - x0, y1 - y0
    length = across**2 + down**2
    along = ((x - x0) * across + (y - y0) * down) / np.where(length > 0, length, 1)
    place = np.clip(along, 0, 1)
    squares = (x - x0 - place * across) ** 2 + (y - y0 - place * down) ** 2
    distance: Floats = np.sqrt(squares.min(axis=0))
    return distance


def _is_inside(starts: Floats, ends: Floats) -> NDArray[np.bool_]:
    """Which pixels' centers lie within a polygon of n edges, [n, 2] each, by the even-odd rule."""
    x, y = _centers()
    (x0, y0), (x1, y1) = starts.T[:, :, None, None], ends.T[:, :, None, None]
    is_crossing = (y0 <= y) != (y1 <= y)  # [n, H, 1]
    slope = (x1 - x0) / np.where(y1 == y0, 1, y1 - y0)
    is_left = is_crossing & (x >= x0 + (y - y0) * slope)  # [n, H, W]
    inside: NDArray[np.bool_] = np.logical_xor.reduce(is_left, axis=0)
    return inside


def _background(rng: Generator) -> Floats:
    """Smooth random colors, float64 [H, W, 3]: a coarse grid, interpolated linearly."""
    grid = rng.uniform(*BACKGROUND, (CELLS, CELLS, 3))
    place = (np.arange(SIDE) + 0.5) * (CELLS - 1) / SIDE
    weights = np.clip(1 - np.abs(place[:, None] - np.arange(CELLS)), 0, 1)  # [H, CELLS]
    rows: Floats = (weights[:, :, None, None] * grid).sum(axis=1)  # [H, CELLS, 3]
    background: Floats = (weights[None, :, :, None] * rows[:, None]).sum(axis=2)
    return background
