"""Which images of a folder belong to a split: by its lists, by its folders, or drawn by a seed."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePath

from upmap.errors import InputError, abbreviate_list
from upmap.files import is_file, list_folder, read_text
from upmap.segmentation.datasets import IMAGES
from upmap.segmentation.folders.layouts import Item

__all__ = ["SHARES", "draw_split", "name_splits", "select_items"]

SHARES = {"train": 0.7, "val": 0.15, "test": 0.15}  # of the images, where nothing names splits


def select_items(
    root: Path, items: Sequence[Item], split: str, *, seed: int = 0
) -> tuple[Item, ...]:
    """The images of a split: of `<split>.txt`, or of the folder of that name, or drawn.

    Args:
        root: The folder.
        items: All its images.
        split: The name of the split.
        seed: The seed of a split that is drawn.

    Raises:
        InputError: If there is no such split, or a list names an image that there is not.
    """
    lists = _find_lists(root, items)
    if split in lists:
        return _read_list(lists[split], items)
    splits = list(lists) or list(dict.fromkeys(item.split for item in items if item.split))
    if splits:
        chosen = () if lists else tuple(item for item in items if item.split == split)
        if not chosen:
            message = f"no split called {split!r}; there are {', '.join(splits)}"
            raise InputError(message, root)
        return chosen
    if split not in SHARES:
        drawn = f"without lists there are {', '.join(SHARES)}, drawn by a seed"
        raise InputError(f"no split called {split!r}; {drawn}", root)
    names = set(draw_split([item.name for item in items], seed)[split])
    if not names:
        message = f"{len(items)} images are too few to be split into {', '.join(SHARES)}"
        raise InputError(f"{message}; write the lists train.txt, val.txt, test.txt", root)
    return tuple(item for item in items if item.name in names)


def name_splits(root: Path, items: Sequence[Item]) -> list[str]:
    """The names of the splits: of lists, else of folders, else of those that are drawn.

    Args:
        root: The folder.
        items: All its images.
    """
    by_folder = dict.fromkeys(item.split for item in items if item.split)
    return list(_find_lists(root, items)) or list(by_folder) or list(SHARES)


def draw_split(names: Sequence[str], seed: int) -> dict[str, list[str]]:
    """Divides names among the splits of SHARES, each with one at least if there are three.

    An order by digests decides, so that the split depends on the names and the seed alone.

    >>> {split: len(names) for split, names in draw_split(list("abcdefghij"), 0).items()}
    {'train': 6, 'val': 2, 'test': 2}
    """
    order = sorted(names, key=lambda name: hashlib.sha256(f"{seed}:{name}".encode()).digest())
    count = max(1, round(SHARES["val"] * len(names))) if len(names) >= len(SHARES) else 0
    parts = {"train": order[2 * count :] if count else [], "val": order[:count]}
    parts["test"] = order[count : 2 * count]
    return {split: sorted(part) for split, part in parts.items()}


def _find_lists(root: Path, items: Sequence[Item]) -> dict[str, Path]:
    """The text files that list images, by split; others, such as notes, may lie beside them."""
    texts = [path for path in list_folder(root) if path.suffix == ".txt" and is_file(path)]
    places = _index_names(items)
    return {
        path.stem: path for path in texts if any(_find(line, places) for line in _lines(path)[:1])
    }


def _lines(path: Path) -> list[str]:
    """The lines that are not blank, as names: without the endings of images."""
    try:
        lines = [line.strip().removeprefix("\ufeff") for line in read_text(path).splitlines()]
    except InputError:
        return []
    return [_strip_ending(line) for line in lines if line]


def _find(name: str, places: Mapping[str, list[Item]]) -> list[Item]:
    """The items that a line of a list may mean."""
    return places.get(name) or places.get(name.rpartition("/")[2], [])


def _strip_ending(line: str) -> str:
    line = line.replace("\\", "/")
    ending = PurePath(line).suffix
    return line.removesuffix(ending) if ending.lower() in IMAGES else line


def _index_names(items: Sequence[Item]) -> dict[str, list[Item]]:
    """The items by what lists call them: by name, by path, or by the last part of either."""
    places: dict[str, list[Item]] = {}
    for item in items:
        names = (item.name, item.name.rpartition("/")[2], item.image.stem)
        for name in dict.fromkeys(names):
            places.setdefault(name, []).append(item)
    return places


def _read_list(path: Path, items: Sequence[Item]) -> tuple[Item, ...]:
    places = _index_names(items)
    chosen: dict[str, Item] = {}
    for number, name in enumerate(_lines(path), start=1):
        candidates = _find(name, places)
        if not candidates:
            raise InputError(f"no image with a label is called {name!r}", path, str(number))
        if len(candidates) > 1:
            options = abbreviate_list([item.name for item in candidates], 3)
            raise InputError(f"{name!r} could be {options}", path, str(number))
        if candidates[0].name in chosen:
            raise InputError(f"{name!r} is listed twice", path, str(number))
        chosen[candidates[0].name] = candidates[0]
    return tuple(chosen.values())
