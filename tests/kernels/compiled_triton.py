"""Triton's kernels compiled for GPUs that are not here, and what their machine code consists of."""

import re
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
INSTRUCTION = re.compile(r"/\*[0-9a-f]{4,}\*/\s+(.*?);")
LABEL = re.compile(r"\s*\.L_x_(\d+):")
BRANCH = re.compile(r"BRA.*`\(\.L_x_(\d+)\)")


@dataclass(frozen=True, slots=True)
class Machine:
    """The machine code of a kernel.

    Attributes:
        registers: Of a thread.
        spills: Bytes of a thread's registers that are kept in memory.
        shared: Bytes of shared memory of a program.
        loop: Instructions of its longest loop: what is done for each class.
        loads: Loads from memory among them.
        exponentials: Exponentials among them.
        narrow: Additions to pointers of threads that are computed in fewer than 64 bits.
    """

    registers: int
    spills: int
    shared: int
    loop: int
    loads: int
    exponentials: int
    narrow: int


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
    return read_machine(compiled)


def read_machine(compiled: Any) -> Machine:
    """Disassembles a compiled kernel."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(compiled.asm["cubin"])
        file.flush()
        usage = run_tool("cuobjdump", "-res-usage", file.name)
        code = run_tool("nvdisasm", "-c", file.name)
    numbers = {key: int(value) for key, value in re.findall(r"(\w+):(\d+)", usage)}
    loop = longest_loop(code)
    return Machine(
        registers=numbers["REG"],
        spills=numbers["LOCAL"] + numbers["STACK"],
        shared=compiled.metadata.shared,
        loop=len(loop),
        loads=sum("LDG" in line for line in loop),
        exponentials=sum("MUFU.EX2" in line for line in loop),
        narrow=len(re.findall(r"tt\.addptr.*xi32>", compiled.asm["ttir"])),
    )


def run_tool(name: str, *arguments: str) -> str:
    """What a tool of Triton's own CUDA prints."""
    command = [TOOLS / name, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def longest_loop(code: str) -> list[str]:
    """The instructions between a label and a branch back to it; the longest such stretch."""
    places: dict[str, int] = {}
    instructions: list[str] = []
    longest: list[str] = []
    for line in code.splitlines():
        if label := LABEL.match(line):
            places[label[1]] = len(instructions)
        if not (match := INSTRUCTION.search(line)):
            continue
        instructions.append(match[1])
        branch = BRANCH.search(match[1])
        if branch and branch[1] in places:
            loop = instructions[places[branch[1]] :]
            longest = max(longest, loop, key=len)
    return longest
