"""Whole files: text that says where it is not UTF-8, and output that is all or nothing."""

import errno
import io
import os
import re
import stat
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, TypeVar

from upmap.errors import InputError

__all__ = [
    "check_folder",
    "check_new_folder",
    "check_outputs",
    "create_file",
    "create_folder",
    "decode_text",
    "describe_os_error",
    "first_character",
    "is_file",
    "is_stdout",
    "list_folder",
    "make_folder",
    "read_bytes",
    "read_text",
    "remove_leftovers",
    "require_path",
    "write_bytes",
]

BOM = b"\xef\xbb\xbf"
STANDARD = Path("-")  # standard output, or standard input
MOST_LINKS = 40  # one behind the other, as Linux has it
DEVICE_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EPIPE)  # not of a name
Item = TypeVar("Item")

_unfinished: list[Path] = []  # the hidden files and folders of blocks that have not ended


def require_path(path: Path) -> Path:
    """`path`, where a file or folder is.

    Raises:
        InputError: If nothing is there, or it may not be looked at.
    """
    try:
        path.stat()
    except (OSError, ValueError) as error:
        raise InputError(describe_os_error(error), path) from None
    return path


def is_file(path: Path) -> bool:
    """Whether `path` is a file; False also for what cannot be a path.

    Raises:
        InputError: If it may not be looked at.
    """
    try:
        return path.is_file()
    except PermissionError as error:
        raise InputError(describe_os_error(error), path) from None
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
        raise InputError(describe_os_error(error), path) from None


def read_bytes(path: Path) -> bytes:
    """The bytes of a file, without a UTF-8 byte order mark.

    Raises:
        InputError: If the file cannot be read.
    """
    try:
        return path.read_bytes().removeprefix(BOM)
    except OSError as error:
        raise InputError(describe_os_error(error), path) from None


def read_text(path: Path) -> str:
    """The text of a UTF-8 file, without a byte order mark.

    Raises:
        InputError: If the file cannot be read or is not UTF-8; names the line.
    """
    return decode_text(read_bytes(path), path)


def decode_text(data: bytes, path: Path) -> str:
    """The text of a file's bytes.

    Raises:
        InputError: If they are not UTF-8; names the line.
    """
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        message = f"byte 0x{data[error.start]:02x} is not UTF-8 text"
        raise InputError(message, path, str(line)) from None


def describe_os_error(error: OSError | ValueError) -> str:
    """What went wrong with a file, in a user's words."""
    if isinstance(error, FileNotFoundError):
        return "no such file or folder"
    words = error.strerror if isinstance(error, OSError) else None
    return (words or str(error)).lower()


@contextmanager
def create_file(path: Path) -> Iterator[Path]:
    """A path to write to, which takes the place of `path` when the block succeeds.

    Links are followed: the file that they lead to is replaced, and keeps its owner and mode. A new
    file's mode is what the umask leaves of 0666. Another hard link of a replaced file keeps the old
    content. What is no regular file (a device, a pipe, /dev/stdout) is written through, and so is
    standard output, which `-` stands for.

    Raises:
        InputError: If `path` is a folder, or nothing can be written there.
        OSError: If the device fails, as a full disk does; names `path`.
    """
    import tempfile

    through = _is_written_through(path)
    with _translate_os_error("cannot be written", path):
        target = None if through else _file_behind(path)
        folder = target.parent if target else Path(tempfile.gettempdir())
    beside = _beside(folder, path)
    with _remove_at_end(beside):
        with _translate_os_error("cannot be written", path):
            _create(beside, target)
        with _rename_in_errors(beside, path):
            yield beside
            if target:
                beside.replace(target)
        if through:
            import shutil  # here and below: its import takes milliseconds, and few need it

            with beside.open("rb") as source, _stream(path) as stream:
                shutil.copyfileobj(source, stream)


def write_bytes(path: Path, data: bytes) -> None:
    """Writes a whole file as `create_file` does; what is written through needs no room on a disk.

    Raises:
        InputError: See `create_file`.
        OSError: See `create_file`.
    """
    if _is_written_through(path):
        with _stream(path) as stream:
            stream.write(data)
        return
    with create_file(path) as beside:
        beside.write_bytes(data)


@contextmanager
def create_folder(path: Path) -> Iterator[Path]:
    """A folder to write to, which becomes `path` when the block succeeds.

    Links are followed. A new folder's mode is what the umask leaves of 0777, that of an empty one
    is kept.

    Raises:
        InputError: If `path` exists and is not an empty folder, or cannot be made.
        OSError: If the device fails, as a full disk does; names a file in `path`.
    """
    check_new_folder(path)
    target = Path(os.path.realpath(path))
    beside = _beside(target.parent, path)
    with _make_folders(target.parent, path), _remove_at_end(beside):
        with _translate_os_error("cannot be made", path):
            beside.mkdir()
            if target.exists():
                beside.chmod(stat.S_IMODE(target.stat().st_mode))
        with _rename_in_errors(beside, path):
            yield beside
            beside.replace(target)


def make_folder(path: Path) -> None:
    """Makes a folder and those above it, as far as they are missing.

    Raises:
        InputError: If it cannot be made.
    """
    with _translate_os_error("cannot be made", path):
        path.mkdir(parents=True, exist_ok=True)


def list_folder(path: Path) -> list[Path]:
    """The files and folders in a folder, in order of their names.

    Raises:
        InputError: If the folder cannot be read.
    """
    try:
        return sorted(path.iterdir())
    except OSError as error:
        raise InputError(describe_os_error(error), path) from None


def check_new_folder(path: Path) -> None:
    """Refuses, before the work, what `create_folder` would refuse after it.

    Raises:
        InputError: If `path` exists and is not an empty folder, or cannot be made.
    """
    with _translate_os_error("cannot be made", path):
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise InputError("exists already; name a new folder", path)
        _try_to_make(Path(os.path.realpath(path)).parent)


def check_folder(path: Path) -> None:
    """Refuses, before the work, a folder that files cannot be written to, or that cannot be made.

    Raises:
        InputError: If so.
    """
    with _translate_os_error("cannot be written to", path):
        _try_to_make(Path(os.path.realpath(path)))


def check_outputs(
    outputs: Mapping[str, Path], inputs: Iterable[Path], own: tuple[bytes, ...] = ()
) -> None:
    """Refuses, before the work, outputs that would destroy something or cannot be written.

    Args:
        outputs: What each file is called in messages, such as "--json", and the file.
        inputs: The files and folders that are read.
        own: How the reports of this program begin: an earlier one may lie in a folder of inputs.

    Raises:
        InputError: If an output is an input, or in a folder of inputs; is another output, also by
            another name or through links; or cannot be written.
    """
    names = _standard_output()
    read = list(inputs)
    for name, path in outputs.items():
        with _translate_os_error("cannot be written", path):
            same = names.setdefault(_identity(path), name)
            if same != name:
                raise InputError(f"{name} and {same} are the same file", path)
            if any(_is_in(source, path, own) for source in read):
                raise InputError(f"{name} would overwrite an input", path)
            if _is_written_through(path):
                _check_stream(path)
            else:
                _try_to_write_in(_file_behind(path).parent)


def is_stdout(path: Path) -> bool:
    """Whether `path` is standard output: `-`, /dev/stdout, /proc/self/fd/1."""
    return path == STANDARD or _descriptor(path) == 1


def remove_leftovers() -> None:
    """Removes what blocks of `create_file` and `create_folder` left that a signal ended halfway."""
    while _unfinished:
        _remove(_unfinished[-1])


def _standard_output() -> dict[object, str]:
    """What is written to standard output if it is a regular file, for `check_outputs`."""
    try:
        status = os.fstat(1)
    except OSError:
        return {}
    is_file = stat.S_ISREG(status.st_mode)
    return {(status.st_dev, status.st_ino): "standard output"} if is_file else {}


def _identity(path: Path) -> object:
    """What two names of one file have in common, also where there is no file yet."""
    if is_stdout(path):
        return STANDARD
    try:
        status = path.stat()
    except FileNotFoundError:
        return os.path.realpath(path)
    return status.st_dev, status.st_ino


def _is_in(source: Path, path: Path, own: tuple[bytes, ...]) -> bool:
    """Whether the file `path` is `source`, or a file in the folder `source` but no own report."""
    if is_stdout(path) or not path.exists():
        return False
    status = path.stat()
    try:
        read = os.fstat(0) if source == STANDARD else source.stat()
    except OSError:
        return False  # reading will say so
    if os.path.samestat(read, status):
        return not stat.S_ISCHR(status.st_mode)  # a terminal may be read and written
    if not stat.S_ISDIR(read.st_mode) or not stat.S_ISREG(status.st_mode):
        return False
    with path.open("rb") as file:
        is_own = bool(own) and file.read(64).startswith(own)
    return not is_own and any(os.path.samestat(status, other) for other in _files_in(source))


def _files_in(folder: Path) -> Iterator[os.stat_result]:
    """The status of every file in a folder and those in it, links followed, each folder once."""
    seen = set()
    for root, folders, files in os.walk(folder, followlinks=True):
        status = Path(root).stat()
        if (status.st_dev, status.st_ino) in seen:
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        for name in files:
            with suppress(OSError):
                yield Path(root, name).stat()


def _is_written_through(path: Path) -> bool:
    """Whether `path` is standard output, an open descriptor, a device, a pipe or a socket."""
    if path == STANDARD or _descriptor(path) is not None:
        return True
    try:
        mode = path.stat().st_mode
    except OSError:
        return False
    return not stat.S_ISREG(mode) and not stat.S_ISDIR(mode)


def _descriptor(path: Path) -> int | None:
    """The number of this process's open file that `path` leads to, as /dev/stdout leads to 1.

    Such a link cannot be resolved by name: it may lead to a file that has none any more.
    """
    own = re.compile(rf"/dev/fd|/proc/{os.getpid()}(/task/\d+)?/fd")
    for _ in range(MOST_LINKS):
        folder = os.path.realpath(path.parent)
        if own.fullmatch(folder) and path.name.isdecimal():
            return int(path.name)
        try:
            path = Path(folder, path.readlink())
        except (OSError, ValueError):
            return None
    return None


@contextmanager
def _stream(path: Path) -> Iterator[BinaryIO]:
    """What is to be written through, open for writing; an open file is written to where it stands.

    Raises:
        InputError: If it cannot be opened.
        OSError: If it cannot be written to; names `path` unless it is standard output.
    """
    if is_stdout(path):
        yield from _standard_stream()
        return
    with _translate_os_error("cannot be written", path):
        number = _descriptor(path)
        handle = os.open(path, os.O_WRONLY) if number is None else os.dup(number)
    with _rename_in_errors(path, path), os.fdopen(handle, "wb") as stream:
        yield stream


def _check_stream(path: Path) -> None:
    """Whether `_stream` can open it, as far as can be seen without opening it.

    Raises:
        OSError: If not.
    """
    number = _descriptor(path)
    if number is not None:
        os.fstat(number)
    elif path != STANDARD and not os.access(path, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))


def _standard_stream() -> Iterator[BinaryIO]:
    sys.stdout.flush()
    if hasattr(sys.stdout, "buffer"):
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
    else:  # a notebook's
        stream = io.BytesIO()
        yield stream
        sys.stdout.write(stream.getvalue().decode("utf-8", "backslashreplace"))


def _file_behind(path: Path) -> Path:
    """The regular file that `path` leads to, which need not exist yet.

    Raises:
        OSError: If it is a folder, may not be written, or its folder is missing.
    """
    target = Path(os.path.realpath(path))
    target.parent.stat()
    try:
        mode = target.stat().st_mode
    except FileNotFoundError:
        return target
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not os.access(target, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    return target


def _try_to_make(folder: Path) -> None:
    """Tries to write in `folder`, or where it would be made."""
    _try_to_write_in(next(place for place in (folder, *folder.parents) if place.exists()))


def _try_to_write_in(folder: Path) -> None:
    """Makes and removes a file, because permissions do not tell all (a read-only file system)."""
    trial = _beside(folder, Path("trial"))
    with _remove_at_end(trial):
        _create(trial, None)


def _beside(folder: Path, path: Path) -> Path:
    """A hidden name in `folder` that nothing has; by chance alone once in 2^64."""
    return folder / f".{path.name[:40]}.{os.urandom(8).hex()}"


def _create(beside: Path, target: Path | None) -> None:
    """Makes an empty file with the mode and owner of `target`, before anything is written to it."""
    old = target.stat() if target and target.exists() else None
    is_private = old is not None or target is None
    handle = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600 if is_private else 0o666)
    try:
        if old is not None:
            if (old.st_uid, old.st_gid) != (os.geteuid(), os.getegid()):
                with suppress(OSError):
                    os.fchown(handle, old.st_uid, old.st_gid)
            os.fchmod(handle, old.st_mode & 0o777)
    finally:
        os.close(handle)


@contextmanager
def _remove_at_end(path: Path) -> Iterator[None]:
    """Removes a hidden file or folder at the end, wherever a signal ends the block."""
    _unfinished.append(path)
    try:
        yield
    finally:
        _remove(path)


def _remove(path: Path) -> None:
    if path.is_dir():
        import shutil

        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()
    with suppress(ValueError):
        _unfinished.remove(path)


@contextmanager
def _make_folders(folder: Path, path: Path) -> Iterator[None]:
    """Makes the missing folders down to `folder`; removes those of them that stay empty."""
    missing = [place for place in (folder, *folder.parents) if not place.exists()]
    try:
        with _translate_os_error("cannot be made", path):
            folder.mkdir(parents=True, exist_ok=True)
        yield
    finally:
        for place in missing:
            with suppress(OSError):
                place.rmdir()


@contextmanager
def _translate_os_error(what: str, path: Path) -> Iterator[None]:
    """Makes an OSError the InputError that says what could not be done, under the user's name."""
    try:
        yield
    except OSError as error:
        raise InputError(f"{what}: {describe_os_error(error)}", path) from None


@contextmanager
def _rename_in_errors(beside: Path, path: Path) -> Iterator[None]:
    """Lets errors of a block that writes to `beside`, or in it, speak of `path`."""
    try:
        yield
    except InputError as error:
        raise InputError(str(error).replace(str(beside), str(path))) from None
    except OSError as error:
        name = str(beside if error.filename is None else os.fsdecode(error.filename))
        if not name.startswith(str(beside)):
            raise
        name = name.replace(str(beside), str(path))
        if error.errno in DEVICE_ERRORS:
            raise OSError(error.errno, error.strerror, name) from None
        raise InputError(f"cannot be written: {describe_os_error(error)}", name) from None
