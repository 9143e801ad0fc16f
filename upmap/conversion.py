"""Values from files as typed Python values, by msgspec; errors name the file and the key."""

from pathlib import Path
from typing import TypeVar

import msgspec

from upmap.errors import InputError

__all__ = ["convert_value", "decode_json"]

T = TypeVar("T")


def convert_value(value: object, kind: type[T], source: str | Path, key: str = "") -> T:
    """A value of plain types as an instance of a dataclass, a tuple of numbers, and so on.

    Args:
        value: Mappings, lists, strings, numbers, booleans and None.
        kind: The type that the value must fit.
        source: The file or flag that the value comes from, for errors.
        key: The key of the value in the file, for errors.

    Raises:
        InputError: If the value does not fit; names the source and the key.

    >>> convert_value([1, 2], tuple[int, int], "sizes.toml", "size")
    (1, 2)
    """
    try:
        return msgspec.convert(value, kind)
    except (ValueError, RecursionError, msgspec.ValidationError) as error:
        raise _input_error(error, source, key) from None


def decode_json(text: str, kind: type[T], source: str | Path) -> T:
    """A JSON document as an instance of a dataclass, a list, and so on.

    Args:
        text: The document.
        kind: The type that the document must fit; keys that it lacks are skipped.
        source: The file, for errors.

    Raises:
        InputError: If the document is malformed or does not fit; names the source and the key.
    """
    try:
        return msgspec.json.decode(text, type=kind)
    except msgspec.ValidationError as error:
        raise _input_error(error, source) from None
    except (msgspec.DecodeError, RecursionError) as error:
        raise InputError(f"malformed JSON: {error}", source) from None


def _input_error(error: Exception, source: str | Path, key: str = "") -> InputError:
    """Msgspec's "MESSAGE - at `$.PLACE`" as an error at the source and the key."""
    message, _, place = str(error).partition(" - at ")
    where = ".".join(filter(None, [key, place.strip("`$.")]))
    return InputError(message, source, where or None)
