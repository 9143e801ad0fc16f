"""Match tables of parts of the images, joined, are the evaluation of the whole."""

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings

from detection import Detections, GroundTruth, InputWarning, read
from detection.tables import with_images
from metrics import COCO, PROTOCOLS, VOC2007, VOC2010, Evaluation, evaluation, joined, match
from metrics.curves import accumulated
from tests.metrics.random_coco import ALIKE_EVERY_TIME, data_sets, written

Tables = tuple[GroundTruth, Detections]


def halves(tables: Tables, parts: int = 2) -> list[Tables]:
    """Every second image, so that the halves interleave."""
    images = tables[0].catalog.images
    return [
        tuple(with_images(table, images[part::parts]) for table in tables)  # type: ignore[misc]
        for part in range(parts)
    ]


def assert_same(one: Evaluation, other: Evaluation) -> None:
    np.testing.assert_equal(dict(one.metrics), dict(other.metrics))
    np.testing.assert_equal(
        {name: scores.AP for name, scores in one.per_class.items()},
        {name: scores.AP for name, scores in other.per_class.items()},
    )
    arrays = [accumulated(result.match_table, with_scores=True) for result in (one, other)]
    for name in ("precision", "recall", "all_points", "scores"):
        first, second = (getattr(array, name) for array in arrays)
        np.testing.assert_array_equal(first, second, name)


@pytest.mark.parametrize("protocol", [VOC2007, VOC2010, COCO], ids=lambda p: p.name)
def test_halves_of_the_real_test_set_give_exactly_the_whole(protocol, real_data: Path) -> None:
    with pytest.warns(InputWarning):
        tables = read(real_data / "voc2007_test", real_data / "voc2007_dets_yolov3_darknet")
    whole = match(*tables, protocol)
    parts = joined([match(*half, protocol) for half in halves(tables)])
    assert_same(evaluation(parts), evaluation(whole))
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
            tables = read(*written(Path(folder), *data))
        parts = [match(*part, protocol) for part in halves(tables, 3)]
        assert_same(evaluation(joined(parts[::-1])), evaluation(match(*tables, protocol)))

    check()


def test_an_image_in_two_parts_is_refused(sample_tables: Tables) -> None:
    table = match(*sample_tables, VOC2007)
    with pytest.raises(ValueError, match="an image stands in two"):
        joined([table, table])


def test_parts_under_different_protocols_are_refused(sample_tables: Tables) -> None:
    parts = [
        match(*half, p) for half, p in zip(halves(sample_tables), (VOC2007, COCO), strict=True)
    ]
    with pytest.raises(ValueError, match="different protocols"):
        joined(parts)


def test_a_class_that_only_one_part_has_is_kept(sample_tables: Tables) -> None:
    first, second = (match(*half, VOC2007) for half in halves(sample_tables))
    keep = second.label > 0
    fewer = replace(
        second,
        classes=second.classes[1:],
        **{name: getattr(second, name)[keep] for name in ("image", "score", "row", "rank")},
        label=second.label[keep] - 1,
        status=second.status[:, :, keep],
        positives=second.positives[1:],
    )
    both = joined([fewer, first])
    assert both.classes == first.classes
    np.testing.assert_array_equal(both.positives[0], first.positives[0])
    np.testing.assert_array_equal(both.positives[1:], first.positives[1:] + fewer.positives)


def test_joining_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        joined([])
