"""The layouts of YOLO data sets: which images there are, and where their label files lie.

Source: Ultralytics' data.yaml and the rule that a label file's path is its image's with the last
/images/ made /labels/; Roboflow's exports; darknet's obj.data, as CVAT writes it.
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from upmap.detection.formats.checks import note
from upmap.detection.formats.image_sizes import IMAGE_ENDINGS, find_image_files, strip_image_ending
from upmap.detection.formats.row_files import find_row_files
from upmap.detection.formats.yolo_names import (
    find_class_names,
    names_in_description,
    read_class_numbers,
    read_yaml,
)
from upmap.detection.inputs import Input, files_in, open_input, translate_errors
from upmap.errors import InputError, abbreviate_list

__all__ = ["SPLITS", "LabeledImages", "find_description", "find_labeled_images", "list_splits"]

# The names of splits in data.yaml; the first that there is, is evaluated, as by Ultralytics.
SPLITS = ("val", "test", "train")
SPLIT_FOLDERS = {"val": ("val", "valid", "validation"), "test": ("test",), "train": ("train",)}
YAML_ENDINGS = (".yaml", ".yml")


@dataclass(frozen=True, slots=True, kw_only=True)
class LabeledImages:
    """The images of a split and their label files.

    Attributes:
        names: The images' names, each once: of their files, without folder and ending, if those
            differ from each other; else with the folders.
        file_names: The images' file names.
        labels: The label files; None for images that have none.
        images: The image files; None where there is none, or it is not known.
        class_names: Class number to name; None where no file says.
        keypoint_values: How many numbers of keypoints follow a box, which data.yaml tells.
    """

    names: list[str]
    file_names: list[str]
    labels: list[str | None]
    images: list[str | None]
    class_names: dict[int, str] | None
    keypoint_values: int = 0


@dataclass(frozen=True, slots=True)
class _Description:
    """What a data set says of itself.

    Attributes:
        path: The file or folder that says it.
        root: The folder from which its paths go out.
        splits: Name to entries: folders of images, lists of images, images.
        class_names: Class number to name.
        keypoint_values: See LabeledImages.
    """

    path: Path
    root: Path
    splits: Mapping[str, list[str]]
    class_names: dict[int, str] | None
    keypoint_values: int = 0


@dataclass(slots=True)
class _Files:
    """Images as they are gathered: path below a folder without ending, image file, label file."""

    names: list[str] = field(default_factory=list)
    images: list[str | None] = field(default_factory=list)
    labels: list[str | None] = field(default_factory=list)

    def add(self, name: str, image: str | None, label: str | None) -> None:
        self.names.append(name)
        self.images.append(image)
        self.labels.append(label)


def find_description(source: Input) -> Path | None:
    """The file that describes the data set: data.yaml or obj.data, named or in the folder."""
    if not source.is_folder():
        is_description = source.path.suffix.lower() in (*YAML_ENDINGS, ".data")
        return source.path if is_description and source.is_file() else None
    for name in ("data.yaml", "data.yml", "dataset.yaml", "obj.data"):
        if (source.path / name).is_file():
            return source.path / name
    files = files_in(source.path, "*.yaml", "*.yml", "*.data")
    return files[0] if len(files) == 1 and files[0].is_file() else None


def list_splits(source: Input) -> dict[str, Path]:
    """The splits of a data set: name to the file that describes it."""
    file = find_description(source)
    if file is None:
        return {}
    return dict.fromkeys(_read_description(file).splits, file)


def find_labeled_images(source: Input, split: str | None) -> LabeledImages:
    """The images of a split, and their label files.

    Args:
        source: A data.yaml, an obj.data, a text list of images, a folder that has one of the
            former, or a folder of label files.
        split: The name of one; None for the first there is of val, test, train, or all images.

    Raises:
        InputError: If there is no such split, or a folder or list that it names is not there.
    """
    file = find_description(source)
    if file is not None:
        description = _read_description(file)
    elif source.is_folder():
        return _find_in_folder(source.path, split)
    else:
        path = source.path
        names = find_class_names(path.parent)
        description = _Description(path, path.parent, {"list": [path.name]}, names)
    name = _select_split(description, split)
    files = _Files()
    for entry in description.splits[name]:
        _add_entry(files, description, name, entry)
    return _finish(files, description.class_names, description.keypoint_values)


def _read_description(file: Path) -> _Description:
    source = open_input(file)
    if file.suffix.lower() == ".data":
        return _read_obj_data(source)
    content = read_yaml(source)
    root = file.parent
    if isinstance(content.get("path"), str) and (root / content["path"]).is_dir():
        root = root / content["path"]
    splits = {}
    for name in SPLITS:
        value = content.get(name, content.get("valid") if name == "val" else None)
        entries = value if isinstance(value, list) else [value]
        if value and not all(isinstance(entry, str) and entry for entry in entries):
            raise InputError("expected a path or a list of paths", file, name)
        if value:
            splits[name] = list(entries)
    if not splits:
        raise InputError("expected paths of images under train, val or test", file)
    names = names_in_description(content, file) or find_class_names(file.parent)
    return _Description(file, root, splits, names, _keypoint_values(content, file))


def _keypoint_values(content: Mapping[str, Any], file: Path) -> int:
    shape = content.get("kpt_shape")
    if shape is None:
        return 0
    words = shape if isinstance(shape, list) else []
    if len(words) != 2 or not all(isinstance(word, str) and word.isdecimal() for word in words):
        raise InputError("expected two numbers", file, "kpt_shape")
    return min(int(words[0][:6]), 10_000) * min(int(words[1][:6]), 10_000)


def _read_obj_data(source: Input) -> _Description:
    file = source.path
    values: dict[str, str] = {}
    for line in source.text().splitlines():
        key, sign, value = line.partition("=")
        if sign:
            values[key.strip()] = value.strip()
    keys = {"val": "valid", "test": "test", "train": "train"}
    splits = {name: [values[key]] for name, key in keys.items() if values.get(key)}
    if not splits:
        raise InputError("expected a line `train = FILE` or `valid = FILE`", file)
    names_file = _first_file(values.get("names", "obj.names"), file.parent)
    names = find_class_names(file.parent) if names_file is None else read_class_numbers(names_file)
    return _Description(file, file.parent, splits, names)


def _select_split(description: _Description, split: str | None) -> str:
    known = list(description.splits)
    if split is None:
        return known[0]
    name = "val" if split == "valid" else split
    if name not in description.splits:
        names = ", ".join(known)
        raise InputError(f"no image set called {split!r}; there are {names}", description.path)
    return name


def _add_entry(files: _Files, description: _Description, split: str, entry: str) -> None:
    entry = entry.replace("\\", "/")
    places = _places(entry, [description.root, description.path.parent])
    list_file = next((place for place in places if place.is_file()), None)
    if list_file is None and entry.endswith(".txt"):
        list_file = _first_file(entry, description.path.parent)
    if list_file is not None and not _is_image_name(entry):
        _add_list(files, description, list_file)
        return
    if _is_image_name(entry):
        _add_paths(files, [entry], [description.root, description.path.parent], description.path)
        return
    parents = (description.root, description.path.parent)
    usual = [root / name / "images" for root in parents for name in SPLIT_FOLDERS.get(split, ())]
    for place in (*places, *usual):
        if place.is_dir() or _label_folder(place).is_dir():
            _add_folder(files, place, _label_folder(place), description.path)
            return
    message = f"{split}: there is neither {entry!r} nor a folder of labels for it"
    if any((place.parent / "labelTxt").is_dir() for place in (*places, *usual)):
        message += "; labelTxt, which there is, holds DOTA's format (--gt-format dota)"
    raise InputError(message, description.path)


def _places(entry: str, roots: Iterable[Path]) -> list[Path]:
    """Where a path may lie: as written, and without the ../ that Roboflow puts before it."""
    inner = entry
    while inner.startswith("../"):
        inner = inner[3:]
    return [root / path for path in dict.fromkeys((entry, inner)) for root in roots]


def _label_folder(images: Path) -> Path:
    """The folder of the labels of a folder of images: the last /images/ is /labels/."""
    before, middle, after = f"{images.as_posix()}/".rpartition("/images/")
    return Path(f"{before}/labels/{after}") if middle else images


def _add_folder(files: _Files, images: Path, labels: Path, path: Path) -> None:
    """All images of a folder, with those below; those of the labels where there are no images."""
    with translate_errors(path):
        image_files = find_image_files(images) if images.is_dir() else {}
        rows = find_row_files(labels) if labels.is_dir() else None
    if rows is None:
        raise InputError(f"there is no folder of labels {labels}", path)
    label_files = dict(zip(rows.names, rows.paths, strict=True))
    if not image_files:
        for name, label in label_files.items():
            files.add(name, None, label)
        return
    for name, image in image_files.items():
        files.add(name, image, label_files.get(name))
    lone = [name for name in label_files if name not in image_files]
    if lone:
        message = (
            f"{len(lone)} label files are left out: there are no images {abbreviate_list(lone)}"
        )
        note("label-without-image", len(lone), labels, message, lone[:5])
    if not any(name in label_files for name in image_files):
        raise InputError(f"no image in {images} has a label file here", labels)


def _add_list(files: _Files, description: _Description, place: Path) -> None:
    lines = [line.strip().replace("\\", "/") for line in open_input(place).text().splitlines()]
    entries = [line for line in lines if line]
    if not entries:
        raise InputError("the list of images is empty", place)
    _add_paths(files, entries, [place.parent, description.root], place)


def _add_paths(files: _Files, entries: Sequence[str], roots: Sequence[Path], path: Path) -> None:
    """Images by their paths, which need not exist: data/obj_train_data/x.jpg."""
    by_folder: dict[str, list[str]] = {}
    for entry in entries:
        folder, _, name = entry.rpartition("/")
        by_folder.setdefault(folder, []).append(name)
    listings: dict[str, frozenset[str]] = {}
    chosen = {
        folder: _choose_folder(folder, names, roots, listings, path)
        for folder, names in by_folder.items()
    }
    for entry in dict.fromkeys(entries):
        folder, _, name = entry.rpartition("/")
        images, labels = chosen[folder]
        stem = strip_image_ending(name)
        has_label = f"{stem}.txt" in listings[labels]
        is_there = name in _list_folder(images, listings)
        files.add(
            f"{folder}/{stem}" if folder else stem,
            f"{images}/{name}" if is_there else None,
            f"{labels}/{stem}.txt" if has_label else None,
        )


def _choose_folder(
    folder: str,
    names: Sequence[str],
    roots: Sequence[Path],
    listings: dict[str, frozenset[str]],
    path: Path,
) -> tuple[str, str]:
    """The folders of the images and of their labels that a list's folder means.

    The first that has a label for one of the names; else the first that has one of the images.
    """
    parts = PurePosixPath(folder).parts
    tails = [PurePosixPath(*parts[i:]) for i in range(len(parts) + 1)]
    if folder.startswith("/"):
        tails = [PurePosixPath(folder), *tails[2:]]
    places = [root / tail for tail in tails for root in dict.fromkeys(roots)]
    pairs = [
        (place.as_posix(), labels.as_posix())
        for place in places
        for labels in dict.fromkeys((_label_folder(place), place))
    ]
    label_names = {f"{strip_image_ending(name)}.txt" for name in names}
    for images, labels in pairs:
        if label_names & _list_folder(labels, listings):
            return images, labels
    for images, labels in pairs:
        if _list_folder(images, listings).intersection(names):
            return images, labels
    raise InputError(f"there are neither images nor labels for {folder or '.'}/{names[0]}", path)


def _list_folder(folder: str, listings: dict[str, frozenset[str]]) -> frozenset[str]:
    """The names of a folder's entries; none where there is no folder. `listings` keeps them."""
    if folder not in listings:
        try:
            listings[folder] = frozenset(os.listdir(folder))  # noqa: PTH208
        except (OSError, ValueError):
            listings[folder] = frozenset()
    return listings[folder]


def _find_in_folder(folder: Path, split: str | None) -> LabeledImages:
    """A folder of labels, or one that has them in `labels`, perhaps in folders for splits."""
    for name in ("train", "valid", "test"):  # darknet's lists, without obj.data
        list_file = folder / f"{name}.txt"
        if split in (None, name) and list_file.is_file() and (folder / "obj.names").is_file():
            return find_labeled_images(Input(list_file), None)
    labels = folder / "labels" if (folder / "labels").is_dir() else folder
    images = folder / "images" if labels != folder else _image_folder(folder)
    if split is not None:
        names = SPLIT_FOLDERS.get(split, (split,))
        pairs = [(images / name, labels / name) for name in names]
        pairs += [(folder / name / "images", folder / name / "labels") for name in names]
        pairs = [pair for pair in pairs if pair[1].is_dir()]
        if not pairs:
            raise InputError(f"no image set called {split!r} in this folder of labels", folder)
        images, labels = pairs[0]
    files = _Files()
    _add_folder(files, images, labels, folder)
    return _finish(files, find_class_names(labels), 0)


def _image_folder(labels: Path) -> Path:
    """The folder of images for one of labels; itself where its path has no labels/."""
    before, middle, after = f"{labels.absolute().as_posix()}/".rpartition("/labels/")
    images = Path(f"{before}/images/{after}")
    return images if middle and images.is_dir() else labels


def _first_file(entry: str, root: Path) -> Path | None:
    parts = PurePosixPath(entry.replace("\\", "/")).parts
    for i in range(len(parts)):
        if (root / PurePosixPath(*parts[i:])).is_file():
            return root / PurePosixPath(*parts[i:])
    return None


def _is_image_name(name: str) -> bool:
    return name.rpartition(".")[2].lower() in IMAGE_ENDINGS


def _finish(files: _Files, class_names: dict[int, str] | None, values: int) -> LabeledImages:
    """The images under names that differ."""
    stems = [name.rpartition("/")[2] for name in files.names]
    names = stems if len(set(stems)) == len(stems) else files.names
    if len(set(names)) < len(names):
        names = [
            str(label or image).removesuffix(".txt")
            for label, image in zip(files.labels, files.images, strict=True)
        ]
    return LabeledImages(
        names=names,
        file_names=[
            f"{name}.jpg" if image is None else f"{name}.{image.rpartition('.')[2]}"
            for name, image in zip(names, files.images, strict=True)
        ],
        labels=files.labels,
        images=files.images,
        class_names=class_names,
        keypoint_values=values,
    )
