"""Label Studio JSON: tasks with annotations and predictions."""

import json
import random
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from upmap.detection import Catalog, GroundTruth, read
from upmap.detection.formats import recognize_format
from upmap.detection.formats.label_studio_json import read_detections, read_ground_truth
from upmap.detection.formats.read_options import ReadOptions
from upmap.detection.inputs import open_input
from upmap.errors import InputError, InputWarning


def region(x: float = 10, label: str = "cat", **changes: Any) -> dict[str, Any]:
    value = {"x": x, "y": 20, "width": 50, "height": 25, "rotation": 0, "rectanglelabels": [label]}
    other = {"type": "rectanglelabels", "original_width": 200, "original_height": 80}
    extra = {key: changes.pop(key) for key in [*changes] if key in (*other, "score")}
    return {"id": "x", "from_name": "label", **other, **extra, "value": value | changes}


def annotation(*regions: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"id": 1, "completed_by": 3, "result": list(regions)} | more


def task(*annotations: dict[str, Any], image: str = "/img/a.jpg", **more: Any) -> dict[str, Any]:
    return {"id": 5, "data": {"image": image}, "annotations": list(annotations)} | more


def put(folder: Path, *tasks: Any) -> Path:
    file = folder / "export.json"
    file.write_text(json.dumps(tasks))
    return file


def truth(folder: Path, *tasks: Any, **options: Any) -> GroundTruth:
    return read_ground_truth(open_input(put(folder, *tasks)), ReadOptions(**options))


def test_percent_of_the_original_image_become_px(tmp_path: Path) -> None:
    table = truth(tmp_path, task(annotation(region())), task(annotation(), image="b.jpg"))
    assert table.box.tolist() == [[20, 16, 120, 36]]
    assert table.catalog.images == ("a", "b")
    assert table.catalog.sizes.tolist() == [[200, 80], [0, 0]]
    assert recognize_format(tmp_path / "export.json", "ground truth") == "label-studio"


def test_of_several_annotators_the_marked_one_is_read_else_the_first_that_is_valid(
    tmp_path: Path,
) -> None:
    canceled = annotation(region(1), was_cancelled=True)
    first, second = annotation(region(2)), annotation(region(3))
    with pytest.warns(InputWarning, match="2 tasks have several annotations"):
        table = truth(
            tmp_path,
            task(canceled, first, second, image="a.jpg"),
            task(first, second | {"ground_truth": True}, image="b.jpg"),
            task(canceled, second, image="c.jpg"),
        )
    assert (table.box[:, 0] / 2).tolist() == [2, 3, 3]


def test_tasks_that_nobody_annotated_are_no_images(tmp_path: Path) -> None:
    done = task(annotation(region()))
    with pytest.warns(InputWarning, match="2 tasks have no annotation"):
        table = truth(
            tmp_path,
            done,
            task(image="b.jpg"),
            task(annotation(was_cancelled=True), image="c.jpg"),
        )
    assert table.catalog.images == ("a",)


@pytest.mark.parametrize(
    ("urls", "images"),
    [
        (["/data/upload/1/0a1b2c3d-b.jpg", "/data/upload/1/11111111-a.jpg"], ("a", "b")),
        (["/data/upload/1/0a1b2c3d-a.jpg", "/data/upload/1/a.png"], ("0a1b2c3d-a", "a")),
        (
            ["/data/upload/1/0a1b2c3d-a.jpg", "/data/upload/2/11111111-a.jpg"],
            ("0a1b2c3d-a", "11111111-a"),
        ),
        (["/data/local-files/?d=x/b%20c.jpg", "s3://bucket/x/a.jpg"], ("a", "b c")),
        (["https://host/0a1b2c3d-a.jpg?token=1", "https://host/b.jpg"], ("0a1b2c3d-a", "b")),
    ],
)
def test_images_are_called_like_their_files_without_the_prefix_of_uploads(
    tmp_path: Path, urls: list[str], images: tuple[str, ...]
) -> None:
    tasks = [task(annotation(region()), image=url) for url in urls]
    assert truth(tmp_path, *tasks).catalog.images == images


def test_an_image_under_another_name_in_data_is_recognized_as_a_file(tmp_path: Path) -> None:
    named = task(annotation(region())) | {"data": {"note": "some text", "picture": "/x/p.jpg"}}
    assert truth(tmp_path, named).catalog.images == ("p",)


def test_a_rotated_box_is_refused_and_with_the_task_obb_its_hull_is_read(tmp_path: Path) -> None:
    rotated = task(annotation(region(rotation=90)))
    with pytest.raises(
        InputError, match=r"json:\[0\]\.annotations\[0\]\.result\[0\]: .*--task obb"
    ):
        truth(tmp_path, rotated)
    # Around its upper left corner, (20, 16).
    box = truth(tmp_path, rotated, task="obb").box[0].tolist()
    assert box == pytest.approx([0, 16, 20, 116])  # rounding of sine and cosine


def test_polygons_are_left_out_and_with_the_task_segment_their_hulls_are_read(
    tmp_path: Path,
) -> None:
    polygon = region(type="polygonlabels") | {
        "value": {"points": [[10, 10], [50, 20], [20, 50]], "polygonlabels": ["dog"]}
    }
    choice = {"type": "choices", "value": {"choices": ["good"]}}
    with pytest.warns(InputWarning, match="left out: .* 1 polygonlabels; --task segment"):
        assert len(truth(tmp_path, task(annotation(region(), polygon, choice)))) == 1
    table = truth(tmp_path, task(annotation(region(), polygon)), task="segment")
    assert table.box[1].tolist() == [20, 8, 100, 40]


def test_predictions_are_detections_with_their_own_scores_or_that_of_the_prediction(
    tmp_path: Path,
) -> None:
    prediction = annotation(region(score=0.75), region(30, "dog"), score=0.5, model_version="v1")
    done = task(annotation(region()), predictions=[prediction])
    file = put(tmp_path, done, task(annotation(), image="b.jpg"))
    assert recognize_format(file, "detections") == "label-studio"
    with pytest.warns(InputWarning, match="no ground truth for the detected classes dog"):
        table, detections = read(file, file)
    assert detections.score.tolist() == [0.75, 0.5]
    assert detections.box[0].tolist() == table.box[0].tolist()
    assert [detections.catalog.classes[k] for k in detections.label] == ["cat", "dog"]


def detect(folder: Path, catalog: Catalog, *tasks: Any, **options: Any) -> list[int]:
    file = open_input(put(folder, *tasks))
    return read_detections(file, catalog, ReadOptions(**options)).image.tolist()


def test_images_of_predictions_are_ids_or_stems_of_the_ground_truth(tmp_path: Path) -> None:
    predicted = task(predictions=[annotation(region(), score=1)])
    assert detect(tmp_path, Catalog(("a",), ("cat",)), predicted) == [0]
    by_stem = Catalog((1, 2), ("cat",), file_names=("x/b.jpg", "x/a.jpg"))
    assert detect(tmp_path, by_stem, predicted) == [1]
    both = Catalog(("a", "b"), ("cat",), file_names=("b.jpg", "a.jpg"))
    with pytest.raises(InputError, match=r"which are other images; --image-key .*id\|stem"):
        detect(tmp_path, both, predicted)
    assert detect(tmp_path, both, predicted, image_key="stem") == [1]
    with pytest.raises(InputError, match="no detection is on an image of the ground truth"):
        detect(tmp_path, Catalog(("c",), ("cat",)), predicted)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"predictions": [annotation(region())]}, r"result\[0\]: a prediction has no score"),
        ({"predictions": [annotation(model_version=v) for v in "ab"]}, "several models: 'a', 'b'"),
    ],
)
def test_predictions_that_have_no_single_score_are_refused(
    tmp_path: Path, changes: Any, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        detect(tmp_path, Catalog(("a",), ("cat",)), task(**changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"original_width": 0}, "original_width and original_height are missing"),
        ({"rectanglelabels": ["a", "b"]}, "a box has several labels"),
        ({"x": "left"}, r"\[0\]\.annotations\[0\]\.result\[0\]\.value\.x: Expected `float"),
        ({"x": 1e300}, r"the box is not finite or too large"),
    ],
)
def test_what_is_malformed_is_refused_with_its_place(
    tmp_path: Path, changes: Any, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        truth(tmp_path, task(annotation(region(**changes))))


def test_a_task_that_comes_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="images that occur twice"):
        truth(tmp_path, task(annotation(region())), task(annotation()))


def test_spoilt_files_are_read_or_refused_and_nothing_else(tmp_path: Path) -> None:
    generator = random.Random(3)
    file = put(tmp_path, task(annotation(region(rotation=3)), image="/upload/00000000-a?d=1"))
    text = file.read_bytes()
    for _ in range(400):
        data = bytearray(text)
        for _ in range(generator.randint(1, 4)):
            place = generator.randrange(len(data))
            data[place : place + generator.choice((0, 1, 1, 9))] = generator.choice(
                (b"", b"{", b'"', b"9", b"-", b"\xff", b"\0", b"[", b"1e400", b"null", b"NaN")
            )
        file.write_bytes(data)
        with warnings.catch_warnings(), suppress(InputError):
            warnings.simplefilter("ignore")
            read_ground_truth(open_input(file), ReadOptions(task="obb"))
