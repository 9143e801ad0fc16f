"""`python -m metrics.evaluate`, run as its users run it."""

import csv
import io
import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from upmap.detection.formats import read_ground_truth
from upmap.kernels import accumulation, coco_json, matching, resampling, voc_files
from upmap.metrics import COCO, VOC2007, mean_average_precision
from upmap.metrics.analysis.intervals import two_sided_quantile
from upmap.metrics.evaluate import main

ROOT = Path(__file__).resolve().parents[2]


def run(*arguments: Any, folder: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "metrics.evaluate", *map(str, arguments)],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def voc(sample: Path) -> list[str]:
    return [str(sample / "voc"), str(sample / "voc" / "results")]


@pytest.fixture
def coco(sample: Path) -> list[str]:
    return [str(sample / "coco/instances_test.json"), str(sample / "coco/detections_test.json")]


def read_report(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    assert main([*arguments, "--json", "-"]) == 0
    report: dict[str, Any] = json.loads(capsys.readouterr().out)
    return report


def test_without_arguments_it_evaluates_the_sample_and_says_so(tmp_path: Path) -> None:
    result = run(folder=tmp_path)
    assert result.returncode == 0
    assert result.stderr == ""
    assert "the bundled sample" in result.stdout
    assert "voc2007   mAP" in result.stdout
    assert "voc2010   mAP" in result.stdout


def test_the_json_report_has_the_documented_shape(
    voc: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    report = read_report(capsys, *voc)
    assert report["schema"] == 1
    assert report["inputs"]["images"] == 48
    assert report["inputs"]["image_set"] == "test"
    assert [result["protocol"] for result in report["results"]] == ["voc2007", "voc2010"]
    expected = mean_average_precision(*voc, protocol=VOC2007)
    first = report["results"][0]
    assert first["metrics"] == {"mAP": expected.mAP}
    assert first["settings"]["pixels"] == "inclusive"
    assert first["settings"]["max_dets"] == [None]
    for row, scores in zip(first["per_class"], expected.per_class.values(), strict=True):
        assert (row["name"], row["AP"]) == (scores.name, scores.AP)
        assert (row["positives"], row["detections"]) == (scores.positives, scores.detections)


def test_coco_ground_truth_gets_the_12_numbers(
    coco: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    (result,) = read_report(capsys, *coco)["results"]
    assert [*result["metrics"]] == [
        *("AP", "AP50", "AP75", "APs", "APm", "APl"),
        *("AR1", "AR10", "AR100", "ARs", "ARm", "ARl"),
    ]
    expected = mean_average_precision(*coco, protocol=COCO).metrics
    metrics = {name: math.nan if v is None else v for name, v in result["metrics"].items()}
    assert metrics == pytest.approx(expected, abs=0, nan_ok=True)


def test_several_protocols_stand_side_by_side(voc: list[str]) -> None:
    result = run(*voc, "--protocol", "voc2007,coco")
    head = result.stdout.split("\n\n")[1].splitlines()[0].split("  ")
    columns = [word.strip() for word in head if word.strip()]
    assert columns == [
        *("class", "detections", "positives"),
        *("voc2007 AP", "95 % interval", "coco AP", "95 % interval", "coco AP50", "coco AP75"),
    ]


def test_options_change_the_protocol(voc: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    report = read_report(
        capsys, *voc, "--protocol", "coco", "--iou", "0.5,0.6", "--max-dets", "3", "--set",
        "strict=true", "--set", "difficult=drop",
    )  # fmt: skip
    settings = report["results"][0]["settings"]
    assert settings["iou_thresholds"] == [0.5, 0.6]
    assert settings["max_dets"] == [1, 3]
    assert settings["strict"] is True
    assert settings["difficult"] == "drop"
    assert "AR3" in report["results"][0]["metrics"]
    assert report["results"][0]["metrics"]["AP75"] is None


def test_lists_are_set_as_in_toml_and_all_by_name(
    voc: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    settings = (
        "recall_points=all", "max_dets=[2, 5]", 'area_ranges=[["all", 0, 1e9], ["tiny", 0, 99]]'
    )  # fmt: skip
    words = [word for setting in settings for word in ("--set", setting)]
    (report,) = read_report(capsys, *voc, "--protocol", "coco", *words)["results"]
    assert report["settings"]["recall_points"] is None
    assert report["settings"]["max_dets"] == [2, 5]
    assert report["settings"]["area_ranges"] == {"all": [0, 1e9], "tiny": [0, 99]}
    names = [name for name in report["metrics"] if name.startswith("AR")]
    assert names == ["AR2", "AR5", "ARs", "ARm", "ARl"]


@pytest.mark.parametrize(
    ("max_dets", "caps"), [(1, ["1"]), (10, ["1", "10"]), (300, ["1", "10", "300"])]
)
def test_the_summary_names_each_cap_once(voc: list[str], max_dets: int, caps: list[str]) -> None:
    result = run(*voc, "--protocol", "coco", "--max-dets", str(max_dets))
    lines = [line.split() for line in result.stdout.splitlines() if line.startswith("coco ")]
    assert [words[1] for words in lines][6:-3] == [f"AR{cap}" for cap in caps]
    assert {words[5] for words in lines} >= set(caps[-1:])


def test_classes_restrict_the_evaluation(
    voc: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    whole = read_report(capsys, *voc)["results"][0]["per_class"]
    part = read_report(capsys, *voc, "--classes", "circle,star")["results"][0]["per_class"]
    assert [row["name"] for row in part] == ["circle", "star"]
    assert part == [row for row in whole if row["name"] in ("circle", "star")]


def test_an_image_set_may_be_a_name_or_a_file(
    voc: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = (Path(voc[0]) / "ImageSets/Main/test.txt").read_text().split()
    few = tmp_path / "few.txt"
    few.write_text("\n".join(names[:4]))
    results = tmp_path / "results"
    results.mkdir()
    for file in Path(voc[1]).glob("*.txt"):
        lines = [line for line in file.read_text().splitlines() if line.split()[0] in names[:4]]
        (results / file.name).write_text("".join(f"{line}\n" for line in lines))
    assert read_report(capsys, *voc, "--image-set", "test")["inputs"]["images"] == 48
    report = read_report(capsys, voc[0], str(results), "--image-set", str(few))
    assert report["inputs"]["images"] == 4


def test_the_csv_has_a_row_per_protocol_and_class(voc: list[str], tmp_path: Path) -> None:
    file = tmp_path / "classes.csv"
    assert main([*voc, "--csv", str(file)]) == 0
    with file.open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    expected = mean_average_precision(*voc, protocol=VOC2007).per_class
    assert len(rows) == 2 * len(expected)
    assert float(rows[0]["AP"]) == expected[rows[0]["name"]].AP


def test_cross_check_prints_both_columns_and_agrees(coco: list[str], voc: list[str]) -> None:
    for inputs in (coco, voc):
        result = run(*inputs, "--cross-check")
        assert result.returncode == 0
        assert "pycocotools" in result.stdout
        assert result.stdout.rstrip().endswith("the two agree")


def test_uncertainty_stands_beside_each_number_and_in_the_json(
    voc: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    (first, second) = read_report(capsys, *voc)["results"]
    for result in (first, second):
        number = result["uncertainty"]["metrics"]["mAP"]
        assert number["value"] == result["metrics"]["mAP"]
        assert 0 < number["low"] < number["value"] < number["high"] < 1
        names = [scores["name"] for scores in result["per_class"]]
        assert [*result["uncertainty"]["per_class"]] == names
    assert main(voc) == 0
    text = capsys.readouterr().out
    (line,) = (line for line in text.splitlines() if "voc2007   mAP" in line)
    number = first["uncertainty"]["metrics"]["mAP"]
    assert line.split()[-1] == f"{number['high'] - number['value']:.6f}"
    assert "max dets     value   +- 95 %" in text
    name, estimate = next(iter(first["uncertainty"]["per_class"].items()))
    (line,) = (line for line in text.splitlines() if line.startswith(name))
    assert f"{estimate['value']:.6f}  {estimate['low']:.4f} .. {estimate['high']:.4f}" in line
    assert main([*voc, "--csv", "-"]) == 0
    row = next(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    for key in ("standard_error", "low", "high"):
        assert float(row[f"AP_{key}"]) == estimate[key]


def test_without_uncertainty_nothing_speaks_of_it(
    voc: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [*voc, "--no-uncertainty"]
    assert "uncertainty" not in read_report(capsys, *arguments)["results"][0]
    for more in ((), ("--csv", "-")):
        assert main([*arguments, *more]) == 0
        text = capsys.readouterr().out
        assert not any(word in text for word in ("+-", "interval", "AP_low"))
    for more, message in (
        (["--bootstrap", "9"], "--bootstrap and --groups need it"),
        (["--groups", "x"], "--bootstrap and --groups need it"),
    ):
        assert main([*arguments, *more]) == 2
        assert message in capsys.readouterr().err
    assert main([*voc, "--seed", "1"]) == 2
    assert "seed: only the bootstrap has one" in capsys.readouterr().err


def test_the_bootstrap_has_a_seed_and_implies_a_number_of_replicates(
    voc: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    def estimate(*more: str) -> dict[str, Any]:
        record: dict[str, Any] = read_report(capsys, *more)["results"][0]["uncertainty"]
        return record

    first = estimate("--bootstrap", *voc, "--level", "0.9")  # no number follows the flag
    assert (first["method"], first["replicates"], first["seed"]) == ("bootstrap", 1000, 0)
    assert first["level"] == 0.9
    assert estimate("--bootstrap", "1000", *voc, "--level", "0.9") == first
    other = estimate(*voc, "--bootstrap", "200", "--seed", "5")
    assert (other["replicates"], other["seed"]) == (200, 5)
    influence = estimate(*voc)
    assert (influence["method"], influence["replicates"], influence["seed"]) == (
        *("influence", None, None),
    )
    errors = [part["metrics"]["mAP"]["standard_error"] for part in (first, other, influence)]
    assert len(set(errors)) == 3
    assert max(errors) < 1.3 * min(errors)


def test_groups_come_from_a_file_or_a_pattern(
    voc: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = read_ground_truth(Path(voc[0]), image_set="test").catalog.images
    path = tmp_path / "groups.csv"
    rows = [f"{image},{str(image)[-1]}" for image in images]
    path.write_text("\n".join(["image,group", *rows, "unknown,7"]))
    of_file, of_pattern = (
        read_report(capsys, *voc, "--groups", groups)["results"][0]["uncertainty"]
        for groups in (str(path), r"\d(?=\.|$)")
    )
    assert of_file == of_pattern
    assert of_file["groups"] == len({str(image)[-1] for image in images}) < 20
    number = of_file["metrics"]["mAP"]
    quantile = two_sided_quantile(0.95, of_file["groups"])  # Student's
    half = number["high"] - number["value"]
    assert half == pytest.approx(quantile * number["standard_error"])
    assert main([*voc, "--groups", str(path)]) == 0
    assert f"the influence of {of_file['groups']} groups of images" in capsys.readouterr().out


def test_wrong_groups_are_refused_with_the_place(
    voc: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "groups.csv"
    for text, message in (
        ("image,group\n", f"{path}: no group for 48 images: "),
        ("image\n", f"{path}:1: expected different columns, one of them `image`"),
        ("image,a,b\n", f"{path}:1: expected a column `group`, got 'a, b'"),
        ("image,group\nx\n", f"{path}:2: expected 2 cells, got 1"),
    ):
        path.write_text(text)
        assert main([*voc, "--groups", str(path)]) == 2
        assert message in capsys.readouterr().err
    for pattern, message in (
        ("gruops.csv", "the pattern 'gruops.csv' is not in the image "),
        ("(", "'(' is not a regular expression"),
        ("x" * 5000, "the pattern 'xxx"),  # longer than a path may be
    ):
        assert main([*voc, "--groups", pattern]) == 2
        error = capsys.readouterr().err
        assert message in error
        assert "and there is no such file" in error


def test_a_cross_check_goes_into_the_json_too(
    coco: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    (result,) = read_report(capsys, *coco, "--cross-check")["results"]
    assert len(result["cross_check"]) == 15
    assert max(row["difference"] for row in result["cross_check"]) == 0


def test_undefined_is_null_in_json_and_na_in_the_table(tmp_path: Path) -> None:
    truth = {
        "images": [{"id": 1}],
        "annotations": [],
        "categories": [{"id": 1, "name": "cat"}],
    }
    (tmp_path / "t.json").write_text(json.dumps(truth))
    (tmp_path / "d.json").write_text("[]")
    result = run("t.json", "d.json", "--json", "r.json", folder=tmp_path)
    assert "n/a: without counted ground truth, left out of the means: cat" in result.stdout
    report = json.loads((tmp_path / "r.json").read_text())
    assert set(report["results"][0]["metrics"].values()) == {None}
    assert report["results"][0]["per_class"][0]["AP"] is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere", "nothing"], "no such file or folder"),
        (["{voc}", "{voc}/Annotations"], "not recognized as detections"),
        (["{voc}"], "name both GROUND_TRUTH and DETECTIONS"),
        (
            ["{voc}", "{voc}/results", "--protocol", "voc2008"],
            "--protocol: must be one of voc2007, voc2010, coco, ",
        ),
        (["{voc}", "{voc}/results", "--classes", "unicorn"], "no class 'unicorn'; there are"),
        (["{voc}", "{voc}/results", "--image-set", "train"], "no image set called 'train'"),
        (["{voc}", "{voc}/results", "--iou", "1.5"], "--iou: must lie in (0, 1], not 1.5"),
        (
            ["{voc}", "{voc}/results", "--max-dets", "0"],
            "--max-dets: must lie in [1, 2147483647], not 0",
        ),
        (["{voc}", "{voc}/results", "--set", "color=red"], "--set takes FIELD=VALUE"),
        (["{voc}", "{voc}/results", "--set", "strict=maybe"], "--set strict: "),
        (["{voc}", "{voc}/results", "--set", "epsilon=tiny"], "--set epsilon: "),
        (["{voc}", "{voc}/results", "--set", "max_dets=0.5"], "or inf, not (0.5,)"),
        (["{voc}", "{voc}/results", "--set", 'area_ranges=[["all", 0]]'], "--set area_ranges: "),
        (
            ["{voc}", "{voc}/results", "--set", "pixels=voc"],
            "--set pixels: expected one of inclusive",
        ),
        (["{voc}", "{voc}/results", "--json", "{tmp}/no/r.json"], "cannot be written"),
        (["{voc}", "{voc}/results", "--csv", "{tmp}/no/r.csv"], "cannot be written"),
    ],
)
def test_misuse_is_one_clear_line_and_status_2(
    arguments: list[str], message: str, sample: Path, tmp_path: Path
) -> None:
    places = {"voc": str(sample / "voc"), "tmp": str(tmp_path)}
    result = run(*(word.format(**places) for word in arguments), folder=tmp_path)
    assert result.returncode == 2
    assert message in result.stderr.splitlines()[-1]
    assert "Traceback" not in result.stderr
    assert result.stdout == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("files", ["voc", "coco"])
def test_the_environment_may_ask_for_the_references_and_gets_the_same_numbers(
    files: str,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments = request.getfixturevalue(files)
    native = read_report(capsys, *arguments)
    monkeypatch.setenv("UPMAP_IMPL", "reference")
    for kernel in (coco_json, matching, accumulation, resampling, voc_files):
        monkeypatch.setitem(kernel.IMPLEMENTATIONS, "native", None)  # would fail if it were called
    reference = read_report(capsys, *arguments)
    # Standard errors are sums of many terms, in another order: the last digits differ.
    first, second = (pop_estimates(report) for report in (native, reference))
    assert [*first] == [*second]
    assert [*first.values()] == pytest.approx([*second.values()], rel=1e-9, abs=1e-12)
    assert reference == native


def pop_estimates(report: dict[str, Any]) -> dict[tuple[str, ...], float]:
    """The standard errors and ends of intervals, -1 for null, which are taken out of the report."""
    estimates = {}
    for result in report["results"]:
        uncertainty = result.pop("uncertainty")
        for kind in ("metrics", "per_class"):
            for name, numbers in uncertainty.pop(kind).items():
                for key, value in numbers.items():
                    estimates[kind, name, key] = -1.0 if value is None else value
    return estimates


def test_an_unknown_name_in_the_environment_is_refused(
    voc: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("UPMAP_IMPL", "refrence")
    assert main(voc) == 2
    expected = "UPMAP_IMPL='refrence' is unknown; there are native, reference"
    assert expected in capsys.readouterr().err


def test_help_teaches(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    text = capsys.readouterr().out
    for word in ("examples:", "exit status:", "--cross-check", "--image-set", "VOCdevkit/VOC2007"):
        assert word in text
