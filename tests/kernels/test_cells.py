"""The cells and pieces of an axis, against the taps of each pixel."""

from itertools import product

import pytest
import torch

from upmap.kernels.upsample_ce.cells import divide_axis
from upmap.kernels.upsample_ce.taps import interpolation_taps


@pytest.mark.parametrize("align_corners", [False, True])
def test_positions_are_those_of_the_taps_and_cells_have_room_for_all_pixels(
    align_corners: bool,
) -> None:
    for source_pixels, pixels in product(range(1, 14), range(1, 40)):
        axis = divide_axis(source_pixels, pixels, align_corners)
        taps = interpolation_taps(source_pixels, pixels, align_corners)
        at = torch.arange(pixels, dtype=torch.float64)
        position = (axis.scale * at + axis.offset) / axis.divisor
        if source_pixels > 1:
            # Beyond the last center both taps are the last source pixel, whatever the weight.
            expected = (taps.first + taps.weight).clamp(max=source_pixels - 1)
            torch.testing.assert_close(position.clamp(0, source_pixels - 1), expected)
        cells = (axis.scale * torch.arange(pixels) + axis.offset) // axis.divisor
        largest = int(torch.bincount(cells + 1).max())
        assert largest <= axis.pieces * axis.piece_pixels
        assert cells.min() >= -1
        assert cells.max() < source_pixels
