"""Data sets of images and label files: all that the data set `folder` reads."""

from functools import partial
from pathlib import Path

from upmap.errors import InputError
from upmap.segmentation.datasets import SegmentationDataset, open_dataset
from upmap.segmentation.folders.folder_dataset import list_splits
from upmap.segmentation.sources.samples import Pixels, Sample, Settings, Source

__all__ = ["fits_folder", "read_folder"]


def fits_folder(path: Path) -> bool:
    """Whether a source is a folder."""
    return path.is_dir()


def read_folder(path: Path, settings: Settings) -> Source:
    """Reads a folder as the data set `folder` does.

    Args:
        path: The folder.
        settings: The limit of pixels; `split_seed` in classes.json is the seed of drawn splits.

    Raises:
        InputError: See `open_dataset`.
    """
    if settings.images is not None:
        raise InputError("--images has no effect on a folder of images and labels")
    datasets = {
        split: open_dataset("folder", path, split, max_pixels=settings.max_pixels)
        for split in list_splits(path)
    }
    if not datasets:
        raise InputError("no images with labels in it; --from yolo reads labels/*.txt", path)
    first = next(iter(datasets.values()))
    splits = {split: _list_samples(dataset) for split, dataset in datasets.items()}
    return Source(first.classes, splits, first.palette)


def _list_samples(dataset: SegmentationDataset) -> list[Sample]:
    return [
        Sample(name, image, partial(_read_label, dataset, i))
        for i, (name, image) in enumerate(zip(dataset.names, dataset.images, strict=True))
    ]


def _read_label(dataset: SegmentationDataset, item: int, size: tuple[int, int]) -> Pixels:
    return dataset.read_item(item)[1]
