"""Labels images in process: the one path of prediction, evaluation and the service.

A predictor is made from a checkpoint, or from an ONNX file of `segmentation.export`. Images are cut
into windows where they are larger than those, see `upmap.segmentation.tiling`.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import file_digest
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from upmap.conversion import convert_value
from upmap.errors import InputError
from upmap.files import require_path
from upmap.options import Choices, Flag, Range, Threads, validate_fields
from upmap.segmentation.datasets import LARGEST_IMAGE, MAX_PIXELS
from upmap.segmentation.device import select_device
from upmap.segmentation.evaluation import logits_at, resize
from upmap.segmentation.inference import Byte, load_model
from upmap.segmentation.models import MAX_CLASSES
from upmap.segmentation.optimization import PRECISIONS
from upmap.segmentation.tiling import (
    DEFAULT_OVERLAP,
    DEFAULT_WINDOW,
    MOST_OVERLAP,
    Block,
    Size,
    blend_windows,
    count_windows,
)

__all__ = [
    "SCORE_STEPS",
    "Level",
    "Prediction",
    "Predictor",
    "PredictorOptions",
    "load_predictor",
    "predict_labels",
]

MAX_WINDOW = 65536  # px a side
SCORE_STEPS = 65535  # a probability of 1 in 16 bits
ONNX = ".onnx"

Pixels = NDArray[np.uint8]
Scores = NDArray[np.uint16]
Level = Literal["labels", "scores", "probabilities"]  # each has what those before it have


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictorOptions:
    """How a model is run on images.

    Attributes:
        window: Maximum height and width, px, of the windows that images are cut into: one number
            for both, or two with a comma between them; 0 never cuts.
        overlap: Minimum share of a window that its neighbor covers, too.
        flip: Average the logits of the image and its mirror image.
        batch_size: Maximum number of windows, or of images of one size, that go through the model
            at once.
        precision: Precision of the forward pass; default: that of the training.
        device: cpu, cuda, cuda:1 and so on, mps, or auto: cuda where there is one.
        max_pixels: Maximum number of pixels of an image; larger ones are refused.
        threads: Maximum number of threads; 0 leaves it to torch.
    """

    window: Annotated[
        int | tuple[int, int], Range(0, MAX_WINDOW), Flag(metavar="SIDE|HEIGHT,WIDTH")
    ] = DEFAULT_WINDOW
    overlap: Annotated[float, Range(0, MOST_OVERLAP)] = DEFAULT_OVERLAP
    flip: bool = False
    batch_size: Annotated[int, Range(1, 65536)] = 1
    precision: Annotated[str | None, Choices(PRECISIONS)] = None
    device: str = "auto"
    max_pixels: Annotated[int, Range(1, LARGEST_IMAGE)] = MAX_PIXELS
    threads: Threads = 0

    def __post_init__(self) -> None:
        validate_fields(self)
        if isinstance(self.window, tuple) and min(self.window) < 1:
            raise ValueError(f"window must be at least 1 x 1 px, not {self.window}")

    @property
    def window_size(self) -> Size | None:
        """Height and width of a window, px; None for the whole image."""
        if isinstance(self.window, tuple):
            return self.window
        return (self.window, self.window) if self.window else None


class Prediction(NamedTuple):
    """The prediction for an image.

    Attributes:
        labels: uint8 [H, W], the class of each pixel: that of the largest logit.
        scores: uint16 [H, W], the softmax probability of that class, in SCORE_STEPS; None unless
            asked for.
        probabilities: uint16 [K, H, W], that of every class, likewise.
    """

    labels: Pixels
    scores: Scores | None = None
    probabilities: Scores | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Predictor:
    """A model that labels images.

    Attributes:
        logits: Maps uint8 [B, 3, h, w], on any device, to float32 [B, K, h, w].
        classes: The names of the K classes.
        palette: uint8 [K, 3], RGB, the color of each class in pictures.
        options: How the model is run.
        metadata: What is known of the model: its file's name and SHA-256, its operator, factor and
            precision; values of JSON.
    """

    logits: Callable[[Tensor], Tensor]
    classes: tuple[str, ...]
    palette: Pixels
    options: PredictorOptions
    metadata: Mapping[str, Any]

    def labels(self, image: Pixels) -> Pixels:
        """The class of each pixel, uint8 [H, W], of an image, uint8 [H, W, 3], RGB."""
        return self.predict(image).labels

    def scores(self, image: Pixels) -> Scores:
        """The probability of the label of each pixel, uint16 [H, W] in SCORE_STEPS."""
        scores = self.predict(image, "scores").scores
        assert scores is not None
        return scores

    def predict(
        self,
        image: Pixels,
        level: Level = "labels",
        *,
        after_window: Callable[[], object] | None = None,
    ) -> Prediction:
        """Labels an image, window by window.

        Args:
            image: uint8 [H, W, 3], RGB.
            level: What the prediction has besides labels.
            after_window: Called after each of `count_windows` windows.
        """
        prediction = _allocate(image.shape[:2], len(self.classes), level)
        for block in self._blocks(image):
            _fill(prediction, block)
            if after_window is not None:
                after_window()
        return prediction

    @torch.inference_mode()
    def predict_batch(self, images: Sequence[Pixels], level: Level = "labels") -> list[Prediction]:
        """Labels images, those of one size that need no windows at once.

        Args:
            images: uint8 [H, W, 3] each, RGB, of any sizes.
            level: What the predictions have besides labels.
        """
        sizes = {image.shape for image in images}
        if len(images) < 2 or len(sizes) > 1 or self.count_windows(images[0].shape[:2]) > 1:
            return [self.predict(image, level) for image in images]
        stacked = torch.from_numpy(np.stack(images).transpose(0, 3, 1, 2).copy())
        predictions = []
        for logits in _average_flips(self.logits, flip=self.options.flip)(stacked):
            size = (logits.shape[1], logits.shape[2])
            predictions.append(_allocate(size, len(self.classes), level))
            _fill(predictions[-1], Block(slice(size[0]), slice(size[1]), logits))
        return predictions

    def count_windows(self, size: tuple[int, ...]) -> int:
        """The number of windows of an image of `size`, height and width, px."""
        return count_windows((size[0], size[1]), self.options.window_size, self.options.overlap)

    @torch.inference_mode()
    def _blocks(self, image: Pixels) -> Iterator[Block]:
        yield from blend_windows(
            _average_flips(self.logits, flip=self.options.flip),
            image.transpose(2, 0, 1),
            window=self.options.window_size,
            overlap=self.options.overlap,
            batch_size=self.options.batch_size,
        )


def load_predictor(path: str | Path, options: PredictorOptions | None = None) -> Predictor:
    """Loads a checkpoint of a training, or an ONNX file of `segmentation.export`.

    Args:
        path: The file; one that ends in .onnx is run by onnxruntime.
        options: How the model is run; None for the defaults.

    Raises:
        InputError: If the file is neither, its model cannot be built or gives no logits, or the
            device is not there.
    """
    options = options or PredictorOptions()
    path = require_path(Path(path))
    is_onnx = path.suffix.lower() == ONNX
    predictor = _load_onnx(path, options) if is_onnx else _load_checkpoint(path, options)
    with path.open("rb") as file:
        digest = file_digest(file, "sha256").hexdigest()
    return replace(
        predictor, metadata={"file": path.name, "sha256": digest} | dict(predictor.metadata)
    )


@torch.no_grad()
def predict_labels(
    model: nn.Module,
    image: Tensor,
    *,
    window: Size | None = None,
    overlap: float = DEFAULT_OVERLAP,
    flip: bool = False,
    batch_size: int = 1,
    factor: float = 1.0,
    precision: str = "fp32",
) -> Tensor:
    """The class of each pixel of an image, uint8 [H, W], on the image's device.

    Args:
        model: Maps float [B, 3, h, w] to logits [B, K, h, w], K up to 256; in evaluation mode
            afterwards.
        image: uint8 [3, H, W], RGB, on the model's device.
        window: Maximum height and width of a window, px; None for the whole image.
        overlap: Minimum share of a window that its neighbor covers, too; up to 0.9.
        flip: Whether logits are the mean over the image and its mirror image.
        batch_size: Maximum number of windows that go through the model at once.
        factor: Scale of the image at the model's input.
        precision: A key of PRECISIONS.

    Raises:
        ValueError: If the window, overlap or batch size is out of range.

    >>> model = nn.Conv2d(3, 2, 1)
    >>> predict_labels(model, torch.zeros(3, 45, 60, dtype=torch.uint8), window=(32, 32)).shape
    torch.Size([45, 60])
    """
    model.eval()

    def logits(images: Tensor) -> Tensor:
        return logits_at(model, images, factor=factor, precision=precision)

    labels = torch.zeros(image.shape[1:], dtype=torch.uint8, device=image.device)
    for block in blend_windows(
        _average_flips(logits, flip=flip),
        image,
        window=window,
        overlap=overlap,
        batch_size=batch_size,
    ):
        labels[block.rows, block.columns] = block.logits.argmax(0).to(torch.uint8)
    return labels


def _load_checkpoint(path: Path, options: PredictorOptions) -> Predictor:
    device = select_device(options.device)
    trained = load_model(path)
    model = trained.model.to(device)
    precision = options.precision or trained.precision

    def logits(images: Tensor) -> Tensor:
        return logits_at(model, images.to(device), factor=trained.factor, precision=precision)

    metadata = {
        "factor": trained.factor,
        "precision": precision,
        "upsampling": trained.upsampling,
        "device": str(device),
    }
    return Predictor(logits, trained.classes, trained.palette, options, metadata)


@dataclass(frozen=True, slots=True)
class _OnnxMetadata:
    """The metadata that `segmentation.export` writes; each value is JSON."""

    classes: Annotated[tuple[str, ...], msgspec.Meta(min_length=1, max_length=MAX_CLASSES)]
    palette: tuple[tuple[Byte, Byte, Byte], ...]
    factor: Annotated[float, msgspec.Meta(gt=0, le=4)]


def _load_onnx(path: Path, options: PredictorOptions) -> Predictor:
    if options.precision not in (None, "fp32"):
        raise InputError(f"--precision {options.precision}: an ONNX file is run in fp32", path)
    if options.device not in ("auto", "cpu"):
        raise InputError("--device: an ONNX file is run on the CPU", path)
    session = _open_session(path, options.threads)
    inputs, outputs = session.get_inputs(), session.get_outputs()
    if [value.name for value in inputs + outputs] != ["images", "logits"]:
        raise InputError("expected a model from images to logits, without --argmax", path)
    texts = session.get_modelmeta().custom_metadata_map
    try:
        values = {key: json.loads(texts[key]) for key in _OnnxMetadata.__slots__}
    except (KeyError, ValueError):
        raise InputError("not a file of segmentation.export: no metadata", path) from None
    metadata = convert_value(values, _OnnxMetadata, path, "")
    if len(metadata.palette) != len(metadata.classes):
        raise InputError("palette and classes differ in length", path)
    dtype = torch.uint8 if inputs[0].type == "tensor(uint8)" else torch.float32

    def logits(images: Tensor) -> Tensor:
        pixels = resize(images.float(), metadata.factor)
        pixels = pixels.round().clamp(0, 255).to(dtype) if dtype == torch.uint8 else pixels
        (result,) = session.run(["logits"], {"images": pixels.numpy()})
        result, size = torch.from_numpy(result), images.shape[2:]
        if result.shape[2:] == size:
            return result
        return functional.interpolate(result, size=list(size), mode="bilinear")

    described = {"factor": metadata.factor, "precision": "fp32", "device": "cpu"}
    described["upsampling"] = texts.get("upsampling", "")
    palette = np.array(metadata.palette, np.uint8)
    return Predictor(logits, metadata.classes, palette, options, described)


def _open_session(path: Path, threads: int) -> Any:
    """The ONNX file in onnxruntime, on the CPU."""
    try:
        import onnxruntime
    except ModuleNotFoundError:
        message = 'not installed: onnxruntime; `pip install "upmap[export]"` brings it'
        raise InputError(message, path) from None
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = threads
    try:
        return onnxruntime.InferenceSession(str(path), settings, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's exceptions have no common base
        message = f"onnxruntime cannot load it ({type(error).__name__})"
        raise InputError(message, path) from None


def _average_flips(logits: Callable[[Tensor], Tensor], *, flip: bool) -> Callable[[Tensor], Tensor]:
    """`logits`, or with `flip` the mean of those of images and their mirror images."""
    if not flip:
        return logits
    return lambda images: (logits(images) + logits(images.flip(3)).flip(3)) / 2


def _allocate(size: tuple[int, ...], classes: int, level: Level) -> Prediction:
    return Prediction(
        np.zeros(size, np.uint8),
        np.zeros(size, np.uint16) if level != "labels" else None,
        np.zeros((classes, *size), np.uint16) if level == "probabilities" else None,
    )


def _fill(prediction: Prediction, block: Block) -> None:
    """Sets the pixels of a block."""
    place = (block.rows, block.columns)
    best = block.logits.argmax(0)
    prediction.labels[place] = best.to(torch.uint8).cpu().numpy()
    if prediction.scores is None:
        return
    probabilities = block.logits.softmax(0)
    prediction.scores[place] = _in_steps(probabilities.gather(0, best[None])[0])
    if prediction.probabilities is not None:
        prediction.probabilities[:, *place] = _in_steps(probabilities)


def _in_steps(probabilities: Tensor) -> NDArray[np.int32]:
    steps: NDArray[np.int32] = (probabilities * SCORE_STEPS).round().int().cpu().numpy()
    return steps
