"""Spoilt arrays: every implementation refuses them alike, or computes the same from them."""

from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from upmap import kernels
from upmap.detection import Catalog, Detections, GroundTruth
from upmap.detection.arrays import detections_from_arrays, ground_truth_from_arrays
from upmap.kernels import coco_json, voc_files
from upmap.kernels.accumulation import accumulate
from upmap.kernels.matching import (
    MAX_CLASSES,
    MAX_DETECTIONS,
    DetectionBoxes,
    Matches,
    Rules,
    TruthBoxes,
    match,
)
from upmap.kernels.pairs import find_pairs
from upmap.metrics import COCO, VOC2007, mean_average_precision

IMPLEMENTATIONS = ("native", "reference")
MUTATIONS = 400  # of each kind of call, seeded

EXTREMES = (-1, 0, 3, 255, 2**31 - 1, -(2**31), 2**31, 2**62, 2**63, 0.5, 1e300, -0.0)
NOT_NUMBERS = (np.nan, np.inf, -np.inf)
DTYPES = ("i1", "u1", "i4", ">i4", "i8", "u8", "f2", "f4", "f8", ">f8", "?", "c16", "O", "U3")


def count_refusals(problem: Callable[[np.random.Generator], Callable[[Any], Any]]) -> int:
    """How many of many random problems are refused; both implementations must agree on each.

    Args:
        problem: Makes a function that takes the name of an implementation.
    """
    refusals = 0
    for seed in range(MUTATIONS):
        call = problem(np.random.default_rng(seed))
        native, reference = (outcome(call, impl) for impl in IMPLEMENTATIONS)
        assert native == reference, f"seed {seed}"
        refusals += native is None
    return refusals


def outcome(call: Callable[[Any], Any], impl: str) -> list[Any] | None:
    """What a call returns, arrays as bytes; None if it refuses."""
    try:
        return values(call(impl))
    except (TypeError, ValueError):
        return None


def values(result: Any) -> list[Any]:
    if isinstance(result, np.ndarray):
        return [result.dtype.str, result.shape, np.asarray(result, result.dtype, "C").tobytes()]
    if hasattr(result, "__slots__"):
        return [values(getattr(result, name)) for name in result.__slots__]
    return list(map(values, result)) if isinstance(result, list) else [result]


def mutate(array: Any, random: np.random.Generator) -> Any:
    """The array with something about it changed: its form, its type, or a value."""
    array = np.asarray(array)
    change = random.choice([with_other_form, with_other_type, with_other_value])
    return change(array, random)


def with_other_form(array: Any, random: np.random.Generator) -> Any:
    twice = np.repeat(array, 2, axis=0)
    forms: list[Callable[[], Any]] = [
        lambda: array[:-1],
        lambda: np.concatenate([array, array]),
        lambda: array[..., np.newaxis],
        lambda: array.ravel(),
        lambda: array.reshape(-1)[:1].reshape(()),
        lambda: array[:0],
        lambda: array[::-1],
        lambda: twice[::2],
        lambda: np.asfortranarray(array),
        lambda: np.broadcast_to(array[:1], array.shape),
        lambda: misaligned(array),
        lambda: array.tolist(),
        lambda: None,
    ]
    return forms[random.integers(len(forms))]()


def misaligned(array: Any) -> Any:
    raw = np.frombuffer(b"\0" + array.tobytes(), np.uint8)[1:]
    return raw.view(array.dtype).reshape(array.shape)


def with_other_type(array: Any, random: np.random.Generator) -> Any:
    with np.errstate(all="ignore"):
        return array.astype(random.choice(DTYPES))


def with_other_value(array: Any, random: np.random.Generator) -> Any:
    value = random.choice([*EXTREMES, *NOT_NUMBERS])
    wide = array.astype(np.float64) if random.random() < 0.5 else array.copy()
    with np.errstate(all="ignore"):
        if wide.size:
            wide.flat[random.integers(wide.size)] = np.float64(value).astype(wide.dtype)
        return wide.astype(array.dtype) if random.random() < 0.7 else wide


def random_columns(random: np.random.Generator, N: int) -> dict[str, Any]:
    """What detections and ground truth have in common."""
    corners = np.sort(random.integers(0, 20, (N, 2, 2)), axis=1).reshape(N, 4).astype(float)
    return {
        "image": random.integers(0, 3, N).astype(np.int32),
        "label": random.integers(0, 3, N).astype(np.int32),
        "box": corners,
        "box_area": (corners[:, 2] - corners[:, 0]) * (corners[:, 3] - corners[:, 1]),
    }


def random_detections(random: np.random.Generator, N: int = 12) -> DetectionBoxes:
    columns = random_columns(random, N)
    return DetectionBoxes(**columns, score=random.integers(0, 4, N) / 4, row=random.permutation(N))


def random_truths(random: np.random.Generator, N: int = 12) -> TruthBoxes:
    columns = random_columns(random, N)
    kind = random.integers(0, 3, N).astype(np.uint8)
    return TruthBoxes(**columns, area=columns["box_area"], kind=kind)


def random_rules(random: np.random.Generator) -> Rules:
    flags = {name: bool(random.integers(2)) for name in ("strict", "best_only", "last_of_equals")}
    return Rules(
        iou_thresholds=np.array([0.5, 0.25, 0.75]),
        area_ranges=np.array([[0, 1e5], [0, 50.0]]),
        side_offset=float(random.integers(2)),
        ties_by_image=bool(random.integers(2)),
        max_dets=int(random.integers(1, 5)),
        **flags,
    )


def one_changed(table: Any, random: np.random.Generator) -> Any:
    """The dataclass with one of its fields, an array or a setting, changed."""
    name = random.choice([field.name for field in fields(table)])
    value = getattr(table, name)
    if isinstance(value, np.ndarray):
        return replace(table, **{name: mutate(value, random)})
    others = [*EXTREMES, *NOT_NUMBERS, None, "x", np.float32(1), np.array([1, 2])]
    return replace(table, **{name: others[random.integers(len(others))]})


@pytest.fixture(autouse=True)
def both_are_built() -> None:
    for operation in ("accumulation", "coco_json", "matching", "pairs", "voc_files"):
        pytest.importorskip(f"upmap.kernels.{operation}.native")


def test_spoilt_arrays_of_matching_are_refused_alike_or_matched_alike() -> None:
    def problem(random: np.random.Generator) -> Callable[[Any], Any]:
        inputs = [random_detections(random), random_truths(random), random_rules(random)]
        place = random.integers(3)
        inputs[place] = one_changed(inputs[place], random)
        return lambda impl: match(*inputs, 3, impl=impl)

    assert 0 < count_refusals(problem) < MUTATIONS


def test_spoilt_arrays_of_pairs_are_refused_alike_or_paired_alike() -> None:
    def problem(random: np.random.Generator) -> Callable[[Any], Any]:
        inputs = [random_detections(random), random_truths(random)]
        place = random.integers(2)
        inputs[place] = one_changed(inputs[place], random)
        return lambda impl: find_pairs(*inputs, side_offset=0.0, min_iou=0.1, impl=impl)

    assert 0 < count_refusals(problem) < MUTATIONS


def test_spoilt_arrays_of_accumulation_are_refused_alike_or_accumulated_alike() -> None:
    def problem(random: np.random.Generator) -> Callable[[Any], Any]:
        matches, settings = random_matches(random), random_settings(random)
        if random.random() < 0.6:
            matches = one_changed(matches, random)
        return lambda impl: accumulate(matches, **settings, with_scores=True, impl=impl)

    assert 0 < count_refusals(problem) < MUTATIONS


def random_settings(random: np.random.Generator) -> dict[str, Any]:
    """Settings of accumulation, in most cases one of them spoilt."""
    points, caps, epsilon = np.linspace(0, 1, 5), np.array([1, 3]), 0.0
    curve_caps: Any = (None, np.array([1]), np.zeros(0, np.int64))[random.integers(3)]
    place = random.integers(8)
    if place == 0:
        points = mutate(points, random)
    elif place == 1:
        caps = mutate(caps, random)
    elif place == 2:
        epsilon = random.choice([*EXTREMES, *NOT_NUMBERS])
    elif place == 3:
        curve_caps = mutate(np.array([0, 1]), random)
    return {
        "recall_points": points,
        "max_dets": caps,
        "epsilon": epsilon,
        "curve_caps": curve_caps,
    }


def random_matches(random: np.random.Generator) -> Matches:
    counts = random.integers(0, 6, 3)
    N = int(counts.sum())
    return Matches(
        image=np.zeros(N, np.int32),
        label=np.repeat(np.arange(3, dtype=np.int32), counts),
        row=np.arange(N),
        status=random.integers(0, 3, (2, 3, N)).astype(np.uint8),
        rank=random.integers(0, 5, N).astype(np.int32),
        score=np.sort(random.random(N))[::-1],
        start=np.concatenate([[0], np.cumsum(counts)]),
        positives=random.choice([0, 6, 9], (3, 2)),
    )


CATALOG = Catalog((0, 1, 2), ("a", "b", "c"))


def test_spoilt_columns_of_tables_are_refused_or_evaluated_alike() -> None:
    def problem(random: np.random.Generator) -> Callable[[Any], Any]:
        truth = truth_columns(random_truths(random))
        found = detection_columns(random_detections(random))
        columns = (truth, found)[random.integers(2)]
        name = random.choice(list(columns))
        columns[name] = mutate(columns[name], random)
        shared: Any = {"catalog": CATALOG, "pixels": "continuous"}
        protocol = (COCO, VOC2007)[random.integers(2)]

        def evaluate(impl: Any) -> Any:
            tables = GroundTruth(**truth, **shared), Detections(**found, **shared)
            return numbers(mean_average_precision(*tables, protocol=protocol, impl=impl))

        return evaluate

    assert 0 < count_refusals(problem) < MUTATIONS


def truth_columns(boxes: TruthBoxes) -> dict[str, Any]:
    columns = {name: getattr(boxes, name) for name in ("image", "label", "box", "area")}
    ids = np.arange(len(boxes.label))
    size = boxes.box[:, 2:] - boxes.box[:, :2]
    return columns | {
        "size": size,
        "difficult": boxes.kind == 1,
        "crowd": boxes.kind == 2,
        "annotation_id": ids,
    }


def detection_columns(boxes: DetectionBoxes) -> dict[str, Any]:
    columns = {name: getattr(boxes, name) for name in ("image", "label", "box", "score", "row")}
    return columns | {"size": boxes.box[:, 2:] - boxes.box[:, :2]}


def numbers(evaluation: Any) -> Any:
    return [repr(dict(evaluation.metrics)), repr(evaluation.per_class)]


def test_spoilt_dicts_of_arrays_are_refused_or_evaluated_alike() -> None:
    def problem(random: np.random.Generator) -> Callable[[Any], Any]:
        truth, found = random_truths(random), random_detections(random)
        targets = [{"boxes": truth.box, "labels": truth.label, "area": truth.area}]
        targets[0]["iscrowd"] = truth.kind // 2
        predictions = [{"boxes": found.box, "labels": found.label, "scores": found.score}]
        image = (targets[0], predictions[0])[random.integers(2)]
        key = random.choice(list(image))
        image[key] = mutate(image[key], random)

        def evaluate(impl: Any) -> Any:
            tables = ground_truth_from_arrays(targets), detections_from_arrays(predictions)
            return numbers(mean_average_precision(*tables, protocol=COCO, impl=impl))

        return evaluate

    assert 0 < count_refusals(problem) < MUTATIONS


@pytest.mark.parametrize("impl", IMPLEMENTATIONS)
@pytest.mark.parametrize("classes", [-1, MAX_CLASSES + 1, 2**31, 2**62, 2**64, 1.0, None])
def test_a_number_of_classes_that_cannot_be_is_refused(classes: Any, impl: Any) -> None:
    random = np.random.default_rng(0)
    boxes = random_detections(random, 0), random_truths(random, 0)
    with pytest.raises((TypeError, ValueError), match=r"classes|integer"):
        match(*boxes, random_rules(random), classes, impl=impl)


@pytest.mark.parametrize("impl", IMPLEMENTATIONS)
@pytest.mark.parametrize("max_dets", [-1, MAX_DETECTIONS + 1, 10**23, 1.5, np.nan])
def test_a_cap_that_cannot_be_is_refused(max_dets: Any, impl: Any) -> None:
    random = np.random.default_rng(0)
    rules = replace(random_rules(random), max_dets=max_dets)
    with pytest.raises((TypeError, ValueError), match=r"max_dets|integer"):
        match(random_detections(random), random_truths(random), rules, 3, impl=impl)


@pytest.mark.parametrize("impl", IMPLEMENTATIONS)
@pytest.mark.parametrize("column", ["box", "score", "image", "row", "box_area"])
def test_columns_that_are_misaligned_or_strided_are_read_as_they_stand(
    column: str, impl: Any
) -> None:
    random = np.random.default_rng(1)
    detections, truth, rules = (
        make(random) for make in (random_detections, random_truths, random_rules)
    )
    array = getattr(detections, column)
    expected = values(match(detections, truth, rules, 3, impl=impl))
    swapped = array.astype(array.dtype.newbyteorder())
    for form in (misaligned(array), np.repeat(array, 2, axis=0)[::2], swapped):
        changed = replace(detections, **{column: form})
        assert values(match(changed, truth, rules, 3, impl=impl)) == expected


@pytest.mark.parametrize("impl", IMPLEMENTATIONS)
def test_what_protects_no_memory_is_refused_too(impl: Any) -> None:
    random = np.random.default_rng(2)
    detections, truth, rules = (
        make(random) for make in (random_detections, random_truths, random_rules)
    )
    for name, value, message in [
        ("image", -1, "image must lie in 0"),
        ("kind", 3, r"kind must lie in 0 \.\. 2"),
        ("label", 3, r"label must lie in 0 \.\. 2"),
    ]:
        array = getattr(truth, name).copy()
        array[5] = value
        with pytest.raises(ValueError, match=f"ground_truth.{message}"):
            match(detections, replace(truth, **{name: array}), rules, 3, impl=impl)
    score = np.where(np.arange(12) == 7, np.nan, 1)
    with pytest.raises(ValueError, match="score must not be NaN"):
        match(replace(detections, score=score), truth, rules, 3, impl=impl)


@pytest.mark.parametrize("impl", IMPLEMENTATIONS)
@pytest.mark.parametrize("threads", [-1, -(2**70), 1.5, "2"])
def test_a_number_of_threads_that_cannot_be_is_refused(
    threads: Any, impl: Any, tmp_path: Path
) -> None:
    random = np.random.default_rng(3)
    detections, truth, rules = (
        make(random) for make in (random_detections, random_truths, random_rules)
    )
    matches, settings = random_matches(random), {"recall_points": np.zeros(0), "epsilon": 0.0}
    file = tmp_path / "results.json"
    file.write_text("[]")
    calls: list[Callable[[Any], Any]] = [
        lambda threads: match(detections, truth, rules, 3, threads=threads, impl=impl),
        lambda threads: accumulate(
            matches, max_dets=np.array([1]), **settings, threads=threads, impl=impl
        ),
        lambda threads: coco_json.results(file, threads=threads, impl=impl),
        lambda threads: voc_files.annotations(tmp_path, [], threads=threads, impl=impl),
        lambda threads: voc_files.results([], {}, threads=threads, impl=impl),
    ]
    for call in calls:
        with pytest.raises((TypeError, ValueError), match=r"threads|integer"):
            call(threads)
        call(2**40)  # at most so many: no error


@pytest.mark.parametrize("impl", IMPLEMENTATIONS)
@pytest.mark.parametrize(
    "images", [{"a": -1}, {"a": 2**31}, {"a": 2**80}, {"a": 0.5}, {"a": None}, {0: 0}]
)
def test_images_of_voc_results_that_are_no_places_are_refused(
    images: Any, impl: Any, tmp_path: Path
) -> None:
    path = tmp_path / "comp4_det_test_cat.txt"
    path.write_text("a 0.5 1 2 3 4\n")
    with pytest.raises((TypeError, ValueError), match="images"):
        voc_files.results([path], images, impl=impl)


def test_a_native_module_that_cannot_be_loaded_is_not_passed_over(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(name: str) -> None:
        raise ImportError("undefined symbol: whatever", name=name)

    monkeypatch.setattr(kernels, "LOAD_ERRORS", {})
    monkeypatch.setattr(kernels.importlib, "import_module", fail)
    monkeypatch.delenv("UPMAP_IMPL", raising=False)
    assert kernels.import_native("matching") is None
    for impl in (None, "native"):
        with pytest.raises(OSError, match=r"matching.native .* undefined symbol.*UPMAP_IMPL"):
            kernels.select_implementation({"native": None, "reference": abs}, impl, "matching")
    assert (
        kernels.select_implementation({"native": None, "reference": abs}, "reference", "matching")
        is abs
    )
    assert (
        kernels.select_implementation({"native": None, "reference": abs}, None, "voc_files") is abs
    )


def test_a_native_module_that_is_not_built_leaves_the_reference(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(name: str) -> None:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    monkeypatch.setattr(kernels, "LOAD_ERRORS", {})
    monkeypatch.setattr(kernels.importlib, "import_module", fail)
    monkeypatch.delenv("UPMAP_IMPL", raising=False)
    assert kernels.import_native("matching") is None
    assert kernels.select_implementation({"native": None, "reference": abs}, None) is abs
