"""Label maps as records of JSON: the classes of an image, their shares, and their masks.

Masks are COCO's run-length encoding (pycocotools, maskApi.c): runs of 0 and 1 by columns, from the
third on as the difference to the run before the last, in digits of 5 bits.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["count_labels", "describe_labels", "encode_masks"]

Pixels = NDArray[np.uint8]
Runs = NDArray[np.int64]
DIGIT_BITS = 5
LONGEST_CODE = 8  # digits of a run of up to 2^38 pixels


def describe_labels(labels: Pixels, classes: Sequence[str]) -> dict[str, Any]:
    """The size of a label map and, for each class in it, its pixels, share and mask.

    Args:
        labels: uint8 [H, W], 0 .. K - 1.
        classes: The names of the K classes.

    >>> record = describe_labels(np.array([[0, 1], [0, 1]], np.uint8), ["sky", "road"])
    >>> record["height"], record["classes"][1]["share"], record["classes"][1]["rle"]
    (2, 0.5, {'size': [2, 2], 'counts': '22'})
    """
    height, width = labels.shape
    counts = count_labels(labels, len(classes))
    return {
        "height": height,
        "width": width,
        "classes": [
            {
                "id": label,
                "name": classes[label],
                "pixels": int(counts[label]),
                "share": int(counts[label]) / labels.size,
                "rle": {"size": [height, width], "counts": code},
            }
            for label, code in encode_masks(labels)
        ],
    }


def count_labels(labels: Pixels, classes: int) -> NDArray[np.int64]:
    """The number of pixels of each class, int64 [K].

    >>> count_labels(np.array([[0, 2], [2, 2]], np.uint8), 3).tolist()
    [1, 0, 3]
    """
    counts = np.zeros(max(classes, 256), np.int64)
    for rows in labels:  # bincount would make 8 bytes of each pixel
        counts += np.bincount(rows, minlength=len(counts))
    return counts[:classes]


def encode_masks(labels: Pixels) -> Iterator[tuple[int, str]]:
    """Yields each label of a map, ascending, and its mask in COCO's run-length encoding.

    Args:
        labels: uint8 [H, W].

    >>> list(encode_masks(np.array([[3, 3, 7]], np.uint8)))
    [(3, '021'), (7, '21')]
    """
    flat = labels.T.ravel()
    starts = np.concatenate([[0], np.flatnonzero(flat[1:] != flat[:-1]) + 1])
    ends = np.append(starts[1:], flat.size)
    of_run = flat[starts]
    for label in np.unique(of_run).tolist():
        is_label = of_run == label
        # The bounds of this label's runs in turn: the differences are runs of 0 and of 1.
        bounds = np.stack([starts[is_label], ends[is_label]], axis=1).ravel()
        runs = np.diff(bounds, prepend=0)
        if bounds[-1] < flat.size:
            runs = np.append(runs, flat.size - bounds[-1])
        yield label, _encode_runs(runs)


def _encode_runs(runs: Runs) -> str:
    """The runs as text, as rleToString of maskApi.c."""
    values = runs.copy()
    values[3:] -= runs[1:-2]
    codes = np.zeros((len(values), LONGEST_CODE), np.uint8)
    is_open = np.ones(len(values), bool)  # whether a value has digits left
    for place in range(LONGEST_CODE):
        digit = values & 2**DIGIT_BITS - 1
        values = values >> DIGIT_BITS
        # The highest bit of the last digit is the sign.
        is_negative = digit >> DIGIT_BITS - 1 == 1
        is_last = values == np.where(is_negative, -1, 0)
        code = digit + np.where(is_last, 0, 2**DIGIT_BITS) + ord("0")
        codes[:, place] = np.where(is_open, code, 0)
        is_open &= ~is_last
    return codes[codes > 0].tobytes().decode("ascii")
