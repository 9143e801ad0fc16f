"""Fused upsampling and cross-entropy beside torch's two steps: time and peak memory, one run.

Run as `python -m benchmarks.bench_upsample_ce`. Every arm runs forward and backward on the same
logits and labels in a process of its own, in turn; before, losses and gradients are found to agree.
On a CPU memory is what the process's peak grows by, on a GPU what is allocated beyond the inputs.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.harness import ROOT, BenchmarkError, append_rows, provenance
from upmap.kernels.upsample_ce import IMPLEMENTATIONS, upsample_cross_entropy

__all__ = ["COLUMNS", "Problem", "agreement", "main", "step"]

RESULTS = ROOT / "benchmarks" / "upsample_ce.csv"
ALLOWED = {"float32": 1e-4, "bfloat16": 2e-2}  # of the largest gradient, beside torch's own
COLUMNS = (
    "commit",
    "arm",
    "kind",
    "N",
    "C",
    "features",
    "pixels",
    "repeats",
    "median_ms",
    "p20_ms",
    "p80_ms",
    "memory_mb",
    "torch",
    "device",
    "cores",
)


@dataclass(frozen=True, slots=True)
class Problem:
    """Logits [N, C, h, w] and labels [N, H, W].

    Attributes:
        N: Images.
        C: Classes.
        features: h and w.
        pixels: H and W.
        kind: The dtype of the logits.
    """

    N: int
    C: int
    features: tuple[int, int]
    pixels: tuple[int, int]
    kind: str = "float32"

    def made(self, device: str) -> tuple[Tensor, Tensor]:
        """The same for every arm."""
        generator = torch.Generator().manual_seed(0)
        logits = 3 * torch.randn(self.N, self.C, *self.features, generator=generator)
        labels = torch.randint(0, self.C, (self.N, *self.pixels), generator=generator)
        labels[torch.rand(labels.shape, generator=generator) < 0.05] = 255
        kind = getattr(torch, self.kind)
        return logits.to(device, kind).requires_grad_(), labels.to(device, torch.uint8)


CPU_PROBLEMS = tuple(
    Problem(4 if C == 150 else 8, C, (128, 128), (512, 512)) for C in (150, 21, 4, 2)
)
GPU_PROBLEMS = (
    *(Problem(8, 150, (128, 128), (512, 512), kind) for kind in ("bfloat16", "float32")),
    Problem(4, 19, (256, 512), (1024, 2048), "bfloat16"),
    Problem(1, 1000, (128, 128), (512, 512), "bfloat16"),
)


def torch_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Two steps, as people write them."""
    scores = functional.interpolate(logits, size=labels.shape[1:], mode="bilinear")
    return functional.cross_entropy(scores, labels.long(), ignore_index=255)


def step(arm: str, logits: Tensor, labels: Tensor) -> Tensor:
    """Forward and backward; returns the loss, leaves the gradient in `logits`."""
    logits.grad = None
    if arm == "torch":
        loss = torch_loss(logits, labels)
    elif arm == "compile":
        loss = torch.compile(torch_loss)(logits, labels)
    else:
        impl = None if arm == "auto" else arm
        loss = upsample_cross_entropy(logits, labels, impl=impl)
    loss.backward()  # type: ignore[no-untyped-call]
    return loss.detach()


def agreement(arm: str, problem: Problem, device: str) -> None:
    """Refuses an arm whose loss or gradient is not torch's.

    Raises:
        BenchmarkError: Says how far they are apart.
    """
    small = Problem(1, problem.C, (32, 32), (128, 128), problem.kind)
    (one, labels), (other, _) = small.made(device), small.made(device)
    ours, theirs = step(arm, one, labels), step("torch", other, labels)
    assert one.grad is not None
    assert other.grad is not None
    largest = float(other.grad.abs().max())
    apart = float((one.grad.float() - other.grad.float()).abs().max()) / largest
    loss_apart = float((ours.float() - theirs.float()).abs() / theirs.float().abs())
    if max(apart, loss_apart) > ALLOWED[problem.kind]:
        raise BenchmarkError(f"{arm}: loss {loss_apart:.1e}, gradient {apart:.1e} apart")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the benchmark; returns its exit status."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--repeats", type=int, default=7, help="runs of each arm [7]")
    parser.add_argument("--threads", type=int, default=0, help="of the CPU [0, all]")
    parser.add_argument("--device", default="", help="cpu or cuda [cuda where there is one]")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    device = options.device or ("cuda" if torch.cuda.is_available() else "cpu")
    if options.worker:
        print(json.dumps(_worker(json.loads(options.worker), device, options.threads)))
        return 0
    problems, arms = (CPU_PROBLEMS, ["torch", "native", "chunked", "auto"])
    if device == "cuda":
        problems, arms = (GPU_PROBLEMS, ["torch", "compile", "triton", "chunked", "auto"])
    arms = [arm for arm in arms if arm not in IMPLEMENTATIONS or IMPLEMENTATIONS[arm]]
    for problem in problems:
        for arm in arms:
            agreement(arm, problem, device)
        found = _interleaved(problem, arms, device, options)
        append_rows(
            [_row(arm, problem, runs, device) for arm, runs in found.items()], RESULTS, COLUMNS
        )
        _show(problem, found)
    return 0


def _interleaved(
    problem: Problem, arms: Sequence[str], device: str, options: argparse.Namespace
) -> dict[str, list[dict[str, float]]]:
    found: dict[str, list[dict[str, float]]] = {arm: [] for arm in arms}
    for _ in range(options.repeats):
        for arm in arms:
            told = json.dumps({"arm": arm, "problem": asdict(problem)})
            command = [sys.executable, "-m", "benchmarks.bench_upsample_ce", "--worker", told]
            command += ["--device", device, "--threads", str(options.threads)]
            done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
            if done.returncode:
                raise BenchmarkError(f"{arm}: {done.stderr[-1000:]}")
            found[arm].append(json.loads(done.stdout.splitlines()[-1]))
    return found


def _worker(told: dict[str, Any], device: str, threads: int) -> dict[str, float]:
    """Time and memory of one arm, in a process of its own; the second step is timed."""
    import time

    if threads:
        torch.set_num_threads(threads)  # of the native kernel, too
    problem = Problem(**told["problem"])
    tiny = Problem(1, problem.C, (4, 4), (8, 8), problem.kind)
    step(told["arm"], *tiny.made(device))  # what is loaded once is not the operation's
    logits, labels = problem.made(device)
    before = _memory(device, is_start=True)
    step(told["arm"], logits, labels)
    memory = _memory(device, is_start=False) - before
    began = time.perf_counter()
    step(told["arm"], logits, labels)
    if device == "cuda":
        torch.cuda.synchronize()
    return {"seconds": time.perf_counter() - began, "memory": memory}


def _memory(device: str, *, is_start: bool) -> int:
    """Bytes: allocated at the start and the peak since on a GPU, resident on a CPU."""
    if device == "cuda":
        torch.cuda.synchronize()
        if is_start:
            torch.cuda.reset_peak_memory_stats()
            return torch.cuda.memory_allocated()
        return torch.cuda.max_memory_allocated()
    import resource

    if is_start:
        with open("/proc/self/statm") as file:  # noqa: PTH123
            return int(file.read().split()[1]) * resource.getpagesize()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _row(
    arm: str, problem: Problem, runs: Sequence[dict[str, float]], device: str
) -> dict[str, str]:
    made_with = provenance()
    p20, median, p80 = np.percentile([1e3 * run["seconds"] for run in runs], (20, 50, 80))
    return {
        "commit": made_with.commit,
        "arm": arm,
        "kind": problem.kind,
        "N": str(problem.N),
        "C": str(problem.C),
        "features": "x".join(map(str, problem.features)),
        "pixels": "x".join(map(str, problem.pixels)),
        "repeats": str(len(runs)),
        "median_ms": f"{median:.2f}",
        "p20_ms": f"{p20:.2f}",
        "p80_ms": f"{p80:.2f}",
        "memory_mb": f"{max(run['memory'] for run in runs) / 1e6:.1f}",
        "torch": torch.__version__,
        "device": torch.cuda.get_device_name() if device == "cuda" else made_with.cpu,
        "cores": str(made_with.cores),
    }


def _show(problem: Problem, found: dict[str, list[dict[str, float]]]) -> None:
    print(f"\n{problem}")
    base = np.median([run["seconds"] for run in found["torch"]])
    for arm, runs in found.items():
        seconds = np.median([run["seconds"] for run in runs])
        memory = max(run["memory"] for run in runs) / 1e6
        print(f"{arm:<10}{1e3 * seconds:10.1f} ms {base / seconds:6.2f}x {memory:10.1f} MB")


if __name__ == "__main__":
    from upmap.console import run

    sys.exit(run(main))
