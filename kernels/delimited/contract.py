"""What every reader of delimited text and JSON lines takes and returns."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "KINDS",
    "MAX_COLUMNS",
    "MAX_HEADER",
    "MAX_INTEGER",
    "NULLS",
    "Column",
    "Columns",
    "Header",
    "Kind",
    "Lists",
    "Name",
    "Reader",
    "Source",
    "Texts",
    "as_integers",
    "names_of",
]

Source = str | bytes  # a path, or the bytes of a file
# Of a column: a number, a text, a box of four numbers or an integer in each row; or a list of them.
Kind = Literal["number", "text", "box", "integer", "numbers", "texts", "boxes"]
KINDS: tuple[Kind, ...] = ("number", "text", "box", "integer", "numbers", "texts", "boxes")
Name = str | tuple[str, ...]  # of a column; or of the four whose numbers are one column of boxes
NULLS = frozenset(["", "nan", "NaN", "NAN", "null", "NULL", "None", "NA", "N/A", "n/a", "<NA>"])
MAX_INTEGER = 2.0**53  # up to which float64 holds all integers
MAX_COLUMNS = 4096  # of a table
MAX_HEADER = 2**20  # bytes from the beginning, in which the names and the first values stand


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """What the beginning of a file says.

    Attributes:
        kind: "csv" or "jsonl".
        separator: What stands between the cells of a row of CSV; empty for JSON lines.
        names: The names of the columns.
        first: The first value of each column that is not null, by name: texts, of JSON lines any
            values; columns without one, in the first records, are left out or empty.
    """

    kind: Literal["csv", "jsonl"]
    separator: str
    names: tuple[str, ...]
    first: Mapping[str, Any]


@dataclass(frozen=True, slots=True, eq=False)
class Texts:
    """Texts that repeat.

    Attributes:
        index: int32 [N], the place of each in `names`; -1 for none (an empty cell, null).
        names: The different texts, in the order in which they are first seen.
    """

    index: NDArray[np.int32]
    names: list[str]


@dataclass(frozen=True, slots=True, eq=False)
class Lists:
    """A list in each of N rows.

    Attributes:
        values: The M elements of all: float64 [M], of boxes [M, 4], or texts.
        start: int64 [N + 1], where the list of each row begins.
    """

    values: "NDArray[np.float64] | Texts"
    start: NDArray[np.int64]


# Of numbers float64 [N], of boxes [N, 4], NaN where there is none; of integers int64 [N], or as
# numbers if not all are whole, or one is missing.
Column = NDArray[np.float64] | NDArray[np.int64] | Texts | Lists
Columns = dict[Name, Column]


def as_integers(numbers: NDArray[Any]) -> NDArray[Any]:
    """A column of integers of float64 [N]: int64 where all are whole, else as it is."""
    if numbers.dtype.kind == "i" or not (np.abs(numbers) <= MAX_INTEGER).all():
        return numbers
    integers = numbers.astype(np.int64)
    return integers if np.array_equal(integers, numbers) else numbers


def names_of(name: Name) -> tuple[str, ...]:
    """The columns that a name names."""
    return name if isinstance(name, tuple) else (name,)


# (source, header, kinds, threads) to the columns of `kinds`.
Reader = Callable[[Source, Header, Mapping[Name, Kind], int], Columns]
