"""What is installed: the versions that are tested, and builds that lack a compiler."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from upmap.kernels.__main__ import _install_command

ROOT = Path(__file__).resolve().parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
LINES = (ROOT / "constraints.txt").read_text("utf-8").splitlines()
PINS = [line for line in LINES if not line.startswith("#")]
EXTRAS = ("segmentation", "export", "serve", "arrow", "shapes", "test", "dev")
REQUIREMENTS = [
    *PYPROJECT["build-system"]["requires"],
    *PYPROJECT["project"]["dependencies"],
    *(line for extra in EXTRAS for line in PYPROJECT["project"]["optional-dependencies"][extra]),
]


@pytest.mark.parametrize("line", sorted({line for line in REQUIREMENTS if "upmap" not in line}))
def test_a_requirement_has_a_constraint_that_it_admits(line: str) -> None:
    requirement = Requirement(line)
    name = canonicalize_name(requirement.name)
    pins = [pin for pin in map(Requirement, PINS) if canonicalize_name(pin.name) == name]
    assert pins, f"{name} is not in constraints.txt; run scripts/constraints.py"
    for pin in pins:
        (version,) = pin.specifier
        assert requirement.specifier.contains(version.version), f"{pin} contradicts {line}"


def test_constraints_are_exact_public_versions_from_the_index() -> None:
    pattern = re.compile(r"[a-z0-9-]+==[a-z0-9.]+( ; .+)?")
    assert [line for line in PINS if not pattern.fullmatch(line)] == []
    assert [line for line in PINS if re.search(r"@|://|\+", line)] == []


def test_a_requirement_names_a_lowest_version_that_can_be_tested() -> None:
    for line in REQUIREMENTS:
        requirement = Requirement(line)
        operators = [specifier.operator for specifier in requirement.specifier]
        assert operators == ([] if requirement.name == "upmap" else [">="]), line


def test_ci_runs_the_test_command_of_the_readme() -> None:
    (command,) = re.findall(
        r"^pip .* && .*pytest$", (ROOT / "README.md").read_text("utf-8"), re.MULTILINE
    )
    assert command in (ROOT / ".ci" / "run").read_text("utf-8")
    assert "-c constraints.txt" in command


def build_wheel(folder: Path, **environment: str) -> "subprocess.CompletedProcess[str]":
    code = "import sys; from scikit_build_core.build import build_wheel; build_wheel(sys.argv[1])"
    return subprocess.run(
        [sys.executable, "-c", code, str(folder)],
        cwd=ROOT,
        env=os.environ | {"SKBUILD_BUILD_DIR": str(folder / "build")} | environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("compiler", ["no-such-compiler", "false"])
def test_a_wheel_is_not_built_without_a_working_compiler(compiler: str, tmp_path: Path) -> None:
    if shutil.which("cmake") is None:
        pytest.skip("needs CMake on the path")
    result = build_wheel(tmp_path, CXX=compiler)
    assert result.returncode != 0
    output = result.stdout + result.stderr
    assert "Install a C++17 compiler" in output
    assert "UPMAP_PURE=1" in output
    assert not list(tmp_path.glob("*.whl"))


def test_a_wheel_without_native_kernels_is_built_if_asked_for_and_says_so(tmp_path: Path) -> None:
    result = build_wheel(tmp_path, CXX="no-such-compiler", UPMAP_PURE="1")
    assert result.returncode == 0, result.stderr
    (wheel,) = tmp_path.glob("*.whl")
    assert wheel.name.endswith("-py3-none-any.whl")  # no system's own, which one with kernels is
    pages = ROOT / "metrics" / "reports" / "page"
    parts = [path.name for path in pages.iterdir() if path.suffix in (".html", ".css", ".js")]
    assert {"page.html", "page.css", "page.js", "evaluation.js"} <= {*parts}
    assert {f"upmap/metrics/reports/page/{name}" for name in parts} <= {*ZipFile(wheel).namelist()}


def test_only_an_editable_install_goes_on_without_native_kernels() -> None:
    conditions = [rule["if"] for rule in PYPROJECT["tool"]["scikit-build"]["overrides"]]
    failed = [condition for condition in conditions if "failed" in condition]
    assert failed == [{"state": "editable", "failed": True}]


class Installed:
    """A distribution as `importlib.metadata` shows it."""

    version = "1.2.3"

    def __init__(self, source: Any) -> None:
        self.source = source

    def read_text(self, name: str) -> str | None:
        assert name == "direct_url.json"
        return None if self.source is None else json.dumps(self.source)


ANEW = "pip install -v --no-cache-dir --force-reinstall --no-deps "


@pytest.mark.parametrize(
    ("source", "command"),
    [
        (None, ANEW + "upmap==1.2.3"),
        ({"url": "file:///a/b", "dir_info": {}}, ANEW + "'upmap @ file:///a/b'"),
        ({"url": "https://x/u.tar.gz", "archive_info": {}}, ANEW + "'upmap @ https://x/u.tar.gz'"),
        (
            {"url": "https://x/u", "vcs_info": {"vcs": "git", "commit_id": "1a2b"}},
            ANEW + "'upmap @ git+https://x/u@1a2b'",
        ),
        (
            {"url": "file:///a/b", "dir_info": {"editable": True}},
            "pip install -v -e " + shlex.quote(str(ROOT)),
        ),
    ],
)
def test_the_advice_builds_the_kernels_anew_however_upmap_was_installed(
    source: Any, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metadata, "distribution", lambda _: Installed(source))
    assert _install_command() == command


def test_the_advice_for_a_checkout_on_the_path_is_to_install_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def absent(name: str) -> None:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "distribution", absent)
    assert _install_command() == "pip install -v -e " + shlex.quote(str(ROOT))
