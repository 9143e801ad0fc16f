"""What is installed: `upmap` alone, whole, beside a user's own `metrics.py` and `data/`.

Three installs are compared: the environment that runs the tests (editable), a wheel from the
checkout, and a wheel from the sdist. Both wheels are built once, from a copy of the tracked files,
so that two runs of the tests do not share a build folder.
"""

import csv
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from importlib.metadata import distribution
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from upmap import COCO, VOC2007, mean_average_precision
from upmap.kernels import OPERATIONS

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("data", "detection", "kernels", "metrics", "segmentation")
INSTALLS = ("editable", "wheel", "wheel from the sdist")
LAYOUTS = ("modules", "namespaces")  # of the user's own folder, see `user_folder`
BUILD_TOOLS = ("build", "cmake", "nanobind", "ninja", "scikit_build_core")
HAS_COMPILER = any(map(shutil.which, ("c++", "g++", "clang++")))

IMPORTS = {
    "modules": "import data, detection, kernels, metrics, segmentation",
    "namespaces": "import data.own, metrics.own",
}
EVALUATE_SAMPLE = """
import upmap
from pathlib import Path
from upmap import COCO, VOC2007, mean_average_precision
sample = Path(upmap.__file__).parent / "data" / "sample"
voc = mean_average_precision(sample / "voc", sample / "voc" / "results", protocol=VOC2007)
coco = mean_average_precision(
    sample / "coco" / "instances_test.json",
    sample / "coco" / "detections_test.json",
    protocol=COCO,
)
"""
REPORT = """
import json, sys
from importlib import import_module
owned = [name for name in sorted(sys.modules) if hasattr(sys.modules[name], "OWNED_BY_USER")]
native = [
    operation
    for operation in import_module("upmap.kernels").OPERATIONS
    if operation != "upsample_ce"  # imports torch
    and import_module(f"upmap.kernels.{operation}").IMPLEMENTATIONS["native"] is not None
]
print(json.dumps({
    "file": upmap.__file__,
    "owned": owned,
    "voc": voc.metrics["mAP"],
    "coco": dict(coco.metrics),
    "native": native,
}))
"""


class Built(NamedTuple):
    """What the build made.

    Attributes:
        sdist: The source distribution.
        wheel: A wheel from the checkout.
        wheel_from_sdist: A wheel from the unpacked sdist.
    """

    sdist: Path
    wheel: Path
    wheel_from_sdist: Path


class Install(NamedTuple):
    """An environment that has upmap.

    Attributes:
        python: Its interpreter.
        command: Its command `upmap`.
        package: The folder that upmap is imported from.
    """

    python: Path
    command: Path
    package: Path


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """The sdist and both wheels."""
    folder = tmp_path_factory.mktemp("distributions")
    copy_tracked_files(folder / "checkout")
    build(folder / "checkout", folder / "dist", "--sdist", "--wheel")
    (sdist,) = (folder / "dist").glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        archive.extractall(folder / "unpacked", filter="data")
    (source,) = (folder / "unpacked").iterdir()
    build(source, folder / "dist-from-sdist", "--wheel")
    (wheel,) = (folder / "dist").glob("*.whl")
    (wheel_from_sdist,) = (folder / "dist-from-sdist").glob("*.whl")
    return Built(sdist, wheel, wheel_from_sdist)


def copy_tracked_files(target: Path) -> None:
    """Copies the working tree's tracked files, symbolic links as links."""
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("not a git checkout, so the files that belong to it are not known")
    listing = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    for name in filter(None, listing.stdout.split("\0")):
        if os.path.lexists(ROOT / name):  # one that is deleted and not yet committed is left out
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name, follow_symlinks=False)


def build(source: Path, out: Path, *kinds: str) -> None:
    """Builds distributions; with the build tools of this environment, if it has them all."""
    tools = all(map(importlib.util.find_spec, BUILD_TOOLS))
    isolation = ["--no-isolation", "--skip-dependency-check"] if tools else []
    command = [sys.executable, "-m", "build", *kinds, *isolation, "--outdir", str(out), str(source)]
    result = subprocess.run(command, cwd=source, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout[-4000:] + result.stderr[-4000:]


@pytest.fixture(scope="session")
def installs(built: Built, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Install]:
    """The three environments."""
    wheels = {"wheel": built.wheel, "wheel from the sdist": built.wheel_from_sdist}
    environments = {
        name: install_wheel(wheel, tmp_path_factory.mktemp("environment"))
        for name, wheel in wheels.items()
    }
    scripts = Path(sysconfig.get_path("scripts"))
    editable = Install(Path(sys.executable), scripts / "upmap", ROOT / "upmap")
    return {"editable": editable, **environments}


def install_wheel(wheel: Path, folder: Path) -> Install:
    """A virtual environment with the wheel, and for all else the packages of the running one.

    Those are found through a `.pth` file. The `.pth` files of the running environment are not
    read then, so its editable upmap is not seen.
    """
    run([sys.executable, "-m", "venv", "--without-pip", folder], folder)
    python = folder / ("Scripts" if os.name == "nt" else "bin") / "python"
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet"]
    run([*pip, "--no-deps", "--no-index", wheel], folder)
    code = "import sysconfig; print(sysconfig.get_path('purelib'))"
    site_packages = Path(run([python, "-c", code], folder).strip())
    shared = [entry for entry in sys.path if Path(entry).name in ("site-packages", "dist-packages")]
    (site_packages / "shared.pth").write_text("\n".join(shared) + "\n", "utf-8")
    return Install(python, python.parent / "upmap", site_packages / "upmap")


def run(command: list[Any], folder: Path) -> str:
    """The standard output of a command that must succeed, in `folder`, without PYTHONPATH."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    result = subprocess.run(
        [str(word) for word in command],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.fixture(params=LAYOUTS)
def layout(request: pytest.FixtureRequest) -> str:
    """How the user's own modules are laid out."""
    name: str = request.param
    return name


@pytest.fixture
def user_folder(layout: str, tmp_path: Path) -> Path:
    """A user's folder with modules that are named as upmap's packages.

    Either files and a package, or folders without `__init__.py`, which any regular package of that
    name on the path would hide.
    """
    names = {
        "modules": [
            "data.py",
            "detection/__init__.py",
            "kernels.py",
            "metrics.py",
            "segmentation.py",
        ],
        "namespaces": ["data/own.py", "metrics/own.py"],
    }
    for name in names[layout]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("OWNED_BY_USER = True\n", "utf-8")
    return tmp_path


@pytest.fixture(scope="session")
def expected() -> dict[str, Any]:
    """The sample's numbers, computed here."""
    sample = ROOT / "data" / "sample"
    voc = mean_average_precision(sample / "voc", sample / "voc" / "results", protocol=VOC2007)
    coco = mean_average_precision(
        sample / "coco" / "instances_test.json",
        sample / "coco" / "detections_test.json",
        protocol=COCO,
    )
    return {"voc": voc.metrics["mAP"], "coco": dict(coco.metrics)}


@pytest.mark.parametrize("first", ["upmap", "own modules"])
@pytest.mark.parametrize("name", INSTALLS)
def test_a_script_beside_modules_of_the_same_names_gets_upmaps_numbers_and_its_own_modules(
    name: str,
    first: str,
    layout: str,
    user_folder: Path,
    installs: dict[str, Install],
    expected: dict[str, Any],
) -> None:
    parts = [EVALUATE_SAMPLE, IMPORTS[layout] + "\n"]
    code = "".join(parts if first == "upmap" else reversed(parts)) + REPORT
    (user_folder / "script.py").write_text(code, "utf-8")
    report = json.loads(run([installs[name].python, "script.py"], user_folder))
    imported = IMPORTS[layout].removeprefix("import ").split(", ")
    assert report["owned"] == imported
    assert {"voc": report["voc"], "coco": report["coco"]} == expected
    assert Path(report["file"]).parent.resolve() == installs[name].package.resolve()
    if HAS_COMPILER:
        assert set(report["native"]) == set(OPERATIONS) - {"upsample_ce"}


@pytest.mark.parametrize("name", INSTALLS)
def test_both_commands_evaluate_the_sample_beside_modules_of_the_same_names(
    name: str, user_folder: Path, installs: dict[str, Install], expected: dict[str, Any]
) -> None:
    install = installs[name]
    run([install.command, "evaluate", "--json", "command.json"], user_folder)
    module = [install.python, "-m", "upmap.metrics.evaluate"]
    run([*module, "--json", "module.json"], user_folder)
    command, module = (
        json.loads((user_folder / f"{report}.json").read_text("utf-8"))["results"]
        for report in ("command", "module")
    )
    assert command == module
    voc2007 = next(result for result in command if result["protocol"] == "voc2007")
    assert voc2007["metrics"]["mAP"] == expected["voc"]


def test_an_editable_install_puts_nothing_but_upmap_at_top_level() -> None:
    installed = distribution("upmap")
    assert installed.files is not None
    top = {path.parts[0] for path in installed.files if path.parts[0] != ".."}
    hooks = {name for name in top if name.startswith("_editable_")} | {"__pycache__"}  # of hooks
    assert top - hooks == {"upmap", f"upmap-{installed.version}.dist-info"}


@pytest.mark.parametrize("name", INSTALLS[1:])
def test_a_wheel_puts_nothing_but_upmap_at_top_level(
    name: str, installs: dict[str, Install]
) -> None:
    site_packages = installs[name].package.parent
    top = {path.name for path in site_packages.iterdir()} - {"shared.pth"}
    assert top == {"upmap", f"upmap-{distribution('upmap').version}.dist-info"}
    scripts = {path.name for path in installs[name].command.parent.iterdir()}
    assert {script for script in scripts if not script.lower().startswith("python")} - {
        "upmap",
        *(name for name in scripts if name.lower().startswith("activate")),
    } == set()


def test_a_wheel_holds_every_tracked_file_of_the_packages_but_the_sources_of_the_kernels(
    built: Built,
) -> None:
    listing = subprocess.run(
        ["git", "ls-files", "-z", "upmap", *PACKAGES],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    tracked = {name for name in listing.stdout.split("\0") if name and (ROOT / name).is_file()}
    due = {
        name if name.startswith("upmap/") else f"upmap/{name}"
        for name in tracked
        if Path(name).suffix not in (".cpp", ".hpp", ".inc")
    }
    for wheel in (built.wheel, built.wheel_from_sdist):
        content = files_of(wheel)
        compiled = {name for name in content if is_native_kernel(name)}
        assert {name for name in content if name.startswith("upmap/")} - compiled == due
        if HAS_COMPILER:
            assert {name.split("/")[2] for name in compiled} == set(OPERATIONS)


def files_of(wheel: Path) -> set[str]:
    """The names of the files in a wheel, without those that describe it."""
    with zipfile.ZipFile(wheel) as archive:
        return {name for name in archive.namelist() if ".dist-info/" not in name}


def is_native_kernel(name: str) -> bool:
    """Whether the file of a wheel is `upmap/kernels/OPERATION/native.<tag>.so`."""
    return name.startswith("upmap/kernels/") and name.endswith((".so", ".pyd"))


def test_both_wheels_hold_the_same_files(built: Built) -> None:
    assert files_of(built.wheel) == files_of(built.wheel_from_sdist)
    assert built.wheel.name == built.wheel_from_sdist.name


def test_each_package_of_the_wheel_is_typed(built: Built) -> None:
    content = files_of(built.wheel)
    assert {f"upmap/{package}/py.typed" for package in PACKAGES} <= content
    assert {f"upmap/kernels/{operation}/native.pyi" for operation in OPERATIONS} <= content


def test_the_sdist_holds_each_file_once_and_no_links(built: Built) -> None:
    with tarfile.open(built.sdist) as archive:
        members = [member for member in archive.getmembers() if not member.isdir()]
    assert [member.name for member in members if not member.isfile()] == []
    names = [member.name.partition("/")[2] for member in members]
    assert len(set(names)) == len(names)
    assert {name.split("/")[0] for name in names if "/" in name} == {"src"}
    assert [name for name in names if name.startswith("src/upmap/src")] == []
    assert {"pyproject.toml", "CMakeLists.txt", "README.md", "LICENSE"} <= set(names)


def test_the_record_of_a_wheel_lists_what_the_wheel_holds(built: Built) -> None:
    for wheel in (built.wheel, built.wheel_from_sdist):
        with zipfile.ZipFile(wheel) as archive:
            names = archive.namelist()
            (record,) = (name for name in names if name.endswith(".dist-info/RECORD"))
            rows = list(csv.reader(archive.read(record).decode("utf-8").splitlines()))
        assert sorted(row[0] for row in rows) == sorted(names)


def test_the_metadata_is_what_the_package_index_accepts(built: Built) -> None:
    if importlib.util.find_spec("twine") is None:
        pytest.skip("twine is not installed: the extra `dev` has it")
    run([sys.executable, "-m", "twine", "check", "--strict", *built], ROOT)
