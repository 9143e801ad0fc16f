"""Options of a training, which every checkpoint holds."""

from dataclasses import dataclass, field
from typing import Annotated

from upmap.options import Choices, Flag, Range, Threads, validate_fields
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
        train: The split for training.
        val: The split whose mIoU selects the best epoch.
        test: The split that the best epoch is scored on; empty scores it on the val split.
        out: A new folder for checkpoints and the history.
        init: A checkpoint whose model the training starts from, for fine-tuning; options of the
            model are those of the file, classes those of the data set.
        epochs: Maximum number of passes over the training split.
        patience: Number of epochs without a higher mIoU on the val split after which the training
            ends; 0 never does.
        batch_size: Images per step, over all processes and accumulated parts.
        accumulate: Parts that a batch is computed in, one after the other.
        factor: Scale of images at the model's input; scores are at the labels' size.
        full_labels: Compute the loss at the labels' size instead of the model's.
        ema: Decay of the averaged weights that are evaluated; 0 evaluates the weights themselves.
        seed: Seed of the weights, of the order of the images and of their augmentation.
        device: cpu, cuda, cuda:1 and so on, mps, or auto: cuda where there is one.
        channels_last: Keep the channels of a pixel together in memory.
        compile: Run the model through torch.compile.
        workers: Processes that load images; 0 loads them in the main process. Default: 0 on a CPU,
            and on a GPU as many as there are other cores, at most 8.
        threads: Maximum number of threads of each process; 0 leaves it to torch.
        max_skipped: Maximum number of consecutive steps skipped for a gradient that is not finite.
        resume: Continue from last.pt in the folder of --out.
        tensorboard: Write the history for TensorBoard, too.
        max_pixels: Maximum number of pixels of an image; larger ones are refused.
        model: The model.
        loss: The loss.
        augmentation: The views.
        optimization: The steps.
    """

    dataset: Annotated[str, Choices(DATASETS)] = "shapes"
    root: Annotated[str | None, Flag(metavar="DIR")] = None
    train: str = "train"
    val: str = "val"
    test: str = "test"
    out: Annotated[str, Flag(metavar="DIR")] = "runs/train"
    init: Annotated[str | None, Flag(metavar="FILE")] = None
    epochs: Annotated[int, Range(1, 1_000_000)] = 20
    patience: Annotated[int, Range(0, 1_000_000)] = 0
    batch_size: Annotated[int, Range(1, 65536)] = 8
    accumulate: Annotated[int, Range(1, 65536)] = 1
    factor: Annotated[float, Range(0, 4, above=True)] = 1.0
    full_labels: bool = False
    ema: Annotated[float, Range(0, 1, below=True)] = 0.0
    seed: Annotated[int, Range(0, MAX_SEED)] = 0
    device: str = "auto"
    channels_last: bool = True
    compile: bool = False
    workers: Annotated[int | None, Range(0, 256)] = None
    threads: Threads = 0
    max_skipped: Annotated[int, Range(1, 1_000_000)] = 5
    resume: bool = False
    tensorboard: bool = False
    max_pixels: Annotated[int, Range(1, LARGEST_IMAGE)] = MAX_PIXELS
    model: ModelOptions = field(default_factory=ModelOptions)
    loss: LossOptions = field(default_factory=LossOptions)
    augmentation: AugmentationOptions = field(default_factory=AugmentationOptions)
    optimization: OptimizationOptions = field(default_factory=OptimizationOptions)

    def __post_init__(self) -> None:
        validate_fields(self)
