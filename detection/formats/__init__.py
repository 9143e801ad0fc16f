"""The file formats of detection, each a module and its rows in `registry`."""

from upmap.detection.formats.reading import (
    DEFAULT_SET,
    coco_files,
    open_source,
    open_sources,
    read,
    read_detections,
    read_ground_truth,
    recognize_format,
    write,
)
from upmap.detection.formats.registry import (
    DETECTION_READERS,
    FORMATS,
    GROUND_TRUTH_READERS,
    WRITERS,
    DetectionReader,
    Format,
    GroundTruthReader,
    ReadOptions,
    Writer,
)

__all__ = [
    "DEFAULT_SET",
    "DETECTION_READERS",
    "FORMATS",
    "GROUND_TRUTH_READERS",
    "WRITERS",
    "DetectionReader",
    "Format",
    "GroundTruthReader",
    "ReadOptions",
    "Writer",
    "coco_files",
    "open_source",
    "open_sources",
    "read",
    "read_detections",
    "read_ground_truth",
    "recognize_format",
    "write",
]
