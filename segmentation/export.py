"""Exports a trained model to ONNX: `python -m segmentation.export CHECKPOINT FILE.onnx`.

Before the file gets its name, onnxruntime runs it, and must get the same logits as the model.
"""

import json
import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from torch import Tensor, nn

from upmap.console import Parser, describe_command, run
from upmap.errors import InputError, printable
from upmap.extras import require_packages
from upmap.files import check_outputs, create_file, is_stdout
from upmap.options import (
    Flag,
    Positional,
    Range,
    Threads,
    add_flags,
    parse_options,
    validate_fields,
)
from upmap.segmentation.device import limit_threads
from upmap.segmentation.evaluation import as_input
from upmap.segmentation.inference import TrainedModel, load_model
from upmap.segmentation.tiling import Size

__all__ = ["ExportMismatchError", "ExportOptions", "export_onnx", "main"]

PROGRAM = "segmentation.export"
OPSET = 20  # the first whose GridSample equals torch's in every mode
EXAMPLE_SIZE = (45, 62)  # height and width, px, of the images that a model is traced with
TOLERANCE = 1e-4  # of the largest logit
VERIFIED_SHAPES = ((1, (45, 62)), (3, (96, 130)), (2, (61, 37)))  # batch and size that are compared
EXAMPLES = """\
examples:
  %(prog)s runs/train/best.pt model.onnx
  %(prog)s runs/train/best.pt model.onnx --size 360,480

the model takes "images", float32 [B, 3, H, W], RGB, 0 to 255, at --factor of the training times the
images' size, and gives "logits", float32 [B, K, H, W]; the file's metadata has classes, palette and
factor as JSON.
exit status: 0 good; 1 cannot be exported, or onnxruntime says otherwise; 2 misused or unreadable
input."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportOptions:
    """What is exported, and for which images.

    Attributes:
        checkpoint: A checkpoint of segmentation.train, such as best.pt.
        out: The file to write, such as model.onnx; - is stdout.
        size: Height and width of the images, px; default: any.
        tolerance: Maximum difference between logits, as a share of the largest logit.
        threads: Maximum number of threads; 0 leaves it to torch and onnxruntime.
    """

    checkpoint: Annotated[Path, Positional("CHECKPOINT")]
    out: Annotated[Path, Positional("FILE")]
    size: Annotated[tuple[int, int] | None, Range(1, 16384), Flag(metavar="HEIGHT,WIDTH")] = None
    tolerance: Annotated[float, Range(0, 1, above=True, below=True)] = TOLERANCE
    threads: Threads = 0

    def __post_init__(self) -> None:
        validate_fields(self)


class ExportMismatchError(RuntimeError):
    """A model cannot be exported, or its ONNX file gives other logits."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the program; returns its exit status."""
    parser = Parser(
        prog=describe_command(f"upmap.{PROGRAM}"),
        description="Writes a trained model as an ONNX file that onnxruntime agrees with.",
        epilog=EXAMPLES,
    )
    add_flags(parser, ExportOptions)
    return run(
        lambda: _program(parse_options(ExportOptions, parser, arguments)), ExportMismatchError
    )


def _program(options: ExportOptions) -> int:
    """Exports, and prints how far the file's logits are from the model's; returns 0."""
    limit_threads(options.threads)
    out = options.out
    if out.is_file() and not is_stdout(out):
        raise InputError("exists already", out)
    check_outputs({"FILE": out}, [options.checkpoint])
    trained = load_model(options.checkpoint)
    difference = export_onnx(
        trained, out, size=options.size, tolerance=options.tolerance, threads=options.threads
    )
    line = f"{out}: onnxruntime's logits differ by at most {difference:.1e} of the largest"
    print(printable(line), file=sys.stderr if is_stdout(out) else sys.stdout)
    return 0


def export_onnx(
    trained: TrainedModel,
    path: Path,
    *,
    size: Size | None = None,
    tolerance: float = TOLERANCE,
    threads: int = 0,
) -> float:
    """Writes an ONNX file, after onnxruntime has got the same logits from it.

    Args:
        trained: The model.
        path: The file.
        size: Height and width of the images, px; None for any.
        tolerance: The largest difference of logits, as a share of the largest logit.
        threads: Maximum number of threads that onnxruntime uses; 0 leaves it to onnxruntime.

    Returns:
        The largest difference between logits, as a share of the largest logit.

    Raises:
        InputError: If the file cannot be written, or onnx or onnxruntime are not installed.
        ExportMismatchError: If torch cannot export the model for the sizes that are asked for, or
            onnxruntime cannot run the file, or gets other logits. Which models can be exported for
            any size depends on torch's release, so there is no list of them.
    """
    require_packages("export", "onnx", "onnxruntime", "onnxscript")
    module = PixelInputModel(trained.model).eval()
    program = _trace(module, size)
    program.model.metadata_props.update(
        {
            "classes": json.dumps(trained.classes),
            "palette": json.dumps(trained.palette.tolist()),
            "factor": json.dumps(trained.factor),
            "upsampling": trained.upsampling,
        }
    )
    with create_file(path) as beside:
        program.save(beside)
        difference = _largest_difference(module, beside, size, threads)
        if not difference <= tolerance:
            raise ExportMismatchError(
                f"onnxruntime's logits differ by {difference:.1e} of the largest, more than "
                f"{tolerance:g}" + _advice(size)
            )
    return difference


class PixelInputModel(nn.Module):
    """A model that takes pixels as files store them: RGB, 0 to 255."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        result: Tensor = self.model(as_input(images))
        return result


def _trace(module: nn.Module, size: Size | None) -> Any:
    """The ONNX program, for a batch of any length and, unless `size` is given, any size."""
    images = torch.zeros(2, 3, *(size or EXAMPLE_SIZE))
    free = (0,) if size else (0, 2, 3)
    shapes = {"images": {axis: torch.export.Dim.DYNAMIC for axis in free}}
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # torch warns of its own deprecations
            return torch.onnx.export(
                module,
                (images,),
                input_names=["images"],
                output_names=["logits"],
                opset_version=OPSET,
                dynamic_shapes=shapes,
                dynamo=True,
                verbose=False,
            )
    except Exception as error:  # the exporter raises many types
        raise ExportMismatchError(
            f"torch cannot export it ({type(error).__name__})" + _advice(size)
        ) from error


def _largest_difference(module: nn.Module, path: Path, size: Size | None, threads: int) -> float:
    """The largest difference of onnxruntime's logits, as a share of the largest logit.

    Raises:
        ExportMismatchError: If onnxruntime cannot run the file for a size, or gives another shape.
    """
    generator = torch.Generator().manual_seed(0)
    shares = []
    for batch, sides in VERIFIED_SHAPES:
        images = torch.rand(batch, 3, *(size or sides), generator=generator) * 255
        with torch.no_grad():
            expected = module(images).numpy()
        logits = _run_onnx(path, images, size, threads)
        if logits.shape != expected.shape:
            shapes = f"{list(logits.shape)}, not {list(expected.shape)}"
            raise ExportMismatchError(f"onnxruntime's logits are {shapes}" + _advice(size))
        largest = float(np.abs(expected).max()) or 1.0  # logits that are all 0 must be 0 again
        with np.errstate(invalid="ignore"):  # infinity - infinity is NaN, above any tolerance
            shares.append(float(np.abs(logits - expected).max() / largest))
    return float(np.max(shares))  # unlike Python's max, NaN if one is NaN


def _run_onnx(path: Path, images: Tensor, size: Size | None, threads: int) -> Any:
    """The logits that onnxruntime computes for images, float32 [B, 3, H, W]."""
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = threads
    try:
        session = onnxruntime.InferenceSession(
            str(path), settings, providers=["CPUExecutionProvider"]
        )
        return session.run(["logits"], {"images": images.numpy()})[0]
    except Exception as error:  # onnxruntime's exceptions have no common base
        sides = " x ".join(map(str, images.shape[2:]))
        raise ExportMismatchError(
            f"onnxruntime cannot run it for images of {sides} ({type(error).__name__})"
            + _advice(size)
        ) from error


def _advice(size: Size | None) -> str:
    return "" if size else "; try one size, --size HEIGHT,WIDTH"


if __name__ == "__main__":
    sys.exit(main())
