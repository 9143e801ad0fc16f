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
    "NULLS",
    "Column",
    "Columns",
    "Header",
    "Kind",
    "Lists",
    "Reader",
    "Source",
    "Texts",
]

Source = str | bytes  # a path, or the bytes of a file
# Of a column: a number, a text or a box of four numbers in each row; or a list of them.
Kind = Literal["number", "text", "box", "numbers", "texts", "boxes"]
KINDS: tuple[Kind, ...] = ("number", "text", "box", "numbers", "texts", "boxes")
NULLS = frozenset(["", "nan", "NaN", "NAN", "null", "NULL", "None", "NA", "N/A", "n/a", "<NA>"])
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


# Of numbers float64 [N], of boxes [N, 4], NaN where there is none.
Column = NDArray[np.float64] | Texts | Lists
Columns = dict[str, Column]


# (source, header, kinds, threads) to the columns of `kinds`.
Reader = Callable[[Source, Header, Mapping[str, Kind], int], Columns]
