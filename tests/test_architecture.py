"""The structure of the project: light imports, public names, this checkout, native kernels."""

import ast
import doctest
import importlib
import os
import pkgutil
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import upmap
from upmap.kernels import OPERATIONS

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("data", "detection", "kernels", "metrics", "segmentation")
HEAVY = {"torch", "torchvision", "cv2", "matplotlib", "pycocotools", "pandas", "scipy"}
MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages([str(ROOT / "upmap")], "upmap.")
    if not module.name.endswith(".native")
)
NATIVE = {
    name: getattr(importlib.import_module(f"upmap.kernels.{name}"), "native", None)
    for name in OPERATIONS
}


def loaded_by(statement: str) -> set[str]:
    """The top-level modules that a fresh interpreter has after `statement`."""
    code = f"{statement}\nimport sys\nprint(*('.'.join(m.split('.')[:2]) for m in sys.modules))"
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    result = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    return set(result.stdout.split())


@pytest.mark.parametrize("package", ["detection", "metrics", "kernels", "metrics.evaluate"])
def test_importing_is_light(package: str) -> None:
    loaded = loaded_by(f"import upmap.{package}")
    assert loaded & (HEAVY | {"tqdm", "upmap.segmentation"}) == set()


def test_importing_upmap_loads_neither_numpy_nor_any_of_its_packages() -> None:
    loaded = loaded_by("import upmap")
    assert loaded & (HEAVY | {"numpy"} | {f"upmap.{package}" for package in PACKAGES}) == set()


def test_upmap_exports_the_public_names_of_its_packages_and_no_others() -> None:
    exported = {*upmap.metrics.__all__, *upmap.detection.__all__} - {"FORMATS"}
    assert set(upmap.__all__) == exported
    for name in upmap.__all__:
        assert getattr(upmap, name) is not None
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = upmap.nothing


def test_the_imports_for_type_checkers_are_the_exported_names() -> None:
    tree = ast.parse((ROOT / "upmap" / "__init__.py").read_text("utf-8"))
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    names = [a.name for node in block.body if isinstance(node, ast.ImportFrom) for a in node.names]
    assert sorted(names) == sorted(upmap.__all__)


def test_the_command_line_is_read_and_the_files_begin_to_be_before_numpy_is_imported() -> None:
    statement = "import upmap.metrics.evaluate, upmap.kernels.coco_json, upmap.detection.inputs"
    assert "numpy" not in loaded_by(statement)


def test_evaluating_the_sample_is_light() -> None:
    statement = "from upmap.metrics.evaluate import main; main([])"
    assert loaded_by(statement) & HEAVY == set()


def test_what_the_native_readers_read_costs_no_parser_and_no_progress_bar() -> None:
    if NATIVE["voc_files"] is None:
        pytest.skip("kernels.voc_files.native is not built")
    statement = "from upmap.metrics.evaluate import main; main([])"
    assert loaded_by(statement) & {"json", "pyexpat", "tqdm", "xml"} == set()


def test_the_modules_under_test_are_those_of_this_checkout() -> None:
    for name in PACKAGES:
        module = importlib.import_module(f"upmap.{name}")
        assert module.__file__ is not None
        assert Path(module.__file__).is_relative_to(ROOT), f"{name} is another checkout's"


@pytest.mark.parametrize("operation", OPERATIONS)
def test_the_native_kernels_are_built_and_come_first(operation: str) -> None:
    if NATIVE[operation] is None and shutil.which("c++") is None and "CI" not in os.environ:
        pytest.skip("no C++ compiler, so no native kernels")
    assert NATIVE[operation] is not None, "the native kernels are not built: pip install -e ."
    module = importlib.import_module(f"upmap.kernels.{operation}")
    assert next(iter(module.IMPLEMENTATIONS)) == "native"


@pytest.mark.parametrize("operation", OPERATIONS)
def test_the_stub_of_a_native_module_names_what_it_has(operation: str) -> None:
    native = pytest.importorskip(f"upmap.kernels.{operation}.native")
    stub = ast.parse((ROOT / "kernels" / operation / "native.pyi").read_text("utf-8"))
    definitions = [node for node in stub.body if isinstance(node, ast.FunctionDef | ast.ClassDef)]
    public = {name for name in vars(native) if not name.startswith("_")}
    assert {node.name for node in definitions} == public
    for node in definitions:
        value = getattr(native, node.name)
        if isinstance(node, ast.FunctionDef):
            assert_documented(value, node)
            continue
        methods = {
            method.name: method for method in node.body if isinstance(method, ast.FunctionDef)
        }
        public = {name for name in vars(value) if not name.startswith("__")}
        assert set(methods) - {"__init__"} == public
        for name, method in methods.items():
            assert_documented(getattr(value, name), method)


def assert_documented(function: Any, stub: ast.FunctionDef) -> None:
    """The signature that nanobind writes in a docstring has the stub's arguments."""
    for argument in stub.args.args:
        assert argument.arg == "self" or f"{argument.arg}: " in function.__doc__


@pytest.mark.parametrize("name", MODULES)
def test_all_names_exist_and_are_sorted(name: str) -> None:
    module = importlib.import_module(name)
    names = getattr(module, "__all__", None)
    if names is None:
        assert 'if __name__ == "__main__"' in Path(module.__file__ or "").read_text("utf-8")
        return
    assert [n for n in names if not hasattr(module, n)] == []
    assert len(set(names)) == len(names)
    assert list(names) == sorted(names, key=place_in_all)


def place_in_all(name: str) -> tuple[int, str]:
    """What ruff sorts `__all__` by: constants, then classes, then functions."""
    return (0 if name.isupper() else 1 if name[0].isupper() else 2), name


@pytest.mark.parametrize("name", MODULES)
def test_importing_a_module_by_name_gives_the_module(name: str) -> None:
    # `import package.module as m` takes the attribute of the package, which a function can hide.
    module = importlib.import_module(name)
    package, _, attribute = name.rpartition(".")
    assert getattr(importlib.import_module(package), attribute) is module


@pytest.mark.parametrize("name", MODULES)
def test_doctests_hold(name: str) -> None:
    assert doctest.testmod(importlib.import_module(name)).failed == 0


def test_python_m_kernels_lists_every_implementation() -> None:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    result = subprocess.run(
        [sys.executable, "-m", "upmap.kernels"],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    wanted = [
        (operation, name)
        for operation in OPERATIONS
        for name in importlib.import_module(f"upmap.kernels.{operation}").IMPLEMENTATIONS
    ]
    assert [tuple(line.split()[:2]) for line in result.stdout.splitlines()] == wanted


def test_python_m_kernels_says_what_is_missing_without_torch() -> None:
    code = (
        "import sys; sys.modules['torch'] = None; from upmap.kernels.__main__ import main; main()"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    result = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert "torch is not installed" in result.stdout
    assert "matching" in result.stdout
