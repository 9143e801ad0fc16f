"""Runs the trainings of a comparison side by side, each in a process with its own threads.

A training's result depends on its options and its number of threads, not on those beside it. One
that fails, or whose process dies, leaves the others as they are.
"""

import multiprocessing
import os
import queue
import threading
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from typing import Any

import torch
from torch import nn

from upmap.errors import InputError
from upmap.metrics.semantic import SemanticScores, semantic_scores
from upmap.segmentation.comparison.checkerboard import Checkerboard, measure_model
from upmap.segmentation.comparison.scoring import TestScores, score_model
from upmap.segmentation.datasets import SegmentationDataset
from upmap.segmentation.device import limit_threads
from upmap.segmentation.history import Row
from upmap.segmentation.models import build_model
from upmap.segmentation.survey import Survey
from upmap.segmentation.train import Diverged, train_model
from upmap.segmentation.training_options import TrainOptions

__all__ = ["Run", "RunResult", "execute_runs", "use_threads"]

POLL = 0.1  # s between looks at the progress of processes


@contextmanager
def use_threads(threads: int) -> Iterator[None]:
    """Limits torch's threads for a block of code; 0 leaves them as they are."""
    before = torch.get_num_threads()
    limit_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@dataclass(frozen=True, slots=True)
class Run:
    """A training of a comparison.

    Attributes:
        panel: The architecture that it belongs to.
        arm: The name of its arm.
        training: Its options.
        kept: Number of test images whose predictions are kept.
        surveys: What its splits contain, by name; None to read them.
    """

    panel: str
    arm: str
    training: TrainOptions
    kept: int = 0
    surveys: Mapping[str, Survey] | None = None

    @property
    def name(self) -> str:
        """What progress and errors call it."""
        return f"{self.panel}, {self.arm}, seed {self.training.seed}"


@dataclass(frozen=True, slots=True, eq=False)
class RunResult:
    """The result of a training; one that failed has an error and nothing else.

    Attributes:
        run: The training.
        error: Why it failed; empty if it did not.
        is_input_error: Whether it failed because of what it was given.
        scores: The scores on the test images.
        epoch: The number of the best epoch, from 1.
        history: A row for each epoch.
        initial: The checkerboard and the gain of its operators before training.
        trained: The same of the best epoch.
    """

    run: Run
    error: str = ""
    is_input_error: bool = False
    scores: TestScores | None = None
    epoch: int = 0
    history: Sequence[Row] = ()
    initial: Checkerboard | None = None
    trained: Checkerboard | None = None

    @property
    def semantic(self) -> SemanticScores:
        """The scores of its confusion matrix."""
        assert self.scores is not None
        return semantic_scores(self.scores.confusion)

    @property
    def columns(self) -> dict[str, Any]:
        """What results.json has for each seed, beside scores."""
        assert self.initial is not None
        assert self.trained is not None
        return {
            "checkerboard_initial": asdict(self.initial),
            "checkerboard_trained": asdict(self.trained),
            "best_epoch": self.epoch,
            "history": list(self.history),
        }


Finish = Callable[[RunResult], None]
Advance = Callable[[], None]


def execute_runs(
    runs: Sequence[Run],
    *,
    processes: int,
    threads: int,
    finish: Finish,
    advance: Advance,
) -> list[RunResult]:
    """Executes trainings and scores their best epochs.

    Args:
        runs: The trainings.
        processes: Maximum number of trainings at a time; 1 trains in this process.
        threads: Maximum number of threads of each training; 0 leaves it to torch.
        finish: Called with each result.
        advance: Called after each epoch of any training.

    Returns:
        The results in the order of `runs`.
    """
    results: dict[int, RunResult] = {}
    execute = _execute_here if min(processes, len(runs)) == 1 else _execute_in_processes
    with closing(execute(runs, processes, threads, advance)) as finished:
        for i, result in finished:
            results[i] = result
            finish(result)
    return [results[i] for i in range(len(runs))]


def _execute_here(
    runs: Sequence[Run], processes: int, threads: int, advance: Advance
) -> Generator[tuple[int, RunResult]]:
    with use_threads(threads):
        for i, run in enumerate(runs):
            yield i, _execute(run, advance)


def _execute_in_processes(
    runs: Sequence[Run], processes: int, threads: int, advance: Advance
) -> Generator[tuple[int, RunResult]]:
    # Spawned: a process that is forked from one with threads of torch may wait for ever.
    context = multiprocessing.get_context("spawn")
    epochs = context.Queue()
    reader, writer = context.Pipe(duplex=False)
    waiting = list(enumerate(runs))[::-1]
    running: dict[Future[RunResult], tuple[int, ProcessPoolExecutor]] = {}

    def start(pool: ProcessPoolExecutor) -> None:
        i, run = waiting.pop()
        running[pool.submit(_execute_in_process, run)] = (i, pool)

    def create_pool() -> ProcessPoolExecutor:
        # Of one process each: if one dies, a pool gives up all that it runs.
        return ProcessPoolExecutor(1, context, _begin_process, (threads, epochs, reader))

    try:
        for _ in range(min(processes, len(runs))):
            start(create_pool())
        while running:
            finished, _ = wait(running, POLL, FIRST_COMPLETED)
            _drain(epochs, advance)
            for future in finished:
                i, pool = running.pop(future)
                result = _read_result(future, runs[i])
                if waiting:
                    start(create_pool() if future.exception() else pool)
                else:
                    pool.shutdown(wait=False)
                yield i, result
    finally:
        writer.close()  # ends processes that still train: there was an error, or an interrupt
        for _, pool in running.values():
            pool.shutdown(cancel_futures=True)


def _read_result(future: "Future[RunResult]", run: Run) -> RunResult:
    try:
        return future.result()
    except BrokenProcessPool:
        return RunResult(run, error="its process died; was there enough memory?")


def _drain(epochs: Any, advance: Advance) -> None:
    while True:
        try:
            epochs.get_nowait()
        except queue.Empty:
            return
        advance()


_process: dict[str, Any] = {}  # what _begin_process leaves for the trainings of its process


def _begin_process(threads: int, epochs: Any, reader: Connection) -> None:
    """Prepares a process; it ends with the one that started it, even if that was killed."""

    def end_with_parent() -> None:
        with suppress(EOFError, OSError):
            reader.recv()  # nothing is sent: it returns when the other end is closed
        os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()
    limit_threads(threads)
    _process["epochs"] = epochs


def _execute_in_process(run: Run) -> RunResult:
    return _execute(run, lambda: _process["epochs"].put(None))


def _execute(run: Run, advance: Advance) -> RunResult:
    try:
        return _train_and_score(run, advance)
    except InputError as error:
        return RunResult(run, error=str(error), is_input_error=True)
    except Diverged as error:
        return RunResult(run, error=str(error))
    except Exception as error:  # of one training: memory, a driver, a file that went away
        lines = str(error).splitlines() or [""]
        return RunResult(run, error=f"{type(error).__name__}: {lines[0]}")


def _train_and_score(run: Run, advance: Advance) -> RunResult:
    scores: list[TestScores] = []

    def score(model: nn.Module, dataset: SegmentationDataset) -> SemanticScores:
        scores.append(score_model(model, dataset, run.training, kept=run.kept))
        return semantic_scores(scores[0].confusion)

    training, seed = run.training, run.training.seed
    result = train_model(
        training, after_epoch=lambda row: advance(), score=score, surveys=run.surveys
    )
    # The seed of the training, so that this model has the initial weights of the trained one.
    torch.manual_seed(seed)
    initial = build_model(training.model)
    return RunResult(
        run,
        scores=scores[0],
        epoch=result.epoch,
        history=result.history,
        initial=measure_model(initial, torch.Generator().manual_seed(seed)),
        trained=measure_model(result.model, torch.Generator().manual_seed(seed)),
    )
