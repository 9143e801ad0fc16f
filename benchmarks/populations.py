"""Populations of images without end, from which match tables are drawn: nothing is matched.

Images differ in how many objects they have (gamma) and in how hard they are (normal), which moves
the scores of all their detections and so correlates what the classes get. Of the objects of a class
a share is found, with scores that lie above those of its false detections by the class's own
distance. Rates are those of VOC2007 test (2.6 objects an image over 20 classes alike) and of COCO
val2017 (7 over 80 classes by Zipf's law).
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from upmap.metrics import COCO, VOC2007, VOC2010, MatchTable, Protocol
from upmap.metrics.protocols.protocol import AreaRange

__all__ = ["COCO_LIKE", "POPULATIONS", "Population", "draw_tables"]

Floats = NDArray[np.float64]

SHARE_FOUND = (0.8, 0.1, 0.3, 0.98)  # share of the objects: mean, deviation, limits; over classes
DISTANCE = (1.2, 0.4)  # of true from false scores, in deviations; over classes
HARDNESS = 0.5  # the deviation of what images add to scores
FALSE_SHARE = 0.3  # of it, the other way round, in the scores of false detections
STRAY = 0.02  # false detections an image and class beyond one for each object
IOU = (4.0, 1.5)  # of finds: 0.5 + 0.5 beta
PARAMETERS = 20_260  # the seed of what classes are like

# Areas and caps cost time and change nothing here: no image has 100 detections of a class.
COCO_LIKE = replace(
    COCO, area_ranges=(AreaRange("all", 0, 1e10),), max_dets=(100,), metrics=COCO.metrics[:3]
)


@dataclass(frozen=True, slots=True, eq=False)
class Population:
    """What test sets are drawn from.

    Attributes:
        protocols: Under which each test set is evaluated.
        rate: float64 [K], the mean number of objects of each class on an image.
    """

    protocols: tuple[Protocol, ...]
    rate: Floats


POPULATIONS = {
    "voc": Population((VOC2010, VOC2007), np.full(20, 0.13)),
    "coco": Population((COCO_LIKE,), 7 / np.arange(1, 81) / np.sum(1 / np.arange(1, 81))),
}


def draw_tables(
    population: Population, images: int, generator: Generator, *, detectors: int = 1
) -> list[MatchTable]:
    """The match tables of detectors, alike in quality, on one test set.

    Args:
        population: What it is drawn from.
        images: The number of images.
        generator: Of random numbers.
        detectors: How many; they differ in what they find and in its scores.
    """
    crowding = generator.gamma(1, 1, images)
    hardness = HARDNESS * generator.standard_normal(images)
    objects = _draw_places(crowding, population.rate, generator)
    tables = []
    for _ in range(detectors):
        detections = _draw_detections(population, objects, (crowding, hardness), generator)
        tables.append(_match_table(population, images, objects, detections))
    return tables


@dataclass(frozen=True, slots=True, eq=False)
class _Places:
    """Images and classes, int64 [n] each."""

    image: NDArray[np.int64]
    label: NDArray[np.int64]


def _draw_places(crowding: Floats, rate: Floats, generator: Generator) -> _Places:
    counts = generator.poisson(crowding[:, np.newaxis] * rate)
    image, label = np.nonzero(counts)
    repeats = counts[image, label]
    return _Places(np.repeat(image, repeats), np.repeat(label, repeats))


def _draw_detections(
    population: Population,
    objects: _Places,
    images: tuple[Floats, Floats],
    generator: Generator,
) -> tuple[_Places, Floats, Floats]:
    """Where detections lie, their scores, and their IoU: 0 for false ones."""
    crowding, hardness = images
    share, distance = _class_parameters(len(population.rate))
    is_found = generator.random(len(objects.label)) < share[objects.label]
    image, label = objects.image[is_found], objects.label[is_found]
    true_score = distance[label] + hardness[image] + generator.standard_normal(len(image))
    iou = 0.5 + 0.5 * generator.beta(*IOU, len(image))
    false = _draw_places(crowding, population.rate + STRAY, generator)
    noise = generator.standard_normal(len(false.image))
    false_score = noise - FALSE_SHARE * hardness[false.image]
    return (
        _Places(np.append(image, false.image), np.append(label, false.label)),
        np.append(true_score, false_score),
        np.append(iou, np.zeros(len(noise))),
    )


def _class_parameters(K: int) -> tuple[Floats, Floats]:
    """The share of objects that is found, and the distance of scores, of each class."""
    generator = np.random.default_rng(PARAMETERS)
    mean, deviation, low, high = SHARE_FOUND
    distance = DISTANCE[0] + DISTANCE[1] * generator.standard_normal(K)
    return np.clip(mean + deviation * generator.standard_normal(K), low, high), distance


def _match_table(
    population: Population,
    images: int,
    objects: _Places,
    detections: tuple[_Places, Floats, Floats],
) -> MatchTable:
    places, score, iou = detections
    protocol, K = population.protocols[0], len(population.rate)
    order = np.lexsort((-score, places.label))
    image, label = places.image[order].astype(np.int32), places.label[order].astype(np.int32)
    by_class = np.lexsort((objects.image, objects.label))
    thresholds = np.array(protocol.iou_thresholds)
    return MatchTable(
        image=image,
        label=label,
        score=score[order],
        row=order,
        rank=_ranks(image, label),
        status=(iou[order] >= thresholds[:, np.newaxis]).astype(np.uint8)[np.newaxis],
        start=np.searchsorted(label, np.arange(K + 1)),
        positives=np.bincount(objects.label, minlength=K)[:, np.newaxis],
        positive_image=objects.image[by_class].astype(np.int32),
        positive_label=objects.label[by_class].astype(np.int32),
        positive_areas=np.ones(len(by_class), np.uint64),
        protocol=protocol,
        images=tuple(range(images)),
        classes=tuple(f"class {k:02d}" for k in range(K)),
    )


def _ranks(image: NDArray[np.int32], label: NDArray[np.int32]) -> NDArray[np.int32]:
    """The place of each detection among those of its image and class, which stand by score."""
    order = np.lexsort((np.arange(len(image)), image, label))
    is_new = np.append(True, (np.diff(image[order]) != 0) | (np.diff(label[order]) != 0))
    first = np.maximum.accumulate(np.where(is_new[: len(order)], np.arange(len(order)), 0))
    rank = np.empty(len(order), np.int32)
    rank[order] = np.arange(len(order)) - first
    return rank
