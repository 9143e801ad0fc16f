"""Files of tables, seen alike: CSV, TSV, JSON lines; Parquet, Arrow and Feather."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from upmap.detection.inputs import Input, files_in, translate_errors
from upmap.kernels import FormatError

if TYPE_CHECKING:  # its endings are needed before any table is
    from upmap.kernels.delimited.contract import Columns, Kind, Name

__all__ = ["ARROW_ENDINGS", "TEXT_ENDINGS", "TableFile", "is_table", "open_table", "peek_table"]

TEXT_ENDINGS = (".csv", ".tsv", ".jsonl", ".ndjson")
ARROW_ENDINGS = (".parquet", ".arrow", ".feather", ".ipc")


class TableFile(Protocol):
    """A table of which columns are read that are asked for.

    Attributes:
        names: The names of its columns.
        first: The first value of each column that is not null, by name.
        metadata: What the file says beside its columns, by key.
    """

    names: tuple[str, ...]
    first: Mapping[str, Any]
    metadata: Mapping[str, bytes]

    def read(self, kinds: "Mapping[Name, Kind]", threads: int) -> "Columns":
        """Reads columns.

        Raises:
            InputError: If a value is not of its kind; names the line or the file.
        """


class TextTable:
    """CSV, TSV or JSON lines, as a `TableFile`."""

    metadata: Mapping[str, bytes] = {}

    def __init__(self, source: Input) -> None:
        """Reads the header.

        Raises:
            InputError: If it is malformed.
        """
        from upmap.kernels.delimited import read_header

        self._path = source.path
        self._content = source.path if source.data is None else source.data
        with translate_errors(source.path):
            self._header = read_header(self._content)
        self.names = self._header.names
        self.first = self._header.first

    def read(self, kinds: "Mapping[Name, Kind]", threads: int) -> "Columns":
        """See `TableFile`."""
        from upmap.kernels.delimited import read_columns

        with translate_errors(self._path):
            return read_columns(self._content, self._header, kinds, threads=threads)


def is_table(source: Input) -> bool:
    """Whether an input is called like a table, or a folder of parts of one."""
    if source.is_folder():
        return bool(_parts(source.path))
    return _ending(source.path) in TEXT_ENDINGS + ARROW_ENDINGS


def open_table(source: Input) -> TableFile:
    """Opens a table; only its header is read.

    Raises:
        InputError: If it is malformed, or a package is missing that reads it.
    """
    if source.is_folder() or _ending(source.path) in ARROW_ENDINGS:
        from upmap.detection.formats.arrow_files import ArrowTable

        parts = _parts(source.path) if source.is_folder() else [source.path]
        return ArrowTable(parts, source)
    return TextTable(source)


def peek_table(source: Input) -> TableFile | None:
    """The table that an input is; None if it is none, or cannot be read."""
    from upmap.errors import InputError

    if not is_table(source):
        return None
    try:
        return open_table(source)
    except (InputError, FormatError, OSError):
        return None


def _ending(path: Path) -> str:
    return Path(path.name.removesuffix(".gz")).suffix.lower()


def _parts(folder: Path) -> list[Path]:
    """The files of a folder that are parts of one table, in the order of their names."""
    return sorted(file for ending in ARROW_ENDINGS for file in files_in(folder, f"*{ending}"))
