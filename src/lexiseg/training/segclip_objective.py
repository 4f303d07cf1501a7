"""What SegCLIP minimises on photographs with captions."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from lexiseg.encoders.tokenizer import tokenize
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
from lexiseg.training.captioned import CaptionedCrop
from lexiseg.training.gather import gather_rows
from lexiseg.training.run import Batch


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
