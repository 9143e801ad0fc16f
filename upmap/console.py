"""The plumbing that the command lines share: options, warnings as lines, and how programs end."""

import argparse
import contextlib
import gc
import io
import os
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator
from types import FrameType
from typing import Any, NoReturn
from weakref import WeakKeyDictionary

from upmap.errors import ImplementationError, InputError, InputWarning, as_line, printable
from upmap.files import describe_os_error, remove_leftovers

__all__ = [
    "Parser",
    "collect_notes",
    "describe_command",
    "describe_later",
    "run",
    "run_process",
    "suggest",
]

FAILED = 1  # what a program's manual says: its verdict on good input
MISUSED = 2
BUG = 70  # this and the next two as in sysexits.h
OUT_OF_MEMORY = 71
IO_FAILED = 74
INTERRUPTED = 130  # 128 + SIGINT, as shells have it
TERMINATED = 143  # 128 + SIGTERM
STATUSES = """\
also, of every program: 70 a bug, please report it; 71 out of memory; 74 reading or writing failed,
as on a full disk; 130 interrupted (Ctrl-C); 143 terminated. Errors are one line on stderr."""
MAX_NAME = 80  # characters of an unknown word that are compared with known ones
DEBUG = "UPMAP_DEBUG"  # the environment variable that stands in for --debug

_flags: set[str] = set()  # "debug", once it stood on the command line
_descriptions: WeakKeyDictionary[argparse.Action, Callable[[], str]] = WeakKeyDictionary()


class _Layout(argparse.RawDescriptionHelpFormatter):
    """Lines as they are written, as wide as the terminal.

    argparse makes one for every flag, and for its width would import shutil, which takes as long
    as all else that a parser does.
    """

    def __init__(self, prog: str) -> None:
        super().__init__(prog, width=_terminal_width() - 2)

    def _split_lines(self, text: str, width: int) -> list[str]:
        import textwrap

        # A name such as label-studio stays whole.
        return textwrap.wrap(" ".join(text.split()), width, break_on_hyphens=False)


def _terminal_width() -> int:
    """Columns, as shutil.get_terminal_size finds them."""
    columns = os.environ.get("COLUMNS", "")
    if columns.isdecimal() and int(columns):
        return int(columns)
    try:
        return os.get_terminal_size(sys.__stdout__.fileno()).columns or 80  # type: ignore[union-attr]
    except (AttributeError, ValueError, OSError):
        return 80


class Parser(argparse.ArgumentParser):
    """A parser whose manual keeps its lines, with the option --debug that all programs have."""

    def __init__(self, **settings: Any) -> None:
        """See argparse.ArgumentParser; `epilog` is followed by the statuses of all programs."""
        settings["epilog"] = "\n".join(filter(None, (settings.get("epilog"), STATUSES)))
        super().__init__(formatter_class=_Layout, allow_abbrev=False, **settings)
        self.add_argument("--debug", action=_Debug, nargs=0, help="show where an error comes from")

    def format_help(self) -> str:
        """The manual; what `describe_later` put off is asked for now."""
        for action in self._actions:
            if describe := _descriptions.get(action):
                action.help = describe().replace("%", "%%")
        return super().format_help()

    def error(self, message: str) -> Any:
        """Ends the program with status 2, the usage, and one line that a terminal can show."""
        super().error(as_line(message))


def describe_later(action: argparse.Action, describe: Callable[[], str]) -> None:
    """Lets a `Parser` ask for the help of a flag when the manual is printed: it may import much."""
    _descriptions[action] = describe


class _Debug(argparse.Action):
    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings | {"dest": argparse.SUPPRESS, "default": argparse.SUPPRESS})

    def __call__(self, *_: Any) -> None:
        _flags.add("debug")


def describe_command(module: str, *, subcommand: str | None = None) -> str:
    """How the program in a module is started, as this process was: for usages and examples.

    Args:
        module: Its whole name, such as "upmap.metrics.evaluate".
        subcommand: Its name after `upmap`; None for the last part of the module's.

    >>> describe_command("upmap.metrics.evaluate")
    'upmap evaluate'
    """
    main = getattr(sys.modules.get("__main__"), "__spec__", None)  # None without `python -m`
    started = "" if main is None else main.name.removesuffix(".__main__")
    if started in (module, module.removeprefix("upmap.")):
        return f"python -m {started}"
    subcommand = subcommand or module.rpartition(".")[2]
    return f"python -m upmap {subcommand}" if started == "upmap" else f"upmap {subcommand}"


def suggest(word: str, known: Iterable[str]) -> str:
    """What an error about an unknown word ends with: the known words like it, if there are any.

    >>> suggest("evalaute", ["evaluate", "export"]), suggest("x", ["evaluate"])
    ('; did you mean evaluate?', '')
    """
    from difflib import get_close_matches

    names = {name.lstrip("-"): name for name in known}
    near = get_close_matches(word.partition("=")[0].lstrip("-")[:MAX_NAME], names, n=2)
    return f"; did you mean {' or '.join(names[name] for name in near)}?" if near else ""


def run(
    program: Callable[[], int | None], failures: type[Exception] | tuple[type[Exception], ...] = ()
) -> int:
    """The exit status of `program`, having called it.

    Each `InputWarning` becomes a line `warning: ...` on stderr as it comes; other warnings are left
    as they are. An error becomes one line `error: ...`; only under --debug, or with UPMAP_DEBUG in
    the environment, is it preceded by a traceback. A reader of stdout that has gone away (`| head`)
    is no error. No hidden file is left, also not by SIGTERM.

    Args:
        program: What to call; it may return a status, and None is 0.
        failures: Errors that are a verdict on good input, as the program's manual says.

    Returns:
        The program's own; 1 after one of `failures`; 2 after an `InputError`; 70 after a bug; 71
        out of memory; 74 when reading or writing failed; 130 on Ctrl-C; 143 on SIGTERM.
    """
    try:
        with _streams(), _warnings_as_lines(), _termination():
            return _status(program, failures)
    except _Terminated:
        return TERMINATED
    except KeyboardInterrupt:
        return INTERRUPTED
    finally:
        _flags.clear()


def run_process(main: Callable[[], int]) -> NoReturn:
    """Runs a short program as the whole process, and ends the process with the status of `main`.

    numpy starts no threads for linear algebra, garbage is not collected, and memory is left to the
    system, as mypy does (`util.hard_exit`): that saves a fifth of a small evaluation. Not for
    programs that leave threads or child processes behind, register functions for the end, or
    multiply matrices.
    """
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    gc.disable()
    status = main()
    for stream in filter(None, (sys.stdout, sys.stderr)):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(status)


def _status(
    program: Callable[[], int | None], failures: type[Exception] | tuple[type[Exception], ...]
) -> int:
    if sys.stdout is None:
        return _report_end(IO_FAILED, "standard output is closed")
    try:
        status = _call(program)
        sys.stdout.flush()
        return status or 0
    except (InputError, ImplementationError) as error:
        return _report_end(MISUSED, str(error))
    except failures as error:
        return _report_end(FAILED, str(error))
    except OSError as error:
        return _report_io_error(error)
    except Exception as error:
        if _is_out_of_memory(error):
            return _report_end(OUT_OF_MEMORY, "out of memory")
        what = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        request = "this is a bug; please report it, with what --debug prints"
        return _report_end(BUG, f"{request} ({what})")


def _call(program: Callable[[], int | None]) -> int | None:
    try:
        return program()
    except SystemExit:  # of --help, which has printed
        sys.stdout.flush()
        raise


def _is_out_of_memory(error: Exception) -> bool:
    """Whether memory or threads ran out; torch has errors of its own for that."""
    names = ("OutOfMemoryError", "can't allocate memory", "can't start new thread")
    text = f"{type(error).__name__}: {error}"
    return isinstance(error, MemoryError) or any(name in text for name in names)


def _report_io_error(error: OSError) -> int:
    """The status after an OSError that no reader or writer of ours has made an InputError."""
    if error.filename is not None:
        return _report_end(IO_FAILED, f"{os.fsdecode(error.filename)}: {describe_os_error(error)}")
    try:
        sys.stdout.flush()
    except OSError:
        # What is still buffered would fail again when Python flushes stdout at exit.
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):
            return 0
        return _report_end(IO_FAILED, f"standard output: {describe_os_error(error)}")
    if isinstance(error, BrokenPipeError):
        return 0
    return _report_end(IO_FAILED, f"reading or writing failed: {describe_os_error(error)}")


def _report_end(status: int, message: str) -> int:
    """The status, having printed the error that is being handled."""
    if (_flags or os.environ.get(DEBUG)) and sys.exc_info()[0] is not None:
        for line in traceback.format_exc().splitlines():
            print(printable(line), file=sys.stderr)
    _print_line("error", message)
    return status


def _print_line(kind: str, message: str) -> None:
    with contextlib.suppress(OSError):  # a full disk under stderr as well
        print(f"{kind}: {as_line(message)}", file=sys.stderr)


@contextlib.contextmanager
def _streams() -> Iterator[None]:
    """Characters that stdout's encoding lacks are escaped, and a closed stderr is /dev/null."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    if sys.stderr is not None:
        yield
        return
    with open(os.devnull, "w") as sys.stderr:  # noqa: PTH123 - takes the free descriptor 2
        try:
            yield
        finally:
            sys.stderr = None


@contextlib.contextmanager
def _warnings_as_lines() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("always", InputWarning)
        show = warnings.showwarning

        def line(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> None:
            if issubclass(category, InputWarning):
                _print_line("warning", str(message))
            else:
                show(message, category, *place, **more)

        warnings.showwarning = line
        yield


@contextlib.contextmanager
def collect_notes(*, strict: bool = False) -> Iterator[list[InputWarning]]:
    """The warnings about input that come meanwhile, which are also shown.

    Args:
        strict: Whether the first is an error.

    Raises:
        InputError: If `strict`, in place of a warning.
    """
    notes: list[InputWarning] = []
    with warnings.catch_warnings():
        warnings.simplefilter("error" if strict else "always", InputWarning)
        show = warnings.showwarning

        def collect(message: Warning | str, *place: Any, **more: Any) -> None:
            if isinstance(message, InputWarning):
                notes.append(message)
            show(message, *place, **more)

        warnings.showwarning = collect
        try:
            yield notes
        except InputWarning as note:
            raise InputError(str(note)) from None


class _Terminated(BaseException):
    """SIGTERM: like KeyboardInterrupt, it ends what is being done, and files are cleaned up."""


@contextlib.contextmanager
def _termination() -> Iterator[None]:
    """SIGTERM raises `_Terminated` where nobody else has a use for it; hidden files are removed."""
    is_ours = (
        threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    )
    if is_ours:
        signal.signal(signal.SIGTERM, _terminate)
    try:
        yield
    finally:
        if is_ours:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a second one shall not stop this
        remove_leftovers()
        if is_ours:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _terminate(number: int, frame: FrameType | None) -> None:
    raise _Terminated
