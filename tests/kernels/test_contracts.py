"""Contracts of the kernels: who imports whom, and constants that exist once."""

import ast
from pathlib import Path

import pytest

from upmap.kernels import OPERATIONS

KERNELS = Path(__file__).resolve().parents[2] / "kernels"


def imported_names(file: Path) -> set[str]:
    """The full names of what a module imports at its top level."""
    tree = ast.parse(file.read_text("utf-8"))
    names = {a.name for node in tree.body if isinstance(node, ast.Import) for a in node.names}
    for node in tree.body:
        if isinstance(node, ast.ImportFrom):
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


@pytest.mark.parametrize("operation", OPERATIONS)
def test_the_reference_and_the_contract_import_nothing_from_the_dispatch(operation: str) -> None:
    folder = KERNELS / operation
    modules = {file.stem for file in folder.glob("*.py")}
    package = f"upmap.kernels.{operation}."
    for file in folder.glob("*.py"):
        if file.name == "__init__.py":
            continue
        names = {name.removeprefix(package) for name in imported_names(file) if package in name}
        strangers = {name for name in names if name.split(".")[0] not in modules | {"native"}}
        assert not strangers, f"{file.name} imports {strangers} of kernels.{operation}"
    contract = {name for name in imported_names(folder / "contract.py") if package in name}
    assert not contract, "a contract stands below the other modules of its operation"


def test_a_constant_of_the_kernels_has_its_value_in_one_file() -> None:
    files: dict[str, set[str]] = {}
    for file in KERNELS.rglob("*.py"):
        for node in ast.parse(file.read_text("utf-8")).body:
            if not isinstance(node, ast.Assign) or isinstance(node.value, ast.List):
                continue
            names = [name.id for name in ast.walk(node.targets[0]) if isinstance(name, ast.Name)]
            for name in names:
                if name.isupper():
                    files.setdefault(name, set()).add(str(file.relative_to(KERNELS)))
    repeated = {name: places for name, places in files.items() if len(places) > 1}
    assert not repeated
    assert files["FALSE_POSITIVE"] == {"matching/contract.py"}
