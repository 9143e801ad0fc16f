"""Parquet, Arrow IPC and Feather files as tables; pyarrow reads them, part by part.

Only the columns asked for are read, a record batch at a time, into arrays of numpy.
"""

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from upmap.detection.inputs import Input
from upmap.errors import InputError
from upmap.kernels.delimited.contract import (
    Column,
    Columns,
    Kind,
    Lists,
    Name,
    Texts,
    as_integers,
    names_of,
)

__all__ = ["ArrowTable"]

MISSING = 'Parquet and Arrow files need pyarrow: pip install "upmap[arrow]"'
BATCH = 2**17  # rows
SAMPLED_ROWS = 100  # whose values show what a column holds


class ArrowTable:
    """One or several files of the same columns, as a `TableFile`."""

    def __init__(self, parts: Sequence[Path], source: Input) -> None:
        """Reads the schema, and the first rows.

        Raises:
            InputError: If pyarrow is not installed, or a file is malformed or has other columns.
        """
        self._parts, self._source = parts, source
        schema = self._schema(parts[0])
        self.metadata: Mapping[str, bytes] = {
            key.decode(): value for key, value in (schema.metadata or {}).items()
        }
        self._types = {name: schema.field(name).type for name in schema.names}
        self.first: Mapping[str, Any] = self._first_values()
        self.names: tuple[str, ...] = (*schema.names, *(name for name in self.first if "." in name))

    def read(self, kinds: Mapping[Name, Kind], threads: int) -> Columns:
        """See `TableFile`; a column "a.b" is the field b of the structs, or lists of them, of a."""
        names = [name for column in kinds for name in names_of(column)]
        roots = list(dict.fromkeys(name.partition(".")[0] for name in names))
        pieces: dict[Name, list[Column]] = {name: [] for name in kinds}
        for part in self._parts:
            with _translate_errors(part):
                for batch in self._batches(part, roots, threads):
                    for name, kind in kinds.items():
                        pieces[name].append(self._column(batch, name, kind, part))
        return {name: JOINS[kind](pieces[name]) for name, kind in kinds.items()}

    def _column(self, batch: Any, name: Name, kind: Kind, part: Path) -> Column:
        if isinstance(name, tuple):
            sides: list[Any] = [self._column(batch, side, "number", part) for side in name]
            return np.stack(sides, axis=1)
        try:
            return CONVERSIONS[kind](_field(batch, name))
        except (TypeError, ValueError, KeyError) as error:  # pyarrow's errors are ValueErrors too
            message = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise InputError(f"not of the kind expected ({kind}): {message}", part, name) from None

    def _first_values(self) -> dict[str, Any]:
        """Values of columns of numbers, texts, lists and structs; images are left alone."""
        names = [name for name, kind in self._types.items() if not _is_binary(kind)]
        values: dict[str, Any] = {}
        with _translate_errors(self._parts[0]):
            for batch in islice(self._batches(self._parts[0], names, 1, SAMPLED_ROWS), 1):
                for name in names:
                    column = batch.column(name).slice(0, SAMPLED_ROWS).to_pylist()
                    values[name] = next((value for value in column if value is not None), None)
        for name in names:
            values |= _values_of_fields(name, values.get(name))
        return values

    def _schema(self, part: Path) -> Any:
        with _translate_errors(part):
            if _is_parquet(part):
                from pyarrow import parquet

                return parquet.read_schema(self._open(part))
            from pyarrow import ipc

            return ipc.open_file(self._open(part)).schema

    def _batches(
        self, part: Path, names: Sequence[str], threads: int, rows: int = BATCH
    ) -> Iterator[Any]:
        """The record batches of some columns of a file."""
        if _is_parquet(part):
            from pyarrow import parquet

            file = parquet.ParquetFile(self._open(part))
            _validate_columns(names, file.schema_arrow.names, part)
            yield from file.iter_batches(rows, columns=[*names], use_threads=threads != 1)
            return
        from pyarrow import ipc

        reader = ipc.open_file(self._open(part))
        _validate_columns(names, reader.schema.names, part)
        for i in range(reader.num_record_batches):
            yield reader.get_batch(i).select([*names])

    def _open(self, part: Path) -> Any:
        """The file, or its bytes where it was a pipe or compressed."""
        return str(part) if self._source.data is None else io.BytesIO(self._source.data)


def _values_of_fields(name: str, value: Any) -> dict[str, Any]:
    """The values of the fields of a struct of lists, or as such of a list of structs."""
    if isinstance(value, list) and value and isinstance(value[0], dict):
        value = {key: [element[key] for element in value] for key in value[0]}
    if not isinstance(value, dict):
        return {}
    return {f"{name}.{key}": inner for key, inner in value.items()}


def _is_parquet(part: Path) -> bool:
    return ".parquet" in part.suffixes


def _is_binary(kind: Any) -> bool:
    """Whether a column holds bytes, perhaps in a struct, as images do."""
    from pyarrow import types

    if types.is_struct(kind):
        return any(_is_binary(kind.field(i).type) for i in range(kind.num_fields))
    return bool(types.is_binary(kind) or types.is_large_binary(kind))


def _validate_columns(names: Sequence[str], known: Sequence[str], part: Path) -> None:
    if missing := [name for name in names if name not in known]:
        raise InputError(f"no column {missing[0]!r}, which the first part has", part)


@contextmanager
def _translate_errors(part: Path) -> Iterator[None]:
    """Errors of pyarrow and of the system as an InputError that names the file."""
    try:
        import pyarrow
    except ImportError:
        raise InputError(MISSING, part) from None
    try:
        yield
    except InputError:
        raise
    except (pyarrow.ArrowException, OSError) as error:
        raise InputError(f"cannot be read: {str(error).splitlines()[0]}", part) from None


def _field(batch: Any, name: str) -> Any:
    """The array of a column, or of a field of its structs."""
    import pyarrow
    from pyarrow import types

    root, _, inner = name.partition(".")
    array = batch.column(root)
    if not inner:
        return array
    if types.is_struct(array.type):
        return array.field(inner)  # a struct of lists
    lists = pyarrow.ListArray.from_arrays(
        array.offsets, array.values.field(inner), mask=array.is_null()
    )
    return lists  # of a list of structs


def _to_numbers(array: Any) -> NDArray[np.float64]:
    import pyarrow

    numbers = array.cast(pyarrow.float64()).to_numpy(zero_copy_only=False)
    return np.array(numbers, np.float64)


def _to_integers(array: Any) -> NDArray[Any]:
    import pyarrow
    from pyarrow import types

    if types.is_integer(array.type) and not array.null_count:
        return np.array(array.cast(pyarrow.int64()).to_numpy())
    return _to_numbers(array)


def _to_texts(array: Any) -> Texts:
    import pyarrow
    from pyarrow import types

    if not types.is_dictionary(array.type):
        array = array.cast(pyarrow.string()).dictionary_encode()
    names = array.dictionary.cast(pyarrow.string()).to_pylist()
    index = array.indices.cast(pyarrow.int32()).fill_null(-1).to_numpy(zero_copy_only=False)
    return _canonical(np.array(index, np.int32), names)


def _canonical(index: NDArray[np.int32], names: list[str | None]) -> Texts:
    """Each name once, and none that is null or empty."""
    place: dict[str, int] = {}
    places = [place.setdefault(name, len(place)) if name else -1 for name in names]
    return Texts(np.array([*places, -1], np.int32)[index], list(place))


def _to_boxes(array: Any) -> NDArray[np.float64]:
    """Lists of four numbers, float64 [N, 4]; NaN for null."""
    lists = _to_lists(_to_numbers)(array)
    count = np.diff(lists.start)
    if not np.isin(count, (0, 4)).all():
        raise ValueError("expected lists of four numbers")
    boxes = np.full((len(count), 4), np.nan)
    boxes[count == 4] = np.asarray(lists.values).reshape(-1, 4)
    return boxes


def _to_lists(convert: Callable[[Any], Any]) -> Callable[[Any], Lists]:
    def to_lists(array: Any) -> Lists:
        from pyarrow import compute, types

        if not (
            types.is_list(array.type)
            or types.is_large_list(array.type)
            or types.is_fixed_size_list(array.type)
        ):
            raise TypeError(f"expected lists, got {array.type}")
        counts = compute.list_value_length(array).fill_null(0).to_numpy(zero_copy_only=False)
        start = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts, dtype=np.int64)])
        return Lists(convert(array.drop_null().flatten()), start)

    return to_lists


def _join_numbers(pieces: Sequence[Any]) -> Any:
    return np.concatenate(pieces) if pieces else np.zeros(0)


def _join_integers(pieces: Sequence[Any]) -> Any:
    return as_integers(_join_numbers(pieces))


def _join_boxes(pieces: Sequence[Any]) -> Any:
    return np.concatenate(pieces) if pieces else np.zeros((0, 4))


def _join_texts(pieces: Sequence[Any]) -> Texts:
    place: dict[str, int] = {}
    columns = [np.zeros(0, np.int32)]
    for piece in pieces:
        places = [place.setdefault(name, len(place)) for name in piece.names]
        columns.append(np.array([*places, -1], np.int32)[piece.index])
    return Texts(np.concatenate(columns), list(place))


def _join_lists(join: Callable[[Sequence[Any]], Any]) -> Callable[[Sequence[Any]], Lists]:
    def join_lists(pieces: Sequence[Any]) -> Lists:
        counts = [np.diff(piece.start) for piece in pieces]
        start = np.concatenate([np.zeros(1, np.int64), *counts]).cumsum()
        return Lists(join([piece.values for piece in pieces]), start)

    return join_lists


CONVERSIONS: Mapping[Kind, Callable[[Any], Column]] = {
    "number": _to_numbers,
    "text": _to_texts,
    "box": _to_boxes,
    "integer": _to_integers,
    "numbers": _to_lists(_to_numbers),
    "texts": _to_lists(_to_texts),
    "boxes": _to_lists(_to_boxes),
}
JOINS: Mapping[Kind, Callable[[Sequence[Any]], Column]] = {
    "number": _join_numbers,
    "text": _join_texts,
    "box": _join_boxes,
    "integer": _join_integers,
    "numbers": _join_lists(_join_numbers),
    "texts": _join_lists(_join_texts),
    "boxes": _join_lists(_join_boxes),
}
