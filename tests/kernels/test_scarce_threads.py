"""Where threads cannot be made, native code goes on with those there are, to the same numbers."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from upmap.kernels import OPERATIONS

HERE = Path(__file__).parent
ROOT = HERE.parents[1]


@pytest.fixture(scope="session")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A library that, preloaded, makes thread creation fail when it is told to."""
    compiler = shutil.which("cc")
    if compiler is None or sys.platform != "linux":
        pytest.skip("needs Linux and a C compiler, for a library to preload")
    library = tmp_path_factory.mktemp("shim") / "scarce_threads.so"
    source = HERE / "scarce_threads.c"
    subprocess.run(
        [compiler, "-shared", "-fPIC", "-o", library, source, "-ldl", "-pthread"], check=True
    )
    return library


@pytest.mark.parametrize("name", [*OPERATIONS, "evaluate"])
def test_fewer_threads_than_wanted_change_no_number(name: str, shim: Path) -> None:
    if name in OPERATIONS:
        pytest.importorskip(f"upmap.kernels.{name}.native")
    environment = os.environ | {
        "LD_PRELOAD": str(shim),
        "PYTHONPATH": str(ROOT),
        "OPENBLAS_NUM_THREADS": "1",
    }
    result = subprocess.run(
        [sys.executable, HERE / "scarce_threads.py", name],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert (result.returncode, result.stderr) == (0, "")
