"""The house stands as DESIGN says: light imports, tidy surfaces, this checkout, native kernels."""

import ast
import doctest
import importlib
import os
import pkgutil
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import kernels.accumulation
import kernels.matching
import kernels.voc_files

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("data", "detection", "kernels", "metrics", "segmentation")
HEAVY = {"torch", "torchvision", "cv2", "matplotlib", "pycocotools", "pandas", "scipy"}
MODULES = sorted(
    module.name
    for package in PACKAGES
    for module in pkgutil.walk_packages([str(ROOT / package)], f"{package}.")
    if not module.name.endswith(("__main__", ".native"))
)


def loaded_by(statement: str) -> set[str]:
    """The top-level modules that a fresh interpreter has after `statement`."""
    code = f"{statement}\nimport sys\nprint(*sorted({{m.partition('.')[0] for m in sys.modules}}))"
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    result = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    return set(result.stdout.split())


@pytest.mark.parametrize("package", ["detection", "metrics", "kernels", "metrics.evaluate"])
def test_importing_is_light(package: str) -> None:
    assert loaded_by(f"import {package}") & (HEAVY | {"tqdm", "segmentation"}) == set()


def test_evaluating_the_sample_is_light() -> None:
    statement = "from metrics.evaluate import main; main([])"
    assert loaded_by(statement) & HEAVY == set()


def test_what_the_native_readers_read_costs_no_parser_and_no_progress_bar() -> None:
    if kernels.voc_files.native is None:
        pytest.skip("kernels.voc_files.native is not built")
    statement = "from metrics.evaluate import main; main([])"
    assert loaded_by(statement) & {"json", "pyexpat", "tqdm", "xml"} == set()


def test_the_modules_under_test_are_those_of_this_checkout() -> None:
    for name in PACKAGES:
        module = importlib.import_module(name)
        assert module.__file__ is not None
        assert Path(module.__file__).is_relative_to(ROOT), f"{name} is another checkout's"


def test_the_native_kernels_are_built_and_come_first() -> None:
    operations = (kernels.accumulation, kernels.matching, kernels.voc_files)
    built = [operation.native for operation in operations]
    if None in built and shutil.which("c++") is None and "CI" not in os.environ:
        pytest.skip("no C++ compiler, so no native kernels")
    assert None not in built, "the native kernels are not built: pip install -e ."
    for operation in operations:
        assert next(iter(operation.IMPLEMENTATIONS)) == "native"


@pytest.mark.parametrize("operation", ["accumulation", "matching", "voc_files"])
def test_the_stub_of_a_native_module_names_what_it_has(operation: str) -> None:
    native = pytest.importorskip(f"kernels.{operation}.native")
    stub = ast.parse((ROOT / "kernels" / operation / "native.pyi").read_text("utf-8"))
    stubs = {node.name: node for node in stub.body if isinstance(node, ast.FunctionDef)}
    public = {name for name in vars(native) if not name.startswith("_")}
    assert set(stubs) == public
    for name, node in stubs.items():
        for argument in node.args.args:
            assert f"{argument.arg}: " in getattr(native, name).__doc__


@pytest.mark.parametrize("name", MODULES)
def test_all_names_exist_and_are_sorted(name: str) -> None:
    module = importlib.import_module(name)
    names = getattr(module, "__all__", None)
    if names is None:
        assert 'if __name__ == "__main__"' in Path(module.__file__ or "").read_text("utf-8")
        return
    assert [n for n in names if not hasattr(module, n)] == []
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("name", MODULES)
def test_doctests_hold(name: str) -> None:
    assert doctest.testmod(importlib.import_module(name)).failed == 0


def test_python_m_kernels_lists_every_implementation() -> None:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    result = subprocess.run(
        [sys.executable, "-m", "kernels"],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    wanted = [
        (operation, name)
        for operation in kernels.OPERATIONS
        for name in importlib.import_module(f"kernels.{operation}").IMPLEMENTATIONS
    ]
    assert [tuple(line.split()[:2]) for line in result.stdout.splitlines()] == wanted


def test_python_m_kernels_says_what_is_missing_without_torch() -> None:
    code = "import sys; sys.modules['torch'] = None; from kernels.__main__ import main; main()"
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    result = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert "torch is not installed" in result.stdout
    assert "matching" in result.stdout
