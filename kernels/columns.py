"""Validation of the kernels' arguments, once and alike for all implementations.

An implementation receives arrays of exactly the dtype and shape that its contract names, in C
order, aligned, in native byte order. What cannot be converted without changing a value is refused.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

__all__ = [
    "LARGEST",
    "LARGEST_IMAGE",
    "Column",
    "exact_array",
    "validate_columns",
    "validate_within",
]

LARGEST = 1e150  # px, of a coordinate: the area of the largest box is still a finite float64
LARGEST_IMAGE = 2**31  # px, of a side


@dataclass(frozen=True, slots=True)
class Column:
    """The dtype and shape that an array must have.

    Attributes:
        dtype: The dtype.
        shape: The size of each axis; a letter is a size that columns share.
    """

    dtype: DTypeLike
    shape: tuple[int | str, ...]


def validate_columns(
    owner: str, table: object, columns: Mapping[str, Column]
) -> dict[str, NDArray[Any]]:
    """Converts the attributes of `table` named in `columns` to arrays that kernels can read.

    Args:
        owner: The name of the table in messages.
        table: An object with an attribute for each column.
        columns: The dtype and shape of each; the first column with a letter defines its value.

    Raises:
        TypeError: If a column does not hold numbers.
        ValueError: If a column has another shape, or values that its dtype cannot hold.
    """
    sizes: dict[int | str, int] = {}
    arrays = {}
    for name, column in columns.items():
        array = exact_array(f"{owner}.{name}", getattr(table, name), column.dtype)
        if len(column.shape) == array.ndim:
            for axis, size in zip(column.shape, array.shape, strict=True):
                sizes.setdefault(axis, axis if isinstance(axis, int) else size)
        expected = [sizes.get(axis, axis) for axis in column.shape]
        if list(array.shape) != expected:
            shape = ", ".join(map(str, expected))
            raise ValueError(f"{owner}.{name} must be [{shape}], not {list(array.shape)}")
        arrays[name] = array
    return arrays


def exact_array(name: str, values: ArrayLike, dtype: DTypeLike) -> NDArray[Any]:
    """Converts values to an array of `dtype`, in C order and aligned; no copy if it is one already.

    Args:
        name: The name of the array in messages.
        values: Numbers or booleans, which `dtype` must hold exactly.
        dtype: The dtype.

    Raises:
        TypeError: If they are not numbers.
        ValueError: If the dtype cannot hold a value, as int32 cannot hold 0.5 or 2^31.

    >>> exact_array("label", [0.0, 7.0], np.int32)
    array([0, 7], dtype=int32)
    """
    array, dtype = np.asarray(values), np.dtype(dtype)
    if array.dtype.kind not in "biuf":
        raise TypeError(f"{name} must hold numbers ({dtype}), not {array.dtype}")
    if array.dtype != dtype:
        # A cast out of range warns, or not, depending on the platform: the comparison decides.
        with np.errstate(all="ignore"):
            converted = array.astype(dtype)
        if not np.array_equal(converted, array, equal_nan=True):
            raise ValueError(f"{name} must be {dtype}; it is {array.dtype} and holds other values")
        array = converted
    return np.require(array, requirements=["C", "A"])


def validate_within(name: str, array: NDArray[Any], low: int, high: int | None = None) -> None:
    """Refuses values below `low` or above `high`.

    Raises:
        ValueError: If there is one.
    """
    if not array.size:
        return
    if array.min() < low or (high is not None and array.max() > high):
        raise ValueError(f"{name} must lie in {low} .. {'' if high is None else high}".rstrip())
