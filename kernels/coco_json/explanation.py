"""Why the native reader of COCO JSON refuses a file, in the reference's words.

The native reader says where it stopped. Python's json is given the record that stands there, or so
much of malformed text, and nothing else: to explain a mistake costs little in a file of any size.
"""

import codecs
import io
import json
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal

from upmap.kernels.coco_json import JsonError, reference
from upmap.kernels.coco_json.reference import Source

__all__ = ["explain"]

Kind = Literal["instances", "results"]
Refusal = tuple[str, str, int, int, int]

BLOCK = 2**20  # bytes read at a time
MOST_SPACE = 2**12  # bytes of white space that are looked through before what is malformed
BEYOND = 256  # bytes behind where the native reader stopped: json may look at them or quote
VALUES = {b"[": [], b"{": {}, b'"': "", b"t": True, b"f": False, b"n": None}


def explain(source: Source, kind: Kind, refusal: Refusal) -> None:
    """Raises what the reference would for the whole file; returns if that is not known.

    Args:
        source: The file, or its bytes.
        kind: What it was read as.
        refusal: What the native reader returned.

    Raises:
        JsonError: What is wrong with the file; has the line or the key.
        OSError: If the file cannot be read.
    """
    what, within, record, begin, end = refusal
    with _open_whole(source) as file:
        if what == "malformed":
            _explain_malformed(file, within, begin, end)
        elif what == "record":
            value = reference.loads(_bytes(file, begin, end).decode())
            reference.read_record(within, value, f"{within}[{record}]")
        elif what == "ids":
            raise reference.mixed_ids_error(within)
        elif what == "whole":
            reference.of_type(_sample(file, begin, end), kind)
        elif begin < 0:
            raise reference.missing(within)
        else:
            raise reference.not_an_array(_sample(file, begin, end), within)


def _open_whole(source: Source) -> AbstractContextManager[BinaryIO]:
    return io.BytesIO(source) if isinstance(source, bytes) else Path(source).open("rb")


def _bytes(file: BinaryIO, begin: int, end: int) -> bytes:
    file.seek(begin)
    return file.read(end - begin)


def _sample(file: BinaryIO, begin: int, end: int) -> Any:
    """A value of the kind of that which stands there; the value itself if it is a number."""
    first = _bytes(file, begin, begin + 1)
    if first in VALUES:
        return VALUES[first]
    return reference.loads(_bytes(file, begin, end).decode())


def _explain_malformed(file: BinaryIO, within: str, begin: int, stop: int) -> None:
    """Reads from `begin` on, within the brackets that enclose it, what is malformed at `stop`."""
    extent = _extent(file)
    if extent.last == extent.first:
        raise reference.empty(extent.lines)
    prefix, resumed = _prefix(file, within, begin, extent)
    if prefix is None:
        return
    fragment = _bytes(file, resumed, stop + BEYOND).decode("utf-8", "ignore")
    text = prefix + fragment
    try:
        reference.loads(text)
    except RecursionError:
        raise reference.too_deep() from None
    except json.JSONDecodeError as error:
        at = reference.error_place(error, text)
        place = resumed + len(text[len(prefix) : at].encode())
        if reference.depth(text[:at]) > reference.MAX_DEPTH:
            raise reference.too_deep() from None
        raise _find_malformed(file, error, place, text[at : at + reference.NEAR], extent) from None


def _find_malformed(
    file: BinaryIO, error: json.JSONDecodeError, place: int, near: str, extent: "_Extent"
) -> JsonError:
    is_constant = reference.is_constant(error)
    if not is_constant and (place >= extent.last or extent.last_byte not in b"]}"):
        return reference.ends_early(extent.size, extent.lines)
    return reference.malformed_error(error, near, _lines(file, extent.first, place))


@dataclass(frozen=True, slots=True)
class _Extent:
    """The bytes of a text: offsets in the file, and counts.

    Attributes:
        first: Where it begins, behind a byte order mark.
        last: Behind its last character that is not white space.
        last_byte: That character.
        size: Its length.
        lines: Its lines.
    """

    first: int
    last: int
    last_byte: bytes
    size: int
    lines: int


def _extent(file: BinaryIO) -> _Extent:
    """Measures the whole text.

    Raises:
        JsonError: If it is not UTF-8.
    """
    first = len(reference.BOM) if _bytes(file, 0, 3) == reference.BOM else 0
    decoder = codecs.getincrementaldecoder("utf-8")()
    offset = last = first
    last_byte, lines = b"", 1
    file.seek(first)
    while True:
        block = file.read(BLOCK)
        try:
            decoder.decode(block, final=not block)
        except UnicodeDecodeError as error:
            line = lines + error.object.count(b"\n", 0, error.start)
            raise reference.not_utf8(error.object[error.start], line) from None
        if not block:
            return _Extent(first, last, last_byte, offset - first, lines)
        lines += block.count(b"\n")
        if visible := block.rstrip(reference.SPACE.encode()):
            last, last_byte = offset + len(visible), visible[-1:]
        offset += len(block)


def _lines(file: BinaryIO, begin: int, end: int) -> int:
    """The number of the line on which offset `end` stands."""
    file.seek(begin)
    lines = 1
    while begin < end and (block := file.read(min(BLOCK, end - begin))):
        lines += block.count(b"\n")
        begin += len(block)
    return lines


def _prefix(file: BinaryIO, within: str, begin: int, extent: _Extent) -> tuple[str | None, int]:
    """What stands for the text before `begin`, and from which offset on the text itself follows.

    With it the text is malformed in the same way. None if that is not known.
    """
    low = max(extent.first, begin - MOST_SPACE)
    before = _bytes(file, low, begin).rstrip(reference.SPACE.encode())
    if not before:
        return ("" if low == extent.first else None), begin
    if not within:  # behind the one value of the file
        return "[]", begin
    around = {"{": '{"":', "[": "[", "{[": '{"":['}[within]
    if before.endswith(b","):
        return f"{around}0", low + len(before) - 1
    if within == "{":
        return {b"{": "{", b":": around}.get(before[-1:], f"{around}0"), begin
    return (around if before.endswith(b"[") else None), begin
