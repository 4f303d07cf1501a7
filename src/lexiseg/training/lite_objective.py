"""What the bundled encoder minimises on a batch of training samples."""

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from lexiseg.data.mixture import Taught, TrainingSample
from lexiseg.encoders.lite import Lite
from lexiseg.training.losses import image_label_loss, overlap_loss, weighted_cross_entropy
from lexiseg.training.run import Batch


class LiteObjective(nn.Module):
    """Losses of the encoder on one batch.

    * ``dense``: each labelled pixel is classified among its picture's own names. "background" is
      what nobody labelled, so it counts less, and rare names count more.
    * ``overlap``: the same pixels as regions; see :func:`lexiseg.training.losses.overlap_loss`.
    * ``image``: the picture's one name is found by its best-matching patches.
    * ``teacher``: each pixel of which a teacher is sure is classified among the names it knows.
    * ``likeness``: names are as alike as a teacher finds them (relational distillation, Park et
      al., CVPR 2019), on some of the teacher's names, which the step chooses.

    Args:
        encoder: what is trained.
        names: every name that can occur.
        teacher: names and their vectors in the teacher's space, the mean name subtracted.
        background_weight: weight of a "background" pixel.
        likeness_weight: weight of the likeness loss.
        likeness_names: names compared in a step.
        teacher_weight: weight of the teacher's loss.
        teacher_background_weight: weight of a pixel that the teacher calls "background".
        overlap_weight: weight of the overlap loss; 0 leaves it out.
    """

    sentences: Tensor
    teacher_sentences: Tensor
    teacher: Tensor

    def __init__(
        self,
        encoder: Lite,
        names: Sequence[str],
        teacher: tuple[Sequence[str], Float[Tensor, "K C"]],
        *,
        background_weight: float = 0.5,
        likeness_weight: float = 10.0,
        likeness_names: int = 384,
        teacher_weight: float = 0.5,
        teacher_background_weight: float = 0.4,
        overlap_weight: float = 0.0,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.rows = {name: row for row, name in enumerate(names)}
        self.background_weight = background_weight
        self.likeness_weight = likeness_weight
        self.likeness_names = likeness_names
        self.teacher_weight = teacher_weight
        self.teacher_background_weight = teacher_background_weight
        self.overlap_weight = overlap_weight
        with torch.no_grad():
            fixed = {
                "sentences": encode_in_chunks(encoder, names),
                "teacher_sentences": encode_in_chunks(encoder, teacher[0]),
                "teacher": F.normalize(teacher[1], dim=-1),
            }
        for name, rows in fixed.items():
            self.register_buffer(name, rows, persistent=False)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Named losses of a batch."""
        patches = patches_of(self.encoder, [sample.image for sample in batch])
        with torch.autocast(self.sentences.device.type, enabled=False):
            patches = [F.normalize(features.float(), dim=0) for features in patches]
            texts = F.normalize(self.encoder.text_projection(self.sentences), dim=-1)
            nothing = texts.sum() * 0
            losses = dict.fromkeys(("dense", "overlap", "image", "teacher"), nothing)
            for sample, features in zip(batch, patches, strict=True):
                logits = self._logits(features, texts, sample.class_names)
                if sample.image_label is None:
                    dense, overlap = self._dense(logits, sample)
                    losses["dense"] = losses["dense"] + dense
                    losses["overlap"] = losses["overlap"] + overlap
                else:
                    whole = image_label_loss(logits, sample.image_label)
                    losses["image"] = losses["image"] + whole
                for taught in sample.taught:
                    logits = self._logits(features, texts, taught.class_names)
                    seen = self._teacher(logits, taught, sample.ignore_index)
                    losses["teacher"] = losses["teacher"] + seen
            losses = {name: total / len(batch) for name, total in losses.items()}
            losses["likeness"] = self.likeness_weight * self._likeness(batch)
        return losses

    def _logits(
        self, features: Float[Tensor, "D h w"], texts: Float[Tensor, "K D"], names: Sequence[str]
    ) -> Float[Tensor, "T h w"]:
        rows = [self.rows[name] for name in names]
        return self.encoder.logit_scale.exp() * torch.einsum("dhw,td->thw", features, texts[rows])

    def _dense(
        self, logits: Float[Tensor, "T h w"], sample: TrainingSample
    ) -> tuple[Tensor, Tensor]:
        # One label out of 4 x 4 pixels is enough for patches of 8.
        labels = sample.label_map[2::4, 2::4]
        names, ignored = sample.class_names, sample.ignore_index
        dense = weighted_cross_entropy(logits, labels, names, self.background_weight, ignored)
        if not self.overlap_weight:
            return dense, torch.zeros_like(dense)
        return dense, self.overlap_weight * overlap_loss(logits, labels, names, ignored)

    def _teacher(self, logits: Float[Tensor, "T h w"], taught: Taught, ignore_index: int) -> Tensor:
        labels, weight = taught.label_map[2::4, 2::4], self.teacher_background_weight
        return self.teacher_weight * weighted_cross_entropy(
            logits, labels, taught.class_names, weight, ignore_index
        )

    def _likeness(self, batch: Batch) -> Tensor:
        order = torch.randperm(len(self.teacher), generator=batch.generator())
        chosen = order[: self.likeness_names].to(self.teacher.device)
        ours = F.normalize(self.encoder.text_projection(self.teacher_sentences[chosen]), dim=-1)
        theirs = self.teacher[chosen]
        return F.mse_loss(ours @ ours.T, theirs @ theirs.T)


def patches_of(
    encoder: Lite, images: Sequence[Float[Tensor, "3 _ _"]]
) -> list[Float[Tensor, "D _ _"]]:
    """Patch features of pictures, in one go where they have one size, else one by one."""
    if len({image.shape for image in images}) == 1:
        stacked = torch.stack(list(images)).contiguous(memory_format=torch.channels_last)
        return list(encoder.encode_images(stacked).patch_features)
    return [encoder.encode_images(image[None]).patch_features[0] for image in images]


def encode_in_chunks(encoder: Lite, names: Sequence[str], size: int = 256) -> Tensor:
    """The frozen sentence encoder's vectors of many names."""
    return torch.cat([encoder.text(chunk).pooled for chunk in _chunks(names, size)])


def _chunks(names: Sequence[str], size: int) -> Iterator[list[str]]:
    for start in range(0, len(names), size):
        yield list(names[start : start + size])
