"""The synthetic scenes: what is annotated is what is seen, and data/sample is what they give."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from upmap.data import shapes
from upmap.data.shapes import CLASSES, Scene, detections_of, ground_truth_of, scenes
from upmap.detection import Detections, GroundTruth, InputError, read
from upmap.detection.boxes import convert_pixels
from upmap.metrics import COCO, PROTOCOLS, mean_average_precision
from upmap.metrics.semantic import boundary

cv2 = pytest.importorskip("cv2", reason="drawing needs OpenCV")

SAMPLE = Path(shapes.__file__).parent / "sample"
SAMPLE_IMAGES, SAMPLE_SEED = 48, 0  # as data/README.md says

Tables = tuple[GroundTruth, Detections]


@pytest.fixture(scope="module")
def drawn() -> list[Scene]:
    return scenes(SAMPLE_IMAGES, SAMPLE_SEED)


@pytest.fixture(scope="module")
def voc() -> Tables:
    return read(SAMPLE / "voc", SAMPLE / "voc" / "results")


@pytest.fixture(scope="module")
def coco() -> Tables:
    return read(SAMPLE / "coco" / "instances_test.json", SAMPLE / "coco" / "detections_test.json")


def assert_same_rows(
    a: GroundTruth | Detections, b: GroundTruth | Detections, *, but: str = ""
) -> None:
    assert a.catalog.classes == b.catalog.classes
    for name in a.COLUMNS:
        if name != but:
            np.testing.assert_array_equal(getattr(a, name), getattr(b, name), name)


def test_the_sample_holds_the_annotations_that_its_seed_gives(
    drawn: list[Scene], voc: Tables
) -> None:
    truth = ground_truth_of(drawn)
    assert voc[0].catalog.images == truth.catalog.images
    np.testing.assert_array_equal(voc[0].catalog.sizes, truth.catalog.sizes)
    assert_same_rows(voc[0], truth)


def test_the_sample_holds_the_detections_that_its_seed_gives(
    drawn: list[Scene], voc: Tables
) -> None:
    assert_same_rows(voc[1], detections_of(drawn, SAMPLE_SEED))


def test_the_sample_has_a_picture_of_every_image(drawn: list[Scene], voc: Tables) -> None:
    names = voc[0].catalog.images
    files = sorted((SAMPLE / "voc" / "JPEGImages").iterdir())
    assert [file.name for file in files] == [f"{name}.jpg" for name in names]
    for file, scene in zip(files, drawn, strict=True):
        picture = cv2.imread(str(file))[:, :, ::-1].astype(float)
        assert picture.shape == scene.image.shape
        # JPEG's loss, far below the difference between two scenes.
        assert np.abs(picture - scene.image).mean() < 6


def test_both_formats_of_the_sample_hold_the_same_boxes(voc: Tables, coco: Tables) -> None:
    for ours, theirs in zip(voc, coco, strict=True):
        assert_same_rows(ours, convert_pixels(theirs, "inclusive"))
        assert_same_rows(convert_pixels(ours, "continuous"), theirs)


@pytest.mark.parametrize("name", PROTOCOLS)
def test_both_formats_of_the_sample_get_the_same_metrics(
    name: str, voc: Tables, coco: Tables
) -> None:
    ours, theirs = (
        mean_average_precision(*tables, protocol=PROTOCOLS[name]) for tables in (voc, coco)
    )
    assert ours.metrics == theirs.metrics
    assert ours.per_class == theirs.per_class


def test_the_sample_tells_classes_protocols_and_areas_apart(voc: Tables) -> None:
    found = mean_average_precision(*voc, protocol=COCO)
    assert 0.35 < found.mAP < 0.6
    assert len({scores.AP for scores in found.per_class.values()}) == len(CLASSES)
    assert all(np.isfinite(value) for value in found.metrics.values())
    assert 0.6 < mean_average_precision(*voc, protocol=PROTOCOLS["voc2007"]).mAP < 0.8


def test_the_sample_has_difficult_objects_and_an_image_without_any(voc: Tables) -> None:
    truth = voc[0]
    counts = np.bincount(truth.image, minlength=len(truth.catalog.images))
    assert counts.min() == 0
    assert counts.max() == 7
    assert 0 < truth.difficult.sum() < len(truth) / 4


def test_detections_stand_by_class_then_image_then_score(voc: Tables) -> None:
    found = voc[1]
    order = np.lexsort((-found.score, found.image, found.label))
    np.testing.assert_array_equal(order, np.arange(len(found)))


def test_detections_lie_within_their_images(voc: Tables) -> None:
    found = voc[1]
    assert found.box.min() >= 1
    assert (found.box[:, 2:] <= found.catalog.sizes[found.image]).all()
    assert found.size.min() >= 1


def test_a_box_is_the_extent_of_the_visible_pixels(drawn: list[Scene]) -> None:
    for scene in drawn:
        assert scene.instances.max() == len(scene.boxes)
        for i, box in enumerate(scene.boxes.tolist(), start=1):
            rows, columns = np.nonzero(scene.instances == i)
            extent = [columns.min(), rows.min(), columns.max(), rows.max()]
            assert [side - 1 for side in box] == extent


def test_the_mask_has_the_class_of_the_visible_object(drawn: list[Scene]) -> None:
    for scene in drawn:
        np.testing.assert_array_equal(scene.mask == 0, scene.instances == 0)
        for i, label in enumerate(scene.labels.tolist(), start=1):
            assert (scene.mask[scene.instances == i] == label + 1).all()


def test_the_mask_of_a_shape_lies_where_the_image_shows_it() -> None:
    square = [np.array([[10.0, 5.0], [30.0, 5.0], [30.0, 25.0], [10.0, 25.0]])]
    inside = shapes._inside(square, 40, 30)
    painted = shapes._paint(np.zeros((30, 40, 3)), square, np.random.default_rng(0), shapes.ANY_HUE)
    assert inside.sum() == 20 * 20
    assert (painted.max(axis=2)[inside] > 30).all()
    assert inside[6:24, 11:29].all()


def test_a_ring_has_a_hole() -> None:
    ring = shapes._contours("ring", 160, 120, np.random.default_rng(3))
    center = np.rint(ring[0].mean(axis=0)).astype(int)
    assert not shapes._inside(ring, 160, 120)[center[1], center[0]]
    assert shapes._inside(ring[:1], 160, 120)[center[1], center[0]]


def test_a_later_shape_covers_an_earlier_one_and_a_covered_one_is_dropped() -> None:
    stencils = np.zeros((4, 20, 20), bool)
    stencils[0, 2:4, 2:4] = True  # wholly under the second
    stencils[1, :10, :10] = True
    stencils[2, 10:, 10:] = True  # mostly under the fourth
    stencils[3, 10:, 11:] = True
    labels = np.array([0, 1, 2, 3], np.int32)
    scene = shapes._annotate(np.zeros((20, 20, 3), np.uint8), stencils, labels)
    assert scene.labels.tolist() == [1, 2, 3]
    assert scene.boxes.tolist() == [[1, 1, 10, 10], [11, 11, 11, 20], [12, 11, 20, 20]]
    assert scene.difficult.tolist() == [False, True, False]


def test_the_same_seed_gives_the_same_scenes_and_another_gives_others() -> None:
    first, again, other = scenes(3, 7), scenes(3, 7), scenes(3, 8)
    for a, b, c in zip(first, again, other, strict=True):
        np.testing.assert_array_equal(a.image, b.image)
        np.testing.assert_array_equal(a.instances, b.instances)
        assert a.image.shape != c.image.shape or (a.image != c.image).any()
    assert_same_rows(detections_of(first, 7), detections_of(again, 7))


def test_more_scenes_begin_with_the_same_ones() -> None:
    for a, b in zip(scenes(2, 7), scenes(4, 7), strict=False):
        np.testing.assert_array_equal(a.image, b.image)


def test_a_background_alone_makes_empty_tables(drawn: list[Scene]) -> None:
    empty = [scene for scene in drawn if not len(scene.labels)]
    assert empty
    assert not empty[0].mask.any()
    assert len(ground_truth_of(empty)) == 0
    assert detections_of(empty, 0).catalog == ground_truth_of(empty).catalog


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ("voc", {"voc/JPEGImages", "voc/Annotations", "voc/results"}),
        ("coco", {"coco/images"}),
        ("both", {"voc/JPEGImages", "voc/Annotations", "voc/results"}),
    ],
)
def test_the_command_writes_the_formats_asked_for(
    choice: str, expected: set[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert shapes.main([str(out), "--images", "3", "--format", choice]) == 0
    assert capsys.readouterr().out.startswith(f"{out}: 3 images, ")
    assert {folder.name for folder in out.iterdir()} == (
        {"voc", "coco"} if choice == "both" else {choice}
    )
    for folder in expected:
        assert any((out / folder).iterdir())
    assert len(list(out.rglob("*.jpg"))) == 3


def test_the_command_with_its_defaults_writes_the_sample_again(
    tmp_path: Path, voc: Tables, coco: Tables
) -> None:
    assert shapes.main([str(tmp_path / "out")]) == 0
    again = tmp_path / "out"
    files = {file.relative_to(SAMPLE) for file in SAMPLE.rglob("*") if file.is_file()}
    assert files == {file.relative_to(again) for file in again.rglob("*") if file.is_file()}
    for file in files:
        if file.suffix != ".jpg":  # which versions of OpenCV may pack differently
            assert (again / file).read_bytes() == (SAMPLE / file).read_bytes(), file


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--images", "0"], "--images: must lie in [1, 999999], not 0"),
        (["--seed", "-1"], f"--seed: must lie in [0, {2**63 - 1}], not -1"),
    ],
)
def test_a_wrong_number_is_misuse_and_leaves_nothing(
    extra: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert shapes.main([str(tmp_path / "out"), *extra]) == 2
    assert capsys.readouterr().err == f"error: {message}\n"
    assert list(tmp_path.iterdir()) == []


def test_an_existing_folder_is_refused_and_stays(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    assert shapes.main([str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {tmp_path}: ")
    assert error.count("\n") == 1
    assert [file.name for file in tmp_path.iterdir()] == ["mine.txt"]


def test_a_failure_on_the_way_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(image: object) -> bytes:
        raise InputError("no space")

    monkeypatch.setattr(shapes, "_jpeg", broken)
    with pytest.raises(InputError, match="no space"):
        shapes.write_shapes(tmp_path / "out", images=2)
    assert list(tmp_path.iterdir()) == []


def test_without_opencv_the_command_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    assert shapes.main([str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert 'pip install "upmap[shapes]"' in error
    assert list(tmp_path.iterdir()) == []


def test_importing_shapes_does_not_import_opencv() -> None:
    code = "import sys, data.shapes; sys.exit('cv2' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_scenes_are_values(drawn: list[Scene]) -> None:
    scene = drawn[0]
    with pytest.raises(AttributeError):
        scene.labels = scene.labels  # type: ignore[misc]
    assert replace(scene).image is scene.image


def test_colored_scenes_differ_from_others_in_the_color_of_shapes_alone() -> None:
    for plain, colored in zip(scenes(12, 7), scenes(12, 7, colored=True), strict=True):
        np.testing.assert_array_equal(plain.mask, colored.mask)
        differs = (plain.image != colored.image).any(axis=2)
        background = colored.mask == 0
        assert not differs[background & ~boundary(background, 3)].any()  # edges are soft
        assert differs.any() == bool(len(plain.labels))
