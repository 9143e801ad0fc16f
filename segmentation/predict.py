"""Labels images with a trained model: `python -m segmentation.predict CHECKPOINT IMAGES...`.

Large images are labeled window by window, see `upmap.segmentation.tiling`.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from upmap.console import Parser, describe_command, run
from upmap.errors import InputError, printable
from upmap.files import (
    check_folder,
    create_file,
    list_folder,
    make_folder,
    read_bytes,
    require_path,
)
from upmap.options import (
    Choices,
    Flag,
    Positional,
    Range,
    Threads,
    add_flags,
    parse_options,
    validate_fields,
)
from upmap.progress import track_progress
from upmap.segmentation.datasets import (
    IMAGES,
    LARGEST_IMAGE,
    MAX_PIXELS,
    decode_picture,
    read_image,
)
from upmap.segmentation.device import limit_threads, select_device
from upmap.segmentation.evaluation import logits_at
from upmap.segmentation.inference import TrainedModel, load_model
from upmap.segmentation.optimization import PRECISIONS
from upmap.segmentation.tiling import MOST_OVERLAP, Size, blend_windows
from upmap.text_tables import align_columns

__all__ = ["PredictOptions", "main", "overlay_labels", "predict_labels"]

PROGRAM = "segmentation.predict"
EXAMPLES = """\
examples:
  %(prog)s runs/train/best.pt photo.jpg
  %(prog)s best.pt CamVid/test/images --out runs/camvid --flip
  %(prog)s best.pt aerial.png --window 512 --overlap 0.5 --batch-size 4
  %(prog)s best.pt aerial.png --window 512,768 --no-overlay

writes to --out, for each image: NAME.png, the class id of each pixel, colored by a palette;
NAME_overlay.jpg, the image under the classes' colors. prints the share of each class.
exit status: 0 good; 2 misused or unreadable input."""

Pixels = NDArray[np.uint8]
MAX_WINDOW = 65536  # px a side


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictOptions:
    """How images are labeled.

    Attributes:
        checkpoint: A checkpoint of segmentation.train, such as best.pt.
        images: Image files, or folders of them.
        out: The folder for labels and overlays.
        window: Maximum height and width, px, of the windows that images are cut into: one number
            for both, or two with a comma between them; 0 never cuts.
        overlap: Minimum share of a window that its neighbor covers, too.
        flip: Average the logits of the image and its mirror image.
        batch_size: Maximum number of windows that go through the model at once.
        overlay: Write overlays, too.
        precision: Precision of the forward pass; default: that of the training.
        device: cpu, cuda, cuda:1 and so on, mps, or auto: cuda where there is one.
        max_pixels: Maximum number of pixels of an image; larger ones are refused.
        threads: Maximum number of threads; 0 leaves it to torch.
    """

    checkpoint: Annotated[Path, Positional("CHECKPOINT")]
    images: Annotated[tuple[Path, ...], Positional("IMAGES")]
    out: Annotated[str, Flag(metavar="DIR")] = "runs/predict"
    window: Annotated[
        int | tuple[int, int], Range(0, MAX_WINDOW), Flag(metavar="SIDE|HEIGHT,WIDTH")
    ] = 1024
    overlap: Annotated[float, Range(0, MOST_OVERLAP)] = 0.25
    flip: bool = False
    batch_size: Annotated[int, Range(1, 65536)] = 1
    overlay: bool = True
    precision: Annotated[str | None, Choices(PRECISIONS)] = None
    device: str = "auto"
    max_pixels: Annotated[int, Range(1, LARGEST_IMAGE)] = MAX_PIXELS
    threads: Threads = 0

    def __post_init__(self) -> None:
        validate_fields(self)
        if isinstance(self.window, tuple) and min(self.window) < 1:
            raise ValueError(f"window must be at least 1 x 1 px, not {self.window}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the program; returns its exit status."""
    parser = Parser(
        prog=describe_command(f"upmap.{PROGRAM}"),
        description="Labels each pixel of images with a class, by a checkpoint of a training.",
        epilog=EXAMPLES,
    )
    add_flags(parser, PredictOptions)
    return run(lambda: _program(parse_options(PredictOptions, parser, arguments)))


def _program(options: PredictOptions) -> int:
    """Labels every image, and prints the share of each class; returns 0."""
    limit_threads(options.threads)
    _predict(load_model(options.checkpoint), options)
    return 0


@torch.no_grad()
def predict_labels(
    model: nn.Module,
    image: Tensor,
    *,
    window: Size | None = None,
    overlap: float = 0.25,
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
        upright = logits_at(model, images, factor=factor, precision=precision)
        if not flip:
            return upright
        mirrored = logits_at(model, images.flip(3), factor=factor, precision=precision)
        return (upright + mirrored.flip(3)) / 2

    bands = blend_windows(logits, image, window=window, overlap=overlap, batch_size=batch_size)
    return torch.cat([band.argmax(0).to(torch.uint8) for band in bands])


def overlay_labels(image: Pixels, labels: Pixels, palette: Pixels) -> Pixels:
    """The mean of an image and the colors of its classes, uint8 [H, W, 3], RGB.

    Args:
        image: uint8 [H, W, 3], RGB.
        labels: uint8 [H, W], 0 .. K - 1.
        palette: uint8 [K, 3], RGB.

    >>> black, gray = np.zeros((1, 1, 3), np.uint8), np.full((1, 3), 100, np.uint8)
    >>> overlay_labels(black, np.zeros((1, 1), np.uint8), gray).tolist()
    [[[50, 50, 50]]]
    """
    mixed: Pixels = image // 2 + palette[labels] // 2  # each halved first, to stay in 8 bits
    return mixed


def _predict(trained: TrainedModel, options: PredictOptions) -> None:
    """Labels every image, and prints the share of each class."""
    device = select_device(options.device)
    paths = [path for place in options.images for path in _list_images(place)]
    out = Path(options.out)
    for place in options.images:
        if _is_same_folder(place, out):
            raise InputError("--out is a folder of images; name another", out)
    _validate_outputs(paths, out)
    check_folder(out)
    # A broken image is reported before hours of work, not after them.
    for path in track_progress(paths, "checking", total=len(paths), show=True):
        # By Pillow: some versions of OpenCV accept truncated files.
        decode_picture(read_bytes(path), path, options.max_pixels)
    make_folder(out)
    trained.model.to(device)
    counts = np.zeros((len(paths), len(trained.classes)), np.int64)
    for i, path in enumerate(track_progress(paths, "predicting", total=len(paths), show=True)):
        image = read_image(path, options.max_pixels)
        labels = _label_image(trained, image, options, device)
        _write_labels(labels, trained.palette, out / path.stem)
        if options.overlay:
            _write_overlay(overlay_labels(image, labels, trained.palette), out / path.stem)
        counts[i] = np.bincount(labels.ravel(), minlength=len(trained.classes))
    _print_shares(trained, counts, out)


def _list_images(path: Path) -> list[Path]:
    """The file, or the images in the folder, by name."""
    if not require_path(path).is_dir():
        return [path]
    images = [file for file in list_folder(path) if file.suffix.lower() in IMAGES]
    if not images:
        raise InputError(f"no images ({', '.join(IMAGES)}) in it", path)
    return images


def _validate_outputs(paths: list[Path], out: Path) -> None:
    """Refuses two images with the same output, and outputs that exist."""
    sources: dict[str, Path] = {}
    for path in paths:
        if path.stem in sources:
            message = f"{path.stem}.png would be written for {sources[path.stem]} too"
            raise InputError(message, path)
        sources[path.stem] = path
        for output in (_label_path(out / path.stem), _overlay_path(out / path.stem)):
            if output.exists():
                raise InputError("exists already; name a new --out", output)


def _is_same_folder(first: Path, second: Path) -> bool:
    return first.is_dir() and second.is_dir() and first.samefile(second)


def _label_path(base: Path) -> Path:
    return base.with_name(f"{base.name}.png")


def _overlay_path(base: Path) -> Path:
    return base.with_name(f"{base.name}_overlay.jpg")


def _label_image(
    trained: TrainedModel, image: Pixels, options: PredictOptions, device: torch.device
) -> Pixels:
    """The class of each pixel of an image, uint8 [H, W], as the options say."""
    window = options.window
    channels_first = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))
    labels = predict_labels(
        trained.model,
        channels_first.to(device),
        # One number is a square window, 0 the whole image.
        window=window if isinstance(window, tuple) else (window, window) if window else None,
        overlap=options.overlap,
        flip=options.flip,
        batch_size=options.batch_size,
        factor=trained.factor,
        precision=options.precision or trained.precision,
    )
    pixels: Pixels = labels.cpu().numpy()
    return pixels


def _write_labels(labels: Pixels, palette: Pixels, base: Path) -> None:
    indices = Image.fromarray(labels)
    indices.putpalette(palette.tobytes())  # turns gray values into indices of the same value
    with create_file(_label_path(base)) as beside:
        indices.save(beside, format="PNG", bits=8)


def _write_overlay(pixels: Pixels, base: Path) -> None:
    with create_file(_overlay_path(base)) as beside:
        Image.fromarray(pixels).save(beside, format="JPEG", quality=90)


def _print_shares(trained: TrainedModel, counts: NDArray[np.int64], out: Path) -> None:
    """Prints for each class its color, its share of all pixels, and the images that have it."""
    print(f"labels of {len(counts)} images in {printable(str(out))}\n")
    colors = [f"#{bytes(color).hex()}" for color in trained.palette.tolist()]
    shares = [f"{share:.4f}" for share in (counts.sum(axis=0) / counts.sum()).tolist()]
    images = map(str, np.count_nonzero(counts, axis=0).tolist())
    rows = zip(trained.classes, colors, shares, images, strict=True)
    print(align_columns([("class", "color", "share", "images"), *rows], left=2), end="")


if __name__ == "__main__":
    sys.exit(main())
