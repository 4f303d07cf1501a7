"""What a model minimises that is asked for sentences, each of one photograph."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lexiseg.data.referring.training import ExpressionSample
from lexiseg.methods.cris import CRIS, text_to_pixel_loss
from lexiseg.methods.cris.projector import mask_targets
from lexiseg.training.losses import dice_loss


class ExpressionObjective(nn.Module):
    """Text-to-pixel contrast of every sentence with its own photograph.

    Args:
        model: what is trained, by its parameters' ``requires_grad``.
        overlap: weight of one minus the overlap of scores and masks; ours, published is 0. Cross-
            entropy counts pixels, so that it hardly hears of a small object; this counts objects.
    """

    def __init__(self, model: CRIS, *, overlap: float = 0.0) -> None:
        super().__init__()
        self.model = model
        self.overlap = overlap

    def forward(self, batch: Sequence[ExpressionSample]) -> dict[str, Tensor]:
        """The means over the sentences; each photograph has as many as the others."""
        images = torch.stack([sample.image for sample in batch])
        masks = torch.cat([sample.masks for sample in batch])[:, None]
        texts = self.model.encode_texts([[s] for sample in batch for s in sample.expressions])
        maps = self.model.look(images).repeated(len(batch[0].expressions))
        logits = self.model.pairs(maps, texts.states, texts.words, texts.is_word).float()
        losses = {"contrast": text_to_pixel_loss(logits, masks)}
        if self.overlap:
            small = mask_targets(masks, (logits.shape[2], logits.shape[3]))
            losses["overlap"] = self.overlap * dice_loss(logits.sigmoid()[:, 0], small[:, 0])
        return losses
