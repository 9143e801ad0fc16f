"""Detection evaluation as a function: of paths, of tables, or of dicts of arrays."""

from collections.abc import Sequence
from typing import Any, Literal, TypeGuard, Unpack

from upmap.detection.arrays import ClassNames, detections_from_arrays, ground_truth_from_arrays
from upmap.detection.formats import read
from upmap.detection.formats.checks import check_scales
from upmap.detection.formats.read_options import ReadArguments
from upmap.detection.inputs import Named
from upmap.detection.tables import Detections, GroundTruth
from upmap.kernels import Implementation
from upmap.metrics.matching import match
from upmap.metrics.protocols import Protocol
from upmap.metrics.scores import Evaluation, evaluate_matches

__all__ = ["mean_average_precision"]

Arrays = Sequence[Any]  # a dict or an object of another library per image


def mean_average_precision(
    ground_truth: Named | GroundTruth | Arrays,
    detections: Named | Detections | Arrays,
    *,
    protocol: Protocol,
    classes: ClassNames | None = None,
    impl: Implementation | None = None,
    **arguments: Unpack[ReadArguments],
) -> Evaluation:
    """Evaluates detections against ground truth.

    Args:
        ground_truth: A path (VOC folder or COCO instances file), a table, or a dict per image
            with `boxes` [n, 4] xyxy, px, `labels` [n] and optionally `difficult`, `iscrowd` and
            `area` [n], px^2.
        detections: A path (folder of comp4 files or COCO results file), a table, or a dict per
            image with `boxes`, `scores` and `labels`, the images in the order of the ground truth.
            The corners in dicts are read in the protocol's own pixel convention.
        protocol: VOC2007, VOC2010, COCO, or a protocol derived from them.
        classes: For dicts: the names of integer labels.
        impl: "native" or "reference"; None selects the fastest available.
        **arguments: For paths: image_set, class_names, image_key, sizes and the other fields of
            `ReadOptions`, which says how files are read. For all: threads, the maximum number of
            threads; 0 uses all cores.

    Raises:
        InputError: If the input is wrong; names the file and line, or the image and key.
        ValueError: If the lists of dicts are of different lengths.
        TypeError: If ground truth and detections are not both paths, tables or lists of dicts, or
            an argument is for paths only.

    >>> from upmap.metrics import VOC2007
    >>> truth = [{"boxes": [[1, 1, 10, 10]], "labels": ["cat"]}]
    >>> detections = [{"boxes": [[1, 1, 10, 8]], "labels": ["cat"], "scores": [0.9]}]
    >>> round(mean_average_precision(truth, detections, protocol=VOC2007).mAP, 6)
    1.0
    """
    threads = arguments.get("threads", 0)
    if isinstance(ground_truth, Named) and isinstance(detections, Named):
        tables = read(ground_truth, detections, **arguments)
    elif "class_names" in arguments:
        raise TypeError("class_names is for paths; classes= names the integer labels of dicts")
    elif others := sorted({*arguments} - {"threads", "show_progress"}):
        raise TypeError(f"{others[0]} is for paths")
    else:
        tables = _build_tables(ground_truth, detections, protocol, classes)
    table = match(*tables, protocol, threads=threads, impl=impl)
    return evaluate_matches(table, threads=threads, impl=impl)


def _build_tables(
    ground_truth: Named | GroundTruth | Arrays,
    detections: Named | Detections | Arrays,
    protocol: Protocol,
    classes: ClassNames | None,
) -> tuple[GroundTruth, Detections]:
    if isinstance(ground_truth, GroundTruth) and isinstance(detections, Detections):
        return ground_truth, detections
    if _is_sequence(ground_truth) and _is_sequence(detections):
        if len(ground_truth) != len(detections):
            raise ValueError(
                f"expected detections of {len(ground_truth)} images, got {len(detections)}"
            )
        pixels: Literal["inclusive", "continuous"] = (
            "inclusive" if protocol.pixels == "inclusive" else "continuous"
        )
        truth = ground_truth_from_arrays(ground_truth, classes=classes, pixels=pixels)
        table = detections_from_arrays(detections, classes=classes, pixels=pixels)
        check_scales(truth, table)
        return truth, table
    types = f"{type(ground_truth).__name__} and {type(detections).__name__}"
    raise TypeError(f"expected two paths, two tables or two lists of dicts, got {types}")


def _is_sequence(value: object) -> TypeGuard[Arrays]:
    return isinstance(value, Sequence) and not isinstance(value, str)
