"""`python -m kernels` prints each operation's implementations and which this machine has."""

import importlib
import os
import shutil
import sys

from kernels import LOAD_ERRORS, OPERATIONS


def main() -> None:
    """Prints a line for each implementation of each operation."""
    for operation in OPERATIONS:
        for name, state in _states(operation).items():
            print(f"{operation:<14}{name:<12}{state}")


def _states(operation: str) -> dict[str, str]:
    """Implementation to whether it is available, and if not, why."""
    try:
        module = importlib.import_module(f"kernels.{operation}")
    except ModuleNotFoundError as error:
        reason = f'{error.name} is not installed; `pip install -e ".[segmentation]"` brings it'
        return {"all": f"not available: {reason}"}
    reasons = dict(getattr(module, "REASONS", {}))
    if operation in LOAD_ERRORS:
        reasons["native"] = f"it is built but cannot be loaded: {LOAD_ERRORS[operation]}"
    return {
        name: "available"
        if found is not None
        else f"not available: {reasons.get(name) or _unbuilt()}"
        for name, found in module.IMPLEMENTATIONS.items()
    }


def _unbuilt() -> str:
    compiler = shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        return "no C++ compiler was found; install one and repeat `pip install -e .`"
    return f"there is a compiler ({compiler}); repeat `pip install -v -e .` and read its output"


def _run() -> int:
    """Runs the program; returns 74 if stdout cannot be written to, else 0."""
    if sys.stdout is None:
        print("error: standard output is closed", file=sys.stderr)
        return 74  # EX_IOERR of sysexits.h
    try:
        main()
        sys.stdout.flush()
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):  # a reader, such as head, has seen enough
            print(f"error: standard output: {error.strerror}", file=sys.stderr)
            return 74
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(_run())
