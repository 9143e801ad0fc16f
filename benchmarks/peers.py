"""The packages that COCO evaluation is compared with, each in its fastest documented way.

A peer is a row in a table: what it imports, how it reads each of the two files, how it evaluates.
From these are put together the programs that are timed, and the one that saves its numbers. Every
program is a process of its own, so that no peer's imports, patches or threads touch another's.
"""

import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.harness import ROOT, Arm, BenchmarkError

__all__ = ["OURS", "PEERS", "Answers", "Peer", "answers", "evaluation_arm", "loading_arm"]

OURS = "upmap"
ARRAYS = ("precision", "recall", "scores")  # what COCOeval.eval holds
Answers = Mapping[str, NDArray[np.float64]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """A package that evaluates COCO files; the texts are Python, sys.argv[1] and [2] the files.

    Attributes:
        name: What PyPI and the results call it.
        imports: What its README imports, and what else the program needs.
        truth: Reads the instances file.
        found: Reads the results file.
        evaluation: Prints the twelve lines of COCOeval.summarize.
        stats: The twelve numbers, an expression.
        arrays: COCOeval's `eval`, an expression; empty where this way has none.
        loads: Whether `found` parses the results file; not, where evaluation does.
        is_exact: Whether every array must be ours to the last bit.
        tolerance: By how much one of the twelve numbers may differ from ours.
    """

    name: str
    imports: str
    truth: str
    found: str
    evaluation: str
    stats: str = "evaluation.stats[:12]"
    arrays: str = "evaluation.eval"
    loads: bool = True
    is_exact: bool = False
    tolerance: float = 0.0

    def program(self) -> str:
        """From two files to twelve printed lines."""
        return "\n".join(("import sys", self.imports, self.truth, self.found, self.evaluation))

    def saving_program(self) -> str:
        """The same, and then all numbers are saved to sys.argv[3]."""
        arrays = f"{{name: {self.arrays}[name] for name in {ARRAYS}}}" if self.arrays else "{}"
        saving = f"import numpy\nnumpy.savez(sys.argv[3], stats={self.stats}, **{arrays})"
        return f"{self.program()}\n{saving}"

    def loading_program(self) -> str:
        """Reads both files; how long the results file takes is written to sys.argv[3]."""
        return timed(f"{self.imports}\n{self.truth}", self.found)


PYCOCOTOOLS = Peer(
    name="pycocotools",
    imports="from pycocotools.coco import COCO\nfrom pycocotools.cocoeval import COCOeval",
    truth="truth = COCO(sys.argv[1])",
    found="found = truth.loadRes(sys.argv[2])",
    evaluation="""\
evaluation = COCOeval(truth, found, "bbox")
evaluation.evaluate()
evaluation.accumulate()
evaluation.summarize()""",
    is_exact=True,
)
FASTER_COCO_EVAL = Peer(
    name="faster-coco-eval",
    imports="from faster_coco_eval import COCO, COCOeval_faster",
    truth="truth = COCO(sys.argv[1])",
    found="found = truth.loadRes(sys.argv[2])",
    evaluation="""\
evaluation = COCOeval_faster(truth, found, "bbox", print_function=print)
evaluation.evaluate()
evaluation.accumulate()
evaluation.summarize()""",
    tolerance=1e-15,  # its precisions are off by up to 2.2e-16, and so are means of them
)
HOTCOCO = Peer(
    name="hotcoco",
    imports="from hotcoco import COCO, COCOeval",
    truth="truth = COCO(sys.argv[1])",
    found="found = truth.load_res(sys.argv[2])",
    evaluation='evaluation = COCOeval(truth, found, "bbox")\nevaluation.run()',
)
ULTRAFAST = Peer(
    name="ultrafast-pycocotools",
    imports="from ultrafast_pycocotools import COCO, COCOeval",
    truth="truth = COCO(sys.argv[1])",
    found="found = truth.loadRes(sys.argv[2])",
    evaluation='evaluation = COCOeval(truth, found, "bbox")\nevaluation.run()',
)
VERNIER = Peer(
    name="vernier",
    imports="""\
import os
from pathlib import Path
from vernier.instance import Bbox, CocoDataset, Evaluator""",
    truth="truth = CocoDataset.from_json(Path(sys.argv[1]).read_bytes())",
    found="found = Path(sys.argv[2]).read_bytes()",
    evaluation="""\
evaluator = Evaluator(iou=Bbox(), parity_mode="strict")
summary = evaluator.evaluate(truth, found, num_threads=os.cpu_count())
print("\\n".join(summary.pretty_lines()))""",
    stats="summary.stats",
    arrays="",
    loads=False,
)
PEERS = {peer.name: peer for peer in (PYCOCOTOOLS, FASTER_COCO_EVAL, HOTCOCO, ULTRAFAST, VERNIER)}
OUR_LOADING = (
    "from pathlib import Path\n"
    "from upmap.detection.formats import read_detections, read_ground_truth\n"
    "truth = read_ground_truth(Path(sys.argv[1]))",
    "found = read_detections(Path(sys.argv[2]), truth.catalog)",
)


def timed(before: str, counted: str) -> str:
    """A program that does both; the latter's wall and CPU seconds are written to sys.argv[3]."""
    return f"""\
import sys, time
{before}
wall, cpu = time.perf_counter(), time.process_time()
{counted}
wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
open(sys.argv[3], "w").write(f"{{wall}} {{cpu}}")"""


def evaluation_arm(name: str, instances: Path, detections: Path) -> Arm:
    """From two files to twelve printed numbers, a whole process.

    Args:
        name: Ours or a peer's.
        instances: Ground truth as an instances file.
        detections: A results file.
    """
    files = (str(instances), str(detections))
    if name == OURS:
        settings = ("--protocol", "coco", "--no-uncertainty")  # no peer has it
        return Arm(name, (sys.executable, "-m", "metrics.evaluate", *files, *settings))
    return Arm(name, (sys.executable, "-c", PEERS[name].program(), *files))


def loading_arm(name: str, instances: Path, detections: Path, report: Path) -> Arm:
    """A process that counts only how long it reads the results file, ground truth being read.

    Args:
        name: Ours or a peer's.
        instances: Ground truth as an instances file.
        detections: A results file.
        report: Where it writes its seconds.
    """
    program = timed(*OUR_LOADING) if name == OURS else PEERS[name].loading_program()
    files = (str(instances), str(detections), str(report))
    return Arm(name, (sys.executable, "-c", program, *files), report)


def answers(peer: Peer, instances: Path, detections: Path) -> Answers:
    """All numbers of a peer: `stats` [12], and `precision`, `recall`, `scores` where it has them.

    Raises:
        BenchmarkError: If it fails.
    """
    with tempfile.TemporaryDirectory() as folder:
        saved = Path(folder, "answers.npz")
        files = (str(instances), str(detections), str(saved))
        command = [sys.executable, "-c", peer.saving_program(), *files]
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
        if done.returncode:
            tail = "\n".join(done.stderr.splitlines()[-10:])
            raise BenchmarkError(f"{peer.name} exited with {done.returncode}: {tail}")
        with np.load(saved) as arrays:
            return {name: np.asarray(arrays[name], np.float64) for name in arrays.files}
