"""What the bundled models minimise, each a function of a batch of training samples."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.utils.data import Dataset

from lexiseg.data.mixture import TrainingSample
from lexiseg.data.semantic import IGNORE_INDEX
from lexiseg.encoders.lite import Lite
from lexiseg.methods.base import SegmentationModel, Texts
from lexiseg.training.losses import masked_bce
from lexiseg.training.run import Batch

BACKGROUND = "background"


class LiteObjective(nn.Module):
    """Losses of the encoder on one batch.

    * ``dense``: each labelled pixel is classified among its picture's own names. "background" is
      what nobody labelled, so it counts less, and rare names count more.
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
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.rows = {name: row for row, name in enumerate(names)}
        self.background_weight = background_weight
        self.likeness_weight = likeness_weight
        self.likeness_names = likeness_names
        self.teacher_weight = teacher_weight
        self.teacher_background_weight = teacher_background_weight
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
        images = torch.stack([s.image for s in batch]).contiguous(memory_format=torch.channels_last)
        patches = self.encoder.encode_images(images).patch_features
        with torch.autocast(patches.device.type, enabled=False):
            patches = F.normalize(patches.float(), dim=1)
            texts = F.normalize(self.encoder.text_projection(self.sentences), dim=-1)
            nothing = texts.sum() * 0
            losses = dict.fromkeys(("dense", "image", "teacher"), nothing)
            for sample, features in zip(batch, patches, strict=True):
                logits = self._logits(features, texts, sample.class_names)
                if sample.image_label is None:
                    losses["dense"] = losses["dense"] + self._dense(logits, sample)
                else:
                    whole = image_label_loss(logits, sample.image_label)
                    losses["image"] = losses["image"] + whole
                if sample.teacher_map is not None:
                    logits = self._logits(features, texts, sample.teacher_names)
                    losses["teacher"] = losses["teacher"] + self._teacher(logits, sample)
            losses = {name: total / len(batch) for name, total in losses.items()}
            losses["likeness"] = self.likeness_weight * self._likeness(batch)
        return losses

    def _logits(
        self, features: Float[Tensor, "D h w"], texts: Float[Tensor, "K D"], names: Sequence[str]
    ) -> Float[Tensor, "T h w"]:
        rows = [self.rows[name] for name in names]
        return self.encoder.logit_scale.exp() * torch.einsum("dhw,td->thw", features, texts[rows])

    def _dense(self, logits: Float[Tensor, "T h w"], sample: TrainingSample) -> Tensor:
        # One label out of 4 x 4 pixels is enough for patches of 8.
        labels = sample.label_map[2::4, 2::4]
        return weighted_cross_entropy(
            logits, labels, sample.class_names, self.background_weight, sample.ignore_index
        )

    def _teacher(self, logits: Float[Tensor, "T h w"], sample: TrainingSample) -> Tensor:
        assert sample.teacher_map is not None  # the caller has looked
        labels, weight = sample.teacher_map[2::4, 2::4], self.teacher_background_weight
        return self.teacher_weight * weighted_cross_entropy(
            logits, labels, sample.teacher_names, weight, sample.ignore_index
        )

    def _likeness(self, batch: Batch) -> Tensor:
        order = torch.randperm(len(self.teacher), generator=batch.generator())
        chosen = order[: self.likeness_names].to(self.teacher.device)
        ours = F.normalize(self.encoder.text_projection(self.teacher_sentences[chosen]), dim=-1)
        theirs = self.teacher[chosen]
        return F.mse_loss(ours @ ours.T, theirs @ theirs.T)


class HeadObjective(nn.Module):
    """Losses of a method's head over a frozen encoder, on one batch.

    ``dense`` is the weighted cross-entropy between names, ``each`` the binary cross-entropy of
    every name by itself, which makes scores comparable between label sets, ``image`` the loss of
    whole-image names.

    Args:
        model: what is trained; parameters of its encoder do not change.
        names: every name that can occur.
        background_weight: weight of a "background" pixel.
        image_weight: weight of the whole-image loss.
    """

    texts: Tensor

    def __init__(
        self,
        model: SegmentationModel,
        names: Sequence[str],
        *,
        background_weight: float = 0.5,
        image_weight: float = 0.3,
    ) -> None:
        super().__init__()
        self.model = model
        self.rows = {name: row for row, name in enumerate(names)}
        self.background_weight = background_weight
        self.image_weight = image_weight
        with torch.no_grad():
            texts = model.encode_texts([[name] for name in names])
        self.register_buffer("texts", texts.features, persistent=False)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Named losses of a batch."""
        losses: dict[str, list[Tensor]] = {"dense": [], "each": [], "image": []}
        for sample in batch:
            names = sample.class_names
            rows = [self.rows[name] for name in names]
            logits = self.model(sample.image[None], Texts(self.texts[rows])).float()
            if sample.image_label is not None:
                whole = image_label_loss(logits[0], sample.image_label)
                losses["image"].append(self.image_weight * whole)
                continue
            labels, ignored = sample.label_map[1::2, 1::2], sample.ignore_index
            logits = F.interpolate(logits, size=labels.shape, mode="bilinear")
            weight = self.background_weight
            dense = weighted_cross_entropy(logits[0], labels, names, weight, ignored)
            losses["dense"].append(dense)
            losses["each"].append(masked_bce(logits, labels[None], ignored))
        nothing = logits.sum() * 0
        return {name: sum(x, start=nothing) / len(batch) for name, x in losses.items()}


class FewNames(Dataset[TrainingSample]):
    """Samples scored against the names that they show and some that they do not.

    The cost of a sample is bounded, and a head cannot learn one list by heart.

    Args:
        samples: the samples; they change with their index alone, and so do these.
        at_most: names of a sample, unless it shows more.
        seed: of the choice of names.
    """

    def __init__(self, samples: Dataset[TrainingSample], *, at_most: int = 16, seed: int) -> None:
        self.samples = samples
        self.at_most = at_most
        self.seed = seed

    def __len__(self) -> int:
        return len(self.samples)  # type: ignore[arg-type]

    def __getitem__(self, index: int) -> TrainingSample:
        """Sample ``index``, the same at every call."""
        generator = np.random.default_rng((self.seed, index, 1))  # not the chance of its pixels
        return choose_names(self.samples[index], self.at_most, generator)


def choose_names(
    sample: TrainingSample, at_most: int, generator: np.random.Generator
) -> TrainingSample:
    """The sample against the names it shows and random others, ``at_most`` where it can be."""
    shown = torch.unique(sample.label_map)
    shown = shown[shown != sample.ignore_index]
    if sample.image_label is not None:
        shown = torch.tensor([sample.image_label])
    is_shown = torch.zeros(len(sample.class_names), dtype=torch.bool)
    is_shown[shown] = True
    absent = torch.nonzero(~is_shown)[:, 0]
    order = torch.from_numpy(generator.permutation(len(absent)))
    kept = torch.cat([shown, absent[order[: max(0, at_most - len(shown))]]])
    position = torch.full((sample.ignore_index + 1,), sample.ignore_index)
    position[kept] = torch.arange(len(kept))
    return replace(
        sample,
        label_map=position[sample.label_map],
        class_names=tuple(sample.class_names[i] for i in kept),
        image_label=None if sample.image_label is None else 0,
    )


def weighted_cross_entropy(
    logits: Float[Tensor, "T _ _"],
    labels: Int[Tensor, "h w"],
    names: Sequence[str],
    background_weight: float,
    ignore_index: int = IGNORE_INDEX,
) -> Tensor:
    """Cross-entropy over the labelled pixels; 0 where there are none.

    "background" is what nobody labelled, which may be anything, so it counts less.
    """
    if bool((labels == ignore_index).all()):
        return logits.sum() * 0
    weights = name_weights(labels[labels != ignore_index], len(names))
    if BACKGROUND in names:
        weights[list(names).index(BACKGROUND)] *= background_weight
    logits = F.interpolate(logits[None], size=labels.shape, mode="bilinear")
    return F.cross_entropy(logits, labels[None], weights, ignore_index=ignore_index)


def name_weights(labels: Int[Tensor, " N"], count: int) -> Float[Tensor, " T"]:
    """Weights that let a small region speak: one over the fourth root of its share."""
    pixels = torch.bincount(labels, minlength=count).float()
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
