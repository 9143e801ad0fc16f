"""Optional dependencies: whether they are installed, and what installs them."""

from importlib.util import find_spec

from upmap.errors import InputError

__all__ = ["require_packages"]


def require_packages(extra: str, *names: str) -> None:
    """Requires packages of an extra before they are imported.

    Args:
        extra: The extra in pyproject.toml that has them.
        names: The names that they are imported by.

    Raises:
        InputError: If packages are missing; names them, and the command that installs them.
    """
    if missing := [name for name in names if find_spec(name) is None]:
        message = f'not installed: {", ".join(missing)}; `pip install "upmap[{extra}]"` brings it'
        raise InputError(message)
