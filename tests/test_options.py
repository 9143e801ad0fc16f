"""From an options dataclass to flags, TOML and help; and that every program is made that way."""

import importlib
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest

from upmap.__main__ import PROGRAMS
from upmap.__main__ import main as upmap
from upmap.console import Parser, describe_command
from upmap.errors import InputError
from upmap.options import (
    Choices,
    Flag,
    Option,
    Positional,
    Range,
    add_flags,
    list_options,
    parse_options,
    validate_fields,
)

ROOT = Path(__file__).resolve().parents[1]
COLORS = {"red": 1, "green": 2}


@dataclass(frozen=True, slots=True, kw_only=True)
class Inner:
    """A section.

    Attributes:
        base_width: Channels.
        color: A color.
        sizes: Two of
            them.
    """

    base_width: Annotated[int, Range(1, 100)] = 16
    color: Annotated[str, Choices(lambda: COLORS)] = "red"
    sizes: tuple[int, int] = (3, 4)

    def __post_init__(self) -> None:
        validate_fields(self)
        if self.sizes[0] > self.sizes[1]:
            raise ValueError("sizes must ascend")


@dataclass(frozen=True, slots=True, kw_only=True)
class Outer:
    """Options of every kind.

    Attributes:
        source: What to read.
        others: More to read.
        out_file: Where to write.
        rate: A number, 100 % of it.
        keep_all: Whether to.
        names: Names.
        palette: Colors.
        side: One side, or two.
        mode: How.
        title: Any text.
        values: Settings.
        extra: Besides.
        inner: The section.
    """

    source: Annotated[str, Positional("SOURCE")]
    others: Annotated[tuple[Path, ...], Positional("OTHERS")] = ()
    out_file: Annotated[Path, Flag(metavar="FILE")]
    rate: Annotated[float, Range(0, 1, above=True), Flag(group="numbers")] = 0.5
    keep_all: bool = False
    names: tuple[str, ...] = ()
    palette: Annotated[tuple[str, ...], Choices(COLORS)] = ("red",)
    side: Annotated[int | tuple[int, int], Range(0, 99)] = 8
    mode: Literal["fast", "slow"] | None = None
    title: str | None = None
    values: Annotated[tuple[str, ...], Flag(name="set", metavar="A=B", is_repeatable=True)] = ()
    extra: Mapping[str, Any] = field(default_factory=dict)
    inner: Inner = field(default_factory=lambda: Inner(base_width=32))

    def __post_init__(self) -> None:
        validate_fields(self)


REQUIRED = ("in", "--out-file", "out")
DEFAULTS = Outer(source="in", out_file=Path("out"))


def parse(*words: str, kind: Any = Outer) -> Any:
    parser = Parser(prog="program")
    add_flags(parser, kind)
    return parse_options(kind, parser, words)


def parse_file(tmp_path: Path, text: str, *words: str) -> Any:
    config = tmp_path / "options.toml"
    config.write_text(text)
    return parse("--config", str(config), *words)


@pytest.mark.parametrize(
    ("words", "changes"),
    [
        ((), {}),
        (("a", "b"), {"others": (Path("a"), Path("b"))}),
        (("--rate", "1"), {"rate": 1.0}),
        (("--rate=.25",), {"rate": 0.25}),
        (("--keep-all",), {"keep_all": True}),
        (("--keep-all", "--no-keep-all"), {"keep_all": False}),
        (("--names", "a, b,"), {"names": ("a", "b")}),
        (("--names", "5"), {"names": ("5",)}),
        (("--names", '["a,b", "c"]'), {"names": ("a,b", "c")}),
        (("--names", "[a]"), {"names": ("[a]",)}),
        (("--palette", "green,red"), {"palette": ("green", "red")}),
        (("--side", "5"), {"side": 5}),
        (("--side", "5,6"), {"side": (5, 6)}),
        (("--side", "[5, 6]"), {"side": (5, 6)}),
        (("--mode", "slow"), {"mode": "slow"}),
        (("--title", "1.5"), {"title": "1.5"}),
        (("--title", "true"), {"title": "true"}),
        (("--set", "a=[1, 2]", "--set", "b=c"), {"values": ("a=[1, 2]", "b=c")}),
        (("--extra", "scale=3, icnr=true"), {"extra": {"scale": 3, "icnr": True}}),
        (("--extra", "{scale = 3}"), {"extra": {"scale": 3}}),
        (("--inner.base-width", "7"), {"inner": Inner(base_width=7)}),
        (("--inner.sizes", "8,9"), {"inner": Inner(base_width=32, sizes=(8, 9))}),
    ],
    ids=str,
)
def test_words_become_the_type_of_their_field(
    words: tuple[str, ...], changes: dict[str, Any]
) -> None:
    options = parse(*REQUIRED, *words)
    assert options == replace(DEFAULTS, **changes)
    for name in changes:
        assert type(getattr(options, name)) is type(changes[name])


def test_positionals_may_stand_before_between_and_after_flags() -> None:
    expected = replace(DEFAULTS, others=(Path("a"), Path("b")))
    for words in (
        ("in", "a", "b", "--out-file", "out"),
        ("--out-file", "out", "in", "a", "b"),
        ("in", "--out-file", "out", "a", "b"),
        ("in", "a", "--out-file", "out", "b"),
    ):
        assert parse(*words) == expected


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--rate", "fast"), "--rate: expected a number, got 'fast'"),
        (("--rate", "0"), "--rate: must lie in (0, 1], not 0.0"),
        (("--rate", "nan"), "--rate: must lie in (0, 1], not nan"),
        (("--names", " , "), "--names: expected values with commas between them, got ' , '"),
        (("--palette", "red,blue"), "--palette: must be one of red, green, not 'blue'"),
        (("--side", "5,6,7"), "--side: expected a whole number or a list of values, got a list"),
        (("--side", "5,-6"), "--side: must lie in [0, 99], not -6"),
        (("--side", "1.5"), "--side: expected a whole number or a list of values, got '1.5'"),
        (("--mode", "medium"), "--mode: must be one of fast, slow, not 'medium'"),
        (("--extra", "scale"), "--extra: expected a table of keys and values, got 'scale'"),
        (("--inner.base-width", "9" * 5000), "--inner.base-width: expected a whole number, got "),
        (("--inner.color", "blue"), "--inner.color: must be one of red, green, not 'blue'"),
        (("--inner.sizes", "1"), "--inner.sizes: expected 2 values, got 1"),
        (("--inner.sizes", "1,b"), "--inner.sizes: expected a whole number, got 'b'"),
        (("--inner.sizes", "2,1"), "--inner: sizes must ascend"),
    ],
)
def test_a_wrong_value_is_one_line_that_names_the_flag(
    words: tuple[str, ...], message: str
) -> None:
    with pytest.raises(InputError) as error:
        parse(*REQUIRED, *words)
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 200


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--out_file", "x"), "--out_file is spelled --out-file"),
        (("--out_file=x",), "--out_file is spelled --out-file"),
        (("--keep_all", "true"), "--keep_all takes no value: write --keep-all, not"),
        (("--keep-all", "true"), "--keep-all takes no value: write --keep-all, not"),
        (("--keep-all=true",), "--keep-all takes no value: write --keep-all, not"),
        (("--keep-all", "false"), "write --no-keep-all, not --keep-all false"),
        (("--inner.base_width", "3"), "--inner.base_width is spelled --inner.base-width"),
        (("--inner.colour", "red"), "--inner.colour is spelled --inner.color"),
        (("--nmaes", "a"), "unrecognized arguments: --nmaes a; did you mean --names?"),
        (("--xyzzy",), "unrecognized arguments: --xyzzy\n"),
        (("--rat", "1"), "unrecognized arguments: --rat 1; did you mean --rate?"),
        (("--inner.sizes",), "expected one argument"),
    ],
)
def test_unknown_flags_and_old_spellings_end_with_2_and_the_new_one(
    words: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        parse(*REQUIRED, *words)
    assert end.value.code == 2
    assert message in capsys.readouterr().err


def test_what_stands_after_two_dashes_is_no_old_spelling() -> None:
    assert parse("--out-file", "out", "--", "--out_file").source == "--out_file"


def test_what_must_be_given_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        parse()
    assert end.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("usage: program [OPTION ...] --out-file FILE SOURCE [OTHERS...]\n")
    assert "the following arguments are required: SOURCE, --out-file" in error
    assert parse_file(tmp_path, 'out_file = "out"\nsource = "in"') == DEFAULTS


def test_flags_override_the_file_and_the_file_the_defaults(tmp_path: Path) -> None:
    text = """
        rate = 1
        keep-all = true
        set = ["a=b"]
        side = [1, 2]
        [inner]
        base-width = 5
        color = "green"
    """
    options = parse_file(tmp_path, text, *REQUIRED, "--inner.base-width", "6", "--no-keep-all")
    inner = Inner(base_width=6, color="green")
    assert options == replace(DEFAULTS, rate=1.0, values=("a=b",), side=(1, 2), inner=inner)


def test_a_section_of_a_file_leaves_the_other_defaults_of_the_program(tmp_path: Path) -> None:
    options = parse_file(tmp_path, '[inner]\ncolor = "green"', *REQUIRED)
    assert options.inner == Inner(base_width=32, color="green")  # not the 16 of Inner itself


def test_options_that_go_together_only_together_may_be_set_by_both(tmp_path: Path) -> None:
    options = parse_file(tmp_path, "[inner]\nsizes = [8, 9]", *REQUIRED, "--inner.sizes", "10,11")
    assert options.inner.sizes == (10, 11)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rates = 1", "options.toml:rates: no such option; there are source, others, out_file, "),
        ("[inner]\nx = 1", "options.toml:inner.x: no such option; there are base_width, color, si"),
        ("keep_all = 1", "options.toml:keep_all: expected true or false, got 1"),
        ("rate = true", "options.toml:rate: expected a number, got True"),
        ("rate = -1", "options.toml:rate: must lie in (0, 1], not -1"),
        ("rate = 1" + "0" * 400, "options.toml:rate: expected a number, got an integer of"),
        ("rate = ", "options.toml: malformed TOML"),
        ("rate = " + "[" * 5000, "options.toml: malformed TOML"),
        ('title = "a\\u0000"', "options.toml:title: has a NUL character"),
        ("names = [1]", "options.toml:names: expected text, got 1"),
        ("side = 1.5", "options.toml:side: expected a whole number or a list of values, got 1.5"),
        ("mode = [1]", "options.toml:mode: must be one of fast, slow, not a list"),
        ("extra = 3", "options.toml:extra: expected a table of keys and values, got 3"),
        ("inner = 3", "options.toml:inner: expected a table, got 3"),
        ("[inner]\nsizes = [1]", "options.toml:inner.sizes: expected 2 values, got 1"),
        ("[inner]\nsizes = [2, 1]", "options.toml:inner: sizes must ascend"),
        ("[inner.sizes]\nx = 1", "options.toml:inner.sizes: expected a list of values, got a dict"),
    ],
)
def test_a_file_that_is_wrong_is_named_with_its_key(
    tmp_path: Path, text: str, message: str
) -> None:
    with pytest.raises(InputError) as error:
        parse_file(tmp_path, text, *REQUIRED)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("kind", "changes", "message"),
    [
        (Inner, {"base_width": 0}, r"base_width must lie in \[1, 100\], not 0"),
        (Inner, {"color": "blue"}, "color must be one of red, green, not 'blue'"),
        (Outer, {"mode": "medium"}, "mode must be one of fast, slow, not 'medium'"),
        (Outer, {"palette": ("red", "x")}, "palette must be one of red, green, not 'x'"),
        (Outer, {"out_file": Path("a\0")}, "out_file has a NUL character"),
    ],
)
def test_a_dataclass_made_in_python_is_validated_alike(
    kind: Any, changes: dict[str, Any], message: str
) -> None:
    required = {"source": "in", "out_file": Path("out")} if kind is Outer else {}
    with pytest.raises(ValueError, match=message):
        kind(**required | changes)


def test_the_help_has_the_docstrings_words_choices_ranges_and_defaults(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit, match="0"):
        parse("--help")
    text = " ".join(capsys.readouterr().out.split())
    for expected in (
        "usage: program [OPTION ...] --out-file FILE SOURCE [OTHERS...]",
        "SOURCE What to read.",
        "numbers: --rate X A number, 100 % of it. In (0, 1]. [0.5]",
        "--keep-all, --no-keep-all Whether to. [off]",
        "--names TEXT,TEXT Names. --palette NAME,NAME Colors. One of red, green. [red]",
        "--mode NAME How. One of fast, slow. --title",
        "--set A=B Settings.",
        "--extra KEY=VALUE Besides.",
        "inner: --inner.base-width N Channels. In [1, 100]. [32]",
        "--inner.sizes N,N Two of them. [3,4]",
        "--config FILE a TOML file of these options",
    ):
        assert expected in text


# Every program of upmap.

KINDS = {
    "evaluate": ("upmap.metrics.evaluate", "Options"),
    "convert": ("upmap.detection.convert", "Options"),
    "train": ("upmap.segmentation.train", "TrainOptions"),
    "predict": ("upmap.segmentation.predict", "PredictOptions"),
    "compare-detectors": ("upmap.metrics.compare", "Options"),
    "evaluate-segmentation": ("upmap.segmentation.evaluate", "EvaluateOptions"),
    "serve": ("upmap.segmentation.serve", "ServeOptions"),
    "compare": ("upmap.segmentation.compare", "CompareOptions"),
    "export": ("upmap.segmentation.export", "ExportOptions"),
    "convert-segmentation": ("upmap.segmentation.convert", "ConvertOptions"),
    "shapes": ("upmap.data.shapes", "Options"),
}
WITH_THREADS = (
    *("evaluate", "convert", "train", "predict", "evaluate-segmentation", "serve", "compare"),
    "compare-detectors",
    "export",
)


def options_of(program: str) -> Sequence[Option]:
    module, name = KINDS[program]
    return list_options(getattr(importlib.import_module(module), name))


def help_of(program: str, capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit, match="0"):
        upmap([program, "--help"])
    return capsys.readouterr().out


def test_the_programs_looked_at_are_all_programs_that_have_options() -> None:
    assert {*PROGRAMS} - {*KINDS} == {"kernels"}
    assert {name: PROGRAMS[name].module for name in KINDS} == {n: m for n, (m, _) in KINDS.items()}


@pytest.mark.parametrize("program", KINDS)
def test_every_field_has_a_flag_and_a_line_of_help(
    program: str, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = " ".join(help_of(program, capsys).split())
    options = options_of(program)
    assert options
    for option in options:
        assert option.description, f"the docstring says nothing of {option.name}"
        described = " ".join(option.help.split())
        assert f"{option.flag}" in shown
        assert described in shown, option.name
        assert "_" not in option.flag.lstrip("-") or option.positional
    assert ("--threads" in [option.flag for option in options]) == (program in WITH_THREADS)


@pytest.mark.parametrize("program", PROGRAMS)
def test_the_help_of_every_program_says_how_it_was_started(
    program: str, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = help_of(program, capsys)
    assert shown.startswith(f"usage: upmap {program} [")
    assert "%(prog)s" not in shown
    assert "exit status: 0 good" in shown


@pytest.mark.parametrize("program", KINDS)
def test_every_option_of_a_program_may_stand_in_a_file(program: str, tmp_path: Path) -> None:
    (tmp_path / "odd.toml").write_text("no_such_option = 1\n")
    words = ["--config", str(tmp_path / "odd.toml")]
    assert upmap([program, *words]) == 2


@pytest.mark.parametrize("program", WITH_THREADS)
def test_a_negative_number_of_threads_is_refused(
    program: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert upmap([program, "--threads=-1"]) == 2
    assert capsys.readouterr().err == "error: --threads: must lie in [0, 65536], not -1\n"


@pytest.mark.parametrize(
    ("command", "usage"),
    [
        (["-m", "upmap", "shapes"], "python -m upmap shapes"),
        (["-m", "upmap.data.shapes"], "python -m upmap.data.shapes"),
        (["-m", "data.shapes"], "python -m data.shapes"),
        (["-m", "upmap.kernels"], "python -m upmap.kernels"),
        (["-c", "from upmap.data.shapes import main; main()"], "upmap shapes"),
    ],
)
def test_the_usage_says_how_the_process_was_started(command: list[str], usage: str) -> None:
    result = subprocess.run(
        [sys.executable, *command, "--help"],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout.startswith(f"usage: {usage} [")


def test_the_number_of_threads_reaches_what_reads_and_evaluates(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    passed: list[tuple[str, int]] = []

    def record(module: Any, name: str) -> None:
        function = getattr(module, name)

        def recorded(*arguments: Any, threads: int, **settings: Any) -> Any:
            passed.append((name, threads))
            return function(*arguments, threads=threads, **settings)

        monkeypatch.setattr(module, name, recorded)

    evaluate = importlib.import_module("upmap.metrics.evaluate_steps")
    convert = importlib.import_module("upmap.detection.convert")
    for name in ("read", "match", "evaluate_matches"):
        record(evaluate, name)
    for name in ("read", "read_ground_truth"):
        record(convert, name)
    assert upmap(["evaluate", "--threads", "3", "--protocol", "coco"]) == 0
    voc = str(ROOT / "data" / "sample" / "voc")
    to = ["--threads", "2", "--to", "coco", "--out"]
    assert upmap(["convert", voc, *to, str(tmp_path / "truth")]) == 0
    assert upmap(["convert", voc, f"{voc}/results", *to, str(tmp_path / "both")]) == 0
    assert passed == [
        *(("read", 3), ("match", 3), ("evaluate_matches", 3)),
        *(("read_ground_truth", 2), ("read", 2)),
    ]


def test_segmentation_limits_the_threads_of_torch_where_a_number_is_asked_for() -> None:
    torch = pytest.importorskip("torch")
    from upmap.segmentation.device import limit_threads

    before = torch.get_num_threads()
    try:
        limit_threads(before + 1)
        assert torch.get_num_threads() == before + 1
        limit_threads(0)
        assert torch.get_num_threads() == before + 1
    finally:
        torch.set_num_threads(before)


def test_a_test_runner_starts_no_program() -> None:
    assert describe_command("upmap.segmentation.train") == "upmap train"


@pytest.mark.parametrize("program", ["evaluate", "convert", "shapes"])
def test_programs_start_without_docstrings(program: str) -> None:
    code = f"from upmap.__main__ import main; main(['{program}', '--help'])"
    command = [sys.executable, "-OO", "-c", code]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert "--config FILE" in result.stdout


def test_upmap_alone_teaches_and_names_near_subcommands(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert upmap([]) == upmap(["--help"]) == 0
    shown = capsys.readouterr().out
    assert all(f"  {name} " in shown for name in PROGRAMS)
    assert "upmap evaluate VOCdevkit/VOC2007 results/" in shown
    assert upmap(["evalaute"]) == 2
    assert upmap(["frobnicate\x1b[2J"]) == 2
    near, far = capsys.readouterr().err.splitlines()
    assert near == "error: no subcommand 'evalaute'; did you mean evaluate?"
    assert far.startswith("error: no subcommand 'frobnicate\\x1b[2J'; there are evaluate, convert")


def test_the_light_program_reads_no_toml_and_loads_no_msgspec_without_a_file() -> None:
    code = (
        "import sys; from upmap.metrics.evaluate import main; status = main([]); "
        "print(status, {'tomllib', 'msgspec', 'difflib'} & {*sys.modules}, file=sys.stderr)"
    )
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stderr == "0 set()\n"
