"""The program that compares detectors: what it prints, writes and ends with."""

import csv
import io
import json
import random
from pathlib import Path

import numpy as np
import pytest

from upmap.metrics.compare import main

CLASSES = ("cat", "dog")


def make(folder: Path, images: int = 60) -> dict[str, str]:
    """Ground truth as CSV, and detectors of falling quality, as paths."""
    generator = random.Random(1)
    truth, found = ["image,label,x,y,w,h"], {name: ["image,label,x,y,w,h,score"] for name in "abcd"}
    for i in range(images):
        for label in CLASSES:
            x, y = generator.randrange(200), generator.randrange(200)
            truth.append(f"{i},{label},{x},{y},30,40")
            luck = generator.random()
            for name, quality in zip("abcd", (0.9, 0.6, 0.6, 0.2), strict=True):
                # c is right on other images than b, though as often.
                is_right = ((luck + 0.5) % 1 if name == "c" else luck) < quality
                shift = 0 if is_right else 300
                found[name].append(f"{i},{label},{x + shift},{y},30,40,{generator.random():.3f}")
    (folder / "t.csv").write_text("\n".join(truth))
    for name, lines in found.items():
        (folder / f"{name}.csv").write_text("\n".join(lines))
    return {name: str(folder / f"{name}.csv") for name in ("t", *found)}


def test_two_detectors_are_compared_in_words(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = make(tmp_path)
    assert main([files["t"], files["a"], files["d"]]) == 0
    shown = capsys.readouterr().out
    assert "d.csv against a.csv, 60 images" in shown
    assert "worse" in shown
    assert "better" not in shown
    assert main([files["t"], files["d"], files["a"]]) == 0
    assert "better" in capsys.readouterr().out


def test_reports_have_each_number_and_class(tmp_path: Path) -> None:
    files = make(tmp_path)
    reports = [tmp_path / "c.json", tmp_path / "c.csv"]
    arguments = [files["t"], files["a"], files["b"], "--json", str(reports[0])]
    assert main([*arguments, "--csv", str(reports[1])]) == 0
    record = json.loads(reports[0].read_text())
    (pair,) = record["pairs"]
    assert (pair["images"], pair["left_out"], record["protocol"]) == (60, 0, "coco")
    assert set(pair["per_class"]) == set(CLASSES)
    rows = list(csv.DictReader(io.StringIO(reports[1].read_text())))
    assert len(rows) == len(pair["metrics"]) + len(CLASSES)
    for row in rows:
        expected = {**pair["metrics"], **pair["per_class"]}[row["name"]]
        assert float(row["delta"] or np.nan) == pytest.approx(
            np.nan if expected["delta"] is None else expected["delta"], nan_ok=True
        )


def test_several_detectors_fall_into_tiers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = make(tmp_path, 150)
    assert main([files["t"], *(files[name] for name in "abcd"), "--json", str(tmp_path / "j")]) == 0
    tiers = json.loads((tmp_path / "j").read_text())["tiers"]
    names = [[Path(name).stem for name in tier] for tier in tiers]
    assert names[0] == ["a"]
    assert sorted(names[1]) == ["b", "c"]
    assert names[2] == ["d"]
    assert "Within a tier differences may be chance" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (["a", "d", "--not-worse", "0.05"], 1),
        (["d", "a", "--not-worse", "0.05"], 0),
        (["b", "c", "--not-worse", "0.01"], 3),
        (["a", "d", "--fail-under", "0.9"], 1),
        (["d", "a", "--fail-under", "0.3"], 0),
        (["d", "a", "--not-worse", "0", "--fail-under", "1"], 1),
    ],
)
def test_bounds_end_with_their_status(arguments: list[str], status: int, tmp_path: Path) -> None:
    files = make(tmp_path)
    words = [files.get(word, word) for word in arguments]
    assert main([files["t"], *words]) == status


def test_the_bootstrap_and_groups_are_options(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = make(tmp_path)
    arguments = [files["t"], files["a"], files["d"], "--json", "-"]
    assert main([*arguments, "--bootstrap", "200", "--seed", "3"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert (record["method"], record["seed"]) == ("bootstrap", 3)
    assert main([*arguments, "--groups", "^."]) == 0
    of_pattern = json.loads(capsys.readouterr().out)
    assert of_pattern["groups"] == 10  # the first digits of 0 .. 59
    path = tmp_path / "groups.csv"
    path.write_text("\n".join(["image,group", *(f"{i},{str(i)[0]}" for i in range(60))]))
    assert main([*arguments, "--groups", str(path)]) == 0
    assert json.loads(capsys.readouterr().out) == of_pattern
    assert main([*arguments, "--bootstrap"]) == 0  # 1000
    assert json.loads(capsys.readouterr().out)["method"] == "bootstrap"
    assert main([*arguments, "--groups", "x"]) == 2
    assert "the pattern 'x' is not in the image '0', and there is no such file" in (
        capsys.readouterr().err
    )


def test_one_detector_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = make(tmp_path, 3)
    assert main([files["t"], files["a"]]) == 2
    assert "at least two detectors" in capsys.readouterr().err


def test_a_report_does_not_overwrite_an_input(tmp_path: Path) -> None:
    files = make(tmp_path, 3)
    before = Path(files["b"]).read_bytes()
    assert main([files["t"], files["a"], files["b"], "--csv", files["b"]]) == 2
    assert Path(files["b"]).read_bytes() == before
