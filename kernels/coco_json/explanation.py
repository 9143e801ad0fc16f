"""The message for a COCO JSON file that the native reader refuses: that of the reference.

The native reader says where it stopped. Python's json then parses only the record at that place,
or a part of the malformed text: the message costs little in a file of any size.
"""

import codecs
import io
import json
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from upmap.kernels import FormatError
from upmap.kernels.coco_json import json_text, reference
from upmap.kernels.coco_json.contract import File, Kind

__all__ = ["explain"]

# What the native reader returns: what is wrong ("malformed", "record", "ids", "whole" or a missing
# or wrong "section"), the section (or the open brackets), the record, and first and last offset.
Refusal = tuple[str, str, int, int, int]

BLOCK_SIZE = 2**20  # bytes read at a time
MAX_SPACE = 2**12  # bytes of white space that are skipped before what is malformed
LOOKAHEAD = 256  # bytes after the place where the native reader stopped; messages quote some
VALUES = {b"[": [], b"{": {}, b'"': "", b"t": True, b"f": False, b"n": None}  # by first byte


def explain(source: File, kind: Kind, refusal: Refusal) -> None:
    """Raises the error that the reference raises for the whole file; returns if it is not known.

    Args:
        source: The file, or its bytes.
        kind: What it was read as.
        refusal: What the native reader returned.

    Raises:
        FormatError: Has the line or the key, not the path.
        OSError: If the file cannot be read.
    """
    what, within, record, begin, end = refusal
    with _open_whole(source) as file:
        if what == "malformed":
            _explain_syntax(file, within, begin, end)
        elif what == "record":
            value = json_text.loads(_bytes(file, begin, end).decode())
            reference.read_record(within, value, f"{within}[{record}]")
        elif what == "whole":
            reference.validate_whole(_sample(file, begin, end), kind)
        elif what == "section" and begin < 0:
            raise reference.key_error(within)
        elif what == "section":
            raise reference.type_error("array", _sample(file, begin, end), within)


def _open_whole(source: File) -> AbstractContextManager[BinaryIO]:
    return io.BytesIO(source) if isinstance(source, bytes) else Path(source).open("rb")


def _bytes(file: BinaryIO, begin: int, end: int) -> bytes:
    file.seek(begin)
    return file.read(end - begin)


def _sample(file: BinaryIO, begin: int, end: int) -> Any:
    """A value of the same type as the one at `begin`; the value itself if it is a number."""
    first = _bytes(file, begin, begin + 1)
    if first in VALUES:
        return VALUES[first]
    return json_text.loads(_bytes(file, begin, end).decode())


def _explain_syntax(file: BinaryIO, brackets: str, begin: int, stop: int) -> None:
    """Raises the error of text that is malformed at `stop`.

    Parses from `begin` on, which `brackets` enclose, behind a prefix that opens them.
    """
    extent = _extent(file)
    if extent.last == extent.first:
        raise json_text.empty_file_error(extent.lines)
    prefix, resumed = _prefix(file, brackets, begin, extent)
    if prefix is None:
        return
    text = prefix + _bytes(file, resumed, stop + LOOKAHEAD).decode("utf-8", "ignore")
    try:
        json_text.loads(text)
    except RecursionError:
        raise json_text.depth_error() from None
    except json.JSONDecodeError as error:
        at = error.pos
        if json_text.depth(text[:at]) > json_text.MAX_DEPTH:
            raise json_text.depth_error() from None
        place = resumed + len(text[len(prefix) : at].encode())
        near = text[at : at + json_text.MAX_NEAR]
        raise _text_error(file, error, place, near, extent) from None


def _text_error(
    file: BinaryIO, error: json.JSONDecodeError, place: int, near: str, extent: "_Extent"
) -> FormatError:
    """The error at offset `place`: the file is truncated, or malformed there."""
    is_truncated = place >= extent.last or extent.last_byte not in b"]}"
    if is_truncated:
        return json_text.truncation_error(extent.size, extent.lines)
    return json_text.syntax_error(error, near, _line(file, extent.first, place))


@dataclass(frozen=True, slots=True)
class _Extent:
    """The extent of the text in the file: offsets and counts.

    Attributes:
        first: The offset of its first byte, after a byte order mark.
        last: The offset after its last byte that is not white space.
        last_byte: The byte before `last`.
        size: Its length, bytes.
        lines: The number of its lines.
    """

    first: int
    last: int
    last_byte: bytes
    size: int
    lines: int


def _extent(file: BinaryIO) -> _Extent:
    """Measures the whole text.

    Raises:
        FormatError: If it is not UTF-8.
    """
    mark = len(codecs.BOM_UTF8)
    first = mark if _bytes(file, 0, mark) == codecs.BOM_UTF8 else 0
    decoder = codecs.getincrementaldecoder("utf-8")()
    offset = last = first
    last_byte, lines = b"", 1
    file.seek(first)
    while True:
        block = file.read(BLOCK_SIZE)
        try:
            decoder.decode(block, final=not block)
        except UnicodeDecodeError as error:
            line = lines + error.object.count(b"\n", 0, error.start)
            raise json_text.utf8_error(error.object[error.start], line) from None
        if not block:
            return _Extent(first, last, last_byte, offset - first, lines)
        lines += block.count(b"\n")
        if visible := block.rstrip(json_text.SPACE.encode()):
            last, last_byte = offset + len(visible), visible[-1:]
        offset += len(block)


def _line(file: BinaryIO, begin: int, end: int) -> int:
    """The number of the line of offset `end`, if that of `begin` is 1."""
    file.seek(begin)
    line = 1
    while begin < end and (block := file.read(min(BLOCK_SIZE, end - begin))):
        line += block.count(b"\n")
        begin += len(block)
    return line


def _prefix(file: BinaryIO, brackets: str, begin: int, extent: _Extent) -> tuple[str | None, int]:
    """A substitute for the text before `begin`, and the offset from which the file follows it.

    With the substitute the text is malformed in the same way. None if there is none.
    """
    low = max(extent.first, begin - MAX_SPACE)
    before = _bytes(file, low, begin).rstrip(json_text.SPACE.encode())
    if not before:
        return ("" if low == extent.first else None), begin
    if not brackets:  # after the one value of the file
        return "[]", begin
    opening = {"{": '{"":', "[": "[", "{[": '{"":['}[brackets]
    if before.endswith(b","):
        return f"{opening}0", low + len(before) - 1
    if brackets == "{":
        return {b"{": "{", b":": opening}.get(before[-1:], f"{opening}0"), begin
    return (opening if before.endswith(b"[") else None), begin
