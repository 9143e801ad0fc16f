"""Groups of images: from files, from patterns, and names that look like frames of videos."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from upmap.detection import Catalog, InputError, InputWarning
from upmap.metrics.analysis.groups import (
    find_frames,
    group_by_pattern,
    note_frames,
    read_groups,
    select_groups,
)

CATALOG = Catalog((1, 2, 3), ("a",), file_names=("v1/7.jpg", "v1/8.jpg", "v2/9.jpg"))


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "groups.csv"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    "text",
    [
        "image,group\n1,x\n2,x\n3,y\n",
        "group,image,more\nx,7.jpg,0\nx,v1/8.jpg,1\ny,9,1\n",  # names of files, with and without
        "image,video\n3,y\n2,x\n1,x\n99,z\n",  # any order, the only other column, other images
    ],
)
def test_a_file_names_images_by_id_or_file_and_their_group(tmp_path: Path, text: str) -> None:
    groups = {1: "x", 2: "x", 3: "y"}
    path = write(tmp_path, text)
    assert read_groups(path, CATALOG) == groups
    assert select_groups(str(path), CATALOG) == groups


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("image,group\n1,x\n2,\n", "groups.csv: no group for 2 images: 2, 3"),
        ("image,group\n1,x\n1,x\n", "groups.csv:3: image '1' stands twice"),
        ("", "groups.csv:1: expected different columns"),
        ('image,group\n"1,x\n', "not CSV"),
    ],
)
def test_a_wrong_file_is_refused_with_the_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_groups(write(tmp_path, text), CATALOG)


def test_a_pattern_is_searched_in_file_names_or_in_ids_without_them() -> None:
    assert select_groups("^[^/]*", CATALOG) == {1: "v1", 2: "v1", 3: "v2"}
    assert select_groups(".", Catalog((1, 2), ("a",))) == {1: "1", 2: "2"}
    assert group_by_pattern(["a1b2"], r"a(\d)b(\d)") == {"a1b2": ("1", "2")}
    with pytest.raises(InputError, match=r"the pattern 'v3' is not in the image 'v1/7\.jpg'"):
        select_groups("v3", CATALOG)
    with pytest.raises(InputError, match="is not a regular expression"):
        select_groups("(", CATALOG)


def frames(videos: int, count: int, name: str = "video{}/frame_{:05d}.jpg") -> list[str]:
    return [name.format(v, i) for v in range(videos) for i in range(count)]


@pytest.mark.parametrize(
    "names",
    [
        frames(3, 10),
        frames(2, 8, "MOT17-{:02d}/img1/{:06d}.jpg"),
        frames(2, 9, "clip{}_{}.png"),
        [f"clip{v}_{5 * i}.png" for v in (0, 1) for i in range(9)],  # every fifth frame
        frames(2, 9, "clip{}_mp4-{}_jpg.rf.8a3c0ffee.jpg"),  # as Roboflow exports them
        [f"frame_{i:06d}" for i in range(20)],  # one video, as CVAT names its frames
        frames(1, 30, "b{}_{}") + frames(1, 30, "c{}_{}") + [f"x{i}y" for i in range(200)],
    ],
)
def test_names_with_numbers_in_a_row_behind_equal_beginnings_are_frames(names: list[str]) -> None:
    assert len(find_frames(names)) >= 16


@pytest.mark.parametrize(
    "names",
    [
        [],
        [f"{i:012d}.jpg" for i in range(100)],  # numbers alone
        [f"IMG_{i:04d}.jpg" for i in range(100)],  # one camera, or files that were numbered
        [f"{i:x}{i * 7919:x}.jpg" for i in range(300)],
        frames(40, 7),  # runs too short
        frames(2, 10) + [f"photo of {i} things" for i in range(100)],  # a small part
        [f"aachen_{v:06d}_000019_leftImg8bit.png" for v in range(100)],  # Cityscapes
    ],
)
def test_other_names_are_no_frames(names: list[str]) -> None:
    assert find_frames(names) == []


def test_years_of_voc_2012_and_numbers_of_coco_2014_are_no_frames() -> None:
    # VOC2012 has half of the numbers of a year in trainval, a quarter in val; COCO 2014 one of 14.
    rng = np.random.default_rng(0)
    for share in (0.5, 0.25):
        names = [
            f"{year}_{i:06d}"
            for year in range(2007, 2012)
            for i in np.flatnonzero(rng.random(8000) < share)
        ]
        assert find_frames(names) == []
    ids = np.flatnonzero(rng.random(580_000) < 1 / 14)
    names = [f"{s}2014/COCO_{s}2014_{i:012d}.jpg" for i in ids for s in [("train", "val")[i % 2]]]
    assert find_frames(names) == []


def test_frames_are_noted_with_examples() -> None:
    names = tuple(frames(2, 10))
    catalog = Catalog(tuple(range(20)), ("a",), file_names=names)
    with pytest.warns(InputWarning, match="20 of 20 images look like frames") as caught:
        note_frames(catalog, Path("truth.json"))
    note: Any = caught[0].message
    assert (note.kind, note.count, note.examples) == ("frames-of-videos", 20, names[:5])
    note_frames(Catalog(tuple(range(20)), ("a",)), Path("x"))  # ids that are numbers: no warning


def test_real_names_of_voc_and_coco_are_no_frames(real_data: Path) -> None:
    voc = [path.stem for path in (real_data / "voc2007_test/Annotations").glob("*.xml")]
    coco = json.loads((real_data / "coco_fakebbox100/instances_val2014_100.json").read_text())
    names = [image["file_name"] for image in coco["images"]]
    assert len(voc) > 1000
    assert len(names) == 100
    assert find_frames(voc) == find_frames(names) == []
    assert find_frames([f"JPEGImages/{name}.jpg" for name in voc]) == []
