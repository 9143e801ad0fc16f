"""CVAT XML: images, and tracks of a video."""

import random
import warnings
from contextlib import suppress
from pathlib import Path

import pytest

from upmap.detection import GroundTruth, read_ground_truth
from upmap.detection.formats import recognize_format
from upmap.detection.formats.cvat_xml import read_ground_truth as read_cvat
from upmap.detection.formats.read_options import ReadOptions
from upmap.detection.inputs import open_input
from upmap.errors import InputError, InputWarning

BOX = '<box label="cat" xtl="1.5" ytl="2" xbr="10" ybr="20" occluded="0" z_order="0"{}/>'
META = """<meta><task><size>{size}</size><start_frame>{start}</start_frame>
<stop_frame>{stop}</stop_frame><frame_filter>{step}</frame_filter>
<labels><label><name>dog</name></label></labels>
<original_size><width>100</width><height>80</height></original_size></task></meta>"""


def images(shapes: str = BOX.format("")) -> str:
    return (
        "<?xml version='1.0' encoding='utf-8'?>\n<annotations><version>1.1</version>\n"
        '<image id="3" name="train/b.jpg" width="100" height="80">\n</image>\n'
        f'<image id="9" name="train/a.jpg" width="60" height="50">\n{shapes}\n</image>\n'
        "</annotations>"
    )


def video(boxes: str, *, start: int = 0, stop: int = 9, step: str = "", size: int = 10) -> str:
    meta = META.format(size=size, start=start, stop=stop, step=step)
    return f'<annotations>{meta}<track id="0" label="cat">{boxes}</track></annotations>'


def frame(number: int, left: float = 0, outside: int = 0, key: int = 1) -> str:
    return (
        f'<box frame="{number}" xtl="{left}" ytl="0" xbr="{left + 10}" ybr="10" '
        f'outside="{outside}" keyframe="{key}" occluded="0"/>'
    )


def read(folder: Path, text: str, **options: object) -> GroundTruth:
    file = folder / "annotations.xml"
    file.write_text(text, encoding="utf-8")
    return read_cvat(open_input(file), ReadOptions(**options))  # type: ignore[arg-type]


def placed(table: GroundTruth) -> list[tuple[object, float]]:
    """The image and the left side of each box."""
    lefts = table.box[:, 0].tolist()
    return [(table.catalog.images[i], x) for i, x in zip(table.image, lefts, strict=True)]


def test_boxes_are_read_as_they_stand_and_images_without_boxes_count(tmp_path: Path) -> None:
    table = read(tmp_path, images())
    assert table.catalog.images == ("a", "b")
    assert table.catalog.file_names == ("train/a.jpg", "train/b.jpg")
    assert table.catalog.sizes.tolist() == [[60, 50], [100, 80]]
    assert table.box.tolist() == [[1.5, 2, 10, 20]]
    assert (table.image.tolist(), table.pixels) == ([0], "continuous")


@pytest.mark.parametrize("name", ["annotations.xml", "export"])
def test_a_file_of_any_name_and_a_folder_with_annotations_are_recognized(
    tmp_path: Path, name: str
) -> None:
    file = tmp_path / name
    file.write_text(images(), encoding="utf-8")
    assert recognize_format(file, "ground truth") == "cvat"
    if name == "annotations.xml":
        assert recognize_format(tmp_path, "ground truth") == "cvat"


def test_a_rotated_box_is_refused_and_with_the_task_obb_its_hull_is_read(tmp_path: Path) -> None:
    text = images(BOX.format(' rotation="90"'))
    with pytest.raises(InputError, match=r"xml:6: the box is rotated by 90 degrees; --task obb"):
        read(tmp_path, text)
    hull = read(tmp_path, text, task="obb").box[0].tolist()
    assert hull == pytest.approx([-3.25, 6.75, 14.75, 15.25])  # rounding of sine and cosine
    assert len(read(tmp_path, images(BOX.format(' rotation="0.0"')))) == 1


def test_polygons_beside_boxes_are_left_out_and_with_the_task_segment_their_hulls_are_read(
    tmp_path: Path,
) -> None:
    polygon = '<polygon label="cat" points="5,6;9.5,7;6,30"/><tag label="cat"/>'
    text = images(BOX.format("") + polygon)
    with pytest.warns(InputWarning, match="left out: shapes that are no boxes: 1 polygon"):
        assert len(read(tmp_path, text)) == 1
    assert read(tmp_path, text, task="segment").box[1].tolist() == [5, 6, 9.5, 30]
    with pytest.raises(InputError, match="no boxes, but shapes that are no boxes: 1 polygon"):
        read(tmp_path, images(polygon))


def test_a_box_that_is_outside_is_not_there(tmp_path: Path) -> None:
    text = video(frame(0) + frame(1, 5, key=0) + frame(2, 6, outside=1))
    assert placed(read(tmp_path, text)) == [(0, 0), (1, 5)]


def test_all_frames_of_the_task_are_images_also_those_without_boxes(tmp_path: Path) -> None:
    table = read(
        tmp_path, video(frame(4) + frame(6, outside=1, key=0), start=2, stop=8, step="step=2")
    )
    assert table.catalog.images == (2, 4, 6, 8)
    assert table.catalog.file_names[0] == "frame_000002"
    assert table.catalog.sizes.tolist() == [[100, 80]] * 4
    assert table.catalog.classes == ("cat", "dog")


def test_frames_between_key_frames_are_interpolated_and_the_last_box_stays(tmp_path: Path) -> None:
    text = video(frame(1, 0) + frame(3, 10) + frame(5, 0, outside=1) + frame(8, 20), stop=9)
    with pytest.warns(InputWarning, match="3 boxes between key frames are interpolated"):
        table = read(tmp_path, text)
    assert placed(table) == [(1, 0), (2, 5), (3, 10), (4, 10), (8, 20), (9, 20)]


def test_where_frames_between_key_frames_are_listed_nothing_is_interpolated(tmp_path: Path) -> None:
    text = video(frame(0, 0) + frame(1, 7, key=0) + frame(4, 10))
    assert placed(read(tmp_path, text)) == [(0, 0), (1, 7), (4, 10)]


def test_a_track_with_two_boxes_in_a_frame_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="two boxes in this frame"):
        read(tmp_path, video(frame(0) + frame(0)))


def test_an_inverted_box_counts_as_not_found(tmp_path: Path) -> None:
    inverted = '<box label="cat" xtl="10" ytl="2" xbr="1" ybr="20"/>'
    with pytest.warns(
        InputWarning, match="1 ground truths have an inverted box or a negative side"
    ):
        assert read(tmp_path, images(inverted)).size[0].tolist() == [-9, 18]


BAD = {
    "<!DOCTYPE a [<!ENTITY b 'c'>]><annotations/>": "entity declarations are refused",
    "<annotations><meta>": "malformed XML",
    "<annotations></annotations>": "neither images nor tracks",
    "<annotation/>": "expected <annotations>, got <annotation>",
    images('<box label="cat" xtl="a" ytl="0" xbr="1" ybr="1"/>'): "xml:6: xtl is no number: 'a'",
    images('<box label="cat" xtl="1" ytl="0" xbr="1"/>'): "xml:6: <box> has no ybr",
    images('<box xtl="1" ytl="0" xbr="1" ybr="1"/>'): "xml:6: <box> has no label",
    images('<box label="cat" xtl="nan" ytl="0" xbr="1" ybr="1"/>'): "xml:6: the box is not finite",
    images('<box label="cat" xtl="1e999" ytl="0" xbr="1" ybr="1"/>'): "xml:6: the box is not",
    images(BOX.format(' rotation="x"')): "xml:6: rotation is no number: 'x'",
    images().replace("train/b", "train/a"): "images that occur twice: train/a",
    video(frame(0), stop=10**8): "the task has 100000001 frames",
    video('<box frame="-1" xtl="0" ytl="0" xbr="1" ybr="1"/>'): "the frame is no number: '-1'",
}


@pytest.mark.parametrize("text", BAD)
def test_what_is_malformed_is_refused_with_its_place(tmp_path: Path, text: str) -> None:
    with pytest.raises(InputError, match=BAD[text]):
        read(tmp_path, text)


def test_the_sample_is_read_like_its_twin_in_voc_format(real_data: Path) -> None:
    folder = real_data / "formats" / "one_set_many_formats"
    truth, voc = read_ground_truth(folder / "cvat"), read_ground_truth(folder / "voc")
    assert len(truth) == 181
    assert rows(truth) == rows(voc)


def rows(table: GroundTruth) -> list[tuple[object, ...]]:
    columns = (table.image.tolist(), table.label.tolist(), table.box.tolist())
    return sorted(
        (table.catalog.images[i], table.catalog.classes[k], *box)
        for i, k, box in zip(*columns, strict=True)
    )


def test_spoilt_files_are_read_or_refused_and_nothing_else(tmp_path: Path) -> None:
    generator = random.Random(3)
    texts = [images(BOX.format(' rotation="3"')).encode(), video(frame(0) + frame(3)).encode()]
    for _ in range(400):
        data = bytearray(generator.choice(texts))
        for _ in range(generator.randint(1, 4)):
            place = generator.randrange(len(data))
            data[place : place + generator.choice((0, 1, 1, 9))] = generator.choice(
                (b"", b"<", b'"', b"9", b"-", b"\xff", b"\0", b"&a;", b"1e400")
            )
        (tmp_path / "a.xml").write_bytes(data)
        with warnings.catch_warnings(), suppress(InputError):
            warnings.simplefilter("ignore")
            read_cvat(open_input(tmp_path / "a.xml"), ReadOptions(task="obb"))
