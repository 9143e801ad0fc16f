"""Tabulates the results of one architecture: scores, differences and costs of each operator."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from upmap.segmentation.comparison.runs import RunResult
from upmap.segmentation.comparison.scoring import SCORES, TestScores, error_spread, mean_iou
from upmap.segmentation.comparison.statistics import bootstrap_interval, paired_difference

__all__ = ["tabulate_panel"]

BySeed = Mapping[int, RunResult]


def tabulate_panel(
    results: Sequence[RunResult], costs: Mapping[str, Mapping[str, Any]], *, baseline: str
) -> dict[str, Any]:
    """What results.json has of one architecture.

    Args:
        results: The trainings that came to an end, of at least the baseline.
        costs: The costs of each operator.
        baseline: The operator that the others are compared with.

    Returns:
        "cell", the side of the cell that "errors" are counted by place in, and "operators": for
        each name lists with an entry for each seed, differences to the baseline, and costs.
    """
    by_arm: dict[str, dict[int, RunResult]] = {}
    for result in results:
        by_arm.setdefault(result.run.arm, {})[result.run.training.seed] = result
    operators: dict[str, Any] = {}
    for name in costs:  # in the order that they were asked for
        if name in by_arm:
            columns = _tabulate_scores(by_arm[name])
            for score in SCORES:
                columns[f"{score}_difference"] = _compare(
                    by_arm[name], by_arm[baseline], score, comparisons=len(costs) - 1
                )
            operators[name] = columns | dict(costs[name])
    cell = len(_scores_of(next(iter(by_arm[baseline].values()))).errors)
    return {"cell": cell, "operators": operators}


def _tabulate_scores(runs: BySeed) -> dict[str, Any]:
    rows = [_tabulate_run(run) for run in runs.values()]
    errors = sum(_scores_of(run).errors for run in runs.values())
    wrong, pixels = np.moveaxis(np.asarray(errors), -1, 0)
    rates = np.divide(wrong, pixels, out=np.zeros(wrong.shape), where=pixels > 0)
    lists = {key: [row[key] for row in rows] for key in rows[0]}
    return {"seeds": list(runs), **lists, "error_by_place": rates.tolist()}


def _tabulate_run(run: RunResult) -> dict[str, Any]:
    scores, semantic = _scores_of(run), run.semantic
    return {
        "miou": semantic.mIoU,
        "iou": [None if np.isnan(value) else value for value in semantic.iou.tolist()],
        "pixel_accuracy": semantic.pixel_accuracy,
        "boundary_iou": float(mean_iou(scores.boundaries.sum(0))),
        "error_spread": error_spread(scores.errors),
        **run.columns,
    }


def _compare(runs: BySeed, base: BySeed, score: str, *, comparisons: int) -> dict[str, Any]:
    """The difference of a score to the baseline, over the seeds that both have."""
    seeds = sorted(runs.keys() & base.keys())
    counts, base_counts = (
        np.stack([SCORES[score](_scores_of(of[seed])) for seed in seeds]) for of in (runs, base)
    )
    values, base_values = (mean_iou(part.sum(1)).tolist() for part in (counts, base_counts))
    difference = paired_difference(values, base_values, comparisons=comparisons)
    low, high = bootstrap_interval(counts, base_counts, mean_iou, comparisons=comparisons)
    difference = replace(difference, image_low=low, image_high=high)
    return asdict(difference) | {"is_significant": difference.is_significant}


def _scores_of(run: RunResult) -> TestScores:
    assert run.scores is not None
    return run.scores
