"""Options of programs: a frozen dataclass, overridden by a TOML file, overridden by flags.

Flags are the dataclass's fields, `--model.upsampling pixelshuffle` those of a dataclass in it;
their help is what the class's docstring says. Values are written as in TOML or as bare words.
The numbers that a field may have stand beside it, `Annotated[int, Range(1, 10)]`, and are checked
by `validate_ranges` whenever a dataclass is made, whatever it is made from.
"""

import argparse
import dataclasses
import inspect
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args, get_origin, get_type_hints

import msgspec

from upmap.conversion import convert_value
from upmap.errors import InputError
from upmap.files import read_text

__all__ = [
    "Range",
    "add_flags",
    "describe_value",
    "from_mapping",
    "parse_options",
    "validate_ranges",
]

Options = TypeVar("Options")
ATTRIBUTE = re.compile(r"^    (\w+): (.*?)(?=^    \w+: |\Z)", re.DOTALL | re.MULTILINE)
MAX_QUOTED = 60  # characters of a value that an error repeats


@dataclass(frozen=True, slots=True)
class Range:
    """The numbers that an option may have; of a tuple, each of its items.

    Attributes:
        low: The least.
        high: The largest.
        above: Whether `low` itself is left out.
        below: Whether `high` itself is left out.

    >>> str(Range(0, 1, below=True)), 1.0 in Range(0, 1, below=True)
    ('[0, 1)', False)
    """

    low: float
    high: float
    above: bool = False
    below: bool = False

    def __contains__(self, value: float) -> bool:
        # NaN is in no range: all its comparisons are false.
        is_above = self.low < value if self.above else self.low <= value
        return is_above and (value < self.high if self.below else value <= self.high)

    def __str__(self) -> str:
        left, right = "(" if self.above else "[", ")" if self.below else "]"
        return f"{left}{self.low}, {self.high}{right}"


def validate_ranges(options: Any) -> None:
    """Refuses a number that is not in its field's range, and text that no path can hold.

    Args:
        options: A dataclass; fields that are not `Annotated` with a `Range` may have any number.

    Raises:
        ValueError: Names the field, its range and the value.
    """
    ranges = _ranges(type(options))
    for field in dataclasses.fields(options):
        value = getattr(options, field.name)
        if isinstance(value, str) and "\0" in value:
            raise ValueError(f"{field.name} has a NUL character")
        if (limits := ranges.get(field.name)) is not None and value is not None:
            for number in value if isinstance(value, tuple) else (value,):
                if number not in limits:
                    raise ValueError(
                        f"{field.name} must lie in {limits}, not {describe_value(number)}"
                    )


def describe_value(value: object) -> str:
    """What an error says of a value: a number, a string of at most MAX_QUOTED characters, a kind.

    >>> describe_value(2**20000)
    'an integer of 20001 bits'
    """
    if isinstance(value, int) and value.bit_length() > 4 * MAX_QUOTED:
        return f"an integer of {value.bit_length()} bits"  # Python may refuse to write its digits
    if isinstance(value, int | float) or value is None:
        return str(value)
    if not isinstance(value, str):
        return f"a {type(value).__name__}"
    return repr(value) if len(value) <= MAX_QUOTED else f"{value[:MAX_QUOTED]!r}..."


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


def parse_options(
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
            options = _convert(kind, tree, f"--{name}")
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
    return _convert(kind, tree, source)


def _convert(kind: type[Options], tree: Mapping[str, Any], source: str | Path) -> Options:
    return convert_value(tree, kind, source)


def _refuse_unknown(kind: type, tree: Mapping[str, Any], source: str | Path, prefix: str) -> None:
    hints = get_type_hints(kind)
    for key, value in tree.items():
        if key not in hints:
            raise InputError(f"no such option; there are {', '.join(hints)}", source, prefix + key)
        if dataclasses.is_dataclass(hints[key]) and isinstance(value, Mapping):
            _refuse_unknown(hints[key], value, source, f"{prefix}{key}.")


def _toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(read_text(path))
    except RecursionError:
        raise InputError("malformed TOML: nested too deeply", path) from None
    except ValueError as error:  # of an integer of thousands of digits, too
        raise InputError(f"malformed TOML: {error}", path) from None


def _ranges(kind: type) -> dict[str, Range]:
    """The range of each field that has one."""
    return {
        name: limits
        for name, hint in get_type_hints(kind, include_extras=True).items()
        if get_origin(hint) is Annotated
        for limits in get_args(hint)[1:]
        if isinstance(limits, Range)
    }


def _leaves(defaults: Any, prefix: str = "") -> Iterator[tuple[str, Any, str]]:
    """Name, default and description of each field, those of dataclasses within included."""
    described = dict(ATTRIBUTE.findall(inspect.getdoc(type(defaults)) or ""))  # none under -OO
    ranges = _ranges(type(defaults))
    for field in dataclasses.fields(defaults):
        default = getattr(defaults, field.name)
        if dataclasses.is_dataclass(default) and not isinstance(default, type):
            yield from _leaves(default, f"{prefix}{field.name}.")
        else:
            words = described.get(field.name, "").split()
            limits = [f"In {ranges[field.name]}."] if field.name in ranges else []
            yield prefix + field.name, default, " ".join([*words, *limits])


def _value(word: str) -> Any:
    try:
        return tomllib.loads(f"value = {word}")["value"]
    except (ValueError, RecursionError):  # no TOML, or such that no option has
        return word


def _plain(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
