"""Slices: equal to evaluating the part alone, to COCO's area ranges, and by hand."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.metrics.analysis.problems import random_tables, read_real
from upmap.detection import (
    Catalog,
    InputError,
    detections_from_arrays,
    ground_truth_from_arrays,
)
from upmap.detection.tables import with_images
from upmap.metrics import COCO, PROTOCOLS, VOC2010, evaluate_matches, match
from upmap.metrics.analysis import estimate_uncertainty
from upmap.metrics.analysis.attributes import bin_values, read_attributes
from upmap.metrics.analysis.pairs import pair_detections
from upmap.metrics.analysis.slices import evaluate_slices


def slices_of(truth, detections, protocol, **options):
    table = match(truth, detections, protocol)
    pairs = pair_detections(truth, detections, table)
    return evaluate_slices(truth, detections, table, pairs, **options)


def by_name(slices) -> dict:
    return {(part.dimension, part.name): part for part in slices.slices}


@pytest.mark.parametrize("name", PROTOCOLS)
@pytest.mark.parametrize("seed", range(3))
def test_a_slice_of_images_is_the_evaluation_of_them_alone(seed: int, name: str) -> None:
    protocol = PROTOCOLS[name]
    truth, detections = random_tables(seed, images=20)
    images = truth.catalog.images
    weather = ["sun" if i % 3 else "rain" for i in range(20)]
    parts = by_name(slices_of(truth, detections, protocol, attributes={"weather": weather}))
    numbers, variances = {}, {}
    for value in ("sun", "rain"):
        chosen = tuple(i for i, each in zip(images, weather, strict=True) if each == value)
        table = match(with_images(truth, chosen), with_images(detections, chosen), protocol)
        headline, estimate = next(iter(estimate_uncertainty(table).metrics.items()))
        scores = parts["weather", value]
        numbers[value] = evaluate_matches(table).metrics[headline]
        assert scores.value == pytest.approx(numbers[value], abs=1e-12)
        assert scores.standard_error == pytest.approx(estimate.standard_error, abs=1e-12)
        assert (scores.images, scores.positives) == (len(chosen), table.positives[:, 0].sum())
        variances[value] = estimate.standard_error**2
    rain = parts["weather", "rain"]
    assert rain.difference == pytest.approx(numbers["rain"] - numbers["sun"])
    # No image is in both, so the variances add.
    assert rain.difference_error == pytest.approx(math.sqrt(sum(variances.values())))


@pytest.mark.parametrize("data", ["coco_fakebbox100", "voc2007_test/yolov3_darknet"])
def test_slices_by_area_are_cocos_numbers_of_area_ranges(data: str, real_data: Path) -> None:
    truth, detections = read_real(real_data, data)
    metrics = evaluate_matches(match(truth, detections, COCO)).metrics
    parts = by_name(slices_of(truth, detections, COCO))
    for name, metric in (("small", "APs"), ("medium", "APm"), ("large", "APl")):
        assert parts["area", name].value == metrics[metric]


@pytest.mark.parametrize("name", PROTOCOLS)
def test_the_parts_of_a_dimension_have_all_objects(name: str) -> None:
    truth, detections = random_tables(4, images=40)
    table = match(truth, detections, PROTOCOLS[name])
    slices = slices_of(truth, detections, PROTOCOLS[name])
    total = int(table.positives[:, 0].sum())
    for dimension in ("aspect", "crowding", "objects per image"):
        parts = [part for part in slices.slices if part.dimension == dimension]
        assert sum(part.positives for part in parts) == total


def scene(sizes: bool = True):
    """An object that touches the border, a tall one, and two of a class that overlap."""
    boxes = [[0, 10, 30, 40], [50, 10, 60, 40], [100, 100, 140, 140], [110, 100, 150, 140]]
    image = {"boxes": boxes, "labels": ["a", "b", "c", "c"]}
    truth = ground_truth_from_arrays([image])
    detections = detections_from_arrays([image | {"scores": [0.9, 0.8, 0.7, 0.6]}])
    if sizes:
        catalog = replace(truth.catalog, sizes=np.array([[200, 200]]))
        truth = replace(truth, catalog=catalog)
        detections = replace(detections, catalog=catalog)
    return truth, detections


def test_objects_are_where_they_belong() -> None:
    parts = by_name(slices_of(*scene(), VOC2010))
    counts = {key: part.positives for key, part in parts.items() if part.positives}
    assert counts == {
        ("area", "small"): 2,
        ("area", "medium"): 2,
        ("aspect", "tall"): 1,
        ("aspect", "square"): 3,
        ("objects per image", "2-4"): 4,
        ("crowding", "alone"): 2,
        ("crowding", "more"): 2,
        ("border", "touching"): 1,
        ("border", "inside"): 3,
    }
    assert parts["border", "touching"].value == 1


def test_without_sizes_of_images_there_is_no_border() -> None:
    dimensions = {part.dimension for part in slices_of(*scene(sizes=False), VOC2010).slices}
    assert "border" not in dimensions


def test_finds_of_objects_outside_a_slice_and_false_detections_unlike_it_are_ignored() -> None:
    truth = ground_truth_from_arrays(
        [{"boxes": [[0, 0, 20, 20], [100, 0, 110, 40]], "labels": ["a", "a"]}]
    )
    boxes = [[100, 0, 110, 40], [50, 50, 60, 90], [0, 0, 20, 20]]
    detections = detections_from_arrays(
        [{"boxes": boxes, "labels": ["a"] * 3, "scores": [0.9, 0.8, 0.7]}]
    )
    parts = by_name(slices_of(truth, detections, VOC2010))
    assert parts["aspect", "square"].value == 1
    assert parts["aspect", "tall"].value == 1
    assert parts["aspect", "wide"].positives == 0
    assert math.isnan(parts["aspect", "wide"].value)


def test_few_positives_have_no_p_and_one_image_no_standard_error() -> None:
    parts = by_name(slices_of(*scene(), VOC2010))
    part = parts["aspect", "tall"]
    assert part.has_few_positives
    assert math.isnan(part.standard_error)
    assert math.isnan(part.p)
    assert math.isnan(part.p_holm)


def test_no_images_and_no_objects_are_undefined() -> None:
    empty = slices_of(ground_truth_from_arrays([]), detections_from_arrays([]), COCO)
    assert math.isnan(empty.value)
    assert all(math.isnan(part.value) for part in empty.slices)
    a_box = {"boxes": [[0, 0, 9, 9]], "labels": ["a"], "scores": [0.5]}
    no_objects = ground_truth_from_arrays([{"boxes": [], "labels": []}])
    slices = slices_of(no_objects, detections_from_arrays([a_box]), COCO)
    assert all(math.isnan(part.value) for part in slices.slices)


def test_the_corrected_p_are_holms_over_all_slices() -> None:
    truth, detections = random_tables(5, images=80)
    slices = slices_of(truth, detections, VOC2010)
    known = sorted((part.p, part.p_holm) for part in slices.slices if not math.isnan(part.p))
    assert len(known) > 3
    largest = 0.0
    for place, (p, corrected) in enumerate(known):
        largest = max(largest, min(1, p * (len(known) - place)))
        assert corrected == pytest.approx(largest)


CATALOG = Catalog(("000001", "000002", "000003"), ())


def test_attributes_are_read_by_id_or_name_of_file(tmp_path: Path) -> None:
    path = tmp_path / "attributes.csv"
    path.write_text(
        'image,weather,"time, local"\n000003,rain,night\nfolder/000001.jpg,,"day, late"\n'
    )
    assert read_attributes(path, CATALOG) == {
        "weather": [None, None, "rain"],
        "time, local": ["day, late", None, "night"],
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "1: expected different columns"),
        ("image\n000001\n", "1: expected different columns"),
        ("name,weather\n", "1: expected different columns"),
        ("image,a,a\n", "1: expected different columns"),
        ("image,a\n000001,x,y\n", "2: expected 2 cells, got 3"),
        ("image,a\n9,x\n", "2: no image '9' in the ground truth"),
        ("image,a\n000001,x\n\n000001,y\n", "4: image '000001' stands twice"),
        ('image,a\n000001,"x\n', "not CSV"),
        ("image,a\n\xff", "is not UTF-8 text"),
    ],
)
def test_wrong_attributes_are_refused_by_line(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "attributes.csv"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(InputError, match=message) as error:
        read_attributes(path, CATALOG)
    assert str(error.value).startswith(str(path))


def test_many_numbers_are_binned_in_quarters_and_many_words_refused(tmp_path: Path) -> None:
    catalog = Catalog(tuple(range(100)), ())
    path = tmp_path / "attributes.csv"
    path.write_text("image,speed\n" + "".join(f"{i},{i}\n" for i in range(100)))
    speeds = read_attributes(path, catalog)["speed"]
    assert {speeds.count(word) for word in set(speeds)} == {25}
    assert speeds[0] == "1: [0, 24.75]"
    path.write_text("image,speed\n" + "".join(f"{i},word {i}\n" for i in range(100)))
    with pytest.raises(InputError, match="'speed' has 100 different values"):
        read_attributes(path, catalog)
    assert bin_values(["inf", "1"]) is None
