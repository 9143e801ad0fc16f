"""The one thread that runs the model of a service, on batches of images of one size.

The first request in line decides the size. The thread waits a few milliseconds for others of that
size only while requests are on their way to it.
"""

import threading
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from upmap.segmentation.evaluation import MAX_BATCH_PIXELS
from upmap.segmentation.predictor import Level, Prediction, Predictor
from upmap.segmentation.serving.counters import Counters

__all__ = ["ModelThread", "QueueFullError"]

Pixels = NDArray[np.uint8]


class QueueFullError(RuntimeError):
    """As many requests are under way as there may be."""


@dataclass(frozen=True, slots=True, eq=False)
class _Request:
    """An image that waits for the model."""

    image: Pixels
    level: Level
    future: "Future[Prediction]" = field(default_factory=Future)

    def fits(self, other: "_Request") -> bool:
        """Whether both can go through the model at once."""
        return self.image.shape == other.image.shape and self.level == other.level


class ModelThread:
    """Labels images in a thread of its own, in the order in which they come.

    Attributes:
        waiting: Number of requests that are under way: admitted, and not yet answered.
    """

    def __init__(
        self, predictor: Predictor, counters: Counters, *, queue_length: int, patience: float
    ) -> None:
        """Starts the thread.

        Args:
            predictor: What labels the images; its batch_size is the most that go at once.
            counters: Where batches are counted.
            queue_length: Maximum number of requests under way.
            patience: How long, s, an incomplete batch waits for images that are being received.
        """
        self.waiting = 0
        self._predictor, self._counters = predictor, counters
        self._queue_length, self._patience = queue_length, patience
        self._requests: deque[_Request] = deque()
        self._receiving = 0  # admitted, not yet submitted
        self._changed = threading.Condition()
        self._is_closed = False
        self._thread = threading.Thread(target=self._run, name="model", daemon=True)
        self._thread.start()

    @contextmanager
    def admit(self) -> Iterator["Admission"]:
        """A place in the queue, for the time of the block.

        Raises:
            QueueFullError: If there is none.
        """
        with self._changed:
            if self.waiting >= self._queue_length or self._is_closed:
                raise QueueFullError(f"{self.waiting} requests are under way")
            self.waiting += 1
            self._receiving += 1
        admission = Admission(self)
        try:
            yield admission
        finally:
            with self._changed:
                self.waiting -= 1
                if not admission.is_submitted:
                    self._receiving -= 1
                    self._changed.notify_all()

    def submit(self, image: Pixels, level: Level) -> "Future[Prediction]":
        """Puts an admitted request's image in line; see `Admission.submit`."""
        request = _Request(image, level)
        with self._changed:
            self._receiving -= 1
            self._requests.append(request)
            self._changed.notify_all()
        return request.future

    def close(self) -> None:
        """Labels what is in line, and ends the thread."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
        self._thread.join()

    @property
    def is_alive(self) -> bool:
        """Whether the thread runs and takes requests."""
        return self._thread.is_alive() and not self._is_closed

    def _run(self) -> None:
        while batch := self._take_batch():
            # A request whose client has gone, or whose time is up, is left out.
            live = [request for request in batch if request.future.set_running_or_notify_cancel()]
            if live:
                self._label(live)

    def _label(self, batch: list[_Request]) -> None:
        began = time.perf_counter()
        try:
            images = [request.image for request in batch]
            predictions = self._predictor.predict_batch(images, batch[0].level)
        except (
            Exception
        ) as error:  # whatever it is, these requests have failed and the next may not
            for request in batch:
                request.future.set_exception(error)
            return
        pixels = sum(prediction.labels.size for prediction in predictions)
        self._counters.count_batch(len(batch), pixels, time.perf_counter() - began)
        for request, prediction in zip(batch, predictions, strict=True):
            request.future.set_result(prediction)

    def _take_batch(self) -> list[_Request]:
        """The first request in line and those that fit it; empty once the thread shall end."""
        with self._changed:
            while not self._requests:
                if self._is_closed:
                    return []
                self._changed.wait()
            first = self._requests[0]
            limit = self._batch_limit(first)
            deadline = time.monotonic() + self._patience
            while self._count_fitting(first) < limit and self._receiving:
                if (remaining := deadline - time.monotonic()) <= 0:
                    break
                self._changed.wait(remaining)
            batch = [request for request in self._requests if request.fits(first)][:limit]
            for request in batch:
                self._requests.remove(request)
            return batch

    def _count_fitting(self, first: _Request) -> int:
        return sum(request.fits(first) for request in self._requests)

    def _batch_limit(self, first: _Request) -> int:
        """How many images of a size go at once: 1 if they are cut into windows."""
        height, width = first.image.shape[:2]
        if self._predictor.count_windows((height, width)) > 1:
            return 1
        by_pixels: int = max(1, MAX_BATCH_PIXELS // (height * width))
        return min(self._predictor.options.batch_size, by_pixels)


class Admission:
    """A place in the queue of a `ModelThread`.

    Attributes:
        is_submitted: Whether its image is in line.
    """

    def __init__(self, thread: ModelThread) -> None:
        self._thread = thread
        self.is_submitted = False

    def submit(self, image: Pixels, level: Level) -> "Future[Prediction]":
        """Puts an image in line.

        Args:
            image: uint8 [H, W, 3], RGB.
            level: See `Predictor.predict`.

        Returns:
            What becomes the prediction; canceled, it is left out.
        """
        self.is_submitted = True
        return self._thread.submit(image, level)
