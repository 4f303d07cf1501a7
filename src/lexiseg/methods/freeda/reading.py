"""The authors' way of a picture to its size: OpenCV's bilinear resize of bytes."""

from dataclasses import dataclass

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float, Int64, UInt8
from torch import Tensor

from lexiseg.images import Preprocess

ONE = 2048  # OpenCV weighs two pixels by whole numbers that add up to this


@dataclass(frozen=True)
class OpenCVPreprocess(Preprocess):
    """As :class:`Preprocess`, with another resize; ``filter`` plays no part."""

    def __call__(self, image: UInt8[np.ndarray, "H W 3"]) -> Float[Tensor, "3 h w"]:
        """The tensor of one RGB image."""
        size = self.resized_size(image.shape[0], image.shape[1])
        if size != image.shape[:2]:
            image = resize_bytes(image, size)
        return self.normalise(torch.tensor(rearrange(image, "H W C -> C H W")).float())


def resize_bytes(
    image: UInt8[np.ndarray, "H W C"], size: tuple[int, int]
) -> UInt8[np.ndarray, "h w C"]:
    """Bilinear, not antialiased, in whole numbers; exactly half a size is the mean of 2 x 2.

    Equal to ``cv2.resize`` but for one pixel of a thousand, which differs by one, where a small
    image is enlarged.
    """
    numbers = image.astype(np.int64)
    if image.shape[:2] == (2 * size[0], 2 * size[1]):
        squares = rearrange(numbers, "(h p) (w q) C -> (p q) h w C", p=2, q=2)
        return ((squares.sum(axis=0) + 2) >> 2).astype(np.uint8)
    (top, bottom, low, high), (left, right, near, far) = (
        _two_pixels(length, wanted) for length, wanted in zip(image.shape[:2], size, strict=True)
    )
    rows = numbers[:, left] * near[:, None] + numbers[:, right] * far[:, None]
    # The widths of OpenCV's shifts, which drop the last bits on the way.
    upper = (low[:, None, None] * (rows[top] >> 4)) >> 16
    lower = (high[:, None, None] * (rows[bottom] >> 4)) >> 16
    return ((upper + lower + 2) >> 2).clip(0, 255).astype(np.uint8)


_Numbers = Int64[np.ndarray, " S"]


def _two_pixels(length: int, wanted: int) -> tuple[_Numbers, _Numbers, _Numbers, _Numbers]:
    """The two pixels that each sample lies between, and their weights."""
    centres = ((np.arange(wanted) + 0.5) * (length / wanted) - 0.5).astype(np.float32)
    before = np.floor(centres).astype(np.int64)
    part = centres - before.astype(np.float32)
    part[(before < 0) | (before >= length - 1)] = 0
    before = before.clip(0, length - 1)
    weights = (np.rint(each * np.float32(ONE)).astype(np.int64) for each in (1 - part, part))
    first, second = weights
    return before, (before + 1).clip(max=length - 1), first, second
