"""An encoder that sees less, for the training of what comes after it."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lexiseg.encoders.base import ImageFeatures, TextFeatures
from lexiseg.encoders.lite import Lite


class Weakened(nn.Module):
    """A frozen encoder of whose channels some are zero in training, others for each image.

    An encoder knows the photographs that it was trained on by heart: a head trained on the same
    ones learns that the cost is always right. With channels missing the cost errs as it does on new
    photographs (dropout of whole maps: Tompson et al., CVPR 2015).

    Args:
        encoder: stays as it is, in evaluation mode.
        most: the largest share of the channels that is zero; each image draws its own, from 0.
    """

    def __init__(self, encoder: Lite, *, most: float) -> None:
        super().__init__()
        self.encoder = encoder
        self.most = most
        self.dim = encoder.dim
        self.logit_scale = encoder.logit_scale

    def train(self, mode: bool = True) -> "Weakened":
        """Training of the head leaves the encoder in evaluation mode."""
        super().train(mode)
        self.encoder.eval()
        return self

    def encode_images(
        self, images: Float[Tensor, "B 3 H W"], *, intermediates: Sequence[int] = ()
    ) -> ImageFeatures:
        """Features of normalised images; in training without some of their channels."""
        features = self.encoder.encode_images(images, intermediates=intermediates)
        if not self.training:
            return features
        return replace(
            features,
            patch_features=self._without_some(features.patch_features),
            intermediates=tuple(self._without_some(maps) for maps in features.intermediates),
        )

    def encode_prompts(self, prompts: Sequence[str]) -> TextFeatures:
        """Features of sentences, whole."""
        return self.encoder.encode_prompts(prompts)

    def _without_some(self, maps: Float[Tensor, "B D h w"]) -> Float[Tensor, "B D h w"]:
        images, width = maps.shape[:2]
        kept = 1 - self.most * torch.rand(images, 1, 1, 1, device=maps.device)
        drawn = torch.rand(images, width, 1, 1, device=maps.device) < kept
        return maps * drawn / kept
