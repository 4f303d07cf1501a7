"""Reading a picture, and Preprocess: pixels on their way into a model, scores on their way back."""

import io
import os
import threading
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, UInt, UInt8
from PIL import Image as PILImage
from torch import Tensor

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF")
MAX_PIXELS = 40_000_000


@runtime_checkable
class BinaryFile(Protocol):
    """An open file, upload or other stream of bytes."""

    def read(self, size: int = -1, /) -> bytes:
        """The rest of the bytes."""
        ...


ImageSource = str | os.PathLike[str] | bytes | BinaryFile | PILImage.Image | np.ndarray | Tensor

FILTERS = {
    "bilinear": PILImage.Resampling.BILINEAR,
    "bicubic": PILImage.Resampling.BICUBIC,
}

_EXIF_ORIENTATION = 0x0112
_UPRIGHT = {
    2: PILImage.Transpose.FLIP_LEFT_RIGHT,
    3: PILImage.Transpose.ROTATE_180,
    4: PILImage.Transpose.FLIP_TOP_BOTTOM,
    5: PILImage.Transpose.TRANSPOSE,
    6: PILImage.Transpose.ROTATE_270,
    7: PILImage.Transpose.TRANSVERSE,
    8: PILImage.Transpose.ROTATE_90,
}
_warning_filters = threading.Lock()


class ImageError(ValueError):
    """A picture that cannot be read; the message is one line that says which and why."""


def read_image(source: ImageSource, *, max_pixels: int = MAX_PIXELS) -> UInt8[np.ndarray, "H W 3"]:
    """The picture as upright RGB: EXIF orientation applied, transparency laid over white.

    Args:
        source: a path; the bytes of a file; an open binary file; a PIL image; an array or tensor of
            H x W or H x W x 3, a tensor also 3 x H x W (which is how 3 x H x 3 is read), of uint8,
            of uint16, or of floats from 0 to 1. Of an animation the first frame counts.
        max_pixels: a larger picture is refused, a file before it is decoded.

    Raises:
        ImageError: the picture is missing, damaged, empty, too large or of another format.
        TypeError: ``source`` is something else.
    """
    if isinstance(source, Tensor):
        source = _channels_last(source)
    if isinstance(source, np.ndarray):
        _check_size("the array", source.shape[1::-1], max_pixels)
        return _array_to_rgb(source)
    if isinstance(source, PILImage.Image):
        _check_size("the PIL image", source.size, max_pixels)
        return _decode(source, "the PIL image")
    name, data = _read_bytes(source)
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
    name, data = _read_bytes(source)
    with _open(data, name) as image:
        _check_size(name, image.size, MAX_PIXELS)
        if image.mode not in ("1", "P", "L") and not image.mode.startswith("I"):
            raise ImageError(
                f"{name}: mode {image.mode}; a mask is a palette or grey PNG or TIFF of class ids"
            )
        try:
            numbers = np.array(image)
        except (OSError, ValueError, SyntaxError) as error:
            raise ImageError(f"{name}: is damaged ({_one_line(error)})") from error
    if numbers.dtype in (np.uint8, np.bool_):
        return numbers.astype(np.uint8)
    if numbers.min() < 0 or numbers.max() > 65535:
        raise ImageError(f"{name}: ids {numbers.min()} to {numbers.max()}; they lie in 0 to 65535")
    return numbers.astype(np.uint16)


def source_name(source: ImageSource) -> str | None:
    """The path of a source that has one, as it was given."""
    return os.fspath(source) if isinstance(source, (str, os.PathLike)) else None


def _read_bytes(source: Any) -> tuple[str, bytes]:
    """A name for messages, and the bytes of the file."""
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


def _open(data: bytes, name: str) -> PILImage.Image:
    """The picture with its header read and nothing decoded."""
    if not data:
        raise ImageError(f"{name}: is empty (0 bytes)")
    try:
        # Pillow warns below its own limit of size; ours is checked next, and is the one that holds.
        with _warning_filters, warnings.catch_warnings():
            warnings.simplefilter("ignore", PILImage.DecompressionBombWarning)
            return PILImage.open(io.BytesIO(data), formats=FORMATS)
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
        orientation = _orientation(image)
        if image.mode == "F" or image.mode.startswith("I"):
            pixels = _array_to_rgb(_deep_grey(image))
            image = PILImage.fromarray(pixels)
        elif image.has_transparency_data:
            overlay = image.convert("RGBA")
            image = PILImage.new("RGBA", overlay.size, "white")
            image.alpha_composite(overlay)
        image = image.convert("RGB")
        if orientation in _UPRIGHT:
            image = image.transpose(_UPRIGHT[orientation])
        return np.array(image)
    except ImageError as error:
        raise ImageError(f"{name}: {error}") from error
    except Exception as error:  # broken pixels make Pillow's decoders raise nearly anything
        raise ImageError(f"{name}: is truncated or damaged ({_one_line(error)})") from error


def _orientation(image: PILImage.Image) -> int:
    """EXIF's orientation, 1 (upright) where it is absent or cannot be read."""
    try:
        return int(image.getexif().get(_EXIF_ORIENTATION, 1))
    except Exception:  # a damaged EXIF block does not make the picture unreadable
        return 1


def _deep_grey(image: PILImage.Image) -> np.ndarray:
    """Grey of more than 8 bits: floats as they are, integers on the scale of 16 bits."""
    values = np.asarray(image)
    return values if image.mode == "F" else values.clip(0, 65535).astype(np.uint16)


def _channels_last(tensor: Tensor) -> np.ndarray:
    tensor = tensor.detach().cpu()
    if tensor.is_floating_point():
        tensor = tensor.float()
    if tensor.ndim == 3 and tensor.shape[0] == 3:
        tensor = rearrange(tensor, "C H W -> H W C")
    return tensor.numpy()


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


@dataclass(frozen=True)
class Preprocess:
    """How pixels must arrive: resize, normalise, pad, squash; and exactly back for scores.

    Attributes:
        mean: of each channel, on the scale 0 to 255.
        std: of each channel, on the scale 0 to 255.
        shorter: length of the shorter side after Pillow's antialiased resize that keeps the aspect
            ratio; None leaves the size as it is.
        longest: the longer side is not made longer than this, whatever ``shorter`` says.
        filter: Pillow's filter for that resize.
        multiple: each side is rounded to the nearest multiple of this, at least one multiple.
        pad_multiple: zeros are added to the normalised image, right and below, up to a multiple of
            this.
        crop_padding: scores are cropped by that padding on their way back; False stretches them,
            padding included, over the image as some authors' evaluation does.
        squash: (height, width) to which the padded image is then stretched, its aspect ratio lost
            (bilinear, not antialiased: some authors' evaluation).
    """

    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    shorter: int | None = None
    longest: int | None = None
    filter: Literal["bilinear", "bicubic"] = "bilinear"
    multiple: int = 1
    pad_multiple: int = 1
    crop_padding: bool = True
    squash: tuple[int, int] | None = None

    def __call__(self, image: UInt8[np.ndarray, "H W 3"]) -> Float[Tensor, "3 h w"]:
        """The normalised tensor of one RGB image."""
        height, width = self.resized_size(image.shape[0], image.shape[1])
        if (height, width) != image.shape[:2]:
            resized = PILImage.fromarray(image).resize((width, height), FILTERS[self.filter])
            image = np.asarray(resized)
        return self.normalise(torch.tensor(image).permute(2, 0, 1).float())

    def resized_size(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) after the resize that keeps the aspect ratio."""
        scale = 1.0
        if self.shorter is not None:
            scale = self.shorter / min(height, width)
        if self.longest is not None:
            scale = min(scale, self.longest / max(height, width))
        return self._round(height * scale), self._round(width * scale)

    def normalise(self, pixels: Float[Tensor, "3 H W"]) -> Float[Tensor, "3 h w"]:
        """RGB of 0 to 255 at its final aspect-keeping size, normalised, padded and squashed."""
        mean = torch.tensor(self.mean, device=pixels.device).view(3, 1, 1)
        std = torch.tensor(self.std, device=pixels.device).view(3, 1, 1)
        pixels = (pixels - mean) / std
        pad_height, pad_width = (-n % self.pad_multiple for n in pixels.shape[-2:])
        pixels = F.pad(pixels, (0, pad_width, 0, pad_height))
        return pixels if self.squash is None else _bilinear(pixels, self.squash)

    def restore(
        self, scores: Float[Tensor, "T h w"], size: tuple[int, int]
    ) -> Float[Tensor, "T H W"]:
        """Scores of the prepared image, brought to the original ``size`` (height, width)."""
        if self.pad_multiple > 1 and self.crop_padding:
            before = self.resized_size(*size)
            padded = (
                before[0] + -before[0] % self.pad_multiple,
                before[1] + -before[1] % self.pad_multiple,
            )
            if tuple(scores.shape[-2:]) != padded:
                scores = _bilinear(scores, padded)
            scores = scores[:, : before[0], : before[1]]
        return _bilinear(scores, size)

    def _round(self, length: float) -> int:
        return max(self.multiple, int(length / self.multiple + 0.5) * self.multiple)


def _bilinear(maps: Float[Tensor, "C _ _"], size: tuple[int, int]) -> Float[Tensor, "C _ _"]:
    return F.interpolate(maps[None], size=size, mode="bilinear", align_corners=False)[0]
