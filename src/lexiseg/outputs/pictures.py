"""PNG and JPEG: the label map with a palette, the overlay, confidence and scores in 16 bits."""

import io

import numpy as np
from jaxtyping import Float
from PIL import Image

from lexiseg.outputs.base import Segmented
from lexiseg.palette import colours

_ROWS = 256  # turned into 16 bits at a time


def label_png(result: Segmented) -> bytes:
    """The label map: a palette PNG, or with more than 255 labels a 16-bit grey one."""
    image = Image.fromarray(np.asarray(result.label_map))
    if result.label_map.dtype == np.uint8:
        palette = np.zeros((256, 3), dtype=np.uint8)
        palette[: len(result.labels)] = colours(len(result.labels))
        image.putpalette(palette.tobytes())
    return png_bytes(image)


def overlay(result: Segmented, *, as_jpeg: bool) -> bytes:
    """The picture tinted by its labels, above a legend."""
    return (jpeg_bytes if as_jpeg else png_bytes)(result.plot())


def confidence_png(result: Segmented) -> bytes:
    """The winner's score at each pixel, 0 to 65535 for 0 to 1."""
    return _grey(result.confidence)


def score_png(result: Segmented, index: int) -> bytes:
    """The score of one label at each pixel, 0 to 65535 for 0 to 1.

    Raises:
        ValueError: the scores were not kept.
    """
    if result.scores is None:
        raise ValueError("maps need the scores of every label; segment with scores=True")
    return _grey(result.scores[index])


def _grey(values: Float[np.ndarray, "H W"]) -> bytes:
    grey = np.empty(values.shape, dtype=np.uint16)
    for top in range(0, len(values), _ROWS):
        part = np.asarray(values[top : top + _ROWS], dtype=np.float32)
        grey[top : top + _ROWS] = (part.clip(0, 1) * 65535).round()
    return png_bytes(Image.fromarray(grey))


def jpeg_bytes(picture: Image.Image) -> bytes:
    """A file for looking at, its colours as sharp as its light."""
    buffer = io.BytesIO()
    picture.save(buffer, format="JPEG", quality=92, subsampling=0)
    return buffer.getvalue()


def png_bytes(image: Image.Image) -> bytes:
    """A file of exactly these pixels."""
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()
