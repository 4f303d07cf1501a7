"""What a model minimises that is asked for every text of one data set at once."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lexiseg.data.mixture import TrainingSample
from lexiseg.methods.base import SegmentationModel, Texts
from lexiseg.training.losses import masked_bce, published_bce

LOSSES = {"masked": masked_bce, "published": published_bce}


class DenseObjective(nn.Module):
    """Each text by itself at each pixel, against all texts of the data set.

    Where something of the model's ``encoder`` is trained, the texts are encoded at every step, with
    gradients (published for CAT-Seg); else once.

    Args:
        model: what is trained, by its parameters' ``requires_grad``.
        prompts: the sentences of each text.
        loss: one of ``LOSSES``.
    """

    text_features: Tensor | None

    def __init__(
        self, model: SegmentationModel, prompts: Sequence[Sequence[str]], *, loss: str = "published"
    ) -> None:
        super().__init__()
        self.model = model
        self.prompts = prompts
        self.loss = LOSSES[loss]
        self.frozen_encoder = not any(
            parameter.requires_grad
            for name, parameter in model.named_parameters()
            if name.startswith("encoder.")
        )
        features = None
        if self.frozen_encoder:
            with torch.no_grad():
                features = model.encode_texts(prompts).features
        self.register_buffer("text_features", features, persistent=False)

    def train(self, mode: bool = True) -> "DenseObjective":
        """As for any module, but a frozen encoder stays as it is in use."""
        super().train(mode)
        if self.frozen_encoder:
            self.model.get_submodule("encoder").eval()
        return self

    def forward(self, batch: Sequence[TrainingSample]) -> dict[str, Tensor]:
        """The mean over the samples, each of which counts alike however much of it is labelled."""
        images = torch.stack([sample.image for sample in batch])
        features = self.text_features
        texts = self.model.encode_texts(self.prompts) if features is None else Texts(features)
        logits = self.model(images, texts).float()
        losses = [
            self.loss(each[None], sample.label_map[None], sample.ignore_index)
            for each, sample in zip(logits, batch, strict=True)
        ]
        return {"bce": torch.stack(losses).mean()}
