"""Detections and targets of other libraries as dicts of arrays; none of the libraries is imported.

What an object is, its attributes tell: `supervision.Detections`, ultralytics' `Results`,
detectron2's `Instances`, mmdet's `InstanceData` and `DetDataSample`, arrays [n, 6], the dicts of
torchvision and Hugging Face, and the targets of DETR and Hugging Face, whose boxes are in units of
the image.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from upmap.errors import InputError

__all__ = ["ImageArrays", "array_from", "arrays_from_objects"]

ImageArrays = Mapping[str, Any]
Role = Literal["ground truth", "detections"]
LARGEST_RELATIVE = 1.01  # a side's end in units of the image, with what rounding adds
PREFIXES = {"ground truth": "gt", "detections": "pred"}


def arrays_from_objects(
    images: Sequence[Any], role: Role, *, with_names: bool
) -> Sequence[ImageArrays]:
    """A dict of arrays, as `detections_from_arrays` takes them, for the object of each image.

    Args:
        images: An object per image; dicts of arrays are returned as they are.
        role: Which of an object's boxes are read, where it may have both.
        with_names: Whether labels are class names, where an object has them, in place of numbers.

    Raises:
        InputError: If an object is none that is known, or lacks scores; names the image.
    """
    if all(type(image) is dict and _is_plain(image) for image in images):
        return images
    arrays = [_arrays(image, i, role, with_names) for i, image in enumerate(images)]
    targets = [image for image in arrays if "orig_size" in image]
    if role == "ground truth" and targets and all(map(_is_relative, targets)):
        return [_in_pixels(image, i) for i, image in enumerate(arrays)]
    return arrays


def array_from(values: Any) -> NDArray[Any]:
    """A numpy array of a tensor on any device, an array or a list."""
    if hasattr(values, "detach"):
        values = values.detach().cpu()
        try:
            return np.asarray(values.numpy())
        except TypeError:  # bfloat16, which numpy does not have
            return np.asarray(values.double().numpy())
    return np.asarray(values)


def _is_plain(image: ImageArrays) -> bool:
    """Whether a dict is of the form of torchvision's, with corners."""
    is_marked = "orig_size" in image or "class_labels" in image or "instances" in image
    return not is_marked and not hasattr(image.get("boxes"), "format")


def _arrays(image: Any, index: int, role: Role, with_names: bool) -> ImageArrays:
    """The dict of arrays of one image's object."""
    image = _inner(image, role)
    if isinstance(image, Mapping):
        return _arrays_of_dict(image, index)
    if hasattr(image, "xyxy") and hasattr(image, "class_id"):
        return _arrays_of_supervision(image, index, role, with_names)
    if hasattr(image, "orig_shape") and hasattr(image, "names"):
        return _arrays_of_ultralytics(image, index, with_names)
    prefix = PREFIXES[role]
    if hasattr(image, f"{prefix}_boxes") and hasattr(image, f"{prefix}_classes"):
        arrays = {"boxes": getattr(image, f"{prefix}_boxes").tensor}
        return arrays | _attributes(image, labels=f"{prefix}_classes", scores="scores")
    if hasattr(image, "bboxes") and hasattr(image, "labels"):
        boxes = getattr(image.bboxes, "tensor", image.bboxes)
        return {"boxes": boxes} | _attributes(image, labels="labels", scores="scores")
    if role == "detections" and (hasattr(image, "dtype") or isinstance(image, list | tuple)):
        return _arrays_of_rows(image, index)
    raise InputError(f"image {index} must be a dict of arrays, not {type(image).__name__}")


def _inner(image: Any, role: Role) -> Any:
    """What holds the boxes: detectron2 and mmdet wrap it, in dicts or in objects."""
    for name in (f"{PREFIXES[role]}_instances", "instances"):
        if isinstance(image, Mapping) and name in image:
            return image[name]
        if hasattr(image, name):
            return getattr(image, name)
    return image


def _arrays_of_dict(image: ImageArrays, index: int) -> ImageArrays:
    """Dicts of arrays, also with the keys of mmdet and of Hugging Face's targets."""
    arrays = dict(image)
    for other, name in (("bboxes", "boxes"), ("class_labels", "labels")):
        if other in arrays and name not in arrays:
            arrays[name] = arrays.pop(other)
    kind = str(getattr(arrays.get("boxes"), "format", "XYXY")).rpartition(".")[2].upper()
    if kind != "XYXY":  # torchvision's BoundingBoxes
        arrays["boxes"] = _corners(array_from(arrays["boxes"]), kind, index)
    return arrays


def _arrays_of_supervision(image: Any, index: int, role: Role, with_names: bool) -> ImageArrays:
    names = (getattr(image, "data", None) or {}).get("class_name")
    labels = names if names is not None and (with_names or image.class_id is None) else None
    if labels is None:
        labels = image.class_id
    count = len(image.xyxy)
    if labels is None and count:
        raise InputError(f"image {index}: the detections have no class_id")
    arrays = {"boxes": image.xyxy, "labels": [] if labels is None else list(labels)}
    if image.confidence is not None:
        return arrays | {"scores": image.confidence}
    if role == "detections" and count:
        raise InputError(f"image {index}: the detections have no confidence")
    return arrays | ({"scores": []} if role == "detections" else {})


def _arrays_of_ultralytics(image: Any, index: int, with_names: bool) -> ImageArrays:
    boxes = image.boxes
    if boxes is None:
        kind = "oriented boxes" if getattr(image, "obb", None) is not None else "no boxes"
        raise InputError(
            f"image {index}: the results have {kind}; boxes with sides along the axes are evaluated"
        )
    labels: Any = array_from(boxes.cls)
    if with_names and image.names:
        labels = [_class_name(image.names, number, index) for number in labels.tolist()]
    return {"boxes": boxes.xyxy, "scores": boxes.conf, "labels": labels}


def _class_name(names: Any, number: float, index: int) -> str:
    try:
        return str(names[int(number)])
    except (KeyError, IndexError, ValueError, OverflowError):
        raise InputError(f"image {index}: label {number:g} has no name in names") from None


def _arrays_of_rows(rows: Any, index: int) -> ImageArrays:
    """Rows x1, y1, x2, y2, score, class, as detectors of PyTorch have them after suppression."""
    try:
        values = array_from(rows).astype(np.float64)
    except (TypeError, ValueError):
        raise InputError(f"image {index} must be a dict of arrays, or an array [n, 6]") from None
    if values.size == 0:
        values = values.reshape(0, 6)
    if values.ndim != 2 or values.shape[1] != 6:
        shape = list(values.shape)
        raise InputError(
            f"image {index}: an array must be [n, 6] (x1, y1, x2, y2, score, class), not {shape}"
        )
    return {"boxes": values[:, :4], "scores": values[:, 4], "labels": values[:, 5]}


def _attributes(image: Any, **names: str) -> dict[str, Any]:
    """The attributes that an object has, by the keys of a dict."""
    return {key: getattr(image, name) for key, name in names.items() if hasattr(image, name)}


def _is_relative(image: ImageArrays) -> bool:
    """Whether the boxes of a target are in units of the image: no number is larger than 1."""
    boxes = array_from(image.get("boxes", ()))
    try:
        return boxes.size == 0 or float(boxes.max()) <= LARGEST_RELATIVE
    except (TypeError, ValueError):
        return False


def _in_pixels(image: ImageArrays, index: int) -> ImageArrays:
    """A target with its boxes, center and sides in units of the image, as corners in px.

    They are those of the original image, height and width in `orig_size`, as predictions are.
    """
    if "orig_size" not in image:
        raise InputError(f"image {index} has no 'orig_size', which other targets have")
    size = array_from(image["orig_size"])
    if size.shape != (2,) or not (size > 0).all():
        raise InputError(f"image {index}: 'orig_size' must be a height and a width")
    height, width = size.astype(np.float64).tolist()
    scaled = array_from(image["boxes"]).astype(np.float64).reshape(-1, 4) * np.array(
        [width, height, width, height]
    )
    arrays = {key: value for key, value in image.items() if key != "area"}  # of another size
    return arrays | {"boxes": _corners(scaled, "CXCYWH", index)}


def _corners(boxes: NDArray[Any], kind: str, index: int) -> NDArray[np.float64]:
    """Corners xyxy, float64 [n, 4], of boxes in torchvision's formats XYWH and CXCYWH."""
    boxes = boxes.astype(np.float64).reshape(-1, 4)
    if kind not in ("XYWH", "CXCYWH"):
        raise InputError(f"image {index}: boxes in the format {kind} are not read, but XYXY")
    low = boxes[:, :2] if kind == "XYWH" else boxes[:, :2] - boxes[:, 2:] / 2
    return np.concatenate([low, low + boxes[:, 2:]], axis=1)
