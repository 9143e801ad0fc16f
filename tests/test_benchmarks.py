"""The benchmarks measure what they say, on data that is valid; how long it takes is not tested."""

import csv
import json
import math
import sys
from importlib import metadata

import numpy as np
import pytest

from benchmarks import (
    bench_evaluate,
    bench_explain,
    bench_growth,
    bench_load,
    bench_tables,
    bench_voc,
    bench_yolo,
)
from benchmarks.bench_evaluate import OBJECTS365, compared, differences, our_answers, phases
from benchmarks.coco_like import CROWD_SHARE, Size, main, write
from benchmarks.harness import (
    COLUMNS,
    Arm,
    BenchmarkError,
    Provenance,
    Run,
    append_rows,
    interleaved_runs,
    interleaved_steps,
    one_run,
    row,
    timing,
    timing_table,
)
from benchmarks.peers import OURS, PEERS, evaluation_arm, loading_arm
from upmap.detection.formats import read
from upmap.metrics import COCO, VOC2007, mean_average_precision

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


def skip_without(name):
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        pytest.skip(f"{name} is not installed; the extra bench has it")


@pytest.mark.parametrize("name", PEERS)
def test_our_evaluation_equals_the_peers(small, name):
    skip_without(name)
    assert list(compared([OURS, name], *small)) == [name]


def test_no_array_of_pycocotools_differs(small):
    skip_without("pycocotools")
    assert compared(["pycocotools"], *small) == {"pycocotools": []}


def test_a_difference_in_one_bit_is_found(small):
    ours = our_answers(*small)
    theirs = {name: values.copy() for name, values in ours.items()}
    theirs["stats"][0] = np.nextafter(theirs["stats"][0], 1)
    theirs["recall"][0, 0, 0, 2] = np.nextafter(theirs["recall"][0, 0, 0, 2], 1)
    found = differences(ours, theirs)
    assert [(one.array, one.count) for one in found] == [("recall", 1), ("stats", 1)]
    assert all(0 < one.largest < 1e-15 for one in found)
    with pytest.raises(BenchmarkError, match="recall has the shape"):
        differences(ours, {"recall": theirs["recall"][0]})


def test_arrays_may_differ_where_that_is_known_but_the_twelve_numbers_never(small, monkeypatch):
    def other(array):
        answers = our_answers(*small)
        answers[array] = answers[array] + 1e-9
        monkeypatch.setattr(bench_evaluate, "answers", lambda peer, *files: answers)

    other("precision")
    assert [one.array for one in compared(["hotcoco"], *small)["hotcoco"]] == ["precision"]
    with pytest.raises(BenchmarkError, match="not equal to pycocotools: precision: "):
        compared(["pycocotools"], *small)
    other("stats")
    with pytest.raises(BenchmarkError, match="not equal to faster-coco-eval: stats: "):
        compared(["faster-coco-eval"], *small)
    with pytest.raises(BenchmarkError, match="not equal to hotcoco: stats: 12 of 12"):
        compared(["hotcoco"], *small)


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


@pytest.mark.parametrize("name", [OURS, *PEERS])
def test_every_arm_of_the_evaluation_runs(small, name):
    if name != OURS:
        skip_without(name)
    assert one_run(evaluation_arm(name, *small)).wall_s > 0


@pytest.mark.parametrize("name", bench_load.READERS)
def test_an_arm_of_the_reading_counts_its_reading_alone(small, tmp_path, name):
    if name != OURS:
        skip_without(name)
    arm = loading_arm(name, *small, tmp_path / "seconds")
    run = one_run(arm)
    assert f"{run.wall_s} {run.cpu_s}" == arm.report.read_text()
    assert run.peak_rss_mb > 1


def test_slow_arms_are_run_less_often():
    both = [Arm(name, (sys.executable, "-c", "pass")) for name in "AB"]
    runs = interleaved_runs(both, repeats=3, slow_repeats=1, slow_s=0.0)
    assert [len(found) for found in runs.values()] == [1, 1]


def test_arms_keep_their_bytecode(monkeypatch):
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    program = "import sys; sys.exit(sys.dont_write_bytecode)"
    assert one_run(Arm("writes", (sys.executable, "-c", program))).wall_s > 0


def test_steps_are_called_in_turn():
    called = []
    steps = {name: lambda name=name: called.append(name) for name in "AB"}
    runs = interleaved_steps(steps, repeats=2)
    assert called == ["A", "B"] * 2
    assert all(math.isnan(run.peak_rss_mb) for found in runs.values() for run in found)


def test_a_table_of_timings_compares_with_the_fastest():
    both = {"one": timing([Run(1.0, 1.0, 10.0)]), "two": timing([Run(2.5, 1.0, math.nan)])}
    lines = timing_table("title", both).splitlines()
    assert [line.split()[-1] for line in lines] == ["title", "ratio", "1.00x", "2.50x"]


def test_rows_of_one_size_name_each_peer_and_its_version(monkeypatch):
    monkeypatch.setattr(bench_evaluate, "PEERS", {"pytest": None})
    runs = {name: [Run(1.0, 1.0, 1.0)] for name in (OURS, "pytest")}
    rows = bench_evaluate._rows("b", "1", runs)
    assert [one["peer"] for one in rows] == ["", f"pytest {metadata.version('pytest')}"]


def test_sizes_have_names():
    assert bench_evaluate.size_named("1234") == Size(detections=1234)
    assert bench_evaluate.size_named(OBJECTS365).classes == 365
    with pytest.raises(ValueError, match="objects365"):
        bench_evaluate.size_named("large")


def test_all_grows_in_proportion():
    small, large = map(bench_growth.proportional, (1_000, 3_000))
    assert (small.images, small.ground_truths) == (50, 500)
    assert (large.images, large.ground_truths) == (150, 1_500)


@pytest.mark.parametrize("benchmark", [bench_evaluate, bench_load, bench_growth])
def test_an_arm_that_there_is_not_is_refused(benchmark, capsys):
    with pytest.raises(SystemExit) as stop:
        benchmark.main(["--arms", "upmap,nobody"])
    assert stop.value.code == 2
    assert "no arm 'nobody'; there are upmap, " in capsys.readouterr().err


@pytest.mark.parametrize("benchmark", [bench_evaluate, bench_load, bench_growth])
def test_ours_alone_is_measured(benchmark, tmp_path, capsys):
    out = tmp_path / "results.csv"
    options = ["--arms", "upmap", "--sizes", "600", "--repeats", "1", "--out", str(out)]
    assert benchmark.main(options) == 0
    assert "600 detections" in capsys.readouterr().out
    with out.open(newline="") as file:
        assert {(one["size"], one["peer"]) for one in csv.DictReader(file)} == {("600", "")}


def test_one_number_of_repeats_for_each_size_is_asked_for(capsys):
    with pytest.raises(SystemExit) as stop:
        bench_evaluate.main(["--sizes", "1,2,3", "--repeats", "1,2"])
    assert stop.value.code == 2
    assert "one for each size" in capsys.readouterr().err


def test_the_aps_of_the_plain_evaluator_must_be_ours(sample):
    result = mean_average_precision(sample / "voc", sample / "voc" / "results", protocol=VOC2007)
    ours = {name: scores.AP for name, scores in result.per_class.items()} | {"mAP": result.mAP}
    printed = "\n".join(f"{name} {value!r}" for name, value in ours.items())
    theirs = bench_voc.printed_aps(printed)
    assert bench_voc.largest_difference(ours, theirs) == 0
    with pytest.raises(BenchmarkError, match="star: AP 0"):
        bench_voc.largest_difference(ours, theirs | {"star": theirs["star"] + 1e-11})
    undefined = bench_voc.printed_aps("moon n/a")
    assert bench_voc.largest_difference(ours | undefined, theirs | undefined) == 0
    with pytest.raises(BenchmarkError, match="moon: AP nan is not"):
        bench_voc.largest_difference(ours | undefined, theirs | {"moon": 0.5})
    with pytest.raises(BenchmarkError, match="of one side only: moon"):
        bench_voc.largest_difference(ours, theirs | {"moon": 0.5})


def test_without_the_real_data_the_voc_benchmark_is_skipped(tmp_path, capsys):
    assert bench_voc.main(["--data", str(tmp_path), "--out", str(tmp_path / "none.csv")]) == 0
    assert "skipped: there is no " in capsys.readouterr().err
    assert not (tmp_path / "none.csv").exists()


def test_tensors_in_memory_give_the_numbers_of_torchmetrics(small):
    skip_without("torchmetrics")
    skip_without("faster-coco-eval")
    from benchmarks import bench_memory

    targets, predictions = bench_memory.tensors(*small)
    assert [len(targets), sum(map(len, (image["boxes"] for image in predictions)))] == [40, 900]
    result = mean_average_precision(targets, predictions, protocol=COCO)
    theirs = bench_memory._torchmetrics(targets, predictions, "pycocotools")
    bench_memory.refuse_unequal(result.metrics, theirs)
    with pytest.raises(BenchmarkError, match="AP75 is "):
        bench_memory.refuse_unequal(result.metrics, theirs | {"map_75": 0.0})


def test_precisions_must_score_alike() -> None:
    from benchmarks.bench_precision import refuse_apart

    refuse_apart({"fp32": [0.5, 0.6, 0.7], "bf16": [0.55, 0.65, 0.75]})
    with pytest.raises(BenchmarkError, match="fp16"):
        refuse_apart({"fp32": [0.5, 0.6, 0.7], "fp16": [0.1, 0.2, 0.1]})


def test_every_precision_trains_with_every_seed(tmp_path) -> None:
    from dataclasses import replace

    from benchmarks.bench_precision import scored
    from upmap.segmentation.compare import CompareOptions

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


def test_errors_cost_what_tidecv_says_and_shares_add_up(small):
    skip_without("tidecv")
    tables = read(*small)
    numbers = {name: step() for name, step in bench_explain.make_steps(*tables).items()}
    bench_explain.compare_numbers(*tables, numbers)
    numbers[bench_explain.PEER]["Loc"] += 1e-6
    with pytest.raises(BenchmarkError, match="Loc costs"):
        bench_explain.compare_numbers(*tables, numbers)


def test_arms_read_the_same_tables(tmp_path):
    pytest.importorskip("pyarrow", reason="pyarrow is not installed; the extra arrow has it")
    bench_tables.make_files(tmp_path, Size(detections=500, polygons=False))
    names = [arm for arm in bench_tables.ARMS if arm.startswith("upmap")]
    arms = [bench_tables.make_arm(name, tmp_path) for name in names]
    bench_tables.compare_sums(arms)
    lines = (tmp_path / "detections.csv").read_text().splitlines()
    (tmp_path / "detections.csv").write_text("\n".join(lines[:-1]))
    with pytest.raises(BenchmarkError, match="upmap, CSV read"):
        bench_tables.compare_sums(arms)


def test_yolo_files_give_the_numbers_of_their_json(tmp_path):
    bench_yolo.make_data_set(tmp_path, Size(images=30, detections=300, polygons=False))
    names = [arm for arm in bench_yolo.ARMS if arm != bench_yolo.HOTCOCO]
    arms = [bench_yolo.make_arm(name, tmp_path) for name in names]
    bench_yolo.compare_numbers(arms)
    (tmp_path / "predict" / "labels" / "000000000001.txt").unlink(missing_ok=True)
    next((tmp_path / "predict" / "labels").iterdir()).unlink()
    with pytest.raises(BenchmarkError, match="differs by"):
        bench_yolo.compare_numbers(arms)
