"""What TIFF and WebP files may hold that is no image of 8 or 16 bits: refused with a way out."""

from pathlib import Path

from PIL import ImageFile
from PIL.TiffImagePlugin import TiffImageFile

from upmap.errors import InputError

__all__ = ["refuse_kinds"]

ORIENTATION = 0x0112  # TIFF 6.0, section 8
UPRIGHT = 1
MODES = frozenset(("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "I;16", "I;16B", "I;16L"))


def refuse_kinds(picture: ImageFile.ImageFile, path: Path) -> None:
    """Refuses several pages or frames, and of TIFF also other numbers and turned pictures.

    Args:
        picture: The picture, as Pillow opens it; it need not be decoded.
        path: The file.

    Raises:
        InputError: If so.
    """
    if picture.format in ("TIFF", "WEBP") and getattr(picture, "n_frames", 1) > 1:
        raise InputError("several pages or frames; save the one that counts alone", path)
    if not isinstance(picture, TiffImageFile):
        return
    if picture.mode not in MODES:
        message = f"values of {picture.mode} (32 bits or floating point)"
        raise InputError(f"{message}; convert them to 8 or 16 bits", path)
    if (orientation := picture.tag_v2.get(ORIENTATION, UPRIGHT)) != UPRIGHT:
        raise InputError(f"turned by its {orientation=}; save it upright", path)
