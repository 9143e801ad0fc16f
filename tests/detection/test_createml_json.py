"""CreateML JSON, whose x and y may be centers or corners."""

import json
from pathlib import Path
from typing import Any

import pytest

from upmap.detection import GroundTruth
from upmap.detection.formats import recognize_format
from upmap.detection.formats.createml_json import read_ground_truth
from upmap.detection.formats.read_options import ReadOptions
from upmap.detection.inputs import open_input
from upmap.errors import InputError, InputWarning

INNER, LOW = (30, 40, 20, 10), (2, 1, 20, 10)  # as a center, LOW begins outside the image
KEYS = ("x", "y", "width", "height")


def content(*boxes: tuple[Any, ...], old: bool = False) -> list[dict[str, Any]]:
    annotations = [
        {"label": "cat", "coordinates": dict(zip(KEYS, box, strict=True))} for box in boxes
    ]
    if old:
        return [{"imagefilename": "a.jpg", "annotation": annotations}]
    return [{"image": "a.jpg", "annotations": annotations}, {"image": "b.jpg", "annotations": []}]


def read(folder: Path, value: Any, **options: Any) -> GroundTruth:
    file = folder / "x.createml.json"
    file.write_text(json.dumps(value))
    return read_ground_truth(open_input(file), ReadOptions(**options))


def test_where_both_readings_fit_the_file_is_refused_and_the_option_settles_it(
    tmp_path: Path,
) -> None:
    with pytest.raises(InputError, match=r"center .* --box cxcywh.* corner .* --box xywh"):
        read(tmp_path, content(INNER))
    assert read(tmp_path, content(INNER), box="cxcywh").box.tolist() == [[20, 35, 40, 45]]
    assert read(tmp_path, content(INNER), box="xywh").box.tolist() == [[30, 40, 50, 50]]


def test_where_centers_would_lie_outside_the_image_all_boxes_are_read_as_corners(
    tmp_path: Path,
) -> None:
    with pytest.warns(InputWarning, match="1 of 2 boxes would begin outside") as warning:
        table = read(tmp_path, content(INNER, LOW))
    assert table.box.tolist() == [[30, 40, 50, 50], [2, 1, 22, 11]]
    assert [w.message.kind for w in warning] == ["corner-for-center"]  # type: ignore[union-attr]


@pytest.mark.parametrize("boxes", [[LOW, *[INNER] * 40], [LOW, (-5, 3, 4, 4)]])
def test_a_few_boxes_outside_and_boxes_outside_by_both_readings_settle_nothing(
    tmp_path: Path, boxes: list[tuple[Any, ...]]
) -> None:
    with pytest.raises(InputError, match="nothing in the file tells which"):
        read(tmp_path, content(*boxes))


def test_both_spellings_of_the_keys_are_read_and_empty_images_count(tmp_path: Path) -> None:
    assert read(tmp_path, content(INNER, old=True), box="xywh").catalog.images == ("a",)
    assert read(tmp_path, content()).catalog.images == ("a", "b")
    assert recognize_format(tmp_path, "ground truth") == "createml"
    read(tmp_path, content(INNER), box="xywh")
    assert recognize_format(tmp_path / "x.createml.json", "ground truth") == "createml"


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([{"annotations": []}], r"json:\[0\]: an image has no name"),
        (content((1, 2, 3, "x")), r"coordinates\.height: Expected `float`"),
        (content((1, 1e300, 3, 4)), r"annotations\[0\]: the box is not finite"),
        ({"image": 3}, "Expected `array`, got `object`"),
    ],
)
def test_what_is_malformed_is_refused_with_its_place(
    tmp_path: Path, value: Any, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        read(tmp_path, value, box="xywh")


def test_another_kind_of_box_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--box is cxcywh or xywh for CreateML, not 'xyxy'"):
        read(tmp_path, content(INNER), box="xyxy")


def test_the_sample_has_corners(real_data: Path) -> None:
    folder = real_data / "formats" / "datumaro" / "roboflow_dataset" / "createml" / "train"
    with pytest.warns(InputWarning, match="read as the upper left corner"):
        table = read_ground_truth(open_input(folder), ReadOptions())
    assert table.box.tolist() == [[2, 1, 5, 2], [0, 0, 2, 4]]
