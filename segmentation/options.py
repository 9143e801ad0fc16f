"""Options of programs: a frozen dataclass, overridden by a TOML file, overridden by flags.

Flags are the dataclass's fields, `--model.upsampling pixelshuffle` those of a dataclass in it;
their help is what the class's docstring says. Values are written as in TOML or as bare words.
"""

import argparse
import dataclasses
import inspect
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

import msgspec

from detection.errors import InputError
from detection.formats.files import text

__all__ = ["add_flags", "from_mapping", "parsed"]

Options = TypeVar("Options")
ATTRIBUTE = re.compile(r"^    (\w+): (.*?)(?=^    \w+: |\Z)", re.DOTALL | re.MULTILINE)


def add_flags(parser: argparse.ArgumentParser, kind: type) -> None:
    """Adds `--config FILE` and a flag for each field of the dataclass `kind`."""
    parser.add_argument("--config", type=Path, metavar="FILE", help="a TOML file of these options")
    for name, default, description in _leaves(kind()):
        shown = "" if default in ("", None, ()) else f" [{_plain(default)}]"
        parser.add_argument(
            f"--{name}",
            dest=name,
            default=argparse.SUPPRESS,
            metavar="VALUE",
            help=f"{description}{shown}".replace("%", "%%"),
        )


def parsed(
    kind: type[Options], parser: argparse.ArgumentParser, words: Sequence[str] | None
) -> Options:
    """The options that `--config` and the flags ask for.

    Raises:
        InputError: If the file or a value is wrong; names the file or the flag, and the key.
    """
    found = vars(parser.parse_args(words))
    config: Path | None = found.pop("config")
    options = kind() if config is None else from_mapping(kind, _toml(config), config)
    known = {name for name, _, _ in _leaves(kind())}
    for name, word in found.items():
        if name in known:
            tree = msgspec.to_builtins(options)
            *sections, key = name.split(".")
            place = tree
            for section in sections:
                place = place[section]
            place[key] = _value(word)
            options = _converted(kind, tree, f"--{name}")
    return options


def from_mapping(kind: type[Options], tree: Mapping[str, Any], source: str | Path) -> Options:
    """A dataclass from nested mappings.

    Args:
        kind: The dataclass.
        tree: Field to value; what is left out has its default.
        source: The file, for errors.

    Raises:
        InputError: If a key is unknown or a value wrong.
    """
    _refuse_unknown(kind, tree, source, "")
    return _converted(kind, tree, source)


def _converted(kind: type[Options], tree: Mapping[str, Any], source: str | Path) -> Options:
    try:
        return msgspec.convert(tree, kind)
    except (ValueError, msgspec.ValidationError) as error:
        message, _, place = str(error).partition(" - at ")
        raise InputError(message, source, place.strip("`$.") or None) from None


def _refuse_unknown(kind: type, tree: Mapping[str, Any], source: str | Path, prefix: str) -> None:
    hints = get_type_hints(kind)
    for key, value in tree.items():
        if key not in hints:
            raise InputError(f"no such option; there are {', '.join(hints)}", source, prefix + key)
        if dataclasses.is_dataclass(hints[key]) and isinstance(value, Mapping):
            _refuse_unknown(hints[key], value, source, f"{prefix}{key}.")


def _toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(text(path))
    except ValueError as error:
        raise InputError(f"malformed TOML: {error}", path) from None
    except RecursionError:
        raise InputError("nested too deeply", path) from None


def _leaves(defaults: Any, prefix: str = "") -> Iterator[tuple[str, Any, str]]:
    """Name, default and description of each field, those of dataclasses within included."""
    described = dict(ATTRIBUTE.findall(inspect.getdoc(type(defaults)) or ""))
    for field in dataclasses.fields(defaults):
        default = getattr(defaults, field.name)
        if dataclasses.is_dataclass(default) and not isinstance(default, type):
            yield from _leaves(default, f"{prefix}{field.name}.")
        else:
            yield prefix + field.name, default, " ".join(described[field.name].split())


def _value(word: str) -> Any:
    try:
        return tomllib.loads(f"value = {word}")["value"]
    except ValueError:
        return word
    except RecursionError:
        raise InputError(f"nested too deeply: {word!r}") from None


def _plain(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
