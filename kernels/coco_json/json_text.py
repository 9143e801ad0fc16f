"""The text of JSON files: Python's json, and the errors of the text.

Both the reference and the explanation of what the native reader refuses use it, so that their
messages are the same.
"""

import json
import math
import re
from typing import Any

from upmap.kernels import FormatError

__all__ = [
    "MAX_DEPTH",
    "MAX_NEAR",
    "SPACE",
    "depth",
    "depth_error",
    "empty_file_error",
    "loads",
    "syntax_error",
    "truncation_error",
    "utf8_error",
]

MAX_DEPTH = 512  # of nested objects and arrays
MAX_DIGITS = 4000  # Python refuses to read integers of more than 4300
MAX_NEAR = 16  # characters that a message quotes of malformed text
SPACE = " \t\r\n"
# A string, or what begins as one. Possessive quantifiers (+) keep no positions to return to, so a
# long string takes no memory.
STRING = r'"[^"\\]*+(?:\\.[^"\\]*+)*+"?'
TOKEN = re.compile(rf"{STRING}|[\[\]{{}}]", re.DOTALL)


def loads(text: str) -> Any:
    """Parses a text with Python's json, which also takes NaN, Infinity and -Infinity.

    Raises:
        json.JSONDecodeError: If it is malformed.
        RecursionError: If it is nested too deeply.
    """
    return json.loads(text, parse_int=_parse_int)


def _parse_int(digits: str) -> int | float:
    return int(digits) if len(digits) <= MAX_DIGITS else math.inf


def depth(text: str) -> int:
    """The largest number of objects and arrays that the text opens within one another."""
    current = deepest = 0
    for token in TOKEN.finditer(text):
        if text[token.start()] in "[{":
            current += 1
            deepest = max(deepest, current)
        elif text[token.start()] in "]}":
            current -= 1
    return deepest


def utf8_error(byte: int, line: int) -> FormatError:
    """The error of a byte that is not part of UTF-8 text."""
    return FormatError(f"byte 0x{byte:02x} is not UTF-8 text", "", str(line))


def depth_error() -> FormatError:
    """The error of JSON that is nested too deeply."""
    return FormatError(f"JSON is nested too deeply, more than {MAX_DEPTH} levels", "", "1")


def empty_file_error(line: int) -> FormatError:
    """The error of a file that holds nothing but white space, up to `line`."""
    return FormatError("the file is empty; expected JSON", "", str(line))


def truncation_error(size: int, line: int) -> FormatError:
    """The error of JSON that ends before its last bracket, after `size` bytes on `line`."""
    return FormatError(f"JSON ends too early, after {size} bytes", "", str(line))


def syntax_error(error: json.JSONDecodeError, near: str, line: int) -> FormatError:
    """The error of malformed JSON.

    Args:
        error: What `loads` raised.
        near: The text from its place on.
        line: The number of its line.
    """
    message = (
        "trailing characters" if error.msg == "Extra data" else error.msg[0].lower() + error.msg[1:]
    )
    quoted = near[:MAX_NEAR].partition("\n")[0]
    return FormatError(f"JSON is malformed: {message}, near {quoted!r}", "", str(line))
