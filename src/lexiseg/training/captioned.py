"""Photographs with captions as SegCLIP learns from them: crops, tokens, superpixels, losses."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, UInt8
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import Dataset

from lexiseg.data.captions import CaptionSample
from lexiseg.encoders.tokenizer import tokenize
from lexiseg.images import Preprocess
from lexiseg.methods.segclip.finetuning import LARGEST_LOG_SCALE
from lexiseg.methods.segclip.grouping import gumbel_noise
from lexiseg.methods.segclip.model import SegCLIP
from lexiseg.methods.segclip.objectives import (
    contrastive_loss,
    published_superpixel_loss,
    reconstruction_loss,
    superpixel_loss,
)
from lexiseg.methods.segclip.reconstruction import Reconstruction, hide, pixels_of_patches
from lexiseg.superpixels import crop_superpixels, patch_ids
from lexiseg.training.gather import gather_rows
from lexiseg.training.run import Batch

_ORDER = 0  # keeps the chance of the order apart from that of the crops
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
        self._order = (-1, np.empty(0, np.int64))

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> CaptionedCrop:
        """Sample ``index``, the same at every call."""
        epoch, place = divmod(index, len(self.captions))
        if self._order[0] != epoch:
            order = np.random.default_rng((self.seed, epoch, _ORDER))
            self._order = (epoch, order.permutation(len(self.captions)))
        sample = self.captions[int(self._order[1][place])]
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


@dataclass(frozen=True)
class Noise:
    """All chance of a step.

    Attributes:
        assignment: Gumbel noise of the patches.
        hiding: one number for each patch; those with the least stay visible.
        visible_assignment: Gumbel noise of the patches that stay visible.
    """

    assignment: Float[Tensor, "B G N"]
    hiding: Float[Tensor, "B N"]
    visible_assignment: Float[Tensor, "B G K"]

    @classmethod
    def draw(cls, images: int, groups: int, patches: int) -> "Noise":
        """From torch's own generator, which the loop seeds."""
        hiding = torch.rand(images, patches)
        return cls(
            gumbel_noise((images, groups, patches)),
            hiding,
            gumbel_noise((images, groups, hide(hiding).kept)),
        )

    def to(self, device: torch.device) -> "Noise":
        """The same on a device."""
        parts = (self.assignment, self.hiding, self.visible_assignment)
        return Noise(*(part.to(device) for part in parts))


class SegCLIPObjective(nn.Module):
    """The sum of three losses (the paper's equation 8), each a function of the model's output.

    Args:
        model: what is trained.
        reconstruction: trained along, and not needed afterwards.
        published: the superpixel loss on ones and zeros, as the authors have it, instead of on
            probabilities.
        mix_batch: the released weights' bug; see ``CrossLayer``.
        token_length: so many tokens of a caption are read; published are 32.
    """

    def __init__(
        self,
        model: SegCLIP,
        reconstruction: Reconstruction,
        *,
        published: bool = True,
        mix_batch: bool = False,
        token_length: int = 32,
    ) -> None:
        super().__init__()
        self.model = model
        self.reconstruction = reconstruction
        self.published = published
        self.mix_batch = mix_batch
        self.token_length = token_length

    def forward(self, batch: Batch | Sequence[CaptionedCrop]) -> dict[str, Tensor]:
        """Named losses of a batch."""
        with torch.no_grad():  # published: after each step
            self.model.encoder.logit_scale.clamp_(max=LARGEST_LOG_SCALE)
        images = torch.stack([sample.image for sample in batch])
        superpixels = torch.stack([sample.superpixels for sample in batch]).flatten(1)
        captions = [sample.caption for sample in batch]
        tokens = tokenize(captions, context_length=self.token_length, truncate=True)
        noise = Noise.draw(len(images), self.model.config.groups, superpixels.shape[1])
        return self.losses(images, tokens.to(images.device), superpixels, noise.to(images.device))

    def losses(
        self,
        images: Float[Tensor, "B 3 H W"],
        tokens: Int[Tensor, "B L"],
        superpixels: Int[Tensor, "B N"],
        noise: Noise,
    ) -> dict[str, Tensor]:
        """Contrast, superpixels and hidden patches; no chance is drawn."""
        tower = self.model.tower
        seen = self.model.look(images, noise=noise.assignment, mix_batch=self.mix_batch)
        image_features = F.normalize(seen.image.float(), dim=-1)
        text_features = F.normalize(self.model.encoder.text(tokens).pooled.float(), dim=-1)
        all_images, first = gather_rows(image_features)
        all_texts, _ = gather_rows(text_features)
        contrast = contrastive_loss(
            image_features,
            text_features,
            self.model.scale,
            all_images=all_images,
            all_texts=all_texts,
            first=first,
        )
        if self.published:
            divergence = published_superpixel_loss(seen.groups.assignment.float(), superpixels)
        else:
            divergence = superpixel_loss(seen.groups.logits.float(), superpixels)
        hiding = hide(noise.hiding)
        embedded, grid = tower.embed(images)
        groups = tower.grouping(
            tower.patches(embedded, hiding.visible),
            noise=noise.visible_assignment,
            mix_batch=self.mix_batch,
        )
        predicted = self.reconstruction(groups, hiding, grid).float()
        shown = pixels_of_patches(images, tower.patch_size)
        return {
            "contrast": contrast,
            "superpixels": divergence,
            "hidden patches": reconstruction_loss(predicted, shown, hiding.hidden),
        }
