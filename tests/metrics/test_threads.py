"""The number of threads reaches every kernel, and changes no number."""

from collections.abc import Callable
from typing import Any

import pytest

from upmap.detection import Detections, GroundTruth
from upmap.kernels import accumulation, matching
from upmap.metrics import COCO, VOC2007, evaluate_matches, match, mean_average_precision
from upmap.metrics.curves import accumulate

Tables = tuple[GroundTruth, Detections]


@pytest.fixture
def counts(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The numbers of threads that the references of matching and accumulation are called with."""
    calls: list[int] = []

    def record(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            calls.append(arguments[-1])
            return function(*arguments)

        return call

    for kernel in (matching, accumulation):
        recorded = {"reference": record(kernel.IMPLEMENTATIONS["reference"])}  # type: ignore[attr-defined]
        monkeypatch.setattr(kernel, "IMPLEMENTATIONS", recorded)
    return calls


def test_threads_reach_matching_and_accumulation(counts: list[int], sample_tables: Tables) -> None:
    table = match(*sample_tables, VOC2007, threads=3)
    assert counts == [3]
    result = evaluate_matches(table, threads=2)
    accumulate(table, threads=5)
    result.accumulate(threads=4)
    assert counts[1:] == [2, 5, 4]
    counts.clear()
    mean_average_precision(*sample_tables, protocol=VOC2007, threads=1)
    assert counts == [1, 1]
    counts.clear()
    mean_average_precision(*sample_tables, protocol=VOC2007)
    assert counts == [0, 0]


@pytest.mark.parametrize("protocol", [VOC2007, COCO], ids=lambda protocol: protocol.name)
@pytest.mark.parametrize("threads", [2, 7])
def test_the_number_of_threads_changes_no_number(
    threads: int, protocol: Any, sample_tables: Tables
) -> None:
    alone, together = (
        mean_average_precision(*sample_tables, protocol=protocol, threads=n) for n in (1, threads)
    )
    assert repr(alone.metrics) == repr(together.metrics)
    assert repr(alone.per_class) == repr(together.per_class)


def test_a_negative_number_of_threads_is_refused(sample_tables: Tables) -> None:
    with pytest.raises(ValueError, match="threads must be at least 0"):
        mean_average_precision(*sample_tables, protocol=VOC2007, threads=-1)
