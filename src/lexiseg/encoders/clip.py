"""CLIP (Radford et al., ICML 2021): images and sentences in one space; its published variants.

image  ─ image tower (clip_vit.py, clip_resnet.py) ─ pooled, patch_features ─┐
                                                                             ├─ exp(logit_scale)
prompt ─ tokenizer.py ─ text tower (clip_text.py) ─ pooled ──────────────────┘  * cosine
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from PIL import Image as PILImage
from torch import Tensor, nn

from lexiseg.encoders.base import ImageFeatures, TextFeatures
from lexiseg.encoders.clip_resnet import ModifiedResNet, ResNetDense
from lexiseg.encoders.clip_text import TextTransformer
from lexiseg.encoders.clip_vit import Dense, VisionTransformer
from lexiseg.encoders.tokenizer import tokenize
from lexiseg.layers.blocks import Activation

# Mean and deviation of each colour in CLIP's training images, on the scale 0 to 255.
MEAN = (0.48145466 * 255, 0.4578275 * 255, 0.40821073 * 255)
STD = (0.26862954 * 255, 0.26130258 * 255, 0.27577711 * 255)

CHANNELS_A_HEAD = 64


@dataclass(frozen=True)
class CLIPConfig:
    """Architecture of a CLIP with a vision transformer; the defaults are ViT-B/16.

    Attributes:
        dim: channels of the joint space.
        image_size: side of the square images of pre-training; others are allowed later.
        patch_size: side of a patch in pixels.
        vision_width: channels of the image tower; a head has 64 of them.
        vision_layers: blocks of the image tower.
        text_width: channels of the text tower; a head has 64 of them.
        text_layers: blocks of the text tower.
        context_length: most tokens of a prompt.
        vocabulary: number of different tokens.
        activation: OpenAI's weights were trained with "quick_gelu", most of open_clip's own with
            "gelu"; the tensors do not show it.
    """

    dim: int = 512
    image_size: int = 224
    patch_size: int = 16
    vision_width: int = 768
    vision_layers: int = 12
    text_width: int = 512
    text_layers: int = 12
    context_length: int = 77
    vocabulary: int = 49408
    activation: Activation = "quick_gelu"


@dataclass(frozen=True)
class CLIPResNetConfig:
    """Architecture of a CLIP with a modified ResNet; the defaults are RN50.

    Attributes:
        dim: channels of the joint space.
        image_size: side of the square images of pre-training; others are allowed later.
        vision_width: channels of the stem; the last map has 32 times as many, and a head 64.
        vision_layers: blocks of the four stages.
        text_width: channels of the text tower; a head has 64 of them.
        text_layers: blocks of the text tower.
        context_length: most tokens of a prompt.
        vocabulary: number of different tokens.
        activation: of the text tower; as in :class:`CLIPConfig`.
    """

    dim: int = 1024
    image_size: int = 224
    vision_width: int = 64
    vision_layers: tuple[int, ...] = (3, 4, 6, 3)
    text_width: int = 512
    text_layers: int = 12
    context_length: int = 77
    vocabulary: int = 49408
    activation: Activation = "quick_gelu"


class CLIP(nn.Module):
    """An image tower and a text tower; follows the protocol ``Encoder`` of base.py.

    Args:
        visual: the image tower, such as ``VisionTransformer`` or ``ModifiedResNet``; its docstring
            names the parameters.
        text: the text tower.
        dim: channels of the joint space.

    Attributes:
        logit_scale: logarithm of what cosines are multiplied by.
    """

    def __init__(self, *, visual: nn.Module, text: TextTransformer, dim: int) -> None:
        super().__init__()
        self.dim = dim
        self.visual = visual
        self.text = text
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))

    def encode_images(
        self, images: Float[Tensor, "B 3 H W"], *, intermediates: Sequence[int] = ()
    ) -> ImageFeatures:
        """Features of normalised images; ``intermediates`` numbers blocks or stages from 0."""
        return self.visual(images, intermediates=intermediates)

    def encode_prompts(self, prompts: Sequence[str]) -> TextFeatures:
        """Features of sentences, each taken as it stands.

        Raises:
            ValueError: no prompt, or one with more tokens than the tower has positions.
        """
        ids = tokenize(prompts, context_length=self.text.context_length)
        return self.text(ids.to(self.logit_scale.device))

    def forward(
        self, images: Float[Tensor, "B 3 H W"], prompts: Sequence[str]
    ) -> Float[Tensor, "B P"]:
        """How well each image goes with each prompt: scaled cosines, before any softmax."""
        image_features = F.normalize(self.encode_images(images).pooled, dim=-1)
        text_features = F.normalize(self.encode_prompts(prompts).pooled, dim=-1)
        return self.logit_scale.exp() * image_features @ text_features.T


def build_clip(config: CLIPConfig, *, dense: Dense = "final") -> CLIP:
    """A CLIP with untrained weights; ``dense`` is explained at ``VisionTransformer``."""
    visual = VisionTransformer(
        image_size=config.image_size,
        patch_size=config.patch_size,
        width=config.vision_width,
        layers=config.vision_layers,
        heads=config.vision_width // CHANNELS_A_HEAD,
        dim=config.dim,
        activation=config.activation,
        dense=dense,
    )
    return CLIP(visual=visual, text=build_text_tower(config), dim=config.dim)


def build_clip_resnet(config: CLIPResNetConfig, *, dense: ResNetDense = "value") -> CLIP:
    """A CLIP with untrained weights; ``dense`` is explained at ``ModifiedResNet``."""
    visual = ModifiedResNet(
        image_size=config.image_size,
        width=config.vision_width,
        layers=config.vision_layers,
        heads=config.vision_width * 32 // CHANNELS_A_HEAD,
        dim=config.dim,
        dense=dense,
    )
    return CLIP(visual=visual, text=build_text_tower(config), dim=config.dim)


def build_text_tower(config: CLIPConfig | CLIPResNetConfig) -> TextTransformer:
    """The text tower of a CLIP, with untrained weights."""
    return TextTransformer(
        context_length=config.context_length,
        vocabulary=config.vocabulary,
        width=config.text_width,
        layers=config.text_layers,
        heads=config.text_width // CHANNELS_A_HEAD,
        dim=config.dim,
        activation=config.activation,
    )


VITB16 = CLIPConfig()
VITB32 = replace(VITB16, patch_size=32)
VITL14 = replace(
    VITB16, dim=768, patch_size=14, vision_width=1024, vision_layers=24, text_width=768
)
VITL14_336 = replace(VITL14, image_size=336)
RN50 = CLIPResNetConfig()
RN101 = replace(RN50, dim=512, vision_layers=(3, 4, 23, 3))


def clip_vitb16(*, dense: Dense = "final") -> CLIP:
    """CLIP ViT-B/16, untrained: 150 million parameters, images of 224 pixels."""
    return build_clip(VITB16, dense=dense)


def clip_vitb32(*, dense: Dense = "final") -> CLIP:
    """CLIP ViT-B/32, untrained: 151 million parameters, images of 224 pixels."""
    return build_clip(VITB32, dense=dense)


def clip_vitl14(*, dense: Dense = "final") -> CLIP:
    """CLIP ViT-L/14, untrained: 428 million parameters, images of 224 pixels."""
    return build_clip(VITL14, dense=dense)


def clip_vitl14_336(*, dense: Dense = "final") -> CLIP:
    """CLIP ViT-L/14@336px, untrained: 428 million parameters, images of 336 pixels."""
    return build_clip(VITL14_336, dense=dense)


def clip_rn50(*, dense: ResNetDense = "value") -> CLIP:
    """CLIP RN50, untrained: 102 million parameters, images of 224 pixels."""
    return build_clip_resnet(RN50, dense=dense)


def clip_rn101(*, dense: ResNetDense = "value") -> CLIP:
    """CLIP RN101, untrained: 120 million parameters, images of 224 pixels."""
    return build_clip_resnet(RN101, dense=dense)


def centre_crop(image: UInt8[np.ndarray, "H W 3"], size: int) -> UInt8[np.ndarray, "S S 3"]:
    """The square that CLIP sees of an image when it classifies it as a whole.

    The shorter side becomes ``size`` (Pillow's bicubic filter), the longer side rounds down, and
    the middle is cut out with an offset that rounds half to even, all as OpenAI does.
    """
    height, width = image.shape[:2]
    shorter, longer = min(height, width), max(height, width)
    other = int(size * longer / shorter)
    new_height, new_width = (size, other) if height <= width else (other, size)
    picture = PILImage.fromarray(image).resize((new_width, new_height), PILImage.Resampling.BICUBIC)
    top, left = round((new_height - size) / 2), round((new_width - size) / 2)
    return np.asarray(picture)[top : top + size, left : left + size]
