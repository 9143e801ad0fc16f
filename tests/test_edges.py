"""Tests of the drawn polygons and strokes, against dense sampling and matplotlib's polygons."""

import numpy as np
import pytest

from upmap.data.edges import (
    SIDE,
    _is_inside,
    _segment_distance,
    draw_edges,
)
from upmap.errors import InputError

CENTERS = np.stack(np.meshgrid(np.arange(SIDE) + 0.5, np.arange(SIDE) + 0.5), axis=-1)


def test_distances_are_those_to_points_along_the_segments() -> None:
    starts, ends = np.random.default_rng(0).uniform(0, SIDE, (2, 3, 2))
    steps = np.linspace(0, 1, 4001)[:, None, None]
    points = (starts + steps * (ends - starts)).reshape(-1, 2)
    pixels = CENTERS[::9, ::9].reshape(-1, 2)
    expected = np.linalg.norm(pixels[:, None] - points, axis=2).min(axis=1)
    distance = _segment_distance(starts, ends)[::9, ::9].ravel()
    # The points lie up to 0.02 px apart.
    assert distance == pytest.approx(expected, abs=0.01)


def test_a_segment_without_length_is_a_point() -> None:
    point = np.array([[10.5, 20.5]])
    assert _segment_distance(point, point)[20, 13] == 3


def test_inside_is_what_matplotlib_takes_for_it() -> None:
    from matplotlib.path import Path

    points = np.array([[5.1, 5.2], [60.3, 10.7], [40.2, 55.9], [30.8, 20.4], [10.6, 50.5]])
    inside = _is_inside(points, np.roll(points, -1, axis=0))
    expected = Path(points).contains_points(CENTERS.reshape(-1, 2)).reshape(SIDE, SIDE)
    assert np.array_equal(inside, expected)


def test_scenes_repeat_and_the_first_of_more_are_the_same() -> None:
    images, labels = draw_edges(3, seed=5)
    more_images, more_labels = draw_edges(6, seed=5)
    assert np.array_equal(images, more_images[:3])
    assert np.array_equal(labels, more_labels[:3])
    assert not np.array_equal(images, draw_edges(3, seed=6)[0])


def test_objects_lie_at_every_place_of_the_grid_alike() -> None:
    _, labels = draw_edges(300, seed=0)
    edges = labels[:, :, 1:] != labels[:, :, :-1]
    counts = [int(edges[:, :, place::8].sum()) / edges[:, :, place::8].size for place in range(8)]
    # About 9,000 edges at each place, many of one object: a few percent.
    assert np.std(counts) / np.mean(counts) < 0.05
    assert 0.05 < labels.mean() < 0.2


def test_objects_stand_out_from_what_is_beside_them() -> None:
    images, labels = draw_edges(20, seed=0)
    for image, label in zip(images.astype(float).mean(axis=3), labels, strict=True):
        # Across an edge; the noise of a mean of three channels is 8.
        steps = np.diff(image, axis=1)[np.diff(label.astype(int), axis=1) == 1]
        assert abs(steps.mean()) > 15


@pytest.mark.parametrize(("count", "seed", "name"), [(0, 0, "images"), (1, -1, "seed")])
def test_impossible_numbers_are_refused(count: int, seed: int, name: str) -> None:
    with pytest.raises(InputError, match=name):
        draw_edges(count, seed)
