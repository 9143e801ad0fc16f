"""The reference reader of VOC files: expat and Python's float, one file at a time.

Source: the VOC2007 and VOC2012 development kits (PASreadrecord.m, VOCevaldet.m).
"""

import codecs
import math
import re
import reprlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from xml.parsers import expat

import numpy as np
from numpy.typing import NDArray

from upmap.errors import abbreviate_list
from upmap.kernels import FormatError
from upmap.kernels.columns import LARGEST, LARGEST_IMAGE
from upmap.kernels.voc_files import contract
from upmap.kernels.voc_files.contract import Columns, Data

__all__ = ["annotations", "results"]

SIDES = ("xmin", "ymin", "xmax", "ymax")
COLUMNS = ("image_id", "score", *SIDES)
DECLARED_ENCODING = re.compile(rb"<\?xml\b[^>]{0,200}?\bencoding\s*=\s*[\"']([\w.:-]{1,40})[\"']")
Corners = tuple[float, float, float, float]
Row = list[str]


def annotations(folder: contract.Path, names: Iterable[str]) -> Columns:
    """See `upmap.kernels.voc_files.annotations`; class names are in the order of the files."""
    records = [_record(Path(folder) / f"{name}.xml") for name in names]
    objects = [(i, *item) for i, record in enumerate(records) for item in record.objects]
    class_name = list(dict.fromkeys(name for _, name, _, _ in objects))
    place = {name: k for k, name in enumerate(class_name)}
    return {
        "class_name": class_name,
        "image": np.array([i for i, _, _, _ in objects], np.int32),
        "label": np.array([place[name] for _, name, _, _ in objects], np.int32),
        "box": np.array([box for _, _, _, box in objects], np.float64).reshape(-1, 4),
        "difficult": np.array([difficult for _, _, difficult, _ in objects], np.uint8),
        "image_size": np.array([record.size for record in records], np.int64).reshape(-1, 2),
    }


def results(
    paths: Sequence[contract.Path], images: dict[str, int], data: Data = MappingProxyType({})
) -> Columns:
    """See `upmap.kernels.voc_files.results`."""
    columns = [_columns(Path(path), images, data.get(i)) for i, path in enumerate(paths)]
    numbers = np.concatenate([np.zeros((0, 5)), *(numbers for _, numbers in columns)])
    counts = [len(image) for image, _ in columns]
    return {
        "file": np.repeat(np.arange(len(paths), dtype=np.int32), counts),
        "image": np.concatenate([np.zeros(0, np.int32), *(image for image, _ in columns)]),
        "score": numbers[:, 0].copy(),
        "box": numbers[:, 1:].copy(),
    }


@dataclass(slots=True)
class _Object:
    line: int
    fields: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class _Record:
    size: tuple[int, int]
    objects: list[tuple[str, bool, Corners]]


def _record(path: Path) -> _Record:
    """An image: its size in px, and the class, mark and inclusive corners of each object."""
    objects, size = _elements(path)
    return _Record(
        (_side(size, "width"), _side(size, "height")),
        [_object(element, path) for element in objects],
    )


def _elements(path: Path) -> tuple[list[_Object], dict[str, str]]:
    """The text of the elements in each object, and of those in <size>.

    The parts of an object (heads, hands) have a <name> and a <bndbox> too, at a greater depth.
    """
    data, encoding = _utf8_of(_contents(path))
    parser = expat.ParserCreate(encoding)
    above: list[str] = []
    objects: list[_Object] = []
    size: dict[str, str] = {}
    words: list[str] = []

    def start(name: str, attributes: object) -> None:
        if not above and name != "annotation":
            line = str(parser.CurrentLineNumber)
            raise FormatError(f"expected <annotation>, got <{name}>", str(path), line)
        above.append(name)
        words.clear()
        if name == "object" and len(above) == 2:
            objects.append(_Object(parser.CurrentLineNumber))

    def end(name: str) -> None:
        above.pop()
        place = above[1:]
        if place == ["object"] or place == ["object", "bndbox"]:
            objects[-1].fields.setdefault(name, "".join(words).strip())
        elif place == ["size"]:
            size[name] = "".join(words).strip()
        words.clear()

    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = words.append
    _parse(parser, data, path)
    return objects, size


def _parse(parser: expat.XMLParserType, data: bytes, path: Path) -> None:
    """Parses a file. Entities are refused: nested ones can expand to any size."""

    def refuse_entity(*declaration: object) -> None:
        line = str(parser.CurrentLineNumber)
        raise FormatError("entity declarations are refused", str(path), line)

    parser.buffer_text = True
    parser.EntityDeclHandler = refuse_entity
    try:
        parser.Parse(data, True)
    except expat.ExpatError as error:
        reason = expat.ErrorString(error.code)
        raise FormatError(f"malformed XML: {reason}", str(path), str(error.lineno)) from None
    except FormatError:  # is a ValueError, too
        raise
    except (LookupError, ValueError) as error:  # of an encoding that Python or expat does not know
        raise FormatError(f"{error}; expected UTF-8", str(path), "1") from None


def _utf8_of(data: bytes) -> tuple[bytes, str | None]:
    """The text in UTF-8, and that encoding's name, where the file declares one that Python knows.

    expat knows few encodings, and takes "utf8" for another than "utf-8". What cannot be decoded is
    left to it as it is, with None.
    """
    declaration = DECLARED_ENCODING.match(data)
    if declaration is None:
        return data, None
    try:
        codec = codecs.lookup(declaration[1].decode("ascii"))
        # Codecs that are no encodings of text, such as zlib, refuse to be used like this.
        return data.decode(codec.name).encode(), "utf-8"
    except (LookupError, UnicodeError, TypeError, ValueError):
        return data, None


def _contents(path: Path) -> bytes:
    return path.read_bytes().removeprefix(codecs.BOM_UTF8)


def _object(element: _Object, path: Path) -> tuple[str, bool, Corners]:
    fields, where = element.fields, str(element.line)
    for name in ("name", *SIDES):
        if not fields.get(name):
            raise FormatError(f"an object has no <{name}>", str(path), where)
    xmin, ymin, xmax, ymax = (_number(fields[side], side, path, where) for side in SIDES)
    return fields["name"], fields.get("difficult") == "1", (xmin, ymin, xmax, ymax)


def _number(word: str, name: str, path: Path, where: str) -> float:
    try:
        value = float(word)
    except ValueError:
        value = math.nan
    if math.isnan(value) or "_" in word:  # Python reads 1_0 as 10
        raise FormatError(f"<{name}> is not a number: {reprlib.repr(word)}", str(path), where)
    if abs(value) > LARGEST:
        raise FormatError(f"<{name}> is out of range: {reprlib.repr(word)}", str(path), where)
    return value


def _side(size: dict[str, str], name: str) -> int:
    """A side of the image, px; 0 where the file does not say, or says what is none."""
    word = size.get(name, "")
    try:
        value = math.nan if "_" in word else float(word)
    except ValueError:
        return 0
    return int(value) if 0 <= value <= LARGEST_IMAGE else 0


def _columns(
    path: Path, images: dict[str, int], data: bytes | None
) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
    """The image of each line of a file, int32 [n], and its score and corners, float64 [n, 5]."""
    text = _text(path, _contents(path) if data is None else data.removeprefix(codecs.BOM_UTF8))
    rows = [line.split() for line in text.split("\n")]
    if set(map(len, rows)) - {0, len(COLUMNS)}:
        number, row = next((i, r) for i, r in enumerate(rows, 1) if len(r) not in (0, 6))
        expected = f"expected {len(COLUMNS)} columns ({' '.join(COLUMNS)}), got {len(row)}"
        raise FormatError(expected, str(path), str(number))
    columns = list(zip(*filter(None, rows), strict=True))
    if not columns:
        return np.zeros(0, np.int32), np.zeros((0, 5))
    image = np.array([images.get(name, -1) for name in columns[0]], np.int32)
    if image.min() < 0:
        raise _image_error(path, rows, images)
    numbers = _numbers(columns[1:])
    if numbers is None:
        raise _number_error(path, rows)
    return image, numbers


def _text(path: Path, data: bytes) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        message = f"byte 0x{data[error.start]:02x} is not UTF-8 text"
        raise FormatError(message, str(path), str(line)) from None


def _numbers(columns: list[tuple[str, ...]]) -> NDArray[np.float64] | None:
    """The score and corners; None if any is not a number, not finite, or out of range."""
    try:
        numbers = np.array([list(map(float, column)) for column in columns], np.float64).T
    except ValueError:
        return None
    if any("_" in " ".join(column) for column in columns):  # Python reads 1_0 as 10
        return None
    return numbers if (np.abs(numbers) <= LARGEST).all() else None


def _image_error(path: Path, rows: list[Row], images: dict[str, int]) -> FormatError:
    """The error of lines whose image is not in the image set."""
    unknown = [(i, row[0]) for i, row in enumerate(rows, 1) if row and row[0] not in images]
    names = sorted({name for _, name in unknown})
    return FormatError(
        f"{len(unknown)} detections on {len(names)} images that are not in the image set: "
        f"{abbreviate_list(names)}",
        str(path),
        str(unknown[0][0]),
    )


def _number_error(path: Path, rows: list[Row]) -> FormatError:
    """The error of the first line with a value that is not a finite number in range."""
    for number, row in enumerate(rows, start=1):
        for name, word in zip(COLUMNS[1:], row[1:], strict=False):
            if _numbers([(word,)]) is None:
                message = f"{name} is not a finite number: {reprlib.repr(word)}"
                return FormatError(message, str(path), str(number))
    raise AssertionError("called for a file without a bad number")
