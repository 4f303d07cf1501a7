"""The encoders of FreeDA: features of places, a feature of the whole view, features of texts.

Letters beyond the library's: E channels of the text space.
"""

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from lexiseg.encoders.base import Encoder
from lexiseg.encoders.clip import CLIP, MEAN, STD
from lexiseg.encoders.dinov2 import IMAGENET_MEAN, IMAGENET_STD, DINOv2

Colour = tuple[float, float, float]


@runtime_checkable
class Towers(Protocol):
    """What FreeDA asks of its encoders; images are RGB from 0 to 255."""

    def see(
        self, images: Float[Tensor, "B 3 H W"], *, squash: bool
    ) -> tuple[Float[Tensor, "B D h w"], Float[Tensor, "B E"]]:
        """Features of places, and of each view as a whole; nothing is normalised."""
        ...

    def read(self, prompts: Sequence[str]) -> Float[Tensor, "P E"]:
        """Features of sentences, not normalised."""
        ...


class TwoTowers(nn.Module):
    """DINOv2 for the places, CLIP for the whole view and the texts, as published.

    Args:
        dino: whose patch features, behind its last norm, are the places.
        clip: an image tower of ``clip_size`` pixels and a text tower.
        dino_size: side of the square to which a view is squashed, in pixels.
        clip_size: side of the square in which CLIP sees the whole view.
    """

    def __init__(
        self, dino: DINOv2, clip: CLIP, *, dino_size: int = 518, clip_size: int = 224
    ) -> None:
        super().__init__()
        self.dino = dino
        self.clip = clip
        self.dino_size = dino_size
        self.clip_size = clip_size

    def see(
        self, images: Float[Tensor, "B 3 H W"], *, squash: bool
    ) -> tuple[Float[Tensor, "B D h w"], Float[Tensor, "B E"]]:
        """With ``squash`` in a square of ``dino_size``; else at the nearest multiple of a patch."""
        patch = self.dino.patch_size
        size = tuple(max(1, round(side / patch)) * patch for side in images.shape[-2:])
        if squash:
            size = (self.dino_size, self.dino_size)
        places = self.dino(normalised(_resized(images, size, "bilinear"), DINO_COLOURS))
        # Bicubic overshoots 0 and 255, which the authors leave.
        square = _resized(images, (self.clip_size, self.clip_size), "bicubic")
        whole = self.clip.encode_images(normalised(square, CLIP_COLOURS)).pooled
        return places.patch_features, whole

    def read(self, prompts: Sequence[str]) -> Float[Tensor, "P E"]:
        """Features of sentences by CLIP."""
        return self.clip.encode_prompts(prompts).pooled


class OneTower(nn.Module):
    """One encoder, whose patches and sentences share a space, for everything.

    Args:
        encoder: such as the bundled one.
        colours: mean and deviation of each channel that it wants, on the scale 0 to 255.
    """

    def __init__(self, encoder: Encoder, *, colours: tuple[Colour, Colour]) -> None:
        super().__init__()
        self.encoder = encoder
        self.colours = colours

    def see(
        self, images: Float[Tensor, "B 3 H W"], *, squash: bool = False
    ) -> tuple[Float[Tensor, "B D h w"], Float[Tensor, "B E"]]:
        """At the size they came in."""
        features = self.encoder.encode_images(normalised(images, self.colours))
        return features.patch_features, features.pooled

    def read(self, prompts: Sequence[str]) -> Float[Tensor, "P E"]:
        """Features of sentences."""
        return self.encoder.encode_prompts(prompts).pooled


CLIP_COLOURS = (MEAN, STD)
DINO_COLOURS = (IMAGENET_MEAN, IMAGENET_STD)


def normalised(
    images: Float[Tensor, "B 3 H W"], colours: tuple[Colour, Colour]
) -> Float[Tensor, "B 3 H W"]:
    """RGB from 0 to 255, less the mean and by the deviation."""
    mean, deviation = (images.new_tensor(each).view(3, 1, 1) for each in colours)
    return (images - mean) / deviation


def _resized(images: Tensor, size: Any, mode: str) -> Tensor:
    """Not antialiased, corners not aligned."""
    if tuple(images.shape[-2:]) == tuple(size):
        return images
    return F.interpolate(images, size=size, mode=mode, align_corners=False)
