"""The bounding box and the area of a mask in COCO's run-length encoding.

Source: rleFrString, rleToBbox and rleArea of pycocotools 2.0.11 (maskApi.c), whose numbers these
are. Lengths are validated here: a file cannot make anything run beyond its end.
"""

from typing import Any

__all__ = ["measure_mask"]

MAX_COUNTS = 2**24  # runs of one mask
MAX_PIXELS = 2**40  # of one mask


def measure_mask(mask: Any) -> tuple[list[float], float] | None:
    """The box x, y, width, height of a mask, px, and its area, px^2; None if it is no such mask.

    Args:
        mask: `{"size": [height, width], "counts": ...}`; counts are integers, or their text.

    >>> measure_mask({"size": [4, 3], "counts": [5, 2, 5]})
    ([1.0, 1.0, 1.0, 2.0], 2.0)
    """
    if not isinstance(mask, dict):
        return None
    size, counts = mask.get("size"), mask.get("counts")
    if not (isinstance(size, list) and len(size) == 2 and all(map(_is_side, size))):
        return None
    runs = _decode_counts(counts) if isinstance(counts, str) else counts
    if not isinstance(runs, list) or len(runs) > MAX_COUNTS or not all(map(_is_count, runs)):
        return None
    if sum(runs) > size[0] * size[1] or size[0] * size[1] > MAX_PIXELS:
        return None
    return _bounds(runs, *size), float(sum(runs[1::2]))


def _is_side(value: Any) -> bool:
    return type(value) is int and 0 < value <= 2**31


def _is_count(value: Any) -> bool:
    return type(value) is int and value >= 0


def _decode_counts(text: str) -> list[int] | None:
    """The run lengths of a compressed text: 5 bits a character, differences to the last but one."""
    counts: list[int] = []
    value = shift = 0
    for character in text:
        bits = ord(character) - 48
        if not 0 <= bits < 64 or shift > 60:
            return None
        value |= (bits & 0x1F) << shift
        shift += 5
        if bits & 0x20:
            continue
        if bits & 0x10:
            value |= -1 << shift
        counts.append(value + counts[-2] if len(counts) > 2 else value)
        value = shift = 0
    return None if shift else counts


def _bounds(runs: list[int], height: int, width: int) -> list[float]:
    """The box of the runs, which are columns, alternately without and within the mask."""
    runs = runs[: len(runs) // 2 * 2]
    if not runs:
        return [0.0, 0.0, 0.0, 0.0]
    left, top, right, bottom = width, height, 0, 0
    end = column_before = 0
    for i, run in enumerate(runs):
        end += run
        column, row = divmod(end - i % 2, height)
        if i % 2 == 0:
            column_before = column
        elif column_before < column:  # the run goes over the end of a column
            top, bottom = 0, height - 1
        left, right = min(left, column), max(right, column)
        top, bottom = min(top, row), max(bottom, row)
    return [float(left), float(top), float(right - left + 1), float(bottom - top + 1)]
