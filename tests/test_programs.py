"""How programs end: a status and a line for each way, and nothing raw on a terminal."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import upmap.metrics.evaluate_steps
from tests.detection.small_files import COCO, VOC, put
from upmap.__main__ import PROGRAMS
from upmap.__main__ import main as upmap_main
from upmap.console import Parser, run
from upmap.detection import InputError
from upmap.detection.convert import main as convert
from upmap.errors import ImplementationError, as_line, printable, shorten
from upmap.metrics.evaluate import main as evaluate

ROOT = Path(__file__).resolve().parents[1]
ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": ""}
HOSTILE = "\x1b]0;title\x07\x1b[2J\r\n\x9b\x7f\u202egnp\u2066\u200f\u061c\u200b\u2028\ud800"
# As repr writes it.
ESCAPED = r"\x1b]0;title\x07\x1b[2J\r\n\x9b\x7f\u202egnp\u2066\u200f\u061c\u200b\u2028\ud800"


def started(module: str, *arguments: str | Path, **settings: Any) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", module, *map(str, arguments)]
    settings = {"stderr": subprocess.PIPE, "stdout": subprocess.PIPE, "cwd": ROOT} | settings
    return subprocess.Popen(command, env=ENVIRONMENT | settings.pop("env", {}), **settings)


def ended(module: str, *arguments: str | Path, **settings: Any) -> tuple[int, str, str]:
    """The status, stdout and stderr of a program."""
    with started(module, *arguments, **settings) as process:
        out, err = process.communicate(timeout=60)
    return process.returncode, (out or b"").decode(), err.decode()


def shell(command: str, folder: Path = ROOT) -> tuple[int, str]:
    """The status and stderr of a shell's command, `python` in it being this one."""
    line = command.replace("python", sys.executable, 1)
    result = subprocess.run(
        ["sh", "-c", line], env=ENVIRONMENT, cwd=folder, capture_output=True, check=False
    )
    return result.returncode, result.stderr.decode()


def failing(error: BaseException) -> Callable[[], None]:
    def program() -> None:
        raise error

    return program


@pytest.fixture
def coco(tmp_path: Path) -> list[str]:
    folder = put(tmp_path, COCO)
    return [str(folder / "truth.json"), str(folder / "found.json")]


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (InputError("bad", "a.txt", "7"), 2, "a.txt:7: bad"),
        (ImplementationError("impl='x' is unknown"), 2, "impl='x' is unknown"),
        (FileNotFoundError(2, "No such", "x.txt"), 74, "x.txt: no such file or folder"),
        (OSError(28, "No space left on device", "x"), 74, "x: no space left on device"),
        (OSError(28, "No space left on device"), 74, "no space left on device"),
        (MemoryError(), 71, "out of memory"),
        (RuntimeError("can't start new thread"), 71, "out of memory"),
        (ZeroDivisionError("x\ny"), 70, r"(ZeroDivisionError: x\ny)"),
        (ZeroDivisionError(), 70, "(ZeroDivisionError)"),
        (RecursionError("deep"), 70, "(RecursionError: deep)"),
        (KeyError("x"), 70, "(KeyError: 'x')"),
        (UnicodeEncodeError("ascii", "\ud800", 0, 1, "no"), 70, "(UnicodeEncodeError: "),
    ],
)
def test_each_way_to_fail_has_its_status_and_one_line(
    error: Exception, status: int, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(failing(error)) == status
    err = capsys.readouterr().err
    assert err.startswith("error: ")
    assert line in err
    assert err.count("\n") == 1
    assert ("please report it" in err) == (status == 70)


def test_1_is_only_the_verdict_that_a_program_names(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(failing(KeyError("x")), KeyError) == 1
    assert run(lambda: 1) == 1
    assert run(failing(ValueError("x")), KeyError) == 70
    assert run(lambda: None) == run(lambda: 0) == 0


def test_a_traceback_is_printed_only_for_debug(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def program() -> None:
        Parser().parse_args(["--debug"])
        raise ZeroDivisionError("\x1b[2J")

    assert run(program) == 70
    with_flag = capsys.readouterr().err
    assert run(failing(ZeroDivisionError())) == 70
    assert "Traceback" not in capsys.readouterr().err  # the flag was for that run
    monkeypatch.setenv("UPMAP_DEBUG", "1")
    assert run(failing(ZeroDivisionError())) == 70
    assert "Traceback" in capsys.readouterr().err
    assert "Traceback" in with_flag
    assert "in program" in with_flag
    assert "\x1b" not in with_flag


@pytest.mark.parametrize("program", PROGRAMS)
def test_the_help_of_every_program_has_the_statuses_and_debug(
    program: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="0"):
        upmap_main([program, "--help"])
    help_text = capsys.readouterr().out
    for word in ("exit status: 0 good", "70 a bug", "71", "74", "130", "143", "--debug"):
        assert word in help_text


@pytest.mark.parametrize("module", ["metrics.evaluate", "kernels", "benchmarks.coco_like --help"])
@pytest.mark.parametrize("to", [">&-", ">/dev/full"])
def test_an_output_that_nobody_can_take_is_74_and_one_line(module: str, to: str) -> None:
    if to == ">/dev/full" and not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    status, err = shell(f"python -m {module} {to}")
    assert status == 74
    assert err.startswith("error: standard output")
    assert err.count("\n") == 1


def test_an_error_is_no_part_of_stdout_when_stderr_is_closed(tmp_path: Path) -> None:
    out = tmp_path / "out"
    status, _ = shell(f"python -m metrics.evaluate nowhere nothing >{out} 2>&-")
    assert (status, out.read_bytes()) == (2, b"")


def test_a_reader_that_goes_away_is_no_error() -> None:
    assert shell("python -m metrics.evaluate | :") == (0, "")


@pytest.mark.parametrize("encoding", ["ascii", "latin-1:strict", "cp1252"])
def test_what_an_encoding_lacks_is_escaped(tmp_path: Path, encoding: str) -> None:
    folder = put(tmp_path, COCO)
    truth = folder / "truth.json"
    truth.write_text(truth.read_text("utf-8").replace('"cat"', '"Ł猫"'), "utf-8")
    files = (truth, folder / "found.json")
    settings = {"env": {"PYTHONIOENCODING": encoding, "LC_ALL": "C"}}
    status, out, err = ended("metrics.evaluate", *files, **settings)
    assert (status, err) == (0, "")
    assert r"\u0141\u732b" in out
    status, out, err = ended("metrics.evaluate", *files, "--json", "-", **settings)
    assert (status, err) == (0, "")
    assert "Ł猫" in {row["name"] for row in json.loads(out)["results"][0]["per_class"]}


def test_a_path_that_is_not_utf_8_is_reported_so_that_it_can_be_had_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/b\xff"))
    try:
        put(path, VOC)
    except OSError:
        pytest.skip("this file system takes only UTF-8")
    report, table = tmp_path / "r.json", tmp_path / "t.csv"
    files = [str(path), str(path / "results")]
    assert evaluate([*files, "--json", str(report), "--csv", str(table)]) == 0
    assert r"b\udcff" in capsys.readouterr().out
    assert json.loads(report.read_text("utf-8"))["inputs"]["ground_truth"] == str(path)
    assert convert([*files, "--to", "coco", "--out", str(path / "out")]) == 0
    assert r"b\udcff/out/instances_test.json" in capsys.readouterr().out


def test_names_never_reach_a_terminal_raw(tmp_path: Path) -> None:
    folder = put(tmp_path, COCO)
    files = [folder / "truth.json", folder / "found.json"]
    named = files[0].read_text("utf-8").replace('"cat"', json.dumps(HOSTILE[:-1]))
    files[0].write_text(named, "utf-8")
    status, out, err = ended("metrics.evaluate", *files)
    _, _, refused = ended("metrics.evaluate", *files, "--classes", HOSTILE[:-1] + "x")
    _, _, unknown = ended("metrics.evaluate", *files, "--" + HOSTILE[:-1])
    assert status == 0
    name = printable(HOSTILE[:-1])
    assert name in out
    lines = [line for line in out.splitlines() if name in line or line.startswith("dog")]
    assert len({len(line) for line in lines}) == 1  # the columns stay under each other
    for text in (out, err, refused, unknown):
        assert all(c == "\n" or c.isprintable() for c in text)
    assert len(refused.splitlines()) == 1


def test_names_are_whole_in_reports(tmp_path: Path) -> None:
    folder, name = put(tmp_path, COCO), HOSTILE[:-1]
    truth = folder / "truth.json"
    truth.write_text(truth.read_text("utf-8").replace('"cat"', json.dumps(name)), "utf-8")
    report = tmp_path / "report.json"
    assert evaluate([str(truth), str(folder / "found.json"), "--json", str(report)]) == 0
    rows = json.loads(report.read_text("utf-8"))["results"][0]["per_class"]
    assert name in {row["name"] for row in rows}


def test_printable_escapes_as_repr_does_and_leaves_the_others() -> None:
    assert printable(HOSTILE) == ESCAPED
    assert printable("naïve 猫 🙂 'x' \\") == "naïve 猫 🙂 'x' \\"
    assert printable(printable(HOSTILE)) == ESCAPED
    for code in range(0x3000):
        assert printable(f"a{chr(code)}b").isprintable()


@pytest.mark.parametrize("filler", ["x", "'", '"', "\\", "\n", "é", "'\"", "' "])
def test_a_quoted_value_is_cut_and_a_message_is(filler: str) -> None:
    value = filler * 1000
    message = shorten(f"a.txt: {value!r} is no number, 'b' is")
    assert message.startswith(f"a.txt: {value!r}"[:60])
    assert message.endswith("... is no number, 'b' is".replace("...", f"...{repr(value)[-1]}"))
    assert len(message) < 7 + 60 * 10 + 30
    assert len(shorten(value)) <= 2040
    assert len(as_line("\u202e" * 10_000)) <= 2040
    whole = f"a {value[:20]!r} and the class's 'second' one"
    assert shorten(whole) == whole


def test_a_whole_file_is_never_echoed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    voc = put(tmp_path / "voc", VOC)
    (tmp_path / "list.txt").write_text("x/" * 500_000)
    assert evaluate([str(voc), str(voc / "results"), "--image-set", f"{tmp_path}/list.txt"]) == 2
    assert len(capsys.readouterr().err) < 500


@pytest.mark.parametrize(
    "option",
    [
        *(["--max-dets", value] for value in ("0", "100000000000000000000", "9" * 5000, "1.5")),
        *(["--iou", value] for value in ("", "nan", ",".join(f"0.{i:02}" for i in range(1, 66)))),
        *(["--set", f"iou_ceiling={value}"] for value in ("-1", "0", "nan", "inf", "1.5")),
        *(["--set", f"max_dets=[1, {value}]"] for value in ("1e23", "1" + "0" * 400, "nan")),
        ["--set", f"iou_thresholds={[i / 100 for i in range(1, 66)]}"],
        ["--set", "strict=" + "[" * 5000],
        ["--set", "strict=" + "1" * 5000],
        ["--classes", ""],
        ["--classes", " , "],
        ["--protocol", ","],
        ["--json", "-", "--csv", "-"],
        ["--json", "{tmp}/r", "--csv", "{tmp}/../{name}/r"],
        ["--json", "{tmp}/truth.json"],
        ["--csv", "{tmp}"],
    ],
    ids=lambda option: "=".join(option)[:50],
)
def test_an_option_out_of_range_is_one_line_and_2_before_the_work(
    option: list[str],
    coco: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(upmap.metrics.evaluate_steps, "read", None)  # would fail if it were called
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    words = [
        word.replace("{tmp}", str(tmp_path)).replace("{name}", tmp_path.name) for word in option
    ]
    try:
        status = evaluate([*coco, *words])
    except SystemExit as end:
        status = int(end.code or 0)
    assert status == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "error: " in printed.err.splitlines()[-1]
    assert len(printed.err.splitlines()[-1]) < 400
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_kernels_that_are_not_there_are_refused_by_every_program(
    coco: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UPMAP_IMPL", "foo")
    assert evaluate(coco) == 2
    assert convert([*coco, "--to", "voc", "--out", str(tmp_path / "out")]) == 2


def test_the_table_is_there_even_if_a_report_fails(
    coco: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, data: bytes) -> None:
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(upmap.metrics.evaluate_steps, "write_bytes", full)
    assert evaluate([*coco, "--csv", "r.csv"]) == 74
    printed = capsys.readouterr()
    assert "protocol  metric" in printed.out
    assert printed.err == "error: r.csv: no space left on device\n"


def test_csv_may_go_to_standard_output(coco: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluate([*coco, "--csv", "-"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert (
        lines[0]
        == "protocol,name,positives,detections,AP,AP50,AP75,recall,AP_standard_error,AP_low,AP_high"
    )
    assert len(lines) == 3


PAUSED = """
import signal, sys, time
from pathlib import Path
from upmap.console import run
from upmap.files import create_file, create_folder
def program():
    with create_folder(Path("a/out")) as folder, create_file(Path("report")) as file:
        (folder / "x").write_text("x")
        print("ready", flush=True)
        time.sleep(60)
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's job with & ignores it
sys.exit(run(program))
"""


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)], ids=["TERM", "INT"]
)
def test_a_signal_ends_a_program_in_order(tmp_path: Path, number: int, status: int) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", PAUSED],
        env=ENVIRONMENT,
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        assert len(list(tmp_path.iterdir())) == 2
        process.send_signal(number)
        time.sleep(0.01)
        process.send_signal(number)  # as those do who signal a group and each of it
        _, err = process.communicate(timeout=60)
    assert process.returncode in (status, -number)  # the second may come after all is done
    assert err == b""
    assert list(tmp_path.iterdir()) == []


def test_a_handler_of_somebody_else_is_left_alone() -> None:
    before = signal.signal(signal.SIGTERM, lambda *_: None)
    try:
        handler = signal.getsignal(signal.SIGTERM)
        assert run(lambda: int(signal.getsignal(signal.SIGTERM) is not handler)) == 0
    finally:
        signal.signal(signal.SIGTERM, before)
    assert run(lambda: int(signal.getsignal(signal.SIGTERM) is before)) == 0
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0, reason="needs root, to be less"
)
@pytest.mark.parametrize("place", ["", "Annotations", "ImageSets", "ImageSets/Main", "results"])
@pytest.mark.parametrize("mode", [0o000, 0o444])
def test_a_folder_without_permission_is_named(
    tmp_path: Path, place: str, mode: int, capsys: pytest.CaptureFixture[str]
) -> None:
    evaluate([])  # imports all that it needs, which another user may not read
    voc = put(tmp_path / "voc", VOC)
    evaluate([str(voc / "no"), str(voc)])
    parents = [folder for folder in (tmp_path, *tmp_path.parents) if str(folder) != "/"]
    if not all(folder.stat().st_mode & 0o001 for folder in parents):
        os.chmod(tmp_path, 0o755)  # noqa: PTH101
    capsys.readouterr()
    (voc / place).chmod(mode)
    os.seteuid(65534)
    try:
        status = evaluate([str(voc), str(voc / "results")])
    finally:
        os.seteuid(0)
        (voc / place).chmod(0o755)
    err = capsys.readouterr().err
    assert status == 2
    assert err.startswith("error: ")
    assert err.endswith(": permission denied\n")
    assert err.count("\n") == 1
