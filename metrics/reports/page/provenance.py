"""How a page was made: versions, the command line, and what identifies the inputs."""

import hashlib
import shlex
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import upmap
from upmap.detection.tables import Table
from upmap.metrics.reports.page.document import Data
from upmap.options import list_options

if TYPE_CHECKING:
    from upmap.metrics.reports.page.evaluation import Evaluated

__all__ = ["describe_command_line", "describe_provenance"]

CHUNK = 2**20  # bytes that are hashed at a time


def describe_provenance(evaluated: "Evaluated") -> Data:
    """The version, the command line, and a SHA-256 of each input, as plain data.

    Args:
        evaluated: What the page is about.
    """
    inputs = {
        "ground_truth": (evaluated.options.ground_truth, evaluated.ground_truth),
        "detections": (evaluated.options.detections, evaluated.detections),
    }
    return {
        "upmap": upmap.__version__,
        "numpy": np.__version__,
        "command": evaluated.command,
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
    words = [program]
    flags: list[str] = []
    for option in list_options(type(options)):
        value = getattr(options, option.path[0])
        if option.positional is not None:
            words += map(str, value if isinstance(value, tuple) else (value,))
        elif value != option.default:
            flags += _flag_words(option.flag, value, is_repeatable=option.settings.is_repeatable)
    return shlex.join([*words[1:], *flags]).join((f"{program} ", ""))


def _flag_words(flag: str, value: Any, *, is_repeatable: bool) -> list[str]:
    if isinstance(value, bool):
        return [flag if value else flag.replace("--", "--no-", 1)]
    if isinstance(value, tuple):
        items = list(map(str, value))
        return (
            [word for item in items for word in (flag, item)]
            if is_repeatable
            else [
                flag,
                ",".join(items),
            ]
        )
    return [flag, str(value)]


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
