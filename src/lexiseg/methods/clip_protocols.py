"""How images reach a method that works on the whole grid of a CLIP ViT."""

from typing import Any

from lexiseg.encoders.clip import MEAN, STD
from lexiseg.images import Preprocess
from lexiseg.methods.base import Protocol, Tiling

SHRUNK = Preprocess(mean=MEAN, std=STD, shorter=640, longest=2560)  # before the windows


def whole_image(size: int, patch: int) -> Protocol:
    """The whole image at its own aspect ratio, its shorter side ``size``."""
    keep = Preprocess(mean=MEAN, std=STD, shorter=size, longest=4 * size, multiple=patch)
    return Protocol(keep)


def windows(size: int, **choices: Any) -> Protocol:
    """2 x 2 windows of the image, stretched to a square, and the whole of it once more.

    CAT-Seg's published evaluation. Each is seen at ``size`` pixels; ``choices`` are the protocol's.
    """
    tiling = Tiling(window=384, stride=256, whole_size=384, squash=(640, 640), input_size=size)
    return Protocol(SHRUNK, tiling, **choices)
