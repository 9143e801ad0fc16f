"""Pascal VOC ground truth: one XML file per image, image sets as text lists.

Source: the VOC2007 and VOC2012 development kits (PASreadrecord.m, VOCinit.m).
"""

import math
import re
import reprlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import repeat
from pathlib import Path
from xml.parsers import expat

import numpy as np

from detection.boxes import box_area, in_convention, inclusive_size
from detection.errors import InputError, listed
from detection.formats.files import contents, is_file, progress, text
from detection.tables import LARGEST, Catalog, GroundTruth, image_names

__all__ = [
    "image_sets",
    "is_ground_truth",
    "listed_images",
    "read_ground_truth",
    "shortest",
    "writable",
    "write_ground_truth",
    "written_image_names",
]

SIDES = ("xmin", "ymin", "xmax", "ymax")
LARGEST_IMAGE = 2**31  # px, of a side
CONTROL = re.compile("[\x00-\x1f\x7f\ud800-\udfff\ufffe\uffff]")  # what XML 1.0 cannot hold
Corners = tuple[float, float, float, float]


def is_ground_truth(path: Path) -> bool:
    """Whether `path` is a devkit folder or a folder of XML files."""
    return path.is_dir() and _layout(path) is not None


def read_ground_truth(path: Path, image_set: str | None, show_progress: bool) -> GroundTruth:
    """Ground truth of a devkit folder, or of a folder of XML files.

    Args:
        path: VOCdevkit/VOC2007, or VOCdevkit if it holds one year, or Annotations itself.
        image_set: A name (ImageSets/Main/<name>.txt, or <name>.txt beside Annotations), or a file
            with an image id first on each line; None for every XML file there is.
        show_progress: Whether to draw a progress bar on a terminal.

    Raises:
        InputError: If a file is missing or malformed; names the file and the line.
    """
    layout = _layout(path)
    if layout is None:
        raise InputError("neither a VOC devkit folder nor a folder of XML files", path)
    root, annotations = layout
    names = _images(root, annotations, image_set)
    records = [
        _record(annotations / f"{name}.xml")
        for name in progress(sorted(names), "annotations", len(names), show_progress)
    ]
    return _table(sorted(names), records)


def image_sets(path: Path) -> dict[str, Path]:
    """The image sets of a devkit folder: name to list file; empty where there is none."""
    layout = _layout(path)
    if layout is None:
        return {}
    folders = (layout[0], layout[0] / "ImageSets" / "Main")
    return {file.stem: file for folder in folders for file in sorted(folder.glob("*.txt"))}


def listed_images(path: Path) -> list[str]:
    """The image ids of a list file: the first word of each line.

    Raises:
        InputError: If an id stands there twice or leads out of the folder, or there is none.
    """
    names: list[str] = []
    seen: set[str] = set()
    for number, line in enumerate(text(path).splitlines(), start=1):
        for name in line.split()[:1]:
            if name in seen:
                raise InputError(f"duplicate image id {name}", path, str(number))
            if "/" in name or "\\" in name or "\0" in name:
                raise InputError(f"{name!r} is not an image id", path, str(number))
            seen.add(name)
            names.append(name)
    if not names:
        raise InputError("the list of images is empty", path)
    return names


def write_ground_truth(table: GroundTruth, root: Path, image_set: str) -> None:
    """Writes Annotations/*.xml and ImageSets/Main/<image_set>.txt under `root`, which exists.

    VOC has no crowds: a crowd is written as difficult, which VOC tools ignore alike. Boxes are
    written as they are, also with fractions.
    """
    table = in_convention(table, "inclusive")
    names = written_image_names(table.catalog)
    for name in table.catalog.classes:
        writable(name)
    (root / "Annotations").mkdir()
    (root / "ImageSets" / "Main").mkdir(parents=True)
    rows: list[list[int]] = [[] for _ in names]
    for row, image in enumerate(table.image.tolist()):
        rows[image].append(row)
    sizes = table.catalog.sizes.tolist() or repeat([0, 0])
    for name, size, mine in zip(names, sizes, rows, strict=False):
        xml = _xml(name, size, "".join(_object_xml(table, row) for row in mine))
        (root / "Annotations" / f"{name}.xml").write_text(xml, encoding="utf-8")
    main = root / "ImageSets" / "Main" / f"{image_set}.txt"
    main.write_text("".join(f"{name}\n" for name in names), encoding="utf-8")


def written_image_names(catalog: Catalog) -> list[str]:
    """VOC's ids of the images: the file names without folder and ending, else the ids themselves.

    Raises:
        InputError: If two images come to the same name, or a name cannot be a file's.
    """
    names = image_names(catalog)
    if repeated := sorted(name for name, times in Counter(names).items() if times > 1):
        raise InputError(f"images that share a file name: {listed(repeated)}")
    for name in names:
        if name.split() != [name] or name[0] == "." or re.search(r"[/\\]", name):
            raise InputError(f"the image name {name!r} cannot be a VOC image id")
        writable(name)
    return names


def writable(name: str) -> str:
    """`name`, if it can stand in an XML file and read back the same.

    Raises:
        InputError: If it is empty, begins or ends with white space, or holds control characters.
    """
    if not name or name != name.strip() or CONTROL.search(name):
        raise InputError(f"the name {name!r} cannot be written in VOC's format")
    return name


def _layout(path: Path) -> tuple[Path, Path] | None:
    """The folder of the devkit's year, and its folder of XML files."""
    if (path / "Annotations").is_dir():
        return path, path / "Annotations"
    years = [year for year in sorted(path.glob("VOC*")) if (year / "Annotations").is_dir()]
    if len(years) > 1:
        raise InputError(f"name one of {', '.join(year.name for year in years)}", path)
    if years:
        return years[0], years[0] / "Annotations"
    return (path.parent, path) if next(path.glob("*.xml"), None) else None


def _images(root: Path, annotations: Path, image_set: str | None) -> list[str]:
    if image_set is None:
        names = [file.stem for file in annotations.glob("*.xml") if file.name[0] != "."]
        if not names:
            raise InputError("no XML files", annotations)
        return names
    sets = image_sets(root)
    file = sets.get(image_set, Path(image_set))
    if not is_file(file):
        known = f"there are {listed(sorted(sets), most=20)}" if sets else "there are none"
        raise InputError(f"no image set called {image_set!r}; {known}", root)
    return listed_images(file)


@dataclass(slots=True)
class _Object:
    line: int
    fields: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class _Record:
    size: tuple[int, int]
    objects: list[tuple[str, bool, Corners]]


def _record(path: Path) -> _Record:
    """One image: its size in px, and the class, mark and inclusive corners of each object."""
    objects, size = _elements(path)
    return _Record(
        (_side(size, "width", path), _side(size, "height", path)),
        [_object(found, path) for found in objects],
    )


def _elements(path: Path) -> tuple[list[_Object], dict[str, str]]:
    """The text of every element that matters: per object, and of <size>.

    The parts of an object (heads, hands) have a <name> and a <bndbox> of their own, deeper down.
    """
    parser = expat.ParserCreate()
    above: list[str] = []
    objects: list[_Object] = []
    size: dict[str, str] = {}
    words: list[str] = []

    def start(name: str, attributes: object) -> None:
        if not above and name != "annotation":
            line = str(parser.CurrentLineNumber)
            raise InputError(f"expected <annotation>, got <{name}>", path, line)
        above.append(name)
        words.clear()
        if name == "object" and len(above) == 2:
            objects.append(_Object(parser.CurrentLineNumber))

    def end(name: str) -> None:
        above.pop()
        place = above[1:]
        if place == ["object"] or place == ["object", "bndbox"]:
            objects[-1].fields.setdefault(name, "".join(words).strip())
        elif place == ["size"]:
            size[name] = "".join(words).strip()
        words.clear()

    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = words.append
    _parse(parser, path)
    return objects, size


def _parse(parser: expat.XMLParserType, path: Path) -> None:
    """Feeds a file to `parser`, without ever expanding an entity."""

    def refuse_entity(*declaration: object) -> None:
        line = str(parser.CurrentLineNumber)
        raise InputError("entity declarations are refused", path, line)

    parser.buffer_text = True
    parser.EntityDeclHandler = refuse_entity
    try:
        parser.Parse(contents(path), True)
    except expat.ExpatError as error:
        reason = expat.ErrorString(error.code)
        raise InputError(f"malformed XML: {reason}", path, str(error.lineno)) from None
    except InputError:
        raise
    except (LookupError, ValueError) as error:  # from a codec that Python lacks, or expat refuses
        raise InputError(f"{error}; expected UTF-8", path, "1") from None


def _object(found: _Object, path: Path) -> tuple[str, bool, Corners]:
    where = str(found.line)
    for name in ("name", *SIDES):
        if not found.fields.get(name):
            raise InputError(f"an object has no <{name}>", path, where)
    xmin, ymin, xmax, ymax = (_number(found.fields[side], side, path, where) for side in SIDES)
    if xmax < xmin or ymax < ymin:
        corners = " ".join(found.fields[side] for side in SIDES)
        raise InputError(f"an object's box is inverted: {corners}", path, where)
    difficult = found.fields.get("difficult") == "1"
    return found.fields["name"], difficult, (xmin, ymin, xmax, ymax)


def _number(word: str, name: str, path: Path, where: str) -> float:
    try:
        value = float(word)
    except ValueError:
        value = math.nan
    if math.isnan(value) or "_" in word:  # Python reads 1_0 as 10
        raise InputError(f"<{name}> is not a number: {reprlib.repr(word)}", path, where)
    if abs(value) > LARGEST:
        raise InputError(f"<{name}> is out of range: {reprlib.repr(word)}", path, where)
    return value


def _side(size: dict[str, str], name: str, path: Path) -> int:
    """A side of the image in px; 0 where the file does not say."""
    value = _number(size.get(name) or "0", name, path, "size")
    if not 0 <= value <= LARGEST_IMAGE:
        raise InputError(f"<{name}> is out of range: {size[name]!r}", path, "size")
    return int(value)


def _table(names: list[str], records: list[_Record]) -> GroundTruth:
    objects = [found for record in records for found in record.objects]
    classes = tuple(sorted({name for name, _, _ in objects}))
    place = {name: k for k, name in enumerate(classes)}
    box = np.array([corners for _, _, corners in objects], np.float64).reshape(-1, 4)
    size = inclusive_size(box)
    sizes = np.array([record.size for record in records], np.int64).reshape(-1, 2)
    return GroundTruth(
        image=np.repeat(np.arange(len(records)), [len(record.objects) for record in records]),
        label=np.array([place[name] for name, _, _ in objects], np.int32),
        box=box,
        size=size,
        area=box_area(size),
        difficult=np.array([difficult for _, difficult, _ in objects], bool),
        crowd=np.zeros(len(objects), bool),
        annotation_id=np.arange(1, len(objects) + 1),
        catalog=Catalog(tuple(names), classes, sizes=sizes),
        pixels="inclusive",
    )


def _xml(name: str, size: Iterable[int], objects: str) -> str:
    from html import escape

    width, height = size
    return (
        f"<annotation>\n\t<filename>{escape(name)}.jpg</filename>\n"
        f"\t<size>\n\t\t<width>{width}</width>\n\t\t<height>{height}</height>\n"
        f"\t\t<depth>3</depth>\n\t</size>\n{objects}</annotation>\n"
    )


def _object_xml(table: GroundTruth, row: int) -> str:
    from html import escape

    name = escape(table.catalog.classes[table.label[row]])
    difficult = int(table.difficult[row] or table.crowd[row])
    sides = "".join(
        f"\t\t\t<{side}>{shortest(value)}</{side}>\n"
        for side, value in zip(SIDES, table.box[row].tolist(), strict=True)
    )
    return (
        f"\t<object>\n\t\t<name>{name}</name>\n\t\t<difficult>{difficult}</difficult>\n"
        f"\t\t<bndbox>\n{sides}\t\t</bndbox>\n\t</object>\n"
    )


def shortest(value: float) -> str:
    """The shortest text that reads back as `value`; whole numbers without a point.

    >>> shortest(48.0), shortest(0.1)
    ('48', '0.1')
    """
    return repr(int(value)) if value.is_integer() else repr(value)
