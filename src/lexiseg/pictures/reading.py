"""Reading a picture, from wherever it comes. Without torch."""

import io
import os
import threading
import warnings
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import UInt, UInt8
from PIL import Image as PILImage

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF")
MAX_PIXELS = 40_000_000


@runtime_checkable
class BinaryFile(Protocol):
    """An open file, upload or other stream of bytes."""

    def read(self, size: int = -1, /) -> bytes:
        """The rest of the bytes."""
        ...


PictureSource = str | os.PathLike[str] | bytes | BinaryFile | PILImage.Image | np.ndarray

_EXIF_ORIENTATION = 0x0112
# Of each orientation, how the stored picture lies in the upright one (EXIF 2.3, 4.6.4): whether its
# rows are columns, and the steps along its rows and columns.
_STORED = {
    1: (False, 1, 1),
    2: (False, 1, -1),
    3: (False, -1, -1),
    4: (False, -1, 1),
    5: (True, 1, 1),
    6: (True, -1, 1),
    7: (True, -1, -1),
    8: (True, 1, -1),
}
_PIXELS_AT_ONCE = 1_000_000  # converted together, so that memory holds little beside the result
_warning_filters = threading.Lock()


class ImageError(ValueError):
    """A picture that cannot be read; the message is one line that says which and why."""


def read_picture(
    source: PictureSource, *, max_pixels: int = MAX_PIXELS
) -> UInt8[np.ndarray, "H W 3"]:
    """The picture as upright RGB: EXIF orientation applied, transparency laid over white.

    Args:
        source: a path; the bytes of a file; an open binary file; a PIL image; an array of H x W or
            H x W x 3, of uint8, of uint16, or of floats from 0 to 1. Of an animation the first
            frame counts.
        max_pixels: a larger picture is refused, a file before it is decoded.

    Raises:
        ImageError: the picture is missing, damaged, empty, too large or of another format.
        TypeError: ``source`` is something else.
    """
    if isinstance(source, np.ndarray):
        _check_size("the array", source.shape[1::-1], max_pixels)
        return _array_to_rgb(source)
    if isinstance(source, PILImage.Image):
        _check_size("the PIL image", source.size, max_pixels)
        return _decode(source, "the PIL image")
    name, data = read_bytes(source)
    with _open(data, name) as image:
        _check_size(name, image.size, max_pixels)
        return _decode(image, name)


def read_label_map(source: str | os.PathLike[str] | bytes) -> UInt[np.ndarray, "H W"]:
    """The numbers of a palette or grey PNG or TIFF of 1, 8 or 16 bits, under a picture's limits.

    Args:
        source: a path, or the bytes of a file.

    Raises:
        ImageError: the file is missing, damaged, too large, or of another kind.
    """
    name, data = read_bytes(source)
    with _open(data, name) as image:
        _check_size(name, image.size, MAX_PIXELS)
        if image.mode not in ("1", "P", "L") and not image.mode.startswith("I"):
            raise ImageError(
                f"{name}: mode {image.mode}; a mask is a palette or grey PNG or TIFF of class ids"
            )
        try:
            numbers = np.array(image)
        except Exception as error:  # broken pixels make Pillow's decoders raise nearly anything
            raise ImageError(f"{name}: is damaged ({_one_line(error)})") from error
    if numbers.dtype in (np.uint8, np.bool_):
        return numbers.astype(np.uint8)
    if numbers.min() < 0 or numbers.max() > 65535:
        raise ImageError(f"{name}: ids {numbers.min()} to {numbers.max()}; they lie in 0 to 65535")
    return numbers.astype(np.uint16)


def source_name(source: object) -> str | None:
    """The path of a source that has one, as it was given."""
    return os.fspath(source) if isinstance(source, (str, os.PathLike)) else None


def read_bytes(source: Any) -> tuple[str, bytes]:
    """A name for messages, and the bytes of the file.

    Raises:
        ImageError: the file cannot be read, or is open as text.
        TypeError: ``source`` is no path, file or bytes.
    """
    if isinstance(source, (bytes, bytearray, memoryview)):
        return "the bytes", bytes(source)
    is_path = isinstance(source, (str, os.PathLike))
    if not is_path and not hasattr(source, "read"):
        raise TypeError(
            f"cannot read an image from {type(source).__name__}; "
            "give a path, bytes, an open binary file, a PIL image, an array or a tensor"
        )
    name = _one_line(source if is_path else getattr(source, "name", "the file"))
    try:
        data = _read_path(Path(source)) if is_path else source.read()
    except ImageError as error:
        raise ImageError(f"{name}: {error}") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ImageError(f"{name}: cannot be read ({_one_line(reason)})") from error
    if not isinstance(data, bytes):
        raise ImageError(f"{name}: was opened as text; open it with mode 'rb'")
    return name, data


def _read_path(path: Path) -> bytes:
    if path.is_dir():
        raise ImageError("is a folder, not an image")
    if path.exists() and not path.is_file():
        raise ImageError("is not a regular file")
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise ImageError("no such file") from error


def open_quietly(file: io.BytesIO | io.BufferedReader) -> PILImage.Image:
    """The picture with its header read and nothing decoded, of the formats that are read.

    Pillow warns below its own limit of size; ours, which callers check, is the one that holds.
    """
    with _warning_filters, warnings.catch_warnings():
        warnings.simplefilter("ignore", PILImage.DecompressionBombWarning)
        return PILImage.open(file, formats=FORMATS)


def _open(data: bytes, name: str) -> PILImage.Image:
    """The picture with its header read and nothing decoded."""
    if not data:
        raise ImageError(f"{name}: is empty (0 bytes)")
    try:
        return open_quietly(io.BytesIO(data))
    except PILImage.UnidentifiedImageError as error:
        allowed = ", ".join(FORMATS)
        raise ImageError(f"{name}: is not an image that can be read ({allowed})") from error
    except PILImage.DecompressionBombError as error:
        raise ImageError(f"{name}: is too large, beyond Pillow's limit of pixels") from error
    except Exception as error:  # broken headers make Pillow's plugins raise nearly anything
        raise ImageError(f"{name}: is damaged ({_one_line(error)})") from error


def _check_size(name: str, size: tuple[int, ...], max_pixels: int) -> None:
    """Refuses an empty or a too large picture; ``size`` is Pillow's (width, height)."""
    width, height = size if len(size) == 2 else (1, 1)
    if width == 0 or height == 0:
        raise ImageError(f"{name}: has no pixels (height {height}, width {width})")
    if width * height > max_pixels:
        raise ImageError(
            f"{name}: is too large ({height} x {width} = {width * height / 1e6:.1f} megapixels, "
            f"the limit is {max_pixels / 1e6:g}); make it smaller or raise max_pixels"
        )


def _decode(image: PILImage.Image, name: str) -> UInt8[np.ndarray, "H W 3"]:
    try:
        image.load()
        is_turned, down, right = _STORED.get(orientation(image), _STORED[1])
        width, height = image.size
        upright = np.empty((width, height, 3) if is_turned else (height, width, 3), dtype=np.uint8)
        stored = (upright.swapaxes(0, 1) if is_turned else upright)[::down, ::right]
        rows = max(1, _PIXELS_AT_ONCE // width)
        for top in range(0, height, rows):
            bottom = min(top + rows, height)
            stored[top:bottom] = _rgb(image.crop((0, top, width, bottom)))
        return upright
    except ImageError as error:
        raise ImageError(f"{name}: {error}") from error
    except Exception as error:  # broken pixels make Pillow's decoders raise nearly anything
        raise ImageError(f"{name}: is truncated or damaged ({_one_line(error)})") from error


def _rgb(image: PILImage.Image) -> UInt8[np.ndarray, "H W 3"]:
    """Pixels as they are stored, transparency laid over white."""
    if image.mode == "F" or image.mode.startswith("I"):
        values = np.asarray(image)  # floats as they are, integers on the scale of 16 bits
        deep = values if image.mode == "F" else values.clip(0, 65535).astype(np.uint16)
        return _array_to_rgb(deep)
    if image.has_transparency_data:
        overlay = image.convert("RGBA")
        image = PILImage.new("RGBA", overlay.size, "white")
        image.alpha_composite(overlay)
    return np.asarray(image.convert("RGB"))


def orientation(image: PILImage.Image) -> int:
    """EXIF's orientation, 1 (upright) where it is absent or cannot be read."""
    try:
        return int(image.getexif().get(_EXIF_ORIENTATION, 1))
    except Exception:  # a damaged EXIF block does not make the picture unreadable
        return 1


def _array_to_rgb(array: np.ndarray) -> UInt8[np.ndarray, "H W 3"]:
    """RGB of H x W or H x W x 3 numbers: uint8, uint16, or floats from 0 to 1."""
    if array.ndim == 2:
        array = np.stack([array] * 3, axis=-1)
    if array.ndim != 3 or array.shape[2] != 3:
        raise ImageError(
            f"an image array of shape {array.shape} came; allowed are H x W and H x W x 3 "
            "(a tensor also 3 x H x W)"
        )
    if array.dtype == np.uint8:
        return np.array(array)
    if array.dtype == np.uint16:
        return np.round(array / 257).astype(np.uint8)
    if not np.issubdtype(array.dtype, np.floating):
        raise ImageError(
            f"an image array of {array.dtype} came; allowed are uint8, uint16 and floats 0 to 1"
        )
    if not (np.isfinite(array).all() and array.min() >= -1e-3 and array.max() <= 1 + 1e-3):
        raise ImageError("a float image must hold numbers from 0 to 1; divide 0 to 255 by 255")
    return np.round(array.clip(0, 1) * 255).astype(np.uint8)


def _one_line(reason: object) -> str:
    """The reason without line breaks or other characters that a terminal would obey."""
    return "".join(c if c.isprintable() else " " for c in str(reason)).strip()[:200]
