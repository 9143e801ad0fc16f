"""The analyses of the command line: sections of JSON, columns of CSV, text that teaches."""

import csv
import io
import json
from pathlib import Path

import pytest

from tests.metrics.analysis.problems import random_tables
from upmap.detection import read
from upmap.metrics import VOC2007, match
from upmap.metrics.analyses import ANALYSES
from upmap.metrics.analysis.explanation import explain_evaluation
from upmap.metrics.analysis.pairs import pair_detections
from upmap.metrics.evaluate import main
from upmap.metrics.reports.analysis_tables import TABLES

FLAGS = {
    "explanation": ["--explain"],
    "tidecv": ["--tidecv"],
    "slices": ["--slices"],
    "tie_range": ["--ties"],
    "worst_images": ["--worst", "3"],
    "label_candidates": ["--labels"],
}


@pytest.fixture
def voc(sample: Path) -> list[str]:
    return [str(sample / "voc"), str(sample / "voc" / "results")]


def read_json(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[dict]:
    assert main([*arguments, "--json", "-"]) == 0
    return json.loads(capsys.readouterr().out)["results"]


def test_each_analysis_has_a_flag_and_a_section_of_its_own(
    voc: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert [row.key for row in ANALYSES] == list(FLAGS)
    plain = read_json(capsys, *voc)
    for key, flags in FLAGS.items():
        for before, after in zip(plain, read_json(capsys, *voc, *flags), strict=True):
            assert after.keys() - before.keys() == {key}
            assert {name: after[name] for name in before} == before


@pytest.mark.parametrize("impl", ["native", "reference"])
def test_the_section_has_the_numbers_of_the_library(
    voc: list[str], impl: str, capsys: pytest.CaptureFixture[str]
) -> None:
    first, *_ = read_json(capsys, *voc, "--explain", "--impl", impl)
    truth, detections = read(*voc)
    table = match(truth, detections, VOC2007)
    record = explain_evaluation(pair_detections(truth, detections, table), table).to_record()
    assert first["explanation"]["errors"]["shares"] == record["errors"]["shares"]
    assert first["explanation"]["confusion"]["cells"] == record["confusion"]["cells"]
    assert first["explanation"]["lrp"]["oLRP"] == record["lrp"]["oLRP"]
    shares = first["explanation"]["errors"]["shares"].values()
    assert sum(shares) == pytest.approx(1 - first["metrics"]["mAP"], abs=1e-12)


def test_text_has_every_analysis_of_every_protocol_and_says_how_to_read_it(
    voc: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*voc, *(flag for flags in FLAGS.values() for flag in flags)]) == 0
    text = capsys.readouterr().out
    for protocol in ("voc2007", "voc2010"):
        assert f"what costs the points: {protocol} at IoU 0.50" in text
        assert f"what {protocol} mAP gains without the image" in text
        assert f"{protocol}: not annotated?" in text
    for words in (
        "the six add up",
        "TIDE by tidecv's own rules",
        "right class, box too loose",
        "oLRP",
        "any order of equal scores",
        "p (Holm)",
    ):
        assert words in text


def test_csv_gains_columns_of_classes(voc: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*voc, "--explain", "--csv", "-"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert len(rows) == 10
    for row in rows:
        shares = [float(value) for name, value in row.items() if name.endswith("_share")]
        assert sum(shares) == pytest.approx(1 - float(row["AP"]), abs=1e-12)


def test_slices_by_attributes_are_in_the_report(
    voc: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    truth, _ = read(*voc)
    path = tmp_path / "attributes.csv"
    lines = [
        f"{image},{'even' if i % 2 else 'odd'}" for i, image in enumerate(truth.catalog.images)
    ]
    path.write_text("\n".join(["image,parity", *lines]))
    for result in read_json(capsys, *voc, "--attributes", str(path)):
        parts = [part for part in result["slices"]["slices"] if part["dimension"] == "parity"]
        assert [part["name"] for part in parts] == ["even", "odd"]
        assert sum(part["images"] for part in parts) == len(truth.catalog.images)


def test_tables_are_files_of_csv_with_the_numbers_of_the_report(
    voc: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "tables"
    flags = [flag for flags in FLAGS.values() for flag in flags]
    first, *_ = read_json(capsys, *voc, *flags, "--tables", str(folder))
    names = [name for tables in TABLES.values() for name in tables]
    expected = {f"{protocol}_{name}.csv" for protocol in ("voc2007", "voc2010") for name in names}
    assert {path.name for path in folder.iterdir()} == expected
    rows = {
        name: list(csv.DictReader(io.StringIO((folder / f"voc2007_{name}.csv").read_text())))
        for name in names
    }
    explanation = first["explanation"]
    assert float(rows["errors"][0]["shares_Loc"]) == explanation["errors"]["shares"]["Loc"]
    assert rows["errors"][1]["name"] == first["per_class"][0]["name"]
    counts = [int(row["count"]) for row in rows["confusion"]]
    assert counts == [count for _, _, count in explanation["confusion"]["cells"]]
    assert [row["name"] for row in rows["slices"]][:3] == ["small", "medium", "large"]
    assert len(rows["worst_images"]) == 3
    assert len(rows["label_candidates"]) == sum(first["label_candidates"]["counts"].values())


def test_tables_need_an_analysis_and_a_new_folder(
    voc: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*voc, "--tables", str(tmp_path / "new")]) == 2
    assert "name what to write: --explain, --slices" in capsys.readouterr().err
    (tmp_path / "file").write_text("kept")
    assert main([*voc, "--explain", "--tables", str(tmp_path)]) == 2
    assert "exists already; name a new folder" in capsys.readouterr().err
    same = str(tmp_path / "same")
    assert main([*voc, "--explain", "--tables", same, "--json", same]) == 2
    assert "--tables and --json are the same file" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    (tmp_path / "empty").mkdir()
    assert main([*voc, "--labels", "--tables", str(tmp_path / "empty")]) == 0
    assert len(list((tmp_path / "empty").iterdir())) == 2


def test_wrong_attributes_end_with_one_line_and_nothing_is_written(
    voc: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, report = tmp_path / "attributes.csv", tmp_path / "report.json"
    path.write_text("image,weather\nnowhere,rain\n")
    assert main([*voc, "--attributes", str(path), "--json", str(report)]) == 2
    result = capsys.readouterr()
    assert f"{path}:2: no image 'nowhere' in the ground truth" in result.err.splitlines()[-1]
    assert result.out == ""
    assert not report.exists()
    assert main([*voc, "--attributes", str(path), "--csv", str(path)]) == 2


def test_scores_that_are_no_probabilities_leave_the_rest_of_the_explanation() -> None:
    truth, detections = random_tables(0)
    object.__setattr__(detections, "score", detections.score * 7)
    table = match(truth, detections, VOC2007)
    explanation = explain_evaluation(pair_detections(truth, detections, table), table)
    assert explanation.calibration is None
    assert "sigmoid" in explanation.uncalibrated_reason
    assert explanation.to_record()["calibration"] is None
