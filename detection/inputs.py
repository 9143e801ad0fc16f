"""Inputs: a folder, a file, or a stream that can be read only once.

Pipes (a named one, a shell's `<(...)`, /dev/stdin) and standard input are read whole when they are
opened; files that gzip compressed, recognized by their first bytes, are decompressed then.
"""

import io
import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Literal, overload

from upmap.errors import InputError
from upmap.files import (
    BOM,
    decode_text,
    describe_os_error,
    first_character,
    is_file,
    read_text,
    require_path,
)
from upmap.kernels import FormatError

if TYPE_CHECKING:
    import gzip

    from upmap.kernels.coco_json import Reading

__all__ = [
    "STANDARD_INPUT",
    "Input",
    "Named",
    "Source",
    "files_in",
    "has_files",
    "is_listing",
    "open_arguments",
    "open_input",
    "start_reading",
    "translate_errors",
]

STANDARD_INPUT = Path("-")  # on a command line
GZIP = b"\x1f\x8b\x08"  # the first bytes of what gzip writes: its magic number, and deflate
BLOCK = 2**20  # bytes read at a time


@dataclass(frozen=True, slots=True, eq=False)
class Input:
    """A folder, or a file of text.

    Attributes:
        path: As it was named.
        data: The text's bytes for a pipe, standard input and a compressed file, which cannot be
            read from `path` again as they are. None for other files and for folders.
        reading: What reads the file in the background; None if nothing does.
    """

    path: Path
    data: bytes | None = None
    reading: "Reading | None" = None

    def __str__(self) -> str:
        """The path."""
        return str(self.path)

    @property
    def content(self) -> "Path | bytes | Reading":
        """What the readers of COCO JSON in kernels take."""
        return self.reading or (self.path if self.data is None else self.data)

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

    def first_line(self) -> str:
        """The first line with anything on it, cut at 4 kB; empty if it is not UTF-8 text.

        Raises:
            InputError: If the file cannot be read.
        """
        if self.data is None:
            with translate_errors(self.path), self.path.open("rb") as file:
                beginning = file.read(4096)
        else:
            beginning = self.data[:4096]
        text = beginning.removeprefix(BOM).decode("utf-8", "ignore").lstrip()
        return text.split("\n", 1)[0]

    def text(self) -> str:
        """The text, without a byte order mark.

        Raises:
            InputError: If the file cannot be read or is not UTF-8; names the line.
        """
        if self.data is None:
            return read_text(self.path)
        return decode_text(self.data.removeprefix(BOM), self.path)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Source(Input):
    """An input with its format and image set; `formats.open_sources` determines both.

    Attributes:
        format: The name of its format.
        image_set: The name of an image set, or a file that lists image ids; None for all images.
    """

    format: str
    image_set: str | None


Named = str | Path | Input


def open_input(named: Named) -> Input:
    """Opens a file or folder; returns an `Input` as it is.

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
            if stat.S_ISREG(mode):
                if file.read(len(GZIP)) != GZIP:
                    return Input(path)
                file.seek(0)
            return Input(path, _read_and_decompress(file, path))


@overload
def open_arguments(ground_truth: Named, detections: Named) -> tuple[Input, Input]: ...
@overload
def open_arguments(ground_truth: Named, detections: None) -> tuple[Input, None]: ...
@overload
def open_arguments(ground_truth: Named, detections: Named | None) -> tuple[Input, Input | None]: ...


def open_arguments(ground_truth: Named, detections: Named | None) -> tuple[Input, Input | None]:
    """Opens the inputs that a command line names; `-` is standard input.

    Raises:
        InputError: See `open_input`; also if both are standard input.
    """
    if str(ground_truth) == str(detections) == str(STANDARD_INPUT):
        raise InputError("ground truth and detections cannot both be standard input")
    truth = _open_argument(ground_truth)
    return truth, None if detections is None else _open_argument(detections)


def start_reading(named: Input, kind: Literal["instances", "results"], *, threads: int) -> Input:
    """The input, which is read in the background from now on if it looks like COCO JSON.

    Nothing that it needs imports numpy.

    Args:
        named: An input.
        kind: What would be read of it.
        threads: Maximum number of threads; 0 uses all cores.
    """
    beginning = b"{" if kind == "instances" else b"["
    if named.data is not None or named.is_folder() or named.first_character() != beginning:
        return named
    from upmap.kernels import coco_json

    return replace(named, reading=coco_json.start_reading(kind, named.path, threads=threads))


def is_listing(path: Path) -> bool:
    """Whether `path` exists and is not a folder, as a list of images; it is not opened."""
    try:
        return not path.is_dir() and path.exists()
    except (OSError, ValueError):
        return False


def files_in(folder: Path, *patterns: str) -> list[Path]:
    """The entries of a folder that match one of the patterns, sorted; none without a folder.

    Raises:
        InputError: If the folder may not be read.
    """
    with _translate_path_errors(folder):
        if not folder.is_dir():
            return []
        _require_access(folder)
        return sorted(file for pattern in patterns for file in folder.glob(pattern))


def has_files(folder: Path, pattern: str) -> bool:
    """Whether `files_in` has entries, known from the first one.

    Raises:
        InputError: If the folder may not be read.
    """
    with _translate_path_errors(folder):
        if not folder.is_dir():
            return False
        _require_access(folder)
        return next(folder.glob(pattern), None) is not None


@contextmanager
def translate_errors(path: Path) -> Iterator[None]:
    """Raises the errors of files, and those of kernels about their content, as `InputError`.

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
    except FormatError as error:
        raise InputError(error.message, error.path or path, error.where) from None


@contextmanager
def _translate_path_errors(path: Path) -> Iterator[None]:
    """As `translate_errors`, also for a text that cannot be a path and for a closed stream."""
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
        return Input(STANDARD_INPUT, _read_and_decompress(sys.stdin.buffer, STANDARD_INPUT))


def _read_and_decompress(file: BinaryIO, path: Path) -> bytes:
    """Reads a stream to its end; decompresses it if gzip compressed it."""
    data = _read_all(file, path)
    if not data.startswith(GZIP):
        return data
    import gzip  # only where it is needed: with its own imports it takes megabytes
    import zlib

    try:
        return _read_all(gzip.GzipFile(fileobj=io.BytesIO(data)), path)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        what = "cut short" if isinstance(error, EOFError) else str(error)
        raise InputError(f"damaged gzip data: {what}", path) from None


def _read_all(file: "BinaryIO | gzip.GzipFile", path: Path) -> bytes:
    """Reads a stream to its end, if that fits into memory."""
    # Linux grants more memory than there is: without a limit the process would be killed.
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
    """The size of this machine's memory in bytes."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # not a Unix
        return sys.maxsize
