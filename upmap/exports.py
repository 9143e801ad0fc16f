"""Public names of a package, imported when they are first used.

A program that needs one module of a package does not pay for the others: `import upmap` loads no
numpy.
"""

from collections.abc import Sequence
from importlib import import_module
from typing import Any

__all__ = ["import_export"]


def import_export(package: str, name: str, modules: Sequence[str]) -> Any:
    """A public name of a package, from the first of `modules` that has it in its `__all__`.

    For the `__getattr__` of a package (PEP 562).

    Args:
        package: The name of the package.
        name: A name in its `__all__`.
        modules: Whole names of modules, those that import least first.

    Raises:
        AttributeError: If no module has it.
    """
    for module in map(import_module, modules):
        if name in module.__all__:
            return getattr(module, name)
    raise AttributeError(f"module {package!r} has no attribute {name!r}")
