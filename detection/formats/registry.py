"""The file formats of detection, by name: readers of ground truth, readers of detections, writers.

A format is a module beside this one and its rows here; it may have some of the rows only. Inputs
are recognized in the order of the rows.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from upmap.detection.formats import coco_json, voc_results, voc_xml
from upmap.detection.formats.read_options import ReadOptions
from upmap.detection.formats.table_files import ARROW_ENDINGS, TEXT_ENDINGS
from upmap.detection.inputs import Input
from upmap.detection.tables import Catalog, Detections, GroundTruth, Pixels

__all__ = [
    "DETECTION_READERS",
    "FORMATS",
    "GROUND_TRUTH_READERS",
    "WRITERS",
    "DetectionReader",
    "Format",
    "GroundTruthReader",
    "ReadOptions",
    "Writer",
]

TABLE_ENDINGS = frozenset(TEXT_ENDINGS + ARROW_ENDINGS)


def _later(module: str, name: str) -> Callable[..., Any]:
    """A function of a format's module, which is imported when the function is first called."""

    def call(*arguments: Any) -> Any:
        return getattr(import_module(f"upmap.detection.formats.{module}"), name)(*arguments)

    return call


def no_image_sets(source: Input) -> Mapping[str, Path]:
    """The image sets of formats that have none."""
    return {}


def no_image_set_hints(source: Input) -> list[str]:
    """The image sets that file names mention, in formats whose file names mention none."""
    return []


@dataclass(frozen=True, slots=True, kw_only=True)
class GroundTruthReader:
    """How ground truth in one format is recognized and read.

    Attributes:
        description: One line for --help.
        recognizes: Whether an input looks like such ground truth; opens as little as possible.
        beginnings: The characters that a file may begin with, white space left out; empty for any.
            Where a file begins otherwise, `recognizes` is not asked.
        endings: The endings, lower case and without .gz, of which the file or one in the folder
            must have one, or `recognizes` is not asked; empty for any.
        read: The table of an input.
        image_sets: The image sets that an input defines: name to file.
    """

    description: str
    recognizes: Callable[[Input], bool]
    read: Callable[[Input, ReadOptions], GroundTruth]
    beginnings: bytes = b""
    endings: frozenset[str] = frozenset()
    image_sets: Callable[[Input], Mapping[str, Path]] = no_image_sets


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectionReader:
    """How detections in one format are recognized and read.

    Attributes:
        description: One line for --help.
        recognizes: Whether an input looks like such detections; opens as little as possible.
        beginnings: The characters that a file may begin with, white space left out; empty for any.
            Where a file begins otherwise, `recognizes` is not asked.
        endings: The endings, lower case and without .gz, of which the file or one in the folder
            must have one, or `recognizes` is not asked; empty for any.
        read: The table of an input, whose images and classes are those of the catalog.
        has_class_ids: Whether the files identify classes by numbers, so that `class_names` applies:
            `read` then gets a catalog with the classes and ids that `class_names` defines.
        image_set_hints: The image sets that the file names may mention, likeliest first.
        reads_class_names: Whether `read` reads the option `class_names` itself.
    """

    description: str
    recognizes: Callable[[Input], bool]
    read: Callable[[Input, Catalog, ReadOptions], Detections]
    has_class_ids: bool
    beginnings: bytes = b""
    endings: frozenset[str] = frozenset()
    image_set_hints: Callable[[Input], list[str]] = no_image_set_hints
    reads_class_names: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Writer:
    """How tables are written in one format.

    Attributes:
        description: One line for --help: the files that are written.
        write: Writes both tables (detections may be None) into a folder, under an image set.
        pixels: The pixel convention of the format.
    """

    description: str
    write: Callable[[GroundTruth, Detections | None, Path, str], None]
    pixels: Pixels = "continuous"


GROUND_TRUTH_READERS = {
    "cvat": GroundTruthReader(
        description="an annotations.xml of CVAT",
        beginnings=b"<",
        recognizes=_later("cvat_xml", "is_ground_truth"),
        read=_later("cvat_xml", "read_ground_truth"),
    ),
    "open-images": GroundTruthReader(
        description="a CSV file of Open Images' boxes",
        endings=frozenset(TEXT_ENDINGS),
        recognizes=_later("open_images_csv", "is_ground_truth"),
        read=_later("open_images_csv", "read_ground_truth"),
    ),
    "table": GroundTruthReader(
        description="CSV, TSV, JSON lines or Parquet with columns of images, classes and boxes",
        endings=TABLE_ENDINGS,
        recognizes=_later("flat_table", "is_ground_truth"),
        read=_later("flat_table", "read_ground_truth"),
    ),
    "voc": GroundTruthReader(
        description="a VOC devkit folder or a folder of XML",
        recognizes=voc_xml.is_ground_truth,
        read=voc_xml.read_ground_truth,
        image_sets=voc_xml.image_sets,
    ),
    "labelme": GroundTruthReader(
        description="a folder of LabelMe's JSON files, one for each image",
        beginnings=b"{",
        recognizes=_later("labelme_json", "is_ground_truth"),
        read=_later("labelme_json", "read_ground_truth"),
    ),
    "label-studio": GroundTruthReader(
        description="a JSON file of Label Studio's tasks with annotations",
        beginnings=b"[",
        recognizes=_later("label_studio_json", "is_ground_truth"),
        read=_later("label_studio_json", "read_ground_truth"),
    ),
    "createml": GroundTruthReader(
        description="a JSON file of CreateML",
        beginnings=b"[",
        recognizes=_later("createml_json", "is_ground_truth"),
        read=_later("createml_json", "read_ground_truth"),
    ),
    "vott": GroundTruthReader(
        description="a JSON export of VoTT",
        beginnings=b"{",
        recognizes=_later("vott_json", "is_ground_truth"),
        read=_later("vott_json", "read_ground_truth"),
    ),
    "coco": GroundTruthReader(
        description="an instances JSON file",
        recognizes=coco_json.is_ground_truth,
        read=coco_json.read_ground_truth,
        image_sets=coco_json.image_sets,
    ),
    "yolo": GroundTruthReader(
        description="data.yaml, obj.data, or a folder of labels `class xc yc w h`",
        recognizes=_later("yolo_txt", "is_ground_truth"),
        read=_later("yolo_txt", "read_ground_truth"),
        image_sets=_later("yolo_txt", "image_sets"),
    ),
    "kitti": GroundTruthReader(
        description="a folder of KITTI's labels, 15 words in a row",
        recognizes=_later("kitti_txt", "is_ground_truth"),
        read=_later("kitti_txt", "read_ground_truth"),
    ),
    "dota": GroundTruthReader(
        description="a folder labelTxt of four corners, a class and a mark",
        recognizes=_later("dota_txt", "is_ground_truth"),
        read=_later("dota_txt", "read_ground_truth"),
    ),
    "cartucho": GroundTruthReader(
        description="a folder of text `class left top right bottom`",
        recognizes=_later("cartucho_txt", "is_ground_truth"),
        read=_later("cartucho_txt", "read_ground_truth"),
    ),
}

DETECTION_READERS = {
    "dota": DetectionReader(
        description="a folder of Task1_<class>.txt or Task2_<class>.txt",
        endings=frozenset((".txt",)),
        recognizes=_later("dota_txt", "is_detections"),
        read=_later("dota_txt", "read_detections"),
        has_class_ids=False,
    ),
    "open-images": DetectionReader(
        description="a CSV file of ImageId and PredictionString",
        endings=frozenset(TEXT_ENDINGS),
        recognizes=_later("open_images_csv", "is_detections"),
        read=_later("open_images_csv", "read_detections"),
        has_class_ids=False,
    ),
    "table": DetectionReader(
        description="CSV, TSV, JSON lines or Parquet, likewise with scores",
        endings=TABLE_ENDINGS,
        recognizes=_later("flat_table", "is_detections"),
        read=_later("flat_table", "read_detections"),
        has_class_ids=True,
    ),
    "voc": DetectionReader(
        description="comp4_det_<set>_<class>.txt",
        recognizes=voc_results.is_detections,
        read=voc_results.read_detections,
        has_class_ids=False,
        image_set_hints=voc_results.image_set_hints,
    ),
    "label-studio": DetectionReader(
        description="a JSON file of Label Studio's tasks with predictions",
        beginnings=b"[",
        recognizes=_later("label_studio_json", "is_detections"),
        read=_later("label_studio_json", "read_detections"),
        has_class_ids=False,
    ),
    "ultralytics": DetectionReader(
        description="a predictions.json of Ultralytics",
        beginnings=b"[",
        recognizes=_later("ultralytics_json", "is_detections"),
        read=_later("ultralytics_json", "read_detections"),
        has_class_ids=True,
    ),
    "coco": DetectionReader(
        description="a results JSON file",
        recognizes=coco_json.is_detections,
        read=coco_json.read_detections,
        has_class_ids=True,
    ),
    "yolo": DetectionReader(
        description="a folder of labels `class xc yc w h conf`",
        recognizes=_later("yolo_txt", "is_detections"),
        read=_later("yolo_txt", "read_detections"),
        has_class_ids=True,
        reads_class_names=True,
    ),
    "kitti": DetectionReader(
        description="a folder of KITTI's results, 16 words in a row",
        recognizes=_later("kitti_txt", "is_detections"),
        read=_later("kitti_txt", "read_detections"),
        has_class_ids=False,
    ),
    "cartucho": DetectionReader(
        description="a folder of text `class conf left top right bottom`",
        recognizes=_later("cartucho_txt", "is_detections"),
        read=_later("cartucho_txt", "read_detections"),
        has_class_ids=True,
        reads_class_names=True,
    ),
}

WRITERS = {
    "voc": Writer(
        description="Annotations/*.xml, ImageSets/Main/<set>.txt and results/comp4_det_*.txt",
        write=voc_results.write_tables,
        pixels="inclusive",
    ),
    "coco": Writer(
        description="instances_<set>.json and detections_<set>.json",
        write=coco_json.write_tables,
    ),
    "csv": Writer(
        description="ground_truth_<set>.csv and detections_<set>.csv",
        write=_later("table_writers", "write_csv"),
    ),
    "parquet": Writer(
        description="ground_truth_<set>.parquet and detections_<set>.parquet",
        write=_later("table_writers", "write_parquet"),
    ),
    "yolo": Writer(
        description="data.yaml, images.txt, labels/*.txt and predictions/labels/*.txt",
        write=_later("yolo_txt", "write_tables"),
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """What there is of one format; None where it has no such part."""

    ground_truth: GroundTruthReader | None
    detections: DetectionReader | None
    writer: Writer | None

    @property
    def description(self) -> str:
        """What is read, or else written, in one line for --help."""
        readers = [reader for reader in (self.ground_truth, self.detections) if reader is not None]
        if not readers and self.writer is not None:
            return f"only written: {self.writer.description}"
        return "; ".join(reader.description for reader in readers)


FORMATS = {
    name: Format(
        ground_truth=GROUND_TRUTH_READERS.get(name),
        detections=DETECTION_READERS.get(name),
        writer=WRITERS.get(name),
    )
    for name in {**GROUND_TRUTH_READERS, **DETECTION_READERS, **WRITERS}
}
