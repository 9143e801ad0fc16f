"""What is noted while every file of a split is read: what was scaled, turned, or contradicts.

Notes are one warning for each kind, with the number of files and some of their names.
"""

import warnings
from collections import defaultdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from upmap.errors import InputError, InputWarning, abbreviate_list

__all__ = ["DataNotes"]

Pixels = NDArray[np.uint8]
Color = tuple[int, ...]


class DataNotes:
    """Collects notes on the files of a split."""

    def __init__(self, classes: tuple[str, ...], palette: Pixels | None) -> None:
        """Takes the names of the K classes.

        Args:
            classes: The names.
            palette: uint8 [K, 3], the colors that come with the data set; None without.
        """
        self.classes = classes
        self.colors = [] if palette is None else [tuple(color) for color in palette.tolist()]
        self.bits: defaultdict[int, list[str]] = defaultdict(list)
        self.turned: list[str] = []
        self.first_colors: dict[int, tuple[Color, Path]] = {}

    def add_image(
        self, picture: Image.Image, orientation: int, bits: int | None, path: Path
    ) -> None:
        """Notes an image.

        Args:
            picture: The picture, as Pillow opens it.
            orientation: See `upmap.segmentation.image_values.read_orientation`.
            bits: The bits that its values use, if they are scaled to 8; None otherwise.
            path: The file.
        """
        if bits is not None:
            self.bits[bits].append(path.name)
        # A quarter turn shows in the size, which must be that of the label.
        if orientation > 1 and (orientation < 5 or picture.width == picture.height):
            self.turned.append(path.name)

    def add_label(self, picture: Image.Image, path: Path) -> None:
        """Notes the colors of a label that is a palette.

        Args:
            picture: The picture, as Pillow opens it.
            path: The file.

        Raises:
            InputError: If an id has the color of another class, or another color than in an
                earlier file.
        """
        if picture.mode != "P":
            return
        colors = np.array(picture.getpalette("RGB"), np.uint8).reshape(-1, 3)
        for index in np.unique(np.asarray(picture)).tolist():
            if index < min(len(self.classes), len(colors)):
                self._add_color(index, tuple(colors[index].tolist()), path)

    def _add_color(self, index: int, color: Color, path: Path) -> None:
        if color == (index, index, index):  # a ramp of grays, which shows ids and not classes
            return
        name = f"id {index} ({self.classes[index]}) is shown in {_hex(color)}"
        if self.colors and color != self.colors[index] and color in self.colors:
            other = self.classes[self.colors.index(color)]
            message = f"{name}, the color of {other} in palette_rgb of classes.json"
            raise InputError(f"{message}: one of the two is wrong", path)
        earlier, first = self.first_colors.setdefault(index, (color, path))
        if earlier != color:
            message = f"{name}, but in {_hex(earlier)} in {first.name}: ids of palettes that are"
            remedy = "save all labels with one palette, or as 8-bit gray class ids"
            raise InputError(f"{message} chosen file by file are no classes; {remedy}", path)

    def warn(self, split: str) -> None:
        """Issues the warnings for a split."""
        if self.bits:
            counts = [
                f"{bits} bits ({abbreviate_list(names, 2)})"
                for bits, names in sorted(self.bits.items())
            ]
            message = f"{split}: 16-bit images are scaled to 8 by the bits they use: "
            if len(self.bits) > 1:
                counts.append("so that equal values differ in brightness; save them as 8 bits")
            names = [name for group in self.bits.values() for name in group]
            _warn(message + ", ".join(counts), "scaled-bits", names)
        if self.turned:
            message = f"{split}: turned as their EXIF data say: {abbreviate_list(self.turned, 2)}"
            remedy = "their labels are taken as drawn on what viewers show"
            _warn(f"{message}; {remedy}", "turned-by-exif", self.turned)
        self._warn_of_colors(split)

    def _warn_of_colors(self, split: str) -> None:
        """Issues a warning if labels have other colors than the data set says."""
        other = [
            f"id {index} ({self.classes[index]}) in {_hex(color)} instead of "
            f"{_hex(self.colors[index])}"
            for index, (color, _) in sorted(self.first_colors.items())
            if self.colors and color != self.colors[index]
        ]
        if other:
            message = f"{split}: labels show {abbreviate_list(other, 2)} of classes.json"
            _warn(f"{message}; their ids count, not their colors", "other-colors", other)


def _hex(color: Color) -> str:
    return f"#{bytes(color).hex()}"


def _warn(message: str, kind: str, names: list[str]) -> None:
    note = InputWarning(message, kind=kind, count=len(names), examples=tuple(names[:5]))
    warnings.warn(note, stacklevel=3)
