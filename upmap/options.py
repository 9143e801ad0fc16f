"""Options of programs: a frozen dataclass, overridden by a TOML file, overridden by flags.

A field is a flag: `batch_size` is `--batch-size`, `flip: bool` is `--flip` and `--no-flip`, and
`width` of the dataclass in the field `model` is `--model.width`. The help of a flag is its field's
part of the class's docstring. A field's range, its choices and the settings of its flag are markers
beside its type, as in `epochs: Annotated[int, Range(1, 1000)] = 20`.
"""

import argparse
import dataclasses
import inspect
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import MISSING
from functools import cache
from itertools import zip_longest
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, NamedTuple, TypeVar, Union, get_args, get_origin

from upmap.console import describe_later, suggest
from upmap.errors import InputError
from upmap.files import read_text

__all__ = [
    "Choices",
    "Flag",
    "Option",
    "Positional",
    "Range",
    "Threads",
    "add_flags",
    "describe_value",
    "list_options",
    "parse_options",
    "parse_size",
    "validate_fields",
]

Options = TypeVar("Options")
Marker = TypeVar("Marker")
FieldPath = tuple[str, ...]  # the fields that lead to a value: ("model", "width")

ATTRIBUTE = re.compile(r"^    (\w+): (.*?)(?=^    \w+: |\Z)", re.DOTALL | re.MULTILINE)
SEPARATOR = re.compile(r",(?![^{}]*\})")  # of items; not within braces, as in a{x=1,y=2}
SIZE = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?) ?(b|kb|mb|gb)?")
UNITS = {"b": 1, "kb": 1000, "mb": 1000**2, "gb": 1000**3}
MAX_WORD = 50  # characters that the help does not break
MAX_QUOTED = 60  # characters of a value that an error repeats
SPELLINGS = (("_", "-"), ("colour", "color"), ("optimis", "optimiz"))  # of flags, old and new
DESCRIPTIONS: dict[Any, str] = {
    bool: "true or false",
    float: "a number",
    int: "a whole number",
    Path: "a path",
    str: "text",
    tuple: "a list of values",
    Mapping: "a table of keys and values",
}
METAVARS: dict[Any, str] = {float: "X", int: "N", Path: "PATH", str: "TEXT", Mapping: "KEY=VALUE"}


# What follows are no dataclasses because programs start with them: each of those takes a third of a
# millisecond to define, twenty times as much as these.


class Range:
    """The numbers that an option may have; of a tuple, each of its items.

    >>> str(Range(0, 1, below=True)), 1.0 in Range(0, 1, below=True)
    ('[0, 1)', False)
    """

    def __init__(
        self, low: float, high: float, *, above: bool = False, below: bool = False
    ) -> None:
        """Takes the limits.

        Args:
            low: The lower limit.
            high: The upper limit.
            above: Whether numbers must be greater than `low`; otherwise they may equal it.
            below: Whether numbers must be less than `high`; otherwise they may equal it.
        """
        self.low, self.high, self.above, self.below = low, high, above, below

    def __contains__(self, value: float) -> bool:
        # NaN is in no range: all its comparisons are false.
        is_above = self.low < value if self.above else self.low <= value
        return is_above and (value < self.high if self.below else value <= self.high)

    def __str__(self) -> str:
        left, right = "(" if self.above else "[", ")" if self.below else "]"
        return f"{left}{self.low}, {self.high}{right}"


class Choices(NamedTuple):
    """The names that an option may have; of a tuple, each of its items.

    Attributes:
        names: The names, or a function that returns them, where they are defined further below.
    """

    names: Iterable[str] | Callable[[], Iterable[str]]

    def list_names(self) -> list[str]:
        """The names."""
        return list(self.names() if callable(self.names) else self.names)


class Positional(NamedTuple):
    """An option without a flag, recognized by its position; a tuple takes all further words.

    Attributes:
        metavar: The name in the usage.
    """

    metavar: str


class Flag(NamedTuple):
    """Settings of an option's flag that its field does not imply.

    Attributes:
        name: The name, without dashes; None takes the field's.
        metavar: The name of the value in the help; None takes one for the type.
        group: The heading in the help that the flag stands under.
        is_repeatable: Whether each item of a tuple has a flag of its own, as in `--set A --set B`;
            otherwise commas separate them.
    """

    name: str | None = None
    metavar: str | None = None
    group: str | None = None
    is_repeatable: bool = False


Threads = Annotated[int, Range(0, 65536)]  # of `threads`, which most programs have


class Option(NamedTuple):
    """A field of an options dataclass, or of a dataclass in it.

    Attributes:
        path: The fields that lead to it.
        hint: The type.
        markers: The markers in `Annotated` beside the type.
        default: The default; MISSING where there is none.
        description: The field's part of the docstring of its class; empty under -OO.
    """

    path: FieldPath
    hint: Any
    markers: tuple[object, ...]
    default: Any
    description: str

    @property
    def name(self) -> str:
        """The fields that lead to it, with dots between them."""
        return ".".join(self.path)

    @property
    def positional(self) -> Positional | None:
        """The marker of an option without a flag; None for the others."""
        return _marker(self.markers, Positional)

    @property
    def flag(self) -> str:
        """The flag, such as `--model.width`; of a positional its metavar."""
        if self.positional is not None:
            return self.positional.metavar
        *sections, name = self.path
        return "--" + ".".join([*sections, self.settings.name or name]).replace("_", "-")

    @property
    def settings(self) -> Flag:
        """The marker that names or groups the flag; an empty one where there is none."""
        return _marker(self.markers, Flag) or Flag()

    @property
    def kind(self) -> Any:
        """The type without parameters, of a union the first: bool, Literal, tuple ..."""
        kind = _alternatives(self.hint)[0]
        return get_origin(kind) or kind

    @property
    def choices(self) -> list[str] | None:
        """The names that the option may have; None where it may have any value."""
        return _choices(self.hint, self.markers)

    @property
    def metavar(self) -> str:
        """The name of the value in the help."""
        if (marker := self.positional or self.settings).metavar is not None:
            return marker.metavar
        is_list = self.kind is tuple
        kind = get_args(_alternatives(self.hint)[0])[0] if is_list else self.kind
        item = METAVARS[kind] if self.choices is None else "NAME"
        return f"{item},{item}" if is_list and not self.settings.is_repeatable else item

    @property
    def help(self) -> str:
        """The text of the help: description, choices, range and default."""
        words = [self.description]
        if self.choices is not None:
            words.append(f"One of {', '.join(self.choices)}.")
        if (limits := _marker(self.markers, Range)) is not None:
            words.append(f"In {limits}.")
        if self.default is not MISSING and self.default not in ("", None, (), {}):
            words.append(f"[{_describe_default(self.default)}]")
        return " ".join(filter(None, words))


def list_options(kind: type, *, defaults: Any = None, section: FieldPath = ()) -> list[Option]:
    """The options that an options dataclass has, those of dataclasses in it included.

    Args:
        kind: The dataclass.
        defaults: An instance of it whose values are the defaults; None takes those of the class.
        section: The fields that lead to it.
    """
    descriptions: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        descriptions |= ATTRIBUTE.findall(inspect.cleandoc(base.__doc__ or ""))
    options: list[Option] = []
    for field in dataclasses.fields(kind):
        path = (*section, field.name)
        default = _default(field) if defaults is None else getattr(defaults, field.name)
        if dataclasses.is_dataclass(default) and not isinstance(default, type):
            options += list_options(type(default), defaults=default, section=path)
        else:
            hint, markers = _split_annotation(field.type)
            description = " ".join(descriptions.get(field.name, "").split())
            option = Option(
                path=path, hint=hint, markers=markers, default=default, description=description
            )
            options.append(option)
    return options


def add_flags(parser: argparse.ArgumentParser, kind: type) -> None:
    """Adds the options of the dataclass `kind` and `--config FILE`, and says so in the usage."""
    options = list_options(kind)
    groups: dict[str, argparse._ArgumentGroup] = {}
    for option in options:
        title = option.settings.group or ".".join(option.path[:-1])
        if title and title not in groups:
            groups[title] = parser.add_argument_group(title)
        _add_argument(groups.get(title, parser), option)
    parser.add_argument("--config", type=Path, metavar="FILE", help="a TOML file of these options")
    # A usage with every flag would fill the screen.
    flags = [_usage(o) for o in options if o.positional is None and o.default is MISSING]
    places = [_usage(option) for option in options if option.positional is not None]
    parser.usage = " ".join(["%(prog)s [OPTION ...]", *flags, *places])


def parse_options(
    kind: type[Options], parser: argparse.ArgumentParser, words: Sequence[str] | None = None
) -> Options:
    """The options that the command line and the file that it names with `--config` ask for.

    A flag that does not exist, or an old spelling of one, ends the program as argparse does.

    Args:
        kind: The options dataclass.
        parser: A parser with its flags, see `add_flags`.
        words: The command line; None for sys.argv.

    Raises:
        InputError: If the file or a value is wrong; names the flag, or the file and the key.
    """
    words = list(sys.argv[1:] if words is None else words)
    options = list_options(kind)
    _refuse_old_spellings(parser, options, words)
    # Flags may stand between positionals; argparse then passes over "--".
    is_mixed = "--" not in words
    parse = parser.parse_known_intermixed_args if is_mixed else parser.parse_known_args
    namespace, unknown = parse(words)
    if unknown:
        flags = [option.flag for option in options if option.positional is None]
        parser.error(f"unrecognized arguments: {' '.join(unknown)}{suggest(unknown[0], flags)}")
    arguments = vars(namespace)
    values = _Values(arguments.pop("config"))
    if values.config is not None:
        values.read_config(options)
    for option in options:
        if option.name in arguments:
            values.set_from_words(option, arguments[option.name])
    missing = [o.flag for o in options if o.default is MISSING and o.path not in values.by_path]
    if missing:
        parser.error(f"the following arguments are required: {', '.join(missing)}")
    return values.build(kind)


def validate_fields(options: Any) -> None:
    """Refuses values that are not in their field's `Range`, or not among its choices.

    Args:
        options: A dataclass; fields without a `Range`, `Choices` or a `Literal` may have any value.

    Raises:
        ValueError: Names the field, what it may be, and the value.
    """
    kind: Any = type(options)
    for name, hint, markers in _annotations(kind):
        try:
            _validate(getattr(options, name), hint, markers)
        except ValueError as error:
            raise ValueError(f"{name} {error}") from None


def parse_size(name: str, text: str) -> int:
    """The bytes of a size such as 900kB or 5MB: decimal units; without a unit, bytes.

    Raises:
        ValueError: Names the option.

    >>> parse_size("html_size", "1.5 MB"), parse_size("html_size", "200")
    (1500000, 200)
    """
    size = SIZE.fullmatch(text.strip().lower())
    if size is None:
        expected = "expected a size such as 900kB or 5MB"
        raise ValueError(f"{name}: {expected}, got {describe_value(text)}")
    return int(float(size[1]) * UNITS[size[2] or "b"])


def describe_value(value: object) -> str:
    """What an error says of a value: a number, a string of at most MAX_QUOTED characters, a type.

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


class _Values:
    """The values that differ from the defaults, and which flag or file each comes from."""

    def __init__(self, config: Path | None) -> None:
        self.config = config
        self.by_path: dict[FieldPath, Any] = {}
        self.flags: set[FieldPath] = set()

    def read_config(self, options: Sequence[Option]) -> None:
        """Takes the values that the TOML file has.

        Raises:
            InputError: If the file is malformed, a key unknown, or a value wrong.
        """
        assert self.config is not None
        by_path = {option.path: option for option in options}
        for path, value in _flatten(_read_toml(self.config), by_path, self.config):
            self.by_path[path] = _convert_option(by_path[path], value, self.config, ".".join(path))

    def set_from_words(self, option: Option, words: bool | str | list[str]) -> None:
        """Takes the value that the command line has for an option.

        Raises:
            InputError: If it is wrong.
        """
        try:
            value = _parse_words(option.hint, words)
        except ValueError as error:
            raise InputError(str(error), option.flag) from None
        self.by_path[option.path] = _convert_option(option, value, option.flag)
        self.flags.add(option.path)

    def build(self, kind: type[Options]) -> Options:
        """The options.

        Raises:
            InputError: If values do not go together.
        """
        options: Options = self._build(kind, None, ())
        return options

    def _build(self, kind: Any, defaults: Any, section: FieldPath) -> Any:
        """The dataclass in a section: `defaults` (None for the class's own), overridden."""
        depth = len(section)
        paths = [path for path in self.by_path if path[:depth] == section]
        changes = {path[depth]: self.by_path[path] for path in paths if len(path) == depth + 1}
        for name in dict.fromkeys(path[depth] for path in paths if len(path) > depth + 1):
            fields = {field.name: field for field in dataclasses.fields(kind)}
            inner = _default(fields[name]) if defaults is None else getattr(defaults, name)
            changes[name] = self._build(type(inner), inner, (*section, name))
        try:
            return kind(**changes) if defaults is None else dataclasses.replace(defaults, **changes)
        except ValueError as error:
            if isinstance(error, InputError):
                raise
            raise InputError(str(error), *self._place(paths, section)) from None

    def _place(self, paths: Sequence[FieldPath], section: FieldPath) -> tuple[Any, str | None]:
        """The file, if all values of a section are from there, else the section's flags."""
        where = ".".join(section) or None
        if self.flags.isdisjoint(paths):
            return self.config, where
        return (f"--{where}".replace("_", "-") if where else None), None


def _default(field: "dataclasses.Field[Any]") -> Any:
    """The default of a field; MISSING where there is none."""
    return field.default if field.default_factory is MISSING else field.default_factory()


def _split_annotation(hint: Any) -> tuple[Any, tuple[object, ...]]:
    """A type without its markers, and these."""
    if get_origin(hint) is not Annotated:
        return hint, ()
    kind, *markers = get_args(hint)
    return kind, tuple(markers)


@cache
def _annotations(kind: Any) -> tuple[tuple[str, Any, tuple[object, ...]], ...]:
    """The name, type and markers of each field of a dataclass."""
    fields = dataclasses.fields(kind)
    return tuple((field.name, *_split_annotation(field.type)) for field in fields)


def _marker(markers: Iterable[object], kind: type[Marker]) -> Marker | None:
    return next((marker for marker in markers if isinstance(marker, kind)), None)


def _alternatives(hint: Any) -> tuple[Any, ...]:
    """The types of a union other than None; of anything else the type itself."""
    kinds = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    return tuple(kind for kind in kinds if kind is not NoneType)


def _choices(hint: Any, markers: Iterable[object]) -> list[str] | None:
    if (choices := _marker(markers, Choices)) is not None:
        return choices.list_names()
    return list(_words(hint)) if len(_alternatives(hint)) == 1 and _words(hint) else None


def _words(hint: Any) -> tuple[str, ...]:
    """The names in a Literal, which may stand beside other types, as in int | Literal["auto"]."""
    literals = [kind for kind in _alternatives(hint) if get_origin(kind) is Literal]
    return get_args(literals[0]) if literals else ()


def _describe_default(value: Any) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    if not isinstance(value, tuple):
        return str(value)
    text = ",".join(map(str, value))
    # Blanks, so that a line of the help can end within a list that is longer than one.
    return text if len(text) <= MAX_WORD else ", ".join(map(str, value))


def _usage(option: Option) -> str:
    """A positional, or a flag that must be there, in the usage line."""
    if option.positional is None:
        return f"{option.flag} {option.metavar}"
    place = option.metavar + ("..." if option.kind is tuple else "")
    return place if option.default is MISSING else f"[{place}]"


def _add_argument(place: argparse._ActionsContainer, option: Option) -> None:
    # No argument is required of argparse: the file of --config may have it.
    settings: dict[str, Any] = {"default": argparse.SUPPRESS}
    if option.positional is not None:
        nargs = "*" if option.kind is tuple else "?"
        settings |= {"nargs": nargs, "metavar": option.metavar}
        action = place.add_argument(option.name, **settings)
    elif option.kind is bool:
        settings |= {"action": argparse.BooleanOptionalAction}
        action = place.add_argument(option.flag, dest=option.name, **settings)
    else:
        settings |= {"metavar": option.metavar}
        settings |= {"action": "append" if option.settings.is_repeatable else "store"}
        action = place.add_argument(option.flag, dest=option.name, **settings)
    describe_later(action, lambda: option.help)


def _refuse_old_spellings(
    parser: argparse.ArgumentParser, options: Sequence[Option], words: Sequence[str]
) -> None:
    """Ends the program where a flag is spelled as it was before, and names the new spelling."""
    flags = {option.flag: option for option in options if option.positional is None}
    for word, following in zip_longest(words, words[1:], fillvalue=""):
        if word == "--":
            return
        name, sign, value = word.partition("=")
        spelling = _modern_spelling(name)
        if (option := flags.get(spelling)) is None or not name.startswith("--"):
            continue
        value = value if sign else following
        if option.kind is bool and value in ("true", "false"):
            spelling = spelling if value == "true" else spelling.replace("--", "--no-", 1)
            parser.error(f"{name} takes no value: write {spelling}, not {name} {value}")
        if spelling != name:
            parser.error(f"{name} is spelled {spelling}")


def _modern_spelling(flag: str) -> str:
    for old, new in SPELLINGS:
        flag = flag.replace(old, new)
    return flag


def _read_toml(path: Path) -> dict[str, Any]:
    import tomllib  # only where there is a file: programs start without it

    try:
        return tomllib.loads(read_text(path))
    except RecursionError:
        raise InputError("malformed TOML: nested too deeply", path) from None
    except ValueError as error:  # also of an integer of thousands of digits
        raise InputError(f"malformed TOML: {error}", path) from None


def _flatten(
    tree: Mapping[str, Any],
    options: Mapping[FieldPath, Option],
    source: Path,
    section: FieldPath = (),
) -> Iterator[tuple[FieldPath, Any]]:
    """The path of fields and the value of each key of a TOML file.

    Raises:
        InputError: If a key is unknown, or a section is not a table.
    """
    depth = len(section)
    names = {path[depth]: path[depth] for path in options if path[:depth] == section}
    flags = {
        option.settings.name: path[depth]
        for path, option in options.items()
        if path[:-1] == section and option.settings.name
    }
    for key, value in tree.items():
        name = (flags | names).get(key.replace("-", "_"))
        if name is None:
            message = f"no such option; there are {', '.join(names)}"
            raise InputError(message, source, ".".join([*section, key]))
        path = (*section, name)
        if path in options:
            yield path, value
        elif isinstance(value, Mapping):
            yield from _flatten(value, options, source, path)
        else:
            message = f"expected a table, got {describe_value(value)}"
            raise InputError(message, source, ".".join(path))


def _convert_option(
    option: Option, value: Any, source: str | Path, where: str | None = None
) -> Any:
    """A value of TOML as what the option's field holds.

    Raises:
        InputError: If the option does not take it; names `source` and `where`.
    """
    try:
        converted = _convert(option.hint, value)
        _validate(converted, option.hint, option.markers)
    except ValueError as error:
        raise InputError(str(error), source, where) from None
    return converted


def _convert(hint: Any, value: Any) -> Any:
    """A value of TOML as an instance of `hint`; what it may be besides is not looked at."""
    kinds = _alternatives(hint)
    if len(kinds) > 1 and isinstance(value, str) and value in _words(hint):
        return value
    for kind in kinds:
        if len(kinds) > 1 and get_origin(kind) is Literal:
            continue
        try:
            return _convert_to(kind, value)
        except ValueError:
            if len(kinds) == 1:
                raise
    origins = [get_origin(kind) or kind for kind in kinds]
    described = [DESCRIPTIONS[kind] for kind in origins if kind in DESCRIPTIONS]
    expected = " or ".join([*described, *_words(hint)])
    raise ValueError(f"expected {expected}, got {describe_value(value)}")


def _convert_to(kind: Any, value: Any) -> Any:
    """`value` as an instance of a type that is no union."""
    origin = get_origin(kind) or kind
    if origin is Literal:
        return value  # `_validate` compares it with the choices
    if origin is tuple and isinstance(value, list | tuple):
        return _convert_items(get_args(kind), value)
    if origin is float and type(value) in (int, float):
        return _as_float(value)
    if origin is Path and isinstance(value, str):
        return Path(value)
    # A bool is an int to isinstance.
    if type(value) is origin or (origin is Mapping and isinstance(value, Mapping)):
        return value
    raise ValueError(f"expected {DESCRIPTIONS.get(origin, origin)}, got {describe_value(value)}")


def _convert_items(hints: tuple[Any, ...], values: Sequence[Any]) -> tuple[Any, ...]:
    if hints[-1] is Ellipsis:
        hints = hints[:1] * len(values)
    if len(hints) != len(values):
        raise ValueError(f"expected {len(hints)} values, got {len(values)}")
    return tuple(map(_convert, hints, values))


def _as_float(value: float) -> float:
    try:
        return float(value)
    except OverflowError:
        raise ValueError(f"expected a number, got {describe_value(value)}") from None


def _validate(value: Any, hint: Any, markers: Iterable[object]) -> None:
    """Refuses what is not in the range or among the choices, and text that no path can hold."""
    items = [item for item in (value if isinstance(value, tuple) else (value,)) if item is not None]
    limits = _marker(markers, Range)
    # To list the choices may import what they come from: a program with defaults does without.
    choices = _choices(hint, markers) if items else None
    for item in items:
        if isinstance(item, str | Path) and "\0" in str(item):
            raise ValueError("has a NUL character")
        if isinstance(item, str) and item in _words(hint):
            continue
        if limits is not None and (isinstance(item, str) or item not in limits):
            raise ValueError(f"must lie in {limits}, not {describe_value(item)}")
        if choices is not None and item not in choices:
            raise ValueError(f"must be one of {', '.join(choices)}, not {describe_value(item)}")


def _parse_words(hint: Any, words: bool | str | list[str]) -> Any:
    """The value of TOML that the command line has for an option."""
    if isinstance(words, list):  # of a positional, or of a flag that is repeated
        item = get_args(_alternatives(hint)[0])[0]
        return [_parse_word(item, word) for word in words]
    return words if isinstance(words, bool) else _parse_word(hint, words)


def _parse_word(hint: Any, word: str) -> Any:
    """The value of TOML that a word means where `hint` is expected; else the word itself.

    Raises:
        ValueError: If a list has no items.
    """
    kinds = _alternatives(hint)
    tuples = [kind for kind in kinds if get_origin(kind) is tuple]
    if tuples and (len(kinds) == 1 or "," in word or word.startswith("[")):
        return _parse_items(get_args(tuples[0])[0], word)
    if get_origin(kinds[0]) is Mapping:
        return _parse_toml(word if word.startswith("{") else f"{{{word}}}", word)
    for kind in kinds:
        if kind in (int, float):
            try:
                return kind(word)
            except ValueError:
                break
    return word


def _parse_items(hint: Any, text: str) -> Any:
    """Items with commas between them, or a list as in TOML.

    Raises:
        ValueError: If there are no items between the commas.
    """
    if text.startswith("[") and isinstance(items := _parse_toml(text, None), list):
        return items
    words = [word.strip() for word in SEPARATOR.split(text) if word.strip()]
    if not words:
        raise ValueError(f"expected values with commas between them, got {describe_value(text)}")
    return [_parse_word(hint, word) for word in words]


def _parse_toml(text: str, default: Any) -> Any:
    """The value that `text` has in TOML, or `default` where it has none."""
    import tomllib

    try:
        return tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError):
        return default
