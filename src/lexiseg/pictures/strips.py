"""A picture's rows from top to bottom, without the whole of it in memory where that is possible.

libvips (extra ``large``) decodes JPEG, PNG, TIFF and WebP as rows are asked for. Without it, and
for pictures that are turned, transparent or of more than 8 bits, Pillow decodes the whole.
"""

import importlib.util
import os
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import UInt8

from lexiseg._extras import need
from lexiseg.pictures.reading import ImageError, open_quietly, orientation, read_picture

_IN_ROWS = ("JPEG", "PNG", "TIFF", "WEBP")


@runtime_checkable
class Strips(Protocol):
    """Rows of a picture, each read once, from the first to the last."""

    size: tuple[int, int]  # (height, width)

    def read(self, count: int) -> UInt8[np.ndarray, "h W 3"]:
        """The next rows, at most so many as are left.

        Raises:
            ImageError: they are damaged.
        """
        ...


class WholePicture:
    """The rows of a picture that is in memory."""

    def __init__(self, image: UInt8[np.ndarray, "H W 3"]) -> None:
        self.image = image
        self.size = (image.shape[0], image.shape[1])
        self._next = 0

    def read(self, count: int) -> UInt8[np.ndarray, "h W 3"]:
        """The next rows."""
        rows = self.image[self._next : self._next + count]
        self._next += count
        return rows


class VipsStrips:
    """Rows as libvips decodes them."""

    def __init__(self, path: Path) -> None:
        self._path = path
        pyvips = need("pyvips", extra="large", purpose="reading a picture by rows")
        self._error = pyvips.Error
        try:
            image = pyvips.Image.new_from_file(
                str(path), access="sequential", fail_on="truncated"
            ).colourspace("srgb")
        except self._error as error:
            raise self._damaged(error) from error
        self.size = (image.height, image.width)
        self._region: Any = pyvips.Region.new(image.cast("uchar"))
        self._next = 0

    def read(self, count: int) -> UInt8[np.ndarray, "h W 3"]:
        """The next rows."""
        height, width = self.size
        count = min(count, height - self._next)
        if count == 0:
            return np.empty((0, width, 3), dtype=np.uint8)
        try:
            data = self._region.fetch(0, self._next, width, count)
        except self._error as error:
            raise self._damaged(error) from error
        self._next += count
        return np.frombuffer(data, dtype=np.uint8).reshape(count, width, 3)

    def _damaged(self, error: Exception) -> ImageError:
        return ImageError(f"{self._path}: is truncated or damaged ({' '.join(str(error).split())})")


def open_strips(path: str | os.PathLike[str], *, max_pixels: int) -> Strips:
    """The rows of a file.

    Raises:
        ImageError: it cannot be read, or is larger than ``max_pixels``.
    """
    path = Path(path)
    size, in_rows = _header(path)
    if size is None or size[0] * size[1] > max_pixels or not in_rows:
        return WholePicture(read_picture(path, max_pixels=max_pixels))
    return VipsStrips(path)


def picture_size(path: str | os.PathLike[str]) -> tuple[int, int] | None:
    """(height, width) as stored, from the header alone; None where there is no picture."""
    return _header(Path(path))[0]


def _header(path: Path) -> tuple[tuple[int, int] | None, bool]:
    """The size, and whether the file can be read by rows; ``read_picture`` tells what is wrong."""
    try:
        with path.open("rb") as file, open_quietly(file) as image:
            plain = image.mode == "RGB" and not image.has_transparency_data
            in_rows = plain and orientation(image) == 1 and image.format in _IN_ROWS and _has_vips()
            return (image.height, image.width), in_rows
    except Exception:  # broken headers make Pillow's plugins raise nearly anything
        return None, False


def _has_vips() -> bool:
    return importlib.util.find_spec("pyvips") is not None
