"""The one error for what a user's data got wrong, and the one warning for what is merely odd."""

from pathlib import Path

__all__ = ["InputError", "InputWarning", "listed"]


class InputError(ValueError):
    """Data that cannot be evaluated; the message names the file and the line or key."""

    def __init__(self, message: str, path: str | Path | None = None, where: str | None = None):
        """Composes `path:where: message` from what is known.

        Args:
            message: What was found and what was expected.
            path: The file or folder.
            where: The line number, or the key in a JSON file.
        """
        place = ":".join(str(part) for part in (path, where) if part is not None)
        super().__init__(f"{place}: {message}" if place else message)


class InputWarning(UserWarning):
    """Data that is legal but worth a look."""


def listed(values: list[str], most: int = 5) -> str:
    """The first few of `values`, and how many more there are.

    >>> listed(["a", "b", "c"], most=2)
    'a, b and 1 more'
    """
    shown = ", ".join(values[:most])
    return shown if len(values) <= most else f"{shown} and {len(values) - most} more"
