"""How pixels are divided among the threads of a GPU: the cells of an axis, and their pieces.

A cell is what lies between two neighboring source pixels, or between the first or last one and the
edge. triton_kernels.py computes with what `Axis` has; here is no Triton, so that it can be checked
anywhere.
"""

from dataclasses import dataclass

__all__ = ["Axis", "divide_axis"]

PIECE_SIZES = (4, 2, 1)  # px on an axis: powers of two, and all of 4 x 4 pixels fits into registers


@dataclass(frozen=True, slots=True)
class Axis:
    """One axis of a bilinear interpolation, divided into cells and pieces.

    Attributes:
        source_pixels: Their number, h or w.
        pixels: Their number, H or W.
        scale: A of the position (A pixel + B) / D of a pixel, in units of source pixels.
        offset: B of it.
        divisor: D of it.
        ratio: Pixels of a cell where it is the same for all and a weight depends on the place in
            the cell alone; 0 where that is not so.
        pieces: Pieces of a cell.
        piece_pixels: Pixels of a piece, a power of two; some do not exist.
    """

    source_pixels: int
    pixels: int
    scale: int
    offset: int
    divisor: int
    ratio: int
    pieces: int
    piece_pixels: int

    @property
    def all_pieces(self) -> int:
        """The pieces of all cells, those at the edges included."""
        return (self.source_pixels + 1) * self.pieces


def divide_axis(source_pixels: int, pixels: int, align_corners: bool) -> Axis:
    """The cells and pieces of an axis.

    Args:
        source_pixels: At least 1.
        pixels: At least 1.
        align_corners: Whether the outermost centers, instead of the outermost edges, coincide.

    >>> divide_axis(128, 512, align_corners=False).ratio
    4
    >>> axis = divide_axis(128, 512, align_corners=True)
    >>> axis.ratio, axis.pieces, axis.piece_pixels
    (0, 3, 2)
    """
    ratio = 0
    if not align_corners:
        # (pixel + 1/2) source_pixels / pixels - 1/2
        scale, offset, divisor = 2 * source_pixels, source_pixels - pixels, 2 * pixels
        ratio = pixels // source_pixels if pixels % source_pixels == 0 else 0
    elif source_pixels > 1 and pixels > 1:
        scale, offset, divisor = source_pixels - 1, 0, pixels - 1
    else:  # every pixel reads the first source pixel
        scale, offset, divisor = 1, 0, pixels
    cell_pixels = ratio or -(-divisor // scale)
    # What a piece costs beyond its pixels, its loads above all, is about as much as a pixel.
    piece_pixels = min(PIECE_SIZES, key=lambda size: -(-cell_pixels // size) * (size + 1))
    pieces = -(-cell_pixels // piece_pixels)
    return Axis(source_pixels, pixels, scale, offset, divisor, ratio, pieces, piece_pixels)
