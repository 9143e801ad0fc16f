"""Exports a trained model to ONNX: `python -m segmentation.export CHECKPOINT FILE.onnx`.

Before the file gets its name, onnxruntime runs it, and must get the same logits as the model.
"""

import json
import sys
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from torch import Tensor, nn

from upmap.console import Parser, describe_command, run
from upmap.errors import InputError, printable
from upmap.extras import require_packages
from upmap.files import check_new_folder, check_outputs, create_file, create_folder, is_stdout
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

__all__ = ["ExportMismatchError", "ExportOptions", "export_onnx", "export_triton", "main"]

PROGRAM = "segmentation.export"
OPSET = 20  # the first whose GridSample equals torch's in every mode
EXAMPLE_SIZE = (45, 62)  # height and width, px, of the images that a model is traced with
TOLERANCE = 1e-4  # of the largest logit
VERIFIED_SHAPES = ((1, (45, 62)), (3, (96, 130)), (2, (61, 37)))  # batch and size that are compared
TRITON_VERSION = "1"  # the folder of the model's first version
TRITON_CONFIG = """\
name: {name}
backend: "onnxruntime"
max_batch_size: 16
input [ {{ name: "images" data_type: {input_type} dims: [ 3, {sides} ] }} ]
output [ {{ name: "{output}" data_type: {output_type} dims: [ {output_dims} ] }} ]
dynamic_batching {{ max_queue_delay_microseconds: 5000 }}
{parameters}"""
EXAMPLES = """\
examples:
  %(prog)s runs/train/best.pt model.onnx
  %(prog)s runs/train/best.pt model.onnx --size 360,480
  a quarter of the bytes in, 1 for 4 K out; a folder for Triton Inference Server
    %(prog)s runs/train/best.pt model.onnx --uint8-input --argmax
    %(prog)s runs/train/best.pt --triton models/shapes --uint8-input --argmax

the model takes "images", float32 or uint8 [B, 3, H, W], RGB, 0 to 255, at --factor of the training
times the images' size, and gives "logits", float32 [B, K, H, W], or "labels", uint8 [B, H, W]; the
file's metadata has classes, palette and factor as JSON.
exit status: 0 good; 1 cannot be exported, or onnxruntime says otherwise; 2 misused or unreadable
input."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportOptions:
    """What is exported, and for which images.

    Attributes:
        checkpoint: A checkpoint of segmentation.train, such as best.pt.
        out: The file to write, such as model.onnx; - is stdout.
        triton: A new folder in a model repository of Triton Inference Server, in place of FILE.
        uint8_input: Take images as uint8 in place of float32.
        argmax: Give the class of each pixel as uint8 in place of the logits of all classes.
        size: Height and width of the images, px; default: any.
        tolerance: Maximum difference between logits, as a share of the largest logit.
        threads: Maximum number of threads; 0 leaves it to torch and onnxruntime.
    """

    checkpoint: Annotated[Path, Positional("CHECKPOINT")]
    out: Annotated[Path | None, Positional("FILE")] = None
    triton: Annotated[Path | None, Flag(metavar="DIR")] = None
    uint8_input: bool = False
    argmax: bool = False
    size: Annotated[tuple[int, int] | None, Range(1, 16384), Flag(metavar="HEIGHT,WIDTH")] = None
    tolerance: Annotated[float, Range(0, 1, above=True, below=True)] = TOLERANCE
    threads: Threads = 0

    def __post_init__(self) -> None:
        validate_fields(self)
        if (self.out is None) == (self.triton is None):
            raise ValueError("expected FILE, or --triton DIR in its place")


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
    if out is not None:
        if out.is_file() and not is_stdout(out):
            raise InputError("exists already", out)
        check_outputs({"FILE": out}, [options.checkpoint])
    elif options.triton is not None:
        check_new_folder(options.triton)
    trained = load_model(options.checkpoint)
    settings: dict[str, Any] = {
        name: getattr(options, name)
        for name in ("size", "tolerance", "threads", "uint8_input", "argmax")
    }
    if out is not None:
        difference = export_onnx(trained, out, **settings)
    elif options.triton is not None:
        difference = export_triton(trained, options.triton, **settings)
    place = options.triton if out is None else out
    line = f"{place}: onnxruntime's logits differ by at most {difference:.1e} of the largest"
    print(printable(line), file=sys.stderr if out is not None and is_stdout(out) else sys.stdout)
    return 0


def export_onnx(
    trained: TrainedModel,
    path: Path,
    *,
    size: Size | None = None,
    tolerance: float = TOLERANCE,
    threads: int = 0,
    uint8_input: bool = False,
    argmax: bool = False,
) -> float:
    """Writes an ONNX file, after onnxruntime has got the same logits from it.

    Args:
        trained: The model.
        path: The file.
        size: Height and width of the images, px; None for any.
        tolerance: The largest difference of logits, as a share of the largest logit.
        threads: Maximum number of threads that onnxruntime uses; 0 leaves it to onnxruntime.
        uint8_input: Whether the file takes uint8 in place of float32.
        argmax: Whether it gives the class of each pixel, uint8, in place of logits.

    Returns:
        The largest difference between logits, as a share of the largest logit; of classes, how far
        their logit lies below the largest of their pixel.

    Raises:
        InputError: If the file cannot be written, or onnx or onnxruntime are not installed.
        ExportMismatchError: If torch cannot export the model for the sizes that are asked for, or
            onnxruntime cannot run the file, or gets other logits. Which models can be exported for
            any size depends on torch's release, so there is no list of them.
    """
    require_packages("export", "onnx", "onnxruntime", "onnxscript")
    module = PixelInputModel(trained.model, argmax=argmax).eval()
    dtype = torch.uint8 if uint8_input else torch.float32
    program = _trace(module, size, dtype)
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
        difference = _largest_difference(module, beside, size, threads, dtype)
        if not difference <= tolerance:
            raise ExportMismatchError(
                f"onnxruntime's logits differ by {difference:.1e} of the largest, more than "
                f"{tolerance:g}" + _advice(size)
            )
    return difference


def export_triton(trained: TrainedModel, folder: Path, **settings: Any) -> float:
    """Writes a folder for a model repository of Triton Inference Server, with dynamic batching.

    Source: the server's documentation, "Model Repository" and "Model Configuration".

    Args:
        trained: The model.
        folder: The folder; its name is the model's.
        settings: Arguments of `export_onnx`.

    Returns:
        See `export_onnx`.

    Raises:
        InputError: See `export_onnx`; or if the folder exists and is not empty.
        ExportMismatchError: See `export_onnx`.
    """
    with create_folder(folder) as beside:
        (beside / TRITON_VERSION).mkdir()
        difference = export_onnx(trained, beside / TRITON_VERSION / "model.onnx", **settings)
        name = folder.resolve().name
        (beside / "config.pbtxt").write_text(_format_config(trained, name, settings), "utf-8")
    return difference


class PixelInputModel(nn.Module):
    """A model that takes pixels as files store them: RGB, 0 to 255."""

    def __init__(self, model: nn.Module, *, argmax: bool = False) -> None:
        super().__init__()
        self.model = model
        self.argmax = argmax

    @property
    def output(self) -> str:
        """The name of the output."""
        return "labels" if self.argmax else "logits"

    def forward(self, images: Tensor) -> Tensor:
        result: Tensor = self.model(as_input(images))
        return result.argmax(1).to(torch.uint8) if self.argmax else result


def _format_config(trained: TrainedModel, name: str, settings: Mapping[str, Any]) -> str:
    """The configuration of a model for Triton, in Protocol Buffers' text format."""
    sides = ", ".join(map(str, settings.get("size") or (-1, -1)))
    is_argmax = settings.get("argmax", False)
    parameters = {
        "classes": json.dumps(trained.classes),
        "palette": json.dumps(trained.palette.tolist()),
        "factor": json.dumps(trained.factor),
    }
    return TRITON_CONFIG.format(
        name=json.dumps(name),
        input_type="TYPE_UINT8" if settings.get("uint8_input", False) else "TYPE_FP32",
        sides=sides,
        output="labels" if is_argmax else "logits",
        output_type="TYPE_UINT8" if is_argmax else "TYPE_FP32",
        output_dims=sides if is_argmax else f"{len(trained.classes)}, {sides}",
        parameters="".join(
            # JSON's escapes of quotes, backslashes and other characters are the text format's, too.
            f'parameters {{ key: "{key}" value {{ string_value: {json.dumps(value)} }} }}\n'
            for key, value in parameters.items()
        ),
    )


def _trace(module: PixelInputModel, size: Size | None, dtype: torch.dtype) -> Any:
    """The ONNX program, for a batch of any length and, unless `size` is given, any size."""
    images = torch.zeros(2, 3, *(size or EXAMPLE_SIZE), dtype=dtype)
    free = (0,) if size else (0, 2, 3)
    shapes = {"images": {axis: torch.export.Dim.DYNAMIC for axis in free}}
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # torch warns of its own deprecations
            return torch.onnx.export(
                module,
                (images,),
                input_names=["images"],
                output_names=[module.output],
                opset_version=OPSET,
                dynamic_shapes=shapes,
                dynamo=True,
                verbose=False,
            )
    except Exception as error:  # the exporter raises many types
        raise ExportMismatchError(
            f"torch cannot export it ({type(error).__name__})" + _advice(size)
        ) from error


def _largest_difference(
    module: PixelInputModel, path: Path, size: Size | None, threads: int, dtype: torch.dtype
) -> float:
    """The largest difference of onnxruntime's logits, as a share of the largest logit.

    Raises:
        ExportMismatchError: If onnxruntime cannot run the file for a size, or gives another shape.
    """
    generator = torch.Generator().manual_seed(0)
    shares = []
    for batch, sides in VERIFIED_SHAPES:
        images = (torch.rand(batch, 3, *(size or sides), generator=generator) * 255).to(dtype)
        with torch.no_grad():
            expected = module.model(as_input(images)).numpy()
        result = _run_onnx(path, images, size, threads)
        shape = (batch, *expected.shape[2:]) if module.argmax else expected.shape
        if result.shape != shape:
            shapes = f"{list(result.shape)}, not {list(shape)}"
            raise ExportMismatchError(f"onnxruntime's {module.output} are {shapes}" + _advice(size))
        largest = float(np.abs(expected).max()) or 1.0  # logits that are all 0 must be 0 again
        with np.errstate(invalid="ignore"):  # infinity - infinity is NaN, above any tolerance
            difference = _compare(expected, result, is_labels=module.argmax)
            shares.append(float(difference / largest))
    return float(np.max(shares))  # unlike Python's max, NaN if one is NaN


def _compare(expected: Any, result: Any, *, is_labels: bool) -> Any:
    """The largest difference of logits [B, K, H, W] to logits, or to those of labels [B, H, W]."""
    if not is_labels:
        return np.abs(result - expected).max()
    if result.max() >= expected.shape[1]:
        return np.nan
    chosen = np.take_along_axis(expected, result[:, None].astype(np.int64), 1)
    return (expected.max(1, keepdims=True) - chosen).max()


def _run_onnx(path: Path, images: Tensor, size: Size | None, threads: int) -> Any:
    """The output that onnxruntime computes for images, [B, 3, H, W]."""
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = threads
    try:
        session = onnxruntime.InferenceSession(
            str(path), settings, providers=["CPUExecutionProvider"]
        )
        return session.run(None, {"images": images.numpy()})[0]
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
