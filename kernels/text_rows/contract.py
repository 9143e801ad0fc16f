"""What every reader of rows of words takes and returns."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Columns", "Data", "Reader", "RowLayout", "TextRows"]

Columns = dict[str, Any]  # by name, those of TextRows
Data = Mapping[int, bytes]  # the bytes of some files, by their places


@dataclass(frozen=True, slots=True, kw_only=True)
class RowLayout:
    """What the words of a row are; each is a number if nothing else is said.

    Attributes:
        name_column: The place of the word that is a name, from 0; None if there is none.
        keywords: Words that stand for a number, wherever they stand.
        skipped_prefixes: Lines that begin so are no rows, such as the headers of DOTA's files.
    """

    name_column: int | None = None
    keywords: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    skipped_prefixes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class TextRows:
    """The rows of F files: N rows and V numbers, in the order of the files and within them.

    Attributes:
        names: The K different names, ascending.
        file: int32 [N], index into the files.
        line: int32 [N], the line, from 1.
        name: int32 [N], index into names; empty where rows have no name.
        start: int64 [N + 1], where the numbers of each row begin in `value`.
        value: float64 [V], as Python's float() reads them, infinite ones and NaN included.
        is_missing: bool [F], the files that there are not.
    """

    names: list[str]
    file: NDArray[np.int32]
    line: NDArray[np.int32]
    name: NDArray[np.int32]
    start: NDArray[np.int64]
    value: NDArray[np.float64]
    is_missing: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.file)

    @property
    def width(self) -> NDArray[np.int64]:
        """How many numbers each row has, int64 [N]."""
        return np.diff(self.start)


# (paths, layout, data, missing_ok, threads) to the columns of TextRows.
Reader = Callable[[Sequence[str], RowLayout, Data, bool, int], Columns]
