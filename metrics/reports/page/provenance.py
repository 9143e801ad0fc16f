"""How a page was made: versions, the command line, and what identifies the inputs."""

import hashlib
import shlex
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

import upmap
from upmap.detection.tables import Table
from upmap.metrics.reports.page.document import Data
from upmap.options import list_options

__all__ = ["describe_command_line", "describe_provenance"]

CHUNK = 2**20  # bytes that are hashed at a time


def describe_provenance(command: str, inputs: Mapping[str, tuple[object, Table]]) -> Data:
    """The versions, the command line, and a SHA-256 of each input, as plain data.

    Args:
        command: The command line that gives the page.
        inputs: What each input is called, its path, and the table that was read from it.
    """
    return {
        "upmap": upmap.__version__,
        "numpy": np.__version__,
        "command": command,
        "inputs": [
            {"name": name, "path": str(source)} | _identify(Path(str(source)), table)
            for name, (source, table) in inputs.items()
        ],
    }


def describe_command_line(program: str, options: Any) -> str:
    """The command that gives these options, quoted for a shell; defaults are left out.

    Args:
        program: Its first words.
        options: An options dataclass.
    """
    words: list[str] = []
    flags: list[str] = []
    for option in list_options(type(options)):
        value = getattr(options, option.path[0])
        if option.positional is not None:
            words += map(str, value if isinstance(value, tuple) else (value,))
        elif value != option.default:
            flags += _flag_words(option.flag, value, is_repeatable=option.settings.is_repeatable)
    return f"{program} {shlex.join([*words, *flags])}"


def _flag_words(flag: str, value: Any, *, is_repeatable: bool) -> list[str]:
    """A flag with its value; behind an equals sign where it could be taken for a flag itself."""
    if isinstance(value, bool):
        return [flag if value else flag.replace("--", "--no-", 1)]
    if isinstance(value, tuple) and not is_repeatable:
        value = ",".join(map(str, value))
    texts = map(str, value if isinstance(value, tuple) else (value,))
    return [
        word
        for text in texts
        for word in ([f"{flag}={text}"] if text.startswith("-") else [flag, text])
    ]


def _identify(path: Path, table: Table) -> dict[str, str]:
    """The SHA-256 of a file; of a folder, a pipe or a compressed file that of what was read."""
    if path.is_file():
        digest = hashlib.sha256()
        with path.open("rb") as file:
            while chunk := file.read(CHUNK):
                digest.update(chunk)
        return {"of": "the file", "sha256": digest.hexdigest()}
    return {"of": "the boxes that were read", "sha256": _hash_table(table)}


def _hash_table(table: Table) -> str:
    """Of the names of images and classes and of every column, in the order of the fields."""
    digest = hashlib.sha256()
    catalog = table.catalog
    digest.update(repr((catalog.images, catalog.classes, table.pixels)).encode())
    for field in fields(table):
        column = getattr(table, field.name)
        if isinstance(column, np.ndarray):
            digest.update(f"{field.name} {column.dtype} {column.shape}".encode())
            digest.update(np.ascontiguousarray(column).tobytes())
    return digest.hexdigest()
