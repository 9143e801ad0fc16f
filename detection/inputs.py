"""What a user names as an input: a folder, a file, or something that can be read only once.

Pipes (a named one, a shell's `<(...)`, /dev/stdin) and standard input are read whole when they are
opened; text that gzip compressed, which its first bytes tell, is decompressed then.
"""

import io
import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from upmap.errors import InputError
from upmap.files import (
    BOM,
    decode_text,
    describe_os_error,
    first_character,
    is_file,
    require_path,
)

if TYPE_CHECKING:
    import gzip

__all__ = [
    "STANDARD_INPUT",
    "Input",
    "Named",
    "Source",
    "files_in",
    "is_listing",
    "open_arguments",
    "open_input",
    "translate_errors",
]

STANDARD_INPUT = Path("-")  # on a command line
GZIP = b"\x1f\x8b\x08"  # how what gzip wrote begins
BLOCK = 2**20  # bytes read at a time


@dataclass(frozen=True, slots=True, eq=False)
class Input:
    """A folder, or a file of text.

    Attributes:
        path: As it was named.
        data: The text's bytes, where they cannot be read from `path` again as they are: of a pipe,
            of standard input, and of a compressed file. None for ordinary files, and folders.
    """

    path: Path
    data: bytes | None = None

    def __str__(self) -> str:
        """The path."""
        return str(self.path)

    @property
    def source(self) -> Path | bytes:
        """What the readers of kernels take."""
        return self.path if self.data is None else self.data

    def is_folder(self) -> bool:
        """Whether it is a folder."""
        return self.data is None and self.path.is_dir()

    def is_file(self) -> bool:
        """Whether it is a file, or was read like one."""
        return self.data is not None or is_file(self.path)

    def first_character(self) -> bytes:
        """The first byte that is neither white space nor a byte order mark.

        Raises:
            InputError: If the file cannot be read.
        """
        if self.data is None:
            return first_character(self.path)
        return self.data[:4096].removeprefix(BOM).lstrip()[:1]

    def text(self) -> str:
        """The text, without a byte order mark.

        Raises:
            InputError: If the file cannot be read or is not UTF-8; names the line.
        """
        data = self.data
        if data is None:
            with _translate_path_errors(self.path):
                data = self.path.read_bytes()
        return decode_text(data.removeprefix(BOM), self.path)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Source(Input):
    """An input of which it is settled how it is read; see `formats.open_sources`.

    Attributes:
        format: The name of its format.
        image_set: The name of an image set, or a file that lists image ids; None for all images.
    """

    format: str
    image_set: str | None


Named = str | Path | Input


def open_input(named: Named) -> Input:
    """The input of a name; one that is open already as it is.

    Raises:
        InputError: If nothing is there, it may not be read, or is damaged gzip data.
    """
    if isinstance(named, Input):
        return named
    path = require_path(Path(named))
    with _translate_path_errors(path):
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            _require_access(path)
            return Input(path)
        with path.open("rb") as file:
            if stat.S_ISREG(mode) and file.read(len(GZIP)) != GZIP:
                return Input(path)
            file.seek(0) if stat.S_ISREG(mode) else None
            return Input(path, _text_of(file, path))


def open_arguments(ground_truth: Named, detections: Named | None) -> tuple[Input, Input | None]:
    """The inputs that a command line names; `-` is standard input.

    Raises:
        InputError: See `open_input`; also if both are standard input.
    """
    if str(ground_truth) == str(detections) == str(STANDARD_INPUT):
        raise InputError("ground truth and detections cannot both be standard input")
    truth = _open_argument(ground_truth)
    return truth, None if detections is None else _open_argument(detections)


def is_listing(path: Path) -> bool:
    """Whether something that is no folder is there, such as a list of images; it is not opened."""
    try:
        return not path.is_dir() and path.exists()
    except (OSError, ValueError):
        return False


def files_in(folder: Path, *patterns: str) -> list[Path]:
    """The entries of a folder that match one of the patterns; none where there is no folder.

    Raises:
        InputError: If it may not be looked into.
    """
    with _translate_path_errors(folder):
        if not folder.is_dir():
            return []
        _require_access(folder)
        return sorted(file for pattern in patterns for file in folder.glob(pattern))


@contextmanager
def translate_errors(path: Path) -> Iterator[None]:
    """Raises what goes wrong with a file within, or with its content, as an `InputError`.

    Args:
        path: The file or folder, for errors that do not name one.
    """
    try:
        yield
    except InputError:
        raise
    except OSError as error:
        file = path if error.filename is None else os.fsdecode(error.filename)
        raise InputError(describe_os_error(error), file) from None
    except ValueError as error:
        where = getattr(error, "where", None)  # the readers in kernels say where
        if where is None:
            raise
        message, file = getattr(error, "message", str(error)), getattr(error, "path", "")
        raise InputError(message, file or path, where) from None


@contextmanager
def _translate_path_errors(path: Path) -> Iterator[None]:
    """As `translate_errors`; also for what cannot be a path, or is closed."""
    try:
        with translate_errors(path):
            yield
    except InputError:
        raise
    except ValueError as error:
        raise InputError(describe_os_error(error), path) from None


def _require_access(folder: Path) -> None:
    if not os.access(folder, os.R_OK | os.X_OK):
        raise InputError("permission denied", folder)


def _open_argument(named: Named) -> Input:
    if named != STANDARD_INPUT and named != str(STANDARD_INPUT):
        return open_input(named)
    if sys.stdin is None:
        raise InputError("standard input is closed", STANDARD_INPUT)
    with _translate_path_errors(STANDARD_INPUT):
        return Input(STANDARD_INPUT, _text_of(sys.stdin.buffer, STANDARD_INPUT))


def _text_of(file: BinaryIO, path: Path) -> bytes:
    """All that is to be read, decompressed where it is compressed."""
    data = _all_of(file, path)
    if not data.startswith(GZIP):
        return data
    import gzip  # only where it is needed: with its own imports it takes megabytes
    import zlib

    try:
        return _all_of(gzip.GzipFile(fileobj=io.BytesIO(data)), path)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        what = "cut short" if isinstance(error, EOFError) else str(error)
        raise InputError(f"damaged gzip data: {what}", path) from None


def _all_of(file: "BinaryIO | gzip.GzipFile", path: Path) -> bytes:
    """All that is to be read, if this machine's memory can hold it."""
    limit = _physical_memory()
    whole = io.BytesIO()
    try:
        while block := file.read(BLOCK):
            whole.write(block)
            if whole.tell() > limit:
                raise MemoryError
        return whole.getvalue()
    except MemoryError:
        size = whole.tell()
        whole.close()
        raise InputError(f"too large for memory: {size >> 20} MiB and more", path) from None


def _physical_memory() -> int:
    """Bytes."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # not a Unix
        return sys.maxsize
