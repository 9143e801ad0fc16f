"""Reading and writing whole files: text that says where it is not UTF-8, and all-or-nothing output."""

import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from detection.errors import InputError

__all__ = ["contents", "new_file", "new_folder", "progress", "text"]

BOM = b"\xef\xbb\xbf"
Item = TypeVar("Item")


def contents(path: Path) -> bytes:
    """The bytes of a file, without a UTF-8 byte order mark.

    Raises:
        InputError: If the file cannot be read.
    """
    try:
        return path.read_bytes().removeprefix(BOM)
    except OSError as error:
        raise InputError(error.strerror or str(error), path) from None


def text(path: Path) -> str:
    """The text of a UTF-8 file, without a byte order mark.

    Raises:
        InputError: If the file cannot be read or is not UTF-8; names the line.
    """
    data = contents(path)
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        found = f"byte 0x{data[error.start]:02x} is not UTF-8 text"
        raise InputError(found, path, str(line)) from None


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
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as error:
        raise InputError(f"cannot be written: {error.strerror}", path) from None
    os.close(handle)
    beside = Path(name)
    try:
        yield beside
        beside.chmod(0o666 & ~_umask())
        beside.replace(path)
    except OSError as error:
        raise InputError(f"cannot be written: {error.strerror}", path) from None
    finally:
        beside.unlink(missing_ok=True)


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A folder to write to, which becomes `path` when the block succeeds.

    Raises:
        InputError: If `path` exists and is not an empty folder, or cannot be made.
    """
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise InputError("exists already; name a new folder", path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
    except OSError as error:
        raise InputError(f"cannot be made: {error.strerror}", path) from None
    try:
        yield beside
        beside.chmod(0o777 & ~_umask())
        beside.replace(path)
    except OSError as error:
        raise InputError(f"cannot be made: {error.strerror}", path) from None
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
