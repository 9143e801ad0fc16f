"""Which class each category id of a results file means, where its ground truth does not say."""

import re
from collections.abc import Mapping
from pathlib import Path

from upmap.detection.formats import coco_json
from upmap.detection.formats.read_options import ClassNamesSource
from upmap.detection.inputs import open_input
from upmap.errors import InputError

__all__ = ["ClassNamesSource", "read_class_names"]

NUMBERED = re.compile(r"(-?[0-9]{1,18})\s+(\S.*)")


def read_class_names(source: ClassNamesSource) -> dict[int, str]:
    """Category id to class name, ids ascending.

    Args:
        source: Such a mapping; or a file: a COCO instances file, of which the categories are read;
            or text with a line `id name` for each class; or text with a name on each line, for the
            ids 1, 2, ... Lines of the first kind are recognized by the first line.

    Raises:
        InputError: If the file cannot be read, or an id or a name stands there twice.
    """
    if isinstance(source, Mapping):
        return _unique([(int(number), name, None) for number, name in source.items()], None)
    file = open_input(source)
    path = file.path
    if file.first_character() == b"{":
        return coco_json.category_names(file)
    lines = file.text().rstrip().splitlines()
    named = enumerate((line.strip() for line in lines), start=1)
    is_numbered = bool(lines) and NUMBERED.fullmatch(lines[0].strip()) is not None
    return _unique([(*_parse_line(line, i, is_numbered, path), str(i)) for i, line in named], path)


def _parse_line(line: str, place: int, is_numbered: bool, path: Path) -> tuple[int, str]:
    """The id and the name on a line; `place` counts lines from 1."""
    match = NUMBERED.fullmatch(line) if is_numbered else None
    if match:
        return int(match[1]), match[2]
    if is_numbered or not line:
        expected = "an id and a class name, as before" if is_numbered else "a class name"
        raise InputError(f"expected {expected}, got {line[:60]!r}", path, str(place))
    return place, line


def _unique(rows: list[tuple[int, str, str | None]], path: Path | None) -> dict[int, str]:
    """Id to name of rows of id, name and line."""
    names: dict[int, str] = {}
    seen: set[str] = set()
    for number, name, where in rows:
        if not isinstance(name, str) or not name:
            raise InputError(f"category id {number} has no name but {name!r}", path, where)
        if number in names:
            raise InputError(f"duplicate category id {number}", path, where)
        if name in seen:
            raise InputError(f"duplicate class name {name[:60]!r}", path, where)
        names[number] = name
        seen.add(name)
    if not names:
        raise InputError("no class names", path)
    return dict(sorted(names.items()))
