"""Whole files: text that says where it is not UTF-8, and output that is all or nothing."""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from detection.errors import InputError

__all__ = [
    "contents",
    "decoded",
    "existing",
    "first_character",
    "is_file",
    "new_file",
    "new_folder",
    "progress",
    "reason",
    "text",
]

BOM = b"\xef\xbb\xbf"
Item = TypeVar("Item")


def existing(path: Path) -> Path:
    """`path`, where a file or folder is.

    Raises:
        InputError: If nothing is there, or it may not be looked at.
    """
    try:
        path.stat()
    except (OSError, ValueError) as error:
        raise InputError(reason(error), path) from None
    return path


def is_file(path: Path) -> bool:
    """Whether `path` is a file; False also for what cannot be a path."""
    try:
        return path.is_file()
    except OSError:
        return False


def first_character(path: Path) -> bytes:
    """The first byte of a file that is neither white space nor a byte order mark.

    Raises:
        InputError: If the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            return file.read(4096).removeprefix(BOM).lstrip()[:1]
    except OSError as error:
        raise InputError(reason(error), path) from None


def contents(path: Path) -> bytes:
    """The bytes of a file, without a UTF-8 byte order mark.

    Raises:
        InputError: If the file cannot be read.
    """
    try:
        return path.read_bytes().removeprefix(BOM)
    except OSError as error:
        raise InputError(reason(error), path) from None


def text(path: Path) -> str:
    """The text of a UTF-8 file, without a byte order mark.

    Raises:
        InputError: If the file cannot be read or is not UTF-8; names the line.
    """
    return decoded(contents(path), path)


def decoded(data: bytes, path: Path) -> str:
    """The text of a file's bytes.

    Raises:
        InputError: If they are not UTF-8; names the line.
    """
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        found = f"byte 0x{data[error.start]:02x} is not UTF-8 text"
        raise InputError(found, path, str(line)) from None


def reason(error: OSError | ValueError) -> str:
    """What went wrong with a file, in a user's words."""
    if isinstance(error, FileNotFoundError):
        return "no such file or folder"
    words = error.strerror if isinstance(error, OSError) else None
    return (words or str(error)).lower()


def progress(items: Iterable[Item], what: str, total: int, show: bool) -> Iterable[Item]:
    """`items`, with a progress bar on stderr if `show` and stderr is a terminal."""
    if not show:
        return items
    from tqdm import tqdm

    bar: Iterable[Item] = tqdm(items, desc=what, total=total, disable=None, leave=False)
    return bar


@contextmanager
def new_file(path: Path) -> Iterator[Path]:
    """A path to write to, which takes the place of `path` when the block succeeds.

    Raises:
        InputError: If the folder cannot be written to.
    """
    import tempfile

    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as error:
        raise InputError(f"cannot be written: {reason(error)}", path) from None
    os.close(handle)
    beside = Path(name)
    try:
        yield beside
        beside.chmod(0o666 & ~_umask())
        beside.replace(path)
    except OSError as error:
        raise InputError(f"cannot be written: {reason(error)}", path) from None
    finally:
        beside.unlink(missing_ok=True)


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A folder to write to, which becomes `path` when the block succeeds.

    Raises:
        InputError: If `path` exists and is not an empty folder, or cannot be made.
    """
    import shutil
    import tempfile

    try:
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise InputError("exists already; name a new folder", path)
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
    except OSError as error:
        raise InputError(f"cannot be made: {reason(error)}", path) from None
    try:
        yield beside
        beside.chmod(0o777 & ~_umask())
        beside.replace(path)
    except OSError as error:
        raise InputError(f"cannot be made: {reason(error)}", path) from None
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
