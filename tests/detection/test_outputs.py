"""What is written takes the place of what it should, and of nothing else."""

import errno
import io
import os
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from upmap.detection import InputError
from upmap.files import (
    check_folder,
    check_new_folder,
    check_outputs,
    create_file,
    create_folder,
    write_bytes,
)

Write = Callable[[Path, bytes], None]


def write_beside(path: Path, data: bytes) -> None:
    with create_file(path) as beside:
        beside.write_bytes(data)


@pytest.fixture(params=[write_bytes, write_beside])
def write(request: pytest.FixtureRequest) -> Write:
    function: Write = request.param
    return function


@contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o027, 0o077])
def test_the_mode_of_what_is_new_follows_the_umask_which_is_never_changed(
    tmp_path: Path, mask: int, monkeypatch: pytest.MonkeyPatch, write: Write
) -> None:
    with umask(mask):
        with monkeypatch.context() as patched:
            patched.setattr(os, "umask", None)  # would fail if it were called
            write(tmp_path / "file", b"x")
            with create_folder(tmp_path / "folder") as beside:
                (beside / "x").touch()
        assert mode(tmp_path / "file") == 0o666 & ~mask
        assert mode(tmp_path / "folder") == 0o777 & ~mask


@pytest.mark.parametrize("before", [0o600, 0o640, 0o644, 0o666, 0o755])
def test_the_mode_of_what_is_replaced_is_kept_from_the_first_byte(
    tmp_path: Path, before: int
) -> None:
    file, folder = tmp_path / "file", tmp_path / "folder"
    file.touch()
    folder.mkdir()
    file.chmod(before)
    folder.chmod(before | 0o700)
    with umask(0o022), create_file(file) as beside, create_folder(folder) as inside:
        assert (mode(beside), mode(inside)) == (before, before | 0o700)
    assert (mode(file), mode(folder)) == (before, before | 0o700)


def test_links_are_followed_to_what_they_stand_for(tmp_path: Path, write: Write) -> None:
    (tmp_path / "there").mkdir()
    target = tmp_path / "there" / "target"
    target.write_bytes(b"old")
    (tmp_path / "link").symlink_to("there/target")
    (tmp_path / "chain").symlink_to(tmp_path / "link")
    (tmp_path / "dangling").symlink_to("there/new")
    write(tmp_path / "chain", b"new")
    write(tmp_path / "dangling", b"made")
    assert target.read_bytes() == b"new"
    assert (tmp_path / "there" / "new").read_bytes() == b"made"
    assert all((tmp_path / name).is_symlink() for name in ("link", "chain", "dangling"))


def test_a_folder_behind_a_link_is_made_there(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to("there/deep/out")
    with create_folder(tmp_path / "link") as beside:
        (beside / "x").touch()
    assert (tmp_path / "there" / "deep" / "out" / "x").exists()
    assert (tmp_path / "link").is_symlink()


def test_the_other_hard_links_of_a_replaced_file_keep_what_it_was(
    tmp_path: Path, write: Write
) -> None:
    (tmp_path / "file").write_bytes(b"old")
    (tmp_path / "other").hardlink_to(tmp_path / "file")
    write(tmp_path / "file", b"new")
    assert (tmp_path / "file").read_bytes() == b"new"
    assert (tmp_path / "other").read_bytes() == b"old"


@pytest.mark.parametrize("by", ["name", "link"])
def test_a_pipe_is_written_through(tmp_path: Path, by: str, write: Write) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    (tmp_path / "link").symlink_to("pipe")
    read: list[bytes] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_bytes()))
    reader.start()
    write(pipe if by == "name" else tmp_path / "link", b"x" * 300_000)
    reader.join(timeout=60)
    assert [len(data) for data in read] == [300_000]
    assert stat.S_ISFIFO(pipe.stat().st_mode)


def test_a_device_is_written_through(tmp_path: Path, write: Write) -> None:
    null = tmp_path / "null"
    try:
        os.mknod(null, stat.S_IFCHR | 0o666, os.makedev(1, 3))
        null.write_bytes(b"")
    except OSError:
        pytest.skip("devices can be made by root alone, where the file system has them")
    check_outputs({"--out": null}, [])
    write(null, b"x")
    assert stat.S_ISCHR(null.stat().st_mode)
    assert os.listdir(tmp_path) == ["null"]  # noqa: PTH208


@pytest.mark.parametrize("place", ["/proc/self/fd/{}", "/proc/thread-self/fd/{}", "/dev/fd/{}"])
def test_an_open_file_is_written_to_where_it_stands(
    tmp_path: Path, place: str, write: Write
) -> None:
    with (tmp_path / "log").open("wb") as log:
        path = Path(place.format(log.fileno()))
        if not path.exists():
            pytest.skip(f"this system has no {path}")
        log.write(b"before ")
        log.flush()
        (tmp_path / "link").symlink_to(path)
        write(path, b"one ")
        write(tmp_path / "link", b"two ")
        log.write(b"after")
    assert (tmp_path / "log").read_bytes() == b"before one two after"


def test_a_hyphen_is_standard_output(capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    print("before")
    for write in (write_bytes, write_beside):
        write(Path("-"), "Straße ".encode())
    assert capsysbinary.readouterr().out == "before\nStraße Straße ".encode()
    assert not Path("-").exists()


def test_a_hyphen_is_also_an_output_without_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout", io.StringIO())
    write_bytes(Path("-"), "Straße".encode())
    import sys

    assert isinstance(sys.stdout, io.StringIO)
    assert sys.stdout.getvalue() == "Straße"


@pytest.mark.parametrize("kind", [InputError, KeyboardInterrupt, RuntimeError])
def test_a_block_that_fails_leaves_all_as_it_was(tmp_path: Path, kind: type[BaseException]) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"old")

    def stop(place: Path) -> None:
        (place / "half" if place.is_dir() else place).write_bytes(b"half")
        raise kind("stop")

    with pytest.raises(kind), create_file(file) as beside:
        stop(beside)
    with pytest.raises(kind), create_folder(tmp_path / "a" / "b" / "out") as beside:
        stop(beside)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert file.read_bytes() == b"old"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
def test_an_error_names_the_users_path_never_the_hidden_one(tmp_path: Path, number: int) -> None:
    def fail(folder: Path) -> None:
        write_bytes(folder / "first", b"")
        with create_file(folder / "second") as hidden:
            raise OSError(number, os.strerror(number), str(hidden))

    def refuse(folder: Path) -> None:
        raise InputError("a name is not text", folder / "x.json")

    with pytest.raises(OSError, match="out") as caught, create_folder(tmp_path / "out") as beside:
        fail(beside)
    assert caught.value.filename == str(tmp_path / "out" / "second")
    with pytest.raises(InputError) as refused, create_folder(tmp_path / "out") as beside:
        refuse(beside)
    assert str(refused.value) == f"{tmp_path}/out/x.json: a name is not text"
    assert list(tmp_path.iterdir()) == []


def put(folder: Path) -> Path:
    """Inputs, and other names of them."""
    (folder / "devkit" / "Annotations").mkdir(parents=True)
    (folder / "devkit" / "Annotations" / "a.xml").write_text("<annotation/>")
    (folder / "elsewhere").mkdir()
    (folder / "elsewhere" / "b.xml").write_text("<annotation/>")
    (folder / "devkit" / "more").symlink_to(folder / "elsewhere")
    (folder / "devkit" / "again").symlink_to(folder / "devkit")  # endless, if it were followed
    (folder / "truth.json").write_text("{}")
    (folder / "link.json").symlink_to("truth.json")
    (folder / "hard.json").hardlink_to(folder / "truth.json")
    return folder


@pytest.mark.parametrize(
    "path",
    [
        *("truth.json", "devkit/../truth.json", "link.json", "hard.json"),
        *("devkit/Annotations/a.xml", "elsewhere/b.xml", "devkit/more/b.xml"),
    ],
)
def test_an_output_that_is_an_input_is_refused_under_every_name(tmp_path: Path, path: str) -> None:
    put(tmp_path)
    inputs = [tmp_path / "truth.json", tmp_path / "devkit"]
    with pytest.raises(InputError, match=r": --json would overwrite an input$"):
        check_outputs({"--json": tmp_path / path}, inputs)


def test_a_report_may_lie_in_a_folder_of_inputs_and_be_replaced(tmp_path: Path) -> None:
    put(tmp_path)
    report = tmp_path / "devkit" / "report.json"
    check_outputs({"--json": report}, [tmp_path / "devkit"], (b'{"own"',))
    report.write_text('{"own": 1}')
    check_outputs({"--json": report}, [tmp_path / "devkit"], (b'{"own"',))
    with pytest.raises(InputError, match="would overwrite an input"):
        check_outputs({"--json": report}, [report], (b'{"own"',))


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("x", "x"),
        ("x", "devkit/../x"),
        ("x", "dangling"),
        ("truth.json", "link.json"),
        ("link.json", "hard.json"),
        ("pipe", "pipe"),
    ],
)
def test_two_outputs_that_are_one_file_are_refused(tmp_path: Path, first: str, second: str) -> None:
    put(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "dangling").symlink_to("x")
    outputs = {"--json": tmp_path / first, "--csv": tmp_path / second}
    with pytest.raises(InputError, match=r": --csv and --json are the same file$"):
        check_outputs(outputs, [])


@pytest.mark.parametrize("names", [("-", "-"), ("-", "/dev/stdout"), ("/proc/self/fd/1", "-")])
def test_two_outputs_cannot_both_be_standard_output(names: tuple[str, str]) -> None:
    with pytest.raises(InputError, match="--csv and --json are the same file"):
        check_outputs(dict(zip(("--json", "--csv"), map(Path, names), strict=True)), [])


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("devkit", "is a directory"),
        ("missing/x", "no such file or folder"),
        ("truth.json/x", "not a directory"),
        ("loop", "too many levels of symbolic links"),
        ("n" * 300, "file name too long"),
        ("/dev/fd/987", "bad file descriptor"),
    ],
)
def test_what_cannot_be_written_is_refused_before_the_work(
    tmp_path: Path, path: str, reason: str
) -> None:
    put(tmp_path)
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(InputError, match=f"cannot be written: {reason}$"):
        check_outputs({"--json": tmp_path / path}, [])


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES])
def test_a_folder_without_permission_is_refused_before_the_work(
    tmp_path: Path, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    opens = os.open

    def refuse(path: Path, flags: int, *more: int) -> int:
        if flags & os.O_CREAT:
            raise OSError(number, os.strerror(number), str(path))
        return opens(path, flags, *more)

    monkeypatch.setattr(os, "open", refuse)
    reason = f"{os.strerror(number).lower()}$"
    with pytest.raises(InputError, match=f"report: cannot be written: {reason}"):
        check_outputs({"--json": tmp_path / "report"}, [])
    with pytest.raises(InputError, match=f"out: cannot be made: {reason}"):
        check_new_folder(tmp_path / "out")
    with pytest.raises(InputError, match=f"out: cannot be written to: {reason}"):
        check_folder(tmp_path / "out")


def test_a_file_that_is_read_only_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "report").touch(0o444)
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK)  # root may write it
    with pytest.raises(InputError, match=r"report: cannot be written: permission denied$"):
        check_outputs({"--json": tmp_path / "report"}, [])


def test_looking_leaves_nothing_behind(tmp_path: Path) -> None:
    check_outputs({"--json": tmp_path / "report", "--csv": tmp_path / "table"}, [tmp_path])
    check_folder(tmp_path / "a" / "b")
    check_new_folder(tmp_path / "c" / "d")
    assert list(tmp_path.iterdir()) == []
