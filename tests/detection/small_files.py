"""Two images, three boxes and three detections, as VOC and as COCO files that tests then spoil."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

Text = str | bytes


def annotation(*objects: str, size: str = "<width>100</width><height>80</height>") -> str:
    """An XML file of one image; the first object stands on line 3."""
    lines = "".join(f"{line}\n" for line in objects)
    return f"<annotation>\n<size>{size}</size>\n{lines}</annotation>\n"


def an_object(
    name: str = "cat", corners: tuple[Any, ...] = (1, 2, 10, 20), more: str = "", extra: str = ""
) -> str:
    """One <object>, with `more` beside its name and `extra` in its bndbox."""
    sides = zip(("xmin", "ymin", "xmax", "ymax"), corners, strict=True)
    bndbox = "".join(f"<{side}>{value}</{side}>" for side, value in sides)
    return f"<object><name>{name}</name>{more}<bndbox>{bndbox}{extra}</bndbox></object>"


VOC: dict[str, Text] = {
    "Annotations/a.xml": annotation(an_object(), an_object("dog", (30, 30, 50, 60))),
    "Annotations/b.xml": annotation(an_object(corners=(5, 5, 9, 9))),
    "ImageSets/Main/test.txt": "a\nb\n",
    "results/comp4_det_test_cat.txt": "a 0.9 1 2 10 20\nb 0.75 5 5 9 9\n",
    "results/comp4_det_test_dog.txt": "a 0.5 30 30 50 60\n",
}


def instances(**changes: Any) -> dict[str, Any]:
    """The same ground truth as an instances file."""
    boxes = [(1, 1, [0, 1, 10, 19]), (1, 2, [29, 29, 21, 31]), (2, 1, [4, 4, 5, 5])]
    return {
        "images": [
            {"id": i, "file_name": f"{name}.jpg", "width": 100, "height": 80}
            for i, name in enumerate("ab", start=1)
        ],
        "annotations": [
            {
                "id": number,
                "image_id": image,
                "category_id": category,
                "bbox": bbox,
                "area": bbox[2] * bbox[3],
                "iscrowd": 0,
            }
            for number, (image, category, bbox) in enumerate(boxes, start=1)
        ],
        "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
    } | changes


def results() -> list[dict[str, Any]]:
    """The same detections as a results file."""
    rows = [(1, 1, [0, 1, 10, 19], 0.9), (2, 1, [4, 4, 5, 5], 0.75), (1, 2, [29, 29, 21, 31], 0.5)]
    keys = ("image_id", "category_id", "bbox", "score")
    return [dict(zip(keys, row, strict=True)) for row in rows]


def changed(value: Any, place: str, new: Any) -> str:
    """JSON of `value` with another value, or none (...), at a place such as "images/0/id"."""
    inner = value
    *keys, last = (int(key) if key.isdigit() else key for key in place.split("/"))
    for key in keys:
        inner = inner[key]
    if new is ...:
        del inner[last]
    else:
        inner[last] = new
    return json.dumps(value)


COCO: dict[str, Text] = {"truth.json": json.dumps(instances()), "found.json": json.dumps(results())}


def put(folder: Path, *layers: Mapping[str, Text | None]) -> Path:
    """Writes files under `folder`, later layers over earlier ones; None leaves a file out."""
    for name, content in {
        name: content for layer in layers for name, content in layer.items()
    }.items():
        if content is not None:
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content.encode() if isinstance(content, str) else content)
    return folder
