"""Tests of the service: answers equal to predictions, limits, hostile images, and how it ends."""

import http.client
import json
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco

from upmap.data.shapes import scenes
from upmap.segmentation.predict import main as predict
from upmap.segmentation.predictor import Level, Prediction, load_predictor
from upmap.segmentation.serve import main
from upmap.segmentation.serving.counters import Counters
from upmap.segmentation.serving.model_thread import ModelThread, QueueFullError

ROOT = Path(__file__).resolve().parents[2]
CLIENTS, REQUESTS = 8, 1000
Reply = tuple[int, dict[str, str], bytes]


class Service:
    """A service in a process of its own."""

    def __init__(self, model: Path, *flags: str) -> None:
        command = [sys.executable, "-m", "upmap.segmentation.serve", str(model), "--port", "0"]
        self.process = subprocess.Popen(
            [*command, "--threads", "1", *flags],
            env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stderr is not None
        self.line = self.process.stderr.readline()
        address = re.search(r"http://([\d.]+):(\d+)$", self.line)
        assert address is not None, self.line + self.process.stderr.read()
        self.address = (address[1], int(address[2]))

    def ask(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
    ) -> Reply:
        connection = http.client.HTTPConnection(*self.address, timeout=30)
        connection.request(method, path, body, headers or {})
        reply = connection.getresponse()
        result = reply.status, {k.lower(): v for k, v in reply.getheaders()}, reply.read()
        connection.close()
        return result

    def metric(self, name: str) -> float:
        lines = self.ask("GET", "/metrics")[2].decode().splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name))

    def end(self) -> tuple[int, str]:
        """Sends SIGTERM; the exit status, and what was printed since the start."""
        self.process.send_signal(signal.SIGTERM)
        error = self.process.communicate(timeout=30)[1]
        return self.process.returncode, error


@contextmanager
def serving(model: Path, *flags: str) -> Iterator[Service]:
    service = Service(model, *flags)
    try:
        yield service
    finally:
        service.process.kill()
        service.process.wait()
        assert service.process.stderr is not None
        service.process.stderr.close()


@pytest.fixture(scope="module")
def service(varied_checkpoint: Path) -> Iterator[Service]:
    flags = ("--max-pixels", "10000", "--max-bytes", "200000", "--queue-length", "32")
    with serving(varied_checkpoint, *flags) as running:
        yield running


def png(pixels: np.ndarray) -> bytes:
    stream = BytesIO()
    Image.fromarray(pixels).save(stream, format="PNG")
    return stream.getvalue()


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small images of three sizes."""
    folder = tmp_path_factory.mktemp("images")
    for i, scene in enumerate(scenes(12, 7, colored=True)):
        side = (32, 40, 48)[i % 3]
        (folder / f"{i:02d}.png").write_bytes(png(scene.image[20 : 20 + side, 20:68]))
    return folder


@pytest.fixture(scope="module")
def expected(
    varied_checkpoint: Path, images: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, dict[str, bytes]]:
    """For each image the answers that predict's files are: png, scores, json."""
    out = tmp_path_factory.mktemp("predicted") / "out"
    lines = out.with_suffix(".jsonl")
    flags = ["--scores", "png", "--no-overlay", "--threads", "1", "--json", str(lines)]
    assert predict([str(varied_checkpoint), str(images), "--out", str(out), *flags]) == 0
    answers = {}
    for line in lines.read_text().splitlines():
        record = json.loads(line)
        name = Path(record.pop("image")).stem
        del record["labels"]
        answers[name] = {
            "png": (out / f"{name}.png").read_bytes(),
            "scores": (out / f"{name}_scores.png").read_bytes(),
            "json": json.dumps(record).encode(),
        }
    return answers


def test_a_thousand_requests_of_eight_clients_are_answered_as_predict_does(
    service: Service, images: Path, expected: dict[str, dict[str, bytes]]
) -> None:
    names = [path.stem for path in sorted(images.iterdir())]
    bodies = {name: (images / f"{name}.png").read_bytes() for name in names}

    def ask(client: int) -> int:
        connection = http.client.HTTPConnection(*service.address, timeout=30)
        generator = np.random.default_rng(client)
        for number in range(client, REQUESTS, CLIENTS):
            name = names[generator.integers(len(names))]
            form = "png" if number % 10 else ("json", "scores")[number // 10 % 2]
            connection.request("POST", f"/predict?as={form}", bodies[name])
            reply = connection.getresponse()
            body = reply.read()
            assert reply.status == 200, body
            assert body == expected[name][form]
        connection.close()
        return len(range(client, REQUESTS, CLIENTS))

    before = service.metric("upmap_images_total"), service.metric("upmap_batches_total")
    with ThreadPoolExecutor(CLIENTS) as pool:
        assert sum(pool.map(ask, range(CLIENTS))) == REQUESTS
    assert service.metric("upmap_images_total") - before[0] == REQUESTS
    # Images of one size went together.
    assert service.metric("upmap_batches_total") - before[1] < REQUESTS
    assert service.metric("upmap_requests_in_flight") == 0


def form_of(data: bytes) -> tuple[bytes, dict[str, str]]:
    edge = "0123456789abcdef"
    head = f'--{edge}\r\nContent-Disposition: form-data; name="image"; filename="a.png"\r\n\r\n'
    body = head.encode() + data + f"\r\n--{edge}--\r\n".encode()
    return body, {"Content-Type": f"multipart/form-data; boundary={edge}"}


def test_a_form_is_answered_as_the_bare_file(
    service: Service, images: Path, expected: dict[str, dict[str, bytes]]
) -> None:
    body, headers = form_of((images / "00.png").read_bytes())
    status, reply, answer = service.ask("POST", "/predict", body, headers)
    assert (status, answer) == (200, expected["00"]["png"])
    assert reply["content-type"] == "image/png"


def test_json_has_the_masks_of_the_labels(service: Service, images: Path) -> None:
    data = (images / "01.png").read_bytes()
    labels = np.array(Image.open(BytesIO(service.ask("POST", "/predict", data)[2])))
    record = json.loads(service.ask("POST", "/predict?as=json", data)[2])
    for row in record["classes"]:
        np.testing.assert_array_equal(coco.decode(row["rle"]), labels == row["id"])


def test_pages_say_how_the_service_is(service: Service, varied_checkpoint: Path) -> None:
    assert service.ask("GET", "/health")[0] == 200
    assert service.ask("GET", "/ready")[0] == 200
    metadata = json.loads(service.ask("GET", "/metadata")[2])
    predictor = load_predictor(varied_checkpoint)
    assert metadata["classes"] == list(predictor.classes)
    assert metadata["palette"] == predictor.palette.tolist()
    assert metadata["model"]["sha256"] == predictor.metadata["sha256"]
    assert metadata["limits"]["max_pixels"] == 10000
    status, headers, body = service.ask("GET", "/metrics")
    assert status == 200
    assert headers["content-type"].startswith("text/plain; version=0.0.4")
    for line in body.decode().splitlines():
        assert re.fullmatch(r"# TYPE \w+ \w+|\w+(\{\w+=\"[^\"]+\"\})? [\d.]+", line), line


def bomb(width: int, height: int) -> bytes:
    """A PNG file of a few bytes whose header promises many pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = zlib.compress(bytes(100))
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    )


GOOD = png(np.zeros((20, 20, 3), np.uint8))
HOSTILE = {
    "empty": (b"", 400),
    "text": (b"no image", 400),
    "truncated": (GOOD[:-20], 400),
    "broken": (GOOD[:40] + b"\xff\xff" + GOOD[42:], 400),
    "too many pixels": (png(np.zeros((101, 100, 3), np.uint8)), 413),
    "bomb": (bomb(2**31 - 1, 2**31 - 1), 413),
    "wide bomb": (bomb(2**31 - 1, 1), 413),
    "small bomb": (bomb(100, 100), 400),
    "postscript": (b"%!PS-Adobe-3.0 EPSF-3.0\n", 400),
    "markup": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", 400),
    "too many bytes": (bytes(200001), 413),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_images_are_refused_and_the_next_is_answered(service: Service, name: str) -> None:
    body, expected_status = HOSTILE[name]
    for content, headers in ((body, {}), form_of(body)):
        status, reply, answer = service.ask("POST", "/predict", content, headers)
        assert status == expected_status, answer
        assert reply["content-type"] == "application/json"
        assert set(json.loads(answer)) == {"error"}
        assert len(answer) < 1000
    assert service.ask("POST", "/predict", GOOD)[0] == 200


def test_a_body_without_a_length_is_cut_off_where_it_is_too_long(service: Service) -> None:
    sent = 0

    def chunks() -> Iterator[bytes]:
        nonlocal sent
        for _ in range(1000):
            sent += 1
            yield bytes(50_000)

    with (
        closing(http.client.HTTPConnection(*service.address, timeout=30)) as connection,
        suppress(BrokenPipeError, ConnectionResetError),  # cut off while it was sent
    ):
        connection.request("POST", "/predict", chunks(), encode_chunked=True)  # type: ignore[arg-type]
        assert connection.getresponse().status == 413
    assert sent < 1000
    assert service.ask("POST", "/predict", GOOD)[0] == 200


@pytest.mark.parametrize(
    ("method", "path", "body", "headers", "status"),
    [
        ("POST", "/predict?as=words", GOOD, {}, 422),
        ("GET", "/predict", None, {}, 405),
        ("GET", "/etc/passwd", None, {}, 404),
        ("GET", "/docs", None, {}, 404),
        ("POST", "/predict", b"x", {"Content-Type": "multipart/form-data"}, 400),
        ("POST", "/predict", b"x", {"Content-Type": "multipart/form-data; boundary=y"}, 400),
        ("POST", "/predict", GOOD, {"Content-Length": "9" * 4000}, 413),
    ],
)
def test_wrong_requests_are_refused(
    service: Service,
    method: str,
    path: str,
    body: bytes | None,
    headers: dict[str, str],
    status: int,
) -> None:
    if "Content-Length" in headers:
        pytest.importorskip("h11")  # which refuses it before the application does
        assert service.ask(method, path, body, headers)[0] in (status, 400)
    else:
        assert service.ask(method, path, body, headers)[0] == status
    assert service.ask("POST", "/predict", GOOD)[0] == 200


def slow_post(service: Service) -> socket.socket:
    """A connection whose body does not come."""
    connection = socket.create_connection(service.address, timeout=30)
    connection.sendall(b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nabc")
    return connection


def wait_until(service: Service, in_flight: int) -> None:
    deadline = time.monotonic() + 20
    while service.metric("upmap_requests_in_flight") != in_flight:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_the_queue_is_bounded_and_slow_bodies_do_not_hold_it(varied_checkpoint: Path) -> None:
    with serving(varied_checkpoint, "--queue-length", "2", "--seconds", "2") as service:
        slow = [slow_post(service) for _ in range(2)]
        wait_until(service, 2)
        status, headers, _ = service.ask("POST", "/predict", GOOD)
        assert status == 429
        assert headers["retry-after"]
        assert service.ask("GET", "/health")[0] == 200  # still answered
        for connection in slow:
            assert connection.recv(1000).startswith(b"HTTP/1.1 408")
            connection.close()
        wait_until(service, 0)
        assert service.ask("POST", "/predict", GOOD)[0] == 200
        slow_post(service).close()  # a client that goes away
        wait_until(service, 0)
        assert service.metric('upmap_responses_total{status="429"}') == 1
        assert service.metric('upmap_responses_total{status="408"}') == 2
        status, error = service.end()
        assert (status, error) == (0, "")


def test_sigterm_answers_what_is_under_way_and_ends_with_0(
    varied_checkpoint: Path, images: Path, expected: dict[str, dict[str, bytes]]
) -> None:
    data = (images / "02.png").read_bytes()
    with serving(varied_checkpoint) as service:
        connections = []
        for _ in range(5):
            connection = socket.create_connection(service.address, timeout=30)
            head = f"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: {len(data)}\r\n\r\n"
            connection.sendall(head.encode() + data[:-10])
            connections.append(connection)
        wait_until(service, 5)
        service.process.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        for connection in connections:  # the bodies end after the signal
            connection.sendall(data[-10:])
            with closing(connection), closing(http.client.HTTPResponse(connection)) as reply:
                reply.begin()
                assert (reply.status, reply.read()) == (200, expected["02"]["png"])
        assert service.process.wait(timeout=30) == 0


def test_sigterm_as_soon_as_it_listens_is_not_lost(varied_checkpoint: Path) -> None:
    with serving(varied_checkpoint) as service:
        assert service.end() == (0, "")


def test_it_listens_on_this_machine_alone(service: Service) -> None:
    assert service.address[0] == "127.0.0.1"


def test_an_address_that_is_taken_is_one_line(
    service: Service, varied_checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(varied_checkpoint), "--port", str(service.address[1])]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert f"--port {service.address[1]}: " in error


def test_a_model_that_is_none_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(tmp_path / "none.pt"), "--port", "0"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_what_is_not_installed_is_named_with_the_command_that_installs_it(
    varied_checkpoint: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("upmap.extras.find_spec", lambda name: None)
    assert main([str(varied_checkpoint)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert 'fastapi, uvicorn, python_multipart; `pip install "upmap[serve]"`' in error


class SlowPredictor:
    """Stands for a predictor: each batch waits for `go`, and is noted."""

    def __init__(self, varied_checkpoint: Path) -> None:
        self.options = load_predictor(varied_checkpoint).options.__class__(batch_size=3)
        self.go = threading.Semaphore(0)
        self.batches: list[list[tuple[int, ...]]] = []

    def count_windows(self, size: tuple[int, ...]) -> int:
        return 1

    def predict_batch(self, images: Sequence[np.ndarray], level: Level) -> list[Prediction]:
        self.go.acquire()
        self.batches.append([image.shape[:2] for image in images])
        if images[0].shape[0] == 13:
            raise MemoryError("no room")
        return [Prediction(image[:, :, 0]) for image in images]


def test_images_of_one_size_go_together_in_the_order_of_the_first(varied_checkpoint: Path) -> None:
    predictor = SlowPredictor(varied_checkpoint)
    thread = ModelThread(predictor, Counters(), queue_length=20, patience=0)  # type: ignore[arg-type]
    sizes = [(5, 5), (4, 4), (6, 6), (4, 4), (13, 4), (4, 4), (4, 4), (6, 6)]
    futures = []
    for size in sizes:
        with thread.admit() as admission:
            futures.append(admission.submit(np.zeros((*size, 3), np.uint8), "labels"))
        while not futures[0].running():  # the first goes alone, the others wait for it
            time.sleep(0.001)
    futures[2].cancel()
    for _ in range(10):
        predictor.go.release()
    assert isinstance(futures[4].exception(10), MemoryError)
    for future, size in zip(futures, sizes, strict=True):
        if size != (13, 4) and not future.cancelled():
            assert future.result(10).labels.shape == size
    thread.close()
    assert predictor.batches == [[(5, 5)], [(4, 4)] * 3, [(6, 6)], [(13, 4)], [(4, 4)]]
    with pytest.raises(QueueFullError), thread.admit():
        pass
