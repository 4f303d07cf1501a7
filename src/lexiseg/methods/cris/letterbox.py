"""The authors' way of a picture into the model and of scores back: centred in a square, no crop.

Letters beyond the library's: S side of the square.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from lexiseg.images import Preprocess

Filter = Literal["bilinear", "bicubic"]

# OpenCV 4 places a sample to a 1024th of a pixel and then takes the nearest of 32 positions.
FINE, COARSE = 1024, 32
CUBIC = -0.75  # its parameter of the cubic kernel


@dataclass(frozen=True)
class Letterbox(Preprocess):
    """Scaled until it fits a square, centred there, the border in the mean colour; and back.

    The scale is min(side / height, side / width), offsets are fractions of a pixel, and samples
    are taken as OpenCV 4 takes them, to a grey level. ``shorter``, ``longest`` and what follows of
    :class:`Preprocess` play no part.

    Attributes:
        side: of the square, in pixels; published is 416.
    """

    side: int = 416

    def __call__(self, image: UInt8[np.ndarray, "H W 3"]) -> Float[Tensor, "3 S S"]:
        """The normalised tensor of one RGB image."""
        return self.normalise(self.enter(image))

    def enter(self, image: UInt8[np.ndarray, "H W 3"]) -> Float[Tensor, "3 S S"]:
        """The pixels in the square, whole numbers from 0 to 255."""
        pixels = torch.tensor(image).permute(2, 0, 1)
        border = torch.tensor(self.mean, dtype=torch.float64).round()
        return self._enter(pixels, border, "bicubic").round().clamp(0, 255).float()

    def enter_mask(self, mask: Bool[np.ndarray, "H W"]) -> Float[Tensor, "S S"]:
        """A mask in the square, from 0 to 1 in steps of 1/255: its edges are soft, as published."""
        pixels = torch.tensor(mask, dtype=torch.uint8)[None] * 255
        entered = self._enter(pixels, torch.zeros(1, dtype=torch.float64), "bilinear")
        return entered[0].round().float() / 255

    def resized_size(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) of what the model sees."""
        return self.side, self.side

    def restore(
        self, scores: Float[Tensor, "T h w"], size: tuple[int, int]
    ) -> Float[Tensor, "T H W"]:
        """Scores of the square, brought to the original ``size``; they stay between 0 and 1.

        Bicubic to the square with aligned corners, then the inverse map, bicubic, as published.
        """
        square = self.magnify(scores)
        down, across = (
            sampling_weights(self.side, length, scale, offset, "bicubic").to(square)
            for length, (scale, offset) in zip(size, self.placement(*size), strict=True)
        )
        return torch.einsum("hs,tsr,wr->thw", down, square, across).clamp(0, 1)

    def magnify(self, scores: Float[Tensor, "T h w"]) -> Float[Tensor, "T S S"]:
        """Scores of the model's grid at the size of the square."""
        size = (self.side, self.side)
        return F.interpolate(scores[None], size=size, mode="bicubic", align_corners=True)[0]

    def placement(self, height: int, width: int) -> tuple[tuple[float, float], tuple[float, float]]:
        """Scale and offset in pixels of the square, downwards and then across.

        Corners are rounded to float32, as published, which moves the last pixel by up to 1e-5.
        """
        scale = min(self.side / height, self.side / width)
        return self._place(height, scale), self._place(width, scale)

    def _place(self, length: int, scale: float) -> tuple[float, float]:
        exact = (self.side - length * scale) / 2
        first, last = (float(np.float32(corner)) for corner in (exact, exact + length * scale))
        return (last - first) / length, first

    def _enter(
        self, pixels: UInt8[Tensor, "C H W"], border: Float[Tensor, " C"], kind: Filter
    ) -> Float[Tensor, "C S S"]:
        size = (pixels.shape[1], pixels.shape[2])
        down, across = (
            sampling_weights(length, self.side, 1 / scale, -offset / scale, kind)
            for length, (scale, offset) in zip(size, self.placement(*size), strict=True)
        )
        rows, columns = down.any(dim=0), across.any(dim=0)  # of a large image, the few that count
        taken = pixels[:, rows][:, :, columns].double()
        inside = torch.einsum("sh,chw,rw->csr", down[:, rows], taken, across[:, columns])
        outside = 1 - down.sum(dim=1)[:, None] * across.sum(dim=1)
        return inside + outside * border[:, None, None]


def sampling_weights(
    source: int, target: int, step: float, start: float, kind: Filter
) -> Float[Tensor, "target source"]:
    """What each sample takes of each pixel along one axis; pixels beyond the ends are left out.

    Args:
        source: pixels there are.
        target: samples to take.
        step: from a sample to the next, in pixels.
        start: where the first one lies; whole numbers are centres of pixels.
        kind: of interpolation, without antialiasing.
    """
    finest = (torch.arange(target, dtype=torch.float64) * step * FINE).round()
    finest = finest + round(start * FINE) + FINE // COARSE // 2
    steps = finest.div(FINE // COARSE, rounding_mode="floor")
    whole = steps.div(COARSE, rounding_mode="floor")
    fraction = (steps - whole * COARSE) / COARSE
    taps = (0, 1) if kind == "bilinear" else (-1, 0, 1, 2)
    weights = torch.zeros(target, source, dtype=torch.float64)
    for tap in taps:
        distance = (fraction - tap).abs()
        part = 1 - distance if kind == "bilinear" else _cubic(distance)
        place = (whole + tap).long()
        there = (place >= 0) & (place < source)
        rows = torch.arange(target)[there]
        weights[rows, place[there]] += part[there]
    return weights


def _cubic(distance: Float[Tensor, " N"]) -> Float[Tensor, " N"]:
    """Keys' kernel (1981) at distances from 0 to 2."""
    near = ((CUBIC + 2) * distance - (CUBIC + 3)) * distance**2 + 1
    far = ((distance - 5) * distance + 8) * distance * CUBIC - 4 * CUBIC
    return torch.where(distance <= 1, near, far)
