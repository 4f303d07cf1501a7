"""What the bundled models minimise, each a function of a batch of training samples."""

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from lexiseg.data.mixture import TrainingSample
from lexiseg.data.semantic import IGNORE_INDEX
from lexiseg.encoders.lite import Lite
from lexiseg.methods.base import SegmentationModel, Texts
from lexiseg.training.losses import masked_bce

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
        # One label out of 4 x 4 pixels is enough for patches of 8.
        labels = sample.label_map[2::4, 2::4]
        return weighted_cross_entropy(logits, labels, sample.class_names, self.background_weight)

    def _likeness(self) -> Tensor:
        chosen = torch.randperm(len(self.teacher))[: self.likeness_names]
        ours = F.normalize(self.encoder.text_projection(self.teacher_sentences[chosen]), dim=-1)
        theirs = self.teacher[chosen]
        return F.mse_loss(ours @ ours.T, theirs @ theirs.T)


class HeadObjective(nn.Module):
    """Losses of a method's head over a frozen encoder, on one batch.

    Each picture is scored against the names that it shows and some that it does not, so that the
    cost of a step is bounded and the head cannot learn one list by heart. ``dense`` is the weighted
    cross-entropy between names, ``each`` the binary cross-entropy of every name by itself, which
    makes scores comparable between label sets, ``image`` the loss of whole-image names.

    Args:
        model: what is trained; parameters of its encoder do not change.
        names: every name that can occur.
        texts_at_most: names a picture is scored against, unless it shows more.
        background_weight: weight of a "background" pixel.
        image_weight: weight of the whole-image loss.
    """

    def __init__(
        self,
        model: SegmentationModel,
        names: Sequence[str],
        *,
        texts_at_most: int = 16,
        background_weight: float = 0.5,
        image_weight: float = 0.3,
    ) -> None:
        super().__init__()
        self.model = model
        self.rows = {name: row for row, name in enumerate(names)}
        self.texts_at_most = texts_at_most
        self.background_weight = background_weight
        self.image_weight = image_weight
        with torch.no_grad():
            self.texts = model.encode_texts([[name] for name in names])

    def forward(self, batch: Sequence[TrainingSample]) -> dict[str, Tensor]:
        """Named losses of a batch."""
        dense, each, whole = [], [], []
        for sample in batch:
            labels, names, image_label = choose_names(sample, self.texts_at_most)
            rows = [self.rows[name] for name in names]
            logits = self.model(sample.image[None], Texts(self.texts.features[rows])).float()
            if image_label is not None:
                whole.append(image_label_loss(logits[0], image_label))
                continue
            labels = labels[1::2, 1::2]
            logits = F.interpolate(logits, size=labels.shape, mode="bilinear")
            weight = self.background_weight
            dense.append(weighted_cross_entropy(logits[0], labels, names, weight))
            each.append(masked_bce(logits, labels[None]))
        losses = {"dense": dense, "each": each, "image": [self.image_weight * x for x in whole]}
        return {name: torch.stack(x).sum() / len(batch) for name, x in losses.items() if x}


def choose_names(
    sample: TrainingSample, at_most: int
) -> tuple[Int[Tensor, "H W"], list[str], int | None]:
    """The names a picture shows and random others, and its labels as positions among them."""
    shown = torch.unique(sample.label_map)
    shown = shown[shown != IGNORE_INDEX]
    if sample.image_label is not None:
        shown = torch.tensor([sample.image_label])
    is_shown = torch.zeros(len(sample.class_names), dtype=torch.bool)
    is_shown[shown] = True
    absent = torch.nonzero(~is_shown)[:, 0]
    absent = absent[torch.randperm(len(absent))][: max(0, at_most - len(shown))]
    kept = torch.cat([shown, absent])
    position = torch.full((256,), IGNORE_INDEX)
    position[kept] = torch.arange(len(kept))
    image_label = None if sample.image_label is None else 0
    return position[sample.label_map], [sample.class_names[i] for i in kept], image_label


def weighted_cross_entropy(
    logits: Float[Tensor, "T _ _"],
    labels: Int[Tensor, "h w"],
    names: Sequence[str],
    background_weight: float,
) -> Tensor:
    """Cross-entropy over the labelled pixels; 0 where there are none.

    "background" is what nobody labelled, which may be anything, so it counts less.
    """
    if bool((labels == IGNORE_INDEX).all()):
        return logits.sum() * 0
    weights = name_weights(labels, len(names))
    if BACKGROUND in names:
        weights[list(names).index(BACKGROUND)] *= background_weight
    logits = F.interpolate(logits[None], size=labels.shape, mode="bilinear")
    return F.cross_entropy(logits, labels[None], weights, ignore_index=IGNORE_INDEX)


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
