"""`python -m kernels` prints each operation's implementations and which of them are built here."""

import importlib
import shutil

from kernels import OPERATIONS


def main() -> None:
    """Prints a line for each implementation of each operation."""
    for operation in OPERATIONS:
        module = importlib.import_module(f"kernels.{operation}")
        for name, function in module.IMPLEMENTATIONS.items():
            state = "available" if function is not None else f"not built: {_reason()}"
            print(f"{operation:<14}{name:<12}{state}")


def _reason() -> str:
    compiler = shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        return "no C++ compiler was found; install one and repeat `pip install -e .`"
    return f"there is a compiler ({compiler}); repeat `pip install -v -e .` and read its output"


if __name__ == "__main__":
    main()
