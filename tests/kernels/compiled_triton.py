"""Triton's kernels compiled for GPUs that are not here, and what their machine code consists of."""

import re
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from upmap.kernels.upsample_ce import triton_kernels

POINTERS = {
    "target": "*u8",
    "valid": "*i1",
    **dict.fromkeys(("best", "counts"), "*i64"),
    **dict.fromkeys(("losses", "logsumexps", "gradient", "sums"), "*fp32"),
    **dict.fromkeys(("class_weights", "weight_sum"), "*fp32"),
    "smoothing": "fp32",
}
TOOLS = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"
LINE = re.compile(r"/\*([0-9a-f]{4,})\*/\s+(.*?);")
TARGET = re.compile(r"BRA.*?`\(\.L_x_(\d+)\)|BRA\S* 0x([0-9a-f]+)")


@dataclass(frozen=True, slots=True)
class Machine:
    """The machine code of a kernel.

    Attributes:
        registers: Of a thread.
        spills: Bytes of a thread's registers that are kept in memory.
        shared: Bytes of shared memory of a program.
        loop: Instructions of its innermost largest loop: what is done for each class.
        loads: Loads from memory among them.
        exponentials: Exponentials among them.
    """

    registers: int
    spills: int
    shared: int
    loop: int
    loads: int
    exponentials: int


def compile_kernel(name: str, kind: str, architecture: int, constants: dict[str, int]) -> Machine:
    """Compiles a kernel of triton_kernels.py and reads its machine code."""
    kernel = getattr(triton_kernels, f"{name}_kernel")
    kinds = POINTERS | dict.fromkeys(("logits", "logits_gradient"), f"*{kind}")
    own = {key: value for key, value in constants.items() if key in kernel.arg_names}
    signature = {
        argument: "constexpr" if argument in own else kinds.get(argument, "i32")
        for argument in kernel.arg_names
    }
    source = ASTSource(kernel, signature, own)  # the third's name depends on the release
    target = GPUTarget("cuda", architecture, 32)
    compiled = triton.compile(source, target=target, options={"enable_fp_fusion": True})
    return read_machine(compiled.asm["cubin"], compiled.metadata.shared)


def read_machine(cubin: bytes, shared: int) -> Machine:
    """Disassembles a compiled kernel."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        usage = run_tool("cuobjdump", "-res-usage", file.name)
        code = run_tool("nvdisasm", "-c", file.name)
    registers = int(re.search(r"REG:(\d+)", usage)[1])  # type: ignore[index]
    spills = int(re.search(r"LOCAL:(\d+)", usage)[1])  # type: ignore[index]
    stack = int(re.search(r"STACK:(\d+)", usage)[1])  # type: ignore[index]
    loop = largest_loop(code)
    loads = sum(" LDG" in f" {line}" for line in loop)
    exponentials = sum("MUFU.EX2" in line for line in loop)
    return Machine(registers, max(spills, stack), shared, len(loop), loads, exponentials)


def run_tool(name: str, *arguments: str) -> str:
    """What a tool of Triton's own CUDA prints."""
    command = [TOOLS / name, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def largest_loop(code: str) -> list[str]:
    """The instructions between a label and the branch back to it; the longest such stretch."""
    labels: dict[str, int] = {}
    instructions: list[str] = []
    longest: list[str] = []
    for line in code.splitlines():
        label = re.match(r"\s*\.L_x_(\d+):", line)
        if label:
            labels[label[1]] = len(instructions)
        match = LINE.search(line)
        if not match:
            continue
        instructions.append(match[2])
        back = re.search(r"BRA.*`\(\.L_x_(\d+)\)", match[2])
        if back and back[1] in labels:
            loop = instructions[labels[back[1]] :]
            if len(loop) > len(longest) and not is_trap(loop):
                longest = loop
    return longest


def is_trap(loop: list[str]) -> bool:
    """Whether it is the endless branch after the end of a program."""
    return len(loop) == 1
