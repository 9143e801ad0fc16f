"""What the class numbers of YOLO files mean: names in data.yaml, obj.names, classes.txt.

Source: data.yaml of Ultralytics and Roboflow; obj.names of darknet.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from upmap.detection.formats.read_options import ClassNamesSource
from upmap.detection.inputs import Input, open_input
from upmap.errors import InputError

__all__ = ["find_class_names", "names_in_description", "read_class_numbers", "read_yaml"]

LARGEST_YAML = 2**22  # bytes
NAMES_FILES = ("data.yaml", "data.yml", "dataset.yaml", "obj.names", "classes.txt", "classes.names")
LEVELS = 3  # folders upwards in which names are looked for: labels/val lies in a data set's labels
NUMBERED = re.compile(r"([0-9]{1,9})[\s:]+(\S.*)")


def read_class_numbers(source: ClassNamesSource) -> dict[int, str]:
    """Class number to name, where rows count classes from 0.

    Args:
        source: Such a mapping; or a YAML file with `names`; or text with a name on each line, for
            0, 1, ...; or text with a line `number name` for each class, told by the first line.

    Raises:
        InputError: If the file cannot be read, or a number or a name stands there twice.
    """
    if isinstance(source, Mapping):
        return _validate_unique([(int(number), name) for number, name in source.items()], None)
    file = open_input(source)
    if file.path.suffix.lower() in (".yaml", ".yml"):
        names = names_in_description(read_yaml(file), file.path)
        if names is None:
            raise InputError("there are no names in this file", file.path, "names")
        return names
    return _read_lines(file)


def find_class_names(folder: Path) -> dict[int, str] | None:
    """The names in a file of a usual name in `folder` or a folder above; None if there is none."""
    place = folder.absolute()
    for _ in range(LEVELS):
        for name in NAMES_FILES:
            file = place / name
            if not file.is_file():
                continue
            if file.suffix.startswith(".y"):
                names = names_in_description(read_yaml(Input(file)), file)
                if names is not None:
                    return names
            else:
                return _read_lines(Input(file))
        place = place.parent
    return None


def read_yaml(file: Input) -> dict[str, Any]:
    """A small YAML file whose top level is a mapping; all scalars are text.

    Raises:
        InputError: If it is another, is malformed, or has aliases, which can stand for a text that
            is larger than memory.
    """
    try:
        import yaml
    except ImportError:
        raise InputError("YAML files need PyYAML: pip install pyyaml", file.path) from None

    text = file.text()
    if len(text) > LARGEST_YAML:
        raise InputError("too large for a description of a data set", file.path)
    loader = getattr(yaml, "CBaseLoader", yaml.BaseLoader)  # scalars stay text
    try:
        for event in yaml.parse(text, loader):
            if isinstance(event, yaml.AliasEvent):
                line = str(event.start_mark.line + 1) if event.start_mark else None
                raise InputError("aliases are refused in YAML files", file.path, line)
        content = yaml.load(text, loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = str(mark.line + 1) if mark else None
        raise InputError(f"malformed YAML: {error.problem}", file.path, where) from None
    except yaml.YAMLError as error:
        problem = str(error).splitlines()[0]
        raise InputError(f"malformed YAML: {problem}", file.path) from None
    except RecursionError:
        raise InputError("malformed YAML: nested too deeply", file.path) from None
    if not isinstance(content, dict):
        raise InputError("expected a mapping, such as data.yaml has", file.path)
    return content


def names_in_description(content: Mapping[str, Any], path: Path) -> dict[int, str] | None:
    """Number to name by `names`, a list or a mapping; None where there is no such key.

    Raises:
        InputError: If it is neither, or a number or a name stands there twice.
    """
    names = content.get("names")
    if not names:
        return None
    if isinstance(names, list):
        return _validate_unique(list(enumerate(names)), path)
    if not isinstance(names, dict):
        raise InputError("expected a list, or a mapping of numbers to names", path, "names")
    if wrong := [key for key in names if not (str(key).isdecimal() and len(str(key)) < 10)]:
        raise InputError(f"{wrong[0]!r} is not a class number", path, "names")
    return _validate_unique([(int(key), name) for key, name in names.items()], path)


def _read_lines(file: Input) -> dict[int, str]:
    lines = [line.strip() for line in file.text().rstrip().splitlines()]
    matches = [NUMBERED.fullmatch(line) for line in lines]
    if lines and all(matches):
        rows = [(int(match[1]), match[2]) for match in matches if match]
        return _validate_unique(rows, file.path)
    return _validate_unique(list(enumerate(lines)), file.path)


def _validate_unique(rows: list[tuple[int, Any]], path: Path | None) -> dict[int, str]:
    names: dict[int, str] = {}
    seen: set[str] = set()
    for number, name in rows:
        if not isinstance(name, str) or not name:
            raise InputError(f"class {number} has no name but {name!r}", path, "names")
        if number in names or name in seen:
            what = f"class {number}" if number in names else f"the class name {name!r}"
            raise InputError(f"{what} stands there twice", path, "names")
        names[number] = name
        seen.add(name)
    if not names:
        raise InputError("no class names", path)
    return dict(sorted(names.items()))
