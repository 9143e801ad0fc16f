"""One HTML file: the page that draws data, and the data as JSON that no parser takes for markup.

The file has a content security policy that forbids it every request, and draws names from files as
text alone.
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from upmap.errors import InputError

__all__ = ["compose_document", "fit_document", "round_numbers"]

FOLDER = Path(__file__).parent
DIGITS = 6  # significant ones of what is drawn
# Within a script element, "<" could end it and "&" begin an entity where the file is read as XML;
# U+2028 and U+2029 are line ends to older JavaScript.
ESCAPES = {ord(c): f"\\u{ord(c):04x}" for c in "<>&\u2028\u2029"}

# The scripts of each kind of page; what begins to draw is the last.
SCRIPTS = {
    "evaluation": ("page", "charts", "images", "evaluation"),
    "comparison": ("page", "charts", "comparison"),
}

Data = dict[str, Any]
Reduction = tuple[str, Callable[[Data], Data]]


def compose_document(data: Mapping[str, Any], kind: str) -> bytes:
    """The HTML file that draws `data`.

    Args:
        data: What the page's script reads: plain values, no NaN.
        kind: The script of the page, "evaluation" or "comparison".
    """
    text = json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    parts = {
        "style": _read("page.css"),
        "data": text.translate(ESCAPES),
        "script": "\n".join(_read(f"{name}.js") for name in SCRIPTS[kind]),
    }
    page = ""
    template = _read("page.html")
    for name, part in parts.items():  # in the order in which the template has them
        before, _, template = template.partition(f"[[{name}]]")
        page += before + part
    # A path that is not UTF-8 has lone surrogates (os.fsdecode); JSON has an escape for them.
    return (page + template).encode("utf-8", "backslashreplace")


def fit_document(data: Data, kind: str, *, limit: int, reductions: Sequence[Reduction]) -> bytes:
    """The HTML file that draws `data`, in at most `limit` bytes.

    Args:
        data: See `compose_document`; its list "omitted" says what was left out to fit.
        kind: See `compose_document`.
        limit: The largest size, bytes.
        reductions: What may be left out, in this order: what the page says of it, and the data
            without it.

    Raises:
        InputError: If the file is larger also without all of that.
    """
    page = compose_document(data, kind)
    for sentence, reduce in reductions:
        if len(page) <= limit:
            break
        reduced = reduce(data)
        if reduced == data:
            continue
        data = reduced | {"omitted": [*data["omitted"], sentence]}
        page = compose_document(data, kind)
    if len(page) > limit:
        raise InputError(f"--html-size: the page needs at least {math.ceil(len(page) / 1e3)} kB")
    return page


def round_numbers(value: Any) -> Any:
    """`value` with floats at DIGITS significant digits, and None for NaN and infinities.

    >>> round_numbers({"AP": [0.123456789, math.nan, 2]})
    {'AP': [0.123457, None, 2]}
    """
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: round_numbers(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [round_numbers(item) for item in value]
    return value


def _read(name: str) -> str:
    return (FOLDER / name).read_text(encoding="utf-8").rstrip("\n")
