"""Triton's kernels without a GPU: run by its interpreter, compiled for GPUs that are not here."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

triton = pytest.importorskip("triton")

ROOT = Path(__file__).resolve().parents[2]
POINTERS = {
    "target": "*u8",
    **dict.fromkeys(("best", "counts"), "*i64"),
    **dict.fromkeys(("losses", "logsumexps", "gradient", "class_weights"), "*fp32"),
    **dict.fromkeys(("row_weight", "column_weight", "weight_sum"), "*fp32"),
    **dict.fromkeys(("row_first", "row_second", "column_first", "column_second"), "*i32"),
    **dict.fromkeys(("row_begin", "row_end", "column_begin", "column_end"), "*i32"),
    "smoothing": "fp32",
}


def test_the_interpreter_agrees_with_torch() -> None:
    environment = os.environ | {"TRITON_INTERPRET": "1", "PYTHONPATH": str(ROOT)}
    script = Path(__file__).with_name("triton_interpreted.py")
    result = subprocess.run(
        [sys.executable, str(script)], env=environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr[-3000:]
    assert result.stdout.count("equal") == 12
    assert "refused" in result.stdout


@pytest.mark.parametrize("architecture", [80, 90, 100])
@pytest.mark.parametrize("kind", ["*fp32", "*bf16", "*fp16"])
@pytest.mark.parametrize("name", ["forward", "backward", "argmax", "confusion"])
def test_kernels_compile(name: str, kind: str, architecture: int) -> None:
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from upmap.kernels.upsample_ce import triton_kernels
    from upmap.kernels.upsample_ce.fused_triton import BACKWARD_TILE, FORWARD_TILE

    kernel = getattr(triton_kernels, f"{name}_kernel")
    tile = BACKWARD_TILE if name == "backward" else FORWARD_TILE
    constants = dict(zip(("BC", "BP"), tile, strict=True))
    kinds = POINTERS | dict.fromkeys(("logits", "logits_gradient"), kind)
    signature = {
        argument: "constexpr" if argument in constants else kinds.get(argument, "i32")
        for argument in kernel.arg_names
    }
    source = ASTSource(kernel, signature, constants)  # the third's name depends on the release
    compiled = triton.compile(
        source, target=GPUTarget("cuda", architecture, 32), options={"enable_fp_fusion": True}
    )
    assert compiled.asm["cubin"]
