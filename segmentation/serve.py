"""Labels images over HTTP: `python -m segmentation.serve MODEL`, see `upmap.segmentation.serving`.

The model is loaded once; answers are byte for byte the files of `segmentation.predict`.
"""

import signal
import socket
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import numpy as np

from upmap.console import Parser, describe_command, run
from upmap.errors import InputError, printable
from upmap.extras import require_packages
from upmap.files import describe_os_error
from upmap.options import Flag, Positional, Range, add_flags, parse_options
from upmap.segmentation.datasets import LARGEST_IMAGE
from upmap.segmentation.device import limit_threads
from upmap.segmentation.predictor import Predictor, PredictorOptions, load_predictor

if TYPE_CHECKING:
    from fastapi import FastAPI
    from uvicorn import Server

__all__ = ["ServeOptions", "main"]

PROGRAM = "segmentation.serve"
BACKLOG = 128  # connections that wait to be accepted
SPARE_CONNECTIONS = 64  # beyond the queue, for /health and for those that are told to come back
WARM_UP = (64, 64, 3)  # the size of an image that is labeled before the first request
EXAMPLES = """\
examples:
  %(prog)s runs/train/best.pt
  %(prog)s model.onnx --port 9000 --batch-size 16 --max-pixels 4000000
  curl --data-binary @photo.jpg http://127.0.0.1:8000/predict >labels.png
  curl --form image=@photo.jpg "http://127.0.0.1:8000/predict?as=json"

POST /predict takes an image file, as the body or in a form, and answers with the labels as
segmentation.predict writes them; ?as=json: classes, shares and masks; ?as=scores: the probability
of each label, 16-bit PNG. GET /health, /ready, /metadata, /metrics (Prometheus). what is refused:
400 no image, 408 received too slowly, 413 too large, 429 too many requests, 503 too slow. SIGTERM:
what is under way is answered first.
exit status: 0 good; 2 misused or unreadable input."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeOptions(PredictorOptions):
    """A service, and what a request may cost.

    Attributes:
        model: A checkpoint of segmentation.train, such as best.pt, or an ONNX file.
        batch_size: Maximum number of windows, or of images of one size from several requests, that
            go through the model at once.
        max_pixels: Maximum number of pixels of an image; larger ones are refused.
        host: The address to listen on; whoever can reach it can use the service.
        port: The port; 0 takes a free one.
        max_bytes: Maximum length of a request's body.
        seconds: Maximum time, s, from a request's first byte to its answer.
        queue_length: Maximum number of requests under way; others are told to come back.
        patience: How long, ms, an incomplete batch waits for images that are being received.
        decoders: Number of threads that decode and encode images.
    """

    model: Annotated[Path, Positional("MODEL")]
    batch_size: Annotated[int, Range(1, 65536)] = 8
    max_pixels: Annotated[int, Range(1, LARGEST_IMAGE)] = 25_000_000
    host: Annotated[str, Flag(metavar="ADDRESS")] = "127.0.0.1"
    port: Annotated[int, Range(0, 65535)] = 8000
    max_bytes: Annotated[int, Range(1, 2**31)] = 2**25
    seconds: Annotated[float, Range(0, 3600, above=True)] = 30.0
    queue_length: Annotated[int, Range(1, 65536)] = 16
    patience: Annotated[float, Range(0, 1000)] = 5.0
    decoders: Annotated[int, Range(1, 256)] = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the program; returns its exit status."""
    parser = Parser(
        prog=describe_command(f"upmap.{PROGRAM}"),
        description="Labels images over HTTP by a trained model.",
        epilog=EXAMPLES,
    )
    add_flags(parser, ServeOptions)
    return run(lambda: _program(parse_options(ServeOptions, parser, arguments)))


def _program(options: ServeOptions) -> int:
    """Serves until SIGTERM or Ctrl-C; returns 0."""
    require_packages("serve", "fastapi", "uvicorn", "python_multipart")
    limit_threads(options.threads)
    predictor = load_predictor(options.model, options)
    predictor.labels(np.zeros(WARM_UP, np.uint8))  # the first call of a model takes longest
    with _listen(options) as listener:
        server = _build_server(_build_app(predictor, options), options)
        host, port = listener.getsockname()[:2]
        address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        line = f"{options.model}: {len(predictor.classes)} classes, on http://{address}"
        print(printable(line), file=sys.stderr, flush=True)
        server.run(sockets=[listener])
    return 0


def _listen(options: ServeOptions) -> socket.socket:
    """A socket that is bound.

    Raises:
        InputError: If the address cannot be listened on.
    """
    try:
        family = socket.AF_INET6 if ":" in options.host else socket.AF_INET
        address = (options.host, options.port)
        return socket.create_server(address, family=family, backlog=BACKLOG)
    except (OSError, UnicodeError) as error:
        message = f"--host {options.host!r}, --port {options.port}: {describe_os_error(error)}"
        raise InputError(message) from None


def _build_app(predictor: Predictor, options: ServeOptions) -> "FastAPI":
    from upmap.segmentation.serving.app import Limits, build_app

    limits = Limits(
        max_bytes=options.max_bytes,
        seconds=options.seconds,
        queue_length=options.queue_length,
        patience=options.patience / 1000,
        decoders=options.decoders,
    )
    return build_app(predictor, limits)


def _build_server(app: "FastAPI", options: ServeOptions) -> "Server":
    """The server, which SIGTERM ends from now on, once what is under way is answered."""
    import uvicorn

    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        server_header=False,
        limit_concurrency=options.queue_length + SPARE_CONNECTIONS,
        timeout_graceful_shutdown=int(options.seconds) + 1,
    )
    server = uvicorn.Server(config)

    def end(number: int, frame: FrameType | None) -> None:
        server.should_exit = True

    # uvicorn has a handler of its own while it runs, and raises the signal again at its end.
    signal.signal(signal.SIGTERM, end)
    return server


if __name__ == "__main__":
    sys.exit(main())
