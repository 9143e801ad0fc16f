"""The benchmarks measure what they say, on data that is valid; how long it takes is not tested."""

import csv
import json
import math
import sys

import numpy as np
import pytest

from benchmarks import bench_evaluate
from benchmarks.bench_evaluate import arms, differences, phases
from benchmarks.coco_like import CROWD_SHARE, Size, main, write
from benchmarks.harness import (
    COLUMNS,
    Arm,
    BenchmarkError,
    Provenance,
    Run,
    append_rows,
    interleaved_runs,
    row,
    timing,
)
from detection.formats import read

SMALL = Size(images=40, classes=5, ground_truths=400, detections=900)
MADE_WITH = Provenance("1a2b3c4+", "3.11.0", "2.0.0", "peer 1.0", "a processor", 2)
BALLAST_BYTES = 300 * 10**6


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return write(tmp_path_factory.mktemp("small"), SMALL)


def test_the_same_seed_writes_the_same_bytes(small, tmp_path):
    again = write(tmp_path, SMALL)
    assert [path.read_bytes() for path in again] == [path.read_bytes() for path in small]


def test_another_seed_writes_another_data_set(small, tmp_path):
    for path, other in zip(small, write(tmp_path, SMALL, seed=1), strict=True):
        assert path.read_bytes() != other.read_bytes()


def test_the_number_of_detections_leaves_the_ground_truth_alone(small, tmp_path):
    size = Size(images=40, classes=5, ground_truths=400, detections=100)
    instances, detections = write(tmp_path, size)
    assert instances.read_bytes() == small[0].read_bytes()
    assert len(json.loads(detections.read_text())) == 100


def test_a_made_data_set_reads_without_a_warning(small):
    truth, found = read(*small)
    counts = len(truth.catalog.images), len(truth.catalog.classes), len(truth), len(found)
    assert counts == (40, 5, 400, 900)


def test_made_scores_tie_and_boxes_have_two_decimals(small):
    _, found = read(*small)
    assert len(np.unique(found.score)) < len(found)
    # The reader keeps widths and heights as they are written, so rounding again changes nothing.
    assert np.array_equal(found.size, found.size.round(2))


def test_crowds_are_about_as_many_as_in_coco(tmp_path):
    size = Size(images=500, classes=5, ground_truths=20_000, detections=1, polygons=False)
    truth, _ = read(*write(tmp_path, size))
    # Five standard deviations of a binomial count; the seed is fixed, so this does not flicker.
    spread = 5 * math.sqrt(20_000 * CROWD_SHARE * (1 - CROWD_SHARE))
    assert abs(int(truth.crowd.sum()) - 20_000 * CROWD_SHARE) < spread


def test_segmentations_agree_with_boxes_and_areas_as_pycocotools_sees_them(tmp_path):
    mask = pytest.importorskip("pycocotools.mask", reason="pycocotools is not installed")
    size = Size(images=20, classes=3, ground_truths=600, detections=1)
    instances = json.loads(write(tmp_path, size)[0].read_text())
    sides = {image["id"]: (image["height"], image["width"]) for image in instances["images"]}
    kinds = set()
    for annotation in instances["annotations"]:
        height, width = sides[annotation["image_id"]]
        shape = annotation["segmentation"]
        kinds.add(annotation["iscrowd"])
        if annotation["iscrowd"]:
            assert sum(shape["counts"]) == height * width
            runs = mask.frPyObjects(shape, height, width)
            assert mask.area(runs) == annotation["area"]
            assert mask.toBbox(runs).tolist() == annotation["bbox"]
        else:
            x, y, across, down = annotation["bbox"]
            corners = np.array(shape[0]).reshape(-1, 2)
            assert corners.min(axis=0).tolist() == [x, y]
            # Corners have two decimals, and so has their difference once it is rounded.
            assert (corners.max(axis=0) - [x, y]).round(2).tolist() == [across, down]
            assert 0 < annotation["area"] <= across * down
    assert kinds == {0, 1}


def test_annotations_without_polygons_have_no_segmentation(tmp_path):
    size = Size(images=5, classes=2, ground_truths=30, detections=10, polygons=False)
    instances = json.loads(write(tmp_path, size)[0].read_text())
    assert not any("segmentation" in annotation for annotation in instances["annotations"])


def test_a_size_of_nothing_is_refused():
    with pytest.raises(ValueError, match="images must be at least 1, not 0"):
        Size(images=0)


def test_the_generator_runs_from_the_command_line(small, tmp_path, capsys):
    counts = {"images": 40, "classes": 5, "ground-truths": 400, "detections": 900}
    assert main([str(tmp_path), *(f"--{name}={count}" for name, count in counts.items())]) == 0
    assert (tmp_path / "instances.json").read_bytes() == small[0].read_bytes()
    assert "detections.json" in capsys.readouterr().out


def test_our_evaluation_equals_pycocotools_bit_for_bit(small):
    pytest.importorskip("pycocotools", reason="pycocotools is not installed")
    assert differences(*small) == []


def test_a_difference_in_one_bit_is_found(small, monkeypatch):
    pytest.importorskip("pycocotools", reason="pycocotools is not installed")
    peer = bench_evaluate._peer_evaluation(*small)
    peer.stats[0] = np.nextafter(peer.stats[0], 1)
    peer.eval["recall"][0, 0, 0, 2] = np.nextafter(peer.eval["recall"][0, 0, 0, 2], 1)
    monkeypatch.setattr(bench_evaluate, "_peer_evaluation", lambda *files: peer)
    found = differences(*small)
    assert found[0] == "AP: 1 of 1 values differ"
    assert found[1].startswith("recall: 1 of")
    assert len(found) == 2


def test_every_phase_is_measured_as_often_as_asked(small):
    steps = phases(*small, repeats=2)
    assert [len(runs) for runs in steps.values()] == [2, 2, 2, 2]


def test_arms_run_in_turn_after_a_warm_up(tmp_path):
    log = tmp_path / "log"
    program = "import sys; open(sys.argv[1], 'a').write(sys.argv[2])"
    both = [Arm(name, (sys.executable, "-c", program, str(log), name)) for name in "AB"]
    runs = interleaved_runs(both, repeats=2)
    assert log.read_text() == "AB" * 3
    assert {name: len(found) for name, found in runs.items()} == {"A": 2, "B": 2}


def test_two_arms_make_rows_with_all_columns(tmp_path):
    path = tmp_path / "results.csv"
    both = [Arm(name, (sys.executable, "-c", "pass")) for name in ("one", "two")]
    runs = interleaved_runs(both, repeats=2)
    for name, found in runs.items():
        append_rows([row("nothing", name, 0, timing(found), MADE_WITH)], path)
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(one["arm"], one["repeats"]) for one in rows] == [("one", "2"), ("two", "2")]
    for one in rows:
        assert tuple(one) == COLUMNS
        assert None not in one.values()
        assert all(math.isfinite(float(one[name])) for name in COLUMNS if "_s" in name)


def test_the_peak_memory_is_the_commands_own_and_not_the_measurers():
    ballast = np.ones(BALLAST_BYTES, np.uint8)
    runs = interleaved_runs([Arm("idle", (sys.executable, "-c", "pass"))], repeats=1)
    assert runs["idle"][0].peak_rss_mb * 10**6 < BALLAST_BYTES / 3
    assert ballast.nbytes == BALLAST_BYTES


def test_the_peak_memory_of_a_command_that_needs_much_is_seen():
    hungry = Arm("hungry", (sys.executable, "-c", f"b'1' * {BALLAST_BYTES}"))
    runs = interleaved_runs([hungry], repeats=1)
    assert runs["hungry"][0].peak_rss_mb * 10**6 >= BALLAST_BYTES


def test_a_failing_arm_is_named_with_what_it_said():
    broken = Arm("broken", (sys.executable, "-c", "import sys; sys.exit('no such luck')"))
    with pytest.raises(BenchmarkError, match="broken exited with 1: no such luck"):
        interleaved_runs([broken], repeats=1)


def test_arms_of_one_name_and_no_repeats_are_refused():
    arm = Arm("same", (sys.executable, "-c", "pass"))
    with pytest.raises(ValueError, match="different names"):
        interleaved_runs([arm, arm], repeats=1)
    with pytest.raises(ValueError, match="repeats must be at least 1, not 0"):
        interleaved_runs([arm], repeats=0)


def test_a_timing_is_median_percentiles_and_peak():
    runs = [Run(wall_s=w, cpu_s=c, peak_rss_mb=m) for w, c, m in ((1, 5, 9), (2, 6, 7), (6, 1, 8))]
    one = timing(runs)
    assert (one.repeats, one.wall_median_s, one.cpu_median_s, one.peak_rss_mb) == (3, 2, 5, 9)
    # Linear interpolation at 0.4 and 1.6 of 1, 2, 6; a last-bit tolerance for its arithmetic.
    assert (one.wall_p20_s, one.wall_p80_s) == pytest.approx((1.4, 4.4), rel=1e-12)


def test_memory_that_was_not_measured_is_an_empty_field():
    one = row("b", "a", 1, timing([Run(1.0, 1.0, math.nan)]), MADE_WITH)
    assert one["peak_rss_mb"] == ""


def test_a_results_file_with_other_columns_is_refused(tmp_path):
    path = tmp_path / "results.csv"
    path.write_text("a,b\n")
    with pytest.raises(ValueError, match="must have the columns"):
        append_rows([], path)


def test_both_arms_of_the_evaluation_benchmark_run(small):
    pytest.importorskip("pycocotools", reason="pycocotools is not installed")
    runs = interleaved_runs(arms(*small), repeats=1)
    assert list(runs) == ["upmap", "pycocotools"]


def test_one_number_of_repeats_for_each_size_is_asked_for(capsys):
    with pytest.raises(SystemExit) as stop:
        bench_evaluate.main(["--detections", "1,2,3", "--repeats", "1,2"])
    assert stop.value.code == 2
    assert "one for each size" in capsys.readouterr().err


def test_precisions_must_score_alike() -> None:
    from benchmarks.bench_precision import refuse_apart

    refuse_apart({"fp32": [0.5, 0.6, 0.7], "bf16": [0.55, 0.65, 0.75]})
    with pytest.raises(BenchmarkError, match="fp16"):
        refuse_apart({"fp32": [0.5, 0.6, 0.7], "fp16": [0.1, 0.2, 0.1]})


def test_every_precision_trains_with_every_seed(tmp_path) -> None:
    from dataclasses import replace

    from benchmarks.bench_precision import scored
    from segmentation.compare import CompareOptions

    training = replace(CompareOptions().training, epochs=1, batch_size=50, factor=0.25)
    found = scored(["fp32", "bf16"], 1, training, tmp_path)
    assert list(found) == ["fp32", "bf16"]
    assert all(0 < value < 1 for values in found.values() for value in values)


def test_results_of_other_columns_are_not_mixed(tmp_path) -> None:
    append_rows([{"a": "1"}], tmp_path / "results.csv", ["a"])
    with pytest.raises(ValueError, match="must have the columns"):
        append_rows([{"b": "1"}], tmp_path / "results.csv", ["b"])
    assert (tmp_path / "results.csv").read_text() == "a\n1\n"


def test_curves_that_are_apart_are_refused() -> None:
    from benchmarks.bench_fused_training import refuse_other_curves

    refuse_other_curves([1.0, 0.5], [1.0001, 0.5])
    with pytest.raises(BenchmarkError, match="epoch 2"):
        refuse_other_curves([1.0, 0.5], [1.0, 0.6])


def test_arms_of_the_fused_loss_must_agree(monkeypatch) -> None:
    from benchmarks import bench_upsample_ce
    from benchmarks.bench_upsample_ce import Problem, agreement

    problem = Problem(1, 5, (4, 4), (16, 16))
    agreement("chunked", problem, "cpu")
    wrong = lambda logits, labels: 2 * logits.sum()  # noqa: E731
    monkeypatch.setattr(bench_upsample_ce, "torch_loss", wrong)
    with pytest.raises(BenchmarkError, match="chunked"):
        agreement("chunked", problem, "cpu")
