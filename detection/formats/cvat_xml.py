"""CVAT XML 1.1: one file of images with boxes, or of a video with tracks of boxes.

Source: CVAT's documentation of its XML format and its exporter. Corners are edges in px from 0.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from upmap.detection.formats.box_lists import (
    BoxLists,
    Corners,
    hull_of_points,
    hull_of_rotation,
    image_names_of_files,
    make_ground_truth,
    note_shapes,
    read_beginning,
)
from upmap.detection.formats.checks import note
from upmap.detection.formats.read_options import ReadOptions
from upmap.detection.inputs import Input
from upmap.detection.tables import GroundTruth
from upmap.errors import InputError
from upmap.files import read_bytes

__all__ = ["is_ground_truth", "read_ground_truth"]

SIDES = ("xtl", "ytl", "xbr", "ybr")
SHAPES = frozenset(("polygon", "polyline", "points", "ellipse", "mask", "cuboid", "skeleton"))
IN_TASK = ("size", "start_frame", "stop_frame", "frame_filter")  # elements of <meta>
MAX_FRAMES = 10**6
MAX_BOXES = 2 * 10**6  # that interpolation may make
HULL_OPTION = "--task segment reads the hulls of polygons as boxes"
Attributes = Mapping[str, str]


@dataclass(slots=True)
class _TrackBox:
    """A box of a track in a frame; `is_outside` says that the object is not there from now on."""

    frame: int
    box: Corners
    is_outside: bool
    is_key: bool
    where: str


@dataclass(slots=True)
class _Document:
    """What is read of a file.

    Attributes:
        lists: Images and their boxes.
        tracks: Label and boxes of each track.
        classes: The labels that the task lists.
        task: Text of elements of IN_TASK.
        video_size: Width and height of a video.
    """

    lists: BoxLists = field(default_factory=BoxLists)
    tracks: list[tuple[str, list[_TrackBox]]] = field(default_factory=list)
    classes: list[str] = field(default_factory=list)
    task: dict[str, str] = field(default_factory=dict)
    video_size: dict[str, str] = field(default_factory=dict)


def is_ground_truth(source: Input) -> bool:
    """Whether `source` is such a file, or a folder with one called annotations.xml."""
    if source.is_folder():
        source = Input(source.path / "annotations.xml")
    beginning = read_beginning(source).lstrip()
    return beginning.startswith(b"<") and b"<annotations" in beginning


def read_ground_truth(source: Input, options: ReadOptions) -> GroundTruth:
    """Ground truth of a file of images, or of a video, whose images are the frames' numbers.

    Args:
        source: The file, or a folder with annotations.xml.
        options: With the `task` "segment" polygons count with their hulls, with "obb" those of
            rotated boxes, which are refused otherwise.

    Raises:
        InputError: If the file is malformed, or boxes are rotated; names the line.
    """
    if source.is_folder():
        source = Input(source.path / "annotations.xml")
    document = _Reader(source.path, options).read(source)
    lists, path = document.lists, source.path
    if document.tracks or not lists.images:
        _add_tracks(document, path)
    else:
        lists.images = list(image_names_of_files(lists.file_names))
    if options.task != "detect":
        note_shapes(lists, path, HULL_OPTION)
    return make_ground_truth(lists, path, document.classes)


class _Reader:
    """Handlers of expat, which see one element after the other."""

    def __init__(self, path: Path, options: ReadOptions):
        from xml.parsers import expat

        self.path, self.options = path, options
        self.document = _Document()
        self.above: list[str] = []
        self.words: list[str] = []
        self.parser = expat.ParserCreate()
        self.parser.buffer_text = True
        self.parser.StartElementHandler = self.start
        self.parser.EndElementHandler = self.end
        self.parser.CharacterDataHandler = self.words.append
        self.parser.EntityDeclHandler = self.refuse_entity

    def read(self, source: Input) -> _Document:
        """Reads the file."""
        from xml.parsers import expat

        data = read_bytes(source.path) if source.data is None else source.data
        try:
            self.parser.Parse(data, True)
        except expat.ExpatError as error:
            reason = expat.ErrorString(error.code)
            raise InputError(f"malformed XML: {reason}", self.path, str(error.lineno)) from None
        except InputError:
            raise
        except (LookupError, ValueError) as error:  # of an encoding that nobody knows
            raise InputError(f"{error}; expected UTF-8", self.path, "1") from None
        return self.document

    def refuse_entity(self, *declaration: object) -> None:
        """Entities are refused: nested ones can expand to any size."""
        raise self.error("entity declarations are refused")

    def error(self, message: str) -> InputError:
        """An error at the present line."""
        return InputError(message, self.path, str(self.parser.CurrentLineNumber))

    def start(self, name: str, attributes: Attributes) -> None:
        """An element begins."""
        if not self.above and name != "annotations":
            raise self.error(f"expected <annotations>, got <{name[:60]}>")
        self.words.clear()
        parent = self.above[-1] if self.above else ""
        depth = len(self.above)
        self.above.append(name)
        if depth == 1 and name == "image":
            self.start_image(attributes)
        elif depth == 1 and name == "track":
            self.document.tracks.append((self.text(attributes, "label"), []))
        elif depth == 2 and parent == "image":
            self.start_shape(name, attributes)
        elif depth == 2 and parent == "track":
            self.start_track_shape(name, attributes)

    def end(self, name: str) -> None:
        """An element ends."""
        self.above.pop()
        if self.above[1:2] == ["meta"]:
            text, parent = "".join(self.words).strip(), self.above[-1]
            if name == "name" and parent == "label":
                self.document.classes.append(text)
            elif name in IN_TASK:
                self.document.task.setdefault(name, text)
            elif parent == "original_size":
                self.document.video_size[name] = text
        self.words.clear()

    def start_image(self, attributes: Attributes) -> None:
        """Adds an image."""
        lists = self.document.lists
        name = self.text(attributes, "name")
        lists.file_names.append(name)
        lists.images.append(name)
        lists.sizes.append((_side(attributes.get("width")), _side(attributes.get("height"))))

    def start_shape(self, name: str, attributes: Attributes) -> None:
        """Adds a shape of the present image."""
        lists = self.document.lists
        if (box := self.box(name, attributes)) is not None:
            place = len(lists.images) - 1
            line = str(self.parser.CurrentLineNumber)
            lists.add_box(place, self.text(attributes, "label"), box, line)

    def start_track_shape(self, name: str, attributes: Attributes) -> None:
        """Adds a box of the present track."""
        if (box := self.box(name, attributes)) is None:
            return
        frame = self.text(attributes, "frame")
        if not (frame.isascii() and frame.isdecimal() and len(frame) < 10):
            raise self.error(f"the frame is no number: {frame[:60]!r}")
        is_outside = attributes.get("outside", "0") not in ("0", "false", "False")
        is_key = attributes.get("keyframe", "1") not in ("0", "false", "False")
        line = str(self.parser.CurrentLineNumber)
        row = _TrackBox(int(frame), box, is_outside, is_key, line)
        self.document.tracks[-1][1].append(row)

    def box(self, name: str, attributes: Attributes) -> Corners | None:
        """The corners of a shape; None if it is left out."""
        if name == "box":
            left, top, right, bottom = (self.number(attributes, side) for side in SIDES)
            return self.rotate((left, top, right, bottom), attributes)
        if name not in SHAPES:
            return None
        if self.options.task != "segment" or name not in ("polygon", "polyline"):
            self.document.lists.left_out[name] += 1
            return None
        words = self.text(attributes, "points").split(";")
        try:
            points = [[float(number) for number in word.split(",")] for word in words]
        except ValueError:
            points = [[]]
        if any(len(point) != 2 for point in points):
            raise self.error("expected points x,y;x,y")
        return hull_of_points(points)

    def rotate(self, box: Corners, attributes: Attributes) -> Corners:
        """The box, or the hull of a rotated one."""
        degrees = self.number(attributes, "rotation") if "rotation" in attributes else 0.0
        if degrees == 0:
            return box
        if self.options.task != "obb":
            raise self.error(
                f"the box is rotated by {degrees:g} degrees; --task obb reads its hull, a box with "
                "sides along the axes"
            )
        if not abs(degrees) < 1e6:
            raise self.error(f"the rotation is no angle: {degrees:g}")
        left, top, right, bottom = box
        return hull_of_rotation(box, degrees, ((left + right) / 2, (top + bottom) / 2))

    def number(self, attributes: Attributes, name: str) -> float:
        """A number among the attributes."""
        text = self.text(attributes, name)
        try:
            return float(text)
        except ValueError:
            raise self.error(f"{name} is no number: {text[:60]!r}") from None

    def text(self, attributes: Attributes, name: str) -> str:
        """One of the attributes."""
        if name not in attributes:
            raise self.error(f"<{self.above[-1][:60]}> has no {name}")
        return attributes[name]


def _add_tracks(document: _Document, path: Path) -> None:
    """Adds the frames of a video and the boxes of its tracks."""
    lists = document.lists
    if lists.images:
        raise InputError("images and tracks in one file; export them in one of both forms", path)
    if not document.tracks and "size" not in document.task:
        raise InputError("there are neither images nor tracks", path)
    rows = [row for _, boxes in document.tracks for row in boxes]
    frames = sorted({*_frames(document.task, path), *(row.frame for row in rows)})
    lists.images = list(frames)
    lists.file_names = [f"frame_{frame:06d}" for frame in frames]  # as CVAT names them
    size = document.video_size
    lists.sizes = [(_side(size.get("width")), _side(size.get("height")))] * len(frames)
    place = {frame: i for i, frame in enumerate(frames)}
    # Where frames between the key frames are listed, all frames are.
    is_complete = any(not row.is_key for row in rows)
    interpolated = 0
    for label, boxes in document.tracks:
        boxes.sort(key=lambda row: row.frame)
        if repeated := [a.where for a, b in pairwise(boxes) if a.frame == b.frame]:
            raise InputError("the track has two boxes in this frame", path, repeated[0])
        for row in boxes:
            if not row.is_outside:
                lists.add_box(place[row.frame], label, row.box, row.where)
        if not is_complete:
            interpolated += _interpolate(lists, label, boxes, frames, path)
    if interpolated:
        message = f"{interpolated} boxes between key frames are interpolated, as in CVAT"
        note("interpolated-box", interpolated, path, message)


def _frames(task: Mapping[str, str], path: Path) -> range:
    """The numbers of a task's frames; none where it does not say."""
    numbers = {name: task.get(name, "") for name in ("start_frame", "stop_frame", "size")}
    step = task.get("frame_filter", "").removeprefix("step=") or "1"
    is_step = step.isascii() and step.isdecimal() and len(step) < 10 and int(step) > 0
    step = step if is_step else "1"
    start, stop, size = (
        int(text) if text.isascii() and text.isdecimal() and len(text) < 10 else None
        for text in numbers.values()
    )
    if start is None:
        start = 0
    if stop is None:
        stop = -1 if size is None else start + (size - 1) * int(step)
    frames = range(start, stop + 1, int(step))
    if len(frames) > MAX_FRAMES:
        raise InputError(f"the task has {len(frames)} frames; at most {MAX_FRAMES} are read", path)
    return frames


def _interpolate(
    lists: BoxLists, label: str, boxes: list[_TrackBox], frames: list[int], path: Path
) -> int:
    """Adds the boxes of a track in the frames that it does not list; returns how many.

    Between two key frames corners move in a straight line; the last box stays to the end.
    """
    from bisect import bisect_left, bisect_right

    count = 0
    for row, following in zip(boxes, [*boxes[1:], None], strict=True):
        if row.is_outside:
            continue
        first = bisect_right(frames, row.frame)
        last = len(frames) if following is None else bisect_left(frames, following.frame)
        goal = row.box if following is None or following.is_outside else following.box
        if len(lists.box) + last - first > MAX_BOXES:
            raise InputError(f"tracks of more than {MAX_BOXES} boxes", path)
        for place in range(first, last):
            share = 0.0
            if following is not None:
                share = (frames[place] - row.frame) / (following.frame - row.frame)
            left, top, right, bottom = (
                a + (b - a) * share for a, b in zip(row.box, goal, strict=True)
            )
            lists.add_box(place, label, (left, top, right, bottom), row.where)
            count += 1
    return count


def _side(text: str | None) -> float:
    try:
        return float(text or "0")
    except ValueError:
        return 0.0
