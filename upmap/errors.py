"""The one error for what a user's data got wrong, and the one warning for what is merely odd."""

import re
from pathlib import Path

__all__ = [
    "ImplementationError",
    "InputError",
    "InputWarning",
    "abbreviate_list",
    "as_line",
    "printable",
    "shorten",
]

LONGEST_VALUE = 60  # characters of a quoted value
LONGEST_MESSAGE = 2000  # characters
# What repr() quotes, longer than LONGEST_VALUE. A quote after a letter is an apostrophe, and one
# after a backslash stands in a value: so each character is looked at twice at most.
LONG_VALUE = re.compile(
    r"(?<![\w\\])(?P<quote>['\"])"
    rf"(?P<start>(?:\\x..|\\u.{{4}}|\\.|(?!(?P=quote))[^\\]){{{LONGEST_VALUE}}}+)"
    r"(?:\\.|(?!(?P=quote))[^\\])++(?P=quote)(?!\w)",
    re.DOTALL,
)


class InputError(ValueError):
    """Data that cannot be evaluated; the message names the file and the line or key."""

    def __init__(self, message: str, path: str | Path | None = None, where: str | None = None):
        """Composes `path:where: message` from what is known.

        Args:
            message: What was found and what was expected; a quoted value is cut at 60 characters,
                all of it at 2,000.
            path: The file or folder.
            where: The line number, or the key in a JSON file.
        """
        message = shorten(message)
        place = ":".join(str(part) for part in (path, where) if part is not None)
        super().__init__(f"{place}: {message}" if place else message)


class ImplementationError(ValueError):
    """An implementation that is asked for is unknown, or not built here."""


class InputWarning(UserWarning):
    """Valid but suspicious input.

    Attributes:
        kind: What is suspicious, in kebab-case, such as "outside-image"; empty if it has no name.
        count: How often it occurs.
        examples: Some of the values or places.
    """

    def __init__(
        self, message: str = "", *, kind: str = "", count: int = 1, examples: tuple[str, ...] = ()
    ):
        """The message is for people, the rest for programs."""
        self.kind, self.count, self.examples = kind, count, examples
        super().__init__(message)


def shorten(message: str) -> str:
    """`message` with each quoted value cut at 60 characters, and all of it at 2,000.

    >>> shorten(f"{'a' * 70!r} is not a number")
    "'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa...' is not a number"
    """
    message = LONG_VALUE.sub(r"\g<quote>\g<start>...\g<quote>", message)
    if len(message) <= LONGEST_MESSAGE:
        return message
    return f"{message[:LONGEST_MESSAGE]}... ({len(message) - LONGEST_MESSAGE} more characters)"


def printable(text: str) -> str:
    r"""`text` for a terminal: what does not print is escaped as by `repr`, so nothing acts on it.

    That is control characters, marks of writing direction and other invisible characters, line
    ends, spaces that are not plain, and bytes of a path that are not UTF-8.

    >>> printable("caf\xe9 \x1b[2J\u202e\n")
    'café \\x1b[2J\\u202e\\n'
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def as_line(message: str) -> str:
    """`message` as the one line that a terminal shows: printable, and shortened."""
    return shorten(printable(shorten(message)))


def abbreviate_list(values: list[str], limit: int = 5) -> str:
    """The first few of `values`, and how many more there are.

    >>> abbreviate_list(["a", "b", "c"], 2)
    'a, b and 1 more'
    """
    shown = ", ".join(values[:limit])
    return shown if len(values) <= limit else f"{shown} and {len(values) - limit} more"
