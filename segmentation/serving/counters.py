"""What a service counts, in the text format of Prometheus (exposition format 0.0.4)."""

import threading
from bisect import bisect_left
from collections import Counter

__all__ = ["Counters"]

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)  # upper bounds


class Counters:
    """Counts requests, images, pixels and batches; may be used by several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._responses: Counter[int] = Counter()
        self._durations: Counter[int] = Counter()  # by place in SECONDS; beyond it the last
        self._totals: Counter[str] = Counter()
        self._seconds = {"request": 0.0, "model": 0.0}

    def count_response(self, status: int, seconds: float) -> None:
        """Counts a response to a request for labels, and the time that it took, s."""
        with self._lock:
            self._responses[status] += 1
            self._durations[bisect_left(SECONDS, seconds)] += 1
            self._seconds["request"] += seconds

    def count_batch(self, images: int, pixels: int, seconds: float) -> None:
        """Counts images that went through the model together, and the time that it took, s."""
        with self._lock:
            self._totals.update(batches=1, images=images, pixels=pixels)
            self._seconds["model"] += seconds

    def format_metrics(self, *, waiting: int, ready: bool) -> str:
        """All of it as text.

        Args:
            waiting: Number of requests that are under way.
            ready: Whether requests are accepted.
        """
        with self._lock:
            lines = ["# TYPE upmap_responses_total counter"]
            for status, count in sorted(self._responses.items()):
                lines.append(f'upmap_responses_total{{status="{status}"}} {count}')
            lines += self._format_durations()
            for name in ("images", "pixels", "batches"):
                lines.append(f"# TYPE upmap_{name}_total counter")
                lines.append(f"upmap_{name}_total {self._totals[name]}")
            lines.append("# TYPE upmap_model_seconds_total counter")
            lines.append(f"upmap_model_seconds_total {self._seconds['model']:.6f}")
        lines += ["# TYPE upmap_requests_in_flight gauge", f"upmap_requests_in_flight {waiting}"]
        lines += ["# TYPE upmap_ready gauge", f"upmap_ready {int(ready)}"]
        return "\n".join(lines) + "\n"

    def _format_durations(self) -> list[str]:
        """A histogram, whose buckets contain those before them."""
        name, total = "upmap_request_seconds", 0
        lines = [f"# TYPE {name} histogram"]
        for place, bound in enumerate((*SECONDS, float("inf"))):
            total += self._durations[place]
            label = "+Inf" if bound == float("inf") else f"{bound:g}"
            lines.append(f'{name}_bucket{{le="{label}"}} {total}')
        lines.append(f"{name}_sum {self._seconds['request']:.6f}")
        lines.append(f"{name}_count {total}")
        return lines
