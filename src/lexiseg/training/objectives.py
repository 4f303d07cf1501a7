"""How the bundled encoder learns: names of pixels, of whole images, and a teacher's likeness."""

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from lexiseg.data.mixture import TrainingSample
from lexiseg.data.semantic import IGNORE_INDEX
from lexiseg.encoders.lite import Lite

BACKGROUND = "background"


class LiteObjective(nn.Module):
    """Losses of the encoder on one batch.

    * ``dense``: each labelled pixel is classified among its picture's own names. "background" is
      what nobody labelled, so it counts less, and rare names count more.
    * ``image``: the picture's one name is found by its best-matching patches.
    * ``likeness``: names are as alike as a teacher finds them (relational distillation, Park et
      al., CVPR 2019).

    Args:
        encoder: what is trained.
        names: every name that can occur.
        teacher: names and their vectors in the teacher's space, the mean name subtracted.
        background_weight: weight of a "background" pixel.
        likeness_weight: weight of the likeness loss.
        likeness_names: names compared in a step.
    """

    def __init__(
        self,
        encoder: Lite,
        names: Sequence[str],
        teacher: tuple[Sequence[str], Float[Tensor, "K C"]],
        *,
        background_weight: float = 0.5,
        likeness_weight: float = 10.0,
        likeness_names: int = 384,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.rows = {name: row for row, name in enumerate(names)}
        self.background_weight = background_weight
        self.likeness_weight = likeness_weight
        self.likeness_names = likeness_names
        with torch.no_grad():
            self.sentences = encode_in_chunks(encoder, names)
            self.teacher_sentences = encode_in_chunks(encoder, teacher[0])
        self.teacher = F.normalize(teacher[1], dim=-1)

    def forward(self, batch: Sequence[TrainingSample]) -> dict[str, Tensor]:
        """Named losses of a batch."""
        images = torch.stack([s.image for s in batch]).contiguous(memory_format=torch.channels_last)
        patches = self.encoder.encode_images(images).patch_features
        with torch.autocast(patches.device.type, enabled=False):
            patches = F.normalize(patches.float(), dim=1)
            texts = F.normalize(self.encoder.text_projection(self.sentences), dim=-1)
            dense, whole = [], []
            for sample, features in zip(batch, patches, strict=True):
                rows = [self.rows[name] for name in sample.class_names]
                logits = self.encoder.logit_scale.exp() * torch.einsum(
                    "dhw,td->thw", features, texts[rows]
                )
                if sample.image_label is None:
                    dense.append(self._dense(logits, sample))
                else:
                    whole.append(image_label_loss(logits, sample.image_label))
            losses = {"likeness": self.likeness_weight * self._likeness()}
            count = len(batch)
            losses["dense"] = torch.stack(dense).sum() / count if dense else texts.sum() * 0
            losses["image"] = torch.stack(whole).sum() / count if whole else texts.sum() * 0
        return losses

    def _dense(self, logits: Float[Tensor, "T h w"], sample: TrainingSample) -> Tensor:
        # Labels at every second pixel of every second row: stride 4 is enough for stride 8.
        labels = sample.label_map[2::4, 2::4]
        logits = F.interpolate(logits[None], size=labels.shape, mode="bilinear")
        weights = name_weights(labels, len(sample.class_names))
        if BACKGROUND in sample.class_names:
            weights[sample.class_names.index(BACKGROUND)] *= self.background_weight
        loss = F.cross_entropy(logits, labels[None], weights, ignore_index=IGNORE_INDEX)
        return torch.nan_to_num(loss) if bool((labels == IGNORE_INDEX).all()) else loss

    def _likeness(self) -> Tensor:
        chosen = torch.randperm(len(self.teacher))[: self.likeness_names]
        ours = F.normalize(self.encoder.text_projection(self.teacher_sentences[chosen]), dim=-1)
        theirs = self.teacher[chosen]
        return F.mse_loss(ours @ ours.T, theirs @ theirs.T)


def name_weights(labels: Int[Tensor, "h w"], count: int) -> Float[Tensor, " T"]:
    """Weights that let a small region speak: one over the fourth root of its share."""
    pixels = torch.bincount(labels[labels != IGNORE_INDEX], minlength=count).float()
    share = pixels / pixels.sum().clamp(min=1)
    return share.clamp(min=1e-3).pow(-0.25)


def image_label_loss(logits: Float[Tensor, "T h w"], image_label: int) -> Tensor:
    """Cross-entropy of the whole picture: each name by a soft maximum over the patches."""
    pooled = logits.flatten(1).logsumexp(dim=1) - torch.tensor(float(logits[0].numel())).log()
    return F.cross_entropy(pooled[None], torch.tensor([image_label], device=logits.device))


def encode_in_chunks(encoder: Lite, names: Sequence[str], size: int = 256) -> Tensor:
    """The frozen sentence encoder's vectors of many names."""
    return torch.cat([encoder.text(chunk).pooled for chunk in _chunks(names, size)])


def _chunks(names: Sequence[str], size: int) -> Iterator[list[str]]:
    for start in range(0, len(names), size):
        yield list(names[start : start + size])
