"""What to do with an input that no format recognizes."""

import os
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path

from upmap.detection.formats.registry import (
    DETECTION_READERS,
    GROUND_TRUTH_READERS,
    DetectionReader,
    GroundTruthReader,
)
from upmap.detection.inputs import Input
from upmap.errors import InputError

__all__ = ["READERS", "advise", "find_format"]

READERS: Mapping[str, Mapping[str, GroundTruthReader | DetectionReader]] = {
    "ground truth": GROUND_TRUTH_READERS,
    "detections": DETECTION_READERS,
}
# Endings of files that are not read, and what to do instead.
NOT_READ = {
    ".tfrecord": "TFRecord files are not read; export COCO JSON or VOC XML",
    ".record": "TFRecord files are not read; export COCO JSON or VOC XML",
    ".pkl": "pickles, which can run any code, are not read; write COCO JSON or CSV",
    ".pt": "pickles, which can run any code, are not read; write COCO JSON or CSV",
    ".mat": "MATLAB files are not read; write COCO JSON or CSV",
    ".zip": "archives are not read; unpack it",
    ".tar": "archives are not read; unpack it",
}
DATA_ENDINGS = (".csv", ".json", ".jsonl", ".parquet", ".xml", ".yaml")
MAX_ENTRIES = 32  # of a folder that are looked at


def find_format(source: Input, what: str) -> str | None:
    """The name of the format that recognizes an input; None if none does.

    Args:
        source: The input.
        what: "ground truth" or "detections".
    """
    beginning = source.first_character() if source.is_file() else b""
    endings = _endings(source)
    for name, reader in READERS[what].items():
        may_begin = not (beginning and reader.beginnings) or beginning in reader.beginnings
        may_end = not reader.endings or not reader.endings.isdisjoint(endings)
        if may_begin and may_end and reader.recognizes(source):
            return name
    return None


def _endings(source: Input) -> set[str]:
    """The endings of a file, or of all that is in a folder; of a.csv.gz it is .csv."""
    names = os.listdir(source.path) if source.is_folder() else [source.path.name]  # noqa: PTH208
    lower = (name.lower().removesuffix(".gz") for name in names)
    return {f".{name.rpartition('.')[2]}" for name in lower if "." in name}


def advise(source: Input, what: str) -> str:
    """What to do with an input that no format of its kind recognizes, for an error.

    Args:
        source: The input.
        what: "ground truth" or "detections".
    """
    for look in (_look_at_ending, _look_at_other_kind, _look_around):
        if advice := look(source, what):
            return advice
    formats = "; or ".join(f"{name}: {row.description}" for name, row in READERS[what].items())
    return f"expected {formats}"


def _look_at_ending(source: Input, what: str) -> str:
    files = [source.path] if source.is_file() else _entries(source.path)
    advice = (NOT_READ.get(file.suffix.lower(), "") for file in files)
    return next(filter(None, advice), "")


def _look_at_other_kind(source: Input, what: str) -> str:
    (other,) = READERS.keys() - {what}
    name = _find(source, other)
    if name is None:
        return ""
    return f"it looks like {other} ({name}); the ground truth comes first, then the detections"


def _look_around(source: Input, what: str) -> str:
    """The folder that a file is in, or what is in a folder, if it is recognized."""
    if source.is_file():
        name = _find(Input(source.path.parent), what)
        return "" if name is None else f"name its folder, which is {name}"
    names = {
        path.name: name
        for path in _entries(source.path)
        if (path.is_dir() or path.suffix.lower() in DATA_ENDINGS)
        and (name := _find(Input(path), what)) is not None
    }
    inner = ", ".join(f"{entry} ({name})" for entry, name in names.items())
    return f"name what is in it: {inner}" if names else ""


def _find(source: Input, what: str) -> str | None:
    try:
        return find_format(source, what)
    except (InputError, OSError):
        return None


def _entries(folder: Path) -> list[Path]:
    def entries() -> Iterator[Path]:
        try:
            yield from folder.iterdir()
        except OSError:
            return

    return sorted(islice(entries(), MAX_ENTRIES))
