"""Triton's kernels without a GPU: run by its interpreter, compiled for GPUs that are not here."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("triton")

from torch._subclasses.fake_tensor import FakeTensorMode

from tests.kernels.compiled_triton import POINTERS, Machine, compile_kernel
from upmap.kernels import upsample_ce
from upmap.kernels.upsample_ce import fused_triton, triton_kernels
from upmap.kernels.upsample_ce.contract import Settings

ROOT = Path(__file__).resolve().parents[2]
PLAIN, FULL = (
    {"HAS_WEIGHTS": flag, "SMOOTHS": flag, "BINS": 512, "COPIES": 1} for flag in (False, True)
)
LARGE = {"R": 4, "Q": 1, "P": 4}  # pieces of 4 x 4 pixels
SMALL = {"R": 0, "Q": 3, "P": 2}  # of 2 x 2 pixels, ratio 4.02
# Kernel, axis, formulas; maxima of registers, and of instructions and loads for each class of a
# piece, so that 236 of 16 pixels are 14.75 for each upsampled logit.
LIMITS = [
    ("forward", LARGE, PLAIN, 168, 236, 4),
    ("forward", LARGE, FULL, 224, 300, 5),
    ("forward", SMALL, PLAIN, 80, 80, 4),
    ("backward", LARGE, PLAIN, 144, 276, 4),
    ("backward", LARGE, FULL, 168, 324, 5),
    ("backward", SMALL, PLAIN, 80, 110, 4),
    ("argmax", LARGE, PLAIN, 80, 124, 4),
    ("confusion", LARGE, PLAIN, 120, 124, 4),
    ("gather", LARGE, PLAIN, 48, 0, 0),
]
GPUS = [(80, "fp32"), (90, "fp32"), (90, "fp16"), (100, "bf16")]


def compile_case(
    name: str, kind: str, architecture: int, axis: dict[str, int], formulas: dict[str, int]
) -> Machine:
    axes = {f"{key}{letter}": value for key, value in axis.items() for letter in "YX"}
    block = fused_triton.GATHERED if name == "gather" else fused_triton.PIECES
    return compile_kernel(name, kind, architecture, {**axes, **formulas, "BP": block})


def test_the_interpreter_agrees_with_torch() -> None:
    environment = os.environ | {"TRITON_INTERPRET": "1", "PYTHONPATH": str(ROOT)}
    script = Path(__file__).with_name("triton_interpreted.py")
    result = subprocess.run(
        [sys.executable, str(script)], env=environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr[-3000:]
    assert result.stdout.splitlines()[-1] == "all equal"


@pytest.mark.parametrize(("architecture", "kind"), GPUS)
@pytest.mark.parametrize(("name", "axis", "formulas", "registers", "loop", "loads"), LIMITS)
def test_machine_code_is_as_short_as_the_documentation_says(
    *, name: str, axis: dict[str, int], formulas: dict[str, int], registers: int, loop: int,
    loads: int, architecture: int, kind: str,
) -> None:  # fmt: skip
    machine = compile_case(name, kind, architecture, axis, formulas)
    assert machine.spills == 0
    assert machine.registers <= registers
    assert machine.shared <= (4096 if name == "confusion" else 0)
    assert machine.narrow == 0  # addresses beyond 2^31 values
    if name != "gather":
        pixels = axis["P"] ** 2
        assert machine.exponentials == (pixels if name in ("forward", "backward") else 0)
        assert machine.loads == loads
        assert machine.loop <= loop


@pytest.mark.parametrize("name", triton_kernels.__all__)
def test_no_size_of_an_image_compiles_a_kernel_anew(name: str) -> None:
    parameters = getattr(triton_kernels, name).params
    specialized = {each.name for each in parameters if not each.do_not_specialize}
    constants = {each.name for each in parameters if each.is_constexpr}
    # Pointers are: whether they are multiples of 16 bytes, which tensors of their own always are.
    assert specialized - constants <= {*POINTERS, "logits", "logits_gradient"}


class Recorder:
    """Stands for a kernel: notes what it would be launched with, and on which device."""

    def __init__(self, current: list[torch.device]) -> None:
        self.current, self.devices, self.grids = current, [], []  # type: ignore[var-annotated]

    def __getitem__(self, grid: tuple[int, ...]) -> Any:
        def launch(*arguments: Any, **constants: Any) -> None:
            self.grids.append(grid)
            self.devices.append(self.current[-1])

        return launch


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    """Replaces all kernels and the current GPU."""
    current = [torch.device("cuda", 0)]

    @contextlib.contextmanager
    def enter(device: torch.device) -> Iterator[None]:
        current.append(device)
        yield
        current.pop()

    kernels = Recorder(current)
    monkeypatch.setattr(torch.cuda, "device", enter)
    for name in triton_kernels.__all__:
        monkeypatch.setattr(triton_kernels, name, kernels)
    return kernels


def test_kernels_are_launched_on_the_gpu_of_the_logits(recorder: Recorder) -> None:
    settings = Settings(None, False, 255, 0.1)
    with FakeTensorMode():
        logits = torch.empty(2, 19, 8, 8, device="cuda:1")
        target = torch.empty(2, 32, 32, dtype=torch.uint8, device="cuda:1")
        losses, logsumexps = fused_triton.forward(logits, target, settings)
        fused_triton.backward(losses, logsumexps, logits, target, settings)
        fused_triton.argmax(logits, (32, 32), False)
        fused_triton.confusion(logits, target, False, 255)
    assert recorder.devices == 5 * [torch.device("cuda", 1)]


def test_the_sums_of_the_backward_pass_are_bounded(
    recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    pieces = 9 * 9
    monkeypatch.setattr(fused_triton, "MAX_SUMS", 4 * pieces * 7)
    with FakeTensorMode():
        logits = torch.empty(3, 19, 8, 8, device="cuda")
        target = torch.empty(3, 32, 32, dtype=torch.uint8, device="cuda")
        losses = torch.empty(3, 32, 32, device="cuda")
        fused_triton.backward(losses, losses, logits, target, Settings(None, False, 255, 0.0))
    # Of each image 7, 7 and 5 classes, each summed and gathered.
    assert len(recorder.grids) == 3 * 3 * 2


@pytest.mark.parametrize(
    ("capability", "name"), [((7, 5), "reference"), ((8, 0), "triton"), ((12, 0), "triton")]
)
def test_a_gpu_that_is_too_old_is_left_to_torch(
    capability: tuple[int, int], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("UPMAP_IMPL", raising=False)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    with FakeTensorMode():
        logits = torch.empty(2, 19, 8, 8, device="cuda")
    assert upsample_ce._select_for(logits, None) is upsample_ce.IMPLEMENTATIONS[name]


def test_importing_does_not_ask_for_a_gpu() -> None:
    code = "import torch; torch.cuda.is_available = None; import upmap.kernels.upsample_ce"
    subprocess.run([sys.executable, "-c", code], check=True)
