"""Writes constraints.txt, the exact versions that the tests and the checks are run with.

`python scripts/constraints.py` takes the newest versions that pyproject.toml admits and that fit
together, for each Python that it admits and for every system; requirements that follow, such as
`torch==2.14.1`, are kept to. `--lowest` prints, for this Python and system, the lowest versions
that pyproject.toml names instead, and writes nothing. Both ask PyPI by way of uv, which is
installed into an environment of its own.
"""

import argparse
import os
import shlex
import subprocess
import sys
import tempfile
import tomllib
import venv
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FILE = ROOT / "constraints.txt"
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
HEADER = """\
# Exact versions of all that upmap is built, tested and checked with, for each Python and system.
# Made on {date} by `{command}`: do not edit.
"""
COMPILE = ("pip", "compile", "--quiet", "--no-config", "--no-header", "--no-annotate")
NEWEST = ("--universal", "--extra", "test", "--extra", "dev", "--no-emit-package", "upmap")
LOWEST = ("--resolution", "lowest-direct", "--extra", "test", "--no-emit-package", "upmap")


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the program."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("requirements", nargs="*", metavar="REQUIREMENT", help="to hold to")
    parser.add_argument("--lowest", action="store_true", help="print the lowest versions instead")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        uv = installed_uv(Path(folder) / "venv")
        held = Path(folder) / "held.txt"
        held.write_text("".join(f"{line}\n" for line in options.requirements), "utf-8")
        if options.lowest:
            print(compiled(uv, held, *LOWEST), end="")
            return
        python = PYPROJECT["project"]["requires-python"].removeprefix(">=")
        pins = compiled(uv, held, *NEWEST, "--python-version", python)
    command = shlex.join(["python", "scripts/constraints.py", *options.requirements])
    header = HEADER.format(date=datetime.now(UTC).date(), command=command)
    FILE.write_text(header + pins, "utf-8")


def installed_uv(folder: Path) -> Path:
    """The path of uv, in a new virtual environment."""
    venv.create(folder, with_pip=True)
    scripts = folder / ("Scripts" if os.name == "nt" else "bin")
    subprocess.run([scripts / "python", "-m", "pip", "install", "--quiet", "uv"], check=True)
    return scripts / "uv"


def compiled(uv: Path, held: Path, *options: str) -> str:
    """A line `name==version` for each package that pyproject.toml leads to."""
    build = held.with_name("build.txt")
    build.write_text("\n".join(PYPROJECT["build-system"]["requires"]), "utf-8")
    command = [uv, *COMPILE, *options, "--constraints", held, "--python", sys.executable]
    result = subprocess.run(
        [*command, ROOT / "pyproject.toml", build], stdout=subprocess.PIPE, text=True, check=True
    )
    return result.stdout


if __name__ == "__main__":
    main()
