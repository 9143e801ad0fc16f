"""Tests of blending overlapping windows."""

from functools import partial
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from upmap.segmentation.tiling import (
    Block,
    blend_windows,
    count_windows,
    window_side,
    window_starts,
    window_weights,
)

SIDES = st.integers(1, 40)
OVERLAPS = st.floats(0, 0.9)


def whole(blocks: list[Block]) -> Tensor:
    """The logits of all blocks, [K, H, W]; NaN where there is none."""
    height, width = blocks[-1].rows.stop, blocks[-1].columns.stop
    logits = torch.full((len(blocks[0].logits), height, width), torch.nan)
    for block in blocks:
        assert logits[:, block.rows, block.columns].isnan().all()  # each pixel is covered once
        logits[:, block.rows, block.columns] = block.logits
    return logits


def image_of(height: int, width: int) -> Tensor:
    generator = torch.Generator().manual_seed(height * 100 + width)
    return torch.randint(0, 256, (3, height, width), dtype=torch.uint8, generator=generator)


@settings(deadline=None)
@given(SIDES, SIDES, SIDES, SIDES, OVERLAPS, st.integers(1, 5))
def test_blending_what_looks_at_no_neighbor_changes_nothing(
    height: int, width: int, tall: int, wide: int, overlap: float, batch_size: int
) -> None:
    image = image_of(height, width)
    blocks = list(
        blend_windows(
            lambda windows: windows.float(),
            image,
            window=(tall, wide),
            overlap=overlap,
            batch_size=batch_size,
        )
    )
    torch.testing.assert_close(whole(blocks), image.float(), rtol=1e-5, atol=1e-3)


@settings(deadline=None)
@given(st.integers(1, 300), st.integers(1, 300), OVERLAPS)
def test_windows_cover_a_side_and_overlap_enough(length: int, window: int, overlap: float) -> None:
    window = min(window, length)
    starts = window_starts(length, window, overlap)
    assert starts[0] == 0
    assert starts[-1] == length - window
    gaps = [later - earlier for earlier, later in pairwise(starts)]
    assert all(1 <= gap <= max(1, int(window * (1 - overlap))) for gap in gaps)


def test_blending_is_the_weighted_mean_of_windows() -> None:
    torch.manual_seed(0)
    image, size, count = image_of(24, 31), (10, 12), 4
    model = nn.Conv2d(3, count, 5, padding=2)  # sees the border of its window
    look = partial(functional.conv2d, weight=model.weight, bias=model.bias, padding=2)
    weight = torch.outer(*map(window_weights, size)).float()
    sums, covered = torch.zeros(count, 24, 31), torch.zeros(24, 31)
    for top in window_starts(24, 10, 0.5):
        for left in window_starts(31, 12, 0.5):
            place = (..., slice(top, top + 10), slice(left, left + 12))
            sums[place] += look(image[place][None].float())[0] * weight
            covered[place] += weight
    blocks = blend_windows(lambda windows: look(windows.float()), image, window=size, overlap=0.5)
    torch.testing.assert_close(whole(list(blocks)), sums / covered)


def test_a_window_that_covers_the_image_leaves_its_logits_as_they_are() -> None:
    torch.manual_seed(0)
    logits = torch.randn(1, 5, 40, 60)
    for window in (None, (40, 60), (100, 100)):
        (block,) = blend_windows(lambda _: logits.clone(), image_of(40, 60), window=window)
        assert torch.equal(block.logits, logits[0])


def test_an_array_of_any_strides_is_blended_as_a_tensor() -> None:
    image = image_of(30, 45)
    reversed_view = image.flip(0).permute(1, 2, 0).numpy()[:, :, ::-1].transpose(2, 0, 1)
    expected = blend_windows(lambda windows: windows.float(), image, window=(16, 16))
    blocks = blend_windows(lambda windows: windows.float(), reversed_view, window=(16, 16))
    assert torch.equal(whole(list(blocks)), whole(list(expected)))


@settings(deadline=None)
@given(st.integers(1, 5000), st.integers(1, 2000), OVERLAPS)
def test_a_shrunk_window_needs_no_more_windows(length: int, window: int, overlap: float) -> None:
    side = window_side(length, window, overlap)
    assert 1 <= side <= min(window, length)
    full = window_starts(length, min(window, length), overlap)
    assert len(window_starts(length, side, overlap)) == len(full)


@settings(deadline=None)
@given(SIDES, SIDES, SIDES, OVERLAPS)
def test_windows_are_counted_before_they_are_cut(
    height: int, width: int, window: int, overlap: float
) -> None:
    blocks = blend_windows(
        lambda windows: windows.float(),
        image_of(height, width),
        window=(window, window),
        overlap=overlap,
    )
    expected = count_windows((height, width), (window, window), overlap)
    assert len(list(blocks)) == expected


def test_no_more_windows_than_asked_go_at_once() -> None:
    seen = []

    def look(windows: Tensor) -> Tensor:
        seen.append(len(windows))
        return windows.float()

    list(blend_windows(look, image_of(8, 100), window=(8, 10), overlap=0, batch_size=3))
    assert seen == [3, 3, 3, 1]


def test_a_whole_image_goes_in_one_piece() -> None:
    seen = []

    def look(windows: Tensor) -> Tensor:
        seen.append(tuple(windows.shape))
        return windows.float()

    list(blend_windows(look, image_of(30, 50)))
    assert seen == [(1, 3, 30, 50)]


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"window": (0, 4)}, "window"),
        ({"overlap": 1.0}, "overlap"),
        ({"overlap": -0.1}, "overlap"),
        ({"batch_size": 0}, "batch_size"),
    ],
)
def test_what_is_out_of_range_is_named(wrong: dict[str, object], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        list(blend_windows(lambda windows: windows.float(), image_of(4, 4), **wrong))  # type: ignore[arg-type]
