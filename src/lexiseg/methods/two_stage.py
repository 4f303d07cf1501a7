"""Two stages, the older way to segment by text: regions first, then each region's crop by itself.

image ─ superpixels ─ a crop of each ─ image tower, pooled ─┬─ cosine x logit scale ─ logits
texts ─ text tower ─────────────────────────────────────────┘

SimSeg (Xu et al., ECCV 2022) and OVSeg (Liang et al., CVPR 2023) propose regions by a network that
was trained on masks; here they are Felzenszwalb and Huttenlocher's (IJCV 2004), so that nothing is
trained. It is a baseline: the image tower runs once for each region, which is what the one-stage
methods avoid.
"""

from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from lexiseg.encoders.base import Encoder, encode_labels
from lexiseg.encoders.lite import LITE_PREPROCESS, Lite
from lexiseg.encoders.lite_checkpoints import LITE_WEIGHTS, complete
from lexiseg.layers.cost import cosine_cost
from lexiseg.methods.base import Activation, Protocol, SegmentationModel, Texts
from lexiseg.registry import register_model
from lexiseg.superpixels import superpixels
from lexiseg.weights import metadata_of


class TwoStage(SegmentationModel):
    """Regions without names, each classified by a crop of the image.

    Args:
        encoder: image and text tower in one space; a module.
        protocols: ways to prepare an image for it.
        templates: sentences into which a label is put.
        regions_at_most: bound of the regions of an image, and so of its cost.
        crop: side of a region's square crop, in pixels.
        margin: part of a region's sides that its crop shows around it.
        crops_at_once: bound of the memory.
    """

    activation: ClassVar[Activation] = "softmax"
    exclusive: ClassVar[bool] = True

    def __init__(
        self,
        encoder: Encoder,
        *,
        protocols: Mapping[str, Protocol],
        templates: Sequence[str] = ("a photo of a {}.",),
        regions_at_most: int = 40,
        crop: int = 128,
        margin: float = 0.2,
        crops_at_once: int = 16,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.protocols = protocols
        self.templates = tuple(templates)
        self.regions_at_most = regions_at_most
        self.crop = crop
        self.margin = margin
        self.crops_at_once = crops_at_once

    def encode_texts(self, prompts: Sequence[Sequence[str]]) -> Texts:
        """The mean direction of each label's prompts."""
        return Texts(encode_labels(self.encoder, prompts))

    def forward(self, images: Float[Tensor, "B 3 H W"], texts: Texts) -> Float[Tensor, "B T H W"]:
        """Logits of each pixel: those of its region's crop."""
        return torch.stack([self._segment(image, texts) for image in images])

    def from_published(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Our names for an encoder's file; our own stay."""
        if not any(key.startswith("encoder.") for key in state):
            state = {f"encoder.{key}": value for key, value in state.items()}
        return complete(state, self.encoder, metadata_of(state))

    def _segment(self, image: Float[Tensor, "3 H W"], texts: Texts) -> Float[Tensor, "T H W"]:
        regions = self.propose(image)
        count = int(regions.max()) + 1
        crops = torch.stack([self._crop(image, regions == index) for index in range(count)])
        pooled = torch.cat(
            [self.encoder.encode_images(part).pooled for part in crops.split(self.crops_at_once)]
        )
        cosines = cosine_cost(pooled[:, :, None, None], texts.features)[..., 0, 0]
        return (self.encoder.logit_scale.exp() * cosines.T)[:, regions]

    def propose(self, image: Float[Tensor, "3 H W"]) -> Int[Tensor, "H W"]:
        """A region for each pixel, counted from 0; as coarse as their bound demands."""
        preprocess = self.preprocess
        mean = torch.tensor(preprocess.mean, device=image.device)[:, None, None]
        std = torch.tensor(preprocess.std, device=image.device)[:, None, None]
        pixels = (image.detach().float() * std + mean).clamp(0, 255).round().byte()
        photograph = np.ascontiguousarray(pixels.permute(1, 2, 0).cpu().numpy())
        scale, least = 200.0, max(1, pixels[0].numel() // (8 * self.regions_at_most))
        while True:
            ids = superpixels(photograph, scale=scale, min_size=least)
            found, regions = np.unique(ids, return_inverse=True)
            if len(found) <= self.regions_at_most:
                return torch.from_numpy(regions.reshape(ids.shape)).to(image.device)
            scale, least = 1.5 * scale, 2 * least

    def _crop(
        self, image: Float[Tensor, "3 H W"], region: Bool[Tensor, "H W"]
    ) -> Float[Tensor, "3 h w"]:
        """What is around a region, the rest of it in the mean colour."""
        rows, columns = region.nonzero().unbind(dim=1)
        top, bottom = _widened(rows, region.shape[0], self.margin)
        left, right = _widened(columns, region.shape[1], self.margin)
        alone = (image * region)[None, :, top:bottom, left:right]
        return F.interpolate(alone, size=(self.crop, self.crop), mode="bilinear")[0]


def _widened(positions: Int[Tensor, " N"], length: int, margin: float) -> tuple[int, int]:
    """Where a crop begins and ends along one side."""
    first, last = int(positions.min()), int(positions.max()) + 1
    more = round(margin * (last - first))
    return max(0, first - more), min(length, last + more)


@register_model
def two_stage_lite() -> TwoStage:
    """Two stages on the bundled encoder."""
    return TwoStage(Lite(), protocols={"default": Protocol(LITE_PREPROCESS)}, templates=("{}",))


WEIGHTS = {"two_stage_lite.scenes": LITE_WEIGHTS}
