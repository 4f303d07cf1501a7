"""The resize of several authors: bilinear without antialiasing, in whole numbers, as by OpenCV."""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Int64, UInt8

from lexiseg.images import Preprocess

ONE = 2048  # a weight of 1, in OpenCV's steps


@dataclass(frozen=True)
class PlainResize(Preprocess):
    """As :class:`Preprocess`, with OpenCV's bilinear samples instead of Pillow's filters.

    A photograph that is made much smaller is not averaged but sampled, as published.

    Attributes:
        patch: where ``longest`` keeps the shorter side below ``shorter``, both sides are rounded to
            a multiple of this: SegCLIP's authors' code cannot run there.
    """

    patch: int = 1

    def resized(self, image: UInt8[np.ndarray, "H W 3"]) -> UInt8[np.ndarray, "h w 3"]:
        """The image after the resize that keeps the aspect ratio."""
        return plain_resize(image, self.resized_size(image.shape[0], image.shape[1]))

    def resized_size(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) after the resize that keeps the aspect ratio."""
        size = super().resized_size(height, width)
        if self.shorter is None or min(size) >= self.shorter:
            return size
        return replace(self, multiple=self.patch, shorter=None).resized_size(*size)


def plain_resize(
    image: UInt8[np.ndarray, "H W C"], size: tuple[int, int]
) -> UInt8[np.ndarray, "h w C"]:
    """A picture at ``size`` (height, width), corners not aligned.

    Equal to ``cv2.resize`` but for one pixel of a thousand, which is one level off, where a small
    picture is enlarged.
    """
    if image.shape[:2] == size:
        return image
    (top, down), (left, across) = (
        _samples(source, target) for source, target in zip(image.shape[:2], size, strict=True)
    )
    pixels = image.astype(np.int64)
    last_row, last_column = image.shape[0] - 1, image.shape[1] - 1
    columns = pixels[:, left] * (ONE - across)[:, None]
    columns += pixels[:, np.minimum(left + 1, last_column)] * across[:, None]
    columns >>= 4  # the widths of OpenCV's shifts, which drop the last bits on the way
    rows = (columns[top] * (ONE - down)[:, None, None]) >> 16
    rows += (columns[np.minimum(top + 1, last_row)] * down[:, None, None]) >> 16
    return ((rows + 2) >> 2).clip(0, 255).astype(np.uint8)


def _samples(source: int, target: int) -> tuple[Int64[np.ndarray, " N"], Int64[np.ndarray, " N"]]:
    """The pixel before each sample, and the weight of the one behind it, 0 to 2048."""
    places = ((np.arange(target) + 0.5) * (source / target) - 0.5).astype(np.float32)
    before = np.floor(places)
    weights = np.rint((places - before) * np.float32(ONE)).astype(np.int64)
    weights[(before < 0) | (before >= source - 1)] = 0
    return before.clip(0, source - 1).astype(np.int64), weights
