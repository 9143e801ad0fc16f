"""The HTTP interface of a service: images in; labels, masks or scores out.

Bodies are bounded before they are read, images before they are decoded, and requests before they
are received. Decoding and encoding have a pool of threads, the model one of its own.
"""

import asyncio
import json
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
from fastapi import FastAPI, Query, Request, Response
from numpy.typing import NDArray
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect

import upmap
from upmap.errors import InputError, as_line
from upmap.segmentation.datasets import ImageTooLargeError, decode_image, decode_picture
from upmap.segmentation.label_records import describe_labels
from upmap.segmentation.prediction_files import encode_labels, encode_scores
from upmap.segmentation.predictor import Level, Prediction, Predictor
from upmap.segmentation.serving.counters import Counters
from upmap.segmentation.serving.model_thread import ModelThread, QueueFullError

__all__ = ["Answer", "Limits", "build_app"]

IMAGE = Path("image")  # what errors call the image of a request
METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"
RETRY_AFTER = "1"  # s, a hint to clients that are refused for load

Pixels = NDArray[np.uint8]


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a request may cost.

    Attributes:
        max_bytes: Maximum length of a body.
        seconds: Maximum time, s, from a request's first byte to its answer.
        queue_length: Maximum number of requests under way.
        patience: How long, s, an incomplete batch waits for images that are being received.
        decoders: Number of threads that decode and encode images.
    """

    max_bytes: int
    seconds: float
    queue_length: int
    patience: float
    decoders: int


class Answer(NamedTuple):
    """A form of answers: a row of ANSWERS.

    Attributes:
        level: What is predicted.
        media_type: The Content-Type.
        encode: Makes the body of the answer.
    """

    level: Level
    media_type: str
    encode: Callable[[Prediction, Predictor], bytes]


def _encode_png(prediction: Prediction, predictor: Predictor) -> bytes:
    return encode_labels(prediction.labels, predictor.palette)


def _encode_json(prediction: Prediction, predictor: Predictor) -> bytes:
    return json.dumps(describe_labels(prediction.labels, predictor.classes)).encode()


def _encode_scores(prediction: Prediction, predictor: Predictor) -> bytes:
    assert prediction.scores is not None
    return encode_scores(prediction.scores)


ANSWERS = {
    "png": Answer("labels", "image/png", _encode_png),
    "json": Answer("labels", "application/json", _encode_json),
    "scores": Answer("scores", "image/png", _encode_scores),
}
Form = Annotated[Literal["png", "json", "scores"], Query(alias="as")]  # the keys of ANSWERS


class _RefusedError(Exception):
    """A request that is answered with an error."""

    def __init__(self, status: HTTPStatus, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True, eq=False)
class _Service:
    """What the handlers share."""

    predictor: Predictor
    limits: Limits
    thread: ModelThread
    pool: ThreadPoolExecutor
    counters: Counters = field(default_factory=Counters)


def build_app(predictor: Predictor, limits: Limits) -> FastAPI:
    """The application, whose threads run until it shuts down.

    Args:
        predictor: The model.
        limits: What a request may cost.
    """
    counters = Counters()
    thread = ModelThread(
        predictor, counters, queue_length=limits.queue_length, patience=limits.patience
    )
    pool = ThreadPoolExecutor(limits.decoders, thread_name_prefix="decode")
    service = _Service(predictor, limits, thread, pool, counters)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield  # the server ends this once all requests are answered
        pool.shutdown()
        thread.close()

    async def predict(request: Request, form: Form = "png") -> Response:
        return await _answer(service, request, ANSWERS[form])

    # The pages of documentation would load scripts from elsewhere.
    app = FastAPI(
        title="upmap", version=upmap.__version__, lifespan=lifespan, docs_url=None, redoc_url=None
    )
    app.add_api_route("/predict", predict, methods=["POST"], response_class=Response)
    for path, view in _views(service).items():
        app.add_api_route(path, view, methods=["GET"], response_class=Response)
    return app


def _views(service: _Service) -> dict[str, Callable[[], Any]]:
    """The pages that say how the service is."""

    async def health() -> Response:
        return Response("ok\n", media_type="text/plain")

    async def ready() -> Response:
        is_ready = service.thread.is_alive
        status = HTTPStatus.OK if is_ready else HTTPStatus.SERVICE_UNAVAILABLE
        return Response("ready\n" if is_ready else "not ready\n", status, media_type="text/plain")

    async def metadata() -> Response:
        text = json.dumps(_describe_service(service), indent=1)
        return Response(text + "\n", media_type="application/json")

    async def metrics() -> Response:
        text = service.counters.format_metrics(
            waiting=service.thread.waiting, ready=service.thread.is_alive
        )
        return Response(text, headers={"Content-Type": METRICS_TYPE})

    return {"/health": health, "/ready": ready, "/metadata": metadata, "/metrics": metrics}


def _describe_service(service: _Service) -> dict[str, Any]:
    predictor, options = service.predictor, service.predictor.options
    return {
        "upmap": upmap.__version__,
        "model": dict(predictor.metadata),
        "classes": list(predictor.classes),
        "palette": predictor.palette.tolist(),
        "options": {
            name: getattr(options, name) for name in ("window", "overlap", "flip", "batch_size")
        },
        "limits": {
            "max_pixels": options.max_pixels,
            "max_bytes": service.limits.max_bytes,
            "seconds": service.limits.seconds,
            "queue_length": service.limits.queue_length,
        },
        "answers": list(ANSWERS),
    }


async def _answer(service: _Service, request: Request, answer: Answer) -> Response:
    """Labels the image of a request, or answers with one line of what is wrong with it."""
    began = time.perf_counter()
    try:
        body = await _label(service, request, answer)
        response = Response(body, media_type=answer.media_type)
    except _RefusedError as refusal:
        headers = {"Connection": "close"}  # what is left of the body is not read
        if refusal.status in (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE):
            headers["Retry-After"] = RETRY_AFTER
        text = json.dumps({"error": as_line(str(refusal))}) + "\n"
        response = Response(text, refusal.status, headers, media_type="application/json")
    except Exception:
        status = HTTPStatus.INTERNAL_SERVER_ERROR
        service.counters.count_response(status, time.perf_counter() - began)
        raise
    service.counters.count_response(response.status_code, time.perf_counter() - began)
    return response


async def _label(service: _Service, request: Request, answer: Answer) -> bytes:
    """The body of the answer.

    Raises:
        _RefusedError: If the request is refused.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + service.limits.seconds
    try:
        with service.thread.admit() as admission:
            try:
                async with asyncio.timeout_at(deadline):
                    data = await _receive(request, service.limits.max_bytes)
            except TimeoutError:
                message = f"the image was not received in {service.limits.seconds:g} s"
                raise _RefusedError(HTTPStatus.REQUEST_TIMEOUT, message) from None
            async with asyncio.timeout_at(deadline):
                image = await loop.run_in_executor(service.pool, _decode, service, data)
                del data
                future = admission.submit(image, answer.level)
                prediction = await asyncio.wrap_future(future)
                return await loop.run_in_executor(
                    service.pool, answer.encode, prediction, service.predictor
                )
    except QueueFullError as error:
        raise _RefusedError(HTTPStatus.TOO_MANY_REQUESTS, str(error)) from None
    except TimeoutError:
        message = f"no answer within {service.limits.seconds:g} s"
        raise _RefusedError(HTTPStatus.SERVICE_UNAVAILABLE, message) from None
    except ImageTooLargeError as error:
        raise _RefusedError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, str(error)) from None
    except InputError as error:
        raise _RefusedError(HTTPStatus.BAD_REQUEST, str(error)) from None
    except ClientDisconnect:
        raise _RefusedError(HTTPStatus.BAD_REQUEST, "the client has gone away") from None


def _decode(service: _Service, data: bytes) -> Pixels:
    """The image in the bytes of a file, by the same steps as `segmentation.predict` takes."""
    max_pixels = service.predictor.options.max_pixels
    decode_picture(data, IMAGE, max_pixels)
    return decode_image(data, IMAGE, max_pixels)


async def _receive(request: Request, max_bytes: int) -> bytes:
    """The image of a request: the body, or the first file of a form.

    Raises:
        _RefusedError: If the body is too long, or a form has no file.
    """
    length = request.headers.get("content-length", "0")
    if length.isdecimal() and int(length[:20]) > max_bytes:
        raise _too_long(max_bytes)
    stream = _bound(request.stream(), max_bytes)
    if not request.headers.get("content-type", "").startswith("multipart/form-data"):
        return b"".join([chunk async for chunk in stream])
    try:
        form = await MultiPartParser(request.headers, stream, max_files=1, max_fields=16).parse()
    except (MultiPartException, KeyError, ValueError) as error:
        message = f"not a form: {str(error) or type(error).__name__}"
        raise _RefusedError(HTTPStatus.BAD_REQUEST, message) from None
    try:
        for value in form.values():
            if not isinstance(value, str):
                return await value.read()
    finally:
        await form.close()
    raise _RefusedError(HTTPStatus.BAD_REQUEST, "the form has no file")


async def _bound(stream: AsyncIterator[bytes], max_bytes: int) -> AsyncGenerator[bytes, None]:
    """The chunks of a body.

    Raises:
        _RefusedError: As soon as they are too long.
    """
    length = 0
    async for chunk in stream:
        length += len(chunk)
        if length > max_bytes:
            raise _too_long(max_bytes)
        yield chunk


def _too_long(max_bytes: int) -> _RefusedError:
    message = f"the body has more than {max_bytes} bytes (--max-bytes)"
    return _RefusedError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, message)
