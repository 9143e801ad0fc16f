"""Match tables of parts of the images, joined, are the evaluation of the whole."""

import tempfile
import warnings
from collections.abc import Sequence
from dataclasses import replace
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings

from tests.detection.small_files import VOC, put
from tests.metrics.random_coco import ALIKE_EVERY_TIME, data_sets, write_files
from upmap.detection import (
    Detections,
    GroundTruth,
    InputWarning,
    detections_from_arrays,
    ground_truth_from_arrays,
    read,
)
from upmap.detection.tables import ImageId, with_images
from upmap.metrics import (
    COCO,
    PROTOCOLS,
    VOC2007,
    VOC2010,
    Evaluation,
    MatchTable,
    Protocol,
    concatenate,
    evaluate_matches,
    match,
)
from upmap.metrics.curves import accumulate

Tables = tuple[GroundTruth, Detections]
LIST = "ImageSets/Main/test.txt"
CAT, DOG = (f"results/comp4_det_test_{name}.txt" for name in ("cat", "dog"))
BOX = {"boxes": [[1, 1, 9, 9]], "labels": ["cat"]}


def halves(tables: Tables, parts: int = 2) -> list[Tables]:
    """Every second image, so that the halves interleave."""
    images = tables[0].catalog.images
    return [
        tuple(with_images(table, images[part::parts]) for table in tables)  # type: ignore[misc]
        for part in range(parts)
    ]


def assert_same(first: Evaluation, second: Evaluation) -> None:
    np.testing.assert_equal(dict(first.metrics), dict(second.metrics))
    np.testing.assert_equal(
        {name: scores.AP for name, scores in first.per_class.items()},
        {name: scores.AP for name, scores in second.per_class.items()},
    )
    arrays = [accumulate(result.match_table, with_scores=True) for result in (first, second)]
    for name in ("precision", "recall", "all_points", "scores"):
        first, second = (getattr(array, name) for array in arrays)
        np.testing.assert_array_equal(first, second, name)


@pytest.mark.parametrize("protocol", [VOC2007, VOC2010, COCO], ids=lambda p: p.name)
def test_halves_of_the_real_test_set_give_exactly_the_whole(protocol, real_data: Path) -> None:
    with pytest.warns(InputWarning):
        tables = read(real_data / "voc2007_test", real_data / "voc2007_dets_yolov3_darknet")
    whole = match(*tables, protocol)
    parts = concatenate([match(*half, protocol) for half in halves(tables)])
    assert_same(evaluate_matches(parts), evaluate_matches(whole))
    for name in ("image", "label", "score", "row", "rank", "status", "positives"):
        np.testing.assert_array_equal(getattr(parts, name), getattr(whole, name), name)
    assert parts.images == whole.images


@pytest.mark.filterwarnings("ignore::detection.InputWarning")
@pytest.mark.parametrize("name", PROTOCOLS)
def test_parts_of_random_data_give_exactly_the_whole_in_any_order(name: str) -> None:
    protocol = PROTOCOLS[name]

    @settings(ALIKE_EVERY_TIME, max_examples=40)
    @given(data_sets())
    def check(data: tuple[dict[str, Any], list[Any]]) -> None:
        with tempfile.TemporaryDirectory() as folder:
            tables = read(*write_files(Path(folder), *data))
        parts = [match(*part, protocol) for part in halves(tables, 3)]
        assert_same(
            evaluate_matches(concatenate(parts[::-1])), evaluate_matches(match(*tables, protocol))
        )

    check()


def random_dicts(generator: np.random.Generator) -> tuple[list[Any], list[Any], list[ImageId]]:
    """Targets and predictions of 1 to 8 images in any order, and their ids; most scores are equal.

    Labels are integers of one and two digits, whose order as numbers is not that as text.
    """
    images = int(generator.integers(1, 9))
    numbers: list[int] = generator.permutation(12)[:images].tolist()
    ids: list[ImageId] = [*map(str, numbers)] if generator.random() < 0.5 else [*numbers]
    targets, predictions = [], []
    for _ in range(images):
        for dicts, limit in ((targets, 4), (predictions, 6)):
            n = int(generator.integers(0, limit))
            low = generator.integers(0, 12, (n, 2))
            dicts.append(
                {
                    "boxes": np.concatenate([low, low + generator.integers(4, 9, (n, 2))], axis=1),
                    "labels": generator.choice([2, 9, 10], n),
                    "scores": generator.choice([-0.0, 0.0, 0.25, 0.5], n),
                    "difficult": generator.random(n) < 0.2,
                    "iscrowd": generator.random(n) < 0.1,
                }
            )
    return targets, predictions, ids


def from_dicts(
    targets: list[Any], predictions: list[Any], ids: list[ImageId], batch: Sequence[int]
) -> Tables:
    """The tables of the images at the places in `batch`."""
    images = [ids[i] for i in batch]
    return (
        ground_truth_from_arrays([targets[i] for i in batch], images=images),
        detections_from_arrays([predictions[i] for i in batch], images=images),
    )


def assert_same_matches(first: MatchTable, second: MatchTable) -> None:
    """Image, label and rank say which detection stands where, so all numbers are the same."""
    assert (first.images, first.classes) == (second.images, second.classes)
    for name in ("image", "label", "score", "rank", "status", "start", "positives"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name), name)


@pytest.mark.parametrize("way", ["made apart", "cut from the whole", "some of both"])
def test_batches_of_images_with_equal_scores_give_exactly_the_whole_however_they_are_made(
    way: str,
) -> None:
    generator = np.random.default_rng(0)
    ties = 0
    for _ in range(700):
        dicts = random_dicts(generator)
        images = len(dicts[-1])
        whole = from_dicts(*dicts, range(images))
        cuts = np.flatnonzero(generator.random(images - 1) < 0.5) + 1
        batches = [part.tolist() for part in np.split(generator.permutation(images), cuts)]
        parts = [from_dicts(*dicts, batch) for batch in batches]
        for i, batch in enumerate(batches):
            if way == "cut from the whole" or (way == "some of both" and i % 2):
                names = tuple(dicts[-1][place] for place in batch)
                truth, detections = whole
                parts[i] = with_images(truth, names), with_images(detections, names)
        for protocol in PROTOCOLS.values():
            expected = match(*whole, protocol, threads=1)
            assert_same_matches(
                concatenate([match(*p, protocol, threads=1) for p in parts]), expected
            )
        ties += int((np.diff(expected.score) == 0).sum())
    assert ties > 1000


@pytest.mark.parametrize("protocol", PROTOCOLS.values(), ids=PROTOCOLS)
def test_joining_in_steps_is_joining_at_once(protocol: Protocol) -> None:
    generator = np.random.default_rng(1)
    for _ in range(20):
        dicts = random_dicts(generator)
        images = len(dicts[-1])
        parts = [match(*from_dicts(*dicts, [i]), protocol) for i in generator.permutation(images)]
        in_steps = reduce(lambda *two: concatenate(two), parts)
        whole = match(*from_dicts(*dicts, range(images)), protocol)
        assert_same(evaluate_matches(in_steps), evaluate_matches(whole))


@pytest.mark.parametrize("decimals", [2, 3])
@pytest.mark.parametrize("source", ["files", "memory"])
def test_parts_of_the_real_test_set_with_rounded_scores_give_exactly_the_whole(
    source: str, decimals: int, real_data: Path
) -> None:
    with pytest.warns(InputWarning):
        truth, detections = read(
            real_data / "voc2007_test", real_data / "voc2007_dets_yolov3_darknet"
        )
    detections = replace(detections, score=detections.score.round(decimals))
    batches = np.array_split(np.random.default_rng(0).permutation(len(truth.catalog.images)), 40)
    if source == "memory":
        dicts = dicts_of(truth, detections)
        whole = from_dicts(*dicts, range(len(dicts[-1])))
        parts = [from_dicts(*dicts, batch.tolist()) for batch in batches]
    else:
        whole = truth, detections
        names = [tuple(truth.catalog.images[i] for i in batch) for batch in batches]
        parts = [(with_images(truth, ids), with_images(detections, ids)) for ids in names]
    for protocol in (VOC2007, VOC2010, COCO):
        expected = match(*whole, protocol)
        both = concatenate([match(*part, protocol) for part in parts])
        assert_same_matches(both, expected)
        np.testing.assert_equal(
            dict(evaluate_matches(both).metrics), dict(evaluate_matches(expected).metrics)
        )


def dicts_of(truth: GroundTruth, detections: Detections) -> tuple[list[Any], list[Any], list[Any]]:
    """One dict per image of each table, and the images' ids."""
    images = len(truth.catalog.images)
    names = np.array(truth.catalog.classes)

    def split(table: GroundTruth | Detections, **columns: Any) -> list[Any]:
        order = np.argsort(table.image, kind="stable")
        ends = np.searchsorted(table.image[order], np.arange(1, images))
        columns |= {"boxes": table.box, "labels": names[table.label]}
        parts = {key: np.split(column[order], ends) for key, column in columns.items()}
        return [{key: part[i] for key, part in parts.items()} for i in range(images)]

    return (
        split(truth, difficult=truth.difficult),
        split(detections, scores=detections.score),
        list(truth.catalog.images),
    )


def parts_of_files(folder: Path, lines: list[str]) -> list[Tables]:
    """Two VOC folders of an image each, and the results of each in a folder of its own."""
    parts = []
    for name, line in zip("ab", lines, strict=True):
        put(folder / name, VOC, {LIST: f"{name}\n", CAT: line, DOG: None})
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", InputWarning)
            parts.append(read(folder / name, folder / name / "results"))
    return parts


@pytest.mark.parametrize("protocol", [VOC2007, VOC2010], ids=lambda p: p.name)
def test_equal_scores_in_parts_of_which_the_file_order_is_not_known_are_refused(
    protocol: Protocol, tmp_path: Path
) -> None:
    parts = parts_of_files(tmp_path, ["a 0.5 1 2 10 20\n", "b 0.5 5 5 9 9\n"])
    with pytest.raises(ValueError, match="of equal score stand in several match tables"):
        concatenate([match(*part, protocol) for part in parts])
    concatenate([match(*part, COCO) for part in parts])
    memory = from_dicts([BOX], [BOX | {"scores": [0.5]}], ["c"], [0])
    with pytest.raises(ValueError, match="of equal score stand in several match tables"):
        concatenate([match(*parts[0], protocol), match(*memory, protocol)])


def test_parts_of_files_without_equal_scores_are_joined_also_with_those_without_any(
    tmp_path: Path,
) -> None:
    parts = parts_of_files(tmp_path, ["a 0.5 1 2 10 20\n", "b 0.25 5 5 9 9\n"])
    memory = from_dicts([BOX], [BOX | {"scores": [0.75]}], ["c"], [0])
    empty = from_dicts([BOX], [{"boxes": [], "labels": [], "scores": []}], ["d"], [0])
    tables = [match(*part, VOC2007) for part in (*parts, memory, empty)]
    assert concatenate(tables).score.tolist() == [0.75, 0.5, 0.25]


def test_parts_whose_ids_are_not_of_one_kind_are_refused() -> None:
    parts = [from_dicts([BOX], [BOX | {"scores": [0.5]}], [image], [0]) for image in (1, "1")]
    with pytest.raises(ValueError, match="all integers or all strings"):
        concatenate([match(*part, VOC2007) for part in parts])


def test_parts_with_integers_and_parts_with_class_names_are_refused() -> None:
    parts = [
        from_dicts(
            [BOX | {"labels": [label]}], [{"boxes": [], "labels": [], "scores": []}], [i], [0]
        )
        for i, label in enumerate((1, "1"))
    ]
    with pytest.raises(ValueError, match="some match tables are integers and those of others"):
        concatenate([match(*part, COCO) for part in parts])


def test_an_image_in_two_parts_is_refused(sample_tables: Tables) -> None:
    table = match(*sample_tables, VOC2007)
    with pytest.raises(ValueError, match="an image stands in two"):
        concatenate([table, table])


def test_parts_under_different_protocols_are_refused(sample_tables: Tables) -> None:
    parts = [
        match(*half, p) for half, p in zip(halves(sample_tables), (VOC2007, COCO), strict=True)
    ]
    with pytest.raises(ValueError, match="different protocols"):
        concatenate(parts)


def test_a_class_that_only_one_part_has_is_kept(sample_tables: Tables) -> None:
    first, second = (match(*half, VOC2007) for half in halves(sample_tables))
    keep, keep_positive = second.label > 0, second.positive_label > 0
    fewer = replace(
        second,
        classes=second.classes[1:],
        **{name: getattr(second, name)[keep] for name in ("image", "score", "row", "rank")},
        label=second.label[keep] - 1,
        start=second.start[1:] - second.start[1],
        status=second.status[:, :, keep],
        positives=second.positives[1:],
        positive_image=second.positive_image[keep_positive],
        positive_label=second.positive_label[keep_positive] - 1,
        positive_areas=second.positive_areas[keep_positive],
    )
    both = concatenate([fewer, first])
    assert both.classes == first.classes
    np.testing.assert_array_equal(both.positives[0], first.positives[0])
    np.testing.assert_array_equal(both.positives[1:], first.positives[1:] + fewer.positives)
    counts = np.bincount(both.positive_label, minlength=len(both.classes))
    np.testing.assert_array_equal(counts, both.positives[:, 0])


def test_joining_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        concatenate([])
