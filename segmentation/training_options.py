"""Options of a training, which every checkpoint holds."""

from dataclasses import dataclass, field
from typing import Annotated

from upmap.options import Choices, Range, Threads, validate_fields
from upmap.segmentation.augmentation import AugmentationOptions
from upmap.segmentation.datasets import DATASETS, LARGEST_IMAGE, MAX_PIXELS
from upmap.segmentation.losses import LossOptions
from upmap.segmentation.models import ModelOptions
from upmap.segmentation.optimization import OptimizationOptions
from upmap.segmentation.seeds import MAX_SEED

__all__ = ["TrainOptions"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainOptions:
    """All that a training is made of; saved with every checkpoint.

    Attributes:
        dataset: The data set.
        root: The folder of the data set; shapes needs none.
        train: The split that is learned from.
        val: The split that the best epoch is chosen by.
        test: The split that the best epoch is reported on, or nothing.
        out: A new folder for what is written.
        epochs: How often every image is seen.
        batch_size: Images per step, over all processes and accumulated parts.
        accumulate: Parts that a batch is computed in.
        factor: Of the size that the model sees images at; scores are at the labels' size.
        full_labels: Whether the loss is taken at the labels' size, too, not at the model's.
        ema: Decay of the averaged weights that are evaluated; 0 evaluates the weights themselves.
        seed: Of the weights, the order and the views.
        device: cuda, cpu, or auto.
        channels_last: Whether tensors keep the channels of a pixel together.
        compile: Whether the model runs through torch.compile.
        workers: Processes that load images.
        threads: Maximum number of threads of each process; 0 leaves it to torch.
        patience: Steps in a row that may be skipped for a gradient that is not finite.
        resume: Whether to go on from last.pt in `out`.
        tensorboard: Whether to write the history for TensorBoard, too.
        max_pixels: Images and labels of more pixels are refused.
        model: The model.
        loss: The loss.
        augmentation: The views.
        optimization: The steps.
    """

    dataset: Annotated[str, Choices(DATASETS)] = "shapes"
    root: str | None = None
    train: str = "train"
    val: str = "val"
    test: str = "test"
    out: str = "runs/train"
    epochs: Annotated[int, Range(1, 1_000_000)] = 20
    batch_size: Annotated[int, Range(1, 65536)] = 8
    accumulate: Annotated[int, Range(1, 65536)] = 1
    factor: Annotated[float, Range(0, 4, above=True)] = 1.0
    full_labels: bool = False
    ema: Annotated[float, Range(0, 1, below=True)] = 0.0
    seed: Annotated[int, Range(0, MAX_SEED)] = 0
    device: str = "auto"
    channels_last: bool = True
    compile: bool = False
    workers: Annotated[int, Range(0, 256)] = 0
    threads: Threads = 0
    patience: Annotated[int, Range(1, 1_000_000)] = 5
    resume: bool = False
    tensorboard: bool = False
    max_pixels: Annotated[int, Range(1, LARGEST_IMAGE)] = MAX_PIXELS
    model: ModelOptions = field(default_factory=ModelOptions)
    loss: LossOptions = field(default_factory=LossOptions)
    augmentation: AugmentationOptions = field(default_factory=AugmentationOptions)
    optimization: OptimizationOptions = field(default_factory=OptimizationOptions)

    def __post_init__(self) -> None:
        validate_fields(self)
