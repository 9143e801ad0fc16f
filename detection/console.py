"""The plumbing that the command lines share: warnings as lines, bad input as exit code 2."""

import contextlib
import os
import sys
import warnings
from collections.abc import Callable
from typing import Any

from detection.errors import InputError, InputWarning

__all__ = ["run"]

MISUSED = 2
INTERRUPTED = 130  # 128 + SIGINT, as shells have it


def run(program: Callable[[], None]) -> int:
    """The exit code of `program`, having called it.

    Each `InputWarning` becomes a line `warning: ...` on stderr as it comes; other warnings are left
    as they are. A reader of stdout that has gone away (`| head`) is no error.

    Returns:
        0, or 2 after an `InputError`, which becomes a line `error: ...` on stderr; 130 on Ctrl-C.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("always", InputWarning)
        show = warnings.showwarning

        def line(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> None:
            if issubclass(category, InputWarning):
                print(f"warning: {message}", file=sys.stderr)
            else:
                show(message, category, *place, **more)

        warnings.showwarning = line
        return _exit_code(program)


def _exit_code(program: Callable[[], None]) -> int:
    try:
        program()
        sys.stdout.flush()
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return MISUSED
    except BrokenPipeError:
        # What is still buffered would fail again when Python flushes stdout at exit.
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except KeyboardInterrupt:
        return INTERRUPTED
    return 0
