"""From the keys of images and classes in a file to their places in a catalog."""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from upmap.detection.tables import Catalog, ImageId, base_name, image_names
from upmap.errors import InputError, abbreviate_list

__all__ = [
    "ImageKey",
    "Keys",
    "UnknownKeys",
    "as_integers",
    "find_classes",
    "find_images",
    "find_places",
    "find_unknown",
    "keys_as_list",
    "strip_name",
]

Keys = NDArray[np.int64] | list[Any]  # all integers; or a list of str, or of int, str and None
ImageKey = Literal["id", "stem", "file_name"]
READINGS: dict[ImageKey, str] = {
    "id": "ids",
    "stem": "stems of file names",
    "file_name": "file names",
}
# Endings that are no part of an image's name.
ENDINGS = re.compile(
    r"\.(jpe?g|jpe|jfif|png|bmp|gif|tiff?|webp|p[bgnp]m|heic|avif|xml|txt|json)", re.IGNORECASE
)
MAX_DIGITS = 18  # of an integer of 64 bits, certainly
MAX_TABLE_SPAN = 2**22  # keys from the lowest to the highest, up to which a table is made of them
NO_ID = -(2**63)  # in place of null, see `kernels.coco_json`; the lowest int64
BLOCK = 2**14  # keys looked up at a time: their intermediate arrays stay in the cache


@dataclass(frozen=True, slots=True)
class UnknownKeys:
    """The keys that lead nowhere.

    Attributes:
        rows: int64 [U], the rows with such keys, ascending; at least one.
        names: The different keys, as `repr` shows them, in the order of the rows.
    """

    rows: NDArray[np.int64]
    names: list[str]


def find_places(keys: Keys, among: Sequence[ImageId]) -> NDArray[np.int32]:
    """The place of each key in `among`, int32 [N]; -1 where it is not there.

    Args:
        keys: int64 [N], or N strings. Integers and strings never equal each other.
        among: Different keys of one kind; integers must ascend.

    >>> find_places(np.array([7, 9, 8]), (7, 8)).tolist()
    [0, -1, 1]
    >>> find_places(["b", "c"], ("b", "a")).tolist()
    [0, -1]
    """
    is_text = isinstance(keys, list)
    if not among or is_text != isinstance(among[0], str):
        return np.full(len(keys), -1, np.int32)
    if isinstance(keys, list):
        place = {value: i for i, value in enumerate(among)}
        return np.array([place.get(key, -1) for key in keys], np.int32)
    known = np.array(among, np.int64)
    low, high = int(known[0]), int(known[-1])
    if high - low < MAX_TABLE_SPAN and low > NO_ID:
        return _places_by_table(keys, known)
    at = np.searchsorted(known, keys).clip(max=len(known) - 1)
    return np.where(known[at] == keys, at, -1).astype(np.int32)


def find_images(
    keys: Keys,
    catalog: Catalog,
    *,
    image_key: ImageKey | None = None,
    usual: ImageKey | None = "id",
    path: Path | None = None,
) -> NDArray[np.int32]:
    """The place of each key of an image in `catalog`, int32 [N]; -1 where it leads nowhere.

    The keys of a file are read in one way: as ids, as stems of file names (without folder and
    ending), or as file names. That is the usual one of the format if it fits all keys; else the one
    that does. Where none fits all, some images are not listed: it is the usual one, if no other
    fits more keys; or the only one that fits any.

    Args:
        keys: int64 [N], or N strings (and integers, and None).
        catalog: The images.
        image_key: How the keys are to be read; None to find out.
        usual: How the format defines them; None if it does not.
        path: The file, for errors.

    Raises:
        InputError: If several readings are left, and differ.

    >>> catalog = Catalog((1, 2), (), file_names=("b.jpg", "c.jpg"))
    >>> find_images(["c", "b"], catalog).tolist(), find_images(["2", "1"], catalog).tolist()
    ([1, 0], [1, 0])
    """
    if not isinstance(keys, list) and "id" in (image_key, usual) and _has_integers(catalog.images):
        places = find_places(keys, catalog.images)
        if image_key == "id" or (image_key is None and (places >= 0).all()):
            return places
    different, rows = _unique_keys(keys)
    places_by: dict[ImageKey, NDArray[np.int32]] = {}
    fit_all = False
    for reading in READINGS:
        if image_key in (None, reading):
            places_by[reading] = _read_keys(different, catalog, reading, all_or_none=fit_all)
            fit_all |= bool((places_by[reading] >= 0).all())
    return _choose_reading(different, places_by, usual, path)[rows]


def find_classes(keys: Keys, catalog: Catalog) -> NDArray[np.int32]:
    """The place of each key of a class in `catalog`, int32 [N]; -1 where it leads nowhere.

    Args:
        keys: int64 [N], or N strings (and integers, and None): ids of classes. Texts are numbers,
            or the catalog's `class_keys`, or else names.
        catalog: The classes.
    """
    if not isinstance(keys, list) and not catalog.class_keys:
        return find_places(keys, catalog.class_ids)
    different, rows = _unique_keys(keys)
    number_texts = [str(number) for number in catalog.class_ids]
    for names in (catalog.class_keys or number_texts, catalog.classes):
        place = {name: k for k, name in enumerate(names)}
        places = [place.get(_plain(key), -1) for key in different]
        if max(places, default=-1) >= 0:
            break
    return np.array(places, np.int32)[rows]


def as_integers(keys: Iterable[ImageId]) -> list[int] | None:
    """The keys as integers; None if not all are integers or the digits of one."""
    numbers = []
    for key in keys:
        plain = _plain(key)
        if not plain.removeprefix("-").isdecimal() or len(plain) > MAX_DIGITS:
            return None
        numbers.append(int(plain))
    return numbers


def strip_name(name: str) -> str:
    """The name of an image without folder, and without an ending of image files.

    >>> strip_name("train/a.b.jpg"), strip_name("a.b")
    ('a.b', 'a.b')
    """
    base = base_name(name)
    stem, dot, ending = base.rpartition(".")
    return stem if stem and ENDINGS.fullmatch(dot + ending) else base


def _has_integers(images: Sequence[ImageId]) -> bool:
    return bool(images) and not isinstance(images[0], str)


def _unique_keys(keys: Keys) -> tuple[list[Any], NDArray[np.intp]]:
    """The different keys, and for each row the place of its key among them."""
    if not isinstance(keys, list):
        different, rows = np.unique(keys, return_inverse=True)
        return different.tolist(), rows
    place: dict[Any, int] = {}
    rows = np.array([place.setdefault(key, len(place)) for key in keys], np.intp)
    return list(place), rows


def _plain(key: ImageId | None) -> str:
    """A key as text; of an integer without zeros before it."""
    text = _text(key)
    if not (text[-1:].isdecimal() and text.removeprefix("-").isdecimal() and text.isascii()):
        return text
    return str(int(text)) if len(text) <= MAX_DIGITS else text


def _read_keys(
    keys: list[Any], catalog: Catalog, reading: ImageKey, *, all_or_none: bool
) -> NDArray[np.int32]:
    """The place of each key under one reading; -1 also where two images share the name.

    With `all_or_none`, all are -1 as soon as one is: that is cheaper, and enough to compare this
    reading with one that fits all keys.
    """
    spellings: list[Callable[[str], str]] = [str]
    if reading == "id":
        names = [[str(image) for image in catalog.images]]
    elif reading == "stem":
        names = [image_names(catalog)]
        spellings.append(strip_name)
    else:
        names = [[name.replace("\\", "/") for name in catalog.file_names]]
        names.append([base_name(name) for name in names[0]])
        spellings.append(base_name)
    place = _places_of_names(names)
    places = [place.get(_text(key), -1) for key in keys]
    for i, key in enumerate(keys):
        if places[i] < 0:  # seldom
            forms = (form for spell in spellings for form in _forms(spell(_text(key))))
            places[i] = next((place[form] for form in forms if form in place), -1)
            if places[i] < 0 and all_or_none:
                return np.full(len(keys), -1, np.int32)
    return np.array(places, np.int32)


def _text(key: ImageId | None) -> str:
    return "" if key is None or key == NO_ID else str(key)


def _forms(text: str) -> tuple[str, str]:
    return text, _plain(text)


def _places_of_names(names: list[list[str]]) -> dict[str, int]:
    """Name to place, as they are and as plain numbers; without names that images share."""
    place: dict[str, int] = {}
    for column in names:
        for plainly in (False, True):
            shared = set()
            level: dict[str, int] = {}
            for i, name in enumerate(column):
                key = _plain(name) if plainly else name
                if level.setdefault(key, i) != i:
                    shared.add(key)
            for key, i in level.items():
                if key not in shared:
                    place.setdefault(key, i)
    place.pop("", None)
    return place


def _choose_reading(
    keys: list[Any],
    places_by: dict[ImageKey, NDArray[np.int32]],
    usual: ImageKey | None,
    path: Path | None,
) -> NDArray[np.int32]:
    """The places under the reading that fits."""
    counts = {reading: int((places >= 0).sum()) for reading, places in places_by.items()}
    largest = max(counts.values())
    # Null leads nowhere under any reading.
    are_all = largest == sum(_text(key) != "" for key in keys)
    fitting = [r for r in counts if counts[r] == largest or (counts[r] and not are_all)]
    if usual is not None and usual in fitting and counts[usual] == largest:
        return places_by[usual]
    first = usual if usual is not None and usual in fitting else fitting[0]
    if differing := [r for r in fitting if not np.array_equal(places_by[r], places_by[first])]:
        examples = abbreviate_list([_show(key) for key in keys], 3)
        raise InputError(
            f"the images {examples} can be read as {READINGS[first]} and as "
            f"{READINGS[differing[0]]}, which are other images; --image-key (image_key=) "
            f"{'|'.join([first, *differing])} says how",
            path,
        )
    return places_by[first]


def find_unknown(keys: Keys, places: NDArray[np.int32]) -> UnknownKeys | None:
    """The keys that `find_places` gave the place -1; None if it found all."""
    rows = np.flatnonzero(places < 0)
    if not len(rows):
        return None
    unknown = [keys[row] for row in rows.tolist()] if isinstance(keys, list) else keys[rows]
    names = [_show(key) for key in keys_as_list(unknown)]
    return UnknownKeys(rows, list(dict.fromkeys(names)))


def _show(key: ImageId | None) -> str:
    return "null" if key is None or key == NO_ID else repr(key)


def keys_as_list(keys: Keys) -> list[Any]:
    """The keys as Python's integers or strings."""
    return keys if isinstance(keys, list) else keys.tolist()


def _places_by_table(keys: NDArray[np.int64], known: NDArray[np.int64]) -> NDArray[np.int32]:
    """`find_places` of integers that lie close together, by a table of all from low to high."""
    low, high = int(known[0]), int(known[-1])
    # The first and the last element stand for what lies outside: a key is clipped to them.
    place_of = np.full(high - low + 3, -1, np.int32)
    place_of[known - low + 1] = np.arange(len(known))
    places = np.empty(len(keys), np.int32)
    for i in range(0, len(keys), BLOCK):
        offsets = keys[i : i + BLOCK] - low + 1
        np.take(place_of, offsets, out=places[i : i + BLOCK], mode="clip")
    return places
