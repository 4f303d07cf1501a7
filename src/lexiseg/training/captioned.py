"""Photographs with captions as SegCLIP learns from them: crops and superpixels."""

import math
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from lexiseg.data.captions import CaptionSample
from lexiseg.data.order import EpochOrder
from lexiseg.images import Preprocess
from lexiseg.superpixels import crop_superpixels, patch_ids

AREA = (0.5, 1.0)  # of the photograph, published
RATIO = (3 / 4, 4 / 3)  # of width and height, published
ATTEMPTS = 10


@dataclass(frozen=True)
class CaptionedCrop:
    """A crop of a photograph with its caption.

    Attributes:
        image: normalised pixels.
        caption: of the whole photograph.
        superpixels: id of each patch.
    """

    image: Float[Tensor, "3 H W"]
    caption: str
    superpixels: Int[Tensor, "h w"]


@runtime_checkable
class Captioned(Protocol):
    """Photographs with captions and superpixels, such as a ``CaptionDataset``."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> CaptionSample: ...


class CaptionCrops(Dataset[CaptionedCrop]):
    """Passes over photographs with captions, in a new order each time.

    Sample ``i`` depends on the seed and on ``i`` alone.

    Args:
        captions: photographs with captions and superpixels.
        preprocess: its normalisation.
        size: side of a crop in pixels.
        patch: side of a patch.
        length: samples in all.
        seed: of the order and of the crops.
        published: a patch gets the mean of its pixels' superpixel ids, without its fraction, as the
            authors have it; else the superpixel of most of its pixels.
    """

    def __init__(
        self,
        captions: Captioned,
        *,
        preprocess: Preprocess,
        size: int,
        patch: int,
        length: int,
        seed: int,
        published: bool,
    ) -> None:
        if len(captions) == 0:
            raise ValueError("there are no captions to learn from")
        self.captions = captions
        self.preprocess = preprocess
        self.size, self.patch = size, patch
        self.length = length
        self.seed = seed
        self.published = published
        self.pair = EpochOrder(len(captions), seed=seed, key=0)

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> CaptionedCrop:
        """Sample ``index``, the same at every call."""
        sample = self.captions[self.pair(index)]
        if sample.superpixels is None:
            raise ValueError(f"{sample.name} came without superpixels; open the captions with them")
        box = random_box(sample.image.shape[:2], np.random.default_rng((self.seed, index)))
        pixels = torch.from_numpy(crop_photograph(sample.image, box, self.size))
        side = self.size // self.patch
        ids = patch_ids(
            crop_superpixels(
                sample.superpixels,
                published_box(box, sample.image.shape[:2]),
                (self.size, self.size),
            ),
            (side, side),
            "published" if self.published else "majority",
        )
        return CaptionedCrop(
            image=self.preprocess.normalise(pixels.permute(2, 0, 1).float()),
            caption=sample.caption,
            superpixels=torch.from_numpy(ids),
        )


Box = tuple[int, int, int, int]  # left, top, right, bottom in pixels


def random_box(size: tuple[int, ...], generator: np.random.Generator) -> Box:
    """A part of a photograph: its area and the logarithm of its ratio are uniform.

    Where ten draws do not fit, the largest part in the middle whose ratio is allowed (Inception's
    crop, Szegedy et al., CVPR 2015, section 6, as torchvision has it).
    """
    height, width = size
    for _ in range(ATTEMPTS):
        area = height * width * generator.uniform(*AREA)
        ratio = math.exp(generator.uniform(math.log(RATIO[0]), math.log(RATIO[1])))
        across, down = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < across <= width and 0 < down <= height:
            left = int(generator.integers(width - across + 1))
            top = int(generator.integers(height - down + 1))
            return left, top, left + across, top + down
    ratio = min(max(width / height, RATIO[0]), RATIO[1])
    across, down = min(width, round(height * ratio)), min(height, round(width / ratio))
    left, top = (width - across) // 2, (height - down) // 2
    return left, top, left + across, top + down


def crop_photograph(
    image: UInt8[np.ndarray, "H W 3"], box: Box, size: int
) -> UInt8[np.ndarray, "S S 3"]:
    """The part within a box as a square (Pillow's bicubic filter)."""
    part = Image.fromarray(image).crop(box)
    return np.array(part.resize((size, size), Image.Resampling.BICUBIC))


def published_box(box: Box, size: tuple[int, ...]) -> tuple[float, float, float, float]:
    """The box as parts of the photograph, from its first to its last pixel, as the authors count.

    A superpixel's edge so moves by less than a pixel of the photograph.
    """
    down, across = (max(1, side - 1) for side in size)
    left, top, right, bottom = box
    return left / across, top / down, (right - 1) / across, (bottom - 1) / down
