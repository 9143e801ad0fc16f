"""`python -m upmap.kernels`: the implementations of each operation and their availability."""

import importlib
import json
import os
import shlex
import shutil
import sys
from argparse import Namespace
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from upmap.console import Parser, describe_command, run
from upmap.kernels import LOAD_ERRORS, OPERATIONS


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the program; returns its exit status."""
    parser = Parser(
        prog=describe_command("upmap.kernels"),
        description="Lists the implementations of each operation, and which this machine has.",
        epilog="exit status: 0 good; 2 misused.",
    )
    return run(lambda: _program(parser.parse_args(arguments)))


def _program(_: Namespace) -> int:
    """Prints a line for each implementation of each operation; returns 0."""
    for operation in OPERATIONS:
        for name, state in _describe_implementations(operation).items():
            print(f"{operation:<14}{name:<12}{state}")
    return 0


def _describe_implementations(operation: str) -> dict[str, str]:
    """Name of each implementation to whether it is available, and if not, why."""
    try:
        module = importlib.import_module(f"upmap.kernels.{operation}")
    except ModuleNotFoundError as error:
        reason = f'{error.name} is not installed; `pip install "upmap[segmentation]"` brings it'
        return {"all": f"not available: {reason}"}
    reasons: dict[str, str] = getattr(module, "explain_unavailable", dict)()
    if operation in LOAD_ERRORS:
        reasons["native"] = f"it is built but cannot be loaded: {LOAD_ERRORS[operation]}"
    return {
        name: "available"
        if implementation is not None and name not in reasons
        else f"not available: {reasons.get(name) or _explain_missing_build()}"
        for name, implementation in module.IMPLEMENTATIONS.items()
    }


def _explain_missing_build() -> str:
    """Why a native kernel may be missing, and the command that builds it."""
    names = (os.environ.get("CXX", ""), "c++", "g++", "clang++")
    compiler = next(filter(None, map(shutil.which, names)), None)
    if compiler is None:
        return f"no C++ compiler was found; install one and repeat `{_install_command()}`"
    return f"there is a compiler ({compiler}); repeat `{_install_command()}` and read its output"


def _install_command() -> str:
    """The command that rebuilds this upmap in the way that it was installed."""
    try:
        installed = metadata.distribution("upmap")
        source = json.loads(installed.read_text("direct_url.json") or "{}")
    except metadata.PackageNotFoundError:  # a checkout on the path, not installed
        source = {"dir_info": {"editable": True}}
    if source.get("dir_info", {}).get("editable"):
        return f"pip install -v -e {shlex.quote(str(Path(__file__).resolve().parents[1]))}"
    # Without these options pip keeps what is installed, or takes the wheel from its cache.
    build = "pip install -v --no-cache-dir --force-reinstall --no-deps"
    return f"{build} {shlex.quote(_requirement(source, installed.version))}"


def _requirement(source: dict[str, Any], version: str) -> str:
    """The requirement that pip installed, with the address in `source` (direct_url.json) if any."""
    if "url" not in source:
        return f"upmap=={version}"
    repository = source.get("vcs_info")
    if repository is None:
        return f"upmap @ {source['url']}"
    return f"upmap @ {repository['vcs']}+{source['url']}@{repository['commit_id']}"


if __name__ == "__main__":
    sys.exit(main())
